"""The secure channel (Part 4 5.6, Part 6 6.7): chunks in, requests out; responses in, chunks out. No socket in it.

Every refusal is a ChannelError, whose status the peer learns and whose text only our log does. A message counts for
nothing, not for a token's change nor for a sequence number, before its signature was found right.
"""

import hmac
import itertools
import logging
import secrets
import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from asyncua import ua
from asyncua.common.connection import MessageChunk
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import struct_from_binary, struct_to_binary

from nodesets.errors import CertificateRefused
from opcua_server import security
from opcua_server.services import browsing, publishing
from opcua_server.services.acts import Opening
from opcua_server.services.explanations import explain
from opcua_server.services.headers import RequestHeader
from opcua_server.services.limits import Limits
from opcua_server.services.publishing import Piece
from opcua_server.services.seams import NONE_URI, UNREADABLE, make_policy, no_policy, symmetric_keys
from opcua_server.services.status import Fault
from opcua_server.services.wire import Wire

log = logging.getLogger(__name__)

HEADER = struct.Struct("<3scII")
"""Message type, chunk type, size, channel id (Part 6 6.7.2.2)."""
SEQUENCE = struct.Struct("<II")
"""Sequence number, request id (6.7.2.4)."""
TOKEN = struct.Struct("<I")
OPEN, MESSAGE, CLOSE = b"OPN", b"MSG", b"CLO"
FINAL, INTERMEDIATE, ABORT = b"F", b"C", b"A"
WRAP_FROM, WRAP_TO = 2**32 - 1024, 1024
"""A sequence number from WRAP_FROM on may be followed by one below WRAP_TO (6.7.2.4)."""
NONCES = 10_000
"""Of clients, kept to know one that comes again."""
GRACE = 1.25
"""Messages are accepted for so many lifetimes of their token (Part 4 5.6.2.1)."""
MAX_OPEN = 4096
"""Encrypted bytes of an OpenSecureChannel: ten blocks; each costs milliseconds of RSA before anyone is known."""
MIN_CHUNK = 8192

_numbers = itertools.count(secrets.randbelow(2**30) + 1)
"""Channel ids: of no use to whom guesses one, but why make it easy."""


class ChannelError(Exception):
    """The connection ends with an ERR message of this status; the text is for our log alone."""

    def __init__(self, status: int, reason: str, kind: str = "channel.close") -> None:
        super().__init__(reason)
        self.status = status
        self.kind = kind
        """Row of `audit.KINDS`, when it is not about opening the channel."""
        self.answer = b""
        """Sent in place of ERR to a peer that is known to own its certificate."""


class Outlet(Protocol):
    """Where a channel's bytes go."""

    def write(self, pieces: Sequence[Piece]) -> None:
        """Send these, one after the other; they are not changed any more."""

    def abort(self) -> None: ...


class Nonces:
    """Random numbers of clients, each good for one request (Part 4 5.6.2.2, 5.7.2.2)."""

    def __init__(self) -> None:
        self._seen: dict[bytes, None] = {}

    def fresh(self, nonce: bytes) -> bool:
        """Whether it is none of the last `NONCES`; from now on it is."""
        if nonce in self._seen:
            return False
        self._seen[nonce] = None
        if len(self._seen) > NONCES:
            del self._seen[next(iter(self._seen))]
        return True


class Gate(Protocol):
    """What a channel asks of the server."""

    limits: Limits
    identity: security.Identity
    """What new channels show."""
    policies: tuple[str, ...]
    """URIs of the policies offered; None is always there, for discovery."""
    nonces: Nonces

    def check_certificate(self, certificate: bytes) -> None:
        """Raises CertificateRefused."""

    def has_active_session(self, channel: "Channel") -> bool: ...

    def opened(self, channel: "Channel", opening: Opening) -> None:
        """It was opened, not only renewed."""


@dataclass(frozen=True, slots=True)
class Message:
    """A request, whole."""

    kind: bytes
    sequence: Any
    """ua.SequenceHeader of its first chunk."""
    body: bytes


@dataclass(slots=True)
class Token:
    """One security token and its keys."""

    id: int
    crypto: Any
    lifetime: float
    """Seconds."""
    created: float
    """`time.monotonic`."""

    def expired(self) -> bool:
        return time.monotonic() > self.created + self.lifetime * GRACE


class Channel:
    """One secure channel; `id` is 0 until it is open."""

    def __init__(self, outlet: Outlet, address: str, gate: Gate, wire: Wire) -> None:
        self.address = address
        self.closed = False
        self.id = 0
        self.enrolled = False
        """Opened with a certificate we trust."""
        self.policy = no_policy()
        self.identity = gate.identity
        """Ours on this channel: it stays, when the server gets another certificate."""
        self.max_chunk = gate.limits.chunk
        """Bytes of a chunk the client takes."""
        self.max_response = 0
        """Bytes of a response the client takes; 0: any."""
        self.max_chunks = 0
        """Chunks of a response the client takes; 0: any."""
        self.opening: Opening | None = None
        """The OpenSecureChannel under way."""
        self._outlet = outlet
        self._gate = gate
        self._wire = wire
        self._tokens: dict[int, Token] = {}
        self._sending: Token | None = None
        self._token_ids = itertools.count(1)
        self._received: int | None = None
        self._sent = 0
        self._parts: list[bytes] = []
        self._request = 0
        self._first = 0
        self.held = 0
        """Bytes of the message that is not yet whole."""

    @property
    def secured(self) -> bool:
        """Signed and encrypted by one of the configured policies."""
        return bool(self.policy.URI != NONE_URI and self.policy.Mode == ua.MessageSecurityMode.SignAndEncrypt)

    @property
    def certificate(self) -> bytes:
        """The peer's leaf certificate, DER; empty on policy None."""
        return self.policy.peer_certificate or b""

    @property
    def expired(self) -> bool:
        """No token of it is valid any more: its client has not renewed it."""
        return bool(self.id) and all(token.expired() for token in self._tokens.values())

    # -- in

    def receive(self, chunk: bytes) -> Message | None:
        """One chunk, whole: the message it completes, if it does. OpenSecureChannel is answered here.

        Raises ChannelError: the connection ends.
        """
        kind, chunk_type, _, channel_id = HEADER.unpack_from(chunk)
        if chunk_type not in (FINAL, INTERMEDIATE, ABORT) or (kind == OPEN and chunk_type != FINAL):
            raise ChannelError(ua.StatusCodes.BadTcpMessageTypeInvalid, f"chunk type {chunk_type!r}")
        if kind == OPEN:
            self.opening = Opening()
        try:
            plain = self._asymmetric(chunk) if kind == OPEN else self._symmetric(chunk, channel_id)
            number, request_id = SEQUENCE.unpack_from(plain)
        except UNREADABLE as error:
            # One answer for every cryptographic failure: which check failed would help an attacker (Part 4 6.1.4).
            raise ChannelError(ua.StatusCodes.BadSecurityChecksFailed, f"{type(error).__name__}: {error}") from error
        self._follow(number)
        message = self._assemble(kind, chunk_type, number, request_id, plain[SEQUENCE.size :])
        if message is not None and kind == OPEN:
            self._open(message)
            return None
        return message

    def _symmetric(self, chunk: bytes, channel_id: int) -> bytes:
        """Sequence header and body of a MSG or CLO chunk."""
        if not self.id or channel_id != self.id:
            raise ChannelError(ua.StatusCodes.BadSecureChannelIdInvalid, f"channel {channel_id}, this is {self.id}")
        (token_id,) = TOKEN.unpack_from(chunk, HEADER.size)
        token = self._tokens.get(token_id)
        if token is None or token.expired():
            raise ChannelError(ua.StatusCodes.BadSecureChannelTokenUnknown, f"token {token_id}")
        start = HEADER.size + TOKEN.size
        plain = _opened(token.crypto, chunk[:start], chunk[start:])
        if token is not self._sending:
            self._take_up(token)
        return plain

    def _take_up(self, token: Token) -> None:
        """The client has used a token: ours go with the newest one it has (Part 4 5.6.2.1)."""
        if self._sending is None or token.id > self._sending.id:
            self._sending = token
            self._tokens = {t.id: t for t in self._tokens.values() if not t.expired()}

    def _asymmetric(self, chunk: bytes) -> bytes:
        """Sequence header and body of an OPN chunk; afterwards its sender is known to own the certificate in it."""
        try:
            start = self._wire.end(ua.AsymmetricAlgorithmHeader, chunk, HEADER.size)
        except Fault as fault:
            raise ChannelError(ua.StatusCodes.BadSecurityChecksFailed, "no security header") from fault
        header = struct_from_binary(ua.AsymmetricAlgorithmHeader, Buffer(chunk, HEADER.size))
        self.opening = Opening(header.SenderCertificate or b"", header.SecurityPolicyURI or "")
        policy = self._policy(header)
        if policy.URI == NONE_URI:
            plain = chunk[start:]
        elif len(chunk) - start > MAX_OPEN:
            raise ChannelError(ua.StatusCodes.BadSecurityChecksFailed, f"{len(chunk) - start} bytes to decrypt")
        else:
            plain = _opened(policy.asymmetric_cryptography, chunk[:start], chunk[start:])
        self.policy = policy
        return plain

    def _policy(self, header: Any) -> Any:
        """What an OPN chunk is secured by: for a renewal, what the channel was opened with."""
        uri, sender = header.SecurityPolicyURI, header.SenderCertificate
        if self.id:
            leaf = security.leaf_der(sender) if sender else b""
            if uri != self.policy.URI or leaf != self.certificate:
                raise ChannelError(ua.StatusCodes.BadSecurityChecksFailed, "renewed with another certificate or policy")
            return self.policy
        if uri == NONE_URI:
            return no_policy()
        if uri not in self._gate.policies:
            raise ChannelError(ua.StatusCodes.BadSecurityPolicyRejected, f"policy {uri!r} is not offered")
        try:
            security.check_strength(security.leaf(sender or b""))
        except CertificateRefused as error:
            raise ChannelError(ua.StatusCodes.BadSecurityChecksFailed, str(error)) from error
        self.identity = self._gate.identity
        if header.ReceiverCertificateThumbPrint != self.identity.thumbprint:
            raise ChannelError(ua.StatusCodes.BadSecurityChecksFailed, "encrypted for another certificate of ours")
        return make_policy(uri, self.identity.certificate, self.identity.key, security.leaf_der(sender))

    def _follow(self, number: int) -> None:
        """Sequence numbers go up by one, and may wrap (Part 6 6.7.2.4)."""
        last = self._received
        if last is not None and number != last + 1 and not (last >= WRAP_FROM and number < WRAP_TO):
            raise ChannelError(ua.StatusCodes.BadSequenceNumberInvalid, f"sequence number {number} after {last}")
        self._received = number

    def _assemble(self, kind: bytes, chunk_type: bytes, number: int, request_id: int, body: bytes) -> Message | None:
        """Chunks of one message follow each other (6.7.2); an aborted one is forgotten (6.7.3)."""
        if not self._parts:
            self._request, self._first = request_id, number
        elif request_id != self._request:
            raise ChannelError(ua.StatusCodes.BadTcpInternalError, f"chunk of {request_id} inside {self._request}")
        if chunk_type == ABORT:
            self._forget()
            return None
        self._parts.append(body)
        self.held += len(body)
        self._bound()
        if chunk_type == INTERMEDIATE:
            return None
        whole = Message(kind, ua.SequenceHeader(self._first, request_id), b"".join(self._parts))
        self._forget()
        return whole

    def _forget(self) -> None:
        self._parts.clear()
        self.held = 0

    def _bound(self) -> None:
        limits = self._gate.limits
        if len(self._parts) > limits.chunks:
            raise ChannelError(ua.StatusCodes.BadRequestTooLarge, f"{len(self._parts)} chunks")
        if self.held > limits.message:
            raise ChannelError(ua.StatusCodes.BadRequestTooLarge, f"{self.held} bytes")
        if self.held > limits.message_before_session and not self._gate.has_active_session(self):
            raise ChannelError(ua.StatusCodes.BadRequestTooLarge, f"{self.held} bytes before a session")

    # -- OpenSecureChannel

    def _open(self, message: Message) -> None:
        """OpenSecureChannel (Part 4 5.6.2): its sender has just proven to own the certificate in it.

        From here on a refusal is a ServiceFault, secured like the response would be, then the close (Part 6 6.7.4).
        """
        try:
            self._wire.check(ua.OpenSecureChannelRequest, message.body)
            request = struct_from_binary(ua.OpenSecureChannelRequest, Buffer(message.body))
        except (Fault, *UNREADABLE) as error:
            raise ChannelError(ua.StatusCodes.BadDecodingError, f"OpenSecureChannel: {error}") from error
        handle, opening, renewed = request.RequestHeader.RequestHandle, self.opening or Opening(), bool(self.id)
        opening.parameters = request.Parameters
        opening.entry = request.RequestHeader.AuditEntryId or ""
        try:
            response = self._opened(request.Parameters)
        except ChannelError as error:
            fault = ua.ServiceFault()
            fault.ResponseHeader.ServiceResult = ua.StatusCode(error.status)
            error.answer = self._asymmetric_chunk(handle, message, fault)
            raise
        self._outlet.write([self._asymmetric_chunk(handle, message, response)])
        self.opening = None
        if not renewed:
            self._gate.opened(self, opening)

    def _opened(self, parameters: Any) -> Any:
        renew = parameters.RequestType == ua.SecurityTokenRequestType.Renew
        if renew != bool(self.id):
            raise ChannelError(ua.StatusCodes.BadRequestTypeInvalid, f"{parameters.RequestType!r} at the wrong time")
        if parameters.SecurityMode != self.policy.Mode:
            raise ChannelError(ua.StatusCodes.BadSecurityModeRejected, f"mode {parameters.SecurityMode!r}")
        if self.policy.URI != NONE_URI:
            self._check_peer(parameters)
        low, high = self._gate.limits.channel_lifetime
        lifetime = min(max(parameters.RequestedLifetime / 1000, low), high)
        nonce = secrets.token_bytes(self.policy.secure_channel_nonce_length)
        crypto = symmetric_keys(self.policy, parameters.ClientNonce or b"", nonce, int(lifetime * 1000))
        token = Token(next(self._token_ids), crypto, lifetime, time.monotonic())
        self._tokens[token.id] = token
        self.id = self.id or next(_numbers)
        self._sending = self._sending or token
        return ua.OpenSecureChannelResponse(
            Parameters=ua.OpenSecureChannelResult(
                SecurityToken=ua.ChannelSecurityToken(
                    ChannelId=self.id,
                    TokenId=token.id,
                    CreatedAt=datetime.now(UTC),
                    RevisedLifetime=int(lifetime * 1000),
                ),
                ServerNonce=nonce,
            )
        )

    def _check_peer(self, parameters: Any) -> None:
        if len(parameters.ClientNonce or b"") != self.policy.secure_channel_nonce_length:
            raise ChannelError(ua.StatusCodes.BadNonceInvalid, "nonce of the wrong length")
        try:
            self._gate.check_certificate(self.certificate)
        except CertificateRefused as error:
            raise ChannelError(ua.StatusCodes.BadSecurityChecksFailed, str(error)) from error
        if not self.fresh(parameters.ClientNonce):
            raise ChannelError(ua.StatusCodes.BadNonceInvalid, "nonce of an earlier request")
        self.enrolled = True

    def fresh(self, nonce: bytes) -> bool:
        """Whether a client's nonce comes for the first time, on whatever channel."""
        return self._gate.nonces.fresh(nonce)

    def _asymmetric_chunk(self, handle: int, message: Message, response: Any) -> bytes:
        response.ResponseHeader.RequestHandle = handle
        chunk = MessageChunk.message_to_chunks(
            self.policy,
            struct_to_binary(response),
            self.max_chunk,
            message_type=ua.MessageType.SecureOpen,
            channel_id=self.id,
            request_id=message.sequence.RequestId,
        )[0]
        chunk.SequenceHeader.SequenceNumber = self._next()
        return bytes(chunk.to_binary())

    # -- proofs of the session services

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

    # -- out

    def respond(self, header: RequestHeader, sequence: Any, response: Any, most: int = 0) -> None:
        """Send a response; ServiceFault BadResponseTooLarge when the client could not take it.

        `most`: bytes its session takes; 0: any.
        """
        if self.closed:
            return
        response.ResponseHeader.RequestHandle = header.handle
        explained = header.asked and explain(response, header.asked)
        if isinstance(response, ua.PublishResponse) and not explained:
            pieces = publishing.encoded(response)
        elif isinstance(response, browsing.Response):
            pieces = [response.encoded()]
        else:
            pieces = [struct_to_binary(response)]
        if 0 < most < sum(map(len, pieces)) or not self.send(pieces, sequence.RequestId):
            self.fault(header, sequence, ua.StatusCodes.BadResponseTooLarge)

    def fault(self, header: RequestHeader, sequence: Any, code: int) -> None:
        response = ua.ServiceFault()
        response.ResponseHeader.ServiceResult = ua.StatusCode(code)
        self.respond(header, sequence, response)

    def send(self, pieces: Sequence[Piece], request_id: int) -> bool:
        """Send an encoded response; False when the client does not take one of this size."""
        token, length = self._outgoing(), sum(map(len, pieces))
        size = MessageChunk.max_body_size(token.crypto, self.max_chunk)
        chunks = max(1, -(-length // size))
        if (self.max_response and length > self.max_response) or (self.max_chunks and chunks > self.max_chunks):
            return False
        sealed: list[Piece] = []
        for number, parts in enumerate(_cut(pieces, size), 1):
            sealed += self._sealed(token, FINAL if number == chunks else INTERMEDIATE, request_id, parts)
        self._outlet.write(sealed)
        return True

    def _outgoing(self) -> Token:
        """The token responses are secured by: the one the client has used last, and a newer one once that is over."""
        token = self._sending
        if token is None:
            raise ChannelError(ua.StatusCodes.BadSecureChannelClosed, "nothing to secure a response by")
        if time.monotonic() > token.created + token.lifetime:
            token = self._sending = max(self._tokens.values(), key=lambda t: t.id)
        return token

    def _sealed(self, token: Token, chunk_type: bytes, request_id: int, parts: Sequence[Piece]) -> Sequence[Piece]:
        """A chunk, in pieces."""
        crypto, length = token.crypto, SEQUENCE.size + sum(map(len, parts))
        sequence = SEQUENCE.pack(self._next(), request_id)
        padding = crypto.padding(length)
        signed = crypto.signature_size()
        size = HEADER.size + TOKEN.size + length + len(padding) + signed
        header = HEADER.pack(MESSAGE, chunk_type, size, self.id) + TOKEN.pack(token.id)
        if not signed:
            return header + sequence, *parts
        plain = b"".join((header, sequence, *parts, padding))
        return header, crypto.encrypt(plain[len(header) :] + crypto.signature(plain))

    def _next(self) -> int:
        self._sent = self._sent + 1 if self._sent < 2**32 - 1 else 1
        return self._sent

    def abort(self) -> None:
        """End the connection at once."""
        self._outlet.abort()


def _cut(pieces: Sequence[Piece], size: int) -> Iterator[list[Piece]]:
    """The same bytes, so many at a time, the rest at last."""
    parts, room = list[Piece](), size
    for each in pieces:
        piece = memoryview(each)
        while len(piece) > room:
            yield [*parts, piece[:room]]
            piece, parts, room = piece[room:], [], size
        parts.append(piece)
        room -= len(piece)
    yield parts


def _opened(crypto: Any, header: bytes, data: bytes) -> bytes:
    """Decrypted, verified and without padding: sequence header and body. Raises one of UNREADABLE.

    The signature covers the padding, so that nobody learns anything by changing it (Part 6 6.7.2.5).
    """
    plain = crypto.decrypt(data)
    size = crypto.vsignature_size()
    if not size:
        return bytes(plain)
    plain, signature = plain[:-size], plain[-size:]
    key = getattr(crypto.Verifier, "key", None)
    if key is None:
        crypto.verify(header + plain, signature)
    elif not hmac.compare_digest(hmac.digest(key, header + plain, "sha256"), signature):
        raise ValueError("wrong signature")
    padding = plain[-1] + 1
    if crypto.Decryptor.encrypted_block_size() > 256:  # keys over 2,048 bits: one more byte for the length
        padding = (plain[-1] << 8) + plain[-2] + 2
    if padding > len(plain) - SEQUENCE.size:
        raise ValueError("padding longer than the chunk")
    return bytes(plain[:-padding])
