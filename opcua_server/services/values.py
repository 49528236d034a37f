"""Values of scalar numbers as columns: one table of the plant's values, and slices of it encoded as notifications.

A row is a node, a column what is known of its value. Whoever measures writes a slice of rows at once; subscriptions
read by index (columns.py). Null is NaN here: a value with a Bad status, and a number that is not one, are shown as
null (Part 4 7.11).
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Protocol

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

Index = NDArray[np.intp]
Floats = NDArray[np.float64]
Codes = NDArray[np.uint32]
Times = NDArray[np.int64]


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


def data_change(
    client: Codes, shape: NDArray[np.uint16], value: Floats, codes: Codes, source: Times, server: Times
) -> Any:
    """DataChangeNotification of these values (of `shapes`) in this order, encoded, as an ExtensionObject."""
    columns: Mapping[str, NDArray[Any]] = {
        "client": client,
        "value": value,
        "status": codes,
        "source": source,
        "server": server,
    }
    shape = shape | np.uint16(HAS_VALUE)
    if (null := np.isnan(value)).any():
        shape[null] &= np.uint16(0xFF ^ HAS_VALUE)
    if (told := codes != 0).any():
        shape[told] |= HAS_STATUS
    uniform = (shape == shape[0]).all()
    packed = _records(int(shape[0]), columns) if uniform else _mixed(shape, columns)
    # MonitoredItems with its length before it, then DiagnosticInfos: a null array.
    body = b"".join((len(client).to_bytes(4, "little"), packed.data, b"\xff\xff\xff\xff"))
    return ua.ExtensionObject(DATA_CHANGE, body)


def _records(shape: int, columns: Mapping[str, NDArray[Any]]) -> NDArray[np.void]:
    kind, mask = divmod(shape, 256)
    form = layout(kind, mask)
    records = np.empty(len(columns["client"]), form)
    records["mask"] = mask
    for name in form.names or ():
        if name in columns:
            records[name] = columns[name]
    if kind:
        records["kind"] = kind
    return records


def _mixed(shape: NDArray[np.uint16], columns: Mapping[str, NDArray[Any]]) -> NDArray[np.uint8]:
    """Records of several shapes, each at its place in the order, as bytes."""
    shapes, which = np.unique(shape, return_inverse=True)
    sizes = np.array([layout(*divmod(int(s), 256)).itemsize for s in shapes])
    size = sizes[which]
    begin = np.cumsum(size) - size
    packed = np.empty(int(size.sum()), np.uint8)
    for i, s in enumerate(shapes.tolist()):
        at = np.flatnonzero(which == i)
        records = _records(s, {name: column[at] for name, column in columns.items()})
        packed[begin[at][:, None] + np.arange(sizes[i])] = records.view(np.uint8).reshape(len(at), -1)
    return packed
