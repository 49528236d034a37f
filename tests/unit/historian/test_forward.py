"""Whatever happens to the database: nothing confirmed is lost, nothing is recorded twice or out of order."""

import json
import random
import sqlite3
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import numpy as np
import pytest
from sqlalchemy import Connection, Engine, event, select
from sqlalchemy.exc import OperationalError

from compliance import audit, verify
from historian import schema
from historian.forward import StoreAndForward
from historian.schema import audit_entry, frame
from historian.spool import Spool
from historian.writer import Writer
from nodesets.errors import StorageError
from nodesets.model import Quality
from nodesets.ports import SystemClock
from tests.unit.historian.support import GROUPS, child, database, row

LIMIT = 1 << 20


@dataclass
class Plant:
    """A database, its writer, a spool and what stands between."""

    path: Path
    engine: Engine
    writer: Writer
    spool: Spool
    recorder: StoreAndForward

    def append(self, times: Sequence[int], group: str = "EN02") -> list[Future[None]]:
        width = len(GROUPS[group])
        return [self.recorder.append([row(group, time, [float(time)] * width)]) for time in times]

    def recorded(self, group: str = "EN02") -> list[int]:
        """Source times in the order of recording."""
        with closing(sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)) as connection:
            query = (
                "SELECT source_time FROM frame JOIN layout ON layout.id = layout WHERE tag_group = ? ORDER BY frame.id"
            )
            return [time for (time,) in connection.execute(query, (group,))]

    def settled(self) -> None:
        """Wait until rows go directly again."""
        while self.recorder.forwarding:
            Event().wait(0.01)


@contextmanager
def opened(
    path: Path, *, slow: float = 60.0, limit: int = LIMIT, queue: int = 10_000, spool: Path | None = None
) -> Iterator[Plant]:
    with database(path) as made:
        made_spool = Spool(spool or path.parent / "spool", GROUPS, limit=limit, reserve=1 << 16)
        clock = SystemClock()
        writer = Writer(
            made,
            GROUPS,
            clock=clock,
            commit_seconds=0,
            queue=queue,
            covered=audit.cover_history,
            stream=made_spool.stream,
        )
        writer.start()
        recorder = StoreAndForward(
            writer, made_spool, clock=clock, slow_seconds=slow, queue=queue, noted=audit.note_gap
        )
        recorder.start()
        try:
            yield Plant(path, made, writer, made_spool, recorder)
        finally:
            recorder.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "enose.db"


@contextmanager
def away(path: Path) -> Iterator[None]:
    """Another process holds the write lock: SQLite answers that the database is locked."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "BUSY_SECONDS", 0.02)
    monkeypatch.setattr("historian.forward.RETRY_SECONDS", 0.05)
    monkeypatch.setattr("historian.forward.TICK_SECONDS", 0.02)


def done(futures: Sequence[Future[None]]) -> None:
    for future in futures:
        future.result()


def test_rows_go_directly_while_the_database_is_well(path: Path) -> None:
    with opened(path) as plant:
        done(plant.append(range(100)))
        assert plant.recorded() == list(range(100))
        assert plant.spool.rows == 0
    assert verify.check(path).clean


def test_rows_are_confirmed_in_an_outage_and_recorded_after_it_in_order_and_once(path: Path) -> None:
    # F06: samples spooled in order, backfilled with their own times, no duplicate.
    with opened(path) as plant:
        done(plant.append(range(10)))
        with away(path):
            done(plant.append(range(10, 500)))
            done(plant.append(range(10), "EN01"))
            assert plant.recorded() == list(range(10))
            assert plant.recorder.trouble
            assert plant.recorder.backlog == 500
        done(plant.append(range(500, 510)))
        plant.settled()
        assert plant.recorder.trouble == ""
        done(plant.append([510]))
        assert plant.recorded() == list(range(511))
        assert plant.recorded("EN01") == list(range(10))
        assert plant.spool.rows == 0
    assert verify.check(path).clean


def test_values_come_out_of_the_spool_bit_for_bit(path: Path) -> None:
    odd = row("EN01", -(2**63), [float("nan"), -0.0, float("inf")], [0, 0x808C0000, 0xFFFFFFFF])
    odd.values.view(np.uint64)[0] = 0x7FF8_0000_DEAD_BEEF
    with opened(path) as plant, closing(sqlite3.connect(path)) as reader:
        with away(path):
            plant.recorder.append([odd]).result()
        plant.settled()
        [(samples, status)] = reader.execute("SELECT samples, status FROM frame").fetchall()
    assert samples == odd.values.tobytes()
    assert status == odd.status.tobytes()


def test_work_is_refused_while_the_database_is_away_and_never_spooled(path: Path) -> None:
    # compliance.md 2.4, item 12: no signature, no release, without the database.
    with opened(path) as plant, away(path):
        done(plant.append([1]))
        with pytest.raises(StorageError, match="locked"):
            plant.writer.submit(lambda tx: tx.exec_driver_sql("SELECT 1").scalar()).result()


def test_a_slow_commit_keeps_no_row_waiting_and_doubles_none(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # F07. The rows under way are confirmed by the spool; their commit ends later all the same.
    monkeypatch.setattr(schema, "BUSY_SECONDS", 60)
    with opened(path, slow=0.1) as plant:
        with away(path):
            first = plant.append(range(50))
            done(first)
            done(plant.append(range(50, 100)))
            assert plant.recorded() == []
            assert "longer" in plant.recorder.trouble
        plant.settled()
        assert plant.recorded() == list(range(100))
    assert verify.check(path).clean


@contextmanager
def left_in_the_spool(path: Path, times: Sequence[int]) -> Iterator[None]:
    """A run that ended in an outage, which is over at the end of the block."""
    with ExitStack() as outage:
        with opened(path) as plant:
            outage.enter_context(away(path))
            done(plant.append(times))
        yield


def test_what_the_spool_holds_is_recorded_after_a_restart(path: Path) -> None:
    with left_in_the_spool(path, range(20)):
        pass
    with opened(path) as plant:
        done(plant.append([20]))
        plant.settled()
        assert plant.recorded() == list(range(21))
    assert verify.check(path).clean


def test_a_commit_that_nobody_heard_of_is_not_repeated(path: Path) -> None:
    # A connection that breaks in a commit leaves its outcome unknown (Jepsen): the position in the database tells.
    with opened(path) as plant:
        unheard = [1]

        @event.listens_for(plant.engine, "commit")
        def _commit(connection: Connection) -> None:
            if unheard:
                unheard.clear()
                connection.exec_driver_sql("COMMIT")
                error = sqlite3.OperationalError("connection lost")
                error.sqlite_errorcode = sqlite3.SQLITE_BUSY
                raise OperationalError("COMMIT", None, error)

        done(plant.append([2, 3]))
        plant.settled()
        assert not unheard
        assert plant.recorded() == [2, 3]
    assert verify.check(path).clean


def test_rows_beyond_the_spool_are_refused_counted_and_marked_as_lost(path: Path) -> None:
    # F08: never silent. The interval is in the history, and in the audit log.
    with opened(path, limit=20_000) as plant:
        with away(path):
            outcomes = [future.exception() for future in plant.append(range(1000))]
            kept = outcomes.count(None)
            assert 0 < kept < 1000
            assert all(error is None for error in outcomes[:kept])
            assert plant.recorder.lost == 1000 - kept
            assert "full" in str(outcomes[-1])
        plant.settled()
        done(plant.append([1000, 1001]))
        plant.settled()
        assert plant.recorded() == [*range(kept), kept, 999, 1000, 1001]
        with plant.engine.connect() as connection:
            lost = connection.execute(select(frame.c.status, frame.c.samples)).all()[kept : kept + 2]
            entry = connection.execute(select(audit_entry).where(audit_entry.c.action == "history.gap")).one()
    for status, samples in lost:
        assert np.frombuffer(status, "<u4").tolist() == [Quality.BAD_DATA_LOST]
        assert np.isnan(np.frombuffer(samples)).all()
    told = json.loads(entry.body)
    assert (entry.object, told["new"]) == ("history/EN02", {"first": kept, "last": 999, "count": 1000 - kept})
    assert verify.check(path).clean


def test_a_gap_that_lasts_when_the_service_is_killed_is_marked_after_the_restart(path: Path) -> None:
    outage = ExitStack()
    with opened(path, limit=20_000) as plant:  # the spool's last word is that the gap lasts, as after a kill
        outage.enter_context(away(path))
        kept = [future.exception() for future in plant.append(range(1000))].count(None)
    outage.close()
    with opened(path, limit=20_000) as plant:
        plant.settled()
        done(plant.append([1000]))
        plant.settled()
        recorded = plant.recorded()
        assert (recorded[: kept + 1], recorded[-1]) == ([*range(kept + 1)], 1000)
        with plant.engine.connect() as connection:
            entry = connection.execute(select(audit_entry).where(audit_entry.c.action == "history.gap")).one()
    told = json.loads(entry.body)["new"]
    assert (told["first"], told["count"]) == (kept, None)
    assert told["last"] in (recorded[-2], kept)


def test_a_row_the_database_refuses_is_set_aside_and_the_others_go_on(path: Path) -> None:
    # F09.
    with opened(path) as plant:
        with plant.engine.begin() as connection:
            connection.exec_driver_sql(
                "CREATE TRIGGER poison BEFORE INSERT ON frame WHEN NEW.source_time % 100 = 13 "
                "BEGIN SELECT RAISE(ABORT, 'poison'); END"
            )
        done(plant.append(range(250)))
        plant.settled()
        done(plant.append([250]))
        plant.settled()
        assert plant.recorded() == [time for time in range(251) if time % 100 != 13]
        assert plant.recorder.set_aside == 3
        with plant.engine.begin() as connection:
            connection.exec_driver_sql("DROP TRIGGER poison")
    kept = [json.loads(line) for line in (path.parent / "spool" / "aside").read_text().splitlines()]
    assert [(line["source_time"], line["values"], line["reason"]) for line in kept] == [
        (13, ["13.0"], "poison"),
        (113, ["113.0"], "poison"),
        (213, ["213.0"], "poison"),
    ]
    assert verify.check(path).clean


def test_what_the_writer_cannot_carry_out_at_its_end_is_kept(path: Path) -> None:
    # A stop in an outage, with rows handed over and not confirmed.
    with ExitStack() as outage:
        with opened(path) as plant:
            outage.enter_context(away(path))
            futures = plant.append(range(5))
        done(futures)
    with opened(path) as plant:
        plant.settled()
        assert plant.recorded() == list(range(5))


def test_a_database_that_is_gone_and_comes_back_is_filled_up(path: Path) -> None:
    # Its file is moved away under the server, as by a disk that is unmounted.
    with opened(path) as plant:
        done(plant.append(range(10)))
        path.rename(path.with_name("moved"))
        done(plant.append(range(10, 20)))
        assert plant.recorder.forwarding
        path.with_name("moved").rename(path)
        plant.settled()
        assert plant.recorded() == list(range(20))


def test_after_a_failed_fsync_of_the_database_rows_are_kept_in_the_spool_until_a_restart(path: Path) -> None:
    # F05: nothing is acknowledged by a database whose disk has failed once.
    with opened(path) as plant:
        done(plant.append([1]))

        @event.listens_for(plant.engine, "commit")
        def _commit(connection: Connection) -> None:
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
            raise OperationalError("COMMIT", None, error)

        done(plant.append([2, 3]))
        assert "disk I/O error" in plant.writer.stopped
        done(plant.append([4]))
        assert plant.recorded() == [1]
    with opened(path) as plant:
        plant.settled()
        assert plant.recorded() == [1, 2, 3, 4]
    assert verify.check(path).clean


def test_a_full_disk_sends_rows_to_the_spool_until_there_is_room(tmp_path: Path) -> None:
    # F04, with a disk of 2 MiB that is really full.
    command = ["unshare", "--mount", "--map-root-user", *child("outgrown", str(tmp_path))]
    ran = subprocess.run(command, check=False, capture_output=True, text=True)
    if "unshare" in ran.stderr or "mount:" in ran.stderr:
        pytest.skip(f"needs leave to mount: {ran.stderr.strip()}")
    assert ran.stdout.split() == ["direct", "spool", "direct", "3000", "clean"], ran.stderr


def test_after_the_end_rows_are_refused(path: Path) -> None:
    with opened(path) as plant:
        pass
    with pytest.raises(StorageError, match="closed"):
        plant.recorder.append([row("EN02", 1, [1.0])]).result()


def test_no_confirmed_row_is_lost_or_doubled_by_kill_9_in_an_outage_and_while_draining(path: Path) -> None:
    # F01 with F06: the process is killed anywhere between the first failure and the last row out of the spool.
    chosen = random.Random(5)
    confirmed: list[int] = []
    for run in range(8):
        process = subprocess.Popen(child("forwarding", str(path), str(run)), stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(chosen.randrange(1, 400))]
        process.kill()
        lines += process.stdout.readlines()
        confirmed += [int(line) for line in lines if line.endswith("\n")]
        process.stdout.close()
        process.wait()
        assert verify.check(path).problems == []
    with opened(path) as plant:
        plant.settled()
        recorded = plant.recorded()
    assert recorded == sorted(set(recorded))
    assert set(confirmed) <= set(recorded)
