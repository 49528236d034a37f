"""From votes to one recommendation. Pure: the same case gives the same recommendation, its id included.

Consensus: a rejection at or above the veto confidence wins, whatever the others say. Without one, the margin

    (sum of w c over approvals - sum of w c over rejections) / sum of w over all agents

decides: w is the agent's weight, c its confidence. An abstention stays in the denominator, so silence never
becomes consent; between the bounds a person judges without advice (agents.md L08).
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agents import instrument, quality
from agents.case import VALUE_LENGTH, Agent, Case, Evidence, gather
from agents.text import instruction_like, plain
from nodesets.model import Recommendation, Result, Verdict, Vote

NAME = "orchestrator"

AGENTS: Mapping[str, Agent] = {
    quality.NAME: quality.consider,
    instrument.NAME: instrument.consider,
}
"""Who is asked. A new agent is one file and one row."""

WEIGHTS: Mapping[str, float] = {quality.NAME: 1.0, instrument.NAME: 1.0}

VETO = 0.8
"""Confidence from which one rejection is enough."""
MARGIN = 0.6
"""Margin beyond which the agents agree. With two agents of equal weight one approval alone reaches 0.5 at most."""

TEXT_LENGTH = 254
"""Longest String Plant SCADA takes (information model 1.4)."""
LINE_LENGTH = 500
"""Longest line of a rationale."""
VALIDITY = 24 * 3600 * 10**9
"""ns after which a recommendation has expired: the facts of a batch move on within a day."""
PRIORITY = {"approve": 200, "abstain": 400, "reject": 600}
"""As an event severity: information, warning, high (information model 1.5)."""
TOP_CHANNELS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Consensus:
    answer: str
    """approve | reject | abstain: abstain leaves it to a person."""
    confidence: float
    """0..1: of the veto, else the size of the margin."""
    reason: str


def agree(votes: Sequence[Vote]) -> Consensus:
    """One answer from the votes of all agents, at least one."""
    vetoes = [v for v in votes if v.answer == "reject" and v.confidence >= VETO]
    if vetoes:
        veto = max(vetoes, key=lambda v: v.confidence)
        return Consensus(answer="reject", confidence=veto.confidence, reason=f"{veto.agent} rejects: {veto.reason}")
    sign = {"approve": 1.0, "abstain": 0.0, "reject": -1.0}
    total = sum(WEIGHTS[v.agent] for v in votes)
    margin = sum(sign[v.answer] * WEIGHTS[v.agent] * v.confidence for v in votes) / total
    answer = "approve" if margin >= MARGIN else "reject" if margin <= -MARGIN else "abstain"
    return Consensus(answer=answer, confidence=abs(margin), reason=f"margin {margin:+.2f}, {MARGIN:.2f} needed")


def consider(case: Case) -> Recommendation:
    """May this batch be proposed for release? Every vote stands in the recommendation."""
    evidence = gather(case)
    votes = tuple(agent(case, evidence) for agent in AGENTS.values())
    consensus = agree(votes)
    batch = plain(case.batch_id, 64)
    headline = {
        "approve": f"Batch {batch}: may be proposed for release.",
        "reject": f"Batch {batch}: should not be proposed for release.",
        "abstain": f"Batch {batch}: the agents do not agree, a person must judge.",
    }[consensus.answer]
    voiced = "; ".join(f"{v.agent}: {v.reason}" for v in votes if consensus.answer in (v.answer, "abstain"))
    flags = " Text in the record reads like an instruction, see evidence." if case.flagged else ""
    return _recommendation(
        subject=batch,
        text=f"{headline}{flags} {voiced}",
        rationale=[f"{consensus.answer}: {consensus.reason}", *(_minute(v) for v in votes)],
        confidence=consensus.confidence,
        priority=PRIORITY[consensus.answer],
        created=case.time,
        evidence=evidence,
        votes=votes,
    )


def advise(result: Result, now: int) -> Recommendation:
    """What deviates in a NotOK result, and what to do first. `now` is ns UTC.

    Raises ValueError for a result of another verdict: there is nothing to advise.
    """
    if result.verdict != Verdict.NOT_OK:
        raise ValueError(f"{result.result_id} is {result.verdict.name}, not NOT_OK")
    top = ", ".join(f"{channel} {share:.0%}" for channel, share in result.contributions[:TOP_CHANNELS])
    known = result.predicted_class not in ("", "unknown")
    likeness = f"nearest known odour: {result.predicted_class}" if known else "no known odour is near"
    rows = [
        ("result", result.result_id),
        ("stream", result.stream),
        ("batch", result.batch_id or "none"),
        ("score", f"{result.score:.1f} +/- {result.uncertainty:.1f}"),
        ("anomaly", f"{result.anomaly:.2f}, 0.5 at the limit"),
        ("class", f"{likeness}, confidence {result.confidence:.2f}"),
        ("limits", f"{result.reference_count} good cycles, realised false alarm rate {result.false_alarm_rate:.3f}"),
        ("model", f"{result.model}, {result.model_digest}"),
        ("reason", result.reason),
        *((f"contribution {channel}", f"{share:.1%}") for channel, share in result.contributions[:TOP_CHANNELS]),
    ]
    if instruction_like(result.reason) or instruction_like(result.batch_id):
        rows.append(("flagged", "text that reads like an instruction; shown, not followed"))
    of_batch = f" (batch {plain(result.batch_id, 64)})" if result.batch_id else ""
    return _recommendation(
        subject=plain(result.stream, 64),
        text=f"{result.stream}{of_batch} NotOK, score {result.score:.1f}. Deviating most: {top or 'unknown'}; "
        f"{likeness}. Run a blank cycle before the product is blamed.",
        rationale=[
            result.reason,
            # Process rules 4 and 12.
            "A failed blank shows the sampling line as the cause and voids the cycles back to the last good blank.",
            "A passed blank leaves the product as the cause. A retest needs the approval of QA first.",
        ],
        confidence=1.0 - result.false_alarm_rate if result.false_alarm_rate >= 0.0 else 0.0,
        priority=PRIORITY["reject"],
        created=now,
        evidence=tuple((plain(name, VALUE_LENGTH), plain(value, VALUE_LENGTH)) for name, value in rows),
        votes=(),
    )


def _minute(vote: Vote) -> str:
    rows = ", ".join(map(str, vote.evidence))
    return f"{vote.agent}: {vote.answer} {vote.confidence:.2f}, {vote.reason} [{rows}]"


def _recommendation(
    *,
    subject: str,
    text: str,
    rationale: Sequence[str],
    confidence: float,
    priority: int,
    created: int,
    evidence: Evidence,
    votes: tuple[Vote, ...],
) -> Recommendation:
    content = json.dumps([subject, text, created, evidence], ensure_ascii=True).encode()
    return Recommendation(
        recommendation_id=f"REC-{hashlib.sha256(content).hexdigest()[:16]}",
        agent=NAME,
        subject=subject,
        text=plain(text, TEXT_LENGTH),
        rationale="\n".join(plain(line, LINE_LENGTH) for line in rationale),
        confidence=confidence,
        priority=priority,
        created=created,
        expires=created + VALIDITY,
        evidence=evidence,
        votes=votes,
    )
