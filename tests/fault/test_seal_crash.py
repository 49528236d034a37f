"""A crash between frames and blocks: at each statement of a step, nothing is lost, nothing doubled."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event

from compliance import audit, verify
from historian.chunks import HOUR
from historian.query import Reader
from historian.schema import engine, reading
from historian.seal import Sealing, carry_out, prepare
from tests.unit.historian.sealing import BEGIN, sealing, settled
from tests.unit.historian.support import database, row, url, writing

MINUTES = st.lists(st.integers(0, 179), min_size=1, max_size=30)
LAYOUT = 2


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("empty") / "enose.db"
    with database(path):
        pass
    return path


def read(path: Path) -> list[tuple[int, float]]:
    reader = Reader(reading(url(path)))
    page = reader._read(lambda tx: reader.page(tx, "EN02.S01", -(2**63), None, 10**6))
    reader.close()
    return list(zip(page.times.tolist(), page.values.tolist(), strict=True))


def crash(path: Path, step: Sealing, statement: int) -> bool:
    """Carry out a step in a process that ends before its n-th statement; whether there was one."""
    child = os.fork()
    if child == 0:
        made = engine(url(path))
        count = 0

        @event.listens_for(made, "before_cursor_execute")
        def _count(*_: object) -> None:
            nonlocal count
            count += 1
            if count == statement:
                os._exit(9)

        @event.listens_for(made, "commit")
        def _commit(_: object) -> None:
            if count + 1 == statement:
                os._exit(9)

        try:
            with made.begin() as tx:
                carry_out(tx, 0, step, audit.seal_history)
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, 9)
    return code == 9


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=MINUTES, late=MINUTES)
def test_a_crash_at_any_statement_of_a_step_loses_and_doubles_nothing(
    empty: Path, tmp_path: Path, before: list[int], late: list[int]
) -> None:
    # Frames of three hours, in any order, some of them sealed before: the step makes, replaces and deletes.
    folder = Path(tempfile.mkdtemp(dir=tmp_path))
    path = Path(shutil.copy(empty, folder))
    clock = settled(3)
    with database(path) as made, writing(made, clock=clock) as writer, sealing(path, writer, clock) as sealer:
        writer.append(
            [row("EN02", BEGIN + minute * HOUR // 60, [float(n)]) for n, minute in enumerate(before)]
        ).result()
        sealer.seal()
        writer.append([row("EN02", BEGIN + minute * HOUR // 60, [100.0 + n]) for n, minute in enumerate(late)]).result()
        with sealer._database.connect() as connection:
            step = prepare(connection, LAYOUT, clock.now(), audit.as_logged)
    assert step is not None
    recorded = read(path)
    assert len(recorded) == len(before) + len(late)
    statement, crashed = 1, True
    while crashed:
        copy = folder / f"{statement}.db"
        shutil.copy(path, copy)
        crashed = crash(copy, step, statement)
        assert read(copy) == recorded
        assert verify.check(copy).problems == []
        statement += 1
    assert statement > 7
