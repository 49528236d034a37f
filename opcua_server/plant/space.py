"""The plant as OPC UA shows it: configuration -> instances, references, tag list (information model 1.4, 1.5).

Pure: ids, names and order follow from the plant alone. What has no source is absent; what is published later is
BadWaitingForInitialData until then.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib.metadata import version
from typing import Any, TypedDict

from asyncua import ua

from analytics.features import is_ratio
from config.load import digest
from config.schema import Channel, Device, Line, Plant, Stream
from nodesets.errors import ConfigurationError, Mistake
from nodesets.model import Tag
from nodesets.types import PUBLISHED, VERSION
from opcua_server.plant import events
from opcua_server.plant.alarm_states import Condition
from opcua_server.plant.alarms import ADVICE_SLOTS, ALARMS, SITE_SOURCES, Alarms, first_up
from opcua_server.plant.condition_types import CONDITION_NAMES, CONDITION_TYPES, optional_members
from opcua_server.plant.publish import level_limits
from opcua_server.plant.templates import (
    HISTORY,
    aggregates_of_texts,
    engineering_units,
    reference_id,
    template,
    type_id,
    value_range,
)
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
FOR_EVERYBODY = frozenset({"NamespaceMetadata", "SCADA", "Playground"})
"""Roots of what also sessions without a user see."""
RESERVED = frozenset({"ENose", "NamespaceMetadata", "SCADA", "Quality", "Maintenance", "Playground"})
"""First elements of ids that no device or line may have."""
RESULT_SLOTS, EXCEPTION_SLOTS, BATCH_SLOTS = 20, 10, 10

ALARM_TAGS = ("Active", "Acked", "Severity", "Text")
"""Members of a condition that a SCADA system binds to as tags."""
_NO_TAGS = frozenset({"FolderType", "AlarmGroupType", "AlarmSuppressionGroupType", "View", "NamespaceMetadataType"})
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
        *_slots("AgentRecommendationType", "ENose.Agents", "R", ADVICE_SLOTS),
    ]
    history = recorded(plant)
    for device in plant.devices:
        instances += _device(plant, device, history)
    for line in plant.lines:
        instances += _line(line, history)
    alarms = list(Alarms(plant))
    conditions = [*_conditions(plant, alarms), *_groups(plant, alarms)]
    shown = [i for i, condition in zip(conditions, alarms, strict=False) if condition.enabled.on]
    view_instances, view_references = _views(plant, [*instances, *shown])
    described = aggregates_of_texts(_recorded_texts(plant))
    references = (
        *_notifiers(plant),
        *_conditions_of(alarms),
        *_members(plant, alarms),
        *described,
        *view_references,
    )
    everything = (*instances, *conditions, *view_instances)
    if len(longest := _longest(everything)) > LONGEST_ID:
        message = f"{longest} is longer than {LONGEST_ID} characters: shorten the ids of device, stream or channel"
        raise ConfigurationError([Mistake("devices", message)])
    return Space(everything, references)


def scada_view(tree: Space) -> Callable[[str], bool]:
    """Whether a node is in the SCADA view, on the way to it, or made for everybody, by its string id."""
    folders = {i.prefix for i in tree.instances if i.prefix.partition(".")[0] == "SCADA"}
    shown = {r.target.Identifier for r in tree.references if r.source.Identifier in folders}

    def sees(node: str) -> bool:
        if node == "ENose" or f"SCADA.{node}" in folders or node.partition(".")[0] in FOR_EVERYBODY:
            return True
        while node and node not in shown:
            node = node.rpartition(".")[0]
        return bool(node)

    return sees


def result_tags(stream: str) -> tuple[Tag, ...]:
    """Recorded columns of a stream's results, the group `EN01.Stream01.Quality`."""
    quality = f"{stream}.Quality"
    return (
        Tag(node=f"{quality}.Score", unit="C62", low=0, high=100, description="Quality score"),
        Tag(node=f"{quality}.ScoreUncertainty", unit="C62", low=0, high=100, description="Half width of its interval"),
        Tag(node=f"{quality}.AnomalyScore", unit="C62", low=0, high=1, description="Distance from good cycles"),
        Tag(node=f"{quality}.Verdict", unit="C62", low=0, high=3, data_type="Int32", description="Verdict"),
    )


def result_texts(stream: str) -> tuple[str, ...]:
    """Recorded columns of the same group that are texts."""
    return f"{stream}.Quality.VerdictText", f"{stream}.Quality.PredictedClass"


def batch_texts(line: str) -> tuple[str, ...]:
    """Recorded columns of what a line makes, the group `L01.Batch`: texts."""
    return f"{line}.Batch.BatchId", f"{line}.Batch.StateText"


def recorded(plant: Plant) -> frozenset[str]:
    """Ids of everything the historian has."""
    nodes = {t.node for d in plant.devices for t in d.tags(plant.registers(d))}
    nodes.update(t.node for d in plant.devices for s in d.streams for t in result_tags(f"{d.id}.{s.id}"))
    return frozenset(nodes | _recorded_texts(plant))


def _recorded_texts(plant: Plant) -> set[str]:
    of_streams = (result_texts(f"{d.id}.{s.id}") for d in plant.devices for s in d.streams)
    return set().union(*of_streams, *(batch_texts(line.id) for line in plant.lines))


def stepped(plant: Plant) -> frozenset[str]:
    """Recorded values that hold until the next one: all of a stream (process rule 1), a line, no sensor's."""
    whole = [f"{d.id}.{s.id}." for d in plant.devices for s in d.streams] + [f"{line.id}." for line in plant.lines]
    return frozenset(node for node in recorded(plant) if node.startswith(tuple(whole)))


def nodes(instances: Iterable[Instance]) -> Iterator[tuple[str, Instance, Member]]:
    """(string id, instance, member) of every node, parents before children."""
    for instance in instances:
        for member in instance.template.members:
            yield (f"{instance.prefix}.{member.path}" if member.path else instance.prefix), instance, member


def _longest(instances: Iterable[Instance]) -> str:
    """The longest id."""
    paths: dict[int, str] = {}
    longest = ""
    for instance in instances:
        key = id(instance.template)
        if key not in paths:
            paths[key] = max((m.path for m in instance.template.members), key=len)
        longest = max(longest, f"{instance.prefix}.{paths[key]}", key=len)
    return longest.rstrip(".")


def methods(instances: Iterable[Instance]) -> Iterator[tuple[str, Instance, Member]]:
    """`nodes` that are methods."""
    of: dict[int, list[Member]] = {}
    for instance in instances:
        key = id(instance.template)
        if key not in of:
            of[key] = [m for m in instance.template.members if m.node_class is NodeClass.METHOD]
        for member in of[key]:
            yield f"{instance.prefix}.{member.path}", instance, member


def tags(plant: Plant) -> list[TagRow]:
    """The tag list: every scalar variable a SCADA system would bind to."""
    alarms = Alarms(plant)
    off = {c.node for c in alarms if not c.enabled.on}
    shown = (i for i in space(plant).instances if i.prefix not in off)
    tree = _Tree(i for i in shown if i.template.name not in _NO_TAGS)
    return [_row(tree, node) for node in tree.tags()]


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
    channels = {f"{device.id}.Array.{c.id}" for device in plant.devices for c in device.channels}
    mistakes += [
        Mistake(
            f"alarms.{kind}.limits", f"there is no channel {name}" if kind == "LevelAlarm" else "only of LevelAlarm"
        )
        for kind, own in plant.alarms.items()
        for name in own.limits
        if kind != "LevelAlarm" or name not in channels
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
    compiled, above = template(type_), site(parent)
    return (Instance(template=compiled, prefix=f"{parent}.{letter}{i:02}", parent=above) for i in range(1, count + 1))


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
    below = _below(device.id, under, history)
    yield Instance(
        template=template("EnoseDeviceType", frozenset(under) | vectors, below),
        prefix=device.id,
        parent=site("ENose.Devices"),
        values={
            "Identification.ComponentName": _text(device.title or device.id),
            "Array.ChannelCount": ua.Variant(lengths, ua.VariantType.UInt32),
            "Array.ChannelIds": ua.Variant([c.id for c in device.channels], ua.VariantType.String),
            "Array.SensorVector.EURange": value_range(low, high),
            "Array.SensorVector.EngineeringUnits": engineering_units(units.pop() if len(units) == 1 else "C62"),
            **{k: v for path, tag in under.items() for k, v in _measured(path, *_range(tag)).items()},
            **{f"{path}.{HISTORY}.MaxTimeInterval": _double(device.period * 1000) for path in sorted(below)},
        },
        descriptions={"": device.title or device.id, **{path: tag.description for path, tag in under.items()}},
        lengths=dict.fromkeys(("Array.ChannelIds", "Array.SensorVector", *vectors), lengths),
    )
    array = site(f"{device.id}.Array")
    for channel in device.channels:
        yield _channel(array, channel, columns, device.period)
    for stream in device.streams:
        yield from _stream(device, stream, history)


def _below(prefix: str, paths: Iterable[str], history: frozenset[str]) -> frozenset[str]:
    return frozenset(p for p in paths if f"{prefix}.{p}" in history)


def _measured(path: str, unit: str, low: float, high: float) -> dict[str, ua.Variant]:
    return {f"{path}.EURange": value_range(low, high), f"{path}.EngineeringUnits": engineering_units(unit)}


def _channel(array: ua.NodeId, channel: Channel, columns: Mapping[str, Tag], period: float) -> Instance:
    prefix = f"{array.Identifier}.{channel.id}"
    value, heater = columns[f"{prefix}.SensorValue"], columns.get(f"{prefix}.HeaterTemperature")
    recorded_paths = frozenset({"HeaterTemperature"} if heater else ())
    ratio = frozenset({"NormalizedValue"} if is_ratio(channel.technology) else ())
    return Instance(
        template=template("EnoseChannelType", recorded_paths | ratio, recorded_paths | {"SensorValue"}),
        prefix=prefix,
        parent=array,
        values=_channel_values(
            channel.technology, channel.target_gas, _range(value), _range(heater) if heater else None, period
        ),
        descriptions={"": value.description, "SensorValue": value.description},
    )


Range = tuple[str, float, float]
"""Unit, low, high."""


def _range(tag: Tag) -> Range:
    return tag.unit, tag.low, tag.high


@cache
def _channel_values(
    technology: str, target_gas: str, value: Range, heater: Range | None, period: float
) -> Mapping[str, ua.Variant]:
    """Constants of a channel: one object for all that are alike."""
    recorded_names = ("SensorValue", "HeaterTemperature") if heater else ("SensorValue",)
    return {
        "Technology": _text(technology),
        "TargetGas": _text(target_gas),
        **_measured("SensorValue", *value),
        "SensorValue.InstrumentRange": value_range(*value[1:]),
        **_measured("Baseline", *value),
        **(_measured("HeaterTemperature", *heater) if heater else {}),
        **{f"{name}.{HISTORY}.MaxTimeInterval": _double(period * 1000) for name in recorded_names},
    }


def _stream(device: Device, stream: Stream, history: frozenset[str]) -> Iterator[Instance]:
    prefix = f"{device.id}.{stream.id}"
    compiled = template("EnoseStreamType")
    historized = _below(prefix, (m.path for m in compiled.members), history)
    yield Instance(
        template=template("EnoseStreamType", historized=historized, stepped=True),
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


def _line(line: Line, history: frozenset[str]) -> Iterator[Instance]:
    historized = _below(line.id, (m.path for m in template("EnoseLineType").members), history)
    yield Instance(
        template=template("EnoseLineType", historized=historized, stepped=True),
        prefix=line.id,
        parent=site("ENose.Lines"),
        descriptions={"": f"{line.title or line.id}: {', '.join(line.streams)}"},
    )
    yield from _slots("EnoseExceptionType", f"{line.id}.Batch.Exceptions", "X", EXCEPTION_SLOTS)
    yield from _slots("EnoseBatchSummaryType", f"{line.id}.Recent", "B", BATCH_SLOTS)


class _Initial(Mapping[str, ua.Variant]):
    """What the nodes of a condition hold until it first moves; made when somebody looks."""

    def __init__(self, condition: Condition, limits: Mapping[str, float], paths: Mapping[str, Any]) -> None:
        self._condition = condition
        self._limits = limits
        self._paths = paths
        """Those it has values of; one object for all conditions of a kind."""

    def __getitem__(self, path: str) -> ua.Variant:
        if path not in self._paths:
            raise KeyError(path)
        return events.condition_values(self._condition, 0, self._limits)[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)

    def keys(self) -> Any:
        return self._paths.keys()


def _conditions(plant: Plant, alarms: Iterable[Condition]) -> Iterator[Instance]:
    """Conditions as they are before they move; from then on their values are published."""
    shapes: dict[int, tuple[Template, dict[str, Any]]] = {}
    limits, none = level_limits(plant), dict[str, float]()
    for condition in alarms:
        kind, known = condition.kind, limits.get(condition.node, none)
        if id(kind) not in shapes:
            shown = CONDITION_TYPES[kind.kind]
            optional = optional_members(shown, latched=kind.latched)
            compiled = template(shown.type, optional, interface="" if kind.dialog else "EnoseAlarmTagsType")
            members = {m.path for m in compiled.members if m.node_class is NodeClass.VARIABLE}
            given = events.condition_values(condition, 0, known).keys() & members
            shapes[id(kind)] = compiled, dict.fromkeys(sorted(given))
        compiled, paths = shapes[id(kind)]
        above, name = _place(condition)
        yield Instance(
            template=compiled,
            prefix=condition.node,
            parent=site(above),
            name=name,
            values=_Initial(condition, known, paths),
        )


def _place(condition: Condition) -> tuple[str, str]:
    """What a condition hangs under, and its browse name there.

    Those of channels hang in their device's folder: a channel stays what a SCADA system can drag as a whole.
    """
    above, _, name = condition.node.rpartition(".")
    if condition.kind.scope in SITE_SOURCES:
        return "ENose.Alarms", name
    if condition.kind.scope not in ("channel", "pair"):
        return above, name
    device, channel = above.split(".Array.")
    return f"{device}.Alarms", f"{channel}.{name}"


SUPPRESSION = "Suppression"


def _groups(plant: Plant, alarms: Iterable[Condition]) -> Iterator[Instance]:
    """Groups of alarms of which the first one is told (FirstInGroupFlag), and what suppresses FlowLow by design."""
    for group in dict.fromkeys(first_up(c.source, c.kind) for c in alarms if not c.kind.dialog):
        yield Instance(
            template=template("AlarmGroupType"),
            prefix=group,
            parent=site(group.rpartition(".")[0]),
            descriptions={"": "Alarms of one device, line or service: the first of them is told as such"},
        )
    for device in plant.devices:
        flow = ALARMS["FlowLow"].node(device.id)
        yield Instance(
            template=template("AlarmSuppressionGroupType", reference="HasAlarmSuppressionGroup"),
            prefix=f"{flow}.{SUPPRESSION}",
            parent=site(flow),
            descriptions={"": "No flow is no alarm while the device purges"},
        )


def _members(plant: Plant, alarms: Iterable[Condition]) -> Iterator[Reference]:
    """What is in the groups (Part 9 5.4.5, 5.4.6)."""
    member, suppressing = reference_id("AlarmGroupMember"), reference_id("AlarmSuppressionGroupMember")
    for c in alarms:
        if not c.kind.dialog:
            yield Reference(source=site(first_up(c.source, c.kind)), type=member, target=site(c.node))
    for device in plant.devices:
        group = site(f"{ALARMS['FlowLow'].node(device.id)}.{SUPPRESSION}")
        purging = site(f"{device.id}.{device.streams[0].id}.AcquisitionStatus.IsPurging")
        yield Reference(source=group, type=suppressing, target=purging)


def _conditions_of(alarms: Iterable[Condition]) -> Iterator[Reference]:
    has_interface, tags_type = reference_id("HasInterface"), type_id("EnoseAlarmTagsType")
    for condition in alarms:
        node = site(condition.node)
        yield Reference(source=site(condition.source), type=HAS_CONDITION, target=node)
        if not condition.kind.dialog:
            yield Reference(source=node, type=has_interface, target=tags_type)


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
    yield notifies(site("ENose"), "ENose.Alarms")
    for source in SITE_SOURCES.values():
        yield Reference(source=site("ENose.Alarms"), type=HAS_EVENT_SOURCE, target=site(source))
    for slot in range(1, ADVICE_SLOTS + 1) if plant.agents.dialogs else ():
        yield Reference(source=site("ENose.Agents"), type=HAS_EVENT_SOURCE, target=site(f"ENose.Agents.R{slot:02}"))
    for device in plant.devices:
        yield from owned("ENose", device.id)
        health = f"{device.id}.DeviceHealthAlarms"
        yield notifies(site("ENose"), health)
        yield Reference(source=site(health), type=HAS_EVENT_SOURCE, target=site(device.id))
        for channel in device.channels:
            target = site(f"{device.id}.Array.{channel.id}")
            yield Reference(source=site(device.id), type=HAS_EVENT_SOURCE, target=target)
        for stream in device.streams:
            yield from owned(device.id, f"{device.id}.{stream.id}")
    for line in plant.lines:
        yield notifies(site("ENose"), line.id)


Node = tuple[Instance, Member]


class _Shape:
    """What follows from a template alone."""

    def __init__(self, template: Template) -> None:
        members = {m.path: m for m in template.members}
        self.children: dict[str, list[Member]] = {path: [] for path in members}
        self.tags: set[str] = set()
        """Paths of the scalars that belong to an object; of a condition, only the mirrors."""
        for member in template.members[1:]:
            above = members[member.path.rpartition(".")[0]]
            self.children[above.path].append(member)
            if member.node_class is not NodeClass.VARIABLE or above.node_class is not NodeClass.OBJECT:
                continue
            if f".{HISTORY}." in member.path:  # how a value is recorded, not what it is
                continue
            if template.name in CONDITION_NAMES:
                is_tag = member.path in ALARM_TAGS
            else:
                is_tag = member.value_rank == -1 and _scalar(member) is not None
            if is_tag:
                self.tags.add(member.path)


class _Tree:
    """The nodes of some instances, and what a SCADA system can use of them."""

    def __init__(self, instances: Iterable[Instance]) -> None:
        self._instances = {i.prefix: i for i in instances}
        self._hung: dict[str, list[Node]] = {}
        self._shapes: dict[int, _Shape] = {}
        for instance in self._instances.values():
            self._hung.setdefault(_above(instance), []).append((instance, instance.template.members[0]))
            if id(instance.template) not in self._shapes:
                self._shapes[id(instance.template)] = _Shape(instance.template)

    def tags(self) -> Iterator[Node]:
        for instance in self._instances.values():
            tags = self._shapes[id(instance.template)].tags
            yield from ((instance, member) for member in instance.template.members if member.path in tags)

    def root(self, prefix: str) -> Node:
        instance = self._instances[prefix]
        return instance, instance.template.members[0]

    def children(self, node: Node) -> list[Node]:
        instance, member = node
        own = self._shapes[id(instance.template)].children[member.path]
        return [*((instance, child) for child in own), *self._hung.get(_name(node), ())]

    def path(self, node: str) -> str:
        """Browse path of an id from Objects."""
        names = []
        while node:
            names.append(node.rpartition(".")[2])
            instance = self._instances.get(node)
            node = _above(instance) if instance is not None else node.rpartition(".")[0]
        return "/".join(reversed(names))

    def is_tag(self, node: Node) -> bool:
        return node[1].path in self._shapes[id(node[0].template)].tags

    def is_plain(self, node: Node) -> bool:
        """An object in which a SCADA system can use everything: scalars, methods and objects of the same kind."""
        if node[0].template.name in CONDITION_NAMES:
            return False
        return all(self._is_usable(child) for child in self.children(node))

    def _is_usable(self, node: Node) -> bool:
        if _is_object(node):
            return self.is_plain(node)
        return node[1].node_class is NodeClass.METHOD or self.is_tag(node)

    def has_usable(self, node: Node) -> bool:
        return any(self.is_tag(c) or (_is_object(c) and self.has_usable(c)) for c in self.children(node))


def _above(instance: Instance) -> str:
    return str(instance.parent.Identifier) if instance.parent.NamespaceIndex == SITE_NS else ""


def _name(node: Node) -> str:
    instance, member = node
    return f"{instance.prefix}.{member.path}" if member.path else instance.prefix


def _is_object(node: Node) -> bool:
    return node[1].node_class is NodeClass.OBJECT


def _scalar(member: Member) -> str | None:
    """Data type every SCADA system can read; None for others."""
    return _SCALARS.get(member.data_type.Identifier) if member.data_type is not None else None


def _row(tree: _Tree, node: Node) -> TagRow:
    instance, member = node
    limits, unit = (_constant(instance, f"{member.path}.{name}") for name in ("EURange", "EngineeringUnits"))
    return TagRow(
        node_id=f"ns={SITE_NS};s={_name(node)}",
        path=tree.path(_name(node)),
        data_type=_scalar(member) or "",
        unit=unit.DisplayName.Text if unit else "",
        low=limits.Low if limits else None,
        high=limits.High if limits else None,
        description=instance.descriptions.get(member.path, member.description),
        historized=member.historizing,
        access="RW" if Access.WRITE in member.access else "R",
    )


def _constant(instance: Instance, path: str) -> Any:
    """Constant of a property; None where there is none."""
    member = next((m for m in instance.template.members if m.path == path), None)
    variant = instance.values.get(path, member.value) if member is not None else None
    return variant.Value if variant is not None else None


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
    quality, maintenance = site("Quality"), site("Maintenance")
    links: list[Reference] = []
    for shown in _usable(tree, tree.root("ENose"), site("SCADA")):
        (made if isinstance(shown, Instance) else links).append(shown)  # type: ignore[arg-type]
    for device in plant.devices:
        for stream in device.streams:
            links.append(_link(quality, f"{device.id}.{stream.id}.Quality"))
            links.append(_link(quality, f"{device.id}.{stream.id}.Results"))
        links += [_link(maintenance, f"{device.id}.{part}") for part in ("Identification", "DeviceHealth", "Alarms")]
    for line in plant.lines:
        links.append(_link(quality, f"{line.id}.Batch"))
        links.append(_link(quality, f"{line.id}.Recent"))
    links.append(_link(maintenance, "ENose.Diagnostics"))
    return made, links


def _link(view: ua.NodeId, node: str) -> Reference:
    return Reference(source=view, type=ORGANIZES, target=site(node))


def _usable(tree: _Tree, node: Node, view: ua.NodeId) -> Iterator[Instance | Reference]:
    """Folders and links that show the usable part of an object under a node of the view."""
    for child in tree.children(node):
        if tree.is_tag(child) or (_is_object(child) and tree.children(child) and tree.is_plain(child)):
            yield _link(view, _name(child))
        elif _is_object(child) and tree.has_usable(child):
            folder = f"SCADA.{_name(child)}"
            yield Instance(template=template("FolderType", reference="Organizes"), prefix=folder, parent=view)
            yield from _usable(tree, child, site(folder))
