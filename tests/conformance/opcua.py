"""A server to probe, an ordinary client, and a raw one that sends whatever it is told, over real sockets."""

import asyncio
import itertools
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from asyncua import Client, ua
from asyncua.common.connection import SecureConnection, TransportLimits
from asyncua.common.utils import Buffer
from asyncua.crypto import security_policies
from asyncua.crypto.security_policies import SecurityPolicyNone
from asyncua.ua.ua_binary import (
    header_from_binary,
    nodeid_from_binary,
    struct_from_binary,
    struct_to_binary,
    uatcp_to_binary,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from nodesets.errors import CredentialRejected
from nodesets.model import EventRow, Note, Role
from opcua_server import pki, security
from opcua_server.services.limits import Limits
from opcua_server.services.nodes import SITE_NS, Event
from opcua_server.services.server import UaServer

SERVER_URI = "urn:test:enose:server"
CLIENT_URI = "urn:test:client"
POLICIES = ("Basic256Sha256", "Aes128_Sha256_RsaOaep", "Aes256_Sha256_RsaPss")
CLASSES = {
    "Basic256Sha256": security_policies.SecurityPolicyBasic256Sha256,
    "Aes128_Sha256_RsaOaep": security_policies.SecurityPolicyAes128Sha256RsaOaep,
    "Aes256_Sha256_RsaPss": security_policies.SecurityPolicyAes256Sha256RsaPss,
}
HOST = "127.0.0.1"


@dataclass(frozen=True)
class Application:
    """A client application: certificate, key and the URI it calls itself by."""

    certificate: x509.Certificate
    key: rsa.RSAPrivateKey
    uri: str

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def thumbprint(self) -> str:
        return self.certificate.fingerprint(hashes.SHA256()).hex()


_keys: dict[tuple[int, int], rsa.RSAPrivateKey] = {}


def key(number: int = 0, bits: int = 2048) -> rsa.RSAPrivateKey:
    """The n-th key of a test run; made once, since a key takes a tenth of a second."""
    if (number, bits) not in _keys:
        _keys[number, bits] = rsa.generate_private_key(public_exponent=65537, key_size=bits)
    return _keys[number, bits]


def application(number: int = 0, uri: str = CLIENT_URI, name: str = "client") -> Application:
    return Application(security.self_signed(key(number), uri, ["localhost"], name=name), key(number), uri)


@dataclass(frozen=True)
class User:
    name: str
    roles: frozenset[Role]
    service: bool = False


@dataclass
class Users:
    """Identities of the tests: password is `<name>-password`."""

    roles: Mapping[str, frozenset[Role]] = field(
        default_factory=lambda: {
            "anna": frozenset({Role.OPERATOR}),
            "bert": frozenset({Role.QA}),
            "nobody": frozenset(),
        }
    )
    certificates: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0

    async def by_password(self, name: str, password: str, *, application_uri: str, address: str, session: str) -> User:
        await asyncio.sleep(self.delay)
        if name not in self.roles or password != f"{name}-password":
            raise CredentialRejected("wrong name or password")
        return User(name, self.roles[name])

    async def by_certificate(self, thumbprint: str, *, application_uri: str, address: str, session: str) -> User:
        name = self.certificates.get(thumbprint)
        if name is None:
            raise CredentialRejected("unknown certificate")
        return User(name, self.roles[name])


@dataclass
class Told:
    """A journal that keeps notes, and is quick about it."""

    notes: list[Note]

    def note(self, _rows: Sequence[EventRow], notes: Sequence[Note]) -> Future[None]:
        self.notes += notes
        done: Future[None] = Future()
        done.set_result(None)
        return done


@dataclass
class Bench:
    """A running server and what it told."""

    server: UaServer
    users: Users
    data_dir: Path
    identity: security.Identity
    told: list[Note]
    """What clients did, as the audit log would have it."""
    client: Application
    own: security.OwnCertificate | None = None

    @property
    def url(self) -> str:
        return f"opc.tcp://{HOST}:{self.server.port}"

    def trust(self, app: Application) -> None:
        (self.data_dir / "pki/trusted/certs" / f"{app.thumbprint}.der").write_bytes(app.der)


@asynccontextmanager
async def serve(
    data_dir: Path, limits: Limits | None = None, users: Users | None = None, *, managed: bool = False, **further: Any
) -> AsyncIterator[Bench]:
    """A server on a free port that trusts `application()`, with a small plant in it; `further` as of `UaServer`.

    `managed`: key and certificate lie on the disk, and are managed over OPC UA.
    """
    told: list[Note] = []
    users = users or Users()
    secret = key(99, security.KEY_BITS)
    identity = security.Identity(security.self_signed(secret, SERVER_URI, ["localhost"], [HOST]), secret)
    if managed:
        pki.carry_out(pki.make_folders(data_dir), identity.files, ())
    own = security.OwnCertificate(data_dir, SERVER_URI, identity) if managed else None
    server = UaServer(
        identity=identity,
        own=own,
        trust=security.TrustStore(data_dir),
        identities=users,
        application_uri=SERVER_URI,
        policies=POLICIES,
        host=HOST,
        port=0,
        limits=limits,
        journal=Told(told),
        **further,
    )
    await server.init()
    await plant(server)
    await server.start()
    bench = Bench(server, users, data_dir, identity, told, application(), own)
    bench.trust(bench.client)
    try:
        yield bench
    finally:
        await server.stop()


def nid(identifier: str) -> ua.NodeId:
    return ua.NodeId(identifier, SITE_NS)


async def plant(server: UaServer) -> None:
    """Line -HasNotifier-> Device -HasComponent-> Part; values, an array, methods of several shapes."""
    node = server.asyncua.get_node
    line = await node(ua.ObjectIds.ObjectsFolder).add_object(nid("Line"), ua.QualifiedName("Line", SITE_NS))
    device = await line.add_object(nid("Device"), ua.QualifiedName("Device", SITE_NS))
    part = await device.add_object(nid("Part"), ua.QualifiedName("Part", SITE_NS))
    for notifier in (line, device):
        await notifier.set_event_notifier([ua.EventNotifier.SubscribeToEvents])
    await node(ua.ObjectIds.Server).add_reference(line, ua.ObjectIds.HasNotifier)
    await line.add_reference(device, ua.ObjectIds.HasNotifier)
    for name, value in (
        ("Value", ua.Variant(0.0, ua.VariantType.Double)),
        ("Count", ua.Variant(0, ua.VariantType.UInt32)),
        ("Text", ua.Variant("abcdef", ua.VariantType.String)),
        ("Vector", ua.Variant([1.0, 2.0, 3.0, 4.0], ua.VariantType.Double)),
        ("Secret", ua.Variant(1.0, ua.VariantType.Double)),
    ):
        variable = await part.add_variable(nid(f"Part.{name}"), ua.QualifiedName(name, SITE_NS), value)
        if name == "Value":
            await variable.add_property(
                nid("Part.Value.EURange"), ua.QualifiedName("EURange", 0), ua.Range(Low=0.0, High=200.0)
            )
        if name == "Secret":
            await variable.write_attribute(
                ua.AttributeIds.AccessLevel, ua.DataValue(ua.Variant(0, ua.VariantType.Byte))
            )
    for name in ("Double", "Slow", "Missing", "Forbidden"):
        await part.add_method(
            nid(f"Part.{name}"),
            ua.QualifiedName(name, SITE_NS),
            None,
            [_argument("Count", ua.ObjectIds.UInt32), _argument("Factor", ua.ObjectIds.Float)],
            [_argument("Result", ua.ObjectIds.Double)],
        )


def _argument(name: str, data_type: int) -> ua.Argument:
    return ua.Argument(Name=name, DataType=ua.NodeId(data_type), ValueRank=-1, Description=ua.LocalizedText(name))


def event(source: str, kind: int = ua.ObjectIds.BaseEventType, **further: Any) -> Event:
    fields = {"severity": 500, "message": "message", "source_name": source, "time": 10**18, "received": 10**18}
    return Event(event_id=secrets.token_bytes(16), event_type=ua.NodeId(kind), source=nid(source), **(fields | further))


async def ordinary(
    bench: Bench, user: str = "anna", app: Application | None = None, policy: str = "Basic256Sha256"
) -> Client:
    """asyncua's client, connected as a user."""
    app = app or bench.client
    client = Client(bench.url, timeout=30, watchdog_intervall=30)  # its own second is short on a busy machine
    client.application_uri = app.uri
    client.set_user(user)
    client.set_password(f"{user}-password")
    await client.set_security(
        CLASSES[policy],
        certificate=app.der,
        private_key=app.key.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
        server_certificate=bench.identity.der,
        mode=ua.MessageSecurityMode.SignAndEncrypt,
    )
    await client.connect()
    return client


class Refused(Exception):
    """The server ended the connection; `status` of its ERR message, None without one."""

    def __init__(self, status: int | None) -> None:
        super().__init__(hex(status) if status is not None else "closed without ERR")
        self.status = status


class Raw:
    """One TCP connection that sends any structure, true or false.

    `token` and `channel_id` and every field of a request may be set to lies before it is sent.
    """

    def __init__(
        self, bench: Bench, app: Application | None = None, policy: str | None = "Basic256Sha256", local: str = HOST
    ) -> None:
        """`local`: the address it comes from."""
        self.bench = bench
        self.local = local
        self.app = app or bench.client
        self.policy: Any = SecurityPolicyNone()
        if policy is not None:
            self.policy = CLASSES[policy](
                bench.identity.certificate, self.app.certificate, self.app.key, ua.MessageSecurityMode.SignAndEncrypt
            )
        self.connection = SecureConnection(self.policy, TransportLimits())
        self.token = ua.NodeId()
        self.server_nonce = b""
        self._request_ids = itertools.count(1)
        self._answers: dict[int, Any] = {}

    async def __aenter__(self) -> Self:
        port = self.bench.server.port
        self.reader, self.writer = await asyncio.open_connection(HOST, port, local_addr=(self.local, 0))
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()

    async def hello(self) -> ua.Acknowledge:
        hello = ua.Hello(EndpointUrl=self.bench.url, ReceiveBufferSize=65535, SendBufferSize=65535)
        self.writer.write(uatcp_to_binary(ua.MessageType.Hello, hello))
        return await self._message()

    async def open(self, **further: Any) -> Any:
        """HELLO, then OpenSecureChannel; `further` overrides its parameters."""
        await self.hello()
        parameters = ua.OpenSecureChannelParameters(
            ClientProtocolVersion=0,
            RequestType=ua.SecurityTokenRequestType.Issue,
            SecurityMode=self.policy.Mode,
            ClientNonce=secrets.token_bytes(self.policy.secure_channel_nonce_length),
            RequestedLifetime=3_600_000,
        )
        for name, value in further.items():
            setattr(parameters, name, value)
        request = ua.OpenSecureChannelRequest(Parameters=parameters)
        response = await self.answer(self.write(request, ua.MessageType.SecureOpen), "OpenSecureChannelResponse")
        response.ResponseHeader.ServiceResult.check()
        self.connection.set_channel(response.Parameters, parameters.RequestType, parameters.ClientNonce)
        return response.Parameters

    def write(self, request: Any, kind: Any = ua.MessageType.SecureMessage) -> int:
        """Send without waiting; the request id."""
        number = next(self._request_ids)
        if self.token.is_null() is False:
            request.RequestHeader.AuthenticationToken = self.token
        request.RequestHeader.RequestHandle = number
        self.writer.write(self.connection.message_to_binary(struct_to_binary(request), kind, number))
        return number

    async def call(self, request: Any) -> Any:
        """Send and wait for its answer: the response, or the ServiceFault as ua.UaStatusCodeError."""
        response = await self.answer(self.write(request), type(request).__name__.replace("Request", "Response"))
        response.ResponseHeader.ServiceResult.check()
        return response

    async def answer(self, number: int, name: str) -> Any:
        while number not in self._answers:
            message = await self._message()
            self._answers[message.request_id()] = message.body()
        body = self._answers.pop(number)
        kind = nodeid_from_binary(body.copy())
        fault = kind.Identifier == ua.ObjectIds.ServiceFault_Encoding_DefaultBinary
        return struct_from_binary(ua.ServiceFault if fault else getattr(ua, name), body)

    async def _message(self) -> Any:
        while True:
            try:
                start = await self.reader.readexactly(8)
                rest = await self.reader.readexactly(int.from_bytes(start[4:8], "little") - 8)
            except (asyncio.IncompleteReadError, ConnectionError) as error:
                raise Refused(None) from error
            buffer = Buffer(start + rest)
            header = header_from_binary(buffer)
            if header.MessageType == ua.MessageType.Error:
                raise Refused(struct_from_binary(ua.ErrorMessage, buffer).Error.value)
            message = self.connection.receive_from_header_and_body(header, buffer)
            if message is not None:
                return message

    async def create_session(self, **further: Any) -> Any:
        parameters = ua.CreateSessionParameters(
            ClientDescription=ua.ApplicationDescription(
                ApplicationUri=self.app.uri, ApplicationType=ua.ApplicationType.Client
            ),
            EndpointUrl=self.bench.url,
            SessionName="raw",
            ClientNonce=secrets.token_bytes(32),
            ClientCertificate=self.app.der,
            RequestedSessionTimeout=60_000,
        )
        for name, value in further.items():
            setattr(parameters, name, value)
        result = (await self.call(ua.CreateSessionRequest(Parameters=parameters))).Parameters
        self.token = result.AuthenticationToken
        self.server_nonce = result.ServerNonce
        return result

    def password_token(self, user: str, password: str, nonce: bytes | None = None) -> ua.UserNameIdentityToken:
        secret = password.encode() + (self.server_nonce if nonce is None else nonce)
        plain = len(secret).to_bytes(4, "little") + secret
        data, uri = security_policies.encrypt_asymmetric(
            self.bench.identity.certificate.public_key(), plain, self.policy.URI
        )
        return ua.UserNameIdentityToken(PolicyId="username", UserName=user, Password=data, EncryptionAlgorithm=uri)

    async def activate(self, token: Any = None, **further: Any) -> Any:
        """ActivateSession as anna, or with `token`; `further` overrides the parameters."""
        challenge = self.bench.identity.der + self.server_nonce
        parameters = ua.ActivateSessionParameters(
            ClientSignature=ua.SignatureData(
                Algorithm=self.policy.AsymmetricSignatureURI,
                Signature=self.policy.asymmetric_cryptography.signature(challenge),
            ),
            UserIdentityToken=self.password_token("anna", "anna-password") if token is None else token,
        )
        for name, value in further.items():
            setattr(parameters, name, value)
        result = (await self.call(ua.ActivateSessionRequest(Parameters=parameters))).Parameters
        self.server_nonce = result.ServerNonce
        return result

    async def login(self, user: str = "anna") -> Self:
        """Channel, session and user."""
        await self.open()
        await self.create_session()
        await self.activate(self.password_token(user, f"{user}-password"))
        return self

    async def read(self, node: ua.NodeId, attribute: int = ua.AttributeIds.Value, **further: Any) -> ua.DataValue:
        parameters = ua.ReadParameters(
            TimestampsToReturn=ua.TimestampsToReturn.Both,
            NodesToRead=[ua.ReadValueId(NodeId=node, AttributeId=attribute, **further)],
        )
        return (await self.call(ua.ReadRequest(Parameters=parameters))).Results[0]

    async def subscribe(self, interval: float = 50.0, **further: Any) -> Any:
        parameters = ua.CreateSubscriptionParameters(
            RequestedPublishingInterval=interval,
            RequestedLifetimeCount=100,
            RequestedMaxKeepAliveCount=3,
            PublishingEnabled=True,
        )
        for name, value in further.items():
            setattr(parameters, name, value)
        return (await self.call(ua.CreateSubscriptionRequest(Parameters=parameters))).Parameters

    async def monitor(
        self, subscription: int, node: ua.NodeId, attribute: int = ua.AttributeIds.Value, **further: Any
    ) -> ua.MonitoredItemCreateResult:
        wanted: dict[str, Any] = {"ClientHandle": 1, "SamplingInterval": 0.0, "QueueSize": 100}
        request = ua.MonitoredItemCreateRequest(
            ItemToMonitor=ua.ReadValueId(NodeId=node, AttributeId=attribute),
            MonitoringMode=ua.MonitoringMode.Reporting,
            RequestedParameters=ua.MonitoringParameters(**(wanted | further)),
        )
        parameters = ua.CreateMonitoredItemsParameters(
            SubscriptionId=subscription,
            TimestampsToReturn=ua.TimestampsToReturn.Both,
            ItemsToCreate=[request],
        )
        return (await self.call(ua.CreateMonitoredItemsRequest(Parameters=parameters))).Results[0]

    async def publish(self, *acknowledgements: tuple[int, int]) -> ua.PublishResult:
        acks = [ua.SubscriptionAcknowledgement(SubscriptionId=s, SequenceNumber=n) for s, n in acknowledgements]
        request = ua.PublishRequest(Parameters=ua.PublishParameters(SubscriptionAcknowledgements=acks))
        return (await self.call(request)).Parameters

    async def next_data(self) -> list[Any]:
        """Contents of the next message that is not a keep-alive: values, or fields of events."""
        while True:
            data = (await self.publish()).NotificationMessage.NotificationData
            if data:
                return [
                    entry.Value if isinstance(part, ua.DataChangeNotification) else entry.EventFields
                    for part in data
                    for entry in (part.MonitoredItems if isinstance(part, ua.DataChangeNotification) else part.Events)
                ]

    async def method(self, name: str, *arguments: ua.Variant, on: ua.NodeId | None = None) -> ua.CallMethodResult:
        request = ua.CallMethodRequest(
            ObjectId=on or nid("Part"), MethodId=nid(f"Part.{name}"), InputArguments=list(arguments)
        )
        return (await self.call(ua.CallRequest(Parameters=ua.CallParameters(MethodsToCall=[request])))).Results[0]


def user_signature(app: Application, challenge: bytes) -> ua.SignatureData:
    """A user's X.509 proof under Basic256Sha256."""
    return ua.SignatureData(
        Algorithm="http://www.w3.org/2001/04/xmldsig-more#rsa-sha256",
        Signature=app.key.sign(challenge, padding.PKCS1v15(), hashes.SHA256()),
    )
