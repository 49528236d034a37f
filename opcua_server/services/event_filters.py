"""Event filters (Part 4 7.22.3 and 7.7): which events an item gets, and which fields of them.

A where clause is compiled once into one function an element, with the three values of 7.7.3: True, False and None
(unknown). For an event each element is evaluated once, last to first, however often others refer to it. An operand that
cannot be evaluated makes its element unknown, so no event is ever an exception.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from asyncua import ua

from opcua_server.services.attributes import parse_range, take
from opcua_server.services.event_fields import field
from opcua_server.services.nodes import Event
from opcua_server.services.space import HAS_SUBTYPE, Space
from opcua_server.services.status import NULL, Fault, status
from opcua_server.services.tree import Wanted

OPERATOR = ua.FilterOperator
BASE_EVENT = ua.NodeId(ua.ObjectIds.BaseEventType)
TYPE_CLASSES = (ua.NodeClass.ObjectType, ua.NodeClass.VariableType)
MAX_ELEMENTS = 100
"""Elements of a where clause and fields of a select clause: a filter is evaluated for every event."""

Frame = tuple[Event, list[Any]]
"""An event and the values of the elements evaluated so far, by index."""
Term = Callable[[Frame], Any]


class EventFilter:
    """A compiled EventFilter. `select` gives the fields, `passes` the verdict."""

    def __init__(self, space: Space, source: Any) -> None:
        """Raises Fault BadEventFilterInvalid, BadTooManyOperations; `source` is a ua.EventFilter."""
        clauses = source.SelectClauses or []
        elements = source.WhereClause.Elements or []
        if not clauses:
            raise Fault(ua.StatusCodes.BadEventFilterInvalid)
        if len(clauses) > MAX_ELEMENTS or len(elements) > MAX_ELEMENTS:
            raise Fault(ua.StatusCodes.BadTooManyOperations)
        self._space = space
        self.select_results = [status(_select_status(space, c) or _unknown_member(space, c)) for c in clauses]
        self._select = [_selector(c) for c in clauses]
        where = Where(space, elements)
        self.where_results = where.results
        self._where = where

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
        return [field_of(event) for field_of in self._select]


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


def _select_status(space: Space, operand: Any) -> int:
    path = operand.BrowsePath or []
    kind = operand.TypeDefinitionId
    code: int = ua.StatusCodes.Good
    if not kind.is_null() and kind not in space:
        code = ua.StatusCodes.BadTypeDefinitionInvalid
    elif operand.AttributeId not in (ua.AttributeIds.Value, ua.AttributeIds.NodeId):
        code = ua.StatusCodes.BadAttributeIdInvalid
    elif any(not name.Name for name in path) or (not path and operand.AttributeId == ua.AttributeIds.Value):
        code = ua.StatusCodes.BadBrowseNameInvalid
    elif operand.IndexRange:
        code = _range_status(operand.IndexRange)
    return code


def _unknown_member(space: Space, operand: Any) -> int:
    """BadNodeIdUnknown for what is no member of its type; of BaseEventType, any event type's will do (7.22.3)."""
    path, kind = operand.BrowsePath or [], operand.TypeDefinitionId
    if kind.is_null() or kind == BASE_EVENT:
        known = not path or path[0].Name in _event_members(space)
    else:
        known = _member(space, kind, path)
    return 0 if known else int(ua.StatusCodes.BadNodeIdUnknown)


@lru_cache(maxsize=1)
def _event_members(space: Space) -> frozenset[str]:
    """Browse names of the members of all event types."""
    names = set()
    waiting = [BASE_EVENT]
    while waiting:
        for r in space.references(waiting.pop(), Wanted(forward=True)):
            if r.ReferenceTypeId == HAS_SUBTYPE:
                waiting.append(r.NodeId)
            else:
                names.add(r.BrowseName.Name)
    return frozenset(names)


def _member(space: Space, kind: Any, path: list[Any]) -> bool:
    """Follow a path from a type, through the types of its members."""
    reached = [kind]
    for name in path:
        reached = [child for at in reached if (child := _inherited(space, at, name.Name)) is not None]
    return bool(reached)


def _inherited(space: Space, node_id: Any, name: str) -> Any | None:
    own = () if space.node_class(node_id) in TYPE_CLASSES else (node_id,)
    kind = node_id if not own else space.type_definition(node_id)
    owners = (*own, *(space.supertypes(kind) if kind is not None else ()))
    return next((child for o in owners if (child := space.component(o, name)) is not None), None)


def _range_status(text: str) -> int:
    try:
        parse_range(text)
    except Fault as fault:
        return fault.status
    return 0


def _selector(operand: Any) -> Callable[[Event], Any]:
    path = "/".join(name.Name or "" for name in operand.BrowsePath or [])
    if not path and operand.AttributeId == ua.AttributeIds.NodeId:  # ConditionId (Part 9 5.5.2)
        return lambda e: ua.Variant(e.condition, ua.VariantType.NodeId) if e.condition is not None else NULL
    if operand.IndexRange:
        return lambda e: _part(field(e, path), operand.IndexRange)
    return lambda e: field(e, path)


def _part(value: Any, index_range: str) -> Any:
    """A field that cannot be given as asked is its StatusCode instead (7.22.3)."""
    try:
        return take(value, index_range)
    except Fault as fault:
        return ua.Variant(status(fault.status), ua.VariantType.StatusCode)


class Where:
    """A where clause as a function of the event; an empty one lets everything pass."""

    def __init__(self, space: Space, elements: list[Any]) -> None:
        self._space = space
        self._elements = elements
        self.results: list[Any] = []
        """ContentFilterElementResult of each element."""
        terms: list[Term | None] = [None] * len(elements)
        # Operands refer to later elements only (7.7.1), so compiling from the end needs no recursion and finds loops.
        for index in reversed(range(len(elements))):
            result, terms[index] = self._element(index, terms)
            self.results.insert(0, result)
        self._terms = terms

    def __call__(self, event: Event) -> Any:
        frame: Frame = (event, [None] * len(self._terms))
        for index in reversed(range(len(self._terms))):
            term = self._terms[index]
            frame[1][index] = term(frame) if term is not None else None
        return frame[1][0] if self._terms else True

    def _element(self, index: int, terms: list[Term | None]) -> tuple[Any, Term | None]:
        element = self._elements[index]
        operands = element.FilterOperands or []
        build, counts = OPERATORS.get(element.FilterOperator, (None, range(0)))
        result = ua.ContentFilterElementResult()
        if build is None:
            result.StatusCode = ua.StatusCode(ua.StatusCodes.BadFilterOperatorUnsupported)
            return result, None
        if len(operands) not in counts:
            result.StatusCode = ua.StatusCode(ua.StatusCodes.BadFilterOperandCountMismatch)
            return result, None
        compiled = []
        for operand in operands:
            code, term = self._operand(operand, index, terms)
            result.OperandStatusCodes.append(status(code))
            compiled.append(term)
        if any(not c.is_good() for c in result.OperandStatusCodes):
            result.StatusCode = ua.StatusCode(ua.StatusCodes.BadFilterOperandInvalid)
            return result, None
        return result, build(self._space, *compiled)

    def _operand(self, operand: Any, index: int, terms: list[Term | None]) -> tuple[int, Term]:
        match operand:
            case ua.LiteralOperand():
                value = operand.Value.Value if operand.Value is not None else None
                return 0, lambda _: value
            case ua.ElementOperand():
                if not index < operand.Index < len(terms):
                    return ua.StatusCodes.BadFilterOperandInvalid, _unknown
                if terms[operand.Index] is None:
                    return ua.StatusCodes.BadFilterElementInvalid, _unknown
                return 0, lambda f, index=operand.Index: f[1][index]
            case ua.SimpleAttributeOperand():
                code = _select_status(self._space, operand)
                select = _selector(operand)
                return code, lambda f: select(f[0]).Value
            case _:
                return ua.StatusCodes.BadFilterOperandInvalid, _unknown


def _unknown(_: Frame) -> None:
    return None


# -- operators: (space, operands...) -> term


def _comparison(holds: Callable[[Any, Any], bool]) -> Callable[..., Term]:
    def build(_: Space, left: Term, right: Term) -> Term:
        return lambda f: _compare(left(f), right(f), holds)

    return build


def _compare(left: Any, right: Any, holds: Callable[[Any, Any], bool]) -> bool | None:
    left, right = _comparable(left), _comparable(right)
    if left is None or right is None:
        return None
    number = (int, float)
    if type(left) is not type(right) and not (isinstance(left, number) and isinstance(right, number)):
        return None
    try:
        return bool(holds(left, right))
    except TypeError:  # no order between such values
        return None


def _comparable(value: Any) -> Any:
    if isinstance(value, ua.LocalizedText):
        return value.Text
    if isinstance(value, ua.QualifiedName):
        return value.Name
    if isinstance(value, ua.NodeId):
        return (value.NamespaceIndex, str(value.Identifier))
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    return value


def _and(_: Space, left: Term, right: Term) -> Term:
    def term(f: Frame) -> bool | None:
        a, b = _truth(left(f)), _truth(right(f))
        if a is False or b is False:
            return False
        return True if a and b else None

    return term


def _or(_: Space, left: Term, right: Term) -> Term:
    def term(f: Frame) -> bool | None:
        a, b = _truth(left(f)), _truth(right(f))
        if a or b:
            return True
        return None if a is None or b is None else False

    return term


def _not(_: Space, operand: Term) -> Term:
    def term(f: Frame) -> bool | None:
        value = _truth(operand(f))
        return None if value is None else not value

    return term


def _truth(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _is_null(_: Space, operand: Term) -> Term:
    return lambda f: operand(f) is None


def _between(space: Space, value: Term, low: Term, high: Term) -> Term:
    at_least, at_most = _comparison(lambda a, b: a >= b), _comparison(lambda a, b: a <= b)
    return _and(space, at_least(space, value, low), at_most(space, value, high))


def _in_list(space: Space, value: Term, *candidates: Term) -> Term:
    equals = _comparison(lambda a, b: a == b)
    term = equals(space, value, candidates[0])
    for candidate in candidates[1:]:
        term = _or(space, term, equals(space, value, candidate))
    return term


def _like(_: Space, value: Term, pattern: Term) -> Term:
    def term(f: Frame) -> bool | None:
        text, wanted = _comparable(value(f)), _comparable(pattern(f))
        if not isinstance(text, str) or not isinstance(wanted, str):
            return None
        return like(text, wanted)

    return term


def like(text: str, pattern: str) -> bool:
    """Like of Table 119: % any characters, _ one, [abc] one of, [^abc] none of, \\ escapes. Linear in both lengths."""
    tokens = re.findall(r"\\.|\[\^?[^\]]*\]|.", pattern, re.DOTALL)
    reached = {0}  # positions in the text the tokens so far can end at
    for token in tokens:
        if token == "%":  # noqa: S105 - a wildcard
            reached = set(range(min(reached), len(text) + 1))
        else:
            reached = {i + 1 for i in reached if i < len(text) and _one(text[i], token)}
        if not reached:
            return False
    return len(text) in reached


def _one(character: str, token: str) -> bool:
    if token == "_":  # noqa: S105 - a wildcard
        return True
    if len(token) > 1 and token[0] == "[":
        negated = token[1] == "^"
        return (character in _members(token[1 + negated : -1])) != negated
    return character == token[-1]


def _members(inside: str) -> str:
    """`a-e` is a range of characters."""

    def spread(match: re.Match[str]) -> str:
        first, last = ord(match[1]), ord(match[2])
        return "".join(map(chr, range(first, min(last, first + 256) + 1)))

    return re.sub(r"(.)-(.)", spread, inside, flags=re.DOTALL)


def _of_type(space: Space, kind: Term) -> Term:
    def term(f: Frame) -> bool | None:
        wanted = kind(f)
        return space.is_subtype(f[0].event_type, wanted) if isinstance(wanted, ua.NodeId) else None

    return term


def _bitwise(combine: Callable[[int, int], int]) -> Callable[..., Term]:
    def build(_: Space, left: Term, right: Term) -> Term:
        def term(f: Frame) -> int | None:
            a, b = left(f), right(f)
            whole = all(isinstance(v, int) and not isinstance(v, bool) for v in (a, b))
            return combine(a, b) if whole else None

        return term

    return build


def _cast(space: Space, value: Term, kind: Term) -> Term:
    def term(f: Frame) -> Any:
        wanted, given = kind(f), _comparable(value(f))
        if not isinstance(wanted, ua.NodeId) or given is None:
            return None
        convert = CASTS.get(space.built_in(wanted))
        try:
            return convert(given) if convert is not None else None
        except (TypeError, ValueError, KeyError, OverflowError):  # no such value of that type: null (7.7.3)
            return None

    return term


def _to_boolean(value: Any) -> bool:
    if isinstance(value, str):
        return {"true": True, "1": True, "false": False, "0": False}[value.lower()]
    return bool(value)


def _to_string(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


CASTS: Mapping[int, Callable[[Any], Any]] = {
    ua.VariantType.Boolean.value: _to_boolean,
    **dict.fromkeys(range(2, 10), int),
    ua.VariantType.Float.value: float,
    ua.VariantType.Double.value: float,
    ua.VariantType.String.value: _to_string,
}
"""Built-in type -> conversion to it; what has none casts to null."""

OPERATORS: Mapping[Any, tuple[Callable[..., Term], range]] = {
    OPERATOR.Equals: (_comparison(lambda a, b: a == b), range(2, 3)),
    OPERATOR.GreaterThan: (_comparison(lambda a, b: a > b), range(2, 3)),
    OPERATOR.LessThan: (_comparison(lambda a, b: a < b), range(2, 3)),
    OPERATOR.GreaterThanOrEqual: (_comparison(lambda a, b: a >= b), range(2, 3)),
    OPERATOR.LessThanOrEqual: (_comparison(lambda a, b: a <= b), range(2, 3)),
    OPERATOR.IsNull: (_is_null, range(1, 2)),
    OPERATOR.Like: (_like, range(2, 3)),
    OPERATOR.Not: (_not, range(1, 2)),
    OPERATOR.Between: (_between, range(3, 4)),
    OPERATOR.InList: (_in_list, range(2, MAX_ELEMENTS)),
    OPERATOR.And: (_and, range(2, 3)),
    OPERATOR.Or: (_or, range(2, 3)),
    OPERATOR.OfType: (_of_type, range(1, 2)),
    OPERATOR.Cast: (_cast, range(2, 3)),
    OPERATOR.BitwiseAnd: (_bitwise(lambda a, b: a & b), range(2, 3)),
    OPERATOR.BitwiseOr: (_bitwise(lambda a, b: a | b), range(2, 3)),
}
"""Operator -> (term of its operands, how many it takes). InView and RelatedTo are not for events (7.22.3)."""
