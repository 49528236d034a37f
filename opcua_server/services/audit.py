"""Audit events (Part 3 9.5, Part 4 6.5, Part 5 6.4): one table of what is told, and how often.

Every act is one event for auditors and one entry of the audit log, recorded together before the event is delivered.
What anybody on the network can cause is told a few times a minute for each kind, source and outcome; the rest of the
minute is told as a number at its end, so that no flood of packets is a flood of entries.
"""

import logging
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from asyncua import ua

from nodesets.model import Caller, Note
from nodesets.ports import Clock
from opcua_server.services.nodes import Event
from opcua_server.services.status import from_ns

log = logging.getLogger(__name__)

IDS = ua.ObjectIds
T = ua.VariantType
SERVER = ua.NodeId(IDS.Server)
WINDOW = 60.0
"""Seconds within which acts of one kind, source and outcome are told together (hostile inputs 3.4)."""
SOURCES = 1000
"""Kinds and sources remembered at once."""
GOOD_SEVERITY, BAD_SEVERITY = 100, 500


class Kind(NamedTuple):
    """How a kind of act is told."""

    event_type: int
    source_name: str
    action: str
    """In the audit log."""
    good: int | None = None
    """Successes of one source told one by one in a minute; None: all, since a user did them."""
    bad: int = 1
    """The same of failures."""


KINDS: Mapping[str, Kind] = {
    "channel.open": Kind(
        IDS.AuditOpenSecureChannelEventType, "SecureChannel/OpenSecureChannel", "security.channel", good=10
    ),
    "channel.close": Kind(IDS.AuditChannelEventType, "SecureChannel/CloseSecureChannel", "security.channel", good=10),
    "connections": Kind(IDS.AuditChannelEventType, "SecureChannel/CloseSecureChannel", "security.connections"),
    "certificate": Kind(IDS.AuditCertificateEventType, "Security/Certificate", "security.certificate"),
    "session.create": Kind(IDS.AuditCreateSessionEventType, "Session/CreateSession", "security.session", good=10),
    "session.url": Kind(IDS.AuditUrlMismatchEventType, "Session/CreateSession", "security.url", good=1),
    "session.activate": Kind(IDS.AuditActivateSessionEventType, "Session/ActivateSession", "security.login", bad=10),
    "session.close": Kind(IDS.AuditSessionEventType, "Session/CloseSession", "security.logout", good=10),
    "session.timeout": Kind(IDS.AuditSessionEventType, "Session/Timeout", "security.logout", good=10),
    "session.end": Kind(IDS.AuditSessionEventType, "Session/Terminated", "security.logout", good=10),
    "session.cancel": Kind(IDS.AuditCancelEventType, "Session/Cancel", "session.cancel", good=10),
    "session.transfer": Kind(
        IDS.AuditSessionEventType, "Session/TransferSubscriptions", "session.transfer", good=10, bad=10
    ),
    "session.misused": Kind(IDS.AuditSessionEventType, "Session/Misused", "security.session"),
    "write": Kind(IDS.AuditWriteUpdateEventType, "Attribute/Write", "write", bad=10),
    "history": Kind(IDS.AuditHistoryUpdateEventType, "Attribute/HistoryUpdate", "history.update", bad=10),
    "call": Kind(IDS.AuditUpdateMethodEventType, "Attribute/Call", "call", bad=10),
    "trust.update": Kind(IDS.TrustListUpdatedAuditEventType, "Attribute/Call", "trust.update"),
    "certificate.update": Kind(IDS.CertificateUpdatedAuditEventType, "Attribute/Call", "certificate.update"),
    "nodes.AddNodes": Kind(IDS.AuditAddNodesEventType, "NodeManagement/AddNodes", "nodes.add"),
    "nodes.DeleteNodes": Kind(IDS.AuditDeleteNodesEventType, "NodeManagement/DeleteNodes", "nodes.delete"),
    "nodes.AddReferences": Kind(IDS.AuditAddReferencesEventType, "NodeManagement/AddReferences", "references.add"),
    "nodes.DeleteReferences": Kind(
        IDS.AuditDeleteReferencesEventType, "NodeManagement/DeleteReferences", "references.delete"
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """Something a client did, or tried."""

    kind: str
    """Row of KINDS."""
    caller: Caller
    code: int = 0
    """StatusCode; 0: it was done."""
    reason: str = ""
    """Why not, in more words than the client was told."""
    entry: str = ""
    """AuditEntryId of the request: what the client's own log calls it."""
    user: str = ""
    """ClientUserId where there is no user."""
    began: int = 0
    """When it was asked for, ns UTC; 0: now."""
    source: Any = SERVER
    event_type: Any = None
    """Instead of the kind's: a NodeId."""
    source_name: str = ""
    """Instead of the kind's."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Of the event type, Variants by browse path."""
    logged: bool = False
    """Whoever carried it out has put it into the audit log already."""
    record: str = ""
    """What it was done to, for the audit log; empty: the session."""
    old: object = None
    new: object = None


@dataclass(slots=True)
class _Minute:
    """Acts of one kind, source and outcome since then."""

    since: float
    last: Act
    told: int = 1
    untold: int = 0


class Audit:
    """Where services tell what clients do. `put(event, note)` records and delivers."""

    def __init__(self, server_id: str, clock: Clock, put: Callable[[Event, Note | None], None]) -> None:
        """`server_id`: what this server calls itself in every audit event."""
        self._server_id = server_id
        self._clock = clock
        self._put = put
        self._minutes: dict[tuple[Any, ...], _Minute] = {}

    def tell(self, act: Act) -> bytes:
        """EventId of the event; empty when it is only counted."""
        kind = KINDS[act.kind]
        most = kind.bad if act.code else kind.good
        if most is not None and not self._due(act, most):
            return b""
        return self._send(act)

    def sweep(self) -> None:
        """Tell the numbers of the minutes that are over."""
        self._end(self._clock.monotonic() - WINDOW)

    def end(self) -> None:
        """Tell all numbers."""
        self._end(self._clock.monotonic())

    def _due(self, act: Act, most: int) -> bool:
        """Whether it is told by itself."""
        key = (act.kind, act.event_type, act.caller.address, act.caller.user, act.code, act.source)
        minute = self._minutes.get(key)
        if minute is None:
            if len(self._minutes) >= SOURCES:
                self.end()
                self._minutes.clear()
            self._minutes[key] = _Minute(self._clock.monotonic(), act)
            return True
        minute.last = act
        if minute.told < most:
            minute.told += 1
            return True
        minute.untold += 1
        return False

    def _end(self, begun: float) -> None:
        """End the minutes that began by then; the number of what was not told begins the next one."""
        now = self._clock.monotonic()
        for key, minute in list(self._minutes.items()):
            if minute.since > begun:
                continue
            del self._minutes[key]
            if minute.untold:
                self._send(minute.last, minute.untold)
                self._minutes[key] = _Minute(now, minute.last, told=minute.told)

    def _send(self, act: Act, count: int = 0) -> bytes:
        """`count`: told for so many."""
        now = self._clock.now()
        event = self._event(act, now, count)
        if act.code and KINDS[act.kind].action.startswith("security."):
            log.warning("%s", event.message.encode("ascii", "backslashreplace").decode())
        self._put(event, None if act.logged else _note(act, now, count))
        return event.event_id

    def _event(self, act: Act, now: int, count: int) -> Event:
        kind = KINDS[act.kind]
        source_name = act.source_name or kind.source_name
        return Event(
            event_id=secrets.token_bytes(16),
            event_type=act.event_type or ua.NodeId(kind.event_type),
            source=act.source,
            source_name=source_name,
            time=now,
            received=now,
            severity=BAD_SEVERITY if act.code else GOOD_SEVERITY,
            message=_message(act, source_name, count),
            fields={
                "ActionTimeStamp": ua.Variant(from_ns(act.began or now), T.DateTime),
                "Status": ua.Variant(not act.code, T.Boolean),
                "ServerId": ua.Variant(self._server_id, T.String),
                "ClientAuditEntryId": ua.Variant(act.entry, T.String),
                "ClientUserId": ua.Variant(act.caller.user or act.user or None, T.String),
                "ClientApplicationUri": ua.Variant(act.caller.application_uri, T.String),
                **act.fields,
            },
        )


def _message(act: Act, source_name: str, count: int) -> str:
    """Self-contained and Latin-1: who, from where, what, and what became of it."""
    who = act.caller.user or act.caller.application_uri or "somebody"
    words = f"{source_name} by {who} from {act.caller.address or 'here'}: {outcome(act.code)}"
    if act.reason:
        words += f", {act.reason}"
    if count:
        words += f"; {count} like it within a minute"
    return words.encode("latin-1", "replace").decode("latin-1")


def _note(act: Act, now: int, count: int) -> Note:
    return Note(
        caller=act.caller,
        action=KINDS[act.kind].action,
        record=act.record or f"session/{act.caller.session}",
        time=now,
        outcome=outcome(act.code),
        reason=act.reason,
        old=act.old,
        new={"like_it": count} if count else act.new,
    )


def outcome(code: int) -> str:
    """Name of a StatusCode."""
    return str(ua.status_codes.get_name_and_doc(code)[0])
