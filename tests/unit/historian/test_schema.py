"""The tables as a user's disk has them."""

import asyncio
import hashlib
import os
import sqlite3
import struct
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import BigInteger, Double, Engine, LargeBinary, Text, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import OperationalError
from sqlalchemy.schema import CreateTable

from compliance import audit, verify
from historian.query import Reader
from historian.schema import MIGRATIONS, NEWEST, engine, metadata, migrate, reading
from nodesets.errors import ConfigurationError, StorageError
from tests.unit.historian.support import behind_the_log, database, logged, url, writing


def test_migrations_make_the_tables_the_program_works_with(tmp_path: Path) -> None:
    # A migration is frozen, the tables go on: the sum of the migrations must be today's tables.
    with database(tmp_path / "enose.db") as made, made.begin() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_every_table_is_strict_and_of_the_four_types(tmp_path: Path) -> None:
    # A STRICT table stops a text swapped for a BLOB (compliance.md 2.3); the four types give the verifier, which
    # reads with sqlite3 alone, the very values the audit log hashed.
    with database(tmp_path / "enose.db"):
        pass
    with closing(sqlite3.connect(tmp_path / "enose.db")) as connection:
        loose = connection.execute(
            "SELECT name FROM pragma_table_list WHERE type = 'table' AND NOT strict AND name NOT LIKE 'sqlite_%'"
        ).fetchall()
    assert loose == [("alembic_version",)]
    for table in metadata.tables.values():
        assert {type(column.type) for column in table.columns} <= {BigInteger, Double, LargeBinary, Text}
        assert CreateTable(table).compile(dialect=postgresql.dialect())


def test_only_the_owner_can_read_what_the_database_writes(tmp_path: Path) -> None:
    # Hashes of passwords and production data: 0600, whatever the umask and whatever an earlier file had.
    path = tmp_path / "enose.db"
    path.touch(0o644)
    before = os.umask(0)
    try:
        with database(path) as made, made.connect():
            modes = {file.name: file.stat().st_mode & 0o777 for file in tmp_path.iterdir()}
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(("enose.db", "enose.db-wal", "enose.db-shm"), 0o600)


def test_a_migration_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    # F24: the transaction is rolled back as a whole.
    made = engine(url(tmp_path / "enose.db"))
    with made.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE layout (x)")
    with pytest.raises(StorageError, match="already exists"):
        migrate(made)
    with made.begin() as connection:
        assert connection.execute(text("SELECT name FROM sqlite_master")).scalars().all() == ["layout"]
    made.dispose()


def first_release(path: Path, samples: bytes) -> Engine:
    """A database as 0.1 wrote it: two layouts, five frames of which one came late, in two commits."""
    made = engine(url(path))
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with made.begin() as tx:
        config.attributes["connection"] = tx
        command.upgrade(config, "0001")
        for number in (1, 2):
            tx.exec_driver_sql("INSERT INTO layout VALUES (?, ?, ?)", (number, f"EN{number}", f'["EN{number}.S01"]'))
        frames = [(1, 1, 10), (2, 2, 10), (3, 1, 30), (4, 1, 20), (5, 2, 20)]
        for sequence, (first, last) in enumerate(((1, 3), (4, 5)), 1):
            digest = hashlib.sha256()
            for number, of, time in frames[first - 1 : last]:
                row = (number, of, time, time + 1, bytes(4), struct.pack("<d", number))
                digest.update(struct.pack("<4q2I", *row[:4], 4, 8) + row[4] + row[5])
                tx.exec_driver_sql("INSERT INTO frame VALUES (?, ?, ?, ?, ?, ?)", (*row[:5], samples or row[5]))
            group = (sequence, first, last, digest.digest())
            tx.exec_driver_sql("INSERT INTO commit_group VALUES (?, ?, ?, ?)", group)
    return made


def test_the_frames_of_the_first_release_come_back(tmp_path: Path) -> None:
    # Each where and as it was; linked, so that from now on a change of one is found.
    path = tmp_path / "enose.db"
    made = first_release(path, b"")
    migrate(made)
    with writing(made, {"EN1": ["EN1.S01"]}):
        pass
    made.dispose()
    reader = Reader(reading(url(path)))
    page = asyncio.run(reader.read_raw("EN1.S01", 0, None, 10))
    reader.close()
    assert (page.times.tolist(), page.values.tolist()) == ([10, 20, 30], [1.0, 4.0, 3.0])
    report = verify.check(path)
    assert [p for p in report.problems if p.table == "frame"] == []
    assert (report.frames, report.uncovered_frames) == (5, 0)
    with behind_the_log(path) as db:
        db.execute("UPDATE frame SET received_time = 0 WHERE id = 4")
    assert any(str(problem).startswith("frame/4: not as recorded") for problem in verify.check(path).problems)


def test_altered_frames_of_the_first_release_are_not_migrated(tmp_path: Path) -> None:
    # They would get a link that bears them out.
    made = first_release(tmp_path / "enose.db", bytes(8))
    with pytest.raises(ConfigurationError, match="frames 1 to 3 are not as they were recorded"):
        migrate(made)
    with made.begin() as tx:
        assert tx.exec_driver_sql("SELECT count(*) FROM commit_group").scalar() == 2
    made.dispose()


def test_the_newest_version_is_the_head_of_the_migrations() -> None:
    # By it a database is known to need nothing, without Alembic.
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_current_head() == NEWEST


def test_a_database_of_a_later_version_is_refused(tmp_path: Path) -> None:
    # Going on would write rows the later version does not expect.
    with database(tmp_path / "enose.db") as made:
        with made.begin() as connection:
            connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
        with pytest.raises(ConfigurationError, match="9999"):
            migrate(made)


@pytest.mark.parametrize("address", ["sqlite://", "sqlite:///:memory:", "postgresql://localhost/enose"])
def test_anything_but_a_file_of_sqlite_is_refused(address: str) -> None:
    with pytest.raises(ConfigurationError):
        engine(address)


def test_a_file_that_cannot_be_a_database_is_a_storage_error(tmp_path: Path) -> None:
    # What the command line can show in one line; it knows neither SQLAlchemy nor sqlite3.
    with pytest.raises(StorageError, match="absent"):
        engine(url(tmp_path / "absent" / "enose.db"))
    (tmp_path / "enose.db").write_bytes(b"no database" * 1000)
    made = engine(url(tmp_path / "enose.db"))
    with pytest.raises(StorageError, match="not a database"):
        migrate(made)
    made.dispose()


def test_a_reading_connection_cannot_write(tmp_path: Path) -> None:
    with database(tmp_path / "enose.db"):
        reader = reading(url(tmp_path / "enose.db"))
        with pytest.raises(OperationalError, match="readonly"), reader.begin() as connection:
            connection.exec_driver_sql("DELETE FROM audit_entry")
        reader.dispose()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_entry SET actor = 'mallory'",
        "DELETE FROM audit_entry WHERE seq = 1",
        "INSERT OR REPLACE INTO audit_entry SELECT 0, prev, body, leaf, 1, ts, 'mallory', action, object, outcome "
        "FROM audit_entry WHERE seq = 0",
        "INSERT INTO audit_entry SELECT 0, prev, body, leaf, 1, ts, actor, action, object, outcome "
        "FROM audit_entry WHERE seq = 0 ON CONFLICT (seq) DO UPDATE SET actor = 'mallory'",
        "INSERT INTO audit_entry SELECT 3, prev, body, leaf, 1, ts, actor, action, object, outcome "
        "FROM audit_entry WHERE seq = 0",
        "INSERT INTO audit_entry SELECT -1, prev, body, leaf, 1, ts, actor, action, object, outcome "
        "FROM audit_entry WHERE seq = 0",
    ],
)
def test_an_accident_cannot_change_the_log(tmp_path: Path, statement: str) -> None:
    # INSERT OR REPLACE goes past triggers on UPDATE and DELETE in SQLite (compliance.md 2.3): a third one stops it.
    with database(tmp_path / "enose.db") as made:
        with made.begin() as tx:
            audit.append(tx, logged())
            audit.append(tx, logged())
        with closing(sqlite3.connect(tmp_path / "enose.db")) as connection:
            before = connection.execute("SELECT * FROM audit_entry").fetchall()
            with pytest.raises(sqlite3.IntegrityError, match=r"append-only|next number"):
                connection.execute(statement)
            assert connection.execute("SELECT * FROM audit_entry").fetchall() == before
