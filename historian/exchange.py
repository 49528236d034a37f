"""Recorded values out of the history and into it: CSV, and Parquet with the extra `parquet`, page by page.

    long form   tag, source_time, received_time, status, value: one line a value; what is exported
    wide form   time, then one column a signal; how recordings of other instruments come

Times are ISO 8601 with nanoseconds, UTC. A value is written so that it comes back bit for bit. What is imported is
recorded under tags of its own, `Import.SOURCE.…`, and received when it is imported: it is never taken for a device's.
"""

import csv
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, select

from historian import frames
from historian.query import Reader
from historian.schema import layout
from nodesets.errors import InvalidArgument, NotFound
from nodesets.model import Row
from nodesets.ports import Series

FIELDS: Final = ("tag", "source_time", "received_time", "status", "value")
PAGE: Final = 10_000
"""Values, or lines, at a time."""
NO_DATA: Final = 0x809B0000
"""Status of an empty cell: BadNoData."""
FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "'")
"""What a spreadsheet would carry out, or has in front of what it does not: such texts get a ' (H40)."""

Progress = Callable[[float], None]
"""`progress(share)`: 0 to 1, how much is done."""


class Sink(Protocol):
    def write(self, tag: str, series: Series) -> None: ...


def known_tags(connection: Connection) -> list[str]:
    """Every tag that was ever recorded."""
    found = (column.tag for row in connection.execute(select(layout.c.columns)) for column in frames.columns(row[0]))
    return sorted(dict.fromkeys(found))


async def export(reader: Reader, patterns: Sequence[str], start: int, end: int, file: Path, progress: Progress) -> int:
    """Write the values of all tags a pattern (`EN01.*`) fits, start <= time < end (ns UTC); returns how many.

    Memory does not grow with the range. Raises NotFound, StorageError, InvalidArgument.
    """
    known = await reader.read(known_tags)
    tags = [tag for tag in known if any(fnmatchcase(tag, pattern) for pattern in patterns)]
    if not tags:
        raise NotFound(f"no recorded tag fits {', '.join(patterns)}")
    count = 0
    with _sink(file) as sink:
        for number, tag in enumerate(tags):
            after, last = None, start
            while last == start or after is not None:
                page = await reader.read_raw(tag, start, end, PAGE, after)
                sink.write(tag, page)
                count += len(page.times)
                after, last = page.more, int(page.times[-1]) if len(page.times) else end
                progress((number + (last - start) / max(1, end - start)) / len(tags))
    progress(1.0)
    return count


@contextmanager
def _sink(file: Path) -> Iterator[Sink]:
    if file.suffix == ".csv":
        with file.open("x", newline="", encoding="utf-8") as opened:
            yield _Csv(csv.writer(opened))
    elif file.suffix == ".parquet":
        from historian import parquet

        with parquet.writer(file) as made:
            yield made
    else:
        raise InvalidArgument(f"{file.name}: .csv or .parquet")


class _Csv:
    def __init__(self, writer: Any) -> None:
        self._writer = writer
        self._writer.writerow(FIELDS)

    def write(self, tag: str, series: Series) -> None:
        columns = (as_text(series.times), as_text(series.received), series.status.tolist(), series.values.tolist())
        self._writer.writerows(
            (tag, time, received, f"0x{status:08X}", _cell(value))
            for time, received, status, value in zip(*columns, strict=True)
        )


def _cell(value: object) -> str:
    match value:
        case None:
            return ""
        case str():
            return f"'{value}" if value.startswith(FORMULA) else value
        case bool():
            return str(value).lower()
    return repr(value)


def as_text(times: NDArray[np.int64]) -> list[str]:
    """ISO 8601 with nanoseconds, UTC."""
    return [f"{text}Z" for text in np.datetime_as_string(times.astype("datetime64[ns]"), unit="ns").tolist()]


def as_time(text: str) -> int:
    """ns UTC of an ISO 8601 instant; one without offset is UTC. Raises InvalidArgument."""
    whole, _, rest = text.strip().removesuffix("Z").partition(".")
    digits = rest[: next((i for i, c in enumerate(rest) if not c.isdigit()), len(rest))]
    try:
        instant = datetime.fromisoformat(whole + rest[len(digits) :])
        instant = instant if instant.tzinfo else instant.replace(tzinfo=UTC)
        since = instant - datetime(1970, 1, 1, tzinfo=UTC)
        return (since.days * 86_400 + since.seconds) * 10**9 + int(f"{digits:0<9}"[:9])
    except ValueError as error:
        raise InvalidArgument(f"{text!r} is no instant as 2026-11-20T08:00:00Z") from error


@dataclass(frozen=True, slots=True)
class Part:
    """Some lines of a recording: rows of one group, and the tags of its columns."""

    group: str
    tags: tuple[str, ...]
    rows: tuple[Row, ...]


def parts(file: Path, source: str, now: int, *, start: int | None = None, period: float = 1.0) -> Iterator[Part]:
    """A recording in parts of PAGE lines. `start` (ns UTC) and `period` (s): of a recording without times.

    Raises InvalidArgument, with the line, for what is no recording.
    """
    lines = _lines(file)
    names = next(lines, ())
    if tuple(names) == FIELDS:
        yield from _long(file, lines, source, now)
    else:
        yield from _wide(file, names, lines, source, now, start, period)


def _lines(file: Path) -> Iterator[Sequence[Any]]:
    """The names of the columns, then every line."""
    if file.suffix == ".parquet":
        from historian import parquet

        yield from parquet.lines(file)
        return
    try:
        with file.open(newline="", encoding="utf-8-sig") as opened:
            yield from csv.reader(opened)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InvalidArgument(f"{file}: {error}") from error


def _long(file: Path, lines: Iterator[Sequence[Any]], source: str, now: int) -> Iterator[Part]:
    """Lines of one tag follow one another, as they are exported."""
    tag, rows = "", list[Row]()
    for number, line in enumerate(lines, 2):
        try:
            name, at, _, status, value = line
            group = f"Import.{source}.{name}"
            if rows and (group != tag or len(rows) == PAGE):
                yield Part(tag, (tag,), tuple(rows))
                rows = []
            tag = group
            code = int(status, 16) if isinstance(status, str) else int(status)
            rows.append(_row(group, _instant(at), now, [_number(value)], [code]))
        except (ValueError, InvalidArgument) as error:
            raise InvalidArgument(f"{file}:{number}: {error}") from error
    if rows:
        yield Part(tag, (tag,), tuple(rows))


def _wide(
    file: Path,
    names: Sequence[str],
    lines: Iterator[Sequence[Any]],
    source: str,
    now: int,
    start: int | None,
    period: float,
) -> Iterator[Part]:
    """The first column is the time, unless `start` is given."""
    signals = list(names if start is not None else names[1:])
    if not signals or len(set(signals)) < len(signals):
        raise InvalidArgument(f"{file}:1: names of columns are required, each once")
    group = f"Import.{source}"
    tags = tuple(f"{group}.{name.strip()}" for name in signals)
    rows = list[Row]()
    for number, line in enumerate(lines, 2):
        try:
            if len(line) != len(names):
                raise ValueError(f"{len(line)} columns instead of {len(names)}")
            at = _instant(line[0]) if start is None else start + round((number - 2) * period * 1e9)
            values = [_number(cell) for cell in line[len(names) - len(signals) :]]
            status = [NO_DATA if math.isnan(value) else 0 for value in values]
            rows.append(_row(group, at, now, values, status))
        except (ValueError, InvalidArgument) as error:
            raise InvalidArgument(f"{file}:{number}: {error}") from error
        if len(rows) == PAGE:
            yield Part(group, tags, tuple(rows))
            rows = []
    if rows:
        yield Part(group, tags, tuple(rows))


def _instant(cell: Any) -> int:
    return as_time(cell) if isinstance(cell, str) else int(cell)


def _number(cell: Any) -> float:
    """A cell of a recording; an empty one is no number. Raises ValueError."""
    return math.nan if cell is None or cell == "" else float(cell)


def _row(group: str, time: int, now: int, values: list[float], status: list[int]) -> Row:
    return Row(
        group=group,
        source_time=time,
        received_time=now,
        values=np.array(values),
        status=np.array(status, np.uint32),
    )
