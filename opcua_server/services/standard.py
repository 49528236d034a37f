"""Corrections of asyncua's standard address space, which takes the library's defaults for what the NodeSet leaves out.

The NodeSet's own defaults are: not abstract, not symmetric, DataType BaseDataType (Part 6 F.2 to F.9).
"""

from typing import Any

from asyncua import ua
from asyncua.server.address_space import AttributeValue

from opcua_server.services.tree import describe_stored

A = ua.AttributeIds
ABSTRACT = frozenset({31, 32, 33, 34, 44, 62, 2137, 2372, 12021, 17714, 18772, 18779, 18786, 32431})
"""Abstract reference and variable types of namespace 0."""
SYMMETRIC = frozenset({31, 32, 24137, 25257, 25258, 25259, 25260})
"""Symmetric reference types of namespace 0."""
OF_ANY_TYPE = frozenset({62, 63, 68, 2137, 2365, 2372, 9002, 11487, 12021, 12029, 12047, 12057, 12068, 16309})
"""Variable types of namespace 0 whose DataType is BaseDataType."""


MODELLING_RULES = (78, 80, 83, 11508, 11510)
"""Of namespace 0: Mandatory, Optional, ExposesItsArray and the two placeholders."""


def correct(storage: Any) -> None:
    """Set IsAbstract, Symmetric, InverseName and DataType of the standard types right; list the modelling rules."""
    for node_id in list(storage.keys()):
        if node_id.NamespaceIndex != 0:
            continue
        node, number = storage[node_id], node_id.Identifier
        node_class = int(node.attributes[A.NodeClass].value.Value.Value)
        if node_class in (ua.NodeClass.ReferenceType, ua.NodeClass.VariableType):
            _set(node, A.IsAbstract, ua.Variant(number in ABSTRACT, ua.VariantType.Boolean))
        if node_class == ua.NodeClass.ReferenceType:
            _set(node, A.Symmetric, ua.Variant(number in SYMMETRIC, ua.VariantType.Boolean))
            if number in SYMMETRIC:
                node.attributes.pop(A.InverseName, None)
        elif number in OF_ANY_TYPE:
            _set(node, A.DataType, ua.Variant(ua.NodeId(ua.ObjectIds.BaseDataType), ua.VariantType.NodeId))

    folder = ua.NodeId(ua.ObjectIds.Server_ServerCapabilities_ModellingRules)
    for number in MODELLING_RULES:  # Part 5 6.3.2: all that are supported can be browsed to from there
        _organize(storage[folder], storage[ua.NodeId(number)])


def _organize(folder: Any, node: Any) -> None:
    kind = ua.NodeId(ua.ObjectIds.Organizes)
    folder.references.append(describe_stored(node, kind, True))
    node.references.append(describe_stored(folder, kind, False))


def _set(node: Any, attribute: int, value: Any) -> None:
    node.attributes[attribute] = AttributeValue(ua.DataValue(value))
