"""What was recorded -> what OPC UA shows of it: values of nodes, conditions and events. Decides nothing."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import numpy as np
from asyncua import ua

from analytics import drift
from analytics.features import Features, is_ratio
from analytics.fingerprint import FAR, Fingerprint, Judgement
from analytics.limits import Limit
from config.schema import Device, Plant, StatusBit
from nodesets.model import Basis, Codes, Finding, Floats, Frame, Phase, Quality, Result, Row, Verdict
from nodesets.ports import Clock
from nodesets.types import AcquisitionResultStatus, ChannelQuality, DeviceHealth, DeviceState, ExecutionCycle
from opcua_server.findings import channel_limits, health, pair_limits
from opcua_server.plant import alarm_texts, events
from opcua_server.plant.alarm_states import Branch, Condition, Notification, Shelving
from opcua_server.plant.alarms import ALARMS
from opcua_server.plant.condition_types import CONDITION_TYPES
from opcua_server.services.nodes import Event

NO_DATA = 0x809B0000
"""BadNoData: a number that could not be decided is null, never an old one shown as Good."""
RING = 20
"""Result slots of a stream (information model 1.4)."""


Value = tuple[str, ua.Variant | None, int]
"""Node, what it holds (None: null), StatusCode."""
NUMBER = ua.VariantType.Int32
DATA_LOST = np.full(1, Quality.BAD_DATA_LOST, np.uint32)
STATES = ("Array.DataQuality", "DeviceHealth", "{stream}.IsActive", "{stream}.IsPurging", "{stream}.ExecutionCycle",
          "{stream}.Progress", "DeviceStateNumber")  # fmt: skip
"""What a frame says besides its measured values, as numbers; `stream` is its AcquisitionStatus."""
UNKNOWN_VALUES = (np.nan,) * 5
UNKNOWN_CODES = np.array([0, 0, *[Quality.BAD_NO_COMMUNICATION] * 5], np.uint32)
"""Of `STATES` while the device does not answer."""
KNOWN_CODES = np.zeros_like(UNKNOWN_CODES)
STATE_TEXTS = {
    state: events.machine_state("DeviceState", "EnoseDeviceStateMachineType", state) for state in DeviceState
}


class Nodes(Protocol):
    """Where values and events are shown; `services.server.UaServer`."""

    def write(self, node: str, value: ua.Variant | None, status: int, source_time: int, server_time: int) -> None: ...

    def write_many(self, values: Iterable[Value], source_time: int, server_time: int) -> None: ...

    def write_made(
        self, node: str, make: Callable[[], tuple[ua.Variant | None, int]], source_time: int, server_time: int
    ) -> None: ...

    def write_instance(
        self, instance: str, make: Callable[[], Mapping[str, ua.Variant | None]], source_time: int, server_time: int
    ) -> None: ...

    def columns(self, nodes: Sequence[str]) -> slice: ...

    def write_row(self, rows: slice, values: Floats, codes: Codes, source_time: int, server_time: int) -> None: ...

    def publish_event(self, event: Event) -> None: ...

    def deliver_event(self, event: Event) -> None: ...

    def remember_text(self, text: str, translations: Mapping[str, str]) -> None: ...


@dataclass(frozen=True, slots=True)
class _Device:
    """A device and where its frames are shown."""

    device: Device
    rows: slice
    """Columns of a recorded row, of the channels' Quality, and of `STATES`: all a frame says in numbers."""
    baselines: slice
    """Of their Baseline."""
    ratios: tuple[int, ...]
    """Positions of the channels whose response is a ratio."""
    normalized: slice
    """Columns of the NormalizedValue of these."""
    vector: str
    """Node of the SensorVector."""


class Publisher:
    """The pipeline's sink."""

    def __init__(self, plant: Plant, nodes: Nodes, clock: Clock) -> None:
        self._nodes, self._clock = nodes, clock
        self._ring: dict[str, int] = {}
        self._devices = {d.id: _device(plant, nodes, d) for d in plant.devices}
        self._failed: set[str] = set()
        self._outside: set[str] = set()
        self.silent_devices: set[str] = set()
        """Devices whose link is lost."""
        self.on_finding: Callable[[Finding], None] = lambda _: None
        """Told of every finding, before its alarm: batches' exceptions follow from it."""
        self.annunciate: Callable[[Finding], None] = lambda _: None
        """Told of every finding: alarms follow from it."""
        self.doubt: Callable[[Basis], None] = lambda _: None
        """Told of the quality of what an alarm is judged by."""
        self.inhibit: Callable[[str, str, bool], None] = lambda _kind, _source, _on: None
        """Told when the state of the plant suppresses an alarm, or no longer does: (kind, source, on)."""
        self._purging: set[str] = set()
        self._limits: dict[str, dict[str, float]] = level_limits(plant)
        """By condition."""
        self._cycle_started: dict[str, tuple[int, int]] = {}
        self._state_shown: dict[str, tuple[DeviceState | None, int]] = {}

    # Values of frames

    def show(self, frame: Frame, row: Row, data_quality: float) -> None:
        """A frame's row was committed: its tags, vectors and states."""
        to, times = self._devices[row.group], (row.source_time, row.received_time)
        levels = np.minimum(row.status[: len(to.device.channels)] >> 30, ChannelQuality.BAD)
        states, codes = self._states(to.device, frame, row.source_time, data_quality)
        values = np.concatenate((row.values, levels, states))
        codes = np.concatenate((row.status, np.zeros_like(levels), codes))
        self._nodes.write_row(to.rows, values, codes, *times)
        self._nodes.write_made(to.vector, lambda: _vector(to.device, row), *times)
        self._texts(to, _state(frame), *times)
        self._purges(frame)

    def _purges(self, frame: Frame) -> None:
        """No flow is no alarm while a device purges (ISA-18.2 12.3)."""
        purging = frame.phase is Phase.PURGE
        if purging != (frame.device in self._purging):
            (self._purging.add if purging else self._purging.discard)(frame.device)
            self.inhibit("FlowLow", frame.device, purging)

    def lost(self, row: Row) -> None:
        """A frame's row was refused: all it would have shown is null until one is recorded again."""
        to, times = self._devices[row.group], (row.source_time, row.received_time)
        self._nodes.write_row(to.rows, np.full(to.rows.stop - to.rows.start, np.nan), DATA_LOST, *times)
        self._nodes.write(to.vector, None, Quality.BAD_DATA_LOST, *times)
        self._texts(to, None, *times, Quality.BAD_DATA_LOST)

    def _states(self, device: Device, frame: Frame, time: int, data_quality: float) -> tuple[Floats, Codes]:
        """Values of `STATES`, NaN for null."""
        state = _state(frame)
        if state is None:
            return np.array([data_quality, self._health(device, frame), *UNKNOWN_VALUES]), UNKNOWN_CODES
        active, purging = frame.phase is not Phase.IDLE, frame.phase is Phase.PURGE
        cycle = ExecutionCycle.SAMPLING if active else ExecutionCycle.IDLE
        progress = self._progress(device, frame, time) if active else 0.0
        values = data_quality, self._health(device, frame), active, purging, cycle, progress, state
        return np.array(values, np.float64), KNOWN_CODES

    def _progress(self, device: Device, frame: Frame, time: int) -> float:
        """Of the cycle, %."""
        stream = device.streams[0]
        number, began = self._cycle_started.get(device.id, (-1, time))
        if number != frame.cycle:
            began = time
            self._cycle_started[device.id] = frame.cycle, began
        length = stream.baseline + stream.exposure + stream.purge
        return min(100.0, (time - began) / 1e9 / length * 100)

    def _health(self, device: Device, frame: Frame) -> DeviceHealth:
        silent, failed, outside = (device.id in s for s in (self.silent_devices, self._failed, self._outside))
        return health(silent, failed, outside, frame.flags)

    def _texts(
        self,
        to: _Device,
        state: DeviceState | None,
        source: int,
        server: int,
        code: int = Quality.BAD_NO_COMMUNICATION,
    ) -> None:
        """The state of the device in words, when it changes; `code` where it is not known."""
        now = (state, 0 if state is not None else code)
        if self._state_shown.get(to.device.id) == now:
            return
        self._state_shown[to.device.id] = now
        texts = STATE_TEXTS[state] if state is not None else dict.fromkeys(STATE_TEXTS[DeviceState.OPERATING])
        shown = ((f"{to.device.id}.{path}", value, now[1]) for path, value in texts.items())
        self._nodes.write_many(shown, source, server)

    # Cycles and results

    def cycle(self, stream: str, cycle: Features, drift_index: float) -> None:
        """An exposure has ended: baseline of each channel, and the normalised response where there is a ratio."""
        to, now = self._devices[stream.split(".")[0]], self._clock.now()
        device = to.device.id
        self.number(f"{device}.Array.DriftIndex", drift_index, now)
        self._nodes.write_row(to.baselines, cycle.baseline, _known(cycle.baseline), now, now)
        if not to.ratios:
            return
        normalized = cycle.normalized[list(to.ratios)]
        self._nodes.write_row(to.normalized, normalized, _known(normalized), now, now)
        vector = ua.Variant(cycle.normalized.tolist(), ua.VariantType.Double)
        known = 0 if np.isfinite(cycle.normalized).any() else NO_DATA
        self._nodes.write(f"{device}.Array.NormalizedVector", vector if known == 0 else None, known, now, now)

    def number(self, node: str, value: float, time: int) -> None:
        """A number that is null with BadNoData while it is not known (NaN)."""
        if math.isfinite(value):
            self._nodes.write(node, events.double(value), 0, time, self._clock.now())
        else:
            self._nodes.write(node, None, NO_DATA, time, self._clock.now())

    def model(self, stream: str, product: Fingerprint | None, settings: Mapping[str, ua.Variant]) -> None:
        """The fingerprint a stream is compared with from now on, and its limits."""
        now = self._clock.now()
        limits = {
            "ScoreLow": product.score_limit if product else math.nan,
            "ScoreLowLow": product.score_floor if product else math.nan,
            "AnomalyHigh": 0.5 if product else math.nan,
            "AnomalyHighHigh": FAR / (1 + FAR) if product else math.nan,
        }
        alarms = {"Score": f"{stream}.Alarms.QualityScoreLow", "Anomaly": f"{stream}.Alarms.AnomalyDetected"}
        for name, value in limits.items():
            self.number(f"{stream}.Quality.Limits.{name}", value, now)
            quantity = "Score" if name.startswith("Score") else "Anomaly"
            level = name.removeprefix(quantity)
            self.number(f"{alarms[quantity]}.{level}Limit", value, now)
            self._limits.setdefault(alarms[quantity], {})[level] = value
        self.number(f"{stream}.Alarms.FingerprintDeviation.HighLimit", limits["AnomalyHigh"], now)
        self.write(f"{stream}.ChemometricModelSettings", settings, now)

    def result(self, result: Result, judgement: Judgement) -> None:  # noqa: ARG002 - part of the sink's contract
        """The result of a cycle was committed: score and verdict, the ring, an event."""
        at, time, now = result.stream, result.stopped, self._clock.now()
        for name, value in (
            ("Score", result.score),
            ("ScoreUncertainty", result.uncertainty),
            ("AnomalyScore", result.anomaly),
            ("Confidence", result.confidence),
            ("FalseAlarmRate", result.false_alarm_rate),
        ):
            self.number(f"{at}.Quality.{name}", value, time)
        good = result.verdict is not Verdict.NOT_DECIDABLE
        status = AcquisitionResultStatus.GOOD if good else AcquisitionResultStatus.BAD
        self.write(
            at,
            {
                "Quality.Verdict": events.number(result.verdict, ua.VariantType.Int32),
                "Quality.Verdict.ValueAsText": events.text(result.verdict.name),
                "Quality.VerdictText": events.string(result.verdict.name),
                "Quality.VerdictReason": events.string(result.reason[:254]),
                "Quality.PredictedClass": events.string(result.predicted_class),
                "Quality.ReferenceCount": events.number(result.reference_count),
                "AcquisitionData.AcquisitionResultStatus": events.number(status, ua.VariantType.Int32),
                "AcquisitionData.AcquisitionEndTime": events.moment(result.stopped),
            },
            time,
        )
        self.ring(result)
        self._nodes.publish_event(events.result_ready(result, now))

    def ring(self, result: Result) -> None:
        """Put a result into the next slot of its stream's ring, and into Latest."""
        self._ring[result.stream] = slot = self._ring.get(result.stream, 0) % RING + 1
        at, time = f"{result.stream}.Results", result.stopped
        self.write(f"{at}.Latest", result_fields(result), time)
        self._nodes.write_instance(f"{at}.R{slot:02d}", _slot(result), time, self._clock.now())

    # Alarms

    def find(self, finding: Finding) -> None:
        """Something came or went: the alarm that follows from it."""
        of_device = {
            "CommunicationLost": self.silent_devices,
            "SensorFailure": self._failed,
            "DeviceOffSpec": self._outside,
        }
        if (affected := of_device.get(finding.kind)) is not None:
            (affected.add if finding.level else affected.discard)(finding.source)
        self.on_finding(finding)
        self.annunciate(finding)

    def judge(self, basis: Basis) -> None:
        """What an alarm is judged by has another quality."""
        self.doubt(basis)

    def nameplate(self, device: str, identity: Mapping[str, str]) -> None:
        """What the device told of itself."""
        names = {"SerialNumber": "SerialNumber", "Firmware": "SoftwareRevision"}
        values = {names[k]: events.string(v) for k, v in identity.items() if k in names}
        values |= {
            name: events.text(identity[key])
            for key, name in (("Vendor", "Manufacturer"), ("Model", "Model"))
            if key in identity
        }
        self.write(f"{device}.Identification", values, self._clock.now())

    def condition(self, condition: Condition) -> None:
        """How a condition stands now: its members and its plain tags."""
        now = self._clock.now()
        self._translate(condition, condition.trunk)
        make = partial(events.condition_values, condition, now, {})
        self._nodes.write_instance(condition.node, make, condition.trunk.time or now, now)

    def quality(self, condition: Condition) -> None:
        """How sure a condition is that never moved."""
        fields = events.quality_fields(condition.trunk)
        shown = {path.replace("/", "."): value for path, value in fields.items()}
        self.write(condition.node, shown, condition.trunk.quality_time)

    def notify(self, event: Event) -> None:
        """One event of a condition, which is recorded with what it tells of."""
        self._nodes.deliver_event(event)

    def _translate(self, condition: Condition, branch: Branch) -> None:
        if branch.finding is not None:
            others = alarm_texts.translations(branch.finding, condition.kind.message)
            self._nodes.remember_text(events.message(condition, branch), others)

    def event(self, told: Notification) -> Event:
        """What clients are told."""
        self._translate(told.condition, told.branch)
        limits = self._limits.get(told.condition.node, {})
        return events.condition_event(told, self._clock.now(), limits)

    def shelved(self, conditions: Iterable[Condition]) -> None:
        """What is left of the shelving of each."""
        now = self._clock.now()
        for condition in conditions:
            if condition.shelving is not Shelving.UNSHELVED:
                left = events.unshelve_time(condition, now)
                self._nodes.write(f"{condition.node}.ShelvingState.UnshelveTime", left, 0, now, now)

    def write(self, at: str, values: Mapping[str, ua.Variant | None], time: int) -> None:
        """Values under one node, by path: Good, or null with BadNoData."""
        coded = ((f"{at}.{path}", value, NO_DATA if value is None else 0) for path, value in values.items())
        self._nodes.write_many(coded, time, self._clock.now())

    def happened(self, event: Event) -> None:
        self._nodes.publish_event(event)


def _vector(device: Device, row: Row) -> tuple[ua.Variant | None, int]:
    """SensorVector, and its StatusCode."""
    n = len(device.channels)
    worst = int(row.status[:n].max())
    if int(row.status[:n].min()) >> 30 >= ChannelQuality.BAD:
        return None, worst
    # One bad element leaves the others usable: the vector is Uncertain, and the element NaN.
    return ua.Variant(row.values[:n].tolist(), ua.VariantType.Double), min(worst, int(Quality.UNCERTAIN_SUBNORMAL))


def _state(frame: Frame) -> DeviceState | None:
    """None while the device does not answer."""
    if frame.phase is Phase.UNKNOWN:
        return None
    return DeviceState.LOCAL if frame.flags & StatusBit.LOCAL else DeviceState.OPERATING


def level_limits(plant: Plant) -> dict[str, dict[str, float]]:
    """Limits of the alarms of devices and their channels, by condition; NaN for none."""
    limits = {ALARMS["SensorDrift"].node(device.id): {"High": drift.LIMIT} for device in plant.devices}
    for device in plant.devices:
        named = zip((c.id for c in device.channels), channel_limits(plant, device), strict=True)
        limits |= _of_channels("LevelAlarm", device, named)
        pairs = zip((p.channels[0] for p in device.redundant), pair_limits(device), strict=True)
        limits |= _of_channels("ChannelDisagreement", device, pairs)
    return limits


def _of_channels(kind: str, device: Device, limits: Iterable[tuple[str, Limit]]) -> dict[str, dict[str, float]]:
    levels = CONDITION_TYPES[kind].levels
    return {
        ALARMS[kind].node(f"{device.id}.Array.{channel}"): {level: limit.of(level) for level in levels}
        for channel, limit in limits
    }


def _known(values: Floats) -> Codes:
    """BadNoData where there is no number."""
    return np.where(np.isfinite(values), np.uint32(0), np.uint32(NO_DATA))


def _device(plant: Plant, nodes: Nodes, device: Device) -> _Device:
    ratios = tuple(i for i, c in enumerate(device.channels) if is_ratio(c.technology))
    status = f"{device.streams[0].id}.AcquisitionStatus"
    return _Device(
        device=device,
        rows=nodes.columns(
            [
                *(t.node for t in device.tags(plant.registers(device))),
                *(f"{device.id}.Array.{c.id}.Quality" for c in device.channels),
                *(f"{device.id}.{path.format(stream=status)}" for path in STATES),
            ]
        ),
        baselines=nodes.columns([f"{device.id}.Array.{c.id}.Baseline" for c in device.channels]),
        ratios=ratios,
        normalized=nodes.columns([f"{device.id}.Array.{device.channels[i].id}.NormalizedValue" for i in ratios]),
        vector=f"{device.id}.Array.SensorVector",
    )


def _slot(result: Result) -> Callable[[], Mapping[str, ua.Variant | None]]:
    """Makes the members of an older result, of which only few are ever looked at: its numbers are kept as an array."""
    rest = replace(result, contributions=(), fingerprint=())
    fingerprint = np.array(result.fingerprint, np.float32)
    return lambda: result_fields(replace(rest, fingerprint=tuple(fingerprint.tolist())))


def result_fields(result: Result) -> dict[str, ua.Variant | None]:
    """Members of EnoseResultType; without a decision there is no score."""
    return {
        "Score": events.double(result.score) if math.isfinite(result.score) else None,
        "ResultId": events.string(result.result_id),
        "BatchId": events.string(result.batch_id),
        "SampleId": events.string(result.sample_id),
        "Started": events.moment(result.started),
        "Stopped": events.moment(result.stopped),
        "Evaluation": events.number(result.verdict, ua.VariantType.Int32),
        "Fingerprint": ua.Variant(list(result.fingerprint), ua.VariantType.Float),
        "ModelVersion": events.string(result.model),
        "IsSimulated": events.boolean(result.simulated),
    }
