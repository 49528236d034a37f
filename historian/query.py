"""Recorded values read back: numpy arrays of whole pages, from connections that cannot write.

A value is in a sealed block or in a frame, never in both: a read sees one committed state, and sealing is one commit.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from threading import Lock
from typing import Any, Final, NamedTuple, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Engine, Integer, Select, bindparam, case, func, select, tuple_
from sqlalchemy.exc import DBAPIError

from historian import frames
from historian.chunks import STATISTICS, Cells, Codes, Kind, Times, decode_clock, decode_column
from historian.frames import CELL_SIZE, STATUS_SIZE
from historian.schema import block, frame, layout, text
from nodesets.errors import NotFound, StorageError
from nodesets.ports import Series

T = TypeVar("T")

THREADS: Final = 4
"""Reads at a time: 10 clients reading 50 years wait for one another, not the event loop for them (H34)."""

CACHED: Final = 512
"""Decoded columns and clocks of blocks that are kept, at most 100 KB each: a page seldom ends where a block does, and
the tags of a device share their clock."""

PAGE: Final = 100_000
"""Values that are computed with at a time."""

FIRST: Final = -(2**63)
LAST: Final = 2**63 - 1
"""Times there are, ns UTC."""

Position = tuple[int, int]
"""(source time, frame number) of a value: where a page ended."""


class _Place(NamedTuple):
    """Where a tag's values stand: column `column` of a layout."""

    layout: int
    column: int
    kind: Kind


class _Window(NamedTuple):
    """What is asked for: first <= time <= last, and beyond `after` in the direction of reading."""

    first: int
    last: int
    forward: bool
    after: Position | None = None

    @classmethod
    def of(cls, start: int | None, end: int | None, after: Position | None = None) -> Self:
        if start is None:
            first, last, forward = FIRST, LAST if end is None else end, False
        elif end is None or start == end:
            first, last, forward = start, LAST if end is None else end, True
        elif start < end:
            first, last, forward = start, end - 1, True
        else:
            first, last, forward = end + 1, start, False
        if after is not None:
            first, last = (max(first, after[0]), last) if forward else (first, min(last, after[0]))
        return cls(max(first, FIRST), min(last, LAST), forward, after)

    def to(self, time: int) -> "_Window":
        """The same, but no further than `time`."""
        return self._replace(last=min(self.last, time)) if self.forward else self._replace(first=max(self.first, time))

    def part(self, times: Times, numbers: Times) -> slice:
        """Which of these values, in order of position, lie in it."""
        low, high = np.searchsorted(times, self.first, "left"), np.searchsorted(times, self.last, "right")
        if self.after is not None:
            time, number = self.after
            begin, end = np.searchsorted(times, time, "left"), np.searchsorted(times, time, "right")
            place = begin + np.searchsorted(numbers[begin:end], number, "right" if self.forward else "left")
            low, high = (max(low, place), high) if self.forward else (low, min(high, place))
        return slice(int(low), int(max(low, high)))


class _Values(NamedTuple):
    """Values of a tag as they are stored."""

    times: Times
    received: Times
    numbers: Times
    cells: Cells
    status: Codes

    def part(self, chosen: Any) -> "_Values":
        return _Values(*(array[chosen] for array in self))


_NO_TIMES = np.empty(0, np.int64)
_NONE = _Values(_NO_TIMES, _NO_TIMES, _NO_TIMES, np.empty(0, np.uint64), np.empty(0, np.uint32))


@dataclass(frozen=True, slots=True)
class Summary:
    """Values of one tag in a range: the whole blocks in it by their statistics, and every other value."""

    first_time: Times
    last_time: Times
    """Source times a block reaches from and to, ns UTC, shape (b,), in order; no other value lies between."""
    statistics: NDArray[Any]
    """`chunks.STATISTICS`, shape (b,)."""
    loose: Series
    """The values outside these blocks, in order of time."""


class Reader:
    """History behind `ports.History`. `database` is an engine of `historian.schema.reading`."""

    def __init__(self, database: Engine) -> None:
        self._database = database
        self._threads = ThreadPoolExecutor(THREADS, "historian-reader")
        self._under_way = 0
        self._lock = Lock()
        self._places: dict[str, list[_Place]] = {}
        self._newest_layout = 0
        self._cache: OrderedDict[tuple[int, int], tuple[NDArray[Any], ...]] = OrderedDict()

    def close(self) -> None:
        """Wait for the reads under way and close the connections."""
        self._threads.shutdown()
        self._database.dispose()

    async def read(self, query: Callable[[Connection], T]) -> T:
        """Run `query` on a reading connection, in a thread; it sees one committed state. Raises StorageError."""
        self._under_way += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._read, query)
        finally:
            self._under_way -= 1

    @property
    def idle(self) -> bool:
        """Most of the threads have nothing to do."""
        return self._under_way < THREADS // 2

    async def read_raw(
        self, tag: str, start: int | None, end: int | None, limit: int, after: Position | None = None
    ) -> Series:
        """At most `limit` values of a tag (Part 11 6.5.3.2), values of one instant in order of recording.

            start < end    start <= time < end, forward
            start = end    time = start
            start > end    end < time <= start, backward
            start alone    start <= time, forward
            end alone      time <= end, backward
            neither        everything, backward

        `after` is `Series.more` of the page before. What is recorded or sealed between two pages neither doubles nor
        hides what was there; it is seen when it lies ahead.
        Raises NotFound, StorageError, ValueError for a limit below 1.
        """
        if limit < 1:
            raise ValueError(f"limit {limit}")
        return await self.read(lambda connection: self.page(connection, tag, start, end, limit, after))

    def page(
        self,
        connection: Connection,
        tag: str,
        start: int | None,
        end: int | None,
        limit: int,
        after: Position | None = None,
    ) -> Series:
        """`read_raw` within a query of `read`."""
        [page] = self.first_pages(connection, tag, start, end, limit, after, 1)
        return page

    def first_pages(
        self,
        connection: Connection,
        tag: str,
        start: int | None,
        end: int | None,
        limit: int,
        after: Position | None,
        most: int,
    ) -> list[Series]:
        """The first pages of a range, one at least and `most` at most."""
        places = self._locate(connection, tag)
        window = _Window.of(start, end, after)
        parts = [part for place in places for part in self._first(connection, place, window, most * limit + 1)]
        values = _ordered(parts if window.forward else parts[::-1], window.forward)
        decoded = _decoded(connection, places[0].kind, values.cells)
        ends = range(limit, min(len(values.times) - 1, most * limit) + 1, limit)
        pages = [_page(values, decoded, slice(end - limit, end), more=True) for end in ends]
        if len(pages) < most:
            pages.append(_page(values, decoded, slice(limit * len(pages), None), more=False))
        return pages

    def pages(self, connection: Connection, tag: str, start: int, end: int, limit: int = PAGE) -> Iterator[Series]:
        """All values with start <= time < end, in order, at most `limit` at a time; within a query of `read`."""
        after = None
        while True:
            series = self.page(connection, tag, start, end, limit, after)
            after = series.more
            yield series
            if after is None:
                return

    async def read_summary(self, tag: str, start: int, end: int, edges: Times) -> Summary:
        """The values with start <= time < end. A block that reaches over one of `edges` (ns, ascending) is not whole.

        Takes memory for every value outside whole blocks. Raises NotFound, StorageError.
        """
        return await self.read(lambda connection: self.summary(connection, tag, start, end, edges))

    def summary(self, connection: Connection, tag: str, start: int, end: int, edges: Times) -> Summary:
        """`read_summary` within a query of `read`."""
        places = self._locate(connection, tag)
        window = _Window(start, end - 1, True)
        live = [self._frames(connection, place, window, None) for place in places]
        times = np.sort(np.concatenate([part.times for part in live]))
        found = [row for place in places for row in _statistics(connection, place, window)]
        found.sort(key=lambda row: row[1])
        first, last = (np.array([row[i] for row in found], np.int64) for i in (1, 2))
        whole = (first >= start) & (last < end)
        whole &= np.searchsorted(edges, first, "right") == np.searchsorted(edges, last, "right")
        whole &= np.searchsorted(times, first, "left") == np.searchsorted(times, last, "right")
        apart = last[:-1] < first[1:]  # two layouts may have had the tag at one time
        whole[:-1] &= apart
        whole[1:] &= apart
        rest = {row[0] for row, is_whole in zip(found, whole.tolist(), strict=True) if not is_whole}
        if rest:
            live += [part for place in places for part in self._blocks(connection, place, window, rest)]
        statistics = np.frombuffer(b"".join(row[3] for row in found), STATISTICS)
        values = _ordered(live, forward=True)
        loose = _page(values, _decoded(connection, places[0].kind, values.cells), slice(None), more=False)
        return Summary(first[whole], last[whole], statistics[whole], loose)

    async def begins(self) -> dict[str, int]:
        """Since when there are values of each tag that has some, ns UTC. As quick as there are few layouts."""
        return await self.read(self._begins)

    def _begins(self, connection: Connection) -> dict[str, int]:
        begun: dict[int, int] = {}
        for number in connection.execute(select(layout.c.id)).scalars().all():
            firsts = (func.min(block.c.first_time), block), (func.min(frame.c.source_time), frame)
            asked = (select(first).where(table.c.layout == number) for first, table in firsts)
            times = [time for query in asked if (time := connection.execute(query).scalar()) is not None]
            if times:
                begun[number] = min(times)
        self._learn(connection)
        return {
            tag: min(times)
            for tag, places in list(self._places.items())
            if (times := [begun[place.layout] for place in _of_one_kind(places) if place.layout in begun])
        }

    def _read(self, query: Callable[[Connection], T]) -> T:
        try:
            with self._database.connect() as connection, connection.begin():
                return query(connection)
        except DBAPIError as error:
            raise StorageError(str(error.orig)) from error

    def _locate(self, connection: Connection, tag: str) -> list[_Place]:
        """Every place a tag's values stand. Raises NotFound."""
        self._learn(connection)
        places = self._places.get(tag)
        if not places:
            raise NotFound(tag)
        return _of_one_kind(places)

    def _learn(self, connection: Connection) -> None:
        """Take in the places of layouts made since the last look."""
        with self._lock:
            for made in connection.execute(_NEW_LAYOUTS, {"newest": self._newest_layout}):
                for number, column in enumerate(frames.columns(made.columns)):
                    self._places.setdefault(column.tag, []).append(_Place(made.id, number, column.kind))
                self._newest_layout = made.id

    def _first(self, connection: Connection, place: _Place, window: _Window, most: int) -> Iterator[_Values]:
        """Values of one place that hold its first `most` in the window."""
        count = 0
        for part in self._blocks(connection, place, window):
            yield part
            count += len(part.times)
            if count >= most:
                # behind it in the direction of reading, no frame can be among the first
                window = window.to(int(part.times[-1 if window.forward else 0]))
                break
        yield self._frames(connection, place, window, most)

    def _blocks(
        self, connection: Connection, place: _Place, window: _Window, only: set[int] | None = None
    ) -> Iterator[_Values]:
        """The values of one place in each of its blocks, or in those of `only`."""
        query = _BLOCKS_FORWARD if window.forward else _BLOCKS_BACKWARD
        asked = {"layout": place.layout, "time": window.first if window.forward else window.last}
        with connection.execute(query, asked) as rows:
            for number, first, last, size, clock, columns in rows:
                if first > window.last or last < window.first:
                    return
                if only is not None and number not in only:
                    continue
                times, received, numbers = self._cached((number, -1), decode_clock, clock, size)
                chosen = window.part(times, numbers)
                if chosen.start < chosen.stop:
                    wanted = (columns, place.column, place.kind, size)
                    cells, status = self._cached((number, place.column), decode_column, *wanted)
                    yield _Values(times, received, numbers, cells, status).part(chosen)

    def _frames(self, connection: Connection, place: _Place, window: _Window, most: int | None) -> _Values:
        """The first values of one place in frames."""
        if window.first > window.last:
            return _NONE
        query = _frames(window.forward, window.after is not None)
        asked = {
            "layout": place.layout,
            "first": window.first,
            "last": window.last,
            "most": most or LAST,
            "cell": 1 + CELL_SIZE * place.column,
            "code": 1 + STATUS_SIZE * place.column,
        }
        if window.after is not None:
            asked |= {"time": window.after[0], "number": window.after[1]}
        rows = connection.execute(query, asked).all()
        if not rows:
            return _NONE
        times, numbers, received, samples, status = zip(*(rows if window.forward else rows[::-1]), strict=True)
        return _Values(
            times=np.array(times, np.int64),
            received=np.array(received, np.int64),
            numbers=np.array(numbers, np.int64),
            cells=frames.cells(samples),
            status=frames.codes(status),
        )

    def _cached(
        self, key: tuple[int, int], decode: Callable[..., tuple[NDArray[Any], ...]], *encoded: Any
    ) -> tuple[NDArray[Any], ...]:
        """A part of a block, decoded once; a block of one number is never another one."""
        with self._lock:
            if key in self._cache:
                self._cache.move_to_end(key)
                return self._cache[key]
        made = decode(*encoded)
        with self._lock:
            self._cache[key] = made
            if len(self._cache) > CACHED:
                self._cache.popitem(last=False)
        return made


def last_received(tx: Connection) -> int:
    """When the newest frame was received, ns UTC; 0 when there is none."""
    newest = 0
    for number in tx.execute(select(layout.c.id)).scalars():
        of_layout = select(frame.c.received_time).where(frame.c.layout == number)
        in_order = of_layout.where(frame.c.late == 0).order_by(frame.c.source_time.desc(), frame.c.id.desc())
        late = of_layout.where(frame.c.late == 1).order_by(frame.c.id.desc())
        sealed = select(block.c.clock, block.c.size).where(block.c.layout == number).order_by(block.c.last_time.desc())
        live = [time for query in (in_order, late) if (time := tx.execute(query.limit(1)).scalar()) is not None]
        if not live and (last := tx.execute(sealed.limit(1)).first()) is not None:
            live = [int(decode_clock(last.clock, last.size)[1].max())]
        newest = max(newest, *live, 0)
    return newest


_NEW_LAYOUTS = select(layout).where(layout.c.id > bindparam("newest")).order_by(layout.c.id)
_WHOLE = select(block.c.id, block.c.first_time, block.c.last_time, block.c.size, block.c.clock, block.c.columns).where(
    block.c.layout == bindparam("layout")
)
_BLOCKS_FORWARD = _WHOLE.where(block.c.last_time >= bindparam("time")).order_by(block.c.last_time, block.c.id)
_BLOCKS_BACKWARD = _WHOLE.where(block.c.first_time <= bindparam("time")).order_by(
    block.c.first_time.desc(), block.c.id.desc()
)


def _statistics(connection: Connection, place: _Place, window: _Window) -> Iterator[tuple[int, int, int, bytes]]:
    """Number, first and last time, statistics of each block of one place that reaches into the window."""
    size = STATISTICS.itemsize
    query = (
        select(
            block.c.id,
            block.c.first_time,
            block.c.last_time,
            func.substr(block.c.statistics, 1 + size * place.column, size),
        )
        .where(block.c.layout == place.layout, block.c.last_time >= window.first)
        .order_by(block.c.last_time)
    )
    with connection.execute(query) as rows:
        for row in rows:
            if row[1] > window.last:
                return
            yield tuple(row)


def _of_one_kind(places: Sequence[_Place]) -> list[_Place]:
    """Those of the kind a tag has now."""
    return [place for place in places if place.kind is places[-1].kind]


@cache
def _frames(forward: bool, positioned: bool) -> Select[Any]:
    """The first values of a layout: times, and the bytes of one column cut out by the database."""
    time, number = frame.c.source_time, frame.c.id
    single = func.length(frame.c.status) == STATUS_SIZE
    query = select(
        time,
        number,
        frame.c.received_time,
        func.substr(frame.c.samples, bindparam("cell", type_=Integer), CELL_SIZE),
        func.substr(frame.c.status, case((single, 1), else_=bindparam("code", type_=Integer)), STATUS_SIZE),
    ).where(frame.c.layout == bindparam("layout"), time.between(bindparam("first"), bindparam("last")))
    if positioned:
        position, after = tuple_(time, number), tuple_(bindparam("time"), bindparam("number"))
        query = query.where(position > after if forward else position < after)
    in_order = query.order_by(time, number) if forward else query.order_by(time.desc(), number.desc())
    return in_order.limit(bindparam("most"))


def _ordered(parts: Iterable[_Values], forward: bool) -> _Values:
    """The values of all parts in order of reading."""
    filled = [part for part in parts if len(part.times)]
    if not filled:
        return _NONE
    together = _Values(*map(np.concatenate, zip(*filled, strict=True))) if len(filled) > 1 else filled[0]
    if not _in_order(together):
        together = together.part(np.lexsort((together.numbers, together.times)))
    return together if forward else together.part(slice(None, None, -1))


def _in_order(values: _Values) -> bool:
    times, numbers = values.times, values.numbers
    later, same = times[1:] > times[:-1], times[1:] == times[:-1]
    return bool(later.all()) or bool((later | (same & (numbers[1:] > numbers[:-1]))).all())


def _page(values: _Values, decoded: NDArray[Any], part: slice, *, more: bool) -> Series:
    times = values.times[part]
    last = (int(times[-1]), int(values.numbers[part][-1])) if more else None
    return Series(times, values.received[part], decoded[part], values.status[part], last)


def _decoded(connection: Connection, kind: Kind, cells: Cells) -> NDArray[Any]:
    """Values of the kind's own type; texts as an array of objects."""
    values: NDArray[Any] = np.ascontiguousarray(cells).view(kind.dtype)
    if kind is Kind.BOOLEAN:
        return values.astype(np.bool_)
    if kind is not Kind.STRING:
        return values
    numbers, places = np.unique(values, return_inverse=True)
    known = dict(connection.execute(select(text.c.id, text.c.content).where(text.c.id.in_(numbers.tolist()))).all())
    return np.array([known.get(number) for number in numbers.tolist()], object)[places]
