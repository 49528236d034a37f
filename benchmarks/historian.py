"""What does the historian cost: ingest, bytes on disk, reads, a year's aggregates, trends beside ingest, recovery?

The storage by itself, in this process, without a client in between; the peer is asyncua's HistorySQLite, asked the same
in the same run. What is durable is fsynced (synchronous=FULL) on our side.
"""

import argparse
import asyncio
import contextlib
import csv
import datetime as dt
import io
import os
import signal
import sqlite3
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
from asyncua import ua
from asyncua.server.history_sql import HistorySQLite
from sqlalchemy import Engine, insert

from benchmarks.fanout import line_plant, prepared
from benchmarks.report import Answer, main
from compliance import audit
from config.schema import Plant
from historian import chunks
from historian.archive import Archive
from historian.chunks import HOUR, STATISTICS, Block, Kind
from historian.frames import as_text, typed
from historian.query import Reader
from historian.schema import block, engine, layout, migrate, reading
from historian.seal import Sealer
from historian.writer import Writer
from nodesets.model import Row
from nodesets.ports import SystemClock
from opcua_server.records import DATABASE, groups_of
from tests.recordings import SMELLNET
from tests.servers import Running

SECOND = 10**9
NOW = 1_790_000_000 * SECOND // HOUR * HOUR
DEVICES, CHANNELS, PERIOD = 100, 32, 0.1
PEER = "asyncua HistorySQLite"
REPLAYING = 10
"""E-noses the recordings are replayed by, at a time."""
ACQUISITION = 2
"""Columns a device records beside its channels: phase and cycle."""
YEAR_HOURS = 8760
PAGE = 10_000
VALUE = ua.NodeId("EN001.Array.S01.SensorValue", 3)
PARTS = ("ingest", "disk", "trend", "year", "recovery")


class ReplayClock(SystemClock):
    """The time of a replay."""

    seconds = 0.0

    def now(self) -> int:
        return NOW + int(self.seconds * SECOND)

    def monotonic(self) -> float:
        return self.seconds


def tags(device: int, width: int = CHANNELS) -> tuple[str, ...]:
    return tuple(f"EN{device:03d}.S{i:02d}" for i in range(width))


def groups(devices: int, width: int = CHANNELS) -> dict[str, tuple[str, ...]]:
    return {f"EN{device:03d}": tags(device, width) for device in range(devices)}


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Engine]:
    made = engine(f"sqlite:///{path}")
    migrate(made)
    try:
        yield made
    finally:
        made.dispose()


@contextlib.contextmanager
def recording(
    made: Engine, devices: int, width: int = CHANNELS, clock: SystemClock | None = None, commit_seconds: float = 0.01
) -> Iterator[Writer]:
    writer = Writer(
        made,
        groups(devices, width),
        clock=clock or SystemClock(),
        commit_seconds=commit_seconds,
        queue=1_000_000,
        covered=audit.cover_history,
    )
    writer.start()
    try:
        yield writer
    finally:
        writer.close()


def walk(rows: int, width: int = CHANNELS) -> np.ndarray:
    """Signals of a sensor array: slow, with the noise of its last digit; two decimals."""
    generator = np.random.default_rng(5)
    return np.round(100 + np.cumsum(generator.normal(0, 0.02, (rows, width)), axis=0), 2)


def instant(values: np.ndarray, tick: int, at: int) -> list[Row]:
    """One row of every device."""
    good = np.zeros(CHANNELS, np.uint32)
    return [
        Row(
            group=f"EN{device:03d}",
            source_time=at,
            received_time=at + 2_000_000,
            values=values[(tick + device) % len(values)],
            status=good,
        )
        for device in range(DEVICES)
    ]


# Ingest


def ingest(folder: Path, seconds: float) -> Iterator[Answer]:
    values = walk(2000)
    ticks = [instant(values, tick, NOW + round(tick * PERIOD * SECOND)) for tick in range(600)]
    samples = len(ticks) * DEVICES * CHANNELS
    with opened(folder / "ingest.db") as made, recording(made, DEVICES) as writer:
        cpu, begin = time.process_time(), time.monotonic()
        for future in [writer.append(rows) for rows in ticks]:
            future.result()
        cpu, wall = time.process_time() - cpu, time.monotonic() - begin
    peer = asyncio.run(peer_ingest(folder / "peer.db", 1000))
    yield Answer(question="ingest of 3,200 channels, durable", value=samples / cpu / 1e6, unit="million samples/CPU s",
                 bar="1", ok=samples / cpu >= 1e6, peer=PEER, peer_value=peer / 1e6)  # fmt: skip
    yield Answer(question="the same by the clock", value=samples / wall / 1e6, unit="million samples/s")
    with opened(folder / "real.db") as made, recording(made, DEVICES) as writer:
        cpu, waits = time.process_time(), []
        begin = time.monotonic()
        for tick in range(round(seconds / PERIOD)):
            time.sleep(max(0.0, begin + tick * PERIOD - time.monotonic()))
            sent = time.monotonic()
            done = [writer.append([row]) for row in instant(values, tick, time.time_ns())]
            for future in done:
                future.result()
            waits.append(time.monotonic() - sent)
        share = (time.process_time() - cpu) / (time.monotonic() - begin)
    yield Answer(question="32,000 samples/s as they come, a row a device", value=100 * share, unit="% of a core",
                 bar="15 %", ok=share <= 0.15)  # fmt: skip
    yield Answer(question="from row to disk, p99", value=1000 * np.quantile(waits, 0.99), unit="ms")


def peer_time(second: int) -> dt.datetime:
    """The peer reads back what it stored only without a time zone."""
    return dt.datetime.fromtimestamp(NOW // SECOND + second, dt.UTC).replace(tzinfo=None)


async def peer_ingest(path: Path, values: int) -> float:
    """Values a CPU second of the peer."""
    history = HistorySQLite(str(path))
    await history.init()
    node = ua.NodeId(1, 2)
    await history.new_historized_node(node, period=None, count=0)
    cpu = time.process_time()
    for n in range(values):
        at = peer_time(n)
        await history.save_node_value(node, ua.DataValue(ua.Variant(float(n)), SourceTimestamp=at, ServerTimestamp=at))
    cpu = time.process_time() - cpu
    await history.stop()
    return values / cpu


# Bytes on disk


def recordings() -> list[np.ndarray]:
    with tarfile.open(SMELLNET) as archive:
        names = sorted(name for name in archive.getnames() if "offline_training" in name and name.endswith(".csv"))
        each = []
        for name in names:
            lines = csv.reader(io.TextIOWrapper(archive.extractfile(name)))  # type: ignore[arg-type]
            next(lines)
            each.append(np.array([[float(x) for x in line] for line in lines]))
    return each


def on_disk(folder: Path) -> Iterator[Answer]:
    """SmellNet offline_training at 1 Hz, a minute's rows a commit; received within 3 ms, to the microsecond."""
    each = recordings()
    playing = [np.concatenate(each[device::REPLAYING]) for device in range(REPLAYING)]
    width = playing[0].shape[1]
    delays = np.random.default_rng(3).integers(200, 3000, max(map(len, playing))) * 1000
    good = np.zeros(width, np.uint32)
    path, clock = folder / "smellnet.db", ReplayClock()
    with opened(path) as made:
        with made.begin() as tx:
            before = tx.exec_driver_sql(
                "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
            ).scalar()
        with recording(made, REPLAYING, width, clock, 0) as writer:
            for minute in range(0, len(delays), 60):
                rows = [
                    Row(
                        group=f"EN{device:03d}",
                        source_time=NOW + tick * SECOND,
                        received_time=NOW + tick * SECOND + int(delays[tick]),
                        values=values[tick],
                        status=good,
                    )
                    for tick in range(minute, minute + 60)
                    for device, values in enumerate(playing)
                    if tick < len(values)
                ]
                writer.append(rows).result()
                clock.seconds += 60
            clock.seconds += 2 * 3600
            seal(path, writer, clock)
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (free,) = database.execute("SELECT freelist_count * page_size FROM pragma_freelist_count, pragma_page_size")
        (audit_bytes,) = database.execute("SELECT sum(length(body)) FROM audit_entry").fetchone()
    size = path.stat().st_size - free[0]
    samples = sum(p.size for p in playing)
    peer = playing[0][:1000, 0]
    asyncio.run(peer_store(folder / "peer-bytes.db", peer))
    peer_bytes = (folder / "peer-bytes.db").stat().st_size / len(peer)
    yield Answer(question="bytes on disk a sample, SmellNet at 1 Hz, sealed, everything included", value=size / samples,
                 unit="bytes", bar="1.0", ok=size / samples <= 1, peer=PEER, peer_value=peer_bytes)  # fmt: skip
    yield Answer(question="of it tables before the first sample", value=before / samples, unit="bytes")
    yield Answer(question="of it the audit log", value=audit_bytes / samples, unit="bytes")
    yield Answer(
        question="pages of sealed frames, free for the next ones, not counted", value=free[0] / 2**20, unit="MiB"
    )


def seal(path: Path, writer: Writer, clock: SystemClock) -> None:
    database = reading(f"sqlite:///{path}")
    sealer = Sealer(database, writer, clock=clock, seconds=60, logged=audit.seal_history, unaltered=audit.as_logged)
    sealer.seal()
    database.dispose()


async def peer_store(path: Path, values: np.ndarray) -> None:
    history = HistorySQLite(str(path))
    await history.init()
    node = ua.NodeId(1, 2)
    await history.new_historized_node(node, period=None, count=0)
    for n, value in enumerate(values):
        at = peer_time(n)
        await history.save_node_value(
            node, ua.DataValue(ua.Variant(float(value)), SourceTimestamp=at, ServerTimestamp=at)
        )
    await history.stop()


# Reading


def fill(made: Engine, devices: int, hours: int, rows: int) -> None:
    """Sealed hours of `rows` samples a channel, ending at NOW; a day's columns are used again and again."""
    step = HOUR // rows
    kinds = [Kind.DOUBLE] * CHANNELS
    values = walk(24 * rows).reshape(24, rows, CHANNELS)
    day = []
    for hour in range(24):
        times = np.arange(rows) * step
        cells = np.ascontiguousarray(values[hour].T).view(np.uint64)
        whole = Block(times, times + 2_000_000, times, cells, np.zeros((CHANNELS, rows), np.uint32))
        day.append([(piece, chunks.encode(piece, kinds)) for piece in chunks.cut(whole)])
    number = 0
    with made.begin() as tx:
        for device in range(devices):
            of = layout_of(tx, device)
            for hour in range(hours):
                begin = NOW - (hours - hour) * HOUR
                for piece, encoded in day[hour % 24]:
                    tx.execute(insert(block), placed(piece, encoded, begin, of, number))
                    number += len(piece)


def layout_of(tx, device: int) -> int:  # type: ignore[no-untyped-def]
    (key,) = tx.execute(
        insert(layout)
        .values(tag_group=f"EN{device:03d}", columns=audit.json.dumps(tags(device)))
        .returning(layout.c.id)
    ).one()
    return key


def placed(piece: Block, encoded: chunks.Encoded, begin: int, of: int, number: int) -> dict[str, object]:
    """A block moved in time."""
    times = piece.times + begin
    clock = chunks.encode(
        Block(times, times + 2_000_000, number + np.arange(len(times)), piece.cells[:0], piece.status[:0]), []
    ).clock
    moved = np.frombuffer(encoded.statistics, STATISTICS).copy()
    for name in ("minimum_time", "maximum_time", "first_good_time", "last_good_time"):
        moved[name] += begin
    return {
        "layout": of,
        "first_time": int(times[0]),
        "last_time": int(times[-1]),
        "size": len(times),
        "statistics": moved.tobytes(),
        "clock": clock,
        "columns": encoded.columns,
    }


async def read_all(archive: Archive, tag: str, start: int, end: int) -> tuple[int, list[float]]:
    """Values of a range in pages, and how long each page took."""
    total, waits, after = 0, [], None
    while True:
        begin = time.monotonic()
        page = await archive.read_raw(tag, start, end, PAGE, after)
        waits.append(time.monotonic() - begin)
        total += len(page.times)
        after = page.more
        if after is None:
            return total, waits


async def year(path: Path) -> Iterator[Answer]:
    answers = []
    tag = tags(0)[7]
    speeds = []
    for _ in range(3):
        reader = Reader(reading(f"sqlite:///{path}"))
        begin = time.monotonic()
        count, _ = await read_all(Archive(reader, SystemClock()), tag, NOW - 1_000_000 * SECOND, NOW)
        speeds.append(count / (time.monotonic() - begin))
        reader.close()
    peer = await peer_read(path.parent / "peer-read.db", 2000)
    answers.append(
        Answer(
            question="raw read of 1 million values of one tag, pages of 10,000",
            value=max(speeds) / 1e6,
            unit="million values/s",
            bar="10",
            ok=max(speeds) >= 10e6,
            peer=PEER,
            peer_value=peer / 1e6,
        )
    )
    edges = NOW - HOUR * np.arange(YEAR_HOURS, -1, -1)
    took = []
    for _ in range(3):
        reader = Reader(reading(f"sqlite:///{path}"))
        begin = time.monotonic()
        found = await reader.read_summary(tag, int(edges[0]), int(edges[-1]), edges)
        place = np.searchsorted(edges, found.first_time, "right") - 1
        average = np.bincount(place, found.statistics["sum"]) / np.bincount(place, found.statistics["good"])
        low, high = np.full(YEAR_HOURS, np.inf), np.full(YEAR_HOURS, -np.inf)
        np.minimum.at(low, place, found.statistics["minimum"])
        np.maximum.at(high, place, found.statistics["maximum"])
        took.append(time.monotonic() - begin)
        hour = await reader.read_raw(tag, int(edges[100]), int(edges[101]), PAGE)
        reader.close()
        assert len(average) == YEAR_HOURS
        assert np.isclose(average[100], hour.values.mean())
        assert (low[100], high[100]) == (hour.values.min(), hour.values.max())
    answers.append(
        Answer(
            question="hourly Average, Minimum, Maximum over a year of one tag at 1 Hz",
            value=statistics.median(took),
            unit="s",
            bar="0.5 s",
            ok=statistics.median(took) <= 0.5,
        )
    )
    return iter(answers)


async def peer_read(path: Path, values: int) -> float:
    await peer_ingest(path, values)
    history = HistorySQLite(str(path))
    await history.init()
    node = ua.NodeId(1, 2)
    begin = time.monotonic()
    start = peer_time(0)
    found, _ = await history.read_node_history(node, start, start + dt.timedelta(days=1), values)
    speed = len(found) / (time.monotonic() - begin)
    await history.stop()
    return speed


# Trends beside ingest


def trending(folder: Path, seconds: float) -> Iterator[Answer]:
    path = folder / "trend.db"
    with opened(path) as made:
        fill(made, 20, 8, round(3600 / PERIOD))
        values = walk(2000)
        with recording(made, DEVICES) as writer:
            waits, lags, read = asyncio.run(_trend(path, writer, values, seconds))
    yield Answer(question="page of 10,000 values, p99, 20 readers of 8 tags x 8 h at 10 Hz beside 32,000 samples/s",
                 value=1000 * float(np.quantile(waits, 0.99)), unit="ms", bar="100 ms",
                 ok=bool(np.quantile(waits, 0.99) <= 0.1))  # fmt: skip
    yield Answer(question="read meanwhile", value=read / seconds / 1e6, unit="million values/s")
    yield Answer(question="from row to disk meanwhile, p99", value=1000 * float(np.quantile(lags, 0.99)), unit="ms")
    yield Answer(question="rows refused meanwhile", value=writer.refused, unit="rows", bar="0", ok=writer.refused == 0)


async def _trend(
    path: Path, writer: Writer, values: np.ndarray, seconds: float
) -> tuple[list[float], list[float], int]:
    reader = Reader(reading(f"sqlite:///{path}"))
    archive = Archive(reader, SystemClock())
    waits: list[float] = []
    lags: list[float] = []
    total = 0
    end = time.monotonic() + seconds

    async def client(number: int) -> None:
        """A screen of trends: all of it, then again after five seconds."""
        nonlocal total
        while time.monotonic() < end:
            for tag in tags(number)[:8]:
                count, took = await read_all(archive, tag, NOW - 8 * HOUR, NOW)
                total += count
                waits.extend(took)
                if time.monotonic() >= end:
                    return
            await asyncio.sleep(5)

    async def feed() -> None:
        begin, tick = time.monotonic(), 0
        while time.monotonic() < end:
            await asyncio.sleep(max(0.0, begin + tick * PERIOD - time.monotonic()))
            sent = time.monotonic()
            futures = [asyncio.wrap_future(writer.append([row])) for row in instant(values, tick, time.time_ns())]
            await asyncio.gather(*futures)
            lags.append(time.monotonic() - sent)
            tick += 1

    await asyncio.gather(feed(), *(client(number) for number in range(20)))
    reader.close()
    return waits, lags, total


# Recovery


def recovery(path: Path, gigabytes: float) -> Iterator[Answer]:
    """The history of a device copied to the plant's others until the file is so big; then who records it is killed."""
    plant = line_plant(DEVICES, CHANNELS - ACQUISITION)
    grow(path, Plant.model_validate(plant), gigabytes)
    size = f"{path.stat().st_size / 1e9:.1f} GB of history"
    child = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.historian", "--child", str(path)], stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    child.stdout.readline()
    time.sleep(3)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    begin = time.monotonic()
    with opened(path) as made, recording(made, DEVICES) as writer:
        reader = Reader(reading(f"sqlite:///{path}"))
        asyncio.run(reader.read_raw(tags(0)[0], None, None, 1))
        writer.append(instant(walk(100), 0, time.time_ns())).result()
        took = time.monotonic() - begin
        reader.close()
    yield Answer(question=f"recording and reading again after a kill, {size}", value=took, unit="s", bar="3 s",
                 ok=took <= 3)  # fmt: skip
    empty, full = (prepared(path.parent / name, plant) for name in ("empty", "full"))
    full.data.mkdir()
    path.rename(full.data / DATABASE)
    peer, found = restarted(empty), restarted(full)
    yield Answer(question=f"the whole server ready after a kill, {size}", value=found.ready, unit="s", bar="3 s",
                 ok=found.ready <= 3, peer="no history", peer_value=peer.ready)  # fmt: skip
    for what, unit in (("session", "s"), ("recorded", "s"), ("cpu", "CPU s")):
        yield Answer(question=f"the same, {RESTARTED[what]}", value=getattr(found, what), unit=unit,
                     peer="no history", peer_value=getattr(peer, what))  # fmt: skip


def grow(path: Path, plant: Plant, gigabytes: float) -> None:
    """Give devices of the plant, one after the other, the history of the first until the file is so big."""
    groups = typed(groups_of(plant))
    with contextlib.closing(sqlite3.connect(path)) as database:
        (first,) = database.execute("SELECT min(id) FROM layout").fetchone()
        for device in plant.devices:
            if path.stat().st_size >= gigabytes * 1e9:
                return
            row = (device.id, as_text(groups[device.id]))
            key = database.execute("INSERT INTO layout (tag_group, columns) VALUES (?, ?)", row).lastrowid
            database.execute(
                "INSERT INTO block (layout, first_time, last_time, size, statistics, clock, columns) "
                "SELECT ?, first_time, last_time, size, statistics, clock, columns FROM block WHERE layout = ?",
                (key, first),
            )
            database.commit()
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")


class Restarted(NamedTuple):
    """Seconds from the start of a server that was killed, until ..."""

    ready: float
    session: float
    recorded: float
    cpu: float
    """It took until it was ready."""


RESTARTED = {
    "session": "to the first value in a secure session",
    "recorded": "to the first frame recorded since",
    "cpu": "its CPU until it was ready",
}


def restarted(server: Running) -> Restarted:
    server.add_user("operator", "Operator")
    server.credentials()
    with server.started():
        asyncio.run(newer(server, dt.datetime.now(dt.UTC)))
        server.stop(signal.SIGKILL)
    begin, at = time.monotonic(), dt.datetime.now(dt.UTC)
    with server.started():
        ready, cpu = time.monotonic(), sum(psutil.Process(server.pid).cpu_times()[:2])
        session = asyncio.run(newer(server, at))
        return Restarted(ready - begin, session - begin, time.monotonic() - begin, cpu)


async def newer(server: Running, than: dt.datetime) -> float:
    """When, of `time.monotonic`, a session answered first; returns once a frame that came after `than` is shown.

    What is shown is recorded.
    """
    async with server.client("operator") as client:
        node, answered = client.get_node(VALUE), 0.0
        while True:
            value = await node.read_data_value(raise_on_bad_status=False)
            answered = answered or time.monotonic()
            if value.StatusCode.is_good() and value.SourceTimestamp > than:
                return answered
            await asyncio.sleep(0.005)


def be_killed(path: Path) -> None:
    values = walk(2000)
    with opened(path) as made, recording(made, DEVICES) as writer:
        for tick in range(10**6):
            for row in instant(values, tick, time.time_ns()):
                writer.append([row])
            if tick == 1:
                print("recording", flush=True)
            time.sleep(PERIOD)


def run(args: argparse.Namespace) -> Iterator[Answer]:
    if args.child:
        be_killed(args.child)
    with tempfile.TemporaryDirectory(prefix="enose-historian-", dir=args.folder) as name:
        folder = Path(name)
        if "ingest" in args.only:
            yield from ingest(folder, args.seconds)
        if "disk" in args.only and SMELLNET.exists():
            yield from on_disk(folder)
        if "trend" in args.only:
            yield from trending(folder, args.seconds)
        if not {"year", "recovery"} & set(args.only):
            return
        with opened(folder / "year.db") as made:
            fill(made, 1, YEAR_HOURS, 3600)
        if "year" in args.only:
            yield from asyncio.run(year(folder / "year.db"))
        if "recovery" in args.only:
            yield from recovery(folder / "year.db", args.gigabytes)


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=30, help="of recording in real time (default: %(default)s)")
    parser.add_argument("--gigabytes", type=float, default=10, help="of history to recover (default: %(default)s)")
    parser.add_argument("--folder", type=Path, help="where to make the databases; default: of the system")
    parser.add_argument("--only", nargs="+", default=PARTS, choices=PARTS, help="some of the questions")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)


if __name__ == "__main__":
    sys.exit(main(__doc__.splitlines()[0], run, arguments))
