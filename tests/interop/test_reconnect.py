"""What becomes of subscriptions when the way between client and server breaks (rows T-80 to T-85 of README.md).

The variable watched goes up by one ten times a second, so that a value lost or given twice shows in what arrives.
"""

import asyncio
import contextlib
import itertools
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Self

import pytest
import pytest_asyncio
from asyncua import Client, ua
from cryptography.hazmat.primitives import serialization

from opcua_server import security
from opcua_server.plant.conformance import NUMBERS
from opcua_server.services import certificates
from tests.conformance.opcua import key
from tests.conformance.plant import CODES, Peer, Plant, nid, running_plant
from tests.interop.client import Message, NodeOpcua, Subscription, Typed, missing

pytestmark = pytest.mark.asyncio(loop_scope="module")
needs_node = pytest.mark.skipif(bool(missing()), reason=missing() or "installed")

COUNTER = "ns=3;s=Playground.Dynamic.Int32"
LOW, HIGH = map(int, NUMBERS["Int32"])
CALM = 60
"""Messages a client may send in two seconds after it is back: far more would be a loop."""


class Cable:
    """A TCP connection through the test, to be cut."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._writers: set[asyncio.StreamWriter] = set()
        self.sent = 0
        """Pieces of data clients sent."""
        self.plugged = True

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cut()
        self._server.close()

    def cut(self) -> None:
        """Every connection ends without a word, and none is made until `plug`."""
        self.plugged = False
        for writer in self._writers:
            writer.transport.abort()

    def plug(self) -> None:
        self.plugged = True

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with contextlib.suppress(ConnectionError):
            if self.plugged:
                there = await asyncio.open_connection("127.0.0.1", self._to)
                self._writers.add(there[1])
                await asyncio.gather(self._copy(reader, there[1], True), self._copy(there[0], writer, False))
        writer.close()

    async def _copy(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, counted: bool) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await source.read(65536):
                self.sent += counted
                target.write(data)
        target.close()


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    with running_plant(tmp_path_factory.mktemp("reconnect")) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def cable(plant: Plant) -> AsyncIterator[Cable]:
    async with Cable(plant.server.port) as made:
        yield made


def unbroken(values: list[int]) -> bool:
    """Each value follows the one before: none lost, none twice."""
    return all(b == (a + 1 if a < HIGH else LOW) for a, b in itertools.pairwise(values))


class Watcher:
    """node-opcua, subscribed to the counter."""

    def __init__(self, client: NodeOpcua, subscription: Subscription) -> None:
        self.client = client
        self.subscription = subscription

    async def values(self, count: int, since: int = 0) -> list[int]:
        """At least `count` values from position `since` on."""
        async with asyncio.timeout(60):
            while True:
                found, _ = await self.client.changes(since)
                if len(found) >= count:
                    return [c.data.value for c in found]
                await self.client.changes(since + len(found), wait=5)

    async def messages(self) -> dict[int, Message]:
        """What was received by number; one that came twice was the same both times."""
        found: dict[int, Message] = {}
        for message in await self.client.messages():
            assert found.setdefault(message.number, message) == message
        return found

    async def numbered(self) -> list[int]:
        """All values in the order of their messages, those that did not come asked for by number."""
        messages = await self.messages()
        for number in set(range(min(messages), max(messages))) - set(messages):
            messages[number] = await self.client.republish(self.subscription, number)
        return [value.value for _, message in sorted(messages.items()) for value in message.values]


@contextlib.asynccontextmanager
async def watching(plant: Plant, port: int, user: str = "op1", **further: Any) -> AsyncIterator[Watcher]:
    async with NodeOpcua(plant.running.data.parent / "node") as client:
        plant.running.trust(client.certificate)
        await client.connect(
            f"opc.tcp://127.0.0.1:{port}",
            server_certificate=plant.running.data / "pki/own/certs/enose.der",
            user=user,
            password=plant.running.passwords[user],
            retries=-1,
            **further,
        )
        subscription = await client.subscribe([COUNTER])
        yield Watcher(client, subscription)


async def calm(cable: Cable) -> bool:
    before = cable.sent
    await asyncio.sleep(2)
    return cable.sent - before < CALM


@needs_node
async def test_a_cut_cable_costs_node_opcua_no_value(plant: Plant, cable: Cable) -> None:
    # T-80 (Part 4 6.7, 5.14.6): the session is activated on a new channel; what was not acknowledged is to be had by
    # Republish under the number it was sent with. node-opcua publishes again before its Republish has ended, against
    # 6.7: the answers cross, so that it asks for a message that just comes, or no more for one that was lost. Whoever
    # counts numbers, and asks for those he lacks, has every value once.
    async with watching(plant, cable.port) as watcher:
        before = len(await watcher.values(10))
        cable.cut()
        await asyncio.sleep(1)
        cable.plug()
        await watcher.values(before + 40)
        assert unbroken(await watcher.numbered())
        assert await calm(cable)


@needs_node
async def test_a_restarted_server_is_found_again(plant: Plant, cable: Cable) -> None:
    # T-81: the new server knows neither session nor subscription; node-opcua makes both anew.
    async with watching(plant, cable.port) as watcher:
        before = len(await watcher.values(5))
        plant.running.stop(signal.SIGKILL)
        plant.running.start()
        values = (await watcher.values(before + 30))[before + 2 :]
        restarts = sum(not unbroken([a, b]) for a, b in itertools.pairwise(values))
        assert restarts <= 1
        assert await calm(cable)


@needs_node
async def test_channels_are_renewed_under_load(plant: Plant, cable: Cable) -> None:
    # T-82: ten seconds are the shortest lifetime there is; both stacks renew at three quarters.
    class Heard:
        def __init__(self) -> None:
            self.values: list[int] = []

        def datachange_notification(self, _node: Any, value: int, _data: Any) -> None:
            self.values.append(value)

    heard = Heard()
    async with plant.running.client("op1") as client:
        client.secure_channel_timeout = 10_000
        subscription = await client.create_subscription(100, heard)
        await subscription.subscribe_data_change(client.get_node(COUNTER), queuesize=100, sampling_interval=0)
        async with watching(plant, cable.port, token_lifetime=10) as watcher:
            assert unbroken(await watcher.values(110))
    assert len(heard.values) >= 100
    assert unbroken(heard.values)


@pytest.mark.parametrize("channel", ["None", "Basic256Sha256"])
async def test_a_crashed_client_takes_its_subscription_up_again(plant: Plant, channel: str) -> None:
    # T-83: a new session of the same user, TransferSubscriptions, Republish of what was never acknowledged.
    async with plant.session(channel) as talk:
        number = (await talk.subscribe(100.0, RequestedLifetimeCount=1000)).SubscriptionId
        await talk.monitor(number, nid(COUNTER), QueueSize=100)
        first = await talk.next_data()
        lost = [await talk.publish() for _ in range(3)]  # read, never acknowledged, forgotten in the crash
        assert all(p.NotificationMessage.NotificationData for p in lost)
        talk.writer.transport.abort()
    async with plant.session(channel) as heir:
        parameters = ua.TransferSubscriptionsParameters([number], False)
        transferred = await heir.call(ua.TransferSubscriptionsRequest(Parameters=parameters))
        (moved,) = transferred.Parameters.Results
        assert moved.StatusCode.is_good()
        values = []
        for sequence in moved.AvailableSequenceNumbers:
            request = ua.RepublishRequest(Parameters=ua.RepublishParameters(number, sequence))
            (data,) = (await heir.call(request)).NotificationMessage.NotificationData
            values += [item.Value.Value.Value for item in data.MonitoredItems]
        beyond = ua.RepublishRequest(Parameters=ua.RepublishParameters(number, sequence + 1))
        assert await heir.outcome(beyond) == CODES.BadMessageNotAvailable
        for _ in range(3):
            values += [v.Value.Value for v in await heir.next_data()]
        assert values[0] == first[0].Value.Value
        assert unbroken(values)


@pytest.mark.parametrize("channel", ["None", "Basic256Sha256"])
async def test_a_session_goes_on_over_a_new_connection(plant: Plant, channel: str) -> None:
    # T-84 (Part 4 6.7): ActivateSession on another channel, then Republish; no other user may have it.
    async with plant.session(channel) as talk, plant.session(channel, "obs1") as other:
        number = (await talk.subscribe(100.0)).SubscriptionId
        await talk.monitor(number, nid(COUNTER), QueueSize=100)
        values = [v.Value.Value for v in await talk.next_data()]
        talk.writer.transport.abort()
        token, nonce = talk.token, talk.server_nonce
        other.token, other.server_nonce = token, nonce
        with pytest.raises(ua.UaStatusCodeError, match="BadUserAccessDenied"):
            await other.enter("obs1")
        await other.enter("op1")
        for _ in range(3):
            values += [v.Value.Value for v in await other.next_data()]
        assert unbroken(values)


async def test_asyncua_connects_again_after_a_cut(plant: Plant, cable: Cable) -> None:
    # T-85: its client makes a new session; the old one's subscription ends by its lifetime and disturbs nobody.
    async def connected() -> Client:
        client = Client(f"opc.tcp://127.0.0.1:{cable.port}", timeout=10)
        await client.connect()
        return client

    client = await connected()
    cable.cut()
    with pytest.raises((ConnectionError, TimeoutError, asyncio.CancelledError)):
        await client.get_node(COUNTER).read_value()
    with contextlib.suppress(ConnectionError, TimeoutError):
        await client.disconnect()
    cable.plug()
    async with asyncio.timeout(30):
        client = await connected()
        assert await client.get_node(COUNTER).read_value() is not None
        await client.disconnect()


@needs_node
async def test_a_pushed_certificate_costs_its_client_no_value(tmp_path: Path) -> None:
    # T-86 (Part 12 7.10.9): whoever pushes it is a client too, and finds its session again. On a server of its own.
    new = security.self_signed(key(30), "urn:localhost:enose:Conformance", ["localhost"], ["127.0.0.1"])
    file = tmp_path / "new.der"
    file.write_bytes(new.public_bytes(serialization.Encoding.DER))
    secret = key(30).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with running_plant(tmp_path) as plant:
        async with watching(plant, plant.server.port, user="sec1") as watcher:
            client = watcher.client
            (request,) = await pushed(client, "CreateSigningRequest", GROUP, RSA, "", False, b"")
            assert await client.application_uri_of(request) == "urn:localhost:enose:Conformance"
            (reading,) = await pushed(client, f"{LIST}_Open", Typed("Byte", 1))
            (data,) = await pushed(client, f"{LIST}_Read", reading, Typed("Int32", 65_536))
            assert await pushed(client, f"{LIST}_Close", reading) == ()
            trusted = await client.decode_trust_list(data)
            assert plant.client.der in trusted
            (writing,) = await pushed(client, f"{LIST}_Open", Typed("Byte", 6))
            written = await client.encode_trust_list(*trusted)
            assert await pushed(client, f"{LIST}_Write", writing, written) == ()
            assert await pushed(client, f"{LIST}_CloseAndUpdate", writing) == (True,)
            issuers = Typed("ByteString", [])
            update = "UpdateCertificate", GROUP, RSA, file.read_bytes(), issuers, "PEM", secret
            assert await pushed(client, *update) == (True,)
            await client.trust(file)
            before = len(await watcher.values(10))
            assert await pushed(client, "ApplyChanges") == ()
            await watcher.values(before + 40)
            assert unbroken(await watcher.numbered())
            assert "connection reestablished" in (await client.lifecycle())[0]
            peer = Plant(plant.running, Peer(new), plant.client)
            async with peer.session("Basic256Sha256") as talk:
                assert (await talk.read(ua.NodeId(ua.ObjectIds.Server_ServiceLevel))).StatusCode.is_good()


ROOT = "ServerConfiguration"
LIST = "CertificateGroups_DefaultApplicationGroup_TrustList"
GROUP = Typed("NodeId", certificates.GROUP.to_string())
RSA = Typed("NodeId", certificates.CERTIFICATE_TYPE.to_string())


async def pushed(client: NodeOpcua, method: str, *inputs: Any) -> tuple[Any, ...]:
    """Outputs of a method of ServerConfiguration, which is Good."""
    owner, _, _ = method.rpartition("_")
    nodes = [f"i={getattr(ua.ObjectIds, '_'.join(filter(None, [ROOT, name])))}" for name in (owner, method)]
    handles = [Typed("UInt32", value) if type(value) is int else value for value in inputs]
    result = await client.call(*nodes, *handles)
    assert result.status.good, (method, result.status)
    return result.outputs
