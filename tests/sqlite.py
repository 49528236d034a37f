"""SQLite files with all tables: made once for all tests, copied for each."""

import functools
import tempfile
from pathlib import Path

from historian.schema import engine, migrate


def migrated_file(path: Path) -> Path:
    """A file of its own; what is there already stays as it is."""
    if not path.exists():
        path.write_bytes(_template())
    return path


@functools.cache
def _template() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "enose.db"
        made = engine(f"sqlite:///{path}")
        migrate(made)
        made.dispose()
        return path.read_bytes()
