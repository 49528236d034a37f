"""Conditions and happenings -> OPC UA event records (Part 5 6.4, Part 9). The only place that knows their fields."""

import math
import uuid
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from enum import IntEnum
from functools import lru_cache

from asyncua import ua

from compliance.exceptions import BatchException
from nodesets import ids
from nodesets.model import Finding, Result
from nodesets.types import state_name
from opcua_server.plant import alarm_texts
from opcua_server.plant.alarm_figures import BANDS, Metrics
from opcua_server.plant.alarm_states import RESPONSE, Branch, Condition, Notification, Shelving
from opcua_server.plant.condition_types import CLASS_NAMES, CONDITION_TYPES, ConditionType
from opcua_server.plant.templates import type_id
from opcua_server.services.nodes import TYPES_NS, Event, site

LIMIT_STATES = {
    "HighHigh": ua.ObjectIds.ExclusiveLimitStateMachineType_HighHigh,
    "High": ua.ObjectIds.ExclusiveLimitStateMachineType_High,
    "Low": ua.ObjectIds.ExclusiveLimitStateMachineType_Low,
    "LowLow": ua.ObjectIds.ExclusiveLimitStateMachineType_LowLow,
}
SHELVING_STATES = {
    Shelving.UNSHELVED: ua.ObjectIds.ShelvedStateMachineType_Unshelved,
    Shelving.TIMED: ua.ObjectIds.ShelvedStateMachineType_TimedShelved,
    Shelving.ONE_SHOT: ua.ObjectIds.ShelvedStateMachineType_OneShotShelved,
}
LASTING = frozenset(
    {
        "ConditionClassId", "ConditionClassName", "ConditionName", "BranchId", "Retain", "ClientUserId", "Comment",
        "Comment/SourceTimestamp", "Message", "EnabledState", "EnabledState/Id", "EnabledState/TransitionTime",
        "EnabledState/EffectiveDisplayName", "EnabledState/EffectiveTransitionTime",
    }
)  # fmt: skip
"""What a disabled condition still tells; all else of its last event is BadConditionDisabled (Part 9 5.5.2)."""
DISABLED = ua.Variant(ua.StatusCode(ua.StatusCodes.BadConditionDisabled), ua.VariantType.StatusCode)
EXPIRATION_LIMIT = 30 * 24 * 3600.0
"""Seconds before its end that a certificate is told of (information model 1.5)."""
RESPONSES = ("Accept", "Reject", "Defer")
"""To a recommendation (information model 1.5)."""
ACCEPT, DEFER = RESPONSES.index("Accept"), RESPONSES.index("Defer")
RATE_MINUTES = 10
"""Over which rates of alarms are counted (Part 9 9.3)."""


REMEMBERED = 1024
"""Variants of one kind that are made once: the members of a condition's event are mostly the same few."""


def date(time: int) -> datetime:
    """ns UTC as the library takes it, to the microsecond; a time that never was is the OPC UA null date."""
    if not time:
        return datetime(1601, 1, 1)  # noqa: DTZ001
    seconds, rest = divmod(time, 10**9)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest // 1000, tzinfo=None)


@lru_cache(REMEMBERED)
def text(value: str) -> ua.Variant:
    return ua.Variant(ua.LocalizedText(value, "en"), ua.VariantType.LocalizedText)


@lru_cache(REMEMBERED)
def said(value: str, locale: str) -> ua.Variant:
    """What a person said, as it was said; null for nothing (Part 9 5.5.2)."""
    words = ua.LocalizedText(value, locale or None) if value or locale else ua.LocalizedText()
    return ua.Variant(words, ua.VariantType.LocalizedText)


@lru_cache(REMEMBERED)
def boolean(value: bool) -> ua.Variant:
    return ua.Variant(value, ua.VariantType.Boolean)


def string(value: str) -> ua.Variant:
    return ua.Variant(value, ua.VariantType.String)


@lru_cache(REMEMBERED)
def moment(time: int) -> ua.Variant:
    return ua.Variant(date(time), ua.VariantType.DateTime)


def double(value: float) -> ua.Variant:
    return ua.Variant(value, ua.VariantType.Double)


@lru_cache(REMEMBERED)
def number(value: int, kind: ua.VariantType = ua.VariantType.UInt32) -> ua.Variant:
    return ua.Variant(int(value), kind)


def node(value: ua.NodeId) -> ua.Variant:
    return ua.Variant(value, ua.VariantType.NodeId)


@lru_cache(REMEMBERED)
def standard(number: int | None) -> ua.Variant:
    """A node of OPC UA's own namespace; None: none."""
    return node(ua.NodeId() if number is None else ua.NodeId(number))


def machine_state(path: str, machine: str, state: IntEnum) -> dict[str, ua.Variant]:
    """CurrentState of a FiniteStateMachineType (Part 16 4.4.5), by path."""
    name = state_name(state)
    return {
        f"{path}.CurrentState": text(name),
        f"{path}.CurrentState.Id": node(ua.NodeId(getattr(ids, f"{machine}_{name}"), TYPES_NS)),
    }


@lru_cache(REMEMBERED)
def duration(seconds: float) -> ua.Variant:
    """Duration (Part 3 8.13): milliseconds."""
    return double(seconds * 1000)


def _two_state(path: str, on: bool, names: tuple[str, str], time: int) -> dict[str, ua.Variant]:
    """TwoStateVariableType (Part 9 5.2); names of annex A."""
    return {
        path: text(names[0] if on else names[1]),
        f"{path}/Id": boolean(on),
        f"{path}/TransitionTime": moment(time),
    }


def branch_id(condition: Condition, branch: Branch) -> ua.NodeId:
    """Null for the present state (Part 9 5.5.2)."""
    return site(f"{condition.node}.Branch{branch.number}") if branch.number else ua.NodeId()


Limits = Mapping[str, float]
"""By level; in the unit of the input."""
NO_LIMIT = double(math.nan)
"""A limit there is not: one object, since NaN equals nothing but itself."""


def condition_fields(condition: Condition, branch: Branch, now: int, limits: Limits) -> dict[str, ua.Variant]:
    """Value of every member of the condition, by browse path: what its nodes hold and its events carry."""
    shown = CONDITION_TYPES[condition.kind.kind]
    return {
        "ConditionClassId": standard(shown.condition_class),
        "ConditionClassName": text(CLASS_NAMES[shown.condition_class]),
        "ConditionName": string(condition.kind.kind),
        "BranchId": node(branch_id(condition, branch)),
        "Retain": boolean(condition.retains(branch)),
        **_two_state("EnabledState", condition.enabled.on, ("Enabled", "Disabled"), condition.enabled.time),
        "EnabledState/EffectiveDisplayName": text(effective_state(condition, branch)),
        "EnabledState/EffectiveTransitionTime": moment(branch.time),
        **quality_fields(branch),
        "LastSeverity": number(branch.last_severity, ua.VariantType.UInt16),
        "LastSeverity/SourceTimestamp": moment(branch.severity_time),
        "Comment": said(branch.comment, branch.comment_locale),
        "Comment/SourceTimestamp": moment(branch.comment_time),
        "ClientUserId": string(branch.user),
        **(_dialog_fields(branch) if shown.dialog else _alarm_fields(condition, branch, shown, now, limits)),
    }


def _dialog_fields(branch: Branch) -> dict[str, ua.Variant]:
    """What only a dialog has (Part 9 5.6.2). No response stands out: a person decides (agents.md L15)."""
    details = branch.finding.details if branch.finding else {}
    named = {"DefaultResponse": -1, "OkResponse": ACCEPT, "CancelResponse": DEFER}
    numbers = named | {"LastResponse": int(details.get(RESPONSE, "-1"))}
    return {
        **_two_state("DialogState", branch.state.active, ("Active", "Inactive"), branch.active_time),
        "Prompt": text(branch.finding.text if branch.finding else ""),
        "ResponseOptionSet": ua.Variant(
            [ua.LocalizedText(name, "en") for name in RESPONSES], ua.VariantType.LocalizedText
        ),
        **{name: number(value, ua.VariantType.Int32) for name, value in numbers.items()},
    }


def _alarm_fields(
    condition: Condition, branch: Branch, shown: ConditionType, now: int, limits: Limits
) -> dict[str, ua.Variant]:
    """What only an alarm has (Part 9 5.7, 5.8)."""
    return {
        "InputNode": node(site(f"{condition.source}.{shown.input}")) if shown.input else standard(None),
        "MaxTimeShelved": duration(condition.kind.max_shelved),
        "OnDelay": duration(condition.kind.on_delay),
        "OffDelay": duration(condition.kind.off_delay),
        "FirstInGroupFlag": boolean(condition.first),
        **_answer_fields(branch),
        **_service_fields(condition, now),
        **_kind_fields(condition, branch, shown),
        **{f"{level}Limit": _known(value) for level, value in limits.items()},
    }


def quality_fields(branch: Branch) -> dict[str, ua.Variant]:
    """Quality of what it is judged by, and since when (Part 9 5.5.2)."""
    return {
        "Quality": ua.Variant(ua.StatusCode(branch.quality), ua.VariantType.StatusCode),
        "Quality/SourceTimestamp": moment(branch.quality_time),
    }


def _known(value: float) -> ua.Variant:
    """A number; null where there is none."""
    return double(value) if math.isfinite(value) else ua.Variant()


def _answer_fields(branch: Branch) -> dict[str, ua.Variant]:
    """What is true, and what people owe."""
    state = branch.state
    active = "Active" if state.active else "Inactive"
    return {
        **_two_state("ActiveState", state.active, ("Active", "Inactive"), branch.active_time),
        "ActiveState/EffectiveDisplayName": text(f"{active}/{branch.level}" if _limit(branch) else active),
        "ActiveState/EffectiveTransitionTime": moment(max(branch.active_time, branch.severity_time)),
        **_two_state("AckedState", state.acked, ("Acknowledged", "Unacknowledged"), branch.acked_time),
        **_two_state("ConfirmedState", state.confirmed, ("Confirmed", "Unconfirmed"), branch.confirmed_time),
    }


def _limit(branch: Branch) -> bool:
    return branch.level in LIMIT_STATES


def _service_fields(condition: Condition, now: int) -> dict[str, ua.Variant]:
    """Whether it is in sight."""
    suppressed = condition.suppressed.on or condition.inhibited.on
    since = max(condition.suppressed.time, condition.inhibited.time)
    fields = {
        "SuppressedOrShelved": boolean(condition.hidden),
        **_two_state("SuppressedState", suppressed, ("Suppressed", "Unsuppressed"), since),
        **_two_state(
            "OutOfServiceState",
            condition.out_of_service.on,
            ("Out of Service", "In Service"),
            condition.out_of_service.time,
        ),
        **_two_state("SilenceState", condition.silenced.on, ("Silenced", "Not Silenced"), condition.silenced.time),
        "ShelvingState/CurrentState": text(condition.shelving.value),
        "ShelvingState/CurrentState/Id": standard(SHELVING_STATES[condition.shelving]),
        "ShelvingState/UnshelveTime": unshelve_time(condition, now),
        "ShelvingState/LastTransition": text(condition.transition),
        "ShelvingState/LastTransition/Id": standard(_transition(condition.transition)),
    }
    if condition.kind.latched:
        latched = condition.latched
        fields |= _two_state("LatchedState", latched.on, ("Latched", "Unlatched"), latched.time)
    return fields


def _transition(name: str) -> int | None:
    """A transition of ShelvedStateMachineType; none before the first."""
    return int(getattr(ua.ObjectIds, f"ShelvedStateMachineType_{name}")) if name else None


def unshelve_time(condition: Condition, now: int) -> ua.Variant:
    """What is left of the shelving (Part 9 5.8.17.1)."""
    return duration(max(condition.shelved.until - now, 0) / 1e9)


def _kind_fields(condition: Condition, branch: Branch, shown: ConditionType) -> dict[str, ua.Variant]:
    """What only some types have."""
    details = branch.finding.details if branch.finding else {}
    fields = {name: string(details.get(name, "")) for name in shown.texts}
    if setpoint := condition.partner or (shown.setpoint and f"{condition.source}.{shown.setpoint}"):
        fields["SetpointNode"] = node(site(setpoint))
    if shown.certificate:
        fields |= _certificate_fields(details)
    if not shown.levels:
        return fields | {"NormalState": standard(None)}
    fields |= {
        f"Severity{level}": number(condition.kind.severity(level), ua.VariantType.UInt16) for level in shown.levels
    }
    if shown.exclusive:
        # The state machine is in no state while the alarm is inactive (Part 9 5.8.19).
        return fields | {
            "LimitState/CurrentState": text(branch.level),
            "LimitState/CurrentState/Id": standard(LIMIT_STATES.get(branch.level)),
        }
    for level in shown.levels:
        on = _reaches(branch.level, level)
        fields |= _two_state(f"{level}State", on, (f"{level} active", f"{level} inactive"), branch.severity_time)
    return fields


def _certificate_fields(details: Mapping[str, str]) -> dict[str, ua.Variant]:
    """CertificateExpirationAlarmType (Part 9 5.8.25)."""
    return {
        "ExpirationDate": moment(int(details.get("ExpirationDate", "0"))),
        "ExpirationLimit": duration(EXPIRATION_LIMIT),
        "CertificateType": standard(ua.ObjectIds.RsaSha256ApplicationCertificateType),
        "Certificate": ua.Variant(bytes.fromhex(details.get("Certificate", "")), ua.VariantType.ByteString),
    }


def _reaches(level: str, limit: str) -> bool:
    """Whether a limit of a non-exclusive alarm is passed: HighHigh is High as well (Part 9 5.8.20)."""
    return bool(level) and (level == limit or level == limit * 2)


def effective_state(condition: Condition, branch: Branch) -> str:
    """EffectiveDisplayName of EnabledState (Part 9 5.2): all that matters of the states, in words."""
    if not condition.enabled.on:
        return "Disabled"
    words = ["Active/" + branch.level if _limit(branch) else "Active" if branch.state.active else "Inactive"]
    words += [] if branch.state.acked else ["Unacknowledged"]
    words += [] if branch.state.confirmed else ["Unconfirmed"]
    if condition.shelving is not Shelving.UNSHELVED:
        words.append(condition.shelving.value)
    flags = (
        ("Suppressed", condition.suppressed.on or condition.inhibited.on),
        ("Out of Service", condition.out_of_service.on),
        ("Latched", condition.latched.on),
    )
    return ", ".join(words + [word for word, on in flags if on])


def message(condition: Condition, branch: Branch) -> str:
    """Self-contained and Latin-1: WinCC OA shows source, time, text and severity only."""
    if branch.finding is None:
        return f"{condition.source}: {condition.kind.kind}"
    said = alarm_texts.english(branch.finding, condition.kind.message)
    return said.encode("latin-1", "replace").decode("latin-1")


def condition_values(condition: Condition, now: int, limits: Limits) -> dict[str, ua.Variant]:
    """What the nodes of a condition hold: its present state, by path, and its tags."""
    trunk = condition.trunk
    said = message(condition, trunk)
    values = {path.replace("/", "."): value for path, value in condition_fields(condition, trunk, now, limits).items()}
    return values | {
        # Where there is no limit a variable has NaN; the field of an event is null.
        **{f"{level}Limit": double(value) if math.isfinite(value) else NO_LIMIT for level, value in limits.items()},
        "EventId": ua.Variant(trunk.event_id, ua.VariantType.ByteString),
        "EventType": node(type_id(CONDITION_TYPES[condition.kind.kind].type)),
        "SourceNode": node(site(condition.source)),
        "SourceName": string(condition.source),
        "Time": moment(trunk.time),
        "ReceiveTime": moment(now),
        "Message": text(said),
        "Severity": number(trunk.severity, ua.VariantType.UInt16),
        **({} if condition.kind.dialog else _tags(condition, said)),
    }


def _tags(condition: Condition, said: str) -> dict[str, ua.Variant]:
    """EnoseAlarmTagsType."""
    trunk = condition.trunk
    return {
        "Active": boolean(condition.enabled.on and trunk.state.active),
        "Acked": boolean(not condition.enabled.on or condition.acked),
        "Text": string(said[:254]),
    }


def condition_event(told: Notification, received: int, limits: Limits) -> Event:
    condition, branch = told.condition, told.branch
    said = message(condition, branch)
    fields = condition_fields(condition, branch, received, limits) | {"Message": text(said)}
    if not condition.enabled.on:
        fields = {path: value if path in LASTING else DISABLED for path, value in fields.items()}
    return Event(
        event_id=branch.event_id,
        event_type=type_id(CONDITION_TYPES[condition.kind.kind].type),
        source=site(condition.source),
        source_name=condition.source,
        time=branch.time,
        received=received,
        severity=branch.severity,
        message=said,
        condition=site(condition.node),
        retain=told.retain,
        fields=fields,
    )


def metrics_values(m: Metrics) -> dict[str, ua.Variant]:
    """Members of EnoseAlarmMetricsType."""
    rates = {"CurrentAlarmRate": m.current, "MaximumAlarmRate": m.maximum, "AverageAlarmRate": m.average}
    return {
        "AlarmCount": number(m.count),
        "StartTime": moment(m.started),
        "MaximumActiveState": duration(m.longest_active),
        "MaximumUnAck": duration(m.longest_unacked),
        **{name: double(value) for name, value in rates.items()},
        **{f"{name}.Rate": number(RATE_MINUTES, ua.VariantType.UInt16) for name in rates},
        "MaximumReAlarmCount": number(0),
        "AlarmFlood": boolean(m.flood),
        "Standing": number(m.standing),
        **{f"Standing{name}": number(count) for name, count in zip(BANDS, m.bands, strict=True)},
        "Stale": number(m.stale),
        "Unacknowledged": number(m.unacknowledged),
        "Hidden": number(m.shelved),
        "Chattering": number(m.chattering),
        "OldestActive": moment(m.oldest),
    }


def security_report(words: str, severity: int, now: int) -> Event:
    """Something about the server's own security that someone has to know at once (R29): a SystemEvent of Server."""
    message = words.encode("latin-1", "replace").decode("latin-1")
    return Event.of_server(ua.NodeId(ua.ObjectIds.SystemEventType), message, severity, now)


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


def batch_exception_raised(line: str, raised: BatchException, now: int) -> Event:
    return _happening(
        ids.BatchExceptionRaisedEventType,
        line,
        raised.raised,
        now,
        raised.severity,
        f"{line}: exception {raised.exception_id} of batch {raised.batch_id}, {raised.kind}: {raised.text}",
        {
            "BatchId": string(raised.batch_id),
            "ExceptionId": string(raised.exception_id),
            "Kind": string(raised.kind),
        },
    )


def device_failure(finding: Finding, severity: int, now: int) -> Event:
    """A device, or a part of it, does not do what it should (Part 5 6.4.28): told once, beside its alarm."""
    return replace(
        _happening(0, finding.source, finding.time, now, severity, finding.text, {}),
        event_type=ua.NodeId(ua.ObjectIds.DeviceFailureEventType),
    )


def progress(source: str, context: str, percent: int, words: str, now: int) -> Event:
    """How far something long has come (Part 5 6.4.35)."""
    return replace(
        _happening(
            0,
            source,
            now,
            now,
            50,
            words,
            {
                "Context": string(context),
                "Progress": number(percent, ua.VariantType.UInt16),
            },
        ),
        event_type=ua.NodeId(ua.ObjectIds.ProgressEventType),
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
