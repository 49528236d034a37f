"""Our types in asyncua's storage."""

import pytest
from asyncua import Server

from nodesets.types import NODESET
from opcua_server.services.nodes import SITE_URI, TYPES_URI
from opcua_server.services.storage import load_types


async def test_the_namespaces_have_the_indexes_clients_store() -> None:
    # Ignition writes ns=3 into its item paths (information model 1.2); a foreign model first would move it.
    server = Server()
    await server.init()
    await load_types(server)
    assert await server.get_namespace_index("http://enose.dev/UA/ENose/") == 2
    assert await server.get_namespace_index("http://enose.dev/UA/ENose/Site/") == 3
    late = Server()
    await late.init()
    await late.register_namespace("http://companion.example/")
    with pytest.raises(ValueError, match="must have index 2"):
        await load_types(late)


async def test_our_types_are_stored_as_the_library_would_store_them() -> None:
    # The import is the library's but for one step; that step must find the same references.
    def stored(server: Server) -> dict[str, list[str]]:
        nodes = server.iserver.aspace._nodes
        return {
            n.to_string(): sorted(
                f"{r.ReferenceTypeId.to_string()} {r.IsForward} {r.NodeId.to_string()}" for r in d.references
            )
            for n, d in nodes.items()
        }

    ours, theirs = Server(), Server()
    for server in (ours, theirs):
        await server.init()
    await load_types(ours)
    for uri in (TYPES_URI, SITE_URI):
        await theirs.register_namespace(uri)
    await theirs.import_xml(NODESET)
    assert stored(ours) == stored(theirs)
