"""A database, a writer and rows for the tests of the historian and of the audit log."""

import sqlite3
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
from sqlalchemy import BigInteger, Connection, Double, Engine, LargeBinary, insert

import compliance.tables  # noqa: F401 - its tables are in the metadata
from compliance import audit, verify
from historian.postgres import make_months
from historian.schema import engine, layout, metadata, migrate
from historian.writer import Writer
from nodesets.model import Row
from tests.sqlite import migrated_file

NOW = 1_790_000_000_000_000_000
GROUPS = {"EN01": ("EN01.S01", "EN01.S02", "EN01.S03"), "EN02": ("EN02.S01",)}


class SteppedClock:
    """A clock that stands still until it is stepped."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> int:
        return NOW + int(self.seconds * 1e9)

    def monotonic(self) -> float:
        return self.seconds

    async def sleep_until(self, instant: float) -> None:
        self.seconds = max(self.seconds, instant)


def url(path: Path | str) -> str:
    """The address of a file; one of PostgreSQL is one already."""
    return f"sqlite:///{path}" if isinstance(path, Path) else path


@contextmanager
def database(path: Path | str) -> Iterator[Engine]:
    """The writer's engine on a migrated file."""
    made = engine(url(migrated_file(path) if isinstance(path, Path) else path))
    migrate(made)
    try:
        yield made
    finally:
        made.dispose()


@contextmanager
def writing(
    made: Engine,
    groups: Mapping[str, Sequence[str]] = GROUPS,
    *,
    clock: SteppedClock | None = None,
    queue: int = 10_000,
    stream: str = "",
    commit_seconds: float = 0.0,
) -> Iterator[Writer]:
    """A started writer; it commits without waiting for company, unless told for how long."""
    writer = Writer(
        made,
        groups,
        clock=clock or SteppedClock(),
        commit_seconds=commit_seconds,
        queue=queue,
        covered=audit.cover_history,
        stream=stream,
    )
    writer.start()
    try:
        yield writer
    finally:
        writer.close()


def row(group: str, time: int, values: Sequence[float], status: Sequence[int] | None = None) -> Row:
    codes = np.zeros(len(values), np.uint32) if status is None else np.array(status, np.uint32)
    return Row(group=group, source_time=time, received_time=time + 5, values=np.array(values, np.float64), status=codes)


def logged(action: str = "layout.make", **members: object) -> audit.Entry:
    return audit.Entry(time=NOW, action=action, actor="alice", object="layout", **members)  # type: ignore[arg-type]


def make_layout(tx: Connection, group: str, action: str = "layout.make") -> int:
    """A change and its entry, as every operation on a covered table is one."""
    number: int = tx.execute(insert(layout).values(tag_group=group, columns="[]").returning(layout.c.id)).scalar_one()
    audit.append(tx, logged(action), [("layout", number)])
    return number


def populate(tx: Connection) -> None:
    """One row in every covered table, of values that say where they stand, and the entry that covers it."""
    if tx.dialect.name == "postgresql":
        make_months(tx, [7])
    keys: dict[str, object] = {}
    for table in metadata.sorted_tables:
        if table.name in verify.EXEMPT:
            continue
        values: dict[str, object] = {}
        for column in table.columns:
            if column.foreign_keys:
                (reference,) = column.foreign_keys
                values[column.name] = keys[reference.column.table.name]
            elif isinstance(column.type, BigInteger):
                values[column.name] = 7
            elif isinstance(column.type, Double):
                values[column.name] = 1.5
            elif isinstance(column.type, LargeBinary):
                values[column.name] = f"{table.name} {column.name}".encode()
            else:
                values[column.name] = f"{table.name} {column.name}"
        tx.execute(insert(table).values(values))
        (key,) = table.primary_key
        keys[table.name] = values[key.name]
        audit.append(tx, logged("row.make", new=values), [(table.name, values[key.name])])  # type: ignore[list-item]


@contextmanager
def behind_the_log(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection of someone who owns the file: the triggers are gone while it is open, and back afterwards."""
    with closing(sqlite3.connect(path)) as connection:
        triggers = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        yield connection
        for _, statement in triggers:
            connection.execute(statement)
        connection.commit()


def child(module: str, *arguments: str) -> list[str]:
    """The command of a process of its own."""
    return [sys.executable, "-m", f"tests.unit.historian.{module}", *arguments]
