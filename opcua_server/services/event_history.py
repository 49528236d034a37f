"""HistoryRead of events (Part 11 6.5.2): a page at a time, of what happened at a notifier and below it.

What the index knows of a where clause (time, severity, event type) is looked up there; the rest is asked of each event,
which costs the decoding of the fields it asks for. Fields selected go from the disk to the client as they were encoded.
"""

import asyncio
import struct
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol, TypeVar

from asyncua import ua
from asyncua.ua.ua_binary import variant_to_binary

from historian import events as store
from historian.events import Catalogue, Query, Stored
from nodesets.model import Caller
from nodesets.ports import Clock
from opcua_server.services.event_fields import CONDITION, NO_VALUE, Fields
from opcua_server.services.event_filters import EventFilter, Selected, bounds, event_filter
from opcua_server.services.history import keep, take
from opcua_server.services.limits import Limits
from opcua_server.services.nodes import Event, Notifies
from opcua_server.services.roles import Receivers
from opcua_server.services.sessions import Session
from opcua_server.services.space import Space
from opcua_server.services.status import Fault, status, to_ns

T = TypeVar("T")

HISTORY_EVENT = ua.NodeId(ua.ObjectIds.HistoryEvent_Encoding_DefaultBinary)
SHOWN = 1000
"""Nanoseconds of a time as clients see it: those who ask for an instant mean all of it."""
SLICE = 500
"""Events looked at between two turns of the loop."""
LOOKED_AT = 20_000
"""Events looked at for one page; a page that is not full by then ends with a continuation point."""
COUNT = struct.Struct("<i")


class Reads(Protocol):
    """`historian.query.Reader`."""

    def read(self, query: Callable[[Any], T]) -> Awaitable[T]:
        """Run a query in a thread, on a connection that cannot write. Raises StorageError."""


@dataclass(frozen=True, slots=True)
class Rest:
    """What is left of a read: where it goes on, and how many events may still come; None: all."""

    query: Query
    left: int | None
    filter: EventFilter
    exact: bool
    """The query finds what the filter lets pass, and nothing else."""


class EventHistory:
    """`notifiers(source)` gives the nodes that tell of what happens at a source."""

    def __init__(
        self,
        space: Space,
        reader: Reads,
        notifiers: Callable[[Any], Set[Any]],
        receivers: Receivers,
        limits: Limits,
        clock: Clock,
    ) -> None:
        self._space = space
        self._reader = reader
        self._notifiers = notifiers
        self._receivers = receivers
        self._limits = limits
        self._clock = clock
        self._catalogue = Catalogue()

    async def read(self, session: Session, node: Any, details: Any, _stamps: Any) -> Any:
        """HistoryReadResult of one node (history.Answer). Raises Fault."""
        self._check(node)
        rest = (
            take(session, node, self._clock)
            if node.ContinuationPoint
            else await self._begin(session.user, node, details)
        )
        if not isinstance(rest, Rest):
            raise Fault(ua.StatusCodes.BadContinuationPointInvalid)
        found, following = await self._page(rest)
        result = ua.HistoryReadResult(HistoryData=_encoded(found))
        if following is not None:
            result.ContinuationPoint = keep(session, node, following, self._limits, self._clock)
        elif not found:
            result.StatusCode = status(ua.StatusCodes.GoodNoData)
        return result

    def _check(self, node: Any) -> None:
        if node.NodeId not in self._space:
            raise Fault(ua.StatusCodes.BadNodeIdUnknown)
        if not int(self._space.attribute(node.NodeId, ua.AttributeIds.EventNotifier) or 0) & Notifies.HISTORY_READ:
            raise Fault(ua.StatusCodes.BadHistoryOperationUnsupported)
        if node.IndexRange:
            raise Fault(ua.StatusCodes.BadIndexRangeNoData)
        if node.DataEncoding.Name not in (None, "", "Default Binary"):
            raise Fault(ua.StatusCodes.BadDataEncodingUnsupported)

    async def _begin(self, caller: Caller, node: Any, details: Any) -> Rest:
        """Two of start, end and number of values have to be given (6.5.2.2)."""
        start, end, limit = to_ns(details.StartTime), to_ns(details.EndTime), details.NumValuesPerNode
        if (start is None) + (end is None) + (limit == 0) > 1:
            raise Fault(ua.StatusCodes.BadHistoryOperationInvalid)
        wanted = event_filter(self._space, details.Filter)
        self._catalogue = known = await self._reader.read(partial(store.catalogue, known=self._catalogue))
        asked = bounds(details.Filter.WhereClause.Elements or [])
        types = {ua.NodeId.from_string(name) for name in {layout.event_type for layout in known.layouts.values()}}
        visible = {t.to_string() for t in types if self._visible(caller, t, asked.types)}
        query = Query(
            start=start,
            end=start + SHOWN if start is not None and start == end else end,
            severity=asked.severity,
            sources=self._below(node.NodeId, known.sources),
            layouts=[number for number, layout in known.layouts.items() if layout.event_type in visible],
        )
        return Rest(query, limit or None, wanted, asked.exact)

    def _visible(self, caller: Caller, event_type: Any, wanted: Iterable[Any]) -> bool:
        """Whether the caller gets events of the type, and the where clause asks for them."""
        return self._receivers.may(caller, event_type) and all(self._space.is_subtype(event_type, w) for w in wanted)

    def _below(self, notifier: Any, sources: Mapping[int, str]) -> list[int] | None:
        """Sources a notifier tells of; None: all there are."""
        found = [n for n, node in sources.items() if notifier in self._notifiers(ua.NodeId.from_string(node))]
        return None if len(found) == len(sources) else found

    async def _page(self, rest: Rest) -> tuple[list[bytes], Rest | None]:
        """Events of a page as encoded, and what is left after it."""
        most = min(rest.left or self._limits.history_page, self._limits.history_page)
        found: list[bytes] = []
        plans: dict[int, _Plan] = {}
        looked_at = 0
        while len(found) < most and looked_at < LOOKED_AT:
            wanted = most - len(found) if rest.exact else SLICE
            query, room = rest.query, wanted + 1  # one more tells whether there is more
            rows = await self._reader.read(partial(store.page, query=query, limit=room))
            for number, row in enumerate(rows[:wanted]):
                if len(found) == most:
                    return found, self._following(rest, rows[number - 1], len(found))
                found += self._selected(rest, row, plans)
                if number % SLICE == SLICE - 1:
                    await asyncio.sleep(0)
            if len(rows) <= wanted:
                return found, None
            looked_at += wanted
            rest = replace(rest, query=rest.query.following(rows[wanted - 1]))
        return found, self._counted(rest, len(found))

    def _following(self, rest: Rest, last: Stored, count: int) -> Rest | None:
        return self._counted(replace(rest, query=rest.query.following(last)), count)

    def _counted(self, rest: Rest, count: int) -> Rest | None:
        """What is left when so many were given: of a range all of it, of a number what was not yet given."""
        ranged = rest.query.start is not None and rest.query.end is not None
        if rest.left is None or ranged:
            return rest
        return replace(rest, left=rest.left - count) if rest.left > count else None

    def _selected(self, rest: Rest, row: Stored, plans: dict[int, "_Plan"]) -> Iterator[bytes]:
        """The selected fields of an event that passes."""
        plan = plans.get(row.layout)
        if plan is None:
            plan = plans[row.layout] = self._plan(rest, row.layout)
        fields = Fields(plan.at, row.fields)
        if not rest.exact and not rest.filter.passes(self._event(row, plan, fields)):
            return
        encoded = (
            NO_VALUE
            if selected is None
            else fields.encoded(selected.path)
            if selected.plain
            else bytes(variant_to_binary(selected.of(self._event(row, plan, fields))))
            for selected in plan.chosen
        )
        yield COUNT.pack(len(plan.chosen)) + b"".join(encoded)

    def _plan(self, rest: Rest, number: int) -> "_Plan":
        layout = self._catalogue.layouts[number]
        event_type = ua.NodeId.from_string(layout.event_type)
        at = {path: i for i, path in enumerate(layout.paths)}
        return _Plan(event_type, at, rest.filter.selected(event_type))

    def _event(self, row: Stored, plan: "_Plan", fields: Fields) -> Event:
        return _event(row, plan.event_type, self._catalogue.sources, fields)


@dataclass(frozen=True, slots=True)
class _Plan:
    """How the rows of a layout are answered."""

    event_type: Any
    at: Mapping[str, int]
    """Path -> number of the field."""
    chosen: Sequence[Selected | None]


def _event(row: Stored, event_type: Any, sources: Mapping[int, str], fields: Fields) -> Event:
    """The event as a filter looks at it: all its fields are in `fields`."""
    condition = fields.get(CONDITION)
    return Event(
        event_id=b"",
        event_type=event_type,
        source=ua.NodeId.from_string(sources[row.source]),
        source_name="",
        time=row.time,
        received=row.time,
        severity=row.severity,
        message="",
        condition=None if condition is None else condition.Value,
        fields=fields,
    )


def _encoded(found: Sequence[bytes]) -> Any:
    """HistoryEvent (6.6.4)."""
    return ua.ExtensionObject(TypeId=HISTORY_EVENT, Body=COUNT.pack(len(found)) + b"".join(found))
