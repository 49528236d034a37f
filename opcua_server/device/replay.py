"""A recording played as if it were measured now: row i of a CSV file is what the device shows at step i.

The device has no clock of its own here: the server that plays it gives step i the time start + i x period / speed.
Values are shown as they stand in the file; an empty cell or NaN is a NaN register.
"""

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from config.schema import StatusBit
from nodesets.errors import ConfigurationError, DeviceError, Mistake
from nodesets.model import Floats, Phase
from opcua_server.device.registers import CHANNELS
from opcua_server.drivers.physics import State

QUANTITIES = {
    "temperature": "Temperature",
    "humidity": "RelativeHumidity",
    "relativehumidity": "RelativeHumidity",
    "pressure": "Pressure",
    "flow": "SampleFlow",
    "sampleflow": "SampleFlow",
    "ph": "pH",
}
"""Header in lower case without blanks and underscores -> quantity of the register map."""
NOT_SENSORS = frozenset({"time", "timestamp", "date", "minute", "second", "row", "index", "cycle"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """A recording in memory."""

    names: tuple[str, ...]
    """Headers of the channels, in the order of the registers."""
    channels: Floats
    """Shape (rows, n)."""
    environment: Mapping[str, Floats]
    """Quantity -> shape (rows,)."""
    phases: NDArray[np.int8] | None = None
    """`Phase` of each row, from the file's own `phase` column."""

    @property
    def rows(self) -> int:
        return len(self.channels)


def load_recording(path: Path, columns: Sequence[str] = ()) -> Recording:
    """Read a CSV file with a header.

    `columns` names the channels in order; without it every column of numbers that is no quantity of the environment,
    no time and no phase is a channel, in the order of the file. A `phase` column holds numbers or names of `Phase`.
    Raises ConfigurationError.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            header, *lines = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error, ValueError) as error:
        raise ConfigurationError([Mistake("", f"no CSV file with a header: {error}", str(path))]) from error
    lines = [line for line in lines if line]
    ragged = [Mistake("", "more or fewer cells than the header", str(path), i) for i, n in _lengths(lines, len(header))]
    missing = [Mistake("columns", f"no column {name!r}", str(path), 1) for name in columns if name not in header]
    if ragged or missing or not lines:
        raise ConfigurationError([*ragged, *missing] or [Mistake("", "no rows", str(path))])
    cells = dict(zip(header, zip(*lines, strict=True), strict=True))
    numbers = {name: parsed for name, column in cells.items() if (parsed := _numbers(column)) is not None}
    plain = {name: re.sub(r"[\s_]", "", name).lower() for name in header}
    if words := [name for name in columns if name not in numbers]:
        raise ConfigurationError([Mistake("columns", f"{name!r} does not hold numbers", str(path)) for name in words])
    reserved = QUANTITIES.keys() | NOT_SENSORS | {"phase"}
    names = tuple(columns) or tuple(n for n in numbers if plain[n] not in reserved)
    if not 1 <= len(names) <= CHANNELS:
        raise ConfigurationError([Mistake("columns", f"{len(names)} channels; 1 to {CHANNELS} fit", str(path), 1)])
    phase = next((n for n in header if plain[n] == "phase" and n not in names), None)
    return Recording(
        names=names,
        channels=np.column_stack([numbers[n] for n in names]),
        environment={QUANTITIES[plain[n]]: numbers[n] for n in numbers if plain[n] in QUANTITIES and n not in names},
        phases=None if phase is None else _phases(cells[phase], path),
    )


def _lengths(lines: Sequence[Sequence[str]], expected: int) -> list[tuple[int, int]]:
    return [(i, len(line)) for i, line in enumerate(lines, 2) if len(line) != expected]


def _numbers(column: Sequence[str]) -> Floats | None:
    try:
        return np.array([float(cell) if cell.strip() else np.nan for cell in column])
    except ValueError:
        return None


def _phases(column: Sequence[str], path: Path) -> NDArray[np.int8]:
    names = {phase.name: phase for phase in Phase} | {str(phase.value): phase for phase in Phase}
    unknown = [i for i, cell in enumerate(column, 2) if cell.strip().upper() not in names]
    if unknown:
        raise ConfigurationError([Mistake("phase", "no phase of ours", str(path), i) for i in unknown])
    return np.array([names[cell.strip().upper()] for cell in column], np.int8)


class Replay:
    """Plays a recording, one row a step.

    `phases` lays cycles of that many rows of baseline, exposure and purge over it, also over the file's own; without
    either the device is idle. At the end it starts again with `loop`, otherwise it stops: nothing is measured any
    more, so heartbeat and time stand still, and the last row stays.
    """

    model = "ENR-1"

    def __init__(self, recording: Recording, *, phases: tuple[int, int, int] | None = None, loop: bool = False) -> None:
        self._recording = recording
        self._phases = phases
        self._loop = loop
        self._first = 0
        """Step at which cycle `_cycles` + 1 began."""
        self._cycles = 0
        self._stopped = False
        own = recording.phases
        begins = np.zeros(recording.rows, np.int64)
        if own is not None:
            begins[1:] = (own[1:] == Phase.BASELINE) & (own[:-1] != Phase.BASELINE)
            begins[0] = 1
        self._cycle_of_row = np.cumsum(begins)

    def at(self, step: int) -> State | None:
        """What is shown at a step; None after the end."""
        n = self._recording.rows
        if step >= n and not self._loop:
            return None
        row = step % n
        phase, cycle = self._phase(step, row)
        channels = self._recording.channels[row]
        return State(
            channels=channels,
            environment={name: float(values[row]) for name, values in self._recording.environment.items()},
            heaters=np.full(len(channels), np.nan),
            failed=np.zeros(len(channels), np.bool_),
            phase=phase,
            cycle=cycle,
            flags=StatusBit.SIMULATED,
        )

    def command(self, name: str, argument: float, step: int) -> None:
        """`start_cycle` and `stop` move the cycles laid over the recording. Raises DeviceError for anything else."""
        del argument
        if self._phases is None or name not in ("start_cycle", "stop"):
            raise DeviceError(f"a recording takes no {name}")
        before = max(0, step - 1)
        self._cycles = self._phase(before, before % self._recording.rows)[1]
        self._first, self._stopped = step, name == "stop"

    def _phase(self, step: int, row: int) -> tuple[Phase, int]:
        if self._phases is None:
            own = self._recording.phases
            if own is None:
                return Phase.IDLE, 0
            lap = step // self._recording.rows * int(self._cycle_of_row[-1])
            return Phase(int(own[row])), lap + int(self._cycle_of_row[row])
        if self._stopped:
            return Phase.IDLE, self._cycles
        baseline, exposure, _ = self._phases
        cycle, into = divmod(step - self._first, sum(self._phases))
        phase = Phase.BASELINE if into < baseline else Phase.EXPOSURE if into < baseline + exposure else Phase.PURGE
        return phase, self._cycles + cycle + 1
