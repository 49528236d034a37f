"""Pages of history as their encoded bytes (Part 6 5.2, Part 11 6.6): from arrays, without an object a value.

Rows of a page are laid out alike, with what was asked for and what any of them has; the value a Bad one lacks is then
cut out of the byte matrix by a mask.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from asyncua import ua
from numpy.typing import NDArray

from nodesets.ports import Annotation, Change, Modified, Series
from opcua_server.services.attributes import parse_range
from opcua_server.services.status import FILETIME_EPOCH, NULL, Fault, from_ns, status
from opcua_server.services.values import HAS_SERVER, HAS_SOURCE, HAS_STATUS, HAS_VALUE

TICK = 100
"""Nanoseconds of the wire's time unit."""
HISTORY_DATA = ua.NodeId(ua.ObjectIds.HistoryData_Encoding_DefaultBinary)
MODIFIED_DATA = ua.NodeId(ua.ObjectIds.HistoryModifiedData_Encoding_DefaultBinary)
STRING, STATUS_CODE, DOUBLE = 12, 19, 11

WIRE = {
    1: "?", 2: "i1", 3: "u1", 4: "<i2", 5: "<u2", 6: "<i4", 7: "<u4", 8: "<i8", 9: "<u8", 10: "<f4", 11: "<f8",
    13: "<i8", STATUS_CODE: "<u4",
}  # fmt: skip
"""numpy type of each built-in type of fixed size (Part 6 5.2.2)."""
NUMBERS = frozenset({*WIRE} - {STATUS_CODE})
FLOATS = frozenset({10, 11})
HISTORIZED = NUMBERS | {STRING}
"""Built-in types a history can be of."""


def history_data(parts: Sequence[Series], built_in: int, stamps: Any, index_range: str = "") -> Any:
    """HistoryData (6.6.2). Raises Fault for an index range there is nothing of."""
    return ua.ExtensionObject(TypeId=HISTORY_DATA, Body=_data_values(parts, built_in, stamps, index_range))


def modified_data(found: Modified, built_in: int, stamps: Any, index_range: str = "") -> Any:
    """HistoryModifiedData (6.6.3)."""
    infos = b"".join(
        (made // TICK + FILETIME_EPOCH).to_bytes(8, "little") + int(kind).to_bytes(4, "little") + _string(user)
        for made, kind, user in zip(found.made, found.kinds, found.users, strict=True)
    )
    values = _data_values([found.series], built_in, stamps, index_range)
    return ua.ExtensionObject(TypeId=MODIFIED_DATA, Body=values + len(found.made).to_bytes(4, "little") + infos)


def stood(value: Change | Annotation, built_in: int) -> Any:
    """A value that was corrected, as a DataValue; an annotation, as an Annotation."""
    if isinstance(value, Annotation):
        return _note(value)
    kind = ua.VariantType(built_in)
    native = from_ns(value.value) if kind == ua.VariantType.DateTime and value.value is not None else value.value
    shown = NULL if native is None else ua.Variant(native, kind)
    return ua.DataValue(shown, status(value.status), from_ns(value.time), from_ns(value.received))


def _note(note: Annotation) -> Any:
    return ua.Annotation(Message=note.message, UserName=note.user, AnnotationTime=from_ns(note.made))


def annotation_data(notes: Sequence[Annotation], stamps: Any) -> Any:
    """HistoryData of annotations (6.6.6)."""
    source = stamps in (ua.TimestampsToReturn.Source, ua.TimestampsToReturn.Both)
    server = stamps in (ua.TimestampsToReturn.Server, ua.TimestampsToReturn.Both)
    values = [
        ua.DataValue(
            ua.Variant(_note(note), ua.VariantType.ExtensionObject),
            ua.StatusCode(0),
            from_ns(note.time) if source else None,
            from_ns(note.made) if server else None,
        )
        for note in notes
    ]
    return ua.HistoryData(DataValues=values)


def fitting(values: NDArray[Any], built_in: int) -> int:
    """The type results of a calculation are sent as: the variable's, or Double where one would not go into it."""
    if built_in in FLOATS or built_in not in NUMBERS:
        return DOUBLE if built_in not in FLOATS else built_in
    finite = values[np.isfinite(values)]
    if built_in == 1:
        return built_in if np.isin(finite, (0.0, 1.0)).all() else DOUBLE
    limits = np.iinfo(WIRE[built_in])
    return built_in if ((finite >= limits.min) & (finite <= limits.max)).all() else DOUBLE


def _data_values(parts: Sequence[Series], built_in: int, stamps: Any, index_range: str) -> bytes:
    times = _joined([p.times for p in parts], np.int64)
    received = _joined([p.received for p in parts], np.int64)
    codes = _joined([p.status for p in parts], np.uint32)
    source = stamps in (ua.TimestampsToReturn.Source, ua.TimestampsToReturn.Both)
    server = stamps in (ua.TimestampsToReturn.Server, ua.TimestampsToReturn.Both)
    count = len(times).to_bytes(4, "little")
    if built_in == STRING:
        texts = [text for part in parts for text in part.values.tolist()]
        shown = _texts(texts, codes, index_range)
        return count + b"".join(_tailed(shown, codes, times, received, source=source, server=server))
    if index_range:
        parse_range(index_range)
        raise Fault(ua.StatusCodes.BadIndexRangeNoData)
    present, values = _values(parts, codes, built_in)
    whole, told = bool(present.all()), bool(codes.any())
    rows = np.empty(len(times), _layout(built_in, told, source, server))
    rows["mask"] = HAS_VALUE | told * HAS_STATUS | source * HAS_SOURCE | server * HAS_SERVER
    rows["type"] = built_in
    rows["value"] = values
    if told:
        rows["status"] = codes
    if source:
        rows["source"] = _ticks(times)
    if server:
        rows["server"] = _ticks(received)
    return count + (rows.tobytes() if whole else _without_nulls(rows, present))


@cache
def _layout(built_in: int, told: bool, source: bool, server: bool) -> np.dtype[np.void]:
    """A DataValue that is not null; without a status it is Good."""
    fields = [("mask", "u1"), ("type", "u1"), ("value", WIRE[built_in])]
    wanted = (told, ("status", "<u4")), (source, ("source", "<i8")), (server, ("server", "<i8"))
    return np.dtype([*fields, *(field for there, field in wanted if there)])


def _ticks(times: NDArray[np.int64]) -> NDArray[np.int64]:
    found: NDArray[np.int64] = times // TICK
    found += FILETIME_EPOCH
    return found


def _values(
    parts: Sequence[Series], codes: NDArray[np.uint32], built_in: int
) -> tuple[NDArray[np.bool_], NDArray[Any]]:
    """Which rows have a value, and the values as the wire has them."""
    present = codes < 0x80000000
    arrays = [p.values for p in parts if len(p.values)]
    if not arrays:
        return present, np.zeros(len(codes), WIRE[built_in])
    # Of nothing but nulls the type of their place in a page does not count.
    values = np.concatenate(arrays) if len({a.dtype for a in arrays}) == 1 else _mixed(arrays)
    if values.dtype.kind == "f" and built_in not in FLOATS:
        present &= np.isfinite(values)  # no number is no integer
        values = np.rint(np.where(present, values, 0.0))
    elif values.dtype.kind == "f":
        values = values if present.all() else np.where(present, values, 0.0)
    if built_in == 13:
        values = _ticks(values.astype(np.int64))
    return present, values


def _mixed(arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """A bound that was not found is NaN, whatever the others are."""
    kinds = {a.dtype for a in arrays if a.dtype.kind != "f" or np.isfinite(a).any()}
    kind = kinds.pop() if len(kinds) == 1 else np.dtype(np.float64)
    return np.concatenate(
        [a.astype(kind) if a.dtype.kind != "f" or kind.kind == "f" else np.zeros(len(a), kind) for a in arrays]
    )


def _joined(arrays: Sequence[NDArray[Any]], kind: Any) -> NDArray[Any]:
    return arrays[0] if len(arrays) == 1 else np.concatenate([*arrays, np.empty(0, kind)]).astype(kind, copy=False)


def _without_nulls(rows: NDArray[Any], present: NDArray[np.bool_]) -> bytes:
    """The bytes of rows of which some have no value."""
    rows["mask"] &= np.where(present, 0xFF, 0xFF - HAS_VALUE).astype(np.uint8)
    size = rows.dtype.itemsize
    keep = np.ones((len(rows), size), np.bool_)
    keep[~present, 1 : 2 + rows.dtype["value"].itemsize] = False
    return rows.view(np.uint8).reshape(len(rows), size)[keep].tobytes()


# -- texts


def _texts(texts: Sequence[str | None], codes: NDArray[np.uint32], index_range: str) -> list[bytes]:
    """Type and value of each row, empty for null."""
    known: dict[str, bytes] = {}
    part = parse_range(index_range)[0] if index_range else slice(None)
    rows = []
    for text, bad in zip(texts, (codes & 0x80000000 != 0).tolist(), strict=True):
        shown = None if bad or not isinstance(text, str) else text[part]
        if shown is None:
            rows.append(b"")
            continue
        if index_range and not shown:
            raise Fault(ua.StatusCodes.BadIndexRangeNoData)
        if shown not in known:
            known[shown] = bytes([STRING]) + _string(shown)
        rows.append(known[shown])
    return rows


def _string(text: str) -> bytes:
    data = text.encode()
    return len(data).to_bytes(4, "little") + data


def _tailed(
    rows: list[bytes],
    codes: NDArray[np.uint32],
    times: NDArray[np.int64],
    received: NDArray[np.int64],
    *,
    source: bool,
    server: bool,
) -> list[bytes]:
    """Mask before and status and times behind each row."""
    fields = [("status", "<u4"), *([("source", "<i8")] if source else []), *([("server", "<i8")] if server else [])]
    tails = np.zeros(len(codes), fields)
    tails["status"] = codes
    if source:
        tails["source"] = _ticks(times)
    if server:
        tails["server"] = _ticks(received)
    data, size = tails.tobytes(), tails.dtype.itemsize
    mask = HAS_STATUS | source * HAS_SOURCE | server * HAS_SERVER
    return [
        bytes([mask | (HAS_VALUE if row else 0)]) + row + data[i * size : (i + 1) * size] for i, row in enumerate(rows)
    ]
