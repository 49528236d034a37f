"""The OPC UA server: services over asyncua's codec, secure channel and node storage. Knows nothing of e-noses."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from asyncua import ua

from nodesets.errors import CertificateRefused
from nodesets.model import Caller, Role
from nodesets.ports import Archive, Clock, Journal, SystemClock
from opcua_server import security
from opcua_server.services import acts, certificates, roles
from opcua_server.services.attributes import Attributes, Rights, Written
from opcua_server.services.audit import Audit
from opcua_server.services.certificates import Certificates
from opcua_server.services.channel import Channel, ChannelError, Nonces
from opcua_server.services.diagnostics import Diagnostics
from opcua_server.services.discovery import Discovery
from opcua_server.services.dispatch import Dispatcher
from opcua_server.services.event_history import EventHistory, Reads
from opcua_server.services.events import SERVER, Events
from opcua_server.services.history import Histories, HistoryService
from opcua_server.services.history_update import HistoryUpdates
from opcua_server.services.limits import Limits
from opcua_server.services.locales import Locales, Texts
from opcua_server.services.methods import (
    CHANGES_NOTHING,
    EVERY_CALL,
    Allowed,
    Audited,
    Handler,
    Methods,
    Refused,
    untold,
)
from opcua_server.services.nodes import SITE_NS, Event, Instance, Notifies, Reference, site
from opcua_server.services.outbox import Outbox
from opcua_server.services.prune import prune
from opcua_server.services.registration import Registration
from opcua_server.services.roles import Receivers
from opcua_server.services.seams import POLICIES, check_version, make_server, silence
from opcua_server.services.server_object import NOT_OFFERED, PRODUCT_URI, STATUS_NODES, ServerObject
from opcua_server.services.sessions import Identities, Session, Sessions
from opcua_server.services.space import Space
from opcua_server.services.standard import correct
from opcua_server.services.status import NULL, from_ns, is_bad, status
from opcua_server.services.subscriptions import Subscriptions
from opcua_server.services.transport import Listener
from opcua_server.services.tree import Change
from opcua_server.services.values import Codes, Floats, Table
from opcua_server.services.view import View

log = logging.getLogger(__name__)

MODEL_CHANGE = ua.NodeId(ua.ObjectIds.GeneralModelChangeEventType)
SEMANTIC_CHANGE = ua.NodeId(ua.ObjectIds.SemanticChangeEventType)
CHANGE_SEVERITY = 100
TICKS = 20
"""Of the clock in ServerStatus in a second, for those who subscribe to it."""


class UaServer:
    """`init`, fill the address space, link, `start`, publish; `stop`. All on one event loop."""

    def __init__(
        self,
        *,
        identity: security.Identity,
        trust: security.TrustStore,
        identities: Identities,
        application_uri: str,
        policies: Sequence[str],
        host: str = "127.0.0.1",
        port: int = 4840,
        hostname: str = "localhost",
        name: str = "enose",
        clock: Clock | None = None,
        limits: Limits | None = None,
        journal: Journal | None = None,
        none: bool = False,
        anonymous: bool = False,
        discovery: str | None = None,
        discovery_period: float = 300.0,
        own: security.OwnCertificate | None = None,
    ) -> None:
        """`host` and `port`: where to listen; `hostname`: the name clients reach it by.

        `journal`: where events and what clients did are recorded before they are shown; without one they are only
        shown. `none`: sessions without channel security as well; `anonymous`: without a user as well. `discovery`: URL
        of a discovery server to register with every `discovery_period` seconds. `own`: the files of `identity`, with
        which certificate and trust lists are managed over OPC UA.
        """
        self.limits = limits or Limits()
        self._clock = clock or SystemClock()
        self.identity = identity
        self._trust = trust
        self._policies = tuple(policies)
        self.policies = tuple(POLICIES[name].URI for name in policies)
        self.nonces = Nonces()
        self._address = (host, port, hostname)
        self.asyncua = make_server()
        """asyncua's Server: for XML import and node access while the address space is made."""
        self.table = Table(self._clock.monotonic)
        self.space = Space(self.aspace, self.table)
        self._outbox = Outbox(journal, self.deliver_event)
        self._audit = Audit(application_uri, self._clock, self._outbox.put)
        self._methods = Methods(self.space, self._clock, self._audit.tell)
        self._sight = sight = roles.Sight()
        self.open(lambda _: False)
        self._attributes = attributes = Attributes(
            self.space, self._methods.executable, self.space.write, sight, secured=not none
        )
        self._texts = Locales()
        self._subscriptions = Subscriptions(self.space, attributes, self.table, self._clock, self.limits, self._texts)
        self._events = Events(self.space, self._subscriptions, self._clock)
        self._histories = Histories(self.space, attributes)
        self._history = HistoryService(self._histories, self.limits, self._clock)
        self._object = ServerObject(self.asyncua, self._write_node, self._clock, application_uri)
        self._discovery = Discovery(
            application_uri=application_uri,
            product_uri=PRODUCT_URI,
            name=name,
            identity=identity,
            policies=self._policies,
            none=none,
            anonymous=anonymous,
        )
        self._sessions = Sessions(
            trust=trust,
            identities=identities,
            application_uri=application_uri,
            clock=self._clock,
            limits=self.limits,
            ended=self._session_ended,
            on_activated=self._session_activated,
            on_close=self._session_closed,
            token_policy=POLICIES[self._policies[0]].URI,
            anonymous=anonymous,
        )
        self._dispatcher = Dispatcher(
            limits=self.limits,
            clock=self._clock,
            discovery=self._discovery,
            sessions=self._sessions,
            view=View(self.space, sight, self.limits, self._texts),
            attributes=attributes,
            methods=self._methods,
            subscriptions=self._subscriptions,
            history=self._history,
            history_updates=HistoryUpdates(self._histories, self.limits, self._clock),
            none=none,
            texts=self._texts,
            audit=self._audit,
            settle=self._outbox.settle,
        )
        self._diagnostics = Diagnostics(self._sessions, self._subscriptions, self._write_node, self.space, self._clock)
        self._roles = roles.RoleSet(self.asyncua, self._show_constant)
        self._own = own
        self._certificates = own and Certificates(
            trust, own, self.limits, self._clock, self._write_node, self._audit.tell, self._pushed, self._alive
        )
        self._listener: Listener | None = None
        self._registration = discovery and Registration(
            discovery, discovery_period, self._discovery, lambda: self.identity, trust, self.policies
        )
        self._chores: list[asyncio.Task[None]] = []

    # -- life

    @property
    def aspace(self) -> Any:
        """asyncua's AddressSpace."""
        return self.asyncua.iserver.aspace

    @property
    def port(self) -> int:
        """Where it listens: of interest when 0 was asked for."""
        return int(self._listener.port) if self._listener is not None else self._address[1]

    @property
    def url(self) -> str:
        return f"opc.tcp://{self._address[2]}:{self.port}"

    async def init(self) -> None:
        """Standard nodes, our two namespaces, the Server object."""
        check_version()
        silence()
        await self.asyncua.init()
        correct(self.aspace)
        managed = certificates.NOT_OFFERED if self._certificates else (ua.ObjectIds.ServerConfiguration,)
        prune(self.space, [*map(ua.NodeId, (*NOT_OFFERED, *managed)), *roles.changes(self.space)])
        await self._object.fill(self.limits)
        await self._roles.fill()
        for node in self._roles.identities():
            self._attributes.grant(node, roles.may_see_members)
        self._diagnostics.link(self._attributes.grant, self._attributes.compute, self._sight.limit)
        for node in STATUS_NODES:
            self._attributes.compute(node, self._object.tick)
        for method in (ua.ObjectIds.ConditionType_ConditionRefresh, ua.ObjectIds.ConditionType_ConditionRefresh2):
            self.link_method(
                ua.NodeId(method), self._events.refresh, lambda caller: bool(caller.roles), audited=CHANGES_NOTHING
            )
        for method, handler in (
            (ua.ObjectIds.Server_GetMonitoredItems, self._subscriptions.get_monitored_items),
            (ua.ObjectIds.Server_ResendData, self._subscriptions.resend_data),
        ):
            self.link_method(ua.NodeId(method), handler, lambda caller: bool(caller.roles), audited=CHANGES_NOTHING)
        if self._certificates:
            self._certificates.link(self.link_method, self._attributes.compute, self._attributes.grant)
        for method in roles.CHANGING:
            self.link_method(ua.NodeId(method), roles.unchanged, lambda _: False)

    async def start(self) -> None:
        """Listen. Raises OSError when the address is taken."""
        await self.asyncua.iserver.start()
        self._object.start()
        host, port, _ = self._address
        listener = Listener(host, port, self)
        try:
            await listener.start()
        except OSError:
            await self.asyncua.iserver.stop()
            raise
        self._listener = listener
        self._discovery.url = self.url
        self._chores = [asyncio.create_task(self._every_second())]
        if self._registration:
            self._chores.append(asyncio.create_task(self._registration.run()))

    async def stop(self, seconds: int = 0, reason: str = "Shutdown") -> None:
        """Announce the shutdown, wait so long, finish what is under way, close."""
        for left in range(seconds, 0, -1):
            self._object.shutting_down(left, reason)
            await asyncio.sleep(1.0)
        self._object.shutting_down(0, reason)
        for chore in self._chores:
            chore.cancel()
        await asyncio.wait(self._chores)
        await self._events.close()
        if self._registration:
            await self._registration.withdraw()
        await self._dispatcher.drain()
        for session in self._sessions:
            self._sessions.close(session, True, ua.StatusCodes.BadShutdown)
        self._subscriptions.stop()
        if self._listener is not None:
            await self._listener.stop()
        self._audit.end()
        await self._outbox.settle()
        await self.asyncua.iserver.stop()

    async def _every_second(self) -> None:
        while True:
            for _ in range(TICKS):
                await asyncio.sleep(1.0 / TICKS)
                if any(map(self.space.watched, STATUS_NODES)):
                    self._object.tick()
            self._diagnostics.tick()
            self._sessions.sweep()
            self._audit.sweep()
            if self._certificates:
                self._certificates.sweep()
            if self._listener is not None:
                self._listener.sweep()

    def renew(self, identity: security.Identity) -> None:
        """Show another certificate from now on: in endpoints and on new channels. Open ones keep theirs."""
        self.identity = identity
        self._discovery.identity = identity

    def _pushed(self, *, certificate: bool) -> None:
        """A call under way has changed trust lists, or our `certificate`: that counts from now on.

        For open channels once the call is answered. Whose certificate is trusted no longer loses channel and session
        (Part 12 7.8.2.5); when ours is another one, all others open their channels anew, and keep their sessions
        (7.10.9).
        """
        if self._own is not None and (renewed := self._own.renewed()):
            self.renew(renewed)
        answering = asyncio.current_task()
        if answering is not None:
            answering.add_done_callback(lambda _: self._reopen(certificate))

    def _reopen(self, certificate: bool) -> None:
        for session in self._sessions:
            if session.certificate and not self._trusted(session.certificate):
                self._sessions.close(session, True, ua.StatusCodes.BadSecurityChecksFailed)

        def stale(channel: Channel) -> bool:
            outdated = certificate and channel.identity is not self.identity
            return channel.secured and (outdated or not self._trusted(channel.certificate))

        if self._listener is not None:
            self._listener.reopen(stale, "certificates have changed")

    def _alive(self, session: str) -> bool:
        return any(s.id.Identifier.hex == session for s in self._sessions)

    def _trusted(self, certificate: bytes) -> bool:
        try:
            self._trust.check(certificate)
        except CertificateRefused:
            return False
        return True

    def service_level(self, level: int) -> None:
        """What redundant clients choose by: 255 all well, below 200 degraded."""
        self._object.service_level(level)

    # -- what the connections ask (transport.Services)

    def check_certificate(self, certificate: bytes) -> None:
        self._trust.check(certificate)

    async def handle(self, channel: Channel, sequence: Any, body: bytes) -> None:
        await self._dispatcher.handle(channel, sequence, body)

    def channel_closed(self, channel: Channel) -> None:
        self._sessions.channel_closed(channel)

    def has_active_session(self, channel: Channel) -> bool:
        return any(s.caller is not None for s in self._sessions.on_channel(channel))

    def _session_ended(self, session: Session, kind: str, entry: str) -> None:
        self._audit.tell(acts.session_ended(session, kind, entry))

    def _session_activated(self, session: Session) -> None:
        self._subscriptions.session_activated(session)
        self._diagnostics.activated(session)

    def _session_closed(self, session: Session, delete_subscriptions: bool) -> None:
        if self._certificates:
            self._certificates.session_closed(session.id.Identifier.hex)
        self._subscriptions.session_closed(session, delete_subscriptions)
        self._diagnostics.closed(session)

    def opened(self, channel: Channel, opening: acts.Opening) -> None:
        self._audit.tell(acts.opened(channel, opening))

    def left(self, channel: Channel) -> None:
        self._audit.tell(acts.channel_closed(channel))

    def refused(self, channel: Channel, error: ChannelError) -> None:
        """The peer learns the code of `error`, auditors its reason, and the step of a certificate's validation."""
        cause, opening = error.__cause__, channel.opening
        if opening is None:
            self._audit.tell(acts.channel_closed(channel, error.kind, error.status, str(error)))
            return
        told, code = b"", error.status
        if isinstance(cause, CertificateRefused):
            refusal = acts.certificate_refused(acts.stranger(channel), opening.certificate, cause)
            told, code = self._audit.tell(refusal), cause.failure
        self._audit.tell(acts.opened(channel, opening, code, str(error), told))

    # -- what the plant uses

    def replace(self, instances: Iterable[Instance], references: Iterable[Reference]) -> Change:
        """Make these the nodes by template, all at once; what stays keeps its values and its subscribers.

        Of a running server clients are told by a GeneralModelChangeEvent (Part 3 9.32.2), and by BadNodeIdUnknown
        those that watch what is gone. Handlers, readers and columns of nodes that are gone go with them; for nodes that
        come back they are to be linked again. Raises KeyError, and changes nothing, for what does not fit together
        (`Tree.replace`).
        """
        change = self.space.replace(instances, references)
        self._events.forget_notifiers()
        self._subscriptions.release_missing()
        self.space.forget_missing()
        self._methods.forget_missing()
        self._histories.forget_missing()
        if self._listener is not None and (verbs := change.verbs()):
            changes = [
                ua.ModelChangeStructureDataType(Affected=node, AffectedType=change.type_definition(node), Verb=verb)
                for node, verb in verbs.items()
            ]
            self._tell_changes(MODEL_CHANGE, "The address space has changed", changes)
        if self._listener is not None and (variables := change.semantics()):
            self._redefined(variables)
        return change

    def _tell_changes(self, event_type: Any, message: str, changes: list[Any]) -> None:
        fields = {"Changes": ua.Variant(changes, ua.VariantType.ExtensionObject)}
        self.publish_event(Event.of_server(event_type, message, CHANGE_SEVERITY, self._clock.now(), fields))

    def open(self, sees: Callable[[str], bool]) -> None:
        """Let anonymous sessions see the nodes of ns=3 whose string ids `sees` says, of which there are none before.

        The standard nodes and the types everybody sees.
        """

        def rule(caller: Caller) -> Callable[[Any], bool] | None:
            return (lambda node_id: sees(str(node_id.Identifier))) if Role.ANONYMOUS in caller.roles else None

        self._sight.limit(SITE_NS, rule)

    def link_method(
        self,
        method_id: Any,
        handler: Handler,
        allowed: Allowed,
        refused: Refused = untold,
        audited: Audited = EVERY_CALL,
    ) -> None:
        """Answer calls of a method, of a type's for all its instances. Raises LookupError without such a node.

        The handler gets (caller, object id, arguments) after all checks; `refused` is told of calls that did not pass
        them. `allowed` is also the UserExecutable answer; `audited` says what auditors are told.
        """
        self._methods.link(method_id, handler, allowed, refused, audited)

    def redefine(self, node: str) -> None:
        """Tell clients that properties of a variable say something else of its value now, its EURange for one."""
        self._redefined([site(node)])

    def _redefined(self, variables: Sequence[Any]) -> None:
        """By the SemanticsChanged bit to those who watch the values (Part 8 5.2), to all by an event (Part 3 9.33)."""
        self._subscriptions.redefine(variables)
        changes = [
            ua.SemanticChangeStructureDataType(Affected=node, AffectedType=self.space.type_definition(node))
            for node in variables
        ]
        self._tell_changes(SEMANTIC_CHANGE, "Ranges or units of variables have changed", changes)

    def columns(self, nodes: Sequence[str]) -> slice:
        """Keep the values of these variables as rows of one table from now on: scalar numbers, null until written.

        The slice is what `write_row` takes. Raises LookupError without such a node, ValueError for other types.
        """
        return self.space.columns([site(node) for node in nodes], self._clock.now())

    def write_row(self, rows: slice, values: Floats, codes: Codes, source_time: int, server_time: int) -> None:
        """Show values of the rows of one `columns`, NaN for null; times ns UTC."""
        self.table.write_row(rows, values, codes, source_time, server_time)

    def write(self, node: str, value: Any, code: int, source_time: int, server_time: int) -> None:
        """Show a value: `node` is its string id in ns=3, `value` a Variant or None for null, times ns UTC.

        A Bad value is shown as null (Part 4 7.11). Raises KeyError without such a node.
        """
        self._write_node(site(node), value, code, source_time, server_time)

    def write_many(self, values: Iterable[tuple[str, Any, int]], source_time: int, server_time: int) -> None:
        """`write` of (node, value, code) with the same times."""
        source, server = from_ns(source_time), from_ns(server_time)
        for node, value, code in values:
            self.space.write(site(node), shown(value, code, source, server))

    def write_made(self, node: str, make: Callable[[], tuple[Any, int]], source_time: int, server_time: int) -> None:
        """`write` of the (value, code) that `make` makes as soon as somebody looks."""

        def made() -> Any:
            return shown(*make(), from_ns(source_time), from_ns(server_time))

        self.space.write_made(site(node), made)

    def write_instance(
        self, instance: str, make: Callable[[], Mapping[str, Any]], source_time: int, server_time: int
    ) -> None:
        """Show values of an instance's variables, Variants by path, which `make` makes as soon as somebody looks.

        They are Good; None is null with BadNoData. Raises KeyError without such an instance.
        """

        def made() -> Mapping[str, Any]:
            times = from_ns(source_time), from_ns(server_time)
            coded = ((path, value, ua.StatusCodes.BadNoData if value is None else 0) for path, value in make().items())
            return {path: shown(value, code, *times) for path, value, code in coded}

        self.space.write_instance(instance, made)

    def _show_constant(self, node_id: Any, value: Any) -> None:
        now = self._clock.now()
        self._write_node(node_id, value, 0, now, now)

    def _write_node(self, node_id: Any, value: Any, code: int, source_time: int, server_time: int) -> None:
        self.space.write(node_id, shown(value, code, from_ns(source_time), from_ns(server_time)))

    def grant(self, node_id: Any, rights: Rights, written: Written | None = None) -> None:
        """Let callers read or write a variable as `rights` says, in AccessLevel bits; without, nobody writes."""
        self._attributes.grant(node_id, rights, written)

    def translate(self, texts: Texts) -> None:
        """Show texts in the languages clients prefer: English text -> language -> translation."""
        self._texts.add(texts)
        self._object.locales(self._texts.known())

    def remember_text(self, text: str, translations: Mapping[str, str]) -> None:
        """Show one English text, made for the occasion, in other languages too; the newest ten thousand are kept."""
        self._texts.remember(text, translations)

    def publish_event(self, event: Event) -> None:
        """Record it, then deliver it to the subscribers of its source, of every notifier above it and of Server."""
        self._outbox.put(event)

    def deliver_event(self, event: Event) -> None:
        """Deliver what was recorded in the transaction of what it tells of (`event_fields.row`)."""
        self._events.publish(event)

    def retained(self, states: Callable[[], Iterable[Event]]) -> None:
        """Where ConditionRefresh finds the present state of all conditions with Retain."""
        self._events.retained = states

    def historize(self, node: str, archive: Archive, *, stepped: bool = False) -> None:
        """Answer HistoryRead and HistoryUpdate of ns=3 `node` and its Annotations from `archive`, under the same name.

        `stepped`: its values hold until the next one. Raises LookupError.
        """
        self._histories.add(site(node), node, archive, stepped=stepped)

    def begins(self, node: str, time: int) -> None:
        """Show when the history of a variable begins, ns UTC. Raises KeyError without an HA Configuration."""
        now = self._clock.now()
        self.write(f"{node}.HA.StartOfArchive", ua.Variant(from_ns(time), ua.VariantType.DateTime), 0, now, now)

    def remember_events(self, reader: Reads) -> None:
        """Answer HistoryRead of events from `reader`, at Server and every notifier that says so."""
        history = EventHistory(
            self.space, reader, self._events.notifiers, Receivers(self.space), self.limits, self._clock
        )
        self._history.offer(ua.ReadEventDetails, history.read)
        self._object.remember_events(self.limits)
        self.space.cell(SERVER, ua.AttributeIds.EventNotifier).value = ua.DataValue(
            ua.Variant(int(Notifies.SUBSCRIBE | Notifies.HISTORY_READ), ua.VariantType.Byte)
        )

    def show_members(self, members: Mapping[Role, Sequence[str]]) -> None:
        """Show administrators who holds which role: names of accounts."""
        self._roles.show(members)

    def sessions(self, user: str | None = None) -> list[Caller]:
        """Activated sessions, of one user or of all."""
        return [s.caller for s in self._of(user) if s.caller is not None]

    def close_sessions(self, user: str) -> int:
        """End all sessions of a user and their subscriptions, as when an account is disabled; how many."""
        closed = self._of(user)
        for session in closed:
            self._sessions.close(session, True)
        return len(closed)

    def _of(self, user: str | None) -> list[Session]:
        return [s for s in self._sessions if s.caller is not None and user in (None, s.caller.user)]


def shown(value: Any, code: int, source: datetime, server: datetime) -> Any:
    """DataValue of a Variant or None; a Bad value is null."""
    value = NULL if value is None or is_bad(code) else value
    return ua.DataValue(value, status(code), source, server)
