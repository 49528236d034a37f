"""Identities: accounts, proof by password or certificate, lock-out.

An account is disabled, never deleted, and its name is never given again (R22). Two names are the same when `fold` makes
them so (R26). Someone who does not have the password learns nothing from a refused login: unknown, wrong, disabled and
locked have one answer, after the same work. The audit entry says which it was.
"""

import asyncio
import json
import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, TypeVar

from sqlalchemy import Connection, Row, select

from compliance import passwords, texts
from compliance.audit import Entry, append
from compliance.lockout import Locked, Seldom, Sources, locked_until
from compliance.rows import add, change, entry, fetch, find
from compliance.tables import user_account
from config.schema import Security
from historian.writer import Writer
from nodesets.errors import CredentialRejected, EntryExists, InvalidArgument, InvalidState, LockedOut
from nodesets.model import Caller, Role
from nodesets.ports import Clock

T = TypeVar("T")

# ASCII after folding: a Cyrillic look-alike of a Latin name cannot be made (R26).
_NAME = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}")
_RESERVED = frozenset({"enose", "anonymous", "unknown"})
_MINUTE = 60 * 1_000_000_000

ADMINISTRATORS = frozenset({Role.CONFIGURE_ADMIN, Role.SECURITY_ADMIN})
"""Never sign GMP records (R14)."""
SERVICE_ROLES = frozenset({Role.OBSERVER, Role.OPERATOR, Role.MES, Role.ADVISOR})
"""What a service account may hold."""
_SERVICE_ONLY = frozenset({Role.MES, Role.ADVISOR})


class Outcome(StrEnum):
    """Of one attempt to prove an identity; the text stands in the audit entry."""

    ACCEPTED = "accepted"
    UNKNOWN = "no such account"
    DISABLED = "account disabled"
    LOCKED = "account locked"
    SOURCE_LOCKED = "application or address locked"
    WRONG = "wrong password"


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    name: str
    printed_name: str
    """How the person's name is written in a signature (11.50)."""
    roles: frozenset[Role]
    """None while the password must be changed: then only `change_password` is open."""
    service: bool
    must_change: bool
    disabled: bool
    created: int
    locked_until: int
    """ns UTC; in the past or 0 when not locked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What an identity is proved for and from where: for the audit entry."""

    action: str
    application_uri: str = ""
    address: str = ""
    session: str = ""

    @property
    def sources(self) -> tuple[str, ...]:
        """What is locked when too many attempts from it fail."""
        named = (("application", self.application_uri), ("address", self.address))
        return tuple(f"{kind}/{value}" for kind, value in named if value)


def fold(name: str) -> str:
    """What makes names equal: compatibility forms and case do not count (Unicode NFKC, case folding)."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def person(actor: str) -> str:
    """Whom an actor of a record is: `os:anna`, at the machine itself, counts as the same person as the user `Anna`."""
    return fold(actor.removeprefix("os:"))


class Accounts:
    """All accounts. `start` before use, `close` at the end."""

    def __init__(self, writer: Writer, security: Security, clock: Clock) -> None:
        self.writer = writer
        self.clock = clock
        self._security = security
        self._thumbprints = {t.lower(): name for t, name in security.certificate_users.items()}
        self._hasher = passwords.Hasher()
        self._dummy: asyncio.Future[str]
        """Hash that an unknown user's password is compared with, so that it takes as long as a known one's."""
        self._effort = 0.0
        """Seconds that takes."""
        self.version = 0
        """Counts the changes of who holds which role."""
        self._sources = Sources(security.login_failures, security.lockout)
        self._refused = Seldom(_MINUTE)
        """Attempts at locked accounts."""
        self.on_locked: Callable[[Locked, Attempt], None] = lambda _locked, _attempt: None
        """Told of every lock, in the event loop: someone has to know at once (R29)."""

    async def start(self) -> None:
        """Start the helper process, without waiting for it: the first login does."""
        self._dummy = asyncio.create_task(self._prepare())

    async def _prepare(self) -> str:
        dummy = await self._hasher.hash(passwords.generate())
        started = self.clock.monotonic()
        await self._hasher.verify(dummy, "")
        self._effort = self.clock.monotonic() - started
        return dummy

    def close(self) -> None:
        self._dummy.cancel()
        self._hasher.close()

    async def by_password(
        self, name: str, password: str, *, application_uri: str, address: str, session: str = ""
    ) -> Account:
        """Who logs in with a password. Raises CredentialRejected, with one text whatever was wrong."""
        attempt = Attempt(action="user.login", application_uri=application_uri, address=address, session=session)
        try:
            return await self.prove(name, password, attempt)
        except LockedOut:
            raise CredentialRejected(_REJECTED) from None

    async def by_certificate(
        self, thumbprint: str, *, application_uri: str, address: str, session: str = ""
    ) -> Account:
        """Who logs in with a trusted certificate of this SHA-256 thumbprint (hex). Raises CredentialRejected."""
        folded = _known(self._thumbprints.get(thumbprint.lower(), ""))
        attempt = Attempt(action="user.login", application_uri=application_uri, address=address, session=session)
        now = self.clock.now()

        def settle(tx: Connection) -> tuple[Outcome, Row[Any] | None]:
            row = find(tx, user_account, folded)
            outcome = Outcome.UNKNOWN if row is None else Outcome.DISABLED if row.disabled else Outcome.ACCEPTED
            append(tx, _tried(attempt, now, row, outcome, "certificate"))
            return outcome, row

        return _accepted(*await self.submit(settle))

    async def prove(self, name: str, password: str, attempt: Attempt) -> Account:
        """Whose name and password these are.

        Raises LockedOut while the account is locked, CredentialRejected for everything else that is wrong. Every
        attempt is an audit entry; a wrong password counts, and `login_failures` of them lock the account for
        `lockout` seconds, every further one for twice as long. So do failures for as many accounts, or for names that
        are none, lock the application and the address they come from. Attempts at what is locked, or from it, are
        entries once a minute.
        """
        folded = _known(name)
        if self._sources.locked(attempt.sources, self.clock.now()):
            await self._refuse_source(attempt)
        row = await self.submit(lambda tx: find(tx, user_account, folded))
        hashed = row.password_hash if row is not None else await self._dummy
        right = len(password) <= passwords.LONGEST and await self._hasher.verify(hashed, password)
        proved = hashed if right else ""
        outcome, row, locked = await self.submit(lambda tx: self._settle(tx, folded, proved, attempt))
        for lock in locked:
            self.on_locked(lock, attempt)
        return _accepted(outcome, row)

    async def _refuse_source(self, attempt: Attempt) -> None:
        """No work for a locked source, and no shorter time either. Raises LockedOut."""
        now = self.clock.now()
        untold = self._sources.refused(attempt.sources, now, _MINUTE)
        if untold is not None:
            entry = replace(_tried(attempt, now, None, Outcome.SOURCE_LOCKED, "password"), old={"untold": untold})
            await self.submit(lambda tx: append(tx, entry))
        await self._dummy
        await asyncio.sleep(self._effort)
        raise LockedOut("application or address locked after failed logins")

    async def add(
        self,
        caller: Caller,
        name: str,
        roles: Iterable[Role],
        password: str,
        *,
        printed_name: str,
        service: bool = False,
        must_change: bool = True,
    ) -> Account:
        """A new account. Whoever chose the password knows it, so a person changes it before anything else (R25).

        Raises InvalidArgument for a name, password or set of roles that cannot be, EntryExists for a name that was
        ever given before.
        """
        folded = _checked_name(name)
        held = _checked_roles(frozenset(roles), service)
        texts.reason("PrintedName", printed_name)
        _check_password(name, password)
        hashed = await self._hasher.hash(password)
        now = self.clock.now()

        def work(tx: Connection) -> Account:
            if find(tx, user_account, folded) is not None:
                raise EntryExists(f"the name {name!r} was given before; names are never given again")
            add(
                tx,
                user_account,
                folded=folded,
                name=name,
                printed_name=printed_name,
                roles=json.dumps(sorted(held)),
                service=int(service),
                password_hash=hashed,
                must_change=int(must_change and not service),
                created=now,
                password_changed=now,
            )
            return _logged(tx, caller, now, "user.add", folded)

        return await self._changed(work)

    async def disable(self, caller: Caller, name: str, reason: str) -> Account:
        """Close an account for good. Raises NotFound, InvalidState when it is disabled already."""
        texts.reason("Reason", reason)
        folded, now = _known(name), self.clock.now()

        def work(tx: Connection) -> Account:
            if fetch(tx, user_account, folded).disabled:
                raise InvalidState(f"{name} is disabled already")
            change(tx, user_account, folded, disabled=1)
            return _logged(tx, caller, now, "user.disable", folded, reason=reason, old={"disabled": False})

        return await self._changed(work)

    async def reset(self, caller: Caller, name: str, password: str, reason: str) -> Account:
        """Give a password that a person must change at once, and unlock. Raises NotFound, InvalidState if disabled."""
        texts.reason("Reason", reason)
        _check_password(name, password)
        folded, now = _known(name), self.clock.now()
        hashed = await self._hasher.hash(password)

        def work(tx: Connection) -> Account:
            row = fetch(tx, user_account, folded)
            if row.disabled:
                raise InvalidState(f"{name} is disabled")
            must_change = 0 if row.service else 1
            _set_password(tx, folded, hashed, now, must_change)
            return _logged(tx, caller, now, "user.reset", folded, reason=reason)

        return await self.submit(work)

    async def change_password(self, caller: Caller, old: str, new: str) -> None:
        """The caller's own password. Raises as `prove` does for the old one, InvalidArgument for the new one."""
        attempt = Attempt(
            action="user.authenticate",
            application_uri=caller.application_uri,
            address=caller.address,
            session=caller.session,
        )
        await self.prove(caller.user, old, attempt)
        if new == old:
            raise InvalidArgument("the new password is the old one")
        _check_password(caller.user, new)
        hashed = await self._hasher.hash(new)
        folded, now = fold(caller.user), self.clock.now()

        def work(tx: Connection) -> None:
            _set_password(tx, folded, hashed, now, must_change=0)
            _logged(tx, caller, now, "user.change_password", folded)

        await self.submit(work)

    async def get(self, name: str) -> Account:
        """The account as it can be used now. Raises NotFound."""
        folded = _known(name)
        return await self.submit(lambda tx: _usable(_account(fetch(tx, user_account, folded))))

    async def listing(self) -> tuple[Account, ...]:
        """All accounts, disabled ones too, by name, with the roles they were given."""
        query = select(user_account).order_by(user_account.c.folded)
        return await self.submit(lambda tx: tuple(_account(row) for row in tx.execute(query)))

    async def _changed(self, work: Callable[[Connection], T]) -> T:
        done = await self.submit(work)
        self.version += 1
        return done

    async def submit(self, work: Callable[[Connection], T], *, alone: bool = False) -> T:
        """The writer's answer, awaited; `alone` in a transaction of its own."""
        return await asyncio.wrap_future(self.writer.submit(work, alone=alone))

    def _settle(
        self, tx: Connection, folded: str, proved: str, attempt: Attempt
    ) -> tuple[Outcome, Row[Any] | None, list[Locked]]:
        """Count and log an attempt. `proved` is the hash the password fitted; empty when it fitted none."""
        now = self.clock.now()
        row = find(tx, user_account, folded)
        outcome = _judge(row, proved, now)
        locked: list[Locked] = []
        if row is not None and outcome is Outcome.WRONG:
            failures = row.failures + 1
            until = locked_until(failures, self._security.login_failures, self._security.lockout, now)
            change(tx, user_account, folded, failures=failures, locked_until=until)
            locked += [Locked(f"user_account/{folded}", failures, until)] if until else []
        elif row is not None and outcome is Outcome.ACCEPTED and row.failures:
            change(tx, user_account, folded, failures=0, locked_until=0)
        self._log(tx, folded, _tried(attempt, now, row, outcome, "password"), outcome)
        if outcome is Outcome.ACCEPTED:
            self._sources.succeeded(attempt.sources)
        elif outcome in (Outcome.WRONG, Outcome.UNKNOWN):
            locked += self._sources.failed(attempt.sources, folded if row else "", now)
        for lock in locked:
            append(tx, _lock_entry(attempt, now, lock))
        return outcome, row, locked

    def _log(self, tx: Connection, folded: str, tried: Entry, outcome: Outcome) -> None:
        if outcome is Outcome.LOCKED:
            untold = self._refused.untold(folded, tried.time)
            if untold is None:
                return
            tried = replace(tried, old={"untold": untold})
        append(tx, tried, [] if outcome is Outcome.UNKNOWN else [("user_account", folded)])


_REJECTED = "user name or password is wrong"


def _judge(row: Row[Any] | None, proved: str, now: int) -> Outcome:
    if row is None:
        return Outcome.UNKNOWN
    if row.disabled:
        return Outcome.DISABLED
    if now < row.locked_until:
        return Outcome.LOCKED  # also with the right password: guesses verified side by side must not slip through
    return Outcome.ACCEPTED if proved == row.password_hash else Outcome.WRONG


def _accepted(outcome: Outcome, row: Row[Any] | None) -> Account:
    if outcome is Outcome.LOCKED:
        raise LockedOut("account locked after wrong passwords")
    if outcome is not Outcome.ACCEPTED or row is None:
        raise CredentialRejected(_REJECTED)
    return _usable(_account(row))


def _tried(attempt: Attempt, now: int, row: Row[Any] | None, outcome: Outcome, proof: str) -> Entry:
    """An unknown name is not kept: people type their password into the wrong field."""
    return Entry(
        time=now,
        action=attempt.action,
        actor=row.name if row else "unknown",
        object=f"user_account/{row.folded}" if row else "user_account",
        outcome="Good" if outcome is Outcome.ACCEPTED else "BadIdentityTokenRejected",
        reason=str(outcome),
        new={"proof": proof},
        session=attempt.session,
        application_uri=attempt.application_uri,
        address=attempt.address,
    )


def _lock_entry(attempt: Attempt, now: int, lock: Locked) -> Entry:
    return Entry(
        time=now,
        action="user.lockout",
        actor="enose",
        object=lock.record,
        new={"failures": lock.failures, "until": lock.until},
        session=attempt.session,
        application_uri=attempt.application_uri,
        address=attempt.address,
    )


def _logged(tx: Connection, caller: Caller, now: int, action: str, folded: str, **details: Any) -> Account:
    """Audit a change of an account: as it is now, never the password or its hash."""
    account = _account(fetch(tx, user_account, folded))
    new = {
        "name": account.name,
        "printed_name": account.printed_name,
        "roles": sorted(account.roles),
        "service": account.service,
        "must_change": account.must_change,
        "disabled": account.disabled,
    }
    append(tx, entry(caller, now, action, f"user_account/{folded}", new=new, **details), [("user_account", folded)])
    return account


def _set_password(tx: Connection, folded: str, hashed: str, now: int, must_change: int) -> None:
    change(
        tx,
        user_account,
        folded,
        password_hash=hashed,
        password_changed=now,
        must_change=must_change,
        failures=0,
        locked_until=0,
    )


def _account(row: Row[Any]) -> Account:
    return Account(
        name=row.name,
        printed_name=row.printed_name,
        roles=frozenset(Role(r) for r in json.loads(row.roles)),
        service=bool(row.service),
        must_change=bool(row.must_change),
        disabled=bool(row.disabled),
        created=row.created,
        locked_until=row.locked_until,
    )


def _usable(account: Account) -> Account:
    return replace(account, roles=frozenset()) if account.must_change else account


def _known(name: str) -> str:
    """The folded name if it can be one of ours, else empty: no odd text reaches the database or the log."""
    folded = fold(name) if len(name) <= 64 else ""
    return folded if _NAME.fullmatch(folded) else ""


def _checked_name(name: str) -> str:
    folded = _known(name)
    if not folded or folded in _RESERVED:
        raise InvalidArgument("Name: 1 to 64 Latin letters, digits or '.', '_', '@', '-', and no name of the service")
    return folded


def _checked_roles(roles: frozenset[Role], service: bool) -> frozenset[Role]:
    if not roles or Role.ANONYMOUS in roles:
        raise InvalidArgument("Roles: at least one, and not Anonymous")
    if service and not roles <= SERVICE_ROLES:
        raise InvalidArgument(f"Roles: a service account holds only {', '.join(sorted(SERVICE_ROLES))}")
    if not service and roles & _SERVICE_ONLY:
        raise InvalidArgument(f"Roles: {', '.join(sorted(_SERVICE_ONLY))} are for service accounts")
    if roles & ADMINISTRATORS and roles & {Role.QA, Role.QA_RELEASE}:
        raise InvalidArgument("Roles: who administers does not decide on quality (R14)")
    return roles


def _check_password(name: str, password: str) -> None:
    if not passwords.SHORTEST <= len(password) <= passwords.LONGEST:
        raise InvalidArgument(f"Password: {passwords.SHORTEST} to {passwords.LONGEST} characters")
    if fold(password) == fold(name):
        raise InvalidArgument("Password: not the user name")
