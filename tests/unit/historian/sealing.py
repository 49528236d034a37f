"""Sealing as the service does it, in steps a test takes one by one."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from compliance import audit
from historian.chunks import HOUR
from historian.schema import reading
from historian.seal import SETTLE, Sealer
from historian.writer import Writer
from tests.unit.historian.support import NOW, SteppedClock, url

BEGIN = NOW // HOUR * HOUR
"""The hour the clock of the tests begins in."""


@contextmanager
def sealing(path: Path | str, writer: Writer, clock: SteppedClock) -> Iterator[Sealer]:
    """A sealer that seals when it is told to."""
    database = reading(url(path))
    yield Sealer(database, writer, clock=clock, seconds=60, logged=audit.seal_history, unaltered=audit.as_logged)
    database.dispose()


def settled(hours: int = 1) -> SteppedClock:
    """A clock that tells of a time when so many hours from BEGIN are over and settled."""
    clock = SteppedClock()
    clock.seconds = (BEGIN + hours * HOUR + SETTLE - NOW) / 1e9 + 1
    return clock
