"""A backup is taken beside a running server; what is restored is not taken for the present (F23)."""

import shutil
from pathlib import Path

import pytest

from compliance import verify
from tests.fault.test_storage import PLANT
from tests.servers import Running, free_port


@pytest.fixture
def server(tmp_path: Path) -> Running:
    config = tmp_path / "plant.yaml"
    config.write_text(PLANT.format(port=free_port(), storage=""))
    made = Running(config, tmp_path / "data")
    made.add_user("sec1", "SecurityAdmin")
    made.add_user("qa1", "QA")
    return made


def test_a_restored_older_state_is_accepted_by_two_people_or_not_at_all(server: Running, tmp_path: Path) -> None:
    folder = tmp_path / "backup"
    with server.started():
        server.enose("backup", str(folder))
        assert {path.name for path in folder.rglob("*")} == {"enose.db", "manifest.json"}  # no key, no certificate
        server.add_user("late1", "Operator")
        assert server.stop() == 0
    assert "clean" in server.enose("restore", str(folder), "--verify").stdout
    refused = server.enose("restore", str(folder), check=False)
    assert (refused.returncode, "move it away" in refused.stderr) == (1, True)

    shutil.move(server.data / "enose.db", tmp_path / "away.db")
    for beside in server.data.glob("enose.db-*"):
        beside.unlink()
    told = server.enose("restore", str(folder))
    assert "are known to have been there" in told.stderr
    refused = server.enose("run", check=False)
    assert (refused.returncode, "accept-restored" in refused.stderr) == (1, True)

    wrong = accept(server, "sec1", "sec1", check=False)
    assert (wrong.returncode, "may not accept" in wrong.stderr) == (1, True)
    assert server.enose("run", check=False).returncode == 1
    assert "accepted" in accept(server, "sec1", "qa1").stdout
    with server.started():
        assert "late1" not in server.enose("users", "list").stdout
        assert server.stop() == 0
    assert verify.check(server.data / "enose.db").clean
    again = accept(server, "sec1", "qa1", check=False)
    assert (again.returncode, "nothing is missing" in again.stderr) == (1, True)


def accept(server: Running, administrator: str, qa: str, *, check: bool = True):  # type: ignore[no-untyped-def]
    passwords = f"{server.passwords[administrator]}\n{server.passwords[qa]}\n"
    options = ["--administrator", administrator, "--qa", qa, "--reason", "disk replaced"]
    return server.enose("accept-restored", *options, given=passwords, check=check)
