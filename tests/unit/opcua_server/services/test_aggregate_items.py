"""Monitored items with an AggregateFilter (Part 4 7.22.4, Part 13 4.3)."""

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from asyncua import ua

from opcua_server.services.aggregate_items import SAMPLES, AggregateItem
from opcua_server.services.status import from_ns
from tests.conformance.opcua import Bench, Raw, nid
from tests.unit.historian.support import NOW, SteppedClock

anyio = pytest.mark.asyncio(loop_scope="session")
CODES = ua.StatusCodes
REPORTING = ua.MonitoringMode.Reporting


def aggregate(name: str, milliseconds: float = 1000.0, **further: Any) -> ua.AggregateFilter:
    configuration = {
        "UseServerCapabilitiesDefaults": True, "TreatUncertainAsBad": True, "PercentDataBad": 100,
        "PercentDataGood": 100, "UseSlopedExtrapolation": False,
    }  # fmt: skip
    start = further.pop("StartTime", from_ns(NOW))
    return ua.AggregateFilter(
        StartTime=start,
        AggregateType=ua.NodeId(getattr(ua.ObjectIds, f"AggregateFunction_{name}", ua.ObjectIds.Server)),
        ProcessingInterval=milliseconds,
        AggregateConfiguration=ua.AggregateConfiguration(**(configuration | further)),
    )


class Watched:
    """An item on Part.Value, at a time that is stepped."""

    def __init__(self, bench: Bench, name: str, milliseconds: float = 1000.0, sampling: float = 0.0) -> None:
        self.clock = SteppedClock()
        target = ua.ReadValueId(NodeId=nid("Part.Value"), AttributeId=ua.AttributeIds.Value)
        self.item = AggregateItem(1, target, REPORTING, lambda _: None, self.clock)
        self.result = self.item.aggregate(bench.server.space, aggregate(name, milliseconds), sampling)
        self.item.configure(1, 10, True)

    def sample(self, second: float, value: float | None, code: int = 0) -> None:
        self.clock.seconds = second
        shown = ua.Variant() if value is None else ua.Variant(value, ua.VariantType.Double)
        stamp = from_ns(NOW + round(second * 1e9))
        self.item.sample(ua.DataValue(shown, ua.StatusCode(code), stamp, stamp))

    def reported(self, second: float) -> list[tuple[float, Any, int]]:
        """Second of each value told by then, the value, its status."""
        self.clock.seconds = second
        self.item.flush(second)
        told = [
            ((v.SourceTimestamp - from_ns(NOW)).total_seconds(), v.Value.Value, v.StatusCode.value)
            for v in self.item.queue
        ]
        self.item.queue.clear()
        return told


@pytest_asyncio.fixture(loop_scope="session")
async def part(bench: Bench) -> AsyncIterator[Bench]:
    yield bench


@anyio
async def test_an_interval_is_reported_when_it_is_over(part: Bench) -> None:
    # 4.3.1: dated at its beginning, as a HistoryRead of the same would be.
    watched = Watched(part, "Average")
    for second, value in ((0.0, 1.0), (0.25, 2.0), (0.75, 6.0)):
        watched.sample(second, value)
    assert watched.reported(0.99) == []
    assert watched.reported(1.0) == [(0.0, 3.0, 0x401)]
    watched.sample(1.5, 9.0)
    assert watched.reported(2.1) == [(1.0, 9.0, 0x401)]


@anyio
async def test_a_value_holds_until_there_is_another(part: Bench) -> None:
    # 4.3.2: nothing is interpolated towards what is not known yet, and an interval without a change has its value.
    watched = Watched(part, "TimeAverage2")
    watched.sample(0.0, 4.0)
    assert watched.reported(2.5) == [(0.0, 4.0, 0x401), (1.0, 4.0, 0x401)]


@anyio
async def test_what_is_bad_counts(part: Bench) -> None:
    watched = Watched(part, "PercentGood")
    watched.sample(0.0, 4.0)
    watched.sample(0.25, None, CODES.BadNoCommunication)
    assert watched.reported(1.0) == [(0.0, 25.0, 0x401)]


@anyio
async def test_after_a_pause_no_more_is_told_than_the_queue_holds(part: Bench) -> None:
    watched = Watched(part, "Average")
    watched.sample(0.0, 1.0)
    assert len(watched.reported(10_000.0)) == 10


@anyio
async def test_an_item_holds_no_more_samples_than_an_interval_needs(part: Bench) -> None:
    watched = Watched(part, "Count", 3_600_000.0)
    assert watched.item.interval == 3600 / SAMPLES
    short = Watched(part, "Count", 0.0)
    assert short.result.RevisedProcessingInterval == 100.0
    for step in range(2_000):
        short.sample(step / 1000, float(step))
        short.item.flush(step / 1000)
    assert len(short.item._samples) < 200


@anyio
async def test_over_the_wire_the_result_says_what_was_revised(bench: Bench, raw: Raw) -> None:
    now = time.time_ns()
    bench.server.write("Part.Value", ua.Variant(42.0, ua.VariantType.Double), 0, now, now)
    subscription = await raw.subscribe()
    given = aggregate("TimeAverage2", 1.0)
    result = await raw.monitor(subscription.SubscriptionId, nid("Part.Value"), Filter=given)
    assert result.StatusCode.value == 0
    assert result.FilterResult.RevisedProcessingInterval == 100.0
    (first, *_) = await raw.next_data()
    assert first.Value.Value == 42.0
    bench.server.write("Part.Value", ua.Variant(0.0, ua.VariantType.Double), 0, now, now)


@anyio
@pytest.mark.parametrize(
    ("node", "given", "expected"),
    [
        ("Part.Value", aggregate("Median"), CODES.BadAggregateNotSupported),
        ("Part.Value", aggregate("AnnotationCount"), CODES.BadAggregateNotSupported),
        ("Part.Text", aggregate("Average"), CODES.BadFilterNotAllowed),
        ("Part.Vector", aggregate("Average"), CODES.BadFilterNotAllowed),
        (
            "Part.Value",
            aggregate("Average", UseServerCapabilitiesDefaults=False, PercentDataGood=101),
            CODES.BadAggregateInvalidInputs,
        ),
    ],
)
async def test_a_filter_that_means_nothing_is_refused(raw: Raw, node: str, given: Any, expected: int) -> None:
    subscription = await raw.subscribe()
    result = await raw.monitor(subscription.SubscriptionId, nid(node), Filter=given)
    assert result.StatusCode.value == expected
