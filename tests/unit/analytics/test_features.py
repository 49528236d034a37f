import numpy as np
import pytest

from analytics.cycles import Cycle
from analytics.features import extract, kind
from nodesets.model import Phase, Quality

SECOND = 1_000_000_000


def cycle(baseline, exposure, status=None, defect="") -> Cycle:
    """Rows a second apart, shape (5, n) and (10, n)."""
    values = np.vstack([baseline, exposure]).astype(np.float64)
    m = len(values)
    return Cycle(
        counter=1,
        started=0,
        stopped=(m - 1) * SECOND,
        times=np.arange(m) * SECOND,
        values=values,
        status=np.zeros(values.shape, np.uint32) if status is None else status,
        phases=np.array([Phase.BASELINE] * len(baseline) + [Phase.EXPOSURE] * len(exposure), np.int8),
        defect=defect,
    )


MOS, QCM = kind("S01", "MOS"), kind("S02", "QCM")
BASELINE = np.tile([100.0, -20.0], (5, 1))
EXPOSURE = np.linspace([80.0, -40.0], [50.0, -70.0], 10)


def test_a_resistance_is_compared_by_ratio_and_a_frequency_by_difference():
    f = extract(cycle(BASELINE, EXPOSURE), [MOS, QCM])
    assert f.names == ("S01.ratio", "S01.ratio_rise", "S02.shift", "S02.shift_rise")
    steady = EXPOSURE[6:].mean(axis=0)
    assert f.values[0] == pytest.approx(np.log(EXPOSURE[6:, 0]).mean() - np.log(100))
    assert f.values[2] == pytest.approx(steady[1] + 20)
    assert f.values[3] == pytest.approx(steady[1] - EXPOSURE[:4, 1].mean())
    assert f.baseline == pytest.approx([100, -20])
    assert f.normalized[0] == pytest.approx(np.exp(f.values[0]))
    assert np.isnan(f.normalized[1])


def test_slow_drift_of_a_sensor_cancels():
    # Process rule 1: against this cycle's own baseline.
    f = extract(cycle(BASELINE, EXPOSURE), [MOS, QCM])
    aged = extract(cycle(BASELINE * [1.3, 1] + [0, 500], EXPOSURE * [1.3, 1] + [0, 500]), [MOS, QCM])
    assert aged.values == pytest.approx(f.values)


def test_drift_of_the_baseline_is_its_slope_over_the_window():
    rising = np.column_stack([np.full(5, 100.0), 2.0 * np.arange(5)])
    f = extract(cycle(rising, EXPOSURE), [MOS, QCM])
    assert f.drift == pytest.approx([0, 4])  # three rows, 2 a second


@pytest.mark.parametrize(
    ("rows", "quality", "reason"),
    [
        (slice(3, 5), Quality.BAD_SENSOR_FAILURE, "S01 not good in baseline"),
        (slice(12, 15), Quality.UNCERTAIN_NO_COMMUNICATION_LAST_USABLE, "S01 not good in exposure"),
        (slice(0, 15), Quality.UNCERTAIN_SENSOR_NOT_ACCURATE, "S01 not good in baseline"),
        (slice(4, 5), Quality.BAD_NO_COMMUNICATION, ""),
        (slice(0, 15), Quality.UNCERTAIN_SUBNORMAL, ""),  # only its clock is in doubt
    ],
)
def test_a_channel_that_was_not_good_enough_has_no_features_and_a_reason(rows, quality, reason):
    status = np.zeros((15, 2), np.uint32)
    status[rows, 0] = quality
    f = extract(cycle(BASELINE, EXPOSURE, status), [MOS, QCM])
    assert f.reasons == (reason, "")
    assert np.isnan(f.values[:2]).all() == bool(reason)
    assert np.isfinite(f.values[2:]).all()


def test_one_lost_row_does_not_move_a_feature():
    status = np.zeros((15, 2), np.uint32)
    status[4] = Quality.UNCERTAIN_NO_COMMUNICATION_LAST_USABLE
    values = BASELINE.copy()
    values[4] = 1e6
    f = extract(cycle(values, EXPOSURE, status), [MOS, QCM])
    assert f.baseline == pytest.approx([100, -20])


def test_a_resistance_of_zero_has_no_logarithm_and_says_so():
    # Gas_Resistance is 0 in whole recordings of SmellNet.
    f = extract(cycle(BASELINE * [0, 1], EXPOSURE * [0, 1]), [MOS, QCM])
    assert f.reasons == ("S01 not positive in baseline", "")


@pytest.mark.parametrize(("baseline", "exposure"), [(0, 10), (5, 0), (1, 1)])
def test_a_cycle_without_a_phase_has_no_usable_channel_and_does_not_raise(baseline, exposure):
    f = extract(cycle(BASELINE[:baseline], EXPOSURE[:exposure], defect="cut"), [MOS, QCM])
    assert not f.usable.any()
    assert f.defect == "cut"


def test_columns_beyond_the_array_are_not_looked_at():
    wide = np.column_stack([BASELINE, np.full(5, np.nan)]), np.column_stack([EXPOSURE, np.full(10, np.nan)])
    assert extract(cycle(*wide), [MOS, QCM]).usable.all()
