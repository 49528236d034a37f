"""How soon, in how much memory and at what cost does a server show the whole tree of 100 devices x 32 channels?

The server is a process of its own, started as a user starts it, with its devices in another. A client browses every
node from the root down, 250 nodes a request and at most 1,000 references a page, over Basic256Sha256
SignAndEncrypt; another one reads ServerStatus.State all the while. The peer is asyncua's own server with the very same
nodes, made one by one in its storage, and browsed without security.
"""

import argparse
import asyncio
import contextlib
import copy
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import psutil
from asyncua import Client, Server, ua

from benchmarks.line_scale import CHANNELS, SETTLING_SECONDS, STATE, plant, prepared
from benchmarks.report import Answer, main
from config import load
from opcua_server.plant.space import space
from opcua_server.services.storage import load_types
from tests.servers import Running, device, free_port
from tests.stored import realise

PAGE = 1_000
NODES = 250
"""In one Browse request, as the server says it takes."""
PERIOD = 600.0
"""Seconds between polls: after the first, none falls into the browse."""
STARTS = 3
START_SECONDS, RSS_MIB, BROWSE_SECONDS, READ_MS = 2.5, 200.0, 10.0, 50.0
ROOT = ua.NodeId(ua.ObjectIds.RootFolder)
HIERARCHICAL = ua.NodeId(ua.ObjectIds.HierarchicalReferences)


def run(args: argparse.Namespace) -> Iterator[Answer]:
    what = f"{args.devices} devices x {CHANNELS} channels"
    modbus = free_port()
    with tempfile.TemporaryDirectory(prefix="enose-space-") as folder:
        server = prepared(Path(folder) / "plant", plant(modbus, args.devices, PERIOD))
        peer = asyncua_itself(server.config)
        with device(modbus, "--units", str(args.devices), "--physics", "line_scale", "--period", str(PERIOD)):
            starts = [started(server) for _ in range(STARTS)]
            with server.started():
                process = psutil.Process(server.pid)
                rss, start_cpu = _rss(process), _cpu(process)
                time.sleep(SETTLING_SECONDS)
                cpu = _cpu(process)
                nodes, waits = asyncio.run(browsed_and_probed(server))
                cpu = _cpu(process) - cpu
    seconds, p99 = statistics.median(starts), float(np.percentile(waits, 99))
    yield Answer(question=f"nodes of {what}, found by browsing", value=nodes, unit="nodes")
    yield Answer(question=f"ready to accept a session, {what}", value=seconds, unit="s", bar=f"{START_SECONDS:g} s",
                 ok=seconds <= START_SECONDS, peer="bare asyncua", peer_value=peer[0])  # fmt: skip
    yield Answer(question="its CPU until then", value=start_cpu, unit="s", peer="bare asyncua", peer_value=peer[3])
    yield Answer(question="RSS when ready", value=rss, unit="MiB", bar=f"{RSS_MIB:g} MiB", ok=rss <= RSS_MIB,
                 peer="bare asyncua", peer_value=peer[1])  # fmt: skip
    yield Answer(question="browse of all nodes, CPU of the server", value=cpu, unit="s", bar=f"{BROWSE_SECONDS:g} s",
                 ok=cpu <= BROWSE_SECONDS, peer="bare asyncua, no security", peer_value=peer[2])  # fmt: skip
    yield Answer(question="Read by another client meanwhile, p99", value=p99, unit="ms", bar=f"{READ_MS:g} ms",
                 ok=p99 <= READ_MS)  # fmt: skip


def started(server: Running) -> float:
    """Seconds from the start of the process until it says where it listens."""
    begin = time.monotonic()
    with server.started():
        seconds = time.monotonic() - begin
        server.stop()
    return seconds


async def browsed_and_probed(server: Running) -> tuple[int, list[float]]:
    """How many nodes there are, and how long Reads of another client took meanwhile, ms."""
    waits: list[float] = []
    browser = copy.copy(server)
    browser.process = None
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        browsing = asyncio.wrap_future(pool.submit(browse_server, browser))
        async with server.client("operator") as client:
            state = client.get_node(STATE)
            while not browsing.done():
                begin = time.monotonic()
                await state.read_value()
                waits.append(1000 * (time.monotonic() - begin))
                await asyncio.sleep(0.01)
        return await browsing, waits


def browse_server(server: Running) -> int:
    """In a process of its own: a client that decodes what the server answers must not slow the probe."""

    async def browse() -> int:
        async with server.client("operator") as client:
            return await browse_all(client)

    return asyncio.run(browse())


async def browse_all(client: Client) -> int:
    """Browse everything below the root, a page at a time; how many nodes."""
    seen, todo = {ROOT}, [ROOT]
    while todo:
        batch, todo = todo[:NODES], todo[NODES:]
        async for reference in references(client, batch):
            if reference.NodeId not in seen:
                seen.add(reference.NodeId)
                todo.append(reference.NodeId)
    return len(seen)


async def references(client: Client, nodes: list[ua.NodeId]) -> AsyncIterator[ua.ReferenceDescription]:
    wanted = [
        ua.BrowseDescription(
            NodeId=node,
            BrowseDirection=ua.BrowseDirection.Forward,
            ReferenceTypeId=HIERARCHICAL,
            IncludeSubtypes=True,
            ResultMask=ua.BrowseResultMask.All,
        )
        for node in nodes
    ]
    results = await client.uaclient.browse(
        ua.BrowseParameters(RequestedMaxReferencesPerNode=PAGE, NodesToBrowse=wanted)
    )
    while results:
        for result in results:
            for reference in result.References:
                yield reference
        points = [r.ContinuationPoint for r in results if r.ContinuationPoint]
        following = ua.BrowseNextParameters(ReleaseContinuationPoints=False, ContinuationPoints=points)
        results = await client.uaclient.browse_next(following) if points else []


# -- the peer


def asyncua_itself(config: Path) -> tuple[float, float, float, float]:
    """Seconds until it is ready, RSS in MiB then, CPU seconds of the browse, and CPU seconds until it was ready."""
    begin = time.monotonic()
    command = [sys.executable, "-c", f"from {__spec__.name} import serve_stored; serve_stored({str(config)!r})"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        seconds, observed = time.monotonic() - begin, psutil.Process(process.pid)
        rss, cpu = _rss(observed), _cpu(observed)

        async def browse() -> None:
            async with Client(url, timeout=60, watchdog_intervall=60) as client:
                await browse_all(client)

        asyncio.run(browse())
        return seconds, rss, _cpu(observed) - cpu, cpu
    finally:
        process.kill()
        process.wait()


def serve_stored(config: str) -> None:
    """asyncua's server with a plant in its storage, until it is killed."""

    async def serve() -> None:
        server, made = Server(), space(load.load(Path(config)))
        await server.init()
        await load_types(server)
        realise(server.iserver.aspace, made.instances, made.references)
        server.set_endpoint(f"opc.tcp://127.0.0.1:{free_port()}")
        server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        async with server:
            print(server.endpoint.geturl(), flush=True)
            await asyncio.Event().wait()

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve())


def _rss(process: psutil.Process) -> float:
    return float(process.memory_info().rss / 2**20)


def _cpu(process: psutil.Process) -> float:
    return float(sum(process.cpu_times()[:2]))


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--devices", type=int, default=100, help="(default: %(default)s)")


if __name__ == "__main__":
    sys.exit(main(__doc__.splitlines()[0], run, arguments))
