"""What clients leave behind; the rest is tests/conformance/test_certificates.py."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from asyncua import ua

from nodesets.model import Caller, Role
from opcua_server import security
from opcua_server.services.certificates import ACTIVITY_TIMEOUT, Certificates
from opcua_server.services.limits import Limits
from opcua_server.services.status import Fault
from tests.unit.historian.support import SteppedClock

IDS, NULL = ua.ObjectIds, ua.NodeId()
LIST = "ServerConfiguration_CertificateGroups_DefaultApplicationGroup_TrustList"
ADMIN = Caller(user="sec", roles=frozenset({Role.SECURITY_ADMIN}), session="one")
Handler = Callable[[Caller, Any, tuple[Any, ...]], Awaitable[Sequence[Any]]]


class Bench:
    def __init__(self, data_dir: Path) -> None:
        self.clock = SteppedClock()
        self.values: dict[Any, Any] = {}
        self._handlers: dict[Any, Handler] = {}
        own = security.OwnCertificate(data_dir, "urn:test", security.load_identity(data_dir, "urn:test", ["localhost"]))
        self.sessions = {ADMIN.session}
        self.certificates = Certificates(
            trust=security.TrustStore(data_dir),
            own=own,
            limits=Limits(),
            clock=self.clock,
            write=self._write,
            tell=lambda _: None,
            changed=lambda **_: None,
            alive=self.sessions.__contains__,
        )
        self.certificates.link(self._link, lambda *_: None, lambda *_: None)

    def _write(self, node: Any, value: Any, *_: int) -> None:
        self.values[node] = value.Value

    def _link(self, method: Any, handler: Handler, *_: Any, **__: Any) -> None:
        self._handlers[method] = handler

    async def __call__(self, name: str, *arguments: Any) -> Sequence[Any]:
        return await self._handlers[ua.NodeId(getattr(IDS, name))](ADMIN, None, arguments)

    @property
    def open_count(self) -> int:
        return int(self.values[ua.NodeId(getattr(IDS, f"{LIST}_OpenCount"))])


async def test_a_file_nobody_touches_is_closed(tmp_path: Path) -> None:
    # Part 12 7.8.2.1 ActivityTimeout: a certificate manager that hangs must not keep the others out.
    bench = Bench(tmp_path)
    [writing] = await bench(f"{LIST}_Open", 6)
    bench.clock.seconds = ACTIVITY_TIMEOUT
    bench.certificates.sweep()
    assert await bench(f"{LIST}_GetPosition", writing) == (0,)
    bench.clock.seconds = 2 * ACTIVITY_TIMEOUT
    bench.certificates.sweep()
    assert bench.open_count == 1
    bench.clock.seconds += 1
    bench.certificates.sweep()
    assert bench.open_count == 0
    with pytest.raises(Fault) as refused:
        await bench(f"{LIST}_CloseAndUpdate", writing)
    assert refused.value.status == ua.StatusCodes.BadInvalidArgument


async def test_a_call_that_comes_after_its_session_leaves_nothing_behind(tmp_path: Path) -> None:
    # 7.10.2: it waited for another's; a transaction of nobody would never end.
    bench = Bench(tmp_path)
    waiting = asyncio.create_task(bench("ServerConfiguration_CreateSigningRequest", NULL, NULL, "", True, b"n" * 32))
    late = asyncio.create_task(bench(f"{LIST}_Open", 6))
    await asyncio.sleep(0)  # both have begun, and the second waits
    bench.sessions.clear()
    bench.certificates.session_closed(ADMIN.session)
    assert len(await waiting) == 1
    with pytest.raises(Fault) as refused:
        await late
    assert refused.value.status == ua.StatusCodes.BadSessionClosed
    bench.sessions.add(ADMIN.session)
    with pytest.raises(Fault) as refused:
        await bench("ServerConfiguration_ApplyChanges")
    assert refused.value.status == ua.StatusCodes.BadNothingToDo


async def test_a_list_that_is_still_looked_at_when_its_session_ends_is_dropped(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    [writing] = await bench(f"{LIST}_Open", 6)
    await bench(f"{LIST}_Write", writing, b"\x0f\0\0\0" + b"\0" * 16)
    closing = asyncio.create_task(bench(f"{LIST}_CloseAndUpdate", writing))
    await asyncio.sleep(0)  # it is being validated
    bench.certificates.session_closed(ADMIN.session)
    with pytest.raises(Fault) as refused:
        await closing
    assert refused.value.status == ua.StatusCodes.BadSessionClosed
    with pytest.raises(Fault) as refused:
        await bench("ServerConfiguration_ApplyChanges")
    assert refused.value.status == ua.StatusCodes.BadNothingToDo
