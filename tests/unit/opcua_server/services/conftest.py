"""One running server for all tests of the services, which leave it as they found it."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.conformance.opcua import Bench, Raw, serve


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def bench(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    async with serve(tmp_path_factory.mktemp("data")) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def raw(bench: Bench) -> AsyncIterator[Raw]:
    """A client logged in as anna, an operator."""
    async with Raw(bench) as client:
        await client.login()
        yield client
