"""The check of request bodies before decoding (hostile-inputs H26 to H30)."""

import struct

import pytest
from asyncua import ua
from asyncua.ua.ua_binary import struct_to_binary

from opcua_server.services.limits import Limits
from opcua_server.services.status import Fault
from opcua_server.services.wire import Wire, step_of

CODES = ua.StatusCodes
WIRE = Wire(Limits())


def fault(kind: type, data: bytes, wire: Wire = WIRE) -> int | None:
    """StatusCode of the refusal; None for data that passes."""
    try:
        wire.check(kind, data)
    except Fault as refusal:
        return refusal.status
    return None


def variant(data: bytes) -> int | None:
    """Refusal of a WriteValue with this encoded Variant."""
    value = ua.WriteValue(NodeId=ua.NodeId("x", 3), AttributeId=13, Value=ua.DataValue(ua.Variant(True)))
    encoded = struct_to_binary(ua.WriteParameters(NodesToWrite=[value]))
    whole = struct_to_binary(ua.DataValue(ua.Variant(True)))
    return fault(ua.WriteParameters, encoded.replace(whole, whole[:1] + data + whole[3:]))


def string(length: int, content: bytes) -> bytes:
    return b"\x0c" + struct.pack("<i", length) + content


def test_every_structure_that_can_be_sent_can_be_walked() -> None:
    # A type the walk does not know would be a request nobody can send, or an exception in the loop.
    unknown = []
    for kind in {*ua.extension_objects_by_typeid.values(), ua.RequestHeader, ua.ReadParameters}:
        try:
            step_of(kind)
        except AttributeError:
            unknown.append(kind.__name__)
    # Two with a field of type PortableNodeId, which asyncua 2.1.0 lacks: its decoder fails too.
    assert sorted(unknown) == ["AliasCategoryUpdateDataType", "AliasUpdateDataType"]


def test_a_whole_request_passes_and_a_part_or_more_than_it_does_not() -> None:
    # Part 4 7.38: BadDecodingError. Trailing bytes are somebody's other idea of the type.
    request = ua.ReadParameters(NodesToRead=[ua.ReadValueId(NodeId=ua.NodeId(f"n{i}", 3)) for i in range(20)])
    data = struct_to_binary(request)
    assert fault(ua.ReadParameters, data) is None
    assert {fault(ua.ReadParameters, data[:cut]) for cut in range(len(data))} == {CODES.BadDecodingError}
    assert fault(ua.ReadParameters, data + b"\0") == CODES.BadDecodingError


def test_header_ends_where_the_parameters_begin() -> None:
    header = struct_to_binary(ua.RequestHeader(AuditEntryId="é"))
    data = b"\x01\x00" + struct.pack("<H", ua.ObjectIds.ReadRequest_Encoding_DefaultBinary) + header
    assert WIRE.header(data + b"rest") == len(data)
    with pytest.raises(Fault):
        WIRE.header(data[:-1])


@pytest.mark.parametrize(
    "content",
    [b"\xc0\x80", b"\xe0\x80\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xff", b"\xc3", b"ok\x80"],
    ids=["overlong NUL", "overlong slash", "surrogate", "beyond Unicode", "no start", "cut", "no lead"],
)
def test_text_has_to_be_utf_8(content: bytes) -> None:
    # RFC 3629 3: an overlong slash passes a filter that looks for slashes. asyncua takes them as surrogates.
    assert variant(string(len(content), content)) == CODES.BadDecodingError


def test_control_signs_are_text() -> None:
    # NUL, ESC and direction marks are legal UTF-8; records and logs deal with them where they are written.
    for content in (b"a\0b", b"\x1b[31m", "\u202e".encode(), "日本".encode()):
        assert variant(string(len(content), content)) is None


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (2**31 - 1, CODES.BadEncodingLimitsExceeded),
        (65_537, CODES.BadEncodingLimitsExceeded),
        (100, CODES.BadDecodingError),  # longer than the message
        (-2, CODES.BadDecodingError),
        (-(2**31), CODES.BadDecodingError),
    ],
)
def test_lengths_are_not_believed(length: int, expected: int) -> None:
    number = struct.pack("<i", length)
    for encoding in (b"\x0c", b"\x0f", b"\x8b", b"\x8c", b"\x98"):  # String, ByteString, arrays of Double, String...
        assert variant(encoding + number) == expected


def test_null_and_empty_are_no_length() -> None:
    for length in (-1, 0):
        for encoding in (b"\x0c", b"\x0f", b"\x8b", b"\x98"):
            assert variant(encoding + struct.pack("<i", length)) is None


def test_nesting_ends() -> None:
    # Part 6 5.2.2.12: a decoder that calls itself a thousand times has met its end before.
    def nested(levels: int) -> bytes:
        return b"\x98\x01\0\0\0" * levels + b"\0"

    assert variant(nested(90)) is None
    for levels in (101, 1_000, 100_000):
        assert variant(nested(levels)) == CODES.BadEncodingLimitsExceeded


def test_nested_diagnostics_and_data_values_end() -> None:
    assert fault(ua.DiagnosticInfo, b"\x40" * 10_000 + b"\0") == CODES.BadDecodingError  # asyncua knows no inner one
    assert variant(b"\x17\x01" * 10_000 + b"\0") == CODES.BadEncodingLimitsExceeded


def test_nested_extension_objects_end() -> None:
    body = b""
    for _ in range(200):
        literal = b"\x01\0" + struct.pack("<H", ua.ObjectIds.LiteralOperand_Encoding_DefaultBinary)
        content = b"\x16" + (body or b"\0\0\0")
        body = literal + b"\x01" + struct.pack("<i", len(content)) + content
    assert variant(b"\x16" + body) == CODES.BadEncodingLimitsExceeded


def test_small_messages_do_not_make_many_objects() -> None:
    # Two megabytes of null Variants are two million objects and six seconds of decoding.
    array = b"\x98" + struct.pack("<i", 60_000) + bytes(60_000)
    assert variant(array) is None
    assert variant(b"\x98" + struct.pack("<i", 2) + array * 2) == CODES.BadEncodingLimitsExceeded
    assert variant(b"\x80" + struct.pack("<i", 60_000)) == CODES.BadDecodingError  # nulls without a byte each


def test_bulk_numbers_are_no_objects() -> None:
    value = ua.Variant([0.0] * 65_536, ua.VariantType.Double)
    item = ua.WriteValue(NodeId=ua.NodeId("x", 3), AttributeId=13, Value=ua.DataValue(value))
    assert fault(ua.WriteParameters, struct_to_binary(ua.WriteParameters(NodesToWrite=[item, item]))) is None


@pytest.mark.parametrize(
    ("dimensions", "expected"),
    [
        ([2, 3], None),
        ([6], None),
        ([2, 2], CODES.BadDecodingError),
        ([-1, 6], CODES.BadDecodingError),
        ([2**31 - 1, 2**31 - 1], CODES.BadDecodingError),
        ([0, 6], CODES.BadDecodingError),
        ([6] + [1] * 100, CODES.BadEncodingLimitsExceeded),
    ],
)
def test_dimensions_have_to_fit_the_elements(dimensions: list[int], expected: int | None) -> None:
    # asyncua made arrays for a million elements that were never sent, and called itself once per dimension.
    data = b"\xc3" + struct.pack("<i", 6) + bytes(6)
    data += struct.pack(f"<i{len(dimensions)}i", len(dimensions), *dimensions)
    assert variant(data) == expected


def test_dimensions_without_an_array_and_types_without_a_name_are_refused() -> None:
    assert variant(b"\x43\x01\x01\0\0\0\x01\0\0\0") == CODES.BadDecodingError
    assert variant(b"\x20") == variant(b"\x3f") == CODES.BadDecodingError


def test_extension_objects_are_walked_to_their_end_or_stay_closed() -> None:
    # H30: asyncua reads a body of length -1 from the rest of the message.
    number = struct.pack("<H", ua.ObjectIds.Range_Encoding_DefaultBinary)

    def extension(type_id: bytes, encoding: int, length: int, body: bytes) -> int | None:
        return variant(b"\x16" + type_id + bytes([encoding]) + struct.pack("<i", length) + body)

    known, foreign = b"\x01\0" + number, b"\x02\x63\0\x01\0\0\0"
    assert extension(known, 1, 16, bytes(16)) is None
    for length in (-1, 0, 15, 17, 2**31 - 1):
        assert extension(known, 1, length, bytes(max(0, min(length, 100)))) == CODES.BadDecodingError
    assert extension(foreign, 1, 30, bytes(30)) is None
    assert extension(foreign, 1, 300, bytes(30)) == CODES.BadDecodingError
    for type_id in (known, foreign):  # XML is never parsed (entity bombs), nor skipped by asyncua
        assert extension(type_id, 2, 30, b"<!DOCTYPE a [<!ENTITY b 'bbb'>") == CODES.BadDecodingError
        assert extension(type_id, 7, 30, bytes(30)) == CODES.BadDecodingError
    for null in (b"\x03\0\0\xff\xff\xff\xff", b"\x05\0\0\xff\xff\xff\xff"):
        assert extension(null, 1, 0, b"") == CODES.BadDecodingError


def test_limits_are_those_given() -> None:
    small = Wire(Limits(string=3, array=2, nesting=1, elements=2))
    for value, expected in (
        (ua.Variant("abc"), None),
        (ua.Variant("abcd"), CODES.BadEncodingLimitsExceeded),
        (ua.Variant([1, 2]), None),
        (ua.Variant([1, 2, 3]), CODES.BadEncodingLimitsExceeded),
        (ua.Variant([ua.Variant(1)], ua.VariantType.Variant), CODES.BadEncodingLimitsExceeded),
    ):
        assert fault(ua.Argument, b"", small) == CODES.BadDecodingError
        data = struct_to_binary(ua.CallMethodRequest(InputArguments=[value]))
        assert fault(ua.CallMethodRequest, data, small) == expected
