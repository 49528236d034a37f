"""The reference for the tree of templates: the same instances as nodes of asyncua's storage, one by one.

What is written here are the NodeData, AttributeValue and ReferenceDescription objects that asyncua's own services make.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from asyncua import ua
from asyncua.server.address_space import AddressSpace, AttributeValue, NodeData

from opcua_server.services.nodes import (
    HAS_PROPERTY,
    SITE_NS,
    Instance,
    Member,
    NodeClass,
    Reference,
)

HAS_TYPE_DEFINITION = ua.NodeId(ua.ObjectIds.HasTypeDefinition)
PROPERTY_TYPE = ua.NodeId(ua.ObjectIds.PropertyType)
ARGUMENT = ua.NodeId(ua.ObjectIds.Argument)
GOOD = ua.StatusCode()
A = ua.AttributeIds
T = ua.VariantType

Attributes = tuple[tuple[ua.AttributeIds, ua.DataValue], ...]


def realise(aspace: AddressSpace, instances: Iterable[Instance], references: Iterable[Reference]) -> None:
    """Add instances, then references, each in both directions.

    A variable without a value is null with BadWaitingForInitialData (fault F14). Raises KeyError for a parent, type or
    end of a reference that is not there, for an id that is, and for a value of a path the template does not have.
    """
    writer = _Writer(aspace)
    for instance in instances:
        writer.add(instance)
    for reference in references:
        writer.refer(reference)


@dataclass(frozen=True, slots=True)
class _Shape:
    """What the nodes of one member of a template have in common."""

    path: str
    above: str
    """Path of the parent member."""
    member: Member
    display_name: ua.LocalizedText
    attributes: Attributes
    """Those that are the same for all."""


class _Writer:
    """Appends to one address space. Immutable values are shared between nodes, cells (AttributeValue) never."""

    def __init__(self, aspace: AddressSpace) -> None:
        self._nodes: dict[ua.NodeId, NodeData] = aspace._nodes
        self._shapes: dict[int, tuple[_Shape, ...]] = {}
        self._types: dict[ua.NodeId, tuple[NodeData, ua.ReferenceDescription]] = {}
        self._now = datetime.now(UTC)
        self._unset = ua.DataValue(
            ua.Variant(None, ua.VariantType.Null),
            ua.StatusCode(ua.StatusCodes.BadWaitingForInitialData),
            self._now,
            self._now,
        )

    def add(self, instance: Instance) -> None:
        template = instance.template
        shapes = self._shapes.get(id(template))
        if shapes is None:
            shapes = self._shapes[id(template)] = tuple(map(_shape, with_arguments(template.members)))
        if unknown := {*instance.values, *instance.descriptions, *instance.lengths} - {s.path for s in shapes}:
            raise KeyError(f"{instance.prefix}: {template.name} has no {', '.join(sorted(unknown))}")
        made: dict[str, NodeData] = {}
        for shape in shapes:
            above = made[shape.above] if shape.path else self._nodes[instance.parent]
            made[shape.path] = self._node(instance, shape, above)

    def _node(self, instance: Instance, shape: _Shape, above: NodeData) -> NodeData:
        member, path = shape.member, shape.path
        if path:
            node_id = ua.NodeId(f"{instance.prefix}.{path}", SITE_NS)
            browse_name, display_name = member.browse_name, shape.display_name
        else:
            node_id = ua.NodeId(instance.prefix, SITE_NS)
            name = instance.name or instance.prefix.rpartition(".")[2]
            browse_name, display_name = ua.QualifiedName(name, SITE_NS), ua.LocalizedText(name, "en")
        if node_id in self._nodes:
            raise KeyError(f"{node_id.to_string()} is there already")
        node = NodeData(node_id)
        cells = node.attributes = {attribute: AttributeValue(value) for attribute, value in shape.attributes}
        cells[A.NodeId] = AttributeValue(_data(node_id, T.NodeId))
        if not path:
            cells[A.BrowseName] = AttributeValue(_data(browse_name, T.QualifiedName))
            cells[A.DisplayName] = AttributeValue(_data(display_name, T.LocalizedText))
        if path in instance.descriptions:
            cells[A.Description] = AttributeValue(_text(instance.descriptions[path]))
        if member.node_class is NodeClass.VARIABLE:
            cells[A.Value] = AttributeValue(self._value(instance.values.get(path, member.value)))
            if path in instance.lengths:
                cells[A.ArrayDimensions] = AttributeValue(_data([instance.lengths[path]], T.UInt32))
        self._nodes[node_id] = node

        node_class = ua.NodeClass(member.node_class)
        type_definition = member.type_definition or ua.NodeId()
        above.references.append(
            ua.ReferenceDescription(
                member.reference, True, node_id, browse_name, display_name, node_class, type_definition
            )
        )
        node.references.append(_description(member.reference, False, above))
        if member.type_definition is not None:
            type_node, to_type = self._type(member.type_definition)
            node.references.append(to_type)
            type_node.references.append(
                ua.ReferenceDescription(
                    HAS_TYPE_DEFINITION, False, node_id, browse_name, display_name, node_class, type_definition
                )
            )
        return node

    def _type(self, type_id: ua.NodeId) -> tuple[NodeData, ua.ReferenceDescription]:
        """A type and the reference every instance of it has."""
        if type_id not in self._types:
            node = self._nodes[type_id]
            self._types[type_id] = node, _description(HAS_TYPE_DEFINITION, True, node)
        return self._types[type_id]

    def _value(self, constant: ua.Variant | None) -> ua.DataValue:
        return self._unset if constant is None else ua.DataValue(constant, GOOD, self._now, self._now)

    def refer(self, reference: Reference) -> None:
        source, target = self._nodes[reference.source], self._nodes[reference.target]
        source.references.append(_description(reference.type, True, target))
        target.references.append(_description(reference.type, False, source))


def _description(type_: ua.NodeId, forward: bool, node: NodeData) -> ua.ReferenceDescription:
    """Reference to a node that is there."""
    type_definition = next(
        (r.NodeId for r in node.references if r.IsForward and r.ReferenceTypeId == HAS_TYPE_DEFINITION), ua.NodeId()
    )
    browse_name, display_name, node_class = (
        node.attributes[a].value.Value.Value for a in (A.BrowseName, A.DisplayName, A.NodeClass)
    )
    return ua.ReferenceDescription(
        type_, forward, node.nodeid, browse_name, display_name, ua.NodeClass(node_class), type_definition
    )


def with_arguments(members: Iterable[Member]) -> Iterator[Member]:
    """The members, and the properties that hold methods' arguments (Part 3 5.7.1)."""
    for member in members:
        yield member
        for name, arguments in (("InputArguments", member.inputs), ("OutputArguments", member.outputs)):
            if arguments:
                yield Member(
                    path=f"{member.path}.{name}",
                    node_class=NodeClass.VARIABLE,
                    browse_name=ua.QualifiedName(name, 0),
                    reference=HAS_PROPERTY,
                    type_definition=PROPERTY_TYPE,
                    data_type=ARGUMENT,
                    value_rank=1,
                    value=ua.Variant(list(arguments), T.ExtensionObject),
                )


def _shape(member: Member) -> _Shape:
    display_name = ua.LocalizedText(member.browse_name.Name, "en")
    attributes = {
        A.BrowseName: _data(member.browse_name, T.QualifiedName),
        A.DisplayName: _data(display_name, T.LocalizedText),
        A.NodeClass: _data(ua.NodeClass(member.node_class), T.Int32),
        A.Description: _text(member.description),
        A.WriteMask: _data(0, T.UInt32),
        A.UserWriteMask: _data(0, T.UInt32),
        **_BY_CLASS[member.node_class](member),
    }
    return _Shape(member.path, member.path.rpartition(".")[0], member, display_name, tuple(attributes.items()))


def _object(member: Member) -> dict[ua.AttributeIds, ua.DataValue]:
    return {A.EventNotifier: _data(member.event_notifier, T.Byte)}


def _view(member: Member) -> dict[ua.AttributeIds, ua.DataValue]:
    return {A.EventNotifier: _data(member.event_notifier, T.Byte), A.ContainsNoLoops: _data(True, T.Boolean)}


def _method(member: Member) -> dict[ua.AttributeIds, ua.DataValue]:
    return {A.Executable: _data(member.executable, T.Boolean), A.UserExecutable: _data(member.executable, T.Boolean)}


def _variable(member: Member) -> dict[ua.AttributeIds, ua.DataValue]:
    """MinimumSamplingInterval 0: every change is noticed (Part 3 5.6.2)."""
    attributes = {
        A.DataType: _data(member.data_type, T.NodeId),
        A.ValueRank: _data(member.value_rank, T.Int32),
        A.AccessLevel: _data(int(member.access), T.Byte),
        A.UserAccessLevel: _data(int(member.access), T.Byte),
        A.Historizing: _data(member.historizing, T.Boolean),
        A.MinimumSamplingInterval: _data(0.0, T.Double),
    }
    if member.value_rank >= 1:
        attributes[A.ArrayDimensions] = _data([0] * member.value_rank, T.UInt32)
    return attributes


_BY_CLASS: Mapping[NodeClass, Callable[[Member], dict[ua.AttributeIds, ua.DataValue]]] = {
    NodeClass.OBJECT: _object,
    NodeClass.VARIABLE: _variable,
    NodeClass.METHOD: _method,
    NodeClass.VIEW: _view,
}


def _data(value: object, type_: ua.VariantType) -> ua.DataValue:
    return ua.DataValue(ua.Variant(value, type_), GOOD)


def _text(text: str) -> ua.DataValue:
    return _data(ua.LocalizedText(text, "en") if text else ua.LocalizedText(), T.LocalizedText)
