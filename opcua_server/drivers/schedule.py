"""An absolute schedule: tick k is due at start + k * period, however long the work before it took."""

from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from nodesets.ports import Clock


@dataclass(slots=True)
class Schedule:
    """What became of the periods of one driver; each is either done or an overrun."""

    done: int = 0
    overruns: int = 0
    """Periods that had passed whole before their poll could begin."""
    lag: deque[float] = field(default_factory=lambda: deque(maxlen=1000))
    """Seconds each of the last polls began after it was due."""

    @property
    def due(self) -> int:
        return self.done + self.overruns

    async def ticks(self, clock: Clock, start: float, period: float) -> AsyncGenerator[tuple[float, bool]]:
        """(instant it was due, whether it is an overrun) of every period in order, in `clock.monotonic()` seconds.

        A late tick is given at once while its own period lasts; one whose period is over is an overrun.
        """
        tick = 0
        while True:
            await clock.sleep_until(start + tick * period)
            current = int((clock.monotonic() - start) // period)
            for missed in range(tick, current):
                self.overruns += 1
                yield start + missed * period, True
            tick = max(tick, current)
            due = start + tick * period
            self.lag.append(max(0.0, clock.monotonic() - due))
            yield due, False
            self.done += 1
            tick += 1
