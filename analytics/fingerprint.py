"""Product fingerprint: is this cycle like the good ones? (process rules 1 and 2)

A principal component subspace of good cycles' features. Two distances from it: T2, how far out inside the subspace,
and SPE, how far off it. Both are divided by their limits, and the larger is the distance of the cycle:

    d = max(T2 / T2_limit, SPE / SPE_limit)

What a distance means is told by good cycles the subspace was not learned from (each lot by a fingerprint of the other
lots): n held-out distances. No distribution is assumed.

    p     = (1 + number of held-out distances >= d) / (n + 1)     conformal p-value
    score = 100 * max(0, 1 + log10(p) / 3)                        each factor of ten of p costs a third; 1/1000 is 0
    r     = d / limit,  limit = the floor(alpha (n + 1))-th largest held-out distance;   r > 1 exactly when p <= alpha
    anomaly = r / (1 + r)                                         0.5 at the limit

The interval of the score is the Wilson 95 % interval of p, mapped like p itself. Lots, not cycles, are independent
of each other: with few lots the interval is too narrow, which is why three are the least and why the realised
false-alarm rate is counted lot by lot.

References: Jackson, A User's Guide to Principal Components (1991), ch. 2 (T2, SPE); Shafer and Vovk, A tutorial on
conformal prediction, JMLR 9 (2008) 371; Vovk, Cross-conformal predictors, Ann. Math. Artif. Intell. 74 (2015) 9;
Alcala and Qin, Automatica 45 (2009) 1593 (contributions); Wilson, JASA 22 (1927) 209.

Serving needs numpy only; learning is `analytics.learning`.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Self

import numpy as np
import rfc8785

from analytics.features import Features
from nodesets.errors import IntegrityError, InvalidArgument
from nodesets.model import Floats, Verdict

FORMAT = 1
UNKNOWN = "unknown"
FAR = 3.0
"""Times the limit from where a cycle is far off: the second, urgent level of an alarm."""
NEAREST = 1e-3
"""Distances below it are all the same: what is left of them is rounding."""
NORMAL_975 = 1.959963984540054
"""97.5 % quantile of the normal distribution."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What a fingerprint says of one cycle. Without a decision every number is NaN."""

    verdict: Verdict
    reason: str
    """Never empty for NotOK and NotDecidable."""
    score: float = math.nan
    """0..100, unit 1."""
    uncertainty: float = math.nan
    """Half width of the score's 95 % interval."""
    anomaly: float = math.nan
    """0..1; 0.5 at the limit."""
    p: float = math.nan
    """Share of good cycles at least as far away, 0..1."""
    ratio: float = math.nan
    """Distance over limit: 1 at the limit."""
    t2: float = math.nan
    spe: float = math.nan
    contributions: tuple[tuple[str, float], ...] = ()
    """(channel, share 0..1), largest first; the shares sum to 1."""
    beyond: tuple[tuple[str, float], ...] = ()
    """(feature, standard deviations from its mean) of those beyond their control limits, farthest first."""
    vector: tuple[float, ...] = ()
    """The features judged, in the order of `Fingerprint.features`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Fingerprint:
    """Good cycles of one product, as numbers: d features of c channels, k components, n held-out cycles."""

    product: str
    channels: tuple[str, ...]
    """Channels it uses: those that were usable in every good cycle."""
    features: tuple[str, ...]
    """Names of their features."""
    feature_channels: tuple[str, ...]
    """Channel of each feature."""
    lots: tuple[str, ...]
    """Lots it was learned from."""
    alpha: float
    """Share of good cycles the limit may call NotOK."""
    mean: Floats
    """Shape (d,)."""
    scale: Floats
    """Standard deviation of each feature, shape (d,)."""
    components: Floats
    """Orthonormal rows, shape (k, d)."""
    variances: Floats
    """Of the scores along the components, shape (k,)."""
    t2_limit: float
    spe_limit: float
    t2_parametric: float
    """F-distribution limit at `alpha`, for comparison only: it assumes normal, independent cycles."""
    spe_parametric: float
    """Box's chi-square limit at `alpha`, for comparison only."""
    distances: Floats
    """Held-out distances of the good cycles, rising, shape (n,)."""
    limit: float
    """Distance above which a cycle is NotOK."""
    sigma_limit: float
    """Univariate control limit: standard deviations a single feature may lie from its mean, one for all features."""
    false_alarms: int
    """Held-out cycles that a limit from the other lots called NotOK."""
    level_low: Floats
    """Lowest and highest baseline level (ln for ratios) that is trusted, shape (c,)."""
    level_high: Floats
    drift_limit: Floats
    """Largest trusted drift of the baseline, shape (c,)."""

    @property
    def reference_count(self) -> int:
        """n: held-out good cycles behind the limits."""
        return len(self.distances)

    @property
    def false_alarm_rate(self) -> float:
        """Realised on the held-out good cycles, each against a limit its own lot had no part in."""
        return self.false_alarms / self.reference_count

    @property
    def false_alarm_interval(self) -> tuple[float, float]:
        """Wilson 95 % interval of `false_alarm_rate`."""
        return wilson(self.false_alarms, self.reference_count)

    @property
    def score_limit(self) -> float:
        """Score at p = alpha: below it a cycle is NotOK."""
        return score(self.alpha)

    @property
    def score_floor(self) -> float:
        """Score of a cycle farther away than every held-out good one: n cycles can tell no less."""
        return score(1 / (self.reference_count + 1))

    def judge(self, features: Features) -> Judgement:
        """Verdict on one cycle. NotDecidable, with the reason, for a cycle that is incomplete or not comparable."""
        reason = features.defect or self._unfit(features)
        if reason:
            return Judgement(verdict=Verdict.NOT_DECIDABLE, reason=reason)
        vector = self._vector(features)
        t2, spe = self.statistics(vector)
        distance = float(combined(t2, spe, self.t2_limit, self.spe_limit))
        exceeded = int(np.count_nonzero(self.distances >= distance))
        n = self.reference_count
        p = (1 + exceeded) / (n + 1)
        low, high = wilson(exceeded, n)
        ratio = distance / self.limit
        contributions = self._contributions(vector)
        beyond = self._beyond(vector)
        bad = ratio > 1
        return Judgement(
            verdict=Verdict.NOT_OK if bad else Verdict.OK,
            reason=_why(self.product, ratio, p, contributions, beyond) if bad else "",
            score=score(p),
            uncertainty=(score(high) - score(low)) / 2,
            anomaly=ratio / (1 + ratio),
            p=p,
            ratio=ratio,
            t2=t2,
            spe=spe,
            contributions=contributions,
            beyond=beyond,
            vector=tuple(map(float, vector)),
        )

    def statistics(self, vector: Floats) -> tuple[float, float]:
        """T2 and SPE of one feature vector, shape (d,)."""
        t2, spe = distances(vector[None, :], self.mean, self.scale, self.components, self.variances)
        return float(t2[0]), float(spe[0])

    def _vector(self, features: Features) -> Floats:
        position = {name: i for i, name in enumerate(features.names)}
        return features.values[[position[name] for name in self.features]]

    def _unfit(self, features: Features) -> str:
        """Why the features cannot be compared with this fingerprint; empty when they can (process rule 3)."""
        if missing := sorted(set(self.features) - set(features.names)):
            return f"{self.product} was learned from other channels: no {missing[0]}"
        rows = [features.channels.index(c) for c in self.channels]
        if reasons := [features.reasons[i] for i in rows if features.reasons[i]]:
            return "; ".join(reasons[:3]) + (f"; {len(reasons) - 3} more" if len(reasons) > 3 else "")
        level, drift = features.level[rows], np.abs(features.drift[rows])
        off = (level < self.level_low) | (level > self.level_high)
        steep = drift > self.drift_limit
        if off.any() or steep.any():
            i = int(np.argmax(off | steep))
            what = "level" if off[i] else "drift"
            return f"CARRY_OVER: baseline {what} of {self.channels[i]} is outside what {self.product} was learned with"
        return ""

    def _beyond(self, vector: Floats) -> tuple[tuple[str, float], ...]:
        z = (vector - self.mean) / self.scale
        far = np.flatnonzero(np.abs(z) > self.sigma_limit)
        return tuple((self.features[i], float(z[i])) for i in far[np.argsort(-np.abs(z[far]), kind="stable")])

    def _contributions(self, vector: Floats) -> tuple[tuple[str, float], ...]:
        """Share of each channel in the distances.

        T2 falls apart exactly into the squares of M^(1/2) z, M = P' L^-1 P (complete decomposition of Alcala and Qin),
        SPE into the squared residuals; each statistic in units of its limit.
        """
        z = (vector - self.mean) / self.scale
        t = self.components @ z
        inside = (self.components.T @ (t / np.sqrt(self.variances))) ** 2
        outside = (z - self.components.T @ t) ** 2
        part = inside / self.t2_limit + outside / self.spe_limit
        total = float(part.sum())
        of = np.array(self.feature_channels)
        shares = [(c, float(part[of == c].sum()) / total if total else 1 / len(self.channels)) for c in self.channels]
        return tuple(sorted(shares, key=lambda s: (-s[1], s[0])))

    def to_bytes(self) -> bytes:
        """Canonical JSON (RFC 8785): equal fingerprints give equal bytes."""
        body: dict[str, Any] = {f.name: _plain(getattr(self, f.name)) for f in fields(self)}
        return rfc8785.dumps({"format": FORMAT, "fingerprint": body})

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of `to_bytes()`."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    @classmethod
    def from_bytes(cls, data: bytes, digest: str) -> Self:
        """The fingerprint that `to_bytes` wrote.

        Raises IntegrityError when the bytes are not those of the digest, InvalidArgument for an unknown format.
        """
        if hashlib.sha256(data).hexdigest() != digest:
            raise IntegrityError("fingerprint", f"its SHA-256 is not {digest}")
        document = json.loads(data)
        if document.get("format") != FORMAT:
            raise InvalidArgument(f"fingerprint of format {document.get('format')}; this release reads {FORMAT}")
        body = document["fingerprint"]
        arrays = {f.name for f in fields(cls) if f.type == Floats}
        return cls(**{name: _restored(value, name in arrays) for name, value in body.items()})


def identify(features: Features, known: Sequence[Fingerprint]) -> tuple[str, float]:
    """Product a cycle is most like, and the confidence in that, 0..1.

    `unknown` when it is beyond the limit of every fingerprint that can judge it. The confidence is one minus the
    p-value of the next best answer (Shafer and Vovk, section 2), of which n cycles can tell no less than 1 / (n + 1).
    NaN when no fingerprint can judge the cycle.
    """
    judged = [(f, f.judge(features)) for f in known]
    ranked = sorted(
        ((j.ratio, -j.p, f.product, f.reference_count) for f, j in judged if j.verdict is not Verdict.NOT_DECIDABLE),
    )
    if not ranked:
        return "", math.nan
    ratio, _, product, count = ranked[0]
    if ratio > 1:
        return UNKNOWN, 1 + min(p for _, p, _, _ in ranked)
    others = [-p for _, p, name, _ in ranked[1:] if name != product]
    return product, 1 - max([*others, 1 / (count + 1)])


def score(p: float) -> float:
    """Score 0..100 of a p-value: the stated map of process rule 2."""
    return 100 * max(0.0, 1 + math.log10(p) / 3) if p > 0 else 0.0


def wilson(hits: int, trials: int) -> tuple[float, float]:
    """Wilson 95 % interval of a share."""
    z2 = NORMAL_975**2
    centre = (hits + z2 / 2) / (trials + z2)
    half = NORMAL_975 / (trials + z2) * math.sqrt(hits * (trials - hits) / trials + z2 / 4)
    return (0.0 if hits == 0 else centre - half), (1.0 if hits == trials else centre + half)


def distances(x: Floats, mean: Floats, scale: Floats, components: Floats, variances: Floats) -> tuple[Floats, Floats]:
    """T2 and SPE of feature vectors, shapes (m, d) -> (m,), (m,)."""
    z = (x - mean) / scale
    t = z @ components.T
    residual = z - t @ components
    return (t**2 / variances).sum(axis=1), (residual**2).sum(axis=1)


def combined(t2: Floats | float, spe: Floats | float, t2_limit: float, spe_limit: float) -> Floats:
    """The larger of T2 and SPE, each in units of its limit; at least `NEAREST`."""
    return np.maximum(np.maximum(t2 / t2_limit, spe / spe_limit), NEAREST)


def _why(
    product: str,
    ratio: float,
    p: float,
    contributions: Sequence[tuple[str, float]],
    beyond: Sequence[tuple[str, float]],
) -> str:
    top = ", ".join(f"{c} {share:.0%}" for c, share in contributions[:3])
    alone = ", ".join(f"{name} {sigmas:+.1f} sigma" for name, sigmas in beyond[:3])
    return f"{ratio:.2f} times the limit of {product}, p {p:.3g}; mostly {top}" + (f"; {alone}" if alone else "")


def _plain(value: object) -> object:
    return value.tolist() if isinstance(value, np.ndarray) else value


def _restored(value: Any, array: bool) -> Any:
    if array:
        return np.array(value, np.float64)
    return tuple(value) if isinstance(value, list) else value
