"""The standard nodes, put into asyncua's storage from its own tables, in half the time and memory it takes for that.

The library's generated code offers node after node and reference after reference to whoever takes them. What is made
here of them are the same NodeData, attribute cells and ReferenceDescriptions, but equal NodeIds and equal values of
attributes are one object, and what must be unique is looked up instead of searched for.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any

from asyncua import ua
from asyncua.server.address_space import AddressSpace, AttributeValue, NodeData
from asyncua.server.internal_server import InternalServer

A = ua.AttributeIds
T = ua.VariantType
HAS_TYPE_DEFINITION = ua.NodeId(ua.ObjectIds.HasTypeDefinition)
TABLES = "asyncua.server.standard_address_space"
WITH_TYPE = (ua.NodeClass.Object, ua.NodeClass.Variable)
TYPES: Mapping[str, Any] = {
    "AccessLevel": T.Byte, "ArrayDimensions": T.UInt32, "ContainsNoLoops": T.Boolean, "DataType": T.NodeId,
    "Description": T.LocalizedText, "DisplayName": T.LocalizedText, "EventNotifier": T.Byte, "Executable": T.Boolean,
    "Historizing": T.Boolean, "InverseName": T.LocalizedText, "IsAbstract": T.Boolean,
    "MinimumSamplingInterval": T.Double, "Symmetric": T.Boolean, "UserAccessLevel": T.Byte,
    "UserExecutable": T.Boolean, "ValueRank": T.Int32, "WriteMask": T.UInt32, "UserWriteMask": T.UInt32,
    "DataTypeDefinition": T.ExtensionObject, "Value": None,
}  # fmt: skip
"""Built-in type of each attribute a node may be made with; None: its own."""
SHARED = frozenset(
    {"Description", "DisplayName", "DataType", "Executable", "IsAbstract", "MinimumSamplingInterval", "ValueRank",
     "UserExecutable", "UserWriteMask", "WriteMask"}
)  # fmt: skip
"""Attributes whose values are replaced when they change, never changed themselves."""


class Cell(AttributeValue):  # type: ignore[misc]
    """An attribute's value; of the tens of thousands only few are ever watched or computed."""

    __slots__ = ("_watchers", "value", "value_callback", "value_setter")

    def __init__(self, value: Any) -> None:
        self.value = value
        self.value_callback = None
        self.value_setter = None
        self._watchers: dict[int, Any] | None = None

    @property
    def datachange_callbacks(self) -> dict[int, Any]:
        if self._watchers is None:
            self._watchers = {}
        return self._watchers


class StandardServer(InternalServer):  # type: ignore[misc]
    """asyncua's InternalServer, loading as this module says."""

    async def load_standard_address_space(self, shelf_file: Any = None) -> None:
        if shelf_file is not None:
            raise ValueError("the standard nodes are loaded from the library's tables only")
        load(self.aspace)


def load(storage: AddressSpace) -> None:
    """Fill an empty storage with the standard nodes. Raises RuntimeError when the tables do not fit together."""
    before = set(sys.modules)
    from asyncua.server.standard_address_space import standard_address_space  # ten megabytes of code, needed once

    loader = Loader(storage)
    standard_address_space.fill_address_space(loader)
    loader.complete()
    for name in [name for name in sys.modules if name.startswith(TABLES) and name not in before]:
        vars(sys.modules.pop(name)).clear()  # functions and their module hold each other, and nothing collects them


class Loader:
    """What the library's tables are offered to."""

    def __init__(self, storage: AddressSpace) -> None:
        self._storage = storage
        self._nodes: dict[tuple[int, Any], NodeData] = {}
        self._ids: dict[tuple[int, Any], Any] = {}
        self._values: dict[Any, Any] = {}
        self._linked: set[tuple[int, int, int]] = set()
        """References there are, by the identities of source, type and target."""
        self._made = datetime.now(UTC)

    def try_add_nodes(self, items: Iterable[Any], check: bool = True) -> Iterator[Any]:  # noqa: ARG002 - as the library
        """Add nodes; gives back those whose parent or type is not there yet."""
        for item in items:
            if not self._add(item):
                yield item

    def try_add_references(self, items: Iterable[Any]) -> Iterator[Any]:
        """Add references; gives back those with an end that is not there yet."""
        for item in items:
            source, target = self._node(item.SourceNodeId), self._node(item.TargetNodeId)
            if source is None or target is None:
                yield item
            else:
                self._refer(source, item.ReferenceTypeId, item.IsForward, target)

    def complete(self) -> None:
        """Show every reference at both its ends: the library's tables leave out most inverse ones (Part 3 4.3.4)."""
        for node in list(self._nodes.values()):
            for r in list(node.references):
                target = self._node(r.NodeId)
                if r.IsForward and target is not None:
                    self._refer(target, r.ReferenceTypeId, False, node)

    def _add(self, item: Any) -> bool:
        parent, kind = self._node(item.ParentNodeId), self._node(item.TypeDefinition)
        if (parent is None and not item.ParentNodeId.is_null()) or (kind is None and not item.TypeDefinition.is_null()):
            return False
        node_id = self._id(item.RequestedNewNodeId)
        node = NodeData(node_id)
        node.attributes = self._attributes(node_id, item)
        self._storage[node_id] = node
        self._nodes[node_id.NamespaceIndex, node_id.Identifier] = node
        if kind is not None:
            self._refer(node, HAS_TYPE_DEFINITION, True, kind)
        if parent is not None:
            self._refer(parent, item.ReferenceTypeId, True, node)
            self._refer(node, item.ReferenceTypeId, False, parent)
        return True

    def _node(self, node_id: Any) -> NodeData | None:
        return self._nodes.get((node_id.NamespaceIndex, node_id.Identifier))

    def _id(self, node_id: Any) -> Any:
        """The one object of equal NodeIds."""
        return self._ids.setdefault((node_id.NamespaceIndex, node_id.Identifier), node_id)

    def _attributes(self, node_id: Any, item: Any) -> dict[Any, Cell]:
        node_class = self._values.get(item.NodeClass)
        if node_class is None:
            node_class = self._values[item.NodeClass] = _data(item.NodeClass, T.Int32)
        found = {
            A.NodeId: Cell(_data(node_id, T.NodeId)),
            A.BrowseName: Cell(_data(item.BrowseName, T.QualifiedName)),
            A.NodeClass: Cell(node_class),
        }
        given = item.NodeAttributes
        for name, attribute in _given(given.SpecifiedAttributes):
            found[attribute] = Cell(self._value(name, getattr(given, name)))
        return found

    def _value(self, name: str, value: Any) -> Any:
        if name == "DataType":
            value = self._id(value)
        if name == "Value":
            return ua.DataValue(ua.Variant(value, TYPES[name]), SourceTimestamp=self._made)
        if name not in SHARED:
            return _value(name, value)
        key = (name, (value.Text, value.Locale) if isinstance(value, ua.LocalizedText) else value)
        found = self._values.get(key)
        if found is None:
            found = self._values[key] = _value(name, value)
        return found

    def _refer(self, source: NodeData, kind: Any, forward: bool, target: NodeData) -> None:
        kind = self._id(kind)
        key = (id(source), id(kind), id(target))
        if key in self._linked:
            return
        self._linked.add(key)
        source.references.append(reference(kind, forward, target))


def reference(kind: Any, forward: bool, target: NodeData) -> Any:
    """ReferenceDescription of a reference to a node in the storage."""
    names = target.attributes
    node_class = names[A.NodeClass].value.Value.Value
    type_definition = ua.NodeId()
    if node_class in WITH_TYPE:
        to_types = (r.NodeId for r in target.references if r.ReferenceTypeId == HAS_TYPE_DEFINITION and r.IsForward)
        type_definition = next(to_types, type_definition)
    return ua.ReferenceDescription(
        kind,
        forward,
        target.nodeid,
        names[A.BrowseName].value.Value.Value,
        names[A.DisplayName].value.Value.Value,
        node_class,
        type_definition,
    )


@cache
def _given(mask: int) -> tuple[tuple[str, Any], ...]:
    """Attributes a mask of specified ones names."""
    return tuple((name, getattr(A, name)) for name in TYPES if mask & getattr(ua.NodeAttributesMask, name))


def _value(name: str, value: Any) -> Any:
    if name == "DataTypeDefinition" and not isinstance(value, ua.DataTypeDefinition):
        return _data(None, T.Null)
    return ua.DataValue(ua.Variant(value, TYPES[name], is_array=name == "ArrayDimensions"))


def _data(value: Any, type_: Any) -> Any:
    return ua.DataValue(ua.Variant(value, type_))
