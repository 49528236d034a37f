"""Rows of the event history against a list that is sorted and cut by hand."""

import pytest
from sqlalchemy import create_engine

from historian import schema
from historian.events import Catalogue, Query, catalogue, page, record
from nodesets.model import EventRow

TIMES = (10, 20, 20, 20, 30, 50)
SEVERITIES = (1, 700, 100, 700, 1000, 500)


@pytest.fixture
def tx():
    engine = create_engine("sqlite://")
    schema.metadata.create_all(engine)
    with engine.begin() as made:
        rows = [
            EventRow(
                time=time,
                severity=severity,
                source="EN01" if i % 2 else "EN02",
                event_type="i=2041",
                paths=("EventId",),
                fields=bytes([i]),
            )
            for i, (time, severity) in enumerate(zip(TIMES, SEVERITIES, strict=True))
        ]
        record(made, rows[:3])
        record(made, rows[3:])
        yield made
    engine.dispose()


def found(tx, start, end, limit=100, **further):
    return [row.fields[0] for row in page(tx, Query(start=start, end=end, **further), limit)]


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (10, 30, [0, 1, 2, 3]),
        (20, 20, [1, 2, 3]),
        (30, 10, [4, 3, 2, 1]),
        (20, None, [1, 2, 3, 4, 5]),
        (None, 20, [3, 2, 1, 0]),
        (51, 60, []),
    ],
)
def test_a_range_has_one_open_end_and_a_direction(tx, start, end, expected):
    assert found(tx, start, end) == expected


def test_rows_are_found_by_severity_source_and_layout(tx):
    known = catalogue(tx, Catalogue())
    numbers = {node: number for number, node in known.sources.items()}
    assert found(tx, 0, 100, severity=(700, 65_535)) == [1, 3, 4]
    assert found(tx, 0, 100, severity=(0, 100)) == [0, 2]
    assert found(tx, 0, 100, sources=[numbers["EN01"]]) == [1, 3, 5]
    assert found(tx, 0, 100, sources=[]) == []
    assert [layout.paths for layout in known.layouts.values()] == [("EventId",)]
    assert found(tx, 0, 100, layouts=list(known.layouts)) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(("start", "end"), [(0, 100), (100, 0)])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_pages_make_the_whole_though_rows_have_one_time(tx, start, end, size):
    query, pages = Query(start=start, end=end), []
    while rows := page(tx, query, size):
        pages += [row.fields[0] for row in rows]
        query = query.following(rows[-1])
    assert pages == found(tx, start, end)
    assert len(pages) == 6
