"""Subscriptions (Part 4 5.14)."""

import asyncio
import math
import time
from typing import Any

import pytest
from asyncua import ua

from opcua_server.services.limits import Limits
from tests.conformance.opcua import Bench, Raw, nid

CODES = ua.StatusCodes
pytestmark = pytest.mark.asyncio(loop_scope="session")


def show(bench: Bench, value: float) -> None:
    now = time.time_ns()
    bench.server.write("Part.Value", ua.Variant(value), 0, now, now)


async def code_of(work: Any) -> int:
    with pytest.raises(ua.UaStatusCodeError) as refused:
        await work
    return int(refused.value.code)


@pytest.mark.parametrize("asked", [-1.0, 0.0, 0.001, math.nan, 10.0])
async def test_tiny_intervals_are_lifted(raw: Raw, asked: float) -> None:
    # asyncua took them as they were: NaN and 0.001 ms spun its loop.
    assert (await raw.subscribe(interval=asked)).RevisedPublishingInterval == Limits().publishing_interval[0]


async def test_lifetime_is_at_least_three_keep_alives(raw: Raw) -> None:
    result = await raw.subscribe(RequestedLifetimeCount=1, RequestedMaxKeepAliveCount=10)
    assert (result.RevisedLifetimeCount, result.RevisedMaxKeepAliveCount) == (30, 10)
    huge = await raw.subscribe(RequestedLifetimeCount=2**32 - 1, RequestedMaxKeepAliveCount=2**32 - 1)
    assert (huge.RevisedLifetimeCount, huge.RevisedMaxKeepAliveCount) == (Limits().lifetime, Limits().keep_alive)


async def test_modify_is_carried_out(raw: Raw) -> None:
    # asyncua answered Good and changed nothing.
    number = (await raw.subscribe(interval=200.0)).SubscriptionId
    parameters = ua.ModifySubscriptionParameters(
        SubscriptionId=number,
        RequestedPublishingInterval=1000.0,
        RequestedLifetimeCount=60,
        RequestedMaxKeepAliveCount=20,
    )
    result = (await raw.call(ua.ModifySubscriptionRequest(Parameters=parameters))).Parameters
    assert (result.RevisedPublishingInterval, result.RevisedLifetimeCount, result.RevisedMaxKeepAliveCount) == (
        1000.0,
        60,
        20,
    )


async def test_the_first_message_comes_after_one_interval_and_keeps_alive(raw: Raw) -> None:
    # 5.14.1.2: a client must learn soon that its subscription works, though nothing changes.
    await raw.subscribe(RequestedMaxKeepAliveCount=1000)
    first = await raw.publish()
    assert first.NotificationMessage.NotificationData == []
    assert first.NotificationMessage.SequenceNumber == 1
    assert first.AvailableSequenceNumbers == []


async def test_keep_alives_do_not_count(bench: Bench, raw: Raw) -> None:
    # A keep-alive carries the next number and does not use it up (5.14.1.1).
    number = (await raw.subscribe()).SubscriptionId
    assert (await raw.publish()).NotificationMessage.SequenceNumber == 1
    await raw.monitor(number, nid("Part.Value"))
    assert (await raw.publish()).NotificationMessage.SequenceNumber == 1
    show(bench, time.time())
    assert (await raw.publish()).NotificationMessage.SequenceNumber == 2


async def test_messages_are_kept_until_acknowledged(bench: Bench, raw: Raw) -> None:
    number = (await raw.subscribe()).SubscriptionId
    await raw.monitor(number, nid("Part.Value"))
    first = await raw.publish()
    assert first.AvailableSequenceNumbers == [1]

    async def republish(sequence: int, subscription: int = number) -> Any:
        parameters = ua.RepublishParameters(SubscriptionId=subscription, RetransmitSequenceNumber=sequence)
        return (await raw.call(ua.RepublishRequest(Parameters=parameters))).NotificationMessage

    for _ in range(2):  # asyncua gave a message away once
        again = await republish(1)
        assert again.NotificationData == first.NotificationMessage.NotificationData
    # node-opcua asks until it hears this; asyncua's Good had it ask 31,440 times in 14 s.
    assert await code_of(republish(2)) == CODES.BadMessageNotAvailable
    assert await code_of(republish(1, 10**6)) == CODES.BadSubscriptionIdInvalid
    show(bench, time.time())
    second = await raw.publish((number, 1), (number, 1), (number, 99), (10**6, 1))
    assert [r.value for r in second.Results] == [
        0, CODES.BadSequenceNumberUnknown, CODES.BadSequenceNumberUnknown, CODES.BadSubscriptionIdInvalid,
    ]  # fmt: skip
    assert second.AvailableSequenceNumbers == [2]
    assert await code_of(republish(1)) == CODES.BadMessageNotAvailable


async def test_publish_without_a_subscription_says_so(raw: Raw) -> None:
    assert await code_of(raw.publish()) == CODES.BadNoSubscription
    number = (await raw.subscribe(interval=10_000.0)).SubscriptionId
    waiting = raw.write(ua.PublishRequest())
    results = await raw.call(
        ua.DeleteSubscriptionsRequest(Parameters=ua.DeleteSubscriptionsParameters(SubscriptionIds=[number, number]))
    )
    assert [r.value for r in results.Results] == [0, CODES.BadSubscriptionIdInvalid]
    answer = await raw.answer(waiting, "PublishResponse")
    assert answer.ResponseHeader.ServiceResult.value == CODES.BadNoSubscription


async def test_too_many_waiting_publish_requests_return_the_oldest(raw: Raw) -> None:
    await raw.subscribe(interval=10_000.0)
    first = raw.write(ua.PublishRequest())
    for _ in range(Limits().publish_requests):
        raw.write(ua.PublishRequest())
    answer = await raw.answer(first, "PublishResponse")
    assert answer.ResponseHeader.ServiceResult.value == CODES.BadTooManyPublishRequests


async def test_a_publish_request_past_its_time_is_answered_so(raw: Raw) -> None:
    await raw.subscribe(interval=200.0)
    request = ua.PublishRequest()
    request.RequestHeader.TimeoutHint = 1
    number = raw.write(request)
    answer = await raw.answer(number, "PublishResponse")
    assert answer.ResponseHeader.ServiceResult.value == CODES.BadTimeout


async def test_a_long_message_is_divided(bench: Bench, raw: Raw) -> None:
    number = (await raw.subscribe(MaxNotificationsPerPublish=2)).SubscriptionId
    await raw.monitor(number, nid("Part.Value"))
    for value in range(1, 5):
        show(bench, time.time() + value)
    waiting = [raw.write(ua.PublishRequest()) for _ in range(3)]
    messages = [(await raw.answer(w, "PublishResponse")).Parameters for w in waiting]
    counts = [len(m.NotificationMessage.NotificationData[0].MonitoredItems) for m in messages]
    assert counts == [2, 2, 1]
    assert [m.MoreNotifications for m in messages] == [True, True, False]


async def test_publishing_switched_off_keeps_alive_and_keeps_values(bench: Bench, raw: Raw) -> None:
    number = (await raw.subscribe(PublishingEnabled=False)).SubscriptionId
    await raw.monitor(number, nid("Part.Value"))
    assert (await raw.publish()).NotificationMessage.NotificationData == []
    await raw.call(
        ua.SetPublishingModeRequest(
            Parameters=ua.SetPublishingModeParameters(PublishingEnabled=True, SubscriptionIds=[number])
        )
    )
    assert len(await raw.next_data()) == 1


async def test_higher_priority_is_served_first(bench: Bench, raw: Raw) -> None:
    low = (await raw.subscribe(Priority=1)).SubscriptionId
    high = (await raw.subscribe(Priority=9)).SubscriptionId
    for number in (low, high):
        await raw.monitor(number, nid("Part.Value"))
    own = raw.bench.server._subscriptions._all
    while not (own[low].late and own[high].late):
        await asyncio.sleep(0.01)
    assert (await raw.publish()).SubscriptionId == high
    assert (await raw.publish()).SubscriptionId == low


async def test_an_abandoned_subscription_expires_and_says_so(raw: Raw) -> None:
    number = (await raw.subscribe(RequestedLifetimeCount=3, RequestedMaxKeepAliveCount=1)).SubscriptionId
    subscriptions = raw.bench.server._subscriptions._all
    while number in subscriptions:
        await asyncio.sleep(0.01)
    # 5.14.1.2: the StatusChange waits for whoever asks next.
    told = await raw.publish()
    assert told.SubscriptionId == number
    assert told.NotificationMessage.NotificationData[0].Status.value == CODES.BadTimeout
    assert await code_of(raw.publish()) == CODES.BadNoSubscription


async def test_subscriptions_of_a_session_are_counted(raw: Raw) -> None:
    for _ in range(Limits().subscriptions_per_session):
        await raw.subscribe(interval=60_000.0)
    assert await code_of(raw.subscribe()) == CODES.BadTooManySubscriptions


async def test_items_of_an_ended_session_are_gone_from_the_storage(bench: Bench) -> None:
    cell = bench.server.space.cell(nid("Part.Value"))
    async with Raw(bench) as raw:
        await raw.login()
        number = (await raw.subscribe()).SubscriptionId
        item = (await raw.monitor(number, nid("Part.Value"))).MonitoredItemId
        assert item in cell.datachange_callbacks  # beside those of earlier sessions, which end when they end
        request = ua.CloseSessionRequest()
        request.DeleteSubscriptions = True
        await raw.call(request)
    assert item not in cell.datachange_callbacks


async def transfer(raw: Raw, *numbers: int, initial: bool = True) -> list[Any]:
    parameters = ua.TransferSubscriptionsParameters(SubscriptionIds=list(numbers), SendInitialValues=initial)
    answer = await raw.call(ua.TransferSubscriptionsRequest(Parameters=parameters))
    return list(answer.Parameters.Results)


async def test_a_subscription_moves_to_another_session_of_its_user(bench: Bench, raw: Raw) -> None:
    # asyncua went on answering over the old channel; Milo transfers after every reconnect.
    number = (await raw.subscribe()).SubscriptionId
    await raw.monitor(number, nid("Part.Value"))
    assert len(await raw.next_data()) == 1
    waiting = raw.write(ua.PublishRequest())
    async with Raw(bench) as other:
        await other.login()
        (result,) = await transfer(other, number)
        assert result.StatusCode.is_good()
        assert result.AvailableSequenceNumbers == [1]
        assert len(await other.next_data()) == 1  # the initial value
        show(bench, time.time())
        assert len(await other.next_data()) == 1
        told = (await raw.answer(waiting, "PublishResponse")).Parameters.NotificationMessage.NotificationData
        assert told[0].Status.value == CODES.GoodSubscriptionTransferred
        assert await code_of(raw.publish()) == CODES.BadNoSubscription


async def test_an_unknown_subscription_fails_alone(raw: Raw) -> None:
    # Milo gives up the whole session when the service itself fails (acceptance point 4).
    mine = (await raw.subscribe()).SubscriptionId
    results = await transfer(raw, 10**6, mine)
    assert [r.StatusCode.value for r in results] == [CODES.BadSubscriptionIdInvalid, CODES.BadNothingToDo]


async def test_a_subscription_left_by_a_closed_session_waits_for_its_user(bench: Bench, raw: Raw) -> None:
    async with Raw(bench) as first:
        await first.login()
        number = (await first.subscribe()).SubscriptionId
        await first.monitor(number, nid("Part.Value"))
        request = ua.CloseSessionRequest()
        request.DeleteSubscriptions = False
        await first.call(request)
    (result,) = await transfer(raw, number, initial=False)
    assert result.StatusCode.is_good()
    assert len(await raw.next_data()) == 1


async def test_a_session_resumed_on_a_new_channel_goes_on_publishing(bench: Bench) -> None:
    # After a cut cable a client activates its session on a new channel and asks for what it missed (6.7).
    async with Raw(bench) as first:
        await first.login()
        number = (await first.subscribe()).SubscriptionId
        await first.monitor(number, nid("Part.Value"))
        first.write(ua.PublishRequest())
        await first.read(nid("Part.Text"))
        token, nonce = first.token, first.server_nonce
    async with Raw(bench) as second:
        await second.open()
        second.token, second.server_nonce = token, nonce
        await second.activate()
        show(bench, time.time())
        values = [v.Value.Value for v in await second.next_data()]
        assert values
