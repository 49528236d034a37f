"""Nodes by template against the same nodes made one by one in asyncua's storage: every answer is the same.

Order of references and times of values that nobody published may differ; nothing else.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Coroutine, Iterable
from types import SimpleNamespace
from typing import Any

import pytest
from asyncua import Server, ua
from asyncua.common.utils import Buffer
from asyncua.server.address_space import AddressSpace, AttributeValue, NodeData
from asyncua.ua.ua_binary import struct_from_binary, struct_to_binary
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config.load import DEMO, load
from nodesets.model import Caller
from opcua_server.plant.space import space as plant_space
from opcua_server.services import browsing
from opcua_server.services.attributes import Attributes
from opcua_server.services.limits import Limits
from opcua_server.services.locales import Locales
from opcua_server.services.nodes import SITE_NS, Access, Instance, Member, NodeClass, Reference, Template, site
from opcua_server.services.roles import Sight
from opcua_server.services.sessions import Points
from opcua_server.services.space import Space
from opcua_server.services.storage import load_types
from opcua_server.services.view import View
from tests.stored import realise, with_arguments

IDS = ua.ObjectIds
OBJECTS = ua.NodeId(IDS.ObjectsFolder)
BOTH = ua.BrowseDirection.Both
ATTRIBUTES = range(1, 28)
CALLER, GUEST = Caller(user="anna"), Caller(user="guest")
GERMAN = {name: {"de": f"{name} auf Deutsch"} for name in ("A", "named", "InputArguments", "FolderType")}
ROOTS = [
    ua.NodeId(number)
    for number in (
        IDS.RootFolder, IDS.ObjectsFolder, IDS.ViewsFolder, IDS.Server, IDS.FolderType, IDS.BaseObjectType,
        IDS.BaseDataVariableType, IDS.PropertyType, IDS.DataItemType,
    )
]  # fmt: skip
KINDS = [
    ua.NodeId(number)
    for number in (
        IDS.References, IDS.HierarchicalReferences, IDS.NonHierarchicalReferences, IDS.HasComponent, IDS.HasProperty,
        IDS.Organizes, IDS.HasNotifier, IDS.HasEventSource, IDS.HasTypeDefinition, IDS.Aggregates,
    )
]  # fmt: skip


class Answers:
    """What a client gets to hear of one address space."""

    def __init__(self, space: Space) -> None:
        self.space = space
        sight, texts = Sight(), Locales()
        sight.limit(SITE_NS, lambda caller: _without_b if caller is GUEST else None)
        texts.add(GERMAN)
        self._view = View(space, sight, Limits(), texts)
        self._attributes = Attributes(space, lambda _caller, _method: False, space.write, lambda *_: True)
        self._session: Any = SimpleNamespace(browse_points=Points())

    def browse(
        self, view: ua.NodeId, most: int, description: ua.BrowseDescription, user: Caller = CALLER, *locales: str
    ) -> tuple[int, list[int], Any]:
        """Status, sizes of the pages, and all references."""
        self._session.user, self._session.locales = user, locales
        parameters = ua.BrowseParameters(
            View=ua.ViewDescription(ViewId=view), RequestedMaxReferencesPerNode=most, NodesToBrowse=[description]
        )
        asked = browsing.parameters(struct_to_binary(parameters), 0)
        (page,) = map(decoded, finished(self._view.browse(self._session, asked)))
        sizes, found, status = [len(page.References)], list(page.References), page.StatusCode.value
        while page.ContinuationPoint:
            following = ua.BrowseNextParameters(False, [page.ContinuationPoint])
            (page,) = map(decoded, finished(self._view.browse_next(self._session, following)))
            sizes.append(len(page.References))
            found += page.References
        return status, sizes, Counter(map(plain, found))

    def read(self, node: ua.NodeId, attribute: int) -> tuple[Any, int, bool]:
        item = ua.ReadValueId(NodeId=node, AttributeId=attribute)
        parameters = ua.ReadParameters(TimestampsToReturn=ua.TimestampsToReturn.Source, NodesToRead=[item])
        (value,) = self._attributes.read(CALLER, parameters)
        return value.Value, value.StatusCode.value, value.SourceTimestamp is None

    def translate(self, start: ua.NodeId, elements: list[ua.RelativePathElement], user: Caller) -> tuple[int, set[str]]:
        path = ua.BrowsePath(StartingNode=start, RelativePath=ua.RelativePath(Elements=elements))
        (result,) = self._view.translate(user, ua.TranslateBrowsePathsToNodeIdsParameters(BrowsePaths=[path]))
        return result.StatusCode.value, {t.TargetId.to_string() for t in result.Targets}


def _without_b(node: ua.NodeId) -> bool:
    return "B" not in str(node.Identifier)


def decoded(result: bytes) -> ua.BrowseResult:
    """What asyncua reads in it, and would write the same."""
    found = struct_from_binary(ua.BrowseResult, Buffer(result))
    assert struct_to_binary(found) == result
    return found


def plain(r: ua.ReferenceDescription) -> tuple[Any, ...]:
    """What compares: a NodeId has several forms of the same number."""
    ids = (i.to_string() for i in (r.ReferenceTypeId, r.NodeId, r.TypeDefinition))
    return *ids, r.IsForward, str(r.BrowseName), str(r.DisplayName), int(r.NodeClass)


Plant = tuple[list[Instance], list[Reference]]


class Pair:
    """The same plant twice: stored, and by template in a tree that was another plant before."""

    def __init__(self, storage: AddressSpace, plant: Plant, before: Plant = ([], [])) -> None:
        """Raises KeyError when they do; both do or none."""
        tree = Space(copy(storage))
        with contextlib.suppress(KeyError):
            tree.replace(*before)
        try:
            realise(storage, *plant)
        except KeyError:
            with pytest.raises(KeyError):
                tree.replace(*plant)
            raise
        self.change = tree.replace(*plant)
        self.nodes = list(storage.keys())
        self.stored, self.made = Answers(Space(storage)), Answers(tree)

    def agree(self, question: str, *arguments: Any) -> None:
        assert getattr(self.made, question)(*arguments) == getattr(self.stored, question)(*arguments), arguments

    def agree_on(self, nodes: Iterable[ua.NodeId]) -> None:
        """All references and all attributes of each."""
        for node in nodes:
            self.agree("browse", ua.NodeId(), 0, ua.BrowseDescription(NodeId=node, BrowseDirection=BOTH, ResultMask=63))
            for attribute in ATTRIBUTES:
                self.agree("read", node, attribute)

    def agree_on_any(self, data: st.DataObject, questions: int, views: list[ua.NodeId]) -> None:
        for _ in range(questions):
            view, user = data.draw(st.sampled_from([ua.NodeId(), *views])), data.draw(st.sampled_from([CALLER, GUEST]))
            most, description = data.draw(st.integers(0, 5)), data.draw(descriptions(self.nodes))
            locales = data.draw(st.sampled_from([(), ("de",), ("en", "de")]))
            self.agree("browse", view, most, description, user, *locales)
            self.agree("translate", data.draw(st.sampled_from(self.nodes)), data.draw(elements()), user)


def finished(answer: Coroutine[None, None, list[Any]]) -> list[Any]:
    """The result of what only gives way to others now and then, without a loop."""
    while True:
        try:
            answer.send(None)
        except StopIteration as done:
            return done.value


def copy(storage: AddressSpace) -> AddressSpace:
    """With cells and lists of its own."""
    copied = AddressSpace()
    for node_id in storage.keys():  # noqa: SIM118 - not a mapping
        node = copied._nodes[node_id] = NodeData(node_id)
        node.attributes = {a: AttributeValue(cell.value) for a, cell in storage[node_id].attributes.items()}
        node.references = list(storage[node_id].references)
    return copied


@pytest.fixture(scope="module")
def standard() -> AddressSpace:
    async def made() -> AddressSpace:
        server = Server()
        await server.init()
        await load_types(server)
        return server.iserver.aspace

    return asyncio.run(made())


@pytest.fixture(scope="module")
def few(standard: AddressSpace) -> AddressSpace:
    """Types of reference and what the small plants stand on."""
    wanted = set(ROOTS)
    todo = [ua.NodeId(IDS.References)]
    while todo:
        node = todo.pop()
        wanted.add(node)
        todo += [r.NodeId for r in standard[node].references if r.IsForward and r.ReferenceTypeId == ua.NodeId(45)]
    small = AddressSpace()
    for node_id in wanted:
        node = small._nodes[node_id] = NodeData(node_id)
        node.attributes = standard[node_id].attributes
        node.references = [r for r in standard[node_id].references if r.NodeId in wanted]
    return small


# -- any small plant

NAMES = st.sampled_from(["A", "B", "C"])
TYPES = {
    NodeClass.OBJECT: st.sampled_from([ua.NodeId(IDS.FolderType), ua.NodeId(IDS.BaseObjectType)]),
    NodeClass.VARIABLE: st.sampled_from([ua.NodeId(IDS.PropertyType), ua.NodeId(IDS.BaseDataVariableType)]),
    NodeClass.METHOD: st.none(),
    NodeClass.VIEW: st.none(),
}
CONSTANTS = st.sampled_from([None, ua.Variant(1.5), ua.Variant("text"), ua.Variant([1, 2], ua.VariantType.Int32)])
ARGUMENTS = st.sampled_from([(), (ua.Argument(Name="In", DataType=ua.NodeId(6), ValueRank=-1),)])


@st.composite
def members(draw: st.DrawFn, path: str) -> Member:
    kind = draw(st.sampled_from(NodeClass)) if path else draw(st.sampled_from([NodeClass.OBJECT, NodeClass.VIEW]))
    variable = kind is NodeClass.VARIABLE
    return Member(
        path=path,
        node_class=kind,
        browse_name=ua.QualifiedName(path.rpartition(".")[2] or "T", draw(st.sampled_from([0, 2]))),
        reference=draw(st.sampled_from(KINDS[3:6])),
        type_definition=draw(TYPES[kind]),
        description=draw(st.sampled_from(["", "member"])),
        data_type=ua.NodeId(IDS.Double) if variable else None,
        value_rank=draw(st.sampled_from([-1, 1, 2])) if variable else -1,
        access=draw(st.sampled_from([Access.READ, Access(0), Access.READ | Access.HISTORY_READ])),
        historizing=draw(st.booleans()),
        value=draw(CONSTANTS) if variable else None,
        event_notifier=draw(st.sampled_from([0, 1])),
        inputs=draw(ARGUMENTS) if kind is NodeClass.METHOD else (),
        outputs=draw(ARGUMENTS) if kind is NodeClass.METHOD else (),
    )


@st.composite
def templates(draw: st.DrawFn) -> Template:
    paths = [""]
    for _ in range(draw(st.integers(0, 5))):
        above = draw(st.sampled_from(paths))
        path = f"{above}.{draw(NAMES)}" if above else draw(NAMES)
        if path not in paths:
            paths.append(path)
    return Template(name="T", members=tuple(draw(members(path)) for path in paths))


@st.composite
def plants(draw: st.DrawFn) -> tuple[list[Instance], list[Reference]]:
    """Now and then one that does not fit together."""
    kinds = draw(st.lists(templates(), min_size=1, max_size=3))
    there = [OBJECTS, ua.NodeId(IDS.ViewsFolder)]
    prefixes: list[str] = []
    instances = []
    for _ in range(draw(st.integers(1, 5))):
        template = draw(st.sampled_from(kinds))
        prefix = ".".join(draw(st.lists(NAMES, min_size=1, max_size=3)))
        paths = [m.path for m in template.members]
        variables = [m.path for m in template.members if m.node_class is NodeClass.VARIABLE]
        of = st.sampled_from
        instances.append(
            Instance(
                template=template,
                prefix=prefix,
                parent=draw(of(there)),
                name=draw(of(["", "named"])),
                values=draw(st.dictionaries(of(variables), CONSTANTS.filter(bool), max_size=2)) if variables else {},
                descriptions=draw(st.dictionaries(of([*paths, "Wrong"] if draw(st.integers(0, 20)) == 0 else paths),
                                                  st.just("own"), max_size=2)),
                lengths=draw(st.dictionaries(of(variables), st.just(7), max_size=1)) if variables else {},
            )
        )  # fmt: skip
        prefixes.append(prefix)
        there += [site(f"{prefix}.{p}" if p else prefix) for p in paths]
    ends = st.sampled_from([*there, ua.NodeId(IDS.Server)] + [site("Nowhere")] * (draw(st.integers(0, 20)) == 0))
    linked = st.builds(Reference, source=ends, type=st.sampled_from(KINDS[3:8]), target=ends)
    touching = linked.filter(lambda r: SITE_NS in (r.source.NamespaceIndex, r.target.NamespaceIndex))
    references = draw(st.lists(touching, max_size=6))
    return instances, references


def descriptions(nodes: list[ua.NodeId]) -> st.SearchStrategy[ua.BrowseDescription]:
    return st.builds(
        ua.BrowseDescription,
        NodeId=st.sampled_from([*nodes, site("Nowhere"), site("A.Nowhere"), ua.NodeId(1, 3), ua.NodeId("A", 2)]),
        BrowseDirection=st.sampled_from(ua.BrowseDirection),
        ReferenceTypeId=st.sampled_from([ua.NodeId(), *KINDS, OBJECTS, site("A")]),
        IncludeSubtypes=st.booleans(),
        NodeClassMask=st.sampled_from([0, 1, 2, 3, 4, 8, 0x80, 0xFF]),
        ResultMask=st.integers(0, 63),
    )  # fmt: skip


def elements() -> st.SearchStrategy[list[ua.RelativePathElement]]:
    element = st.builds(
        ua.RelativePathElement,
        ReferenceTypeId=st.sampled_from([ua.NodeId(), *KINDS]),
        IsInverse=st.sampled_from([False, False, True]),
        IncludeSubtypes=st.booleans(),
        TargetName=st.builds(ua.QualifiedName, st.sampled_from(["A", "B", "named", "InputArguments", "FolderType"]),
                             st.sampled_from([0, 2, 3])),
    )  # fmt: skip
    return st.lists(element, max_size=4)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(before=plants(), plant=plants(), data=st.data())
def test_every_answer_is_that_of_stored_nodes(
    few: AddressSpace, before: Plant, plant: Plant, data: st.DataObject
) -> None:
    # Part 4 5.9, 5.11: how a server keeps its nodes must not show, nor what it was before a replacement.
    try:
        pair = Pair(copy(few), plant, before)
    except KeyError:
        return
    pair.agree_on([*pair.nodes, site("Nowhere"), site("A.B.C.A.B.C")])
    views = [n for n in pair.nodes if pair.stored.space.node_class(n) == ua.NodeClass.View]
    pair.agree_on_any(data, 20, views)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(before=plants(), plant=plants())
def test_a_replacement_says_what_it_changed(few: AddressSpace, before: Plant, plant: Plant) -> None:
    # Part 5 6.4.32: a client that keeps a copy of the address space must be able to follow.
    old, new = copy(few), copy(few)
    try:
        realise(old, *before)
        pair = Pair(new, plant, before)
    except KeyError:
        return
    verbs: Counter[ua.NodeId] = Counter()
    for one, other, of, node_verb, reference_verb in ((old, new, before, 2, 8), (new, old, plant, 1, 4)):
        above = parents(of)
        gone = {n for n in one.keys() if n not in other}  # noqa: SIM118 - not a mapping
        verbs.update(dict.fromkeys((n for n in gone if any(p in other for p in above[n])), node_verb))
        ends = {end for source, _, target in links(one) - links(other) for end in (source, target) if end in other}
        verbs.update(dict.fromkeys(ends, reference_verb))
    assert pair.change.verbs() == dict(verbs)


def parents(plant: Plant) -> dict[ua.NodeId, set[ua.NodeId]]:
    """What each node hangs under."""
    found: dict[ua.NodeId, set[ua.NodeId]] = {}
    for instance in plant[0]:
        for member in with_arguments(instance.template.members):
            path = f"{instance.prefix}.{member.path}" if member.path else instance.prefix
            above = site(path.rpartition(".")[0]) if member.path else instance.parent
            found.setdefault(site(path), set()).add(above)
    return found


def links(storage: AddressSpace) -> set[tuple[ua.NodeId, ua.NodeId, ua.NodeId]]:
    """References of instances, but to their types."""
    return {
        (node, r.ReferenceTypeId, r.NodeId)
        for node in storage.keys()  # noqa: SIM118 - not a mapping
        for r in storage[node].references
        if r.IsForward and r.ReferenceTypeId != ua.NodeId(IDS.HasTypeDefinition)
    }


@pytest.fixture(scope="module")
def demo(standard: AddressSpace) -> Pair:
    made = plant_space(load(DEMO))
    return Pair(copy(standard), (list(made.instances), list(made.references)))


def test_the_demo_plant_is_the_one_of_stored_nodes(demo: Pair) -> None:
    demo.agree_on(n for n in demo.nodes if n.NamespaceIndex == SITE_NS)
    for node in (n for n in demo.nodes if n.NamespaceIndex != SITE_NS):
        demo.agree("browse", ua.NodeId(), 1000, ua.BrowseDescription(NodeId=node, BrowseDirection=BOTH, ResultMask=9))


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_any_question_to_the_demo_plant_is_answered_as_by_stored_nodes(demo: Pair, data: st.DataObject) -> None:
    demo.agree_on_any(data, 20, [site(view) for view in ("SCADA", "Quality", "Maintenance")])
