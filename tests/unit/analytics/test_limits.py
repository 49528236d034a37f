"""Limits of many tags at once, against one tag at a time."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.limits import LEVELS, SECOND, Limit, Limits

FOUR = Limit(low_low=10, low=20, high=80, high_high=90, deadband=5)


def levels(limit: Limit, values: list[float]) -> list[str]:
    """Level after each value, a second apart."""
    followed = Limits([limit])
    told = []
    for second, value in enumerate(values):
        followed.evaluate(np.array([value]), np.array([not math.isnan(value)]), second * SECOND)
        told.append(LEVELS[followed.levels[0]])
    return told


def test_the_worst_limit_a_value_is_beyond_counts():
    assert levels(FOUR, [50, 81, 91, 50, 19, 9, 50]) == ["", "High", "HighHigh", "", "Low", "LowLow", ""]


def test_a_value_comes_back_behind_the_dead_band_only():
    assert levels(FOUR, [81, 79, 75.1, 75, 19, 24.9, 25]) == ["High", "High", "High", "", "Low", "Low", ""]
    assert levels(FOUR, [91, 86, 85, 79]) == ["HighHigh", "HighHigh", "High", "High"]


def test_a_tag_may_have_some_of_the_limits():
    assert levels(Limit(high_high=90), [89, 91, 50]) == ["", "HighHigh", ""]
    assert levels(Limit(low=20), [19, -1e9]) == ["Low", "Low"]
    assert levels(Limit(), [1e9, -1e9]) == ["", ""]
    assert not Limit().given


def test_what_is_not_known_changes_nothing():
    assert levels(FOUR, [math.nan, 81, math.nan, math.nan, 50]) == ["", "High", "High", "High", ""]


def test_only_what_lasts_is_told_and_only_what_is_over_for_a_while_is_over():
    # ISA-18.2 11.4.3: on delay, off delay; between two levels nothing is delayed.
    limit = Limit(high=80, high_high=90, on_delay=2, off_delay=3)
    assert levels(limit, [81, 81, 50, 81, 81, 81, 91, 50, 81, 50, 50, 50, 50]) == [
        "", "", "", "", "", "High", "HighHigh", "HighHigh", "High", "High", "High", "High", "",
    ]  # fmt: skip


def test_an_earlier_run_is_taken_up():
    followed = Limits([FOUR, FOUR], ["HighHigh", ""])
    changed = followed.evaluate(np.array([50.0, 50.0]), np.ones(2, np.bool_), SECOND)
    assert changed.tolist() == [0]


numbers = st.one_of(st.none(), st.floats(-100, 100))


@st.composite
def some_limits(draw) -> Limit:
    given = sorted(draw(st.lists(st.floats(-100, 100), min_size=4, max_size=4)))
    kept = [value if draw(st.booleans()) else None for value in given]
    delays = st.sampled_from([0.0, 1.0, 3.0])
    band = draw(st.sampled_from([0.0, 5.0]))
    low_low, low, high, high_high = kept
    return Limit(
        low_low=low_low, low=low, high=high, high_high=high_high, deadband=band,
        on_delay=draw(delays), off_delay=draw(delays),
    )  # fmt: skip


@given(
    st.lists(some_limits(), min_size=1, max_size=4),
    st.lists(st.lists(st.floats(-120, 120), min_size=4, max_size=4), max_size=30),
)
def test_many_at_once_are_as_each_alone(limits, frames):
    together = Limits(limits)
    alone = [Limits([limit]) for limit in limits]
    for second, values in enumerate(frames):
        row = np.array(values[: len(limits)])
        changed = together.evaluate(row, np.ones(len(limits), np.bool_), second * SECOND)
        each = [a.evaluate(row[i : i + 1], np.ones(1, np.bool_), second * SECOND) for i, a in enumerate(alone)]
        assert changed.tolist() == [i for i, one in enumerate(each) if len(one)]
        assert together.levels.tolist() == [int(a.levels[0]) for a in alone]


@pytest.mark.parametrize("level", [level for level in LEVELS if level])
def test_each_level_has_its_limit(level):
    assert not math.isnan(FOUR.of(level))
