"""Rows by their key, and the audit entry that goes with a change of one."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, Table, insert, select, update

from compliance.audit import Entry
from nodesets.errors import NotFound
from nodesets.model import Caller


def fetch(tx: Connection, table: Table, key: str) -> Row[Any]:
    """The row with this key. Raises NotFound."""
    row = find(tx, table, key)
    if row is None:
        raise NotFound(f"no {table.name.replace('_', ' ')} {key!r}")
    return row


def find(tx: Connection, table: Table, key: str) -> Row[Any] | None:
    """The row with this key, or None."""
    (column,) = table.primary_key
    return tx.execute(select(table).where(column == key)).one_or_none()


def rows_of(tx: Connection, table: Table, batch_id: str) -> Sequence[Row[Any]]:
    """All rows of a batch, by number."""
    return tx.execute(select(table).where(table.c.batch_id == batch_id).order_by(table.c.number)).all()


def add(tx: Connection, table: Table, **values: Any) -> None:
    tx.execute(insert(table).values(values))


def change(tx: Connection, table: Table, key: str, **values: Any) -> None:
    (column,) = table.primary_key
    tx.execute(update(table).where(column == key).values(values))


def entry(caller: Caller, now: int, action: str, record: str, **details: Any) -> Entry:
    """An audit entry about `record` ("batch/B1") by the caller; details: reason, old, new, outcome, on_behalf_of."""
    return Entry(
        time=now,
        action=action,
        actor=caller.user,
        object=record,
        session=caller.session,
        application_uri=caller.application_uri,
        address=caller.address,
        **details,
    )
