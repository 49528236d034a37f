"""Corrected history against a plain dictionary of what people did to what was recorded."""

import asyncio
import itertools
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compliance import verify
from compliance.corrections import Corrections
from historian.aggregates import AGGREGATES, Samples, at_times, intervals
from historian.query import Reader
from historian.schema import reading
from nodesets.model import AggregateRules, Caller, Role, UpdateType
from nodesets.ports import Change
from tests.unit.historian.support import NOW, SteppedClock, database, row, url, writing

TAG = "EN02.S01"
ANNA = Caller(user="anna", roles=frozenset({Role.QA}))
GOOD, INSERTED, REPLACED = 0, 0x00A20000, 0x00A30000
EXISTS, MISSING, NO_DATA = 0x809F0000, 0x80A00000, 0x809B0000
EXTRA_DATA = 0x0408

TIMES = st.integers(0, 12)
RECORDED = st.lists(st.tuples(TIMES, st.integers(1, 9)), max_size=15)
ACTS = st.lists(
    st.tuples(st.sampled_from(["insert", "replace", "update", "delete", "range"]), TIMES, st.integers(10, 99)),
    max_size=12,
)
READS = st.lists(st.tuples(st.none() | TIMES, st.none() | TIMES, st.integers(1, 5)), min_size=1, max_size=6)
Model = dict[int, list[float]]
_numbers = itertools.count()


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("empty") / "enose.db"
    with database(path):
        pass
    return path


async def act(history: Corrections, kind: str, time: int, value: int) -> int:
    if kind == "delete":
        return (await history.delete_at(TAG, [time], ANNA, "why"))[0].status
    if kind == "range":
        return (await history.delete(TAG, time, time + 3, ANNA, "why"))[0]
    change = Change(time, time, float(value), 0)
    return (await history.update(TAG, [change], UpdateType[kind.upper()], ANNA, "why"))[0].status


def expected_act(
    model: Model, touched: set[int], superseded: list[tuple[int, float]], act: tuple[str, int, int]
) -> int:
    """What the act answers; the model is as it is afterwards."""
    kind, time, value = act
    old = model.get(time, [])
    if kind == "range":
        gone = [t for t in model if time <= t < time + 3]
        superseded += [(t, v) for t in gone for v in model[t]]
        touched.update(gone)
        return sum(len(model.pop(t)) for t in gone)
    if kind == "delete":
        if old:
            superseded += [(time, v) for v in model.pop(time)]
            touched.add(time)
        return GOOD if old else NO_DATA
    if kind == "insert" and old:
        return EXISTS
    if kind == "replace" and not old:
        return MISSING
    superseded += [(time, v) for v in old] or [(time, float(value))]
    model[time] = [float(value)]
    touched.add(time)
    return GOOD if kind != "update" else REPLACED if old else INSERTED


def expected_read(model: Model, start: int | None, end: int | None) -> list[tuple[int, float]]:
    in_order = [(t, v) for t in sorted(model) for v in model[t]]
    match start, end:
        case None, None:
            return in_order[::-1]
        case None, last:
            return [p for p in in_order[::-1] if p[0] <= last]
        case first, None:
            return [p for p in in_order if p[0] >= first]
        case first, last if first == last:
            return [p for p in in_order if p[0] == first]
        case first, last if first < last:
            return [p for p in in_order if first <= p[0] < last]
        case first, last:
            return [p for p in in_order[::-1] if last < p[0] <= first]
    raise AssertionError


async def pages(history: Corrections, start: int | None, end: int | None, limit: int) -> list[tuple[int, float, int]]:
    found: list[tuple[int, float, int]] = []
    after = None
    while True:
        page = await history.read_raw(TAG, start, end, limit, after)
        assert len(page.times) <= limit
        found += zip(page.times.tolist(), page.values.tolist(), page.status.tolist(), strict=True)
        after = page.more
        if after is None:
            return found


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(recorded=RECORDED, acts=ACTS, reads=READS)
def test_what_is_read_is_what_was_recorded_with_what_people_did_to_it(
    empty: Path,
    tmp_path: Path,
    recorded: Sequence[tuple[int, int]],
    acts: Sequence[tuple[str, int, int]],
    reads: Sequence[tuple[int | None, int | None, int]],
) -> None:
    path = Path(shutil.copy(empty, tmp_path / f"{next(_numbers)}.db"))
    model: Model = {}
    touched: set[int] = set()
    superseded: list[tuple[int, float]] = []
    with database(path) as made, writing(made) as writer:
        for time, value in recorded:
            writer.append([row("EN02", time, [float(value)])]).result()
            model.setdefault(time, []).append(float(value))

        async def check() -> None:
            reader = Reader(reading(url(path)))
            history = Corrections(reader, writer, SteppedClock())
            for one in acts:
                assert await act(history, *one) == expected_act(model, touched, superseded, one)
            for start, end, limit in reads:
                found = await pages(history, start, end, limit)
                assert [(t, v) for t, v, _ in found] == expected_read(model, start, end)
                assert all((s == EXTRA_DATA) == (t in touched) for t, _, s in found)
            modified = await history.read_modified(TAG, 0, 100, 1000)
            told = list(zip(modified.series.times.tolist(), modified.series.values.tolist(), strict=True))
            assert sorted(told) == sorted(superseded)
            assert [t for t, _ in told] == sorted(t for t, _ in told)
            assert set(modified.users) <= {"anna"}
            assert set(modified.made) <= {NOW}
            reader.close()

        asyncio.run(check())
    # Every row of both layers is what an audit entry says it is.
    assert verify.check(path).problems == []


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    recorded=st.lists(
        st.tuples(st.integers(0, 40), st.integers(0, 9), st.sampled_from([0, 0, 0x40000000, 0x80000000])),
        min_size=1,
        max_size=40,
    ),
    name=st.sampled_from(sorted(set(AGGREGATES) - {"AnnotationCount"})),
    start=st.integers(0, 40),
    end=st.integers(0, 40),
    length=st.integers(0, 20),
    rules=st.builds(AggregateRules, st.booleans(), st.booleans(), sloped_extrapolation=st.booleans()),
)
def test_aggregates_of_a_range_are_those_of_everything_there_is(
    empty: Path,
    tmp_path: Path,
    monkeypatch_reads: None,
    recorded: Sequence[tuple[int, int, int]],
    name: str,
    start: int,
    end: int,
    length: int,
    rules: AggregateRules,
) -> None:
    # However the samples are read: a few at a time, with only the neighbours that bounds rest on.
    if start == end:
        return
    path = Path(shutil.copy(empty, tmp_path / f"{next(_numbers)}.db"))
    in_order = sorted(recorded, key=lambda r: r[0])
    columns = zip(*in_order, strict=True)
    times, values, status = (np.array(c, kind) for c, kind in zip(columns, (np.int64, float, np.uint32), strict=True))
    everything = Samples(times, values, status)
    expected = AGGREGATES[name].function(everything, intervals(start, end, length), rules)
    with database(path) as made, writing(made) as writer:
        writer.append([row("EN02", t, [float(v)], [s]) for t, v, s in in_order]).result()

        async def check() -> None:
            reader = Reader(reading(url(path)))
            history = Corrections(reader, writer, SteppedClock())
            found = await history.read_processed(TAG, name, (start, end, length), (0, 1000), rules)
            assert found.status.tolist() == expected.status.tolist()
            assert found.times.tolist() == expected.times.tolist()
            np.testing.assert_allclose(found.values, expected.values, rtol=1e-9, atol=1e-9)
            instants = np.array([end, start, end], np.int64)
            one = await history.read_at(TAG, instants, rules, use_simple_bounds=True)
            other = at_times(everything, instants, rules, use_simple_bounds=True)
            assert one.status.tolist() == other.status.tolist()
            np.testing.assert_allclose(one.values, other.values)
            reader.close()

        asyncio.run(check())


@pytest.fixture(params=[7, 1_000_000])
def monkeypatch_reads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many values at once as production reads, and few, so that every seam between reads is met."""
    monkeypatch.setattr("historian.archive.AT_ONCE", request.param)
    monkeypatch.setattr("historian.archive.NEAR", min(request.param, 256))
