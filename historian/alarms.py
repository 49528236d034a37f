"""Alarms on the disk: how each stands, and what was told of them. What they mean is not known here."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import Connection, bindparam, func, insert, select, update

from historian.schema import alarm_state, alarm_transition


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """One notification, as it was told."""

    time: int
    """ns UTC."""
    event_id: bytes
    node: str
    source: str
    kind: str
    branch: int
    """0: the present state."""
    state: str
    level: str
    """Empty while not active."""
    severity: int
    retain: bool
    hidden: bool
    """SuppressedOrShelved."""
    actor: str
    """Who acted last; empty: nobody did."""
    comment: str
    message: str


def save(tx: Connection, states: Mapping[str, str], told: Sequence[Transition]) -> list[tuple[str, int | str]]:
    """Record what changed: states by node as JSON, and what is to be told of it, in this order.

    Returns (table, key) of the rows written, for the audit log.
    """
    known = set(tx.execute(select(alarm_state.c.node).where(alarm_state.c.node.in_(states))).scalars())
    if known:
        changed = update(alarm_state).where(alarm_state.c.node == bindparam("name")).values(body=bindparam("new"))
        tx.execute(changed, [{"name": node, "new": states[node]} for node in sorted(known)])
    if states.keys() - known:
        tx.execute(insert(alarm_state), [{"node": n, "body": b} for n, b in states.items() if n not in known])
    first = (tx.execute(select(func.max(alarm_transition.c.id))).scalar() or 0) + 1
    numbers = range(first, first + len(told))
    if told:
        tx.execute(insert(alarm_transition), [_row(t) | {"id": n} for t, n in zip(told, numbers, strict=True)])
    return [*(("alarm_state", node) for node in states), *(("alarm_transition", n) for n in numbers)]


def _row(transition: Transition) -> dict[str, object]:
    flags = {"retain": int(transition.retain), "hidden": int(transition.hidden)}
    return asdict(transition) | flags


def load(tx: Connection) -> dict[str, str]:
    """States by node."""
    return {row.node: row.body for row in tx.execute(select(alarm_state))}


def told(tx: Connection, start: int, end: int) -> Iterable[Transition]:
    """What was told with start <= time < end (ns UTC), in order."""
    columns = [c for c in alarm_transition.columns if c.name != "id"]
    rows = select(*columns).where(alarm_transition.c.time >= start, alarm_transition.c.time < end)
    for row in tx.execute(rows.order_by(alarm_transition.c.id)):
        values = row._asdict()
        yield Transition(**values | {"retain": bool(row.retain), "hidden": bool(row.hidden)})
