"""ISA-18.2's figures, followed as alarms are told."""

from config.load import DEMO, load
from nodesets.model import Finding
from opcua_server.plant.alarm_figures import CALM, FLOOD, SECOND, STALE, TEN_MINUTES, Figures, chatters
from opcua_server.plant.alarms import Act, Alarms

NODE, SOURCE = "EN01.Stream01.Alarms.AnomalyDetected", "EN01.Stream01"
MINUTE = 60 * SECOND


class Plant:
    def __init__(self):
        self.alarms, self.figures, self.noted = Alarms(load(DEMO)), Figures(0), []

    def found(self, level, now, kind="AnomalyDetected", source=SOURCE):
        made = Finding(kind=kind, source=source, time=now, level=level)
        self._told(self.alarms.update(made, now))

    def act(self, name, now, **further):
        event_id = self.alarms[NODE].trunk.event_id
        self._told(self.alarms.perform(NODE, Act(name=name, event_id=event_id, comment="x", **further), now))

    def _told(self, told):
        self.noted += [name for n in told if (name := self.figures.told(n))]

    def metrics(self, now):
        return self.figures.metrics(self.alarms.moved(), now)


def test_three_times_within_a_minute_is_chattering():
    assert not chatters([])
    assert chatters([0, 1, 60 * SECOND])
    assert not chatters([0, 1, 60 * SECOND + 1])


def test_an_alarm_that_chatters_is_named_once_until_it_was_quiet():
    plant = Plant()
    for second in range(20):
        plant.found("High" if second % 2 == 0 else "", second * SECOND)
    assert plant.noted == [NODE]
    assert plant.metrics(20 * SECOND).chattering == 1
    assert plant.metrics(20 * SECOND + TEN_MINUTES).chattering == 0


def test_rates_are_of_ten_minutes_and_a_flood_ends_when_it_is_calm():
    plant = Plant()
    for i in range(FLOOD + 1):
        plant.found("High", i * 2 * SECOND)
        plant.found("", (i * 2 + 1) * SECOND)
    told = plant.metrics(MINUTE)
    assert (told.count, told.current, told.maximum, told.flood) == (11, 11.0, 11.0, True)
    almost = TEN_MINUTES + (FLOOD + 1 - CALM) * 2 * SECOND - 1
    assert plant.metrics(almost).flood
    calm = plant.metrics(TEN_MINUTES + MINUTE)
    assert (calm.flood, calm.current, calm.maximum) == (False, 0.0, 11.0)


def test_answers_and_what_is_out_of_sight_are_no_new_alarms():
    plant = Plant()
    plant.found("High", 1)
    plant.act("Acknowledge", 2)
    plant.found("", 3)
    plant.act("TimedShelve", 4, seconds=60.0)
    plant.found("High", 5)
    told = plant.metrics(6)
    assert (told.count, told.shelved, told.standing) == (1, 1, 1)


def test_what_stands_is_told_by_age_and_severity():
    plant = Plant()
    plant.found("HighHigh", MINUTE)
    plant.found("High", 2 * MINUTE, source="EN02.Stream01")
    told = plant.metrics(MINUTE + STALE)
    assert (told.standing, told.stale, told.unacknowledged, told.oldest) == (2, 1, 2, MINUTE)
    assert told.bands == (0, 0, 1, 1)
    assert told.longest_active == told.longest_unacked == STALE / SECOND


def test_reset_begins_anew():
    plant = Plant()
    plant.found("High", 1)
    plant.figures.reset(MINUTE)
    told = plant.metrics(2 * MINUTE)
    assert (told.started, told.count, told.standing) == (MINUTE, 0, 1)
