"""Online backup and restore: a portable copy of the whole database as one SQLite file, whatever it came from.

    FOLDER/enose.db        every row of every table as of one committed state
    FOLDER/manifest.json   what is in it: digest of the file, end of the audit log, version of the tables

A SQLite database is copied page by page in one read transaction, while the server writes on; one of PostgreSQL row by
row in one snapshot (with years of history PostgreSQL's own tools are faster). A backup restores into either: so a plant
moves from SQLite to PostgreSQL, and back. Keys and certificates are in neither.
"""

import hashlib
import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, Table, create_engine, func, insert, select
from sqlalchemy.exc import DBAPIError

from historian.schema import NEWEST, audit_entry, engine, metadata, migrate, writer_epoch
from nodesets.errors import StorageError

FILE: Final = "enose.db"
MANIFEST: Final = "manifest.json"

PAGES: Final = 2_000
"""Copied between two words of progress."""

ROWS: Final = 2_000
"""Copied at a time."""

Progress = Callable[[float], None]
"""`progress(share)`: 0 to 1, how much is done."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup holds."""

    created: str
    """ISO 8601, UTC."""
    software: str
    schema: str
    """Version of the tables."""
    sha256: str
    """Of the file."""
    entries: int
    """Of the audit log."""
    leaf: str
    """Hex, of the newest entry; empty when there is none."""


class BackupInvalid(StorageError):
    """The backup is not what its manifest says, or cannot be read."""


def back_up(database: Engine, folder: Path, *, created: str, software: str, progress: Progress) -> Manifest:
    """Copy the database an engine of `historian.schema.reading` reads into a new folder.

    The folder is complete once it bears its name: before, it is called FOLDER.part. Raises StorageError.
    """
    part = folder.with_name(f"{folder.name}.part")
    try:
        if folder.exists():
            raise StorageError(f"{folder} is there already")
        part.mkdir(mode=0o700, parents=True)
        file = part / FILE
        os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        with database.connect() as source, source.begin():
            if source.dialect.name == "sqlite":
                _copy_pages(source, file, progress)
            else:
                _copy_rows_to_file(source, file, progress)
        entries, leaf = _end_of_log(file)
        manifest = Manifest(created, software, NEWEST, sha256(file), entries, leaf)
        (part / MANIFEST).write_text(json.dumps(asdict(manifest), indent=1) + "\n")
        for path in (file, part / MANIFEST, part):
            _sync(path)
        part.rename(folder)
        _sync(folder.parent)
    except OSError as error:
        raise StorageError(f"{folder}: {error.strerror}") from error
    except (DBAPIError, sqlite3.Error) as error:
        raise StorageError(f"{folder}: {getattr(error, 'orig', error)}") from error
    return manifest


def examine(folder: Path) -> Manifest:
    """Compare a backup with its manifest and have SQLite check the file. Raises BackupInvalid."""
    try:
        manifest = Manifest(**json.loads((folder / MANIFEST).read_text()))
        if sha256(folder / FILE) != manifest.sha256:
            raise BackupInvalid(f"{folder / FILE} is not what was backed up: its digest differs")
        with closing(_read_only(folder / FILE)) as connection:
            problems = [message for (message,) in connection.execute("PRAGMA integrity_check") if message != "ok"]
        if problems:
            raise BackupInvalid(f"{folder / FILE}: {problems[0]}")
        if (manifest.entries, manifest.leaf) != _end_of_log(folder / FILE):
            raise BackupInvalid(f"{folder / FILE} does not end where its manifest says")
    except OSError as error:
        raise BackupInvalid(f"{folder}: {error.strerror}") from error
    except (ValueError, TypeError, sqlite3.Error) as error:
        raise BackupInvalid(f"{folder}: {error}") from error
    return manifest


def restore(folder: Path, database: Engine, scratch: Path, progress: Progress) -> None:
    """Copy an examined backup into an empty database, all of it or nothing.

    `database` is an engine of `historian.schema.engine`; `scratch` a file that is made, as large as the backup, and
    deleted: in it the tables are brought up to date first. Raises StorageError, also when the database is not empty.
    """
    restore_file(folder, scratch, lambda _: None)
    source = create_engine("sqlite://", creator=lambda: _read_only(scratch))
    try:
        migrate(database)
        with source.connect() as old, database.begin() as new:
            if new.execute(select(func.count()).select_from(audit_entry)).scalar():
                raise StorageError("the database is not empty: restore into a new one")
            _copy_rows(old, new, progress)
    except DBAPIError as error:
        raise StorageError(f"{folder}: {error.orig}") from error
    finally:
        source.dispose()
        scratch.unlink()


def restore_file(folder: Path, file: Path, progress: Progress) -> None:
    """Copy an examined backup to where a SQLite database is to be, and bring its tables up to date.

    Raises StorageError, also when a database is there.
    """
    part = file.with_name(f"{file.name}.part")
    try:
        for there in (file, file.with_name(f"{file.name}-wal")):
            if there.exists():
                raise StorageError(f"{there} is there: move it away first, with the files beside it")
        part.unlink(missing_ok=True)
        os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        with closing(_read_only(folder / FILE)) as source, closing(sqlite3.connect(part)) as target:
            source.backup(target, pages=PAGES, progress=_share(progress))
        _sync(part)
        part.rename(file)
        _sync(file.parent)
    except OSError as error:
        raise StorageError(f"{file}: {error.strerror}") from error
    except sqlite3.Error as error:
        raise StorageError(f"{file}: {error}") from error
    made = engine(f"sqlite:///{file}")
    try:
        migrate(made)
        _leave_one_file(made)
    finally:
        made.dispose()


def _leave_one_file(made: Engine) -> None:
    """No write-ahead log beside the file, which is then whole by itself; the next writer makes one again."""
    with made.connect() as connection:
        raw: sqlite3.Connection = connection.connection.driver_connection  # type: ignore[assignment]
        raw.execute("PRAGMA journal_mode = DELETE")


def _copy_pages(source: Connection, file: Path, progress: Progress) -> None:
    """The transaction keeps the state that is copied, however long it takes and whatever is written meanwhile."""
    source.exec_driver_sql("SELECT count(*) FROM sqlite_master")
    reading: sqlite3.Connection = source.connection.driver_connection  # type: ignore[assignment]
    with closing(sqlite3.connect(file)) as target:
        reading.backup(target, pages=PAGES, progress=_share(progress))
        target.execute("PRAGMA journal_mode = DELETE")


def _share(progress: Progress) -> Callable[[int, int, int], object]:
    return lambda _status, remaining, total: progress(1 - remaining / total if total else 1.0)


def _copy_rows_to_file(source: Connection, file: Path, progress: Progress) -> None:
    made = engine(f"sqlite:///{file}")
    try:
        migrate(made)
        with made.begin() as target:
            _copy_rows(source, target, progress)
        _leave_one_file(made)
    finally:
        made.dispose()


def _copy_rows(source: Connection, target: Connection, progress: Progress) -> None:
    """Every row of every table, in the order their references and the log ask for."""
    tables = [table for table in metadata.sorted_tables if table is not writer_epoch]
    sizes = [source.execute(select(func.count()).select_from(table)).scalar_one() for table in tables]
    done, total = 0, max(1, sum(sizes))
    for table in tables:
        for rows in _rows(source, table):
            _prepare(target, table, rows)
            target.execute(insert(table), rows)
            done += len(rows)
            progress(done / total)
        _continue_numbers(target, table)


def _rows(source: Connection, table: Table) -> Iterator[list[dict[str, Any]]]:
    query = select(table).order_by(*table.primary_key)
    with source.execution_options(yield_per=ROWS).execute(query) as result:
        for part in result.mappings().partitions():
            yield [dict(row) for row in part]


def _prepare(target: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    if target.dialect.name == "postgresql":
        from historian import postgres

        if time := postgres.PARTITIONED.get(table.name):
            postgres.make_months(target, [row[time] for row in rows])


def _continue_numbers(target: Connection, table: Table) -> None:
    """PostgreSQL counts on from the last number it gave itself: tell it of those that were copied."""
    column = table.autoincrement_column
    if target.dialect.name == "postgresql" and column is not None:
        sequence = func.pg_get_serial_sequence(table.name, column.name)
        target.execute(
            select(func.setval(sequence, select(func.coalesce(func.max(column), 0) + 1).scalar_subquery(), False))
        )


def _end_of_log(file: Path) -> tuple[int, str]:
    with closing(_read_only(file)) as connection:
        last = connection.execute("SELECT seq, leaf FROM audit_entry ORDER BY seq DESC LIMIT 1").fetchone()
    return (0, "") if last is None else (last[0] + 1, last[1].hex())


def _read_only(file: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro&immutable=1", uri=True)


def sha256(file: Path) -> str:
    """Hex digest of a file."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _sync(path: Path) -> None:
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
