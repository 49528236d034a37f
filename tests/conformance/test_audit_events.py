"""Audit events (Part 3 9.5, Part 4 6.5, Part 5 6.4, Part 9 5.10): what a client does is told to auditors alone."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
from asyncua import ua

from tests.conformance.plant import CHANNELS, CODES, Conversation, Plant, call, nid, write

pytestmark = pytest.mark.asyncio(loop_scope="module")

A, T, IDS = ua.AttributeIds, ua.VariantType, ua.ObjectIds
AUDIT = ua.NodeId(IDS.AuditEventType)
SERVER = ua.NodeId(IDS.Server)
BASE = (
    "EventType",
    "SourceNode",
    "SourceName",
    "Severity",
    "Message",
    "ActionTimeStamp",
    "Status",
    "ServerId",
    "ClientAuditEntryId",
    "ClientUserId",
    "ClientApplicationUri",
)
SERVER_URI = "urn:localhost:enose:Conformance"


def of_type(kind: int) -> ua.ContentFilter:
    literal = ua.LiteralOperand(Value=ua.Variant(ua.NodeId(kind), T.NodeId))
    element = ua.ContentFilterElement(FilterOperator=ua.FilterOperator.OfType, FilterOperands=[literal])
    return ua.ContentFilter(Elements=[element])


def event_filter(kind: int, paths: Sequence[str]) -> ua.EventFilter:
    return ua.EventFilter(
        SelectClauses=[
            ua.SimpleAttributeOperand(
                TypeDefinitionId=ua.NodeId(IDS.BaseEventType),
                BrowsePath=[ua.QualifiedName(name) for name in path.split("/")],
                AttributeId=A.Value,
            )
            for path in paths
        ],
        WhereClause=of_type(kind),
    )


class Auditor:
    """A session that listens to Server for audit events; a subscription for each type."""

    def __init__(self, talk: Conversation) -> None:
        self.talk = talk

    @asynccontextmanager
    async def listening(self, kind: int, *paths: str) -> AsyncIterator["Listening"]:
        number = (await self.talk.subscribe(interval=50)).SubscriptionId
        made = await self.talk.monitor(
            number, SERVER, A.EventNotifier, Filter=event_filter(kind, [*BASE, *paths]), QueueSize=1000
        )
        made.StatusCode.check()
        yield Listening(self.talk, [*BASE, *paths])
        parameters = ua.DeleteSubscriptionsParameters(SubscriptionIds=[number])
        await self.talk.call(ua.DeleteSubscriptionsRequest(Parameters=parameters))


class Listening:
    def __init__(self, talk: Conversation, paths: Sequence[str]) -> None:
        self.talk = talk
        self.paths = paths
        self._seen: list[dict[str, Any]] = []

    async def heard(self, **expected: Any) -> dict[str, Any]:
        """The next event with these fields."""
        async with asyncio.timeout(60):
            while True:
                while self._seen:
                    event = self._seen.pop(0)
                    if all(event[name] == value for name, value in expected.items()):
                        return event
                for fields in await self.talk.next_data():
                    self._seen.append(dict(zip(self.paths, (f.Value for f in fields), strict=True)))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def auditor(plant: Plant) -> AsyncIterator[Auditor]:
    """Of the SecurityAdmin, over the encrypted channel."""
    async with plant.session("Basic256Sha256", "sec1") as talk:
        yield Auditor(talk)


def check_base(event: dict[str, Any], kind: int, source_name: str, *, status: bool, entry: str = "") -> None:
    """What every audit event has (Part 5 6.4.3)."""
    assert event["EventType"] == ua.NodeId(kind)
    assert event["SourceName"] == source_name
    assert event["Status"] is status
    assert event["ServerId"] == SERVER_URI
    assert event["ClientAuditEntryId"] == entry
    assert 1 <= event["Severity"] <= (249 if status else 749)
    assert abs(datetime.now(UTC) - event["ActionTimeStamp"].replace(tzinfo=UTC)) < timedelta(minutes=5)
    assert event["Message"].Text.encode("latin-1")


def with_entry(request: Any, entry: str) -> Any:
    request.RequestHeader.AuditEntryId = entry
    return request


# -- Write


@pytest.mark.parametrize("channel", CHANNELS)
async def test_a_write_is_told_with_old_and_new_value(plant: Plant, auditor: Auditor, channel: str) -> None:
    # Part 5 6.4.25, Part 4 6.5.8: success and failure, each value by itself.
    fields = ("AttributeId", "IndexRange", "OldValue", "NewValue")
    async with plant.session(channel) as talk, auditor.listening(IDS.AuditWriteUpdateEventType, *fields) as told:
        await talk.outcome(write("Scalar.Int32", 4, T.Int32))
        await talk.outcome(with_entry(write("Scalar.Int32", 5, T.Int32), "op1/7"))
        event = await told.heard(NewValue=5)
        check_base(event, IDS.AuditWriteUpdateEventType, "Attribute/Write", status=True, entry="op1/7")
        assert (event["SourceNode"], event["ClientUserId"]) == (nid("Scalar.Int32"), "op1")
        assert (event["AttributeId"], event["IndexRange"], event["OldValue"]) == (A.Value, None, 4)
        assert event["ClientApplicationUri"] == plant.client.uri
        assert await talk.outcome(write("Access.ReadOnly", 6, T.Int32)) == [CODES.BadNotWritable]
        event = await told.heard(NewValue=6)
        check_base(event, IDS.AuditWriteUpdateEventType, "Attribute/Write", status=False)
        assert event["OldValue"] is None
        assert "BadNotWritable" in event["Message"].Text
        await talk.outcome(write("Array.Int32", [8, 9], T.Int32, index_range="1:2"))
        event = await told.heard(IndexRange="1:2")
        assert event["NewValue"] == [8, 9]


# -- Call


@pytest.mark.parametrize("channel", CHANNELS)
async def test_a_call_is_told_with_its_arguments(plant: Plant, auditor: Auditor, channel: str) -> None:
    # Part 5 6.4.27: one event a method called, good or not.
    kind, fields = IDS.AuditUpdateMethodEventType, ("MethodId", "StatusCodeId", "InputArguments", "OutputArguments")
    async with plant.session(channel) as talk, auditor.listening(kind, *fields) as told:
        numbers = [ua.Variant(value, T.Double) for value in (1.5, 2.0)]
        assert await talk.outcome(with_entry(call("Methods.Add", *numbers), "e")) == [0]
        event = await told.heard(MethodId=nid("Methods.Add"))
        check_base(event, kind, "Attribute/Call", status=True, entry="e")
        assert event["SourceNode"] == nid("Methods")
        assert [v.Value for v in event["InputArguments"]] == [1.5, 2.0]
        assert [v.Value for v in event["OutputArguments"]] == [3.5]
        assert event["StatusCodeId"].value == 0
        assert await talk.outcome(call("Methods.Add")) == [CODES.BadArgumentsMissing]
        event = await told.heard(MethodId=nid("Methods.Add"))
        check_base(event, kind, "Attribute/Call", status=False)
        assert event["StatusCodeId"].value == CODES.BadArgumentsMissing
        assert await talk.outcome(call("Methods.Nothing")) == [CODES.BadMethodInvalid]
        assert (await told.heard(MethodId=nid("Methods.Nothing")))["Status"] is False
