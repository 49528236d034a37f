"""Event filters (Part 4 7.22.3, 7.7)."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from asyncua import Server, ua
from asyncua.server.standard_address_space import standard_address_space
from hypothesis import given
from hypothesis import strategies as st

from opcua_server.services.content_filters import MAX_ELEMENTS, like
from opcua_server.services.event_filters import EventFilter
from opcua_server.services.space import Space
from opcua_server.services.status import Fault
from tests.conformance.opcua import event, nid

CODES = ua.StatusCodes
OP = ua.FilterOperator
LEVEL_ALARM = ua.ObjectIds.ExclusiveLevelAlarmType


@pytest.fixture(scope="module")
def space() -> Iterator[Space]:
    server = Server()
    standard_address_space.fill_address_space(server.iserver.node_mgt_service)
    yield Space(server.iserver.aspace)
    server.iserver.method_service.stop()


def field(path: str, attribute: int = ua.AttributeIds.Value) -> ua.SimpleAttributeOperand:
    names = [ua.QualifiedName(name) for name in path.split("/") if name]
    return ua.SimpleAttributeOperand(
        TypeDefinitionId=ua.NodeId(ua.ObjectIds.BaseEventType), BrowsePath=names, AttributeId=attribute
    )


def literal(value: Any, kind: Any = None) -> ua.LiteralOperand:
    return ua.LiteralOperand(Value=ua.Variant(value, kind))


def element(operator: Any, *operands: Any) -> ua.ContentFilterElement:
    return ua.ContentFilterElement(FilterOperator=operator, FilterOperands=list(operands))


def at(index: int) -> ua.ElementOperand:
    return ua.ElementOperand(Index=index)


def compiled(space: Space, *elements: ua.ContentFilterElement, select: Any = None) -> EventFilter:
    clauses = [field("Severity")] if select is None else select
    return EventFilter(
        space, ua.EventFilter(SelectClauses=clauses, WhereClause=ua.ContentFilter(Elements=list(elements)))
    )


def passes(space: Space, *elements: ua.ContentFilterElement, **fields: Any) -> bool:
    return compiled(space, *elements).passes(event("Part", LEVEL_ALARM, **fields))


def test_fields_every_event_has_are_answered(space: Space) -> None:
    made = event("Part", severity=700, message="too hot", received=2 * 10**18)
    names = (
        "EventId",
        "EventType",
        "SourceNode",
        "SourceName",
        "Time",
        "ReceiveTime",
        "LocalTime",
        "Message",
        "Severity",
    )
    values = [v.Value for v in compiled(space, select=[field(n) for n in names]).select(made)]
    assert values[:4] == [made.event_id, made.event_type, nid("Part"), "Part"]
    assert values[4] < values[5]
    assert isinstance(values[6], ua.TimeZoneDataType)
    assert values[7:] == [ua.LocalizedText("too hot"), 700]


def test_fields_are_found_by_names_of_their_namespace(space: Space) -> None:
    # Part 4 7.4.5: a browse path is of QualifiedNames.
    made = event("Part", fields={"ActiveState/Id": ua.Variant(True)})
    right, wrong = field("ActiveState"), field("ActiveState")
    right.BrowsePath = [ua.QualifiedName("ActiveState"), ua.QualifiedName("Id")]
    wrong.BrowsePath = [ua.QualifiedName("ActiveState", 2), ua.QualifiedName("Id")]
    filter_ = compiled(space, select=[right, wrong, field("Comment")])
    assert [r.value for r in filter_.select_results] == [0, ua.StatusCodes.BadNodeIdUnknown, 0]
    assert filter_.select(made) == [ua.Variant(True), ua.Variant(), ua.Variant()]


def test_condition_id_is_the_node_id_of_an_empty_path(space: Space) -> None:
    # Part 9 5.5.2: how every client learns whom to acknowledge.
    select = [field("", ua.AttributeIds.NodeId)]
    assert compiled(space, select=select).select(event("Part", condition=nid("Alarm")))[0].Value == nid("Alarm")
    assert compiled(space, select=select).select(event("Part")) == [ua.Variant()]


def test_of_type_means_subtypes_too(space: Space) -> None:
    # UaExpert's filters went silent: asyncua compared for equality (information-model.md G2).
    for base in (LEVEL_ALARM, ua.ObjectIds.AlarmConditionType, ua.ObjectIds.ConditionType, ua.ObjectIds.BaseEventType):
        assert passes(space, element(OP.OfType, literal(ua.NodeId(base))))
    for other in (ua.ObjectIds.AuditEventType, ua.ObjectIds.NonExclusiveLevelAlarmType):
        assert not passes(space, element(OP.OfType, literal(ua.NodeId(other))))


@pytest.mark.parametrize(
    ("operator", "operands", "expected"),
    [
        (OP.Equals, (field("Severity"), literal(500)), True),
        (OP.Equals, (field("Severity"), literal(500.0)), True),
        # Conversions to the type of better rank (7.7.3 Table 124 and 126): a text becomes a number, when it is one.
        (OP.Equals, (field("Severity"), literal("500")), True),
        (OP.Equals, (field("Severity"), literal("many")), False),
        (OP.GreaterThan, (field("Severity"), literal(-1)), True),
        (OP.Equals, (field("Message"), literal("message")), True),
        (OP.Equals, (field("SourceNode"), literal("ns=3;s=Part")), True),
        (OP.Equals, (literal(True), literal(1)), True),
        (OP.Equals, (literal("true"), literal(True)), True),
        (OP.Equals, (literal(-1, ua.VariantType.Int16), literal(65535, ua.VariantType.UInt32)), False),
        (OP.Equals, (field("Time"), literal(10**18)), False),
        (OP.Like, (field("Severity"), literal("5%")), False),
        (OP.OfType, (literal(ua.NodeId(ua.ObjectIds.Server)),), False),
        (OP.OfType, (literal("i=2041"),), False),
        (OP.GreaterThan, (field("Severity"), literal(499)), True),
        (OP.GreaterThanOrEqual, (field("Severity"), literal(500)), True),
        (OP.LessThan, (field("Severity"), literal(500)), False),
        (OP.LessThanOrEqual, (field("Severity"), literal(500)), True),
        (OP.Between, (field("Severity"), literal(400), literal(500)), True),
        (OP.Between, (field("Severity"), literal(501), literal(900)), False),
        (OP.InList, (field("Severity"), literal(1), literal(500)), True),
        (OP.InList, (field("Severity"), literal(1), literal(2)), False),
        (OP.InList, (field("EventType"), *(literal(ua.NodeId(n)) for n in range(1, 1001))), False),
        (
            OP.InList,
            (field("EventType"), *(literal(ua.NodeId(n)) for n in range(1, 1000)), literal(ua.NodeId(LEVEL_ALARM))),
            True,
        ),
        (OP.InList, (field("EventType"), literal(ua.NodeId(1)), literal(f"i={LEVEL_ALARM}")), True),
        (OP.InList, (field("EventType"), literal(ua.NodeId(1)), literal(7)), False),
        (OP.IsNull, (field("Comment"),), True),
        (OP.IsNull, (field("Severity"),), False),
        (OP.Like, (field("SourceName"), literal("P_r%")), True),
        (OP.Like, (field("Message"), literal("%age")), True),
        (OP.Equals, (field("SourceNode"), literal(nid("Part"))), True),
        (OP.Equals, (field("SourceNode"), literal(nid("Other"))), False),
        (OP.Not, (literal(False),), True),
        (OP.And, (literal(True), literal(True)), True),
        (OP.Or, (literal(False), literal(True)), True),
        # Three values (7.7.3): what is unknown is not true, nor is its contrary.
        (OP.Equals, (field("Comment"), literal(1)), False),
        (OP.Not, (field("Comment"),), False),
        (OP.And, (field("Comment"), literal(True)), False),
        (OP.Or, (field("Comment"), literal(True)), True),
        (OP.GreaterThan, (field("Message"), literal(1)), False),
    ],
)
def test_operators(space: Space, operator: Any, operands: tuple[Any, ...], expected: bool) -> None:
    assert passes(space, element(operator, *operands)) is expected


@pytest.mark.parametrize(
    ("given", "target", "expected"),
    [
        ("12", ua.ObjectIds.Int32, 12),
        (2.5, ua.ObjectIds.Int32, 3),
        (300, ua.ObjectIds.Byte, None),
        (2, ua.ObjectIds.Boolean, None),
        (True, ua.ObjectIds.String, "true"),
        ("x", ua.ObjectIds.Double, None),
        ("ns=3;s=Part", ua.ObjectIds.NodeId, nid("Part")),
        (1, ua.ObjectIds.Server, None),
    ],
)
def test_cast_converts_or_is_null(space: Space, given: Any, target: int, expected: Any) -> None:
    # 7.7.3: any error of a Cast is a null.
    cast = element(OP.Cast, literal(given), literal(ua.NodeId(target)))
    if expected is None:
        assert passes(space, element(OP.IsNull, at(1)), cast)
    else:
        assert passes(space, element(OP.Equals, at(1), literal(expected)), cast)


@pytest.mark.parametrize(
    ("operator", "left", "right", "expected"),
    [
        (OP.BitwiseAnd, literal(6, ua.VariantType.Byte), literal(3, ua.VariantType.UInt16), 2),
        (OP.BitwiseOr, literal(6, ua.VariantType.Byte), literal(256, ua.VariantType.UInt16), 262),
        (OP.BitwiseAnd, literal(-1, ua.VariantType.Int16), literal(255, ua.VariantType.UInt16), 255),
        (OP.BitwiseAnd, literal(6.0), literal(3), None),
        (OP.BitwiseAnd, literal(True), literal(3), None),
    ],
)
def test_bitwise_operators_take_integers_of_any_size(
    space: Space, operator: Any, left: Any, right: Any, expected: int | None
) -> None:
    bits = element(operator, left, right)
    check = element(OP.IsNull, at(1)) if expected is None else element(OP.Equals, at(1), literal(expected))
    assert passes(space, check, bits)


def test_a_field_of_another_type_is_null(space: Space) -> None:
    # 7.7.4.5: a typeDefinitionId other than BaseEventType restricts the operand to events of that type.
    operand = field("Message")
    operand.TypeDefinitionId = ua.NodeId(ua.ObjectIds.AuditEventType)
    made = compiled(space, select=[operand, field("Message")])
    assert [v.Value is None for v in made.select(event("Part"))] == [True, False]


def test_elements_refer_to_later_ones(space: Space) -> None:
    # The filter of node-opcua and UaExpert: alarms of some severity.
    elements = (
        element(OP.And, at(1), at(2)),
        element(OP.OfType, literal(ua.NodeId(ua.ObjectIds.AlarmConditionType))),
        element(OP.GreaterThanOrEqual, field("Severity"), literal(300)),
    )
    assert passes(space, *elements)
    assert not passes(space, *elements, severity=200)


@pytest.mark.parametrize(
    ("wrong", "code", "operand"),
    [
        (element(OP.RelatedTo, literal(1), literal(2)), CODES.BadFilterOperandCountMismatch, None),
        (element(OP.IsNull, field("Nothing")), CODES.BadFilterOperandInvalid, CODES.BadNodeIdUnknown),
        (element(OP.IsNull, ua.LiteralOperand()), CODES.BadFilterOperandInvalid, CODES.BadFilterLiteralInvalid),
        (element(OP.Equals, literal(1)), CODES.BadFilterOperandCountMismatch, None),
        (element(OP.Not, at(0)), CODES.BadFilterOperandInvalid, CODES.BadFilterOperandInvalid),
        (element(OP.Not, at(9)), CODES.BadFilterOperandInvalid, CODES.BadFilterOperandInvalid),
        (element(OP.IsNull, field("Severity", 99)), CODES.BadFilterOperandInvalid, CODES.BadAttributeIdInvalid),
        (element(OP.IsNull, ua.AttributeOperand()), CODES.BadFilterOperandInvalid, CODES.BadFilterOperandInvalid),
    ],
)
def test_a_wrong_element_is_named(space: Space, wrong: Any, code: int, operand: int | None) -> None:
    made = compiled(space, wrong)
    assert not made.where_valid
    (result,) = made.result().WhereClauseResult.ElementResults
    assert result.StatusCode.value == code
    assert [c.value for c in result.OperandStatusCodes] == ([] if operand is None else [operand])


def test_select_clauses_have_their_own_results(space: Space) -> None:
    unknown = field("Severity")
    unknown.TypeDefinitionId = nid("Nowhere")
    made = compiled(space, select=[field("Severity"), unknown, field("Severity", 99), field("")])
    assert [r.value for r in made.result().SelectClauseResults] == [
        0, CODES.BadTypeDefinitionInvalid, CODES.BadAttributeIdInvalid, CODES.BadBrowseNameInvalid,
    ]  # fmt: skip


def test_filters_without_fields_or_of_any_length_are_refused(space: Space) -> None:
    with pytest.raises(Fault):
        compiled(space, select=[])
    with pytest.raises(Fault):
        compiled(space, *[element(OP.Not, literal(True))] * (MAX_ELEMENTS + 1))


def test_an_element_is_evaluated_once_however_often_it_is_referred_to(space: Space) -> None:
    # Fifty elements that each name the next one twice would take 2^50 steps as a tree.
    elements = [element(OP.And, at(i + 1), at(i + 1)) for i in range(MAX_ELEMENTS - 1)]
    made = compiled(space, *elements, element(OP.Not, literal(False)))
    started = time.process_time()
    assert made.passes(event("Part"))
    assert time.process_time() - started < 1.0


@pytest.mark.parametrize(
    ("text", "pattern", "expected"),
    [
        ("abc", "abc", True), ("abc", "a%", True), ("abc", "%c", True), ("abc", "%b%", True), ("abc", "a_c", True),
        ("abc", "", False), ("", "%", True), ("", "", True), ("abc", "ab", False), ("a%c", r"a\%c", True),
        ("abc", r"a\%c", False), ("abc", "[abc]bc", True), ("abc", "[^x]bc", True), ("abc", "[^a]bc", False),
        ("e5", "[a-f][0-9]", True), ("g5", "[a-f][0-9]", False), ("a.c", "a.c", True), ("abc", "a.c", False),
        ("a\nc", "a_c", True),
    ],
)  # fmt: skip
def test_like(text: str, pattern: str, expected: bool) -> None:
    assert like(text, pattern) is expected


@given(st.text(max_size=30), st.text(alphabet="%_[]^\\-ab", max_size=30))
def test_like_answers_any_pattern(text: str, pattern: str) -> None:
    assert like(text, pattern) in (True, False)


@given(st.text(max_size=30))
def test_like_finds_any_text_by_itself_escaped(text: str) -> None:
    escaped = "".join(f"\\{c}" for c in text)
    assert like(text, escaped)
    assert like(f"before{text}after", f"%{escaped}%")
