"""Takes out of the standard address space what this server does not do: a node that is there is a promise."""

from collections.abc import Iterable
from typing import Any

from asyncua import ua

from opcua_server.services.space import Space

BELOW = (ua.NodeId(ua.ObjectIds.Aggregates), ua.NodeId(ua.ObjectIds.Organizes))
"""References to what goes with a node."""


def prune(space: Space, roots: Iterable[Any]) -> None:
    """Remove nodes with all that is below them, and every reference to them."""
    gone = set()
    waiting = list(roots)
    while waiting:
        node = waiting.pop()
        gone.add(node)
        waiting += [
            r.NodeId
            for r in space.references(node)
            if r.IsForward and r.NodeId not in gone and any(space.is_subtype(r.ReferenceTypeId, kind) for kind in BELOW)
        ]
    beside = {r.NodeId for node in gone for r in space.references(node)} - gone
    for node in beside:
        found = space.storage.get(node)
        if found is not None:
            found.references[:] = [r for r in found.references if r.NodeId not in gone]
    for node in gone:
        del space.storage[node]
