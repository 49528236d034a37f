"""What a part of the address space looks like, without where it is stored: templates, instances, events.

A template is a tree of members, compiled once per type; an instance is a template, the string id it hangs under and
what differs. The NodeId of a member is `ns=3;s=<prefix>.<path>`, so ids follow from configuration alone and never
change with restarts or neighbours. Knows nothing of e-noses.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from functools import lru_cache

from asyncua import ua

TYPES_NS = 2
"""Namespace index of our types; fixed, because Ignition keeps the index in its item paths (information model 1.2)."""
SITE_NS = 3
"""Namespace index of all instances."""
TYPES_URI = "http://enose.dev/UA/ENose/"
SITE_URI = "http://enose.dev/UA/ENose/Site/"


class NodeClass(IntEnum):
    """Part 3 8.29."""

    OBJECT = 1
    VARIABLE = 2
    METHOD = 4
    VIEW = 128


class Access(IntFlag):
    """AccessLevel bits, Part 3 8.57."""

    READ = 1
    WRITE = 2
    HISTORY_READ = 4
    HISTORY_WRITE = 8
    SEMANTIC_CHANGE = 16
    STATUS_WRITE = 32
    TIMESTAMP_WRITE = 64


class Notifies(IntFlag):
    """EventNotifier bits, Part 3 8.59."""

    SUBSCRIBE = 1
    HISTORY_READ = 4


HAS_COMPONENT = ua.NodeId(ua.ObjectIds.HasComponent)
HAS_PROPERTY = ua.NodeId(ua.ObjectIds.HasProperty)
ORGANIZES = ua.NodeId(ua.ObjectIds.Organizes)
HAS_NOTIFIER = ua.NodeId(ua.ObjectIds.HasNotifier)
HAS_EVENT_SOURCE = ua.NodeId(ua.ObjectIds.HasEventSource)
HAS_CONDITION = ua.NodeId(ua.ObjectIds.HasCondition)


@lru_cache(2**15)
def site(identifier: str) -> ua.NodeId:
    """NodeId of an instance node; those asked for often are made once."""
    return ua.NodeId(identifier, SITE_NS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One node of a template. `path` is relative to the instance; '' is its root, and parents come before children."""

    path: str
    node_class: NodeClass
    browse_name: ua.QualifiedName
    """In the namespace of the type that defines it."""
    reference: ua.NodeId = HAS_COMPONENT
    """From the parent member (or, for the root, from the instance's parent) to this node."""
    type_definition: ua.NodeId | None = None
    """None for methods."""
    description: str = ""
    # Variables
    data_type: ua.NodeId | None = None
    value_rank: int = -1
    access: Access = Access.READ
    historizing: bool = False
    value: ua.Variant | None = None
    """Constant; None: published later, BadWaitingForInitialData until then."""
    # Objects
    event_notifier: int = 0
    # Methods
    executable: bool = True
    inputs: tuple[ua.Argument, ...] = ()
    outputs: tuple[ua.Argument, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    name: str
    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """A template hung into the tree."""

    template: Template
    prefix: str
    """String id of its root."""
    parent: ua.NodeId
    name: str = ""
    """Browse name of the root (ns=3); default: last element of the prefix."""
    values: Mapping[str, ua.Variant] = field(default_factory=dict)
    """Constants by path that differ from the template's, e.g. `SensorValue.EURange`."""
    descriptions: Mapping[str, str] = field(default_factory=dict)
    lengths: Mapping[str, int] = field(default_factory=dict)
    """ArrayDimensions of one-dimensional arrays by path; default 0: any length."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A further reference between two nodes, e.g. HasNotifier or membership of a view."""

    source: ua.NodeId
    type: ua.NodeId
    target: ua.NodeId


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event notification: plain fields, delivered once to each item on its source, every ancestor and Server."""

    event_id: bytes
    event_type: ua.NodeId
    source: ua.NodeId
    source_name: str
    time: int
    """ns UTC."""
    received: int
    severity: int
    message: str
    condition: ua.NodeId | None = None
    """ConditionId of an alarm's event."""
    retain: bool = False
    fields: Mapping[str, ua.Variant] = field(default_factory=dict)
    """Further fields by browse path without namespaces, `ActiveState/Id`; base event fields need not be repeated."""

    @classmethod
    def of_server(
        cls,
        event_type: ua.NodeId,
        message: str,
        severity: int,
        now: int,
        fields: Mapping[str, ua.Variant] | None = None,
    ) -> "Event":
        """What the Server object tells at `now` (ns UTC)."""
        return cls(
            event_id=secrets.token_bytes(16),
            event_type=event_type,
            source=ua.NodeId(ua.ObjectIds.Server),
            source_name="Server",
            time=now,
            received=now,
            severity=severity,
            message=message,
            fields=fields or {},
        )
