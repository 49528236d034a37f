"""Delivery of events (Part 3 4.7.2) and ConditionRefresh (Part 9 5.5.7, 5.5.8)."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any

from asyncua import ua

from nodesets.model import Caller
from nodesets.ports import Clock
from opcua_server.services.monitored_items import EventItem
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
SOURCES = 10_000
"""Sources whose notifiers are remembered: all that often tell something."""
REFRESH_PART = 20
"""Conditions told in one turn of the loop: other clients do not wait for a refresh of thousands."""
REFRESH_BURST, REFRESH_SECONDS = 10, 1.0
"""So many refreshes of a subscription at once, and one more each so many seconds: each costs what a flood does."""
FULL_SECONDS = 0.02
"""How often a full queue is looked at: what is retained is not told into a queue that would lose it."""


class Events:
    def __init__(self, space: Space, subscriptions: Subscriptions, clock: Clock) -> None:
        self._space = space
        self._subscriptions = subscriptions
        self._clock = clock
        self._receivers = Receivers(space)
        self._above = lru_cache(SOURCES)(self._climb)
        self.retained: Callable[[], Iterable[Event]] = tuple
        """Current state of every condition with Retain, for ConditionRefresh; may go on while conditions change."""
        self._refreshing: dict[int, asyncio.Task[None]] = {}
        """By subscription."""
        self._tokens: dict[int, tuple[float, float]] = {}
        """By subscription: refreshes it may still ask for, and since when."""

    async def close(self) -> None:
        """End what is under way."""
        tasks = list(self._refreshing.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

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

    def notifiers(self, source: Any) -> frozenset[Any]:
        """The source and what lies above it, and Server."""
        return self._above(source)

    def forget_notifiers(self) -> None:
        """Look again: nodes or references of the address space are others."""
        self._above.cache_clear()

    def _climb(self, source: Any) -> frozenset[Any]:
        found = {source, SERVER}
        waiting = [source]
        above = Wanted(forward=False, kinds=self._upwards)
        while waiting:
            for r in self._space.references(waiting.pop(), above):
                if r.NodeId not in found:
                    found.add(r.NodeId)
                    waiting.append(r.NodeId)
        return frozenset(found)

    def _upwards(self, kind: Any) -> bool:
        return any(base in UPWARDS for base in self._space.supertypes(kind))

    async def refresh(self, caller: Caller, _object: Any, arguments: tuple[Any, ...]) -> tuple[()]:
        """ConditionRefresh(SubscriptionId), ConditionRefresh2(SubscriptionId, MonitoredItemId).

        Begins it; the answer does not wait for its end, which may need the client's Publish requests.
        """
        number = arguments[0]
        items = self._subscriptions.event_items(caller.session, number)
        if len(arguments) > 1:
            if arguments[1] not in items:
                raise Fault(ua.StatusCodes.BadMonitoredItemIdInvalid)
            items = {arguments[1]: items[arguments[1]]}
        if number in self._refreshing:
            raise Fault(ua.StatusCodes.BadRefreshInProgress)
        self._take_token(number)
        task = asyncio.create_task(self._refresh(caller.session, number, list(items.values())))
        self._refreshing[number] = task
        task.add_done_callback(lambda _: self._refreshing.pop(number, None))
        return ()

    def _take_token(self, subscription: int) -> None:
        """Raises Fault BadTooManyOperations."""
        now = self._clock.monotonic()
        left, since = self._tokens.get(subscription, (REFRESH_BURST, now))
        left = min(REFRESH_BURST, left + (now - since) / REFRESH_SECONDS)
        if left < 1:
            raise Fault(ua.StatusCodes.BadTooManyOperations)
        alive = {s.id for s in self._subscriptions}
        self._tokens = {number: kept for number, kept in self._tokens.items() if number in alive}
        self._tokens[subscription] = left - 1, now

    async def _refresh(self, session: str, subscription: int, items: Sequence[EventItem]) -> None:
        """Tell each item, between its brackets, what it would see of the conditions (Part 9 5.5.7)."""
        for item in items:
            item.offer(self._bracket(REFRESH_START), always=True)
            for i, event in enumerate(self.retained()):
                if i % REFRESH_PART == 0:
                    await asyncio.sleep(0)
                if item.target.NodeId in self.notifiers(event.source):
                    if not await self._room(session, subscription, item):
                        return
                    item.offer(event)
            if not await self._room(session, subscription, item):
                return
            item.offer(self._bracket(REFRESH_END), always=True)

    async def _room(self, session: str, subscription: int, item: EventItem) -> bool:
        """Wait until an item can queue one more; False when it is gone."""
        while len(item.queue) >= item.queue_size:
            await asyncio.sleep(FULL_SECONDS)
            try:
                known = self._subscriptions.event_items(session, subscription)
            except Fault:
                return False
            if item.id not in known:
                return False
        return True

    def _bracket(self, kind: Any) -> Event:
        return Event.of_server(kind, "ConditionRefresh", REFRESH_SEVERITY, self._clock.now())
