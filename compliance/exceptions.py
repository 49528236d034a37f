"""Exceptions of a batch: opened by findings, settled by QA under a signature (process rule 9).

A critical one that is unsettled keeps its batch from being released, a rejected one for ever.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

from sqlalchemy import Connection, Row, select

from compliance import records, signatures, texts
from compliance.audit import append
from compliance.rows import add, change, entry, fetch, rows_of
from compliance.signatures import Meaning, Signature
from compliance.states import CLOSED
from compliance.tables import batch, batch_exception
from compliance.users import person
from historian.query import last_received
from nodesets.errors import AccessDenied, InvalidArgument, InvalidState, NoMatch, OutOfRange
from nodesets.model import Caller, DispositionState, ExecutionState, Finding

CRITICAL: Final = 750
"""Severity from which an exception stands in the way of a release (information model 1.5, bands)."""


class Disposition(IntEnum):
    """What QA made of an exception; 1 to 3 are the argument of DispositionException."""

    OPEN = 0
    ACCEPT = 1
    INVESTIGATE = 2
    REJECT = 3


_IN_EXECUTION = select(batch.c.batch_id, batch.c.line, batch.c.started).where(
    batch.c.execution.in_((ExecutionState.RUNNING, ExecutionState.HELD))
)
UNSETTLED = (Disposition.OPEN, Disposition.INVESTIGATE)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchException:
    exception_id: str
    batch_id: str
    kind: str
    source: str
    severity: int
    text: str
    raised: int
    raised_by: str
    disposition: Disposition
    dispositioned_by: str
    """Who signed."""
    comment: str

    @property
    def unsettled(self) -> bool:
        return self.disposition in UNSETTLED

    @property
    def critical(self) -> bool:
        return self.severity >= CRITICAL


def from_finding(
    tx: Connection, caller: Caller, now: int, batch_id: str, finding: Finding, severity: int
) -> BatchException:
    """Open an exception for a finding, never for an alarm's state; the same words while unsettled open no second.

    Raises as `open_`, and InvalidArgument for a finding that says something is over.
    """
    if not finding.level:
        raise InvalidArgument(f"{finding.kind} of {finding.source} is over: nothing to raise")
    _writable(tx, batch_id)
    for x in of_batch(tx, batch_id):
        if x.unsettled and (x.kind, x.source, x.text) == (finding.kind, finding.source, finding.text):
            return x
    return _add(tx, caller, now, batch_id, finding.kind, finding.source, severity, finding.text)


def of_line(
    tx: Connection, caller: Caller, now: int, line: str, finding: Finding, severity: int
) -> BatchException | None:
    """`from_finding` in the batch in execution on a line; None where there is none."""
    running = tx.execute(_IN_EXECUTION.where(batch.c.line == line)).one_or_none()
    return from_finding(tx, caller, now, running.batch_id, finding, severity) if running is not None else None


def interrupted(tx: Connection, caller: Caller, now: int) -> tuple[BatchException, ...]:
    """Open a critical exception in every batch in execution: nothing watched it since the last frame, until now.

    For the start of the service, whatever ended the run before it.
    """
    last = last_received(tx)
    opened = []
    for row in tx.execute(_IN_EXECUTION.order_by(batch.c.batch_id)).all():
        since = records.iso(max(last, row.started))
        text = f"the service was down: nothing was recorded from {since} to {records.iso(now)}"
        found = Finding(kind="ServiceInterrupted", source=row.line, time=now, level="Active", text=text)
        opened.append(from_finding(tx, caller, now, row.batch_id, found, CRITICAL))
    return tuple(opened)


def open_(
    tx: Connection, caller: Caller, now: int, batch_id: str, kind: str, source: str, severity: int, text: str
) -> BatchException:
    """Open an exception; while one of the same kind and source is unsettled, it is returned instead.

    Raises NotFound, OutOfRange for a severity outside 1..1000, InvalidState for a batch whose record is closed.
    """
    _writable(tx, batch_id)
    for x in of_batch(tx, batch_id):
        if (x.kind, x.source) == (kind, source) and x.unsettled:
            return x
    return _add(tx, caller, now, batch_id, kind, source, severity, text)


def _add(
    tx: Connection, caller: Caller, now: int, batch_id: str, kind: str, source: str, severity: int, text: str
) -> BatchException:
    if not 1 <= severity <= 1000:
        raise OutOfRange(f"severity {severity}: 1 to 1000")
    number = len(of_batch(tx, batch_id)) + 1
    exception_id = f"{batch_id}/X{number:02d}"
    add(
        tx,
        batch_exception,
        exception_id=exception_id,
        batch_id=batch_id,
        number=number,
        kind=kind,
        source=source,
        severity=severity,
        text=text,
        raised_by=caller.user,
        raised=now,
    )
    new = {"kind": kind, "source": source, "severity": severity, "text": text}
    logged = entry(caller, now, "exception.open", f"batch_exception/{exception_id}", new=new)
    append(tx, logged, [("batch_exception", exception_id)])
    return get(tx, exception_id)


def dispose(
    tx: Connection,
    caller: Caller,
    now: int,
    batch_id: str,
    exception_id: str,
    disposition: int,
    comment: str,
    signature_id: str,
) -> int:
    """Accept, investigate or reject (numbers of `Disposition`); returns how many exceptions of the batch are unsettled.

    Accept takes an approval signature of the exception, Reject a rejection, Investigate none; who raised it cannot
    sign it. The same call again changes nothing. Raises NotFound, OutOfRange, InvalidArgument without a comment,
    NoMatch for an exception of another batch, InvalidState for a settled one, AccessDenied; as `signatures.matching`.
    """
    if disposition not in (Disposition.ACCEPT, Disposition.INVESTIGATE, Disposition.REJECT):
        raise OutOfRange("Disposition: 1 accept, 2 investigate, 3 reject")
    made = Disposition(disposition)
    texts.reason("Comment", comment)
    row = fetch(tx, batch_exception, exception_id)
    if row.batch_id != batch_id:
        raise NoMatch(f"exception {exception_id} is not one of batch {batch_id}")
    signature = "" if made is Disposition.INVESTIGATE else signature_id
    if (row.disposition, row.comment, row.signature_id) == (made, comment, signature):
        return unsettled(tx, batch_id)
    if row.disposition not in UNSETTLED:
        raise InvalidState(f"exception {exception_id} is settled: {Disposition(row.disposition).name}")
    _writable(tx, batch_id)
    by, changed = caller.user, [("batch_exception", exception_id)]
    if made is not Disposition.INVESTIGATE:
        signed = _signed(tx, row, made, signature)
        by = signed.signer
        changed.append(signatures.spend(tx, caller, now, signed, "exception.dispose"))
    change(
        tx,
        batch_exception,
        exception_id,
        disposition=made,
        comment=comment,
        dispositioned_by=by,
        dispositioned=now,
        signature_id=signature,
    )
    logged = entry(
        caller,
        now,
        "exception.dispose",
        f"batch_exception/{exception_id}",
        reason=comment,
        old=Disposition(row.disposition).name,
        new={"disposition": made.name, "signature": signature},
    )
    append(tx, logged, changed)
    return unsettled(tx, batch_id)


def get(tx: Connection, exception_id: str) -> BatchException:
    """Raises NotFound."""
    return _from_row(fetch(tx, batch_exception, exception_id))


def of_batch(tx: Connection, batch_id: str) -> tuple[BatchException, ...]:
    """All of a batch, in the order they were raised."""
    return tuple(_from_row(row) for row in rows_of(tx, batch_exception, batch_id))


def unsettled(tx: Connection, batch_id: str) -> int:
    """How many of a batch are open or under investigation."""
    return sum(x.unsettled for x in of_batch(tx, batch_id))


def _signed(tx: Connection, row: Row[Any], made: Disposition, signature_id: str) -> Signature:
    meaning = Meaning.APPROVAL if made is Disposition.ACCEPT else Meaning.REJECTION
    signed = signatures.matching(tx, signature_id, "exception", row.exception_id, meaning)
    if person(signed.signer) == person(row.raised_by):
        raise AccessDenied(f"{signed.signer} raised the exception and cannot settle it")
    return signed


def _writable(tx: Connection, batch_id: str) -> None:
    state = DispositionState(fetch(tx, batch, batch_id).disposition)
    if state in CLOSED:
        raise InvalidState(f"the record of batch {batch_id} is closed: {state.name}")


def _from_row(row: Row[Any]) -> BatchException:
    return BatchException(
        exception_id=row.exception_id,
        batch_id=row.batch_id,
        kind=row.kind,
        source=row.source,
        severity=row.severity,
        text=row.text,
        raised=row.raised,
        raised_by=row.raised_by,
        disposition=Disposition(row.disposition),
        dispositioned_by=row.dispositioned_by,
        comment=row.comment,
    )
