"""In-process e-nose without sockets, from the physics of the device: for benchmarks and scenarios at any speed."""

from collections.abc import Callable, Mapping
from contextlib import aclosing

import numpy as np

from config.schema import Device, RegisterMap
from nodesets.errors import ConfigurationError, DeviceError, Mistake
from nodesets.model import Cause, Frame
from nodesets.ports import Clock
from opcua_server.drivers.physics import SECOND, Physics, State, find_scenario, load_scenario, positions
from opcua_server.drivers.schedule import Schedule
from opcua_server.drivers.waves import WAVES, Waves


class Simulator:
    """`ports.Source` of a simulated device. It is switched on when `run` begins; its unit id picks its own noise."""

    def __init__(self, device: Device, registers: RegisterMap, clock: Clock, seed: int = 0) -> None:
        if device.scenario is None:
            raise ConfigurationError([Mistake(f"devices.{device.id}.scenario", "a simulator needs one")])
        self.schedule = Schedule()
        self._device = device
        self._columns = device.columns(registers)
        self._status = registers.channel_status is not None
        self._heated = positions(device)
        self._clock = clock
        self._physics: Physics | Waves = (
            Waves(device, seed)
            if device.scenario == WAVES
            else Physics(load_scenario(find_scenario(device.scenario)), seed, unit=device.unit)
        )
        self._timeline = self._physics.timeline
        self._started: float | None = None

    async def run(self, emit: Callable[[Frame], None]) -> None:
        self._started = start = self._clock.monotonic()
        epoch = self._clock.now()
        async with aclosing(self.schedule.ticks(self._clock, start, self._device.period)) as ticks:
            async for due, overrun in ticks:
                t = round((due - start) * SECOND)
                state = self._physics.at(t, self._timeline)
                emit(self._lost(epoch + t) if overrun or not state.link else self._frame(epoch + t, t, state))

    async def command(self, name: str, argument: float = 0.0) -> None:
        if self._started is None:
            raise DeviceError(f"{self._device.id} is switched off")
        t = round((self._clock.monotonic() - self._started) * SECOND)
        self._timeline = self._timeline.commanded(name, argument, t)

    async def identity(self) -> Mapping[str, str]:
        return {
            "Vendor": "enose",
            "Model": "In-process simulator",
            "SerialNumber": f"SIM-{self._device.unit:03d}",
            "Firmware": "1",
        }

    def _frame(self, at: int, t: int, state: State) -> Frame:
        values = state.row(self._device, self._heated)
        causes = np.where(np.isnan(values), np.uint8(Cause.NOT_A_NUMBER), np.uint8(Cause.NONE))
        if self._status:
            n = min(len(state.failed), len(self._device.channels))
            causes[:n][state.failed[:n]] = Cause.CHANNEL_FAULT
        return Frame(
            device=self._device.id,
            source_time=at,
            received_time=self._clock.now(),
            values=values,
            causes=causes,
            phase=state.phase,
            cycle=state.cycle,
            heartbeat=round(t / SECOND / self._device.period) & 0xFFFFFFFF,
            flags=state.flags,
        )

    def _lost(self, at: int) -> Frame:
        n = len(self._columns)
        return Frame(
            device=self._device.id,
            source_time=at,
            received_time=self._clock.now(),
            values=np.full(n, np.nan),
            causes=np.full(n, Cause.LINK_LOST, np.uint8),
        )
