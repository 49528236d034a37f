"""For benchmarks/alarms.py: a server that raises events when it is told to, ours or, with `bare`, asyncua's as shipped.

Prints its address; then for each line `RATE SECONDS` it raises RATE events a second that pass the benchmark's filter,
and a fifth as many that do not, and prints how many of the former there were.
"""

import argparse
import asyncio
import gc
import itertools
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import uvloop
from asyncua import Server, ua

from config.load import load
from opcua_server import admin, app
from opcua_server.plant import events

PERIOD = 0.01
PASSING, LOW = 600, 100
"""Severities: of what is to pass, and of what is not."""
SUBJECT, WORDS = "EN01", "clean the sample line"


@asynccontextmanager
async def ours(config: str, data: str) -> AsyncIterator[tuple[str, Callable[[int], None]]]:
    gc.disable()  # as `enose run` does
    with admin.data_folder(Path(data)):
        async with app.running(load(Path(config)), Path(data)) as server:
            gc.freeze()
            gc.enable()

            def publish(severity: int) -> None:
                words = f"{SUBJECT}: {WORDS}"
                event = events.recommendation_published(SUBJECT, "R-1", words, severity, time.time_ns())
                server.publish_event(event)

            yield server.url, publish


@asynccontextmanager
async def bare(port: str) -> AsyncIterator[tuple[str, Callable[[int], None]]]:
    server = Server()
    await server.init()
    server.set_endpoint(f"opc.tcp://127.0.0.1:{port}")
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    generator = await server.get_event_generator(ua.ObjectIds.SystemEventType, ua.ObjectIds.Server)
    waiting: set[asyncio.Task[None]] = set()

    def publish(severity: int) -> None:
        generator.event.Severity = severity
        task = asyncio.ensure_future(generator.trigger(message=f"{SUBJECT}: {WORDS}"))
        waiting.add(task)
        task.add_done_callback(waiting.discard)

    async with server:
        yield f"opc.tcp://127.0.0.1:{port}", publish


async def raise_events(publish: Callable[[int], None], rate: float, seconds: float) -> int:
    """As many as are due each tick, a fifth of them less severe than the filter wants; how many it wants."""
    start, passing = time.monotonic(), 0
    for tick in itertools.count(1):
        await asyncio.sleep(max(0.0, start + tick * PERIOD - time.monotonic()))
        due = round(min(tick * PERIOD, seconds) * rate)
        for number in range(passing, due):
            publish(PASSING)
            if number % 5 == 0:
                publish(LOW)
        passing = due
        if tick * PERIOD >= seconds:
            return passing
    raise AssertionError


async def serve(kind: str, arguments: list[str]) -> None:
    loop, lines = asyncio.get_running_loop(), asyncio.Queue[str]()
    loop.add_reader(sys.stdin, lambda: lines.put_nowait(sys.stdin.readline()))
    async with {"ours": ours, "bare": bare}[kind](*arguments) as (url, publish):
        print(url, flush=True)
        while line := await lines.get():
            print(await raise_events(publish, *map(float, line.split())), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=["ours", "bare"])
    parser.add_argument("arguments", nargs="*", help="CONFIG DATA of ours, PORT of the bare one")
    args = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(args.kind, args.arguments))
