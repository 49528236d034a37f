"""Writes what follows from the tables: `enose.xml` (NodeSet2, Part 6 Annex F), `ids.py`, `docs/methods.md`.

    python -m nodesets.generate

A test writes them again and compares.
"""

from collections.abc import Callable, Iterator, Mapping
from enum import IntEnum
from pathlib import Path
from xml.etree import ElementTree as ET

from nodesets.declarations import Argument, Declaration, Type
from nodesets.methods import METHODS
from nodesets.model import HUMAN_ROLES, Role
from nodesets.standard import DATA_TYPES, MODELLING_RULES, REFERENCE_TYPES, STANDARD
from nodesets.types import (
    ENUMS,
    NODESET,
    PUBLISHED,
    REQUIRED_PUBLISHED,
    REQUIRED_VERSION,
    TYPES,
    URI,
    VERSION,
    described,
)

UA = "http://opcfoundation.org/UA/"
SCHEMA = "http://opcfoundation.org/UA/2011/03/UANodeSet.xsd"
VALUES = "http://opcfoundation.org/UA/2008/02/Types.xsd"
NAMESPACES = "i=11715"
"""Server.Namespaces."""
_XML = {"Argument": 297, "EnumValueType": 7616}
"""TypeId of an ExtensionObject in XML: the XML encoding node of the structure."""


def node_id(path: str) -> str:
    """NodeId of a type (`1001`) or of a member (`EnoseChannelType.SensorValue`) as the file numbers namespaces."""
    if path in TYPES:
        return f"ns=1;i={TYPES[path].number}"
    if path in ENUMS:
        return f"ns=1;i={ENUMS[path][0]}"
    return f"i={STANDARD[path].number}" if path in STANDARD else f"ns=1;s={path}"


def nodeset() -> str:
    """The NodeSet2 document."""
    ET.register_namespace("", SCHEMA)
    ET.register_namespace("uax", VALUES)
    root = ET.Element(f"{{{SCHEMA}}}UANodeSet")
    _sub(_sub(root, "NamespaceUris"), "Uri", text=URI)
    model = _sub(_sub(root, "Models"), "Model", ModelUri=URI, Version=VERSION, PublicationDate=PUBLISHED)
    _sub(model, "RequiredModel", ModelUri=UA, Version=REQUIRED_VERSION, PublicationDate=REQUIRED_PUBLISHED)
    aliases = _sub(root, "Aliases")
    for names in (DATA_TYPES, REFERENCE_TYPES):
        for name, number in names.items():
            _sub(aliases, "Alias", Alias=name, text=f"i={number}")
    _metadata(root)
    for name, (_, enum) in ENUMS.items():
        _enumeration(root, name, enum)
    for type_ in TYPES.values():
        _object_type(root, type_)
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _sub(parent: ET.Element, tag: str, text: str = "", space: str = SCHEMA, **attributes: str) -> ET.Element:
    element = ET.SubElement(parent, f"{{{space}}}{tag}", attributes)
    element.text = text or None
    return element


def _node(root: ET.Element, tag: str, path: str, name: str, description: str, **attributes: str) -> ET.Element:
    """A node; returns its References element. `name` is the browse name, `1:` before it marks one of ours."""
    node = _sub(root, tag, NodeId=node_id(path), BrowseName=name, **attributes)
    _sub(node, "DisplayName", name.removeprefix("1:"))
    if description:
        _sub(node, "Description", description)
    return _sub(node, "References")


def _refer(references: ET.Element, type_: str, target: str, *, forward: bool = True) -> None:
    direction = {} if forward else {"IsForward": "false"}
    _sub(references, "Reference", target, ReferenceType=type_, **direction)


def _metadata(root: ET.Element) -> None:
    """NamespaceMetadata of our types (Part 5 6.3.14): all of them, with NodeIds that are the same on every server."""
    path = "NamespaceMetadata"
    references = _node(root, "UAObject", path, f"1:{URI}", "", ParentNodeId=NAMESPACES, SymbolicName="ENose")
    _refer(references, "HasTypeDefinition", node_id("NamespaceMetadataType"))
    _refer(references, "HasComponent", NAMESPACES, forward=False)
    values = {
        "NamespaceUri": _scalar("String", URI),
        "NamespaceVersion": _scalar("String", VERSION),
        "NamespacePublicationDate": _scalar("DateTime", PUBLISHED),
        "IsNamespaceSubset": _scalar("Boolean", "false"),
        "StaticNodeIdTypes": _list("Int32", ("0", "1")),  # numeric, string
        "StaticNumericNodeIdRange": _list("String", ("1:9999",)),
        "StaticStringNodeIdPattern": _scalar("String", ".*"),
    }
    for d in STANDARD["NamespaceMetadataType"].members:
        _property(root, path, d.name, d.data_type, values[d.name], array=d.array)


def _enumeration(root: ET.Element, name: str, enum: type[IntEnum]) -> None:
    references = _node(root, "UADataType", name, f"1:{name}", (enum.__doc__ or "").splitlines()[0])
    _refer(references, "HasSubtype", f"i={DATA_TYPES['Enumeration']}", forward=False)
    definition = ET.Element(f"{{{SCHEMA}}}Definition", Name=f"1:{name}")
    for member in enum:
        _sub(definition, "Field", Name=member.name, Value=str(member.value))
    children = list(root)
    children[-1].append(definition)
    _property(root, name, "EnumValues", "EnumValueType", lambda value: _enum_values(value, enum), array=True)


def _object_type(root: ET.Element, type_: Type) -> None:
    abstract = {"IsAbstract": "true"} if type_.abstract else {}
    references = _node(root, "UAObjectType", type_.name, f"1:{type_.name}", type_.description, **abstract)
    _refer(references, "HasSubtype", node_id(type_.base), forward=False)
    for declaration in type_.members:
        _declaration(root, type_.name, declaration)
    for i, (name, number) in enumerate(type_.states.items()):
        state = f"{type_.name}.{name}"
        references = _node(root, "UAObject", state, f"1:{name}", "", ParentNodeId=node_id(type_.name))
        _refer(references, "HasTypeDefinition", node_id("StateType" if i else "InitialStateType"))
        _refer(references, "HasComponent", node_id(type_.name), forward=False)
        _property(root, state, "StateNumber", "UInt32", _scalar("UInt32", str(number)))
    for i, (start, end) in enumerate(type_.transitions, 1):
        name = f"{start}To{end}"
        transition = f"{type_.name}.{name}"
        references = _node(root, "UAObject", transition, f"1:{name}", "", ParentNodeId=node_id(type_.name))
        _refer(references, "HasTypeDefinition", node_id("TransitionType"))
        _refer(references, "HasComponent", node_id(type_.name), forward=False)
        _refer(references, "FromState", node_id(f"{type_.name}.{start}"))
        _refer(references, "ToState", node_id(f"{type_.name}.{end}"))
        _property(root, transition, "TransitionNumber", "UInt32", _scalar("UInt32", str(i)))


def _declaration(root: ET.Element, parent: str, d: Declaration, *, ours: bool = True) -> None:
    path = f"{parent}.{d.name}"
    tag = f"UA{d.node_class}"
    attributes = {"ParentNodeId": node_id(parent)}
    if d.data_type:
        attributes["DataType"] = d.data_type
    if d.array:
        attributes |= {"ValueRank": "1", "ArrayDimensions": "0"}
    if d.notifier:
        attributes["EventNotifier"] = "1"
    references = _node(root, tag, path, f"1:{d.name}" if ours else d.name, described(d), **attributes)
    if d.type:
        _refer(references, "HasTypeDefinition", node_id(d.type))
    _refer(references, "HasModellingRule", f"i={MODELLING_RULES[d.rule]}")
    _refer(references, d.reference, node_id(parent), forward=False)
    if d.value is not None:
        _sub(_sub(list(root)[-1], "Value"), "String", d.value, VALUES)
    if d.method:
        for name, arguments in (("InputArguments", d.method.inputs), ("OutputArguments", d.method.outputs)):
            if arguments:
                _property(root, path, name, "Argument", _arguments(arguments), array=True, rule=True)
    if d.node_class == "Variable":
        for inherited in _mandatory_properties(d.type):
            if inherited.name == "EnumValues":
                fill = _values_of(d.enum)
                _property(root, path, "EnumValues", "EnumValueType", fill, array=True, rule=True)
            else:
                _declaration(root, path, inherited, ours=False)
    for member in d.members:
        standard = d.type in STANDARD and any(m.name == member.name for m in _declared(d.type))
        _declaration(root, path, member, ours=not standard)


def _declared(type_: str) -> Iterator[Declaration]:
    while type_:
        yield from STANDARD[type_].members
        type_ = STANDARD[type_].base


def _mandatory_properties(type_: str) -> Iterator[Declaration]:
    return (d for d in _declared(type_) if d.rule == "Mandatory")


Fill = Callable[[ET.Element], None]


def _property(
    root: ET.Element, parent: str, name: str, data_type: str, fill: Fill, *, array: bool = False, rule: bool = False
) -> None:
    """A standard property with its value."""
    attributes = {"ParentNodeId": node_id(parent), "DataType": data_type}
    if array:
        attributes |= {"ValueRank": "1", "ArrayDimensions": "0"}
    references = _node(root, "UAVariable", f"{parent}.{name}", name, "", **attributes)
    _refer(references, "HasTypeDefinition", node_id("PropertyType"))
    if rule:
        _refer(references, "HasModellingRule", f"i={MODELLING_RULES['Mandatory']}")
    _refer(references, "HasProperty", node_id(parent), forward=False)
    fill(_sub(list(root)[-1], "Value"))


def _scalar(data_type: str, text: str) -> Fill:
    def fill(value: ET.Element) -> None:
        _sub(value, data_type, text, VALUES)

    return fill


def _list(data_type: str, texts: tuple[str, ...]) -> Fill:
    def fill(value: ET.Element) -> None:
        items = _sub(value, f"ListOf{data_type}", space=VALUES)
        for text in texts:
            _sub(items, data_type, text, VALUES)

    return fill


def _structure(parent: ET.Element, type_: str) -> ET.Element:
    """Body of one ExtensionObject."""
    extension = _sub(parent, "ExtensionObject", space=VALUES)
    _sub(_sub(extension, "TypeId", space=VALUES), "Identifier", f"i={_XML[type_]}", VALUES)
    return _sub(_sub(extension, "Body", space=VALUES), type_, space=VALUES)


def _values_of(enum: str) -> Fill:
    return lambda value: _enum_values(value, ENUMS[enum][1])


def _enum_values(value: ET.Element, enum: type[IntEnum]) -> None:
    items = _sub(value, "ListOfExtensionObject", space=VALUES)
    for member in enum:
        body = _structure(items, "EnumValueType")
        _sub(body, "Value", str(member.value), VALUES)
        _sub(_sub(body, "DisplayName", space=VALUES), "Text", member.name, VALUES)
        _sub(_sub(body, "Description", space=VALUES), "Text", "", VALUES)


def _arguments(arguments: tuple[Argument, ...]) -> Fill:
    def fill(value: ET.Element) -> None:
        items = _sub(value, "ListOfExtensionObject", space=VALUES)
        for argument in arguments:
            body = _structure(items, "Argument")
            _sub(body, "Name", argument.name, VALUES)
            _sub(_sub(body, "DataType", space=VALUES), "Identifier", f"i={DATA_TYPES[argument.data_type]}", VALUES)
            _sub(body, "ValueRank", "-1", VALUES)
            _sub(body, "ArrayDimensions", space=VALUES)
            _sub(_sub(body, "Description", space=VALUES), "Text", argument.description, VALUES)

    return fill


def ids(document: str) -> str:
    """Python constants of the types and states in a nodeset."""
    space = {"n": SCHEMA}
    root = ET.fromstring(document)  # noqa: S314 - written above
    lines = [
        '"""NodeIds of our types in ns=2. Generated from enose.xml by `python -m nodesets.generate`."""',
        "",
        f'TYPES_URI = "{root.findtext("n:NamespaceUris/n:Uri", namespaces=space)}"',
    ]
    for tag in ("UAObjectType", "UADataType"):
        lines.append("")
        for node in root.findall(f"n:{tag}", space):
            name = node.attrib["BrowseName"].partition(":")[2]
            lines.append(f"{name} = {node.attrib['NodeId'].partition(';i=')[2]}")
    lines += ["", "# States: string identifiers."]
    states = {node_id("StateType"), node_id("InitialStateType")}
    for node in root.findall("n:UAObject", space):
        if states & {r.text for r in node.iterfind("n:References/n:Reference", space)}:
            identifier = node.attrib["NodeId"].partition(";s=")[2]
            lines.append(f'{identifier.replace(".", "_")} = "{identifier}"')
    return "\n".join(lines) + "\n"


def methods() -> str:
    """The method reference sheet: what a SCADA system that cannot browse methods must know."""
    lines = [
        "# Methods",
        "",
        "Generated by `python -m nodesets.generate`. NodeIds are in ns=3 (`http://enose.dev/UA/ENose/Site/`). A method",
        "node is its object's NodeId, a dot and its name: `ns=3;s=L01.BatchControl.CreateBatch`. Every argument is a",
        "scalar. An argument in brackets may be left out.",
        "",
        "A Bad status means that nothing happened: BadArgumentsMissing, BadTooManyArguments, BadInvalidArgument (with",
        "BadTypeMismatch or BadOutOfRange at the argument), BadNotFound, BadNoMatch, BadInvalidState,",
        "BadUserAccessDenied, BadMethodInvalid, BadResourceUnavailable. The reason stands in the batch's",
        "LastCallResult and in the audit log.",
    ]
    for owner, where in OBJECTS.items():
        lines += ["", f"## {owner}", "", f"Object: `ns=3;s={where}`"]
        for m in (m for m in METHODS.values() if m.object == owner):
            lines += ["", f"### {m.name}", "", m.description, "", f"Roles: {_roles(m.roles)}", ""]
            lines += ["| | argument | type | meaning |", "|---|---|---|---|"]
            for i, a in enumerate(m.inputs):
                name = a.name if i < m.required else f"[{a.name}]"
                lines.append(f"| in | {name} | {a.data_type} (i={DATA_TYPES[a.data_type]}) | {a.description} |")
            for a in m.outputs:
                lines.append(f"| out | {a.name} | {a.data_type} (i={DATA_TYPES[a.data_type]}) | {a.description} |")
    return "\n".join([*lines, *_condition_methods()]) + "\n"


def _condition_methods() -> Iterator[str]:
    """Those of alarms, which Part 9 defines; a SCADA system that knows alarms calls them by itself."""
    yield from ("", "## Alarms", "", "Object: the alarm, `ns=3;s=DEVICE.Alarms.CommunicationLost`; of shelving its")
    yield "`.ShelvingState`; of Respond the dialog; of the metrics `ns=3;s=ENose.AlarmMetrics`."
    yield "Arguments as OPC UA Part 9 has them."
    yield ""
    yield from ("| method | arguments in |", "|---|---|")
    for owner in CONDITION_METHODS:
        for member in STANDARD[owner].members:
            if member.method is not None:
                inputs = (f"{a.name} {a.data_type} (i={DATA_TYPES[a.data_type]})" for a in member.method.inputs)
                yield f"| {member.name} | {', '.join(inputs)} |"


CONDITION_METHODS = (
    "ConditionType", "DialogConditionType", "AcknowledgeableConditionType", "AlarmConditionType",
    "ShelvedStateMachineType", "AlarmMetricsType",
)  # fmt: skip
OBJECTS: Mapping[str, str] = {
    "MethodSet": "DEVICE.MethodSet",
    "BatchControl": "LINE.BatchControl",
    "Signatures": "ENose.Signatures",
    "Models": "ENose.Models",
    "Agents": "ENose.Agents",
    "Compliance": "ENose.Compliance",
    "Security": "ENose.Security",
}
"""Where each object with methods is; DEVICE and LINE stand for ids of the plant, e.g. EN01 and L01."""


def _roles(roles: frozenset[Role]) -> str:
    if roles >= frozenset(Role) - {Role.ANONYMOUS}:
        return "every authenticated user"
    if roles == HUMAN_ROLES:
        return "Operator, Engineer, QA, QA-Release (human roles only)"
    return ", ".join(sorted(roles))


def files() -> Mapping[Path, str]:
    """Path -> content of everything generated."""
    document = nodeset()
    return {
        NODESET: document,
        NODESET.with_name("ids.py"): ids(document),
        NODESET.parents[1] / "docs" / "methods.md": methods(),
    }


def main() -> None:
    for path, content in files().items():
        path.write_text(content, "utf-8")


if __name__ == "__main__":
    main()
