"""The verbs between the packages, as Protocols. Architecture: sources produce frames, sinks consume them."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from nodesets.model import (
    AggregateRules,
    Caller,
    Codes,
    EventRow,
    Finding,
    Floats,
    Frame,
    Note,
    Row,
    UpdateType,
)


class Clock(Protocol):
    """The only source of time. `SystemClock` in service, a stepped one in scenarios and tests."""

    def now(self) -> int:
        """Nanoseconds UTC since 1970."""

    def monotonic(self) -> float:
        """Seconds of a clock that never steps."""

    async def sleep_until(self, instant: float) -> None:
        """Return when `monotonic()` has reached `instant`; at once when it has passed."""


class SystemClock:
    """Clock of the machine, in whole microseconds: what a client is shown of a time is all of it, to ask for it by."""

    def now(self) -> int:
        return time.time_ns() // 1000 * 1000

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


Position = tuple[int, int]
"""(source time, row number) of a value: where a page ended."""


@dataclass(frozen=True, slots=True)
class Series:
    """Recorded values of one tag in reading order."""

    times: NDArray[np.int64]
    """Source time, ns UTC, shape (n,)."""
    received: NDArray[np.int64]
    values: NDArray[Any]
    """float64; of other tags their own type: int64, uint64, bool, or object for texts (None for one there is not)."""
    status: Codes
    more: Position | None
    """Where the next page begins; None at the end."""


@dataclass(frozen=True, slots=True)
class Modified:
    """Values that were superseded, deleted or inserted, and what was done to each (Part 11 6.6.3)."""

    series: Series
    made: tuple[int, ...]
    """When, ns UTC."""
    kinds: tuple[UpdateType, ...]
    users: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Annotation:
    """What a user noted of one instant of a tag (Part 11 6.6.6)."""

    time: int
    """Of the value it is about, ns UTC."""
    message: str
    user: str
    made: int
    """When it was noted, ns UTC."""


@dataclass(frozen=True, slots=True)
class Change:
    """One value a HistoryUpdate writes."""

    time: int
    received: int
    value: Any
    """Number, Boolean or text; None: null."""
    status: int


class Corrected(NamedTuple):
    """What became of one correction of the history."""

    status: int
    old: Sequence[Change] | Sequence[Annotation] = ()
    """What stood there before; of what was refused nothing."""


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
    """Recorded values with corrections above them, read back. An unknown tag raises NotFound."""

    async def read_raw(
        self, tag: str, start: int | None, end: int | None, limit: int, after: Position | None = None
    ) -> Series:
        """At most `limit` values of a tag with start <= time < end (Part 11 6.5.3).

        Backward when start > end, or when start is None. `after` is `Series.more` of the previous page.
        """


class Archive(History, Protocol):
    """What HistoryRead and HistoryUpdate are answered from."""

    async def read_modified(
        self, tag: str, start: int | None, end: int | None, limit: int, after: Position | None = None
    ) -> Modified:
        """Values that were superseded, deleted or inserted, as `read_raw` reads (6.5.3.3)."""

    async def read_at(
        self, tag: str, times: NDArray[np.int64], rules: AggregateRules, *, use_simple_bounds: bool
    ) -> Series:
        """A value for each instant, in their order (6.5.5)."""

    async def read_processed(
        self, tag: str, aggregate: str, over: tuple[int, int, int], page: tuple[int, int], rules: AggregateRules
    ) -> Series:
        """An aggregate (Part 13) of intervals of [start, end), each so many ns long; 0: one interval.

        `over` is (start, end, length); `page` the number of the first interval and how many.
        """

    async def read_annotations(
        self, tag: str, start: int | None, end: int | None, limit: int, after: Position | None = None
    ) -> tuple[Sequence[Annotation], Position | None]:
        """As `read_raw` reads; with where the next page begins."""

    async def update(
        self, tag: str, changes: Sequence[Change], kind: UpdateType, caller: Caller, reason: str
    ) -> list[Corrected]:
        """Insert, replace or update values, each by itself (6.9.2)."""

    async def delete(self, tag: str, start: int, end: int, caller: Caller, reason: str) -> tuple[int, Sequence[Change]]:
        """Delete the values with start <= time < end; how many, and the first of them (6.9.4)."""

    async def delete_at(self, tag: str, times: Sequence[int], caller: Caller, reason: str) -> list[Corrected]:
        """Delete the values at these instants, each by itself (6.9.5)."""

    async def annotate(
        self, tag: str, notes: Sequence[Annotation], kind: UpdateType, caller: Caller
    ) -> list[Corrected]:
        """Insert, replace, update or remove annotations, each by itself (6.9.3)."""


class Detector(Protocol):
    """Watches one stream of numbers. Higher score is more abnormal; 1.0 is the limit."""

    def score(self, x: Floats) -> float: ...
