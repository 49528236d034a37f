"""The address space as one (Part 3, Part 5): every node, walked from Root, and what must hold of all of them."""

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import pytest
import pytest_asyncio
from asyncua import ua

from opcua_server.plant.conformance import KINDS, STATUSES, VALUED, VALUES
from opcua_server.services.nodes import SITE_NS
from tests.conformance.plant import CODES, Conversation, Plant, browse, double, int32, nid, write

pytestmark = pytest.mark.asyncio(loop_scope="module")

A, IDS, T = ua.AttributeIds, ua.ObjectIds, ua.VariantType
OWN = 1
"""Index of the server's own namespace, where sessions have their diagnostics."""
BASE = (A.NodeId, A.NodeClass, A.BrowseName, A.DisplayName)
MANDATORY = {
    ua.NodeClass.Object: (A.EventNotifier,),
    ua.NodeClass.Variable: (A.DataType, A.ValueRank, A.AccessLevel, A.UserAccessLevel, A.Historizing),
    ua.NodeClass.Method: (A.Executable, A.UserExecutable),
    ua.NodeClass.ObjectType: (A.IsAbstract,),
    ua.NodeClass.VariableType: (A.DataType, A.ValueRank, A.IsAbstract),
    ua.NodeClass.ReferenceType: (A.IsAbstract, A.Symmetric),
    ua.NodeClass.DataType: (A.IsAbstract,),
    ua.NodeClass.View: (A.ContainsNoLoops, A.EventNotifier),
}
"""Part 3 Table 29 and before: of every node `BASE`, and of each class these."""


Members = dict[tuple[int, str], ua.NodeId]
"""Of a node, by namespace and name."""


@dataclass(frozen=True)
class Walked:
    references: dict[ua.NodeId, list[Any]]
    classes: dict[ua.NodeId, Any]

    def forward(self, node: ua.NodeId, kind: int) -> list[ua.NodeId]:
        return [r.NodeId for r in self.references[node] if r.IsForward and r.ReferenceTypeId == ua.NodeId(kind)]


def batched(of: Iterable[Any], size: int) -> Iterator[list[Any]]:
    rest = iter(of)
    while some := list(islice(rest, size)):
        yield some


def everything(nodes: Sequence[ua.NodeId]) -> ua.BrowseRequest:
    request = browse("")
    (template,) = request.Parameters.NodesToBrowse
    both, any_type = ua.BrowseDirection.Both, ua.NodeId()
    request.Parameters.NodesToBrowse = [
        ua.BrowseDescription(n, both, any_type, IncludeSubtypes=True, ResultMask=template.ResultMask) for n in nodes
    ]
    return request


async def references(talk: Conversation, nodes: Sequence[ua.NodeId]) -> dict[ua.NodeId, list[Any]]:
    """Of each node, but to those that come and go with sessions."""
    found = {}
    for node, result in zip(nodes, (await talk.call(everything(nodes))).Results, strict=True):
        result.StatusCode.check()
        found[node], point = list(result.References), result.ContinuationPoint
        while point:
            parameters = ua.BrowseNextParameters(False, [point])
            (more,) = (await talk.call(ua.BrowseNextRequest(Parameters=parameters))).Parameters.Results
            found[node] += more.References
            point = more.ContinuationPoint
    return {node: [r for r in rs if r.NodeId.NamespaceIndex != OWN] for node, rs in found.items()}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def admin(plant: Plant) -> AsyncIterator[Conversation]:
    async with plant.session("None", "admin1") as talk:
        yield talk


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def walked(admin: Conversation) -> Walked:
    found: dict[ua.NodeId, list[Any]] = {}
    classes: dict[ua.NodeId, Any] = {ua.NodeId(IDS.RootFolder): ua.NodeClass.Object}
    waiting = {ua.NodeId(IDS.RootFolder)}
    while waiting:
        for some in batched(waiting, 10):  # less than a session has continuation points
            found |= await references(admin, some)
        described = [r for node in waiting for r in found[node]]
        classes.update({r.NodeId: r.NodeClass for r in described})
        waiting = {r.NodeId for r in described} - found.keys()
    return Walked(found, classes)


async def test_every_reference_is_seen_from_both_ends(walked: Walked) -> None:
    # Part 3 4.3.4; and once only.
    rows = [(n, r.ReferenceTypeId, r.IsForward, r.NodeId) for n, rs in walked.references.items() for r in rs]
    assert len(rows) == len(set(rows))
    known = set(rows)
    assert [r for r in known if (r[3], r[1], not r[2], r[0]) not in known] == []


async def test_objects_and_variables_have_one_type(walked: Walked) -> None:
    # Part 3 5.5.1, 5.6.2: exactly one HasTypeDefinition, and references tell of it.
    for node, node_class in walked.classes.items():
        types = walked.forward(node, IDS.HasTypeDefinition)
        wanted = {ua.NodeClass.Object: ua.NodeClass.ObjectType, ua.NodeClass.Variable: ua.NodeClass.VariableType}
        assert [walked.classes[t] for t in types] == ([wanted[node_class]] if node_class in wanted else []), node
    for rs in walked.references.values():
        for r in rs:
            assert [r.TypeDefinition] == (walked.forward(r.NodeId, IDS.HasTypeDefinition) or [ua.NodeId()]), r


async def test_mandatory_attributes_have_values(admin: Conversation, walked: Walked) -> None:
    wanted = [(n, a) for n, c in walked.classes.items() for a in (*BASE, *MANDATORY[c])]
    for some in batched(wanted, 1000):
        items = [ua.ReadValueId(NodeId=node, AttributeId=attribute) for node, attribute in some]
        results = (await admin.call(ua.ReadRequest(Parameters=ua.ReadParameters(NodesToRead=items)))).Results
        assert [k for k, v in zip(some, results, strict=True) if v.Value is None or v.Value.Value is None] == []


def supertypes(walked: Walked, kind: ua.NodeId) -> Iterator[ua.NodeId]:
    """The type itself, then upwards."""
    while kind:
        yield kind
        backwards = (r for r in walked.references[kind] if not r.IsForward)
        kind = next((r.NodeId for r in backwards if r.ReferenceTypeId == ua.NodeId(IDS.HasSubtype)), None)


def members(walked: Walked, node: ua.NodeId) -> Members:
    """What a node has, by name."""
    kinds = {ua.NodeId(k) for k in (IDS.HasComponent, IDS.HasProperty, IDS.HasOrderedComponent)}
    found = (r for r in walked.references[node] if r.IsForward and r.ReferenceTypeId in kinds)
    return {(r.BrowseName.NamespaceIndex, r.BrowseName.Name): r.NodeId for r in found}


def demanded(walked: Walked, kind: ua.NodeId) -> Members:
    """Mandatory members of a type, those of its supertypes included, as it declares them (Part 3 6.4.4.4.1)."""
    declared = [members(walked, t) for t in supertypes(walked, kind)][::-1]
    return mandatory(walked, {name: node for found in declared for name, node in found.items()})


def mandatory(walked: Walked, declared: Members) -> Members:
    rule = [ua.NodeId(IDS.ModellingRule_Mandatory)]
    return {name: node for name, node in declared.items() if walked.forward(node, IDS.HasModellingRule) == rule}


def lacking(walked: Walked, node: ua.NodeId, wanted: Members) -> Iterator[str]:
    """What an instance does not have of its declarations, or as another type, at any depth."""
    own = members(walked, node)
    for name, declaration in wanted.items():
        if name not in own:
            yield f"{node.to_string()} has no {name[1]}"
            continue
        kinds, asked = (walked.forward(n, IDS.HasTypeDefinition) for n in (own[name], declaration))
        if asked and asked[0] not in supertypes(walked, kinds[0]):
            yield f"{own[name].to_string()} is a {kinds[0].to_string()}"
        yield from lacking(walked, own[name], mandatory(walked, members(walked, declaration)))


async def test_instances_have_what_their_types_demand(walked: Walked) -> None:
    # Part 3 6.4.4.4.1, 6.3: all of it, of all types above, down to the last property.
    assert (0, "ServerStatus") in demanded(walked, ua.NodeId(IDS.ServerType))
    declarations = {n for n in walked.references if walked.forward(n, IDS.HasModellingRule)}
    wrong = [
        what
        for node, node_class in walked.classes.items()
        if node_class in (ua.NodeClass.Object, ua.NodeClass.Variable) and node not in declarations
        for kind in walked.forward(node, IDS.HasTypeDefinition)
        for what in lacking(walked, node, demanded(walked, kind))
    ]
    assert wrong == []


async def test_who_has_conditions_is_a_source_of_events(walked: Walked) -> None:
    # Part 9 4.10: each ConditionSource is the target of a HasEventSource or of its subtype HasNotifier.
    sources = [n for n in walked.references if n.NamespaceIndex == SITE_NS and walked.forward(n, IDS.HasCondition)]
    upwards = {ua.NodeId(IDS.HasEventSource), ua.NodeId(IDS.HasNotifier)}
    assert len(sources) > 10
    for source in sources:
        assert any(r.ReferenceTypeId in upwards and not r.IsForward for r in walked.references[source]), source


async def test_modelling_rules_are_listed(walked: Walked) -> None:
    # Part 5 6.3.2
    folder = walked.forward(ua.NodeId(IDS.Server_ServerCapabilities_ModellingRules), IDS.Organizes)
    used = {t for n in walked.references for t in walked.forward(n, IDS.HasModellingRule)}
    assert used <= set(folder)


@pytest.mark.parametrize("kind", KINDS)
async def test_references_of_each_kind_are_followed(admin: Conversation, kind: str) -> None:
    wanted = ua.NodeId(getattr(IDS, kind))
    for source, direction in (("Source", ua.BrowseDirection.Forward), ("Target", ua.BrowseDirection.Inverse)):
        request = browse(
            f"References.{source}", BrowseDirection=direction, ReferenceTypeId=wanted, IncludeSubtypes=False
        )
        (result,) = (await admin.call(request)).Results
        other = {"Source": "Target", "Target": "Source"}[source]
        assert nid(f"References.{other}") in [r.NodeId for r in result.References]


@pytest.mark.parametrize("name", VALUES)
async def test_matrices_of_every_type_are_written_and_read_back(admin: Conversation, name: str) -> None:
    # 5.11.4, 7.27: whole, and a part of them.
    path, (one, other) = f"Matrix.{name}", VALUES[name]
    value = [[other, one, one], [one, one, other]]
    assert await admin.outcome(write(path, ua.Variant(value, T[name]))) == [0]
    found = (await admin.read(nid(path))).Value
    assert (found.Value, found.Dimensions) == (value, [2, 3])
    assert (await admin.read(nid(path), IndexRange="1,1:2")).Value.Value == [[one, other]]


@pytest.mark.parametrize("path", VALUED)
async def test_the_text_of_a_state_follows_its_value(admin: Conversation, path: str) -> None:
    # Part 8 5.3.3.4
    kind = T[VALUED[path]]
    for value, text in ((2, "Closed"), (4, "Moving"), (1, "Open")):
        assert await admin.outcome(write(path, value, kind)) == [0]
        assert (await admin.read(nid(f"{path}.ValueAsText"))).Value.Value.Text == text
    assert await admin.outcome(write(path, 3, kind)) == [CODES.BadOutOfRange]


@pytest.mark.parametrize(
    ("path", "inside", "outside"),
    [
        ("YArray", [1.0, 2.0], [1.0, 101.0]),
        ("Image", [[1.0], [2.0]], [[1.0], [-101.0]]),
        ("Cube", [[[1.0]]], [[[101.0]]]),
        ("NDimensionArray", [[1.0]], [[101.0]]),
    ],
)
async def test_array_items_are_within_their_range(
    admin: Conversation, path: str, inside: list[Any], outside: list[Any]
) -> None:
    # Part 8 5.3.4
    assert await admin.outcome(write(f"ArrayItem.{path}", ua.Variant(inside, T.Double))) == [0]
    assert await admin.outcome(write(f"ArrayItem.{path}", ua.Variant(outside, T.Double))) == [CODES.BadOutOfRange]
    assert await admin.outcome(write(f"ArrayItem.{path}", double(1.0))) == [CODES.BadTypeMismatch]


async def test_points_of_a_curve_are_structures(admin: Conversation) -> None:
    points = [ua.XVType(X=1.0, Value=2.0)]
    assert await admin.outcome(write("ArrayItem.XYArray", ua.Variant(points, T.ExtensionObject))) == [0]
    assert (await admin.read(nid("ArrayItem.XYArray"))).Value.Value == points
    wrong = ua.Variant([ua.Range()], T.ExtensionObject)
    assert await admin.outcome(write("ArrayItem.XYArray", wrong)) == [CODES.BadTypeMismatch]


async def test_a_value_keeps_the_status_it_was_shown_with(admin: Conversation) -> None:
    for name, code in STATUSES.items():
        assert (await admin.read(nid(f"Status.{name}"))).StatusCode.value == code


async def test_long_values_take_several_chunks(admin: Conversation) -> None:
    assert (await admin.read(nid("Large.Int32"))).Value.Value == list(range(10_000))
    assert (await admin.read(nid("Large.Int32"), IndexRange="9998:20000")).Value.Value == [9998, 9999]
    assert len((await admin.read(nid("Large.String"))).Value.Value) == 10_000
    assert await admin.outcome(write("Cube.Int32", int32([[[1, 2]], [[3, 4]]]))) == [0]
