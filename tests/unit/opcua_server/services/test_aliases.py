"""RegisterNodes (Part 4 5.9.5): handles that are shorter than the ids they stand for, in one session."""

import pytest
from asyncua import ua
from asyncua.ua.ua_binary import nodeid_to_binary

from opcua_server.services.aliases import Aliases
from tests.conformance.opcua import Bench, Raw, nid

CODES = ua.StatusCodes
anyio = pytest.mark.asyncio(loop_scope="session")
NODES = [nid("Part.Value"), nid("Part.Vector"), nid("Part.Double"), nid("Part")]
SERVER = ua.NodeId(ua.ObjectIds.Server)


async def register(raw: Raw, *nodes: ua.NodeId) -> list[ua.NodeId]:
    parameters = ua.RegisterNodesParameters(NodesToRegister=list(nodes))
    return list((await raw.call(ua.RegisterNodesRequest(Parameters=parameters))).Parameters.RegisteredNodeIds)


async def unregister(raw: Raw, *nodes: ua.NodeId) -> None:
    parameters = ua.UnregisterNodesParameters(NodesToUnregister=list(nodes))
    await raw.call(ua.UnregisterNodesRequest(Parameters=parameters))


@anyio
async def test_a_registered_node_is_read_written_called_watched_and_browsed_by_its_number(
    bench: Bench, raw: Raw
) -> None:
    async def echo(_caller: object, object_id: ua.NodeId, arguments: tuple[object, ...]) -> list[float]:
        assert object_id == nid("Part")
        return [2.0]

    bench.server.link_method(nid("Part.Double"), echo, lambda _: True)
    value, vector, method, part = await register(raw, *NODES)
    assert all(isinstance(node.Identifier, int) for node in (value, vector, method, part))
    assert len({value, vector, method, part}) == 4
    bench.server.write("Part.Value", ua.Variant(4.5, ua.VariantType.Double), 0, 10**18, 10**18)
    assert (await raw.read(value)).Value.Value == 4.5
    assert (await raw.read(value, ua.AttributeIds.NodeId)).Value.Value == nid("Part.Value")
    item = ua.WriteValue(NodeId=value, AttributeId=13, Value=ua.DataValue(ua.Variant(1.0)))
    answer = await raw.call(ua.WriteRequest(Parameters=ua.WriteParameters(NodesToWrite=[item])))
    assert answer.Results[0].value == CODES.BadNotWritable
    arguments = [ua.Variant(1, ua.VariantType.UInt32), ua.Variant(1.0, ua.VariantType.Float)]
    call = ua.CallMethodRequest(ObjectId=part, MethodId=method, InputArguments=arguments)
    called = await raw.call(ua.CallRequest(Parameters=ua.CallParameters(MethodsToCall=[call])))
    assert [v.Value for v in called.Results[0].OutputArguments] == [2.0]
    number = (await raw.subscribe()).SubscriptionId
    assert (await raw.monitor(number, value)).StatusCode.is_good()
    assert [v.Value.Value for v in await raw.next_data()] == [4.5]
    browse = ua.BrowseParameters(NodesToBrowse=[ua.BrowseDescription(NodeId=part, ResultMask=63)])
    assert (await raw.call(ua.BrowseRequest(Parameters=browse))).Results[0].References
    await unregister(raw, value, vector, method, part)
    assert (await raw.read(value)).StatusCode.value == CODES.BadNodeIdUnknown
    bench.server.write("Part.Value", ua.Variant(5.5, ua.VariantType.Double), 0, 10**18, 10**18)
    assert [v.Value.Value for v in await raw.next_data()] == [5.5]  # what was made with it stays


@anyio
async def test_a_number_means_nothing_to_another_session(bench: Bench, raw: Raw) -> None:
    [alias] = await register(raw, NODES[0])
    async with Raw(bench) as other:
        await other.login()
        assert (await other.read(alias)).StatusCode.value == CODES.BadNodeIdUnknown
        await unregister(other, alias)
    assert (await raw.read(alias)).StatusCode.is_good()


@anyio
async def test_what_cannot_be_shorter_or_is_not_there_keeps_its_id(raw: Raw) -> None:
    assert await register(raw, SERVER, nid("Nothing")) == [SERVER, nid("Nothing")]
    await unregister(raw, SERVER, nid("Nothing"))


def test_handles_run_out_and_come_back() -> None:
    def known(_: ua.NodeId) -> bool:
        return True

    aliases = Aliases(2)
    first, second, third = aliases.register(NODES[:3], known)
    assert third == NODES[2]
    aliases.unregister([first])
    [again] = aliases.register([third], known)
    assert (aliases.node(again), aliases.node(first), aliases.node(second)) == (NODES[2], first, NODES[1])
    assert aliases.register([second], known) == [NODES[1]]


def test_a_registered_id_is_shorter_on_the_wire() -> None:
    [alias] = Aliases(1).register([NODES[0]], lambda _: True)
    assert len(nodeid_to_binary(alias)) == 4
