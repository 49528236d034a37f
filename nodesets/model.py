"""What flows through the service: frozen, slotted values; unit, range and time base stand at the field.

Time is int64 nanoseconds UTC since 1970 everywhere inside (architecture: OPC UA ticks only at the wire).
Arrays are owned by the value that holds them and are never written after construction.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Codes = NDArray[np.uint32]


class Quality(IntEnum):
    """StatusCodes a value can have (Part 4 7.39.2, Part 8 6.3). Decided by `analytics.validation` alone."""

    GOOD = 0x00000000
    UNCERTAIN_NO_COMMUNICATION_LAST_USABLE = 0x408F0000
    UNCERTAIN_LAST_USABLE = 0x40900000
    UNCERTAIN_SENSOR_NOT_ACCURATE = 0x40930000
    UNCERTAIN_ENGINEERING_UNITS_EXCEEDED = 0x40940000
    UNCERTAIN_SUBNORMAL = 0x40950000
    BAD_NO_COMMUNICATION = 0x80310000
    BAD_WAITING_FOR_INITIAL_DATA = 0x80320000
    BAD_DEVICE_FAILURE = 0x808B0000
    BAD_SENSOR_FAILURE = 0x808C0000
    BAD_OUT_OF_SERVICE = 0x808D0000
    BAD_NO_DATA = 0x809B0000
    BAD_DATA_LOST = 0x809D0000


class Cause(IntEnum):
    """What a driver saw of one value. A driver reports; validation maps it to a `Quality`."""

    NONE = 0
    LINK_LOST = 1
    """No answer in time, connection refused or closed."""
    PROTOCOL = 2
    """Wrong unit or transaction id, short frame: an answer that cannot be trusted to be ours."""
    EXCEPTION = 3
    """The device answered with a Modbus exception."""
    FROZEN = 4
    """The heartbeat counter stands still: the device answers with old data."""
    SENTINEL = 5
    """The register holds a value its maker declared to mean 'invalid'."""
    NOT_A_NUMBER = 6
    CHANNEL_FAULT = 7
    """The device's own status bit of this channel or its heater."""
    CLOCK = 8
    """Device time outside tolerance or backwards: received time was used instead."""


class Phase(IntEnum):
    """Acquisition phase (information model 1.4); the numbers are frozen (process rule 18)."""

    UNKNOWN = -1
    IDLE = 0
    BASELINE = 1
    EXPOSURE = 2
    PURGE = 3
    ANALYSE = 4
    PUBLISH = 5


class Verdict(IntEnum):
    """Names and numbers of Machinery ResultEvaluation."""

    UNDEFINED = 0
    OK = 1
    NOT_OK = 2
    NOT_DECIDABLE = 3


class ExecutionState(IntEnum):
    """ISA-88 procedural states of a batch; the numbers are frozen (process rule 18)."""

    IDLE = 0
    RUNNING = 1
    HOLDING = 2
    HELD = 3
    RESTARTING = 4
    COMPLETING = 5
    COMPLETE = 6
    STOPPING = 7
    STOPPED = 8
    ABORTING = 9
    ABORTED = 10


class DispositionState(IntEnum):
    """Quality disposition of a batch; the numbers are frozen (process rule 18)."""

    NOT_READY = 0
    QUARANTINE = 1
    UNDER_REVIEW = 2
    AWAITING_SIGNATURE = 3
    RELEASED = 4
    REJECTED = 5
    RECALLED = 6


class Role(StrEnum):
    """Roles of information model 1.7: Part 18 well-known ones and our own."""

    ANONYMOUS = "Anonymous"
    OBSERVER = "Observer"
    OPERATOR = "Operator"
    MES = "MES"
    ENGINEER = "Engineer"
    QA = "QA"
    QA_RELEASE = "QA-Release"
    AUDITOR = "Auditor"
    CONFIGURE_ADMIN = "ConfigureAdmin"
    SECURITY_ADMIN = "SecurityAdmin"
    ADVISOR = "Advisor"


HUMAN_ROLES = frozenset({Role.OPERATOR, Role.ENGINEER, Role.QA, Role.QA_RELEASE})


class SecurityMode(IntEnum):
    """MessageSecurityMode (Part 4 7.20)."""

    NONE = 1
    SIGN = 2
    SIGN_AND_ENCRYPT = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks: handed to every method handler and written into every audit entry."""

    user: str
    """Account name; `os:NAME` for a command on the machine itself, `enose` for the service's own acts."""
    roles: frozenset[Role] = frozenset()
    service: bool = False
    """A service account (a SCADA gateway, an MES): may call, never sign."""
    session: str = ""
    channel: int = 0
    mode: SecurityMode = SecurityMode.SIGN_AND_ENCRYPT
    application_uri: str = ""
    address: str = ""
    """Peer IP address."""
    activated: int = 0
    """When this identity was activated on the session, ns UTC."""
    proof: str = ""
    """What proved it: `password` or `certificate`; empty where it was not an OPC UA user token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What a client did, or tried, for the audit log."""

    caller: Caller
    action: str
    record: str
    """What it was done to: a node or a record."""
    time: int
    """ns UTC, of the server's clock."""
    outcome: str
    """Name of the StatusCode."""
    reason: str = ""
    old: object = None
    new: object = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRow:
    """An event as it is kept: what it is found by, and all its fields as they go to a client."""

    time: int
    """ns UTC."""
    event_type: str
    """NodeId as text, `i=2041`."""
    source: str
    severity: int
    paths: tuple[str, ...]
    """Browse path of each field."""
    fields: bytes
    """One encoded Variant a path, behind a table of where each ends (`services.event_history`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One poll of one device: the row a driver hands on. Column i is `config.schema.Device.columns[i]`."""

    device: str
    source_time: int
    """When the device measured, ns UTC; of a failed poll, when it was due."""
    received_time: int
    """When the answer was complete here, ns UTC."""
    values: Floats
    """Engineering units as the column says, shape (n,); NaN where the cause says there is none."""
    causes: NDArray[np.uint8]
    """`Cause` of each value, shape (n,)."""
    phase: Phase = Phase.UNKNOWN
    cycle: int = 0
    """Counter of acquisition cycles, kept by the device."""
    heartbeat: int = 0
    flags: int = 0
    """Status bits of the device, `config.schema.StatusBit`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Values of one group of tags at one instant, with their quality: what is recorded and then shown.

    A group is a device (`EN01`, one column a register) or a result (`EN01.Stream01.Quality`).
    """

    group: str
    source_time: int
    received_time: int
    values: Floats
    """Shape (n,); NaN stands for null where the status is Bad. Of a column of 64-bit integers or Booleans (as 0 or 1):
    the 8 bytes of the value, viewed as a double."""
    status: Codes
    """`Quality` of each value, shape (n,)."""
    texts: Mapping[int, str] = field(default_factory=dict)
    """The text of each column that holds one, by position; its value is not looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tag:
    """One scalar numeric variable a SCADA can trend: a column of a group."""

    node: str
    """String identifier of the NodeId in ns=3, e.g. `EN01.Array.S01.SensorValue`."""
    unit: str
    """Key of `units.UNITS`."""
    low: float
    high: float
    """EURange, in the unit."""
    description: str
    data_type: str = "Double"
    """Built-in type on the wire: Double, Int32, UInt32."""
    historized: bool = True


@dataclass(frozen=True, slots=True)
class AggregateRules:
    """AggregateConfiguration (Part 13 4.2.1.2), and how a variable moves between samples; the standard's defaults."""

    stepped: bool = False
    """A value holds until the next one; else a straight line leads there."""
    uncertain_is_bad: bool = True
    percent_bad: int = 100
    percent_good: int = 100
    sloped_extrapolation: bool = False

    @property
    def valid(self) -> bool:
        """Whether the two percentages decide every interval."""
        return 100 - self.percent_bad <= self.percent_good <= 100 and self.percent_bad <= 100


class UpdateType(IntEnum):
    """HistoryUpdateType (Part 11 6.6.5); as PerformUpdateType 4 is Remove."""

    INSERT = 1
    REPLACE = 2
    UPDATE = 3
    DELETE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a detector, validation or the pipeline found, or found to be over. Alarms and exceptions follow from it."""

    kind: str
    """Row of the alarm table, e.g. `AnomalyDetected`, `CommunicationLost`."""
    source: str
    """Node the finding is about: `EN01`, `EN01.Stream01`."""
    time: int
    """Since when it is so, ns UTC: delays of alarms count from it, also over a restart."""
    level: str = ""
    """`High`, `HighHigh`, `Low`, `LowLow`, `Active`; empty: over."""
    value: float = float("nan")
    limit: float = float("nan")
    text: str = ""
    """Latin-1, self-contained: source, value, limit, unit, batch."""
    details: Mapping[str, str] = field(default_factory=dict)
    """Further fields of the event by name, e.g. TopChannels, PredictedClass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Basis:
    """What an alarm is judged by has another quality (Part 9 5.5.2)."""

    kind: str
    """As of a `Finding`."""
    source: str
    time: int
    quality: int
    """StatusCode; a `Quality`, or BadNoData of a result that decides nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Outcome of one acquisition cycle (process rules 1, 2): one cycle, one result."""

    result_id: str
    stream: str
    """`EN01.Stream01`."""
    started: int
    stopped: int
    """End of exposure: the SourceTimestamp of score and verdict."""
    verdict: Verdict
    reason: str
    """Why, in one line; never empty for NotOK and NotDecidable."""
    score: float = float("nan")
    """0..100, unit 1 (C62); NaN when not decidable."""
    uncertainty: float = float("nan")
    """Half width of the stated interval of the score, same unit."""
    anomaly: float = float("nan")
    """0..1; 0.5 at the limit."""
    predicted_class: str = ""
    """Nearest known odour, or `unknown`."""
    confidence: float = float("nan")
    reference_count: int = 0
    """Held-out good cycles behind the limits."""
    false_alarm_rate: float = float("nan")
    """Realised on the held-out cycles."""
    contributions: tuple[tuple[str, float], ...] = ()
    """(channel, share 0..1), largest first."""
    fingerprint: tuple[float, ...] = ()
    """Features of the cycle, model order."""
    model: str = ""
    """`PRODUCT/version`; empty without a model."""
    model_digest: str = ""
    batch_id: str = ""
    sample_id: str = ""
    simulated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """One agent's answer to 'may this batch be proposed for release?'."""

    agent: str
    answer: str
    """approve | reject | abstain."""
    confidence: float
    """0..1."""
    reason: str
    evidence: tuple[int, ...] = ()
    """Rows of `Recommendation.evidence` it rests on, counted from 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """What agents say to a person; never carries out anything (agents.md)."""

    recommendation_id: str
    agent: str
    subject: str
    """Node id or batch id the advice is about."""
    text: str
    """At most 254 Latin-1 characters."""
    rationale: str
    confidence: float
    priority: int
    """1..1000, as an event severity."""
    created: int
    expires: int
    evidence: tuple[tuple[str, str], ...] = ()
    """Numbered rows (name, value) the advice rests on."""
    votes: tuple[Vote, ...] = ()


@dataclass(slots=True)
class Counters:
    """What went through, since the start."""

    received: int = 0
    """Frames taken from sources."""
    recorded: int = 0
    """Frames committed and shown."""
    repeated: int = 0
    """Polls that found the measurement of the poll before: nothing new to record."""
    refused: int = 0
    """Frames and results that could not be recorded: lost, and counted here and in the log."""
    results: int = 0
    waits: deque[float] = field(default_factory=lambda: deque(maxlen=1000))
    """Seconds from `take` to shown, of the newest frames."""
