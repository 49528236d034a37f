"""Read and Write (Part 4 5.11)."""

import contextlib
import time

import pytest
from asyncua import ua
from hypothesis import given
from hypothesis import strategies as st

from opcua_server.services.attributes import parse_range, take
from opcua_server.services.limits import Limits
from opcua_server.services.status import Fault
from tests.conformance.opcua import Bench, Raw, nid

CODES = ua.StatusCodes
anyio = pytest.mark.asyncio(loop_scope="session")


@anyio
@pytest.mark.parametrize(
    ("node", "text", "expected"),
    [
        ("Vector", "1:2", [2.0, 3.0]),
        ("Vector", "0", [1.0]),
        ("Vector", "2:99", [3.0, 4.0]),  # 7.27: an upper bound past the end is cut off
        ("Text", "1:3", "bcd"),
        ("Vector", "4", CODES.BadIndexRangeNoData),
        ("Vector", "2:1", CODES.BadIndexRangeInvalid),
        ("Vector", "1:1", CODES.BadIndexRangeInvalid),
        ("Vector", "-1", CODES.BadIndexRangeInvalid),
        ("Vector", "a", CODES.BadIndexRangeInvalid),
        ("Vector", "99999999999999", CODES.BadIndexRangeInvalid),
        ("Value", "0", CODES.BadIndexRangeNoData),
    ],
)
async def test_an_index_range_is_honoured_or_refused(raw: Raw, node: str, text: str, expected: object) -> None:
    # asyncua answered the whole array with Good.
    value = await raw.read(nid(f"Part.{node}"), IndexRange=text)
    if isinstance(expected, int):
        assert value.StatusCode.value == expected
    else:
        assert value.Value.Value == expected


@anyio
async def test_unknown_things_have_their_codes(raw: Raw) -> None:
    assert (await raw.read(nid("Nowhere"))).StatusCode.value == CODES.BadNodeIdUnknown
    assert (await raw.read(nid("Part"))).StatusCode.value == CODES.BadAttributeIdInvalid
    assert (await raw.read(nid("Part.Value"), 99)).StatusCode.value == CODES.BadAttributeIdInvalid
    # 5.11.2.2: an encoding can be chosen for structures alone.
    encoding = ua.QualifiedName("Default XML")
    encoded = await raw.read(nid("Part.Value"), DataEncoding=encoding)
    assert encoded.StatusCode.value == CODES.BadDataEncodingInvalid
    encoded = await raw.read(nid("Part.Value.EURange"), DataEncoding=encoding)
    assert encoded.StatusCode.value == CODES.BadDataEncodingUnsupported


@anyio
async def test_a_variable_without_read_access_is_not_read(raw: Raw) -> None:
    # asyncua's Read checked nothing.
    assert (await raw.read(nid("Part.Secret"))).StatusCode.value == CODES.BadNotReadable
    subscription = (await raw.subscribe()).SubscriptionId
    # 5.13.2.1: the item is made, and the refusal reported.
    assert (await raw.monitor(subscription, nid("Part.Secret"))).StatusCode.is_good()
    (told,) = await raw.next_data()
    assert (told.StatusCode.value, told.Value.Value) == (CODES.BadNotReadable, None)


@anyio
async def test_only_timestamps_asked_for_are_answered(bench: Bench, raw: Raw) -> None:
    measured = time.time_ns() - 5 * 10**9
    bench.server.write("Part.Value", ua.Variant(1.0), 0, measured, measured + 10**9)

    async def stamps(wanted: ua.TimestampsToReturn) -> tuple[bool, bool]:
        parameters = ua.ReadParameters(
            TimestampsToReturn=wanted,
            NodesToRead=[ua.ReadValueId(NodeId=nid("Part.Value"), AttributeId=ua.AttributeIds.Value)],
        )
        value = (await raw.call(ua.ReadRequest(Parameters=parameters))).Results[0]
        return value.SourceTimestamp is not None, value.ServerTimestamp is not None

    kinds = ua.TimestampsToReturn
    assert await stamps(kinds.Both) == (True, True)
    assert await stamps(kinds.Source) == (True, False)
    assert await stamps(kinds.Server) == (False, True)
    assert await stamps(kinds.Neither) == (False, False)
    both = await raw.read(nid("Part.Value"))
    assert (both.ServerTimestamp - both.SourceTimestamp).total_seconds() == 1.0


@anyio
async def test_max_age_and_counts_are_checked(raw: Raw) -> None:
    node = ua.ReadValueId(NodeId=nid("Part.Value"), AttributeId=ua.AttributeIds.Value)
    for parameters, expected in (
        (ua.ReadParameters(MaxAge=-1.0, NodesToRead=[node]), CODES.BadMaxAgeInvalid),
        (ua.ReadParameters(NodesToRead=[]), CODES.BadNothingToDo),
        (ua.ReadParameters(NodesToRead=[node] * (Limits().operations + 1)), CODES.BadTooManyOperations),
    ):
        with pytest.raises(ua.UaStatusCodeError) as refused:
            await raw.call(ua.ReadRequest(Parameters=parameters))
        assert refused.value.code == expected


@anyio
async def test_user_access_level_says_what_write_will_say(raw: Raw) -> None:
    level = await raw.read(nid("Part.Value"), ua.AttributeIds.UserAccessLevel)
    assert level.Value.Value == 1
    assert level.Value.VariantType == ua.VariantType.Byte


@anyio
async def test_a_bad_value_is_null(bench: Bench, raw: Raw) -> None:
    # Part 4 7.11: the value of a Bad DataValue is null, never the last good one.
    now = time.time_ns()
    bench.server.write("Part.Value", ua.Variant(5.0), CODES.BadNoCommunication, now, now)
    value = await raw.read(nid("Part.Value"))
    assert (value.StatusCode.value, value.Value.Value) == (CODES.BadNoCommunication, None)
    bench.server.write("Part.Value", ua.Variant(0.0), 0, now, now)


@given(st.integers(0, 50), st.integers(1, 50), st.lists(st.integers(), min_size=1, max_size=60))
def test_ranges_are_slices(low: int, length: int, values: list[int]) -> None:
    high = low + length
    variant = ua.Variant(values, ua.VariantType.Int64)
    if low < len(values):
        assert take(variant, f"{low}:{high}").Value == values[low : high + 1]
    else:
        with pytest.raises(Fault):
            take(variant, f"{low}:{high}")


@given(st.text(max_size=12))
def test_any_text_is_a_range_or_refused(text: str) -> None:
    with contextlib.suppress(Fault):
        assert all(s.start < s.stop for s in parse_range(text))


def test_matrices_are_cut_in_each_dimension() -> None:
    matrix = ua.Variant([[1, 2, 3], [4, 5, 6]], ua.VariantType.Int32)
    assert take(matrix, "1,0:1").Value == [[4, 5]]
