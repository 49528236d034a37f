"""How long does a page of a trend take while the plant is recorded? Twenty enrolled clients, each with eight tags.

A server of 100 devices x 32 channels x 10 Hz with eight hours of sealed history of the tags that are looked at. Each
client, over SignAndEncrypt, draws its screen: the last eight hours of its tags in pages of 10,000 values, anew five
seconds later. Pages are counted from their bytes; clients and server share the machine.
"""

import argparse
import asyncio
import contextlib
import struct
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from asyncua import Client, ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import nodeid_from_binary
from sqlalchemy import insert, select

from benchmarks.fanout import LAG, line_plant, prepared
from benchmarks.historian import opened, placed
from benchmarks.report import Answer, main
from historian import chunks, frames
from historian.chunks import HOUR, Block
from historian.schema import block, layout
from opcua_server.records import DATABASE
from tests.servers import Running

CLIENTS, TAGS, HOURS, HERTZ, PAGE = 20, 8, 8, 10, 10_000
PAUSE = 5.0
"""Seconds between two drawings of a screen."""
ROWS = 3600 * HERTZ


def run(args: argparse.Namespace) -> Iterator[Answer]:
    with tempfile.TemporaryDirectory(prefix="enose-trends-", dir=args.folder) as folder:
        server = prepared(Path(folder) / "line", line_plant())
        server.add_user("observer", "Observer")
        server.start()
        server.stop()  # makes the layouts of the devices
        fill(server.data / DATABASE)
        with server.started():
            waits, values, lag = asyncio.run(trending(server, args.seconds))
    p99 = float(np.percentile(waits, 99))
    yield Answer(question=f"page of {PAGE} values, p99: {CLIENTS} clients, {TAGS} tags x {HOURS} h, beside ingest",
                 value=p99, unit="ms", bar="100 ms", ok=p99 <= 100)  # fmt: skip
    yield Answer(question="read meanwhile", value=values / args.seconds / 1e6, unit="million values/s")
    yield Answer(question="lag of the schedule meanwhile, p99", value=lag, unit="ms", bar="20 ms", ok=lag <= 20)


def fill(path: Path) -> None:
    """Sealed hours of the first devices before now; the columns a client looks at vary, the others stand still."""
    generator, now = np.random.default_rng(1), time.time_ns() // HOUR * HOUR
    times = np.arange(ROWS) * (HOUR // ROWS)
    with opened(path) as made, made.begin() as tx:
        wanted = [f"EN{i:03d}" for i in range(1, CLIENTS + 1)]
        for row in tx.execute(select(layout).where(layout.c.tag_group.in_(wanted))).all():
            kinds = [column.kind for column in frames.columns(row.columns)]
            values = np.zeros((len(kinds), ROWS))
            values[:TAGS] = generator.normal(50, 1, (TAGS, ROWS)).cumsum(axis=1).round(2)
            whole = Block(times, times, times, values.view(np.uint64), np.zeros(values.shape, np.uint32))
            for piece in chunks.cut(whole):
                encoded = chunks.encode(piece, kinds)
                for hour in range(1, HOURS + 1):
                    first = -(10**9) + (HOURS - hour) * ROWS
                    tx.execute(insert(block), placed(piece, encoded, now - hour * HOUR, row.id, first))


async def trending(server: Running, seconds: float) -> tuple[list[float], int, float]:
    """Waits for a page in ms, values read, and the p99 of the lag in ms."""
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(server.client("observer")) for _ in range(CLIENTS)]
        end, waits = time.monotonic() + seconds, list[float]()
        read = await asyncio.gather(*(screen(c, i, end, waits) for i, c in enumerate(clients, 1)))
        lag = float(await clients[0].get_node(LAG).read_value())
    return waits, sum(read), lag


async def screen(client: Client, number: int, end: float, waits: list[float]) -> int:
    """Values read until `end`; each page's wait in ms is added to `waits`."""
    total = 0
    while time.monotonic() < end:
        for tag in range(1, TAGS + 1):
            node = ua.NodeId(f"EN{number:03d}.Array.S{tag:02d}.SensorValue", 3)
            point: bytes | None = b""
            while point is not None and time.monotonic() < end:
                begin = time.monotonic()
                point, count = await page(client, node, point)
                waits.append(1000 * (time.monotonic() - begin))
                total += count
        await asyncio.sleep(min(PAUSE, max(0.0, end - time.monotonic())))
    return total


async def page(client: Client, node: Any, point: bytes) -> tuple[bytes | None, int]:
    """Where the next page begins, None at the end, and how many values this one has."""
    now = datetime.now(UTC)
    details = ua.ReadRawModifiedDetails(
        IsReadModified=False,
        StartTime=now - timedelta(hours=HOURS),
        EndTime=now,
        NumValuesPerNode=PAGE,
        ReturnBounds=False,
    )
    parameters = ua.HistoryReadParameters(
        HistoryReadDetails=details,
        TimestampsToReturn=ua.TimestampsToReturn.Source,
        ReleaseContinuationPoints=False,
        NodesToRead=[ua.HistoryReadValueId(NodeId=node, ContinuationPoint=point)],
    )
    answer = await client.uaclient.session._send_request(ua.HistoryReadRequest(Parameters=parameters))  # noqa: SLF001
    return _of_page(bytes(answer.read(len(answer))))


def _of_page(message: bytes) -> tuple[bytes | None, int]:
    """Continuation point and number of values of a HistoryReadResponse with one result (Part 4 5.11.3)."""
    data = Buffer(message)
    nodeid_from_binary(data)
    timestamp_handle_and_result = data.read(16)
    assert timestamp_handle_and_result[12:] == bytes(4), message[:64]
    data.read(1 + 4 + 3)  # no DiagnosticInfo, no StringTable, no AdditionalHeader
    count, code, length = struct.unpack("<iIi", data.read(12))
    assert count == 1, count
    assert not code & 0x80000000, hex(code)
    point = data.read(length) if length > 0 else None
    nodeid_from_binary(data)
    _, _, values = struct.unpack("<Bii", data.read(9))
    return point, values


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--folder", type=Path, help="where to make the database; default: of the system")


if __name__ == "__main__":
    sys.exit(main(__doc__.splitlines()[0], run, arguments))
