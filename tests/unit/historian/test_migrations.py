"""Databases of released versions: whatever they hold is there afterwards, and the log still bears it out."""

import asyncio
import signal
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import select

from compliance import verify
from historian import backup
from historian.query import Reader
from historian.schema import NEWEST, engine, layout, metadata, reading
from tests.postgres import new_database
from tests.unit.historian.support import NOW, child, database, url

FIRST_RELEASE = Path(__file__).parents[2] / "golden" / "first_release.sql"
"""Dump of a database of version 0001: a row in every covered table, eleven commits of frames, one of them late."""


@pytest.fixture
def first(tmp_path: Path) -> Path:
    """That database, as the file it was."""
    path = tmp_path / "enose.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(FIRST_RELEASE.read_text())
    return path


def version(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        return str(connection.execute("SELECT version_num FROM alembic_version").fetchone()[0])


def check(place: Path | str) -> None:
    """Everything of the first release is there."""
    report = verify.check(place)
    assert report.problems == []
    assert report.frames == 21
    made = reading(url(place))
    with made.connect() as connection:
        assert connection.execute(select(layout.c.tag_group)).scalars().all() != []
        counts = {t.name: len(connection.execute(select(t)).all()) for t in metadata.sorted_tables}
    old = {"batch", "signature", "user_account", "product_model", "result", "recommendation", "evaluation"}
    assert {counts[name] for name in old} == {1}
    values, late = asyncio.run(read(Reader(made)))
    assert values == [time + 0.1 for time in range(0, 20, 2)]
    assert late == [-1.0]


async def read(reader: Reader) -> tuple[list[float], list[float]]:
    try:
        values = await reader.read_raw("EN01.S01", 0, None, 100)
        late = await reader.read_raw("EN02.S01", 0, NOW, 100)
        return values.values.tolist(), late.values.tolist()
    finally:
        reader.close()


def test_a_database_of_the_first_release_is_brought_up_to_date(first: Path) -> None:
    with database(first):
        pass
    assert version(first) == NEWEST
    check(first)


def test_a_database_of_the_first_release_moves_to_postgresql(first: Path, tmp_path: Path) -> None:
    # As `enose restore` does with a backup of those days.
    address = new_database()
    empty = engine(address)
    backup.restore(first.parent, empty, tmp_path / "scratch.db", lambda _: None)
    empty.dispose()
    check(address)


@pytest.mark.parametrize("at", [5, 20, 35])
def test_a_migration_that_is_killed_half_way_is_undone_and_done_again(first: Path, at: int) -> None:
    # F24.
    ended = subprocess.run(child("migrating", url(first), str(at)), check=False)
    assert ended.returncode == -signal.SIGKILL
    assert version(first) == "0001"
    with database(first):
        pass
    check(first)


@pytest.mark.parametrize("at", [10, 60])
def test_in_postgresql_too(at: int) -> None:
    address = new_database()
    ended = subprocess.run(child("migrating", address, str(at)), check=False)
    assert ended.returncode == -signal.SIGKILL
    with database(address):
        pass
    assert verify.check(address).clean
