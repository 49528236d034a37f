"""Does a line of 20 e-noses x 32 channels at 1 Hz run without an overrun of the schedule and without a lost frame?

One device process serves 20 Modbus unit ids; the server is a process of its own, started as a user starts it. Frames
are counted three times: expected from the schedule, received by the server (its Diagnostics), stored (in its database).
The device measures twice a period, so that every poll finds a new measurement and no frame is a repetition.
The peer is the floor: a bare pymodbus client that reads the same registers on the same schedule and does nothing else.

Before it: how long after its start the server answers a first secure session, for the demo plant and for this one.
"""

import argparse
import asyncio
import contextlib
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import yaml
from asyncua import ua
from pymodbus.client import AsyncModbusTcpClient
from rich.console import Console
from rich.progress import track

from benchmarks.probe import STATE
from benchmarks.report import Answer, main
from config import load
from opcua_server.demo import SCENARIOS
from opcua_server.records import DATABASE
from tests.servers import Running, device, free_port

CHANNELS = 32
SPANS = ((50, 114), (600, 32))
"""Input registers (address, count) of one poll: head and channels, status of the channels (docs/registers.md)."""
START_SECONDS = 5.0
SETTLING_SECONDS = 5.0
"""After start-up, which is a question of its own; at most as long as is watched."""
COUNTERS = ("FramesReceived", "FramesRepeated", "FramesStored", "FramesLost", "ScheduleOverruns")
LAGS = ("ScheduleLagMedian", "ScheduleLagP99")
PROGRESS = Console(stderr=True)


def plant(modbus: int, devices: int, period: float) -> dict[str, object]:
    return {
        "site": {"id": "Bench", "demo": True},
        "server": {"host": "127.0.0.1", "port": free_port(), "hostname": "localhost"},
        "devices": [
            {
                "id": f"EN{unit:02d}",
                "port": modbus,
                "unit": unit,
                "period": period,
                "timeout": min(0.5, period),
                "channels": [{"id": f"S{i:02d}", "range": [0, 500]} for i in range(1, CHANNELS + 1)],
                "streams": [{"baseline": 5, "exposure": 10, "purge": 5}],
            }
            for unit in range(1, devices + 1)
        ],
    }


def demo_plant(modbus: dict[str, int]) -> dict[str, object]:
    """The demo plant on free ports."""
    demo: dict[str, object] = load.load(load.DEMO).model_dump(mode="json", by_alias=True, exclude_unset=True)
    demo["server"] = {"host": "127.0.0.1", "port": free_port(), "hostname": "localhost"}
    for each in demo["devices"]:  # type: ignore[attr-defined]
        each["port"] = modbus[each["id"]]
    return demo


def prepared(folder: Path, made: dict[str, object]) -> Running:
    """A plant on disk with one user and a trusted client, not started yet."""
    folder.mkdir()
    config = folder / "plant.yaml"
    config.write_text(yaml.safe_dump(made))
    server = Running(config, folder / "data")
    server.add_user("operator", "Operator")
    server.credentials()
    return server


async def read(server: Running, *nodes: ua.NodeId) -> list[ua.DataValue]:
    """Values in a session of a named user over SignAndEncrypt."""
    async with server.client("operator") as client:
        values: list[ua.DataValue] = await client.read_attributes([client.get_node(n) for n in nodes])
        return values


def diagnostics(server: Running) -> tuple[float, dict[str, float]]:
    """When the server last told of itself, s UTC, and what."""
    names = (*COUNTERS, *LAGS)
    values = asyncio.run(read(server, *(ua.NodeId(f"ENose.Diagnostics.{name}", 3) for name in names)))
    return values[0].SourceTimestamp.timestamp(), {n: v.Value.Value for n, v in zip(names, values, strict=True)}


@contextlib.contextmanager
def started(server: Running) -> Iterator[float]:
    """Seconds from the start of the process to the first answer in a secure session."""
    begin = time.monotonic()
    with server.started():
        asyncio.run(read(server, STATE))
        yield time.monotonic() - begin


async def bare_poll(port: int, devices: int, period: float, seconds: float) -> float:
    """CPU seconds a bare client takes for the same polls."""
    client = AsyncModbusTcpClient("127.0.0.1", port=port)
    await client.connect()
    begin, start = time.thread_time(), time.monotonic()
    for tick in track(range(round(seconds / period)), "polling", console=PROGRESS):
        await asyncio.sleep(max(0.0, start + tick * period - time.monotonic()))
        for unit in range(1, devices + 1):
            for address, count in SPANS:
                await client.read_input_registers(address, count=count, device_id=unit)
    cpu = time.thread_time() - begin
    client.close()
    return cpu


def run(args: argparse.Namespace) -> Iterator[Answer]:
    with tempfile.TemporaryDirectory(prefix="enose-line-") as folder:
        yield start_up(Path(folder))
        yield from line(Path(folder), args.devices, args.period, args.seconds)


def start_up(folder: Path) -> Answer:
    with contextlib.ExitStack() as stack:
        ports = {name: free_port() for name in SCENARIOS}
        for name, scenario in SCENARIOS.items():
            stack.enter_context(device(ports[name], "--physics", scenario))
        seconds = stack.enter_context(started(prepared(folder / "demo", demo_plant(ports))))
    return Answer(question="first secure session after start, demo plant", value=seconds, unit="s",
                  bar=f"{START_SECONDS:g} s", ok=seconds <= START_SECONDS)  # fmt: skip


def line(folder: Path, devices: int, period: float, seconds: float) -> Iterator[Answer]:
    modbus = free_port()
    measuring = ("--units", str(devices), "--physics", "line_scale", "--period", str(period / 2))
    server = prepared(folder / "line", plant(modbus, devices, period))
    with device(modbus, *measuring), started(server) as to_session:
        process = psutil.Process(server.pid)
        time.sleep(min(SETTLING_SECONDS, seconds))
        since, first = diagnostics(server)
        begin, cpu = time.monotonic(), _cpu(process)
        peer = asyncio.run(bare_poll(modbus, devices, period, seconds))
        elapsed, cpu = time.monotonic() - begin, _cpu(process) - cpu
        until, last = diagnostics(server)
        rss = process.memory_info().rss / 2**20
        server.stop()
    with contextlib.closing(sqlite3.connect(server.data / DATABASE)) as database:
        (on_disk,) = database.execute(
            "SELECT (SELECT count(*) FROM frame) + (SELECT coalesce(sum(size), 0) FROM block)"
        ).fetchone()

    expected = round((until - since) / period) * devices
    counted = {name: last[name] - first[name] for name in COUNTERS}
    received, repeated, stored, lost, overruns = counted.values()
    yield Answer(question="first secure session after start, this plant", value=to_session, unit="s")
    yield Answer(question="frames expected", value=expected, unit="frames")
    # The two looks fall anywhere into a period of each device, and between receiving and storing.
    yield Answer(question="frames received", value=received, unit="frames", bar=f"as expected, +/- {devices}",
                 ok=abs(received - expected) <= devices)  # fmt: skip
    yield Answer(question="frames stored", value=stored, unit="frames", bar=f"as received, +/- {devices}",
                 ok=abs(stored - received) <= devices)  # fmt: skip
    yield Answer(question="frames in the database", value=on_disk, unit="frames", bar="all shown as stored",
                 ok=on_disk >= last["FramesStored"])  # fmt: skip
    yield Answer(question="frames that repeat a measurement", value=repeated, unit="frames")
    yield Answer(question="frames lost", value=lost, unit="frames", bar="0", ok=lost == 0)
    yield Answer(question="schedule overruns", value=overruns, unit="polls", bar="0", ok=overruns == 0)
    yield Answer(question="schedule lag p50", value=last["ScheduleLagMedian"], unit="ms")
    yield Answer(question="schedule lag p99", value=last["ScheduleLagP99"], unit="ms")
    yield Answer(question="CPU of the server", value=100 * cpu / elapsed, unit="% of a core",
                 peer="bare pymodbus poll", peer_value=100 * peer / elapsed)  # fmt: skip
    yield Answer(question="RSS of the server", value=rss, unit="MiB")


def _cpu(process: psutil.Process) -> float:
    """CPU seconds of a process and its children."""
    return sum(sum(p.cpu_times()[:2]) for p in [process, *process.children(recursive=True)])


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=600, help="how long to watch (default: %(default)s)")
    parser.add_argument("--devices", type=int, default=20, help="(default: %(default)s)")
    parser.add_argument("--period", type=float, default=1.0, help="seconds between polls (default: %(default)s)")


if __name__ == "__main__":
    sys.exit(main(__doc__.splitlines()[0], run, arguments))
