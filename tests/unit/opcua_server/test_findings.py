"""What a device's frames say that an alarm has to know."""

from dataclasses import replace

import numpy as np
import pytest

from analytics.learning import learn
from analytics.limits import Limit
from analytics.validation import Validator, waiting
from config.load import DEMO, load
from config.schema import Redundant, StatusBit
from nodesets.model import Cause, Frame, Phase, Quality
from nodesets.types import DeviceHealth
from opcua_server.findings import CycleWatch, DeviceWatch, health
from tests.unit.analytics.good_cycles import good

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
        values = np.full(n, 20.0) + self.seconds * 1e-6
        values[: len(DEVICE.channels)] += value - 20.0
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
    ("silent", "failed", "outside", "flags", "expected"),
    [
        (True, True, True, 0xFF, DeviceHealth.FAILURE),
        (False, True, True, StatusBit.CALIBRATING, DeviceHealth.CHECK_FUNCTION),
        (False, True, True, StatusBit.FLOW_LOW, DeviceHealth.OFF_SPEC),
        (False, True, False, 0, DeviceHealth.MAINTENANCE_REQUIRED),
        (False, False, False, StatusBit.FLOW_LOW, DeviceHealth.MAINTENANCE_REQUIRED),
        (False, False, False, StatusBit.SIMULATED, DeviceHealth.NORMAL),
    ],
)
def test_health_is_the_first_that_holds_in_the_order_of_namur(silent, failed, outside, flags, expected):
    assert health(silent, failed, outside, flags) is expected


def test_health_is_found_when_it_changes():
    watched = Watched()
    watched.frame()
    assert ("DeviceCheckFunction", "EN02", "Active") in watched.frame(flags=StatusBit.CALIBRATING)
    assert ("DeviceCheckFunction", "EN02", "") in watched.frame()


def test_what_is_outside_its_range_is_found_by_name_but_not_while_it_is_calibrated():
    # NAMUR NE 107: out of specification; a function check measures outside the range on purpose.
    watched = Watched()
    watched.frame()
    assert ("DeviceOffSpec", "EN02", "Active") in watched.frame(1e6)
    assert watched.frame(1e6) == []
    assert [f for f in watched.frame(lost=True) if f[0] == "DeviceOffSpec"] == []  # of what is silent nothing is known
    assert ("DeviceOffSpec", "EN02", "") in watched.frame()
    found = watched.frame(1e6, flags=StatusBit.CALIBRATING) + watched.frame(flags=StatusBit.CALIBRATING)
    assert [f for f in found if f[0] == "DeviceOffSpec"] == []
    held = Watched(held={("DeviceOffSpec", "EN02"): "Active"})
    assert ("DeviceOffSpec", "EN02", "") in held.frame()


# -- cycles


MODEL = learn("P", *good())
PAIRED = DEVICE.model_copy(
    update={
        "channels": tuple(DEVICE.channels[0].model_copy(update={"id": name}) for name in MODEL.channels),
        "redundant": (Redundant(channels=MODEL.channels[:2], tolerance=1.0),),
    }
)
FIRST = f"EN02.Array.{MODEL.channels[0]}"


class Cycles:
    def __init__(self, **settings):
        self.watch, self.seconds = CycleWatch(PAIRED, **settings), 0

    def cycle(self, *, drifted=0.0, apart=0.0, model=MODEL, defect=""):
        """The first channel lies `drifted` half widths from the middle of its range, `apart` from the next."""
        self.seconds += 60
        middle, half = (MODEL.level_high + MODEL.level_low) / 2, (MODEL.level_high - MODEL.level_low) / 2
        first = np.arange(len(middle)) == 0
        values = np.zeros(2 * len(middle))
        values[0] = apart
        made = replace(
            good()[0][0], level=np.where(first, middle + drifted * half, middle), values=values, defect=defect
        )
        return [(f.kind, f.source, f.level) for f in self.watch.look(made, model, self.seconds * SECOND)]


def test_baselines_that_drift_out_of_what_the_model_trusts_are_found_once_and_over_once():
    cycles = Cycles()
    assert [cycles.cycle() for _ in range(5)] == [[], [], [], [], [("SensorDrift", "EN02", "")]]
    found = [f for _ in range(20) for f in cycles.cycle(drifted=2)]
    assert found == [("SensorDrift", "EN02", "High")]
    assert cycles.watch.drift.index > 0.5
    assert [f for _ in range(20) for f in cycles.cycle()] == [("SensorDrift", "EN02", "")]


def test_without_a_model_and_from_incomplete_cycles_no_drift_is_known():
    for changes in ({"model": None}, {"defect": "flow too low"}):
        cycles = Cycles()
        assert [f for _ in range(10) for f in cycles.cycle(drifted=2, **changes)] == []
        assert cycles.watch.known()["SensorDrift", "EN02"] is False


def test_two_channels_that_should_agree_are_compared_by_their_responses():
    # Part 9 5.8.21: a deviation alarm compares with the SetpointNode, here the other channel.
    cycles = Cycles()
    alarm = ("ChannelDisagreement", FIRST)
    assert [cycles.cycle(apart=a) for a in (0.9, 1.1, 0.95, 0.85)] == [[], [(*alarm, "High")], [], [(*alarm, "")]]
    assert (*alarm, "Low") in cycles.cycle(apart=-1.1)
    assert cycles.cycle(apart=np.nan) == []  # of a channel that is not usable nothing is known
    assert cycles.watch.known()[alarm] is False
    assert Cycles(held={alarm: "Low"}).cycle() == [(*alarm, "")]


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
        for decided in (dict.fromkeys(OF_STREAM, d) for d in (True, True, False, True))
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
