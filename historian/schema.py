"""Tables of the one database, and how a connection to it is made.

Types are few and strict: what a column holds is what it was given, in SQLite STRICT tables as in PostgreSQL.

    layout        columns of a tag group at one time of its life; frames point at it
    frame         one row of values of a group at one instant
    commit_group  the frames of one commit, with the SHA-256 of their canonical bytes
    audit_entry   the append-only log (compliance.md 2.4)
    event_log     every event with all its fields; event_source and event_layout say where from and which fields
    alarm_state   how an alarm stands that ever moved
    alarm_transition  what was told of alarms, in order

`compliance.tables` adds its own tables to the same `metadata`.
"""

import os
import sqlite3
from pathlib import Path
from typing import Any, Final

from sqlalchemy import (
    REAL,
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
from sqlalchemy.exc import DBAPIError
from sqlalchemy.types import TypeEngine

from nodesets.errors import ConfigurationError, Mistake, StorageError

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
    Column("columns", String, nullable=False),  # JSON array of the tags' node identifiers, in column order
    UniqueConstraint("tag_group", "columns"),
    sqlite_strict=True,
)

frame = Table(
    "frame",
    metadata,
    Column("id", Int, primary_key=True, autoincrement=False),  # 1, 2, 3, ... in order of recording, gapless
    Column("layout", Int, ForeignKey(layout.c.id), nullable=False),
    Column("source_time", Int, nullable=False),
    Column("received_time", Int, nullable=False),
    Column("status", Bytes, nullable=False),  # u4 little endian, one a column, or a single one when all are equal
    Column("samples", Bytes, nullable=False),  # f8 little endian, one a column
    Index("frame_time", "layout", "source_time"),
    sqlite_strict=True,
)

commit_group = Table(
    "commit_group",
    metadata,
    Column("sequence", Int, primary_key=True, autoincrement=False),  # 1, 2, 3, ... gapless
    Column("first_frame", Int, nullable=False),
    Column("last_frame", Int, nullable=False),
    Column("digest", Bytes, nullable=False),  # SHA-256 of the frames' canonical bytes, in order of id
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

BUSY_SECONDS: Final = 5.0
"""Longest a connection waits for a lock another process holds, e.g. an online backup's."""

WAL_LIMIT: Final = 64 * 2**20
"""Bytes the write-ahead log is cut back to after a checkpoint, so that one long read does not cost disk for ever."""


def _file(url: str) -> Path:
    """The database file a URL names. Raises ConfigurationError for anything but a SQLite file."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite" or not parsed.database or parsed.database == ":memory:":
        raise ConfigurationError([Mistake("storage", f"not a SQLite file: {parsed.render_as_string()}")])
    return Path(parsed.database)


def _set(connection: sqlite3.Connection, **pragmas: str | int) -> None:
    connection.isolation_level = None  # transactions are opened by _begin, not guessed by the module
    for name, value in pragmas.items():
        connection.execute(f"PRAGMA {name} = {value}")


def engine(url: str) -> Engine:
    """The engine of the one writer of `sqlite:///FILE`; makes the file, readable by its owner alone.

    Every transaction takes the write lock at its beginning and is on the disk when its commit returns.
    SQLite gives the files beside the database (-wal, -shm) the mode of the database.
    Raises ConfigurationError for anything but a SQLite file, StorageError when it cannot be opened.
    """
    path = _file(url)
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        path.chmod(0o600)
    except OSError as error:
        raise StorageError(str(error)) from error
    made = create_engine(url, connect_args={"timeout": BUSY_SECONDS})

    @event.listens_for(made, "connect")
    def _connect(connection: sqlite3.Connection, _record: Any) -> None:
        _set(connection, journal_mode="WAL", synchronous="FULL", foreign_keys=1, journal_size_limit=WAL_LIMIT)

    @event.listens_for(made, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return made


def reading(url: str) -> Engine:
    """An engine whose connections cannot write; each transaction sees one committed state."""
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


def migrate(database: Engine) -> None:
    """Bring the tables to the newest version, in one transaction: wholly or not at all.

    Raises ConfigurationError for a database a later version of this program has written, StorageError.
    """
    try:
        if _version(database) == NEWEST:
            return
        from historian.upgrade import upgrade  # a tenth of a second and 10 MB that a database needs once

        upgrade(database, MIGRATIONS)
    except DBAPIError as error:
        raise StorageError(f"{database.url.database}: {error.orig}") from error


def _version(database: Engine) -> str | None:
    """What the tables are at; None for an empty database."""
    if not inspect(database).has_table("alembic_version"):
        return None
    with database.connect() as connection:
        return connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
