"""Benchmarks answer in one form. How fast is not asked here: that depends on the machine and its neighbours."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FORM = ["question", "value", "unit", "bar", "ok", "peer", "peer_value"]


def answers(*program: str) -> dict[str, dict[str, Any]]:
    """What a benchmark answers, by question; its exit code says whether a bar was missed."""
    done = subprocess.run([sys.executable, "-m", *program, "--json"], capture_output=True, text=True, check=False)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert found, done.stderr
    for answer in found:
        assert list(answer) == FORM
        assert isinstance(answer["value"], int | float)
        assert isinstance(answer["ok"], bool) == bool(answer["bar"])
    assert done.returncode == int(any(answer["ok"] is False for answer in found)), done.stderr
    return {answer["question"]: answer for answer in found}


# A short run of a small line: real processes, every question of the long one.
def test_line_scale_answers_each_question_in_the_one_form() -> None:
    asked = answers("benchmarks.line_scale", "--devices", "2", "--seconds", "2")
    assert {"frames expected", "frames received", "frames stored", "schedule overruns"} <= set(asked)
    assert asked["CPU of the server"]["peer_value"] > 0


# The part of it that needs no history first; a kill and the disk are faults and have tests of their own.
def test_the_historian_answers_how_fast_it_records(tmp_path: Path) -> None:
    asked = answers("benchmarks.historian", "--only", "ingest", "--seconds", "1", "--folder", str(tmp_path))
    assert asked["ingest of 3,200 channels, durable"]["value"] > 0
    assert asked["ingest of 3,200 channels, durable"]["peer_value"] > 0
    assert {"the same by the clock", "from row to disk, p99"} <= set(asked)
    assert list(tmp_path.iterdir()) == []


# Real servers, ours and the peer, and what the clients heard of them.
def test_alarms_answers_each_question_in_the_one_form(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("alarms")  # a socket's path is short
    options = ("--only", "limits", "events", "--seconds", "1", "--folder", str(folder))
    asked = answers("benchmarks.alarms", *options)
    assert [a["peer_value"] > 0 for a in asked.values() if a["peer"]] == [True, True]
    assert sum(bool(a["bar"]) for a in asked.values()) == 3
    assert list(folder.iterdir()) == []
