"""DataTypeDefinition of the standard structures and enumerations (Part 3 5.8.3), which asyncua's address space lacks.

Read off the classes of its codec: names, order and data types are the standard's.
"""

import dataclasses
import re
from collections.abc import Iterator
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


def definition(space: Space, data_type: Any) -> Any:
    """Variant of a DataType's definition, None for one without: simple, abstract or not of the standard."""
    if data_type.NamespaceIndex != 0:
        return None
    made = getattr(ua, ua.ObjectIdNames.get(data_type.Identifier, ""), None)  # `ThreeDVector` for 3DVector
    if not isinstance(made, type):
        return None
    if space.is_subtype(data_type, ENUMERATION) and issubclass(made, Enum):
        return _variant(ua.EnumDefinition(Fields=[_enum_field(member) for member in made]))
    if space.is_subtype(data_type, STRUCTURE) and dataclasses.is_dataclass(made):
        return _variant(_structure(space, data_type, made))
    return None


def _variant(value: Any) -> Any:
    return ua.Variant(value, ua.VariantType.ExtensionObject)


def _enum_field(member: Any) -> Any:
    name = member.name.rstrip("_")
    return ua.EnumField(Value=int(member.value), DisplayName=ua.LocalizedText(name), Name=name)


def _structure(space: Space, data_type: Any, made: type) -> Any:
    fields = [_field(name, written) for name, written in _declared(made)]
    masked = any(field.IsOptional for field in fields)
    encoding = getattr(ua.ObjectIds, f"{made.__name__}_Encoding_DefaultBinary", 0)
    return ua.StructureDefinition(
        DefaultEncodingId=ua.NodeId(encoding),
        BaseDataType=space.supertypes(data_type)[1],
        StructureType=ua.StructureType.StructureWithOptionalFields if masked else ua.StructureType.Structure,
        Fields=fields,
    )


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
