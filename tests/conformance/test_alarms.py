"""Part 9 over the wire: every state, transition, method and code of a condition, on both kinds of channel.

The playground's variables drive two alarms: Score an exclusive one that needs confirmation, Anomaly a non-exclusive one
that latches and is GMP, so that acts on it need a comment.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio
from asyncua import ua

from tests.conformance.plant import CODES, Conversation, Plant, call, double, nid, read, write

pytestmark = pytest.mark.asyncio(loop_scope="module")
SCORE = "ns=3;s=EN01.Stream01.Alarms.QualityScoreLow"
ANOMALY = "ns=3;s=EN01.Stream01.Alarms.AnomalyDetected"
LOST = "ns=3;s=EN01.Alarms.CommunicationLost"
SERVER = ua.NodeId(ua.ObjectIds.Server)
I = ua.ObjectIds  # noqa: E741 - read in columns
STATES = ("ActiveState", "AckedState", "ConfirmedState", "SuppressedState", "OutOfServiceState", "SilenceState")
FIELDS = (
    "EventId", "EventType", "SourceNode", "SourceName", "Time", "ReceiveTime", "Message", "Severity", "ConditionName",
    "ConditionClassId", "ConditionClassName", "BranchId", "Retain", "EnabledState", "EnabledState/Id",
    "EnabledState/TransitionTime", "EnabledState/EffectiveDisplayName", "EnabledState/EffectiveTransitionTime",
    "Quality", "Quality/SourceTimestamp", "LastSeverity", "LastSeverity/SourceTimestamp", "Comment",
    "Comment/SourceTimestamp", "ClientUserId", *STATES, *(f"{s}/Id" for s in STATES),
    *(f"{s}/TransitionTime" for s in STATES), "ActiveState/EffectiveDisplayName", "InputNode", "SuppressedOrShelved",
    "MaxTimeShelved", "OnDelay", "OffDelay", "ShelvingState/CurrentState", "ShelvingState/CurrentState/Id",
    "ShelvingState/UnshelveTime", "ShelvingState/LastTransition",
)  # fmt: skip
OF_SCORE = ("LimitState/CurrentState", "LimitState/CurrentState/Id", "SeverityLow", "SeverityLowLow")
OF_ANOMALY = (
    "HighState", "HighState/Id", "HighState/TransitionTime", "HighHighState", "HighHighState/Id", "LatchedState",
    "LatchedState/Id", "LatchedState/TransitionTime", "TopChannels",
)  # fmt: skip


def clause(path: str) -> ua.SimpleAttributeOperand:
    return ua.SimpleAttributeOperand(
        TypeDefinitionId=ua.NodeId(I.BaseEventType),
        BrowsePath=[ua.QualifiedName(name, 2 if name == "TopChannels" else 0) for name in path.split("/")],
        AttributeId=ua.AttributeIds.Value,
    )


CONDITION_ID = ua.SimpleAttributeOperand(
    TypeDefinitionId=ua.NodeId(I.ConditionType), BrowsePath=[], AttributeId=ua.AttributeIds.NodeId
)
SELECTED = (*FIELDS, *OF_SCORE, *OF_ANOMALY)
EVENTS = ua.EventFilter(SelectClauses=[CONDITION_ID, *map(clause, SELECTED)])

Told = dict[str, Any]


def text(words: str | None, locale: str | None = "en") -> ua.Variant:
    return ua.Variant(ua.LocalizedText(words, locale), ua.VariantType.LocalizedText)


NOTHING_SAID = text(None, None)


def event_id(value: bytes) -> ua.Variant:
    return ua.Variant(value, ua.VariantType.ByteString)


@dataclass
class Alarm:
    """One alarm of the playground, and what is told of it."""

    talk: Conversation
    engineer: Conversation
    node: str
    drive: str
    normal: float
    subscription: int = 0
    told: list[Told] = field(default_factory=list)
    _markers: int = 0

    async def sees(self, value: float) -> list[Told]:
        assert await self.talk.outcome(write(f"Alarms.{self.drive}", double(value))) == [0]
        return await self.news()

    async def does(self, method: str, *arguments: Any, on: str = "", as_engineer: bool = False, typed: int = 0) -> int:
        who = self.engineer if as_engineer else self.talk
        at = f"i={typed}" if typed else f"{self.node}.{method}"
        [code] = await who.outcome(call(at, *arguments, on=on or self.node))
        return int(code)

    async def news(self) -> list[Told]:
        """What was told of this alarm since the last time: up to a marker that comes after everything that waits."""
        await self.does("Acknowledge", event_id(b"nothing"), text(""))
        self._markers += 1
        marker = f"marker {id(self)} {self._markers}"
        raised = call("Methods.RaiseEvent", ua.Variant(marker, ua.VariantType.String),
                      ua.Variant(1, ua.VariantType.UInt16))  # fmt: skip
        assert await self.talk.outcome(raised) == [0]
        told: list[Told] = []
        marked = False
        while not marked:
            for fields in await self.talk.next_data():  # what follows the marker in one message is news as well
                condition, *values = [v.Value for v in fields]
                event = dict(zip(SELECTED, values, strict=True))
                marked |= event["Message"].Text == marker
                if condition == nid(self.node):
                    told.append(event)
        self.told += told
        return told

    @property
    def last(self) -> bytes:
        return bytes(self.told[-1]["EventId"])

    async def shows(self, path: str) -> Any:
        response = await self.talk.call(read(f"{self.node}.{path}"))
        return response.Results[0].Value.Value

    async def restore(self) -> None:
        """To where no alarm is, whatever a test left."""
        if not await self.shows("EnabledState.Id"):
            await self.does("Enable", as_engineer=True)
        if await self.shows("SuppressedOrShelved"):
            for method in ("ShelvingState.Unshelve", "Unsuppress", "PlaceInService"):
                await self.does(method)
        await self.sees(self.normal)
        if not await self.shows("Retain"):
            self.told.clear()
            return
        async with asyncio.timeout(60):
            while await self.shows("Retain"):
                for told in [t for t in reversed(self.told) if t["Retain"]]:
                    for method in ("Acknowledge", "Confirm"):
                        await self.does(method, event_id(told["EventId"]), text("restored"))
                if self.node == ANOMALY:
                    await self.does("Reset")
                await self.news()
        self.told.clear()

    async def refresh(self) -> list[Told]:
        number = ua.Variant(self.subscription, ua.VariantType.UInt32)
        refresh = call(f"i={I.ConditionType_ConditionRefresh}", number, on=f"i={I.ConditionType}")
        assert await self.talk.outcome(refresh) == [0]
        return await self.news()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engineer(talk: Conversation, plant: Plant) -> AsyncIterator[Conversation]:
    async with plant.session(channel_of(talk), "eng1") as session:
        yield session


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def alarms(talk: Conversation, engineer: Conversation) -> dict[str, Alarm]:
    made = {
        "score": Alarm(talk, engineer, SCORE, "Score", 100.0),
        "anomaly": Alarm(talk, engineer, ANOMALY, "Anomaly", 0.0),
    }
    subscription = (await talk.subscribe(interval=10.0, RequestedLifetimeCount=60_000)).SubscriptionId
    monitored = await talk.monitor(subscription, SERVER, ua.AttributeIds.EventNotifier, Filter=EVENTS, QueueSize=1000)
    monitored.StatusCode.check()
    for alarm in made.values():
        alarm.subscription = subscription
        await alarm.restore()
    return made


@pytest_asyncio.fixture(loop_scope="module")
async def score(alarms: dict[str, Alarm]) -> AsyncIterator[Alarm]:
    yield alarms["score"]
    await alarms["score"].restore()


@pytest_asyncio.fixture(loop_scope="module")
async def anomaly(alarms: dict[str, Alarm]) -> AsyncIterator[Alarm]:
    yield alarms["anomaly"]
    await alarms["anomaly"].restore()


def channel_of(talk: Conversation) -> str:
    return "None" if talk.policy.Mode == ua.MessageSecurityMode.None_ else "Basic256Sha256"


# -- the life of an alarm: what a step tells, as (branch or not, active, acked, confirmed, retain)

TRUNK, BRANCH = False, True
LIVES: dict[str, list[tuple[Any, list[tuple[bool, bool, bool, bool, bool]]]]] = {
    "Part 9 table B.1": [
        (30.0, [(TRUNK, True, False, True, True)]),
        ("Acknowledge", [(TRUNK, True, True, False, True)]),
        (100.0, [(TRUNK, False, True, False, True)]),
        ("Confirm", [(TRUNK, False, True, True, False)]),
        (30.0, [(TRUNK, True, False, True, True)]),
        (100.0, [(TRUNK, False, False, True, True)]),
        ("Acknowledge", [(TRUNK, False, True, False, True)]),
        ("Confirm", [(TRUNK, False, True, True, False)]),
    ],
    "confirmed while active": [
        (30.0, [(TRUNK, True, False, True, True)]),
        ("Acknowledge", [(TRUNK, True, True, False, True)]),
        ("Confirm", [(TRUNK, True, True, True, True)]),
        (100.0, [(TRUNK, False, True, True, False)]),
    ],
    "worse, then milder": [
        (30.0, [(TRUNK, True, False, True, True)]),
        ("Acknowledge", [(TRUNK, True, True, False, True)]),
        (10.0, [(TRUNK, True, False, True, True)]),
        ("Acknowledge", [(TRUNK, True, True, False, True)]),
        (30.0, [(TRUNK, True, True, False, True)]),
        ("Confirm", [(TRUNK, True, True, True, True)]),
        (30.0, []),
    ],
    "again before it was answered: a branch (5.5.2)": [
        (30.0, [(TRUNK, True, False, True, True)]),
        (100.0, [(TRUNK, False, False, True, True)]),
        (10.0, [(BRANCH, False, False, True, True), (TRUNK, True, False, True, True)]),
        ("Acknowledge", [(TRUNK, True, True, False, True)]),
        ("Confirm", [(TRUNK, True, True, True, True)]),
        (100.0, [(TRUNK, False, True, True, True)]),
        ("Acknowledge the first", [(BRANCH, False, True, False, True)]),
        ("Confirm the first", [(BRANCH, False, True, True, False), (TRUNK, False, True, True, False)]),
    ],
    "again before it was confirmed": [
        (30.0, [(TRUNK, True, False, True, True)]),
        ("Acknowledge", [(TRUNK, True, True, False, True)]),
        (100.0, [(TRUNK, False, True, False, True)]),
        (30.0, [(BRANCH, False, True, False, True), (TRUNK, True, False, True, True)]),
        ("Confirm the first", [(BRANCH, False, True, True, False)]),
    ],
}


@pytest.mark.parametrize("name", LIVES)
async def test_a_life(score: Alarm, name: str) -> None:
    for step, expected in LIVES[name]:
        if isinstance(step, float):
            told = await score.sees(step)
        else:
            method, _, which = step.partition(" ")
            chosen = score.told[0]["EventId"] if which else score.last
            assert await score.does(method, event_id(chosen), text("seen")) == 0, step
            told = await score.news()
        assert [
            (not t["BranchId"].is_null(), t["ActiveState/Id"], t["AckedState/Id"], t["ConfirmedState/Id"], t["Retain"])
            for t in told
        ] == expected, step


async def test_each_notification_has_an_event_id_of_its_own_and_the_node_the_newest(score: Alarm) -> None:
    for value in (30.0, 10.0, 100.0, 30.0):
        await score.sees(value)
    ids = [t["EventId"] for t in score.told]
    assert len(set(ids)) == len(ids)
    assert await score.shows("EventId") == score.last


# -- members


async def test_every_member_is_in_the_event_and_on_the_node(score: Alarm) -> None:
    [told] = await score.sees(30.0)
    for path in (*FIELDS, *OF_SCORE):
        assert told[path] is not None, path
        if path not in ("ReceiveTime", "ShelvingState/UnshelveTime"):
            shown = await score.shows(path.replace("/", "."))
            assert shown == told[path], path
    assert told["SourceNode"] == nid("ns=3;s=EN01.Stream01")
    assert told["InputNode"] == nid("ns=3;s=EN01.Stream01.Quality.Score")
    assert told["ConditionClassId"].Identifier == I.ProcessConditionClassType
    assert told["ActiveState/EffectiveDisplayName"].Text == "Active/Low"
    assert told["EnabledState/EffectiveDisplayName"].Text == "Active/Low, Unacknowledged"


@pytest.mark.parametrize(
    ("value", "state", "number", "severity"),
    [
        (30.0, "Low", I.ExclusiveLimitStateMachineType_Low, 500),
        (10.0, "LowLow", I.ExclusiveLimitStateMachineType_LowLow, 800),
    ],
)
async def test_an_exclusive_alarm_is_in_one_limit_state(
    score: Alarm, value: float, state: str, number: int, severity: int
) -> None:
    # Acceptance point 15; Part 9 5.8.19.
    [told] = await score.sees(value)
    assert (told["LimitState/CurrentState"].Text, told["LimitState/CurrentState/Id"].Identifier) == (state, number)
    assert told["Severity"] == severity
    [gone] = await score.sees(100.0)
    assert gone["LimitState/CurrentState/Id"].is_null()
    assert gone["LastSeverity"] in (0, 1, 500, 800)


async def test_a_non_exclusive_alarm_tells_every_limit(anomaly: Alarm) -> None:
    # Acceptance point 15; Part 9 5.8.20.
    [high] = await anomaly.sees(0.6)
    [highest] = await anomaly.sees(0.9)
    states = [(t["ActiveState/Id"], t["HighState/Id"], t["HighHighState/Id"]) for t in (high, highest)]
    assert states == [(True, True, False), (True, True, True)]
    for path in OF_ANOMALY:
        assert highest[path] is not None, path
    [over] = await anomaly.sees(0.0)
    assert (over["HighState/Id"], over["HighHighState/Id"]) == (False, False)


async def test_the_tags_say_what_the_condition_says(score: Alarm) -> None:
    # Acceptance point 9: a branch that waits is not acknowledged either.
    for value in (30.0, 100.0, 30.0):
        await score.sees(value)
    assert [await score.shows(p) for p in ("Active", "Acked", "Severity")] == [True, False, 500]
    await score.does("Acknowledge", event_id(score.last), text("seen"))
    assert await score.shows("AckedState.Id") is True
    assert await score.shows("Acked") is False


# -- how sure it is


async def test_a_change_of_the_quality_is_told_while_the_alarm_is_retained(score: Alarm) -> None:
    # Part 9 5.5.2: Quality is that of what the condition is judged by; a state it cannot know stays what it was.
    async def written(value: float, code: int) -> list[Told]:
        data = write(f"Alarms.{score.drive}", double(value), StatusCode=ua.StatusCode(code))
        assert await score.talk.outcome(data) == [0]
        return await score.news()

    assert await written(100.0, CODES.UncertainLastUsableValue) == []
    assert (await score.shows("Quality")).value == CODES.UncertainLastUsableValue
    [raised] = await written(30.0, CODES.UncertainLastUsableValue)
    assert (raised["Quality"].value, raised["ActiveState/Id"]) == (CODES.UncertainLastUsableValue, True)
    [lost] = await written(100.0, CODES.BadNoCommunication)
    assert (lost["Quality"].value, lost["ActiveState/Id"]) == (CODES.BadNoCommunication, True)
    assert lost["Quality/SourceTimestamp"] > raised["Quality/SourceTimestamp"]
    assert await score.shows("Quality.SourceTimestamp") == lost["Quality/SourceTimestamp"]
    assert await score.does("Acknowledge", event_id(lost["EventId"]), text("seen")) == 0
    sure, over = [t for t in await score.sees(100.0) if t["Quality"].value == CODES.Good]
    assert (sure["ActiveState/Id"], over["ActiveState/Id"]) == (True, False)


# -- codes


async def test_codes_of_answers(score: Alarm) -> None:
    # Part 9 5.5.6, 5.7.3, 5.7.4, table 137.
    for method in ("Acknowledge", "Confirm", "AddComment"):
        assert await score.does(method, event_id(b""), text("x")) == CODES.BadEventIdUnknown
        assert await score.does(method, event_id(b"0123456789abcdef"), text("x")) == CODES.BadEventIdUnknown
        assert await score.does(method, event_id(b"")) == CODES.BadArgumentsMissing
        assert await score.does(method, double(1.0), text("x")) == CODES.BadInvalidArgument
    [raised] = await score.sees(30.0)
    outcome = await score.does("Confirm", event_id(raised["EventId"]), text("x"))
    assert outcome == CODES.BadConditionBranchAlreadyConfirmed  # ConfirmedState is True until it is acknowledged
    assert await score.does("AddComment", event_id(raised["EventId"]), text("look")) == 0
    [commented] = await score.news()
    assert (commented["Comment"].Text, commented["ClientUserId"]) == ("look", "op1")
    assert await score.does("Acknowledge", event_id(raised["EventId"]), NOTHING_SAID) == 0  # the older one
    [acked] = await score.news()
    assert acked["Comment"].Text == "look"
    for known in (raised, commented, acked):
        outcome = await score.does("Acknowledge", event_id(known["EventId"]), text("x"))
        assert outcome == CODES.BadConditionBranchAlreadyAcked
    assert await score.does("Confirm", event_id(acked["EventId"]), text("done")) == 0
    outcome = await score.does("Confirm", event_id(acked["EventId"]), text("done"))
    assert outcome == CODES.BadConditionBranchAlreadyConfirmed
    await score.news()
    [worse] = await score.sees(10.0)
    await score.sees(100.0)
    await score.sees(30.0)
    assert await score.does("Acknowledge", event_id(raised["EventId"]), text("x")) == CODES.BadEventIdUnknown
    assert await score.does("Acknowledge", event_id(worse["EventId"]), text("x")) == 0  # of the branch


async def test_codes_of_enabling(score: Alarm) -> None:
    # Part 9 5.5.4, 5.5.5.
    assert await score.does("Disable") == CODES.BadUserAccessDenied  # an operator
    assert await score.does("Enable", as_engineer=True) == CODES.BadConditionAlreadyEnabled
    [raised] = await score.sees(30.0)
    assert await score.does("Disable", as_engineer=True) == 0
    [last] = await score.news()
    assert (last["Retain"], last["EnabledState/Id"]) == (False, False)
    assert last["ActiveState/Id"].value == CODES.BadConditionDisabled
    assert await score.does("Disable", as_engineer=True) == CODES.BadConditionAlreadyDisabled
    for method, arguments in (
        ("Acknowledge", (event_id(raised["EventId"]), text("x"))),
        ("Confirm", (event_id(raised["EventId"]), text("x"))),
        ("AddComment", (event_id(raised["EventId"]), text("x"))),
        ("ShelvingState.TimedShelve", (double(1000.0),)),
        ("ShelvingState.OneShotShelve", ()),
        ("ShelvingState.Unshelve", ()),
        ("Suppress", ()),
        ("Unsuppress", ()),
        ("RemoveFromService", ()),
        ("PlaceInService", ()),
        ("Silence", ()),
    ):
        assert await score.does(method, *arguments) == CODES.BadConditionDisabled, method
    assert await score.sees(100.0) == []
    assert await score.sees(10.0) == []
    assert await score.refresh() == []
    assert await score.does("Enable", as_engineer=True) == 0
    *_, now = await score.news()
    assert (now["Retain"], now["LimitState/CurrentState"].Text) == (True, "LowLow")


UNSHELVED, TIMED, ONE_SHOT = "Unshelved", "TimedShelved", "OneShotShelved"
SHELVE = {UNSHELVED: "Unshelve", TIMED: "TimedShelve", ONE_SHOT: "OneShotShelve"}
SHELVING = [
    # from, method, code, to (Part 9 5.8.17)
    (UNSHELVED, "TimedShelve", 0, TIMED),
    (UNSHELVED, "OneShotShelve", 0, ONE_SHOT),
    (UNSHELVED, "Unshelve", CODES.BadConditionNotShelved, UNSHELVED),
    (TIMED, "TimedShelve", 0, TIMED),
    (TIMED, "OneShotShelve", 0, ONE_SHOT),
    (TIMED, "Unshelve", 0, UNSHELVED),
    (ONE_SHOT, "TimedShelve", 0, TIMED),
    (ONE_SHOT, "OneShotShelve", CODES.BadConditionAlreadyShelved, ONE_SHOT),
    (ONE_SHOT, "Unshelve", 0, UNSHELVED),
]


def shelving_arguments(method: str, comment: bool) -> list[ua.Variant]:
    return [*([double(60_000.0)] if method == "TimedShelve" else []), *([text("noisy")] if comment else [])]


@pytest.mark.parametrize("comment", [False, True])
@pytest.mark.parametrize(("before", "method", "code", "after"), SHELVING)
async def test_each_step_of_shelving(
    score: Alarm, before: str, method: str, code: int, after: str, comment: bool
) -> None:
    if before != UNSHELVED:
        assert await score.does(f"ShelvingState.{SHELVE[before]}", *shelving_arguments(SHELVE[before], False)) == 0
    await score.news()
    name = f"ShelvingState.{method}{'2' if comment else ''}"
    assert await score.does(name, *shelving_arguments(method, comment)) == code
    told = await score.news()
    assert len(told) == (code == 0)
    assert (await score.shows("ShelvingState.CurrentState")).Text == after
    assert await score.shows("SuppressedOrShelved") is (after != UNSHELVED)
    left = await score.shows("ShelvingState.UnshelveTime")
    assert (0 < left <= {TIMED: 60_000, ONE_SHOT: 3_600_000}[after]) if after != UNSHELVED else left == 0
    if told and comment:
        assert (told[0]["Comment"].Text, told[0]["ClientUserId"]) == ("noisy", "op1")


@pytest.mark.parametrize("milliseconds", [0.0, -1.0, 3_600_001.0, float("nan"), float("inf")])
async def test_a_shelving_time_out_of_range(score: Alarm, milliseconds: float) -> None:
    # Part 9 5.8.17.4: MaxTimeShelved is the limit.
    assert await score.shows("MaxTimeShelved") == 3_600_000
    assert await score.does("ShelvingState.TimedShelve", double(milliseconds)) == CODES.BadShelvingTimeOutOfRange


async def test_a_timed_shelf_empties_itself_and_one_for_one_time_with_the_alarm(score: Alarm) -> None:
    assert await score.does("ShelvingState.TimedShelve", double(100.0)) == 0
    states = [t["ShelvingState/CurrentState"].Text for t in await score.news()]
    while states[-1] != UNSHELVED:
        states += [t["ShelvingState/CurrentState"].Text for t in await score.news()]
    assert states == [TIMED, UNSHELVED]
    await score.sees(30.0)
    assert await score.does("ShelvingState.OneShotShelve") == 0
    await score.news()
    [gone] = await score.sees(100.0)
    assert (gone["ShelvingState/CurrentState"].Text, gone["ShelvingState/LastTransition"].Text) == (
        UNSHELVED,
        "OneShotShelvedToUnshelved",
    )


TYPES = {
    "Acknowledge": I.AcknowledgeableConditionType_Acknowledge,
    "Confirm": I.AcknowledgeableConditionType_Confirm,
    "AddComment": I.ConditionType_AddComment,
    "Silence": I.AlarmConditionType_Silence,
    "Suppress": I.AlarmConditionType_Suppress,
    "Suppress2": I.AlarmConditionType_Suppress2,
    "Unsuppress": I.AlarmConditionType_Unsuppress,
    "Unsuppress2": I.AlarmConditionType_Unsuppress2,
    "RemoveFromService": I.AlarmConditionType_RemoveFromService,
    "RemoveFromService2": I.AlarmConditionType_RemoveFromService2,
    "PlaceInService": I.AlarmConditionType_PlaceInService,
    "PlaceInService2": I.AlarmConditionType_PlaceInService2,
    "GetGroupMemberships": I.AlarmConditionType_GetGroupMemberships,
}
COMMENTED = ("Suppress2", "Unsuppress2", "RemoveFromService2", "PlaceInService2")


@pytest.mark.parametrize("typed", [False, True])
@pytest.mark.parametrize("method", TYPES)
async def test_a_method_works_on_the_instance_and_through_its_type(score: Alarm, method: str, typed: bool) -> None:
    # Part 9 5.7.3: the ConditionId is the ObjectId, the MethodId the instance's own or the type's.
    await score.sees(30.0)
    if method == "Confirm":
        await score.does("Acknowledge", event_id(score.last), text("seen"))
    arguments: list[ua.Variant] = [text("why")] if method in COMMENTED else []
    if method in ("Acknowledge", "Confirm", "AddComment"):
        arguments = [event_id(score.last), text("why")]
    assert await score.does(method, *arguments, typed=TYPES[method] if typed else 0) == 0


@pytest.mark.parametrize(
    ("method", "way"),
    [
        *itertools.product(
            ("TimedShelve", "TimedShelve2", "OneShotShelve", "OneShotShelve2"),
            ("shelving", "condition", "type on the condition", "type on the shelving"),
        ),
        ("TimedShelve", "member"),
        ("OneShotShelve", "member"),
    ],
)
async def test_shelving_is_called_on_the_shelving_and_on_the_condition(score: Alarm, method: str, way: str) -> None:
    # Part 9 5.8.17.4: a server allows the ConditionId as ObjectId.
    of_type = getattr(I, f"ShelvedStateMachineType_{method}")
    member = getattr(I, f"AlarmConditionType_ShelvingState_{method}", 0)
    on, typed = {
        "shelving": (f"{SCORE}.ShelvingState", 0),
        "condition": (SCORE, 0),
        "type on the condition": (SCORE, of_type),
        "type on the shelving": (f"{SCORE}.ShelvingState", of_type),
        "member": (SCORE, member),
    }[way]
    arguments = shelving_arguments(method.removesuffix("2"), method.endswith("2"))
    assert await score.does(f"ShelvingState.{method}", *arguments, on=on, typed=typed) == 0
    assert await score.does("ShelvingState.Unshelve", on=on) == 0


@pytest.mark.parametrize("method", [m for m in TYPES if m != "GetGroupMemberships"])
async def test_a_method_called_on_a_type_is_refused(score: Alarm, method: str) -> None:
    # Part 9 5.7.3: BadNodeIdInvalid on the type node; of another object, BadMethodInvalid.
    arguments: list[ua.Variant] = [text("why")] if method in COMMENTED else []
    if method in ("Acknowledge", "Confirm", "AddComment"):
        arguments = [event_id(b"x"), text("why")]
    on_type = await score.does(method, *arguments, on=f"i={I.AlarmConditionType}", typed=TYPES[method])
    assert on_type == CODES.BadNodeIdInvalid
    elsewhere = await score.does(method, *arguments, on=f"i={I.Server}", typed=TYPES[method])
    assert elsewhere == CODES.BadMethodInvalid


SERVICE = [
    # method, its opposite, state
    ("Suppress", "Unsuppress", "SuppressedState"),
    ("RemoveFromService", "PlaceInService", "OutOfServiceState"),
]


@pytest.mark.parametrize("comment", [False, True])
@pytest.mark.parametrize(("method", "opposite", "state"), SERVICE)
async def test_suppression_and_service(score: Alarm, method: str, opposite: str, state: str, comment: bool) -> None:
    # Part 9 5.8.8 to 5.8.15: also of an alarm that is not active; again changes nothing.
    two, words = ("2", [text("pump off")]) if comment else ("", [])
    assert await score.does(f"{method}{two}", *words) == 0
    [told] = await score.news()
    assert (told[f"{state}/Id"], told["SuppressedOrShelved"], told["ClientUserId"]) == (True, True, "op1")
    assert await score.does(f"{method}{two}", *words) == 0
    assert await score.news() == []
    assert await score.does(f"{opposite}{two}", *words) == 0
    [told] = await score.news()
    assert (told[f"{state}/Id"], told["SuppressedOrShelved"]) == (False, False)
    if comment:
        assert told["Comment"].Text == "pump off"


async def test_the_horn_is_silenced_until_the_alarm_is_raised_again(score: Alarm) -> None:
    await score.sees(30.0)
    assert await score.does("Silence") == 0
    [told] = await score.news()
    assert told["SilenceState/Id"] is True
    [worse] = await score.sees(10.0)
    assert worse["SilenceState/Id"] is False


@pytest.mark.parametrize("method", ["Reset", "Reset2"])
async def test_a_latched_alarm_stays_until_it_is_reset(anomaly: Alarm, method: str) -> None:
    # Part 9 5.8.5: only when it is over and answered for.
    words = [text("cleaned")] if method == "Reset2" else []
    assert await anomaly.does(method, *words) == CODES.BadInvalidState
    [raised] = await anomaly.sees(0.6)
    assert raised["LatchedState/Id"] is True
    assert await anomaly.does(method, *words) == CODES.BadInvalidState
    await anomaly.sees(0.0)
    assert await anomaly.does("Acknowledge", event_id(raised["EventId"]), text("seen")) == 0
    [acked] = await anomaly.news()
    assert (acked["AckedState/Id"], acked["Retain"], acked["LatchedState/Id"]) == (True, True, True)
    assert await anomaly.does(method, *words, typed=getattr(I, f"AlarmConditionType_{method}")) == 0
    [reset] = await anomaly.news()
    assert (reset["Retain"], reset["LatchedState/Id"]) == (False, False)


async def test_an_alarm_that_does_not_latch_has_no_reset(score: Alarm) -> None:
    assert await score.does("Reset", typed=I.AlarmConditionType_Reset) == CODES.BadInvalidState


# -- GMP


async def test_a_gmp_alarm_is_answered_and_hidden_with_a_comment_only(anomaly: Alarm) -> None:
    # Process rules 9, 18.
    [raised] = await anomaly.sees(0.6)
    assert await anomaly.does("Acknowledge", event_id(raised["EventId"]), text(" ")) == CODES.BadInvalidArgument
    for method, arguments in (
        ("ShelvingState.TimedShelve", [double(1000.0)]),
        ("ShelvingState.OneShotShelve", []),
        ("Suppress", []),
        ("RemoveFromService", []),
        ("ShelvingState.TimedShelve2", [double(1000.0), text("")]),
        ("Suppress2", [text("")]),
    ):
        assert await anomaly.does(method, *arguments) == CODES.BadInvalidArgument, method
    assert await anomaly.does("Disable", as_engineer=True) == CODES.BadUserAccessDenied
    assert await anomaly.does("ShelvingState.TimedShelve2", double(60_000.0), text("probe cleaning")) == 0
    told = await anomaly.news()
    assert told[-1]["Comment"].Text == "probe cleaning"


@pytest.mark.parametrize(
    "method", ["Acknowledge", "Confirm", "AddComment", "Enable", "Disable", "Suppress", "Silence", "RemoveFromService"]
)
async def test_an_observer_acts_on_no_alarm(plant: Plant, talk: Conversation, method: str) -> None:
    # Information model 1.7.
    arguments = [event_id(b"x"), text("x")] if method in ("Acknowledge", "Confirm", "AddComment") else []
    async with plant.session(channel_of(talk), "obs1") as observer:
        assert await observer.outcome(call(f"{SCORE}.{method}", *arguments, on=SCORE)) == [CODES.BadUserAccessDenied]


async def test_a_comment_is_kept_as_it_was_said_until_it_is_taken_back(score: Alarm) -> None:
    # Part 9 5.5.2, 5.5.6: null at first; a null one is ignored, an empty text with a locale resets it.
    [raised] = await score.sees(30.0)
    assert raised["Comment"] == ua.LocalizedText()
    for said, kept in (
        (text("Pumpe läuft", "de"), ua.LocalizedText("Pumpe läuft", "de")),
        (NOTHING_SAID, ua.LocalizedText("Pumpe läuft", "de")),
        (text("no locale", None), ua.LocalizedText("no locale")),
        (text("", "en"), ua.LocalizedText("", "en")),
    ):
        assert await score.does("AddComment", event_id(score.last), said) == 0
        [told] = await score.news()
        assert told["Comment"] == kept
        assert await score.shows("Comment") == kept


# -- refresh


async def test_a_refresh_tells_the_branches_and_the_condition(score: Alarm) -> None:
    # Part 9 5.5.7; acceptance point 14.
    for value in (30.0, 100.0, 30.0):
        await score.sees(value)
    told = await score.refresh()
    assert [(t["BranchId"].is_null(), t["Retain"]) for t in told] == [(False, True), (True, True)]
    assert [t["EventId"] for t in told] == [t["EventId"] for t in score.told[2:4]]


async def test_conditions_are_browsed_from_their_source(talk: Conversation) -> None:
    # Acceptance point 14: permanent instances.
    description = ua.BrowseDescription(
        NodeId=nid("ns=3;s=EN01.Stream01"),
        BrowseDirection=ua.BrowseDirection.Forward,
        ReferenceTypeId=ua.NodeId(I.HasCondition),
        IncludeSubtypes=True,
        ResultMask=63,
    )
    answer = await talk.call(ua.BrowseRequest(Parameters=ua.BrowseParameters(NodesToBrowse=[description])))
    assert {nid(SCORE), nid(ANOMALY)} <= {r.NodeId for r in answer.Results[0].References}


# -- groups


async def browsed(talk: Conversation, node: str, reference: int) -> set[Any]:
    description = ua.BrowseDescription(
        NodeId=nid(node),
        BrowseDirection=ua.BrowseDirection.Forward,
        ReferenceTypeId=ua.NodeId(reference),
        IncludeSubtypes=False,
        ResultMask=63,
    )
    answer = await talk.call(ua.BrowseRequest(Parameters=ua.BrowseParameters(NodesToBrowse=[description])))
    return {(r.NodeId, r.TypeDefinition.Identifier) for r in answer.Results[0].References}


@pytest.mark.parametrize(
    ("alarm", "group"), [(SCORE, "EN01.Alarms"), ("ns=3;s=L01.ReleaseOverdue", "L01"), (LOST, "EN01.Alarms")]
)
async def test_an_alarm_names_its_group_and_the_group_has_it(talk: Conversation, alarm: str, group: str) -> None:
    # Part 9 5.8.3, 5.8.16: the group whose first alarm FirstInGroupFlag marks.
    request = call(f"{alarm}.GetGroupMemberships", on=alarm)
    [result] = (await talk.call(request)).Results
    assert result.OutputArguments[0].Value == [nid(f"ns=3;s={group}.FirstUp")]
    members = await browsed(talk, f"ns=3;s={group}.FirstUp", I.AlarmGroupMember)
    assert nid(alarm) in {node for node, _ in members}


async def test_what_suppresses_an_alarm_by_design_can_be_browsed(talk: Conversation) -> None:
    # Part 9 5.4.4, 5.4.6: no FlowLow while the device purges.
    flow = "ns=3;s=EN01.Alarms.FlowLow"
    [(group, of_type)] = await browsed(talk, flow, I.HasAlarmSuppressionGroup)
    assert of_type == I.AlarmSuppressionGroupType
    [(state, _)] = await browsed(talk, group.to_string(), I.AlarmSuppressionGroupMember)
    assert state == nid("ns=3;s=EN01.Stream01.AcquisitionStatus.IsPurging")
    [shown] = (await talk.call(read(state.to_string()))).Results
    assert isinstance(shown.Value.Value, bool)


# -- metrics


async def test_the_metrics_count_what_was_raised_until_they_are_reset(score: Alarm) -> None:
    # Part 9 9.2.
    metrics = "ns=3;s=ENose.AlarmMetrics"

    async def count() -> int:
        return int((await score.talk.call(read(f"{metrics}.AlarmCount"))).Results[0].Value.Value)

    await score.sees(30.0)
    while not await count():  # shown once a second
        await asyncio.sleep(0.1)
    reset = call(f"{metrics}.Reset", on=metrics)
    assert await score.talk.outcome(reset) == [CODES.BadUserAccessDenied]
    assert await score.engineer.outcome(reset) == [0]
    while await count():
        await asyncio.sleep(0.1)


async def test_a_message_is_in_the_language_of_the_session(plant: Plant, talk: Conversation, score: Alarm) -> None:
    # Part 4 5.4: six languages; the text is made for the occasion.
    await score.sees(30.0)
    async with plant.session(channel_of(talk)) as german:
        token = german.password_token("op1", german.bench.running.passwords["op1"])
        await german.activate(token, LocaleIds=["de-DE"])
        said = (await german.call(read(f"{SCORE}.Message"))).Results[0].Value.Value
    assert (said.Locale, said.Text) == ("de", "EN01.Stream01: Qualitätswert 30 (Grenze 50)")
