"""What holds for every driver of `DRIVERS`."""

import asyncio
import contextlib

import numpy as np
import pytest

from config.load import DEMO, load
from config.schema import Device
from nodesets.errors import DeviceError
from nodesets.model import Frame
from nodesets.ports import SystemClock
from opcua_server.device.server import serve, simulated
from opcua_server.drivers import DRIVERS
from opcua_server.drivers.physics import find_scenario, load_scenario

PLANT = load(DEMO)
PERIOD = 0.05


@pytest.fixture
async def device() -> Device:
    """A device that both drivers can reach: behind a port, and as a scenario."""
    listening = asyncio.get_running_loop().create_future()
    scenario = load_scenario(find_scenario("coffee_a"))
    task = asyncio.create_task(
        serve(simulated(scenario, period=PERIOD), port=0, step=PERIOD, listening=listening.set_result)
    )
    values = {"period": PERIOD, "timeout": 1.0, "scenario": "coffee_a", "port": await listening}
    yield PLANT.devices[0].model_copy(update=values)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def collected(name: str, device: Device, count: int) -> list[Frame]:
    frames: list[Frame] = []
    enough = asyncio.Event()

    def emit(frame: Frame) -> None:
        frames.append(frame)
        if len(frames) >= count:
            enough.set()

    source = DRIVERS[name](device, PLANT.registers(device), SystemClock(), 1)
    task = asyncio.create_task(source.run(emit))
    await enough.wait()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    return frames


def test_every_driver_the_plant_may_name_is_in_the_table() -> None:
    assert set(DRIVERS) == set(Device.model_fields["driver"].annotation.__args__)


@pytest.mark.parametrize("name", DRIVERS)
async def test_frames_have_the_shape_the_plant_says(name: str, device: Device) -> None:
    n = len(device.columns(PLANT.registers(device)))
    for frame in await collected(name, device, 5):
        assert frame.device == device.id
        assert frame.values.shape == frame.causes.shape == (n,)
        assert (frame.values.dtype, frame.causes.dtype) == (np.float64, np.uint8)
        assert (~np.isnan(frame.values) | (frame.causes != 0)).all()


# Two runs side by side over the same count must take the same time: one frame a period, no drift.
@pytest.mark.parametrize("name", DRIVERS)
async def test_one_frame_a_period(name: str, device: Device) -> None:
    frames = await collected(name, device, 20)
    span = (frames[-1].received_time - frames[0].received_time) / 1e9
    assert span >= 18 * PERIOD


# Arrays belong to the frame that holds them.
@pytest.mark.parametrize("name", DRIVERS)
async def test_frames_share_no_memory(name: str, device: Device) -> None:
    first, second = (await collected(name, device, 2))[:2]
    assert not np.shares_memory(first.values, second.values)
    assert not np.shares_memory(first.causes, second.causes)


@pytest.mark.parametrize("name", DRIVERS)
async def test_unknown_command_is_refused(name: str, device: Device) -> None:
    with pytest.raises(DeviceError):
        await DRIVERS[name](device, PLANT.registers(device), SystemClock(), 1).command("explode")


@pytest.mark.parametrize("name", DRIVERS)
async def test_identity_tells_all_four_names(name: str, device: Device) -> None:
    identity = await DRIVERS[name](device, PLANT.registers(device), SystemClock(), 1).identity()
    assert set(identity) == {"Vendor", "Model", "SerialNumber", "Firmware"}
    assert all(identity.values())
