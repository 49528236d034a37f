"""Kill a process that records and seals, again and again: nothing acknowledged is lost or doubled, the log verifies.

    python -m tests.fault.kill9 --runs 1000

Each run is a child of this process on the database the runs before it left. It records rows of two devices, some of
them late, as fast as they are acknowledged, on a clock by which their hours are over at once, while a sealer turns them
into blocks without a pause. It reports every acknowledgement through a pipe, and is killed after a random time.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from compliance import verify
from historian.chunks import HOUR
from historian.query import Reader
from historian.schema import reading
from nodesets.model import Row
from tests.unit.historian.sealing import BEGIN, sealing
from tests.unit.historian.support import NOW, SteppedClock, database, row, url, writing

STEP: Final = 300 * 10**9
"""ns between two rows of a device."""
TAGS: Final = ("EN01.S02", "EN02.S01")
RUNS_A_DATABASE: Final = 100
LONGEST: Final = 0.2
"""Seconds a child lives."""


def rows(number: int) -> list[Row]:
    """The rows of one append; every seventh is late by an hour and a half."""
    at = BEGIN + number * STEP - (3 * HOUR // 2) * (number % 7 == 0)
    return [row("EN01", at, [0.0, float(number), 0.5]), row("EN02", at, [float(number)])]


def record(path: Path, number: int, acknowledged: int) -> None:
    """Record rows from `number` on, and seal, until killed."""
    clock = SteppedClock()
    with database(path) as made, writing(made, clock=clock) as writer, sealing(path, writer, clock) as sealer:
        threading.Thread(target=lambda: [sealer.seal() for _ in iter(int, 1)], daemon=True).start()
        while True:
            clock.seconds = (BEGIN + number * STEP + HOUR - NOW) / 1e9
            writer.append(rows(number)).result()
            os.write(acknowledged, number.to_bytes(8, "little"))
            number += 1


def killed(work: Callable[[int], object], seconds: float) -> int:
    """Kill a child at `work` once it has told a number, and some time later; the last one it told.

    `work` is given the pipe it writes its numbers to, 8 bytes little endian each, and does not end by itself.
    """
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ours)
        try:
            work(theirs)
        finally:
            os._exit(1)
    os.close(theirs)
    with os.fdopen(ours, "rb") as pipe:
        last = pipe.read(8)
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
        rest = pipe.read()
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL, "the child ended by itself"
    return int.from_bytes((rest or last)[-8:], "little")


def check(path: Path, acknowledged: int) -> None:
    """Every number up to the last acknowledged one is there once, in both devices; the log is clean."""
    assert verify.check(path).problems == []
    reader = Reader(reading(url(path)))
    for tag in TAGS:
        page = reader._read(lambda tx, tag=tag: reader.page(tx, tag, -(2**63), None, 10**9))
        found = sorted(page.values.tolist())
        # the append under way when the child was killed may be there or not; it is there as a whole
        assert found == list(range(len(found))), tag
        assert len(found) > acknowledged
        for at, value in zip(page.times.tolist(), page.values.tolist(), strict=True):
            assert at == rows(int(value))[0].source_time
    reader.close()


def runs(count: int, seed: int) -> tuple[int, int]:
    """So many runs; how many rows and blocks the databases held at last."""
    chosen = random.Random(seed)
    kept = sealed = 0
    for first in range(0, count, RUNS_A_DATABASE):
        with tempfile.TemporaryDirectory(prefix="enose-kill9-") as folder:
            path, number = Path(folder) / "enose.db", 0
            with database(path):
                pass
            for _ in range(first, min(first + RUNS_A_DATABASE, count)):
                last = killed(partial(record, path, number), chosen.uniform(0, LONGEST))
                check(path, last)
                number = next_number(path)
            kept += 2 * number
            sealed += blocks(path)
    return kept, sealed


def next_number(path: Path) -> int:
    reader = Reader(reading(url(path)))
    page = reader._read(lambda tx: reader.page(tx, TAGS[1], -(2**63), None, 10**9))
    reader.close()
    return len(page.times)


def blocks(path: Path) -> int:
    with database(path) as made, made.begin() as tx:
        return int(tx.exec_driver_sql("SELECT count(*) FROM block").scalar_one())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=9)
    options = parser.parse_args()
    kept, sealed = runs(options.runs, options.seed)
    print(
        f"{options.runs} kills, {kept} rows, {sealed} blocks: nothing acknowledged lost, nothing doubled, verify clean"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
