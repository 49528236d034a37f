"""F01 in the default suite; `python -m tests.fault.kill9 --runs 1000` is the whole of it."""

import subprocess
import sys


def test_nothing_acknowledged_is_lost_by_kill_9_while_frames_are_sealed() -> None:
    # In a process of its own: it forks, and must not do that beside the threads of other tests.
    command = [sys.executable, "-m", "tests.fault.kill9", "--runs", "25"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    _, rows, blocks = (int(word) for word in ran.stdout.split() if word.isdigit())
    assert rows > 0
    assert blocks > 0
