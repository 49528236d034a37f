"""The table of values and its encoders."""

import math
from typing import Any

import numpy as np
import pytest
from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import extensionobject_from_binary, struct_from_binary, struct_to_binary
from hypothesis import given
from hypothesis import strategies as st

from opcua_server.services.columns import Columns, Wanted
from opcua_server.services.monitored_items import REPORTING, DataFilter
from opcua_server.services.nodes import site
from opcua_server.services.status import from_ns, from_ticks, ticks
from opcua_server.services.values import (
    HAS_SERVER,
    HAS_SOURCE,
    STAMPS,
    WIRE,
    DataChange,
    Table,
    data_change,
    data_value,
    shapes,
)
from tests.conformance.opcua import Bench, Raw, nid, ordinary

NOW = 1_767_225_600_123_456_000
ZERO = np.zeros(1, np.uint32)
anyio = pytest.mark.asyncio(loop_scope="session")


def table(*kinds: int) -> tuple[Table, slice]:
    made = Table(lambda: 0.0)
    return made, made.add([site(f"n{i}") for i in range(len(kinds))], kinds, NOW)


def test_a_row_is_null_until_it_is_written() -> None:
    # Fault F14: nothing that was not measured is shown as a number.
    made, _ = table(11)
    value = made.data_value(0)
    assert value.Value.Value is None
    assert value.StatusCode.value == ua.StatusCodes.BadWaitingForInitialData
    assert value.SourceTimestamp == from_ns(NOW)


@pytest.mark.parametrize("kind", sorted(WIRE))
def test_a_row_is_read_in_its_own_type(kind: int) -> None:
    made, rows = table(kind)
    made.write_row(rows, np.array([1.0]), ZERO, NOW, NOW + 1000)
    value = made.read(site("n0"), ua.AttributeIds.Value)
    assert value.Value == ua.Variant({1: True, 10: 1.0, 11: 1.0}.get(kind, 1), ua.VariantType(kind))
    assert type(value.Value.Value) is {1: bool, 10: float, 11: float}.get(kind, int)
    assert (value.SourceTimestamp, value.ServerTimestamp) == (from_ns(NOW), from_ns(NOW + 1000))


def test_a_bad_value_is_null_whatever_number_comes_with_it() -> None:
    # Part 4 7.11.
    made, rows = table(11, 11)
    codes = np.array([ua.StatusCodes.BadSensorFailure, 0], np.uint32)
    made.write_row(rows, np.array([1.0, 2.0]), codes, NOW, NOW)
    assert [made.data_value(i).Value.Value for i in (0, 1)] == [None, 2.0]


def test_a_single_value_is_put_as_it_is_read() -> None:
    made, _ = table(6)
    value = ua.DataValue(ua.Variant(-7, ua.VariantType.Int32), ua.StatusCode(0x40900000), from_ns(NOW), from_ns(NOW))
    made.put(0, value)
    assert made.data_value(0) == value
    with pytest.raises(TypeError):
        made.put(0, ua.DataValue(ua.Variant("text")))


def test_what_a_column_cannot_hold_exactly_is_refused() -> None:
    made, _ = table(11)
    for kind in (8, 9, 12):  # 64 bits do not fit a float, a text is no number
        with pytest.raises(ValueError, match="no scalar numbers"):
            made.add([site("other")], [kind], NOW)
    with pytest.raises(KeyError):
        made.add([site("n0")], [11], NOW)


def test_the_rhythm_is_that_of_the_greatest_write_of_the_last_second() -> None:
    clock = [100.0]
    made = Table(lambda: clock[-1])
    rows = made.add([site(f"n{i}") for i in range(6)], [11] * 6, NOW)
    assert made.rhythm() == 100.0
    for now, some in ((101.0, rows), (101.5, slice(0, 3)), (101.9, slice(3, 5)), (102.2, slice(5, 6))):
        clock.append(now)
        made.write_row(some, np.zeros(some.stop - some.start), np.zeros(some.stop - some.start, np.uint32), NOW, NOW)
    assert made.rhythm() == 101.5


def test_who_watches_a_row_is_told_of_it_alone() -> None:
    class Seen(list[Any]):
        def sample(self, value: Any) -> None:
            self.append(value.Value.Value)

    made, rows = table(11, 11)
    seen = Seen()
    made.watch(1, seen)
    made.write_row(rows, np.array([1.0, 2.0]), ZERO, NOW, NOW)
    made.write_row(slice(0, 1), np.array([3.0]), ZERO, NOW, NOW)
    made.unwatch(1, seen)
    made.write_row(rows, np.array([4.0, 5.0]), ZERO, NOW, NOW)
    assert seen == [2.0]


notifications = st.tuples(
    st.integers(0, 2**32 - 1),
    st.sampled_from(sorted(WIRE)),
    st.sampled_from(sorted(STAMPS.values())),
    st.sampled_from([math.nan, 0.0, 1.0, 100.0]),
    st.sampled_from([0, 0, 0x480, 0x80320000]),
)


@given(st.lists(notifications, min_size=1, max_size=20))
def test_values_of_any_mixture_of_shapes_are_decoded_as_they_were(rows: list[Any]) -> None:
    # The bytes are ours, the decoder is not: asyncua reads them back in order.
    client, kind, stamps, value, codes = (
        np.array(column, t) for column, t in zip(zip(*rows, strict=True), ("u4", "u1", "u1", "f8", "u4"), strict=True)
    )
    value[kind == 1] = np.minimum(value[kind == 1], 1.0)
    times = np.full(len(rows), ticks(NOW)), np.full(len(rows), ticks(NOW) + 10)
    encoded = data_change(client, shapes(kind, stamps), value, codes, *times)
    decoded = extensionobject_from_binary(Buffer(_wrapped(encoded)))
    assert [item.ClientHandle for item in decoded.MonitoredItems] == client.tolist()
    for item, k, mask, v, code in zip(
        decoded.MonitoredItems, kind.tolist(), stamps.tolist(), value.tolist(), codes.tolist(), strict=True
    ):
        expected = data_value(k, v, code, ticks(NOW), ticks(NOW) + 10)
        assert (item.Value.Value and item.Value.Value.Value) == expected.Value.Value
        assert item.Value.StatusCode.value == code
        assert item.Value.SourceTimestamp == (from_ticks(ticks(NOW)) if mask & HAS_SOURCE else None)
        assert item.Value.ServerTimestamp == (from_ticks(ticks(NOW) + 10) if mask & HAS_SERVER else None)


@given(st.lists(notifications, min_size=1, max_size=20))
def test_clients_that_number_their_items_alike_share_the_bytes_and_others_do_not(rows: list[Any]) -> None:
    _, kind, stamps, value, codes = (
        np.array(column, t) for column, t in zip(zip(*rows, strict=True), ("u4", "u1", "u1", "f8", "u4"), strict=True)
    )
    value[kind == 1] = np.minimum(value[kind == 1], 1.0)
    times = np.full(len(rows), ticks(NOW)), np.full(len(rows), ticks(NOW))
    change = DataChange(shapes(kind, stamps), value, codes, *times)
    one, other = np.arange(len(rows), dtype=np.uint32), np.arange(len(rows), dtype=np.uint32) + np.uint32(7)
    first, same, second = change.to(one), change.to(one.copy()), change.to(other)
    assert same is first
    for handles, sent in ((one, first), (other, second)):
        assert bytes(sent.Body) == bytes(data_change(handles, shapes(kind, stamps), value, codes, *times).Body)


def _wrapped(extension: Any) -> bytes:
    message = ua.NotificationMessage(NotificationData=[extension])
    data = struct_to_binary(message)
    assert struct_from_binary(ua.NotificationMessage, Buffer(data)).NotificationData
    return data[16:]  # sequence number, publish time, length of the array


def test_idle_items_take_less_than_two_hundred_bytes() -> None:
    made = Table(lambda: 0.0)
    made.add([site(f"n{i}") for i in range(1000)], [11] * 1000, NOW)
    columns = Columns(made)
    columns.add(
        [
            Wanted(
                id=i + 1, row=i, client_handle=i, mode=REPORTING, stamps=ua.TimestampsToReturn.Both,
                filter=DataFilter(), interval=0.1, queue_size=10, discard_oldest=True,
            )
            for i in range(1000)
        ]
    )  # fmt: skip
    columns.collect(10_000)
    assert sum(getattr(columns._items, name).nbytes for name in columns._items.names()) <= 200 * 1000


# -- over the wire


@anyio
async def test_a_column_is_served_as_any_other_variable(bench: Bench, raw: Raw) -> None:
    # Publish, Republish, the item's own services and a client of another make of decoder: nobody sees the difference.
    node = bench.server.asyncua.get_node(nid("Part"))
    await node.add_variable(nid("Part.Column"), ua.QualifiedName("Column", 3), 0.0)
    rows = bench.server.columns(["Part.Column"])
    bench.server.write_row(rows, np.array([1.0]), ZERO, NOW, NOW)
    assert (await raw.read(nid("Part.Column"))).Value.Value == 1.0

    number = (await raw.subscribe()).SubscriptionId
    item = (await raw.monitor(number, nid("Part.Column"))).MonitoredItemId
    bench.server.write("Part.Column", ua.Variant(2.0, ua.VariantType.Double), 0, NOW, NOW)
    published = await raw.publish()
    (part,) = published.NotificationMessage.NotificationData
    assert [i.Value.Value.Value for i in part.MonitoredItems] == [1.0, 2.0]

    parameters = ua.RepublishParameters(
        SubscriptionId=number, RetransmitSequenceNumber=published.NotificationMessage.SequenceNumber
    )
    again = await raw.call(ua.RepublishRequest(Parameters=parameters))
    assert again.NotificationMessage == published.NotificationMessage

    parameters = ua.SetTriggeringParameters(
        SubscriptionId=number,
        TriggeringItemId=item,
        LinksToAdd=[(await raw.monitor(number, nid("Part.Column"))).MonitoredItemId],
    )
    result = (await raw.call(ua.SetTriggeringRequest(Parameters=parameters))).Parameters
    assert [r.value for r in result.AddResults] == [0]
    assert sorted(v.Value.Value for v in await raw.next_data()) == [2.0]
    bench.server.write_row(rows, np.array([3.0]), ZERO, NOW, NOW)
    assert [v.Value.Value for v in await raw.next_data()] == [3.0, 3.0]

    client = await ordinary(bench)
    assert await client.get_node(nid("Part.Column")).read_value() == 3.0
    await client.disconnect()
    with pytest.raises(LookupError):
        bench.server.columns(["Nowhere"])
