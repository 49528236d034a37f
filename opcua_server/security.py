"""Certificates of the server and of its peers: keys, trust lists as watched folders, the checks of Part 4 6.1.3.

pki/
  own/certs/enose.der          the server's certificate, for clients to trust
  own/private/enose.pem        its key, 0600 in a 0700 folder
  trusted/certs  trusted/crl   applications and authorities accepted as they are
  issuers/certs  issuers/crl   authorities that complete a chain but are not trusted by themselves
  rejected/certs               what was refused, for `enose trust accept`

Files are DER or PEM. A change of a folder counts from the next check on. Nothing here ever downgrades: a key that is
unreadable, readable by others or of another certificate stops the start.
"""

import contextlib
import ipaddress
import itertools
import logging
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from nodesets.errors import CertificateRefused, ConfigurationError, Mistake

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

FOLDERS = ("own/certs", "own/private", "trusted/certs", "trusted/crl", "issuers/certs", "issuers/crl", "rejected/certs")
FORBIDDEN_HASHES = (hashes.MD5, hashes.SHA1)

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
        return x509.load_der_x509_certificate(leaf_der(der))
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
    key_file, certificate_file = pki / "own/private/enose.pem", pki / "own/certs/enose.der"
    if not key_file.exists() and not certificate_file.exists():
        _create(key_file, certificate_file, application_uri, hosts, addresses)
    return _load_pair(pki, application_uri)


def _load_pair(pki: Path, application_uri: str) -> Identity:
    key_file, certificate_file = pki / "own/private/enose.pem", pki / "own/certs/enose.der"
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
        self._application_uri = application_uri
        self.identity = identity
        self._seen = self._state()

    def renewed(self) -> Identity | None:
        """The new identity once key and certificate on disk are another pair that can be used; None until then.

        The two are two files: between their writing they do not belong together, and nothing happens.
        """
        seen = self._state()
        if seen == self._seen:
            return None
        self._seen = seen
        try:
            found = _load_pair(self._pki, self._application_uri)
        except ConfigurationError as error:
            log.warning("certificate of this server not renewed: %s", error)
            return None
        if found.der == self.identity.der:
            return None
        self.identity = found
        return found

    def _state(self) -> tuple[tuple[str, int, int], ...]:
        return tuple(_state([self._pki / "own/private", self._pki / "own/certs"]))


def make_folders(data_dir: Path) -> Path:
    """`pki` under the data folder with everything in it; the folder of the key is closed to others."""
    pki = data_dir / "pki"
    for folder in FOLDERS:
        (pki / folder).mkdir(parents=True, exist_ok=True)
    (pki / "own/private").chmod(0o700)
    return pki


def _unusable(path: Path, why: str) -> ConfigurationError:
    return ConfigurationError([Mistake(path="", message=f"{path} {why}")])


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
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    _write(key_file, pem, 0o600)
    certificate = self_signed(key, application_uri, hosts, addresses)
    _write(certificate_file, certificate.public_bytes(serialization.Encoding.DER), 0o644)


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


def _write(path: Path, data: bytes, mode: int) -> None:
    """Write a new file so that nobody ever sees a half of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


# -- trust


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
        self._seen: tuple[tuple[str, int, int], ...] | None = None
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
        _write(path, peer.public_bytes(serialization.Encoding.DER), 0o644)

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

    def _read(self) -> _Lists:
        """The lists as they lie on disk; read again only when a file came, went or changed."""
        folders = [self._pki / f for f in ("trusted/certs", "issuers/certs", "trusted/crl", "issuers/crl")]
        seen = tuple(_state(folders))
        if seen != self._seen:
            trusted = [c for _, c in _certificates(folders[0])]
            issuers = [c for _, c in _certificates(folders[1])]
            revocations = tuple(r for folder in folders[2:] for r in _revocations(folder))
            fingerprints = {c.fingerprint(hashes.SHA256()): c for c in trusted}
            self._lists = _Lists(fingerprints, tuple(trusted + issuers), revocations)
            self._seen = seen
        return self._lists


def _state(folders: Iterable[Path]) -> Iterable[tuple[str, int, int]]:
    for folder in folders:
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda e: e.name):
                with contextlib.suppress(FileNotFoundError):  # gone since it was listed
                    stat = entry.stat()
                    yield entry.path, stat.st_mtime_ns, stat.st_size


def _parse(data: bytes) -> x509.Certificate:
    if data.lstrip().startswith(b"-----BEGIN"):
        return x509.load_pem_x509_certificate(data)
    return x509.load_der_x509_certificate(data)


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


def _revocations(folder: Path) -> Iterable[x509.CertificateRevocationList]:
    for path, data in _files(folder):
        try:
            pem = data.lstrip().startswith(b"-----BEGIN")
            yield x509.load_pem_x509_crl(data) if pem else x509.load_der_x509_crl(data)
        except ValueError as error:
            log.warning("%s is not a revocation list: %s", path, error)


def _listed(certificate: x509.Certificate, path: Path) -> Listed:
    return Listed(
        name=common_name(certificate),
        thumbprint=certificate.fingerprint(hashes.SHA256()).hex(),
        sha1=certificate.fingerprint(hashes.SHA1()).hex(),  # noqa: S303 - a name people compare, not a protection
        application_uri=next(iter(application_uris(certificate)), ""),
        expires=certificate.not_valid_after_utc,
        path=path,
    )


def _file_name(certificate: x509.Certificate) -> str:
    """`<CN> [thumbprint].der`: a common name is chosen by the peer, so only harmless characters of it are kept."""
    name = re.sub(r"[^A-Za-z0-9 _-]", "_", common_name(certificate))[:64].strip() or "unnamed"
    return f"{name} [{certificate.fingerprint(hashes.SHA256()).hex()}].der"


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
    except (ValueError, TypeError, InvalidSignature):
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


def _check_usage(peer: x509.Certificate) -> None:
    """Usage restrictions count only where the certificate states them (RFC 5280 4.2.1.3)."""
    try:
        usage = peer.extensions.get_extension_for_class(x509.KeyUsage).value
        if not usage.digital_signature or not (usage.data_encipherment or usage.key_encipherment):
            raise CertificateRefused("key usage allows no signing or no encryption", CertificateRefused.USE_NOT_ALLOWED)
    except x509.ExtensionNotFound:
        pass
    try:
        purposes = peer.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        if ExtendedKeyUsageOID.CLIENT_AUTH not in purposes:
            raise CertificateRefused(
                "extended key usage does not include client authentication", CertificateRefused.USE_NOT_ALLOWED
            )
    except x509.ExtensionNotFound:
        pass


def check_user(certificate: x509.Certificate, now: datetime) -> None:
    """A user's certificate: strong and in its time. Trust in it is its entry among the accounts.

    Raises CertificateRefused.
    """
    check_strength(certificate)
    _check_validity(certificate, now)
