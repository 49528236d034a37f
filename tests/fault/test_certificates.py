"""Certificates that were pushed survive kill -9: between their files, and of the whole service."""

import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from asyncua import ua

from opcua_server import security
from opcua_server.services import certificates
from tests.conformance.opcua import key
from tests.conformance.plant import Peer, Plant, running_plant
from tests.conformance.test_certificates import GOOD, code, der, lists, pem, update, write_list

URI = "urn:localhost:enose:Conformance"


def test_key_certificate_and_trust_list_change_as_one_under_kill_9() -> None:
    # In a process of its own: it forks, and must not do that beside the threads of other tests.
    command = [sys.executable, "-m", "tests.fault.kill9_certificates", "--runs", "60"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    _, cut, changes = (int(word) for word in ran.stdout.split() if word.isdigit())
    assert cut > 0
    assert changes > cut


async def test_what_was_applied_is_there_after_kill_9_and_in_the_audit_log(tmp_path: Path) -> None:
    # Part 12 7.10.9: Good means that the new certificate is on the disk, and the log says who pushed it.
    new = security.self_signed(key(30), URI, ["localhost"])
    with running_plant(tmp_path) as plant:
        async with plant.session("Basic256Sha256", "sec1") as talk:
            assert (await write_list(talk, lists(trusted=[plant.client.der]))).StatusCode.value == GOOD
            assert await code(talk, "UpdateCertificate", *update(der(new), "PEM", pem(key(30)))) == GOOD
            assert await code(talk, "ApplyChanges") == GOOD
        plant.running.stop(signal.SIGKILL)
        plant.running.start()
        async with Plant(plant.running, Peer(new), plant.client).session("Basic256Sha256", "sec1") as talk:
            assert (await talk.read(ua.NodeId(ua.ObjectIds.Server_ServiceLevel))).StatusCode.is_good()
    with closing(sqlite3.connect(plant.running.data / "enose.db")) as log:
        found = log.execute("SELECT action, actor, object FROM audit_entry WHERE action LIKE '%.update'").fetchall()
    assert sorted(found) == [
        ("certificate.update", "sec1", f"certificate/{security.thumbprint(der(new))}"),
        ("trust.update", "sec1", certificates.TRUST_LIST.to_string()),
    ]
