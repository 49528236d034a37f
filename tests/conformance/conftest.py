"""One process of the test plant for all rows, one session on each kind of channel for each module."""

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from tests.conformance.plant import CHANNELS, Conversation, Plant, running_plant


@pytest.fixture(scope="session")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    with running_plant(tmp_path_factory.mktemp("conformance")) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=CHANNELS)
async def talk(plant: Plant, request: pytest.FixtureRequest) -> AsyncIterator[Conversation]:
    """A session of op1, an operator."""
    async with plant.session(request.param) as session:
        yield session
