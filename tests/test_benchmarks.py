"""Benchmarks answer in one form. How fast is not asked here: that depends on the machine and its neighbours."""

import json
import subprocess
import sys
from typing import Any

FORM = ["question", "value", "unit", "bar", "ok", "peer", "peer_value"]


def answers_of(name: str, *options: str) -> dict[str, Any]:
    """Answers of a benchmark by question, each in the one form."""
    program = [sys.executable, "-m", f"benchmarks.{name}", "--json", *options]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert answers, done.stderr
    for answer in answers:
        assert list(answer) == FORM
        assert isinstance(answer["value"], int | float)
        assert isinstance(answer["ok"], bool) == bool(answer["bar"])
    assert done.returncode == int(any(answer["ok"] is False for answer in answers)), done.stderr
    return {answer["question"]: answer for answer in answers}


# A short run of a small line: real processes, every question of the long one.
def test_line_scale_answers_each_question_in_the_one_form() -> None:
    asked = answers_of("line_scale", "--devices", "2", "--seconds", "2")
    assert {"frames expected", "frames received", "frames stored", "schedule overruns"} <= set(asked)
    assert asked["CPU of the server"]["peer_value"] > 0


# Real servers, ours and the peer, and what the clients heard of them.
def test_alarms_answers_each_question_in_the_one_form() -> None:
    asked = answers_of("alarms", "--only", "limits", "events", "--seconds", "1")
    assert [a["peer_value"] > 0 for a in asked.values() if a["peer"]] == [True, True]
    assert sum(bool(a["bar"]) for a in asked.values()) == 3
