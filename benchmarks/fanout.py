"""How many data-change notifications does a second of the server's CPU deliver, and what else does it answer meanwhile?

10,000 Doubles that change ten times a second (plants/fanout.yaml), five clients that want every change. The meter is
`../shared/tools/fanout.py`, which counts from the bytes of the responses; the peer is asyncua's server as shipped, in
the same run. The server is a process of its own, started as a user starts it, with validation and historian.
"""

import argparse
import asyncio
import contextlib
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import psutil
import yaml
from asyncua import Client, ua
from asyncua.ua.ua_binary import struct_from_binary, struct_to_binary

from benchmarks.report import Answer, main
from tests.servers import CLIENT_URI, Running, free_port

T = TypeVar("T")
METER = Path(__file__).parents[2] / "shared" / "tools" / "fanout.py"
FANOUT = Path(__file__).parent / "plants" / "fanout.yaml"
ITEMS, CLIENTS, HERTZ, LOGINS = 10_000, 5, 10, 10
PEER_ITEMS = 1_000
"""As many as asyncua's server, with the clients beside it, can just serve."""
LAG_SECONDS = 110.0
"""The lag is that of the last thousand polls: without those of the start."""
LAG = ua.NodeId("ENose.Diagnostics.ScheduleLagP99", 3)
WANTED = r"SensorValue$"
BATCH = 1_000
"""Items in one request."""


def meter(url: str, pid: int, items: int, seconds: float, *secured: str) -> dict[str, Any]:
    """What the meter found; it runs in a process of its own."""
    command = [sys.executable, str(METER), url, "--items", str(items), "--clients", str(CLIENTS), "--pid", str(pid)]
    command += ["--seconds", str(seconds), "--publish-ms", "100", "--nodes", WANTED, *secured]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def measured(server: Running, work: Callable[[], T]) -> tuple[T, float]:
    """What the work finds, and meanwhile the p99 in ms of a Read by another client, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.probe", server.endpoint]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as probe:
        assert probe.stdout is not None
        assert probe.stdout.readline(), "the probe could not connect"
        found = work()
        p99, _ = probe.communicate()
    return found, float(p99)


@contextlib.contextmanager
def bare_asyncua() -> Iterator[tuple[str, int]]:
    command = [sys.executable, "-m", "benchmarks.bare_asyncua", str(free_port()), str(PEER_ITEMS)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip(), process.pid
    finally:
        process.kill()
        process.wait()


def prepared(folder: Path, plant: dict[str, Any]) -> Running:
    folder.mkdir()
    plant["server"] = {"host": "127.0.0.1", "port": free_port(), "hostname": "localhost"}
    config = folder / "plant.yaml"
    config.write_text(yaml.safe_dump(plant))
    return Running(config, folder / "data")


def run(args: argparse.Namespace) -> Iterator[Answer]:
    if not METER.exists():
        sys.exit(f"skipped: the meter {METER} is not there")
    with tempfile.TemporaryDirectory(prefix="enose-fanout-") as folder:
        server = prepared(Path(folder) / "fanout", yaml.safe_load(FANOUT.read_text()))
        server.add_user("observer", "Observer")
        with bare_asyncua() as (url, pid):
            peer = meter(url, pid, PEER_ITEMS, args.seconds)["notifications_per_server_cpu_s"]
        with server.started():
            yield idle(server)
            yield from fan_out(server, args.seconds, peer)
            yield from secured(server, args.seconds)
            yield from filtered(server, args.seconds)
            yield from logins(server, args.seconds)
        line = prepared(Path(folder) / "line", line_plant())
        with line.started():
            yield from whole_path(line, args.seconds)


def fan_out(server: Running, seconds: float, peer: float) -> Iterator[Answer]:
    found, p99 = measured(server, lambda: meter(server.endpoint, server.pid, ITEMS, seconds))
    yield from _delivered(found, "None", 10e6)
    ratio = found["notifications_per_server_cpu_s"] / max(peer, 1)
    yield Answer(question="times bare asyncua", value=ratio, unit="x", bar="350 x", ok=ratio >= 350,
                 peer="bare asyncua, notifications/CPU s", peer_value=peer)  # fmt: skip
    yield _answered("None", p99)
    yield Answer(question="RSS of the server", value=found["server_rss_mb"], unit="MiB")


def secured(server: Running, seconds: float) -> Iterator[Answer]:
    certificate, key = server.credentials()
    own = server.data / "pki" / "own" / "certs" / "enose.der"
    channel = f"Basic256Sha256,SignAndEncrypt,{certificate},{key},{own}"
    user = ("--user", "observer", "--password", server.passwords["observer"], "--application-uri", CLIENT_URI)
    secured = ("--security", channel, *user)
    found, p99 = measured(server, lambda: meter(server.endpoint, server.pid, ITEMS, seconds, *secured))
    yield from _delivered(found, "SignAndEncrypt", 3e6)
    yield _answered("SignAndEncrypt", p99)


def _delivered(found: dict[str, Any], over: str, bar: float) -> Iterator[Answer]:
    rate, wanted = found["notifications_per_s"], ITEMS * CLIENTS * HERTZ
    yield Answer(question=f"fan-out {ITEMS} x {CLIENTS} x {HERTZ} Hz over {over}: delivered", value=rate,
                 unit="notifications/s", bar=f"{wanted}, 1 % for the ends", ok=rate >= 0.99 * wanted)  # fmt: skip
    yield Answer(question=f"{over}: gaps in sequence numbers", value=found["gaps"], unit="gaps", bar="0",
                 ok=not found["gaps"] and not found["errors"])  # fmt: skip
    rate = found["notifications_per_server_cpu_s"]
    yield Answer(question=f"{over}: notifications per server CPU second", value=rate, unit="1/CPU s",
                 bar=f"{bar:.0f}", ok=rate >= bar)  # fmt: skip


def _answered(over: str, p99: float) -> Answer:
    return Answer(question=f"{over}: Read by another client meanwhile, p99", value=p99, unit="ms", bar="50 ms",
                  ok=p99 <= 50)  # fmt: skip


# -- what the meter does not ask for


def _tool() -> Any:
    spec = importlib.util.spec_from_file_location("meter", METER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Subscriber:
    """A client with one subscription, whose responses are counted from their bytes."""

    def __init__(self, client: Client, count: Any) -> None:
        self._client, self._count = client, count
        self.changes = 0

    async def subscribe(self, interval: float) -> None:
        parameters = ua.CreateSubscriptionParameters(
            RequestedPublishingInterval=interval,
            RequestedLifetimeCount=3000,
            RequestedMaxKeepAliveCount=30,
            PublishingEnabled=True,
        )
        answer = await self._ask(ua.CreateSubscriptionRequest(Parameters=parameters), ua.CreateSubscriptionResponse)
        self._number = answer.Parameters.SubscriptionId

    async def _ask(self, request: Any, response: Any) -> Any:
        answer = struct_from_binary(response, await self._client.uaclient.session._send_request(request))  # noqa: SLF001
        answer.ResponseHeader.ServiceResult.check()
        return answer

    async def create(self, nodes: Sequence[Any], mode: Any, queue: int, deadband: float) -> float:
        """Seconds until all items are there, without what this client takes to encode its requests."""
        data_change = ua.DataChangeFilter(
            Trigger=ua.DataChangeTrigger.StatusValue, DeadbandType=ua.DeadbandType.Percent, DeadbandValue=deadband
        )
        requests = []
        for begin in range(0, len(nodes), BATCH):
            items = [
                ua.MonitoredItemCreateRequest(
                    ItemToMonitor=ua.ReadValueId(NodeId=node, AttributeId=ua.AttributeIds.Value),
                    MonitoringMode=mode,
                    RequestedParameters=ua.MonitoringParameters(
                        ClientHandle=begin + i,
                        SamplingInterval=100.0,
                        QueueSize=queue,
                        DiscardOldest=True,
                        Filter=data_change if deadband and i % 2 else ua.ExtensionObject(),
                    ),
                )
                for i, node in enumerate(nodes[begin : begin + BATCH])
            ]
            parameters = ua.CreateMonitoredItemsParameters(self._number, ua.TimestampsToReturn.Both, items)
            requests.append(ua.CreateMonitoredItemsRequest(Parameters=parameters))
        begin = time.monotonic()
        for request in requests:
            struct_to_binary(request)
        encoding = time.monotonic() - begin
        seconds = 0.0
        for request in requests:
            begin = time.monotonic()
            data = await self._client.uaclient.session._send_request(request)  # noqa: SLF001
            seconds += time.monotonic() - begin
            answer = struct_from_binary(ua.CreateMonitoredItemsResponse, data)
            assert all(r.StatusCode.is_good() for r in answer.Results)
        return seconds - encoding

    async def publish(self) -> None:
        """Until cancelled."""
        acknowledgements: list[Any] = []
        while True:
            request = ua.PublishRequest()
            request.Parameters.SubscriptionAcknowledgements, acknowledgements = acknowledgements, []
            data = await self._client.uaclient.session._send_request(request, timeout=0)  # noqa: SLF001
            number, sequence, changes, _ = self._count(data.read(len(data)))
            if changes:
                acknowledgements.append(ua.SubscriptionAcknowledgement(number, sequence))
            self.changes += changes


@contextlib.asynccontextmanager
async def subscribers(url: str, clients: int) -> AsyncIterator[tuple[list[Subscriber], list[Any]]]:
    tool = _tool()
    async with contextlib.AsyncExitStack() as stack:
        connected = [await stack.enter_async_context(Client(url, timeout=30)) for _ in range(clients)]
        nodes = [node.nodeid for node in await tool.numeric_variables(connected[0], ITEMS, WANTED)]
        yield [Subscriber(client, tool.count) for client in connected], nodes


async def _filtered(server: Running, seconds: float) -> tuple[float, float, float, float]:
    """Seconds to create 10,000 items; notifications/s, samples considered/s and CPU seconds/s of the server."""
    process = psutil.Process(server.pid)
    async with subscribers(server.endpoint, CLIENTS) as (clients, nodes):
        creation = []
        for client in clients:
            await client.subscribe(500.0)
            creation.append(await client.create(nodes, ua.MonitoringMode.Reporting, 10, 1.0))
        publishing = [asyncio.create_task(client.publish()) for client in clients for _ in range(3)]
        await asyncio.sleep(2.0)
        before, cpu, begin = sum(c.changes for c in clients), _cpu(process), time.monotonic()
        await asyncio.sleep(seconds)
        changes, cpu, passed = sum(c.changes for c in clients) - before, _cpu(process) - cpu, time.monotonic() - begin
        for task in publishing:
            task.cancel()
        await asyncio.wait(publishing)
    return min(creation), changes / passed, ITEMS * CLIENTS * HERTZ, cpu / passed


async def _idle(server: Running, rounds: int = 4) -> float:
    """Bytes of memory an idle item takes, without what a server just started grows by itself in the same time.

    So many items that what their requests took for a moment does not matter.
    """
    process = psutil.Process(server.pid)
    async with subscribers(server.endpoint, CLIENTS) as (clients, nodes):
        for client in clients:
            await client.subscribe(1000.0)
            await client.create(nodes, ua.MonitoringMode.Disabled, 1, 0.0)
        before, begin = process.memory_info().rss, time.monotonic()
        for client in clients:
            for _ in range(rounds):
                await client.create(nodes, ua.MonitoringMode.Disabled, 1, 0.0)
        made = process.memory_info().rss
        await asyncio.sleep(time.monotonic() - begin)
        return float(2 * made - before - process.memory_info().rss) / (CLIENTS * rounds * len(nodes))


def idle(server: Running) -> Answer:
    """Asked first: later items live in memory that earlier ones have left."""
    size = asyncio.run(_idle(server))
    return Answer(question="memory of an idle monitored item", value=size, unit="bytes", bar="200", ok=size <= 200)


def _cpu(process: psutil.Process) -> float:
    """CPU seconds of a process and its children."""
    return sum(sum(p.cpu_times()[:2]) for p in [process, *process.children(recursive=True)])


def filtered(server: Running, seconds: float) -> Iterator[Answer]:
    (creation, notifications, samples, cpu), p99 = measured(server, lambda: asyncio.run(_filtered(server, seconds)))
    yield Answer(question="half with percent deadband, queue 10, 100 ms sampling, 500 ms publishing: considered",
                 value=samples / cpu, unit="samples/CPU s", bar="4000000", ok=samples / cpu >= 4e6)  # fmt: skip
    yield Answer(question="of these delivered", value=notifications, unit="notifications/s")
    yield Answer(question=f"create {ITEMS} monitored items", value=creation, unit="s", bar="0.5 s", ok=creation <= 0.5)
    yield _answered("deadbands", p99)


def logins(server: Running, seconds: float) -> Iterator[Answer]:
    found, p99 = measured(server, lambda: _log_in(server, seconds))
    yield Answer(question=f"{LOGINS} logins/s over SignAndEncrypt: the longest", value=found["longest_ms"], unit="ms")
    yield _answered(f"{LOGINS} logins/s", p99)


def _log_in(server: Running, seconds: float) -> dict[str, float]:
    certificate, key = server.credentials()
    own = server.data / "pki" / "own" / "certs" / "enose.der"
    command = [sys.executable, "-m", "benchmarks.logins", server.endpoint, str(certificate), str(key), str(own)]
    command += [CLIENT_URI, "observer", str(LOGINS), str(seconds)]
    password = f"{server.passwords['observer']}\n"
    done = subprocess.run(command, input=password, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


# -- from the driver table to the client


def line_plant(devices: int = 100, channels: int = 32) -> dict[str, Any]:
    array = [{"id": f"S{i:02d}", "range": [0, 500]} for i in range(1, channels + 1)]
    each = {"driver": "simulator", "scenario": "waves", "period": 0.1, "timeout": 0.1, "channels": array}
    each["streams"] = [{"baseline": 5, "exposure": 10, "purge": 5}]
    return {
        "site": {"id": "Line", "demo": True},
        "security": {"none": True, "anonymous": True},
        "devices": [{"id": f"EN{i:03d}", "unit": i, **each} for i in range(1, devices + 1)],
    }


def whole_path(server: Running, seconds: float) -> Iterator[Answer]:
    long = max(seconds, LAG_SECONDS)
    found, p99 = measured(server, lambda: meter(server.endpoint, server.pid, 3_200, long))

    async def lag() -> float:
        async with Client(server.endpoint) as client:
            return float(await client.get_node(LAG).read_value())

    yield Answer(question="100 devices x 32 channels x 10 Hz, historian, 5 subscribers: delivered",
                 value=found["notifications_per_s"], unit="notifications/s", bar="160000, 1 % for the ends",
                 ok=found["notifications_per_s"] >= 158_400 and not found["gaps"])  # fmt: skip
    yield Answer(question="the same: CPU of the server", value=100 * found["server_cpu"], unit="% of a core",
                 bar="100 %", ok=found["server_cpu"] <= 1.0)  # fmt: skip
    waited = asyncio.run(lag())
    yield Answer(question="the same: lag of the schedule, p99", value=waited, unit="ms", bar="20 ms",
                 ok=waited <= 20)  # fmt: skip
    yield _answered("the same", p99)


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=10, help="how long to watch each (default: %(default)s)")


if __name__ == "__main__":
    sys.exit(main(__doc__.splitlines()[0], run, arguments))
