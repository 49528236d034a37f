"""The head of a request: which service is asked, and its RequestHeader (Part 4 7.33).

As clients write it, it is one layout of fixed size, and read as that. Any other form of it is left to asyncua.
"""

import struct
from typing import NamedTuple

from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import nodeid_from_binary, struct_from_binary

from opcua_server.services.seams import UNREADABLE
from opcua_server.services.status import Fault
from opcua_server.services.wire import Wire

TOKEN_SIZE = 32
"""Bytes of an AuthenticationToken."""
_USUAL = struct.Struct(f"<BBHBHi{TOKEN_SIZE}sqIIiI3s")
"""Type id (FourByte), AuthenticationToken (ByteString), Timestamp, RequestHandle, ReturnDiagnostics, length of
AuditEntryId, TimeoutHint, AdditionalHeader (Part 6 5.2.2.9, 5.2.2.15)."""
_FOUR_BYTE, _BYTE_STRING = 0x01, 0x05
_FORM = _FOUR_BYTE, 0, _BYTE_STRING, 0, TOKEN_SIZE, bytes(3)
"""Encoding and namespace of both NodeIds, size of the token, an ExtensionObject without type and body."""


class RequestHeader(NamedTuple):
    """What services look at."""

    token: bytes = b""
    """AuthenticationToken; empty for one of a form that no session has."""
    handle: int = 0
    entry: str = ""
    """AuditEntryId."""
    timeout: int = 0
    """TimeoutHint, ms; 0: none."""
    asked: int = 0
    """ReturnDiagnostics: what it wants explained."""


class Head(NamedTuple):
    service: int
    """Identifier of the request's encoding in namespace 0; -1: of no service."""
    header: RequestHeader
    end: int
    """Where the parameters begin."""


def head(body: bytes, wire: Wire) -> Head:
    """The head of a request. Raises Fault."""
    if len(body) >= _USUAL.size:
        form, of, service, kind, space, size, token, _, handle, asked, entry, timeout, more = _USUAL.unpack_from(body)
        if (form, of, kind, space, size, more) == _FORM and -1 <= entry <= 0:
            return Head(service, RequestHeader(token, handle, "", timeout, asked), _USUAL.size)
    return any_head(body, wire)


def any_head(body: bytes, wire: Wire) -> Head:
    """`head` of any form, as asyncua reads it."""
    end = wire.header(body)
    data = Buffer(body)
    try:
        kind = nodeid_from_binary(data)
        found = struct_from_binary(ua.RequestHeader, data)
    except UNREADABLE as error:
        raise Fault(ua.StatusCodes.BadDecodingError) from error
    token = found.AuthenticationToken
    ours = token.NodeIdType == ua.NodeIdType.ByteString and token.NamespaceIndex == 0
    header = RequestHeader(
        token=bytes(token.Identifier) if ours else b"",
        handle=found.RequestHandle,
        entry=found.AuditEntryId or "",
        timeout=found.TimeoutHint,
        asked=found.ReturnDiagnostics,
    )
    numeric = kind.NamespaceIndex == 0 and isinstance(kind.Identifier, int)
    return Head(kind.Identifier if numeric else -1, header, end)
