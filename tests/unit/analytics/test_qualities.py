"""The quality of what alarms are judged by: doubts at once, their end when it has lasted."""

import numpy as np
import pytest

from analytics.qualities import CALM, SECOND, Qualities
from nodesets.model import Quality

GOOD, NEW = Quality.GOOD, Quality.BAD_WAITING_FOR_INITIAL_DATA
LAST, GONE = Quality.UNCERTAIN_NO_COMMUNICATION_LAST_USABLE, Quality.BAD_NO_COMMUNICATION
BEYOND, SPIKE = Quality.UNCERTAIN_ENGINEERING_UNITS_EXCEEDED, Quality.UNCERTAIN_SENSOR_NOT_ACCURATE


def told(codes):
    """(second, quality) of what one value tells that has these codes, a second apart."""
    followed = Qualities(1)
    return [
        (second, int(followed.settled[0]))
        for second, code in enumerate(codes)
        if len(followed.changed(np.array([code], np.uint32), second * SECOND))
    ]


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ([GOOD] * 3, [(0, GOOD)]),
        ([NEW, NEW, GONE, GOOD, GOOD], [(2, GONE)]),
        ([GOOD, LAST, LAST, GONE], [(0, GOOD), (1, LAST), (3, GONE)]),
        ([GOOD, GONE, *[GOOD] * 6], [(0, GOOD), (1, GONE), (7, GOOD)]),
        ([GOOD, GONE, *[LAST] * 6], [(0, GOOD), (1, GONE), (7, LAST)]),
    ],
)
def test_worse_is_told_at_once_and_better_when_it_has_lasted(codes, expected):
    assert CALM == 5
    assert told(codes) == expected


@pytest.mark.parametrize("other", [GOOD, SPIKE])
def test_what_flips_each_second_is_told_once(other):
    # Fault F13: every retained alarm of a device would tell of it each second.
    assert told([GOOD] + [BEYOND, other] * 60) == [(0, GOOD), (1, BEYOND)]


def test_each_of_many_has_its_own_quality():
    followed = Qualities(3)
    first = followed.changed(np.array([GOOD, GONE, NEW], np.uint32), 0)
    assert first.tolist() == [0, 1]
    assert followed.calm
    assert followed.changed(np.array([GOOD, GOOD, BEYOND], np.uint32), SECOND).tolist() == [2]
    assert not followed.calm
    assert followed.changed(np.array([GOOD, GOOD, BEYOND], np.uint32), 6 * SECOND).tolist() == [1]
    assert followed.calm
