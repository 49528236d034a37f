"""From what is found and done to what is shown of alarms (ISA-18.1): one thing after the other, recorded before shown.

Findings and acts wait in one queue. Each turn takes all that waits through the machine and hands over what changed, and
the audit entries of the people who acted, to be recorded in one piece; once that is on the disk it is shown, in order.
A turn does not wait for the one before it to be on the disk, but is never recorded without it. One that cannot be
recorded has not happened, nor has any after it: who acted is refused, and what was found is found again. Only what says
that nothing can be recorded (`AlarmKind.at_once`) is told first, and recorded as soon as it can be.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
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
from opcua_server.plant.alarms import ALARMS, Act, Alarms, Before
from opcua_server.services.event_fields import row
from opcua_server.services.nodes import Event

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0
MOST = 100
"""Findings and acts not yet recorded: a flood is recorded in parts, so that none of it waits for all."""

CHATTERS = f"Chattering: {CHATTER_COUNT} times within {CHATTER_SECONDS:g} s; look at its limit, dead-band and delay"

ROWS = 200
"""Rows one audit entry covers: their names and digests have to fit into it."""
T = TypeVar("T")
Told = tuple[Notification, ...]
Log = Callable[[Any], None]
"""Records, in the transaction of an act, who did it; `log(tx)`."""
Submit = Callable[[Callable[[Any], None]], "Future[None]"]
"""Has something recorded after all handed over before; done when it is on the disk, in the thread that records."""


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


class _Record:
    """What a turn has recorded; never without what was handed over before it. Used by the thread that records."""

    def __init__(self, write: Log, former: "_Record | None") -> None:
        self._write = write
        self._former = former
        self._stands = False
        """In the database, or in the transaction under way."""

    def __call__(self, tx: Any) -> None:
        self._stands = False
        if self._former is not None and not self._former._stands:  # noqa: SLF001 - one of its own
            raise StorageError("what came before it could not be recorded")
        self._write(tx)
        self._stands = True

    def done(self, future: "Future[None]") -> None:
        """Its transaction is over."""
        self._former = None
        self._stands = future.exception() is None


@dataclass(frozen=True, slots=True, eq=False)
class _Turn:
    """What was carried out together, and is shown together once it is recorded."""

    taken: Sequence[_Waiting]
    refused: dict[int, EnoseError]
    """By number of what was taken."""
    shown: tuple[Condition, ...]
    doubted: tuple[Condition, ...]
    told: Sequence[Notification]
    events: Sequence[Event]
    owed: Sequence[tuple[Notification, Event]]
    before: Before
    recorded: "asyncio.Future[None]"


class Annunciator:
    def __init__(self, alarms: Alarms, submit: Submit, panel: Panel, clock: Clock) -> None:
        self._alarms, self._submit, self._panel, self._clock = alarms, submit, panel, clock
        self._waiting: list[_Waiting] = []
        self._owed: list[tuple[Notification, Event]] = []
        """What was told at once and is not recorded yet."""
        self._turns: deque[_Turn] = deque()
        """What is carried out and not recorded yet."""
        self._former: _Record | None = None
        """What was handed over last."""
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
            self._enter(_Waiting(lambda: self._alarms.update(finding, now)))

    def judge(self, basis: Basis) -> None:
        """What an alarm is judged by has another quality."""
        now = self._clock.now()
        self._enter(_Waiting(lambda: self._alarms.judge(basis, now)))

    def inhibit(self, kind: str, source: str, on: bool) -> None:
        """The state of the plant suppresses an alarm, or no longer does."""
        now = self._clock.now()
        self._enter(_Waiting(lambda: self._alarms.inhibit(kind, source, on, now)))

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
                error = self._tell()
                if error is not None:
                    await self._put_back(error)
                    await asyncio.sleep(RETRY_SECONDS)
                elif self._pressing():
                    self._begin()
        finally:
            self._closed = StorageError("the service stops")
            for turn in self._turns:
                turn.recorded.cancel()
            for waiting in (*(w for turn in self._turns for w in turn.taken), *self._waiting):
                _answer(waiting, self._closed)

    async def turn(self) -> bool:
        """Carry out what waits and what is due, and show it; False when it could not be recorded."""
        self._begin()
        await asyncio.wait([turn.recorded for turn in self._turns])
        error = self._tell()
        if error is not None:
            await self._put_back(error)
        return error is None

    def _room(self) -> int:
        """Findings and acts that may still be handed over."""
        return MOST - sum(len(turn.taken) for turn in self._turns)

    def _pressing(self) -> bool:
        """Whether something is to be carried out now."""
        due = self._alarms.next_due()
        now = bool(self._waiting or self._owed) or (due is not None and due <= self._clock.now())
        return now and self._room() > 0

    def _begin(self) -> None:
        """Carry out what waits and what is due, and hand it over to be recorded."""
        room = self._room()
        taken, self._waiting = self._waiting[:room], self._waiting[room:]
        told = list(self._alarms.due(self._clock.now()))
        refused: dict[int, EnoseError] = {}
        for i, waiting in enumerate(taken):
            try:
                told += waiting.take()
            except EnoseError as error:
                refused[i] = error
        logs = [w.log for i, w in enumerate(taken) if i not in refused and w.log is not None]
        changed = self._alarms.changed()
        events = [self._panel.event(n) for n in told]
        owed, self._owed = self._owed, []
        recorded = self._record(
            (*changed, *(self._alarms[n.condition.node] for n, _ in owed)),
            [*(n for n, _ in owed), *told],
            [*(e for _, e in owed), *events],
            logs,
        )
        recorded.add_done_callback(lambda _: self._news.set())
        shown, doubted = (*changed, *self._alarms.quiet()), self._alarms.doubted()
        before = self._alarms.commit()
        self._turns.append(_Turn(taken, refused, shown, doubted, told, events, owed, before, recorded))

    def _tell(self) -> StorageError | None:
        """Show what is recorded by now, in order; what the first of the others failed with."""
        while self._turns and self._turns[0].recorded.done():
            try:
                self._turns[0].recorded.result()
            except StorageError as error:
                return error
            turn = self._turns.popleft()
            self._show(turn.shown, turn.told, turn.events)
            for condition in turn.doubted:
                self._panel.quality(condition)
            for i, waiting in enumerate(turn.taken):
                _answer(waiting, turn.refused.get(i))
        return None

    def _enter(self, waiting: _Waiting) -> None:
        if self._closed is not None:
            _answer(waiting, self._closed)
            return
        self._waiting.append(waiting)
        self._news.set()

    def _tell_at_once(self, told: Told) -> None:
        """Show what says that nothing can be recorded, and have it recorded as soon as it can be."""
        events = [self._panel.event(n) for n in told]
        self._show([n.condition for n in told], told, events)
        self._owed += zip(told, events, strict=True)
        self._news.set()

    async def _something(self) -> None:
        """Until something waits, is due or is recorded."""
        due = self._alarms.next_due() if self._room() > 0 else None
        timeout = None if due is None else max(due - self._clock.now(), 0) / 1e9
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._news.wait(), timeout)
        self._news.clear()

    def _record(
        self, changed: tuple[Condition, ...], told: list[Notification], events: list[Event], logs: list[Log]
    ) -> "asyncio.Future[None]":
        """Hand over; done when it is on the disk. Where there is nothing to record, when what came before it is."""
        if not changed and not logs:
            return self._turns[-1].recorded if self._turns else _nothing()
        states = {c.node: alarm_record.dump(c) for c in changed}
        transitions = alarm_record.transitions(told)
        rows = [row(event) for event in events]
        now = self._clock.now()

        def write(tx: Any) -> None:
            written = store.save(tx, states, transitions)
            history.record(tx, rows)
            for entry in logs:
                entry(tx)
            for records in batched(written):
                audit.append(tx, audit.Entry(time=now, action="alarm.record", actor="enose", object="alarms"), records)

        record = _Record(write, self._former if self._turns else None)
        future = self._submit(record)
        future.add_done_callback(record.done)
        self._former = record
        return asyncio.wrap_future(future)

    async def _put_back(self, error: StorageError) -> None:
        """Take back everything handed over: what comes after something that is not recorded is not recorded either."""
        await asyncio.wait([turn.recorded for turn in self._turns])
        turns, self._turns = self._turns, deque()
        log.error("alarms wait for the storage: %s", error)
        self._alarms.rollback(*(turn.before for turn in reversed(turns)))
        taken = [waiting for turn in turns for waiting in turn.taken]
        for waiting in taken:
            if waiting.answer is not None:
                _answer(waiting, error)
        self._waiting[:0] = [w for w in taken if w.answer is None]
        self._owed[:0] = [owed for turn in turns for owed in turn.owed]
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
        now, act = self._clock.now(), partial(Act, name="AddComment", comment=CHATTERS, user="enose")
        self._enter(_Waiting(lambda: self._alarms.perform(node, act(event_id=self._alarms[node].trunk.event_id), now)))


def batched(rows: list[T]) -> Iterator[list[T]]:
    """As many as one audit entry can name."""
    return (rows[i : i + ROWS] for i in range(0, len(rows), ROWS))


def _nothing() -> "asyncio.Future[None]":
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    done.set_result(None)
    return done


def _answer(waiting: _Waiting, error: EnoseError | None) -> None:
    if waiting.answer is None or waiting.answer.done():
        return
    if error is None:
        waiting.answer.set_result(None)
    else:
        waiting.answer.set_exception(error)
