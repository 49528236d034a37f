"""Recordings."""

from pathlib import Path

import numpy as np
import pytest

from nodesets.errors import ConfigurationError, DeviceError
from nodesets.model import Phase
from opcua_server.device.replay import Replay, load_recording

TEXT = """timestamp,NO2,Alcohol,Benzene,Label,Temperature,Humidity,Altitude
0,1.5,,4294967295,nuts,21,40,100
1,2.5,nan,7,nuts,22,41,101
2,3.5,9,8,nuts,23,42,102
"""


def recording(tmp_path: Path, text: str = TEXT, columns: tuple[str, ...] = ()):
    path = tmp_path / "recording.csv"
    path.write_text(text)
    return load_recording(path, columns)


def test_columns_of_numbers_are_channels_and_known_quantities_are_the_air(tmp_path: Path) -> None:
    r = recording(tmp_path)
    assert r.names == ("NO2", "Alcohol", "Benzene", "Altitude")
    assert r.environment["RelativeHumidity"].tolist() == [40, 41, 42]
    assert np.isnan(r.channels[:2, 1]).all()
    assert r.channels[0, 2] == 4294967295.0


def test_named_columns_are_the_channels_in_that_order(tmp_path: Path) -> None:
    r = recording(tmp_path, columns=("Benzene", "Temperature"))
    assert r.names == ("Benzene", "Temperature")
    assert "Temperature" not in r.environment


@pytest.mark.parametrize(
    ("text", "columns", "message"),
    [
        ("", (), "header"),
        ("a,b\n", (), "no rows"),
        ("a,b\n1,2\n1\n", (), "cells"),
        ("a,b\n1,2\n", ("c",), "no column"),
        ("a,b\nx,2\n", ("a",), "numbers"),
        ("label\nx\n", (), "0 channels"),
        ("a,phase\n1,lunch\n", (), "no phase"),
    ],
)
def test_unusable_file_is_refused_with_the_reason(
    tmp_path: Path, text: str, columns: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        recording(tmp_path, text, columns)


def long(tmp_path: Path, rows: int = 45):
    return recording(tmp_path, "a\n" + "".join(f"{i}\n" for i in range(rows)))


def test_phases_are_laid_over_the_rows(tmp_path: Path) -> None:
    replay = Replay(long(tmp_path), phases=(5, 10, 5))
    told = [(s.phase, s.cycle, s.channels[0]) for i in range(45) if (s := replay.at(i))]
    assert [t[0] for t in told[:20]] == [Phase.BASELINE] * 5 + [Phase.EXPOSURE] * 10 + [Phase.PURGE] * 5
    assert [t[1] for t in told] == [1] * 20 + [2] * 20 + [3] * 5
    assert [t[2] for t in told] == list(range(45))


def test_phase_column_of_the_file_is_played_and_counts_cycles(tmp_path: Path) -> None:
    rows = ["idle", "baseline", "exposure", "purge", "1", "2"]
    replay = Replay(recording(tmp_path, "a,phase\n" + "".join(f"1,{p}\n" for p in rows)), loop=True)
    told = [(int(s.phase), s.cycle) for i in range(12) if (s := replay.at(i))]
    assert [p for p, _ in told] == [0, 1, 2, 3, 1, 2] * 2
    cycles = [c for _, c in told]
    assert cycles == sorted(cycles)
    assert cycles[1] < cycles[4] < cycles[7]


def test_recording_ends_unless_it_loops(tmp_path: Path) -> None:
    assert Replay(long(tmp_path)).at(45) is None
    assert Replay(long(tmp_path), loop=True).at(46).channels[0] == 1.0


def test_start_and_stop_move_the_cycles(tmp_path: Path) -> None:
    replay = Replay(long(tmp_path), phases=(5, 10, 5))
    replay.command("stop", 0.0, 8)
    assert (replay.at(8).phase, replay.at(8).cycle) == (Phase.IDLE, 1)
    replay.command("start_cycle", 0.0, 12)
    assert (replay.at(12).phase, replay.at(12).cycle) == (Phase.BASELINE, 2)
    with pytest.raises(DeviceError):
        replay.command("zero", 0.0, 13)
