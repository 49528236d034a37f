"""HistoryRead raw (Part 11 6.5.3)."""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import struct_from_binary
from hypothesis import given
from hypothesis import strategies as st

from nodesets.ports import Series
from opcua_server.services.history_encoding import fitting
from opcua_server.services.history_encoding import history_data as encode
from opcua_server.services.limits import Limits
from opcua_server.services.nodes import Access
from opcua_server.services.status import Fault
from tests.conformance.opcua import Bench, Raw, nid

CODES = ua.StatusCodes
anyio = pytest.mark.asyncio(loop_scope="session")
START = datetime(2025, 1, 1, tzinfo=UTC)
NS = int(START.timestamp()) * 10**9
SECOND = 10**9
NULL_TIME = datetime(1601, 1, 1)  # noqa: DTZ001 - as asyncua has it
BOTH = ua.TimestampsToReturn.Both


class Recorded:
    """`count` values at whole seconds from START: value i at second i."""

    def __init__(self, count: int, times: Sequence[int] = ()) -> None:
        """`times`: other seconds."""
        self.times = NS + np.array(times or range(count), np.int64) * SECOND

    async def read_raw(
        self, tag: str, start: int | None, end: int | None, limit: int, after: tuple[int, int] | None = None
    ) -> Series:
        backward = start is None or (end is not None and start > end)
        if backward:
            high, low = (end, None) if start is None else (start, end)
            chosen = [t for t in self.times[::-1] if (high is None or t <= high) and (low is None or t > low)]
        else:
            chosen = [t for t in self.times if t >= start and (end is None or t < end)]
        if after is not None:
            chosen = [t for t in chosen if (t < after[0] if backward else t > after[0])]
        page = np.array(chosen[:limit], np.int64)
        more = (int(page[-1]), 0) if len(chosen) > limit else None
        values = (page - NS) / SECOND
        return Series(page, page + 10**6, values, np.zeros(len(page), np.uint32), more)


@pytest_asyncio.fixture(loop_scope="session")
async def reader(bench: Bench) -> AsyncIterator[Recorded]:
    for name in ("Value", "Count", "Text"):
        await allow(bench, f"Part.{name}", Access.READ | Access.HISTORY_READ)
    recorded = Recorded(25)
    bench.server.historize("Part.Value", recorded)
    yield recorded
    for name in ("Value", "Count", "Text"):
        await allow(bench, f"Part.{name}", Access.READ)


async def allow(bench: Bench, node: str, access: Access) -> None:
    level = ua.DataValue(ua.Variant(int(access), ua.VariantType.Byte))
    await bench.server.asyncua.get_node(nid(node)).write_attribute(ua.AttributeIds.AccessLevel, level)


def when(second: float | None) -> datetime:
    return NULL_TIME if second is None else START + timedelta(seconds=second)


async def history(
    raw: Raw,
    start: float | None,
    end: float | None,
    most: int = 0,
    *,
    bounds: bool = False,
    node: ua.NodeId | None = None,
    point: bytes | None = None,
    release: bool = False,
    details: Any = None,
) -> ua.HistoryReadResult:
    details = (
        details
        if details is not None
        else ua.ReadRawModifiedDetails(
            IsReadModified=False,
            StartTime=when(start),
            EndTime=when(end),
            NumValuesPerNode=most,
            ReturnBounds=bounds,
        )
    )
    parameters = ua.HistoryReadParameters(
        HistoryReadDetails=details,
        TimestampsToReturn=BOTH,
        ReleaseContinuationPoints=release,
        NodesToRead=[ua.HistoryReadValueId(NodeId=node or nid("Part.Value"), ContinuationPoint=point)],
    )
    return (await raw.call(ua.HistoryReadRequest(Parameters=parameters))).Results[0]


def seconds(result: ua.HistoryReadResult) -> list[float]:
    """Values of a result; -1 for a bound not found."""
    return [
        -1.0 if v.StatusCode.value == CODES.BadBoundNotFound else v.Value.Value
        for v in result.HistoryData.DataValues or []
    ]


@anyio
@pytest.mark.parametrize(
    ("start", "end", "most", "expected"),
    [
        (2.0, 5.0, 0, [2, 3, 4]),
        (5.0, 2.0, 0, [5, 4, 3]),
        (2.5, None, 3, [3, 4, 5]),
        (None, 5.5, 3, [5, 4, 3]),
        (3.0, 3.0, 0, [3]),
        (3.5, 3.5, 0, []),
        (100.0, 200.0, 0, []),
    ],
)
async def test_ranges_forward_backward_and_open(
    raw: Raw, reader: Recorded, start: float | None, end: float | None, most: int, expected: list[float]
) -> None:
    result = await history(raw, start, end, most)
    assert seconds(result) == expected
    assert result.ContinuationPoint is None
    assert result.StatusCode.value == (0 if expected else CODES.GoodNoData)


@anyio
async def test_values_carry_their_own_times(raw: Raw, reader: Recorded) -> None:
    first = (await history(raw, 2.0, 3.0)).HistoryData.DataValues[0]
    assert first.SourceTimestamp == START + timedelta(seconds=2)
    assert first.ServerTimestamp == START + timedelta(seconds=2, milliseconds=1)


@anyio
async def test_pages_together_are_the_range(raw: Raw, reader: Recorded) -> None:
    # asyncua had no continuation point until its storage was full: a client lost the rest unknowingly.
    result = await history(raw, 0.0, 25.0, 10)
    found = seconds(result)
    while result.ContinuationPoint:
        result = await history(raw, 0.0, 25.0, 10, point=result.ContinuationPoint)
        found += seconds(result)
    assert found == list(range(25))


@anyio
async def test_an_open_range_ends_with_its_number(raw: Raw, reader: Recorded) -> None:
    assert (await history(raw, 0.0, None, 10)).ContinuationPoint is None


TABLE = [
    ("5:00", "5:05", 0, True, "5:00 5:02 5:03 5:05"),
    ("5:00", "5:05", 0, False, "5:00 5:02 5:03"),
    ("5:01", "5:04", 0, True, "5:00 5:02 5:03 5:05"),
    ("5:01", "5:04", 0, False, "5:02 5:03"),
    ("5:05", "5:00", 0, True, "5:05 5:03 5:02 5:00"),
    ("5:05", "5:00", 0, False, "5:05 5:03 5:02"),
    ("5:04", "5:01", 0, True, "5:05 5:03 5:02 5:00"),
    ("5:04", "5:01", 0, False, "5:03 5:02"),
    ("4:59", "5:05", 0, True, "4:59! 5:00 5:02 5:03 5:05"),
    ("4:59", "5:05", 0, False, "5:00 5:02 5:03"),
    ("5:01", "5:07", 0, True, "5:00 5:02 5:03 5:05 5:06 5:07!"),
    ("5:01", "5:07", 0, False, "5:02 5:03 5:05 5:06"),
    ("5:00", "5:05", 3, True, "5:00 5:02 5:03"),
    ("5:00", "5:05", 3, False, "5:00 5:02 5:03"),
    ("5:01", "5:04", 3, True, "5:00 5:02 5:03"),
    ("5:01", "5:04", 3, False, "5:02 5:03"),
    ("5:05", "5:00", 3, True, "5:05 5:03 5:02"),
    ("5:04", "5:01", 3, True, "5:05 5:03 5:02"),
    ("4:59", "5:05", 3, True, "4:59! 5:00 5:02"),
    ("4:59", "5:05", 3, False, "5:00 5:02 5:03"),
    ("5:01", "5:07", 3, True, "5:00 5:02 5:03"),
    ("5:00", None, 3, True, "5:00 5:02 5:03"),
    ("5:00", None, 6, True, "5:00 5:02 5:03 5:05 5:06 last!"),
    ("5:00", None, 6, False, "5:00 5:02 5:03 5:05 5:06"),
    ("5:07", None, 6, True, "5:06 last!"),
    ("5:07", None, 6, False, ""),
    (None, "5:06", 3, True, "5:06 5:05 5:03"),
    (None, "5:06", 6, True, "5:06 5:05 5:03 5:02 5:00 last!"),
    (None, "5:06", 6, False, "5:06 5:05 5:03 5:02 5:00"),
    (None, "4:48", 6, True, "5:00 last!"),
    (None, "4:48", 6, False, ""),
    ("4:48", "4:48", 0, True, "4:48! 5:00"),
    ("4:48", "4:48", 0, False, ""),
    ("4:48", "4:48", 1, True, "4:48!"),
    ("5:00", "5:00", 0, True, "5:00 5:02"),
    ("5:00", "5:00", 0, False, "5:00"),
    ("5:00", "5:00", 1, True, "5:00"),
    ("5:01", "5:01", 0, True, "5:00 5:02"),
    ("5:01", "5:01", 0, False, ""),
    ("5:07", "5:07", 0, True, "5:06 5:07!"),
]
"""Start, end, values asked for, bounds -> times; ! is a null with Bad_BoundNotFound."""


def minute(clock: str | None) -> float | None:
    if clock is None:
        return None
    hours, minutes = clock.split(":")
    return int(hours) * 3600 + int(minutes) * 60 - 18_000


@anyio
@pytest.mark.parametrize(("start", "end", "most", "bounds", "expected"), TABLE)
async def test_bounds_are_those_of_the_standards_table(
    bench: Bench, raw: Raw, reader: Recorded, start: str | None, end: str | None, most: int, bounds: bool, expected: str
) -> None:
    # 4.6 table 1: so that a trend can be drawn to its edges, in every combination of what is given.
    stored = [int(minute(clock) or 0) for clock in ("5:00", "5:02", "5:03", "5:05", "5:06")]
    bench.server.historize("Part.Value", Recorded(0, stored))
    result = await history(raw, minute(start), minute(end), most, bounds=bounds)
    assert [clock(v) for v in result.HistoryData.DataValues or []] == expected.split()
    assert result.StatusCode.value == (0 if expected else CODES.GoodNoData)


def clock(value: Any) -> str:
    second = int((value.SourceTimestamp.replace(tzinfo=UTC) - START).total_seconds()) + 18_000
    missing = value.StatusCode.value == CODES.BadBoundNotFound
    if missing and second % 60:  # a second beside the last value
        return "last!"
    return f"{second // 3600}:{second // 60 % 60:02}" + "!" * missing


@anyio
@pytest.mark.parametrize(("start", "end", "most", "bounds", "expected"), [row for row in TABLE if None not in row[:2]])
async def test_pages_of_one_are_the_whole_with_its_bounds(
    bench: Bench, raw: Raw, reader: Recorded, start: str, end: str, most: int, bounds: bool, expected: str
) -> None:
    stored = [int(minute(clock) or 0) for clock in ("5:00", "5:02", "5:03", "5:05", "5:06")]
    bench.server.historize("Part.Value", Recorded(0, stored))
    whole = await history(raw, minute(start), minute(end), 0, bounds=bounds)
    found, point = [], None
    while True:
        result = await history(raw, minute(start), minute(end), 1, bounds=bounds, point=point)
        found += [clock(v) for v in result.HistoryData.DataValues or []]
        point = result.ContinuationPoint
        if not point:
            break
    assert found == [clock(v) for v in whole.HistoryData.DataValues or []]


@anyio
async def test_a_continuation_point_is_of_its_session_and_node_and_serves_once(
    bench: Bench, raw: Raw, reader: Recorded
) -> None:
    bench.server.historize("Part.Count", reader)
    point = (await history(raw, 0.0, 25.0, 10)).ContinuationPoint

    async def code(client: Raw, point: bytes | None, node: str = "Part.Value", release: bool = False) -> int:
        result = await history(client, 0.0, 25.0, 10, point=point, node=nid(node), release=release)
        return int(result.StatusCode.value)

    async with Raw(bench) as other:
        await other.login()
        assert await code(other, point) == CODES.BadContinuationPointInvalid
    assert await code(raw, b"forged") == CODES.BadContinuationPointInvalid
    assert await code(raw, point, "Part.Count") == CODES.BadContinuationPointInvalid
    assert await code(raw, point) == 0
    assert await code(raw, point) == CODES.BadContinuationPointInvalid
    released = (await history(raw, 0.0, 25.0, 10)).ContinuationPoint
    assert await code(raw, released, release=True) == 0
    assert await code(raw, released) == CODES.BadContinuationPointInvalid


@anyio
async def test_continuation_points_of_earlier_requests_give_way(raw: Raw, reader: Recorded) -> None:
    # 7.9
    results = [await history(raw, 0.0, 25.0, 1) for _ in range(Limits().history_points + 1)]
    assert {r.StatusCode.value for r in results} == {0}
    spent = await history(raw, 0.0, 25.0, 1, point=results[0].ContinuationPoint)
    assert spent.StatusCode.value == CODES.BadContinuationPointInvalid
    assert (await history(raw, 0.0, 25.0, 1, point=results[-1].ContinuationPoint)).StatusCode.is_good()


@anyio
async def test_what_is_not_recorded_or_not_offered_says_so(raw: Raw, reader: Recorded) -> None:
    # asyncua answered Good with no values.
    assert (await history(raw, 0.0, 1.0, node=nid("Nowhere"))).StatusCode.value == CODES.BadNodeIdUnknown
    text = await history(raw, 0.0, 1.0, node=nid("Part.Text"))
    assert text.StatusCode.value == CODES.BadHistoryOperationUnsupported
    # Part 4 5.11.3.4: what a node cannot answer is its own status, what nobody could is the request's.
    answer = await history(raw, 0.0, 1.0, details=ua.ReadEventDetails())
    assert answer.StatusCode.value == CODES.BadHistoryOperationUnsupported
    with pytest.raises(ua.UaStatusCodeError) as refused:
        await history(raw, 0.0, 1.0, details=ua.ExtensionObject())
    assert refused.value.code == CODES.BadHistoryOperationInvalid
    assert (await history(raw, None, None, 5)).StatusCode.value == CODES.BadHistoryOperationInvalid
    assert (await history(raw, 0.0, None, 0)).StatusCode.value == CODES.BadHistoryOperationInvalid


@anyio
async def test_an_ordinary_client_reads_a_long_history(bench: Bench, raw: Raw, reader: Recorded) -> None:
    many = Limits().history_page + 5
    bench.server.historize("Part.Value", Recorded(many))
    result = await history(raw, 0.0, float(many))
    assert len(result.HistoryData.DataValues) == Limits().history_page
    rest = await history(raw, 0.0, float(many), point=result.ContinuationPoint)
    assert seconds(rest) == [float(many - 5 + i) for i in range(5)]


finite = st.floats(allow_nan=False, allow_infinity=False)
codes = st.sampled_from([0, 0x408F0000, 0x80310000, CODES.BadBoundNotFound])


@given(
    st.lists(st.tuples(st.integers(0, 2**61), finite, codes), max_size=30),
    st.sampled_from([BOTH, ua.TimestampsToReturn.Source, ua.TimestampsToReturn.Server]),
)
def test_a_page_decodes_to_what_it_was_made_of(rows: list[tuple[int, float, int]], stamps: Any) -> None:
    """asyncua's decoder is the other opinion on our bytes."""
    times = np.array([r[0] for r in rows], np.int64)
    series = Series(
        times,
        times,
        np.array([r[1] for r in rows], np.float64),
        np.array([r[2] for r in rows], np.uint32),
        None,
    )
    data = encode([series], ua.VariantType.Double.value, stamps).Body
    decoded = struct_from_binary(ua.HistoryData, Buffer(data)).DataValues or []
    assert len(decoded) == len(rows)
    for (time, number, code), value in zip(rows, decoded, strict=True):
        assert value.StatusCode.value == code
        assert value.Value.Value == (None if code & 0x80000000 else number)
        assert (value.SourceTimestamp is not None) == (stamps != ua.TimestampsToReturn.Server)
        assert (value.ServerTimestamp is not None) == (stamps != ua.TimestampsToReturn.Source)
        if value.SourceTimestamp is not None:
            expected = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time // 1000)
            assert abs(value.SourceTimestamp.replace(tzinfo=UTC) - expected) <= timedelta(microseconds=1)


@pytest.mark.parametrize("kind", [ua.VariantType.Int32, ua.VariantType.UInt32, ua.VariantType.Float])
def test_other_numbers_keep_their_type(kind: Any) -> None:
    at = np.array([NS, NS], np.int64)
    series = Series(at, at, np.array([7.0, np.nan]), np.zeros(2, np.uint32), None)
    decoded = struct_from_binary(ua.HistoryData, Buffer(encode([series], kind.value, BOTH).Body)).DataValues
    assert decoded[0].Value == ua.Variant(7.0 if kind == ua.VariantType.Float else 7, kind)


def encoded(values: Any, kind: Any, codes: Sequence[int], **further: Any) -> list[Any]:
    at = np.arange(len(codes), dtype=np.int64) * SECOND + NS
    series = Series(at, at, values, np.array(codes, np.uint32), None)
    return struct_from_binary(ua.HistoryData, Buffer(encode([series], kind.value, BOTH, **further).Body)).DataValues


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        (ua.VariantType.Boolean, np.array([True, False, True]), [True, False, None]),
        (ua.VariantType.Boolean, np.array([1.0, 0.0, 1.0]), [True, False, None]),
        (ua.VariantType.Int64, np.array([2**62 + 1, -5, 0]), [2**62 + 1, -5, None]),
        (ua.VariantType.UInt64, np.array([2**64 - 1, 5, 0], np.uint64), [2**64 - 1, 5, None]),
        (ua.VariantType.String, np.array(["", "Ähre", "x"], object), ["", "Ähre", None]),
        (ua.VariantType.DateTime, np.array([NS, NS + SECOND, 0]), [START, START + timedelta(seconds=1), None]),
    ],
)
def test_every_kind_of_value_comes_back_exactly(kind: Any, values: Any, expected: list[Any]) -> None:
    # 64-bit integers are exact beyond what a double holds; a Bad value is null whatever stands there.
    found = encoded(values, kind, [0, 0x40000000, 0x80310000])
    shown = [v.Value.Value.replace(tzinfo=UTC) if isinstance(v.Value.Value, datetime) else v.Value.Value for v in found]
    assert shown == expected
    assert [v.StatusCode.value for v in found] == [0, 0x40000000, 0x80310000]
    assert {v.Value.VariantType for v in found[:2]} == {kind}


def test_an_index_range_cuts_texts_and_nothing_else() -> None:
    texts = np.array(["abcdef", "xyz"], object)
    found = encoded(texts, ua.VariantType.String, [0, 0], index_range="1:2")
    assert [v.Value.Value for v in found] == ["bc", "yz"]
    for values, kind, part in ((texts, "String", "9"), (np.zeros(1), "Double", "0")):
        with pytest.raises(Fault):
            encoded(values, ua.VariantType[kind], [0] * len(values), index_range=part)


def test_a_bound_that_was_not_found_stands_beside_values_of_any_type() -> None:
    at = np.array([NS], np.int64)
    none = Series(at, at, np.array([np.nan]), np.array([CODES.BadBoundNotFound], np.uint32), None)
    whole = Series(at, at, np.array([2**62 + 1]), np.zeros(1, np.uint32), None)
    data = encode([none, whole], ua.VariantType.Int64.value, BOTH).Body
    found = struct_from_binary(ua.HistoryData, Buffer(data)).DataValues
    assert [v.Value.Value for v in found] == [None, 2**62 + 1]


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [([1.0, -1.0], "UInt32", "Double"), ([1.0, 2.0], "UInt32", "UInt32"), ([0.0, 1.0], "Boolean", "Boolean"),
     ([0.0, 2.0], "Boolean", "Double"), ([1.5], "Float", "Float"), ([1e300], "Int32", "Double")],
)  # fmt: skip
def test_a_result_that_would_not_go_into_the_variables_type_is_a_double(
    values: list[float], kind: str, expected: str
) -> None:
    # Part 13 5.4.3.27: a Delta of an unsigned counter can be negative.
    assert fitting(np.array(values), ua.VariantType[kind].value) == ua.VariantType[expected].value


@anyio
async def test_who_may_not_read_a_history_is_told_so(bench: Bench, raw: Raw, reader: Recorded) -> None:
    bench.server.grant(nid("Part.Value"), lambda _: int(Access.READ))
    assert (await history(raw, 0.0, 1.0)).StatusCode.value == CODES.BadUserAccessDenied
    bench.server.grant(nid("Part.Value"), lambda _: int(Access.READ | Access.HISTORY_READ))
    assert (await history(raw, 0.0, 1.0)).StatusCode.value == 0
