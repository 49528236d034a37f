"""Agents' recommendations as records: published by the service, decided by a person, never carried out (agents.md)."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import IntEnum

from sqlalchemy import Connection, Row, select

from compliance import texts
from compliance.audit import append
from compliance.rows import add, change, entry, fetch, find
from compliance.tables import recommendation
from nodesets.errors import InvalidState
from nodesets.model import Caller, Recommendation, Vote


class State(IntEnum):
    """Numbers of RecommendationStateEnum; 0 is an empty slot, 4 follows from the time of expiry."""

    PROPOSED = 1
    ACCEPTED = 2
    REJECTED = 3
    EXPIRED = 4
    SUPERSEDED = 5


DECISIONS: Mapping[str, State] = {"accept": State.ACCEPTED, "reject": State.REJECTED, "defer": State.PROPOSED}
"""What a person can say of it. Deferred, it stays proposed and is shown again until it expires."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """A recommendation and what became of it."""

    recommendation: Recommendation
    state: State
    decided_by: str
    decided: int
    evidence_digest: str
    """SHA-256 (hex) of the evidence rows."""


def publish(tx: Connection, caller: Caller, now: int, advice: Recommendation) -> Advice:
    """Record a recommendation. An open one of the same agent about the same subject is superseded.

    The same recommendation again returns the first.
    """
    key = advice.recommendation_id
    if find(tx, recommendation, key) is not None:
        return get(tx, key, now)
    changed = [("recommendation", key)]
    older = select(recommendation.c.recommendation_id).where(
        recommendation.c.agent == advice.agent,
        recommendation.c.subject == advice.subject,
        recommendation.c.state == State.PROPOSED,
    )
    for before in tx.execute(older).scalars().all():
        change(tx, recommendation, before, state=State.SUPERSEDED)
        changed.append(("recommendation", before))
    add(
        tx,
        recommendation,
        recommendation_id=key,
        agent=advice.agent,
        subject=advice.subject,
        body=json.dumps(asdict(advice), sort_keys=True),
        created=advice.created,
        expires=advice.expires,
        state=State.PROPOSED,
    )
    new = {"text": advice.text, "evidence": _digest(advice), "superseded": [name for _, name in changed[1:]]}
    append(tx, entry(caller, now, "recommendation.publish", f"recommendation/{key}", new=new), changed)
    return get(tx, key, now)


def decide(tx: Connection, caller: Caller, now: int, key: str, decision: str, comment: str) -> Advice:
    """A person's `accept`, `reject` or `defer`, with the reason in their own words (agents.md L15).

    Raises NotFound, InvalidArgument without a comment, InvalidState for one that is decided, superseded or expired.
    """
    texts.reason("Comment", comment)
    before = get(tx, key, now)
    if before.state is not State.PROPOSED:
        raise InvalidState(f"recommendation {key} is {before.state.name.lower()}")
    after = DECISIONS[decision]
    change(tx, recommendation, key, state=after, comment=comment, decided_by=caller.user, decided=now)
    logged = entry(
        caller,
        now,
        f"recommendation.{decision}",
        f"recommendation/{key}",
        reason=comment,
        old=before.state.name,
        new=after.name,
    )
    append(tx, logged, [("recommendation", key)])
    return get(tx, key, now)


def get(tx: Connection, key: str, now: int) -> Advice:
    """Raises NotFound."""
    return _advice(fetch(tx, recommendation, key), now)


def newest(tx: Connection, now: int, limit: int = 10) -> tuple[Advice, ...]:
    """What the slots show: open recommendations first, then the newest."""
    still_open = (recommendation.c.state == State.PROPOSED) & (recommendation.c.expires > now)
    query = select(recommendation).order_by(still_open.desc(), recommendation.c.created.desc()).limit(limit)
    return tuple(_advice(row, now) for row in tx.execute(query))


def _advice(row: Row[tuple[object, ...]], now: int) -> Advice:
    body = json.loads(row.body)
    body["evidence"] = tuple((name, value) for name, value in body["evidence"])
    body["votes"] = tuple(Vote(**vote) for vote in body["votes"])
    recommended = Recommendation(**body)
    state = State(row.state)
    return Advice(
        recommendation=recommended,
        state=State.EXPIRED if state is State.PROPOSED and now >= row.expires else state,
        decided_by=row.decided_by,
        decided=row.decided,
        evidence_digest=_digest(recommended),
    )


def _digest(advice: Recommendation) -> str:
    return hashlib.sha256(json.dumps(advice.evidence).encode()).hexdigest()
