"""What an e-nose would measure: a pure function of scenario, seed, time and what the device was told to do.

No clock, no I/O, no state: the value at t is computed from t alone, so that any instant can be asked for in any order
and the same scenario and seed give the same registers bit for bit. Time is ns since the device was switched on.

Each channel takes up gas with first-order kinetics towards the stimulus s = sum of affinity x concentration over the
gases (Langmuir kinetics at low coverage), x' = (s - x) / tau with tau = rise while s > x, else fall. The stimulus is
constant between the edges of phases and events, so x is exact. What lies further back than `MEMORY` time constants
has died away.

    MOS   R = baseline (1 + x)^-exponent          power law of SnO2 sensors (Clifford and Tuma 1983)
    QCM   f = baseline - x                        mass uptake (Sauerbrey 1959); affinity in Hz/ppm

times drift, ageing, temperature and absolute humidity (Magnus formula), plus noise.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import Field, ValidationError, model_validator

import config
from config.schema import Device, Model, Name, StatusBit
from nodesets.errors import ConfigurationError, DeviceError, Mistake
from nodesets.model import Floats, Phase

SECOND = 1_000_000_000
DAY = 86_400 * SECOND
MEMORY = 12.0
"""Time constants looked back: e^-12 is far below the noise."""
HEATER_COOLING = 4.0
"""Seconds in which a failed heater loses 63 % of its excess temperature: a micro-hotplate in its housing."""
COLD_RESISTANCE = 3.0
"""A cold MOS layer has e^this times the resistance of a hot one."""
CALIBRATION = 5 * SECOND
"""How long a zero or span keeps the device busy."""


class Sensor(Model):
    """One element of the array."""

    id: Name
    technology: Literal["MOS", "QCM"] = "MOS"
    baseline: float
    """Reading in reference air: kOhm of a MOS, Hz of a QCM (offset of its beat frequency)."""
    affinity: dict[str, Annotated[float, Field(ge=0)]]
    """Gas -> stimulus per ppm: 1/ppm of a MOS, Hz/ppm of a QCM."""
    exponent: Annotated[float, Field(gt=0, le=1)] = 0.5
    """MOS only: of the power law."""
    rise: Annotated[float, Field(gt=0)] = 1.2
    """Seconds, time constant of adsorption."""
    fall: Annotated[float, Field(gt=0)] = 0.9
    """Seconds, time constant of desorption."""
    noise: Annotated[float, Field(ge=0)] = 0.001
    """Standard deviation: share of the reading (MOS), Hz (QCM)."""
    drift: float = 0.002
    """Change of the baseline a day: share (MOS), Hz (QCM)."""
    ageing: Annotated[float, Field(ge=0, lt=1)] = 0.001
    """Share of the affinity lost a day."""
    temperature: float = -0.004
    """Change per kelvin of air temperature from 25 degC: share (MOS), Hz (QCM)."""
    humidity: float = -0.01
    """Change per g/m3 of absolute humidity from 10 g/m3: share (MOS), Hz (QCM)."""
    heater: float | None = None
    """Temperature of the heater in degC; null: it has none."""


class Air(Model):
    """One quantity of the environment: mean + swing x sin(2 pi t / day) + noise."""

    mean: float
    swing: float = 0.0
    noise: Annotated[float, Field(ge=0)] = 0.0


class Event(Model):
    """Something that goes wrong by script. Times in seconds since the device was switched on."""

    kind: Literal["contamination", "off_spec", "heater_failure", "stuck", "flow_loss", "link_loss"]
    start: Annotated[float, Field(ge=0)]
    duration: Annotated[float, Field(gt=0)]
    channel: Name | None = None
    """Of heater_failure and stuck."""
    magnitude: Annotated[float, Field(gt=0)] = 1.0
    """contamination: times `Scenario.contaminant`; off_spec: 1 is `Scenario.off_spec`, 0 the good product;
    heater_failure and flow_loss: share lost, at most 1."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.channel is not None) != (self.kind in ("heater_failure", "stuck")):
            raise ValueError("heater_failure and stuck name a channel, other events do not")
        if self.kind in ("heater_failure", "flow_loss") and self.magnitude > 1:
            raise ValueError("magnitude is the share that is lost, at most 1")
        return self


class Scenario(Model):
    """A device, the product it smells and what will happen to it."""

    title: str = ""
    phases: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]]
    """Seconds of baseline, exposure and purge."""
    sensors: Annotated[tuple[Sensor, ...], Field(min_length=1, max_length=64)]
    environment: dict[Literal["Temperature", "RelativeHumidity", "Pressure", "SampleFlow", "pH"], Air]
    sample: dict[str, Annotated[float, Field(ge=0)]]
    """Head space of the good product: gas -> ppm."""
    off_spec: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
    """Head space of the bad product: gas -> ppm; gases not named are as in `sample`."""
    contaminant: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
    """What gets into the sampling line, in all phases: gas -> ppm."""
    lot_spread: Annotated[float, Field(ge=0, lt=1)] = 0.03
    """Standard deviation of the logarithm of each concentration between lots."""
    cycle_spread: Annotated[float, Field(ge=0, lt=1)] = 0.01
    """The same between cycles of one lot."""
    events: tuple[Event, ...] = ()

    @model_validator(mode="after")
    def _known_channels(self) -> Self:
        known = {s.id for s in self.sensors}
        if len(known) < len(self.sensors):
            raise ValueError("sensor named twice")
        if unknown := sorted({e.channel for e in self.events if e.channel is not None} - known):
            raise ValueError(f"events of unknown channels: {', '.join(unknown)}")
        return self

    def quiet(self) -> "Scenario":
        """The same without events: what a product is learned from."""
        return self.model_copy(update={"events": ()})


SCENARIOS = Path(config.__file__).parent / "scenarios"
"""Where the scenarios that come with the program lie."""


def find_scenario(name: str) -> Path:
    """File of a scenario: a path, or the name of one that comes with the program."""
    shipped = SCENARIOS / f"{name}.yaml"
    return shipped if shipped.exists() else Path(name)


def load_scenario(path: Path) -> Scenario:
    """Read a scenario file. Raises ConfigurationError with every mistake."""
    try:
        return Scenario.model_validate(yaml.load(path.read_text("utf-8"), Loader=yaml.CSafeLoader))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigurationError([Mistake("", str(error), str(path))]) from error
    except ValidationError as error:
        mistakes = [Mistake(".".join(str(k) for k in e["loc"]), e["msg"], str(path)) for e in error.errors()]
        raise ConfigurationError(mistakes) from error


@dataclass(frozen=True, slots=True)
class Run:
    """Cycles one after another from `start` until `stop`, counted from `first`."""

    start: int
    stop: int | None
    first: int


@dataclass(frozen=True, slots=True)
class Timeline:
    """What the device was told to do. A command gives a new timeline; the past stays in it."""

    phases: tuple[int, int, int]
    """ns of baseline, exposure, purge."""
    runs: tuple[Run, ...]
    zeroed: int = 0
    """When the baseline was last set to its nominal value."""
    spanned: int = 0
    """When the affinity was last set to its nominal value."""

    @classmethod
    def continuous(cls, phases: tuple[float, float, float]) -> Self:
        """Cycles from switching on, one after another."""
        baseline, exposure, purge = (round(p * SECOND) for p in phases)
        return cls(phases=(baseline, exposure, purge), runs=(Run(0, None, 1),))

    def at(self, t: int) -> tuple[Phase, int]:
        """Phase and number of the cycle at t; 0 before the first."""
        run = self._run(t)
        if run is None:
            return Phase.IDLE, 0
        end = t if run.stop is None else min(t, run.stop - 1)
        cycles, into = divmod(end - run.start, sum(self.phases))
        if end < t:
            return Phase.IDLE, run.first + cycles
        baseline, exposure, _ = self.phases
        phase = Phase.BASELINE if into < baseline else Phase.EXPOSURE if into < baseline + exposure else Phase.PURGE
        return phase, run.first + cycles

    def edges(self, begin: int, end: int) -> set[int]:
        """Instants in (begin, end) at which the phase changes."""
        found = {t for run in self.runs for t in (run.start, run.stop) if t is not None}
        baseline, exposure, _ = self.phases
        length = sum(self.phases)
        for run in self.runs:
            last = end if run.stop is None else min(end, run.stop)
            cycle = run.start + max(0, (begin - run.start) // length) * length
            while cycle < last:
                found |= {t for t in (cycle, cycle + baseline, cycle + baseline + exposure) if t < last}
                cycle += length
        return {t for t in found if begin < t < end}

    def started(self, t: int) -> "Timeline":
        """A new cycle begins at t; the one under way is broken off."""
        _, cycle = self.at(t - 1)
        return replace(self.stopped(t), runs=(*self.stopped(t).runs, Run(t, None, cycle + 1)))

    def stopped(self, t: int) -> "Timeline":
        """Idle from t on."""
        if self.runs and self.runs[-1].stop is None:
            last = self.runs[-1]
            kept = () if t <= last.start else (replace(last, stop=t),)
            return replace(self, runs=(*self.runs[:-1], *kept))
        return self

    def commanded(self, name: str, argument: float, t: int) -> "Timeline":
        """What follows from one of `start_cycle`, `stop`, `zero`, `span` at t.

        Raises DeviceError for any other, for a zero or span in the middle of an exposure, and for a span without
        the concentration of its gas.
        """
        match name:
            case "start_cycle":
                return self.started(t)
            case "stop":
                return self.stopped(t)
            case "zero" | "span" if self.at(t)[0] == Phase.EXPOSURE:
                raise DeviceError(f"{name} is refused while a sample is measured")
            case "zero":
                return replace(self, zeroed=t)
            case "span" if argument > 0:
                return replace(self, spanned=t)
            case "span":
                raise DeviceError("span needs the concentration of its gas")
        raise DeviceError(f"no command {name}")

    def _run(self, t: int) -> Run | None:
        return next((run for run in reversed(self.runs) if run.start <= t), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The device at one instant."""

    channels: Floats
    """kOhm or Hz, shape (n,)."""
    environment: Mapping[str, float]
    heaters: Floats
    """degC, shape (n,); NaN where there is none."""
    failed: NDArray[np.bool_]
    """Channels the device itself reports, shape (n,)."""
    phase: Phase
    cycle: int
    flags: StatusBit
    link: bool = True
    """Whether the device answers."""

    def row(self, device: Device, heated: Sequence[int] | None = None) -> Floats:
        """Values in the order of `Device.columns`: by position on the array, by name in the environment.

        NaN where the scenario has no such sensor or quantity. `heated`: positions of the channels with a heater, for
        who asks often.
        """
        n, m = len(device.channels), len(self.channels)
        if heated is None:
            heated = positions(device)
        row = np.full(n + len(device.environment) + len(heated), np.nan)
        row[: min(n, m)] = self.channels[:n]
        row[n : n + len(device.environment)] = [self.environment.get(e.quantity, np.nan) for e in device.environment]
        row[n + len(device.environment) :] = [self.heaters[i] if i < m else np.nan for i in heated]
        return row


def positions(device: Device) -> list[int]:
    """Of the channels whose heater temperature is measured."""
    return [i for i, c in enumerate(device.channels) if c.heater]


class Physics:
    """A scenario compiled for one unit: `at(t)` is what it measures."""

    def __init__(self, scenario: Scenario, seed: int = 0, *, unit: int = 1, lot: int = 0) -> None:
        sensors = scenario.sensors
        gases = sorted({g for s in sensors for g in s.affinity} | set(scenario.sample) | set(scenario.contaminant))
        self.scenario = scenario
        self.timeline = Timeline.continuous(scenario.phases)
        self._key = np.array([seed, unit], np.uint64)
        self._lot = lot
        self._affinity = np.array([[s.affinity.get(g, 0.0) for g in gases] for s in sensors])
        self._good = np.array([scenario.sample.get(g, 0.0) for g in gases])
        self._bad = np.array([scenario.off_spec.get(g, scenario.sample.get(g, 0.0)) for g in gases])
        self._contaminant = np.array([scenario.contaminant.get(g, 0.0) for g in gases])
        self._mos = np.array([s.technology == "MOS" for s in sensors])
        self._heaters = np.array([np.nan if s.heater is None else s.heater for s in sensors])
        self._baseline, self._exponent, self._rise, self._fall, self._noise, self._drift, self._ageing = (
            np.array([getattr(s, name) for s in sensors])
            for name in ("baseline", "exponent", "rise", "fall", "noise", "drift", "ageing")
        )
        self._per_kelvin = np.array([s.temperature for s in sensors])
        self._per_gram = np.array([s.humidity for s in sensors])
        self._memory = round(MEMORY * max(self._rise.max(), self._fall.max()) * SECOND)
        self._position = {s.id: i for i, s in enumerate(sensors)}
        self._events = [(e, round(e.start * SECOND), round((e.start + e.duration) * SECOND)) for e in scenario.events]
        self._spread = lru_cache(maxsize=16)(self._spread_of)

    def at(self, t: int, timeline: Timeline | None = None) -> State:
        """The device at t ns; `timeline` defaults to cycles from switching on."""
        timeline = timeline or self.timeline
        phase, cycle = timeline.at(t)
        air = self._air(t)
        heaters = self._heater_temperatures(t, air.get("Temperature", 25.0))
        return State(
            channels=self._channels(t, timeline, air, heaters),
            environment=air,
            heaters=heaters,
            failed=self._failed(t),
            phase=phase,
            cycle=cycle,
            flags=self._flags(t, timeline),
            link=not self._active("link_loss", t),
        )

    def _channels(self, t: int, timeline: Timeline, air: Mapping[str, float], heaters: Floats) -> Floats:
        values = self._readings(t, timeline, air, heaters)
        for event in self._active("stuck", t):
            begin = round(event.start * SECOND)
            then = self._air(begin)
            hot = self._heater_temperatures(begin, then.get("Temperature", 25.0))
            i = self._position[event.channel or ""]
            values[i] = self._readings(begin, timeline, then, hot)[i]
        return values

    def _readings(self, t: int, timeline: Timeline, air: Mapping[str, float], heaters: Floats) -> Floats:
        uptake = self._uptake(t, timeline) * (1.0 - self._ageing) ** ((t - timeline.spanned) / DAY)
        temperature = air.get("Temperature", 25.0)
        change = (
            self._drift * ((t - timeline.zeroed) / DAY)
            + self._per_kelvin * (temperature - 25.0)
            + self._per_gram * (absolute_humidity(temperature, air.get("RelativeHumidity", 43.4)) - 10.0)
            + self._noise * self._normals(t, 0, len(self._baseline))
        )
        lost = np.nan_to_num(1.0 - (heaters - temperature) / (self._heaters - temperature))
        resistance = self._baseline * (1.0 + uptake * (1.0 - lost)) ** -self._exponent
        mos = resistance * (1.0 + change) * np.exp(COLD_RESISTANCE * lost)
        return np.where(self._mos, mos, self._baseline - uptake + change)

    def _uptake(self, t: int, timeline: Timeline) -> Floats:
        begin = t - self._memory
        events = {x for _, *ends in self._events for x in ends if begin < x < t}
        edges = sorted(timeline.edges(begin, t) | events | {begin, t})
        uptake = np.zeros(len(self._baseline))
        for since, until in pairwise(edges):
            stimulus = self._stimulus(since, timeline)
            tau = np.where(stimulus > uptake, self._rise, self._fall)
            uptake = stimulus + (uptake - stimulus) * np.exp((since - until) / SECOND / tau)
        return uptake

    def _stimulus(self, t: int, timeline: Timeline) -> Floats:
        """Of each channel from t until the next edge."""
        phase, cycle = timeline.at(t)
        gas = np.zeros(len(self._good))
        if phase == Phase.EXPOSURE:
            gas = self._good
            for event in self._active("off_spec", t):
                gas = gas + event.magnitude * (self._bad - self._good)
            gas = np.maximum(gas, 0.0) * self._spread(cycle) * self._flow(t)
        for event in self._active("contamination", t):
            gas = gas + event.magnitude * self._contaminant
        return self._affinity @ gas

    def _spread_of(self, cycle: int) -> Floats:
        """Factor of each gas in this lot and cycle."""
        n = len(self._good)
        lot = self.scenario.lot_spread * self._normals(self._lot, 1, n)
        within = self.scenario.cycle_spread * self._normals(cycle, 2 + self._lot, n)
        return np.exp(lot + within)

    def _air(self, t: int) -> dict[str, float]:
        names = list(self.scenario.environment)
        noise = self._normals(t, 0, len(self._baseline) + len(names))[len(self._baseline) :]
        wave = math.sin(2.0 * math.pi * (t % DAY) / DAY)
        air = {
            name: a.mean + a.swing * wave + a.noise * float(z)
            for (name, a), z in zip(self.scenario.environment.items(), noise, strict=True)
        }
        if "SampleFlow" in air:
            air["SampleFlow"] = max(0.0, air["SampleFlow"] * self._flow(t))
        return {str(name): value for name, value in air.items()}

    def _flow(self, t: int) -> float:
        """Share of the sample flow that is left."""
        return math.prod(1.0 - event.magnitude for event in self._active("flow_loss", t))

    def _heater_temperatures(self, t: int, ambient: float) -> Floats:
        heaters = self._heaters.copy()
        for event in self._active("heater_failure", t):
            i = self._position[event.channel or ""]
            cooled = event.magnitude * (1.0 - math.exp((event.start - t / SECOND) / HEATER_COOLING))
            heaters[i] -= cooled * (heaters[i] - ambient)
        return heaters

    def _failed(self, t: int) -> NDArray[np.bool_]:
        failed = np.zeros(len(self._baseline), np.bool_)
        for event in self._active("heater_failure", t):
            failed[self._position[event.channel or ""]] = True
        return failed

    def _flags(self, t: int, timeline: Timeline) -> StatusBit:
        flags = StatusBit.SIMULATED
        if self._active("heater_failure", t):
            flags |= StatusBit.HEATER_FAILURE
        if self._flow(t) < 0.5:
            flags |= StatusBit.FLOW_LOW
        if any(0 < at <= t < at + CALIBRATION for at in (timeline.zeroed, timeline.spanned)):
            flags |= StatusBit.CALIBRATING
        return flags

    def _active(self, kind: str, t: int) -> list[Event]:
        return [e for e, start, end in self._events if e.kind == kind and start <= t < end]

    def _normals(self, index: int, stream: int, n: int) -> Floats:
        """Standard normal numbers that belong to (seed, unit, stream, index), whatever was drawn before."""
        counter = np.array([0, index, stream, 0], np.uint64)
        return np.random.Generator(np.random.Philox(key=self._key, counter=counter)).standard_normal(n)


def absolute_humidity(temperature: float, relative: float) -> float:
    """g/m3 of water vapour in air of degC and %RH (Magnus formula with the constants of WMO-No. 8, Annex 4.B)."""
    saturation = 6.112 * math.exp(17.62 * temperature / (243.12 + temperature))
    return 216.7 * relative / 100.0 * saturation / (273.15 + temperature)


@dataclass(frozen=True, slots=True)
class Cycle:
    """The frames of one acquisition cycle, sockets left out."""

    number: int
    times: NDArray[np.int64]
    """ns since the device was switched on, shape (k,)."""
    values: Floats
    """Shape (k, n), columns as `Device.columns`."""
    phases: NDArray[np.int8]
    """`Phase` of each frame, shape (k,)."""


def cycles(
    scenario: Scenario, device: Device, seed: int, count: int, *, lot: int = 0, unit: int = 1
) -> Iterator[Cycle]:
    """`count` cycles of one lot, sampled once a period of `device`. Lot k is made k days after switching on."""
    physics = Physics(scenario, seed, unit=unit, lot=lot)
    step = round(device.period * SECOND)
    length = sum(physics.timeline.phases)
    first = -(-lot * DAY // length)
    for k in range(first, first + count):
        times = np.arange(-(-k * length // step) * step, (k + 1) * length, step, dtype=np.int64)
        states = [physics.at(int(t)) for t in times]
        yield Cycle(
            number=states[0].cycle,
            times=times,
            values=np.array([s.row(device) for s in states]),
            phases=np.array([s.phase for s in states], np.int8),
        )
