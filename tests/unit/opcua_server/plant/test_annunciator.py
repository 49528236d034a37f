"""Recorded before shown, in order, and refused when it cannot be recorded."""

import asyncio

import pytest

from historian import alarms as store
from nodesets.errors import EventIdUnknown, StorageError
from nodesets.model import Basis, Finding
from opcua_server.plant import annunciator
from opcua_server.plant.alarm_states import State
from opcua_server.plant.alarms import Act
from opcua_server.plant.annunciator import CHATTERS, MOST, Annunciator

ANOMALY = "EN01.Stream01.Alarms.AnomalyDetected"


def found(level: str) -> Finding:
    return Finding(kind="AnomalyDetected", source="EN01.Stream01", time=1, level=level, text=f"anomaly {level}")


def acknowledgement(event_id: bytes) -> Act:
    return Act(name="Acknowledge", event_id=event_id, comment="seen", user="olga")


def nothing(_tx) -> None:
    """No audit entry."""


async def no_storage(_work) -> None:
    raise StorageError("disk full")


async def test_what_is_shown_was_recorded_first_with_the_act_of_the_person(site):
    made, shown = site
    made.annunciator.find(found("High"))
    await made.annunciator.turn()
    [event] = shown.events
    logged = []
    act = asyncio.create_task(made.annunciator.act(ANOMALY, acknowledgement(event.event_id), logged.append))
    await asyncio.sleep(0)
    assert await made.annunciator.turn()
    await act
    assert len(logged) == 1
    told = await made.submit(lambda tx: list(store.told(tx, 0, 2**63 - 1)))
    assert [t.event_id for t in told] == [e.event_id for e in shown.events]
    assert [(t.state, t.actor, t.comment) for t in told] == [
        (State.UNACKED.value, "", ""),
        (State.ACTIVE.value, "olga", "seen"),
    ]
    assert shown[f"{ANOMALY}.Acked"] is True
    assert ANOMALY in await made.submit(store.load)


async def test_an_act_that_is_refused_leaves_what_came_with_it(site):
    made, shown = site
    made.annunciator.find(found("High"))
    act = asyncio.create_task(made.annunciator.act(ANOMALY, acknowledgement(b"unknown"), nothing))
    await asyncio.sleep(0)
    await made.annunciator.turn()
    with pytest.raises(EventIdUnknown):
        await act
    assert len(shown.events) == 1


async def test_without_storage_an_act_is_refused_and_a_finding_waits(site):
    # A transition that is not on the disk is shown to nobody.
    made, shown = site
    annunciator, broken = made.annunciator, True

    async def refuse(work):
        if broken:
            raise StorageError("disk full")
        await made.submit(work)

    annunciator._submit = refuse
    annunciator.find(found("High"))
    annunciator.find(found(""))
    act = asyncio.create_task(annunciator.act(ANOMALY, Act(name="Silence", user="olga"), nothing))
    await asyncio.sleep(0)
    assert not await annunciator.turn()
    with pytest.raises(StorageError):
        await act
    assert shown.events == []
    assert list(annunciator.retained()) == []
    broken = False
    assert await annunciator.turn()
    assert [e.message for e in shown.events] == ["anomaly High", "anomaly "]
    assert not annunciator[ANOMALY].silenced.on


async def test_in_an_outage_of_any_length_the_newest_of_each_alarm_waits(site, monkeypatch):
    # F06: two hundred changes a second that cannot be recorded were a gigabyte in an hour.
    monkeypatch.setattr(annunciator, "WAITING", 10)
    made, shown = site
    waiting = Annunciator(made.alarms, no_storage, made.publisher, made.clock)
    for level in ("High", "") * 20:
        waiting.find(found(level))
        waiting.judge(Basis(kind="AnomalyDetected", source="EN01.Stream01", time=1, quality=0))
    waiting.find(found("HighHigh"))
    assert len(waiting._waiting) <= 10 + 2
    assert not await waiting.turn()
    waiting._submit = made.submit
    assert await waiting.turn()
    assert len(shown.events) <= 10
    assert shown.events[-1].message == "anomaly HighHigh"


async def test_who_acts_is_refused_without_storage_however_much_waits_before(site):
    # Else a person's call, behind the hundred findings of a turn, would hang for the whole of an outage.
    made, _ = site
    made.annunciator._submit = no_storage
    for _ in range(MOST):
        made.annunciator.find(found("High"))
    act = asyncio.create_task(made.annunciator.act(ANOMALY, Act(name="Silence", user="olga"), nothing))
    await asyncio.sleep(0)
    assert not await made.annunciator.turn()
    with pytest.raises(StorageError):
        await act


async def test_that_nothing_can_be_recorded_is_told_before_it_is_recorded_and_recorded_once(site):
    # Faults F04, F06, F08: the alarm of the storage would else come when it is over.
    made, shown = site
    annunciator, broken, node = made.annunciator, True, "ENose.Diagnostics.StorageFailure"

    async def refuse(work):
        if broken:
            raise StorageError("disk full")
        await made.submit(work)

    annunciator._submit = refuse
    annunciator.find(found("High"))
    for level in ("Active", "Lost"):
        told = Finding(kind="StorageFailure", source="ENose.Diagnostics", time=1, level=level, text=f"storage {level}")
        annunciator.find(told)
    assert [(e.message, e.severity) for e in shown.events] == [("storage Active", 700), ("storage Lost", 900)]
    assert shown[f"{node}.Active"] is True
    for _ in range(2):
        assert not await annunciator.turn()
    event_id = shown.events[-1].event_id
    answer = Act(name="Acknowledge", event_id=event_id, user="olga")
    act = asyncio.create_task(annunciator.act(node, answer, nothing))
    await asyncio.sleep(0)
    assert not await annunciator.turn()
    with pytest.raises(StorageError):  # what people do is recorded before it is shown, here too
        await act
    assert shown[f"{node}.Acked"] is False
    broken = False
    assert await annunciator.turn()
    recorded = await made.submit(lambda tx: [(t.event_id, t.message) for t in store.told(tx, 0, 2**63 - 1)])
    assert recorded == [(e.event_id, e.message) for e in shown.events]
    assert node in await made.submit(store.load)
    assert await annunciator.turn()
    assert len(await made.submit(lambda tx: list(store.told(tx, 0, 2**63 - 1)))) == 3


async def test_a_flood_is_told_whole_and_in_order(site):
    made, shown = site
    for i in range(1500):
        made.annunciator.find(found("High" if i % 2 == 0 else ""))
    while len(made.annunciator._waiting):
        await made.annunciator.turn()
    told = [e.fields for e in shown.events if e.fields["ClientUserId"].Value != "enose"]  # it is noted that it chatters
    states = [fields["ActiveState/Id"].Value for fields in told if fields["BranchId"].Value.is_null()]
    assert states == [True, False] * 750


async def test_it_wakes_for_a_finding_and_for_the_end_of_a_delay(site):
    made, shown = site
    running = asyncio.create_task(made.annunciator.run())
    now = made.clock.now()
    made.annunciator.find(Finding(kind="CommunicationLost", source="EN01", time=now, level="Active", text="lost"))
    try:
        while not shown.events:
            await asyncio.sleep(0.05)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert shown.events[0].message == "lost"


async def test_a_refresh_tells_the_branches_and_then_the_condition(site):
    # Part 9 5.5.7: a client is brought to the present state of everything with Retain.
    made, _ = site
    for level in ("High", "", "High"):
        made.annunciator.find(found(level))
    await made.annunciator.turn()
    assert [(n.branch.number, n.retain) for n in made.annunciator.retained()] == [(1, True), (0, True)]


async def test_what_the_plant_suppresses_is_shown_and_not_recorded_unless_it_is_active(site):
    # Each purge of each device would be a write to the disk otherwise.
    made, shown = site
    node = "EN01.Alarms.FlowLow"
    made.annunciator.inhibit("FlowLow", "EN01", True)
    await made.annunciator.turn()
    assert shown[f"{node}.SuppressedState.Id"] is True
    assert shown.events == []
    assert await made.submit(store.load) == {}


async def test_an_alarm_that_chatters_is_noted_once(site):
    # ISA-18.2 16.5.5.
    made, shown = site
    for _ in range(6):
        for level in ("High", ""):
            made.annunciator.find(found(level))
    while made.annunciator._waiting:
        await made.annunciator.turn()
    notes = [e for e in shown.events if e.fields["ClientUserId"].Value == "enose"]
    assert [n.fields["Comment"].Value.Text for n in notes] == [CHATTERS]
    assert made.annunciator.figures.metrics(made.annunciator.shown(), 10**18).count == 6


async def test_who_acts_while_the_service_stops_is_refused_and_does_not_wait_for_ever(site):
    made, _ = site
    entered = asyncio.Event()

    async def never(_work):
        entered.set()
        await asyncio.Event().wait()

    made.annunciator._submit = never
    running = asyncio.create_task(made.annunciator.run())
    made.annunciator.find(found("High"))
    acts = [asyncio.create_task(made.annunciator.act(ANOMALY, Act(name="Silence", user="olga"), nothing))]
    await entered.wait()
    acts.append(asyncio.create_task(made.annunciator.act(ANOMALY, Act(name="Silence", user="olga"), nothing)))
    await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    acts.append(asyncio.create_task(made.annunciator.act(ANOMALY, Act(name="Silence", user="olga"), nothing)))
    for act in acts:
        with pytest.raises(StorageError):
            await act
