"""Monitored items (Part 4 5.13): sampling, filters and queues."""

import itertools
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from asyncua import ua
from hypothesis import given
from hypothesis import strategies as st

from opcua_server.services.limits import Limits
from opcua_server.services.monitored_items import REPORTING, DataFilter, DataItem
from opcua_server.services.status import OVERFLOW
from tests.conformance.opcua import Bench, Raw, nid, serve

CODES = ua.StatusCodes
anyio = pytest.mark.asyncio(loop_scope="session")
ABSOLUTE, PERCENT = ua.DeadbandType.Absolute, ua.DeadbandType.Percent
TRIGGER = ua.DataChangeTrigger


def change(deadband: Any = 0, value: float = 0.0, trigger: Any = TRIGGER.StatusValue) -> ua.DataChangeFilter:
    return ua.DataChangeFilter(Trigger=trigger, DeadbandType=deadband, DeadbandValue=value)


def show(bench: Bench, *values: float, node: str = "Part.Value") -> None:
    for value in values:
        now = time.time_ns()
        bench.server.write(node, ua.Variant(value, ua.VariantType.Double), 0, now, now)


async def watched(bench: Bench, raw: Raw, *values: float, **parameters: Any) -> list[Any]:
    """What an item reports of 0 and then the values shown before the next publish."""
    show(bench, 0.0)
    subscription = (await raw.subscribe()).SubscriptionId
    result = await raw.monitor(subscription, nid("Part.Value"), **parameters)
    result.StatusCode.check()
    show(bench, *values)
    return [v.Value.Value for v in await raw.next_data()]


@anyio
async def test_a_slow_drift_crosses_an_absolute_deadband(bench: Bench, raw: Raw) -> None:
    # asyncua compared with the previous sample: a drift 0 to 5 in steps of 0.5 with deadband 1 reported nothing.
    drift = [0.5 * i for i in range(1, 11)]
    assert await watched(bench, raw, *drift, Filter=change(ABSOLUTE, 1.0)) == [0.0, 1.5, 3.0, 4.5]


@anyio
async def test_percent_is_of_the_eu_range(bench: Bench, raw: Raw) -> None:
    # Part 8 7.2: EURange is 0..200, so 1 % is 2.
    assert await watched(bench, raw, 1.0, 2.0, 2.5, 4.0, 5.0, Filter=change(PERCENT, 1.0)) == [0.0, 2.5, 5.0]


@anyio
@pytest.mark.parametrize(
    ("node", "attribute", "wanted", "expected"),
    [
        ("Part.Count", "Value", change(PERCENT, 1.0), CODES.BadDeadbandFilterInvalid),  # no EURange (Kepware)
        ("Part.Value", "Value", change(PERCENT, 101.0), CODES.BadDeadbandFilterInvalid),
        ("Part.Value", "Value", change(ABSOLUTE, -1.0), CODES.BadDeadbandFilterInvalid),
        ("Part.Value", "Value", change(ABSOLUTE, math.nan), CODES.BadDeadbandFilterInvalid),
        ("Part.Value", "Value", change(7, 1.0), CODES.BadDeadbandFilterInvalid),
        ("Part.Text", "Value", change(ABSOLUTE, 1.0), CODES.BadFilterNotAllowed),
        ("Part.Value", "DisplayName", change(), CODES.BadFilterNotAllowed),
        ("Part.Value", "Value", ua.EventFilter(), CODES.BadFilterNotAllowed),
        ("Part.Value", "Value", ua.AggregateFilter(), CODES.BadAggregateNotSupported),
        ("Device", "EventNotifier", change(), CODES.BadFilterNotAllowed),
        ("Device", "EventNotifier", ua.ExtensionObject(), CODES.BadEventFilterInvalid),
        ("Part.Value", "EventNotifier", ua.ExtensionObject(), CODES.BadAttributeIdInvalid),
        ("Nowhere", "Value", ua.ExtensionObject(), CODES.BadNodeIdUnknown),
    ],
)
async def test_a_wrong_item_costs_only_itself(raw: Raw, node: str, attribute: str, wanted: Any, expected: int) -> None:
    # asyncua answered the whole request with BadInternalError.
    subscription = (await raw.subscribe()).SubscriptionId
    result = await raw.monitor(subscription, nid(node), getattr(ua.AttributeIds, attribute), Filter=wanted)
    assert result.StatusCode.value == expected


@anyio
@pytest.mark.parametrize("target", ["Part.Value", "Part.Value[0]"], ids=["in columns", "by itself"])
async def test_a_session_has_room_for_so_many_waiting_values(raw: Raw, target: str) -> None:
    # A client that stops reading: a hundred thousand queues of a thousand values would be 4 GB.
    subscription, limits = (await raw.subscribe()).SubscriptionId, Limits()
    node, _, part = target.partition("[")
    wanted = ua.MonitoredItemCreateRequest(
        ItemToMonitor=ua.ReadValueId(
            NodeId=nid(node), AttributeId=ua.AttributeIds.Value, IndexRange=part.removesuffix("]") or None
        ),
        MonitoringMode=ua.MonitoringMode.Reporting,
        RequestedParameters=ua.MonitoringParameters(QueueSize=limits.queue),
    )
    full = limits.waiting // limits.queue
    parameters = ua.CreateMonitoredItemsParameters(
        SubscriptionId=subscription,
        TimestampsToReturn=ua.TimestampsToReturn.Both,
        ItemsToCreate=[wanted] * (full + 1),
    )
    made = (await raw.call(ua.CreateMonitoredItemsRequest(Parameters=parameters))).Results
    assert [r.RevisedQueueSize for r in made] == [limits.queue] * full + [1]

    async def modified(item: Any, size: int) -> int:
        request = ua.MonitoredItemModifyRequest(
            MonitoredItemId=item.MonitoredItemId, RequestedParameters=ua.MonitoringParameters(QueueSize=size)
        )
        asked = ua.ModifyMonitoredItemsParameters(
            SubscriptionId=subscription, TimestampsToReturn=ua.TimestampsToReturn.Both, ItemsToModify=[request]
        )
        return int((await raw.call(ua.ModifyMonitoredItemsRequest(Parameters=asked))).Results[0].RevisedQueueSize)

    assert [await modified(made[-1], 7), await modified(made[0], 1), await modified(made[-1], 7)] == [1, 1, 7]


@anyio
async def test_queue_sizes_are_revised(bench: Bench, raw: Raw) -> None:
    subscription = (await raw.subscribe()).SubscriptionId
    for asked, given_ in ((0, 1), (1, 1), (7, 7), (2**32 - 1, Limits().queue)):
        assert (await raw.monitor(subscription, nid("Part.Value"), QueueSize=asked)).RevisedQueueSize == given_


@anyio
async def test_the_oldest_goes_and_the_gap_is_marked(bench: Bench, raw: Raw) -> None:
    show(bench, 0.0)
    subscription = (await raw.subscribe()).SubscriptionId
    await raw.monitor(subscription, nid("Part.Value"), QueueSize=2, DiscardOldest=True)
    show(bench, 1.0, 2.0, 3.0)
    values = await raw.next_data()
    assert [v.Value.Value for v in values] == [2.0, 3.0]
    assert [v.StatusCode.value for v in values] == [OVERFLOW, 0]


@anyio
async def test_the_newest_goes_when_asked(bench: Bench, raw: Raw) -> None:
    show(bench, 0.0)
    subscription = (await raw.subscribe()).SubscriptionId
    await raw.monitor(subscription, nid("Part.Value"), QueueSize=2, DiscardOldest=False)
    show(bench, 1.0, 2.0, 3.0)
    values = await raw.next_data()
    assert [v.Value.Value for v in values] == [0.0, 3.0]
    assert [v.StatusCode.value for v in values] == [0, OVERFLOW]


@anyio
async def test_sampling_keeps_and_disabled_forgets(bench: Bench, raw: Raw) -> None:
    # asyncua treated Sampling as Reporting.
    show(bench, 0.0)
    subscription = (await raw.subscribe()).SubscriptionId
    item = (await raw.monitor(subscription, nid("Part.Value"))).MonitoredItemId

    async def switch(mode: Any, number: int = item) -> int:
        parameters = ua.SetMonitoringModeParameters(
            SubscriptionId=subscription, MonitoringMode=mode, MonitoredItemIds=[number]
        )
        answer = await raw.call(ua.SetMonitoringModeRequest(Parameters=parameters))
        return int(answer.Parameters.Results[0].value)

    assert len(await raw.next_data()) == 1
    await switch(ua.MonitoringMode.Sampling)
    show(bench, 1.0, 2.0)
    assert (await raw.publish()).NotificationMessage.NotificationData == []
    await switch(ua.MonitoringMode.Reporting)
    assert [v.Value.Value for v in await raw.next_data()] == [1.0, 2.0]
    await switch(ua.MonitoringMode.Disabled)
    show(bench, 3.0)
    await switch(ua.MonitoringMode.Reporting)
    assert [v.Value.Value for v in await raw.next_data()] == [3.0]
    assert await switch(ua.MonitoringMode.Reporting, 10**6) == CODES.BadMonitoredItemIdInvalid


@anyio
async def test_items_are_modified_and_deleted(bench: Bench, raw: Raw) -> None:
    show(bench, 0.0)
    subscription = (await raw.subscribe()).SubscriptionId
    item = (await raw.monitor(subscription, nid("Part.Value"))).MonitoredItemId

    async def modify(number: int, **wanted: Any) -> Any:
        request = ua.MonitoredItemModifyRequest(
            MonitoredItemId=number, RequestedParameters=ua.MonitoringParameters(ClientHandle=9, **wanted)
        )
        parameters = ua.ModifyMonitoredItemsParameters(
            SubscriptionId=subscription,
            TimestampsToReturn=ua.TimestampsToReturn.Both,
            ItemsToModify=[request],
        )
        return (await raw.call(ua.ModifyMonitoredItemsRequest(Parameters=parameters))).Results[0]

    assert (await modify(item, QueueSize=999_999)).RevisedQueueSize == Limits().queue
    wrong = await modify(item, Filter=change(PERCENT, -1.0))
    assert wrong.StatusCode.value == CODES.BadDeadbandFilterInvalid
    assert (await modify(10**6)).StatusCode.value == CODES.BadMonitoredItemIdInvalid
    assert (await modify(item, Filter=change(ABSOLUTE, 5.0))).StatusCode.is_good()
    show(bench, 3.0, 6.0)
    assert [v.Value.Value for v in await raw.next_data()][-1] == 6.0

    parameters = ua.DeleteMonitoredItemsParameters(SubscriptionId=subscription, MonitoredItemIds=[item, item])
    results = (await raw.call(ua.DeleteMonitoredItemsRequest(Parameters=parameters))).Results
    assert [r.value for r in results] == [0, CODES.BadMonitoredItemIdInvalid]


@anyio
async def test_an_index_range_is_watched_alone(bench: Bench, raw: Raw) -> None:
    subscription = (await raw.subscribe()).SubscriptionId
    request = ua.MonitoredItemCreateRequest(
        ItemToMonitor=ua.ReadValueId(NodeId=nid("Part.Vector"), AttributeId=ua.AttributeIds.Value, IndexRange="1:2"),
        MonitoringMode=ua.MonitoringMode.Reporting,
        RequestedParameters=ua.MonitoringParameters(ClientHandle=1, QueueSize=9),
    )
    parameters = ua.CreateMonitoredItemsParameters(
        SubscriptionId=subscription, TimestampsToReturn=ua.TimestampsToReturn.Source, ItemsToCreate=[request]
    )
    await raw.call(ua.CreateMonitoredItemsRequest(Parameters=parameters))
    (value,) = await raw.next_data()
    assert value.Value.Value == [2.0, 3.0]
    assert value.ServerTimestamp is None


@anyio
async def test_the_standard_nodes_are_watched_too(raw: Raw) -> None:
    # They are written by asyncua's own loop or ours; a client's watchdog lives on them (Milo, UaExpert).
    subscription = (await raw.subscribe()).SubscriptionId
    await raw.monitor(subscription, ua.NodeId(ua.ObjectIds.Server_ServerStatus_CurrentTime))
    first = (await raw.next_data())[0].Value.Value
    assert (await raw.next_data())[-1].Value.Value > first


# -- the item itself, with a clock of its own


class Stepped:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def item(clock: Stepped, queue: int = 100) -> DataItem:
    target = ua.ReadValueId(NodeId=nid("x"), AttributeId=ua.AttributeIds.Value)
    made = DataItem(1, target, REPORTING, lambda _: None, clock)
    made.configure(1, queue, discard_oldest=True)
    return made


def value(number: float, code: int = 0) -> ua.DataValue:
    return ua.DataValue(ua.Variant(number, ua.VariantType.Double), ua.StatusCode(code))


def reported(made: DataItem) -> list[float]:
    return [v.Value.Value for v in made.queue]


def test_of_changes_within_an_interval_the_last_is_taken() -> None:
    clock = Stepped()
    made = item(clock)
    made.interval = 1.0
    made.start(value(0.0))
    for step in range(1, 31):
        clock.now = step / 10
        made.sample(value(float(step)))
    # The first change opens the first interval, which is shorter by what counts as on time.
    assert reported(made) == [0.0, 1.0, 9.0, 19.0, 29.0]


def test_a_change_after_the_interval_is_taken_at_once_and_one_within_it_is_not_lost() -> None:
    # A source as fast as the sampling interval, with jitter, must not lose values.
    clock = Stepped()
    made = item(clock)
    made.interval = 1.0
    made.start(value(0.0))
    for step, at in enumerate((1.01, 1.99, 3.02, 3.98, 5.0), start=1):
        clock.now = at
        made.sample(value(float(step)))
    clock.now = 6.1
    made.flush(clock.now)
    assert reported(made) == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]


def test_status_counts_before_value_and_deadband() -> None:
    same = DataFilter(TRIGGER.StatusValue, 10.0)
    assert same.differs(value(1.0), value(1.0, CODES.BadNoCommunication))
    assert not same.differs(value(1.0), value(2.0))
    status_only = DataFilter(TRIGGER.Status)
    assert not status_only.differs(value(1.0), value(99.0))


def test_a_new_timestamp_counts_when_asked() -> None:
    before, after = value(1.0), value(1.0)
    after = ua.DataValue(after.Value, after.StatusCode, ua.DateTime(2025, 1, 1))
    assert DataFilter(TRIGGER.StatusValueTimestamp).differs(before, after)
    assert not DataFilter(TRIGGER.StatusValue).differs(before, after)


@given(st.lists(st.floats(), max_size=40), st.floats(0.0, 100.0))
def test_what_is_reported_is_more_than_a_deadband_from_what_was_reported_before(
    values: list[float], deadband: float
) -> None:
    made = item(Stepped())
    made.filter = DataFilter(TRIGGER.StatusValue, deadband)
    made.start(value(0.0))
    for number in values:
        made.sample(value(number))
    kept = reported(made)
    for before, after in itertools.pairwise(kept):
        assert abs(after - before) > deadband or math.isnan(before) != math.isnan(after)
    last, final = kept[-1], (values or [0.0])[-1]
    assert last == final or abs(final - last) <= deadband or (math.isnan(last) and math.isnan(final))


@anyio
async def test_a_column_is_marked_as_any_other_when_it_means_something_else(tmp_path: Path) -> None:
    # Part 8 5.2: the value last reported once more, with the bit; a percent deadband is of the new range from now on.
    async with serve(tmp_path) as bench, Raw(bench) as raw:
        await raw.login()

        def show_row(value: float) -> None:
            bench.server.write_row(rows, np.array([value]), np.array([0], np.uint32), 10**18, 10**18)

        rows = bench.server.columns(["Part.Value"])
        show_row(7.0)
        number = (await raw.subscribe()).SubscriptionId
        wanted = ua.DataChangeFilter(Trigger=TRIGGER.StatusValue, DeadbandType=PERCENT, DeadbandValue=10.0)
        assert (await raw.monitor(number, nid("Part.Value"), Filter=wanted)).StatusCode.is_good()
        assert (await raw.monitor(number, nid("Part.Text"))).StatusCode.is_good()
        assert len(await raw.next_data()) == 2
        span = nid("Part.Value.EURange")
        bench.server.space.write(span, ua.DataValue(ua.Variant(ua.Range(Low=0.0, High=5.0))))
        bench.server.redefine("Part.Value")
        [marked] = await raw.next_data()
        assert (marked.Value.Value, marked.StatusCode.value) == (7.0, 0x4000)
        show_row(8.0)
        [plain] = await raw.next_data()
        assert (plain.Value.Value, plain.StatusCode.value) == (8.0, 0)
