"""Conditions on the disk."""

import json
from dataclasses import replace

from config.load import DEMO, load
from config.schema import Alarm
from nodesets.model import Finding
from opcua_server.plant import alarm_record
from opcua_server.plant.alarms import Act, Alarms

ANOMALY = "EN01.Stream01.Alarms.AnomalyDetected"


def found(level: str, time: int) -> Finding:
    return Finding(
        kind="AnomalyDetected", source="EN01.Stream01", time=time, level=level, details={"TopChannels": "S1"}
    )


def lived() -> Alarms:
    """A condition with branches, comments, shelving, and a limit that is not known (NaN)."""
    alarms = Alarms(load(DEMO))
    for time, level in enumerate(("High", "", "HighHigh", "", "High"), 1):
        alarms.update(found(level, time), time)
    event_id = alarms[ANOMALY].branches[0].event_id
    alarms.perform(ANOMALY, Act(name="Acknowledge", event_id=event_id, comment="eins", user="olga"), 7)
    alarms.perform(ANOMALY, Act(name="TimedShelve", seconds=60, comment="zwei", user="olga"), 8)
    return alarms


def test_a_condition_comes_back_as_it_was():
    alarms = lived()
    saved = {c.node: alarm_record.dump(c) for c in alarms.moved()}
    again = Alarms(load(DEMO))
    again.restore(alarm_record.load(again, saved))
    one, other = alarms[ANOMALY], again[ANOMALY]
    assert other.branches
    assert alarm_record.dump(one) == alarm_record.dump(other)
    assert replace(other, kind=one.kind, trunk=one.trunk, branches=one.branches) == one
    assert other.trunk.event_id == one.trunk.event_id
    assert again.next_due() == alarms.next_due()


def test_an_alarm_the_plant_has_no_more_is_left_alone():
    alarms = Alarms(load(DEMO))
    assert list(alarm_record.load(alarms, {"EN99.Alarms.SensorFailure": json.dumps({})})) == []


def test_the_plant_file_says_whether_an_alarm_is_enabled_until_somebody_switches_it():
    plant = load(DEMO)
    off = plant.model_copy(update={"alarms": {"AnomalyDetected": Alarm(enabled=False, gmp=False)}})
    alarms = lived()
    again = Alarms(off)
    again.restore(alarm_record.load(again, {c.node: alarm_record.dump(c) for c in alarms.moved()}))
    assert not again[ANOMALY].enabled.on
    again.perform(ANOMALY, Act(name="Enable", user="eva"), 9)
    third = Alarms(off)
    third.restore(alarm_record.load(third, {ANOMALY: alarm_record.dump(again[ANOMALY])}))
    assert third[ANOMALY].enabled.on
