"""Attribute service set (Part 4 5.11): Read, and Write that nobody is granted yet. HistoryRead is in history.py."""

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from asyncua import ua

from nodesets.model import Caller
from opcua_server.services.nodes import Access
from opcua_server.services.space import Space
from opcua_server.services.status import NULL, Fault, status

VALUE = ua.AttributeIds.Value
DEFAULT_BINARY = "Default Binary"


class Attributes:
    """`executable(caller, method_id)` answers UserExecutable."""

    def __init__(self, space: Space, executable: Callable[[Caller, Any], bool]) -> None:
        self._space = space
        self._executable = executable

    def read(self, caller: Caller, parameters: Any) -> list[Any]:
        """Read (5.11.2)."""
        stamps = parameters.TimestampsToReturn
        check_timestamps(stamps)
        if parameters.MaxAge < 0:
            raise Fault(ua.StatusCodes.BadMaxAgeInvalid)
        return [self._read(caller, item, stamps) for item in parameters.NodesToRead]

    def _read(self, caller: Caller, item: Any, stamps: Any) -> Any:
        try:
            value = self.value(caller, item)
            if item.IndexRange:
                value = dataclasses.replace(value, Value=take(value.Value, item.IndexRange))
        except Fault as fault:
            return ua.DataValue(NULL, status(fault.status))
        if item.AttributeId != VALUE:
            return ua.DataValue(value.Value, value.StatusCode)
        return stamped(value, stamps)

    def value(self, caller: Caller, item: Any) -> Any:
        """DataValue of a ReadValueId as this caller may see it, whole. Raises Fault."""
        node_id, attribute = item.NodeId, item.AttributeId
        if not self._space.has(node_id, attribute):
            raise Fault(self._missing(node_id))
        if item.DataEncoding.Name and attribute != VALUE:
            raise Fault(ua.StatusCodes.BadDataEncodingInvalid)
        if item.DataEncoding.Name not in (None, "", DEFAULT_BINARY):
            raise Fault(ua.StatusCodes.BadDataEncodingUnsupported)
        if attribute == VALUE and not self._access(node_id) & Access.READ:
            raise Fault(ua.StatusCodes.BadNotReadable)
        if attribute == ua.AttributeIds.UserAccessLevel:
            readable = self._access(node_id) & ~int(Access.WRITE)
            return ua.DataValue(ua.Variant(readable, ua.VariantType.Byte))
        if attribute == ua.AttributeIds.Executable:
            return ua.DataValue(ua.Variant(self._executable_at_all(node_id), ua.VariantType.Boolean))
        if attribute == ua.AttributeIds.UserExecutable:
            return ua.DataValue(ua.Variant(self._executable(caller, node_id), ua.VariantType.Boolean))
        return self._space.read(node_id, attribute)

    def _missing(self, node_id: Any) -> int:
        known = node_id in self._space
        return int(ua.StatusCodes.BadAttributeIdInvalid if known else ua.StatusCodes.BadNodeIdUnknown)

    def _access(self, node_id: Any) -> int:
        return int(self._space.attribute(node_id, ua.AttributeIds.AccessLevel) or 0)

    def _executable_at_all(self, node_id: Any) -> bool:
        return bool(self._space.attribute(node_id, ua.AttributeIds.Executable))

    def write(self, parameters: Any) -> list[Any]:
        """Write (5.11.4): values come from the plant, commands through methods; no role may write."""
        return [status(self._refusal(item)) for item in parameters.NodesToWrite]

    def _refusal(self, item: Any) -> Any:
        if not self._space.has(item.NodeId, item.AttributeId):
            return self._missing(item.NodeId)
        if item.AttributeId == VALUE and self._access(item.NodeId) & Access.WRITE:
            return ua.StatusCodes.BadUserAccessDenied
        return ua.StatusCodes.BadNotWritable


def check_timestamps(stamps: Any) -> None:
    if not isinstance(stamps, ua.TimestampsToReturn) or stamps == ua.TimestampsToReturn.Invalid:
        raise Fault(ua.StatusCodes.BadTimestampsToReturnInvalid)


def stamped(value: Any, stamps: Any) -> Any:
    """A DataValue with only the timestamps asked for; the server's is now where none was stored."""
    source = stamps in (ua.TimestampsToReturn.Source, ua.TimestampsToReturn.Both)
    server = stamps in (ua.TimestampsToReturn.Server, ua.TimestampsToReturn.Both)
    return ua.DataValue(
        value.Value,
        value.StatusCode,
        value.SourceTimestamp if source else None,
        (value.ServerTimestamp or datetime.now(UTC)) if server else None,
    )


def parse_range(text: str) -> list[slice]:
    """NumericRange (7.27): `2`, `1:3`, one for each dimension, comma-separated. Raises Fault BadIndexRangeInvalid."""
    slices = []
    for part in text.split(","):
        low, colon, high = part.partition(":")
        if not (low.isascii() and low.isdigit() and len(low) < 10):
            raise Fault(ua.StatusCodes.BadIndexRangeInvalid)
        start = int(low)
        stop = start + 1
        if colon:
            if not (high.isascii() and high.isdigit() and len(high) < 10) or int(high) <= start:
                raise Fault(ua.StatusCodes.BadIndexRangeInvalid)
            stop = int(high) + 1
        slices.append(slice(start, stop))
    return slices


def take(variant: Any, text: str) -> Any:
    """The part of an array, String or ByteString a NumericRange names. Raises Fault."""
    slices = parse_range(text)
    value = variant.Value if variant is not None else None
    if not isinstance(value, list | str | bytes):
        raise Fault(ua.StatusCodes.BadIndexRangeNoData)
    return ua.Variant(_take(value, slices), variant.VariantType, is_array=isinstance(value, list))


def _take(value: Any, slices: list[slice]) -> Any:
    if not isinstance(value, list | str | bytes):
        raise Fault(ua.StatusCodes.BadIndexRangeNoData)
    part = value[slices[0]]
    if not part:
        raise Fault(ua.StatusCodes.BadIndexRangeNoData)
    return [_take(element, slices[1:]) for element in part] if len(slices) > 1 else part
