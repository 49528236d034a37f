"""The server as a whole: its own object, the way in for values, the end."""

import asyncio
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from asyncua import ua

from opcua_server.services.limits import Limits
from opcua_server.services.nodes import SITE_URI, TYPES_URI
from opcua_server.services.server import UaServer
from opcua_server.services.wire import Wire
from tests.conformance.opcua import SERVER_URI, Bench, Raw, nid, ordinary, serve

pytestmark = pytest.mark.asyncio(loop_scope="session")
IDS = ua.ObjectIds


async def value(raw: Raw, node: int) -> Any:
    return (await raw.read(ua.NodeId(node))).Value.Value


async def test_namespaces_never_change(raw: Raw) -> None:
    # Ignition stores the index in its item paths (acceptance point 1).
    assert await value(raw, IDS.Server_NamespaceArray) == [
        "http://opcfoundation.org/UA/", SERVER_URI, TYPES_URI, SITE_URI,
    ]  # fmt: skip
    assert await value(raw, IDS.Server_ServerArray) == [SERVER_URI]


async def test_build_info_is_true(raw: Raw) -> None:
    info = (await value(raw, IDS.Server_ServerStatus)).BuildInfo
    assert (info.ProductName, info.SoftwareVersion) == ("enose", version("enose"))
    assert await value(raw, IDS.Server_ServerStatus_BuildInfo_ProductName) == "enose"


async def test_capabilities_are_answered(raw: Raw) -> None:
    # A null with Good is what clients got (information-model.md G8).
    prefix = "Server_ServerCapabilities_"
    expected = {
        f"{prefix}OperationLimits_MaxNodesPerRead": Limits().nodes,
        f"{prefix}OperationLimits_MaxNodesPerMethodCall": Limits().method_calls,
        f"{prefix}OperationLimits_MaxNodesPerHistoryReadData": Limits().history_nodes,
        f"{prefix}MaxBrowseContinuationPoints": Limits().continuation_points,
        f"{prefix}MaxSessions": Limits().sessions,
        f"{prefix}LocaleIdArray": ["en"],
        "Server_ServerDiagnostics_EnabledFlag": True,
        "Server_Auditing": True,
        "Server_ServiceLevel": 255,
        "Server_ServerRedundancy_RedundancySupport": 0,
    }
    assert {name: await value(raw, getattr(IDS, name)) for name in expected} == expected


async def test_service_level_follows(bench: Bench, raw: Raw) -> None:
    bench.server.service_level(100)
    assert await value(raw, IDS.Server_ServiceLevel) == 100
    bench.server.service_level(255)


async def test_a_value_has_its_device_time_and_reception(bench: Bench, raw: Raw) -> None:
    measured = 1_735_689_600 * 10**9
    bench.server.write("Part.Value", ua.Variant(1.5), 0x40900000, measured, measured + 5 * 10**6)
    shown = await raw.read(nid("Part.Value"))
    assert (shown.Value.Value, shown.StatusCode.value) == (1.5, 0x40900000)
    assert shown.SourceTimestamp.timestamp() == 1_735_689_600
    assert (shown.ServerTimestamp - shown.SourceTimestamp).microseconds == 5000


async def test_an_unknown_node_is_an_error_of_ours(bench: Bench) -> None:
    with pytest.raises(KeyError):
        bench.server.write("Nowhere", None, 0, 0, 0)


async def test_many_values_are_shown_at_once(bench: Bench, raw: Raw) -> None:
    rows = [("Part.Value", ua.Variant(2.5), 0), ("Part.Count", ua.Variant(4, ua.VariantType.UInt32), 0)]
    bench.server.write_many(rows, time.time_ns(), time.time_ns())
    assert [(await raw.read(nid(node))).Value.Value for node, _, _ in rows] == [2.5, 4]


async def test_an_ordinary_client_connects_browses_and_leaves(bench: Bench) -> None:
    client = await ordinary(bench)
    children = await client.get_node(nid("Part")).get_children()
    assert nid("Part.Value") in [c.nodeid for c in children]
    await client.disconnect()
    assert client.application_uri == "urn:test:client"


async def test_discovery_names_the_host_the_client_used(bench: Bench) -> None:
    # Behind a NAT or in a container another port leads here, or an address we do not know (acceptance point 10).
    async with Raw(bench, policy=None) as raw:
        await raw.open()
        for asked, expected in (
            ("opc.tcp://localhost:14840/x", "opc.tcp://localhost:14840"),
            ("opc.tcp://192.0.2.1:14840", "opc.tcp://192.0.2.1:14840"),
            ("opc.tcp://gateway.example:14840", bench.server.url),
            ("", bench.server.url),
            ("http://elsewhere", bench.server.url),
            ("opc.tcp://[broken", bench.server.url),
        ):
            request = ua.GetEndpointsRequest(Parameters=ua.GetEndpointsParameters(EndpointUrl=asked))
            found = (await raw.call(request)).Endpoints
            assert {e.EndpointUrl for e in found} == {expected}


async def test_shutdown_is_announced_and_running_calls_finish(tmp_path: Path) -> None:
    # Acceptance point 33; a release half signed must not be cut off.
    release = asyncio.Event()
    finished = []

    async def slow(*_: object) -> tuple[float]:
        await release.wait()
        finished.append(True)
        return (1.0,)

    async with serve(tmp_path) as bench:
        bench.server.link_method(nid("Part.Slow"), slow, lambda caller: True)
        async with Raw(bench) as raw:
            await raw.login()
            request = ua.CallMethodRequest(
                ObjectId=nid("Part"),
                MethodId=nid("Part.Slow"),
                InputArguments=[ua.Variant(1, ua.VariantType.UInt32), ua.Variant(1.0, ua.VariantType.Float)],
            )
            raw.write(ua.CallRequest(Parameters=ua.CallParameters(MethodsToCall=[request])))
            stopping = asyncio.create_task(bench.server.stop(2, "Maintenance"))
            while await value(raw, IDS.Server_ServerStatus_State) != ua.ServerState.Shutdown:
                await asyncio.sleep(0.01)
            assert await value(raw, IDS.Server_ServerStatus_SecondsTillShutdown) in (1, 2)
            assert (await value(raw, IDS.Server_ServerStatus_ShutdownReason)).Text == "Maintenance"
            release.set()
            await stopping
            assert finished == [True]


async def test_a_taken_port_is_an_error_at_start(bench: Bench, tmp_path: Path) -> None:
    second = UaServer(
        identity=bench.identity,
        trust=bench.server._trust,
        identities=bench.users,
        application_uri=SERVER_URI,
        policies=("Basic256Sha256",),
        port=bench.server.port,
    )
    await second.init()
    with pytest.raises(OSError, match="address already in use"):
        await second.start()


async def test_a_mistake_of_ours_costs_one_request(raw: Raw, monkeypatch: pytest.MonkeyPatch) -> None:
    # Always a reply: a client whose connection ends for one request of many has lost its channel, and comes again.
    with monkeypatch.context() as broken:
        broken.setattr(Wire, "check", lambda *_: 1 / 0)
        with pytest.raises(ua.UaStatusCodeError) as answer:
            await raw.read(ua.NodeId(IDS.Server_ServerStatus_State))
    assert answer.value.code == ua.StatusCodes.BadInternalError
    assert await value(raw, IDS.Server_ServerStatus_State) == ua.ServerState.Running
