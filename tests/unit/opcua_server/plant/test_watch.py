"""Certificates that end and are renewed while the server runs (F25), and the urgent report of locks (R29)."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from asyncua import ua
from cryptography.hazmat.primitives import serialization

from compliance.lockout import Locked
from compliance.users import Attempt
from nodesets.model import Finding
from nodesets.ports import SystemClock
from opcua_server import security
from opcua_server.plant.watch import ENDED_SEVERITY, ENDING_SEVERITY, LOCKOUT_SEVERITY, Watch
from tests.conformance.opcua import SERVER_URI, Bench, Raw, Refused, application, key, nid, serve

CODES = ua.StatusCodes
LONG = timedelta(days=3650)


@pytest_asyncio.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with serve(tmp_path) as running:
        write_pair(tmp_path, running.identity)
        yield running


def write_pair(data_dir: Path, identity: security.Identity) -> None:
    """Key first, then certificate, as a person copies them."""
    write_key(data_dir, identity)
    write_certificate(data_dir, identity)


def write_key(data_dir: Path, identity: security.Identity) -> None:
    pem = identity.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = data_dir / "pki/own/private/enose.pem"
    path.touch(0o600)
    path.write_bytes(pem)


def write_certificate(data_dir: Path, identity: security.Identity) -> None:
    (data_dir / "pki/own/certs/enose.der").write_bytes(identity.der)


def another(number: int = 98, *, now: datetime | None = None) -> security.Identity:
    own = key(number, security.KEY_BITS)
    return security.Identity(security.self_signed(own, SERVER_URI, ["localhost"], ["127.0.0.1"], now=now), own)


class Log:
    """What was recorded of renewals."""

    def __init__(self) -> None:
        self.renewed: list[security.Identity] = []

    async def __call__(self, identity: security.Identity) -> None:
        self.renewed.append(identity)


def watch(bench: Bench) -> Watch:
    own = security.OwnCertificate(bench.data_dir, SERVER_URI, bench.identity)
    return Watch(bench.server, bench.server._trust, own, Log(), lambda _: None, SystemClock())


async def reports(raw: Raw) -> int:
    """A subscription of Server's events: severity and message."""
    number = (await raw.subscribe()).SubscriptionId
    kind = ua.NodeId(ua.ObjectIds.BaseEventType)
    select = [
        ua.SimpleAttributeOperand(
            TypeDefinitionId=kind, BrowsePath=[ua.QualifiedName(name)], AttributeId=ua.AttributeIds.Value
        )
        for name in ("Severity", "Message")
    ]
    item = await raw.monitor(
        number,
        ua.NodeId(ua.ObjectIds.Server),
        ua.AttributeIds.EventNotifier,
        Filter=ua.EventFilter(SelectClauses=select),
    )
    item.StatusCode.check()
    return int(number)


async def told(raw: Raw) -> list[tuple[int, str]]:
    return [(fields[0].Value, fields[1].Value.Text) for fields in await raw.next_data()]


async def test_a_renewed_certificate_is_shown_without_a_stop_and_sessions_go_on(bench: Bench) -> None:
    own = security.OwnCertificate(bench.data_dir, SERVER_URI, bench.identity)
    new = another()
    async with Raw(bench) as before:
        await before.login()
        assert own.renewed() is None
        write_key(bench.data_dir, new)
        assert own.renewed() is None  # key and certificate do not belong together yet
        write_certificate(bench.data_dir, new)
        found = own.renewed()
        assert found is not None
        assert found.der == new.der
        assert own.renewed() is None
        bench.server.renew(found)
        assert (await before.read(nid("Part.Text"))).StatusCode.is_good()
        await before.activate()  # also its signature over the old certificate, on the old channel
        async with Raw(bench) as late:  # knows the old one only
            with pytest.raises(Refused) as refused:
                await late.open()
            assert refused.value.status == CODES.BadSecurityChecksFailed
        async with Raw(bench, policy=None) as asking:
            await asking.open()
            endpoints = (await asking.call(ua.GetEndpointsRequest(Parameters=ua.GetEndpointsParameters()))).Endpoints
            assert {e.ServerCertificate for e in endpoints} == {new.der}
        bench.identity = new
        async with Raw(bench) as after:
            await after.login()
            assert (await after.read(nid("Part.Text"))).StatusCode.is_good()
        assert (await before.read(nid("Part.Text"))).StatusCode.is_good()


async def test_a_certificate_that_was_pushed_is_logged_and_looked_at_as_one_that_was_copied(bench: Bench) -> None:
    # Part 12 7.10.9: the server shows it by itself; its end and its place in the audit log are the watch's.
    own = security.OwnCertificate(bench.data_dir, SERVER_URI, bench.identity)
    log, found = Log(), asyncio.Queue[Finding]()
    watching = Watch(bench.server, bench.server._trust, own, log, found.put_nowait, SystemClock())
    task = asyncio.create_task(watching.run(0.01))
    assert (await found.get()).details["Certificate"] == bench.identity.der.hex()
    new = another()
    bench.server.renew(new)
    assert (await found.get()).details["Certificate"] == new.der.hex()
    assert log.renewed == [new]
    task.cancel()
    await asyncio.wait([task])


async def test_a_certificate_for_another_application_is_not_taken_over(bench: Bench) -> None:
    own = security.OwnCertificate(bench.data_dir, SERVER_URI, bench.identity)
    foreign = key(97, security.KEY_BITS)
    certificate = security.self_signed(foreign, "urn:someone:else", ["localhost"])
    write_pair(bench.data_dir, security.Identity(certificate, foreign))
    assert own.renewed() is None


async def test_a_key_others_can_read_is_not_taken_over(bench: Bench) -> None:
    own = security.OwnCertificate(bench.data_dir, SERVER_URI, bench.identity)
    write_pair(bench.data_dir, another())
    (bench.data_dir / "pki/own/private/enose.pem").chmod(0o644)
    assert own.renewed() is None


async def test_certificates_near_their_end_are_told_of_by_log_and_event(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    # F25: thirty days before, since a change in a plant is planned; each with its name and day.
    now = datetime.now(UTC)
    for number, left in ((21, 29), (22, 31), (23, -1)):
        made = security.self_signed(
            key(number), "urn:x", ["localhost"], name=f"scada{number}", now=now - LONG + timedelta(days=left)
        )
        path = bench.data_dir / "pki/trusted/certs" / f"{number}.der"
        path.write_bytes(made.public_bytes(serialization.Encoding.DER))
    async with Raw(bench) as raw:
        await raw.login()
        await reports(raw)
        watch(bench).warn()
        found = dict(reversed(entry) for entry in await told(raw))
    names = ("scada21", "scada22", "scada23")
    by_name = {name: severity for name in names for words, severity in found.items() if name in words}
    assert by_name == {"scada21": ENDING_SEVERITY, "scada23": ENDED_SEVERITY}
    assert "'scada21' (trusted) expires on" in caplog.text
    assert "'scada23' (trusted) has expired on" in caplog.text


async def test_a_lock_is_an_urgent_event_of_the_server(bench: Bench) -> None:
    # R29, 21 CFR 11.300(d): severity 800 or more, seen by every SCADA client.
    assert LOCKOUT_SEVERITY >= 800
    attempt = Attempt(action="user.login", address="192.0.2.7")
    async with Raw(bench) as raw:
        await raw.login()
        await reports(raw)
        watch(bench).locked(Locked("user_account/anna", 5, 0), attempt)
        watch(bench).locked(Locked("application/urn:\x1b[31m\u202e" + "x" * 500, 5, 0), attempt)
        (severity, words), (_, strange) = await told(raw)
    assert severity == LOCKOUT_SEVERITY
    assert words == "account 'anna' locked after 5 failed logins, last from '192.0.2.7'"
    assert "\x1b" not in strange  # a client's words are escaped wherever they are shown
    assert len(strange) < 400


async def test_the_trust_list_counts_from_the_next_check_and_sessions_stay(bench: Bench) -> None:
    friend = application(2, "urn:test:friend")
    async with Raw(bench) as here:
        await here.login()
        bench.trust(friend)
        async with Raw(bench, friend) as there:
            await there.login()
            (bench.data_dir / "pki/trusted/certs" / f"{friend.thumbprint}.der").unlink()
            assert (await there.read(nid("Part.Text"))).StatusCode.is_good()
        async with Raw(bench, friend) as again:
            with pytest.raises(ua.UaStatusCodeError):
                await again.open()
        assert (await here.read(nid("Part.Text"))).StatusCode.is_good()
