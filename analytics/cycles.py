"""Rows of one sampling stream -> complete acquisition cycles (process rule 1)."""

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nodesets.model import Codes, Floats, Phase

SHORTEST = 0.8
"""Share of its configured length a phase must have lasted: what is shorter was stopped early."""
GAP = 2.5
"""Longest step between two rows, in periods: one row may be missing, two in a row leave a hole in a transient."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cycle:
    """Baseline and exposure of one acquisition, n columns of the device over m rows."""

    counter: int
    """The device's own count of its cycles."""
    started: int
    """Source time of the first row, ns UTC."""
    stopped: int
    """Source time of the last row of exposure, ns UTC: the time of the result."""
    times: NDArray[np.int64]
    """Source times, shape (m,); rising unless the defect says otherwise."""
    values: Floats
    """Shape (m, n)."""
    status: Codes
    """`Quality`, shape (m, n)."""
    phases: NDArray[np.int8]
    """`Phase.BASELINE` or `Phase.EXPOSURE`, shape (m,)."""
    defect: str
    """Why the cycle is incomplete, hence not decidable; empty when it is complete."""


@dataclass(frozen=True, slots=True)
class _Row:
    time: int
    values: Floats
    status: Codes


class CycleAssembler:
    """Gathers the rows of one stream and gives out each cycle when its exposure ends.

        period:    seconds between rows
        baseline:  seconds of reference air the stream is configured for
        exposure:  seconds of sample

    Memory is bounded: the baseline keeps its newest rows, an exposure that does not end is cut.
    """

    def __init__(self, *, period: float, baseline: float, exposure: float) -> None:
        self._period = period
        self._seconds = {Phase.BASELINE: baseline, Phase.EXPOSURE: exposure}
        self._baseline: deque[_Row] = deque(maxlen=2 * int(baseline / period) + 2)
        self._exposure: list[_Row] = []
        self._longest = 2 * int(exposure / period) + 2
        self._phase = Phase.UNKNOWN
        self._counters: set[int] = set()
        self._overflow = False
        self._last_time: int | None = None

    def add(self, time: int, values: Floats, status: Codes, phase: Phase, counter: int) -> Cycle | None:
        """Take the next row; the cycle that it ends, else None.

        Left out: a row with the time of the one before, which is the same measurement polled again, and one of unknown
        phase, which is a failed poll. What such rows leave open shows as a gap.
        """
        if time == self._last_time or phase is Phase.UNKNOWN:
            return None
        self._last_time = time
        finished = self._finish() if self._begins_anew(phase, counter) else None
        self._phase = phase
        if phase in self._seconds:
            self._counters.add(counter)
        self._keep(_Row(time, values, status), phase)
        return finished

    def _begins_anew(self, phase: Phase, counter: int) -> bool:
        """Does a row of this phase and counter end what was gathered so far?"""
        if phase is Phase.EXPOSURE:
            return self._phase is Phase.EXPOSURE and counter not in self._counters
        if phase is Phase.BASELINE:
            return self._phase is not Phase.BASELINE or counter not in self._counters
        return self._phase in self._seconds

    def _keep(self, row: _Row, phase: Phase) -> None:
        if phase is Phase.BASELINE:
            self._baseline.append(row)
        elif phase is Phase.EXPOSURE and len(self._exposure) < self._longest:
            self._exposure.append(row)
        elif phase is Phase.EXPOSURE:
            self._overflow = True

    def _finish(self) -> Cycle | None:
        """The gathered cycle, if sample was let in at all; gathering begins anew."""
        cycle = self._cycle() if self._exposure else None
        self._baseline.clear()
        self._exposure.clear()
        self._counters.clear()
        self._overflow = False
        return cycle

    def _cycle(self) -> Cycle:
        rows = [*self._baseline, *self._exposure]
        times = np.array([r.time for r in rows], np.int64)
        phases = np.array([Phase.BASELINE] * len(self._baseline) + [Phase.EXPOSURE] * len(self._exposure), np.int8)
        return Cycle(
            counter=max(self._counters),
            started=rows[0].time,
            stopped=rows[-1].time,
            times=times,
            values=np.array([r.values for r in rows]),
            status=np.array([r.status for r in rows]),
            phases=phases,
            defect=self._defect(times, phases),
        )

    def _defect(self, times: NDArray[np.int64], phases: NDArray[np.int8]) -> str:
        if len(self._counters) > 1:
            return f"cycle counter jumped: {', '.join(map(str, sorted(self._counters)))}"
        if self._overflow:
            return f"exposure did not end within {self._longest} rows"
        steps = np.diff(times)
        if (steps < 0).any():
            return "device time went back"
        for phase, seconds in self._seconds.items():
            inside = times[phases == phase]
            # a row stands for the period that follows it
            lasted = (inside[-1] - inside[0]) / 1e9 + self._period if len(inside) else 0.0
            if lasted < SHORTEST * seconds:
                return f"{phase.name.lower()} lasted {lasted:g} s of {seconds:g} s"
        longest = float(steps.max()) / 1e9
        if longest > GAP * self._period:
            return f"{longest:g} s without a sample"
        return ""
