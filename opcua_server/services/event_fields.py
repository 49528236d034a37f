"""Fields of events by browse path: what every event has, and how all of them are kept as a row of the event history.

    fields of a row   u4 x n: where each Variant ends, counted from the first | n encoded Variants

Of a row only what is asked for is decoded. The path of the ConditionId is empty, as in a select clause (Part 9 5.5.2).
"""

import time
from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate
from typing import Any

import numpy as np
from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import variant_from_binary, variant_to_binary

from nodesets.model import EventRow
from opcua_server.services.nodes import Event
from opcua_server.services.status import NULL, from_ns

CONDITION = ""
NO_VALUE = b"\x00"
"""An encoded Variant without a value."""

BASE_FIELDS: Mapping[str, Callable[[Event], Any]] = {
    "EventId": lambda e: ua.Variant(e.event_id, ua.VariantType.ByteString),
    "EventType": lambda e: ua.Variant(e.event_type, ua.VariantType.NodeId),
    "SourceNode": lambda e: ua.Variant(e.source, ua.VariantType.NodeId),
    "SourceName": lambda e: ua.Variant(e.source_name, ua.VariantType.String),
    "Time": lambda e: ua.Variant(from_ns(e.time), ua.VariantType.DateTime),
    "ReceiveTime": lambda e: ua.Variant(from_ns(e.received), ua.VariantType.DateTime),
    "LocalTime": lambda e: ua.Variant(local_time(e.time), ua.VariantType.ExtensionObject),
    "Message": lambda e: ua.Variant(ua.LocalizedText(e.message), ua.VariantType.LocalizedText),
    "Severity": lambda e: ua.Variant(e.severity, ua.VariantType.UInt16),
    "Retain": lambda e: ua.Variant(e.retain, ua.VariantType.Boolean) if e.condition is not None else NULL,
}
"""What every event has (Part 5 6.4.2), and Retain of a condition."""


def local_time(ns: int) -> Any:
    """TimeZoneDataType of this machine's time zone then."""
    local = time.localtime(ns // 1_000_000_000)
    return ua.TimeZoneDataType(Offset=local.tm_gmtoff // 60, DaylightSavingInOffset=local.tm_isdst > 0)


def field(event: Event, path: str) -> Any:
    """Variant of a field by browse path without namespaces, `ActiveState/Id`; null when the event has none."""
    own = event.fields.get(path)
    if own is not None:
        return own
    base = BASE_FIELDS.get(path)
    return base(event) if base is not None else NULL


def row(event: Event) -> EventRow:
    """The event with all its fields."""
    values = {name: base(event) for name, base in BASE_FIELDS.items()} | dict(event.fields)
    if event.condition is not None:
        values[CONDITION] = ua.Variant(event.condition, ua.VariantType.NodeId)
    encoded = [bytes(variant_to_binary(value)) for value in values.values()]
    ends = np.fromiter(accumulate(map(len, encoded)), "<u4", len(encoded))
    return EventRow(
        time=event.time,
        event_type=event.event_type.to_string(),
        source=event.source.to_string(),
        severity=event.severity,
        paths=tuple(values),
        fields=ends.tobytes() + b"".join(encoded),
    )


class Fields(Mapping[str, Any]):
    """Fields of a row by path. `at` maps a path to its number."""

    __slots__ = ("_at", "_data", "_ends", "_start")

    def __init__(self, at: Mapping[str, int], data: bytes) -> None:
        self._at = at
        self._data = data
        self._start = 4 * len(at)
        self._ends = np.frombuffer(data, "<u4", len(at))

    def encoded(self, path: str) -> bytes:
        """The Variant's bytes; those of null for a field there is not."""
        number = self._at.get(path)
        if number is None:
            return NO_VALUE
        begin = int(self._ends[number - 1]) if number else 0
        return self._data[self._start + begin : self._start + int(self._ends[number])]

    def __getitem__(self, path: str) -> Any:
        if path not in self._at:
            raise KeyError(path)
        return variant_from_binary(Buffer(self.encoded(path)))

    def __iter__(self) -> Iterator[str]:
        return iter(self._at)

    def __len__(self) -> int:
        return len(self._at)
