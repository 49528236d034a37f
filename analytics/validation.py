"""Frame -> quality of each value: the only place where quality is decided.

One table; the lowest row that applies to a value wins, so Bad beats Uncertain beats Good:

    =========================================  ==================================================  ==============
    what                                       StatusCode                                          value shown
    =========================================  ==================================================  ==============
    nothing                                    Good                                                measured
    device clock out of tolerance, time going  UncertainSubNormal                                  measured
    back
    outside EURange                            UncertainEngineeringUnitsExceeded                   measured
    changes faster than max_rate               UncertainSensorNotAccurate                          measured
    bit-identical for stuck_after              UncertainSensorNotAccurate                          measured
    heartbeat frozen                           UncertainLastUsableValue                            last usable
    no communication, up to LINK_PATIENCE      UncertainNoCommunicationLastUsableValue             last usable
    sentinel, NaN, infinite, fault of channel  BadSensorFailure                                    null
    silent beyond patience                     BadNoCommunication                                  null
    silent, and nothing measured yet           BadWaitingForInitialData                            null
    =========================================  ==================================================  ==============

StatusCodes: Part 4 7.39.2, Part 8 6.3. UncertainSubNormal means that fewer sources than required are good: a sample has
two, the sensor and the clock that dates it, and of these only the sensor is (process rule 21).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from config.schema import Column
from nodesets.model import Cause, Codes, Finding, Floats, Frame, Quality

Mask = NDArray[np.bool_]

LINK_PATIENCE = 2
"""Polls without an answer for which the last usable value is still shown (fault F10)."""
FROZEN_PATIENCE = 10
"""Polls with a frozen heartbeat for which it is; more than for a lost link, because a device may count more slowly than
it is polled. Beyond it the source is stalled, and a stalled source becomes Bad (information model, SCADA point 6)."""

_SILENT = np.array([c in (Cause.LINK_LOST, Cause.PROTOCOL, Cause.EXCEPTION) for c in Cause])
_FAULTY = np.array([c in (Cause.SENTINEL, Cause.NOT_A_NUMBER, Cause.CHANNEL_FAULT) for c in Cause])
_UNCERTAIN, _BAD = np.uint32(0x40000000), np.uint32(0x80000000)
_NONE = np.zeros(0, np.bool_)
_NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True, kw_only=True)
class Validated:
    """Quality of one frame. Arrays have the shape (n,) of `Frame.values`."""

    time: int
    """Source time of the frame, ns UTC."""
    values: Floats
    """What to show: measured, or last usable, or NaN for null where the status is Bad."""
    status: Codes
    """`Quality`."""
    data_quality: float
    """Mean over the values of Good 1, Uncertain 0.5, Bad 0."""
    fresh: bool
    """False of a measurement that was seen before (same source time): there is nothing new to record."""
    lost: str
    """Why the device is lost: nothing communicated, or the same old data, beyond patience. Empty: it is not."""
    failed: Mask
    """Values whose sensor has failed: BadSensorFailure, or stuck."""


def waiting(count: int) -> Validated:
    """What is shown of `count` values before the first frame (fault F14)."""
    return Validated(
        time=0,
        values=np.full(count, np.nan),
        status=np.full(count, Quality.BAD_WAITING_FOR_INITIAL_DATA, np.uint32),
        data_quality=0.0,
        fresh=False,
        lost="",
        failed=np.zeros(count, np.bool_),
    )


class Validator:
    """Validates the frames of one device, in the order they came. Depends on nothing but these frames.

    A few vectorised steps over the columns, no loop over them; a frame without a doubt needs only the first of them.

        columns:  what the frames hold, `config.schema.Device.columns`
    """

    def __init__(self, columns: Sequence[Column]) -> None:
        n = len(columns)
        self._low = np.array([c.tag.low for c in columns])
        self._high = np.array([c.tag.high for c in columns])
        self._rates = _Rates(columns)
        self._repeats = _Repeats(columns)
        self._none, self._good = np.zeros(n, np.bool_), np.zeros(n, np.uint32)
        self._none.flags.writeable = self._good.flags.writeable = False
        self._last = waiting(n)
        self._usable = np.full(n, np.nan)  # last value that was measured
        self._silent = np.zeros(n, np.int64)
        self._frozen = np.zeros(n, np.int64)
        self._measured_at = np.iinfo(np.int64).min
        self._causes = np.full(n, Cause.NONE, np.uint8)  # of the last frame
        self._told = False  # whether there were any

    def validate(self, frame: Frame) -> Validated:
        """Quality of the frame's values. A column that is measured well again is Good again at once."""
        values, causes = frame.values, frame.causes
        told, silent, frozen = bool(causes.any()), self._none, self._none
        if told or self._told:
            silent, frozen = _SILENT[causes], causes == Cause.FROZEN
            self._silent = np.where(silent, self._silent + 1, 0)
            self._frozen = np.where(frozen, self._frozen + 1, 0)
        self._told = told
        answered = ~(silent | frozen)
        backwards = False
        if answered.any():
            if frame.source_time == self._last.time == self._measured_at and np.array_equal(causes, self._causes):
                return replace(self._last, fresh=False)
            backwards = frame.source_time < self._measured_at
            self._measured_at = frame.source_time
        if backwards:
            self._rates.forget()
        self._causes = causes

        measured = np.isfinite(values)
        if told:
            measured &= answered & ~_FAULTY[causes]
        every = bool(measured.all())
        outside = (values < self._low) | (values > self._high)
        fast = self._rates.exceeded(frame, measured)
        stuck = self._repeats.exceeded(frame, measured)
        self._usable = values if every else np.where(measured, values, self._usable)
        if every and not (told or backwards or outside.any() or fast.any() or stuck.any()):
            self._last = Validated(
                time=frame.source_time,
                values=values,
                status=self._good,
                data_quality=1.0,
                fresh=True,
                lost="",
                failed=self._none,
            )
            return self._last

        faulty = answered & ~measured
        fast, stuck = self._among_all(self._rates.columns, fast), self._among_all(self._repeats.columns, stuck)
        status = self._good.copy()
        status[measured & (backwards | (causes == Cause.CLOCK))] = Quality.UNCERTAIN_SUBNORMAL
        status[measured & outside] = Quality.UNCERTAIN_ENGINEERING_UNITS_EXCEEDED
        status[fast | stuck] = Quality.UNCERTAIN_SENSOR_NOT_ACCURATE
        status[frozen] = Quality.UNCERTAIN_LAST_USABLE
        status[silent] = Quality.UNCERTAIN_NO_COMMUNICATION_LAST_USABLE
        status[faulty] = Quality.BAD_SENSOR_FAILURE
        lost = self._silent > LINK_PATIENCE
        beyond = lost | (self._frozen > FROZEN_PATIENCE)
        status[beyond] = Quality.BAD_NO_COMMUNICATION
        status[~answered & ~beyond & np.isnan(self._usable)] = Quality.BAD_WAITING_FOR_INITIAL_DATA

        bad = status >= _BAD
        self._last = Validated(
            time=frame.source_time,
            values=np.where(bad, np.nan, self._usable),
            status=status,
            data_quality=float(np.mean(np.where(bad, 0.0, np.where(status >= _UNCERTAIN, 0.5, 1.0)))),
            fresh=True,
            lost=_lost(lost, beyond),
            # what cannot be asked has the health it last had
            failed=np.where(answered, faulty | stuck, self._last.failed),
        )
        return self._last

    def _among_all(self, columns: NDArray[np.intp], mask: Mask) -> Mask:
        spread = self._none.copy()
        spread[columns] = mask
        return spread


class _Rates:
    """Columns that have a max_rate: values that no believable change leads to from the last believed one.

    The longer ago that is, the further the value may have gone: a true step is believed after step / max_rate
    seconds, and a spike is doubted once, not again on its way back.
    """

    def __init__(self, columns: Sequence[Column]) -> None:
        self.columns = np.array([i for i, c in enumerate(columns) if c.max_rate is not None], np.intp)
        self._most = np.array([c.max_rate for c in columns if c.max_rate is not None])
        self._believed = np.full(len(self.columns), np.nan)
        self._believed_at = np.zeros(len(self.columns), np.int64)

    def forget(self) -> None:
        """No rate can be told across a step of the clock."""
        self._believed[:] = np.nan

    def exceeded(self, frame: Frame, measured: Mask) -> Mask:
        """Of each of `columns`."""
        if not len(self.columns):
            return _NONE
        values, measured = frame.values[self.columns], measured[self.columns]
        seconds = np.maximum(frame.source_time - self._believed_at, 0) / 1e9
        with np.errstate(invalid="ignore"):
            fast: Mask = measured & (np.abs(values - self._believed) > self._most * seconds)
        believed = measured & ~fast
        self._believed = np.where(believed, values, self._believed)
        self._believed_at = np.where(believed, frame.source_time, self._believed_at)
        return fast


class _Repeats:
    """Columns that have a stuck_after: values that have been bit-identical in every frame for so long (fault F11).

    Nothing is known of the time a column was not measured, so the count begins anew after it.
    """

    def __init__(self, columns: Sequence[Column]) -> None:
        self.columns = np.array([i for i, c in enumerate(columns) if c.stuck_after is not None], np.intp)
        self._longest = np.array([c.stuck_after for c in columns if c.stuck_after is not None])
        self._last = np.full(len(self.columns), np.nan)  # that was measured
        self._since = np.full(len(self.columns), _NEVER)

    def exceeded(self, frame: Frame, measured: Mask) -> Mask:
        """Of each of `columns`."""
        if not len(self.columns):
            return _NONE
        values, measured = frame.values[self.columns], measured[self.columns]
        same = measured & (values == self._last)
        since = np.where(same, np.minimum(self._since, frame.source_time), frame.source_time)
        self._since = np.where(measured, since, _NEVER)
        self._last = np.where(measured, values, self._last)
        stuck: Mask = measured & ((frame.source_time - since) / 1e9 >= self._longest)
        return stuck


def _lost(silent: Mask, beyond: Mask) -> str:
    if not beyond.all():
        return ""
    return "no communication" if silent.any() else "answers, but its heartbeat stands still: old data"


def findings(
    device: str, columns: Sequence[Column], before: Validated, after: Validated, time: int
) -> tuple[Finding, ...]:
    """What came or went between two validations of one device: `CommunicationLost` and `SensorFailure`.

    `SensorFailure` is found anew whenever the set of failed sensors changes, so that its text always names them all.
    """
    found = []
    if after.lost != before.lost:
        text = f"{device}: {after.lost}" if after.lost else f"{device}: communicates again"
        found.append(
            Finding(
                kind="CommunicationLost",
                source=device,
                time=time,
                level="Active" if after.lost else "",
                text=text,
            )
        )
    if not np.array_equal(after.failed, before.failed):
        names = ", ".join(columns[int(i)].tag.node.removeprefix(f"{device}.") for i in np.flatnonzero(after.failed))
        found.append(
            Finding(
                kind="SensorFailure",
                source=device,
                time=time,
                level="Active" if names else "",
                value=float(np.count_nonzero(after.failed)),
                limit=0.0,
                text=f"{device}: failed {names}" if names else f"{device}: all sensors work again",
                details={"Channels": names},
            )
        )
    return tuple(found)
