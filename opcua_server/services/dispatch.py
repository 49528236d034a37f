"""Which request is answered by what: one table, type id -> parameters, handler and conditions.

A request without a row is answered BadServiceUnsupported, RegisterServer among them. So are the services of node
management, since nobody may change what this server is from outside; that somebody tried is for auditors to know.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import struct_from_binary

from nodesets.model import Caller
from nodesets.ports import Clock
from opcua_server.services import acts, browsing, publishing, requests
from opcua_server.services.attributes import Attributes
from opcua_server.services.audit import Act, Audit
from opcua_server.services.channel import Channel
from opcua_server.services.discovery import Discovery
from opcua_server.services.headers import RequestHeader, head
from opcua_server.services.history import HistoryService
from opcua_server.services.history_update import HistoryUpdates
from opcua_server.services.limits import Limits
from opcua_server.services.locales import Locales
from opcua_server.services.methods import Methods
from opcua_server.services.seams import UNREADABLE
from opcua_server.services.sessions import Session, Sessions, Waiting
from opcua_server.services.status import Fault
from opcua_server.services.subscriptions import Subscriptions
from opcua_server.services.turns import Turnstile
from opcua_server.services.view import View
from opcua_server.services.wire import Wire

log = logging.getLogger(__name__)

SECURITY_REFUSALS = frozenset(
    {
        ua.StatusCodes.BadSecurityModeInsufficient,
        ua.StatusCodes.BadSecureChannelIdInvalid,
        ua.StatusCodes.BadSessionIdInvalid,
        ua.StatusCodes.BadSessionNotActivated,
        ua.StatusCodes.BadUserAccessDenied,
    }
)
"""Counted as requests rejected for security (Part 5 12.9)."""
MISUSE = frozenset({ua.StatusCodes.BadSecureChannelIdInvalid, ua.StatusCodes.BadSessionIdInvalid})
"""A token that is nobody's, or another channel's."""
NODE_MANAGEMENT = {
    "AddNodes": "NodesToAdd",
    "AddReferences": "ReferencesToAdd",
    "DeleteNodes": "NodesToDelete",
    "DeleteReferences": "ReferencesToDelete",
}
"""Services and what they are asked to do."""
CERTIFICATE_REFUSALS = (ua.StatusCodes.BadSecurityChecksFailed, ua.StatusCodes.BadCertificateUriInvalid)
"""Counted as sessions rejected for security."""


LONG = 16_384
"""Bytes of a request whose decoding takes milliseconds, and whose answer does too: of these one is served at a time."""
ENUMERATIONS = {
    "TimestampsToReturn": ua.StatusCodes.BadTimestampsToReturnInvalid,
    "MonitoringMode": ua.StatusCodes.BadMonitoringModeInvalid,
    "PerformUpdateType": ua.StatusCodes.BadInvalidArgument,
}
"""What a number outside its enumeration is answered: a value that is wrong, not bytes that cannot be read."""


def _undecodable(error: Exception) -> int:
    """StatusCode for what the decoder raised; Python's enumerations name themselves at the end."""
    return int(ENUMERATIONS.get(str(error).rpartition(" ")[2], ua.StatusCodes.BadDecodingError))


@dataclass(frozen=True, slots=True)
class Request:
    """One request on its way to a handler."""

    channel: Channel
    header: RequestHeader
    sequence: Any
    parameters: Any
    given_session: Session | None = None

    @property
    def session(self) -> Session:
        if self.given_session is None:
            raise Fault(ua.StatusCodes.BadSessionIdInvalid)
        return self.given_session

    @property
    def caller(self) -> Caller:
        return self.session.user


Response = Any
Acts = Callable[[Request, Response | None, Fault | None], Iterable[Act]]
"""(request, response, fault instead of one) -> what auditors are told."""


@dataclass(frozen=True, slots=True)
class Service:
    """A row: how a request is read, what it needs, who answers."""

    parameters: Any
    handler: Callable[[Request], Response | Awaitable[Response]]
    operations: str = ""
    """Attribute with the list of operations: not empty and not longer than `most`."""
    most: int = 0
    session: bool = True
    """Only in an activated session of a user with at least one role."""
    secured: bool = True
    """Only on a signed and encrypted channel."""
    nodes: tuple[str, ...] = ()
    """Where in an operation NodeIds are that may be registered ones (5.9.5)."""
    background: bool = False
    """Answered by a task of its own, while further requests of the connection are served."""
    decode: Callable[[bytes, int], Any] | None = None
    """(message, start) -> parameters that `Wire` has found to be some, where asyncua's decoder does not read them."""
    lenient: Any = None
    """What parameters are decoded as that asyncua refuses as a whole: of the same layout (requests.py)."""
    name: str = ""
    """Of the service, as its counter in the diagnostics is named."""
    acts: Acts | None = None
    """What auditors are told of a request and its answer."""


def _decoded(service: Service, body: bytes, start: int) -> Any:
    """Parameters of a request. Raises one of UNREADABLE."""
    if service.decode is not None:
        return service.decode(body, start)
    try:
        return struct_from_binary(service.parameters, Buffer(body, start))
    except UNREADABLE:
        if service.lenient is None:
            raise
    return struct_from_binary(service.lenient, Buffer(body, start))


class Dispatcher:
    """The table, and the one place a request goes through."""

    def __init__(
        self,
        *,
        limits: Limits,
        clock: Clock,
        discovery: Discovery,
        sessions: Sessions,
        view: View,
        attributes: Attributes,
        methods: Methods,
        subscriptions: Subscriptions,
        history: HistoryService,
        history_updates: HistoryUpdates,
        texts: Locales,
        audit: Audit,
        settle: Callable[[], Awaitable[None]],
        none: bool,
    ) -> None:
        """`none`: sessions need no channel security; `settle` returns when all that was told to `audit` is recorded."""
        self._none = none
        self._audit = audit
        self._settle = settle
        self._texts = texts
        self._limits = limits
        self._wire = Wire(limits)
        self._clock = clock
        self._discovery = discovery
        self._sessions = sessions
        self._view = view
        self._attributes = attributes
        self._methods = methods
        self._subscriptions = subscriptions
        self._history = history
        self._history_updates = history_updates
        self._turnstile = Turnstile()
        self._tasks: set[asyncio.Task[None]] = set()
        rows = {name: replace(s, name=name.removesuffix("Request")) for name, s in self._rows().items()}
        self._table = {getattr(ua.ObjectIds, f"{name}_Encoding_DefaultBinary"): s for name, s in rows.items()}

    def _rows(self) -> Mapping[str, Service]:
        most, view, subs, texts = self._limits.operations, self._view, self._subscriptions, self._texts
        nodes, paths = self._limits.nodes, self._limits.browse_paths
        # fmt: off
        return {
            # 5.5 discovery
            "FindServersRequest": Service(ua.FindServersParameters, self._find_servers, session=False, secured=False),
            "GetEndpointsRequest": Service(
                ua.GetEndpointsParameters, self._get_endpoints, session=False, secured=False),
            # 5.7 sessions
            "CreateSessionRequest": Service(
                ua.CreateSessionParameters, self._create_session, session=False, acts=acts.session_created),
            "ActivateSessionRequest": Service(
                ua.ActivateSessionParameters, self._activate_session, session=False, acts=acts.session_activated),
            "CloseSessionRequest": Service(ua.CloseSessionRequest, self._close_session, session=False),
            "CancelRequest": Service(ua.CancelParameters, lambda r: ua.CancelResponse(
                Parameters=ua.CancelResult(CancelCount=r.session.cancel(r.parameters.RequestHandle))),
                acts=acts.cancelled),
            # 5.8 node management: nobody may change what this server is from outside
            **self._node_management(),
            # 5.9 view
            "BrowseRequest": Service(ua.BrowseParameters, self._browse, "NodesToBrowse", paths, nodes=("NodeId",),
                decode=browsing.parameters),
            "BrowseNextRequest": Service(ua.BrowseNextParameters, self._browse_next, "ContinuationPoints", paths),
            "TranslateBrowsePathsToNodeIdsRequest": Service(
                ua.TranslateBrowsePathsToNodeIdsParameters, lambda r: ua.TranslateBrowsePathsToNodeIdsResponse(
                Results=view.translate(r.caller, r.parameters)), "BrowsePaths", paths, nodes=("StartingNode",)),
            "RegisterNodesRequest": Service(ua.RegisterNodesParameters, lambda r: ua.RegisterNodesResponse(
                Parameters=ua.RegisterNodesResult(RegisteredNodeIds=view.register(r.session, r.parameters))),
                "NodesToRegister", most),
            "UnregisterNodesRequest": Service(ua.UnregisterNodesParameters, self._unregister,
                "NodesToUnregister", most),
            # 5.11 attributes
            "ReadRequest": Service(ua.ReadParameters, lambda r: ua.ReadResponse(
                Results=texts.values(self._attributes.read(r.caller, r.parameters), r.session.locales)),
                "NodesToRead", nodes, nodes=("NodeId",)),
            "WriteRequest": Service(ua.WriteParameters, self._write, "NodesToWrite", nodes, nodes=("NodeId",)),
            "HistoryReadRequest": Service(ua.HistoryReadParameters, self._history_read, "NodesToRead",
                self._limits.history_nodes, background=True, nodes=("NodeId",)),
            "HistoryUpdateRequest": Service(ua.HistoryUpdateParameters, self._history_update, "HistoryUpdateDetails",
                self._limits.history_updates, background=True),
            # 5.12 methods
            "CallRequest": Service(ua.CallParameters, self._call, "MethodsToCall",
                self._limits.method_calls, background=True, nodes=("ObjectId", "MethodId")),
            # 5.13 monitored items
            "CreateMonitoredItemsRequest": Service(
                ua.CreateMonitoredItemsParameters, lambda r: ua.CreateMonitoredItemsResponse(
                Results=subs.create_items(r.session, r.parameters)), "ItemsToCreate", most,
                nodes=("ItemToMonitor.NodeId",), lenient=requests.CreateMonitoredItemsParameters),
            "ModifyMonitoredItemsRequest": Service(
                ua.ModifyMonitoredItemsParameters, lambda r: ua.ModifyMonitoredItemsResponse(
                Results=subs.modify_items(r.session, r.parameters)), "ItemsToModify", most,
                lenient=requests.ModifyMonitoredItemsParameters),
            "SetMonitoringModeRequest": Service(
                ua.SetMonitoringModeParameters, lambda r: ua.SetMonitoringModeResponse(
                Parameters=ua.SetMonitoringModeResult(Results=subs.set_mode(r.session, r.parameters))),
                "MonitoredItemIds", most),
            "SetTriggeringRequest": Service(
                ua.SetTriggeringParameters, lambda r: ua.SetTriggeringResponse(
                Parameters=subs.set_triggering(r.session, r.parameters))),
            "DeleteMonitoredItemsRequest": Service(
                ua.DeleteMonitoredItemsParameters, lambda r: ua.DeleteMonitoredItemsResponse(
                Results=subs.delete_items(r.session, r.parameters)), "MonitoredItemIds", most),
            # 5.14 subscriptions
            "CreateSubscriptionRequest": Service(
                ua.CreateSubscriptionParameters, lambda r: ua.CreateSubscriptionResponse(
                Parameters=subs.create(r.session, r.parameters))),
            "ModifySubscriptionRequest": Service(
                ua.ModifySubscriptionParameters, lambda r: ua.ModifySubscriptionResponse(
                Parameters=subs.modify(r.session, r.parameters))),
            "SetPublishingModeRequest": Service(
                ua.SetPublishingModeParameters, lambda r: ua.SetPublishingModeResponse(
                Parameters=ua.SetPublishingModeResult(Results=subs.set_publishing(r.session, r.parameters))),
                "SubscriptionIds", most),
            "PublishRequest": Service(ua.PublishParameters, self._publish, decode=publishing.parameters),
            "RepublishRequest": Service(ua.RepublishParameters, lambda r: ua.RepublishResponse(
                NotificationMessage=subs.republish(r.session, r.parameters))),
            "TransferSubscriptionsRequest": Service(
                ua.TransferSubscriptionsParameters, lambda r: ua.TransferSubscriptionsResponse(
                Parameters=ua.TransferSubscriptionsResult(Results=subs.transfer(r.session, r.parameters))),
                "SubscriptionIds", most, acts=acts.transferred),
            "DeleteSubscriptionsRequest": Service(
                ua.DeleteSubscriptionsParameters, lambda r: ua.DeleteSubscriptionsResponse(
                Results=subs.delete(r.session, r.parameters.SubscriptionIds)), "SubscriptionIds", most),
        }
        # fmt: on

    @staticmethod
    def _node_management() -> Mapping[str, Service]:
        return {
            f"{name}Request": Service(
                getattr(ua, f"{name}Parameters"),
                _unsupported,
                session=False,
                secured=False,
                acts=acts.nodes_managed(name, operations),
            )
            for name, operations in NODE_MANAGEMENT.items()
        }

    # -- one request

    async def handle(self, channel: Channel, sequence: Any, body: bytes) -> None:
        """Answer a request: always a response or a ServiceFault."""
        try:
            asked, header, start = head(body, self._wire)
        except Fault:
            channel.fault(RequestHeader(), sequence, ua.StatusCodes.BadDecodingError)
            return
        service = self._table.get(asked)
        try:
            if long := len(body) > LONG:
                await self._turnstile.pass_through()
            request = self._admit(service, channel, header, sequence, body, start)
            if long:
                await self._turnstile.pass_through()
            if service is not None and service.background:
                self._start(service, request)
                return
        except Fault as fault:
            if fault.status in MISUSE and service is not None:
                stranger = Request(channel, header, sequence, None)
                self._audit.tell(acts.misused(stranger, service.name, fault))
            self._sessions.summary.RejectedRequestsCount += 1
            self._sessions.summary.SecurityRejectedRequestsCount += fault.status in SECURITY_REFUSALS
            channel.fault(header, sequence, fault.status)
            return
        except Exception:  # a mistake of ours is answered and logged, and ends no connection (as in _answer)
            log.exception("%s was not admitted", service.name if service is not None else "a request")
            channel.fault(header, sequence, ua.StatusCodes.BadInternalError)
            return
        await self._answer(service, request)

    def _admit(
        self, service: Service | None, channel: Channel, header: RequestHeader, sequence: Any, body: bytes, start: int
    ) -> Request:
        """Everything that is checked before a handler runs; parameters begin at `start`. Raises Fault."""
        if service is None:
            raise Fault(ua.StatusCodes.BadServiceUnsupported)
        if service.secured and not (channel.secured or self._none):
            raise Fault(ua.StatusCodes.BadSecurityModeInsufficient)
        session = self._sessions.find(header, channel) if service.session else None
        if session is not None and not session.user.roles:
            raise Fault(ua.StatusCodes.BadUserAccessDenied)
        if session is not None:
            session.count(service.name)
        if service.parameters is ua.CloseSessionRequest:  # asyncua has no class for its parameters alone
            start = 0
        parameters = self._parameters(service, body, start)
        if service.operations:
            count = len(getattr(parameters, service.operations) or [])
            if count == 0:
                raise Fault(ua.StatusCodes.BadNothingToDo)
            if count > service.most:
                raise Fault(ua.StatusCodes.BadTooManyOperations)
        if service.nodes and session is not None and session.aliases:
            session.aliases.resolve(getattr(parameters, service.operations), service.nodes)
        return Request(channel, header, sequence, parameters, session)

    def _parameters(self, service: Service, body: bytes, start: int) -> Any:
        """Parameters of a request. Raises Fault."""
        self._wire.check(service.parameters, body, start)
        try:
            return _decoded(service, body, start)
        except UNREADABLE as error:
            raise Fault(_undecodable(error)) from error

    async def _answer(self, service: Service | None, request: Request) -> None:
        if service is None:
            return
        try:
            response = service.handler(request)
            if isinstance(response, Awaitable):
                response = await response
        except Fault as fault:
            self._tell(service, request, None, fault)
            if request.given_session is not None:
                request.given_session.count_failure(service.name)
            request.channel.fault(request.header, request.sequence, fault.status)
            return
        except Exception:
            # A mistake of ours costs this request, not the other clients; the log has all of it but the request.
            log.exception("%s failed", type(request.parameters).__name__)
            request.channel.fault(request.header, request.sequence, ua.StatusCodes.BadInternalError)
            return
        self._tell(service, request, response, None)
        if response is not None:
            most = request.given_session.max_response if request.given_session is not None else 0
            request.channel.respond(request.header, request.sequence, response, most)

    def _tell(self, service: Service, request: Request, response: Response | None, fault: Fault | None) -> None:
        if service.acts is not None:
            if request.given_session is None:
                request = replace(request, given_session=self._sessions.named(request.header))
            for act in service.acts(request, response, fault):
                self._audit.tell(act)

    def _start(self, service: Service, request: Request) -> None:
        session = request.session
        if session.tasks >= self._limits.tasks:
            raise Fault(ua.StatusCodes.BadTooManyOperations)
        session.tasks += 1
        task = asyncio.create_task(self._answer(service, request))
        self._tasks.add(task)

        def done(finished: asyncio.Task[None]) -> None:
            session.tasks -= 1
            self._tasks.discard(finished)

        task.add_done_callback(done)

    async def drain(self) -> None:
        """Wait for what is under way: a release half done must not be cut off."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    # -- handlers of more than a line

    def _find_servers(self, request: Request) -> Response:
        return ua.FindServersResponse(Servers=self._discovery.find_servers(request.parameters))

    def _get_endpoints(self, request: Request) -> Response:
        return ua.GetEndpointsResponse(Endpoints=self._discovery.get_endpoints(request.parameters))

    def _create_session(self, request: Request) -> Response:
        endpoints = self._discovery.endpoints(request.parameters.EndpointUrl)
        summary = self._sessions.summary
        try:
            result = self._sessions.create(request.channel, request.parameters, endpoints)
        except Fault as fault:
            summary.RejectedSessionCount += 1
            summary.SecurityRejectedSessionCount += fault.status in CERTIFICATE_REFUSALS
            raise
        return ua.CreateSessionResponse(Parameters=result)

    async def _activate_session(self, request: Request) -> Response:
        result = await self._sessions.activate(request.channel, request.header, request.parameters)
        return ua.ActivateSessionResponse(Parameters=result)

    def _close_session(self, request: Request) -> Response:
        self._sessions.close_by_request(request.channel, request.header, request.parameters.DeleteSubscriptions)
        return ua.CloseSessionResponse()

    async def _browse(self, request: Request) -> Response:
        results = await self._view.browse(request.session, request.parameters)
        return browsing.Response(ua.ObjectIds.BrowseResponse_Encoding_DefaultBinary, results)

    async def _browse_next(self, request: Request) -> Response:
        results = await self._view.browse_next(request.session, request.parameters)
        return browsing.Response(ua.ObjectIds.BrowseNextResponse_Encoding_DefaultBinary, results)

    def _unregister(self, request: Request) -> Response:
        request.session.aliases.unregister(request.parameters.NodesToUnregister)
        return ua.UnregisterNodesResponse()

    async def _history_read(self, request: Request) -> Response:
        results = await self._history.read(request.session, request.parameters)
        return ua.HistoryReadResponse(Results=results)

    async def _history_update(self, request: Request) -> Response:
        def tell(details: Any, result: Any, old: Sequence[Any]) -> None:
            for act in acts.history_updated(request, details, result, old):
                self._audit.tell(act)

        reason = request.header.entry
        results = await self._history_updates.update(request.caller, request.parameters, reason, tell)
        return ua.HistoryUpdateResponse(Results=results)

    async def _call(self, request: Request) -> Response:
        caller = request.caller  # as it was when the request came: a change of user does not reach into a running call
        entry = request.header.entry
        results = [await self._methods.call(caller, m, entry) for m in request.parameters.MethodsToCall]
        await self._settle()
        return ua.CallResponse(Results=results)

    async def _write(self, request: Request) -> Response:
        def tell(item: Any, old: Any, code: int) -> None:
            self._audit.tell(acts.written(request, item, old, code))

        results = self._attributes.write(request.caller, request.parameters, tell)
        await self._settle()
        return ua.WriteResponse(Results=results)

    def _publish(self, request: Request) -> None:
        hint = request.header.timeout
        deadline = self._clock.monotonic() + hint / 1000 if hint else None
        most = request.session.max_response
        waiting = Waiting(request.channel, request.header, request.sequence, [], deadline, most)
        self._subscriptions.publish(request.session, waiting, request.parameters.SubscriptionAcknowledgements or [])


def _unsupported(_request: Request) -> Response:
    raise Fault(ua.StatusCodes.BadServiceUnsupported)
