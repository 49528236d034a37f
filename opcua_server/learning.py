"""Good cycles of several lots -> a product's model, in a worker process: scipy never comes into the server.

A lot is one of

    STREAM=FILE.csv            a recording, played as `enose device --replay` plays it: the columns named as the
                               channels, or all that measure, in their order
    STREAM=SCENARIO[@LOT]      simulated: a scenario's name or file; LOT numbers the lots (default: their order)
    BATCH                      what was recorded while this batch ran
    START/END                  what was recorded between two instants (ISO 8601)

All go through the same validation, assembler and features as in service.
"""

import asyncio
import multiprocessing
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np

from analytics import features
from analytics.cycles import CycleAssembler
from analytics.features import Features
from analytics.registry import ProductModel
from analytics.validation import Validator
from config.registers import Columns, image
from config.schema import Device, Plant
from historian.query import Reader
from historian.schema import Database, reading
from nodesets.errors import InvalidArgument, NoData
from nodesets.model import Cause, Floats, Frame, Phase
from opcua_server.device.replay import Recording, Replay, load_recording
from opcua_server.drivers.physics import cycles, find_scenario, load_scenario

SECOND = 1_000_000_000
SIMULATED_CYCLES = 4
"""Cycles of a simulated lot: lots, not cycles, are independent of each other, so many short ones teach more."""
READINGS = 10_000_000
"""Rows read of one recorded lot at most: four months at 1 Hz."""


class Measured(NamedTuple):
    """One row of a device, however it came."""

    time: int
    values: Floats
    phase: Phase
    counter: int


Window = tuple[str, int, int]
"""(name, start, end) of a recorded lot, ns UTC."""


def learn(
    plant: Plant,
    product: str,
    lots: Sequence[str],
    phases: Sequence[int],
    windows: Sequence[Window],
    database: Database,
) -> ProductModel:
    """The model of a product. `lots` are files and scenarios, `windows` recorded lots of `database`.

    `phases` are the rows of baseline, exposure and purge of a recording without a phase column.
    Raises InvalidArgument, NoData, ConfigurationError.
    """
    from analytics import learning  # brings scipy, which the process that serves never needs

    found: dict[str, list[tuple[str, Features]]] = defaultdict(list)
    for stream, lot, rows in _files(plant, lots, phases):
        found[stream] += [(lot, f) for f in _features(_device(plant, stream), plant, rows)]
    if windows:
        for stream, lot, recorded in asyncio.run(_recorded(plant, windows, database)):
            found[stream].append((lot, recorded))
    if not found:
        raise NoData("no complete cycle in any of the lots")
    alpha = next(p.alpha for p in plant.products if p.id == product)
    return ProductModel(
        product=product,
        fingerprints={
            stream: learning.learn(product, [f for _, f in good], [lot for lot, _ in good], alpha=alpha)
            for stream, good in sorted(found.items())
        },
    )


async def in_worker(
    plant: Plant,
    product: str,
    lots: Sequence[str],
    phases: Sequence[int],
    windows: Sequence[Window],
    database: Database,
) -> ProductModel:
    """`learn` in a process of its own."""
    pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
    try:
        work = asyncio.get_running_loop().run_in_executor
        return await work(pool, learn, plant, product, lots, phases, windows, database)
    finally:
        pool.shutdown(
            wait=False
        )  # the end of a process takes a tenth of a second, or all the rest of a cancelled lesson


def is_window(lot: str) -> bool:
    return "/" in lot and "=" not in lot


def window(lot: str) -> Window:
    """`START/END` -> window. Raises InvalidArgument."""
    try:
        start, end = (datetime.fromisoformat(part) for part in lot.split("/"))
    except ValueError as error:
        example = "2026-11-20T08:00:00+01:00/2026-11-20T09:00:00+01:00"
        raise InvalidArgument(f"lot {lot!r}: two instants as {example}") from error
    if start.tzinfo is None or end.tzinfo is None or start >= end:
        raise InvalidArgument(f"lot {lot!r}: rising instants, each with its offset from UTC")
    return lot, _ns(start), _ns(end)


def _ns(instant: datetime) -> int:
    since = instant - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * SECOND + since.microseconds * 1000


def _device(plant: Plant, stream: str) -> Device:
    known = {f"{d.id}.{s.id}": d for d in plant.devices for s in d.streams}
    if stream not in known:
        raise InvalidArgument(f"no stream {stream!r}; known: {', '.join(known)}")
    return known[stream]


def _files(plant: Plant, lots: Sequence[str], phases: Sequence[int]) -> Iterator[tuple[str, str, Iterable[Measured]]]:
    """(stream, lot, rows) of every lot that is a file or a scenario."""
    order: dict[str, int] = defaultdict(int)
    for lot in lots:
        stream, _, source = lot.partition("=")
        device = _device(plant, stream)
        number = order[stream]
        order[stream] += 1
        if source.endswith(".csv"):
            yield stream, f"{number}:{source}", _played(plant, device, Path(source), phases)
        else:
            name, _, given = source.partition("@")
            which = int(given) if given.isdecimal() else number
            yield stream, f"{name}@{which}", _simulated(device, name, which)


def _played(plant: Plant, device: Device, path: Path, phases: Sequence[int]) -> Iterator[Measured]:
    recording = _recording(device, path)
    rows = None if recording.phases is not None else _three(phases)
    replay = Replay(recording, phases=rows)
    seconds = _seconds_of_a_row(device, rows)
    columns = Columns([c.point for c in device.columns(plant.registers(device))], plant.registers(device).word_order)
    for step in range(recording.rows):
        state = replay.at(step)
        if state is not None:
            registers = image()
            columns.encode(state.row(device), registers)
            values, absent = columns.decode(registers)  # as a register holds it: float32
            values[absent] = np.nan
            yield Measured(round(step * seconds * SECOND), values, state.phase, state.cycle)


def _recording(device: Device, path: Path) -> Recording:
    recording = load_recording(path)
    names = [c.id for c in device.channels]
    return load_recording(path, names) if set(names) <= set(recording.names) else recording


def _seconds_of_a_row(device: Device, phases: tuple[int, int, int] | None) -> float:
    """A stream's cycle lies over the rows of a recording's; rows with phases of their own are a poll each."""
    stream = device.streams[0]
    return (stream.baseline + stream.exposure + stream.purge) / sum(phases) if phases else device.period


def _three(phases: Sequence[int]) -> tuple[int, int, int]:
    if len(phases) != 3 or min(phases) < 1:
        raise InvalidArgument("phases: rows of baseline, exposure and purge")
    baseline, exposure, purge = phases
    return baseline, exposure, purge


def _simulated(device: Device, name: str, lot: int) -> Iterator[Measured]:
    scenario = load_scenario(find_scenario(name)).quiet()
    for cycle in cycles(scenario, device, seed=1, count=SIMULATED_CYCLES, lot=lot):
        for time, values, phase in zip(cycle.times.tolist(), cycle.values, cycle.phases.tolist(), strict=True):
            yield Measured(time, values, Phase(phase), cycle.number)


def _features(device: Device, plant: Plant, rows: Iterable[Measured]) -> Iterator[Features]:
    """Features of the complete cycles of some rows."""
    columns = device.columns(plant.registers(device))
    validator = Validator(columns)
    assembler, kinds = _assembler(device), _kinds(device)
    for row in rows:
        causes = np.where(np.isnan(row.values), Cause.NOT_A_NUMBER, Cause.NONE).astype(np.uint8)
        frame = Frame(
            device=device.id,
            source_time=row.time,
            received_time=row.time,
            values=row.values,
            causes=causes,
            phase=row.phase,
            cycle=row.counter,
        )
        validated = validator.validate(frame)
        cycle = assembler.add(row.time, validated.values, validated.status, row.phase, row.counter)
        if cycle is not None and not cycle.defect:
            yield features.extract(cycle, kinds)


def _assembler(device: Device) -> CycleAssembler:
    stream = device.streams[0]
    return CycleAssembler(period=device.period, baseline=stream.baseline, exposure=stream.exposure)


def _kinds(device: Device) -> list[features.ChannelKind]:
    return [features.kind(c.id, c.technology) for c in device.channels]


async def _recorded(plant: Plant, windows: Sequence[Window], database: Database) -> list[tuple[str, str, Features]]:
    """(stream, lot, features) of every complete cycle in the windows, all streams of all lines."""
    reader = Reader(reading(database.url, database.password))
    try:
        found = []
        for name, start, end in windows:
            for line in plant.lines:
                for stream in line.streams:
                    device = _device(plant, stream)
                    found += [(stream, name, f) async for f in _from_history(plant, device, reader, start, end)]
        return found
    finally:
        reader.close()


async def _from_history(plant: Plant, device: Device, reader: Reader, start: int, end: int) -> AsyncIterator[Features]:
    tags = [t.node for t in device.tags(plant.registers(device))]
    series = [await reader.read_raw(tag, start, end, READINGS) for tag in tags]
    if not len(series[0].times):
        return
    values, status = np.stack([s.values for s in series], axis=1), np.stack([s.status for s in series], axis=1)
    assembler, kinds = _assembler(device), _kinds(device)
    for i, time in enumerate(series[0].times.tolist()):
        phase, counter = values[i, -2:]
        known = Phase.UNKNOWN if np.isnan(phase) else Phase(int(phase))
        count = 0 if np.isnan(counter) else int(counter)
        cycle = assembler.add(time, values[i, :-2], status[i, :-2], known, count)
        if cycle is not None and not cycle.defect:
            yield features.extract(cycle, kinds)


def summary(model: ProductModel) -> list[str]:
    """What the person who learned it reads."""
    lines = []
    for stream, f in model.fingerprints.items():
        low, high = f.false_alarm_interval
        lines.append(
            f"{stream}: {f.reference_count} good cycles of {len(f.lots)} lots, {len(f.channels)} channels, "
            f"realised false-alarm rate {f.false_alarm_rate:.3f} ({low:.3f} to {high:.3f}) at alpha {f.alpha:g}"
        )
    return lines
