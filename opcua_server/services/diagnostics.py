"""ServerDiagnostics (Part 5 6.3.3): what the server counts of its sessions and subscriptions.

Worked out when a client reads it, and once a second for those who subscribe. EnabledFlag is written by administrators;
switched on, all counts begin anew; switched off, the variables have no value and the sessions no objects.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from asyncua import ua
from asyncua.ua.ua_binary import struct_to_binary

from nodesets.model import Caller
from nodesets.ports import Clock
from opcua_server.services import session_objects
from opcua_server.services.attributes import Rights, Written
from opcua_server.services.nodes import Access
from opcua_server.services.roles import Rule, role_node
from opcua_server.services.session_objects import ADMINISTRATORS, SessionObjects
from opcua_server.services.sessions import Session, Sessions
from opcua_server.services.space import Space
from opcua_server.services.status import NULL, from_ns
from opcua_server.services.subscriptions import Subscriptions

IDS = ua.ObjectIds
T = ua.VariantType
ROOT = "Server_ServerDiagnostics"
ENABLED = ua.NodeId(IDS.Server_ServerDiagnostics_EnabledFlag)
SUMMARY = f"{ROOT}_ServerDiagnosticsSummary"
SUMMARY_FIELDS = tuple(ua.ServerDiagnosticsSummaryDataType.__dataclass_fields__)
SESSIONS = f"{ROOT}_SessionsDiagnosticsSummary_SessionDiagnosticsArray"
SECURITY = f"{ROOT}_SessionsDiagnosticsSummary_SessionSecurityDiagnosticsArray"
SUBSCRIPTIONS = f"{ROOT}_SubscriptionDiagnosticsArray"
SAMPLING = f"{ROOT}_SamplingIntervalDiagnosticsArray"
USER_NAMES = {"password": "UserName", "certificate": "Certificate", "": "Anonymous"}
ENCODING, TRANSPORT = "UA Binary", "opc.tcp"
SECURITY_ENCODING = ua.NodeId(IDS.SessionSecurityDiagnosticsDataType_Encoding_DefaultBinary)
BAD_NOT_READABLE = 0x803A0000
"""What nodes that stay answer while switched off (6.3.3)."""

Write = Callable[[Any, Any, int, int, int], None]
Grant = Callable[[Any, Rights, Written | None], None]
Compute = Callable[[Any, Callable[[], None]], None]
Limit = Callable[[int, Rule], None]


def _administrators(caller: Caller) -> int:
    return 0xFF if caller.roles & ADMINISTRATORS else int(Access.READ)


def _administrators_only(caller: Caller) -> int:
    """Who is logged in from where is nobody else's business (Part 5 6.3.4)."""
    return 0xFF if caller.roles & ADMINISTRATORS else 0


class Diagnostics:
    """Fills the nodes by `write`, as `UaServer.write`."""

    def __init__(
        self, sessions: Sessions, subscriptions: Subscriptions, write: Write, space: Space, clock: Clock
    ) -> None:
        self._watched = space.watched
        self._objects = SessionObjects(space, _values)
        self._arrays = {
            SESSIONS: self._of_sessions,
            SECURITY: self._of_security,
            SUBSCRIPTIONS: self._of_subscriptions,
        }
        self._sessions = sessions
        self._subscriptions = subscriptions
        self._write = write
        self._clock = clock
        self._enabled = True

    def link(self, grant: Grant, compute: Compute, limit: Limit) -> None:
        """`grant` and `compute` as of `Attributes`, `limit` of `Sight`."""
        limit(session_objects.NAMESPACE, self._objects.seen_by)
        grant(ENABLED, _administrators, lambda data: self._switch(bool(data.Value.Value)))
        grant(_id(SECURITY), _administrators_only, None)
        compute(_id(SUMMARY), self._summary)
        for name in SUMMARY_FIELDS:
            compute(_id(f"{SUMMARY}_{name}"), self._summary)
        for name, refresh in self._arrays.items():
            compute(_id(name), refresh)
        self._show(_id(SAMPLING), ua.Variant([], T.ExtensionObject, is_array=True))
        self._show(ENABLED, ua.Variant(self._enabled, T.Boolean))
        self._refresh()

    def activated(self, session: Session) -> None:
        """A session was activated, perhaps not for the first time."""
        if self._enabled:
            self._objects.add(session)

    def closed(self, session: Session) -> None:
        self._objects.remove(session)

    def tick(self) -> None:
        """Once a second: what somebody subscribes to."""
        self._objects.tick()
        if any(self._watched(_id(f"{SUMMARY}{suffix}")) for suffix in ("", *(f"_{name}" for name in SUMMARY_FIELDS))):
            self._summary()
        for name, refresh in self._arrays.items():
            if self._watched(_id(name)):
                refresh()

    def _refresh(self) -> None:
        self._summary()
        for refresh in self._arrays.values():
            refresh()

    def _switch(self, enabled: bool) -> None:
        self._enabled = enabled
        self._sessions.summary = ua.ServerDiagnosticsSummaryDataType()
        for session in self._sessions:
            session.counts.clear()
        for subscription in self._subscriptions:
            subscription.counts = ua.SubscriptionDiagnosticsDataType()
        self._objects.clear()
        for session in self._sessions:
            if session.caller is not None:
                self.activated(session)
        self._refresh()

    def _show(self, node: Any, value: Any) -> None:
        now = self._clock.now()
        self._write(node, value, 0, now, now)

    def _put(self, name: str, value: Any) -> None:
        if self._enabled:
            self._show(_id(name), value)
        else:
            now = self._clock.now()
            self._write(_id(name), NULL, BAD_NOT_READABLE, now, now)

    def _array(self, name: str, rows: Iterable[Any]) -> None:
        self._put(name, ua.Variant(list(rows), T.ExtensionObject, is_array=True))

    def _summary(self) -> None:
        counted = self._sessions.summary
        subscriptions = list(self._subscriptions)
        summary = ua.ServerDiagnosticsSummaryDataType(
            ServerViewCount=0,
            CurrentSessionCount=len(list(self._sessions)),
            CumulatedSessionCount=counted.CumulatedSessionCount,
            SecurityRejectedSessionCount=counted.SecurityRejectedSessionCount,
            RejectedSessionCount=counted.RejectedSessionCount,
            SessionTimeoutCount=counted.SessionTimeoutCount,
            SessionAbortCount=counted.SessionAbortCount,
            CurrentSubscriptionCount=len(subscriptions),
            CumulatedSubscriptionCount=self._subscriptions.made,
            PublishingIntervalCount=len({s.interval for s in subscriptions}),
            SecurityRejectedRequestsCount=counted.SecurityRejectedRequestsCount,
            RejectedRequestsCount=counted.RejectedRequestsCount,
        )
        self._put(SUMMARY, ua.Variant(summary, T.ExtensionObject))
        for name in SUMMARY_FIELDS:
            self._put(f"{SUMMARY}_{name}", ua.Variant(getattr(summary, name), T.UInt32))

    def _of_sessions(self) -> None:
        self._array(SESSIONS, map(_session, self._sessions))

    def _of_security(self) -> None:
        self._array(SECURITY, map(_security, self._sessions))

    def _of_subscriptions(self) -> None:
        self._array(SUBSCRIPTIONS, (s.diagnostics() for s in self._subscriptions))


def _id(name: str) -> Any:
    return ua.NodeId(getattr(IDS, name))


def _session(session: Session) -> Any:
    """SessionDiagnosticsDataType (Part 5 12.12)."""
    row = ua.SessionDiagnosticsDataType(
        SessionId=session.id,
        SessionName=session.name,
        ClientDescription=session.description,
        ServerUri=session.server_uri,
        EndpointUrl=session.endpoint_url,
        LocaleIds=list(session.locales),
        ActualSessionTimeout=session.timeout * 1000,
        MaxResponseMessageSize=session.max_response,
        ClientConnectionTime=from_ns(session.connected),
        ClientLastContactTime=from_ns(session.contacted),
        CurrentSubscriptionsCount=len(session.subscriptions),
        CurrentMonitoredItemsCount=sum(len(s.items) for s in session.subscriptions.values()),
        CurrentPublishRequestsInQueue=len(session.publish),
        TotalRequestCount=_counter(session.counts.get("TotalRequest", (0, 0))),
    )
    for name, counted in session.counts.items():
        if hasattr(row, f"{name}Count") and name != "TotalRequest":
            setattr(row, f"{name}Count", _counter(counted))
    return row


def _counter(counted: tuple[int, int]) -> Any:
    return ua.ServiceCounterDataType(TotalCount=counted[0], ErrorCount=counted[1])


@dataclass
class SessionSecurity:
    """SessionSecurityDiagnosticsDataType (Part 5 12.13); asyncua takes its `Encoding` for a mask of optional fields."""

    SessionId: ua.NodeId = field(default_factory=ua.NodeId)
    ClientUserIdOfSession: ua.String = ""
    ClientUserIdHistory: list[ua.String] = field(default_factory=list)
    AuthenticationMechanism: ua.String = ""
    EncodingName: ua.String = ENCODING
    TransportProtocol: ua.String = TRANSPORT
    SecurityMode: ua.MessageSecurityMode = ua.MessageSecurityMode.Invalid
    SecurityPolicyUri: ua.String = ""
    ClientCertificate: ua.ByteString = None


def _security(session: Session) -> Any:
    return ua.ExtensionObject(TypeId=SECURITY_ENCODING, Body=struct_to_binary(_security_row(session)))


def _security_row(session: Session) -> SessionSecurity:
    caller = session.caller
    return SessionSecurity(
        SessionId=session.id,
        ClientUserIdOfSession=caller.user if caller else "",
        ClientUserIdHistory=[caller.user] if caller else [],
        AuthenticationMechanism=USER_NAMES[caller.proof] if caller else "",
        SecurityMode=ua.MessageSecurityMode(int(session.channel.policy.Mode)),
        SecurityPolicyUri=str(session.channel.policy.URI),
        ClientCertificate=session.certificate or None,
    )


def _values(session: Session) -> Mapping[str, Any]:
    """What the object of a session shows, by browse path (`session_objects.Values`)."""
    row, security = _session(session), _security_row(session)
    found = {
        "CurrentRoleIds": [role_node(role) for role in sorted(session.user.roles)],
        "SessionDiagnostics": row,
        "SessionSecurityDiagnostics": _security(session),
        "SubscriptionDiagnosticsArray": [s.diagnostics() for s in session.subscriptions.values()],
    }
    found |= {f"SessionDiagnostics/{name}": getattr(row, name) for name in row.__dataclass_fields__}
    found |= {f"SessionSecurityDiagnostics/{name}": getattr(security, name) for name in security.__dataclass_fields__}
    found["SessionSecurityDiagnostics/Encoding"] = security.EncodingName
    return found
