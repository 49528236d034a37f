"""What a simulated device of any size shows when nobody needs to believe it: sines and noise, one numpy row a frame."""

import numpy as np

from config.schema import Device, StatusBit
from opcua_server.drivers.physics import SECOND, State, Timeline

WAVES = "waves"
"""`Device.scenario` of such a device."""
NOISE = 0.01
"""Standard deviation, share of the range."""
FRAMES = 512
"""After which everything repeats: drawn at the start, so that a benchmark does not measure the generator."""


class Waves:
    """Each channel swings through the middle half of its range, in 2 to 20 waves until everything repeats."""

    def __init__(self, device: Device, seed: int) -> None:
        rng = np.random.default_rng([seed, device.unit])
        low, high = np.array([c.range for c in device.channels]).T
        n = len(low)
        waves = rng.integers(2, 20, n, endpoint=True) * np.linspace(0, 2 * np.pi, FRAMES, endpoint=False)[:, None]
        wide = high - low
        self._values = low + wide * (0.5 + np.sin(waves) / 4 + NOISE * rng.standard_normal((FRAMES, n)))
        stream = device.streams[0]
        self.timeline = Timeline.continuous((stream.baseline, stream.exposure, stream.purge))
        self._period = round(device.period * SECOND)
        self._nothing = np.full(n, np.nan)
        self._working = np.zeros(n, np.bool_)

    def at(self, t: int, timeline: Timeline) -> State:
        """The device at t ns."""
        phase, cycle = timeline.at(t)
        return State(
            channels=self._values[t // self._period % FRAMES],
            environment={},
            heaters=self._nothing,
            failed=self._working,
            phase=phase,
            cycle=cycle,
            flags=StatusBit.SIMULATED,
            link=True,
        )
