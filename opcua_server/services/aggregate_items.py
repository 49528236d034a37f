"""Monitored items that report an aggregate (Part 4 7.22.4, Part 13 4.3): one value an interval, of the values sampled.

A value holds until the variable has another one, so at the end of an interval the last sample is known to stand.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from asyncua import ua

from historian.aggregates import AGGREGATES, Intervals, Samples
from nodesets.model import AggregateRules
from nodesets.ports import Clock
from opcua_server.services import history_encoding as encoding
from opcua_server.services.history import FUNCTIONS, RESULTS, aggregate_rules
from opcua_server.services.monitored_items import DISABLED, DataItem, Item
from opcua_server.services.space import Space
from opcua_server.services.status import Fault, from_ns, status, to_ns

CODES = ua.StatusCodes
MILLISECOND = 1_000_000
SHORTEST, LONGEST = 100.0, 3_600_000.0
"""Processing intervals, milliseconds: what is shorter is a value, what is longer is history."""
SAMPLES = 5_000
"""Of one interval: samples come no closer than that many fit in, which bounds what an item holds."""
NEIGHBOURS = 3
"""Samples kept from before an interval, for its bounds."""


class AggregateItem(DataItem):
    __slots__ = (
        "_begin", "_built_in", "_clock", "_function", "_length", "_name", "_rules", "_samples",
    )  # fmt: skip

    def __init__(self, item_id: int, target: Any, mode: Any, ready: Callable[[Item], None], clock: Clock) -> None:
        super().__init__(item_id, target, mode, ready, clock.monotonic)
        self._clock = clock
        self._samples: list[tuple[int, float, int]] = []
        """Source time, value (NaN for null), status."""
        self._begin = self._length = 0

    def aggregate(self, space: Space, wanted: Any, sampling: float) -> Any:
        """Apply an AggregateFilter with a sampling interval (s); AggregateFilterResult. Raises Fault."""
        name, rules = _checked(space, self.target, wanted)
        self._name, self._rules, self._function = name, rules, AGGREGATES[name].function
        self._built_in = space.built_in(space.attribute(self.target.NodeId, ua.AttributeIds.DataType))
        milliseconds = min(max(_number(wanted.ProcessingInterval), SHORTEST), LONGEST)
        self._length = round(milliseconds * MILLISECOND)
        now = self._clock.now()
        start = to_ns(wanted.StartTime) or now
        self._begin = max(start, start + -(-(now - start) // self._length) * self._length)
        self.resample(max(sampling, milliseconds / 1000 / SAMPLES))
        return ua.AggregateFilterResult(
            RevisedStartTime=from_ns(self._begin),
            RevisedProcessingInterval=milliseconds,
            RevisedAggregateConfiguration=ua.AggregateConfiguration(
                False, rules.uncertain_is_bad, rules.percent_bad, rules.percent_good, rules.sloped_extrapolation
            ),
        )

    def _take(self, value: Any) -> None:
        """A sample; nothing is reported before its interval is over."""
        number = value.Value.Value if value.Value is not None else None
        plain = float(number) if isinstance(number, bool | int | float) else math.nan
        time = to_ns(value.SourceTimestamp) or self._clock.now()
        if self._samples and time < self._samples[-1][0]:
            time = self._samples[-1][0]  # a step of the source's clock is no step of the order
        self._samples.append((time, plain, value.StatusCode.value))

    def flush(self, now: float) -> None:
        """Report the intervals that are over."""
        super().flush(now)
        instant = self._clock.now()
        if self.mode == DISABLED or not self._samples:
            self._begin += max(0, instant - self._begin) // self._length * self._length
            return
        # After a pause of the loop no more than fit into the queue are worked out.
        behind = (instant - self._begin) // self._length
        self._begin += max(0, behind - self.queue_size) * self._length
        while self._begin + self._length <= instant:
            self._report(self._begin, self._begin + self._length, instant)
            self._begin += self._length
            self._forget()

    def _report(self, low: int, high: int, instant: int) -> None:
        held = (max(instant, self._samples[-1][0]), *self._samples[-1][1:])
        times, values, codes = zip(*self._samples, held, strict=True)
        samples = Samples(np.array(times, np.int64), np.array(values), np.array(codes, np.uint32))
        over = Intervals(np.array([low]), np.array([high]), False, high - low)
        found = self._function(samples, over, self._rules)
        kind = RESULTS.get(AGGREGATES[self._name].data_type, encoding.fitting(found.values, self._built_in))
        code = int(found.status[0])
        value = ua.Variant() if code & 0x80000000 else _variant(float(found.values[0]), kind)
        if self.put(ua.DataValue(value, status(code), from_ns(int(found.times[0])), from_ns(instant))):
            self._flag_overflow()

    def _forget(self) -> None:
        """Samples no further interval rests on."""
        before = sum(1 for time, _, _ in self._samples if time < self._begin)
        del self._samples[: max(0, before - NEIGHBOURS)]

    def set_mode(self, mode: Any) -> None:
        super().set_mode(mode)
        if mode == DISABLED:
            self._samples.clear()


def is_aggregate(wanted: Any) -> bool:
    return isinstance(wanted, ua.AggregateFilter)


def _checked(space: Space, target: Any, wanted: Any) -> tuple[str, AggregateRules]:
    """Function and rules of a filter for the variable it is meant for. Raises Fault."""
    if not is_aggregate(wanted):
        raise Fault(CODES.BadMonitoredItemFilterUnsupported)
    built_in = space.built_in(space.attribute(target.NodeId, ua.AttributeIds.DataType) or ua.NodeId())
    scalar = space.attribute(target.NodeId, ua.AttributeIds.ValueRank) == -1
    if target.AttributeId != ua.AttributeIds.Value or built_in not in encoding.NUMBERS or not scalar:
        raise Fault(CODES.BadFilterNotAllowed)
    name = FUNCTIONS.get(wanted.AggregateType)
    if name is None or name == "AnnotationCount":
        raise Fault(CODES.BadAggregateNotSupported)
    configuration = space.component(target.NodeId, "HA Configuration")
    stepped = built_in == 1 if configuration is None else bool(space.property(configuration, "Stepped"))
    given = aggregate_rules(wanted.AggregateConfiguration)
    if not given.valid:
        raise Fault(CODES.BadAggregateInvalidInputs)
    return name, AggregateRules(
        stepped, given.uncertain_is_bad, given.percent_bad, given.percent_good, given.sloped_extrapolation
    )


def _number(milliseconds: float) -> float:
    return 0.0 if math.isnan(milliseconds) else milliseconds


def _variant(value: float, kind: int) -> Any:
    if kind == encoding.STATUS_CODE:
        return ua.Variant(ua.StatusCode(int(value)), ua.VariantType.StatusCode)
    native = bool(value) if kind == 1 else value if kind in encoding.FLOATS else round(value)
    return ua.Variant(native, ua.VariantType(kind))
