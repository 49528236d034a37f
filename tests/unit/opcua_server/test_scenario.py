import pytest

from analytics.registry import ProductModel
from config.load import DEMO, load
from nodesets.errors import IntegrityError
from nodesets.model import Quality, Verdict
from opcua_server.learning import learn
from opcua_server.scenario import run
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
