"""The flow itself: frame -> quality -> record -> show -> cycle -> result -> finding. Knows no OPC UA.

One direction only: sources call `take`, the recorder confirms, the sink shows. What is shown was committed first.
"""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Protocol

import numpy as np

from analytics import features, fingerprint, validation
from analytics.cycles import Cycle, CycleAssembler
from analytics.features import Features
from analytics.fingerprint import Fingerprint
from config.schema import Device, Plant, StatusBit
from nodesets.errors import EnoseError, StorageError
from nodesets.model import Basis, Counters, Finding, Frame, Phase, Quality, Result, Row, Verdict
from nodesets.ports import Clock, Recorder
from opcua_server.findings import OF_RESULTS, CycleWatch, DeviceWatch, channel_limits, watched_phases

log = logging.getLogger(__name__)


class Sink(Protocol):
    """Shows what has been recorded; called on the event loop."""

    def show(self, frame: Frame, row: Row, data_quality: float) -> None:
        """A frame's row was committed."""

    def lost(self, row: Row) -> None:
        """A frame's row was refused: what it measured is not known, and what was shown before is old."""

    def cycle(self, stream: str, cycle: Features, drift_index: float) -> None:
        """An exposure has ended: its baseline and normalised response, and how far the array has drifted."""

    def result(self, result: Result, judgement: fingerprint.Judgement) -> None:
        """The result of a cycle was committed."""

    def find(self, finding: Finding) -> None:
        """Something came or went."""

    def judge(self, basis: Basis) -> None:
        """What an alarm is judged by has another quality."""


@dataclass(slots=True)
class _Watch:
    """State of one device and its stream."""

    device: Device
    findings: DeviceWatch
    instrument: CycleWatch
    validator: validation.Validator
    assembler: CycleAssembler
    channels: tuple[features.ChannelKind, ...]
    last: validation.Validated
    flags: int = 0
    """Every `StatusBit` the device showed during baseline and exposure of this cycle."""
    simulated: bool = False
    """Whatever its status bits say."""
    refused: int = 0
    """Number of the newest frame that could not be recorded."""


@dataclass(frozen=True, slots=True)
class _Taken:
    """A frame on its way to the disk."""

    number: int
    watch: _Watch
    frame: Frame
    row: Row
    data_quality: float
    started: float


@dataclass(frozen=True, slots=True)
class _Model:
    """What a stream's cycles are compared with."""

    product: Fingerprint | None = None
    model_id: str = ""
    digest: str = ""
    known: tuple[Fingerprint, ...] = ()
    """Of all approved products, to name the nearest odour."""


@dataclass(frozen=True, slots=True)
class _Judged:
    result: Result
    judgement: fingerprint.Judgement
    product: Fingerprint | None


DOUBTS = {
    StatusBit.FLOW_LOW: "flow too low",
    StatusBit.HEATER_FAILURE: "a heater failed",
    StatusBit.CALIBRATING: "calibrating",
}
"""Conditions of the instrument under which the product is not judged (process rule 3)."""


RETRY_SECONDS = 1.0
RESULTS = 10_000
"""Results that may wait for the disk."""


class Pipeline:
    """Carries frames of all devices of a plant.

    record_result:  stores a result and gives it back with the batch it belongs to; awaited one by one per stream
    """

    def __init__(
        self,
        plant: Plant,
        recorder: Recorder,
        sink: Sink,
        clock: Clock,
        held: Mapping[tuple[str, str], str] = MappingProxyType({}),
    ) -> None:
        """`held`: by kind and source, levels of the alarms an earlier run left active."""
        self._recorder, self._sink, self._clock = recorder, sink, clock
        self.counters = Counters()
        self._taken: list[_Taken] = []
        """Frames of this turn of the loop, not handed over yet."""
        self._models: dict[str, _Model] = {}
        self._results: asyncio.Queue[_Judged] = asyncio.Queue(RESULTS)
        self._watches = {d.id: _watch(plant, d, held) for d in plant.devices}

    def take(self, frame: Frame) -> None:
        """Validate a frame and have it recorded; it is shown once committed. Called on the event loop by sources."""
        watch = self._watches[frame.device]
        self.counters.received += 1
        before = watch.last
        validated = watch.last = watch.validator.validate(frame)
        for basis in watch.findings.judged(frame, validated):
            self._sink.judge(basis)
        for finding in watch.findings.look(frame, before, validated):
            self._sink.find(finding)
        if not validated.fresh:
            self.counters.repeated += 1
            return
        row = _row(frame, validated)
        if not self._taken:
            asyncio.get_running_loop().call_soon(self._record)
        taken = _Taken(self.counters.received, watch, frame, row, validated.data_quality, self._clock.monotonic())
        self._taken.append(taken)

    def _record(self) -> None:
        """Have the frames that came in one turn of the loop recorded together."""
        taken, self._taken = self._taken, []
        recorded = asyncio.wrap_future(self._recorder.append([each.row for each in taken]))
        recorded.add_done_callback(lambda done: self._answered(done, taken))

    def _answered(self, done: "asyncio.Future[None]", frames: Sequence[_Taken]) -> None:
        if done.cancelled():
            return
        error = done.exception()
        if error is not None and not isinstance(error, StorageError):
            raise error
        for taken in frames:
            if error is None:
                self._recorded(taken)
            else:
                self._refused(taken, error)

    def _refused(self, taken: _Taken, error: StorageError) -> None:
        self.counters.refused += 1
        log.error("frame of %s at %d not recorded: %s", taken.frame.device, taken.frame.source_time, error)
        taken.watch.refused = max(taken.watch.refused, taken.number)
        self._sink.lost(taken.row)

    def _recorded(self, taken: _Taken) -> None:
        watch, frame, row = taken.watch, taken.frame, taken.row
        self.counters.recorded += 1
        self.counters.waits.append(self._clock.monotonic() - taken.started)
        if taken.number > watch.refused:  # a full queue refuses a frame before the older ones in it are recorded
            self._sink.show(frame, row, taken.data_quality)
        n = len(frame.values)
        if frame.phase in (Phase.BASELINE, Phase.EXPOSURE):
            watch.flags |= frame.flags
        cycle = watch.assembler.add(row.source_time, row.values[:n], row.status[:n], frame.phase, frame.cycle)
        if cycle is not None:
            why = ", ".join(text for bit, text in DOUBTS.items() if bit & watch.flags)
            self._judge(watch, replace(cycle, defect=cycle.defect or why))
            watch.flags = 0

    def _judge(self, watch: _Watch, cycle: Cycle) -> None:
        stream = f"{watch.device.id}.{watch.device.streams[0].id}"
        found = features.extract(cycle, watch.channels)
        model = self._models.get(stream, _Model())
        self._look_at_instrument(watch, stream, found, model.product)
        if model.product is None:
            reason = found.defect or "no approved model for what is measured"
            judgement = fingerprint.Judgement(verdict=Verdict.NOT_DECIDABLE, reason=reason)
        else:
            judgement = model.product.judge(found)
        nearest, confidence = fingerprint.identify(found, model.known)
        result = Result(
            result_id=f"{stream}.{cycle.stopped}",
            stream=stream,
            started=cycle.started,
            stopped=cycle.stopped,
            verdict=judgement.verdict,
            reason=judgement.reason,
            score=judgement.score,
            uncertainty=judgement.uncertainty,
            anomaly=judgement.anomaly,
            predicted_class=nearest,
            confidence=confidence,
            reference_count=model.product.reference_count if model.product else 0,
            false_alarm_rate=model.product.false_alarm_rate if model.product else math.nan,
            contributions=judgement.contributions,
            fingerprint=tuple(map(float, found.values)),
            model=model.model_id,
            model_digest=model.digest,
            simulated=watch.simulated or bool(watch.flags & StatusBit.SIMULATED),
        )
        if self._results.full():
            self._lose(result, f"{RESULTS} results wait for the disk already")
        else:
            self._results.put_nowait(_Judged(result, judgement, model.product))

    def _look_at_instrument(self, watch: _Watch, stream: str, found: Features, product: Fingerprint | None) -> None:
        """What a cycle says of the array, whatever becomes of its result."""
        now = self._clock.now()
        findings = tuple(watch.instrument.look(found, product, now))
        self._sink.cycle(stream, found, watch.instrument.drift.index)
        for basis in watch.findings.decided(watch.instrument.known(), now):
            self._sink.judge(basis)
        for finding in findings:
            self._sink.find(finding)

    def _lose(self, result: Result, why: object) -> None:
        self.counters.refused += 1
        log.error("result %s not recorded: %s", result.result_id, why)

    def use(
        self, stream: str, product: Fingerprint | None, model_id: str, digest: str, known: tuple[Fingerprint, ...]
    ) -> None:
        """Compare the stream's cycles with this fingerprint from now on; None: they are not decidable."""
        self._models[stream] = _Model(product, model_id, digest, known)

    async def store_results(self, record: Callable[[Result], Awaitable[Result]]) -> None:
        """Record results in the order they came, show each once it is committed, and say what follows from it.

        `record` stores a result and gives it back with the batch it belongs to. While the storage refuses, it is asked
        again and the next results wait: none is left out (process rule 12). A result that is itself refused is lost
        with its cycle: counted and logged, never shown.
        """
        while True:
            judged = await self._results.get()
            try:
                stored = await self._persist(record, judged.result)
            except EnoseError as error:
                self._lose(judged.result, error)
            else:
                self.counters.results += 1
                self._sink.result(stored, judged.judgement)
                self._judge_by(stored)
                for finding in result_findings(stored, judged.judgement, judged.product):
                    self._sink.find(finding)
            self._results.task_done()

    def _judge_by(self, result: Result) -> None:
        """Say how sure the alarms of a stream are by its newest result."""
        watch, decided = self._watches[result.stream.partition(".")[0]], result.verdict is not Verdict.NOT_DECIDABLE
        by_result = dict.fromkeys(((kind, result.stream) for kind in OF_RESULTS), decided)
        for basis in watch.findings.decided(by_result, self._clock.now()):
            self._sink.judge(basis)

    async def _persist(self, record: Callable[[Result], Awaitable[Result]], result: Result) -> Result:
        while True:
            try:
                return await record(result)
            except StorageError as error:
                log.error("result %s not recorded yet: %s", result.result_id, error)
                await self._clock.sleep_until(self._clock.monotonic() + RETRY_SECONDS)

    async def settled(self) -> None:
        """Return when every result so far is recorded and shown."""
        await self._results.join()


def result_findings(
    result: Result, judgement: fingerprint.Judgement, product: Fingerprint | None
) -> tuple[Finding, ...]:
    """`AnomalyDetected` and `QualityScoreLow` of a result; a result that decides nothing says nothing new."""
    if result.verdict is Verdict.NOT_DECIDABLE or product is None:
        return ()
    beyond = judgement.ratio > 1
    far = judgement.ratio > fingerprint.FAR
    top = ", ".join(f"{name} {share:.0%}" for name, share in result.contributions[:3])
    batch = f", batch {result.batch_id}" if result.batch_id else ""
    why = result.reason or "as learned"
    anomaly = Finding(
        kind="AnomalyDetected",
        source=result.stream,
        time=result.stopped,
        level=("HighHigh" if far else "High") if beyond else "",
        value=result.anomaly,
        limit=0.5,
        text=f"{result.stream}: anomaly score {result.anomaly:.2f} (limit 0.50), {why}{batch}",
        details={
            "TopChannels": top,
            "PredictedClass": result.predicted_class,
            "ModelVersion": result.model,
            "FingerprintDigest": result.model_digest,
            "Batch": result.batch_id,
        },
    )
    low = result.score < product.score_limit
    lowest = result.score <= product.score_floor
    deviation = replace(anomaly, kind="FingerprintDeviation", level="High" if beyond else "")
    return (
        anomaly,
        deviation,
        Finding(
            kind="QualityScoreLow",
            source=result.stream,
            time=result.stopped,
            level=("LowLow" if lowest else "Low") if low else "",
            value=result.score,
            limit=product.score_limit,
            text=f"{result.stream}: quality score {result.score:.1f} (limit {product.score_limit:.1f}){batch}",
            details={"Batch": result.batch_id},
        ),
    )


def _watch(plant: Plant, device: Device, held: Mapping[tuple[str, str], str]) -> _Watch:
    columns = device.columns(plant.registers(device))
    stream = device.streams[0]
    return _Watch(
        device=device,
        findings=DeviceWatch(device, columns, channel_limits(plant, device), watched_phases(plant), held),
        instrument=CycleWatch(device, held),
        validator=validation.Validator(columns),
        assembler=CycleAssembler(period=device.period, baseline=stream.baseline, exposure=stream.exposure),
        channels=tuple(features.kind(c.id, c.technology) for c in device.channels),
        last=validation.waiting(len(columns)),
        simulated=device.simulated or device.driver == "simulator",
    )


def _row(frame: Frame, validated: validation.Validated) -> Row:
    """The recorded row: the columns, then phase and cycle counter (`Device.tags`)."""
    answered = frame.phase is not Phase.UNKNOWN
    acquisition = (float(frame.phase), float(frame.cycle)) if answered else (np.nan, np.nan)
    status = Quality.GOOD if answered else Quality.BAD_NO_COMMUNICATION
    return Row(
        group=frame.device,
        source_time=_shown(validated.time),
        received_time=_shown(frame.received_time),
        values=np.concatenate([validated.values, acquisition]),
        status=np.concatenate([validated.status, np.array([status, status], np.uint32)]),
    )


def _shown(time: int) -> int:
    """The time to 1 us, as clients see it: what they ask the history for is then what was recorded."""
    return time // 1000 * 1000
