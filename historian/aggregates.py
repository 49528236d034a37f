"""Aggregates of OPC UA Part 13: recorded values of one tag -> one value an interval. Pure; all intervals at once.

Every aggregate is a row of AGGREGATES: a function of samples, intervals and rules, without a loop over either.

    low <= t < high   samples of an interval when time runs forward; low < t <= high when it runs backward
    simple bound      value at an edge from the raw samples beside it, null beside a Bad one (3.1.9)
    interpolated      value at an edge from the nearest usable samples, extrapolated after the last (3.1.8)
    region            from one sample or bound of an interval to the next

Where the text of 5.4.3.2.1 and the tables of AggregateExamples.csv (1.05.07, Annex A) differ, the tables hold: an
Uncertain region is not Good, whatever TreatUncertainAsBad says, and an interval after the last sample has no data.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from nodesets.model import AggregateRules as Rules
from nodesets.model import Codes, Floats

Times = NDArray[np.int64]
Bools = NDArray[np.bool_]
Indices = NDArray[np.intp]

MILLISECOND: Final = 1_000_000
SECOND: Final = 1_000_000_000

CALCULATED: Final = 0x0401
INTERPOLATED: Final = 0x0402
PARTIAL: Final = 0x0404
EXTRA_DATA: Final = 0x0408
MULTIPLE_VALUES: Final = 0x0410
"""InfoType DataValue with a historian bit (Part 4 7.39.1); without any the value is raw."""

GOOD: Final = 0x00000000
UNCERTAIN: Final = 0x40A40000
"""Uncertain_DataSubNormal."""
BAD: Final = 0x80000000
BAD_NO_DATA: Final = 0x809B0000


def _severity(status: Codes) -> NDArray[np.uint8]:
    """0 Good, 1 Uncertain, 2 Bad."""
    found: NDArray[np.uint8] = np.minimum(status >> np.uint32(30), 2).astype(np.uint8)
    return found


@dataclass(frozen=True)
class Samples:
    """Raw samples in order of time: those of the intervals and the neighbours their bounds rest on.

    Neighbours: the last sample and the last two usable ones before, the first sample and the first usable one after.
    A value that is no finite number counts as Bad.
    """

    times: Times
    """ns UTC, ascending."""
    values: Floats
    status: Codes

    def __len__(self) -> int:
        return len(self.times)

    @cached_property
    def severity(self) -> NDArray[np.uint8]:
        """0 Good, 1 Uncertain, 2 Bad."""
        return np.where(np.isfinite(self.values), _severity(self.status), np.uint8(2))

    @cached_property
    def good(self) -> Bools:
        found: Bools = self.severity == 0
        return found

    def usable(self, rules: Rules) -> Bools:
        return self.good if rules.uncertain_is_bad else self.severity < 2

    @property
    def extent(self) -> "Extent":
        return Extent(int(self.times[0]), int(self.times[-1])) if len(self) else NOTHING


@dataclass(frozen=True, slots=True)
class Extent:
    """First and last sample there is, as far as the intervals asked for can tell; ns UTC."""

    first: int
    last: int


NOTHING: Final = Extent(2**63 - 1, -(2**63))


@dataclass(frozen=True, slots=True)
class Intervals:
    """Processing intervals in reading order (5.4.2.2)."""

    low: Times
    high: Times
    backward: bool
    full: int
    """Length of a complete one, ns."""

    def __len__(self) -> int:
        return len(self.low)

    @property
    def stamps(self) -> Times:
        """Where each begins: what its value is dated."""
        return self.high if self.backward else self.low

    @property
    def seconds(self) -> Floats:
        return (self.high - self.low) / SECOND


@dataclass(frozen=True, slots=True)
class Processed:
    """One value an interval, in its order; NaN where the status is Bad."""

    times: Times
    values: Floats
    status: Codes


def intervals(start: int, end: int, length: int, first: int = 0, most: int | None = None) -> Intervals:
    """Intervals `first`, `first` + 1, ... of [start, end) each `length` ns long, the last one as long as is left.

    Backward when end < start. Length 0 is one interval. Raises ValueError when start = end or length < 0.
    """
    if start == end or length < 0:
        raise ValueError(f"intervals of {length} ns from {start} to {end}")
    span = abs(end - start)
    full = min(length, span) or span
    count = -(-span // full) - first
    begin = (first + np.arange(min(count, most) if most is not None else count, dtype=np.int64)) * full
    stop = np.minimum(begin + full, span)
    if end > start:
        return Intervals(start + begin, start + stop, False, length or span)
    return Intervals(start - stop, start - begin, True, length or span)


# -- bounds


@dataclass(frozen=True, slots=True)
class _Edge:
    """Values at instants; the status is BAD_NO_DATA where there is none."""

    values: Floats
    status: Codes

    @property
    def severity(self) -> NDArray[np.uint8]:
        return _severity(self.status)


def interpolated(samples: Samples, at: Times, rules: Rules) -> _Edge:
    """Interpolated bounding values (3.1.8): from the nearest usable samples, extrapolated after the last."""
    n = len(samples)
    if n == 0:
        return _nothing(len(at))
    usable = samples.usable(rules)
    order = np.arange(n)
    before = np.maximum.accumulate(np.where(usable, order, -1))
    after = np.minimum.accumulate(np.where(usable, order, n)[::-1])[::-1]
    here = np.searchsorted(samples.times, at, "right") - 1
    early = np.where(here >= 0, before[here], -1)
    late = np.append(after, n)[here + 1]
    exact = (early == here) & (early >= 0) & (samples.times[early] == at)
    earlier = np.searchsorted(samples.times, samples.times[early], "left")
    second = np.where((early >= 0) & (earlier > 0), before[np.maximum(earlier - 1, 0)], -1)
    # What the line goes through: the samples on both sides, or, after the last, the two before.
    extrapolating = (late == n) & rules.sloped_extrapolation & (second >= 0)
    sloped = ~exact & (early >= 0) & (not rules.stepped) & ((late < n) | extrapolating)
    one = np.where(extrapolating, second, early)
    two = np.where(extrapolating, early, np.minimum(late, n - 1))
    values = np.where(sloped, _line(samples, one, two, at), samples.values[early])
    doubtful = samples.severity[early] > 0
    doubtful |= sloped & ((late == n) | (samples.severity[two] > 0) | (late != early + 1))
    doubtful |= ~sloped & ((here != early) | (here == n - 1))
    status = np.where(doubtful, UNCERTAIN, GOOD) | INTERPOLATED
    return _edge(early >= 0, exact, values, status, samples, here)


def simple(samples: Samples, at: Times, rules: Rules) -> _Edge:
    """Simple bounding values (3.1.9): from the raw samples beside; none beside a Bad one or after the last."""
    n = len(samples)
    if n == 0:
        return _nothing(len(at))
    usable = samples.usable(rules)
    here = np.searchsorted(samples.times, at, "right") - 1
    before_all, here = here < 0, np.maximum(here, 0)
    following = np.minimum(here + 1, n - 1)
    exact = ~before_all & (samples.times[here] == at)
    there = ~before_all & usable[here] & (exact | (here < n - 1))
    sloped = usable[following] & (not rules.stepped)
    values = np.where(sloped, _line(samples, here, following, at), samples.values[here])
    doubtful = samples.severity[here] > 0
    if not rules.stepped:
        doubtful |= ~usable[following] | (samples.severity[following] > 0)
    status = np.where(doubtful, UNCERTAIN, GOOD) | INTERPOLATED
    return _edge(there, exact, values, status, samples, here)


def at_times(samples: Samples, at: Times, rules: Rules, *, use_simple_bounds: bool) -> Processed:
    """Values at instants in their order (Part 11 6.5.5.2)."""
    found = (simple if use_simple_bounds else interpolated)(samples, at, rules)
    return _processed(at, found.values, found.status)


def _nothing(n: int) -> _Edge:
    return _Edge(np.full(n, np.nan), np.full(n, BAD_NO_DATA, np.uint32))


def _edge(there: Bools, exact: Bools, values: Floats, status: NDArray[Any], samples: Samples, here: Indices) -> _Edge:
    """Raw where a sample stands at the instant itself, estimated elsewhere, nothing where nothing is there."""
    hidden = exact & (here > 0) & (samples.times[np.maximum(here - 1, 0)] == samples.times[here])
    raw = samples.status[here] | np.where(hidden, EXTRA_DATA, 0)
    found = np.where(exact, samples.values[here], values)
    status = np.where(there, np.where(exact, raw, status), BAD_NO_DATA)
    return _Edge(np.where(there, found, np.nan), status.astype(np.uint32))


def _line(samples: Samples, one: Indices, two: Indices, at: Times) -> Floats:
    """Where the line through two samples stands at an instant; the first one's value when they are one."""
    rise = samples.values[two] - samples.values[one]
    run = (samples.times[two] - samples.times[one]).astype(np.float64)
    share = np.divide((at - samples.times[one]).astype(np.float64), run, out=np.zeros(len(at)), where=run != 0)
    found: Floats = samples.values[one] + rise * share
    return found


# -- parts of intervals


@dataclass(frozen=True, slots=True)
class _Spans:
    """Consecutive elements [first, stop) of an array for each interval."""

    first: Indices
    stop: Indices

    @property
    def count(self) -> Indices:
        return self.stop - self.first

    def reduce(self, ufunc: Any, x: NDArray[Any], empty: Any) -> NDArray[Any]:
        """`ufunc` over the elements of each interval."""
        out = np.full(len(self.first), empty, x.dtype)
        some = self.stop > self.first
        if some.any():
            edges = np.column_stack([self.first[some], self.stop[some]]).ravel()
            out[some] = ufunc.reduceat(np.append(x, x[:1]), edges)[::2]
        return out

    def sum(self, x: NDArray[Any]) -> NDArray[Any]:
        return self.reduce(np.add, x, 0)

    def each(self, per_interval: NDArray[Any], n: int) -> NDArray[Any]:
        """A value of each interval at its elements, in an array of `n`; what is in no interval has the first's."""
        out = np.zeros(n, per_interval.dtype)
        out[self.elements()] = np.repeat(per_interval, self.count)
        return out

    def elements(self) -> Indices:
        count = self.count
        found: Indices = np.arange(count.sum()) + np.repeat(self.first - (np.cumsum(count) - count), count)
        return found


def _inside(samples: Samples, given: Intervals) -> _Spans:
    side: Literal["left", "right"] = "right" if given.backward else "left"
    return _Spans(np.searchsorted(samples.times, given.low, side), np.searchsorted(samples.times, given.high, side))


def _out_of_range(extent: Extent, given: Intervals) -> Bools:
    """Intervals before the first sample or after the last."""
    out: Bools = (given.low > extent.last) | (given.high < extent.first)
    return out


def _partial(extent: Extent, given: Intervals) -> NDArray[np.uint32]:
    """The Partial bit of intervals in which data begin or end, or that the request cuts short (5.3.3.2)."""
    first, last = extent.first, extent.last
    begins = (given.low < first) & ((first <= given.high) if given.backward else (first < given.high))
    ends = (last < given.high) & ((given.low < last) if given.backward else (given.low <= last))
    short = (given.high - given.low < given.full) & ~_out_of_range(extent, given)
    return np.where(begins | ends | short, PARTIAL, 0).astype(np.uint32)


@dataclass(frozen=True, slots=True)
class _Regions:
    """Each interval from bound to bound, cut at its samples."""

    spans: _Spans
    """Regions of each interval."""
    start: Floats
    end: Floats
    duration: Floats
    """ns."""
    severity: NDArray[np.uint8]

    def time(self, wanted: Bools) -> Floats:
        """ns of each interval in such regions."""
        found: Floats = self.spans.sum(np.where(wanted, self.duration, 0.0))
        return found

    def integral(self) -> Floats:
        """Of the value over time (ns) where it is not Bad."""
        area = np.where(self.severity < 2, (self.start + self.end) / 2 * self.duration, 0.0)
        found: Floats = self.spans.sum(area)
        return found


@dataclass(frozen=True, slots=True)
class _Points:
    """Start bound, samples strictly inside, end bound of each interval, one after the other."""

    spans: _Spans
    times: Times
    values: Floats
    severity: NDArray[np.uint8]
    status: Codes


def _points(samples: Samples, given: Intervals, start: _Edge, end: _Edge) -> _Points:
    inner = _Spans(
        np.searchsorted(samples.times, given.low, "right"), np.searchsorted(samples.times, given.high, "left")
    )
    count = np.maximum(inner.count, 0)
    stop = np.cumsum(count + 2)
    first = stop - count - 2
    between = np.ones(int(stop[-1]) if len(stop) else 0, np.bool_)
    between[first] = between[stop - 1] = False
    picked = _Spans(inner.first, inner.first + count).elements()

    def woven(edges: tuple[NDArray[Any], NDArray[Any]], inside: NDArray[Any]) -> NDArray[Any]:
        out = np.empty(len(between), inside.dtype)
        out[first], out[stop - 1] = edges
        out[between] = inside[picked]
        return out

    return _Points(
        _Spans(first, stop),
        woven((given.low, given.high), samples.times),
        woven((start.values, end.values), samples.values),
        woven((start.severity, end.severity), samples.severity),
        woven((start.status, end.status), samples.status),
    )


def _simple_points(samples: Samples, given: Intervals, rules: Rules) -> _Points:
    return _points(samples, given, simple(samples, given.low, rules), simple(samples, given.high, rules))


def _regions(samples: Samples, given: Intervals, rules: Rules, points: _Points, *, stepped: bool) -> _Regions:
    """What lies between the points. Not stepped, the status of a region's end is part of its own."""
    spans = _Spans(points.spans.first - np.arange(len(given)), points.spans.stop - np.arange(len(given)) - 1)
    begins = np.ones(len(points.times), np.bool_)
    begins[points.spans.stop - 1] = False
    a = np.flatnonzero(begins)
    b = a + 1
    bad = 1 if rules.uncertain_is_bad else 2
    own, next_ = points.severity[a], points.severity[b]
    severity = np.where(own >= bad, np.uint8(2), own)
    end = points.values[a]
    if not stepped:
        severity = np.where((next_ > 0) & (severity == 0), np.uint8(1), severity)
        end = np.where(next_ < bad, points.values[b], end)
    duration = (points.times[b] - points.times[a]).astype(np.float64)
    # Nothing is known after the last sample: it lasts a millisecond (Annex A: 10001 ms are Good).
    if len(samples):
        lasting = (given.high > samples.times[-1]) & (severity[spans.stop - 1] < 2)
        duration[spans.stop[lasting] - 1] = MILLISECOND
    start = points.values[a]
    known = severity < 2
    return _Regions(spans, np.where(known, start, 0.0), np.where(known, end, 0.0), duration, severity)


def _simple_regions(samples: Samples, given: Intervals, rules: Rules, *, stepped: bool) -> _Regions:
    return _regions(samples, given, rules, _simple_points(samples, given, rules), stepped=stepped)


# -- results


def _processed(times: Times, values: Floats, status: NDArray[Any]) -> Processed:
    """Null where Bad."""
    codes = status.astype(np.uint32)
    return Processed(times, np.where(codes & BAD, np.nan, values), codes)


def _result(
    extent: Extent,
    given: Intervals,
    values: NDArray[Any],
    status: NDArray[Any],
    there: Bools,
    times: Times | None = None,
) -> Processed:
    """Values with their status where they are `there`, Bad_NoData elsewhere; the Partial bit on both."""
    there = there & ~_out_of_range(extent, given)
    status = np.where(there, status, BAD_NO_DATA)
    stamps = given.stamps if times is None else np.where(there, times, given.stamps)
    partial_bit = _partial(extent, given)
    # Part 4 7.39.1: a plain Bad says all there is to say.
    bits = np.where(status == BAD, 0, partial_bit)
    return _processed(stamps, values.astype(np.float64), status | bits)


def _by_share(good: Floats, bad: Floats, total: Floats, rules: Rules) -> NDArray[np.uint32]:
    """Status from the shares of Good and Bad (5.4.3.2.1); Good without any."""
    enough = good * 100 >= rules.percent_good * total
    spoiled = bad * 100 >= rules.percent_bad * total
    status = np.where(enough, GOOD, np.where(spoiled, BAD, UNCERTAIN))
    return np.where(total == 0, GOOD, status).astype(np.uint32)


def _by_count(of: "Totals", rules: Rules) -> NDArray[np.uint32]:
    """Status by counting samples."""
    return _by_share(of.good, of.bad, of.count, rules)


def _by_time(regions: _Regions, rules: Rules) -> NDArray[np.uint32]:
    """Status by duration."""
    good, bad = regions.time(regions.severity == 0), regions.time(regions.severity == 2)
    return _by_share(good, bad, regions.spans.sum(regions.duration), rules)


def _calculated(status: NDArray[Any]) -> NDArray[Any]:
    """With the Calculated bit, which a plain Bad has not."""
    return np.where(status == BAD, status, status | CALCULATED)


def _share(a: NDArray[Any], b: NDArray[Any]) -> Floats:
    """a / b, 0 where b is."""
    found: Floats = np.divide(a, b, out=np.zeros(len(a)), where=b != 0)
    return found


# -- totals


@dataclass(frozen=True, slots=True)
class _Extreme:
    """The least or greatest of some elements of each interval."""

    value: Floats
    at: Indices
    """The first element that has it; any where there is none."""
    number: Floats
    """How many have it."""

    @property
    def several(self) -> Bools:
        return self.number > 1

    @property
    def there(self) -> Bools:
        return self.number > 0


def _extreme(spans: _Spans, values: Floats, wanted: Bools, *, greatest: bool) -> _Extreme:
    sign = -1.0 if greatest else 1.0
    ranked = np.where(wanted, sign * values, np.inf)
    least = spans.reduce(np.minimum, ranked, np.inf)
    n = len(values)
    same = wanted & (ranked == spans.each(least, n))
    at = spans.reduce(np.minimum, np.where(same, np.arange(n), n), n)
    return _Extreme(sign * least, np.where(at < n, at, 0), spans.sum(same.astype(np.float64)))


@dataclass(frozen=True, slots=True)
class Peaks:
    """The least or greatest Good value of each interval."""

    value: Floats
    """Infinite where there is none."""
    time: Times
    """Of the first that has it."""
    number: Floats
    """How many have it."""

    def beside(self, other: "Peaks", *, greatest: bool) -> "Peaks":
        """Of both."""
        sign = -1.0 if greatest else 1.0
        here, there = sign * self.value, sign * other.value
        mine, equal = here < there, (here == there) & (self.number > 0)
        time, number = np.where(mine, self.time, other.time), np.where(mine, self.number, other.number)
        return Peaks(
            np.where(mine, self.value, other.value),
            np.where(equal, np.minimum(self.time, other.time), time),
            np.where(equal, self.number + other.number, number),
        )


@dataclass(frozen=True, slots=True)
class Totals:
    """What of the samples of each interval some aggregates are made of; that of two parts is made of theirs."""

    count: Floats
    good: Floats
    bad: Floats
    sum: Floats
    off: Floats
    """Squared distances of Good values from their mean, summed up."""
    least: Peaks
    most: Peaks

    @property
    def mean(self) -> Floats:
        return _share(self.sum, self.good)

    def skipped(self, rules: Rules) -> Bools:
        """Whether there are samples that cannot be used."""
        unusable = self.count - self.good if rules.uncertain_is_bad else self.bad
        return unusable > 0

    def beside(self, other: "Totals") -> "Totals":
        good = self.good + other.good
        between = (self.mean - other.mean) ** 2 * _share(self.good * other.good, good)
        return Totals(
            self.count + other.count,
            good,
            self.bad + other.bad,
            self.sum + other.sum,
            self.off + other.off + between,
            self.least.beside(other.least, greatest=False),
            self.most.beside(other.most, greatest=True),
        )


def totals(samples: Samples, given: Intervals) -> Totals:
    inside = _inside(samples, given)
    good = inside.sum(samples.good.astype(np.float64))
    sums = inside.sum(np.where(samples.good, samples.values, 0.0))
    off = np.where(samples.good, samples.values - inside.each(_share(sums, good), len(samples)), 0.0)
    return Totals(
        inside.count.astype(np.float64),
        good,
        inside.sum((samples.severity == 2).astype(np.float64)),
        sums,
        inside.sum(off * off),
        _peaks(samples, inside, greatest=False),
        _peaks(samples, inside, greatest=True),
    )


def _peaks(samples: Samples, inside: _Spans, *, greatest: bool) -> Peaks:
    found = _extreme(inside, samples.values, samples.good, greatest=greatest)
    times = samples.times[found.at] if len(samples) else np.zeros(len(found.at), np.int64)
    return Peaks(found.value, times, found.number)


def totals_of_blocks(first: Times, statistics: NDArray[Any], given: Intervals) -> Totals:
    """Totals of whole blocks (`chunks.STATISTICS`) that begin at `first`, in order, each inside one interval."""
    order = np.argsort(given.low, kind="stable")
    edges = given.low[order] + int(given.backward)
    place = np.searchsorted(edges, first, "right") - 1
    rank = np.empty(len(order), np.intp)
    rank[order] = np.arange(len(order))
    spans = _Spans(np.searchsorted(place, rank, "left"), np.searchsorted(place, rank, "right"))
    good, sums = (statistics[name].astype(np.float64) for name in ("good", "sum"))
    mean, bad = _share(sums, good), spans.sum(statistics["bad"].astype(np.float64))
    within = np.maximum(statistics["squares"] - sums * mean, 0.0)
    goods, sum_ = spans.sum(good), spans.sum(sums)
    apart = np.where(good > 0, mean - spans.each(_share(sum_, goods), len(mean)), 0.0)
    return Totals(
        goods + bad + spans.sum(statistics["uncertain"].astype(np.float64)),
        goods,
        bad,
        sum_,
        spans.sum(within + good * apart * apart),
        _peaks_of_blocks(statistics, spans, "minimum", 1.0),
        _peaks_of_blocks(statistics, spans, "maximum", -1.0),
    )


def _peaks_of_blocks(statistics: NDArray[Any], spans: _Spans, name: str, sign: float) -> Peaks:
    there = statistics["good"] > 0
    ranked = np.where(there, sign * statistics[name], np.inf)
    value = spans.reduce(np.minimum, ranked, np.inf)
    same = there & (ranked == spans.each(value, len(ranked)))
    time = spans.reduce(np.minimum, np.where(same, statistics[f"{name}_time"], 2**63 - 1), 2**63 - 1)
    return Peaks(sign * value, time, spans.sum(np.where(same, statistics[f"{name}_count"], 0).astype(np.float64)))


# -- the aggregates (5.4.3.4 to 5.4.3.40)


def interpolative(samples: Samples, given: Intervals, rules: Rules) -> Processed:
    found = interpolated(samples, given.stamps, rules)
    return _processed(given.stamps, found.values, found.status)


def average(of: Totals, _: Extent, given: Intervals, rules: Rules) -> Processed:
    """Mean of the Good samples; never Partial."""
    status = np.where(of.good > 0, _calculated(_by_count(of, rules)), BAD_NO_DATA)
    return _processed(given.stamps, of.mean, status)


def time_average(samples: Samples, given: Intervals, rules: Rules, *, total: bool = False) -> Processed:
    """Mean over time along straight lines between usable samples. `total`: times the length of the interval (s)."""
    lines = Rules(False, rules.uncertain_is_bad, sloped_extrapolation=rules.sloped_extrapolation)
    usable = samples.usable(lines)
    kept = Samples(samples.times[usable], samples.values[usable], samples.status[usable])
    start, end = interpolated(samples, given.low, lines), interpolated(samples, given.high, lines)
    points = _points(kept, given, start, end)
    edges = np.ones(len(points.times), np.bool_)
    edges[points.spans.stop - 1] = False
    a = np.flatnonzero(edges)
    known = points.severity[a] < 2
    duration = np.where(known, points.times[a + 1] - points.times[a], 0).astype(np.float64)
    area = np.where(known, (points.values[a] + points.values[a + 1]) / 2, 0.0) * duration
    spans = _Spans(points.spans.first - np.arange(len(given)), points.spans.stop - np.arange(len(given)) - 1)
    time = spans.sum(duration)
    doubt = _inside(samples, given).sum((samples.severity > 0).astype(np.int64)) > 0
    doubt |= (start.severity > 0) | (end.severity > 0)
    mean = _share(spans.sum(area), time)
    status = np.where(doubt, UNCERTAIN, GOOD) | CALCULATED
    return _result(samples.extent, given, mean * given.seconds if total else mean, status, time > 0)


def time_average2(samples: Samples, given: Intervals, rules: Rules, *, total: bool = False) -> Processed:
    """Mean over time of what is not Bad, between simple bounds. `total`: times the length of the interval (s)."""
    regions = _simple_regions(samples, given, rules, stepped=rules.stepped)
    time = regions.time(regions.severity < 2)
    mean = _share(regions.integral(), time)
    status = _calculated(_by_time(regions, rules))
    return _result(samples.extent, given, mean * given.seconds if total else mean, status, time > 0)


def extreme(
    of: Totals, extent: Extent, given: Intervals, rules: Rules, *, greatest: bool, actual_time: bool = False
) -> Processed:
    """Minimum or Maximum of the Good samples; Uncertain when samples that cannot be used were passed over."""
    found = of.most if greatest else of.least
    status = np.where(of.skipped(rules), UNCERTAIN, GOOD) | np.where(found.number > 1, MULTIPLE_VALUES, 0)
    if not actual_time:
        status = status | np.where(found.time != given.stamps, CALCULATED, 0)
    there = found.number > 0
    values = np.where(there, found.value, 0.0)
    return _result(extent, given, values, status, there, found.time if actual_time else None)


def spread(of: Totals, extent: Extent, given: Intervals, rules: Rules) -> Processed:
    """Range: the greatest Good sample less the least."""
    status = np.where(of.skipped(rules), UNCERTAIN, GOOD) | CALCULATED
    return _result(extent, given, _difference(of.most, of.least), status, of.good > 0)


def _difference(most: "Peaks | _Extreme", least: "Peaks | _Extreme") -> Floats:
    there = least.number > 0
    return np.where(there, most.value, 0.0) - np.where(there, least.value, 0.0)


def extreme2(
    samples: Samples, given: Intervals, rules: Rules, *, greatest: bool, actual_time: bool = False
) -> Processed:
    """Minimum2 or Maximum2: also of the simple bounds; the value at the end of a stepped interval is the next one's."""
    points = _simple_points(samples, given, rules)
    found = _extreme(points.spans, points.values, _ranked(points, rules), greatest=greatest)
    regions = _regions(samples, given, rules, points, stepped=rules.stepped)
    times, chosen = points.times[found.at], points.status[found.at]
    estimated = (chosen & INTERPOLATED) == INTERPOLATED
    status = _by_time(regions, rules) | np.where(estimated, INTERPOLATED, 0)
    status = status | np.where(found.several, MULTIPLE_VALUES, 0)
    if actual_time:
        # The end is no instant of the interval: the last millisecond stands for it (3.1.3).
        last = given.low if given.backward else given.high
        ends = times == last
        status = status | np.where(ends, INTERPOLATED, 0)
        times = np.where(ends, last + (MILLISECOND if given.backward else -MILLISECOND), times)
    else:
        status = status | np.where((times != given.stamps) & ~estimated, CALCULATED, 0)
    return _result(samples.extent, given, found.value, status, found.there, times if actual_time else None)


def _ranked(points: _Points, rules: Rules) -> Bools:
    wanted: Bools = points.severity < (1 if rules.uncertain_is_bad else 2)
    if rules.stepped:
        wanted[points.spans.stop - 1] = False
    return wanted


def spread2(samples: Samples, given: Intervals, rules: Rules) -> Processed:
    """Range2: Maximum2 less Minimum2."""
    points = _simple_points(samples, given, rules)
    wanted = _ranked(points, rules)
    least = _extreme(points.spans, points.values, wanted, greatest=False)
    most = _extreme(points.spans, points.values, wanted, greatest=True)
    status = _calculated(_by_time(_regions(samples, given, rules, points, stepped=rules.stepped), rules))
    return _result(samples.extent, given, _difference(most, least), status, least.there)


def count(of: Totals, extent: Extent, given: Intervals, rules: Rules) -> Processed:
    """Number of Good samples."""
    status = _calculated(_by_count(of, rules))
    return _result(extent, given, of.good, status, np.ones(len(given), np.bool_))


def annotation_count(samples: Samples, given: Intervals, _: Rules) -> Processed:
    """Number of annotations: `samples` are these. Never Partial, never without data."""
    n = _inside(samples, given).count.astype(np.float64)
    return _processed(given.stamps, n, np.full(len(given), GOOD | CALCULATED))


def number_of_transitions(samples: Samples, given: Intervals, rules: Rules) -> Processed:
    """Changes of the value from one usable sample to the next, the last before the interval included."""
    usable = samples.usable(rules)
    index = np.flatnonzero(usable)
    values = samples.values[index]
    changes = np.zeros(len(samples), np.int64)
    changes[index[1:]] = np.diff(values) != 0
    inside = _inside(samples, given)
    status = _calculated(_by_count(totals(samples, given), rules))
    return _result(samples.extent, given, inside.sum(changes), status, np.ones(len(given), np.bool_))


def end_sample(samples: Samples, given: Intervals, _: Rules, *, last: bool) -> Processed:
    """Start or End: the raw sample that is first or last in reading order, of whatever quality."""
    inside = _inside(samples, given)
    there = inside.count > 0
    at = np.where(there, inside.stop - 1 if last != given.backward else inside.first, len(samples))
    values, status = np.append(samples.values, np.nan), np.append(samples.status, np.uint32(BAD_NO_DATA))
    return _result(samples.extent, given, values[at], status[at], there, np.append(samples.times, 0)[at])


def delta(samples: Samples, given: Intervals, _: Rules) -> Processed:
    """The latest Good sample less the earliest; Uncertain when others were passed over on the way to them."""
    inside = _inside(samples, given)
    n = len(samples)
    order = np.arange(n)
    first = inside.reduce(np.minimum, np.where(samples.good, order, n), n)
    last = inside.reduce(np.maximum, np.where(samples.good, order, -1), -1)
    there = last >= 0
    skipped = (first > inside.first) | (last < inside.stop - 1)
    status = np.where(skipped, UNCERTAIN, GOOD) | CALCULATED
    values = np.append(samples.values, np.nan)
    return _result(
        samples.extent, given, values[np.where(there, last, n)] - values[np.minimum(first, n)], status, there
    )


def bound(samples: Samples, given: Intervals, rules: Rules, *, end: bool) -> Processed:
    """StartBound or EndBound: the simple bound, where the interval begins or ends in reading order."""
    found = simple(samples, given.low if end == given.backward else given.high, rules)
    status = found.status | CALCULATED if end else found.status
    return _result(samples.extent, given, found.values, status, found.severity < 2)


def delta_bounds(samples: Samples, given: Intervals, rules: Rules) -> Processed:
    """The later simple bound less the earlier."""
    start, end = simple(samples, given.low, rules), simple(samples, given.high, rules)
    worst = np.maximum(start.severity, end.severity)
    status = np.where(worst > 0, UNCERTAIN, GOOD) | CALCULATED
    return _result(samples.extent, given, end.values - start.values, status, worst < 2)


def duration(samples: Samples, given: Intervals, rules: Rules, *, bad: bool, percent: bool = False) -> Processed:
    """DurationGood or DurationBad (ms), or PercentGood or PercentBad of the interval."""
    regions = _simple_regions(samples, given, rules, stepped=True)
    time = regions.time(regions.severity == 2 if bad else regions.severity == 0)
    values = 100 * time / (given.high - given.low) if percent else time / MILLISECOND
    there = np.ones(len(given), np.bool_)
    return _result(samples.extent, given, values, np.full(len(given), GOOD | CALCULATED), there)


def duration_in_state(samples: Samples, given: Intervals, rules: Rules, *, zero: bool) -> Processed:
    """DurationInStateZero or DurationInStateNonZero (ms) of what is Good."""
    regions = _simple_regions(samples, given, rules, stepped=True)
    time = regions.time((regions.severity == 0) & ((regions.start == 0) == zero))
    status = _calculated(_by_time(regions, rules))
    return _result(samples.extent, given, time / MILLISECOND, status, np.ones(len(given), np.bool_))


def worst_quality(samples: Samples, given: Intervals, rules: Rules, *, bounds: bool) -> Processed:
    """WorstQuality or, with simple bounds, WorstQuality2: a StatusCode as the value; the first of the worst."""
    if bounds:
        points = _simple_points(samples, given, rules)
        spans, severity, status = points.spans, points.severity, points.status
    else:
        spans, severity, status = _inside(samples, given), _severity(samples.status), samples.status
    found = _extreme(spans, severity.astype(np.float64), np.ones(len(severity), np.bool_), greatest=True)
    worst = (status[found.at] if len(status) else np.zeros(len(given), np.uint32)) & 0xFFFF0000
    several = np.where(found.several & (found.value > 0), MULTIPLE_VALUES, 0)
    return _result(samples.extent, given, worst, GOOD | CALCULATED | several, found.there)


def variance(of: Totals, extent: Extent, given: Intervals, _: Rules, *, sample: bool, root: bool = False) -> Processed:
    """Variance of the Good samples, of a sample (n - 1) or a population (n); `root`: their standard deviation."""
    found = _share(of.off, np.maximum(of.good - 1, 1) if sample else of.good)
    status = np.where(of.good < of.count, UNCERTAIN, GOOD) | CALCULATED
    return _result(extent, given, np.sqrt(found) if root else found, status, of.good > 0)


Function = Callable[[Samples, Intervals, Rules], Processed]


OfTotals = Callable[[Totals, Extent, Intervals, Rules], Processed]


@dataclass(frozen=True, slots=True)
class Aggregate:
    """A row: how it is calculated, and what its values are."""

    function: Function
    data_type: str = "Double"
    """Built-in type of the result; empty: that of the variable."""
    of_totals: OfTotals | None = None
    """The same of totals, where these are enough: then no sample of a whole block is read."""


def _of_totals(made: OfTotals, data_type: str = "Double") -> Aggregate:
    return Aggregate(lambda s, i, r: made(totals(s, i), s.extent, i, r), data_type, made)


SOURCE, INTEGER, STATUS_CODE = "", "Int32", "StatusCode"

AGGREGATES: Mapping[str, Aggregate] = {
    "Interpolative": Aggregate(interpolative, SOURCE),
    "Average": _of_totals(average),
    "TimeAverage": Aggregate(time_average),
    "TimeAverage2": Aggregate(time_average2),
    "Total": Aggregate(partial(time_average, total=True)),
    "Total2": Aggregate(partial(time_average2, total=True)),
    "Minimum": _of_totals(partial(extreme, greatest=False), SOURCE),
    "Maximum": _of_totals(partial(extreme, greatest=True), SOURCE),
    "MinimumActualTime": _of_totals(partial(extreme, greatest=False, actual_time=True), SOURCE),
    "MaximumActualTime": _of_totals(partial(extreme, greatest=True, actual_time=True), SOURCE),
    "Range": _of_totals(spread, SOURCE),
    "Minimum2": Aggregate(partial(extreme2, greatest=False), SOURCE),
    "Maximum2": Aggregate(partial(extreme2, greatest=True), SOURCE),
    "MinimumActualTime2": Aggregate(partial(extreme2, greatest=False, actual_time=True), SOURCE),
    "MaximumActualTime2": Aggregate(partial(extreme2, greatest=True, actual_time=True), SOURCE),
    "Range2": Aggregate(spread2, SOURCE),
    "AnnotationCount": Aggregate(annotation_count, INTEGER),
    "Count": _of_totals(count, INTEGER),
    "DurationInStateZero": Aggregate(partial(duration_in_state, zero=True)),
    "DurationInStateNonZero": Aggregate(partial(duration_in_state, zero=False)),
    "NumberOfTransitions": Aggregate(number_of_transitions, INTEGER),
    "Start": Aggregate(partial(end_sample, last=False), SOURCE),
    "End": Aggregate(partial(end_sample, last=True), SOURCE),
    "Delta": Aggregate(delta, SOURCE),
    "StartBound": Aggregate(partial(bound, end=False), SOURCE),
    "EndBound": Aggregate(partial(bound, end=True), SOURCE),
    "DeltaBounds": Aggregate(delta_bounds, SOURCE),
    "DurationGood": Aggregate(partial(duration, bad=False)),
    "DurationBad": Aggregate(partial(duration, bad=True)),
    "PercentGood": Aggregate(partial(duration, bad=False, percent=True)),
    "PercentBad": Aggregate(partial(duration, bad=True, percent=True)),
    "WorstQuality": Aggregate(partial(worst_quality, bounds=False), STATUS_CODE),
    "WorstQuality2": Aggregate(partial(worst_quality, bounds=True), STATUS_CODE),
    "StandardDeviationSample": _of_totals(partial(variance, sample=True, root=True)),
    "VarianceSample": _of_totals(partial(variance, sample=True)),
    "StandardDeviationPopulation": _of_totals(partial(variance, sample=False, root=True)),
    "VariancePopulation": _of_totals(partial(variance, sample=False)),
}
"""Browse name of the AggregateFunction object (Part 13 table 5) -> how it is calculated."""
