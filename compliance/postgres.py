"""A database of PostgreSQL as `compliance.verify` reads one: in one transaction that sees one committed state."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any, ClassVar, Final

import psycopg

from compliance.verify import Column, Unreadable, Value

KINDS: Final = {"bigint": "INTEGER", "bytea": "BLOB", "text": "TEXT", "double precision": "REAL"}
"""Type of PostgreSQL -> type of SQLite that holds the same values."""

_APPEND_ONLY = """
    BEGIN RAISE EXCEPTION 'the audit log is append-only' USING ERRCODE = 'integrity_constraint_violation'; END
"""
_NEXT = """
    BEGIN
        IF NEW.seq IS DISTINCT FROM (SELECT coalesce(max(seq), -1) + 1 FROM audit_entry) THEN
            RAISE EXCEPTION 'an audit entry takes the next number' USING ERRCODE = 'integrity_constraint_violation';
        END IF;
        RETURN NEW;
    END
"""

PAGE: Final = 5_000
"""Rows fetched at a time."""


class Postgresql:
    """See `compliance.verify.Database`."""

    triggers_wanted: ClassVar[Mapping[str, str]] = {
        "audit_entry_no_update": "CREATE TRIGGER audit_entry_no_update BEFORE UPDATE OR TRUNCATE ON public.audit_entry "
        f"FOR EACH STATEMENT EXECUTE FUNCTION audit_entry_append_only() {_APPEND_ONLY}",
        "audit_entry_no_delete": "CREATE TRIGGER audit_entry_no_delete BEFORE DELETE ON public.audit_entry "
        f"FOR EACH STATEMENT EXECUTE FUNCTION audit_entry_append_only() {_APPEND_ONLY}",
        "audit_entry_next_only": "CREATE TRIGGER audit_entry_next_only BEFORE INSERT ON public.audit_entry "
        f"FOR EACH ROW EXECUTE FUNCTION audit_entry_next() {_NEXT}",
    }

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self._names = itertools.count()

    def rows(self, statement: str, parameters: Sequence[Value] = ()) -> Iterator[tuple[Any, ...]]:
        with self._connection.cursor(name=f"rows{next(self._names)}") as cursor:
            cursor.itersize = PAGE
            cursor.execute(statement.replace("?", "%s"), parameters)
            yield from cursor

    def tables(self) -> set[str]:
        found = self.rows(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace "
            "AND relkind IN ('r', 'p') AND NOT relispartition"
        )
        return {name for (name,) in found}

    def columns(self, table: str) -> list[Column]:
        found = self.rows(
            "SELECT attname, format_type(atttypid, atttypmod), attnotnull, "
            "coalesce(array_position(conkey, attnum), 0) FROM pg_attribute "
            "LEFT JOIN pg_constraint ON conrelid = attrelid AND contype = 'p' "
            "WHERE attrelid = to_regclass(?) AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
            (f'public."{table}"',),
        )
        return [Column(name, KINDS.get(kind, kind), int(required), key) for name, kind, required, key in found]

    def strict(self, table: str) -> bool:
        """PostgreSQL holds every table to its types."""
        return table in self.tables()

    def triggers(self) -> dict[str, str]:
        found = self.rows(
            "SELECT tgname, pg_get_triggerdef(pg_trigger.oid) || ' ' || prosrc || "
            "CASE WHEN tgenabled IN ('O', 'A') THEN '' ELSE ' disabled' END "
            "FROM pg_trigger JOIN pg_proc ON pg_proc.oid = tgfoid "
            "WHERE NOT tgisinternal AND tgparentid = 0"
        )
        return dict(found)

    def damage(self) -> Iterator[str]:
        """What is damaged shows when it is read: every row is."""
        yield from ()


@contextmanager
def opened(address: str, password: str) -> Iterator[Postgresql]:
    """The database at `postgresql://...`; without a password as libpq finds one (PGPASSWORD, .pgpass).

    Raises Unreadable.
    """
    try:
        with closing(psycopg.connect(address.replace("+psycopg", "", 1), password=password or None)) as connection:
            connection.read_only = True
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            yield Postgresql(connection)
    except psycopg.Error as error:
        raise Unreadable(str(error)) from error
