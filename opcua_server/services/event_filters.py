"""Event filters (Part 4 7.22.3): which events an item gets, and which fields of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from asyncua import ua

from opcua_server.services.attributes import parse_range, take
from opcua_server.services.content_filters import MAX_ELEMENTS, Where
from opcua_server.services.event_fields import field
from opcua_server.services.nodes import Event
from opcua_server.services.space import HAS_SUBTYPE, HIERARCHICAL, Space
from opcua_server.services.status import NULL, Fault, status
from opcua_server.services.tree import Wanted

OPERATOR = ua.FilterOperator
MAX_FIELDS = 500
"""Fields of a select clause: asyncua's client asks for all 125 of an alarm, and for those of several types at once."""
BASE_EVENT = ua.NodeId(ua.ObjectIds.BaseEventType)
TYPE_CLASSES = (ua.NodeClass.ObjectType, ua.NodeClass.VariableType)


@dataclass(frozen=True, slots=True)
class Selected:
    """A field a clause selects."""

    path: str
    """Browse path without namespaces; empty: the ConditionId (Part 9 5.5.2)."""
    plain: bool
    """The field itself, whole."""
    of: Callable[[Event], Any]
    """Variant of an event."""


class EventFilter:
    """A compiled EventFilter. `select` gives the fields, `passes` the verdict."""

    def __init__(self, space: Space, source: Any) -> None:
        """Raises Fault BadEventFilterInvalid, BadTooManyOperations; `source` is a ua.EventFilter."""
        clauses = source.SelectClauses or []
        elements = source.WhereClause.Elements or []
        if not clauses:
            raise Fault(ua.StatusCodes.BadEventFilterInvalid)
        if len(clauses) > MAX_FIELDS or len(elements) > MAX_ELEMENTS:
            raise Fault(ua.StatusCodes.BadTooManyOperations)
        self._space = space
        codes = [_operand_status(space, c) for c in clauses]
        self.select_results = [status(code) for code in codes]
        self._clauses = [
            (c.TypeDefinitionId, None if code else _selected(space, c)) for c, code in zip(clauses, codes, strict=True)
        ]
        self._by_type: dict[Any, tuple[Selected | None, ...]] = {}
        where = Where(space, elements, self._field_of)
        self.where_results = where.results
        self._where = where

    def _field_of(self, operand: Any) -> tuple[int, Callable[[Event], Any]]:
        code = _operand_status(self._space, operand)
        if code:
            return code, lambda _: NULL
        selected, kind = _selected(self._space, operand), operand.TypeDefinitionId
        return 0, lambda e: selected.of(e) if _applies(self._space, kind, e.event_type) else NULL

    @property
    def usable(self) -> bool:
        """A where clause that means something, and at least one field to select."""
        return self.where_valid and any(r.is_good() for r in self.select_results)

    @property
    def valid(self) -> bool:
        return all(r.is_good() for r in self.select_results) and self.where_valid

    @property
    def where_valid(self) -> bool:
        return all(r.StatusCode.is_good() for r in self.where_results)

    def result(self) -> Any:
        """EventFilterResult (7.22.3); empty lists where all is well."""
        return ua.EventFilterResult(
            SelectClauseResults=self.select_results,
            WhereClauseResult=ua.ContentFilterResult(ElementResults=self.where_results),
        )

    def passes(self, event: Event) -> bool:
        return self._where(event) is True

    def select(self, event: Event) -> list[Any]:
        """A Variant a clause; null where it was refused, or is for another type of event."""
        return [NULL if s is None else s.of(event) for s in self.selected(event.event_type)]

    def selected(self, event_type: Any) -> tuple[Selected | None, ...]:
        """What the clauses select of events of a type; None: nothing."""
        known = self._by_type.get(event_type)
        if known is None:
            known = self._by_type[event_type] = tuple(
                selected if _applies(self._space, kind, event_type) else None for kind, selected in self._clauses
            )
        return known


def _applies(space: Space, kind: Any, event_type: Any) -> bool:
    """Whether events of a type have what a clause names: of BaseEventType, whatever has that path (7.22.3)."""
    return bool(kind.is_null() or kind == BASE_EVENT or space.is_subtype(event_type, kind))


class BadEventFilter(Fault):
    """BadEventFilterInvalid, and what is wrong with which clause."""

    def __init__(self, filter_result: Any) -> None:
        super().__init__(ua.StatusCodes.BadEventFilterInvalid)
        self.filter_result = filter_result


def event_filter(space: Space, source: Any) -> EventFilter:
    """The filter of an event item. Raises Fault."""
    if source is None or (isinstance(source, ua.ExtensionObject) and source.TypeId.is_null()):
        raise Fault(ua.StatusCodes.BadEventFilterInvalid)
    if not isinstance(source, ua.EventFilter):
        raise Fault(ua.StatusCodes.BadFilterNotAllowed)
    compiled = EventFilter(space, source)
    if not compiled.usable:
        raise BadEventFilter(compiled.result())
    return compiled


def _operand_status(space: Space, operand: Any) -> int:
    """StatusCode of a SimpleAttributeOperand, of a select clause or in a where clause."""
    path = operand.BrowsePath or []
    kind = operand.TypeDefinitionId
    code: int = ua.StatusCodes.Good
    if not kind.is_null() and not space.is_subtype(kind, BASE_EVENT):
        code = ua.StatusCodes.BadTypeDefinitionInvalid
    elif operand.AttributeId not in (ua.AttributeIds.Value, ua.AttributeIds.NodeId):
        code = ua.StatusCodes.BadAttributeIdInvalid
    elif any(not name.Name for name in path) or (not path and operand.AttributeId == ua.AttributeIds.Value):
        code = ua.StatusCodes.BadBrowseNameInvalid
    elif operand.IndexRange:
        code = _range_status(operand.IndexRange)
    return code or _unknown_member(space, operand)


def _unknown_member(space: Space, operand: Any) -> int:
    """BadNodeIdUnknown for what is no member of its type; of BaseEventType, any event type's will do (7.22.3)."""
    path, kind = operand.BrowsePath or [], operand.TypeDefinitionId
    if path and (kind.is_null() or kind == BASE_EVENT):
        known = _member(space, event_members(space).get((path[0].NamespaceIndex, path[0].Name), ()), path[1:])
    else:
        known = _member(space, [kind], path)
    return 0 if known else int(ua.StatusCodes.BadNodeIdUnknown)


@lru_cache(maxsize=1)
def event_members(space: Space) -> Mapping[tuple[int, str], Sequence[Any]]:
    """Members of all event types by namespace and name."""
    found: dict[tuple[int, str], list[Any]] = {}
    waiting = [BASE_EVENT]
    while waiting:
        for r in space.references(waiting.pop(), Wanted(forward=True)):
            if r.ReferenceTypeId == HAS_SUBTYPE:
                waiting.append(r.NodeId)
            else:
                found.setdefault((r.BrowseName.NamespaceIndex, r.BrowseName.Name), []).append(r.NodeId)
    return found


def _member(space: Space, reached: Sequence[Any], path: Sequence[Any]) -> bool:
    """Follow a path from types or their members, through the types of members."""
    for name in path:
        reached = [child for at in reached if (child := _inherited(space, at, name)) is not None]
    return bool(reached)


def _inherited(space: Space, node_id: Any, name: Any) -> Any | None:
    own = () if space.node_class(node_id) in TYPE_CLASSES else (node_id,)
    kind = node_id if not own else space.type_definition(node_id)
    owners = (*own, *(space.supertypes(kind) if kind is not None else ()))
    children = (r for o in owners for r in space.references(o, Wanted(forward=True, kinds=space.of_type(HIERARCHICAL))))
    return next((r.NodeId for r in children if r.BrowseName == name), None)


def _range_status(text: str) -> int:
    try:
        parse_range(text)
    except Fault as fault:
        return fault.status
    return 0


def _selected(space: Space, operand: Any) -> Selected:
    names = [name.Name for name in operand.BrowsePath or []]
    path = "/".join(names)
    if operand.AttributeId == ua.AttributeIds.NodeId:
        return Selected(path, plain=not path, of=lambda e: _node(space, e, names))
    if operand.IndexRange:
        return Selected(path, plain=False, of=lambda e: _part(field(e, path), operand.IndexRange))
    return Selected(path, plain=True, of=lambda e: field(e, path))


def _node(space: Space, event: Event, names: Sequence[str]) -> Any:
    """NodeId of the condition, or of what it consists of, where that is in the address space (7.22.3)."""
    found = event.condition
    for name in names:
        found = space.component(found, name) if found is not None else None
    return NULL if found is None else ua.Variant(found, ua.VariantType.NodeId)


def _part(value: Any, index_range: str) -> Any:
    """A field that cannot be given as asked is its StatusCode instead (7.22.3)."""
    try:
        return take(value, index_range)
    except Fault as fault:
        return ua.Variant(status(fault.status), ua.VariantType.StatusCode)


# -- what an index can answer


@dataclass(frozen=True, slots=True)
class Bounds:
    """What passes a where clause has a severity and types within these."""

    severity: tuple[int, int]
    """Least and most."""
    types: tuple[Any, ...]
    """It is of each of these types."""
    exact: bool
    """And whatever has them passes."""


EVERYTHING = Bounds((0, 65_535), (), exact=True)
SEVERITY: Mapping[Any, Callable[[int], tuple[int, int]]] = {
    OPERATOR.Equals: lambda n: (n, n),
    OPERATOR.GreaterThan: lambda n: (n + 1, 65_535),
    OPERATOR.GreaterThanOrEqual: lambda n: (n, 65_535),
    OPERATOR.LessThan: lambda n: (0, n - 1),
    OPERATOR.LessThanOrEqual: lambda n: (0, n),
}
"""Comparison of Severity with a number -> least and most."""


def bounds(elements: Sequence[Any]) -> Bounds:
    """What a valid where clause demands in any case: of all its parts that And joins."""
    found = EVERYTHING
    waiting = [0] if elements else []
    while waiting:
        element = elements[waiting.pop()]
        operands = element.FilterOperands
        if element.FilterOperator == OPERATOR.And and all(isinstance(o, ua.ElementOperand) for o in operands):
            waiting += [o.Index for o in operands]
        else:
            found = _within(found, _bound(element.FilterOperator, operands))
    return found


def _within(a: Bounds, b: Bounds) -> Bounds:
    least, most = max(a.severity[0], b.severity[0]), min(a.severity[1], b.severity[1])
    return Bounds((least, most), a.types + b.types, a.exact and b.exact)


def _bound(operator: Any, operands: Sequence[Any]) -> Bounds:
    """What one element demands; nothing where the index does not know."""
    literals = [o.Value.Value for o in operands if isinstance(o, ua.LiteralOperand)]
    if operator == OPERATOR.OfType and len(literals) == 1 and isinstance(literals[0], ua.NodeId):
        return Bounds(EVERYTHING.severity, (literals[0],), exact=True)
    limits = SEVERITY.get(operator)
    number = literals[0] if len(literals) == 1 else None
    if limits is not None and _is_severity(operands[0]) and type(number) is int:
        return Bounds(limits(number), (), exact=True)
    return Bounds(EVERYTHING.severity, (), exact=False)


def _is_severity(operand: Any) -> bool:
    """The field every event has, for whatever type it is asked."""
    return (
        isinstance(operand, ua.SimpleAttributeOperand)
        and [name.Name for name in operand.BrowsePath or []] == ["Severity"]
        and operand.TypeDefinitionId == BASE_EVENT
        and operand.AttributeId == ua.AttributeIds.Value
        and not operand.IndexRange
    )
