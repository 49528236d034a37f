"""Historical access over the wire (Parts 11 and 13), over None and SignAndEncrypt: histories of the playground."""

import asyncio
import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from asyncua import ua
from sqlalchemy import select

from config.load import load
from historian import schema
from opcua_server.plant.conformance import HISTORIES, TEXTS
from opcua_server.records import database_of
from opcua_server.services.history import FUNCTIONS, OF_TEXTS
from tests.conformance.plant import CODES, Conversation, Plant, nid

pytestmark = pytest.mark.asyncio(loop_scope="module")

BOTH = ua.TimestampsToReturn.Both
RAMP, WRITABLE = nid("History.Ramp"), nid("History.Writable")
NULL = datetime(1601, 1, 1)  # noqa: DTZ001 - as asyncua has it
AGGREGATES = {name: node for node, name in FUNCTIONS.items()}
DEVICE = ua.NodeId("EN01.Array.S01.SensorValue", 3)
_days, _windows = itertools.count(1), itertools.count(1)


def quiet_second() -> datetime:
    """An instant of the past at which nothing is recorded and no other test writes."""
    return datetime(2026, 1, 1, tzinfo=UTC) - timedelta(days=next(_days))


def recent(seconds: float = 0) -> datetime:
    """Within the ramp's ten minutes."""
    return (datetime.now(UTC) - timedelta(seconds=300 - seconds)).replace(microsecond=0)


def raw_details(start: datetime | None, end: datetime | None, most: int = 0, **further: Any) -> Any:
    return ua.ReadRawModifiedDetails(
        IsReadModified=further.get("modified", False),
        StartTime=start or NULL,
        EndTime=end or NULL,
        NumValuesPerNode=most,
        ReturnBounds=further.get("bounds", False),
    )


def processed(start: datetime, end: datetime, milliseconds: float, *names: str, **configuration: Any) -> Any:
    rules = {
        "UseServerCapabilitiesDefaults": not configuration,
        "TreatUncertainAsBad": True,
        "PercentDataBad": 100,
        "PercentDataGood": 100,
        "UseSlopedExtrapolation": False,
    }
    return ua.ReadProcessedDetails(
        StartTime=start,
        EndTime=end,
        ProcessingInterval=milliseconds,
        AggregateType=[AGGREGATES.get(name, ua.NodeId(ua.ObjectIds.Server)) for name in names],
        AggregateConfiguration=ua.AggregateConfiguration(**(rules | configuration)),
    )


def reading(details: Any, *nodes: ua.NodeId, point: bytes | None = None, **further: Any) -> ua.HistoryReadRequest:
    return ua.HistoryReadRequest(
        Parameters=ua.HistoryReadParameters(
            HistoryReadDetails=details,
            TimestampsToReturn=further.get("stamps", BOTH),
            ReleaseContinuationPoints=further.get("release", False),
            NodesToRead=[
                ua.HistoryReadValueId(
                    NodeId=node,
                    IndexRange=further.get("index_range"),
                    DataEncoding=ua.QualifiedName(further.get("encoding", ""), 0),
                    ContinuationPoint=point,
                )
                for node in nodes
            ],
        )
    )


async def history(talk: Conversation, details: Any, node: ua.NodeId = RAMP, **further: Any) -> ua.HistoryReadResult:
    (result,) = (await talk.call(reading(details, node, **further))).Results
    return result


def numbers(result: ua.HistoryReadResult) -> list[Any]:
    return [v.Value.Value for v in result.HistoryData.DataValues or []]


def updating(*details: Any) -> ua.HistoryUpdateRequest:
    return ua.HistoryUpdateRequest(Parameters=ua.HistoryUpdateParameters(HistoryUpdateDetails=list(details)))


def values(kind: ua.PerformUpdateType, *rows: tuple[datetime | None, Any], node: ua.NodeId = WRITABLE) -> Any:
    return ua.UpdateDataDetails(
        NodeId=node,
        PerformInsertReplace=kind,
        UpdateValues=[
            ua.DataValue(v if isinstance(v, ua.Variant) else ua.Variant(v, ua.VariantType.Double), SourceTimestamp=t)
            for t, v in rows
        ],
    )


def notes(kind: ua.PerformUpdateType, node: str, *rows: tuple[datetime, str], user: str = "") -> Any:
    return ua.UpdateStructureDataDetails(
        NodeId=nid(node) if not node.startswith("EN") else ua.NodeId(node, 3),
        PerformInsertReplace=kind,
        UpdateValues=[
            ua.DataValue(
                ua.Variant(ua.Annotation(text, user, NULL), ua.VariantType.ExtensionObject), SourceTimestamp=time
            )
            for time, text in rows
        ],
    )


async def update(talk: Conversation, details: Any) -> tuple[int, list[int]]:
    """Status of the whole, and of each operation."""
    (result,) = (await talk.call(updating(details))).Results
    return result.StatusCode.value, [code.value for code in result.OperationResults or []]


INSERT, REPLACE = ua.PerformUpdateType.Insert, ua.PerformUpdateType.Replace
UPDATE, REMOVE = ua.PerformUpdateType.Update, ua.PerformUpdateType.Remove
START, END = datetime(2020, 1, 1, tzinfo=UTC), datetime(2020, 1, 2, tzinfo=UTC)
RAW = raw_details(START, END)

ROWS = [
    ("4 5.11.3", reading(RAW), CODES.BadNothingToDo),
    ("4 5.11.3", reading(RAW, *[RAMP] * 101), CODES.BadTooManyOperations),
    ("4 5.11.3", reading(ua.ExtensionObject(), RAMP), CODES.BadHistoryOperationInvalid),
    ("4 5.11.3", reading(RAW, RAMP, stamps=ua.TimestampsToReturn.Neither), CODES.BadTimestampsToReturnInvalid),
    ("4 5.11.3", reading(RAW, nid("Nowhere"), RAMP), [CODES.BadNodeIdUnknown, CODES.GoodNoData]),
    ("4 5.11.3", reading(RAW, nid("Scalar.Double")), [CODES.BadHistoryOperationUnsupported]),
    ("4 5.11.3", reading(RAW, RAMP, encoding="Default JSON"), [CODES.BadDataEncodingUnsupported]),
    ("4 5.11.3", reading(RAW, RAMP, point=b"forged"), [CODES.BadContinuationPointInvalid]),
    ("4 7.27", reading(raw_details(recent(), recent(9)), RAMP, index_range="0"), [CODES.BadIndexRangeNoData]),
    ("4 7.27", reading(raw_details(recent(), recent(9)), RAMP, index_range="x"), [CODES.BadIndexRangeInvalid]),
    ("11 6.5.3.2", reading(raw_details(START, None), RAMP), [CODES.BadHistoryOperationInvalid]),
    ("11 6.5.3.3", reading(raw_details(START, END, modified=True, bounds=True), RAMP), [CODES.BadInvalidArgument]),
    ("11 6.5.3.3", reading(raw_details(START, END, modified=True), RAMP), [CODES.GoodNoData]),
    ("11 6.5.4.2", reading(processed(START, END, 0, "Average", "Count"), RAMP), CODES.BadAggregateListMismatch),
    ("11 6.5.4.2", reading(processed(START, START, 0, "Average"), RAMP), [CODES.BadInvalidArgument]),
    ("11 6.5.4.2", reading(processed(NULL, END, 0, "Average"), RAMP), [CODES.BadInvalidArgument]),
    ("11 6.5.4.2", reading(processed(START, END, -1, "Average"), RAMP), [CODES.BadInvalidArgument]),
    ("11 6.5.4.2", reading(processed(START, END, float("nan"), "Average"), RAMP), [CODES.BadInvalidArgument]),
    ("13 5.3.2", reading(processed(START, END, 0, "Median"), RAMP), [CODES.BadAggregateNotSupported]),
    ("13 4.2.1.2", reading(processed(START, END, 0, "Average", PercentDataGood=101), RAMP),
     [CODES.BadAggregateInvalidInputs]),
    ("13 4.2.1.2", reading(processed(START, END, 0, "Average", PercentDataGood=10, PercentDataBad=80), RAMP),
     [CODES.BadAggregateInvalidInputs]),
    ("11 6.5.5", reading(ua.ReadAtTimeDetails(ReqTimes=[]), RAMP), [CODES.BadInvalidArgument]),
    ("11 6.5.5", reading(ua.ReadAtTimeDetails(ReqTimes=[NULL]), RAMP), [CODES.BadInvalidTimestampArgument]),
    ("4 5.11.5", updating(), CODES.BadNothingToDo),
    ("4 5.11.5", updating(*[values(INSERT, (START, 1.0))] * 101), CODES.BadTooManyOperations),
    ("4 5.11.5", updating(ua.ExtensionObject()), [CODES.BadHistoryOperationInvalid]),
    ("4 5.11.5", updating(values(INSERT, (START, 1.0), node=nid("Nowhere"))), [CODES.BadNodeIdUnknown]),
    ("4 5.11.5", updating(values(INSERT, (START, 1.0), node=nid("Scalar.Double"))),
     [CODES.BadHistoryOperationUnsupported]),
    ("11 6.9.2", updating(values(REMOVE, (START, 1.0))), [CODES.BadInvalidArgument]),
    ("11 6.9.2", updating(values(INSERT)), [CODES.BadNothingToDo]),
    ("process rule 13", updating(values(INSERT, (START, 1.0), node=RAMP)), [CODES.BadNotWritable]),
    ("process rule 13", updating(values(UPDATE, (START, 1.0), node=DEVICE)), [CODES.BadNotWritable]),
    ("process rule 13", updating(ua.DeleteRawModifiedDetails(DEVICE, False, START, END)), [CODES.BadNotWritable]),
    ("process rule 13", updating(ua.DeleteAtTimeDetails(DEVICE, [START])), [CODES.BadNotWritable]),
    ("11 6.9.4", updating(ua.DeleteRawModifiedDetails(WRITABLE, False, START, START)), [CODES.BadNoData]),
    ("11 6.9.4", updating(ua.DeleteRawModifiedDetails(WRITABLE, False, END, START)), [CODES.BadInvalidArgument]),
    ("what was changed stays readable", updating(ua.DeleteRawModifiedDetails(WRITABLE, True, START, END)),
     [CODES.BadHistoryOperationUnsupported]),
    ("11 6.9.3", updating(notes(INSERT, "History.Ramp", (START, "x"))), [CODES.BadNotWritable]),
    ("11 6.9.6", updating(ua.DeleteEventDetails(WRITABLE, [b"x"])), [CODES.BadHistoryOperationUnsupported]),
]  # fmt: skip


@pytest.mark.parametrize(("clause", "request_", "expected"), ROWS, ids=lambda v: v if isinstance(v, str) else "")
async def test_rows(talk: Conversation, clause: str, request_: Any, expected: list[int] | int) -> None:
    assert await talk.outcome(request_) == expected


# -- reading


@pytest.mark.parametrize("name", HISTORIES)
async def test_there_is_history_of_each_type_at_the_start(talk: Conversation, name: str) -> None:
    # What an outside tool trends first: ten minutes, a value a second, of the variable's own type.
    found = await history(talk, raw_details(recent(), recent(100)), nid(f"History.{name}"))
    assert len(found.HistoryData.DataValues) == 100
    assert {v.Value.VariantType.name for v in found.HistoryData.DataValues} == {HISTORIES[name]}
    assert len(set(numbers(found))) > 1


async def test_aggregates_are_those_of_the_values_read(talk: Conversation) -> None:
    start, end = recent(), recent(100)
    values = np.array(numbers(await history(talk, raw_details(start, end))))
    details = processed(start, end, 10_000, "Average", "Minimum", "Maximum", "Count")
    results = (await talk.call(reading(details, RAMP, RAMP, RAMP, RAMP))).Results
    tens = values.reshape(10, 10)
    for result, expected in zip(results, (tens.mean(1), tens.min(1), tens.max(1), np.full(10, 10)), strict=True):
        assert numbers(result) == pytest.approx(expected.tolist())
        first = result.HistoryData.DataValues[0]
        assert first.SourceTimestamp.replace(tzinfo=UTC) == start
        assert first.StatusCode.value & 0xFFFF0000 == 0


@pytest.mark.parametrize("name", AGGREGATES)
@pytest.mark.parametrize("node", HISTORIES)
async def test_every_aggregate_listed_is_answered_for_every_kind_of_variable(
    talk: Conversation, name: str, node: str
) -> None:
    for start, end in ((recent(), recent(50)), (recent(50), recent())):
        result = await history(talk, processed(start, end, 16_000, name), nid(f"History.{node}"))
        if HISTORIES[node] == "String" and name not in OF_TEXTS:
            assert result.StatusCode.value == CODES.BadAggregateNotSupported
            continue
        assert result.StatusCode.value == 0
        assert len(result.HistoryData.DataValues) == 4
        assert all(v.StatusCode.value >> 30 < 2 for v in result.HistoryData.DataValues), name
        stamps = [v.SourceTimestamp for v in result.HistoryData.DataValues]
        assert stamps == sorted(stamps, reverse=start > end)


async def test_intervals_go_on_at_a_continuation_point(talk: Conversation) -> None:
    # H34: a millisecond's intervals over a year are not answered at once, and not held in memory.
    start, end = recent(), recent(25)
    whole, point, pages = [], None, 0
    while True:
        details = processed(start, end, 1.0, "Interpolative")
        result = await history(talk, details, point=point)
        whole += numbers(result)
        pages += 1
        point = result.ContinuationPoint
        if not point:
            break
    assert (len(whole), pages) == (25_000, 3)
    year = await history(talk, processed(END - timedelta(days=365), END, 1.0, "Interpolative"))
    assert len(year.HistoryData.DataValues) == 10_000
    released = await history(talk, RAW, point=year.ContinuationPoint, release=True)
    assert released.StatusCode.value == 0
    again = await history(talk, RAW, point=year.ContinuationPoint)
    assert again.StatusCode.value == CODES.BadContinuationPointInvalid


async def test_values_at_times_come_in_the_order_asked_for(talk: Conversation) -> None:
    base = recent(20)
    details = ua.ReadAtTimeDetails(ReqTimes=[base + timedelta(seconds=s) for s in (3, 0.5, 0)], UseSimpleBounds=False)
    found = (await history(talk, details)).HistoryData.DataValues
    second = int(base.timestamp())
    ramp = [(second + s) % 100 for s in (3, 0, 1)]
    assert [found[0].Value.Value, found[2].Value.Value] == ramp[:2]
    assert found[1].Value.Value == pytest.approx((ramp[1] + ramp[2]) / 2)
    interpolated = 0x402
    assert [v.StatusCode.value for v in found] == [0, interpolated, 0]
    before = ua.ReadAtTimeDetails(ReqTimes=[START], UseSimpleBounds=True)
    assert [v.StatusCode.value for v in (await history(talk, before)).HistoryData.DataValues] == [CODES.BadNoData]


async def test_texts_are_read_exactly_and_hold_until_the_next_one(talk: Conversation) -> None:
    # Raw, in pages; at instants between two of them (Part 11 6.5.5: a stepped variable), in the order asked for.
    start, end = recent(), recent(40)
    text, point, found = nid("History.Text"), None, []
    while True:
        result = await history(talk, raw_details(start, end, 9), text, point=point)
        found += result.HistoryData.DataValues
        point = result.ContinuationPoint
        if not point:
            break
    shown = [value.Value.Value for value in found]
    expected = [TEXTS[int(value.SourceTimestamp.replace(tzinfo=UTC).timestamp()) // 7 % 5] for value in found]
    assert shown == expected
    assert set(shown) == set(TEXTS)
    half = timedelta(seconds=0.5)
    times = [value.SourceTimestamp.replace(tzinfo=UTC) + half for value in found[:-1]]
    between = await history(talk, ua.ReadAtTimeDetails(ReqTimes=times[::-1]), text)
    assert numbers(between) == shown[-2::-1]
    exact = await history(talk, ua.ReadAtTimeDetails(ReqTimes=[found[3].SourceTimestamp]), text)
    assert (numbers(exact), exact.HistoryData.DataValues[0].StatusCode.value) == ([shown[3]], 0)
    never = await history(talk, ua.ReadAtTimeDetails(ReqTimes=[START]), text)
    (nothing,) = never.HistoryData.DataValues
    assert (nothing.Value.Value, nothing.StatusCode.value) == (None, CODES.BadNoData)


async def test_timestamps_are_those_asked_for(talk: Conversation) -> None:
    for stamps, source, server in (
        (ua.TimestampsToReturn.Source, True, False),
        (ua.TimestampsToReturn.Server, False, True),
    ):
        found = await history(talk, raw_details(recent(), recent(2)), stamps=stamps)
        for value in found.HistoryData.DataValues:
            assert (value.SourceTimestamp is not None, value.ServerTimestamp is not None) == (source, server)


async def test_pages_hold_while_values_arrive(talk: Conversation) -> None:
    # The ramp goes on while it is read: each second once, in order, none left out.
    seen: list[datetime] = []
    point = None
    while True:
        result = await history(talk, raw_details(recent(), recent(60), 7), point=point)
        seen += [v.SourceTimestamp for v in result.HistoryData.DataValues]
        point = result.ContinuationPoint
        if not point:
            break
    assert len(seen) == 60
    assert all(b - a == timedelta(seconds=1) for a, b in itertools.pairwise(seen))


async def test_ten_clients_reading_fifty_years_leave_room_for_others(plant: Plant, talk: Conversation) -> None:
    # H34: each gets a page and a point to go on from; who reads something else meanwhile is answered.
    begin, end = datetime(1976, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)

    async def greedy() -> int:
        async with plant.session("None", "") as own:
            ten = (await own.call(reading(raw_details(begin, end), *[RAMP] * 10))).Results
            assert {r.StatusCode.value for r in ten} == {0}
            return max(len(r.HistoryData.DataValues) for r in ten)

    readers = [asyncio.create_task(greedy()) for _ in range(10)]
    answered = 0
    while not all(r.done() for r in readers):
        await talk.read(nid("Scalar.Int32"))
        answered += 1
        await asyncio.sleep(0.01)
    assert all(600 <= count <= 10_000 for count in await asyncio.gather(*readers))
    assert answered


# -- correcting


async def test_a_value_is_inserted_replaced_and_deleted_and_all_of_it_stays_readable(
    plant: Plant, talk: Conversation
) -> None:
    # 6.9.2, 6.9.5, 6.5.3.3; and each change has its entry in the audit log.
    at = quiet_second()
    after = at + timedelta(seconds=1)
    assert await update(talk, values(REPLACE, (at, 1.0))) == (0, [CODES.BadNoEntryExists])
    assert await update(talk, values(INSERT, (at, 1.0), (after, 5.0))) == (0, [0, 0])
    assert await update(talk, values(INSERT, (at, 2.0))) == (0, [CODES.BadEntryExists])
    assert await update(talk, values(REPLACE, (at, 2.0))) == (0, [0])
    assert await update(talk, values(UPDATE, (at, 3.0))) == (0, [CODES.GoodEntryReplaced])
    found = await history(talk, raw_details(at, after + timedelta(seconds=1)), WRITABLE)
    assert numbers(found) == [3.0, 5.0]
    extra_data = 0x408
    assert [v.StatusCode.value for v in found.HistoryData.DataValues] == [extra_data, extra_data]
    assert await update(talk, ua.DeleteAtTimeDetails(WRITABLE, [at, at - timedelta(seconds=5)])) == (
        0,
        [0, CODES.BadNoData],
    )
    assert numbers(await history(talk, raw_details(at, after + timedelta(seconds=1)), WRITABLE)) == [5.0]
    modified = (await history(talk, raw_details(at, after, modified=True), WRITABLE)).HistoryData
    kinds = [info.UpdateType.name for info in modified.ModificationInfos]
    assert kinds == ["Insert", "Replace", "Update", "Delete"]
    assert [v.Value.Value for v in modified.DataValues] == [1.0, 1.0, 2.0, 3.0]
    assert {info.UserName for info in modified.ModificationInfos} == {"op1"}
    database = schema.reading(database_of(load(plant.running.config), plant.running.data).url)
    entry = schema.audit_entry.c
    of_op1 = select(entry.body).where(entry.object == "Playground.History.Writable", entry.actor == "op1")
    with database.connect() as connection:
        bodies = connection.execute(of_op1.where(entry.action.like("history.%"))).scalars().all()
    database.dispose()
    assert sum(b"%d000000000" % at.timestamp() in body for body in bodies) == 4


async def test_what_was_recorded_is_corrected_above_and_read_around(talk: Conversation) -> None:
    # A recorded value is replaced in its place, also in the middle of pages and for aggregates.
    begin = -100 - 40 * next(_windows)
    start, end = recent(begin), recent(begin + 30)
    at = start + timedelta(seconds=15)
    before = numbers(await history(talk, raw_details(start, end), WRITABLE))
    assert await update(talk, values(UPDATE, (at, -1000.0))) == (0, [CODES.GoodEntryReplaced])
    expected = [*before[:15], -1000.0, *before[16:]]
    found, point = [], None
    while True:
        result = await history(talk, raw_details(start, end, 4), WRITABLE, point=point)
        found += numbers(result)
        point = result.ContinuationPoint
        if not point:
            break
    assert found == expected
    assert numbers(await history(talk, raw_details(end, start), WRITABLE))[15] == -1000.0
    lowest = await history(talk, processed(start, end, 0, "Minimum"), WRITABLE)
    assert numbers(lowest) == [-1000.0]
    gone = ua.DeleteRawModifiedDetails(WRITABLE, False, at - timedelta(seconds=1), at + timedelta(seconds=1))
    assert await update(talk, gone) == (0, [])
    assert numbers(await history(talk, raw_details(start, end), WRITABLE)) == [*before[:14], *before[16:]]


async def test_a_correction_between_two_pages_is_in_the_next_one(talk: Conversation) -> None:
    # Though it was read before it was asked for.
    at = quiet_second()
    times = [at + timedelta(seconds=s) for s in range(12)]
    await update(talk, values(INSERT, *((time, float(n)) for n, time in enumerate(times))))
    details = raw_details(at, at + timedelta(minutes=1), 4)
    first = await history(talk, details, WRITABLE)
    await history(talk, details, WRITABLE)  # by when the next page is there
    assert await update(talk, values(UPDATE, (times[5], -1.0))) == (0, [CODES.GoodEntryReplaced])
    assert numbers(await history(talk, details, WRITABLE, point=first.ContinuationPoint)) == [4.0, -1.0, 6.0, 7.0]


async def test_values_that_do_not_fit_are_refused_one_by_one(talk: Conversation) -> None:
    at = quiet_second()
    future = datetime.now(UTC) + timedelta(days=1)
    rows = [
        (at, ua.Variant(1, ua.VariantType.Int32)),
        (None, 1.0),
        (future, 1.0),
        (at, ua.Variant([1.0], ua.VariantType.Double)),
        (at, 4.0),
    ]
    assert await update(talk, values(INSERT, *rows)) == (
        0,
        [CODES.BadTypeMismatch, CODES.BadInvalidTimestamp, CODES.BadOutOfRange, CODES.BadTypeMismatch, 0],
    )
    assert numbers(await history(talk, raw_details(at, at + timedelta(seconds=1)), WRITABLE)) == [4.0]


async def test_a_text_is_corrected_and_every_earlier_one_stays_readable(talk: Conversation) -> None:
    at = quiet_second()
    text = nid("History.Text")
    for kind, word in ((INSERT, "B-0815"), (REPLACE, ""), (UPDATE, "Prüfling · 嗅覚")):
        status, codes = await update(talk, values(kind, (at, ua.Variant(word, ua.VariantType.String)), node=text))
        assert (status, [code >> 30 for code in codes]) == (0, [0])
    wrong = values(UPDATE, (at, 1.0), node=text)
    assert await update(talk, wrong) == (0, [CODES.BadTypeMismatch])
    span = at, at + timedelta(seconds=1)
    assert numbers(await history(talk, raw_details(*span), text)) == ["Prüfling · 嗅覚"]
    assert numbers(await history(talk, ua.ReadAtTimeDetails(ReqTimes=[span[1]]), text)) == ["Prüfling · 嗅覚"]
    modified = (await history(talk, raw_details(*span, modified=True), text)).HistoryData
    assert [info.UpdateType.name for info in modified.ModificationInfos] == ["Insert", "Replace", "Update"]
    assert [value.Value.Value for value in modified.DataValues] == ["B-0815", "B-0815", ""]


async def test_pages_of_modified_values_are_the_whole(talk: Conversation) -> None:
    at = quiet_second()
    rows = [(at + timedelta(seconds=s), float(s)) for s in range(7)]
    await update(talk, values(INSERT, *rows))
    found, point = [], None
    while True:
        details = raw_details(at, at + timedelta(minutes=1), 3, modified=True)
        result = await history(talk, details, WRITABLE, point=point)
        found += [v.Value.Value for v in result.HistoryData.DataValues]
        point = result.ContinuationPoint
        if not point:
            break
    assert found == [float(s) for s in range(7)]


@pytest.mark.parametrize("node", [RAMP, nid("ns=3;s=EN01.Array.S01.SensorValue"), nid("History.Text")], ids=str)
async def test_a_value_is_found_by_the_time_it_was_shown_with(talk: Conversation, node: Any) -> None:
    # 6.5.3.2: start = end is that instant, the start is within in either direction; 6.5.5.2: there it is raw.
    async with asyncio.timeout(60):
        while len(shown := await latest(talk, node)) < 3:
            await asyncio.sleep(0.2)  # a device measures once a second
    first, second, third = shown
    (at,) = (
        await history(talk, raw_details(second.SourceTimestamp, second.SourceTimestamp), node)
    ).HistoryData.DataValues
    assert at == second
    back = await history(talk, raw_details(third.SourceTimestamp, first.SourceTimestamp), node)
    assert back.HistoryData.DataValues == [third, second]
    times = [v.SourceTimestamp for v in shown]
    found = await history(talk, ua.ReadAtTimeDetails(ReqTimes=times), node)
    assert [(v.Value.Value, v.StatusCode.value & 0x1F) for v in found.HistoryData.DataValues] == [
        (v.Value.Value, 0) for v in shown
    ]


async def latest(talk: Conversation, node: Any) -> list[Any]:
    """The newest three values, oldest first."""
    found = await history(talk, raw_details(None, datetime.now(UTC), 3), node)
    return list(reversed(found.HistoryData.DataValues or []))


# -- annotations


async def test_a_value_somebody_noted_something_on_says_so(talk: Conversation) -> None:
    # 6.5.3.2: ExtraData where there are annotations, as long as there are; 5.1.2 tells clients to look for them by it.
    (recorded,) = (await history(talk, raw_details(recent(-60), None, 1))).HistoryData.DataValues
    noted = "History.Ramp.Annotations"

    async def statuses() -> list[int]:
        found = await history(talk, raw_details(recorded.SourceTimestamp, None, 2))
        return [v.StatusCode.value for v in found.HistoryData.DataValues]

    assert await statuses() == [0, 0]
    assert await update(talk, notes(INSERT, noted, (recorded.SourceTimestamp, "seen"))) == (0, [0])
    assert await statuses() == [0x408, 0]
    assert await update(talk, notes(REMOVE, noted, (recorded.SourceTimestamp, "seen"))) == (0, [0])
    assert await statuses() == [0, 0]


async def test_an_annotation_is_written_read_counted_and_taken_away(talk: Conversation) -> None:
    # 6.9.3; a note is of whoever is logged in, whatever name it gives.
    at = quiet_second()
    noted = "History.Ramp.Annotations"
    assert await update(talk, notes(REPLACE, noted, (at, "wet gas"))) == (0, [CODES.BadNoEntryExists])
    assert await update(talk, notes(INSERT, noted, (at, "wet gas"), user="bert")) == (0, [0])
    assert await update(talk, notes(INSERT, noted, (at, "dry gas"))) == (0, [CODES.BadEntryExists])
    assert await update(talk, notes(UPDATE, noted, (at, "dry gas"))) == (0, [CODES.GoodEntryReplaced])
    later = at + timedelta(seconds=1)
    (found,) = (await history(talk, raw_details(at, later), nid(noted))).HistoryData.DataValues
    assert (found.Value.Value.Message, found.Value.Value.UserName) == ("dry gas", "op1")
    assert found.SourceTimestamp.replace(tzinfo=UTC) == at
    there = await history(talk, ua.ReadAnnotationDataDetails(ReqTimes=[at, later]), nid(noted))
    assert [v.Value.Value.Message for v in there.HistoryData.DataValues] == ["dry gas"]
    assert numbers(await history(talk, processed(at, later, 0, "AnnotationCount"))) == [1]
    assert await update(talk, notes(REMOVE, noted, (at, ""))) == (0, [0])
    gone = await history(talk, raw_details(at, later), nid(noted))
    assert gone.StatusCode.value == CODES.GoodNoData
    assert numbers(await history(talk, processed(at, later, 0, "AnnotationCount"))) == [0]


@pytest.mark.parametrize(("user", "expected"), [("obs1", CODES.BadUserAccessDenied), ("op1", 0), ("eng1", 0)])
async def test_a_device_is_noted_on_by_role_and_changed_by_nobody(
    plant: Plant, talk: Conversation, user: str, expected: int
) -> None:
    at = quiet_second()
    async with plant.session("Basic256Sha256", user) as own:
        code, _ = await update(own, notes(INSERT, "EN01.Array.S01.SensorValue.Annotations", (at, "seen")))
        assert code == expected
        assert (await update(own, values(UPDATE, (at, 1.0), node=DEVICE)))[0] == CODES.BadNotWritable
        level = await own.read(ua.NodeId("EN01.Array.S01.SensorValue", 3), ua.AttributeIds.UserAccessLevel)
        assert level.Value.Value & 8 == 0


# -- what the address space says of it


async def test_the_functions_offered_are_listed(talk: Conversation) -> None:
    # Part 13 4.2.2.1: under ServerCapabilities and HistoryServerCapabilities; of a text those there are of it.
    everywhere = (ua.NodeId(2997), ua.NodeId(11201))
    for folder, offered in (*((f, set(AGGREGATES)) for f in everywhere), (nid("History.Text.HA.F"), OF_TEXTS)):
        description = ua.BrowseDescription(
            NodeId=folder,
            BrowseDirection=ua.BrowseDirection.Forward,
            ReferenceTypeId=ua.NodeId(ua.ObjectIds.HasComponent),
            IncludeSubtypes=True,
            ResultMask=63,
        )
        request = ua.BrowseRequest(Parameters=ua.BrowseParameters(NodesToBrowse=[description]))
        (result,) = (await talk.call(request)).Results
        assert {r.BrowseName.Name for r in result.References} == offered


async def test_a_history_describes_itself(talk: Conversation) -> None:
    # 5.2.3: HA Configuration and what is below it, by the standard's browse names.
    for node, stepped in ((RAMP, False), (nid("History.Switch"), True)):
        path = ua.RelativePath(
            [
                ua.RelativePathElement(ua.NodeId(ua.ObjectIds.Aggregates), False, True, ua.QualifiedName(name, 0))
                for name in ("HA Configuration", "Stepped")
            ]
        )
        request = ua.TranslateBrowsePathsToNodeIdsRequest(Parameters=ua.TranslateBrowsePathsToNodeIdsParameters(
            BrowsePaths=[ua.BrowsePath(node, path)]))  # fmt: skip
        (result,) = (await talk.call(request)).Results
        (target,) = result.Targets
        assert (await talk.read(target.TargetId)).Value.Value is stepped
    begins = await talk.read(nid("History.Ramp.HA.StartOfArchive"))
    assert begins.Value.Value.replace(tzinfo=UTC) < datetime.now(UTC) - timedelta(minutes=9)
    bad = await talk.read(nid("History.Ramp.HA.A.PercentBad"))
    assert bad.Value == ua.Variant(100, ua.VariantType.Byte)


async def test_access_levels_say_what_can_be_done(talk: Conversation) -> None:
    access = {}
    for name in ("Ramp", "Writable", "Ramp.Annotations"):
        access[name] = (await talk.read(nid(f"History.{name}"), ua.AttributeIds.UserAccessLevel)).Value.Value
    assert access == {"Ramp": 5, "Writable": 13, "Ramp.Annotations": 12}
    capabilities = ua.ObjectIds.HistoryServerCapabilities_UpdateDataCapability
    assert (await talk.read(ua.NodeId(capabilities))).Value.Value is True
