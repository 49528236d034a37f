"""Event filters, and the history of events, as a client asks for them."""

from collections.abc import Sequence
from typing import Any

from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import struct_from_binary

from tests.conformance.plant import Conversation, nid

IDS, T, OP = ua.ObjectIds, ua.VariantType, ua.FilterOperator
BASE_EVENT = ua.NodeId(IDS.BaseEventType)


def operand(path: str, kind: Any = BASE_EVENT, attribute: int = ua.AttributeIds.Value, **further: Any) -> Any:
    """SimpleAttributeOperand of `ActiveState/Id`, `2:BatchId`."""
    names = [ua.QualifiedName.from_string(name) for name in path.split("/") if name]
    return ua.SimpleAttributeOperand(TypeDefinitionId=kind, BrowsePath=names, AttributeId=attribute, **further)


def literal(value: Any, kind: Any = None) -> Any:
    return ua.LiteralOperand(Value=ua.Variant(value, kind))


def at(index: int) -> Any:
    return ua.ElementOperand(Index=index)


def element(operator: Any, *operands: Any) -> Any:
    return ua.ContentFilterElement(FilterOperator=operator, FilterOperands=list(operands))


def of_type(kind: int | ua.NodeId) -> Any:
    return element(OP.OfType, literal(ua.NodeId(kind) if isinstance(kind, int) else kind, T.NodeId))


def event_filter(paths: Sequence[Any], *elements: Any) -> ua.EventFilter:
    """`paths`: browse paths, or operands."""
    clauses = [operand(path) if isinstance(path, str) else path for path in paths]
    return ua.EventFilter(SelectClauses=clauses, WhereClause=ua.ContentFilter(Elements=list(elements)))


async def history(
    talk: Conversation,
    node: Any,
    wanted: ua.EventFilter,
    start: Any = None,
    end: Any = None,
    most: int = 0,
    point: bytes | None = None,
) -> tuple[int, list[list[Any]], bytes | None]:
    """StatusCode, fields of each event and continuation point of one ReadEventDetails."""
    details = ua.ReadEventDetails(NumValuesPerNode=most, StartTime=start, EndTime=end, Filter=wanted)
    parameters = ua.HistoryReadParameters(
        HistoryReadDetails=details,
        TimestampsToReturn=ua.TimestampsToReturn.Both,
        ReleaseContinuationPoints=False,
        NodesToRead=[
            ua.HistoryReadValueId(NodeId=nid(node) if isinstance(node, str) else node, ContinuationPoint=point)
        ],
    )
    (result,) = (await talk.call(ua.HistoryReadRequest(Parameters=parameters))).Results
    read = result.HistoryData
    if isinstance(read, ua.ExtensionObject):
        read = struct_from_binary(ua.HistoryEvent, Buffer(read.Body)) if read.Body else ua.HistoryEvent()
    found = [[field.Value for field in event.EventFields] for event in read.Events or []]
    return result.StatusCode.value, found, result.ContinuationPoint
