from dataclasses import replace

import pytest

from config.load import DEMO, load
from nodesets.errors import (
    AlreadyAcknowledged,
    AlreadyDisabled,
    AlreadyEnabled,
    ConditionDisabled,
    EventIdUnknown,
    InvalidArgument,
    NotFound,
)
from nodesets.model import Finding
from opcua_server.plant.alarms import SECOND, TRANSITIONS, Alarms, State, Trigger

ANOMALY = "EN01.Stream01.Alarms.AnomalyDetected"
LOST = "EN01.Alarms.CommunicationLost"


def anomaly(level: str, now: int) -> Finding:
    return Finding(kind="AnomalyDetected", source="EN01.Stream01", time=now, level=level, value=0.7, limit=0.5)


def lost(level: str, now: int) -> Finding:
    return Finding(kind="CommunicationLost", source="EN01", time=now, level=level)


@pytest.fixture
def alarms() -> Alarms:
    return Alarms(load(DEMO))


def test_every_state_is_reached_and_left():
    # A state nobody can leave would keep an operator's list full for ever.
    assert set(TRANSITIONS) == set(State)
    assert {after for row in TRANSITIONS.values() for after in row.values()} == set(State)


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("trigger", list(Trigger))
def test_a_cleared_alarm_is_never_active_and_a_raised_one_never_acknowledged(state, trigger):
    after = TRANSITIONS[state].get(trigger)
    if after and trigger is Trigger.RAISE:
        assert after.active
        assert not after.acked
    if after and trigger is Trigger.CLEAR:
        assert not after.active
    if after and trigger is Trigger.ACKNOWLEDGE:
        assert after.acked
        assert after.active == state.active


def test_an_alarm_lives_through_raise_acknowledge_clear(alarms):
    raised = alarms.update(anomaly("High", 1), 1)
    assert (raised.state, raised.severity, raised.retain) == (State.UNACKED, 600, True)
    acked = alarms.acknowledge(ANOMALY, raised.event_id, "seen", "olga", 2)
    assert (acked.state, acked.comment, acked.user) == (State.ACKED, "seen", "olga")
    cleared = alarms.update(anomaly("", 3), 3)
    assert (cleared.state, cleared.retain) == (State.NORMAL, False)


def test_an_alarm_that_returned_unacknowledged_is_kept_until_somebody_answers(alarms):
    # Part 9 5.5.2: Retain stays while an operator still has to act.
    alarms.update(anomaly("High", 1), 1)
    gone = alarms.update(anomaly("", 2), 2)
    assert gone.state is State.RTN_UNACKED
    assert gone.retain
    assert not alarms.acknowledge(ANOMALY, gone.event_id, "was it", "olga", 3).retain


def test_a_worse_level_asks_for_acknowledgement_again(alarms):
    raised = alarms.update(anomaly("High", 1), 1)
    alarms.acknowledge(ANOMALY, raised.event_id, "seen", "olga", 2)
    worse = alarms.update(anomaly("HighHigh", 3), 3)
    assert (worse.state, worse.severity, worse.last_severity) == (State.UNACKED, 800, 600)
    assert worse.active_since == raised.active_since


def test_each_notification_has_its_own_event_id_and_only_the_newest_can_be_acknowledged(alarms):
    first = alarms.update(anomaly("High", 1), 1)
    second = alarms.update(anomaly("HighHigh", 2), 2)
    assert first.event_id != second.event_id
    with pytest.raises(EventIdUnknown):
        alarms.acknowledge(ANOMALY, first.event_id, "late", "olga", 3)


def test_what_cannot_be_acknowledged_says_why(alarms):
    with pytest.raises(NotFound):
        alarms.acknowledge("EN01.Alarms.Nothing", b"x", "c", "olga", 1)
    with pytest.raises(EventIdUnknown):
        alarms.acknowledge(ANOMALY, b"", "c", "olga", 1)
    raised = alarms.update(anomaly("High", 1), 1)
    with pytest.raises(InvalidArgument):  # process rule 18: a GMP alarm needs a comment
        alarms.acknowledge(ANOMALY, raised.event_id, " ", "olga", 2)
    acked = alarms.acknowledge(ANOMALY, raised.event_id, "c", "olga", 2)
    for event_id in (acked.event_id, raised.event_id):  # Part 9 5.7.3: known, but nothing is left to acknowledge
        with pytest.raises(AlreadyAcknowledged):
            alarms.acknowledge(ANOMALY, event_id, "c", "olga", 3)


def test_a_disabled_condition_is_not_retained_and_cannot_be_acknowledged(alarms):
    raised = alarms.update(anomaly("High", 1), 1)
    with pytest.raises(AlreadyEnabled):
        alarms.enable(ANOMALY, True, "eva", 2)
    disabled = alarms.enable(ANOMALY, False, "eva", 2)
    assert not disabled.retain
    with pytest.raises(ConditionDisabled):
        alarms.acknowledge(ANOMALY, raised.event_id, "c", "olga", 3)
    with pytest.raises(AlreadyDisabled):
        alarms.enable(ANOMALY, False, "eva", 4)


def test_a_link_that_flaps_each_second_raises_nothing(alarms):
    # Fault F13.
    for second in range(60):
        assert alarms.update(lost("Active" if second % 2 else "", second * SECOND), second * SECOND) is None
        assert alarms.due(second * SECOND) == []


def test_a_lost_link_is_alarmed_after_the_on_delay_and_cleared_after_the_off_delay(alarms):
    assert alarms.update(lost("Active", 0), 0) is None
    assert alarms.due(2 * SECOND - 1) == []
    [raised] = alarms.due(2 * SECOND)
    assert raised.state is State.UNACKED
    assert alarms.update(lost("", 3 * SECOND), 3 * SECOND) is None
    [cleared] = alarms.due(8 * SECOND)
    assert cleared.state is State.RTN_UNACKED


def failed(channels: str, now: int) -> Finding:
    return Finding(kind="SensorFailure", source="EN01", time=now, level="Active", text=f"EN01: failed {channels}")


def test_one_more_failed_sensor_is_alarmed_although_the_first_was_acknowledged(alarms):
    # docs/alarms.md: the text names all of them; what an operator has answered for was one of them.
    assert alarms.update(failed("S01", 0), 0) is None
    [raised] = alarms.due(2 * SECOND)
    alarms.acknowledge(raised.node, raised.event_id, "", "olga", 3 * SECOND)
    assert alarms.update(failed("S01", 4 * SECOND), 4 * SECOND) is None
    assert alarms.update(failed("S01, S02", 5 * SECOND), 5 * SECOND) is None
    [again] = alarms.due(7 * SECOND)
    assert (again.state, again.finding.text) == (State.UNACKED, "EN01: failed S01, S02")


def test_a_second_sensor_that_flaps_each_second_raises_nothing(alarms):
    # Fault F13.
    alarms.update(failed("S01", 0), 0)
    alarms.due(2 * SECOND)
    for second in range(3, 60):
        channels = "S01, S02" if second % 2 else "S01"
        assert alarms.update(failed(channels, second * SECOND), second * SECOND) is None
        assert alarms.due(second * SECOND) == []


def test_every_cycle_of_the_same_level_is_no_new_alarm(alarms):
    raised = alarms.update(anomaly("High", 1), 1)
    alarms.acknowledge(ANOMALY, raised.event_id, "seen", "olga", 2)
    assert alarms.update(replace(anomaly("High", 3), text="another cycle"), 3) is None
