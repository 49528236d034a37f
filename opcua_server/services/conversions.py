"""Conversions between built-in types in filters (Part 4 7.7.3): which are made by themselves, which by Cast, and how.

A value is (built-in type, content), None for null. Of two different types the one of lower rank is what both become,
when the other converts to it implicitly.
"""

import math
import struct
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from asyncua import ua

Value = tuple[int, Any] | None

T = ua.VariantType
BOOLEAN, STRING, NODE_ID = T.Boolean.value, T.String.value, T.NodeId.value
LIMITS: Mapping[int, tuple[int, int]] = {
    T.SByte.value: (-(2**7), 2**7 - 1),
    T.Byte.value: (0, 2**8 - 1),
    T.Int16.value: (-(2**15), 2**15 - 1),
    T.UInt16.value: (0, 2**16 - 1),
    T.Int32.value: (-(2**31), 2**31 - 1),
    T.UInt32.value: (0, 2**32 - 1),
    T.Int64.value: (-(2**63), 2**63 - 1),
    T.UInt64.value: (0, 2**64 - 1),
}
"""Integer types."""
INTEGERS = frozenset(LIMITS)
FLOATS = frozenset({T.Float.value, T.Double.value})
NUMBERS = INTEGERS | FLOATS

RANKS: Mapping[int, int] = {
    kind.value: rank
    for rank, kind in enumerate(
        (
            T.Double, T.Float, T.Int64, T.UInt64, T.Int32, T.UInt32, T.StatusCode, T.Int16, T.UInt16, T.SByte, T.Byte,
            T.Boolean, T.Guid, T.String, T.ExpandedNodeId, T.NodeId, T.LocalizedText, T.QualifiedName,
        )
    )
}  # fmt: skip
"""Data precedence: what is left out converts to nothing by itself."""

WIDE = frozenset({T.Int32.value, T.UInt32.value, T.Int64.value, T.UInt64.value})


def _implicit() -> Mapping[int, frozenset[int]]:
    """Type -> what it becomes by itself, as far as the ranks ever ask for it."""
    better = {n: {m for m in NUMBERS if RANKS[m] < RANKS[n]} for n in NUMBERS}
    return {
        **{n: frozenset(better[n]) for n in NUMBERS},
        T.UInt16.value: frozenset(better[T.UInt16.value] | {T.StatusCode.value}),
        T.StatusCode.value: WIDE,
        BOOLEAN: NUMBERS,
        STRING: NUMBERS | {BOOLEAN, T.Guid.value},
        T.ExpandedNodeId.value: frozenset({STRING}),
        NODE_ID: frozenset({STRING, T.ExpandedNodeId.value}),
        T.LocalizedText.value: frozenset({STRING}),
        T.QualifiedName.value: frozenset({STRING, T.LocalizedText.value}),
    }


IMPLICIT = _implicit()

EXPLICIT: Mapping[int, frozenset[int]] = {
    **dict.fromkeys(NUMBERS, NUMBERS | {BOOLEAN, STRING}),
    **{n: NUMBERS | {BOOLEAN, STRING, T.StatusCode.value} for n in WIDE},
    T.StatusCode.value: INTEGERS - {T.SByte.value, T.Byte.value, T.Int16.value},
    BOOLEAN: NUMBERS | {STRING},
    T.ByteString.value: frozenset({T.Guid.value}),
    T.Guid.value: frozenset({STRING, T.ByteString.value}),
    T.DateTime.value: frozenset({STRING}),
    STRING: NUMBERS | {BOOLEAN, T.Guid.value, T.DateTime.value, T.ExpandedNodeId.value, NODE_ID,
                       T.LocalizedText.value, T.QualifiedName.value},
    T.ExpandedNodeId.value: frozenset({STRING, NODE_ID}),
    NODE_ID: frozenset({STRING, T.ExpandedNodeId.value}),
    T.LocalizedText.value: frozenset({STRING}),
    T.QualifiedName.value: frozenset({STRING, T.LocalizedText.value}),
}  # fmt: skip
"""Type -> what Cast makes of it."""


class Impossible(Exception):
    """There is no such conversion, or this value has none."""


def value_of(variant: Any) -> Value:
    """Of a Variant; an array is no value of its type."""
    if variant is None or variant.Value is None:
        return None
    kind = -1 if isinstance(variant.Value, list) else variant.VariantType.value
    return kind, variant.Value


def common(left: tuple[int, Any], right: tuple[int, Any]) -> tuple[Any, Any]:
    """Both contents as one type. Raises Impossible."""
    if left[0] == right[0]:
        return _comparable(*left), _comparable(*right)
    if left[0] not in RANKS or right[0] not in RANKS:
        raise Impossible
    target = min(left[0], right[0], key=RANKS.__getitem__)
    return _comparable(*implicitly(left, target)), _comparable(*implicitly(right, target))


def implicitly(value: tuple[int, Any], target: int) -> tuple[int, Any]:
    """Raises Impossible."""
    if value[0] == target:
        return value
    if target not in IMPLICIT.get(value[0], ()):
        raise Impossible
    return target, converted(value, target)


def cast(value: tuple[int, Any], target: int) -> tuple[int, Any]:
    """Raises Impossible."""
    if value[0] == target:
        return value
    if target not in EXPLICIT.get(value[0], ()):
        raise Impossible
    return target, converted(value, target)


def converted(value: tuple[int, Any], target: int) -> Any:
    """Content as another type. Raises Impossible for what has no such value."""
    kind, content = value
    try:
        if target in INTEGERS:
            return _integer(kind, content, *LIMITS[target])
        return CONVERSIONS[target](kind, content)
    except (ValueError, TypeError, OverflowError, KeyError, ua.UaError) as error:
        raise Impossible from error


def _integer(kind: int, content: Any, low: int, high: int) -> int:
    if kind == T.StatusCode.value:
        content = content.value
    elif kind == STRING:
        content = int(content, 10)
    elif kind in FLOATS:
        content = math.trunc(content + 0.5)
    number = int(content)
    if not low <= number <= high:
        raise Impossible
    return number


def _float(_kind: int, content: Any) -> float:
    number = float(content)
    return float(struct.unpack("<f", struct.pack("<f", number))[0])


def _boolean(kind: int, content: Any) -> bool:
    if kind == STRING:
        return {"true": True, "1": True, "false": False, "0": False}[content.lower()]
    return {0: False, 1: True}[content]


def _string(kind: int, content: Any) -> str:
    if kind == BOOLEAN:
        return "true" if content else "false"
    if kind == T.DateTime.value:
        return str(_utc(content).isoformat())
    if kind in (NODE_ID, T.ExpandedNodeId.value):
        return str(content.to_string())
    return str(_text(kind, content))


def _text(kind: int, content: Any) -> str:
    if kind == T.LocalizedText.value:
        return content.Text or ""
    return (content.Name or "") if kind == T.QualifiedName.value else str(content)


def _utc(content: datetime) -> datetime:
    return content if content.tzinfo else content.replace(tzinfo=UTC)


CONVERSIONS: Mapping[int, Callable[[int, Any], Any]] = {
    BOOLEAN: _boolean,
    T.Float.value: _float,
    T.Double.value: lambda _, content: float(content),
    STRING: _string,
    T.Guid.value: lambda kind, content: uuid.UUID(content) if kind == STRING else uuid.UUID(bytes_le=content),
    T.ByteString.value: lambda _, content: content.bytes_le,
    T.DateTime.value: lambda _, content: _utc(datetime.fromisoformat(content)),
    T.StatusCode.value: lambda kind, content: ua.StatusCode(_integer(kind, content, 0, 2**32 - 1)),
    NODE_ID: lambda kind, content: ua.NodeId.from_string(content) if kind == STRING else content,
    T.ExpandedNodeId.value: lambda kind, content: ua.NodeId.from_string(content) if kind == STRING else content,
    T.LocalizedText.value: lambda kind, content: ua.LocalizedText(_text(kind, content)),
    T.QualifiedName.value: lambda _, content: ua.QualifiedName(content),
}
"""Built-in type -> conversion to it from what IMPLICIT or EXPLICIT allow."""


def _comparable(kind: int, content: Any) -> Any:
    """What Python compares as OPC UA does."""
    if kind in (T.LocalizedText.value, T.QualifiedName.value):
        return _text(kind, content)
    if kind in (NODE_ID, T.ExpandedNodeId.value):
        return content.NamespaceIndex, str(content.Identifier)
    if kind == T.StatusCode.value:
        return content.value
    return _utc(content) if kind == T.DateTime.value else content
