"""`enose demo` as a user runs it, but for the ports of its devices, which may be taken on this machine."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import yaml

from config import load
from tests.servers import Running, environment, free_port

ENOSE = """
import sys
from pathlib import Path
from config import load
load.DEMO = Path(sys.argv.pop(1))
from opcua_server.cli import app
app()
"""


@pytest.fixture
def plant_file(tmp_path: Path) -> Path:
    plant = yaml.safe_load(load.DEMO.read_text())
    for device in plant["devices"]:
        device["port"] = free_port()
    path = tmp_path / "demo.yaml"
    path.write_text(yaml.safe_dump(plant))
    return path


@contextmanager
def demo(plant_file: Path, data: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The running demo, and what it has printed when it is ready."""
    command = [sys.executable, "-c", ENOSE, str(plant_file), "demo", "--data-dir", str(data), "--port"]
    with subprocess.Popen(
        [*command, str(free_port())], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    ) as process:
        try:
            assert process.stdout is not None
            printed = ""
            while not printed.endswith("Ctrl-C\n"):
                line = process.stdout.readline()
                assert line, process.communicate()
                printed += line
            yield process, printed
        finally:
            process.kill()


def endpoint(printed: str) -> str:
    found = re.search(r"opc\.tcp://\S+", printed)
    assert found
    return found[0]


async def test_the_demo_shows_its_passwords_once_and_ends_in_order(plant_file: Path, tmp_path: Path) -> None:
    server = Running(plant_file, tmp_path / "data")
    for first in (True, False):
        with demo(plant_file, server.data) as (process, printed):
            if first:
                for user, password in re.findall(r"│ (\w+) +│.*│ (\S+) +│\n", printed):
                    server.passwords[user] = password
                assert set(server.passwords) >= {"olga", "quinn", "rita", "mes", "admin"}
                assert "draft COFFEE-A/1" in printed
            else:
                assert not any(password in printed for password in server.passwords.values())
            server.endpoint = endpoint(printed)
            async with server.client("olga") as client:
                assert await client.get_node("ns=3;s=ENose.Diagnostics.DemoMode").read_value() is True
            children = psutil.Process(process.pid).children()
            devices = [child for child in children if "opcua_server.device" in child.cmdline()]
            assert len(devices) == 2
            process.send_signal(signal.SIGINT)
            _, told = process.communicate()
            assert process.returncode == 0, told
            # The devices end after the server, which so never sees them die.
            assert "EN0" not in told.partition("stopping")[2]
            assert not any(device.is_running() for device in devices)
