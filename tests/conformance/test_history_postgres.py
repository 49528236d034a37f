"""The rows of test_history.py that ask the database something of its own, with history in PostgreSQL."""

from collections.abc import Iterator

import pytest

from tests.conformance.plant import Plant, running_plant
from tests.conformance.test_history import (
    test_an_annotation_is_written_read_counted_and_taken_away,
    test_intervals_go_on_at_a_continuation_point,
    test_pages_hold_while_values_arrive,
    test_pages_of_modified_values_are_the_whole,
    test_there_is_history_of_each_type_at_the_start,
    test_values_at_times_come_in_the_order_asked_for,
)
from tests.postgres import new_database

pytestmark = pytest.mark.asyncio(loop_scope="module")

__all__ = [
    "test_an_annotation_is_written_read_counted_and_taken_away",
    "test_intervals_go_on_at_a_continuation_point",
    "test_pages_hold_while_values_arrive",
    "test_pages_of_modified_values_are_the_whole",
    "test_there_is_history_of_each_type_at_the_start",
    "test_values_at_times_come_in_the_order_asked_for",
]


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    folder = tmp_path_factory.mktemp("postgresql")
    with running_plant(folder, f"\nstorage: {{url: '{new_database()}'}}\n") as made:
        yield made
