"""Delivery of events (Part 3 4.7.2) and ConditionRefresh (Part 9 5.5.7, 5.5.8)."""

import secrets
from collections.abc import Callable, Iterable
from typing import Any

from asyncua import ua

from nodesets.model import Caller
from nodesets.ports import Clock
from opcua_server.services.nodes import HAS_COMPONENT, HAS_CONDITION, HAS_EVENT_SOURCE, Event
from opcua_server.services.roles import Receivers, admitted
from opcua_server.services.space import Space
from opcua_server.services.status import Fault
from opcua_server.services.subscriptions import Subscriptions
from opcua_server.services.tree import Wanted

SERVER = ua.NodeId(ua.ObjectIds.Server)
UPWARDS = (HAS_EVENT_SOURCE, HAS_COMPONENT, HAS_CONDITION)
"""References an event climbs, with their subtypes: HasNotifier is one of HasEventSource."""
REFRESH_START = ua.NodeId(ua.ObjectIds.RefreshStartEventType)
REFRESH_END = ua.NodeId(ua.ObjectIds.RefreshEndEventType)
REFRESH_SEVERITY = 1


class Events:
    def __init__(self, space: Space, subscriptions: Subscriptions, clock: Clock) -> None:
        self._space = space
        self._subscriptions = subscriptions
        self._clock = clock
        self._receivers = Receivers(space)
        self.retained: Callable[[], Iterable[Event]] = tuple
        """Current state of every condition with Retain, for ConditionRefresh."""

    def publish(self, event: Event) -> None:
        """Offer an event once to each item on its source, on every notifier above it and on Server."""
        listeners = self._subscriptions.listeners
        if not listeners:
            return
        receivers = self._receivers.of(event.event_type)
        for notifier in self.notifiers(event.source):
            for item in list(listeners.get(notifier, {}).values()):
                if receivers is None or admitted(item.caller(), receivers):
                    item.offer(event)

    def notifiers(self, source: Any) -> set[Any]:
        """The source and what lies above it, and Server."""
        found = {source, SERVER}
        waiting = [source]
        above = Wanted(forward=False, kinds=self._upwards)
        while waiting:
            for r in self._space.references(waiting.pop(), above):
                if r.NodeId not in found:
                    found.add(r.NodeId)
                    waiting.append(r.NodeId)
        return found

    def _upwards(self, kind: Any) -> bool:
        return any(base in UPWARDS for base in self._space.supertypes(kind))

    async def refresh(self, caller: Caller, _object: Any, arguments: tuple[Any, ...]) -> tuple[()]:
        """ConditionRefresh(SubscriptionId), ConditionRefresh2(SubscriptionId, MonitoredItemId)."""
        items = self._subscriptions.event_items(caller.session, arguments[0])
        if len(arguments) > 1:
            if arguments[1] not in items:
                raise Fault(ua.StatusCodes.BadMonitoredItemIdInvalid)
            items = {arguments[1]: items[arguments[1]]}
        retained = [(event, self.notifiers(event.source)) for event in self.retained()]
        for item in items.values():
            item.offer(self._bracket(REFRESH_START), always=True)
            for event, notifiers in retained:
                if item.target.NodeId in notifiers:
                    item.offer(event)
            item.offer(self._bracket(REFRESH_END), always=True)
        return ()

    def _bracket(self, kind: Any) -> Event:
        now = self._clock.now()
        return Event(
            event_id=secrets.token_bytes(16),
            event_type=kind,
            source=SERVER,
            source_name="Server",
            time=now,
            received=now,
            severity=REFRESH_SEVERITY,
            message="ConditionRefresh",
        )
