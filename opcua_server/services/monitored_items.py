"""Monitored items (Part 4 5.13): what a subscription watches, sampled, filtered and queued.

A data item hangs in the storage's own list of callbacks of its attribute. A value is compared with the value last
queued, so a slow drift crosses a deadband in the end. Sampling is by change: the first change after the sampling
interval is taken at once, of those within an interval the last one when it ends.
"""

import dataclasses
import math
import secrets
from collections import deque
from collections.abc import Callable, Container, Iterable
from typing import Any

from asyncua import ua

from nodesets.model import Caller
from opcua_server.services.attributes import take
from opcua_server.services.event_filters import EventFilter
from opcua_server.services.nodes import Event
from opcua_server.services.space import ENUMERATION, NUMBER_TYPES, Space
from opcua_server.services.status import NULL, OVERFLOW, SEMANTICS_CHANGED, Fault, status

REPORTING, SAMPLING, DISABLED = ua.MonitoringMode.Reporting, ua.MonitoringMode.Sampling, ua.MonitoringMode.Disabled
TRIGGER = ua.DataChangeTrigger
ON_TIME = 0.875
"""Share of a sampling interval after which a sample counts as on time, the next one staying due when it was: a source
of the same period has jitter, and what is held back for a millisecond comes a publishing interval late."""
DATA_CHANGE_FILTER = ua.uaprotocol_auto.DataChangeFilter
"""What the decoder makes; `ua.DataChangeFilter` is a subclass of it for clients."""


NUMBER = ua.NodeId(ua.ObjectIds.Number)


class Item:
    """What data and event items have in common. `ready(item)` tells the subscription that something is to be sent."""

    __slots__ = ("client_handle", "discard_oldest", "id", "mode", "queue", "queue_size", "ready", "target")

    def __init__(self, item_id: int, target: Any, mode: Any, ready: Callable[["Item"], None]) -> None:
        self.id = item_id
        self.target = target
        """ReadValueId."""
        self.mode = mode
        self.ready = ready
        self.client_handle = 0
        self.queue: deque[Any] = deque()
        self.queue_size = 1
        self.discard_oldest = True

    def configure(self, client_handle: int, queue_size: int, discard_oldest: bool) -> None:
        self.client_handle = client_handle
        self.queue_size = queue_size
        self.discard_oldest = discard_oldest
        while len(self.queue) > queue_size:
            if discard_oldest:
                self.queue.popleft()
            else:
                self.queue.pop()

    def put(self, entry: Any) -> bool:
        """Queue an entry; True when another one had to go for it."""
        full = len(self.queue) >= self.queue_size
        if full and self.discard_oldest:
            self.queue.popleft()
        elif full:
            self.queue.pop()
        self.queue.append(entry)
        self.ready(self)
        return full

    def set_mode(self, mode: Any) -> None:
        self.mode = mode
        if mode == DISABLED:
            self.queue.clear()
        elif mode == REPORTING and self.queue:
            self.ready(self)


class EventItem(Item):
    __slots__ = ("_marker", "caller", "filter")

    def __init__(
        self,
        item_id: int,
        target: Any,
        mode: Any,
        ready: Callable[[Item], None],
        caller: Callable[[], Caller | None] = lambda: None,
    ) -> None:
        """`caller`: whose it is now."""
        super().__init__(item_id, target, mode, ready)
        self.caller = caller
        self.filter: EventFilter
        self._marker: Any = None
        """The EventQueueOverflowEvent in the queue."""

    def offer(self, event: Event, *, always: bool = False) -> None:
        """Queue the event when it passes. `always`: RefreshStart and RefreshEnd do (Part 9 5.5.7)."""
        if self.mode != DISABLED and (always or self.filter.passes(event)):
            self._queue(event)

    def _queue(self, event: Event) -> None:
        """Where events are missing stands one EventQueueOverflowEvent, beside the queue's size (5.13.1.5).

        A queue of one has the newest, whatever the policy.
        """
        newest = self.discard_oldest or self.queue_size == 1
        marked = bool(self.queue) and any(entry is self._marker for entry in (self.queue[0], self.queue[-1]))
        if len(self.queue) - marked < self.queue_size:
            self.queue.append(self.filter.select(event))
            self.ready(self)
            return
        if not marked:
            self._marker = self.filter.select(overflow(event))
        elif newest:
            self.queue.popleft()
        else:
            return
        if newest:
            self.queue.popleft()
            self.queue.append(self.filter.select(event))
            self.queue.appendleft(self._marker)
        else:
            self.queue.append(self._marker)
        self.ready(self)


def overflow(lost: Event) -> Event:
    """EventQueueOverflowEventType (Part 5 6.4.34), sent past every filter."""
    return dataclasses.replace(
        lost,
        event_id=secrets.token_bytes(16),
        event_type=ua.NodeId(ua.ObjectIds.EventQueueOverflowEventType),
        source=ua.NodeId(ua.ObjectIds.Server),
        source_name="Internal/EventQueueOverflow",
        severity=1,
        message="Events were lost: the queue of a monitored item was full",
        condition=None,
        retain=False,
        fields={},
    )


@dataclasses.dataclass(frozen=True, slots=True)
class DataFilter:
    """DataChangeFilter (7.22.2) with its deadband as an absolute number."""

    trigger: Any = TRIGGER.StatusValue
    deadband: float | None = None
    percent: float | None = None
    """Of the EURange, what the deadband was worked out from."""

    def differs(self, old: Any, new: Any) -> bool:
        """Whether `new` is to be reported when `old` was the last reported DataValue."""
        if old is None or old.StatusCode.value != new.StatusCode.value:
            return True
        if self.trigger == TRIGGER.Status:
            return False
        if self.trigger == TRIGGER.StatusValueTimestamp and old.SourceTimestamp != new.SourceTimestamp:
            return True
        return _changed(old.Value, new.Value, self.deadband)


def _changed(old: Any, new: Any, deadband: float | None) -> bool:
    before, after = old.Value, new.Value
    if isinstance(before, list) and isinstance(after, list):
        return len(before) != len(after) or any(_moved(a, b, deadband) for a, b in zip(before, after, strict=True))
    return old.VariantType != new.VariantType or _moved(before, after, deadband)


def _moved(before: Any, after: Any, deadband: float | None) -> bool:
    if isinstance(before, float) and isinstance(after, float) and (math.isnan(before) or math.isnan(after)):
        return math.isnan(before) != math.isnan(after)
    if deadband is None or before is None or after is None:
        return bool(before != after)
    return bool(abs(after - before) > deadband)


class DataItem(Item):
    """Watches one attribute. asyncua's storage calls it after a write of its own, `UaServer.write` calls `sample`."""

    __slots__ = ("_due", "_last", "_monotonic", "_pending", "filter", "interval", "stamps")

    def __init__(
        self, item_id: int, target: Any, mode: Any, ready: Callable[[Item], None], monotonic: Callable[[], float]
    ) -> None:
        super().__init__(item_id, target, mode, ready)
        self._monotonic = monotonic
        self._last: Any = None
        self._pending: Any = None
        self._due = 0.0
        self.filter = DataFilter()
        self.interval = 0.0
        """Seconds between samples; 0: every change."""
        self.stamps = ua.TimestampsToReturn.Both

    async def __call__(self, _handle: int, value: Any) -> None:
        self.sample(value)

    def sample(self, value: Any) -> None:
        """A new DataValue of the attribute."""
        if self.mode == DISABLED:
            return
        if self.interval == 0.0 and self._pending is None:
            self._due = self._monotonic()  # where an interval that is asked for later begins
            self._take(value)
            return
        now = self._monotonic()
        self.flush(now)
        if now >= self._due:
            self._due = max(self._due + self.interval, now + ON_TIME * self.interval)
            self._take(value)
        else:
            self._pending = value

    def flush(self, now: float) -> None:
        """Take the last change of a sampling interval that is over."""
        if self._pending is not None and now >= self._due:
            value, self._pending = self._pending, None
            self._due += self.interval
            self._take(value)

    def resample(self, interval: float) -> None:
        """Another sampling interval, of which the first is over no later than one begun now."""
        self.interval = interval
        self._due = min(self._due, self._monotonic() + ON_TIME * interval)

    def last_was(self, codes: Container[int]) -> bool:
        """Whether the value last reported had one of these StatusCodes."""
        return self._last is not None and self._last.StatusCode.value in codes

    def start(self, value: Any) -> None:
        """The first value after creation, activation or transfer is reported whatever it is (5.13.1.2).

        It begins no sampling interval: the first change does. So a source of the same period is sampled as it comes,
        not each time a part of a period later.
        """
        self._last = self._pending = None
        self._due = -math.inf
        if self.mode != DISABLED:
            self._take(value)

    def redefine(self, space: Space) -> None:
        """Its value means something else now: the one last reported is reported once more, marked (Part 8 5.2)."""
        if self.filter.percent is not None and (span := space.property(self.target.NodeId, "EURange")) is not None:
            self.filter = dataclasses.replace(self.filter, deadband=_of_range(self.filter.percent, span))
        if self._last is not None:
            code = self._last.StatusCode.value | SEMANTICS_CHANGED
            self._queue_up(dataclasses.replace(self._last, StatusCode=status(code)))

    def resume(self, *, last: Any, pending: Any, due: float, queue: Iterable[Any]) -> None:
        """Go on where another left off: DataValues last reported (or None), held back (or None) and queued."""
        self._last, self._pending, self._due = last, pending, due
        self.queue.extend(queue)
        if self.queue:
            self.ready(self)

    def _take(self, value: Any) -> None:
        if self.target.IndexRange:
            value = _part(value, self.target.IndexRange)
        if not self.filter.differs(self._last, value):
            return
        self._last = value
        self._queue_up(value)

    def _queue_up(self, value: Any) -> None:
        if self.put(value) and self.queue_size > 1:
            self._flag_overflow()

    def _flag_overflow(self) -> None:
        """The Overflow bit stands where values are missing (7.22.1): on the oldest kept, or on the newest."""
        at = 0 if self.discard_oldest else -1
        kept = self.queue[at]
        self.queue[at] = dataclasses.replace(kept, StatusCode=status(kept.StatusCode.value | OVERFLOW))

    def set_mode(self, mode: Any) -> None:
        super().set_mode(mode)
        if mode == DISABLED:
            self._last = self._pending = None


def _part(value: Any, index_range: str) -> Any:
    try:
        return dataclasses.replace(value, Value=take(value.Value, index_range))
    except Fault as fault:
        return dataclasses.replace(value, Value=NULL, StatusCode=status(fault.status))


def data_filter(space: Space, target: Any, source: Any) -> DataFilter:
    """Check a DataChangeFilter for the node it is meant for. Raises Fault with the item's status (7.22.2)."""
    if source is None or (isinstance(source, ua.ExtensionObject) and source.TypeId.is_null()):
        return DataFilter()
    if not isinstance(source, DATA_CHANGE_FILTER):
        unsupported = isinstance(source, ua.AggregateFilter | ua.ExtensionObject)
        codes = ua.StatusCodes
        raise Fault(codes.BadMonitoredItemFilterUnsupported if unsupported else codes.BadFilterNotAllowed)
    if target.AttributeId != ua.AttributeIds.Value:
        raise Fault(ua.StatusCodes.BadFilterNotAllowed)
    if not isinstance(source.Trigger, TRIGGER):
        raise Fault(ua.StatusCodes.BadMonitoredItemFilterInvalid)
    deadband = _deadband(space, target.NodeId, source)
    percent = float(source.DeadbandValue) if source.DeadbandType == ua.DeadbandType.Percent else None
    if deadband is not None and source.Trigger == TRIGGER.StatusValueTimestamp:  # the same as without the timestamp
        return DataFilter(TRIGGER.StatusValue, deadband, percent)
    return DataFilter(source.Trigger, deadband, percent)


def _is_number(space: Space, data_type: Any) -> bool:
    """Number and its subtypes; an enumeration is encoded as one but is none."""
    if space.is_subtype(data_type, NUMBER):
        return True
    return space.built_in(data_type) in NUMBER_TYPES and not space.is_subtype(data_type, ENUMERATION)


def _deadband(space: Space, node_id: Any, source: Any) -> float | None:
    if source.DeadbandType == ua.DeadbandType.None_:
        return None
    if source.DeadbandType not in (ua.DeadbandType.Absolute, ua.DeadbandType.Percent):
        raise Fault(ua.StatusCodes.BadDeadbandFilterInvalid)
    if not _is_number(space, space.attribute(node_id, ua.AttributeIds.DataType)):
        raise Fault(ua.StatusCodes.BadFilterNotAllowed)
    value = float(source.DeadbandValue)
    if not 0.0 <= value < math.inf:
        raise Fault(ua.StatusCodes.BadDeadbandFilterInvalid)
    if source.DeadbandType == ua.DeadbandType.Absolute:
        return value
    span = space.property(node_id, "EURange")  # Part 8 7.2: percent of the EURange
    if span is None or value > 100.0:
        raise Fault(ua.StatusCodes.BadDeadbandFilterInvalid)
    return _of_range(value, span)


def _of_range(percent: float, span: Any) -> float:
    return percent / 100.0 * float(span.High - span.Low)
