"""A look at a request's bytes before objects are made of them (Part 6 5.2): is it whole, and is it small enough?

asyncua's decoder believes every length it reads. This walk believes none: it makes no object, and ends as soon as a
limit is passed. It is driven by the same dataclasses as the decoder, compiled once per type into closures, so that
whatever passes here has the layout the decoder expects. Every closure takes (bytes, position, walk) and returns the
position behind its value; reading behind the end raises, and a skip behind it is found at the latest when the end of
the message is compared.
"""

import functools
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from enum import Enum, IntFlag
from typing import Any

from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import Primitives, Primitives1, get_safe_type_hints, nodeid_from_binary
from asyncua.ua.uatypes import (
    type_allow_subclass,
    type_from_list,
    type_from_optional,
    type_is_list,
    type_is_optional,
)

from opcua_server.services.limits import Limits
from opcua_server.services.status import Fault

_int32: Callable[[bytes, int], tuple[int]] = struct.Struct("<i").unpack_from

ARRAY, DIMENSIONS, TYPE = 0x80, 0x40, 0x3F
"""Bits of a Variant's first byte (Part 6 5.2.2.16)."""
BODY_BINARY = 0x01
"""Encoding of an ExtensionObject's body (5.2.2.15)."""
CUSTOM_TYPES = range(26, 32)
"""Reserved built-in types, read as ByteString."""
DATE_TIME, STATUS_CODE, GUID = 8, 4, 16
MAX_DIMENSIONS = 16
"""Of one matrix: the decoder calls itself for each."""


@dataclass(slots=True)
class Walk:
    """What is left of the limits of one message."""

    elements: int
    depth: int
    string: int
    array: int


Step = Callable[[bytes, int, Walk], int]


class Wire:
    """The check of requests against `Limits`."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    def header(self, data: bytes) -> int:
        """Where the parameters of a request begin, behind its type id and RequestHeader. Raises Fault."""
        return self._walk(data, 0, (_node_id, step_of(ua.RequestHeader)))

    def end(self, kind: Any, data: bytes, start: int = 0) -> int:
        """Where a `kind` at `start` ends. Raises Fault when it is none."""
        return self._walk(data, start, (step_of(kind),))

    def check(self, kind: Any, data: bytes, start: int = 0) -> None:
        """Raises Fault unless the bytes from `start` are exactly one `kind`.

        BadEncodingLimitsExceeded for one that is too deep or too large, BadDecodingError for what is none.
        """
        if self.end(kind, data, start) != len(data):
            raise Fault(ua.StatusCodes.BadDecodingError)

    def _walk(self, data: bytes, position: int, steps: tuple[Step, ...]) -> int:
        limits = self._limits
        walk = Walk(limits.elements, limits.nesting, limits.string, limits.array)
        try:
            for step in steps:
                position = step(data, position, walk)
        except (IndexError, struct.error, UnicodeDecodeError) as error:
            raise Fault(ua.StatusCodes.BadDecodingError) from error
        if position > len(data):
            raise Fault(ua.StatusCodes.BadDecodingError)
        return position


# -- strings, arrays, nesting


def _string(data: bytes, position: int, walk: Walk) -> int:
    """A String: UTF-8 without overlong forms and surrogates (RFC 3629), which Python's decoder is strict about."""
    (length,) = _int32(data, position)
    position += 4
    if length <= 0:
        return _empty(length, position)
    end = _end(data, position, length, walk)
    part = data[position:end]
    if not part.isascii():
        part.decode("utf-8")
    return end


def _byte_string(data: bytes, position: int, walk: Walk) -> int:
    (length,) = _int32(data, position)
    position += 4
    return _empty(length, position) if length <= 0 else _end(data, position, length, walk)


def _empty(length: int, position: int) -> int:
    if length < -1:
        raise Fault(ua.StatusCodes.BadDecodingError)
    return position


def _end(data: bytes, position: int, length: int, walk: Walk) -> int:
    if length > walk.string:
        raise Fault(ua.StatusCodes.BadEncodingLimitsExceeded)
    if position + length > len(data):
        raise Fault(ua.StatusCodes.BadDecodingError)
    return position + length


def _count(data: bytes, position: int, walk: Walk, cost: int) -> int:
    """Elements of an array, each taken from the message's allowance at `cost`."""
    (length,) = _int32(data, position)
    if length <= 0:
        return 0 * _empty(length, position)
    if length > walk.array:
        raise Fault(ua.StatusCodes.BadEncodingLimitsExceeded)
    if length > len(data) - position:  # no element is shorter than a byte
        raise Fault(ua.StatusCodes.BadDecodingError)
    walk.elements -= length * cost
    if walk.elements < 0:
        raise Fault(ua.StatusCodes.BadEncodingLimitsExceeded)
    return int(length)


def _array(step: Step) -> Step:
    def array(data: bytes, position: int, walk: Walk) -> int:
        count = _count(data, position, walk, 1)
        position += 4
        for _ in range(count):
            position = step(data, position, walk)
        return position

    return array


def _fixed_array(size: int, cost: int) -> Step:
    def fixed_array(data: bytes, position: int, walk: Walk) -> int:
        end = position + 4 + size * _count(data, position, walk, cost)
        if end > len(data):
            raise Fault(ua.StatusCodes.BadDecodingError)
        return end

    return fixed_array


def _nested(step: Step) -> Step:
    """One level deeper (Part 6 5.2.2.12: decoders bound the levels of nesting)."""

    def nested(data: bytes, position: int, walk: Walk) -> int:
        if walk.depth == 0:
            raise Fault(ua.StatusCodes.BadEncodingLimitsExceeded)
        walk.depth -= 1
        position = step(data, position, walk)
        walk.depth += 1
        return position

    return nested


# -- built-in types


def _node_id(data: bytes, position: int, walk: Walk) -> int:
    """NodeId and ExpandedNodeId (5.2.2.9, 5.2.2.10)."""
    encoding = data[position]
    form = encoding & 0x3F
    if form == 1:
        position += 4
    elif form == 0:
        position += 2
    elif form == 3:
        position = _string(data, position + 3, walk)
    elif form == 2:
        position += 7
    elif form == 5:
        position = _byte_string(data, position + 3, walk)
    elif form == 4:
        position += 3 + GUID
    else:
        raise Fault(ua.StatusCodes.BadDecodingError)
    if encoding & 0x80:
        position = _string(data, position, walk)
    return position + 4 if encoding & 0x40 else position


def _variant(data: bytes, position: int, walk: Walk) -> int:
    encoding = data[position]
    single, array = _variant_steps(encoding & TYPE)
    if not encoding & ARRAY:
        if encoding & DIMENSIONS:
            raise Fault(ua.StatusCodes.BadDecodingError)
        return single(data, position + 1, walk)
    if not encoding & TYPE:  # elements without a byte: five bytes would be as many objects as one likes
        raise Fault(ua.StatusCodes.BadDecodingError)
    (length,) = _int32(data, position + 1)
    position = array(data, position + 1, walk)
    return _dimensions(data, position, length) if encoding & DIMENSIONS else position


def _dimensions(data: bytes, position: int, length: int) -> int:
    """ArrayDimensions, whose product is the number of elements; as nesting in the decoder they are bounded too."""
    (count,) = _int32(data, position)
    if not -1 <= count <= MAX_DIMENSIONS:
        raise Fault(ua.StatusCodes.BadEncodingLimitsExceeded)
    product = 1
    for i in range(count):
        (size,) = _int32(data, position + 4 + 4 * i)
        if size < 0:
            raise Fault(ua.StatusCodes.BadDecodingError)
        product *= size
    if count > 0 and product != max(length, 0):
        raise Fault(ua.StatusCodes.BadDecodingError)
    return position + 4 + 4 * max(count, 0)


@functools.cache
def _variant_steps(kind: int) -> tuple[Step, Step]:
    """How one value and an array of a built-in type are walked."""
    if kind == 0:
        return _skip(0), _skip(0)
    if kind in CUSTOM_TYPES:
        return _byte_string, _array(_byte_string)
    if kind >= CUSTOM_TYPES.stop:
        raise Fault(ua.StatusCodes.BadDecodingError)
    built_in = ua.VariantType(kind)
    return _built_in(built_in), _array_of_built_in(built_in)


@functools.cache
def _built_in(kind: Any) -> Step:
    if (size := _size(kind)) is not None:
        return _skip(size)
    found: dict[Any, Step] = {
        ua.VariantType.String: _string,
        ua.VariantType.ByteString: _byte_string,
        ua.VariantType.XmlElement: _string,
        ua.VariantType.NodeId: _node_id,
        ua.VariantType.ExpandedNodeId: _node_id,
        ua.VariantType.ExtensionObject: _nested(_extension_object),
        ua.VariantType.Variant: _nested(_variant),
    }
    return found.get(kind) or step_of(getattr(ua, kind.name))


@functools.cache
def _array_of_built_in(kind: Any) -> Step:
    size = _size(kind)
    if size is None:
        return _array(_built_in(kind))
    return _fixed_array(size, 0 if hasattr(Primitives1, kind.name) else 1)


def _size(kind: Any) -> int | None:
    """Bytes of a built-in type, None when it has no fixed size."""
    if kind == ua.VariantType.Guid:
        return GUID
    if kind == ua.VariantType.DateTime:
        return DATE_TIME
    if kind == ua.VariantType.StatusCode:
        return STATUS_CODE
    return int(getattr(Primitives1, kind.name).size) if hasattr(Primitives1, kind.name) else None


def _extension_object(data: bytes, position: int, walk: Walk) -> int:
    """A known type is walked to its last byte, an unknown one stays closed; XML is never looked into.

    asyncua takes a body of unstated length from the rest of the message, which no limit would hold.
    """
    type_end = _node_id(data, position, walk)
    encoding = data[type_end]
    known = _known(bytes(data[position:type_end]))
    position = type_end + 1
    if encoding == 0:
        return position
    (length,) = _int32(data, position)
    position += 4
    end = position + length
    if encoding != BODY_BINARY or length < 0 or end > len(data):
        raise Fault(ua.StatusCodes.BadDecodingError)
    walk.elements -= 1
    if walk.elements < 0:
        raise Fault(ua.StatusCodes.BadEncodingLimitsExceeded)
    if known is not None and known(data, position, walk) != end:
        raise Fault(ua.StatusCodes.BadDecodingError)
    return end


@functools.lru_cache(maxsize=1024)
def _known(type_id: bytes) -> Step | None:
    """The walk over a structure by its encoded type id, as asyncua would look it up; None for a foreign or null one."""
    try:
        kind = ua.extension_objects_by_typeid.get(nodeid_from_binary(Buffer(type_id)))
        return step_of(kind) if kind is not None else None
    except (ua.UaError, AttributeError) as error:
        # An identifier that is null, a field of a type asyncua's tables lack: its decoder fails alike.
        raise Fault(ua.StatusCodes.BadDecodingError) from error


# -- structures


def _skip(size: int) -> Step:
    return lambda _data, position, _walk: position + size


@functools.cache
def step_of(kind: Any) -> Step:
    """The walk over a dataclass of asyncua, in the order and with the optional fields its decoder knows."""
    if issubclass(kind, ua.UaUnion):
        return _union(kind)
    found = list(_fields(kind))
    if any(bit for bit, _ in found):
        step = _with_mask(found)
    else:
        step = _in_sequence([(_fixed(t), _step(t)) for _, t in found])
    return _nested(step) if kind is ua.DataValue else step


def _fields(kind: Any) -> Iterator[tuple[int, Any]]:
    """(bit, type) of the fields in their order; the bit is of the mask that says whether it is there, 0: always."""
    hints = get_safe_type_hints(kind, {"ua": ua})
    bit = 1
    for field in fields(kind):
        hint = hints[field.name]
        if type_is_optional(hint):
            yield bit, type_from_optional(hint)
            bit <<= 1
        else:
            yield 0, hint


def _with_mask(found: list[tuple[int, Any]]) -> Step:
    """A structure whose first field, Encoding, says which of the others are there (5.2.7)."""
    (_, mask_type), *rest = found
    width = _fixed(mask_type) or 0
    steps = [(bit, _step(t)) for bit, t in rest]

    def masked(data: bytes, position: int, walk: Walk) -> int:
        mask = int.from_bytes(data[position : position + width], "little")
        position += width
        for bit, step in steps:
            if not bit or mask & bit:
                position = step(data, position, walk)
        return position

    return masked


def _union(kind: Any) -> Step:
    """A switch, then the one field it names (5.2.8)."""
    steps = [_step(t) for t in kind._union_types]  # noqa: SLF001 - where asyncua keeps them

    def union(data: bytes, position: int, walk: Walk) -> int:
        (switch,) = _int32(data, position)
        chosen = 0 < switch <= len(steps)
        return steps[switch - 1](data, position + 4, walk) if chosen else position + 4

    return union


def _in_sequence(parts: list[tuple[int | None, Step]]) -> Step:
    """Fields one after another; neighbours of fixed size are one skip."""
    steps: list[tuple[int, Step]] = []
    skipped = 0
    for size, step in parts:
        if size is None:
            steps.append((skipped, step))
            skipped = 0
        else:
            skipped += size
    tail = skipped

    def sequence(data: bytes, position: int, walk: Walk) -> int:
        for skip, step in steps:
            position = step(data, position + skip, walk)
        return position + tail

    return sequence


def _fixed(kind: Any) -> int | None:
    """Bytes of a field's type, None when it has no fixed size."""
    if type_is_list(kind) or type_allow_subclass(kind):
        return None
    if hasattr(ua.VariantType, kind.__name__):
        return _size(getattr(ua.VariantType, kind.__name__))
    if hasattr(Primitives1, kind.__name__):
        return int(getattr(Primitives1, kind.__name__).size)
    if issubclass(kind, IntFlag):
        return int(getattr(Primitives, kind.datatype() if hasattr(kind, "datatype") else "UInt32").size)
    return 4 if issubclass(kind, Enum) else None


def _step(kind: Any) -> Step:
    if type_is_list(kind):
        element = type_from_list(kind)
        if hasattr(ua.VariantType, getattr(element, "__name__", "")):
            return _array_of_built_in(getattr(ua.VariantType, element.__name__))
        size = _fixed(element)
        return _array(_step(element)) if size is None else _fixed_array(size, 1)
    if type_allow_subclass(kind):
        return _nested(_extension_object)
    if (size := _fixed(kind)) is not None:
        return _skip(size)
    if hasattr(ua.VariantType, kind.__name__):
        return _built_in(getattr(ua.VariantType, kind.__name__))
    if kind.__name__ in ("Bytes", "CharArray"):
        return _string if kind.__name__ == "CharArray" else _byte_string
    return step_of(kind)
