"""A plant: site, security, register maps, devices, lines, products, alarms. Frozen once read.

Every key has its meaning, unit and default here; `docs/configuration.md` is generated from it.
"""

import ipaddress
from dataclasses import dataclass
from enum import IntFlag
from functools import cache
from string import Formatter
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from nodesets.model import Tag
from nodesets.units import UNITS

# Plant SCADA address syntax forbids \ !A ;!E= in ids; dots separate path elements (information model 1.2).
Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,31}$")]


def _known_unit(code: str) -> str:
    if code not in UNITS:
        raise ValueError(f"unknown unit {code!r}; one of {', '.join(UNITS)}")
    return code


UnitCode = Annotated[str, AfterValidator(_known_unit)]


def _rising(interval: tuple[float, float]) -> tuple[float, float]:
    if not interval[0] < interval[1]:
        raise ValueError(f"low must be less than high, got {interval[0]:g}, {interval[1]:g}")
    return interval


def _not_zero(scale: float) -> float:
    if scale == 0.0:
        raise ValueError("a scale of zero makes every value the same")
    return scale


Range = Annotated[tuple[float, float], AfterValidator(_rising)]
RegisterType = Literal["float32", "float64", "int16", "uint16", "int32", "uint32", "uint64", "string"]
REGISTERS: dict[str, int] = {
    "int16": 1, "uint16": 1, "int32": 2, "uint32": 2, "float32": 2, "float64": 4, "uint64": 4,
}  # fmt: skip
"""16-bit registers a value of each type takes (a string takes `length`)."""


MODBUS_CHANNELS = 64
"""What one poll of two requests can read."""


class StatusBit(IntFlag):
    """Bits of the device's status register."""

    SIMULATED = 1
    HEATER_FAILURE = 2
    FLOW_LOW = 4
    CALIBRATING = 8
    LOCAL = 16


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Point(Model):
    """Where one value lies in a device's Modbus map."""

    address: Annotated[int, Field(ge=0, le=65535)]
    """0-based register address."""
    type: RegisterType = "float32"
    """Type of the number; it takes 1 (16 bits), 2 (32) or 4 (64) registers, a string as many as `length` says."""
    table: Literal["input", "holding"] = "input"
    """Input registers are read by function 4, holding registers by function 3."""
    scale: Annotated[float, AfterValidator(_not_zero)] = 1.0
    """Unit of the value per step of the register: value = register x scale + offset; not 0."""
    offset: float = 0.0
    """Value of a register that is 0, in the unit of the value."""
    word_order: Literal["big", "little"] | None = None
    """Order of the registers of one number, big: most significant first; null: as the map says."""
    length: Annotated[int, Field(ge=1, le=64)] = 1
    """Registers of a string; two characters each."""
    invalid: tuple[float, ...] = ()
    """Register values that mean 'no value', compared in the register's own type, before scale and offset."""

    @property
    def registers(self) -> int:
        return REGISTERS.get(self.type, self.length)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.address + self.registers > 65536:
            raise ValueError(f"{self.type} at {self.address} ends behind register 65535")
        if "int" in self.type:
            bits = 16 * self.registers
            for value in self.invalid:
                if not (value.is_integer() and -(2 ** (bits - 1)) <= value <= 2**bits):
                    raise ValueError(f"{value:g} cannot stand in a {self.type} register")
        return self


class Block(Model):
    """Equal points one after another: point i lies at address + i * stride."""

    address: Annotated[int, Field(ge=0, le=65535)]
    """0-based address of the first point, among the input registers."""
    type: RegisterType = "float32"
    """As of a point."""
    stride: Annotated[int, Field(ge=1)] | None = None
    """Registers from one point to the next; null: the type's own size."""
    scale: Annotated[float, AfterValidator(_not_zero)] = 1.0
    """As of a point."""
    offset: float = 0.0
    """As of a point."""
    invalid: tuple[float, ...] = ()
    """As of a point."""

    def point(self, index: int) -> Point:
        stride = self.stride or REGISTERS[self.type]
        return _point(self.address + index * stride, self.type, self.scale, self.offset, self.invalid)


@cache
def _point(address: int, kind: RegisterType, scale: float, offset: float, invalid: tuple[float, ...]) -> Point:
    """The one object of equal points: devices of one model have all theirs in common."""
    return Point(address=address, type=kind, scale=scale, offset=offset, invalid=invalid)


class RegisterMap(Model):
    """A device model's Modbus map. The defaults are the e-nose device of this project (docs/registers.md)."""

    word_order: Literal["big", "little"] = "big"
    """Order of the registers of one number, big: most significant first. Each register itself is big-endian."""
    vendor: Point | None = Point(address=0, type="string", length=16)
    """Maker of the device, shown in its Identification; null: the device does not tell it."""
    model: Point | None = Point(address=16, type="string", length=16)
    """Model, likewise."""
    serial: Point | None = Point(address=32, type="string", length=8)
    """Serial number, likewise."""
    firmware: Point | None = Point(address=40, type="string", length=8)
    """Version of its firmware, likewise."""
    status: Point | None = Point(address=50, type="uint16")
    """Bits: 1 simulated, 2 heater failure, 4 flow low, 8 calibrating, 16 local; null: none of these is known."""
    phase: Point | None = Point(address=51, type="uint16")
    """Of the measuring cycle: 0 idle, 1 baseline, 2 exposure, 3 purge; null: no cycles, so no scores."""
    heartbeat: Point | None = Point(address=52, type="uint32")
    """Counter that moves with each measurement; null: a device that repeats itself is not noticed by it."""
    device_time: Point | None = Point(address=54, type="uint64")
    """When the values were measured, ns UTC since 1970; null: the time of reception counts."""
    cycle: Point | None = Point(address=58, type="uint32")
    """Counter of measuring cycles; null: none."""
    environment: dict[str, Point] = {
        "Temperature": Point(address=60),
        "RelativeHumidity": Point(address=62),
        "Pressure": Point(address=64),
        "SampleFlow": Point(address=66),
        "pH": Point(address=68),
    }
    """Where the quantities beside the array lie, by the names a device's `environment` uses."""
    channels: Block = Block(address=100)
    """The channels of the array, in the order of a device's `channels`, in each channel's own unit."""
    heaters: Block | None = Block(address=400)
    """Heater temperatures in degrees Celsius, one a channel; null: none."""
    channel_status: Block | None = Block(address=600, type="uint16")
    """One register a channel; not 0: the device itself reports this channel as failed. null: it does not report."""
    command: Point | None = Point(address=0, type="uint16", table="holding")
    """Written to command the device: 1 start cycle, 2 stop, 3 zero, 4 span; null: it takes no commands."""
    argument: Point | None = Point(address=2, type="float32", table="holding")
    """Written before the command: concentration of the span gas, ppm; null: span takes none."""


class Check(Model):
    """Limits beyond which validation doubts a value. The physical range is `range`."""

    max_rate: Annotated[float, Field(gt=0)] | None = None
    """Largest believable change, unit of the value per second; null switches the check off."""
    stuck_after: Annotated[float, Field(gt=0)] | None = 300.0
    """Seconds of bit-identical values after which a sensor counts as stuck; null switches the check off."""


class Channel(Check):
    """One element of the sensor array."""

    id: Name
    """Part of NodeIds, e.g. `EN01.Array.S01.SensorValue`; never change it."""
    technology: Literal["MOS", "PID", "QCM", "EC", "NDIR", "CAP"] = "MOS"
    """How it measures; a MOS resistance is compared with its baseline as a ratio, all others as a difference."""
    target_gas: str = ""
    """What it is made for, as shown to people."""
    unit: UnitCode = "B49"
    """Unit of its values, a code of the table below."""
    range: Range = (0.0, 10_000.0)
    """Low and high, in the unit. A value outside is Uncertain. As narrow as is true: a SCADA client's percent dead-band
    is a part of it."""
    register_point: Annotated[Point | None, Field(alias="register")] = None
    """Where it lies; null: in the map's block, by position."""
    heater: bool = False
    """Whether the map has a heater temperature for this channel."""


class EnvironmentChannel(Check):
    """Temperature, humidity, pressure, flow or pH beside the array."""

    quantity: Literal["Temperature", "RelativeHumidity", "Pressure", "SampleFlow", "pH"]
    """Which of them; part of NodeIds."""
    unit: UnitCode
    """Unit of its values, a code of the table below."""
    range: Range
    """Low and high, in the unit. A value outside is Uncertain."""


class Stream(Model):
    """One sampling line of a device."""

    id: Name = "Stream01"
    """Part of NodeIds, e.g. `EN01.Stream01.Quality.Score`; never change it."""
    baseline: Annotated[float, Field(gt=0)] = 60.0
    """Seconds of reference air before exposure."""
    exposure: Annotated[float, Field(gt=0)] = 120.0
    """Seconds of sample."""
    purge: Annotated[float, Field(gt=0)] = 120.0
    """Seconds of cleaning air after it."""


class Redundant(Model):
    """Two channels that measure the same."""

    channels: tuple[Name, Name]
    """Their ids, of one technology and unit; the alarm ChannelDisagreement is the first one's."""
    tolerance: Annotated[float, Field(gt=0)]
    """How far apart their responses in a cycle may be, in their unit; of MOS ln of the ratio (0.1: a tenth)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One measured value of a frame: derived from the device, in the order of `Frame.values`."""

    tag: Tag
    point: Point
    max_rate: float | None
    stuck_after: float | None
    status_point: Point | None = None


class Device(Model):
    """One e-nose."""

    id: Name
    """Part of every NodeId of the device; never change it."""
    title: str = ""
    """As shown to people; empty: the id."""
    driver: Literal["modbus", "simulator"] = "modbus"
    """How it is read (drivers.md)."""
    host: str = "127.0.0.1"
    """Name or address of the device."""
    port: Annotated[int, Field(ge=1, le=65535)] = 502
    """TCP port of the device."""
    unit: Annotated[int, Field(ge=0, le=255)] = 1
    """Modbus unit id behind this address."""
    period: Annotated[float, Field(ge=0.02, le=3600)] = 1.0
    """Seconds between polls."""
    timeout: Annotated[float, Field(gt=0)] = 0.5
    """Seconds until a poll counts as lost; at most the period."""
    clock_tolerance: Annotated[float, Field(gt=0)] | None = 5.0
    """Seconds the device's clock may be off before received time is used instead; null trusts it blindly (a replay)."""
    registers: str = "enose"
    """Name of a map in `register_maps`; `enose`, the map of registers.md, is built in."""
    scenario: str | None = None
    """Of the driver simulator, which needs one: a scenario's file, or the name of a shipped one, e.g. `coffee_a`."""
    simulated: bool = False
    """Its results are marked simulated whatever its status bit says: for a replay whose map has none. Those of the
    driver simulator always are."""
    channels: Annotated[tuple[Channel, ...], Field(min_length=1, max_length=4096)]
    """The sensor array, in the order of the registers."""
    environment: tuple[EnvironmentChannel, ...] = ()
    """What it measures beside the array."""
    redundant: tuple[Redundant, ...] = ()
    """Pairs of channels that are compared with each other."""
    streams: Annotated[tuple[Stream, ...], Field(min_length=1, max_length=1)] = (Stream(),)
    """Its sampling line; one, because a register map tells one phase and one cycle counter."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.timeout > self.period:
            raise ValueError(f"timeout {self.timeout:g} s is longer than the period {self.period:g} s")
        if (self.driver == "simulator") != (self.scenario is not None):
            raise ValueError("a scenario belongs to the driver `simulator`, and to no other")
        if self.driver == "modbus" and len(self.channels) > MODBUS_CHANNELS:
            raise ValueError(f"{len(self.channels)} channels; a Modbus device has at most {MODBUS_CHANNELS}")
        for what, names in (
            ("channel", [c.id for c in self.channels]),
            ("environment quantity", [str(e.quantity) for e in self.environment]),
        ):
            if twice := sorted({n for n in names if names.count(n) > 1}):
                raise ValueError(f"{what} named twice: {', '.join(twice)}")
        self._check_pairs()
        return self

    def _check_pairs(self) -> None:
        known = {c.id: (c.technology, c.unit) for c in self.channels}
        for first, second in (pair.channels for pair in self.redundant):
            if unknown := [name for name in (first, second) if name not in known]:
                raise ValueError(f"redundant: there is no channel {unknown[0]}")
            if first == second or known[first] != known[second]:
                raise ValueError(f"redundant: {first} and {second} are not two of one technology and unit")
        firsts = [pair.channels[0] for pair in self.redundant]
        if twice := sorted({name for name in firsts if firsts.count(name) > 1}):
            raise ValueError(f"redundant: {', '.join(twice)} is the first of two pairs; name the other one first")

    def columns(self, registers: RegisterMap) -> tuple[Column, ...]:
        """Channels, then environment, then heaters: the order of `Frame.values` and of the recorded row."""
        columns = []
        for i, c in enumerate(self.channels):
            tag = Tag(
                node=f"{self.id}.Array.{c.id}.SensorValue",
                unit=c.unit,
                low=c.range[0],
                high=c.range[1],
                description=f"{self.title or self.id} {c.id} {c.technology} {c.target_gas}".strip(),
            )
            point = c.register_point or registers.channels.point(i)
            status = registers.channel_status.point(i) if registers.channel_status else None
            columns.append(
                Column(tag=tag, point=point, max_rate=c.max_rate, stuck_after=c.stuck_after, status_point=status)
            )
        for e in self.environment:
            tag = Tag(
                node=f"{self.id}.Environment.{e.quantity}",
                unit=e.unit,
                low=e.range[0],
                high=e.range[1],
                description=f"{self.title or self.id} {e.quantity}",
            )
            columns.append(
                Column(tag=tag, point=registers.environment[e.quantity], max_rate=e.max_rate, stuck_after=e.stuck_after)
            )
        for i, c in enumerate(self.channels):
            if c.heater and registers.heaters:
                tag = Tag(
                    node=f"{self.id}.Array.{c.id}.HeaterTemperature",
                    unit="CEL",
                    low=0.0,
                    high=500.0,
                    description=f"{self.title or self.id} {c.id} heater",
                )
                columns.append(Column(tag=tag, point=registers.heaters.point(i), max_rate=None, stuck_after=None))
        return tuple(columns)

    def tags(self, registers: RegisterMap) -> tuple[Tag, ...]:
        """The recorded row: the columns, then phase and cycle counter of the device's acquisition."""
        acquisition = f"{self.id}.{self.streams[0].id}"
        return (
            *(c.tag for c in self.columns(registers)),
            Tag(
                node=f"{acquisition}.AcquisitionStatus.Phase",
                unit="C62",
                low=-1,
                high=5,
                data_type="Int32",
                description="Acquisition phase: 0 idle, 1 baseline, 2 exposure, 3 purge, 4 analyse, 5 publish",
            ),
            Tag(
                node=f"{acquisition}.AcquisitionData.AcquisitionCounter",
                unit="C62",
                low=0,
                high=4294967295,
                data_type="UInt32",
                description="Acquisition cycles since the device started",
            ),
        )


class Line(Model):
    """A production line and the sampling streams that watch it."""

    id: Name
    """Part of NodeIds, e.g. `L01.BatchControl`; never change it."""
    title: str = ""
    """As shown to people; empty: the id."""
    streams: Annotated[tuple[str, ...], Field(min_length=1)]
    """`DEVICE.STREAM`, e.g. `EN01.Stream01`; a stream watches at most one line."""


class Product(Model):
    """What is made, and how its quality is decided."""

    id: Name
    """ProductId of CreateBatch, and first part of its models' names; never change it."""
    title: str = ""
    """As shown to people; empty: the id."""
    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    """Share of good cycles a limit may call NotOK; needs n >= 1/alpha - 1 held-out good cycles (process rule 2)."""
    samples: Annotated[int, Field(ge=1)] = 1
    """Measuring cycles a batch needs before it can be evaluated."""


class ChannelLimits(Model):
    """Limits of one channel's SensorValue, in its unit; null: none."""

    low_low: float | None = None
    """Below it: LowLow, severity 600."""
    low: float | None = None
    """Below it: Low, severity 300."""
    high: float | None = None
    """Above it: High, severity 300."""
    high_high: float | None = None
    """Above it: HighHigh, severity 600."""
    deadband: Annotated[float, Field(ge=0)] = 0.0
    """How far a value has to come back behind a limit it was beyond, in its unit."""

    @model_validator(mode="after")
    def _rising(self) -> Self:
        given = [v for v in (self.low_low, self.low, self.high, self.high_high) if v is not None]
        if not given or given != sorted(given):
            raise ValueError("at least one of low_low, low, high and high_high, and each at least the one before it")
        return self


PhaseName = Literal["idle", "baseline", "exposure", "purge"]


class Alarm(Model):
    """What is different from the alarm's own settings (alarms.md); null: as there."""

    enabled: bool | None = None
    """Whether it can be raised at the start; an Engineer may enable and disable it while the server runs."""
    limits: dict[str, ChannelLimits] = {}
    """Only of LevelAlarm: by channel, e.g. `EN01.Array.S01`; without limits its alarm is disabled."""
    phases: Annotated[tuple[PhaseName, ...], Field(min_length=1)] = ("baseline",)
    """Only of LevelAlarm: phases of the measuring cycle in which the limits are watched."""
    message: dict[Literal["en", "de", "fr", "es", "ja", "zh"], str] = {}
    """Its own text while active, by language, with {source}, {value}, {limit}, {level}, {unit}, {batch} and {text}."""
    severity: Annotated[int, Field(ge=1, le=1000)] | None = None
    """1 to 249 information, to 499 warning, to 749 high, from 750 critical; of every level of the alarm."""
    on_delay: Annotated[float, Field(ge=0)] | None = None
    """Seconds a finding must last before the alarm is active (ISA-18.2)."""
    off_delay: Annotated[float, Field(ge=0)] | None = None
    """Seconds it must be over before the alarm is inactive."""
    gmp: bool | None = None
    """Whether answering for it and taking it out of sight need a comment; the latter is an exception of the batch."""
    confirm: bool | None = None
    """Whether somebody has to confirm, after the acknowledgement, that something was done."""
    branches: bool | None = None
    """Whether an alarm that comes again before it was acknowledged is answered for each time by itself."""
    latched: bool | None = None
    """Whether it stays, also when it is over and acknowledged, until it is reset."""
    chattering: bool | None = None
    """Whether a comment tells that it comes three times within a minute (ISA-18.2 16.5.5)."""
    max_shelved: Annotated[float, Field(gt=0)] | None = None
    """Seconds it can be shelved, or a GMP alarm be out of sight, at once."""

    @field_validator("message")
    @classmethod
    def _known_placeholders(cls, message: dict[str, str]) -> dict[str, str]:
        known = {"source", "value", "limit", "level", "unit", "batch", "text"}
        for language, template in message.items():
            names = {name for _, name, _, _ in Formatter().parse(template) if name is not None}
            if unknown := sorted(names - known):
                raise ValueError(f"{language}: unknown {', '.join(unknown)}; known: {', '.join(sorted(known))}")
        return message


Policy = Literal["Basic256Sha256", "Aes128_Sha256_RsaOaep", "Aes256_Sha256_RsaPss"]
POLICIES: tuple[Policy, ...] = ("Basic256Sha256", "Aes128_Sha256_RsaOaep", "Aes256_Sha256_RsaPss")


class Security(Model):
    """Who may connect, and how."""

    policies: Annotated[tuple[Policy, ...], Field(min_length=1)] = POLICIES
    """Security policies offered, always with SignAndEncrypt."""
    none: bool = False
    """Sessions without channel security as well; only with server.host on loopback."""
    anonymous: bool = False
    """Sessions without a user as well, which see the SCADA view; only with server.host on loopback."""
    certificate_users: dict[str, str] = {}
    """SHA-256 thumbprint (hex) of a user certificate -> name of the account it logs in to."""
    login_failures: Annotated[int, Field(ge=1)] = 5
    """Wrong passwords in a row before an account is locked; failing accounts before their source is."""
    lockout: Annotated[float, Field(gt=0)] = 300.0
    """Seconds it stays locked; twice as long with each further failure."""
    signature_expiry: Annotated[float, Field(gt=0)] = 120.0
    """Seconds a signature request waits for its signature."""


Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0)]


class Limits(Model):
    """What one client may ask of the server; null: as hostile clients and small machines are best met."""

    connections: Count | None = None
    """TCP connections, null: 130."""
    connections_per_address: Count | None = None
    """Of one address without trusted certificate and without session, null: 10."""
    connections_reserved: Annotated[int, Field(ge=0)] | None = None
    """Of all connections, only for clients with a trusted certificate, null: 20."""
    sessions: Count | None = None
    """Sessions, null: 100."""
    sessions_per_channel: Count | None = None
    """Sessions on one secure channel, null: 10."""
    hello: Seconds | None = None
    """Seconds from the connection to its first message, null: 5."""
    open: Seconds | None = None
    """Seconds from the connection to its secure channel, null: 10."""
    inactive: Seconds | None = None
    """Seconds a connection may be without an activated session, null: 15."""
    incomplete: Seconds | None = None
    """Seconds a message may take from its first byte to its last, null: 10."""
    message: Annotated[int, Field(ge=65_536, le=64 * 1024 * 1024)] | None = None
    """Bytes of one request, null: 2 MiB."""
    buffered: Annotated[int, Field(ge=1024 * 1024)] | None = None
    """Bytes of all unanswered requests, null: 64 MiB."""
    backlog: Annotated[int, Field(ge=1024 * 1024)] | None = None
    """Bytes of unread responses after which a client is cut off, null: 16 MiB."""
    string: Annotated[int, Field(ge=1024)] | None = None
    """Bytes of one text, null: 65,536."""
    array: Annotated[int, Field(ge=1024)] | None = None
    """Elements of one array, null: 65,536."""
    nodes: Count | None = None
    """Nodes in one Read or Write, null: 1,000."""
    browse_paths: Count | None = None
    """Nodes or paths in one Browse, BrowseNext or TranslateBrowsePathsToNodeIds, null: 250."""
    operations: Count | None = None
    """Monitored items, registered nodes or subscriptions in one request, null: 10,000."""
    method_calls: Count | None = None
    """Method calls in one request, null: 50."""
    history_nodes: Count | None = None
    """Nodes in one HistoryRead, null: 100."""
    history_page: Count | None = None
    """Values of one node in one HistoryRead response, null: 10,000."""
    history_points: Count | None = None
    """Continuation points of one session for HistoryRead, null: 100."""
    history_updates: Count | None = None
    """Nodes in one HistoryUpdate, null: 100."""
    history_changes: Count | None = None
    """Values of one node in one HistoryUpdate, null: 1,000."""
    subscriptions: Count | None = None
    """Subscriptions of all sessions, null: 1,000."""
    subscriptions_per_session: Count | None = None
    """Subscriptions of one session, null: 100."""
    items: Count | None = None
    """Monitored items of one session, null: 100,000."""


class Server(Model):
    """Where clients reach the server."""

    host: str = "127.0.0.1"
    """Address to listen on: as it comes, this machine only; 0.0.0.0: every network it is in."""
    port: Annotated[int, Field(ge=0, le=65535)] = 4840
    """TCP port; 0: a free one, which the server prints."""
    hostname: str | None = None
    """Name of the server in endpoints and certificate; null: the machine's name, on loopback `localhost`."""
    discovery: str | None = None
    """URL of a discovery server to register with, `opc.tcp://host:4840`, whose certificate is trusted; null: none."""
    discovery_period: Annotated[float, Field(gt=0, le=600)] = 300.0
    """Seconds from one registration to the next; a discovery server forgets who is silent for ten minutes."""
    limits: Limits = Limits()
    """What one client may ask of it."""

    @property
    def loopback(self) -> bool:
        """Reachable from this machine alone."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @field_validator("hostname")
    @classmethod
    def _reachable(cls, name: str | None) -> str | None:
        if name in ("0.0.0.0", "::"):  # noqa: S104 - refused, not bound
            raise ValueError("clients cannot connect to a wildcard address; give the machine's name")
        return name


Days = Annotated[float, Field(ge=0)]


class Retention(Model):
    """How long samples of some devices are kept, in days; null: for ever. Records and the audit log always are."""

    groups: str = "*"
    """Which devices, by id; `*` stands for any characters. The first rule that names a device counts."""
    samples: Days | None = None
    """The samples themselves, but for those measured while a batch was made on the device's line."""
    second: Days | None = None
    """Average, minimum and maximum of each second, made when the samples go; 0: none."""
    minute: Days | None = None
    """The same of each minute."""
    hour: Days | None = None
    """The same of each hour."""


class Storage(Model):
    """The database."""

    url: str | None = None
    """`postgresql+psycopg://USER@HOST/DATABASE`, without a password; null: a SQLite file in the data folder."""
    password_file: str | None = None
    """File whose first line is the password of the database's user."""
    password_env: str | None = None
    """Environment variable that holds it."""
    commit_ms: Annotated[float, Field(ge=0, le=1000)] = 10.0
    """Longest a frame waits for the commit it goes into, ms."""
    queue: Annotated[int, Field(ge=100)] = 100_000
    """Frames that may wait for a slow disk before the newest are refused and counted."""
    slow: Annotated[float, Field(gt=0)] = 1.0
    """Seconds a commit may take before frames go to the spool instead."""
    spool: str | None = None
    """Folder of the spool, best on another disk than the database; null: in the data folder."""
    spool_mb: Annotated[int, Field(ge=1)] = 2048
    """Most the spool holds while the database is away, MiB; beyond it the newest frames are lost and counted."""
    spool_reserve_mb: Annotated[int, Field(ge=0)] = 16
    """Of these, MiB that are taken from the disk at once, so that a full disk does not stop the spool."""
    seal: Annotated[float, Field(gt=0, le=3600)] = 60.0
    """Seconds between two looks for hours that are over, to be compressed; in every sixtieth retention is applied."""
    retention: tuple[Retention, ...] = ()
    """What is kept how long; without a rule everything for ever."""

    @field_validator("url")
    @classmethod
    def _without_password(cls, url: str | None) -> str | None:
        if url is None:
            return url
        parsed = urlsplit(url)
        if parsed.scheme != "postgresql+psycopg" or not parsed.path.strip("/"):
            raise ValueError("postgresql+psycopg://USER@HOST/DATABASE is expected")
        if parsed.password is not None or "password" in parsed.query:
            raise ValueError("no password here: name a file or an environment variable that holds it")
        return url

    @model_validator(mode="after")
    def _one_password(self) -> Self:
        if self.password_file and self.password_env:
            raise ValueError("either password_file or password_env")
        return self


class Agents(Model):
    """What advises people; nothing is carried out by it."""

    dialogs: bool = False
    """Whether each recommendation asks as a dialog too (Part 9 5.6), for alarm clients that can answer one."""


class Site(Model):
    """The plant as a whole."""

    id: Name = "Site"
    """Part of the server's ApplicationUri and of records; never change it."""
    title: str = ""
    """As shown to people; empty: the id."""
    demo: bool = False
    """Whether results of simulated or replayed devices may be released; stands on every record as DemoMode."""
    alarm_comments: bool = True
    """Whether acknowledging a GMP alarm needs a comment; false for a SCADA system that cannot send one."""
    time_zone: str = "UTC"
    """IANA name of the local time in events and reports, e.g. Europe/Berlin; records keep UTC."""

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError(f"unknown time zone {name!r}") from error
        return name


class Plant(Model):
    """What one YAML file holds."""

    site: Site = Site()
    """The plant as a whole."""
    server: Server = Server()
    """Where clients reach the server."""
    security: Security = Security()
    """Who may connect, and how."""
    storage: Storage = Storage()
    """The database."""
    register_maps: dict[Name, RegisterMap] = {}
    """Register maps of other makers' devices, by name."""
    devices: Annotated[tuple[Device, ...], Field(min_length=1)]
    """The e-noses."""
    lines: tuple[Line, ...] = ()
    """Production lines and the streams that watch them; batches are made on lines."""
    products: tuple[Product, ...] = ()
    """What is made."""
    agents: Agents = Agents()
    """What advises people."""
    alarms: dict[str, Alarm] = {}
    """Alarms that are not to be as alarms.md says, by kind."""
    playground: bool = False
    """Nodes for conformance tools below Objects/Playground, open to everybody; only with server.host on loopback."""

    @model_validator(mode="after")
    def _open_on_loopback_only(self) -> Self:
        opened = [name for name in ("none", "anonymous") if getattr(self.security, name)]
        wanted = [f"security.{name}" for name in opened] + ["playground"] * self.playground
        if wanted and not self.server.loopback:
            raise ValueError(f"{', '.join(wanted)}: only with server.host on loopback, got {self.server.host}")
        return self

    def registers(self, device: Device) -> RegisterMap:
        return self.register_maps.get(device.registers) or BUILT_IN_MAPS[device.registers]

    def device(self, device_id: str) -> Device:
        return next(d for d in self.devices if d.id == device_id)

    def line_of(self, stream: str) -> Line | None:
        """The line a stream `DEVICE.STREAM` watches; None when it watches none."""
        return next((line for line in self.lines if stream in line.streams), None)


BUILT_IN_MAPS: dict[str, RegisterMap] = {"enose": RegisterMap()}
