"""Rows H01 to H40 of the hostile inputs, and the published attacks on OPC UA servers, against `enose run`.

After every test: the process lives, another client was served all the time, and memory is within 64 MiB of what it
was. Counts are small; with ENOSE_FLOOD=1 in the environment they are those of the rows, which takes minutes. Rows that
need a look into the server (tokens' end, wrong nonces, trust) are in test_security.py, every form of a body in
tests/unit/opcua_server/services/test_wire.py, H42 in tests/fault/test_modbus.py.
"""

import asyncio
import contextlib
import json
import secrets
import sqlite3
import struct
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
from asyncua import ua
from asyncua.ua.ua_binary import struct_to_binary, uatcp_to_binary
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from opcua_server import security
from opcua_server.services.limits import Limits
from tests.conformance.hostile import (
    FLOOD,
    MIB,
    STATE,
    Target,
    answer_to,
    chunks,
    closed,
    der_bomb,
    many,
    neighbour,
    numbered,
    of_no_version,
    refusal,
    request,
    sealed,
    stranger,
    target,
    write_refusal,
)
from tests.conformance.opcua import CLASSES, Application, Raw, application, key, nid

pytestmark = pytest.mark.asyncio(loop_scope="module")
CODES = ua.StatusCodes
LIMITS = Limits()
VALUE = nid("EN01.Array.S01.SensorValue")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with target(tmp_path_factory.mktemp("hostile")) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(bench: Target) -> AsyncIterator[list[float]]:
    async with neighbour(bench) as took:
        yield took


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def memory(bench: Target, served: list[float]) -> int:
    """Resident bytes once everything has been used once."""
    async with Raw(bench) as raw:
        await raw.login()
        await raw.read(VALUE)
    return bench.memory


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def oracle(bench: Target, served: list[float], memory: int) -> AsyncIterator[None]:
    before = len(served)
    yield
    assert bench.alive, bench.running.log.read_text()[-3000:]
    while len(served) <= before:  # an answer after the attack
        await asyncio.sleep(0.01)
    took = sorted(served[before:])
    p99 = took[int(0.99 * (len(took) - 1))]
    print(f"answers of another client, p99: {1000 * p99:.0f} ms; memory: {(bench.memory - memory) // MIB:+} MiB")
    assert p99 < 2.0  # 0.5 s is the aim; the rest is for a busy test machine
    deadline = time.monotonic() + 60
    while bench.memory - memory > 64 * MIB:
        assert time.monotonic() < deadline, f"{(bench.memory - memory) // MIB} MiB kept"
        await asyncio.sleep(0.5)


@pytest_asyncio.fixture(loop_scope="module")
async def raw(bench: Target) -> AsyncIterator[Raw]:
    async with Raw(bench) as client:
        await client.login()
        yield client


def hello(receive: int = 65535, send: int = 65535, url: str = "opc.tcp://localhost", version: int = 0) -> bytes:
    return uatcp_to_binary(
        ua.MessageType.Hello,
        ua.Hello(ProtocolVersion=version, ReceiveBufferSize=receive, SendBufferSize=send, EndpointUrl=url),
    )


# -- TCP


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(secrets.token_bytes(64), CODES.BadTcpMessageTypeInvalid, id="H01 random"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", CODES.BadTcpMessageTypeInvalid, id="H01 HTTP"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01", CODES.BadTcpMessageTypeInvalid, id="H01 TLS"),
        pytest.param(b"HELF" + bytes(4), CODES.BadTcpMessageTooLarge, id="H02 0"),
        pytest.param(b"HELF" + struct.pack("<I", 7), CODES.BadTcpMessageTooLarge, id="H02 7"),
        pytest.param(b"HELF" + b"\xff" * 4, CODES.BadTcpMessageTooLarge, id="H02 4 GiB"),
        pytest.param(hello(0, 0), CODES.BadConnectionRejected, id="H04 0"),
        pytest.param(hello(16, 65535), CODES.BadConnectionRejected, id="H04 16"),
        pytest.param(hello(65535, 8191), CODES.BadConnectionRejected, id="H04 8191"),
        pytest.param(hello(url="u" * 4097), CODES.BadTcpEndpointUrlInvalid, id="H05 URL"),
        pytest.param(hello(url="\u00fc" * 2049), CODES.BadTcpEndpointUrlInvalid, id="H05 bytes"),
        pytest.param(hello()[:-8], None, id="H05 cut"),
        pytest.param(hello() + hello(), CODES.BadTcpMessageTypeInvalid, id="H06 twice"),
        pytest.param(b"MSGF" + struct.pack("<I", 24) + bytes(16), CODES.BadTcpMessageTypeInvalid, id="H06 MSG"),
        pytest.param(b"ACKF" + struct.pack("<I", 28) + bytes(20), CODES.BadTcpMessageTypeInvalid, id="H06 ACK"),
        pytest.param(b"ERRF" + struct.pack("<I", 16) + bytes(8), CODES.BadTcpMessageTypeInvalid, id="H06 ERR"),
        pytest.param(hello() + b"MSGX" + struct.pack("<I", 24) + bytes(16), CODES.BadTcpMessageTypeInvalid, id="type"),
    ],
)
async def test_a_connection_that_is_no_opcua_ends_with_its_reason(
    bench: Target, data: bytes, expected: int | None
) -> None:
    # Part 6 7.1.5. An answer at byte eight: what the header announces is never waited for.
    async with Raw(bench) as raw:
        raw.writer.write(data)
        if data.startswith(hello()):
            assert (await raw._message()).ProtocolVersion == 0
        if expected is None:
            raw.writer.write_eof()
        assert await refusal(raw._message()) == expected
        assert await closed(raw)


async def test_h05_any_protocol_version_is_answered_by_ours(bench: Target) -> None:
    async with Raw(bench) as raw:
        raw.writer.write(hello(version=2**32 - 1))
        assert (await raw._message()).ProtocolVersion == 0


async def test_h03_who_is_slow_is_not_waited_for(bench: Target) -> None:
    # One byte a second kept a connection for ever; so did half a message and a channel never opened.
    async with Raw(bench) as slow, Raw(bench) as greeting, Raw(bench) as half:
        slow.writer.write(b"HEL")
        await greeting.hello()
        await half.login()
        half.writer.write(b"MSGF" + struct.pack("<I", 60_000) + bytes(100))
        for connection in (slow, greeting, half):
            assert await refusal(connection._message()) == CODES.BadTimeout


# -- the secure channel


@pytest.mark.parametrize("policy", ["Basic128Rsa15", "Basic256", "None#", "", "x" * 60_000])
async def test_h07_no_policy_but_the_offered_ones(bench: Target, policy: str) -> None:
    async with Raw(bench) as raw:
        raw.policy.URI = f"http://opcfoundation.org/UA/SecurityPolicy#{policy}"
        assert await refusal(raw.open()) == CODES.BadSecurityPolicyRejected


async def test_h07_without_security_there_is_discovery_alone(bench: Target) -> None:
    async with Raw(bench, policy=None) as raw:
        await raw.open()
        assert await refusal(raw.create_session()) in (
            CODES.BadSecurityPolicyRejected, CODES.BadSecurityModeInsufficient
        )  # fmt: skip


def open_request(certificate: bytes, uri: str = CLASSES["Basic256Sha256"].URI, secret: bytes = bytes(512)) -> bytes:
    def part(data: bytes) -> bytes:
        return struct.pack("<i", len(data)) + data

    body = part(uri.encode()) + part(certificate) + part(bytes(20)) + secret
    return b"OPNF" + struct.pack("<II", 12 + len(body), 0) + body


@pytest.mark.parametrize(
    "certificate",
    [
        b"garbage", secrets.token_bytes(16_000), b"\x30" * 60_000, der_bomb(16_000), b"", b"\x30\x84\xff\xff\xff\xff",
        of_no_version(application().der),
    ],
    ids=["garbage", "random", "60 kB", "bomb", "none", "length", "version"],
)  # fmt: skip
async def test_h08_a_certificate_that_is_none_is_one_failed_check(bench: Target, certificate: bytes) -> None:
    async with Raw(bench) as raw:
        await raw.hello()
        before = bench.cpu
        raw.writer.write(open_request(certificate))
        assert await refusal(raw._message()) == CODES.BadSecurityChecksFailed
        assert bench.cpu - before < 0.5  # 0.05 s is the aim, with a plant and a neighbour served meanwhile


async def test_h08_a_long_secret_is_not_decrypted(bench: Target) -> None:
    # 170 blocks of RSA are a third of a second for every stranger's 60 kB.
    async with Raw(bench) as raw:
        await raw.hello()
        raw.writer.write(open_request(bench.client.der, secret=bytes(384 * 150)))
        assert await refusal(raw._message()) == CODES.BadSecurityChecksFailed


def issued(
    name: str, own: int, issuer: str, signer: int, *, ends: timedelta = timedelta(days=9), ca: bool = False
) -> x509.Certificate:
    """A certificate of the n-th key, signed by another's."""

    def subject(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject(name))
        .issuer_name(subject(issuer))
        .public_key(key(own).public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=20))
        .not_valid_after(now + ends)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier("urn:test:client")]), critical=False)
        .sign(key(signer), hashes.SHA256())
    )


def revocation(issuer: str, signer: int, revoked: x509.Certificate) -> x509.CertificateRevocationList:
    now = datetime.now(UTC)
    entry = x509.RevokedCertificateBuilder().serial_number(revoked.serial_number).revocation_date(now).build()
    return (
        x509.CertificateRevocationListBuilder()
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .last_update(now - timedelta(days=1))
        .next_update(now + timedelta(days=1))
        .add_revoked_certificate(entry)
        .sign(key(signer), hashes.SHA256())
    )


async def test_h09_what_is_wrong_with_a_chain_is_told_to_the_log_alone(bench: Target) -> None:
    # A loop of authorities, fifty above each other, one that revoked, one that expired, one nobody knows: one answer.
    def client(certificate: x509.Certificate, number: int) -> Application:
        return Application(certificate, key(number), "urn:test:client")

    pki = bench.running.data / "pki"
    revoked = issued("revoked", 13, "authority", 11)
    lists: dict[str, x509.Certificate | x509.CertificateRevocationList] = {
        "issuers/certs/loop-a.der": issued("a", 11, "b", 12, ca=True),
        "issuers/certs/loop-b.der": issued("b", 12, "a", 11, ca=True),
        "trusted/certs/authority.der": issued("authority", 11, "authority", 11, ca=True),
        "trusted/crl/authority.der": revocation("authority", 11, revoked),
    }
    for i in range(50):
        lists[f"issuers/certs/deep{i}.der"] = issued(f"deep{i}", 11, f"deep{i + 1}", 11, ca=True)
    for name, listed in lists.items():
        (pki / name).write_bytes(listed.public_bytes(Encoding.DER))
    expired = client(issued("expired", 14, "expired", 14, ends=timedelta(days=-1)), 14)
    bench.trust(expired)
    cases = {
        "in neither": client(issued("looped", 10, "a", 11), 10),
        "chain of more than": client(issued("deep", 10, "deep0", 11), 10),
        "revoked": client(revoked, 13),
        "expired": expired,
        "issuer": client(issued("orphan", 15, "nobody", 16), 15),
        "trusted": application(17, "urn:test:nobody"),
        "bits": application_of_bits(1024),
    }
    for app in cases.values():
        async with Raw(bench, app) as raw:
            started = time.monotonic()
            assert await refusal(raw.open()) == CODES.BadSecurityChecksFailed
            assert time.monotonic() - started >= LIMITS.refusal * 0.9
    async with Raw(bench, client(issued("good", 10, "authority", 11), 10)) as raw:
        await raw.open()  # the authority that revoked one is trusted for all others
    for name in lists:
        (pki / name).unlink()


def application_of_bits(bits: int) -> Application:
    weak = key(18, bits)
    return Application(security.self_signed(weak, "urn:test:client", ["localhost"]), weak, "urn:test:client")


async def test_h10_channels_without_session_keep_nobody_out(bench: Target) -> None:
    # CVE class "many secure channels": the place of the oldest is the next one's.
    flood: list[Raw] = []
    try:
        for i in range(many(60, 1000)):
            one = await Raw(bench, policy=None if i % 2 else "Basic256Sha256").__aenter__()
            flood.append(one)
            await refusal(one.open())
        async with Raw(bench) as enrolled:
            await enrolled.login()
            assert (await enrolled.read(VALUE)).StatusCode is not None
        strangers = [one for one in flood if one.policy.URI.endswith("None")]
        still = sum(not one.reader._eof for one in strangers)
        assert still <= LIMITS.connections_per_address
    finally:
        for one in flood:
            one.writer.close()


async def renewal(raw: Raw, policy: Any, channel: int) -> None:
    """OpenSecureChannel Renew under a policy of one's choice."""
    connection = raw.connection
    body = ua.OpenSecureChannelRequest()
    body.Parameters.RequestType = ua.SecurityTokenRequestType.Renew
    body.Parameters.SecurityMode = ua.MessageSecurityMode.SignAndEncrypt
    body.Parameters.ClientNonce = secrets.token_bytes(32)
    connection.security_policy, kept = policy, connection.security_policy
    connection.security_token.ChannelId = channel
    raw.writer.write(connection.message_to_binary(struct_to_binary(body), ua.MessageType.SecureOpen, 77))
    connection.security_policy = kept


@pytest.mark.parametrize("what", ["certificate", "policy", "none"])
async def test_h11_a_channel_is_renewed_by_who_opened_it(bench: Target, what: str) -> None:
    other = application(2, "urn:test:friend")
    bench.trust(other)
    async with Raw(bench) as raw:
        await raw.login()
        sign = ua.MessageSecurityMode.SignAndEncrypt
        theirs, ours = bench.identity.certificate, bench.client
        policy = {
            "certificate": lambda: CLASSES["Basic256Sha256"](theirs, other.certificate, other.key, sign),
            "policy": lambda: CLASSES["Aes256_Sha256_RsaPss"](theirs, ours.certificate, ours.key, sign),
            "none": lambda: Raw(bench, policy=None).policy,
        }[what]()
        await renewal(raw, policy, raw.connection.security_token.ChannelId)
        assert await refusal(raw._message()) == CODES.BadSecurityChecksFailed


async def test_h12_a_token_nobody_issued_ends_the_channel(raw: Raw) -> None:
    raw.connection.security_token.TokenId = 4711
    assert await refusal(raw.read(STATE)) == CODES.BadSecureChannelTokenUnknown


@pytest.mark.parametrize("step", [-1, -5, 3, 2**31])
async def test_h13_a_sequence_number_out_of_order_ends_the_channel(raw: Raw, step: int) -> None:
    raw.connection._sequence_number = (raw.connection._sequence_number + step) % 2**32
    assert await refusal(raw.read(STATE)) == CODES.BadSequenceNumberInvalid


async def test_h13_a_sequence_number_may_wrap(bench: Target) -> None:
    async with Raw(bench) as raw:
        raw.connection._sequence_number = 2**32 - 6
        await raw.login()
        for _ in range(10):
            assert (await raw.read(STATE)).StatusCode.is_good()
        assert raw.connection._sequence_number < 100


async def test_h14_anothers_channel_id_ends_the_channel(bench: Target, raw: Raw) -> None:
    async with Raw(bench) as victim:
        await victim.login()
        raw.connection.security_token.ChannelId = victim.connection.security_token.ChannelId
        assert await refusal(raw.read(STATE)) == CODES.BadSecureChannelIdInvalid
        assert (await victim.read(STATE)).StatusCode.is_good()


async def test_h15_every_wrong_signature_and_padding_is_one_answer_after_one_time(bench: Target) -> None:
    # Part 4 6.1.4; a padding oracle needs two answers, or two times. 8 + 39 + 1 bytes fill three blocks of 16.
    body = bytes(39)

    def first(data: bytearray) -> None:
        data[0] ^= 1

    def last(data: bytearray) -> None:
        data[-1] ^= 1

    def truncated(data: bytearray) -> None:
        del data[-16:]

    for change in (first, last, truncated):
        async with Raw(bench) as raw:
            await raw.open()
            raw.writer.write(sealed(raw, body, b"\0", change))
            assert await took_at_least(LIMITS.refusal, raw) == CODES.BadSecurityChecksFailed
    for length in (48, 100, 255):  # signed as it should be, and longer than the message
        async with Raw(bench) as raw:
            await raw.open()
            raw.writer.write(sealed(raw, body, bytes([length])))
            assert await took_at_least(LIMITS.refusal, raw) == CODES.BadSecurityChecksFailed


async def took_at_least(seconds: float, raw: Raw) -> int | None:
    started = time.monotonic()
    status = await refusal(raw._message())
    assert time.monotonic() - started >= seconds * 0.8
    return status


async def test_h15_every_padding_length_that_fits_is_right(raw: Raw) -> None:
    body = request("ReadRequest", raw.token, struct_to_binary(ua.ReadParameters()))
    for blocks in range(14):
        missing = -(8 + len(body) + 1) % 16 + 16 * blocks
        raw.writer.write(sealed(raw, body, bytes([missing]) * (missing + 1)))
        answer = await raw.answer(600, "ReadResponse")
        assert answer.ResponseHeader.ServiceResult.value in (CODES.BadNothingToDo, CODES.BadTimestampsToReturnInvalid)


async def test_h16_a_message_has_at_most_64_chunks(raw: Raw) -> None:
    for chunk in chunks(raw, bytes(2000), 65):
        raw.writer.write(numbered(raw, chunk))
    assert await refusal(raw._message()) == CODES.BadRequestTooLarge


async def test_h16_chunks_without_end_are_freed(bench: Target) -> None:
    # CVE class "chunk flooding": a thousand beginnings of messages, none of them an end.
    for _ in range(many(5, 25)):
        async with Raw(bench) as raw:
            await raw.login()
            for chunk in chunks(raw, bytes(60_000 * 33), 33)[:-1]:
                raw.writer.write(numbered(raw, chunk))
            await raw.writer.drain()


async def test_h16_before_a_session_a_message_is_small(bench: Target) -> None:
    async with Raw(bench) as raw:
        await raw.open()
        for chunk in chunks(raw, bytes(80_000), 2):
            raw.writer.write(numbered(raw, chunk))
        assert await refusal(raw._message()) == CODES.BadRequestTooLarge


async def test_h16_two_messages_are_not_mixed(raw: Raw) -> None:
    one, other = chunks(raw, bytes(100), 2, 500)[0], chunks(raw, bytes(100), 2, 501)[0]
    raw.writer.write(numbered(raw, one) + numbered(raw, other))
    assert await refusal(raw._message()) is not None


async def test_h17_an_aborted_message_is_forgotten_and_the_channel_lives(raw: Raw) -> None:
    part, *_ = chunks(raw, bytes(1000), 3)
    abort, *_ = chunks(raw, struct_to_binary(ua.ErrorMessage(ua.StatusCode(CODES.BadRequestTooLarge), "x")), 1)
    abort.MessageHeader.ChunkType = ua.ChunkType.Abort
    empty, *_ = chunks(raw, b"x", 1)
    empty.Body = b""
    raw.writer.write(numbered(raw, part) + numbered(raw, abort) + numbered(raw, empty))
    assert (await raw.read(STATE)).StatusCode.is_good()
    body = request("ReadRequest", raw.token, struct_to_binary(read_of(1)))
    *parts, end = chunks(raw, body, 2)
    end, rest = chunks(raw, b"x", 1)[0], end
    end.Body = b""  # the last chunk of a message may be empty
    rest.MessageHeader.ChunkType = ua.ChunkType.Intermediate
    raw.writer.write(b"".join(numbered(raw, c) for c in (*parts, rest, end)))
    answer = await raw.answer(500, "ReadResponse")
    assert answer.ResponseHeader.ServiceResult.is_good()


# -- sessions


async def test_h18_sessions_never_activated_take_nobodys_place(bench: Target) -> None:
    async with Raw(bench) as raw:
        await raw.open()
        for _ in range(many(150, 2000)):
            await raw.create_session()
        await raw.activate()
        assert (await raw.read(STATE)).StatusCode.is_good()


@pytest.mark.parametrize("asked", [0.0, float("nan"), float("inf"), 1e300, -1.0])
async def test_h19_a_session_timeout_is_revised(bench: Target, asked: float) -> None:
    low, high = (1000 * s for s in LIMITS.session_timeout)
    async with Raw(bench) as raw:
        await raw.open()
        assert low <= (await raw.create_session(RequestedSessionTimeout=asked)).RevisedSessionTimeout <= high


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        (lambda r: r.password_token("admin", "admin"), {CODES.BadUserAccessDenied}),
        (lambda r: ua.AnonymousIdentityToken(PolicyId="anonymous"), {CODES.BadIdentityTokenRejected}),
        (lambda r: ua.ExtensionObject(), {CODES.BadIdentityTokenRejected}),
        (lambda r: ua.IssuedIdentityToken(PolicyId="x"), {CODES.BadIdentityTokenInvalid}),
        (lambda r: spoiled(r, Password=secrets.token_bytes(60_000)), {CODES.BadIdentityTokenInvalid}),
        (lambda r: spoiled(r, EncryptionAlgorithm=""), {CODES.BadIdentityTokenInvalid}),
        (lambda r: r.password_token("anna", "anna-password", nonce=bytes(32)), {CODES.BadIdentityTokenInvalid}),
        (lambda r: ua.X509IdentityToken(PolicyId="certificate", CertificateData=der_bomb(9_000)),
         {CODES.BadIdentityTokenInvalid}),
    ],
    ids=["admin", "anonymous", "null", "issued", "long", "plain", "replay", "bomb"],
)  # fmt: skip
async def test_h21_h22_a_token_that_proves_nothing_is_rejected(bench: Target, token: Any, expected: set[int]) -> None:
    async with Raw(bench) as raw:
        await raw.open()
        await raw.create_session()
        assert await refusal(raw.activate(token(raw))) in expected


def spoiled(raw: Raw, **changes: Any) -> Any:
    token = raw.password_token("anna", "anna-password")
    for name, value in changes.items():
        setattr(token, name, value)
    return token


async def test_h23_h24_a_token_is_good_on_its_channel_and_until_its_close(bench: Target, raw: Raw) -> None:
    async with Raw(bench) as thief:
        await thief.login()
        thief.token = stranger()
        assert await refusal(thief.read(STATE)) == CODES.BadSessionIdInvalid
        thief.token = raw.token
        assert await refusal(thief.read(STATE)) == CODES.BadSecureChannelIdInvalid
    await raw.call(ua.CloseSessionRequest())
    assert await refusal(raw.read(STATE)) == CODES.BadSessionIdInvalid
    assert await refusal(raw.call(ua.CloseSessionRequest())) == CODES.BadSessionIdInvalid


async def test_h24_a_call_outlives_its_session(bench: Target, raw: Raw) -> None:
    # "Call, then close": what was begun ends, is answered, and stands in the audit log with its outcome.
    text = secrets.token_hex(8)
    number = raw.write(context_call("SampleId", text))
    raw.write(ua.CloseSessionRequest())
    answer = await raw.answer(number, "CallResponse")
    assert answer.ResponseHeader.ServiceResult.is_good()
    assert answer.Results[0].StatusCode.is_good()
    actions = [action for action, _ in logged(bench, text)]
    assert actions == ["call.MethodSet.SetContext.intent", "context.set", "call.MethodSet.SetContext"]
    assert {outcome for _, outcome in logged(bench, text)} == {"Good"}
    assert await refusal(raw.read(STATE)) == CODES.BadSessionIdInvalid


def context_call(name: str, value: str) -> ua.CallRequest:
    call = ua.CallMethodRequest(
        ObjectId=nid("EN01.MethodSet"),
        MethodId=nid("EN01.MethodSet.SetContext"),
        InputArguments=[ua.Variant(x) for x in ("Stream01", name, value)],
    )
    return ua.CallRequest(Parameters=ua.CallParameters(MethodsToCall=[call]))


def logged(bench: Target, text: str) -> list[tuple[str, str]]:
    """Action and outcome of the audit entries with a text as one of their new values."""
    with contextlib.closing(sqlite3.connect(bench.running.data / "enose.db")) as database:
        bodies = [json.loads(body) for (body,) in database.execute("SELECT body FROM audit_entry ORDER BY seq")]
    return [
        (body["action"], body["outcome"])
        for body in bodies
        if text in (body["new"].values() if isinstance(body["new"], dict) else [body["new"]])
    ]


# -- bodies


@pytest.mark.parametrize("ticks", [0, 1, -1, 2**63 - 1, -(2**63), 132_223_104_000_000_000])
async def test_h25_a_clients_clock_is_its_own(raw: Raw, ticks: int) -> None:
    # "Old timestamps": the request's time serves diagnostics only (Part 4 7.33); 1601, 9999 and beyond are served.
    header = ua.RequestHeader(RequestHandle=7)
    encoded = request("ReadRequest", raw.token, struct_to_binary(read_of(1)), header)
    stamp = struct.pack("<q", ua.datetime_to_win_epoch(header.Timestamp))
    assert encoded.count(stamp) == 1
    assert await answer_to(raw, encoded.replace(stamp, struct.pack("<q", ticks))) == CODES.Good


async def test_h26_what_cannot_be_read_is_answered(raw: Raw) -> None:
    good = request("ReadRequest", raw.token, struct_to_binary(read_of(2)))
    unknown = good.replace(good[:4], b"\x01\0" + struct.pack("<H", 12_345), 1)
    assert await answer_to(raw, unknown) == CODES.BadServiceUnsupported
    for body in (good[:-1], good + b"\0", good[:60], good[:3], b"\xff", good[:4] + b"\xff" * 50):
        assert await answer_to(raw, body) == CODES.BadDecodingError
    assert (await raw.read(STATE)).StatusCode.is_good()


def nested(levels: int) -> bytes:
    return b"\x98\x01\0\0\0" * levels + b"\0"


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        pytest.param(nested(101), CODES.BadEncodingLimitsExceeded, id="H27 variants"),
        pytest.param(nested(300_000), CODES.BadEncodingLimitsExceeded, id="H27 deep"),
        pytest.param(b"\x17\x01" * 200_000 + b"\0", CODES.BadEncodingLimitsExceeded, id="H27 data values"),
        pytest.param(b"\x19" + b"\x40" * 200_000 + b"\0", CODES.BadDecodingError, id="H27 diagnostics"),
        pytest.param(b"\x8b\xff\xff\xff\x7f", CODES.BadEncodingLimitsExceeded, id="H28 2^31-1"),
        pytest.param(b"\x8b\xfe\xff\xff\xff", CODES.BadDecodingError, id="H28 -2"),
        pytest.param(b"\x81" + struct.pack("<i", 65_537) + bytes(65_537), CODES.BadEncodingLimitsExceeded, id="H28"),
        pytest.param(b"\xc1\x01\0\0\0\x01" + struct.pack("<3i", 2, 65_536, 65_536), CODES.BadDecodingError,
                     id="H28 dimensions"),
        pytest.param(b"\x0c\x02\0\0\0\xc0\x80", CODES.BadDecodingError, id="H29 overlong"),
        pytest.param(b"\x0c\x03\0\0\0\xed\xa0\x80", CODES.BadDecodingError, id="H29 surrogate"),
        pytest.param(b"\x0c" + struct.pack("<i", 1_500_000) + b"a" * 1_500_000, CODES.BadEncodingLimitsExceeded,
                     id="H29 long"),
        pytest.param(b"\x16\x01\0\x75\x03\x02" + struct.pack("<i", 40) + b"<!DOCTYPE a [<!ENTITY b 'bbbbbbbbbbbbb'>",
                     CODES.BadDecodingError, id="H30 XML"),
        pytest.param(b"\x16\x01\0\x75\x03\x01\xff\xff\xff\xff", CODES.BadDecodingError, id="H30 no length"),
        pytest.param(b"\x98" + struct.pack("<i", 65_000) + bytes(65_000) , CODES.Good, id="nulls"),
    ],
)  # fmt: skip
async def test_a_malformed_body_is_answered_and_costs_little(raw: Raw, variant: bytes, expected: int) -> None:
    assert await write_refusal(raw, variant) == expected
    assert (await raw.read(STATE)).StatusCode.is_good()


async def test_two_megabytes_of_nulls_do_not_hold_the_loop(bench: Target, raw: Raw) -> None:
    # 32 arrays of 65,000 null Variants: two million objects and six seconds of decoding, or one look.
    array = b"\x98" + struct.pack("<i", 65_000) + bytes(65_000)
    before = bench.cpu
    for _ in range(many(3, 30)):
        assert await write_refusal(raw, b"\x98" + struct.pack("<i", 31) + array * 31) == CODES.BadEncodingLimitsExceeded
    assert bench.cpu - before < 3.0


async def test_h29_h40_text_of_a_record_is_kept_as_it_is_or_refused(raw: Raw, bench: Target) -> None:
    # Control signs and changed reading order would show another text than was signed; ids are by allow-list.
    for name in ("B\0", "B\x1b[31m", "B\u202e1", "../../etc", "'; DROP TABLE batch;--", "=cmd|' /C calc'!A0", "<b>",
                 "%s%n", "{0.__class__}", "x" * 65, ""):  # fmt: skip
        assert (await create_batch(raw, name)).value == CODES.BadInvalidArgument, name
    text = "{0.__class__} %n =cmd|' /C calc'!A0 ../../etc '; DROP TABLE lot;-- <script> [red]"
    answer = await raw.call(context_call("SampleId", text))
    assert answer.Results[0].StatusCode.is_good()
    assert (await raw.read(nid("EN01.Stream01.Context.SampleId"))).Value.Value == text
    assert len(logged(bench, text)) == 3  # as it came: what is signed is what was typed
    assert (await raw.call(context_call("SampleId", "\x1b[31m"))).Results[
        0
    ].StatusCode.value == CODES.BadInvalidArgument
    assert "\x1b" not in bench.running.log.read_text()


async def create_batch(raw: Raw, name: str, lot: str = "LOT") -> ua.StatusCode:
    arguments = [ua.Variant(x) for x in (name, "PROBE", "", lot, 1.0)]
    call = ua.CallMethodRequest(
        ObjectId=nid("L01.BatchControl"), MethodId=nid("L01.BatchControl.CreateBatch"), InputArguments=arguments
    )
    return (await raw.call(ua.CallRequest(Parameters=ua.CallParameters(MethodsToCall=[call])))).Results[0].StatusCode


# -- services


def read_of(count: int) -> ua.ReadParameters:
    nodes = [ua.ReadValueId(NodeId=STATE, AttributeId=13) for _ in range(count)]
    return ua.ReadParameters(TimestampsToReturn=ua.TimestampsToReturn.Both, NodesToRead=nodes)


@pytest.mark.parametrize("count", [0, LIMITS.nodes, LIMITS.nodes + 1, 30_000])
async def test_h31_a_request_has_its_number_of_operations(raw: Raw, count: int) -> None:
    expected = CODES.BadNothingToDo if not count else CODES.BadTooManyOperations if count > LIMITS.nodes else CODES.Good
    assert (await refusal(raw.call(ua.ReadRequest(Parameters=read_of(count)))) or CODES.Good) == expected
    calls = [ua.CallMethodRequest(ObjectId=STATE, MethodId=STATE)] * count
    if count > LIMITS.nodes or not count:
        assert await refusal(raw.call(ua.CallRequest(Parameters=ua.CallParameters(MethodsToCall=calls)))) == expected
        browses = [ua.BrowseDescription(NodeId=STATE)] * count
        assert await refusal(raw.call(ua.BrowseRequest(Parameters=ua.BrowseParameters(NodesToBrowse=browses)))) == (
            expected
        )


@pytest.mark.parametrize(
    ("elements", "expected"),
    [(0, CODES.BadNothingToDo), (LIMITS.path_elements + 1, CODES.BadTooManyOperations), (60, CODES.BadNoMatch)],
)
async def test_h32_a_path_is_bounded(raw: Raw, elements: int, expected: int) -> None:
    # "Path recursion": up and down between two nodes again and again.
    steps = [
        ua.RelativePathElement(
            ReferenceTypeId=ua.NodeId(ua.ObjectIds.References),
            IsInverse=bool(i % 2),
            IncludeSubtypes=True,
            TargetName=ua.QualifiedName("Root" if i % 2 else "Nowhere"),
        )
        for i in range(elements)
    ]
    path = ua.BrowsePath(StartingNode=ua.NodeId(ua.ObjectIds.RootFolder), RelativePath=ua.RelativePath(Elements=steps))
    parameters = ua.TranslateBrowsePathsToNodeIdsParameters(BrowsePaths=[path] * LIMITS.browse_paths)
    results = (await raw.call(ua.TranslateBrowsePathsToNodeIdsRequest(Parameters=parameters))).Results
    assert {int(r.StatusCode.value) for r in results} == {expected}


async def test_h33_continuation_points_are_few_and_ones_own(bench: Target, raw: Raw) -> None:
    def browse(count: int) -> ua.BrowseRequest:
        wanted = [
            ua.BrowseDescription(
                NodeId=ua.NodeId(ua.ObjectIds.Server), IncludeSubtypes=True, NodeClassMask=0, ResultMask=63
            )
        ]
        parameters = ua.BrowseParameters(RequestedMaxReferencesPerNode=1, NodesToBrowse=wanted * count)
        return ua.BrowseRequest(Parameters=parameters)

    results = (await raw.call(browse(100))).Results
    points = [r.ContinuationPoint for r in results if r.ContinuationPoint]
    assert len(points) == LIMITS.continuation_points
    assert results[-1].StatusCode.value == CODES.BadNoContinuationPoints

    async def next_of(client: Raw, point: bytes) -> int:
        parameters = ua.BrowseNextParameters(ReleaseContinuationPoints=True, ContinuationPoints=[point])
        answer = await client.call(ua.BrowseNextRequest(Parameters=parameters))
        return int(answer.Parameters.Results[0].StatusCode.value)

    async with Raw(bench) as thief:
        await thief.login()
        assert await next_of(thief, points[0]) == CODES.BadContinuationPointInvalid
    assert await next_of(raw, secrets.token_bytes(16)) == CODES.BadContinuationPointInvalid
    assert await next_of(raw, points[0]) == CODES.Good


async def test_h34_history_is_read_in_pages(raw: Raw) -> None:
    def history(start: datetime, end: datetime, count: int = 0, point: bytes | None = None) -> ua.HistoryReadRequest:
        details = ua.ReadRawModifiedDetails(
            IsReadModified=False, StartTime=start, EndTime=end, NumValuesPerNode=count, ReturnBounds=False
        )
        node = ua.HistoryReadValueId(NodeId=VALUE, ContinuationPoint=point)
        parameters = ua.HistoryReadParameters(
            HistoryReadDetails=details, TimestampsToReturn=ua.TimestampsToReturn.Both, NodesToRead=[node]
        )
        return ua.HistoryReadRequest(Parameters=parameters)

    now = datetime.now(UTC)
    past = now - timedelta(days=50 * 365)
    spans = [(past, now), (now, past), (now, now), (past, now)]
    asked = [raw.write(history(*span)) for span in spans * 5]
    for number in asked:
        answer = await raw.answer(number, "HistoryReadResponse")
        if answer.ResponseHeader.ServiceResult.value == CODES.BadTooManyOperations:
            continue  # more at once than a session may have
        for result in answer.Results:
            assert len(result.HistoryData.DataValues or []) <= LIMITS.history_page if result.HistoryData else True
    forged = await raw.call(history(past, now, point=secrets.token_bytes(16)))
    assert forged.Results[0].StatusCode.value == CODES.BadContinuationPointInvalid


async def test_h35_measured_values_and_limits_are_not_written(raw: Raw) -> None:
    for value in (float("nan"), float("inf"), [1.0], "x", None):
        item = ua.WriteValue(NodeId=VALUE, AttributeId=13, Value=ua.DataValue(ua.Variant(value)))
        answer = await raw.call(ua.WriteRequest(Parameters=ua.WriteParameters(NodesToWrite=[item])))
        assert answer.Results[0].value in (CODES.BadNotWritable, CODES.BadUserAccessDenied)


async def test_h36_subscriptions_are_revised_counted_and_freed(bench: Target) -> None:
    # "Persistent subscriptions": what a closed session leaves behind must end.
    for _ in range(3):
        async with Raw(bench) as raw:
            await raw.login()
            extreme = {"RequestedLifetimeCount": 2**32 - 1, "RequestedMaxKeepAliveCount": 2**32 - 1}
            for asked in (0.0, -1.0, float("nan"), 1e-9, 1e300):
                made = await raw.subscribe(asked, **extreme)
                low, high = LIMITS.publishing_interval
                assert low <= made.RevisedPublishingInterval <= high
                assert made.RevisedLifetimeCount <= LIMITS.lifetime
                assert 3 * made.RevisedMaxKeepAliveCount <= made.RevisedLifetimeCount
            for _ in range(LIMITS.subscriptions_per_session - 5):
                await raw.subscribe(1000.0)
            assert await refusal(raw.subscribe(1000.0)) == CODES.BadTooManySubscriptions
            item = await raw.monitor(made.SubscriptionId, VALUE, QueueSize=2**32 - 1)
            assert item.RevisedQueueSize <= LIMITS.queue
            await raw.call(ua.CloseSessionRequest(DeleteSubscriptions=True))


async def test_h37_publish_requests_are_few(raw: Raw) -> None:
    number = (await raw.subscribe(1000.0)).SubscriptionId
    asked = [raw.write(ua.PublishRequest()) for _ in range(many(500, 10_000))]
    codes = [(await raw.answer(n, "PublishResponse")).ResponseHeader.ServiceResult.value for n in asked[:50]]
    assert CODES.BadTooManyPublishRequests in codes
    acknowledgement = ua.SubscriptionAcknowledgement(SubscriptionId=number, SequenceNumber=2**31)
    raw.write(ua.PublishRequest(Parameters=ua.PublishParameters(SubscriptionAcknowledgements=[acknowledgement] * 100)))
    for sequence in range(many(300, 30_000)):
        parameters = ua.RepublishParameters(SubscriptionId=number, RetransmitSequenceNumber=1000 + sequence)
        assert await refusal(raw.call(ua.RepublishRequest(Parameters=parameters))) == CODES.BadMessageNotAvailable


async def test_a_client_that_does_not_read_is_served_no_further(bench: Target) -> None:
    # "Worker starvation": answers pile up for one, and the others wait.
    before = bench.memory
    async with Raw(bench) as raw:
        await raw.login()
        raw.writer.transport.pause_reading()
        for _ in range(many(300, 3000)):
            raw.write(ua.ReadRequest(Parameters=read_of(LIMITS.nodes)))
        await asyncio.sleep(2)
        assert bench.memory - before < 64 * MIB


async def test_h38_calls_of_a_client_that_leaves_are_bounded(bench: Target) -> None:
    for _ in range(3):
        async with Raw(bench) as raw:
            await raw.login()
            call = ua.CallMethodRequest(ObjectId=nid("EN01.MethodSet"), MethodId=nid("EN01.MethodSet.GetConfiguration"))
            for _ in range(many(100, 10_000)):
                raw.write(ua.CallRequest(Parameters=ua.CallParameters(MethodsToCall=[call] * LIMITS.method_calls)))
            with contextlib.suppress(ConnectionError):  # cut off, as one that does not read its answers
                await raw.writer.drain()


async def test_h38_a_flood_of_condition_refreshes_is_bounded(raw: Raw) -> None:
    number = (await raw.subscribe(1000.0)).SubscriptionId
    refresh = ua.CallMethodRequest(
        ObjectId=ua.NodeId(ua.ObjectIds.ConditionType),
        MethodId=ua.NodeId(ua.ObjectIds.ConditionType_ConditionRefresh),
        InputArguments=[ua.Variant(number, ua.VariantType.UInt32)],
    )
    request_ = ua.CallParameters(MethodsToCall=[refresh] * LIMITS.method_calls)
    codes = set()
    for _ in range(many(10, 200)):
        codes |= {int(r.StatusCode.value) for r in (await raw.call(ua.CallRequest(Parameters=request_))).Results}
    assert codes <= {CODES.Good, CODES.BadRefreshInProgress, CODES.BadTooManyOperations}


@pytest.mark.parametrize(
    "name",
    ["RegisterServerRequest", "RegisterServer2Request", "AddNodesRequest", "DeleteNodesRequest",
     "AddReferencesRequest", "DeleteReferencesRequest"],
)  # fmt: skip
async def test_h39_nobody_changes_what_the_server_is(bench: Target, raw: Raw, name: str) -> None:
    for _ in range(many(30, 2000)):
        assert await refusal(raw.call(getattr(ua, name)())) in (CODES.BadServiceUnsupported, CODES.BadUserAccessDenied)
    async with Raw(bench, policy=None) as anybody:
        await anybody.open()
        assert await refusal(anybody.call(getattr(ua, name)())) == CODES.BadServiceUnsupported


@pytest.mark.timeout(many(300, 7200))
async def test_h20_guesses_lock_their_source_out_and_look_alike(bench: Target) -> None:
    # Unknown names have no account to lock: who tries five of them is locked, and each further guess costs nothing.
    # Checking a password takes its time on purpose, and so does the refusal of who is locked out.
    async def guess(user: str, password: str) -> tuple[int | None, float]:
        async with Raw(bench) as raw:
            await raw.open()
            await raw.create_session()
            started = time.monotonic()
            status = await refusal(raw.activate(raw.password_token(user, password)))
            return status, time.monotonic() - started

    async def guess_all(count: int) -> list[tuple[int | None, float]]:
        return [await guess("anna", "guess") for _ in range(count)]

    guesses = [await guess(f"nobody{i}", "guess") for i in range(5)]
    for tried in await asyncio.gather(*(guess_all(many(2, 1000)) for _ in range(10))):
        guesses += tried
    assert {status for status, _ in guesses} == {CODES.BadUserAccessDenied}
    assert min(took for _, took in guesses) > 0.01  # as long as a password takes, locked or not
    with sqlite3.connect(bench.running.data / "enose.db") as database:
        count = "SELECT count(*) FROM audit_entry WHERE action = 'user.lockout'"
        [(locks,)] = database.execute(count).fetchall()
    assert locks >= 2  # the application and the address
    assert "locked after 5 failed logins" in bench.running.log.read_text()
    if FLOOD:  # each failure has doubled the lock: it holds for longer than anybody waits
        assert (await guess("anna", "anna-password"))[0] == CODES.BadUserAccessDenied
        return
    deadline = time.monotonic() + 60
    while (await guess("anna", "anna-password"))[0] is not None:  # the lock of two seconds is over
        assert time.monotonic() < deadline
        await asyncio.sleep(0.5)


# -- what is left of it all


async def test_the_flood_stands_in_the_audit_log_once_a_minute(bench: Target) -> None:
    # Anybody on the network can cause a refusal; the audit trail must not grow with the packets.
    with sqlite3.connect(bench.running.data / "enose.db") as database:
        rows = database.execute(
            "SELECT ts, action || ' ' || outcome FROM audit_entry WHERE action IN ('security.channel',"
            " 'security.certificate', 'security.connections') AND outcome <> 'Good'"
        ).fetchall()
    assert rows
    for kind in {kind for _, kind in rows}:
        times = sorted(ts for ts, other in rows if other == kind)
        # Two kinds of act share an action; each is told once, and at the end of the minute how often it was.
        assert all(later - earlier >= 59 * 10**9 for earlier, later in zip(times, times[4:], strict=False))
