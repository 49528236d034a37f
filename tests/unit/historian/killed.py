"""A process that records until it is killed: prints what was acknowledged, a line each, after the acknowledgement.

`killed.py DATABASE RUN` appends rows with values (run, n) and makes layouts named `run/n`.
"""

import sys
from pathlib import Path

from tests.unit.historian.support import database, make_layout, row, writing


def main(path: str, run: str) -> None:
    with database(Path(path)) as made, writing(made, {"KILLED": ("run", "n")}, queue=1000) as writer:
        number = 0
        while True:
            number += 1
            appended = [writer.append([row("KILLED", number, (int(run), number))]) for _ in range(3)]
            worked = writer.submit(lambda tx, name=f"{run}/{number}": make_layout(tx, name))
            for future in appended:
                future.result()
            worked.result()
            print(number, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
