"""The register image, and its documentation."""

import re
from pathlib import Path

import numpy as np
import pytest

from config.registers import Columns, image, read
from config.schema import Block, Point, RegisterMap, StatusBit
from nodesets.model import Phase
from opcua_server.device.registers import CHANNELS, SIGNED, UNSIGNED, Bank
from opcua_server.drivers.modbus import COMMANDS
from opcua_server.drivers.physics import State

DOCUMENT = (Path(__file__).parents[4] / "docs" / "registers.md").read_text("utf-8")

STATE = State(
    channels=np.array([250.0, -120.4, np.nan]),
    environment={"Temperature": 20.5},
    heaters=np.array([300.0, np.nan, 280.0]),
    failed=np.array([False, True, False]),
    phase=Phase.PURGE,
    cycle=12,
    flags=StatusBit.SIMULATED | StatusBit.FLOW_LOW,
)


def documented(heading: str) -> dict[str, list[str]]:
    section = DOCUMENT.split(f"## {heading}")[1].split("\n## ")[0]
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in section.splitlines() if line.startswith("| ")]
    return {row[0]: row[1:] for row in cells if row[0] != "name"}


def points(registers: RegisterMap) -> dict[str, Point]:
    named = {f"environment.{name}": point for name, point in registers.environment.items()}
    for name in RegisterMap.model_fields:
        value = getattr(registers, name)
        if isinstance(value, Block):
            named[name] = value.point(0)
        elif isinstance(value, Point):
            named[name] = value
    return named


# Two truths about addresses would be two devices.
def test_document_lists_exactly_the_points_of_the_map() -> None:
    table = {name: row for name, row in documented("Input registers").items() if name not in ("unsigned", "signed")}
    table |= documented("Holding registers")
    mapped = points(RegisterMap())
    assert {name: row[:3] for name, row in table.items()} == {
        name: [str(p.address), p.type, str(p.registers)] for name, p in mapped.items()
    }
    assert set(documented("Holding registers")) == {n for n, p in mapped.items() if p.table == "holding"}


def test_document_lists_the_scaled_blocks_commands_and_status_bits() -> None:
    table = documented("Input registers")
    for name, block in (("unsigned", UNSIGNED), ("signed", SIGNED)):
        assert table[name] == [str(block.address), block.type, f"{block.scale:g}", f"{block.invalid[0]:g}"]
    assert re.search(", ".join(f"{code} {name.replace('_', ' ')}" for name, code in COMMANDS.items()), DOCUMENT)
    bits = documented("Status bits")
    assert {row[1].split(":")[0]: int(row[0]) for b, row in bits.items() if b != "bit"} == {
        bit.name: bit.value for bit in StatusBit
    }


def test_blocks_do_not_overlap() -> None:
    registers = RegisterMap()
    used: list[int] = []
    for block in (registers.channels, registers.heaters, registers.channel_status, UNSIGNED, SIGNED):
        for i in range(CHANNELS):
            point = block.point(i)
            used += range(point.address, point.address + point.registers)
    for point in points(registers).values():
        if point.table == "input" and point.address < 100:
            used += range(point.address, point.address + point.registers)
    assert len(used) == len(set(used))


@pytest.mark.parametrize("order", ["big", "little"])
def test_snapshot_reads_back(order: str) -> None:
    registers = RegisterMap(word_order=order)
    bank = Bank(registers, model="ENS-1", serial="SN-0001", firmware="1.0")
    bank.show(STATE, heartbeat=2**32 + 5, device_time=1_700_000_000_123_456_789)
    shown = bank.shown
    scalars = {name: read(p, shown, order) for name, p in points(registers).items() if p.table == "input"}
    assert scalars["vendor"] == "enose"
    assert scalars["device_time"] == 1_700_000_000_123_456_789
    assert (scalars["heartbeat"], scalars["cycle"], scalars["phase"], scalars["status"]) == (5, 12, 3, 5)
    assert scalars["environment.Temperature"] == 20.5
    assert np.isnan(scalars["environment.Pressure"])
    for block in (registers.channels, UNSIGNED, SIGNED):
        values, sentinel = Columns([block.point(i) for i in range(4)], order).decode(shown)
        assert values[0] == pytest.approx(250.0)
        assert (sentinel | np.isnan(values))[2:].all()
    values, _ = Columns([SIGNED.point(1)], order).decode(shown)
    assert values[0] == pytest.approx(-120.4)
    status, _ = Columns([registers.channel_status.point(i) for i in range(3)], order).decode(shown)
    assert status.tolist() == [0.0, 1.0, 0.0]


# A client that reads while the next step is made must see the old image whole.
def test_showing_a_step_leaves_the_image_that_was_handed_out_untouched() -> None:
    bank = Bank(RegisterMap(), model="m", serial="s", firmware="f")
    bank.show(STATE, heartbeat=1, device_time=1)
    before, copy = bank.shown, bank.shown.copy()
    bank.show(STATE, heartbeat=2, device_time=2)
    assert np.array_equal(before, copy)
    assert not np.array_equal(before, bank.shown)


def test_image_has_room_for_both_tables() -> None:
    assert len(image()) == 131072
