"""Whose fault an error of the database is: decides whether to try again, to stop, or to set one record aside."""

import sqlite3
from enum import Enum, auto
from typing import Final

from sqlalchemy.exc import DBAPIError


class Fault(Enum):
    STATEMENT = auto()
    """The statement's or its values': the database is well, the next statement may be carried out."""
    AWAY = auto()
    """The database cannot be reached or cannot write now. A commit that was under way may be there or not."""
    BROKEN = auto()
    """What the storage says cannot be believed until a restart: an fsync that failed may succeed the next time
    without having written."""


_SQLITE_AWAY: Final = frozenset(
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_CANTOPEN,
    }
)
_SQLITE_BROKEN: Final = frozenset(
    {
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_NOTADB,
    }
)

FENCED: Final = "ENF01"
"""SQLSTATE our function `enose_write` raises when another server has become the writer."""

_POSTGRESQL: Final = {
    "08": Fault.AWAY,  # connection
    "25": Fault.AWAY,  # read-only: a standby, or a disk that is
    "40": Fault.AWAY,  # deadlock, serialisation
    "53": Fault.AWAY,  # disk full, too many connections
    "55": Fault.AWAY,  # lock not available
    "57": Fault.AWAY,  # shutdown, crash of a backend, cancelled
    "58": Fault.AWAY,  # PostgreSQL panics by itself when an fsync fails
    "EN": Fault.BROKEN,
    "XX": Fault.BROKEN,  # internal error, corrupted data or index
}
"""Class of the SQLSTATE (PostgreSQL appendix A) -> fault; every other is the statement's."""


def fault(error: Exception) -> Fault:
    """Of an exception SQLAlchemy raised; one that is none of its own is the statement's."""
    if not isinstance(error, DBAPIError):
        return Fault.STATEMENT
    code = getattr(error.orig, "sqlite_errorcode", None)
    if code is not None:
        primary = code & 0xFF
        return Fault.AWAY if primary in _SQLITE_AWAY else Fault.BROKEN if primary in _SQLITE_BROKEN else Fault.STATEMENT
    state = getattr(error.orig, "sqlstate", None)
    if state is not None:
        return _POSTGRESQL.get(state[:2], Fault.STATEMENT)
    return Fault.AWAY if error.connection_invalidated or _unreachable(error) else Fault.STATEMENT


def _unreachable(error: DBAPIError) -> bool:
    """Psycopg names no SQLSTATE when it has no connection."""
    return type(error.orig).__name__ in ("OperationalError", "ConnectionTimeout")
