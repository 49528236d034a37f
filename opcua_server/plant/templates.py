"""Types -> templates: walks a type, its supertypes and the type definitions of its members (Part 3 6.2.6, 6.4.4)."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache

from asyncua import ua

from nodesets.declarations import Argument, Declaration, Type
from nodesets.model import AggregateRules
from nodesets.standard import DATA_TYPES, REFERENCE_TYPES, STANDARD
from nodesets.types import ENUMS, TYPES, described
from nodesets.units import NAMESPACE, UNITS
from opcua_server.services.event_fields import BASE_FIELDS
from opcua_server.services.history import OF_TEXTS
from opcua_server.services.nodes import (
    HAS_COMPONENT,
    TYPES_NS,
    Access,
    Member,
    NodeClass,
    Notifies,
    Reference,
    Template,
    site,
)

EVENT_FILTER = "HistoricalEventFilter"
CONDITION_FIELDS = (
    "ConditionName", "BranchId", "EnabledState/Id", "ActiveState/Id", "AckedState/Id", "ConfirmedState/Id",
    "SuppressedState/Id", "ShelvingState/CurrentState", "Comment", "ClientUserId", "InputNode", "Quality",
)  # fmt: skip
"""Of alarms."""
_CLASSES = {"Object": NodeClass.OBJECT, "Variable": NodeClass.VARIABLE, "Method": NodeClass.METHOD}


def type_id(name: str) -> ua.NodeId:
    """NodeId of a type of ours or of the standard."""
    return ua.NodeId(TYPES[name].number, TYPES_NS) if name in TYPES else ua.NodeId(STANDARD[name].number)


def reference_id(name: str) -> ua.NodeId:
    return ua.NodeId(REFERENCE_TYPES[name])


def structure(value: object) -> ua.Variant:
    return ua.Variant(value, ua.VariantType.ExtensionObject)


@cache
def value_range(low: float, high: float) -> ua.Variant:
    return structure(ua.Range(Low=float(low), High=float(high)))


@cache
def engineering_units(code: str) -> ua.Variant:
    """EUInformation (Part 8 5.6.4.3) of a key of `units.UNITS`."""
    unit = UNITS[code]
    return structure(
        ua.EUInformation(
            NamespaceUri=NAMESPACE,
            UnitId=unit.unit_id,
            DisplayName=ua.LocalizedText(unit.symbol, "en"),
            Description=ua.LocalizedText(unit.name, "en"),
        )
    )


@cache
def template(
    name: str,
    optional: frozenset[str] = frozenset(),
    historized: frozenset[str] = frozenset(),
    interface: str = "",
    reference: str = "HasComponent",
    *,
    stepped: bool = False,
) -> Template:
    """Compile a type. `optional` and `historized` are paths: members to have beside the mandatory ones, to be recorded.

    `interface` adds the members of an interface (Part 3 4.10.2); `reference` hangs instances into the tree; `stepped`:
    what is recorded holds until its next value.
    """
    root = Member(
        path="",
        node_class=NodeClass.OBJECT,
        browse_name=ua.QualifiedName(name, TYPES_NS),
        reference=reference_id(reference),
        type_definition=type_id(name),
        event_notifier=_notifies(_type(name).notifier),
    )
    history = _event_history("") if root.event_notifier else ()
    declared = {**_declared(name), **(_declared(interface) if interface else {})}
    members = _members("", None, declared, optional, historized)
    return Template(name=name, members=(root, *history, *_with_history(members, stepped=stepped)))


def _type(name: str) -> Type:
    return TYPES.get(name) or STANDARD[name]


def _declared(name: str) -> dict[str, tuple[Declaration, int]]:
    """Members of a type by name with the namespace that defines them; a subtype's override its supertype's."""
    type_ = _type(name)
    own = TYPES_NS if name in TYPES else 0
    return (_declared(type_.base) if type_.base else {}) | {d.name: (d, own) for d in type_.members}


def _members(
    parent: str,
    owner: Declaration | None,
    declared: Mapping[str, tuple[Declaration, int]],
    optional: frozenset[str],
    historized: frozenset[str],
) -> Iterator[Member]:
    for d, namespace in declared.values():
        path = f"{parent}.{d.name}" if parent else d.name
        if d.rule == "OptionalPlaceholder" or (d.rule == "Optional" and path not in optional):
            continue
        yield _member(path, owner, d, namespace, historized)
        if d.notifier:
            yield from _event_history(path)
        below = _declared(d.type) if d.type else {}
        # What a member adds under a standard name (InstrumentRange) is that standard member, made mandatory here.
        below |= {m.name: (m, below[m.name][1] if m.name in below else TYPES_NS) for m in d.members}
        yield from _members(path, d, below, optional, historized)


def _member(path: str, owner: Declaration | None, d: Declaration, namespace: int, historized: frozenset[str]) -> Member:
    recorded = path in historized
    return Member(
        path=path,
        node_class=_CLASSES[d.node_class],
        browse_name=ua.QualifiedName(d.name, namespace),
        reference=reference_id(d.reference),
        type_definition=type_id(d.type) if d.type else None,
        description=described(d),
        data_type=ua.NodeId(DATA_TYPES[d.data_type]) if d.data_type else None,
        value_rank=1 if d.array else -1,
        access=Access.READ | Access.HISTORY_READ if recorded else Access.READ,
        historizing=recorded,
        value=_constant(owner, d),
        event_notifier=_notifies(_tells(d)),
        inputs=tuple(map(_argument, d.method.inputs)) if d.method else (),
        outputs=tuple(map(_argument, d.method.outputs)) if d.method else (),
    )


def _tells(d: Declaration) -> bool:
    """Whether a member is a notifier, by itself or by its type."""
    return d.notifier or (d.type in TYPES and TYPES[d.type].notifier)


def _notifies(notifier: bool) -> int:
    """EventNotifier: what tells of events has their history."""
    return int(Notifies.SUBSCRIBE | Notifies.HISTORY_READ) if notifier else 0


def _event_history(path: str) -> tuple[Member]:
    """HistoricalEventFilter of a notifier (Part 11 5.3.2).

    Agents and Signatures go without: a SCADA system uses them whole, and can read no structure.
    """
    return (
        Member(
            path=f"{path}.{EVENT_FILTER}" if path else EVENT_FILTER,
            node_class=NodeClass.VARIABLE,
            browse_name=ua.QualifiedName(EVENT_FILTER, 0),
            reference=reference_id("HasProperty"),
            type_definition=ua.NodeId(ua.ObjectIds.PropertyType),
            description="Fields of the events that are kept; of each event all it has are",
            data_type=ua.NodeId(ua.ObjectIds.EventFilter),
            value=recorded_fields(),
        ),
    )


@cache
def recorded_fields() -> ua.Variant:
    """An EventFilter of what every event has, and what those of our types and of alarms have beside it."""
    own = [(name, member.name) for name, t in TYPES.items() if t.name.endswith("EventType") for member in t.members]
    chosen = [*(("", name) for name in BASE_FIELDS), *own, *(("ConditionType", path) for path in CONDITION_FIELDS)]
    clauses = [
        ua.SimpleAttributeOperand(
            TypeDefinitionId=type_id(name) if name in TYPES else ua.NodeId(ua.ObjectIds.BaseEventType),
            BrowsePath=[ua.QualifiedName(part, TYPES_NS if name in TYPES else 0) for part in path.split("/")],
            AttributeId=ua.AttributeIds.Value,
        )
        for name, path in chosen
    ]
    return structure(ua.EventFilter(SelectClauses=clauses))


HISTORY, FUNCTIONS = "HA", "F"
"""Last elements of the ids of an HA Configuration, whose own name has a space, and of its AggregateFunctions."""
STRING = ua.NodeId(ua.ObjectIds.String)


def _with_history(members: Iterator[Member], *, stepped: bool) -> Iterator[Member]:
    for member in members:
        yield member
        if member.historizing:
            yield from historical(member.path, stepped=stepped, text=member.data_type == STRING)


def historical(path: str, *, stepped: bool, text: bool) -> Iterator[Member]:
    """HA Configuration and Annotations of a recorded variable (Part 11 5.2.3, 5.1.2).

    A text has a list of its own of the aggregates there are of it (Part 13 4.2.2.1): `aggregates_of_texts`.
    """
    above = f"{path}.{HISTORY}"
    boolean, byte = ua.VariantType.Boolean, ua.VariantType.Byte
    yield _described(above, "HA Configuration", "HasHistoricalConfiguration", "HistoricalDataConfigurationType")
    yield _told(above, "Stepped", ua.Variant(stepped, boolean))
    yield _told(above, "Definition", ua.Variant(DEFINITIONS[stepped], ua.VariantType.String))
    yield replace(_told(above, "StartOfArchive", ua.Variant(None, ua.VariantType.DateTime)), value=None)
    if not stepped:
        interval = ua.Variant(0.0, ua.VariantType.Double)
        yield replace(_told(above, "MaxTimeInterval", interval), data_type=ua.NodeId(ua.ObjectIds.Duration))
    if text:
        yield _described(f"{above}.{FUNCTIONS}", "AggregateFunctions", "HasComponent", "FolderType")
    below = f"{above}.A"  # ids stay within what address fields hold, whatever the names are
    yield _described(below, "AggregateConfiguration", "HasComponent", "AggregateConfigurationType")
    rules = AggregateRules(stepped)
    yield _told(below, "TreatUncertainAsBad", ua.Variant(rules.uncertain_is_bad, boolean), "UncertainBad")
    yield _told(below, "PercentDataBad", ua.Variant(rules.percent_bad, byte), "PercentBad")
    yield _told(below, "PercentDataGood", ua.Variant(rules.percent_good, byte), "PercentGood")
    yield _told(below, "UseSlopedExtrapolation", ua.Variant(rules.sloped_extrapolation, boolean), "Sloped")
    yield Member(
        path=f"{path}.Annotations",
        node_class=NodeClass.VARIABLE,
        browse_name=ua.QualifiedName("Annotations", 0),
        reference=reference_id("HasProperty"),
        type_definition=ua.NodeId(ua.ObjectIds.PropertyType),
        data_type=ua.NodeId(ua.ObjectIds.Annotation),
        access=Access.HISTORY_READ | Access.HISTORY_WRITE,
    )


def aggregates_of_texts(nodes: Iterable[str]) -> Iterator[Reference]:
    """From the AggregateFunctions of each of these recorded texts to those that look at no value."""
    for node in sorted(nodes):
        for name in sorted(OF_TEXTS):
            target = ua.NodeId(getattr(ua.ObjectIds, f"AggregateFunction_{name}"))
            yield Reference(source=site(f"{node}.{HISTORY}.{FUNCTIONS}"), type=HAS_COMPONENT, target=target)


DEFINITIONS = {False: "Every measurement, as validated", True: "Every value, valid until the next one"}


def _described(path: str, name: str, reference: str, type_: str) -> Member:
    return Member(
        path=path,
        node_class=NodeClass.OBJECT,
        browse_name=ua.QualifiedName(name, 0),
        reference=ua.NodeId(getattr(ua.ObjectIds, reference)),
        type_definition=ua.NodeId(getattr(ua.ObjectIds, type_)),
    )


def _told(above: str, name: str, value: ua.Variant, short: str = "") -> Member:
    """A property of the standard; `short` stands in its id."""
    return Member(
        path=f"{above}.{short or name}",
        node_class=NodeClass.VARIABLE,
        browse_name=ua.QualifiedName(name, 0),
        reference=reference_id("HasProperty"),
        type_definition=ua.NodeId(ua.ObjectIds.PropertyType),
        data_type=ua.NodeId(value.VariantType.value),
        value=value,
    )


def _constant(owner: Declaration | None, d: Declaration) -> ua.Variant | None:
    """What the type already says about the value; None: the instance or the plant says it."""
    if d.value is not None:
        return ua.Variant(d.value, ua.VariantType.String)
    if owner is not None and owner.unit and d.name == "EURange":
        return value_range(owner.low, owner.high)
    if owner is not None and owner.unit and d.name == "EngineeringUnits":
        return engineering_units(owner.unit)
    if owner is not None and owner.enum and d.name == "EnumValues":
        return structure([_enum_value(m.value, m.name) for m in ENUMS[owner.enum][1]])
    return None


def _enum_value(value: int, name: str) -> ua.EnumValueType:
    return ua.EnumValueType(Value=value, DisplayName=ua.LocalizedText(name, "en"), Description=ua.LocalizedText(""))


def _argument(argument: Argument) -> ua.Argument:
    return ua.Argument(
        Name=argument.name,
        DataType=ua.NodeId(DATA_TYPES[argument.data_type]),
        ValueRank=1 if argument.array else -1,
        ArrayDimensions=[0] if argument.array else [],
        Description=ua.LocalizedText(argument.description, "en"),
    )
