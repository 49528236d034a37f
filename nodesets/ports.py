"""The verbs between the packages, as Protocols. Architecture: sources produce frames, sinks consume them."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nodesets.model import Codes, EventRow, Finding, Floats, Frame, Note, Row


class Clock(Protocol):
    """The only source of time. `SystemClock` in service, a stepped one in scenarios and tests."""

    def now(self) -> int:
        """Nanoseconds UTC since 1970."""

    def monotonic(self) -> float:
        """Seconds of a clock that never steps."""

    async def sleep_until(self, instant: float) -> None:
        """Return when `monotonic()` has reached `instant`; at once when it has passed."""


class SystemClock:
    """Clock of the machine."""

    def now(self) -> int:
        return time.time_ns()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep_until(self, instant: float) -> None:
        await asyncio.sleep(max(0.0, instant - time.monotonic()))


class Source(Protocol):
    """A driver of one device.

    `run` polls on an absolute schedule and emits exactly one frame a period, also of a failed poll.
    """

    async def run(self, emit: Callable[[Frame], None]) -> None:
        """Poll until cancelled. A dead device is a frame with causes, never an exception."""

    async def command(self, name: str, argument: float = 0.0) -> None:
        """Carry out one of `start_cycle`, `stop`, `zero`, `span` on the device.

        Raises DeviceError when the device did not confirm it. Callers come through one guarded method call.
        """

    async def identity(self) -> Mapping[str, str]:
        """Vendor, Model, SerialNumber, Firmware as the device tells them. Raises DeviceError."""


class Sink(Protocol):
    """Shows what has been recorded. Called on the event loop, after the commit."""

    def show(self, row: Row) -> None: ...

    def find(self, finding: Finding) -> None: ...


@dataclass(frozen=True, slots=True)
class Series:
    """Recorded values of one tag in reading order."""

    times: NDArray[np.int64]
    """Source time, ns UTC, shape (n,)."""
    received: NDArray[np.int64]
    values: Floats
    status: Codes
    more: tuple[int, int] | None
    """Where the next page begins (source time, row number); None at the end."""


class Recorder(Protocol):
    """Where rows become durable. Visible means committed: what is shown was recorded first."""

    def append(self, rows: Sequence[Row]) -> Future[None]:
        """Record rows of any groups in order; done when durable (fsynced). Never blocks the caller.

        The future carries StorageError when they could not be recorded.
        """


class Journal(Protocol):
    """Where events and what clients did become durable: shown means recorded."""

    def note(self, events: Sequence[EventRow], notes: Sequence[Note]) -> Future[None]:
        """Record both in one transaction, in order; done when durable. Never blocks the caller.

        The future carries StorageError when neither could be recorded.
        """


class History(Protocol):
    """Recorded values, read back."""

    async def read_raw(
        self, tag: str, start: int | None, end: int | None, limit: int, after: tuple[int, int] | None = None
    ) -> Series:
        """At most `limit` values of a tag with start <= time < end (Part 11 6.5.3).

        Backward when start > end, or when start is None. `after` is `Series.more` of the previous
        page. An unknown tag raises NotFound.
        """


class Detector(Protocol):
    """Watches one stream of numbers. Higher score is more abnormal; 1.0 is the limit."""

    def score(self, x: Floats) -> float: ...
