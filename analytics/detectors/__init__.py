"""Detectors of abnormal cycles, one algorithm a file. A new one is a file and a row of the table.

Each `learn(x, lots, alpha)` takes the features of good cycles, shape (m, d), and the lot of each, and gives a
`nodesets.ports.Detector`: `score(x)` of one feature vector, shape (d,), higher is more abnormal, 1.0 is the limit. It
raises NoData for fewer than three lots or 1 / alpha - 1 cycles (process rule 2).
"""

from collections.abc import Callable, Sequence

from analytics.detectors import shewhart, subspace
from nodesets.model import Floats
from nodesets.ports import Detector

Learn = Callable[[Floats, Sequence[str], float], Detector]

DETECTORS: dict[str, Learn] = {
    "shewhart": shewhart.learn,
    "subspace": subspace.learn,
}
