"""RegisterNodes and UnregisterNodes (Part 4 5.9.5, 5.9.6): short NodeIds that stand for long ones in one session.

An alias is a number in the server's own namespace, four bytes on the wire, put back into the NodeId before a request is
answered: no service knows of it, and in any other session it is no node at all.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from asyncua import ua

NAMESPACE = 1


class Aliases:
    def __init__(self, limit: int) -> None:
        """At most `limit` at once; what is registered beyond keeps its NodeId."""
        self._limit = limit
        self._nodes: dict[int, Any] = {}
        self._next = 1

    def __bool__(self) -> bool:
        return bool(self._nodes)

    def register(self, node_ids: Iterable[Any], known: Callable[[Any], bool]) -> list[Any]:
        """What to use instead of each; the same for a node there is not, or whose id is a number already."""
        return [self._alias(node_id) if known(node_id) else node_id for node_id in map(self.node, node_ids)]

    def _alias(self, node_id: Any) -> Any:
        if isinstance(node_id.Identifier, int) or len(self._nodes) >= self._limit:
            return node_id
        number, self._next = self._next, self._next + 1
        self._nodes[number] = node_id
        return ua.NodeId(number, NAMESPACE)

    def unregister(self, node_ids: Iterable[Any]) -> None:
        """No error for what is no alias."""
        for node_id in node_ids:
            if node_id.NamespaceIndex == NAMESPACE:
                self._nodes.pop(node_id.Identifier, None)

    def node(self, node_id: Any) -> Any:
        """The NodeId an alias stands for; any other as it is."""
        return self._nodes.get(node_id.Identifier, node_id) if node_id.NamespaceIndex == NAMESPACE else node_id

    def resolve(self, operations: Iterable[Any], paths: Sequence[str]) -> None:
        """Put NodeIds for the aliases at these attributes of each operation, e.g. `ItemToMonitor.NodeId`."""
        for operation in operations:
            for path in paths:
                owner, name = operation, path
                if "." in path:
                    first, _, name = path.partition(".")
                    owner = getattr(operation, first)
                setattr(owner, name, self.node(getattr(owner, name)))
