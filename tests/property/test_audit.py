"""Any one-byte change of what the log covers is found, and named."""

import math
import shutil
import sqlite3
import struct
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from sqlalchemy import inspect

from compliance import audit, verify
from historian import events
from historian.schema import metadata
from nodesets.model import EventRow
from tests.unit.historian.support import behind_the_log, database, logged, populate, row, writing

MACHINERY = {"forwarded", "writer_epoch"}
"""How far a spool was carried over, and who writes: nothing of a record."""
TABLES = sorted(metadata.tables.keys() - MACHINERY)
KEYS = {"frame": "id", "event_log": "number"}
"""What names a row in a report, where it is not the primary key."""


EVENTS = [
    EventRow(time=time, severity=500, source="EN01", event_type="i=2041", paths=("EventId",), fields=b"fields")
    for time in range(3)
]


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows in every table; frames of two layouts, the last three not yet covered."""
    path = tmp_path_factory.mktemp("pristine") / "enose.db"
    with database(path) as made:
        with writing(made) as writer:
            writer.submit(populate).result()
            writer.submit(lambda tx: events.record(tx, EVENTS)).result()
            for time in range(6):
                frames = [row("EN01", time, [time, 0.5, -1.5], [0, 0x408F0000, 0]), row("EN02", time, [time])]
                writer.append(frames * 2).result()
        with writing(made) as writer:
            writer.append([row("EN02", time, [time]) for time in range(3)]).result()
            shutil.copy(path, path.with_suffix(".copy"))
            shutil.copy(f"{path}-wal", f"{path.with_suffix('.copy')}-wal")
    with closing(sqlite3.connect(path.with_suffix(".copy"))) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    assert verify.check(path.with_suffix(".copy")).uncovered_frames == 3
    return path.with_suffix(".copy")


def flipped(value: int | float | str | bytes, place: int, bit: int) -> tuple[str, int | float | bytes]:
    """The value with one bit of one of its bytes changed, and the SQL that stores it."""
    match value:
        case int():
            return "?", struct.unpack(">q", _flip(struct.pack(">q", value), place, bit))[0]
        case float():
            changed = struct.unpack(">d", _flip(struct.pack(">d", value), place, bit))[0]
            assume(not math.isnan(changed))  # SQLite stores NaN as NULL
            return "?", changed
        case str():
            return "CAST(? AS TEXT)", _flip(value.encode(), place, bit)
        case bytes():
            return "?", _flip(value, place, bit)


def _flip(content: bytes, place: int, bit: int) -> bytes:
    assume(content)
    changed = bytearray(content)
    changed[place % len(content)] ^= 1 << bit
    return bytes(changed)


def names(problem: verify.Problem, table: str, key: object) -> bool:
    """Whether the problem names the row, or a range it lies in."""
    first, _, last = problem.key.partition("..")
    within = isinstance(key, int) and last != "" and int(first) <= key <= int(last)
    if table in ("event_source", "event_layout"):  # what events refer to is told of them
        return problem.table == "event_log"
    return problem.table == table and (problem.key == str(key) or within)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), table=st.sampled_from(TABLES), place=st.integers(0, 1000), bit=st.integers(0, 7))
def test_a_changed_byte_is_found_and_its_record_named(
    pristine: Path, tmp_path: Path, data: st.DataObject, table: str, place: int, bit: int
) -> None:
    # R01; hypothesis chooses table, row, column and bit.
    path = Path(shutil.copy(pristine, tmp_path / "enose.db"))
    with behind_the_log(path) as db:
        values = data.draw(st.sampled_from(db.execute(f"SELECT * FROM {table}").fetchall()))
        key = KEYS.get(table, inspect(metadata.tables[table]).primary_key.columns.keys()[0])
        number = values[metadata.tables[table].columns.keys().index(key)]
        column, value = data.draw(st.sampled_from(list(zip(metadata.tables[table].columns, values, strict=True))))
        assume(value is not None)
        sql, changed = flipped(value, place, bit)
        assume(changed != value)  # 0.0 == -0.0
        try:
            db.execute(f"UPDATE {table} SET {column.name} = {sql} WHERE {key} = ?", (changed, number))
        except sqlite3.IntegrityError:
            assume(False)
    found = verify.check(path).problems
    assert any(names(problem, table, number) for problem in found), found


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4)
    ),
    max_leaves=10,
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(st.tuples(JSON, JSON, st.text(st.characters(codec="utf-8"))), min_size=1, max_size=5))
def test_whatever_is_logged_verifies(pristine: Path, tmp_path: Path, values: list[tuple[object, object, str]]) -> None:
    path = Path(shutil.copy(pristine, tmp_path / "enose.db"))
    before = verify.check(path).entries
    with database(path) as made, made.begin() as tx:
        for old, new, reason in values:
            audit.append(tx, logged(old=old, new=new, reason=reason))
    report = verify.check(path)
    assert report.problems == []
    assert report.entries == before + len(values)
