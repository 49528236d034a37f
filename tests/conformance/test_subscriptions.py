"""Subscriptions and monitored items as a client sees them, over None and SignAndEncrypt (Part 4 5.13, 5.14, 7.22)."""

import asyncio
from typing import Any

import pytest
from asyncua import ua

from opcua_server.plant.conformance import NUMBERS
from tests.conformance.plant import CODES, Conversation, Plant, call, double, int32, nid, write

pytestmark = pytest.mark.asyncio(loop_scope="module")

A, T, MODE = ua.AttributeIds, ua.VariantType, ua.MonitoringMode
TRIGGER, DEADBAND = ua.DataChangeTrigger, ua.DeadbandType
VALUE = "Scalar.Double"


async def set_value(talk: Conversation, path: str, value: Any, kind: ua.VariantType = T.Double, **further: Any) -> None:
    assert await talk.outcome(write(path, ua.Variant(value, kind), **further)) == [0]


def change(trigger: Any = TRIGGER.StatusValue, kind: Any = DEADBAND.None_, value: float = 0.0) -> Any:
    return ua.DataChangeFilter(Trigger=trigger, DeadbandType=kind, DeadbandValue=value)


async def begun(talk: Conversation, path: str = VALUE, **further: Any) -> tuple[int, int]:
    """A subscription with one item whose initial value has been taken: their ids. Keep-alives are far away."""
    if path == VALUE:
        await set_value(talk, path, 0.0)
    number = (await talk.subscribe(RequestedMaxKeepAliveCount=1000)).SubscriptionId
    item = await talk.monitor(number, nid(path), **further)
    item.StatusCode.check()
    await talk.next_data()
    return number, item.MonitoredItemId


async def end(talk: Conversation, *numbers: int) -> None:
    parameters = ua.DeleteSubscriptionsParameters(list(numbers))
    await talk.call(ua.DeleteSubscriptionsRequest(Parameters=parameters))


async def set_mode(talk: Conversation, number: int, item: int, mode: Any) -> None:
    parameters = ua.SetMonitoringModeParameters(number, mode, [item])
    assert await talk.outcome(ua.SetMonitoringModeRequest(Parameters=parameters)) == [0]


async def values(talk: Conversation) -> list[Any]:
    return [v.Value.Value for v in await talk.next_data()]


async def test_requested_parameters_are_revised(talk: Conversation) -> None:
    # 5.14.2.2
    made = await talk.subscribe(-1.0, RequestedLifetimeCount=1, RequestedMaxKeepAliveCount=10)
    assert made.RevisedPublishingInterval > 0
    assert made.RevisedLifetimeCount >= 3 * made.RevisedMaxKeepAliveCount
    item = await talk.monitor(made.SubscriptionId, nid(VALUE), SamplingInterval=-1.0, QueueSize=0)
    assert item.RevisedSamplingInterval == made.RevisedPublishingInterval  # 7.21
    assert item.RevisedQueueSize == 1
    item = await talk.monitor(made.SubscriptionId, nid(VALUE), QueueSize=2**32 - 1)
    assert 1 < item.RevisedQueueSize < 2**32 - 1
    await end(talk, made.SubscriptionId)


async def test_the_first_message_comes_after_the_first_interval(talk: Conversation) -> None:
    # 5.14.1.2: a keep-alive with the number the first notification will have.
    number = (await talk.subscribe(RequestedMaxKeepAliveCount=100)).SubscriptionId
    message = (await talk.publish()).NotificationMessage
    assert (message.NotificationData, message.SequenceNumber) == ([], 1)
    await end(talk, number)


async def test_messages_are_kept_until_acknowledged(talk: Conversation) -> None:
    # 5.14.5, 5.14.6
    number = (await talk.subscribe()).SubscriptionId
    await talk.monitor(number, nid(VALUE))
    first = await talk.publish()
    assert first.AvailableSequenceNumbers == [1]
    again = await talk.call(ua.RepublishRequest(Parameters=ua.RepublishParameters(number, 1)))
    assert again.NotificationMessage.NotificationData == first.NotificationMessage.NotificationData
    await set_value(talk, VALUE, 1.0)
    second = await talk.publish((number, 1), (number, 99), (99, 1))
    wanted = [0, CODES.BadSequenceNumberUnknown, CODES.BadSubscriptionIdInvalid]
    assert [r.value for r in second.Results] == wanted
    gone = await talk.outcome(ua.RepublishRequest(Parameters=ua.RepublishParameters(number, 1)))
    assert gone == CODES.BadMessageNotAvailable
    await set_value(talk, VALUE, 0.0)
    await end(talk, number)


async def test_publishing_switched_off_leaves_keep_alives(talk: Conversation) -> None:
    # 5.14.4
    number = (await talk.subscribe(PublishingEnabled=False, RequestedMaxKeepAliveCount=1)).SubscriptionId
    await talk.monitor(number, nid(VALUE))
    assert (await talk.publish()).NotificationMessage.NotificationData == []
    parameters = ua.SetPublishingModeParameters(True, [number, 0])
    switched = await talk.outcome(ua.SetPublishingModeRequest(Parameters=parameters))
    assert switched == [0, CODES.BadSubscriptionIdInvalid]
    assert len(await talk.next_data()) == 1
    await end(talk, number)


async def test_a_long_message_is_cut(talk: Conversation) -> None:
    # 5.14.5.2 MoreNotifications
    number = (await talk.subscribe(MaxNotificationsPerPublish=3)).SubscriptionId
    for _ in range(7):
        await talk.monitor(number, nid(VALUE))
    seen, more = 0, []
    while seen < 7:
        answer = await talk.publish()
        count = sum(len(d.MonitoredItems) for d in answer.NotificationMessage.NotificationData)
        assert count <= 3
        seen += count
        more.append(answer.MoreNotifications)
    assert more[-1] is False
    assert any(more[:-1])
    await end(talk, number)


async def test_too_many_publish_requests_cost_the_oldest(talk: Conversation) -> None:
    number = (await talk.subscribe(60_000.0)).SubscriptionId
    sent = [talk.write(ua.PublishRequest()) for _ in range(101)]
    fault = await talk.answer(sent[0], "PublishResponse")
    assert fault.ResponseHeader.ServiceResult.value == CODES.BadTooManyPublishRequests
    # 5.7.5: Cancel takes those of one handle back.
    response = await talk.call(ua.CancelRequest(Parameters=ua.CancelParameters(sent[50])))
    assert response.Parameters.CancelCount == 1
    fault = await talk.answer(sent[50], "PublishResponse")
    assert fault.ResponseHeader.ServiceResult.value == CODES.BadRequestCancelledByClient
    await end(talk, number)
    fault = await talk.answer(sent[1], "PublishResponse")
    assert fault.ResponseHeader.ServiceResult.value == CODES.BadNoSubscription


async def test_a_publish_request_waits_no_longer_than_its_client(talk: Conversation) -> None:
    # 7.33, 5.14.1.4: 0 is for ever; who asks to be told within a second is told that there was nothing.
    number = (await talk.subscribe(60_000.0)).SubscriptionId
    patient = talk.write(ua.PublishRequest())
    hasty = talk.write(ua.PublishRequest(RequestHeader=ua.RequestHeader(TimeoutHint=200)))
    fault = await talk.answer(hasty, "PublishResponse")
    assert fault.ResponseHeader.ServiceResult.value == CODES.BadTimeout
    await end(talk, number)
    fault = await talk.answer(patient, "PublishResponse")
    assert fault.ResponseHeader.ServiceResult.value == CODES.BadNoSubscription


async def test_subscriptions_of_equal_priority_take_turns(plant: Plant, talk: Conversation) -> None:
    # 5.14.1.2: all are late again before each Publish request comes, and none starves.
    numbers = [(await begun(talk, "Dynamic.Int32"))[0] for _ in range(3)]
    async with plant.session("None") as metronome:
        await metronome.monitor((await metronome.subscribe(200.0)).SubscriptionId, nid("Dynamic.Int32"))
        served = []
        for _ in range(6):
            await metronome.next_data()
            served.append((await talk.publish()).SubscriptionId)
    assert sorted(served) == sorted(numbers * 2)
    await end(talk, *numbers)


async def test_republish_gives_what_was_not_acknowledged(talk: Conversation) -> None:
    # 5.14.6
    number, _ = await begun(talk)
    await set_value(talk, VALUE, 1.0)
    sent = (await talk.publish()).NotificationMessage

    def again(sequence: int, subscription: int = number) -> ua.RepublishRequest:
        return ua.RepublishRequest(Parameters=ua.RepublishParameters(subscription, sequence))

    assert (await talk.call(again(sent.SequenceNumber))).NotificationMessage == sent
    assert await talk.outcome(again(sent.SequenceNumber + 1)) == CODES.BadMessageNotAvailable
    assert await talk.outcome(again(sent.SequenceNumber, 0)) == CODES.BadSubscriptionIdInvalid
    await set_value(talk, VALUE, 2.0)
    acknowledged = await talk.publish((number, sent.SequenceNumber), (number, 4711), (0, 1))
    assert [r.value for r in acknowledged.Results] == [
        0, CODES.BadSequenceNumberUnknown, CODES.BadSubscriptionIdInvalid,
    ]  # fmt: skip
    assert await talk.outcome(again(sent.SequenceNumber)) == CODES.BadMessageNotAvailable
    await end(talk, number)


async def test_triggering_names_what_is_wrong(talk: Conversation) -> None:
    # 5.13.5.3: the triggering item is the request's, each link an operation's.
    number, item = await begun(talk)
    other = (await talk.monitor(number, nid("Scalar.Int32"))).MonitoredItemId

    async def link(trigger: int, add: list[int], remove: list[int]) -> Any:
        parameters = ua.SetTriggeringParameters(number, trigger, add, remove)
        try:
            made = (await talk.call(ua.SetTriggeringRequest(Parameters=parameters))).Parameters
        except ua.UaStatusCodeError as fault:
            return fault.code
        return [r.value for r in made.AddResults], [r.value for r in made.RemoveResults]

    unknown = CODES.BadMonitoredItemIdInvalid
    assert await link(item, [], []) == CODES.BadNothingToDo
    assert await link(0, [other], []) == unknown
    assert await link(item, [other, 0], []) == ([0, unknown], [])
    assert await link(item, [], [other, 0]) == ([], [0, unknown])
    assert await link(item, [], [other]) == ([], [unknown])
    await end(talk, number)


@pytest.mark.parametrize("discard_oldest", [True, False])
async def test_a_full_queue_keeps_what_was_asked_and_says_so(talk: Conversation, discard_oldest: bool) -> None:
    # 5.13.1.5
    number = (await talk.subscribe(PublishingEnabled=False)).SubscriptionId
    await talk.monitor(number, nid(VALUE), QueueSize=3, DiscardOldest=discard_oldest)
    for value in (1.0, 2.0, 3.0, 4.0, 0.0):
        await set_value(talk, VALUE, value)
    parameters = ua.SetPublishingModeParameters(True, [number])
    await talk.call(ua.SetPublishingModeRequest(Parameters=parameters))
    got = await talk.next_data()
    assert [v.Value.Value for v in got] == ([3.0, 4.0, 0.0] if discard_oldest else [0.0, 1.0, 0.0])
    flagged = [bool(v.StatusCode.value & 0x480) for v in got]
    assert flagged == ([True, False, False] if discard_oldest else [False, False, True])
    await end(talk, number)


@pytest.mark.parametrize(
    ("wanted", "written", "reported"),
    [
        (change(kind=DEADBAND.Absolute, value=2.0), (1.0, 2.0, 2.5, 0.6, 0.0), [2.5, 0.0]),
        (change(kind=DEADBAND.Percent, value=10.0), (10.0, 20.0, 20.5, 0.6, 0.0), [20.5, 0.0]),
        (change(), (1.0, 1.0, 0.0), [1.0, 0.0]),
        (change(TRIGGER.StatusValueTimestamp), (1.0, 1.0, 0.0), [1.0, 1.0, 0.0]),
        (change(TRIGGER.StatusValueTimestamp, DEADBAND.Absolute, 1.0), (1.0, 1.0, 2.5), [2.5]),
        (change(TRIGGER.Status), (1.0, 0.0), []),
    ],
)
async def test_filters_let_pass_what_they_say(
    talk: Conversation, wanted: Any, written: tuple[float, ...], reported: list[float]
) -> None:
    # 7.22.2; the deadband is against the last reported value.
    path = "Analog.Double"
    await set_value(talk, path, 0.0)
    number, _ = await begun(talk, path, Filter=wanted)
    for value in written:
        await set_value(talk, path, value)
    await set_value(talk, path, 0.0, StatusCode=ua.StatusCode(CODES.UncertainSubNormal))
    got: list[float] = []
    while len(got) <= len(reported):
        got += await values(talk)
    assert got[:-1] == reported
    await set_value(talk, path, 0.0)
    await end(talk, number)


@pytest.mark.parametrize("name", NUMBERS)
async def test_every_number_type_has_deadbands(talk: Conversation, name: str) -> None:
    for path in (f"Analog.{name}", f"Analog.{name}Array"):
        number = (await talk.subscribe()).SubscriptionId
        for wanted in (change(kind=DEADBAND.Absolute, value=1.0), change(kind=DEADBAND.Percent, value=1.0)):
            assert (await talk.monitor(number, nid(path), Filter=wanted)).StatusCode.is_good()
        await end(talk, number)


@pytest.mark.parametrize(
    ("path", "attribute", "wanted", "code"),
    [
        ("Scalar.Double", A.Value, change(kind=DEADBAND.Percent, value=1.0), CODES.BadDeadbandFilterInvalid),
        ("Analog.Double", A.Value, change(kind=DEADBAND.Percent, value=101.0), CODES.BadDeadbandFilterInvalid),
        ("Analog.Double", A.Value, change(kind=DEADBAND.Absolute, value=-1.0), CODES.BadDeadbandFilterInvalid),
        ("Scalar.String", A.Value, change(kind=DEADBAND.Absolute, value=1.0), CODES.BadFilterNotAllowed),
        ("Scalar.Double", A.DisplayName, change(), CODES.BadFilterNotAllowed),
        ("Scalar.Double", A.Value, ua.EventFilter(), CODES.BadFilterNotAllowed),
        ("", A.EventNotifier, change(), CODES.BadFilterNotAllowed),
        ("", A.EventNotifier, ua.ExtensionObject(), CODES.BadEventFilterInvalid),
        ("Scalar", A.Value, ua.ExtensionObject(), CODES.BadAttributeIdInvalid),
        ("Nowhere", A.Value, ua.ExtensionObject(), CODES.BadNodeIdUnknown),
    ],
)
async def test_a_wrong_item_has_its_own_code(
    talk: Conversation, path: str, attribute: int, wanted: Any, code: int
) -> None:
    number = (await talk.subscribe()).SubscriptionId
    assert (await talk.monitor(number, nid(path), attribute, Filter=wanted)).StatusCode.value == code
    await end(talk, number)


async def test_an_unreadable_variable_is_watched_and_told_to_be_so(talk: Conversation) -> None:
    # 5.13.2.1
    number = (await talk.subscribe()).SubscriptionId
    for path, code in (("Access.WriteOnly", CODES.BadNotReadable), ("Access.EngineerOnly", CODES.BadUserAccessDenied)):
        assert (await talk.monitor(number, nid(path))).StatusCode.is_good()
        (told,) = await talk.next_data()
        assert (told.StatusCode.value, told.Value.Value) == (code, None)
    await end(talk, number)


async def test_modes_stop_reporting_and_sampling(talk: Conversation) -> None:
    # 5.13.4
    number, item = await begun(talk)
    await set_mode(talk, number, item, MODE.Sampling)
    await set_value(talk, VALUE, 1.0)
    await set_mode(talk, number, item, MODE.Reporting)
    assert await values(talk) == [1.0]
    await set_mode(talk, number, item, MODE.Disabled)
    await set_value(talk, VALUE, 2.0)
    await set_value(talk, VALUE, 0.0)
    await set_mode(talk, number, item, MODE.Reporting)
    assert await values(talk) == [0.0]  # the first value after it, none of those before
    await end(talk, number)


async def test_a_triggering_item_reports_its_links(talk: Conversation) -> None:
    # 5.13.1.6, 5.13.5
    number, trigger = await begun(talk)
    request = ua.MonitoredItemCreateRequest(
        ItemToMonitor=ua.ReadValueId(NodeId=nid("Scalar.Int32"), AttributeId=A.Value),
        MonitoringMode=MODE.Sampling,
        RequestedParameters=ua.MonitoringParameters(ClientHandle=2, SamplingInterval=0.0, QueueSize=10),
    )
    parameters = ua.CreateMonitoredItemsParameters(number, ua.TimestampsToReturn.Both, [request])
    made = await talk.call(ua.CreateMonitoredItemsRequest(Parameters=parameters))
    linked = made.Results[0].MonitoredItemId

    async def link(add: list[int], remove: list[int], on: int = trigger) -> tuple[list[int], list[int]]:
        parameters = ua.SetTriggeringParameters(number, on, add, remove)
        result = (await talk.call(ua.SetTriggeringRequest(Parameters=parameters))).Parameters
        return [r.value for r in result.AddResults], [r.value for r in result.RemoveResults]

    unknown = CODES.BadMonitoredItemIdInvalid
    assert await link([linked, 0], [0]) == ([0, unknown], [unknown])
    with pytest.raises(ua.UaStatusCodeError, match="BadMonitoredItemIdInvalid"):
        await link([linked], [], on=0)
    with pytest.raises(ua.UaStatusCodeError, match="BadNothingToDo"):
        await link([], [])
    await set_value(talk, "Scalar.Int32", 7, T.Int32)
    await set_value(talk, VALUE, 1.0)
    got = await values(talk)
    assert 7 in got
    assert 1.0 in got
    assert await link([], [linked]) == ([], [0])
    await set_value(talk, "Scalar.Int32", 0, T.Int32)
    await set_value(talk, VALUE, 0.0)
    assert await values(talk) == [0.0]
    await end(talk, number)


async def test_index_ranges_and_timestamps_of_items(talk: Conversation) -> None:
    number = (await talk.subscribe()).SubscriptionId
    await set_value(talk, "Array.Double", ua.Variant([1.0, 2.0, 3.0, 4.0], T.Double).Value)
    for text, stamps, expected in (
        ("1:2", ua.TimestampsToReturn.Source, [2.0, 3.0]),
        ("9", ua.TimestampsToReturn.Neither, None),
    ):
        request = ua.MonitoredItemCreateRequest(
            ItemToMonitor=ua.ReadValueId(NodeId=nid("Array.Double"), AttributeId=A.Value, IndexRange=text),
            MonitoringMode=MODE.Reporting,
            RequestedParameters=ua.MonitoringParameters(ClientHandle=1, QueueSize=1),
        )
        parameters = ua.CreateMonitoredItemsParameters(number, stamps, [request])
        assert await talk.outcome(ua.CreateMonitoredItemsRequest(Parameters=parameters)) == [0]
        (told,) = await talk.next_data()
        assert told.Value.Value == expected
        assert (told.SourceTimestamp is not None) == (stamps == ua.TimestampsToReturn.Source)
        assert told.ServerTimestamp is None
        assert told.StatusCode.is_good() == (expected is not None)
    await end(talk, number)


async def test_methods_of_the_server_object(talk: Conversation, plant: Plant) -> None:
    # Part 5 9.1, 9.2
    number, item = await begun(talk)
    argument = ua.Variant(number, T.UInt32)
    result = (await talk.call(call("i=11492", argument, on="i=2253"))).Results[0]
    assert [o.Value for o in result.OutputArguments] == [[item], [1]]
    assert await talk.outcome(call("i=12873", argument, on="i=2253")) == [0]
    assert await values(talk) == [0.0]
    async with plant.session("None") as other:
        denied = [CODES.BadUserAccessDenied]
        assert await other.outcome(call("i=11492", argument, on="i=2253")) == denied
        assert await other.outcome(call("i=12873", argument, on="i=2253")) == denied
    await end(talk, number)


async def test_a_subscription_moves_to_another_session_of_its_user(plant: Plant, talk: Conversation) -> None:
    # 5.14.7
    number, _ = await begun(talk)
    waiting = talk.write(ua.PublishRequest())
    channel = "None" if talk.policy.Mode == ua.MessageSecurityMode.None_ else "Basic256Sha256"
    async with plant.session(channel, "obs1") as stranger, plant.session(channel) as other:
        parameters = ua.TransferSubscriptionsParameters([number, 0], True)
        wanted = [CODES.BadUserAccessDenied, CODES.BadSubscriptionIdInvalid]
        assert await stranger.outcome(ua.TransferSubscriptionsRequest(Parameters=parameters)) == wanted
        (moved, _) = (await other.call(ua.TransferSubscriptionsRequest(Parameters=parameters))).Parameters.Results
        assert moved.StatusCode.is_good()
        assert moved.AvailableSequenceNumbers == [1]
        told = (await talk.answer(waiting, "PublishResponse")).Parameters.NotificationMessage.NotificationData[0]
        assert told.Status.value == CODES.GoodSubscriptionTransferred
        assert await values(other) == [0.0]
        assert await other.outcome(ua.TransferSubscriptionsRequest(Parameters=parameters)) == [
            CODES.BadNothingToDo,
            CODES.BadSubscriptionIdInvalid,
        ]
        await end(other, number)


def select(*paths: str) -> list[ua.SimpleAttributeOperand]:
    base = ua.NodeId(ua.ObjectIds.BaseEventType)
    return [
        ua.SimpleAttributeOperand(base, [ua.QualifiedName(n) for n in path.split("/")], A.Value, None) for path in paths
    ]


def events(*paths: str, where: list[Any] | None = None) -> ua.EventFilter:
    return ua.EventFilter(SelectClauses=select(*paths), WhereClause=ua.ContentFilter(Elements=where or []))


def of_source(name: str) -> Any:
    """The rest of the plant has events of its own at the Server."""
    operands = [*select("SourceName"), ua.LiteralOperand(Value=ua.Variant(name))]
    return ua.ContentFilterElement(FilterOperator=ua.FilterOperator.Equals, FilterOperands=operands)


async def raise_event(talk: Conversation, message: str, severity: int = 500) -> None:
    arguments = ua.Variant(message, T.String), ua.Variant(severity, T.UInt16)
    assert await talk.outcome(call("Methods.RaiseEvent", *arguments)) == [0]


@pytest.mark.parametrize("notifier", ["", "i=2253"])
async def test_events_reach_their_source_and_the_server(talk: Conversation, notifier: str) -> None:
    number = (await talk.subscribe()).SubscriptionId
    wanted = events("Message", "Severity", "SourceName", where=[of_source("Playground")])
    (await talk.monitor(number, nid(notifier), A.EventNotifier, Filter=wanted)).StatusCode.check()
    await raise_event(talk, "hello", 321)
    fields = (await talk.next_data())[0]
    assert [f.Value for f in fields[1:]] == [321, "Playground"]
    assert fields[0].Value.Text == "hello"
    await end(talk, number)


async def test_a_where_clause_is_checked_and_used(talk: Conversation) -> None:
    number = (await talk.subscribe()).SubscriptionId
    severity = select("Severity")[0]
    limit = ua.LiteralOperand(Value=ua.Variant(500, T.UInt16))
    wrong = ua.ContentFilterElement(FilterOperator=ua.FilterOperator.Between, FilterOperands=[severity, limit])
    refused = await talk.monitor(number, nid(""), A.EventNotifier, Filter=events("Message", where=[wrong]))
    assert refused.StatusCode.value == CODES.BadEventFilterInvalid
    (found,) = refused.FilterResult.WhereClauseResult.ElementResults
    assert found.StatusCode.value == CODES.BadFilterOperandCountMismatch
    above = ua.ContentFilterElement(FilterOperator=ua.FilterOperator.GreaterThan, FilterOperands=[severity, limit])
    made = await talk.monitor(number, nid(""), A.EventNotifier, Filter=events("Severity", "Nothing", where=[above]))
    assert made.StatusCode.is_good()
    assert [r.is_good() for r in made.FilterResult.SelectClauseResults] == [True, False]
    for value in (400, 600):
        await raise_event(talk, "of some severity", value)
    assert [[f.Value for f in fields] for fields in await talk.next_data()] == [[600, None]]
    await end(talk, number)


LOST = "Internal/EventQueueOverflow"


@pytest.mark.parametrize(
    ("size", "discard_oldest", "expected"),
    [
        (2, True, [LOST, "c", "d"]), (2, False, ["a", "b", LOST]), (1, True, [LOST, "d"]), (1, False, [LOST, "d"]),
    ],
)  # fmt: skip
async def test_a_full_event_queue_tells_of_lost_events(
    talk: Conversation, size: int, discard_oldest: bool, expected: list[str]
) -> None:
    # 5.13.1.5, Part 5 6.4.34: a queue of one has the newest, and its policy is ignored.
    number = (await talk.subscribe(PublishingEnabled=False)).SubscriptionId
    made = await talk.monitor(
        number, nid(""), A.EventNotifier, Filter=events("Message", "EventType", "SourceName"), QueueSize=size,
        DiscardOldest=discard_oldest,
    )  # fmt: skip
    assert made.RevisedQueueSize == size
    for text in "abcd":
        await raise_event(talk, text)
    await talk.call(ua.SetPublishingModeRequest(Parameters=ua.SetPublishingModeParameters(True, [number])))
    lost = ua.NodeId(ua.ObjectIds.EventQueueOverflowEventType)
    told = [[field.Value for field in fields] for fields in await talk.next_data()]
    assert [name if kind == lost else message.Text for message, kind, name in told] == expected
    await end(talk, number)


async def test_a_slow_call_delays_no_other_request(talk: Conversation) -> None:
    slow = talk.write(call("Methods.Slow", ua.Variant(500, T.UInt32)))
    assert await talk.outcome(call("Methods.Add", double(1.0), double(2.0))) == [0]
    assert slow not in talk._answers
    answer = await talk.answer(slow, "CallResponse")
    assert answer.Results[0].StatusCode.is_good()


async def test_an_echo_gives_back_every_shape(talk: Conversation) -> None:
    result = (await talk.call(call("Methods.Add", int32(1), double(2.0)))).Results[0]
    assert [o.Value for o in result.OutputArguments] == [3.0]
    empty = ua.Variant([], T.Int32, is_array=True), ua.Variant([], T.String, is_array=True)
    result = (await talk.call(call("Methods.Arrays", *empty))).Results[0]
    assert [o.Value for o in result.OutputArguments] == [[], []]
    wrong = (await talk.call(call("Methods.Add", double(1.0), ua.Variant("x")))).Results[0]
    assert [c.value for c in wrong.InputArgumentResults] == [0, CODES.BadTypeMismatch]


async def test_dynamic_values_are_reported_at_their_pace(talk: Conversation) -> None:
    number, _ = await begun(talk, "Dynamic.Int32")
    first, *_ = await values(talk)
    await asyncio.sleep(0)
    assert (await values(talk))[-1] != first
    await end(talk, number)


async def test_a_new_range_marks_the_next_value_and_moves_the_deadband(talk: Conversation) -> None:
    # Part 8 5.2 and 5.3.2.3, Part 3 9.33: SemanticsChanged on the value as it is, an event for everybody else. Ten
    # percent of the old range are 20, of the new one 1.
    node, low, high = "Analog.Double", *NUMBERS["Double"]
    await set_value(talk, node, 0.0)
    percent = change(kind=DEADBAND.Percent, value=10.0)
    number, _ = await begun(talk, node, Filter=percent)
    wanted = events("EventType", "Changes", where=[of_source("Server")])
    (await talk.monitor(number, nid("i=2253"), A.EventNotifier, Filter=wanted)).StatusCode.check()
    level = (await talk.read(nid(f"{node}.EURange"), A.AccessLevel)).Value.Value
    assert level & 16  # SemanticChange (Part 3 8.57)
    assert await talk.outcome(write(f"{node}.EURange", ua.Range(Low=0.0, High=10.0), T.ExtensionObject)) == [0]
    marked, fields = await talk.next_data()
    assert (marked.Value.Value, marked.StatusCode.value) == (0.0, 0x4000)
    (told,) = fields[1].Value
    assert (fields[0].Value, told.Affected) == (ua.NodeId(ua.ObjectIds.SemanticChangeEventType), nid(node))
    await set_value(talk, node, 2.0)
    (plain,) = await talk.next_data()
    assert (plain.Value.Value, plain.StatusCode.value) == (2.0, 0)
    assert await talk.outcome(write(f"{node}.EURange", ua.Range(Low=low, High=high), T.ExtensionObject)) == [0]
    await end(talk, number)


async def test_items_show_what_the_sessions_user_may_read(plant: Plant, talk: Conversation) -> None:
    # 5.7.3.1, 5.13.2.1: another user takes the session over, and what only the first might read is Bad from then on.
    node = "Access.EngineerOnly"
    channel = "None" if talk.policy.URI.endswith("#None") else "Basic256Sha256"
    async with plant.session(channel, "eng1") as shared, plant.session(channel, "eng1") as engineer:
        await set_value(engineer, node, 1, T.Int32)
        await begun(shared, node)
        await shared.enter("op1")
        (denied,) = await shared.next_data()
        assert (denied.StatusCode.value, denied.Value.Value) == (CODES.BadUserAccessDenied, None)
        await set_value(engineer, node, 2, T.Int32)
        await shared.enter("eng1")
        assert await values(shared) == [2]
        await set_value(engineer, node, 3, T.Int32)
        assert await values(shared) == [3]
