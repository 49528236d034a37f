"""Old samples give way to averages; records never do."""

import asyncio
import math
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Engine

from compliance import audit, verify
from config.schema import Retention
from historian import retention
from historian.chunks import HOUR, Block
from historian.query import Reader
from historian.retention import DAY, NO_DATA, PART, Retirer
from historian.schema import reading
from nodesets.errors import StorageError
from nodesets.model import Row
from tests.unit.historian.sealing import BEGIN, sealing, settled
from tests.unit.historian.support import SteppedClock, behind_the_log, database, row, url, writing

SECOND = 10**9
GROUPS = {"EN02": ("EN02.S01",), "EN02.Stream01.Quality": ("EN02.Stream01.Quality.Score",)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "enose.db"


@pytest.fixture
def made(path: Path) -> Iterator[Engine]:
    """Two sealed hours of a device and of its results: a value a minute, 0, 1, 2, ..."""
    clock = settled(3)
    with database(path) as engine:
        with writing(engine, GROUPS, clock=clock) as writer, sealing(path, writer, clock) as sealer:
            for group in GROUPS:
                writer.append([row(group, BEGIN + n * 60 * SECOND, [float(n)]) for n in range(121)]).result()
            sealer.seal()
        yield engine


def retire(path: Path, made: Engine, rules: Sequence[Retention], days: float, held: Sequence[int] = ()) -> int:
    """Apply the rules so many days after the hours; `held` are hours in which a batch was made."""
    clock = SteppedClock()
    clock.seconds = days * DAY / SECOND
    with writing(made, GROUPS, clock=clock) as writer:
        source = reading(url(path))
        retirer = Retirer(
            source,
            writer,
            rules,
            clock=clock,
            held=lambda _tx, _group, first, _last: (first - BEGIN) // HOUR in held,
            logged=audit.retire_history,
            unaltered=audit.as_logged,
        )
        try:
            return retirer.retire()
        finally:
            source.dispose()


def read(path: Path, tag: str) -> list[tuple[int, float]]:
    """(Seconds since BEGIN, value) of all there is."""
    reader = Reader(reading(url(path)))
    page = asyncio.run(reader.read_raw(tag, -(2**63), None, 10**6))
    reader.close()
    return [
        ((time - BEGIN) // SECOND, value) for time, value in zip(page.times.tolist(), page.values.tolist(), strict=True)
    ]


def test_without_a_rule_everything_is_kept(path: Path, made: Engine) -> None:
    assert retire(path, made, (), 10_000) == 0
    assert retire(path, made, (Retention(groups="EN07", samples=1),), 10_000) == 0
    assert retire(path, made, (Retention(minute=1),), 10_000) == 0
    assert len(read(path, "EN02.S01")) == 121


def test_an_old_hour_gives_way_to_its_averages(path: Path, made: Engine) -> None:
    assert retire(path, made, (Retention(samples=7, second=0),), 6.9) == 0
    assert retire(path, made, (Retention(samples=7, second=0),), 8) == 3
    assert read(path, "EN02.S01") == []
    assert read(path, "EN02.S01@hour.Average") == [(0, 29.5), (3600, 89.5), (7200, 120)]
    assert read(path, "EN02.S01@hour.Minimum") == [(0, 0), (3600, 60), (7200, 120)]
    assert read(path, "EN02.S01@hour.Maximum") == [(0, 59), (3600, 119), (7200, 120)]
    assert read(path, "EN02.S01@minute.Average") == [(60 * n, n) for n in range(121)]
    assert verify.check(path).problems == []


def test_results_are_never_touched(path: Path, made: Engine) -> None:
    # They are GMP records, whatever the rules say.
    retire(path, made, (Retention(groups="*", samples=0, second=0, minute=0, hour=0),), 10_000)
    assert len(read(path, "EN02.Stream01.Quality.Score")) == 121
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM audit_entry WHERE action = 'history.seal'").fetchone() == (6,)


def test_samples_of_a_batch_are_kept(path: Path, made: Engine) -> None:
    # The record of the batch rests on them.
    assert retire(path, made, (Retention(samples=7, second=0, minute=0),), 8, held=[1]) == 2
    assert [at for at, _ in read(path, "EN02.S01")] == [60 * n for n in range(60, 120)]
    assert [at for at, _ in read(path, "EN02.S01@hour.Average")] == [0, 7200]


def test_each_tier_has_its_own_time(path: Path, made: Engine) -> None:
    rule = Retention(samples=7, second=0, minute=30, hour=None)
    retire(path, made, (rule,), 8)
    assert len(read(path, "EN02.S01@minute.Maximum")) == 121
    retire(path, made, (rule,), 31)
    assert read(path, "EN02.S01@minute.Maximum") == []
    assert len(read(path, "EN02.S01@hour.Maximum")) == 3
    assert verify.check(path).problems == []


def test_an_altered_block_does_not_give_way(path: Path, made: Engine) -> None:
    # Its deletion would be in order, and with it the change beyond finding.
    with behind_the_log(path) as db:
        db.execute("UPDATE block SET columns = CAST(columns || x'00' AS BLOB) WHERE id = 1")
    with pytest.raises(StorageError, match="not as they were recorded"):
        retire(path, made, (Retention(samples=7),), 8)
    assert not verify.check(path).clean


def test_late_samples_of_an_hour_that_gave_way_go_too(path: Path, made: Engine) -> None:
    # Its averages stand; they are not made twice.
    rule = (Retention(samples=7, second=0),)
    retire(path, made, rule, 8)
    late = Row(
        group="EN02", source_time=BEGIN + SECOND, received_time=BEGIN + 8 * DAY, values=np.array([7.0]),
        status=np.zeros(1, np.uint32),
    )  # fmt: skip
    clock = settled(9 * 24)
    with writing(made, GROUPS, clock=clock) as writer, sealing(path, writer, clock) as sealer:
        writer.append([late]).result()
        sealer.seal()
    assert read(path, "EN02.S01") == [(1, 7.0)]
    assert retire(path, made, rule, 10) == 1
    assert read(path, "EN02.S01") == []
    assert read(path, "EN02.S01@hour.Average")[0] == (0, 29.5)


def test_an_interval_is_as_good_as_its_values() -> None:
    nan = math.nan
    values = np.array([[1.0, 3.0, 5.0, 7.0, nan, 9.0, nan]])
    status = np.array([[0, 0, 0, 0x809D0000, 0x809D0000, 0x809D0000, 0]], np.uint32)
    times = np.array([0, 1, 2, 3, 4, 5, 6]) // 2 * 10
    found = retention.downsample(Block(times, times + 1, times, values.view(np.uint64), status), [0], 10)
    average, low, high = found.cells.view(np.float64)
    assert found.times.tolist() == [0, 10, 20, 30]
    assert found.status[0].tolist() == [0, PART, NO_DATA, NO_DATA]
    assert average[:2].tolist() == [2.0, 5.0]
    assert (low[0], high[0]) == (1.0, 3.0)
    assert np.isnan(found.cells.view(np.float64)[:, 2:]).all()
