"""What the frames of a device say that an alarm or a batch has to know. Knows no OPC UA and no alarms.

    CommunicationLost, SensorFailure   what validation doubts (`analytics.validation`)
    HeaterFailure, FlowLow             bits of the device's status; no flow is no news while it purges
    DeviceFailure, ...                 health after NAMUR NE 107
    LevelAlarm                         limits of channels, in the phases they are watched in (process rule 19)

Each is found when it comes, changes or goes; what an earlier run left as an alarm is `held`: that it is over is found
with the first frame that says so. How sure all that is, `judged` tells beside it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from analytics import validation
from analytics.limits import LEVELS, Limit, Limits
from analytics.qualities import Qualities
from analytics.validation import Validated
from config.schema import Alarm, Column, Device, Plant, StatusBit
from nodesets.model import Basis, Codes, Finding, Frame, Phase, Quality
from nodesets.types import DeviceHealth
from nodesets.units import UNITS

BITS: Mapping[str, tuple[StatusBit, str]] = {
    "HeaterFailure": (StatusBit.HEATER_FAILURE, "a heater failed"),
    "FlowLow": (StatusBit.FLOW_LOW, "the flow of the sample is too low"),
}
"""Kind -> bit of the device's status, and what it says."""
HEALTH: Mapping[str, DeviceHealth] = {
    "DeviceFailure": DeviceHealth.FAILURE,
    "DeviceCheckFunction": DeviceHealth.CHECK_FUNCTION,
    "DeviceMaintenanceRequired": DeviceHealth.MAINTENANCE_REQUIRED,
}
OF_DEVICE = ("SensorFailure", *BITS, "DeviceCheckFunction", "DeviceMaintenanceRequired")
"""Kinds that are judged by what the device answers."""
OF_CYCLES = ("AnomalyDetected", "FingerprintDeviation", "QualityScoreLow")
"""Kinds that are judged by the results of its stream."""
NEEDS_MAINTENANCE = int(StatusBit.HEATER_FAILURE | StatusBit.FLOW_LOW)
UNUSABLE = np.uint32(0x80000000)


UNANSWERED = frozenset(
    {
        Quality.UNCERTAIN_NO_COMMUNICATION_LAST_USABLE,
        Quality.UNCERTAIN_LAST_USABLE,
        Quality.BAD_NO_COMMUNICATION,
        Quality.BAD_WAITING_FOR_INITIAL_DATA,
    }
)
"""Qualities of the values of a device that does not answer, or with old data."""


def health(silent: bool, failed: bool, flags: int) -> DeviceHealth:
    """NAMUR NE 107 of a device: silent, with failed sensors, with these bits of its status."""
    if silent:
        return DeviceHealth.FAILURE
    if failed or flags & NEEDS_MAINTENANCE:
        return DeviceHealth.MAINTENANCE_REQUIRED
    return DeviceHealth.CHECK_FUNCTION if flags & StatusBit.CALIBRATING else DeviceHealth.NORMAL


def channel_limits(plant: Plant, device: Device) -> tuple[Limit, ...]:
    """Limits of each channel as the plant has them."""
    own = plant.alarms.get("LevelAlarm", Alarm())
    delays = {name: value for name in ("on_delay", "off_delay") if (value := getattr(own, name)) is not None}
    given = [own.limits.get(f"{device.id}.Array.{c.id}") for c in device.channels]
    return tuple(Limit(**g.model_dump(), **delays) if g is not None else Limit() for g in given)


def watched_phases(plant: Plant) -> frozenset[Phase]:
    """Phases in which the limits of channels are watched (process rule 19)."""
    return frozenset(Phase[name.upper()] for name in plant.alarms.get("LevelAlarm", Alarm()).phases)


@dataclass(slots=True)
class DeviceWatch:
    """Follows the frames of one device."""

    device: Device
    columns: Sequence[Column]
    limits: Sequence[Limit] = ()
    """One a channel; none: channels have no limits."""
    phases: frozenset[Phase] = frozenset({Phase.BASELINE})
    """In which the limits are watched."""
    held: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """By kind and source: levels an earlier run left."""
    _levels: Limits | None = field(init=False)
    _told: dict[str, str] = field(init=False)
    """By kind: the level last found."""
    _seen: tuple[int, bool, bool, bool] | None = None
    """Of the last frame: status bits, purging or unknown phase, silent, failed sensors."""
    _answered: bool = False
    _result: int = Quality.BAD_WAITING_FOR_INITIAL_DATA
    """Quality of the newest result."""
    _stream: int = Quality.BAD_WAITING_FOR_INITIAL_DATA
    """What was told of the alarms it judges."""
    _basis: Qualities = field(init=False)
    """Of the device's answers, then of the channels that have limits."""
    _limited: NDArray[np.intp] = field(init=False)
    """Those channels."""
    _status: Codes | None = None
    """Of the last frame."""

    def __post_init__(self) -> None:
        self._limited = np.flatnonzero([limit.given for limit in self.limits])
        self._basis = Qualities(1 + len(self._limited))
        sources = [c.tag.node.rpartition(".")[0] for c in self.columns[: len(self.limits)]]
        levels = [self.held.get(("LevelAlarm", source), "") for source in sources]
        self._levels = Limits(self.limits, levels) if any(limit.given for limit in self.limits) else None
        self._told = {kind: level for (kind, source), level in self.held.items() if source == self.device.id}

    def judged(self, frame: Frame, after: Validated) -> Iterator[Basis]:
        """What has another quality with a frame, of what alarms are judged by."""
        if after.status is self._status and self._basis.calm:
            return
        self._status = after.status
        codes = np.concatenate([[_answered(after.status)], after.status[self._limited]]).astype(np.uint32)
        for i in self._basis.changed(codes, frame.received_time).tolist():
            quality = int(self._basis.settled[i])
            for kind, source in self._judges(i):
                yield Basis(kind=kind, source=source, time=frame.received_time, quality=quality)
        yield from self._of_cycles(frame.received_time)

    def decided(self, decided: bool, time: int) -> Iterator[Basis]:
        """A cycle has its result, or one that decides nothing (process rule 1)."""
        self._result = Quality.GOOD if decided else Quality.BAD_NO_DATA
        yield from self._of_cycles(time)

    def _judges(self, i: int) -> Iterator[tuple[str, str]]:
        """(kind, source) of the alarms that are judged by part i of the basis."""
        if i == 0:
            yield from ((kind, self.device.id) for kind in OF_DEVICE)
        else:
            yield "LevelAlarm", self.columns[self._limited[i - 1]].tag.node.rpartition(".")[0]

    def _of_cycles(self, time: int) -> Iterator[Basis]:
        """Of a device that is lost the newest result says nothing any more."""
        answers = int(self._basis.settled[0])
        quality = answers if answers >= UNUSABLE else self._result
        if quality != self._stream:
            self._stream = quality
            source = f"{self.device.id}.{self.device.streams[0].id}"
            yield from (Basis(kind=kind, source=source, time=time, quality=quality) for kind in OF_CYCLES)

    def look(self, frame: Frame, before: Validated, after: Validated) -> Iterator[Finding]:
        """What came, changed or went with a frame."""
        yield from self._doubts(frame, before, after)
        seen = frame.flags, frame.phase in (Phase.PURGE, Phase.UNKNOWN), bool(after.lost), bool(after.failed.any())
        if seen != self._seen:
            self._seen = seen
            yield from self._bits(frame)
            state = health(*seen[2:], frame.flags)
            for kind, meant in HEALTH.items():
                yield from self._changed(kind, state is meant, f"health {state.name}", frame.received_time)
        yield from self._beyond(frame, after)

    def _doubts(self, frame: Frame, before: Validated, after: Validated) -> Iterator[Finding]:
        for finding in validation.findings(self.device.id, self.columns, before, after, frame.received_time):
            self._told[finding.kind] = finding.level
            yield finding
        if self._answered or frame.phase is Phase.UNKNOWN:
            return
        self._answered = True
        for kind, well in (("CommunicationLost", not after.lost), ("SensorFailure", not after.failed.any())):
            if well:  # the first frame that answers: what an earlier run left is over
                yield from self._changed(kind, False, "", frame.received_time)

    def _bits(self, frame: Frame) -> Iterator[Finding]:
        """Of a device that does not answer nothing is known."""
        if frame.phase is Phase.UNKNOWN:
            return
        for kind, (bit, words) in BITS.items():
            on = bool(frame.flags & bit) and not (kind == "FlowLow" and frame.phase is Phase.PURGE)
            yield from self._changed(kind, on, words, frame.received_time)

    def _changed(self, kind: str, on: bool, words: str, time: int) -> Iterator[Finding]:
        level = "Active" if on else ""
        if self._told.get(kind, "") == level:
            return
        self._told[kind] = level
        said = f"{self.device.id}: {words}" if on else f"{self.device.id}: {kind} is over"
        yield Finding(kind=kind, source=self.device.id, time=time, level=level, text=said)

    def _beyond(self, frame: Frame, after: Validated) -> Iterator[Finding]:
        if self._levels is None or frame.phase not in self.phases:
            return
        n = len(self.limits)
        usable = after.status[:n] < UNUSABLE
        for i in self._levels.evaluate(after.values[:n], usable, after.time).tolist():
            yield self._level(i, LEVELS[self._levels.levels[i]], float(after.values[i]), after.time)

    def _level(self, channel: int, level: str, value: float, time: int) -> Finding:
        tag = self.columns[channel].tag
        limit, unit = self.limits[channel].of(level), UNITS[tag.unit].symbol
        source = tag.node.rpartition(".")[0]
        words = f"beyond {level} limit {limit:g}" if level else "within its limits"
        return Finding(
            kind="LevelAlarm",
            source=source,
            time=time,
            level=level,
            value=value,
            limit=limit,
            text=f"{source}: {value:g} {unit}, {words}",
            details={"Unit": unit},
        )


def _answered(status: Codes) -> int:
    """Quality of what a device says of itself: of all its values, where that is none of an answer."""
    first = int(status[0])
    return first if first in UNANSWERED and bool((status == first).all()) else Quality.GOOD
