"""The end of the audit log as this machine last knew it: a file beside the database, not in it.

A database that is restored from a backup, or swapped for an older copy, is sound in itself; only what is known
elsewhere tells that entries are missing at its end (compliance.md 2.3, F23).
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, Engine, select
from sqlalchemy.exc import DBAPIError

from compliance import audit
from historian.schema import audit_entry
from nodesets.errors import StorageError

FILE: Final = "known.json"


@dataclass(frozen=True, slots=True)
class Known:
    """The log had so many entries, and the newest had this leaf (hex; empty before the first)."""

    entries: int = 0
    leaf: str = ""

    def missing(self, tx: Connection) -> str:
        """How the log in a database contradicts what is known; empty when it goes on from there."""
        if not self.entries:
            return ""
        length, _ = audit.head(tx)
        if length < self.entries:
            return f"the audit log has {length} entries, but {self.entries} are known to have been there"
        leaf = tx.execute(select(audit_entry.c.leaf).where(audit_entry.c.seq == self.entries - 1)).scalar()
        if leaf is None or leaf.hex() != self.leaf:
            return f"entry {self.entries - 1} of the audit log is not the one that is known to have been there"
        return ""


def load(folder: Path) -> Known:
    """What is known in a data folder. Raises StorageError for a file that cannot be read."""
    try:
        return Known(**json.loads((folder / FILE).read_text()))
    except FileNotFoundError:
        return Known()
    except (OSError, ValueError, TypeError) as error:
        raise StorageError(f"{folder / FILE}: {error}") from error


def missing(database: Engine, folder: Path) -> str:
    """How the log in a database contradicts what is known in a folder; empty when it does not. Raises StorageError."""
    known = load(folder)
    try:
        with database.connect() as connection, connection.begin():
            return known.missing(connection)
    except DBAPIError as error:
        raise StorageError(str(error.orig)) from error


def keep_end(database: Engine, folder: Path) -> None:
    """Know the end of the log in a database from now on. Raises StorageError."""
    try:
        with database.connect() as connection, connection.begin():
            end = Known(*audit.head(connection))
    except DBAPIError as error:
        raise StorageError(str(error.orig)) from error
    keep(folder, end)


def keep(folder: Path, known: Known) -> None:
    """Know it from now on. Raises StorageError."""
    part = folder / f"{FILE}.part"
    try:
        with part.open("w") as file:
            json.dump(asdict(known), file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(folder / FILE)
    except OSError as error:
        raise StorageError(f"{folder / FILE}: {error.strerror}") from error
