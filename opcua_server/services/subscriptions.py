"""Subscription service set (Part 4 5.14) and the services of monitored items, for one session at a time.

Every id a client names is looked up among its own session's subscriptions: those of others do not exist for it.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from asyncua import ua

from nodesets.model import Caller
from nodesets.ports import Clock
from opcua_server.services.aggregate_items import AggregateItem, is_aggregate
from opcua_server.services.attributes import COMPUTED, Attributes, check_timestamps, parse_range, refusal
from opcua_server.services.columns import Wanted
from opcua_server.services.event_filters import BadEventFilter, event_filter
from opcua_server.services.limits import Limits
from opcua_server.services.locales import Locales
from opcua_server.services.monitored_items import DISABLED, REPORTING, DataItem, EventItem, Item, data_filter
from opcua_server.services.nodes import Access
from opcua_server.services.requests import opened
from opcua_server.services.sessions import Session, Waiting
from opcua_server.services.space import Space
from opcua_server.services.status import GOOD, Fault, status
from opcua_server.services.subscription import Subscription, next_waiting, respond
from opcua_server.services.values import Table

UNREADABLE = (ua.StatusCodes.BadNotReadable, ua.StatusCodes.BadUserAccessDenied)
SUBSCRIBE_TO_EVENTS = 1
"""Bit of EventNotifier (Part 3 8.59)."""
SETTLED = 0.06
"""Seconds from the frame of a device until cycles begin: those polled with it are shown too, and one whose commit is
late by so much still comes before its cycle, not together with the next one, whose value would take its place."""


class Subscriptions:
    """All subscriptions, and the event items by the notifier they listen to."""

    def __init__(
        self, space: Space, attributes: Attributes, table: Table, clock: Clock, limits: Limits, texts: Locales
    ) -> None:
        self._texts = texts
        self._space = space
        self._table = table
        self._attributes = attributes
        self._clock = clock
        self._limits = limits
        self._all: dict[int, Subscription] = {}
        self._begin = 0.0
        """When cycles begin, while there are any: soon after the frames of devices that are polled together."""
        self._next = 1
        self.made = 0
        """Subscriptions since the start."""
        self._next_item = 1
        self.listeners: dict[Any, dict[int, EventItem]] = {}
        """Event items by notifier."""

    def __iter__(self) -> Iterator[Subscription]:
        return iter(list(self._all.values()))

    # -- subscriptions

    def create(self, session: Session, parameters: Any) -> Any:
        """CreateSubscription (5.14.2)."""
        if len(self._all) >= self._limits.subscriptions or (
            len(session.subscriptions) >= self._limits.subscriptions_per_session
        ):
            raise Fault(ua.StatusCodes.BadTooManySubscriptions)
        if not self._all:
            self._begin = self._table.rhythm() + SETTLED
        subscription = Subscription(
            self._next, session, self._clock, self._limits, self._table, self._texts, self._expire, self._begin
        )
        self._next += 1
        self.made += 1
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
        subscription.counts.ModifyCount += 1
        return ua.ModifySubscriptionResult(
            RevisedPublishingInterval=subscription.interval,
            RevisedLifetimeCount=subscription.lifetime,
            RevisedMaxKeepAliveCount=subscription.keep_alive,
        )

    def set_publishing(self, session: Session, parameters: Any) -> list[Any]:
        """SetPublishingMode (5.14.4)."""

        def switch(number: int) -> None:
            subscription = self._own(session, number)
            subscription.enabled = parameters.PublishingEnabled
            subscription.counts.EnableCount += subscription.enabled
            subscription.counts.DisableCount += not subscription.enabled

        return [_status_of(switch, number) for number in parameters.SubscriptionIds]

    def delete(self, session: Session, numbers: Iterable[int]) -> list[Any]:
        """DeleteSubscriptions (5.14.8)."""
        results = [_status_of(lambda n: self._remove(self._own(session, n)), number) for number in numbers]
        if not session.subscriptions:
            self._nothing_to_publish(session)
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
        subscription.columns.close()
        for item in list(subscription.items.values()):
            self._drop(subscription, item)

    def _expire(self, subscription: Subscription) -> None:
        """Nobody asked for its lifetime long: StatusChange BadTimeout, then gone (5.14.1.2)."""
        session = subscription.session
        self._remove(subscription)
        if session is not None:
            self._notify_status(session, subscription, ua.StatusCodes.BadTimeout)

    def _notify_status(self, session: Session, subscription: Subscription, code: int) -> None:
        """Its last message to this session, now or with the next Publish request."""
        message = ua.NotificationMessage(
            NotificationData=[ua.StatusChangeNotification(Status=ua.StatusCode(code))],
            SequenceNumber=subscription.next_number(),
        )
        waiting = next_waiting(session, self._clock)
        if waiting is not None:
            respond(waiting, subscription.id, message, [])
        else:
            session.notices.append((subscription.id, message))
        if not session.subscriptions:
            self._nothing_to_publish(session)

    def _nothing_to_publish(self, session: Session) -> None:
        while session.publish:
            waiting = session.publish.popleft()
            waiting.channel.fault(waiting.header, waiting.sequence, ua.StatusCodes.BadNoSubscription)

    def session_activated(self, session: Session) -> None:
        """Perhaps by another user (5.7.3.1): his the subscriptions are now, and items show what he may read."""
        for subscription in session.subscriptions.values():
            if subscription.owner != session.owner:
                subscription.owner = session.owner
                self._show_anew(session, subscription)

    def _show_anew(self, session: Session, subscription: Subscription) -> None:
        for number, _ in list(subscription.columns.handles()):
            target = self._table.nodes[subscription.columns.row(number)]
            if not self._attributes.user_access(session.user, target) & Access.READ:
                self._item(subscription, number)
        for item in subscription.items.values():
            if isinstance(item, DataItem):
                current = self._current(session, item.target)
                denied = current.StatusCode.value in UNREADABLE
                (self._unwatch if denied else self._watch)(item)
                if denied != item.last_was(UNREADABLE):
                    item.start(current)

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
        if subscription.owner != session.owner:
            return ua.TransferResult(StatusCode=status(ua.StatusCodes.BadUserAccessDenied))
        old = subscription.session
        if old is session:
            return ua.TransferResult(StatusCode=status(ua.StatusCodes.BadNothingToDo))
        if len(session.subscriptions) >= self._limits.subscriptions_per_session:
            return ua.TransferResult(StatusCode=status(ua.StatusCodes.BadTooManySubscriptions))
        available = sorted(subscription.kept)
        if old is not None:
            del old.subscriptions[number]
            self._notify_status(old, subscription, ua.StatusCodes.GoodSubscriptionTransferred)
        subscription.session = session
        session.subscriptions[number] = subscription
        same = old is not None and old.application_uri == session.application_uri
        subscription.counts.TransferRequestCount += 1
        subscription.counts.TransferredToSameClientCount += same
        subscription.counts.TransferredToAltClientCount += not same
        subscription.touch()
        if send_initial:
            self._resend(session, subscription)
        return ua.TransferResult(AvailableSequenceNumbers=available)

    def _resend(self, session: Session, subscription: Subscription) -> None:
        subscription.columns.resend()
        for item in subscription.items.values():
            if isinstance(item, DataItem) and item.mode == REPORTING and not item.queue:
                item.start(self._current(session, item.target))

    # -- publishing

    def publish(self, session: Session, waiting: Waiting, acknowledgements: Iterable[Any]) -> None:
        """Publish (5.14.5): answered when something is due."""
        waiting.results.extend(_status_of(lambda a: self._acknowledge(session, a), a) for a in acknowledgements)
        if session.notices:
            number, message = session.notices.popleft()
            respond(waiting, number, message, [])
            return
        if not session.subscriptions:
            raise Fault(ua.StatusCodes.BadNoSubscription)
        session.publish.append(waiting)
        while len(session.publish) > self._limits.publish_requests:
            oldest = session.publish.popleft()
            oldest.channel.fault(oldest.header, oldest.sequence, ua.StatusCodes.BadTooManyPublishRequests)
        late = [s for s in session.subscriptions.values() if s.late]
        for subscription in sorted(late, key=lambda s: (-s.priority, s.late_since)):  # of equal ones none starves
            if session.publish:
                subscription.deliver()

    def _acknowledge(self, session: Session, acknowledgement: Any) -> None:
        kept = self._own(session, acknowledgement.SubscriptionId).kept
        if kept.pop(acknowledgement.SequenceNumber, None) is None:
            raise Fault(ua.StatusCodes.BadSequenceNumberUnknown)

    def republish(self, session: Session, parameters: Any) -> Any:
        """Republish (5.14.6). node-opcua asks until it hears BadMessageNotAvailable."""
        subscription = self._own(session, parameters.SubscriptionId)
        subscription.counts.RepublishRequestCount += 1
        subscription.counts.RepublishMessageRequestCount += 1
        message = subscription.kept.get(parameters.RetransmitSequenceNumber)
        if message is None:
            raise Fault(ua.StatusCodes.BadMessageNotAvailable)
        subscription.counts.RepublishMessageCount += 1
        return message

    # -- monitored items

    def create_items(self, session: Session, parameters: Any) -> list[Any]:
        """CreateMonitoredItems (5.13.2)."""
        subscription = self._own(session, parameters.SubscriptionId)
        check_timestamps(parameters.TimestampsToReturn)
        room = self._limits.items - sum(len(s.items) + len(s.columns) for s in session.subscriptions.values())
        queues, stamps = self._queues(session), parameters.TimestampsToReturn
        results, columns = [], list[Wanted]()
        for request in parameters.ItemsToCreate:
            try:
                if room <= 0:
                    raise Fault(ua.StatusCodes.BadTooManyMonitoredItems)
                made = self._create_item(session, subscription, request, stamps, columns, max(queues, 1))
                results.append(made)
                room, queues = room - 1, queues - made.RevisedQueueSize
            except Fault as fault:
                refused = ua.MonitoredItemCreateResult(StatusCode=status(fault.status))
                refused.FilterResult = _filter_result(fault)
                results.append(refused)
        subscription.columns.add(columns)
        return results

    def _queues(self, session: Session) -> int:
        """How many more values and events may wait for a session."""
        taken: int = sum(s.room for s in session.subscriptions.values())
        return self._limits.waiting - taken

    def _create_item(
        self,
        session: Session,
        subscription: Subscription,
        request: Any,
        stamps: Any,
        columns: list[Wanted],
        longest: int,
    ) -> Any:
        """An item, in `columns` when it goes there; `longest`: of its queue."""
        target = request.ItemToMonitor
        if target.IndexRange:
            parse_range(target.IndexRange)
        mode = _monitoring_mode(request.MonitoringMode)
        self._attributes.check(target)
        of_aggregate = is_aggregate(opened(request.RequestedParameters.Filter))
        if not of_aggregate and (row := self._row(session, target)) is not None:
            wanted = self._wanted(subscription, self._next_item, row, target, request, stamps, mode, longest)
            self._next_item += 1
            columns.append(wanted)
            return ua.MonitoredItemCreateResult(
                MonitoredItemId=wanted.id,
                RevisedSamplingInterval=wanted.interval * 1000,
                RevisedQueueSize=wanted.queue_size,
            )
        first = self._current(session, target)
        kind: type[Item] = EventItem if target.AttributeId == ua.AttributeIds.EventNotifier else DataItem
        item: Item
        if kind is EventItem:
            if first.StatusCode.value in UNREADABLE:
                raise Fault(first.StatusCode.value)
            if not int(first.Value.Value or 0) & SUBSCRIBE_TO_EVENTS:
                raise Fault(ua.StatusCodes.BadAttributeIdInvalid)
            item = EventItem(
                self._next_item, target, mode, subscription.ready, subscription.caller, subscription.encoded
            )
        else:
            item = self._data_item(target, mode, subscription, of_aggregate)
            item.stamps = stamps
        filter_result = self._configure(subscription, item, request.RequestedParameters, longest)
        self._next_item += 1
        subscription.items[item.id] = item
        self._listen(item, first)
        return ua.MonitoredItemCreateResult(
            MonitoredItemId=item.id,
            RevisedSamplingInterval=item.interval * 1000 if isinstance(item, DataItem) else 0.0,
            RevisedQueueSize=item.queue_size,
            FilterResult=filter_result,
        )

    def _data_item(self, target: Any, mode: Any, subscription: Subscription, of_aggregate: bool) -> DataItem:
        if of_aggregate:
            return AggregateItem(self._next_item, target, mode, subscription.ready, self._clock)
        return DataItem(self._next_item, target, mode, subscription.ready, self._clock.monotonic)

    def _row(self, session: Session, target: Any) -> int | None:
        """Row of what an item watches, when it watches a value that is a column, whole, and may read it."""
        if target.AttributeId != ua.AttributeIds.Value or target.IndexRange:
            return None
        row = self._table.row(target.NodeId)
        if row is not None:
            try:
                self._attributes.check_readable(session.user, target.NodeId)
            except Fault:
                return None
        return row

    def _watch(self, item: DataItem) -> None:
        """What is worked out when it is read never changes."""
        if item.target.AttributeId not in COMPUTED:
            self._space.watch(item.target.NodeId, item.target.AttributeId, item)

    def _unwatch(self, item: DataItem) -> None:
        """One that was created unreadable is watched nowhere."""
        if item.target.AttributeId not in COMPUTED:
            self._space.unwatch(item.target.NodeId, item.target.AttributeId, item)

    def release_missing(self) -> None:
        """Take items on nodes that are no more out of the columns: they wait by themselves for their nodes' return."""
        for subscription in self._all.values():
            for number, _ in list(subscription.columns.handles()):
                if self._table.nodes[subscription.columns.row(number)] not in self._space:
                    self._item(subscription, number)

    def redefine(self, variables: Sequence[Any]) -> None:
        """Mark the next notification of every item on values of variables: their properties mean them otherwise now."""
        nodes, rows = set(variables), {self._table.row(node_id) for node_id in variables} - {None}
        for subscription in self._all.values():
            for number, _ in list(subscription.columns.handles()) if rows else ():
                if subscription.columns.row(number) in rows:
                    self._item(subscription, number)
            for item in subscription.items.values():
                at_value = item.target.NodeId in nodes and item.target.AttributeId == ua.AttributeIds.Value
                if isinstance(item, DataItem) and at_value:
                    item.redefine(self._space)

    def _wanted(
        self,
        subscription: Subscription,
        number: int,
        row: int,
        target: Any,
        request: Any,
        stamps: Any,
        mode: Any,
        longest: int,
    ) -> Wanted:
        """MonitoringParameters of an item on a row. Raises Fault."""
        wanted = request.RequestedParameters
        return Wanted(
            id=number,
            row=row,
            client_handle=wanted.ClientHandle,
            mode=mode,
            stamps=stamps,
            filter=data_filter(self._space, target, opened(wanted.Filter)),
            interval=self._sampling(subscription, wanted.SamplingInterval) / 1000,
            queue_size=min(max(wanted.QueueSize, 1), self._limits.queue, longest),
            discard_oldest=wanted.DiscardOldest,
        )

    def _listen(self, item: Item, first: Any) -> None:
        if isinstance(item, EventItem):
            self.listeners.setdefault(item.target.NodeId, {})[item.id] = item
        elif isinstance(item, DataItem):
            if first.StatusCode.value not in UNREADABLE:
                self._watch(item)
            item.start(first)

    def _configure(self, subscription: Subscription, item: Item, wanted: Any, longest: int) -> Any:
        """Apply MonitoringParameters; the filter result. Raises Fault before anything has changed."""
        result, longest = ua.ExtensionObject(), min(longest, self._limits.queue)
        queue_size = min(max(wanted.QueueSize, 1), longest)
        if isinstance(item, EventItem):
            compiled = event_filter(self._space, opened(wanted.Filter))
            if not compiled.valid:
                result = compiled.result()
            item.filter = compiled
            if wanted.QueueSize == 0:
                queue_size = longest
        elif isinstance(item, AggregateItem):
            sampling = self._sampling(subscription, wanted.SamplingInterval) / 1000
            result = item.aggregate(self._space, opened(wanted.Filter), sampling)
        elif isinstance(item, DataItem):
            item.filter = data_filter(self._space, item.target, opened(wanted.Filter))
            item.resample(self._sampling(subscription, wanted.SamplingInterval) / 1000)
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
        queues, results = self._queues(session), []
        for request in parameters.ItemsToModify:
            before = subscription.queue_size(request.MonitoredItemId)
            result = self._modify_item(subscription, request, parameters.TimestampsToReturn, max(queues + before, 1))
            queues += before - subscription.queue_size(request.MonitoredItemId)
            results.append(result)
        return results

    def _modify_item(self, subscription: Subscription, request: Any, stamps: Any, longest: int) -> Any:
        """`longest`: of its queue."""
        try:
            if request.MonitoredItemId in subscription.columns:
                return self._modify_column(subscription, request, stamps, longest)
            item = self._item(subscription, request.MonitoredItemId)
            filter_result = self._configure(subscription, item, request.RequestedParameters, longest)
        except Fault as fault:
            return ua.MonitoredItemModifyResult(StatusCode=status(fault.status), FilterResult=_filter_result(fault))
        interval = 0.0
        if isinstance(item, DataItem):
            item.stamps = stamps
            interval = item.interval * 1000
        return ua.MonitoredItemModifyResult(
            RevisedSamplingInterval=interval, RevisedQueueSize=item.queue_size, FilterResult=filter_result
        )

    def _modify_column(self, subscription: Subscription, request: Any, stamps: Any, longest: int) -> Any:
        columns, number = subscription.columns, request.MonitoredItemId
        row = columns.row(number)
        target = ua.ReadValueId(NodeId=self._table.nodes[row], AttributeId=ua.AttributeIds.Value)
        wanted = self._wanted(subscription, number, row, target, request, stamps, columns.mode(number), longest)
        columns.modify(wanted)
        return ua.MonitoredItemModifyResult(
            RevisedSamplingInterval=wanted.interval * 1000, RevisedQueueSize=wanted.queue_size
        )

    def set_mode(self, session: Session, parameters: Any) -> list[Any]:
        """SetMonitoringMode (5.13.4)."""
        subscription = self._own(session, parameters.SubscriptionId)
        mode = parameters.MonitoringMode
        if not isinstance(mode, ua.MonitoringMode):
            raise Fault(ua.StatusCodes.BadMonitoringModeInvalid)

        def switch(number: int) -> None:
            if number in subscription.columns:
                subscription.columns.set_mode(number, mode)
                return
            item = self._item(subscription, number)
            resumed = item.mode == DISABLED and mode != DISABLED
            item.set_mode(mode)
            if resumed and isinstance(item, DataItem):
                item.start(self._current(session, item.target))
            if mode != REPORTING:
                subscription.forget(item)

        return [_status_of(switch, number) for number in parameters.MonitoredItemIds]

    def set_triggering(self, session: Session, parameters: Any) -> Any:
        """SetTriggering (5.13.5): links are removed first."""
        subscription = self._own(session, parameters.SubscriptionId)
        add, remove = parameters.LinksToAdd or [], parameters.LinksToRemove or []
        if not add and not remove:
            raise Fault(ua.StatusCodes.BadNothingToDo)
        if len(add) + len(remove) > self._limits.operations:
            raise Fault(ua.StatusCodes.BadTooManyOperations)
        trigger = self._item(subscription, parameters.TriggeringItemId)
        links = subscription.links.setdefault(trigger.id, set())

        def unlink(number: int) -> None:
            if number not in links or number not in subscription.items:
                raise Fault(ua.StatusCodes.BadMonitoredItemIdInvalid)
            links.remove(number)

        return ua.SetTriggeringResult(
            RemoveResults=[_status_of(unlink, number) for number in remove],
            AddResults=[_status_of(lambda n: links.add(self._item(subscription, n).id), number) for number in add],
        )

    def delete_items(self, session: Session, parameters: Any) -> list[Any]:
        """DeleteMonitoredItems (5.13.6)."""
        subscription = self._own(session, parameters.SubscriptionId)

        def drop(number: int) -> None:
            if number in subscription.columns:
                subscription.columns.delete(number)
                return
            self._drop(subscription, self._item(subscription, number))

        return [_status_of(drop, number) for number in parameters.MonitoredItemIds]

    def _drop(self, subscription: Subscription, item: Item) -> None:
        del subscription.items[item.id]
        subscription.links.pop(item.id, None)
        subscription.forget(item)
        if isinstance(item, EventItem):
            listening = self.listeners[item.target.NodeId]
            del listening[item.id]
            if not listening:
                del self.listeners[item.target.NodeId]
        elif isinstance(item, DataItem):
            self._unwatch(item)

    def _current(self, session: Session, target: Any) -> Any:
        """What the session's user sees of the attribute now: Bad, for one he may not read (5.13.2.1)."""
        try:
            return self._attributes.value(session.user, target)
        except Fault as fault:
            return refusal(fault)

    def _item(self, subscription: Subscription, number: int) -> Item:
        """An item by itself, taken out of the columns if need be. Raises Fault BadMonitoredItemIdInvalid."""
        item = subscription.items.get(number)
        if item is None and number in subscription.columns:
            item = subscription.columns.release(number, subscription.ready)
            subscription.items[number] = item
            self._watch(item)
        if item is None:
            raise Fault(ua.StatusCodes.BadMonitoredItemIdInvalid)
        return item

    # -- for methods

    def event_items(self, session_id: str, number: int) -> Mapping[int, EventItem]:
        """Event items of one's own subscription, for ConditionRefresh. Raises Fault BadSubscriptionIdInvalid."""
        items = self.own(session_id, number).items
        return {i: item for i, item in items.items() if isinstance(item, EventItem)}

    async def get_monitored_items(self, caller: Caller, _: Any, arguments: tuple[Any, ...]) -> Sequence[Any]:
        """GetMonitoredItems (Part 5 9.1): server and client handles."""
        subscription = self._called_on(caller, arguments[0])
        handles = dict(subscription.columns.handles())
        handles |= {number: item.client_handle for number, item in subscription.items.items()}
        return list(handles), list(handles.values())

    async def resend_data(self, caller: Caller, _: Any, arguments: tuple[Any, ...]) -> Sequence[Any]:
        """ResendData (Part 5 9.2)."""
        subscription = self._called_on(caller, arguments[0])
        if subscription.session is not None:
            self._resend(subscription.session, subscription)
        return ()

    def _called_on(self, caller: Caller, number: int) -> Subscription:
        """Raises Fault BadSubscriptionIdInvalid; BadUserAccessDenied for another session's."""
        found = self._all.get(number)
        if found is not None and (found.session is None or found.session.user.session != caller.session):
            raise Fault(ua.StatusCodes.BadUserAccessDenied)
        return self.own(caller.session, number)


def _monitoring_mode(number: int) -> Any:
    """Raises Fault BadMonitoringModeInvalid."""
    try:
        return ua.MonitoringMode(number)
    except ValueError as error:
        raise Fault(ua.StatusCodes.BadMonitoringModeInvalid) from error


def _filter_result(fault: Fault) -> Any:
    return fault.filter_result if isinstance(fault, BadEventFilter) else ua.ExtensionObject()


def _status_of(act: Callable[[Any], None], argument: Any) -> Any:
    try:
        act(argument)
    except Fault as fault:
        return status(fault.status)
    return GOOD
