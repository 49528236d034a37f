"""Dialogs over the wire (Part 9 5.6): a recommendation asks, a person responds, and nothing else is done by it.

The playground's method Recommend has a dialog ask. Process rule 14: the same role and comment checks as of the methods
of Agents.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from asyncua import ua

from tests.conformance.plant import CODES, Conversation, Plant, call, double, int32, nid, read
from tests.conformance.test_alarms import channel_of, clause, text

pytestmark = pytest.mark.asyncio(loop_scope="module")
I = ua.ObjectIds  # noqa: E741 - read in columns
FIELDS = (
    "EventId", "EventType", "SourceNode", "Message", "Severity", "ConditionName", "Retain", "DialogState",
    "DialogState/Id", "DialogState/TransitionTime", "Prompt", "ResponseOptionSet", "DefaultResponse", "OkResponse",
    "CancelResponse", "LastResponse", "Comment", "ClientUserId", "EnabledState/Id", "ConditionClassId", "Quality",
)  # fmt: skip
CONDITION_ID = ua.SimpleAttributeOperand(
    TypeDefinitionId=ua.NodeId(I.ConditionType), BrowsePath=[], AttributeId=ua.AttributeIds.NodeId
)
ACCEPT, REJECT, DEFER = range(3)

Told = dict[str, Any]


class Dialogs:
    """What is asked of a person, and what is told of it."""

    def __init__(self, talk: Conversation, subscription: int) -> None:
        self.talk, self.subscription = talk, subscription

    async def asked(self, words: str, seconds: float = 3600.0) -> Told:
        """Have something asked; what was told of it."""
        arguments = ua.Variant(words, ua.VariantType.String), double(seconds)
        assert await self.talk.outcome(call("Methods.Recommend", *arguments)) == [0]
        return await self.told(lambda e: e["DialogState/Id"] and e["Prompt"].Text == words)

    async def told(self, wanted: Any) -> Told:
        """The next event of a dialog that is wanted."""
        async with asyncio.timeout(60):
            while True:
                for fields in await self.talk.next_data():
                    condition, *values = [v.Value for v in fields]
                    event = dict(zip(FIELDS, values, strict=True)) | {"node": condition}
                    if isinstance(event["DialogState/Id"], bool) and wanted(event):
                        return event

    async def responds(self, node: Any, *arguments: Any, by: Conversation | None = None, typed: int = 0) -> int:
        method = "Respond2" if len(arguments) > 1 else "Respond"
        at = f"i={typed}" if typed else f"{node.to_string()}.{method}"
        [code] = await (by or self.talk).outcome(call(at, *arguments, on=node.to_string()))
        return int(code)

    async def shows(self, node: Any, path: str) -> Any:
        response = await self.talk.call(read(f"{node.to_string()}.{path}"))
        return response.Results[0].Value.Value


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def dialogs(talk: Conversation) -> AsyncIterator[Dialogs]:
    subscription = (await talk.subscribe(interval=10.0, RequestedLifetimeCount=60_000)).SubscriptionId
    filter_ = ua.EventFilter(SelectClauses=[CONDITION_ID, *map(clause, FIELDS)])
    server = ua.NodeId(I.Server)
    made = await talk.monitor(subscription, server, ua.AttributeIds.EventNotifier, Filter=filter_, QueueSize=1000)
    made.StatusCode.check()
    yield Dialogs(talk, subscription)
    await talk.call(ua.DeleteSubscriptionsRequest(Parameters=ua.DeleteSubscriptionsParameters([subscription])))


async def test_a_recommendation_asks_with_every_member_of_a_dialog(dialogs: Dialogs) -> None:
    # Part 9 5.6.2; information model 1.5.
    asked = await dialogs.asked("clean the probe?")
    assert asked["EventType"] == ua.NodeId(I.DialogConditionType)
    assert asked["node"].Identifier == f"{asked['SourceNode'].Identifier}.Decision"
    assert [o.Text for o in asked["ResponseOptionSet"]] == ["Accept", "Reject", "Defer"]
    # No option is the default: advice alone pre-fills nothing (agents.md L15). To cancel decides nothing.
    assert [asked[f"{n}Response"] for n in ("Default", "Ok", "Cancel")] == [-1, ACCEPT, DEFER]
    assert (asked["Retain"], asked["Severity"], asked["ConditionName"]) == (True, 200, "Decision")
    assert asked["DialogState"].Text == "Active"
    for path in FIELDS:
        shown = await dialogs.shows(asked["node"], path.replace("/", "."))
        assert shown == asked[path], path
    assert await dialogs.responds(asked["node"], int32(REJECT), text("not now")) == 0


@pytest.mark.parametrize(("response", "state"), [(ACCEPT, 2), (REJECT, 3), (DEFER, 1)])
async def test_a_response_ends_the_dialog_and_is_the_decision(dialogs: Dialogs, response: int, state: int) -> None:
    # Part 9 5.6.3; agents.md: a person's decision is recorded, and nothing is carried out.
    asked = await dialogs.asked(f"shall this be {response}?")
    node, slot = asked["node"], asked["SourceNode"]
    typed = I.DialogConditionType_Respond2 if response == ACCEPT else 0
    assert await dialogs.responds(node, int32(response), text("looked at it"), typed=typed) == 0
    ended = await dialogs.told(lambda e: e["node"] == node)
    assert (ended["DialogState/Id"], ended["Retain"], ended["LastResponse"]) == (False, False, response)
    assert (ended["Comment"].Text, ended["ClientUserId"]) == ("looked at it", "op1")
    assert await dialogs.shows(node, "LastResponse") == response
    assert [await dialogs.shows(slot, name) for name in ("State", "DecidedBy")] == [state, "op1"]
    assert await dialogs.responds(node, int32(response), text("again")) == CODES.BadDialogNotActive


async def test_codes_of_responses(dialogs: Dialogs, plant: Plant) -> None:
    # Part 9 tables 27, 30; process rule 14: who may not accept by method may not by response, nor without a reason.
    node = (await dialogs.asked("is it hot?"))["node"]
    for invalid in (-1, 3, 2**31 - 1):
        assert await dialogs.responds(node, int32(invalid), text("x")) == CODES.BadDialogResponseInvalid
    assert await dialogs.responds(node, int32(ACCEPT)) == CODES.BadInvalidArgument
    assert await dialogs.responds(node, int32(ACCEPT), text(" ")) == CODES.BadInvalidArgument
    assert await dialogs.responds(node, double(0.5), text("x")) == CODES.BadInvalidArgument
    async with plant.session(channel_of(dialogs.talk), "obs1") as observer:
        assert await dialogs.responds(node, int32(ACCEPT), text("x"), by=observer) == CODES.BadUserAccessDenied
    alarm = nid("ns=3;s=EN01.Stream01.Alarms.QualityScoreLow")
    typed = I.DialogConditionType_Respond2
    assert await dialogs.responds(alarm, int32(0), text("x"), typed=typed) == CODES.BadMethodInvalid
    acknowledge = call(
        f"i={I.AcknowledgeableConditionType_Acknowledge}",
        ua.Variant(b"x", ua.VariantType.ByteString),
        text("x"),
        on=node.to_string(),
    )
    assert await dialogs.talk.outcome(acknowledge) == [CODES.BadMethodInvalid]
    assert await dialogs.responds(node, int32(DEFER), text("later")) == 0


async def test_what_is_decided_elsewhere_or_expires_is_asked_no_more(dialogs: Dialogs) -> None:
    first, second = await dialogs.asked("by method?"), await dialogs.asked("in time?", seconds=1.0)
    assert first["node"] != second["node"]
    key = ua.Variant(await dialogs.shows(first["SourceNode"], "RecommendationId"), ua.VariantType.String)
    reason = ua.Variant("agreed", ua.VariantType.String)
    accept = call("ns=3;s=ENose.Agents.AcceptRecommendation", key, reason, on="ns=3;s=ENose.Agents")
    assert await dialogs.talk.outcome(accept) == [0]
    ended: dict[Any, Told] = {}
    while len(ended) < 2:
        event = await dialogs.told(lambda e: e["node"] in (first["node"], second["node"]) and not e["DialogState/Id"])
        ended[event["node"]] = event
    assert ended[first["node"]]["LastResponse"] == ACCEPT
    assert await dialogs.responds(second["node"], int32(ACCEPT), text("late")) == CODES.BadDialogNotActive


async def test_a_disabled_dialog_takes_no_response(dialogs: Dialogs, plant: Plant) -> None:
    # Part 9 5.5.2, 5.5.4.
    node = (await dialogs.asked("still there?"))["node"]
    async with plant.session(channel_of(dialogs.talk), "eng1") as engineer:
        disable, enable = (call(f"{node.to_string()}.{m}", on=node.to_string()) for m in ("Disable", "Enable"))
        assert await engineer.outcome(disable) == [0]
        assert await dialogs.responds(node, int32(ACCEPT), text("x")) == CODES.BadConditionDisabled
        assert await engineer.outcome(enable) == [0]
    assert await dialogs.responds(node, int32(ACCEPT), text("x")) == 0


async def test_what_is_asked_is_told_again_by_a_refresh(dialogs: Dialogs) -> None:
    # Part 9 5.5.7.
    asked = await dialogs.asked("refreshed?")
    number = ua.Variant(dialogs.subscription, ua.VariantType.UInt32)
    refresh = call(f"i={I.ConditionType_ConditionRefresh}", number, on=f"i={I.ConditionType}")
    assert await dialogs.talk.outcome(refresh) == [0]
    again = await dialogs.told(lambda e: e["node"] == asked["node"])
    assert (again["EventId"], again["Retain"]) == (asked["EventId"], True)
    assert await dialogs.responds(asked["node"], int32(DEFER), text("later")) == 0
