"""The machines of an alarm, each pair of them, and what is told."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodesets.errors import (
    AlreadyAcknowledged,
    AlreadyConfirmed,
    AlreadyDisabled,
    AlreadyEnabled,
    AlreadyShelved,
    ConditionDisabled,
    DialogNotActive,
    EnoseError,
    EventIdUnknown,
    InvalidState,
    NotShelved,
    ShelvingTimeOutOfRange,
)
from nodesets.model import Finding
from opcua_server.plant import alarm_states as states
from opcua_server.plant.alarm_states import (
    SECOND,
    SETTLES,
    SHELVING,
    TRANSITIONS,
    AlarmKind,
    Condition,
    Shelve,
    Shelving,
    State,
    Trigger,
    Words,
)

PLAIN = AlarmKind(kind="Probe", scope="stream", severities={"High": 600, "HighHigh": 800}, max_shelved=3600)
STRICT = replace(PLAIN, confirm=True, latched=True)


class Alarm:
    """A condition through its life, with everything that was told of it."""

    def __init__(self, kind=PLAIN):
        ids = itertools.count(1)
        self.new = lambda: next(ids).to_bytes(16)
        self.now = 0
        self.condition = Condition(node="A", source="S", kind=kind)
        self.told = []

    def _take(self, step):
        self.condition, told = step
        self.told += told
        return told

    def found(self, level):
        self.now += SECOND
        finding = Finding(kind="Probe", source="S", time=self.now, level=level)
        return self._take(states.found(self.condition, finding, self.now, self.new))

    def act(self, act, *arguments):
        self.now += SECOND
        return self._take(act(self.condition, *arguments, "olga", self.now, self.new))

    def acknowledge(self, event_id=None, comment="seen"):
        return self.act(states.acknowledge, self.last if event_id is None else event_id, Words(comment))

    def confirm(self, event_id=None, comment="done"):
        return self.act(states.confirm, self.last if event_id is None else event_id, Words(comment))

    def comment(self, event_id, comment="look"):
        return self.act(states.add_comment, event_id, Words(comment))

    def shelve(self, how, seconds=0.0):
        return self.act(states.shelve, how, seconds, Words("why"))

    def switch(self, act, *arguments):
        self.now += SECOND
        return self._take(act(self.condition, *arguments, Words("why"), "olga", self.now, 0, self.new))

    def enable(self):
        return self.act(states.enable, Words("why"))

    def disable(self):
        return self.switch(states.disable)

    def reset(self):
        return self.act(states.reset, Words())

    @property
    def last(self):
        return self.condition.trunk.event_id

    @property
    def state(self):
        return self.condition.trunk.state


# -- the tables


def test_every_state_is_reached_and_left():
    # A state nobody can leave would keep an operator's list full for ever.
    assert set(TRANSITIONS) == set(State)
    assert {after for row in TRANSITIONS.values() for after in row.values()} == set(State)
    assert set(SHELVING) == set(Shelving)
    assert {after for row in SHELVING.values() for after in row.values()} == set(Shelving)


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("trigger", Trigger)
def test_each_pair_means_what_its_name_says(state, trigger):
    after = TRANSITIONS[state].get(trigger)
    if after is None:
        return
    match trigger:
        case Trigger.RAISE:
            assert after is State.UNACKED
        case Trigger.EASE:
            assert after is state
            assert state.active
        case Trigger.CLEAR:
            assert not after.active
            assert (after.acked, after.confirmed) == (state.acked, state.confirmed)
        case Trigger.ACKNOWLEDGE:
            assert not state.acked
            assert (after.active, after.acked, after.confirmed) == (state.active, True, False)
        case Trigger.CONFIRM:
            assert not state.confirmed
            assert (after.active, after.acked, after.confirmed) == (state.active, True, True)


def test_what_needs_no_confirmation_settles_in_a_state_that_owes_nothing_more():
    assert {s for s in State if not s.confirmed} == set(SETTLES)
    assert all(after.confirmed and after.active == before.active for before, after in SETTLES.items())


# -- a life


def test_an_alarm_that_needs_confirmation_keeps_what_annex_b_1_2_says():
    # Part 9 table B.1: active, acked, confirmed, retain of each notification.
    alarm = Alarm(STRICT)
    alarm.condition = replace(alarm.condition, kind=replace(STRICT, latched=False))
    alarm.found("High")
    alarm.acknowledge()
    alarm.found("")
    alarm.confirm()
    alarm.found("High")
    alarm.found("")
    alarm.acknowledge()
    alarm.confirm()
    rows = [(b.state.active, b.state.acked, b.state.confirmed, n.retain) for n in alarm.told for b in [n.branch]]
    assert rows == [
        (True, False, True, True),
        (True, True, False, True),
        (False, True, False, True),
        (False, True, True, False),
        (True, False, True, True),
        (False, False, True, True),
        (False, True, False, True),
        (False, True, True, False),
    ]


def test_without_confirmation_an_acknowledgement_is_enough():
    alarm = Alarm()
    alarm.found("High")
    alarm.acknowledge()
    assert (alarm.state, alarm.condition.trunk.comment, alarm.condition.trunk.user) == (State.ACTIVE, "seen", "olga")
    [gone] = alarm.found("")
    assert (gone.branch.state, gone.retain) == (State.NORMAL, False)


def test_a_worse_level_is_a_new_alarm_and_a_milder_one_is_not():
    alarm = Alarm()
    alarm.found("High")
    alarm.acknowledge()
    [worse] = alarm.found("HighHigh")
    assert (worse.branch.state, worse.branch.severity, worse.branch.last_severity) == (State.UNACKED, 800, 600)
    alarm.acknowledge()
    [milder] = alarm.found("High")
    assert (milder.branch.state, milder.branch.severity, milder.branch.level) == (State.ACTIVE, 600, "High")


def test_the_time_of_each_state_is_of_its_own_change():
    # TransitionTime of a TwoStateVariableType (Part 9 5.2).
    alarm = Alarm()
    alarm.found("High")
    alarm.found("HighHigh")
    alarm.acknowledge()
    trunk = alarm.condition.trunk
    assert [t // SECOND for t in (trunk.active_time, trunk.severity_time, trunk.acked_time, trunk.time)] == [1, 2, 3, 3]


# -- EventIds


def test_each_notification_has_its_own_event_id():
    alarm = Alarm(STRICT)
    for level in ("High", "HighHigh", "", "High", ""):
        alarm.found(level)
    ids = [n.branch.event_id for n in alarm.told]
    assert len(set(ids)) == len(ids)


def test_an_older_notification_of_the_same_alarm_still_acknowledges_it():
    # Part 9 5.7.3: what the operator saw said 'unacknowledged'; that it is over, or commented, since is no other alarm.
    alarm = Alarm()
    [raised] = alarm.found("High")
    alarm.comment(raised.branch.event_id)
    alarm.found("")
    alarm.acknowledge(raised.branch.event_id)
    assert alarm.state is State.NORMAL


def test_a_notification_of_a_milder_alarm_does_not_acknowledge_the_worse_one():
    alarm = Alarm()
    [mild] = alarm.found("High")
    alarm.found("HighHigh")
    with pytest.raises(EventIdUnknown):
        alarm.acknowledge(mild.branch.event_id)


def test_what_cannot_be_answered_says_why():
    alarm = Alarm(STRICT)
    for refused in (alarm.acknowledge, alarm.confirm, alarm.comment):
        with pytest.raises(EventIdUnknown):
            refused(b"")
        with pytest.raises(EventIdUnknown):
            refused(b"x")
    [raised] = alarm.found("High")
    with pytest.raises(AlreadyConfirmed):  # its ConfirmedState is True until it is acknowledged (Part 9 B.1.3)
        alarm.confirm()
    [acked] = alarm.acknowledge()
    for event_id in (acked.branch.event_id, raised.branch.event_id):
        with pytest.raises(AlreadyAcknowledged):
            alarm.acknowledge(event_id)
    [confirmed] = alarm.confirm(raised.branch.event_id)
    for event_id in (confirmed.branch.event_id, acked.branch.event_id):
        with pytest.raises(AlreadyConfirmed):
            alarm.confirm(event_id)


# -- branches


def test_an_alarm_that_comes_again_unanswered_keeps_its_earlier_branch():
    # Part 9 5.5.2 and annex B.1.3: two alarms, two answers; Retain of the trunk as long as a branch is left.
    alarm = Alarm()
    [first] = alarm.found("High")
    alarm.found("")
    branch, trunk = alarm.found("HighHigh")
    assert (branch.branch.number, branch.branch.state, branch.retain) == (1, State.RETURNED, True)
    assert (trunk.branch.number, trunk.branch.state) == (0, State.UNACKED)
    alarm.acknowledge()
    alarm.found("")
    assert (alarm.state, alarm.condition.retain) == (State.NORMAL, True)
    assert not alarm.condition.acked
    ended, trunk = alarm.acknowledge(first.branch.event_id)
    assert (ended.branch.number, ended.branch.state, ended.retain) == (1, State.NORMAL, False)
    assert (trunk.branch.number, trunk.retain) == (0, False)
    assert alarm.condition.branches == ()


def test_the_first_notification_of_a_branch_answers_for_it_too():
    alarm = Alarm()
    alarm.found("High")
    alarm.found("")
    branch, _ = alarm.found("High")
    alarm.acknowledge(branch.branch.event_id)
    assert alarm.condition.branches == ()
    assert alarm.state is State.UNACKED


def test_branches_that_need_confirmation_end_with_it_and_are_numbered_once():
    alarm = Alarm(STRICT)
    for _ in range(3):
        alarm.found("High")
        alarm.found("")
    assert [b.number for b in alarm.condition.branches] == [1, 2]
    second = alarm.condition.branches[1].event_id
    alarm.acknowledge(second)
    alarm.confirm(second)
    alarm.found("High")
    assert [b.number for b in alarm.condition.branches] == [1, 3]


def test_an_alarm_nobody_answers_all_night_has_a_bounded_number_of_branches():
    alarm = Alarm()
    for _ in range(100):
        alarm.found("High")
        alarm.found("")
    assert len(alarm.condition.branches) == states.MOST_BRANCHES


def test_an_advisory_alarm_asks_once():
    alarm = Alarm(replace(PLAIN, branches=False))
    alarm.found("High")
    alarm.found("")
    [again] = alarm.found("High")
    assert again.branch.number == 0
    assert alarm.condition.branches == ()


def test_a_refresh_needs_no_branch_to_see_a_retained_condition():
    alarm = Alarm()
    assert not alarm.condition.retain
    alarm.found("High")
    assert alarm.condition.retain


# -- enabled


def test_disabling_is_the_last_word_and_enabling_says_how_things_stand():
    # Part 9 5.5.2: no notification of a disabled condition but that of the step into it, with Retain False.
    alarm = Alarm()
    with pytest.raises(AlreadyEnabled):
        alarm.enable()
    [raised] = alarm.found("High")
    [last] = alarm.disable()
    assert (last.switched, last.retain) == (True, False)
    with pytest.raises(AlreadyDisabled):
        alarm.disable()
    assert alarm.found("") == ()
    assert alarm.found("HighHigh") == ()
    for refused in (
        lambda: alarm.acknowledge(raised.branch.event_id),
        lambda: alarm.confirm(raised.branch.event_id),
        lambda: alarm.comment(raised.branch.event_id),
        lambda: alarm.shelve(Shelve.TIMED, 60),
        lambda: alarm.switch(states.suppress, True),
        lambda: alarm.act(states.silence),
        alarm.reset,
    ):
        with pytest.raises(ConditionDisabled):
            refused() if refused is not None else None
    *_, now = alarm.enable()
    assert (now.branch.state, now.branch.level, now.retain) == (State.UNACKED, "HighHigh", True)


# -- out of sight


@pytest.mark.parametrize("before", Shelving)
@pytest.mark.parametrize("how", [Shelve.TIMED, Shelve.ONE_SHOT, Shelve.UNSHELVE])
def test_each_step_of_shelving(before, how):
    # Part 9 5.8.17, figure 17.
    alarm = Alarm()
    if before is not Shelving.UNSHELVED:
        alarm.shelve({Shelving.TIMED: Shelve.TIMED, Shelving.ONE_SHOT: Shelve.ONE_SHOT}[before], 60)
    after = SHELVING[before].get(how)
    if after is None:
        with pytest.raises(NotShelved if how is Shelve.UNSHELVE else AlreadyShelved):
            alarm.shelve(how, 60)
        return
    [told] = alarm.shelve(how, 60)
    assert told.condition.shelving is after
    assert told.condition.hidden == (after is not Shelving.UNSHELVED)
    if after is not before:
        assert told.condition.transition == f"{before.value}To{after.value}"


@pytest.mark.parametrize("seconds", [0, -1, 3601, float("inf"), float("nan")])
def test_a_shelving_time_beyond_the_limit_is_refused(seconds):
    with pytest.raises(ShelvingTimeOutOfRange):
        Alarm().shelve(Shelve.TIMED, seconds)


@pytest.mark.parametrize(("how", "seconds", "lasts"), [(Shelve.TIMED, 60, 60), (Shelve.ONE_SHOT, 0, 3600)])
def test_shelving_ends_by_itself(how, seconds, lasts):
    # Part 9 5.8.2: MaxTimeShelved is enforced for a shelf for one time as well.
    alarm = Alarm()
    alarm.shelve(how, seconds)
    end = states.ends(alarm.condition)
    assert end == alarm.now + lasts * SECOND
    assert states.expired(alarm.condition, end - 1, alarm.new) == (alarm.condition, ())
    after, [told] = states.expired(alarm.condition, end, alarm.new)
    assert (after.shelving, told.condition.hidden, states.ends(after)) == (Shelving.UNSHELVED, False, 0)


def test_a_shelf_for_one_time_is_empty_when_the_alarm_is_over_and_a_timed_one_is_not():
    for how, after in ((Shelve.ONE_SHOT, Shelving.UNSHELVED), (Shelve.TIMED, Shelving.TIMED)):
        alarm = Alarm()
        alarm.found("High")
        alarm.shelve(how, 60)
        alarm.found("")
        assert alarm.condition.shelving is after


@pytest.mark.parametrize("act", [states.suppress, states.remove])
def test_suppressing_and_taking_out_of_service_hide_an_alarm_and_twice_is_once(act):
    alarm = Alarm()
    assert len(alarm.switch(act, True)) == 1
    assert alarm.condition.hidden
    assert alarm.switch(act, True) == ()
    assert len(alarm.switch(act, False)) == 1
    assert not alarm.condition.hidden


def test_what_the_state_of_the_plant_suppresses_is_told_only_of_an_alarm_in_use():
    alarm = Alarm()
    condition, told = states.inhibit(alarm.condition, True, 1, alarm.new)
    assert (condition.hidden, told) == (True, ())
    alarm.found("High")
    condition, told = states.inhibit(alarm.condition, True, 1, alarm.new)
    assert [n.condition.hidden for n in told] == [True]


# -- horn and latch


def test_a_silenced_alarm_sounds_again_when_it_is_raised_again():
    alarm = Alarm()
    alarm.found("High")
    alarm.act(states.silence)
    assert alarm.condition.silenced.on
    assert alarm.act(states.silence) == ()
    alarm.found("HighHigh")
    assert not alarm.condition.silenced.on


def test_a_latched_alarm_stays_until_it_is_reset():
    # Part 9 5.8.5.
    alarm = Alarm(replace(PLAIN, latched=True))
    for refused in (lambda: None, lambda: alarm.found("High"), alarm.acknowledge):
        refused()
        with pytest.raises(InvalidState):
            alarm.reset()
    alarm.found("")
    assert (alarm.state, alarm.condition.retain) == (State.NORMAL, True)
    [told] = alarm.reset()
    assert (told.retain, told.condition.latched.on) == (False, False)


# -- whatever happens


STEPS = st.lists(
    st.sampled_from(
        ["High", "HighHigh", "", "ack", "old ack", "confirm", "comment", "enable", "disable", "shelve", "one shot",
         "unshelve", "suppress", "unsuppress", "silence", "reset"]
    ),
    max_size=60,
)  # fmt: skip


@given(STEPS, st.booleans(), st.booleans())
def test_whatever_happens_retain_and_branches_tell_the_truth(steps, confirm, latched):
    alarm = Alarm(replace(PLAIN, confirm=confirm, latched=latched))
    acts = {
        "ack": alarm.acknowledge,
        "old ack": lambda: alarm.acknowledge(alarm.told[0].branch.event_id if alarm.told else b""),
        "confirm": alarm.confirm,
        "comment": lambda: alarm.comment(alarm.last),
        "enable": alarm.enable,
        "disable": alarm.disable,
        "shelve": lambda: alarm.shelve(Shelve.TIMED, 60),
        "one shot": lambda: alarm.shelve(Shelve.ONE_SHOT),
        "unshelve": lambda: alarm.shelve(Shelve.UNSHELVE),
        "suppress": lambda: alarm.switch(states.suppress, True),
        "unsuppress": lambda: alarm.switch(states.suppress, False),
        "silence": lambda: alarm.act(states.silence),
        "reset": alarm.reset,
    }
    for step in steps:
        before = alarm.condition
        try:
            told = acts[step]() if step in acts else alarm.found(step)
        except EnoseError:
            assert alarm.condition is before
            continue
        condition = alarm.condition
        if condition.enabled.on or step == "disable":
            assert bool(told) == (condition != before)
        else:
            assert told == ()
        assert all(b.state is not State.NORMAL for b in condition.branches)
        assert len({b.number for b in condition.branches}) == len(condition.branches)
        interesting = condition.trunk.state is not State.NORMAL or condition.latched.on or condition.branches
        assert condition.retain == (condition.enabled.on and bool(interesting))
        assert condition.trunk.level == ("" if not condition.trunk.state.active else condition.trunk.level)
        # A client that keeps what has Retain, by branch, sees exactly what is of interest.
        shown = {n.branch.number: n.retain for n in alarm.told}
        if condition.enabled.on:
            assert {n for n, r in shown.items() if r} == (
                ({0} if condition.retain and 0 in shown else set()) | {b.number for b in condition.branches}
            )
    ids = [n.branch.event_id for n in alarm.told]
    assert len(set(ids)) == len(ids)


# -- dialogs


def test_a_dialog_asks_until_a_response_ends_it():
    # Part 9 5.6: nothing of it is acknowledged, confirmed or kept as a branch.
    dialog = Alarm(replace(PLAIN, dialog=True))
    with pytest.raises(DialogNotActive):
        dialog.act(states.respond, 0, Words("why"))
    [asked] = dialog.found("High")
    assert (asked.branch.state, asked.retain) == (State.ACTIVE, True)
    with pytest.raises(AlreadyAcknowledged):
        dialog.acknowledge(asked.branch.event_id)
    [ended] = dialog.act(states.respond, 2, Words("later"))
    assert (ended.branch.state, ended.retain) == (State.NORMAL, False)
    assert (ended.branch.finding.details["Response"], ended.branch.comment, ended.branch.user) == ("2", "later", "olga")
    with pytest.raises(DialogNotActive):
        dialog.act(states.respond, 0, Words("again"))


def test_a_dialog_ends_by_itself_when_nothing_is_asked_any_more():
    dialog = Alarm(replace(PLAIN, dialog=True))
    dialog.found("High")
    [ended] = dialog.found("")
    assert (ended.branch.state, ended.retain, ended.condition.branches) == (State.NORMAL, False, ())


# -- how sure it is


BAD, UNCERTAIN = 0x80310000, 0x40930000


def judged(alarm, quality):
    alarm.now += SECOND
    return alarm._take(states.judged(alarm.condition, quality, alarm.now, alarm.new))


def test_a_change_of_the_quality_is_told_of_a_retained_condition_and_leaves_its_state():
    # Part 9 5.5.2: of others no event, and of what is not known nothing is said.
    alarm = Alarm()
    assert judged(alarm, BAD) == ()
    assert alarm.condition.trunk.quality == BAD
    alarm.found("High")
    assert alarm.told[-1].branch.quality == BAD
    [told] = judged(alarm, UNCERTAIN)
    assert (told.branch.state, told.branch.quality, told.branch.quality_time) == (State.UNACKED, UNCERTAIN, alarm.now)
    assert judged(alarm, UNCERTAIN) == ()
    alarm.acknowledge(told.branch.event_id)  # it said that the alarm is unacknowledged, so it answers for it
    alarm.found("")
    assert judged(alarm, BAD) == ()


def test_a_branch_keeps_the_quality_it_was_judged_with():
    alarm = Alarm()
    judged(alarm, UNCERTAIN)
    for level in ("High", "", "High"):
        alarm.found(level)
    judged(alarm, 0)
    assert (alarm.condition.trunk.quality, alarm.condition.branches[0].quality) == (0, UNCERTAIN)


def test_a_disabled_condition_tells_nothing_of_its_quality_until_it_is_enabled():
    alarm = Alarm()
    alarm.found("High")
    alarm.switch(states.disable)
    assert judged(alarm, BAD) == ()
    alarm.now += SECOND
    alarm._take(states.enable(alarm.condition, Words(), "olga", alarm.now, alarm.new))
    assert alarm.told[-1].branch.quality == BAD
