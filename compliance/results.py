"""Results of cycles as rows. NaN, which JSON and SQLite do not have, is null."""

import json
import math
from typing import Any

from sqlalchemy import Connection, Row, select

from compliance.rows import rows_of
from compliance.tables import result
from nodesets.model import Result, Verdict


def of_batch(tx: Connection, batch_id: str) -> tuple[Result, ...]:
    """All samples of a batch, by number."""
    return tuple(from_row(row) for row in rows_of(tx, result, batch_id))


def of_stream(tx: Connection, stream: str, limit: int = 20) -> tuple[Result, ...]:
    """The stream's last results, newest first: the ring R01..R20."""
    query = select(result).where(result.c.stream == stream).order_by(result.c.stopped.desc()).limit(limit)
    return tuple(from_row(row) for row in tx.execute(query))


def same(first: Result, again: Result) -> bool:
    """Whether a result is the recorded one, told apart by what was measured, not by the batch it was given to."""
    return bool(columns(first) == columns(again))


def columns(cycle: Result) -> dict[str, Any]:
    """The row of a result, but for the batch and sample it becomes."""
    return {
        "result_id": cycle.result_id,
        "stream": cycle.stream,
        "started": cycle.started,
        "stopped": cycle.stopped,
        "verdict": cycle.verdict,
        "reason": cycle.reason,
        "score": _null(cycle.score),
        "uncertainty": _null(cycle.uncertainty),
        "anomaly": _null(cycle.anomaly),
        "predicted_class": cycle.predicted_class,
        "confidence": _null(cycle.confidence),
        "reference_count": cycle.reference_count,
        "false_alarm_rate": _null(cycle.false_alarm_rate),
        "contributions": json.dumps([[channel, _null(share)] for channel, share in cycle.contributions]),
        "fingerprint": json.dumps([_null(x) for x in cycle.fingerprint]),
        "model": cycle.model,
        "model_digest": cycle.model_digest,
        "simulated": int(cycle.simulated),
    }


def from_row(row: Row[Any]) -> Result:
    return Result(
        result_id=row.result_id,
        stream=row.stream,
        started=row.started,
        stopped=row.stopped,
        verdict=Verdict(row.verdict),
        reason=row.reason,
        score=nan(row.score),
        uncertainty=nan(row.uncertainty),
        anomaly=nan(row.anomaly),
        predicted_class=row.predicted_class,
        confidence=nan(row.confidence),
        reference_count=row.reference_count,
        false_alarm_rate=nan(row.false_alarm_rate),
        contributions=tuple((channel, nan(share)) for channel, share in json.loads(row.contributions)),
        fingerprint=tuple(nan(x) for x in json.loads(row.fingerprint)),
        model=row.model,
        model_digest=row.model_digest,
        batch_id=row.batch_id or "",
        sample_id=row.sample_id,
        simulated=bool(row.simulated),
    )


def nan(value: float | None) -> float:
    """NULL as NaN."""
    return math.nan if value is None else value


def _null(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
