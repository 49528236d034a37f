"""An object for each session below SessionsDiagnosticsSummary (Part 5 6.3.4, 6.3.5).

Made after the declaration in its type, with the SessionId as its NodeId (Part 4 5.7.2.2); seen by administrators and by
the session itself. Values are worked out when they are read, and once a second for those who subscribe.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

from asyncua import ua
from asyncua.server.address_space import NodeData

from nodesets.model import Caller, Role
from opcua_server.services.nodes import HAS_COMPONENT, HAS_PROPERTY
from opcua_server.services.sessions import Session
from opcua_server.services.space import Space
from opcua_server.services.status import GOOD, NULL, status
from opcua_server.services.tree import HAS_TYPE_DEFINITION, Cell, describe_stored

A, T, IDS = ua.AttributeIds, ua.VariantType, ua.ObjectIds
TYPE = ua.NodeId(IDS.SessionDiagnosticsObjectType)
SUMMARY = ua.NodeId(IDS.Server_ServerDiagnostics_SessionsDiagnosticsSummary)
CHILDREN = (HAS_COMPONENT, HAS_PROPERTY)
NAMESPACE = 1
"""Of the server itself, whose SessionIds are in it."""
ADMINISTRATORS = frozenset({Role.CONFIGURE_ADMIN, Role.SECURITY_ADMIN})

Values = Callable[[Session], Mapping[str, Any]]
"""Value of each variable of the object by its browse path, `SessionDiagnostics/ReadCount`."""


@dataclass(frozen=True, slots=True)
class _Part:
    """A variable of the object, as its type declares it."""

    path: str
    reference: Any
    declared: Any
    """NodeData."""
    built_in: Any
    array: bool

    def variant(self, value: Any) -> Any:
        return ua.Variant(value, self.built_in, is_array=self.array)


class SessionObjects:
    def __init__(self, space: Space, values: Values) -> None:
        self._space = space
        self._storage = space.storage
        self._values = values
        self._parts: list[_Part] = []
        self._shown: dict[str, tuple[Session, dict[str, Cell]]] = {}
        """Cells of the values by path, by the session's id in hex."""

    def seen_by(self, caller: Caller) -> Callable[[Any], bool] | None:
        """Which nodes of namespace 1 a caller sees; None: all of them."""
        if caller.roles & ADMINISTRATORS:
            return None
        return lambda node_id: (owner := _owner(node_id)) not in self._shown or owner == caller.session

    def add(self, session: Session) -> None:
        """No error when it is there already."""
        key = session.id.Identifier.hex
        if key in self._shown:
            return
        if not self._parts:
            self._parts = list(self._declared(self._storage[TYPE], ""))
        name = ua.QualifiedName(session.name, NAMESPACE)
        made = {"": self._object(session.id, name)}
        self._hang(self._storage[SUMMARY], HAS_COMPONENT, made[""])
        cells: dict[str, Cell] = {}
        for part in self._parts:
            cell = cells[part.path] = Cell(partial(self._value, session, part))
            node = made[part.path] = NodeData(ua.NodeId(f"{key}.{part.path.replace('/', '.')}", NAMESPACE))
            node.attributes = part.declared.attributes | {A.NodeId: _cell(node.nodeid, T.NodeId), A.Value: cell}
            self._type(node, part.declared)
            self._storage[node.nodeid] = node
            self._hang(made[part.path.rpartition("/")[0]], part.reference, node)
        self._shown[key] = session, cells

    def remove(self, session: Session) -> None:
        """No error when it is not there. Who watched it is told."""
        key = session.id.Identifier.hex
        _, cells = self._shown.pop(key, (session, {}))
        gone = ua.DataValue(NULL, status(ua.StatusCodes.BadNodeIdUnknown))
        for path, cell in cells.items():
            del self._storage[ua.NodeId(f"{key}.{path.replace('/', '.')}", NAMESPACE)]
            cell.show(gone)
        if cells:
            del self._storage[session.id]
            above = self._storage[SUMMARY]
            above.references[:] = [r for r in above.references if r.NodeId != session.id]

    def clear(self) -> None:
        for session, _ in list(self._shown.values()):
            self.remove(session)

    def tick(self) -> None:
        """Once a second: what somebody subscribes to."""
        for session, cells in self._shown.values():
            for part in self._parts:
                if cells[part.path].watched:
                    cells[part.path].show(partial(self._value, session, part))

    def _value(self, session: Session, part: _Part) -> Any:
        return ua.DataValue(part.variant(self._values(session)[part.path]), GOOD)

    def _declared(self, above: Any, path: str) -> Iterator[_Part]:
        for r in above.references:
            if r.IsForward and r.ReferenceTypeId in CHILDREN:
                node = self._storage[r.NodeId]
                data_type, rank = (node.attributes[a].value.Value.Value for a in (A.DataType, A.ValueRank))
                part = _Part(
                    path=f"{path}/{r.BrowseName.Name}".lstrip("/"),
                    reference=r.ReferenceTypeId,
                    declared=node,
                    built_in=T(self._space.built_in(data_type)),
                    array=rank >= 1,
                )
                yield part
                yield from self._declared(node, part.path)

    def _object(self, node_id: Any, name: Any) -> Any:
        node = NodeData(node_id)
        node.attributes = {
            A.NodeId: _cell(node_id, T.NodeId),
            A.NodeClass: _cell(ua.NodeClass.Object, T.Int32),
            A.BrowseName: _cell(name, T.QualifiedName),
            A.DisplayName: _cell(ua.LocalizedText(name.Name), T.LocalizedText),
            A.WriteMask: _cell(0, T.UInt32),
            A.UserWriteMask: _cell(0, T.UInt32),
            A.EventNotifier: _cell(0, T.Byte),
        }
        node.references.append(describe_stored(self._storage[TYPE], HAS_TYPE_DEFINITION, True))
        self._storage[node_id] = node
        return node

    def _type(self, node: Any, declared: Any) -> None:
        node.references += [r for r in declared.references if r.ReferenceTypeId == HAS_TYPE_DEFINITION and r.IsForward]

    def _hang(self, above: Any, reference: Any, node: Any) -> None:
        above.references.append(describe_stored(node, reference, True))
        node.references.append(describe_stored(above, reference, False))


def _cell(value: Any, type_: Any) -> Cell:
    return Cell(ua.DataValue(ua.Variant(value, type_), GOOD))


def _owner(node_id: Any) -> str:
    """Id in hex of the session a node of namespace 1 would be of."""
    identifier = node_id.Identifier
    return identifier.hex if isinstance(identifier, UUID) else str(identifier).partition(".")[0]
