"""Frames become blocks: when, which, and without covering up a change."""

import asyncio
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Engine

from compliance import audit, verify
from historian.chunks import HOUR, ROWS, Kind
from historian.frames import Column, gap
from historian.query import Reader, Summary
from historian.schema import reading
from historian.seal import Sealer, carry_out, prepare
from nodesets.model import Row
from nodesets.ports import Series
from tests.unit.historian.sealing import BEGIN, sealing, settled
from tests.unit.historian.support import SteppedClock, behind_the_log, database, row, url, writing

SECOND = 10**9


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "enose.db"


@pytest.fixture
def made(path: Path) -> Iterator[Engine]:
    with database(path) as engine:
        yield engine


def stored(path: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return connection.execute(query).fetchall()


def at(seconds: Sequence[float], value: float = 0.0) -> list[Row]:
    return [row("EN02", BEGIN + round(s * SECOND), [value + s]) for s in seconds]


def read(path: Path, tag: str = "EN02.S01") -> Series:
    async def everything() -> Series:
        reader = Reader(reading(url(path)))
        try:
            return await reader.read_raw(tag, -(2**63), None, 1_000_000)
        finally:
            reader.close()

    return asyncio.run(everything())


def begins(path: Path) -> dict[str, int]:
    async def asked() -> dict[str, int]:
        reader = Reader(reading(url(path)))
        try:
            return await reader.begins()
        finally:
            reader.close()

    return asyncio.run(asked())


def seal(path: Path, made: Engine, clock: SteppedClock) -> int:
    with writing(made, clock=clock) as writer, sealing(path, writer, clock) as sealer:
        steps = sealer.seal()
        assert not sealer.trouble
        return steps


def record(made: Engine, rows: Sequence[Row], clock: SteppedClock | None = None) -> None:
    with writing(made, clock=clock) as writer:
        writer.append(rows).result()


def test_an_hour_that_is_over_becomes_a_block(path: Path, made: Engine) -> None:
    # The frames are gone, their values are not, and what replaced them is in the log.
    record(made, at(range(0, 3601, 10)))
    before = read(path)
    assert seal(path, made, settled()) == 1
    assert stored(path, "SELECT source_time FROM frame") == [(BEGIN + HOUR,)]
    assert stored(path, "SELECT first_time, last_time, size FROM block") == [(BEGIN, BEGIN + 3590 * SECOND, 360)]
    after = read(path)
    for name in ("times", "received", "values", "status"):
        assert getattr(after, name).tolist() == getattr(before, name).tolist()
    assert begins(path) == {"EN02.S01": BEGIN}
    report = verify.check(path)
    assert (report.problems, report.frames) == ([], 1)
    assert stored(path, "SELECT count(*) FROM audit_entry WHERE action = 'history.seal'") == [(1,)]


def test_an_hour_is_left_open_until_its_last_frames_can_have_come(path: Path, made: Engine) -> None:
    record(made, at(range(100)))
    clock = settled()
    clock.seconds -= 2
    assert seal(path, made, clock) == 0
    assert seal(path, made, settled()) == 1


def test_a_full_block_does_not_wait_for_the_end_of_its_hour(path: Path, made: Engine) -> None:
    # At 10 Hz an hour is nine blocks; frames not yet sealed are the dear ones, on disk and to read.
    record(made, at(np.arange(ROWS + 10) / 10))
    clock = settled(0)
    clock.seconds += ROWS / 10
    assert seal(path, made, clock) == 1
    assert stored(path, "SELECT size FROM block") == [(ROWS,)]
    assert stored(path, "SELECT count(*) FROM frame") == [(10,)]


def test_a_late_frame_is_merged_into_its_sealed_hour(path: Path, made: Engine) -> None:
    # Backfill from a device's buffer: in its place at once, and in the block when that is due.
    record(made, at([0, 10, 30, 3600]))
    seal(path, made, settled())
    record(made, at([20, 3610]))
    assert read(path).values.tolist() == [0, 10, 20, 30, 3600, 3610]
    assert seal(path, made, settled(2)) == 1
    assert read(path).values.tolist() == [0, 10, 20, 30, 3600, 3610]
    assert stored(path, "SELECT size FROM block ORDER BY first_time") == [(4,), (2,)]
    assert verify.check(path).problems == []


def test_late_frames_alone_are_sealed_too(path: Path, made: Engine) -> None:
    # A device that delivers its buffer and nothing more, say because it is taken away.
    record(made, at([0, 3590, 10, 20]))
    seal(path, made, settled())
    record(made, at([5]), settled())
    assert seal(path, made, settled(2)) == 1
    assert stored(path, "SELECT count(*) FROM frame") == [(0,)]
    assert read(path).values.tolist() == [0, 5, 10, 20, 3590]


def test_a_clock_that_was_ahead_for_a_moment_does_not_stop_the_sealing(path: Path, made: Engine) -> None:
    # F15: a device says 2099 once, then again what is so.
    ahead = Row(
        group="EN02", source_time=2**62, received_time=BEGIN + 11 * SECOND, values=np.array([9.0]),
        status=np.zeros(1, np.uint32),
    )  # fmt: skip
    record(made, [*at([0, 10]), ahead, *at([20, 30])])
    seal(path, made, settled(2))
    assert stored(path, "SELECT count(*) FROM frame") == [(0,)]
    assert read(path).values.tolist() == [0, 10, 20, 30, 9]
    assert verify.check(path).problems == []


def test_frames_of_one_instant_keep_the_order_of_their_recording(path: Path, made: Engine) -> None:
    record(made, [row("EN02", BEGIN, [float(n)]) for n in range(ROWS + 5)])
    seal(path, made, settled())
    record(made, [row("EN02", BEGIN, [-1.0])])
    seal(path, made, settled(2))
    assert read(path).values.tolist() == [*range(ROWS + 5), -1.0]


def test_a_year_of_backlog_is_sealed_step_by_step(path: Path, made: Engine) -> None:
    # The first start after a migration, or sealing that was in trouble for long.
    hours = [hour * 3600 + minute * 60 for hour in range(50) for minute in range(60)]
    record(made, at(hours))
    assert seal(path, made, settled(50)) == 50
    assert stored(path, "SELECT count(*), min(size), max(size) FROM block") == [(50, 60, 60)]
    assert read(path).values.tolist() == hours


@pytest.mark.parametrize(
    "changed", ["UPDATE frame SET samples = zeroblob(8) WHERE id = 2", "DELETE FROM frame WHERE id = 2"]
)
def test_altered_frames_are_not_sealed(path: Path, made: Engine, changed: str) -> None:
    # A block of them would bear a digest in the log, and the change would have become the record.
    record(made, at([0, 10, 20]))
    with behind_the_log(path) as db:
        db.execute(changed)
    clock = settled()
    with writing(made, clock=clock) as writer, sealing(path, writer, clock) as sealer:
        assert sealer.seal() == 0
        assert "not as it was recorded" in sealer.trouble[2]
    assert stored(path, "SELECT count(*) FROM block") == [(0,)]
    assert not verify.check(path).clean


def test_an_altered_block_is_not_merged(path: Path, made: Engine) -> None:
    record(made, at([0, 10, 3600]))
    seal(path, made, settled())
    with behind_the_log(path) as db:
        db.execute("UPDATE block SET statistics = zeroblob(160)")
    record(made, at([5]), settled())
    clock = settled(2)
    with writing(made, clock=clock) as writer, sealing(path, writer, clock) as sealer:
        sealer.seal()
        assert "not as they were recorded" in sealer.trouble[2]
    assert "block/1: not as entry" in str(verify.check(path).problems[0])


@pytest.mark.parametrize("column", ["statistics", "clock", "columns", "first_time", "size"])
def test_a_changed_block_is_found_and_named(path: Path, made: Engine, column: str) -> None:
    # After sealing as before it.
    record(made, at([0, 10, 3600]))
    seal(path, made, settled())
    with behind_the_log(path) as db:
        (value,) = db.execute(f"SELECT {column} FROM block").fetchone()
        changed = value + 1 if isinstance(value, int) else bytes([value[0] ^ 1]) + value[1:]
        db.execute(f"UPDATE block SET {column} = ?", (changed,))
    assert str(verify.check(path).problems[0]).startswith("block/1: not as entry")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("DELETE FROM block", "block/1: missing; entry"),
        ("UPDATE sealed SET frame = frame + 1", "sealed/2: not as entry"),
        ("DELETE FROM sealed", "sealed/2: missing; entry"),
        ("INSERT INTO block SELECT 7, layout, first_time, last_time, size, statistics, clock, columns FROM block",
         "block/7: not in the log"),
    ],
)  # fmt: skip
def test_what_sealing_made_cannot_be_taken_away_or_added_to(
    path: Path, made: Engine, change: str, expected: str
) -> None:
    record(made, at([0, 10, 3600]))
    seal(path, made, settled())
    with behind_the_log(path) as db:
        db.execute(change)
    assert any(str(problem).startswith(expected) for problem in verify.check(path).problems)


def test_a_gap_is_two_bad_values_at_its_ends(path: Path, made: Engine) -> None:
    # F08: what is lost is said to be lost, in the history of every column.
    record(made, [*at([0]), *gap("EN02", 1, BEGIN + 10, BEGIN + 20, BEGIN + 30), *at([40])])
    seal(path, made, settled())
    found = read(path)
    assert found.status.tolist() == [0, 0x809D0000, 0x809D0000, 0]
    assert found.times[1:3].tolist() == [BEGIN + 10, BEGIN + 20]
    assert np.isnan(found.values[1:3]).all()


def test_integers_booleans_and_texts_come_back_as_they_were(path: Path, made: Engine) -> None:
    # BatchId, phase, verdict, counters: before sealing and after it.
    kinds = (Kind.INT64, Kind.UINT64, Kind.BOOLEAN, Kind.STRING)
    columns = {"EN05": [Column(f"EN05.{kind}", kind) for kind in kinds]}
    signed, unsigned, texts = [-(2**63), 2**63 - 1, -1, 0], [2**64 - 1, 0, 2**63, 1], ["B1", "", "B1", "Größe 2"]
    rows = []
    for n in range(4):
        cells = np.array([signed[n] % 2**64, unsigned[n], n % 2, 0], np.uint64).view(np.float64)
        rows.append(
            Row(
                group="EN05", source_time=BEGIN + n, received_time=BEGIN + n, values=cells,
                status=np.zeros(4, np.uint32), texts={3: texts[n]},
            )
        )  # fmt: skip
    clock = settled()
    with writing(made, columns) as writer:
        writer.append(rows).result()
    for steps in (0, 1):
        if steps:
            with writing(made, columns, clock=clock) as writer, sealing(path, writer, clock) as sealer:
                assert sealer.seal() == 1
        assert read(path, "EN05.Int64").values.tolist() == signed
        assert read(path, "EN05.UInt64").values.tolist() == unsigned
        assert read(path, "EN05.Boolean").values.tolist() == [False, True, False, True]
        assert read(path, "EN05.String").values.tolist() == texts
    assert stored(path, "SELECT content FROM text ORDER BY id") == [("B1",), ("",), ("Größe 2",)]
    assert verify.check(path).problems == []


def test_rows_are_recorded_while_a_step_is_prepared(path: Path, made: Engine) -> None:
    # What comes between the preparation and the commit is neither sealed nor lost.
    record(made, at(range(0, 3600, 60)))
    clock = settled()
    with writing(made, clock=clock) as writer, sealing(path, writer, clock) as sealer:
        with sealer._database.connect() as connection:
            step = prepare(connection, 2, clock.now(), audit.as_logged)
        assert step is not None
        writer.append(at([3700, 30])).result()
        writer.submit(lambda tx: carry_out(tx, clock.now(), step, audit.seal_history)).result()
        assert stored(path, "SELECT count(*) FROM frame") == [(2,)]
    assert len(read(path).times) == 62
    assert verify.check(path).problems == []


def test_sealing_waits_for_no_one_and_no_one_for_it(path: Path, made: Engine) -> None:
    # The thread of the service: it ends at once when it is told to.
    clock = settled()
    with writing(made, clock=clock) as writer, sealing(path, writer, clock) as sealer:
        sealer.start()
        sealer.close()
        assert sealer.seal() == 0


def test_whole_blocks_are_summed_up_without_their_samples(
    path: Path, made: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Aggregates over a year must not read a year's samples; what an interval's edge cuts is given value by value.
    record(made, at(range(0, 3 * 3600, 60)))
    seal(path, made, settled(3))
    record(made, at([7205]))
    reader = Reader(reading(url(path)))

    def summary(*edges: int) -> Summary:
        return asyncio.run(reader.read_summary("EN02.S01", BEGIN, BEGIN + 3 * HOUR, np.array(edges, np.int64)))

    cut = summary(BEGIN + HOUR // 2)
    assert cut.first_time.tolist() == [BEGIN + HOUR]
    assert len(cut.loose.times) == 121  # the first hour, and the third with the value that came into it
    monkeypatch.setattr("historian.query.decode_column", None)
    reader._cache.clear()
    whole = asyncio.run(reader.read_summary("EN02.S01", BEGIN, BEGIN + 2 * HOUR, np.array([BEGIN, BEGIN + HOUR])))
    reader.close()
    assert whole.statistics["good"].tolist() == [60, 60]
    assert whole.statistics["sum"].tolist() == [sum(range(0, 3600, 60)), sum(range(3600, 7200, 60))]
    assert len(whole.loose.times) == 0


def test_sealing_goes_on_when_the_database_is_back(path: Path, made: Engine, caplog: pytest.LogCaptureFixture) -> None:
    # The thread outlives a database it cannot open, and does what comes after sealing too.
    clock, retired = settled(), threading.Event()
    link = path.with_suffix(".link")
    seen = reading(url(link))
    with writing(made, clock=clock) as writer:
        writer.append([row("EN02", BEGIN + n, [0.0]) for n in range(3)]).result()
        sealer = Sealer(
            seen,
            writer,
            clock=clock,
            seconds=0.01,
            logged=audit.seal_history,
            unaltered=audit.as_logged,
            then=retired.set,
        )
        sealer.start()
        while "not sealed" not in caplog.text:
            time.sleep(0.01)
        link.symlink_to(path)
        assert retired.wait(60)
        sealer.close()
    assert stored(path, "SELECT size FROM block") == [(3,)]
