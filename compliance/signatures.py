"""Electronic signatures: a request freezes a record, a person signs it, one act uses the signature.

    request   record -> digest, manifest, meaning; open for `signature_expiry` seconds
    execute   who signs proves it; the record must still have the digest; the signature is bound to it for ever (11.70)
    spend     the act the signature is for (release, approval, ...) compares the digest again; no second act can use it

Every signing takes user id and secret (11.200(a)(1)). The secret may be left out by someone who gave both to this very
session within the last minute (information model 4, option B): the session was activated for signing.
"""

import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, tzinfo
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import Connection, Row, select

from compliance import records, texts
from compliance.audit import append
from compliance.rows import add, change, entry, fetch, find
from compliance.tables import signature, signature_request, signature_use
from compliance.users import ADMINISTRATORS, Account, Accounts, Attempt, fold
from nodesets.errors import AccessDenied, ChannelInsecure, CredentialRejected, InvalidArgument, InvalidState, NoMatch
from nodesets.model import Caller, Role, SecurityMode

FRESH: Final = 60_000_000_000
"""ns after ActivateSession within which its identity may sign without giving the secret again."""

_SECOND: Final = 1_000_000_000


class Meaning(StrEnum):
    """What a signature says (11.50(a)(3))."""

    REVIEW = "review"
    RELEASE = "release"
    APPROVAL = "approval"
    REJECTION = "rejection"
    QUARANTINE = "quarantine"


class State(StrEnum):
    """Of a request."""

    OPEN = "Open"
    SIGNED = "Signed"
    CANCELLED = "Cancelled"


class Method(StrEnum):
    """How the signer was known."""

    PASSWORD = "password"  # noqa: S105 - a word
    SESSION = "session"


SIGNERS: Mapping[tuple[str, Meaning], Role] = {
    ("batch", Meaning.REVIEW): Role.QA,
    ("batch", Meaning.RELEASE): Role.QA_RELEASE,
    ("batch", Meaning.REJECTION): Role.QA,
    ("batch", Meaning.QUARANTINE): Role.QA,
    ("exception", Meaning.APPROVAL): Role.QA,
    ("exception", Meaning.REJECTION): Role.QA,
    ("model", Meaning.APPROVAL): Role.QA,
    ("result", Meaning.REVIEW): Role.QA,
}
"""(record type, meaning) -> the role that may sign it; a pair that is not here cannot be signed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    request_id: str
    record_type: str
    record_id: str
    meaning: Meaning
    digest: str
    manifest: str
    """Lines the signer is shown."""
    expires: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    signature_id: str
    record_type: str
    record_id: str
    meaning: Meaning
    digest: str
    signer: str
    printed_name: str
    signed: int
    utc_offset: int
    """Minutes east of UTC at the site when it was signed."""
    method: Method
    comment: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    valid: bool
    """The signature is on a record of this digest, and the record has it still."""
    printed_name: str
    meaning: Meaning
    signed: int


def request(
    tx: Connection, caller: Caller, now: int, record_type: str, record_id: str, meaning: str, *, expiry: float
) -> Request:
    """Freeze a record for signing, open for `expiry` seconds.

    Raises NotFound for a record that is not there, InvalidArgument for a meaning records of its type cannot have.
    """
    if (record_type, meaning) not in SIGNERS:
        known = ", ".join(f"{kind} {meant}" for kind, meant in SIGNERS)
        raise InvalidArgument(f"Meaning: {record_type} {meaning} is none of {known}")
    record = records.read(tx, record_type, record_id)
    made = Request(
        request_id=new_id(),
        record_type=record_type,
        record_id=record_id,
        meaning=Meaning(meaning),
        digest=records.digest(record),
        manifest=records.manifest(record, meaning),
        expires=now + int(expiry * _SECOND),
    )
    add(
        tx,
        signature_request,
        request_id=made.request_id,
        record_type=record_type,
        record_id=record_id,
        meaning=made.meaning,
        digest=made.digest,
        manifest=made.manifest,
        requested_by=caller.user,
        requested=now,
        expires=made.expires,
        state=State.OPEN,
    )
    new = {"request": made.request_id, "meaning": meaning, "digest": made.digest}
    logged = entry(caller, now, "signature.request", f"{record_type}/{record_id}", new=new)
    append(tx, logged, [("signature_request", made.request_id)])
    return made


def cancel(tx: Connection, caller: Caller, now: int, request_id: str) -> None:
    """Withdraw an open request. Raises NotFound, InvalidState, AccessDenied for anyone but who made it."""
    row = _open(tx, now, request_id)
    if fold(row.requested_by) != fold(caller.user):
        raise AccessDenied(f"the request was made by {row.requested_by}")
    change(tx, signature_request, request_id, state=State.CANCELLED)
    logged = entry(
        caller, now, "signature.cancel", f"{row.record_type}/{row.record_id}", old=State.OPEN, new=State.CANCELLED
    )
    append(tx, logged, [("signature_request", request_id)])


async def execute(
    accounts: Accounts, caller: Caller, request_id: str, user_id: str, secret: str, comment: str, *, zone: tzinfo
) -> Signature:
    """Sign what was requested as `user_id`. `zone` is the site's, for the offset of the signed time.

    Raises ChannelInsecure; NotFound; InvalidState for a request that is expired, signed or cancelled; NoMatch when
    the record changed since the request (H41); CredentialRejected and LockedOut as `Accounts.prove`; AccessDenied for
    a signer without the role, an administrator, a service account or one whose password was given by another.
    """
    if caller.mode is not SecurityMode.SIGN_AND_ENCRYPT:
        raise ChannelInsecure("a secret travels only on a SignAndEncrypt channel")
    texts.text("Comment", comment)
    now = accounts.clock.now()
    await accounts.submit(lambda tx: _signable(tx, now, request_id))
    account, method = await _signer(accounts, caller, user_id, secret)

    def work(tx: Connection) -> Signature:
        now = accounts.clock.now()
        row = _signable(tx, now, request_id)
        _entitled(account, row.record_type, Meaning(row.meaning))
        return _sign(tx, caller, now, row, account, method, comment, zone)

    return await accounts.submit(work, alone=True)


def matching(tx: Connection, signature_id: str, record_type: str, record_id: str, meaning: Meaning) -> Signature:
    """A signature an act on this record can use.

    Raises NotFound for an unknown one, NoMatch for one on another record, of another meaning, used before, or on a
    record that changed since.
    """
    signed = get(tx, signature_id)
    if (signed.record_type, signed.record_id, signed.meaning) != (record_type, record_id, meaning):
        raise NoMatch(f"that signature is a {signed.meaning} of {signed.record_type} {signed.record_id}")
    if find(tx, signature_use, signature_id) is not None:
        raise NoMatch("that signature was used before")
    if not _unchanged(tx, signed):
        raise NoMatch(f"{record_type} {record_id} changed since it was signed")
    return signed


def spend(tx: Connection, caller: Caller, now: int, signed: Signature, act: str) -> tuple[str, str]:
    """Use a matching signature up; returns the row for the audit entry of the act."""
    add(tx, signature_use, signature_id=signed.signature_id, act=act, used_by=caller.user, used=now)
    return "signature_use", signed.signature_id


def unused(tx: Connection, record_type: str, record_id: str, meaning: Meaning) -> tuple[Signature, ...]:
    """Signatures of this meaning on the record that no act has used, oldest first."""
    query = (
        select(signature)
        .outerjoin(signature_use)
        .where(
            signature.c.record_type == record_type,
            signature.c.record_id == record_id,
            signature.c.meaning == meaning,
            signature_use.c.signature_id.is_(None),
        )
        .order_by(signature.c.signed)
    )
    return tuple(_signature(row) for row in tx.execute(query))


def get(tx: Connection, signature_id: str) -> Signature:
    """Raises NotFound."""
    return _signature(fetch(tx, signature, signature_id))


def verify(tx: Connection, signature_id: str, digest: str) -> Verification:
    """Whether the signature is on a record with this digest that has not changed since (R20, R21). Raises NotFound."""
    signed = get(tx, signature_id)
    same = hmac.compare_digest(signed.digest.encode(), digest.lower().encode("utf-8", "surrogatepass"))
    return Verification(
        valid=same and _unchanged(tx, signed),
        printed_name=signed.printed_name,
        meaning=signed.meaning,
        signed=signed.signed,
    )


def waiting(
    tx: Connection, now: int, record_type: str | None = None, record_id: str | None = None
) -> tuple[Request, ...]:
    """Open requests that have not expired, oldest first: all of them, or those on one record."""
    query = select(signature_request).where(signature_request.c.state == State.OPEN, signature_request.c.expires > now)
    if record_type is not None:
        query = query.where(signature_request.c.record_type == record_type, signature_request.c.record_id == record_id)
    return tuple(_request(row) for row in tx.execute(query.order_by(signature_request.c.requested)))


def newest(tx: Connection) -> Signature | None:
    """The signature made last."""
    row = tx.execute(select(signature).order_by(signature.c.signed.desc()).limit(1)).one_or_none()
    return None if row is None else _signature(row)


def new_id() -> str:
    """128 random bits as hex."""
    return secrets.token_hex(16)


async def _signer(accounts: Accounts, caller: Caller, user_id: str, secret: str) -> tuple[Account, Method]:
    if secret:
        attempt = Attempt(
            action="user.authenticate",
            application_uri=caller.application_uri,
            address=caller.address,
            session=caller.session,
        )
        return await accounts.prove(user_id, secret, attempt), Method.PASSWORD
    age = accounts.clock.now() - caller.activated
    if fold(user_id) != fold(caller.user) or caller.proof != "password" or not 0 <= age <= FRESH:
        raise CredentialRejected("the secret may be left out only by who gave it to this session within a minute")
    account = await accounts.get(caller.user)
    if account.disabled:
        raise CredentialRejected("account disabled")
    return account, Method.SESSION


def _entitled(account: Account, record_type: str, meaning: Meaning) -> None:
    role = SIGNERS[record_type, meaning]
    if account.must_change:
        raise AccessDenied(f"{account.name} must change the password before signing (R25)")
    if account.service or account.roles & ADMINISTRATORS:
        raise AccessDenied(f"{account.name} is a service or administrator account and never signs (R14)")
    if role not in account.roles:
        raise AccessDenied(f"{account.name} has not the role {role} that a {meaning} of a {record_type} takes")


def _open(tx: Connection, now: int, request_id: str) -> Row[Any]:
    row = fetch(tx, signature_request, request_id)
    if row.state != State.OPEN:
        raise InvalidState(f"the request is {row.state.lower()}")
    if now >= row.expires:
        raise InvalidState("the request has expired")
    return row


def _signable(tx: Connection, now: int, request_id: str) -> Row[Any]:
    row = _open(tx, now, request_id)
    if records.digest(records.read(tx, row.record_type, row.record_id)) != row.digest:
        raise NoMatch(f"{row.record_type} {row.record_id} changed since the signature was requested")
    return row


def _unchanged(tx: Connection, signed: Signature) -> bool:
    return records.digest(records.read(tx, signed.record_type, signed.record_id)) == signed.digest


def _sign(
    tx: Connection,
    caller: Caller,
    now: int,
    asked: Row[Any],
    account: Account,
    method: Method,
    comment: str,
    zone: tzinfo,
) -> Signature:
    signature_id = new_id()
    add(
        tx,
        signature,
        signature_id=signature_id,
        request_id=asked.request_id,
        record_type=asked.record_type,
        record_id=asked.record_id,
        meaning=asked.meaning,
        digest=asked.digest,
        signer=account.name,
        printed_name=account.printed_name,
        signed=now,
        utc_offset=_offset(now, zone),
        method=method,
        session=caller.session,
        application_uri=caller.application_uri,
        comment=comment,
    )
    change(tx, signature_request, asked.request_id, state=State.SIGNED)
    new = {
        "signature": signature_id,
        "signer": account.name,
        "printed_name": account.printed_name,
        "meaning": asked.meaning,
        "digest": asked.digest,
        "method": method,
    }
    logged = entry(caller, now, "signature.sign", f"{asked.record_type}/{asked.record_id}", reason=comment, new=new)
    append(tx, logged, [("signature", signature_id), ("signature_request", asked.request_id)])
    return get(tx, signature_id)


def _offset(now: int, zone: tzinfo) -> int:
    offset = datetime.fromtimestamp(now // _SECOND, zone).utcoffset()
    return int(offset.total_seconds() // 60) if offset is not None else 0


def _request(row: Row[Any]) -> Request:
    return Request(
        request_id=row.request_id,
        record_type=row.record_type,
        record_id=row.record_id,
        meaning=Meaning(row.meaning),
        digest=row.digest,
        manifest=row.manifest,
        expires=row.expires,
    )


def _signature(row: Row[Any]) -> Signature:
    return Signature(
        signature_id=row.signature_id,
        record_type=row.record_type,
        record_id=row.record_id,
        meaning=Meaning(row.meaning),
        digest=row.digest,
        signer=row.signer,
        printed_name=row.printed_name,
        signed=row.signed,
        utc_offset=row.utc_offset,
        method=Method(row.method),
        comment=row.comment,
    )
