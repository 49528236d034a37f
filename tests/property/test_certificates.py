"""Whatever a client pushes is taken or refused by its own status: nothing in it reaches anything else."""

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from asyncua import ua
from asyncua.ua.ua_binary import struct_to_binary
from hypothesis import given
from hypothesis import strategies as st

from nodesets.errors import EnoseError
from opcua_server import security
from opcua_server.services.status import Fault
from tests.conformance.opcua import key
from tests.conformance.test_certificates import authority, crl, der, issued, pem
from tests.unit.opcua_server.services.test_certificates import LIST, NULL, Bench

pytestmark = pytest.mark.filterwarnings("ignore:Parsed a serial number which wasn't positive")  # will be a ValueError

URI = "urn:test"
CA = authority()
OWN = security.self_signed(key(30), URI, ["localhost"], ["127.0.0.1"])
LEAF = issued(CA, key(30).public_key(), URI)
GENUINE = [der(OWN), der(LEAF), CA.der]
UNEXPECTED = (ua.StatusCodes.BadInternalError, ua.StatusCodes.BadUnexpectedError)


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with tempfile.TemporaryDirectory() as folder:
        yield Bench(Path(folder))


@st.composite
def damaged(draw: st.DrawFn, genuine: list[bytes]) -> bytes:
    """One of them with some bytes changed, put in or taken out."""
    data = bytearray(draw(st.sampled_from(genuine)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        data[at : at + draw(st.integers(0, 2))] = draw(st.binary(max_size=2))
    return bytes(data)


def outcome(bench: Bench, name: str, *arguments: object) -> int:
    """StatusCode of a call. Raises what would have been BadInternalError."""

    async def called() -> int:
        try:
            await bench(name, *arguments)
        except (Fault, EnoseError) as refusal:
            return refusal.status
        finally:
            bench.certificates.session_closed("one")
        return 0

    return asyncio.run(called())


certificates = damaged(GENUINE) | st.binary(max_size=64)
revocations = damaged([crl(CA), crl(CA, LEAF)]) | st.binary(max_size=64)


@given(certificates, damaged([pem(key(30)), b""]), st.sampled_from(["", "PEM", "PFX", "DER"]))
def test_any_certificate_and_key_is_answered(bench: Bench, certificate: bytes, secret: bytes, form: str) -> None:
    given_ = NULL, NULL, certificate, [], form, secret
    assert outcome(bench, "ServerConfiguration_UpdateCertificate", *given_) not in UNEXPECTED


@given(certificates, st.booleans())
def test_any_certificate_to_trust_is_answered(bench: Bench, certificate: bytes, trusted: bool) -> None:
    assert outcome(bench, f"{LIST}_AddCertificate", certificate, trusted) not in UNEXPECTED


@given(
    st.lists(certificates, max_size=2),
    st.lists(revocations, max_size=2),
    st.lists(certificates, max_size=2),
    damaged([b"\x0f\0\0\0" + b"\0" * 16]),
)
def test_any_trust_list_is_answered(
    bench: Bench, trusted: list[bytes], crls: list[bytes], issuers: list[bytes], raw: bytes
) -> None:
    made = ua.TrustListDataType(
        SpecifiedLists=15, TrustedCertificates=trusted, TrustedCrls=crls, IssuerCertificates=issuers, IssuerCrls=[]
    )
    for data in (bytes(struct_to_binary(made)), raw):

        async def pushed(data: bytes = data) -> int:
            try:
                [handle] = await bench(f"{LIST}_Open", 6)
                await bench(f"{LIST}_Write", handle, data)
                await bench(f"{LIST}_CloseAndUpdate", handle)
                await bench("ServerConfiguration_CancelChanges")
            except (Fault, EnoseError) as refusal:
                return refusal.status
            finally:
                bench.certificates.session_closed("one")
            return 0

        assert asyncio.run(pushed()) not in UNEXPECTED


@given(st.text(max_size=40) | st.from_regex(r"(/?(CN|O|OU|DC|L|S|C)=.{0,5})*", fullmatch=True))
def test_any_subject_is_answered(bench: Bench, name: str) -> None:
    given_ = NULL, NULL, name, False, b""
    assert outcome(bench, "ServerConfiguration_CreateSigningRequest", *given_) not in UNEXPECTED
