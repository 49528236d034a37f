"""Sources of frames. A driver is one file and one row of `DRIVERS`."""

from collections.abc import Callable

from config.schema import Device, RegisterMap
from nodesets.ports import Clock, Source
from opcua_server.drivers.modbus import Modbus
from opcua_server.drivers.simulator import Simulator

DRIVERS: dict[str, Callable[[Device, RegisterMap, Clock, int], Source]] = {
    "modbus": Modbus,
    "simulator": Simulator,
}
"""`config.schema.Device.driver` -> factory(device, registers, clock, seed)."""
