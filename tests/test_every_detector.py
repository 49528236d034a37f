"""What every detector promises (`analytics.detectors`), checked on each row of the table."""

import numpy as np
import pytest

from analytics.detectors import DETECTORS
from nodesets.errors import NoData

LOTS = [f"L{i % 5}" for i in range(200)]


def good(seed: int = 0, rows: int = 200) -> np.ndarray:
    """Six features of different size that vary together, and each a little alone."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 2)) @ np.random.default_rng(42).normal(size=(2, 6)) + 0.3 * rng.normal(size=(rows, 6))
    return 5 + x * [1, 10, 0.1, 1, 3, 1]


@pytest.fixture(params=DETECTORS, name="learn")
def _learn(request):
    return DETECTORS[request.param]


def test_the_middle_of_the_good_cycles_is_far_inside_the_limit(learn):
    assert learn(good(), LOTS, 0.05).score(good().mean(axis=0)) < 0.5


def test_what_is_far_from_all_of_them_is_beyond_it_and_farther_scores_higher(learn):
    detector, x = learn(good(), LOTS, 0.05), good()
    scores = [detector.score(x.mean(axis=0) + k * x.std(axis=0) * [1, -1, 1, -1, 1, -1]) for k in (5, 10, 20)]
    assert 1 < scores[0] < scores[1] < scores[2]


def test_new_good_cycles_are_beyond_the_limit_about_as_often_as_agreed(learn):
    # Process rule 2. 2000 cycles at alpha 0.05, the limit itself from 200: within a factor of two.
    detector = learn(good(), LOTS, 0.05)
    assert 0.025 < np.mean([detector.score(x) > 1 for x in good(1, 2000)]) < 0.1


def test_the_same_input_gives_the_same_score(learn):
    x = good(2, 1)[0]
    assert learn(good(), LOTS, 0.05).score(x) == learn(good(), LOTS, 0.05).score(x)


def test_scoring_changes_neither_its_argument_nor_the_next_score(learn):
    detector, x = learn(good(), LOTS, 0.05), good(2, 1)[0]
    x.setflags(write=False)
    assert detector.score(x) == detector.score(x)


def test_learning_does_not_change_the_cycles(learn):
    x = good()
    x.setflags(write=False)
    learn(x, LOTS, 0.05)


def test_the_order_of_features_has_no_effect(learn):
    x, order = good(2, 1)[0], [3, 0, 5, 1, 4, 2]
    a, b = learn(good(), LOTS, 0.05), learn(good()[:, order], LOTS, 0.05)
    assert a.score(x) == pytest.approx(b.score(x[order]))


def test_the_unit_of_a_feature_has_no_effect(learn):
    x, factor = good(2, 1)[0], np.array([1, 2, 5, 1, 10, 100])
    a, b = learn(good(), LOTS, 0.05), learn(good() * factor, LOTS, 0.05)
    # but for the resolution, which is stated in the unit
    assert a.score(x) == pytest.approx(b.score(x * factor), rel=1e-2)


@pytest.mark.parametrize(("rows", "lots"), [(18, 3), (100, 2)])
def test_too_few_cycles_or_lots_are_refused(learn, rows, lots):
    with pytest.raises(NoData):
        learn(good()[:rows], [f"L{i % lots}" for i in range(rows)], 0.05)


def test_it_says_what_it_assumes_and_costs():
    # As river and scikit-learn do: nobody picks a detector from its name alone.
    for learn in DETECTORS.values():
        text = learn.__globals__[learn.__annotations__["return"].__name__].__doc__
        text = " ".join(text.split())
        for heading in (
            "Idea:",
            "Assumptions:",
            "Shape and unit:",
            "higher is more abnormal",
            "Cost:",
            ">>>",
            "Reference",
        ):
            assert heading in text
