"""A plant at simulated time: the same pipeline and alarms as in service, without sockets, as fast as the machine can.

Weeks of drift and alarms run in minutes, and every run of a scenario is the same.
"""

import asyncio
import heapq
import itertools
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace

from analytics.features import Features
from analytics.fingerprint import Judgement
from config.schema import Plant
from nodesets.errors import EnoseError
from nodesets.model import Basis, Counters, Finding, Frame, Phase, Quality, Result, Row
from opcua_server.drivers import DRIVERS
from opcua_server.pipeline import Pipeline, Sink
from opcua_server.plant.alarm_states import Notification
from opcua_server.plant.alarms import Act, Alarms

SECOND = 1_000_000_000
TURNS = 4
"""Of the loop: a frame is handed over in the next one, and answered and shown in those after it."""


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
            for _ in range(TURNS):  # what an instant brings is shown at that instant
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


# Alarms


@dataclass(frozen=True, slots=True)
class Step:
    """Something of a scripted run that no device does: a person's act on an alarm, or a finding."""

    at: float
    """Seconds from the start."""
    what: Act | Finding
    """An act without EventId names the alarm's newest notification."""
    node: str = ""
    """Of the alarm acted on."""


class Bell:
    """A sink that follows the alarms of a plant, and writes down what is told of them."""

    def __init__(self, plant: Plant, clock: SteppedClock, script: Sequence[Step]) -> None:
        ids = itertools.count(1)
        self._alarms = Alarms(plant, lambda: next(ids).to_bytes(16))
        self._clock = clock
        self._begin = clock.now()
        self._script = sorted(script, key=lambda step: step.at, reverse=True)
        self.trace: list[str] = []
        """One line a notification or refusal, in order."""

    def show(self, frame: Frame, row: Row, data_quality: float) -> None:  # noqa: ARG002 - part of pipeline.Sink
        now = self._clock.now()
        self._tell(self._alarms.inhibit("FlowLow", frame.device, frame.phase is Phase.PURGE, now))
        self._tell(self._alarms.due(now))
        while self._script and self._script[-1].at * SECOND <= now - self._begin:
            self._take(self._script.pop(), now)

    def lost(self, row: Row) -> None:
        """Nothing is refused here."""

    def cycle(self, stream: str, cycle: Features, drift_index: float) -> None:
        """Alarms follow from findings."""

    def result(self, result: Result, judgement: Judgement) -> None:
        """Alarms follow from findings."""

    def find(self, finding: Finding) -> None:
        self._tell(self._alarms.update(finding, self._clock.now()))

    def judge(self, basis: Basis) -> None:
        self._tell(self._alarms.judge(basis, self._clock.now()))

    def _take(self, step: Step, now: int) -> None:
        if isinstance(step.what, Finding):
            self.find(replace(step.what, time=now))
            return
        act = step.what
        if not act.event_id:
            act = replace(act, event_id=self._alarms[step.node].trunk.event_id)
        try:
            self._tell(self._alarms.perform(step.node, act, now))
        except EnoseError as error:
            self.trace.append(f"{self._seconds(now)} {act.user} {act.name} {step.node}: {type(error).__name__}")

    def _tell(self, told: Sequence[Notification]) -> None:
        self.trace += map(self._line, told)

    def _line(self, told: Notification) -> str:
        condition, branch = told.condition, told.branch
        marks = [f"branch {branch.number}"] if branch.number else []
        marks += [branch.level] if branch.level else []
        marks += [word for word, on in (("retained", told.retain), ("hidden", condition.hidden)) if on]
        marks += [Quality(branch.quality).name] if branch.quality else []
        marks += ["disabled"] if not condition.enabled.on else []
        said = f" {branch.user}: {branch.comment}" if branch.user else ""
        state = f"{branch.state.value}, severity {branch.severity}"
        number = int.from_bytes(branch.event_id)
        return f"{self._seconds(branch.time)} #{number} {condition.node}: {', '.join([state, *marks])}.{said}"

    def _seconds(self, time: int) -> str:
        return f"{(time - self._begin) / SECOND:8.2f}"


async def alarms(
    plant: Plant,
    seconds: float,
    script: Sequence[Step] = (),
    *,
    seed: int = 0,
    prepare: Callable[[Pipeline], None] = lambda _: None,
) -> list[str]:
    """What is told of the alarms of a plant of simulated devices, line by line; the same at every run."""
    clock = SteppedClock()
    bell = Bell(plant, clock, script)
    await run(plant, seconds, bell, clock=clock, seed=seed, prepare=prepare)
    return bell.trace
