import numpy as np
import pytest

from analytics.cycles import Cycle, CycleAssembler
from nodesets.model import Phase, Quality

SECOND = 1_000_000_000
B, E, P, IDLE, LOST = Phase.BASELINE, Phase.EXPOSURE, Phase.PURGE, Phase.IDLE, Phase.UNKNOWN
ONE = [B] * 5 + [E] * 10 + [P] * 5


def feed(assembler: CycleAssembler, phases, counters=None, start=0, skip=()) -> list[Cycle]:
    """Rows a second apart; row i holds the value i."""
    found = []
    for i, phase in enumerate(phases):
        if i in skip:
            continue
        counter = 1 if counters is None else counters[i]
        status = np.array([Quality.BAD_NO_COMMUNICATION if phase is LOST else Quality.GOOD], np.uint32)
        cycle = assembler.add((start + i) * SECOND, np.array([float(i)]), status, phase, counter)
        if cycle:
            found.append(cycle)
    return found


def assembler() -> CycleAssembler:
    return CycleAssembler(period=1.0, baseline=5.0, exposure=10.0)


def test_a_cycle_is_given_out_when_its_exposure_ends():
    # Process rule 1: one cycle, one result, dated by the end of exposure.
    a = assembler()
    assert feed(a, ONE[:15]) == []
    (cycle,) = feed(a, [P], start=15)
    assert cycle.defect == ""
    assert (cycle.started, cycle.stopped) == (0, 14 * SECOND)
    assert list(cycle.phases) == [B] * 5 + [E] * 10
    assert list(cycle.values[:, 0]) == list(range(15))


@pytest.mark.parametrize("gap", [[], [IDLE], [P]])
def test_cycles_follow_each_other_with_or_without_a_purge(gap):
    phases = [*ONE[:15], *gap] * 3 + [B]
    counters = [i // (15 + len(gap)) + 1 for i in range(len(phases))]
    found = feed(assembler(), phases, counters)
    assert [c.counter for c in found] == [1, 2, 3]
    assert {c.defect for c in found} == {""}


@pytest.mark.parametrize(
    ("phases", "counters", "skip", "defect"),
    [
        ([E] * 10 + [P], None, (), "baseline lasted 0 s of 5 s"),  # the server was started in the middle
        ([B] * 5 + [E] * 4 + [IDLE], None, (), "exposure lasted 4 s of 10 s"),  # stopped by hand
        ([*ONE], [1] * 5 + [2] * 15, (), "cycle counter jumped: 1, 2"),  # restarted unseen
        ([*ONE], None, (7, 8), "3 s without a sample"),  # frames lost on our side
    ],
)
def test_an_incomplete_cycle_says_why(phases, counters, skip, defect):
    (cycle,) = feed(assembler(), phases, counters, skip=skip)
    assert cycle.defect == defect


def test_one_missing_row_is_no_defect():
    (cycle,) = feed(assembler(), ONE, skip=(7,))
    assert cycle.defect == ""


@pytest.mark.parametrize(("lost", "defect"), [(1, ""), (2, "3 s without a sample")])
def test_a_failed_poll_leaves_a_gap_of_which_one_row_is_forgiven(lost, defect):
    # The link was lost, the device was not: it is still the same cycle.
    phases = [*[B] * 5, *[E] * 4, *[LOST] * lost, *[E] * (6 - lost), P]
    (cycle,) = feed(assembler(), phases)
    assert cycle.defect == defect


def test_a_baseline_that_is_broken_off_is_no_cycle():
    # No sample was let in, so there is nothing to judge.
    assert feed(assembler(), [B] * 5 + [IDLE] * 3) == []


def test_a_device_that_waits_in_baseline_or_hangs_in_exposure_takes_no_memory():
    a = assembler()
    (cycle,) = feed(a, [B] * 1000 + [E] * 1000 + [P])
    assert len(cycle.times) < 50
    assert cycle.defect == "exposure did not end within 22 rows"


def test_a_row_seen_twice_counts_once():
    a = assembler()
    for i, phase in enumerate(ONE[:15]):
        for _ in range(2):
            a.add(i * SECOND, np.array([1.0]), np.zeros(1, np.uint32), phase, 1)
    cycle = a.add(15 * SECOND, np.array([1.0]), np.zeros(1, np.uint32), P, 1)
    assert cycle is not None
    assert len(cycle.times) == 15


def test_a_clock_that_was_set_back_costs_one_cycle_not_all():
    # F15: rows are dated before the last one; waiting until the old time comes round would blind the stream.
    a = assembler()
    feed(a, ONE[:10], start=3600)
    found = feed(a, [P, *ONE, *ONE], counters=[1] + [2] * 20 + [3] * 20)
    assert [(c.counter, c.defect) for c in found] == [
        (1, "exposure lasted 5 s of 10 s"), (2, ""), (3, ""),
    ]  # fmt: skip


def test_a_clock_that_is_set_back_within_a_cycle_makes_it_incomplete():
    a = assembler()
    feed(a, ONE[:10], start=3600)
    (cycle,) = feed(a, ONE[10:])
    assert cycle.defect == "device time went back"
