"""What was recorded comes back: every range, every direction, page by page."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import create_engine, event

from historian.query import Reader
from historian.schema import reading
from historian.writer import Writer
from nodesets.errors import NotFound, StorageError
from tests.postgres import migrated_database
from tests.unit.historian.support import database, row, url, writing


@pytest.fixture(params=["sqlite", "postgresql"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    return tmp_path / "enose.db" if request.param == "sqlite" else migrated_database()


@pytest.fixture
def writer(path: Path | str) -> Iterator[Writer]:
    with database(path) as made, writing(made) as started:
        yield started


@pytest.fixture
async def reader(path: Path | str, writer: Writer) -> AsyncIterator[Reader]:
    made = Reader(reading(url(path)))
    yield made
    made.close()


RANGES = [
    (20, 40, [20, 30, 30]),
    (40, 20, [40, 30, 30]),
    (30, 30, [30, 30]),
    (35, 35, []),
    (20, None, [20, 30, 30, 40, 50]),
    (None, 40, [40, 30, 30, 20, 10]),
    (None, None, [50, 40, 30, 30, 20, 10]),
    (60, 90, []),
    (90, 60, []),
]


@pytest.mark.parametrize("limit", [1, 2, 100])
@pytest.mark.parametrize(("start", "end", "expected"), RANGES)
async def test_a_range_is_read_page_by_page(
    writer: Writer, reader: Reader, start: int | None, end: int | None, expected: list[int], limit: int
) -> None:
    # Part 11 6.5.3.2: backward when the end is earlier or stands alone; start = end asks for the values of an instant.
    writer.append([row("EN02", time, [float(time)]) for time in (50, 10, 30, 20, 40, 30)]).result()
    times, after, pages = [], None, 0
    while pages == 0 or after is not None:
        page = await reader.read_raw("EN02.S01", start, end, limit, after)
        assert page.values.tolist() == [float(time) for time in page.times]
        assert page.received.tolist() == [time + 5 for time in page.times]
        assert len(page.times) <= limit
        times += page.times.tolist()
        after, pages = page.more, pages + 1
    assert times == expected
    assert pages == max(1, -(-len(expected) // limit))


async def test_values_of_one_instant_come_in_order_of_recording(writer: Writer, reader: Reader) -> None:
    writer.append([row("EN02", 10, [value]) for value in (1.0, 2.0, 3.0)]).result()
    forward = await reader.read_raw("EN02.S01", 10, None, 10)
    backward = await reader.read_raw("EN02.S01", None, 10, 10)
    assert forward.values.tolist() == [1.0, 2.0, 3.0]
    assert backward.values.tolist() == [3.0, 2.0, 1.0]


async def test_a_late_row_comes_back_in_its_place(writer: Writer, reader: Reader) -> None:
    # A backfill keeps the time of the device, not that of its arrival.
    writer.append([row("EN02", 10, [1.0]), row("EN02", 30, [3.0])]).result()
    writer.append([row("EN02", 20, [2.0])]).result()
    assert (await reader.read_raw("EN02.S01", 0, 100, 10)).values.tolist() == [1.0, 2.0, 3.0]


async def test_nothing_uncommitted_is_seen(path: Path | str, writer: Writer, reader: Reader) -> None:
    writer.append([row("EN02", 10, [1.0])]).result()
    engine = create_engine(url(path))
    with engine.connect() as other:
        other.exec_driver_sql("INSERT INTO frame SELECT layout, 20, 2, 20, 0, status, samples, link FROM frame")
        assert (await reader.read_raw("EN02.S01", 0, 100, 10)).times.tolist() == [10]
        other.rollback()
    engine.dispose()


async def test_status_is_kept_for_each_value(writer: Writer, reader: Reader) -> None:
    # A single code stands for a row of equal ones; it must not spread to rows of different ones.
    writer.append(
        [
            row("EN01", 1, [1.0, 2.0, 3.0], [0, 0, 0]),
            row("EN01", 2, [1.0, 2.0, 3.0], [0x80310000] * 3),
            row("EN01", 3, [1.0, 2.0, 3.0], [0, 0x408F0000, 0x80310000]),
        ]
    ).result()
    for tag, last in (("EN01.S01", 0), ("EN01.S02", 0x408F0000), ("EN01.S03", 0x80310000)):
        assert (await reader.read_raw(tag, 0, 9, 10)).status.tolist() == [0, 0x80310000, last]


async def test_a_tag_is_read_across_changes_of_its_group(path: Path | str, writer: Writer, reader: Reader) -> None:
    # Columns come, go and move over the years, to other groups too; the reader was open before.
    writer.append([row("EN01", time, [10.0 + time, 0.0, 0.0]) for time in (1, 2, 3, 3)]).result()
    assert len((await reader.read_raw("EN01.S01", 0, 9, 10)).times) == 4
    writer.close()
    writer._engine.dispose()  # of PostgreSQL: who is connected is the writer
    with database(path) as made:
        with writing(made, {"EN01": ("EN01.S00", "EN01.S01")}) as second:
            second.append([row("EN01", time, [0.0, 20.0 + time]) for time in (2, 3, 4)]).result()
        with writing(made, {"EN09": ("EN01.S01",)}) as third:
            third.append([row("EN09", 5, [35.0])]).result()
    values, after = [], None
    while not values or after is not None:
        page = await reader.read_raw("EN01.S01", 1, 9, 2, after)
        values += page.values.tolist()
        after = page.more
    assert values == [11.0, 12.0, 22.0, 13.0, 13.0, 23.0, 24.0, 35.0]
    assert (await reader.read_raw("EN01.S01", 9, 3, 2)).values.tolist() == [35.0, 24.0]


async def test_pages_hold_while_rows_are_added(writer: Writer, reader: Reader) -> None:
    # A client that pages through a range sees each value that was there at the start once, whatever arrives meanwhile.
    writer.append([row("EN02", time, [float(time)]) for time in (10, 20, 20, 30)]).result()
    first = await reader.read_raw("EN02.S01", 0, 100, 2)
    writer.append([row("EN02", time, [-1.0]) for time in (5, 10, 20, 25)]).result()
    second = await reader.read_raw("EN02.S01", 0, 100, 100, first.more)
    assert first.times.tolist() == [10, 20]
    assert second.values.tolist() == [20.0, -1.0, -1.0, 30.0]


async def test_many_reads_at_a_time_are_answered(writer: Writer, reader: Reader) -> None:
    writer.append([row("EN02", time, [float(time)]) for time in range(500)]).result()
    pages = await asyncio.gather(*(reader.read_raw("EN02.S01", start, None, 10) for start in range(50)))
    assert [page.times[0] for page in pages] == list(range(50))


async def test_an_empty_range_is_four_empty_arrays(writer: Writer, reader: Reader) -> None:
    page = await reader.read_raw("EN02.S01", 0, 10, 10)
    assert [array.dtype for array in (page.times, page.received, page.values, page.status)] == [
        np.dtype(kind) for kind in ("int64", "int64", "float64", "uint32")
    ]
    assert page.more is None


async def test_an_unknown_tag_is_not_found(writer: Writer, reader: Reader) -> None:
    with pytest.raises(NotFound):
        await reader.read_raw("EN07.S01", 0, 10, 10)


async def test_a_page_needs_room(writer: Writer, reader: Reader) -> None:
    with pytest.raises(ValueError, match="limit 0"):
        await reader.read_raw("EN02.S01", 0, 10, 0)


async def test_a_database_that_cannot_be_read_is_a_storage_error(tmp_path: Path) -> None:
    reader = Reader(reading(url(tmp_path / "absent.db")))
    with pytest.raises(StorageError):
        await reader.read_raw("EN02.S01", 0, 10, 10)
    reader.close()


@pytest.mark.parametrize(("start", "end", "after"), [(1, 9, None), (1, 9, (2, 1)), (9, 1, None), (None, 9, (2, 1))])
async def test_a_read_uses_the_index_of_time(
    path: Path | str, writer: Writer, start: int | None, end: int | None, after: tuple[int, int] | None
) -> None:
    # A page of a year's history must not cost a year's rows: no scan, no sorting.
    if isinstance(path, str):
        pytest.skip("PostgreSQL scans a table as small as this one")
    asked = []
    engine = reading(url(path))
    event.listen(engine, "before_cursor_execute", lambda *sent: asked.append(sent[2:4]))
    reader = Reader(engine)
    await reader.read_raw("EN02.S01", start, end, 10, after)
    statement, parameters = asked[-1]
    steps = await reader.read(lambda tx: tx.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all())
    reader.close()
    plan = " ".join(str(step[-1]) for step in steps)
    assert "frame USING PRIMARY KEY (layout=? AND source_time" in plan
    assert "TEMP B-TREE" not in plan


async def test_a_history_begins_with_the_oldest_value_of_its_tag(writer: Writer, reader: Reader) -> None:
    # Whatever was recorded first; of tags without a value nothing is said.
    writer.append([row("EN02", time, [float(time)]) for time in (30, 10, 20)]).result()
    assert await reader.begins() == {"EN02.S01": 10}


async def test_no_history_is_read_to_know_where_it_begins(path: Path | str, writer: Writer) -> None:
    # It is asked at each start, until every tag has a value.
    if isinstance(path, str):
        pytest.skip("PostgreSQL scans a table as small as this one")
    asked = []
    engine = reading(url(path))
    event.listen(engine, "before_cursor_execute", lambda *sent: asked.append(sent[2:4]))
    reader = Reader(engine)
    await reader.begins()
    plans = [
        await reader.read(lambda tx, each=each: tx.exec_driver_sql(f"EXPLAIN QUERY PLAN {each[0]}", each[1]).all())
        for each in list(asked)
        if "min(" in each[0]
    ]
    reader.close()
    assert plans
    assert all(str(step[-1]).startswith("SEARCH") for plan in plans for step in plan)


async def test_a_range_comes_in_parts_that_fit_into_memory(writer: Writer, reader: Reader) -> None:
    writer.append([row("EN02", time, [float(time)]) for time in range(25)]).result()
    parts = await reader.read(lambda tx: [page.values.tolist() for page in reader.pages(tx, "EN02.S01", 2, 24, 10)])
    assert [len(part) for part in parts] == [10, 10, 2]
    assert [value for part in parts for value in part] == list(range(2, 24))
