"""Nothing acknowledged is lost, nothing lost is acknowledged."""

import os
import random
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path
from threading import Event

import numpy as np
import pytest
from sqlalchemy import Connection, Engine, select

from compliance import verify
from historian import schema
from historian.frames import ZERO, record
from historian.schema import audit_entry, frame, layout
from historian.writer import COVER_SECONDS, Place, Writer
from nodesets.errors import InvalidArgument, StorageError
from nodesets.model import Row
from tests.unit.historian.support import GROUPS, SteppedClock, child, database, make_layout, row, writing


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "enose.db"


@pytest.fixture
def made(path: Path) -> Iterator[Engine]:
    with database(path) as engine:
        yield engine


def stored(path: Path, query: str) -> list[tuple[object, ...]]:
    """What another process sees, now."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return connection.execute(query).fetchall()


def held(writer: Writer) -> tuple[Event, Future[bool]]:
    """Keep the writer in a transaction until the event is set."""
    begun, release = Event(), Event()

    def wait(_: Connection) -> bool:
        begun.set()
        return release.wait()

    future = writer.submit(wait)
    begun.wait()
    return release, future


def fill(tx: Connection) -> None:
    """Work that meets a full disk."""
    tx.exec_driver_sql("PRAGMA max_page_count = 1")
    for _ in range(1000):
        make_layout(tx, "x" * 10_000)


def test_what_is_acknowledged_is_committed(path: Path, made: Engine) -> None:
    # "Visible means committed" (architecture): whoever is told can read it through a connection of his own.
    with writing(made) as writer:
        writer.append([row("EN02", 10, [1.5]), row("EN02", 20, [2.5])]).result()
        assert stored(path, "SELECT source_time FROM frame ORDER BY id") == [(10,), (20,)]
        writer.submit(lambda tx: make_layout(tx, "new")).result()
        assert stored(path, "SELECT count(*) FROM layout WHERE tag_group = 'new'") == [(1,)]


def test_nothing_is_acknowledged_before_its_commit(path: Path, made: Engine) -> None:
    with writing(made) as writer:
        release, holding = held(writer)
        future = writer.append([row("EN02", 10, [1.5])])
        assert not future.done()
        assert stored(path, "SELECT * FROM frame") == []
        release.set()
        assert holding.result()
        future.result()


def test_all_that_waits_goes_into_one_transaction(path: Path, made: Engine) -> None:
    # One fsync for all devices (compliance.md 2.2: 503 commits a second, but 110,814 rows in groups of 1000).
    with writing(made) as writer:
        release, _ = held(writer)
        futures = [writer.append([row("EN02", time, [0.0])]) for time in range(50)]
        release.set()
        for future in futures:
            future.result()
        assert writer.transactions == 2
        assert stored(path, "SELECT count(*), max(id) FROM frame") == [(50, 50)]


def test_what_is_to_be_recorded_soon_waits_for_no_interval_and_takes_along_what_waits(made: Engine) -> None:
    with writing(made, commit_seconds=3600.0) as writer:  # else nothing would be recorded before the test is given up
        waiting = writer.append([row("EN02", 10, [1.5])])
        assert writer.submit(lambda tx: len(tx.execute(select(frame.c.id)).all()), soon=True).result() == 1
        assert waiting.done()


def test_a_signature_commits_alone_and_in_its_turn(path: Path, made: Engine) -> None:
    # compliance.md 2.4, item 3: what a person has signed shares its commit with nothing that could undo it.
    def transactions(tx: Connection) -> int:
        return int(tx.exec_driver_sql("SELECT count(*) FROM frame").scalar_one())

    with writing(made) as writer:
        release, _ = held(writer)
        writer.append([row("EN02", 1, [0.0])])
        before = writer.submit(transactions)
        signed = writer.submit(lambda tx: (transactions(tx), make_layout(tx, "signed")), alone=True)
        failing = writer.submit(fill)
        writer.append([row("EN02", 2, [0.0])])
        release.set()
        with pytest.raises(StorageError):
            failing.result()
    assert (before.result(), signed.result()[0]) == (1, 1)
    assert stored(path, "SELECT count(*) FROM layout WHERE tag_group = 'signed'") == [(1,)]


def test_events_are_committed_fifty_at_a_time(made: Engine) -> None:
    # compliance.md 2.4, item 3: with a fifty-first waiting, the first need not wait for it.
    with writing(made) as writer:
        release, _ = held(writer)
        begun = [writer.submit(lambda tx: tx.get_transaction()) for _ in range(120)]
        release.set()
        transactions = [future.result() for future in begun]
    assert [transactions.count(one) for one in dict.fromkeys(transactions)] == [50, 50, 20]


def test_work_sees_the_rows_appended_before_it(made: Engine) -> None:
    # A batch record digests the readings of its cycle in the transaction that ends it.
    with writing(made) as writer:
        release, _ = held(writer)
        writer.append([row("EN02", 10, [1.5])])
        seen = writer.submit(lambda tx: tx.execute(select(frame.c.source_time)).scalars().all())
        release.set()
        assert seen.result() == [10]


def test_work_that_fails_leaves_its_neighbours_and_no_trace(path: Path, made: Engine) -> None:
    # Each piece of work has its own savepoint: change and entry of the failing one are both absent (R09).
    def fail(tx: Connection) -> None:
        make_layout(tx, "failing")
        raise InvalidArgument("no")

    with writing(made) as writer:
        release, _ = held(writer)
        before = writer.submit(lambda tx: make_layout(tx, "before"))
        failing = writer.submit(fail)
        appended = writer.append([row("EN02", 10, [1.5])])
        after = writer.submit(lambda tx: make_layout(tx, "after"))
        release.set()
        with pytest.raises(InvalidArgument):
            failing.result()
        before.result(), after.result(), appended.result()
        names = "SELECT tag_group FROM layout WHERE columns = '[]' ORDER BY id"
        assert stored(path, names) == [("before",), ("after",)]
        assert stored(path, "SELECT count(*) FROM audit_entry WHERE action = 'layout.make'") == [(2,)]
    assert verify.check(path).clean


def test_a_change_whose_entry_cannot_be_written_is_absent(path: Path, made: Engine) -> None:
    # R09: change and audit entry commit in one transaction.
    with made.begin() as tx:
        tx.exec_driver_sql(
            "CREATE TRIGGER refuse BEFORE INSERT ON audit_entry WHEN NEW.action = 'refused' "
            "BEGIN SELECT RAISE(ABORT, 'refused'); END"
        )
    with writing(made) as writer:
        with pytest.raises(Exception, match="refused"):
            writer.submit(lambda tx: make_layout(tx, "unlogged", "refused")).result()
        assert stored(path, "SELECT * FROM layout WHERE tag_group = 'unlogged'") == []
        writer.submit(lambda tx: make_layout(tx, "logged")).result()


def test_a_full_queue_refuses_and_counts(made: Engine) -> None:
    # Bounded, and never silent: the caller learns of every row that was not taken.
    with writing(made, queue=10) as writer:
        release, _ = held(writer)
        taken = writer.append([row("EN02", time, [0.0]) for time in range(9)])
        refused = writer.append([row("EN02", time, [0.0]) for time in range(2)])
        last = writer.submit(lambda _: "last")
        over = writer.submit(lambda _: "over")
        assert writer.refused == 3
        release.set()
        assert last.result() == "last"
        taken.result()
        for future in (refused, over):
            with pytest.raises(StorageError, match="wait for the disk"):
                future.result()
        writer.append([row("EN02", 99, [0.0])]).result()


POISONED = {
    "unknown group": row("EN03", 1, [1.0]),
    "too wide": row("EN02", 1, [1.0, 2.0]),
    "more codes than values": row("EN02", 1, [1.0], [0, 0]),
    "a time beyond 64 bits": row("EN02", 2**63, [1.0]),
}


@pytest.mark.parametrize("poisoned", POISONED.values(), ids=POISONED.keys())
def test_a_row_that_cannot_be_recorded_is_refused_before_it_is_queued(made: Engine, poisoned: Row) -> None:
    # It must not take the transaction of its neighbours with it (F09).
    with writing(made) as writer:
        release, _ = held(writer)
        neighbour = writer.append([row("EN02", 1, [1.0])])
        with pytest.raises(ValueError, match=poisoned.group):
            writer.append([row("EN02", 2, [2.0]), poisoned])
        release.set()
        neighbour.result()


def test_rows_of_a_stream_are_recorded_in_order_and_once(path: Path, made: Engine) -> None:
    # What is handed over again after a failure nobody can explain: the position in the database tells what is there.
    def place(*times: int) -> tuple[Place, list[Row]]:
        return Place(times[0] - 1, times[-1]), [row("EN02", time, [0.0]) for time in times]

    with writing(made, stream="s") as writer:
        writer.append_at(*place(1, 2, 3)).result()
        writer.append_at(*place(2, 3, 4, 5)).result()
        with pytest.raises(StorageError, match="not recorded: 6"):
            writer.append_at(*place(7, 8)).result()
        writer.append_at(*place(6)).result()
        assert writer.position == 6
    with writing(made, stream="s") as writer:
        assert writer.position == 6
        writer.append_at(*place(5, 6, 7)).result()
    with writing(made, stream="another") as writer:
        assert writer.position == 0
    assert stored(path, "SELECT source_time FROM frame ORDER BY id") == [(time,) for time in range(1, 8)]
    assert verify.check(path).clean


def test_what_follows_rows_is_done_with_them_or_not_at_all(path: Path, made: Engine) -> None:
    with writing(made, stream="s") as writer:
        for _ in range(2):
            writer.append_at(Place(0, 1), [row("EN02", 1, [0.0])], lambda tx: make_layout(tx, "once")).result()
        assert stored(path, "SELECT count(*) FROM layout WHERE tag_group = 'once'") == [(1,)]


def test_groups_can_be_added(path: Path, made: Engine) -> None:
    with writing(made) as writer:
        writer.add({"New": ("New.a", "New.b")}).result()
        writer.append([row("New", 1, [1.0, 2.0])]).result()
        writer.add({"New": ("New.a", "New.b")}).result()
    assert stored(path, "SELECT count(*) FROM layout WHERE tag_group = 'New'") == [(1,)]
    assert verify.check(path).clean


def test_numbers_of_numpy_are_recorded_as_numbers(path: Path, made: Engine) -> None:
    # A driver may take its times from an array.
    with writing(made) as writer:
        writer.append([row("EN02", np.int64(7), np.array([1], np.int32))]).result()  # type: ignore[arg-type]
    assert stored(path, "SELECT source_time, received_time FROM frame") == [(7, 12)]


def test_a_full_disk_refuses_until_there_is_space(path: Path, made: Engine) -> None:
    # F04: nothing acknowledged, no half of a change left, and no restart needed.
    def limit(pages: int) -> None:
        writer.submit(lambda tx: tx.exec_driver_sql(f"PRAGMA max_page_count = {pages}").scalar()).result()

    with writing(made) as writer:
        writer.append([row("EN02", 1, [1.0])]).result()
        (pages,) = stored(path, "SELECT page_count FROM pragma_page_count")[0]
        limit(int(str(pages)))
        release, _ = held(writer)
        many = writer.append([row("EN01", time, [1.0, 2.0, 3.0]) for time in range(5000)])
        work = writer.submit(lambda tx: make_layout(tx, "beside"))
        release.set()
        for future in (many, work):
            with pytest.raises(StorageError, match="full"):
                future.result()
        assert "full" in writer.trouble
        limit(1_000_000)
        writer.append([row("EN02", 2, [2.0])]).result()
        assert not writer.trouble
        assert stored(path, "SELECT id, source_time FROM frame") == [(1, 1), (2, 2)]
    assert verify.check(path).clean


def test_work_that_fills_the_disk_refuses_the_whole_transaction(made: Engine) -> None:
    # SQLite has rolled the transaction back: acknowledging the neighbours would be a lie.
    with writing(made) as writer:
        release, _ = held(writer)
        appended = writer.append([row("EN02", 1, [1.0])])

        filling = writer.submit(fill)
        release.set()
        for future in (appended, filling):
            with pytest.raises(StorageError, match="full"):
                future.result()


def test_a_lock_of_another_process_refuses_and_passes(
    path: Path, made: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A backup tool may hold the file; nothing was begun, so nothing is in doubt.
    monkeypatch.setattr(schema, "BUSY_SECONDS", 0.01)
    with database(path) as impatient, writing(impatient) as writer, closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageError, match="locked"):
            writer.append([row("EN02", 1, [1.0])]).result()
        other.rollback()
        writer.append([row("EN02", 1, [1.0])]).result()


def test_after_a_failed_write_nothing_is_acknowledged_until_restart(path: Path, made: Engine) -> None:
    # F05. The limit is lifted before the third append: the writer must not believe the disk again.
    ran = subprocess.run(child("faulty", str(path), "limit"), check=True, capture_output=True, text=True)
    assert ran.stdout.split() == ["recorded", "refused", "refused"]
    with writing(made) as writer:
        writer.append([row("EN02", 4, [4.0])]).result()
    assert stored(path, "SELECT source_time FROM frame") == [(1,), (4,)]
    assert verify.check(path).clean


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler to preload a failing fsync")
def test_a_failed_fsync_is_never_retried_as_success(path: Path, made: Engine, tmp_path: Path) -> None:
    # F05: Linux reports a lost page once; the next fsync succeeds without it. What the failed commit wrote may be
    # there after the restart or not: it was refused, and the log is sound either way.
    library = tmp_path / "fsync.so"
    source = Path(__file__).with_name("fsync.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True)
    environment = os.environ | {"LD_PRELOAD": str(library), "FAULT": f"{path}.fault"}
    command = child("faulty", str(path), "fsync")
    ran = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    assert ran.stdout.split() == ["recorded", "refused", "refused"]
    with writing(made) as writer:
        writer.append([row("EN02", 4, [4.0])]).result()
    assert stored(path, "SELECT source_time FROM frame WHERE source_time <> 2") == [(1,), (4,)]
    assert verify.check(path).clean


def test_what_waits_is_carried_out_by_close(path: Path, made: Engine) -> None:
    with writing(made) as writer:
        release, _ = held(writer)
        futures = [writer.append([row("EN02", time, [0.0])]) for time in range(5)]
        release.set()
    assert all(future.done() and future.exception() is None for future in futures)
    assert stored(path, "SELECT count(*) FROM frame") == [(5,)]
    for late in (writer.append([row("EN02", 9, [0.0])]), writer.submit(lambda _: None)):
        with pytest.raises(StorageError, match="closed"):
            late.result()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_defect_of_the_writer_leaves_no_one_waiting(made: Engine) -> None:
    # What covers history raising must show as refusals, not as clients that wait for ever.
    clock, calls = SteppedClock(), []

    def cover(*_: object) -> None:
        calls.append(clock.seconds)
        if clock.seconds:
            raise LookupError("defect")

    writer = Writer(made, GROUPS, clock=clock, commit_seconds=0, queue=10, covered=cover)
    writer.start()
    clock.seconds = COVER_SECONDS
    for _ in range(2):
        with pytest.raises(StorageError, match="failed"):
            writer.append([row("EN02", 1, [1.0])]).result()
    writer.close()
    assert calls == [0, COVER_SECONDS]


def test_history_is_covered_once_a_minute_and_at_close(path: Path, made: Engine) -> None:
    # compliance.md 2.4, item 11.
    clock = SteppedClock()
    covered = (
        "SELECT json_extract(CAST(body AS TEXT), '$.new.frame') FROM audit_entry "
        "WHERE action = 'history.cover' ORDER BY seq"
    )
    with writing(made, clock=clock) as writer:
        for time in range(5):
            writer.append([row("EN02", time, [0.0])]).result()
        assert stored(path, covered) == [(0,)]  # the layouts, made at the start
        report = verify.check(path)
        assert (report.clean, report.uncovered_frames) == (True, 5)
        clock.seconds = COVER_SECONDS
        writer.append([row("EN02", 5, [0.0])]).result()
        writer.append([row("EN02", 6, [0.0])]).result()
        assert stored(path, covered) == [(0,), (6,)]
    assert stored(path, covered) == [(0,), (6,), (7,)]
    report = verify.check(path)
    assert (report.clean, report.uncovered_frames) == (True, 0)


def test_a_layout_is_made_when_the_columns_change_and_found_again_when_not(path: Path, made: Engine) -> None:
    # Frames of years ago keep the columns they were recorded with.
    with writing(made):
        pass
    with writing(made, {"EN02": ("EN02.S01", "EN02.S02")}) as writer:
        writer.append([row("EN02", 1, [1.0, 2.0])]).result()
    with writing(made) as writer:
        writer.append([row("EN02", 2, [1.0])]).result()
    assert stored(path, "SELECT id, tag_group FROM layout") == [(1, "EN01"), (2, "EN02"), (3, "EN02")]
    assert stored(path, "SELECT layout FROM frame ORDER BY id") == [(3,), (2,)]
    assert verify.check(path).clean


def test_the_verifier_computes_the_bytes_the_writer_hashed() -> None:
    # The verifier stands alone and repeats the definition: this binds the two.
    one = record(7, 3, False, row("EN01", -5, [1.0, float("nan"), -0.0], [0, 0x808C0000, 0]), ZERO)
    same = record(8, 3, True, row("EN01", 2**62, [1.0, 2.0, 3.0], [0x80310000] * 3), one.link)
    assert [len(r.status) for r in (one, same)] == [12, 4]
    assert one.link == verify.frame_link(ZERO, one)
    assert same.link == verify.frame_link(one.link, same)


def test_no_acknowledged_row_is_lost_by_kill_9(path: Path, made: Engine) -> None:
    # F01; the acknowledged of all runs, since a restart must not lose what an earlier one kept.
    chosen = random.Random(9)
    acknowledged: dict[int, int] = {}
    for run in range(5):
        process = subprocess.Popen(child("killed", str(path), str(run)), stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(chosen.randrange(1, 60))]
        process.kill()
        lines += process.stdout.readlines()
        acknowledged[run] = int(lines[-1])
        process.stdout.close()
        process.wait()
        report = verify.check(path)
        assert report.problems == []
    with made.begin() as tx:
        frames = tx.execute(select(frame.c.source_time, frame.c.samples)).all()
        layouts = set(tx.execute(select(layout.c.tag_group)).scalars())
        entries = tx.execute(select(audit_entry.c.seq)).scalars().all()
    assert entries == list(range(len(entries)))
    for run, last in acknowledged.items():
        for number in range(1, last + 1):
            kept = row("KILLED", number, (run, number)).values.tobytes()
            assert sum(f.samples == kept for f in frames) == 3
            assert f"{run}/{number}" in layouts
    with writing(made):
        pass
    assert verify.check(path).uncovered_frames == 0
