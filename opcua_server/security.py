"""Certificates of the server and of its peers: keys, trust lists as watched folders, the checks of Part 4 6.1.3.

pki/
  own/certs/enose.der          the server's certificate, for clients to trust
  own/private/enose.pem        its key, 0600 in a 0700 folder
  own/private/requested.pem    the key of a signing request whose certificate has not come yet
  trusted/certs  trusted/crl   applications and authorities accepted as they are
  issuers/certs  issuers/crl   authorities that complete a chain but are not trusted by themselves
  rejected/certs               what was refused, for `enose trust accept`

Files are DER or PEM. A change of a folder counts from the next check on. Nothing here ever downgrades: a key that is
unreadable, readable by others or of another certificate stops the start. What comes over OPC UA (Part 12 7.10) changes
several files as one (pki.py).
"""

import contextlib
import ipaddress
import itertools
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from nodesets.errors import CertificateRefused, ConfigurationError, Mistake
from opcua_server.pki import State, carry_out, make_folders, state, under_way, write

log = logging.getLogger(__name__)

KEY_BITS = 3072
VALIDITY = timedelta(days=3650)
MIN_RSA_BITS, MAX_RSA_BITS = 2048, 4096
"""Ends of all three security policies (Part 7); a longer key would only cost time."""
MAX_CHAIN = 5
"""Certificates in a chain: enough for any plant PKI, and a bound for loops."""
MAX_REJECTED = 64
"""Files kept in rejected/certs: a flood of foreign certificates must not fill the disk."""
MAX_CERTIFICATE = 16_384
"""Bytes of a certificate or chain that are looked at."""

FORBIDDEN_HASHES = (hashes.MD5, hashes.SHA1)
KEY_FILE, CERTIFICATE_FILE = "own/private/enose.pem", "own/certs/enose.der"
REQUESTED_FILE = "own/private/requested.pem"
KEY_FORMATS = ("PEM", "PFX")
"""PKCS #8 and PKCS #12, neither encrypted: the channel is."""
SUBJECT_NAMES = {
    "CN": NameOID.COMMON_NAME,
    "O": NameOID.ORGANIZATION_NAME,
    "OU": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "DC": NameOID.DOMAIN_COMPONENT,
    "L": NameOID.LOCALITY_NAME,
    "S": NameOID.STATE_OR_PROVINCE_NAME,
    "C": NameOID.COUNTRY_NAME,
}
"""Names in a subject as clients write it (Part 12 7.9.4)."""
MALFORMED = (
    ValueError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""What cryptography raises for bytes that are no certificate, some of it only for parts that are asked for."""
PURPOSES = {
    ExtendedKeyUsageOID.CLIENT_AUTH: "client authentication",
    ExtendedKeyUsageOID.SERVER_AUTH: "server authentication",
}
_SUBJECT_PART = re.compile(r'/?([A-Z]+)=(?:"([^"]+)"|([^"/=]+))')

Key = rsa.RSAPrivateKey


@dataclass(frozen=True, slots=True)
class Identity:
    """The server's own certificate and key."""

    certificate: x509.Certificate
    key: Key

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def thumbprint(self) -> bytes:
        """SHA-1 of the certificate: how a client says whose key it encrypted for (Part 6 6.7.2.3)."""
        return self.certificate.fingerprint(hashes.SHA1())  # noqa: S303 - a name, not a protection

    @property
    def files(self) -> Mapping[str, bytes]:
        """As it lies on the disk, by path below `pki`."""
        return {KEY_FILE: _pem(self.key), CERTIFICATE_FILE: self.der}


@dataclass(frozen=True, slots=True)
class Listed:
    """A certificate in a trust list, as a person sees it."""

    name: str
    """Common name."""
    thumbprint: str
    """SHA-256, hex."""
    sha1: str
    """SHA-1, hex: what UaExpert and Windows show."""
    application_uri: str
    expires: datetime
    path: Path


def thumbprint(der: bytes) -> str:
    """SHA-256 of a certificate, lower-case hex."""
    digest = hashes.Hash(hashes.SHA256())
    digest.update(der)
    return digest.finalize().hex()


def application_uris(certificate: x509.Certificate) -> list[str]:
    """URIs of the subjectAltName; the first is the ApplicationUri (Part 6 6.2.2)."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return names.get_values_for_type(x509.UniformResourceIdentifier)


def host_names(certificate: x509.Certificate) -> frozenset[str]:
    """DNS names of the subjectAltName, lower case: what clients may call the machine (Part 6 6.2.2)."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return frozenset()
    return frozenset(name.lower() for name in names.get_values_for_type(x509.DNSName))


def is_address(host: str) -> bool:
    """Whether it is an IP address, not a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def common_name(certificate: x509.Certificate) -> str:
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else ""


def leaf(der: bytes) -> x509.Certificate:
    """First certificate of a DER chain. Raises CertificateRefused when it is none."""
    if not der or len(der) > MAX_CERTIFICATE:
        raise CertificateRefused("no certificate" if not der else f"certificate of {len(der)} bytes")
    try:
        return _parse(leaf_der(der))
    except ValueError as error:
        raise CertificateRefused(f"not a certificate: {error}") from error


def leaf_der(chain: bytes) -> bytes:
    """The first element of a DER chain, whatever it is."""
    return chain[: _der_length(chain)]


def _der_length(data: bytes) -> int:
    """Bytes of the first ASN.1 element: tag, length (short or long form), content (X.690 8.1)."""
    if len(data) < 2 or data[1] < 0x80:
        return len(data) if len(data) < 2 else 2 + data[1]
    octets = data[1] & 0x7F
    return 2 + octets + int.from_bytes(data[2 : 2 + octets], "big")


# -- the server's own identity


def load_identity(
    data_dir: Path, application_uri: str, hosts: Sequence[str], addresses: Sequence[str] = ()
) -> Identity:
    """Key and certificate of this server, made at the first start.

    `hosts` are the DNS names and `addresses` the IP addresses clients reach it by. Raises ConfigurationError when
    what lies there cannot be used safely.
    """
    pki = make_folders(data_dir)
    key_file, certificate_file = pki / KEY_FILE, pki / CERTIFICATE_FILE
    if not key_file.exists() and not certificate_file.exists():
        _create(key_file, certificate_file, application_uri, hosts, addresses)
    return _load_pair(pki, application_uri)


def _load_pair(pki: Path, application_uri: str) -> Identity:
    key_file, certificate_file = pki / KEY_FILE, pki / CERTIFICATE_FILE
    key = _load_key(key_file)
    certificate = _load_own(certificate_file)
    if certificate.public_key() != key.public_key():
        raise _unusable(certificate_file, "does not belong to the key in own/private")
    if application_uri not in application_uris(certificate):
        raise _unusable(
            certificate_file, f"is not for {application_uri}; move it and the key away to have new ones made"
        )
    return Identity(certificate, key)


class OwnCertificate:
    """The server's identity as it lies on disk, for a server that must not stop when its certificate is renewed."""

    def __init__(self, data_dir: Path, application_uri: str, identity: Identity) -> None:
        self._pki = data_dir / "pki"
        self.application_uri = application_uri
        self.identity = identity
        self._seen = self._state()

    def renewed(self) -> Identity | None:
        """The new identity once key and certificate on disk are another pair that can be used; None until then.

        The two are two files: between their writing they do not belong together, and nothing happens.
        """
        seen = self._state()
        if seen == self._seen or under_way(self._pki):
            return None
        self._seen = seen
        try:
            found = _load_pair(self._pki, self.application_uri)
        except ConfigurationError as error:
            log.warning("certificate of this server not renewed: %s", error)
            return None
        if found.der == self.identity.der:
            return None
        self.identity = found
        return found

    def request(self, subject: x509.Name | None, *, fresh: bool) -> bytes:
        """PKCS #10 request, DER, for its key or a `fresh` one; its subject is that of the certificate unless given.

        The fresh key is on the disk until its certificate comes, also to another session or after a restart; that of
        an earlier request is gone (Part 12 7.10.10). Raises StorageError.
        """
        certificate, key = self.identity.certificate, self.identity.key
        if fresh:
            key = rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        request = x509.CertificateSigningRequestBuilder(subject or certificate.subject)
        signed = request.add_extension(names.value, names.critical).sign(key, hashes.SHA256())
        files = {REQUESTED_FILE: _pem(key)} if fresh else {}
        carry_out(self._pki, files, () if fresh else [REQUESTED_FILE])
        return signed.public_bytes(serialization.Encoding.DER)

    def with_key(self, certificate: x509.Certificate, key: Key | None = None) -> Identity:
        """A new certificate with the key it came with, or without one ours or that of the last request.

        Raises CertificateRefused when it belongs to none of them.
        """
        known = [key] if key is not None else [self.identity.key, *self._requested()]
        for candidate in known:
            if candidate.public_key() == certificate.public_key():
                return Identity(certificate, candidate)
        raise CertificateRefused("the certificate belongs to another key", CertificateRefused.status)

    def _requested(self) -> list[Key]:
        path = self._pki / REQUESTED_FILE
        return [_load_key(path)] if path.exists() else []

    def _state(self) -> State:
        return state([self._pki / "own/private", self._pki / "own/certs"])


# -- what comes from outside


def private_key(form: str, data: bytes) -> Key:
    """The RSA key in one of KEY_FORMATS. Raises ValueError."""
    try:
        if form == "PEM":
            key: object = serialization.load_pem_private_key(data, None)
        elif form == "PFX":
            key = pkcs12.load_key_and_certificates(data, None)[0]
        else:
            raise ValueError(f"format {form!r}")
    except (TypeError, UnsupportedAlgorithm) as error:  # encrypted, or of a curve nobody knows
        raise ValueError("a key that cannot be read") from error
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ValueError("no RSA key")
    return key


def subject(text: str) -> x509.Name:
    """A subject as clients write it, `CN=enose/O="A/B"` (Part 12 7.9.4). Raises ValueError."""
    parts, position = [], 0
    while position < len(text):
        part = _SUBJECT_PART.match(text, position)
        if part is None or part[1] not in SUBJECT_NAMES or (position and text[position] != "/"):
            raise ValueError(f"no subject: {text[:80]!a}")
        parts.append(x509.NameAttribute(SUBJECT_NAMES[part[1]], part[2] or part[3]))
        position = part.end()
    return x509.Name(parts)


def _unusable(path: Path, why: str) -> ConfigurationError:
    return ConfigurationError([Mistake(path="", message=f"{path} {why}")])


def _pem(key: Key) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _load_key(path: Path) -> Key:
    try:
        if path.stat().st_mode & 0o077:
            raise _unusable(path, "can be read by others; chmod 600 it, and replace it if anyone did")
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise _unusable(path, f"cannot be read: {error}") from error
    if not isinstance(key, rsa.RSAPrivateKey) or key.key_size < MIN_RSA_BITS:
        raise _unusable(path, f"is not an RSA key of at least {MIN_RSA_BITS} bits")
    return key


def _load_own(path: Path) -> x509.Certificate:
    try:
        return _parse(path.read_bytes())
    except (OSError, ValueError) as error:
        raise _unusable(path, f"cannot be read: {error}") from error


def _create(
    key_file: Path, certificate_file: Path, application_uri: str, hosts: Sequence[str], addresses: Sequence[str]
) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)
    write(key_file, _pem(key), 0o600)
    certificate = self_signed(key, application_uri, hosts, addresses)
    write(certificate_file, certificate.public_bytes(serialization.Encoding.DER), 0o644)


def self_signed(
    key: Key,
    application_uri: str,
    hosts: Sequence[str],
    addresses: Sequence[str] = (),
    *,
    name: str = "enose",
    now: datetime | None = None,
) -> x509.Certificate:
    """Application instance certificate with the extensions of Part 6 6.2.2."""
    start = (now or datetime.now(UTC)) - timedelta(minutes=5)  # clients whose clock is a little behind
    subject = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, name), x509.NameAttribute(NameOID.ORGANIZATION_NAME, "enose")]
    )
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(application_uri)]
    names += [x509.DNSName(host) for host in dict.fromkeys(hosts)]
    names += [x509.IPAddress(ipaddress.ip_address(address)) for address in dict.fromkeys(addresses)]
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=True,
        key_encipherment=True,
        data_encipherment=True,
        key_agreement=False,
        key_cert_sign=True,  # Part 6 6.2.2: a self-signed certificate signs one, its own
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + VALIDITY)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(usage, critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


# -- trust


@dataclass(frozen=True, slots=True)
class TrustLists:
    """Everything that is trusted, DER, as a TrustList object has it (Part 12 7.8.2.8)."""

    trusted: tuple[bytes, ...] = ()
    trusted_crls: tuple[bytes, ...] = ()
    issuers: tuple[bytes, ...] = ()
    issuer_crls: tuple[bytes, ...] = ()


LISTS = dict(
    zip(
        [f.name for f in fields(TrustLists)],
        ("trusted/certs", "trusted/crl", "issuers/certs", "issuers/crl"),
        strict=True,
    )
)
"""Where each of them lies."""


@dataclass(frozen=True, slots=True)
class _Lists:
    trusted: dict[bytes, x509.Certificate]
    """By SHA-256 fingerprint."""
    issuers: tuple[x509.Certificate, ...]
    """Of both folders: candidates for the next link of a chain."""
    revocations: tuple[x509.CertificateRevocationList, ...]


class TrustStore:
    """The trust lists of a data folder. `check` raises CertificateRefused with a reason that is for us alone."""

    def __init__(self, data_dir: Path, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._pki = make_folders(data_dir)
        self._now = now
        self._seen: State | None = None
        self._lists = _Lists({}, (), ())

    def check(self, certificate: bytes, application_uri: str | None = None) -> None:
        """Accept a peer's certificate (DER, leaf first) or raise CertificateRefused.

        Part 4 Table 100 in its order: structure, security policy, trust and chain, revocation, validity, usage, URI.
        A certificate that is only untrusted is put into rejected/certs.
        """
        peer = leaf(certificate)
        try:
            self._check(peer, application_uri)
        except (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension) as error:
            raise CertificateRefused(f"malformed: {error}") from error

    def _check(self, peer: x509.Certificate, application_uri: str | None) -> None:
        check_strength(peer)
        lists = self._read()
        try:
            chain = _chain(peer, lists.issuers)
        except CertificateRefused:
            self.reject(peer)
            raise
        if not any(c.fingerprint(hashes.SHA256()) in lists.trusted for c in chain):
            self.reject(peer)
            raise CertificateRefused(f"{common_name(peer)!r} is not trusted", CertificateRefused.UNTRUSTED)
        now = self._now()
        for issued, issuer in itertools.pairwise(chain):
            _check_revocation(issued, issuer, lists.revocations, now)
        for link in chain:
            _check_validity(link, now)
        _check_usage(peer)
        uris = application_uris(peer)
        if application_uri is not None and application_uri not in uris:
            raise CertificateRefused(
                f"ApplicationUri {application_uri!r} is not in the certificate ({uris})", CertificateRefused.URI_INVALID
            )

    def reject(self, peer: x509.Certificate) -> None:
        """Keep an untrusted certificate for a person to look at; the oldest makes room."""
        folder = self._pki / "rejected/certs"
        path = folder / _file_name(peer)
        if path.exists():
            return
        kept = sorted(folder.glob("*.der"), key=lambda p: p.stat().st_mtime_ns)
        for old in kept[: max(0, len(kept) - MAX_REJECTED + 1)]:
            old.unlink(missing_ok=True)
        write(path, peer.public_bytes(serialization.Encoding.DER), 0o644)

    def accept(self, wanted: str) -> Listed:
        """Move a rejected certificate to trusted. `wanted`: its thumbprint, SHA-256 or SHA-1, or the start of one.

        Raises LookupError when none or more than one matches.
        """
        wanted = wanted.lower().replace(":", "").replace(" ", "")
        found = [
            c for c in self.list_rejected() if wanted and (c.thumbprint.startswith(wanted) or c.sha1.startswith(wanted))
        ]
        if len(found) != 1:
            raise LookupError(f"{len(found)} rejected certificates begin with {wanted!r}")
        target = self._pki / "trusted/certs" / found[0].path.name
        found[0].path.replace(target)
        return _listed(leaf(target.read_bytes()), target)

    def list_rejected(self) -> list[Listed]:
        return self._list("rejected/certs")

    def list_trusted(self) -> list[Listed]:
        return self._list("trusted/certs")

    def ending(self, within: timedelta) -> list[Listed]:
        """Certificates of this server, of trusted applications and of authorities that end so soon, or have ended."""
        listed = [c for folder in ("own/certs", "trusted/certs", "issuers/certs") for c in self._list(folder)]
        return [c for c in listed if c.expires < self._now() + within]

    def _list(self, folder: str) -> list[Listed]:
        return [_listed(certificate, path) for path, certificate in _certificates(self._pki / folder)]

    # -- as a TrustList object

    def state(self) -> State:
        """Of the files of the lists."""
        return state(self._pki / folder for folder in LISTS.values())

    def changed(self) -> int:
        """When a file of the lists came, went or changed last, ns UTC."""
        folders = (self._pki / folder for folder in LISTS.values())
        return max((*(folder.stat().st_mtime_ns for folder in folders), *(time for _, time, _ in self.state())))

    def contents(self) -> TrustLists:
        return TrustLists(**{name: tuple(der for _, der in self._encoded(name)) for name in LISTS})

    def rejected(self) -> list[bytes]:
        """DER, the newest first."""
        listed = sorted(self.list_rejected(), key=lambda c: c.path.stat().st_mtime_ns, reverse=True)
        return [_parse(c.path.read_bytes()).public_bytes(serialization.Encoding.DER) for c in listed]

    def with_added(self, certificate: x509.Certificate) -> TrustLists:
        """The lists with one more trusted application. Raises CertificateRefused.

        Authorities do not come alone, but with a revocation list (Part 12 7.8.2.6).
        """
        if _is_authority(certificate) and not application_uris(certificate):
            raise CertificateRefused(f"{common_name(certificate)!r} is an authority")
        lists = self.contents()
        _check_listed(certificate, *_opened(lists), self._now())
        der = certificate.public_bytes(serialization.Encoding.DER)
        return replace(lists, trusted=tuple(dict.fromkeys((*lists.trusted, der))))

    def without(self, sha1: str, *, trusted: bool) -> TrustLists:
        """The lists without a certificate, and without the revocation lists of an authority (Part 12 7.8.2.7).

        Raises LookupError when there is none, CertificateRefused when others need it.
        """
        lists = self.contents()
        name = "trusted" if trusted else "issuers"
        found = {der: c for der in getattr(lists, name) if _sha1(c := _certificate(der)) == sha1.lower()}
        if not found:
            raise LookupError(f"no certificate {sha1[:40]!a} in {name}")
        [(der, certificate)] = found.items()
        left = replace(lists, **{name: tuple(d for d in getattr(lists, name) if d != der)})
        authorities, _ = _opened(left)
        others = [_certificate(d) for d in (*left.trusted, *left.issuers)]
        if certificate not in authorities and any(_signed(other, certificate) for other in others):
            needed = CertificateRefused.CHAIN_INCOMPLETE
            raise CertificateRefused(f"{common_name(certificate)!r} has issued others in the lists", needed)
        crls = {"trusted_crls": lists.trusted_crls, "issuer_crls": lists.issuer_crls}
        kept = {n: tuple(d for d in crl if _crl(d).issuer != certificate.subject) for n, crl in crls.items()}
        return replace(left, **kept) if _is_authority(certificate) else left

    def validate(self, lists: TrustLists) -> None:
        """Raises CertificateRefused unless all of it is valid, what Part 4 lets be suppressed aside (7.8.2.5)."""
        authorities, revocations = _opened(lists)
        for der in (*lists.trusted, *lists.issuers):
            _check_listed(_certificate(der), authorities, revocations, self._now())

    def validate_own(self, certificate: x509.Certificate, lists: TrustLists, application_uri: str) -> None:
        """The same of a certificate this server is to have; its issuers are in the lists (Part 12 7.10.5)."""
        _check_listed(certificate, *_opened(lists), self._now())
        _check_usage(certificate, ExtendedKeyUsageOID.SERVER_AUTH, only_critical=True)
        if application_uri not in application_uris(certificate):
            raise CertificateRefused(f"the certificate is not for {application_uri}", CertificateRefused.URI_INVALID)

    def changes(self, lists: TrustLists) -> tuple[dict[str, bytes], set[str]]:
        """Files to write and to remove, as `carry_out` takes them, so that the folders hold these lists.

        Files that hold neither certificate nor revocation list stay.
        """
        files: dict[str, bytes] = {}
        gone: set[str] = set()
        for name, folder in LISTS.items():
            wanted, present = getattr(lists, name), self._encoded(name)
            gone |= {f"{folder}/{path.name}" for path, der in present if der not in wanted}
            new = set(wanted) - {der for _, der in present}
            files |= {f"{folder}/{_name_of(der, crl=name.endswith('crls'))}": der for der in new}
        gone |= {f"rejected/certs/{Path(path).name}" for path in files if path.startswith("trusted/certs/")}
        return files, gone

    def carry_out(self, files: Mapping[str, bytes], gone: Iterable[str]) -> None:
        """Change the files below `pki`, as the function of this name."""
        carry_out(self._pki, files, gone)

    def _encoded(self, name: str) -> list[tuple[Path, bytes]]:
        """Files of one list, with what they hold as DER."""
        folder = self._pki / LISTS[name]
        found = _revocations(folder) if name.endswith("crls") else _certificates(folder)
        return [(path, each.public_bytes(serialization.Encoding.DER)) for path, each in found]

    def _read(self) -> _Lists:
        """The lists as they lie on disk; read again only when a file came, went or changed, and none is just about to.

        So a client is never held against the half of a change.
        """
        if self._seen is not None and under_way(self._pki):
            return self._lists
        seen = self.state()
        if seen != self._seen:
            trusted = [c for _, c in _certificates(self._pki / LISTS["trusted"])]
            issuers = [c for _, c in _certificates(self._pki / LISTS["issuers"])]
            crls = (self._pki / LISTS[name] for name in ("trusted_crls", "issuer_crls"))
            revocations = tuple(r for folder in crls for _, r in _revocations(folder))
            fingerprints = {c.fingerprint(hashes.SHA256()): c for c in trusted}
            self._lists = _Lists(fingerprints, tuple(trusted + issuers), revocations)
            self._seen = seen
        return self._lists


def _parse(data: bytes) -> x509.Certificate:
    """Raises ValueError, also for what the library would only find when it is asked for."""
    pem = data.lstrip().startswith(b"-----BEGIN")
    try:
        found = x509.load_pem_x509_certificate(data) if pem else x509.load_der_x509_certificate(data)
        for late in ("subject", "issuer", "extensions", "signature_hash_algorithm"):
            getattr(found, late)
    except MALFORMED as error:
        raise ValueError(str(error)) from error
    return found


def _parse_crl(data: bytes) -> x509.CertificateRevocationList:
    """Raises ValueError, as `_parse`."""
    pem = data.lstrip().startswith(b"-----BEGIN")
    try:
        found = x509.load_pem_x509_crl(data) if pem else x509.load_der_x509_crl(data)
        for late in ("issuer", "next_update_utc", "signature_hash_algorithm"):
            getattr(found, late)
        found.get_revoked_certificate_by_serial_number(0)
    except MALFORMED as error:
        raise ValueError(str(error)) from error
    return found


def _files(folder: Path) -> Iterable[tuple[Path, bytes]]:
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not path.is_file():
            continue
        try:
            yield path, path.read_bytes()
        except OSError as error:
            log.warning("%s cannot be read: %s", path, error)


def _certificates(folder: Path) -> Iterable[tuple[Path, x509.Certificate]]:
    for path, data in _files(folder):
        try:
            yield path, _parse(data)
        except ValueError as error:
            log.warning("%s is not a certificate: %s", path, error)


def _revocations(folder: Path) -> Iterable[tuple[Path, x509.CertificateRevocationList]]:
    for path, data in _files(folder):
        try:
            yield path, _parse_crl(data)
        except ValueError as error:
            log.warning("%s is not a revocation list: %s", path, error)


def _listed(certificate: x509.Certificate, path: Path) -> Listed:
    return Listed(
        name=common_name(certificate),
        thumbprint=certificate.fingerprint(hashes.SHA256()).hex(),
        sha1=_sha1(certificate),
        application_uri=next(iter(application_uris(certificate)), ""),
        expires=certificate.not_valid_after_utc,
        path=path,
    )


def _sha1(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA1()).hex()  # noqa: S303 - a name people compare, not a protection


def _file_name(certificate: x509.Certificate) -> str:
    """`<CN> [thumbprint].der`: a common name is chosen by the peer, so only harmless characters of it are kept."""
    name = re.sub(r"[^A-Za-z0-9 _-]", "_", common_name(certificate))[:64].strip() or "unnamed"
    return f"{name} [{certificate.fingerprint(hashes.SHA256()).hex()}].der"


def _name_of(der: bytes, *, crl: bool) -> str:
    return f"{thumbprint(der)}.crl" if crl else _file_name(_certificate(der))


def _certificate(der: bytes) -> x509.Certificate:
    """One certificate, DER. Raises CertificateRefused."""
    found = leaf(der)
    if len(leaf_der(der)) != len(der):
        raise CertificateRefused("more than one certificate")
    return found


def _crl(der: bytes) -> x509.CertificateRevocationList:
    """Raises CertificateRefused."""
    try:
        return _parse_crl(der)
    except ValueError as error:
        raise CertificateRefused(f"not a revocation list: {error}") from error


def _opened(lists: TrustLists) -> tuple[list[x509.Certificate], list[x509.CertificateRevocationList]]:
    """The authorities and all revocation lists. Raises CertificateRefused for what is none."""
    certificates = [_certificate(der) for der in (*lists.trusted, *lists.issuers)]
    revocations = [_crl(der) for der in (*lists.trusted_crls, *lists.issuer_crls)]
    return [c for c in certificates if _is_authority(c)], revocations


# -- the checks


def check_strength(certificate: x509.Certificate) -> None:
    """Raises CertificateRefused unless the security policies allow its key and signature."""
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise CertificateRefused(f"unusable key: {error}") from error
    if not isinstance(key, rsa.RSAPublicKey):
        raise CertificateRefused("the key is not RSA, as the security policies here need")
    if not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
        raise CertificateRefused(f"RSA key of {key.key_size} bits; {MIN_RSA_BITS} to {MAX_RSA_BITS} are allowed")
    if isinstance(certificate.signature_hash_algorithm, FORBIDDEN_HASHES):
        raise CertificateRefused("signed with a broken hash")


def _signed(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, UnsupportedAlgorithm, InvalidSignature):
        return False
    return True


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _chain(peer: x509.Certificate, authorities: Sequence[x509.Certificate]) -> list[x509.Certificate]:
    """The peer and its issuers up to a self-signed one.

    A self-signed application certificate stands alone, whatever it says of being an authority: Ignition's says cA=true.
    """
    chain = [peer]
    while chain[-1].subject != chain[-1].issuer:
        current = chain[-1]
        issuer = next((a for a in authorities if a not in chain and _is_authority(a) and _signed(current, a)), None)
        if issuer is None:
            raise CertificateRefused(
                f"issuer of {common_name(current)!r} is in neither trusted nor issuers", CertificateRefused.UNTRUSTED
            )
        if len(chain) >= MAX_CHAIN:
            raise CertificateRefused(f"chain of more than {MAX_CHAIN} certificates")
        check_strength(issuer)
        chain.append(issuer)
    if not _signed(chain[-1], chain[-1]):
        raise CertificateRefused(f"signature of {common_name(chain[-1])!r} is wrong")
    return chain


def _check_revocation(
    issued: x509.Certificate,
    issuer: x509.Certificate,
    revocations: Sequence[x509.CertificateRevocationList],
    now: datetime,
) -> None:
    """An authority without a valid list may have revoked anything (BadCertificateRevocationUnknown)."""
    key = issuer.public_key()
    if not isinstance(key, rsa.RSAPublicKey):
        raise CertificateRefused("the issuer's key is not RSA")
    own = [r for r in revocations if r.issuer == issuer.subject and r.is_signature_valid(key)]
    valid = [r for r in own if r.next_update_utc is None or r.next_update_utc >= now]
    if not valid:
        why = "has expired" if own else "is missing"
        raise CertificateRefused(
            f"revocation list of {common_name(issuer)!r} {why}", CertificateRefused.REVOCATION_UNKNOWN
        )
    if any(r.get_revoked_certificate_by_serial_number(issued.serial_number) is not None for r in own):
        raise CertificateRefused(
            f"{common_name(issued)!r} is revoked by {common_name(issuer)!r}", CertificateRefused.REVOKED
        )


def _check_validity(certificate: x509.Certificate, now: datetime) -> None:
    if now < certificate.not_valid_before_utc:
        raise CertificateRefused(
            f"{common_name(certificate)!r} is not valid before {certificate.not_valid_before_utc}",
            CertificateRefused.TIME_INVALID,
        )
    if now > certificate.not_valid_after_utc:
        raise CertificateRefused(
            f"{common_name(certificate)!r} expired on {certificate.not_valid_after_utc}",
            CertificateRefused.TIME_INVALID,
        )


def _check_usage(
    peer: x509.Certificate,
    purpose: x509.ObjectIdentifier = ExtendedKeyUsageOID.CLIENT_AUTH,
    *,
    only_critical: bool = False,
) -> None:
    """Usage restrictions count only where the certificate states them (RFC 5280 4.2.1.3), as critical or at all."""
    extensions = [e for e in peer.extensions if e.critical or not only_critical]
    for extension in extensions:
        usage = extension.value
        if isinstance(usage, x509.KeyUsage) and not (
            usage.digital_signature and (usage.data_encipherment or usage.key_encipherment)
        ):
            raise CertificateRefused("key usage allows no signing or no encryption", CertificateRefused.USE_NOT_ALLOWED)
        if isinstance(usage, x509.ExtendedKeyUsage) and purpose not in usage:
            raise CertificateRefused(
                f"extended key usage does not include {PURPOSES[purpose]}", CertificateRefused.USE_NOT_ALLOWED
            )


def _check_listed(
    certificate: x509.Certificate,
    authorities: Sequence[x509.Certificate],
    revocations: Sequence[x509.CertificateRevocationList],
    now: datetime,
) -> None:
    """The validation of Part 4 6.1.3 but for trust; what may be suppressed there is only logged (Part 12 7.8.2.5)."""
    check_strength(certificate)
    try:
        chain = _chain(certificate, authorities)
    except CertificateRefused as error:
        if error.failure != CertificateRefused.UNTRUSTED:
            raise
        raise CertificateRefused(str(error), CertificateRefused.CHAIN_INCOMPLETE) from error
    for issued, issuer in itertools.pairwise(chain):
        with _logged(CertificateRefused.REVOCATION_UNKNOWN):
            _check_revocation(issued, issuer, revocations, now)
    for link in chain:
        with _logged(CertificateRefused.TIME_INVALID):
            _check_validity(link, now)


@contextlib.contextmanager
def _logged(failure: int) -> Iterator[None]:
    """A refusal of this kind is a warning."""
    try:
        yield
    except CertificateRefused as error:
        if error.failure != failure:
            raise
        log.warning("taken all the same: %s", error)


def check_user(certificate: x509.Certificate, now: datetime) -> None:
    """A user's certificate: strong and in its time. Trust in it is its entry among the accounts.

    Raises CertificateRefused.
    """
    check_strength(certificate)
    _check_validity(certificate, now)
