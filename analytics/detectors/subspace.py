"""T2 and SPE: does the cycle lie too far out in, or too far off, the subspace of the good ones?"""

from collections.abc import Sequence
from dataclasses import dataclass

from analytics.fingerprint import combined
from analytics.learning import Calibration, calibrate, check_counts
from nodesets.model import Floats


@dataclass(frozen=True, slots=True, eq=False)
class PrincipalSubspace:
    """The distance of `analytics.fingerprint`, for any features.

    Idea: good cycles vary in a few directions together. T2 measures how far along these a cycle is, SPE what is left
    over; each in units of its limit, the larger counts.

    Assumptions: linear relations between features; cycles, not samples. No distribution: limits come from held-out
    lots. The parametric ones of normal theory gave 7.1 % and 15 % of false alarms at nominal 1 % (analytics, trap 5).

    Shape and unit: x of shape (d,), d of at least 2, features as learned. Score 0 and up, unit 1; higher is more
    abnormal; 1.0 is the limit. Cost: O(k d) with k components.

    >>> import numpy as np
    >>> rng = np.random.default_rng(1)
    >>> common = rng.normal(size=(60, 1))
    >>> x = common * [1.0, 1.0, 1.0] + 0.1 * rng.normal(size=(60, 3))
    >>> detector = learn(x, ["a", "b", "c"] * 20, alpha=0.05)
    >>> detector.score(np.array([1.0, 1.0, 1.0])) < 1  # all together, as always
    True
    >>> detector.score(np.array([1.0, -1.0, 1.0])) > 1  # each of them usual, not so together
    True

    References: Jackson, A User's Guide to Principal Components (1991), ch. 2; Vovk, Ann. Math. Artif. Intell. 74
    (2015) 9.
    """

    calibration: Calibration

    def score(self, x: Floats) -> float:
        c = self.calibration
        t2, spe = c.subspace.distances(x[None, :])
        return float(combined(t2, spe, c.t2_limit, c.spe_limit)[0]) / c.limit


def learn(x: Floats, lots: Sequence[str], alpha: float) -> PrincipalSubspace:
    """Subspace of good cycles, shape (m, d), with limits from lots held out in turn."""
    check_counts(lots, alpha)
    return PrincipalSubspace(calibrate(x, lots, alpha))
