"""Every place where this server hooks into asyncua: subclasses and arguments, no patch of the library.

Used of it: address space storage and its loading (`InternalServer`, `Server`), the TCP protocol and its queue
(`OPCUAProtocol`, `BinaryServer`), the secure channel (`UaProcessor._connection`) and the codec. None of its session,
subscription, attribute, view, method or history services ever sees a client's request.
"""

import asyncio
import binascii
import inspect
import logging
import struct
import warnings
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, Protocol

from asyncua import ua
from asyncua.common.connection import SecureConnection, TransportLimits
from asyncua.common.utils import Buffer, ServiceError
from asyncua.common.xmlimporter import XmlImporter
from asyncua.crypto import security_policies, uacrypto
from asyncua.server.address_space import AddressSpace, AttributeValue, NodeData
from asyncua.server.binary_server_asyncio import BinaryServer, OPCUAProtocol
from asyncua.server.internal_server import InternalServer
from asyncua.server.server import Server
from asyncua.server.uaprocessor import UaProcessor
from asyncua.ua.ua_binary import header_from_binary, struct_from_binary, struct_to_binary, uatcp_to_binary
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

from nodesets.errors import CertificateRefused
from opcua_server.services.limits import Limits
from opcua_server.services.standard_nodes import StandardServer

log = logging.getLogger(__name__)

ASYNCUA = "2.1.0"
"""The version these seams were cut for."""

SEAMS: dict[Callable[..., Any], tuple[str, ...]] = {
    OPCUAProtocol.__init__: ("self", "iserver", "policies", "clients", "closing_tasks", "limits"),
    OPCUAProtocol.connection_made: ("self", "transport"),
    OPCUAProtocol.connection_lost: ("self", "ex"),
    OPCUAProtocol.data_received: ("self", "data"),
    OPCUAProtocol._process_one_msg: ("self", "header", "buf"),  # noqa: SLF001
    BinaryServer.__init__: ("self", "internal_server", "hostname", "port", "limits"),
    BinaryServer._make_protocol: ("self",),  # noqa: SLF001
    UaProcessor.__init__: ("self", "internal_server", "transport", "limits"),
    UaProcessor.process: ("self", "header", "body"),
    UaProcessor.close: ("self",),
    SecureConnection.open: ("self", "params", "server"),
    SecureConnection.select_policy: ("self", "uri", "peer_certificate", "mode"),
    SecureConnection.receive_from_header_and_body: ("self", "header", "body"),
    SecureConnection.message_to_binary: ("self", "message", "message_type", "request_id"),
    TransportLimits.create_acknowledge_and_set_limits: ("self", "msg"),
    AddressSpace.read_attribute_value: ("self", "nodeid", "attr"),
    AttributeValue.__init__: ("self", "value"),
    InternalServer.__init__: ("self", "user_manager"),
    InternalServer.load_standard_address_space: ("self", "shelf_file"),
    NodeData.__init__: ("self", "nodeid"),
    XmlImporter.__init__: ("self", "server", "strict_mode", "auto_load_definitions"),
    XmlImporter._add_missing_reverse_references: ("self", "new_nodes"),  # noqa: SLF001
    Server.__init__: ("self", "iserver", "user_manager"),
    Server.init: ("self", "shelf_file"),
    uacrypto.x509_from_der: ("data",),
}

POLICIES = {
    "Basic256Sha256": security_policies.SecurityPolicyBasic256Sha256,
    "Aes128_Sha256_RsaOaep": security_policies.SecurityPolicyAes128Sha256RsaOaep,
    "Aes256_Sha256_RsaPss": security_policies.SecurityPolicyAes256Sha256RsaPss,
}
NONE_URI = security_policies.SecurityPolicyNone.URI

UNREADABLE = (
    ua.UaError, ServiceError, InvalidSignature, uacrypto.InvalidSignature, UnsupportedAlgorithm, struct.error,
    ValueError, TypeError, IndexError, KeyError, AttributeError, OverflowError, RecursionError, AssertionError,
    binascii.Error,
)  # fmt: skip
"""What asyncua's decoder and cryptography raise for bytes that are not what they should be."""

MESSAGES = frozenset({b"HEL", b"OPN", b"MSG", b"CLO"})
SECURED = (ua.MessageType.SecureMessage, ua.MessageType.SecureClose)
MIN_CHUNK = 8192


def moved() -> list[str]:
    """Seams whose signature is not what this module was written for."""
    return [
        f"{seam.__qualname__}{inspect.signature(seam)}"
        for seam, expected in SEAMS.items()
        if tuple(inspect.signature(seam).parameters) != expected
    ]


def check_version() -> None:
    """Warn when another asyncua than the one tested runs."""
    if (found := version("asyncua")) != ASYNCUA:
        warnings.warn(f"asyncua {found} instead of {ASYNCUA}; moved: {moved()}", RuntimeWarning, stacklevel=2)


def silence() -> None:
    """asyncua prints whole requests at INFO, with the passwords in method arguments."""
    logging.getLogger("asyncua").setLevel(logging.WARNING)


class ChannelError(Exception):
    """The connection ends with an ERR message of this status; the text is for our log alone."""

    def __init__(self, status: int, reason: str, kind: str = "channel") -> None:
        super().__init__(reason)
        self.status = status
        self.kind = kind
        self.answered = False
        """The peer has its answer already; only the close is left."""


class Services(Protocol):
    """What a channel needs of the services above it."""

    limits: Limits

    def check_certificate(self, certificate: bytes) -> None:
        """Raises CertificateRefused."""

    async def handle(self, channel: "Channel", sequence: Any, body: Any) -> None:
        """Answer one request."""

    def channel_closed(self, channel: "Channel") -> None: ...

    def refused(self, kind: str, channel: "Channel", reason: str) -> None:
        """Something was refused before anyone was known."""

    def has_active_session(self, channel: "Channel") -> bool: ...


class Buffers(TransportLimits):  # type: ignore[misc]
    """Buffer sizes of one connection (Part 6 7.1.2.3): what a client says bounds what we send, never what we accept."""

    max_send_buffer: int
    max_response: int = 0
    """Bytes the client takes in one response; 0: any."""

    def create_acknowledge_and_set_limits(self, msg: Any) -> Any:
        if msg.ReceiveBufferSize < MIN_CHUNK or msg.SendBufferSize < MIN_CHUNK:
            raise ChannelError(ua.StatusCodes.BadConnectionRejected, "buffers under 8,192 bytes")
        self.max_send_buffer = min(msg.ReceiveBufferSize, self.max_send_buffer)
        # asyncua's client announces its number of chunks here, so what is less than one buffer cannot be meant.
        self.max_response = msg.MaxMessageSize if msg.MaxMessageSize >= MIN_CHUNK else 0
        return ua.Acknowledge(
            ReceiveBufferSize=min(msg.SendBufferSize, self.max_recv_buffer),
            SendBufferSize=self.max_send_buffer,
            MaxMessageSize=self.max_message_size,
            MaxChunkCount=self.max_chunk_count,
        )


class Channel(UaProcessor):  # type: ignore[misc]
    """One TCP connection and the secure channel on it."""

    def __init__(self, iserver: Any, transport: Any, limits: Any, services: Services) -> None:
        super().__init__(iserver, transport, limits)
        self._services = services
        self._greeted = False
        self._expiry: asyncio.TimerHandle | None = None
        self.closed = False

    @property
    def id(self) -> int:
        return int(self._connection.security_token.ChannelId)

    @property
    def policy(self) -> Any:
        return self._connection.security_policy

    @property
    def secured(self) -> bool:
        """Signed and encrypted by one of the configured policies."""
        return bool(self.policy.URI != NONE_URI and self.policy.Mode == ua.MessageSecurityMode.SignAndEncrypt)

    @property
    def certificate(self) -> bytes:
        """The peer's leaf certificate, DER; empty on policy None."""
        return self.policy.peer_certificate or b""

    @property
    def address(self) -> str:
        return str(self.name[0]) if self.name else ""

    async def process(self, header: Any, body: Any) -> bool:
        """One TCP message. False ends the connection; ChannelError ends it with an ERR."""
        if header.MessageType == ua.MessageType.Hello:
            self._hello(body)
            return True
        if not self._greeted:
            raise ChannelError(ua.StatusCodes.BadTcpMessageTypeInvalid, "no HELLO before it")
        if header.MessageType in SECURED and not self._connection.is_open():
            raise ChannelError(ua.StatusCodes.BadSecureChannelIdInvalid, "message before the channel was opened")
        message = self._receive(header, body)
        if message is None:
            return True
        if header.MessageType == ua.MessageType.SecureClose:
            return False
        if header.MessageType == ua.MessageType.SecureOpen:
            self._open(message)
        else:
            await self._services.handle(self, message.SequenceHeader(), message.body())
        return True

    def _hello(self, body: Any) -> None:
        if self._greeted:
            raise ChannelError(ua.StatusCodes.BadTcpMessageTypeInvalid, "a second HELLO")
        self._greeted = True
        acknowledge = self._limits.create_acknowledge_and_set_limits(struct_from_binary(ua.Hello, body))
        self._transport.write(uatcp_to_binary(ua.MessageType.Acknowledge, acknowledge))

    def _receive(self, header: Any, body: Any) -> Any:
        try:
            if header.MessageType == ua.MessageType.SecureOpen and not self._connection.is_open():
                self._check_policy(struct_from_binary(ua.AsymmetricAlgorithmHeader, body.copy()).SecurityPolicyURI)
            return self._connection.receive_from_header_and_body(header, body)
        except ua.UaStatusCodeError as error:
            raise ChannelError(error.code, str(error)) from error
        except UNREADABLE as error:
            # One answer for every cryptographic failure: which check failed would help an attacker (Part 4 6.1.4).
            raise ChannelError(ua.StatusCodes.BadSecurityChecksFailed, f"{type(error).__name__}: {error}") from error

    def _check_policy(self, uri: str) -> None:
        """Policy None stays possible for discovery; a session over it is refused."""
        if uri != NONE_URI and not any(policy.matches(uri) for policy in self._connection._policies):  # noqa: SLF001
            raise ChannelError(ua.StatusCodes.BadSecurityPolicyRejected, f"policy {uri!r} is not offered")

    def _open(self, message: Any) -> None:
        """OpenSecureChannel (Part 4 5.6.2): its sender has just proven to own the certificate in it.

        From here on a refusal is a ServiceFault, secured like the response would be, then the close (Part 6 6.7.4).
        """
        try:
            request = struct_from_binary(ua.OpenSecureChannelRequest, message.body())
        except UNREADABLE as error:
            raise ChannelError(ua.StatusCodes.BadDecodingError, str(error)) from error
        handle, sequence = request.RequestHeader.RequestHandle, message.SequenceHeader()
        try:
            response = self._opened(message, request.Parameters)
        except ChannelError as error:
            fault = ua.ServiceFault()
            fault.ResponseHeader.ServiceResult = ua.StatusCode(error.status)
            self.send_response(handle, sequence, fault, ua.MessageType.SecureOpen)
            error.answered = True
            raise
        self.send_response(handle, sequence, response, ua.MessageType.SecureOpen)

    def _opened(self, message: Any, parameters: Any) -> Any:
        renew = parameters.RequestType == ua.SecurityTokenRequestType.Renew
        if renew != self._connection.is_open():
            raise ChannelError(ua.StatusCodes.BadRequestTypeInvalid, f"{parameters.RequestType!r} at the wrong time")
        if not renew:
            self._select(message.SecurityHeader(), parameters.SecurityMode)
        if self.policy.URI != NONE_URI:
            self._check_peer(parameters)
        low, high = self._services.limits.channel_lifetime
        lifetime = min(max(parameters.RequestedLifetime / 1000, low), high)
        parameters.RequestedLifetime = int(lifetime * 1000)
        response = ua.OpenSecureChannelResponse()
        response.Parameters = self._connection.open(parameters, self.iserver)
        self._expire_in(lifetime * 1.25)
        return response

    def _select(self, algorithm: Any, mode: Any) -> None:
        try:
            self._connection.select_policy(algorithm.SecurityPolicyURI, algorithm.SenderCertificate, mode)
        except UNREADABLE as error:
            raise ChannelError(ua.StatusCodes.BadSecurityModeRejected, str(error)) from error

    def _check_peer(self, parameters: Any) -> None:
        if len(parameters.ClientNonce or b"") != self.policy.secure_channel_nonce_length:
            raise ChannelError(ua.StatusCodes.BadNonceInvalid, "nonce of the wrong length")
        try:
            self._services.check_certificate(self.certificate)
        except CertificateRefused as error:
            raise ChannelError(ua.StatusCodes.BadSecurityChecksFailed, str(error), "certificate") from error

    def _expire_in(self, seconds: float) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
        self._expiry = asyncio.get_running_loop().call_later(seconds, self._transport.close)

    def verify(self, data: bytes, signature: bytes | None) -> bool:
        """Whether the peer signed `data` with the key of its channel certificate."""
        try:
            self.policy.asymmetric_cryptography.verify(data, signature)
        except UNREADABLE:
            return False
        return True

    def sign(self, data: bytes) -> tuple[str, bytes]:
        """Algorithm and signature by the server's key."""
        return self.policy.AsymmetricSignatureURI, self.policy.asymmetric_cryptography.signature(data)

    def respond(self, header: Any, sequence: Any, response: Any) -> None:
        """Send a response; ServiceFault BadResponseTooLarge when the client could not take it."""
        if self.closed:
            return
        response.ResponseHeader.RequestHandle = header.RequestHandle
        data = struct_to_binary(response)
        if self._limits.max_response and len(data) > self._limits.max_response:
            self.fault(header, sequence, ua.StatusCodes.BadResponseTooLarge)
            return
        self._transport.write(self._connection.message_to_binary(data, request_id=sequence.RequestId))
        if self._transport.get_write_buffer_size() > self._services.limits.backlog:
            log.warning("%s does not read its responses; connection cut", self.address)
            self._transport.abort()

    def fault(self, header: Any, sequence: Any, code: int) -> None:
        response = ua.ServiceFault()
        response.ResponseHeader.ServiceResult = ua.StatusCode(code)
        self.respond(header, sequence, response)

    def abort(self) -> None:
        self._transport.abort()

    async def close(self) -> None:
        """The connection is gone; called by asyncua."""
        self.closed = True
        if self._expiry is not None:
            self._expiry.cancel()
        self._connection.close()
        self._services.channel_closed(self)


class Connection(OPCUAProtocol):  # type: ignore[misc]
    """asyncua's TCP protocol with our channel, bounded reading, and an answer to what it cannot understand."""

    def __init__(self, services: Services, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.processor: Channel | None = None
        self._services = services
        self._received = bytearray()
        self._patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if self.processor is None:  # refused: too many connections
            return
        self.processor = Channel(self.iserver, transport, self.limits, self._services)
        self.processor.set_policies(self.policies)
        self._be_patient()

    def _be_patient(self) -> None:
        seconds = self._services.limits.inactive
        self._patience = asyncio.get_running_loop().call_later(seconds, self._close_inactive)

    def _close_inactive(self) -> None:
        if self.processor is not None and self._services.has_active_session(self.processor):
            self._be_patient()
        elif self.transport is not None:
            self.transport.close()

    def connection_lost(self, ex: BaseException | None) -> None:
        if self._patience is not None:
            self._patience.cancel()
        super().connection_lost(ex)

    def data_received(self, data: bytes) -> None:
        """Cut the stream into chunks; a size is judged as soon as its eight bytes are there."""
        received = self._received
        received += data
        while len(received) >= 8:
            size = int.from_bytes(received[4:8], "little")
            if bytes(received[:3]) not in MESSAGES:
                self._refuse(ua.StatusCodes.BadTcpMessageTypeInvalid, "unknown message type")
                return
            if not 16 <= size <= self._services.limits.chunk:
                self._refuse(ua.StatusCodes.BadTcpMessageTooLarge, f"chunk of {size} bytes")
                return
            if len(received) < size:
                return
            chunk = Buffer(bytes(received[:size]))
            del received[:size]
            if self.messages.full():
                self._refuse(ua.StatusCodes.BadTcpServerTooBusy, "too many waiting messages")
                return
            self.messages.put_nowait((header_from_binary(chunk), chunk))

    async def _process_one_msg(self, header: Any, buf: Any) -> bool:
        try:
            return bool(await super()._process_one_msg(header, buf))
        except ChannelError as error:
            self._refuse(error.status, str(error), error.kind, answered=error.answered)
            return False
        except UNREADABLE as error:
            self._refuse(ua.StatusCodes.BadDecodingError, f"{type(error).__name__}: {error}")
            return False

    def _refuse(self, status: int, reason: str, kind: str = "channel", *, answered: bool = False) -> None:
        """ERR, then close (Part 6 7.1.5). The peer learns the code, our log the reason."""
        self._received.clear()
        if self.transport is None or self.transport.is_closing():
            return
        if self.processor is not None:
            self._services.refused(kind, self.processor, reason)
        if not answered:
            error = ua.ErrorMessage(ua.StatusCode(status), None)
            self.transport.write(uatcp_to_binary(ua.MessageType.Error, error))
        self.transport.close()


class Listener(BinaryServer):  # type: ignore[misc]
    """asyncua's TCP server making our connections."""

    def __init__(self, iserver: Any, host: str, port: int, services: Services) -> None:
        limits = services.limits
        buffers = Buffers(
            max_recv_buffer=limits.chunk,
            max_send_buffer=limits.chunk,
            max_chunk_count=2 * (limits.message // limits.chunk) + 1,
            max_message_size=limits.message,
        )
        super().__init__(iserver, host, port, buffers)
        self._services = services

    def _make_protocol(self) -> Connection:
        return Connection(
            self._services,
            iserver=self.iserver,
            policies=self._policies,
            clients=self.clients,
            closing_tasks=self.closing_tasks,
            limits=self.limits,
        )


def policy_factories(names: tuple[str, ...], certificate: Any, key: Any) -> list[Any]:
    """One factory a policy, always SignAndEncrypt."""
    mode = ua.MessageSecurityMode.SignAndEncrypt
    return [security_policies.SecurityPolicyFactory(POLICIES[name], mode, certificate, key) for name in names]


def make_server(limits: Limits) -> Any:
    """asyncua's Server, of which only address space and its loading are used; it never listens."""
    iserver = StandardServer()
    iserver.disabled_clock = True
    iserver.max_connections = limits.connections
    iserver.max_pending_messages_per_connection = limits.pending_messages
    iserver.max_pending_activation_seconds = 0.0
    return Server(iserver=iserver)
