"""Whatever is changed behind the log is found and named; whatever is not, is left in peace."""

import json
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import LargeBinary, Text, delete

from compliance import audit, verify
from historian import events
from historian.schema import layout, metadata
from nodesets.model import EventRow
from tests.unit.historian.support import (
    GROUPS,
    behind_the_log,
    database,
    logged,
    make_layout,
    populate,
    row,
    writing,
)

EVENT = EventRow(
    time=3,
    event_type="event_layout event_type",
    source="event_source node",
    severity=500,
    paths=("event_layout paths",),
    fields=b"event_log fields",
)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A row in every covered table, a deleted one, six covered frames of two layouts and an uncovered one."""
    path = tmp_path_factory.mktemp("pristine") / "enose.db"
    with database(path) as made:
        with writing(made) as writer:
            writer.submit(populate).result()
            writer.submit(lambda tx: events.record(tx, [EVENT, EVENT])).result()
            gone = writer.submit(lambda tx: make_layout(tx, "gone")).result()
            writer.submit(lambda tx: tx.execute(delete(layout).where(layout.c.id == gone))).result()
            writer.submit(lambda tx: audit.append(tx, logged("layout.delete"), [("layout", gone)])).result()
            for time in range(3):
                pair = [row("EN01", time, [time + 0.1, 0.5, 0.25], [0, 0, 5]), row("EN02", time, [time + 0.2])]
                writer.append(pair).result()
        with writing(made) as writer:
            writer.append([row("EN02", 9, [9.1])]).result()
            shutil.copy(path, path.with_suffix(".copy"))
            shutil.copy(f"{path}-wal", f"{path.with_suffix('.copy')}-wal")
    with closing(sqlite3.connect(path.with_suffix(".copy"))) as connection:
        connection.execute("VACUUM")
    return path.with_suffix(".copy")


@pytest.fixture
def path(pristine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(pristine, tmp_path / "enose.db"))


def problems(path: Path) -> list[str]:
    return [str(problem) for problem in verify.check(path).problems]


def test_an_untouched_database_is_clean(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify.main([str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2:] == ["not yet covered by the log: 1 frames", "clean"]
    report = verify.check(path)
    assert (report.frames, report.events) == (7, 2)
    assert report.records == len(metadata.tables) - len(verify.EXEMPT) + 1 + len(GROUPS)


ALTERATIONS = {
    "an event edited": ("UPDATE event_log SET severity = 1 WHERE number = 2", "event_log/1..2: not as entry"),
    "an event deleted": ("DELETE FROM event_log WHERE number = 1", "event_log/1..2: not as entry"),
    "events said to be of another source": (
        "UPDATE event_source SET node = 'i=2253'",
        "event_log/1..2: not as entry",
    ),
    "an entry edited, its leaf computed anew": (
        lambda db: rehash(db, 2),
        "audit_entry/3: prev is not the leaf of the entry before it",
    ),
    "an entry deleted": ("DELETE FROM audit_entry WHERE seq = 3", "audit_entry/3: missing"),
    "entries deleted, the rest renumbered": (
        "DELETE FROM audit_entry WHERE seq = 3; UPDATE audit_entry SET seq = seq - 1 WHERE seq > 3",
        "audit_entry/3: prev is not the leaf of the entry before it",
    ),
    "the beginning deleted": ("DELETE FROM audit_entry WHERE seq < 2", "audit_entry/0..1: missing"),
    "two entries swapped": (
        "UPDATE audit_entry SET seq = -1 WHERE seq = 2; UPDATE audit_entry SET seq = 2 WHERE seq = 3;"
        "UPDATE audit_entry SET seq = 3 WHERE seq = -1",
        "audit_entry/2: prev is not the leaf of the entry before it",
    ),
    "an entry forged at the end": (
        "INSERT INTO audit_entry SELECT seq + 1, prev, body, leaf, 1, ts, actor, action, object, outcome "
        "FROM audit_entry ORDER BY seq DESC LIMIT 1",
        "prev is not the leaf of the entry before it",
    ),
    "the columns for queries edited alone": (
        "UPDATE audit_entry SET actor = 'bob', ts = ts + 1 WHERE seq = 1",
        "audit_entry/1: ts, actor not as in the body",
    ),
    "a body that is no entry": (lambda db: rehash(db, 2, b"[]"), "audit_entry/2: body is not that of an entry"),
    "a body of endless depth": (
        lambda db: rehash(db, 2, b"[" * 60_000),
        "audit_entry/2: body is not that of an entry",
    ),
    "a record changed": (
        "UPDATE batch SET lot = 'other'",
        "batch/batch batch_id: not as entry",
    ),
    "a record deleted": ("DELETE FROM signature_use", "signature_use/signature signature_id: missing; entry"),
    "a record inserted": (
        "INSERT INTO layout VALUES (77, 'EN01', '[]')",
        "layout/77: not in the log",
    ),
    "a deleted record brought back": (
        "INSERT INTO layout VALUES ((SELECT max(id) + 1 FROM layout), 'gone', '[]')",
        "there, though deleted by entry",
    ),
    "a table added": ("CREATE TABLE note (x); INSERT INTO note VALUES (5)", "note/5: not in the log"),
    "a value moved to the next column": (
        "UPDATE batch SET lot = recipe, recipe = lot",
        "batch/batch batch_id: not as entry",
    ),
    "a frame edited": (
        "UPDATE frame SET samples = zeroblob(24) WHERE id = 1",
        "frame/1: not as recorded",
    ),
    "a frame deleted": ("DELETE FROM frame WHERE id = 3", "frame/2..5: not as recorded, or some before it missing"),
    "the newest covered frame deleted": ("DELETE FROM frame WHERE id = 5", "frame/5: altered or missing; entry"),
    "a frame inserted": (
        "INSERT INTO frame SELECT layout, source_time, 99, received_time, late, status, samples, link FROM frame "
        "WHERE id = 6",
        "99: not as recorded",
    ),
    "frames swapped": (
        "UPDATE frame SET id = -1 WHERE id = 1; UPDATE frame SET id = 1 WHERE id = 3;"
        "UPDATE frame SET id = 3 WHERE id = -1",
        "frame/1: not as recorded",
    ),
    "all frames of a layout linked anew": (
        lambda db: relink(db),
        "frame/5: altered or missing; entry",
    ),
    "all frames of a layout deleted": (
        "DELETE FROM frame WHERE id IN (1, 3, 5)",
        "frame/5: altered or missing; entry",
    ),
    "a layout said to be sealed": (
        "INSERT INTO sealed SELECT layout, id, link FROM frame WHERE id = 5; DELETE FROM frame WHERE id IN (1, 3, 5)",
        "sealed/1: not in the log",
    ),
    "a table of the log made anew without its rules": (
        "CREATE TABLE copy AS SELECT * FROM frame; DROP TABLE frame; ALTER TABLE copy RENAME TO frame",
        "frame: missing, or its definition altered",
    ),
}


def rehash(db: sqlite3.Connection, seq: int, body: bytes | None = None) -> None:
    prev, old = db.execute("SELECT prev, body FROM audit_entry WHERE seq = ?", (seq,)).fetchone()
    new = body or old.replace(b"alice", b"mally")
    db.execute("UPDATE audit_entry SET body = ?, leaf = ? WHERE seq = ?", (new, verify.leaf(prev, new), seq))


def relink(db: sqlite3.Connection) -> None:
    """Edit a frame and compute the links of its layout anew."""
    db.execute("UPDATE frame SET source_time = -77 WHERE id = 1")
    link = verify.ZERO
    of_layout = "FROM frame WHERE layout = (SELECT layout FROM frame WHERE id = 1) ORDER BY id"
    for frame in db.execute(f"SELECT * {of_layout}").fetchall():
        link = verify.frame_link(link, frame)
        db.execute("UPDATE frame SET link = ? WHERE id = ?", (link, frame[2]))


@pytest.mark.parametrize("alteration", ALTERATIONS)
def test_an_alteration_is_found_and_named(path: Path, alteration: str, capsys: pytest.CaptureFixture[str]) -> None:
    # compliance.md 2.3, with the triggers out of the way; R01: the report names record and reason.
    change, expected = ALTERATIONS[alteration]
    with behind_the_log(path) as db:
        change(db) if callable(change) else db.executescript(change)
    assert verify.main([str(path)]) == 1
    assert expected in capsys.readouterr().out


def test_a_dropped_log_is_an_alteration(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE audit_entry")
    assert problems(path)[0] == "audit_entry: missing, or its definition altered"


def test_missing_triggers_are_found(path: Path) -> None:
    # Nothing is altered yet, but accidents are no longer stopped.
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TRIGGER audit_entry_no_update")
    assert problems(path) == ["audit_entry: trigger audit_entry_no_update is missing"]


def markers(path: Path, table: str) -> list[bytes]:
    """Bytes that stand in the file because a row of the table holds them."""
    if table == "audit_entry":
        return [b"alice", b"row.make"]
    with closing(sqlite3.connect(path)) as connection:
        if table == "frame":
            return [samples for (samples,) in connection.execute("SELECT samples FROM frame")]
    kinds = (Text, LargeBinary)
    found = [f"{table} {c.name}".encode() for c in metadata.tables[table].columns if isinstance(c.type, kinds)]
    return [marker for marker in found if marker in path.read_bytes()]


REMADE = {"alarm_state", "alarm_transition"}
"""Tables that are made anew from what is measured; what was told of alarms stands among the events."""


@pytest.mark.parametrize("table", sorted(metadata.tables.keys() - REMADE - {"forwarded", "writer_epoch"}))  # no records
def test_one_byte_of_the_file_is_found_in_every_table(path: Path, table: str) -> None:
    # R01 to the letter. A marker stands in the table, in indexes of it, in the log: wherever it is, it counts.
    content, spared, altered = path.read_bytes(), [], 0
    for marker in markers(path, table):
        for place in (found.start() for found in re.finditer(re.escape(marker), content)):
            path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
            altered += 1
            if verify.check(path).clean:
                spared.append(place)
    assert altered
    assert spared == []


def test_a_trigger_of_the_same_name_that_forbids_nothing_is_found(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("""
            DROP TRIGGER audit_entry_no_update;
            CREATE TRIGGER audit_entry_no_update BEFORE UPDATE ON audit_entry WHEN 0
            BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
        """)
    assert problems(path) == ["audit_entry: trigger audit_entry_no_update is altered"]


def test_a_trigger_that_is_not_ours_is_found(path: Path) -> None:
    # It would alter what is recorded from now on.
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TRIGGER t AFTER INSERT ON frame BEGIN DELETE FROM frame WHERE id = NEW.id; END")
    assert problems(path) == ["database: trigger t is not one of enose"]


def test_problems_without_end_are_counted_not_kept(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executemany("INSERT INTO layout VALUES (?, 'x', ?)", [(n, str(n)) for n in range(1000, 3500)])
        connection.commit()
    report = verify.check(path)
    assert (report.found, len(report.problems)) == (2500, verify.LISTED)
    assert "and 1500 more" in report.lines()


def test_json_says_the_same(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify.main([str(path), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["clean"], said["found"], said["problems"], said["uncovered_frames"]) == (True, 0, [], 1)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DELETE FROM signature_use")
        connection.commit()
    assert verify.main([str(path), "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert said["clean"] is False
    (problem,) = said["problems"]
    assert (problem["table"], problem["key"]) == ("signature_use", "signature signature_id")


@pytest.mark.parametrize("content", [None, b"", b"no database" * 1000])
def test_what_is_no_database_cannot_be_read(
    tmp_path: Path, content: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    # "Cannot tell" must not look like "clean" nor like "altered".
    path = tmp_path / "other.db"
    if content is not None:
        path.write_bytes(content)
    assert verify.main([str(path)]) == 2
    assert str(path.name) in capsys.readouterr().err


def test_it_stands_alone(path: Path, tmp_path: Path) -> None:
    # An inspector needs one file and a Python without our packages.
    copy = Path(shutil.copy(verify.__file__, tmp_path / "verify.py"))
    command = [sys.executable, "-I", "-S", str(copy), str(path)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout.splitlines()[-1]) == (0, "clean")


def test_it_leaves_a_copied_file_and_its_folder_as_they_are(path: Path) -> None:
    before = {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in path.parent.iterdir()}
    assert verify.main([str(path)]) == 0
    assert {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in path.parent.iterdir()} == before


def test_it_works_beside_a_running_server(path: Path) -> None:
    # It sees one committed state while rows keep coming, and holds nobody up.
    with database(path) as made, writing(made) as writer:
        for time in range(100, 120):
            futures = [writer.append([row("EN02", time, [1.0])]) for _ in range(5)]
            report = verify.check(path)
            assert report.problems == []
            for future in futures:
                future.result()


def test_a_server_that_starts_meanwhile_makes_the_answer_void(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # A file nobody had open is read without locks: what was read while someone wrote proves nothing.
    def integrity(database: sqlite3.Connection) -> Iterator[verify.Problem]:
        with behind_the_log(path) as other:
            other.execute("UPDATE batch SET lot = 'other'")
        return iter(())

    monkeypatch.setattr(verify, "_file", integrity)
    assert verify.main([str(path)]) == 2
    assert "changed while it was read" in capsys.readouterr().err


def test_a_control_character_does_not_reach_the_terminal(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # H29: the report is read in a terminal, the key may be an attacker's.
    with behind_the_log(path) as db:
        db.execute("UPDATE user_account SET folded = char(27) || '[2J' || CAST(x'ff' AS TEXT)")
    assert verify.main([str(path)]) == 1
    assert "\x1b" not in capsys.readouterr().out
