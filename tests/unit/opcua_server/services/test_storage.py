"""Our types in asyncua's storage."""

import pytest
from asyncua import Server

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
