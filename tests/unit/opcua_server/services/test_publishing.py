"""A PublishResponse in pieces is what asyncua's encoder makes of it; a request is read as its decoder does."""

from datetime import UTC, datetime
from typing import Any

import pytest
from asyncua import ua
from asyncua.ua.ua_binary import extensionobject_to_binary, struct_to_binary

from opcua_server.services import publishing
from opcua_server.services.publishing import event_fields, event_notifications

WHEN = datetime(2026, 3, 4, 5, 6, 7, 891234, UTC)
VALUE = ua.MonitoredItemNotification(ClientHandle=5, Value=ua.DataValue(ua.Variant(1.5)))
NOTIFICATIONS: dict[str, list[Any]] = {
    "keep-alive": [],
    "values as columns": [ua.ExtensionObject(ua.NodeId(811), memoryview(bytearray(b"whatever")))],
    "values, events, a state": [
        ua.ExtensionObject(ua.NodeId(811), memoryview(bytearray(b"whatever"))),
        ua.DataChangeNotification(MonitoredItems=[VALUE]),
        ua.EventNotificationList(Events=[ua.EventFieldList(ClientHandle=6, EventFields=[ua.Variant("text")])]),
        ua.StatusChangeNotification(Status=ua.StatusCode(ua.StatusCodes.BadTimeout)),
    ],
}


@pytest.mark.parametrize("data", NOTIFICATIONS.values(), ids=NOTIFICATIONS)
@pytest.mark.parametrize("available", [[], [7, 8, 9]])
@pytest.mark.parametrize("results", [[], [0, ua.StatusCodes.BadSequenceNumberUnknown]])
def test_a_response_is_encoded_as_by_the_library(data: list[Any], available: list[int], results: list[int]) -> None:
    response = ua.PublishResponse()
    response.ResponseHeader.Timestamp = WHEN
    response.ResponseHeader.RequestHandle = 4711
    response.Parameters = ua.PublishResult(
        SubscriptionId=3,
        AvailableSequenceNumbers=available,
        MoreNotifications=bool(results),
        NotificationMessage=ua.NotificationMessage(SequenceNumber=9, PublishTime=WHEN, NotificationData=data),
        Results=[ua.StatusCode(code) for code in results],
    )
    assert b"".join(publishing.encoded(response)) == struct_to_binary(response)


def test_events_encoded_one_by_one_are_a_list_as_the_library_encodes_it() -> None:
    events = [[ua.Variant("text"), ua.Variant()], [], [ua.Variant(7, ua.VariantType.UInt16)]]
    fields = [ua.EventFieldList(ClientHandle=i, EventFields=variants) for i, variants in enumerate(events)]
    made = event_notifications([(i, event_fields(variants)) for i, variants in enumerate(events)])
    assert extensionobject_to_binary(made) == extensionobject_to_binary(ua.EventNotificationList(Events=fields))


@pytest.mark.parametrize("count", [None, 0, 1, 3, 1_000])
def test_acknowledgements_are_read_as_the_library_reads_them(count: int | None) -> None:
    acknowledged = None if count is None else [ua.SubscriptionAcknowledgement(i, 2**32 - 1 - i) for i in range(count)]
    data = b"head" + struct_to_binary(ua.PublishParameters(acknowledged))
    assert publishing.parameters(data, 4) == ua.PublishParameters(acknowledged or [])
