"""PostgreSQL as the database: durable connections, one fenced writer, months as partitions, rows by COPY.

A server becomes the writer by raising the epoch. Every transaction of a writer takes an advisory lock and fails when
its epoch is not the newest: a server that was paused, or cut off, and comes back can write nothing more (F19, F21).
While the connection of the writer lives, a session lock keeps a second server from becoming it by mistake. Both need a
connection of our own: no pooler that shares them between transactions.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from weakref import WeakKeyDictionary

import psycopg
from psycopg.types.numeric import FloatDumper
from sqlalchemy import URL, Connection, Engine, ExceptionContext, Table, create_engine, event, text
from sqlalchemy.exc import DBAPIError

from nodesets.errors import StorageError

CONNECT_SECONDS: Final = 5
LOCK_SECONDS: Final = 5
"""Longest a statement of the writer waits for a lock, e.g. a new month's for a long read."""

TAKEOVER_SECONDS: Final = 5.0
"""Longest a server waits for the one before it to be gone."""

READ_ONLY: Final = "25006"
"""SQLSTATE of a database one cannot write: a primary that became a standby. Only a new connection finds another."""

SESSION_LOCK: Final = 7310000
"""Key of the advisory lock the connection of the writer holds; keys are of one database each."""

PARTITIONED: Final = {"frame": "source_time", "block": "first_time"}
"""Tables of history, and the time by whose month their rows lie apart (migration 0006)."""

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
FIRST: Final = -(2**63)
LAST: Final = 2**63 - 1

_REFUSE = """
DO $$ BEGIN
    RAISE EXCEPTION 'another server writes to this database' USING ERRCODE = '55P03';
END $$
"""


@dataclass(slots=True)
class _Writing:
    """What belongs to the engine of a writer."""

    epoch: int | None = None
    months: set[int] = field(default_factory=set)
    """There are partitions of these (months since year 0)."""


_WRITING: WeakKeyDictionary[Engine, _Writing] = WeakKeyDictionary()


class _NullForNan(FloatDumper):
    """NaN is NULL, as in SQLite: the log hashes what is stored."""

    def dump(self, obj: float) -> Any:
        return None if obj != obj else super().dump(obj)


def _arguments(password: str) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "connect_timeout": CONNECT_SECONDS,
        "application_name": "enose",
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
    }
    return arguments | ({"password": password} if password else {})


def engine(url: URL, password: str) -> Engine:
    """The engine of the one writer: one connection, its commits on the disk (and on synchronous standbys) when they
    return. It writes once `claim` has made it the writer.
    """
    options = f"-c lock_timeout={LOCK_SECONDS}s -c timezone=UTC -c client_min_messages=warning"
    made = create_engine(url, pool_size=1, max_overflow=0, connect_args={**_arguments(password), "options": options})
    writing = _WRITING[made] = _Writing()

    @event.listens_for(made, "connect")
    def _connect(connection: psycopg.Connection[Any], _record: Any) -> None:
        _prepare(connection)
        with connection.cursor() as cursor:
            _require_durability(cursor)
        connection.commit()
        _lock(connection)

    @event.listens_for(made, "begin")
    def _begin(connection: Connection) -> None:
        if writing.epoch is not None:
            connection.exec_driver_sql("SELECT enose_write(%s)", (writing.epoch,))

    @event.listens_for(made, "handle_error")
    def _error(context: ExceptionContext) -> None:
        if getattr(context.original_exception, "sqlstate", None) == READ_ONLY:
            context.is_disconnect = True

    @event.listens_for(made, "rollback")
    def _rollback(_connection: Connection) -> None:
        writing.months.clear()

    return made


def reading(url: URL, password: str) -> Engine:
    """An engine whose connections cannot write; each transaction sees one committed state."""
    options = "-c default_transaction_read_only=on -c timezone=UTC"
    made = create_engine(
        url,
        isolation_level="REPEATABLE READ",
        pool_size=8,
        execution_options={"stream_results": True, "max_row_buffer": 100},  # who stops early has not fetched it all
        connect_args={**_arguments(password), "options": options},
    )
    event.listen(made, "connect", lambda connection, _record: _prepare(connection))
    return made


def _prepare(connection: psycopg.Connection[Any]) -> None:
    connection.adapters.register_dumper(float, _NullForNan)
    connection.adapters.register_dumper("numpy.float64", _NullForNan)


def _lock(connection: psycopg.Connection[Any]) -> None:
    """Hold the session lock. The database may take a moment to notice that a server that had it is gone."""
    milliseconds = str(round(TAKEOVER_SECONDS * 1000))
    try:
        connection.execute("SELECT set_config('lock_timeout', %s, true)", (milliseconds,))
        connection.execute("SELECT pg_advisory_lock(%s)", (SESSION_LOCK,))
        connection.commit()
    except psycopg.errors.LockNotAvailable:
        connection.rollback()
        connection.execute(_REFUSE)


def _require_durability(cursor: psycopg.Cursor[Any]) -> None:
    """What is committed survives a power failure, or nothing is written. Raises StorageError."""
    cursor.execute("SELECT name, setting FROM pg_settings WHERE name IN ('fsync', 'full_page_writes')")
    off = [name for name, setting in cursor.fetchall() if setting != "on"]
    if off:
        raise StorageError(f"the database runs with {', '.join(off)} off: a power failure would lose what is recorded")
    cursor.execute("SELECT current_setting('synchronous_commit')")
    if cursor.fetchone() not in {("on",), ("remote_apply",)}:
        cursor.execute("SET synchronous_commit = on")


def claim(database: Engine) -> None:
    """Become the writer; whoever was it can write nothing more. Raises DBAPIError."""
    writing = _WRITING[database]
    writing.epoch = None
    with database.begin() as tx:
        tx.exec_driver_sql("SELECT pg_advisory_xact_lock(7310001)")
        raised = text("UPDATE writer_epoch SET epoch = epoch + 1 WHERE id = 1 RETURNING epoch")
        epoch: int = tx.execute(raised).scalar_one()
    writing.epoch = epoch


def insert(tx: Connection, table: Table, records: Sequence[tuple[Any, ...]], times: Iterable[int]) -> None:
    """Insert records, whole rows of a partitioned table with these times, by COPY. Raises DBAPIError."""
    make_months(tx, times)
    names = ", ".join(column.name for column in table.columns)
    kinds = [column.type.compile(tx.dialect).lower() for column in table.columns]
    raw: psycopg.Connection[Any] = tx.connection.driver_connection  # type: ignore[assignment]
    try:
        with raw.cursor() as cursor, cursor.copy(f"COPY {table.name} ({names}) FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types(kinds)
            for record in records:
                copy.write_row(record)
    except psycopg.Error as error:
        lost = bool(raw.closed) or error.sqlstate == READ_ONLY
        if lost:
            tx.invalidate(error)
        raise DBAPIError(f"COPY {table.name}", None, error, connection_invalidated=lost) from error


def make_months(tx: Connection, times: Iterable[int]) -> None:
    """Make the partitions rows of these times go into, and those of the month after them."""
    known = _WRITING[tx.engine].months
    wanted = {number for time in times for number in (_month(time), _month(time) + 1)} - known
    for number in sorted(wanted):
        first, last = _bound(number), _bound(number + 1)
        if first == "MAXVALUE":
            continue
        for table in PARTITIONED:
            tx.exec_driver_sql(
                f"CREATE TABLE IF NOT EXISTS {table}_y{number // 12}m{number % 12 + 1:02} "
                f"PARTITION OF {table} FOR VALUES FROM ({first}) TO ({last})"
            )
    known |= wanted


def _month(time: int) -> int:
    at = EPOCH + timedelta(microseconds=time // 1000)
    return at.year * 12 + at.month - 1


def _bound(number: int) -> str:
    """First instant of a month as a bound of a partition."""
    since = datetime(number // 12, number % 12 + 1, 1, tzinfo=UTC) - EPOCH
    time = (since.days * 86_400 + since.seconds) * 10**9
    return "MINVALUE" if time < FIRST else "MAXVALUE" if time > LAST else str(time)
