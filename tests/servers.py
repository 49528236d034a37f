"""Real processes for tests and benchmarks: `enose run` and `enose device`, as a user starts them."""

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from asyncua import Client
from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from opcua_server import admin
from opcua_server.security import self_signed

ENOSE = [sys.executable, "-m", "opcua_server"]
CLIENT_URI = "urn:localhost:enose:test-client"
START_SECONDS = 60
"""Longest a process may take to say that it is ready, on a machine with much else to do."""


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def environment() -> dict[str, str]:
    """Of a process as a user starts it: its modules are compiled once, not at every start."""
    return {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": ""}


@contextlib.contextmanager
def device(port: int, *options: str) -> Iterator[subprocess.Popen[str]]:
    """An e-nose process that listens."""
    process = subprocess.Popen(
        [*ENOSE, "device", "--port", str(port), *options], stdout=subprocess.PIPE, text=True, env=environment()
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline(), "the device did not start"
        yield process
    finally:
        process.kill()
        process.communicate()


@dataclass
class Running:
    """A plant on disk, and its server process while one runs."""

    config: Path
    data: Path
    passwords: dict[str, str] = field(default_factory=dict)
    endpoint: str = ""
    process: subprocess.Popen[str] | None = None
    log: Path = field(init=False)

    def __post_init__(self) -> None:
        self.log = self.data.with_suffix(".log")

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def enose(self, *arguments: str, given: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command of `enose` on this plant."""
        where = ["--config", str(self.config), "--data-dir", str(self.data)]
        return subprocess.run(
            [*ENOSE, *arguments, *where], input=given, capture_output=True, text=True, check=check, env=environment()
        )

    def add_user(self, name: str, *roles: str, service: bool = False, password: str = "") -> None:
        """Beside a running server without a process of its own for the command."""
        self.passwords[name] = password = password or f"{secrets.token_hex(8)}-Aa1"
        if self.process is not None:
            account = {"name": name, "printed_name": name, "roles": roles, "service": service, "password": password}
            admin.ask(self.data, "users.add", account)
            return
        options = [x for role in roles for x in ("--role", role)] + (["--service"] if service else [])
        self.enose("users", "add", name, *options, given=f"{password}\n")

    def start(self) -> None:
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [*ENOSE, "run", "--config", str(self.config), "--data-dir", str(self.data)],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment(),
            )
        assert self.process.stdout is not None
        self.endpoint = self.process.stdout.readline().strip()
        assert self.endpoint, self.log.read_text()

    @contextlib.contextmanager
    def started(self) -> Iterator[None]:
        """Started, and killed at the end unless it was stopped before."""
        self.start()
        try:
            yield
        finally:
            if self.process is not None:
                self.stop(signal.SIGKILL)

    def stop(self, with_signal: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(with_signal)
        self.process.communicate(timeout=START_SECONDS)
        code = self.process.returncode
        self.process = None
        return code

    @contextlib.asynccontextmanager
    async def client(self, user: str | None) -> AsyncIterator[Client]:
        """A session of asyncua's client over Basic256Sha256 SignAndEncrypt; its certificate is trusted.

        None: anonymous.
        """
        certificate_file, key_file = self.credentials()
        client = Client(self.endpoint, timeout=30, watchdog_intervall=30)  # its own second is short on a busy machine
        client.application_uri = CLIENT_URI
        await client.set_security(
            SecurityPolicyBasic256Sha256,
            str(certificate_file),
            str(key_file),
            server_certificate=str(self.data / "pki" / "own" / "certs" / "enose.der"),
        )
        if user is not None:
            client.set_user(user)
            client.set_password(self.passwords[user])
        async with client:
            yield client

    def credentials(self) -> tuple[Path, Path]:
        """Certificate and key of the test client; made, and trusted by the server, at the first call."""
        folder = self.data.parent / "client"
        folder.mkdir(exist_ok=True)
        key_file, certificate_file = folder / "key.pem", folder / "certificate.der"
        if not key_file.exists():
            key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
            key_file.write_bytes(
                key.private_bytes(
                    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
                )
            )
            certificate = self_signed(key, CLIENT_URI, [socket.gethostname()], name="test client")
            certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.DER))
        self.trust(certificate_file)
        return certificate_file, key_file

    def trust(self, certificate: Path) -> None:
        target = self.data / "pki" / "trusted" / "certs" / certificate.name
        if not target.exists():
            target.write_bytes(certificate.read_bytes())


@contextlib.contextmanager
def running(config: Path, data: Path, users: Mapping[str, str | Sequence[str]]) -> Iterator[Running]:
    """`enose run` with these users (name -> role or roles)."""
    server = Running(config, data)
    with server.started():
        for name, roles in users.items():
            server.add_user(name, *([roles] if isinstance(roles, str) else roles))
        yield server
