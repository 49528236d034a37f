"""Publish as bytes (Part 4 5.14.5, Part 6 5.2): a request read, a response in pieces, so that notifications are not
copied once more.

asyncua's encoder builds a response from the inside out and copies 300 KB of encoded notifications at each level. What
it makes of a response is what comes out here.
"""

import struct
from collections.abc import Sequence
from typing import Any

from asyncua import ua
from asyncua.ua.ua_binary import extensionobject_to_binary, nodeid_to_binary, variant_to_binary

from opcua_server.services.status import ticks_of

Piece = bytes | memoryview

_TYPE = nodeid_to_binary(ua.NodeId(ua.ObjectIds.PublishResponse_Encoding_DefaultBinary))
_HEADER = struct.Struct("<qII")
"""ResponseHeader (7.33): Timestamp, RequestHandle, ServiceResult."""
_REST = bytes(8)
"""Of the header: no DiagnosticInfo, an empty StringTable, no AdditionalHeader."""
_MESSAGE = struct.Struct("<?IqI")
"""MoreNotifications; NotificationMessage (7.26): SequenceNumber, PublishTime, number of NotificationData."""
_LENGTH = struct.Struct("<I")
_PAIR = struct.Struct("<II")
"""SubscriptionAcknowledgement: SubscriptionId, SequenceNumber."""
_WITH_BODY = 1
_EVENTS = ua.NodeId(ua.ObjectIds.EventNotificationList_Encoding_DefaultBinary)


def parameters(message: bytes, start: int) -> Any:
    """PublishParameters that `Wire` has found to be some."""
    pairs = _PAIR.iter_unpack(message[start + _LENGTH.size :])
    return ua.PublishParameters([ua.SubscriptionAcknowledgement(*pair) for pair in pairs])


def encoded(response: Any) -> list[Piece]:
    """A PublishResponse whose header has no diagnostics."""
    header, result = response.ResponseHeader, response.Parameters
    message = result.NotificationMessage
    known = _HEADER.pack(ticks_of(header.Timestamp), header.RequestHandle, header.ServiceResult.value)
    numbers = _array([result.SubscriptionId], result.AvailableSequenceNumbers)
    data = message.NotificationData
    begin = _MESSAGE.pack(result.MoreNotifications, message.SequenceNumber, ticks_of(message.PublishTime), len(data))
    pieces: list[Piece] = [b"".join((_TYPE, known, _REST, numbers, begin))]
    for notification in data:
        pieces += _notification(notification)
    pieces.append(_array([], [code.value for code in result.Results]) + _LENGTH.pack(0))
    return pieces


def event_fields(fields: Sequence[Any]) -> bytes:
    """EventFields of an EventFieldList (7.25.3): Variants."""
    return _LENGTH.pack(len(fields)) + b"".join(map(variant_to_binary, fields))


def event_notifications(events: Sequence[tuple[int, bytes]]) -> Any:
    """EventNotificationList (7.25.3) of (ClientHandle, EventFields)."""
    body = b"".join(part for handle, fields in events for part in (_LENGTH.pack(handle), fields))
    return ua.ExtensionObject(TypeId=_EVENTS, Body=_LENGTH.pack(len(events)) + body)


def _notification(data: Any) -> Sequence[Piece]:
    """One NotificationData: as it is, when it is encoded already."""
    if not isinstance(data, ua.ExtensionObject):
        return [extensionobject_to_binary(data)]
    return nodeid_to_binary(data.TypeId) + bytes([_WITH_BODY]) + _LENGTH.pack(len(data.Body)), data.Body


def _array(before: Sequence[int], numbers: Sequence[int]) -> bytes:
    """UInt32, and an array of them."""
    return struct.pack(f"<{len(before) + 1 + len(numbers)}I", *before, len(numbers), *numbers)
