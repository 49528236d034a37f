"""Properties of validation, cycles, features and fingerprints, for whatever a device may send."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from analytics.cycles import CycleAssembler
from analytics.features import extract, kind
from analytics.fingerprint import Fingerprint, score, wilson
from analytics.learning import learn
from analytics.validation import Validator
from config.schema import Column, Point
from nodesets.model import Cause, Frame, Phase, Quality, Tag, Verdict
from tests.unit.analytics.good_cycles import RESPONSE, features, good

SECOND = 1_000_000_000
COLUMNS = [
    Column(
        tag=Tag(node=f"EN01.Array.S0{i}.SensorValue", unit="B49", low=0.0, high=500.0, description=""),
        point=Point(address=100 + 2 * i),
        max_rate=50.0,
        stuck_after=5.0,
    )
    for i in range(3)
]
MODEL: Fingerprint = learn("P", *good())


@st.composite
def frames(draw):
    values = draw(hnp.arrays(np.float64, 3, elements=st.floats(-1e3, 1e3) | st.just(np.nan) | st.just(np.inf)))
    causes = draw(hnp.arrays(np.uint8, 3, elements=st.sampled_from([int(c) for c in Cause])))
    time = draw(st.integers(-100, 100)) * SECOND
    return Frame(device="EN01", source_time=time, received_time=time, values=values, causes=causes)


@given(st.lists(frames(), min_size=1, max_size=20))
def test_a_value_is_null_exactly_when_it_is_bad(polls):
    # Never a Good null, never a Bad number (information model: SCADA point 6).
    validator = Validator(COLUMNS)
    for frame in polls:
        seen = validator.validate(frame)
        bad = seen.status >= 0x80000000
        assert (np.isnan(seen.values) == bad).all()
        assert np.isfinite(seen.values[~bad]).all()
        assert {int(s) for s in seen.status} <= {int(q) for q in Quality}
        assert 0 <= seen.data_quality <= 1


@given(st.lists(frames(), max_size=20))
def test_whatever_came_before_a_device_that_is_well_again_is_good_again(polls):
    # "Back to Good by itself": no state is a trap. Ten seconds of moving values inside range and rate.
    validator = Validator(COLUMNS)
    for frame in polls:
        validator.validate(frame)
    for i in range(1, 11):
        time = (200 + i) * SECOND
        seen = validator.validate(
            Frame(
                device="EN01",
                source_time=time,
                received_time=time,
                values=np.full(3, 100.0 + i),
                causes=np.zeros(3, np.uint8),
            )
        )
    assert set(seen.status) == {Quality.GOOD}
    assert not seen.failed.any()


rows = st.tuples(
    st.integers(-2, 3),  # step of time in seconds
    st.sampled_from(list(Phase)),
    st.integers(0, 2),
    st.sampled_from([Quality.GOOD, Quality.BAD_NO_COMMUNICATION, Quality.UNCERTAIN_SUBNORMAL]),
    st.floats(-10, 1e6) | st.just(np.nan),
)


@given(st.lists(rows, max_size=80))
def test_any_sequence_of_rows_gives_cycles_that_are_whole_or_say_why_not(sequence):
    # Process rule 1: an incomplete cycle is NotDecidable, so nothing may pass for complete that is not.
    assembler = CycleAssembler(period=1.0, baseline=3.0, exposure=3.0)
    time = 0
    for step, phase, counter, quality, value in sequence:
        time += step * SECOND
        cycle = assembler.add(time, np.array([value]), np.array([quality], np.uint32), phase, counter)
        if cycle is None:
            continue
        f = extract(cycle, [kind("S01", "MOS")])
        assert np.isfinite(f.values).all() == f.usable.all()
        if not cycle.defect:
            assert (np.diff(cycle.times) > 0).all()
            assert np.count_nonzero(cycle.phases == Phase.EXPOSURE) >= 1
            assert np.count_nonzero(cycle.phases == Phase.BASELINE) >= 1


@given(hnp.arrays(np.float64, 4, elements=st.floats(-5, 5)))
def test_every_judgement_is_consistent_with_itself(response):
    j = MODEL.judge(features(RESPONSE + response))
    assert (j.verdict is Verdict.NOT_OK) == (j.p <= MODEL.alpha) == (j.ratio > 1) == (j.anomaly > 0.5)
    assert (j.score < MODEL.score_limit or j.p == MODEL.alpha) or j.verdict is Verdict.OK
    assert 0 <= j.score <= 100
    assert 0 <= j.uncertainty <= 50
    assert abs(sum(share for _, share in j.contributions) - 1) < 1e-9


@given(st.lists(st.floats(1e-6, 1), min_size=2, max_size=2, unique=True))
def test_the_score_never_falls_as_p_rises(ps):
    low, high = sorted(ps)
    assert score(low) <= score(high)


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_holds_the_share(counts):
    low, high = wilson(*counts)
    assert 0 <= low <= counts[0] / counts[1] <= high <= 1


@given(st.integers(3, 6), st.integers(7, 12), st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_any_fingerprint_survives_its_bytes(lots, each, seed):
    model = learn("P", *good(lots, each, seed))
    again = Fingerprint.from_bytes(model.to_bytes(), model.digest)
    assert again.digest == model.digest
    assert again.judge(features(RESPONSE)) == model.judge(features(RESPONSE))
