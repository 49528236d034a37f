"""How many samples a second of our CPU time does PostgreSQL take in, durably?

3,200 channels of 100 e-noses at 10 Hz, as fast as they go: rows handed to the writer, committed with
synchronous_commit=on. The cluster is private, started for this; its own processes' time is not ours and is stated
beside it. The peer is psycopg's executemany of the same rows into a table of one row a sample, as historians on
PostgreSQL commonly have it.
"""

import argparse
import os
import resource
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psycopg

from benchmarks.report import Answer, main
from compliance import audit
from historian.schema import engine, migrate
from historian.writer import Writer
from nodesets.model import Row
from nodesets.ports import SystemClock
from tests.postgres import cluster, new_database

DEVICES, CHANNELS = 100, 32
NOW = 1_790_000_000 * 10**9
WANTED = 300_000
"""Samples a second of CPU time of ours (issue 5)."""


def instant(values: np.ndarray, tick: int) -> list[Row]:
    """One row of every device."""
    good, at = np.zeros(CHANNELS, np.uint32), NOW + tick * 10**8
    return [
        Row(
            group=f"EN{device:03d}", source_time=at, received_time=at, values=values[(tick + device) % 997], status=good
        )
        for device in range(DEVICES)
    ]


@contextmanager
def recording(address: str) -> Iterator[Writer]:
    made = engine(address)
    migrate(made)
    groups = {f"EN{d:03d}": tuple(f"EN{d:03d}.S{c:02d}" for c in range(CHANNELS)) for d in range(DEVICES)}
    writer = Writer(
        made, groups, clock=SystemClock(), commit_seconds=0.01, queue=1_000_000, covered=audit.cover_history
    )
    writer.start()
    try:
        yield writer
    finally:
        writer.close()
        made.dispose()


def ingest(seconds: int) -> tuple[float, float, float]:
    """Samples a second of our CPU time, of wall time, and of the cluster's CPU time."""
    ticks = 10 * seconds
    values = np.random.default_rng(5).normal(100, 1, (997, CHANNELS))
    rows = [instant(values, tick) for tick in range(ticks)]
    with recording(new_database()) as writer:
        theirs, ours, began = cluster_seconds(), cpu_seconds(), time.perf_counter()
        waiting: list[Future[None]] = [writer.append(each) for each in rows]
        for future in waiting:
            future.result()
        wall, ours = time.perf_counter() - began, cpu_seconds() - ours
    samples = ticks * DEVICES * CHANNELS
    return samples / ours, samples / wall, samples / max(cluster_seconds() - theirs, 0.01)


def by_rows(seconds: int) -> float:
    """The peer: samples a second of our CPU time."""
    values = np.random.default_rng(5).normal(100, 1, CHANNELS).tolist()
    with psycopg.connect(new_database().replace("+psycopg", "")) as connection:
        connection.execute("CREATE TABLE sample (tag integer, time bigint, status bigint, value double precision)")
        connection.commit()
        began = cpu_seconds()
        for tick in range(seconds):
            samples = [(tag, NOW + tick, 0, values[tag % CHANNELS]) for tag in range(DEVICES * CHANNELS)]
            with connection.cursor() as cursor:
                cursor.executemany("INSERT INTO sample VALUES (%s, %s, %s, %s)", samples)
            connection.commit()
        return seconds * DEVICES * CHANNELS / (cpu_seconds() - began)


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def cluster_seconds() -> float:
    """CPU time of the cluster's processes, also of those that have ended."""
    postmaster = int((cluster() / "data" / "postmaster.pid").read_text().split()[0])
    tick = os.sysconf("SC_CLK_TCK")
    total = 0
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended since
            continue
        if int(fields[1]) == postmaster or status.parent.name == str(postmaster):
            total += sum(map(int, fields[11:15] if status.parent.name == str(postmaster) else fields[11:13]))
    return total / tick


def answers(seconds: int = 60) -> Iterable[Answer]:
    ours, wall, theirs = ingest(seconds)
    peer = by_rows(max(1, seconds // 10))
    yield Answer(
        question="PostgreSQL ingest, 3,200 channels, durable, samples a second of our CPU time",
        value=ours,
        unit="samples/s",
        bar=f"at least {WANTED:,}",
        ok=ours >= WANTED,
        peer="one row a sample, psycopg executemany",
        peer_value=peer,
    )
    yield Answer(question="the same in wall time", value=wall, unit="samples/s")
    yield Answer(question="the same in CPU time of the cluster", value=theirs, unit="samples/s")


def run(options: argparse.Namespace) -> Iterable[Answer]:
    return answers(options.seconds)


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=int, default=60, help="of plant time to record")


if __name__ == "__main__":
    raise SystemExit(main(__doc__.partition("\n")[0], run, arguments))
