"""One subscription (Part 4 5.14.1.2): its publishing cycles, and the messages it keeps until they are acknowledged."""

import asyncio
import dataclasses
import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from asyncua import ua

from nodesets.model import Caller
from nodesets.ports import Clock
from opcua_server.services.attributes import stamped
from opcua_server.services.columns import Columns
from opcua_server.services.limits import Limits
from opcua_server.services.locales import Locales
from opcua_server.services.monitored_items import DISABLED, REPORTING, SAMPLING, DataItem, EventItem, Item
from opcua_server.services.publishing import event_fields, event_notifications
from opcua_server.services.sessions import Session, Waiting
from opcua_server.services.values import Table

BEAT = 0.1
"""Seconds. Publishing cycles begin multiples of it apart, so that those of all subscriptions come together: what one
has looked at is still at hand for the next."""


class Subscription:
    """One subscription: a timer, its items, and messages kept until acknowledged (state table of 5.14.1.2)."""

    def __init__(
        self,
        number: int,
        session: Session,
        clock: Clock,
        limits: Limits,
        table: Table,
        texts: Locales,
        expired: Callable[["Subscription"], None],
        begin: float,
    ) -> None:
        """`begin`: an instant at which cycles begin, `loop.time()`."""
        self._texts = texts
        self._begin = begin
        self.id = number
        self.session: Session | None = session
        """None after its session was closed without it, until transferred or expired."""
        self.owner = session.owner
        self._caller = session.caller
        self.items: dict[int, Item] = {}
        self.columns = Columns(table)
        """Items on rows of the value table; all others are in `items`."""
        self.links: dict[int, set[int]] = {}
        """Ids of the items each triggering item reports with it (5.13.1.6)."""
        self.counts = ua.SubscriptionDiagnosticsDataType()
        """What is counted of it (Part 5 12.15)."""
        self.priority = 0
        self.enabled = True
        self.interval = 0.0
        """Milliseconds."""
        self.keep_alive = 1
        self.lifetime = 3
        self.per_message = limits.notifications
        self.late = False
        """Something is due and no Publish request was there for it."""
        self.late_since = 0.0
        """`Clock.monotonic` of when it became late."""
        self.kept: dict[int, Any] = {}
        """NotificationMessages by sequence number, for Republish."""
        self._clock = clock
        self._limits = limits
        self._expired = expired
        self._ready: dict[int, Item] = {}
        self._fired: set[int] = set()
        """Triggering items with news since the last cycle."""
        self._sequence = 1
        self._quiet = 0
        """Cycles until a keep-alive is due; the first message is due after the first cycle."""
        self._alive = 0
        self._due = 0.0
        """When the present cycle ends, `loop.time()`."""
        self._timer: asyncio.TimerHandle | None = None

    def caller(self) -> Caller | None:
        """Whose it is: of its session, or of the last it had."""
        if self.session is not None:
            self._caller = self.session.caller
        return self._caller

    def revise(self, parameters: Any) -> None:
        """Take over requested values as far as they are sane (5.14.2.2)."""
        low, high = self._limits.publishing_interval
        wanted = float(parameters.RequestedPublishingInterval)
        self.interval = low if math.isnan(wanted) else min(max(wanted, low), high)
        self.keep_alive = min(max(parameters.RequestedMaxKeepAliveCount, 1), self._limits.keep_alive)
        self.lifetime = min(max(parameters.RequestedLifetimeCount, 3 * self.keep_alive), self._limits.lifetime)
        most = self._limits.notifications
        self.per_message = min(parameters.MaxNotificationsPerPublish or most, most)
        self.priority = parameters.Priority
        self._alive = self.lifetime
        self._due = self._beat(asyncio.get_running_loop().time())
        self._schedule()

    def _beat(self, now: float) -> float:
        """The last instant at which a cycle may have begun (`BEAT`)."""
        return now - (now - self._begin) % min(self.interval / 1000, BEAT)

    def _schedule(self) -> None:
        """The next cycle: an interval after this one was due, so that late ones do not add up; none is made up for."""
        self.stop()
        loop = asyncio.get_running_loop()
        self._due += self.interval / 1000
        if self._due < (now := loop.time()):
            self._due = self._beat(now) + min(self.interval / 1000, BEAT)
        self._timer = loop.call_at(self._due, self._cycle)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def touch(self) -> None:
        """Any service call about it restarts the lifetime counter."""
        self._alive = self.lifetime

    def diagnostics(self) -> Any:
        """What was counted, and how it stands now."""
        modes = [*self.columns.modes(), *(item.mode for item in self.items.values())]
        return dataclasses.replace(
            self.counts,
            SessionId=self.session.id if self.session is not None else ua.NodeId(),
            SubscriptionId=self.id,
            Priority=self.priority,
            PublishingInterval=self.interval,
            MaxKeepAliveCount=self.keep_alive,
            MaxLifetimeCount=self.lifetime,
            MaxNotificationsPerPublish=self.per_message,
            PublishingEnabled=self.enabled,
            CurrentKeepAliveCount=max(self._quiet, 0),
            CurrentLifetimeCount=self.lifetime - self._alive,
            UnacknowledgedMessageCount=len(self.kept),
            MonitoredItemCount=len(modes),
            DisabledMonitoredItemCount=modes.count(DISABLED),
            NextSequenceNumber=self._sequence,
        )

    @property
    def room(self) -> int:
        """Values and events that may wait in the queues of all items."""
        return self.columns.room + sum(item.queue_size for item in self.items.values())

    def queue_size(self, number: int) -> int:
        """Of an item; 0 without such an item."""
        if number in self.columns:
            return self.columns.queue_size(number)
        return self.items[number].queue_size if number in self.items else 0

    def ready(self, item: Item) -> None:
        """The item has something in its queue."""
        if item.mode == REPORTING:
            self._ready[item.id] = item
        if item.id in self.links:
            self._fired.add(item.id)

    def forget(self, item: Item) -> None:
        self._ready.pop(item.id, None)

    def _fire(self) -> None:
        """What a triggering item's news makes ready: the sampling items linked to it (5.13.1.6)."""
        for number in self._fired:
            for linked in map(self.items.get, self.links.get(number, ())):
                if linked is not None and linked.mode == SAMPLING and linked.queue:
                    self._ready[linked.id] = linked
        self._fired.clear()

    def _cycle(self) -> None:
        """End of a publishing interval."""
        self._schedule()
        if self.session is not None and self.session.publish:
            self.touch()
        self._alive -= 1
        if self._alive <= 0:
            self._expired(self)
            return
        self._flush()
        self._fire()
        self._quiet -= 1
        if self.late or (self.enabled and self._pending()) or self._quiet < 0:
            self.deliver()

    def _flush(self) -> None:
        now = self._clock.monotonic()
        self.columns.flush(now)
        for item in self.items.values():
            if isinstance(item, DataItem):
                item.flush(now)

    def _pending(self) -> bool:
        return any(item.queue for item in self._ready.values()) or self.columns.ready()

    def deliver(self) -> None:
        """Send what is due while Publish requests are there; `late` when they run out."""
        while True:
            waiting = next_waiting(self.session, self._clock) if self.session is not None else None
            if waiting is None:
                if not self.late:
                    self.counts.LatePublishRequestCount += 1
                    self.late, self.late_since = True, self._clock.monotonic()
                return
            self.counts.PublishRequestCount += 1
            self.late = False
            self._quiet = self.keep_alive - 1
            self.touch()
            if not (self.enabled and self._pending()):
                self._respond(waiting, ua.NotificationMessage(SequenceNumber=self._sequence), more=False)
                return
            message = ua.NotificationMessage(NotificationData=self._collect())
            more = self._pending()
            self.keep(message)
            self._respond(waiting, message, more=more)
            if not more:
                return

    def keep(self, message: Any) -> None:
        """Number a message and keep it for Republish; keep-alives are neither (5.14.1.1)."""
        message.SequenceNumber = self.next_number()
        self.kept[message.SequenceNumber] = message
        while len(self.kept) > self._limits.retransmission:
            del self.kept[next(iter(self.kept))]
            self.counts.DiscardedMessageCount += 1

    def next_number(self) -> int:
        """Sequence number of a message; after the last of UInt32 comes 1 (5.14.1.1)."""
        number = self._sequence
        self._sequence = number + 1 if number < 0xFFFFFFFF else 1
        return number

    def _collect(self) -> list[Any]:
        """At most `per_message` notifications, oldest of each item first."""
        room = self.per_message
        values: list[Any] = []
        events: list[tuple[int, bytes]] = []
        for item in list(self._ready.values()):
            while item.queue and len(values) + len(events) < room:
                entry = item.queue.popleft()
                if isinstance(item, EventItem):
                    events.append((item.client_handle, entry))
                elif isinstance(item, DataItem):
                    value = stamped(entry, item.stamps)
                    values.append(ua.MonitoredItemNotification(ClientHandle=item.client_handle, Value=value))
            if item.queue:
                break
            self.forget(item)
        columns, count = self.columns.collect(room - len(values) - len(events))
        self.counts.DataChangeNotificationsCount += len(values) + count
        self.counts.EventNotificationsCount += len(events)
        self.counts.NotificationsCount += len(values) + count + len(events)
        if self.session is not None and self.session.locales:
            for notification in values:
                (notification.Value,) = self._texts.values([notification.Value], self.session.locales)
        data: list[Any] = [] if columns is None else [columns]
        if values:
            data.append(ua.DataChangeNotification(MonitoredItems=values))
        if events:
            data.append(event_notifications(events))
        return data

    def encoded(self, fields: list[Any]) -> bytes:
        """Fields of an event as the session gets them, in the language it prefers."""
        wanted = self.session.locales if self.session is not None else ()
        return event_fields([self._texts.variant(field, wanted) for field in fields] if wanted else fields)

    def _respond(self, waiting: Waiting, message: Any, *, more: bool) -> None:
        respond(waiting, self.id, message, sorted(self.kept), more=more)


def respond(waiting: Waiting, subscription: int, message: Any, available: list[int], *, more: bool = False) -> None:
    message.PublishTime = datetime.now(UTC)
    response = ua.PublishResponse()
    response.Parameters = ua.PublishResult(
        SubscriptionId=subscription,
        AvailableSequenceNumbers=available,
        MoreNotifications=more,
        NotificationMessage=message,
        Results=waiting.results,
    )
    waiting.channel.respond(waiting.header, waiting.sequence, response, waiting.most)


def next_waiting(session: Session, clock: Clock) -> Waiting | None:
    """The oldest Publish request still wanted; those past their TimeoutHint are answered BadTimeout."""
    while session.publish:
        waiting = session.publish.popleft()
        if waiting.deadline is None or clock.monotonic() <= waiting.deadline:
            return waiting
        waiting.channel.fault(waiting.header, waiting.sequence, ua.StatusCodes.BadTimeout)
    return None
