"""Killed at any moment, alarms lose no transition and repeat none, and come back with the same EventIds.

`ENOSE_KILLS=1000 python -m pytest tests/fault/test_alarms.py` kills as often as one has time for.
"""

import asyncio
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from asyncua import ua

from compliance import verify
from historian import schema
from historian.alarms import Transition, load, told
from opcua_server.plant.alarm_states import TRANSITIONS, State
from tests.conformance.plant import call, double, nid, running_plant, write
from tests.servers import environment

KILLS = int(os.environ.get("ENOSE_KILLS", "25"))
SERVER_KILLS = max(3, KILLS // 25)
FIELDS = ("EventId", "BranchId", "Retain", "ConditionName")
SCORE = "ns=3;s=EN01.Stream01.Alarms.QualityScoreLow"


def recorded(database: Path) -> tuple[dict[str, str], list[Transition]]:
    engine = schema.reading(f"sqlite:///{database}")
    try:
        with engine.connect() as tx:
            return load(tx), list(told(tx, 0, 2**63 - 1))
    finally:
        engine.dispose()


def check_lives(transitions: list[Transition]) -> None:
    """Each state follows from the one before it by a step of the table: none is missing, none is there twice."""
    allowed = {before: {*row.values(), before} for before, row in TRANSITIONS.items()}
    trunk = State.NORMAL
    for transition in (t for t in transitions if t.branch == 0):
        after = State(transition.state)
        assert after in allowed[trunk], (trunk, after)
        trunk = after


def test_killed_at_any_moment_it_loses_no_transition_and_repeats_none(tmp_path: Path) -> None:
    database, chance = tmp_path / "enose.db", random.Random(7)
    printed: list[bytes] = []
    before: dict[str, str] = {}
    for _ in range(KILLS):
        command = [sys.executable, "-m", "tests.fault.alarm_run", str(database)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment())
        assert process.stdout is not None
        restored, shown, wanted = {}, 0, chance.randrange(1, 40)
        for line in process.stdout:
            kind, _, rest = line.strip().partition(" ")
            if kind == "=":
                node, _, body = rest.partition(" ")
                restored[node] = body
            else:
                printed.append(bytes.fromhex(rest))
                shown += 1
            if shown >= wanted:
                break
        process.send_signal(signal.SIGKILL)
        rest_of_it, _ = process.communicate()
        for line in rest_of_it.splitlines():
            if line.startswith("> ") and len(line) == 34:  # whole: the kill may have cut the last one
                printed.append(bytes.fromhex(line[2:]))
        assert restored == before
        before, transitions = recorded(database)
        ids = [t.event_id for t in transitions]
        assert len(set(ids)) == len(ids)
        assert [i for i in ids if i in set(printed)] == printed  # what was shown is there, once, in its order
        check_lives(transitions)
    assert len(printed) > KILLS
    assert verify.check(database).clean


async def test_a_killed_server_comes_back_with_the_alarms_it_showed(tmp_path: Path) -> None:
    # Issue: the same EventIds until superseded; an acknowledgement by one of before the kill is taken.
    chance = random.Random(11)
    with running_plant(tmp_path) as plant:
        for _ in range(SERVER_KILLS):
            async with plant.session("None") as talk:
                seen = await listen(talk)
                for value in chance.choices((30.0, 10.0, 100.0), k=chance.randrange(3, 12)):
                    await talk.call(write("Alarms.Score", double(value)))
                    await asyncio.sleep(chance.random() / 50)
                last: list[dict[str, Any]] = []
                while not last:
                    last = of_score(await seen())
            plant.running.stop(signal.SIGKILL)
            _, transitions = recorded(plant.running.data / "enose.db")
            kept = [t for t in transitions if t.node == SCORE[7:]]
            assert all(e["EventId"] in {t.event_id for t in kept} for e in last)
            plant.running.start()
            async with plant.session("None") as talk:
                seen = await listen(talk)
                number = ua.Variant(talk.subscription, ua.VariantType.UInt32)  # type: ignore[attr-defined]
                refresh = call(f"i={ua.ObjectIds.ConditionType_ConditionRefresh}", number, on="i=2782")
                assert await talk.outcome(refresh) == [0]
                newest = {t.branch: t for t in kept}
                expected = {t.event_id for t in newest.values() if t.retain}
                told_again: set[bytes] = set()
                while not told_again >= expected:
                    told_again |= {e["EventId"] for e in of_score(await seen()) if e["Retain"]}
                assert told_again == expected
                _, again = recorded(plant.running.data / "enose.db")
                assert [t.event_id for t in again if t.node == SCORE[7:]] == [t.event_id for t in kept]
                for event_id in expected:
                    arguments = ua.Variant(event_id, ua.VariantType.ByteString), words("after the kill")
                    assert await talk.outcome(call(f"{SCORE}.Acknowledge", *arguments, on=SCORE)) in (
                        [0],
                        [ua.StatusCodes.BadConditionBranchAlreadyAcked],
                    )


def of_score(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those of the alarm alone: the stream has results and other alarms to tell of."""
    return [e for e in events if e["ConditionName"] == "QualityScoreLow"]


async def test_a_killed_server_asks_again_what_it_asked(tmp_path: Path) -> None:
    # Issue 4: dialogs survive a kill with the EventId they were told with, and a response to them is taken.
    with running_plant(tmp_path) as plant:
        async with plant.session("None") as talk:
            seen = await listen(talk, "ns=3;s=ENose.Agents")
            question = ua.Variant("replace S03?", ua.VariantType.String), double(3600.0)
            assert await talk.outcome(call("Methods.Recommend", *question)) == [0]
            [asked] = [e for e in await seen() if e["Retain"] is not None]
        plant.running.stop(signal.SIGKILL)
        plant.running.start()
        async with plant.session("None") as talk:
            seen = await listen(talk, "ns=3;s=ENose.Agents")
            number = ua.Variant(talk.subscription, ua.VariantType.UInt32)  # type: ignore[attr-defined]
            refresh = call(f"i={ua.ObjectIds.ConditionType_ConditionRefresh}", number, on="i=2782")
            assert await talk.outcome(refresh) == [0]
            again: list[dict[str, Any]] = []
            while not again:
                again = [e for e in await seen() if e["Retain"]]
            assert [e["EventId"] for e in again] == [asked["EventId"]]
            at = "ns=3;s=ENose.Agents.R01.Decision"
            response = ua.Variant(0, ua.VariantType.Int32), words("worn")
            assert await talk.outcome(call(f"{at}.Respond2", *response, on=at)) == [0]
            assert await talk.outcome(call(f"{at}.Respond2", *response, on=at)) == [ua.StatusCodes.BadDialogNotActive]


def words(text: str) -> ua.Variant:
    return ua.Variant(ua.LocalizedText(text, "en"), ua.VariantType.LocalizedText)


async def listen(talk: Any, node: str = "ns=3;s=EN01.Stream01") -> Any:
    """Subscribe to the alarm's stream, or another notifier; a function that waits for the next events."""
    talk.subscription = (await talk.subscribe()).SubscriptionId
    clauses = [
        ua.SimpleAttributeOperand(
            TypeDefinitionId=ua.NodeId(ua.ObjectIds.BaseEventType),
            BrowsePath=[ua.QualifiedName(name)],
            AttributeId=ua.AttributeIds.Value,
        )
        for name in FIELDS
    ]
    made = await talk.monitor(
        talk.subscription,
        nid(node),
        ua.AttributeIds.EventNotifier,
        Filter=ua.EventFilter(SelectClauses=clauses),
    )
    made.StatusCode.check()

    async def seen() -> list[dict[str, Any]]:
        return [dict(zip(FIELDS, [v.Value for v in fields], strict=True)) for fields in await talk.next_data()]

    return seen
