"""The server as a conformance tool meets it: a process of config/conformance.yaml, over None and SignAndEncrypt."""

import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from asyncua import ua
from asyncua.crypto import security_policies
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from opcua_server.services.nodes import SITE_NS
from tests.conformance.opcua import Application, Raw, application
from tests.servers import Running

CONFIG = Path(__file__).parents[2] / "config" / "conformance.yaml"
CHANNELS = ("None", "Basic256Sha256")
USERS = {
    "op1": "Operator",
    "obs1": "Observer",
    "eng1": "Engineer",
    "admin1": "ConfigureAdmin",
    "sec1": "SecurityAdmin",
    "aud1": "Auditor",
}
CODES = ua.StatusCodes
ROOT = "Playground"


@dataclass(frozen=True)
class Peer:
    certificate: x509.Certificate

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)


@dataclass(frozen=True)
class Port:
    port: int


@dataclass(frozen=True)
class Plant:
    """A running process; has of `opcua.Bench` what `Raw` needs."""

    running: Running
    identity: Peer
    client: Application

    @property
    def url(self) -> str:
        return self.running.endpoint

    @property
    def server(self) -> Port:
        return Port(int(self.url.rpartition(":")[2]))

    @asynccontextmanager
    async def session(self, channel: str, user: str = "op1", **further: Any) -> AsyncIterator["Conversation"]:
        async with Conversation(self, policy=None if channel == "None" else channel) as talk:
            await talk.open()
            await talk.create_session(**further)
            await talk.enter(user)
            yield talk


@contextmanager
def running_plant(folder: Path, further: str = "", devices: str = "") -> Iterator[Plant]:
    """The process, `further` and `devices` added to its configuration, with `USERS` and a client it trusts.

    On a free port.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = folder / "conformance.yaml"
    text = CONFIG.read_text().replace("port: 4840", f"port: {port}").replace("devices:\n", f"devices:\n{devices}")
    config.write_text(text + further)
    server = Running(config, folder / "data")
    with server.started():
        for name, role in USERS.items():
            server.add_user(name, role)
        certificate = x509.load_der_x509_certificate((server.data / "pki/own/certs/enose.der").read_bytes())
        client = application()
        (server.data / f"pki/trusted/certs/{client.thumbprint}.der").write_bytes(client.der)
        yield Plant(server, Peer(certificate), client)


class Conversation(Raw):
    """`Raw` with the plant's accounts, on either channel."""

    bench: Any

    async def enter(self, user: str) -> Self:
        """Activate the session as a user; '' is nobody."""
        if not user:
            token: Any = ua.AnonymousIdentityToken(PolicyId="anonymous")
        else:
            token = self.password_token(user, self.bench.running.passwords[user])
        await self.activate(token)
        return self

    def password_token(self, user: str, password: str, nonce: bytes | None = None) -> ua.UserNameIdentityToken:
        secret = password.encode() + (self.server_nonce if nonce is None else nonce)
        plain = len(secret).to_bytes(4, "little") + secret
        policy = self.policy.URI
        if policy == security_policies.SecurityPolicyNone.URI:
            policy = security_policies.SecurityPolicyBasic256Sha256.URI
        data, uri = security_policies.encrypt_asymmetric(self.bench.identity.certificate.public_key(), plain, policy)
        return ua.UserNameIdentityToken(PolicyId="username", UserName=user, Password=data, EncryptionAlgorithm=uri)

    async def outcome(self, request: Any) -> list[int] | int:
        """StatusCodes of the operations of a request, or the one StatusCode of its ServiceFault."""
        try:
            response = await self.call(request)
        except ua.UaStatusCodeError as fault:
            return fault.code
        results = getattr(response, "Results", None)
        if results is None:
            results = getattr(response.Parameters, "Results", None) or []
        return [(r if isinstance(r, ua.StatusCode) else r.StatusCode).value for r in results]


def nid(path: str) -> ua.NodeId:
    """A node of the playground by path, any other by `i=`, `ns=`."""
    if path.startswith(("i=", "ns=", "s=")):
        return ua.NodeId.from_string(path)
    return ua.NodeId(f"{ROOT}.{path}" if path else ROOT, SITE_NS)


# -- requests


def read(path: str, attribute: int = ua.AttributeIds.Value, **further: Any) -> ua.ReadRequest:
    return reads(ua.ReadValueId(NodeId=nid(path), AttributeId=attribute, **further))


def reads(*items: ua.ReadValueId, **further: Any) -> ua.ReadRequest:
    fields = {"TimestampsToReturn": ua.TimestampsToReturn.Both, "NodesToRead": list(items)}
    return ua.ReadRequest(Parameters=ua.ReadParameters(**(fields | further)))


def write(
    path: str,
    value: Any,
    kind: ua.VariantType | None = None,
    *,
    attribute: int = ua.AttributeIds.Value,
    index_range: str | None = None,
    **further: Any,
) -> ua.WriteRequest:
    variant = value if isinstance(value, ua.Variant) else ua.Variant(value, kind)
    fields: dict[str, Any] = {"StatusCode": None}
    item = ua.WriteValue(nid(path), attribute, index_range, ua.DataValue(variant, **(fields | further)))
    return ua.WriteRequest(Parameters=ua.WriteParameters(NodesToWrite=[item]))


def browse(path: str, **further: Any) -> ua.BrowseRequest:
    description = ua.BrowseDescription(
        NodeId=nid(path),
        BrowseDirection=ua.BrowseDirection.Forward,
        ReferenceTypeId=ua.NodeId(ua.ObjectIds.HierarchicalReferences),
        IncludeSubtypes=True,
        ResultMask=63,
    )
    for name, value in further.items():
        setattr(description, name, value)
    return ua.BrowseRequest(Parameters=ua.BrowseParameters(NodesToBrowse=[description]))


def translate(start: str, *names: str) -> ua.TranslateBrowsePathsToNodeIdsRequest:
    elements = [
        ua.RelativePathElement(
            ReferenceTypeId=ua.NodeId(ua.ObjectIds.HierarchicalReferences),
            IsInverse=False,
            IncludeSubtypes=True,
            TargetName=ua.QualifiedName(name, SITE_NS) if name else ua.QualifiedName(),
        )
        for name in names
    ]
    path = ua.BrowsePath(StartingNode=nid(start), RelativePath=ua.RelativePath(Elements=elements))
    parameters = ua.TranslateBrowsePathsToNodeIdsParameters(BrowsePaths=[path])
    return ua.TranslateBrowsePathsToNodeIdsRequest(Parameters=parameters)


def call(method: str, *arguments: Any, on: str = "Methods") -> ua.CallRequest:
    request = ua.CallMethodRequest(ObjectId=nid(on), MethodId=nid(method), InputArguments=list(arguments))
    return ua.CallRequest(Parameters=ua.CallParameters(MethodsToCall=[request]))


def int32(value: Any) -> ua.Variant:
    return ua.Variant(value, ua.VariantType.Int32)


def double(value: Any) -> ua.Variant:
    return ua.Variant(value, ua.VariantType.Double)
