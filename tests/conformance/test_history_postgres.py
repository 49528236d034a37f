"""Every row of test_history.py again, with the history in PostgreSQL."""

from collections.abc import Iterator

import pytest

from tests.conformance.plant import Plant, running_plant
from tests.conformance.test_history import *  # noqa: F403 - every row
from tests.postgres import new_database


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    folder = tmp_path_factory.mktemp("postgresql")
    with running_plant(folder, f"\nstorage: {{url: '{new_database()}'}}\n") as made:
        yield made
