"""CreateMonitoredItems and ModifyMonitoredItems (Part 4 5.13, 7.21, 7.22): what one item is answered, case by case."""

import itertools
import math
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from asyncua import ua

from opcua_server.services.monitored_items import DATA_CHANGE_FILTER
from tests.conformance.plant import CODES, Conversation, nid

pytestmark = pytest.mark.asyncio(loop_scope="module")

A, BOTH = ua.AttributeIds, ua.TimestampsToReturn.Both
NOTIFIER = "i=2253"


def filter_(trigger: Any = ua.DataChangeTrigger.StatusValue, deadband: int = 0, value: float = 0.0) -> Any:
    return DATA_CHANGE_FILTER(Trigger=trigger, DeadbandType=deadband, DeadbandValue=value)


def absolute(value: float) -> Any:
    return filter_(deadband=ua.DeadbandType.Absolute, value=value)


def percent(value: float) -> Any:
    return filter_(deadband=ua.DeadbandType.Percent, value=value)


def events() -> Any:
    message = ua.SimpleAttributeOperand(
        TypeDefinitionId=ua.NodeId(ua.ObjectIds.BaseEventType),
        BrowsePath=[ua.QualifiedName("Message")],
        AttributeId=A.Value,
    )
    return ua.EventFilter(SelectClauses=[message])


def average(function: int = ua.ObjectIds.AggregateFunction_Average) -> Any:
    return ua.AggregateFilter(AggregateType=ua.NodeId(function), ProcessingInterval=1000.0)


def item(path: str, attribute: int = A.Value, mode: Any = ua.MonitoringMode.Reporting, **further: Any) -> Any:
    """MonitoredItemCreateRequest; IndexRange and DataEncoding go to the node, all else to the parameters."""
    target = {name: further.pop(name) for name in ("IndexRange", "DataEncoding") if name in further}
    wanted = {"ClientHandle": 1, "SamplingInterval": 0.0, "QueueSize": 10} | further
    return ua.MonitoredItemCreateRequest(
        ItemToMonitor=ua.ReadValueId(NodeId=nid(path), AttributeId=attribute, **target),
        MonitoringMode=mode,
        RequestedParameters=ua.MonitoringParameters(**wanted),
    )


def encoding(name: str) -> Any:
    return ua.QualifiedName(name)


ITEMS = [
    ("5.13.2", item("Scalar.Int32"), CODES.Good),
    ("5.13.2.4", item("Nowhere"), CODES.BadNodeIdUnknown),
    ("5.13.2.4", item("Methods"), CODES.BadAttributeIdInvalid),
    ("5.13.2.4", item("Scalar.Int32", 0), CODES.BadAttributeIdInvalid),
    ("5.13.2.4", item("Scalar.Int32", 99), CODES.BadAttributeIdInvalid),
    ("5.13.2.4", item("Scalar.Int32", mode=3), CODES.BadMonitoringModeInvalid),
    ("5.13.2.4", item("Scalar.Int32", mode=99), CODES.BadMonitoringModeInvalid),
    ("7.27", item("Array.Int32", IndexRange="1:2"), CODES.Good),
    ("5.13.2.1", item("Array.Int32", IndexRange="99"), CODES.Good),
    ("7.27", item("Array.Int32", IndexRange="2:1"), CODES.BadIndexRangeInvalid),
    ("7.27", item("Array.Int32", IndexRange="x"), CODES.BadIndexRangeInvalid),
    ("5.11.2.2", item("Scalar.Structure", DataEncoding=encoding("Default Binary")), CODES.Good),
    ("5.11.2.2", item("Scalar.Structure", DataEncoding=encoding("Default XML")), CODES.BadDataEncodingUnsupported),
    ("5.11.2.2", item("Scalar.Int32", DataEncoding=encoding("Nothing")), CODES.BadDataEncodingInvalid),
    *[("7.22.2", item("Scalar.Int32", Filter=filter_(t)), CODES.Good) for t in ua.DataChangeTrigger],
    ("7.22.2", item("Scalar.Int32", Filter=filter_(99)), CODES.BadMonitoredItemFilterInvalid),
    ("7.22.2", item("Scalar.Int32", Filter=absolute(1.0)), CODES.Good),
    ("7.22.2", item("Scalar.Number", Filter=absolute(1.0)), CODES.Good),
    ("7.22.2", item("Array.Int32", Filter=absolute(1.0)), CODES.Good),
    *[("7.22.2", item(f"Scalar.{t}", Filter=absolute(1.0)), CODES.BadFilterNotAllowed)
      for t in ("Boolean", "String", "DateTime", "ByteString", "Structure", "Variant", "Enumeration")],
    *[("7.22.2", item("Scalar.Int32", Filter=absolute(v)), CODES.BadDeadbandFilterInvalid)
      for v in (-1.0, math.nan, math.inf)],
    ("7.22.2", item("Scalar.Int32", Filter=filter_(deadband=3)), CODES.BadDeadbandFilterInvalid),
    *[("Part 8 7.2", item("Analog.Int32", Filter=percent(v)), CODES.Good) for v in (0.0, 10.0, 100.0)],
    *[("Part 8 7.2", item("Analog.Int32", Filter=percent(v)), CODES.BadDeadbandFilterInvalid) for v in (-0.1, 100.1)],
    ("Part 8 7.2", item("Analog.Int32Array", Filter=percent(10.0)), CODES.Good),
    ("Part 8 7.2", item("Scalar.Int32", Filter=percent(10.0)), CODES.BadDeadbandFilterInvalid),
    ("7.22.1", item("Scalar.Int32", A.DisplayName, Filter=filter_()), CODES.BadFilterNotAllowed),
    ("7.22.1", item("Scalar.Int32", Filter=events()), CODES.BadFilterNotAllowed),
    ("7.22.4", item("Scalar.Int32", Filter=average()), CODES.Good),
    ("7.22.4", item("Scalar.Int32", Filter=average(ua.ObjectIds.BaseObjectType)), CODES.BadAggregateNotSupported),
    ("7.22.4", item("Scalar.String", Filter=average()), CODES.BadFilterNotAllowed),
    ("7.22.4", item("Scalar.Int32", A.DisplayName, Filter=average()), CODES.BadFilterNotAllowed),
    ("7.22.1", item(NOTIFIER, A.EventNotifier, Filter=average()), CODES.BadFilterNotAllowed),
    ("7.22.1", item("Scalar.Int32", Filter=ua.ExtensionObject(ua.NodeId(9, 9), b"1")),
     CODES.BadMonitoredItemFilterUnsupported),
    ("7.22.3", item(NOTIFIER, A.EventNotifier, Filter=events()), CODES.Good),
    ("7.22.3", item(NOTIFIER, A.EventNotifier, Filter=ua.EventFilter()), CODES.BadEventFilterInvalid),
    ("7.22.3", item(NOTIFIER, A.EventNotifier), CODES.BadEventFilterInvalid),
    ("7.22.1", item(NOTIFIER, A.EventNotifier, Filter=filter_()), CODES.BadFilterNotAllowed),
]  # fmt: skip


@pytest_asyncio.fixture(loop_scope="module")
async def number(talk: Conversation) -> AsyncIterator[int]:
    """A subscription."""
    made = (await talk.subscribe(200.0)).SubscriptionId
    yield made
    await talk.call(ua.DeleteSubscriptionsRequest(Parameters=ua.DeleteSubscriptionsParameters([made])))


async def create(talk: Conversation, number: int, *items: Any) -> list[Any]:
    parameters = ua.CreateMonitoredItemsParameters(number, BOTH, list(items))
    return list((await talk.call(ua.CreateMonitoredItemsRequest(Parameters=parameters))).Results)


async def test_each_item_is_answered_by_itself(talk: Conversation, number: int) -> None:
    # 5.13.2.3: one of a request fails, the others are made; a number outside its enumeration is one of the failures.
    results = await create(talk, number, *(request for _, request, _ in ITEMS))
    expected = [(clause, ua.StatusCode(code).name) for clause, _, code in ITEMS]
    assert [(clause, r.StatusCode.name) for (clause, _, _), r in zip(ITEMS, results, strict=True)] == expected


@pytest.mark.parametrize("path", ["Scalar.Int32", "Matrix.Int32", "Methods.Add", "Methods", "i=2256", "i=58", "i=12"])
async def test_every_attribute_that_can_be_read_can_be_monitored(talk: Conversation, number: int, path: str) -> None:
    # 5.13.1.1: any attribute; the first notification is what a Read gives, or why not.
    attributes = [a for a in A if a != A.EventNotifier and (path, a) != ("i=2256", A.Value)]
    read = {a: await talk.read(nid(path), a) for a in attributes}
    there = {a: v for a, v in read.items() if v.StatusCode.value != CODES.BadAttributeIdInvalid}
    results = await create(talk, number, *(item(path, a, ClientHandle=int(a)) for a in attributes))
    assert [a for a, r in zip(attributes, results, strict=True) if r.StatusCode.is_good()] == list(there)
    [data] = (await talk.publish()).NotificationMessage.NotificationData
    first = {A(n.ClientHandle): (n.Value.StatusCode, n.Value.Value) for n in data.MonitoredItems}
    assert first == {a: (v.StatusCode, v.Value) for a, v in there.items()}


@pytest.mark.parametrize(
    ("asked", "revised"),
    [(-1.0, 200.0), (0.0, 0.0), (-7.0, 200.0), (math.nan, 200.0), (1.0, 10.0), (1000.0, 1000.0), (1e300, 3_600_000.0)],
)
async def test_sampling_intervals_are_revised(talk: Conversation, number: int, asked: float, revised: float) -> None:
    # 7.21: -1 is the publishing interval, 0 the fastest there is.
    [made] = await create(talk, number, item("Scalar.Int32", SamplingInterval=asked))
    assert made.RevisedSamplingInterval == revised


@pytest.mark.parametrize(
    ("asked", "of_data", "of_events"), [(0, 1, 1000), (1, 1, 1), (7, 7, 7), (2**32 - 1, 1000, 1000)]
)
async def test_queue_sizes_are_revised(
    talk: Conversation, number: int, asked: int, of_data: int, of_events: int
) -> None:
    # 7.21: 0 is one value, and the server's default of events.
    data = item("Scalar.Int32", QueueSize=asked)
    results = await create(talk, number, data, item(NOTIFIER, A.EventNotifier, QueueSize=asked, Filter=events()))
    assert [r.RevisedQueueSize for r in results] == [of_data, of_events]


async def test_modifying_checks_filters_as_creating_does(talk: Conversation, number: int) -> None:
    [analog, event] = await create(talk, number, item("Analog.Int32"), item(NOTIFIER, A.EventNotifier, Filter=events()))

    async def modified(made: Any, filter_: Any) -> int:
        parameters = ua.MonitoringParameters(ClientHandle=2, SamplingInterval=0.0, QueueSize=5, Filter=filter_)
        items = [ua.MonitoredItemModifyRequest(made.MonitoredItemId, parameters)]
        request = ua.ModifyMonitoredItemsRequest(Parameters=ua.ModifyMonitoredItemsParameters(number, BOTH, items))
        return int((await talk.call(request)).Results[0].StatusCode.value)

    assert await modified(analog, percent(10.0)) == CODES.Good
    assert await modified(analog, percent(101.0)) == CODES.BadDeadbandFilterInvalid
    assert await modified(analog, filter_(99)) == CODES.BadMonitoredItemFilterInvalid
    assert await modified(analog, events()) == CODES.BadFilterNotAllowed
    assert await modified(event, events()) == CODES.Good
    assert await modified(event, filter_()) == CODES.BadFilterNotAllowed
    assert await modified(event, ua.ExtensionObject()) == CODES.BadEventFilterInvalid


async def test_the_current_time_is_as_new_as_it_is_sampled(talk: Conversation, number: int) -> None:
    # Part 5 12.10: the one variable of any server that changes, so the one clients try their subscriptions on.
    await create(talk, number, item("i=2258", SamplingInterval=100.0), item("i=2256", SamplingInterval=100.0))
    times = []
    while len(times) < 8:
        times += [v.Value.Value for v in await talk.next_data() if v.Value.VariantType == ua.VariantType.DateTime]
    steps = [(b - a).total_seconds() for a, b in itertools.pairwise(times)]
    assert all(step > 0 for step in steps)
    assert min(steps) < 0.5
