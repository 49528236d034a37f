"""The one writer: a thread that puts everything waiting into one transaction, and answers after the commit.

What is handed over while a commit runs goes into the next one as soon as that commit ends; what is handed to an idle
writer waits `commit_seconds` for company. A future is resolved when the commit is on the disk, never before.

    database away (full, locked, unreachable)   the transaction is refused as a whole; the next one is tried again
    storage broken                              the writer stops: an fsync that failed once may claim success the
                                                next time without having written, so only a restart helps
    failure of a piece of work                  rolled back to its savepoint; its neighbours do not notice
    rows the database refuses for what they are refused alone, after their neighbours were tried without them

Rows with a `Place` are recorded in the order of their stream, and once: `historian.forward` hands them over again after
every failure, also of a commit whose outcome nobody learned.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Final, TypeVar

import numpy as np
from sqlalchemy import Connection, Engine, Select, bindparam, insert, select, update
from sqlalchemy.exc import DBAPIError

from historian import frames
from historian.chunks import HOUR, Kind
from historian.faults import Fault, fault
from historian.frames import Column, Head, typed
from historian.schema import forwarded, frame, insert_rows, layout, sealed, text
from nodesets.errors import StorageError, Unrecordable
from nodesets.model import Row
from nodesets.ports import Clock

T = TypeVar("T")

Made = list[tuple[str, int]]
"""Rows made in a transaction, as (table, key)."""

Cover = Callable[[Connection, int, Mapping[int, Head], Made], None]
"""`cover(tx, now, heads, made)`: log, in `tx`, the newest frame of each layout not covered yet, and the rows made."""

COVER_SECONDS: Final = 60.0
"""One audit entry covers the frames of this long (compliance.md 2.4, item 11)."""

MOST_WORK: Final = 50
"""Pieces of work, each with its audit entry, in one transaction (compliance.md 2.4, item 3)."""

FIRST: Final = -(2**63)
LAST: Final = 2**63 - 1
"""Times a frame can have, ns UTC."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Place:
    """Place of rows in a stream: the last of them is its row `last`, the one recorded before them row `after`."""

    after: int
    last: int


@dataclass(frozen=True, slots=True)
class _Rows:
    future: Future[None]
    rows: Sequence[Row]
    place: Place | None
    then: Callable[[Connection], object] | None

    @property
    def size(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, slots=True)
class _Work:
    future: Future[Any]
    run: Callable[[Connection], Any]
    alone: bool

    size: ClassVar[int] = 1


_Item = _Rows | _Work


@dataclass(frozen=True, slots=True)
class _Failed:
    error: Exception


class _Refused(Exception):
    """The database refuses rows for what they are."""


@dataclass(frozen=True, slots=True)
class _Recorded:
    """What a transaction has added, to be taken over once it is committed."""

    heads: dict[int, Head] = field(default_factory=dict)
    newest: dict[int, int] = field(default_factory=dict)
    made: Made = field(default_factory=list)


_START: Final = Head(0, frames.ZERO)


class Writer:
    """Records rows and runs work on the one connection that writes.

    `groups` maps a tag group to the tags of its columns, each a node identifier or, where it is no double, a `Column`;
    `queue` is the number of rows and pieces of work that may wait. Futures cannot be cancelled: what was handed over is
    carried out or fails.
    """

    def __init__(
        self,
        engine: Engine,
        groups: Mapping[str, Sequence[str | Column]],
        *,
        clock: Clock,
        commit_seconds: float,
        queue: int,
        covered: Cover,
        stream: str = "",
    ) -> None:
        """`stream`: the name of the numbering that places count in."""
        self._engine = engine
        self._stream = stream
        self._marking = (
            update(forwarded).where(forwarded.c.stream == stream).values(position=bindparam("recorded"))
        )  # made once: to make a statement costs as much as to carry it out
        self._groups = typed(groups)
        self._clock = clock
        self._commit_seconds = commit_seconds
        self._queue = queue
        self._cover = covered
        self._thread = threading.Thread(target=self._run, name="historian-writer")
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._waiting: deque[_Item] = deque()
        self._size = 0
        self._batch: list[_Item] = []
        self._soon = False
        """Whether something that waits is not to wait for more."""
        self._singly = 0
        """Items to be carried out one by one: rows among them were refused."""
        self._stopped = ""
        self._layouts: dict[str, int] = {}
        self._heads: dict[int, Head] = {}
        self._newest: dict[int, int] = {}
        self._last_frame = 0
        self._position = 0
        self._doubtful = False
        """Whether the last transaction failed, so that what it left must be looked up."""
        self._uncovered = False
        self._covered_at = 0.0
        self.refused = 0
        """Rows and pieces of work not taken because the queue was full."""
        self.transactions = 0
        """Committed since the start."""
        self.trouble = ""
        """What the last transaction failed with; empty when it went through."""

    def start(self) -> None:
        """Register the groups' layouts, cover what an earlier run left uncovered, and begin.

        Raises StorageError.
        """
        try:
            with self._engine.begin() as tx:
                made = self._register(tx)
                self._continue(tx)
                self._cover(tx, self._clock.now(), self._heads, made)
        except DBAPIError as error:
            raise StorageError(str(error.orig)) from error
        self._covered_at = self._clock.monotonic()
        self._thread.start()

    def close(self) -> None:
        """Carry out what waits, cover it, and end. Later calls are refused."""
        with self._changed:
            self._closing.set()
            self._changed.notify()
        self._thread.join()

    @property
    def waiting(self) -> int:
        """Rows and pieces of work that wait for the next transaction."""
        return self._size

    @property
    def stopped(self) -> str:
        """Why nothing is carried out any longer; empty while it is."""
        return self._stopped

    @property
    def position(self) -> int:
        """Every row of the stream up to this number is recorded, or will never be."""
        return self._position

    def append(self, rows: Sequence[Row]) -> Future[None]:
        """Record rows in order; done when they are on the disk. Never blocks.

        The future carries StorageError when they could not be recorded: then none of them is; Unrecordable when it is
        for what they are. Raises ValueError as `check` does.
        """
        self.check(rows)
        return self._append(rows, None, None)

    def append_at(
        self, place: Place, rows: Sequence[Row], then: Callable[[Connection], object] | None = None
    ) -> Future[None]:
        """Record rows of the stream, which passed `check`, as `append` does.

        Those recorded already are left out, and all are refused when one before them is missing.
        `then` runs in the transaction that records them, and not when they are recorded already.
        """
        return self._append(rows, place, then)

    def _append(
        self, rows: Sequence[Row], place: Place | None, then: Callable[[Connection], object] | None
    ) -> Future[None]:
        future: Future[None] = Future()
        self._enter(_Rows(future, rows, place, then))
        return future

    def add(self, groups: Mapping[str, Sequence[str | Column]]) -> Future[None]:
        """Record rows of these groups as well; done when their layouts are on the disk."""
        self._groups = self._groups | typed(groups)
        return self.submit(lambda tx: self._cover(tx, self._clock.now(), self._heads, self._register(tx)))

    def check(self, rows: Sequence[Row]) -> None:
        """Raises ValueError for a row of an unknown group, of another width or of a time beyond 64 bits."""
        for row in rows:
            self._check(row)

    def submit(self, work: Callable[[Connection], T], *, alone: bool = False, soon: bool = False) -> Future[T]:
        """Run `work` in a transaction; its result or its exception, when that is on the disk. Never blocks.

        `work` sees the rows appended before it. `alone`: in a transaction of its own, as a signature or a release is.
        `soon`: now, with what waits already, and not when `commit_seconds` are over.
        The future carries StorageError when nothing was acknowledged.
        """
        future: Future[T] = Future()
        self._enter(_Work(future, work, alone), soon)
        return future

    def _check(self, row: Row) -> None:
        columns = self._groups.get(row.group)
        if columns is None or not len(columns) == row.values.size == row.status.size:
            raise ValueError(f"{row.group}: {row.values.size} values, {row.status.size} status codes")
        if row.texts and not all(0 <= i < len(columns) and columns[i].kind is Kind.STRING for i in row.texts):
            raise ValueError(f"{row.group}: a text where there is none")
        if not (FIRST <= row.source_time <= LAST and FIRST <= row.received_time <= LAST):
            raise ValueError(f"{row.group}: source time {row.source_time}, received time {row.received_time}")

    def _enter(self, item: _Item, soon: bool = False) -> None:
        item.future.set_running_or_notify_cancel()
        with self._changed:
            refusal = self._refusal(item.size)
            if not refusal:
                self._waiting.append(item)
                self._size += item.size
                self._soon |= soon
                if soon or len(self._waiting) == 1:
                    self._changed.notify()
        if refusal:
            item.future.set_exception(StorageError(refusal))

    def _refusal(self, size: int) -> str:
        if self._stopped:
            return self._stopped
        if self._closing.is_set():
            return "the historian is closed"
        if self._size + size > self._queue:
            self.refused += size
            return f"{self._size} rows wait for the disk already"
        return ""

    def _register(self, tx: Connection) -> Made:
        """Find or make the layout of each group; returns those made."""
        known = {(row.tag_group, row.columns): row.id for row in tx.execute(select(layout))}
        made: Made = []
        for group, columns in self._groups.items():
            wanted = (group, frames.as_text(columns))
            if wanted not in known:
                known[wanted] = tx.execute(
                    insert(layout).values(tag_group=group, columns=wanted[1]).returning(layout.c.id)
                ).scalar_one()
                made.append(("layout", known[wanted]))
            self._layouts[group] = known[wanted]
        return made

    def _continue(self, tx: Connection) -> None:
        """Find where each layout's frames end, a few rows of each, however long its history is, and the stream's rows.

        After a start, and after a transaction whose end is not known.
        """
        self._heads, self._newest = {}, {}
        ends = {row.layout: Head(row.frame, row.link) for row in tx.execute(select(sealed))}
        for number in tx.execute(select(layout.c.id)).scalars():
            of_layout = select(frame.c.id, frame.c.link, frame.c.source_time).where(frame.c.layout == number)
            in_order = of_layout.where(frame.c.late == 0).order_by(frame.c.source_time.desc(), frame.c.id.desc())
            late = of_layout.where(frame.c.late == 1).order_by(frame.c.id.desc())
            newest, newest_late = _first(tx, in_order), _first(tx, late)
            heads = [Head(row.id, row.link) for row in (newest, newest_late) if row is not None]
            if number in ends:
                heads.append(ends[number])
            if heads:
                self._heads[number] = max(heads)
            if newest is not None:
                self._newest[number] = newest.source_time
        self._last_frame = max((head.frame for head in self._heads.values()), default=0)
        position = tx.execute(select(forwarded.c.position).where(forwarded.c.stream == self._stream)).scalar()
        if self._stream and position is None:
            tx.execute(insert(forwarded).values(stream=self._stream, position=0))
        self._position = position or 0
        self._uncovered = self._doubtful or self._uncovered
        self._doubtful = False

    def _run(self) -> None:
        try:
            with self._engine.connect() as connection:
                while not self._stopped and self._gather():
                    self._commit(connection)
        finally:
            self._abandon()

    def _gather(self) -> bool:
        """Take what waits into the batch; False when there is nothing more to come."""
        with self._changed:
            if not self._waiting:
                timeout = COVER_SECONDS if self._uncovered else None
                self._changed.wait_for(lambda: self._waiting or self._closing.is_set(), timeout)
                self._changed.wait_for(lambda: self._soon or self._closing.is_set(), self._commit_seconds)
            self._soon = False
            self._batch = self._take()
            self._size -= sum(item.size for item in self._batch)
        return bool(self._batch) or not self._closing.is_set() or self._uncovered

    def _take(self) -> list[_Item]:
        """The next items that go into one transaction, in order."""
        batch: list[_Item] = []
        work = 0
        while self._waiting and work < MOST_WORK:
            alone = _alone(self._waiting[0]) or self._singly > 0
            if alone and batch:
                break
            item = self._waiting.popleft()
            batch.append(item)
            work += isinstance(item, _Work)
            if alone:
                self._singly = max(0, self._singly - 1)
                break
        return batch

    def _commit(self, connection: Connection) -> None:
        """Carry out the batch in one transaction and answer."""
        try:
            with connection.begin():
                if self._doubtful:
                    self._continue(connection)
                rows, refusals, position = self._in_turn()
                cover = (self._uncovered or bool(rows)) and self._due() and not any(map(_alone, self._batch))
                recorded = self._record(connection, rows)
                if position != self._position:
                    self._mark(connection, position)
                outcomes = [refusals.get(i) or self._attempt(connection, item) for i, item in enumerate(self._batch)]
                if cover or recorded.made:
                    self._cover(connection, self._clock.now(), self._heads | recorded.heads, recorded.made)
        except _Refused as error:
            self._set_apart(str(error))
            return
        except DBAPIError as error:
            self._refuse(error)
            return
        self._position = position
        self._committed(recorded, cover)
        batch, self._batch = self._batch, []
        for item, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, _Failed):
                item.future.set_exception(outcome.error)
            else:
                item.future.set_result(outcome)

    def _in_turn(self) -> tuple[list[Row], dict[int, _Failed], int]:
        """The rows of the batch that are to be recorded now, what is out of turn, and the position after them."""
        rows: list[Row] = []
        refusals: dict[int, _Failed] = {}
        position = self._position
        for i, item in enumerate(self._batch):
            if not isinstance(item, _Rows):
                continue
            if item.place is None:
                rows += item.rows
            elif item.place.after > position:
                refusals[i] = _Failed(StorageError(f"rows before these are not recorded: {position + 1}"))
            else:
                rows += item.rows[max(0, position - item.place.last + len(item.rows)) :]
                position = max(position, item.place.last)
        return rows, refusals, position

    def _mark(self, tx: Connection, position: int) -> None:
        tx.execute(self._marking, {"recorded": position})

    def _set_apart(self, cause: str) -> None:
        """Try every item of the batch for itself; rows that were alone are refused for good."""
        batch, self._batch = self._batch, []
        if len(batch) > 1:
            with self._changed:
                self._waiting.extendleft(reversed(batch))
                self._size += sum(item.size for item in batch)
                self._singly += len(batch)
        else:
            log.error("refused by the database: %s", cause)
            batch[0].future.set_exception(Unrecordable(cause))

    def _due(self) -> bool:
        return self._closing.is_set() or self._clock.monotonic() - self._covered_at >= COVER_SECONDS

    def _committed(self, recorded: _Recorded, cover: bool) -> None:
        if self.trouble:
            log.warning("recording again")
            self.trouble = ""
        self.transactions += 1
        if recorded.heads:
            self._heads |= recorded.heads
            self._newest |= recorded.newest
            self._last_frame = max(head.frame for head in recorded.heads.values())
            self._uncovered = True
        if cover:
            self._uncovered = False
            self._covered_at = self._clock.monotonic()

    def _record(self, tx: Connection, rows: Sequence[Row]) -> _Recorded:
        """Insert the rows as frames, each linked to the one before it in its layout."""
        recorded = _Recorded()
        if not rows:
            return recorded
        heads, newest, records = recorded.heads, recorded.newest, []
        for number, row in enumerate(rows, self._last_frame + 1):
            of = self._layouts[row.group]
            time = int(row.source_time)
            head = heads.get(of) or self._heads.get(of) or _START
            latest = newest.get(of, self._newest.get(of, FIRST))
            late = time < latest or time > row.received_time + HOUR
            if not late:
                newest[of] = time
            made = frames.record(number, of, late, self._interned(tx, row, recorded) if row.texts else row, head.link)
            heads[of] = Head(number, made.link)
            records.append(made)
        try:
            insert_rows(tx, frame, records, [record.source_time for record in records])
        except DBAPIError as error:
            if fault(error) is Fault.STATEMENT:
                raise _Refused(str(error.orig)) from error
            raise
        return recorded

    def _interned(self, tx: Connection, row: Row, recorded: _Recorded) -> Row:
        """The row with the number of each of its texts in its place."""
        cells = row.values.copy().view(np.int64)
        for column, content in row.texts.items():
            number = tx.execute(select(text.c.id).where(text.c.content == content)).scalar()
            if number is None:
                number = tx.execute(insert(text).values(content=content).returning(text.c.id)).scalar_one()
                recorded.made.append(("text", number))
            cells[column] = number
        return replace(row, values=cells.view(np.float64))

    def _attempt(self, tx: Connection, item: _Item) -> Any:
        """Run a piece of work in its own savepoint; its result, or what it failed with."""
        if isinstance(item, _Rows):
            if item.then is not None and (item.place is None or item.place.last > self._position):
                item.then(tx)
            return None
        savepoint = tx.begin_nested()
        try:
            result = item.run(tx)
        except Exception as error:
            if fault(error) is not Fault.STATEMENT:
                raise
            savepoint.rollback()
            return _Failed(error)
        savepoint.commit()
        return result

    def _refuse(self, error: DBAPIError) -> None:
        """Answer the batch of a transaction that failed; stop unless the cause may pass."""
        cause = str(error.orig)
        if cause != self.trouble:
            log.error("not recorded: %s", cause)
        self.trouble = cause
        self._doubtful = True
        if fault(error) is not Fault.AWAY or self._closing.is_set():
            self._stopped = cause
        batch, self._batch = self._batch, []
        for item in batch:
            item.future.set_exception(StorageError(cause))

    def _abandon(self) -> None:
        """Refuse everything from now on, and what was not carried out."""
        with self._changed:
            self._stopped = self._stopped or (
                "the historian is closed" if self._closing.is_set() else "the historian failed"
            )
            left = [*self._batch, *self._waiting]
            self._batch = []
            self._waiting.clear()
        for item in left:
            item.future.set_exception(StorageError(self._stopped))


def _first(tx: Connection, query: Select[Any]) -> Any:
    return tx.execute(query.limit(1)).first()


def _alone(item: _Item) -> bool:
    return isinstance(item, _Work) and item.alone
