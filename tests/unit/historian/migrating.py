"""A process that brings a database up to date and is killed at its n-th statement. `migrating.py ADDRESS N`."""

import itertools
import os
import signal
import sys

from sqlalchemy import event

from historian.schema import engine, migrate


def main(address: str, at: str) -> None:
    made = engine(address)
    numbers = itertools.count(1)

    @event.listens_for(made, "before_cursor_execute")
    def _execute(*_: object) -> None:
        if next(numbers) == int(at):
            os.kill(os.getpid(), signal.SIGKILL)

    migrate(made)
    made.dispose()


if __name__ == "__main__":
    main(*sys.argv[1:])
