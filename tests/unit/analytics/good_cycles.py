"""Good cycles made up for tests: responses of four channels, some lots, seeded."""

import numpy as np

from analytics.features import Features

CHANNELS = ("S01", "S02", "S03", "S04")
RESPONSE = np.array([-1.0, -0.8, -0.5, -0.3])


def features(response, rise=None, level=None, drift=None, reasons=("",) * 4, defect="") -> Features:
    """Features of one cycle with these responses, shape (4,)."""
    rise = np.asarray(response) / 4 if rise is None else rise
    values = np.column_stack([response, rise])
    values[[bool(r) for r in reasons]] = np.nan
    return Features(
        channels=CHANNELS,
        names=tuple(f"{c}.{w}" for c in CHANNELS for w in ("ratio", "ratio_rise")),
        values=values.ravel(),
        baseline=np.full(4, 100.0),
        level=np.full(4, np.log(100.0)) if level is None else np.asarray(level),
        drift=np.zeros(4) if drift is None else np.asarray(drift),
        normalized=np.exp(np.asarray(response)),
        reasons=tuple(reasons),
        defect=defect,
    )


def good(lots: int = 4, each: int = 25, seed: int = 0, response=RESPONSE) -> tuple[list[Features], list[str]]:
    """Cycles whose strength varies together by 5 % and each feature alone by 0.01; lots differ by 1 %."""
    rng = np.random.default_rng(seed)
    cycles, names = [], []
    for lot in range(lots):
        strength = rng.normal(1, 0.01)
        for _ in range(each):
            r = response * (strength + rng.normal(0, 0.05)) + rng.normal(0, 0.01, 4)
            cycles.append(features(r, rise=r / 4 + rng.normal(0, 0.01, 4)))
            names.append(f"L{lot}")
    return cycles, names
