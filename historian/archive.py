"""History as clients ask for it: recorded values with corrections above them, aggregates, values at instants.

Everything of one question is read in one transaction, in a reader's thread: it sees one committed state.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from historian import aggregates, corrections
from historian.aggregates import AGGREGATES, Intervals, Processed, Samples
from historian.ahead import Ahead, Range
from historian.chunks import HOUR
from historian.query import Reader
from nodesets.errors import NotFound, OutOfRange
from nodesets.model import AggregateRules
from nodesets.ports import Annotation, Clock, Modified, Position, Series

FIRST: Final = -(2**63)
LAST: Final = 2**63 - 1
"""Times there are, ns UTC."""

AT_ONCE: Final = 1_000_000
"""Values held while aggregates are calculated, beside those of a single interval."""

MOST: Final = 20_000_000
"""Values of a single interval: an aggregate that needs each of them holds no more (H34)."""

TOGETHER: Final = 512
"""Intervals calculated from whole blocks at once: of each, two blocks at most are no whole ones."""

NEAR: Final = 256
"""Values read in one go around an instant."""

FAR: Final = 4_096
"""Values a bound is looked for among: beyond so many Bad ones in a row there is none (Part 11 4.6)."""


class Archive:
    """Reading half of `ports.Archive`."""

    def __init__(self, reader: Reader, clock: Clock) -> None:
        self._reader = reader
        self._clock = clock
        self._ahead = Ahead(self._pages, lambda: reader.idle, clock)

    async def read_raw(
        self, tag: str, start: int | None, end: int | None, limit: int, after: Position | None = None
    ) -> Series:
        """`Reader.read_raw` with corrections in place of what they correct, and marks of what there is more of.

        Raises NotFound, StorageError.
        """
        return await self._ahead.page(Range(tag, start, end, limit, after))

    async def read_modified(
        self, tag: str, start: int | None, end: int | None, limit: int, after: Position | None = None
    ) -> Modified:
        return await self._reader.read(
            lambda connection: corrections.modified(connection, tag, start, end, limit, after)
        )

    async def read_at(
        self, tag: str, times: NDArray[np.int64], rules: AggregateRules, *, use_simple_bounds: bool
    ) -> Series:
        def query(connection: Connection) -> Series:
            ascending, order = np.unique(times, return_inverse=True)
            parts = list(self._at(connection, tag, ascending, rules, use_simple_bounds))
            values, status = (np.concatenate([part[i] for part in parts])[order] for i in range(2))
            return Series(times, times, values, status, None)

        return await self._reader.read(query)

    async def read_processed(
        self, tag: str, aggregate: str, over: tuple[int, int, int], page: tuple[int, int], rules: AggregateRules
    ) -> Series:
        """Raises KeyError for an aggregate there is not, ValueError for intervals that are none."""
        row = AGGREGATES[aggregate]
        wanted = aggregates.intervals(*over, first=page[0], most=page[1])

        def query(connection: Connection) -> Series:
            if row.function is aggregates.annotation_count:
                found = row.function(self._noted(connection, tag, wanted), wanted, rules)
            elif row.of_totals is not None and wanted.full >= HOUR and not corrections.corrected(connection, tag):
                found = _joined(list(self._summed(connection, tag, row, wanted, rules)), wanted)
            else:
                found = _joined(list(self._processed(connection, tag, row.function, wanted, rules)), wanted)
            return Series(found.times, found.times, found.values, found.status, None)

        return await self._reader.read(query)

    async def read_annotations(
        self, tag: str, start: int | None, end: int | None, limit: int, after: Position | None = None
    ) -> tuple[Sequence[Annotation], Position | None]:
        return await self._reader.read(
            lambda connection: corrections.annotations(connection, tag, start, end, limit, after)
        )

    # -- one page

    async def _pages(self, asked: Range, most: int) -> Sequence[Series]:
        """A page and those after it, at most `most`; of a corrected tag one."""

        def query(connection: Connection) -> Sequence[Series]:
            if corrections.corrected(connection, asked.tag):
                pages = [self.page(connection, *asked)]
            else:
                pages = self._reader.first_pages(connection, *asked, most)
            if corrections.noted(connection, asked.tag):
                return [corrections.with_notes(connection, asked.tag, page) for page in pages]
            return pages

        return await self._reader.read(query)

    def page(
        self,
        connection: Connection,
        tag: str,
        start: int | None,
        end: int | None,
        limit: int,
        after: Position | None = None,
    ) -> Series:
        """`read_raw` within a query."""
        if not corrections.corrected(connection, tag):
            return self._reader.page(connection, tag, start, end, limit, after)
        base = self._recorded(connection, tag, start, end, limit, after)
        forward = start is not None and (end is None or start <= end)
        first, last = _window(start, end, after, forward, base)
        above = corrections.marks(connection, tag, first, last, forward, limit + 1)
        fresh = above.series
        if after is not None:  # what stands where the page before ended was shown by it, and still hides
            fresh = _taken(fresh, fresh.times != after[0])
        shown = np.flatnonzero(~np.isin(base.times, above.times) & _up_to(base, above, forward))
        together, places = corrections.merged(_taken(base, shown), fresh, forward)
        page, edge = _taken(together, slice(limit)), LAST if forward else FIRST
        if len(together.times) <= limit:
            return replace(page, more=(int(above.times[-1]), edge) if above.cut else base.more)
        ended = int(shown[places[limit - 1]]) + 1 if places[limit - 1] < len(shown) else 0
        if ended == 0 or (ended == len(base.times) and base.more is None):
            return replace(page, more=(int(page.times[-1]), edge))  # nothing recorded at that time is left
        return replace(page, more=self._reader.page(connection, tag, start, end, ended, after).more)

    def _recorded(
        self,
        connection: Connection,
        tag: str,
        start: int | None,
        end: int | None,
        limit: int,
        after: Position | None,
    ) -> Series:
        """Nothing for a tag that has corrections alone."""
        try:
            return self._reader.page(connection, tag, start, end, limit, after)
        except NotFound:
            none = np.empty(0, np.int64)
            return Series(none, none, np.empty(0), np.empty(0, np.uint32), None)

    # -- samples

    def _samples(self, connection: Connection, tag: str, low: int, high: int, rules: AggregateRules) -> Samples:
        """Every value with low <= time <= high, and the neighbours bounds rest on."""
        return _samples(self._around(connection, tag, low, high, rules))

    def _around(self, connection: Connection, tag: str, low: int, high: int, rules: AggregateRules) -> list[Series]:
        """`_samples` as they are recorded."""
        before, behind = self._before(connection, tag, low, rules), self._behind(connection, tag, high, rules)
        return [before, *self._all(connection, tag, low, high), behind]

    def _all(self, connection: Connection, tag: str, low: int, high: int) -> Iterator[Series]:
        after, count = None, 0
        while True:
            page = self.page(connection, tag, low, high + 1, AT_ONCE, after)
            yield page
            after, count = page.more, count + len(page.times)
            if after is None:
                return
            if count > MOST:
                raise OutOfRange(f"more than {MOST} values of {tag} in one interval")

    def _before(self, connection: Connection, tag: str, time: int, rules: AggregateRules) -> Series:
        """The last values before `time` to and with two usable ones of two instants."""
        for most in (4, 64, FAR):
            page = self.page(connection, tag, None, time - 1, most)
            usable = _samples([page]).usable(rules)
            if page.more is None or len(np.unique(page.times[usable])) >= 2:
                break
        return _taken(page, slice(None, None, -1))

    def _behind(self, connection: Connection, tag: str, time: int, rules: AggregateRules) -> Series:
        """The first values after `time` to and with a usable one."""
        for most in (2, 64, FAR):
            page = self.page(connection, tag, time + 1, None, most)
            if page.more is None or _samples([page]).usable(rules).any():
                break
        return page

    def _at(
        self, connection: Connection, tag: str, times: NDArray[np.int64], rules: AggregateRules, simple: bool
    ) -> Iterator[tuple[NDArray[Any], NDArray[np.uint32]]]:
        """Values at ascending instants and their status: as many at once as lie within one short read."""
        done = 0
        while done < len(times):
            first = int(times[done])
            near = self.page(connection, tag, first, None, NEAR)
            last = int(near.times[-1]) if near.more is not None else LAST
            here = max(done + 1, int(np.searchsorted(times, last, "left")))
            part = times[done:here]
            given = self._around(connection, tag, int(part[0]), int(part[-1]), rules)
            yield _at_times(given, part, rules, simple)
            done = here

    def _processed(
        self, connection: Connection, tag: str, function: aggregates.Function, wanted: Intervals, rules: AggregateRules
    ) -> Iterator[tuple[NDArray[np.intp], Processed]]:
        """Results with their places, for as many intervals at once as there is room for their samples."""
        order = np.argsort(wanted.low, kind="stable")
        done = 0
        while done < len(order):
            low = int(wanted.low[order[done]])
            head = self.page(connection, tag, low, int(wanted.high[order[-1]]) + 1, AT_ONCE)
            reach = int(head.times[-1]) if head.more is not None else LAST
            here = max(done + 1, int(np.searchsorted(wanted.high[order], reach, "left")))
            places = order[done:here]
            some = Intervals(wanted.low[places], wanted.high[places], wanted.backward, wanted.full)
            given = self._samples(connection, tag, int(some.low[0]), int(some.high[-1]), rules)
            yield places, function(given, some, rules)
            done = here

    def _summed(
        self, connection: Connection, tag: str, row: aggregates.Aggregate, wanted: Intervals, rules: AggregateRules
    ) -> Iterator[tuple[NDArray[np.intp], Processed]]:
        """`_processed` of an aggregate for which the statistics of whole blocks are enough."""
        order = np.argsort(wanted.low, kind="stable")
        for done in range(0, len(order), TOGETHER):
            places = order[done : done + TOGETHER]
            some = Intervals(wanted.low[places], wanted.high[places], wanted.backward, wanted.full)
            found = self._of_blocks(connection, tag, row, some, rules)
            if found is None:
                yield from _placed(places, self._processed(connection, tag, row.function, some, rules))
            else:
                yield places, found

    def _of_blocks(
        self, connection: Connection, tag: str, row: aggregates.Aggregate, some: Intervals, rules: AggregateRules
    ) -> Processed | None:
        """None when a block has infinite values, which aggregates leave out and its statistics do not."""
        low, high, shift = int(some.low[0]), int(some.high[-1]), int(some.backward)
        edges = np.append(some.low, high) + shift
        summary = self._reader.summary(connection, tag, low + shift, high + shift, edges)
        statistics = summary.statistics
        if row.of_totals is None or not np.isfinite(statistics["squares"]).all():
            return None
        loose = _samples([summary.loose])
        of = aggregates.totals(loose, some)
        if len(statistics):
            of = of.beside(aggregates.totals_of_blocks(summary.first_time, statistics, some))
        beside = [self._reader.page(connection, tag, None, low, 1), self._reader.page(connection, tag, high, None, 1)]
        times = np.concatenate([loose.times, summary.first_time, summary.last_time, *(p.times for p in beside)])
        extent = aggregates.Extent(int(times.min()), int(times.max())) if len(times) else aggregates.NOTHING
        return row.of_totals(of, extent, some, rules)

    def _noted(self, connection: Connection, tag: str, wanted: Intervals) -> Samples:
        """Annotations as samples."""
        low, high = int(wanted.low.min()), int(wanted.high.max())
        found, after = list[int](), None
        while True:
            notes, after = corrections.annotations(connection, tag, low, high + 1, FAR, after)
            found += [note.time for note in notes]
            if after is None:
                break
        times = np.array(found, np.int64)
        return Samples(times, np.zeros(len(times)), np.zeros(len(times), np.uint32))


def _window(start: int | None, end: int | None, after: Position | None, forward: bool, base: Series) -> tuple[int, int]:
    """Times a page can reach over: no further than its last recorded value when there are more."""
    reach = int(base.times[-1]) if base.more is not None else None
    low = end + 1 if start is not None and end is not None else FIRST
    high = start if start is not None else LAST if end is None else end
    if forward:
        low, high = high, LAST if end is None else end if start == end else end - 1
    if forward:
        return low if after is None else max(low, after[0]), high if reach is None else min(high, reach)
    return low if reach is None else max(low, reach), high if after is None else min(high, after[0])


def _up_to(base: Series, above: corrections.Marks, forward: bool) -> NDArray[np.bool_]:
    """Recorded values no further than the corrections are known."""
    if not above.cut:
        return np.ones(len(base.times), np.bool_)
    edge = above.times[-1]
    found: NDArray[np.bool_] = base.times <= edge if forward else base.times >= edge
    return found


def _taken(series: Series, which: Any) -> Series:
    return Series(series.times[which], series.received[which], series.values[which], series.status[which], None)


def _samples(parts: Sequence[Series]) -> Samples:
    """Numbers to calculate with; of a text nothing but its status counts."""
    values = [np.zeros(len(p.values)) if p.values.dtype.kind == "O" else p.values.astype(np.float64) for p in parts]
    return Samples(
        np.concatenate([p.times for p in parts]), np.concatenate(values), np.concatenate([p.status for p in parts])
    )


def _at_times(
    given: Sequence[Series], at: NDArray[np.int64], rules: AggregateRules, simple: bool
) -> tuple[NDArray[Any], NDArray[np.uint32]]:
    """Values at instants and their status; a text holds until the next one, whatever the rules say."""
    samples = _samples(given)
    if not any(part.values.dtype.kind == "O" for part in given):
        found = aggregates.at_times(samples, at, rules, use_simple_bounds=simple)
        return found.values, found.status
    places = replace(samples, values=np.arange(len(samples.times), dtype=np.float64))
    found = aggregates.at_times(places, at, replace(rules, stepped=True), use_simple_bounds=simple)
    texts = np.concatenate([*(part.values.astype(object) for part in given), np.array([None], object)])
    return texts[np.where(np.isfinite(found.values), found.values, -1).astype(np.intp)], found.status


def _placed(
    places: NDArray[np.intp], parts: Iterator[tuple[NDArray[np.intp], Processed]]
) -> Iterator[tuple[NDArray[np.intp], Processed]]:
    """Parts of some intervals at their places among all."""
    for within, part in parts:
        yield places[within], part


def _joined(parts: Sequence[tuple[NDArray[np.intp], Processed]], wanted: Intervals) -> Processed:
    found = Processed(np.empty(len(wanted), np.int64), np.empty(len(wanted)), np.empty(len(wanted), np.uint32))
    for places, part in parts:
        found.times[places], found.values[places], found.status[places] = part.times, part.values, part.status
    return found
