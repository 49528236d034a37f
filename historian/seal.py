"""Frames of hours that are over become blocks: prepared by a reader, committed by the writer in one transaction.

A step takes the oldest frames of one layout, in order of recording, at most ROWS of those in order of time and ROWS
late ones; what a block of the same hour overlaps with, or has room for, is merged with it. The writer's part is a few
statements: rows keep coming in between. A crash leaves a step wholly done or wholly undone.

A step is due when its hour is over for SETTLE, or when a full block of it is that old. Late frames (of a backfill, of a
clock that was stepped) go by when they were received, and with the frames in order that were recorded after them.
"""

import heapq
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final, NamedTuple

import numpy as np
from sqlalchemy import ColumnElement, Connection, Engine, Row, Select, delete, func, insert, select, update
from sqlalchemy.exc import DBAPIError

from historian import chunks, frames
from historian.chunks import HOUR, ROWS, Block, Encoded, Kind, Times
from historian.frames import Head, Record
from historian.schema import block, frame, layout, sealed
from historian.writer import FIRST, LAST, Writer
from nodesets.errors import StorageError
from nodesets.ports import Clock

SETTLE: Final = 300 * 10**9
"""ns; how long after its end an hour still waits for its last frames."""

ROUNDS: Final = 60
"""`then` is called in the first round and in every so many."""

log = logging.getLogger(__name__)


class _Due(NamedTuple):
    """What is to be sealed next: all frames of a layout up to number `newest`, of those in order none later."""

    newest: int
    until: int
    """ns UTC."""


@dataclass(frozen=True, slots=True)
class Sealing:
    """A step, ready to be committed."""

    layout: int
    before: Head
    """Where the sealed frames of the layout ended."""
    after: Head
    """The newest frame of this step."""
    frames: int
    times: tuple[int, int]
    """First and last source time of the frames."""
    replaced: tuple[int, ...]
    """Blocks whose rows are in `blocks`."""
    blocks: tuple[tuple[Block, Encoded], ...]


Logged = Callable[[Connection, int, Sealing, Sequence[int]], None]
"""`logged(tx, now, sealing, made)`: log a step and the blocks it made, in its transaction."""

Unaltered = Callable[[Connection, int, Sequence[int]], bool]
"""`unaltered(tx, layout, blocks)`: whether blocks are what the log says of them."""


def prepare(tx: Connection, of: int, now: int, unaltered: Unaltered) -> Sealing | None:
    """The next step of a layout that is due; None when there is none. Reads only.

    Raises StorageError for frames or blocks that are not as they were recorded: sealing must not cover up a change.
    """
    due = _due(tx, of, now)
    if due is None:
        return None
    start = tx.execute(select(sealed.c.frame, sealed.c.link).where(sealed.c.layout == of)).first()
    before = Head(0, frames.ZERO) if start is None else Head(start.frame, start.link)
    kinds = [column.kind for column in _columns(tx, of)]
    fresh, after = _taken(tx, of, due, before, len(kinds))
    together, replaced = [fresh], []
    for row in _neighbours(tx, of, fresh.times):
        together.append(decoded(row, kinds))
        replaced.append(row.id)
    if not unaltered(tx, of, replaced):
        raise StorageError(f"blocks of layout {of} among {replaced} are not as they were recorded")
    return Sealing(
        layout=of,
        before=before,
        after=after,
        frames=len(fresh),
        times=(int(fresh.times.min()), int(fresh.times.max())),
        replaced=tuple(replaced),
        blocks=tuple((piece, chunks.encode(piece, kinds)) for piece in chunks.cut(chunks.merge(together))),
    )


def carry_out(tx: Connection, now: int, sealing: Sealing, logged: Logged) -> None:
    """Put the blocks in the place of the frames, and log it."""
    values = {"frame": sealing.after.frame, "link": sealing.after.link}
    if sealing.before.frame:
        tx.execute(update(sealed).where(sealed.c.layout == sealing.layout).values(values))
    else:
        tx.execute(insert(sealed).values(layout=sealing.layout, **values))
    tx.execute(delete(block).where(block.c.id.in_(sealing.replaced)))
    made = [place(tx, sealing.layout, piece, encoded) for piece, encoded in sealing.blocks]
    tx.execute(
        delete(frame).where(
            frame.c.layout == sealing.layout,
            frame.c.source_time.between(*sealing.times),
            frame.c.id <= sealing.after.frame,
        )
    )
    logged(tx, now, sealing, made)


def place(tx: Connection, of: int, piece: Block, encoded: Encoded) -> int:
    """Store a block; returns its number."""
    made: int = tx.execute(
        insert(block)
        .values(
            layout=of,
            first_time=int(piece.times[0]),
            last_time=int(piece.times[-1]),
            size=len(piece),
            statistics=encoded.statistics,
            clock=encoded.clock,
            columns=encoded.columns,
        )
        .returning(block.c.id)
    ).scalar_one()
    return made


def decoded(row: Any, kinds: Sequence[Kind]) -> Block:
    """The rows of a row of the table `block`."""
    return chunks.decode(Encoded(row.clock, row.columns, row.statistics), kinds, row.size)


def _due(tx: Connection, of: int, now: int) -> _Due | None:
    """The next step of a layout; None when none is due."""
    in_order, late = _in_order(of), _late(of)
    oldest = tx.execute(in_order.limit(1)).first()
    if oldest is None:
        return _ripe(tx, late, frame.c.received_time, now)
    ripe = _ripe(tx, in_order.where(frame.c.source_time < _end(oldest.source_time)), frame.c.source_time, now)
    if ripe is None:
        return _ripe(tx, late.where(frame.c.id < oldest.id), frame.c.received_time, now)
    crowded = tx.execute(late.where(frame.c.id < ripe.newest).offset(ROWS - 1).limit(1)).first()
    return ripe if crowded is None else ripe._replace(newest=crowded.id)


def _ripe(tx: Connection, query: Select[Any], time: ColumnElement[int], now: int) -> _Due | None:
    """The first ROWS frames of a query, when the hour of the oldest of them is over, or they are as many and settled.

    Counted by the database: mostly the answer is None.
    """
    some = query.with_only_columns(frame.c.id, frame.c.source_time, time.label("time")).limit(ROWS).subquery()
    found = tx.execute(
        select(
            func.count().label("number"),
            func.max(some.c.id).label("newest"),
            func.max(some.c.source_time).label("until"),
            func.min(some.c.time).label("first"),
            func.max(some.c.time).label("last"),
        )
    ).one()
    if not found.number:
        return None
    full = found.number == ROWS and found.last + SETTLE <= now
    return _Due(found.newest, found.until) if full or _end(found.first) + SETTLE <= now else None


def _end(time: int) -> int:
    """Of the hour a time is in."""
    return (time // HOUR + 1) * HOUR


def _in_order(of: int) -> Select[Any]:
    query = select(frame).where(frame.c.layout == of, frame.c.late == 0)
    return query.order_by(frame.c.source_time, frame.c.id)


def _late(of: int) -> Select[Any]:
    return select(frame).where(frame.c.layout == of, frame.c.late == 1).order_by(frame.c.id)


def _taken(tx: Connection, of: int, due: _Due, before: Head, width: int) -> tuple[Block, Head]:
    """The frames of a step in order of recording, and the last of them.

    They are followed along their chain, and kept, one by one: all at once as objects they take ten times the memory,
    and leave it in pieces. Raises StorageError for one that is not as it was recorded.
    """
    in_order = _in_order(of).where(frame.c.source_time <= due.until, frame.c.id <= due.newest)
    queries = in_order, _late(of).where(frame.c.id <= due.newest)
    count = sum(tx.execute(select(func.count()).select_from(query.subquery())).scalar_one() for query in queries)
    taken = heapq.merge(*(map(Record._make, tx.execute(query)) for query in queries), key=attrgetter("id"))
    head, rows = before, frames.Rows(width, count)
    for each in taken:
        if frames.link(head.link, *each[:-1]) != each.link:
            raise StorageError(f"frame {each.id} of layout {of} is not as it was recorded: not sealed")
        head = Head(each.id, each.link)
        rows.add(each)
    return rows.block, head


def _columns(tx: Connection, of: int) -> list[frames.Column]:
    return frames.columns(tx.execute(select(layout.c.columns).where(layout.c.id == of)).scalar_one())


def _neighbours(tx: Connection, of: int, times: Times) -> list[Row[Any]]:
    """The blocks that rows of these times go into: those of their hours they overlap with, or follow and fit into."""
    found: list[Row[Any]] = []
    hours = times // HOUR
    for hour in np.unique(hours).tolist():
        within = times[hours == hour]
        first, last = int(within.min()), int(within.max())
        begin, end = max(hour * HOUR, FIRST), min((hour + 1) * HOUR, LAST)
        of_hour = select(block).where(block.c.layout == of, block.c.last_time.between(begin, end))
        found += tx.execute(of_hour.where(block.c.last_time >= first, block.c.first_time <= last))
        before = of_hour.where(block.c.last_time < first).order_by(block.c.last_time.desc()).limit(1)
        found += (row for row in tx.execute(before) if row.size < ROWS)
    return found


class Sealer:
    """A thread that looks for what is due every `seconds`, seals it step by step, and does what comes after (`then`).

    `database` is an engine of `historian.schema.reading`.
    """

    def __init__(
        self,
        database: Engine,
        writer: Writer,
        *,
        clock: Clock,
        seconds: float,
        logged: Logged,
        unaltered: Unaltered,
        then: Callable[[], object] = lambda: None,
    ) -> None:
        self._database = database
        self._writer = writer
        self._clock = clock
        self._seconds = seconds
        self._logged = logged
        self._unaltered = unaltered
        self._then = then
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="historian-sealer")
        self.trouble: dict[int, str] = {}
        """Why a layout could not be sealed the last time, by its number."""

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """End after the step under way."""
        self._closing.set()
        self._thread.join()
        self._database.dispose()

    def seal(self) -> int:
        """Carry out every step that is due; returns how many there were. Raises DBAPIError when nothing can be read."""
        with self._database.connect() as connection, connection.begin():
            layouts = connection.execute(select(layout.c.id)).scalars().all()
        return sum(self._seal(number) for number in layouts)

    def _run(self) -> None:
        rounds = 0
        while not self._closing.wait(self._seconds):
            self._round(afterwards=rounds % ROUNDS == 0)
            rounds += 1

    def _round(self, *, afterwards: bool) -> None:
        """While the database is away nothing is sealed or retired; the next round tries again."""
        try:
            self.seal()
            if afterwards:
                self._then()
        except (StorageError, DBAPIError) as error:
            log.error("not sealed or not retired: %s", error)

    def _seal(self, number: int) -> int:
        """The steps of one layout; after each it rests for as long, as recording and reading go on beside it."""
        steps, began = 0, self._clock.monotonic()
        try:
            while not self._closing.is_set() and self._step(number):
                steps += 1
                self._closing.wait(self._clock.monotonic() - began)
                began = self._clock.monotonic()
        except (StorageError, DBAPIError) as error:
            if self.trouble.get(number) != str(error):
                log.error("layout %d not sealed: %s", number, error)
            self.trouble[number] = str(error)
        else:
            self.trouble.pop(number, None)
        return steps

    def _step(self, number: int) -> bool:
        now = self._clock.now()
        with self._database.connect() as connection, connection.begin():
            sealing = prepare(connection, number, now, self._unaltered)
        if sealing is None:
            return False
        self._writer.submit(lambda tx: carry_out(tx, now, sealing, self._logged), alone=True).result()
        return True
