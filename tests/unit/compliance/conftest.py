import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from sqlalchemy import Engine

from compliance import audit, verify
from compliance.passwords import Hasher, _encode
from compliance.users import Accounts
from config.schema import Security
from historian.writer import Writer
from tests.postgres import migrated_database
from tests.sqlite import migrated_file
from tests.unit.compliance.shift import Clock, Shift, database


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """A real database; whatever a test did, the log bears out every row of it afterwards (R01, R09)."""
    address = f"sqlite:///{migrated_file(tmp_path / 'enose.db')}" if request.param == "sqlite" else migrated_database()
    with database(address) as made:
        yield made
    report = verify.check(address.removeprefix("sqlite:///"))
    assert report.clean, "\n".join(report.lines())


@pytest.fixture
def shift(engine: Engine) -> Iterator[Shift]:
    with engine.begin() as tx:
        yield Shift(tx)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def hasher() -> Iterator[Hasher]:
    """One helper process for all tests: starting one takes a second."""
    made = Hasher()
    yield made
    made.close()


class Frugal(Hasher):
    """The real helper and the real verifying, of hashes with the least memory and passes that argon2id knows."""

    def __init__(self, real: Hasher) -> None:
        self._real = real
        self._cheapest = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)

    async def hash(self, password: str) -> str:
        return self._cheapest.hash(_encode(password))

    async def verify(self, hashed: str, password: str) -> bool:
        return await self._real.verify(hashed, password)


@pytest.fixture(scope="session")
def frugal(hasher: Hasher) -> Frugal:
    return Frugal(hasher)


@pytest.fixture
async def accounts(engine: Engine, clock: Clock, frugal: Frugal) -> AsyncIterator[Accounts]:
    """Locked after three wrong passwords for a minute; op1 and a name nobody has may come with a certificate."""
    writer = Writer(engine, {}, clock=clock, commit_seconds=0, queue=100, covered=audit.cover_history)
    writer.start()
    security = Security(login_failures=3, lockout=60.0, certificate_users={"AB" * 32: "op1", "cd" * 32: "gone"})
    made = Accounts(writer, security, clock)
    made._hasher = frugal
    made._dummy = asyncio.Future()  # what start() does, but once for all tests
    made._dummy.set_result(await frugal.hash("nobody's password"))
    yield made
    writer.close()
