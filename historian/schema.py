"""Tables of the one database, and how a connection to it is made.

Types are few and strict: what a column holds is what it was given, in SQLite STRICT tables as in PostgreSQL.

    layout        columns of a tag group at one time of its life; frames and blocks point at it
    frame         one row of values of a group at one instant, until it is sealed
    block         sealed frames of a layout within one hour, as compressed columns (`historian.chunks`)
    sealed        how far a layout's frames have become blocks
    text          a text that samples refer to by its number
    correction    what people changed of the history, above the frames, which never change (process rule 13)
    annotation    what people noted of it
    audit_entry   the append-only log (compliance.md 2.4)
    event_log     every event with all its fields; event_source and event_layout say where from and which fields
    alarm_state   how an alarm stands that ever moved
    alarm_transition  what was told of alarms, in order
    forwarded     how far the rows of a spool are recorded
    writer_epoch  which server may write, where several can reach the database

`compliance.tables` adds its own tables to the same `metadata`.
"""

import os
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from sqlalchemy import (
    REAL,
    URL,
    BigInteger,
    Column,
    Connection,
    Double,
    Engine,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    create_engine,
    event,
    inspect,
    make_url,
)
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.types import TypeEngine

from nodesets.errors import ConfigurationError, Mistake, StorageError


@dataclass(frozen=True, slots=True)
class Database:
    """Where a database is: `sqlite:///FILE` or `postgresql+psycopg://USER@HOST/DATABASE`."""

    url: str
    password: str = field(default="", repr=False)


Int = BigInteger().with_variant(Integer(), "sqlite")
"""Signed 64-bit integer; SQLite STRICT knows it as INTEGER. Times are ns UTC."""
Real: TypeEngine[float] = Double().with_variant(REAL(), "sqlite")
"""IEEE 754 double; holds no NaN in SQLite: use NULL."""
Bytes = LargeBinary()
String = Text()

metadata = MetaData()

MIGRATIONS = Path(__file__).parent / "migrations"
NEWEST = max(path.stem.partition("_")[0] for path in MIGRATIONS.glob("versions/[0-9]*.py"))
"""Version of the tables as this program knows them."""

layout = Table(
    "layout",
    metadata,
    Column("id", Int, primary_key=True, autoincrement=True),
    Column("tag_group", String, nullable=False),
    Column("columns", String, nullable=False),  # JSON array in column order (`frames.Column`)
    UniqueConstraint("tag_group", "columns"),
    sqlite_strict=True,
)

frame = Table(
    "frame",
    metadata,
    Column("layout", Int, ForeignKey(layout.c.id), primary_key=True),
    Column("source_time", Int, primary_key=True),
    Column("id", Int, primary_key=True, autoincrement=False),  # 1, 2, 3, ... in order of recording
    Column("received_time", Int, nullable=False),
    Column("late", Int, nullable=False),  # 0: not older than any frame of its layout that has a 0 here; else 1
    Column("status", Bytes, nullable=False),  # u4 little endian, one a column, or a single one when all are equal
    Column("samples", Bytes, nullable=False),  # the columns' cells, 8 bytes each, little endian
    Column("link", Bytes, nullable=False),  # SHA-256 of the link before it in its layout and of its canonical bytes
    sqlite_strict=True,
    sqlite_with_rowid=False,  # a layout's frames lie together in order of time: read, and deleted, side by side
)
Index("frame_late", frame.c.layout, frame.c.id, sqlite_where=frame.c.late == 1, postgresql_where=frame.c.late == 1)

block = Table(
    "block",
    metadata,
    Column("id", Int, primary_key=True, autoincrement=True),  # never used again
    Column("layout", Int, ForeignKey(layout.c.id), nullable=False),
    Column("first_time", Int, nullable=False),  # source times; blocks of a layout do not overlap
    Column("last_time", Int, nullable=False),
    Column("size", Int, nullable=False),  # rows
    Column("statistics", Bytes, nullable=False),  # `chunks.Encoded`
    Column("clock", Bytes, nullable=False),
    Column("columns", Bytes, nullable=False),
    Index("block_first", "layout", "first_time"),
    Index("block_last", "layout", "last_time"),
    sqlite_strict=True,
    sqlite_autoincrement=True,
)

sealed = Table(
    "sealed",
    metadata,
    Column("layout", Int, ForeignKey(layout.c.id), primary_key=True, autoincrement=False),
    Column("frame", Int, nullable=False),  # the newest sealed one; all of the layout before it are sealed too
    Column("link", Bytes, nullable=False),  # that of this frame
    sqlite_strict=True,
)

text = Table(
    "text",
    metadata,
    Column("id", Int, primary_key=True, autoincrement=True),
    Column("content", String, nullable=False, unique=True),
    sqlite_strict=True,
)

correction = Table(
    "correction",
    metadata,
    Column("id", Int, primary_key=True, autoincrement=True),
    Column("tag", String, nullable=False),
    Column("source_time", Int, nullable=False),
    Column("update_type", Int, nullable=False),  # Part 11 6.6.5: 1 insert, 2 replace, 3 update, 4 delete
    Column("made", Int, nullable=False),
    Column("user_name", String, nullable=False),
    Column("reason", String, nullable=False),
    Column("form", String, nullable=False),  # numpy type of the values
    Column("old_value", Bytes, nullable=True),  # what was there before: NULL when nothing was
    Column("old_status", Int, nullable=True),
    Column("old_received", Int, nullable=True),
    Column("new_value", Bytes, nullable=True),  # what is there since: NULL after a deletion
    Column("new_status", Int, nullable=True),
    Column("new_received", Int, nullable=True),
    Index("correction_time", "tag", "source_time"),
    sqlite_strict=True,
)

annotation = Table(
    "annotation",
    metadata,
    Column("id", Int, primary_key=True, autoincrement=True),
    Column("tag", String, nullable=False),
    Column("source_time", Int, nullable=False),
    Column("user_name", String, nullable=False),  # one annotation of a user at a time: the newest row counts
    Column("message", String, nullable=False),
    Column("made", Int, nullable=False),
    Column("removed", Int, nullable=False),  # 1: there is none any more
    Index("annotation_time", "tag", "source_time"),
    sqlite_strict=True,
)

audit_entry = Table(
    "audit_entry",
    metadata,
    Column("seq", Int, primary_key=True, autoincrement=False),  # 0, 1, 2, ... gapless
    Column("prev", Bytes, nullable=False),  # leaf of entry seq - 1; 32 zero bytes for the first
    Column("body", Bytes, nullable=False),  # RFC 8785 JSON, never rewritten; the only thing a verifier trusts
    Column("leaf", Bytes, nullable=False),  # SHA-256(0x00 || prev || body)
    Column("schema_ver", Int, nullable=False),
    Column("ts", Int, nullable=False),  # from here on: copies of members of the body, for queries only
    Column("actor", String, nullable=False),
    Column("action", String, nullable=False),
    Column("object", String, nullable=False),
    Column("outcome", String, nullable=False),
    Index("audit_entry_ts", "ts"),
    Index("audit_entry_object", "object", "seq"),
    Index("audit_entry_action", "action", "seq"),
    sqlite_strict=True,
)

event_source = Table(
    "event_source",
    metadata,
    Column("id", Int, primary_key=True, autoincrement=True),
    Column("node", String, nullable=False, unique=True),  # NodeId as text
    sqlite_strict=True,
)

event_layout = Table(
    "event_layout",
    metadata,
    Column("id", Int, primary_key=True, autoincrement=True),
    Column("event_type", String, nullable=False),  # NodeId as text
    Column("paths", String, nullable=False),  # JSON array of the fields' browse paths, in the order of the values
    UniqueConstraint("event_type", "paths"),
    sqlite_strict=True,
)

event_log = Table(
    "event_log",
    metadata,
    Column("number", Int, primary_key=True, autoincrement=True),  # in order of recording
    Column("time", Int, nullable=False),
    Column("severity", Int, nullable=False),
    Column("source", Int, ForeignKey(event_source.c.id), nullable=False),
    Column("layout", Int, ForeignKey(event_layout.c.id), nullable=False),
    Column("fields", Bytes, nullable=False),
    Index("event_log_time", "time", "number", "severity", "source", "layout"),
    sqlite_strict=True,
)

alarm_state = Table(
    "alarm_state",
    metadata,
    Column("node", String, primary_key=True, nullable=False),
    Column("body", String, nullable=False),  # JSON of the condition, branches and EventIds too
    sqlite_strict=True,
)

alarm_transition = Table(
    "alarm_transition",
    metadata,
    Column("id", Int, primary_key=True, autoincrement=True),  # in order of telling
    Column("time", Int, nullable=False),
    Column("event_id", Bytes, nullable=False, unique=True),
    Column("node", String, nullable=False),
    Column("source", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("branch", Int, nullable=False),  # 0: the present state
    Column("state", String, nullable=False),
    Column("level", String, nullable=False),
    Column("severity", Int, nullable=False),
    Column("retain", Int, nullable=False),  # 0 or 1, as the next one
    Column("hidden", Int, nullable=False),
    Column("actor", String, nullable=False),
    Column("comment", String, nullable=False),
    Column("message", String, nullable=False),
    Index("alarm_transition_time", "time"),
    sqlite_strict=True,
)

forwarded = Table(
    "forwarded",
    metadata,
    Column("stream", String, primary_key=True, nullable=False),  # a spool's own name for its numbering
    Column("position", Int, nullable=False),  # every row of the stream up to this number is recorded
    sqlite_strict=True,
)

writer_epoch = Table(
    "writer_epoch",
    metadata,
    Column("id", Int, primary_key=True, autoincrement=False),  # 1
    Column("epoch", Int, nullable=False),  # raised by each server that becomes the writer (historian.postgres)
    sqlite_strict=True,
)

BUSY_SECONDS: Final = 5.0
"""Longest a connection waits for a lock another process holds, e.g. an online backup's."""

WAL_LIMIT: Final = 64 * 2**20
"""Bytes the write-ahead log is cut back to after a checkpoint, so that one long read does not cost disk for ever."""


def _file(url: URL) -> Path:
    """The database file a URL names. Raises ConfigurationError for anything but a SQLite file."""
    if url.get_backend_name() != "sqlite" or not url.database or url.database == ":memory:":
        raise ConfigurationError([Mistake("storage", f"neither SQLite file nor PostgreSQL: {url.render_as_string()}")])
    return Path(url.database)


def _of_postgresql(url: URL) -> bool:
    """Raises ConfigurationError for an address of PostgreSQL when its driver is not installed."""
    if url.drivername != "postgresql+psycopg":
        return False
    if find_spec("psycopg") is None:
        raise ConfigurationError([Mistake("storage.url", "PostgreSQL needs the extra enose[postgres]")])
    return True


def _set(connection: sqlite3.Connection, **pragmas: str | int) -> None:
    connection.isolation_level = None  # transactions are opened by _begin, not guessed by the module
    for name, value in pragmas.items():
        connection.execute(f"PRAGMA {name} = {value}")


def engine(address: str, password: str = "") -> Engine:
    """The engine of the one writer of `sqlite:///FILE` or `postgresql+psycopg://USER@HOST/DATABASE`.

    Every transaction takes the write lock at its beginning and is on the disk when its commit returns.
    A file is made, readable by its owner alone; SQLite gives the files beside it (-wal, -shm) the same mode.
    Raises ConfigurationError for any other address, StorageError when the file cannot be opened.
    """
    url = make_url(address)
    if _of_postgresql(url):
        from historian import postgres

        return postgres.engine(url, password)
    path = _file(url)
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        path.chmod(0o600)
    except OSError as error:
        raise StorageError(str(error)) from error
    made = create_engine(url, connect_args={"timeout": BUSY_SECONDS})
    opened = _identity(path)

    @event.listens_for(made, "connect")
    def _connect(connection: sqlite3.Connection, _record: Any) -> None:
        _set(connection, journal_mode="WAL", synchronous="FULL", foreign_keys=1, journal_size_limit=WAL_LIMIT)

    @event.listens_for(made, "begin")
    def _begin(connection: Connection) -> None:
        if _identity(path) != opened:
            raise _gone(path)
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return made


def _identity(path: Path) -> tuple[int, int] | None:
    """Of the file that bears a name; None when there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _gone(path: Path) -> OperationalError:
    """With a write-ahead log SQLite goes on writing into a file that was moved, replaced or deleted, unseen."""
    error = sqlite3.OperationalError(f"{path} was moved away or replaced")
    error.sqlite_errorcode = sqlite3.SQLITE_READONLY_DBMOVED
    return OperationalError("BEGIN", None, error)


def reading(address: str, password: str = "") -> Engine:
    """An engine whose connections cannot write; each transaction sees one committed state."""
    url = make_url(address)
    if _of_postgresql(url):
        from historian import postgres

        return postgres.reading(url, password)
    path = _file(url).resolve()

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=BUSY_SECONDS, check_same_thread=False)

    made = create_engine(url, creator=connect)

    @event.listens_for(made, "connect")
    def _connect(connection: sqlite3.Connection, _record: Any) -> None:
        _set(connection, query_only=1)

    @event.listens_for(made, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    return made


def insert_rows(tx: Connection, table: Table, records: Sequence[tuple[Any, ...]], times: Iterable[int]) -> None:
    """Insert many whole rows of a table of history, with these times, as fast as the database takes them."""
    if tx.dialect.name == "postgresql":
        from historian import postgres

        postgres.insert(tx, table, records, times)
    else:
        marks = ", ".join("?" * len(table.columns))
        tx.exec_driver_sql(f"INSERT INTO {table.name} VALUES ({marks})", records)  # noqa: S608


def migrate(database: Engine) -> None:
    """Bring the tables to the newest version, in one transaction, wholly or not at all, and become the writer.

    Raises ConfigurationError for a database a later version of this program has written, StorageError.
    """
    try:
        if _version(database) != NEWEST:
            from historian.upgrade import upgrade  # a tenth of a second and 10 MB that a database needs once

            upgrade(database, MIGRATIONS)
        if database.dialect.name == "postgresql":
            from historian import postgres

            postgres.claim(database)
    except DBAPIError as error:
        raise StorageError(f"{database.url.database}: {error.orig}") from error


def _version(database: Engine) -> str | None:
    """What the tables are at; None for an empty database."""
    if not inspect(database).has_table("alembic_version"):
        return None
    with database.connect() as connection:
        return connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
