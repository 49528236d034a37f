"""History against a plain list of what was recorded."""

import asyncio
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compliance import verify
from historian.archive import Archive
from historian.query import Reader
from historian.schema import reading
from nodesets.model import Row
from tests.unit.historian.sealing import sealing, settled
from tests.unit.historian.support import database, url, writing

LAYOUTS = ({"G": ("a", "b")}, {"G": ("b", "c", "a")}, {"H": ("a",), "G": ("b",)})
"""What one group was over the years; the tag `a` is in the other group at last."""


class Value(NamedTuple):
    """One recorded value: the bits of the double, so that one NaN is not another."""

    time: int
    bits: int
    status: int


TIMES = st.integers(-5, 5) | st.sampled_from([-(2**63), 2**63 - 1, 1_790_000_000_000_000_000])
BITS = st.integers(0, 2**64 - 1) | st.sampled_from([0x7FF8000000000001, 0xFFF0000000000000, 0x8000000000000000, 1])
VALUES = st.builds(Value, TIMES, BITS, st.integers(0, 2**32 - 1) | st.just(0))
COMMITS = st.lists(VALUES, min_size=1, max_size=6)
YEARS = st.tuples(*(st.lists(COMMITS, max_size=3) for _ in LAYOUTS))
LIMITS = st.integers(1, 7)
BOUNDS = st.none() | TIMES


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("empty") / "enose.db"
    with database(path):
        pass
    return path


def as_row(layout: dict[str, tuple[str, ...]], value: Value) -> Row:
    """A row that holds the value under the tag `a`, and other values beside it."""
    group = next(group for group, columns in layout.items() if "a" in columns)
    columns = layout[group]
    bits = np.full(len(columns), 0x4000000000000000, np.uint64)
    status = np.full(len(columns), 0x80310000, np.uint32)
    bits[columns.index("a")] = value.bits
    status[columns.index("a")] = value.status
    return Row(group=group, source_time=value.time, received_time=0, values=bits.view(np.float64), status=status)


def expected(recorded: Sequence[Value], start: int | None, end: int | None) -> list[Value]:
    """Part 11 6.5.3.2, over a list."""
    in_order = sorted(recorded, key=lambda value: value.time)  # stable: order of recording within an instant
    match start, end:
        case None, None:
            chosen = in_order[::-1]
        case None, last:
            chosen = [v for v in in_order[::-1] if v.time <= last]
        case first, None:
            chosen = [v for v in in_order if v.time >= first]
        case first, last if first == last:
            chosen = [v for v in in_order if v.time == first]
        case first, last if first < last:
            chosen = [v for v in in_order if first <= v.time < last]
        case first, last:
            chosen = [v for v in in_order[::-1] if last < v.time <= first]
    return chosen


async def page_by_page(reader: Archive, start: int | None, end: int | None, limit: int) -> list[Value]:
    values: list[Value] = []
    after = None
    while True:
        page = await reader.read_raw("a", start, end, limit, after)
        assert len(page.times) == limit or page.more is None
        bits = page.values.view(np.uint64)
        values += map(Value, page.times.tolist(), bits.tolist(), page.status.tolist())
        after = page.more
        if after is None:
            return values


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    years=YEARS,
    sealed=st.tuples(*(st.booleans() for _ in LAYOUTS)),
    requests=st.lists(st.tuples(BOUNDS, BOUNDS, LIMITS), min_size=1, max_size=8),
)
def test_every_read_is_what_a_list_would_answer(
    empty: Path,
    tmp_path: Path,
    years: tuple[list[list[Value]], ...],
    sealed: tuple[bool, ...],
    requests: list[tuple[int | None, int | None, int]],
) -> None:
    # Bit for bit: payload of NaN, sign of zero, every status code; through changes of layout, some years of it sealed;
    # verified at the end.
    path = Path(shutil.copy(empty, tempfile.mkdtemp(dir=tmp_path)))
    recorded: list[Value] = []
    clock = settled(24)
    with database(path) as made:
        for layout, commits, seal in zip(LAYOUTS, years, sealed, strict=True):
            with writing(made, layout) as writer, sealing(path, writer, clock) as sealer:
                for commit in commits:
                    writer.append([as_row(layout, value) for value in commit]).result()
                    recorded += commit
                if seal:
                    sealer.seal()
                    assert not sealer.trouble

        async def read_all() -> None:
            reader = Reader(reading(url(path)))
            archive = Archive(reader, clock)
            for start, end, limit in requests:
                assert await page_by_page(archive, start, end, limit) == expected(recorded, start, end)
            reader.close()

        asyncio.run(read_all())
    report = verify.check(path)
    assert (report.problems, report.uncovered_frames) == ([], 0)
    assert (report.frames == len(recorded)) or any(sealed)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=COMMITS, later=st.lists(COMMITS, max_size=5), forward=st.booleans(), limit=LIMITS)
def test_paging_neither_loses_nor_doubles_while_rows_arrive_and_are_sealed(
    empty: Path, tmp_path: Path, first: list[Value], later: list[list[Value]], forward: bool, limit: int
) -> None:
    # What was there when the reading began comes once, in its order; what came later may show, once and in order.
    path = Path(shutil.copy(empty, tempfile.mkdtemp(dir=tmp_path)))
    layout, clock = LAYOUTS[0], settled(24)
    start, end = (-(2**63), None) if forward else (None, 2**63 - 1)

    async def read_while_writing() -> list[Value]:
        reader = Reader(reading(url(path)))
        archive = Archive(reader, clock)
        values: list[Value] = []
        arriving, after = iter(later), None
        while True:
            page = await archive.read_raw("a", start, end, limit, after)
            values += map(Value, page.times.tolist(), page.values.view(np.uint64).tolist(), page.status.tolist())
            writer.append([as_row(layout, value) for value in next(arriving, [])]).result()
            sealer.seal()
            after = page.more
            if after is None:
                reader.close()
                return values

    with database(path) as made, writing(made, layout) as writer, sealing(path, writer, clock) as sealer:
        writer.append([as_row(layout, value) for value in first]).result()
        seen = asyncio.run(read_while_writing())
    times = [value.time for value in seen]
    assert times == sorted(times, reverse=not forward)
    remaining = iter(seen)
    assert all(value in remaining for value in expected(first, start, end))
    everything = first + [value for commit in later for value in commit]
    for value in set(seen):
        assert seen.count(value) <= everything.count(value)
