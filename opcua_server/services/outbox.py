"""Events on their way out: recorded first, together with what the audit log says of them, then delivered."""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from nodesets.model import Note
from nodesets.ports import Journal
from opcua_server.services.event_fields import row
from opcua_server.services.nodes import Event

log = logging.getLogger(__name__)


class Outbox:
    """Delivers in the order of `put`. Without a journal it delivers at once."""

    def __init__(self, journal: Journal | None, deliver: Callable[[Event], None]) -> None:
        self._journal = journal
        self._deliver = deliver
        self._waiting: list[tuple[Event, Note | None]] = []
        self._recorded: asyncio.Future[None] | None = None

    def put(self, event: Event, note: Note | None = None) -> None:
        """Record and deliver. What comes within one turn of the loop is one transaction."""
        if self._journal is None:
            self._deliver(event)
            return
        self._waiting.append((event, note))
        if len(self._waiting) == 1:
            asyncio.get_running_loop().call_soon(self._send)

    async def settle(self) -> None:
        """Return when everything put before is on the disk, or could not be brought there."""
        if self._waiting:
            self._send()
        if self._recorded is not None:
            await asyncio.wait([self._recorded])

    def _send(self) -> None:
        waiting, self._waiting = self._waiting, []
        if self._journal is None or not waiting:
            return
        rows = [row(event) for event, _ in waiting]
        notes = [note for _, note in waiting if note is not None]
        self._recorded = asyncio.wrap_future(self._journal.note(rows, notes))
        self._recorded.add_done_callback(partial(self._done, [event for event, _ in waiting]))

    def _done(self, events: list[Event], recorded: "asyncio.Future[Any]") -> None:
        """What the storage refuses is delivered all the same: an operator has to see an alarm, then above all."""
        if error := recorded.exception():
            log.error("%d events not recorded: %s", len(events), error)
        for event in events:
            self._deliver(event)
