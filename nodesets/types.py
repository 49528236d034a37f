"""Our types: what an e-nose, a line, an agent and their happenings look like (information model 1.1, 1.4, 1.5).

The source of `enose.xml`, which `python -m nodesets.generate` writes. Shapes and names follow LADS (array, results) and
ADI (stream, cycle, context). A type's number is its NodeId and never changes; a member's NodeId is its path.
"""

from collections.abc import Mapping
from enum import IntEnum
from pathlib import Path

from nodesets.declarations import Declaration, Type, analog, folder, group, item, placeholder, prop, variable
from nodesets.methods import methods_of
from nodesets.model import DispositionState, ExecutionState, Phase, Verdict

URI = "http://enose.dev/UA/ENose/"
VERSION = "1.0.0"
NODESET = Path(__file__).with_name("enose.xml")
"""What is generated from here, as a server imports it."""
PUBLISHED = "2026-11-01T00:00:00Z"
REQUIRED_VERSION = "1.05.02"
"""Of the standard nodeset: the first with everything used here."""
REQUIRED_PUBLISHED = "2022-11-01T00:00:00Z"


class DeviceHealth(IntEnum):
    """DI DeviceHealthEnumeration (NAMUR NE 107)."""

    NORMAL = 0
    FAILURE = 1
    CHECK_FUNCTION = 2
    OFF_SPEC = 3
    MAINTENANCE_REQUIRED = 4


class DeviceState(IntEnum):
    """ADI AnalyserDeviceStateMachineType; the numbers are frozen (process rule 18)."""

    POWERUP = 0
    OPERATING = 1
    LOCAL = 2
    MAINTENANCE = 3
    SHUTDOWN = 4


class ExecutionCycle(IntEnum):
    """ADI ExecutionCycleEnumeration."""

    IDLE = 0
    DIAGNOSTIC = 1
    CLEANING = 2
    CALIBRATION = 4
    VALIDATION = 8
    SAMPLING = 16


class AcquisitionResultStatus(IntEnum):
    """ADI AcquisitionResultStatusEnumeration."""

    NOT_USED = 0
    GOOD = 1
    BAD = 2
    UNKNOWN = 3
    PARTIAL = 4


class ChannelQuality(IntEnum):
    """Severity of a channel's StatusCode, as a number."""

    GOOD = 0
    UNCERTAIN = 1
    BAD = 2


class ExceptionDisposition(IntEnum):
    """What was decided about an exception of a batch."""

    OPEN = 0
    ACCEPT = 1
    INVESTIGATE = 2
    REJECT = 3


class AgentMode(IntEnum):
    """What agents may do."""

    OFF = 0
    ADVISE = 1


class RecommendationState(IntEnum):
    """What became of a recommendation."""

    EMPTY = 0
    PROPOSED = 1
    ACCEPTED = 2
    REJECTED = 3
    EXPIRED = 4
    SUPERSEDED = 5


ENUMS: Mapping[str, tuple[int, type[IntEnum]]] = {
    "DeviceHealthEnum": (3001, DeviceHealth),
    "DeviceStateEnum": (3002, DeviceState),
    "ExecutionCycleEnum": (3003, ExecutionCycle),
    "AcquisitionResultStatusEnum": (3004, AcquisitionResultStatus),
    "PhaseEnum": (3005, Phase),
    "ChannelQualityEnum": (3006, ChannelQuality),
    "VerdictEnum": (3007, Verdict),
    "BatchExecutionStateEnum": (3008, ExecutionState),
    "BatchDispositionStateEnum": (3009, DispositionState),
    "ExceptionDispositionEnum": (3010, ExceptionDisposition),
    "AgentModeEnum": (3011, AgentMode),
    "RecommendationStateEnum": (3012, RecommendationState),
}
"""NodeId number and members. Variables carry them as Int32 or UInt32, which every SCADA client can read."""


def state_name(member: IntEnum) -> str:
    """Browse name of a state: `UNDER_REVIEW` is `UnderReview`."""
    return member.name.title().replace("_", "")


def _states(enum: type[IntEnum]) -> dict[str, int]:
    return {state_name(m): m.value for m in enum}


def _edges(*edges: str) -> tuple[tuple[str, str], ...]:
    """`A B C -> D` is an edge from each of A, B, C to D."""
    return tuple((start, end) for edge in edges for starts, end in [edge.split(" -> ")] for start in starts.split())


def _verdict(name: str) -> Declaration:
    return variable(
        name,
        "Int32",
        "What the score means; the reason stands beside it",
        type="MultiStateValueDiscreteType",
        enum="VerdictEnum",
    )


def _string(name: str, description: str) -> Declaration:
    return variable(name, "String", description)


_MACHINES = (
    Type(
        name="EnoseDeviceStateMachineType",
        number=1010,
        base="FiniteStateMachineType",
        description="Operating state of the device, after ADI",
        states=_states(DeviceState),
        transitions=_edges(
            "Powerup Local Maintenance -> Operating",
            "Operating Maintenance -> Local",
            "Operating Local -> Maintenance",
            "Powerup Operating Local Maintenance -> Shutdown",
        ),
    ),
    Type(
        name="BatchExecutionStateMachineType",
        number=1011,
        base="FiniteStateMachineType",
        description="Execution of a batch, after ISA-88",
        states=_states(ExecutionState),
        transitions=_edges(
            "Idle Restarting -> Running",
            "Running -> Holding",
            "Holding -> Held",
            "Held -> Restarting",
            "Running -> Completing",
            "Completing -> Complete",
            "Running Held -> Stopping",
            "Stopping -> Stopped",
            "Idle Running Held -> Aborting",
            "Aborting -> Aborted",
        ),
    ),
    Type(
        name="BatchDispositionStateMachineType",
        number=1012,
        base="FiniteStateMachineType",
        description="Quality disposition of a batch",
        states=_states(DispositionState),
        transitions=_edges(
            "NotReady -> Quarantine",
            "Quarantine -> UnderReview",
            "UnderReview -> AwaitingSignature",
            "AwaitingSignature -> Released",
            "Quarantine UnderReview AwaitingSignature -> Rejected",
            "UnderReview AwaitingSignature -> Quarantine",
            "Released -> Recalled",
        ),
    ),
)

_DEVICE = (
    Type(
        name="EnoseIdentificationType",
        number=1002,
        base="BaseObjectType",
        description="Nameplate, after DI",
        members=(
            prop("Manufacturer", "LocalizedText", "As the device tells it"),
            prop("Model", "LocalizedText", "As the device tells it"),
            prop("SerialNumber", "String", "As the device tells it"),
            prop("SoftwareRevision", "String", "Firmware, as the device tells it"),
            prop("ComponentName", "String", "Name of the device in the plant"),
        ),
    ),
    Type(
        name="EnoseChannelType",
        number=1003,
        base="BaseObjectType",
        description="One element of the sensor array, after LADS AnalogScalarSensorFunctionType",
        members=(
            variable(
                "SensorValue",
                "Double",
                "Measured value",
                type="AnalogUnitRangeType",
                unit="C62",
                members=(prop("InstrumentRange", "Range"),),
            ),
            analog("NormalizedValue", "C62", 0, 10, "Value divided by the baseline of its cycle", rule="Optional"),
            variable(
                "Baseline",
                "Double",
                "Value in reference air, this cycle; unit as SensorValue",
                type="AnalogUnitRangeType",
                unit="C62",
            ),
            analog("HeaterTemperature", "CEL", 0, 500, "Temperature of the heater", rule="Optional"),
            variable("Quality", "Int32", "Whether the value can be used", enum="ChannelQualityEnum"),
            prop("Technology", "String", "MOS, PID, QCM, EC, NDIR or CAP"),
            prop("TargetGas", "String", "What it answers to most"),
        ),
    ),
    Type(
        name="EnoseSensorArrayType",
        number=1004,
        base="BaseObjectType",
        description="The sensor elements of a device, after LADS MultiSensorFunctionType",
        members=(
            variable("ChannelCount", "UInt32", "Number of channels"),
            analog("DataQuality", "C62", 0, 1, "Mean over the values of the last frame: Good 1, Uncertain 0.5, Bad 0"),
            analog("DriftIndex", "C62", 0, 1, "How far the baselines have drifted; 0.5 where the model's range ends"),
            variable("ChannelIds", "String", "Names of the channels, in the order of the vectors", array=True),
            analog("SensorVector", "C62", 0, 1, "SensorValue of every channel; units as there", array=True),
            analog("NormalizedVector", "C62", 0, 10, "NormalizedValue of every channel", rule="Optional", array=True),
            placeholder("Channel", "EnoseChannelType"),
        ),
    ),
    Type(
        name="EnoseEnvironmentType",
        number=1005,
        base="BaseObjectType",
        description="Air and sample around the array",
        members=tuple(
            analog(name, unit, low, high, description, rule="Optional")
            for name, unit, low, high, description in (
                ("Temperature", "CEL", -40, 125, "Temperature at the array"),
                ("RelativeHumidity", "P1", 0, 100, "Relative humidity at the array"),
                ("Pressure", "A97", 300, 1100, "Absolute pressure at the array"),
                ("SampleFlow", "41", 0, 1000, "Flow of the sample"),
                ("pH", "Q30", 0, 14, "pH of the sample"),
            )
        ),
    ),
    Type(
        name="EnoseQualityType",
        number=1006,
        base="BaseObjectType",
        description="Outcome of the last acquisition cycle: one cycle, one result",
        members=(
            analog("Score", "C62", 0, 100, "Quality score; NaN when it cannot be decided"),
            analog("ScoreUncertainty", "C62", 0, 100, "Half width of the stated interval of the score"),
            _verdict("Verdict"),
            _string("VerdictText", "Name of the verdict"),
            _string("VerdictReason", "Why"),
            analog("AnomalyScore", "C62", 0, 1, "Distance from good cycles; 0.5 at the limit"),
            _string("PredictedClass", "Nearest known odour, or unknown"),
            variable("Confidence", "Double", "Of the predicted class, 0 to 1"),
            variable("ReferenceCount", "UInt32", "Held-out good cycles behind the limits"),
            variable("FalseAlarmRate", "Double", "Realised on the held-out cycles, 0 to 1"),
            group(
                "Limits",
                "Limits of the approved model; versioned records, never written",
                variable("ScoreLow", "Double", "Score below it: not OK"),
                variable("ScoreLowLow", "Double", "Lowest score there is: farther than every good cycle"),
                variable("AnomalyHigh", "Double", "Anomaly score above it: alarm"),
                variable("AnomalyHighHigh", "Double", "Anomaly score above it: urgent alarm"),
            ),
        ),
    ),
    Type(
        name="EnoseResultType",
        number=1007,
        base="BaseObjectType",
        description="One result in the ring, after LADS ResultType",
        members=(
            _string("ResultId", "Name of the result"),
            _string("BatchId", "Batch it belongs to; empty outside a batch"),
            _string("SampleId", "Sample it belongs to"),
            variable("Started", "DateTime", "Begin of the cycle, UTC"),
            variable("Stopped", "DateTime", "End of the exposure, UTC"),
            variable("Evaluation", "Int32", "Verdict", enum="VerdictEnum"),
            variable("Score", "Double", "0 to 100; NaN when it cannot be decided"),
            variable("Fingerprint", "Float", "Features of the cycle, in the order of the model", array=True),
            _string("ModelVersion", "PRODUCT/version of the model"),
            variable("IsSimulated", "Boolean", "From a simulator or a replay; never released outside a demo site"),
        ),
    ),
    Type(
        name="EnoseStreamType",
        number=1008,
        base="BaseObjectType",
        description="One sampling line of a device, after ADI StreamType",
        notifier=True,
        members=(
            group("Configuration", "How the stream is set up", variable("IsEnabled", "Boolean", "Takes samples")),
            group(
                "AcquisitionSettings",
                "Durations of a cycle",
                analog("TimeBetweenSamples", "SEC", 0, 3600, "Period of the readings"),
                analog("BaselineDuration", "SEC", 0, 86400, "Reference air before exposure"),
                analog("ExposureDuration", "SEC", 0, 86400, "Sample"),
                analog("PurgeDuration", "SEC", 0, 86400, "Cleaning air after it"),
            ),
            group(
                "AcquisitionStatus",
                "Where the cycle stands",
                variable("IsActive", "Boolean", "A cycle runs"),
                variable("IsPurging", "Boolean", "Cleaning air after the sample: no flow is no news"),
                variable("ExecutionCycle", "Int32", "Kind of the running cycle", enum="ExecutionCycleEnum"),
                variable("Phase", "Int32", "Phase of the running cycle", enum="PhaseEnum"),
                variable(
                    "Progress",
                    "Float",
                    "Share of the cycle that is done",
                    type="AnalogUnitRangeType",
                    unit="P1",
                    high=100,
                ),
            ),
            group(
                "AcquisitionData",
                "What the last cycle brought",
                variable("AcquisitionCounter", "UInt32", "Cycles since the device started"),
                variable("AcquisitionResultStatus", "Int32", "Last cycle", enum="AcquisitionResultStatusEnum"),
                variable("AcquisitionEndTime", "DateTime", "End of the last exposure, UTC"),
            ),
            group(
                "ChemometricModelSettings",
                "The approved model in use",
                _string("ModelName", "Product the model was learned for"),
                _string("ModelVersion", "PRODUCT/version"),
                _string("ModelDigest", "SHA-256 of the model, hex"),
                _string("ApprovedBy", "Who signed its approval"),
                variable("EffectiveFrom", "DateTime", "When it was approved, UTC"),
            ),
            group(
                "Context",
                "What is being measured; set by SetContext and BatchControl",
                *(
                    _string(name, description)
                    for name, description in (
                        ("CampaignId", "Campaign"),
                        ("BatchId", "Batch; only BatchControl sets it"),
                        ("SubBatchId", "Part of the batch; only BatchControl sets it"),
                        ("LotId", "Lot of the material; only BatchControl sets it"),
                        ("MaterialId", "Material; only BatchControl sets it"),
                        ("Process", "Process"),
                        ("Unit", "Unit of the plant"),
                        ("Operation", "Operation of the recipe"),
                        ("Phase", "Phase of the recipe"),
                        ("UserId", "Who stands at the line"),
                        ("SampleId", "Sample"),
                    )
                ),
            ),
            item("Quality", "EnoseQualityType", "Outcome of the last cycle"),
            folder(
                "Results",
                "The last twenty results, a ring",
                item("Latest", "EnoseResultType", "Newest result"),
                placeholder("Slot", "EnoseResultType"),
            ),
            folder("Alarms", "Conditions of the stream", placeholder("Alarm", "AlarmConditionType"), notifier=True),
        ),
    ),
    Type(
        name="EnoseDeviceType",
        number=1001,
        base="BaseObjectType",
        description="An electronic nose, after LADSDeviceType and ADI AnalyserDeviceType",
        notifier=True,
        members=(
            item("Identification", "EnoseIdentificationType", "Nameplate"),
            variable("DeviceHealth", "Int32", "Health after NAMUR NE 107", enum="DeviceHealthEnum"),
            item("DeviceState", "EnoseDeviceStateMachineType", "Operating state"),
            variable("DeviceStateNumber", "UInt32", "Operating state, as a number", enum="DeviceStateEnum"),
            item("Array", "EnoseSensorArrayType", "Sensor elements"),
            item("Environment", "EnoseEnvironmentType", "Air and sample around the array"),
            folder("Alarms", "Conditions of the device", placeholder("Alarm", "AlarmConditionType"), notifier=True),
            folder(
                "DeviceHealthAlarms",
                "Conditions of its health, after DI",
                placeholder("Alarm", "AlarmConditionType"),
                notifier=True,
            ),
            group("MethodSet", "Methods of the device", *methods_of("MethodSet")),
            placeholder("Stream", "EnoseStreamType"),
        ),
    ),
    Type(
        name="EnoseAnomalyAlarmType",
        number=1020,
        base="NonExclusiveLevelAlarmType",
        description="The anomaly score of a stream is above its limit",
        members=(
            prop("TopChannels", "String", "Channels that contribute most, with their share"),
            prop("PredictedClass", "String", "Nearest known odour, or unknown"),
            prop("ModelVersion", "String", "PRODUCT/version of the model"),
            prop("FingerprintDigest", "String", "SHA-256 of the fingerprint, hex"),
        ),
    ),
    Type(
        name="EnoseAlarmTagsType",
        number=1021,
        base="BaseInterfaceType",
        abstract=True,
        description="An alarm as plain tags, for SCADA without Alarms and Conditions; Severity is the condition's own",
        members=(
            variable("Active", "Boolean", "The alarm is active"),
            variable("Acked", "Boolean", "The alarm is acknowledged"),
            _string("Text", "Message of the alarm"),
        ),
    ),
)

_LINE = (
    Type(
        name="EnoseExceptionType",
        number=1030,
        base="BaseObjectType",
        description="One slot of the exceptions of a batch",
        members=(
            _string("ExceptionId", "Name of the exception"),
            _string("Kind", "What kind of exception"),
            variable("Severity", "UInt16", "1 to 1000; critical from 750"),
            _string("Text", "What happened"),
            variable("RaisedAt", "DateTime", "UTC"),
            variable("Disposition", "Int32", "What was decided", enum="ExceptionDispositionEnum"),
            _string("DispositionedBy", "Who decided"),
        ),
    ),
    Type(
        name="EnoseBatchType",
        number=1031,
        base="BaseObjectType",
        description="The batch in execution on a line, or the last one: the slot a SCADA system binds to",
        members=(
            _string("BatchId", "Batch"),
            _string("ProductId", "Product"),
            _string("RecipeId", "Recipe of the MES"),
            _string("LotId", "Lot of the material"),
            variable("StartTime", "DateTime", "UTC"),
            variable("EndTime", "DateTime", "UTC"),
            variable("PlannedQuantity", "Double", "In the unit of the product"),
            variable("SampleCount", "UInt32", "Results so far"),
            item("ExecutionState", "BatchExecutionStateMachineType", "Execution"),
            item("DispositionState", "BatchDispositionStateMachineType", "Quality disposition"),
            variable("ExecutionStateNumber", "UInt32", "Execution, as a number", enum="BatchExecutionStateEnum"),
            variable(
                "DispositionStateNumber", "UInt32", "Quality disposition, as a number", enum="BatchDispositionStateEnum"
            ),
            _string("StateText", "Both states, in words"),
            variable("QualityScore", "Double", "Score of the newest result, 0 to 100"),
            variable("MinScore", "Double", "Lowest score of the batch"),
            variable("MeanScore", "Double", "Mean score of the batch"),
            variable("Verdict", "Int32", "Verdict about the batch", enum="VerdictEnum"),
            variable("OpenExceptionCount", "UInt32", "Exceptions without disposition"),
            variable("CriticalExceptionCount", "UInt32", "Critical exceptions without disposition"),
            variable("ReviewByExceptionEligible", "Boolean", "Evaluated, and no open exception"),
            _string("RecordDigest", "SHA-256 of the batch record, hex"),
            _string("ReleaseId", "Name of the release"),
            _string("ReleasedBy", "Printed name of who released"),
            variable("ReleasedAt", "DateTime", "UTC"),
            _string("LastCallResult", "Outcome of the last call of BatchControl, in words"),
            folder("Exceptions", "The newest ten exceptions", placeholder("Slot", "EnoseExceptionType")),
        ),
    ),
    Type(
        name="EnoseBatchSummaryType",
        number=1032,
        base="BaseObjectType",
        description="One slot of the recent batches of a line: a view, the record is got by GetBatchSummary",
        members=(
            _string("BatchId", "Batch"),
            variable("ExecutionStateNumber", "UInt32", "Execution", enum="BatchExecutionStateEnum"),
            variable("DispositionStateNumber", "UInt32", "Quality disposition", enum="BatchDispositionStateEnum"),
            variable("Verdict", "Int32", "Verdict about the batch", enum="VerdictEnum"),
            variable("OpenExceptionCount", "UInt32", "Exceptions without disposition"),
            _string("ReleaseId", "Name of the release"),
            _string("RecordDigest", "SHA-256 of the batch record, hex"),
        ),
    ),
    Type(
        name="BatchControlType",
        number=1033,
        base="BaseObjectType",
        description="Batch methods of a line, for SCADA and MES",
        members=methods_of("BatchControl"),
    ),
    Type(
        name="EnoseLineType",
        number=1034,
        base="BaseObjectType",
        description="A production line and its batches",
        notifier=True,
        members=(
            item("Batch", "EnoseBatchType", "The batch in execution, or the last one"),
            folder("Recent", "The newest ten batches", placeholder("Slot", "EnoseBatchSummaryType")),
            item("BatchControl", "BatchControlType", "Batch methods"),
            placeholder("Alarm", "AlarmConditionType"),
        ),
    ),
)

_SITE = (
    Type(
        name="AgentRecommendationType",
        number=1040,
        base="BaseObjectType",
        description="One slot of advice to a person; carries out nothing",
        members=(
            _string("RecommendationId", "Name of the recommendation"),
            _string("AgentName", "Agent that says it"),
            _string("SubjectName", "What it is about: node or batch"),
            _string("Text", "What is recommended"),
            _string("Rationale", "Why, with the numbers of the evidence"),
            variable("Confidence", "Double", "0 to 1"),
            variable("Priority", "UInt16", "1 to 1000, as a severity"),
            variable("CreatedAt", "DateTime", "UTC"),
            variable("ExpiresAt", "DateTime", "UTC"),
            variable("State", "Int32", "What became of it", enum="RecommendationStateEnum"),
            _string("DecidedBy", "Who decided"),
            variable("DecidedAt", "DateTime", "UTC"),
            _string("EvidenceDigest", "SHA-256 of the evidence, hex"),
        ),
    ),
    Type(
        name="AgentSystemType",
        number=1041,
        base="BaseObjectType",
        description="Agents and their advice",
        notifier=True,
        members=(
            variable("Enabled", "Boolean", "Agents run"),
            variable("Mode", "Int32", "What they may do", enum="AgentModeEnum"),
            variable("ActiveCount", "UInt32", "Recommendations that wait for a person"),
            *methods_of("Agents"),
            placeholder("Slot", "AgentRecommendationType"),
        ),
    ),
    Type(
        name="SignatureServiceType",
        number=1042,
        base="BaseObjectType",
        description="Electronic signatures: request, execute, bound to a record digest",
        notifier=True,
        members=(
            variable("PendingCount", "UInt32", "Requests that wait for their signature"),
            _string("LastSignatureId", "Newest signature"),
            *methods_of("Signatures"),
        ),
    ),
    Type(
        name="ModelServiceType",
        number=1043,
        base="BaseObjectType",
        description="Learning and approval of product models",
        members=methods_of("Models"),
    ),
    Type(
        name="SecurityServiceType",
        number=1044,
        base="BaseObjectType",
        description="Accounts",
        members=methods_of("Security"),
    ),
    Type(
        name="ComplianceType",
        number=1045,
        base="BaseObjectType",
        description="State of the audit log",
        members=(
            variable("AuditTrailLength", "UInt32", "Entries in the log"),
            _string("AuditChainHead", "Hash of the newest entry, hex"),
            variable("ChainVerified", "Boolean", "The last verification found nothing"),
            variable("LastVerification", "DateTime", "UTC"),
            *methods_of("Compliance"),
        ),
    ),
    Type(
        name="EnoseAlarmMetricsType",
        number=1047,
        base="AlarmMetricsType",
        description="How the alarms do, with the figures of ISA-18.2; rates are alarms in 10 minutes",
        members=(
            variable("AlarmFlood", "Boolean", "More than 10 alarms in 10 minutes, and not yet fewer than 5 again"),
            variable("Standing", "UInt32", "Active alarms"),
            variable("StandingInformation", "UInt32", "Those of severity to 249"),
            variable("StandingWarning", "UInt32", "Those of severity to 499"),
            variable("StandingHigh", "UInt32", "Those of severity to 749"),
            variable("StandingCritical", "UInt32", "Those of severity from 750"),
            variable("Stale", "UInt32", "Alarms active for more than a day"),
            variable("Unacknowledged", "UInt32", "Alarms nobody has acknowledged"),
            variable("Hidden", "UInt32", "Alarms shelved, suppressed or out of service"),
            variable("Chattering", "UInt32", "Alarms that came three times within a minute, in the last 10 minutes"),
            variable("OldestActive", "DateTime", "Since when the oldest active alarm is, UTC"),
        ),
    ),
    Type(
        name="DiagnosticsType",
        number=1046,
        base="BaseObjectType",
        description="How the service itself does",
        members=(
            variable("SampleRate", "Double", "Values recorded a second"),
            variable("QueueDepth", "UInt32", "Frames that wait for the disk"),
            variable("FramesReceived", "UInt32", "Polls of devices since the start, failed ones too"),
            variable("FramesRepeated", "UInt32", "Polls that found the measurement of the poll before"),
            variable("FramesStored", "UInt32", "Frames on the disk, and shown, since the start"),
            variable("FramesLost", "UInt32", "Frames that could not be recorded"),
            variable("CommitWait", "Double", "Median time from a frame to its display, the commit between, ms"),
            variable("ScheduleOverruns", "UInt32", "Polls that were due and could not begin in their period"),
            variable("ScheduleLagMedian", "Double", "How late polls began, median of the newest, ms"),
            variable("ScheduleLagP99", "Double", "How late polls began, 99 % of the newest within, ms"),
            _string("LastError", "What recording failed with; empty when it goes through"),
            variable("DemoMode", "Boolean", "Simulated results may be released; stands on every record"),
            _string("SoftwareVersion", "Version of the running service"),
            _string("ConfigurationDigest", "SHA-256 of the plant's configuration, hex"),
        ),
    ),
    Type(
        name="EnoseSystemType",
        number=1000,
        base="BaseObjectType",
        description="A site's e-noses, lines and services",
        notifier=True,
        members=(
            folder("Devices", "Electronic noses", placeholder("Device", "EnoseDeviceType")),
            folder("Lines", "Production lines", placeholder("Line", "EnoseLineType")),
            folder("Alarms", "Conditions of the service", placeholder("Alarm", "AlarmConditionType"), notifier=True),
            item("Agents", "AgentSystemType", "Agents and their advice"),
            item("Signatures", "SignatureServiceType", "Electronic signatures"),
            item("Models", "ModelServiceType", "Product models"),
            item("Security", "SecurityServiceType", "Accounts"),
            item("Compliance", "ComplianceType", "Audit log"),
            item("Diagnostics", "DiagnosticsType", "The service itself"),
            item("AlarmMetrics", "EnoseAlarmMetricsType", "How the alarms do"),
        ),
    ),
)

_EVENTS = (
    Type(
        name="ResultReadyEventType",
        number=2001,
        base="BaseEventType",
        description="A cycle has its result",
        members=(
            prop("ResultId", "String"),
            prop("BatchId", "String"),
            prop("Evaluation", "Int32", enum="VerdictEnum"),
            prop("Score", "Double"),
        ),
    ),
    Type(
        name="BatchStateChangedEventType",
        number=2002,
        base="BaseEventType",
        description="A batch changed its execution or disposition",
        members=(
            prop("BatchId", "String"),
            prop("ClientUserId", "String"),
            prop("OldState", "String"),
            prop("NewState", "String"),
        ),
    ),
    Type(
        name="BatchExceptionRaisedEventType",
        number=2003,
        base="BaseEventType",
        description="Something happened to a batch that a person has to decide about",
        members=(prop("BatchId", "String"), prop("ExceptionId", "String"), prop("Kind", "String")),
    ),
    Type(
        name="RecommendationPublishedEventType",
        number=2004,
        base="BaseEventType",
        description="An agent recommends something to a person",
        members=(prop("RecommendationId", "String"), prop("SubjectName", "String")),
    ),
    Type(
        name="SignatureExecutedEventType",
        number=2005,
        base="BaseEventType",
        description="A record was signed",
        members=(
            prop("SignatureId", "String"),
            prop("Signer", "String"),
            prop("Meaning", "String"),
            prop("RecordId", "String"),
        ),
    ),
    Type(
        name="AuditBatchActionEventType",
        number=2010,
        base="AuditUpdateMethodEventType",
        description="A batch method was called",
        members=(prop("BatchId", "String"), prop("OldState", "String"), prop("NewState", "String")),
    ),
    Type(
        name="AuditElectronicSignatureEventType",
        number=2011,
        base="AuditUpdateMethodEventType",
        description="A signature method was called; secrets are masked",
        members=(prop("RecordId", "String"), prop("RecordDigest", "String"), prop("Meaning", "String")),
    ),
)

TYPES: Mapping[str, Type] = {t.name: t for t in (*_MACHINES, *_DEVICE, *_LINE, *_SITE, *_EVENTS)}


def described(d: Declaration) -> str:
    """The description, with the numbers of an enumeration."""
    if not d.enum or d.type == "MultiStateValueDiscreteType":
        return d.description
    numbers = ", ".join(f"{m.value} {m.name}" for m in ENUMS[d.enum][1])
    return f"{d.description}: {numbers}" if d.description else numbers
