"""A server that seals and retires while its clients read: they are answered the same, before, meanwhile and after."""

import asyncio
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from asyncua import Client, ua
from sqlalchemy import select

from historian.chunks import HOUR, Kind
from historian.frames import Column, columns
from historian.query import Reader
from historian.schema import layout, reading
from nodesets.model import Row
from nodesets.ports import SystemClock
from opcua_server.records import DATABASE
from tests.conformance.plant import CONFIG
from tests.servers import Running, free_port
from tests.unit.historian.support import database, url, writing

DEVICE = "EN01"
SENSOR = f"{DEVICE}.Array.S01.SensorValue"
OLD, YOUNG = 30, 3
"""Hours ago: what is retired, and what is only sealed."""
STEP = 5 * 10**9
LINE = "L01.Batch"
GROUPS = (DEVICE, LINE)
WORDS = np.array(["", "B-0815", "Running, NotReady", "Prüfling 7 · 嗅覚"])
STATUSES = np.array([0, 0, 0, 0x40000000, 0x80310000], np.uint32)
Shown = tuple[datetime, datetime, int, str]


def plant(folder: Path) -> Running:
    """A plant that keeps the samples of its device for a day, their minutes for ever."""
    config = folder / "plant.yaml"
    rule = f"{{groups: {DEVICE}, samples: 1, second: 0, hour: 0}}"
    storage = f"\nstorage:\n  seal: 3600\n  retention: [{rule}]\n"
    config.write_text(CONFIG.read_text().replace("port: 4840", f"port: {free_port()}") + storage)
    server = Running(config, folder / "data")
    server.add_user("obs1", "Observer")
    return server


def fill(path: Path, hours: list[int]) -> dict[str, tuple[str, ...]]:
    """Whole hours that were recorded then, of every quality, a NaN and texts among them; the tags, by group."""
    generator = np.random.default_rng(4)
    with database(path) as made:
        with made.begin() as tx:
            known = tx.execute(select(layout.c.tag_group, layout.c.columns).where(layout.c.tag_group.in_(GROUPS)))
            groups = {row.tag_group: columns(row.columns) for row in known}
        with writing(made, groups, clock=SystemClock()) as writer:
            for hour, (group, of) in product(hours, groups.items()):
                times = range(hour, hour + HOUR, STEP)
                values = generator.normal(50, 5, (len(times), len(of)))
                values[7] = np.nan
                status = generator.choice(STATUSES, (len(times), len(of)))
                words = generator.choice(WORDS, (len(times), len(of)))
                writer.append(rows(group, of, times, values, status, words)).result()
    return {group: tuple(column.tag for column in of) for group, of in groups.items()}


def rows(group: str, of: Sequence[Column], times: range, values: Any, status: Any, words: Any) -> list[Row]:
    texts = [i for i, column in enumerate(of) if column.kind is Kind.STRING]
    return [
        Row(
            group=group,
            source_time=time,
            received_time=time + 2_000_000,
            values=values[n],
            status=status[n],
            texts={i: str(words[n, i]) for i in texts},
        )
        for n, time in enumerate(times)
    ]


async def read(client: Client, tags: Sequence[str], hour: int) -> dict[str, list[Shown]]:
    """Everything clients see of an hour."""
    start, end = (datetime.fromtimestamp(t // 10**9, UTC) for t in (hour, hour + HOUR))
    found: dict[str, list[Shown]] = {}
    for node in tags:
        values = await client.get_node(ua.NodeId(node, 3)).read_raw_history(start, end, 0, return_bounds=False)
        found[node] = [(v.SourceTimestamp, v.ServerTimestamp, v.StatusCode.value, repr(v.Value)) for v in values]
    return found


def left(path: Path, before: int) -> tuple[int, int]:
    """Frames of hours before a time, and whether the averages of an hour that was retired are there."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as tables:
        frames = (
            "SELECT count(*) FROM frame JOIN layout ON layout.id = layout WHERE tag_group IN (?, ?) AND source_time < ?"
        )
        tiers = "SELECT count(*) FROM layout JOIN block ON layout.id = layout WHERE tag_group = ?"
        (unsealed,) = tables.execute(frames, (*GROUPS, before)).fetchone()
        (retired,) = tables.execute(tiers, (f"{DEVICE}@minute",)).fetchone()
    return unsealed, retired


async def test_history_reads_the_same_while_a_server_seals_and_retires_it(tmp_path: Path) -> None:
    server = plant(tmp_path)
    path = server.data / DATABASE
    now = time.time_ns() // HOUR * HOUR
    old, young = now - OLD * HOUR, now - YOUNG * HOUR
    groups = fill(path, [old, young])
    tags = [tag for of in groups.values() for tag in of]
    with server.started():
        async with server.client("obs1") as client:
            before = {hour: await read(client, tags, hour) for hour in (old, young)}
        server.stop()
    assert {len(shown) for shown in before[young].values()} == {HOUR // STEP}
    assert left(path, young + HOUR) == (len(GROUPS) * 2 * HOUR // STEP, 0)

    server.config.write_text(server.config.read_text().replace("seal: 3600", "seal: 0.2"))
    with server.started():
        async with server.client("obs1") as client:
            while left(path, young + HOUR) != (0, 1):
                assert await read(client, tags, young) == before[young]
                await asyncio.sleep(0.05)
            assert await read(client, tags, young) == before[young]
            shown = await read(client, tags, old)
        server.stop()
    assert shown == {tag: [] if tag in groups[DEVICE] else before[old][tag] for tag in tags}
    assert server.enose("audit", "verify").stdout.endswith("clean\n")

    reader = Reader(reading(url(path)))
    minutes = await reader.read_raw(f"{SENSOR}@minute.Average", old, old + HOUR, 100)
    reader.close()
    good = [float(v.partition("Value=")[2].partition(",")[0]) for *_, s, v in before[old][SENSOR][12:24] if s == 0]
    assert len(minutes.times) == 60
    assert np.isclose(minutes.values[1], np.mean(good))
