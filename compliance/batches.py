"""Batches: the operations that drive the two machines of `states`, and what a batch is judged by.

A result belongs to the batch whose time on the line holds the whole cycle, so a cycle that ends just before its batch
still counts when it is computed just after, and air sampled before StartBatch never does.

No testing into compliance (process rule 12): StartBatch fixes how many decidable samples the plan asks for, every
sample and evaluation is kept and numbered, and the worst sample decides. More samples than planned after a NotOK one,
and another evaluation after a NotOK one, open a critical exception that QA has to accept.

Who may call what is decided before (`policy`), and who may sign in `signatures`; here is only who may not do both.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from sqlalchemy import Connection, Row, Table, func, or_, select

from compliance import exceptions, models, records, results, signatures, texts
from compliance.audit import append
from compliance.exceptions import CRITICAL, Disposition
from compliance.records import Record
from compliance.rows import add, change, entry, fetch, find, rows_of
from compliance.signatures import Meaning, Signature
from compliance.states import CLOSED, ENDED, Event, disposition_after, execution_path
from compliance.tables import batch, evaluation, result
from compliance.users import person
from historian.schema import audit_entry
from nodesets.errors import (
    AccessDenied,
    EntryExists,
    InvalidArgument,
    InvalidState,
    NoData,
    NoMatch,
    NotConfigured,
    OutOfRange,
)
from nodesets.model import Caller, DispositionState, ExecutionState, Result, Verdict

_MINOR = 300
"""Severity of what a reviewer reads but need not settle (information model 1.5, bands)."""
_RETEST = "Retest"


class ReasonCode(IntEnum):
    """Argument of RejectBatch and QuarantineBatch."""

    OTHER = 0
    QUALITY = 1
    EXCEPTION = 2
    DOCUMENTATION = 3
    RECALL = 4
    """Of a released batch, and only of one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pins:
    """What StartBatch writes into a batch; the same for all batches of one run of the service (process rule 11)."""

    configuration: str
    """SHA-256 of the plant, `config.load.digest`."""
    software: str
    samples: Mapping[str, int]
    """Product -> decidable samples a batch needs."""
    demo: bool
    """`site.demo`: simulated results may be released."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A batch as its nodes show it (information model 1.4, `Lines.Lxx.Batch`)."""

    batch_id: str
    line: str
    product: str
    recipe: str
    lot: str
    quantity: float
    created: int
    started: int
    ended: int
    execution: ExecutionState
    disposition: DispositionState
    model_id: str
    """Pinned at start; its bytes: `models.load`."""
    model_digest: str
    configuration: str
    software: str
    samples: int
    """Decidable samples the plan asks for."""
    demo: bool
    sample_count: int
    """Samples so far, of any verdict."""
    evaluations: int
    verdict: Verdict
    """Of the last evaluation; UNDEFINED before."""
    score: float
    """Of the worst sample at the last evaluation; NaN before."""
    minimum: float
    """Over the decidable samples so far; NaN without one."""
    mean: float
    open_exceptions: int
    critical_exceptions: int
    """Open ones of severity >= CRITICAL."""
    eligible: bool
    """Evaluated OK and no exception was ever raised: a reviewer has nothing to look at (review by exception)."""
    digest: str
    """Of the record; empty until execution has ended."""
    release_id: str
    released_by: str
    released: int


# --- execution -------------------------------------------------------------------------------------------------------


def create(
    tx: Connection,
    caller: Caller,
    now: int,
    line: str,
    batch_id: str,
    product: str,
    recipe: str,
    lot: str,
    quantity: float,
    *,
    on_behalf_of: str = "",
) -> Batch:
    """Put a batch into the line's slot. The same call again returns the batch there is (process rule 17).

    Raises InvalidArgument, OutOfRange for a quantity that is none, EntryExists for an id given to another batch,
    NotConfigured without an Approved model of the product (process rule 5), InvalidState while the slot is taken.
    """
    texts.identifier("BatchId", batch_id)
    for name, value in (("ProductId", product), ("RecipeId", recipe), ("LotId", lot)):
        texts.text(name, value)
    if not 0 <= quantity < math.inf:
        raise OutOfRange("PlannedQuantity: a number not less than 0")
    claimed = _on_behalf_of(caller, on_behalf_of)
    asked = {"line": line, "product": product, "recipe": recipe, "lot": lot, "quantity": float(quantity)}
    if (row := find(tx, batch, batch_id)) is not None:
        if asked != {name: getattr(row, name) for name in asked}:
            raise EntryExists(f"batch {batch_id} was created with other arguments")
        return get(tx, batch_id)
    _approved(tx, product)
    if (taken := _occupant(tx, line)) is not None:
        raise InvalidState(f"line {line} is taken by batch {taken}")
    add(
        tx,
        batch,
        batch_id=batch_id,
        **asked,
        execution=ExecutionState.IDLE,
        disposition=DispositionState.NOT_READY,
        created_by=caller.user,
        created_for=claimed,
        created=now,
    )
    logged = entry(caller, now, "batch.create", _name(batch_id), new=asked, on_behalf_of=claimed)
    append(tx, logged, [("batch", batch_id)])
    return get(tx, batch_id)


def start(tx: Connection, caller: Caller, now: int, batch_id: str, pins: Pins, *, on_behalf_of: str = "") -> Batch:
    """Idle -> Running; pins the Approved model, configuration, software and sample plan (process rules 11, 12).

    Raises NotFound, InvalidState, NotConfigured without an Approved model or a plan for the product.
    """
    row = fetch(tx, batch, batch_id)
    execution_path(ExecutionState(row.execution), Event.START)
    model = _approved(tx, row.product)
    if row.product not in pins.samples:
        raise NotConfigured(f"product {row.product} is not in the plant's configuration")
    pinned = {
        "model_id": model.model_id,
        "model_digest": model.digest,
        "configuration": pins.configuration,
        "software": pins.software,
        "samples": pins.samples[row.product],
        "demo": int(pins.demo),
    }
    return _drive(tx, caller, now, batch_id, Event.START, on_behalf_of=on_behalf_of, pinned=pinned)


def complete(tx: Connection, caller: Caller, now: int, batch_id: str, *, on_behalf_of: str = "") -> Batch:
    """Running -> Complete. Raises NotFound, InvalidState, as all that follow here."""
    return _drive(tx, caller, now, batch_id, Event.COMPLETE, on_behalf_of=on_behalf_of)


def hold(tx: Connection, caller: Caller, now: int, batch_id: str, reason: str, *, on_behalf_of: str = "") -> Batch:
    """Running -> Held. An empty reason raises InvalidArgument (R07), as below."""
    return _drive(tx, caller, now, batch_id, Event.HOLD, texts.reason("Reason", reason), on_behalf_of)


def restart(tx: Connection, caller: Caller, now: int, batch_id: str, reason: str, *, on_behalf_of: str = "") -> Batch:
    """Held -> Running."""
    return _drive(tx, caller, now, batch_id, Event.RESTART, texts.reason("Reason", reason), on_behalf_of)


def stop(tx: Connection, caller: Caller, now: int, batch_id: str, reason: str, *, on_behalf_of: str = "") -> Batch:
    """Running, Held -> Stopped: ended before its time, never released."""
    return _drive(tx, caller, now, batch_id, Event.STOP, texts.reason("Reason", reason), on_behalf_of)


def abort(tx: Connection, caller: Caller, now: int, batch_id: str, reason: str, *, on_behalf_of: str = "") -> Batch:
    """Idle, Running, Held -> Aborted, never released."""
    return _drive(tx, caller, now, batch_id, Event.ABORT, texts.reason("Reason", reason), on_behalf_of)


def add_result(tx: Connection, caller: Caller, now: int, line: str, cycle: Result) -> Result:
    """Record the outcome of a cycle; returns it with the batch and sample it became, or as it was outside of any.

    `line` is the one its stream watches, empty for none. The same result again returns the first.
    Raises EntryExists for another result of the same id.
    """
    if (known := find(tx, result, cycle.result_id)) is not None:
        first = results.from_row(known)
        if not results.same(first, cycle):
            raise EntryExists(f"result {cycle.result_id} was recorded with other values")
        return first
    owner = _owner(tx, line, cycle)
    number = _count(tx, result, owner.batch_id) + 1 if owner is not None else 0
    sample = cycle.sample_id or (f"{owner.batch_id}-S{number:03d}" if owner is not None else "")
    add(
        tx,
        result,
        **results.columns(cycle),
        batch_id=owner.batch_id if owner is not None else None,
        sample_id=sample,
        number=number,
    )
    new = {"verdict": cycle.verdict.name, "score": cycle.score, "reason": cycle.reason}
    logged = entry(caller, now, "result.add", f"result/{cycle.result_id}", new=new)
    append(tx, logged, [("result", cycle.result_id)])
    if owner is not None:
        _examine(tx, caller, now, owner, cycle, number)
    return results.from_row(fetch(tx, result, cycle.result_id))


# --- disposition -----------------------------------------------------------------------------------------------------


def evaluate(tx: Connection, caller: Caller, now: int, batch_id: str, *, on_behalf_of: str = "") -> Batch:
    """Quarantine -> UnderReview: the worst decidable sample decides; fewer than planned make the batch NotDecidable.

    After a NotOK evaluation the first call opens a Retest exception, and nothing is evaluated until QA accepted it:
    the batch comes back in Quarantine. Raises NotFound, InvalidState, NoData without a sample.
    """
    row = fetch(tx, batch, batch_id)
    after = disposition_after(DispositionState(row.disposition), Event.EVALUATE)
    claimed = _on_behalf_of(caller, on_behalf_of)
    samples = rows_of(tx, result, batch_id)
    if not samples:
        raise NoData(f"batch {batch_id} has no sample")
    earlier = rows_of(tx, evaluation, batch_id)
    if _retest_needed(tx, batch_id, earlier):
        exceptions.open_(
            tx, caller, now, batch_id, _RETEST, _name(batch_id), CRITICAL, f"evaluation {len(earlier) + 1} asked for"
        )
        return get(tx, batch_id)
    verdict, scores = _judge(samples, row.samples)
    number = len(earlier) + 1
    evaluation_id = f"{batch_id}/{number}"
    add(
        tx,
        evaluation,
        evaluation_id=evaluation_id,
        batch_id=batch_id,
        number=number,
        verdict=verdict,
        score=min(scores, default=None),
        mean=math.fsum(scores) / len(scores) if scores else None,
        samples=len(samples),
        evaluated_by=caller.user,
        evaluated_for=claimed,
        evaluated=now,
    )
    change(tx, batch, batch_id, disposition=after)
    logged = entry(
        caller,
        now,
        "batch.evaluate",
        _name(batch_id),
        old=DispositionState(row.disposition).name,
        new={"disposition": after.name, "verdict": verdict.name, "number": number},
        on_behalf_of=claimed,
    )
    append(tx, logged, [("evaluation", evaluation_id), ("batch", batch_id)])
    if verdict is Verdict.NOT_DECIDABLE:
        text = f"{len(scores)} decidable samples, {row.samples} planned"
        exceptions.open_(tx, caller, now, batch_id, "TooFewSamples", evaluation_id, CRITICAL, text)
    return get(tx, batch_id)


def request_release(
    tx: Connection, caller: Caller, now: int, batch_id: str, comment: str, *, expiry: float, on_behalf_of: str = ""
) -> signatures.Request:
    """UnderReview -> AwaitingSignature; returns the request of the signature that `release` takes.

    Uses up the QA review signature of the record as it is. The same call again returns the same request, or a new one
    when that has expired (`expiry` in seconds). Raises NotFound; InvalidState as `_obstacles` says, or without a
    review; NoMatch when the record changed after its review; EntryExists when it was requested with another comment.
    """
    texts.text("Comment", comment)
    claimed = _on_behalf_of(caller, on_behalf_of)
    row = fetch(tx, batch, batch_id)
    if row.disposition == DispositionState.AWAITING_SIGNATURE:
        return _requested_again(tx, caller, now, row, comment, expiry)
    after = disposition_after(DispositionState(row.disposition), Event.REQUEST_RELEASE)
    _releasable(tx, row)
    reviews = signatures.unused(tx, "batch", batch_id, Meaning.REVIEW)
    if not reviews:
        raise InvalidState(f"batch {batch_id} has no review signature")
    review = signatures.matching(tx, reviews[-1].signature_id, "batch", batch_id, Meaning.REVIEW)
    spent = signatures.spend(tx, caller, now, review, "batch.request_release")
    change(tx, batch, batch_id, disposition=after, review_signature=review.signature_id, release_comment=comment)
    logged = entry(
        caller,
        now,
        "batch.request_release",
        _name(batch_id),
        reason=comment,
        old=DispositionState(row.disposition).name,
        new={"disposition": after.name, "review": review.signature_id},
        on_behalf_of=claimed,
    )
    append(tx, logged, [("batch", batch_id), spent])
    return signatures.request(tx, caller, now, "batch", batch_id, Meaning.RELEASE, expiry=expiry)


def release(tx: Connection, caller: Caller, now: int, batch_id: str, signature_id: str, comment: str) -> Batch:
    """AwaitingSignature -> Released. The same signature again returns the same release (information model 1.6).

    Two people: the signer of the release reviewed, created, started and evaluated nothing of this batch (R14).
    Raises NotFound; InvalidState; NoMatch for a signature that is not on this record as it is or was given before the
    review (R12), or when the record is not what was reviewed; AccessDenied for a signer who took part.
    """
    texts.text("Comment", comment)
    row = fetch(tx, batch, batch_id)
    if row.release_signature and row.release_signature == signature_id:
        return get(tx, batch_id)
    after = disposition_after(DispositionState(row.disposition), Event.RELEASE)
    _releasable(tx, row)
    signed = signatures.matching(tx, signature_id, "batch", batch_id, Meaning.RELEASE)
    review = signatures.get(tx, row.review_signature)
    if review.digest != signed.digest:
        raise NoMatch(f"batch {batch_id} changed after its review")
    if signed.signed < review.signed:
        raise NoMatch(f"the release of batch {batch_id} was signed before its review")
    _uninvolved(tx, row, review, signed)
    spent = signatures.spend(tx, caller, now, signed, "batch.release")
    release_id = signatures.new_id()
    change(
        tx,
        batch,
        batch_id,
        disposition=after,
        release_signature=signature_id,
        release_id=release_id,
        released_by=signed.printed_name,
        released=now,
    )
    logged = entry(
        caller,
        now,
        "batch.release",
        _name(batch_id),
        reason=comment,
        old=DispositionState(row.disposition).name,
        new={"disposition": after.name, "release": release_id, "signature": signature_id, "digest": signed.digest},
    )
    append(tx, logged, [("batch", batch_id), spent])
    return get(tx, batch_id)


def reject(
    tx: Connection, caller: Caller, now: int, batch_id: str, reason_code: int, comment: str, signature_id: str
) -> Batch:
    """Quarantine, UnderReview, AwaitingSignature -> Rejected; Released -> Recalled with the code RECALL.

    Takes a rejection signature of the batch. Raises NotFound, OutOfRange for the code, InvalidArgument without a
    comment, InvalidState, NoMatch for a recall that was signed before the release, and as `signatures.matching`.
    """
    event = Event.RECALL if reason_code == ReasonCode.RECALL else Event.REJECT
    return _dispose(tx, caller, now, batch_id, event, Meaning.REJECTION, reason_code, comment, signature_id)


def quarantine(
    tx: Connection, caller: Caller, now: int, batch_id: str, reason_code: int, comment: str, signature_id: str
) -> Batch:
    """UnderReview, AwaitingSignature -> Quarantine, to be evaluated and reviewed anew. Takes a quarantine signature.

    Raises as `reject`.
    """
    return _dispose(tx, caller, now, batch_id, Event.QUARANTINE, Meaning.QUARANTINE, reason_code, comment, signature_id)


# --- reading ---------------------------------------------------------------------------------------------------------


def get(tx: Connection, batch_id: str) -> Batch:
    """Raises NotFound."""
    row = fetch(tx, batch, batch_id)
    decidable = (result.c.batch_id == batch_id) & (result.c.verdict.in_((Verdict.OK, Verdict.NOT_OK)))
    lowest, mean = tx.execute(select(func.min(result.c.score), func.avg(result.c.score)).where(decidable)).one()
    raised = exceptions.of_batch(tx, batch_id)
    unsettled = [x for x in raised if x.unsettled]
    last = _last_evaluation(tx, batch_id)
    verdict = Verdict(last.verdict) if last is not None else Verdict.UNDEFINED
    return Batch(
        batch_id=batch_id,
        line=row.line,
        product=row.product,
        recipe=row.recipe,
        lot=row.lot,
        quantity=row.quantity,
        created=row.created,
        started=row.started,
        ended=row.ended,
        execution=ExecutionState(row.execution),
        disposition=DispositionState(row.disposition),
        model_id=row.model_id,
        model_digest=row.model_digest,
        configuration=row.configuration,
        software=row.software,
        samples=row.samples,
        demo=bool(row.demo),
        sample_count=_count(tx, result, batch_id),
        evaluations=last.number if last is not None else 0,
        verdict=verdict,
        score=results.nan(last.score) if last is not None else math.nan,
        minimum=results.nan(lowest),
        mean=results.nan(mean),
        open_exceptions=len(unsettled),
        critical_exceptions=sum(x.critical for x in unsettled),
        eligible=verdict is Verdict.OK and not raised,
        digest=digest(tx, batch_id) if row.ended else "",
        release_id=row.release_id,
        released_by=row.released_by,
        released=row.released,
    )


def record(tx: Connection, batch_id: str) -> Record:
    """The batch as it is signed: `records.batch_record`. Raises NotFound."""
    return records.batch_record(tx, batch_id)


def digest(tx: Connection, batch_id: str) -> str:
    """SHA-256 (hex) of the record. Raises NotFound."""
    return records.digest(record(tx, batch_id))


def summary(tx: Connection, batch_id: str) -> Record:
    """What GetBatchSummary answers, as JSON values: the record, its digest, and what was decided about it."""
    now = get(tx, batch_id)
    return {
        "record": record(tx, batch_id),
        "digest": digest(tx, batch_id),
        "disposition": now.disposition.name,
        "verdict": now.verdict.name,
        "open_exceptions": now.open_exceptions,
        "critical_exceptions": now.critical_exceptions,
        "review_by_exception_eligible": now.eligible,
        "release_id": now.release_id,
        "released_by": now.released_by,
        "released": records.iso(now.released),
    }


def current(tx: Connection, line: str) -> Batch | None:
    """The batch in the line's slot: in execution, or the last one."""
    last = recent(tx, line, 1)
    return last[0] if last else None


def recent(tx: Connection, line: str, limit: int = 10) -> tuple[Batch, ...]:
    """The line's last batches, newest first: the ring B01..B10."""
    query = select(batch.c.batch_id).where(batch.c.line == line).order_by(batch.c.created.desc()).limit(limit)
    return tuple(get(tx, batch_id) for batch_id in tx.execute(query).scalars())


def awaits_since(tx: Connection, batch_id: str) -> int:
    """When release of the batch was last requested, as the log has it, ns UTC; 0: never."""
    query = select(func.max(audit_entry.c.ts)).where(
        audit_entry.c.object == _name(batch_id), audit_entry.c.action == "batch.request_release"
    )
    return tx.execute(query).scalar() or 0


def changed_by(tx: Connection, batch_id: str) -> str:
    """Who moved the batch last, as the log has it; empty for a batch there is none of."""
    query = select(audit_entry.c.actor).where(
        audit_entry.c.object == _name(batch_id), audit_entry.c.action.startswith("batch.")
    )
    return tx.execute(query.order_by(audit_entry.c.seq.desc()).limit(1)).scalar() or ""


# --- inner parts -----------------------------------------------------------------------------------------------------


def _drive(
    tx: Connection,
    caller: Caller,
    now: int,
    batch_id: str,
    event: Event,
    reason: str = "",
    on_behalf_of: str = "",
    pinned: Mapping[str, Any] | None = None,
) -> Batch:
    """One event of execution; `pinned` are the columns StartBatch fills."""
    row = fetch(tx, batch, batch_id)
    path = execution_path(ExecutionState(row.execution), event)
    claimed = _on_behalf_of(caller, on_behalf_of)
    changes: dict[str, Any] = {"execution": path[-1], **(pinned or {})}
    if event is Event.START:
        changes |= {"started": now, "started_by": caller.user, "started_for": claimed}
    if path[-1] in ENDED:
        disposition = disposition_after(DispositionState(row.disposition), Event.END)
        changes |= {"ended": now, "disposition": disposition}
    change(tx, batch, batch_id, **changes)
    logged = entry(
        caller,
        now,
        f"batch.{event}",
        _name(batch_id),
        reason=reason,
        old=ExecutionState(row.execution).name,
        new={"execution": [state.name for state in path], **(pinned or {})},
        on_behalf_of=claimed,
    )
    append(tx, logged, [("batch", batch_id)])
    return get(tx, batch_id)


def _dispose(
    tx: Connection,
    caller: Caller,
    now: int,
    batch_id: str,
    event: Event,
    meaning: Meaning,
    reason_code: int,
    comment: str,
    signature_id: str,
) -> Batch:
    if reason_code not in tuple(ReasonCode) or (event is Event.QUARANTINE and reason_code == ReasonCode.RECALL):
        raise OutOfRange(f"ReasonCode: {', '.join(f'{code} {code.name}' for code in ReasonCode)}")
    texts.reason("Comment", comment)
    row = fetch(tx, batch, batch_id)
    after = disposition_after(DispositionState(row.disposition), event)
    signed = signatures.matching(tx, signature_id, "batch", batch_id, meaning)
    if event is Event.RECALL and signed.signed <= row.released:
        raise NoMatch(f"the recall of batch {batch_id} was signed before its release")
    spent = signatures.spend(tx, caller, now, signed, f"batch.{event}")
    change(tx, batch, batch_id, disposition=after)
    logged = entry(
        caller,
        now,
        f"batch.{event}",
        _name(batch_id),
        reason=comment,
        old=DispositionState(row.disposition).name,
        new={"disposition": after.name, "reason_code": reason_code, "signature": signature_id},
    )
    append(tx, logged, [("batch", batch_id), spent])
    return get(tx, batch_id)


def _requested_again(
    tx: Connection, caller: Caller, now: int, row: Row[Any], comment: str, expiry: float
) -> signatures.Request:
    if row.release_comment != comment:
        raise EntryExists(f"the release of batch {row.batch_id} was requested with another comment")
    _releasable(tx, row)
    current_digest = digest(tx, row.batch_id)
    if signatures.get(tx, row.review_signature).digest != current_digest:
        raise NoMatch(f"batch {row.batch_id} changed after its review")
    for waiting in signatures.waiting(tx, now, "batch", row.batch_id):
        if waiting.meaning is Meaning.RELEASE and waiting.digest == current_digest:
            return waiting
    return signatures.request(tx, caller, now, "batch", row.batch_id, Meaning.RELEASE, expiry=expiry)


def _releasable(tx: Connection, row: Row[Any]) -> None:
    if obstacles := _obstacles(tx, row):
        raise InvalidState(f"batch {row.batch_id} cannot be released: {'; '.join(obstacles)}")


def _obstacles(tx: Connection, row: Row[Any]) -> list[str]:
    """What stands in the way of a release: execution cut short, exceptions, simulated samples outside a demo site."""
    found = []
    last = _last_evaluation(tx, row.batch_id)
    if last is not None and last.samples != _count(tx, result, row.batch_id):
        found.append("a sample came after its evaluation")
    if row.execution != ExecutionState.COMPLETE:
        found.append(f"execution ended as {ExecutionState(row.execution).name}")
    for x in exceptions.of_batch(tx, row.batch_id):
        if x.disposition is Disposition.REJECT:
            found.append(f"exception {x.exception_id} was rejected")
        elif x.critical and x.unsettled:
            found.append(f"critical exception {x.exception_id} is open")
    if not row.demo and any(r.simulated for r in rows_of(tx, result, row.batch_id)):
        found.append("its samples are simulated, and the site is no demo")
    return found


def _uninvolved(tx: Connection, row: Row[Any], review: Signature, signed: Signature) -> None:
    """Nobody releases his own result. Whom a service account claimed to act for counts as having acted.

    A claim is what another system wrote: the account or the printed name, with any spaces.
    """
    evaluations = rows_of(tx, evaluation, row.batch_id)
    acts = {
        "reviewed": ([review.signer], [""]),
        "created": ([row.created_by], [row.created_for]),
        "started": ([row.started_by], [row.started_for]),
        "evaluated": ([e.evaluated_by for e in evaluations], [e.evaluated_for for e in evaluations]),
    }
    signer, names = person(signed.signer), {_claim(signed.signer), _claim(signed.printed_name)}
    for act, (actors, claims) in acts.items():
        if signer in map(person, actors) or names & {_claim(claim) for claim in claims if claim}:
            raise AccessDenied(f"{signed.signer} {act} batch {row.batch_id} and cannot release it")


def _claim(name: str) -> str:
    return person(" ".join(name.split()))


def _examine(tx: Connection, caller: Caller, now: int, owner: Row[Any], cycle: Result, number: int) -> None:
    """Open the exceptions a new sample gives rise to."""

    def found(kind: str, severity: int, text: str) -> None:
        exceptions.open_(tx, caller, now, owner.batch_id, kind, cycle.result_id, severity, f"sample {number}: {text}")

    if cycle.verdict is Verdict.NOT_OK:
        found("SampleNotOK", CRITICAL, cycle.reason)
    if cycle.verdict in (Verdict.NOT_DECIDABLE, Verdict.UNDEFINED):
        found("SampleNotDecidable", _MINOR, cycle.reason)
    elif cycle.model_digest != owner.model_digest:
        found("ModelMismatch", CRITICAL, f"judged by {cycle.model or 'no model'}, the batch pinned {owner.model_id}")
    failed_before = select(func.count()).where(
        result.c.batch_id == owner.batch_id, result.c.verdict == Verdict.NOT_OK, result.c.number < number
    )
    if number > owner.samples and tx.execute(failed_before).scalar_one():
        text = f"sample {number} of {owner.samples} planned, after a NotOK one"
        exceptions.open_(tx, caller, now, owner.batch_id, "ExtraSample", _name(owner.batch_id), CRITICAL, text)


def _judge(samples: Sequence[Row[Any]], planned: int) -> tuple[Verdict, list[float]]:
    """Verdict of a batch and the scores of its decidable samples: one NotOK sample is enough (process rule 12)."""
    decidable = [r for r in samples if r.verdict in (Verdict.OK, Verdict.NOT_OK)]
    scores = [r.score for r in decidable if r.score is not None]
    if any(r.verdict == Verdict.NOT_OK for r in decidable):
        return Verdict.NOT_OK, scores
    return (Verdict.OK if len(decidable) >= planned else Verdict.NOT_DECIDABLE), scores


def _retest_needed(tx: Connection, batch_id: str, earlier: Sequence[Row[Any]]) -> bool:
    """Every NotOK evaluation takes one accepted Retest before the next."""
    failed = len([e for e in earlier if e.verdict == Verdict.NOT_OK])
    accepted = sum(x.kind == _RETEST and x.disposition is Disposition.ACCEPT for x in exceptions.of_batch(tx, batch_id))
    return failed > accepted


def _owner(tx: Connection, line: str, cycle: Result) -> Row[Any] | None:
    """The batch whose time on the line holds the whole cycle, and whose record is not closed."""
    query = select(batch).where(
        batch.c.line == line,
        batch.c.started > 0,
        batch.c.started <= cycle.started,
        or_(batch.c.ended == 0, batch.c.ended >= cycle.stopped),
        batch.c.disposition.not_in(tuple(CLOSED)),
    )
    return tx.execute(query.order_by(batch.c.started.desc()).limit(1)).one_or_none()


def _occupant(tx: Connection, line: str) -> str | None:
    query = select(batch.c.batch_id).where(batch.c.line == line, batch.c.execution.not_in(tuple(ENDED)))
    return tx.execute(query).scalar()


def _approved(tx: Connection, product: str) -> models.ProductModel:
    model = models.approved(tx, product)
    if model is None:
        raise NotConfigured(f"product {product} has no Approved model")
    return model


def _on_behalf_of(caller: Caller, claimed: str) -> str:
    """Whom a service account says it acts for: stored beside it as a claim (process rule 15)."""
    if claimed and not caller.service:
        raise InvalidArgument("OnBehalfOf: only a service account acts for others")
    return texts.text("OnBehalfOf", claimed)


def _last_evaluation(tx: Connection, batch_id: str) -> Row[Any] | None:
    query = select(evaluation).where(evaluation.c.batch_id == batch_id).order_by(evaluation.c.number.desc()).limit(1)
    return tx.execute(query).one_or_none()


def _count(tx: Connection, table: Table, batch_id: str) -> int:
    return int(tx.execute(select(func.count()).where(table.c.batch_id == batch_id)).scalar_one())


def _name(batch_id: str) -> str:
    return f"batch/{batch_id}"


def under_way(tx: Connection, lines: Sequence[str], first: int, last: int) -> bool:
    """Whether a batch was made on one of the lines at some time from `first` to `last` (ns UTC)."""
    found = select(batch.c.batch_id).where(
        batch.c.line.in_(lines),
        batch.c.started > 0,
        batch.c.started <= last,
        or_(batch.c.ended == 0, batch.c.ended >= first),
    )
    return tx.execute(found.limit(1)).first() is not None
