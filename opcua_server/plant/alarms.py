"""Alarms: the table of what can be alarmed, and the state machine every alarm follows. Knows no OPC UA.

Theory. Findings say what is true of the plant; an alarm says what a person has to know and has answered for. The
states are ISA-18.2's:

    NORMAL   --raise-->   UNACKED   --acknowledge-->   ACKED   --clear-->   NORMAL
                            |  ^                         |
                          clear raise          raise (another level: a new alarm to the operator)
                            v  |                         |
                           RTN_UNACKED --acknowledge--> NORMAL      ACKED --raise--> UNACKED

`TRANSITIONS` is the whole machine: a pair that is missing changes nothing (findings) or is refused (a person's act).
On and off delay (ISA-18.2 11.4.3) stand before the machine: a finding must last before it raises or clears.
"""

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum

from config.schema import Alarm, Plant
from nodesets.errors import (
    AlreadyAcknowledged,
    AlreadyDisabled,
    AlreadyEnabled,
    ConditionDisabled,
    EventIdUnknown,
    InvalidArgument,
    NotFound,
)
from nodesets.model import Finding

SECOND = 1_000_000_000


class State(Enum):
    NORMAL = "normal"
    UNACKED = "active, unacknowledged"
    ACKED = "active, acknowledged"
    RTN_UNACKED = "returned to normal, unacknowledged"

    @property
    def active(self) -> bool:
        return self in (State.UNACKED, State.ACKED)

    @property
    def acked(self) -> bool:
        return self in (State.NORMAL, State.ACKED)


class Trigger(Enum):
    RAISE = "raise"
    CLEAR = "clear"
    ACKNOWLEDGE = "acknowledge"


TRANSITIONS: Mapping[State, Mapping[Trigger, State]] = {
    State.NORMAL: {Trigger.RAISE: State.UNACKED},
    State.UNACKED: {
        Trigger.RAISE: State.UNACKED,
        Trigger.CLEAR: State.RTN_UNACKED,
        Trigger.ACKNOWLEDGE: State.ACKED,
    },
    State.ACKED: {Trigger.RAISE: State.UNACKED, Trigger.CLEAR: State.NORMAL},
    State.RTN_UNACKED: {Trigger.RAISE: State.UNACKED, Trigger.ACKNOWLEDGE: State.NORMAL},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmKind:
    """One row of the alarm table (information model 1.5)."""

    kind: str
    """Equals `Finding.kind`."""
    scope: str
    """`device` or `stream`: what each instance belongs to."""
    severities: Mapping[str, int]
    """By level of the finding."""
    on_delay: float = 0.0
    """Seconds."""
    off_delay: float = 0.0
    gmp: bool = False
    """Acknowledged only with a comment (process rule 18)."""
    bars_release: bool = False
    """A batch in which it was found is not released until QA accepted that (fault F10), whatever the severity."""


# A link that flaps each second must not become a flood (fault F13): it has to be down 2 s, and up 5 s.
ALARMS: Mapping[str, AlarmKind] = {
    a.kind: a
    for a in (
        AlarmKind(
            kind="CommunicationLost",
            scope="device",
            severities={"Active": 700},
            on_delay=2.0,
            off_delay=5.0,
            bars_release=True,
        ),
        AlarmKind(kind="SensorFailure", scope="device", severities={"Active": 700}, on_delay=2.0, off_delay=5.0),
        AlarmKind(kind="AnomalyDetected", scope="stream", severities={"High": 600, "HighHigh": 800}, gmp=True),
        AlarmKind(kind="QualityScoreLow", scope="stream", severities={"Low": 500, "LowLow": 800}, gmp=True),
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One alarm instance at one moment."""

    node: str
    """String id of the condition: its ConditionId, `EN01.Alarms.CommunicationLost`."""
    source: str
    kind: AlarmKind
    state: State = State.NORMAL
    enabled: bool = True
    level: str = ""
    """Level of the finding while active; empty when not."""
    severity: int = 1
    last_severity: int = 1
    event_id: bytes = b""
    """Of the newest notification; Acknowledge must name it."""
    answered: bytes = b""
    """The notification that was acknowledged last."""
    time: int = 0
    """When this state was entered, ns UTC."""
    active_since: int = 0
    finding: Finding | None = None
    comment: str = ""
    comment_time: int = 0
    user: str = ""
    """ClientUserId of the newest comment or acknowledgement."""

    @property
    def retain(self) -> bool:
        """Part 9 5.5.2: of interest to a client that refreshes."""
        return self.enabled and self.state is not State.NORMAL


def condition_nodes(plant: Plant) -> Iterator[tuple[str, str, AlarmKind]]:
    """(condition node, source node, kind) of every alarm the plant has."""
    for device in plant.devices:
        for alarm in ALARMS.values():
            if alarm.scope == "device":
                yield f"{device.id}.Alarms.{alarm.kind}", device.id, alarm
            else:
                for stream in device.streams:
                    source = f"{device.id}.{stream.id}"
                    yield f"{source}.Alarms.{alarm.kind}", source, alarm


class Alarms:
    """All conditions of a plant. Every method that changes one returns it; the caller shows and records it."""

    def __init__(self, plant: Plant) -> None:
        self._by_node: dict[str, Condition] = {}
        self._by_finding: dict[tuple[str, str], str] = {}
        self._pending: dict[str, tuple[int, Finding]] = {}
        for node, source, alarm in condition_nodes(plant):
            override = plant.alarms.get(alarm.kind, Alarm())
            self._by_node[node] = Condition(
                node=node, source=source, kind=_overridden(alarm, override), enabled=override.enabled
            )
            self._by_finding[alarm.kind, source] = node

    def __getitem__(self, node: str) -> Condition:
        try:
            return self._by_node[node]
        except KeyError:
            raise NotFound(f"no condition {node}") from None

    def __iter__(self) -> Iterator[Condition]:
        return iter(self._by_node.values())

    def update(self, finding: Finding, now: int) -> Condition | None:
        """Take in a finding; the condition if it changed now, None if not (or not yet: see `due`)."""
        node = self._by_finding.get((finding.kind, finding.source))
        if node is None:
            return None
        condition = self._by_node[node]
        if finding.level == condition.level and not _other_fault(condition, finding):
            self._pending.pop(node, None)
            return None
        since, pending = self._pending.get(node, (now, finding))
        if pending.level != finding.level:
            since = now
        self._pending[node] = since, finding
        return self._settle(node, now)

    def due(self, now: int) -> list[Condition]:
        """Conditions whose delay has run out."""
        return [c for node in list(self._pending) if (c := self._settle(node, now))]

    def acknowledge(self, node: str, event_id: bytes, comment: str, user: str, now: int) -> Condition:
        """Part 9 5.7.3. Raises EventIdUnknown, AlreadyAcknowledged, ConditionDisabled, InvalidArgument (no comment)."""
        if event_id and event_id == self[node].answered:
            raise AlreadyAcknowledged(f"{node}: this notification is acknowledged already")
        condition = self._addressed(node, event_id)
        after = TRANSITIONS[condition.state].get(Trigger.ACKNOWLEDGE)
        if after is None:
            raise AlreadyAcknowledged(f"{node} is acknowledged already")
        if condition.kind.gmp and not comment.strip():
            raise InvalidArgument(f"{node} is a GMP alarm: acknowledging it needs a comment")
        return self._store(_commented(replace(condition, state=after, time=now, answered=event_id), comment, user, now))

    def add_comment(self, node: str, event_id: bytes, comment: str, user: str, now: int) -> Condition:
        """Part 9 5.5.6. Raises EventIdUnknown, ConditionDisabled, InvalidArgument (empty comment)."""
        condition = self._addressed(node, event_id)
        if not comment.strip():
            raise InvalidArgument("an empty comment says nothing")
        return self._store(_commented(condition, comment, user, now))

    def enable(self, node: str, on: bool, user: str, now: int) -> Condition:
        """Part 9 5.5.4, 5.5.5. Raises AlreadyEnabled, AlreadyDisabled."""
        condition = self[node]
        if condition.enabled == on:
            raise (AlreadyEnabled if on else AlreadyDisabled)(f"{node}: nothing to change")
        return self._store(replace(condition, enabled=on, user=user, time=now))

    def _addressed(self, node: str, event_id: bytes) -> Condition:
        condition = self[node]
        if not condition.enabled:
            raise ConditionDisabled(f"{node} is disabled")
        if not event_id or event_id != condition.event_id:
            raise EventIdUnknown(f"{node} has no notification {event_id.hex()}")
        return condition

    def _settle(self, node: str, now: int) -> Condition | None:
        condition = self._by_node[node]
        since, finding = self._pending[node]
        # A change of level is no news of the plant's state: only a new fault, or the way back to normal, is delayed.
        delay = 0.0
        if not condition.level or _other_fault(condition, finding):
            delay = condition.kind.on_delay
        elif not finding.level:
            delay = condition.kind.off_delay
        if now - since < delay * SECOND:
            return None
        del self._pending[node]
        trigger = Trigger.RAISE if finding.level else Trigger.CLEAR
        after = TRANSITIONS[condition.state].get(trigger)
        if after is None:
            return None
        return self._store(
            replace(
                condition,
                state=after,
                level=finding.level,
                severity=condition.kind.severities.get(finding.level, condition.severity),
                last_severity=condition.severity,
                time=now,
                active_since=condition.active_since if condition.state.active else now,
                finding=finding,
            )
        )

    def _store(self, condition: Condition) -> Condition:
        condition = replace(condition, event_id=uuid.uuid4().bytes)
        self._by_node[condition.node] = condition
        return condition


def _other_fault(condition: Condition, finding: Finding) -> bool:
    """Whether something else is wrong with an alarmed device now, as one more failed sensor.

    Of a device it is found only when that is so; of a stream with every cycle.
    """
    told = condition.finding
    changed = told is not None and finding.text != told.text
    return condition.kind.scope == "device" and bool(condition.level and finding.level) and changed


def _commented(condition: Condition, comment: str, user: str, now: int) -> Condition:
    return replace(condition, comment=comment, comment_time=now, user=user)


def _overridden(alarm: AlarmKind, override: Alarm) -> AlarmKind:
    changes: dict[str, object] = {
        name: value for name in ("on_delay", "off_delay", "gmp") if (value := getattr(override, name)) is not None
    }
    if override.severity is not None:
        changes["severities"] = dict.fromkeys(alarm.severities, override.severity)
    return replace(alarm, **changes)  # type: ignore[arg-type]  # names and types are those of config.schema.Alarm
