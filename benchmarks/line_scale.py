"""Does a line of 20 e-noses x 32 channels at 1 Hz run without an overrun of the schedule and without a lost frame?

One device process serves 20 Modbus unit ids; the server is a process of its own, started as a user starts it. Frames
are counted three times: expected from the schedule, received by the server (its Diagnostics), stored (in its database).
The peer is the floor: a bare pymodbus client that polls the same registers on the same schedule and does nothing else.
"""

import argparse
import asyncio
import contextlib
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import yaml
from asyncua import Client, ua
from pymodbus.client import AsyncModbusTcpClient

from benchmarks.report import Answer, main
from tests.servers import Running, device, free_port, running

DEVICES, CHANNELS = 20, 32


def plant(modbus_port: int) -> dict[str, object]:
    return {
        "site": {"id": "Bench", "demo": True},
        "server": {"host": "127.0.0.1", "port": free_port(), "hostname": "localhost"},
        "devices": [
            {
                "id": f"EN{unit:02d}",
                "port": modbus_port,
                "unit": unit,
                "period": 1.0,
                "channels": [{"id": f"S{i:02d}", "range": [0, 500]} for i in range(1, CHANNELS + 1)],
            }
            for unit in range(1, DEVICES + 1)
        ],
    }


async def bare_poll(port: int, seconds: float) -> float:
    """CPU seconds a bare client takes for the same polls."""
    begin = time.process_time()
    client = AsyncModbusTcpClient("127.0.0.1", port=port)
    await client.connect()
    start = time.monotonic()
    for tick in range(int(seconds)):
        await asyncio.sleep(max(0.0, start + tick - time.monotonic()))
        for unit in range(1, DEVICES + 1):
            await client.read_input_registers(50, count=100 + 2 * CHANNELS - 50, device_id=unit)
    client.close()
    return time.process_time() - begin


async def diagnostics(server: Running, names: tuple[str, ...]) -> dict[str, float]:
    async with server.client("operator") as client:
        nodes = [client.get_node(ua.NodeId(f"Diagnostics.{name}", 3)) for name in names]
        return dict(zip(names, await client.read_values(nodes), strict=True))


NAMES = ("FramesReceived", "FramesStored", "FramesLost", "ScheduleOverruns", "ScheduleLagMedian", "ScheduleLagP99")


def run(args: argparse.Namespace) -> Iterator[Answer]:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="enose-line-")))
        modbus = free_port()
        stack.enter_context(device(modbus, "--units", str(DEVICES), "--physics", "line_scale"))
        config = folder / "plant.yaml"
        config.write_text(yaml.safe_dump(plant(modbus)))
        server = stack.enter_context(running(config, folder / "data", {"operator": "Operator"}))
        process = psutil.Process(server.pid)
        time.sleep(5)  # past start-up, which is not what is asked here
        first = asyncio.run(diagnostics(server, NAMES))
        begin, cpu = time.monotonic(), _cpu(process)
        peer = asyncio.run(bare_poll(modbus, args.seconds))
        last = asyncio.run(diagnostics(server, NAMES))
        elapsed, cpu = time.monotonic() - begin, _cpu(process) - cpu
        rss = process.memory_info().rss / 2**20
        database = folder / "data" / "enose.db"
        received = last["FramesReceived"] - first["FramesReceived"]
        stored = last["FramesStored"] - first["FramesStored"]
        overruns = last["ScheduleOverruns"] - first["ScheduleOverruns"]
        lost = last["FramesLost"] - first["FramesLost"]
        server.stop()
        on_disk = sqlite3.connect(database).execute("SELECT count(*) FROM frame").fetchone()[0]
    expected = elapsed * DEVICES
    close = abs(received - expected) <= 2 * DEVICES  # the two reads fall anywhere into a period
    yield Answer(question="frames expected", value=expected, unit="frames")
    yield Answer(question="frames received", value=received, unit="frames", bar="as expected", ok=close)
    yield Answer(question="frames stored", value=stored, unit="frames", bar="as received", ok=abs(stored - received) <= DEVICES)
    yield Answer(question="frames in the database", value=on_disk, unit="frames", bar="at least those shown as stored",
                 ok=on_disk >= last["FramesStored"])  # fmt: skip
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


if __name__ == "__main__":
    sys.exit(main(__doc__.splitlines()[0], run, lambda p: p.add_argument("--seconds", type=float, default=600)))
