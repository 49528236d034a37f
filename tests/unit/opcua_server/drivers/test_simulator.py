"""The in-process source."""

import asyncio

import numpy as np
import pytest

from config.load import DEMO, load
from nodesets.errors import ConfigurationError, DeviceError
from nodesets.model import Cause, Frame, Phase
from opcua_server.drivers import DRIVERS
from opcua_server.drivers.physics import SECOND, Physics, find_scenario, load_scenario

PLANT = load(DEMO)


class Stepped:
    """Simulated time: waiting is over at once, and ends for good at `end`."""

    def __init__(self, end: float) -> None:
        self.time, self.end = 0.0, end

    def now(self) -> int:
        return 1_700_000_000 * SECOND + round(self.time * SECOND)

    def monotonic(self) -> float:
        return self.time

    async def sleep_until(self, instant: float) -> None:
        if instant > self.end:
            raise asyncio.CancelledError
        self.time = max(self.time, instant)


async def frames(scenario: str, seconds: float) -> list[Frame]:
    device = PLANT.devices[0].model_copy(update={"driver": "simulator", "scenario": scenario})
    seen: list[Frame] = []
    source = DRIVERS["simulator"](device, PLANT.registers(device), Stepped(seconds), 1)
    with pytest.raises(asyncio.CancelledError):
        await source.run(seen.append)
    return seen


# Scenarios at simulated time drive the same pipeline as a device: the values are those of the physics, one frame a
# period, months in minutes.
async def test_simulated_hour_is_the_physics_sampled_once_a_period() -> None:
    seen = await frames("coffee_a", 600)
    assert len(seen) == 601
    physics = Physics(load_scenario(find_scenario("coffee_a")), 1)
    for k in (0, 7, 600):
        assert seen[k].values.tolist() == physics.at(k * SECOND).row(PLANT.devices[0]).tolist()
    assert set(np.diff([f.source_time for f in seen])) == {SECOND}
    assert seen[8].phase == Phase.EXPOSURE


# A benchmark needs many channels that change in every frame, within their range, and costs nothing to make.
async def test_waves_stay_within_the_range_and_change_in_every_frame() -> None:
    seen = np.array([f.values[: len(PLANT.devices[0].channels)] for f in await frames("waves", 100)])
    low, high = PLANT.devices[0].channels[0].range
    assert ((low <= seen) & (seen <= high)).all()
    assert (np.diff(seen, axis=0) != 0).all()


async def test_scripted_events_come_as_causes() -> None:
    seen = await frames("bad_day", 400)
    assert {c for f in seen[350:358] for c in f.causes.tolist()} == {Cause.LINK_LOST}
    assert not seen[358].causes.any()
    assert np.flatnonzero(seen[210].causes == Cause.CHANNEL_FAULT).tolist() == [2]


async def test_command_before_switching_on_is_refused() -> None:
    device = PLANT.devices[0].model_copy(update={"scenario": "coffee_a"})
    source = DRIVERS["simulator"](device, PLANT.registers(device), Stepped(1), 1)
    with pytest.raises(DeviceError):
        await source.command("start_cycle")


def test_simulator_without_a_scenario_is_a_mistake_in_the_plant() -> None:
    with pytest.raises(ConfigurationError, match="scenario"):
        DRIVERS["simulator"](PLANT.devices[0], PLANT.registers(PLANT.devices[0]), Stepped(1), 1)
