"""T-90 to T-93: a client of another stack reads the history raw, processed, at instants and as it was modified."""

import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime

import pytest
import pytest_asyncio
from asyncua import ua

from tests.conformance.plant import Plant, nid, running_plant
from tests.conformance.test_history import INSERT, REPLACE, WRITABLE, update, values
from tests.interop.client import NodeOpcua, Typed, missing

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(bool(missing()), reason=missing()),
]
SECOND = 10**9
RAMP = "ns=3;s=Playground.History.Ramp"
PLAYGROUND = "ns=3;s=Playground.Methods"
SERVER = "i=2253"
ALARM_CONDITION_TYPE = "i=2915"


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    with running_plant(tmp_path_factory.mktemp("history")) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(plant: Plant, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[NodeOpcua]:
    async with NodeOpcua(tmp_path_factory.mktemp("client")) as made:
        plant.running.trust(made.certificate)
        await made.connect(
            plant.url,
            server_certificate=plant.running.data / "pki/own/certs/enose.der",
            user="op1",
            password=plant.running.passwords["op1"],
        )
        yield made


@pytest.fixture(scope="module")
def minute(plant: Plant) -> int:
    """Where a minute begins that was recorded before the test began, ns UTC."""
    return (time.time_ns() // SECOND - 120) * SECOND


async def test_raw_values_come_page_by_page(client: NodeOpcua, minute: int) -> None:
    # T-90
    found, pages = await client.history(RAMP, minute, minute + 60 * SECOND, per_page=25)
    assert [v.source_time for v in found] == [minute + i * SECOND for i in range(60)]
    assert (pages, {v.status.name for v in found}) == (3, {"Good"})


async def test_aggregates_are_those_of_the_raw_values(client: NodeOpcua, minute: int) -> None:
    # T-91
    raw, _ = await client.history(RAMP, minute, minute + 60 * SECOND)
    tens = [[v.value for v in raw[i : i + 10]] for i in range(0, 60, 10)]
    for number, expected in (
        (ua.ObjectIds.AggregateFunction_Average, [sum(t) / 10 for t in tens]),
        (ua.ObjectIds.AggregateFunction_Minimum, [min(t) for t in tens]),
        (ua.ObjectIds.AggregateFunction_Maximum, [max(t) for t in tens]),
        (ua.ObjectIds.AggregateFunction_Count, [10] * 6),
    ):
        found = await client.history_processed(RAMP, minute, minute + 60 * SECOND, 10_000, f"i={number}")
        assert [v.value for v in found] == pytest.approx(expected)
        assert [v.source_time for v in found] == [minute + i * 10 * SECOND for i in range(6)]


async def test_a_value_between_two_is_between_them(client: NodeOpcua, minute: int) -> None:
    # T-92
    raw, _ = await client.history(RAMP, minute, minute + 2 * SECOND)
    exact, between = await client.history_at(RAMP, [minute, minute + SECOND // 2])
    assert (exact.value, exact.status.name) == (raw[0].value, "Good")
    assert between.value == pytest.approx((raw[0].value + raw[1].value) / 2)
    assert (between.status.good, between.status.value & 0x1F) == (True, 0x02)


async def test_what_was_changed_says_how_and_by_whom(client: NodeOpcua, plant: Plant) -> None:
    # T-93
    at = datetime(2025, 6, 1, tzinfo=UTC)
    async with plant.session("Basic256Sha256") as talk:
        assert await update(talk, values(INSERT, (at, 1.0))) == (0, [0])
        assert await update(talk, values(REPLACE, (at, 2.0))) == (0, [0])
        assert await update(talk, ua.DeleteAtTimeDetails(WRITABLE, [at])) == (0, [0])
    start = int(at.timestamp()) * SECOND
    found = await client.history_modified(f"ns=3;s={nid('History.Writable').Identifier}", start, start + SECOND)
    assert [(v.value, kind, user) for v, kind, user in found] == [
        (1.0, "Insert", "op1"),
        (1.0, "Replace", "op1"),
        (2.0, "Delete", "op1"),
    ]


async def test_events_come_page_by_page_as_they_were_told(client: NodeOpcua, plant: Plant) -> None:
    # T-96
    before = time.time_ns() - SECOND
    told = [f"told again {i}" for i in range(5)]
    for severity, message in enumerate(told, 100):
        raised = await client.call(
            PLAYGROUND, f"{PLAYGROUND}.RaiseEvent", Typed("String", message), Typed("UInt16", severity)
        )
        assert raised.status.good
    after = time.time_ns() + SECOND
    fields = ["EventId", "EventType", "SourceName", "Time", "Message", "Severity"]
    found, pages = await client.history_of_events(SERVER, fields, before, after, per_page=2)
    ours = [e for e in found if e["Message"] in told]
    assert [(e["Message"], e["Severity"]) for e in ours] == list(zip(told, range(100, 105), strict=True))
    assert len({e["EventId"] for e in ours}) == 5
    assert pages >= 3
    newest_first, _ = await client.history_of_events(SERVER, fields, after, before)
    assert [e["Message"] for e in newest_first if e["Message"] in told] == told[::-1]
    none, _ = await client.history_of_events(SERVER, fields, before, after, of_type=ALARM_CONDITION_TYPE)
    assert not [e for e in none if e["Message"] in told]
