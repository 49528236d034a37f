import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import Connection, Engine, select

from compliance.tables import user_account
from compliance.users import Account, Accounts, fold, person
from historian import schema
from historian.schema import audit_entry
from nodesets.errors import CredentialRejected, EntryExists, InvalidArgument, InvalidState, LockedOut, NotFound
from nodesets.model import Caller, Role
from tests.unit.compliance.shift import NOW, Clock

PASSWORD = "correct horse battery"
ADMIN = Caller(user="sec1", roles=frozenset({Role.SECURITY_ADMIN}))
FROM = {"application_uri": "urn:plant:scada", "address": "10.0.0.7"}


async def op1(accounts: Accounts, **changes: object) -> Account:
    values = {"roles": {Role.OPERATOR}, "password": PASSWORD, "printed_name": "Anna Berg", "must_change": False}
    return await accounts.add(ADMIN, "Op1", **(values | changes))  # type: ignore[arg-type]


async def login(accounts: Accounts, name: str = "Op1", password: str = PASSWORD) -> Account:
    return await accounts.by_password(name, password, **FROM)


async def wrong(accounts: Accounts, times: int) -> None:
    for _ in range(times):
        with pytest.raises(CredentialRejected):
            await login(accounts, password="wrong password")


@contextmanager
def elsewhere(engine: Engine) -> Iterator[Connection]:
    """A look beside the writer, which keeps the one connection its engine has."""
    other = schema.reading(engine.url.render_as_string(hide_password=False))
    with other.begin() as tx:
        yield tx
    other.dispose()


def logins(engine: Engine) -> list[bytes]:
    with elsewhere(engine) as tx:
        query = select(audit_entry.c.body).where(audit_entry.c.action == "user.login").order_by(audit_entry.c.seq)
        return list(tx.execute(query).scalars())


async def test_a_user_logs_in_by_name_and_password(accounts: Accounts) -> None:
    added = await op1(accounts)
    account = await login(accounts, "oP1")
    assert account == added
    assert (account.name, account.printed_name, account.roles) == ("Op1", "Anna Berg", {Role.OPERATOR})


async def test_a_refusal_does_not_say_what_was_wrong(accounts: Accounts, engine: Engine) -> None:
    # Unknown, wrong, disabled and locked look alike to a stranger; the log tells them apart.
    await op1(accounts)
    await accounts.add(ADMIN, "gone", {Role.OBSERVER}, PASSWORD, printed_name="Gone", must_change=False)
    await accounts.disable(ADMIN, "gone", "left")
    refusals = []
    tried = [("nobody", PASSWORD), ("op1", "wrong password"), ("gone", PASSWORD), ("\ud800", "x" * 2000)]
    for i, (name, password) in enumerate(tried):
        with pytest.raises(CredentialRejected) as refused:
            await accounts.by_password(name, password, application_uri=f"urn:{i}", address=f"10.0.0.{i}")
        refusals.append(str(refused.value))
    await wrong(accounts, 2)
    with pytest.raises(CredentialRejected) as refused:
        await login(accounts)
    assert set(refusals) == {str(refused.value)}
    reasons = [b"no such account", b"wrong password", b"account disabled", b"no such account"]
    reasons += [b"wrong password", b"wrong password", b"account locked"]
    assert [next(r for r in set(reasons) if r in body) for body in logins(engine)] == reasons


async def test_an_unknown_user_costs_the_same_work(accounts: Accounts, monkeypatch: pytest.MonkeyPatch) -> None:
    # Else the time of the answer says which names exist.
    await op1(accounts)
    verified = []
    verify_password = accounts._hasher.verify

    async def counted(hashed: str, password: str) -> bool:
        verified.append(hashed.rsplit("$", 2)[0])
        return await verify_password(hashed, password)

    monkeypatch.setattr(accounts._hasher, "verify", counted)
    for name in ("op1", "nobody"):
        with pytest.raises(CredentialRejected):
            await login(accounts, name, "wrong password")
    known, unknown = verified
    assert known == unknown  # algorithm, version and cost parameters


async def test_every_login_is_logged_with_where_it_came_from_and_no_secret(accounts: Accounts, engine: Engine) -> None:
    # R25, R29. A name nobody has may be a password typed into the wrong field.
    await op1(accounts)
    await login(accounts)
    await wrong(accounts, 1)
    with pytest.raises(CredentialRejected):
        await login(accounts, "s3cret-in-the-wrong-field", "x")
    bodies = logins(engine)
    assert len(bodies) == 3
    assert all(b"urn:plant:scada" in body and b"10.0.0.7" in body for body in bodies)
    with elsewhere(engine) as tx:
        everything = b"".join(tx.execute(select(audit_entry.c.body)).scalars())
    for secret in (b"correct horse", b'wrong password"', b"s3cret", b"argon2id"):
        assert secret not in everything.replace(b'"reason":"wrong password"', b"")


class TestLockOut:
    async def test_wrong_passwords_lock_the_account_for_a_while(self, accounts: Accounts, clock: Clock) -> None:
        await op1(accounts)
        await wrong(accounts, 3)
        with pytest.raises(CredentialRejected):
            await login(accounts)
        clock.step(60)
        await login(accounts)

    async def test_each_further_failure_doubles_the_time(self, accounts: Accounts, clock: Clock) -> None:
        await op1(accounts)
        await wrong(accounts, 3)
        clock.step(60)
        await wrong(accounts, 1)
        clock.step(119)
        with pytest.raises(CredentialRejected):
            await login(accounts)
        clock.step(1)
        await login(accounts)
        await wrong(accounts, 2)  # the count began anew
        await login(accounts)

    async def test_trying_a_locked_account_does_not_keep_it_locked(self, accounts: Accounts, clock: Clock) -> None:
        # Otherwise anyone could shut anyone out for good.
        await op1(accounts)
        await wrong(accounts, 10)
        clock.step(60)
        await login(accounts)

    async def test_guesses_side_by_side_count_one_by_one(self, accounts: Accounts) -> None:
        # The right password among many sent at once must not slip in after the third wrong one.
        await op1(accounts)
        guesses = [login(accounts, password="wrong password") for _ in range(3)] + [login(accounts)]
        answers = await asyncio.gather(*guesses, return_exceptions=True)
        assert [type(a) for a in answers] == [CredentialRejected] * 4

    async def test_a_source_that_fails_for_many_names_is_locked(self, accounts: Accounts, clock: Clock) -> None:
        # Spraying: one password for many names never meets an account's own count. Known and unknown names count.
        await op1(accounts)
        for name in ("root", "admin", "Op1"):
            with pytest.raises(CredentialRejected):
                await login(accounts, name, "Summer2026!")
        with pytest.raises(CredentialRejected):
            await login(accounts)
        elsewhere = {"application_uri": "urn:plant:hmi", "address": "10.0.0.8"}
        assert (await accounts.by_password("Op1", PASSWORD, **elsewhere)).name == "Op1"
        for same in ({"application_uri": FROM["application_uri"]}, {"address": FROM["address"]}):
            with pytest.raises(CredentialRejected):
                await accounts.by_password("Op1", PASSWORD, **(elsewhere | same))
        clock.step(60)
        await login(accounts)

    async def test_ones_own_mistakes_lock_nobody_else_out(self, accounts: Accounts) -> None:
        # A control room shares one SCADA gateway: its application and address must not end with one forgotten password.
        await op1(accounts)
        await accounts.add(ADMIN, "Op2", {Role.OPERATOR}, PASSWORD, printed_name="Bo", must_change=False)
        await wrong(accounts, 10)
        assert (await login(accounts, "Op2")).name == "Op2"

    async def test_a_locked_source_costs_no_work_and_no_entry_for_each_attempt(
        self, accounts: Accounts, engine: Engine
    ) -> None:
        # H20: ten thousand guesses are one line a minute, and the helper process is free for those who may.
        for name in ("a1", "a2", "a3"):
            with pytest.raises(CredentialRejected):
                await login(accounts, name, "guess")
        before = len(logins(engine))
        refusals = await asyncio.gather(*(login(accounts) for _ in range(500)), return_exceptions=True)
        assert {type(r) for r in refusals} == {CredentialRejected}
        assert {str(r) for r in refusals} == {"user name or password is wrong"}
        assert len(logins(engine)) == before + 1

    async def test_every_lock_is_told_at_once_and_logged(self, accounts: Accounts, engine: Engine) -> None:
        # R29: attempted misuse is reported in an immediate and urgent manner (21 CFR 11.300(d)).
        told = []
        accounts.on_locked = lambda lock, attempt: told.append((lock.record, lock.failures, attempt.address))
        await op1(accounts)
        await wrong(accounts, 3)
        assert told == [("user_account/op1", 3, "10.0.0.7")]
        for name in ("a1", "a2"):
            with pytest.raises(CredentialRejected):
                await login(accounts, name, "guess")
        assert [record for record, *_ in told[1:]] == ["application/urn:plant:scada", "address/10.0.0.7"]
        with elsewhere(engine) as tx:
            query = select(audit_entry.c.object).where(audit_entry.c.action == "user.lockout")
            assert list(tx.execute(query).scalars()) == [record for record, *_ in told]

    async def test_it_survives_a_restart(self, accounts: Accounts, engine: Engine) -> None:
        await op1(accounts)
        await wrong(accounts, 3)
        with elsewhere(engine) as tx:
            assert tx.execute(select(user_account.c.failures, user_account.c.locked_until)).one() == (
                3,
                NOW + 60_000_000_000,
            )

    async def test_a_reset_unlocks(self, accounts: Accounts) -> None:
        await op1(accounts)
        await wrong(accounts, 3)
        await accounts.reset(ADMIN, "op1", "another password", "forgotten")
        assert (await login(accounts, password="another password")).must_change


class TestAdd:
    @pytest.mark.parametrize(
        "name", ["", "a b", "os:anna", "enose", "Anonymous", "x" * 65, "\u0430nna", "anna\u200b", "-a", "a\n", "\ud800"]
    )
    async def test_names_that_could_be_mistaken_for_another_are_refused(self, accounts: Accounts, name: str) -> None:
        # R26: "\u0430nna" begins with a Cyrillic letter.
        with pytest.raises(InvalidArgument):
            await accounts.add(ADMIN, name, {Role.OPERATOR}, PASSWORD, printed_name="x")

    @pytest.mark.parametrize("name", ["op1", "OP1", "\uff4fp1", "o\u1d561"])
    async def test_a_name_is_given_once_in_whatever_form(self, accounts: Accounts, name: str) -> None:
        # R22, R26: also after its account was disabled.
        await op1(accounts)
        await accounts.disable(ADMIN, "op1", "left")
        with pytest.raises(EntryExists):
            await accounts.add(ADMIN, name, {Role.OPERATOR}, PASSWORD, printed_name="x")
        (only,) = await accounts.listing()
        assert only.disabled

    @pytest.mark.parametrize("password", ["short", "123456789", "x" * 1025, "OPERATOR-one", "operator-ONE"])
    async def test_weak_passwords_are_refused(self, accounts: Accounts, password: str) -> None:
        # R27
        with pytest.raises(InvalidArgument):
            await accounts.add(ADMIN, "Operator-One", {Role.OPERATOR}, password, printed_name="x")

    @pytest.mark.parametrize(
        ("roles", "service"),
        [
            ({Role.SECURITY_ADMIN, Role.QA}, False),
            ({Role.SECURITY_ADMIN, Role.QA_RELEASE}, False),
            ({Role.CONFIGURE_ADMIN, Role.QA}, False),
            ({Role.QA}, True),
            ({Role.SECURITY_ADMIN}, True),
            ({Role.MES}, False),
            ({Role.ADVISOR}, False),
            ({Role.ANONYMOUS}, False),
            (set(), False),
        ],
    )
    async def test_roles_that_must_not_meet_are_refused(
        self, accounts: Accounts, roles: set[Role], service: bool
    ) -> None:
        # R14: who administers does not sign, and a machine answers for nothing.
        with pytest.raises(InvalidArgument):
            await accounts.add(ADMIN, "someone", roles, PASSWORD, printed_name="x", service=service)

    async def test_a_printed_name_is_required(self, accounts: Accounts) -> None:
        # 11.50(a)(1): it stands in every signature.
        with pytest.raises(InvalidArgument):
            await op1(accounts, printed_name=" ")


class TestPasswordOfOnesOwn:
    async def test_a_password_an_administrator_knows_opens_nothing_but_its_change(self, accounts: Accounts) -> None:
        # R25
        await op1(accounts, must_change=True)
        newcomer = await login(accounts)
        assert newcomer.must_change
        assert newcomer.roles == frozenset()
        assert (await accounts.get("op1")).roles == frozenset()
        await accounts.change_password(Caller(user="Op1"), PASSWORD, "only I know this")
        owner = await login(accounts, password="only I know this")
        assert (owner.must_change, owner.roles) == (False, {Role.OPERATOR})

    async def test_a_reset_takes_the_roles_until_the_owner_changed_it(self, accounts: Accounts) -> None:
        await op1(accounts)
        await accounts.reset(ADMIN, "op1", "another password", "forgotten")
        assert (await login(accounts, password="another password")).roles == frozenset()
        with pytest.raises(CredentialRejected):
            await login(accounts)

    async def test_changing_takes_the_old_one_and_another_new_one(self, accounts: Accounts) -> None:
        await op1(accounts)
        me = Caller(user="Op1")
        with pytest.raises(CredentialRejected):
            await accounts.change_password(me, "wrong password", "only I know this")
        with pytest.raises(InvalidArgument):
            await accounts.change_password(me, PASSWORD, PASSWORD)
        with pytest.raises(InvalidArgument):
            await accounts.change_password(me, PASSWORD, "short")
        await login(accounts)

    async def test_guessing_the_old_one_locks_as_any_guessing(self, accounts: Accounts) -> None:
        await op1(accounts)
        for _ in range(3):
            with pytest.raises(CredentialRejected):
                await accounts.change_password(Caller(user="Op1"), "wrong password", "only I know this")
        with pytest.raises(LockedOut):
            await accounts.change_password(Caller(user="Op1"), PASSWORD, "only I know this")

    async def test_a_service_account_has_no_owner_to_change_it(self, accounts: Accounts) -> None:
        added = await accounts.add(ADMIN, "mes1", {Role.MES}, PASSWORD, printed_name="MES", service=True)
        assert not added.must_change
        assert (await login(accounts, "mes1")).roles == {Role.MES}


class TestAdministration:
    async def test_a_disabled_account_is_closed_for_good(self, accounts: Accounts) -> None:
        await op1(accounts)
        await accounts.disable(ADMIN, "OP1", "left")
        with pytest.raises(CredentialRejected):
            await login(accounts)
        for again in (accounts.disable(ADMIN, "op1", "x"), accounts.reset(ADMIN, "op1", "another password", "x")):
            with pytest.raises(InvalidState):
                await again

    async def test_a_change_takes_a_reason_and_somebody_it_is_about(self, accounts: Accounts) -> None:
        await op1(accounts)
        with pytest.raises(InvalidArgument):
            await accounts.disable(ADMIN, "op1", " ")
        with pytest.raises(NotFound):
            await accounts.disable(ADMIN, "nobody", "left")
        with pytest.raises(NotFound):
            await accounts.reset(ADMIN, "nobody", "another password", "forgotten")

    async def test_the_log_holds_who_gave_which_roles(self, accounts: Accounts, engine: Engine) -> None:
        await op1(accounts)
        with elsewhere(engine) as tx:
            body = tx.execute(select(audit_entry.c.body).where(audit_entry.c.action == "user.add")).scalar_one()
        assert b'"actor":"sec1"' in body
        assert b'"roles":["Operator"]' in body


class TestCertificate:
    async def test_a_certificate_stands_for_its_account(self, accounts: Accounts) -> None:
        await op1(accounts)
        assert (await accounts.by_certificate("ab" * 32, **FROM)).name == "Op1"

    async def test_an_unknown_certificate_or_account_is_rejected(self, accounts: Accounts) -> None:
        for thumbprint in ("00" * 32, "", "cd" * 32):
            with pytest.raises(CredentialRejected):
                await accounts.by_certificate(thumbprint, **FROM)

    async def test_the_certificate_of_a_disabled_account_is_rejected(self, accounts: Accounts) -> None:
        await op1(accounts)
        await accounts.disable(ADMIN, "op1", "left")
        with pytest.raises(CredentialRejected):
            await accounts.by_certificate("ab" * 32, **FROM)


def test_names_fold_to_what_they_look_like() -> None:
    assert fold("\uff21nna") == fold("anna") == fold("ANNA")
    assert person("os:Anna") == person("anna")
