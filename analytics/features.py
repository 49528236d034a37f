"""Cycle -> features: the same function in training and in serving.

Each channel is compared with its own baseline in the same cycle, so slow drift of a sensor cancels. What it is
compared by follows from what its technology does (process rule 1):

    ratio   resistances: y = ln(value); MOS follow a power law, so equal factors of concentration are equal steps of y
    shift   signals that are zero or of either sign in clean air (QCM, PID, EC, NDIR, CAP): y = value, in its unit

    baseline |.....bbbbbb|            b: last half of the baseline, settled since the last purge
    exposure             |eeee....ssss|   e, s: first and last third of the exposure

Features of channel S01, two a channel:

    S01.ratio, S01.shift     mean(y over s) - mean(y over b)    how strong the response is
    S01.ratio_rise, S01.shift_rise    mean(y over s) - mean(y over e)    how much of it comes late: the kinetics
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analytics.cycles import Cycle
from nodesets.model import Floats, Phase, Quality

RATIO_TECHNOLOGIES = frozenset({"MOS"})
BASELINE_WINDOW = 1 / 2
EXPOSURE_WINDOW = 1 / 3
EDGE = 0.01
"""Of a phase's length: a row this near to the edge of a window is inside, however the clock jitters."""
ENOUGH = 2 / 3
"""Share of the rows of a window that must be usable: of three rows, the shortest cycles' window, one may be lost."""
FEWEST = 2
"""Rows of a window without which it has no mean worth the name."""
USABLE = (Quality.GOOD, Quality.UNCERTAIN_SUBNORMAL)
"""Measured well; of the second only the time is in doubt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelKind:
    """A channel of the array, as far as its features go."""

    id: str
    ratio: bool
    """Compared by ratio; otherwise by shift."""

    @property
    def names(self) -> tuple[str, str]:
        """Names of its features."""
        word = "ratio" if self.ratio else "shift"
        return f"{self.id}.{word}", f"{self.id}.{word}_rise"


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """What one cycle says of its n channels."""

    channels: tuple[str, ...]
    names: tuple[str, ...]
    """Of the 2n features, channel by channel."""
    values: Floats
    """Shape (2n,); NaN for the channels that are not usable."""
    baseline: Floats
    """Level of the baseline in the channel's unit, shape (n,); the geometric mean for ratios."""
    level: Floats
    """The same as y (ln for ratios), shape (n,)."""
    drift: Floats
    """Change of y over the baseline window by its least-squares slope, shape (n,)."""
    normalized: Floats
    """R/R0 of the ratio channels, shape (n,); NaN for shifts, which have no ratio."""
    reasons: tuple[str, ...]
    """Why a channel is not usable, shape (n,); empty where it is."""
    defect: str
    """Why the whole cycle is incomplete; empty when it is complete."""

    @property
    def usable(self) -> NDArray[np.bool_]:
        """Channels whose features exist, shape (n,)."""
        return np.array([not r for r in self.reasons])


def is_ratio(technology: str) -> bool:
    """Whether channels of this technology have a normalised response R/R0."""
    return technology in RATIO_TECHNOLOGIES


def kind(channel_id: str, technology: str) -> ChannelKind:
    """How a channel of this technology (`config.schema.Channel.technology`) is compared with its baseline."""
    return ChannelKind(id=channel_id, ratio=is_ratio(technology))


def extract(cycle: Cycle, channels: Sequence[ChannelKind]) -> Features:
    """Features of a cycle.

    Column i of the cycle is channel i; further columns (environment, heaters) are not looked at.
    Never raises for what a device may deliver: channels that are not usable get NaN and a reason.
    """
    n = len(channels)
    ratio = np.array([c.ratio for c in channels])
    measured = cycle.values[:, :n]
    good = np.isin(cycle.status[:, :n], USABLE) & np.isfinite(measured)
    positive = ~ratio | (measured > 0)
    usable = good & positive
    y = np.where(usable, np.where(ratio, np.log(np.where(usable & ratio, measured, 1.0)), measured), np.nan)

    seconds = (cycle.times - cycle.started) / 1e9
    before, early, steady = _windows(seconds, cycle.phases)
    level, drift = _line(seconds[before], y[before])
    first, last = _mean(y[early]), _mean(y[steady])
    values = np.stack([last - level, last - first], axis=1)
    windows = [("baseline", before), ("exposure", early), ("exposure", steady)]
    short = np.array([~_enough(usable[w]) for _, w in windows])
    out = short.any(axis=0)
    reasons = [""] * n
    for i in np.flatnonzero(out).tolist():
        what = "good" if positive[:, i].all() else "positive"
        reasons[i] = f"{channels[i].id} not {what} in {windows[int(short[:, i].argmax())][0]}"
    values[out], level[out], drift[out] = np.nan, np.nan, np.nan
    return Features(
        channels=tuple(c.id for c in channels),
        names=tuple(name for c in channels for name in c.names),
        values=values.ravel(),
        baseline=np.where(ratio, np.exp(np.where(ratio, level, 0.0)), level),
        level=level,
        drift=drift,
        normalized=np.where(ratio, np.exp(np.where(ratio, values[:, 0], 0.0)), np.nan),
        reasons=tuple(reasons),
        defect=cycle.defect,
    )


def _windows(seconds: Floats, phases: NDArray[np.int8]) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Row numbers of the windows b, e and s; empty where the phase is missing."""
    baseline, exposure = np.flatnonzero(phases == Phase.BASELINE), np.flatnonzero(phases == Phase.EXPOSURE)

    def part(rows: NDArray[np.intp], low: float, high: float) -> NDArray[np.intp]:
        if not len(rows):
            return rows
        t = seconds[rows]
        share = (t - t[0]) / max(t[-1] - t[0], 1e-9)
        inside: NDArray[np.intp] = rows[(share >= low - EDGE) & (share <= high + EDGE)]
        return inside

    return (
        part(baseline, 1 - BASELINE_WINDOW, 1),
        part(exposure, 0, EXPOSURE_WINDOW),
        part(exposure, 1 - EXPOSURE_WINDOW, 1),
    )


def _enough(usable: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Of each channel."""
    count = np.count_nonzero(usable, axis=0)
    enough: NDArray[np.bool_] = (count >= FEWEST) & (count >= ENOUGH * len(usable))
    return enough


def _mean(y: Floats) -> Floats:
    """Mean over the rows that are not NaN; NaN where there is none."""
    known = np.isfinite(y)
    count = known.sum(axis=0)
    total = np.where(known, y, 0.0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _line(seconds: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Mean of each column, and its change over the rows by the least-squares slope; rows with NaN are left out."""
    known = np.isfinite(y)
    mean = _mean(y)
    t = np.where(known, seconds[:, None], np.nan)
    t = np.where(known, t - _mean(t), 0.0)
    spread = (t**2).sum(axis=0)
    slope = (t * np.where(known, y - mean, 0.0)).sum(axis=0) / np.maximum(spread, 1e-12)
    length = seconds[-1] - seconds[0] if len(seconds) else 0.0
    return mean, slope * length
