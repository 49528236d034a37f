"""A private cluster of PostgreSQL for the tests: started once, in a folder of its own, by whoever may start it."""

import atexit
import functools
import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

import compliance.tables  # noqa: F401 - its tables are in the metadata
from historian.schema import engine, migrate

USER = "postgres"
_NUMBERS = itertools.count(1)


def programs() -> Path | None:
    """The newest version that is installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


@functools.cache
def cluster() -> Path:
    """Folder of the socket of a running cluster; skips the test where there is no PostgreSQL."""
    bin_ = programs()
    if bin_ is None:
        pytest.skip("PostgreSQL is not installed")
    folder = Path(tempfile.mkdtemp(prefix="enose-pg-", dir="/tmp"))
    as_user = _as_user(folder)
    data = str(folder / "data")
    quiet = {"check": True, "stdout": subprocess.DEVNULL, "cwd": folder}
    subprocess.run(
        [*as_user, str(bin_ / "initdb"), "-D", data, "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C", "-N"],
        **quiet,
    )
    options = f"-k {folder} -c listen_addresses='' -c shared_buffers=64MB -c max_connections=50"
    start = [str(bin_ / "pg_ctl"), "-D", data, "-l", str(folder / "log"), "-o", options, "-w", "start"]
    subprocess.run([*as_user, *start], **quiet)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    stop = [*as_user, str(bin_ / "pg_ctl"), "-D", data, "-m", "immediate", "-w", "stop"]
    atexit.register(subprocess.run, stop, **quiet)
    return folder


def _as_user(folder: Path) -> list[str]:
    """PostgreSQL does not run as root."""
    if os.getuid() != 0:
        return []
    try:
        account = pwd.getpwnam(USER)
    except KeyError:
        pytest.skip("PostgreSQL does not run as root, and there is no account postgres")
    os.chown(folder, account.pw_uid, account.pw_gid)
    return ["runuser", "-u", USER, "--"]


def new_database() -> str:
    """Address of an empty database of its own."""
    return _made("")


def migrated_database() -> str:
    """Address of a database of its own with all tables."""
    return _made(f"TEMPLATE {_template()}")


@functools.cache
def _template() -> str:
    address = new_database()
    made = engine(address)
    migrate(made)
    made.dispose()
    return make_url(address).database or ""


def _made(how: str) -> str:
    name = f"test{next(_NUMBERS)}"
    administration().execute(f"CREATE DATABASE {name} {how}".encode())
    return f"postgresql+psycopg://{USER}@/{name}?host={cluster()}"


@functools.cache
def administration() -> psycopg.Connection[tuple[object, ...]]:
    """A connection of the superuser, outside the databases of the tests."""
    connection = psycopg.connect(f"postgresql://{USER}@/postgres?host={cluster()}", autocommit=True)
    atexit.register(connection.close)
    return connection
