"""The playground of a test plant: what a conformance tool wants to read, write, call, trigger and trend.

    Playground                        event notifier
      Scalar, Array, Matrix           a writable variable of every built-in type, of one and of two dimensions
      Subtype, Cube, Large            simple subtypes of them, three dimensions, long arrays and texts
      Analog, Discrete, ArrayItem     Data Access items (Part 8)
      Dynamic                         change ten times a second
      Access, Status                  variables by what may be done with them and by whom; Uncertain and Bad ones
      References                      two objects, and references of many kinds from one to the other
      Methods                         every shape of arguments; a slow one; RaiseEvent, RaiseTypedEvent,
                                      RaiseAlarm, ClearAlarm; Recommend, which asks for a person's decision
      Alarms                          writable inputs of two alarms of the first stream: Score, of the exclusive
                                      QualityScoreLow (below 50 Low, below 20 LowLow), and Anomaly, of the
                                      non-exclusive AnomalyDetected (above 0.5 High, above 0.75 HighHigh)
      History                         a value a second of each, the last ten minutes are there from the start:
                                      Ramp, Counter, Switch; Writable and Text, which HistoryUpdate changes as well
      Many                            2,000 children
      Deep                            twenty levels, and a name of 500 characters

Everybody may write and call here, so the configuration lets it be on loopback alone.
"""

import asyncio
import math
import secrets
import uuid
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import numpy as np
from asyncua import ua

from historian.chunks import Kind
from historian.frames import Column
from nodesets.errors import InvalidArgument
from nodesets.model import Basis, Caller, Finding, Floats, Quality, Recommendation, Role, Row
from nodesets.ports import Archive, Clock, Recorder
from opcua_server.plant.templates import (
    aggregates_of_texts,
    engineering_units,
    historical,
    recorded_fields,
    reference_id,
    value_range,
)
from opcua_server.services.nodes import (
    HAS_NOTIFIER,
    HAS_PROPERTY,
    ORGANIZES,
    SITE_NS,
    Access,
    Event,
    Instance,
    Member,
    NodeClass,
    Notifies,
    Reference,
    Template,
    site,
)
from opcua_server.services.server import UaServer

ROOT = "Playground"
GROUP = f"{ROOT}.History"
SCORE, ANOMALY = "QualityScoreLow", "AnomalyDetected"
HISTORIES: Mapping[str, str] = {
    "Ramp": "Double",
    "Counter": "UInt32",
    "Switch": "Boolean",
    "Writable": "Double",
    "Text": "String",
}
"""Recorded variable -> its type."""
RECORDED = tuple(f"{GROUP}.{name}" for name in HISTORIES)
COLUMNS = tuple(
    Column(f"{GROUP}.{name}", Kind.STRING if kind == "String" else Kind.DOUBLE) for name, kind in HISTORIES.items()
)
TEXTS = ("IDLE", "BASELINE", "EXPOSURE", "", "Prüfling 7 · 嗅覚")
"""What the recorded text is, one after another."""
RAMP, WRITABLE, TEXT = f"{GROUP}.Ramp", f"{GROUP}.Writable", f"{GROUP}.Text"
NATIVE: Mapping[str, Callable[[float], Any]] = {"Double": float, "UInt32": int, "Boolean": bool}
VIEW = "PlaygroundView"
MANY, DEEP, LONG = 2_000, 20, 500
LARGE = 10_000
"""Elements of the long arrays, characters of the long texts."""
PERIOD = 0.1
"""Seconds between changes of the dynamic variables."""
TREND_SECONDS = 600
SECOND = 1_000_000_000
DAY = 86_400
BAD = 0x80000000

OPEN = Access.READ | Access.WRITE | Access.STATUS_WRITE | Access.TIMESTAMP_WRITE
MEANING = Access.READ | Access.WRITE | Access.SEMANTIC_CHANGE
EVERYTHING = 0xFF
T = ua.VariantType
MOMENT = datetime(2026, 1, 1, tzinfo=UTC)

NUMBERS: Mapping[str, tuple[float, float]] = {
    "SByte": (-100, 100),
    "Byte": (0, 200),
    "Int16": (-1000, 1000),
    "UInt16": (0, 1000),
    "Int32": (-1000, 1000),
    "UInt32": (0, 1000),
    "Int64": (-1000, 1000),
    "UInt64": (0, 1000),
    "Float": (-100, 100),
    "Double": (-100, 100),
}
"""Numeric type -> EURange of its analog item."""
VALUES: Mapping[str, tuple[Any, Any]] = {
    "Boolean": (False, True),
    **{name: ((0.0, 1.5) if name in ("Float", "Double") else (0, 1)) for name in NUMBERS},
    "String": ("", "one"),
    "DateTime": (MOMENT, MOMENT.replace(year=2027)),
    "Guid": (uuid.UUID(int=0), uuid.UUID(int=1)),
    "ByteString": (b"", b"\x01\x02\x03"),
    "XmlElement": (ua.XmlElement("<a/>"), ua.XmlElement("<b/>")),
    "NodeId": (ua.NodeId(ua.ObjectIds.Server), ua.NodeId("one", SITE_NS)),
    "ExpandedNodeId": (ua.ExpandedNodeId(ua.ObjectIds.Server), ua.ExpandedNodeId("one", SITE_NS)),
    "StatusCode": (ua.StatusCode(0), ua.StatusCode(ua.StatusCodes.BadTimeout)),
    "QualifiedName": (ua.QualifiedName("zero"), ua.QualifiedName("one", SITE_NS)),
    "LocalizedText": (ua.LocalizedText("zero", "en"), ua.LocalizedText("eins", "de")),
}
"""Built-in type -> two values of it."""
ABSTRACT: Mapping[str, tuple[int, ua.VariantType]] = {
    "Number": (ua.ObjectIds.Number, T.Int32),
    "Integer": (ua.ObjectIds.Integer, T.Int32),
    "UInteger": (ua.ObjectIds.UInteger, T.UInt32),
    "Variant": (ua.ObjectIds.BaseDataType, T.Int32),
}
"""Abstract data types and what their variables hold at first."""
SUBTYPES: Mapping[str, tuple[ua.VariantType, Any]] = {
    "Duration": (T.Double, 1.5),
    "UtcTime": (T.DateTime, MOMENT),
    "LocaleId": (T.String, "en"),
    "NumericRange": (T.String, "0:1"),
    "Counter": (T.UInt32, 0),
    "IntegerId": (T.UInt32, 1),
    "ImagePNG": (T.ByteString, b"\x89PNG"),
}
"""Simple DataTypes that are encoded as another, as what, and a value."""
STATUSES: Mapping[str, int] = {
    "Uncertain": ua.StatusCodes.UncertainLastUsableValue,
    "Bad": ua.StatusCodes.BadSensorFailure,
}
KINDS = (
    "HasComponent", "HasOrderedComponent", "Organizes", "HasPhysicalComponent", "HasContainedComponent", "Controls",
    "Requires", "Utilizes", "IsExecutingOn", "AssociatedWith", "IsPhysicallyConnectedTo",
)  # fmt: skip
"""Types of the references between the two objects of References."""

Find = Callable[[Finding], None]
Handler = Callable[[Caller, Any, tuple[Any, ...]], Awaitable[Sequence[Any]]]


# -- the nodes


def instances() -> Iterator[Instance]:
    """The playground, ready to be realised."""
    members = (
        _object("", notifier=int(Notifies.SUBSCRIBE | Notifies.HISTORY_READ), reference=ORGANIZES),
        _property("HistoricalEventFilter", recorded_fields(), ua.ObjectIds.EventFilter),
        *_folder("Scalar", (_variable(f"Scalar.{n}", n, v[0]) for n, v in VALUES.items())),
        *(_variable(f"Scalar.{n}", i, 0, kind=kind) for n, (i, kind) in ABSTRACT.items()),
        _variable("Scalar.Structure", ua.ObjectIds.Range, ua.Range(Low=0.0, High=1.0), kind=T.ExtensionObject),
        _variable("Scalar.Enumeration", ua.ObjectIds.ServerState, 0, kind=T.Int32),
        *_folder("Array", (_variable(f"Array.{n}", n, [*v, v[0], v[1], v[0]], rank=1) for n, v in VALUES.items())),
        _variable("Array.Structure", ua.ObjectIds.Range, [ua.Range(Low=0.0, High=1.0)], rank=1, kind=T.ExtensionObject),
        _variable("Array.Variant", ua.ObjectIds.BaseDataType, [0, 1, 2], rank=1, kind=T.Int32),
        *_folder("Matrix", (_variable(f"Matrix.{n}", n, _matrix(n), rank=2) for n in VALUES)),
        *_folder("Cube", [_variable("Cube.Int32", "Int32", [_matrix("Int32"), _matrix("Int32")], rank=3)]),
        *_folder("Subtype", (_variable(f"Subtype.{n}", _number(n), v, kind=kind) for n, (kind, v) in SUBTYPES.items())),
        *_folder("Large", _large()),
        *_folder("Analog", _analogs()),
        *_folder("Discrete", _discretes()),
        *_folder("ArrayItem", _array_items()),
        *_folder("Dynamic", (_variable(f"Dynamic.{n}", n, VALUES[n][0], access=Access.READ) for n in DYNAMIC)),
        *_folder("Access", (_variable(f"Access.{n}", "Int32", 0, access=a) for n, (a, _) in ACCESS.items())),
        *_folder("Status", (_variable(f"Status.{n}", "Double", 0.0, access=Access.READ) for n in STATUSES)),
        *_folder("References", (_object(f"References.{n}") for n in ("Source", "Target"))),
        *_folder("Methods", _methods()),
        *_folder("Alarms", (_variable(f"Alarms.{n}", "Double", d.normal) for n, d in DRIVES.items())),
        *_folder("History", _histories()),
        *_folder("Many", (_variable(f"Many.M{i:04}", "Int32", i) for i in range(MANY))),
        *_deep(),
    )
    yield Instance(
        template=Template(name=ROOT, members=members),
        prefix=ROOT,
        parent=ua.NodeId(ua.ObjectIds.ObjectsFolder),
        descriptions={"": "For conformance tools: everybody may write and call what is below"},
    )
    view = Member(path="", node_class=NodeClass.VIEW, browse_name=ua.QualifiedName(VIEW, SITE_NS), reference=ORGANIZES)
    yield Instance(
        template=Template(name=VIEW, members=(view,)),
        prefix=VIEW,
        parent=ua.NodeId(ua.ObjectIds.ViewsFolder),
        descriptions={"": "The playground alone"},
    )


def references() -> tuple[Reference, ...]:
    """Server tells of the playground's events; what the view shows; and those between Source and Target."""
    source, target = site(f"{ROOT}.References.Source"), site(f"{ROOT}.References.Target")
    return (
        Reference(source=ua.NodeId(ua.ObjectIds.Server), type=HAS_NOTIFIER, target=site(ROOT)),
        Reference(source=site(VIEW), type=ORGANIZES, target=site(ROOT)),
        *(Reference(source=source, type=ua.NodeId(_number(kind)), target=target) for kind in KINDS),
        *aggregates_of_texts([TEXT]),
    )


READABLE = Access.READ | Access.HISTORY_READ


def _histories() -> Iterator[Member]:
    for name, kind in HISTORIES.items():
        path = f"History.{name}"
        access = READABLE | Access.HISTORY_WRITE if name in ("Writable", "Text") else READABLE
        variable = _variable(path, kind, VALUES[kind][0], access=access)
        yield replace(variable, historizing=True)
        yield from historical(path, stepped=kind != "Double", text=kind == "String")


@dataclass(frozen=True, slots=True)
class Drive:
    """A variable that drives an alarm."""

    kind: str
    normal: float
    limits: Mapping[str, float]
    """By level, the mildest first."""

    def level(self, value: float) -> str:
        """The worst level reached; empty for none."""
        falls = "Low" in self.limits
        reached = [name for name, limit in self.limits.items() if (value < limit if falls else value > limit)]
        return reached[-1] if reached else ""


DRIVES: Mapping[str, Drive] = {
    "Score": Drive(SCORE, 100.0, {"Low": 50.0, "LowLow": 20.0}),
    "Anomaly": Drive(ANOMALY, 0.0, {"High": 0.5, "HighHigh": 0.75}),
}
DYNAMIC = ("Boolean", *NUMBERS, "String", "DateTime")


def _name(path: str) -> ua.QualifiedName:
    return ua.QualifiedName(path.rpartition(".")[2] or ROOT, SITE_NS)


def _object(path: str, notifier: int = 0, reference: ua.NodeId = ORGANIZES) -> Member:
    return Member(
        path=path,
        node_class=NodeClass.OBJECT,
        browse_name=_name(path),
        reference=reference,
        type_definition=ua.NodeId(ua.ObjectIds.BaseObjectType if notifier else ua.ObjectIds.FolderType),
        event_notifier=notifier,
    )


def _number(name: str) -> int:
    """Of a standard node."""
    return int(getattr(ua.ObjectIds, name))


def _matrix(name: str) -> list[list[Any]]:
    """Two rows of three."""
    if name in NUMBERS:
        return [[0, 1, 2], [3, 4, 5]]
    one, other = VALUES[name]
    return [[one, other, one], [other, one, other]]


def _folder(path: str, inside: Iterable[Member]) -> Iterator[Member]:
    yield _object(path)
    yield from inside


def _variable(
    path: str,
    data_type: str | int,
    value: Any,
    *,
    rank: int = -1,
    kind: ua.VariantType | None = None,
    access: Access = OPEN,
    type_definition: int = ua.ObjectIds.BaseDataVariableType,
) -> Member:
    """`data_type`: name of a built-in type, or a DataType's number with `kind` as built-in type."""
    built_in = kind if kind is not None else T[str(data_type)]
    number = data_type if isinstance(data_type, int) else built_in.value
    return Member(
        path=path,
        node_class=NodeClass.VARIABLE,
        browse_name=_name(path),
        type_definition=ua.NodeId(type_definition),
        data_type=ua.NodeId(number),
        value_rank=rank,
        access=access,
        value=ua.Variant(value, built_in, is_array=rank > 0),
    )


def _property(path: str, value: ua.Variant, data_type: int, rank: int = -1, access: Access = Access.READ) -> Member:
    return Member(
        path=path,
        node_class=NodeClass.VARIABLE,
        browse_name=ua.QualifiedName(path.rpartition(".")[2], 0),
        reference=HAS_PROPERTY,
        type_definition=ua.NodeId(ua.ObjectIds.PropertyType),
        data_type=ua.NodeId(data_type),
        value_rank=rank,
        access=access,
        value=value,
    )


def _analogs() -> Iterator[Member]:
    analog = ua.ObjectIds.AnalogItemType
    for name, (low, high) in NUMBERS.items():
        zero = VALUES[name][0]
        yield _variable(f"Analog.{name}", name, zero, type_definition=analog)
        yield from _scale(f"Analog.{name}", low, high)
        yield _variable(f"Analog.{name}Array", name, [zero] * 4, rank=1, type_definition=analog)
        yield from _scale(f"Analog.{name}Array", low, high)
    yield _variable("Analog.DataItem", "Double", 0.0, type_definition=ua.ObjectIds.DataItemType)
    yield _property("Analog.DataItem.Definition", ua.Variant("As written", T.String), ua.ObjectIds.String)
    yield _property("Analog.DataItem.ValuePrecision", ua.Variant(3.0, T.Double), ua.ObjectIds.Double)
    yield _property("Analog.Double.Definition", ua.Variant("As written", T.String), ua.ObjectIds.String)
    yield _property("Analog.Double.ValuePrecision", ua.Variant(2.0, T.Double), ua.ObjectIds.Double)
    for name, kind in (("Unit", "AnalogUnitType"), ("UnitRange", "AnalogUnitRangeType"), ("Base", "BaseAnalogType")):
        yield _variable(f"Analog.{name}", "Double", 0.0, type_definition=_number(kind))
        yield from _scale(f"Analog.{name}", -100, 100)


def _scale(path: str, low: float, high: float) -> Iterator[Member]:
    yield _property(f"{path}.EURange", value_range(low, high), ua.ObjectIds.Range, access=MEANING)
    yield _property(f"{path}.InstrumentRange", value_range(low, high), ua.ObjectIds.Range)
    yield _property(f"{path}.EngineeringUnits", engineering_units("CEL"), ua.ObjectIds.EUInformation, access=MEANING)


def _discretes() -> Iterator[Member]:
    two, multi = "Discrete.TwoState", "Discrete.MultiState"
    yield _variable(two, "Boolean", False, type_definition=ua.ObjectIds.TwoStateDiscreteType)
    for name, text in (("FalseState", "Off"), ("TrueState", "On")):
        yield _property(f"{two}.{name}", _text(text), ua.ObjectIds.LocalizedText)
    names = ua.Variant([ua.LocalizedText(text, "en") for text in STATES.values()], T.LocalizedText)
    for path, kind in ((multi, "UInt32"), *((f"{multi}{k}", k) for k in UNSIGNED)):
        yield _variable(path, kind, 0, type_definition=ua.ObjectIds.MultiStateDiscreteType)
        yield _property(f"{path}.EnumStrings", names, ua.ObjectIds.LocalizedText, 1)
    named = [ua.EnumValueType(Value=n, DisplayName=ua.LocalizedText(text, "en")) for n, text in STATES.items()]
    values = ua.Variant(named, T.ExtensionObject)
    for path, kind in VALUED.items():
        yield _variable(path, kind, 1, type_definition=ua.ObjectIds.MultiStateValueDiscreteType)
        yield _property(f"{path}.EnumValues", values, ua.ObjectIds.EnumValueType, 1)
        yield _property(f"{path}.ValueAsText", _text(STATES[1]), ua.ObjectIds.LocalizedText)


STATES = {1: "Open", 2: "Closed", 4: "Moving"}
UNSIGNED = ("Byte", "UInt16", "UInt32", "UInt64")
VALUED = {
    "Discrete.MultiStateValue": "Int32",
    **{f"Discrete.MultiStateValue{k}": k for k in ("SByte", "Int16", "Int32", "Int64", *UNSIGNED)},
}
"""MultiStateValueDiscreteType variables and their types."""


def _large() -> Iterator[Member]:
    yield _variable("Large.Int32", "Int32", list(range(LARGE)), rank=1)
    yield _variable("Large.Double", "Double", [float(i) for i in range(LARGE)], rank=1)
    yield _variable("Large.String", "String", "x" * LARGE)
    yield _variable("Large.ByteString", "ByteString", bytes(LARGE))


def _array_items() -> Iterator[Member]:
    """Part 8 5.3.4: a curve, a list of points, an image, a cube and what has any number of axes."""
    points = [ua.XVType(X=float(i), Value=float(i)) for i in range(4)]
    image = [[0.0, 1.0], [2.0, 3.0]]
    for name, value, rank, axes in (
        ("YArray", [0.0, 1.0, 2.0, 3.0], 1, "X"),
        ("Image", image, 2, "XY"),
        ("Cube", [image, image], 3, "XYZ"),
    ):
        path = f"ArrayItem.{name}"
        yield _variable(path, "Double", value, rank=rank, type_definition=_number(f"{name}ItemType"))
        yield from _array_item(path)
        for axis in axes:
            yield _property(f"{path}.{axis}AxisDefinition", _structure(_axis(axis)), ua.ObjectIds.AxisInformation)
    path = "ArrayItem.XYArray"
    yield _variable(
        path, ua.ObjectIds.XVType, points, rank=1, kind=T.ExtensionObject, type_definition=_number("XYArrayItemType")
    )
    yield from _array_item(path)
    yield _property(f"{path}.XAxisDefinition", _structure(_axis("X")), ua.ObjectIds.AxisInformation)
    path = "ArrayItem.NDimensionArray"
    yield _variable(path, "Double", image, rank=2, type_definition=_number("NDimensionArrayItemType"))
    yield from _array_item(path)
    axes_of = ua.Variant([_axis("X"), _axis("Y")], T.ExtensionObject)
    yield _property(f"{path}.AxisDefinition", axes_of, ua.ObjectIds.AxisInformation, 1)


def _array_item(path: str) -> Iterator[Member]:
    """Properties of every ArrayItemType."""
    yield from _scale(path, -100, 100)
    yield _property(f"{path}.Title", _text(path), ua.ObjectIds.LocalizedText)
    scale = ua.Variant(ua.AxisScaleEnumeration.Linear, T.Int32)
    yield _property(f"{path}.AxisScaleType", scale, ua.ObjectIds.AxisScaleEnumeration)


def _axis(name: str) -> ua.AxisInformation:
    return ua.AxisInformation(
        EngineeringUnits=engineering_units("SEC").Value,
        EURange=ua.Range(Low=0.0, High=3.0),
        Title=ua.LocalizedText(name, "en"),
        AxisScaleType=ua.AxisScaleEnumeration.Linear,
        AxisSteps=[0.0, 1.0, 2.0, 3.0],
    )


def _structure(value: Any) -> ua.Variant:
    return ua.Variant(value, T.ExtensionObject)


def _text(text: str) -> ua.Variant:
    return ua.Variant(ua.LocalizedText(text, "en"), T.LocalizedText)


def _deep() -> Iterator[Member]:
    path = "Deep"
    yield _object(path)
    yield Member(
        path=f"{path}.Long",
        node_class=NodeClass.VARIABLE,
        browse_name=ua.QualifiedName("N" * LONG, SITE_NS),
        type_definition=ua.NodeId(ua.ObjectIds.BaseDataVariableType),
        data_type=ua.NodeId(ua.ObjectIds.Int32),
        access=OPEN,
        value=ua.Variant(0, T.Int32),
    )
    for level in range(1, DEEP + 1):
        path = f"{path}.Level{level}"
        yield _object(path)


# -- access


def _everybody(_: Caller) -> int:
    return EVERYTHING


def _operators(caller: Caller) -> int:
    """Everybody reads, operators write."""
    return EVERYTHING if Role.OPERATOR in caller.roles else int(Access.READ)


def _engineers_only(caller: Caller) -> int:
    return EVERYTHING if Role.ENGINEER in caller.roles else 0


ACCESS: Mapping[str, tuple[Access, Callable[[Caller], int]]] = {
    "ReadOnly": (Access.READ, _everybody),
    "WriteOnly": (Access.WRITE, _everybody),
    "None": (Access(0), _everybody),
    "ValueOnly": (Access.READ | Access.WRITE, _everybody),
    "OperatorWrites": (Access.READ | Access.WRITE, _operators),
    "EngineerOnly": (Access.READ | Access.WRITE, _engineers_only),
}
"""Variable -> its AccessLevel, and what of it a caller has; `ValueOnly` takes no status and no timestamps."""


# -- methods


def _argument(name: str, data_type: str, rank: int = -1) -> ua.Argument:
    return ua.Argument(
        Name=name,
        DataType=ua.NodeId(T[data_type].value),
        ValueRank=rank,
        ArrayDimensions=[0] if rank == 1 else [],
        Description=ua.LocalizedText(f"{name} of type {data_type}", "en"),
    )


def _inputs(*types: str, rank: int = -1) -> tuple[ua.Argument, ...]:
    return tuple(_argument(f"In{i}", name, rank) for i, name in enumerate(types, 1))


def _outputs(*types: str, rank: int = -1) -> tuple[ua.Argument, ...]:
    return tuple(_argument(f"Out{i}", name, rank) for i, name in enumerate(types, 1))


SIGNATURES: Mapping[str, tuple[tuple[ua.Argument, ...], tuple[ua.Argument, ...]]] = {
    "NoArguments": ((), ()),
    "Input": (_inputs("Int32"), ()),
    "Output": ((), _outputs("Int32")),
    "InputOutput": (_inputs("Double"), _outputs("Double")),
    "Add": (_inputs("Double", "Double"), _outputs("Double")),
    "Arrays": (_inputs("Int32", "String", rank=1), _outputs("Int32", "String", rank=1)),
    "EveryType": (_inputs(*VALUES), _outputs(*VALUES)),
    "Slow": (_inputs("UInt32"), ()),
    "NotExecutable": ((), ()),
    "RaiseTypedEvent": (
        (_argument("EventType", "NodeId"), _argument("Message", "String"), _argument("Severity", "UInt16")),
        (),
    ),
    "RaiseEvent": ((_argument("Message", "String"), _argument("Severity", "UInt16")), ()),
    "RaiseAlarm": ((), ()),
    "ClearAlarm": ((), ()),
    "Recommend": (
        (_argument("Text", "String"), _argument("Seconds", "Double")),
        (_argument("RecommendationId", "String"),),
    ),
}
"""Method -> inputs, outputs. What has equal inputs and outputs gives back what it was given."""
BASE_EVENT = ua.NodeId(ua.ObjectIds.BaseEventType)
SLOWEST = 60_000
"""Milliseconds a call of `Slow` takes at most."""


def _methods() -> Iterator[Member]:
    for name, (inputs, outputs) in SIGNATURES.items():
        path = f"Methods.{name}"
        yield Member(
            path=path,
            node_class=NodeClass.METHOD,
            browse_name=_name(path),
            reference=reference_id("HasComponent"),
            executable=name != "NotExecutable",
            inputs=inputs,
            outputs=outputs,
        )


async def _nothing(_caller: Caller, _object: Any, _arguments: tuple[Any, ...]) -> Sequence[Any]:
    return ()


async def _forty_two(_caller: Caller, _object: Any, _arguments: tuple[Any, ...]) -> Sequence[Any]:
    return (42,)


async def _echo(_caller: Caller, _object: Any, arguments: tuple[Any, ...]) -> Sequence[Any]:
    return arguments


async def _add(_caller: Caller, _object: Any, arguments: tuple[Any, ...]) -> Sequence[Any]:
    return (arguments[0] + arguments[1],)


async def _slow(_caller: Caller, _object: Any, arguments: tuple[Any, ...]) -> Sequence[Any]:
    """Takes as many milliseconds as it is told."""
    await asyncio.sleep(min(arguments[0], SLOWEST) / 1000)
    return ()


class Playground:
    """The playground's life: answers methods, changes what is dynamic, records the ramp."""

    def __init__(
        self,
        server: UaServer,
        find: Find,
        judge: Callable[[Basis], None],
        settled: Callable[[], Awaitable[None]],
        recommend: Callable[[Recommendation], Awaitable[None]],
        recorder: Recorder,
        history: Archive,
        clock: Clock,
    ) -> None:
        """`find` and `judge` are told of the alarms to play with, `settled` returns when that is shown; `recommend`
        publishes advice."""
        self._server = server
        self._find = find
        self._judge = judge
        self._settled = settled
        self._recommend = recommend
        self._recorder = recorder
        self._history = history
        self._clock = clock
        self._source = ""
        """The stream whose alarms are played with."""

    def judge(self, basis: Basis) -> None:
        """What an alarm is judged by has another quality; of those driven here only its variable says so."""
        if basis.source != self._source or basis.kind not in {drive.kind for drive in DRIVES.values()}:
            self._judge(basis)

    def link(self, alarm_source: str) -> None:
        """Let everybody write and call; `alarm_source` is the stream whose alarm is played with."""
        self._source = alarm_source
        for instance in instances():
            for member in instance.template.members:
                if member.node_class is NodeClass.VARIABLE and member.reference != HAS_PROPERTY:
                    name = member.path.removeprefix("Access.")
                    rights = ACCESS[name][1] if name in ACCESS else _everybody
                    self._server.grant(site(f"{ROOT}.{member.path}"), rights)
                elif member.access & Access.SEMANTIC_CHANGE:
                    self._let_redefine(f"{ROOT}.{member.path}")
        for path in VALUED:
            shown = partial(self._name_state, f"{ROOT}.{path}.ValueAsText")
            self._server.grant(site(f"{ROOT}.{path}"), _everybody, shown)
        now = self._clock.now()
        for name, code in STATUSES.items():
            self._server.write(f"{ROOT}.Status.{name}", ua.Variant(0.0, T.Double), code, now, now)
        for node, kind in zip(RECORDED, HISTORIES.values(), strict=True):
            self._server.historize(node, self._history, stepped=kind != "Double")
            self._server.grant(site(f"{node}.Annotations"), _everybody)
        for drive in DRIVES:
            node = site(f"{ROOT}.Alarms.{drive}")
            self._server.grant(node, _everybody, partial(self._drive, alarm_source, DRIVES[drive]))
            self._judge(Basis(kind=DRIVES[drive].kind, source=alarm_source, time=now, quality=Quality.GOOD))
        for name, handler in self._handlers(alarm_source).items():
            self._server.link_method(site(f"{ROOT}.Methods.{name}"), handler, lambda _: True)

    def _let_redefine(self, node: str) -> None:
        owner = node.rpartition(".")[0]
        self._server.grant(site(node), _everybody, lambda _: self._server.redefine(owner))

    def _handlers(self, alarm_source: str) -> Mapping[str, Handler]:
        async def raise_event(_caller: Caller, _object: Any, arguments: tuple[Any, ...]) -> Sequence[Any]:
            message, severity = arguments
            self._server.publish_event(self._event(BASE_EVENT, message, min(max(severity, 1), 1000)))
            return ()

        async def raise_typed_event(_caller: Caller, _object: Any, arguments: tuple[Any, ...]) -> Sequence[Any]:
            event_type, message, severity = arguments
            if not self._server.space.is_subtype(event_type, BASE_EVENT):
                raise InvalidArgument(
                    "EventType: not a type of events", [ua.StatusCodes.BadTypeDefinitionInvalid, 0, 0]
                )
            self._server.publish_event(self._event(event_type, message, min(max(severity, 1), 1000)))
            return ()

        def alarm(value: float) -> Handler:
            async def handler(_caller: Caller, _object: Any, _arguments: tuple[Any, ...]) -> Sequence[Any]:
                drive = DRIVES["Score"]
                self._find(self._finding(alarm_source, drive, value))
                await self._settled()
                return ()

            return handler

        async def recommend(_caller: Caller, _object: Any, arguments: tuple[Any, ...]) -> Sequence[Any]:
            text, seconds = arguments
            advice = _advice(text, seconds, self._clock.now())
            await self._recommend(advice)
            return (advice.recommendation_id,)

        return {
            "NoArguments": _nothing,
            "NotExecutable": _nothing,
            "Input": _nothing,
            "Output": _forty_two,
            "InputOutput": _echo,
            "Add": _add,
            "Arrays": _echo,
            "EveryType": _echo,
            "Slow": _slow,
            "RaiseEvent": raise_event,
            "RaiseTypedEvent": raise_typed_event,
            "RaiseAlarm": alarm(30.0),
            "ClearAlarm": alarm(100.0),
            "Recommend": recommend,
        }

    def _event(self, event_type: ua.NodeId, message: str, severity: int) -> Event:
        now = self._clock.now()
        return Event(
            event_id=secrets.token_bytes(16),
            event_type=event_type,
            source=site(ROOT),
            source_name=ROOT,
            time=now,
            received=now,
            severity=severity,
            message=message,
        )

    def _drive(self, source: str, drive: Drive, data: Any) -> None:
        """Somebody wrote the input of an alarm."""
        value, code = data.Value.Value, data.StatusCode.value if data.StatusCode is not None else 0
        self._judge(Basis(kind=drive.kind, source=source, time=self._clock.now(), quality=code))
        if value is not None and code < BAD:
            self._find(self._finding(source, drive, value))

    def _finding(self, source: str, drive: Drive, value: float) -> Finding:
        level = drive.level(value)
        return Finding(
            kind=drive.kind,
            source=source,
            time=self._clock.now(),
            level=level,
            value=value,
            limit=drive.limits[level] if level else math.nan,
            text=f"{source}: {drive.kind} by hand, {value:g}, {level or 'normal'}",
        )

    def _name_state(self, node: str, data: Any) -> None:
        now = self._clock.now()
        self._server.write(node, _text(STATES[data.Value.Value]), 0, now, now)

    async def run(self) -> None:
        """Until cancelled."""
        await self._fill_ramp()
        for node in RECORDED:
            oldest = await self._history.read_raw(node, 0, None, 1)
            self._server.begins(node, int(oldest.times[0]))
        started, step = self._clock.monotonic(), 0
        while True:
            self._change(step)
            if step % round(1 / PERIOD) == 0:
                await self._record([self._clock.now()])
            step += 1
            await self._clock.sleep_until(started + step * PERIOD)

    def _change(self, step: int) -> None:
        now = self._clock.now()
        for name in DYNAMIC:
            self._server.write(f"{ROOT}.Dynamic.{name}", ua.Variant(_dynamic(name, step, now), T[name]), 0, now, now)

    async def _fill_ramp(self) -> None:
        """The last ten minutes, unless an earlier run has recorded some of them."""
        now = self._clock.now() // SECOND * SECOND
        first = now - TREND_SECONDS * SECOND
        if not len((await self._history.read_raw(RAMP, first, None, 1)).times):
            await self._record(range(first, now, SECOND))

    async def _record(self, times: Iterable[int]) -> None:
        """The ramp at these times, recorded and then shown."""
        rows = [
            Row(
                group=GROUP,
                source_time=time,
                received_time=time,
                values=_trend(time // SECOND),
                status=np.full(len(RECORDED), Quality.GOOD, np.uint32),
                texts={RECORDED.index(TEXT): _word(time // SECOND)},
            )
            for time in times
        ]
        await asyncio.wrap_future(self._recorder.append(rows))
        last = rows[-1]
        for column, (node, kind) in enumerate(zip(RECORDED, HISTORIES.values(), strict=True)):
            native = last.texts[column] if column in last.texts else NATIVE[kind](last.values[column])
            self._server.write(node, ua.Variant(native, T[kind]), 0, last.source_time, last.received_time)


def _advice(text: str, seconds: float, now: int) -> Recommendation:
    """Advice nobody gave, open for so many seconds."""
    if not 0 < seconds <= DAY:
        raise InvalidArgument(f"Seconds: more than 0, at most {DAY}", [0, ua.StatusCodes.BadOutOfRange])
    key = f"REC-{secrets.token_hex(8)}"
    return Recommendation(
        recommendation_id=key,
        agent="playground",
        subject=f"{ROOT}.{key}",
        text=text[:254],
        rationale="somebody called Recommend",
        confidence=0.5,
        priority=200,
        created=now,
        expires=now + round(seconds * SECOND),
    )


def _trend(second: int) -> Floats:
    """Of the recorded variables at a second."""
    return np.array([second % 100, second % 1000, second // 10 % 2, second // 60 % 7, 0], np.float64)


def _word(second: int) -> str:
    """The recorded text at a second."""
    return TEXTS[second // 7 % len(TEXTS)]


def _dynamic(name: str, step: int, now: int) -> Any:
    if name == "Boolean":
        return step % 2 == 1
    if name == "String":
        return f"step {step}"
    if name == "DateTime":
        return datetime.fromtimestamp(now / SECOND, UTC)
    low, high = NUMBERS[name]
    if name in ("Float", "Double"):
        return low + (high - low) * (math.sin(step / 10) + 1) / 2
    return int(low) + step % int(high - low + 1)
