"""Univariate control limits: does any single feature of the cycle lie too far from its mean?"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analytics.learning import check_counts, moments, sigma_limit
from nodesets.model import Floats


@dataclass(frozen=True, slots=True, eq=False)
class Shewhart:
    """Individuals chart of each feature of a cycle, with one common limit.

    Idea: standardise each feature by the good cycles' mean and standard deviation; the cycle's distance is that of its
    farthest feature. Shewhart's three sigmas hold for one normal feature; of many, some feature is beyond them far more
    often (22.8 % of good rows with 52 features, analytics 3.4). The limit here is therefore learned: the distance that
    a share alpha of good cycles of held-out lots may exceed, for all features together.

    Assumptions: cycles, not samples within one (those are autocorrelated). No distribution. Blind to features that
    only together are unusual; `subspace` sees those.

    Shape and unit: x of shape (d,), features as learned. Score 0 and up, unit 1; higher is more abnormal; 1.0 is the
    limit. Cost: O(d).

    >>> import numpy as np
    >>> x = np.random.default_rng(1).normal(size=(60, 4))
    >>> chart = learn(x, ["a", "b", "c"] * 20, alpha=0.05)
    >>> round(chart.score(np.zeros(4)), 2)
    0.08
    >>> chart.score(np.array([0.0, 0.0, 6.0, 0.0])) > 1
    True

    Reference: Montgomery, Introduction to Statistical Quality Control, 7th ed. (2012), 6.4.
    """

    mean: Floats
    scale: Floats
    limit: float

    def score(self, x: Floats) -> float:
        return float(np.abs((x - self.mean) / self.scale).max()) / self.limit


def learn(x: Floats, lots: Sequence[str], alpha: float) -> Shewhart:
    """Chart of good cycles, shape (m, d), with a limit from lots held out in turn, of at least one sigma."""
    check_counts(lots, alpha)
    mean, scale = moments(x)
    return Shewhart(mean, scale, sigma_limit(x, lots, alpha))
