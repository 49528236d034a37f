"""The append-only log (compliance.md 2.4): what changed, who did it, when, from where, and why.

    body   RFC 8785 canonical JSON, stored as bytes and never serialised again
    entry  prev || body, prev being the leaf of the entry before
    leaf   SHA-256(0x00 || entry): chain link and RFC 6962 leaf in one

An entry is written in the transaction of the change it records: they are both there, or neither.
A number that JSON would not keep is a string: every float (RFC 8785 writes 1.0 as 1) and integers beyond 2**53.
"""

import hashlib
import json
import time as clock
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import rfc8785
from sqlalchemy import Connection, insert, select

from compliance.verify import (
    COVER,
    COVER_EVENTS,
    EVENTS,
    SEAL,
    ZERO,
    brief,
    event_bytes,
    leaf,
    record_name,
    row_digest,
)
from historian.frames import Head
from historian.retention import Retirement
from historian.schema import audit_entry, metadata
from historian.seal import Sealing
from historian.spool import Gap
from nodesets.errors import InvalidArgument

VERSION: Final = 1
"""Version of the body's form."""

LONGEST_BODY: Final = 65_535 - 32
"""Bytes: a tlog-tiles entry is prev and body behind a 16-bit length."""

MOST_NAMED: Final = 300
"""Layouts, and records, one entry of coverage names: so many fit into its body."""

EXACT: Final = 2**53 - 1
"""Largest integer RFC 8785 allows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One event of the log. `time` is the server's clock, never a client's."""

    time: int
    """ns UTC."""
    action: str
    """What was done: `batch.start`, `user.disable`, `history.cover`."""
    actor: str
    """Account name; `os:NAME` for a command on the machine, `enose` for the service's own acts."""
    object: str
    """What it was done to: the node or record."""
    outcome: str = "Good"
    """Name of the StatusCode."""
    reason: str = ""
    old: Any = None
    """Value before: anything JSON has, and floats, bytes (as hex), enums."""
    new: Any = None
    on_behalf_of: str = ""
    session: str = ""
    application_uri: str = ""
    address: str = ""


def append(tx: Connection, entry: Entry, records: Sequence[tuple[str, int | str]] = ()) -> int:
    """Log `entry` in the transaction of the change it records; returns its sequence number.

    `records` names the rows the change made, changed or deleted, as (table, primary key); their digests as of now,
    null for a row that is not there, go into the body. Every write to a covered table is followed by this.
    Raises InvalidArgument when the entry is longer than a log entry can be.
    """
    digests = {record_name(table, key): _digest(tx, table, key) for table, key in records}
    body = _body(entry, digests)
    last = tx.execute(select(audit_entry.c.seq, audit_entry.c.leaf).order_by(audit_entry.c.seq.desc()).limit(1)).first()
    seq, prev = (0, ZERO) if last is None else (last.seq + 1, last.leaf)
    tx.execute(
        insert(audit_entry).values(
            seq=seq,
            prev=prev,
            body=body,
            leaf=leaf(prev, body),
            schema_ver=VERSION,
            ts=entry.time,
            actor=entry.actor,
            action=entry.action,
            object=entry.object,
            outcome=entry.outcome,
        )
    )
    return seq


def head(tx: Connection) -> tuple[int, str]:
    """How many entries the log has, and the leaf (hex) of the newest; empty before the first."""
    last = tx.execute(select(audit_entry.c.seq, audit_entry.c.leaf).order_by(audit_entry.c.seq.desc()).limit(1)).first()
    return (0, "") if last is None else (last.seq + 1, last.leaf.hex())


def note_gap(tx: Connection, now: int, gap: Gap, why: str) -> None:
    """Log that rows of a group were lost, or set aside."""
    new = {"first": gap.first, "last": gap.last, "count": gap.count or None}
    append(tx, Entry(time=now, action="history.gap", actor="enose", object=f"history/{gap.group}", reason=why, new=new))


def cover_history(tx: Connection, now: int, heads: Mapping[int, Head], made: Sequence[tuple[str, int]]) -> None:
    """Log the newest frame of each layout that has one no entry covers yet, and the rows made; nothing without any.

    A frame's link stands for all frames of its layout before it.
    """
    _cover_events(tx, now)
    covered = _last_covered(tx, COVER, "frame")
    new = sorted((layout, head) for layout, head in heads.items() if head.frame > covered)
    for first in range(0, max(len(new), len(made)), MOST_NAMED):
        named = slice(first, first + MOST_NAMED)
        said = {
            "frame": max((head.frame for _, head in new), default=covered),
            "heads": {str(layout): [head.frame, brief(head.link)] for layout, head in new[named]},
        }
        append(tx, Entry(time=now, action=COVER, actor="enose", object="history", new=said), made[named])


def seal_history(tx: Connection, now: int, sealing: Sealing, made: Sequence[int]) -> None:
    """Log that frames of a layout have become the blocks `made`, of which some may replace earlier ones."""
    entry = Entry(
        time=now,
        action=SEAL,
        actor="enose",
        object=f"layout/{sealing.layout}",
        old={"after": sealing.before.frame, "link": sealing.before.link, "blocks": list(sealing.replaced)},
        new={"frame": sealing.after.frame, "frames": sealing.frames, "link": sealing.after.link, "blocks": list(made)},
    )
    blocks = [("block", number) for number in (*sealing.replaced, *made)]
    append(tx, entry, [*blocks, ("sealed", sealing.layout)])


def retire_history(
    tx: Connection, now: int, retirement: Retirement, made: Mapping[int, Sequence[tuple[str, int]]]
) -> None:
    """Log that blocks of a layout have given way to averages, as its retention says: an entry for each layout."""
    for layout, records in made.items():
        entry = Entry(
            time=now,
            action="history.retire",
            actor="enose",
            object=f"layout/{layout}",
            reason="retention",
            old={"layout": retirement.layout, "blocks": list(retirement.blocks)},
        )
        append(tx, entry, records)


def as_logged(tx: Connection, layout: int, blocks: Sequence[int]) -> bool:
    """Whether blocks of a layout are what the log says of them."""
    said: dict[str, str | None] = {}
    wanted = {record_name("block", number) for number in blocks}
    entries = (
        select(audit_entry.c.body).where(audit_entry.c.object == f"layout/{layout}").order_by(audit_entry.c.seq.desc())
    )
    with tx.execute(entries) as rows:
        for (body,) in rows:
            said = json.loads(body)["records"] | said
            if wanted <= said.keys():
                break
    return all(said.get(record_name("block", number)) == _digest(tx, "block", number) for number in blocks)


def _cover_events(tx: Connection, now: int) -> None:
    """Log the events no entry covers yet."""
    first = _last_covered(tx, COVER_EVENTS, "last") + 1
    digest, last = hashlib.sha256(), 0
    for row in tx.exec_driver_sql(f"{EVENTS} WHERE number >= {first:d} ORDER BY number"):
        digest.update(event_bytes(*row))
        last = row.number
    if last:
        new = {"first": first, "last": last, "digest": digest.hexdigest()}
        append(tx, Entry(time=now, action=COVER_EVENTS, actor="enose", object="events", new=new))


def _last_covered(tx: Connection, action: str, member: str) -> int:
    """The newest frame, or event, an entry of this action covers; 0 when there is none."""
    newest = (
        select(audit_entry.c.body)
        .where(audit_entry.c.action == action)
        .order_by(audit_entry.c.action.desc(), audit_entry.c.seq.desc())
        .limit(1)
    )
    body = tx.execute(newest).scalar()
    return 0 if body is None else int(json.loads(body)["new"].get(member, 0))


def _digest(tx: Connection, table: str, key: int | str) -> str | None:
    """Digest of the row as it stands in this transaction; None when there is none."""
    columns = metadata.tables[table]
    (primary,) = columns.primary_key
    row = tx.execute(select(columns).where(primary == key)).first()
    return None if row is None else row_digest(table, zip(columns.columns.keys(), row, strict=True))


def _body(entry: Entry, records: Mapping[str, str | None]) -> bytes:
    """Canonical JSON of an entry.

    Of a body that would be too long, `old` and `new`, the longer one first, are replaced by their SHA-256 and length:
    {"sha256", "bytes"} of their canonical JSON. The whole of it stands in the record the entry covers.
    """
    said = {
        "v": VERSION,
        "time": str(entry.time),
        "utc_offset": clock.localtime(entry.time // 10**9).tm_gmtoff,
        "action": entry.action,
        "actor": entry.actor,
        "object": entry.object,
        "outcome": entry.outcome,
        "reason": entry.reason,
        "old": _plain(entry.old),
        "new": _plain(entry.new),
        "on_behalf_of": entry.on_behalf_of,
        "session": entry.session,
        "application_uri": entry.application_uri,
        "address": entry.address,
        "records": dict(records),
    }
    body = rfc8785.dumps(said)
    if len(body) <= LONGEST_BODY:
        return body
    contents = {name: rfc8785.dumps(said[name]) for name in ("old", "new")}
    for name in sorted(contents, key=lambda name: len(contents[name]), reverse=True):
        said[name] = {"sha256": hashlib.sha256(contents[name]).hexdigest(), "bytes": len(contents[name])}
        body = rfc8785.dumps(said)
        if len(body) <= LONGEST_BODY:
            return body
    raise InvalidArgument(f"an audit entry of {len(body)} bytes; {LONGEST_BODY} are possible")


def _plain(value: Any) -> Any:
    """The value as RFC 8785 can write it without loss. Raises TypeError for what is none."""
    match value:
        case None | bool():
            return value
        case str():
            return str(value)
        case int():
            return int(value) if abs(value) <= EXACT else str(int(value))
        case float():
            return repr(float(value))
        case bytes():
            return value.hex()
        case Mapping():
            return {str(name): _plain(content) for name, content in value.items()}
        case list() | tuple():
            return [_plain(content) for content in value]
    raise TypeError(f"{type(value).__name__} cannot be written into the audit log")
