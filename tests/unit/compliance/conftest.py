from collections.abc import Iterator
from pathlib import Path

import pytest

from compliance import verify
from tests.unit.compliance.shift import Shift, database


@pytest.fixture
def shift(tmp_path: Path) -> Iterator[Shift]:
    """A shift on a real database; whatever a test did, the log bears out every row of it afterwards (R01, R09)."""
    path = tmp_path / "enose.db"
    with database(path) as engine:
        with engine.begin() as tx:
            yield Shift(tx)
        report = verify.check(path)
    assert report.clean, "\n".join(report.lines())
