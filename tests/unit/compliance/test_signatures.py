import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Connection, select

from compliance import batches, exceptions, signatures
from compliance.signatures import FRESH, Meaning, Method, Request, Signature
from compliance.tables import signature
from compliance.users import Accounts
from historian.schema import audit_entry
from nodesets.errors import (
    AccessDenied,
    ChannelInsecure,
    CredentialRejected,
    InvalidArgument,
    InvalidState,
    LockedOut,
    NoMatch,
    NotFound,
)
from nodesets.model import Caller, Finding, Role, SecurityMode
from tests.unit.compliance.shift import NOW, ROLES, SECOND, SERVICE, Clock, Shift, caller

T = TypeVar("T")

PASSWORD = "correct horse battery"
BERLIN = ZoneInfo("Europe/Berlin")
ADMIN = Caller(user="sec1", roles=frozenset({Role.SECURITY_ADMIN}))


class Room:
    """A released batch's road up to its signatures, over the real accounts and writer."""

    def __init__(self, accounts: Accounts, clock: Clock) -> None:
        self.accounts = accounts
        self.clock = clock

    async def do(self, work: Callable[[Shift], T]) -> T:
        def on(tx: Connection) -> T:
            shift = Shift(tx)
            shift.now = self.clock.now()
            done = work(shift)
            self.clock.time = shift.now
            return done

        return await self.accounts.submit(on)

    async def request(self, meaning: Meaning = Meaning.REVIEW, who: str = "qa1", expiry: float = 120.0) -> Request:
        return await self.do(
            lambda shift: signatures.request(
                shift.tx, caller(who), self.clock.now(), "batch", "B1", meaning, expiry=expiry
            )
        )

    async def execute(
        self, request: Request, user: str = "qa1", secret: str = PASSWORD, comment: str = "", by: Caller | None = None
    ) -> Signature:
        session = by or caller("op1")
        return await signatures.execute(self.accounts, session, request.request_id, user, secret, comment, zone=BERLIN)


@pytest.fixture
async def room(accounts: Accounts, clock: Clock) -> Room:
    for name, roles in ROLES.items():
        await accounts.add(
            ADMIN, name, roles, PASSWORD, printed_name=name.upper(), service=name == "mes1", must_change=False
        )
    made = Room(accounts, clock)
    await made.do(lambda shift: shift.evaluated())
    return made


def fresh(name: str, clock: Clock, age: int = 0) -> Caller:
    return replace(caller(name), activated=clock.now() - age, proof="password")


class TestPassword:
    async def test_a_signature_holds_name_time_and_meaning(self, room: Room, clock: Clock) -> None:
        # 11.50(a), and 11.70: bound to the digest of what was signed.
        request = await room.request()
        signed = await room.execute(request, comment="complete")
        assert (signed.signer, signed.printed_name, signed.meaning) == ("qa1", "QA1", Meaning.REVIEW)
        assert (signed.signed, signed.utc_offset) == (clock.now(), 120)
        assert (signed.digest, signed.method, signed.comment) == (request.digest, Method.PASSWORD, "complete")

    async def test_the_signer_is_who_proves_it_not_whose_session_it_is(self, room: Room) -> None:
        # Information model 4, option A: a gateway has one session for everybody.
        signed = await room.execute(await room.request(), by=caller("mes1"))
        assert signed.signer == "qa1"

    async def test_the_manifest_says_what_is_signed(self, room: Room) -> None:
        request = await room.request()
        assert all(text in request.manifest for text in ("Batch B1", "COFFEE-A", "LOT7", "review", request.digest))
        assert "DemoMode" in request.manifest

    async def test_a_wrong_password_signs_nothing_and_counts(self, room: Room) -> None:
        # R23, R29
        request = await room.request()
        for _ in range(3):
            with pytest.raises(CredentialRejected):
                await room.execute(request, secret="wrong password")
        with pytest.raises(LockedOut):
            await room.execute(request)
        assert not await room.do(
            lambda shift: shift.tx.execute(select(signature).where(signature.c.record_id == "B1")).all()
        )

    async def test_an_unknown_signer_is_rejected(self, room: Room) -> None:
        with pytest.raises(CredentialRejected):
            await room.execute(await room.request(), user="nobody")

    @pytest.mark.parametrize("mode", [SecurityMode.NONE, SecurityMode.SIGN])
    async def test_a_secret_travels_encrypted_only(self, room: Room, mode: SecurityMode) -> None:
        # R17
        with pytest.raises(ChannelInsecure):
            await room.execute(await room.request(), by=replace(caller("op1"), mode=mode))

    async def test_the_secret_is_nowhere_in_the_log(self, room: Room) -> None:
        await room.execute(await room.request())
        bodies = await room.do(lambda shift: list(shift.tx.execute(select(audit_entry.c.body)).scalars()))
        assert not any(PASSWORD.encode() in body for body in bodies)


class TestRole:
    @pytest.mark.parametrize(
        ("meaning", "who"),
        [
            (Meaning.REVIEW, "op1"),
            (Meaning.REVIEW, "eng1"),
            (Meaning.REVIEW, "rel1"),
            (Meaning.REVIEW, "sec1"),
            (Meaning.REVIEW, "mes1"),
            (Meaning.RELEASE, "qa1"),
            (Meaning.RELEASE, "op1"),
            (Meaning.REJECTION, "rel1"),
            (Meaning.QUARANTINE, "op1"),
        ],
    )
    async def test_each_meaning_takes_its_role(self, room: Room, meaning: Meaning, who: str) -> None:
        # R38, R14: QA reviews, QA-Release releases, administrators and services never sign.
        with pytest.raises(AccessDenied):
            await room.execute(await room.request(meaning), user=who)

    async def test_a_password_given_by_an_administrator_signs_nothing(self, room: Room) -> None:
        # R25: else the administrator could sign as anybody.
        request = await room.request()
        await room.accounts.reset(ADMIN, "qa1", "set by sec1 today", "forgotten")
        with pytest.raises(AccessDenied, match="change the password"):
            await room.execute(request, secret="set by sec1 today")
        await room.accounts.change_password(caller("qa1"), "set by sec1 today", PASSWORD)
        assert (await room.execute(request)).signer == "qa1"

    async def test_a_disabled_account_signs_nothing(self, room: Room, clock: Clock) -> None:
        request = await room.request()
        session = fresh("qa1", clock)
        await room.accounts.disable(ADMIN, "qa1", "left")
        for secret in (PASSWORD, ""):
            with pytest.raises(CredentialRejected):
                await room.execute(request, secret=secret, by=session)

    async def test_a_later_name_does_not_change_an_old_signature(self, room: Room) -> None:
        # R19: what was printed on the day stays.
        signed = await room.execute(await room.request())
        before = await room.do(lambda shift: signatures.get(shift.tx, signed.signature_id))
        assert before == signed


class TestSession:
    async def test_who_just_gave_the_password_to_this_session_may_leave_it_out(self, room: Room, clock: Clock) -> None:
        # Information model 4, option B.
        signed = await room.execute(await room.request(), secret="", by=fresh("qa1", clock, FRESH))
        assert signed.method is Method.SESSION

    async def test_nobody_else_may(self, room: Room, clock: Clock) -> None:
        request = await room.request()
        refused = [
            fresh("qa1", clock, FRESH + 1),
            fresh("qa1", clock, -SECOND),  # the clock was set back: nothing is known about the age
            fresh("qa2", clock),
            replace(fresh("qa1", clock), proof="certificate"),  # possession of a key is one component (R23)
            replace(fresh("qa1", clock), proof=""),
        ]
        for session in refused:
            with pytest.raises(CredentialRejected):
                await room.execute(request, secret="", by=session)


class TestRequest:
    async def test_a_request_is_signed_once(self, room: Room) -> None:
        request = await room.request()
        await room.execute(request)
        with pytest.raises(InvalidState, match="signed"):
            await room.execute(request)

    async def test_two_signers_at_once_give_one_signature(self, room: Room) -> None:
        request = await room.request()
        answers = await asyncio.gather(room.execute(request), room.execute(request, user="qa2"), return_exceptions=True)
        assert sorted(type(a).__name__ for a in answers) == ["InvalidState", "Signature"]

    async def test_an_expired_request_is_not_signed(self, room: Room, clock: Clock) -> None:
        request = await room.request(expiry=30.0)
        clock.step(30)
        with pytest.raises(InvalidState, match="expired"):
            await room.execute(request)

    async def test_a_request_is_withdrawn_by_who_made_it(self, room: Room) -> None:
        request = await room.request()
        assert await room.do(lambda shift: signatures.waiting(shift.tx, shift.now)) == (request,)
        with pytest.raises(AccessDenied):
            await room.do(lambda shift: signatures.cancel(shift.tx, caller("op1"), shift.now, request.request_id))
        await room.do(lambda shift: signatures.cancel(shift.tx, caller("qa1"), shift.now, request.request_id))
        assert await room.do(lambda shift: signatures.waiting(shift.tx, shift.now)) == ()
        with pytest.raises(InvalidState, match="cancelled"):
            await room.execute(request)

    async def test_a_record_that_changed_since_it_was_shown_is_not_signed(self, room: Room) -> None:
        # H41
        request = await room.request()
        found = Finding(kind="CommunicationLost", source="EN01", time=NOW, level="Active", text="gap")
        await room.do(lambda shift: exceptions.from_finding(shift.tx, SERVICE, shift.at(), "B1", found, 300))
        with pytest.raises(NoMatch):
            await room.execute(request)

    async def test_only_records_and_meanings_there_are_can_be_requested(self, room: Room) -> None:
        def asked(record_type: str, record_id: str, meaning: str) -> Callable[[Shift], Request]:
            return lambda shift: signatures.request(
                shift.tx, caller("qa1"), shift.now, record_type, record_id, meaning, expiry=1.0
            )

        for record_type, meaning in (("batch", "love"), ("batch", "approval"), ("user_account", "review")):
            with pytest.raises(InvalidArgument):
                await room.do(asked(record_type, "B1", meaning))
        with pytest.raises(NotFound):
            await room.do(asked("batch", "B9", "review"))

    async def test_an_unknown_request_is_not_signed(self, room: Room) -> None:
        request = await room.request()
        with pytest.raises(NotFound):
            await room.execute(replace(request, request_id="0" * 32))


class TestVerify:
    async def test_a_signature_is_valid_on_its_record_alone(self, room: Room) -> None:
        # R20
        signed = await room.execute(await room.request())
        answer = await room.do(lambda shift: signatures.verify(shift.tx, signed.signature_id, signed.digest))
        assert (answer.valid, answer.printed_name, answer.meaning) == (True, "QA1", Meaning.REVIEW)
        for digest in ("", "0" * 64, "\ud800"):
            other = await room.do(lambda shift, d=digest: signatures.verify(shift.tx, signed.signature_id, d))  # type: ignore[misc]
            assert not other.valid
        with pytest.raises(NotFound):
            await room.do(lambda shift: signatures.verify(shift.tx, "none", signed.digest))

    async def test_a_changed_record_makes_its_signature_invalid(self, room: Room) -> None:
        # R21: the old signature stays, and says so.
        signed = await room.execute(await room.request())
        found = Finding(kind="CommunicationLost", source="EN01", time=NOW, level="Active", text="gap")
        await room.do(lambda shift: exceptions.from_finding(shift.tx, SERVICE, shift.at(), "B1", found, 300))
        answer = await room.do(lambda shift: signatures.verify(shift.tx, signed.signature_id, signed.digest))
        assert not answer.valid

    async def test_each_kind_of_record_can_be_signed(self, room: Room) -> None:
        def sign_all(shift: Shift) -> None:
            result_id = batches.record(shift.tx, "B1")["samples"][0]["result_id"]
            signature_id = shift.signed("qa1", "result", result_id, Meaning.REVIEW)
            signed = signatures.get(shift.tx, signature_id)
            assert signatures.verify(shift.tx, signature_id, signed.digest).valid

        await room.do(sign_all)


async def test_a_batch_goes_all_the_way_over_the_real_ceremony(room: Room) -> None:
    # 21 CFR 11 end to end: two people, two passwords, one record.
    await room.execute(await room.request())
    request = await room.do(
        lambda shift: batches.request_release(shift.tx, caller("qa1"), shift.at(), "B1", "", expiry=120.0)
    )
    signed = await room.execute(request, user="rel1")
    released = await room.do(
        lambda shift: batches.release(shift.tx, caller("rel1"), shift.at(), "B1", signed.signature_id, "good")
    )
    assert released.released_by == "REL1"
    assert released.digest == signed.digest
