from collections.abc import Sequence

import numpy as np
import pytest

from analytics.validation import FROZEN_PATIENCE, LINK_PATIENCE, Validated, Validator, findings, waiting
from config.schema import Column, Point
from nodesets.model import Cause, Frame, Quality, Tag

SECOND = 1_000_000_000


def column(name: str = "S01", max_rate: float | None = None, stuck_after: float | None = None) -> Column:
    return Column(
        tag=Tag(node=f"EN01.Array.{name}.SensorValue", unit="B49", low=0.0, high=500.0, description=name),
        point=Point(address=100),
        max_rate=max_rate,
        stuck_after=stuck_after,
    )


def frame(at: float, values: Sequence[float], cause: Cause | Sequence[Cause] = Cause.NONE) -> Frame:
    causes = np.full(len(values), cause, np.uint8) if isinstance(cause, Cause) else np.array(cause, np.uint8)
    time = round(at * SECOND)
    return Frame(
        device="EN01", source_time=time, received_time=time, values=np.array(values, np.float64), causes=causes
    )


def lost(at: float, count: int = 1) -> Frame:
    return frame(at, [np.nan] * count, Cause.LINK_LOST)


def statuses(validator: Validator, frames: Sequence[Frame]) -> list[Quality]:
    return [Quality(int(validator.validate(f).status[0])) for f in frames]


def test_a_lost_link_shows_the_last_value_for_two_polls_then_null():
    # F10: a client must see that nothing new comes, first with what was last known, then without any value.
    validator = Validator([column()])
    validator.validate(frame(0, [42.0]))
    seen = [validator.validate(lost(i)) for i in range(1, 5)]
    assert [Quality(int(v.status[0])) for v in seen] == [
        Quality.UNCERTAIN_NO_COMMUNICATION_LAST_USABLE,
        Quality.UNCERTAIN_NO_COMMUNICATION_LAST_USABLE,
        Quality.BAD_NO_COMMUNICATION,
        Quality.BAD_NO_COMMUNICATION,
    ]
    assert [v.values[0] for v in seen[:2]] == [42.0, 42.0]
    assert np.isnan([v.values[0] for v in seen[2:]]).all()
    assert [bool(v.lost) for v in seen] == [False, False, True, True]


@pytest.mark.parametrize("cause", [Cause.PROTOCOL, Cause.EXCEPTION])
def test_an_answer_that_cannot_be_trusted_counts_as_none_for_its_columns_only(cause):
    # H42: a short frame or an exception in one block of registers says nothing about the others.
    validator = Validator([column("S01"), column("S02")])
    validator.validate(frame(0, [1.0, 2.0]))
    for at in range(1, LINK_PATIENCE + 2):
        seen = validator.validate(frame(at, [np.nan, 2.5], [cause, Cause.NONE]))
    assert list(seen.status) == [Quality.BAD_NO_COMMUNICATION, Quality.GOOD]
    assert not seen.lost


def test_a_link_that_comes_back_is_good_at_once():
    validator = Validator([column()])
    frames = [frame(0, [1.0]), lost(1), lost(2), lost(3), frame(4, [1.0])]
    assert statuses(validator, frames)[-1] == Quality.GOOD


def test_a_stuck_sensor_is_doubted_and_counts_as_failed():
    # F11.
    validator = Validator([column(stuck_after=3.0)])
    seen = [validator.validate(frame(at, [7.0])) for at in range(5)]
    assert [int(v.status[0]) for v in seen[:3]] == [Quality.GOOD] * 3
    assert [int(v.status[0]) for v in seen[3:]] == [Quality.UNCERTAIN_SENSOR_NOT_ACCURATE] * 2
    assert seen[-1].values[0] == 7.0
    assert seen[-1].failed[0]
    moved = validator.validate(frame(5, [7.1]))
    assert moved.status[0] == Quality.GOOD
    assert not moved.failed[0]


def test_a_gap_in_communication_is_not_counted_as_stuck_time():
    # Nothing is known of the value during the gap.
    validator = Validator([column(stuck_after=3.0)])
    frames = [frame(0, [7.0]), lost(1), lost(2), lost(3), frame(4, [7.0]), frame(5, [7.0])]
    assert statuses(validator, frames)[-2:] == [Quality.GOOD, Quality.GOOD]


def test_a_value_outside_its_range_is_shown_and_uncertain():
    # F12.
    validator = Validator([column()])
    seen = validator.validate(frame(0, [500.1]))
    assert seen.status[0] == Quality.UNCERTAIN_ENGINEERING_UNITS_EXCEEDED
    assert seen.values[0] == 500.1


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_none_is_a_failed_sensor_with_a_null_value(value):
    # F12, even when the driver did not say so.
    validator = Validator([column()])
    validator.validate(frame(0, [1.0]))
    seen = validator.validate(frame(1, [value]))
    assert seen.status[0] == Quality.BAD_SENSOR_FAILURE
    assert np.isnan(seen.values[0])
    assert seen.failed[0]


@pytest.mark.parametrize("cause", [Cause.SENTINEL, Cause.NOT_A_NUMBER, Cause.CHANNEL_FAULT])
def test_what_the_driver_calls_a_broken_channel_is_a_failed_sensor(cause):
    seen = Validator([column()]).validate(frame(0, [1.0], cause))
    assert seen.status[0] == Quality.BAD_SENSOR_FAILURE
    assert np.isnan(seen.values[0])


def test_the_sentinel_of_a_float32_register_is_a_failed_sensor_and_undeclared_it_is_out_of_range():
    # SmellNet's Benzene: 4294967295 has no float32 and is met as 4294967296.0 (analytics, trap 3).
    met = float(np.float32(4294967295.0))
    validator = Validator([column(), column("S02")])
    seen = validator.validate(frame(0, [met, met], [Cause.SENTINEL, Cause.NONE]))
    assert list(seen.status) == [Quality.BAD_SENSOR_FAILURE, Quality.UNCERTAIN_ENGINEERING_UNITS_EXCEEDED]
    assert np.isnan(seen.values[0])


def test_before_the_first_sample_every_value_waits_for_initial_data():
    # F14, also when the very first poll already fails.
    assert set(waiting(3).status) == {Quality.BAD_WAITING_FOR_INITIAL_DATA}
    validator = Validator([column()])
    assert statuses(validator, [lost(0), lost(1), lost(2)]) == [
        Quality.BAD_WAITING_FOR_INITIAL_DATA,
        Quality.BAD_WAITING_FOR_INITIAL_DATA,
        Quality.BAD_NO_COMMUNICATION,
    ]


def test_a_frozen_heartbeat_shows_the_last_usable_value_and_turns_bad_when_it_lasts():
    # The device answers with old data: not one of them may look new, and none may be shown for ever.
    validator = Validator([column()])
    validator.validate(frame(0, [5.0]))
    seen = [validator.validate(frame(at, [6.0], Cause.FROZEN)) for at in range(1, FROZEN_PATIENCE + 2)]
    assert {int(v.status[0]) for v in seen[:-1]} == {Quality.UNCERTAIN_LAST_USABLE}
    assert seen[0].values[0] == 5.0
    assert seen[-1].status[0] == Quality.BAD_NO_COMMUNICATION
    # an operator is told, and told that it is not the cable
    [found] = findings("EN01", [column()], seen[-2], seen[-1], 1)
    assert (found.kind, found.level) == ("CommunicationLost", "Active")
    assert "heartbeat" in found.text
    assert statuses(validator, [frame(99, [6.0])]) == [Quality.GOOD]


def test_a_spike_is_doubted_once_and_a_step_until_it_could_have_been_reached():
    validator = Validator([column(max_rate=10.0)])
    spike = statuses(validator, [frame(0, [100.0]), frame(1, [200.0]), frame(2, [101.0])])
    assert spike == [Quality.GOOD, Quality.UNCERTAIN_SENSOR_NOT_ACCURATE, Quality.GOOD]
    step = statuses(validator, [frame(2 + i, [131.0]) for i in range(1, 5)])
    assert step == [Quality.UNCERTAIN_SENSOR_NOT_ACCURATE] * 2 + [Quality.GOOD] * 2


def test_a_clock_that_steps_back_is_told_once_and_spoils_no_later_check():
    # F15: rate and stuck checks must not wait until the old time comes round again.
    validator = Validator([column(max_rate=10.0, stuck_after=10.0)])
    frames = [frame(3600, [100.0]), frame(0, [101.0]), frame(1, [102.0])]
    assert statuses(validator, frames) == [Quality.GOOD, Quality.UNCERTAIN_SUBNORMAL, Quality.GOOD]


def test_a_wrong_device_clock_makes_the_sample_uncertain():
    # Process rule 21.
    assert statuses(Validator([column()]), [frame(0, [1.0], Cause.CLOCK)]) == [Quality.UNCERTAIN_SUBNORMAL]


def test_the_same_measurement_polled_twice_is_nothing_new():
    validator = Validator([column(stuck_after=3.0)])
    first = validator.validate(frame(0, [1.0]))
    second = validator.validate(frame(0, [1.0]))
    assert (first.fresh, second.fresh) == (True, False)
    assert second.status[0] == first.status[0]


def test_the_worst_rule_wins():
    validator = Validator([column(max_rate=1.0)])
    validator.validate(frame(0, [100.0]))
    assert statuses(validator, [frame(1, [800.0], Cause.CLOCK)]) == [Quality.UNCERTAIN_SENSOR_NOT_ACCURATE]
    assert statuses(validator, [frame(2, [900.0], Cause.SENTINEL)]) == [Quality.BAD_SENSOR_FAILURE]


def test_data_quality_is_the_mean_of_good_uncertain_and_bad():
    seen = Validator([column(f"S0{i}") for i in range(4)]).validate(frame(0, [1.0, 1.0, 501.0, np.nan]))
    assert seen.data_quality == pytest.approx((1 + 1 + 0.5 + 0) / 4)


def changes(validator: Validator, frames: Sequence[Frame], columns: Sequence[Column]) -> list[list[tuple[str, str]]]:
    before: Validated = waiting(len(columns))
    found = []
    for f in frames:
        after = validator.validate(f)
        found.append([(x.kind, x.level) for x in findings("EN01", columns, before, after, f.source_time)])
        before = after
    return found


def test_findings_come_when_they_begin_change_and_end_only():
    # F13: an alarm needs edges, not a repetition a second.
    columns = [column("S01"), column("S02")]
    nan = np.nan
    frames = [frame(0, [1, 1]), *(lost(i, 2) for i in range(1, 5)), frame(5, [1, nan]), frame(6, [1, nan])]
    frames += [frame(7, [nan, nan]), frame(8, [1, 1])]
    assert changes(Validator(columns), frames, columns) == [
        [], [], [], [("CommunicationLost", "Active")], [],
        [("CommunicationLost", ""), ("SensorFailure", "Active")], [],
        [("SensorFailure", "Active")], [("SensorFailure", "")],
    ]  # fmt: skip


def test_a_failure_names_its_sensors():
    columns = [column("S01"), column("S02")]
    after = Validator(columns).validate(frame(0, [1.0, np.nan]))
    (found,) = findings("EN01", columns, waiting(2), after, 0)
    assert found.source == "EN01"
    assert found.text == "EN01: failed Array.S02.SensorValue"


def test_a_failed_sensor_stays_failed_while_it_cannot_be_asked():
    validator = Validator([column()])
    validator.validate(frame(0, [np.nan]))
    assert validator.validate(lost(1)).failed[0]
