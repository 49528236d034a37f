"""Benchmarks answer in one form. How fast is not asked here: that depends on the machine and its neighbours."""

import json
import subprocess
import sys

FORM = ["question", "value", "unit", "bar", "ok", "peer", "peer_value"]


# A short run of a small line: real processes, every question of the long one.
def test_line_scale_answers_each_question_in_the_one_form() -> None:
    program = [sys.executable, "-m", "benchmarks.line_scale", "--json", "--devices", "2", "--seconds", "2"]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert answers, done.stderr
    for answer in answers:
        assert list(answer) == FORM
        assert isinstance(answer["value"], int | float)
        assert isinstance(answer["ok"], bool) == bool(answer["bar"])
    asked = {answer["question"]: answer for answer in answers}
    assert {"frames expected", "frames received", "frames stored", "schedule overruns"} <= set(asked)
    assert asked["CPU of the server"]["peer_value"] > 0
    assert done.returncode == int(any(answer["ok"] is False for answer in answers))
