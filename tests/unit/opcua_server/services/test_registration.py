"""Registration with a discovery server (Part 4 5.5.5, 5.5.6); asyncua's server plays one."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from asyncua import Client, Server, ua
from asyncua.common.utils import ServiceError
from asyncua.server.internal_server import InternalServer
from cryptography.hazmat.primitives import serialization

from opcua_server.services import registration
from tests.conformance.opcua import SERVER_URI, Application, application, serve
from tests.servers import free_port

LDS_URI = "urn:test:lds"


class Directory(InternalServer):
    """What asyncua keeps of who registered; `old`: knows RegisterServer alone."""

    def __init__(self, old: bool) -> None:
        super().__init__()
        self.old = old
        self.heard: list[tuple[ua.RegisteredServer, Any]] = []
        self.news = asyncio.Event()

    def register_server(self, server: ua.RegisteredServer, conf: Any = None) -> None:
        if self.old and conf is not None:
            raise ServiceError(ua.StatusCodes.BadServiceUnsupported)
        super().register_server(server, conf)
        self.heard.append((server, conf))
        self.news.set()

    async def next(self) -> tuple[ua.RegisteredServer, Any]:
        async with asyncio.timeout(30):
            await self.news.wait()
        self.news.clear()
        return self.heard[-1]


@asynccontextmanager
async def directory(*, old: bool = False) -> AsyncIterator[tuple[Directory, Application, str]]:
    app = application(40, LDS_URI, "lds")
    found = Directory(old)
    server = Server(iserver=found)
    await server.init()
    url = f"opc.tcp://127.0.0.1:{free_port()}"
    server.set_endpoint(url)
    server.set_security_policy([ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt])
    await server.set_application_uri(LDS_URI)
    key = app.key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    await server.load_certificate(app.der, "der")
    await server.load_private_key(key, format="der")
    async with server:
        yield found, app, url


def trusting(data_dir: Path, app: Application) -> Path:
    folder = data_dir / "pki/trusted/certs"
    folder.mkdir(parents=True)
    (folder / "lds.der").write_bytes(app.der)
    return data_dir


@pytest.mark.parametrize("old", [False, True])
async def test_a_server_registers_until_it_stops(tmp_path: Path, old: bool) -> None:
    # RegisterServer2 with what multicast listeners are told; RegisterServer where the other is not known.
    async with directory(old=old) as (lds, app, url):
        async with serve(trusting(tmp_path, app), discovery=url, discovery_period=0.1) as bench:
            for _ in range(2):  # again and again
                server, conf = await lds.next()
                assert (server.ServerUri, server.IsOnline, server.DiscoveryUrls) == (
                    SERVER_URI,
                    True,
                    [f"opc.tcp://localhost:{bench.server.port}"],
                )
                assert (conf is None) == old
            listed = await Client(url).connect_and_find_servers()
            assert SERVER_URI in [description.ApplicationUri for description in listed]
        assert [server.IsOnline for server, _ in lds.heard][-1] is False


async def test_a_discovery_server_nobody_trusts_is_told_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = asyncio.Event()
    check: Callable[..., None] = registration.TrustStore.check

    def checked(*arguments: Any) -> None:
        tried.set()
        check(*arguments)

    monkeypatch.setattr(registration.TrustStore, "check", checked)
    async with directory() as (lds, _, url), serve(tmp_path, discovery=url, discovery_period=0.05):
        async with asyncio.timeout(30):
            await tried.wait()
    assert lds.heard == []
    assert "not registered" in caplog.text
    assert caplog.text.count("not registered") == 1  # however often it is tried


async def test_a_discovery_server_that_is_not_there_costs_nothing(tmp_path: Path) -> None:
    async with serve(tmp_path, discovery=f"opc.tcp://127.0.0.1:{free_port()}", discovery_period=0.05) as bench:
        assert await Client(bench.url).connect_and_get_server_endpoints()
