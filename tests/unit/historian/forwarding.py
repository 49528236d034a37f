"""A process that records through outages until it is killed: prints the time of every confirmed row, a line each.

`forwarding.py DATABASE RUN`; row n of run r has the source time r * 1,000,000 + n.
"""

import itertools
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

from historian import schema
from tests.unit.historian.support import row
from tests.unit.historian.test_forward import opened


def main(path: str, run: str) -> None:
    schema.BUSY_SECONDS = 0.01  # type: ignore[misc]
    with opened(Path(path)) as plant, closing(sqlite3.connect(path, isolation_level=None)) as other:
        for number in itertools.count(int(run) * 1_000_000):
            if number % 100 == 20:
                other.execute("BEGIN IMMEDIATE")
            if number % 100 == 60:
                other.execute("ROLLBACK")
            plant.recorder.append([row("EN02", number, [number])]).result()
            print(number, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
