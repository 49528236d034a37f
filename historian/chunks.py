"""Sealed blocks: rows of one layout as compressed columns with statistics. Pure: arrays in, bytes out, bit for bit.

A block holds at most ROWS rows of one whole UTC hour, in order of (time, number). Its bytes are packs of streams:

    clock     source times; received times less source times; row numbers: shared by all columns
    columns   of each column: its cells, its status
    pack      u4 count, u4 length of each stream (little endian), the streams one after another
    stream    one element as it is when all are equal, otherwise pcodec (which never is that short)

A cell is the 8 bytes of one value: an IEEE double, an integer, or whatever else its `Kind` says.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pcodec import ChunkConfig, standalone

ROWS: Final = 4096
"""Most rows of a block."""

HOUR: Final = 3600 * 10**9
"""ns; no block reaches over a whole hour UTC."""

SECOND: Final = 1e9

Cells = NDArray[np.uint64]
Times = NDArray[np.int64]
Codes = NDArray[np.uint32]

_CONFIG: Final = ChunkConfig(compression_level=9)


class Kind(StrEnum):
    """What the 8 bytes of a cell are."""

    DOUBLE = "Double"
    INT64 = "Int64"
    UINT64 = "UInt64"
    BOOLEAN = "Boolean"
    """0 or 1, as an integer."""
    STRING = "String"
    """Row of the table `text`, as an integer."""

    @property
    def dtype(self) -> np.dtype[Any]:
        return _TYPES[self]


_TYPES: Final = {
    Kind.DOUBLE: np.dtype("<f8"),
    Kind.INT64: np.dtype("<i8"),
    Kind.UINT64: np.dtype("<u8"),
    Kind.BOOLEAN: np.dtype("<u8"),
    Kind.STRING: np.dtype("<i8"),
}

STATISTICS: Final = np.dtype(
    [
        ("good", "<u4"),
        ("uncertain", "<u4"),
        ("bad", "<u4"),  # by the severity of the status; a NaN counts as bad
        ("worst", "<u4"),  # the first status of the worst severity there is
        ("first", "<f8"),
        ("first_status", "<u4"),
        ("last", "<f8"),
        ("last_status", "<u4"),  # first and last row, of any quality
        ("minimum", "<f8"),
        ("minimum_time", "<i8"),
        ("maximum", "<f8"),
        ("maximum_time", "<i8"),  # from here on of good values alone; the first of equal ones; NaN where there is none
        ("minimum_count", "<u4"),
        ("maximum_count", "<u4"),  # how many are equal to it
        ("first_good", "<f8"),
        ("first_good_time", "<i8"),
        ("last_good", "<f8"),
        ("last_good_time", "<i8"),
        ("sum", "<f8"),
        ("squares", "<f8"),
        ("integral", "<f8"),  # value x s between neighbouring good values, straight lines between them
        ("stepped", "<f8"),  # the same, each value holding until the next
        ("duration", "<f8"),  # s between neighbouring good values
        ("transitions", "<u4"),  # neighbouring good values that differ
    ]
)
"""What is kept of each column of a block. Of a column of texts or states: as of their numbers."""


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Rows of one layout: n rows of w columns."""

    times: Times
    """Source time, ns UTC, shape (n,)."""
    received: Times
    numbers: Times
    """Frame numbers: the order of recording."""
    cells: Cells
    """Shape (w, n)."""
    status: Codes
    """Shape (w, n)."""

    def __len__(self) -> int:
        return len(self.times)

    def part(self, chosen: Any) -> "Block":
        """The rows of an index or a slice."""
        return Block(
            self.times[chosen],
            self.received[chosen],
            self.numbers[chosen],
            self.cells[:, chosen],
            self.status[:, chosen],
        )


@dataclass(frozen=True, slots=True)
class Encoded:
    clock: bytes
    columns: bytes
    statistics: bytes
    """`STATISTICS` of each column."""


def merge(blocks: Sequence[Block]) -> Block:
    """The rows of all blocks of a layout, none of them empty, in order of (time, number)."""
    together = blocks[0] if len(blocks) == 1 else _concatenated(sorted(blocks, key=lambda b: int(b.times[0])))
    order = np.lexsort((together.numbers, together.times))
    return together if (order[1:] > order[:-1]).all() else together.part(order)


def _concatenated(blocks: Sequence[Block]) -> Block:
    return Block(
        np.concatenate([b.times for b in blocks]),
        np.concatenate([b.received for b in blocks]),
        np.concatenate([b.numbers for b in blocks]),
        np.concatenate([b.cells for b in blocks], axis=1),
        np.concatenate([b.status for b in blocks], axis=1),
    )


def cut(block: Block) -> list[Block]:
    """An ordered block in pieces that each lie within a whole hour UTC and have at most ROWS rows, much alike."""
    hours = np.flatnonzero(np.diff(block.times // HOUR)) + 1
    edges = [0, *hours.tolist(), len(block)]
    pieces = []
    for first, last in pairwise(edges):
        count = -(-(last - first) // ROWS)
        inner = np.linspace(first, last, count + 1).astype(int).tolist() if count else []
        pieces += [block.part(slice(a, b)) for a, b in pairwise(inner)]
    return pieces


def encode(block: Block, kinds: Sequence[Kind]) -> Encoded:
    """The bytes of a block of at least one row."""
    clock = (_stream(a) for a in (block.times, block.received - block.times, block.numbers))
    columns = (
        stream
        for kind, cells, status in zip(kinds, block.cells, block.status, strict=True)
        for stream in (_stream(np.ascontiguousarray(cells).view(kind.dtype)), _stream(np.ascontiguousarray(status)))
    )
    return Encoded(_pack(clock), _pack(columns), statistics(block, kinds).tobytes())


def decode_clock(clock: bytes, rows: int) -> tuple[Times, Times, Times]:
    """Source times, received times, numbers."""
    times, delays, numbers = (_unstream(_part(clock, i), rows, np.dtype("<i8")) for i in range(3))
    return times, times + delays, numbers


def decode_column(columns: bytes, column: int, kind: Kind, rows: int) -> tuple[Cells, Codes]:
    """Cells and status of one column; no other is decompressed."""
    cells = _unstream(_part(columns, 2 * column), rows, kind.dtype).view("<u8")
    return cells, _unstream(_part(columns, 2 * column + 1), rows, np.dtype("<u4"))


def decode(encoded: Encoded, kinds: Sequence[Kind], rows: int) -> Block:
    """The block as it was encoded."""
    each = [decode_column(encoded.columns, i, kind, rows) for i, kind in enumerate(kinds)]
    times, received, numbers = decode_clock(encoded.clock, rows)
    return Block(
        times,
        received,
        numbers,
        np.array([c for c, _ in each], "<u8").reshape(-1, rows),
        np.array([s for _, s in each], "<u4").reshape(-1, rows),
    )


def statistics(block: Block, kinds: Sequence[Kind]) -> NDArray[Any]:
    """`STATISTICS` of each column, shape (w,)."""
    made = np.zeros(len(kinds), STATISTICS)
    seconds = np.diff(block.times) / SECOND
    with np.errstate(invalid="ignore", over="ignore"):  # an infinite value is one, and so are its sums
        for row, kind, cells, status in zip(made, kinds, block.cells, block.status, strict=True):
            values = np.ascontiguousarray(cells).view(kind.dtype).astype(np.float64)
            _summarise(row, block.times, seconds, values, status)
    return made


def _summarise(
    row: Any, times: Times, seconds: NDArray[np.float64], values: NDArray[np.float64], status: Codes
) -> None:
    severity = status >> 30
    good = (severity == 0) & ~np.isnan(values)
    row["good"] = count = np.count_nonzero(good)
    row["uncertain"] = np.count_nonzero((severity == 1) & ~np.isnan(values))
    row["bad"] = len(values) - row["good"] - row["uncertain"]
    row["worst"] = status[np.argmax(severity)]
    row["first"], row["last"] = values[0], values[-1]
    row["first_status"], row["last_status"] = status[0], status[-1]
    if count == 0:
        for name in ("minimum", "maximum", "first_good", "last_good"):
            row[name] = np.nan
        return
    where, chosen = (slice(None), values) if count == len(values) else (good, values[good])
    at = times[where]
    low, high = chosen.argmin(), chosen.argmax()
    row["minimum"], row["minimum_time"] = chosen[low], at[low]
    row["maximum"], row["maximum_time"] = chosen[high], at[high]
    row["minimum_count"] = np.count_nonzero(chosen == chosen[low])
    row["maximum_count"] = np.count_nonzero(chosen == chosen[high])
    row["first_good"], row["first_good_time"] = chosen[0], at[0]
    row["last_good"], row["last_good_time"] = chosen[-1], at[-1]
    row["sum"], row["squares"] = chosen.sum(), np.dot(chosen, chosen)
    before, after = values[:-1], values[1:]
    if count != len(values):
        both = good[:-1] & good[1:]
        before, after, seconds = before[both], after[both], seconds[both]
    row["stepped"] = np.dot(before, seconds)
    row["integral"] = np.dot(before + after, seconds) / 2
    row["duration"] = seconds.sum()
    row["transitions"] = np.count_nonzero(before != after)


def _stream(values: NDArray[Any]) -> bytes:
    bits = values.view(f"<u{values.itemsize}")
    if (bits == bits[0]).all():
        return bits[:1].tobytes()
    return bytes(standalone.simple_compress(values, _CONFIG))


def _unstream(stream: bytes, rows: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    if len(stream) == dtype.itemsize:
        return np.full(rows, np.frombuffer(stream, f"<u{dtype.itemsize}")[0]).view(dtype)
    values: NDArray[Any] = standalone.simple_decompress(stream)
    return values


def _pack(streams: Iterable[bytes]) -> bytes:
    each = list(streams)
    return np.array([len(each), *map(len, each)], "<u4").tobytes() + b"".join(each)


def _part(pack: bytes, index: int) -> bytes:
    count = int.from_bytes(pack[:4], "little")
    lengths = np.frombuffer(pack, "<u4", count=index + 1, offset=4)
    begin = 4 + 4 * count + int(lengths[:-1].sum())
    return pack[begin : begin + int(lengths[-1])]
