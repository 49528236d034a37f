"""Check a database of enose against its own audit log. Stand-alone: needs this file and Python, nothing else.

    enose-verify DATABASE [--json]

Read-only, beside a running server as on a copied file. Exit code 0: clean; 1: altered; 2: cannot be read.

What is checked (compliance.md 2.4):

    log       sequence gapless; prev of entry n is the leaf of n - 1; leaf = SHA-256(0x00 || prev || body);
              the columns kept beside the body for queries say what the body says
    records   every row of every table has the digest the newest entry naming it has; none is missing, none is extra.
              A table is covered unless EXEMPT names it: a table someone adds is covered too
    history   every frame lies in one commit group, whose digest it makes; every commit group lies in one coverage
              entry, whose digest it makes. Groups newer than the last coverage entry are counted, not passed over
    file      definitions of the tables, triggers of the log, indexes against their tables

An entry bears out only what is in the log: a log cut off at its end together with all it covers, or one computed
anew from the first entry, is found by comparison with a copy of a leaf kept elsewhere.

`compliance.audit` takes the hashing from here, so that what is written is what is checked.
"""

import argparse
import hashlib
import json
import sqlite3
import struct
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Final, NamedTuple

Value = int | float | str | bytes | None
"""What a column holds, as the database's driver gives it."""

ZERO: Final = bytes(32)
"""prev of the first entry."""

COVER: Final = "history.cover"
"""Action of an entry that covers commit groups: new = {"first", "last", "digest"}."""

EXEMPT: Final = {
    "audit_entry": "the log itself",
    "commit_group": "covered by coverage entries",
    "frame": "covered by commit groups",
    "alembic_version": "version of the tables, no record",
}

DEFINITIONS: Final[Mapping[str, tuple[tuple[str, str], ...]]] = {
    "audit_entry": (
        ("seq", "INTEGER"),
        ("prev", "BLOB"),
        ("body", "BLOB"),
        ("leaf", "BLOB"),
        ("schema_ver", "INTEGER"),
        ("ts", "INTEGER"),
        ("actor", "TEXT"),
        ("action", "TEXT"),
        ("object", "TEXT"),
        ("outcome", "TEXT"),
    ),
    "commit_group": (
        ("sequence", "INTEGER"),
        ("first_frame", "INTEGER"),
        ("last_frame", "INTEGER"),
        ("digest", "BLOB"),
    ),
    "frame": (
        ("id", "INTEGER"),
        ("layout", "INTEGER"),
        ("source_time", "INTEGER"),
        ("received_time", "INTEGER"),
        ("status", "BLOB"),
        ("samples", "BLOB"),
    ),
}
"""Columns of the tables checked here by name: STRICT, NOT NULL, the first one the primary key."""

TRIGGERS: Final[Mapping[str, str]] = {
    "audit_entry_no_update": """
        CREATE TRIGGER audit_entry_no_update BEFORE UPDATE ON audit_entry
        BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END
    """,
    "audit_entry_no_delete": """
        CREATE TRIGGER audit_entry_no_delete BEFORE DELETE ON audit_entry
        BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END
    """,
    "audit_entry_next_only": """
        CREATE TRIGGER audit_entry_next_only BEFORE INSERT ON audit_entry
        WHEN NEW.seq IS NOT (SELECT coalesce(max(seq), -1) + 1 FROM audit_entry)
        BEGIN SELECT RAISE(ABORT, 'an audit entry takes the next number'); END
    """,
}
"""Triggers of the database, by name, and the statements that make them; how these are spaced does not count."""

LISTED: Final = 1000
"""Problems a report lists; the rest is counted."""


def leaf(prev: bytes, body: bytes) -> bytes:
    """Leaf of an entry: the RFC 6962 leaf hash of prev || body, and the next entry's prev."""
    return hashlib.sha256(b"\x00" + prev + body).digest()


def record_name(table: str, key: Value) -> str:
    """`table/key`, the name of a row in the log."""
    return f"{table}/{key.hex() if isinstance(key, bytes) else key}"


def row_digest(table: str, row: Iterable[tuple[str, Value]]) -> str:
    """SHA-256 (hex) of a row's canonical bytes: the table's name, then name and value of each column, by name.

    A NULL adds nothing, so that a column added in a later version leaves the digests of older rows as they were.
    Each part stands behind its length: no two rows have the same bytes.
    """
    digest = hashlib.sha256(_part(table.encode()))
    for name, value in sorted(row):
        if value is not None:
            digest.update(_part(name.encode()) + _part(_encoded(value)))
    return digest.hexdigest()


def _part(content: bytes) -> bytes:
    return b"%d:%b" % (len(content), content)


def _encoded(value: int | float | str | bytes) -> bytes:
    match value:
        case int():
            return b"i%d" % value
        case float():
            return b"r" + struct.pack(">d", value)
        case str():
            return b"s" + value.encode("utf-8", "surrogateescape")
        case bytes():
            return b"b" + value


_FRAME = struct.Struct("<4q2I")


def frame_bytes(number: int, layout: int, source_time: int, received_time: int, status: bytes, samples: bytes) -> bytes:
    """Canonical bytes of a frame: id, layout, source time, received time (i8), lengths (u4), status, samples."""
    head = _FRAME.pack(number, layout, source_time, received_time, len(status), len(samples))
    return head + status + samples


class Problem(NamedTuple):
    """One thing that is not as the log says."""

    table: str
    key: str
    """Of the row, as in its record's name; a range `a..b` where only the range is known; empty: the whole table."""
    reason: str

    def __str__(self) -> str:
        """One line; what a terminal would obey is escaped."""
        text = f"{self.table}/{self.key}: {self.reason}" if self.key else f"{self.table}: {self.reason}"
        return text if text.isprintable() else text.encode("unicode_escape").decode()


@dataclass(slots=True)
class Report:
    """What was looked at and what was found."""

    entries: int = 0
    records: int = 0
    groups: int = 0
    frames: int = 0
    uncovered_groups: int = 0
    """Commit groups newer than the last coverage entry, at most a minute's; held by their own digests alone."""
    uncovered_frames: int = 0
    found: int = 0
    problems: list[Problem] = field(default_factory=list)
    """The first LISTED of those found."""

    @property
    def clean(self) -> bool:
        return self.found == 0

    def add(self, problem: Problem) -> None:
        self.found += 1
        if len(self.problems) < LISTED:
            self.problems.append(problem)

    def lines(self) -> Iterator[str]:
        """The report for people."""
        yield from map(str, self.problems)
        if self.found > len(self.problems):
            yield f"and {self.found - len(self.problems)} more"
        yield f"checked: {self.entries} entries, {self.records} records, {self.frames} frames"
        if self.uncovered_frames:
            yield f"not yet covered by the log: {self.uncovered_frames} frames in {self.uncovered_groups} commit groups"
        yield "clean" if self.clean else f"ALTERED: {self.found} problems"


class Unreadable(Exception):
    """The file cannot be read, is not a database of enose, or changed while it was read."""


def check(path: Path) -> Report:
    """Check the database file; raises Unreadable."""
    before = _state(path)
    try:
        with closing(_open(path)) as database, closing(sqlite3.connect("")) as scratch:
            report = Report()
            for problem in _problems(database, scratch, report):
                report.add(problem)
    except sqlite3.Error as error:
        raise Unreadable(str(error)) from error
    if not before.shared and _state(path) != before:
        raise Unreadable("changed while it was read; try again")
    return report


class _State(NamedTuple):
    size: int
    modified: int
    shared: bool
    """A write-ahead log lies beside the file: SQLite keeps what is read here apart from what is written meanwhile."""


def _state(path: Path) -> _State:
    try:
        found = path.stat()
    except OSError as error:
        raise Unreadable(error.strerror or str(error)) from error
    return _State(found.st_size, found.st_mtime_ns, _has_log(path))


def _has_log(path: Path) -> bool:
    return Path(f"{path}-wal").exists()


def _open(path: Path) -> sqlite3.Connection:
    """A connection that cannot write, in one transaction that sees one committed state.

    Without a write-ahead log beside it nobody has the database open; then SQLite is told not to make one. Beside a
    copied log SQLite makes its index anew (-shm), if it may.
    """
    immutable = "" if _has_log(path) else "&immutable=1"
    database = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro{immutable}", uri=True, isolation_level=None)
    database.text_factory = _text
    database.execute("PRAGMA query_only = 1")
    database.execute("BEGIN")
    return database


def _text(content: bytes) -> str:
    return content.decode("utf-8", "surrogateescape")


def _problems(database: sqlite3.Connection, scratch: sqlite3.Connection, report: Report) -> Iterator[Problem]:
    names = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not names & DEFINITIONS.keys():
        raise Unreadable("not a database of enose: it has no audit log")
    misshapen = {table for table in DEFINITIONS if not _as_defined(database, table)}
    yield from (Problem(table, "", "missing, or its definition altered") for table in sorted(misshapen))
    yield from _file(database)
    _prepare(scratch)
    if "audit_entry" not in misshapen:
        yield from _readable("audit_entry", _log(database, scratch, report))
        for table in sorted(names - EXEMPT.keys()):
            if not table.startswith("sqlite_"):
                yield from _readable(table, _collect(database, scratch, table, report))
        yield from _records(scratch)
    if not misshapen:
        yield from _readable("commit_group", _coverage(database, scratch, report))
    if not misshapen & {"frame", "commit_group"}:
        yield from _readable("frame", _history(database, report))


def _readable(table: str, problems: Iterator[Problem]) -> Iterator[Problem]:
    """The problems of a table; a page that cannot be read is one of them."""
    try:
        yield from problems
    except sqlite3.DatabaseError as error:
        yield Problem(table, "", f"cannot be read: {error}")


def _prepare(scratch: sqlite3.Connection) -> None:
    """Tables in a temporary file: what the log says of each record, what is there, what is covered."""
    scratch.executescript("""
        PRAGMA cache_size = -65536;
        CREATE TABLE logged (name TEXT PRIMARY KEY, digest TEXT, seq INTEGER) WITHOUT ROWID;
        CREATE TABLE present (name TEXT PRIMARY KEY, tbl TEXT, digest TEXT) WITHOUT ROWID;
        CREATE TABLE coverage (seq INTEGER PRIMARY KEY, first INTEGER, last INTEGER, digest TEXT);
        BEGIN;
    """)


def _as_defined(database: sqlite3.Connection, table: str) -> bool:
    strict = database.execute("SELECT strict FROM pragma_table_list(?) WHERE type = 'table'", (table,)).fetchone()
    columns = database.execute('SELECT name, type, "notnull", pk FROM pragma_table_info(?)', (table,)).fetchall()
    return strict == (1,) and columns == [
        (name, kind, 1, int(position == 0)) for position, (name, kind) in enumerate(DEFINITIONS[table])
    ]


def _file(database: sqlite3.Connection) -> Iterator[Problem]:
    triggers = dict(database.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall())
    for trigger, statement in TRIGGERS.items():
        if trigger not in triggers:
            yield Problem("audit_entry", "", f"trigger {trigger} is missing")
        elif triggers[trigger].split() != statement.split():
            yield Problem("audit_entry", "", f"trigger {trigger} is altered")
    for trigger in sorted(triggers.keys() - TRIGGERS.keys()):
        yield Problem("database", "", f"trigger {trigger} is not one of enose")
    try:
        for (message,) in database.execute("PRAGMA integrity_check"):
            if message != "ok":
                yield Problem("database", "", message)
    except sqlite3.DatabaseError as error:
        yield Problem("database", "", str(error))


def _log(database: sqlite3.Connection, scratch: sqlite3.Connection, report: Report) -> Iterator[Problem]:
    expected, before = 0, ZERO
    rows = database.execute(
        "SELECT seq, prev, body, leaf, schema_ver, ts, actor, action, object, outcome FROM audit_entry ORDER BY seq"
    )
    for seq, prev, body, stored, *projection in rows:
        report.entries += 1
        if seq != expected:
            yield Problem("audit_entry", _range(expected, seq - 1), "missing")
        if prev != before:
            yield Problem("audit_entry", str(seq), "prev is not the leaf of the entry before it")
        if stored != leaf(prev, body):
            yield Problem("audit_entry", str(seq), "leaf is not the hash of prev and body")
        if reason := _misread(scratch, seq, body, projection):
            yield Problem("audit_entry", str(seq), reason)
        expected, before = seq + 1, stored


def _range(first: int, last: int) -> str:
    return str(first) if first >= last else f"{first}..{last}"


def _misread(scratch: sqlite3.Connection, seq: int, body: bytes, projection: Sequence[Value]) -> str:
    """Note what the body says of records and history; how its columns contradict it, empty when they do not."""
    try:
        said = json.loads(body.decode())
        columns = [said["v"], int(said["time"]), said["actor"], said["action"], said["object"], said["outcome"]]
        logged = [(name, digest, seq) for name, digest in said["records"].items()]
        if said["action"] == COVER:
            new = said["new"]
            scratch.execute(
                "INSERT INTO coverage VALUES (?, ?, ?, ?)", (seq, int(new["first"]), int(new["last"]), new["digest"])
            )
        if logged:
            scratch.executemany("INSERT OR REPLACE INTO logged VALUES (?, ?, ?)", logged)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError, sqlite3.Error):
        return "body is not that of an entry"
    if columns == projection:
        return ""
    names = [name for name, _ in DEFINITIONS["audit_entry"][4:]]
    wrong = [name for name, a, b in zip(names, columns, projection, strict=True) if a != b]
    return f"{', '.join(wrong)} not as in the body"


def _collect(
    database: sqlite3.Connection, scratch: sqlite3.Connection, table: str, report: Report
) -> Iterator[Problem]:
    """Note every row of a table with its digest."""
    quoted = table.replace('"', '""')
    columns = database.execute("SELECT name, pk FROM pragma_table_info(?) ORDER BY cid", (table,)).fetchall()
    names = [name for name, _ in columns]
    key = next((position for position, (_, pk) in enumerate(columns) if pk == 1), 0)
    for row in database.execute(f'SELECT * FROM "{quoted}"'):  # noqa: S608 - an identifier, quoted
        report.records += 1
        name = record_name(table, row[key])
        digest = row_digest(table, zip(names, row, strict=True))
        try:
            scratch.execute("INSERT INTO present VALUES (?, ?, ?)", (name, table, digest))
        except (sqlite3.IntegrityError, UnicodeEncodeError) as error:
            yield Problem(*_split(name), f"not a key of a record: {error}")


def _split(name: str) -> tuple[str, str]:
    table, _, key = name.partition("/")
    return table, key


def _records(scratch: sqlite3.Connection) -> Iterator[Problem]:
    rows = scratch.execute("""
        SELECT name, present.digest, logged.digest, seq FROM present LEFT JOIN logged USING (name)
        WHERE present.digest IS NOT logged.digest
    """)
    for name, _, logged, seq in rows:
        if seq is None:
            reason = "not in the log"
        elif logged is None:
            reason = f"there, though deleted by entry {seq}"
        else:
            reason = f"not as entry {seq} recorded it"
        yield Problem(*_split(name), reason)
    gone = scratch.execute("""
        SELECT name, seq FROM logged WHERE digest IS NOT NULL AND NOT EXISTS
        (SELECT 1 FROM present WHERE present.name = logged.name)
    """)
    for name, seq in gone:
        yield Problem(*_split(name), f"missing; entry {seq} recorded it")


def _coverage(database: sqlite3.Connection, scratch: sqlite3.Connection, report: Report) -> Iterator[Problem]:
    """Compare the coverage entries with the commit groups, and count the groups after the last one."""
    expected = 1
    for seq, first, last, digest in scratch.execute("SELECT * FROM coverage ORDER BY seq"):
        if first != expected:
            yield Problem("commit_group", _range(expected, first - 1), f"coverage of entry {seq} begins at {first}")
        total = hashlib.sha256()
        groups = database.execute(
            "SELECT digest FROM commit_group WHERE sequence BETWEEN ? AND ? ORDER BY sequence", (first, last)
        )
        for (content,) in groups:
            total.update(content)
        if total.hexdigest() != digest:
            yield Problem("commit_group", _range(first, last), f"not as entry {seq} covers them")
        expected = last + 1
    report.uncovered_groups, report.uncovered_frames = database.execute(
        "SELECT count(*), coalesce(sum(last_frame - first_frame + 1), 0) FROM commit_group WHERE sequence >= ?",
        (expected,),
    ).fetchone()


Row = tuple[int, int, int, int, bytes, bytes]


def _history(database: sqlite3.Connection, report: Report) -> Iterator[Problem]:
    """Compare the commit groups with the frames."""
    groups = database.execute("SELECT sequence, first_frame, last_frame, digest FROM commit_group ORDER BY sequence")
    frames: Iterator[Row] = database.execute(
        "SELECT id, layout, source_time, received_time, status, samples FROM frame ORDER BY id"
    )
    expected, begin = 1, 1
    for sequence, first, last, digest in groups:
        report.groups += 1
        if sequence != expected:
            yield Problem("commit_group", _range(expected, sequence - 1), "missing")
        if first != begin or last < first:
            yield Problem("commit_group", str(sequence), f"frames {first}..{last} do not follow frame {begin - 1}")
        total, count = hashlib.sha256(), 0
        for row in frames:
            if row[0] > last:
                frames = chain((row,), frames)
                break
            report.frames += 1
            if row[0] < first:
                yield Problem("frame", str(row[0]), "in no commit group")
                continue
            count += 1
            total.update(frame_bytes(*row))
        if count != last - first + 1:
            yield Problem("frame", _range(first, last), f"commit group {sequence} has {count} frames left of these")
        elif total.digest() != digest:
            yield Problem("frame", _range(first, last), f"not as commit group {sequence} recorded them")
        expected, begin = sequence + 1, last + 1
    for row in frames:
        report.frames += 1
        yield Problem("frame", str(row[0]), "in no commit group")


def _as_json(report: Report) -> dict[str, Any]:
    return asdict(report) | {"clean": report.clean, "problems": [p._asdict() for p in report.problems]}


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="enose-verify",
        description="Check a database of enose against its audit log; exit code 0 clean, 1 altered, 2 cannot be read.",
    )
    parser.add_argument("database", type=Path, help="the SQLite file")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(argv)
    try:
        report = check(options.database)
    except Unreadable as error:
        print(f"{options.database}: {error}", file=sys.stderr)
        return 2
    for line in [json.dumps(_as_json(report))] if options.json else report.lines():
        print(line)
    return 0 if report.clean else 1


if __name__ == "__main__":
    sys.exit(main())
