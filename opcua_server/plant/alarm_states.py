"""The states of an alarm and what moves it (Part 9 5.5 to 5.8, ISA-18.2 5.6). Knows no OPC UA, no clock, no storage.

Theory of operation:

1. Everything that decides whether a step is possible is in the tables below. A pair that is not there is the error
   named beside the table; of a finding it is no news, and nothing happened.
2. An alarm has several machines side by side. The first one is of what is true and what people owe:

       NORMAL --RAISE--> UNACKED --ACKNOWLEDGE--> UNCONFIRMED --CONFIRM--> ACTIVE --CLEAR--> NORMAL
                           |  ^ RAISE                |  ^ RAISE from any: a new alarm to the operator
                         CLEAR |                   CLEAR
                           v  |                      v
                       RETURNED --ACKNOWLEDGE--> RETURNED_UNCONFIRMED --CONFIRM--> NORMAL

   The others are of service (enabled, suppressed, out of service), of shelving, of the horn and of the latch.
3. An alarm of a kind that needs no confirmation settles: UNCONFIRMED is ACTIVE at once, without a word.
4. What is raised again before somebody answered for the time before is two things to answer for. The earlier one goes
   on as a branch with the answer it waits for, and ends when it has it (5.5.2 BranchId, annex B.1.3). Kinds without
   branches forget the earlier one, and so does an alarm that has `MOST_BRANCHES` already: nobody answers for the
   hundredth time by itself, and an alarm that chatters all night must not fill memory and disk.
5. Retain says that a client which comes now has to know: something is true, or owed, or a branch is left (5.5.2).
6. Every notification has an EventId of its own. A person answers for what a notification said: so every one that said
   the same alarm still answers, a later worse one is needed for what is worse (5.7.3), and those that were answered
   for say that they were. Others are unknown.
7. What a condition is judged by may be doubtful: its Quality says so, and a change of it is told while somebody has to
   know of the condition at all. The state stays what it was: of what is not known nothing is said (5.5.2).
8. Disabled is not forgotten: the machines go on without a word, and enabling says how things stand (5.5.2).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, NamedTuple, TypeVar

from nodesets.errors import (
    AlreadyAcknowledged,
    AlreadyConfirmed,
    AlreadyDisabled,
    AlreadyEnabled,
    AlreadyShelved,
    ConditionDisabled,
    DialogNotActive,
    EventIdUnknown,
    InvalidState,
    NotShelved,
    ShelvingTimeOutOfRange,
)
from nodesets.model import Finding, Quality

SECOND = 1_000_000_000
REMEMBERED = 32
"""Notifications of one state that can still be named by an answer; a client that is farther behind refreshes."""
MOST_BRANCHES = 10
RESPONSE = "Response"
"""Detail of a finding: the last response to a dialog."""


class State(Enum):
    """What is true of a branch, and what is owed for it."""

    NORMAL = "normal"
    UNACKED = "active, unacknowledged"
    UNCONFIRMED = "active, acknowledged, unconfirmed"
    ACTIVE = "active, answered for"
    RETURNED = "returned to normal, unacknowledged"
    RETURNED_UNCONFIRMED = "returned to normal, acknowledged, unconfirmed"

    @property
    def active(self) -> bool:
        return self in (State.UNACKED, State.UNCONFIRMED, State.ACTIVE)

    @property
    def acked(self) -> bool:
        return self not in (State.UNACKED, State.RETURNED)

    @property
    def confirmed(self) -> bool:
        return self not in (State.UNCONFIRMED, State.RETURNED_UNCONFIRMED)


class Trigger(Enum):
    RAISE = "raise"
    """Became true, worse, or true of something else."""
    EASE = "ease"
    """Less bad than it was, and still true."""
    CLEAR = "clear"
    ACKNOWLEDGE = "acknowledge"
    CONFIRM = "confirm"


S, T = State, Trigger
TRANSITIONS: Mapping[State, Mapping[Trigger, State]] = {
    S.NORMAL: {T.RAISE: S.UNACKED},
    S.UNACKED: {T.RAISE: S.UNACKED, T.EASE: S.UNACKED, T.CLEAR: S.RETURNED, T.ACKNOWLEDGE: S.UNCONFIRMED},
    S.UNCONFIRMED: {T.RAISE: S.UNACKED, T.EASE: S.UNCONFIRMED, T.CLEAR: S.RETURNED_UNCONFIRMED, T.CONFIRM: S.ACTIVE},
    S.ACTIVE: {T.RAISE: S.UNACKED, T.EASE: S.ACTIVE, T.CLEAR: S.NORMAL},
    S.RETURNED: {T.RAISE: S.UNACKED, T.ACKNOWLEDGE: S.RETURNED_UNCONFIRMED},
    S.RETURNED_UNCONFIRMED: {T.RAISE: S.UNACKED, T.CONFIRM: S.NORMAL},
}
SETTLES: Mapping[State, State] = {S.UNCONFIRMED: S.ACTIVE, S.RETURNED_UNCONFIRMED: S.NORMAL}
"""Where a kind that needs no confirmation goes by itself."""
OWED = frozenset({S.RETURNED, S.RETURNED_UNCONFIRMED})
"""What a new alarm leaves behind as a branch."""


class Shelving(Enum):
    """ShelvedStateMachineType (Part 9 5.8.17)."""

    UNSHELVED = "Unshelved"
    TIMED = "TimedShelved"
    ONE_SHOT = "OneShotShelved"


class Shelve(Enum):
    TIMED = "TimedShelve"
    ONE_SHOT = "OneShotShelve"
    UNSHELVE = "Unshelve"
    EXPIRE = "its time is over"
    CLEAR = "the alarm is over"


U, M, O = Shelving.UNSHELVED, Shelving.TIMED, Shelving.ONE_SHOT  # noqa: E741 - read in columns
SHELVING: Mapping[Shelving, Mapping[Shelve, Shelving]] = {
    U: {Shelve.TIMED: M, Shelve.ONE_SHOT: O},
    M: {Shelve.TIMED: M, Shelve.ONE_SHOT: O, Shelve.UNSHELVE: U, Shelve.EXPIRE: U},
    O: {Shelve.TIMED: M, Shelve.UNSHELVE: U, Shelve.EXPIRE: U, Shelve.CLEAR: U},
}
"""A missing Unshelve is BadConditionNotShelved, a missing OneShotShelve BadConditionAlreadyShelved."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AlarmKind:
    """What all alarms of one kind have in common: a row of the alarm table."""

    kind: str
    """Equals `Finding.kind`."""
    scope: str
    """What each belongs to: `site`, `line`, `device`, `stream`, `channel`, `pair` of channels, or `advice`."""
    severities: Mapping[str, int]
    """By level of the finding, the mildest first."""
    path: str = "Alarms.{kind}"
    """Where it is, relative to its source."""
    enabled: bool = True
    """At first; at most ten alarms of a device are (process rule 19)."""
    on_delay: float = 0.0
    """Seconds a finding has to last before it raises (ISA-18.2 11.4.3)."""
    off_delay: float = 0.0
    """Seconds it has to be over before it clears."""
    gmp: bool = False
    """Taking it out of sight takes a reason, has an end, and is an exception of the batch (process rule 9)."""
    comment: bool = False
    """Acknowledging and confirming take a comment (process rule 18)."""
    bars_release: bool = False
    """A batch in which it was found is not released until QA accepted that (fault F10), whatever the severity."""
    branches: bool = True
    """Whether each time it was raised is answered for by itself; advisory alarms ask once."""
    confirm: bool = False
    """Whether somebody has to confirm, after the acknowledgement, that something was done about it."""
    latched: bool = False
    """Whether it stays until it is reset, also when it is over and answered for."""
    fixed: bool = False
    """Nobody can take it out of sight (process rule 9: AuditChainBroken)."""
    message: Mapping[str, str] = field(default_factory=dict)
    """The plant's own text while active, by language."""
    chattering: bool = True
    """Gets a comment when it comes three times within a minute (ISA-18.2 16.5.5)."""
    max_shelved: float = 8 * 3600.0
    """Seconds it can be shelved, or a GMP alarm be out of sight, at once; a shift."""
    dialog: bool = False
    """It asks (Part 9 5.6): active while it waits for a response, which ends it; there is nothing to acknowledge."""
    at_once: bool = False
    """Told before it is recorded, as soon as it can be: it says that nothing can. It has no delays."""
    quality: int = Quality.BAD_WAITING_FOR_INITIAL_DATA
    """At first: Good where the service judges by what it always knows itself, and nothing can make that doubtful."""

    def node(self, source: str) -> str:
        """String id of the alarm of a source."""
        return f"{source}.{self.path.format(kind=self.kind)}"

    def severity(self, level: str) -> int:
        return self.severities[level]

    @property
    def worst(self) -> int:
        return max(self.severities.values())


class Words(NamedTuple):
    """What a person says with an act, and in what locale; neither: nothing."""

    text: str = ""
    locale: str = ""


@dataclass(frozen=True, slots=True)
class Switch:
    """A state of two values, since when, and when it ends by itself (0: never); times ns UTC."""

    on: bool = False
    time: int = 0
    until: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """One thing to answer for: the present state (number 0, the trunk) or an earlier one."""

    number: int = 0
    state: State = State.NORMAL
    level: str = ""
    """Of the finding, while active."""
    severity: int = 1
    last_severity: int = 0
    severity_time: int = 0
    finding: Finding | None = None
    time: int = 0
    """Of its last change."""
    active_time: int = 0
    """When it was last raised or cleared."""
    acked_time: int = 0
    confirmed_time: int = 0
    event_id: bytes = b""
    """Of its newest notification."""
    answers: tuple[bytes, ...] = ()
    """Notifications an acknowledgement may name, oldest first."""
    answered: tuple[bytes, ...] = ()
    """Notifications that were acknowledged: a confirmation may name them."""
    comment: str = ""
    comment_locale: str = ""
    comment_time: int = 0
    user: str = ""
    """ClientUserId of the newest act."""
    quality: int = Quality.GOOD
    """StatusCode of what it is, or was, judged by."""
    quality_time: int = 0
    """Since when."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One alarm at one moment."""

    node: str
    """String id of the condition: its ConditionId, `EN01.Alarms.CommunicationLost`."""
    source: str
    kind: AlarmKind
    partner: str = ""
    """Node it is compared with, of one that compares two."""
    enabled: Switch = Switch(on=True)
    suppressed: Switch = Switch()
    """By a person."""
    inhibited: Switch = Switch()
    """By the state of the plant (ISA-18.2 12.3, suppressed by design)."""
    out_of_service: Switch = Switch()
    shelving: Shelving = Shelving.UNSHELVED
    shelved: Switch = Switch()
    """When it was shelved or unshelved, and until when."""
    transition: str = ""
    """Last transition of the shelving, `UnshelvedToTimedShelved`."""
    silenced: Switch = Switch()
    latched: Switch = Switch()
    first: bool = False
    """First of its group (FirstInGroupFlag)."""
    trunk: Branch = field(default_factory=Branch)
    branches: tuple[Branch, ...] = ()
    """Earlier states that are still owed an answer, oldest first."""
    made: int = 0
    """Branches it ever had: their numbers are never used twice."""

    @property
    def hidden(self) -> bool:
        """SuppressedOrShelved (Part 9 5.8.2)."""
        shelved = self.shelving is not Shelving.UNSHELVED
        return self.suppressed.on or self.inhibited.on or self.out_of_service.on or shelved

    @property
    def retain(self) -> bool:
        """Part 9 5.5.2: of interest to a client that refreshes, and be it for a branch."""
        return self.enabled.on and (self.trunk.state is not State.NORMAL or self.latched.on or bool(self.branches))

    def retains(self, branch: Branch) -> bool:
        """Retain of a notification."""
        if branch.number == 0:
            return self.retain
        return self.enabled.on and any(b.number == branch.number for b in self.branches)

    @property
    def acked(self) -> bool:
        """Nothing of it waits for an acknowledgement, branches neither: what a tag shows."""
        return self.trunk.state.acked and all(b.state.acked for b in self.branches)


@dataclass(frozen=True, slots=True)
class Notification:
    """A state as it is told: the condition then, and which branch of it."""

    condition: Condition
    branch: Branch
    switched: bool = False
    """It tells that the condition was disabled: the last word of one that is."""

    @property
    def retain(self) -> bool:
        return self.condition.retains(self.branch)


Step = tuple[Condition, tuple[Notification, ...]]
"""What a condition became, and what is to be told of it, in order."""
NewId = Callable[[], bytes]
K = TypeVar("K")


# -- what is found


def found(condition: Condition, finding: Finding, now: int, new_id: NewId) -> Step:
    """A finding came, changed or went."""
    trunk = condition.trunk
    trigger = _trigger(condition, finding)
    after = TRANSITIONS[trunk.state].get(trigger)
    if after is None:
        return condition, ()
    after = _settled(condition.kind, after)
    told: list[Branch] = []
    if trigger is Trigger.RAISE and trunk.state in OWED and _may_branch(condition):
        condition, earlier = _branched(condition, now, new_id)
        told.append(earlier)
    moved = _moved(condition, finding, trigger, after, now)
    condition = _with_horn(condition, trigger, now)
    condition, tellable = _tell(condition, moved, new_id, anew=trigger is Trigger.RAISE)
    return condition, _told(condition, *told, tellable)


def judged(condition: Condition, quality: int, now: int, new_id: NewId) -> Step:
    """What it is judged by has another quality: told of a condition that is retained (Part 9 5.5.2)."""
    if condition.trunk.quality == quality:
        return condition, ()
    condition = replace(condition, trunk=replace(condition.trunk, quality=int(quality), quality_time=now))
    return _trunk_told(_at(condition, now), new_id) if condition.retain else (condition, ())


def _trigger(condition: Condition, finding: Finding) -> Trigger:
    if not finding.level:
        return Trigger.CLEAR
    trunk, ranks = condition.trunk, list(condition.kind.severities)
    eased = trunk.level and ranks.index(finding.level) < ranks.index(trunk.level)
    return Trigger.EASE if eased else Trigger.RAISE


def _settled(kind: AlarmKind, after: State) -> State:
    if kind.dialog and after is State.UNACKED:
        return State.ACTIVE
    return after if kind.confirm else SETTLES.get(after, after)


def _may_branch(condition: Condition) -> bool:
    return condition.kind.branches and len(condition.branches) < MOST_BRANCHES


def _branched(condition: Condition, now: int, new_id: NewId) -> tuple[Condition, Branch]:
    """The trunk's state goes on as a branch; it answers to what it was told as, and to its own first notification."""
    number = condition.made + 1
    branch, event_id = replace(condition.trunk, number=number, time=now), new_id()
    branch = replace(branch, event_id=event_id, **_remember(branch, event_id))
    return replace(condition, made=number, branches=(*condition.branches, branch)), branch


def _moved(condition: Condition, finding: Finding, trigger: Trigger, after: State, now: int) -> Branch:
    trunk = condition.trunk
    severity = condition.kind.severity(finding.level) if finding.level else trunk.severity
    moved = replace(trunk, state=after, level=finding.level, finding=finding, time=now)
    if severity != trunk.severity:
        moved = replace(moved, severity=severity, last_severity=trunk.severity, severity_time=now)
    if after.active != trunk.state.active:
        moved = replace(moved, active_time=now)
    if after.acked != trunk.state.acked:
        moved = replace(moved, acked_time=now)
    if trigger is Trigger.RAISE:
        moved = replace(moved, answers=(), answered=())
        if trunk.state is State.NORMAL or trunk.state in OWED:  # what was said of the time before is no word of this
            moved = replace(moved, comment="", comment_locale="", comment_time=now, user="")
    return moved


def _with_horn(condition: Condition, trigger: Trigger, now: int) -> Condition:
    """What else goes with it: the horn sounds again, the latch falls, a shelf for one time is empty."""
    if trigger is Trigger.RAISE:
        condition = replace(condition, silenced=switched(condition.silenced, False, now))
        if condition.kind.latched:
            condition = replace(condition, latched=switched(condition.latched, True, now))
    elif trigger is Trigger.CLEAR and Shelve.CLEAR in SHELVING.get(condition.shelving, {}):
        condition = _shelved(condition, Shelve.CLEAR, now, 0)
    return condition


# -- what people do


def acknowledge(condition: Condition, event_id: bytes, said: Words, user: str, now: int, new_id: NewId) -> Step:
    """Part 9 5.7.3. Raises ConditionDisabled, EventIdUnknown, AlreadyAcknowledged."""
    branch = _acknowledgeable(_enabled(condition), event_id)
    after = _settled(condition.kind, TRANSITIONS[branch.state][Trigger.ACKNOWLEDGE])
    answered = (*branch.answered, *branch.answers)[-REMEMBERED:]
    moved = replace(branch, state=after, acked_time=now, time=now, answers=(), answered=answered)
    if not after.confirmed:
        moved = replace(moved, confirmed_time=now)
    return _answered(condition, _commented(moved, said, user, now), new_id)


def confirm(condition: Condition, event_id: bytes, said: Words, user: str, now: int, new_id: NewId) -> Step:
    """Part 9 5.7.4. Raises ConditionDisabled, EventIdUnknown, AlreadyConfirmed: until acknowledged too (B.1.3)."""
    branch = _named(_enabled(condition), event_id)
    after = TRANSITIONS[branch.state].get(Trigger.CONFIRM)
    if after is None:
        raise AlreadyConfirmed(f"{condition.node}: nothing is left to confirm")
    moved = replace(branch, state=after, confirmed_time=now, time=now)
    return _answered(condition, _commented(moved, said, user, now), new_id)


def add_comment(condition: Condition, event_id: bytes, said: Words, user: str, now: int, new_id: NewId) -> Step:
    """Part 9 5.5.6. Raises ConditionDisabled, EventIdUnknown."""
    branch = _named(_enabled(condition), event_id)
    return _answered(condition, replace(_commented(branch, said, user, now), time=now), new_id)


def respond(condition: Condition, response: int, said: Words, user: str, now: int, new_id: NewId) -> Step:
    """Part 9 5.6.3: ends the dialog. Raises ConditionDisabled, DialogNotActive."""
    trunk = _enabled(condition).trunk
    if not trunk.state.active or trunk.finding is None:
        raise DialogNotActive(f"{condition.node} asks nothing")
    answered = replace(trunk.finding, level="", time=now, details={**trunk.finding.details, RESPONSE: str(response)})
    moved = replace(trunk, state=State.NORMAL, level="", finding=answered, active_time=now, time=now)
    return _answered(condition, _commented(moved, said, user, now), new_id)


def enable(condition: Condition, said: Words, user: str, now: int, new_id: NewId) -> Step:
    """Part 9 5.5.5: tells how things stand. Raises AlreadyEnabled."""
    if condition.enabled.on:
        raise AlreadyEnabled(f"{condition.node} is enabled")
    condition = replace(condition, enabled=switched(condition.enabled, True, now))
    return _all_told(_by(condition, said, user, now), new_id)


def disable(condition: Condition, said: Words, user: str, now: int, until: int, new_id: NewId) -> Step:
    """Part 9 5.5.4: a last word of each branch, by which clients take it from their lists. Raises AlreadyDisabled."""
    if not condition.enabled.on:
        raise AlreadyDisabled(f"{condition.node} is disabled")
    condition = replace(condition, enabled=switched(condition.enabled, False, now, until))
    return _all_told(_by(condition, said, user, now), new_id, switched=True)


def suppress(condition: Condition, on: bool, said: Words, user: str, now: int, until: int, new_id: NewId) -> Step:
    """Part 9 5.8.8 to 5.8.11; as it is already: nothing to tell. Raises ConditionDisabled."""
    return _service(condition, "suppressed", on, said, user, now, until, new_id)


def remove(condition: Condition, on: bool, said: Words, user: str, now: int, until: int, new_id: NewId) -> Step:
    """RemoveFromService and PlaceInService (Part 9 5.8.12 to 5.8.15). Raises ConditionDisabled."""
    return _service(condition, "out_of_service", on, said, user, now, until, new_id)


def inhibit(condition: Condition, on: bool, now: int, new_id: NewId) -> Step:
    """Suppression by the state of the plant; nobody's act, so told of an active alarm only."""
    if condition.inhibited.on == on:
        return condition, ()
    condition = replace(condition, inhibited=switched(condition.inhibited, on, now))
    return _trunk_told(_at(condition, now), new_id) if condition.trunk.state.active else (condition, ())


def shelve(condition: Condition, how: Shelve, seconds: float, said: Words, user: str, now: int, new_id: NewId) -> Step:
    """Part 9 5.8.17. Raises ConditionDisabled, NotShelved, AlreadyShelved, ShelvingTimeOutOfRange."""
    _enabled(condition)
    if how is Shelve.TIMED and not 0 < seconds <= condition.kind.max_shelved:
        raise ShelvingTimeOutOfRange(f"{seconds:g} s: more than 0, at most {condition.kind.max_shelved:g} s")
    if how not in SHELVING[condition.shelving]:
        refusal = NotShelved if how is Shelve.UNSHELVE else AlreadyShelved
        raise refusal(f"{condition.node} is {condition.shelving.value}")
    lasts = {Shelve.TIMED: seconds, Shelve.ONE_SHOT: condition.kind.max_shelved}.get(how, 0.0)
    condition = _shelved(condition, how, now, now + round(lasts * SECOND) if lasts else 0)
    return _trunk_told(_by(condition, said, user, now), new_id)


def silence(condition: Condition, user: str, now: int, new_id: NewId) -> Step:
    """Part 9 5.8.7: the horn, until the alarm is raised again. Raises ConditionDisabled."""
    if _enabled(condition).silenced.on:
        return condition, ()
    condition = replace(condition, silenced=switched(condition.silenced, True, now))
    return _trunk_told(_by(condition, Words(), user, now), new_id)


def reset(condition: Condition, said: Words, user: str, now: int, new_id: NewId) -> Step:
    """Part 9 5.8.5. Raises ConditionDisabled; InvalidState when not latched, still active, or owed an answer."""
    latched = _enabled(condition).latched.on
    if not latched or condition.trunk.state is not State.NORMAL or condition.branches:
        raise InvalidState(f"{condition.node}: only what is latched, over and answered for is reset")
    condition = replace(condition, latched=switched(condition.latched, False, now))
    return _trunk_told(_by(condition, said, user, now), new_id)


def expired(condition: Condition, now: int, new_id: NewId) -> Step:
    """End what was to end by now: shelving, and a GMP alarm's time out of sight."""
    before = condition
    if 0 < condition.shelved.until <= now:
        condition = _shelved(condition, Shelve.EXPIRE, now, 0)
    changes: dict[str, Any] = {}
    for name, on in (("suppressed", False), ("out_of_service", False), ("enabled", True)):
        if 0 < getattr(condition, name).until <= now:
            changes[name] = switched(getattr(condition, name), on, now)
    condition = replace(condition, **changes)
    if condition == before:
        return condition, ()
    condition = _at(condition, now)
    return _all_told(condition, new_id) if "enabled" in changes else _trunk_told(condition, new_id)


def ends(condition: Condition) -> int:
    """When something of it ends by itself next; 0: nothing does."""
    switches = (condition.shelved, condition.suppressed, condition.out_of_service, condition.enabled)
    return min((s.until for s in switches if s.until), default=0)


# -- parts of steps


def switched(switch: Switch, on: bool, now: int, until: int = 0) -> Switch:
    return Switch(on, now if on != switch.on else switch.time, until)


def _enabled(condition: Condition) -> Condition:
    if not condition.enabled.on:
        raise ConditionDisabled(f"{condition.node} is disabled")
    return condition


def _all(condition: Condition) -> tuple[Branch, ...]:
    return condition.trunk, *condition.branches


def _acknowledgeable(condition: Condition, event_id: bytes) -> Branch:
    for branch in _all(condition):
        if event_id and event_id in branch.answers and Trigger.ACKNOWLEDGE in TRANSITIONS[branch.state]:
            return branch
    if any(event_id in (b.event_id, *b.answered) for b in _all(condition) if event_id):
        raise AlreadyAcknowledged(f"{condition.node}: this notification is acknowledged already")
    raise EventIdUnknown(f"{condition.node} has no notification {event_id.hex()}")


def _named(condition: Condition, event_id: bytes) -> Branch:
    """The branch a notification spoke of."""
    for branch in _all(condition):
        if event_id and event_id in (branch.event_id, *branch.answers, *branch.answered):
            return branch
    raise EventIdUnknown(f"{condition.node} has no notification {event_id.hex()}")


def _commented(branch: Branch, said: Words, user: str, now: int) -> Branch:
    """Nothing said leaves the comment before, an empty text with a locale ends it (Part 9 5.5.6)."""
    branch = replace(branch, user=user)
    if said == Words():
        return branch
    return replace(branch, comment=said.text, comment_locale=said.locale, comment_time=now)


def _by(condition: Condition, said: Words, user: str, now: int) -> Condition:
    return replace(condition, trunk=replace(_commented(condition.trunk, said, user, now), time=now))


def _at(condition: Condition, now: int) -> Condition:
    """Something of it changed that is nobody's act."""
    return replace(condition, trunk=replace(condition.trunk, time=now))


def _service(
    condition: Condition, name: str, on: bool, said: Words, user: str, now: int, until: int, new_id: NewId
) -> Step:
    if getattr(_enabled(condition), name).on == on:
        return condition, ()
    changes: dict[str, Any] = {name: switched(getattr(condition, name), on, now, until)}
    condition = replace(condition, **changes)
    return _trunk_told(_by(condition, said, user, now), new_id)


def _shelved(condition: Condition, how: Shelve, now: int, until: int) -> Condition:
    before, after = condition.shelving, SHELVING[condition.shelving][how]
    return replace(
        condition,
        shelving=after,
        shelved=Switch(after is not Shelving.UNSHELVED, now, until),
        transition=f"{before.value}To{after.value}" if after is not before else condition.transition,
    )


def _answered(condition: Condition, branch: Branch, new_id: NewId) -> Step:
    """Tell a branch somebody acted on; one that has all it was owed ends, and with the last one the trunk may."""
    ends_here = branch.number > 0 and branch.state is State.NORMAL
    condition, told = _tell(condition, branch, new_id)
    if not ends_here:
        return condition, _told(condition, told)
    condition = replace(condition, branches=tuple(b for b in condition.branches if b.number != branch.number))
    if condition.retain:
        return condition, _told(condition, told)
    condition = _at(condition, branch.time)
    condition, trunk = _tell(condition, condition.trunk, new_id)
    return condition, _told(condition, told, trunk)


def _trunk_told(condition: Condition, new_id: NewId) -> Step:
    condition, told = _tell(condition, condition.trunk, new_id)
    return condition, _told(condition, told)


def _all_told(condition: Condition, new_id: NewId, *, switched: bool = False) -> Step:
    told = []
    for branch in (*condition.branches, condition.trunk):
        condition, tellable = _tell(condition, branch, new_id)
        told.append(tellable)
    return condition, tuple(Notification(condition, b, switched) for b in told)


def _tell(condition: Condition, branch: Branch, new_id: NewId, *, anew: bool = False) -> tuple[Condition, Branch]:
    """Give a branch its next notification's EventId and put it in its place."""
    event_id = new_id()
    if anew:
        branch = replace(branch, answers=())
    branch = replace(branch, event_id=event_id, **_remember(branch, event_id))
    if branch.number == 0:
        return replace(condition, trunk=branch), branch
    branches = tuple(branch if b.number == branch.number else b for b in condition.branches)
    return replace(condition, branches=branches), branch


def _remember(branch: Branch, event_id: bytes) -> dict[str, Any]:
    """Only a notification that said 'unacknowledged' can be acknowledged (Part 9 5.7.3)."""
    name = "answered" if branch.state.acked else "answers"
    return {name: (*getattr(branch, name), event_id)[-REMEMBERED:]}


def _told(condition: Condition, *branches: Branch) -> tuple[Notification, ...]:
    """Of a disabled condition nothing is told (Part 9 5.5.2)."""
    return tuple(Notification(condition, b) for b in branches) if condition.enabled.on else ()
