import os
from pathlib import Path

import pytest

from analytics.registry import ProductModel
from config.load import DEMO, load
from config.schema import Agents, Alarm, ChannelLimits, Redundant
from nodesets.errors import IntegrityError
from nodesets.model import Finding, Quality, Verdict
from opcua_server.learning import learn
from opcua_server.plant.alarms import ALARMS, SITE_SOURCES, Act
from opcua_server.scenario import Step, alarms, run
from tests.unit.opcua_server.test_pipeline import Shown


def plant(scenario: str):
    demo = load(DEMO)
    device = demo.device("EN01").model_copy(update={"driver": "simulator", "scenario": scenario})
    return demo.model_copy(update={"devices": (device,), "lines": ()})


def model(scenario: str) -> ProductModel:
    """Learned from ten lots of the scenario without its events, on the same device."""
    lots = [f"EN01.Stream01={scenario}@{lot}" for lot in range(10)]
    return learn(plant(scenario), "COFFEE-A", lots, (), (), "")


def use(product: ProductModel):
    fingerprint = product.fingerprints["EN01.Stream01"]
    return lambda pipeline: pipeline.use("EN01.Stream01", fingerprint, "COFFEE-A/1", product.digest, (fingerprint,))


async def test_everything_scripted_is_found_and_over_again():
    # The bad day: contamination, off-spec product, heater failure, stuck channel, flow and link loss.
    shown = Shown()
    counters = await run(plant("bad_day"), 400, shown, prepare=use(model("bad_day")))
    kinds = {(f.kind, bool(f.level)) for f in shown.findings}
    assert {("CommunicationLost", True), ("CommunicationLost", False)} <= kinds
    assert {("SensorFailure", True), ("SensorFailure", False)} <= kinds
    assert {("AnomalyDetected", True), ("AnomalyDetected", False)} <= kinds
    assert counters.received == counters.recorded + counters.repeated == 401
    verdicts = [r.verdict for r in shown.results]
    assert verdicts[0] is Verdict.OK
    assert Verdict.NOT_OK in verdicts
    # Process rule 3: without flow, and with a heater gone, the product is not blamed.
    reasons = {r.reason for r in shown.results if r.verdict is Verdict.NOT_DECIDABLE}
    assert {"flow too low", "a heater failed"} <= reasons
    assert all(r.simulated for r in shown.results)


async def test_the_same_scenario_gives_the_same_run():
    runs = []
    for _ in range(2):
        shown = Shown()
        await run(plant("bad_day"), 100, shown)
        runs.append([(r.source_time, r.values.tobytes(), r.status.tobytes()) for r in shown.rows])
    assert runs[0] == runs[1]
    assert len(runs[0]) == 101


async def test_good_product_stays_good_for_an_hour_and_its_values_are_good():
    shown = Shown()
    await run(plant("coffee_a"), 3600, shown, prepare=use(model("coffee_a")))
    verdicts = [r.verdict for r in shown.results]
    assert len(verdicts) == 180
    assert verdicts.count(Verdict.NOT_DECIDABLE) == 0
    # Each tenth of the good cycles may be called NotOK at alpha 0.05: the lots differ, and ten of them are few.
    assert verdicts.count(Verdict.NOT_OK) <= 0.15 * len(verdicts)
    assert {int(s) for row in shown.rows for s in row.status} == {Quality.GOOD}


def test_a_model_is_the_same_bytes_whoever_learns_it_and_refuses_a_changed_one():
    first, again = model("coffee_a"), model("coffee_a")
    assert first.to_bytes() == again.to_bytes()
    assert ProductModel.from_bytes(first.to_bytes(), first.digest).digest == first.digest
    changed = first.to_bytes().replace(b"COFFEE-A", b"COFFEE-B", 1)
    with pytest.raises(IntegrityError):
        ProductModel.from_bytes(changed, first.digest)


# -- alarms


GOLDEN = Path(__file__).parents[2] / "golden" / "alarm_run.txt"
ANOMALY, SCORE = "EN01.Stream01.Alarms.AnomalyDetected", "EN01.Stream01.Alarms.QualityScoreLow"
LOST, FLOW = "EN01.Alarms.CommunicationLost", "EN01.Alarms.FlowLow"
SENSOR, LEVEL = "EN01.Alarms.SensorFailure", "EN01.Array.S01.LevelAlarm"
BROKEN = f"{SITE_SOURCES['site']}.AuditChainBroken"


def act(at, node, name, comment="", **further):
    return Step(at, Act(name=name, comment=comment, user="olga", **further), node)


def finding(at, kind, source, level):
    return Step(at, Finding(kind=kind, source=source, time=0, level=level, text=kind))


SCRIPT = (
    finding(5, "BatchExceptionOpen", "L01", "Active"),
    finding(6, "ReleaseOverdue", "L01", "Active"),
    finding(7, "AuditChainBroken", SITE_SOURCES["site"], "Active"),
    finding(7, "StorageFailure", SITE_SOURCES["storage"], "Active"),
    finding(8, "StorageFailure", SITE_SOURCES["storage"], "Lost"),
    finding(9, "StorageFailure", SITE_SOURCES["storage"], ""),
    finding(8, "CertificateExpiring", SITE_SOURCES["security"], "Active"),
    finding(9, "DeviceCheckFunction", "EN01", "Active"),
    finding(14, "DeviceCheckFunction", "EN01", ""),
    act(10, "L01.BatchExceptionOpen", "Acknowledge"),
    finding(15, "BatchExceptionOpen", "L01", ""),
    act(16, BROKEN, "Suppress", "not now"),
    act(17, BROKEN, "Acknowledge", "looked into"),
    finding(18, "AuditChainBroken", SITE_SOURCES["site"], ""),
    act(19, BROKEN, "Reset", "copy kept"),
    act(20, LEVEL, "TimedShelve", "reference air", seconds=30.0),
    finding(61, "Decision", "ENose.Agents.R01", "Active"),
    act(62, "ENose.Agents.R01.Decision", "Respond", "agreed", response=0),
    finding(62, "SensorDrift", "EN01", "High"),
    finding(63, "SensorDrift", "EN01", ""),
    act(70, ANOMALY, "Acknowledge"),
    act(75, ANOMALY, "Acknowledge", "cleaning agent"),
    act(140, SCORE, "Acknowledge", "scorched"),
    act(141, SCORE, "Confirm", "scorched"),
    act(150, SCORE, "AddComment", "roaster adjusted"),
    act(160, ANOMALY, "TimedShelve", seconds=60.0),
    act(161, ANOMALY, "TimedShelve", "known", seconds=60.0),
    act(220, "EN01.Alarms.HeaterFailure", "Acknowledge", "ordered"),
    act(221, "EN01.Alarms.HeaterFailure", "Disable"),
    act(240, "EN01.Alarms.HeaterFailure", "Enable"),
    act(265, SENSOR, "Silence"),
    act(270, SENSOR, "RemoveFromService", "to be replaced"),
    act(300, SENSOR, "PlaceInService"),
    act(325, FLOW, "OneShotShelve", "pump is changed"),
    act(326, FLOW, "OneShotShelve"),
    act(380, LOST, "Acknowledge", "cable"),
)


def alarmed_plant():
    """Every kind enabled, a channel with limits."""
    made = plant("bad_day")
    [device] = made.devices
    environment = tuple(
        e.model_copy(update={"range": (100, 1000)}) if "Flow" in e.quantity else e for e in device.environment
    )
    pair = Redundant(channels=("S05", "S06"), tolerance=0.3)
    device = device.model_copy(update={"environment": environment, "redundant": (pair,)})
    made = made.model_copy(update={"devices": (device,), "agents": Agents(dialogs=True)})
    own = {kind: Alarm(enabled=True) for kind in ALARMS}
    limits = {"EN01.Array.S01": ChannelLimits(high=200.5, deadband=20)}
    own["LevelAlarm"] = Alarm(limits=limits)
    own["QualityScoreLow"] = Alarm(confirm=True)
    own["ReleaseOverdue"] = Alarm(on_delay=60)
    return made.model_copy(update={"alarms": own, "lines": load(DEMO).lines})


async def test_a_scripted_run_raises_every_alarm_and_replays_exactly():
    # Issue: the trace is a golden file; a change of it is a change of what operators see. Anew: ENOSE_GOLDEN=write
    prepare = use(model("bad_day"))
    trace = await alarms(alarmed_plant(), 400, SCRIPT, prepare=prepare)
    assert await alarms(alarmed_plant(), 400, SCRIPT, prepare=prepare) == trace
    for kind, alarm in ALARMS.items():
        name = alarm.path.format(kind=kind).rpartition(".")[2]
        assert any(f".{name}: " in line for line in trace), kind
    if os.environ.get("ENOSE_GOLDEN") == "write":
        GOLDEN.write_text("\n".join([*trace, ""]))
    assert GOLDEN.read_text().splitlines() == trace
