"""Conditions and happenings -> OPC UA event records (Part 5 6.4, Part 9). The only place that knows their fields."""

import math
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import IntEnum

from asyncua import ua

from nodesets import ids
from nodesets.model import Result
from nodesets.types import state_name
from opcua_server.plant.alarms import Condition
from opcua_server.services.nodes import TYPES_NS, Event, site

PROCESS, SYSTEM = ua.ObjectIds.ProcessConditionClassType, ua.ObjectIds.SystemConditionClassType
CLASS_NAMES = {PROCESS: "ProcessConditionClass", SYSTEM: "SystemConditionClass"}
KINDS: Mapping[str, tuple[ua.NodeId, int, str]] = {
    "CommunicationLost": (ua.NodeId(ua.ObjectIds.SystemOffNormalAlarmType), SYSTEM, "DeviceStateNumber"),
    "SensorFailure": (ua.NodeId(ua.ObjectIds.OffNormalAlarmType), SYSTEM, "DeviceHealth"),
    "AnomalyDetected": (ua.NodeId(ids.EnoseAnomalyAlarmType, TYPES_NS), PROCESS, "Quality.AnomalyScore"),
    "QualityScoreLow": (ua.NodeId(ua.ObjectIds.ExclusiveLevelAlarmType), PROCESS, "Quality.Score"),
}
"""Alarm kind -> event type, condition class, InputNode relative to the source."""
LIMIT_STATES = {
    "HighHigh": ua.ObjectIds.ExclusiveLimitStateMachineType_HighHigh,
    "High": ua.ObjectIds.ExclusiveLimitStateMachineType_High,
    "Low": ua.ObjectIds.ExclusiveLimitStateMachineType_Low,
    "LowLow": ua.ObjectIds.ExclusiveLimitStateMachineType_LowLow,
}
# The state machine of an exclusive alarm is in no state while the alarm is inactive (Part 9 5.8.12).
NOT_ACTIVE = ua.NodeId()


def date(time: int) -> datetime:
    """ns UTC as the library takes it; a time that never was is the OPC UA null date."""
    return datetime.fromtimestamp(time / 1e9, UTC).replace(tzinfo=None) if time else datetime(1601, 1, 1)  # noqa: DTZ001


def text(value: str) -> ua.Variant:
    return ua.Variant(ua.LocalizedText(value, "en"), ua.VariantType.LocalizedText)


def boolean(value: bool) -> ua.Variant:
    return ua.Variant(value, ua.VariantType.Boolean)


def string(value: str) -> ua.Variant:
    return ua.Variant(value, ua.VariantType.String)


def moment(time: int) -> ua.Variant:
    return ua.Variant(date(time), ua.VariantType.DateTime)


def double(value: float) -> ua.Variant:
    return ua.Variant(value, ua.VariantType.Double)


def number(value: int, kind: ua.VariantType = ua.VariantType.UInt32) -> ua.Variant:
    return ua.Variant(int(value), kind)


def node(value: ua.NodeId) -> ua.Variant:
    return ua.Variant(value, ua.VariantType.NodeId)


def machine_state(path: str, machine: str, state: IntEnum) -> dict[str, ua.Variant]:
    """CurrentState of a FiniteStateMachineType (Part 16 4.4.5), by path."""
    name = state_name(state)
    return {
        f"{path}.CurrentState": text(name),
        f"{path}.CurrentState.Id": node(ua.NodeId(getattr(ids, f"{machine}_{name}"), TYPES_NS)),
    }


def _two_state(path: str, on: bool, names: tuple[str, str], time: int) -> dict[str, ua.Variant]:
    """TwoStateVariableType (Part 9 5.2)."""
    return {
        path: text(names[0] if on else names[1]),
        f"{path}/Id": boolean(on),
        f"{path}/TransitionTime": moment(time),
    }


def condition_fields(condition: Condition) -> dict[str, ua.Variant]:
    """Value of every member of the condition, by browse path: what its nodes hold and its events carry."""
    _, condition_class, input_path = KINDS[condition.kind.kind]
    active = condition.state.active
    fields = {
        "ConditionClassId": node(ua.NodeId(condition_class)),
        "ConditionClassName": text(CLASS_NAMES[condition_class]),
        "ConditionName": string(condition.kind.kind),
        "BranchId": node(ua.NodeId()),
        "Retain": boolean(condition.retain),
        **_two_state("EnabledState", condition.enabled, ("Enabled", "Disabled"), condition.time),
        "Quality": ua.Variant(ua.StatusCode(0), ua.VariantType.StatusCode),
        "Quality/SourceTimestamp": moment(condition.time),
        "LastSeverity": number(condition.last_severity, ua.VariantType.UInt16),
        "LastSeverity/SourceTimestamp": moment(condition.time),
        "Comment": text(condition.comment),
        "Comment/SourceTimestamp": moment(condition.comment_time),
        "ClientUserId": string(condition.user),
        **_two_state("AckedState", condition.state.acked, ("Acknowledged", "Unacknowledged"), condition.time),
        **_two_state("ActiveState", active, ("Active", "Inactive"), condition.active_since),
        "InputNode": node(site(f"{condition.source}.{input_path}")),
        "SuppressedOrShelved": boolean(False),
    }
    if condition.kind.kind == "QualityScoreLow":
        state = LIMIT_STATES.get(condition.level)
        fields["LimitState/CurrentState"] = text(condition.level)
        fields["LimitState/CurrentState/Id"] = node(ua.NodeId(state) if state else NOT_ACTIVE)
    elif condition.kind.kind == "AnomalyDetected":
        details = condition.finding.details if condition.finding else {}
        high_high = condition.level == "HighHigh"
        fields |= _two_state(
            "HighState", condition.level in ("High", "HighHigh"), ("High active", "High inactive"), condition.time
        )
        fields |= _two_state("HighHighState", high_high, ("HighHigh active", "HighHigh inactive"), condition.time)
        for name in ("TopChannels", "PredictedClass", "ModelVersion", "FingerprintDigest"):
            fields[name] = string(details.get(name, ""))
    else:
        fields["NormalState"] = node(ua.NodeId())
    return fields


def message(condition: Condition) -> str:
    """Self-contained and Latin-1: WinCC OA shows source, time, text and severity only."""
    said = condition.finding.text if condition.finding else f"{condition.source}: {condition.kind.kind}"
    return said.encode("latin-1", "replace").decode("latin-1")


def condition_event(condition: Condition, received: int) -> Event:
    return Event(
        event_id=condition.event_id,
        event_type=KINDS[condition.kind.kind][0],
        source=site(condition.source),
        source_name=condition.source,
        time=condition.time,
        received=received,
        severity=condition.severity,
        message=message(condition),
        condition=site(condition.node),
        retain=condition.retain,
        fields=condition_fields(condition),
    )


def security_report(words: str, severity: int, now: int) -> Event:
    """Something about the server's own security that someone has to know at once (R29): a SystemEvent of Server."""
    return Event(
        event_id=uuid.uuid4().bytes,
        event_type=ua.NodeId(ua.ObjectIds.SystemEventType),
        source=ua.NodeId(ua.ObjectIds.Server),
        source_name="Server",
        time=now,
        received=now,
        severity=severity,
        message=words.encode("latin-1", "replace").decode("latin-1"),
    )


def _happening(
    event_type: int, source: str, time: int, now: int, severity: int, words: str, fields: dict[str, ua.Variant]
) -> Event:
    return Event(
        event_id=uuid.uuid4().bytes,
        event_type=ua.NodeId(event_type, TYPES_NS),
        source=site(source),
        source_name=source,
        time=time,
        received=now,
        severity=severity,
        message=words.encode("latin-1", "replace").decode("latin-1"),
        fields=fields,
    )


def result_ready(result: Result, now: int) -> Event:
    score = "" if math.isnan(result.score) else f", score {result.score:.1f}"
    return _happening(
        ids.ResultReadyEventType,
        result.stream,
        result.stopped,
        now,
        100,
        f"{result.stream}: result {result.result_id} {result.verdict.name}{score}",
        {
            "ResultId": string(result.result_id),
            "BatchId": string(result.batch_id),
            "Evaluation": number(result.verdict, ua.VariantType.Int32),
            "Score": ua.Variant() if math.isnan(result.score) else double(result.score),
        },
    )


def batch_state_changed(line: str, batch_id: str, user: str, before: str, after: str, now: int) -> Event:
    return _happening(
        ids.BatchStateChangedEventType,
        line,
        now,
        now,
        100,
        f"{line}: batch {batch_id} {before} -> {after} by {user}",
        {
            "BatchId": string(batch_id),
            "ClientUserId": string(user),
            "OldState": string(before),
            "NewState": string(after),
        },
    )


def recommendation_published(subject: str, recommendation_id: str, words: str, priority: int, now: int) -> Event:
    return _happening(
        ids.RecommendationPublishedEventType,
        "ENose.Agents",
        now,
        now,
        priority,
        words,
        {"RecommendationId": string(recommendation_id), "SubjectName": string(subject)},
    )


def signature_executed(signature_id: str, signer: str, meaning: str, record: str, now: int) -> Event:
    return _happening(
        ids.SignatureExecutedEventType,
        "ENose.Signatures",
        now,
        now,
        200,
        f"{record}: {meaning} signed by {signer}",
        {
            "SignatureId": string(signature_id),
            "Signer": string(signer),
            "Meaning": string(meaning),
            "RecordId": string(record),
        },
    )
