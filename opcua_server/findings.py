"""What the frames of a device say that an alarm or a batch has to know. Knows no OPC UA and no alarms.

    CommunicationLost, SensorFailure   what validation doubts (`analytics.validation`)
    HeaterFailure, FlowLow             bits of the device's status; no flow is no news while it purges
    DeviceFailure, ...                 health after NAMUR NE 107
    LevelAlarm                         limits of channels, in the phases they are watched in (process rule 19)
    SensorDrift                        baselines of the cycles, against what the model trusts (`analytics.drift`)
    ChannelDisagreement                responses in a cycle of two channels that measure the same

Each is found when it comes, changes or goes; what an earlier run left as an alarm is `held`: that it is over is found
with the first frame that says so. How sure all that is, `judged` tells beside it.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from analytics import validation
from analytics.drift import LIMIT as DRIFT_LIMIT
from analytics.drift import Baselines, Drift
from analytics.features import Features, is_ratio
from analytics.fingerprint import Fingerprint
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
OF_DEVICE = ("SensorFailure", *BITS, "DeviceCheckFunction", "DeviceOffSpec", "DeviceMaintenanceRequired")
"""Kinds that are judged by what the device answers."""
OF_RESULTS = ("AnomalyDetected", "FingerprintDeviation", "QualityScoreLow")
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


def health(silent: bool, failed: bool, outside: bool, flags: int) -> DeviceHealth:
    """NAMUR NE 107 of a device: silent, with failed sensors, with values outside their range, with these status bits.

    In the order of the recommendation: what is calibrated measures outside its range on purpose.
    """
    if silent:
        return DeviceHealth.FAILURE
    if flags & StatusBit.CALIBRATING:
        return DeviceHealth.CHECK_FUNCTION
    if outside:
        return DeviceHealth.OFF_SPEC
    return DeviceHealth.MAINTENANCE_REQUIRED if failed or flags & NEEDS_MAINTENANCE else DeviceHealth.NORMAL


def channel_limits(plant: Plant, device: Device) -> tuple[Limit, ...]:
    """Limits of each channel as the plant has them."""
    own = plant.alarms.get("LevelAlarm", Alarm())
    delays = {name: value for name in ("on_delay", "off_delay") if (value := getattr(own, name)) is not None}
    given = [own.limits.get(f"{device.id}.Array.{c.id}") for c in device.channels]
    return tuple(Limit(**g.model_dump(), **delays) if g is not None else Limit() for g in given)


def pair_limits(device: Device) -> tuple[Limit, ...]:
    """How far the responses of each of its redundant pairs may be apart; back behind a tenth less."""
    return tuple(Limit(high=p.tolerance, low=-p.tolerance, deadband=p.tolerance / 10) for p in device.redundant)


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
    _seen: tuple[int, bool, bool, bool, bool] | None = None
    """Of the last frame: status bits, purging or unknown phase, silent, failed sensors, values outside their range."""
    _looked_at: Codes | None = None
    _looked_at_flags: int = 0
    """Of the last frame that was looked at for values outside their range: of one like it nothing is new."""
    _outside: bytes = b""
    """Mask of the values that were found outside their range."""
    _answered: bool = False
    _decided: dict[tuple[str, str], bool] = field(default_factory=dict)
    """Alarms that are judged by cycles: whether the newest one decided anything."""
    _of_cycles_told: dict[tuple[str, str], int] = field(default_factory=dict)
    """Quality that was told of them."""
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

    def decided(self, decided: Mapping[tuple[str, str], bool], time: int) -> Iterator[Basis]:
        """A cycle has decided, or not (process rule 1), of the alarms (kind, source) that are judged by cycles."""
        self._decided |= decided
        yield from self._of_cycles(time)

    def _judges(self, i: int) -> Iterator[tuple[str, str]]:
        """(kind, source) of the alarms that are judged by part i of the basis."""
        if i == 0:
            yield from ((kind, self.device.id) for kind in OF_DEVICE)
        else:
            yield "LevelAlarm", self.columns[self._limited[i - 1]].tag.node.rpartition(".")[0]

    def _of_cycles(self, time: int) -> Iterator[Basis]:
        """Of a device that is lost the newest cycle says nothing any more."""
        answers = int(self._basis.settled[0])
        for alarm, decided in self._decided.items():
            quality = answers if answers >= UNUSABLE else Quality.GOOD if decided else Quality.BAD_NO_DATA
            if quality != self._of_cycles_told.get(alarm):
                self._of_cycles_told[alarm] = quality
                kind, source = alarm
                yield Basis(kind=kind, source=source, time=time, quality=quality)

    def look(self, frame: Frame, before: Validated, after: Validated) -> Iterator[Finding]:
        """What came, changed or went with a frame."""
        yield from self._doubts(frame, before, after)
        yield from self._off_spec(frame, after)
        idle = frame.phase in (Phase.PURGE, Phase.UNKNOWN)
        seen = frame.flags, idle, bool(after.lost), bool(after.failed.any()), bool(self._told.get("DeviceOffSpec"))
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

    def _off_spec(self, frame: Frame, after: Validated) -> Iterator[Finding]:
        """Values outside the range their sensor is specified for; found anew when others are."""
        if frame.phase is Phase.UNKNOWN or (after.status is self._looked_at and frame.flags == self._looked_at_flags):
            return
        self._looked_at, self._looked_at_flags = after.status, frame.flags
        outside = after.status == Quality.UNCERTAIN_ENGINEERING_UNITS_EXCEEDED
        if frame.flags & StatusBit.CALIBRATING:
            outside = np.zeros_like(outside)
        known, self._outside = self._outside, outside.tobytes()
        if self._outside == known or not (outside.any() or self._told.get("DeviceOffSpec")):
            return
        nodes = [self.columns[i].tag.node.removeprefix(f"{self.device.id}.") for i in np.flatnonzero(outside).tolist()]
        names = ", ".join(nodes)
        level = "Active" if names else ""
        self._told["DeviceOffSpec"] = level
        yield Finding(
            kind="DeviceOffSpec",
            source=self.device.id,
            time=frame.received_time,
            level=level,
            text=f"{self.device.id}: outside their range {names}" if names else f"{self.device.id}: within all ranges",
            details={"Channels": names},
        )

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


@dataclass(slots=True)
class CycleWatch:
    """Follows the cycles of one device: where its baselines drift, and whether channels agree that should."""

    device: Device
    held: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """As of `DeviceWatch`."""
    drift: Drift = field(default_factory=Drift)
    """After the last cycle."""
    _baselines: Baselines = field(init=False)
    _pairs: NDArray[np.intp] = field(init=False)
    """Channels of each pair, shape (m, 2)."""
    _apart: Limits = field(init=False)
    _known: NDArray[np.bool_] = field(init=False)
    """Pairs whose difference the last cycle told."""
    _drifted: str | None = None
    """What was found last: names of the channels; None: nothing yet."""

    def __post_init__(self) -> None:
        names = [c.id for c in self.device.channels]
        self._baselines = Baselines(names)
        pairs = [[names.index(c) for c in pair.channels] for pair in self.device.redundant]
        self._pairs = np.array(pairs, np.intp).reshape(-1, 2)
        levels = [self.held.get(("ChannelDisagreement", self._source(m)), "") for m in range(len(pairs))]
        self._apart = Limits(pair_limits(self.device), levels)
        self._known = np.zeros(len(pairs), np.bool_)

    def look(self, cycle: Features, model: Fingerprint | None, time: int) -> Iterator[Finding]:
        """What came, changed or went with a cycle; `model`: what its stream is compared with."""
        self._baselines.add(np.full_like(cycle.level, np.nan) if cycle.defect else cycle.level)
        self.drift = self._baselines.drift(model) if model is not None else Drift()
        names = ", ".join(self.drift.channels)
        if math.isfinite(self.drift.index) and names != self._drifted and model is not None:
            self._drifted = names
            yield self._of_drift(names, model.product, time)
        responses = cycle.values[::2]
        difference = responses[self._pairs[:, 0]] - responses[self._pairs[:, 1]]
        self._known = np.isfinite(difference) & (not cycle.defect)
        for m in self._apart.evaluate(difference, self._known, time).tolist():
            yield self._of_pair(m, LEVELS[self._apart.levels[m]], float(difference[m]), time)

    def known(self) -> Mapping[tuple[str, str], bool]:
        """Of which of its alarms (kind, source) the last cycle told anything."""
        pairs = {("ChannelDisagreement", self._source(m)): bool(known) for m, known in enumerate(self._known)}
        return {("SensorDrift", self.device.id): math.isfinite(self.drift.index), **pairs}

    def _source(self, pair: int) -> str:
        return f"{self.device.id}.Array.{self.device.redundant[pair].channels[0]}"

    def _of_drift(self, names: str, product: str, time: int) -> Finding:
        said = f"baselines of {names} have left what {product} was learned with" if names else "baselines as learned"
        return Finding(
            kind="SensorDrift",
            source=self.device.id,
            time=time,
            level="High" if names else "",
            value=self.drift.index,
            limit=DRIFT_LIMIT,
            text=f"{self.device.id}: drift index {self.drift.index:.2f} (limit {DRIFT_LIMIT:.2f}), {said}",
            details={"Channels": names},
        )

    def _of_pair(self, pair: int, level: str, value: float, time: int) -> Finding:
        source, partner = self._source(pair), self.device.redundant[pair].channels[1]
        channel = self.device.channels[self._pairs[pair, 0]]
        unit = "" if is_ratio(channel.technology) else UNITS[channel.unit].symbol
        limit = pair_limits(self.device)[pair].of(level)
        words = f"beyond tolerance {limit:g}" if level else "they agree"
        return Finding(
            kind="ChannelDisagreement",
            source=source,
            time=time,
            level=level,
            value=value,
            limit=limit,
            text=f"{source}: response {value:+.3g} {unit}".rstrip() + f" from that of {partner}, {words}",
            details={"Unit": unit},
        )


def _answered(status: Codes) -> int:
    """Quality of what a device says of itself: of all its values, where that is none of an answer."""
    first = int(status[0])
    return first if first in UNANSWERED and bool((status == first).all()) else Quality.GOOD
