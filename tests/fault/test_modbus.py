"""Faults between device and driver: hostile answers (H42), a lost link (F10), a flapping link (F13)."""

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymodbus.client import AsyncModbusTcpClient

from config.schema import Channel, Device, EnvironmentChannel, RegisterMap, StatusBit
from nodesets.errors import DeviceError
from nodesets.model import Cause, Frame, Phase
from nodesets.ports import SystemClock
from opcua_server.device.registers import Bank
from opcua_server.drivers.modbus import Link, Modbus
from opcua_server.drivers.physics import State
from tests.servers import free_port

MAP = RegisterMap()
UNIT = 7
VALUES = np.array([1001.0, 1002.0, 1003.0, 1004.0])
AIR = {"Temperature": 21.5, "RelativeHumidity": 45.25}
EXPECTED = [*VALUES.tolist(), *AIR.values()]

Answer = Callable[["Hostile", bytes], Sequence[bytes]]
"""Request -> frames to send, b"" closes the connection."""


def device(port: int, **values: object) -> Device:
    channels = tuple(Channel(id=f"S{i}") for i in range(1, 5))
    air = (
        EnvironmentChannel(quantity="Temperature", unit="CEL", range=(-40, 125)),
        EnvironmentChannel(quantity="RelativeHumidity", unit="P1", range=(0, 100)),
    )
    settled = {"period": 0.05, "timeout": 0.04, "unit": UNIT} | values
    return Device(id="EN01", port=port, channels=channels, environment=air, **settled)


class Hostile:
    """A raw Modbus TCP server. Answers honestly unless `answer` says otherwise."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.requests = 0
        self.beat = True
        self.bank = Bank(MAP, model="raw", serial="1", firmware="1")
        self._writers: set[asyncio.StreamWriter] = set()

    def honest(self, request: bytes) -> bytes:
        transaction, _, _, unit, function, address, count = struct.unpack(">HHHBBHH", request[:12])
        registers = self.bank.shown[address : address + count].astype(">u2").tobytes()
        return struct.pack(">HHHBBB", transaction, 0, 3 + 2 * count, unit, function, 2 * count) + registers

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        # Cancelled at the end of a test: until Python 3.12 the streams module would report that as an unhandled error.
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                request = await reader.readexactly(12)
                self.requests += 1
                self.measure()
                for frame in self.answer(self, request):
                    writer.write(frame)
                    if not frame:
                        writer.close()
                        return
                await writer.drain()

    def measure(self) -> None:
        state = State(
            channels=VALUES,
            environment=AIR,
            heaters=np.full(4, np.nan),
            failed=np.zeros(4, np.bool_),
            phase=Phase.EXPOSURE,
            cycle=3,
            flags=StatusBit.SIMULATED,
        )
        self.bank.show(state, heartbeat=self.requests if self.beat else 1, device_time=SystemClock().now())

    def disconnect(self) -> None:
        for writer in self._writers:
            writer.close()
        self._writers.clear()


@asynccontextmanager
async def listening(answer: Answer) -> AsyncIterator[tuple[Hostile, int]]:
    hostile = Hostile(answer)
    server = await asyncio.start_server(hostile.serve, "127.0.0.1", 0)
    try:
        yield hostile, server.sockets[0].getsockname()[1]
    finally:
        server.close()
        hostile.disconnect()
        await server.wait_closed()


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


async def answered(frames: "asyncio.Queue[Frame]") -> Frame:
    """The next frame of a poll that was answered: on a busy machine one may well come too late."""
    while Cause.LINK_LOST in (frame := await frames.get()).causes:
        pass
    return frame


async def good(frames: "asyncio.Queue[Frame]") -> Frame:
    while (frame := await frames.get()).causes.any():
        never_another_tags_value(frame)
    return frame


def honest(hostile: Hostile, request: bytes) -> Sequence[bytes]:
    return [hostile.honest(request)]


def patched(request: bytes, honest: bytes, at: int, replacement: bytes) -> bytes:
    """A whole, plausible answer full of other values, with some bytes of its header changed."""
    foreign = honest[:9] + struct.pack(">f", 7777.0) * ((len(honest) - 9) // 4)
    foreign = foreign.ljust(len(honest), b"\x00")
    return foreign[:at] + replacement + foreign[at + len(replacement) :]


def wrong_unit(h: Hostile, q: bytes) -> Sequence[bytes]:
    return [patched(q, h.honest(q), 6, bytes([UNIT + 1]))]


def wrong_transaction(h: Hostile, q: bytes) -> Sequence[bytes]:
    return [patched(q, h.honest(q), 0, struct.pack(">H", (q[0] * 256 + q[1] + 1) % 65536))]


def transaction_zero(h: Hostile, q: bytes) -> Sequence[bytes]:
    return [patched(q, h.honest(q), 0, b"\0\0")]


def wrong_protocol(h: Hostile, q: bytes) -> Sequence[bytes]:
    return [patched(q, h.honest(q), 2, b"\0\1")]


def wrong_function(h: Hostile, q: bytes) -> Sequence[bytes]:
    return [patched(q, h.honest(q), 7, b"\x03")]


def short_frame(h: Hostile, q: bytes) -> Sequence[bytes]:
    return [h.honest(q)[:15]]


def short_frame_and_close(h: Hostile, q: bytes) -> Sequence[bytes]:
    return [h.honest(q)[:15], b""]


def fewer_registers(h: Hostile, q: bytes) -> Sequence[bytes]:
    """A whole frame, but two registers fewer than asked for: everything behind them would move."""
    frame = h.honest(q)[:-4]
    return [frame[:4] + struct.pack(">H", len(frame) - 6) + frame[6:8] + bytes([len(frame) - 9]) + frame[9:]]


def lying_byte_count(h: Hostile, q: bytes) -> Sequence[bytes]:
    frame = bytearray(h.honest(q))
    frame[8] -= 2
    return [bytes(frame)]


def garbage(h: Hostile, q: bytes) -> Sequence[bytes]:
    return [b"HTTP/1.1 400 Bad Request\r\n\r\n" * 3]


def flood(h: Hostile, q: bytes) -> Sequence[bytes]:
    """More than a Modbus frame can hold; pymodbus drops it unseen."""
    return [bytes(range(256)) * 16]


def nothing(h: Hostile, q: bytes) -> Sequence[bytes]:
    return []


def hang_up(h: Hostile, q: bytes) -> Sequence[bytes]:
    return [b""]


def never_another_tags_value(frame: Frame) -> None:
    for value, cause, expected in zip(frame.values, frame.causes, EXPECTED, strict=True):
        assert value == expected or (np.isnan(value) and cause != Cause.NONE)


# H42: the sample is bad, never assigned to another tag; and the driver recovers by itself.
@pytest.mark.parametrize(
    ("hostile", "cause"),
    [
        (wrong_unit, Cause.PROTOCOL),
        (wrong_transaction, Cause.PROTOCOL),
        (transaction_zero, Cause.PROTOCOL),
        (wrong_protocol, Cause.PROTOCOL),
        (wrong_function, Cause.PROTOCOL),
        (short_frame, Cause.PROTOCOL),
        (short_frame_and_close, Cause.PROTOCOL),
        (fewer_registers, Cause.PROTOCOL),
        (lying_byte_count, Cause.PROTOCOL),
        (garbage, Cause.PROTOCOL),
        (flood, Cause.LINK_LOST),
        (nothing, Cause.LINK_LOST),
        (hang_up, Cause.LINK_LOST),
    ],
)
async def test_hostile_answer_gives_a_bad_sample_and_the_next_honest_one_a_good_one(
    hostile: Answer, cause: Cause
) -> None:
    attack = True

    def answer(h: Hostile, q: bytes) -> Sequence[bytes]:
        return hostile(h, q) if attack else honest(h, q)

    async with listening(answer) as (_, port), polling(Modbus(device(port), MAP, SystemClock(), 1)) as frames:
        first = await (frames.get() if cause == Cause.LINK_LOST else answered(frames))
        assert set(first.causes.tolist()) == {cause}
        assert np.isnan(first.values).all()
        attack = False
        frame = await good(frames)
        assert frame.values.tolist() == EXPECTED
        assert frame.phase == Phase.EXPOSURE
        assert frame.cycle == 3


# A late answer to the request before, or a neighbour's, in front of ours in one segment: skipped, ours is taken.
@pytest.mark.parametrize("stale", [wrong_transaction, wrong_unit, transaction_zero])
async def test_foreign_frame_before_ours_is_skipped(stale: Answer) -> None:
    async with (
        listening(lambda h, q: [b"".join([*stale(h, q), h.honest(q)])]) as (_, port),
        polling(Modbus(device(port), MAP, SystemClock(), 1)) as frames,
    ):
        for _ in range(3):
            assert (await answered(frames)).values.tolist() == EXPECTED


# After the timeout the connection is closed, so the answer that comes late has nowhere to arrive.
async def test_late_answer_is_never_taken_for_a_later_one() -> None:
    late: list[bytes] = []

    def answer(h: Hostile, q: bytes) -> Sequence[bytes]:
        kept, late[:] = list(late), [patched(q, h.honest(q), 0, q[:2])]
        return kept

    async with listening(answer) as (hostile, port), polling(Modbus(device(port), MAP, SystemClock(), 1)) as frames:
        for _ in range(4):
            frame = await frames.get()
            assert np.isnan(frame.values).all()
        assert hostile.requests >= 2


async def test_modbus_exception_marks_the_values_that_were_refused() -> None:
    def answer(h: Hostile, q: bytes) -> Sequence[bytes]:
        address = struct.unpack_from(">H", q, 8)[0]
        return [q[:4] + b"\0\3" + q[6:7] + bytes([q[7] | 0x80, 4])] if address == 600 else [h.honest(q)]

    async with listening(answer) as (_, port), polling(Modbus(device(port), MAP, SystemClock(), 1)) as frames:
        frame = await answered(frames)
        # The status of the channels could not be read, so nobody knows that they are well; the air is good.
        assert frame.causes.tolist() == [Cause.EXCEPTION] * 4 + [Cause.NONE] * 2
        assert frame.values[4:].tolist() == list(AIR.values())


async def test_device_that_refuses_gaps_is_read_without_them() -> None:
    def answer(h: Hostile, q: bytes) -> Sequence[bytes]:
        address, count = struct.unpack_from(">HH", q, 8)
        hole = range(70, 100)
        if set(range(address, address + count)) & set(hole):
            return [q[:4] + b"\0\3" + q[6:7] + bytes([q[7] | 0x80, 2])]
        return [h.honest(q)]

    async with listening(answer) as (_, port), polling(Modbus(device(port), MAP, SystemClock(), 1)) as frames:
        assert (await answered(frames)).values.tolist() == EXPECTED


async def test_nan_infinity_and_sentinel_are_no_values() -> None:
    registers = RegisterMap.model_validate({"channels": {"address": 100, "invalid": [4294967295]}})
    raw = [float("nan"), float("inf"), 4294967295.0, 1004.0]

    def answer(h: Hostile, q: bytes) -> Sequence[bytes]:
        h.bank.shown[100:108] = np.frombuffer(struct.pack(">4f", *raw), ">u2")
        return [h.honest(q)]

    async with listening(answer) as (_, port), polling(Modbus(device(port), registers, SystemClock(), 1)) as frames:
        frame = await answered(frames)
        assert frame.causes[:4].tolist() == [Cause.NOT_A_NUMBER, Cause.NOT_A_NUMBER, Cause.SENTINEL, Cause.NONE]
        assert np.isnan(frame.values[:3]).all()
        assert frame.values[3:].tolist() == [1004.0, *AIR.values()]


async def test_channel_the_device_reports_as_failed_keeps_its_value_and_says_so() -> None:
    def answer(h: Hostile, q: bytes) -> Sequence[bytes]:
        h.bank.shown[601] = 3
        return [h.honest(q)]

    async with listening(answer) as (_, port), polling(Modbus(device(port), MAP, SystemClock(), 1)) as frames:
        frame = await answered(frames)
        assert frame.causes.tolist() == [0, Cause.CHANNEL_FAULT, 0, 0, 0, 0]
        assert frame.values.tolist() == EXPECTED


# F10, the driver's half: one frame a period with the cause, whatever the device does; validation counts them.
async def test_lost_link_gives_one_frame_a_period_and_heals_by_itself() -> None:
    hostile = Hostile(honest)
    server = await asyncio.start_server(hostile.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    driver = Modbus(device(port), MAP, SystemClock(), 1)
    async with polling(driver) as frames:
        await good(frames)
        server.close()
        hostile.disconnect()
        while not (lost := await frames.get()).causes.any():
            pass
        times = [lost.source_time]
        for _ in range(10):
            lost = await frames.get()
            assert set(lost.causes.tolist()) == {Cause.LINK_LOST}
            assert np.isnan(lost.values).all()
            assert lost.phase == Phase.UNKNOWN
            times.append(lost.source_time)
        steps = np.diff(times) / 1e9
        assert steps == pytest.approx(np.full(10, 0.05), abs=0.01)
        server = await asyncio.start_server(hostile.serve, "127.0.0.1", port)
        assert (await good(frames)).values.tolist() == EXPECTED
    server.close()
    hostile.disconnect()
    await server.wait_closed()


# F13: every answered poll between two cuts is a good frame; nothing is remembered of the cut.
async def test_flapping_link_gives_good_and_lost_frames_and_no_others() -> None:
    def answer(h: Hostile, q: bytes) -> Sequence[bytes]:
        return [b""] if h.requests % 5 == 0 else [h.honest(q)]

    async with listening(answer) as (_, port), polling(Modbus(device(port), MAP, SystemClock(), 1)) as frames:
        seen = [await frames.get() for _ in range(30)]
    for frame in seen:
        assert set(frame.causes.tolist()) in ({Cause.NONE}, {Cause.LINK_LOST})
        never_another_tags_value(frame)
    fine = [not f.causes.any() for f in seen]
    assert 5 < sum(fine) < 30
    assert sum(a != b for a, b in pairwise(fine)) >= 4


# Old data under a fresh answer: the heartbeat alone tells. Three seconds, so that a fast poll of a slow device is not
# taken for it; here the clock of the driver runs a hundred times faster.
async def test_heartbeat_that_stands_still_means_old_data_until_it_moves() -> None:
    class Fast(SystemClock):
        def monotonic(self) -> float:
            return super().monotonic() * 100.0

        async def sleep_until(self, instant: float) -> None:
            await asyncio.sleep(max(0.0, (instant - self.monotonic()) / 100.0))

    async with (
        listening(honest) as (hostile, port),
        polling(Modbus(device(port, period=1.0, timeout=0.5), MAP, Fast(), 1)) as frames,
    ):
        await good(frames)
        hostile.beat = False
        while Cause.FROZEN not in (frame := await answered(frames)).causes:
            assert frame.values.tolist() == EXPECTED
        assert set(frame.causes.tolist()) == {Cause.FROZEN}
        assert frame.source_time == frame.received_time
        hostile.beat = True
        assert (await good(frames)).values.tolist() == EXPECTED


@pytest.mark.parametrize(
    ("offset", "tolerance", "believed"),
    [(-60.0, 5.0, False), (60.0, 5.0, False), (-1.0, 5.0, True), (-1e6, None, True)],
)
async def test_device_clock_is_believed_within_its_tolerance(
    offset: float, tolerance: float | None, believed: bool
) -> None:
    told: list[int] = []

    def answer(h: Hostile, q: bytes) -> Sequence[bytes]:
        if struct.unpack_from(">H", q, 8)[0] <= 54:
            told.append(SystemClock().now() + round(offset * 1e9))
            finer = told[-1] + 7  # ns, of which the microseconds count: nobody is shown more of a time
            h.bank.shown[54:58] = np.frombuffer(struct.pack(">Q", finer), ">u2")
        return [h.honest(q)]

    async with (
        listening(answer) as (_, port),
        polling(Modbus(device(port, clock_tolerance=tolerance), MAP, SystemClock(), 1)) as frames,
    ):
        frame = await answered(frames)
    assert frame.values.tolist() == EXPECTED
    assert set(frame.causes.tolist()) == {Cause.NONE if believed else Cause.CLOCK}
    assert (frame.source_time in told) if believed else (frame.source_time == frame.received_time)


async def test_device_clock_that_runs_backwards_is_replaced_once() -> None:
    behind = 0

    def answer(h: Hostile, q: bytes) -> Sequence[bytes]:
        time = struct.pack(">Q", SystemClock().now() - behind)
        h.bank.shown[54:58] = np.frombuffer(time, ">u2")
        return [h.honest(q)]

    async with listening(answer) as (_, port), polling(Modbus(device(port), MAP, SystemClock(), 1)) as frames:
        await good(frames)
        behind = 2_000_000_000
        while not (frame := await answered(frames)).causes.any():
            pass
        assert set(frame.causes.tolist()) == {Cause.CLOCK}
        assert frame.source_time == frame.received_time
        assert not (await answered(frames)).causes.any()


# A driver that polls on after its cancellation keeps the whole service from stopping.
async def test_driver_that_is_cancelled_as_an_answer_arrives_ends() -> None:
    async with listening(honest) as (_, port):
        driver = Modbus(device(port), MAP, SystemClock())
        gate = driver._link._gate

        def meeting(sending: bool, data: bytes) -> bytes:
            if not sending:
                task.cancel()
            return gate(sending, data)

        driver._link._gate = meeting
        task = asyncio.create_task(driver.run(lambda _: None))
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_driver_that_is_cancelled_as_its_connection_is_refused_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    connect = AsyncModbusTcpClient.connect

    async def meeting(client: AsyncModbusTcpClient) -> bool:
        connected = await connect(client)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):  # lost, as asyncio.wait_for loses it
            await asyncio.sleep(0)
        return connected

    monkeypatch.setattr(AsyncModbusTcpClient, "connect", meeting)
    driver = Modbus(device(free_port()), MAP, SystemClock())
    task = asyncio.create_task(driver.identity())
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_command_the_device_does_not_confirm_is_an_error() -> None:
    async with listening(nothing) as (_, port):
        driver = Modbus(device(port), MAP, SystemClock(), 1)
        with pytest.raises(DeviceError):
            await driver.command("start_cycle")
        with pytest.raises(DeviceError):
            await driver.identity()


# The gate between the socket and pymodbus: whatever arrives, either the registers asked for or an error.
@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 24), st.binary(max_size=4))
def test_no_bytes_get_past_the_gate_but_an_answer_to_the_request(noise: bytes, at: int, edit: bytes) -> None:
    link = Link("127.0.0.1", 1, UNIT, 1.0)
    request = struct.pack(">HHHBBHH", 9, 0, 6, UNIT, 4, 100, 8)
    answer = struct.pack(">HHHBBB", 9, 0, 19, UNIT, 4, 16) + bytes(range(16))
    link._gate(True, request)
    for heard in (noise, answer[:at] + edit + answer[at + len(edit) :], noise[:9] + answer):
        passed = link._gate(False, heard)
        assert not passed or (
            (passed[:9] == answer[:9] and len(passed) == len(answer)) or (passed[7] == 0x84 and len(passed) == 9)
        )


async def test_confirmation_by_a_wrong_unit_confirms_nothing() -> None:
    async with listening(lambda h, q: [q[:6] + bytes([UNIT + 1]) + q[7:]]) as (_, port):
        with pytest.raises(DeviceError, match="no answer to our request"):
            await Modbus(device(port), MAP, SystemClock(), 1).identity()
