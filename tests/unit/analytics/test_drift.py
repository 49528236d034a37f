"""Drift of the baselines: what stays out of the trusted range is drift, what goes with the next purge is not."""

from dataclasses import replace

import numpy as np
import pytest

from analytics.drift import LIMIT, WARM, Baselines, Drift
from analytics.learning import learn
from tests.unit.analytics.good_cycles import good

MODEL = learn("P", *good())
MIDDLE, HALF = (MODEL.level_high + MODEL.level_low) / 2, (MODEL.level_high - MODEL.level_low) / 2
FIRST = np.arange(len(MIDDLE)) == 0


def followed(*levels):
    baselines = Baselines(MODEL.channels)
    for level in levels:
        baselines.add(level)
    return baselines.drift(MODEL)


def at(u, channel=FIRST):
    """Levels with one channel u half widths from the middle of its range."""
    return MIDDLE + np.where(channel, u * HALF, 0.0)


def test_nothing_is_told_before_the_average_is_one():
    assert np.isnan(followed(*[at(2)] * (WARM - 1)).index)
    assert followed(*[at(2)] * WARM).index == pytest.approx(2 / 3)


def test_the_index_is_half_where_the_range_the_model_trusts_ends():
    assert followed(*[at(0)] * WARM) == Drift(0.0)
    inside, outside = followed(*[at(0.99)] * WARM), followed(*[at(1.01)] * WARM)
    assert inside.index < LIMIT < outside.index
    assert (inside.channels, outside.channels) == ((), MODEL.channels[:1])
    assert followed(*[at(-3)] * WARM).index == pytest.approx(0.75)


def test_one_cycle_of_carry_over_is_no_drift_and_a_step_that_lasts_is():
    # Process rule 3: the next purge takes carry-over away.
    steady = [at(0)] * WARM
    assert followed(*steady, at(3), *[at(0)] * 5).index < LIMIT
    assert followed(*steady, at(3)).channels == ()
    assert followed(*steady, *[at(1.5)] * 6).channels == MODEL.channels[:1]


def test_a_channel_that_is_not_usable_keeps_its_average():
    lost = np.where(FIRST, np.nan, at(0))
    assert followed(*[at(2)] * WARM, *[lost] * 20).index == pytest.approx(2 / 3)
    assert followed(*[lost] * WARM) == Drift(0.0)  # of the others it is known


def test_another_array_cannot_be_compared():
    other = replace(MODEL, channels=("X", *MODEL.channels[1:]))
    baselines = Baselines(MODEL.channels)
    baselines.add(MIDDLE)
    assert np.isnan(baselines.drift(other).index)
