"""How soon does a client hear of an alarm, and what do limits, events, refreshes and their history cost?

Real server processes, clients on sockets in this one. The peer of the events is asyncua's server as shipped, with the
same subscribers in the same run; that of the limits a loop over the tags.
"""

import argparse
import asyncio
import contextlib
import gc
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from asyncua import Client, ua
from asyncua.ua.ua_binary import struct_from_binary, variant_to_binary

from analytics.limits import Limit, Limits
from benchmarks.event_server import LOW, PASSING, WORDS
from benchmarks.fanout import line_plant, prepared
from benchmarks.probe import STATE
from benchmarks.report import Answer, main
from historian import events as history
from historian.schema import engine
from nodesets import ids
from opcua_server.plant import events
from opcua_server.records import DATABASE
from opcua_server.services.event_fields import row
from tests.servers import Running, environment, free_port

PUBLISHING = 50.0
"""Milliseconds of every subscription."""
LEVEL_ALARM = ua.NodeId(ua.ObjectIds.ExclusiveLevelAlarmType)
RECOMMENDATION = ua.NodeId(ids.RecommendationPublishedEventType, 2)
SERVER = ua.NodeId(ua.ObjectIds.Server)
REFRESH = ua.NodeId(ua.ObjectIds.ConditionType_ConditionRefresh)
REFRESH_END = ua.NodeId(ua.ObjectIds.RefreshEndEventType)
FIELDS = ("EventId", "EventType", "SourceNode", "SourceName", "Time", "Message", "Severity")
TYPE, SOURCE, TIME, SEVERITY = 1, 2, 4, 6
"""Where some of them stand."""
ALARM_FIELDS = (
    *FIELDS, "ConditionName", "BranchId", "Retain", "EnabledState/Id", "ActiveState", "ActiveState/Id", "AckedState/Id",
    "ConfirmedState/Id", "SuppressedOrShelved", "ShelvingState/CurrentState", "Comment", "ClientUserId", "Quality",
)  # fmt: skip
"""What the list of alarms of a SCADA system shows."""
PHASES = ["idle", "baseline", "exposure", "purge"]
PARTS = ("limits", "latency", "events", "refresh", "history")
SECOND = 10**9
PEER = "bare asyncua"
CLIENTS, PEER_RATE = 5, 100
"""Subscribers; events a second that asyncua's server can just serve."""


# -- a client of events


def operand(path: str) -> Any:
    names = [ua.QualifiedName(name) for name in path.split("/")]
    return ua.SimpleAttributeOperand(
        TypeDefinitionId=ua.NodeId(ua.ObjectIds.BaseEventType), BrowsePath=names, AttributeId=ua.AttributeIds.Value
    )


def element(operator: Any, *operands: Any) -> Any:
    return ua.ContentFilterElement(FilterOperator=operator, FilterOperands=list(operands))


def literal(value: Any, kind: Any) -> Any:
    return ua.LiteralOperand(Value=ua.Variant(value, kind))


def wanted(kind: ua.NodeId, severity: int, fields: Sequence[str] = FIELDS) -> Any:
    """Filter of events of a type from a severity on."""
    operator = ua.FilterOperator
    where = [
        element(operator.And, ua.ElementOperand(Index=1), ua.ElementOperand(Index=2)),
        element(operator.OfType, literal(kind, ua.VariantType.NodeId)),
        element(operator.GreaterThanOrEqual, operand("Severity"), literal(severity, ua.VariantType.UInt16)),
    ]
    clauses = [operand(path) for path in fields]
    return ua.EventFilter(SelectClauses=clauses, WhereClause=ua.ContentFilter(Elements=where))


class Listener:
    """A client with one subscription to events of Server. What it hears is decoded afterwards, not while it waits."""

    def __init__(self, client: Client, mark: bytes) -> None:
        """`mark`: bytes whose occurrences are counted as they come."""
        self._client = client
        self._mark = mark
        self.number = 0
        self.marks = 0
        self._received: list[tuple[int, Any]] = []
        """Publish responses, and when each had come, ns UTC."""
        self._news = asyncio.Event()

    def clear(self) -> None:
        self.marks = 0
        self._received.clear()

    def heard(self) -> list[tuple[int, list[Any]]]:
        """Fields of each event, and when its message had come, ns UTC. Raises AssertionError for a missing message."""
        decoded = [(at, struct_from_binary(ua.PublishResponse, data.copy())) for at, data in self._received]
        messages = [(at, response.Parameters.NotificationMessage) for at, response in decoded]
        messages = sorted((m for m in messages if m[1].NotificationData), key=lambda m: m[1].SequenceNumber)
        numbers = [message.SequenceNumber for _, message in messages]
        assert numbers == list(range(numbers[0], numbers[-1] + 1))
        return [
            (at, [field.Value for field in event.EventFields])
            for at, message in messages
            for notification in message.NotificationData
            for event in notification.Events
        ]

    async def ask(self, request: Any, response: Any) -> Any:
        answer = struct_from_binary(response, await self._client.uaclient.session._send_request(request))  # noqa: SLF001
        answer.ResponseHeader.ServiceResult.check()
        return answer

    async def listen(self, event_filter: Any) -> None:
        parameters = ua.CreateSubscriptionParameters(
            RequestedPublishingInterval=PUBLISHING,
            RequestedLifetimeCount=3000,
            RequestedMaxKeepAliveCount=30,
            PublishingEnabled=True,
        )
        made = await self.ask(ua.CreateSubscriptionRequest(Parameters=parameters), ua.CreateSubscriptionResponse)
        self.number = made.Parameters.SubscriptionId
        item = ua.MonitoredItemCreateRequest(
            ItemToMonitor=ua.ReadValueId(NodeId=SERVER, AttributeId=ua.AttributeIds.EventNotifier),
            MonitoringMode=ua.MonitoringMode.Reporting,
            RequestedParameters=ua.MonitoringParameters(QueueSize=0xFFFFFFFF, Filter=event_filter, DiscardOldest=True),
        )
        items = ua.CreateMonitoredItemsParameters(self.number, ua.TimestampsToReturn.Both, [item])
        answer = await self.ask(ua.CreateMonitoredItemsRequest(Parameters=items), ua.CreateMonitoredItemsResponse)
        answer.Results[0].StatusCode.check()

    async def until(self, marks: int) -> None:
        """Return when so many marks have come."""
        while self.marks < marks:
            self._news.clear()
            await self._news.wait()

    async def publish(self) -> None:
        """Until cancelled."""
        while True:
            data = await self._client.uaclient.session._send_request(ua.PublishRequest(), timeout=0)  # noqa: SLF001
            self._received.append((time.time_ns(), data.copy()))
            self.marks += data.read(len(data)).count(self._mark)
            self._news.set()


@contextlib.asynccontextmanager
async def listening(url: str, event_filter: Any, mark: bytes, clients: int = 1) -> AsyncIterator[list[Listener]]:
    async with contextlib.AsyncExitStack() as stack:
        connected = [await stack.enter_async_context(Client(url, timeout=60)) for _ in range(clients)]
        listeners = [Listener(client, mark) for client in connected]
        for listener in listeners:
            await listener.listen(event_filter)
        publishing = [asyncio.create_task(listener.publish()) for listener in listeners for _ in range(3)]
        gc.collect()
        gc.freeze()  # else the pauses of this process' collector are taken for the server's
        yield listeners
        for task in publishing:
            task.cancel()
        await asyncio.wait(publishing)


def cpu(pid: int) -> float:
    """CPU seconds of a process and its children."""
    process = psutil.Process(pid)
    return sum(sum(p.cpu_times()[:2]) for p in [process, *process.children(recursive=True)])


def p99(waits: Sequence[float]) -> float:
    return float(np.percentile(waits, 99))


# -- limits


def limits(tags: int = 10_000, frames: int = 500) -> Iterator[Answer]:
    """In this process, a frame after the other; values swing over all four limits."""
    random = np.random.default_rng(3)
    limit = Limit(low_low=-2.0, low=-1.0, high=1.0, high_high=2.0, deadband=0.1, on_delay=0.2, off_delay=0.5)
    swing = 2.5 * np.sin(np.arange(frames)[:, None] / 20 + random.uniform(0, 2 * np.pi, tags))
    values = swing + random.normal(0, 0.05, (frames, tags))
    watched, usable = Limits([limit] * tags), np.ones(tags, np.bool_)
    took, found = [], 0
    for i, frame in enumerate(values):
        begin = time.thread_time()
        found += len(watched.evaluate(frame, usable, i * SECOND // 10))
        took.append(1000 * (time.thread_time() - begin))
    assert found > frames
    begin = time.thread_time()
    looped = [_level(value, limit) for value in values[-1].tolist()]
    loop = 1000 * (time.thread_time() - begin)
    assert len(looped) == tags
    yield Answer(question=f"{tags} tags x 4 limits, dead-band and delays, CPU of a frame, p99", value=p99(took),
                 unit="ms", bar="2 ms", ok=p99(took) <= 2, peer="a loop, without delays", peer_value=loop)  # fmt: skip
    yield Answer(question="the same, p50", value=statistics.median(took), unit="ms")


def _level(value: float, limit: Limit) -> str:
    for level in ("HighHigh", "High"):
        if value > limit.of(level):
            return level
    return next((level for level in ("LowLow", "Low") if value < limit.of(level)), "")


# -- from the frame to the socket


def alarmed(plant: dict[str, Any], channels: int, **limit: float) -> dict[str, Any]:
    """The plant with these limits for so many channels of each device, watched all the time."""
    watched = {f"{d['id']}.Array.{c['id']}": limit for d in plant["devices"] for c in d["channels"][:channels]}
    plant["alarms"] = {"LevelAlarm": {"limits": watched, "phases": PHASES, "branches": False, "chattering": False}}
    return plant


async def _latency(server: Running, seconds: float) -> tuple[list[float], float]:
    async with listening(server.endpoint, wanted(LEVEL_ALARM, 1, ALARM_FIELDS), b"", CLIENTS) as listeners:
        await asyncio.sleep(3.0)
        for listener in listeners:
            listener.clear()
        used, begin = cpu(server.pid), time.monotonic()
        await asyncio.sleep(seconds)
        share = (cpu(server.pid) - used) / (time.monotonic() - begin)
    heard = [(now, fields[TIME]) for listener in listeners for now, fields in listener.heard()]
    return [1000 * (now / SECOND - found.replace(tzinfo=UTC).timestamp()) for now, found in heard], share


def latency(folder: Path, seconds: float) -> Iterator[Answer]:
    """Time of an alarm's event is that of the frame's evaluation, in the turn of the loop that takes the frame.

    Five clients, since it depends on when between two frames their publishing intervals end.
    """
    plant = alarmed(line_plant(), 1, high=250.0, deadband=40.0)
    server = prepared(folder / "line", plant)
    with server.started():
        waits, share = asyncio.run(_latency(server, seconds))
    yield Answer(question="alarm transition to event on the socket, 3,200 channels at 10 Hz, publishing 50 ms, p99",
                 value=p99(waits), unit="ms", bar="75 ms", ok=p99(waits) <= 75)  # fmt: skip
    yield Answer(question="the same, p50", value=statistics.median(waits), unit="ms")
    yield Answer(question="transitions meanwhile", value=len(waits) / seconds / CLIENTS, unit="1/s")
    yield Answer(question="CPU of the server meanwhile", value=100 * share, unit="% of a core")


# -- many events


@contextlib.contextmanager
def event_server(*arguments: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    command = [sys.executable, "-m", "benchmarks.event_server", *arguments]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment())
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip(), process
    finally:
        process.kill()
        process.communicate()


async def _many(url: str, process: Any, event_filter: Any, rate: float, seconds: float) -> tuple[int, list[int], float]:
    """Events raised, heard by each subscriber, and CPU seconds of the server until all had heard them, or 10 s more."""
    async with listening(url, event_filter, WORDS.encode(), CLIENTS) as listeners:
        await asyncio.sleep(1.0)
        used = cpu(process.pid)
        process.stdin.write(f"{rate} {seconds}\n")
        process.stdin.flush()
        raised = int(await asyncio.to_thread(process.stdout.readline))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(10):
                for listener in listeners:
                    await listener.until(raised)
        used = cpu(process.pid) - used
        await asyncio.sleep(2 * PUBLISHING / 1000)
        heard = [[fields for _, fields in listener.heard()] for listener in listeners]
        assert all(fields[SEVERITY] == PASSING != LOW for fields in chain(*heard))
    return raised, list(map(len, heard)), used


def many(folder: Path, seconds: float, rate: int = 1000) -> Iterator[Answer]:
    plant = line_plant(1, 4)
    plant["devices"][0]["period"] = 1.0
    server = prepared(folder / "events", plant)
    with event_server("ours", str(server.config), str(server.data)) as (url, process):
        raised, heard, used = asyncio.run(
            _many(url, process, wanted(RECOMMENDATION, 500, (*FIELDS, "RecommendationId")), rate, seconds)
        )
    with event_server("bare", str(free_port())) as (url, process):
        system = wanted(ua.NodeId(ua.ObjectIds.SystemEventType), 500)
        _, peer_heard, peer_used = asyncio.run(_many(url, process, system, PEER_RATE, seconds))
    yield Answer(question=f"{rate} events/s to {CLIENTS} subscribers, filter by type and severity: delivered",
                 value=sum(heard) / seconds, unit="events/s", bar=f"{rate * CLIENTS}, in full",
                 ok=heard == [raised] * CLIENTS)  # fmt: skip
    yield Answer(question="the same: CPU of the server", value=100 * used / seconds, unit="% of a core",
                 bar="60 %", ok=used / seconds <= 0.6)  # fmt: skip
    yield Answer(question="the same: recorded and delivered", value=sum(heard) / used, unit="events/CPU s",
                 peer=f"{PEER}, not recorded", peer_value=sum(peer_heard) / peer_used)  # fmt: skip


# -- ConditionRefresh


async def _refresh(server: Running, retained: int, rounds: int) -> tuple[list[float], list[float]]:
    """Seconds of each refresh until its end was heard; ms of each Read by another client meanwhile."""
    took, waits = list[float](), list[float]()
    end = bytes(variant_to_binary(ua.Variant(REFRESH_END, ua.VariantType.NodeId)))
    async with (
        listening(server.endpoint, wanted(LEVEL_ALARM, 1, ALARM_FIELDS), end) as (listener,),
        Client(server.endpoint) as other,
    ):
        state = other.get_node(STATE)

        async def probe() -> None:
            while True:
                begin = time.monotonic()
                await state.read_value()
                waits.append(1000 * (time.monotonic() - begin))
                await asyncio.sleep(0.005)

        for _ in range(rounds):
            listener.clear()
            probing = asyncio.create_task(probe())
            begin = time.monotonic()
            call = ua.CallMethodRequest(
                ObjectId=ua.NodeId(ua.ObjectIds.ConditionType),
                MethodId=REFRESH,
                InputArguments=[ua.Variant(listener.number, ua.VariantType.UInt32)],
            )
            answer = await listener.ask(ua.CallRequest(Parameters=ua.CallParameters([call])), ua.CallResponse)
            answer.Results[0].StatusCode.check()
            await listener.until(1)
            took.append(time.monotonic() - begin)
            probing.cancel()
            await asyncio.wait([probing])
            _, *told, (_, last) = listener.heard()
            assert len({fields[SOURCE] for _, fields in told}) == len(told) == retained
            assert last[TYPE] == REFRESH_END
            await asyncio.sleep(1.0)
    return took, waits


async def _standing(server: Running, retained: int) -> None:
    """Return when so many alarms stand."""
    async with Client(server.endpoint) as client:
        standing = client.get_node(ua.NodeId("ENose.AlarmMetrics.Standing", 3))
        while await standing.read_value() < retained:  # noqa: ASYNC110 - it is on another machine, in principle
            await asyncio.sleep(0.5)


def refreshed(folder: Path, rounds: int = 8) -> Iterator[Answer]:
    plant = alarmed(line_plant(), 20, low=499.0)
    for device in plant["devices"]:
        device["period"] = 1.0
    server = prepared(folder / "standing", plant)
    retained = 20 * len(plant["devices"])
    with server.started():
        asyncio.run(_standing(server, retained))
        used = cpu(server.pid)
        took, waits = asyncio.run(_refresh(server, retained, rounds))
        used = (cpu(server.pid) - used) / rounds
    yield Answer(question=f"ConditionRefresh with {retained} retained conditions, until RefreshEnd is heard",
                 value=max(took), unit="s", bar="0.5 s", ok=max(took) <= 0.5)  # fmt: skip
    yield Answer(question="Read by another client meanwhile, p99", value=p99(waits), unit="ms", bar="50 ms",
                 ok=p99(waits) < 50)  # fmt: skip
    yield Answer(question="CPU of the server for each refresh, these reads and the line", value=used, unit="CPU s")


# -- the history of events


def fill(path: Path, count: int, days: int = 30) -> tuple[int, int]:
    """So many events of two types, evenly over the last days; from when to when, ns UTC."""
    end = time.time_ns()
    begin = end - days * 24 * 3600 * SECOND
    made, step = engine(f"sqlite:///{path}"), days * 24 * 3600 * SECOND // count
    random = np.random.default_rng(5)
    kinds = [
        row(events.recommendation_published("EN01", f"R-{i}", f"EN01: recommendation {i}", 1 + i, begin))
        for i in range(1000)
    ]
    for first in range(0, count, 10_000):
        chosen = random.integers(0, len(kinds), 10_000).tolist()
        rows = [replace(kinds[k], time=begin + (first + i) * step) for i, k in enumerate(chosen)]
        with made.begin() as tx:
            history.record(tx, rows)
    made.dispose()
    return begin, end


async def _pages(server: Running, begin: int, end: int, pages: int) -> list[float]:
    """Milliseconds of pages of a thousand from random times on, as the client waits for their bytes."""
    random, waits = np.random.default_rng(7), list[float]()
    async with Client(server.endpoint, timeout=60) as client:
        for start in random.integers(begin, begin + (end - begin) // 2, pages).tolist():
            moment = datetime.fromtimestamp(start / SECOND, UTC).replace(tzinfo=None)
            details = ua.ReadEventDetails(
                NumValuesPerNode=1000,
                StartTime=moment,
                EndTime=datetime.fromtimestamp(end / SECOND, UTC).replace(tzinfo=None),
                Filter=wanted(RECOMMENDATION, 900, (*FIELDS, "RecommendationId")),
            )
            request = ua.HistoryReadRequest(
                Parameters=ua.HistoryReadParameters(
                    HistoryReadDetails=details,
                    TimestampsToReturn=ua.TimestampsToReturn.Both,
                    ReleaseContinuationPoints=False,
                    NodesToRead=[ua.HistoryReadValueId(NodeId=SERVER)],
                )
            )
            asked = time.monotonic()
            data = await client.uaclient.session._send_request(request)  # noqa: SLF001
            waits.append(1000 * (time.monotonic() - asked))
            (result,) = struct_from_binary(ua.HistoryReadResponse, data).Results
            result.StatusCode.check()
            assert len(result.HistoryData.Events) == 1000
            assert all(fields.EventFields[SEVERITY].Value >= 900 for fields in result.HistoryData.Events)
    return waits


def stored(folder: Path, count: int, pages: int = 50) -> Iterator[Answer]:
    plant = line_plant(1, 4)
    plant["devices"][0]["period"] = 1.0
    server = prepared(folder / "history", plant)
    with server.started():
        pass  # makes the database
    begin, end = fill(server.data / DATABASE, count)
    with server.started():
        used = cpu(server.pid)
        waits = asyncio.run(_pages(server, begin, end, pages))
        used = 1000 * (cpu(server.pid) - used) / pages
    yield Answer(question=f"{count} stored events: a page of 1,000 by time, type and severity, p99", value=p99(waits),
                 unit="ms", bar="100 ms", ok=p99(waits) <= 100)  # fmt: skip
    yield Answer(question="the same, p50", value=statistics.median(waits), unit="ms")
    yield Answer(question="CPU of the server for each page", value=used, unit="CPU ms")


def run(args: argparse.Namespace) -> Iterator[Answer]:
    with tempfile.TemporaryDirectory(prefix="enose-alarms-", dir=args.folder) as name:
        folder = Path(name)
        parts: dict[str, Callable[[], Iterator[Answer]]] = {
            "limits": limits,
            "latency": lambda: latency(folder, args.seconds),
            "events": lambda: many(folder, args.seconds),
            "refresh": lambda: refreshed(folder),
            "history": lambda: stored(folder, args.events),
        }
        for part in args.only:
            yield from parts[part]()


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=30, help="of transitions and of events (default: %(default)s)")
    parser.add_argument("--events", type=int, default=1_000_000, help="in the history (default: %(default)s)")
    parser.add_argument("--folder", type=Path, help="where to make the databases; default: of the system")
    parser.add_argument("--only", nargs="+", default=PARTS, choices=PARTS, help="some of the questions")


if __name__ == "__main__":
    sys.exit(main(__doc__.splitlines()[0], run, arguments))
