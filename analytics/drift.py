"""Drift of the sensors: where the baselines of an array are heading, cycle by cycle, in what its model trusts.

A baseline level that one cycle brings out of the trusted range is carry-over and goes with the next purge
(`fingerprint`, process rule 3). One that stays there is drift. An exponentially weighted moving average tells the two
apart:

    s = lambda y + (1 - lambda) s      of the level y of each channel (ln for ratios); begins as the mean of `WARM`
    u = |s - (high + low) / 2| / ((high - low) / 2)      1 at either end of the range the product was learned with
    r = the largest u;   index = r / (1 + r)             0.5 at the end of the range, as of the anomaly score

It tells that the array has to be calibrated or the product learned anew, not by how much: that takes reference gas.

Assumptions: levels of cycles, not of samples (those are autocorrelated); a range that holds what good lots had, with a
margin (`learning.learn`). No distribution. Cost: O(n) a cycle.

References: Roberts, Control chart tests based on geometric moving averages, Technometrics 1 (1959) 239; Montgomery,
Introduction to Statistical Quality Control, 7th ed. (2012), 9.2, where 0.05 to 0.25 is the range of lambda.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analytics.fingerprint import Fingerprint
from nodesets.model import Floats

LAMBDA = 0.2
"""Weight of the newest cycle: a single one has to lie five times as far out as a lasting drift."""
WARM = 5
"""Cycles before which nothing is told: 1 / lambda, what the average remembers."""
LIMIT = 0.5
"""Index from where the array has drifted."""


@dataclass(frozen=True, slots=True)
class Drift:
    index: float = math.nan
    """0..1; NaN while it is not known."""
    channels: tuple[str, ...] = ()
    """Those beyond the limit, in the order of the model."""


class Baselines:
    """The average baseline level of each channel of one array."""

    def __init__(self, channels: Sequence[str]) -> None:
        self._position = {name: i for i, name in enumerate(channels)}
        self._mean = np.zeros(len(channels))
        self._count = np.zeros(len(channels), np.int64)

    def add(self, level: Floats) -> None:
        """Take in `Features.level` of a cycle, shape (n,); channels with NaN stay as they are."""
        known = np.isfinite(level)
        self._count += known
        weight = np.where(self._count > WARM, LAMBDA, 1 / np.maximum(self._count, 1))
        self._mean = np.where(known, self._mean + weight * (level - self._mean), self._mean)

    def drift(self, model: Fingerprint) -> Drift:
        """Against the range a model trusts, of those of its channels that are known; of none, nothing is."""
        rows = np.array([self._position[c] for c in model.channels if c in self._position], np.intp)
        if len(rows) < len(model.channels):
            return Drift()
        half = np.maximum((model.level_high - model.level_low) / 2, np.finfo(np.float64).tiny)
        beyond = np.abs(self._mean[rows] - (model.level_high + model.level_low) / 2) / half
        known = self._count[rows] >= WARM
        if not known.any():
            return Drift()
        far = known & (beyond > 1)
        worst = float(beyond[known].max())
        return Drift(worst / (1 + worst), tuple(np.array(model.channels)[far].tolist()))
