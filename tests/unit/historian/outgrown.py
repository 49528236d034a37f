"""A process whose database lies on a disk of 2 MiB that somebody fills: prints where rows went before, meanwhile and
after, how many are recorded in the end, and whether the log bears them out. `outgrown.py FOLDER`, in a mount namespace
of its own; the spool is on another disk.
"""

import subprocess
import sys
from pathlib import Path

from compliance import verify
from tests.unit.historian.full import fill
from tests.unit.historian.test_forward import Plant, done, opened


def main(folder: str) -> None:
    disk, spool = Path(folder) / "disk", Path(folder) / "spool"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)], check=True)
    path = disk / "enose.db"
    with opened(path, spool=spool) as plant:
        done(plant.append(range(1000)))
        tell(plant)
        fill(disk / "other")
        for time in range(1000, 2000):
            done(plant.append([time]))
        tell(plant)
        (disk / "other").unlink()
        plant.settled()
        done(plant.append(range(2000, 3000)))
        tell(plant)
        recorded = plant.recorded()
    print(len(recorded) if recorded == sorted(set(recorded)) else recorded)
    print("clean" if verify.check(path).clean else "altered")


def tell(plant: Plant) -> None:
    print("spool" if plant.recorder.forwarding else "direct")


if __name__ == "__main__":
    main(*sys.argv[1:])
