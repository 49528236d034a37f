"""A process on a full disk of 1 MiB: prints how writes to a spool with a reserve of 256 KiB went: within the reserve,
beyond it, and after the spool was begun anew. `full.py FOLDER`, in a mount namespace of its own.
"""

import subprocess
import sys
from pathlib import Path

from historian.spool import Spool
from tests.unit.historian.support import GROUPS
from tests.unit.historian.unsynced import attempt


def main(folder: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=True)
    made = Spool(Path(folder) / "spool", GROUPS, limit=1 << 30, reserve=256 * 1024)
    fill(Path(folder) / "other")
    print(attempt(made, 0, 1000))
    print(attempt(made, 0, 10_000))
    made.restart()
    print(attempt(made, 0, 1000))


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return


if __name__ == "__main__":
    main(*sys.argv[1:])
