"""Delivery of events and ConditionRefresh on a running server."""

from collections.abc import Iterator
from typing import Any

import pytest
from asyncua import ua

from opcua_server.services.nodes import Event
from tests.conformance.opcua import Bench, Raw, event, nid

CODES = ua.StatusCodes
pytestmark = pytest.mark.asyncio(loop_scope="session")
SERVER = ua.NodeId(ua.ObjectIds.Server)
ALARM = ua.ObjectIds.ExclusiveLevelAlarmType
REFRESH_START, REFRESH_END = (
    ua.NodeId(ua.ObjectIds.RefreshStartEventType),
    ua.NodeId(ua.ObjectIds.RefreshEndEventType),
)


def only(*types: int, where: bool = False) -> ua.EventFilter:
    clauses = [
        ua.SimpleAttributeOperand(
            TypeDefinitionId=ua.NodeId(ua.ObjectIds.BaseEventType),
            BrowsePath=[ua.QualifiedName(name)],
            AttributeId=ua.AttributeIds.Value,
        )
        for name in ("EventId", "EventType", "SourceName", "Message")
    ]
    elements = [
        ua.ContentFilterElement(
            FilterOperator=ua.FilterOperator.OfType,
            FilterOperands=[ua.LiteralOperand(Value=ua.Variant(ua.NodeId(kind)))],
        )
        for kind in types
    ]
    return ua.EventFilter(SelectClauses=clauses, WhereClause=ua.ContentFilter(Elements=elements))


async def listen(raw: Raw, *nodes: ua.NodeId, types: tuple[int, ...] = (), queue: int = 100) -> tuple[int, list[int]]:
    subscription = (await raw.subscribe()).SubscriptionId
    items = []
    for handle, node in enumerate(nodes):
        result = await raw.monitor(
            subscription,
            node,
            ua.AttributeIds.EventNotifier,
            Filter=only(*types),
            ClientHandle=handle,
            QueueSize=queue,
        )
        result.StatusCode.check()
        items.append(result.MonitoredItemId)
    return subscription, items


async def received(raw: Raw) -> list[tuple[Any, ...]]:
    return [tuple(v.Value for v in fields) for fields in await raw.next_data()]


async def test_an_event_reaches_source_ancestors_and_server_once(bench: Bench, raw: Raw) -> None:
    # asyncua delivered to exactly the emitting node: a subscriber of Server got 0 of 1 (G1).
    await listen(raw, nid("Line"), nid("Device"), SERVER)
    made = event("Part", message="leak")
    bench.server.publish_event(made)
    got = await received(raw)
    assert [e[0] for e in got] == [made.event_id] * 3
    assert got[0][2:] == ("Part", ua.LocalizedText("leak"))


async def test_an_event_does_not_go_down_or_aside(bench: Bench, raw: Raw) -> None:
    await listen(raw, nid("Device"))
    bench.server.publish_event(event("Line"))
    last = event("Device")
    bench.server.publish_event(last)
    assert [e[0] for e in await received(raw)] == [last.event_id]


async def test_a_where_clause_selects(bench: Bench, raw: Raw) -> None:
    await listen(raw, SERVER, types=(ua.ObjectIds.AlarmConditionType,))
    bench.server.publish_event(event("Part"))
    alarm = event("Part", ALARM)
    bench.server.publish_event(alarm)
    assert [e[0] for e in await received(raw)] == [alarm.event_id]


async def test_a_wrong_where_clause_is_refused_and_a_wrong_field_told(raw: Raw) -> None:
    subscription = (await raw.subscribe()).SubscriptionId
    bad = only()
    bad.WhereClause.Elements = [ua.ContentFilterElement(FilterOperator=ua.FilterOperator.Cast)]
    refused = await raw.monitor(subscription, SERVER, ua.AttributeIds.EventNotifier, Filter=bad)
    assert refused.StatusCode.value == CODES.BadEventFilterInvalid
    odd = only()
    odd.SelectClauses[0].AttributeId = 99
    told = await raw.monitor(subscription, SERVER, ua.AttributeIds.EventNotifier, Filter=odd)
    assert told.StatusCode.is_good()
    assert told.FilterResult.SelectClauseResults[0].value == CODES.BadAttributeIdInvalid


@pytest.fixture
def retained(bench: Bench) -> Iterator[list[Event]]:
    """The conditions whose Retain is set."""
    events: list[Event] = []
    bench.server.retained(lambda: events)
    yield events
    bench.server.retained(tuple)


async def refresh(raw: Raw, *arguments: int, method: int = ua.ObjectIds.ConditionType_ConditionRefresh) -> int:
    request = ua.CallMethodRequest(
        ObjectId=ua.NodeId(ua.ObjectIds.ConditionType),
        MethodId=ua.NodeId(method),
        InputArguments=[ua.Variant(a, ua.VariantType.UInt32) for a in arguments],
    )
    answer = await raw.call(ua.CallRequest(Parameters=ua.CallParameters(MethodsToCall=[request])))
    return int(answer.Results[0].StatusCode.value)


async def test_refresh_tells_the_present_between_its_brackets(bench: Bench, raw: Raw, retained: list[Event]) -> None:
    # Part 9 5.5.7; the brackets pass any where clause, or the client waits for ever.
    alarm = event("Part", ALARM, retain=True, condition=nid("Alarm"))
    retained += [alarm, event("Line", ALARM, retain=True)]
    subscription, _ = await listen(raw, nid("Device"), types=(ALARM,))
    assert await refresh(raw, subscription) == 0
    got = await received(raw)
    assert [e[1] for e in got] == [REFRESH_START, ua.NodeId(ALARM), REFRESH_END]
    assert got[1][0] == alarm.event_id


async def test_refresh2_is_for_one_item(bench: Bench, raw: Raw, retained: list[Event]) -> None:
    retained.append(event("Part", ALARM, retain=True))
    subscription, items = await listen(raw, nid("Device"), SERVER)
    second = ua.ObjectIds.ConditionType_ConditionRefresh2
    assert await refresh(raw, subscription, items[1], method=second) == 0
    assert len(await received(raw)) == 3
    assert await refresh(raw, subscription, 10**6, method=second) == CODES.BadMonitoredItemIdInvalid
    assert await refresh(raw, 10**6) == CODES.BadSubscriptionIdInvalid
    assert await refresh(raw) == CODES.BadArgumentsMissing


async def test_one_refresh_at_a_time_per_subscription(bench: Bench, raw: Raw, retained: list[Event]) -> None:
    # Part 9 5.5.7: BadRefreshInProgress; the other subscription does not wait for it.
    retained += [event("Part", ALARM, retain=True) for _ in range(20)]
    subscription, _ = await listen(raw, SERVER, queue=5)
    other, _ = await listen(raw, SERVER)
    assert await refresh(raw, subscription) == 0
    assert await refresh(raw, subscription) == CODES.BadRefreshInProgress
    assert await refresh(raw, other) == 0


async def test_a_refresh_loses_nothing_in_a_short_queue(bench: Bench, raw: Raw, retained: list[Event]) -> None:
    # What is retained is told as fast as the client takes it, whatever its queue holds.
    retained += [event("Part", ALARM, retain=True) for _ in range(50)]
    subscription, _ = await listen(raw, SERVER, queue=5)
    assert await refresh(raw, subscription) == 0
    got: list[Any] = []
    while not got or got[-1][1] != REFRESH_END:
        got += await received(raw)
    assert [e[0] for e in got[1:-1]] == [e.event_id for e in retained]


async def test_refreshes_without_end_are_refused(bench: Bench, raw: Raw) -> None:
    subscription, _ = await listen(raw, SERVER)
    outcomes = set()
    for _ in range(30):
        outcomes.add(await refresh(raw, subscription))
    assert CODES.BadTooManyOperations in outcomes
