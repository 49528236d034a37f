"""A process whose disk fails: prints how each of three appends went, before, during and after the fault.

faulty.py DATABASE limit    writes beyond a size fail (RLIMIT_FSIZE), then the limit is lifted
faulty.py DATABASE fsync    fsync fails with EIO while the file DATABASE.fault is there (LD_PRELOAD of fsync.c)
"""

import resource
import sys
from pathlib import Path

from historian.writer import Writer
from nodesets.errors import StorageError
from tests.unit.historian.support import database, row, writing


def main(path: str, fault: str) -> None:
    with database(Path(path)) as made, writing(made) as writer:
        print(attempt(writer, 1))
        if fault == "limit":
            size = Path(f"{path}-wal").stat().st_size
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, resource.RLIM_INFINITY))
        else:
            Path(f"{path}.fault").touch()
        print(attempt(writer, 2))
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        Path(f"{path}.fault").unlink(missing_ok=True)
        print(attempt(writer, 3))


def attempt(writer: Writer, time: int) -> str:
    try:
        writer.append([row("EN02", time, (time,))]).result()
    except StorageError:
        return "refused"
    return "recorded"


if __name__ == "__main__":
    main(*sys.argv[1:])
