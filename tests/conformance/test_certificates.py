"""Push model of certificate management (Part 12 7.8, 7.10): who may, what counts when, what a refusal leaves."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import struct_from_binary, struct_to_binary
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import NameOID

from nodesets.methods import MASK
from nodesets.model import Role
from opcua_server import pki, security
from opcua_server.services import certificates
from tests.conformance.events import event_filter, of_type
from tests.conformance.opcua import SERVER_URI, Application, Bench, Raw, Refused, Users, application, key, serve
from tests.conformance.plant import Plant

pytestmark = pytest.mark.asyncio(loop_scope="module")

IDS, T, CODES = ua.ObjectIds, ua.VariantType, ua.StatusCodes
EMPTIED = (*security.LISTS.values(), "rejected/certs")
CONFIGURATION = ua.NodeId(IDS.ServerConfiguration)
LIST = "ServerConfiguration_CertificateGroups_DefaultApplicationGroup_TrustList"
GROUP, RSA = certificates.GROUP, certificates.CERTIFICATE_TYPE
NULL = ua.NodeId()
READ, WRITE = 1, 6
GOOD = 0


def string(value: str | None) -> ua.Variant:
    return ua.Variant(value, T.String)


def octets(value: bytes | None) -> ua.Variant:
    return ua.Variant(value, T.ByteString)


def number(value: int) -> ua.Variant:
    return ua.Variant(value, T.UInt32)


def boolean(value: bool) -> ua.Variant:
    return ua.Variant(value, T.Boolean)


def node(value: ua.NodeId) -> ua.Variant:
    return ua.Variant(value, T.NodeId)


async def push(raw: Any, name: str, *arguments: ua.Variant) -> ua.CallMethodResult:
    """A method of ServerConfiguration, or `TrustList.Open` and the like of the trust list."""
    on_list = name.startswith("TrustList.")
    path = name.replace("TrustList.", f"{LIST}_") if on_list else f"ServerConfiguration_{name}"
    request = ua.CallMethodRequest(
        ObjectId=certificates.TRUST_LIST if on_list else CONFIGURATION,
        MethodId=ua.NodeId(getattr(IDS, path)),
        InputArguments=list(arguments),
    )
    return (await raw.call(ua.CallRequest(Parameters=ua.CallParameters(MethodsToCall=[request])))).Results[0]


async def code(raw: Any, name: str, *arguments: ua.Variant) -> int:
    return int((await push(raw, name, *arguments)).StatusCode.value)


async def outputs(raw: Any, name: str, *arguments: ua.Variant) -> list[Any]:
    result = await push(raw, name, *arguments)
    result.StatusCode.check()
    return [v.Value for v in result.OutputArguments]


async def shown(raw: Any, name: str) -> Any:
    return await raw.read(ua.NodeId(getattr(IDS, name)))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    roles = {
        "sec": frozenset({Role.SECURITY_ADMIN}),
        "sec2": frozenset({Role.SECURITY_ADMIN}),
        "anna": frozenset({Role.OPERATOR, Role.CONFIGURE_ADMIN, Role.QA, Role.ENGINEER}),
    }
    async with serve(tmp_path_factory.mktemp("push"), users=Users(roles), managed=True) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def bench(served: Bench) -> AsyncIterator[Bench]:
    """The server with the certificate and the trust list it began with, and nobody on it."""
    first = served.identity
    yield served
    assert served.own is not None
    for caller in served.server.sessions():
        served.server.close_sessions(caller.user)
    root = served.data_dir / "pki"
    left = [f"{folder}/{file.name}" for folder in EMPTIED for file in (root / folder).iterdir()]
    pki.carry_out(root, first.files, [security.REQUESTED_FILE, *left])
    served.trust(served.client)
    served.identity = served.own.renewed() or first
    served.server.renew(served.identity)
    served.told.clear()


@asynccontextmanager
async def session(bench: Bench, user: str = "sec", **further: Any) -> AsyncIterator[Raw]:
    async with Raw(bench, **further) as raw:
        yield await raw.login(user)


@asynccontextmanager
async def recovered(bench: Bench, lost: Raw, user: str) -> AsyncIterator[Raw]:
    """The session of a channel the server has closed, on a new one."""
    with pytest.raises(Refused):
        await lost.answer(0, "")
    async with Raw(current(bench)) as raw:
        await raw.open()
        raw.token, raw.server_nonce = lost.token, lost.server_nonce
        await raw.activate(raw.password_token(user, f"{user}-password"))
        yield raw


def current(bench: Bench) -> Bench:
    """The bench as clients find it after its certificate was changed."""
    bench.identity = bench.server.identity
    return bench


# -- certificates to push


def authority(name: str = "Plant CA", at: int = 20) -> Application:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(subject, subject, key(at).public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=9))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    )
    return Application(made.sign(key(at), hashes.SHA256()), key(at), "")


def own(secret: rsa.RSAPrivateKey) -> x509.Certificate:
    return security.self_signed(secret, SERVER_URI, ["localhost"])


def issued(ca: Application, public: Any, uri: str = SERVER_URI, days: int = 9, name: str = "enose") -> x509.Certificate:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(ca.certificate.subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=10))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri), x509.DNSName("localhost")]),
            critical=False,
        )
        .sign(ca.key, hashes.SHA256())
    )


def crl(ca: Application, *revoked: x509.Certificate) -> bytes:
    now = datetime.now(UTC)
    builder = x509.CertificateRevocationListBuilder(ca.certificate.subject, now, now + timedelta(days=9))
    for certificate in revoked:
        entry = x509.RevokedCertificateBuilder(certificate.serial_number, now)
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(ca.key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


def pem(secret: rsa.RSAPrivateKey) -> bytes:
    return secret.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def update(
    certificate: bytes, form: str = "", secret: bytes = b"", group: ua.NodeId = GROUP, kind: ua.NodeId = RSA
) -> tuple[ua.Variant, ...]:
    """Arguments of UpdateCertificate."""
    return (
        node(group), node(kind), octets(certificate), ua.Variant([], T.ByteString, is_array=True),
        string(form), octets(secret),
    )  # fmt: skip


def ask(fresh: bool, name: str | None = None, nonce: bytes | None = b"n" * 32) -> tuple[ua.Variant, ...]:
    """Arguments of CreateSigningRequest."""
    return node(GROUP), node(RSA), string(name), boolean(fresh), octets(nonce)


def lists(**given: list[bytes]) -> bytes:
    """A trust list as a client writes it: only what is given."""
    names = {name: field for name, field in certificates.FIELDS.items() if name in given}
    mask = sum(certificates.MASKS[name] for name in names)
    data = ua.TrustListDataType(SpecifiedLists=mask, **{field: given[name] for name, field in names.items()})
    return bytes(struct_to_binary(data))


async def write_list(raw: Raw, data: bytes) -> ua.CallMethodResult:
    """Open, Write, CloseAndUpdate."""
    [handle] = await outputs(raw, "TrustList.Open", ua.Variant(WRITE, T.Byte))
    assert await code(raw, "TrustList.Write", number(handle), octets(data)) == GOOD
    return await push(raw, "TrustList.CloseAndUpdate", number(handle))


async def read_list(raw: Raw, opened: str = "TrustList.Open", how: ua.Variant | None = None) -> Any:
    """TrustListDataType, read in pieces of a hundred bytes until there are no more (Part 20 4.2.4)."""
    [handle] = await outputs(raw, opened, how or ua.Variant(READ, T.Byte))
    data = b""
    while piece := (await outputs(raw, "TrustList.Read", number(handle), ua.Variant(100, T.Int32)))[0]:
        data += piece
    assert await code(raw, "TrustList.Close", number(handle)) == GOOD
    return struct_from_binary(ua.TrustListDataType, Buffer(data))


# -- who may


CALLS: list[tuple[str, tuple[ua.Variant, ...]]] = [
    ("UpdateCertificate", update(b"x")),
    ("CreateSigningRequest", ask(False)),
    ("GetRejectedList", ()),
    ("ApplyChanges", ()),
    ("CancelChanges", ()),
    ("TrustList.Open", (ua.Variant(READ, T.Byte),)),
    ("TrustList.OpenWithMasks", (number(15),)),
    ("TrustList.Close", (number(1),)),
    ("TrustList.Read", (number(1), ua.Variant(10, T.Int32))),
    ("TrustList.Write", (number(1), octets(b"x"))),
    ("TrustList.GetPosition", (number(1),)),
    ("TrustList.SetPosition", (number(1), ua.Variant(0, T.UInt64))),
    ("TrustList.CloseAndUpdate", (number(1),)),
    ("TrustList.AddCertificate", (octets(b"x"), boolean(True))),
    ("TrustList.RemoveCertificate", (string("00"), boolean(True))),
]


async def test_who_administers_no_security_changes_no_certificate(bench: Bench) -> None:
    # 7.10.5 and all others: SecurityAdmin alone; an administrator of anything else is nobody here.
    async with session(bench, "anna") as raw:
        assert {name: await code(raw, name, *arguments) for name, arguments in CALLS} == {
            name: CODES.BadUserAccessDenied for name, _ in CALLS
        }


async def test_nothing_is_managed_without_encryption(plant: Plant) -> None:
    # 7.10.5: a private key in an argument must not be seen on the way, nor a trust list be swapped there.
    async with plant.session("None", "sec1") as talk:
        assert {name: await code(talk, name, *arguments) for name, arguments in CALLS} == {
            name: CODES.BadSecurityModeInsufficient for name, _ in CALLS
        }


async def test_trust_lists_are_read_by_security_administrators_alone(bench: Bench) -> None:
    # 7.10.4: what the standard has below CertificateGroups everybody sees, what it holds nobody else.
    async with session(bench, "anna") as raw, session(bench) as admin:
        for name in LIST_VARIABLES:
            assert (await shown(raw, f"{LIST}_{name}")).StatusCode.value == CODES.BadUserAccessDenied
            assert (await shown(admin, f"{LIST}_{name}")).StatusCode.value != CODES.BadUserAccessDenied


async def children(raw: Raw, parent: ua.NodeId) -> list[str]:
    described = ua.BrowseDescription(
        NodeId=parent, BrowseDirection=ua.BrowseDirection.Forward, ReferenceTypeId=ua.NodeId(IDS.HasChild),
        IncludeSubtypes=True, NodeClassMask=0, ResultMask=63,
    )  # fmt: skip
    answer = await raw.call(ua.BrowseRequest(Parameters=ua.BrowseParameters(NodesToBrowse=[described])))
    return [r.BrowseName.Name for r in answer.Results[0].References]


async def test_every_method_below_server_configuration_is_answered(bench: Bench) -> None:
    # 7.10.3: an optional node that is there and does nothing is a broken promise.
    async with session(bench) as raw:
        names = await children(raw, CONFIGURATION)
        left_out = {"ResetToServerDefaults", "ConfigurationFile", "KeyCredentialConfiguration", "UserManagement"}
        assert not left_out & set(names)
        answers = {name: await code(raw, name, *arguments) for name, arguments in CALLS}
        assert CODES.BadNotImplemented not in answers.values()
        listed = [name for name in names if name not in VARIABLES] + await children(raw, certificates.TRUST_LIST)
        methods = {name.removeprefix("TrustList.") for name, _ in CALLS}
        assert {n for n in listed if n not in LIST_VARIABLES} == methods | {
            "CertificateGroups",
            "TransactionDiagnostics",
        }


VARIABLES = {
    "ApplicationUri", "ProductUri", "ApplicationType", "ServerCapabilities", "SupportedPrivateKeyFormats",
    "MaxTrustListSize", "MulticastDnsEnabled", "HasSecureElement",
}  # fmt: skip
LIST_VARIABLES = {"Size", "Writable", "UserWritable", "OpenCount", "LastUpdateTime"}


async def test_the_object_says_what_can_be_pushed(bench: Bench) -> None:
    # 7.10.3, 7.8.2.1: a certificate manager reads these before it begins.
    async with session(bench) as raw:
        found = {name: (await shown(raw, f"ServerConfiguration_{name}")).Value.Value for name in VARIABLES}
        assert found["ApplicationUri"] == SERVER_URI
        assert found["SupportedPrivateKeyFormats"] == ["PEM", "PFX"]
        assert found["MaxTrustListSize"] == certificates.MAX_TRUST_LIST
        assert (found["MulticastDnsEnabled"], found["HasSecureElement"]) == (False, False)
        assert found["ServerCapabilities"] == ["DA", "HD", "AC"]
        types = await shown(raw, LIST.replace("TrustList", "CertificateTypes"))
        assert types.Value.Value == [RSA]
        assert (await shown(raw, f"{LIST}_Size")).StatusCode.value == CODES.BadNotSupported
        assert (await shown(raw, f"{LIST}_Writable")).Value.Value is True
        changed = (await shown(raw, f"{LIST}_LastUpdateTime")).Value.Value
        assert abs(changed - datetime.now(UTC).replace(tzinfo=changed.tzinfo)) < timedelta(minutes=5)


# -- the certificate


async def test_a_signed_request_becomes_the_certificate_clients_see(bench: Bench) -> None:
    # 7.10.10, 7.10.5, 7.10.9: the way a certificate manager renews; the key never leaves the server.
    ca = authority()
    async with session(bench) as raw:
        [request] = await outputs(raw, "CreateSigningRequest", *ask(True, "CN=enose/O=Acme"))
        asked = x509.load_der_x509_csr(request)
        assert asked.is_signature_valid
        assert asked.subject.rfc4514_string() == "O=Acme,CN=enose"
        assert asked.extensions.get_extension_for_class(x509.SubjectAlternativeName).value == (
            bench.identity.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        )
        assert asked.public_key() != bench.identity.key.public_key()
        assert (await write_list(raw, lists(issuers=[ca.der], issuer_crls=[crl(ca)]))).StatusCode.value == GOOD
        new = issued(ca, asked.public_key())
        assert await outputs(raw, "UpdateCertificate", *update(der(new))) == [True]
        assert bench.server.identity is bench.identity  # nothing counts before ApplyChanges
        assert await code(raw, "ApplyChanges") == GOOD
        assert bench.server.identity.certificate == new
        with pytest.raises(Refused) as closed:  # 7.10.9: to open its channel anew
            await raw.answer(0, "")
        assert closed.value.status == CODES.BadSecureChannelClosed
    root = bench.data_dir / "pki"
    assert (root / "own/private/enose.pem").stat().st_mode & 0o777 == 0o600
    assert not (root / "own/private/requested.pem").exists()
    assert security.load_identity(bench.data_dir, SERVER_URI, []).certificate == new
    async with session(current(bench), "anna") as raw:
        assert (await shown(raw, "Server_ServerStatus_State")).Value.Value == 0


async def test_sessions_outlive_their_channels(bench: Bench) -> None:
    # 7.10.9: a client recovers its session on a channel with the new certificate, as after a cut cable.
    new = own(key(30))
    async with session(bench) as admin, session(bench, "anna") as raw:
        assert await code(admin, "UpdateCertificate", *update(der(new), "PEM", pem(key(30)))) == GOOD
        assert await code(admin, "ApplyChanges") == GOOD
        async with recovered(bench, raw, "anna") as again:
            assert (await shown(again, "Server_ServerStatus_State")).Value.Value == 0


@pytest.mark.parametrize("form", ["PEM", "PFX"])
async def test_a_key_may_come_with_its_certificate_and_is_seen_nowhere(
    bench: Bench, form: str, caplog: pytest.LogCaptureFixture
) -> None:
    # 7.10.5 and R25: PKCS #8 or PKCS #12; it is written to its file and to nothing else.
    caplog.set_level(0)
    new = own(key(31))
    pfx = pkcs12.serialize_key_and_certificates(b"", key(31), new, None, serialization.NoEncryption())
    secret = pem(key(31)) if form == "PEM" else pfx
    async with session(bench) as raw:
        assert await code(raw, "UpdateCertificate", *update(der(new), form, secret)) == GOOD
        assert await code(raw, "ApplyChanges") == GOOD
    assert bench.server.identity.key.private_numbers() == key(31).private_numbers()
    assert MASK in str(next(note.new for note in bench.told if note.action == "call"))
    for place in (str(bench.told), caplog.text):
        assert not [sign for sign in (secret.hex(), repr(secret)[2:60], "PRIVATE KEY") if sign in place]


@pytest.mark.parametrize(
    ("arguments", "refusal"),
    [
        (lambda: update(b"rubbish"), CODES.BadCertificateInvalid),
        (lambda: update(b""), CODES.BadCertificateInvalid),
        (
            lambda: update(der(own(key(32)))),
            CODES.BadSecurityChecksFailed,
        ),
        (
            lambda: update(der(own(key(32))), "PEM", pem(key(33))),
            CODES.BadSecurityChecksFailed,
        ),
        (lambda: update(der(own(key(32))), "PEM", b"rubbish"), CODES.BadNotSupported),
        (lambda: update(der(own(key(32))), "JWK", pem(key(32))), CODES.BadNotSupported),
        (lambda: update(der(own(key(32))), "", pem(key(32))), CODES.BadNotSupported),
        (
            lambda: update(der(security.self_signed(key(32), "urn:other", [])), "PEM", pem(key(32))),
            CODES.BadCertificateUriInvalid,
        ),
        (
            lambda: update(der(issued(authority(), key(32).public_key())), "PEM", pem(key(32))),
            CODES.BadCertificateChainIncomplete,
        ),
        (
            lambda: update(der(own(key(34, 1024))), "PEM", pem(key(34, 1024))),
            CODES.BadCertificateInvalid,
        ),
        (lambda: update(b"x", group=ua.NodeId(IDS.Server)), CODES.BadInvalidArgument),
        (lambda: update(b"x", kind=ua.NodeId(IDS.HttpsCertificateType)), CODES.BadInvalidArgument),
    ],
    ids=["rubbish", "none", "foreign key", "wrong key", "no key", "no such format", "no format", "other application",
         "unknown issuer", "weak", "no such group", "no such type"],
)  # fmt: skip
async def test_a_certificate_that_cannot_be_used_changes_nothing(bench: Bench, arguments: Any, refusal: int) -> None:
    # 7.10.5: each refusal has its own code, and leaves no transaction behind (7.10.2).
    async with session(bench) as raw:
        assert await code(raw, "UpdateCertificate", *arguments()) == refusal
        assert await code(raw, "ApplyChanges") == CODES.BadNothingToDo
    assert bench.server.identity is bench.identity


async def test_a_revoked_certificate_is_not_taken(bench: Bench) -> None:
    # Part 4 6.1.3: the one error of revocation that is never suppressed.
    ca = authority()
    new = issued(ca, key(32).public_key())
    async with session(bench) as raw:
        assert (await write_list(raw, lists(issuers=[ca.der], issuer_crls=[crl(ca, new)]))).StatusCode.value == GOOD
        answer = await code(raw, "UpdateCertificate", *update(der(new), "PEM", pem(key(32))))
        assert answer == CODES.BadCertificateRevoked


async def test_an_expired_certificate_and_an_unknown_revocation_are_warnings(bench: Bench) -> None:
    # 7.10.5: what Part 4 lets be suppressed is; a clock that is wrong must not keep a certificate manager out.
    ca = authority()
    new = issued(ca, key(32).public_key(), days=-1)
    async with session(bench) as raw:
        assert (await write_list(raw, lists(issuers=[ca.der]))).StatusCode.value == GOOD
        assert await code(raw, "UpdateCertificate", *update(der(new), "PEM", pem(key(32)))) == GOOD


@pytest.mark.parametrize(
    "arguments",
    [ask(True, nonce=b"short"), ask(False, "DN=enose"), ask(False, "enose"), ask(False, "C=Germany")],
    ids=["little entropy", "no such name", "no name", "no country"],
)
async def test_a_request_that_cannot_be_signed_is_refused(bench: Bench, arguments: Any) -> None:
    # 7.10.10, 7.9.4.
    async with session(bench) as raw:
        assert await code(raw, "CreateSigningRequest", *arguments) == CODES.BadInvalidArgument


async def test_a_request_is_answered_in_another_session_and_after_a_later_one_is_not(bench: Bench) -> None:
    # 7.10.10: the new key pair is persisted; another request discards it.
    ca = authority()
    async with session(bench) as raw:
        assert await code(raw, "CreateSigningRequest", *ask(True)) == GOOD
        [request] = await outputs(raw, "CreateSigningRequest", *ask(True))
    async with session(bench, "sec2") as raw:
        assert (await write_list(raw, lists(issuers=[ca.der]))).StatusCode.value == GOOD
        new = issued(ca, x509.load_der_x509_csr(request).public_key())
        assert await code(raw, "UpdateCertificate", *update(der(new))) == GOOD
        [request] = await outputs(raw, "CreateSigningRequest", *ask(False))
        asked = x509.load_der_x509_csr(request)
        assert asked.public_key() == bench.identity.key.public_key()
        assert asked.subject == bench.identity.certificate.subject
        assert await code(raw, "UpdateCertificate", *update(der(new))) == CODES.BadSecurityChecksFailed


# -- transactions


async def test_one_session_changes_at_a_time(bench: Bench) -> None:
    # 7.10.2: what two had wanted together, nobody would have wanted.
    new = own(key(30))
    pushed = update(der(new), "PEM", pem(key(30)))
    async with session(bench) as raw, session(bench, "sec2") as other:
        assert await code(raw, "UpdateCertificate", *pushed) == GOOD
        assert await code(other, "UpdateCertificate", *pushed) == CODES.BadTransactionPending
        assert await code(other, "TrustList.Open", ua.Variant(WRITE, T.Byte)) == CODES.BadTransactionPending
        added = octets(application(5, "urn:new").der), boolean(True)
        assert await code(other, "TrustList.AddCertificate", *added) == CODES.BadTransactionPending
        assert await code(raw, "TrustList.AddCertificate", *added) == CODES.BadTransactionPending
        removed = string("00" * 20), boolean(True)
        assert await code(raw, "TrustList.RemoveCertificate", *removed) == CODES.BadTransactionPending
        assert await code(other, "ApplyChanges") == CODES.BadSessionIdInvalid
        assert await code(other, "CancelChanges") == CODES.BadSessionIdInvalid
        assert await code(raw, "CancelChanges") == GOOD
        assert await code(raw, "CancelChanges") == CODES.BadNothingToDo
        assert await code(other, "UpdateCertificate", *pushed) == GOOD
    assert bench.server.identity is bench.identity


async def test_what_a_session_left_undone_is_dropped_with_it(bench: Bench) -> None:
    # 7.10.9: nobody else finds a certificate half pushed, or a file that cannot be opened.
    new = own(key(30))
    async with session(bench) as raw:
        assert await code(raw, "UpdateCertificate", *update(der(new), "PEM", pem(key(30)))) == GOOD
        assert await code(raw, "TrustList.Open", ua.Variant(WRITE, T.Byte)) == GOOD
        await raw.call(ua.CloseSessionRequest(DeleteSubscriptions=True))
    async with session(bench, "sec2") as raw:
        assert (await shown(raw, f"{LIST}_OpenCount")).Value.Value == 0
        assert await code(raw, "ApplyChanges") == CODES.BadNothingToDo
        assert await code(raw, "TrustList.Open", ua.Variant(WRITE, T.Byte)) == GOOD
    assert bench.server.identity is bench.identity


DIAGNOSTICS = {
    name: f"ServerConfiguration_TransactionDiagnostics_{name}"
    for name in ("StartTime", "EndTime", "Result", "AffectedTrustLists", "AffectedCertificateGroups", "Errors")
}


async def test_before_the_first_transaction_there_are_no_diagnostics(plant: Plant) -> None:
    # 7.10.17.
    async with plant.session("Basic256Sha256", "sec1") as talk:
        for name in DIAGNOSTICS.values():
            assert (await shown(talk, name)).StatusCode.value == CODES.BadOutOfService


async def test_diagnostics_tell_of_the_last_transaction(bench: Bench) -> None:
    # 7.10.17: under way without a result, then with it.
    new, nodes = own(key(30)), DIAGNOSTICS
    async with session(bench) as raw:
        assert (await write_list(raw, lists(trusted=[bench.client.der]))).StatusCode.value == GOOD
        assert await code(raw, "UpdateCertificate", *update(der(new), "PEM", pem(key(30)))) == GOOD
        assert (await shown(raw, nodes["Result"])).StatusCode.value == CODES.BadInvalidState
        assert (await shown(raw, nodes["AffectedTrustLists"])).Value.Value == [certificates.TRUST_LIST]
        assert (await shown(raw, nodes["AffectedCertificateGroups"])).Value.Value == [GROUP]
        assert await code(raw, "CancelChanges") == GOOD
        assert (await shown(raw, nodes["Result"])).Value.Value.value == CODES.BadRequestCancelledByClient
        began, ended = [(await shown(raw, nodes[name])).Value.Value for name in ("StartTime", "EndTime")]
        assert began <= ended


async def test_what_no_longer_fits_together_is_not_applied(bench: Bench) -> None:
    # 7.10.2: ApplyChanges checks the whole; the issuer was taken out after the certificate had been looked at.
    ca = authority()
    new = issued(ca, key(32).public_key())
    async with session(bench) as raw:
        assert (await write_list(raw, lists(issuers=[ca.der]))).StatusCode.value == GOOD
        assert await code(raw, "UpdateCertificate", *update(der(new), "PEM", pem(key(32)))) == GOOD
        assert (await write_list(raw, lists(issuers=[], trusted=[]))).StatusCode.value == GOOD
        assert await code(raw, "ApplyChanges") == CODES.BadTransactionFailed
        errors = (await shown(raw, "ServerConfiguration_TransactionDiagnostics_Errors")).Value.Value
        assert [e.Error.value for e in errors] == [CODES.BadTransactionFailed]
        assert await code(raw, "ApplyChanges") == CODES.BadNothingToDo
        assert (await read_list(raw)).TrustedCertificates == [bench.client.der]
    assert bench.server.identity is bench.identity


async def test_what_somebody_accepted_meanwhile_is_not_taken_back(bench: Bench) -> None:
    # 7.10.2: `enose trust accept` between the two would silently be undone by the list as it was before.
    friend = application(5, "urn:new")
    async with session(bench) as raw:
        assert (await write_list(raw, lists(trusted=[bench.client.der]))).StatusCode.value == GOOD
        bench.trust(friend)
        assert await code(raw, "ApplyChanges") == CODES.BadTransactionFailed
        assert set((await read_list(raw)).TrustedCertificates) == {bench.client.der, friend.der}


async def test_auditors_are_told_what_was_asked_for_and_what_has_changed(bench: Bench) -> None:
    # 7.8.2.12, 7.8.2.13, 7.10.26, 7.10.27: the request when it is made, the change when it counts, each once.
    friend = application(5, "urn:new")
    async with session(bench) as raw, session(bench, "sec2") as auditor:
        number_ = (await auditor.subscribe()).SubscriptionId
        made = await auditor.monitor(
            number_,
            ua.NodeId(IDS.Server),
            ua.AttributeIds.EventNotifier,
            Filter=event_filter(["EventType", "SourceNode", "MethodId", "TrustListId", "CertificateGroup"],
                of_type(IDS.AuditUpdateMethodEventType)),
        )  # fmt: skip
        made.StatusCode.check()
        assert (await write_list(raw, lists(trusted=[bench.client.der, friend.der]))).StatusCode.value == GOOD
        assert await code(raw, "UpdateCertificate", *update(der(own(key(30))), "PEM", pem(key(30)))) == GOOD
        assert await code(raw, "ApplyChanges") == GOOD
        told: list[Any] = []
        async with recovered(bench, auditor, "sec2") as again:
            while len(told) < 6:
                told += [[field.Value for field in event] for event in await again.next_data()]
    apply = ua.NodeId(IDS.ServerConfiguration_ApplyChanges)
    method = {name: ua.NodeId(getattr(IDS, f"{LIST}_{name}")) for name in ("Open", "CloseAndUpdate")}
    updating = ua.NodeId(IDS.ServerConfiguration_UpdateCertificate)
    kinds = {
        name: ua.NodeId(getattr(IDS, f"{name}EventType"))
        for name in ("AuditUpdateMethod", "TrustListUpdateRequestedAudit", "CertificateUpdateRequestedAudit",
                     "TrustListUpdatedAudit", "CertificateUpdatedAudit")
    }  # fmt: skip
    assert sorted(told, key=repr) == sorted(
        [
            [kinds["AuditUpdateMethod"], certificates.TRUST_LIST, method["Open"], None, None],
            [kinds["TrustListUpdateRequestedAudit"], certificates.TRUST_LIST, method["CloseAndUpdate"], None, None],
            [kinds["CertificateUpdateRequestedAudit"], CONFIGURATION, updating, None, None],
            [kinds["TrustListUpdatedAudit"], CONFIGURATION, apply, certificates.TRUST_LIST, None],
            [kinds["CertificateUpdatedAudit"], CONFIGURATION, apply, None, GROUP],
            [kinds["AuditUpdateMethod"], CONFIGURATION, apply, None, None],
        ],
        key=repr,
    )
    changed = {note.action: note for note in bench.told if note.action.endswith(".update")}
    assert changed["trust.update"].new == {"added": [security.thumbprint(friend.der)]}
    assert changed["certificate.update"].record == f"certificate/{security.thumbprint(bench.server.identity.der)}"
    assert {note.caller.user for note in changed.values()} == {"sec"}


# -- the trust list


async def test_a_trust_list_is_written_and_read_as_a_file(bench: Bench) -> None:
    # 7.8.2: only lists that are named change; nothing counts before ApplyChanges, and readers see it so.
    ca, friend = authority(), application(5, "urn:new")
    async with session(bench) as raw:
        new = lists(trusted=[bench.client.der, friend.der], issuers=[ca.der], issuer_crls=[crl(ca)])
        result = await write_list(raw, new)
        assert [v.Value for v in result.OutputArguments] == [True]
        before = await read_list(raw)
        assert (before.TrustedCertificates, before.IssuerCertificates or []) == ([bench.client.der], [])
        assert await code(raw, "ApplyChanges") == GOOD
        after = await read_list(raw)
        assert set(after.TrustedCertificates) == {bench.client.der, friend.der}
        assert (after.IssuerCertificates, len(after.IssuerCrls)) == ([ca.der], 1)
        part = await read_list(raw, "TrustList.OpenWithMasks", number(4))
        assert (part.SpecifiedLists, part.IssuerCertificates) == (4, [ca.der])
        assert not part.TrustedCertificates
        assert await code(raw, "TrustList.OpenWithMasks", number(16)) == CODES.BadInvalidArgument
    async with session(bench, "anna", app=friend) as raw:
        assert (await shown(raw, "Server_ServerStatus_State")).Value.Value == 0


async def test_who_is_trusted_no_longer_is_out_at_once(bench: Bench) -> None:
    # 7.8.2.5: sessions and channels with a certificate that was taken out or revoked are closed; others go on.
    friend = application(5, "urn:new")
    bench.trust(friend)
    async with session(bench) as raw, session(bench, "anna", app=friend) as other:
        assert await code(raw, "TrustList.RemoveCertificate", string(sha1(friend)), boolean(True)) == GOOD
        with pytest.raises(Refused):
            await other.answer(0, "")
        assert [c.user for c in bench.server.sessions()] == ["sec"]
        assert await code(raw, "TrustList.RemoveCertificate", string(sha1(friend)), boolean(True)) == (
            CODES.BadInvalidArgument
        )


def sha1(app: Application) -> str:
    return app.certificate.fingerprint(hashes.SHA1()).hex().upper()


async def test_a_certificate_is_added_at_once_and_leaves_the_rejected(bench: Bench) -> None:
    # 7.8.2.6, 7.10.12: the way an administrator lets a new client in from its own rejected attempt.
    friend = application(5, "urn:new")
    with pytest.raises(ua.UaStatusCodeError):
        async with session(bench, "anna", app=friend):
            pass
    async with session(bench) as raw:
        assert await outputs(raw, "GetRejectedList") == [[friend.der]]
        assert await code(raw, "TrustList.AddCertificate", octets(friend.der), boolean(True)) == GOOD
        assert await outputs(raw, "GetRejectedList") == [[]]
        assert await code(raw, "ApplyChanges") == CODES.BadNothingToDo
    async with session(bench, "anna", app=friend) as raw:
        assert (await shown(raw, "Server_ServerStatus_State")).Value.Value == 0


async def test_what_is_added_has_to_be_valid(bench: Bench) -> None:
    # 7.8.2.6: authorities come with their revocation lists, by Write; a leaf only after its issuer.
    ca = authority()
    leaf = issued(ca, key(5).public_key(), "urn:new")
    async with session(bench) as raw:
        for certificate, trusted, refusal in (
            (b"rubbish", True, CODES.BadCertificateInvalid),
            (application(5, "urn:new").der, False, CODES.BadCertificateInvalid),
            (ca.der, True, CODES.BadCertificateInvalid),
            (der(leaf), True, CODES.BadCertificateChainIncomplete),
        ):
            answer = await code(raw, "TrustList.AddCertificate", octets(certificate), boolean(trusted))
            assert answer == refusal
        assert (await read_list(raw)).TrustedCertificates == [bench.client.der]


async def test_an_authority_others_need_stays_and_takes_its_revocations_along(bench: Bench) -> None:
    # 7.8.2.7.
    ca = authority()
    leaf = issued(ca, key(5).public_key(), "urn:new")
    name = ca.certificate.fingerprint(hashes.SHA1()).hex()
    new = lists(trusted=[bench.client.der, der(leaf)], issuers=[ca.der], issuer_crls=[crl(ca)])
    async with session(bench) as raw:
        assert (await write_list(raw, new)).StatusCode.value == GOOD
        assert await code(raw, "ApplyChanges") == GOOD
        refused = await code(raw, "TrustList.RemoveCertificate", string(name), boolean(False))
        assert refused == CODES.BadCertificateChainIncomplete
        thumbprint = leaf.fingerprint(hashes.SHA1()).hex()
        assert await code(raw, "TrustList.RemoveCertificate", string(thumbprint), boolean(True)) == GOOD
        assert await code(raw, "TrustList.RemoveCertificate", string(name), boolean(False)) == GOOD
        left = await read_list(raw)
        assert (left.IssuerCertificates or [], left.IssuerCrls or []) == ([], [])


@pytest.mark.parametrize(
    ("data", "refusal"),
    [
        (lambda: b"rubbish", CODES.BadDecodingError),
        (lambda: lists(trusted=[b"rubbish"]), CODES.BadCertificateInvalid),
        (lambda: lists(issuer_crls=[b"rubbish"]), CODES.BadCertificateInvalid),
        (lambda: lists(trusted=[der(issued(authority(), key(5).public_key()))]), CODES.BadCertificateChainIncomplete),
        (lambda: lists(trusted=[application(5).der * 2]), CODES.BadCertificateInvalid),
        (lambda: b"\x10\0\0\0" + b"\0" * 16, CODES.BadInvalidArgument),
        (lambda: lists(trusted=[application(5).der])[:-1], CODES.BadDecodingError),
    ],
    ids=["rubbish", "no certificate", "no revocation list", "no issuer", "a chain", "no such list", "cut"],
)
async def test_a_trust_list_that_is_not_valid_changes_nothing(bench: Bench, data: Any, refusal: int) -> None:
    # 7.8.2.5: the file is closed all the same, and the transaction is what it was.
    async with session(bench) as raw:
        assert (await write_list(raw, data())).StatusCode.value == refusal
        assert (await shown(raw, f"{LIST}_OpenCount")).Value.Value == 0
        assert await code(raw, "ApplyChanges") == GOOD
        assert (await read_list(raw)).TrustedCertificates == [bench.client.der]


async def test_modes_and_places_of_a_file(bench: Bench) -> None:
    # 7.8.2.2, Part 20 4.2: one writer or several readers, a handle is its session's alone.
    mode = {m: ua.Variant(m, T.Byte) for m in (0, 2, 3, READ, WRITE, 10)}
    async with session(bench) as raw, session(bench, "sec2") as other:
        for unsupported in (0, 2, 3, 10):
            assert await code(raw, "TrustList.Open", mode[unsupported]) == CODES.BadNotSupported
        [writing] = await outputs(raw, "TrustList.Open", mode[WRITE])
        assert await code(raw, "TrustList.Open", mode[WRITE]) == CODES.BadNotWritable
        assert await code(other, "TrustList.Open", mode[READ]) == CODES.BadNotReadable
        added = octets(application(5, "urn:new").der), boolean(True)
        assert await code(raw, "TrustList.AddCertificate", *added) == CODES.BadInvalidState
        assert await code(raw, "ApplyChanges") == CODES.BadInvalidState
        assert await code(raw, "TrustList.Read", number(writing), ua.Variant(1, T.Int32)) == CODES.BadInvalidState
        assert await code(other, "TrustList.Write", number(writing), octets(b"x")) == CODES.BadInvalidArgument
        assert await code(other, "TrustList.Close", number(writing)) == CODES.BadInvalidArgument
        assert await code(raw, "TrustList.Write", number(writing), octets(b"abc")) == GOOD
        assert await outputs(raw, "TrustList.GetPosition", number(writing)) == [3]
        assert await code(raw, "TrustList.SetPosition", number(writing), ua.Variant(99, T.UInt64)) == GOOD
        assert await outputs(raw, "TrustList.GetPosition", number(writing)) == [3]
        assert await code(raw, "TrustList.Close", number(writing)) == GOOD
        assert await code(raw, "ApplyChanges") == GOOD  # a transaction without changes ends well (7.10.9)
        [reading] = await outputs(raw, "TrustList.Open", mode[READ])
        assert await code(raw, "TrustList.Write", number(reading), octets(b"x")) == CODES.BadInvalidState
        assert await code(raw, "TrustList.CloseAndUpdate", number(reading)) == CODES.BadInvalidState
        assert await code(raw, "TrustList.Read", number(reading), ua.Variant(0, T.Int32)) == CODES.BadInvalidArgument
        assert await code(other, "TrustList.AddCertificate", *added) == CODES.BadNotWritable
        assert await code(other, "TrustList.Open", mode[WRITE]) == CODES.BadNotWritable
        assert await code(raw, "TrustList.Read", number(reading), ua.Variant(4, T.Int32)) == GOOD
        bench.trust(application(6, "urn:six"))  # by hand, in the folder
        changed = await code(raw, "TrustList.Read", number(reading), ua.Variant(4, T.Int32))
        assert changed == CODES.BadInvalidState  # 7.8.2.4


async def test_open_files_are_few(bench: Bench) -> None:
    # Each holds a trust list in memory.
    reading, most = ua.Variant(READ, T.Byte), certificates.HANDLES_OF_SESSION
    async with AsyncExitStack() as stack:
        for _ in range(certificates.HANDLES // most):
            raw = await stack.enter_async_context(session(bench))
            opened = [await code(raw, "TrustList.Open", reading) for _ in range(most + 1)]
            assert opened == [GOOD] * most + [CODES.BadResourceUnavailable]
        raw = await stack.enter_async_context(session(bench))
        assert await code(raw, "TrustList.Open", reading) == CODES.BadResourceUnavailable
        assert (await shown(raw, f"{LIST}_OpenCount")).Value.Value == certificates.HANDLES


async def test_a_trust_list_is_no_larger_than_published(bench: Bench) -> None:
    # 7.10.3 MaxTrustListSize: told while it is written, before it is in memory.
    piece = octets(b"\0" * 65_536)
    async with session(bench) as raw:
        [handle] = await outputs(raw, "TrustList.Open", ua.Variant(WRITE, T.Byte))
        written = [await code(raw, "TrustList.Write", number(handle), piece) for _ in range(17)]
        assert written == [GOOD] * 16 + [CODES.BadRequestTooLarge]
