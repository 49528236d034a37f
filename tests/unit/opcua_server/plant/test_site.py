import asyncio
from concurrent.futures import Future
from dataclasses import replace

import numpy as np
import pytest

from analytics.features import Features
from analytics.fingerprint import Judgement
from compliance import batches, exceptions, models, recommendations, results
from compliance.rows import change
from compliance.tables import product_model
from config.load import DEMO, load
from config.schema import Agents
from nodesets.errors import InvalidArgument, InvalidState, NotConfigured, NotFound, StorageError
from nodesets.methods import METHODS
from nodesets.model import Caller, Finding, Frame, Phase, Recommendation, Result, Role, Row, Verdict, Vote
from opcua_server.learning import learn
from opcua_server.plant import methods
from opcua_server.plant.events import string
from opcua_server.plant.space import nodes, space
from tests.unit.opcua_server.plant.conftest import site_of

OPERATOR = Caller(user="olga", roles=frozenset({Role.OPERATOR}))
LOTS = [f"EN01.Stream01=coffee_a@{n}" for n in range(10)] + [f"EN02.Stream01=coffee_qcm@{n}" for n in range(10)]


def row(device, plant, seconds: int) -> tuple[Frame, Row]:
    n = len(device.columns(plant.registers(device)))
    time = seconds * 10**9
    values = np.linspace(1, 2, n)
    frame = Frame(
        device=device.id,
        source_time=time,
        received_time=time,
        values=values,
        causes=np.zeros(n, np.uint8),
        phase=Phase.BASELINE,
        cycle=3,
    )
    full = np.concatenate([values, [1.0, 3.0]])
    return frame, Row(
        group=device.id, source_time=time, received_time=time, values=full, status=np.zeros(n + 2, np.uint32)
    )


def result(**changes) -> Result:
    given = {
        "result_id": "EN01.Stream01.1",
        "stream": "EN01.Stream01",
        "started": 10**18,
        "stopped": 10**18 + 10**10,
        "verdict": Verdict.NOT_OK,
        "reason": "too far",
        "score": 33.0,
        "uncertainty": 5.0,
        "anomaly": 0.8,
        "predicted_class": "unknown",
        "confidence": 0.9,
        "reference_count": 40,
        "false_alarm_rate": 0.05,
        "contributions": (("S01", 0.7), ("S02", 0.3)),
        "fingerprint": (0.1, 0.2),
        "model": "COFFEE-A/1",
        "model_digest": "00",
        "simulated": True,
    }
    return Result(**given | changes)


async def approve(site) -> None:
    """A model approved by a shortcut past the signature, which has tests of its own."""
    made = learn(site.plant, "COFFEE-A", LOTS, (), (), "")

    def work(tx):
        models.save_draft(tx, OPERATOR, 1, "COFFEE-A", made.to_bytes(), made.digest, {"streams": made.summary()})
        change(tx, product_model, "COFFEE-A/1", status=models.Status.APPROVED, approved_by="quinn", approved=1)

    await site.submit(work)
    await site.refresh_models()


async def test_every_variable_of_the_address_space_gets_a_value(site):
    # A node without a source is absent: one that nobody publishes would wait for its first value for ever.
    made, shown = site
    await made.refresh_all()
    await approve(made)
    for device in made.plant.devices:
        frame, recorded = row(device, made.plant, 10**9)
        made.publisher.show(frame, recorded, 1.0)
        made.publisher.nameplate(device.id, {"Vendor": "v", "Model": "m", "SerialNumber": "s", "Firmware": "f"})
        n = len(device.channels)
        cycle = Features(
            channels=tuple(c.id for c in device.channels),
            names=(),
            values=np.zeros(2 * n),
            baseline=np.ones(n),
            level=np.zeros(n),
            drift=np.zeros(n),
            normalized=np.ones(n),
            reasons=("",) * n,
            defect="",
        )
        made.publisher.cycle(f"{device.id}.Stream01", cycle, 0.25)
        for number in range(20):
            made.publisher.ring(result(stream=f"{device.id}.Stream01", result_id=str(number)))
        made.publisher.result(
            result(stream=f"{device.id}.Stream01"), Judgement(verdict=Verdict.NOT_OK, reason="r", ratio=2.0)
        )
    made.publisher.write("L01.Batch", {"LastCallResult": string("x")}, 1)
    await made.check_log()
    constants = {
        node
        for node, instance, member in nodes(space(made.plant).instances)
        if member.value is not None or member.path in instance.values
    }
    by_time = ("ENose.Diagnostics.", "ENose.Compliance.", "ENose.AlarmMetrics.")
    of_diagnostics = {n for n in shown.types if n.startswith(by_time)}
    # What is noted of a value has a history alone; when the history begins is shown by the service as a whole.
    of_history = {n for n in shown.types if n.endswith((".Annotations", ".HA.StartOfArchive"))}
    assert set(shown.types) - set(shown.values) - constants - of_diagnostics - of_history == set()


async def test_older_results_become_values_when_somebody_looks(site, monkeypatch):
    # F26: two thousand of a hundred devices, which nearly nobody reads, are 16 MB as values.
    made, shown = site
    kept = []
    monkeypatch.setattr(shown, "write_instance", lambda instance, *_: kept.append(instance))
    for _ in range(21):
        made.publisher.ring(result(stream="EN01.Stream01"))
    assert kept == [f"EN01.Stream01.Results.R{i % 20 + 1:02}" for i in range(21)]
    assert not any(node.startswith("EN01.Stream01.Results.R") for node in shown.values)


def test_every_method_has_a_handler_and_no_handler_is_left_over():
    assert set(methods.HANDLERS) == set(METHODS)


async def test_a_batch_without_an_approved_model_is_refused(site):
    # Process rule 5.
    made, _ = site
    await made.refresh_all()
    with pytest.raises(NotConfigured):
        await methods.create_batch(made, OPERATOR, "L01", "B1", "COFFEE-A", "", "", 1.0)


async def test_a_batch_is_shown_and_each_change_of_state_is_an_event(site):
    made, shown = site
    await made.refresh_all()
    await approve(made)
    assert await methods.create_batch(made, OPERATOR, "L01", "B1", "COFFEE-A", "R", "LOT7", 5.0) == ("B1",)
    assert (shown["L01.Batch.BatchId"], shown["L01.Batch.LotId"]) == ("B1", "LOT7")
    assert shown["EN01.Stream01.Context.LotId"] == "LOT7"
    await methods.start_batch(made, OPERATOR, "L01", "B1")
    assert shown["L01.Batch.ExecutionStateNumber"] == 1
    assert shown["L01.Batch.ExecutionState.CurrentState"].Text == "Running"
    [started] = [e for e in shown.events if e.fields.get("NewState")]
    assert (started.fields["OldState"].Value, started.fields["NewState"].Value) == ("Idle", "Running")
    assert "olga" in started.message


async def test_a_batch_is_reached_only_through_its_own_line(site):
    made, _ = site
    await made.refresh_all()
    await approve(made)
    await methods.create_batch(made, OPERATOR, "L01", "B1", "COFFEE-A", "", "", 1.0)
    with pytest.raises(NotFound):
        await methods.start_batch(made, OPERATOR, "L02", "B1")


async def test_a_device_that_falls_silent_opens_an_exception_in_the_running_batch(site):
    # Process rule 9: exceptions come from findings, whatever became of the alarm.
    made, shown = site
    await made.refresh_all()
    await approve(made)
    made.publisher.on_finding = made.found
    await methods.create_batch(made, OPERATOR, "L01", "B1", "COFFEE-A", "", "", 1.0)
    await methods.start_batch(made, OPERATOR, "L01", "B1")
    lost = Finding(kind="CommunicationLost", source="EN01", time=10**18, level="Active", text="EN01: silent")
    made.publisher.find(lost)
    while made._jobs:
        await asyncio.sleep(0.01)
    assert shown["L01.Batch.OpenExceptionCount"] == 1
    assert shown["L01.Batch.Exceptions.X01.Kind"] == "CommunicationLost"


async def test_a_device_that_is_silent_before_the_batch_starts_bars_its_release(site):
    # Fault F10: the gap is in the batch whichever came first, and QA has to accept it, whatever the alarm's severity.
    made, shown = site
    await made.refresh_all()
    await approve(made)
    made.publisher.on_finding = made.found
    for device in ("EN01", "EN02"):
        made.publisher.find(
            Finding(kind="CommunicationLost", source=device, time=10**18, level="Active", text="silent")
        )
    made.publisher.find(Finding(kind="CommunicationLost", source="EN02", time=10**18, level="", text="again"))
    await methods.create_batch(made, OPERATOR, "L01", "B1", "COFFEE-A", "", "", 1.0)
    await methods.start_batch(made, OPERATOR, "L01", "B1")
    while made._jobs:
        await asyncio.sleep(0.01)
    assert shown["L01.Batch.CriticalExceptionCount"] == 1


def refuse_once(made, monkeypatch) -> None:
    """The next piece of work finds the disk full, the one after it does not."""
    submit = made.writer.submit

    def full(_work, **_):
        monkeypatch.setattr(made.writer, "submit", submit)
        refused = Future()
        refused.set_exception(StorageError("database or disk is full"))
        return refused

    monkeypatch.setattr(made.writer, "submit", full)


def refuse_reading(made, monkeypatch, times: int) -> None:
    """The database cannot be read so many times."""
    read, left = made.reader.read, [times]

    async def refused(query):
        if left[0] == 0:
            return await read(query)
        left[0] -= 1
        raise StorageError("disk I/O error")

    monkeypatch.setattr(made.reader, "read", refused)


async def test_an_exception_waits_for_the_disk(site, monkeypatch):
    # Fault F04: a finding comes once; a batch must not be released as if it had not been.
    made, shown = site
    await made.refresh_all()
    await approve(made)
    made.publisher.on_finding = made.found
    await methods.create_batch(made, OPERATOR, "L01", "B1", "COFFEE-A", "", "", 1.0)
    await methods.start_batch(made, OPERATOR, "L01", "B1")
    monkeypatch.setattr("opcua_server.plant.site.RETRY_SECONDS", 0.0)
    refuse_once(made, monkeypatch)
    made.publisher.find(
        Finding(kind="CommunicationLost", source="EN01", time=10**18, level="Active", text="EN01: silent")
    )
    while made._jobs:
        await asyncio.sleep(0.01)
    assert shown["L01.Batch.OpenExceptionCount"] == 1


async def test_a_recorded_result_is_given_on_although_its_line_cannot_be_shown(site, monkeypatch):
    # Its alarms follow from it.
    made, _ = site
    await made.refresh_all()
    while made._jobs:
        await asyncio.sleep(0.01)
    recorded = made.record_result(result(verdict=Verdict.OK))
    refuse_reading(made, monkeypatch, times=10**9)
    assert (await recorded).result_id == "EN01.Stream01.1"


async def test_a_result_that_is_not_ok_is_recorded_and_brings_advice(site):
    made, shown = site
    await made.refresh_all()
    stored = await made.record_result(result())
    assert stored.result_id == "EN01.Stream01.1"
    while made._jobs:
        await asyncio.sleep(0.01)
    assert shown["ENose.Agents.ActiveCount"] == 1
    assert "NotOK" in shown["ENose.Agents.R01.Text"]
    history = await made.reader.read_raw("EN01.Stream01.Quality.Score", None, None, 10)
    assert history.values.tolist() == [33.0]


async def test_context_is_set_but_never_the_identity_of_the_material(site):
    # Process rule 10.
    made, shown = site
    await made.refresh_all()
    await methods.set_context(made, OPERATOR, "EN01", "Stream01", "Operation", "Roasting")
    assert shown["EN01.Stream01.Context.Operation"] == "Roasting"
    with pytest.raises(InvalidState):
        await methods.set_context(made, OPERATOR, "EN01", "Stream01", "BatchId", "B9")
    with pytest.raises(NotFound):
        await methods.set_context(made, OPERATOR, "EN01", "Stream01", "Colour", "red")
    with pytest.raises(NotFound):
        await methods.set_context(made, OPERATOR, "EN01", "Stream09", "Operation", "x")


async def test_a_recommendation_is_decided_once_with_a_reason(site):
    made, shown = site
    now = made.clock.now()
    advice = Recommendation(
        recommendation_id="R-1",
        agent="orchestrator",
        subject="B1",
        text="may be released",
        rationale="why",
        confidence=0.9,
        priority=200,
        created=now,
        expires=now + 10**12,
        evidence=(("samples", "3"),),
        votes=(Vote(agent="quality", answer="approve", confidence=0.9, reason="r"),),
    )
    await made.publish_advice(advice)
    assert shown["ENose.Agents.R01.State"] == recommendations.State.PROPOSED
    accept = methods.HANDLERS["Agents.AcceptRecommendation"]
    with pytest.raises(InvalidArgument):  # agents.md L15: a reason of one's own
        await accept(made, OPERATOR, "", "R-1", " ")
    assert await accept(made, OPERATOR, "", "R-1", "agreed") == (2,)
    assert shown["ENose.Agents.R01.DecidedBy"] == "olga"
    with pytest.raises(InvalidState):
        await accept(made, OPERATOR, "", "R-1", "again")
    await made.publish_advice(replace(advice, recommendation_id="R-2"))
    await made.publish_advice(replace(advice, recommendation_id="R-3"))
    states = await made.submit(lambda tx: [a.state.name for a in recommendations.newest(tx, now)])
    assert states[0] == "PROPOSED"  # an open one comes first
    assert sorted(states[1:]) == ["ACCEPTED", "SUPERSEDED"]


async def test_a_dialog_keeps_its_slot_and_asks_until_somebody_decided(tmp_path):
    # Part 9 5.6: who responds answers to what the slot showed, so that stays in it while newer advice comes.
    plant = load(DEMO)
    asking = plant.model_copy(update={"agents": Agents(dialogs=True)})
    async with site_of(asking, tmp_path) as (made, shown):
        now = made.clock.now()
        first = Recommendation(
            recommendation_id="R-1",
            agent="orchestrator",
            subject="B1",
            text="B1 may be released",
            rationale="why",
            confidence=0.9,
            priority=200,
            created=now,
            expires=now + 10**12,
        )
        await made.publish_advice(first)
        await made.publish_advice(replace(first, recommendation_id="R-2", subject="B2", created=now + 1))
        await made.annunciator.turn()
        assert [shown[f"ENose.Agents.R{i:02}.RecommendationId"] for i in (1, 2, 3)] == ["R-1", "R-2", ""]
        asks = [shown.values.get(f"ENose.Agents.R{i:02}.Decision.DialogState.Id", (False, 0))[0] for i in (1, 2, 3)]
        assert asks == [True, True, False]
        assert made._asked()[:3] == ["R-1", "R-2", ""]  # as the next start finds them
        await methods.HANDLERS["Agents.AcceptRecommendation"](made, OPERATOR, "", "R-1", "agreed")
        await made.annunciator.turn()
        assert shown["ENose.Agents.R01.Decision.DialogState.Id"] is False
        assert shown["ENose.Agents.R01.Decision.LastResponse"] == 0
        assert made._asked()[:2] == ["", "R-2"]


async def test_a_number_that_is_not_known_is_null_and_bad_never_an_old_one(site):
    made, shown = site
    made.publisher.number("EN01.Stream01.Quality.Score", 80.0, 1)
    made.publisher.number("EN01.Stream01.Quality.Score", float("nan"), 2)
    assert shown.values["EN01.Stream01.Quality.Score"] == (None, 0x809B0000)


async def test_what_was_not_recorded_leaves_no_value_shown_as_good(site):
    # Fault F04: a tag that keeps its last value while the disk is full would be stale, and say that it is Good.
    made, shown = site
    device = made.plant.devices[0]
    frame, recorded = row(device, made.plant, 10**9)
    made.publisher.show(frame, recorded, 1.0)
    before = dict(shown.values)
    made.publisher.lost(row(device, made.plant, 10**9 + 1)[1])
    assert {shown.values[node] for node in before} == {(None, 0x809D0000)}
    made.publisher.show(*row(device, made.plant, 10**9 + 2), 1.0)
    assert {status for _, status in shown.values.values()} == {0}


async def test_the_gap_of_an_interrupted_batch_begins_with_the_last_recorded_frame(site):
    made, _ = site
    await made.refresh_all()
    await approve(made)
    await methods.create_batch(made, OPERATOR, "L01", "B1", "COFFEE-A", "", "", 1.0)
    await methods.start_batch(made, OPERATOR, "L01", "B1")
    _, recorded = row(made.plant.devices[0], made.plant, 4 * 10**9)
    await asyncio.wrap_future(made.recorder.append([recorded]))
    [opened] = await made.submit(lambda tx: exceptions.interrupted(tx, OPERATOR, 4 * 10**18 + 60 * 10**9))
    assert opened.text.endswith("from 2096-10-02T07:06:40.000000000Z to 2096-10-02T07:07:40.000000000Z")


async def test_a_result_given_again_after_a_refusal_is_recorded_once(site, monkeypatch):
    # The record was taken and its numbers were not: only these are still to be recorded.
    made, _ = site
    await made.refresh_all()
    append = made.recorder.append

    def full(_rows):
        monkeypatch.setattr(made.recorder, "append", append)
        refused = Future()
        refused.set_exception(StorageError("database or disk is full"))
        return refused

    monkeypatch.setattr(made.recorder, "append", full)
    with pytest.raises(StorageError):
        await made.record_result(result(verdict=Verdict.OK))
    stored = await made.record_result(result(verdict=Verdict.OK))
    assert await made.submit(lambda tx: results.of_stream(tx, "EN01.Stream01")) == (stored,)
    history = await made.reader.read_raw("EN01.Stream01.Quality.Score", None, None, 10)
    assert history.values.tolist() == [33.0]


async def test_showing_does_not_take_the_writer_s_time(site, monkeypatch):
    # The digests of ten records at each result would be seconds in which no frame is recorded.
    made, shown = site
    await made.refresh_all()
    await approve(made)
    await methods.create_batch(made, OPERATOR, "L01", "B1", "COFFEE-A", "", "", 1.0)
    await asyncio.gather(*made._jobs)

    def busy(*_, **__):
        raise AssertionError("asked the writer")

    monkeypatch.setattr(made.writer, "submit", busy)
    await made.refresh_all()
    summary = await methods.get_batch_summary(made, OPERATOR, "L01", "B1")
    assert '"batch_id": "B1"' in summary[0]
    assert shown["L01.Batch.BatchId"] == "B1"


async def test_a_change_of_state_names_who_made_it_whoever_shows_it_first(site):
    # The refresh that follows a result may come between a user's commit and the answer to him.
    made, shown = site
    await made.refresh_all()
    await approve(made)
    await methods.create_batch(made, OPERATOR, "L01", "B1", "COFFEE-A", "", "", 1.0)
    await made.submit(lambda tx: batches.start(tx, OPERATOR, made.clock.now(), "B1", made.pins))
    await made.record_result(result(verdict=Verdict.OK))
    await asyncio.gather(*made._jobs)
    [started] = [e for e in shown.events if e.fields.get("NewState")]
    assert started.fields["ClientUserId"].Value == "olga"


async def test_the_texts_of_batch_and_verdict_have_a_history(site):
    made, shown = site
    await made.refresh_all()
    await approve(made)
    await methods.create_batch(made, OPERATOR, "L01", "B1", "COFFEE-A", "", "", 1.0)
    await made.refresh_line("L01")  # once more, of which nothing new is recorded
    await made.record_result(result(verdict=Verdict.OK, predicted_class="coffee"))
    await asyncio.gather(*made._jobs)

    async def recorded(node: str) -> list[str]:
        return (await made.reader.read_raw(node, 0, None, 10)).values.tolist()

    assert await recorded("L01.Batch.BatchId") == ["", "B1"]
    assert (await recorded("L01.Batch.StateText"))[-1] == shown["L01.Batch.StateText"]
    assert await recorded("EN01.Stream01.Quality.VerdictText") == ["OK"]
    assert await recorded("EN01.Stream01.Quality.PredictedClass") == ["coffee"]


async def test_an_event_of_a_result_without_a_score_carries_null(site):
    # NaN would pass for a number in a client's filter or trend.
    made, shown = site
    undecided = result(verdict=Verdict.NOT_DECIDABLE, score=float("nan"))
    made.publisher.result(undecided, Judgement(verdict=Verdict.NOT_DECIDABLE, reason="r"))
    assert shown.events[0].fields["Score"].Value is None


async def test_nothing_is_released_while_recordings_wait_in_the_spool(site, monkeypatch):
    # F06: whoever releases would decide on a history with a hole in it.
    made, _ = site
    monkeypatch.setattr(type(made.recorder), "backlog", 5)
    with pytest.raises(StorageError, match="5 recordings"):
        await made.submit(lambda tx: None, alone=True)
    await made.submit(lambda tx: None)
