"""The absolute schedule."""

from contextlib import aclosing

from hypothesis import given
from hypothesis import strategies as st

from opcua_server.drivers.schedule import Schedule


class Stepped:
    """Time passes only when something waits or works."""

    def __init__(self) -> None:
        self.time = 100.0

    def now(self) -> int:
        return round(self.time * 1e9)

    def monotonic(self) -> float:
        return self.time

    async def sleep_until(self, instant: float) -> None:
        self.time = max(self.time, instant)


# Drift free, and every period accounted for: period k is given exactly once, in order, at start + k x period, and is
# an overrun exactly when it was over before its turn came.
@given(st.lists(st.floats(0, 5), min_size=1, max_size=40))
async def test_each_period_is_given_once_at_its_own_instant(work: list[float]) -> None:
    clock, schedule = Stepped(), Schedule()
    start, given_ = clock.time, []
    durations = iter(work)
    async with aclosing(schedule.ticks(clock, start, 1.0)) as ticks:
        async for due, overrun in ticks:
            given_.append((due, overrun))
            assert overrun == (clock.time - due >= 1.0)
            if not overrun:
                duration = next(durations, None)
                if duration is None:
                    break
                clock.time += duration
    assert [due for due, _ in given_] == [start + k for k in range(len(given_))]
    assert schedule.overruns == sum(overrun for _, overrun in given_)
    assert schedule.due == len(given_) - 1
    assert all(0.0 <= lag < 1.0 for lag in schedule.lag)
