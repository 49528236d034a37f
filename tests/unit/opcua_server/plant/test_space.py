"""The address space as data: ids that never move, a SCADA view any client can read, and a dump under review.

`ENOSE_GOLDEN=write pytest tests/unit/opcua_server/plant/test_space.py` writes the golden file anew; read the diff: each
changed line is a tag that somebody's SCADA project is bound to.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from asyncua import ua

from config.load import DEMO, load, parse
from config.schema import Alarm, Plant, Redundant
from nodesets.errors import ConfigurationError
from nodesets.methods import METHODS
from opcua_server.plant import condition_methods
from opcua_server.plant.alarms import condition_nodes
from opcua_server.plant.condition_types import CONDITION_TYPES
from opcua_server.plant.space import SERVER, Space, nodes, recorded, result_tags, space, tags
from opcua_server.plant.templates import type_id
from opcua_server.services.nodes import (
    HAS_CONDITION,
    HAS_EVENT_SOURCE,
    HAS_NOTIFIER,
    ORGANIZES,
    SITE_NS,
    Instance,
    Member,
    NodeClass,
    site,
)

GOLDEN = Path(__file__).parents[3] / "golden" / "address_space.txt"
SCALARS = {"Boolean", "UInt16", "Int32", "UInt32", "Float", "Double", "String", "DateTime"}


@pytest.fixture(scope="module")
def plant() -> Plant:
    return load(DEMO)


@pytest.fixture(scope="module")
def demo(plant: Plant) -> Space:
    return space(plant)


def text(node: ua.NodeId | None) -> str:
    if node is None:
        return "-"
    name = ua.ObjectIdNames.get(node.Identifier) if node.NamespaceIndex == 0 else None
    return name or f"{node.NamespaceIndex}:{node.Identifier}"


def line(node: str, instance: Instance, member: Member, units: dict[str, str]) -> str:
    name = member.browse_name if member.path else ua.QualifiedName(node.rpartition(".")[2], SITE_NS)
    row = [
        f"ns={SITE_NS};s={node}",
        member.node_class.name,
        f"{name.NamespaceIndex}:{name.Name}",
        text(member.type_definition),
        text(member.data_type) + ("[]" if member.value_rank == 1 else ""),
        units.get(node, "-"),
        f"access={int(member.access)}" if member.node_class is NodeClass.VARIABLE else "-",
        "historized" if member.historizing else "notifies" if member.event_notifier else "-",
    ]
    if member.node_class is NodeClass.METHOD:
        row[4] = f"({', '.join(a.Name for a in member.inputs)}) -> ({', '.join(a.Name for a in member.outputs)})"
    return " | ".join(row)


def dump(made: Space) -> str:
    everything = list(nodes(made.instances))
    units = {}
    for node, instance, member in everything:
        variant = instance.values.get(member.path, member.value)
        if node.endswith(".EngineeringUnits") and variant is not None:
            units[node.removesuffix(".EngineeringUnits")] = variant.Value.DisplayName.Text
    lines = sorted(line(n, i, m, units) for n, i, m in everything)
    links = sorted(f"{text(r.source)} {text(r.type)} {text(r.target)}" for r in made.references)
    return "\n".join([*lines, "", *links]) + "\n"


def test_the_address_space_of_the_demo_is_the_one_under_review(demo: Space) -> None:
    if os.environ.get("ENOSE_GOLDEN") == "write":
        GOLDEN.write_text(dump(demo), "utf-8")
    assert dump(demo) == GOLDEN.read_text("utf-8")


def ids(made: Space) -> set[str]:
    return {node for node, _, _ in nodes(made.instances)}


def test_ids_stay_when_the_plant_grows(plant: Plant) -> None:
    # Ignition keeps the id in its item path: Bad_NodeIdUnknown after an extension stops a line (acceptance point 1).
    new = plant.devices[0].model_copy(update={"id": "EN00"})
    grown = plant.model_copy(update={"devices": (new, *plant.devices)})
    before, after = space(plant), space(grown)
    kept = {n: (m, i.prefix) for n, i, m in nodes(after.instances)}
    assert all(kept[n] == (m, i.prefix) for n, i, m in nodes(before.instances))
    assert {n.split(".")[0] for n in ids(after) - ids(before)} == {"EN00", "SCADA"}


def test_the_same_plant_gives_the_same_space(plant: Plant, demo: Space) -> None:
    assert space(plant) == demo


def named(length: int) -> Plant:
    """Every id of that many characters."""
    name = "N" * length
    return parse(
        f"devices: [{{id: {name}, channels: [{{id: {name}, heater: true}}], streams: [{{id: {name}}}]}}]\n"
        f"lines: [{{id: L{name[1:]}, streams: [{name}.{name}]}}]"
    )


def test_ids_are_short_and_have_no_character_an_address_syntax_uses(demo: Space) -> None:
    # Plant SCADA: no backslash, !A, ;!E=; others: no space, slash, bracket (information model 1.2).
    for node in ids(demo) | ids(space(named(27))):
        assert re.fullmatch(r"[A-Za-z0-9_.-]{1,120}", node), node
    with pytest.raises(ConfigurationError, match="longer than 120 characters"):
        space(named(32))


def test_no_id_is_given_twice(demo: Space) -> None:
    everything = [node for node, _, _ in nodes(demo.instances)]
    assert len(everything) == len(set(everything))


def test_parents_come_before_children(demo: Space) -> None:
    known: set[ua.NodeId] = set()
    for node, instance, member in nodes(demo.instances):
        parent = site(node.rpartition(".")[0]) if member.path else instance.parent
        assert parent in known or parent.NamespaceIndex == 0
        known.add(site(node))


def test_texts_can_be_shown_everywhere(demo: Space) -> None:
    # WinCC OA turns what is not Latin-1 into '?'; Plant SCADA cuts at 254.
    for _, instance, member in nodes(demo.instances):
        described = instance.descriptions.get(member.path, member.description)
        assert len(described.encode("latin-1")) <= 254
    assert {n for n, _, m in nodes(demo.instances) if m.node_class is NodeClass.METHOD and not m.description} <= {
        f"{condition}.{name}"
        for condition, _, _ in condition_nodes(load(DEMO))
        for method in (*condition_methods.METHODS, "GetGroupMemberships")
        for name in (method, f"ShelvingState.{method}")
    } | {"ENose.AlarmMetrics.Reset"}


def test_no_placeholder_and_no_wide_integer_is_instantiated(demo: Space) -> None:
    # asyncua's own instantiate() makes <Placeholder> nodes; Plant SCADA reads no 64-bit integers.
    for node, _, member in nodes(demo.instances):
        assert "<" not in member.browse_name.Name
        if member.node_class is NodeClass.VARIABLE:
            assert member.data_type is not None, node
            assert member.data_type not in (ua.NodeId(ua.ObjectIds.Int64), ua.NodeId(ua.ObjectIds.UInt64))


def test_a_channel_has_a_heater_only_when_the_device_reports_one(demo: Space) -> None:
    # A node without a source is absent, never a Good null.
    assert "EN01.Array.S01.HeaterTemperature" in ids(demo)
    assert "EN02.Array.S01.HeaterTemperature" not in ids(demo)
    assert "EN02.Environment.SampleFlow" not in ids(demo)


def test_exactly_what_the_historian_gets_is_marked_as_historised(plant: Plant, demo: Space) -> None:
    # A trend client asks for history where Historizing says so; an unmarked column would be stored and never found.
    assert {node for node, _, member in nodes(demo.instances) if member.historizing} == recorded(plant)


def test_a_second_stream_has_no_history_of_a_phase_that_is_not_recorded(plant: Plant) -> None:
    streams = (*plant.devices[0].streams, plant.devices[0].streams[0].model_copy(update={"id": "Stream02"}))
    twice = plant.model_copy(
        update={"devices": (plant.devices[0].model_copy(update={"streams": streams}),), "lines": ()}
    )
    marked = {node for node, _, member in nodes(space(twice).instances) if member.historizing}
    assert marked == recorded(twice)
    assert "EN01.Stream02.AcquisitionStatus.Phase" not in marked
    assert {t.node for t in result_tags("EN01.Stream02")} <= marked


def test_tags_have_unit_and_range_of_the_configured_channel(plant: Plant) -> None:
    # The range sets a client's percent dead-band (process rule 18).
    by_id = {row["node_id"]: row for row in tags(plant)}
    for device in plant.devices:
        for tag in device.tags(plant.registers(device))[: len(device.channels)]:
            row = by_id[f"ns=3;s={tag.node}"]
            assert (row["low"], row["high"], row["description"]) == (tag.low, tag.high, tag.description)
            assert row["historized"]
    assert by_id["ns=3;s=EN01.Array.S01.SensorValue"]["unit"] == "kΩ"
    assert by_id["ns=3;s=EN01.Environment.Pressure"]["unit"] == "hPa"
    assert by_id["ns=3;s=EN01.Array.S01.SensorValue"]["path"] == "ENose/Devices/EN01/Array/S01/SensorValue"


def children(made: Space) -> dict[ua.NodeId, set[ua.NodeId]]:
    """Targets of hierarchical references, as a client browses them; not of properties of variables."""
    below: dict[ua.NodeId, set[ua.NodeId]] = {}
    for node, instance, member in nodes(made.instances):
        parent = site(node.rpartition(".")[0]) if member.path else instance.parent
        below.setdefault(parent, set()).add(site(node))
    for reference in made.references:
        if reference.type == ORGANIZES:
            below.setdefault(reference.source, set()).add(reference.target)
    return below


def seen(made: Space, root: str) -> Iterator[tuple[ua.NodeId, Member]]:
    """What a client finds that drags the root: objects are opened, variables and methods are taken."""
    members = {site(node): member for node, _, member in nodes(made.instances)}
    below = children(made)
    todo = [site(root)]
    while todo:
        for node in below.get(todo.pop(), ()):
            yield node, members[node]
            if members[node].node_class is NodeClass.OBJECT:
                todo.append(node)


def test_the_scada_view_shows_only_what_every_scada_can_read(demo: Space) -> None:
    # Acceptance point 2: every leaf a scalar of a built-in type; structures and texts with locale are elsewhere.
    leaves = [(n, m) for n, m in seen(demo, "SCADA") if m.node_class is NodeClass.VARIABLE]
    for node, member in leaves:
        assert member.value_rank == -1, node
        assert text(member.data_type) in SCALARS, node
    assert len(leaves) == len({n for n, _ in leaves})


def test_the_tag_list_is_the_scada_view(plant: Plant, demo: Space) -> None:
    # What is imported from the list is what is browsed.
    shown = {f"ns=3;s={n.Identifier}" for n, m in seen(demo, "SCADA") if m.node_class is NodeClass.VARIABLE}
    rows = tags(plant)
    assert {row["node_id"] for row in rows} == shown
    assert all(row["data_type"] in SCALARS for row in rows)


def test_every_method_is_called_on_its_real_object_in_the_scada_view(demo: Space) -> None:
    # A client passes the object it browsed as ObjectId; a folder would be BadMethodInvalid.
    methods = {str(n.Identifier) for n, m in seen(demo, "SCADA") if m.node_class is NodeClass.METHOD}
    assert {m.split(".", 1)[1] if m[:2] in ("EN", "L0") else m for m in methods} == set(METHODS)
    below = children(demo)
    for method in methods:
        owners = {str(p.Identifier) for p, nodes_ in below.items() if site(method) in nodes_}
        assert owners == {method.rpartition(".")[0]}


def test_the_other_views_lead_to_real_objects(demo: Space) -> None:
    known = {site(n) for n in ids(demo)}
    for reference in demo.references:
        if reference.type == ORGANIZES:
            assert {reference.source, reference.target} <= known
    assert site("L01.Batch") in children(demo)[site("Quality")]
    assert site("EN01.Alarms") in children(demo)[site("Maintenance")]


def test_events_climb_to_the_server_and_never_in_a_circle(plant: Plant, demo: Space) -> None:
    # Part 3 7.17: HasEventSource has no loops. A subscriber of Server sees every device's alarms (G1).
    above: dict[ua.NodeId, set[ua.NodeId]] = {}
    for reference in demo.references:
        if reference.type in (HAS_NOTIFIER, HAS_EVENT_SOURCE):
            above.setdefault(reference.target, set()).add(reference.source)

    def ancestors(node: ua.NodeId, path: tuple[ua.NodeId, ...] = ()) -> set[ua.NodeId]:
        assert node not in path
        up = above.get(node, set())
        return up.union(*(ancestors(n, (*path, node)) for n in up))

    sources = {source for _, source, _ in condition_nodes(plant)} | {"L01", "ENose.Agents", "ENose.Signatures"}
    for source in sources:
        assert {SERVER, site("ENose")} <= ancestors(site(source))
    assert site("EN01.Stream01.Alarms") in ancestors(site("EN01.Stream01"))
    assert site("EN02") not in ancestors(site("EN01.Stream01"))
    notifiers = {n for n, i, m in nodes(demo.instances) if m.event_notifier == 5}  # subscribe, history
    assert {"ENose.Agents", "ENose.Signatures"} <= notifiers
    assert {str(n.Identifier) for up in above.values() for n in up} - {str(SERVER.Identifier)} <= notifiers


def test_every_alarm_is_a_condition_with_tags_beside_it(plant: Plant, demo: Space) -> None:
    # Part 9 5.5.2: ConditionId is the instance; HasCondition from its source. Ignition before 8.3 reads only the tags.
    have = {(r.source, r.target) for r in demo.references if r.type == HAS_CONDITION}
    known = {n: m for n, _, m in nodes(demo.instances)}
    for node, source, kind in condition_nodes(plant):
        assert (site(source), site(node)) in have
        assert known[node].type_definition == type_id(CONDITION_TYPES[kind.kind].type)
        for name in ("Active", "Acked", "Severity", "Text", "EventId", "Retain", "Acknowledge", "AddComment", "Enable"):
            assert f"{node}.{name}" in known
        if of := CONDITION_TYPES[kind.kind].input:
            assert f"{source}.{of}" in known


def test_channels_that_should_agree_have_an_alarm_that_names_both_and_how_far_they_may_be_apart(plant: Plant) -> None:
    # Information model 1.5; Part 9 5.8.21: InputNode is compared with SetpointNode.
    pair = Redundant(channels=("S02", "S05"), tolerance=0.25)
    device = plant.devices[0].model_copy(update={"redundant": (pair,)})
    made = space(plant.model_copy(update={"devices": (device,)}))
    [alarm] = [i for i in made.instances if i.prefix.startswith("EN01.") and "Disagreement" in i.prefix]
    assert (alarm.prefix, alarm.parent.Identifier, alarm.name) == (
        "EN01.Array.S02.ChannelDisagreement",
        "EN01.Alarms",
        "S02.ChannelDisagreement",
    )
    shown = {path: alarm.values[path].Value for path in ("InputNode", "SetpointNode", "HighLimit", "LowLimit")}
    assert shown == {
        "InputNode": site("EN01.Array.S02.SensorValue"),
        "SetpointNode": site("EN01.Array.S05.SensorValue"),
        "HighLimit": 0.25,
        "LowLimit": -0.25,
    }


def test_a_device_and_a_line_cannot_share_an_id(plant: Plant) -> None:
    # Both would own `L01.*`.
    doubled = plant.model_copy(
        update={
            "devices": (
                plant.devices[0].model_copy(update={"id": "L01"}),
                plant.devices[1].model_copy(update={"id": "ENose"}),
            )
        }
    )
    with pytest.raises(ConfigurationError) as refused:
        space(doubled)
    assert [m.path for m in refused.value.mistakes] == ["devices[1].id", "lines[0].id"]


def test_verdict_carries_its_names_for_clients_that_show_them(demo: Space) -> None:
    # MultiStateValueDiscreteType (Part 8 5.3.3.4).
    values = next(m.value for n, _, m in nodes(demo.instances) if n == "EN01.Stream01.Quality.Verdict.EnumValues")
    assert values is not None
    assert [v.DisplayName.Text for v in values.Value] == ["UNDEFINED", "OK", "NOT_OK", "NOT_DECIDABLE"]


def test_settings_of_an_alarm_that_does_not_exist_are_a_mistake(plant: Plant) -> None:
    # A misspelt kind would leave the alarm as it was, and nobody would notice until it is needed.
    misspelt = plant.model_copy(update={"alarms": {"ComunicationLost": Alarm(severity=900)}})
    with pytest.raises(ConfigurationError, match=r"alarms\.ComunicationLost: there is no such alarm"):
        space(misspelt)
