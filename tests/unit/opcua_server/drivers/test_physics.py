"""The physics: deterministic, in range, and every scripted event to be seen."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.load import DEMO, load
from config.schema import StatusBit
from nodesets.errors import ConfigurationError, DeviceError
from nodesets.model import Phase
from opcua_server.drivers.physics import (
    SECOND,
    Event,
    Physics,
    Scenario,
    State,
    Timeline,
    absolute_humidity,
    cycles,
    find_scenario,
    load_scenario,
)

PLANT = load(DEMO)
SHIPPED = {"coffee_a": PLANT.devices[0], "coffee_qcm": PLANT.devices[1]}
GOOD = load_scenario(find_scenario("coffee_a"))


def with_event(kind: str, **values: object) -> Callable[[float], State]:
    """Roast A with one event in the cycle from 100 s to 120 s, sampled in seconds."""
    physics = Physics(GOOD.model_copy(update={"events": (Event.model_validate({"kind": kind, **values}),)}), 3)
    return lambda t: physics.at(round(t * SECOND))


good = Physics(GOOD, 3)


def quiet(t: float) -> State:
    return good.at(round(t * SECOND))


# "Same scenario + seed gives the same registers", in any order of asking: months can be computed piecewise.
@settings(max_examples=20)
@given(st.lists(st.integers(0, 10**7), min_size=2, max_size=5), st.integers(0, 2**32))
def test_value_at_an_instant_does_not_depend_on_what_was_asked_before(times: list[int], seed: int) -> None:
    warm = Physics(GOOD, seed)
    for t in times:
        warm.at(t * SECOND // 10)
    for t in reversed(times):
        fresh, again = Physics(GOOD, seed).at(t * SECOND // 10), warm.at(t * SECOND // 10)
        assert fresh.channels.tobytes() == again.channels.tobytes()
        assert fresh.environment == again.environment


def test_seeds_and_units_differ() -> None:
    values = [Physics(GOOD, seed, unit=unit).at(0).channels for seed, unit in ((1, 1), (1, 2), (2, 1))]
    assert not np.array_equal(values[0], values[1])
    assert not np.array_equal(values[0], values[2])


@pytest.mark.parametrize("name", SHIPPED)
def test_good_product_stays_in_the_ranges_of_the_demo_plant_for_a_month(name: str) -> None:
    device = SHIPPED[name]
    columns = device.columns(PLANT.registers(device))
    for lot in (0, 1, 30):
        for cycle in cycles(load_scenario(find_scenario(name)), device, 5, 3, lot=lot):
            for column, values in zip(columns, cycle.values.T, strict=True):
                assert values.min() >= column.tag.low, column.tag.node
                assert values.max() <= column.tag.high, column.tag.node


# One cycle, one result (process rule 1) needs a baseline that has recovered and a plateau in the exposure.
@pytest.mark.parametrize("name", SHIPPED)
def test_each_cycle_shows_baseline_response_and_recovery(name: str) -> None:
    device = SHIPPED[name]
    n = len(device.channels)
    for cycle in cycles(load_scenario(find_scenario(name)), device, 1, 3):
        array, phases = cycle.values[:, :n], cycle.phases
        assert phases.tolist() == [1] * 5 + [2] * 10 + [3] * 5
        before, plateau = array[phases == Phase.BASELINE].mean(0), array[phases == Phase.EXPOSURE][-3:]
        response = np.abs(plateau.mean(0) - before)
        spread = array[phases == Phase.BASELINE].std(0)
        assert (response > 10 * spread).all()
        assert (np.ptp(plateau, axis=0) < 0.05 * response + 6 * spread).all()
        assert (np.abs(array[-1] - before) < 0.15 * response).all()


def test_lots_differ_a_little_and_repeat_exactly() -> None:
    def plateau(lot: int) -> np.ndarray:
        device = SHIPPED["coffee_a"]
        return np.mean([c.values[14, :12] for c in cycles(GOOD, device, 1, 5, lot=lot)], axis=0)

    first, second = plateau(1), plateau(2)
    assert np.array_equal(first, plateau(1))
    relative = np.abs(second / first - 1.0)
    assert 0.0005 < relative.max() < 0.1


def test_drift_moves_the_baseline_and_zero_brings_it_back() -> None:
    month = 30 * 86_400 * SECOND
    physics = Physics(GOOD, 1)
    fresh, old = physics.at(0), physics.at(month)
    assert np.abs(old.channels / fresh.channels - 1.0).max() > 0.03
    zeroed = physics.timeline.commanded("zero", 0.0, month)
    assert np.abs(physics.at(month, zeroed).channels / fresh.channels - 1.0).max() < 0.01
    assert physics.at(month, zeroed).flags & StatusBit.CALIBRATING


# In the baseline phase there is no sample: what shows there is in the line.
def test_contamination_shows_in_the_baseline_and_washes_out() -> None:
    dirty = with_event("contamination", start=95, duration=20)
    assert dirty(104).phase == Phase.BASELINE
    assert (dirty(104).channels < 0.9 * quiet(104).channels).any()
    assert dirty(124).channels == pytest.approx(quiet(124).channels, rel=0.01)


def test_off_spec_batch_changes_the_response_and_not_the_baseline() -> None:
    bad = with_event("off_spec", start=100, duration=20)
    assert bad(104).channels.tolist() == quiet(104).channels.tolist()
    assert np.abs(bad(114).channels / quiet(114).channels - 1.0).max() > 0.1


def test_heater_failure_cools_the_channel_and_the_device_reports_it() -> None:
    cold = with_event("heater_failure", start=100, duration=60, channel="S03")
    state = cold(130)
    assert state.heaters[2] < 40.0 < quiet(130).heaters[2]
    assert state.channels[2] > 3.0 * quiet(130).channels[2]
    assert np.flatnonzero(state.failed).tolist() == [2]
    assert state.flags & StatusBit.HEATER_FAILURE
    others = np.arange(12) != 2
    assert state.channels[others].tolist() == quiet(130).channels[others].tolist()


def test_stuck_channel_repeats_the_value_it_had_bit_for_bit() -> None:
    stuck = with_event("stuck", start=103, duration=20, channel="S05")
    assert {stuck(t).channels[4] for t in (103, 108, 114, 122)} == {quiet(103).channels[4]}
    assert stuck(123).channels[4] == quiet(123).channels[4]


def test_flow_loss_starves_the_sensors() -> None:
    starved = with_event("flow_loss", start=100, duration=20, magnitude=0.9)
    assert starved(114).environment["SampleFlow"] < 50.0
    assert starved(114).flags & StatusBit.FLOW_LOW
    assert (starved(114).channels > 1.2 * quiet(114).channels).all()


def test_link_loss_is_told() -> None:
    cut = with_event("link_loss", start=100, duration=5)
    assert [cut(t).link for t in (99, 100, 104.9, 105)] == [True, False, False, True]


def test_bad_day_has_every_kind_of_event() -> None:
    day = load_scenario(find_scenario("bad_day"))
    assert {e.kind for e in day.events} == set(Event.model_fields["kind"].annotation.__args__)
    assert not day.quiet().events


def test_every_measurement_is_marked_simulated() -> None:
    assert quiet(0).flags & StatusBit.SIMULATED


# A break-off must leave what was taken up before: the sensors do not know of the command.
def test_stop_leaves_the_sensors_to_recover_by_themselves() -> None:
    stopped = good.timeline.stopped(110 * SECOND)
    assert good.at(110 * SECOND, stopped).channels == pytest.approx(quiet(110).channels, rel=0.01)
    assert stopped.at(111 * SECOND) == (Phase.IDLE, 6)
    assert good.at(150 * SECOND, stopped).channels == pytest.approx(quiet(104).channels, rel=0.02)


def test_start_breaks_off_the_cycle_and_counts_the_next() -> None:
    started = good.timeline.started(107 * SECOND)
    assert started.at(107 * SECOND - 1) == (Phase.EXPOSURE, 6)
    assert started.at(107 * SECOND) == (Phase.BASELINE, 7)
    assert started.at(127 * SECOND) == (Phase.BASELINE, 8)


# The past is what happened: a command changes nothing before it.
@given(
    st.lists(st.tuples(st.sampled_from(["start_cycle", "stop"]), st.integers(1, 60)), max_size=6), st.integers(0, 400)
)
def test_commands_do_not_change_the_past(commands: list[tuple[str, int]], probe: int) -> None:
    timeline, now = Timeline.continuous((5, 10, 5)), 0
    for name, after in commands:
        now += after
        told = timeline.commanded(name, 0.0, now * SECOND)
        if probe < now:
            assert told.at(probe * SECOND) == timeline.at(probe * SECOND)
        assert told.at(now * SECOND)[1] >= timeline.at(now * SECOND - 1)[1]
        timeline = told


@pytest.mark.parametrize(
    ("name", "argument", "at"), [("zero", 0.0, 8), ("span", 5.0, 8), ("span", 0.0, 1), ("x", 0.0, 1)]
)
def test_command_that_makes_no_sense_is_refused(name: str, argument: float, at: int) -> None:
    with pytest.raises(DeviceError):
        good.timeline.commanded(name, argument, at * SECOND)


# 23.05 g/m3 saturated at 25 degC (CRC Handbook; the Magnus formula is good to 0.5 %).
def test_absolute_humidity_of_saturated_air() -> None:
    assert absolute_humidity(25.0, 100.0) == pytest.approx(23.05, rel=0.005)


def test_scenario_file_with_mistakes_names_each(tmp_path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("phases: [5, 10]\nsensors: []\nenvironment: {}\nsample: {ethanol: -1}\nwrong: 1\n")
    with pytest.raises(ConfigurationError) as caught:
        load_scenario(path)
    assert {m.path.split(".")[0] for m in caught.value.mistakes} == {"phases", "sensors", "sample", "wrong"}


def test_event_of_an_unknown_channel_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="S99"):
        Scenario.model_validate(
            GOOD.model_dump() | {"events": [{"kind": "stuck", "start": 0, "duration": 1, "channel": "S99"}]}
        )
