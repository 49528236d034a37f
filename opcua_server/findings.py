"""What the frames of a device say that an alarm or a batch has to know. Knows no OPC UA and no alarms.

    CommunicationLost, SensorFailure   what validation doubts (`analytics.validation`)
    HeaterFailure, FlowLow             bits of the device's status; no flow is no news while it purges
    DeviceFailure, ...                 health after NAMUR NE 107
    LevelAlarm                         limits of channels, in the phases they are watched in (process rule 19)

Each is found when it comes, changes or goes. What an earlier run left as an alarm is `held`: that it is over is found
with the first frame that says so.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from analytics import validation
from analytics.limits import LEVELS, Limit, Limits
from analytics.validation import Validated
from config.schema import Alarm, Column, Device, Plant, StatusBit
from nodesets.model import Finding, Frame, Phase
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
NEEDS_MAINTENANCE = int(StatusBit.HEATER_FAILURE | StatusBit.FLOW_LOW)
UNUSABLE = np.uint32(0x80000000)


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

    def __post_init__(self) -> None:
        sources = [c.tag.node.rpartition(".")[0] for c in self.columns[: len(self.limits)]]
        levels = [self.held.get(("LevelAlarm", source), "") for source in sources]
        self._levels = Limits(self.limits, levels) if any(limit.given for limit in self.limits) else None
        self._told = {kind: level for (kind, source), level in self.held.items() if source == self.device.id}

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
