"""HistoryRead of raw values (Part 11 6.5.3), a page at a time; a page is one numpy array turned into bytes at once."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from asyncua import ua
from numpy.typing import NDArray

from nodesets.errors import NotFound
from nodesets.ports import History, Series
from opcua_server.services.attributes import check_timestamps
from opcua_server.services.limits import Limits
from opcua_server.services.sessions import Session
from opcua_server.services.space import Space
from opcua_server.services.status import FILETIME_EPOCH, Fault, status, to_ns

Answer = Callable[[Session, Any, Any, Any], Awaitable[Any]]
"""`answer(session, node, details, timestamps to return)`: HistoryReadResult of one node. Raises Fault."""
TICK = 100
"""Nanoseconds of the wire's time unit."""
BAD_BOUND_NOT_FOUND = 0x80D70000
HISTORY_DATA = ua.NodeId(ua.ObjectIds.HistoryData_Encoding_DefaultBinary)

WIRE = {1: "?", 2: "i1", 3: "u1", 4: "<i2", 5: "<u2", 6: "<i4", 7: "<u4", 8: "<i8", 9: "<u8", 10: "<f4", 11: "<f8"}
"""numpy type of each numeric built-in type (Part 6 5.2.2)."""

HAS_VALUE, HAS_STATUS, HAS_SOURCE, HAS_SERVER = 0x01, 0x02, 0x04, 0x08
"""Bits of a DataValue's encoding mask (Part 6 5.2.2.17)."""


@dataclass(frozen=True, slots=True)
class _Query:
    """One node's part of a ReadRawModifiedDetails, and where its next page begins."""

    node: str
    start: int | None
    end: int | None
    """ns UTC; a range from `start` towards `end`, backward when start > end or start is None."""
    limit: int
    """Values a page the client asked for; 0: as many as fit."""
    bounds: bool
    after: tuple[int, int] | None = None

    @property
    def backward(self) -> bool:
        return self.start is None or (self.end is not None and self.end < self.start)

    @property
    def open(self) -> bool:
        """Ends with the number of values asked for, not with a time."""
        return self.start is None or self.end is None

    @property
    def empty(self) -> bool:
        """Start and end are one instant: the value there, if any."""
        return self.start is not None and self.start == self.end

    def following(self, series: Series) -> "_Query | None":
        """The query of the next page, None after the last."""
        if series.more is None:
            return None
        if not self.open:
            return replace(self, after=series.more)
        left = self.limit - len(series.times)
        return replace(self, after=series.more, limit=left) if left > 0 else None


class HistoryService:
    def __init__(self, space: Space, limits: Limits) -> None:
        self._space = space
        self._limits = limits
        self._readers: dict[Any, tuple[str, History, int]] = {}
        self._answers: dict[type, Answer] = {
            ua.ReadRawModifiedDetails: self._raw_modified,
            ua.ReadProcessedDetails: _unsupported,
            ua.ReadAtTimeDetails: _unsupported,
            ua.ReadEventDetails: _unsupported,
        }

    def offer(self, details: type, answer: Answer) -> None:
        """Have a kind of HistoryReadDetails (Part 11 6.5) answered."""
        self._answers[details] = answer

    def historize(self, node_id: Any, tag: str, reader: History) -> None:
        """Answer HistoryRead of a numeric variable from `reader`. Raises LookupError for any other node."""
        built_in = self._space.built_in(self._space.attribute(node_id, ua.AttributeIds.DataType) or ua.NodeId())
        if built_in not in WIRE:
            raise LookupError(f"{node_id.to_string()} is not a numeric variable")
        self._readers[node_id] = (tag, reader, built_in)

    def forget_missing(self) -> None:
        """Drop the readers of nodes that are no more."""
        self._readers = {node_id: reader for node_id, reader in self._readers.items() if node_id in self._space}

    async def read(self, session: Session, parameters: Any) -> list[Any]:
        """HistoryRead (Part 4 5.11.3)."""
        if parameters.ReleaseContinuationPoints:
            return [self._release(session, node) for node in parameters.NodesToRead]
        check_timestamps(parameters.TimestampsToReturn)
        details, stamps = parameters.HistoryReadDetails, parameters.TimestampsToReturn
        answer = self._answers.get(type(details))
        if answer is None:
            raise Fault(ua.StatusCodes.BadHistoryOperationInvalid)
        if stamps == ua.TimestampsToReturn.Neither:
            raise Fault(ua.StatusCodes.BadTimestampsToReturnInvalid)
        return [await _answered(answer(session, node, details, stamps)) for node in parameters.NodesToRead]

    def _release(self, session: Session, node: Any) -> Any:
        """A continuation point is released by the node it was given for; nothing is read."""
        try:
            take(session, node)
        except Fault as fault:
            return ua.HistoryReadResult(StatusCode=status(fault.status))
        return ua.HistoryReadResult()

    async def _raw_modified(self, session: Session, node: Any, details: Any, stamps: Any) -> Any:
        tag, reader, built_in = self._reader(node)
        if details.IsReadModified:
            raise Fault(ua.StatusCodes.BadHistoryOperationUnsupported)
        query = take(session, node) if node.ContinuationPoint else _query(tag, details)
        if not isinstance(query, _Query):
            raise Fault(ua.StatusCodes.BadContinuationPointInvalid)
        try:
            page = await self._page(reader, query)
        except NotFound:
            return ua.HistoryReadResult(
                StatusCode=status(ua.StatusCodes.GoodNoData), HistoryData=encode([], 11, stamps)
            )
        result = ua.HistoryReadResult(HistoryData=encode(page.parts, built_in, stamps))
        if page.next is not None:
            result.ContinuationPoint = keep(session, node, page.next, self._limits)
        elif not any(len(part.times) for part in page.parts):
            result.StatusCode = status(ua.StatusCodes.GoodNoData)
        return result

    def _reader(self, node: Any) -> tuple[str, History, int]:
        if node.NodeId not in self._space:
            raise Fault(ua.StatusCodes.BadNodeIdUnknown)
        if node.IndexRange:
            raise Fault(ua.StatusCodes.BadIndexRangeNoData)
        if node.DataEncoding.Name not in (None, "", "Default Binary"):
            raise Fault(ua.StatusCodes.BadDataEncodingUnsupported)
        found = self._readers.get(node.NodeId)
        if found is None:
            raise Fault(ua.StatusCodes.BadHistoryOperationUnsupported)
        return found

    async def _page(self, reader: History, query: _Query) -> "_Page":
        most = self._limits.history_page
        limit = min(query.limit or most, most)
        parts: list[Series] = []
        first = query.bounds and query.after is None and query.start is not None and not query.empty
        # A value exactly at the start is in the range itself.
        if first and query.start is not None and not len((await _at(reader, query.node, query.start)).times):
            parts.append(await _bound(reader, query.node, query.start, before=not query.backward))
        end = query.start + TICK if query.empty and query.start is not None else query.end
        series = await reader.read_raw(query.node, query.start, end, max(1, limit - len(parts)), query.after)
        parts.append(series)
        if series.more is None and query.bounds and not query.open and not query.empty and query.end is not None:
            exact = await _at(reader, query.node, query.end)
            parts.append(
                exact if len(exact.times) else await _bound(reader, query.node, query.end, before=query.backward)
            )
        return _Page(parts, query.following(series))


def keep(session: Session, node: Any, rest: Any, limits: Limits) -> bytes:
    """A continuation point for what is left of a node's history. Raises Fault with BadNoContinuationPoints."""
    return session.keep(session.history_points, (node.NodeId, rest), limits.continuation_points)


def take(session: Session, node: Any) -> Any:
    """What is left at a continuation point, which serves once. Raises Fault with BadContinuationPointInvalid."""
    point = session.history_points.get(node.ContinuationPoint or b"")
    if point is None or point[0] != node.NodeId:
        raise Fault(ua.StatusCodes.BadContinuationPointInvalid)
    del session.history_points[node.ContinuationPoint]
    return point[1]


async def _answered(answer: Awaitable[Any]) -> Any:
    """A node that cannot be answered is its own result, not the request's (Part 4 5.11.3.4)."""
    try:
        return await answer
    except Fault as fault:
        return ua.HistoryReadResult(StatusCode=status(fault.status))


async def _unsupported(_session: Session, _node: Any, _details: Any, _stamps: Any) -> Any:
    raise Fault(ua.StatusCodes.BadHistoryOperationUnsupported)


@dataclass(frozen=True, slots=True)
class _Page:
    parts: list[Series]
    next: _Query | None


def _query(tag: str, details: Any) -> _Query:
    """Two of start, end and number of values have to be given (6.5.3.2)."""
    start, end, limit = to_ns(details.StartTime), to_ns(details.EndTime), details.NumValuesPerNode
    if (start is None) + (end is None) + (limit == 0) > 1:
        raise Fault(ua.StatusCodes.BadHistoryOperationInvalid)
    return _Query(tag, start, end, limit, details.ReturnBounds)


async def _at(reader: History, tag: str, time: int) -> Series:
    """The value at one instant, or none."""
    return await reader.read_raw(tag, time, time + TICK, 1)


async def _bound(reader: History, tag: str, time: int, *, before: bool) -> Series:
    """The value nearest to `time` on one side; null with BadBoundNotFound at `time` when there is none (6.5.3.2)."""
    nearest = await (reader.read_raw(tag, None, time, 1) if before else reader.read_raw(tag, time, None, 1))
    if len(nearest.times):
        return nearest
    at = np.array([time], np.int64)
    return Series(at, at, np.array([np.nan]), np.array([BAD_BOUND_NOT_FOUND], np.uint32), None)


def encode(parts: list[Series], built_in: int, stamps: Any) -> Any:
    """HistoryData (6.6.2) as its encoded bytes.

    Each row is laid out as a DataValue with everything in it; what a row lacks (the value of a Bad one, a timestamp
    not asked for) is then cut out of the byte matrix by a mask.
    """
    times = _joined([p.times for p in parts], np.int64)
    received = _joined([p.received for p in parts], np.int64)
    values = _joined([p.values for p in parts], np.float64)
    codes = _joined([p.status for p in parts], np.uint32)
    layout = np.dtype(
        [
            ("mask", "u1"),
            ("type", "u1"),
            ("value", WIRE[built_in]),
            ("status", "<u4"),
            ("source", "<i8"),
            ("server", "<i8"),
        ]
    )
    rows = np.zeros(len(times), layout)
    present = np.isfinite(values) & (codes & 0x80000000 == 0) if built_in < 10 else codes & 0x80000000 == 0
    source = stamps in (ua.TimestampsToReturn.Source, ua.TimestampsToReturn.Both)
    server = stamps in (ua.TimestampsToReturn.Server, ua.TimestampsToReturn.Both)
    rows["mask"] = HAS_STATUS | source * HAS_SOURCE | server * HAS_SERVER | present * HAS_VALUE
    rows["type"] = built_in
    rows["value"] = np.where(present, values, 0.0)
    rows["status"] = codes
    rows["source"] = times // TICK + FILETIME_EPOCH
    rows["server"] = received // TICK + FILETIME_EPOCH
    body = len(times).to_bytes(4, "little") + _without(rows, layout, present, source=source, server=server)
    return ua.ExtensionObject(TypeId=HISTORY_DATA, Body=body)


def _joined(arrays: list[NDArray[Any]], kind: Any) -> NDArray[Any]:
    return np.concatenate([*arrays, np.empty(0, kind)]).astype(kind, copy=False)


def _without(
    rows: NDArray[Any], layout: np.dtype[Any], present: NDArray[np.bool_], *, source: bool, server: bool
) -> bytes:
    if source and server and bool(present.all()):
        return rows.tobytes()
    keep = np.ones((len(rows), layout.itemsize), np.bool_)
    end_of_value = 2 + layout["value"].itemsize
    keep[~present, 1:end_of_value] = False
    keep[:, end_of_value + 4 : end_of_value + 12] &= source
    keep[:, end_of_value + 12 :] &= server
    return rows.view(np.uint8).reshape(len(rows), layout.itemsize)[keep].tobytes()
