"""The node-opcua client itself, against a bare asyncua server: what it reports is what a server did.

The acceptance of enose with it is tests/interop/test_acceptance.py; here is no code of ours but the client.
"""

import math
import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
import pytest_asyncio
from asyncua import Server, ua, uamethod
from asyncua.crypto.permission_rules import SimpleRoleRuleset, User, UserRole
from asyncua.server.user_managers import UserManager
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.interop.client import NodeOpcua, OpcUaError, Typed, missing

pytestmark = [
    pytest.mark.skipif(bool(missing()), reason=missing() or "installed"),
    pytest.mark.asyncio(loop_scope="module"),  # one server for all: asyncua takes seconds to load its address space
]

APPLICATION_URI = "urn:enose:harness"
NS = 2
BAD_USER_ACCESS_DENIED = 0x801F0000
BAD_NODE_ID_UNKNOWN = 0x80340000


class OneUser(UserManager):
    def get_user(self, iserver, username=None, password=None, certificate=None):  # type: ignore[no-untyped-def]
        return User(role=UserRole.Admin, name=username) if (username, password) == ("op1", "secret") else None


def certificate(folder: Path) -> tuple[Path, Path]:
    """A server certificate as information-model.md 3, point 10 asks: SAN with ApplicationUri, host and IP."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "harness")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName(
                [
                    x509.UniformResourceIdentifier(APPLICATION_URI),
                    x509.DNSName("localhost"),
                    x509.IPAddress(ip_address("127.0.0.1")),
                ]
            ),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(True, True, True, True, False, True, False, False, False),
            critical=True,
        )
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    der, pem = folder / "server.der", folder / "server.pem"
    der.write_bytes(made.public_bytes(serialization.Encoding.DER))
    pem.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return der, pem


class Plant:
    """A bare server with one of each thing the client can do something with."""

    def __init__(self, server: Server, url: str, certificate_file: Path) -> None:
        self.server = server
        self.url = url
        self.certificate = certificate_file


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def plant(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Plant]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    der, key = certificate(tmp_path_factory.mktemp("server"))
    server = Server(user_manager=OneUser())
    await server.init()
    url = f"opc.tcp://127.0.0.1:{port}"
    server.set_endpoint(url)
    await server.set_application_uri(APPLICATION_URI)
    await server.load_certificate(str(der))
    await server.load_private_key(str(key))
    server.set_security_policy(
        [ua.SecurityPolicyType.NoSecurity, ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt],
        permission_ruleset=SimpleRoleRuleset(),
    )
    await server.register_namespace("urn:enose:harness:plant")
    device = await server.nodes.objects.add_object(ua.NodeId("EN01", NS), f"{NS}:EN01")
    for i in range(5):
        await device.add_variable(ua.NodeId(f"EN01.S0{i}", NS), f"{NS}:S0{i}", float(i))
    setpoint = await device.add_variable(ua.NodeId("EN01.Setpoint", NS), f"{NS}:Setpoint", 1, ua.VariantType.Int32)
    await setpoint.set_writable()

    @uamethod
    def double(_parent: ua.NodeId, number: int, label: str) -> tuple[ua.Variant, ua.Variant]:
        return ua.Variant(2 * number, ua.VariantType.Int64), ua.Variant(label, ua.VariantType.String)

    await device.add_method(
        ua.NodeId("EN01.Double", NS),
        f"{NS}:Double",
        double,
        [ua.VariantType.Int32, ua.VariantType.String],
        [ua.VariantType.Int64, ua.VariantType.String],
    )
    async with server:
        yield Plant(server, url, der)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def process(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[NodeOpcua]:
    """One for all: node-opcua takes seconds to load."""
    async with NodeOpcua(tmp_path_factory.mktemp("client")) as process:
        yield process


@pytest_asyncio.fixture(loop_scope="module")
async def client(plant: Plant, process: NodeOpcua) -> AsyncIterator[NodeOpcua]:
    await process.connect(plant.url, server_certificate=plant.certificate, user="op1", password="secret")
    yield process
    await process.disconnect()


async def test_a_session_is_encrypted_and_reads_the_namespaces(client: NodeOpcua) -> None:
    [namespaces] = await client.read("i=2255")
    assert namespaces.value[NS] == "urn:enose:harness:plant"


async def test_the_server_certificate_is_refused_unless_it_was_trusted(plant: Plant, tmp_path: Path) -> None:
    # Without this refusal a passing acceptance would say nothing about trust.
    async with NodeOpcua(tmp_path / "stranger") as client:
        with pytest.raises(OpcUaError):
            await client.connect(plant.url, user="op1", password="secret")
        await client.connect(plant.url, server_certificate=plant.certificate, user="op1", password="secret")


async def test_a_wrong_password_is_an_error_with_its_status(plant: Plant, process: NodeOpcua) -> None:
    with pytest.raises(OpcUaError) as refused:
        await process.connect(plant.url, server_certificate=plant.certificate, user="op1", password="guess")
    assert (refused.value.status, refused.value.name) == (BAD_USER_ACCESS_DENIED, "BadUserAccessDenied")


async def test_nobody_listening_is_an_error_at_once(process: NodeOpcua) -> None:
    with pytest.raises(OpcUaError):
        await process.connect("opc.tcp://127.0.0.1:9", policy="None", mode="None")


async def test_browse_finds_every_node_once_with_its_parent(client: NodeOpcua) -> None:
    found = {r.node: r for r in await client.browse(f"ns={NS};s=EN01")}
    assert {f"ns={NS};s=EN01.S0{i}" for i in range(5)} | {f"ns={NS};s=EN01.Setpoint"} <= found.keys()
    assert found[f"ns={NS};s=EN01.S03"].parent == f"ns={NS};s=EN01"
    assert found[f"ns={NS};s=EN01.S03"].browse_name == f"{NS}:S03"


async def test_values_keep_type_status_and_timestamp_to_100_ns(client: NodeOpcua, plant: Plant) -> None:
    instant = datetime(2026, 3, 1, 12, 0, 0, 123457, UTC)
    node = plant.server.get_node(ua.NodeId("EN01.S00", NS))
    for value in (1.25, math.inf, -math.inf):
        await node.write_value(
            ua.DataValue(
                ua.Variant(value, ua.VariantType.Double),
                StatusCode=ua.StatusCode(ua.UInt32(ua.StatusCodes.UncertainLastUsableValue)),
                SourceTimestamp=instant,
            )
        )
        [data] = await client.read(f"ns={NS};s=EN01.S00")
        assert (data.value, data.type, data.status.name) == (value, "Double", "UncertainLastUsableValue")
        assert data.source_time == 1_772_366_400_123_457_000


async def test_an_unknown_node_is_a_status_not_an_exception(client: NodeOpcua) -> None:
    known, unknown = await client.read(f"ns={NS};s=EN01.S01", f"ns={NS};s=EN01.S99")
    assert known.status.good
    assert unknown.status.value == BAD_NODE_ID_UNKNOWN


async def test_a_written_value_is_read_back_and_a_wrong_type_refused(client: NodeOpcua) -> None:
    node = f"ns={NS};s=EN01.Setpoint"
    assert (await client.write(node, Typed("Int32", 7))).good
    assert (await client.read(node))[0].value == 7
    assert (await client.write(node, "seven")).name == "BadTypeMismatch"


async def test_changes_arrive_in_order_and_can_be_waited_for(client: NodeOpcua, plant: Plant) -> None:
    tag, absent = f"ns={NS};s=EN01.S01", f"ns={NS};s=EN01.S99"
    subscription = await client.subscribe([tag, absent], publishing_interval=20)
    assert [item.name for item in subscription.items] == ["Good", "BadNodeIdUnknown"]
    await client.change(lambda c: c.node == tag and c.data.value == 1.0)
    node = plant.server.get_node(ua.NodeId("EN01.S01", NS))
    for value in (10.0, 11.0, 12.0):
        await node.write_value(value)
    await client.change(lambda c: c.data.value == 12.0)
    changes, behind = await client.changes()
    assert [c.data.value for c in changes] == [1.0, 10.0, 11.0, 12.0]
    assert await client.changes(behind) == ([], behind)


async def test_events_carry_the_selected_fields(client: NodeOpcua, plant: Plant) -> None:
    await client.subscribe_events(["EventId", "EventType", "Message", "Severity"], publishing_interval=20)
    generator = await plant.server.get_event_generator()
    generator.event.Severity = 600
    await generator.trigger(message="Anomaly at EN01")
    event = await client.event(lambda e: e["Message"] == "Anomaly at EN01")
    assert event["Severity"] == 600
    assert event["EventType"] == "ns=0;i=2041"
    assert isinstance(event["EventId"], bytes)


async def test_a_call_returns_typed_outputs(client: NodeOpcua) -> None:
    result = await client.call(f"ns={NS};s=EN01", f"ns={NS};s=EN01.Double", Typed("Int32", 1 << 30), "x")
    assert result.status.good
    assert result.outputs == (1 << 31, "x")  # Int64 above what JavaScript's bit operations hold


async def test_a_refused_call_is_a_result_with_its_status(client: NodeOpcua) -> None:
    assert (await client.call(f"ns={NS};s=EN01", f"ns={NS};s=EN01.Missing")).status.name.startswith("Bad")


async def test_history_is_read_page_by_page(client: NodeOpcua, plant: Plant) -> None:
    node = ua.NodeId("EN01.S02", NS)
    storage = plant.server.iserver.history_manager.storage
    storage.max_history_data_response_size = 10
    await storage.new_historized_node(node, None)
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    for i in range(25):
        data = ua.DataValue(ua.Variant(float(i)), SourceTimestamp=begin + timedelta(seconds=i))
        await storage.save_node_value(node, data)
    start = 1_767_225_600 * 10**9
    values, pages = await client.history(f"ns={NS};s=EN01.S02", start, start + 25 * 10**9)
    assert pages == 3
    assert [v.value for v in values] == [float(i) for i in range(25)]
    assert values[1].source_time == start + 10**9


async def test_an_unknown_condition_cannot_be_acknowledged(client: NodeOpcua) -> None:
    assert not (await client.acknowledge(f"ns={NS};s=EN01", b"no such event", "seen")).good
