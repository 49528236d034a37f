from dataclasses import replace

import pytest

from agents import instrument
from agents.case import Case, ChannelRecord, gather
from nodesets.model import Vote
from tests.unit.agents.cases import FAULTS, GOOD


def ask(case: Case) -> Vote:
    return instrument.consider(case, gather(case))


def channel(readings: int, bad: int, uncertain: int) -> Case:
    return replace(GOOD, channels=(ChannelRecord(channel="S01", readings=readings, bad=bad, uncertain=uncertain),))


def test_a_link_lost_within_the_batch_is_rejected_and_measured() -> None:
    # Fault F10: not releasable over the gap.
    vote = ask(FAULTS["a gap in communication"](GOOD))
    assert (vote.answer, vote.confidence) == ("reject", 1.0)
    assert vote.reason == "3.0 s without communication during the batch"


@pytest.mark.parametrize(
    ("case", "answer"),
    [
        (channel(1000, 0, 0), "approve"),
        (channel(1000, 10, 0), "approve"),
        (channel(1000, 11, 0), "reject"),
        (channel(1000, 0, 50), "approve"),
        (channel(1000, 0, 51), "abstain"),
        (channel(1000, 10, 41), "abstain"),
        (channel(0, 0, 0), "reject"),
    ],
)
def test_the_bounds_of_bad_and_uncertain_readings(case: Case, answer: str) -> None:
    assert ask(case).answer == answer


def test_it_knows_nothing_of_scores() -> None:
    # Two views, not one twice: only then a consensus says more than a single agent.
    assert ask(FAULTS["a failed result"](GOOD)).answer == "approve"


def test_an_approval_is_as_sure_as_the_worst_channel() -> None:
    assert ask(channel(1000, 0, 30)).confidence == pytest.approx(0.97)
