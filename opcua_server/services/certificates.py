"""ServerConfiguration (Part 12 7.10): certificate, key and trust lists, changed by a SecurityAdmin over OPC UA.

Changes of one session are a transaction: nothing of them has effect before ApplyChanges, and then all of it has, on the
disk as in the running server. What a session leaves behind when it ends is dropped. A private key comes in, encrypted
by the channel, and goes to the disk; it never goes out.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Protocol

from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import struct_from_binary, struct_to_binary
from cryptography import x509

from compliance import policy
from nodesets.errors import CertificateRefused, ChannelInsecure, StorageError
from nodesets.model import Caller, SecurityMode
from nodesets.ports import Clock
from opcua_server import security
from opcua_server.security import TrustLists
from opcua_server.services.audit import Act
from opcua_server.services.limits import Limits
from opcua_server.services.methods import CHANGES_NOTHING, EVERY_CALL, Audited
from opcua_server.services.nodes import Access
from opcua_server.services.registration import CAPABILITIES
from opcua_server.services.server_object import PRODUCT_URI
from opcua_server.services.status import NULL, Fault, from_ns, status
from opcua_server.services.wire import Wire

IDS, T, CODES = ua.ObjectIds, ua.VariantType, ua.StatusCodes
ROOT = "ServerConfiguration"
GROUPS = f"{ROOT}_CertificateGroups"
GROUP = ua.NodeId(getattr(IDS, f"{GROUPS}_DefaultApplicationGroup"))
LIST = f"{GROUPS}_DefaultApplicationGroup_TrustList"
TRUST_LIST = ua.NodeId(getattr(IDS, LIST))
CONFIGURATION = ua.NodeId(IDS.ServerConfiguration)
CERTIFICATE_TYPE = ua.NodeId(IDS.RsaSha256ApplicationCertificateType)
DIAGNOSTICS = f"{ROOT}_TransactionDiagnostics"
NOT_OFFERED = (
    IDS.ServerConfiguration_ResetToServerDefaults,
    IDS.ServerConfiguration_CertificateGroups_DefaultHttpsGroup,
    IDS.ServerConfiguration_CertificateGroups_DefaultUserTokenGroup,
    IDS.ServerConfiguration_ConfigurationFile,
    IDS.KeyCredentialConfiguration,
    IDS.AuthorizationServices,
    IDS.UserManagement,
)
"""What else the standard has below ServerConfiguration."""

MAX_TRUST_LIST = 2**20
"""Bytes of all lists as one file: some five hundred certificates and their revocation lists."""
HANDLES, HANDLES_OF_SESSION = 16, 4
"""Open files: each holds a whole trust list."""
ACTIVITY_TIMEOUT = 60.0
"""Seconds after which a file nobody reads or writes is closed (7.8.2.1)."""
NONCE = 32
"""Bytes a client has to give for a new key, at least (7.10.10)."""
READ, WRITE_ERASING = 1, 6
"""The two modes a trust list is opened in (7.8.2.2)."""
MASKS = {"trusted": 1, "trusted_crls": 2, "issuers": 4, "issuer_crls": 8}
"""TrustListMasks (7.8.2.9) of the lists."""
FIELDS = {
    "trusted": "TrustedCertificates",
    "trusted_crls": "TrustedCrls",
    "issuers": "IssuerCertificates",
    "issuer_crls": "IssuerCrls",
}
"""Fields of TrustListDataType (7.8.2.8)."""
ALL = sum(MASKS.values())

Answer = Callable[..., Awaitable[Sequence[Any]]]
Link = Callable[..., None]
"""`UaServer.link_method`."""
Write = Callable[[Any, Any, int, int, int], None]
"""(node id, Variant, StatusCode, source time, server time)."""


class Changed(Protocol):
    """Told from within a call that the files are other ones."""

    def __call__(self, *, certificate: bool) -> None: ...


@dataclass(slots=True)
class File:
    """A trust list somebody has opened."""

    session: str
    data: bytearray
    writing: bool
    seen: object
    """State of the folders it was read from."""
    touched: float
    position: int = 0


@dataclass(slots=True)
class Transaction:
    """What a session wants changed."""

    session: str
    begun: int
    """ns UTC."""
    lists: TrustLists | None = None
    over: object = None
    """State of the folders that `lists` are to replace."""
    identity: security.Identity | None = field(default=None, repr=False)


def _allowed(caller: Caller) -> bool:
    return policy.allowed(caller, "Security.TrustCertificate")


def _may_read(caller: Caller) -> int:
    return int(Access.READ) if _allowed(caller) else 0


class Certificates:
    """The methods and variables of the object. One call at a time."""

    def __init__(
        self,
        trust: security.TrustStore,
        own: security.OwnCertificate,
        limits: Limits,
        clock: Clock,
        write: Write,
        tell: Callable[[Act], object],
        changed: Changed,
        alive: Callable[[str], bool],
    ) -> None:
        """`tell`: of what was changed, for auditors; `alive`: whether there still is such a session."""
        self._trust, self._own = trust, own
        self._clock, self._write, self._tell, self._changed, self._alive = clock, write, tell, changed, alive
        self._wire = Wire(replace(limits, string=MAX_TRUST_LIST))
        self._lock = asyncio.Lock()
        self._files: dict[int, File] = {}
        self._numbers = itertools.count(1)
        self._transaction: Transaction | None = None

    def link(
        self,
        link: Link,
        compute: Callable[[Any, Callable[[], None]], None],
        grant: Callable[[Any, Callable[[Caller], int]], None],
    ) -> None:
        """Answer the methods, show the properties, those of the trust list to SecurityAdmins alone (7.10.4)."""
        for name, (answer, audited) in self._methods().items():
            link(ua.NodeId(getattr(IDS, f"{ROOT}_{name}")), self._guarded(answer), _allowed, audited=audited)
        for name, value in self._constants().items():
            self._show(f"{ROOT}_{name}", value)
        self._show_code(f"{LIST}_Size", CODES.BadNotSupported)
        for name in ("StartTime", "EndTime", "Result", "AffectedTrustLists", "AffectedCertificateGroups", "Errors"):
            self._show_code(f"{DIAGNOSTICS}_{name}", CODES.BadOutOfService)
        self._show_open_count()
        compute(ua.NodeId(getattr(IDS, f"{LIST}_LastUpdateTime")), self._show_update_time)
        for name in ("Size", "Writable", "UserWritable", "OpenCount", "LastUpdateTime"):
            grant(ua.NodeId(getattr(IDS, f"{LIST}_{name}")), _may_read)

    def _methods(self) -> Mapping[str, tuple[Answer, Audited]]:
        file = LIST.removeprefix(f"{ROOT}_")
        certificate = Audited(ua.NodeId(IDS.CertificateUpdateRequestedAuditEventType))
        lists = Audited(ua.NodeId(IDS.TrustListUpdateRequestedAuditEventType))
        return {
            "UpdateCertificate": (self._update_certificate, certificate),
            "CreateSigningRequest": (self._create_signing_request, EVERY_CALL),
            "GetRejectedList": (self._get_rejected_list, CHANGES_NOTHING),
            "ApplyChanges": (self._apply_changes, EVERY_CALL),
            "CancelChanges": (self._cancel_changes, EVERY_CALL),
            f"{file}_Open": (self._open, EVERY_CALL),
            f"{file}_OpenWithMasks": (self._open_with_masks, EVERY_CALL),
            f"{file}_Close": (self._close, CHANGES_NOTHING),
            f"{file}_Read": (self._read, CHANGES_NOTHING),
            f"{file}_Write": (self._write_file, CHANGES_NOTHING),
            f"{file}_GetPosition": (self._get_position, CHANGES_NOTHING),
            f"{file}_SetPosition": (self._set_position, CHANGES_NOTHING),
            f"{file}_CloseAndUpdate": (self._close_and_update, lists),
            f"{file}_AddCertificate": (self._add_certificate, lists),
            f"{file}_RemoveCertificate": (self._remove_certificate, lists),
        }

    def _constants(self) -> Mapping[str, Any]:
        return {
            "ApplicationUri": ua.Variant(self._own.application_uri, T.String),
            "ProductUri": ua.Variant(PRODUCT_URI, T.String),
            "ApplicationType": ua.Variant(ua.ApplicationType.Server, T.Int32),
            "ServerCapabilities": ua.Variant(list(CAPABILITIES), T.String, is_array=True),
            "SupportedPrivateKeyFormats": ua.Variant(list(security.KEY_FORMATS), T.String, is_array=True),
            "MaxTrustListSize": ua.Variant(MAX_TRUST_LIST, T.UInt32),
            "MulticastDnsEnabled": ua.Variant(False, T.Boolean),
            "HasSecureElement": ua.Variant(False, T.Boolean),
            "CertificateGroups_DefaultApplicationGroup_CertificateTypes": ua.Variant(
                [CERTIFICATE_TYPE], T.NodeId, is_array=True
            ),
            "CertificateGroups_DefaultApplicationGroup_TrustList_Writable": ua.Variant(True, T.Boolean),
            "CertificateGroups_DefaultApplicationGroup_TrustList_UserWritable": ua.Variant(True, T.Boolean),
        }

    def _guarded(self, answer: Answer) -> Callable[[Caller, Any, tuple[Any, ...]], Awaitable[Sequence[Any]]]:
        async def handler(caller: Caller, _object: Any, arguments: tuple[Any, ...]) -> Sequence[Any]:
            if caller.mode != SecurityMode.SIGN_AND_ENCRYPT:
                raise ChannelInsecure("certificates are managed on an encrypted channel alone")
            async with self._lock:
                if not self._alive(caller.session):  # nobody would drop what it leaves behind
                    raise Fault(CODES.BadSessionClosed)
                try:
                    return await answer(caller, *arguments)
                except CertificateRefused as error:
                    raise Fault(error.failure, str(error)) from error

        return handler

    # -- life of what is open

    def sweep(self) -> None:
        """Close files that nobody has read or written for a while."""
        self._close_files(lambda f: self._clock.monotonic() - f.touched > ACTIVITY_TIMEOUT)

    def session_closed(self, session: str) -> None:
        """Drop what it has open and what it wanted changed."""
        self._close_files(lambda f: f.session == session)
        if self._transaction is not None and self._transaction.session == session:
            self._end(self._transaction, CODES.BadSessionClosed)

    def _close_files(self, which: Callable[[File], bool]) -> None:
        left = {number: f for number, f in self._files.items() if not which(f)}
        if len(left) != len(self._files):
            self._files = left
            self._show_open_count()

    # -- transactions (7.10.2)

    def _begin(self, caller: Caller) -> Transaction:
        """The session's transaction, a new one if there is none. Raises Fault when another session has one."""
        if self._transaction is None:
            self._transaction = Transaction(caller.session, self._clock.now())
            self._show_transaction(self._transaction, CODES.BadInvalidState)
        if self._transaction.session != caller.session:
            raise Fault(CODES.BadTransactionPending)
        return self._transaction

    def _of(self, caller: Caller) -> Transaction:
        if self._transaction is None:
            raise Fault(CODES.BadNothingToDo)
        if self._transaction.session != caller.session:
            raise Fault(CODES.BadSessionIdInvalid)
        return self._transaction

    def _end(self, transaction: Transaction, code: int, reason: str = "") -> None:
        if self._transaction is transaction:
            self._transaction = None
        self._show_transaction(transaction, code, reason, ended=True)

    async def _apply_changes(self, caller: Caller) -> Sequence[Any]:
        """7.10.9: everything, or nothing and BadTransactionFailed."""
        transaction = self._of(caller)
        if any(f.writing for f in self._files.values()):
            raise Fault(CODES.BadInvalidState)
        before = self._trust.contents()
        try:
            if transaction.lists is not None and transaction.over != self._trust.state():
                raise CertificateRefused("the trust list was changed by somebody else meanwhile")
            await asyncio.to_thread(self._carry_out, transaction.lists, transaction.identity)
        except (CertificateRefused, StorageError) as error:
            self._end(transaction, CODES.BadTransactionFailed, str(error))
            raise Fault(CODES.BadTransactionFailed, str(error)) from error
        self._end(transaction, CODES.Good)
        method = ua.NodeId(IDS.ServerConfiguration_ApplyChanges)
        if transaction.lists is not None:
            self._tell(_lists_updated(caller, CONFIGURATION, method, before, transaction.lists))
        if transaction.identity is not None:
            self._tell(_certificate_updated(caller, method, transaction.identity))
        if transaction.lists is not None or transaction.identity is not None:
            self._changed(certificate=transaction.identity is not None)
        return ()

    def _carry_out(self, lists: TrustLists | None, identity: security.Identity | None) -> None:
        """Raises CertificateRefused, StorageError."""
        files: dict[str, bytes] = {}
        gone: set[str] = set()
        if lists is not None:
            files, gone = self._trust.changes(lists)
        if identity is not None:
            self._trust.validate_own(identity.certificate, lists or self._trust.contents(), self._own.application_uri)
            files |= identity.files
            gone |= {security.REQUESTED_FILE}
        self._trust.carry_out(files, gone)

    async def _cancel_changes(self, caller: Caller) -> Sequence[Any]:
        """7.10.11. Files open for writing are closed: there is nothing left that they could become."""
        transaction = self._of(caller)
        self._close_files(lambda f: f.writing)
        self._end(transaction, CODES.BadRequestCancelledByClient)
        return ()

    # -- the certificate

    async def _update_certificate(
        self, caller: Caller, group: Any, kind: Any, encoded: bytes, _issuers: list[bytes], form: str, key: bytes
    ) -> Sequence[Any]:
        """7.10.5. Its issuers have to be in the trust list, so those that come along are not looked at."""
        _check_group(group, kind)
        certificate = security.leaf(encoded)
        try:
            given = security.private_key(form, key) if form or key else None
        except ValueError as error:
            raise Fault(CODES.BadNotSupported, "private key not readable") from error
        identity = self._own.with_key(certificate, given)
        if self._transaction is not None and self._transaction.session != caller.session:
            raise Fault(CODES.BadTransactionPending)
        pending = self._transaction.lists if self._transaction is not None else None
        self._trust.validate_own(certificate, pending or self._trust.contents(), self._own.application_uri)
        transaction = self._begin(caller)
        transaction.identity = identity
        self._show_transaction(transaction, CODES.BadInvalidState)
        return (True,)

    async def _create_signing_request(
        self, _caller: Caller, group: Any, kind: Any, name: str, fresh: bool, nonce: bytes
    ) -> Sequence[Any]:
        """7.10.10. The operating system has entropy enough; a client that gives too little is told so all the same."""
        _check_group(group, kind)
        if fresh and len(nonce) < NONCE:
            raise Fault(CODES.BadInvalidArgument, f"nonce of {len(nonce)} bytes")
        try:
            subject: x509.Name | None = security.subject(name) if name else None
        except ValueError as error:
            raise Fault(CODES.BadInvalidArgument, str(error)) from error
        return (await asyncio.to_thread(self._own.request, subject, fresh=fresh),)

    async def _get_rejected_list(self, _caller: Caller) -> Sequence[Any]:
        """7.10.12."""
        return (ua.Variant(self._trust.rejected(), T.ByteString, is_array=True),)

    # -- the trust list as a file (7.8.2, Part 20 4.2)

    async def _open(self, caller: Caller, mode: int) -> Sequence[Any]:
        if mode == READ:
            return await self._open_with_masks(caller, ALL)
        if mode != WRITE_ERASING:
            raise Fault(CODES.BadNotSupported)
        if self._transaction is not None and self._transaction.session != caller.session:
            raise Fault(CODES.BadTransactionPending)
        if self._files:
            raise Fault(CODES.BadNotWritable)
        self._begin(caller)
        return self._opened(caller, bytearray(), writing=True)

    async def _open_with_masks(self, caller: Caller, masks: int) -> Sequence[Any]:
        """For reading; of the lists not asked for there is nothing in it."""
        if masks & ~ALL:
            raise Fault(CODES.BadInvalidArgument)
        if any(f.writing for f in self._files.values()):
            raise Fault(CODES.BadNotReadable)
        return self._opened(caller, bytearray(_encode(self._trust.contents(), masks)), writing=False)

    def _opened(self, caller: Caller, data: bytearray, *, writing: bool) -> Sequence[Any]:
        of_session = sum(f.session == caller.session for f in self._files.values())
        if len(self._files) >= HANDLES or of_session >= HANDLES_OF_SESSION:
            raise Fault(CODES.BadResourceUnavailable, "too many open files")
        number = next(self._numbers)
        self._files[number] = File(caller.session, data, writing, self._trust.state(), self._clock.monotonic())
        self._show_open_count()
        return (number,)

    def _file(self, caller: Caller, number: int, *, writing: bool | None = None) -> File:
        """A file of the session; `writing`: for which it must be open. Raises Fault."""
        found = self._files.get(number)
        if found is None or found.session != caller.session:
            raise Fault(CODES.BadInvalidArgument)
        if writing is not None and found.writing != writing:
            raise Fault(CODES.BadInvalidState)
        found.touched = self._clock.monotonic()
        return found

    async def _close(self, caller: Caller, number: int) -> Sequence[Any]:
        closed = self._file(caller, number)
        self._close_files(lambda f: f is closed)
        return ()

    async def _read(self, caller: Caller, number: int, length: int) -> Sequence[Any]:
        file = self._file(caller, number, writing=False)
        if length <= 0:
            raise Fault(CODES.BadInvalidArgument)
        if file.seen != self._trust.state():
            raise Fault(CODES.BadInvalidState, "the trust list has changed since it was opened")
        data = bytes(file.data[file.position : file.position + length])
        file.position += len(data)
        return (data,)

    async def _write_file(self, caller: Caller, number: int, data: bytes) -> Sequence[Any]:
        file = self._file(caller, number, writing=True)
        end = file.position + len(data)
        if end > MAX_TRUST_LIST:
            raise Fault(CODES.BadRequestTooLarge)
        file.data[file.position : end] = data
        file.position = end
        return ()

    async def _get_position(self, caller: Caller, number: int) -> Sequence[Any]:
        return (self._file(caller, number).position,)

    async def _set_position(self, caller: Caller, number: int, position: int) -> Sequence[Any]:
        file = self._file(caller, number)
        file.position = min(position, len(file.data))
        return ()

    async def _close_and_update(self, caller: Caller, number: int) -> Sequence[Any]:
        """7.8.2.5. The file is closed, whatever becomes of what is in it."""
        file = self._file(caller, number, writing=True)
        self._close_files(lambda f: f is file)
        transaction = self._begin(caller)
        over = self._trust.state() if transaction.lists is None else transaction.over
        lists = self._decode(bytes(file.data), transaction.lists or self._trust.contents())
        _check_size(lists)
        await asyncio.to_thread(self._trust.validate, lists)
        if transaction is not self._transaction:
            raise Fault(CODES.BadSessionClosed)
        transaction.lists, transaction.over = lists, over
        self._show_transaction(transaction, CODES.BadInvalidState)
        return (True,)

    def _decode(self, data: bytes, present: TrustLists) -> TrustLists:
        """What a client has written, over what it says nothing of. Raises Fault."""
        self._wire.check(ua.TrustListDataType, data)
        given = struct_from_binary(ua.TrustListDataType, Buffer(data))
        if given.SpecifiedLists & ~ALL:
            raise Fault(CODES.BadInvalidArgument)
        new = {
            name: tuple(dict.fromkeys(getattr(given, FIELDS[name]) or ()))
            for name, mask in MASKS.items()
            if given.SpecifiedLists & mask
        }
        return replace(present, **new)

    async def _add_certificate(self, caller: Caller, encoded: bytes, trusted: bool) -> Sequence[Any]:
        """7.8.2.6: has effect at once."""
        self._check_free()
        if not trusted:
            raise CertificateRefused("an issuer does not come without its revocation list")
        lists = self._trust.with_added(security.leaf(encoded))
        await self._replace(caller, "AddCertificate", lists)
        return ()

    async def _remove_certificate(self, caller: Caller, sha1: str, trusted: bool) -> Sequence[Any]:
        """7.8.2.7: has effect at once."""
        self._check_free()
        try:
            lists = self._trust.without(sha1, trusted=trusted)
        except LookupError as error:
            raise Fault(CODES.BadInvalidArgument, str(error)) from error
        await self._replace(caller, "RemoveCertificate", lists)
        return ()

    def _check_free(self) -> None:
        """Raises Fault while the list is open or part of a transaction."""
        if any(f.writing for f in self._files.values()):
            raise Fault(CODES.BadInvalidState)
        if self._transaction is not None:
            raise Fault(CODES.BadTransactionPending)
        if self._files:
            raise Fault(CODES.BadNotWritable)

    async def _replace(self, caller: Caller, method: str, lists: TrustLists) -> None:
        _check_size(lists)
        before = self._trust.contents()
        await asyncio.to_thread(self._carry_out, lists, None)
        self._tell(_lists_updated(caller, TRUST_LIST, ua.NodeId(getattr(IDS, f"{LIST}_{method}")), before, lists))
        self._changed(certificate=False)

    # -- what is shown

    def _show(self, node: str, value: Any, code: int = 0) -> None:
        now = self._clock.now()
        self._write(ua.NodeId(getattr(IDS, node)), value, code, now, now)

    def _show_code(self, node: str, code: int) -> None:
        self._show(node, NULL, code)

    def _show_open_count(self) -> None:
        self._show(f"{LIST}_OpenCount", ua.Variant(len(self._files), T.UInt16))

    def _show_update_time(self) -> None:
        self._show(f"{LIST}_LastUpdateTime", ua.Variant(from_ns(self._trust.changed()), T.DateTime))

    def _show_transaction(self, t: Transaction, code: int, reason: str = "", *, ended: bool = False) -> None:
        """TransactionDiagnostics (7.10.17) of the last one; before its end it has no Result."""
        lists = [TRUST_LIST] if t.lists is not None else []
        groups = [GROUP] if t.identity is not None else []
        end = from_ns(self._clock.now()) if ended else datetime(1601, 1, 1, tzinfo=UTC)
        errors = [
            ua.TransactionErrorType(TargetId=target, Error=status(code), Message=ua.LocalizedText(reason))
            for target in (lists or groups)[: bool(reason)]
        ]
        self._show(f"{DIAGNOSTICS}_StartTime", ua.Variant(from_ns(t.begun), T.DateTime))
        self._show(f"{DIAGNOSTICS}_EndTime", ua.Variant(end, T.DateTime))
        self._show(f"{DIAGNOSTICS}_AffectedTrustLists", ua.Variant(lists, T.NodeId, is_array=True))
        self._show(f"{DIAGNOSTICS}_AffectedCertificateGroups", ua.Variant(groups, T.NodeId, is_array=True))
        self._show(f"{DIAGNOSTICS}_Errors", ua.Variant(errors, T.ExtensionObject, is_array=True))
        if ended:
            self._show(f"{DIAGNOSTICS}_Result", ua.Variant(status(code), T.StatusCode))
        else:
            self._show_code(f"{DIAGNOSTICS}_Result", CODES.BadInvalidState)


def _check_group(group: Any, kind: Any) -> None:
    """The one group and the one type of certificate there are; null means them (7.10.5)."""
    if not (group.is_null() or group == GROUP) or not (kind.is_null() or kind == CERTIFICATE_TYPE):
        raise Fault(CODES.BadInvalidArgument)


def _check_size(lists: TrustLists) -> None:
    if len(_encode(lists, ALL)) > MAX_TRUST_LIST:
        raise Fault(CODES.BadRequestTooLarge)


def _encode(lists: TrustLists, masks: int) -> bytes:
    """TrustListDataType, not wrapped in an ExtensionObject (7.8.2.1)."""
    chosen = {FIELDS[name]: list(getattr(lists, name)) for name, mask in MASKS.items() if masks & mask}
    return bytes(struct_to_binary(ua.TrustListDataType(SpecifiedLists=masks, **chosen)))


def _lists_updated(caller: Caller, source: Any, method: Any, before: TrustLists, after: TrustLists) -> Act:
    """TrustListUpdatedAuditEventType (7.8.2.13); the audit log has what came and what went."""
    old = {der for name in FIELDS for der in getattr(before, name)}
    new = {der for name in FIELDS for der in getattr(after, name)}
    return Act(
        kind="trust.update",
        caller=caller,
        source=source,
        record=TRUST_LIST.to_string(),
        fields=_of_method(method) | {"TrustListId": ua.Variant(TRUST_LIST, T.NodeId)},
        old={"removed": sorted(map(security.thumbprint, old - new))},
        new={"added": sorted(map(security.thumbprint, new - old))},
    )


def _certificate_updated(caller: Caller, method: Any, identity: security.Identity) -> Act:
    """CertificateUpdatedAuditEventType (7.10.27)."""
    fields = {
        "CertificateGroup": ua.Variant(GROUP, T.NodeId),
        "CertificateType": ua.Variant(CERTIFICATE_TYPE, T.NodeId),
    }
    return Act(
        kind="certificate.update",
        caller=caller,
        source=CONFIGURATION,
        record=f"certificate/{security.thumbprint(identity.der)}",
        fields=_of_method(method) | fields,
        new={"ends": identity.certificate.not_valid_after_utc.isoformat()},
    )


def _of_method(method: Any) -> dict[str, Any]:
    """What an AuditUpdateMethodEventType has beside: the call itself was told with its arguments."""
    return {
        "MethodId": ua.Variant(method, T.NodeId),
        "StatusCodeId": ua.Variant(status(0), T.StatusCode),
        "InputArguments": ua.Variant([], T.Variant, is_array=True),
        "OutputArguments": ua.Variant([], T.Variant, is_array=True),
    }
