"""The service while its database is away: nothing is lost, nobody waits, no GMP record changes, everybody is told."""

import asyncio
import itertools
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from asyncua import Client, ua
from sqlalchemy import make_url

from compliance import verify
from historian.schema import reading
from tests.postgres import administration, new_database
from tests.servers import Running, free_port, running

PLANT = """
site: {{id: Fault, demo: true}}
server: {{port: {port}}}
storage: {{slow: 0.3{storage}}}
devices:
  - {{id: EN01, driver: simulator, scenario: coffee_a, period: 0.1, timeout: 0.05,
     channels: [{{id: S01, range: [0, 500]}}],
     streams: [{{id: Stream01, baseline: 5, exposure: 10, purge: 5}}]}}
lines: [{{id: L01, streams: [EN01.Stream01]}}]
products: [{{id: COFFEE-A}}]
"""
VALUE = ua.NodeId("EN01.Array.S01.SensorValue", 3)
ALARM = ua.NodeId("ENose.Diagnostics.StorageFailure.Active", 3)
LEVEL = ua.NodeId(ua.ObjectIds.Server_ServiceLevel)


class Sqlite:
    """Away: another process holds the write lock."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "data" / "enose.db"
        self.address = str(self.file)
        self.storage = ""
        self.url = f"sqlite:///{self.file}"

    @contextmanager
    def away(self) -> Iterator[None]:
        with closing(sqlite3.connect(self.file, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            yield
            other.execute("ROLLBACK")


class Postgresql:
    """Away: every connection is broken, and none is taken."""

    def __init__(self, _folder: Path) -> None:
        self.address = self.url = new_database()
        self.storage = f", url: '{self.url}'"
        self.name = make_url(self.url).database

    @contextmanager
    def away(self) -> Iterator[None]:
        allow = f"ALTER DATABASE {self.name} ALLOW_CONNECTIONS"
        administration().execute(f"{allow} false".encode())
        administration().execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (self.name,)
        )
        yield
        administration().execute(f"{allow} true".encode())


Store = Sqlite | Postgresql


@pytest.fixture(params=[Sqlite, Postgresql])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    made: Store = request.param(tmp_path)
    return made


@pytest.fixture
def server(store: Store, tmp_path: Path) -> Iterator[Running]:
    config = tmp_path / "plant.yaml"
    config.write_text(PLANT.format(port=free_port(), storage=store.storage))
    with running(config, tmp_path / "data", {"op1": "Operator"}) as made:
        yield made


async def reaches(client: Client, level: int) -> None:
    while await client.get_node(LEVEL).read_value() != level:
        await asyncio.sleep(0.05)


async def newer(client: Client, than: ua.DataValue) -> ua.DataValue:
    """The next good value."""
    while True:
        value = await client.get_node(VALUE).read_data_value()
        if value.SourceTimestamp > than.SourceTimestamp and value.StatusCode.is_good():
            return value
        await asyncio.sleep(0.02)


def recorded(store: Store) -> list[int]:
    database = reading(store.url)
    with database.begin() as connection:
        query = (
            "SELECT source_time FROM frame JOIN layout ON layout.id = layout WHERE tag_group = 'EN01' ORDER BY frame.id"
        )
        times = list(connection.exec_driver_sql(query).scalars())
    database.dispose()
    return times


def refused(server: Running) -> None:
    """Nobody can log in and nothing be audited without the database: the server says so in a line, and ends."""
    attempt = server.enose("run", check=False)
    assert (attempt.returncode, attempt.stdout) == (1, "")
    assert attempt.stderr.strip()
    assert "Traceback" not in attempt.stderr


def alarms(store: Store) -> list[str]:
    """States StorageFailure went through, as recorded."""
    database = reading(store.url)
    with database.begin() as connection:
        query = "SELECT state FROM alarm_transition WHERE kind = 'StorageFailure' ORDER BY id"
        states = list(connection.exec_driver_sql(query).scalars())
    database.dispose()
    return states


async def test_an_outage_stops_no_value_and_leaves_no_hole(server: Running, store: Store) -> None:
    # F06, F07, compliance.md 2.4 item 12.
    async with server.client("op1") as client:
        await reaches(client, 255)
        value = await newer(client, await client.get_node(VALUE).read_data_value(raise_on_bad_status=False))
        with store.away():
            await reaches(client, 150)
            while not await client.get_node(ALARM).read_value():  # it says what cannot be recorded yet
                await asyncio.sleep(0.05)
            for _ in range(5):
                value = await newer(client, value)
            control = client.get_node(ua.NodeId("L01.BatchControl", 3))
            create = ua.NodeId("L01.BatchControl.CreateBatch", 3)
            with pytest.raises(ua.UaError) as refused:
                await control.call_method(create, "B1", "COFFEE-A", "", "", 1.0)
            assert not isinstance(refused.value, ua.uaerrors.BadTimeout)
        await reaches(client, 255)
        await newer(client, value)
        while await client.get_node(ALARM).read_value():
            await asyncio.sleep(0.05)
        while len(alarms(store)) < 2:  # shown at once, recorded as soon as it can be
            await asyncio.sleep(0.05)
    assert server.stop() == 0
    assert alarms(store) == ["active, unacknowledged", "returned to normal, unacknowledged"]
    times = recorded(store)
    assert times == sorted(set(times))
    steps = {round((after - before) / 1e8) for before, after in itertools.pairwise(times)}
    assert steps == {1}
    assert verify.check(store.address).clean


async def test_what_a_killed_server_kept_in_the_spool_is_recorded_by_the_next(server: Running, store: Store) -> None:
    # F01 in an outage: what clients saw is in the history.
    async with server.client("op1") as client:
        await reaches(client, 255)
        with store.away():
            await reaches(client, 150)
            value = await client.get_node(VALUE).read_data_value()
            seen = [value := await newer(client, value) for _ in range(5)]
            server.stop(9)
            refused(server)
    server.start()
    async with server.client("op1") as client:
        await reaches(client, 255)
    assert server.stop() == 0
    times = recorded(store)
    assert times == sorted(set(times))
    assert {round(v.SourceTimestamp.timestamp() * 1e6) for v in seen} <= {time // 1000 for time in times}
    assert verify.check(store.address).clean


@pytest.mark.parametrize("answers", [False, True], ids=["nobody listens", "nobody answers"])
def test_a_server_does_not_start_without_its_postgresql(tmp_path: Path, answers: bool) -> None:
    # Away for good, as it may be away for a minute: nobody waits for a server that hangs, its supervisor tries again.
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        if answers:  # takes connections, and says nothing
            listener.listen()
        url = f"postgresql+psycopg://enose@127.0.0.1:{listener.getsockname()[1]}/enose"
        config = tmp_path / "plant.yaml"
        config.write_text(PLANT.format(port=free_port(), storage=f", url: '{url}'"))
        refused(Running(config, tmp_path / "data"))


@pytest.mark.parametrize("content", [b"no database " * 1000, b"SQLite format 3\0" + bytes(8000), None])
def test_a_server_does_not_start_on_a_database_it_cannot_read(tmp_path: Path, content: bytes | None) -> None:
    # Nor does it make a new one in its place: what is there may be what is left of the records. None: a folder.
    config = tmp_path / "plant.yaml"
    config.write_text(PLANT.format(port=free_port(), storage=""))
    file = tmp_path / "data" / "enose.db"
    if content is None:
        file.mkdir(parents=True)
    else:
        file.parent.mkdir()
        file.write_bytes(content)
    refused(Running(config, file.parent))
    assert file.is_dir() if content is None else file.read_bytes() == content
