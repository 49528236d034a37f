"""A process whose spool meets a failing fsync: prints how each of three writes went, before, during and after it.

`unsynced.py FOLDER FAULT`, with fsync.c preloaded: fsync fails while the file FAULT is there.
"""

import sys
from pathlib import Path

from historian.spool import Spool
from nodesets.errors import StorageError
from tests.unit.historian.support import GROUPS, row


def main(folder: str, fault: str) -> None:
    made = Spool(Path(folder), GROUPS, limit=1 << 20, reserve=0)
    print(attempt(made, 1))
    Path(fault).touch()
    print(attempt(made, 2))
    Path(fault).unlink()
    print(attempt(made, 3))


def attempt(made: Spool, first: int, rows: int = 1) -> str:
    many = [row("EN02", time, [0.0]) for time in range(first, first + rows)]
    made.put_rows(made.encoded(many), rows, made.last + rows)
    try:
        made.flush()
    except StorageError:
        return "refused"
    return "kept"


if __name__ == "__main__":
    main(*sys.argv[1:])
