"""What a record says when it is signed: its rows as JSON values, their digest, and the lines a signer is shown.

A record holds what was made, measured, decided and found, and never its own disposition, approval or signatures. So
its digest stays the same while it is reviewed, released and verified years later; and whatever else changes in it
makes the signatures invalid (11.70; R20, R21; hostile row H41).

In a record a real number is its shortest text (RFC 8785 would write 1.0 as 1), and a time is ISO 8601 in UTC.
"""

import hashlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import rfc8785
from sqlalchemy import Connection, Row

from compliance.rows import fetch, rows_of
from compliance.tables import batch, batch_exception, evaluation, product_model, result
from nodesets.errors import NotFound
from nodesets.model import ExecutionState, Verdict

SCHEMA = 1
"""Version of the form of a record (R03)."""

Record = dict[str, Any]


def iso(time: int) -> str | None:
    """ns UTC as ISO 8601 with nine decimals; None for 0, which stands for 'not yet'."""
    if not time:
        return None
    seconds, nanoseconds = divmod(time, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{nanoseconds:09d}Z"


def digest(record: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of the record's canonical JSON (RFC 8785)."""
    return hashlib.sha256(rfc8785.dumps(dict(record))).hexdigest()


def read(tx: Connection, record_type: str, record_id: str) -> Record:
    """The record as it is now. Raises NotFound for an unknown type or id."""
    if record_type not in RECORDS:
        raise NotFound(f"no records of type {record_type!r}; known: {', '.join(RECORDS)}")
    return RECORDS[record_type](tx, record_id)


def batch_record(tx: Connection, batch_id: str) -> Record:
    """The batch: identity, what StartBatch pinned, every sample, evaluation and exception. Raises NotFound."""
    row = fetch(tx, batch, batch_id)
    return {
        "schema": SCHEMA,
        "type": "batch",
        "batch_id": row.batch_id,
        "line": row.line,
        "product": row.product,
        "recipe": row.recipe,
        "lot": row.lot,
        "quantity": _real(row.quantity),
        "created": _act(row.created, row.created_by, row.created_for),
        "started": _act(row.started, row.started_by, row.started_for),
        "ended": iso(row.ended),
        "execution": ExecutionState(row.execution).name,
        "pinned": {
            "model": row.model_id,
            "model_digest": row.model_digest,
            "configuration": row.configuration,
            "software": row.software,
            "samples": row.samples,
            "demo": bool(row.demo),
        },
        "samples": [
            {
                "number": r.number,
                "sample_id": r.sample_id,
                "result_id": r.result_id,
                "verdict": Verdict(r.verdict).name,
                "reason": r.reason,
                "score": _real(r.score),
                "simulated": bool(r.simulated),
                "digest": digest(_result(r)),
            }
            for r in rows_of(tx, result, batch_id)
        ],
        "evaluations": [
            {
                "number": e.number,
                "verdict": Verdict(e.verdict).name,
                "score": _real(e.score),
                "mean": _real(e.mean),
                "samples": e.samples,
                "evaluated": _act(e.evaluated, e.evaluated_by, e.evaluated_for),
            }
            for e in rows_of(tx, evaluation, batch_id)
        ],
        "exceptions": [
            _exception(x)
            | {
                "disposition": x.disposition,
                "comment": x.comment,
                "dispositioned": _act(x.dispositioned, x.dispositioned_by),
                "signature_id": x.signature_id,
            }
            for x in rows_of(tx, batch_exception, batch_id)
        ],
    }


def exception_record(tx: Connection, exception_id: str) -> Record:
    """What was found, without what QA made of it. Raises NotFound."""
    return {"schema": SCHEMA, "type": "exception", **_exception(fetch(tx, batch_exception, exception_id))}


def result_record(tx: Connection, result_id: str) -> Record:
    """The outcome of one cycle. Raises NotFound."""
    return _result(fetch(tx, result, result_id))


def model_record(tx: Connection, model_id: str) -> Record:
    """The fingerprint of a product: its bytes by their digest. Raises NotFound."""
    row = fetch(tx, product_model, model_id)
    return {
        "schema": SCHEMA,
        "type": "model",
        "model_id": row.model_id,
        "product": row.product,
        "version": row.version,
        "metadata": row.metadata,
        "digest": hashlib.sha256(row.data).hexdigest(),
        "learned": _act(row.learned, row.learned_by),
    }


RECORDS: Mapping[str, Callable[[Connection, str], Record]] = {
    "batch": batch_record,
    "exception": exception_record,
    "model": model_record,
    "result": result_record,
}


def manifest(record: Record, meaning: str) -> str:
    """What a signer is shown before signing: the record in words, the meaning, the digest."""
    lines = [_TITLES[record["type"]](record), f"Meaning: {meaning}", f"SHA-256 of the record: {digest(record)}"]
    return "\n".join(lines)


def _batch_title(record: Record) -> str:
    last = record["evaluations"][-1] if record["evaluations"] else None
    verdict = f"{last['verdict']}, score {last['score']}" if last else "not evaluated"
    return (
        f"Batch {record['batch_id']} of {record['product']}, lot {record['lot'] or '-'}, line {record['line']}: "
        f"{record['execution']}, {len(record['samples'])} samples, {verdict}, {len(record['exceptions'])} exceptions"
        f"{', DemoMode' if record['pinned']['demo'] else ''}"
    )


_TITLES: Mapping[str, Callable[[Record], str]] = {
    "batch": _batch_title,
    "exception": lambda r: f"Exception {r['exception_id']} of severity {r['severity']}: {r['kind']}, {r['text']}",
    "model": lambda r: f"Model {r['model_id']}, learned by {r['learned']['by']}, bytes {r['digest']}",
    "result": lambda r: f"Result {r['result_id']} of {r['stream']}: {r['verdict']}, {r['reason']}",
}


def _result(row: Row[Any]) -> Record:
    return {
        "schema": SCHEMA,
        "type": "result",
        "result_id": row.result_id,
        "stream": row.stream,
        "started": iso(row.started),
        "stopped": iso(row.stopped),
        "verdict": Verdict(row.verdict).name,
        "reason": row.reason,
        "score": _real(row.score),
        "uncertainty": _real(row.uncertainty),
        "anomaly": _real(row.anomaly),
        "predicted_class": row.predicted_class,
        "confidence": _real(row.confidence),
        "reference_count": row.reference_count,
        "false_alarm_rate": _real(row.false_alarm_rate),
        "contributions": row.contributions,
        "fingerprint": row.fingerprint,
        "model": row.model,
        "model_digest": row.model_digest,
        "batch_id": row.batch_id,
        "sample_id": row.sample_id,
        "number": row.number,
        "simulated": bool(row.simulated),
    }


def _exception(row: Row[Any]) -> Record:
    return {
        "exception_id": row.exception_id,
        "batch_id": row.batch_id,
        "kind": row.kind,
        "source": row.source,
        "severity": row.severity,
        "text": row.text,
        "raised": _act(row.raised, row.raised_by),
    }


def _act(time: int, by: str, on_behalf_of: str = "") -> Record | None:
    return {"at": iso(time), "by": by, "on_behalf_of": on_behalf_of} if time else None


def _real(value: float | None) -> str | None:
    return None if value is None else repr(float(value))
