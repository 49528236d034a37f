"""The spool: one append-only file that holds rows while the database cannot.

    file     header record, then records in order
    record   magic "SPL1", salt u4, kind u1, 3 zero bytes, number of its last row i8, length u4, CRC-32 u4, content

The CRC is over everything but itself. The salt is new each time the file is begun anew, so that what an earlier filling
left behind is not taken for a record. What follows the last sound record is a torn write nobody was told of; unsound
bytes before a sound record are damage: counted, set aside, never passed over in silence.

What was put counts when `flush` returns: it is fsynced. A part of the file is reserved on the disk beforehand, so that
the spool can still take rows when the disk it shares with the database is full.
"""

import errno
import json
import logging
import os
import secrets
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import IntEnum
from pathlib import Path
from typing import Final

import numpy as np

from historian.frames import Column, as_text, columns, typed
from nodesets.errors import StorageError
from nodesets.model import Row

MAGIC: Final = b"SPL1"
_HEAD = struct.Struct("<4sIB3xqI")
_SUM = struct.Struct("<I")
_ROW = struct.Struct("<HqqIII")
"""Group, source time, received time, values, bytes of status (4 when all are equal) and of texts."""
_COUNT = struct.Struct("<I")
_HEAD_SIZE: Final = _HEAD.size + _SUM.size

FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

NOTE_SIZE: Final = 512
"""Room kept for the beginning and for the end of a gap in one group."""

log = logging.getLogger(__name__)


class Kind(IntEnum):
    HEADER = 0
    ROWS = 1
    NOTE = 2


@dataclass(frozen=True, slots=True)
class Gap:
    """Rows of a group that were lost, from the first to the last, by source time (ns UTC)."""

    group: str
    first: int
    last: int
    count: int
    """0 when the service ended while it lasted: then nobody knows."""
    open: bool
    """It lasts: `last` and `count` are as of now."""
    begun: bool = False
    """That it began is in the spool, or recorded, already."""

    @property
    def times(self) -> tuple[int, ...]:
        """Of the values that mark it: its first instant when that is not marked yet, and its last when it is over."""
        begin = () if self.begun else (self.first,)
        return begin if self.open or self.last <= self.first else (*begin, self.last)


@dataclass(frozen=True, slots=True)
class Record:
    """Rows in the order of recording, numbered `last` - len + 1 to `last`; or a gap, with one number."""

    rows: tuple[Row, ...]
    gap: Gap | None
    last: int
    start: int
    end: int
    """Offsets of the record in the file and of what follows it."""


def _decoded(content: bytes, groups: Sequence[str]) -> Iterator[Row]:
    (count,) = _COUNT.unpack_from(content)
    at = _COUNT.size
    for _ in range(count):
        group, source_time, received_time, size, of_status, length = _ROW.unpack_from(content, at)
        at += _ROW.size
        status = np.frombuffer(content, "<u4", of_status // 4, at)
        values = np.frombuffer(content, "<f8", size, at + of_status)
        at += of_status + values.nbytes
        texts = content[at : at + length]
        at += length
        yield Row(
            group=groups[group],
            source_time=source_time,
            received_time=received_time,
            values=values,
            status=np.broadcast_to(status, size) if size else status,
            texts=dict(json.loads(texts)) if texts else {},
        )


class Spool:
    """`limit` is the most bytes the file takes, `reserve` those it holds on the disk from the beginning.

    Used by one thread at a time. Raises StorageError when the file cannot be made.
    """

    def __init__(self, folder: Path, groups: Mapping[str, Sequence[str | Column]], *, limit: int, reserve: int) -> None:
        self._path = folder / "rows"
        self._aside = folder / "aside"
        self._limit, self._reserve = limit, min(reserve, limit)
        self.stream = secrets.token_hex(8)
        """Name of the numbering; the same for as long as the file lives."""
        self.groups = typed(groups)
        """Of the rows in the file: those of the run that wrote it, the given ones once it is empty."""
        self.last = 0
        """Number of the newest row in the file."""
        self.rows = 0
        """In the file, recorded or not."""
        self.damaged = 0
        """Bytes that could not be read."""
        self.open_gaps: dict[str, Gap] = {}
        """By group: gaps that began in the file and did not end there."""
        self.broken = ""
        """Why nothing is written any longer; empty while all is well."""
        self._unwritten: list[bytes] = []
        self._size = 0
        self._added = 0, 0
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._open()
            if not self.rows and not self.open_gaps:
                self.groups = typed(groups)
                self._begin_anew()
        except OSError as error:
            raise StorageError(f"spool {folder}: {error.strerror or error}") from error

    def close(self) -> None:
        os.close(self._file)

    @property
    def begin(self) -> int:
        """Offset of the first record after the header."""
        return self._begin

    def restart(self) -> None:
        """Begin the file anew: every row in it is recorded. What is reserved stays reserved."""
        try:
            self._begin_anew()
        except OSError as error:
            self.broken = f"spool: {error.strerror}"

    def _begin_anew(self) -> None:
        self._salt = secrets.randbits(32)
        self.rows = 0
        groups = {name: as_text(group) for name, group in self.groups.items()}
        header = json.dumps({"stream": self.stream, "groups": groups}).encode()
        self._numbers = {group: number for number, group in enumerate(self.groups)}
        content = self._record(Kind.HEADER, self.last, header)
        os.pwrite(self._file, content + bytes(_HEAD_SIZE), 0)
        self._begin = self._end = len(content)
        os.ftruncate(self._file, max(self._reserve, self._end + _HEAD_SIZE))
        self._allocate()
        os.fsync(self._file)
        folder = os.open(self._path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)

    def _allocate(self) -> None:
        try:
            os.posix_fallocate(self._file, 0, max(self._reserve, self._end))
        except OSError as error:
            if error.errno not in (*FULL, errno.EOPNOTSUPP, errno.EINVAL):
                raise
            log.warning("spool: %d bytes cannot be reserved on the disk: %s", self._reserve, error.strerror)

    def room(self, size: int, *, notes: bool = False) -> bool:
        """Whether a record with so many bytes of content fits; a part of the file is kept for notes."""
        kept = 0 if notes else 2 * NOTE_SIZE * len(self.groups)
        return not self.broken and self._end + self._size + _HEAD_SIZE + size <= self._limit - kept

    def encoded(self, rows: Sequence[Row]) -> bytes:
        """Rows as the content of a record."""
        parts = [_COUNT.pack(len(rows))]
        for row in rows:
            status = row.status.astype("<u4", copy=False).tobytes()
            if status == status[:4] * row.values.size:
                status = status[:4]
            texts = json.dumps(list(row.texts.items())).encode() if row.texts else b""
            parts += [
                _ROW.pack(
                    self._numbers[row.group],
                    row.source_time,
                    row.received_time,
                    row.values.size,
                    len(status),
                    len(texts),
                ),
                status,
                row.values.astype("<f8", copy=False).tobytes(),
                texts,
            ]
        return b"".join(parts)

    def put_rows(self, content: bytes, rows: int, last: int) -> None:
        """For the next `flush`: encoded rows, the last of them with this number."""
        self._put(Kind.ROWS, content, rows, last)

    def put_gap(self, gap: Gap, last: int) -> None:
        """For the next `flush`."""
        self._put(Kind.NOTE, json.dumps(asdict(gap)).encode(), 1, last)

    def _put(self, kind: Kind, content: bytes, rows: int, last: int) -> None:
        record = self._record(kind, last, content)
        self._unwritten.append(record)
        self._size += len(record)
        self._added = self._added[0] + rows, last

    def _record(self, kind: Kind, last: int, content: bytes) -> bytes:
        head = _HEAD.pack(MAGIC, self._salt, kind, last, len(content))
        return head + _SUM.pack(zlib.crc32(content, zlib.crc32(head))) + content

    def flush(self) -> None:
        """Append what was put; it is on the disk when this returns.

        Raises StorageError when it is not: then none of it counts. When it was the fsync that failed, nothing is
        written from then on, since the next one could succeed without having written.
        """
        content, self._unwritten = b"".join(self._unwritten), []
        (rows, last), self._added, self._size = self._added, (0, 0), 0
        if not content:
            return
        if self.broken:
            raise StorageError(self.broken)
        self._write(content)
        try:
            os.fdatasync(self._file)
        except OSError as error:
            self.broken = f"spool: {error.strerror}"
            raise StorageError(self.broken) from error
        self._end += len(content)
        self.rows += rows
        self.last = last

    def _write(self, content: bytes) -> None:
        try:
            written = os.pwrite(self._file, content, self._end)
        except OSError as error:
            if error.errno not in FULL:
                self.broken = f"spool: {error.strerror}"
            raise StorageError(f"spool: {error.strerror}") from error
        if written < len(content):
            raise StorageError(f"spool: {os.strerror(errno.ENOSPC)}")

    def read(self, offset: int, rows: int) -> list[Record]:
        """The records from an offset on, about so many rows. Raises StorageError."""
        try:
            return self._read(offset, rows)
        except OSError as error:
            raise StorageError(f"spool: {error.strerror}") from error

    def _read(self, offset: int, rows: int) -> list[Record]:
        found: list[Record] = []
        names = list(self.groups)
        for kind, last, content, end in self._scan(offset, self._end):
            start = end - len(content) - _HEAD_SIZE
            if kind is Kind.NOTE:
                found.append(Record((), Gap(**json.loads(content)), last, start, end))
            else:
                found.append(Record(tuple(_decoded(content, names)), None, last, start, end))
            rows -= len(found[-1].rows) + 1
            if rows <= 0:
                break
        return found

    def set_aside(self, row: Row, reason: str) -> None:
        """Keep a row the database refuses in a file beside the spool, one JSON line each."""
        line = {
            "reason": reason,
            "group": row.group,
            "source_time": row.source_time,
            "received_time": row.received_time,
            "values": [repr(float(v)) for v in row.values],
            "cells": row.values.astype("<f8", copy=False).tobytes().hex(),
            "status": [int(s) for s in row.status],
            "texts": dict(row.texts),
        }
        try:
            file = os.open(self._aside, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                os.write(file, json.dumps(line).encode() + b"\n")
                os.fsync(file)
            finally:
                os.close(file)
        except OSError as error:
            raise StorageError(f"spool: {error.strerror}") from error

    def _open(self) -> None:
        """Take in what an earlier run left."""
        self._salt = 0
        self._begin = self._end = 0
        size = os.fstat(self._file).st_size
        first = os.pread(self._file, _HEAD_SIZE, 0)
        if len(first) < _HEAD_SIZE or not first.startswith(MAGIC):
            self._refuse_strange(size)
            return
        self._salt = _HEAD.unpack_from(first)[1]
        records = self._scan(0, size)
        kind, self.last, content, self._begin = next(records, (None, 0, b"", 0))
        if kind is not Kind.HEADER:
            self._refuse_strange(size)
            return
        header = json.loads(content)
        self.stream = header["stream"]
        self.groups = {group: tuple(columns(text)) for group, text in header["groups"].items()}
        self._numbers = {group: number for number, group in enumerate(self.groups)}
        self._end = self._begin
        for kind, last, content, end in records:
            if kind is Kind.NOTE:
                gap = Gap(**json.loads(content))
                self.open_gaps.pop(gap.group, None)
                if gap.open:
                    self.open_gaps[gap.group] = replace(gap, count=0, begun=True)
                self.rows += 1
            else:
                self.rows += _COUNT.unpack_from(content)[0]
            self.last, self._end = last, end

    def _refuse_strange(self, size: int) -> None:
        """A file without a sound header: new and torn, or damaged. What may hold rows is kept under another name."""
        if any(MAGIC in chunk for chunk in _chunks(self._file, size)):
            kept = self._path.with_name(f"damaged-{secrets.token_hex(4)}")
            self._path.rename(kept)
            self.damaged += size
            log.error("the spool cannot be read; it is kept as %s", kept)
            os.close(self._file)
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def _scan(self, offset: int, size: int) -> Iterator[tuple[Kind, int, bytes, int]]:
        """(kind, last, content, end) of each sound record; unsound bytes between two of them are counted."""
        unsound = 0
        while offset + _HEAD_SIZE <= size:
            found = self._sound(offset, size)
            if found is None:
                next_offset = self._next(offset + 1, size)
                unsound += next_offset - offset
                offset = next_offset
                continue
            if unsound:
                log.error("spool: %d bytes before offset %d are damaged", unsound, offset)
                self.damaged += unsound
                unsound = 0
            offset = found[3]
            yield found

    def _sound(self, offset: int, size: int) -> tuple[Kind, int, bytes, int] | None:
        head = os.pread(self._file, _HEAD_SIZE, offset)
        if len(head) < _HEAD_SIZE:
            return None
        magic, salt, kind, last, length = _HEAD.unpack_from(head)
        end = offset + _HEAD_SIZE + length
        if magic != MAGIC or salt != self._salt or end > size or kind > max(Kind):
            return None
        content = os.pread(self._file, length, offset + _HEAD_SIZE)
        if zlib.crc32(content, zlib.crc32(head[: _HEAD.size])) != _SUM.unpack_from(head, _HEAD.size)[0]:
            return None
        return Kind(kind), last, content, end

    def _next(self, offset: int, size: int) -> int:
        """Offset of the next bytes that look like a record; `size` when there are none."""
        mark = MAGIC + struct.pack("<I", self._salt)
        while offset < size:
            chunk = os.pread(self._file, _CHUNK + len(mark) - 1, offset)
            at = chunk.find(mark)
            if at >= 0:
                return offset + at
            offset += _CHUNK
        return size


_CHUNK: Final = 1 << 20


def _chunks(file: int, size: int) -> Iterator[bytes]:
    for offset in range(0, size, _CHUNK):
        yield os.pread(file, _CHUNK + len(MAGIC), offset)
