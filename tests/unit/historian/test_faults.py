"""Which errors of a database mean what."""

import sqlite3

import pytest
from sqlalchemy.exc import DBAPIError

from historian.faults import Fault, fault


class Sqlite(Exception):
    def __init__(self, code: int) -> None:
        self.sqlite_errorcode = code


class Postgresql(Exception):
    def __init__(self, state: str | None) -> None:
        self.sqlstate = state


class OperationalError(Postgresql):
    """Psycopg's name for a connection that cannot be had."""


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (Sqlite(sqlite3.SQLITE_FULL), Fault.AWAY),
        (Sqlite(sqlite3.SQLITE_BUSY_SNAPSHOT), Fault.AWAY),
        (Sqlite(sqlite3.SQLITE_READONLY_DBMOVED), Fault.AWAY),
        (Sqlite(sqlite3.SQLITE_IOERR_FSYNC), Fault.BROKEN),  # F05
        (Sqlite(sqlite3.SQLITE_CORRUPT), Fault.BROKEN),
        (Sqlite(sqlite3.SQLITE_CONSTRAINT_TRIGGER), Fault.STATEMENT),
        (Postgresql("57P01"), Fault.AWAY),  # the administrator stops the server
        (Postgresql("53100"), Fault.AWAY),  # disk full
        (Postgresql("25006"), Fault.AWAY),  # a standby
        (Postgresql("ENF01"), Fault.BROKEN),  # another server writes
        (Postgresql("XX001"), Fault.BROKEN),  # data corrupted
        (Postgresql("23505"), Fault.STATEMENT),
        (OperationalError(None), Fault.AWAY),  # connection refused
    ],
)
def test_an_error_of_the_database_is_of_one_kind(error: Exception, expected: Fault) -> None:
    assert fault(DBAPIError("statement", None, error)) is expected


def test_any_other_error_is_the_statement_s() -> None:
    assert fault(ValueError()) is Fault.STATEMENT
