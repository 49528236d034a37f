"""Good cycles -> fingerprint. Runs in a worker or a command, never while serving.

Validated by lot, never by row (analytics, section 4): each lot's distances come from a fingerprint of the other lots.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtri, fdtri

from analytics.features import Features
from analytics.fingerprint import Fingerprint, combined, distances
from nodesets.errors import InvalidArgument, NoData
from nodesets.model import Floats

FEWEST_LOTS = 3
"""Process rule 2."""
VARIANCE = 0.9
"""Share of the variance the subspace keeps; the rest is SPE. Rows `k=31 (90 % var.)` of analytics 3.4 and `PCA 90 %` of
3.3 have the lowest false-alarm rates at equal detection there."""
RESOLUTION = 1e-3
"""Least standard deviation of a feature, 0.1 % of a resistance or 1 mHz of a crystal: less is below what a register
shows, and a feature that never changed in training must not raise an alarm for it."""
CARRY_OVER = 0.5
"""Share of the mean response by which a baseline may lie beyond those seen in training. Ageing moves a baseline slowly
and is divided out; a residue of the sample moves it by the order of a response, and the next response is then short."""
SIGMAS = 3
"""A baseline error below three standard deviations of the good cycles' response is lost among them (Shewhart's 3)."""
_TINY = 1e-9


@dataclass(frozen=True, slots=True)
class Subspace:
    """Principal components of scaled features, as in `Fingerprint`."""

    mean: Floats
    scale: Floats
    components: Floats
    variances: Floats

    def distances(self, x: Floats) -> tuple[Floats, Floats]:
        return distances(x, self.mean, self.scale, self.components, self.variances)


@dataclass(frozen=True, slots=True)
class Calibration:
    """A subspace, and its distances as told by cycles it was not learned from."""

    subspace: Subspace
    t2_limit: float
    spe_limit: float
    held_out: Floats
    """max(T2 / T2_limit, SPE / SPE_limit) of each cycle, from a subspace of the other lots, shape (m,)."""
    limit: float
    false_alarms: int


def learn(product: str, cycles: Sequence[Features], lots: Sequence[str], *, alpha: float = 0.05) -> Fingerprint:
    """Fingerprint of a product from its good cycles and the lot of each.

    Uses the channels that were usable in every one of these cycles. Deterministic: equal input, equal bytes.

    Raises InvalidArgument for input that does not fit together or an incomplete cycle, NoData for fewer than three
    lots, fewer than 1 / alpha - 1 cycles, or no channel that was good throughout (process rule 2).
    """
    check_counts(lots, alpha)
    _check(cycles, lots)
    rows = np.flatnonzero(np.all([f.usable for f in cycles], axis=0))
    if not len(rows):
        raise NoData("no channel was good in all cycles")
    first = cycles[0]
    columns = np.stack([2 * rows, 2 * rows + 1], axis=1).ravel()
    x = np.array([f.values[columns] for f in cycles])
    found = calibrate(x, lots, alpha)
    subspace = found.subspace

    response, lost = np.abs(subspace.mean[::2]), SIGMAS * subspace.scale[::2]
    level, drift = np.array([f.level[rows] for f in cycles]), np.abs([f.drift[rows] for f in cycles])
    margin = np.maximum(CARRY_OVER * response, lost)
    return Fingerprint(
        product=product,
        channels=tuple(first.channels[i] for i in rows),
        features=tuple(first.names[i] for i in columns),
        feature_channels=tuple(first.channels[i] for i in rows for _ in range(2)),
        lots=tuple(sorted(set(lots))),
        alpha=alpha,
        mean=subspace.mean,
        scale=subspace.scale,
        components=subspace.components,
        variances=subspace.variances,
        t2_limit=found.t2_limit,
        spe_limit=found.spe_limit,
        t2_parametric=t2_parametric(len(x), len(subspace.variances), alpha),
        spe_parametric=spe_parametric(subspace.distances(x)[1], alpha),
        distances=np.sort(found.held_out),
        limit=found.limit,
        sigma_limit=sigma_limit(x, lots, alpha),
        false_alarms=found.false_alarms,
        level_low=level.min(axis=0) - margin,
        level_high=level.max(axis=0) + margin,
        drift_limit=drift.max(axis=0) + lost,
    )


def calibrate(x: Floats, lots: Sequence[str], alpha: float) -> Calibration:
    """Subspace of good cycles x, shape (m, d), and the limits their held-out distances give.

    The lots must have passed `check_counts`.
    """
    lot = np.array(lots)
    subspace = fit(x)
    t2, spe = _held_out(x, lot, len(subspace.variances))
    k = rank(alpha, len(x))
    t2_limit, spe_limit = _limits(subspace, t2, spe, k)
    held_out = combined(t2, spe, t2_limit, spe_limit)
    false_alarms = _false_alarms(subspace, t2, spe, lot, alpha)
    return Calibration(subspace, t2_limit, spe_limit, held_out, largest(held_out, k), false_alarms)


def sigma_limit(x: Floats, lots: Sequence[str], alpha: float) -> float:
    """Standard deviations that the farthest feature of a good cycle may lie from its mean, at least one.

    Learned for all features together from lots held out in turn: Shewhart's three sigmas hold for one normal feature.
    """
    lot = np.array(lots)
    farthest = np.empty(len(x))
    for name in np.unique(lot):
        own = lot == name
        mean, scale = moments(x[~own])
        farthest[own] = np.abs((x[own] - mean) / scale).max(axis=1)
    return max(largest(farthest, rank(alpha, len(x))), 1.0)


def moments(x: Floats) -> tuple[Floats, Floats]:
    """Mean and standard deviation of each feature, not below `RESOLUTION`."""
    return x.mean(axis=0), np.sqrt(x.var(axis=0, ddof=1) + RESOLUTION**2)


def _check(cycles: Sequence[Features], lots: Sequence[str]) -> None:
    if len(cycles) != len(lots):
        raise InvalidArgument(f"{len(cycles)} cycles but {len(lots)} lots")
    if defects := [f.defect for f in cycles if f.defect]:
        raise InvalidArgument(f"an incomplete cycle cannot be good: {defects[0]}")
    if len({f.names for f in cycles}) > 1:
        raise InvalidArgument("the cycles are of different channels")


def check_counts(lots: Sequence[str], alpha: float) -> None:
    """Raises NoData unless these cycles can carry a limit at alpha (process rule 2)."""
    if not 0 < alpha < 0.5:
        raise InvalidArgument(f"alpha {alpha:g} is not between 0 and 0.5")
    if len(set(lots)) < FEWEST_LOTS:
        raise NoData(f"{len(set(lots))} lots; at least {FEWEST_LOTS} are needed")
    if rank(alpha, len(lots)) < 1:
        needed = int(np.ceil(1 / alpha - 1 - _TINY))
        raise NoData(f"{len(lots)} good cycles; a limit at alpha {alpha:g} needs {needed}")


def fit(x: Floats, components: int | None = None) -> Subspace:
    """Subspace of the rows of x, shape (m, d): as many components as keep `VARIANCE`, or as given; at most d - 1.

    The sign of a component is free; its largest entry is made positive, so that equal input gives equal output.
    """
    mean, scale = moments(x)
    _, singular, rows = np.linalg.svd((x - mean) / scale, full_matrices=False)
    variances = singular**2 / (len(x) - 1)
    if components is None:
        share = np.cumsum(variances) / max(float(variances.sum()), _TINY)
        components = int(np.searchsorted(share, VARIANCE)) + 1
    k = max(1, min(components, len(x) - 2, x.shape[1] - 1))
    sign = np.sign(rows[np.arange(k), np.argmax(np.abs(rows[:k]), axis=1)])
    resolved = variances[:k] + rows[:k] ** 2 @ (RESOLUTION / scale) ** 2
    return Subspace(mean, scale, rows[:k] * sign[:, None], resolved)


def t2_parametric(n: int, k: int, alpha: float) -> float:
    """Limit of T2 for future normal observations: k (n^2 - 1) / (n (n - k)) F(k, n - k)."""
    return float(k * (n**2 - 1) / (n * (n - k)) * fdtri(k, n - k, 1 - alpha))


def spe_parametric(spe: Floats, alpha: float) -> float:
    """Limit of SPE by Box's moments: g chi2(h), g = var / (2 mean), h = 2 mean^2 / var (Jackson 1991, ch. 2)."""
    mean, variance = float(spe.mean()), max(float(spe.var(ddof=1)), _TINY)
    return float(variance / (2 * mean) * chdtri(2 * mean**2 / variance, alpha)) if mean > 0 else 0.0


def _held_out(x: Floats, lot: NDArray[np.str_], components: int) -> tuple[Floats, Floats]:
    """T2 and SPE of each row from a subspace of the other lots."""
    t2, spe = np.empty(len(x)), np.empty(len(x))
    for name in np.unique(lot):
        own = lot == name
        t2[own], spe[own] = fit(x[~own], components).distances(x[own])
    return t2, spe


def rank(alpha: float, n: int) -> int:
    """How many of n held-out values may lie at or above the limit, plus one: floor(alpha (n + 1))."""
    return int(np.floor(alpha * (n + 1) + _TINY))


def largest(values: Floats, k: int) -> float:
    """The k-th largest value: a new one exceeds it with a chance of at most k / (n + 1)."""
    return float(np.sort(values)[-k])


def _limits(subspace: Subspace, t2: Floats, spe: Floats, k: int) -> tuple[float, float]:
    """Limits of T2 and SPE: the k-th largest, but not below what noise of one `RESOLUTION` makes of them."""
    expected = float(((RESOLUTION / subspace.scale) ** 2).sum())
    return max(largest(t2, k), float(len(subspace.variances))), max(largest(spe, k), expected)


def _false_alarms(subspace: Subspace, t2: Floats, spe: Floats, lot: NDArray[np.str_], alpha: float) -> int:
    """Held-out cycles beyond the limits that the other lots' held-out cycles give.

    Few cycles in the other lots give the limit their farthest one.
    """
    count = 0
    for name in np.unique(lot):
        own = lot == name
        k = max(1, rank(alpha, int(np.count_nonzero(~own))))
        distance = combined(t2, spe, *_limits(subspace, t2[~own], spe[~own], k))
        count += int(np.count_nonzero(distance[own] > largest(distance[~own], k)))
    return count
