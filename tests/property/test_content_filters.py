"""Where clauses against an evaluator that is slow and obviously right (Part 4 7.7.3)."""

from collections.abc import Iterator
from typing import Any

import pytest
from asyncua import Server, ua
from asyncua.server.standard_address_space import standard_address_space
from hypothesis import given
from hypothesis import strategies as st

from opcua_server.services.event_filters import EventFilter, bounds
from opcua_server.services.space import Space
from tests.conformance.opcua import event

OP, T = ua.FilterOperator, ua.VariantType
TYPES = (
    ua.ObjectIds.BaseEventType,
    ua.ObjectIds.SystemEventType,
    ua.ObjectIds.DeviceFailureEventType,
    ua.ObjectIds.ConditionType,
    ua.ObjectIds.ExclusiveLevelAlarmType,
)
SUPERTYPES = {
    ua.ObjectIds.BaseEventType: {ua.ObjectIds.BaseEventType},
    ua.ObjectIds.SystemEventType: {ua.ObjectIds.BaseEventType, ua.ObjectIds.SystemEventType},
    ua.ObjectIds.DeviceFailureEventType: {*TYPES[:3]},
    ua.ObjectIds.ExclusiveLevelAlarmType: {TYPES[0], *TYPES[3:]},
}
INTEGERS = {T.Byte: (0, 255), T.Int16: (-32768, 32767), T.UInt16: (0, 65535), T.Int32: (-(2**31), 2**31 - 1)}
BETTER = (T.Double, T.Int32, T.Int16, T.UInt16, T.Byte, T.Boolean, T.String)
"""By rank (7.7.3 Table 126)."""


@pytest.fixture(scope="module")
def space() -> Iterator[Space]:
    server = Server()
    standard_address_space.fill_address_space(server.iserver.node_mgt_service)
    yield Space(server.iserver.aspace)
    server.iserver.method_service.stop()


# A tree: ("lit", type, value), ("field", name), (operator, *trees)

literals = st.one_of(
    st.tuples(st.just("lit"), st.just(T.Boolean), st.booleans()),
    st.tuples(st.just("lit"), st.sampled_from(list(INTEGERS)), st.integers(0, 255)),
    st.tuples(st.just("lit"), st.just(T.Int16), st.integers(-5, 5)),
    st.tuples(st.just("lit"), st.just(T.Double), st.sampled_from([0.0, 1.0, 1.5, 300.0, 500.0])),
    st.tuples(st.just("lit"), st.just(T.String), st.sampled_from(["", "1", "500", "true", "Part", "x"])),
)
leaves = st.one_of(literals, st.tuples(st.just("field"), st.sampled_from(["Severity", "SourceName", "Comment"])))


def grown(trees: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    two = st.sampled_from(
        [
            OP.Equals,
            OP.GreaterThan,
            OP.LessThan,
            OP.GreaterThanOrEqual,
            OP.LessThanOrEqual,
            OP.And,
            OP.Or,
            OP.BitwiseAnd,
            OP.BitwiseOr,
        ]
    )
    return st.one_of(
        st.tuples(two, trees, trees),
        st.tuples(st.sampled_from([OP.Not, OP.IsNull]), trees),
        st.tuples(st.just(OP.Between), trees, trees, trees),
        st.tuples(st.just(OP.InList), trees, trees, trees),
        st.tuples(st.just(OP.OfType), st.sampled_from(TYPES)),
    )


def operators() -> st.SearchStrategy[Any]:
    return st.recursive(grown(leaves), lambda trees: grown(st.one_of(trees, leaves)), max_leaves=12)


def value(tree: Any, fields: dict[str, Any], kind: int) -> Any:
    """(type, value), or None for null."""
    head, *rest = tree
    if head == "lit":
        return tuple(rest)
    if head == "field":
        return fields.get(rest[0])
    if head == OP.OfType:
        return T.Boolean, rest[0] in SUPERTYPES[kind]
    operands = [value(r, fields, kind) for r in rest]
    if head == OP.IsNull:
        return T.Boolean, operands[0] is None
    if head in (OP.BitwiseAnd, OP.BitwiseOr):
        return bits(head, *operands)
    answer = verdict(head, operands)
    return None if answer is None else (T.Boolean, answer)


def verdict(head: Any, operands: list[Any]) -> bool | None:
    first, *others = operands
    if head == OP.Not:
        return None if boolean(first) is None else not boolean(first)
    if head == OP.And:
        return both(boolean(first), boolean(others[0]))
    if head == OP.Or:
        return either(boolean(first), boolean(others[0]))
    if head == OP.Between:
        return both(compared(OP.GreaterThanOrEqual, first, others[0]), compared(OP.LessThanOrEqual, first, others[1]))
    if head == OP.InList:
        return either(*(compared(OP.Equals, first, other) for other in others))
    return compared(head, first, others[0])


def both(a: bool | None, b: bool | None) -> bool | None:
    """The table of And."""
    table = {(True, True): True, (True, None): None, (None, True): None, (None, None): None}
    return table.get((a, b), False)


def either(a: bool | None, b: bool | None) -> bool | None:
    """The table of Or."""
    table = {(False, False): False, (False, None): None, (None, False): None, (None, None): None}
    return table.get((a, b), True)


def boolean(given: Any) -> bool | None:
    if given is None:
        return None
    kind, content = given
    if kind == T.String:
        return {"true": True, "1": True, "0": False, "false": False}.get(content)
    return content if kind == T.Boolean else None


def compared(head: Any, left: Any, right: Any) -> bool | None:
    if left is None or right is None:
        return None
    target = min(left[0], right[0], key=BETTER.index)
    a, b = become(left, target), become(right, target)
    if a is None or b is None:
        return False
    if head == OP.Equals:
        return a == b
    order = {OP.GreaterThan: a > b, OP.LessThan: a < b, OP.GreaterThanOrEqual: a >= b, OP.LessThanOrEqual: a <= b}
    return order[head]


def become(given: Any, target: Any) -> Any:
    kind, content = given
    if kind == target:
        return content
    if target == T.Boolean:
        return boolean(given)
    try:
        number = float(content) if target == T.Double else int(content)
    except ValueError:
        return None
    low, high = INTEGERS.get(target, (float("-inf"), float("inf")))
    return number if low <= number <= high else None


def bits(head: Any, left: Any, right: Any) -> Any:
    if left is None or right is None or left[0] not in INTEGERS or right[0] not in INTEGERS:
        return None
    size = {T.Byte: 8, T.Int16: 16, T.UInt16: 16, T.Int32: 32}
    kind = min(left[0], right[0], key=lambda k: (-size[k], BETTER.index(k)))
    both = left[1] & right[1] if head == OP.BitwiseAnd else left[1] | right[1]
    raw = both % 2 ** size[kind]
    high = INTEGERS[kind][1]
    return kind, raw if raw <= high else raw - 2 ** size[kind]


def flattened(tree: Any) -> list[ua.ContentFilterElement]:
    """Elements of a tree, each before those it refers to."""
    elements: list[ua.ContentFilterElement] = []

    def add(node: Any) -> int:
        element = ua.ContentFilterElement(FilterOperator=node[0])
        elements.append(element)
        index = len(elements) - 1
        element.FilterOperands = [operand(child) for child in node[1:]]
        return index

    def operand(node: Any) -> Any:
        if isinstance(node, int):
            return ua.LiteralOperand(Value=ua.Variant(ua.NodeId(node), T.NodeId))
        if node[0] == "lit":
            return ua.LiteralOperand(Value=ua.Variant(node[2], node[1]))
        if node[0] == "field":
            return path(node[1])
        return ua.ElementOperand(Index=add(node))

    add(tree)
    return elements


def path(name: str) -> ua.SimpleAttributeOperand:
    return ua.SimpleAttributeOperand(
        TypeDefinitionId=ua.NodeId(ua.ObjectIds.BaseEventType),
        BrowsePath=[ua.QualifiedName(name)],
        AttributeId=ua.AttributeIds.Value,
    )


def made(space: Space, elements: list[Any]) -> EventFilter:
    source = ua.EventFilter(SelectClauses=[path("Severity")], WhereClause=ua.ContentFilter(Elements=elements))
    return EventFilter(space, source)


kinds = st.sampled_from([k for k in TYPES if k in SUPERTYPES])


@given(tree=operators(), severity=st.sampled_from([1, 255, 300, 500]), kind=kinds)
def test_a_where_clause_passes_what_the_slow_evaluator_passes(
    space: Space, tree: Any, severity: int, kind: int
) -> None:
    elements = flattened(tree)
    fields = {"Severity": (T.UInt16, severity), "SourceName": (T.String, "Part")}
    expected = boolean(value(tree, fields, kind))
    compiled = made(space, elements)
    assert compiled.where_valid
    assert compiled.passes(event("Part", kind, severity=severity)) is (expected is True)


@given(tree=operators(), severity=st.sampled_from([1, 255, 300, 500]), kind=kinds)
def test_what_an_index_looks_up_leaves_out_nothing_that_passes(
    space: Space, tree: Any, severity: int, kind: int
) -> None:
    elements = flattened(tree)
    asked = bounds(elements)
    happened = event("Part", kind, severity=severity)
    within = asked.severity[0] <= severity <= asked.severity[1]
    within = within and all(space.is_subtype(happened.event_type, wanted) for wanted in asked.types)
    passes = made(space, elements).passes(happened)
    assert within or not passes
    assert not asked.exact or passes is within
