"""What is exported comes back as it was; what is imported is never taken for a device's."""

import asyncio
import csv
import math
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from historian.chunks import Kind
from historian.exchange import FIELDS, NO_DATA, Part, as_text, as_time, export, parts
from historian.frames import Column
from historian.query import Reader
from historian.schema import reading
from historian.writer import Writer
from nodesets.errors import InvalidArgument, NotFound
from nodesets.model import Row
from nodesets.ports import Series
from tests.unit.historian.support import database, row, url, writing

COLUMNS = (Column("EN01.a"), Column("EN01.b", Kind.INT64), Column("EN01.c", Kind.STRING))
GROUPS = {"EN01": COLUMNS, "EN02": (Column("EN02.x"),)}
NAN = float("nan")


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    with database(tmp_path / "enose.db") as made, writing(made, GROUPS, queue=100_000) as started:
        yield started


@pytest.fixture
def reader(tmp_path: Path, writer: Writer) -> Iterator[Reader]:
    made = Reader(reading(url(tmp_path / "enose.db")))
    yield made
    made.close()


def mixed(time: int, value: float, number: int, text: str, status: int = 0) -> Row:
    values = np.array([value, 0.0, 0.0])
    values[1:2].view(np.int64)[0] = number
    codes = np.array([status, 0, 0], np.uint32)
    return Row(group="EN01", source_time=time, received_time=time + 5, values=values, status=codes, texts={2: text})


def exported(reader: Reader, file: Path, *patterns: str, start: int = 0, end: int = 2**62) -> int:
    shares: list[float] = []
    count = asyncio.run(export(reader, patterns, start, end, file, shares.append))
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    return count


def test_a_range_is_exported_with_times_status_and_every_kind(reader: Reader, writer: Writer, tmp_path: Path) -> None:
    writer.append(
        [
            mixed(1_790_000_000_000_000_001, 0.1, 2**63 - 1, "=cmd()"),
            mixed(1_790_000_001_000_000_000, NAN, -5, "plain", 0x80310000),
            mixed(1_790_000_002_000_000_000, 9.0, 0, "beyond the range"),
        ]
    ).result()
    file = tmp_path / "out.csv"
    assert exported(reader, file, "EN01.*", end=1_790_000_002_000_000_000) == 6
    with file.open(newline="") as opened:
        lines = [tuple(line) for line in csv.reader(opened)]
    first, second = "2026-09-21T14:13:20.000000001Z", "2026-09-21T14:13:21.000000000Z"
    arrived = ("2026-09-21T14:13:20.000000006Z", "2026-09-21T14:13:21.000000005Z")
    assert lines == [
        FIELDS,
        ("EN01.a", first, arrived[0], "0x00000000", "0.1"),
        ("EN01.a", second, arrived[1], "0x80310000", "nan"),
        ("EN01.b", first, arrived[0], "0x00000000", "9223372036854775807"),
        ("EN01.b", second, arrived[1], "0x00000000", "-5"),
        ("EN01.c", first, arrived[0], "0x00000000", "'=cmd()"),  # H40: no spreadsheet carries it out
        ("EN01.c", second, arrived[1], "0x00000000", "plain"),
    ]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_what_is_exported_and_imported_is_the_same_but_for_its_name(
    reader: Reader, writer: Writer, tmp_path: Path, suffix: str
) -> None:
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    values = [0.1, -0.0, math.inf, 5e-324, NAN, *range(25_000)]
    writer.append([row("EN02", 7 + 3 * i, [value], [i % 3]) for i, value in enumerate(values)]).result()
    file = tmp_path / f"out{suffix}"
    assert exported(reader, file, "EN02.x") == len(values)
    for part in parts(file, "Old", 99):
        writer.add({part.group: part.tags}).result()
        writer.append(part.rows).result()
    ours, theirs = (everything(reader, tag) for tag in ("EN02.x", "Import.Old.EN02.x"))
    assert theirs.values.tobytes() == ours.values.tobytes()
    assert (theirs.times.tolist(), theirs.status.tolist()) == (ours.times.tolist(), ours.status.tolist())
    assert set(theirs.received.tolist()) == {99}


def everything(reader: Reader, tag: str) -> Series:
    return asyncio.run(reader.read_raw(tag, 0, None, 100_000))


def test_an_export_takes_no_more_memory_for_a_longer_range(reader: Reader, writer: Writer, tmp_path: Path) -> None:
    def peak(end: int, name: str) -> int:
        tracemalloc.start()
        exported(reader, tmp_path / name, "EN02.x", end=end)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    for first in range(0, 60_000, 10_000):
        writer.append([row("EN02", time, [0.5]) for time in range(first, first + 10_000)]).result()
    assert peak(60_000, "long.csv") < 1.5 * peak(15_000, "short.csv")


def test_a_tag_that_was_never_recorded_is_told(reader: Reader, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="EN09"):
        exported(reader, tmp_path / "out.csv", "EN09.*")
    with pytest.raises(InvalidArgument, match="parquet"):
        exported(reader, tmp_path / "out.xls", "EN01.*")


def read(tmp_path: Path, text: str, **how: object) -> list[Part]:
    file = tmp_path / "recording.csv"
    file.write_text(text)
    return list(parts(file, "Smell", 99, **how))  # type: ignore[arg-type]


def test_a_recording_of_another_instrument_is_read_line_by_line(tmp_path: Path) -> None:
    [part] = read(tmp_path, "time,NO2, C2H5OH\n2026-01-01T00:00:00.5+01:00,1.5,2\n2025-12-31T23:00:01,,3\n")
    assert (part.group, part.tags) == ("Import.Smell", ("Import.Smell.NO2", "Import.Smell.C2H5OH"))
    first, second = part.rows
    assert (first.source_time, first.received_time, first.values.tolist()) == (
        1_767_222_000_500_000_000,
        99,
        [1.5, 2.0],
    )
    assert (second.source_time - first.source_time, second.status.tolist()) == (500_000_000, [NO_DATA, 0])


def test_a_recording_without_times_gets_them(tmp_path: Path) -> None:
    [part] = read(tmp_path, "a,b\n1,2\n3,4\n", start=10**9, period=0.1)
    assert [r.source_time for r in part.rows] == [10**9, 11 * 10**8]
    assert part.tags == ("Import.Smell.a", "Import.Smell.b")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("time,a\nyesterday,1\n", ":2: 'yesterday'"),
        ("time,a\n2026-01-01T00:00:00Z,one\n", ":2: could not convert"),
        ("time,a\n2026-01-01T00:00:00Z,1\n2026-01-01T00:00:00Z\n", ":3: 1 columns"),
        ("time,a,a\n", ":1: names"),
        ("", ":1: names"),
        (f"{','.join(FIELDS)}\nEN01.a,2026-01-01T00:00:00Z,,good,1\n", ":2: invalid literal"),
    ],
)
def test_what_is_no_recording_is_told_with_its_line(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        read(tmp_path, text)
    assert told in str(refused.value)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    for name in ("absent.csv", "absent.parquet"):
        with pytest.raises(InvalidArgument, match="absent"):
            list(parts(tmp_path / name, "Smell", 99))


@given(st.integers(-(2**63) + 1, 2**63 - 1))
def test_an_instant_is_written_and_read_to_the_nanosecond(time: int) -> None:
    assert as_time(as_text(np.array([time]))[0]) == time
