"""Session service set (Part 4 5.7): who is at the other end, on which channel, for how long.

Created -> Activated -> Closed. A session belongs to the client certificate it was created with. It is named by a
random token, moves to another channel only by that certificate and the same user, and ends after its time-out,
counted from the last request. One that was never activated ends with its channel, or after `Limits.inactive`.
"""

import logging
import secrets
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from asyncua import ua
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from nodesets.errors import CertificateRefused, CredentialRejected, EnoseError
from nodesets.model import Caller, Role, SecurityMode
from nodesets.ports import Clock
from opcua_server import security
from opcua_server.services.aliases import Aliases
from opcua_server.services.channel import Channel
from opcua_server.services.headers import RequestHeader
from opcua_server.services.limits import Limits
from opcua_server.services.status import Fault

log = logging.getLogger(__name__)

NONCE_LENGTH = 32
MAX_NONCE = 128
MAX_SECRET = 1024
"""Bytes of an encrypted password that are looked at: two RSA-4096 blocks."""
PROOFS = {ua.UserNameIdentityToken: "password", ua.X509IdentityToken: "certificate"}
ANONYMOUS, USERNAME, CERTIFICATE = "anonymous", "username", "certificate"
"""PolicyIds of the user token policies."""

OAEP_SHA1 = "http://www.w3.org/2001/04/xmlenc#rsa-oaep"
OAEP_SHA256 = "http://opcfoundation.org/UA/security/rsa-oaep-sha2-256"
SIGN_SHA256 = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"
SIGN_PSS = "http://opcfoundation.org/UA/security/rsa-pss-sha2-256"


class Account(Protocol):
    """A user as the identities know him."""

    @property
    def name(self) -> str: ...
    @property
    def roles(self) -> frozenset[Role]: ...
    @property
    def service(self) -> bool:
        """A service account: may call, never sign."""


@dataclass(frozen=True, slots=True)
class Nobody:
    """The account of an anonymous user."""

    name: str = ""
    roles: frozenset[Role] = frozenset({Role.ANONYMOUS})
    service: bool = False


class Identities(Protocol):
    """Who may log in. Both raise CredentialRejected, LockedOut or AccessDenied, and take as long as they need."""

    async def by_password(
        self, name: str, password: str, *, application_uri: str, address: str, session: str
    ) -> Account: ...

    async def by_certificate(self, thumbprint: str, *, application_uri: str, address: str, session: str) -> Account:
        """`thumbprint`: SHA-256 of the user's certificate, lower-case hex. Its key was proven to be at hand."""


Ended = Callable[["Session", str, str], None]
"""(session, `session.close`, `session.timeout` or `session.end`, AuditEntryId): a session has ended."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A Publish request not yet answered."""

    channel: Channel
    header: RequestHeader
    sequence: Any
    results: list[Any]
    """StatusCodes of its acknowledgements."""
    deadline: float | None
    """`Clock.monotonic` after which it is answered BadTimeout."""
    most: int = 0
    """Bytes its session takes in one response; 0: any."""


class Points:
    """Continuation points of a session (7.9): a new request takes the place of what earlier ones left."""

    def __init__(self) -> None:
        self._kept: dict[bytes, tuple[object, Any]] = {}

    def keep(self, value: Any, request: object, most: int) -> bytes:
        """A point for `value`. Raises Fault BadNoContinuationPoints when all `most` are of this very request."""
        if len(self._kept) >= most:
            earlier = next((key for key, (made_by, _) in self._kept.items() if made_by is not request), None)
            if earlier is None:
                raise Fault(ua.StatusCodes.BadNoContinuationPoints)
            del self._kept[earlier]
        key = secrets.token_bytes(16)
        self._kept[key] = request, value
        return key

    def __iter__(self) -> Iterator[tuple[bytes, Any]]:
        return iter([(key, value) for key, (_, value) in self._kept.items()])

    def get(self, key: bytes | None) -> Any | None:
        """What a point stands for; None for one that is not there."""
        _, value = self._kept.get(key or b"", (None, None))
        return value

    def take(self, key: bytes | None) -> Any | None:
        """As `get`, for the last time."""
        _, value = self._kept.pop(key or b"", (None, None))
        return value


@dataclass(eq=False, slots=True)
class Session:
    id: Any
    token: bytes
    certificate: bytes
    application_uri: str
    name: str
    channel: Channel
    nonce: bytes
    timeout: float
    """Seconds."""
    touched: float
    """`Clock.monotonic` of the last request."""
    description: Any
    """ApplicationDescription of the client."""
    server_uri: str
    endpoint_url: str
    max_response: int
    """Bytes the client takes in one response; 0: any."""
    connected: int
    """ns UTC."""
    contacted: int
    """ns UTC, of the last request."""
    aliases: Aliases
    """Of registered nodes."""
    locales: tuple[str, ...] = ()
    """LocaleIds in the order the client prefers them."""
    counts: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Service name without `Request` -> requests, those that failed."""
    caller: Caller | None = None
    """None until activated."""
    closed: bool = False
    tasks: int = 0
    """Calls and history reads under way."""
    browse_points: Points = field(default_factory=Points)
    history_points: Points = field(default_factory=Points)
    publish: deque[Waiting] = field(default_factory=deque)
    subscriptions: dict[int, Any] = field(default_factory=dict)
    notices: deque[tuple[int, Any]] = field(default_factory=lambda: deque(maxlen=100))
    """Last messages of subscriptions it has no more, with their ids, until a Publish request takes them."""

    def count(self, service: str) -> None:
        """A request came."""
        for name in (service, "TotalRequest"):
            total, failed = self.counts.get(name, (0, 0))
            self.counts[name] = total + 1, failed

    def count_failure(self, service: str) -> None:
        """It was answered by a ServiceFault."""
        for name in (service, "TotalRequest"):
            total, failed = self.counts.get(name, (0, 0))
            self.counts[name] = total, failed + 1

    def expire(self, now: float) -> None:
        """Answer the waiting Publish requests whose TimeoutHint is over (7.33); `now`: `Clock.monotonic`."""
        for waiting in [w for w in self.publish if w.deadline is not None and now > w.deadline]:
            self.publish.remove(waiting)
            waiting.channel.fault(waiting.header, waiting.sequence, ua.StatusCodes.BadTimeout)

    def cancel(self, handle: int) -> int:
        """Cancel (5.7.5): waiting Publish requests of a handle; how many. What has begun is carried out."""
        cancelled = [w for w in self.publish if w.header.handle == handle]
        for waiting in cancelled:
            self.publish.remove(waiting)
            waiting.channel.fault(waiting.header, waiting.sequence, ua.StatusCodes.BadRequestCancelledByClient)
        return len(cancelled)

    @property
    def owner(self) -> tuple[str, str, SecurityMode]:
        """Whose its subscriptions are: a user's; without one, the client application's (5.14.7.1).

        What was queued for an encrypted channel does not leave by another.
        """
        return self.user.user, "" if self.user.user else self.application_uri, self.user.mode

    @property
    def user(self) -> Caller:
        if self.caller is None:
            raise Fault(ua.StatusCodes.BadSessionNotActivated)
        return self.caller


class Sessions:
    """All sessions of the server."""

    def __init__(
        self,
        *,
        trust: security.TrustStore,
        identities: Identities,
        application_uri: str,
        clock: Clock,
        limits: Limits,
        ended: Ended,
        on_activated: Callable[[Session], None],
        on_close: Callable[[Session, bool], None],
        token_policy: str,
        anonymous: bool,
    ) -> None:
        """`token_policy`: URI that protects user tokens on a channel without security."""
        self._token_policy = token_policy
        self._anonymous = anonymous
        self._trust = trust
        self._identities = identities
        self._application_uri = application_uri
        self._clock = clock
        self._limits = limits
        self._ended = ended
        self._on_activated = on_activated
        self._on_close = on_close
        self._by_token: dict[bytes, Session] = {}
        self.summary = ua.ServerDiagnosticsSummaryDataType()
        """What is counted of sessions and requests (Part 5 12.9)."""

    def __iter__(self) -> Iterator[Session]:
        return iter(list(self._by_token.values()))

    # -- finding one

    def find(self, header: RequestHeader, channel: Channel) -> Session:
        """The activated session of a request, which came over its own channel (Part 4 5.7.2.1)."""
        session = self._lookup(header)
        if session.channel is not channel:
            raise Fault(ua.StatusCodes.BadSecureChannelIdInvalid)
        if session.caller is None:
            self.close(session, True)
            raise Fault(ua.StatusCodes.BadSessionNotActivated)
        session.touched = self._clock.monotonic()
        session.contacted = self._clock.now()
        return session

    def named(self, header: RequestHeader) -> Session | None:
        """The session of a request's token, whoever sent it."""
        try:
            return self._lookup(header)
        except Fault:
            return None

    def _lookup(self, header: RequestHeader) -> Session:
        session = self._by_token.get(header.token)
        if session is None:
            raise Fault(ua.StatusCodes.BadSessionIdInvalid)
        return session

    def on_channel(self, channel: Channel) -> list[Session]:
        return [s for s in self._by_token.values() if s.channel is channel]

    # -- CreateSession

    def create(self, channel: Channel, parameters: Any, endpoints: list[Any]) -> Any:
        """CreateSession (5.7.2). The certificate in it has to be the one the channel was opened with."""
        application_uri = parameters.ClientDescription.ApplicationUri or ""
        self._check_application(channel, parameters, application_uri)
        _check_nonce(channel, parameters.ClientNonce or b"")
        if parameters.ServerUri and parameters.ServerUri != self._application_uri:
            raise Fault(ua.StatusCodes.BadServerUriInvalid)
        self._make_room(channel)
        low, high = self._limits.session_timeout
        requested = float(parameters.RequestedSessionTimeout or 0.0) / 1000
        session = Session(
            id=ua.NodeId(uuid.uuid4(), 1),
            token=secrets.token_bytes(32),
            certificate=channel.certificate,
            application_uri=application_uri,
            name=parameters.SessionName or f"Session {secrets.token_hex(4)}",
            channel=channel,
            nonce=secrets.token_bytes(NONCE_LENGTH),
            timeout=min(max(requested, low), high) if requested == requested else low,
            touched=self._clock.monotonic(),
            description=parameters.ClientDescription,
            server_uri=parameters.ServerUri or "",
            endpoint_url=parameters.EndpointUrl or "",
            max_response=parameters.MaxResponseMessageSize,
            connected=self._clock.now(),
            contacted=self._clock.now(),
            aliases=Aliases(self._limits.registered),
        )
        self._by_token[session.token] = session
        self.summary.CumulatedSessionCount += 1
        algorithm, signature = channel.sign(channel.certificate + (parameters.ClientNonce or b""))
        return ua.CreateSessionResult(
            SessionId=session.id,
            AuthenticationToken=ua.NodeId(session.token, 0, ua.NodeIdType.ByteString),
            RevisedSessionTimeout=session.timeout * 1000,
            ServerNonce=session.nonce,
            ServerCertificate=channel.identity.der,
            ServerEndpoints=endpoints,
            ServerSignature=ua.SignatureData(Algorithm=algorithm, Signature=signature),
            MaxRequestMessageSize=self._limits.message,
        )

    def _make_room(self, channel: Channel) -> None:
        """Room for one more; a session never activated or whose connection is gone gives way, longest silent first.

        So a client that crashes again and again does not lock everybody out for the length of its time-outs.
        """
        own = self.on_channel(channel)
        if len(own) >= self._limits.sessions_per_channel:
            candidates = [s for s in own if s.caller is None]
        elif len(self._by_token) >= self._limits.sessions:
            candidates = [s for s in self if s.caller is None] or [s for s in self if s.channel.closed]
        else:
            return
        if not candidates:
            raise Fault(ua.StatusCodes.BadTooManySessions)
        self.close(min(candidates, key=lambda s: s.touched), False)

    def _check_application(self, channel: Channel, parameters: Any, application_uri: str) -> None:
        if not channel.secured:  # no certificate to hold the client to (5.7.2.2)
            return
        try:
            if security.leaf(parameters.ClientCertificate or b"") != security.leaf(channel.certificate):
                raise CertificateRefused("CreateSession names another certificate than its channel")
            self._trust.check(channel.certificate)
        except CertificateRefused as error:
            raise Fault(error.status) from error
        uris = security.application_uris(security.leaf(channel.certificate))
        if application_uri not in uris:
            refused = CertificateRefused(f"the certificate has {uris}", CertificateRefused.URI_INVALID)
            raise Fault(ua.StatusCodes.BadCertificateUriInvalid) from refused

    # -- ActivateSession

    async def activate(self, channel: Channel, header: RequestHeader, parameters: Any) -> Any:
        """ActivateSession (5.7.3): first login, change of user, or move to another channel."""
        session = self._lookup(header)
        self._check_client(session, channel, parameters)
        nonce = session.nonce
        account = await self._identify(session, channel, parameters)
        if session.closed:
            raise Fault(ua.StatusCodes.BadSessionClosed)
        if session.nonce is not nonce:  # activated by another request meanwhile
            raise Fault(ua.StatusCodes.BadNonceInvalid)
        moved = session.channel is not channel
        if moved and (session.caller is None or session.caller.user != account.name):
            raise Fault(ua.StatusCodes.BadUserAccessDenied, "moved to another channel by another user")
        if moved:
            session.publish.clear()  # asked for over a channel that is no more
        session.channel = channel
        session.nonce = secrets.token_bytes(NONCE_LENGTH)
        session.touched = self._clock.monotonic()
        session.locales = tuple(parameters.LocaleIds or ()) or session.locales
        session.caller = Caller(
            user=account.name,
            roles=account.roles,
            service=account.service,
            session=session.id.Identifier.hex,
            channel=channel.id,
            mode=SecurityMode(int(channel.policy.Mode)),
            application_uri=session.application_uri,
            address=channel.address,
            activated=self._clock.now(),
            proof=PROOFS.get(type(parameters.UserIdentityToken), ""),
        )
        self._on_activated(session)
        return ua.ActivateSessionResult(ServerNonce=session.nonce)

    def _check_client(self, session: Session, channel: Channel, parameters: Any) -> None:
        if not secrets.compare_digest(channel.certificate, session.certificate):
            raise Fault(ua.StatusCodes.BadSecurityChecksFailed, "session of another client")
        if not channel.verify(channel.identity.der + session.nonce, parameters.ClientSignature.Signature):
            raise Fault(ua.StatusCodes.BadApplicationSignatureInvalid)

    async def _identify(self, session: Session, channel: Channel, parameters: Any) -> Account:
        token = parameters.UserIdentityToken
        where = {
            "application_uri": session.application_uri,
            "address": channel.address,
            "session": session.id.Identifier.hex,
        }
        try:
            _check_kind(token)
            if isinstance(token, ua.UserNameIdentityToken):
                password = self._password(session, channel, token)
                return await self._identities.by_password(token.UserName or "", password, **where)
            if isinstance(token, ua.X509IdentityToken):
                known = self._user_certificate(session, channel, token, parameters.UserTokenSignature)
                return await self._identities.by_certificate(known, **where)
            if self._anonymous and _is_anonymous(token):
                return Nobody()
        except EnoseError as error:
            wrong_password = isinstance(error, CredentialRejected) and isinstance(token, ua.UserNameIdentityToken)
            raise Fault(ua.StatusCodes.BadUserAccessDenied if wrong_password else error.status) from error
        raise Fault(ua.StatusCodes.BadIdentityTokenRejected)

    def _protection(self, channel: Channel) -> str:
        """URI of the policy that user tokens on this channel are encrypted or signed by."""
        return str(channel.policy.URI) if channel.secured else self._token_policy

    def _password(self, session: Session, channel: Channel, token: Any) -> str:
        """Length, password and our nonce, encrypted by the endpoint's OAEP (7.41.2.2); one error for all failures."""
        expected = OAEP_SHA256 if self._protection(channel).endswith("RsaPss") else OAEP_SHA1
        secret = token.Password or b""
        if token.EncryptionAlgorithm != expected or len(secret) > MAX_SECRET:
            raise Fault(ua.StatusCodes.BadIdentityTokenInvalid)
        try:
            digest = hashes.SHA256() if expected == OAEP_SHA256 else hashes.SHA1()  # noqa: S303 - as the policy says
            plain = _decrypt(channel.identity.key, secret, digest)
            length = int.from_bytes(plain[:4], "little")
            body, nonce = plain[4 : 4 + length - NONCE_LENGTH], plain[4 + length - NONCE_LENGTH : 4 + length]
            if length < NONCE_LENGTH or not secrets.compare_digest(nonce, session.nonce):
                raise Fault(ua.StatusCodes.BadIdentityTokenInvalid)
            return body.decode("utf-8")
        except ValueError as error:
            raise Fault(ua.StatusCodes.BadIdentityTokenInvalid) from error

    def _user_certificate(self, session: Session, channel: Channel, token: Any, signature: Any) -> str:
        """Thumbprint of a user's certificate whose key signed our certificate and nonce (7.41.2.3)."""
        expected = SIGN_PSS if self._protection(channel).endswith("RsaPss") else SIGN_SHA256
        if signature.Algorithm != expected:
            raise Fault(ua.StatusCodes.BadIdentityTokenInvalid)
        try:
            certificate = security.leaf(token.CertificateData or b"")
            security.check_user(certificate, datetime.fromtimestamp(self._clock.now() / 1e9, UTC))
            key = certificate.public_key()
        except (CertificateRefused, ValueError) as error:
            raise Fault(ua.StatusCodes.BadIdentityTokenInvalid) from error
        if not isinstance(key, rsa.RSAPublicKey):
            raise Fault(ua.StatusCodes.BadIdentityTokenInvalid)
        scheme = padding.PSS(padding.MGF1(hashes.SHA256()), 32) if expected == SIGN_PSS else padding.PKCS1v15()
        try:
            key.verify(signature.Signature or b"", channel.identity.der + session.nonce, scheme, hashes.SHA256())
        except InvalidSignature as error:
            raise Fault(ua.StatusCodes.BadUserSignatureInvalid) from error
        return certificate.fingerprint(hashes.SHA256()).hex()

    # -- the end

    def close_by_request(self, channel: Channel, header: RequestHeader, delete_subscriptions: bool) -> None:
        """CloseSession (5.7.4), allowed before activation too."""
        session = self._lookup(header)
        if session.channel is not channel:
            raise Fault(ua.StatusCodes.BadSecureChannelIdInvalid)
        self.close(session, delete_subscriptions, kind="session.close", entry=header.entry)

    def close(
        self,
        session: Session,
        delete_subscriptions: bool,
        code: int = ua.StatusCodes.BadSessionClosed,
        *,
        kind: str = "session.end",
        entry: str = "",
    ) -> None:
        """End a session; waiting Publish requests are answered with `code`. `kind` and `entry`: see `Ended`."""
        if session.closed:
            return
        session.closed = True
        del self._by_token[session.token]
        self._on_close(session, delete_subscriptions)
        while session.publish:
            waiting = session.publish.popleft()
            waiting.channel.fault(waiting.header, waiting.sequence, code)
        self._ended(session, kind, entry)

    def channel_closed(self, channel: Channel) -> None:
        """An activated session waits for its client to come back (6.7); the others end."""
        for session in self.on_channel(channel):
            session.publish.clear()
            if session.caller is None:
                self.close(session, True)

    def sweep(self) -> None:
        """Close what has been silent for too long. Subscriptions live on for TransferSubscriptions.

        What waits for longer than its client will is answered.
        """
        now = self._clock.monotonic()
        for session in self:
            patience = session.timeout if session.caller is not None else min(session.timeout, self._limits.inactive)
            session.expire(now)
            if now - session.touched > patience:
                self.summary.SessionTimeoutCount += 1
                self.close(session, False, ua.StatusCodes.BadSessionIdInvalid, kind="session.timeout")


def _check_nonce(channel: Channel, nonce: bytes) -> None:
    """32 to 128 random bytes, of this request alone (5.7.2.3). Raises Fault."""
    if channel.secured and not (NONCE_LENGTH <= len(nonce) <= MAX_NONCE and channel.fresh(nonce)):
        raise Fault(ua.StatusCodes.BadNonceInvalid)


def _check_kind(token: Any) -> None:
    """BadIdentityTokenInvalid for a token of no policy of ours, or of nobody (5.7.3.3)."""
    named = getattr(token, "PolicyId", None)
    known = {
        ua.AnonymousIdentityToken: named in (ANONYMOUS, None, ""),
        ua.UserNameIdentityToken: named == USERNAME and bool(getattr(token, "UserName", None)),
        ua.X509IdentityToken: named == CERTIFICATE,
    }
    if not known.get(type(token), _is_null(token)):
        raise Fault(ua.StatusCodes.BadIdentityTokenInvalid)


def _is_anonymous(token: Any) -> bool:
    """Also a null token (5.7.3.2)."""
    return isinstance(token, ua.AnonymousIdentityToken) or _is_null(token)


def _is_null(token: Any) -> bool:
    return token is None or (isinstance(token, ua.ExtensionObject) and token.TypeId.is_null())


def _decrypt(key: rsa.RSAPrivateKey, secret: bytes, digest: hashes.HashAlgorithm) -> bytes:
    """OAEP, block by block. Raises ValueError."""
    size = key.key_size // 8
    if not secret or len(secret) % size:
        raise ValueError("not a whole number of blocks")
    scheme = padding.OAEP(padding.MGF1(digest), digest, None)
    return b"".join(key.decrypt(secret[i : i + size], scheme) for i in range(0, len(secret), size))
