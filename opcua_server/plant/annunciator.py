"""From what is found and done to what is shown of alarms (ISA-18.1): one thing after the other, recorded before shown.

Findings and acts wait in one queue. Each turn takes all that waits through the machine, records what changed with the
audit entries of the people who acted in one transaction, and then shows it, in order. A turn that cannot be recorded
has not happened: who acted is refused, and what was found is found again in the next one. Only what says that nothing
can be recorded (`AlarmKind.at_once`) is told first, and recorded as soon as it can be.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

from compliance import audit
from historian import alarms as store
from historian import events as history
from nodesets.errors import EnoseError, StorageError
from nodesets.model import Basis, Finding
from nodesets.ports import Clock
from opcua_server.plant import alarm_record
from opcua_server.plant.alarm_figures import CHATTER_COUNT, CHATTER_SECONDS, Figures
from opcua_server.plant.alarm_states import Condition, Notification
from opcua_server.plant.alarms import ALARMS, Act, Alarms
from opcua_server.services.event_fields import row
from opcua_server.services.nodes import Event

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0
MOST = 100
"""Findings and acts in one turn: a flood is recorded in parts, so that none of it waits for all."""

WAITING = 10_000
"""What may wait for the storage, some 10 MB; beyond it, of each alarm only what was found last. An outage may last for
days, and what a hundred devices say of their alarms' quality alone is 200 a second."""

CHATTERS = f"Chattering: {CHATTER_COUNT} times within {CHATTER_SECONDS:g} s; look at its limit, dead-band and delay"

ROWS = 200
"""Rows one audit entry covers: their names and digests have to fit into it."""
T = TypeVar("T")
Told = tuple[Notification, ...]
Log = Callable[[Any], None]
"""Records, in the transaction of an act, who did it; `log(tx)`."""
Submit = Callable[[Callable[[Any], None]], Awaitable[None]]


class Panel(Protocol):
    """Where alarms are shown."""

    def condition(self, condition: Condition) -> None:
        """How a condition stands now."""

    def quality(self, condition: Condition) -> None:
        """Of what it is judged by: all that is new of one that never moved."""

    def event(self, told: Notification) -> Event:
        """What clients are told."""

    def notify(self, event: Event) -> None:
        """Deliver it: it is recorded."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    """Something that was found or done."""

    take: Callable[[], Told]
    log: Log | None = None
    answer: "asyncio.Future[None] | None" = None
    """Of who acted; None for a finding."""
    about: tuple[str, ...] = ()
    """What says it: a later one of the same makes it old news; empty for what stands by itself."""


class Annunciator:
    def __init__(self, alarms: Alarms, submit: Submit, panel: Panel, clock: Clock) -> None:
        self._alarms, self._submit, self._panel, self._clock = alarms, submit, panel, clock
        self._waiting: list[_Waiting] = []
        self._owed: list[tuple[Notification, Event]] = []
        """What was told at once and is not recorded yet."""
        self._taken: list[_Waiting] = []
        """What the present turn carries out."""
        self._room = WAITING
        """How much may wait before old news is left out."""
        self._closed: StorageError | None = None
        self._news = asyncio.Event()
        self._shown: dict[str, Condition] = {c.node: c for c in alarms.moved()}
        self.figures = Figures(clock.now())
        self.figures.restore(alarms.moved())

    def find(self, finding: Finding) -> None:
        """Something came, changed or went. Never blocks."""
        now = self._clock.now()
        if ALARMS[finding.kind].at_once:
            self._tell_at_once(self._alarms.update(finding, now))
        else:
            about = ("found", finding.kind, finding.source)
            self._enter(_Waiting(lambda: self._alarms.update(finding, now), about=about))

    def judge(self, basis: Basis) -> None:
        """What an alarm is judged by has another quality."""
        now = self._clock.now()
        about = ("judged", basis.kind, basis.source)
        self._enter(_Waiting(lambda: self._alarms.judge(basis, now), about=about))

    def inhibit(self, kind: str, source: str, on: bool) -> None:
        """The state of the plant suppresses an alarm, or no longer does."""
        now = self._clock.now()
        about = ("inhibited", kind, source)
        self._enter(_Waiting(lambda: self._alarms.inhibit(kind, source, on, now), about=about))

    async def act(self, node: str, act: Act, log: Log) -> None:
        """Somebody acts; returns when it is recorded and shown. Raises as `Alarms.perform`, and StorageError."""
        now = self._clock.now()
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._enter(_Waiting(lambda: self._alarms.perform(node, act, now), log, answer))
        await answer

    async def settled(self) -> None:
        """Return when everything found so far is recorded and shown, but for what waits for its delay."""
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._enter(_Waiting(tuple, answer=answer))
        await answer

    def __getitem__(self, node: str) -> Condition:
        """How a condition is shown. Raises NotFound."""
        return self._shown.get(node) or self._alarms[node]

    def shown(self) -> Iterable[Condition]:
        """Every condition that ever moved, as it is shown."""
        return self._shown.values()

    def retained(self) -> Iterable[Notification]:
        """What a client that refreshes is told: the branches of each condition of interest, then how it stands.

        Each as it is when it is asked for: more may move while it is told.
        """
        for node in list(self._shown):
            condition = self._shown[node]
            if condition.retain:
                for branch in (*condition.branches, condition.trunk):
                    yield Notification(condition, branch)

    async def run(self) -> None:
        """Until cancelled; from then on who acts is refused."""
        try:
            while True:
                await self._something()
                if not await self.turn():
                    await asyncio.sleep(RETRY_SECONDS)
        finally:
            self._closed = StorageError("the service stops")
            for waiting in (*self._taken, *self._waiting):
                _answer(waiting, self._closed)

    async def turn(self) -> bool:
        """Carry out what waits and what is due; False when it could not be recorded."""
        self._news.clear()
        self._taken, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
        taken = self._taken
        if self._waiting:
            self._news.set()
        told = list(self._alarms.due(self._clock.now()))
        refused: dict[int, EnoseError] = {}
        for i, waiting in enumerate(taken):
            try:
                told += waiting.take()
            except EnoseError as error:
                refused[i] = error
        done = [w for i, w in enumerate(taken) if i not in refused]
        changed = self._alarms.changed()
        events = [self._panel.event(n) for n in told]
        owed, self._owed = self._owed, []
        try:
            await self._record(
                (*changed, *(self._alarms[n.condition.node] for n, _ in owed)),
                [*(n for n, _ in owed), *told],
                [*(e for _, e in owed), *events],
                [w.log for w in done if w.log is not None],
            )
        except StorageError as error:
            self._owed[:0] = owed
            self._put_back(taken, error)
            return False
        self._alarms.commit()
        self._show((*changed, *self._alarms.quiet()), told, events)
        for condition in self._alarms.doubted():
            self._panel.quality(condition)
        for i, waiting in enumerate(taken):
            _answer(waiting, refused.get(i))
        self._taken = []
        return True

    def _enter(self, waiting: _Waiting) -> None:
        if self._closed is not None:
            _answer(waiting, self._closed)
            return
        self._waiting.append(waiting)
        if len(self._waiting) > self._room:
            self._leave_out_old_news()
        self._news.set()

    def _leave_out_old_news(self) -> None:
        newest: dict[object, _Waiting] = {}
        for waiting in reversed(self._waiting):
            newest.setdefault(waiting.about or waiting, waiting)
        log.error("%d changes of alarms are never told: later ones waited too", len(self._waiting) - len(newest))
        self._waiting = [*reversed(newest.values())]
        self._room = len(newest) + WAITING

    def _tell_at_once(self, told: Told) -> None:
        """Show what says that nothing can be recorded, and have it recorded as soon as it can be."""
        events = [self._panel.event(n) for n in told]
        self._show([n.condition for n in told], told, events)
        self._owed += zip(told, events, strict=True)
        self._news.set()

    async def _something(self) -> None:
        """Until something waits or is due."""
        due = self._alarms.next_due()
        timeout = None if due is None else max(due - self._clock.now(), 0) / 1e9
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._news.wait(), timeout)

    async def _record(
        self, changed: tuple[Condition, ...], told: list[Notification], events: list[Event], logs: list[Log]
    ) -> None:
        if not changed and not logs:
            return
        states = {c.node: alarm_record.dump(c) for c in changed}
        transitions = alarm_record.transitions(told)
        rows = [row(event) for event in events]

        now = self._clock.now()

        def record(tx: Any) -> None:
            written = store.save(tx, states, transitions)
            history.record(tx, rows)
            for entry in logs:
                entry(tx)
            for records in batched(written):
                audit.append(tx, audit.Entry(time=now, action="alarm.record", actor="enose", object="alarms"), records)

        await self._submit(record)

    def _put_back(self, taken: list[_Waiting], error: StorageError) -> None:
        log.error("alarms wait for the storage: %s", error)
        self._alarms.rollback()
        waiting = [*taken, *self._waiting]
        for each in waiting:  # who acted is told, however much was found before
            _answer(each, error)
        self._waiting = [w for w in waiting if w.answer is None]
        self._taken = []
        self._news.set()

    def _show(self, changed: Iterable[Condition], told: Sequence[Notification], events: Sequence[Event]) -> None:
        for condition in changed:
            self._shown[condition.node] = condition
            self._panel.condition(condition)
        for notification, event in zip(told, events, strict=True):
            self._panel.notify(event)
            chattering = self.figures.told(notification)
            if chattering and notification.condition.kind.chattering:
                self._note(chattering)

    def _note(self, node: str) -> None:
        """Write on an alarm that it chatters (ISA-18.2 16.5.5)."""
        now, act = self._clock.now(), partial(Act, name="AddComment", comment=CHATTERS, locale="en", user="enose")
        self._enter(_Waiting(lambda: self._alarms.perform(node, act(event_id=self._alarms[node].trunk.event_id), now)))


def batched(rows: list[T]) -> Iterator[list[T]]:
    """As many as one audit entry can name."""
    return (rows[i : i + ROWS] for i in range(0, len(rows), ROWS))


def _answer(waiting: _Waiting, error: EnoseError | None) -> None:
    if waiting.answer is None or waiting.answer.done():
        return
    if error is None:
        waiting.answer.set_result(None)
    else:
        waiting.answer.set_exception(error)
