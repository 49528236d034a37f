"""What only PostgreSQL has to be asked: who may write, what survives, where rows lie."""

import asyncio
from collections.abc import Iterator
from contextlib import closing

import numpy as np
import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, insert, make_url, select
from sqlalchemy.exc import DBAPIError

from compliance import audit, verify
from compliance.tables import result
from historian import schema
from historian.chunks import HOUR, Kind
from historian.frames import Column
from historian.query import Reader
from historian.schema import engine, metadata, migrate, reading
from nodesets.errors import ConfigurationError, StorageError
from nodesets.model import Row
from nodesets.ports import Series
from tests.postgres import administration, migrated_database, new_database
from tests.unit.historian.sealing import BEGIN, sealing, settled
from tests.unit.historian.support import database, logged, populate, row, writing


@pytest.fixture
def address() -> str:
    return migrated_database()


@pytest.fixture
def made(address: str) -> Iterator[Engine]:
    with database(address) as opened:
        yield opened


def terminate(address: str) -> None:
    """Break every connection of a database."""
    name = make_url(address).database
    administration().execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s", (name,))


def test_migrations_make_the_tables_the_program_works_with() -> None:
    with database(new_database()) as made, made.begin() as connection:
        context = MigrationContext.configure(connection, opts={"include_object": _no_partition})
        assert [d for d in compare_metadata(context, metadata) if not _partition_key(d)] == []


def _no_partition(_object: object, name: str, kind: str, _reflected: bool, _other: object) -> bool:
    return not (kind == "table" and "_y" in name)


def _partition_key(difference: object) -> bool:
    """The time that partitions a table is in its key as well."""
    return "first_time" in str(difference) and "primary" in str(difference)


def test_a_second_server_is_refused_while_the_first_is_connected(
    address: str, made: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("historian.postgres.TAKEOVER_SECONDS", 0.1)
    second = engine(address)
    with pytest.raises(StorageError, match="another server writes"):
        migrate(second)
    made.dispose()
    migrate(second)
    second.dispose()


def test_a_server_another_has_taken_over_from_can_write_nothing_more(address: str, made: Engine) -> None:
    # F19, F21: it was cut off, another took over, it comes back. Its epoch is refused by the database.
    with writing(made) as old:
        old.append([row("EN02", 1, [1.0])]).result()
        terminate(address)
        with database(address) as other, writing(other) as new:
            new.append([row("EN02", 2, [2.0])]).result()
        with pytest.raises(StorageError):
            old.append([row("EN02", 3, [3.0])]).result()
        with pytest.raises(StorageError, match="become the writer"):
            old.append([row("EN02", 4, [4.0])]).result()
        assert "become the writer" in old.stopped
    report = verify.check(address)
    assert (report.clean, report.frames) == (True, 2)


def test_a_broken_connection_is_made_anew(address: str, made: Engine) -> None:
    with writing(made) as writer:
        writer.append([row("EN02", 1, [1.0])]).result()
        terminate(address)
        with pytest.raises(StorageError):
            writer.append([row("EN02", 2, [2.0])]).result()
        writer.append([row("EN02", 3, [3.0])]).result()
        assert writer.trouble == ""
    report = verify.check(address)
    assert (report.clean, report.frames) == (True, 2)


def test_a_server_that_became_a_standby_is_left_for_the_one_that_can_be_written(address: str, made: Engine) -> None:
    # F21: the session of a demoted primary stays read-only for ever; a new connection finds the new primary.
    name = make_url(address).database
    with writing(made) as writer:
        administration().execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on".encode())
        terminate(address)
        for _ in range(2):
            with pytest.raises(StorageError):
                writer.append([row("EN02", 1, [1.0])]).result()
        assert "read-only" in writer.trouble
        administration().execute(f"ALTER DATABASE {name} RESET default_transaction_read_only".encode())
        writer.append([row("EN02", 2, [2.0])]).result()
    assert verify.check(address).frames == 1


def test_what_is_committed_is_on_the_disk_whatever_the_site_s_default_is(address: str) -> None:
    name = make_url(address).database
    administration().execute(f"ALTER DATABASE {name} SET synchronous_commit = off".encode())
    with database(address) as made, made.begin() as connection:
        assert connection.exec_driver_sql("SHOW synchronous_commit").scalar() == "on"


def test_a_cluster_that_a_power_failure_would_damage_is_refused(address: str) -> None:
    def full_page_writes(setting: str) -> None:
        administration().execute(f"ALTER SYSTEM SET full_page_writes = {setting}".encode())
        administration().execute("SELECT pg_reload_conf()")

    full_page_writes("off")
    try:
        while refusal(address) is None:  # a backend takes the change over when it is told, not when we ask for it
            pass
        assert "full_page_writes off" in str(refusal(address))
    finally:
        full_page_writes("on")


def refusal(address: str) -> StorageError | None:
    opened = engine(address)
    try:
        migrate(opened)
    except StorageError as error:
        return error
    finally:
        opened.dispose()
    return None


def test_rows_lie_in_the_partition_of_their_month(address: str, made: Engine) -> None:
    def partitions() -> set[str]:
        return {str(name) for (name,) in behind_the_log(address, "SELECT DISTINCT tableoid::regclass::text FROM frame")}

    november, december = 1_795_000_000 * 10**9, 1_797_000_000 * 10**9
    with writing(made) as writer:
        writer.append([row("EN02", time, [0.0]) for time in (december, november, 0, -(2**63), 2**63 - 9)]).result()
    assert partitions() == {"frame_y2026m11", "frame_y2026m12", "frame_y1970m01", "frame_y1677m09", "frame_y2262m04"}
    assert verify.check(address).clean


def behind_the_log(address: str, statement: str) -> list[tuple[object, ...]]:
    """What somebody with rights on the database does; the rows it answers."""
    with closing(psycopg.connect(address.replace("+psycopg", ""), autocommit=True)) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def test_a_month_whose_making_was_rolled_back_is_made_again(address: str, made: Engine) -> None:
    def refuse(name: str) -> str:
        return f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION '{name}'; END $$"

    with made.begin() as connection:
        connection.exec_driver_sql(refuse("poison"))
        connection.exec_driver_sql(
            "CREATE TRIGGER poison BEFORE INSERT ON frame FOR EACH ROW WHEN (NEW.id = 1) EXECUTE FUNCTION poison()"
        )
    with writing(made) as writer:
        with pytest.raises(StorageError, match="poison"):
            writer.append([row("EN02", 7, [0.0])]).result()
        writer.submit(lambda tx: tx.exec_driver_sql("DROP TRIGGER poison ON frame")).result()
        writer.append([row("EN02", 7, [0.0])]).result()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_entry SET actor = 'mallory'",
        "DELETE FROM audit_entry WHERE seq = 1",
        "TRUNCATE audit_entry",
        "INSERT INTO audit_entry SELECT 0, prev, body, leaf, 1, ts, actor, action, object, outcome "
        "FROM audit_entry WHERE seq = 0 ON CONFLICT (seq) DO UPDATE SET actor = 'mallory'",
        "INSERT INTO audit_entry SELECT 3, prev, body, leaf, 1, ts, actor, action, object, outcome "
        "FROM audit_entry WHERE seq = 0",
    ],
)
def test_an_accident_cannot_change_the_log(made: Engine, statement: str) -> None:
    with made.begin() as tx:
        audit.append(tx, logged())
        audit.append(tx, logged())
    with pytest.raises(DBAPIError, match=r"append-only|next number"), made.begin() as tx:
        tx.exec_driver_sql(statement)


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("UPDATE batch SET lot = 'other'", "batch/batch batch_id: not as entry"),
        ("DELETE FROM signature_use", "missing; entry"),
        ("INSERT INTO layout VALUES (77, 'EN01', '[]')", "layout/77: not in the log"),
        ("UPDATE frame SET samples = '\\x0000000000000000' WHERE id = 2", "frame/2: not as recorded"),
        ("DELETE FROM frame WHERE id = 2", "not as recorded, or some before it missing"),
        ("DROP TRIGGER audit_entry_no_delete ON audit_entry", "trigger audit_entry_no_delete is missing"),
        ("ALTER TABLE audit_entry DISABLE TRIGGER audit_entry_next_only", "audit_entry_next_only is altered"),
        (
            "CREATE OR REPLACE FUNCTION audit_entry_append_only() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RETURN NULL; END $$",
            "trigger audit_entry_no_update is altered",
        ),
        ("CREATE TABLE note (x bigint); INSERT INTO note VALUES (5)", "note/5: not in the log"),
        ("ALTER TABLE frame ALTER COLUMN late DROP NOT NULL", "frame: missing, or its definition altered"),
    ],
)
def test_whatever_is_changed_behind_the_log_is_found(address: str, statement: str, expected: str) -> None:
    with database(address) as made, writing(made) as writer:
        writer.submit(populate).result()
        writer.append([row("EN02", time, [time + 0.5]) for time in range(4)]).result()
    assert verify.check(address).clean
    behind_the_log(address, statement)
    assert any(expected in str(problem) for problem in verify.check(address).problems)


def test_no_number_is_null_as_in_sqlite(made: Engine) -> None:
    # The digest of a record must be the same in both databases.
    with made.begin() as tx:
        values = {c.name: 0 if c.type.python_type is int else "" for c in result.columns}
        reals = {c.name: float("nan") for c in result.columns if c.type.python_type is float}
        tx.execute(insert(result).values(values | reals | {"batch_id": None}))
        assert set(tx.execute(select(*(result.c[name] for name in reals))).one()) == {None}


def test_history_is_the_same_in_both_databases(address: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    # Late, twice, out of order, of every kind; as frames, and sealed.
    file = tmp_path_factory.mktemp("sqlite") / "enose.db"
    of_both = [history(place) for place in (address, file)]
    for name in ("times", "received", "values", "status"):
        for ours, theirs in zip(*of_both, strict=True):
            assert getattr(ours, name).tolist() == getattr(theirs, name).tolist()
    assert verify.check(address).clean
    assert verify.check(file).clean


GROUPS = {"G": (Column("G.a"), Column("G.b", Kind.INT64), Column("G.c", Kind.STRING))}


def history(place: object) -> list[Series]:
    with database(place) as made, writing(made, GROUPS, clock=settled()) as writer:  # type: ignore[arg-type]
        seconds = [*range(0, 4000, 3), 77, 5, 5, 1000, 3999]
        writer.append([every_kind(BEGIN + second * 10**9) for second in seconds]).result()
        before = everything(place)
        with sealing(place, writer, settled()) as sealer:  # type: ignore[arg-type]
            assert sealer.seal() > 0
            assert not sealer.trouble
        return before + everything(place)


def every_kind(time: int) -> Row:
    values = np.array([time % 7 / 3, 0.0, 0.0])
    values[1:2].view(np.int64)[0] = time
    status = np.array([0, 0, 0x80000000 if time % 2 else 0], np.uint32)
    return Row(
        group="G", source_time=time, received_time=BEGIN + HOUR, values=values, status=status, texts={2: f"at {time}"}
    )


def everything(place: object) -> list[Series]:
    async def read() -> list[Series]:
        reader = Reader(reading(schema.Database(str(place)).url if isinstance(place, str) else f"sqlite:///{place}"))
        try:
            tags = [column.tag for column in GROUPS["G"]]
            forward = [await reader.read_raw(tag, 0, None, 10_000) for tag in tags]
            backward = [await reader.read_raw(tag, None, None, 500) for tag in tags]
            return [*forward, *backward]
        finally:
            reader.close()

    return asyncio.run(read())


def test_without_its_driver_postgresql_is_a_mistake_of_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "find_spec", lambda _: None)
    with pytest.raises(ConfigurationError, match="extra"):
        engine("postgresql+psycopg://nobody@nowhere/enose")


def test_a_password_is_in_no_message() -> None:
    opened = engine("postgresql+psycopg://nobody@127.0.0.1:1/enose", "hunter2-secret")
    with pytest.raises(StorageError) as told:
        migrate(opened)
    assert "hunter2" not in f"{told.value!s} {told.value.__cause__!r} {opened!r}"
    assert "hunter2" not in repr(schema.Database("x", "hunter2-secret"))
    opened.dispose()
