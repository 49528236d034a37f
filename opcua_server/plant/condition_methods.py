"""The methods of conditions (Part 9 5.5 to 5.8): on the instance, on its ShelvingState, and through their types'.

What was done and by whom is recorded in one transaction with what it changed. Taking a GMP alarm out of sight opens an
exception in the batches it watches, in that transaction too (process rule 9).
"""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from asyncua import ua

from compliance import audit, exceptions, policy, recommendations, texts
from compliance.rows import entry
from config.schema import Line
from nodesets.errors import (
    ConditionDisabled,
    DialogNotActive,
    DialogResponseInvalid,
    EnoseError,
    InvalidState,
    NodeIdInvalid,
)
from nodesets.model import Caller, Finding
from opcua_server.plant.alarms import HIDES, Act, first_up
from opcua_server.plant.events import RESPONSES
from opcua_server.plant.methods import log_call, log_outcome
from opcua_server.plant.site import Site
from opcua_server.services.methods import Audited
from opcua_server.services.nodes import SITE_NS
from opcua_server.services.nodes import site as node_id
from opcua_server.services.server import UaServer

I = ua.ObjectIds  # noqa: E741 - read in columns
SHELVING = ".ShelvingState"
FOR = re.compile(r"\[([^\[\]]{1,64})\]")
"""A person's name in a comment. The methods of Part 9 have no argument for it (decision 6)."""

METHODS: Mapping[str, tuple[tuple[int, ...], tuple[str, ...]]] = {
    "Acknowledge": ((I.AcknowledgeableConditionType_Acknowledge,), ("event_id", "comment")),
    "Confirm": ((I.AcknowledgeableConditionType_Confirm,), ("event_id", "comment")),
    "AddComment": ((I.ConditionType_AddComment,), ("event_id", "comment")),
    "Respond": ((I.DialogConditionType_Respond,), ("response",)),
    "Respond2": ((I.DialogConditionType_Respond2,), ("response", "comment")),
    "Enable": ((I.ConditionType_Enable,), ()),
    "Disable": ((I.ConditionType_Disable,), ()),
    "Silence": ((I.AlarmConditionType_Silence,), ()),
    "Suppress": ((I.AlarmConditionType_Suppress,), ()),
    "Suppress2": ((I.AlarmConditionType_Suppress2,), ("comment",)),
    "Unsuppress": ((I.AlarmConditionType_Unsuppress,), ()),
    "Unsuppress2": ((I.AlarmConditionType_Unsuppress2,), ("comment",)),
    "RemoveFromService": ((I.AlarmConditionType_RemoveFromService,), ()),
    "RemoveFromService2": ((I.AlarmConditionType_RemoveFromService2,), ("comment",)),
    "PlaceInService": ((I.AlarmConditionType_PlaceInService,), ()),
    "PlaceInService2": ((I.AlarmConditionType_PlaceInService2,), ("comment",)),
    "Reset": ((I.AlarmConditionType_Reset,), ()),
    "Reset2": ((I.AlarmConditionType_Reset2,), ("comment",)),
    "TimedShelve": (
        (I.ShelvedStateMachineType_TimedShelve, I.AlarmConditionType_ShelvingState_TimedShelve),
        ("milliseconds",),
    ),
    "TimedShelve2": ((I.ShelvedStateMachineType_TimedShelve2,), ("milliseconds", "comment")),
    "OneShotShelve": (
        (I.ShelvedStateMachineType_OneShotShelve, I.AlarmConditionType_ShelvingState_OneShotShelve),
        (),
    ),
    "OneShotShelve2": ((I.ShelvedStateMachineType_OneShotShelve2,), ("comment",)),
    "Unshelve": ((I.ShelvedStateMachineType_Unshelve, I.AlarmConditionType_ShelvingState_Unshelve), ()),
    "Unshelve2": ((I.ShelvedStateMachineType_Unshelve2,), ("comment",)),
}
"""Method -> the types' own, and what its arguments are."""
GROUPS = I.AlarmConditionType_GetGroupMemberships


def link(server: UaServer, site: Site) -> None:
    """Answer the methods of all conditions, linked once at their types."""
    for name, (numbers, arguments) in METHODS.items():
        for number in numbers:
            _link(server, site, number, name, arguments)
    server.link_method(ua.NodeId(GROUPS), partial(_groups, site), partial(_may, "GetGroupMemberships"))

    server.link_method(
        ua.NodeId(I.AlarmMetricsType_Reset), partial(_reset_figures, site), partial(_may, "ResetMetrics")
    )


async def _reset_figures(site: Site, caller: Caller, called: Any, _arguments: tuple[Any, ...]) -> Sequence[Any]:
    """AlarmMetricsType.Reset (Part 9 9.2)."""
    await log_call(site, caller, "Alarms.ResetMetrics", str(called.Identifier), {}, "Good")
    site.annunciator.figures.reset(site.clock.now())
    return ()


def _may(name: str, caller: Caller) -> bool:
    return policy.allowed(caller, f"Alarms.{name}")


def _link(server: UaServer, site: Site, number: int, name: str, arguments: tuple[str, ...]) -> None:
    action = f"Alarms.{name.removesuffix('2')}"

    async def answer(caller: Caller, called: Any, values: tuple[Any, ...]) -> Sequence[Any]:
        given = dict(zip(arguments, values, strict=True))
        at = str(called.Identifier)
        try:
            at = _condition(site, called)
            act = _act(name.removesuffix("2"), caller, given)
            if act.name == "Respond":
                await _decide(site, caller, at, act)
            await site.annunciator.act(at, act, partial(_record, site, caller, at, act, name))
        except EnoseError as error:
            said = {key: _loggable(value) for key, value in given.items()}
            outcome = ua.StatusCode(error.status).name
            await log_outcome(site, caller, f"Alarms.{name}", at, said, outcome, str(error))
            raise
        if act.name == "Respond":
            await site.show(site.refresh_recommendations, "showing recommendations")
        for line in _lines(site, at) if _hides(site, at, act) else ():
            await site.show(partial(site.refresh_line, line.id), f"showing {line.id}")
        return ()

    async def refused(caller: Caller, called: Any, status: int) -> None:
        await log_call(site, caller, f"Alarms.{name}", str(called.Identifier), {}, ua.StatusCode(status).name)

    allowed = partial(_may, action.removeprefix("Alarms."))
    server.link_method(ua.NodeId(number), answer, allowed, refused, Audited(logged=True))


async def _decide(site: Site, caller: Caller, at: str, act: Act) -> None:
    """Record a person's response to a recommendation: the same checks as of the methods of Agents (process rule 14).

    Raises ConditionDisabled, DialogNotActive, also when somebody decided by another way or it expired,
    DialogResponseInvalid, and as `recommendations.decide`.
    """
    condition = site.annunciator[at]
    if not condition.enabled.on:
        raise ConditionDisabled(f"{at} is disabled")
    if not condition.trunk.state.active or condition.trunk.finding is None:
        raise DialogNotActive(f"{at} asks nothing")
    if not 0 <= act.response < len(RESPONSES):
        raise DialogResponseInvalid(f"response {act.response}: 0 to {len(RESPONSES) - 1}")
    name = RESPONSES[act.response]
    policy.permit(caller, f"Agents.{name}Recommendation")
    key = condition.trunk.finding.details["RecommendationId"]
    try:
        await site.submit(
            lambda tx: recommendations.decide(tx, caller, site.clock.now(), key, name.lower(), act.comment)
        )
    except InvalidState as error:
        raise DialogNotActive(str(error)) from error


def _condition(site: Site, called: Any) -> str:
    """The condition an object is, or is the shelving of. Raises NodeIdInvalid, for a type too (Part 9 5.7.3)."""
    name = called.Identifier
    if called.NamespaceIndex == SITE_NS and isinstance(name, str):
        node = name.removesuffix(SHELVING)
        if node in site.alarms:
            return node
    raise NodeIdInvalid(f"{called.to_string()} is no condition")


def _act(name: str, caller: Caller, given: Mapping[str, Any]) -> Act:
    """Raises InvalidArgument for a comment that cannot be kept."""
    comment = given.get("comment") or ua.LocalizedText()
    words = texts.text("Comment", comment.Text or "")
    return Act(
        name=name,
        event_id=given.get("event_id") or b"",
        comment=words,
        locale=texts.text("Comment", comment.Locale or ""),
        seconds=given.get("milliseconds", 0.0) / 1000,
        response=given.get("response", -1),
        user=caller.user,
    )


def _claimed(caller: Caller, comment: str) -> str:
    """Whom a service account says it acts for: `[NAME]` at the begin of its comment (process rule 15)."""
    match = FOR.match(comment) if caller.service else None
    return match[1] if match else ""


def _loggable(value: Any) -> Any:
    return value.Text if isinstance(value, ua.LocalizedText) else value


def _hides(site: Site, at: str, act: Act) -> bool:
    return act.name in HIDES and site.alarms[at].kind.gmp


def _lines(site: Site, at: str) -> list[Line]:
    """Lines whose streams the alarm is of, or of the device of."""
    source = site.alarms[at].source
    return [
        line
        for line in site.plant.lines
        if line.id == source or any(f"{stream}.".startswith(f"{source}.") for stream in line.streams)
    ]


def _record(site: Site, caller: Caller, at: str, act: Act, method: str, tx: Any) -> None:
    now = site.clock.now()
    given = {"EventId": act.event_id, "Seconds": act.seconds, "Response": act.response}
    claimed = _claimed(caller, act.comment)
    audit.append(
        tx, entry(caller, now, f"call.Alarms.{method}", at, reason=act.comment, new=given, on_behalf_of=claimed)
    )
    if _hides(site, at, act):
        kind = site.alarms[at].kind
        words = f"{at}: {act.name} by {caller.user}: {act.comment}"
        hidden = Finding(kind="AlarmHidden", source=at, time=now, level="Active", text=words)
        for line in _lines(site, at):
            exceptions.of_line(tx, caller, now, line.id, hidden, kind.worst)


async def _groups(site: Site, _caller: Caller, called: Any, _arguments: tuple[Any, ...]) -> Sequence[Any]:
    """GetGroupMemberships (Part 9 5.8.16)."""
    condition = site.alarms[_condition(site, called)]
    groups = [node_id(first_up(condition.source, condition.kind))]
    return (ua.Variant(groups, ua.VariantType.NodeId, is_array=True),)
