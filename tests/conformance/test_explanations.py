"""DiagnosticInfos and StringTable (Part 4 7.12, 7.32, 7.33): told when asked for, of what went wrong, and only then."""

from typing import Any

import pytest
from asyncua import ua

from tests.conformance.plant import CODES, Conversation, browse, call, int32, nid, read, reads, write

pytestmark = pytest.mark.asyncio(loop_scope="module")

SERVICE_SYMBOL, SERVICE_TEXT, SYMBOL, TEXT = 0x01, 0x02, 0x20, 0x40
UNKNOWN = "The node id refers to a node that does not exist in the server address space."


async def asked(talk: Conversation, request: Any, bits: int) -> Any:
    """The answer, a ServiceFault too."""
    request.RequestHeader.ReturnDiagnostics = bits
    return await talk.answer(talk.write(request), type(request).__name__.replace("Request", "Response"))


def two(bad: str) -> Any:
    return reads(*(ua.ReadValueId(NodeId=nid(n), AttributeId=13) for n in ("Scalar.Int32", bad)))


async def test_an_operation_that_failed_is_explained_in_its_place(talk: Conversation) -> None:
    # 5.11.2.2: as many and in the order of the operations; 7.12: numbers of strings in the header's table.
    response = await asked(talk, two("Missing"), SYMBOL | TEXT)
    good, unknown = response.DiagnosticInfos
    table = response.ResponseHeader.StringTable
    assert good == ua.DiagnosticInfo()
    assert (table[unknown.SymbolicId], table[unknown.Locale], table[unknown.LocalizedText]) == (
        "BadNodeIdUnknown", "en", UNKNOWN,
    )  # fmt: skip
    assert response.ResponseHeader.ServiceDiagnostics == ua.DiagnosticInfo()


@pytest.mark.parametrize("bits", [0, SERVICE_SYMBOL | SERVICE_TEXT])
async def test_what_was_not_asked_for_is_not_told(talk: Conversation, bits: int) -> None:
    # 7.33: empty when no diagnostics were asked for, here none of the operations.
    response = await asked(talk, two("Missing"), bits)
    assert (response.DiagnosticInfos, response.ResponseHeader.StringTable) == ([], [])


async def test_nothing_is_told_of_what_went_well(talk: Conversation) -> None:
    # 5.11.2.2: empty when "no diagnostic information was encountered".
    response = await asked(talk, two("Scalar.Double"), 0x3FF)
    assert (response.DiagnosticInfos, response.ResponseHeader.StringTable) == ([], [])


async def test_a_fault_is_explained_in_its_header(talk: Conversation) -> None:
    # 7.34: a ServiceFault is a ResponseHeader alone.
    header = (await asked(talk, reads(), SERVICE_SYMBOL | SYMBOL)).ResponseHeader
    assert header.ServiceResult.value == CODES.BadNothingToDo
    assert [header.StringTable[header.ServiceDiagnostics.SymbolicId]] == header.StringTable == ["BadNothingToDo"]


@pytest.mark.parametrize(
    ("make", "symbol"),
    [
        (lambda: browse("Missing"), "BadNodeIdUnknown"),
        (lambda: write("Access.ReadOnly", 1, ua.VariantType.Int32), "BadNotWritable"),
        (lambda: call("Missing"), "BadMethodInvalid"),
        (lambda: ua.DeleteSubscriptionsRequest(
            Parameters=ua.DeleteSubscriptionsParameters(SubscriptionIds=[0])), "BadSubscriptionIdInvalid"),
        (lambda: ua.BrowseNextRequest(
            Parameters=ua.BrowseNextParameters(ContinuationPoints=[b"x"])), "BadContinuationPointInvalid"),
    ],
)  # fmt: skip
async def test_every_service_explains(talk: Conversation, make: Any, symbol: str) -> None:
    response = await asked(talk, make(), SYMBOL)
    owner = response if hasattr(response, "DiagnosticInfos") else response.Parameters
    [info] = owner.DiagnosticInfos
    assert response.ResponseHeader.StringTable[info.SymbolicId] == symbol


async def test_arguments_are_explained_one_by_one(talk: Conversation) -> None:
    # 5.12.2.2 inputArgumentDiagnosticInfos; a string stands once in the table.
    response = await asked(talk, call("Methods.Add", int32(1), ua.Variant("x")), SYMBOL)
    first, second = response.Results[0].InputArgumentDiagnosticInfos
    table = response.ResponseHeader.StringTable
    assert (first, table[second.SymbolicId]) == (ua.DiagnosticInfo(), "BadTypeMismatch")
    assert table == ["BadInvalidArgument", "BadTypeMismatch"]


async def test_acknowledgements_are_explained_beside_notifications(talk: Conversation) -> None:
    # 5.14.5.2: of a Publish response, whose notifications are encoded by themselves.
    created = await talk.call(ua.CreateSubscriptionRequest(Parameters=ua.CreateSubscriptionParameters(
        RequestedPublishingInterval=50, RequestedLifetimeCount=600, RequestedMaxKeepAliveCount=10,
        PublishingEnabled=True)))  # fmt: skip
    number = created.Parameters.SubscriptionId
    item = ua.MonitoredItemCreateRequest(
        ItemToMonitor=ua.ReadValueId(NodeId=nid("Scalar.Int32"), AttributeId=13),
        MonitoringMode=ua.MonitoringMode.Reporting,
        RequestedParameters=ua.MonitoringParameters(ClientHandle=7, QueueSize=1),
    )
    await talk.call(ua.CreateMonitoredItemsRequest(Parameters=ua.CreateMonitoredItemsParameters(
        SubscriptionId=number, TimestampsToReturn=ua.TimestampsToReturn.Both, ItemsToCreate=[item])))  # fmt: skip
    wrong = ua.SubscriptionAcknowledgement(SubscriptionId=number, SequenceNumber=77)
    publish = ua.PublishRequest(Parameters=ua.PublishParameters(SubscriptionAcknowledgements=[wrong]))
    response = await asked(talk, publish, SYMBOL)
    [info] = response.Parameters.DiagnosticInfos
    assert response.ResponseHeader.StringTable[info.SymbolicId] == "BadSequenceNumberUnknown"
    [data] = response.Parameters.NotificationMessage.NotificationData
    assert [m.ClientHandle for m in data.MonitoredItems] == [7]
    deleted = ua.DeleteSubscriptionsRequest(Parameters=ua.DeleteSubscriptionsParameters(SubscriptionIds=[number]))
    assert await talk.outcome(deleted) == [0]


async def test_bits_of_the_value_are_no_part_of_its_meaning(talk: Conversation) -> None:
    # 7.39.1: severity and subcode name a StatusCode.
    response = await asked(talk, read("Status.Uncertain"), SYMBOL)
    [info] = response.DiagnosticInfos
    assert response.ResponseHeader.StringTable[info.SymbolicId] == "UncertainLastUsableValue"
