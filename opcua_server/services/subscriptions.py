"""Subscription service set (Part 4 5.14) and the services of monitored items, for one session at a time.

Every id a client names is looked up among its own session's subscriptions: those of others do not exist for it.
"""

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from asyncua import ua

from nodesets.ports import Clock
from opcua_server.services.attributes import Attributes, check_timestamps, parse_range
from opcua_server.services.event_filters import EventFilter
from opcua_server.services.limits import Limits
from opcua_server.services.monitored_items import DISABLED, DataItem, EventItem, Item, data_filter
from opcua_server.services.sessions import Session, Waiting
from opcua_server.services.space import Space
from opcua_server.services.status import GOOD, Fault, status

SUBSCRIBE_TO_EVENTS = 1
"""Bit of EventNotifier (Part 3 8.59)."""


class Subscription:
    """One subscription: a timer, its items, and messages kept until acknowledged (state table of 5.14.1.2)."""

    def __init__(
        self, number: int, session: Session, clock: Clock, limits: Limits, expired: Callable[["Subscription"], None]
    ) -> None:
        self.id = number
        self.session: Session | None = session
        """None after its session was closed without it, until transferred or expired."""
        self.owner = session.user.user
        self.items: dict[int, Item] = {}
        self.priority = 0
        self.enabled = True
        self.interval = 0.0
        """Milliseconds."""
        self.keep_alive = 1
        self.lifetime = 3
        self.per_message = limits.notifications
        self.late = False
        """Something is due and no Publish request was there for it."""
        self.kept: dict[int, Any] = {}
        """NotificationMessages by sequence number, for Republish."""
        self._clock = clock
        self._limits = limits
        self._expired = expired
        self._ready: dict[int, Item] = {}
        self._sequence = 1
        self._quiet = 0
        """Cycles until a keep-alive is due; the first message is due after the first cycle."""
        self._alive = 0
        self._timer: asyncio.TimerHandle | None = None

    def revise(self, parameters: Any) -> None:
        """Take over requested values as far as they are sane (5.14.2.2)."""
        low, high = self._limits.publishing_interval
        wanted = float(parameters.RequestedPublishingInterval)
        self.interval = low if math.isnan(wanted) else min(max(wanted, low), high)
        self.keep_alive = min(max(parameters.RequestedMaxKeepAliveCount or 10, 1), self._limits.keep_alive)
        wanted_lifetime = parameters.RequestedLifetimeCount or self._limits.lifetime
        self.lifetime = min(max(wanted_lifetime, 3 * self.keep_alive), self._limits.lifetime)
        most = self._limits.notifications
        self.per_message = min(parameters.MaxNotificationsPerPublish or most, most)
        self.priority = parameters.Priority
        self._alive = self.lifetime
        self._schedule()

    def _schedule(self) -> None:
        self.stop()
        self._timer = asyncio.get_running_loop().call_later(self.interval / 1000, self._cycle)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def touch(self) -> None:
        """Any service call about it restarts the lifetime counter."""
        self._alive = self.lifetime

    def ready(self, item: Item) -> None:
        self._ready[item.id] = item

    def forget(self, item: Item) -> None:
        self._ready.pop(item.id, None)

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
        self._quiet -= 1
        if self.late or (self.enabled and self._pending()) or self._quiet < 0:
            self.deliver()

    def _flush(self) -> None:
        now = self._clock.monotonic()
        for item in self.items.values():
            if isinstance(item, DataItem):
                item.flush(now)

    def _pending(self) -> bool:
        return any(item.queue for item in self._ready.values())

    def deliver(self) -> None:
        """Send what is due while Publish requests are there; `late` when they run out."""
        while True:
            waiting = next_waiting(self.session, self._clock) if self.session is not None else None
            if waiting is None:
                self.late = True
                return
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
        message.SequenceNumber = self._sequence
        self._sequence = self._sequence + 1 if self._sequence < 0xFFFFFFFF else 1
        self.kept[message.SequenceNumber] = message
        while len(self.kept) > self._limits.retransmission:
            del self.kept[next(iter(self.kept))]

    def _collect(self) -> list[Any]:
        """At most `per_message` notifications, oldest of each item first."""
        room = self.per_message
        values: list[Any] = []
        events: list[Any] = []
        for item in list(self._ready.values()):
            while item.queue and len(values) + len(events) < room:
                entry = item.queue.popleft()
                if isinstance(item, EventItem):
                    events.append(ua.EventFieldList(ClientHandle=item.client_handle, EventFields=entry))
                else:
                    values.append(ua.MonitoredItemNotification(ClientHandle=item.client_handle, Value=entry))
            if item.queue:
                break
            self.forget(item)
        data: list[Any] = []
        if values:
            data.append(ua.DataChangeNotification(MonitoredItems=values))
        if events:
            data.append(ua.EventNotificationList(Events=events))
        return data

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
    waiting.channel.respond(waiting.header, waiting.sequence, response)


def next_waiting(session: Session, clock: Clock) -> Waiting | None:
    """The oldest Publish request still wanted; those past their TimeoutHint are answered BadTimeout."""
    while session.publish:
        waiting = session.publish.popleft()
        if waiting.deadline is None or clock.monotonic() <= waiting.deadline:
            return waiting
        waiting.channel.fault(waiting.header, waiting.sequence, ua.StatusCodes.BadTimeout)
    return None


class Subscriptions:
    """All subscriptions, and the event items by the notifier they listen to."""

    def __init__(self, space: Space, attributes: Attributes, clock: Clock, limits: Limits) -> None:
        self._space = space
        self._attributes = attributes
        self._clock = clock
        self._limits = limits
        self._all: dict[int, Subscription] = {}
        self._next = 1
        self._next_item = 1
        self.listeners: dict[Any, dict[int, EventItem]] = {}
        """Event items by notifier."""

    # -- subscriptions

    def create(self, session: Session, parameters: Any) -> Any:
        """CreateSubscription (5.14.2)."""
        if len(self._all) >= self._limits.subscriptions or (
            len(session.subscriptions) >= self._limits.subscriptions_per_session
        ):
            raise Fault(ua.StatusCodes.BadTooManySubscriptions)
        subscription = Subscription(self._next, session, self._clock, self._limits, self._expire)
        self._next += 1
        subscription.enabled = parameters.PublishingEnabled
        subscription.revise(parameters)
        self._all[subscription.id] = session.subscriptions[subscription.id] = subscription
        return ua.CreateSubscriptionResult(
            SubscriptionId=subscription.id,
            RevisedPublishingInterval=subscription.interval,
            RevisedLifetimeCount=subscription.lifetime,
            RevisedMaxKeepAliveCount=subscription.keep_alive,
        )

    def modify(self, session: Session, parameters: Any) -> Any:
        """ModifySubscription (5.14.3)."""
        subscription = self._own(session, parameters.SubscriptionId)
        subscription.revise(parameters)
        return ua.ModifySubscriptionResult(
            RevisedPublishingInterval=subscription.interval,
            RevisedLifetimeCount=subscription.lifetime,
            RevisedMaxKeepAliveCount=subscription.keep_alive,
        )

    def set_publishing(self, session: Session, parameters: Any) -> list[Any]:
        """SetPublishingMode (5.14.4)."""

        def switch(number: int) -> None:
            self._own(session, number).enabled = parameters.PublishingEnabled

        return [_status_of(switch, number) for number in parameters.SubscriptionIds]

    def delete(self, session: Session, numbers: Iterable[int]) -> list[Any]:
        """DeleteSubscriptions (5.14.8)."""
        results = [_status_of(lambda n: self._remove(self._own(session, n)), number) for number in numbers]
        if not session.subscriptions:
            while session.publish:
                waiting = session.publish.popleft()
                waiting.channel.fault(waiting.header, waiting.sequence, ua.StatusCodes.BadNoSubscription)
        return results

    def own(self, session_id: str, number: int) -> Subscription:
        """A subscription of the session with this id. Raises Fault BadSubscriptionIdInvalid."""
        found = self._all.get(number)
        if found is None or found.session is None or found.session.user.session != session_id:
            raise Fault(ua.StatusCodes.BadSubscriptionIdInvalid)
        return found

    def _own(self, session: Session, number: int) -> Subscription:
        subscription: Subscription | None = session.subscriptions.get(number)
        if subscription is None:
            raise Fault(ua.StatusCodes.BadSubscriptionIdInvalid)
        subscription.touch()
        return subscription

    def _remove(self, subscription: Subscription) -> None:
        subscription.stop()
        del self._all[subscription.id]
        if subscription.session is not None:
            del subscription.session.subscriptions[subscription.id]
        for item in list(subscription.items.values()):
            self._drop(subscription, item)

    def _expire(self, subscription: Subscription) -> None:
        """Nobody asked for its lifetime long: StatusChange BadTimeout, then gone (5.14.1.2)."""
        session = subscription.session
        self._remove(subscription)
        if session is not None:
            self._notify_status(session, subscription, ua.StatusCodes.BadTimeout)

    def _notify_status(self, session: Session, subscription: Subscription, code: int) -> None:
        waiting = next_waiting(session, self._clock)
        if waiting is not None:
            change = ua.StatusChangeNotification(Status=ua.StatusCode(code))
            message = ua.NotificationMessage(NotificationData=[change])
            subscription.keep(message)
            respond(waiting, subscription.id, message, [])

    def session_closed(self, session: Session, delete: bool) -> None:
        """With `delete` they go with it; without, they wait for TransferSubscriptions until their lifetime ends."""
        for subscription in list(session.subscriptions.values()):
            if delete:
                self._remove(subscription)
            else:
                subscription.session = None
        session.subscriptions.clear()

    def stop(self) -> None:
        for subscription in list(self._all.values()):
            self._remove(subscription)

    def transfer(self, session: Session, parameters: Any) -> list[Any]:
        """TransferSubscriptions (5.14.7): to a session of the same user."""
        return [self._transfer(session, n, parameters.SendInitialValues) for n in parameters.SubscriptionIds]

    def _transfer(self, session: Session, number: int, send_initial: bool) -> Any:
        subscription = self._all.get(number)
        if subscription is None:
            return ua.TransferResult(StatusCode=status(ua.StatusCodes.BadSubscriptionIdInvalid))
        if subscription.owner != session.user.user:
            return ua.TransferResult(StatusCode=status(ua.StatusCodes.BadUserAccessDenied))
        old = subscription.session
        if old is session:
            return ua.TransferResult(StatusCode=status(ua.StatusCodes.BadNothingToDo))
        if len(session.subscriptions) >= self._limits.subscriptions_per_session:
            return ua.TransferResult(StatusCode=status(ua.StatusCodes.BadTooManySubscriptions))
        available = sorted(subscription.kept)
        if old is not None:
            del old.subscriptions[number]
            change = ua.StatusChangeNotification(Status=ua.StatusCode(ua.StatusCodes.GoodSubscriptionTransferred))
            waiting = next_waiting(old, self._clock)
            if waiting is not None:
                respond(waiting, number, ua.NotificationMessage(NotificationData=[change]), [])
        subscription.session = session
        session.subscriptions[number] = subscription
        subscription.touch()
        if send_initial:
            self._resend(subscription)
        return ua.TransferResult(AvailableSequenceNumbers=available)

    def _resend(self, subscription: Subscription) -> None:
        for item in subscription.items.values():
            if isinstance(item, DataItem) and item.mode == ua.MonitoringMode.Reporting and not item.queue:
                item.start(self._current(item.target))

    # -- publishing

    def publish(self, session: Session, waiting: Waiting, acknowledgements: Iterable[Any]) -> None:
        """Publish (5.14.5): answered when something is due."""
        waiting.results.extend(_status_of(lambda a: self._acknowledge(session, a), a) for a in acknowledgements)
        if not session.subscriptions:
            raise Fault(ua.StatusCodes.BadNoSubscription)
        session.publish.append(waiting)
        while len(session.publish) > self._limits.publish_requests:
            oldest = session.publish.popleft()
            oldest.channel.fault(oldest.header, oldest.sequence, ua.StatusCodes.BadTooManyPublishRequests)
        late = [s for s in session.subscriptions.values() if s.late]
        for subscription in sorted(late, key=lambda s: -s.priority):
            if session.publish:
                subscription.deliver()

    def _acknowledge(self, session: Session, acknowledgement: Any) -> None:
        kept = self._own(session, acknowledgement.SubscriptionId).kept
        if kept.pop(acknowledgement.SequenceNumber, None) is None:
            raise Fault(ua.StatusCodes.BadSequenceNumberUnknown)

    def republish(self, session: Session, parameters: Any) -> Any:
        """Republish (5.14.6). node-opcua asks until it hears BadMessageNotAvailable."""
        message = self._own(session, parameters.SubscriptionId).kept.get(parameters.RetransmitSequenceNumber)
        if message is None:
            raise Fault(ua.StatusCodes.BadMessageNotAvailable)
        return message

    # -- monitored items

    def create_items(self, session: Session, parameters: Any) -> list[Any]:
        """CreateMonitoredItems (5.13.2)."""
        subscription = self._own(session, parameters.SubscriptionId)
        check_timestamps(parameters.TimestampsToReturn)
        room = self._limits.items - sum(len(s.items) for s in session.subscriptions.values())
        results = []
        for request in parameters.ItemsToCreate:
            try:
                if room <= 0:
                    raise Fault(ua.StatusCodes.BadTooManyMonitoredItems)
                results.append(self._create_item(session, subscription, request, parameters.TimestampsToReturn))
                room -= 1
            except Fault as fault:
                results.append(ua.MonitoredItemCreateResult(StatusCode=status(fault.status)))
        return results

    def _create_item(self, session: Session, subscription: Subscription, request: Any, stamps: Any) -> Any:
        target = request.ItemToMonitor
        if target.IndexRange:
            parse_range(target.IndexRange)
        if not isinstance(request.MonitoringMode, ua.MonitoringMode):
            raise Fault(ua.StatusCodes.BadMonitoringModeInvalid)
        first = self._attributes.value(session.user, target)
        kind: type[Item] = EventItem if target.AttributeId == ua.AttributeIds.EventNotifier else DataItem
        item: Item
        if kind is EventItem:
            if not int(first.Value.Value or 0) & SUBSCRIBE_TO_EVENTS:
                raise Fault(ua.StatusCodes.BadAttributeIdInvalid)
            item = EventItem(self._next_item, target, request.MonitoringMode, subscription.ready)
        else:
            item = DataItem(self._next_item, target, request.MonitoringMode, subscription.ready, self._clock.monotonic)
            item.stamps = stamps
        filter_result = self._configure(subscription, item, request.RequestedParameters)
        self._next_item += 1
        subscription.items[item.id] = item
        self._listen(item, first)
        return ua.MonitoredItemCreateResult(
            MonitoredItemId=item.id,
            RevisedSamplingInterval=item.interval * 1000 if isinstance(item, DataItem) else 0.0,
            RevisedQueueSize=item.queue_size,
            FilterResult=filter_result,
        )

    def _listen(self, item: Item, first: Any) -> None:
        if isinstance(item, EventItem):
            self.listeners.setdefault(item.target.NodeId, {})[item.id] = item
        elif isinstance(item, DataItem):
            self._space.watch(item.target.NodeId, item.target.AttributeId, item.id, item)
            item.start(first)

    def _configure(self, subscription: Subscription, item: Item, wanted: Any) -> Any:
        """Apply MonitoringParameters; the filter result. Raises Fault before anything has changed."""
        result = ua.ExtensionObject()
        queue_size = min(max(wanted.QueueSize, 1), self._limits.queue)
        if isinstance(item, EventItem):
            if not isinstance(wanted.Filter, ua.EventFilter):
                raise Fault(ua.StatusCodes.BadEventFilterInvalid)
            compiled = EventFilter(self._space, wanted.Filter)
            if not compiled.where_valid:
                raise Fault(ua.StatusCodes.BadEventFilterInvalid)
            if not compiled.valid:
                result = compiled.result()
            item.filter = compiled
            if wanted.QueueSize == 0:
                queue_size = self._limits.queue
        elif isinstance(item, DataItem):
            item.filter = data_filter(self._space, item.target, wanted.Filter)
            item.interval = self._sampling(subscription, wanted.SamplingInterval) / 1000
        item.configure(wanted.ClientHandle, queue_size, wanted.DiscardOldest)
        return result

    def _sampling(self, subscription: Subscription, wanted: float) -> float:
        """Milliseconds: negative means the publishing interval, 0 every change (7.21)."""
        if math.isnan(wanted) or wanted < 0:
            return subscription.interval
        if wanted == 0:
            return 0.0
        return min(max(wanted, self._limits.sampling_interval), self._limits.publishing_interval[1])

    def modify_items(self, session: Session, parameters: Any) -> list[Any]:
        """ModifyMonitoredItems (5.13.3)."""
        subscription = self._own(session, parameters.SubscriptionId)
        check_timestamps(parameters.TimestampsToReturn)
        return [
            self._modify_item(subscription, request, parameters.TimestampsToReturn)
            for request in parameters.ItemsToModify
        ]

    def _modify_item(self, subscription: Subscription, request: Any, stamps: Any) -> Any:
        try:
            item = _item(subscription, request.MonitoredItemId)
            filter_result = self._configure(subscription, item, request.RequestedParameters)
        except Fault as fault:
            return ua.MonitoredItemModifyResult(StatusCode=status(fault.status))
        interval = 0.0
        if isinstance(item, DataItem):
            item.stamps = stamps
            interval = item.interval * 1000
        return ua.MonitoredItemModifyResult(
            RevisedSamplingInterval=interval, RevisedQueueSize=item.queue_size, FilterResult=filter_result
        )

    def set_mode(self, session: Session, parameters: Any) -> list[Any]:
        """SetMonitoringMode (5.13.4)."""
        subscription = self._own(session, parameters.SubscriptionId)
        mode = parameters.MonitoringMode
        if not isinstance(mode, ua.MonitoringMode):
            raise Fault(ua.StatusCodes.BadMonitoringModeInvalid)

        def switch(number: int) -> None:
            item = _item(subscription, number)
            resumed = item.mode == DISABLED and mode != DISABLED
            item.set_mode(mode)
            if resumed and isinstance(item, DataItem):
                item.start(self._current(item.target))

        return [_status_of(switch, number) for number in parameters.MonitoredItemIds]

    def delete_items(self, session: Session, parameters: Any) -> list[Any]:
        """DeleteMonitoredItems (5.13.6)."""
        subscription = self._own(session, parameters.SubscriptionId)

        def drop(number: int) -> None:
            self._drop(subscription, _item(subscription, number))

        return [_status_of(drop, number) for number in parameters.MonitoredItemIds]

    def _drop(self, subscription: Subscription, item: Item) -> None:
        del subscription.items[item.id]
        subscription.forget(item)
        if isinstance(item, EventItem):
            listening = self.listeners[item.target.NodeId]
            del listening[item.id]
            if not listening:
                del self.listeners[item.target.NodeId]
        else:
            self._space.unwatch(item.target.NodeId, item.target.AttributeId, item.id)

    def _current(self, target: Any) -> Any:
        return self._space.read(target.NodeId, target.AttributeId)

    # -- for ConditionRefresh and GetMonitoredItems

    def event_items(self, session_id: str, number: int) -> Mapping[int, EventItem]:
        """Event items of one's own subscription. Raises Fault BadSubscriptionIdInvalid."""
        items = self.own(session_id, number).items
        return {i: item for i, item in items.items() if isinstance(item, EventItem)}


def _item(subscription: Subscription, number: int) -> Item:
    item = subscription.items.get(number)
    if item is None:
        raise Fault(ua.StatusCodes.BadMonitoredItemIdInvalid)
    return item


def _status_of(act: Callable[[Any], None], argument: Any) -> Any:
    try:
        act(argument)
    except Fault as fault:
        return status(fault.status)
    return GOOD
