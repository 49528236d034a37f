"""The one door through which services see nodes: asyncua's storage and the tree of templates as one address space."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import chain
from typing import Any

from asyncua import ua

from opcua_server.services.nodes import Instance, Reference
from opcua_server.services.seams import hold
from opcua_server.services.tree import EVERYTHING, HAS_TYPE_DEFINITION, Change, Tree, Wanted
from opcua_server.services.values import Table

HAS_SUBTYPE = ua.NodeId(ua.ObjectIds.HasSubtype)
HAS_PROPERTY = ua.NodeId(ua.ObjectIds.HasProperty)
HIERARCHICAL = ua.NodeId(ua.ObjectIds.HierarchicalReferences)
ENUMERATION = ua.NodeId(ua.ObjectIds.Enumeration)
UP_TO_SUPERTYPE = Wanted(forward=False, kinds=HAS_SUBTYPE.__eq__)
TO_TYPE = Wanted(forward=True, kinds=HAS_TYPE_DEFINITION.__eq__)
TO_PROPERTIES = Wanted(forward=True, kinds=HAS_PROPERTY.__eq__)
VALUE = ua.AttributeIds.Value
NUMBER_TYPES = frozenset(range(2, 12))
"""Built-in types SByte to Double (Part 6 table 1)."""
MAX_DEPTH = 64
"""Longest chain of supertypes believed."""


class Space:
    """Stored nodes, nodes by template, columns of values; and a cache of type relations, which never change."""

    def __init__(self, storage: Any, table: Table | None = None) -> None:
        """`storage`: asyncua's AddressSpace; `table`: the values that are columns."""
        self.storage = storage
        self.table = Table(time.monotonic) if table is None else table
        self.tree = Tree(storage)
        self._supertypes: dict[Any, tuple[Any, ...]] = {}
        self._kinds: dict[tuple[Any, bool], Callable[[Any], bool]] = {}

    def replace(self, instances: Iterable[Instance], references: Iterable[Reference]) -> Change:
        """Make these the nodes by template, as `Tree.replace`. Columns stay until `forget_missing`."""
        return self.tree.replace(instances, references)

    # -- nodes

    def find(self, node_id: Any) -> Any | None:
        """A node as it is kept, for `references_of`; None: there is none."""
        return self.tree.find(node_id) or self.storage.get(node_id)

    def __contains__(self, node_id: Any) -> bool:
        return self.find(node_id) is not None

    def has(self, node_id: Any, attribute: int) -> bool:
        """Whether there is such a node and it has such an attribute."""
        node = self.storage.get(node_id)
        return self.tree.has(node_id, attribute) if node is None else attribute in node.attributes

    def read(self, node_id: Any, attribute: int) -> Any:
        """DataValue of an attribute; BadNodeIdUnknown or BadAttributeIdInvalid when there is none."""
        if attribute == VALUE and (row := self.table.row(node_id)) is not None:
            return self.table.data_value(row)
        found = self.tree.read(node_id, attribute)
        if found is not None:
            return found
        if node_id in self.tree:
            return ua.DataValue(StatusCode=ua.StatusCode(ua.StatusCodes.BadAttributeIdInvalid))
        return self.storage.read_attribute_value(node_id, attribute)

    def attribute(self, node_id: Any, attribute: int) -> Any:
        """Value of an attribute, None when there is none."""
        value = self.read(node_id, attribute).Value
        return None if value is None else value.Value

    def node_class(self, node_id: Any) -> int:
        return int(self.attribute(node_id, ua.AttributeIds.NodeClass) or 0)

    # -- values

    def columns(self, nodes: Sequence[Any], time: int) -> slice:
        """Keep the values of these variables as rows of the table (`Table.add`). LookupError: no such variable."""
        types = [self.attribute(node_id, ua.AttributeIds.DataType) for node_id in nodes]
        for node_id, data_type in zip(nodes, types, strict=True):
            if data_type is None:
                raise LookupError(f"{node_id.to_string()} is not a variable")
        rows = self.table.add(nodes, [self.built_in(t) for t in types], time)
        for row, node_id in enumerate(nodes, rows.start):
            if node_id in self.storage:
                hold(self.storage[node_id].attributes[VALUE], self.table, row)
            for item in self.tree.waiting(node_id):
                self.table.watch(row, item)
        return rows

    def forget_missing(self) -> None:
        """Take nodes that are no more out of the columns; who watched them is told, and waits for their return."""
        for node_id, items in self.table.forget(self.__contains__):
            for item in items:
                self.tree.wait(node_id, item)

    def write(self, node_id: Any, data: Any) -> None:
        """Show a DataValue. Raises KeyError without such a variable."""
        if (row := self.table.row(node_id)) is not None:
            self.table.put(row, data)
            return
        cell = self.cell(node_id, VALUE)
        cell.value, cell.value_callback = data, None
        for item in list(cell.datachange_callbacks.values()):
            item.sample(data)

    def write_made(self, node_id: Any, make: Callable[[], Any]) -> None:
        """Show the DataValue that `make` makes as soon as somebody reads or watches it.

        Raises KeyError without such a variable of the tree.
        """
        cell = self.tree.cell(node_id)
        if cell is None:
            raise KeyError(node_id)
        cell.show(make)

    def write_instance(self, instance: str, make: Callable[[], Mapping[str, Any]]) -> None:
        """Show DataValues of an instance of the tree, none of them a column (`Tree.show`). Raises KeyError."""
        self.tree.show(instance, make)

    def cell(self, node_id: Any, attribute: int = VALUE) -> Any:
        """Where an attribute is that is no column. Raises KeyError without such a node or attribute."""
        cell = self.tree.cell(node_id, attribute)
        return self.storage[node_id].attributes[attribute] if cell is None else cell

    def watch(self, node_id: Any, attribute: int, item: Any) -> None:
        """Have `item.sample` called with each new DataValue. Raises KeyError without such a node or attribute."""
        if attribute == VALUE and (row := self.table.row(node_id)) is not None:
            self.table.watch(row, item)
        else:
            self.cell(node_id, attribute).datachange_callbacks[item.id] = item

    def unwatch(self, node_id: Any, attribute: int, item: Any) -> None:
        """No error for an item that does not watch."""
        if attribute == VALUE and (row := self.table.row(node_id)) is not None:
            self.table.unwatch(row, item)
        elif (node := self.storage.get(node_id)) is not None:
            node.attributes[attribute].datachange_callbacks.pop(item.id, None)
        else:
            self.tree.unwatch(node_id, attribute, item.id)

    def watched(self, node_id: Any) -> bool:
        """Whether a stored variable's value is."""
        return bool(self.storage[node_id].attributes[VALUE].datachange_callbacks)

    # -- references

    def references(self, node_id: Any, wanted: Wanted = EVERYTHING) -> Iterator[Any]:
        """References of a node, always in the same order, made one by one; none for an unknown one.

        They have the fields of ReferenceDescription (Part 4 7.30).
        """
        node = self.find(node_id)
        return iter(()) if node is None else self.references_of(node, wanted)

    def references_of(self, node: Any, wanted: Wanted) -> Iterator[Any]:
        """The same of a node that was found."""
        if isinstance(node, tuple):
            return self.tree.references(node, wanted)
        stored = (
            r
            for r in node.references
            if wanted.forward in (None, r.IsForward)
            and wanted.leads_to(r.NodeClass)
            and wanted.kinds(r.ReferenceTypeId)
        )
        return chain(stored, self.tree.references_of_stored(node.nodeid, wanted))

    def of_type(self, wanted: Any, subtypes: bool = True) -> Callable[[Any], bool]:
        """Whether a type of reference is `wanted` or, with `subtypes`, one of its subtypes; null: any.

        Raises KeyError when `wanted` is not a type of references.
        """
        if wanted.is_null():
            return EVERYTHING.kinds
        found = self._kinds.get((wanted, subtypes))
        if found is None:
            if self.node_class(wanted) != ua.NodeClass.ReferenceType:
                raise KeyError(f"{wanted.to_string()} is not a type of references")
            found = self._kinds[wanted, subtypes] = cache(
                lambda k: k == wanted or (subtypes and self.is_subtype(k, wanted))
            )
        return found

    def supertypes(self, type_id: Any) -> tuple[Any, ...]:
        """The type itself, then its supertypes upwards."""
        known = self._supertypes.get(type_id)
        if known is None:
            known = tuple(self._climb(type_id))
            if type_id in self.storage:
                self._supertypes[type_id] = known
        return known

    def _climb(self, type_id: Any) -> Iterator[Any]:
        for _ in range(MAX_DEPTH):
            yield type_id
            parent = next((r.NodeId for r in self.references(type_id, UP_TO_SUPERTYPE)), None)
            if parent is None:
                return
            type_id = parent

    def is_subtype(self, type_id: Any, base: Any) -> bool:
        """Also true for the type itself."""
        return base in self.supertypes(type_id)

    def type_definition(self, node_id: Any) -> Any | None:
        return next((r.NodeId for r in self.references(node_id, TO_TYPE)), None)

    def built_in(self, data_type: Any) -> int:
        """Built-in type a DataType is encoded as (Part 6 5.1.2); 24, any Variant, for abstract ones."""
        for base in self.supertypes(data_type):
            if base == ENUMERATION:
                return int(ua.VariantType.Int32.value)
            if base.NamespaceIndex == 0 and isinstance(base.Identifier, int) and base.Identifier <= 25:
                return int(base.Identifier)
        return int(ua.VariantType.Variant.value)

    def property(self, node_id: Any, name: str) -> Any:
        """Value of a property by browse name, None when there is none."""
        for r in self.references(node_id, TO_PROPERTIES):
            if r.BrowseName.Name == name:
                return self.attribute(r.NodeId, VALUE)
        return None

    def component(self, node_id: Any, name: str) -> Any | None:
        """A node's child by browse name, over any hierarchical reference."""
        children = self.references(node_id, Wanted(forward=True, kinds=self.of_type(HIERARCHICAL)))
        return next((r.NodeId for r in children if r.BrowseName.Name == name), None)
