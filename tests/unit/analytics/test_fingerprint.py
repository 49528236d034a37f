import hashlib
import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import rfc8785

from analytics.fingerprint import FORMAT, UNKNOWN, Fingerprint, identify, score, wilson
from analytics.learning import learn
from nodesets.errors import IntegrityError, InvalidArgument
from nodesets.model import Verdict
from tests.unit.analytics.good_cycles import RESPONSE, features, good


@pytest.fixture(scope="module")
def model() -> Fingerprint:
    return learn("COFFEE-A", *good())


def test_a_cycle_like_the_good_ones_is_ok(model):
    j = model.judge(features(RESPONSE))
    assert j.verdict is Verdict.OK
    assert j.reason == ""
    assert j.score > 80
    assert j.anomaly < 0.5


def test_another_odour_is_not_ok_and_its_reason_names_the_channel(model):
    j = model.judge(features(RESPONSE + np.array([0, 0, 0.4, 0])))
    assert j.verdict is Verdict.NOT_OK
    assert j.contributions[0][0] == "S03"
    assert "S03" in j.reason
    assert j.score < model.score_limit
    assert j.anomaly > 0.5


def test_a_feature_beyond_its_control_limits_is_named_with_its_sigmas(model):
    # Univariate control limits: what a quality engineer looks up in the chart, beside T2 and SPE.
    j = model.judge(features(RESPONSE + np.array([0, 0, 0.4, 0])))
    name, sigmas = j.beyond[0]
    assert name.startswith("S03.")
    assert sigmas > model.sigma_limit >= 1
    assert f"{name} {sigmas:+.1f} sigma" in j.reason
    assert model.judge(features(RESPONSE)).beyond == ()


def test_p_is_the_share_of_held_out_good_cycles_at_least_as_far(model):
    # Process rule 2, counted by hand from what the model carries.
    j = model.judge(features(RESPONSE * 1.08))
    distance = max(j.t2 / model.t2_limit, j.spe / model.spe_limit)
    assert j.p == (1 + sum(d >= distance for d in model.distances)) / (model.reference_count + 1)
    assert j.score == score(j.p)


def test_not_ok_means_p_at_most_alpha_and_nothing_else(model):
    # The limit and p are two views of one thing; 0.5 of the anomaly score is the limit.
    for strength in np.linspace(1, 1.4, 60):
        j = model.judge(features(RESPONSE * strength))
        assert (j.verdict is Verdict.NOT_OK) == (j.p <= model.alpha) == (j.anomaly > 0.5)


def test_the_score_map_costs_a_third_for_each_factor_of_ten():
    assert [score(p) for p in (1, 0.1, 0.01)] == pytest.approx([100, 200 / 3, 100 / 3])
    assert score(0.001) == pytest.approx(0, abs=1e-9)
    assert score(0.0001) == 0


def test_the_uncertainty_is_half_the_mapped_wilson_interval(model):
    j = model.judge(features(RESPONSE))
    n = model.reference_count
    low, high = wilson(round(j.p * (n + 1)) - 1, n)
    assert j.uncertainty == pytest.approx((score(high) - score(low)) / 2)
    assert j.uncertainty > 0


def test_the_wilson_interval_is_the_published_one():
    # 8 of 10: Brown, Cai and DasGupta, Statistical Science 16 (2001), formula 4.
    assert wilson(8, 10) == pytest.approx((0.4901625, 0.9433178), abs=1e-6)
    assert wilson(0, 10)[0] == 0
    assert wilson(10, 10)[1] == 1


def test_contributions_are_shares_and_sum_to_one(model):
    j = model.judge(features(RESPONSE * 1.3))
    shares = [share for _, share in j.contributions]
    assert sum(shares) == pytest.approx(1)
    assert min(shares) >= 0
    assert shares == sorted(shares, reverse=True)
    assert {c for c, _ in j.contributions} == set(model.channels)


@pytest.mark.parametrize(
    ("cycle", "reason"),
    [
        (features(RESPONSE, defect="exposure lasted 4 s of 10 s"), "exposure lasted 4 s of 10 s"),
        (features(RESPONSE, reasons=("", "S02 not good in baseline", "", "")), "S02 not good in baseline"),
        (features(RESPONSE, level=np.log([100, 100, 100, 30])), "CARRY_OVER: baseline level of S04"),
        (features(RESPONSE, drift=[0, 0.5, 0, 0]), "CARRY_OVER: baseline drift of S02"),
        (replace(features(RESPONSE), names=("a",) * 8), "COFFEE-A was learned from other channels: no S01.ratio"),
    ],
)
def test_what_cannot_be_compared_is_not_decidable_and_says_why(model, cycle, reason):
    # Process rules 1 and 3: neither OK nor NotOK, and no number that a SCADA could mistake for a score.
    j = model.judge(cycle)
    assert j.verdict is Verdict.NOT_DECIDABLE
    assert j.reason.startswith(reason)
    assert all(math.isnan(x) for x in (j.score, j.uncertainty, j.anomaly, j.p))


def test_a_channel_the_model_does_not_use_may_be_bad():
    # SmellNet's Benzene is invalid in most recordings: it must not make every cycle undecidable for ever.
    cycles, lots = good()
    off = ("", "", "", "S04 not good in baseline")
    cycles[7] = features(RESPONSE, reasons=off)
    model = learn("COFFEE-A", cycles, lots)
    assert model.channels == ("S01", "S02", "S03")
    assert model.judge(features(RESPONSE, reasons=off)).verdict is Verdict.OK


def test_bytes_restore_the_same_judgement(model):
    again = Fingerprint.from_bytes(model.to_bytes(), model.digest)
    assert again.to_bytes() == model.to_bytes()
    assert again.judge(features(RESPONSE * 1.1)) == model.judge(features(RESPONSE * 1.1))


def test_learning_twice_gives_the_same_bytes():
    # The signature of an approval binds to these bytes.
    assert learn("COFFEE-A", *good()).digest == learn("COFFEE-A", *good()).digest


def test_any_changed_byte_is_refused(model):
    data = model.to_bytes()
    for at in range(0, len(data), 97):
        changed = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        with pytest.raises(IntegrityError):
            Fingerprint.from_bytes(changed, model.digest)


def test_bytes_of_an_unknown_format_are_refused():
    data = rfc8785.dumps({"format": FORMAT + 1, "fingerprint": {}})
    with pytest.raises(InvalidArgument, match="format 2"):
        Fingerprint.from_bytes(data, hashlib.sha256(data).hexdigest())


def test_the_nearest_odour_is_named_or_none():
    a = learn("COFFEE-A", *good())
    b = learn("COFFEE-B", *good(seed=1, response=RESPONSE[::-1]))
    assert identify(features(RESPONSE), [a, b])[0] == "COFFEE-A"
    assert identify(features(RESPONSE[::-1]), [a, b])[0] == "COFFEE-B"
    name, confidence = identify(features(RESPONSE * -1), [a, b])
    assert name == UNKNOWN
    assert 0.9 < confidence < 1
    nothing, confidence = identify(features(RESPONSE, defect="cut"), [a, b])
    assert nothing == ""
    assert math.isnan(confidence)


def test_serving_needs_neither_scipy_nor_scikit_learn():
    # Architecture, processes: limits and arrays come from the model.
    code = "import sys, analytics.fingerprint as f; sys.exit(any(m in sys.modules for m in ('scipy', 'sklearn')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
