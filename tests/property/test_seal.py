"""Sealing in any order of events: rows in time, late, early, of a stepped clock; in blocks and steps of five rows."""

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compliance import verify
from historian import chunks, seal
from historian.chunks import HOUR
from historian.query import Reader
from historian.schema import reading
from nodesets.model import Row
from tests.unit.historian.sealing import BEGIN, sealing, settled
from tests.unit.historian.support import database, url, writing

MINUTE = 60 * 10**9
FEW = 5
ROWS = st.lists(
    st.tuples(
        st.integers(0, 40) | st.integers(-200, 200) | st.just(10**6),  # minutes from the time of the commit
        st.integers(0, 3),  # minutes until it is received
    ),
    min_size=1,
    max_size=12,
)
COMMITS = st.lists(st.tuples(ROWS, st.integers(0, 90), st.booleans()), min_size=1, max_size=8)
"""Rows of a commit, minutes until the next, whether is sealed in between."""


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("empty") / "enose.db"
    with database(path):
        pass
    return path


def read(path: Path) -> list[tuple[int, int, float]]:
    reader = Reader(reading(url(path)))
    page = reader._read(lambda tx: reader.page(tx, "EN02.S01", -(2**63), None, 10**6))
    edges = np.arange(BEGIN - 5 * HOUR, BEGIN + 20 * HOUR, HOUR // 2)
    summary = reader._read(lambda tx: reader.summary(tx, "EN02.S01", -(2**62), 2**62, edges))
    assert summary.statistics["good"].sum() + len(summary.loose.times) == len(page.times)
    total = summary.statistics["sum"].sum() + summary.loose.values.sum()
    assert total == pytest.approx(page.values.sum())
    for first, last in zip(summary.first_time, summary.last_time, strict=True):
        assert np.searchsorted(edges, first, "right") == np.searchsorted(edges, last, "right")
        assert not ((summary.loose.times >= first) & (summary.loose.times <= last)).any()
    reader.close()
    return list(zip(page.times.tolist(), page.received.tolist(), page.values.tolist(), strict=True))


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(commits=COMMITS)
def test_what_was_recorded_comes_back_however_it_is_sealed(
    empty: Path, tmp_path: Path, commits: list[tuple[list[tuple[int, int]], int, bool]]
) -> None:
    path = Path(shutil.copy(empty, tempfile.mkdtemp(dir=tmp_path)))
    recorded: list[tuple[int, int, float]] = []
    clock = settled(0)
    with pytest.MonkeyPatch.context() as patch, database(path) as made:
        patch.setattr(chunks, "ROWS", FEW)
        patch.setattr(seal, "ROWS", FEW)
        with writing(made, clock=clock) as writer, sealing(path, writer, clock) as sealer:
            for rows, minutes, sealed in commits:
                some = []
                for at, delay in rows:
                    time = clock.now() + at * MINUTE
                    received = clock.now() + delay * MINUTE
                    recorded.append((time, received, float(len(recorded))))
                    some.append(
                        Row(
                            group="EN02",
                            source_time=time,
                            received_time=received,
                            values=np.array([recorded[-1][2]]),
                            status=np.zeros(1, np.uint32),
                        )
                    )
                writer.append(some).result()
                clock.seconds += minutes * 60
                if sealed:
                    sealer.seal()
                    assert not sealer.trouble
            in_order = sorted(recorded, key=lambda each: each[0])
            assert read(path) == in_order
            clock.seconds += 10**9
            sealer.seal()
            assert not sealer.trouble
            assert read(path) == in_order
        with made.begin() as tx:
            assert tx.exec_driver_sql("SELECT count(*) FROM frame").scalar() == 0
            sizes = tx.exec_driver_sql("SELECT size, first_time, last_time FROM block ORDER BY first_time, id").all()
    assert sum(size for size, _, _ in sizes) == len(recorded)
    for size, first, last in sizes:
        assert size <= FEW
        assert first // HOUR == last // HOUR
    assert verify.check(path).problems == []
