"""F26: a server that records 32,000 samples/s and is read meanwhile; memory, file handles and latency stay as they are.

    python -m tests.fault.soak --minutes 30

100 devices x 32 channels x 10 Hz in a real server process, durable, sealed as it fills blocks. A client reads a value
twenty times a second and, every few seconds, the last quarter of an hour of a tag in pages. Looked at is every LOOK
seconds; the first fifth of the time is for warming up. Of the rest the last third is held against the first: nothing
lost, handles and memory within CONNECTIONS and ROOM, the reads' p99 at most twice and 20 ms more. If not, exit code 1.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import psutil
from asyncua import Client, ua

from benchmarks.fanout import line_plant, prepared
from tests.servers import Running

LOOK: Final = 5.0
ROOM: Final = 8 * 2**20
"""Bytes memory may differ by."""
CONNECTIONS: Final = 12
"""Handles that may come late: a reader thread opens its connection when it first has to, three files each."""
TAG: Final = ua.NodeId("EN001.Array.S01.SensorValue", 3)
COUNTERS: Final = ("FramesReceived", "FramesLost", "ScheduleLagP99")


@dataclass(frozen=True, slots=True)
class Look:
    minute: float
    rss: int
    handles: int
    read: float
    """p99 of the reads since the look before, s."""
    page: float
    """The slowest page, s."""
    received: int
    lost: int
    lag: float
    """p99 of the schedule's lag, ms."""

    def __str__(self) -> str:
        return (
            f"{self.minute:6.1f} min  {self.rss / 2**20:7.1f} MiB  {self.handles:4d} handles  read p99 "
            f"{1000 * self.read:6.1f} ms  page {1000 * self.page:6.1f} ms  lag p99 {self.lag:6.1f} ms  "
            f"{self.received} frames, {self.lost} lost"
        )


async def look(client: Client, process: psutil.Process, begin: float) -> Look:
    """LOOK seconds of reading, and what the server is then."""
    page = await slowest_page(client)
    waits, end = [], time.monotonic() + LOOK
    value = client.get_node(TAG)
    while time.monotonic() < end:
        sent = time.monotonic()
        await value.read_data_value(raise_on_bad_status=False)
        waits.append(time.monotonic() - sent)
        await asyncio.sleep(0.05)
    nodes = [client.get_node(ua.NodeId(f"ENose.Diagnostics.{name}", 3)) for name in COUNTERS]
    received, lost, lag = await client.read_values(nodes)
    return Look(
        minute=(time.monotonic() - begin) / 60,
        rss=sum(p.memory_info().rss for p in (process, *process.children(recursive=True))),
        handles=process.num_fds(),
        read=statistics.quantiles(waits, n=100)[98],
        page=page,
        received=received,
        lost=lost,
        lag=lag,
    )


async def slowest_page(client: Client) -> float:
    """The last quarter of an hour of a tag, page by page; how long the slowest one took."""
    end = datetime.now(UTC)
    details = ua.ReadRawModifiedDetails(
        IsReadModified=False,
        StartTime=end - timedelta(minutes=15),
        EndTime=end,
        NumValuesPerNode=1000,
        ReturnBounds=False,
    )
    slowest, point = 0.0, None
    while True:
        sent = time.monotonic()
        parameters = ua.HistoryReadParameters(
            HistoryReadDetails=details,
            TimestampsToReturn=ua.TimestampsToReturn.Both,
            ReleaseContinuationPoints=False,
            NodesToRead=[ua.HistoryReadValueId(NodeId=TAG, ContinuationPoint=point)],
        )
        (result,) = await client.uaclient.history_read(parameters)
        result.StatusCode.check()
        slowest = max(slowest, time.monotonic() - sent)
        point = result.ContinuationPoint
        if not point:
            return slowest


def judged(looks: list[Look]) -> list[str]:
    """What has grown between the first and the last third of what is after the warming up."""
    steady = looks[len(looks) // 5 :]
    first, last = steady[: len(steady) // 3], steady[-(len(steady) // 3) :]

    def middle(name: str, part: list[Look]) -> float:
        return statistics.median(getattr(each, name) for each in part)

    wrong = []
    if looks[-1].lost:
        wrong.append(f"{looks[-1].lost} frames lost")
    if (grown := middle("rss", last) - middle("rss", first)) > ROOM:
        wrong.append(f"memory grew by {grown / 2**20:.1f} MiB")
    if (more := max(each.handles for each in last) - max(each.handles for each in first)) > CONNECTIONS:
        wrong.append(f"{more} file handles more")
    for name in ("read", "page"):
        if middle(name, last) > 2 * middle(name, first) + 0.02:
            wrong.append(f"{name}: p99 from {middle(name, first):.3f} s to {middle(name, last):.3f} s")
    return wrong


async def watch(server: Running, minutes: float) -> list[Look]:
    process, begin = psutil.Process(server.pid), time.monotonic()
    looks: list[Look] = []
    async with Client(server.endpoint, timeout=30, watchdog_intervall=30) as client:
        while time.monotonic() < begin + 60 * minutes:
            looks.append(await look(client, process, begin))
            if len(looks) % 12 == 1:
                print(looks[-1], flush=True)
    return looks


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--devices", type=int, default=100, help="of 320 samples/s each (default: %(default)s)")
    parser.add_argument("--folder", type=Path, help="where to make the database; default: of the system")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="enose-soak-", dir=options.folder) as folder:
        server = prepared(Path(folder) / "soak", line_plant(options.devices))
        with server.started():
            looks = asyncio.run(watch(server, options.minutes))
    print(looks[-1])
    wrong = judged(looks)
    print("; ".join(wrong) or "memory, file handles and latency are flat, nothing lost")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
