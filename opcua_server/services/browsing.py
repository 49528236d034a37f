"""Browse as bytes (Part 4 5.9.2, 5.9.3; Part 6 5.2): what is asked for, and the answers.

A reference to a node by template is the same for all instances but for the NodeId in its middle, so that what is before
and behind it is encoded once. The bytes are those asyncua's encoder would make.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import nodeid_from_binary, nodeid_to_binary, struct_from_binary, struct_to_binary

from opcua_server.services.locales import Locales
from opcua_server.services.nodes import SITE_NS
from opcua_server.services.status import status
from opcua_server.services.tree import Described, Pieces, keep

MASK = ua.BrowseResultMask
GOOD = 0

_LENGTH = struct.Struct("<i")
_STATUS = struct.Struct("<I")
_STRING_ID = struct.Struct("<BHi")
"""NodeId (Part 6 5.2.2.9) whose identifier is a String: form, namespace, length."""
_STRING = 3
_SITE = bytes([_STRING]) + SITE_NS.to_bytes(2, "little")
"""Before the length of the identifier of a node by template."""
_BOOLEAN = {False: b"\0", True: b"\1"}
_NULL = _LENGTH.pack(-1)
_NULL_ID = nodeid_to_binary(ua.NodeId())
_NULL_NAME: bytes = struct_to_binary(ua.QualifiedName())
_NULL_TEXT: bytes = struct_to_binary(ua.LocalizedText())


# -- what is asked for


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """A BrowseDescription (5.9.2.2) without its node."""

    BrowseDirection: ua.Int32
    """As it came: a wrong number is one operation's mistake."""
    ReferenceTypeId: ua.NodeId
    IncludeSubtypes: ua.Boolean
    NodeClassMask: ua.UInt32
    ResultMask: ua.UInt32


@dataclass(slots=True)
class BrowseDescription:
    NodeId: Any
    selection: Selection
    """One object for all operations in a row that select the same."""


@dataclass(slots=True)
class _Head:
    """What is before the operations."""

    View: ua.ViewDescription
    RequestedMaxReferencesPerNode: ua.UInt32


@dataclass(slots=True)
class BrowseParameters:
    View: Any
    RequestedMaxReferencesPerNode: int
    NodesToBrowse: list[BrowseDescription]


def parameters(body: bytes, start: int) -> BrowseParameters:
    """Parameters of a Browse that `Wire` has found to be one."""
    data = Buffer(body, start)
    head = struct_from_binary(_Head, data)
    position = data.cur_pos
    (count,) = _LENGTH.unpack_from(body, position)
    position += _LENGTH.size
    found: list[BrowseDescription] = []
    selection, encoded = None, b""
    for _ in range(count):
        node_id, position = _node_id(body, position)
        if selection is None or not body.startswith(encoded, position):
            data = Buffer(body, position)
            selection = struct_from_binary(Selection, data)
            encoded = body[position : data.cur_pos]
        position += len(encoded)
        found.append(BrowseDescription(node_id, selection))
    return BrowseParameters(head.View, head.RequestedMaxReferencesPerNode, found)


def _node_id(body: bytes, position: int) -> tuple[Any, int]:
    """A NodeId and where it ends."""
    if body[position] == _STRING:
        _, namespace, length = _STRING_ID.unpack_from(body, position)
        if length > 0:
            position += _STRING_ID.size
            end = position + length
            return ua.NodeId(body[position:end].decode(), namespace), end
    data = Buffer(body, position)
    return nodeid_from_binary(data), data.cur_pos


# -- answers


class Form:
    """What of references is encoded: the fields of a mask (BrowseResultMask, 5.9.2), texts in the first language."""

    def __init__(self, mask: int, languages: Sequence[str], texts: Locales) -> None:
        self._mask = mask
        self._languages = languages
        self._texts = texts

    def encoded(self, reference: Any) -> bytes:
        """A ReferenceDescription (7.30)."""
        if not isinstance(reference, Described):
            before, names, behind = self._pieces(reference)
            return b"".join((before, nodeid_to_binary(reference.NodeId), names, behind))
        part = reference.part
        key = self, reference.IsForward, reference.ReferenceTypeId
        before, names, behind = part.encoded.get(key) or keep(part.encoded, key, self._pieces(reference))
        if not part.suffix:  # a root is named by its instance
            names = self._names(reference)
        identifier = reference.identifier.encode()
        return b"".join((before, _SITE, _LENGTH.pack(len(identifier)), identifier, names, behind))

    def _pieces(self, reference: Any) -> Pieces:
        mask = self._mask
        kind = nodeid_to_binary(reference.ReferenceTypeId) if mask & MASK.ReferenceTypeId else _NULL_ID
        forward = _BOOLEAN[bool(mask & MASK.IsForward and reference.IsForward)]
        node_class = _LENGTH.pack(reference.NodeClass if mask & MASK.NodeClass else ua.NodeClass.Unspecified)
        type_definition = nodeid_to_binary(reference.TypeDefinition) if mask & MASK.TypeDefinition else _NULL_ID
        return kind + forward, self._names(reference), node_class + type_definition

    def _names(self, reference: Any) -> bytes:
        browse_name, display_name = _NULL_NAME, _NULL_TEXT
        if self._mask & MASK.BrowseName:
            browse_name = struct_to_binary(reference.BrowseName)
        if self._mask & MASK.DisplayName:
            display_name = struct_to_binary(self._texts.text(reference.DisplayName, self._languages))
        return browse_name + display_name


def result(references: Sequence[bytes], point: bytes | None = None, status: int = GOOD) -> bytes:
    """A BrowseResult (7.6) of encoded references."""
    following = _NULL if point is None else _LENGTH.pack(len(point)) + point
    return b"".join((_STATUS.pack(status), following, _LENGTH.pack(len(references)), *references))


class Response:
    """BrowseResponse or BrowseNextResponse of encoded results."""

    def __init__(self, type_id: int, results: Sequence[bytes]) -> None:
        """`type_id`: of the response's encoding, in the standard's namespace."""
        self.ResponseHeader = ua.ResponseHeader()
        self.DiagnosticInfos: list[Any] = []
        self._type_id = ua.NodeId(type_id)
        self._results = results

    @property
    def Results(self) -> list[Any]:  # noqa: N802 - as in the responses of asyncua
        """StatusCode of each."""
        return [status(*_STATUS.unpack_from(each)) for each in self._results]

    def encoded(self) -> bytes:
        begin = nodeid_to_binary(self._type_id) + struct_to_binary(self.ResponseHeader)
        results = _LENGTH.pack(len(self._results)), *self._results
        infos = _LENGTH.pack(len(self.DiagnosticInfos)), *map(struct_to_binary, self.DiagnosticInfos)
        return b"".join((begin, *results, *infos))
