"""Recorded values read back: numpy arrays of whole pages, from connections that cannot write."""

import asyncio
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Final, NamedTuple, TypeVar

import numpy as np
from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Row,
    Select,
    case,
    func,
    literal,
    select,
    tuple_,
    union_all,
)
from sqlalchemy.exc import DBAPIError

from historian.frames import SAMPLE_SIZE, STATUS_SIZE, codes, values
from historian.schema import frame, layout
from nodesets.errors import NotFound, StorageError
from nodesets.ports import Series

T = TypeVar("T")

THREADS: Final = 4
"""Reads at a time: 10 clients reading 50 years wait for one another, not the event loop for them (H34)."""

Position = tuple[int, int]
"""(source time, frame number) of a value: where a page ended."""


class _Place(NamedTuple):
    """Where a tag's values stand: column `column` of the frames of a layout."""

    layout: int
    column: int


class Reader:
    """History behind `ports.History`. `database` is an engine of `historian.schema.reading`."""

    def __init__(self, database: Engine) -> None:
        self._database = database
        self._threads = ThreadPoolExecutor(THREADS, "historian-reader")
        self._lock = Lock()
        self._places: dict[str, list[_Place]] = {}
        self._newest_layout = 0

    def close(self) -> None:
        """Wait for the reads under way and close the connections."""
        self._threads.shutdown()
        self._database.dispose()

    async def read(self, query: Callable[[Connection], T]) -> T:
        """Run `query` on a reading connection, in a thread; it sees one committed state. Raises StorageError."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._read, query)

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

        `after` is `Series.more` of the page before. What is recorded between two pages neither doubles nor hides
        what was there; it is seen when it lies ahead. Raises NotFound, StorageError, ValueError for a limit below 1.
        """
        if limit < 1:
            raise ValueError(f"limit {limit}")
        return await self.read(lambda connection: self.page(connection, tag, start, end, limit, after))

    def _read(self, query: Callable[[Connection], T]) -> T:
        try:
            with self._database.connect() as connection, connection.begin():
                return query(connection)
        except DBAPIError as error:
            raise StorageError(str(error.orig)) from error

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
        forward = start is not None and (end is None or start <= end)
        within = _within(start, end, forward, after)
        parts = [_part(place, within, forward, limit + 1) for place in self._locate(connection, tag)]
        rows = connection.execute(_merged(parts, forward, limit + 1)).all()
        return _series(rows[:limit], more=len(rows) > limit)

    def _locate(self, connection: Connection, tag: str) -> list[_Place]:
        """Every place a tag's values stand; layouts made since the last look are taken in."""
        with self._lock:
            for made in connection.execute(
                select(layout).where(layout.c.id > self._newest_layout).order_by(layout.c.id)
            ):
                for column, name in enumerate(json.loads(made.columns)):
                    self._places.setdefault(name, []).append(_Place(made.id, column))
                self._newest_layout = made.id
            places = list(self._places.get(tag, ()))
        if not places:
            raise NotFound(tag)
        return places


def _within(start: int | None, end: int | None, forward: bool, after: Position | None) -> list[ColumnElement[bool]]:
    """The conditions on time and position."""
    time, conditions = frame.c.source_time, []
    if start is not None:
        conditions.append(time >= start if forward else time <= start)
    if end is not None and (start is None or start == end):
        conditions.append(time <= end)
    elif end is not None:
        conditions.append(time < end if forward else time > end)
    if after is not None:
        position, last = tuple_(time, frame.c.id), tuple_(literal(after[0]), literal(after[1]))
        conditions.append(position > last if forward else position < last)
        # the same bound again in the form the index of (layout, source_time) can use
        conditions.append(time >= after[0] if forward else time <= after[0])
    return conditions


def _part(place: _Place, within: list[ColumnElement[bool]], forward: bool, limit: int) -> Select[tuple[int, ...]]:
    """The first `limit` values of one layout: times, and the bytes of one column cut out by the database."""
    single = func.length(frame.c.status) == STATUS_SIZE
    status = func.substr(frame.c.status, case((single, 1), else_=1 + STATUS_SIZE * place.column), STATUS_SIZE)
    return _ordered(
        select(
            frame.c.source_time,
            frame.c.id,
            frame.c.received_time,
            func.substr(frame.c.samples, 1 + SAMPLE_SIZE * place.column, SAMPLE_SIZE).label("sample"),
            status.label("code"),
        ).where(frame.c.layout == place.layout, *within),
        frame.c.source_time,
        frame.c.id,
        forward,
    ).limit(limit)


def _merged(parts: list[Select[tuple[int, ...]]], forward: bool, limit: int) -> Select[tuple[int, ...]]:
    """The first `limit` values of all layouts together."""
    if len(parts) == 1:
        return parts[0]
    together = union_all(*(select(part.subquery()) for part in parts)).subquery()
    return _ordered(select(together), together.c.source_time, together.c.id, forward).limit(limit)


def _ordered(
    query: Select[tuple[int, ...]], time: ColumnElement[int], number: ColumnElement[int], forward: bool
) -> Select[tuple[int, ...]]:
    return query.order_by(time, number) if forward else query.order_by(time.desc(), number.desc())


def _series(rows: Sequence[Row[tuple[int, ...]]], *, more: bool) -> Series:
    if not rows:
        empty = np.empty(0, np.int64)
        return Series(empty, empty, np.empty(0), np.empty(0, np.uint32), None)
    times, numbers, received, samples, status = zip(*rows, strict=True)
    return Series(
        times=np.array(times, np.int64),
        received=np.array(received, np.int64),
        values=values(samples),
        status=codes(status),
        more=(times[-1], numbers[-1]) if more else None,
    )
