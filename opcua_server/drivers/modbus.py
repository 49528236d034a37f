"""Modbus TCP driver of one e-nose: a frame a period on an absolute schedule, whatever the device does.

One connection a unit: pymodbus has one request under way on a connection, so a silent unit would delay its neighbours
on a shared one. After an answer that did not come or cannot be trusted the connection is closed, so that a late answer
has nowhere to arrive.
"""

import asyncio
import logging
import random
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pymodbus.client import AsyncModbusTcpClient
from pymodbus.constants import ExcCodes
from pymodbus.exceptions import ModbusException
from pymodbus.pdu import ExceptionResponse, ModbusPDU

from config.registers import SPACE, Columns, Registers, image, position, read, write
from config.schema import Device, Point, RegisterMap
from nodesets.errors import DeviceError
from nodesets.model import Cause, Frame, Phase
from nodesets.ports import Clock
from opcua_server.drivers.schedule import Schedule

log = logging.getLogger(__name__)

SPAN = 125
"""Registers one read may ask for (Modbus Application Protocol V1.1b3 6.3, 6.4)."""
GAP = 40
"""Unused registers worth reading to save a request: 80 bytes cost less than a round trip."""
BACKOFF = (0.25, 10.0)
"""Seconds before the second and at most before any later attempt to connect."""
FROZEN_AFTER = (3, 3.0)
"""Periods and seconds, whichever is longer, after which a heartbeat that stands still means old data."""
COMMANDS: Mapping[str, int] = {"start_cycle": 1, "stop": 2, "zero": 3, "span": 4}
"""Codes of the command register (docs/registers.md)."""
_WITHOUT_VALUE = np.array([c in (Cause.NOT_A_NUMBER, Cause.SENTINEL, Cause.EXCEPTION) for c in Cause])


class LinkError(Exception):
    """The device cannot be reached, did not answer in time or closed the connection."""


class ProtocolError(LinkError):
    """Something arrived in time, but not an answer to our request."""


class Refused(Exception):
    """The device answered with a Modbus exception."""

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(f"Modbus exception {code:#04x}")


@dataclass(frozen=True, slots=True)
class Span:
    """One read request: positions in the register image [start, stop), all in one table."""

    start: int
    stop: int


def spans(points: Iterable[Point], gap: int = GAP) -> tuple[Span, ...]:
    """The fewest read requests that fetch every point whole, reading at most `gap` unused registers between two."""
    packed: list[Span] = []
    for first, last in sorted({(position(p), position(p) + p.registers) for p in points}):
        if packed:
            span = packed[-1]
            stop = max(span.stop, last)
            same_table = span.start // SPACE == first // SPACE
            if same_table and first - span.stop <= gap and stop - span.start <= SPAN:
                packed[-1] = Span(span.start, stop)
                continue
        packed.append(Span(first, last))
    return tuple(packed)


class Link:
    """One TCP connection to one unit. Every error is a LinkError, a ProtocolError or a Refused."""

    def __init__(self, host: str, port: int, unit: int, timeout: float) -> None:
        self._address = host, port
        self._unit = unit
        self._timeout = timeout
        self._client: AsyncModbusTcpClient | None = None
        self._expected = b""
        self._heard = False

    @asynccontextmanager
    async def in_time(self) -> AsyncIterator[None]:
        """What is done inside, connecting included, takes at most the timeout; else the connection is closed.

        Raises ProtocolError when something was heard in answer to the last request, LinkError when nothing was.
        """
        try:
            async with asyncio.timeout(self._timeout):
                yield
        except TimeoutError as error:
            self.close()
            if self._heard:
                raise ProtocolError("what was answered is no answer to our request") from error
            raise LinkError(f"no answer within {self._timeout:g} s") from error

    @property
    def connected(self) -> bool:
        return self._client is not None and self._client.connected

    async def open(self) -> None:
        if self.connected:
            return
        self.close()
        self._heard = False
        host, port = self._address
        client = AsyncModbusTcpClient(
            host, port=port, timeout=2 * self._timeout, retries=0, reconnect_delay=0, trace_packet=self._gate
        )
        self._client = client
        connected = await client.connect()
        _heed_cancellation()
        if not connected:
            self.close()
            raise LinkError(f"{host}:{port} refused the connection")

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    async def read(self, span: Span) -> list[int]:
        """Registers of a span. Raises LinkError, ProtocolError or Refused."""
        client = self._open_client()
        fetch = client.read_holding_registers if span.start >= SPACE else client.read_input_registers
        count = span.stop - span.start
        answer = await self._ask(fetch(span.start % SPACE, count=count, device_id=self._unit))
        return list(answer.registers)

    async def write(self, address: int, values: list[int]) -> None:
        """Write holding registers. Raises LinkError, ProtocolError or Refused."""
        client = self._open_client()
        await self._ask(client.write_registers(address, values, device_id=self._unit))

    def _open_client(self) -> AsyncModbusTcpClient:
        if self._client is None or not self._client.connected:
            raise LinkError("the device closed the connection")
        return self._client

    async def _ask(self, request: Awaitable[ModbusPDU]) -> ModbusPDU:
        try:
            answer = await request
        except ModbusException as error:
            self.close()
            raise LinkError(str(error)) from error
        _heed_cancellation()
        if isinstance(answer, ExceptionResponse):
            raise Refused(answer.exception_code)
        return answer

    def _gate(self, sending: bool, data: bytes) -> bytes:
        """Let through to pymodbus only the one whole frame that answers the request under way.

            | transaction | protocol 0 | length | unit | function | data |
            |      2      |     2      |   2    |  1   |    1     |  n   |    length counts from the unit on

        pymodbus itself accepts transaction 0, and raises into the transport where the byte count is wrong.
        """
        if sending:
            self._expected, self._heard = data, False
            return data
        self._heard = True
        transaction, _, _, unit, function = struct.unpack_from(">HHHBB", self._expected)
        start = 0
        while len(data) - start >= 9:
            *header, length, its_unit, its_function, first = struct.unpack_from(">HHHBBB", data, start)
            end = start + 6 + length
            if end > len(data):
                break
            ours = header == [transaction, 0] and its_unit == unit
            if ours and self._answers(function, its_function, length, first):
                return data[start:end]
            start = end
        return b""

    def _answers(self, function: int, its_function: int, length: int, first: int) -> bool:
        """Whether function and length fit the request: `first` is the byte count of a read's answer."""
        if its_function == function | 0x80:
            return length == 3
        if its_function != function:
            return False
        if function in (3, 4):
            (count,) = struct.unpack_from(">H", self._expected, 10)
            return bool(length == 3 + 2 * count and first == 2 * count)
        return length == 6


def _heed_cancellation() -> None:
    """Before Python 3.12 asyncio.wait_for, in which pymodbus waits, loses a cancellation that meets the answer."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


class Modbus:
    """`ports.Source` of a device on Modbus TCP."""

    def __init__(self, device: Device, registers: RegisterMap, clock: Clock, seed: int = 0) -> None:
        self.schedule = Schedule()
        self._device = device
        self._map = registers
        self._clock = clock
        self._random = random.Random(f"{seed}/{device.id}")  # noqa: S311 - spreads load, keeps no secret
        self._link = Link(device.host, device.port, device.unit, device.timeout)
        self._polling = False
        self._reader = Reader(device, registers)
        self._failures = 0
        self._retry_at = 0.0
        self._heartbeat: tuple[int, float] | None = None
        self._device_time: int | None = None

    async def run(self, emit: Callable[[Frame], None]) -> None:
        clock, period = self._clock, self._device.period
        self._polling = True
        try:
            # Devices of a plant start together; a random phase keeps their polls from coming in one burst.
            start = clock.monotonic() + self._random.random() * min(period, 1.0)
            async with aclosing(self.schedule.ticks(clock, start, period)) as ticks:
                async for due, overrun in ticks:
                    # An overrun has its frame too: for that period there is no value.
                    emit(
                        self._reader.lost(self._wall(due), clock.now(), Cause.LINK_LOST)
                        if overrun
                        else await self._poll(due)
                    )
        finally:
            self._polling = False
            self._link.close()

    async def command(self, name: str, argument: float = 0.0) -> None:
        """Carry out one of `COMMANDS`. The argument is written first. Raises DeviceError when it was not confirmed."""
        command = self._map.command
        if command is None or name not in COMMANDS:
            raise DeviceError(f"{self._device.id} takes no command {name}")
        registers = image()
        points = [p for p in (self._map.argument, command) if p is not None]
        for point, value in zip(points[::-1], (COMMANDS[name], argument), strict=False):
            write(point, value, registers, self._map.word_order)

        async def send() -> None:
            for point in points:
                first = position(point)
                await self._link.write(point.address, registers[first : first + point.registers].tolist())

        await self._confirmed(send)

    async def identity(self) -> Mapping[str, str]:
        named = {
            "Vendor": self._map.vendor,
            "Model": self._map.model,
            "SerialNumber": self._map.serial,
            "Firmware": self._map.firmware,
        }
        points = {name: point for name, point in named.items() if point is not None}
        registers = image()

        async def ask() -> None:
            for span in spans(points.values()):
                registers[span.start : span.stop] = await self._link.read(span)

        await self._confirmed(ask)
        return {name: str(read(point, registers, self._map.word_order)) for name, point in points.items()}

    async def _confirmed(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do `work` on the polling connection, or on one opened for it when nothing polls."""
        try:
            async with self._link.in_time():
                await self._link.open()
                await work()
        except (LinkError, Refused) as error:
            raise DeviceError(f"{self._device.id}: {error}") from error
        finally:
            if not self._polling:
                self._link.close()

    async def _poll(self, due: float) -> Frame:
        """One frame; the whole poll, connecting included, takes at most the timeout."""
        clock = self._clock
        due_at = self._wall(due)
        if not self._link.connected and clock.monotonic() < self._retry_at:
            return self._reader.lost(due_at, clock.now(), Cause.LINK_LOST)
        try:
            async with self._link.in_time():
                await self._link.open()
                await self._reader.fetch(self._link)
        except LinkError as error:
            return self._failed(due_at, error)
        if self._failures:
            log.info("%s answers again after %d failed polls", self._device.id, self._failures)
        self._failures = 0
        return self._timed(self._reader.answer(due_at, clock.now()))

    def _failed(self, due_at: int, error: LinkError) -> Frame:
        """The first attempt after a failure is at once, then back-off doubles, with jitter so that drivers spread."""
        self._link.close()
        if not self._failures:
            log.warning("%s at %s:%d: %s", self._device.id, self._device.host, self._device.port, error)
        first, longest = BACKOFF
        if self._failures:
            wait = min(longest, first * 2.0 ** min(self._failures - 1, 16))
            self._retry_at = self._clock.monotonic() + wait * self._random.uniform(0.5, 1.0)
        self._failures += 1
        cause = Cause.PROTOCOL if isinstance(error, ProtocolError) else Cause.LINK_LOST
        return self._reader.lost(due_at, self._clock.now(), cause)

    def _timed(self, answer: "Answer") -> Frame:
        """Decide which time the frame carries, and whether the device still measures."""
        received, causes = answer.received, answer.causes
        source, doubt = received, Cause.NONE
        if answer.heartbeat is not None and self._stands_still(answer.heartbeat):
            doubt = Cause.FROZEN  # the values are old; what is new, and has this time, is that we know it
        elif answer.device_time is not None:
            if self._believes(answer.device_time, received):
                source = _shown(answer.device_time)
            else:
                doubt = Cause.CLOCK
            self._device_time = answer.device_time
        if doubt:
            causes[causes == Cause.NONE] = doubt
        return Frame(
            device=self._device.id,
            source_time=source,
            received_time=received,
            values=answer.values,
            causes=causes,
            phase=answer.phase,
            cycle=answer.cycle,
            heartbeat=answer.heartbeat or 0,
            flags=answer.flags,
        )

    def _stands_still(self, heartbeat: int) -> bool:
        now = self._clock.monotonic()
        if self._heartbeat is None or self._heartbeat[0] != heartbeat:
            self._heartbeat = heartbeat, now
        periods, seconds = FROZEN_AFTER
        return now - self._heartbeat[1] >= max(periods * self._device.period, seconds)

    def _believes(self, device_time: int, received: int) -> bool:
        if device_time >= 2**63:  # no int64 time
            return False
        tolerance = self._device.clock_tolerance
        if tolerance is None:
            return True
        backwards = self._device_time is not None and device_time < self._device_time
        return not backwards and abs(device_time - received) <= tolerance * 1e9

    def _wall(self, instant: float) -> int:
        """UTC nanoseconds of a monotonic instant that has just passed."""
        return _shown(self._clock.now() - round((self._clock.monotonic() - instant) * 1e9))


def _shown(time: int) -> int:
    """In the microseconds clients are shown of a time, ns UTC: what they read of the history they can ask for again."""
    return time // 1000 * 1000


@dataclass(frozen=True, slots=True)
class Answer:
    """What one poll brought, before its time is decided; None where the map has no such register or it was refused."""

    received: int
    values: NDArray[np.float64]
    causes: NDArray[np.uint8]
    device_time: int | None
    heartbeat: int | None
    phase: Phase
    cycle: int
    flags: int


class Reader:
    """The register map of one device compiled to spans and columns; holds the image the last poll left.

    Head and values come in one request as far as 125 registers reach (37 channels of our own map); what needs a further
    request may be one measurement younger.
    """

    def __init__(self, device: Device, registers: RegisterMap) -> None:
        columns = device.columns(registers)
        self._device = device.id
        self._order = registers.word_order
        self._points = [c.point for c in columns]
        self._status = [(i, c.status_point) for i, c in enumerate(columns) if c.status_point is not None]
        self._head = {
            name: point
            for name in ("status", "phase", "heartbeat", "device_time", "cycle")
            if (point := getattr(registers, name)) is not None
        }
        self._columns = Columns(self._points, self._order)
        self._faults = Columns([p for _, p in self._status], self._order)
        self._faulty = np.array([i for i, _ in self._status], np.intp)
        self._image: Registers = image()
        self._plan(GAP)

    def _plan(self, gap: int) -> None:
        status = [p for _, p in self._status]
        self._gap = gap
        self._spans = spans([*self._points, *status, *self._head.values()], gap)
        self._refused = np.zeros(len(self._spans), np.bool_)
        self._span_of_column = self._span_of(self._points)
        self._span_of_status = self._span_of(status)
        self._span_of_head = dict(zip(self._head, self._span_of(list(self._head.values())), strict=True))

    def _span_of(self, points: Sequence[Point]) -> NDArray[np.intp]:
        starts = np.array([s.start for s in self._spans])
        return np.searchsorted(starts, np.array([position(p) for p in points], np.intp), "right") - 1

    async def fetch(self, link: Link) -> None:
        """Read every span into the image. Raises LinkError; a span the device refuses is remembered instead."""
        for i, span in enumerate(self._spans):
            try:
                self._image[span.start : span.stop] = await link.read(span)
                self._refused[i] = False
            except Refused as error:
                if error.code == ExcCodes.ILLEGAL_ADDRESS and self._gap:
                    # Some devices refuse a read that touches a register they do not have: no more reading over gaps.
                    self._plan(0)
                    return await self.fetch(link)
                self._refused[i] = True
        return None

    def answer(self, due: int, received: int) -> Answer:
        values, sentinel = self._columns.decode(self._image)
        causes = np.zeros(len(values), np.uint8)
        faults, _ = self._faults.decode(self._image)
        causes[self._faulty[faults != 0.0]] = Cause.CHANNEL_FAULT
        causes[~np.isfinite(values)] = Cause.NOT_A_NUMBER
        causes[sentinel] = Cause.SENTINEL
        causes[self._faulty[self._refused[self._span_of_status]]] = Cause.EXCEPTION
        causes[self._refused[self._span_of_column]] = Cause.EXCEPTION
        values[_WITHOUT_VALUE[causes]] = np.nan
        phase, device_time = self._number("phase"), self._number("device_time")
        refused = "device_time" in self._head and device_time is None
        return Answer(
            received=due if refused else received,
            values=values,
            causes=causes,
            device_time=device_time,
            heartbeat=self._number("heartbeat"),
            phase=Phase(phase) if phase in tuple(Phase) else Phase.UNKNOWN,
            cycle=self._number("cycle") or 0,
            flags=self._number("status") or 0,
        )

    def lost(self, due: int, received: int, cause: Cause) -> Frame:
        """The frame of a poll that brought nothing."""
        n = len(self._points)
        return Frame(
            device=self._device,
            source_time=due,
            received_time=received,
            values=np.full(n, np.nan),
            causes=np.full(n, cause, np.uint8),
        )

    def _number(self, name: str) -> int | None:
        point = self._head.get(name)
        if point is None or self._refused[self._span_of_head[name]]:
            return None
        number = read(point, self._image, self._order)
        return int(number)
