"""The plant's nodes by template: a node is a template and an index, not an object.

Members of all instances are numbered through: an instance keeps the number of its root, a member its place in the
template, and a reference is two numbers. An id is found by its prefix, which names the instance, and the rest, which
names the member; attributes and references are made when somebody asks. Only a value that was published, and what is
watched, has a cell of its own.

A tree is replaced as a whole: questions that began before (a Browse with pages to come) are answered from the old one.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any, NamedTuple, TypeVar

from asyncua import ua

from opcua_server.services.nodes import HAS_PROPERTY, SITE_NS, Instance, Member, NodeClass, Reference, Template, site
from opcua_server.services.status import GOOD, NULL, status

HAS_TYPE_DEFINITION = ua.NodeId(ua.ObjectIds.HasTypeDefinition)
PROPERTY_TYPE = ua.NodeId(ua.ObjectIds.PropertyType)
ARGUMENT = ua.NodeId(ua.ObjectIds.Argument)
UNKNOWN = ua.DataValue(NULL, status(ua.StatusCodes.BadNodeIdUnknown))
A = ua.AttributeIds
T = ua.VariantType

KEPT = 16
"""Answers a member keeps for all its nodes: as many kinds of question as clients ask at the same time."""

NODE_ADDED, NODE_DELETED, REFERENCE_ADDED, REFERENCE_DELETED = 1, 2, 4, 8
"""Verbs of a model change (Part 5 12.16)."""


class Cell:
    """A value that was published or is watched; written to and watched like asyncua's AttributeValue."""

    __slots__ = ("_value", "_watchers", "value_callback", "value_setter")

    def __init__(self, value: Any) -> None:
        self._value = value
        self.value_callback = None
        self.value_setter = None
        self._watchers: dict[int, Any] | None = None

    @property
    def value(self) -> Any:
        """DataValue; given as one, or as what makes it when somebody asks."""
        return self._value() if callable(self._value) else self._value

    @value.setter
    def value(self, value: Any) -> None:
        self._value = value

    @property
    def datachange_callbacks(self) -> dict[int, Any]:
        """Items by their id."""
        if self._watchers is None:
            self._watchers = {}
        return self._watchers

    @property
    def watched(self) -> bool:
        return bool(self._watchers)

    def show(self, value: Any) -> None:
        self._value = value
        if self._watchers:
            shown = self.value
            for item in list(self._watchers.values()):
                item.sample(shown)


def _any(_: Any) -> bool:
    return True


class Wanted(NamedTuple):
    """Which references are asked for."""

    forward: bool | None = None
    """One direction; None: both."""
    kinds: Callable[[Any], bool] = _any
    """Of which types; subtypes are the caller's business."""
    classes: int = 0
    """Mask of the NodeClasses to lead to; 0: any."""

    def part(self, part: "Part") -> bool:
        """Whether the reference from above to a member is wanted; its direction is not asked again."""
        return self.leads_to(part.node_class) and self.kinds(part.member.reference)

    def leads_to(self, node_class: int) -> bool:
        return not self.classes or bool(node_class & self.classes)

    def of(self, reference: Any) -> tuple[Any, ...]:
        """The reference, if it leads to a class that is wanted."""
        return (reference,) if self.leads_to(reference.NodeClass) else ()


EVERYTHING = Wanted()


V = TypeVar("V")
Pieces = tuple[bytes, bytes, bytes]
"""Of an encoded reference: what is before the NodeId, names, the rest."""


def keep(known: dict[Any, V], key: Any, value: V) -> V:
    """Remember an answer; the others are forgotten when they are `KEPT`."""
    if len(known) >= KEPT:
        known.clear()
    known[key] = value
    return value


class Part:
    """One member of a compiled template, with what its nodes have in common."""

    __slots__ = (
        "attributes", "browse_name", "children", "display_name", "encoded", "forward", "member", "node_class", "number",
        "parent", "path", "suffix", "type_definition",
    )  # fmt: skip

    def __init__(self, number: int, member: Member, parent: "Part | None") -> None:
        self.number = number
        self.member = member
        self.path = member.path
        self.suffix = f".{member.path}" if member.path else ""
        self.parent = parent
        self.children: list[Part] = []
        self.node_class = ua.NodeClass(member.node_class)
        self.type_definition = member.type_definition or ua.NodeId()
        self.browse_name = member.browse_name
        self.display_name = ua.LocalizedText(member.browse_name.Name, "en")
        self.attributes = _attributes(member, self.display_name)
        """DataValues, None for those of each node's own."""
        self.encoded: dict[Any, Pieces] = {}
        """References to its nodes, by what `browsing` tells them apart by."""
        self.forward: dict[Wanted, tuple[bool, tuple[Part, ...]]] = {}

    def leads_to(self, wanted: Wanted) -> tuple[bool, tuple["Part", ...]]:
        """Whether the reference to the type is of a type that is wanted; the children to which such a one leads."""
        found = self.forward.get(wanted)
        if found is None:
            typed = self.member.type_definition is not None and wanted.kinds(HAS_TYPE_DEFINITION)
            found = keep(self.forward, wanted, (typed, tuple(c for c in self.children if wanted.part(c))))
        return found


class _Kind:
    """A compiled template."""

    __slots__ = ("of_type", "parts", "paths", "template")

    def __init__(self, template: Template) -> None:
        self.template = template
        self.parts: list[Part] = []
        self.paths: dict[str, Part] = {}
        self.of_type: dict[Any, list[Part]] = {}
        for number, member in enumerate(_with_arguments(template.members)):
            above = self.paths[member.path.rpartition(".")[0]] if member.path else None
            part = Part(number, member, above)
            self.parts.append(part)
            self.paths[part.path] = part
            if above is not None:
                above.children.append(part)
            if member.type_definition is not None:
                self.of_type.setdefault(member.type_definition, []).append(part)


class Branch:
    """An instance in its place."""

    __slots__ = ("first", "instance", "kind", "prefix")

    def __init__(self, instance: Instance, kind: _Kind, first: int) -> None:
        self.instance = instance
        self.prefix = instance.prefix
        self.kind = kind
        self.first = first
        """Number of its root's node."""

    @property
    def name(self) -> str:
        return self.instance.name or self.prefix.rpartition(".")[2]

    def id(self, part: Part) -> Any:
        return ua.NodeId(self.prefix + part.suffix, SITE_NS)

    def browse_name(self, part: Part) -> Any:
        return part.browse_name if part.suffix else ua.QualifiedName(self.name, SITE_NS)

    def display_name(self, part: Part) -> Any:
        return part.display_name if part.suffix else ua.LocalizedText(self.name, "en")

    def constant(self, part: Part) -> Any:
        """Variant; None: published later."""
        return self.instance.values.get(part.path, part.member.value)


class Described:
    """A ReferenceDescription (Part 4 7.30) that leads to a node of the tree: a field is made when somebody asks."""

    __slots__ = ("IsForward", "ReferenceTypeId", "branch", "part")

    def __init__(self, kind: Any, forward: bool, branch: Branch, part: Part) -> None:
        self.ReferenceTypeId = kind
        self.IsForward = forward
        self.branch = branch
        self.part = part

    @property
    def identifier(self) -> str:
        return self.branch.prefix + self.part.suffix

    NodeId = property(lambda self: self.branch.id(self.part))
    BrowseName = property(lambda self: self.branch.browse_name(self.part))
    DisplayName = property(lambda self: self.branch.display_name(self.part))
    NodeClass = property(lambda self: self.part.node_class)
    TypeDefinition = property(lambda self: self.part.type_definition)


Node = tuple[Branch, Part]
Key = Any
"""A node's string id if it is in the site's namespace, which hashes fast; else its NodeId."""


def _key(node_id: Any) -> Key:
    return node_id.Identifier if node_id.NamespaceIndex == SITE_NS else node_id


def _node_id(key: Key) -> Any:
    return site(key) if isinstance(key, str) else key


class _Links:
    """References between nodes that are not parent and child, as numbers, sorted by either end."""

    def __init__(self, references: list[tuple[int, int, int]]) -> None:
        """(source, index of the type, target)."""
        by_source = sorted(references, key=lambda r: r[0])
        by_target = sorted(references, key=lambda r: r[2])
        self._sources, self._forward_types, self._targets = (array("i", column) for column in _columns(by_source))
        self._back, self._back_types, self._ends = (array("i", column) for column in _columns(by_target))

    def of(self, number: int, forward: bool | None) -> Iterator[tuple[int, bool, int]]:
        """(index of the type, forward, other end) of a node, in one direction or, None, in both."""
        if forward is not False:
            for i in _run(self._sources, number):
                yield self._forward_types[i], True, self._targets[i]
        if forward is not True:
            for i in _run(self._ends, number):
                yield self._back_types[i], False, self._back[i]

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        return zip(self._sources, self._forward_types, self._targets, strict=True)


def _run(column: "array[int]", number: int) -> range:
    """Where a number stands in a sorted column."""
    begin = end = bisect_left(column, number)
    while end < len(column) and column[end] == number:
        end += 1
    return range(begin, end)


def _columns(rows: list[tuple[int, int, int]]) -> tuple[list[int], list[int], list[int]]:
    return [r[0] for r in rows], [r[1] for r in rows], [r[2] for r in rows]


class _State:
    """One version of the tree; never changed once it is made."""

    def __init__(self, storage: Any, instances: Iterable[Instance], references: Iterable[Reference]) -> None:
        """Raises KeyError as `Tree.replace` says."""
        self._storage = storage
        self.made = datetime.now(UTC)
        self.unset = ua.DataValue(NULL, status(ua.StatusCodes.BadWaitingForInitialData), self.made, self.made)
        self.branches: dict[str, Branch] = {}
        self.hung: dict[Key, list[Branch]] = {}
        """Instances by the node they hang under."""
        self._kinds: dict[int, _Kind] = {}
        self._of_kind: dict[_Kind, list[Branch]] = {}
        self._firsts = array("i")
        self._order: list[Branch] = []
        for instance in instances:
            self._add(instance)
        self._check()
        self._stored: list[Any] = []
        """Nodes outside the tree that references lead to or from: numbered -1, -2, ..."""
        self.types: list[Any] = []
        """Types of those references."""
        self.links = _Links(self._numbered(references))

    def _add(self, instance: Instance) -> None:
        if instance.prefix in self.branches:
            raise KeyError(f"{site(instance.prefix).to_string()} is there already")
        kind = self._kinds.get(id(instance.template))
        if kind is None:
            kind = self._kinds[id(instance.template)] = _Kind(instance.template)
        for given in (instance.values, instance.descriptions, instance.lengths):
            if not given.keys() <= kind.paths.keys():
                unknown = ", ".join(sorted(given.keys() - kind.paths.keys()))
                raise KeyError(f"{instance.prefix}: {instance.template.name} has no {unknown}")
        first = self._firsts[-1] + len(self._order[-1].kind.parts) if self._order else 0
        branch = Branch(instance, kind, first)
        self._firsts.append(first)
        self._order.append(branch)
        self.branches[instance.prefix] = branch
        self._of_kind.setdefault(kind, []).append(branch)
        self.hung.setdefault(_key(instance.parent), []).append(branch)

    def _check(self) -> None:
        """Every id once, and everything that is named is there. Raises KeyError."""
        for branch in self._order:
            # Parents stand before children in a template: a member below this root would have the root's id above it.
            above, _, _ = branch.prefix.rpartition(".")
            while above:
                other = self.branches.get(above)
                if other is not None and branch.prefix[len(above) + 1 :] in other.kind.paths:
                    raise KeyError(f"{site(branch.prefix).to_string()} is there already")
                above, _, _ = above.rpartition(".")
        for node_id in self._storage.keys():  # noqa: SIM118 - not a mapping
            if node_id.NamespaceIndex == SITE_NS and self.find(node_id) is not None:
                raise KeyError(f"{node_id.to_string()} is there already")
        named = {*self.hung, *(t for kind in self._of_kind for t in kind.of_type)}
        for key in named:
            self._must_be_there(key)

    def _must_be_there(self, key: Key) -> None:
        if not self.knows(key):
            raise KeyError(f"{_node_id(key).to_string()} is not there")

    def _numbered(self, references: Iterable[Reference]) -> list[tuple[int, int, int]]:
        types: dict[Any, int] = {}
        stored: dict[Any, int] = {}

        def number(node_id: Any) -> int:
            found = self.find(node_id)
            if found is not None:
                return found[0].first + found[1].number
            if node_id not in stored:
                self._must_be_there(_key(node_id))
                stored[node_id] = -1 - len(stored)
            return stored[node_id]

        rows = [(number(r.source), types.setdefault(r.type, len(types)), number(r.target)) for r in references]
        self.types = list(types)
        self._stored = list(stored)
        self._stored_numbers = stored
        return rows

    # -- nodes

    def find(self, node_id: Any) -> Node | None:
        identifier = node_id.Identifier
        if node_id.NamespaceIndex != SITE_NS or not isinstance(identifier, str):
            return None
        return self.named(identifier)

    def named(self, identifier: str) -> Node | None:
        """Node by string id: the longest prefix of an instance whose template has the rest."""
        branch = self.branches.get(identifier)
        if branch is not None:
            return branch, branch.kind.parts[0]
        at = identifier.rfind(".")
        while at > 0:
            branch = self.branches.get(identifier[:at])
            if branch is not None:
                part = branch.kind.paths.get(identifier[at + 1 :])
                if part is not None:
                    return branch, part
            at = identifier.rfind(".", 0, at)
        return None

    def numbered(self, number: int) -> Node:
        branch = self._order[bisect_right(self._firsts, number) - 1]
        return branch, branch.kind.parts[number - branch.first]

    def id(self, number: int) -> Any:
        return _node_id(self.key(number))

    def key(self, number: int) -> Key:
        if number < 0:
            return _key(self._stored[-1 - number])
        branch, part = self.numbered(number)
        return branch.prefix + part.suffix

    def knows(self, key: Key) -> bool:
        """Whether there is such a node, in the tree or in the storage."""
        return (isinstance(key, str) and self.named(key) is not None) or _node_id(key) in self._storage

    def type_definition(self, node_id: Any) -> Any:
        found = self.find(node_id)
        return found[1].type_definition if found is not None else type_of(self._storage[node_id])

    # -- attributes

    def read(self, node: Node, attribute: int) -> Any:
        """DataValue of an attribute as instance and template say it; None when the node has no such attribute."""
        branch, part = node
        own = _OWN.get(attribute)
        found = own(self, branch, part) if own is not None else None
        return found if found is not None else part.attributes.get(attribute)

    def initial(self, branch: Branch, part: Part) -> Any:
        """What the value is before anything is published."""
        constant = branch.constant(part)
        return self.unset if constant is None else ua.DataValue(constant, GOOD, self.made, self.made)

    # -- references

    def references(self, node: Node, wanted: Wanted) -> Iterator[Any]:
        """References of a node of the tree, made one by one."""
        branch, part = node
        kind = part.member.reference
        if wanted.forward is not True and wanted.kinds(kind):
            if part.parent is None:
                yield from wanted.of(self.describe(branch.instance.parent, kind, False))
            elif wanted.leads_to(part.parent.node_class):
                yield Described(kind, False, branch, part.parent)
        if wanted.forward is not False:
            typed, children = part.leads_to(wanted)
            if typed:
                yield from wanted.of(self.describe(part.member.type_definition, HAS_TYPE_DEFINITION, True))
            for child in children:
                yield Described(child.member.reference, True, branch, child)
        yield from self._further(branch.prefix + part.suffix, branch.first + part.number, wanted)

    def references_of_stored(self, node_id: Any, wanted: Wanted) -> Iterator[Any]:
        """References between a node of the storage and the tree, made one by one."""
        yield from self._further(_key(node_id), self._stored_numbers.get(node_id), wanted)
        if wanted.forward is not True and wanted.kinds(HAS_TYPE_DEFINITION):
            yield from self._instances(node_id, wanted)

    def _further(self, key: Key, number: int | None, wanted: Wanted) -> Iterator[Any]:
        """To the instances under a node, and what no template says."""
        if wanted.forward is not False:
            for branch in self.hung.get(key, ()):
                root = branch.kind.parts[0]
                if wanted.part(root):
                    yield Described(root.member.reference, True, branch, root)
        for type_, forward, other in self.links.of(number, wanted.forward) if number is not None else ():
            kind = self.types[type_]
            if wanted.kinds(kind):
                yield from wanted.of(self.describe(self.id(other), kind, forward))

    def _instances(self, type_id: Any, wanted: Wanted) -> Iterator[Any]:
        for kind, branches in self._of_kind.items():
            parts = [p for p in kind.of_type.get(type_id, ()) if wanted.leads_to(p.node_class)]
            for branch in branches if parts else ():
                for part in parts:
                    yield Described(HAS_TYPE_DEFINITION, False, branch, part)

    def describe(self, node_id: Any, kind: Any, forward: bool) -> Any:
        """A reference to a node that is there."""
        node = self.find(node_id)
        if node is not None:
            return Described(kind, forward, *node)
        return describe_stored(self._storage[node_id], kind, forward)


def describe_stored(node: Any, kind: Any, forward: bool) -> Any:
    """A reference to a node of the storage."""
    browse_name, display_name, node_class = (
        node.attributes[a].value.Value.Value for a in (A.BrowseName, A.DisplayName, A.NodeClass)
    )
    return ua.ReferenceDescription(
        kind, forward, node.nodeid, browse_name, display_name, ua.NodeClass(node_class), type_of(node)
    )


def type_of(node: Any) -> Any:
    """Type definition of a node of the storage; null when it has none."""
    found = (r.NodeId for r in node.references if r.IsForward and r.ReferenceTypeId == HAS_TYPE_DEFINITION)
    return next(found, ua.NodeId())


class Tree:
    """The nodes of templates and instances, and the values they show."""

    def __init__(self, storage: Any) -> None:
        """`storage`: asyncua's AddressSpace with everything that is not of a template."""
        self._storage = storage
        self._state = _State(storage, (), ())
        self._cells: dict[tuple[str, int], Cell] = {}
        """By id and attribute."""
        self._shown: dict[str, Callable[[], Mapping[str, Any]]] = {}
        """By instance: makes the DataValues it shows together, by path."""

    def replace(self, instances: Iterable[Instance], references: Iterable[Reference]) -> "Change":
        """Make the tree consist of these, all at once; what it had and has still keeps its values and watchers.

        A value not published yet is null with BadWaitingForInitialData (fault F14). Raises KeyError, and changes
        nothing, for a parent, type or end of a reference that is not there, for an id that is there twice, and for a
        value of a path the template does not have.
        """
        old, new = self._state, _State(self._storage, instances, references)
        self._state = new
        self._shown = {prefix: make for prefix, make in self._shown.items() if prefix in new.branches}
        for (identifier, attribute), cell in list(self._cells.items()):
            self._carry_over(cell, identifier, attribute, old, new)
        return Change(old, new)

    def _carry_over(self, cell: Cell, identifier: str, attribute: int, old: _State, new: _State) -> None:
        before, after = old.named(identifier), new.named(identifier)
        if after is None:
            if not cell.watched:
                del self._cells[identifier, attribute]
            elif before is not None:  # Part 4 5.8.4.1: its watchers are told
                cell.show(UNKNOWN)
            return
        was = old.read(before, attribute) if before is not None else None
        shown = new.read(after, attribute)
        if shown is None:
            shown = ua.DataValue(NULL, status(ua.StatusCodes.BadAttributeIdInvalid))
        if was is None or not _same(was, shown):
            cell.show(shown)

    # -- questions

    @property
    def made(self) -> datetime:
        """When it last became what it is."""
        return self._state.made

    def find(self, node_id: Any) -> Node | None:
        return self._state.find(node_id)

    def __contains__(self, node_id: Any) -> bool:
        return self._state.find(node_id) is not None

    def __len__(self) -> int:
        """Number of nodes."""
        return sum(len(branch.kind.parts) for branch in self._state.branches.values())

    def has(self, node_id: Any, attribute: int) -> bool:
        node = self._state.find(node_id)
        return node is not None and self._state.read(node, attribute) is not None

    def read(self, node_id: Any, attribute: int) -> Any:
        """DataValue of an attribute as it is shown; None without such a node or attribute."""
        cell = self._cells.get((node_id.Identifier, attribute)) if node_id.NamespaceIndex == SITE_NS else None
        node = self._state.find(node_id)
        if node is None:
            return None
        return cell.value if cell is not None else self._without_cell(node, attribute)

    def _without_cell(self, node: Node, attribute: int) -> Any:
        """DataValue of an attribute that was not published by itself and is not watched."""
        branch, part = node
        made = self._shown.get(branch.prefix) if attribute == A.Value else None
        shown = made().get(part.path) if made is not None else None
        return self._state.read(node, attribute) if shown is None else shown

    def references(self, node: Node, wanted: Wanted) -> Iterator[Any]:
        """References of a node that was found, made one by one: Described, or ReferenceDescriptions of stored nodes.

        An iteration under way is not disturbed by a replacement.
        """
        return self._state.references(node, wanted)

    def references_of_stored(self, node_id: Any, wanted: Wanted) -> Iterator[Any]:
        """As `references`, between a node of the storage and the tree."""
        return self._state.references_of_stored(node_id, wanted)

    def cell(self, node_id: Any, attribute: int = A.Value) -> Cell | None:
        """Where an attribute's value is written and watched; None without such a node or attribute."""
        key = (node_id.Identifier, attribute)
        cell = self._cells.get(key) if node_id.NamespaceIndex == SITE_NS else None
        if cell is None:
            shown = self.read(node_id, attribute)
            if shown is None:
                return None
            cell = self._cells[key] = Cell(shown)
        return cell

    def show(self, prefix: str, make: Callable[[], Mapping[str, Any]]) -> None:
        """Show DataValues of an instance's variables, by path, that `make` makes as soon as somebody looks at one.

        Raises KeyError without such an instance.
        """
        parts = self._state.branches[prefix].kind.parts
        made = self._shown[prefix] = cache(make)
        for part in parts:
            cell = self._cells.get((prefix + part.suffix, A.Value))
            if cell is not None and (value := made().get(part.path)) is not None:
                cell.show(value)

    def wait(self, node_id: Any, item: Any) -> None:
        """Tell an item that its node is gone, and have it wait for the value of one that comes back."""
        cell = self._cells.setdefault((node_id.Identifier, A.Value), Cell(UNKNOWN))
        cell.datachange_callbacks[item.id] = item
        item.sample(cell.value)

    def waiting(self, node_id: Any) -> Iterable[Any]:
        """The items on a value, which from now on is watched elsewhere."""
        cell = self._cells.pop((node_id.Identifier, A.Value), None)
        return () if cell is None else cell.datachange_callbacks.values()

    def unwatch(self, node_id: Any, attribute: int, item: int) -> None:
        """Take an item off a cell; a cell that shows nothing of its own goes with its last watcher."""
        key = (node_id.Identifier, attribute)
        cell = self._cells.get(key)
        if cell is None:
            return
        cell.datachange_callbacks.pop(item, None)
        node = self._state.find(node_id)
        if not cell.watched and (node is None or _same(cell.value, self._without_cell(node, attribute))):
            del self._cells[key]


def _same(one: Any, other: Any) -> bool:
    return other is not None and (one.Value, one.StatusCode.value) == (other.Value, other.StatusCode.value)


# -- attributes


def _with_arguments(members: Iterable[Member]) -> Iterator[Member]:
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


def _attributes(member: Member, display_name: Any) -> dict[int, Any]:
    """DataValues that are the same for all nodes of a member."""
    return {
        A.BrowseName: _data(member.browse_name, T.QualifiedName),
        A.DisplayName: _data(display_name, T.LocalizedText),
        A.NodeClass: _data(ua.NodeClass(member.node_class), T.Int32),
        A.Description: _text(member.description),
        A.WriteMask: _data(0, T.UInt32),
        A.UserWriteMask: _data(0, T.UInt32),
        **_BY_CLASS[member.node_class](member),
    }


def _object(member: Member) -> dict[int, Any]:
    return {A.EventNotifier: _data(member.event_notifier, T.Byte)}


def _view(member: Member) -> dict[int, Any]:
    return {A.EventNotifier: _data(member.event_notifier, T.Byte), A.ContainsNoLoops: _data(True, T.Boolean)}


def _method(member: Member) -> dict[int, Any]:
    return {A.Executable: _data(member.executable, T.Boolean), A.UserExecutable: _data(member.executable, T.Boolean)}


def _variable(member: Member) -> dict[int, Any]:
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


_BY_CLASS: Mapping[NodeClass, Callable[[Member], dict[int, Any]]] = {
    NodeClass.OBJECT: _object,
    NodeClass.VARIABLE: _variable,
    NodeClass.METHOD: _method,
    NodeClass.VIEW: _view,
}


def _data(value: object, type_: Any) -> Any:
    return ua.DataValue(ua.Variant(value, type_), GOOD)


def _text(text: str) -> Any:
    return _data(ua.LocalizedText(text, "en") if text else ua.LocalizedText(), T.LocalizedText)


def _own_browse_name(_: _State, branch: Branch, part: Part) -> Any:
    return None if part.path else _data(branch.browse_name(part), T.QualifiedName)


def _own_display_name(_: _State, branch: Branch, part: Part) -> Any:
    return None if part.path else _data(branch.display_name(part), T.LocalizedText)


def _own_description(_: _State, branch: Branch, part: Part) -> Any:
    text = branch.instance.descriptions.get(part.path)
    return None if text is None else _text(text)


def _own_dimensions(_: _State, branch: Branch, part: Part) -> Any:
    length = branch.instance.lengths.get(part.path)
    return None if length is None else _data([length], T.UInt32)


def _own_value(state: _State, branch: Branch, part: Part) -> Any:
    return state.initial(branch, part) if part.member.node_class is NodeClass.VARIABLE else None


_OWN: Mapping[int, Callable[[_State, Branch, Part], Any]] = {
    A.NodeId: lambda _, branch, part: _data(branch.id(part), T.NodeId),
    A.BrowseName: _own_browse_name,
    A.DisplayName: _own_display_name,
    A.Description: _own_description,
    A.ArrayDimensions: _own_dimensions,
    A.Value: _own_value,
}
"""Attributes in which nodes of one member may differ; None where the template's is right."""


# -- what a replacement changed


MEANING = frozenset({"EURange", "InstrumentRange", "EngineeringUnits", "EnumStrings", "EnumValues"})
"""Properties that say what a value means (Part 8 5.2)."""


class Change:
    """What a replacement did to the tree; found out when it is asked."""

    def __init__(self, old: _State, new: _State) -> None:
        self._old = old
        self._new = new

    def verbs(self) -> dict[Any, int]:
        """By NodeId: nodes that came, went, or stayed with other references.

        What came or went with the node above it is left out.
        """
        old, new = self._old, self._new
        prefixes = old.branches.keys() | new.branches.keys()
        changed = [p for p in prefixes if not _alike(old.branches.get(p), new.branches.get(p))]
        before, after = _above(old, changed), _above(new, changed)
        verbs: dict[Key, int] = {}
        for nodes, other, verb in ((before, new, NODE_DELETED), (after, old, NODE_ADDED)):
            for node, (parent, _) in nodes.items():
                if not other.knows(node) and other.knows(parent):
                    verbs[node] = verbs.get(node, 0) | verb
        had, has = _rows(old, before), _rows(new, after)
        for rows, other, verb in ((had - has, new, REFERENCE_DELETED), (has - had, old, REFERENCE_ADDED)):
            for end in (end for source, _, target in rows for end in (source, target)):
                if other.knows(end):
                    verbs[end] = verbs.get(end, 0) | verb
        return {_node_id(key): verb for key, verb in verbs.items()}

    def semantics(self) -> list[Any]:
        """NodeIds of variables that stayed and mean something else now (Part 8 5.2): another range or unit."""
        old, new = self._old.branches, self._new.branches
        found = {
            f"{prefix}.{path.rpartition('.')[0]}"
            for prefix in old.keys() & new.keys()
            for before, after in [(old[prefix].instance.values, new[prefix].instance.values)]
            for path in before.keys() | after.keys()
            if path.rpartition(".")[2] in MEANING and before.get(path) != after.get(path)
        }
        return [site(identifier) for identifier in sorted(found)]

    def type_definition(self, node_id: Any) -> Any:
        """Of a node there is or was; null when it has none."""
        state = self._new if self._new.knows(_key(node_id)) else self._old
        return state.type_definition(node_id)


def _alike(one: Branch | None, other: Branch | None) -> bool:
    if one is None or other is None:
        return False
    same_kind = one.kind.template is other.kind.template or one.kind.template == other.kind.template
    return same_kind and one.instance.parent == other.instance.parent


def _above(state: _State, prefixes: Iterable[str]) -> dict[Key, tuple[Key, Any]]:
    """What is above each node of some instances, and the type of the reference."""
    found: dict[Key, tuple[Key, Any]] = {}
    for branch in (state.branches[p] for p in prefixes if p in state.branches):
        for part in branch.kind.parts:
            parent = _key(branch.instance.parent) if part.parent is None else branch.prefix + part.parent.suffix
            found[branch.prefix + part.suffix] = parent, part.member.reference
    return found


def _rows(state: _State, above: Mapping[Key, tuple[Key, Any]]) -> set[tuple[Key, Any, Key]]:
    """References as (source, type, target)."""
    linked = {(state.key(source), state.types[type_], state.key(target)) for source, type_, target in state.links}
    return linked | {(parent, kind, node) for node, (parent, kind) in above.items()}
