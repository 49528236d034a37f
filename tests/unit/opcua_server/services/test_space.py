"""The demo plant by template, seen by the services and by a client over a socket."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from asyncua import Client, Server, ua

from config.load import DEMO, load
from nodesets.methods import METHODS
from opcua_server.plant.space import Space as PlantSpace
from opcua_server.plant.space import nodes, space
from opcua_server.services.nodes import SITE_NS, Instance, Member, NodeClass, Reference, Template, site
from opcua_server.services.space import Space
from opcua_server.services.storage import load_types
from opcua_server.services.tree import Wanted
from tests.conformance.opcua import ordinary, serve

A = ua.AttributeIds
OBJECTS = ua.NodeId(ua.ObjectIds.ObjectsFolder)
FOLDER = ua.NodeId(ua.ObjectIds.FolderType)


@pytest.fixture(scope="module")
def demo() -> PlantSpace:
    return space(load(DEMO))


@pytest.fixture(scope="module")
def tree(demo: PlantSpace) -> Space:
    async def built() -> Space:
        server = Server()
        await server.init()
        await load_types(server)
        return Space(server.iserver.aspace)

    made = asyncio.run(built())
    made.replace(demo.instances, demo.references)
    return made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(demo: PlantSpace, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Client]:
    async with serve(tmp_path_factory.mktemp("data")) as bench:
        await load_types(bench.server.asyncua)
        bench.server.replace(demo.instances, demo.references)
        connected = await ordinary(bench)
        try:
            yield connected
        finally:
            await connected.disconnect()


def test_every_reference_is_there_in_both_directions(tree: Space, demo: PlantSpace) -> None:
    # Part 3 4.4.4: a client that browses up must find what it came down by.
    backs: dict[ua.NodeId, Counter[tuple[str, str, bool]]] = {}

    def back(node: ua.NodeId) -> Counter[tuple[str, str, bool]]:
        if node not in backs:
            found = tree.references(node)
            backs[node] = Counter((r.NodeId.to_string(), r.ReferenceTypeId.to_string(), r.IsForward) for r in found)
        return backs[node]

    for node in map(site, (name for name, _, _ in nodes(demo.instances))):
        for r in tree.references(node):
            assert back(r.NodeId)[node.to_string(), r.ReferenceTypeId.to_string(), not r.IsForward] == 1, (node, r)


def test_a_reference_describes_its_target_as_the_target_does_itself(tree: Space, demo: PlantSpace) -> None:
    # Browse answers from the reference, Read from the node (Part 4 7.30): they must not differ.
    for node in map(site, (name for name, _, _ in nodes(demo.instances))):
        for r in tree.references(node):
            shown = [tree.attribute(r.NodeId, a) for a in (A.BrowseName, A.DisplayName, A.NodeClass)]
            assert shown == [r.BrowseName, r.DisplayName, r.NodeClass], (node, r)


def test_a_type_knows_its_instances(tree: Space) -> None:
    device_type = tree.type_definition(site("EN01"))
    up = tree.references(device_type, Wanted(forward=False, kinds=ua.NodeId(ua.ObjectIds.HasTypeDefinition).__eq__))
    assert [r.NodeId for r in up if r.NodeId.NamespaceIndex == SITE_NS] == [site("EN01"), site("EN02")]


def test_a_value_that_was_not_published_is_bad_and_never_a_good_null(demo: PlantSpace, tree: Space) -> None:
    # Fault F14.
    waiting = ua.StatusCodes.BadWaitingForInitialData
    for node, instance, member in nodes(demo.instances):
        if member.node_class is NodeClass.VARIABLE:
            data = tree.read(site(node), A.Value)
            constant = instance.values.get(member.path, member.value)
            if constant is None:
                assert (data.Value.Value, data.StatusCode.value) == (None, waiting), node
            else:
                assert (data.Value, data.StatusCode.value) == (constant, 0), node


def test_attributes_say_what_a_client_may_do(tree: Space) -> None:
    assert tree.attribute(site("EN01.Array.S01.SensorValue"), A.AccessLevel) == 5
    assert tree.attribute(site("EN01.Array.S01.SensorValue"), A.UserAccessLevel) == 5
    assert tree.attribute(site("EN01.Array.S01.SensorValue"), A.Historizing) is True
    assert tree.attribute(site("EN01.Array.SensorVector"), A.ValueRank) == 1
    assert tree.attribute(site("EN01.Array.SensorVector"), A.ArrayDimensions) == [12]
    assert tree.attribute(site("EN01.Stream01.Results.R01.Fingerprint"), A.ArrayDimensions) == [0]
    assert tree.attribute(site("EN01"), A.EventNotifier) == 5
    assert tree.attribute(site("EN01.Array"), A.EventNotifier) == 0
    assert tree.attribute(site("L01.BatchControl.CreateBatch"), A.Executable) is True
    assert tree.attribute(site("SCADA"), A.ContainsNoLoops) is True
    assert tree.attribute(site("EN01"), A.DisplayName) == ua.LocalizedText("EN01", "en")
    assert tree.attribute(site("EN01"), A.Description) == ua.LocalizedText("Roaster outlet", "en")


def folder(prefix: str, parent: ua.NodeId, **more: Any) -> Instance:
    root = Member(path="", node_class=NodeClass.OBJECT, browse_name=ua.QualifiedName("F", 2), type_definition=FOLDER)
    return Instance(template=Template(name="F", members=(root,)), prefix=prefix, parent=parent, **more)


def test_a_wrong_description_is_refused_named_and_changes_nothing(tree: Space, demo: PlantSpace) -> None:
    instances, references = demo.instances, demo.references
    to_nowhere = Reference(source=site("EN01"), type=ua.NodeId(35), target=site("Nowhere"))
    nameless = Member(
        path="", node_class=NodeClass.OBJECT, browse_name=ua.QualifiedName("N", 2), type_definition=site("Nowhere")
    )
    of_nothing = Template(name="N", members=(nameless,))
    for wrong, further, named in (
        (folder("EN01", OBJECTS), (), "EN01 is there already"),
        (folder("EN01.Array.S01.SensorValue", OBJECTS), (), "SensorValue is there already"),
        (folder("New", OBJECTS, values={"Wrong": ua.Variant(1)}), (), "no Wrong"),
        (folder("New", site("Nowhere")), (), "Nowhere is not there"),
        (Instance(template=of_nothing, prefix="New", parent=OBJECTS), (), "Nowhere is not there"),
        (folder("New", OBJECTS), (to_nowhere,), "Nowhere is not there"),
    ):
        with pytest.raises(KeyError, match=named):
            tree.replace((*instances, wrong), (*references, *further))
        assert site("New") not in tree
        assert site("EN01.Array.S12.SensorValue") in tree


@pytest.mark.asyncio(loop_scope="module")
async def test_a_client_browses_the_plant_and_reads_units(client: Client) -> None:
    # Acceptance point 21: DisplayName, EURange and EngineeringUnits of a channel, found by browse names.
    path = ["3:ENose", "2:Devices", "3:EN01", "2:Array", "3:S01", "2:SensorValue"]
    sensor = await client.nodes.objects.get_child(path)
    assert sensor.nodeid == site("EN01.Array.S01.SensorValue")
    limits = await (await sensor.get_child("0:EURange")).read_value()
    units = await (await sensor.get_child("0:EngineeringUnits")).read_value()
    assert (limits.Low, limits.High) == (0.0, 500.0)
    assert (units.UnitId, units.DisplayName.Text) == (4338745, "kΩ")
    unset = await sensor.read_data_value(raise_on_bad_status=False)
    assert unset.StatusCode.value == ua.StatusCodes.BadWaitingForInitialData


@pytest.mark.asyncio(loop_scope="module")
async def test_a_client_sees_the_arguments_of_every_method(client: Client) -> None:
    # Acceptance point 24: names, types and descriptions in the call dialog.
    places = {"MethodSet": "EN01", "BatchControl": "L01"}
    for method in METHODS.values():
        node = client.get_node(site(f"{places.get(method.object, 'ENose')}.{method.key}"))
        for name, declared in (("InputArguments", method.inputs), ("OutputArguments", method.outputs)):
            shown = await (await node.get_child(f"0:{name}")).read_value() if declared else []
            assert [(a.Name, a.Description.Text, a.ValueRank) for a in shown] == [
                (a.name, a.description, -1) for a in declared
            ]
        optional = await node.get_referenced_nodes(ua.ObjectIds.HasOptionalInputArgumentDescription)
        assert [(await o.read_browse_name()).Name for o in optional] == ["OnBehalfOf"] * method.on_behalf_of


@pytest.mark.asyncio(loop_scope="module")
async def test_a_client_reaches_every_node_of_the_plant_by_browsing(client: Client, demo: PlantSpace) -> None:
    wanted = {site(node) for node, _, _ in nodes(demo.instances)}
    found, todo = set(), [client.nodes.objects, client.nodes.namespaces, client.get_node(ua.ObjectIds.ViewsFolder)]
    while todo:
        answers = await asyncio.gather(
            *(node.get_references(ua.ObjectIds.HierarchicalReferences, ua.BrowseDirection.Forward) for node in todo)
        )
        new = {r.NodeId for answer in answers for r in answer if r.NodeId.NamespaceIndex == 3} - found
        found |= new
        todo = [client.get_node(n) for n in new]
    assert wanted <= found
