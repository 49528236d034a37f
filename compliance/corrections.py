"""Corrections of the history by people: each with its audit entry, in one transaction (process rule 13, Part 11 6.9).

Only values without a device source are corrected; whoever calls sees to that, and to the role.
"""

from asyncio import wrap_future
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from sqlalchemy import Connection

from compliance import audit
from compliance.rows import entry
from historian import corrections
from historian.archive import Archive
from historian.corrections import Author
from historian.query import Reader
from historian.writer import Writer
from nodesets.model import Caller, UpdateType
from nodesets.ports import Annotation, Change, Clock, Corrected, Series

GOOD: Final = 0
GOOD_ENTRY_INSERTED: Final = 0x00A20000
GOOD_ENTRY_REPLACED: Final = 0x00A30000
BAD_ENTRY_EXISTS: Final = 0x809F0000
BAD_NO_ENTRY_EXISTS: Final = 0x80A00000
BAD_NO_DATA: Final = 0x809B0000

ACTIONS = {
    UpdateType.INSERT: "history.insert",
    UpdateType.REPLACE: "history.replace",
    UpdateType.UPDATE: "history.update",
    UpdateType.DELETE: "history.delete",
}
T = TypeVar("T")

AT_ONCE: Final = 1_000
"""Values deleted, page by page."""
LOGGED: Final = 100
"""Values in one audit entry."""


class Corrections(Archive):
    """`ports.Archive`: history that authorised people may correct and annotate."""

    def __init__(self, reader: Reader, writer: Writer, clock: Clock) -> None:
        super().__init__(reader, clock)
        self._writer = writer

    async def update(
        self, tag: str, changes: Sequence[Change], kind: UpdateType, caller: Caller, reason: str
    ) -> list[Corrected]:
        """Insert refuses what is there, Replace what is not, Update takes either (6.9.2.2 to 6.9.2.4)."""

        def one(tx: Connection, new: Change, author: Author) -> Corrected:
            old = self._standing(tx, tag, new.time)
            if kind is UpdateType.INSERT and old:
                return Corrected(BAD_ENTRY_EXISTS)
            if kind is UpdateType.REPLACE and not old:
                return Corrected(BAD_NO_ENTRY_EXISTS)
            made = corrections.change(tx, tag, old, new, kind, author)
            self._log(tx, tag, kind, caller, author, old, [new], made)
            return Corrected(_done(kind, bool(old)), old)

        return await self._each(changes, caller, reason, one)

    async def delete(self, tag: str, start: int, end: int, caller: Caller, reason: str) -> tuple[int, Sequence[Change]]:
        def work(tx: Connection) -> tuple[int, Sequence[Change]]:
            after, number, first = None, 0, list[Change]()
            while True:
                page = self.page(tx, tag, start, end, AT_ONCE, after)
                gone = _changes(page)
                self._delete(tx, tag, gone, caller, self._author(caller, reason))
                number, after, first = number + len(gone), page.more, first or gone
                if after is None:
                    return number, first

        return await self._carried_out(work)

    async def delete_at(self, tag: str, times: Sequence[int], caller: Caller, reason: str) -> list[Corrected]:
        def one(tx: Connection, time: int, author: Author) -> Corrected:
            old = self._standing(tx, tag, time)
            self._delete(tx, tag, old, caller, author)
            return Corrected(GOOD if old else BAD_NO_DATA, old)

        return await self._each(times, caller, reason, one)

    async def annotate(
        self, tag: str, notes: Sequence[Annotation], kind: UpdateType, caller: Caller
    ) -> list[Corrected]:
        """One annotation of a user at an instant: Remove takes it away (6.9.3)."""

        def one(tx: Connection, note: Annotation, author: Author) -> Corrected:
            there = corrections.annotated(tx, tag, note.time, note.user)
            if kind is UpdateType.INSERT and there:
                return Corrected(BAD_ENTRY_EXISTS)
            if kind in (UpdateType.REPLACE, UpdateType.DELETE) and not there:
                return Corrected(BAD_NO_ENTRY_EXISTS)
            made = corrections.annotate(tx, tag, note, removed=kind is UpdateType.DELETE)
            told = {"time": note.time, "user": note.user, "message": note.message, "kind": kind.name}
            logged = entry(caller, author.made, "history.annotate", tag, reason=author.reason, new=told)
            audit.append(tx, logged, [("annotation", made)])
            return Corrected(_done(kind, there is not None), [there] if there else [])

        return await self._each(notes, caller, "", one)

    # -- in a transaction

    async def _each(
        self, items: Sequence[T], caller: Caller, reason: str, one: Callable[[Connection, T, Author], Corrected]
    ) -> list[Corrected]:
        """What `one` says of each item, all in one transaction."""
        author = self._author(caller, reason)
        return await self._carried_out(lambda tx: [one(tx, item, author) for item in items])

    async def _carried_out(self, work: Callable[[Connection], T]) -> T:
        done = await wrap_future(self._writer.submit(work))
        self._ahead.forget()
        return done

    def _standing(self, tx: Connection, tag: str, time: int) -> list[Change]:
        """What stands at an instant now."""
        return _changes(self.page(tx, tag, time, time, AT_ONCE))

    def _delete(self, tx: Connection, tag: str, values: Sequence[Change], caller: Caller, author: Author) -> None:
        if values:
            made = corrections.delete(tx, tag, values, author)
            self._log(tx, tag, UpdateType.DELETE, caller, author, values, [], made)

    def _author(self, caller: Caller, reason: str) -> Author:
        return Author(caller.user, reason, self._clock.now())

    def _log(
        self,
        tx: Connection,
        tag: str,
        kind: UpdateType,
        caller: Caller,
        author: Author,
        old: Sequence[Change],
        new: Sequence[Change],
        made: Sequence[int],
    ) -> None:
        """Entries of the rows a correction made, each no longer than an entry can be."""
        for first in range(0, len(made), LOGGED):
            rows, gone = made[first : first + LOGGED], old[first : first + LOGGED]
            told = {"old": [_told(v) for v in gone], "new": [_told(v) for v in new]}
            logged = entry(caller, author.made, ACTIONS[kind], tag, reason=author.reason, **told)
            audit.append(tx, logged, [("correction", row) for row in rows])


def _done(kind: UpdateType, old: bool) -> int:
    """StatusCode of what was carried out."""
    if kind is not UpdateType.UPDATE:
        return GOOD
    return GOOD_ENTRY_REPLACED if old else GOOD_ENTRY_INSERTED


def _changes(page: Series) -> list[Change]:
    """Values of a page one by one, as they are corrected one by one."""
    columns = page.times.tolist(), page.received.tolist(), page.values.tolist(), page.status.tolist()
    return [
        Change(time, received, value, corrections.without_mark(status))
        for time, received, value, status in zip(*columns, strict=True)
    ]


def _told(value: Change) -> dict[str, Any]:
    return {"time": value.time, "value": value.value, "status": value.status}
