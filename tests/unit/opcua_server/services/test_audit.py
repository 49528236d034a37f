"""What auditors are told, and how often."""

from dataclasses import replace

import pytest
from asyncua import ua

from nodesets.model import Caller, Note
from opcua_server import security
from opcua_server.services.acts import names_host
from opcua_server.services.audit import KINDS, SOURCES, WINDOW, Act, Audit
from opcua_server.services.event_fields import Fields, row
from opcua_server.services.nodes import Event
from opcua_server.services.outbox import Outbox
from tests.conformance.opcua import HOST, SERVER_URI, event, key, nid

REFUSED = ua.StatusCodes.BadSecurityChecksFailed
STRANGER = Caller(user="", address="10.0.0.9")
PACKET = Act(kind="channel.close", caller=STRANGER, code=REFUSED)


class Clock:
    """Stands still until it is told to go on."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> int:
        return 10**18 + int(self.time * 1e9)

    def monotonic(self) -> float:
        return self.time

    async def sleep_until(self, instant: float) -> None:
        self.time = max(self.time, instant)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def told() -> list[tuple[Event, Note | None]]:
    return []


@pytest.fixture
def audit(clock: Clock, told: list[tuple[Event, Note | None]]) -> Audit:
    return Audit("urn:server", clock, lambda *what: told.append(what))


def test_a_flood_is_told_once_and_then_as_a_number(audit: Audit, clock: Clock, told: list) -> None:
    # Hostile inputs 3.4: one event and entry a source and minute, never one a packet.
    for _ in range(1000):
        audit.tell(PACKET)
    assert len(told) == 1
    clock.time = WINDOW
    audit.sweep()
    assert len(told) == 2
    assert "999 like it within a minute" in told[1][0].message
    assert told[1][1].new == {"like_it": 999}
    audit.tell(PACKET)  # a flood that goes on is told no more often
    assert len(told) == 2
    clock.time = 2 * WINDOW
    audit.sweep()
    clock.time = 3 * WINDOW
    audit.sweep()
    assert len(told) == 3
    audit.tell(PACKET)  # one that was over begins anew
    assert len(told) == 4


def test_other_sources_kinds_and_outcomes_are_told_beside_a_flood(audit: Audit, told: list) -> None:
    for act in (
        PACKET,
        replace(PACKET, caller=replace(STRANGER, address="10.0.0.10")),
        replace(PACKET, code=ua.StatusCodes.BadTcpMessageTooLarge),
        replace(PACKET, kind="session.create"),
    ):
        audit.tell(act)
        audit.tell(act)
    assert len(told) == 4


def test_what_a_user_did_is_told_every_time(audit: Audit, told: list) -> None:
    # R05: every change is an entry.
    for _ in range(100):
        audit.tell(Act(kind="write", caller=Caller(user="anna"), source=nid("Part.Value")))
    assert len(told) == 100


def test_sources_without_end_cost_no_memory_without_end(audit: Audit, told: list) -> None:
    for i in range(3 * SOURCES):
        audit.tell(replace(PACKET, caller=replace(STRANGER, address=f"10.{i >> 8}.{i & 255}.1")))
    assert len(audit._minutes) <= SOURCES


def test_numbers_not_yet_told_are_told_at_the_end(audit: Audit, told: list) -> None:
    for _ in range(3):
        audit.tell(PACKET)
    audit.end()
    assert len(told) == 2


def test_every_kind_is_a_type_of_audit_events() -> None:
    names = {getattr(ua.ObjectIds, n) for n in dir(ua.ObjectIds) if "Audit" in n and n.endswith("EventType")}
    assert {kind.event_type for kind in KINDS.values()} <= names


@pytest.mark.parametrize(
    ("url", "ours"),
    [
        (f"opc.tcp://{HOST}:4840", True),
        ("opc.tcp://LOCALHOST:4840/x", True),
        ("opc.tcp://elsewhere:4840", False),
        ("opc.tcp://10.0.0.1:4840", False),
        ("opc.tcp://[::1", False),
        ("", False),
    ],
)
def test_host_names_of_the_server_are_those_of_its_certificate(url: str, ours: bool) -> None:
    # Part 4 5.7.2.2.
    assert names_host(url, security.self_signed(key(), SERVER_URI, ["localhost"], [HOST])) is ours


async def test_without_a_journal_events_are_delivered_at_once() -> None:
    seen: list[Event] = []
    made = event("Part")
    Outbox(None, seen.append).put(made)
    assert seen == [made]


def test_a_row_gives_back_every_field_typed() -> None:
    fields = {"A/B": ua.Variant(7, ua.VariantType.Byte), "Vector": ua.Variant([1.5, 2.5], ua.VariantType.Double)}
    made = event("Part", fields=fields, condition=nid("Alarm"))
    kept = row(made)
    found = Fields({path: i for i, path in enumerate(kept.paths)}, kept.fields)
    assert found["A/B"] == fields["A/B"]
    assert found["Vector"].Value == [1.5, 2.5]
    assert found["EventId"].Value == made.event_id
    assert found[""].Value == nid("Alarm")
    assert found.get("Nothing") is None
    assert found.encoded("Nothing") == b"\x00"
