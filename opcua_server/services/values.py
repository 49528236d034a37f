"""Values of scalar numbers as columns: one table of the plant's values, and slices of it encoded as notifications.

A row is a node, a column what is known of its value. Whoever measures writes a slice of rows at once; subscriptions
read by index (columns.py). Null is NaN here: a value with a Bad status, and a number that is not one, are shown as
null (Part 4 7.11).

What several subscriptions ask of the same rows is worked out once: `Rows.look` gives all of them the same `Look`, which
knows what has moved since another look and how its values are encoded.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from typing import Any, Protocol, TypeVar
from weakref import ReferenceType, WeakValueDictionary, ref

import numpy as np
from asyncua import ua
from numpy.typing import ArrayLike, NDArray

from opcua_server.services.status import NULL, from_ticks, is_bad, status, ticks, ticks_of

WIRE = {1: "u1", 2: "i1", 3: "u1", 4: "<i2", 5: "<u2", 6: "<i4", 7: "<u4", 10: "<f4", 11: "<f8"}
"""Built-in types (Part 6 table 1) that a column holds exactly -> how they are encoded."""
BAD = np.uint32(0x80000000)
WAITING = ua.StatusCodes.BadWaitingForInitialData
HAS_VALUE, HAS_STATUS, HAS_SOURCE, HAS_SERVER = 0x01, 0x02, 0x04, 0x08
"""Bits of a DataValue's encoding mask (Part 6 5.2.2.17)."""
STAMPS = {
    ua.TimestampsToReturn.Source: HAS_SOURCE,
    ua.TimestampsToReturn.Server: HAS_SERVER,
    ua.TimestampsToReturn.Both: HAS_SOURCE | HAS_SERVER,
    ua.TimestampsToReturn.Neither: 0,
}
DATA_CHANGE = ua.NodeId(ua.ObjectIds.DataChangeNotification_Encoding_DefaultBinary)
NEIGHBOURS = 16
"""Neighbouring rows, on average, from which on copying runs of rows is faster than picking each."""

Index = NDArray[np.intp]
Floats = NDArray[np.float64]
Codes = NDArray[np.uint32]
Times = NDArray[np.int64]
Flags = NDArray[np.bool_]
Bytes = NDArray[np.uint8]
T = TypeVar("T", bound=np.generic)


class Reader(Protocol):
    """Somebody who must see every value before the next one takes its place."""

    seen: int
    """`Table.count` when it last looked."""

    def consider(self) -> None:
        """Look at what was written since, and set `seen`."""


class Watcher(Protocol):
    """Somebody who is told of each new value as a DataValue."""

    def sample(self, value: Any) -> None: ...


class Table:
    """All rows. Times are OPC UA ticks; `at` is `monotonic()` of the last write, `order` its number."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._rows: dict[Any, int] = {}
        self._readers: list[Reader] = []
        self._watchers: dict[int, list[Watcher]] = {}
        self._together: WeakValueDictionary[bytes, Rows] = WeakValueDictionary()
        self.nodes: list[Any] = []
        self.count = 0
        """Writes so far."""
        self.kind: NDArray[np.uint8] = np.empty(0, np.uint8)
        """Built-in type."""
        self.value: Floats = np.empty(0)
        self.status: Codes = np.empty(0, np.uint32)
        self.source: Times = np.empty(0, np.int64)
        self.server: Times = np.empty(0, np.int64)
        self.at: Floats = np.empty(0)
        self.order: Times = np.empty(0, np.int64)

    def __len__(self) -> int:
        return len(self.nodes)

    def now(self) -> float:
        """The clock of `at`, seconds."""
        return self._monotonic()

    def rhythm(self) -> float:
        """When most of what was written within a second was written; now, when nothing was. Of `now()`."""
        now = self.now()
        instants, rows = np.unique(self.at[self.at > now - 1.0], return_counts=True)
        return float(instants[rows.argmax()]) if len(instants) else now

    def row(self, node_id: Any) -> int | None:
        """Where a node's value is; None when it is no column."""
        return self._rows.get(node_id)

    def add(self, nodes: Sequence[Any], kinds: Iterable[int], time: int) -> slice:
        """New rows, one after the other: null, BadWaitingForInitialData at `time` (ns UTC) (fault F14).

        Raises ValueError for a type that a column cannot hold, KeyError for a node that has a row.
        """
        kinds = np.fromiter(kinds, np.uint8, len(nodes))
        if not set(kinds.tolist()) <= WIRE.keys():
            raise ValueError(f"no scalar numbers: types {sorted(set(kinds.tolist()) - WIRE.keys())}")
        first, n = len(self.nodes), len(nodes)
        for i, node_id in enumerate(nodes, first):
            if self._rows.setdefault(node_id, i) != i:
                raise KeyError(f"{node_id.to_string()} has a row already")
        self.nodes += nodes
        self.kind = np.concatenate([self.kind, kinds])
        for name, initial in (
            ("value", math.nan), ("status", WAITING), ("source", ticks(time)), ("server", ticks(time)),
            ("at", -math.inf), ("order", 0),
        ):  # fmt: skip
            column = getattr(self, name)
            setattr(self, name, np.concatenate([column, np.full(n, initial, column.dtype)]))
        return slice(first, first + n)

    # -- writing

    def write_row(self, rows: slice, values: Floats, codes: Codes, source_time: int, server_time: int) -> None:
        """New values of these rows, times in ns UTC; a Bad one is null whatever number comes with it."""
        if codes.max(initial=0) >= BAD:
            values = np.where(codes >= BAD, np.nan, values)
        self._write(rows, values, codes, ticks(source_time), ticks(server_time))

    def put(self, row: int, data: Any) -> None:
        """A new DataValue of one row. Raises TypeError when it is no scalar number."""
        code = data.StatusCode.value if data.StatusCode is not None else 0
        value = data.Value.Value if data.Value is not None else None
        if isinstance(value, list | str | bytes):
            raise TypeError(f"{self.nodes[row].to_string()} holds a number, not {value!r}")
        number = math.nan if value is None or is_bad(code) else float(value)
        stamps = ticks_of(data.SourceTimestamp), ticks_of(data.ServerTimestamp)
        self._write(slice(row, row + 1), number, code, *stamps)

    def _write(self, rows: slice, values: ArrayLike, codes: ArrayLike, source: int, server: int) -> None:
        if self._readers:
            last = int(self.order[rows].max())
            for reader in self._readers:
                if reader.seen < last:
                    reader.consider()
        self.count += 1
        self.value[rows] = values
        self.status[rows] = codes
        self.source[rows] = source
        self.server[rows] = server
        self.at[rows] = self._monotonic()
        self.order[rows] = self.count
        if self._watchers:
            for row in [r for r in self._watchers if rows.start <= r < rows.stop]:
                data = self.data_value(row)
                for watcher in list(self._watchers[row]):
                    watcher.sample(data)

    # -- reading

    def data_value(self, row: int) -> Any:
        """A row as a DataValue."""
        return data_value(
            self.kind[row].item(), self.value[row].item(), self.status[row].item(),
            self.source[row].item(), self.server[row].item(),
        )  # fmt: skip

    def read(self, node_id: Any, _attribute: Any) -> Any:
        """`data_value` as asyncua's storage asks for it. Raises KeyError."""
        return self.data_value(self._rows[node_id])

    def together(self, rows: Index) -> "Rows":
        """These rows in this order; the same object for all who want the same. One of -1 stands for none."""
        found = self._together.get(key := rows.tobytes())
        if found is None:
            found = self._together[key] = Rows(self, rows.copy())
        return found

    def subscribe(self, reader: Reader) -> None:
        reader.seen = self.count
        self._readers.append(reader)

    def unsubscribe(self, reader: Reader) -> None:
        self._readers.remove(reader)

    def forget(self, there: Callable[[Any], bool]) -> Iterator[tuple[Any, list[Watcher]]]:
        """Give up the rows of nodes that are not there any more; these nodes, and who watched each."""
        for node_id in [node_id for node_id in self._rows if not there(node_id)]:
            yield node_id, self._watchers.pop(self._rows.pop(node_id), [])

    def watch(self, row: int, watcher: Watcher) -> None:
        self._watchers.setdefault(row, []).append(watcher)

    def unwatch(self, row: int, watcher: Watcher) -> None:
        """No error for one that does not watch."""
        watching = [w for w in self._watchers.pop(row, ()) if w is not watcher]
        if watching:
            self._watchers[row] = watching


class Rows:
    """Some rows of a table, at least one, that are read together."""

    def __init__(self, table: Table, rows: Index) -> None:
        self._table, self._rows = table, rows
        self._runs: list[slice] | None = None
        ends = np.flatnonzero(np.diff(rows) != 1) + 1
        if len(ends) * NEIGHBOURS < len(rows) and rows.min() >= 0:
            pairs = pairwise([0, *ends.tolist(), len(rows)])
            self._runs = [slice(int(rows[a]), int(rows[b - 1]) + 1) for a, b in pairs]
        self.kind = self._of(table.kind)
        self._count = -1
        self._look: Look | None = None

    def look(self) -> "Look":
        """What they hold now: the same as before when none of them was written since."""
        table = self._table
        if self._look is None or self._count != table.count:
            order = self._of(table.order)
            newest = int(order.max())
            if self._look is None or newest != self._look.newest:
                self._look = Look(
                    value=self._of(table.value),
                    status=self._of(table.status),
                    source=self._of(table.source),
                    server=self._of(table.server),
                    at=self._of(table.at),
                    order=order,
                    kind=self.kind,
                    oldest=int(order.min()),
                    newest=newest,
                )
            self._count = table.count
        return self._look

    def _of(self, column: NDArray[T]) -> NDArray[T]:
        """A copy of what a column has for them, that nobody writes into."""
        runs = self._runs
        copy = column[self._rows] if runs is None else np.concatenate([column[run] for run in runs])
        copy.flags.writeable = False
        return copy


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Look:
    """What rows held at one moment, one element a row."""

    value: Floats
    status: Codes
    source: Times
    server: Times
    at: Floats
    order: Times
    kind: Bytes
    oldest: int
    newest: int
    """Least and greatest of `order`."""
    _moved: "list[tuple[ReferenceType[Look], Flags]]" = field(default_factory=list)
    _encoded: "dict[int, DataChange]" = field(default_factory=dict)

    def moved(self, last: "Look") -> Flags:
        """Whose value or status is another than at the last look, of the same rows."""
        if not self._moved or self._moved[0][0]() is not last:
            self._moved[:] = [(ref(last), differ(self.value, last.value) | (self.status != last.status))]
        return self._moved[0][1]

    def encoded(self, stamps: int) -> "DataChange":
        """Its values as a notification, with these timestamps (bits of the encoding mask)."""
        if stamps not in self._encoded:
            shape = shapes(self.kind, np.full(len(self.kind), stamps, np.uint8))
            self._encoded[stamps] = DataChange(shape, self.value, self.status, self.source, self.server)
        return self._encoded[stamps]


def differ(value: Floats, last: Floats) -> Flags:
    """Where numbers are not the same; NaN is the same as NaN."""
    moved: Flags = value != last
    if (unknown := np.isnan(value)).any():
        moved &= ~(unknown & np.isnan(last))
    return moved


def data_value(kind: int, value: float, code: int, source: int, server: int) -> Any:
    """What columns hold of a value, as a DataValue."""
    shown = NULL if math.isnan(value) else ua.Variant(_NATIVE[kind](value), ua.VariantType(kind))
    return ua.DataValue(shown, status(code), from_ticks(source), from_ticks(server))


_NATIVE: dict[int, Callable[[float], Any]] = dict.fromkeys(WIRE, int) | {1: bool, 10: float, 11: float}


@cache
def layout(kind: int, mask: int) -> np.dtype[np.void]:
    """MonitoredItemNotification (Part 4 7.25.2) of one shape; `mask` as in the DataValue, kind 0 is null."""
    fields = [("client", "<u4"), ("mask", "u1")]
    if kind:
        fields += [("kind", "u1"), ("value", WIRE[kind])]
    for bit, name, form in (
        (HAS_STATUS, "status", "<u4"),
        (HAS_SOURCE, "source", "<i8"),
        (HAS_SERVER, "server", "<i8"),
    ):
        if mask & bit:
            fields.append((name, form))
    return np.dtype(fields)


def shapes(kind: NDArray[np.uint8], stamps: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """Built-in type of a value that is not null, and the timestamps to return as bits of the mask, in one number."""
    both: NDArray[np.uint16] = kind.astype(np.uint16) << np.uint16(8) | stamps
    return both


class DataChange:
    """DataChangeNotification of values (of `shapes`) in this order, encoded but for the client handles."""

    def __init__(self, shape: NDArray[np.uint16], value: Floats, codes: Codes, source: Times, server: Times) -> None:
        columns: Mapping[str, NDArray[Any]] = {"value": value, "status": codes, "source": source, "server": server}
        shape = shape | np.uint16(HAS_VALUE)
        if (null := np.isnan(value)).any():
            shape[null] &= np.uint16(0xFF ^ HAS_VALUE)
        if (told := codes != 0).any():
            shape[told] |= HAS_STATUS
        self._form: np.dtype[np.void] | None = None
        self._begin: Index | None = None
        """Where each begins, when they are not all of one shape."""
        self._told: tuple[Codes, Any] | None = None
        """The client handles it was made for last, and what was made."""
        if (shape == shape[0]).all():
            self._form = layout(*divmod(int(shape[0]), 256))
            self._body = _framed(len(value), len(value) * self._form.itemsize)
            _fill(self._body[4:-4].view(self._form), int(shape[0]), columns)
        else:
            self._body, self._begin = _mixed(shape, columns)

    def to(self, client: Codes) -> Any:
        """For these client handles, as an ExtensionObject: the same one for clients that number their items alike."""
        if self._told is None or not np.array_equal(self._told[0], client):
            self._told = client.copy(), ua.ExtensionObject(DATA_CHANGE, self._numbered(client).data)
        return self._told[1]

    def _numbered(self, client: Codes) -> Bytes:
        body = self._body if self._told is None else self._body.copy()  # but for the handles what was told stays
        if self._form is not None:
            body[4:-4].view(self._form)["client"] = client
        elif self._begin is not None:
            body[self._begin[:, None] + np.arange(4)] = client.astype("<u4").view(np.uint8).reshape(-1, 4)
        return body


def data_change(
    client: Codes, shape: NDArray[np.uint16], value: Floats, codes: Codes, source: Times, server: Times
) -> Any:
    """DataChangeNotification of these values (of `shapes`) in this order, encoded, as an ExtensionObject."""
    return DataChange(shape, value, codes, source, server).to(client)


def _framed(count: int, size: int) -> Bytes:
    """Room for MonitoredItems of so many bytes, with their number before them and, after them, null DiagnosticInfos."""
    body = np.empty(size + 8, np.uint8)
    body[:4] = np.frombuffer(count.to_bytes(4, "little"), np.uint8)
    body[-4:] = 0xFF
    return body


def _fill(records: NDArray[np.void], shape: int, columns: Mapping[str, NDArray[Any]]) -> None:
    kind, mask = divmod(shape, 256)
    records["mask"] = mask
    if kind:
        records["kind"] = kind
    for name in records.dtype.names or ():
        if name in columns:
            records[name] = columns[name]


def _mixed(shape: NDArray[np.uint16], columns: Mapping[str, NDArray[Any]]) -> tuple[Bytes, Index]:
    """Records of several shapes, each at its place in the order, and where each begins."""
    shapes, which = np.unique(shape, return_inverse=True)
    forms = [layout(*divmod(int(s), 256)) for s in shapes]
    size = np.array([form.itemsize for form in forms])[which]
    body = _framed(len(shape), int(size.sum()))
    begin = 4 + np.cumsum(size) - size
    for i, s in enumerate(shapes.tolist()):
        at = np.flatnonzero(which == i)
        records = np.zeros(len(at), forms[i])
        _fill(records, s, {name: column[at] for name, column in columns.items()})
        body[begin[at][:, None] + np.arange(forms[i].itemsize)] = records.view(np.uint8).reshape(len(at), -1)
    return body, begin
