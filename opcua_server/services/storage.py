"""Puts our types into asyncua's storage."""

from pathlib import Path

from asyncua import Server

from nodesets.types import NODESET
from opcua_server.services.nodes import SITE_NS, SITE_URI, TYPES_NS, TYPES_URI


async def load_types(server: Server, nodeset: Path = NODESET) -> None:
    """Import our types as ns=2 and reserve ns=3 for the site. Raises ValueError when the indexes are taken.

    Both are part of clients' stored addresses, so this comes before any companion model (information model 1.2).
    """
    for uri, index in ((TYPES_URI, TYPES_NS), (SITE_URI, SITE_NS)):
        if await server.register_namespace(uri) != index:
            raise ValueError(f"namespace {uri} must have index {index}: register no other namespace before it")
    await server.import_xml(nodeset)
