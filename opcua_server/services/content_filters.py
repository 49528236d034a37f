"""Content filters (Part 4 7.7): a where clause compiled once into a function of the event.

Each element is a term with the three values of 7.7.3: True, False and null. For an event each element is evaluated
once, last to first, however often others refer to it. What cannot be evaluated is null or False as the operator says,
so no event is ever an exception.
"""

import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from asyncua import ua

from opcua_server.services.conversions import (
    BOOLEAN,
    INTEGERS,
    LIMITS,
    NODE_ID,
    RANKS,
    STRING,
    Impossible,
    Value,
    cast,
    common,
    implicitly,
    value_of,
)
from opcua_server.services.nodes import Event
from opcua_server.services.space import Space
from opcua_server.services.status import status
from opcua_server.services.tree import Wanted
from opcua_server.services.view import Within

OPERATOR = ua.FilterOperator
T = ua.VariantType
TRUE, FALSE = (BOOLEAN, True), (BOOLEAN, False)
MAX_ELEMENTS = 100
"""Elements of a where clause, which is evaluated for every event."""
MAX_LISTED = 1000
"""Operands of InList: the client of asyncua lists every subtype of the event types it asks for."""
MAX_RELATED = 1000
"""Nodes RelatedTo follows references of for one event."""

Frame = tuple[Event, list[Value]]
"""An event and the values of the elements evaluated so far, by index."""
Term = Callable[[Frame], Value]


@dataclass(frozen=True, slots=True)
class Constant:
    """The term of a literal."""

    value: Value

    def __call__(self, _: Frame) -> Value:
        return self.value


class Where:
    """A where clause as a function of the event; an empty one lets everything pass.

    `field_of(operand)` gives a SimpleAttributeOperand's StatusCode and what it is of an event, a Variant.
    """

    def __init__(
        self,
        space: Space,
        elements: Sequence[Any],
        field_of: Callable[[Any], tuple[int, Callable[[Event], Any]]],
    ) -> None:
        self._space = space
        self._elements = elements
        self._field_of = field_of
        self.results: list[Any] = []
        """ContentFilterElementResult of each element."""
        self._relations: dict[int, Relation] = {}
        terms: list[Term | None] = [None] * len(elements)
        # Operands refer to later elements only (7.7.1), so compiling from the end needs no recursion and finds loops.
        for index in reversed(range(len(elements))):
            result, terms[index] = self._element(index, terms)
            self.results.insert(0, result)
        self._terms = terms

    def __call__(self, event: Event) -> bool | None:
        if not self._terms:
            return True
        frame: Frame = (event, [None] * len(self._terms))
        for index in reversed(range(len(self._terms))):
            term = self._terms[index]
            frame[1][index] = term(frame) if term is not None else None
        return truth(frame[1][0])

    def _element(self, index: int, terms: list[Term | None]) -> tuple[Any, Term | None]:
        element = self._elements[index]
        operands = element.FilterOperands or []
        result = ua.ContentFilterElementResult()
        if element.FilterOperator not in OPERATORS:
            result.StatusCode = ua.StatusCode(ua.StatusCodes.BadFilterOperatorInvalid)
            return result, None
        build, counts = OPERATORS[element.FilterOperator]
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
        if build is None:
            nested = [self._relations.get(o.Index) if isinstance(o, ua.ElementOperand) else None for o in operands[:2]]
            self._relations[index] = relation = Relation(self._space, compiled, nested)
            return result, relation.holds
        return result, build(self._space, *compiled)

    def _operand(self, operand: Any, index: int, terms: list[Term | None]) -> tuple[int, Term]:
        match operand:
            case ua.LiteralOperand():
                if operand.Value is None or operand.Value.VariantType == T.Null:
                    return ua.StatusCodes.BadFilterLiteralInvalid, _null
                return 0, Constant(value_of(operand.Value))
            case ua.ElementOperand():
                if not index < operand.Index < len(terms):
                    return ua.StatusCodes.BadFilterOperandInvalid, _null
                if terms[operand.Index] is None:
                    return ua.StatusCodes.BadFilterElementInvalid, _null
                return 0, lambda f, index=operand.Index: f[1][index]
            case ua.SimpleAttributeOperand():
                code, field_of = self._field_of(operand)
                return code, lambda f: value_of(field_of(f[0]))
            case _:
                return ua.StatusCodes.BadFilterOperandInvalid, _null


def _null(_: Frame) -> None:
    return None


def truth(value: Value) -> bool | None:
    """The value as a Boolean, None for null and what is none."""
    if value is None:
        return None
    try:
        return bool(implicitly(value, BOOLEAN)[1])
    except Impossible:
        return None


def _known(answer: bool | None) -> Value:
    return None if answer is None else (BOOLEAN, answer)


# -- operators: (space, operands...) -> term


def _comparison(holds: Callable[[Any, Any], bool]) -> Callable[..., Term]:
    def build(_: Space, left: Term, right: Term) -> Term:
        return lambda f: _known(compare(left(f), right(f), holds))

    return build


def compare(left: Value, right: Value, holds: Callable[[Any, Any], bool]) -> bool | None:
    """False for values without a common type or order; null with a null."""
    if left is None or right is None:
        return None
    try:
        return bool(holds(*common(left, right)))
    except (Impossible, TypeError):
        return False


def _and(_: Space, left: Term, right: Term) -> Term:
    def term(f: Frame) -> Value:
        a, b = truth(left(f)), truth(right(f))
        if a is False or b is False:
            return FALSE
        return TRUE if a and b else None

    return term


def _or(_: Space, left: Term, right: Term) -> Term:
    def term(f: Frame) -> Value:
        a, b = truth(left(f)), truth(right(f))
        if a or b:
            return TRUE
        return None if a is None or b is None else FALSE

    return term


def _not(_: Space, operand: Term) -> Term:
    def term(f: Frame) -> Value:
        value = truth(operand(f))
        return None if value is None else (BOOLEAN, not value)

    return term


def _is_null(_: Space, operand: Term) -> Term:
    return lambda f: (BOOLEAN, operand(f) is None)


def _between(space: Space, value: Term, low: Term, high: Term) -> Term:
    return _and(space, _comparison(operator.ge)(space, value, low), _comparison(operator.le)(space, value, high))


def _in_list(_: Space, value: Term, *candidates: Term) -> Term:
    nodes = frozenset(c.value for c in candidates if _is_node(c))
    others = tuple(c for c in candidates if not _is_node(c))

    def term(f: Frame) -> Value:
        wanted, asked = value(f), candidates
        if wanted is not None and wanted[0] == NODE_ID:
            if wanted in nodes:
                return TRUE
            asked = others
        answers = [compare(wanted, candidate(f), operator.eq) for candidate in asked]
        return TRUE if True in answers else _known(None if None in answers else False)

    return term


def _is_node(term: Term) -> TypeGuard["Constant"]:
    return isinstance(term, Constant) and term.value is not None and term.value[0] == NODE_ID


def _like(_: Space, value: Term, pattern: Term) -> Term:
    def term(f: Frame) -> Value:
        try:
            return BOOLEAN, like(_text(value(f)), _text(pattern(f)))
        except Impossible:
            return FALSE

    return term


def _text(value: Value) -> str:
    """Raises Impossible for what is no String nor becomes one by itself."""
    if value is None:
        raise Impossible
    return str(implicitly(value, STRING)[1])


def like(text: str, pattern: str) -> bool:
    """Like of Table 123: % any characters, _ one, [abc] one of, [^abc] none of, \\ escapes. Linear in both lengths."""
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


def _node(value: Value, space: Space, *classes: int) -> Any | None:
    """The NodeId of a value when there is such a node, of one of these classes."""
    if value is None or value[0] not in (NODE_ID, T.ExpandedNodeId.value):
        return None
    return value[1] if space.node_class(value[1]) in classes else None


TYPES = (int(ua.NodeClass.ObjectType), int(ua.NodeClass.VariableType))


def _of_type(space: Space, kind: Term) -> Term:
    def term(f: Frame) -> Value:
        wanted = _node(kind(f), space, *TYPES)
        return BOOLEAN, wanted is not None and space.is_subtype(f[0].event_type, wanted)

    return term


def _in_view(space: Space, view: Term) -> Term:
    """Whether the view has the event's source: of an event that is the node of 7.7.3."""

    def term(f: Frame) -> Value:
        wanted = _node(view(f), space, int(ua.NodeClass.View))
        return BOOLEAN, wanted is not None and Within(space, wanted)(f[0].source)

    return term


def _bitwise(combine: Callable[[int, int], int]) -> Callable[..., Term]:
    def build(_: Space, left: Term, right: Term) -> Term:
        def term(f: Frame) -> Value:
            a, b = left(f), right(f)
            if a is None or b is None or a[0] not in INTEGERS or b[0] not in INTEGERS:
                return None
            kind = min(a[0], b[0], key=lambda k: (-LIMITS[k][1].bit_length() // 8, RANKS[k]))
            return kind, _wrapped(combine(a[1], b[1]), *LIMITS[kind])

        return term

    return build


def _wrapped(number: int, low: int, high: int) -> int:
    """The same bits in the range of a type."""
    return (number - low) % (high - low + 1) + low


def _cast(space: Space, value: Term, kind: Term) -> Term:
    def term(f: Frame) -> Value:
        wanted, given = _node(kind(f), space, int(ua.NodeClass.DataType)), value(f)
        if wanted is None or given is None:
            return None
        try:
            return cast(given, space.built_in(wanted))
        except Impossible:
            return None

    return term


@dataclass(frozen=True, slots=True)
class Relation:
    """RelatedTo, of the event's source: type, type at the other end, reference, hops, subtypes of types and reference.

    In place of a type may stand another RelatedTo, which the node has to satisfy.
    """

    space: Space
    operands: Sequence[Term]
    nested: Sequence["Relation | None"]
    """Of the first two operands."""

    def holds(self, f: Frame) -> Value:
        return BOOLEAN, self._of(f, f[0].source)

    def _of(self, f: Frame, node: Any) -> bool:
        kind = _node(self.operands[2](f), self.space, int(ua.NodeClass.ReferenceType))
        hops = self._hops(f)
        if kind is None or hops is None or not self._is(f, 0, node):
            return False
        below = truth(self.operands[5](f)) is True
        return any(self._is(f, 1, end) for end in self._ends(node, self.space.of_type(kind, below), hops))

    def _hops(self, f: Frame) -> int | None:
        given = self.operands[3](f)
        try:
            return None if given is None else int(implicitly_unsigned(given))
        except Impossible:
            return None

    def _is(self, f: Frame, which: int, node: Any) -> bool:
        nested = self.nested[which]
        if nested is not None:
            return nested._of(f, node)  # noqa: SLF001 - its own kind
        wanted = _node(self.operands[which](f), self.space, *TYPES)
        kind = self.space.type_definition(node)
        if wanted is None or kind is None:
            return False
        return self.space.is_subtype(kind, wanted) if truth(self.operands[4](f)) is True else kind == wanted

    def _ends(self, node: Any, kinds: Callable[[Any], bool], hops: int) -> Iterable[Any]:
        """Nodes after exactly so many references, or after any number when it is 0."""
        wanted, level, seen = Wanted(forward=True, kinds=kinds), [node], {node}
        depth = 0
        while level and depth != (hops or -1) and len(seen) < MAX_RELATED:
            reached = [r.NodeId for at in level for r in self.space.references(at, wanted)]
            level = [n for n in dict.fromkeys(reached) if n not in seen]
            seen.update(level)
            depth += 1
        return seen - {node} if hops == 0 else (level if depth == hops else ())


def implicitly_unsigned(value: tuple[int, Any]) -> int:
    """As a UInt32, from any integer that is one. Raises Impossible."""
    if value[0] not in INTEGERS or not 0 <= value[1] < 2**32:
        raise Impossible
    return int(value[1])


OPERATORS: Mapping[Any, tuple[Callable[..., Term] | None, range]] = {
    OPERATOR.Equals: (_comparison(operator.eq), range(2, 3)),
    OPERATOR.GreaterThan: (_comparison(operator.gt), range(2, 3)),
    OPERATOR.LessThan: (_comparison(operator.lt), range(2, 3)),
    OPERATOR.GreaterThanOrEqual: (_comparison(operator.ge), range(2, 3)),
    OPERATOR.LessThanOrEqual: (_comparison(operator.le), range(2, 3)),
    OPERATOR.IsNull: (_is_null, range(1, 2)),
    OPERATOR.Like: (_like, range(2, 3)),
    OPERATOR.Not: (_not, range(1, 2)),
    OPERATOR.Between: (_between, range(3, 4)),
    OPERATOR.InList: (_in_list, range(2, MAX_LISTED + 2)),
    OPERATOR.And: (_and, range(2, 3)),
    OPERATOR.Or: (_or, range(2, 3)),
    OPERATOR.Cast: (_cast, range(2, 3)),
    OPERATOR.InView: (_in_view, range(1, 2)),
    OPERATOR.OfType: (_of_type, range(1, 2)),
    OPERATOR.RelatedTo: (None, range(6, 7)),
    OPERATOR.BitwiseAnd: (_bitwise(operator.and_), range(2, 3)),
    OPERATOR.BitwiseOr: (_bitwise(operator.or_), range(2, 3)),
}
"""Operator -> (term of its operands, how many it takes); without one it is a `Relation`."""
