"""What the spool has confirmed comes out of it again, and what is damaged is counted."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from historian.frames import typed
from historian.spool import Gap, Spool
from nodesets.errors import StorageError
from nodesets.model import Row
from tests.unit.historian.support import GROUPS, child, row

LIMIT = 1 << 20


def spool(folder: Path, *, limit: int = LIMIT, reserve: int = 0) -> Spool:
    return Spool(folder, GROUPS, limit=limit, reserve=reserve)


def put(made: Spool, *rows: Row) -> None:
    made.put_rows(made.encoded(rows), len(rows), made.last + len(rows))
    made.flush()


def times(made: Spool) -> list[int]:
    return [one.source_time for record in made.read(made.begin, 10**9) for one in record.rows]


def test_rows_come_out_as_they_went_in_after_a_restart(tmp_path: Path) -> None:
    made = spool(tmp_path)
    put(made, row("EN01", 1, [1.5, -0.0, float("inf")], [0, 1, 2**32 - 1]), row("EN02", -5, [7.0]))
    put(made, row("EN02", 2, [8.0]))
    made.close()
    again = spool(tmp_path)
    assert (again.stream, again.rows, again.last) == (made.stream, 3, 3)
    first, second = again.read(again.begin, 10)
    assert [(r.group, r.source_time, r.received_time, r.values.tolist(), r.status.tolist()) for r in first.rows] == [
        ("EN01", 1, 6, [1.5, -0.0, float("inf")], [0, 1, 2**32 - 1]),
        ("EN02", -5, 0, [7.0], [0]),
    ]
    assert (first.last, second.last, second.start) == (2, 3, first.end)
    again.close()


def test_a_file_begun_anew_keeps_its_numbers_and_shows_nothing_of_before(tmp_path: Path) -> None:
    made = spool(tmp_path, reserve=1 << 16)
    for time in range(50):
        put(made, row("EN02", time, [0.0]))
    made.restart()
    put(made, row("EN02", 99, [0.0]))
    made.close()
    again = spool(tmp_path, reserve=1 << 16)
    assert (times(again), again.last, again.damaged) == ([99], 51, 0)
    again.close()


def test_rows_of_other_columns_are_kept_with_the_columns_they_had(tmp_path: Path) -> None:
    made = spool(tmp_path)
    put(made, row("EN02", 1, [1.0]))
    made.close()
    other = Spool(tmp_path, {"EN02": ("EN02.S01", "EN02.S02")}, limit=LIMIT, reserve=0)
    assert other.groups == typed(GROUPS)
    other.restart()
    other.close()
    empty = Spool(tmp_path, {"EN03": ("x",)}, limit=LIMIT, reserve=0)
    assert empty.groups == typed({"EN03": ("x",)})
    empty.close()


@given(cut=st.integers(0, 400), data=st.data())
@settings(max_examples=60, deadline=None)
def test_whatever_is_cut_off_or_flipped_only_unsound_records_are_missing(
    tmp_path_factory: pytest.TempPathFactory, cut: int, data: st.DataObject
) -> None:
    # A torn tail is what nobody was told of; a flipped byte costs its record, is counted, and hides no other.
    folder = tmp_path_factory.mktemp("spool")
    made = spool(folder)
    ends = []
    for time in range(8):
        put(made, row("EN02", time, [float(time)]))
        ends.append(made.read(made.begin, 10**9)[-1].end)
    begin = made.begin
    made.close()
    path = folder / "rows"
    content = bytearray(path.read_bytes()[: ends[-1]])
    flipped = data.draw(st.integers(begin, len(content) - 1))
    content[flipped] ^= data.draw(st.integers(1, 255))
    content = content[: max(begin, len(content) - cut)]
    path.write_bytes(content)
    again = spool(folder)
    bounds = list(zip([begin, *ends], ends, strict=False))
    expected = [time for time, (start, end) in enumerate(bounds) if end <= len(content) and not start <= flipped < end]
    assert times(again) == expected
    again.close()


def test_damage_is_counted(tmp_path: Path) -> None:
    made = spool(tmp_path)
    for time in range(3):
        put(made, row("EN02", time, [float(time)]))
    _, second, third = made.read(made.begin, 10)
    made.close()
    with (tmp_path / "rows").open("r+b") as file:
        file.seek(second.start + 40)
        file.write(b"\xff")
    again = spool(tmp_path)
    assert (times(again), again.last) == ([0, 2], 3)
    assert again.damaged >= third.start - second.start
    again.close()


def test_a_spool_that_cannot_be_read_at_all_is_kept(tmp_path: Path) -> None:
    made = spool(tmp_path)
    put(made, row("EN02", 1, [1.0]))
    made.close()
    content = (tmp_path / "rows").read_bytes()
    (tmp_path / "rows").write_bytes(b"XXXX" + content[4:])
    again = spool(tmp_path)
    assert (again.rows, again.damaged) == (0, len(content))
    [kept] = tmp_path.glob("damaged-*")
    assert kept.read_bytes()[4:] == content[4:]
    again.close()


def test_a_gap_that_began_is_known_after_a_restart_until_it_ended(tmp_path: Path) -> None:
    made = spool(tmp_path)
    made.put_gap(Gap("EN02", 5, 5, 1, open=True), 1)
    made.put_gap(Gap("EN01", 6, 9, 3, open=True), 2)
    made.put_gap(Gap("EN01", 6, 9, 3, open=False, begun=True), 3)
    made.flush()
    made.close()
    again = spool(tmp_path)
    assert again.open_gaps == {"EN02": Gap("EN02", 5, 5, 0, open=True, begun=True)}
    again.close()


def test_the_bound_leaves_room_for_notes(tmp_path: Path) -> None:
    made = spool(tmp_path, limit=8192)
    content = made.encoded([row("EN02", 1, [1.0])])
    while made.room(len(content)):
        put(made, row("EN02", 1, [1.0]))
    assert made.rows > 10
    assert made.room(len(content), notes=True)
    assert (tmp_path / "rows").stat().st_size <= 8192
    made.close()


def test_a_full_disk_does_not_stop_the_reserved_part(tmp_path: Path) -> None:
    # F04: "spool reserve used". The disk is a file system of 1 MiB; whoever filled it left the spool its reserve.
    command = ["unshare", "--mount", "--map-root-user", *child("full", str(tmp_path))]
    ran = subprocess.run(command, check=False, capture_output=True, text=True)
    if "unshare" in ran.stderr or "mount" in ran.stderr:
        pytest.skip(f"needs leave to mount: {ran.stderr.strip()}")
    assert ran.stdout.split() == ["kept", "refused", "kept"], ran.stderr


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler to preload a failing fsync")
def test_a_failed_fsync_is_never_retried_as_success(tmp_path: Path) -> None:
    # F05: also of the spool. What it confirmed before stands.
    library, fault = tmp_path / "fsync.so", tmp_path / "fault"
    source = Path(__file__).with_name("fsync.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True)
    environment = os.environ | {"LD_PRELOAD": str(library), "FAULT": str(fault)}
    command = child("unsynced", str(tmp_path / "spool"), str(fault))
    ran = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    assert ran.stdout.split() == ["kept", "refused", "refused"]
    again = spool(tmp_path / "spool")
    assert times(again)[0] == 1
    assert 3 not in times(again)
    again.close()


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="file"):
        spool(tmp_path / "file" / "spool")
