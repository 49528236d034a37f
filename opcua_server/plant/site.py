"""The plant at work: what method handlers act on, and how the records they change come to be shown.

Every refresh reads the records anew and publishes what stands there: nothing is shown that is not recorded. It reads
beside the writer, in a thread: a reading begun after a commit sees it.
"""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import numpy as np
from asyncua import ua

from agents.worker import Worker
from analytics.fingerprint import Fingerprint
from analytics.registry import ProductModel
from compliance import batches, exceptions, models, recommendations, results, signatures
from compliance.batches import Batch, Pins
from compliance.exceptions import BatchException
from compliance.models import ProductModel as ModelRecord
from compliance.recommendations import Advice
from compliance.users import Accounts
from config.schema import Line, Plant
from historian.forward import StoreAndForward
from historian.query import Reader
from historian.writer import Writer
from nodesets.errors import StorageError
from nodesets.model import (
    Basis,
    Caller,
    DispositionState,
    ExecutionState,
    Finding,
    Quality,
    Recommendation,
    Result,
    Row,
    Verdict,
)
from nodesets.ports import Clock, Source
from nodesets.types import AgentMode, state_name
from opcua_server.plant import events
from opcua_server.plant.alarm_states import RESPONSE
from opcua_server.plant.alarms import ADVICE_SLOTS, ALARMS, SITE_SOURCES, Alarms
from opcua_server.plant.annunciator import Annunciator
from opcua_server.plant.cases import case_of
from opcua_server.plant.publish import Publisher
from opcua_server.plant.space import BATCH_SLOTS, EXCEPTION_SLOTS

log = logging.getLogger(__name__)
T = TypeVar("T")

RETRY_SECONDS = 1.0
SHOW_SECONDS = 2.0
"""Longest an answer waits until what it changed is shown."""

FAILURES = frozenset({"CommunicationLost", "SensorFailure", "HeaterFailure", "FlowLow"})
"""Findings that a device does not do what it should."""

ADVICE = tuple(f"ENose.Agents.R{i:02}" for i in range(1, ADVICE_SLOTS + 1))
"""Slots of recommendations."""

SERVICE = Caller(user="enose", service=True)
"""Who acts when nobody asked: results, exceptions, advice."""


@dataclass(frozen=True, slots=True)
class Verified:
    """What a verification found."""

    clean: bool
    broken: tuple[int, ...] = ()
    """Sequence numbers of audit entries that do not fit."""


@dataclass(slots=True)
class Site:
    """The live objects of one plant; made by `app`."""

    plant: Plant
    clock: Clock
    writer: Writer
    recorder: StoreAndForward
    reader: Reader
    accounts: Accounts
    alarms: Alarms
    annunciator: Annunciator
    publisher: Publisher
    sources: Mapping[str, Source]
    agents: Worker
    pins: Pins
    close_sessions: Callable[[str], int]
    """End every session of an account (R28)."""
    verify: Callable[[], Awaitable[Verified]]
    """Run `compliance.verify` in a process of its own."""
    learn: Callable[[Caller, str, Sequence[str], Sequence[int]], Awaitable[ModelRecord]]
    """(caller, product, lots, phases of recordings) -> the draft that was saved."""
    use_model: Callable[[str, Fingerprint | None, str, str, tuple[Fingerprint, ...]], None]
    """(stream, fingerprint, model id, digest, known odours): what the stream's cycles are compared with from now on."""
    context: dict[str, dict[str, str]] = field(default_factory=dict)
    """By stream: fields set by SetContext."""
    current: dict[str, Batch] = field(default_factory=dict)
    """By line: the batch in its slot, as last shown."""
    _holding: dict[tuple[str, str], Finding] = field(default_factory=dict)
    """By kind and device: what is wrong with the devices now."""
    _shown: dict[str, Batch] = field(default_factory=dict)
    _recorded: dict[str, tuple[str, str]] = field(default_factory=dict)
    """By line: the texts of its batch that are in the history."""
    _raised: dict[str, set[str]] = field(default_factory=dict)
    """By line: exceptions of its newest batch that were shown."""
    _loaded: dict[str, ProductModel] = field(default_factory=dict)
    advice_expires: int = 0
    """When the next open recommendation does, ns UTC; 0: there is none."""
    _slots: list[str] = field(default_factory=list)
    """Ids of the recommendations that are shown, by slot."""
    _turns: dict[str, asyncio.Lock] = field(default_factory=dict)
    _jobs: set["asyncio.Task[None]"] = field(default_factory=set)

    async def submit(self, work: Callable[[Any], T], *, alone: bool = False) -> T:
        """Run `work(transaction)` on the writer thread; its answer once it is on the disk.

        `alone`: in a transaction of its own, as signatures and releases are (compliance.md 2.4, item 3). It is refused
        while recordings wait in the spool: who releases decides on a history with a hole in it (F06).
        """
        if alone and self.recorder.backlog:
            raise StorageError(f"{self.recorder.backlog} recordings are not in the database yet")
        return await asyncio.wrap_future(self.writer.submit(work, alone=alone))

    def start_job(self, job: Awaitable[object], what: str) -> "asyncio.Task[None]":
        """Do something whose failure is no caller's; it is logged with what it was."""

        async def run() -> None:
            await job

        task = asyncio.create_task(run(), name=what)
        self._jobs.add(task)
        task.add_done_callback(self._job_done)
        return task

    async def show(self, refresh: Callable[[], Awaitable[None]], what: str) -> None:
        """Show what is recorded, as a job: it may fail, or last, without a word to who changed the record.

        What cannot be read is tried again until it can.
        """
        await asyncio.wait([self.start_job(_until_stored(refresh, what), what)], timeout=SHOW_SECONDS)

    def _job_done(self, task: "asyncio.Task[None]") -> None:
        self._jobs.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("%s failed", task.get_name(), exc_info=error)

    async def finish_jobs(self) -> None:
        """Cancel what nobody waits for, and wait until it has ended."""
        jobs = list(self._jobs)
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)

    def _turn(self, shown: str) -> asyncio.Lock:
        """To read and show one after the other: what was read first is not shown last."""
        return self._turns.setdefault(shown, asyncio.Lock())

    def line_of(self, stream: str) -> Line | None:
        return self.plant.line_of(stream)

    # Results and findings

    async def record_result(self, result: Result) -> Result:
        """Record a cycle's result: the GMP record with its batch, then numbers and texts as history.

        Raises StorageError when one of them is not recorded: the same result may then be given again.
        """
        line = self.line_of(result.stream)
        now = self.clock.now()
        undecided = result.verdict is Verdict.NOT_DECIDABLE
        numbers = [result.score, result.uncertainty, result.anomaly, float(result.verdict)]
        status = [0x809B0000 if undecided else 0] * 3 + [0]  # BadNoData
        row = Row(
            group=f"{result.stream}.Quality",
            source_time=result.stopped,
            received_time=now,
            values=np.array([*numbers, 0.0, 0.0]),
            status=np.array([*status, 0, 0], np.uint32),
            texts={4: result.verdict.name, 5: result.predicted_class},
        )
        stored = await self.submit(lambda tx: batches.add_result(tx, SERVICE, now, line.id if line else "", result))
        await asyncio.wrap_future(self.recorder.append([row]))
        if line:  # a line that cannot be shown now must not keep back a result that is recorded, and its alarms
            showing = f"showing {line.id}"
            self.start_job(_until_stored(partial(self.refresh_line, line.id), showing), showing)
        if stored.verdict is Verdict.NOT_OK:
            self.start_job(self._advise(stored), f"advice on {stored.result_id}")
        return stored

    def found(self, finding: Finding) -> None:
        """Open exceptions in the running batches a finding touches (process rule 9: from findings, not from alarms).

        A sample's own findings are opened with the sample, in its transaction (`batches.add_result`).
        """
        alarm = ALARMS[finding.kind]
        if alarm.scope != "device" or not alarm.enabled:  # health says once more what others have said
            return
        if finding.level:
            if finding.kind in FAILURES and (finding.kind, finding.source) not in self._holding:
                severity = alarm.severities[finding.level]
                self.publisher.happened(events.device_failure(finding, severity, self.clock.now()))
            self._holding[finding.kind, finding.source] = finding
            for line in self.plant.lines:
                self.start_job(self._raise_exceptions(line, [finding]), f"exception {finding.kind} of {finding.source}")
        else:
            self._holding.pop((finding.kind, finding.source), None)

    async def raise_what_holds(self, line: str) -> None:
        """Open exceptions in the line's running batch for what is wrong with its devices already."""
        [watched] = (entry for entry in self.plant.lines if entry.id == line)
        await self._raise_exceptions(watched, list(self._holding.values()))

    async def _raise_exceptions(self, line: Line, findings: Sequence[Finding]) -> None:
        touching = [f for f in findings if any(s.startswith(f"{f.source}.") for s in line.streams)]
        for finding in touching:
            await self._open_exception(line.id, finding)
        if touching:
            await self.show(partial(self.refresh_line, line.id), f"showing {line.id}")

    async def _open_exception(self, line: str, finding: Finding) -> None:
        kind, now = ALARMS[finding.kind], self.clock.now()
        severity = max(kind.severities[finding.level], exceptions.CRITICAL if kind.bars_release else 0)

        async def record() -> None:
            await self.submit(lambda tx: exceptions.of_line(tx, SERVICE, now, line, finding, severity))

        # what was found is not found again: it is kept until it is recorded
        await _until_stored(record, f"exception on line {line}")

    # Agents

    async def _advise(self, result: Result) -> None:
        if advice := await self.agents.advise(result, self.clock.now()):
            await self.publish_advice(advice)

    async def ask_agents(self, batch_id: str) -> None:
        """May this batch be proposed for release? The answer becomes a recommendation; without one nothing changes."""
        case = await case_of(self, batch_id)
        if advice := await self.agents.consider(case):
            await self.publish_advice(advice)

    async def publish_advice(self, advice: Recommendation) -> None:
        now = self.clock.now()
        published = await self.submit(lambda tx: recommendations.publish(tx, SERVICE, now, advice))
        await self.show(self.refresh_recommendations, "showing recommendations")
        r = published.recommendation
        self.publisher.happened(
            events.recommendation_published(r.subject, r.recommendation_id, r.text, r.priority, now)
        )

    async def refresh_recommendations(self) -> None:
        async with self._turn("recommendations"):
            now = self.clock.now()
            newest = await self.reader.read(lambda tx: recommendations.newest(tx, now, ADVICE_SLOTS))
            known = {a.recommendation.recommendation_id: a for a in newest}
            self._slots = _placed(self._slots or self._asked(), list(known))
            for slot, key in zip(ADVICE, self._slots, strict=True):
                self.publisher.write(slot, _advice_fields(known.get(key)), now)
                if self.plant.agents.dialogs and key:
                    self._ask(slot, known[key], now)
            waiting = [a for a in newest if a.state is recommendations.State.PROPOSED]
            self.advice_expires = min((a.recommendation.expires for a in waiting), default=0)
            self.publisher.write(
                "ENose.Agents",
                {
                    "Enabled": events.boolean(True),
                    "Mode": events.number(AgentMode.ADVISE, ua.VariantType.Int32),
                    "ActiveCount": events.number(len(waiting)),
                },
                now,
            )

    def _asked(self) -> list[str]:
        """What the dialogs that an earlier run left active ask about, by slot: it stays where it is."""
        if not self.plant.agents.dialogs:
            return [""] * len(ADVICE)
        trunks = [self.annunciator[f"{slot}.Decision"].trunk for slot in ADVICE]
        return [t.finding.details["RecommendationId"] if t.finding and t.state.active else "" for t in trunks]

    def _ask(self, slot: str, advice: Advice, now: int) -> None:
        """Have the dialog of a slot ask until a person responds, be it to defer (Part 9 5.6.3), or nothing is asked."""
        told = self.annunciator[f"{slot}.Decision"].trunk.finding
        response = _response(advice)
        details = {
            "RecommendationId": advice.recommendation.recommendation_id,
            RESPONSE: str(response) if response >= 0 else told.details[RESPONSE] if told else "-1",
        }
        asks = advice.state is recommendations.State.PROPOSED and response < 0
        finding = Finding(
            kind="Decision",
            source=slot,
            time=now,
            level="Active" if asks else "",
            text=advice.recommendation.text,
            details=details,
        )
        self.annunciator.find(finding)

    # Records

    async def refresh_all(self) -> None:
        """Show everything that is recorded; at start."""
        for condition in self.annunciator.shown():
            self.publisher.condition(condition)
        streams = [f"{device.id}.{device.streams[0].id}" for device in self.plant.devices]
        for recorded in await self.reader.read(lambda tx: [results.of_stream(tx, stream) for stream in streams]):
            for result in reversed(recorded):
                self.publisher.ring(result)
        for line in self.plant.lines:
            await self.refresh_line(line.id)
        await self.refresh_models()
        await self.refresh_signatures()
        await self.refresh_recommendations()
        self.start_job(self.check_log(), "verification of the audit log")

    async def refresh_line(self, line: str) -> None:
        """Show the batches of a line, and say what changed since they were last shown."""
        async with self._turn(line):
            recent, raised, actors, since = await self.reader.read(lambda tx: _line_records(tx, line))
            now = self.clock.now()
            if recent:
                self.current[line] = recent[0]
            await self._record_batch(line, recent[0] if recent else None, now)
            self._show_slots(line, recent, raised, now)
            for shown, actor in zip(recent, actors, strict=True):
                self._announce(line, shown, actor, now)
            self._announce_exceptions(line, raised, now)
            for finding in _line_findings(line, self.current.get(line), since, now):
                self.annunciator.find(finding)

    async def _record_batch(self, line: str, batch: Batch | None, now: int) -> None:
        """What the line makes and how it stands, as history, when that has changed. Raises StorageError."""
        texts = (batch.batch_id if batch else "", _state_text(batch))
        if self._recorded.get(line) == texts:
            return
        row = Row(
            group=f"{line}.Batch",
            source_time=now,
            received_time=now,
            values=np.zeros(2),
            status=np.zeros(2, np.uint32),
            texts=dict(enumerate(texts)),
        )
        await asyncio.wrap_future(self.recorder.append([row]))
        self._recorded[line] = texts

    def _show_slots(
        self,
        line: str,
        recent: tuple[Batch, ...],
        raised: tuple[BatchException, ...],
        now: int,
    ) -> None:
        current = recent[0] if recent else None
        self.publisher.write(f"{line}.Batch", _batch_fields(current), now)
        for name, value in _batch_numbers(current).items():
            self.publisher.number(f"{line}.Batch.{name}", value, now)
        for i in range(EXCEPTION_SLOTS):
            shown = raised[-1 - i] if i < len(raised) else None
            self.publisher.write(f"{line}.Batch.Exceptions.X{i + 1:02}", _exception_fields(shown), now)
        for i in range(BATCH_SLOTS):
            batch = recent[i] if i < len(recent) else None
            self.publisher.write(f"{line}.Recent.B{i + 1:02}", _summary_fields(batch), now)
        for stream in next(entry for entry in self.plant.lines if entry.id == line).streams:
            self.show_context(stream)

    def show_context(self, stream: str) -> None:
        """What is being measured: set by SetContext, the identity of the material by the batch (process rule 10)."""
        line = self.line_of(stream)
        batch = self.current.get(line.id) if line else None
        fields = dict.fromkeys(CONTEXT_FIELDS, "") | self.context.get(stream, {})
        fields |= {"BatchId": batch.batch_id if batch else "", "LotId": batch.lot if batch else ""}
        self.publisher.write(f"{stream}.Context", {k: events.string(v) for k, v in fields.items()}, self.clock.now())

    def _announce(self, line: str, batch: Batch, user: str, now: int) -> None:
        before = self._shown.get(batch.batch_id)
        self._shown[batch.batch_id] = batch
        if before and before != batch:
            for old, new in ((before.execution, batch.execution), (before.disposition, batch.disposition)):
                if old != new:
                    self.publisher.happened(
                        events.batch_state_changed(line, batch.batch_id, user, state_name(old), state_name(new), now)
                    )

    def _announce_exceptions(self, line: str, raised: tuple[BatchException, ...], now: int) -> None:
        """Tell of exceptions that were not there when the line was last shown."""
        present = {x.exception_id for x in raised}
        known = self._raised.get(line, present)
        self._raised[line] = present
        for x in raised:
            if x.exception_id not in known:
                self.publisher.happened(events.batch_exception_raised(line, x, now))

    async def refresh_models(self) -> None:
        """Have each stream compared with the model its line's batch pinned, else its product's approved one."""
        async with self._turn("models"):
            approved = await self.reader.read(
                lambda tx: {p.id: m for p in self.plant.products if (m := models.approved(tx, p.id))}
            )
            loaded = {product: await self._load(record.model_id, record.digest) for product, record in approved.items()}
            for device in self.plant.devices:
                await self._use_model(f"{device.id}.{device.streams[0].id}", approved, loaded)

    async def _use_model(
        self, stream: str, approved: Mapping[str, ModelRecord], loaded: Mapping[str, ProductModel]
    ) -> None:
        line = self.line_of(stream)
        batch = self.current.get(line.id) if line else None
        model: ProductModel | None
        if batch and batch.model_id and not batch.ended:
            model_id, model = batch.model_id, await self._load(batch.model_id, batch.model_digest)
        else:
            product = batch.product if batch else next(iter(loaded), "")
            model = loaded.get(product)
            model_id = approved[product].model_id if model else ""
        fingerprint = model.fingerprints.get(stream) if model else None
        known = tuple(m.fingerprints[stream] for m in loaded.values() if stream in m.fingerprints)
        self.use_model(stream, fingerprint, model_id if fingerprint else "", model.digest if model else "", known)
        record = next((m for m in approved.values() if m.model_id == model_id), None)
        self.publisher.model(
            stream,
            fingerprint,
            {
                "ModelName": events.string(model.product if model else ""),
                "ModelVersion": events.string(model_id),
                "ModelDigest": events.string(model.digest if model else ""),
                "ApprovedBy": events.string(record.approved_by if record else ""),
                "EffectiveFrom": events.moment(record.approved if record else 0),
            },
        )

    async def score_limit(self, batch: Batch) -> float:
        """The strictest score limit of the model a batch pinned; NaN without one."""
        if not batch.model_id:
            return math.nan
        model = await self._load(batch.model_id, batch.model_digest)
        return max(f.score_limit for f in model.fingerprints.values())

    async def _load(self, model_id: str, digest: str) -> ProductModel:
        if model_id not in self._loaded:
            data = await self.reader.read(lambda tx: models.load(tx, model_id))
            self._loaded[model_id] = ProductModel.from_bytes(data, digest)
        return self._loaded[model_id]

    async def check_log(self) -> Verified:
        """Verify the audit log, the records it covers and the history, and show the outcome."""
        found = await self.verify()
        now = self.clock.now()
        if not found.clean:
            log.critical("the audit log, a record or the history was altered: run `enose audit verify`")
        self.annunciator.judge(
            Basis(kind="AuditChainBroken", source=SITE_SOURCES["site"], time=now, quality=Quality.GOOD)
        )
        said = "nothing was altered" if found.clean else "the audit log, a record or the history was altered"
        self.annunciator.find(
            Finding(
                kind="AuditChainBroken",
                source=SITE_SOURCES["site"],
                time=now,
                level="" if found.clean else "Active",
                text=f"Verification: {said}",
            )
        )
        self.publisher.write(
            "ENose.Compliance",
            {"ChainVerified": events.boolean(found.clean), "LastVerification": events.moment(now)},
            now,
        )
        return found

    async def refresh_signatures(self) -> None:
        async with self._turn("signatures"):
            now = self.clock.now()
            waiting, last = await self.reader.read(lambda tx: (signatures.waiting(tx, now), signatures.newest(tx)))
            self.publisher.write(
                "ENose.Signatures",
                {
                    "PendingCount": events.number(len(waiting)),
                    "LastSignatureId": events.string(last.signature_id if last else ""),
                },
                now,
            )


def _placed(before: Sequence[str], shown: Sequence[str]) -> list[str]:
    """What is shown, by slot: each stays where it was, as people answer to what stands there."""
    kept = [key if key in shown else "" for key in before]
    new = iter([key for key in shown if key not in kept])
    return [key or next(new, "") for key in kept]


def _response(advice: Advice) -> int:
    """Which of `events.RESPONSES` a person gave; -1: none."""
    by_state = {recommendations.State.ACCEPTED: "Accept", recommendations.State.REJECTED: "Reject"}
    if advice.state is recommendations.State.PROPOSED and advice.decided_by:
        return events.DEFER
    return events.RESPONSES.index(by_state[advice.state]) if advice.state in by_state else -1


def _line_findings(line: str, batch: Batch | None, since: int, now: int) -> Iterator[Finding]:
    """What the batch in a line's slot asks of people; `since`: when its release was requested."""
    open_, waits = batch.open_exceptions if batch else 0, False
    if batch:
        waits = batch.disposition is DispositionState.AWAITING_SIGNATURE
    name = batch.batch_id if batch else "no batch"
    for kind, on, begun, words in (
        ("BatchExceptionOpen", open_ > 0, now, f"{open_} exceptions are open"),
        ("ReleaseOverdue", waits, since or now, "waits for its release"),
    ):
        said = f"{line}: batch {name}: {words}" if on else f"{line}: {kind} is over"
        time = begun if on else now
        yield Finding(kind=kind, source=line, time=time, level="Active" if on else "", text=said)


def _line_records(tx: Any, line: str) -> tuple[tuple[Batch, ...], tuple[BatchException, ...], tuple[str, ...], int]:
    """The last batches of a line, the exceptions of the newest, who moved each last, since when the newest waits."""
    recent = batches.recent(tx, line, BATCH_SLOTS)
    raised = exceptions.of_batch(tx, recent[0].batch_id) if recent else ()
    since = batches.awaits_since(tx, recent[0].batch_id) if recent else 0
    return recent, raised, tuple(batches.changed_by(tx, b.batch_id) for b in recent), since


async def _until_stored(attempt: Callable[[], Awaitable[None]], what: str) -> None:
    """Try until the storage does not refuse."""
    while True:
        try:
            await attempt()
            return
        except StorageError as error:
            log.error("%s waits for the storage: %s", what, error)
            await asyncio.sleep(RETRY_SECONDS)


CONTEXT_FIELDS = (
    "CampaignId", "BatchId", "SubBatchId", "LotId", "MaterialId", "Process", "Unit", "Operation", "Phase", "UserId",
    "SampleId",
)  # fmt: skip
IDENTITY_FIELDS = frozenset({"BatchId", "SubBatchId", "LotId", "MaterialId"})
"""Identity of the material: only BatchControl sets it (process rule 10)."""


def _state_text(b: Batch | None) -> str:
    execution = b.execution if b else ExecutionState.IDLE
    disposition = b.disposition if b else DispositionState.NOT_READY
    return f"{state_name(execution)}, {state_name(disposition)}"


def _batch_fields(b: Batch | None) -> dict[str, ua.Variant]:
    """Members of EnoseBatchType that are never null; an empty slot shows Idle and NotReady."""
    execution = b.execution if b else ExecutionState.IDLE
    disposition = b.disposition if b else DispositionState.NOT_READY
    return {
        "BatchId": events.string(b.batch_id if b else ""),
        "ProductId": events.string(b.product if b else ""),
        "RecipeId": events.string(b.recipe if b else ""),
        "LotId": events.string(b.lot if b else ""),
        "StartTime": events.moment(b.started if b else 0),
        "EndTime": events.moment(b.ended if b else 0),
        "PlannedQuantity": events.double(b.quantity if b else 0.0),
        "SampleCount": events.number(b.sample_count if b else 0),
        **events.machine_state("ExecutionState", "BatchExecutionStateMachineType", execution),
        **events.machine_state("DispositionState", "BatchDispositionStateMachineType", disposition),
        "ExecutionStateNumber": events.number(execution),
        "DispositionStateNumber": events.number(disposition),
        "StateText": events.string(_state_text(b)),
        "Verdict": events.number(b.verdict if b else Verdict.UNDEFINED, ua.VariantType.Int32),
        "OpenExceptionCount": events.number(b.open_exceptions if b else 0),
        "CriticalExceptionCount": events.number(b.critical_exceptions if b else 0),
        "ReviewByExceptionEligible": events.boolean(bool(b and b.eligible)),
        "RecordDigest": events.string(b.digest if b else ""),
        "ReleaseId": events.string(b.release_id if b else ""),
        "ReleasedBy": events.string(b.released_by if b else ""),
        "ReleasedAt": events.moment(b.released if b else 0),
    }


def _batch_numbers(b: Batch | None) -> dict[str, float]:
    """Numbers that are null until there is a decidable sample."""
    names = {"QualityScore": "score", "MinScore": "minimum", "MeanScore": "mean"}
    return {name: getattr(b, attribute) if b else math.nan for name, attribute in names.items()}


def _summary_fields(b: Batch | None) -> dict[str, ua.Variant]:
    full = _batch_fields(b)
    names = "BatchId ExecutionStateNumber DispositionStateNumber Verdict OpenExceptionCount ReleaseId RecordDigest"
    return {name: full[name] for name in names.split()}


def _exception_fields(x: BatchException | None) -> dict[str, ua.Variant]:
    return {
        "ExceptionId": events.string(x.exception_id if x else ""),
        "Kind": events.string(x.kind if x else ""),
        "Severity": events.number(x.severity if x else 0, ua.VariantType.UInt16),
        "Text": events.string(x.text if x else ""),
        "RaisedAt": events.moment(x.raised if x else 0),
        "Disposition": events.number(x.disposition if x else 0, ua.VariantType.Int32),
        "DispositionedBy": events.string(x.dispositioned_by if x else ""),
    }


def _advice_fields(a: Advice | None) -> dict[str, ua.Variant]:
    r = a.recommendation if a else None
    return {
        "RecommendationId": events.string(r.recommendation_id if r else ""),
        "AgentName": events.string(r.agent if r else ""),
        "SubjectName": events.string(r.subject if r else ""),
        "Text": events.string(r.text if r else ""),
        "Rationale": events.string(r.rationale if r else ""),
        "Confidence": events.double(r.confidence if r else 0.0),
        "Priority": events.number(r.priority if r else 0, ua.VariantType.UInt16),
        "CreatedAt": events.moment(r.created if r else 0),
        "ExpiresAt": events.moment(r.expires if r else 0),
        "State": events.number(a.state if a else 0, ua.VariantType.Int32),
        "DecidedBy": events.string(a.decided_by if a else ""),
        "DecidedAt": events.moment(a.decided if a else 0),
        "EvidenceDigest": events.string(a.evidence_digest if a else ""),
    }
