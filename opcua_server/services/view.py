"""View service set (Part 4 5.9): Browse, BrowseNext, TranslateBrowsePathsToNodeIds, RegisterNodes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any

from asyncua import ua

from nodesets.model import Caller
from opcua_server.services.limits import Limits
from opcua_server.services.roles import Sees
from opcua_server.services.sessions import Session
from opcua_server.services.space import Space
from opcua_server.services.status import Fault, status, to_ns
from opcua_server.services.tree import Wanted
from opcua_server.services.turns import in_turns

NO_INDEX = 0xFFFFFFFF
"""RemainingPathIndex of a path followed to its end."""

VIEWED = (ua.NodeId(ua.ObjectIds.Organizes), ua.NodeId(ua.ObjectIds.Aggregates))
"""References by which a view is filled; HasEventSource leads out of it, back to the whole device."""
MASK = ua.BrowseResultMask


@dataclass(frozen=True, slots=True)
class _Rest:
    """What a continuation point stands for."""

    references: Iterator[Any]
    mask: int
    page: int
    request: object
    """What it is asked for by."""
    ahead: tuple[Any, ...] = ()
    """Taken from the iterator already, to see that there is more."""


class View:
    """What of the address space a caller sees; what he does not is neither shown nor passed through."""

    def __init__(self, space: Space, sees: Sees, limits: Limits) -> None:
        self._space = space
        self._sees = sees
        self._limits = limits

    async def browse(self, session: Session, parameters: Any) -> list[Any]:
        """Browse (5.9.2)."""
        within = self._within(parameters.View)
        wanted = parameters.RequestedMaxReferencesPerNode or self._limits.references
        page = min(wanted, self._limits.references)
        browse = partial(self._browse, session, page, within, object())
        return await in_turns(_result(partial(browse, d)) for d in parameters.NodesToBrowse)

    def _within(self, view: Any) -> "Within | None":
        """What a ViewDescription (7.44) limits a Browse to; None: nothing. Raises Fault."""
        if view.ViewId.is_null():
            return None
        if self._space.node_class(view.ViewId) != ua.NodeClass.View:
            raise Fault(ua.StatusCodes.BadViewIdUnknown)
        time = to_ns(view.Timestamp)
        if time is not None and view.ViewVersion:
            raise Fault(ua.StatusCodes.BadViewParameterMismatch)
        if view.ViewVersion:  # our views keep no versions
            raise Fault(ua.StatusCodes.BadViewVersionInvalid)
        if time is not None and time < (to_ns(self._space.tree.made) or 0):
            raise Fault(ua.StatusCodes.BadViewTimestampInvalid)
        return Within(self._space, view.ViewId)

    def _browse(self, session: Session, page: int, within: "Within | None", request: object, description: Any) -> Any:
        if description.NodeId not in self._space:
            raise Fault(ua.StatusCodes.BadNodeIdUnknown)
        caller = session.user
        if not self._sees(caller, description.NodeId):
            raise Fault(ua.StatusCodes.BadUserAccessDenied)
        if within is not None and not within(description.NodeId):
            raise Fault(ua.StatusCodes.BadNodeNotInView)
        direction = description.BrowseDirection
        if direction not in (ua.BrowseDirection.Forward, ua.BrowseDirection.Inverse, ua.BrowseDirection.Both):
            raise Fault(ua.StatusCodes.BadBrowseDirectionInvalid)
        try:
            kinds = self._space.of_type(description.ReferenceTypeId, description.IncludeSubtypes)
        except KeyError as error:
            raise Fault(ua.StatusCodes.BadReferenceTypeIdInvalid) from error
        forward = None if direction == ua.BrowseDirection.Both else direction == ua.BrowseDirection.Forward
        wanted = Wanted(forward=forward, kinds=kinds, classes=description.NodeClassMask)
        found = (r for r in self._space.references(description.NodeId, wanted) if self._sees(caller, r.NodeId))
        if within is not None:
            found = (r for r in found if within(r.NodeId))
        return self._page(session, _Rest(found, description.ResultMask, page, request))

    def _page(self, session: Session, rest: _Rest) -> Any:
        page = [*rest.ahead, *islice(rest.references, rest.page - len(rest.ahead))]
        result = ua.BrowseResult(References=[_masked(r, rest.mask) for r in page])
        if following := next(rest.references, None):
            further = replace(rest, ahead=(following,))
            most = self._limits.continuation_points
            result.ContinuationPoint = session.browse_points.keep(further, rest.request, most)
        return result

    async def browse_next(self, session: Session, parameters: Any) -> list[Any]:
        """BrowseNext (5.9.3). A continuation point serves once."""
        points, release, request = parameters.ContinuationPoints, parameters.ReleaseContinuationPoints, object()
        return await in_turns(_result(partial(self._next, session, p, release, request)) for p in points)

    def _next(self, session: Session, point: bytes | None, release: bool, request: object) -> Any:
        rest = session.browse_points.take(point)
        if rest is None:
            raise Fault(ua.StatusCodes.BadContinuationPointInvalid)
        return ua.BrowseResult() if release else self._page(session, replace(rest, request=request))

    def register(self, session: Session, parameters: Any) -> list[Any]:
        """RegisterNodes (5.9.5)."""
        return session.aliases.register(parameters.NodesToRegister, self._space.__contains__)

    def translate(self, caller: Caller, parameters: Any) -> list[Any]:
        """TranslateBrowsePathsToNodeIds (5.9.4)."""
        return [self._translate(caller, path) for path in parameters.BrowsePaths]

    def _translate(self, caller: Caller, path: Any) -> Any:
        try:
            targets = self._follow(caller, path.StartingNode, path.RelativePath.Elements or [])
        except Fault as fault:
            return ua.BrowsePathResult(StatusCode=status(fault.status))
        return ua.BrowsePathResult(
            Targets=[ua.BrowsePathTarget(TargetId=t, RemainingPathIndex=NO_INDEX) for t in targets]
        )

    def _follow(self, caller: Caller, start: Any, elements: list[Any]) -> list[Any]:
        if start not in self._space:
            raise Fault(ua.StatusCodes.BadNodeIdUnknown)
        if not self._sees(caller, start):
            raise Fault(ua.StatusCodes.BadUserAccessDenied)
        if not elements:
            raise Fault(ua.StatusCodes.BadNothingToDo)
        if len(elements) > self._limits.path_elements:
            raise Fault(ua.StatusCodes.BadTooManyOperations)
        if any(e.TargetName is None or not e.TargetName.Name for e in elements):
            raise Fault(ua.StatusCodes.BadBrowseNameInvalid)
        nodes = {start: None}
        for element in elements:
            # A node reached on two ways counts once: paths through loops must not multiply.
            nodes = {t: None for node in nodes for t in self._step(node, element) if self._sees(caller, t)}
        if not nodes:
            raise Fault(ua.StatusCodes.BadNoMatch)
        return list(nodes)

    def _step(self, node: Any, element: Any) -> list[Any]:
        try:
            kinds = self._space.of_type(element.ReferenceTypeId, element.IncludeSubtypes)
        except KeyError:
            return []
        references = self._space.references(node, Wanted(forward=not element.IsInverse, kinds=kinds))
        return [r.NodeId for r in references if r.BrowseName == element.TargetName]


class Within:
    """Which nodes a view has: what is organized under its View node, and what that consists of (Part 3 5.4)."""

    def __init__(self, space: Space, view: Any) -> None:
        self._space = space
        self._above = Wanted(forward=False, kinds=lambda k: any(space.is_subtype(k, base) for base in VIEWED))
        self._known = {view: True}

    def __call__(self, node_id: Any) -> bool:
        known = self._known.get(node_id)
        if known is None:
            known = self._known[node_id] = self._climb(node_id)
        return known

    def _climb(self, node_id: Any) -> bool:
        found, waiting = {node_id}, [node_id]
        while waiting:
            for r in self._space.references(waiting.pop(), self._above):
                if self._known.get(r.NodeId):
                    return True
                if r.NodeId not in found and r.NodeId not in self._known:
                    found.add(r.NodeId)
                    waiting.append(r.NodeId)
        self._known.update(dict.fromkeys(found, False))
        return False


def _result(answer: Callable[[], Any]) -> Any:
    try:
        return answer()
    except Fault as fault:
        return ua.BrowseResult(StatusCode=status(fault.status))


def _masked(reference: Any, mask: int) -> Any:
    """Only the fields the client asked for (7.7, BrowseResultMask)."""
    if mask & MASK.All == MASK.All:
        return reference
    result = ua.ReferenceDescription(NodeId=reference.NodeId)
    if mask & MASK.ReferenceTypeId:
        result.ReferenceTypeId = reference.ReferenceTypeId
    result.IsForward = reference.IsForward if mask & MASK.IsForward else False
    if mask & MASK.NodeClass:
        result.NodeClass = reference.NodeClass
    if mask & MASK.BrowseName:
        result.BrowseName = reference.BrowseName
    if mask & MASK.DisplayName:
        result.DisplayName = reference.DisplayName
    if mask & MASK.TypeDefinition:
        result.TypeDefinition = reference.TypeDefinition
    return result
