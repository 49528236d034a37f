"""Events (Part 3 4.7, Part 4 7.22.3, Part 5 6.4) and their history (Part 11 6.5.2): filters, notifiers, pages."""

import asyncio
import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from asyncua import Client, ua
from asyncua.common.events import get_filter_from_event_type

from tests.conformance.events import BASE_EVENT, OP, at, element, event_filter, history, literal, of_type, operand
from tests.conformance.plant import CODES, Conversation, Plant, call, nid, running_plant
from tests.servers import device, free_port

pytestmark = pytest.mark.asyncio(loop_scope="module")

A, T, IDS = ua.AttributeIds, ua.VariantType, ua.ObjectIds
SERVER = ua.NodeId(IDS.Server)
ALARM = nid("ns=3;s=EN01.Stream01.Alarms.QualityScoreLow")
NEVER = datetime(1601, 1, 1, tzinfo=UTC)
"""Not specified."""
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
FAR_AHEAD = datetime(2100, 1, 1, tzinfo=UTC)


async def raise_event(talk: Conversation, message: str, severity: int = 500) -> None:
    arguments = ua.Variant(message, T.String), ua.Variant(severity, T.UInt16)
    assert await talk.outcome(call("Methods.RaiseEvent", *arguments)) == [0]


async def raised(talk: Conversation, *severities: int) -> str:
    """Events of one word nobody else uses."""
    word = secrets.token_hex(8)
    for severity in severities:
        await raise_event(talk, word, severity)
    return word


def message_is(word: str) -> Any:
    return element(OP.Equals, operand("Message"), literal(word))


async def listen(talk: Conversation, notifier: Any, wanted: ua.EventFilter, **further: Any) -> tuple[int, Any]:
    number = (await talk.subscribe(interval=50)).SubscriptionId
    made = await talk.monitor(number, notifier, A.EventNotifier, Filter=wanted, **further)
    return number, made


async def stop(talk: Conversation, number: int) -> None:
    await talk.call(
        ua.DeleteSubscriptionsRequest(Parameters=ua.DeleteSubscriptionsParameters(SubscriptionIds=[number]))
    )


# -- what the server tells by itself


async def test_a_device_that_fails_is_told_once(tmp_path: Path) -> None:
    # Part 5 6.4.28: beside its alarm, which goes on to tell how it stands.
    port = free_port()
    own = f"  - {{id: EN09, host: 127.0.0.1, port: {port}, period: 0.5, timeout: 0.2, channels: [{{id: S01}}]}}\n"
    wanted = event_filter(["EventType", "SourceName", "Severity", "Message"], of_type(IDS.DeviceFailureEventType))
    with device(port, "--physics", "coffee_a") as process, running_plant(tmp_path, devices=own) as plant:
        async with plant.session("Basic256Sha256") as talk:
            number, _ = await listen(talk, SERVER, wanted)
            while (await talk.read(nid("ns=3;s=EN09.Array.S01.SensorValue"))).StatusCode.value & 0x80000000:
                pass  # not polled yet
            process.kill()
            ((kind, source, severity, message),) = await talk.next_data()
            assert (kind.Value, source.Value) == (ua.NodeId(IDS.DeviceFailureEventType), "EN09")
            assert severity.Value >= 500
            assert message.Value.Text.startswith("EN09")
            await stop(talk, number)


async def test_something_long_tells_how_far_it_is(plant: Plant) -> None:
    # Part 5 6.4.35: Context says of what, Progress how many percent; also of what ends without a result.
    paths = ["SourceName", "Context", "Progress"]
    async with plant.session("Basic256Sha256", "eng1") as talk:
        number, _ = await listen(talk, SERVER, event_filter(paths, of_type(IDS.ProgressEventType)))
        arguments = [ua.Variant(text, T.String) for text in ("PROBE", "no such lot", "to see it end")]
        models = "ns=3;s=ENose.Models"
        assert await talk.outcome(call(f"{models}.LearnProduct", *arguments, on=models)) != [0]
        told: list[list[Any]] = []
        while len(told) < 2:
            told += [[field.Value for field in fields] for fields in await talk.next_data()]
        assert told == [["ENose.Models", "PROBE", 0], ["ENose.Models", "PROBE", 100]]
        await stop(talk, number)


# -- filters


async def test_select_clauses_have_results_of_their_own(talk: Conversation) -> None:
    # 7.22.3: what is wrong with one clause does not cost the others.
    clauses = [
        operand("Message"),
        operand("Nothing"),
        operand("Message", nid("Nowhere")),
        operand("Message", attribute=99),
        operand(""),
        operand("Message", IndexRange="x"),
        operand("", ua.NodeId(IDS.ConditionType), A.NodeId),
        operand("Comment", ua.NodeId(IDS.AuditEventType)),
        operand("Message/Nothing"),
        ua.SimpleAttributeOperand(BASE_EVENT, [ua.QualifiedName("Message", 3)], A.Value),
        operand("ActiveState/Id"),
    ]
    number, made = await listen(talk, nid(""), event_filter(clauses))
    assert [c.value for c in made.FilterResult.SelectClauseResults] == [
        0, CODES.BadNodeIdUnknown, CODES.BadTypeDefinitionInvalid, CODES.BadAttributeIdInvalid,
        CODES.BadBrowseNameInvalid, CODES.BadIndexRangeInvalid, 0, CODES.BadNodeIdUnknown,
        CODES.BadNodeIdUnknown, CODES.BadNodeIdUnknown, 0,
    ]  # fmt: skip
    await stop(talk, number)


async def test_as_many_fields_are_selected_as_published(talk: Conversation) -> None:
    # Part 5 6.3.2 MaxSelectClauseParameters; asyncua's client asks for every field of a type and its supertypes.
    published = (await talk.read(ua.NodeId(IDS.Server_ServerCapabilities_MaxSelectClauseParameters))).Value.Value
    for count, code in ((published, 0), (published + 1, CODES.BadTooManyOperations)):
        number, made = await listen(talk, nid(""), event_filter(["Message"] * count))
        assert made.StatusCode.value == code
        await stop(talk, number)


async def test_all_fields_of_the_largest_alarm_types_are_one_filter(plant: Plant, talk: Conversation) -> None:
    # Part 9: 106 of an ExclusiveLevelAlarm, 121 of a NonExclusiveLevelAlarm; a client may ask for both at once.
    async with plant.running.client("op1") as client:
        kinds = (IDS.ExclusiveLevelAlarmType, IDS.NonExclusiveLevelAlarmType, IDS.AuditUpdateMethodEventType)
        wanted = await get_filter_from_event_type([client.get_node(ua.NodeId(kind)) for kind in kinds])
    number, made = await listen(talk, SERVER, wanted)
    assert made.StatusCode.is_good()
    await stop(talk, number)


@pytest.mark.parametrize(
    ("wrong", "code", "operands"),
    [
        (element(OP.Equals, operand("Severity")), CODES.BadFilterOperandCountMismatch, []),
        (element(OP.Not, literal(True), literal(True)), CODES.BadFilterOperandCountMismatch, []),
        (element(99, literal(True)), CODES.BadFilterOperatorInvalid, []),
        (element(OP.Not, at(0)), CODES.BadFilterOperandInvalid, [CODES.BadFilterOperandInvalid]),
        (element(OP.Not, at(7)), CODES.BadFilterOperandInvalid, [CODES.BadFilterOperandInvalid]),
        (element(OP.IsNull, ua.AttributeOperand()), CODES.BadFilterOperandInvalid, [CODES.BadFilterOperandInvalid]),
        (element(OP.IsNull, ua.LiteralOperand()), CODES.BadFilterOperandInvalid, [CODES.BadFilterLiteralInvalid]),
        (element(OP.IsNull, operand("Nothing")), CODES.BadFilterOperandInvalid, [CODES.BadNodeIdUnknown]),
        (
            element(OP.Equals, operand("Severity"), operand("Severity", attribute=99)),
            CODES.BadFilterOperandInvalid,
            [0, CODES.BadAttributeIdInvalid],
        ),
        (
            element(OP.IsNull, operand("Message", IndexRange="3:1")),
            CODES.BadFilterOperandInvalid,
            [CODES.BadIndexRangeInvalid],
        ),
    ],
)
async def test_a_wrong_where_clause_is_named(talk: Conversation, wrong: Any, code: int, operands: list[int]) -> None:
    number, made = await listen(talk, nid(""), event_filter(["Message"], wrong))
    assert made.StatusCode.value == CODES.BadEventFilterInvalid
    (found,) = made.FilterResult.WhereClauseResult.ElementResults
    assert (found.StatusCode.value, [c.value for c in found.OperandStatusCodes]) == (code, operands)
    await stop(talk, number)


async def test_an_element_that_names_a_wrong_one_is_wrong(talk: Conversation) -> None:
    wrong = element(OP.Not, at(1)), element(OP.IsNull, operand("Nothing"))
    number, made = await listen(talk, nid(""), event_filter(["Message"], *wrong))
    first, _ = made.FilterResult.WhereClauseResult.ElementResults
    assert [c.value for c in first.OperandStatusCodes] == [CODES.BadFilterElementInvalid]
    await stop(talk, number)


SOURCE_TYPE, REFERS = ua.NodeId(IDS.BaseObjectType), ua.NodeId(IDS.Organizes)


@pytest.mark.parametrize(
    ("clause", "passing"),
    [
        ([element(OP.Equals, operand("Severity"), literal(600))], {600}),
        ([element(OP.GreaterThan, operand("Severity"), literal("400"))], {600, 800}),
        ([element(OP.LessThanOrEqual, operand("Severity"), literal(600.0))], {200, 600}),
        ([element(OP.Between, operand("Severity"), literal(200), literal(600))], {200, 600}),
        ([element(OP.InList, operand("Severity"), literal(1), literal(800))], {800}),
        ([element(OP.Like, operand("SourceName"), literal("Play%"))], {200, 600, 800}),
        ([element(OP.IsNull, operand("Comment"))], {200, 600, 800}),
        ([element(OP.Not, at(1)), element(OP.Equals, operand("Severity"), literal(200))], {600, 800}),
        (
            [
                element(OP.Or, at(1), at(2)),
                element(OP.Equals, operand("Severity"), literal(200)),
                element(OP.Equals, at(3), literal("800")),
                element(OP.Cast, operand("Severity"), literal(ua.NodeId(IDS.String))),
            ],
            {200, 800},
        ),
        (
            [
                element(OP.Equals, at(1), literal(512)),
                element(OP.BitwiseAnd, operand("Severity"), literal(512)),
            ],
            {600, 800},
        ),
        (
            [element(OP.Equals, at(1), literal(0x3E8)), element(OP.BitwiseOr, operand("Severity"), literal(0x3E8))],
            {200, 800},
        ),
        ([of_type(IDS.BaseEventType)], {200, 600, 800}),
        ([of_type(IDS.AuditEventType)], set()),
        ([element(OP.InView, literal(nid("ns=3;s=SCADA")))], set()),
        ([element(OP.InView, literal(SERVER))], set()),
        (
            [
                element(
                    OP.RelatedTo, literal(SOURCE_TYPE), literal(ua.NodeId(IDS.FolderType)), literal(REFERS),
                    literal(1), literal(True), literal(True),
                )
            ],
            {200, 600, 800},
        ),
        (
            [
                element(
                    OP.RelatedTo, literal(SOURCE_TYPE), literal(ua.NodeId(IDS.ServerType)), literal(REFERS),
                    literal(0), literal(True), literal(True),
                )
            ],
            set(),
        ),
    ],
)  # fmt: skip
async def test_operators(talk: Conversation, clause: list[Any], passing: set[int]) -> None:
    # 7.7.3; the same clause chooses among what comes and among what was.
    number, made = await listen(talk, nid(""), event_filter(["Message", "Severity"], *clause))
    made.StatusCode.check()
    word = await raised(talk, 200, 600, 800)
    await raise_event(talk, f"{word} last", 600)
    await raise_event(talk, f"{word} last", 200)
    await raise_event(talk, f"{word} last", 800)
    if passing:
        seen: list[tuple[str, int]] = []
        async with asyncio.timeout(30):
            while not any(message.endswith("last") for message, _ in seen):
                seen += [(f[0].Value.Text, f[1].Value) for f in await talk.next_data()]
        assert {severity for message, severity in seen if message == word} == passing
    _, found, _ = await history(talk, "", event_filter(["Message", "Severity"], *clause), LONG_AGO, FAR_AHEAD)
    assert {severity for message, severity in found if message.Text == word} == passing
    await stop(talk, number)


# -- notifiers


async def test_every_notifier_above_the_source_tells_the_same_event_once(talk: Conversation) -> None:
    # Part 3 4.7.2, acceptance point 22: source, stream, device, ENose and Server, with one EventId.
    notifiers = [nid(f"ns=3;s={name}") for name in ("EN01.Stream01", "EN01", "ENose")] + [SERVER]
    number = (await talk.subscribe(interval=50)).SubscriptionId
    wanted = event_filter(["EventId", "SourceNode", operand("", ua.NodeId(IDS.ConditionType), A.NodeId)],
                          of_type(IDS.AlarmConditionType))  # fmt: skip
    for handle, notifier in enumerate(notifiers):
        made = await talk.monitor(number, notifier, A.EventNotifier, Filter=wanted, ClientHandle=handle)
        made.StatusCode.check()
    assert await talk.outcome(call("Methods.ClearAlarm")) == [0]
    await quiet(talk)
    assert await talk.outcome(call("Methods.RaiseAlarm")) == [0]
    events = await quiet(talk)
    told: dict[bytes, list[int]] = {}
    for handle, (event_id, _, condition) in events:
        if condition == ALARM:
            told.setdefault(event_id, []).append(handle)
    assert told
    assert {tuple(sorted(handles)) for handles in told.values()} == {(0, 1, 2, 3)}
    assert await talk.outcome(call("Methods.ClearAlarm")) == [0]
    await stop(talk, number)


async def quiet(talk: Conversation) -> list[tuple[int, list[Any]]]:
    """(client handle, fields) of all events until nothing more comes: the next message is a keep-alive."""
    found: list[tuple[int, list[Any]]] = []
    while data := (await talk.publish()).NotificationMessage.NotificationData:
        for part in data:
            found += [(e.ClientHandle, [f.Value for f in e.EventFields]) for e in part.Events]
    return found


async def test_messages_times_and_severities_are_what_scadas_take(talk: Conversation) -> None:
    # Acceptance point 16; process rule 21: LocalTime is the site's.
    wanted = event_filter(["Message", "Severity", "Time", "ReceiveTime", "LocalTime", "EventId"])
    _, found, _ = await history(talk, SERVER, wanted, LONG_AGO, FAR_AHEAD, most=500)
    assert found
    for message, severity, time, received, local, event_id in found:
        message.Text.encode("latin-1")
        assert message.Text
        assert 1 <= severity <= 1000
        assert time <= received + timedelta(seconds=1)
        assert isinstance(local, ua.TimeZoneDataType)
        assert len(event_id) == 16


async def test_event_types_limited_to_roles_say_so(plant: Plant) -> None:
    # Part 3 8.55: ReceiveEvents of the type is what delivery obeys.
    async with plant.session("Basic256Sha256", "aud1") as talk:
        for kind, everybody in ((IDS.AuditWriteUpdateEventType, False), (IDS.SystemEventType, True)):
            found = (await talk.read(ua.NodeId(kind), A.RolePermissions)).Value.Value
            receive = {p.RoleId for p in found if p.Permissions & ua.PermissionType.ReceiveEvents}
            assert (ua.NodeId(IDS.WellKnownRole_SecurityAdmin) in receive) is True
            assert (ua.NodeId(IDS.WellKnownRole_Operator) in receive) is everybody
            limits = (await talk.read(ua.NodeId(kind), A.AccessRestrictions)).Value.Value
            assert bool(limits & ua.AccessRestrictionType.EncryptionRequired) is not everybody


# -- history


async def test_events_are_read_back_with_all_they_had(talk: Conversation) -> None:
    word = await raised(talk, 321)
    paths = ["EventId", "EventType", "SourceNode", "SourceName", "Severity", "Message", "Comment"]
    code, found, point = await history(talk, "", event_filter(paths, message_is(word)), LONG_AGO, FAR_AHEAD)
    assert (code, point) == (0, None)
    ((event_id, *rest),) = found
    assert len(event_id) == 32 or len(event_id) == 16
    assert rest == [ua.NodeId(IDS.BaseEventType), nid(""), "Playground", 321, ua.LocalizedText(word), None]


async def test_both_directions_and_pages_give_the_same_events(talk: Conversation) -> None:
    # 6.5.2.2: backward when the end is earlier, or stands alone with a number.
    severities = list(range(101, 112))
    word = await raised(talk, *severities)
    wanted = event_filter(["Severity"], message_is(word))

    async def pages(start: Any, end: Any, most: int) -> list[int]:
        found: list[int] = []
        point = None
        while True:
            code, part, point = await history(talk, "", wanted, start, end, most, point)
            assert code in (0, CODES.GoodNoData)
            assert most == 0 or len(part) <= most
            found += [severity for (severity,) in part]
            if point is None:
                return found

    for most in (0, 1, 4, 11, 100):
        assert await pages(LONG_AGO, FAR_AHEAD, most) == severities
        assert await pages(FAR_AHEAD, LONG_AGO, most) == severities[::-1]
    assert await pages(NEVER, FAR_AHEAD, 3) == severities[:-4:-1]
    assert await pages(LONG_AGO, NEVER, 3) == severities[:3]


async def test_an_instant_is_a_range(talk: Conversation) -> None:
    word = await raised(talk, 500)
    wanted = event_filter(["Time"], message_is(word))
    _, ((time,),), _ = await history(talk, "", wanted, LONG_AGO, FAR_AHEAD)
    code, found, _ = await history(talk, "", wanted, time, time)
    assert (code, found) == (0, [[time]])
    code, found, _ = await history(talk, "", wanted, time - timedelta(days=1), time - timedelta(days=1))
    assert (code, found) == (CODES.GoodNoData, [])


@pytest.mark.parametrize("notifier", ["i=2253", "ns=3;s=ENose", "ns=3;s=EN01", "ns=3;s=EN01.Stream01"])
async def test_a_notifier_has_the_history_of_what_is_below_it(talk: Conversation, notifier: str) -> None:
    assert await talk.outcome(call("Methods.RaiseAlarm")) == [0]
    assert await talk.outcome(call("Methods.ClearAlarm")) == [0]
    wanted = event_filter(
        [operand("", ua.NodeId(IDS.ConditionType), A.NodeId), "ActiveState/Id", "SourceNode"],
        of_type(IDS.AlarmConditionType),
    )
    code, found, _ = await history(talk, notifier, wanted, LONG_AGO, FAR_AHEAD)
    assert code == 0
    disabled = ua.StatusCode(CODES.BadConditionDisabled)  # Part 9 5.5.2: other rows disable this condition
    assert {active for condition, active, _ in found if condition == ALARM and active != disabled} == {True, False}
    word = await raised(talk, 500)
    _, playground, _ = await history(talk, notifier, event_filter(["Message"], message_is(word)), LONG_AGO, FAR_AHEAD)
    assert bool(playground) is (notifier == "i=2253")


async def test_what_has_a_history_says_so(talk: Conversation) -> None:
    # Part 3 8.59, Part 11 5.3.2 and 5.4.2.
    for node in ("i=2253", "ns=3;s=ENose", "ns=3;s=EN01", "ns=3;s=ENose.Agents", ""):
        assert (await talk.read(nid(node), A.EventNotifier)).Value.Value == 5
    offered = (await talk.read(nid("ns=3;s=EN01.HistoricalEventFilter"))).Value.Value
    assert {tuple(n.Name for n in c.BrowsePath) for c in offered.SelectClauses} >= {("Message",), ("ActiveState", "Id")}
    assert (await talk.read(ua.NodeId(IDS.HistoryServerCapabilities_AccessHistoryEventsCapability))).Value.Value is True


@pytest.mark.parametrize(
    ("node", "wanted", "times", "code"),
    [
        ("Nowhere", event_filter(["Message"]), (LONG_AGO, FAR_AHEAD, 0), CODES.BadNodeIdUnknown),
        ("Scalar.Int32", event_filter(["Message"]), (LONG_AGO, FAR_AHEAD, 0), CODES.BadHistoryOperationUnsupported),
        ("Methods", event_filter(["Message"]), (LONG_AGO, FAR_AHEAD, 0), CODES.BadHistoryOperationUnsupported),
        ("", event_filter(["Message"]), (LONG_AGO, NEVER, 0), CODES.BadHistoryOperationInvalid),
        ("", event_filter(["Message"]), (NEVER, NEVER, 5), CODES.BadHistoryOperationInvalid),
        ("", event_filter([]), (LONG_AGO, FAR_AHEAD, 0), CODES.BadEventFilterInvalid),
        ("", event_filter(["Nothing"]), (LONG_AGO, FAR_AHEAD, 0), CODES.BadEventFilterInvalid),
        (
            "",
            event_filter(["Message"], element(OP.Equals, operand("Severity"))),
            (LONG_AGO, FAR_AHEAD, 0),
            CODES.BadEventFilterInvalid,
        ),
    ],
)
async def test_a_wrong_read_has_its_code(
    talk: Conversation, node: str, wanted: ua.EventFilter, times: tuple[Any, Any, int], code: int
) -> None:
    assert (await history(talk, node, wanted, *times))[0] == code


async def test_a_continuation_point_is_good_once_and_for_its_node(talk: Conversation) -> None:
    word = await raised(talk, 1, 2, 3)
    wanted = event_filter(["Severity"], message_is(word))
    _, _, point = await history(talk, "", wanted, LONG_AGO, FAR_AHEAD, 1)
    assert (await history(talk, "i=2253", wanted, LONG_AGO, FAR_AHEAD, 1, point))[
        0
    ] == CODES.BadContinuationPointInvalid
    assert (await history(talk, "", wanted, LONG_AGO, FAR_AHEAD, 1, point))[1] == [[2]]
    assert (await history(talk, "", wanted, LONG_AGO, FAR_AHEAD, 1, point))[0] == CODES.BadContinuationPointInvalid


async def test_audit_events_are_history_for_auditors_alone(plant: Plant, talk: Conversation) -> None:
    await raise_event(talk, "a call that is audited")
    wanted = event_filter(["EventType"], of_type(IDS.AuditEventType))
    for channel, user, visible in (
        ("Basic256Sha256", "aud1", True),
        ("Basic256Sha256", "sec1", True),
        ("Basic256Sha256", "op1", False),
        ("Basic256Sha256", "admin1", False),
        ("None", "aud1", False),
    ):
        async with plant.session(channel, user) as reader:
            _, found, _ = await history(reader, SERVER, wanted, LONG_AGO, FAR_AHEAD, 10)
            assert bool(found) is visible, (channel, user)


async def test_index_ranges_are_taken_from_what_is_stored(talk: Conversation) -> None:
    word = await raised(talk, 500)
    clauses = [operand("SourceName", IndexRange="0:3"), operand("SourceName", IndexRange="90:91")]
    _, found, _ = await history(talk, "", event_filter(clauses, message_is(word)), LONG_AGO, FAR_AHEAD)
    assert found == [["Play", ua.StatusCode(CODES.BadIndexRangeNoData)]]


@pytest.mark.parametrize(("kind", "severity"), [(IDS.BaseEventType, 1), (IDS.SystemEventType, 500), (2133, 1000)])
async def test_a_tool_has_events_of_any_type_and_severity_raised(talk: Conversation, kind: int, severity: int) -> None:
    word = secrets.token_hex(8)
    clause = element(OP.And, at(1), at(2)), of_type(kind), message_is(word)
    wanted = event_filter(["EventType", "Severity"], *clause)
    number, _ = await listen(talk, SERVER, wanted)
    arguments = ua.Variant(ua.NodeId(kind), T.NodeId), ua.Variant(word, T.String), ua.Variant(severity, T.UInt16)
    assert await talk.outcome(call("Methods.RaiseTypedEvent", *arguments)) == [0]
    told = [[field.Value for field in fields] for fields in await talk.next_data()]
    status, stored, _ = await history(talk, SERVER, wanted, LONG_AGO, FAR_AHEAD)
    assert (status, told, stored) == (0, [[ua.NodeId(kind), severity]], [[ua.NodeId(kind), severity]])
    await stop(talk, number)


async def test_only_a_type_of_events_is_raised(talk: Conversation) -> None:
    arguments = ua.Variant(ua.NodeId(IDS.BaseObjectType), T.NodeId), ua.Variant("", T.String), ua.Variant(1, T.UInt16)
    (status,) = await talk.outcome(call("Methods.RaiseTypedEvent", *arguments))
    assert status == CODES.BadInvalidArgument


async def test_the_client_of_asyncua_gets_the_events_it_asks_for(plant: Plant, talk: Conversation) -> None:
    # It lists every subtype of the types it is given in one InList: over a hundred with ours.
    heard: asyncio.Queue[Any] = asyncio.Queue()
    async with Client(plant.url, timeout=30) as client:
        subscription = await client.create_subscription(50, SimpleNamespace(event_notification=heard.put_nowait))
        types = [client.get_node(ua.NodeId(n)) for n in (IDS.BaseEventType, IDS.AlarmConditionType)]
        await subscription.subscribe_events(client.nodes.server, types)
        word = await raised(talk, 500)
        while (await heard.get()).Message.Text != word:
            pass
