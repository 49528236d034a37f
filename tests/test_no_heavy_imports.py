"""What the server imports is what it waits for at every start, and what a fault in it can bring down."""

import subprocess
import sys

HEAVY = {"sklearn", "scipy", "pandas", "anthropic"}
"""Needed by learning and by agents, each in a process of its own, or not at all."""


def test_the_server_imports_no_library_of_learning_or_of_language_models() -> None:
    program = "import sys, opcua_server.app; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert "opcua_server" in loaded
    assert not HEAVY & set(loaded)
