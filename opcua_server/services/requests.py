"""Requests that asyncua's own classes refuse as a whole for what is wrong in one of their operations.

Here an enumeration is read as its number, and a filter stays closed until its item is looked at. The layout is the
standard's: `Wire` has checked the bytes by asyncua's classes, and what those can decode never comes here.
"""

from dataclasses import dataclass
from typing import Any, Optional

from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import from_binary

from opcua_server.services.seams import UNREADABLE
from opcua_server.services.status import Fault


@dataclass(slots=True)
class ContentFilterElement:
    FilterOperator: ua.Int32
    FilterOperands: list[ua.ExtensionObject]


@dataclass(slots=True)
class ContentFilter:
    Elements: list[ContentFilterElement]


@dataclass(slots=True)
class EventFilter:
    SelectClauses: list[ua.SimpleAttributeOperand]
    WhereClause: ContentFilter


@dataclass(slots=True)
class ClosedObject:
    """An ExtensionObject as it came."""

    TypeId: ua.NodeId
    Encoding: ua.Byte = 0
    Body: Optional[ua.ByteString] = None  # noqa: UP045 - as asyncua's decoder knows an optional field

    def open(self) -> Any:
        """What is in it; ua.ExtensionObject for a type the codec does not know. Raises Fault."""
        kind = ua.extension_objects_by_typeid.get(self.TypeId)
        if kind is None:
            return ua.ExtensionObject(self.TypeId, self.Body)
        try:
            if kind is ua.EventFilter:
                found = from_binary(EventFilter, Buffer(self.Body or b""))
                return ua.EventFilter(SelectClauses=found.SelectClauses, WhereClause=found.WhereClause)
            return from_binary(kind, Buffer(self.Body or b""))
        except UNREADABLE as error:
            raise Fault(ua.StatusCodes.BadMonitoredItemFilterInvalid) from error


def opened(found: Any) -> Any:
    """What is in a filter. Raises Fault BadMonitoredItemFilterInvalid."""
    return found.open() if isinstance(found, ClosedObject) else found


@dataclass(slots=True)
class MonitoringParameters:
    ClientHandle: ua.UInt32
    SamplingInterval: ua.Double
    Filter: ClosedObject
    QueueSize: ua.UInt32
    DiscardOldest: ua.Boolean


@dataclass(slots=True)
class MonitoredItemCreateRequest:
    ItemToMonitor: ua.ReadValueId
    MonitoringMode: ua.Int32
    RequestedParameters: MonitoringParameters


@dataclass(slots=True)
class CreateMonitoredItemsParameters:
    SubscriptionId: ua.UInt32
    TimestampsToReturn: ua.TimestampsToReturn
    ItemsToCreate: list[MonitoredItemCreateRequest]


@dataclass(slots=True)
class MonitoredItemModifyRequest:
    MonitoredItemId: ua.UInt32
    RequestedParameters: MonitoringParameters


@dataclass(slots=True)
class ModifyMonitoredItemsParameters:
    SubscriptionId: ua.UInt32
    TimestampsToReturn: ua.TimestampsToReturn
    ItemsToModify: list[MonitoredItemModifyRequest]
