"""Instances in asyncua's storage, seen by asyncua's own services and by a client over a socket."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from asyncua import Client, Server, ua
from asyncua.server.address_space import AddressSpace

from config.load import DEMO, load
from nodesets.methods import METHODS
from opcua_server.plant.space import Space, nodes, space
from opcua_server.services.nodes import Instance, Member, NodeClass, Reference, Template, site
from opcua_server.services.storage import load_types
from tests.stored import realise

A = ua.AttributeIds
OBJECTS = ua.NodeId(ua.ObjectIds.ObjectsFolder)
FOLDER = ua.NodeId(ua.ObjectIds.FolderType)


async def built(made: Space) -> Server:
    server = Server()
    await server.init()
    await load_types(server)
    realise(server.iserver.aspace, made.instances, made.references)
    return server


@pytest.fixture(scope="module")
def demo() -> Space:
    return space(load(DEMO))


@pytest.fixture(scope="module")
def stored(demo: Space) -> AddressSpace:
    return asyncio.run(built(demo)).iserver.aspace


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(demo: Space) -> AsyncIterator[Client]:
    logging.getLogger("asyncua").setLevel(logging.ERROR)  # it warns of the open endpoint that this test is about
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"opc.tcp://127.0.0.1:{free.getsockname()[1]}"
    server = await built(demo)
    server.set_endpoint(url)
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    async with server, Client(url) as connected:
        yield connected


def value(stored: AddressSpace, node: str, attribute: ua.AttributeIds) -> object:
    return stored[site(node)].attributes[attribute].value.Value.Value


async def test_the_namespaces_have_the_indexes_clients_store() -> None:
    # Ignition writes ns=3 into its item paths (information model 1.2); a foreign model first would move it.
    server = Server()
    await server.init()
    await load_types(server)
    assert await server.get_namespace_index("http://enose.dev/UA/ENose/") == 2
    assert await server.get_namespace_index("http://enose.dev/UA/ENose/Site/") == 3
    late = Server()
    await late.init()
    await late.register_namespace("http://companion.example/")
    with pytest.raises(ValueError, match="must have index 2"):
        await load_types(late)


def test_every_reference_is_there_in_both_directions(stored: AddressSpace) -> None:
    # Part 3 4.4.4: a client that browses up must find what it came down by.
    for node in (n for n in stored.keys() if n.NamespaceIndex == 3):  # noqa: SIM118 - not a mapping
        for reference in stored[node].references:
            back = stored[reference.NodeId].references
            found = [r for r in back if r.NodeId == node and r.ReferenceTypeId == reference.ReferenceTypeId]
            assert [r.IsForward for r in found] == [not reference.IsForward], (node, reference)


def test_a_reference_describes_its_target_as_the_target_does_itself(stored: AddressSpace) -> None:
    # Browse answers from the reference, Read from the node (Part 4 7.30): they must not differ.
    for node in (n for n in stored.keys() if n.NamespaceIndex == 3):  # noqa: SIM118 - not a mapping
        for reference in stored[node].references:
            target = stored[reference.NodeId].attributes
            assert reference.BrowseName == target[A.BrowseName].value.Value.Value
            assert reference.DisplayName == target[A.DisplayName].value.Value.Value
            assert reference.NodeClass == target[A.NodeClass].value.Value.Value


def test_a_type_knows_its_instances(stored: AddressSpace) -> None:
    device_type = next(r.NodeId for r in stored[site("EN01")].references if r.ReferenceTypeId == ua.NodeId(40))
    instances = {r.NodeId for r in stored[device_type].references if r.ReferenceTypeId == ua.NodeId(40)}
    assert {n for n in instances if n.NamespaceIndex == 3} == {site("EN01"), site("EN02")}


def test_a_value_that_was_not_published_is_bad_and_never_a_good_null(demo: Space, stored: AddressSpace) -> None:
    # Fault F14.
    waiting = ua.StatusCodes.BadWaitingForInitialData
    for node, instance, member in nodes(demo.instances):
        if member.node_class is NodeClass.VARIABLE:
            data = stored[site(node)].attributes[A.Value].value
            constant = instance.values.get(member.path, member.value)
            if constant is None:
                assert (data.Value.Value, data.StatusCode.value) == (None, waiting), node
            else:
                assert (data.Value, data.StatusCode.value) == (constant, 0), node


def test_an_unset_value_takes_the_type_it_declares_and_no_other(stored: AddressSpace) -> None:
    node = site("EN01.Array.S01.SensorValue")

    def write(variant: ua.Variant) -> int:
        return asyncio.run(stored.write_attribute_value(node, A.Value, ua.DataValue(variant))).value

    unset = stored[node].attributes[A.Value].value
    assert write(ua.Variant("high", ua.VariantType.String)) == ua.StatusCodes.BadTypeMismatch
    assert write(ua.Variant(12.5, ua.VariantType.Double)) == 0
    assert stored.read_attribute_value(node, A.Value).Value.Value == 12.5
    # Cells are never shared: the neighbour of the same template is still unset.
    neighbour = stored.read_attribute_value(site("EN01.Array.S02.SensorValue"), A.Value)
    assert neighbour.StatusCode.value == ua.StatusCodes.BadWaitingForInitialData
    stored[node].attributes[A.Value].value = unset


def test_attributes_say_what_a_client_may_do(stored: AddressSpace) -> None:
    assert value(stored, "EN01.Array.S01.SensorValue", A.AccessLevel) == 5
    assert value(stored, "EN01.Array.S01.SensorValue", A.UserAccessLevel) == 5
    assert value(stored, "EN01.Array.S01.SensorValue", A.Historizing) is True
    assert value(stored, "EN01.Array.SensorVector", A.ValueRank) == 1
    assert value(stored, "EN01.Array.SensorVector", A.ArrayDimensions) == [12]
    assert value(stored, "EN01.Stream01.Results.R01.Fingerprint", A.ArrayDimensions) == [0]
    assert value(stored, "EN01", A.EventNotifier) == 1
    assert value(stored, "EN01.Array", A.EventNotifier) == 0
    assert value(stored, "L01.BatchControl.CreateBatch", A.Executable) is True
    assert value(stored, "SCADA", A.ContainsNoLoops) is True
    assert value(stored, "EN01", A.DisplayName) == ua.LocalizedText("EN01", "en")
    assert value(stored, "EN01", A.Description) == ua.LocalizedText("Roaster outlet", "en")


def folder(prefix: str, parent: ua.NodeId, **more: object) -> Instance:
    root = Member(path="", node_class=NodeClass.OBJECT, browse_name=ua.QualifiedName("F", 2), type_definition=FOLDER)
    return Instance(template=Template(name="F", members=(root,)), prefix=prefix, parent=parent, **more)  # type: ignore[arg-type]


def test_a_wrong_description_is_refused_and_named(stored: AddressSpace) -> None:
    with pytest.raises(KeyError, match="EN01 is there already"):
        realise(stored, [folder("EN01", OBJECTS)], [])
    with pytest.raises(KeyError, match="no Wrong"):
        realise(stored, [folder("New1", OBJECTS, values={"Wrong": ua.Variant(1)})], [])
    with pytest.raises(KeyError):
        realise(stored, [folder("New2", site("Nowhere"))], [])
    with pytest.raises(KeyError):
        realise(stored, [], [Reference(source=site("EN01"), type=ua.NodeId(35), target=site("Nowhere"))])


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
async def test_a_client_reaches_every_node_of_the_plant_by_browsing(client: Client, demo: Space) -> None:
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
