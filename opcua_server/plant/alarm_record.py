"""Conditions as JSON, and back: what is on the disk of an alarm is all that is known of it."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, replace
from typing import Any

from historian.alarms import Transition
from nodesets.model import Finding
from opcua_server.plant.alarm_states import Branch, Condition, Notification, Shelving, State, Switch
from opcua_server.plant.alarms import Alarms

_SWITCHES = ("enabled", "suppressed", "out_of_service", "shelved", "silenced", "latched")
"""What the state of the plant suppresses it says again after a restart."""


def dump(condition: Condition) -> str:
    """The condition without its kind, which is the configuration's."""
    body: dict[str, Any] = {name: [s.on, s.time, s.until] for name in _SWITCHES for s in [getattr(condition, name)]}
    body |= {
        "shelving": condition.shelving.name,
        "transition": condition.transition,
        "first": condition.first,
        "made": condition.made,
        "trunk": _branch(condition.trunk),
        "branches": [_branch(b) for b in condition.branches],
    }
    return json.dumps(body, allow_nan=False)


def load(alarms: Alarms, bodies: Mapping[str, str]) -> Iterator[Condition]:
    """Conditions of the plant as they were saved; those it has no more are left out."""
    for node, text in bodies.items():
        if node not in alarms:
            continue
        body = json.loads(text)
        switches: dict[str, Any] = {name: Switch(*body[name]) for name in _SWITCHES}
        if not switches["enabled"].time:  # nobody switched it: the plant file says
            switches["enabled"] = alarms[node].enabled
        yield replace(
            alarms[node],
            **switches,
            shelving=Shelving[body["shelving"]],
            transition=body["transition"],
            first=body["first"],
            made=body["made"],
            trunk=_to_branch(body["trunk"]),
            branches=tuple(map(_to_branch, body["branches"])),
        )


def transitions(told: Iterable[Notification]) -> list[Transition]:
    """What is recorded of notifications."""
    return [_transition(n.condition, n.branch, n.retain) for n in told]


def _transition(condition: Condition, branch: Branch, retain: bool) -> Transition:
    return Transition(
        time=branch.time,
        event_id=branch.event_id,
        node=condition.node,
        source=condition.source,
        kind=condition.kind.kind,
        branch=branch.number,
        state=branch.state.value,
        level=branch.level,
        severity=branch.severity,
        retain=retain,
        hidden=condition.hidden,
        actor=branch.user,
        comment=branch.comment,
        message=branch.finding.text if branch.finding else "",
    )


def _branch(branch: Branch) -> dict[str, Any]:
    body: dict[str, Any] = {f.name: getattr(branch, f.name) for f in fields(branch)}
    return body | {
        "state": branch.state.name,
        "finding": _finding(branch.finding) if branch.finding else None,
        "event_id": branch.event_id.hex(),
        "answers": [i.hex() for i in branch.answers],
        "answered": [i.hex() for i in branch.answered],
    }


def _to_branch(body: dict[str, Any]) -> Branch:
    finding = body["finding"]
    return Branch(
        **body
        | {
            "state": State[body["state"]],
            "finding": _to_finding(finding) if finding else None,
            "event_id": bytes.fromhex(body["event_id"]),
            "answers": tuple(map(bytes.fromhex, body["answers"])),
            "answered": tuple(map(bytes.fromhex, body["answered"])),
        }
    )


def _finding(finding: Finding) -> dict[str, Any]:
    """JSON has no NaN and no infinity."""
    body: dict[str, Any] = {f.name: getattr(finding, f.name) for f in fields(finding)}
    numbers = {name: body[name] if math.isfinite(body[name]) else None for name in ("value", "limit")}
    return body | numbers | {"details": dict(finding.details)}


def _to_finding(body: dict[str, Any]) -> Finding:
    return Finding(**body | {n: math.nan if body[n] is None else body[n] for n in ("value", "limit")})
