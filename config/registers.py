"""Numbers and text in 16-bit Modbus registers, one point or a whole row at a time; shared by device and drivers.

A register is big-endian by specification; the order of the registers of one number is the maker's choice:

    float32 12.5 = 0x41480000        big: 4148 0000        little: 0000 4148
"""

import mmap
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from config.schema import Point
from nodesets.model import Floats

WordOrder = Literal["big", "little"]
Registers = NDArray[np.uint16]

SPACE = 65536
"""Registers of one Modbus table."""
DTYPES: dict[str, np.dtype[np.generic]] = {
    "float32": np.dtype(">f4"), "float64": np.dtype(">f8"), "int16": np.dtype(">i2"), "uint16": np.dtype(">u2"),
    "int32": np.dtype(">i4"), "uint32": np.dtype(">u4"), "uint64": np.dtype(">u8"),
}  # fmt: skip
_STRUCTS = {
    "float32": struct.Struct(">f"), "float64": struct.Struct(">d"), "int16": struct.Struct(">h"),
    "uint16": struct.Struct(">H"), "int32": struct.Struct(">i"), "uint32": struct.Struct(">I"),
    "uint64": struct.Struct(">Q"),
}  # fmt: skip


def image() -> Registers:
    """All registers a device can have: input table, then holding table. Pages never touched take no memory."""
    return np.frombuffer(mmap.mmap(-1, 2 * SPACE * 2), np.uint16)


def position(point: Point) -> int:
    """Index of the point's first register in an `image`."""
    return point.address + (SPACE if point.table == "holding" else 0)


def read(point: Point, registers: Registers, order: WordOrder) -> int | float | str:
    """The point's value in an `image`, scaled; a number of scale 1 and offset 0 keeps its own type.

    Text is UTF-8, padded with NUL or blanks; what is not UTF-8 is shown as the replacement character.
    """
    words = registers[position(point) : position(point) + point.registers]
    if point.type == "string":
        return words.astype(">u2").tobytes().decode("utf-8", "replace").rstrip("\x00 ")
    if (point.word_order or order) == "little":
        words = words[::-1]
    raw: int | float = _STRUCTS[point.type].unpack(words.astype(">u2").tobytes())[0]
    return raw if (point.scale, point.offset) == (1.0, 0.0) else raw * point.scale + point.offset


def write(point: Point, value: float | str, registers: Registers, order: WordOrder) -> None:
    """Put a value into an `image`; the inverse of `read`.

    Raises ValueError for text that is too long and for a number the type cannot hold.
    """
    if isinstance(value, str):
        raw = value.encode("utf-8").ljust(2 * point.registers, b"\x00")
        if len(raw) > 2 * point.registers:
            raise ValueError(f"{value!r} is longer than {2 * point.registers} bytes")
    else:
        raw = _pack(point, value)
    words = np.frombuffer(raw, ">u2")
    if point.type != "string" and (point.word_order or order) == "little":
        words = words[::-1]
    registers[position(point) : position(point) + point.registers] = words


def _pack(point: Point, value: float) -> bytes:
    if (point.scale, point.offset) != (1.0, 0.0):
        value = (value - point.offset) / point.scale
    try:
        return _STRUCTS[point.type].pack(value if point.type.startswith("float") else round(value))
    except (struct.error, OverflowError) as error:
        raise ValueError(f"{value:g} does not fit {point.type}") from error


@dataclass(frozen=True, slots=True)
class _Group:
    """Columns of one register type."""

    dtype: np.dtype[np.generic]
    columns: NDArray[np.intp]
    """Shape (k,)."""
    words: NDArray[np.intp]
    """Image index of each register, most significant first, shape (k, registers)."""
    scale: Floats
    offset: Floats
    doubted: NDArray[np.intp]
    """Row in the group of each sentinel, shape (s,)."""
    sentinels: NDArray[np.generic]
    """In the register's own type, shape (s,)."""
    missing: tuple[float | None, ...]
    """Register value that stands for 'no value', of each column; None where there is none."""


class Columns:
    """A row of numeric points, compiled once: decodes and encodes all of them with one gather a register type."""

    def __init__(self, points: Sequence[Point], order: WordOrder) -> None:
        self.size = len(points)
        kinds = dict.fromkeys(p.type for p in points)
        self._groups = tuple(
            _group(kind, [(i, p) for i, p in enumerate(points) if p.type == kind], order) for kind in kinds
        )

    def decode(self, registers: Registers) -> tuple[Floats, NDArray[np.bool_]]:
        """Values in engineering units, shape (n,), and which of them are a sentinel (`Point.invalid`), shape (n,)."""
        values = np.empty(self.size)
        sentinel = np.zeros(self.size, np.bool_)
        for g in self._groups:
            raw = registers[g.words].astype(">u2").view(g.dtype)[:, 0]
            with np.errstate(invalid="ignore", over="ignore"):  # signalling NaN; infinity times scale
                values[g.columns] = raw.astype(np.float64) * g.scale + g.offset
            if g.doubted.size:
                hit = raw[g.doubted] == g.sentinels
                sentinel[g.columns[g.doubted[hit]]] = True
        return values, sentinel

    def encode(self, values: Floats, registers: Registers) -> None:
        """Put values, shape (n,), into an `image`. Integers round and saturate; NaN becomes the first sentinel.

        Raises ValueError for NaN in an integer register that has no sentinel.
        """
        for g in self._groups:
            with np.errstate(over="ignore"):  # beyond float32 is infinity
                raw = (values[g.columns] - g.offset) / g.scale
                own = raw.astype(g.dtype) if g.dtype.kind == "f" else _integers(raw, g)
            registers[g.words] = own.reshape(-1, 1).view(">u2")


def _group(kind: str, members: Sequence[tuple[int, Point]], order: WordOrder) -> _Group:
    if kind not in DTYPES:
        raise ValueError(f"a {kind} register is no number")
    dtype = DTYPES[kind]
    sentinels = [(row, value) for row, (_, p) in enumerate(members) for value in p.invalid]
    return _Group(
        dtype=dtype,
        columns=np.array([i for i, _ in members], np.intp),
        words=np.array([_words(p, order) for _, p in members], np.intp),
        scale=np.array([p.scale for _, p in members]),
        offset=np.array([p.offset for _, p in members]),
        doubted=np.array([row for row, _ in sentinels], np.intp),
        sentinels=_own_type((value for _, value in sentinels), dtype),
        missing=tuple(p.invalid[0] if p.invalid else None for _, p in members),
    )


def _words(point: Point, order: WordOrder) -> list[int]:
    first = position(point)
    words = list(range(first, first + point.registers))
    return words[::-1] if (point.word_order or order) == "little" else words


def _own_type(values: Iterable[float], dtype: np.dtype[np.generic]) -> NDArray[np.generic]:
    """Sentinels as the register shows them: 4294967295 as float32 is 4294967296.0, 65535 as int16 is -1."""
    if dtype.kind == "f":
        return np.array(list(values), np.float64).astype(dtype)
    mask = (1 << 8 * dtype.itemsize) - 1
    bits = [min(int(v), mask) & mask for v in values]  # 2**64 - 1 written as a float is 2**64
    return np.array(bits, f">u{dtype.itemsize}").view(dtype)


def _integers(raw: Floats, group: _Group) -> NDArray[np.generic]:
    absent = np.isnan(raw)
    bits = 8 * group.dtype.itemsize
    low, high = (-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1) if group.dtype.kind == "i" else (0.0, 2.0**bits - 1)
    if bits > 53:  # 2**64 - 1 is no float64
        high = float(np.nextafter(high, 0.0))
    own = np.clip(np.rint(np.where(absent, 0.0, raw)), low, high).astype(group.dtype)
    for row in np.flatnonzero(absent):
        missing = group.missing[row]
        if missing is None:
            raise ValueError(f"column {group.columns[row]}: no register value means 'no value'")
        own[row] = _own_type([missing], group.dtype)[0]
    return own
