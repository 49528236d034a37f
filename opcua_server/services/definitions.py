"""DataTypeDefinition of the standard structures and enumerations (Part 3 5.8.3), which asyncua's address space lacks.

Read off the classes of its codec: names, order and data types are the standard's. It has none for a few that never
go over a wire by themselves.
"""

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from typing import Any

from asyncua import ua

from opcua_server.services.space import ENUMERATION, Space

STRUCTURE = ua.NodeId(ua.ObjectIds.Structure)
MASK = "Encoding"
"""Field of the codec's classes that says which optional fields there are; without any it is one of the standard's."""
PARAMETERS = "Parameters"
SPELLED = {"Variant": "BaseDataType", "ExtensionObject": "Structure", "CharArray": "String", "datetime": "DateTime"}
"""What a class of the codec is called as a DataType."""

WITHOUT_CLASS: Mapping[int, Mapping[str, str]] = {
    ua.ObjectIds.NumberRange: {"Low": "Number", "High": "Number"},  # Part 8 5.6.3
    ua.ObjectIds.PortableNodeId: {"NamespaceUri": "String", "Identifier": "NodeId"},  # Part 5 12.38
    # Part 6 Annex D (Opc.Ua.Types.bsd): nodes as they are stored in files
    ua.ObjectIds.ReferenceNode: {"ReferenceTypeId": "NodeId", "IsInverse": "Boolean", "TargetId": "ExpandedNodeId"},
    ua.ObjectIds.Node: {
        "NodeId": "NodeId", "NodeClass": "NodeClass", "BrowseName": "QualifiedName", "DisplayName": "LocalizedText",
        "Description": "LocalizedText", "WriteMask": "UInt32", "UserWriteMask": "UInt32",
        "RolePermissions": "list[RolePermissionType]", "UserRolePermissions": "list[RolePermissionType]",
        "AccessRestrictions": "UInt16", "References": "list[ReferenceNode]",
    },
    ua.ObjectIds.InstanceNode: {},
    ua.ObjectIds.TypeNode: {},
    ua.ObjectIds.ObjectNode: {"EventNotifier": "Byte"},
    ua.ObjectIds.ObjectTypeNode: {"IsAbstract": "Boolean"},
    ua.ObjectIds.VariableNode: {
        "Value": "Variant", "DataType": "NodeId", "ValueRank": "Int32", "ArrayDimensions": "list[UInt32]",
        "AccessLevel": "Byte", "UserAccessLevel": "Byte", "MinimumSamplingInterval": "Double",
        "Historizing": "Boolean", "AccessLevelEx": "UInt32",
    },
    ua.ObjectIds.VariableTypeNode: {
        "Value": "Variant", "DataType": "NodeId", "ValueRank": "Int32", "ArrayDimensions": "list[UInt32]",
        "IsAbstract": "Boolean",
    },
    ua.ObjectIds.ReferenceTypeNode: {"IsAbstract": "Boolean", "Symmetric": "Boolean", "InverseName": "LocalizedText"},
    ua.ObjectIds.MethodNode: {"Executable": "Boolean", "UserExecutable": "Boolean"},
    ua.ObjectIds.ViewNode: {"ContainsNoLoops": "Boolean", "EventNotifier": "Byte"},
    ua.ObjectIds.DataTypeNode: {"IsAbstract": "Boolean", "DataTypeDefinition": "ExtensionObject"},
}  # fmt: skip
"""Structures the codec has no class of: what each adds to its supertype."""


def definition(space: Space, data_type: Any) -> Any:
    """Variant of a DataType's definition, None for one without: simple, abstract or not of the standard."""
    if data_type.NamespaceIndex != 0:
        return None
    if data_type.Identifier in WITHOUT_CLASS:
        return _variant(_structure(space, data_type, _inherited(space, data_type)))
    made = getattr(ua, ua.ObjectIdNames.get(data_type.Identifier, ""), None)  # `ThreeDVector` for 3DVector
    if not isinstance(made, type):
        return None
    if space.is_subtype(data_type, ENUMERATION) and issubclass(made, Enum):
        return _variant(ua.EnumDefinition(Fields=[_enum_field(member) for member in made]))
    if space.is_subtype(data_type, STRUCTURE) and dataclasses.is_dataclass(made):
        return _variant(_structure(space, data_type, _declared(made)))
    return None


def _variant(value: Any) -> Any:
    return ua.Variant(value, ua.VariantType.ExtensionObject)


def _enum_field(member: Any) -> Any:
    name = member.name.rstrip("_")
    return ua.EnumField(Value=int(member.value), DisplayName=ua.LocalizedText(name), Name=name)


def _structure(space: Space, data_type: Any, declared: Iterable[tuple[str, str]]) -> Any:
    fields = [_field(name, written) for name, written in declared]
    masked = any(field.IsOptional for field in fields)
    name = ua.ObjectIdNames[data_type.Identifier]
    encoding = getattr(ua.ObjectIds, f"{name}_Encoding_DefaultBinary", 0)
    return ua.StructureDefinition(
        DefaultEncodingId=ua.NodeId(encoding),
        BaseDataType=space.supertypes(data_type)[1],
        StructureType=ua.StructureType.StructureWithOptionalFields if masked else ua.StructureType.Structure,
        Fields=fields,
    )


def _inherited(space: Space, data_type: Any) -> Iterator[tuple[str, str]]:
    """(name, written type) of each field of a structure without class, those of its supertypes first."""
    for kind in reversed(space.supertypes(data_type)):
        yield from WITHOUT_CLASS.get(kind.Identifier, {}).items()


def _declared(made: type) -> Iterator[tuple[str, str]]:
    """(name, annotation) of each field; what a message keeps in its Parameters is its own."""
    fields = {f.name: str(getattr(f.type, "__name__", f.type)) for f in dataclasses.fields(made)}
    masked = any(_optional(written) for written in fields.values())
    for name, written in fields.items():
        if name == PARAMETERS:
            yield from _declared(getattr(ua, _kind(written)))
        elif name == MASK and not masked:
            yield name, "String"
        elif name not in (MASK, "TypeId"):
            yield name, written


def _kind(written: str) -> str:
    return str(re.findall(r"\w+", written.replace("ua.", "").replace("None", ""))[-1])


def _optional(written: str) -> bool:
    return "Optional[" in written or "None" in written


def _field(name: str, written: str) -> Any:
    """`written`: the class's annotation, `ua.String`, `list[ua.UInt32]`, `Optional[ua.Double]`."""
    kind = _kind(written)
    number = getattr(ua.ObjectIds, SPELLED.get(kind, kind), ua.ObjectIds.BaseDataType)
    return ua.StructureField(
        Name=name,
        DataType=ua.NodeId(number),
        ValueRank=1 if "list[" in written.lower() else -1,
        ArrayDimensions=[],
        IsOptional=_optional(written),
    )
