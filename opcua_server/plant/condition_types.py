"""Alarm kinds as OPC UA knows them: type, class, input, and the members every condition of ours has (Part 9)."""

from collections.abc import Mapping
from dataclasses import dataclass

from asyncua import ua

PROCESS, MAINTENANCE, SYSTEM, HIGHLY_MANAGED = (
    ua.ObjectIds.ProcessConditionClassType,
    ua.ObjectIds.MaintenanceConditionClassType,
    ua.ObjectIds.SystemConditionClassType,
    ua.ObjectIds.HighlyManagedAlarmConditionClassType,
)
CLASS_NAMES = {
    PROCESS: "ProcessConditionClass",
    MAINTENANCE: "MaintenanceConditionClass",
    SYSTEM: "SystemConditionClass",
    HIGHLY_MANAGED: "HighlyManagedAlarmConditionClass",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditionType:
    """What a kind of alarm is to a client."""

    type: str
    """Name of its ObjectType."""
    condition_class: int
    """ns0 id of its ConditionClass (Part 9 5.9)."""
    input: str
    """InputNode, relative to the source."""
    levels: tuple[str, ...] = ()
    """Of a limit alarm: the limits it has."""
    exclusive: bool = True
    """Of a limit alarm: in one limit state at a time."""
    texts: tuple[str, ...] = ()
    """Further members, taken from the details of the finding."""
    setpoint: str = ""
    """SetpointNode of a deviation alarm, relative to the source; empty: `Condition.partner`."""
    dialog: bool = False
    """Whether it asks (Part 9 5.6): it has none of the members of an alarm."""
    certificate: bool = False
    """Whether it tells of a certificate (Part 9 5.8.25)."""


CONDITION_TYPES: Mapping[str, ConditionType] = {
    "CommunicationLost": ConditionType(
        type="SystemOffNormalAlarmType", condition_class=SYSTEM, input="DeviceStateNumber"
    ),
    "SensorFailure": ConditionType(type="OffNormalAlarmType", condition_class=SYSTEM, input="DeviceHealth"),
    "HeaterFailure": ConditionType(type="OffNormalAlarmType", condition_class=SYSTEM, input="DeviceHealth"),
    "FlowLow": ConditionType(type="OffNormalAlarmType", condition_class=SYSTEM, input="DeviceHealth"),
    "DeviceFailure": ConditionType(type="InstrumentDiagnosticAlarmType", condition_class=SYSTEM, input="DeviceHealth"),
    "DeviceCheckFunction": ConditionType(
        type="InstrumentDiagnosticAlarmType", condition_class=MAINTENANCE, input="DeviceHealth"
    ),
    "DeviceOffSpec": ConditionType(
        type="InstrumentDiagnosticAlarmType", condition_class=MAINTENANCE, input="DeviceHealth"
    ),
    "DeviceMaintenanceRequired": ConditionType(
        type="InstrumentDiagnosticAlarmType", condition_class=MAINTENANCE, input="DeviceHealth"
    ),
    "LevelAlarm": ConditionType(
        type="ExclusiveLevelAlarmType",
        condition_class=PROCESS,
        input="SensorValue",
        levels=("High", "HighHigh", "Low", "LowLow"),
    ),
    "SensorDrift": ConditionType(
        type="ExclusiveLevelAlarmType", condition_class=MAINTENANCE, input="Array.DriftIndex", levels=("High",)
    ),
    "ChannelDisagreement": ConditionType(
        type="ExclusiveDeviationAlarmType", condition_class=MAINTENANCE, input="SensorValue", levels=("High", "Low")
    ),
    "FingerprintDeviation": ConditionType(
        type="ExclusiveDeviationAlarmType",
        condition_class=PROCESS,
        input="Quality.AnomalyScore",
        setpoint="Quality.Limits.AnomalyHigh",
        levels=("High",),
    ),
    "BatchExceptionOpen": ConditionType(
        type="OffNormalAlarmType", condition_class=PROCESS, input="Batch.OpenExceptionCount"
    ),
    "ReleaseOverdue": ConditionType(
        type="OffNormalAlarmType", condition_class=PROCESS, input="Batch.DispositionStateNumber"
    ),
    "Decision": ConditionType(type="DialogConditionType", condition_class=PROCESS, input="", dialog=True),
    "AuditChainBroken": ConditionType(type="TripAlarmType", condition_class=HIGHLY_MANAGED, input="ChainVerified"),
    "StorageFailure": ConditionType(type="SystemOffNormalAlarmType", condition_class=SYSTEM, input="LastError"),
    "CertificateExpiring": ConditionType(
        type="CertificateExpirationAlarmType", condition_class=SYSTEM, input="", certificate=True
    ),
    "AnomalyDetected": ConditionType(
        type="EnoseAnomalyAlarmType",
        condition_class=PROCESS,
        input="Quality.AnomalyScore",
        levels=("High", "HighHigh"),
        exclusive=False,
        texts=("TopChannels", "PredictedClass", "ModelVersion", "FingerprintDigest"),
    ),
    "QualityScoreLow": ConditionType(
        type="ExclusiveLevelAlarmType",
        condition_class=PROCESS,
        input="Quality.Score",
        levels=("Low", "LowLow"),
    ),
}

CONDITION_NAMES = frozenset(shown.type for shown in CONDITION_TYPES.values())
"""ObjectTypes that are conditions."""

_TIMED = (
    "EnabledState", "AckedState", "ConfirmedState", "ActiveState", "SuppressedState", "OutOfServiceState",
    "SilenceState",
)  # fmt: skip
_TWICE = ("Suppress", "Unsuppress", "RemoveFromService", "PlaceInService")
_MEMBERS = frozenset(
    {
        *_TIMED,
        *(f"{name}.TransitionTime" for name in _TIMED),
        *(f"{name}.{part}" for name in ("EnabledState", "ActiveState") for part in (
            "EffectiveDisplayName", "EffectiveTransitionTime",
        )),
        "Confirm", "ShelvingState", "MaxTimeShelved", "OnDelay", "OffDelay", "FirstInGroupFlag", "Silence",
        "ShelvingState.TimedShelve2", "ShelvingState.OneShotShelve2", "ShelvingState.Unshelve2",
        "ShelvingState.LastTransition",
        *_TWICE, *(f"{name}2" for name in _TWICE), "GetGroupMemberships",
    }
)  # fmt: skip
"""Optional members every alarm has."""
_DIALOG = frozenset(
    {
        "EnabledState.TransitionTime", "EnabledState.EffectiveDisplayName", "EnabledState.EffectiveTransitionTime",
        "DialogState.TransitionTime", "Respond2",
    }
)  # fmt: skip
_LATCH = frozenset({"LatchedState", "LatchedState.TransitionTime", "Reset", "Reset2"})


def optional_members(shown: ConditionType, *, latched: bool) -> frozenset[str]:
    """Optional members of a condition."""
    if shown.dialog:
        return _DIALOG
    members = _MEMBERS | (_LATCH if latched else frozenset())
    if shown.certificate:
        members |= {"ExpirationLimit"}
    for level in shown.levels:
        members |= {f"{level}Limit", f"Severity{level}"}
        if not shown.exclusive:
            members |= {f"{level}State", f"{level}State.TransitionTime"}
    return members
