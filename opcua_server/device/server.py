"""The e-nose device as a process of its own: a Modbus TCP server of one or many units, from physics or a recording."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Protocol, cast

from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from config.registers import SPACE, position, read
from config.schema import RegisterMap
from nodesets.errors import ConfigurationError, DeviceError, Mistake
from nodesets.model import Phase
from nodesets.ports import Clock, SystemClock
from opcua_server.device.registers import Bank
from opcua_server.device.replay import Recording, Replay
from opcua_server.drivers.modbus import COMMANDS
from opcua_server.drivers.physics import SECOND, Physics, Scenario, State
from opcua_server.drivers.schedule import Schedule

FIRMWARE = "1.0"


class Program(Protocol):
    """What a unit measures, step by step."""

    model: str

    def at(self, step: int) -> State | None:
        """None: it has come to its end."""

    def command(self, name: str, argument: float, step: int) -> None:
        """Carry out a command from a step on. Raises DeviceError when it is refused."""


class Simulation:
    """A program that measures a scenario, one step a `period`."""

    model = "ENS-1"

    def __init__(self, physics: Physics, period: float) -> None:
        self._physics = physics
        self._timeline = physics.timeline
        self._period = round(period * SECOND)

    def at(self, step: int) -> State | None:
        return self._physics.at(step * self._period, self._timeline)

    def command(self, name: str, argument: float, step: int) -> None:
        self._timeline = self._timeline.commanded(name, argument, step * self._period)


class Unit:
    """One e-nose behind a unit id."""

    def __init__(self, number: int, program: Program, registers: RegisterMap) -> None:
        self.number = number
        self.link = True
        self._program = program
        self._bank = Bank(registers, model=program.model, serial=f"SN-{number:04d}", firmware=FIRMWARE)
        self._step = 0
        self._last: tuple[State, int, int] | None = None
        """The last measurement, its heartbeat and its time."""

    def step(self, step: int, device_time: int) -> None:
        """Measure step `step` (0-based) and show it as a whole; `device_time` is ns UTC.

        After the program's end the last measurement stays, idle, with the heartbeat and the time it had.
        """
        state = self._program.at(step)
        self._step = step
        if state is not None:
            self._last = state, step + 1, device_time
        elif self._last is not None:
            state = replace(self._last[0], phase=Phase.IDLE)
        if state is None or self._last is None:
            return
        self.link = state.link
        self._bank.show(state, heartbeat=self._last[1], device_time=self._last[2])

    def sim_device(self) -> SimDevice:
        """The unit as pymodbus serves it: the register values come from the bank at the moment of each request."""
        tables = [[SimData(0, count=n, values=0, datatype=DataType.REGISTERS)] for n in self._bank.sizes]
        bits = ([SimData(0, count=16, values=False, datatype=DataType.BITS)] for _ in range(2))
        coils, discrete = bits
        return SimDevice(id=self.number, simdata=(coils, discrete, tables[1], tables[0]), action=self._access)

    async def _access(
        self,
        function: int,
        start: int,
        address: int,
        count: int,
        current: list[int],
        written: list[int] | list[bool] | None,
    ) -> ExcCodes | None:
        """Called by pymodbus for each request, without a pause between this and its answer."""
        if function in (1, 2, 5, 15):
            return ExcCodes.ILLEGAL_FUNCTION
        if written is not None:
            return self._write(address, [int(v) for v in written])
        first = address + (0 if function == 4 else SPACE)
        current[address - start : address - start + count] = self._bank.shown[first : first + count].tolist()
        return None

    def _write(self, address: int, values: list[int]) -> ExcCodes | None:
        registers = self._bank.map
        points = [p for p in (registers.command, registers.argument) if p is not None]
        allowed = {position(p) - SPACE + i for p in points for i in range(p.registers)}
        addresses = range(address, address + len(values))
        if not {addresses[0], addresses[-1]} <= allowed:
            return ExcCodes.ILLEGAL_ADDRESS
        shown = self._bank.shown.copy()
        shown[SPACE + address : SPACE + address + len(values)] = values
        if registers.command is not None and registers.command.address in addresses:
            order = registers.word_order
            code = read(registers.command, shown, order)
            argument = read(registers.argument, shown, order) if registers.argument is not None else 0.0
            name = next((name for name, number in COMMANDS.items() if number == code), None)
            if name is None or (name == "span" and not float(argument) > 0.0):
                return ExcCodes.ILLEGAL_VALUE
            try:
                self._program.command(name, float(argument), self._step + 1)
            except DeviceError:
                return ExcCodes.DEVICE_BUSY
        self._bank.shown = shown
        return None


def simulated(
    scenario: Scenario, *, units: int = 1, seed: int = 0, period: float = 1.0, registers: RegisterMap | None = None
) -> list[Unit]:
    """Units 1..n of one scenario, each with its own noise; `period` is seconds of the scenario from step to step."""
    return [
        Unit(n, Simulation(Physics(scenario, seed, unit=n), period), registers or RegisterMap())
        for n in range(1, units + 1)
    ]


def replayed(
    recording: Recording,
    *,
    units: int = 1,
    phases: tuple[int, int, int] | None = None,
    loop: bool = False,
    registers: RegisterMap | None = None,
) -> list[Unit]:
    """Units 1..n that all play one recording; see `Replay`."""
    return [
        Unit(n, Replay(recording, phases=phases, loop=loop), registers or RegisterMap()) for n in range(1, units + 1)
    ]


async def serve(
    units: Sequence[Unit],
    *,
    host: str = "127.0.0.1",
    port: int = 502,
    step: float = 1.0,
    clock: Clock | None = None,
    listening: Callable[[int], None] = lambda _: None,
) -> None:
    """Serve the units until cancelled, measuring every `step` seconds on an absolute schedule.

    `listening` is told the port once the first step can be read; port 0 lets the system choose one. While a unit's
    link is lost nothing is listened to and connections are closed. Raises ConfigurationError when the port is taken.
    """
    clock = clock or SystemClock()
    epoch, start = clock.now(), clock.monotonic()
    server: ModbusTcpServer | None = None
    try:
        async with aclosing(Schedule().ticks(clock, start, step)) as ticks:
            async for due, overrun in ticks:
                if overrun:
                    continue
                number = round((due - start) / step)
                for unit in units:
                    unit.step(number, epoch + round(number * step * SECOND))
                link = all(unit.link for unit in units)
                if link and server is None:
                    server, port = await _listen(units, host, port)
                    listening(port)
                elif not link and server is not None:
                    await _close(server)
                    server = None
    finally:
        if server is not None:
            await _close(server)


async def _listen(units: Sequence[Unit], host: str, port: int) -> tuple[ModbusTcpServer, int]:
    server = ModbusTcpServer([*(u.sim_device() for u in units), _nobody()], address=(host, port))
    try:
        await server.serve_forever(background=True)
    except RuntimeError as error:
        raise ConfigurationError([Mistake("port", f"cannot listen at {host}:{port}")]) from error
    listener = cast(asyncio.Server, server.transport)
    return server, listener.sockets[0].getsockname()[1]


async def _close(server: ModbusTcpServer) -> None:
    """Stop listening and close every connection."""
    await server.shutdown()  # type: ignore[no-untyped-call]


def _nobody() -> SimDevice:
    """Answers for unit ids that are not there, as a gateway does."""

    async def refuse(*_: object) -> ExcCodes:
        return ExcCodes.GATEWAY_NO_RESPONSE

    every = SimData(0, count=65536, values=0, datatype=DataType.REGISTERS)
    return SimDevice(id=0, simdata=[every], action=refuse)
