"""The register image of our e-nose device: `RegisterMap` as documented in docs/registers.md, and two extra blocks.

Besides the float32 block the device shows each channel as a scaled integer, for masters that have no floats.
"""

from itertools import repeat

import numpy as np

from config.registers import SPACE, Columns, Registers, image, position, write
from config.schema import Block, Point, RegisterMap
from nodesets.model import Floats
from opcua_server.drivers.physics import State

CHANNELS = 64
UNSIGNED = Block(address=300, type="uint16", scale=0.01, invalid=(65535,))
"""Channel values in steps of 0.01 up to 655.34; 65535 means 'no value'."""
SIGNED = Block(address=700, type="int16", scale=0.2, invalid=(-32768,))
"""Channel values in steps of 0.2 between -6553.4 and 6553.4; -32768 means 'no value'."""
VENDOR = "enose"


class Bank:
    """The registers of one unit. Only whole snapshots are shown: values, time and heartbeat of one step together."""

    def __init__(self, registers: RegisterMap, *, model: str, serial: str, firmware: str) -> None:
        self.map = registers
        extra = (UNSIGNED, SIGNED) if registers == RegisterMap(word_order=registers.word_order) else ()
        self._channel_blocks = (registers.channels, *extra)
        self._quantities = tuple(registers.environment)
        blocks = [*self._channel_blocks, *(b for b in (registers.heaters, registers.channel_status) if b is not None)]
        points = [b.point(i) for b in blocks for i in range(CHANNELS)] + list(registers.environment.values())
        self._columns = Columns(points, registers.word_order)
        self._identity = image()
        for point, text in zip(
            (registers.vendor, registers.model, registers.serial, registers.firmware),
            (VENDOR, model, serial, firmware),
            strict=True,
        ):
            if point is not None:
                write(point, text, self._identity, registers.word_order)
        self.shown = self._identity.copy()
        heads = [getattr(registers, name) for name in RegisterMap.model_fields]
        every = [*points, *(p for p in heads if isinstance(p, Point))]
        self.sizes = tuple(
            max((p.address + p.registers for p in every if position(p) // SPACE == table), default=1)
            for table in (0, 1)
        )
        """Registers of the input and of the holding table."""

    def show(self, state: State, *, heartbeat: int, device_time: int) -> None:
        """Replace everything the device shows by one step of it. `device_time` is ns UTC."""
        self.shown = self.encode(state, heartbeat=heartbeat, device_time=device_time)

    def encode(self, state: State, *, heartbeat: int, device_time: int) -> Registers:
        """The register image of one step; what was last written to the holding registers stays in it."""
        registers = self._identity.copy()
        registers[SPACE : SPACE + self.sizes[1]] = self.shown[SPACE : SPACE + self.sizes[1]]
        parts = [*repeat(_padded(state.channels), len(self._channel_blocks))]
        if self.map.heaters is not None:
            parts.append(_padded(state.heaters))
        if self.map.channel_status is not None:
            parts.append(_padded(state.failed.astype(np.float64), 0.0))
        parts.append(np.array([state.environment.get(q, np.nan) for q in self._quantities]))
        self._columns.encode(np.concatenate(parts), registers)
        for point, value in (
            (self.map.status, int(state.flags)),
            (self.map.phase, int(state.phase)),
            (self.map.heartbeat, heartbeat & 0xFFFFFFFF),
            (self.map.device_time, device_time),
            (self.map.cycle, state.cycle & 0xFFFFFFFF),
        ):
            if point is not None:
                write(point, value, registers, self.map.word_order)
        return registers


def _padded(values: Floats, filling: float = np.nan) -> Floats:
    """One value for each channel the map has; the device has no sensor behind the last ones."""
    return np.concatenate([values, np.full(CHANNELS - len(values), filling)])
