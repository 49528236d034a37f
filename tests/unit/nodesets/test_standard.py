"""Our excerpt of the standard types against the published nodeset, as the stack ships it."""

import asyncio
from collections.abc import Iterator

import pytest
from asyncua import Server, ua
from asyncua.server.address_space import AddressSpace

from nodesets.declarations import Declaration
from nodesets.standard import DATA_TYPES, MODELLING_RULES, REFERENCE_TYPES, STANDARD

A = ua.AttributeIds
MANDATORY = MODELLING_RULES["Mandatory"]
CLASSES = {"Object": ua.NodeClass.Object, "Variable": ua.NodeClass.Variable, "Method": ua.NodeClass.Method}


@pytest.fixture(scope="module")
def published() -> AddressSpace:
    async def loaded() -> AddressSpace:
        server = Server()
        await server.init()
        return server.iserver.aspace

    return asyncio.run(loaded())


def value(space: AddressSpace, node: ua.NodeId, attribute: ua.AttributeIds) -> object:
    return space[node].attributes[attribute].value.Value.Value


def targets(
    space: AddressSpace, node: ua.NodeId, *types: str, forward: bool = True
) -> Iterator[ua.ReferenceDescription]:
    wanted = {ua.NodeId(REFERENCE_TYPES[t]) for t in types}
    return (r for r in space[node].references if r.IsForward == forward and r.ReferenceTypeId in wanted)


def rule(space: AddressSpace, node: ua.NodeId) -> int:
    return next((r.NodeId.Identifier for r in targets(space, node, "HasModellingRule")), 0)


@pytest.mark.parametrize("name", STANDARD)
def test_a_type_is_as_published(published: AddressSpace, name: str) -> None:
    # An instance without a mandatory member, or with one of another type, is not an instance (Part 3 6.2.6).
    type_, node = STANDARD[name], ua.NodeId(STANDARD[name].number)
    assert value(published, node, A.BrowseName) == ua.QualifiedName(name, 0)
    bases = [r.NodeId.Identifier for r in targets(published, node, "HasSubtype", forward=False)]
    if type_.base:
        assert bases == [STANDARD[type_.base].number]
    members = {r.BrowseName.Name: r for r in targets(published, node, "HasComponent", "HasProperty")}
    inherited = {d.name for t in supertypes(name) for d in t.members}
    required = {n for n, r in members.items() if rule(published, r.NodeId) == MANDATORY}
    assert required <= {d.name for d in type_.members} | inherited
    for declaration in type_.members:
        check(published, declaration, members[declaration.name])


def check(published: AddressSpace, declaration: Declaration, reference: ua.ReferenceDescription) -> None:
    node = reference.NodeId
    assert reference.ReferenceTypeId.Identifier == REFERENCE_TYPES[declaration.reference]
    assert value(published, node, A.NodeClass) == CLASSES[declaration.node_class]
    assert rule(published, node) == MODELLING_RULES[declaration.rule]
    if declaration.type:
        definitions = [r.NodeId.Identifier for r in targets(published, node, "HasTypeDefinition")]
        assert definitions == [STANDARD[declaration.type].number]
    # Where the published file leaves the attribute out (BaseDataType), the stack's copy of it says String.
    if declaration.data_type and declaration.data_type != "BaseDataType":
        assert value(published, node, A.DataType) == ua.NodeId(DATA_TYPES[declaration.data_type])
        assert value(published, node, A.ValueRank) == (1 if declaration.array else -1)
    if declaration.method and declaration.method.inputs:
        argument_node = next(targets(published, node, "HasProperty")).NodeId
        arguments = value(published, argument_node, A.Value)
        assert [(a.Name, a.DataType.Identifier) for a in arguments] == [  # type: ignore[attr-defined]
            (a.name, DATA_TYPES[a.data_type]) for a in declaration.method.inputs
        ]


def supertypes(name: str) -> Iterator[object]:
    while name := STANDARD[name].base:
        yield STANDARD[name]


@pytest.mark.parametrize(
    ("names", "node_class"), [(DATA_TYPES, ua.NodeClass.DataType), (REFERENCE_TYPES, ua.NodeClass.ReferenceType)]
)
def test_identifiers_are_as_published(published: AddressSpace, names: dict[str, int], node_class: ua.NodeClass) -> None:
    for name, number in names.items():
        assert value(published, ua.NodeId(number), A.BrowseName) == ua.QualifiedName(name, 0)
        assert value(published, ua.NodeId(number), A.NodeClass) == node_class
