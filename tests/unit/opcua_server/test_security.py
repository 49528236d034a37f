"""Certificates and trust lists, with real keys in real folders."""

import contextlib
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from nodesets.errors import CertificateRefused, ConfigurationError
from opcua_server import security
from opcua_server.security import TrustStore, load_identity, self_signed

URI = "urn:test:client"
NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def keys() -> list[rsa.RSAPrivateKey]:
    return [rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(4)]


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


def name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def issue(
    subject: str,
    key: rsa.RSAPrivateKey,
    issuer: str,
    issuer_key: rsa.RSAPrivateKey,
    *,
    ca: bool = False,
    days: tuple[int, int] = (-1, 1),
    uri: str = URI,
    serial: int | None = None,
    purposes: list[x509.ObjectIdentifier] | None = None,
) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(issuer))
        .public_key(key.public_key())
        .serial_number(serial or x509.random_serial_number())
        .not_valid_before(NOW + timedelta(days=days[0]))
        .not_valid_after(NOW + timedelta(days=days[1]))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)]), critical=False)
    )
    if purposes is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def revocations(issuer: str, key: rsa.RSAPrivateKey, *serials: int, days: int = 1) -> bytes:
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(name(issuer))
        .last_update(NOW - timedelta(days=2))
        .next_update(NOW + timedelta(days=days))
    )
    for serial in serials:
        revoked = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(NOW - timedelta(days=1))
        builder = builder.add_revoked_certificate(revoked.build())
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def put(data_dir: Path, folder: str, data: bytes, file: str = "file.der") -> Path:
    path = data_dir / "pki" / folder / file
    path.write_bytes(data)
    return path


# -- what comes from anybody


@pytest.mark.filterwarnings("ignore:Parsed a serial number which wasn't positive")  # will be a ValueError
@pytest.mark.parametrize("value", [0x00, 0x30, 0xFF])
def test_a_byte_that_is_wrong_is_a_certificate_refused_and_nothing_else(
    tmp_path: Path, keys: list[rsa.RSAPrivateKey], value: int
) -> None:
    # H08: the library reads names, extensions and algorithms late, and raises what is no ValueError for some.
    trust = TrustStore(tmp_path)
    ca = der(issue("CA", keys[1], "CA", keys[1], ca=True))
    genuine = der(issue("Peer", keys[0], "CA", keys[1], purposes=[ExtendedKeyUsageOID.CLIENT_AUTH]))
    crl = revocations("CA", keys[1], 7)
    lists = security.TrustLists(trusted=(genuine,), issuers=(ca,), issuer_crls=(crl,))
    trust.validate(lists)
    for name in ("trusted", "issuers", "issuer_crls"):
        (whole,) = getattr(lists, name)
        for at in range(len(whole)):
            broken = whole[:at] + bytes([value]) + whole[at + 1 :]
            with contextlib.suppress(CertificateRefused):
                trust.validate(replace(lists, **{name: (broken,)}))


def test_a_revocation_list_of_no_version_keeps_no_other_client_out(
    tmp_path: Path, keys: list[rsa.RSAPrivateKey]
) -> None:
    # One file that cannot be read is a line of the log.
    trust = TrustStore(tmp_path)
    peer = der(issue("Peer", keys[0], "Peer", keys[0]))
    put(tmp_path, "trusted/certs", peer)
    crl = revocations("CA", keys[1])
    put(tmp_path, "trusted/crl", crl.replace(b"\x02\x01\x01", b"\x02\x01\x30", 1))
    trust.check(peer, URI)


# -- trust lists as they are pushed


def test_while_a_change_is_under_way_nobody_is_held_against_half_of_it(
    tmp_path: Path, keys: list[rsa.RSAPrivateKey]
) -> None:
    trust = TrustStore(tmp_path)
    identity = load_identity(tmp_path, URI, ["localhost"])
    own = security.OwnCertificate(tmp_path, URI, identity)
    peer = der(issue("Peer", keys[0], "Peer", keys[0]))
    put(tmp_path, "trusted/certs", peer)
    trust.check(peer, URI)
    journal = put(tmp_path, "own/private", b"{}", ".journal")
    (tmp_path / "pki/trusted/certs/file.der").unlink()
    put(tmp_path, "own/certs", der(self_signed(identity.key, URI, [])), "enose.der")
    trust.check(peer, URI)
    assert own.renewed() is None
    journal.unlink()
    assert own.renewed() is not None
    with pytest.raises(CertificateRefused):
        trust.check(peer, URI)


def test_what_is_no_certificate_stays_in_its_folder(tmp_path: Path, keys: list[rsa.RSAPrivateKey]) -> None:
    # A note of plant IT, or a file of tomorrow: a client that writes the list cannot have meant it.
    trust = TrustStore(tmp_path)
    put(tmp_path, "trusted/certs", b"who to ask", "README")
    put(tmp_path, "trusted/certs", self_signed(keys[0], URI, []).public_bytes(serialization.Encoding.PEM), "a.pem")
    old, new = trust.contents().trusted[0], der(self_signed(keys[1], URI, []))
    for trusted in ((old, new), (new,)):
        lists = security.TrustLists(trusted=trusted)
        trust.carry_out(*trust.changes(lists))
        assert set(trust.contents().trusted) == set(trusted)
        assert trust.changes(lists) == ({}, set())
    assert (tmp_path / "pki/trusted/certs/README").exists()
    assert not (tmp_path / "pki/trusted/certs/a.pem").exists()


def test_a_list_has_changed_when_something_was_taken_out(tmp_path: Path, keys: list[rsa.RSAPrivateKey]) -> None:
    # Part 12 7.8.2.1 LastUpdateTime: by whom and how does not matter.
    trust = TrustStore(tmp_path)
    path = put(tmp_path, "trusted/certs", der(self_signed(keys[0], URI, [])))
    os.utime(path.parent, ns=(1, 1))
    os.utime(path, ns=(1, 1))
    before = trust.changed()
    path.unlink()
    assert trust.changed() > before


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("CN=enose", [("CN", "enose")]),
        ("/CN=enose/O=Acme", [("CN", "enose"), ("O", "Acme")]),
        ('CN="A/B=C"/DC=plant/DC=local', [("CN", "A/B=C"), ("DC", "plant"), ("DC", "local")]),
        ("C=DE/S=Hesse/L=Kassel/OU=Lab 1", [("C", "DE"), ("S", "Hesse"), ("L", "Kassel"), ("OU", "Lab 1")]),
    ],
)
def test_a_subject_is_read_as_clients_write_it(text: str, found: list[tuple[str, str]]) -> None:
    # Part 12 7.9.4.
    assert [(a.oid, a.value) for a in security.subject(text)] == [
        (security.SUBJECT_NAMES[name], value) for name, value in found
    ]


@pytest.mark.parametrize("text", ["enose", "CN=", "CN=a,O=b/", "XX=a", 'CN="a', "CN=a//O=b", "CN=aO=b", "C=Germany"])
def test_what_is_no_subject_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - ours and the library's
        security.subject(text)


# -- the server's own identity


def test_first_start_makes_key_and_certificate_for_clients_to_check(tmp_path: Path) -> None:
    identity = load_identity(tmp_path, "urn:plant:enose", ["plant", "plant.example"], ["192.0.2.7"])
    private = tmp_path / "pki/own/private"
    assert private.stat().st_mode & 0o777 == 0o700
    assert (private / "enose.pem").stat().st_mode & 0o777 == 0o600
    assert identity.key.key_size == 3072
    names = identity.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["urn:plant:enose"]
    assert names.get_values_for_type(x509.DNSName) == ["plant", "plant.example"]
    assert [str(a) for a in names.get_values_for_type(x509.IPAddress)] == ["192.0.2.7"]
    usage = identity.certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    # Part 6 6.2.2: all four, or .NET clients refuse.
    assert usage.digital_signature and usage.content_commitment and usage.key_encipherment and usage.data_encipherment  # noqa: PT018
    purposes = identity.certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert ExtendedKeyUsageOID.SERVER_AUTH in purposes


def test_a_restart_keeps_the_identity_clients_have_trusted(tmp_path: Path) -> None:
    first = load_identity(tmp_path, "urn:plant:enose", ["plant"])
    assert load_identity(tmp_path, "urn:plant:enose", ["renamed"]).der == first.der


def test_a_key_others_can_read_stops_the_start(tmp_path: Path) -> None:
    load_identity(tmp_path, "urn:plant:enose", ["plant"])
    (tmp_path / "pki/own/private/enose.pem").chmod(0o640)
    with pytest.raises(ConfigurationError, match="can be read by others"):
        load_identity(tmp_path, "urn:plant:enose", ["plant"])


@pytest.mark.parametrize("damage", [b"", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_an_unreadable_key_stops_the_start(tmp_path: Path, damage: bytes) -> None:
    load_identity(tmp_path, "urn:plant:enose", ["plant"])
    (tmp_path / "pki/own/private/enose.pem").write_bytes(damage)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_identity(tmp_path, "urn:plant:enose", ["plant"])


def test_a_certificate_of_another_key_stops_the_start(tmp_path: Path, keys: list[rsa.RSAPrivateKey]) -> None:
    load_identity(tmp_path, "urn:plant:enose", ["plant"])
    put(tmp_path, "own/certs", der(self_signed(keys[0], "urn:plant:enose", ["plant"])), "enose.der")
    with pytest.raises(ConfigurationError, match="does not belong"):
        load_identity(tmp_path, "urn:plant:enose", ["plant"])


def test_a_lost_half_of_the_pair_is_not_replaced_silently(tmp_path: Path) -> None:
    # A new key would look to every client like another server.
    load_identity(tmp_path, "urn:plant:enose", ["plant"])
    (tmp_path / "pki/own/private/enose.pem").unlink()
    with pytest.raises(ConfigurationError):
        load_identity(tmp_path, "urn:plant:enose", ["plant"])


def test_a_certificate_for_another_uri_stops_the_start(tmp_path: Path) -> None:
    load_identity(tmp_path, "urn:plant:enose", ["plant"])
    with pytest.raises(ConfigurationError, match="not for urn:other"):
        load_identity(tmp_path, "urn:other", ["plant"])


# -- trust


def test_trust_follows_the_folder(tmp_path: Path, keys: list[rsa.RSAPrivateKey]) -> None:
    trust = TrustStore(tmp_path)
    peer = der(self_signed(keys[0], URI, ["host"]))
    with pytest.raises(CertificateRefused, match="not trusted"):
        trust.check(peer)
    path = put(tmp_path, "trusted/certs", peer)
    trust.check(peer, URI)
    path.unlink()
    with pytest.raises(CertificateRefused, match="not trusted"):
        trust.check(peer)


def test_pem_files_are_trusted_too(tmp_path: Path, keys: list[rsa.RSAPrivateKey]) -> None:
    trust = TrustStore(tmp_path)
    peer = self_signed(keys[0], URI, ["host"])
    put(tmp_path, "trusted/certs", peer.public_bytes(serialization.Encoding.PEM), "x.pem")
    trust.check(der(peer))


def test_a_file_that_is_no_certificate_spoils_nothing(tmp_path: Path, keys: list[rsa.RSAPrivateKey]) -> None:
    trust = TrustStore(tmp_path)
    peer = der(self_signed(keys[0], URI, ["host"]))
    put(tmp_path, "trusted/certs", b"rubbish", "a.der")
    put(tmp_path, "trusted/certs", peer, "b.der")
    trust.check(peer)


def test_ignitions_certificate_that_calls_itself_an_authority_is_accepted_once_trusted(
    tmp_path: Path, keys: list[rsa.RSAPrivateKey]
) -> None:
    # Ignition's own certificate has cA=true without a path length; strict servers refuse it (information model 3).
    trust = TrustStore(tmp_path)
    peer = der(issue("Ignition OPC UA Client", keys[0], "Ignition OPC UA Client", keys[0], ca=True))
    with pytest.raises(CertificateRefused):
        trust.check(peer)
    put(tmp_path, "trusted/certs", peer)
    trust.check(peer, URI)


def test_a_certificate_with_a_forged_subject_is_not_the_trusted_one(
    tmp_path: Path, keys: list[rsa.RSAPrivateKey]
) -> None:
    trust = TrustStore(tmp_path)
    put(tmp_path, "trusted/certs", der(issue("Client", keys[0], "Client", keys[0])))
    with pytest.raises(CertificateRefused):
        trust.check(der(issue("Client", keys[1], "Client", keys[1])))


@pytest.mark.parametrize(("days", "reason"), [((-2, -1), "expired"), ((1, 2), "not valid before")])
def test_a_trusted_certificate_out_of_its_time_is_refused(
    tmp_path: Path, keys: list[rsa.RSAPrivateKey], days: tuple[int, int], reason: str
) -> None:
    trust = TrustStore(tmp_path)
    peer = der(issue("Client", keys[0], "Client", keys[0], days=days))
    put(tmp_path, "trusted/certs", peer)
    with pytest.raises(CertificateRefused, match=reason):
        trust.check(peer)


def test_application_uri_has_to_match(tmp_path: Path, keys: list[rsa.RSAPrivateKey]) -> None:
    trust = TrustStore(tmp_path)
    peer = der(self_signed(keys[0], URI, ["host"]))
    put(tmp_path, "trusted/certs", peer)
    with pytest.raises(CertificateRefused, match="ApplicationUri"):
        trust.check(peer, "urn:test:other")


def test_weak_and_foreign_keys_are_refused(tmp_path: Path) -> None:
    trust = TrustStore(tmp_path)
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    peer = der(self_signed(weak, URI, ["host"]))
    put(tmp_path, "trusted/certs", peer)
    with pytest.raises(CertificateRefused, match="1024 bits"):
        trust.check(peer)
    curve = ec.generate_private_key(ec.SECP256R1())
    elliptic = (
        x509.CertificateBuilder()
        .subject_name(name("x"))
        .issuer_name(name("x"))
        .public_key(curve.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=1))
        .sign(curve, hashes.SHA256())
    )
    with pytest.raises(CertificateRefused, match="not RSA"):
        trust.check(der(elliptic))


@pytest.mark.parametrize("data", [b"", b"\x30", b"\x30\x84\xff\xff\xff\xff", b"rubbish", b"\x30\x03abc", bytes(20_000)])
def test_what_is_no_certificate_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(CertificateRefused):
        TrustStore(tmp_path).check(data)


def test_extended_usage_has_to_allow_clients(tmp_path: Path, keys: list[rsa.RSAPrivateKey]) -> None:
    trust = TrustStore(tmp_path)
    peer = der(issue("Mail", keys[0], "Mail", keys[0], purposes=[ExtendedKeyUsageOID.EMAIL_PROTECTION]))
    put(tmp_path, "trusted/certs", peer)
    with pytest.raises(CertificateRefused, match="client authentication"):
        trust.check(peer)


# -- authorities


@pytest.fixture
def pki(tmp_path: Path, keys: list[rsa.RSAPrivateKey]) -> tuple[Path, TrustStore, x509.Certificate]:
    """An authority in issuers with an empty revocation list, and a leaf of it that is not yet trusted."""
    trust = TrustStore(tmp_path)
    put(tmp_path, "issuers/certs", der(issue("CA", keys[0], "CA", keys[0], ca=True)))
    put(tmp_path, "issuers/crl", revocations("CA", keys[0]))
    return tmp_path, trust, issue("Leaf", keys[1], "CA", keys[0], serial=77)


def test_an_issuer_completes_a_chain_but_gives_no_trust(pki: tuple[Path, TrustStore, x509.Certificate]) -> None:
    data_dir, trust, leaf = pki
    with pytest.raises(CertificateRefused, match="not trusted"):
        trust.check(der(leaf))
    put(data_dir, "trusted/certs", der(leaf))
    trust.check(der(leaf))


def test_a_trusted_authority_gives_trust_to_what_it_issued(
    pki: tuple[Path, TrustStore, x509.Certificate], keys: list[rsa.RSAPrivateKey]
) -> None:
    data_dir, trust, leaf = pki
    authority = (data_dir / "pki/issuers/certs/file.der").read_bytes()
    put(data_dir, "trusted/certs", authority)
    trust.check(der(leaf))
    with pytest.raises(CertificateRefused):
        trust.check(der(issue("Leaf", keys[1], "CA", keys[2])))  # same name, another authority's signature


def test_a_leaf_is_no_authority(pki: tuple[Path, TrustStore, x509.Certificate], keys: list[rsa.RSAPrivateKey]) -> None:
    # Whoever holds any trusted certificate could otherwise issue more of them.
    data_dir, trust, leaf = pki
    put(data_dir, "trusted/certs", der(leaf))
    with pytest.raises(CertificateRefused, match="in neither"):
        trust.check(der(issue("Child", keys[2], "Leaf", keys[1])))


def test_a_revoked_certificate_is_refused_though_trusted(
    pki: tuple[Path, TrustStore, x509.Certificate], keys: list[rsa.RSAPrivateKey]
) -> None:
    data_dir, trust, leaf = pki
    put(data_dir, "trusted/certs", der(leaf))
    put(data_dir, "issuers/crl", revocations("CA", keys[0], 77), "newer.crl")
    with pytest.raises(CertificateRefused, match="revoked"):
        trust.check(der(leaf))


def test_a_serial_number_counts_only_with_its_issuer(
    pki: tuple[Path, TrustStore, x509.Certificate], keys: list[rsa.RSAPrivateKey]
) -> None:
    # asyncua compared the serial number alone: any authority could revoke another's certificates.
    data_dir, trust, leaf = pki
    put(data_dir, "trusted/certs", der(leaf))
    put(data_dir, "issuers/crl", revocations("Other", keys[2], 77), "other.crl")
    put(data_dir, "issuers/crl", revocations("CA", keys[2], 77), "forged.crl")
    trust.check(der(leaf))


@pytest.mark.parametrize(("days", "reason"), [(None, "missing"), (-1, "expired")])
def test_without_a_valid_revocation_list_an_issued_certificate_is_refused(
    pki: tuple[Path, TrustStore, x509.Certificate], keys: list[rsa.RSAPrivateKey], days: int | None, reason: str
) -> None:
    data_dir, trust, leaf = pki
    put(data_dir, "trusted/certs", der(leaf))
    path = data_dir / "pki/issuers/crl/file.der"
    path.unlink()
    if days is not None:
        path.write_bytes(revocations("CA", keys[0], days=days))
    with pytest.raises(CertificateRefused, match=reason):
        trust.check(der(leaf))


def test_loops_and_long_chains_end(tmp_path: Path, keys: list[rsa.RSAPrivateKey]) -> None:
    trust = TrustStore(tmp_path)
    put(tmp_path, "issuers/certs", der(issue("A", keys[0], "B", keys[1], ca=True)), "a.der")
    put(tmp_path, "issuers/certs", der(issue("B", keys[1], "A", keys[0], ca=True)), "b.der")
    peer = issue("Leaf", keys[2], "A", keys[0])
    put(tmp_path, "trusted/certs", der(peer))
    with pytest.raises(CertificateRefused, match="in neither"):
        trust.check(der(peer))
    for i in range(8):
        put(tmp_path, "issuers/certs", der(issue(f"C{i}", keys[0], f"C{i + 1}", keys[0], ca=True)), f"c{i}.der")
    with pytest.raises(CertificateRefused, match="chain of more than"):
        trust.check(der(issue("Leaf", keys[2], "C0", keys[0])))


# -- rejected


def test_a_rejected_certificate_is_accepted_by_its_thumbprint(tmp_path: Path, keys: list[rsa.RSAPrivateKey]) -> None:
    trust = TrustStore(tmp_path)
    peer = der(self_signed(keys[0], URI, ["host"], name="Ignition"))
    with pytest.raises(CertificateRefused):
        trust.check(peer)
    (rejected,) = trust.list_rejected()
    assert (rejected.name, rejected.application_uri) == ("Ignition", URI)
    assert rejected.thumbprint == security.thumbprint(peer)
    assert rejected.path.name == f"Ignition [{rejected.thumbprint}].der"
    accepted = trust.accept(rejected.sha1.upper())
    assert trust.list_rejected() == []
    assert [c.thumbprint for c in trust.list_trusted()] == [accepted.thumbprint]
    trust.check(peer, URI)


@pytest.mark.parametrize("wanted", ["", "zz", "../../etc"])
def test_what_names_no_single_certificate_is_not_accepted(
    tmp_path: Path, keys: list[rsa.RSAPrivateKey], wanted: str
) -> None:
    trust = TrustStore(tmp_path)
    with pytest.raises(CertificateRefused):
        trust.check(der(self_signed(keys[0], URI, ["host"])))
    with pytest.raises(LookupError):
        trust.accept(wanted)


def test_a_common_name_cannot_leave_its_folder(tmp_path: Path, keys: list[rsa.RSAPrivateKey]) -> None:
    trust = TrustStore(tmp_path)
    for text in ("../../../etc/passwd", "a/b\\c", "nul\x00l", "." * 60, "日本"):
        with pytest.raises(CertificateRefused):
            trust.check(der(self_signed(keys[0], URI, ["host"], name=text)))
    files = list((tmp_path / "pki/rejected/certs").iterdir())
    assert len(files) == 5
    assert all(f.name.isascii() and os.sep not in f.name for f in files)


def test_a_flood_of_strangers_keeps_the_last_ones(tmp_path: Path, keys: list[rsa.RSAPrivateKey]) -> None:
    trust = TrustStore(tmp_path)
    for i in range(security.MAX_REJECTED + 5):
        with pytest.raises(CertificateRefused):
            trust.check(der(issue(f"S{i}", keys[0], f"S{i}", keys[0])))
    assert len(trust.list_rejected()) == security.MAX_REJECTED
