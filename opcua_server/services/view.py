"""View service set (Part 4 5.9): Browse, BrowseNext, TranslateBrowsePathsToNodeIds, RegisterNodes."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from itertools import chain, islice
from typing import Any, NamedTuple

from asyncua import ua

from nodesets.model import Caller
from opcua_server.services.browsing import BrowseDescription, BrowseParameters, Form, Selection, result
from opcua_server.services.limits import Limits
from opcua_server.services.locales import Locales, languages
from opcua_server.services.nodes import SITE_NS
from opcua_server.services.roles import Sight
from opcua_server.services.sessions import Session
from opcua_server.services.space import Space
from opcua_server.services.status import Fault, status, to_ns
from opcua_server.services.tree import Described, Wanted
from opcua_server.services.turns import in_turns

NO_INDEX = 0xFFFFFFFF
"""RemainingPathIndex of a path followed to its end."""

VIEWED = (ua.NodeId(ua.ObjectIds.Organizes), ua.NodeId(ua.ObjectIds.Aggregates))
"""References by which a view is filled; HasEventSource leads out of it, back to the whole device."""
FORMS = 64
"""Kinds of answers kept: masks of fields, in languages."""


@dataclass(frozen=True, slots=True, eq=False)
class _Request:
    """What the operations of one Browse have in common."""

    page: int
    """References of one node in one answer, most."""
    hidden: Mapping[int, Callable[[Any], bool]]
    """As `Sight.of` the caller."""
    within: "Within | None"
    question: Callable[[Selection], tuple[Wanted, Form]]


class _Rest(NamedTuple):
    """What a continuation point stands for."""

    references: Iterator[Any]
    form: Form
    page: int
    ahead: tuple[Any, ...] = ()
    """Taken from the iterator already, to see that there is more."""


class View:
    """What of the address space a caller sees; what he does not is neither shown nor passed through."""

    def __init__(self, space: Space, sight: Sight, limits: Limits, texts: Locales) -> None:
        self._space = space
        self._sight = sight
        self._limits = limits
        self._form = lru_cache(FORMS)(lambda mask, wanted: Form(mask, wanted, texts))

    async def browse(self, session: Session, parameters: BrowseParameters) -> list[bytes]:
        """Browse (5.9.2): BrowseResults, encoded."""
        page = min(parameters.RequestedMaxReferencesPerNode or self._limits.references, self._limits.references)
        question = cache(partial(self._question, languages(session.locales)))
        request = _Request(page, self._sight.of(session.user), self._within(parameters.View), question)
        return await in_turns(_result(self._browse, session, request, d) for d in parameters.NodesToBrowse)

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

    def _browse(self, session: Session, request: _Request, description: BrowseDescription) -> bytes:
        node_id = description.NodeId
        node = self._space.find(node_id)
        if node is None:
            raise Fault(ua.StatusCodes.BadNodeIdUnknown)
        sees = request.hidden.get(node_id.NamespaceIndex)
        if sees is not None and not sees(node_id):
            raise Fault(ua.StatusCodes.BadUserAccessDenied)
        if request.within is not None and not request.within(node_id):
            raise Fault(ua.StatusCodes.BadNodeNotInView)
        wanted, form = request.question(description.selection)
        found = _shown(self._space.references_of(node, wanted), request)
        return self._page(session, request, _Rest(found, form, request.page))

    def _question(self, wanted: tuple[str, ...], selection: Selection) -> tuple[Wanted, Form]:
        """Which references, and how they are shown in the `wanted` languages. Raises Fault."""
        direction = selection.BrowseDirection
        if direction not in (ua.BrowseDirection.Forward, ua.BrowseDirection.Inverse, ua.BrowseDirection.Both):
            raise Fault(ua.StatusCodes.BadBrowseDirectionInvalid)
        try:
            kinds = self._space.of_type(selection.ReferenceTypeId, selection.IncludeSubtypes)
        except KeyError as error:
            raise Fault(ua.StatusCodes.BadReferenceTypeIdInvalid) from error
        forward = None if direction == ua.BrowseDirection.Both else direction == ua.BrowseDirection.Forward
        references = Wanted(forward=forward, kinds=kinds, classes=selection.NodeClassMask)
        return references, self._form(selection.ResultMask, wanted)

    def _page(self, session: Session, request: object, rest: _Rest) -> bytes:
        encoded = rest.form.encoded
        page = [encoded(r) for r in islice(chain(rest.ahead, rest.references), rest.page)]
        following = next(rest.references, None)
        if following is None:
            return result(page)
        point = session.browse_points.keep(rest._replace(ahead=(following,)), request, self._limits.continuation_points)
        return result(page, point)

    async def browse_next(self, session: Session, parameters: Any) -> list[bytes]:
        """BrowseNext (5.9.3): BrowseResults, encoded. A continuation point serves once."""
        points, release, request = parameters.ContinuationPoints, parameters.ReleaseContinuationPoints, object()
        return await in_turns(_result(self._next, session, p, release, request) for p in points)

    def _next(self, session: Session, point: bytes | None, release: bool, request: object) -> bytes:
        rest = session.browse_points.take(point)
        if rest is None:
            raise Fault(ua.StatusCodes.BadContinuationPointInvalid)
        return result([]) if release else self._page(session, request, rest)

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
        if not self._sight(caller, start):
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
            nodes = {t: None for node in nodes for t in self._step(node, element) if self._sight(caller, t)}
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


def _shown(references: Iterator[Any], request: _Request) -> Iterator[Any]:
    """Those whose target the caller sees, and the view has."""
    hidden, within = request.hidden, request.within
    for r in references:
        sees = hidden.get(SITE_NS if isinstance(r, Described) else r.NodeId.NamespaceIndex)
        if (sees is None or sees(r.NodeId)) and (within is None or within(r.NodeId)):
            yield r


def _result(answer: Callable[..., bytes], *arguments: Any) -> bytes:
    try:
        return answer(*arguments)
    except Fault as fault:
        return result([], status=fault.status)
