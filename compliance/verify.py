"""Check a database of enose against its own audit log. Stand-alone: needs this file and Python, nothing else; for a
database of PostgreSQL also compliance/postgres.py and psycopg.

    enose-verify DATABASE [--json]

Read-only, beside a running server as on a copied file. Exit code 0: clean; 1: altered; 2: cannot be read.

What is checked (compliance.md 2.4):

    log       sequence gapless; prev of entry n is the leaf of n - 1; leaf = SHA-256(0x00 || prev || body);
              the columns kept beside the body for queries say what the body says
    records   every row of every table has the digest the newest entry naming it has; none is missing, none is extra.
              A table is covered unless EXEMPT names it: a table someone adds is covered too
    history   the frames of a layout are a chain: each has the SHA-256 of the link before it and of its own bytes. The
              chain begins where the sealed frames end (a record), and holds the newest frame a coverage entry names.
              Frames newer than that are counted, not passed over. Sealed frames are records: blocks
    file      definitions of the tables, triggers of the log, indexes against their tables

An entry bears out only what is in the log: a log cut off at its end together with all it covers, or one computed
anew from the first entry, is found by comparison with a copy of a leaf kept elsewhere.

`compliance.audit` takes the hashing from here, so that what is written is what is checked.
"""

import argparse
import base64
import hashlib
import json
import sqlite3
import struct
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final, NamedTuple, Protocol

Value = int | float | str | bytes | None
"""What a column holds, as the database's driver gives it."""

ZERO: Final = bytes(32)
"""prev of the first entry."""

COVER: Final = "history.cover"
"""Action of an entry that covers frames: new = {"frame", "heads": {layout: [newest frame, its link in base64]}}."""

SEAL: Final = "history.seal"
"""Action of an entry that turns frames of a layout into blocks."""

COVER_EVENTS: Final = "events.cover"
"""Action of an entry that covers events: new = {"first", "last", "digest"}, the digest over their canonical bytes."""

EXEMPT: Final = {
    "audit_entry": "the log itself",
    "frame": "covered by coverage entries",
    "event_log": "covered by coverage entries",
    "event_source": "covered with the events from there",
    "event_layout": "covered with the events laid out so",
    "alembic_version": "version of the tables, no record",
    "forwarded": "a bookmark in the spool, no record",
    "writer_epoch": "who may write, no record",
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
    "frame": (
        ("layout", "INTEGER"),
        ("source_time", "INTEGER"),
        ("id", "INTEGER"),
        ("received_time", "INTEGER"),
        ("late", "INTEGER"),
        ("status", "BLOB"),
        ("samples", "BLOB"),
        ("link", "BLOB"),
    ),
    "sealed": (
        ("layout", "INTEGER"),
        ("frame", "INTEGER"),
        ("link", "BLOB"),
    ),
    "event_source": (("id", "INTEGER"), ("node", "TEXT")),
    "event_layout": (("id", "INTEGER"), ("event_type", "TEXT"), ("paths", "TEXT")),
    "event_log": (
        ("number", "INTEGER"),
        ("time", "INTEGER"),
        ("severity", "INTEGER"),
        ("source", "INTEGER"),
        ("layout", "INTEGER"),
        ("fields", "BLOB"),
    ),
}
"""Columns of the tables checked here by name: STRICT, NOT NULL, the first one the primary key but for KEYS."""

KEYS: Final = {"frame": ("layout", "source_time", "id")}

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


Row = tuple[int, int, int, int, int, bytes, bytes, bytes]

_FRAME = struct.Struct("<5q2I")


def frame_link(before: bytes, frame: Row) -> bytes:
    """Link of a frame: SHA-256 of the link before it, of layout, source time, id, received time, late (i8 little
    endian), lengths of status and samples (u4), status, samples.
    """
    *numbers, status, samples, _ = frame
    return hashlib.sha256(before + _FRAME.pack(*numbers, len(status), len(samples)) + status + samples).digest()


def brief(link: bytes) -> str:
    """A link as an entry of coverage has it: there is one for each device and minute."""
    return base64.b64encode(link).decode()


def event_bytes(*columns: int | str | bytes) -> bytes:
    """Canonical bytes of an event: its columns as in EVENTS, each behind its length."""
    return b"".join(_part(_encoded(column)) for column in columns)


EVENTS: Final = (
    "SELECT number, time, severity, node, event_type, paths, fields FROM event_log"
    " LEFT JOIN event_source ON event_source.id = source LEFT JOIN event_layout ON event_layout.id = layout"
)
"""What `event_bytes` is made of."""


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
    frames: int = 0
    uncovered_frames: int = 0
    """Newer than the last coverage entry, at most a minute's; held by their own links alone."""
    events: int = 0
    uncovered_events: int = 0
    """Events newer than the last entry that covers some."""
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
        yield f"checked: {self.entries} entries, {self.records} records, {self.frames} frames, {self.events} events"
        if self.uncovered_frames:
            yield f"not yet covered by the log: {self.uncovered_frames} frames"
        if self.uncovered_events:
            yield f"not yet covered by the log: {self.uncovered_events} events"
        yield "clean" if self.clean else f"ALTERED: {self.found} problems"


class Unreadable(Exception):
    """The file cannot be read, is not a database of enose, or changed while it was read."""


class Column(NamedTuple):
    """One column of a table."""

    name: str
    kind: str
    """INTEGER, REAL, TEXT or BLOB."""
    required: int
    """1: never NULL."""
    key: int
    """Position in the primary key, from 1; 0 when it is not in it."""


class Database(Protocol):
    """A database that is read, in one transaction that sees one committed state."""

    triggers_wanted: ClassVar[Mapping[str, str]]
    """Triggers of the log by name, as `triggers` gives them; how they are spaced does not count."""

    def rows(self, statement: str, parameters: Sequence[Value] = ()) -> Iterator[tuple[Any, ...]]:
        """Of a SELECT, with `?` for each parameter."""

    def tables(self) -> set[str]: ...

    def columns(self, table: str) -> list[Column]: ...

    def strict(self, table: str) -> bool:
        """Whether the table is there and holds what its columns' types allow."""

    def triggers(self) -> dict[str, str]: ...

    def damage(self) -> Iterator[str]:
        """What the database's own check says of the file."""


class Sqlite:
    """A file of SQLite."""

    triggers_wanted: ClassVar[Mapping[str, str]] = TRIGGERS

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def rows(self, statement: str, parameters: Sequence[Value] = ()) -> Iterator[tuple[Any, ...]]:
        yield from self._connection.execute(statement, parameters)

    def tables(self) -> set[str]:
        names = self.rows("SELECT name FROM sqlite_master WHERE type = 'table'")
        return {name for (name,) in names if not name.startswith("sqlite_")}

    def columns(self, table: str) -> list[Column]:
        found = self.rows('SELECT name, type, "notnull", pk FROM pragma_table_info(?) ORDER BY cid', (table,))
        return [Column(*column) for column in found]

    def strict(self, table: str) -> bool:
        return list(self.rows("SELECT strict FROM pragma_table_list(?) WHERE type = 'table'", (table,))) == [(1,)]

    def triggers(self) -> dict[str, str]:
        return dict(self.rows("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"))

    def damage(self) -> Iterator[str]:
        try:
            yield from (message for (message,) in self.rows("PRAGMA integrity_check") if message != "ok")
        except sqlite3.DatabaseError as error:
            yield str(error)


def check(database: Path | str, password: str = "") -> Report:
    """Check a file, or the database at `postgresql://...`; raises Unreadable."""
    if isinstance(database, str) and database.startswith("postgresql"):
        from compliance import postgres

        with postgres.opened(database, password) as opened:
            return _check(opened)
    path = Path(database)
    before = _state(path)
    try:
        with closing(_open(path)) as connection:
            report = _check(Sqlite(connection))
    except sqlite3.Error as error:
        raise Unreadable(str(error)) from error
    if not before.shared and _state(path) != before:
        raise Unreadable("changed while it was read; try again")
    return report


def _check(database: Database) -> Report:
    report = Report()
    with closing(sqlite3.connect("")) as scratch:
        for problem in _problems(database, scratch, report):
            report.add(problem)
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


def _problems(database: Database, scratch: sqlite3.Connection, report: Report) -> Iterator[Problem]:
    names = database.tables()
    if not names & DEFINITIONS.keys():
        raise Unreadable("not a database of enose: it has no audit log")
    misshapen = {table for table in DEFINITIONS if not _as_defined(database, table)}
    yield from (Problem(table, "", "missing, or its definition altered") for table in sorted(misshapen))
    yield from _file(database)
    _prepare(scratch)
    if "audit_entry" not in misshapen:
        yield from _readable("audit_entry", _log(database, scratch, report))
        for table in sorted(names - EXEMPT.keys()):
            yield from _readable(table, _collect(database, scratch, table, report))
        yield from _records(scratch)
    if not misshapen:
        yield from _readable("frame", _history(database, scratch, report))
        yield from _readable("event_log", _events(database, scratch, report))


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
        CREATE TABLE coverage (layout INTEGER PRIMARY KEY, frame INTEGER, link TEXT, seq INTEGER);
        CREATE TABLE event_coverage (seq INTEGER PRIMARY KEY, first INTEGER, last INTEGER, digest TEXT);
        BEGIN;
    """)


def _as_defined(database: Database, table: str) -> bool:
    keys = KEYS.get(table, (DEFINITIONS[table][0][0],))
    wanted = [(name, kind, 1, keys.index(name) + 1 if name in keys else 0) for name, kind in DEFINITIONS[table]]
    return database.strict(table) and database.columns(table) == wanted


def _file(database: Database) -> Iterator[Problem]:
    triggers = database.triggers()
    for trigger, statement in database.triggers_wanted.items():
        if trigger not in triggers:
            yield Problem("audit_entry", "", f"trigger {trigger} is missing")
        elif triggers[trigger].split() != statement.split():
            yield Problem("audit_entry", "", f"trigger {trigger} is altered")
    for trigger in sorted(triggers.keys() - database.triggers_wanted.keys()):
        yield Problem("database", "", f"trigger {trigger} is not one of enose")
    yield from (Problem("database", "", message) for message in database.damage())


def _log(database: Database, scratch: sqlite3.Connection, report: Report) -> Iterator[Problem]:
    expected, before = 0, ZERO
    rows = database.rows(
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
            heads = said["new"].get("heads", {})  # before 0.2 an entry covered groups of frames
            covered = [(int(layout), int(frame), link, seq) for layout, (frame, link) in heads.items()]
            scratch.executemany("INSERT OR REPLACE INTO coverage VALUES (?, ?, ?, ?)", covered)
        elif said["action"] == COVER_EVENTS:
            new = said["new"]
            scratch.execute(
                "INSERT INTO event_coverage VALUES (?, ?, ?, ?)",
                (seq, int(new["first"]), int(new["last"]), new["digest"]),
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


def _collect(database: Database, scratch: sqlite3.Connection, table: str, report: Report) -> Iterator[Problem]:
    """Note every row of a table with its digest."""
    quoted = table.replace('"', '""')
    columns = database.columns(table)
    names = [column.name for column in columns]
    key = next((position for position, column in enumerate(columns) if column.key == 1), 0)
    for row in database.rows(f'SELECT * FROM "{quoted}"'):  # noqa: S608 - an identifier, quoted
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


def _history(database: Database, scratch: sqlite3.Connection, report: Report) -> Iterator[Problem]:
    """Follow the chain of each layout's frames, from its sealed ones to the newest."""
    sealed = {layout: (frame, link) for layout, frame, link in database.rows("SELECT * FROM sealed")}
    covered = {layout: rest for layout, *rest in scratch.execute("SELECT * FROM coverage")}
    layouts = {layout for (layout,) in database.rows("SELECT DISTINCT layout FROM frame")}
    for layout in sorted(layouts | covered.keys()):
        last, before = start, found = sealed.get(layout, (0, ZERO))
        head, link, entry = covered.get(layout, (0, brief(ZERO), 0))
        for row in database.rows("SELECT * FROM frame WHERE layout = ? ORDER BY id", (layout,)):
            number, stored = row[2], row[-1]
            report.frames += 1
            report.uncovered_frames += number > head
            if number <= last or frame_link(before, row) != stored:
                yield Problem(
                    "frame", _range(min(last + 1, number), number), "not as recorded, or some before it missing"
                )
            if number == head:
                found = stored
            last, before = number, stored
        if head > last or (head >= start and brief(found) != link):
            yield Problem(
                "frame", str(head), f"altered or missing; entry {entry} covers the frames of layout {layout} to it"
            )


def _events(database: Database, scratch: sqlite3.Connection, report: Report) -> Iterator[Problem]:
    """Compare the entries that cover events with the events, and count those after the last one."""
    expected = 1
    for seq, first, last, digest in scratch.execute("SELECT * FROM event_coverage ORDER BY seq"):
        if first != expected:
            yield Problem("event_log", _range(expected, first - 1), f"coverage of entry {seq} begins at {first}")
        total = hashlib.sha256()
        for row in database.rows(f"{EVENTS} WHERE number BETWEEN ? AND ? ORDER BY number", (first, last)):
            report.events += 1
            total.update(event_bytes(*("" if column is None else column for column in row)))
        if total.hexdigest() != digest:
            yield Problem("event_log", _range(first, last), f"not as entry {seq} covers them")
        expected = last + 1
    ((report.uncovered_events,),) = database.rows("SELECT count(*) FROM event_log WHERE number >= ?", (expected,))
    report.events += report.uncovered_events


def _as_json(report: Report) -> dict[str, Any]:
    return asdict(report) | {"clean": report.clean, "problems": [p._asdict() for p in report.problems]}


def main(argv: Sequence[str] | None = None, password: str = "") -> int:
    """The command; returns its exit code. `password`: of a database, empty as libpq finds it (PGPASSWORD, .pgpass)."""
    parser = argparse.ArgumentParser(
        prog="enose-verify",
        description="Check a database of enose against its audit log; exit code 0 clean, 1 altered, 2 cannot be read.",
    )
    parser.add_argument("database", help="the SQLite file, or postgresql://USER@HOST/DATABASE")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(argv)
    try:
        report = check(options.database, password)
    except Unreadable as error:
        print(f"{options.database}: {error}", file=sys.stderr)
        return 2
    for line in [json.dumps(_as_json(report))] if options.json else report.lines():
        print(line)
    return 0 if report.clean else 1


if __name__ == "__main__":
    sys.exit(main())
