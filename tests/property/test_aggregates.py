"""Aggregates against Part 13 read aloud: one interval at a time, one sample after the other, in exact fractions.

Written from the text of the clauses, apart from `historian.aggregates`; where the text leaves something to the tables
of Annex A, so does this.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from historian.aggregates import AGGREGATES, Processed, Samples, at_times, intervals
from nodesets.model import AggregateRules as Rules

MS = 1_000_000
CALCULATED, INTERPOLATED, PARTIAL, EXTRA, MULTIPLE = 0x401, 0x402, 0x404, 0x408, 0x410
GOOD, UNCERTAIN, BAD, NO_DATA = 0, 0x40A40000, 0x80000000, 0x809B0000
Number = Fraction | None


@dataclass(frozen=True)
class Point:
    time: int
    value: Number
    status: int

    @property
    def severity(self) -> int:
        return min(self.status >> 30, 2) if self.value is not None else 2


Answer = tuple[int, Number, int]
"""Time, value, status."""


class Part13:
    """The clauses, for one series and one set of rules."""

    def __init__(self, points: list[Point], rules: Rules) -> None:
        self.points, self.rules = points, rules

    def usable(self, p: Point) -> bool:
        return p.severity == 0 or (p.severity == 1 and not self.rules.uncertain_is_bad)

    # -- 3.1.8, 3.1.9

    def raw_at(self, time: int) -> tuple[Point, int] | None:
        """The sample recorded last at an instant, and its status with what it hides."""
        there = [p for p in self.points if p.time == time]
        return (there[-1], there[-1].status | (EXTRA if len(there) > 1 else 0)) if there else None

    def line(self, a: Point, b: Point, time: int) -> Fraction:
        assert a.value is not None
        assert b.value is not None
        return a.value + (b.value - a.value) * Fraction(time - a.time, b.time - a.time)

    def interpolated(self, time: int, stepped: bool) -> Point:
        raw = self.raw_at(time)
        if raw and self.usable(raw[0]):
            return Point(time, raw[0].value, raw[1])
        before = [p for p in self.points if p.time <= time]
        after = [p for p in self.points if p.time > time]
        early = [p for p in before if self.usable(p)]
        late = [p for p in after if self.usable(p)]
        if not early:
            return Point(time, None, NO_DATA)
        skipped = early[-1] is not before[-1]
        if not stepped and late:
            skipped |= late[0] is not after[0]
            doubt = skipped or early[-1].severity > 0 or late[0].severity > 0
            return Point(time, self.line(early[-1], late[0], time), (UNCERTAIN if doubt else GOOD) | INTERPOLATED)
        second = [p for p in early if p.time < early[-1].time]
        if not stepped and self.rules.sloped_extrapolation and second:
            return Point(time, self.line(second[-1], early[-1], time), UNCERTAIN | INTERPOLATED)
        doubt = skipped or not after or early[-1].severity > 0
        return Point(time, early[-1].value, (UNCERTAIN if doubt else GOOD) | INTERPOLATED)

    def simple(self, time: int) -> Point:
        raw = self.raw_at(time)
        if raw:
            return Point(time, raw[0].value, raw[1]) if self.usable(raw[0]) else Point(time, None, NO_DATA)
        before = [p for p in self.points if p.time < time]
        after = [p for p in self.points if p.time > time]
        if not before or not after or not self.usable(before[-1]):
            return Point(time, None, NO_DATA)
        a, b = before[-1], after[0]
        if self.rules.stepped:
            return Point(time, a.value, (UNCERTAIN if a.severity else GOOD) | INTERPOLATED)
        if not self.usable(b):
            return Point(time, a.value, UNCERTAIN | INTERPOLATED)
        doubt = a.severity or b.severity
        return Point(time, self.line(a, b, time), (UNCERTAIN if doubt else GOOD) | INTERPOLATED)

    # -- 5.4.3.2

    def by_share(self, good: Fraction, bad: Fraction, total: Fraction) -> int:
        if total == 0 or good * 100 >= self.rules.percent_good * total:
            return GOOD
        return BAD if bad * 100 >= self.rules.percent_bad * total else UNCERTAIN


@dataclass(frozen=True)
class Interval:
    low: int
    high: int
    backward: bool
    full: int

    @property
    def stamp(self) -> int:
        return self.high if self.backward else self.low

    def holds(self, time: int) -> bool:
        return self.low < time <= self.high if self.backward else self.low <= time < self.high


@dataclass
class Region:
    start: Fraction
    end: Fraction
    duration: int
    severity: int


def regions(part: Part13, i: Interval, *, stepped: bool) -> list[Region]:
    points = with_bounds(part, i)
    found = []
    for a, b in itertools.pairwise(points):
        severity = a.severity if part.usable(a) else 2
        end = a.value
        if not stepped and part.usable(b):
            end = b.value
        if not stepped and severity == 0 and b.severity > 0:
            severity = 1
        duration = b.time - a.time
        if b is points[-1] and severity < 2 and i.high > part.points[-1].time:
            duration = MS
        usable = severity < 2
        found.append(Region(a.value or Fraction(0) if usable else Fraction(0), end or Fraction(0), duration, severity))
    return found


def with_bounds(part: Part13, i: Interval) -> list[Point]:
    inside = [p for p in part.points if i.low < p.time < i.high]
    return [part.simple(i.low), *inside, part.simple(i.high)]


def timed(part: Part13, found: list[Region]) -> int:
    total = Fraction(sum(r.duration for r in found))
    good = Fraction(sum(r.duration for r in found if r.severity == 0))
    bad = Fraction(sum(r.duration for r in found if r.severity == 2))
    return part.by_share(good, bad, total)


def counted(part: Part13, inside: list[Point]) -> int:
    good = Fraction(sum(p.severity == 0 for p in inside))
    bad = Fraction(sum(p.severity == 2 for p in inside))
    return part.by_share(good, bad, Fraction(len(inside)))


def calculated(status: int) -> int:
    return status if status == BAD else status | CALCULATED


Reading = Callable[[Part13, Interval, list[Point]], Answer | None]
"""None: no data. The last argument are the samples inside."""


def good_of(inside: list[Point]) -> list[Point]:
    return [p for p in inside if p.severity == 0]


def average(part: Part13, i: Interval, inside: list[Point]) -> Answer | None:
    values = [p.value for p in good_of(inside) if p.value is not None]
    if not values:
        return None
    return i.stamp, sum(values, Fraction(0)) / len(values), calculated(counted(part, inside))


def time_average(part: Part13, i: Interval, inside: list[Point], total: bool = False) -> Answer | None:
    edges = [part.interpolated(i.low, False), part.interpolated(i.high, False)]
    between = [p for p in part.points if i.low < p.time < i.high and part.usable(p)]
    points = [edges[0], *between, edges[1]]
    area, time = Fraction(0), 0
    for a, b in itertools.pairwise(points):
        if a.severity < 2 and a.value is not None and b.value is not None:
            area += (a.value + b.value) / 2 * (b.time - a.time)
            time += b.time - a.time
    if time == 0:
        return None
    doubt = any(p.severity > 0 for p in [*inside, *edges])
    mean = area / time
    value = mean * Fraction(i.high - i.low, 10**9) if total else mean
    return i.stamp, value, (UNCERTAIN if doubt else GOOD) | CALCULATED


def time_average2(part: Part13, i: Interval, _: list[Point], total: bool = False) -> Answer | None:
    found = regions(part, i, stepped=part.rules.stepped)
    known = [r for r in found if r.severity < 2]
    time = sum(r.duration for r in known)
    if time == 0:
        return None
    mean = sum(((r.start + r.end) / 2 * r.duration for r in known), Fraction(0)) / time
    value = mean * Fraction(i.high - i.low, 10**9) if total else mean
    return i.stamp, value, calculated(timed(part, found))


def extreme(
    part: Part13, i: Interval, inside: list[Point], pick: Callable[..., Fraction], actual: bool
) -> Answer | None:
    values = [p.value for p in good_of(inside) if p.value is not None]
    if not values:
        return None
    value = pick(values)
    having = [p for p in good_of(inside) if p.value == value]
    status = UNCERTAIN if any(not part.usable(p) for p in inside) else GOOD
    status |= MULTIPLE if len(having) > 1 else 0
    time = having[0].time
    if actual:
        return time, value, status
    return i.stamp, value, status | (CALCULATED if time != i.stamp else 0)


def spread(part: Part13, i: Interval, inside: list[Point]) -> Answer | None:
    values = [p.value for p in good_of(inside) if p.value is not None]
    if not values:
        return None
    status = UNCERTAIN if any(not part.usable(p) for p in inside) else GOOD
    return i.stamp, max(values) - min(values), status | CALCULATED


def ranked(part: Part13, i: Interval) -> list[Point]:
    points = with_bounds(part, i)
    return [p for p in (points[:-1] if part.rules.stepped else points) if part.usable(p)]


def extreme2(part: Part13, i: Interval, _: list[Point], pick: Callable[..., Fraction], actual: bool) -> Answer | None:
    points = ranked(part, i)
    values = [p.value for p in points if p.value is not None]
    if not values:
        return None
    value = pick(values)
    having = [p for p in points if p.value == value]
    status = timed(part, regions(part, i, stepped=part.rules.stepped))
    estimated = having[0].status & INTERPOLATED == INTERPOLATED
    status |= INTERPOLATED if estimated else 0
    status |= MULTIPLE if len(having) > 1 else 0
    time = having[0].time
    if not actual:
        return i.stamp, value, status | (CALCULATED if time != i.stamp and not estimated else 0)
    last = i.low if i.backward else i.high
    if time == last:
        return last + (MS if i.backward else -MS), value, status | INTERPOLATED
    return time, value, status


def spread2(part: Part13, i: Interval, _: list[Point]) -> Answer | None:
    values = [p.value for p in ranked(part, i) if p.value is not None]
    if not values:
        return None
    status = timed(part, regions(part, i, stepped=part.rules.stepped))
    return i.stamp, max(values) - min(values), calculated(status)


def count(part: Part13, i: Interval, inside: list[Point]) -> Answer | None:
    return i.stamp, Fraction(len(good_of(inside))), calculated(counted(part, inside))


def transitions(part: Part13, i: Interval, inside: list[Point]) -> Answer | None:
    earlier = [p for p in part.points if part.usable(p) and (p.time <= i.low if i.backward else p.time < i.low)]
    values = [p.value for p in [*earlier[-1:], *(p for p in inside if part.usable(p))]]
    changes = sum(a != b for a, b in itertools.pairwise(values))
    return i.stamp, Fraction(changes), calculated(counted(part, inside))


def start(part: Part13, i: Interval, inside: list[Point]) -> Answer | None:
    if not inside:
        return None
    p = inside[-1] if i.backward else inside[0]
    return p.time, p.value, p.status


def end(part: Part13, i: Interval, inside: list[Point]) -> Answer | None:
    if not inside:
        return None
    p = inside[0] if i.backward else inside[-1]
    return p.time, p.value, p.status


def delta(part: Part13, i: Interval, inside: list[Point]) -> Answer | None:
    values = good_of(inside)
    if not values or values[0].value is None or values[-1].value is None:
        return None
    skipped = inside[0].severity > 0 or inside[-1].severity > 0
    return i.stamp, values[-1].value - values[0].value, (UNCERTAIN if skipped else GOOD) | CALCULATED


def bound(part: Part13, i: Interval, _: list[Point], at_end: bool) -> Answer | None:
    p = part.simple(i.low if at_end == i.backward else i.high)
    return None if p.severity == 2 else (i.stamp, p.value, p.status | (CALCULATED if at_end else 0))


def delta_bounds(part: Part13, i: Interval, _: list[Point]) -> Answer | None:
    a, b = part.simple(i.low), part.simple(i.high)
    if a.value is None or b.value is None:
        return None
    return i.stamp, b.value - a.value, (UNCERTAIN if a.severity or b.severity else GOOD) | CALCULATED


def duration(part: Part13, i: Interval, _: list[Point], severity: int, percent: bool) -> Answer | None:
    time = sum(r.duration for r in regions(part, i, stepped=True) if r.severity == severity)
    return i.stamp, Fraction(100 * time, i.high - i.low) if percent else Fraction(time, MS), GOOD | CALCULATED


def in_state(part: Part13, i: Interval, _: list[Point], zero: bool) -> Answer | None:
    found = regions(part, i, stepped=True)
    time = sum(r.duration for r in found if r.severity == 0 and (r.start == 0) == zero)
    return i.stamp, Fraction(time, MS), calculated(timed(part, found))


def worst(part: Part13, i: Interval, inside: list[Point], bounds: bool) -> Answer | None:
    states = [p.status for p in (with_bounds(part, i) if bounds else inside)]
    if not states:
        return None
    most = max(min(s >> 30, 2) for s in states)
    having = [s for s in states if min(s >> 30, 2) == most]
    several = MULTIPLE if most and len(having) > 1 else 0
    return i.stamp, Fraction(having[0] & 0xFFFF0000), GOOD | CALCULATED | several


def variance(part: Part13, i: Interval, inside: list[Point], sample: bool) -> Answer | None:
    values = [p.value for p in good_of(inside) if p.value is not None]
    if not values:
        return None
    mean = sum(values, Fraction(0)) / len(values)
    off = sum(((v - mean) ** 2 for v in values), Fraction(0))
    status = (UNCERTAIN if len(values) < len(inside) else GOOD) | CALCULATED
    return i.stamp, off / (max(len(values) - 1, 1) if sample else len(values)), status


def root(reading: Reading) -> Reading:
    def of(part: Part13, i: Interval, inside: list[Point]) -> Answer | None:
        found = reading(part, i, inside)
        if found is None or found[1] is None:
            return found
        return found[0], Fraction(math.sqrt(found[1])), found[2]

    return of


def interpolative(part: Part13, i: Interval, _: list[Point]) -> Answer | None:
    p = part.interpolated(i.stamp, part.rules.stepped)
    return i.stamp, p.value, p.status


def annotation_count(part: Part13, i: Interval, inside: list[Point]) -> Answer | None:
    return i.stamp, Fraction(len(inside)), GOOD | CALCULATED


READINGS: dict[str, Reading] = {
    "Interpolative": interpolative,
    "Average": average,
    "TimeAverage": time_average,
    "TimeAverage2": time_average2,
    "Total": lambda p, i, s: time_average(p, i, s, True),
    "Total2": lambda p, i, s: time_average2(p, i, s, True),
    "Minimum": lambda p, i, s: extreme(p, i, s, min, False),
    "Maximum": lambda p, i, s: extreme(p, i, s, max, False),
    "MinimumActualTime": lambda p, i, s: extreme(p, i, s, min, True),
    "MaximumActualTime": lambda p, i, s: extreme(p, i, s, max, True),
    "Range": spread,
    "Minimum2": lambda p, i, s: extreme2(p, i, s, min, False),
    "Maximum2": lambda p, i, s: extreme2(p, i, s, max, False),
    "MinimumActualTime2": lambda p, i, s: extreme2(p, i, s, min, True),
    "MaximumActualTime2": lambda p, i, s: extreme2(p, i, s, max, True),
    "Range2": spread2,
    "AnnotationCount": annotation_count,
    "Count": count,
    "DurationInStateZero": lambda p, i, s: in_state(p, i, s, True),
    "DurationInStateNonZero": lambda p, i, s: in_state(p, i, s, False),
    "NumberOfTransitions": transitions,
    "Start": start,
    "End": end,
    "Delta": delta,
    "StartBound": lambda p, i, s: bound(p, i, s, False),
    "EndBound": lambda p, i, s: bound(p, i, s, True),
    "DeltaBounds": delta_bounds,
    "DurationGood": lambda p, i, s: duration(p, i, s, 0, False),
    "DurationBad": lambda p, i, s: duration(p, i, s, 2, False),
    "PercentGood": lambda p, i, s: duration(p, i, s, 0, True),
    "PercentBad": lambda p, i, s: duration(p, i, s, 2, True),
    "WorstQuality": lambda p, i, s: worst(p, i, s, False),
    "WorstQuality2": lambda p, i, s: worst(p, i, s, True),
    "StandardDeviationSample": root(lambda p, i, s: variance(p, i, s, True)),
    "VarianceSample": lambda p, i, s: variance(p, i, s, True),
    "StandardDeviationPopulation": root(lambda p, i, s: variance(p, i, s, False)),
    "VariancePopulation": lambda p, i, s: variance(p, i, s, False),
}
NEVER_PARTIAL = frozenset({"Interpolative", "Average", "AnnotationCount"})


def is_partial(part: Part13, i: Interval) -> bool:
    """5.3.3.2: data begin or end in the interval, or the request cuts it short."""
    first, last = part.points[0].time, part.points[-1].time
    if i.high < first or i.low > last:
        return False
    begins = i.low < first and (i.holds(first) or first == i.low)
    ends = last < i.high and (i.holds(last) or last == i.high)
    return begins or ends or i.high - i.low < i.full


def read(name: str, part: Part13, i: Interval) -> Answer:
    inside = [p for p in part.points if i.holds(p.time)]
    if name in NEVER_PARTIAL:
        return READINGS[name](part, i, inside) or (i.stamp, None, NO_DATA)
    beyond = i.high < part.points[0].time or i.low > part.points[-1].time
    found = None if beyond else READINGS[name](part, i, inside)
    time, value, status = found or (i.stamp, None, NO_DATA)
    if is_partial(part, i) and status != BAD:
        status |= PARTIAL
    return time, value, status


CODES = st.sampled_from([0, 0, 0, 0x40000000, 0x40930000, 0x80000000, 0x808C0000])
VALUE = st.integers(-3, 3) | st.integers(-1000, 1000)
POINTS = st.lists(st.tuples(st.integers(0, 60), VALUE, CODES), min_size=1, max_size=25)
RULES = st.builds(
    Rules, st.booleans(), st.booleans(), st.sampled_from([100, 50]), st.sampled_from([100, 50]), st.booleans()
)


def check(found: Processed, at: int, answer: Answer, where: str) -> None:
    time, value, status = answer
    assert hex(found.status[at]) == hex(status), where
    assert found.times[at] == time, where
    if value is None or status & BAD:
        assert np.isnan(found.values[at]), where
    else:
        assert found.values[at] == pytest.approx(float(value), rel=1e-9, abs=1e-9), where


@pytest.mark.parametrize("name", AGGREGATES)
@settings(max_examples=40, deadline=None)
@given(rows=POINTS, rules=RULES, start=st.integers(-5, 65), end=st.integers(-5, 65), length=st.integers(0, 30))
def test_an_aggregate_is_what_its_clause_says(
    name: str, rows: list[tuple[int, int, int]], rules: Rules, start: int, end: int, length: int
) -> None:
    if start == end:
        return
    points = [
        Point(t * MS * 100, Fraction(v) if not s & BAD else None, s) for t, v, s in sorted(rows, key=lambda r: r[0])
    ]
    part = Part13(points, rules)
    over = intervals(start * MS * 100, end * MS * 100, length * MS * 100)
    found = AGGREGATES[name].function(as_samples(points), over, rules)
    for at, (low, high) in enumerate(zip(over.low.tolist(), over.high.tolist(), strict=True)):
        interval = Interval(low, high, end < start, over.full)
        check(found, at, read(name, part, interval), f"{interval} of {points}")


@settings(max_examples=100, deadline=None)
@given(rows=POINTS, rules=RULES, at=st.lists(st.integers(-5, 65), min_size=1), simple=st.booleans())
def test_a_value_at_a_time_is_what_its_clause_says(
    rows: list[tuple[int, int, int]], rules: Rules, at: list[int], simple: bool
) -> None:
    # Part 11 6.5.5.2: in the order of the times asked for.
    points = [Point(t, Fraction(v) if not s & BAD else None, s) for t, v, s in sorted(rows, key=lambda r: r[0])]
    part = Part13(points, rules)
    found = at_times(as_samples(points), np.array(at, np.int64), rules, use_simple_bounds=simple)
    for i, time in enumerate(at):
        p = part.simple(time) if simple else part.interpolated(time, rules.stepped)
        check(found, i, (time, p.value, p.status), f"{time} of {points}")


def as_samples(points: list[Point]) -> Samples:
    return Samples(
        np.array([p.time for p in points], np.int64),
        np.array([math.nan if p.value is None else float(p.value) for p in points], np.float64),
        np.array([p.status for p in points], np.uint32),
    )
