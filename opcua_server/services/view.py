"""View service set (Part 4 5.9): Browse, BrowseNext, TranslateBrowsePathsToNodeIds, RegisterNodes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any

from asyncua import ua

from opcua_server.services.limits import Limits
from opcua_server.services.sessions import Session
from opcua_server.services.space import Space
from opcua_server.services.status import Fault, status
from opcua_server.services.tree import EVERYTHING, Wanted

NO_INDEX = 0xFFFFFFFF
"""RemainingPathIndex of a path followed to its end."""

MASK = ua.BrowseResultMask


@dataclass(frozen=True, slots=True)
class _Rest:
    """What a continuation point stands for."""

    references: Iterator[Any]
    mask: int
    page: int
    ahead: tuple[Any, ...] = ()
    """Taken from the iterator already, to see that there is more."""


class View:
    def __init__(self, space: Space, limits: Limits) -> None:
        self._space = space
        self._limits = limits

    def browse(self, session: Session, parameters: Any) -> list[Any]:
        """Browse (5.9.2)."""
        if not parameters.View.ViewId.is_null():
            raise Fault(ua.StatusCodes.BadViewIdUnknown)
        wanted = parameters.RequestedMaxReferencesPerNode or self._limits.references
        page = min(wanted, self._limits.references)
        return [_result(partial(self._browse, session, d, page)) for d in parameters.NodesToBrowse]

    def _browse(self, session: Session, description: Any, page: int) -> Any:
        if description.NodeId not in self._space:
            raise Fault(ua.StatusCodes.BadNodeIdUnknown)
        direction = description.BrowseDirection
        if direction not in (ua.BrowseDirection.Forward, ua.BrowseDirection.Inverse, ua.BrowseDirection.Both):
            raise Fault(ua.StatusCodes.BadBrowseDirectionInvalid)
        try:
            kinds = self._space.of_type(description.ReferenceTypeId, description.IncludeSubtypes)
        except KeyError as error:
            raise Fault(ua.StatusCodes.BadReferenceTypeIdInvalid) from error
        forward = None if direction == ua.BrowseDirection.Both else direction == ua.BrowseDirection.Forward
        wanted = Wanted(forward=forward, kinds=kinds, classes=description.NodeClassMask or EVERYTHING.classes)
        found = self._space.references(description.NodeId, wanted)
        return self._page(session, _Rest(found, description.ResultMask, page))

    def _page(self, session: Session, rest: _Rest) -> Any:
        page = [*rest.ahead, *islice(rest.references, rest.page - len(rest.ahead))]
        result = ua.BrowseResult(References=[_masked(r, rest.mask) for r in page])
        if following := next(rest.references, None):
            further = replace(rest, ahead=(following,))
            result.ContinuationPoint = session.keep(session.browse_points, further, self._limits.continuation_points)
        return result

    def browse_next(self, session: Session, parameters: Any) -> list[Any]:
        """BrowseNext (5.9.3). A continuation point serves once."""
        release = parameters.ReleaseContinuationPoints
        return [_result(partial(self._next, session, p, release)) for p in parameters.ContinuationPoints]

    def _next(self, session: Session, point: bytes | None, release: bool) -> Any:
        rest = session.browse_points.pop(point or b"", None)
        if rest is None:
            raise Fault(ua.StatusCodes.BadContinuationPointInvalid)
        return ua.BrowseResult() if release else self._page(session, rest)

    def translate(self, parameters: Any) -> list[Any]:
        """TranslateBrowsePathsToNodeIds (5.9.4)."""
        return [self._translate(path) for path in parameters.BrowsePaths]

    def _translate(self, path: Any) -> Any:
        try:
            targets = self._follow(path.StartingNode, path.RelativePath.Elements or [])
        except Fault as fault:
            return ua.BrowsePathResult(StatusCode=status(fault.status))
        return ua.BrowsePathResult(
            Targets=[ua.BrowsePathTarget(TargetId=t, RemainingPathIndex=NO_INDEX) for t in targets]
        )

    def _follow(self, start: Any, elements: list[Any]) -> list[Any]:
        if start not in self._space:
            raise Fault(ua.StatusCodes.BadNodeIdUnknown)
        if not elements:
            raise Fault(ua.StatusCodes.BadNothingToDo)
        if len(elements) > self._limits.path_elements:
            raise Fault(ua.StatusCodes.BadTooManyOperations)
        if any(e.TargetName is None or not e.TargetName.Name for e in elements):
            raise Fault(ua.StatusCodes.BadBrowseNameInvalid)
        nodes = {start: None}
        for element in elements:
            # A node reached on two ways counts once: paths through loops must not multiply.
            nodes = {t: None for node in nodes for t in self._step(node, element)}
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
