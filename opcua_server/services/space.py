"""Questions to asyncua's node storage that several services ask."""

from collections.abc import Iterator
from typing import Any

from asyncua import ua

HAS_SUBTYPE = ua.NodeId(ua.ObjectIds.HasSubtype)
HAS_TYPE_DEFINITION = ua.NodeId(ua.ObjectIds.HasTypeDefinition)
HAS_PROPERTY = ua.NodeId(ua.ObjectIds.HasProperty)
ENUMERATION = ua.NodeId(ua.ObjectIds.Enumeration)
NUMBER_TYPES = frozenset(range(2, 12))
"""Built-in types SByte to Double (Part 6 table 1)."""
MAX_DEPTH = 64
"""Longest chain of supertypes believed."""


class Space:
    """View on an asyncua AddressSpace; owns nothing but a cache of type relations, which never change once loaded."""

    def __init__(self, storage: Any) -> None:
        self.storage = storage
        self._supertypes: dict[Any, tuple[Any, ...]] = {}

    def __contains__(self, node_id: Any) -> bool:
        return node_id in self.storage

    def references(self, node_id: Any) -> list[Any]:
        """ReferenceDescriptions of a node, both directions; empty for an unknown one."""
        node = self.storage.get(node_id)
        return [] if node is None else node.references

    def attribute(self, node_id: Any, attribute: int) -> Any:
        """Value of an attribute, None when there is none."""
        value = self.storage.read_attribute_value(node_id, attribute).Value
        return None if value is None else value.Value

    def node_class(self, node_id: Any) -> int:
        return int(self.attribute(node_id, ua.AttributeIds.NodeClass) or 0)

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
            parent = next(
                (r.NodeId for r in self.references(type_id) if not r.IsForward and r.ReferenceTypeId == HAS_SUBTYPE),
                None,
            )
            if parent is None:
                return
            type_id = parent

    def is_subtype(self, type_id: Any, base: Any) -> bool:
        """Also true for the type itself."""
        return base in self.supertypes(type_id)

    def type_definition(self, node_id: Any) -> Any | None:
        return next(
            (r.NodeId for r in self.references(node_id) if r.IsForward and r.ReferenceTypeId == HAS_TYPE_DEFINITION),
            None,
        )

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
        for r in self.references(node_id):
            if r.IsForward and r.ReferenceTypeId == HAS_PROPERTY and r.BrowseName.Name == name:
                return self.attribute(r.NodeId, ua.AttributeIds.Value)
        return None

    def component(self, node_id: Any, name: str) -> Any | None:
        """A node's child by browse name, over any hierarchical reference."""
        hierarchical = ua.NodeId(ua.ObjectIds.HierarchicalReferences)
        for r in self.references(node_id):
            if r.IsForward and r.BrowseName.Name == name and self.is_subtype(r.ReferenceTypeId, hierarchical):
                return r.NodeId
        return None
