"""A plant at simulated time: the same pipeline and alarms as in service, without sockets, as fast as the machine can.

Weeks of drift and alarms run in minutes, and every run of a scenario is the same.
"""

import asyncio
import heapq
import itertools
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future

from config.schema import Plant
from nodesets.model import Counters, Result, Row
from opcua_server.drivers import DRIVERS
from opcua_server.pipeline import Pipeline, Sink

SECOND = 1_000_000_000


class SteppedClock:
    """`ports.Clock` whose time passes only when everybody who works by it waits for it."""

    def __init__(self, start: int = 1_767_225_600 * SECOND) -> None:
        """`start`: ns UTC; 2026-01-01 by default."""
        self._start = start
        self._instant = 0.0
        self._order = itertools.count()
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []

    def now(self) -> int:
        return self._start + round(self._instant * SECOND)

    def monotonic(self) -> float:
        return self._instant

    async def sleep_until(self, instant: float) -> None:
        if instant <= self._instant:
            return
        reached: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (instant, next(self._order), reached))
        await reached

    async def run(self, seconds: float, sleepers: int) -> None:
        """Let `seconds` pass for `sleepers` tasks that live by this clock."""
        end = self._instant + seconds
        while True:
            while len(self._waiting) < sleepers:  # noqa: ASYNC110 - what they wait for is this loop's next turn
                await asyncio.sleep(0)
            instant, _, reached = self._waiting[0]
            if instant > end:
                self._instant = end
                return
            heapq.heappop(self._waiting)
            self._instant = instant
            reached.set_result(None)


class Unrecorded:
    """A recorder without a disk: what a scenario shows is not kept."""

    def append(self, rows: Sequence[Row]) -> Future[None]:  # noqa: ARG002 - part of ports.Recorder
        done: Future[None] = Future()
        done.set_result(None)
        return done


async def _as_it_is(result: Result) -> Result:
    return result


async def run(
    plant: Plant,
    seconds: float,
    sink: Sink,
    *,
    clock: SteppedClock | None = None,
    seed: int = 0,
    prepare: Callable[[Pipeline], None] = lambda _: None,
    record: Callable[[Result], Awaitable[Result]] = _as_it_is,
) -> Counters:
    """Run a plant of simulated devices for so many simulated seconds.

    `prepare` is given the pipeline before it starts, e.g. to say what streams are compared with.
    Raises ConfigurationError for a device without a scenario.
    """
    clock = clock or SteppedClock()
    pipeline = Pipeline(plant, Unrecorded(), sink, clock)
    prepare(pipeline)
    sources = [DRIVERS["simulator"](d, plant.registers(d), clock, seed) for d in plant.devices]
    tasks = [asyncio.create_task(source.run(pipeline.take)) for source in sources]
    tasks.append(asyncio.create_task(pipeline.store_results(record)))
    try:
        await clock.run(seconds, len(sources))
        await pipeline.settled()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return pipeline.counters
