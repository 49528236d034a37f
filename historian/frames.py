"""Layout of a frame in its table, its canonical bytes, and the chain the frames of a layout make.

samples   8 bytes little endian, one cell a column: every bit of a NaN comes back
status    u4 little endian, one a column; a single one when all are equal, as they are nearly always
link      SHA-256 of the link of the frame recorded before it in the layout (at first 32 zero bytes) and of its bytes
"""

import hashlib
import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np

from historian.chunks import Block, Cells, Codes, Kind
from nodesets.model import Quality, Row

STATUS_SIZE: Final = 4
CELL_SIZE: Final = 8

ZERO: Final = bytes(32)
"""Link before the first frame of a layout."""

_HEAD = struct.Struct("<5q2I")


class Column(NamedTuple):
    """What a column of a layout holds; in the table the tag's node identifier, or {"tag", "kind"} if no double."""

    tag: str
    kind: Kind = Kind.DOUBLE


def columns(layout: str) -> list[Column]:
    """The columns of a layout from its table."""
    return [
        Column(each) if isinstance(each, str) else Column(each["tag"], Kind(each["kind"]))
        for each in json.loads(layout)
    ]


def as_text(columns: Iterable[Column]) -> str:
    """The columns of a layout as its table has them."""
    return json.dumps([c.tag if c.kind is Kind.DOUBLE else {"tag": c.tag, "kind": c.kind} for c in columns])


def typed(groups: Mapping[str, Sequence[str | Column]]) -> dict[str, tuple[Column, ...]]:
    """The columns of each group; a tag alone is one of doubles."""
    return {name: tuple(Column(c) if isinstance(c, str) else c for c in group) for name, group in groups.items()}


class Record(NamedTuple):
    """A row of the table `frame`, in the order of its columns."""

    layout: int
    source_time: int
    id: int
    received_time: int
    late: int
    status: bytes
    samples: bytes
    link: bytes


class Head(NamedTuple):
    """The newest frame of a layout."""

    frame: int
    link: bytes


def record(number: int, layout: int, late: bool, row: Row, before: bytes) -> Record:
    """The table row of `row` as frame `number`, after the frame with the link `before`."""
    status = row.status.astype("<u4", copy=False).tobytes()
    one = status[:STATUS_SIZE]
    if status == one * (len(status) // STATUS_SIZE):
        status = one
    cells = row.values.astype("<f8", copy=False).tobytes()
    times = int(row.source_time), int(row.received_time)
    made = link(before, layout, times[0], number, times[1], int(late), status, cells)
    return Record(layout, times[0], number, times[1], int(late), status, cells, made)


def link(
    before: bytes,
    layout: int,
    source_time: int,
    number: int,
    received_time: int,
    late: int,
    status: bytes,
    cells: bytes,
) -> bytes:
    """Link of a frame: over the link before, then layout, source time, id, received time, late (i8 little endian),
    length of status and of samples (u4), status, samples. `compliance.verify` computes the same on its own.
    """
    head = _HEAD.pack(layout, source_time, number, received_time, late, len(status), len(cells))
    return hashlib.sha256(before + head + status + cells).digest()


class Rows:
    """`count` frames of a layout of `width` columns as arrays, which they fill one by one."""

    def __init__(self, width: int, count: int) -> None:
        times, received, numbers = np.empty((3, count), np.int64)
        cells, status = np.empty((width, count), "<u8"), np.empty((width, count), "<u4")
        self.block = Block(times, received, numbers, cells, status)
        """In the order they are added; whole when all of them are."""
        self._added = 0

    def add(self, record: Record) -> None:
        block, i = self.block, self._added
        block.times[i], block.received[i], block.numbers[i] = record.source_time, record.received_time, record.id
        block.cells[:, i] = np.frombuffer(record.samples, "<u8")
        block.status[:, i] = np.frombuffer(record.status, "<u4")  # a single one is that of all columns
        self._added = i + 1


def cells(samples: Iterable[bytes]) -> Cells:
    """Cells from their bytes, shape (n,)."""
    return np.frombuffer(b"".join(samples), "<u8")


def codes(status: Iterable[bytes]) -> Codes:
    """Status codes from their bytes, shape (n,)."""
    return np.frombuffer(b"".join(status), "<u4")


def gap(group: str, width: int, first: int, last: int, now: int) -> tuple[Row, Row]:
    """Rows that say what was measured from `first` to `last` (ns UTC) is lost: BadDataLost at both ends, no value."""
    values, status = np.full(width, np.nan), np.full(width, Quality.BAD_DATA_LOST, np.uint32)
    begin, end = (
        Row(group=group, source_time=time, received_time=now, values=values, status=status) for time in (first, last)
    )
    return begin, end
