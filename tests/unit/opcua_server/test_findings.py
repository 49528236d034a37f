"""What a device's frames say that an alarm has to know."""

import numpy as np
import pytest

from analytics.limits import Limit
from analytics.validation import Validator, waiting
from config.load import DEMO, load
from config.schema import StatusBit
from nodesets.model import Cause, Frame, Phase, Quality
from nodesets.types import DeviceHealth
from opcua_server.findings import DeviceWatch, health

PLANT = load(DEMO)
DEVICE = PLANT.device("EN02")
COLUMNS = DEVICE.columns(PLANT.registers(DEVICE))
SECOND = 1_000_000_000


class Watched:
    def __init__(self, **settings):
        self.watch = DeviceWatch(DEVICE, COLUMNS, **settings)
        self.validator, self.last, self.seconds = Validator(COLUMNS), waiting(len(COLUMNS)), 0

    def frame(self, value=0.0, *, phase=Phase.BASELINE, flags=0, lost=False):
        self.seconds += 1
        n, time = len(COLUMNS), self.seconds * SECOND
        values = np.full(n, float(value)) + self.seconds * 1e-6
        made = Frame(
            device=DEVICE.id,
            source_time=time,
            received_time=time,
            values=np.full(n, np.nan) if lost else values,
            causes=np.full(n, Cause.LINK_LOST if lost else Cause.NONE, np.uint8),
            phase=Phase.UNKNOWN if lost else phase,
            flags=0 if lost else flags,
        )
        before, self.last = self.last, self.validator.validate(made)
        self.judged = {(b.kind, b.source): b.quality for b in self.watch.judged(made, self.last)}
        found = list(self.watch.look(made, before, self.last))
        return [(f.kind, f.source, f.level) for f in found]


@pytest.mark.parametrize(
    ("bit", "kind"), [(StatusBit.HEATER_FAILURE, "HeaterFailure"), (StatusBit.FLOW_LOW, "FlowLow")]
)
def test_a_bit_of_the_status_is_found_once_and_over_once(bit, kind):
    watched = Watched()
    assert watched.frame() == []
    assert (kind, "EN02", "Active") in watched.frame(flags=bit)
    assert watched.frame(flags=bit) == []
    assert (kind, "EN02", "") in watched.frame()


def test_no_flow_is_no_news_while_it_purges():
    watched = Watched()
    watched.frame()
    assert [f for f in watched.frame(phase=Phase.PURGE, flags=StatusBit.FLOW_LOW) if f[0] == "FlowLow"] == []
    assert ("FlowLow", "EN02", "Active") in watched.frame(phase=Phase.BASELINE, flags=StatusBit.FLOW_LOW)
    assert ("FlowLow", "EN02", "") in watched.frame(phase=Phase.PURGE, flags=StatusBit.FLOW_LOW)


def test_a_device_that_does_not_answer_says_nothing_of_its_heaters():
    watched = Watched()
    watched.frame(flags=StatusBit.HEATER_FAILURE)
    found = [f for _ in range(5) for f in watched.frame(lost=True)]
    assert ("CommunicationLost", "EN02", "Active") in found
    assert not [f for f in found if f[0] == "HeaterFailure"]


def test_limits_of_channels_are_watched_in_their_phases_only():
    # Process rule 19.
    limits = [Limit(high=100.0)] + [Limit()] * (len(DEVICE.channels) - 1)
    watched = Watched(limits=limits)
    assert watched.frame(150, phase=Phase.EXPOSURE) == []
    assert watched.frame(150) == [("LevelAlarm", "EN02.Array.S01", "High")]
    assert watched.frame(0, phase=Phase.EXPOSURE) == []
    assert watched.frame(0) == [("LevelAlarm", "EN02.Array.S01", "")]


def test_what_an_earlier_run_left_is_over_with_the_first_frame_that_says_so():
    # An alarm that comes back from the disk and is over meanwhile would stay active for ever.
    limits = [Limit(high=100.0)] + [Limit()] * (len(DEVICE.channels) - 1)
    held = dict.fromkeys((("CommunicationLost", "EN02"), ("SensorFailure", "EN02"), ("FlowLow", "EN02")), "Active")
    watched = Watched(limits=limits, held={**held, ("LevelAlarm", "EN02.Array.S01"): "High"})
    assert watched.frame(lost=True) == []
    assert set(watched.frame()) == {(kind, source, "") for kind, source in held} | {
        ("LevelAlarm", "EN02.Array.S01", "")
    }


@pytest.mark.parametrize(
    ("silent", "failed", "flags", "expected"),
    [
        (True, True, 0xFF, DeviceHealth.FAILURE),
        (False, True, 0, DeviceHealth.MAINTENANCE_REQUIRED),
        (False, False, StatusBit.FLOW_LOW, DeviceHealth.MAINTENANCE_REQUIRED),
        (False, False, StatusBit.CALIBRATING, DeviceHealth.CHECK_FUNCTION),
        (False, False, StatusBit.SIMULATED, DeviceHealth.NORMAL),
    ],
)
def test_health_is_the_worst_that_holds(silent, failed, flags, expected):
    assert health(silent, failed, flags) is expected


def test_health_is_found_when_it_changes():
    watched = Watched()
    watched.frame()
    assert ("DeviceCheckFunction", "EN02", "Active") in watched.frame(flags=StatusBit.CALIBRATING)
    assert ("DeviceCheckFunction", "EN02", "") in watched.frame()


# -- how sure


LINK = [Quality.UNCERTAIN_NO_COMMUNICATION_LAST_USABLE, Quality.BAD_NO_COMMUNICATION]
OF_EN02 = [(kind, "EN02") for kind in ("SensorFailure", "HeaterFailure", "FlowLow")]
OF_STREAM = [(kind, "EN02.Stream01") for kind in ("AnomalyDetected", "FingerprintDeviation", "QualityScoreLow")]


def test_what_a_device_says_of_itself_is_as_sure_as_its_answers():
    # Part 9 5.5.2: of a device that does not answer its alarms know nothing.
    watched = Watched()
    watched.frame()
    assert {watched.judged[alarm] for alarm in OF_EN02} == {Quality.GOOD}
    told = []
    for _ in range(5):
        watched.frame(lost=True)
        told += [{watched.judged[alarm] for alarm in OF_EN02}] if watched.judged else []
    assert told == [{LINK[0]}, {LINK[1]}]


def test_a_sensor_that_fails_leaves_what_its_device_says_of_itself_sure():
    watched = Watched()
    watched.frame()
    watched.frame(np.nan)
    assert watched.judged == {}


def test_the_limits_of_a_channel_are_as_sure_as_its_value():
    limits = [Limit(high=100.0)] + [Limit()] * (len(DEVICE.channels) - 1)
    watched = Watched(limits=limits)
    level = ("LevelAlarm", "EN02.Array.S01")
    watched.frame()
    assert watched.judged[level] == Quality.GOOD
    assert ("LevelAlarm", "EN02.Array.S02") not in watched.judged  # without limits it is disabled
    watched.frame(1e6)
    assert watched.judged == {level: Quality.UNCERTAIN_ENGINEERING_UNITS_EXCEEDED}
    watched.frame(np.nan)
    assert watched.judged == {level: Quality.BAD_SENSOR_FAILURE}


def test_the_alarms_of_a_stream_are_as_sure_as_its_newest_result():
    # Process rule 1: a cycle that is not decidable decides nothing of the one before either.
    watched = Watched()
    watched.frame()
    told = [
        {(b.kind, b.source): b.quality for b in watched.watch.decided(decided, 1)}
        for decided in (True, True, False, True)
    ]
    good, bad = dict.fromkeys(OF_STREAM, Quality.GOOD), dict.fromkeys(OF_STREAM, Quality.BAD_NO_DATA)
    assert told == [good, {}, bad, good]
    judged = {}
    for _ in range(5):
        watched.frame(lost=True)
        judged |= watched.judged
    assert {judged[alarm] for alarm in OF_STREAM} == {LINK[1]}
    for _ in range(7):
        watched.frame()
        judged |= watched.judged
    assert {judged[alarm] for alarm in OF_STREAM} == {Quality.GOOD}
