"""The quality of what alarms are judged by, without its flicker: many at once.

A doubt is told as soon as there is one. That it is over is told when it has lasted: a link that flaps each second must
not have every alarm of its device tell of it each second (fault F13). One doubt for another of the same weight is told
when it has lasted too.
"""

import numpy as np
from numpy.typing import NDArray

from nodesets.model import Codes, Quality

SECOND = 1_000_000_000
CALM = 5.0
"""Seconds a quality that is no worse has to last: as long as CommunicationLost waits until it is over."""


class Qualities:
    """Follows n values; each begins as BadWaitingForInitialData, whose end is told at once."""

    def __init__(self, n: int) -> None:
        self.settled: Codes = np.full(n, Quality.BAD_WAITING_FOR_INITIAL_DATA, np.uint32)
        """What is told, shape (n,)."""
        self._wanted = self.settled.copy()
        """What the frames say since `_since`."""
        self._since = np.zeros(n, np.int64)
        self.calm = False
        """Nothing waits: the same codes again change nothing, whatever the time."""

    def changed(self, codes: Codes, time: int) -> NDArray[np.intp]:
        """Take in the `Quality` of each value, shape (n,), at a time in ns UTC; those whose settled one is new now."""
        moved = codes != self._wanted
        self._wanted = codes
        self._since[moved] = time
        waits = codes != self.settled
        at_once = (codes >> 30 > self.settled >> 30) | (self.settled == Quality.BAD_WAITING_FOR_INITIAL_DATA)
        new = np.flatnonzero(waits & (at_once | (time - self._since >= CALM * SECOND)))
        self.settled[new] = codes[new]
        self.calm = not (codes != self.settled).any()
        return new
