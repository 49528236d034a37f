"""Alarms of a plant: the table of what can be alarmed, the delays before the machine, who may do what to which.

Findings say what is true of the plant; an alarm says what a person has to know and has answered for. The machine is
`alarm_states`; here stand on and off delay (a finding must last before it raises or clears), the rules for GMP alarms
(process rules 9, 18), and all conditions by name. Of a condition that never moved nothing is kept.
"""

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from config.schema import Alarm, Plant
from nodesets.errors import AccessDenied, InvalidArgument, NotFound
from nodesets.model import Basis, Finding, Quality
from opcua_server.plant import alarm_states as states
from opcua_server.plant.alarm_states import (
    SECOND,
    AlarmKind,
    Branch,
    Condition,
    NewId,
    Notification,
    Shelve,
    State,
    Step,
    Switch,
    Words,
)

_FAULT = {"Active": 700}
# A link that flaps each second must not become a flood (fault F13): it has to be down 2 s, and up 5 s.
ALARMS: Mapping[str, AlarmKind] = {
    a.kind: a
    for a in (
        AlarmKind(
            kind="CommunicationLost",
            scope="device",
            severities=_FAULT,
            on_delay=2.0,
            off_delay=5.0,
            bars_release=True,
            quality=Quality.GOOD,  # that no answer comes is sure
        ),
        AlarmKind(kind="SensorFailure", scope="device", severities=_FAULT, on_delay=2.0, off_delay=5.0),
        AlarmKind(kind="HeaterFailure", scope="device", severities=_FAULT, on_delay=2.0, off_delay=5.0),
        AlarmKind(kind="FlowLow", scope="device", severities=_FAULT, on_delay=2.0, off_delay=5.0),
        # Health says the same as the four above, for those who read only NAMUR NE 107: to be enabled instead of them.
        AlarmKind(
            kind="DeviceFailure",
            scope="device",
            severities={"Active": 800},
            path="DeviceHealthAlarms.Failure",
            enabled=False,
            quality=Quality.GOOD,
        ),
        AlarmKind(
            kind="DeviceCheckFunction",
            scope="device",
            severities={"Active": 400},
            path="DeviceHealthAlarms.CheckFunction",
            branches=False,
            enabled=False,
        ),
        AlarmKind(
            kind="DeviceOffSpec",
            scope="device",
            severities={"Active": 600},
            path="DeviceHealthAlarms.OffSpec",
            on_delay=2.0,
            off_delay=5.0,
        ),
        AlarmKind(
            kind="DeviceMaintenanceRequired",
            scope="device",
            severities={"Active": 300},
            path="DeviceHealthAlarms.MaintenanceRequired",
            branches=False,
            enabled=False,
        ),
        AlarmKind(
            kind="LevelAlarm",
            scope="channel",
            severities={"High": 300, "Low": 300, "HighHigh": 600, "LowLow": 600},
            path="{kind}",
            enabled=False,  # but for channels with limits
        ),
        AlarmKind(kind="SensorDrift", scope="device", severities={"High": 400}),
        AlarmKind(kind="ChannelDisagreement", scope="pair", severities={"High": 400, "Low": 400}, path="{kind}"),
        AlarmKind(kind="AnomalyDetected", scope="stream", severities={"High": 600, "HighHigh": 800}, gmp=True),
        AlarmKind(kind="QualityScoreLow", scope="stream", severities={"Low": 500, "LowLow": 800}, gmp=True),
        AlarmKind(kind="FingerprintDeviation", scope="stream", severities={"High": 500}, enabled=False),
        AlarmKind(
            kind="BatchExceptionOpen",
            scope="line",
            severities={"Active": 500},
            path="{kind}",
            branches=False,
            quality=Quality.GOOD,
        ),
        AlarmKind(
            kind="ReleaseOverdue",
            scope="line",
            severities={"Active": 300},
            path="{kind}",
            on_delay=8 * 3600.0,
            branches=False,
            quality=Quality.GOOD,
        ),
        AlarmKind(
            kind="Decision",
            scope="advice",
            severities={"Active": 200},
            path="{kind}",
            branches=False,
            dialog=True,
            quality=Quality.GOOD,
        ),
        AlarmKind(
            kind="AuditChainBroken",
            scope="site",
            severities={"Active": 1000},
            path="{kind}",
            gmp=True,
            latched=True,
            fixed=True,
        ),
        AlarmKind(
            kind="StorageFailure",
            scope="storage",
            severities={"Active": 700, "Lost": 900},
            path="{kind}",
            at_once=True,
            quality=Quality.GOOD,
        ),
        AlarmKind(
            kind="CertificateExpiring",
            scope="security",
            severities={"Active": 400},
            path="{kind}",
            branches=False,
            quality=Quality.GOOD,
        ),
    )
}
ADVICE_SLOTS = 10
"""Recommendations that are shown (information model 1.4)."""
SITE_SOURCES = {"site": "ENose.Compliance", "security": "ENose.Security", "storage": "ENose.Diagnostics"}
"""Sources of alarms there is one of."""


def condition_nodes(plant: Plant) -> Iterator[tuple[str, str, AlarmKind]]:
    """(condition node, source node, kind) of every alarm the plant has."""
    for alarm in ALARMS.values():
        for source in _sources(plant, alarm.scope):
            yield alarm.node(source), source, alarm


def first_up(source: str, kind: AlarmKind) -> str:
    """Node of the group an alarm belongs to: that of its device, its line or the service (ISA-18.1; Part 9 5.8.3)."""
    return f"{source}.FirstUp" if kind.scope == "line" else f"{source.partition('.')[0]}.Alarms.FirstUp"


def _sources(plant: Plant, scope: str) -> Iterator[str]:
    match scope:
        case "device":
            yield from (device.id for device in plant.devices)
        case "stream":
            yield from (f"{device.id}.{stream.id}" for device in plant.devices for stream in device.streams)
        case "channel":
            yield from (f"{device.id}.Array.{channel.id}" for device in plant.devices for channel in device.channels)
        case "pair":
            yield from (
                f"{device.id}.Array.{pair.channels[0]}" for device in plant.devices for pair in device.redundant
            )
        case "advice":
            slots = range(1, ADVICE_SLOTS + 1) if plant.agents.dialogs else ()
            yield from (f"ENose.Agents.R{i:02}" for i in slots)
        case "line":
            yield from (line.id for line in plant.lines)
        case _:
            yield SITE_SOURCES[scope]


def _partners(plant: Plant) -> dict[str, str]:
    """By condition: the node it is compared with."""
    kind = ALARMS["ChannelDisagreement"]
    return {
        kind.node(f"{device.id}.Array.{first}"): f"{device.id}.Array.{second}.SensorValue"
        for device in plant.devices
        for first, second in (pair.channels for pair in device.redundant)
    }


# -- what people do


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """What somebody does to an alarm."""

    name: str
    """Of the method, without the 2 of the variant that takes a comment."""
    event_id: bytes = b""
    comment: str = ""
    locale: str = ""
    """Of the comment."""
    seconds: float = 0.0
    """Of TimedShelve."""
    response: int = -1
    """Of Respond."""
    user: str = ""

    @property
    def said(self) -> Words:
        return Words(self.comment, self.locale)


Perform = Callable[[Condition, Act, int, int, NewId], Step]
"""(condition, act, now, when a GMP alarm comes back by itself, new EventIds)."""


def _shelve(how: Shelve) -> Perform:
    return lambda c, a, now, _, new: states.shelve(c, how, a.seconds, a.said, a.user, now, new)


ACTS: Mapping[str, Perform] = {
    "Acknowledge": lambda c, a, now, _, new: states.acknowledge(c, a.event_id, a.said, a.user, now, new),
    "Confirm": lambda c, a, now, _, new: states.confirm(c, a.event_id, a.said, a.user, now, new),
    "AddComment": lambda c, a, now, _, new: states.add_comment(c, a.event_id, a.said, a.user, now, new),
    "Respond": lambda c, a, now, _, new: states.respond(c, a.response, a.said, a.user, now, new),
    "Enable": lambda c, a, now, _, new: states.enable(c, a.said, a.user, now, new),
    "Disable": lambda c, a, now, until, new: states.disable(c, a.said, a.user, now, until, new),
    "TimedShelve": _shelve(Shelve.TIMED),
    "OneShotShelve": _shelve(Shelve.ONE_SHOT),
    "Unshelve": _shelve(Shelve.UNSHELVE),
    "Suppress": lambda c, a, now, until, new: states.suppress(c, True, a.said, a.user, now, until, new),
    "Unsuppress": lambda c, a, now, _, new: states.suppress(c, False, a.said, a.user, now, 0, new),
    "RemoveFromService": lambda c, a, now, until, new: states.remove(c, True, a.said, a.user, now, until, new),
    "PlaceInService": lambda c, a, now, _, new: states.remove(c, False, a.said, a.user, now, 0, new),
    "Silence": lambda c, a, now, _, new: states.silence(c, a.user, now, new),
    "Reset": lambda c, a, now, _, new: states.reset(c, a.said, a.user, now, new),
}
HIDES = frozenset({"Disable", "Suppress", "RemoveFromService", "TimedShelve", "OneShotShelve"})
"""Acts that take an alarm out of sight."""
EXPLAINED = HIDES | {"Acknowledge", "Confirm"}
"""Acts on a GMP alarm that take a comment."""


def permit(kind: AlarmKind, act: Act) -> None:
    """The rules of GMP alarms (process rules 9, 18). Raises AccessDenied, InvalidArgument without a comment."""
    said = bool(act.comment.strip())
    if kind.gmp and act.name == "AddComment" and not said:
        raise InvalidArgument("an empty comment says nothing")
    if kind.fixed and act.name in HIDES:
        raise AccessDenied(f"{kind.kind} stays in sight: process rule 9")
    if kind.gmp and act.name == "Disable":  # Disable has no argument for a reason (Part 9 5.5.4)
        raise AccessDenied(f"{kind.kind} is a GMP alarm: RemoveFromService2 takes the reason that is needed")
    if kind.gmp and not said and (act.name in HIDES or (kind.comment and act.name in EXPLAINED)):
        raise InvalidArgument(f"{kind.kind} is a GMP alarm: {act.name} needs a comment")


# -- all of a plant


def new_event_id() -> bytes:
    return uuid.uuid4().bytes


class Alarms:
    """All conditions of a plant. What changes one returns what is to be told of it.

    Changes since the last `commit` can be taken back by `rollback`: nothing is shown that could not be recorded.
    """

    def __init__(self, plant: Plant, new_id: NewId = new_event_id) -> None:
        self._new_id = new_id
        self._initial: dict[str, tuple[str, AlarmKind, bool]] = {}
        """By node: source, kind, whether it is enabled at first."""
        self._by_finding: dict[tuple[str, str], str] = {}
        self._partners = _partners(plant)
        self._moved: dict[str, Condition] = {}
        self._pending: dict[str, tuple[int, Finding]] = {}
        """Findings that wait for their delay, and since when."""
        self._ending: dict[str, int] = {}
        """When something of a condition ends by itself."""
        self._quiet: set[str] = set()
        self._judged: dict[str, tuple[int, int]] = {}
        """Of conditions that never moved: quality, and since when."""
        self._doubted: set[str] = set()
        self._before: dict[str, Condition] = {}
        """What conditions were at the last commit."""
        self._waited: dict[str, tuple[int, Finding] | None] = {}
        """What waited for its delay at the last commit."""
        kinds = {kind: _configured(kind, plant) for kind in ALARMS.values()}
        limited = plant.alarms.get("LevelAlarm", Alarm()).limits
        for node, source, alarm in condition_nodes(plant):
            kind, enabled = kinds[alarm]
            self._initial[node] = source, kind, enabled and (alarm.scope != "channel" or source in limited)
            self._by_finding[alarm.kind, source] = node

    def __getitem__(self, node: str) -> Condition:
        moved = self._moved.get(node)
        if moved is not None:
            return moved
        try:
            source, kind, enabled = self._initial[node]
        except KeyError:
            raise NotFound(f"no condition {node}") from None
        quality, time = self._judged.get(node, (kind.quality, 0))
        trunk = Branch(quality=quality, quality_time=time)
        partner = self._partners.get(node, "")
        return Condition(node=node, source=source, kind=kind, partner=partner, enabled=Switch(enabled), trunk=trunk)

    def __contains__(self, node: object) -> bool:
        return node in self._initial

    def __iter__(self) -> Iterator[Condition]:
        return (self[node] for node in self._initial)

    def moved(self) -> Iterable[Condition]:
        """Those that are, or were, anything but as they began."""
        return self._moved.values()

    def restore(self, conditions: Iterable[Condition]) -> None:
        """Take up where an earlier run was. Of alarms the plant has no more nothing is kept."""
        for condition in conditions:
            if condition.node in self._initial:
                _, kind, _ = self._initial[condition.node]
                self._put(replace(condition, kind=kind))
        self.commit()

    def held(self) -> dict[tuple[str, str], str]:
        """By kind and source: levels of what is active."""
        return {(c.kind.kind, c.source): c.trunk.level for c in self._moved.values() if c.trunk.level}

    # Findings

    def update(self, finding: Finding, now: int) -> tuple[Notification, ...]:
        """Take in a finding; nothing is told as long as it changes nothing, or not yet (see `due`)."""
        node = self._by_finding.get((finding.kind, finding.source))
        if node is None:
            return ()
        condition = self[node]
        if finding.level == condition.trunk.level and not _other_fault(condition, finding):
            self._wait(node, None)
            return ()
        begun = min(finding.time, now)
        since, pending = self._pending.get(node, (begun, finding))
        if pending.level != finding.level:
            since = begun
        self._wait(node, (since, finding))
        return self._settle(node, now)

    def judge(self, basis: Basis, now: int) -> tuple[Notification, ...]:
        """Take in the quality of what an alarm is judged by; told of a retained one, else see `quiet`, `doubted`."""
        node = self._by_finding.get((basis.kind, basis.source))
        if node is None:
            return ()
        if node not in self._moved:
            self._judged[node] = basis.quality, now
            self._doubted.add(node)
            return ()
        condition, told = states.judged(self[node], basis.quality, now, self._new_id)
        if told:
            return self._step((condition, told))
        self._put(condition)
        self._quiet.add(node)
        return ()

    def due(self, now: int) -> tuple[Notification, ...]:
        """What a delay or a shelf has run out for."""
        told = [n for node in list(self._pending) for n in self._settle(node, now)]
        for node, end in list(self._ending.items()):
            if end <= now:
                told += self._step(states.expired(self[node], now, self._new_id))
        return tuple(told)

    def next_due(self) -> int | None:
        """When `due` has something to do, ns UTC; None: not before the next finding or act."""
        waits = [since + round(_delay(self[n], f) * SECOND) for n, (since, f) in self._pending.items()]
        return min((*waits, *self._ending.values()), default=None)

    def inhibit(self, kind: str, source: str, on: bool, now: int) -> tuple[Notification, ...]:
        """Suppress by the state of the plant, or no longer; of an alarm that is not active nothing is recorded."""
        node = self._by_finding.get((kind, source))
        if node is None:
            return ()
        condition, told = states.inhibit(self[node], on, now, self._new_id)
        if told:
            return self._step((condition, told))
        self._put(condition)
        self._quiet.add(node)
        return ()

    def quiet(self) -> tuple[Condition, ...]:
        """What changed without a word since this was last asked, and is not recorded."""
        quiet, self._quiet = self._quiet, set()
        return tuple(self[node] for node in quiet)

    def doubted(self) -> tuple[Condition, ...]:
        """Those that never moved, and of which nothing but the quality changed since this was last asked."""
        doubted, self._doubted = self._doubted, set()
        return tuple(self[node] for node in doubted if node not in self._moved)

    # People

    def perform(self, node: str, act: Act, now: int) -> tuple[Notification, ...]:
        """Raises NotFound, AccessDenied, InvalidArgument, and what the step of `alarm_states` raises."""
        condition = self[node]
        permit(condition.kind, act)
        until = now + round(condition.kind.max_shelved * SECOND) if condition.kind.gmp else 0
        return self._step(ACTS[act.name](condition, act, now, until, self._new_id))

    # Recording

    def changed(self) -> tuple[Condition, ...]:
        """What is not as it was at the last commit."""
        return tuple(self._moved[node] for node in self._before)

    def commit(self) -> None:
        self._before.clear()
        self._waited.clear()

    def rollback(self) -> None:
        """As at the last commit: what was found and done since is to be given again."""
        for before in self._before.values():
            self._put(before)
        for node, waited in self._waited.items():
            self._pending.pop(node, None)
            if waited is not None:
                self._pending[node] = waited
        self.commit()

    def _wait(self, node: str, waits: tuple[int, Finding] | None) -> None:
        """Have a finding wait for its delay, or none."""
        waited = self._pending.pop(node, None)
        self._waited.setdefault(node, waited)
        if waits is not None:
            self._pending[node] = waits

    def _step(self, step: Step, *, stands: bool = False) -> tuple[Notification, ...]:
        """`stands`: it is not taken back when it cannot be recorded."""
        condition, told = step
        before = self[condition.node]
        if condition != before:
            if not stands:
                self._before.setdefault(condition.node, before)
            self._put(condition)
        return told

    def _put(self, condition: Condition) -> None:
        self._judged.pop(condition.node, None)
        self._moved[condition.node] = condition
        self._ending.pop(condition.node, None)
        if end := states.ends(condition):
            self._ending[condition.node] = end

    def _settle(self, node: str, now: int) -> tuple[Notification, ...]:
        condition = self[node]
        since, finding = self._pending[node]
        if now - since < _delay(condition, finding) * SECOND:
            return ()
        self._wait(node, None)
        if finding.level and not condition.trunk.state.active:
            condition = replace(condition, first=self._is_first(condition))
        step = states.found(condition, finding, now, self._new_id)
        return self._step(step, stands=condition.kind.at_once)

    def _is_first(self, condition: Condition) -> bool:
        """Of the alarms of its group no other is active in sight."""
        group = first_up(condition.source, condition.kind)
        return not any(
            c.trunk.state.active and c.enabled.on and not c.hidden and not c.kind.dialog
            for c in self._moved.values()
            if c.node != condition.node and first_up(c.source, c.kind) == group
        )


def _delay(condition: Condition, finding: Finding) -> float:
    """A change of level is no news of the plant's state: only a new fault, or the way back to normal, is delayed."""
    if not condition.trunk.level or _other_fault(condition, finding):
        return condition.kind.on_delay
    return condition.kind.off_delay if not finding.level else 0.0


def _other_fault(condition: Condition, finding: Finding) -> bool:
    """Whether something else is wrong with an alarmed device now, as one more failed sensor.

    Of a device, or advice, it is found only when that is so; of a stream with every cycle.
    """
    told = condition.trunk.finding
    changed = told is not None and _at_fault(finding) != _at_fault(told)
    return condition.kind.scope in ("device", "advice") and bool(condition.trunk.level and finding.level) and changed


def _at_fault(finding: Finding) -> str:
    return finding.details.get("Channels", finding.text)


def _configured(alarm: AlarmKind, plant: Plant) -> tuple[AlarmKind, bool]:
    """The kind as the plant has it, and whether it is enabled at first."""
    own = plant.alarms.get(alarm.kind, Alarm())
    names = ("on_delay", "off_delay", "gmp", "confirm", "branches", "latched", "chattering", "max_shelved")
    changes: dict[str, object] = {name: value for name in names if (value := getattr(own, name)) is not None}
    changes["message"] = own.message
    if own.severity is not None:
        changes["severities"] = dict.fromkeys(alarm.severities, own.severity)
    if alarm.scope == "channel" or alarm.at_once:  # channels: delayed before it is found (`analytics.limits`)
        changes |= {"on_delay": 0.0, "off_delay": 0.0}
    kind = replace(alarm, **changes)  # type: ignore[arg-type]  # names and types are those of config.schema.Alarm
    given = alarm.enabled or alarm.scope == "channel"
    enabled = given if own.enabled is None else own.enabled
    return replace(kind, comment=kind.gmp and plant.site.alarm_comments), enabled


__all__ = ["ACTS", "ALARMS", "EXPLAINED", "HIDES", "SECOND", "Act", "AlarmKind", "Alarms", "State", "condition_nodes"]
