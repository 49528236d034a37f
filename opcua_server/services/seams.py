"""Every place where this server hooks into asyncua: subclasses and arguments, no patch of the library.

Used of it: address space storage and its loading (`InternalServer`, `Server`), the cryptography of the security
policies and the codec. Its TCP protocol and secure channel, its session, subscription, attribute, view, method and
history services never see a client's bytes.
"""

import binascii
import inspect
import logging
import struct
import warnings
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, Protocol

from asyncua import ua
from asyncua.common.connection import MessageChunk
from asyncua.common.utils import ServiceError
from asyncua.common.xmlimporter import XmlImporter
from asyncua.crypto import security_policies, uacrypto
from asyncua.server.address_space import AddressSpace, AttributeValue, NodeData
from asyncua.server.internal_server import InternalServer
from asyncua.server.server import Server
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

from opcua_server.services.standard_nodes import StandardServer

ASYNCUA = "2.1.0"
"""The version these seams were cut for."""

SEAMS: dict[Callable[..., Any], tuple[str, ...]] = {
    MessageChunk.message_to_chunks: (
        "security_policy", "body", "max_chunk_size", "message_type", "channel_id", "request_id", "token_id",
    ),
    MessageChunk.max_body_size: ("crypto", "max_chunk_size"),
    MessageChunk.to_binary: ("self",),
    security_policies.Cryptography.__init__: ("self", "mode"),
    security_policies.Cryptography.decrypt: ("self", "data"),
    security_policies.Cryptography.encrypt: ("self", "data"),
    security_policies.Cryptography.padding: ("self", "size"),
    security_policies.Cryptography.signature: ("self", "data"),
    security_policies.Cryptography.verify: ("self", "data", "sig"),
    security_policies.SecurityPolicyBasic256Sha256.make_local_symmetric_key: ("self", "secret", "seed"),
    security_policies.SecurityPolicyBasic256Sha256.make_remote_symmetric_key: ("self", "secret", "seed", "lifetime"),
    AddressSpace.read_attribute_value: ("self", "nodeid", "attr"),
    AttributeValue.__init__: ("self", "value"),
    InternalServer.__init__: ("self", "user_manager"),
    InternalServer.load_standard_address_space: ("self", "shelf_file"),
    NodeData.__init__: ("self", "nodeid"),
    XmlImporter.__init__: ("self", "server", "strict_mode", "auto_load_definitions"),
    XmlImporter._add_missing_reverse_references: ("self", "new_nodes"),  # noqa: SLF001
    XmlImporter._add_references: ("self", "refs"),  # noqa: SLF001
    Server.__init__: ("self", "iserver", "user_manager"),
    Server.init: ("self", "shelf_file"),
}  # fmt: skip

POLICIES = {
    "Basic256Sha256": security_policies.SecurityPolicyBasic256Sha256,
    "Aes128_Sha256_RsaOaep": security_policies.SecurityPolicyAes128Sha256RsaOaep,
    "Aes256_Sha256_RsaPss": security_policies.SecurityPolicyAes256Sha256RsaPss,
}
NONE_URI = security_policies.SecurityPolicyNone.URI

UNREADABLE = (
    ua.UaError, ServiceError, InvalidSignature, uacrypto.InvalidSignature, UnsupportedAlgorithm, struct.error,
    ValueError, TypeError, IndexError, KeyError, AttributeError, OverflowError, RecursionError, AssertionError,
    binascii.Error,
)  # fmt: skip
"""What asyncua's decoder and cryptography raise for bytes that are not what they should be."""


def moved() -> list[str]:
    """Seams whose signature is not what this module was written for."""
    return [
        f"{seam.__qualname__}{inspect.signature(seam)}"
        for seam, expected in SEAMS.items()
        if tuple(inspect.signature(seam).parameters) != expected
    ]


def check_version() -> None:
    """Warn when another asyncua than the one tested runs."""
    if (found := version("asyncua")) != ASYNCUA:
        warnings.warn(f"asyncua {found} instead of {ASYNCUA}; moved: {moved()}", RuntimeWarning, stacklevel=2)


def silence() -> None:
    """asyncua prints whole requests at INFO, with the passwords in method arguments."""
    logging.getLogger("asyncua").setLevel(logging.WARNING)


def make_policy(uri: str, certificate: Any, key: Any, peer: bytes) -> Any:
    """A security policy between our certificate and a peer's (DER), always SignAndEncrypt. Raises LookupError."""
    kind = next((k for k in POLICIES.values() if uri == k.URI), None)
    if kind is None:
        raise LookupError(uri)
    return kind(peer, certificate, key, ua.MessageSecurityMode.SignAndEncrypt)


def no_policy() -> Any:
    return security_policies.SecurityPolicyNone()


def symmetric_keys(policy: Any, peer_nonce: bytes, own_nonce: bytes, milliseconds: int) -> Any:
    """Cryptography of one security token (Part 6 6.7.5), apart from that of the tokens before it."""
    if policy.URI != NONE_URI:
        policy.symmetric_cryptography = security_policies.Cryptography(policy.Mode)
        policy.make_local_symmetric_key(peer_nonce, own_nonce)
        policy.make_remote_symmetric_key(own_nonce, peer_nonce, milliseconds)
    return policy.symmetric_cryptography


def make_server() -> Any:
    """asyncua's Server, of which only address space and its loading are used; it never listens."""
    iserver = StandardServer()
    iserver.disabled_clock = True
    return Server(iserver=iserver)


class Row(Protocol):
    """Where a value is that asyncua's storage does not hold itself."""

    def read(self, node_id: Any, attribute: Any) -> Any:
        """DataValue of a node."""

    def put(self, row: int, data: Any) -> None:
        """A new DataValue of a row."""


def hold(cell: Any, table: Row, row: int) -> None:
    """Have a value cell of asyncua's storage read from and written to a row of a table."""
    cell.value, cell.value_callback = None, table.read
    cell.value_setter = lambda _node, _attribute, data: table.put(row, data)
