"""Sources of frames. A driver is one file and one row of `DRIVERS`."""

from collections.abc import Callable
from typing import Protocol

from config.schema import Device, RegisterMap
from nodesets.ports import Clock, Source
from opcua_server.drivers.modbus import Modbus
from opcua_server.drivers.schedule import Schedule
from opcua_server.drivers.simulator import Simulator


class Driver(Source, Protocol):
    """A source that accounts for its schedule."""

    schedule: Schedule


DRIVERS: dict[str, Callable[[Device, RegisterMap, Clock, int], Driver]] = {
    "modbus": Modbus,
    "simulator": Simulator,
}
"""`config.schema.Device.driver` -> factory(device, registers, clock, seed)."""
