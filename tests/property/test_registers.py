"""The register codec: every type, both word orders."""

import math
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.registers import SPACE, Columns, image, position, read, write
from config.schema import Point

ORDERS = st.sampled_from(["big", "little"])
BITS = {"int16": 16, "uint16": 16, "int32": 32, "uint32": 32, "uint64": 64}


def numbers(kind: str) -> st.SearchStrategy[float]:
    if kind in ("float32", "float64"):
        return st.floats(width=32 if kind == "float32" else 64, allow_nan=False)
    bits = BITS[kind]
    return st.integers(0, 2**bits - 1) if kind.startswith("u") else st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


@st.composite
def rows(draw: st.DrawFn) -> tuple[list[Point], list[float]]:
    """Points that do not overlap, with a value for each."""
    address, points, values = draw(st.integers(0, 100)), [], []
    for kind in draw(st.lists(st.sampled_from([*BITS, "float32", "float64"]), min_size=1, max_size=20)):
        point = Point(
            address=address,
            type=kind,
            table=draw(st.sampled_from(["input", "holding"])),
            word_order=draw(st.sampled_from([None, "big", "little"])),
        )
        points.append(point)
        values.append(draw(numbers(kind)))
        address += point.registers + draw(st.integers(0, 5))
    return points, values


# What is written is read, whichever of the two paths wrote it and read it: the device encodes rows and the driver
# decodes them, single points serve the head of the frame.
@given(rows(), ORDERS)
def test_row_and_points_agree(row: tuple[list[Point], list[float]], order: str) -> None:
    points, values = row
    registers = image()
    for point, value in zip(points, values, strict=True):
        write(point, value, registers, order)
    decoded, sentinel = Columns(points, order).decode(registers)
    assert decoded.tolist() == [float(v) for v in values]
    assert not sentinel.any()
    assert [read(p, registers, order) for p in points] == values


@given(rows(), ORDERS)
def test_encoded_row_decodes_to_itself(row: tuple[list[Point], list[float]], order: str) -> None:
    points, values = row
    exact = np.array(
        [float(v) if abs(v) < 2**53 or "float" in p.type else 1.0 for p, v in zip(points, values, strict=True)]
    )
    registers = image()
    columns = Columns(points, order)
    columns.encode(exact, registers)
    assert columns.decode(registers)[0].tolist() == exact.tolist()


# No register pattern may raise, warn or stop a poll: a device can send anything.
@given(st.lists(st.integers(0, 65535), min_size=4, max_size=4), st.sampled_from([*BITS, "float32", "float64"]), ORDERS)
def test_any_bits_decode(words: list[int], kind: str, order: str) -> None:
    registers = image()
    registers[:4] = words
    values, _ = Columns([Point(address=0, type=kind)], order).decode(registers)
    single = read(Point(address=0, type=kind), registers, order)
    assert values[0] == single or (math.isnan(values[0]) and math.isnan(single))


# 12.5 is 0x41480000; the order of words differs, the order of bytes in a register does not.
@pytest.mark.parametrize(("order", "words"), [("big", [0x4148, 0]), ("little", [0, 0x4148])])
def test_word_orders_as_drawn(order: str, words: list[int]) -> None:
    registers = image()
    write(Point(address=7), 12.5, registers, order)
    assert registers[7:9].tolist() == words


# SmellNet's Benzene column holds 4294967295 for "sensor not valid"; in a float32 register it is 4294967296.0 and would
# never equal the number in the plant file if the two were compared as they stand.
@pytest.mark.parametrize(
    ("kind", "invalid", "raw"),
    [
        ("float32", 4294967295.0, struct.pack(">f", 4294967295.0)),
        ("int16", 65535.0, b"\xff\xff"),
        ("int16", -1.0, b"\xff\xff"),
        ("uint16", 65535.0, b"\xff\xff"),
        ("uint32", 4294967295.0, b"\xff" * 4),
        ("uint64", 18446744073709551615.0, b"\xff" * 8),
    ],
)
def test_sentinel_is_compared_in_the_registers_own_type(kind: str, invalid: float, raw: bytes) -> None:
    registers = image()
    words = np.frombuffer(raw, ">u2")
    registers[: len(words)] = words
    columns = Columns([Point(address=0, type=kind, invalid=(invalid,), scale=0.5, offset=3.0)], "big")
    assert columns.decode(registers)[1].tolist() == [True]
    registers[0] ^= 1
    assert columns.decode(registers)[1].tolist() == [False]


def test_integers_round_saturate_and_show_a_missing_value_as_sentinel() -> None:
    points = [Point(address=i, type="int16", scale=0.1, invalid=(-32768,)) for i in range(4)]
    registers = image()
    columns = Columns(points, "big")
    columns.encode(np.array([1.26, 1e9, np.nan, -3.0]), registers)
    values, sentinel = columns.decode(registers)
    assert values[[0, 1, 3]] == pytest.approx([1.3, 3276.7, -3.0])
    assert sentinel.tolist() == [False, False, True, False]


# Zero would be a value nobody measured.
def test_missing_value_without_a_sentinel_is_refused() -> None:
    with pytest.raises(ValueError, match="no value"):
        Columns([Point(address=0, type="uint16")], "big").encode(np.array([np.nan]), image())


def test_text_is_padded_and_too_long_text_refused() -> None:
    point, registers = Point(address=0, type="string", length=4), image()
    write(point, "Nöse", registers, "little")
    assert read(point, registers, "big") == "Nöse"
    with pytest.raises(ValueError, match="longer"):
        write(point, "nine char", registers, "big")


def test_tables_do_not_share_registers() -> None:
    assert position(Point(address=5, table="holding")) == position(Point(address=5)) + SPACE


@pytest.mark.parametrize("value", [0.5, 1e10, -40000.0])
def test_sentinel_that_cannot_stand_in_the_register_is_a_mistake(value: float) -> None:
    with pytest.raises(ValueError, match="cannot stand"):
        Point(address=0, type="int16", invalid=(value,))
