"""The plant as OPC UA shows it: configuration -> instances, references, tag list (information model 1.4, 1.5).

Pure: ids, names and order follow from the plant alone. What has no source is absent; what is published later is
BadWaitingForInitialData until then.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from typing import Any, TypedDict

from asyncua import ua

from analytics.features import is_ratio
from config.load import digest
from config.schema import Channel, Device, Line, Plant, Stream
from nodesets.errors import ConfigurationError, Mistake
from nodesets.model import Tag
from nodesets.types import PUBLISHED, VERSION
from opcua_server.plant.alarms import ALARMS, condition_nodes
from opcua_server.plant.templates import engineering_units, reference_id, template, type_id, value_range
from opcua_server.services.nodes import (
    HAS_CONDITION,
    HAS_EVENT_SOURCE,
    HAS_NOTIFIER,
    ORGANIZES,
    SITE_NS,
    SITE_URI,
    Access,
    Instance,
    Member,
    NodeClass,
    Reference,
    Template,
    site,
)

OBJECTS = ua.NodeId(ua.ObjectIds.ObjectsFolder)
SERVER = ua.NodeId(ua.ObjectIds.Server)
NAMESPACES = ua.NodeId(ua.ObjectIds.Server_Namespaces)
VIEWS = ua.NodeId(ua.ObjectIds.ViewsFolder)
LONGEST_ID = 120
"""Characters a SCADA system's address field is sure to hold (information model 1.2)."""
RESERVED = frozenset({"ENose", "NamespaceMetadata", "SCADA", "Quality", "Maintenance"})
"""First elements of ids that no device or line may have."""
RESULT_SLOTS, EXCEPTION_SLOTS, BATCH_SLOTS, RECOMMENDATION_SLOTS = 20, 10, 10, 10

_ALARM = frozenset({"EnabledState.TransitionTime", "AckedState.TransitionTime", "ActiveState.TransitionTime"})
CONDITION_TYPES: Mapping[str, tuple[str, frozenset[str]]] = {
    "CommunicationLost": ("SystemOffNormalAlarmType", _ALARM),
    "SensorFailure": ("OffNormalAlarmType", _ALARM),
    "QualityScoreLow": ("ExclusiveLevelAlarmType", _ALARM | {"LowLimit", "LowLowLimit"}),
    "AnomalyDetected": (
        "EnoseAnomalyAlarmType",
        _ALARM
        | {"HighLimit", "HighHighLimit", "HighState", "HighHighState"}
        | {"HighState.TransitionTime", "HighHighState.TransitionTime"},
    ),
}
"""Alarm kind -> type, optional members it has."""
ALARM_TAGS = ("Active", "Acked", "Severity", "Text")
"""Members of a condition that a SCADA system binds to as tags."""
_NO_TAGS = frozenset({"FolderType", "View", "NamespaceMetadataType"})
"""Templates that hold no tags: folders of the SCADA view, views, what describes a namespace."""
_SCALARS = {
    1: "Boolean", 5: "UInt16", 6: "Int32", 7: "UInt32", 10: "Float", 11: "Double", 12: "String", 13: "DateTime",
}  # fmt: skip
"""Data types every SCADA system can read (information model 1.4)."""


@dataclass(frozen=True, slots=True)
class Space:
    instances: tuple[Instance, ...]
    """Parents before children."""
    references: tuple[Reference, ...]


class TagRow(TypedDict):
    """One line of the tag list."""

    node_id: str
    """`ns=3;s=EN01.Array.S01.SensorValue`."""
    path: str
    """Browse path from Objects."""
    data_type: str
    unit: str
    low: float | None
    high: float | None
    description: str
    historized: bool
    access: str
    """`R`: read only."""


def space(plant: Plant) -> Space:
    """The whole tree. Raises ConfigurationError for ids that are taken or too long and alarms that do not exist."""
    _check_names(plant)
    instances = [
        _metadata(),
        _system(plant),
        *_slots("AgentRecommendationType", "ENose.Agents", "R", RECOMMENDATION_SLOTS),
    ]
    history = recorded(plant)
    for device in plant.devices:
        instances += _device(plant, device, history)
    for line in plant.lines:
        instances += _line(line)
    instances += _conditions(plant)
    view_instances, view_references = _views(plant, instances)
    references = (*_notifiers(plant), *_conditions_of(plant), *view_references)
    everything = (*instances, *view_instances)
    if longest := max((node for node, _, _ in nodes(everything) if len(node) > LONGEST_ID), key=len, default=None):
        message = f"{longest} is longer than {LONGEST_ID} characters: shorten the ids of device, stream or channel"
        raise ConfigurationError([Mistake("devices", message)])
    return Space(everything, references)


def result_tags(stream: str) -> tuple[Tag, ...]:
    """Recorded columns of a stream's results, the group `EN01.Stream01.Quality`."""
    quality = f"{stream}.Quality"
    return (
        Tag(node=f"{quality}.Score", unit="C62", low=0, high=100, description="Quality score"),
        Tag(node=f"{quality}.ScoreUncertainty", unit="C62", low=0, high=100, description="Half width of its interval"),
        Tag(node=f"{quality}.AnomalyScore", unit="C62", low=0, high=1, description="Distance from good cycles"),
        Tag(node=f"{quality}.Verdict", unit="C62", low=0, high=3, data_type="Int32", description="Verdict"),
    )


def recorded(plant: Plant) -> frozenset[str]:
    """Ids of everything the historian has."""
    nodes = {t.node for d in plant.devices for t in d.tags(plant.registers(d))}
    return frozenset(nodes | {t.node for d in plant.devices for s in d.streams for t in result_tags(f"{d.id}.{s.id}")})


def nodes(instances: Iterable[Instance]) -> Iterator[tuple[str, Instance, Member]]:
    """(string id, instance, member) of every node, parents before children."""
    for instance in instances:
        for member in instance.template.members:
            yield (f"{instance.prefix}.{member.path}" if member.path else instance.prefix), instance, member


def tags(plant: Plant) -> list[TagRow]:
    """The tag list: every scalar variable a SCADA system would bind to."""
    tree = _Tree(i for i in space(plant).instances if i.template.name not in _NO_TAGS)
    return [_row(tree, node) for node in tree.members if tree.is_tag(node)]


def _check_names(plant: Plant) -> None:
    named = [(f"devices[{i}].id", d.id) for i, d in enumerate(plant.devices)]
    named += [(f"lines[{i}].id", line.id) for i, line in enumerate(plant.lines)]
    taken = set(RESERVED)
    mistakes = []
    for path, name in named:
        if name in taken:
            mistakes.append(
                Mistake(path, f"{name} is taken: devices, lines and {', '.join(sorted(RESERVED))} share ids")
            )
        taken.add(name)
    known = ", ".join(ALARMS)
    mistakes += [
        Mistake(f"alarms.{kind}", f"there is no such alarm; known: {known}")
        for kind in plant.alarms
        if kind not in ALARMS
    ]
    if mistakes:
        raise ConfigurationError(mistakes)


def _text(value: str) -> ua.Variant:
    return ua.Variant(value, ua.VariantType.String)


def _double(value: float) -> ua.Variant:
    return ua.Variant(value, ua.VariantType.Double)


def _boolean(value: bool) -> ua.Variant:
    return ua.Variant(value, ua.VariantType.Boolean)


def _id(value: ua.NodeId) -> ua.Variant:
    return ua.Variant(value, ua.VariantType.NodeId)


def _system(plant: Plant) -> Instance:
    return Instance(
        template=template("EnoseSystemType", reference="Organizes"),
        prefix="ENose",
        parent=OBJECTS,
        values={
            "Diagnostics.DemoMode": _boolean(plant.site.demo),
            "Diagnostics.SoftwareVersion": _text(version("enose")),
            "Diagnostics.ConfigurationDigest": _text(digest(plant)),
        },
        descriptions={"": plant.site.title or plant.site.id},
    )


def _metadata() -> Instance:
    """NamespaceMetadata of the site (Part 5 6.3.14): every id a string."""
    return Instance(
        template=template("NamespaceMetadataType"),
        prefix="NamespaceMetadata",
        parent=NAMESPACES,
        name=SITE_URI,
        values={
            "NamespaceUri": _text(SITE_URI),
            "NamespaceVersion": _text(VERSION),
            "NamespacePublicationDate": ua.Variant(datetime.fromisoformat(PUBLISHED), ua.VariantType.DateTime),
            "IsNamespaceSubset": _boolean(False),
            "StaticNodeIdTypes": ua.Variant([ua.IdType.String.value], ua.VariantType.Int32),
            "StaticNumericNodeIdRange": ua.Variant([], ua.VariantType.String, is_array=True),
            "StaticStringNodeIdPattern": _text(".*"),
        },
    )


def _slots(type_: str, parent: str, letter: str, count: int) -> Iterator[Instance]:
    compiled = template(type_)
    return (
        Instance(template=compiled, prefix=f"{parent}.{letter}{i:02}", parent=site(parent)) for i in range(1, count + 1)
    )


def _device(plant: Plant, device: Device, history: frozenset[str]) -> Iterator[Instance]:
    columns = {c.tag.node: c.tag for c in device.columns(plant.registers(device))}
    under = {
        node.removeprefix(f"{device.id}."): tag
        for node, tag in columns.items()
        if node.startswith(f"{device.id}.Environment.")
    }
    lengths = len(device.channels)
    ratio = any(is_ratio(c.technology) for c in device.channels)
    vectors = frozenset({"Array.NormalizedVector"} if ratio else ())
    low, high = min(c.range[0] for c in device.channels), max(c.range[1] for c in device.channels)
    units = {c.unit for c in device.channels}
    yield Instance(
        template=template("EnoseDeviceType", frozenset(under) | vectors, _below(device.id, under, history)),
        prefix=device.id,
        parent=site("ENose.Devices"),
        values={
            "Identification.ComponentName": _text(device.title or device.id),
            "Array.ChannelCount": ua.Variant(lengths, ua.VariantType.UInt32),
            "Array.ChannelIds": ua.Variant([c.id for c in device.channels], ua.VariantType.String),
            "Array.SensorVector.EURange": value_range(low, high),
            "Array.SensorVector.EngineeringUnits": engineering_units(units.pop() if len(units) == 1 else "C62"),
            **{k: v for path, tag in under.items() for k, v in _measured(path, tag).items()},
        },
        descriptions={"": device.title or device.id, **{path: tag.description for path, tag in under.items()}},
        lengths=dict.fromkeys(("Array.ChannelIds", "Array.SensorVector", *vectors), lengths),
    )
    for channel in device.channels:
        yield _channel(device, channel, columns)
    for stream in device.streams:
        yield from _stream(device, stream, history)


def _below(prefix: str, paths: Iterable[str], history: frozenset[str]) -> frozenset[str]:
    return frozenset(p for p in paths if f"{prefix}.{p}" in history)


def _measured(path: str, tag: Tag) -> dict[str, ua.Variant]:
    return {
        f"{path}.EURange": value_range(tag.low, tag.high),
        f"{path}.EngineeringUnits": engineering_units(tag.unit),
    }


def _channel(device: Device, channel: Channel, columns: Mapping[str, Tag]) -> Instance:
    prefix = f"{device.id}.Array.{channel.id}"
    value, heater = columns[f"{prefix}.SensorValue"], columns.get(f"{prefix}.HeaterTemperature")
    recorded_paths = frozenset({"HeaterTemperature"} if heater else ())
    ratio = frozenset({"NormalizedValue"} if is_ratio(channel.technology) else ())
    return Instance(
        template=template("EnoseChannelType", recorded_paths | ratio, recorded_paths | {"SensorValue"}),
        prefix=prefix,
        parent=site(f"{device.id}.Array"),
        values={
            "Technology": _text(channel.technology),
            "TargetGas": _text(channel.target_gas),
            **_measured("SensorValue", value),
            "SensorValue.InstrumentRange": value_range(value.low, value.high),
            **_measured("Baseline", value),
            **(_measured("HeaterTemperature", heater) if heater else {}),
        },
        descriptions={"": value.description, "SensorValue": value.description},
    )


def _stream(device: Device, stream: Stream, history: frozenset[str]) -> Iterator[Instance]:
    prefix = f"{device.id}.{stream.id}"
    compiled = template("EnoseStreamType")
    historized = _below(prefix, (m.path for m in compiled.members), history)
    yield Instance(
        template=template("EnoseStreamType", historized=historized),
        prefix=prefix,
        parent=site(device.id),
        values={
            "Configuration.IsEnabled": _boolean(True),
            "AcquisitionSettings.TimeBetweenSamples": _double(device.period),
            "AcquisitionSettings.BaselineDuration": _double(stream.baseline),
            "AcquisitionSettings.ExposureDuration": _double(stream.exposure),
            "AcquisitionSettings.PurgeDuration": _double(stream.purge),
        },
    )
    yield from _slots("EnoseResultType", f"{prefix}.Results", "R", RESULT_SLOTS)


def _line(line: Line) -> Iterator[Instance]:
    yield Instance(
        template=template("EnoseLineType"),
        prefix=line.id,
        parent=site("ENose.Lines"),
        descriptions={"": f"{line.title or line.id}: {', '.join(line.streams)}"},
    )
    yield from _slots("EnoseExceptionType", f"{line.id}.Batch.Exceptions", "X", EXCEPTION_SLOTS)
    yield from _slots("EnoseBatchSummaryType", f"{line.id}.Recent", "B", BATCH_SLOTS)


def _conditions(plant: Plant) -> Iterator[Instance]:
    """Conditions with what never changes; the rest is `events.condition_fields`, published."""
    for node, source, kind in condition_nodes(plant):
        type_, optional = CONDITION_TYPES[kind.kind]
        yield Instance(
            template=template(type_, optional, interface="EnoseAlarmTagsType"),
            prefix=node,
            parent=site(f"{source}.Alarms"),
            values={
                "EventType": _id(type_id(type_)),
                "SourceNode": _id(site(source)),
                "SourceName": _text(source),
            },
        )


def _conditions_of(plant: Plant) -> Iterator[Reference]:
    has_interface = reference_id("HasInterface")
    for node, source, _ in condition_nodes(plant):
        yield Reference(source=site(source), type=HAS_CONDITION, target=site(node))
        yield Reference(source=site(node), type=has_interface, target=type_id("EnoseAlarmTagsType"))


def _notifiers(plant: Plant) -> Iterator[Reference]:
    """Who tells whose events (Part 3 7.18): Server, ENose, device, stream; an Alarms folder stands above its owner."""

    def notifies(source: ua.NodeId, target: str) -> Reference:
        return Reference(source=source, type=HAS_NOTIFIER, target=site(target))

    def owned(source: str, owner: str) -> Iterator[Reference]:
        yield notifies(site(source), owner)
        yield notifies(site(source), f"{owner}.Alarms")
        yield Reference(source=site(f"{owner}.Alarms"), type=HAS_EVENT_SOURCE, target=site(owner))

    yield notifies(SERVER, "ENose")
    yield notifies(site("ENose"), "ENose.Agents")
    yield notifies(site("ENose"), "ENose.Signatures")
    for device in plant.devices:
        yield from owned("ENose", device.id)
        for stream in device.streams:
            yield from owned(device.id, f"{device.id}.{stream.id}")
    for line in plant.lines:
        yield notifies(site("ENose"), line.id)


class _Tree:
    """The nodes of some instances by id, with their children."""

    def __init__(self, instances: Iterable[Instance]) -> None:
        self.members: dict[str, tuple[Instance, Member]] = {}
        self.children: dict[str, list[str]] = {}
        self.parent: dict[str, str] = {}
        for node, instance, member in nodes(instances):
            above = node.rpartition(".")[0] if member.path else _above(instance)
            self.members[node] = instance, member
            self.parent[node] = above
            self.children.setdefault(above, []).append(node)
            self.children.setdefault(node, [])

    def name(self, node: str) -> str:
        return node.rpartition(".")[2]

    def is_object(self, node: str) -> bool:
        return self.members[node][1].node_class is NodeClass.OBJECT

    def is_tag(self, node: str) -> bool:
        """A scalar that belongs to an object; of a condition, only the mirrors."""
        instance, member = self.members[node]
        above = self.parent[node]
        if member.node_class is not NodeClass.VARIABLE or above not in self.members or not self.is_object(above):
            return False
        if instance.template.name in _CONDITION_NAMES:
            return member.path in ALARM_TAGS
        return member.value_rank == -1 and member.data_type is not None and member.data_type.Identifier in _SCALARS

    def is_plain(self, node: str) -> bool:
        """An object in which a SCADA system can use everything: scalars, methods and objects of the same kind."""
        if self.members[node][0].template.name in _CONDITION_NAMES:
            return False
        return all(self._is_usable(child) for child in self.children[node])

    def _is_usable(self, node: str) -> bool:
        if self.is_object(node):
            return self.is_plain(node)
        return self.members[node][1].node_class is NodeClass.METHOD or self.is_tag(node)


_CONDITION_NAMES = frozenset(type_ for type_, _ in CONDITION_TYPES.values())


def _above(instance: Instance) -> str:
    return str(instance.parent.Identifier) if instance.parent.NamespaceIndex == SITE_NS else ""


def _row(tree: _Tree, node: str) -> TagRow:
    instance, member = tree.members[node]
    of = {name: _value(tree, f"{node}.{name}") for name in ("EURange", "EngineeringUnits")}
    limits, unit = of["EURange"], of["EngineeringUnits"]
    return TagRow(
        node_id=f"ns={SITE_NS};s={node}",
        path=_path(tree, node),
        data_type=_SCALARS[member.data_type.Identifier] if member.data_type else "",
        unit=unit.DisplayName.Text if unit else "",
        low=limits.Low if limits else None,
        high=limits.High if limits else None,
        description=instance.descriptions.get(member.path, member.description),
        historized=member.historizing,
        access="RW" if Access.WRITE in member.access else "R",
    )


def _value(tree: _Tree, node: str) -> Any:
    """Constant of a property; None where there is none."""
    if node not in tree.members:
        return None
    instance, member = tree.members[node]
    variant = instance.values.get(member.path, member.value)
    return variant.Value if variant is not None else None


def _path(tree: _Tree, node: str) -> str:
    names = []
    while node:
        names.append(tree.name(node))
        node = tree.parent[node]
    return "/".join(reversed(names))


_VIEW = Template(
    name="View",
    members=(
        Member(path="", node_class=NodeClass.VIEW, browse_name=ua.QualifiedName("View", SITE_NS), reference=ORGANIZES),
    ),
)


def _views(plant: Plant, instances: Iterable[Instance]) -> tuple[list[Instance], list[Reference]]:
    """SCADA: only what every SCADA system can read, so that a dragged folder has no array, structure or text with
    locale in it. Objects that are so already are linked; of the others a folder shows the usable part.
    Quality and Maintenance: the objects those people work with.
    """
    tree = _Tree(instances)
    made = [
        Instance(template=_VIEW, prefix="SCADA", parent=VIEWS, descriptions={"": "Scalar tags and methods"}),
        Instance(template=_VIEW, prefix="Quality", parent=VIEWS, descriptions={"": "Results and batches"}),
        Instance(template=_VIEW, prefix="Maintenance", parent=VIEWS, descriptions={"": "Devices and the service"}),
    ]
    links: list[Reference] = []

    def link(view: str, node: str) -> None:
        links.append(Reference(source=site(view), type=ORGANIZES, target=site(node)))

    def show(node: str, view: str) -> None:
        for child in tree.children[node]:
            if tree.is_tag(child) or (tree.is_object(child) and tree.children[child] and tree.is_plain(child)):
                link(view, child)
            elif tree.is_object(child) and _has_usable(tree, child):
                folder = f"SCADA.{child}"
                made.append(
                    Instance(template=template("FolderType", reference="Organizes"), prefix=folder, parent=site(view))
                )
                show(child, folder)

    show("ENose", "SCADA")
    for device in plant.devices:
        for stream in device.streams:
            link("Quality", f"{device.id}.{stream.id}.Quality")
            link("Quality", f"{device.id}.{stream.id}.Results")
        for part in ("Identification", "DeviceHealth", "Alarms"):
            link("Maintenance", f"{device.id}.{part}")
    for line in plant.lines:
        link("Quality", f"{line.id}.Batch")
        link("Quality", f"{line.id}.Recent")
    link("Maintenance", "ENose.Diagnostics")
    return made, links


def _has_usable(tree: _Tree, node: str) -> bool:
    return any(tree.is_tag(c) or (tree.is_object(c) and _has_usable(tree, c)) for c in tree.children[node])
