"""A backup is whole, says what it is, and comes back in either database."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, select

from compliance import verify
from historian import backup
from historian.schema import engine, metadata, reading, writer_epoch
from nodesets.errors import StorageError
from tests.postgres import migrated_database, new_database
from tests.unit.historian.sealing import BEGIN, sealing, settled
from tests.unit.historian.support import database, populate, row, url, writing

Place = Path | str


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return tmp_path / "enose.db" if request.param == "sqlite" else migrated_database()


@pytest.fixture
def filled(place: Place) -> Iterator[Engine]:
    """Records in every table, sealed history and frames; its writer is connected."""
    with database(place) as made:
        with writing(made, clock=settled()) as writer:
            writer.submit(populate).result()
            writer.append(
                [row("EN02", BEGIN + second * 10**9, [second + 0.5]) for second in range(0, 4000, 10)]
            ).result()
            with sealing(place, writer, settled()) as sealer:
                assert sealer.seal()
        yield made


def contents(made: Engine) -> dict[str, set[tuple[object, ...]]]:
    with made.connect() as connection:
        return {
            table.name: {tuple(row) for row in connection.execute(select(table))}
            for table in metadata.sorted_tables
            if table is not writer_epoch
        }


def taken(place: Place, folder: Path) -> backup.Manifest:
    shares: list[float] = []
    source = reading(url(place))
    made = backup.back_up(source, folder, created="2026-11-20T12:00:00+00:00", software="test", progress=shares.append)
    source.dispose()
    assert shares == sorted(shares)
    return made


@pytest.mark.parametrize("target", ["sqlite", "postgresql"])
def test_what_is_backed_up_comes_back_in_either_database(
    place: Place, filled: Engine, tmp_path: Path, target: str
) -> None:
    # So a plant moves from SQLite to PostgreSQL; the audit log bears out every record there too.
    folder = tmp_path / "backup"
    manifest = taken(place, folder)
    assert backup.examine(folder) == manifest
    assert sorted(path.name for path in folder.iterdir()) == ["enose.db", "manifest.json"]
    if target == "sqlite":
        restored: Place = tmp_path / "restored.db"
        backup.restore_file(folder, tmp_path / "restored.db", lambda _: None)
    else:
        restored = new_database()
        empty = engine(restored)
        backup.restore(folder, empty, tmp_path / "scratch", lambda _: None)
        empty.dispose()
        assert not (tmp_path / "scratch").exists()
    with database(restored) as made:
        assert contents(made) == contents(filled)
        with writing(made) as writer:  # numbers go on where they ended
            writer.append([row("EN02", BEGIN + 5000 * 10**9, [1.0])]).result()
            with sealing(restored, writer, settled(9)) as sealer:
                assert sealer.seal()
                assert not sealer.trouble
    report = verify.check(restored)
    assert report.problems == []
    assert report.entries > manifest.entries


def test_a_backup_beside_a_writing_server_is_one_committed_state(filled: Engine, place: Place, tmp_path: Path) -> None:
    with writing(filled) as writer:
        waiting = [writer.append([row("EN02", BEGIN + 10**13 + n, [float(n)])]) for n in range(2000)]
        taken(place, tmp_path / "backup")
        for future in waiting:
            future.result()
    assert verify.check(tmp_path / "backup" / "enose.db").problems == []


def test_a_backup_that_was_changed_is_refused(filled: Engine, place: Place, tmp_path: Path) -> None:
    folder = tmp_path / "backup"
    taken(place, folder)
    content = (folder / "enose.db").read_bytes()
    (folder / "enose.db").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(backup.BackupInvalid, match="digest"):
        backup.examine(folder)
    (folder / "enose.db").write_bytes(content)
    manifest = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(manifest.replace('"entries": ', '"entries": 1'))
    with pytest.raises(backup.BackupInvalid, match="end where"):
        backup.examine(folder)
    (folder / "manifest.json").write_text("[]")
    with pytest.raises(backup.BackupInvalid):
        backup.examine(folder)
    with pytest.raises(backup.BackupInvalid, match="No such file"):
        backup.examine(tmp_path / "nowhere")


def test_nothing_is_written_over(filled: Engine, place: Place, tmp_path: Path) -> None:
    # Neither an earlier backup, nor a database, nor one whose write-ahead log is all that is left of it.
    folder = tmp_path / "backup"
    taken(place, folder)
    with pytest.raises(StorageError, match="already"):
        taken(place, folder)
    (tmp_path / "other.db").touch()
    with pytest.raises(StorageError, match="move it away"):
        backup.restore_file(folder, tmp_path / "other.db", lambda _: None)
    (tmp_path / "third.db-wal").touch()
    with pytest.raises(StorageError, match="move it away"):
        backup.restore_file(folder, tmp_path / "third.db", lambda _: None)
    with pytest.raises(StorageError, match="not empty"):
        backup.restore(folder, filled, tmp_path / "scratch", lambda _: None)


def test_a_disk_that_fills_leaves_no_half_backup(filled: Engine, place: Place, tmp_path: Path) -> None:
    target = tmp_path / "nodir" / "file"
    target.parent.mkdir()
    target.parent.joinpath("file.part").touch()
    with pytest.raises(StorageError):
        taken(place, target)
    assert not target.exists()
