"""Real odours through validation, cycles, features and fingerprint, as the pipeline joins them."""

import csv
from collections.abc import Sequence

import numpy as np
import pytest

from analytics.cycles import CycleAssembler
from analytics.features import Features, extract, kind
from analytics.fingerprint import UNKNOWN, identify
from analytics.learning import learn
from analytics.validation import Validator
from config.schema import Column, Point
from nodesets.model import Cause, Frame, Phase, Tag, Verdict
from tests import recordings
from tests.recordings import ABSENT, DATA, ENVIRONMENT, HEADER, INVALID

SECOND = 1_000_000_000
CHANNELS = [name for name in HEADER if name not in ENVIRONMENT]
PHASES = [Phase.BASELINE] * 5 + [Phase.EXPOSURE] * 10 + [Phase.PURGE] * 5
PRODUCT, OTHERS = "nutmeg", ("ginger", "hazelnut")
EACH = 20


def serve(rows: np.ndarray) -> list[Features]:
    """Features of the cycles in a recording, by the way a served frame takes."""
    columns = [
        Column(
            tag=Tag(node=f"EN01.Array.{name}.SensorValue", unit="B49", low=-1e3, high=1e5, description=name),
            point=Point(address=100 + 2 * i, invalid=(INVALID,)),
            max_rate=None,
            stuck_after=None,
        )
        for i, name in enumerate(CHANNELS)
    ]
    kinds = [kind(name, "MOS") for name in CHANNELS]
    validator, assembler = Validator(columns), CycleAssembler(period=1.0, baseline=5.0, exposure=10.0)
    found = []
    for i, row in enumerate(rows[:, [HEADER.index(name) for name in CHANNELS]]):
        frame = Frame(
            device="EN01",
            source_time=i * SECOND,
            received_time=i * SECOND,
            values=row.astype(np.float32).astype(np.float64),
            causes=np.where(row == INVALID, Cause.SENTINEL, Cause.NONE).astype(np.uint8),
        )
        seen = validator.validate(frame)
        cycle = assembler.add(seen.time, seen.values, seen.status, PHASES[i % 20], i // 20)
        if cycle:
            found.append(extract(cycle, kinds))
    return found


def cycles_of(odour: str, lots: Sequence[int]) -> tuple[list[Features], list[str]]:
    rows, laid = recordings.cycles([(odour, lot) for lot in lots], EACH)
    return serve(rows), [cycle.lot for cycle in laid]


@pytest.fixture(scope="module")
def model():
    return learn(PRODUCT, *cycles_of(PRODUCT, range(5)))


def test_a_channel_that_is_invalid_in_real_recordings_is_left_out_of_the_model(model):
    # Analytics, trap 3: Benzene holds 4294967295.
    assert "Benzene" not in model.channels
    assert len(model.channels) >= 6


def test_a_lot_that_was_not_learned_is_mostly_ok(model):
    found = [model.judge(f) for f in cycles_of(PRODUCT, [5])[0]]
    assert [j.verdict for j in found].count(Verdict.NOT_DECIDABLE) == 0
    assert np.mean([j.verdict is Verdict.OK for j in found]) >= 0.8


@pytest.mark.parametrize("odour", OTHERS)
def test_another_odour_is_not_ok(model, odour):
    found = [model.judge(f) for f in cycles_of(odour, range(6))[0]]
    assert np.mean([j.verdict is Verdict.NOT_OK for j in found]) >= 0.99


@pytest.mark.skipif(not DATA.is_dir(), reason=ABSENT)
def test_the_realised_false_alarm_rate_of_the_real_product_agrees_with_alpha(model):
    # 6 of 100 held-out cycles of five lots at alpha 0.05.
    low, high = model.false_alarm_interval
    assert low <= model.alpha <= high


@pytest.mark.skipif(not DATA.is_dir(), reason=ABSENT)
def test_five_lots_do_not_promise_one_false_alarm_in_twenty():
    # Lots, not cycles, are independent: of six lots one is the farthest, and when it is the one held out, all its
    # cycles may be beyond. What was realised is stated beside the limit; for this odour it is four times alpha.
    ginger = learn("ginger", *cycles_of("ginger", range(5)))
    assert ginger.false_alarm_rate == pytest.approx(0.2, abs=0.05)
    assert ginger.false_alarm_interval[0] > ginger.alpha


def test_odours_are_told_apart_and_a_strange_one_is_unknown(model):
    known = [model, learn("hazelnut", *cycles_of("hazelnut", range(5)))]
    for odour, expected in ((PRODUCT, PRODUCT), ("hazelnut", "hazelnut"), ("ginger", UNKNOWN)):
        names = [identify(f, known)[0] for f in cycles_of(odour, [5])[0]]
        assert names.count(expected) >= 0.8 * len(names)


def test_a_recording_has_its_odours_between_air_and_its_environment_throughout(tmp_path):
    path = tmp_path / "odours.csv"
    laid = recordings.cycles_recording(path, [PRODUCT, "hazelnut"], 3)
    rows = recordings.read(path)
    assert rows.shape == (6 * 20, 12)
    assert [(c.odour, c.first_row) for c in laid] == [(PRODUCT, i) for i in (0, 20, 40)] + [
        ("hazelnut", i) for i in (60, 80, 100)
    ]
    with path.open() as file:
        assert tuple(next(csv.reader(file))) == HEADER
    no2 = rows[:, 0].reshape(6, 20)
    assert no2[:3, 5:15].min() > 1.2 * no2[:3, :5].max()  # nutmeg is strong, air is not
    temperature = rows[:, HEADER.index("Temperature")]
    assert np.ptp(temperature) < 2


def test_a_generated_recording_is_the_same_every_time():
    assert (recordings.generated("nutmeg", 0) == recordings.generated("nutmeg", 0)).all()
    assert (recordings.generated("nutmeg", 0)[:, 6] == INVALID).all()


@pytest.mark.skipif(not DATA.is_dir(), reason=ABSENT)
def test_the_real_recordings_hold_what_their_readme_says():
    training = recordings.smellnet("offline_training", ["nutmeg"])
    assert training is not None
    assert len(training["nutmeg"]) == 5
    nuts = ["almond", "brazil_nut", "cashew", "chestnuts", "hazelnut", "peanuts", "pecans", "pili_nut", "pistachios"]
    online = recordings.smellnet("online_nuts", [*nuts, "walnuts"])
    assert online is not None
    rows = np.concatenate([recording for lots in online.values() for recording in lots])
    assert len(rows) == 6275
    missing = np.isnan(rows).sum(axis=1)
    assert sorted(missing[missing > 0]) == [4, 6, 11, 11, 11]  # trap 3: three of one value, two cut short and shifted
    beef = recordings.beef(1)
    assert beef is not None
    assert beef.shape == (2160, 13)
