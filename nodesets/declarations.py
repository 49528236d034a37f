"""How a type is written down: instance declarations (Part 3 6.2.8), arguments, enumerations. Imports nothing.

`standard.py` holds the ns0 types we build on, `types.py` our own; from both `generate.py` writes `enose.xml` and
`opcua_server.plant.templates` compiles instances.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, TypedDict, Unpack

Rule = Literal["Mandatory", "Optional", "OptionalPlaceholder"]
"""ModellingRule (Part 3 6.4.4)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument:
    """Argument of a method (Part 3 8.6). Inputs are scalar: SCADA clients can send nothing else."""

    name: str
    data_type: str
    description: str
    array: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    inputs: tuple[Argument, ...] = ()
    outputs: tuple[Argument, ...] = ()
    optional: int = 0
    """How many of the last inputs a caller may leave out (Part 3 5.7.3)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """One member of a type."""

    name: str
    node_class: Literal["Object", "Variable", "Method"]
    type: str = ""
    """Name of the type definition; empty for methods."""
    reference: str = "HasComponent"
    rule: Rule = "Mandatory"
    description: str = ""
    members: tuple["Declaration", ...] = ()
    """Members beyond those of the type definition."""
    notifier: bool = False
    """Objects: may be subscribed to for events."""
    data_type: str = ""
    array: bool = False
    enum: str = ""
    """Enumeration whose numbers an Int32 or UInt32 takes."""
    unit: str = ""
    """Key of `units.UNITS`; the instance may say otherwise."""
    low: float = 0.0
    high: float = 0.0
    """EURange, in the unit."""
    value: str | None = None
    """Constant of a String."""
    method: Method | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Type:
    """An ObjectType or VariableType."""

    name: str
    base: str
    members: tuple[Declaration, ...] = ()
    description: str = ""
    abstract: bool = False
    notifier: bool = False
    """Instances may be subscribed to for events."""
    number: int = 0
    """ns0 identifier of a standard type."""
    states: Mapping[str, int] = field(default_factory=dict)
    """State machine: StateNumber by name, the first is initial."""
    transitions: tuple[tuple[str, str], ...] = ()
    """State machine: (from, to)."""


class More(TypedDict, total=False):
    """Fields of a Declaration that its constructors leave open."""

    type: str
    reference: str
    rule: Rule
    members: tuple[Declaration, ...]
    notifier: bool
    array: bool
    enum: str
    unit: str
    low: float
    high: float
    value: str


def variable(name: str, data_type: str, description: str = "", **more: Unpack[More]) -> Declaration:
    """BaseDataVariable, component of its object."""
    plain = Declaration(
        name=name, node_class="Variable", type="BaseDataVariableType", data_type=data_type, description=description
    )
    return replace(plain, **more)


def prop(name: str, data_type: str, description: str = "", **more: Unpack[More]) -> Declaration:
    """Property of its object or variable."""
    return replace(variable(name, data_type, description, type="PropertyType", reference="HasProperty"), **more)


def analog(
    name: str, unit: str, low: float, high: float, description: str, *, rule: Rule = "Mandatory", array: bool = False
) -> Declaration:
    """Double with EURange and EngineeringUnits (Part 8 5.3.2.5)."""
    plain = variable(name, "Double", description, type="AnalogUnitRangeType", rule=rule, array=array)
    return replace(plain, unit=unit, low=low, high=high)


def item(name: str, type_: str, description: str = "", **more: Unpack[More]) -> Declaration:
    """Object of a type."""
    return replace(Declaration(name=name, node_class="Object", type=type_, description=description), **more)


def group(name: str, description: str, *members: Declaration) -> Declaration:
    """Plain object that only groups."""
    return item(name, "BaseObjectType", description, members=members)


def folder(name: str, description: str, *members: Declaration, notifier: bool = False) -> Declaration:
    """Folder, by convention of one kind of object."""
    return item(name, "FolderType", description, members=members, notifier=notifier)


def placeholder(name: str, type_: str, description: str = "") -> Declaration:
    """Any number of instances, each under its own name."""
    return item(f"<{name}>", type_, description, rule="OptionalPlaceholder")
