"""HistoryRead (Part 4 5.11.3, Part 11 6.5): one table, kind of details -> who answers for one node.

A page is one numpy array turned into bytes at once. What a page leaves is a query of its own, kept at a continuation
point; it says where to go on, so what is recorded in between neither doubles nor hides anything.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from asyncua import ua

from historian.aggregates import AGGREGATES, INTEGER, SOURCE, STATUS_CODE
from nodesets.errors import NotFound, OutOfRange
from nodesets.model import AggregateRules, Caller
from nodesets.ports import Annotation, Archive, Clock, Position, Series
from opcua_server.services import history_encoding as encoding
from opcua_server.services.attributes import Attributes, check_timestamps
from opcua_server.services.limits import Limits
from opcua_server.services.nodes import Access, site
from opcua_server.services.sessions import Session
from opcua_server.services.space import Space
from opcua_server.services.status import Fault, status, to_ns

CODES = ua.StatusCodes
Answer = Callable[[Session, Any, Any, Any], Awaitable[Any]]
"""`answer(session, node, details, timestamps to return)`: HistoryReadResult of one node. Raises Fault."""
SECOND = 1_000_000_000
BAD_BOUND_NOT_FOUND = 0x80D70000
AT_A_TIME = 2
"""Nodes of one request read at once: one is encoded while the next is read; the other readers are for others."""
FUNCTIONS = {ua.NodeId(getattr(ua.ObjectIds, f"AggregateFunction_{name}")): name for name in AGGREGATES}
"""AggregateFunction objects there are, by their NodeIds (Part 13 table 5)."""
OF_TEXTS = frozenset(
    {
        "AnnotationCount",
        "Count",
        "DurationGood",
        "DurationBad",
        "PercentGood",
        "PercentBad",
        "WorstQuality",
        "WorstQuality2",
    }
)
"""Those that look at no value."""
RESULTS = {INTEGER: 6, STATUS_CODE: encoding.STATUS_CODE, "Double": encoding.DOUBLE}
"""Built-in type of a result that is not the variable's."""


@dataclass(frozen=True, slots=True)
class Historized:
    """A variable with a history."""

    tag: str
    archive: Archive
    built_in: int
    stepped: bool
    notes: bool = False
    """It is the Annotations property: the history is what people noted of the variable `tag`."""


class Histories:
    """Which nodes have a history, and who may do what with it."""

    def __init__(self, space: Space, attributes: Attributes) -> None:
        self._space = space
        self._attributes = attributes
        self._found: dict[Any, Historized] = {}

    def add(self, node_id: Any, tag: str, archive: Archive, *, stepped: bool = False) -> None:
        """Answer for a variable and its Annotations from `archive`. Raises LookupError for types without a history."""
        built_in = self._space.built_in(self._space.attribute(node_id, ua.AttributeIds.DataType) or ua.NodeId())
        if built_in not in encoding.HISTORIZED:
            raise LookupError(f"{node_id.to_string()} is no variable of a type with a history")
        self._found[node_id] = Historized(tag, archive, built_in, stepped or built_in in (1, encoding.STRING))
        notes = site(f"{tag}.Annotations")
        if notes in self._space:
            self._found[notes] = Historized(tag, archive, 0, True, notes=True)

    def forget_missing(self) -> None:
        """Drop those of nodes that are no more."""
        self._found = {node_id: found for node_id, found in self._found.items() if node_id in self._space}

    def get(self, node_id: Any) -> Historized | None:
        return self._found.get(node_id)

    def of(self, caller: Caller, node_id: Any, needed: Access) -> Historized:
        """The history of a node this caller may read or write. Raises Fault."""
        if node_id not in self._space:
            raise Fault(CODES.BadNodeIdUnknown)
        found = self._found.get(node_id)
        if found is None:
            raise Fault(CODES.BadHistoryOperationUnsupported)
        if not int(self._space.attribute(node_id, ua.AttributeIds.AccessLevel) or 0) & needed:
            # Part 4 5.11.5: nobody may; process rule 13: so it is with every sample of a device
            raise Fault(CODES.BadNotWritable if needed is Access.HISTORY_WRITE else CODES.BadNotReadable)
        if not self._attributes.user_access(caller, node_id) & needed:
            raise Fault(CODES.BadUserAccessDenied)
        return found


class HistoryService:
    def __init__(self, histories: Histories, limits: Limits, clock: Clock) -> None:
        self._histories = histories
        self._limits = limits
        self._clock = clock
        self._answers: dict[type, Answer] = {
            ua.ReadRawModifiedDetails: self._raw_modified,
            ua.ReadProcessedDetails: self._processed,
            ua.ReadAtTimeDetails: self._at_time,
            ua.ReadAnnotationDataDetails: self._annotations_at,
            ua.ReadEventDetails: _unsupported,
        }

    def offer(self, details: type, answer: Answer) -> None:
        """Have a kind of HistoryReadDetails (Part 11 6.5) answered."""
        self._answers[details] = answer

    async def read(self, session: Session, parameters: Any) -> list[Any]:
        """HistoryRead (Part 4 5.11.3)."""
        if parameters.ReleaseContinuationPoints:
            return [self._release(session, node) for node in parameters.NodesToRead]
        check_timestamps(parameters.TimestampsToReturn)
        details, stamps = parameters.HistoryReadDetails, parameters.TimestampsToReturn
        answer = self._answers.get(type(details))
        if answer is None:
            raise Fault(CODES.BadHistoryOperationInvalid)
        if stamps == ua.TimestampsToReturn.Neither:
            raise Fault(CODES.BadTimestampsToReturnInvalid)
        nodes = parameters.NodesToRead
        each = _each(details, nodes)
        room = asyncio.Semaphore(AT_A_TIME)

        async def one(node: Any, own: Any) -> Any:
            async with room:
                return await _answered(answer(session, node, own, stamps))

        return list(await asyncio.gather(*(one(node, own) for node, own in zip(nodes, each, strict=True))))

    def _release(self, session: Session, node: Any) -> Any:
        """A continuation point is released by the node it was given for; nothing is read."""
        try:
            take(session, node, self._clock)
        except Fault as fault:
            return ua.HistoryReadResult(StatusCode=status(fault.status))
        return ua.HistoryReadResult()

    def _found(self, session: Session, node: Any) -> Historized:
        if node.DataEncoding.Name not in (None, "", "Default Binary"):
            raise Fault(CODES.BadDataEncodingUnsupported)
        return self._histories.of(session.user, node.NodeId, Access.HISTORY_READ)

    def _kept(self, session: Session, node: Any, kind: type, rest: "Rest | None", result: Any) -> Any:
        """A result with the continuation point of what it leaves."""
        if rest is not None:
            result.ContinuationPoint = keep(session, node, (kind, rest), self._limits, self._clock)
        return result

    def _continued(self, session: Session, node: Any, kind: type) -> "Rest | None":
        """What a continuation point leaves of such details; None without one. Raises Fault."""
        if not node.ContinuationPoint:
            return None
        made, rest = take(session, node, self._clock)
        if made is not kind:
            raise Fault(CODES.BadContinuationPointInvalid)
        return rest  # type: ignore[no-any-return]

    # -- raw and modified (6.5.3)

    async def _raw_modified(self, session: Session, node: Any, details: Any, stamps: Any) -> Any:
        found = self._found(session, node)
        query = self._continued(session, node, type(details)) or _query(details)
        if not isinstance(query, _Query) or query.modified != bool(details.IsReadModified):
            raise Fault(CODES.BadContinuationPointInvalid)
        limit = min(query.limit or self._limits.history_page, self._limits.history_page)
        if found.notes:
            return await self._annotations(session, node, found, query, limit, stamps)
        if query.modified:
            return await self._modified(session, node, found, query, limit, stamps)
        parts, rest = await _page(found, query, limit)
        data = encoding.history_data(parts, found.built_in, stamps, node.IndexRange or "")
        empty = rest is None and not any(len(part.times) for part in parts)
        return self._kept(session, node, type(details), rest, _result(data, empty=empty))

    async def _modified(
        self, session: Session, node: Any, found: Historized, query: "_Query", limit: int, stamps: Any
    ) -> Any:
        page = await found.archive.read_modified(found.tag, query.start, query.end, limit, query.after)
        data = encoding.modified_data(page, found.built_in, stamps, node.IndexRange or "")
        rest = _left(query, len(page.made), page.series.more) if page.series.more else None
        return self._kept(session, node, ua.ReadRawModifiedDetails, rest, _result(data, empty=not page.made))

    async def _annotations(
        self, session: Session, node: Any, found: Historized, query: "_Query", limit: int, stamps: Any
    ) -> Any:
        if query.modified:
            raise Fault(CODES.BadHistoryOperationUnsupported)
        notes, more = await found.archive.read_annotations(found.tag, query.start, query.end, limit, query.after)
        rest = _left(query, len(notes), more) if more else None
        result = _result(encoding.annotation_data(notes, stamps), empty=not notes)
        return self._kept(session, node, ua.ReadRawModifiedDetails, rest, result)

    async def _annotations_at(self, session: Session, node: Any, details: Any, stamps: Any) -> Any:
        """Annotations at instants (6.5.6)."""
        found = self._found(session, node)
        if not found.notes:
            raise Fault(CODES.BadHistoryOperationUnsupported)
        notes: list[Annotation] = []
        for time in _times(details.ReqTimes, self._limits):
            there, _ = await found.archive.read_annotations(found.tag, time, time, self._limits.history_page)
            notes += there
        return _result(encoding.annotation_data(notes, stamps), empty=not notes)

    # -- at time (6.5.5)

    async def _at_time(self, session: Session, node: Any, details: Any, stamps: Any) -> Any:
        found = self._found(session, node)
        if found.notes:
            raise Fault(CODES.BadHistoryOperationUnsupported)
        if node.ContinuationPoint:
            raise Fault(CODES.BadContinuationPointInvalid)
        times = np.array(_times(details.ReqTimes, self._limits), np.int64)
        rules = AggregateRules(stepped=found.stepped)
        series = await _unless_unknown(
            found.archive.read_at(found.tag, times, rules, use_simple_bounds=bool(details.UseSimpleBounds))
        )
        if series is None:
            return _result(encoding.history_data([], found.built_in, stamps), empty=True)
        kind = found.built_in if found.built_in == encoding.STRING else encoding.fitting(series.values, found.built_in)
        return _result(encoding.history_data([series], kind, stamps, node.IndexRange or ""), empty=False)

    # -- processed (6.5.4, Part 13)

    async def _processed(self, session: Session, node: Any, details: "_Processing | Fault", stamps: Any) -> Any:
        found = self._found(session, node)
        if isinstance(details, Fault):
            raise details
        left = self._continued(session, node, ua.ReadProcessedDetails)
        query = left if isinstance(left, _Processing) else details
        if left is None:
            query = replace(query, rules=replace(query.rules, stepped=found.stepped))
        name = query.aggregate
        if found.notes or (found.built_in == encoding.STRING and name not in OF_TEXTS):
            raise Fault(CODES.BadAggregateNotSupported)
        over = (query.start, query.end, query.length)
        page = (query.first, self._limits.history_page)
        series = await _unless_unknown(found.archive.read_processed(found.tag, name, over, page, query.rules))
        if series is None:
            return _result(encoding.history_data([], encoding.DOUBLE, stamps), empty=True)
        row = AGGREGATES[name]
        source = encoding.fitting(series.values, found.built_in) if row.data_type == SOURCE else 0
        data = encoding.history_data([series], RESULTS.get(row.data_type, source), stamps, node.IndexRange or "")
        rest = replace(query, first=query.first + len(series.times)) if query.beyond(page) else None
        return self._kept(session, node, ua.ReadProcessedDetails, rest, _result(data, empty=not len(series.times)))


@dataclass(frozen=True, slots=True)
class _Query:
    """One node's part of a ReadRawModifiedDetails, and where its next page begins."""

    start: int | None
    end: int | None
    """ns UTC; a range from `start` towards `end`, backward when start > end or start is None."""
    limit: int
    """Values the client asked for: of a page, or of an open range as a whole; 0: as many as fit."""
    bounds: bool
    modified: bool
    after: Position | None = None
    stage: int = 0
    """What comes next: 0 the bound at the beginning, 1 values, 2 the bound at the end."""

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

    @property
    def begin(self) -> int:
        """Where reading begins."""
        return self.start if self.start is not None else self.end or 0


@dataclass(frozen=True, slots=True)
class _Processing:
    """One node's part of a ReadProcessedDetails, and its next interval."""

    start: int
    end: int
    length: int
    aggregate: str
    rules: AggregateRules
    first: int = 0

    def beyond(self, page: tuple[int, int]) -> bool:
        """Whether there are intervals behind a page."""
        span = abs(self.end - self.start)
        return self.length > 0 and sum(page) * self.length < span


Rest = _Query | _Processing


def _query(details: Any) -> _Query:
    """Two of start, end and number of values have to be given (6.5.3.2)."""
    start, end, limit = to_ns(details.StartTime), to_ns(details.EndTime), details.NumValuesPerNode
    if (start is None) + (end is None) + (limit == 0) > 1:
        raise Fault(CODES.BadHistoryOperationInvalid)
    if details.IsReadModified and details.ReturnBounds:
        raise Fault(CODES.BadInvalidArgument)
    return _Query(start, end, limit, bool(details.ReturnBounds), bool(details.IsReadModified))


def _each(details: Any, nodes: list[Any]) -> list[Any]:
    """What each node is asked: the details, or its own aggregate of them. Raises Fault."""
    if not isinstance(details, ua.ReadProcessedDetails):
        return [details] * len(nodes)
    kinds = details.AggregateType or []
    if len(kinds) != len(nodes):
        raise Fault(CODES.BadAggregateListMismatch)
    return [_processing(details, kind) for kind in kinds]


def _processing(details: Any, kind: Any) -> Any:
    """The question of one node; a Fault is its answer."""
    start, end = to_ns(details.StartTime), to_ns(details.EndTime)
    milliseconds = details.ProcessingInterval
    if start is None or end is None or start == end or not 0 <= milliseconds < float("inf"):
        return Fault(CODES.BadInvalidArgument)
    name = FUNCTIONS.get(kind)
    if name is None:
        return Fault(CODES.BadAggregateNotSupported)
    rules = aggregate_rules(details.AggregateConfiguration)
    if not rules.valid:
        return Fault(CODES.BadAggregateInvalidInputs)
    length = min(round(milliseconds * 1e6), 2**62)
    if length == 0 and milliseconds > 0:
        return Fault(CODES.BadInvalidArgument)
    return _Processing(start, end, length, name, rules)


def aggregate_rules(configuration: Any) -> AggregateRules:
    """Rules of an AggregateConfiguration (Part 4 7.22.4); the server's defaults where it says so."""
    if configuration.UseServerCapabilitiesDefaults:
        return AggregateRules()
    return AggregateRules(
        uncertain_is_bad=bool(configuration.TreatUncertainAsBad),
        percent_bad=int(configuration.PercentDataBad),
        percent_good=int(configuration.PercentDataGood),
        sloped_extrapolation=bool(configuration.UseSlopedExtrapolation),
    )


def _times(given: Any, limits: Limits) -> list[int]:
    """Instants asked for. Raises Fault."""
    times = [to_ns(time) for time in given or []]
    if not times:
        raise Fault(CODES.BadInvalidArgument)
    if len(times) > limits.history_page:
        raise Fault(CODES.BadTooManyOperations)
    if any(time is None for time in times):
        raise Fault(CODES.BadInvalidTimestampArgument)
    return [time for time in times if time is not None]


# -- one page of raw values


async def _page(found: Historized, query: _Query, limit: int) -> tuple[list[Series], _Query | None]:
    """At most `limit` values and bounds (Part 11 4.6), and what is left."""
    parts: list[Series] = []
    room, stage, after = limit, query.stage, query.after
    if stage == 0:
        if query.bounds and not len((await _at(found, query.begin)).times):
            parts.append(await _bound(found, query.begin, before=not query.backward))
            room -= 1
        stage = 1
    if stage == 1 and room > 0:
        end = query.begin + encoding.TICK if query.empty else query.end
        series = await _read(found, query.start, end, room, after)
        parts.append(series)
        room, after = room - len(series.times), series.more
        stage = 2 if series.more is None else 1
    if stage == 1:
        return parts, _left(query, limit - room, after)
    if not query.bounds:
        return parts, None
    if room == 0:
        return parts, None if query.open else _left(query, limit, None, 2)
    parts.append(await _last_bound(found, query, parts))
    return parts, None


def _left(query: _Query, count: int, after: Position | None, stage: int = 1) -> _Query | None:
    """What is left of a query after a page of `count` values that ended at `after`; None: all that was asked for."""
    if not query.open:
        return replace(query, after=after, stage=stage)
    limit = query.limit - count
    return replace(query, after=after, stage=stage, limit=limit) if limit > 0 else None


async def _read(found: Historized, start: int | None, end: int | None, limit: int, after: Position | None) -> Series:
    series = await _unless_unknown(found.archive.read_raw(found.tag, start, end, limit, after))
    return _null(np.empty(0, np.int64)) if series is None else series


async def _unless_unknown(reading: Awaitable[Series]) -> Series | None:
    """None for a tag of which nothing was ever recorded. Raises Fault for an interval of too many values."""
    try:
        return await reading
    except NotFound:
        return None
    except OutOfRange as error:
        raise Fault(error.status) from error


async def _at(found: Historized, time: int) -> Series:
    """The value at one instant, or none."""
    return await _read(found, time, time + encoding.TICK, 1, None)


async def _bound(found: Historized, time: int, *, before: bool) -> Series:
    """The value nearest to `time` on one side; null with BadBoundNotFound at `time` when there is none."""
    nearest = await (_read(found, None, time, 1, None) if before else _read(found, time, None, 1, None))
    return nearest if len(nearest.times) else _null(np.array([time], np.int64))


async def _last_bound(found: Historized, query: _Query, parts: list[Series]) -> Series:
    """The bound at the end; of an open range, a second behind the last value."""
    if query.empty:
        return await _bound(found, query.begin + encoding.TICK, before=False)
    if not query.open and query.end is not None:
        exact = await _at(found, query.end)
        return exact if len(exact.times) else await _bound(found, query.end, before=query.backward)
    times = [int(part.times[-1]) for part in parts if len(part.times)]
    last = times[-1] if times else query.begin
    return _null(np.array([last - SECOND if query.backward else last + SECOND], np.int64))


def _null(times: Any) -> Series:
    return Series(times, times, np.full(len(times), np.nan), np.full(len(times), BAD_BOUND_NOT_FOUND, np.uint32), None)


def _result(data: Any, *, empty: bool) -> Any:
    return ua.HistoryReadResult(HistoryData=data, StatusCode=status(CODES.GoodNoData if empty else 0))


# -- continuation points


def keep(session: Session, node: Any, rest: Any, limits: Limits, clock: Clock) -> bytes:
    """A continuation point for what is left of a node's history."""
    now = clock.monotonic()
    for key, (_, _, until) in session.history_points:
        if until < now:
            session.history_points.take(key)
    point = (node.NodeId, rest, now + limits.history_point_seconds)
    return session.history_points.keep(point, node, limits.history_points)


def take(session: Session, node: Any, clock: Clock) -> Any:
    """What is left at a continuation point, which serves once. Raises Fault with BadContinuationPointInvalid."""
    node_id, rest, until = session.history_points.get(node.ContinuationPoint) or (None, None, 0.0)
    if node_id != node.NodeId:
        raise Fault(CODES.BadContinuationPointInvalid)
    session.history_points.take(node.ContinuationPoint)
    if until < clock.monotonic():
        raise Fault(CODES.BadContinuationPointInvalid)
    return rest


async def _answered(answer: Awaitable[Any]) -> Any:
    """A node that cannot be answered is its own result, not the request's (Part 4 5.11.3.4)."""
    try:
        return await answer
    except Fault as fault:
        return ua.HistoryReadResult(StatusCode=status(fault.status))


async def _unsupported(_session: Session, _node: Any, _details: Any, _stamps: Any) -> Any:
    raise Fault(CODES.BadHistoryOperationUnsupported)
