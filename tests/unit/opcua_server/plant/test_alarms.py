"""What stands before the machine of alarms: delays, the rules of GMP alarms, all conditions of a plant."""

from dataclasses import replace

import pytest

from config.load import DEMO, load
from config.schema import Alarm
from nodesets.errors import AccessDenied, AlreadyAcknowledged, EventIdUnknown, InvalidArgument, NotFound
from nodesets.model import Basis, Finding, Quality
from opcua_server.plant.alarm_states import SECOND, State
from opcua_server.plant.alarms import ACTS, ALARMS, EXPLAINED, HIDES, Act, Alarms, permit

ANOMALY = "EN01.Stream01.Alarms.AnomalyDetected"
LOST = "EN01.Alarms.CommunicationLost"


def anomaly(level: str, now: int) -> Finding:
    return Finding(kind="AnomalyDetected", source="EN01.Stream01", time=now, level=level, value=0.7, limit=0.5)


def lost(level: str, now: int) -> Finding:
    return Finding(kind="CommunicationLost", source="EN01", time=now, level=level)


@pytest.fixture
def alarms() -> Alarms:
    return Alarms(load(DEMO))


def only(told):
    [notification] = told
    return notification.branch


def acknowledge(alarms, node, event_id, comment="seen", now=2):
    return alarms.perform(node, Act(name="Acknowledge", event_id=event_id, comment=comment, user="olga"), now)


def test_an_alarm_lives_through_raise_acknowledge_clear(alarms):
    raised = only(alarms.update(anomaly("High", 1), 1))
    assert (raised.state, raised.severity) == (State.UNACKED, 600)
    acked = only(acknowledge(alarms, ANOMALY, raised.event_id))
    assert (acked.state, acked.comment, acked.user) == (State.ACTIVE, "seen", "olga")
    [cleared] = alarms.update(anomaly("", 3), 3)
    assert (cleared.branch.state, cleared.retain) == (State.NORMAL, False)


def test_what_cannot_be_acknowledged_says_why(alarms):
    with pytest.raises(NotFound):
        acknowledge(alarms, "EN01.Alarms.Nothing", b"x")
    with pytest.raises(EventIdUnknown):
        acknowledge(alarms, ANOMALY, b"")
    raised = only(alarms.update(anomaly("High", 1), 1))
    with pytest.raises(InvalidArgument):  # process rule 18: a GMP alarm needs a comment
        acknowledge(alarms, ANOMALY, raised.event_id, " ")
    acked = only(acknowledge(alarms, ANOMALY, raised.event_id))
    for event_id in (acked.event_id, raised.event_id):  # Part 9 5.7.3: known, but nothing is left to acknowledge
        with pytest.raises(AlreadyAcknowledged):
            acknowledge(alarms, ANOMALY, event_id)


# -- delays


def test_a_link_that_flaps_each_second_raises_nothing(alarms):
    # Fault F13.
    for second in range(60):
        assert alarms.update(lost("Active" if second % 2 else "", second * SECOND), second * SECOND) == ()
        assert alarms.due(second * SECOND) == ()


def test_a_lost_link_is_alarmed_after_the_on_delay_and_cleared_after_the_off_delay(alarms):
    assert alarms.update(lost("Active", 0), 0) == ()
    assert alarms.next_due() == 2 * SECOND
    assert alarms.due(2 * SECOND - 1) == ()
    assert only(alarms.due(2 * SECOND)).state is State.UNACKED
    assert alarms.next_due() is None
    assert alarms.update(lost("", 3 * SECOND), 3 * SECOND) == ()
    assert alarms.next_due() == 8 * SECOND
    assert only(alarms.due(8 * SECOND)).state is State.RETURNED


def failed(channels: str, now: int) -> Finding:
    return Finding(kind="SensorFailure", source="EN01", time=now, level="Active", text=f"EN01: failed {channels}")


def test_one_more_failed_sensor_is_alarmed_although_the_first_was_acknowledged(alarms):
    # docs/alarms.md: the text names all of them; what an operator has answered for was one of them.
    assert alarms.update(failed("S01", 0), 0) == ()
    [raised] = alarms.due(2 * SECOND)
    acknowledge(alarms, raised.condition.node, raised.branch.event_id, "", 3 * SECOND)
    assert alarms.update(failed("S01", 4 * SECOND), 4 * SECOND) == ()
    assert alarms.update(failed("S01, S02", 5 * SECOND), 5 * SECOND) == ()
    again = only(alarms.due(7 * SECOND))
    assert (again.state, again.finding.text) == (State.UNACKED, "EN01: failed S01, S02")


def test_a_second_sensor_that_flaps_each_second_raises_nothing(alarms):
    # Fault F13.
    alarms.update(failed("S01", 0), 0)
    alarms.due(2 * SECOND)
    for second in range(3, 60):
        channels = "S01, S02" if second % 2 else "S01"
        assert alarms.update(failed(channels, second * SECOND), second * SECOND) == ()
        assert alarms.due(second * SECOND) == ()


def test_every_cycle_of_the_same_level_is_no_new_alarm(alarms):
    raised = only(alarms.update(anomaly("High", 1), 1))
    acknowledge(alarms, ANOMALY, raised.event_id)
    assert alarms.update(replace(anomaly("High", 3), text="another cycle"), 3) == ()


def test_a_delay_counts_from_when_it_began_to_be_so(alarms):
    # ReleaseOverdue: a restart would else give the batch another eight hours.
    hour = 3600 * SECOND

    def waits(since: int, level: str = "Active") -> Finding:
        return Finding(kind="ReleaseOverdue", source="L01", time=since, level=level)

    assert alarms.update(waits(hour), 2 * hour) == ()
    assert alarms.next_due() == 9 * hour
    assert only(alarms.due(9 * hour)).state is State.UNACKED
    again = Alarms(load(DEMO))
    assert only(again.update(waits(hour), 10 * hour)).state is State.UNACKED
    ahead = Alarms(load(DEMO))  # a clock that was set back
    assert ahead.update(waits(5 * hour), hour) == ()
    assert ahead.next_due() == 9 * hour


# -- GMP


GMP, PLAIN = replace(ALARMS["AnomalyDetected"], comment=True), ALARMS["SensorFailure"]


@pytest.mark.parametrize("name", ACTS)
def test_acts_on_a_gmp_alarm_that_matter_need_a_comment(name):
    # Process rules 9, 18.
    permit(PLAIN, Act(name=name, comment="why"))
    if name == "Disable":
        with pytest.raises(AccessDenied):  # it has no argument for the reason
            permit(GMP, Act(name=name))
        return
    permit(GMP, Act(name=name, comment="why"))
    if name in EXPLAINED | {"AddComment"}:
        with pytest.raises(InvalidArgument):
            permit(GMP, Act(name=name, comment=" "))
    else:
        permit(GMP, Act(name=name))


def test_a_site_whose_scada_sends_no_comments_may_acknowledge_without_and_hide_nothing_so():
    # Process rule 18: one switch per site; rule 9 has none.
    plant = load(DEMO)
    plant = plant.model_copy(update={"site": plant.site.model_copy(update={"alarm_comments": False})})
    kind = Alarms(plant)[ANOMALY].kind
    permit(kind, Act(name="Acknowledge"))
    with pytest.raises(InvalidArgument):
        permit(kind, Act(name="Suppress"))


@pytest.mark.parametrize("name", sorted(HIDES))
def test_some_alarms_nobody_takes_out_of_sight(name):
    # Process rule 9: AuditChainBroken.
    with pytest.raises(AccessDenied):
        permit(replace(PLAIN, fixed=True), Act(name=name, comment="why"))


@pytest.mark.parametrize("name", ["Suppress", "RemoveFromService", "TimedShelve", "OneShotShelve"])
def test_a_gmp_alarm_comes_back_by_itself(alarms, name):
    # Process rule 9: a maximum time.
    limit = round(ALARMS["AnomalyDetected"].max_shelved)
    alarms.perform(ANOMALY, Act(name=name, comment="why", seconds=limit, user="olga"), 0)
    assert alarms[ANOMALY].hidden
    assert alarms.next_due() == limit * SECOND
    [told] = alarms.due(limit * SECOND)
    assert not told.condition.hidden


# -- recorded or not


def test_what_could_not_be_recorded_has_not_happened(alarms):
    alarms.update(lost("Active", 0), 0)
    alarms.commit()
    before = alarms[LOST]
    assert only(alarms.due(2 * SECOND)).state is State.UNACKED
    alarms.update(anomaly("High", 1), 1)
    assert {c.node for c in alarms.changed()} == {LOST, ANOMALY}
    alarms.rollback()
    assert alarms[LOST] == before
    assert alarms[ANOMALY].trunk.state is State.NORMAL
    assert only(alarms.due(2 * SECOND)).state is State.UNACKED  # its delay is still over
    alarms.commit()
    assert alarms.changed() == ()


# -- configured


def test_a_plant_may_have_its_own_settings():
    plant = load(DEMO)
    own = {
        "AnomalyDetected": Alarm(severity=300, confirm=True, latched=True, branches=False, max_shelved=60, gmp=False),
        "SensorFailure": Alarm(enabled=False),
    }
    made = Alarms(plant.model_copy(update={"alarms": own}))
    kind = made[ANOMALY].kind
    assert set(kind.severities.values()) == {300}
    assert (kind.confirm, kind.latched, kind.branches, kind.max_shelved, kind.comment) == (True, True, False, 60, False)
    assert not made["EN01.Alarms.SensorFailure"].enabled.on


# -- first-up


def test_the_first_alarm_of_a_device_says_that_it_was_the_first(alarms):
    # ISA-18.1: of a flood an operator looks for the one it began with (FirstInGroupFlag).
    [first] = alarms.update(anomaly("High", 1), 1)
    alarms.update(failed("S01", 0), 0)
    [second] = alarms.due(2 * SECOND)
    other = Finding(kind="AnomalyDetected", source="EN02.Stream01", time=3, level="High")
    [elsewhere] = alarms.update(other, 3 * SECOND)
    assert [n.condition.first for n in (first, second, elsewhere)] == [True, False, True]


# -- how sure


def basis(kind: str, quality: int, source: str = "EN01") -> Basis:
    return Basis(kind=kind, source=source, time=1, quality=quality)


def test_an_alarm_waits_for_its_first_data_unless_the_service_itself_judges(alarms):
    # Part 9 5.5.2; 5.14.2: BadWaitingForInitialData at the start.
    qualities = {c.kind.kind: c.trunk.quality for c in alarms}
    sure = {k for k, quality in qualities.items() if quality == Quality.GOOD}
    assert sure == {
        "CommunicationLost",
        "DeviceFailure",
        "BatchExceptionOpen",
        "ReleaseOverdue",
        "CertificateExpiring",
        "StorageFailure",
    }
    assert set(qualities.values()) == {Quality.GOOD, Quality.BAD_WAITING_FOR_INITIAL_DATA}


def test_a_condition_that_never_moved_has_its_quality_and_nothing_else_is_kept_of_it(alarms):
    alarms.judge(basis("FlowLow", Quality.BAD_NO_COMMUNICATION), 7)
    assert list(alarms.moved()) == []
    [doubted] = alarms.doubted()
    assert (doubted.node, doubted.trunk.quality, doubted.trunk.quality_time) == (
        "EN01.Alarms.FlowLow",
        Quality.BAD_NO_COMMUNICATION,
        7,
    )
    assert alarms.doubted() == ()


def test_what_is_raised_says_how_sure_it_is_and_the_change_of_that_is_recorded(alarms):
    alarms.judge(basis("AnomalyDetected", Quality.GOOD, "EN01.Stream01"), 1)
    assert only(alarms.update(anomaly("High", 2), 2)).quality == Quality.GOOD
    alarms.commit()
    told = only(alarms.judge(basis("AnomalyDetected", Quality.BAD_NO_DATA, "EN01.Stream01"), 3))
    assert (told.quality, told.level) == (Quality.BAD_NO_DATA, "High")
    assert [c.node for c in alarms.changed()] == [ANOMALY]
    alarms.rollback()
    assert alarms[ANOMALY].trunk.quality == Quality.GOOD
