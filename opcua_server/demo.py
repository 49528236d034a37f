"""`enose demo`: the demo plant, its e-noses as processes of their own; accounts and a draft model at the first run."""

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

from compliance import passwords
from config import load
from config.schema import Device, Plant
from nodesets.errors import ConfigurationError, Mistake
from nodesets.model import Role
from opcua_server import app, commands, records

SCENARIOS = {"EN01": "coffee_a", "EN02": "coffee_qcm"}
PRODUCT = "COFFEE-A"
LOTS = 10
"""Simulated lots the demo product is learned from: lots, not cycles, are independent, and three hold no limit well."""
USERS = (
    ("olga", "Olga Operator", Role.OPERATOR),
    ("emil", "Emil Engineer", Role.ENGINEER),
    ("quinn", "Quinn Quality", Role.QA),
    ("rita", "Rita Release", Role.QA_RELEASE),
    ("anton", "Anton Auditor", Role.AUDITOR),
    ("mes", "Manufacturing execution system", Role.MES),
    ("admin", "Ada Admin", Role.SECURITY_ADMIN),
)
console = Console(soft_wrap=True)


def run_demo(data_dir: Path, port: int) -> None:
    """Until Ctrl-C. Devices end after the server, so that it never sees them die. Raises ConfigurationError."""
    plant = load.load(load.DEMO)
    plant = plant.model_copy(update={"server": plant.server.model_copy(update={"port": port})})
    signal.signal(
        signal.SIGTERM, lambda *_: sys.exit(0)
    )  # also while the server does not run yet, take the devices along
    with contextlib.ExitStack() as stack:
        for device in plant.devices:
            stack.enter_context(e_nose(device))
        if not (data_dir / records.DATABASE).exists():
            _first_run(plant, data_dir)
        app.serve(plant, data_dir, lambda endpoint: _tell(plant, data_dir, endpoint))


@contextlib.contextmanager
def e_nose(device: Device) -> Iterator[None]:
    """One device process. Its own session: Ctrl-C is for the server, which ends it in its turn."""
    process = subprocess.Popen(  # noqa: S603 - our own module and our own table
        [sys.executable, "-m", "opcua_server.device", "--port", str(device.port), "--physics", SCENARIOS[device.id]],
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None  # noqa: S101 - a pipe was asked for
        if not process.stdout.readline():
            raise ConfigurationError(
                [Mistake("devices", f"the e-nose {device.id} could not start on port {device.port}")]
            )
        yield
    finally:
        process.terminate()
        process.wait()


def _first_run(plant: Plant, data_dir: Path) -> None:
    """Accounts with passwords that are shown once and stored hashed only; the demo product learned, not approved."""
    table = Table("user", "name", "role", "password", title="Accounts of this demo, shown this once")
    for name, printed_name, role in USERS:
        password = passwords.generate()
        service = role is Role.MES
        arguments = {"name": name, "roles": [role], "password": password, "printed_name": printed_name}
        commands.carry_out(plant, data_dir, "users.add", {**arguments, "service": service, "must_change": False})
        table.add_row(name, printed_name, role, password)
    console.print(table)  # before anything that takes long: what is interrupted now would leave accounts nobody can use
    lots = [f"{d.id}.{d.streams[0].id}={SCENARIOS[d.id]}@{lot}" for d in plant.devices for lot in range(LOTS)]
    lines = commands.carry_out(plant, data_dir, "learn", {"product": PRODUCT, "lots": lots, "phases": []})
    console.print(f"Learned {PRODUCT} from {LOTS} simulated lots:", *lines, sep="\n  ", highlight=False)  # type: ignore[misc]


def _tell(plant: Plant, data_dir: Path, endpoint: str) -> None:
    pki = data_dir.resolve() / "pki"
    for name, value in (
        ("endpoint", endpoint),
        ("security", f"{', '.join(plant.security.policies)}, SignAndEncrypt"),
        ("certificate", str(pki / "own" / "certs" / "enose.der")),
        ("trust a client", "let it connect once, then `enose trust list` and `enose trust accept THUMBPRINT`"),
        ("", f"(or move its file from {pki / 'rejected' / 'certs'} to {pki / 'trusted' / 'certs'})"),
        ("stop", "Ctrl-C"),
    ):
        console.print(f"{name:15} {value}", highlight=False)
