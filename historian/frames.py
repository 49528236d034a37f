"""Layout of a frame in its table, and its canonical bytes.

samples   f8 little endian, one a column: every bit of a NaN comes back
status    u4 little endian, one a column; a single one when all are equal, as they are nearly always
"""

import struct
from collections.abc import Iterable
from typing import Final, NamedTuple

import numpy as np

from nodesets.model import Codes, Floats, Row

STATUS_SIZE: Final = 4
SAMPLE_SIZE: Final = 8

_HEAD = struct.Struct("<4q2I")


class Record(NamedTuple):
    """A row of the table `frame`, in the order of its columns."""

    id: int
    layout: int
    source_time: int
    received_time: int
    status: bytes
    samples: bytes


def record(number: int, layout: int, row: Row) -> Record:
    """The table row of `row` as frame `number`."""
    status = row.status.astype("<u4", copy=False).tobytes()
    one = status[:STATUS_SIZE]
    uniform = status == one * (len(status) // STATUS_SIZE)
    samples = row.values.astype("<f8", copy=False).tobytes()
    times = int(row.source_time), int(row.received_time)
    return Record(number, layout, *times, one if uniform else status, samples)


def canonical(frame: Record) -> bytes:
    """What the digest of a commit group is over: id, layout, source time, received time (i8 little endian), length of
    status and of samples (u4), status, samples. `compliance.verify` computes the same on its own.
    """
    *numbers, status, samples = frame
    return _HEAD.pack(*numbers, len(status), len(samples)) + status + samples


def values(samples: Iterable[bytes]) -> Floats:
    """Values from their bytes, shape (n,)."""
    return np.frombuffer(b"".join(samples), "<f8")


def codes(status: Iterable[bytes]) -> Codes:
    """Status codes from their bytes, shape (n,)."""
    return np.frombuffer(b"".join(status), "<u4")
