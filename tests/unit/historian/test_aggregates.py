"""The worked examples of Part 13: AggregateExamples.csv of 1.05.07, and tables of Annex A of 1.04 where it has none."""

import re

import numpy as np
import pytest

from historian import aggregates
from historian.aggregates import AGGREGATES, Intervals, Samples, intervals
from nodesets.model import AggregateRules as Rules
from tests.unit.historian.part13 import EXAMPLES, HISTORIANS, MOON, Example

BITS = {"C": 0x0401, "I": 0x0402, "P": 0x0404, "M": 0x0410}
CODES = {"G": 0, "U": 0x40A40000, "u": 0x40000000, "B": 0x80000000, "N": 0x809B0000}
SECOND = 1_000_000_000


def samples(name: str) -> tuple[Samples, Rules]:
    rules, rows = HISTORIANS[name]
    times = np.array([MOON + second * SECOND for second, _, _ in rows], np.int64)
    values = np.array([np.nan if value is None else value for _, value, _ in rows], np.float64)
    return Samples(times, values, np.array([CODES[letter] for _, _, letter in rows], np.uint32)), rules


def status(letters: str) -> int:
    code = CODES[letters[0]]
    for letter in letters[1:]:
        code |= BITS[letter]
    return code


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: f"{e.aggregate}-{e.historian}")
def test_an_aggregate_is_what_the_standards_table_says(example: Example) -> None:
    given, rules = samples(example.historian)
    over = intervals(MOON, MOON + 100 * SECOND, example.seconds * SECOND)
    found = AGGREGATES[example.aggregate].function(given, over, rules)
    rows = example.rows.split()
    assert len(found.values) == len(rows)
    for i, row in enumerate(rows):
        match = re.fullmatch(r"(?:@([\d.]+)=)?([\d.-]+)?:?(\w+)", row)
        assert match, row
        stamp, value, letters = match.groups()
        where = f"{row} at {(over.stamps[i] - MOON) / SECOND} s"
        assert hex(found.status[i]) == hex(status(letters)), where
        expected = float(over.stamps[i]) if stamp is None else MOON + round(float(stamp) * 1000) * 1_000_000
        assert found.times[i] == expected, where
        if value is None:
            assert np.isnan(found.values[i]), where
        else:
            assert found.values[i] == pytest.approx(float(value), abs=6e-4), where


@pytest.mark.parametrize(
    ("start", "end", "length", "expected"),
    [
        (0, 10, 4, ([0, 4, 8], [4, 8, 10])),
        (10, 0, 4, ([6, 2, 0], [10, 6, 2])),
        (0, 10, 0, ([0], [10])),
        (0, 10, 99, ([0], [10])),
    ],
)
def test_intervals_begin_at_the_start_and_the_last_is_what_is_left(
    start: int, end: int, length: int, expected: tuple[list[int], list[int]]
) -> None:
    # 5.4.2.2: backward they begin at the later time, which is what they are dated.
    found = intervals(start, end, length)
    assert (found.low.tolist(), found.high.tolist()) == expected
    assert found.stamps.tolist() == expected[1 if end < start else 0]


def test_a_page_of_intervals_is_a_part_of_all() -> None:
    whole = intervals(0, 100, 7)
    page = intervals(0, 100, 7, first=5, most=4)
    assert page.low.tolist() == whole.low[5:9].tolist()
    assert page.high.tolist() == whole.high[5:9].tolist()


@pytest.mark.parametrize("name", AGGREGATES)
@pytest.mark.parametrize("backward", [False, True])
def test_no_samples_are_no_data(name: str, backward: bool) -> None:
    none = Samples(np.empty(0, np.int64), np.empty(0), np.empty(0, np.uint32))
    over = intervals(100, 0, 30) if backward else intervals(0, 100, 30)
    found = AGGREGATES[name].function(none, over, Rules())
    if name == "AnnotationCount":
        assert found.values.tolist() == [0.0] * 4
    else:
        assert set(found.status.tolist()) == {aggregates.BAD_NO_DATA}
        assert np.isnan(found.values).all()


def test_percentages_that_decide_nothing_are_refused() -> None:
    # 4.2.1.2: PercentDataGood >= 100 - PercentDataBad.
    assert Rules().valid
    assert Rules(percent_bad=50, percent_good=50).valid
    assert not Rules(percent_bad=50, percent_good=49).valid
    assert not Rules(percent_good=101).valid


def test_backward_belongs_the_later_edge_to_an_interval() -> None:
    at = np.array([0, 10, 20], np.int64)
    given = Samples(at, np.array([1.0, 2.0, 3.0]), np.zeros(3, np.uint32))
    forward = AGGREGATES["Start"].function(given, intervals(0, 20, 10), Rules())
    assert forward.values.tolist() == [1.0, 2.0]
    backward = AGGREGATES["Start"].function(given, intervals(20, 0, 10), Rules())
    assert backward.values.tolist() == [3.0, 2.0]
    assert AGGREGATES["Count"].function(given, Intervals(at[:1], at[-1:], True, 20), Rules()).values.tolist() == [2.0]
