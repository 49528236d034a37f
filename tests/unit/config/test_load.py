import pytest

from config.load import DEMO, digest, load, parse
from config.schema import BUILT_IN_MAPS
from nodesets.errors import ConfigurationError

ONE = """
devices:
  - id: EN01
    channels: [{id: S01}]
"""


def mistakes(text: str) -> list[tuple[int, str]]:
    with pytest.raises(ConfigurationError) as caught:
        parse(text, "plant.yaml")
    return [(m.line, m.path) for m in caught.value.mistakes]


@pytest.mark.parametrize("name", ["demo.yaml", "plant.yaml"])
def test_the_plants_that_ship_are_right(name):
    assert load(DEMO.parent / name).devices


def test_every_mistake_is_told_at_once_with_its_path_and_line():
    # A commissioning engineer mends a plant file in one go, not in a loop of one error each.
    found = mistakes(
        """site: {id: Hamburg, time_zone: Europe/Atlantis}
devices:
  - id: EN 01
    timeout: 3
    registers: nose
    channels:
      - {id: S01, unit: XX}
      - {id: S02, range: [3, 1]}
    colour: red
lines:
  - {id: L01, streams: [EN09.Stream01]}
"""
    )
    assert found == [
        (1, "site.time_zone"),
        (3, "devices[0].id"),
        (5, "devices[0].registers"),
        (7, "devices[0].channels[0].unit"),
        (8, "devices[0].channels[1].range"),
        (9, "devices[0].colour"),
        (11, "lines[0].streams[0]"),
    ]


def test_a_mistake_names_the_file_as_an_editor_can_open_it():
    with pytest.raises(ConfigurationError, match=r"^plant\.yaml:4: devices\[0\]\.channels\[0\]\.size: unknown key$"):
        parse("devices:\n  - id: EN01\n    channels:\n      - {id: S01, size: 3}\n", "plant.yaml")


@pytest.mark.parametrize(
    ("text", "line"),
    [("devices: [\n\n", 3), ("- a\n- b\n", 1), ("", 1), ("a: 1\na: 2\ndevices: []\n", 2)],
)
def test_text_that_is_no_plant_is_refused_with_a_line(text, line):
    if text:
        assert line in [found for found, _ in mistakes(text)]
    else:
        assert mistakes(text) == [(1, "")]


def test_a_missing_or_binary_file_is_a_mistake_not_a_traceback(tmp_path):
    with pytest.raises(ConfigurationError, match=r"none\.yaml"):
        load(tmp_path / "none.yaml")
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigurationError, match=r"x\.yaml"):
        load(tmp_path / "x.yaml")


def test_ids_given_twice_and_streams_watched_twice_are_refused():
    text = ONE + "  - {id: EN01, channels: [{id: S01}, {id: S01}]}\n"
    text += "lines:\n  - {id: L01, streams: [EN01.Stream01]}\n  - {id: L02, streams: [EN01.Stream01]}\n"
    paths = [path for _, path in mistakes(text)]
    assert paths == ["devices[1]", "devices[1].id", "lines[1].streams[0]"]


def test_a_timeout_longer_than_the_period_is_refused():
    # The schedule is absolute: a poll must be over before the next one is due.
    assert mistakes(ONE + "    period: 0.1\n    timeout: 0.5\n") == [(3, "devices[0]")]


def test_a_modbus_device_has_no_more_channels_than_a_poll_can_read():
    many = "".join(f"      - {{id: S{i:03d}}}\n" for i in range(65))
    device = "devices:\n  - id: EN01\n    channels:\n" + many
    assert mistakes(device) == [(2, "devices[0]")]
    assert len(parse(device + "    driver: simulator\n    scenario: waves\n").devices[0].channels) == 65


def test_a_simulator_needs_a_scenario_and_a_real_device_has_none():
    assert mistakes(ONE + "    driver: simulator\n") == [(3, "devices[0]")]
    assert mistakes(ONE + "    scenario: coffee_a\n") == [(3, "devices[0]")]


@pytest.mark.parametrize("pairs", ["[S01, S01]", "[S01, S09]", "[S01, S02]", "[S01, S03], [S01, S03]"])
def test_only_channels_that_measure_the_same_are_redundant(pairs):
    channels = "[{id: S01}, {id: S02, technology: PID, unit: '59'}, {id: S03}]"
    given = ", ".join(f"{{channels: {pair}], tolerance: 1}}" for pair in pairs.removesuffix("]").split("], "))
    device = f"devices:\n  - id: EN01\n    channels: {channels}\n    redundant: "
    assert mistakes(f"{device}[{given}]\n") == [(2, "devices[0]")]
    assert parse(f"{device}[{{channels: [S01, S03], tolerance: 1}}]\n").devices[0].redundant[0].tolerance == 1


def test_python_tags_are_not_carried_out():
    with pytest.raises(ConfigurationError):
        parse("devices: !!python/object/apply:os.getcwd []\n")


def test_the_digest_changes_with_any_value_and_not_with_comments():
    # Batches pin it (process rule 11).
    plain = digest(parse(ONE))
    assert digest(parse("# a comment\n" + ONE)) == plain
    assert digest(parse(ONE + "    period: 2.0\n")) != plain


def test_a_frame_is_channels_then_environment_then_heaters_then_acquisition():
    plant = load(DEMO)
    nodes = [t.node for t in plant.device("EN01").tags(plant.registers(plant.device("EN01")))]
    assert nodes[0] == "EN01.Array.S01.SensorValue"
    assert nodes[12] == "EN01.Environment.Temperature"
    assert nodes[16] == "EN01.Array.S01.HeaterTemperature"
    assert nodes[-2:] == ["EN01.Stream01.AcquisitionStatus.Phase", "EN01.Stream01.AcquisitionData.AcquisitionCounter"]
    assert len(nodes) == 30


def test_a_channel_may_name_its_own_register_and_a_plant_its_own_map():
    plant = parse("""
register_maps:
  other: {word_order: little, channels: {address: 10, type: uint16, scale: 0.1}, heaters: null, heartbeat: null}
devices:
  - id: EN01
    registers: other
    channels: [{id: S01}, {id: S02, register: {address: 77, type: int32, invalid: [-1]}}]
""")
    device = plant.devices[0]
    first, second = device.columns(plant.registers(device))
    assert (first.point.address, first.point.type, first.point.scale) == (10, "uint16", 0.1)
    assert (second.point.address, second.point.type, second.point.invalid) == (77, "int32", (-1.0,))


def test_a_point_behind_the_last_register_is_refused():
    assert mistakes(ONE.replace("{id: S01}", "{id: S01, register: {address: 65535, type: float32}}"))


def test_the_built_in_map_reads_identity_state_and_64_channels_without_overlap():
    built_in = BUILT_IN_MAPS["enose"]
    points = [built_in.vendor, built_in.model, built_in.serial, built_in.firmware, built_in.status, built_in.phase]
    points += [built_in.heartbeat, built_in.device_time, built_in.cycle, *built_in.environment.values()]
    points += [b.point(i) for b in (built_in.channels, built_in.heaters, built_in.channel_status) for i in range(64)]
    taken = [r for p in points for r in range(p.address, p.address + p.registers)]
    assert len(taken) == len(set(taken))
