"""Store and forward: rows go to the database, and to the spool while it is gone, full, read-only or slow.

    direct      a row is handed to the writer and confirmed after its commit
    forwarding  from the first failure, or a commit that takes longer than `slow_seconds`, on: rows are confirmed when
                they are fsynced in the spool; what the spool holds is handed to the writer in order, again and again,
                until it is recorded; when the spool is empty, rows go directly again

Every row that is kept has a number, and the writer records in the transaction of the rows how far it has come: what is
handed over a second time is left out, whether the first time failed, succeeded or was never heard of again (a kill, a
connection that broke in a commit). So nothing is recorded twice, and nothing out of order.

    spool full     the newest rows are lost: counted, refused to who brought them, and recorded as an interval of
                   Bad_DataLost from the first to the last, with an audit entry
    poison         a row the database refuses for what it is goes into a file beside the spool; the others go on
    spool broken   an fsync of the spool failed: nothing more is confirmed by it until a restart

Pieces of work (signatures, batches, accounts) never come here: they are refused while the database is away.
"""

import logging
import math
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from sqlalchemy import Connection, Engine

from historian import frames
from historian.spool import NOTE_SIZE, Gap, Record, Spool
from historian.writer import Cover, Place, Writer
from nodesets.errors import StorageError, Unrecordable
from nodesets.model import Row
from nodesets.ports import Clock

Noted = Callable[[Connection, int, Gap, str], object]
"""`noted(tx, now, gap, why)`: log, in `tx`, that rows were lost or set aside."""

FULL: Final = "there was no room for them"

TICK_SECONDS: Final = 0.25
"""How often the age of the commit under way is looked at."""

RETRY_SECONDS: Final = 1.0
"""Between two attempts to reach the database."""

DRAIN_ROWS: Final = 5_000
"""Rows on their way from the spool to the writer at a time: 0.2 s of 3,200 channels at 10 Hz each a row of 32."""

log = logging.getLogger(__name__)


def recover(database: Engine, spool: Spool, clock: Clock, covered: Cover, noted: Noted) -> None:
    """Record what an earlier run left in the spool, with the columns of that run. Raises StorageError."""
    waiting = spool.rows + 1
    writer = Writer(
        database, spool.groups, clock=clock, commit_seconds=0, queue=waiting, covered=covered, stream=spool.stream
    )
    writer.start()
    recorder = StoreAndForward(writer, spool, clock=clock, slow_seconds=math.inf, queue=waiting, noted=noted)
    recorder.start()
    try:
        recorder.settled()
    finally:
        recorder.close()


@dataclass(slots=True, eq=False)
class _Item:
    """Rows somebody waits for."""

    future: Future[None]
    rows: Sequence[Row]
    entered: float
    last: int = 0
    """Number of the last row; 0: none yet."""
    settled: bool = False


@dataclass(frozen=True, slots=True)
class _Piece:
    """What is handed to the writer at once: a record of the spool, or one row of it."""

    rows: Sequence[Row]
    gap: Gap | None
    last: int
    end: int
    """Where the spool is read on once this is recorded."""


class StoreAndForward:
    """A `ports.Recorder` in front of the writer. `queue`: rows that may wait for a disk."""

    def __init__(
        self, writer: Writer, spool: Spool, *, clock: Clock, slow_seconds: float, queue: int, noted: Noted
    ) -> None:
        self._writer, self._spool, self._clock, self._noted = writer, spool, clock, noted
        self._slow_seconds, self._queue = slow_seconds, queue
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="historian-spool")
        self._direct: deque[_Item] = deque()
        """Handed to the writer and not confirmed yet, in order."""
        self._waiting: deque[_Item] = deque()
        """For the spool, in order."""
        self._size = 0
        self._number = max(spool.last, writer.position)
        """Of the newest row that was given one."""
        self._kept = writer.position
        """Of the newest row the writer confirmed directly."""
        self._gaps: dict[str, Gap] = dict(spool.open_gaps)
        self._closing = self._ending = False
        self.forwarding = spool.rows > 0
        """Rows go through the spool."""
        self.trouble = ""
        """Why they do; empty when nothing is wrong."""
        self.lost = 0
        """Rows refused since the start."""
        self.set_aside = 0
        """Rows the database refuses, kept beside the spool."""
        # of the spool's thread alone
        self._read = spool.begin
        self._answers: list[tuple[_Piece, BaseException | None]] = []
        self._draining = 0
        """Pieces handed to the writer and not answered yet."""
        self._failed = False
        """A piece of this pass was refused: what comes after it is out of turn."""
        self._retry = 0.0
        self._singly_to = 0
        """Up to this number rows go one by one: there is poison among them."""
        self._poison: set[int] = set()

    def start(self) -> None:
        self._thread.start()

    def settled(self) -> None:
        """Return when the spool is recorded. Raises StorageError when the writer has stopped."""
        with self._changed:
            self._changed.wait_for(lambda: not self.forwarding or self._writer.stopped)
        if self.forwarding:
            raise StorageError(self._writer.stopped)

    def close(self) -> None:
        """Refuse what comes, let the writer carry out what waits and end, keep in the spool what it refused."""
        with self._changed:
            self._closing = True
        self._writer.close()
        with self._changed:
            self._ending = True
            self._changed.notify_all()
        self._thread.join()
        self._spool.close()

    @property
    def backlog(self) -> int:
        """Rows that are kept in the spool and not recorded yet."""
        return max(0, self._spool.last - self._writer.position) if self.forwarding else 0

    @property
    def waiting(self) -> int:
        """Rows nobody has confirmed yet."""
        return self._size

    @property
    def losing(self) -> bool:
        """Rows are lost now: some group's gap lasts, or nothing can be kept in the spool."""
        return bool(self._gaps) or (self.forwarding and bool(self._spool.broken))

    def append(self, rows: Sequence[Row]) -> Future[None]:
        """Keep rows in order; done when they are on a disk, the database's or the spool's. Never blocks.

        The future carries StorageError when they are lost. Raises ValueError as `Writer.check` does.
        """
        self._writer.check(rows)
        item = _Item(Future(), rows, self._clock.monotonic())
        item.future.set_running_or_notify_cancel()
        with self._changed:
            refusal = self._refusal(item)
            if not refusal:
                self._size += len(rows)
                self._enter(item)
        if refusal:
            item.future.set_exception(StorageError(refusal))
        return item.future

    def _refusal(self, item: _Item) -> str:
        if self._closing:
            return "the historian is closed"
        if self._size + len(item.rows) > self._queue:
            refusal = f"{self._size} rows wait for the disk already"
            self._lose(item)
            self._go_forwarding(refusal)
            return refusal
        return ""

    def _enter(self, item: _Item) -> None:
        if not self.forwarding and self._gaps and not self._spool.broken:
            self._go_forwarding("a gap ends")
        if self.forwarding:
            self._waiting.append(item)
            self._changed.notify_all()
            return
        for gap in self._ended(item.rows):
            marks = _Item(Future(), self._markers(gap), item.entered)
            self._size += len(marks.rows)
            self._hand_over(marks, self._note(gap))
        self._hand_over(item)

    def _hand_over(self, item: _Item, then: Callable[[Connection], object] | None = None) -> None:
        """To the writer, directly."""
        after = self._direct[-1].last if self._direct else self._kept
        self._number += max(1, len(item.rows))
        item.last = self._number
        self._direct.append(item)
        recorded = self._writer.append_at(Place(after, item.last), item.rows, then)
        recorded.add_done_callback(lambda done: self._answered(item, done))

    def _answered(self, item: _Item, done: Future[None]) -> None:
        """What was handed over directly is recorded, or not. In the writer's thread."""
        error = done.exception()
        with self._changed:
            if item.settled:
                return
            if error is not None:
                self._go_forwarding(str(error))
                return
            if item in self._direct:
                self._direct.remove(item)
                self._kept = item.last
            self._settle(item)
        item.future.set_result(None)

    def _settle(self, item: _Item) -> None:
        item.settled = True
        self._size -= len(item.rows)

    def _go_forwarding(self, why: str) -> None:
        """From now on through the spool, beginning with what the writer has not confirmed."""
        if not self.trouble:
            log.error("recording through the spool: %s", why)
        self.trouble = why
        self.forwarding = True
        while self._direct:
            self._waiting.appendleft(self._direct.pop())
        self._changed.notify_all()

    def _lose(self, item: _Item) -> None:
        """Count rows that are not kept, and where their gap begins and ends."""
        self.lost += len(item.rows)
        for row in item.rows:
            gap = self._gaps.get(row.group)
            if gap is None:
                log.error("rows of %s are lost from %d on", row.group, row.source_time)
                gap = Gap(row.group, row.source_time, row.source_time, 0, open=True)
            self._gaps[row.group] = replace(gap, last=row.source_time, count=gap.count + 1)

    def _ended(self, rows: Sequence[Row]) -> list[Gap]:
        """The gaps that end before these rows; they are open no longer."""
        groups = dict.fromkeys(row.group for row in rows)
        return [replace(self._gaps.pop(group), open=False) for group in groups if group in self._gaps]

    def _markers(self, gap: Gap) -> list[Row]:
        """Values that say where a gap begins and ends."""
        both = frames.gap(gap.group, len(self._spool.groups[gap.group]), gap.first, gap.last, self._clock.now())
        by_time = {row.source_time: row for row in both}
        return [by_time[time] for time in gap.times]

    def _note(self, gap: Gap) -> Callable[[Connection], object] | None:
        """What goes into the audit log with the end of a gap."""
        return None if gap.open else lambda tx: self._noted(tx, self._clock.now(), gap, FULL)

    # The spool's thread

    def _run(self) -> None:
        try:
            while not self._turn():
                pass
        finally:
            with self._changed:
                self._closing = True
                left = [*self._direct, *self._waiting]
            self._refuse(left, "the historian failed")

    def _turn(self) -> bool:
        """Do what is to be done now; True at the end."""
        with self._changed:
            self._changed.wait_for(self._due, TICK_SECONDS)
            self._look_at_age()
            items, self._waiting = self._waiting, deque()
            answers, self._answers = self._answers, []
            ending = self._ending
        self._store(items)
        for piece, error in answers:
            self._take_answer(piece, error)
        if self.forwarding and not self._closing:
            self._drain()
        return ending

    def _due(self) -> bool:
        return bool(self._waiting or self._answers or self._ending)

    def _look_at_age(self) -> None:
        if self._direct and self._clock.monotonic() - self._direct[0].entered > self._slow_seconds:
            self._go_forwarding(f"a commit takes longer than {self._slow_seconds:g} s")
        elif self._direct and self._size > self._queue // 2:
            self._go_forwarding(f"{self._size} rows wait for the database")

    def _store(self, items: Iterable[_Item]) -> None:
        """Write rows to the spool and confirm them; those it has no room for are lost."""
        kept: list[_Item] = []
        ended: list[Gap] = []
        for item in items:
            if item.settled:
                continue
            if self._put(item, ended):
                kept.append(item)
            else:
                self._refuse([item], "the spool is full")
        begun = self._put_beginnings()
        try:
            self._spool.flush()
        except StorageError as error:
            log.critical("%s", error)
            with self._changed:
                self._gaps.update((gap.group, replace(gap, open=True)) for gap in ended)
            self._refuse(kept, str(error))
            return
        with self._changed:
            for gap in begun:
                self._gaps[gap.group] = replace(self._gaps[gap.group], begun=True)
            confirmed = [item for item in kept if not item.settled]
            for item in confirmed:
                self._settle(item)
        for item in confirmed:
            item.future.set_result(None)

    def _put(self, item: _Item, ended: list[Gap]) -> bool:
        """Put an item into the spool, and the ends of gaps before it, when there is room for them."""
        content = self._spool.encoded(item.rows)
        with self._changed:
            groups = {row.group for row in item.rows} & self._gaps.keys()
        if not self._spool.room(len(content) + NOTE_SIZE * len(groups)):
            return False
        if not item.last:
            with self._changed:
                gaps = self._ended(item.rows)
            ended += gaps
            for gap in gaps:
                self._put_gap(gap)
            self._number += len(item.rows)
            item.last = self._number
        self._spool.put_rows(content, len(item.rows), item.last)
        return True

    def _put_gap(self, gap: Gap) -> None:
        self._number += max(1, len(gap.times))
        self._spool.put_gap(gap, self._number)

    def _put_beginnings(self) -> list[Gap]:
        """Note the gaps that have begun, so that a kill while they last does not hide them."""
        with self._changed:
            begun = [gap for gap in self._gaps.values() if not gap.begun]
        if not self._spool.room(NOTE_SIZE * len(begun), notes=True):
            return []
        for gap in begun:
            self._put_gap(gap)
        return begun

    def _refuse(self, items: Iterable[_Item], why: str) -> None:
        with self._changed:
            refused = [item for item in items if not item.settled]
            for item in refused:
                self._settle(item)
                self._lose(item)
        for item in refused:
            item.future.set_exception(StorageError(why))

    # Back to the database

    def _drain(self) -> None:
        """Hand what the spool holds to the writer; rows go directly again once all of it is recorded."""
        if self._draining or self._clock.monotonic() < self._retry:
            return
        try:
            records = self._spool.read(self._read, DRAIN_ROWS)
        except StorageError as error:
            self._put_off(error)
            return
        if not records:
            self._finish()
            return
        pieces = list(self._pieces(records))
        if not pieces:
            self._read = records[-1].end
            return
        self._failed, self._draining = False, len(pieces)
        after = self._writer.position
        for piece in pieces:
            then = self._note(piece.gap) if piece.gap else None
            recorded = self._writer.append_at(Place(after, piece.last), piece.rows, then)
            recorded.add_done_callback(partial(self._drained, piece))
            after = piece.last

    def _pieces(self, records: Sequence[Record]) -> Iterator[_Piece]:
        """What of the records is not recorded yet."""
        for record in records:
            if record.last <= self._writer.position:
                continue
            if record.gap:
                yield _Piece(self._markers(record.gap), record.gap, record.last, record.end)
            elif record.last > self._singly_to:
                yield _Piece(record.rows, None, record.last, record.end)
            else:
                yield from self._single(record)

    def _single(self, record: Record) -> Iterator[_Piece]:
        """The rows of a record one by one, without the poison among them."""
        first = record.last - len(record.rows) + 1
        for number, row in enumerate(record.rows, first):
            if number > self._writer.position and number not in self._poison:
                yield _Piece([row], None, number, record.start)

    def _drained(self, piece: _Piece, done: Future[None]) -> None:
        """In the writer's thread."""
        with self._changed:
            self._answers.append((piece, done.exception()))
            self._changed.notify_all()

    def _take_answer(self, piece: _Piece, error: BaseException | None) -> None:
        self._draining -= 1
        if error is None:
            self._read = piece.end
        elif self._failed:
            return  # out of turn
        elif isinstance(error, Unrecordable):
            self._isolate(piece, str(error))
        else:
            self._put_off(error)
        self._failed = error is not None

    def _put_off(self, error: BaseException) -> None:
        self.trouble = str(error)
        self._retry = self._clock.monotonic() + RETRY_SECONDS

    def _isolate(self, piece: _Piece, why: str) -> None:
        """Find the row the database refuses, and set it aside."""
        if len(piece.rows) > 1:
            self._singly_to = piece.last
            return
        [row] = piece.rows
        log.error("a row of %s at %d is set aside: %s", row.group, row.source_time, why)
        try:
            self._spool.set_aside(row, why)
        except StorageError as error:
            self._put_off(error)
            return
        self._poison.add(piece.last)
        self._singly_to = max(self._singly_to, piece.last)
        self.set_aside += 1
        gap = Gap(row.group, row.source_time, row.source_time, 1, open=False, begun=True)
        self._writer.submit(lambda tx: self._noted(tx, self._clock.now(), gap, why))

    def _finish(self) -> None:
        """Everything is recorded: back to the database directly."""
        with self._changed:
            if self._waiting:
                return
            if not self._spool.broken:
                self._spool.restart()
                self._read = self._spool.begin
            self._kept = self._writer.position
            self._poison.clear()
            self.forwarding = False
            self.trouble = self._spool.broken
            self._changed.notify_all()
        log.warning("everything in the spool is recorded")
