"""The device and the driver over a real socket."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
from pymodbus.client import AsyncModbusTcpClient

from config.load import DEMO, load
from config.schema import Block, Channel, Device, RegisterMap
from nodesets.errors import ConfigurationError, DeviceError
from nodesets.model import Cause, Frame, Phase
from nodesets.ports import SystemClock
from opcua_server.device.__main__ import parser, units
from opcua_server.device.registers import SIGNED, UNSIGNED
from opcua_server.device.replay import load_recording
from opcua_server.device.server import Unit, replayed, serve, simulated
from opcua_server.drivers.modbus import Modbus
from opcua_server.drivers.physics import SECOND, Event, Physics, find_scenario, load_scenario

PLANT = load(DEMO)
GOOD = load_scenario(find_scenario("coffee_a"))
STEP = 0.05


@asynccontextmanager
async def serving(served: Sequence[Unit], step: float = STEP, port: int = 0) -> AsyncIterator[int]:
    listening = asyncio.get_running_loop().create_future()

    def tell(at: int) -> None:
        if not listening.done():
            listening.set_result(at)

    task = asyncio.create_task(serve(served, port=port, step=step, listening=tell))
    try:
        await asyncio.wait([task, listening], return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            await task
        yield await listening
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, ConfigurationError):
            await task


@asynccontextmanager
async def polling(driver: Modbus) -> AsyncIterator["asyncio.Queue[Frame]"]:
    frames: asyncio.Queue[Frame] = asyncio.Queue()
    task = asyncio.create_task(driver.run(frames.put_nowait))
    try:
        yield frames
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def demo(port: int, **values: object) -> Device:
    return PLANT.devices[0].model_copy(update={"port": port, "period": STEP, "timeout": 1.0, **values})


def driver(device: Device, registers: RegisterMap | None = None) -> Modbus:
    return Modbus(device, registers or RegisterMap(), SystemClock(), 1)


async def good(frames: "asyncio.Queue[Frame]") -> Frame:
    while (frame := await frames.get()).causes.any():
        pass
    return frame


# The whole way in both word orders: what the physics says is what the driver hands on, to the last bit of a float32.
@pytest.mark.parametrize("order", ["big", "little"])
async def test_frames_are_the_physics_in_float32(order: str) -> None:
    registers = RegisterMap(word_order=order)
    physics = Physics(GOOD, 5, unit=2)
    async with (
        serving(simulated(GOOD, units=2, seed=5, registers=registers)) as port,
        polling(driver(demo(port, unit=2), registers)) as frames,
    ):
        for _ in range(5):
            frame = await good(frames)
            t = (frame.heartbeat - 1) * SECOND
            expected = physics.at(t).row(PLANT.devices[0]).astype(np.float32).astype(np.float64)
            assert frame.values.tolist() == expected.tolist()
            assert (frame.phase, frame.cycle) == physics.timeline.at(t)
            assert frame.flags == 1


@pytest.mark.parametrize("block", [UNSIGNED, SIGNED], ids=["uint16", "int16"])
async def test_scaled_integers_carry_the_same_values(block: Block) -> None:
    registers = RegisterMap(channels=block)
    async with serving(simulated(GOOD)) as port, polling(driver(demo(port), registers)) as frames:
        frame = await good(frames)
    exact = Physics(GOOD, 0).at((frame.heartbeat - 1) * SECOND).channels
    assert frame.values[:12] == pytest.approx(exact, abs=block.scale)


async def test_channel_the_device_does_not_have_is_no_value() -> None:
    for registers, cause in ((RegisterMap(), Cause.NOT_A_NUMBER), (RegisterMap(channels=SIGNED), Cause.SENTINEL)):
        channels = tuple(Channel(id=f"S{i}") for i in range(13))
        async with (
            serving(simulated(GOOD)) as port,
            polling(driver(demo(port, channels=channels), registers)) as frames,
        ):
            while Cause.LINK_LOST in (frame := await frames.get()).causes:
                pass
        assert frame.causes[12] == cause
        assert not frame.causes[:12].any()


async def test_identity_names_the_unit() -> None:
    async with serving(simulated(GOOD, units=3)) as port:
        assert await driver(demo(port, unit=3)).identity() == {
            "Vendor": "enose", "Model": "ENS-1", "SerialNumber": "SN-0003", "Firmware": "1.0",
        }  # fmt: skip


async def test_unit_that_is_not_there_is_refused() -> None:
    async with serving(simulated(GOOD)) as port:
        with pytest.raises(DeviceError, match="0x0b"):
            await driver(demo(port, unit=9)).identity()


async def test_commands_start_and_stop_cycles() -> None:
    async with serving(simulated(GOOD)) as port:
        control = driver(demo(port))
        async with polling(control) as frames:
            await good(frames)
            await control.command("stop")
            while (await frames.get()).phase != Phase.IDLE:
                pass
            await control.command("start_cycle")
            while (frame := await frames.get()).phase != Phase.BASELINE:
                pass
            assert frame.cycle >= 2


async def test_commands_without_sense_are_refused_and_others_flag_calibration() -> None:
    async with serving(simulated(GOOD), step=0.2) as port:
        control = driver(demo(port))
        for name, argument in (("span", 0.0), ("dance", 0.0)):
            with pytest.raises(DeviceError):
                await control.command(name, argument)
        await control.command("stop")
        await control.command("span", 50.0)
        client = AsyncModbusTcpClient("127.0.0.1", port=port)
        await client.connect()
        status = 0
        while not status & 8:
            status = (await client.read_input_registers(50)).registers[0]
        for write in (client.write_register(0, 99), client.write_register(7, 1), client.write_coil(0, True)):
            assert (await write).isError()
        client.close()


async def test_recording_is_played_row_by_row_with_its_times(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_text("a,b,Temperature\n" + "".join(f"{i}.5,{'' if i == 3 else 4294967295},{20 + i}\n" for i in range(8)))
    channels = (Channel(id="A"), Channel(id="B"))
    seen: dict[int, Frame] = {}
    async with (
        serving(replayed(load_recording(path), phases=(2, 3, 2), loop=True), step=0.1) as port,
        polling(driver(demo(port, channels=channels, environment=(), period=0.03))) as frames,
    ):
        while {(beat - 1) % 8 for beat in seen} != set(range(8)):
            frame = await frames.get()
            if frame.heartbeat:
                seen.setdefault(frame.heartbeat, frame)
    for beat, frame in seen.items():
        row = (beat - 1) % 8
        assert frame.values[0] == row + 0.5
        assert frame.values[1] == 4294967296.0 if row != 3 else frame.causes[1] == Cause.NOT_A_NUMBER
        assert frame.phase == [1, 1, 2, 2, 2, 3, 3][(beat - 1) % 7]
    # Row i has the time start + i x period, whenever it was read.
    assert len({frame.source_time - beat * SECOND // 10 for beat, frame in seen.items()}) == 1


# After its last row a recording measures nothing: a moving heartbeat would pass old data off as fresh.
async def test_end_of_a_recording_is_idle_with_a_standing_heartbeat(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_text("a\n1\n2\n")
    (unit,) = replayed(load_recording(path), phases=(1, 1, 1))
    for step in range(4):
        unit.step(step, 1000 + step)
    async with (
        serving([unit]) as port,
        polling(driver(demo(port, channels=(Channel(id="A"),), environment=()))) as frames,
    ):
        frame = await good(frames)
        while frame.phase != Phase.IDLE:
            frame = await good(frames)
        assert frame.values.tolist() == [2.0]
        again = await good(frames)
        assert again.heartbeat == frame.heartbeat


# F10 as a script: the device refuses connections and comes back at the same port.
async def test_link_loss_closes_and_reopens_the_port() -> None:
    cut = GOOD.model_copy(update={"events": (Event(kind="link_loss", start=10, duration=10),)})
    async with serving(simulated(cut)) as port, polling(driver(demo(port))) as frames:
        seen = [await frames.get()]
        while seen[-1].heartbeat <= 20:
            seen.append(await frames.get())
    assert not {frame.heartbeat for frame in seen} & set(range(11, 21))
    assert any(Cause.LINK_LOST in frame.causes for frame in seen)
    assert not seen[-1].causes.any()


async def test_port_that_is_taken_is_told() -> None:
    async with serving(simulated(GOOD)) as port:
        with pytest.raises(ConfigurationError, match=str(port)):
            await serve(simulated(GOOD), port=port)


def test_command_line_builds_the_units() -> None:
    options = parser().parse_args(["--physics", "coffee_a", "--units", "20", "--word-order", "little"])
    assert [u.number for u in units(options)] == list(range(1, 21))
    with pytest.raises(SystemExit):
        parser().parse_args(["--physics", "a", "--phases", "1,2"])
