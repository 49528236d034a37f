"""The head of a request, whichever way a client writes it (Part 4 7.33, Part 6 5.2)."""

import struct
from typing import Any

import pytest
from asyncua import ua
from asyncua.ua.ua_binary import nodeid_to_binary, struct_to_binary
from hypothesis import given
from hypothesis import strategies as st

from opcua_server.services.headers import RequestHeader, any_head, head
from opcua_server.services.limits import Limits
from opcua_server.services.status import Fault
from opcua_server.services.wire import Wire

WIRE = Wire(Limits())
READ = ua.ObjectIds.ReadRequest_Encoding_DefaultBinary
TOKEN = bytes(range(32))
COMMON = struct.pack("<BBH", 1, 0, READ)
"""Type id as clients write it."""
HEADERS: dict[str, tuple[dict[str, Any], RequestHeader]] = {
    "as usual": (
        {"RequestHandle": 7, "TimeoutHint": 9, "ReturnDiagnostics": 0x3FF},
        RequestHeader(TOKEN, 7, "", 9, 0x3FF),
    ),
    "no text instead of an empty one": ({"AuditEntryId": None}, RequestHeader(TOKEN)),
    "empty text": ({"AuditEntryId": ""}, RequestHeader(TOKEN)),
    "with an entry of the client's log": ({"AuditEntryId": "é-1"}, RequestHeader(TOKEN, 0, "é-1")),
    "with an additional header": ({"AdditionalHeader": ua.Argument(Name="x")}, RequestHeader(TOKEN)),
    "a shorter token": ({"AuthenticationToken": ua.NodeId(b"short", 0)}, RequestHeader(b"short")),
    "a token of another namespace": ({"AuthenticationToken": ua.NodeId(TOKEN, 1)}, RequestHeader()),
    "no token": ({"AuthenticationToken": ua.NodeId()}, RequestHeader()),
    "a text as token": ({"AuthenticationToken": ua.NodeId("admin", 0)}, RequestHeader()),
}


def encoded(**given: Any) -> bytes:
    return struct_to_binary(ua.RequestHeader(**{"AuthenticationToken": ua.NodeId(TOKEN, 0)} | given))


@pytest.mark.parametrize(("given", "expected"), HEADERS.values(), ids=HEADERS)
def test_a_header_is_read_and_the_parameters_begin_behind_it(given: dict[str, Any], expected: RequestHeader) -> None:
    data = COMMON + encoded(**given)
    assert head(data + b"parameters", WIRE) == (READ, expected, len(data))


@pytest.mark.parametrize("given", [given for given, _ in HEADERS.values()], ids=HEADERS)
def test_a_header_cut_off_anywhere_is_refused(given: dict[str, Any]) -> None:
    data = COMMON + encoded(**given)
    for cut in range(len(data)):
        with pytest.raises(Fault):
            head(data[:cut], WIRE)


@pytest.mark.parametrize(
    ("kind", "service"),
    [(ua.NodeId(READ, 0, ua.NodeIdType.Numeric), READ), (ua.NodeId(READ, 1), -1), (ua.NodeId("ReadRequest", 0), -1)],
    ids=["another form of the same", "another namespace", "a name"],
)
def test_the_service_is_known_by_a_number_of_namespace_0(kind: Any, service: int) -> None:
    data = nodeid_to_binary(kind) + encoded()
    assert head(data, WIRE) == (service, RequestHeader(TOKEN), len(data))


def found(read: Any, message: bytes) -> Any:
    """What it finds, or the StatusCode of its refusal."""
    try:
        return read(message, WIRE)
    except Fault as fault:
        return fault.status


BEGINNINGS = [b"", COMMON, COMMON + b"\x05\0\0" + struct.pack("<i", 32) + TOKEN]


@given(
    begin=st.sampled_from(BEGINNINGS),
    middle=st.binary(min_size=16, max_size=16),
    entry=st.sampled_from([-2, -1, 0, 3]),
    rest=st.one_of(st.binary(max_size=30), st.binary(min_size=4, max_size=4).map(lambda timeout: timeout + bytes(3))),
)
def test_both_ways_to_read_a_head_find_the_same(begin: bytes, middle: bytes, entry: int, rest: bytes) -> None:
    message = begin + middle + struct.pack("<i", entry) + rest
    assert found(head, message) == found(any_head, message)
