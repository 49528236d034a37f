"""Method service set (Part 4 5.12): everything is checked before a handler sees a call.

Order of the checks: object and method exist, belong together (BadMethodInvalid), the method has a handler
(BadNotImplemented), the caller may (BadUserAccessDenied), count and types of the arguments. Numbers are converted
when nothing is lost: Ignition's scripts send Int64 and Double for everything.
"""

import logging
import math
import struct
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from asyncua import ua

from nodesets.errors import EnoseError, InvalidArgument
from nodesets.methods import MASK, SECRETS
from nodesets.model import Caller
from nodesets.ports import Clock, SystemClock
from opcua_server.services.acts import CONDITION_FIELDS, called, condition_event
from opcua_server.services.audit import Act
from opcua_server.services.space import NUMBER_TYPES, Space
from opcua_server.services.status import Fault, status
from opcua_server.services.tree import Wanted

log = logging.getLogger(__name__)

Handler = Callable[[Caller, Any, tuple[Any, ...]], Awaitable[Sequence[Any]]]
"""(caller, object id, arguments as plain Python values) -> outputs, Variants or plain values of the declared types."""
Allowed = Callable[[Caller], bool]
Refused = Callable[[Caller, Any, int], Awaitable[None]]
"""(caller, object id, StatusCode): told of a call that was not let through to the handler, before it is answered."""

HAS_COMPONENT = ua.NodeId(ua.ObjectIds.HasComponent)
CONDITION = ua.NodeId(ua.ObjectIds.ConditionType)
SHELVING = ua.NodeId(ua.ObjectIds.ShelvedStateMachineType)
UPDATE_STATE = ua.NodeId(ua.ObjectIds.AuditUpdateStateEventType)
HAS_OPTIONAL_INPUT = ua.NodeId(131)
"""HasOptionalInputArgumentDescription (Part 3 7.25): it names an argument a call may leave out."""
OPTIONAL_INPUTS = Wanted(forward=True, kinds=HAS_OPTIONAL_INPUT.__eq__)
INTEGERS = {
    ua.VariantType.SByte: (-(2**7), 2**7 - 1),
    ua.VariantType.Byte: (0, 2**8 - 1),
    ua.VariantType.Int16: (-(2**15), 2**15 - 1),
    ua.VariantType.UInt16: (0, 2**16 - 1),
    ua.VariantType.Int32: (-(2**31), 2**31 - 1),
    ua.VariantType.UInt32: (0, 2**32 - 1),
    ua.VariantType.Int64: (-(2**63), 2**63 - 1),
    ua.VariantType.UInt64: (0, 2**64 - 1),
}
EMPTY = {ua.VariantType.String: "", ua.VariantType.ByteString: b""}
"""A null String is an empty one to a handler (Part 6 5.2.2.4: the two are not told apart by many clients), and so is a
null array of them."""


class Mismatch(Exception):
    """The value is not of the declared type, nor can it become so without loss."""


@dataclass(frozen=True, slots=True)
class StateChange:
    """A state machine went from one state to another (Part 16 4.4.18)."""

    machine: Any
    """NodeIds of the machine and of its states."""
    old: Any
    new: Any


Finish = Callable[[Sequence[Any]], tuple[Mapping[str, Any], Sequence[StateChange]]]
"""After a call, with its outputs as Variants, none of a refused one: fields its event has beside those of every call,
Variants by name; what changed its state."""


def _nothing_more(_outputs: Sequence[Any]) -> tuple[Mapping[str, Any], Sequence[StateChange]]:
    return {}, ()


@dataclass(frozen=True, slots=True)
class Audited:
    """How the calls of a method are told to auditors."""

    event_type: Any = None
    """NodeId of a subtype of AuditUpdateMethodEventType; None: that, or what Part 9 5.10 has for a condition."""
    logged: bool = False
    """The handler puts every call into the audit log itself, and `Refused` the others."""
    silent: bool = False
    """It changes nothing, and is not told (Part 4 6.5.9)."""
    begin: Callable[[Any, Sequence[Any]], Finish] = lambda _object, _inputs: _nothing_more
    """Before the call: (object id, arguments as Variants)."""


EVERY_CALL = Audited()
CHANGES_NOTHING = Audited(silent=True)


@dataclass(frozen=True, slots=True)
class Link:
    handler: Handler
    allowed: Allowed
    refused: Refused
    audited: Audited


def _untold_act(_act: Act) -> None:
    """No auditors."""


async def untold(_caller: Caller, _object_id: Any, _status: int) -> None:
    """`Refused` of a method whose refusals nobody needs to know."""


class Methods:
    def __init__(self, space: Space, clock: Clock | None = None, tell: Callable[[Act], object] = _untold_act) -> None:
        """`tell` is given every call, for auditors."""
        self._space = space
        self._clock = clock or SystemClock()
        self._tell = tell
        self._links: dict[Any, Link] = {}

    def link(
        self,
        method_id: Any,
        handler: Handler,
        allowed: Allowed,
        refused: Refused = untold,
        audited: Audited = EVERY_CALL,
    ) -> None:
        """Raises LookupError when there is no such method node."""
        if self._space.node_class(method_id) != ua.NodeClass.Method:
            raise LookupError(f"{method_id.to_string()} is not a method")
        self._links[method_id] = Link(handler, allowed, refused, audited)

    def forget_missing(self) -> None:
        """Drop the handlers of nodes that are no more."""
        self._links = {node_id: link for node_id, link in self._links.items() if node_id in self._space}

    def executable(self, caller: Caller, method_id: Any) -> bool:
        """UserExecutable: the method does something, and this caller may."""
        link = self._links.get(method_id) or self._inherited(self._owner(method_id), method_id)
        return link is not None and link.allowed(caller)

    async def call(self, caller: Caller, request: Any, entry: str = "") -> Any:
        """One CallMethodRequest -> CallMethodResult. `entry`: AuditEntryId of the request."""
        began = self._clock.now()
        try:
            link = self._find(request.ObjectId, request.MethodId)
        except Fault as fault:
            result = ua.CallMethodResult(StatusCode=status(fault.status))
            self._tell(called(caller, entry, began, request, result, reason="", inputs=[], logged=False))
            return result
        finish = link.audited.begin(request.ObjectId, request.InputArguments or [])
        result, reason = await self._carry_out(link, caller, request)
        if not link.audited.silent:
            for act in self._acts(caller, entry, began, request, result, reason, link.audited, finish):
                self._tell(act)
        return result

    async def _carry_out(self, link: Link, caller: Caller, request: Any) -> tuple[Any, str]:
        """CallMethodResult, and why not in more words."""
        arguments: list[Any] = list(request.InputArguments or [])
        try:
            values = await self._admitted(link, caller, request, arguments)
            outputs = await link.handler(caller, request.ObjectId, values)
            return ua.CallMethodResult(OutputArguments=self._outputs(request.MethodId, outputs)), ""
        except Fault as fault:
            return ua.CallMethodResult(StatusCode=status(fault.status)), fault.reason
        except InvalidArgument as error:
            codes = [status(c) for c in error.arguments or (0,) * len(arguments)]
            return ua.CallMethodResult(StatusCode=status(error.status), InputArgumentResults=codes), str(error)
        except EnoseError as error:
            return ua.CallMethodResult(StatusCode=status(error.status)), str(error)
        except Exception:
            # A handler's mistake is the answer to its own call, so that calls before it in the request keep theirs.
            log.exception("method %s failed", request.MethodId.to_string())
            return ua.CallMethodResult(StatusCode=status(ua.StatusCodes.BadInternalError)), ""

    async def _admitted(self, link: Link, caller: Caller, request: Any, given: list[Any]) -> tuple[Any, ...]:
        """Arguments of a call that may be made. Raises Fault, InvalidArgument."""
        try:
            if not link.allowed(caller):
                raise Fault(ua.StatusCodes.BadUserAccessDenied)
            return self._arguments(request.MethodId, given)
        except (Fault, InvalidArgument) as refusal:
            await link.refused(caller, request.ObjectId, refusal.status)
            raise

    # -- what auditors are told

    def _acts(
        self,
        caller: Caller,
        entry: str,
        began: int,
        request: Any,
        result: Any,
        reason: str,
        audited: Audited,
        finish: Finish,
    ) -> Iterator[Act]:
        """The call, then each change of a state by it."""
        fields, changes = finish(result.OutputArguments or [])
        more: dict[str, Any] = {"event_type": audited.event_type, "fields": dict(fields)}
        name = self._space.attribute(request.MethodId, ua.AttributeIds.BrowseName).Name
        condition = self._condition(request.ObjectId)
        if condition is not None and condition_event(name):
            more |= {
                "event_type": ua.NodeId(condition_event(name)),
                "source": condition,
                "source_name": f"Method/{name}",
                "fields": self._of_condition(request),
            }
        inputs = self._masked(request, refused=bool(result.StatusCode.value))
        told = called(
            caller, entry, began, request, result, reason=reason, inputs=inputs, logged=audited.logged, **more
        )
        yield told
        for change in changes:
            states = {
                "OldStateId": ua.Variant(change.old, ua.VariantType.NodeId),
                "NewStateId": ua.Variant(change.new, ua.VariantType.NodeId),
            }
            yield replace(
                told,
                event_type=UPDATE_STATE,
                source=change.machine,
                source_name=f"Method/{name}",
                fields={**told.fields, **states},
                logged=True,
            )

    def _condition(self, object_id: Any) -> Any | None:
        """The condition a method is called on, itself or by its ShelvingState (Part 9 5.8.17)."""
        kind = self._space.type_definition(object_id)
        if kind is None:
            return None
        if self._space.is_subtype(kind, SHELVING):
            return self._owner(object_id)
        return object_id if self._space.is_subtype(kind, CONDITION) else None

    def _of_condition(self, request: Any) -> dict[str, Any]:
        declared = self._space.property(request.MethodId, "InputArguments") or []
        fields = {}
        for argument, given in zip(declared, request.InputArguments or [], strict=False):
            name, kind = CONDITION_FIELDS.get(argument.Name, ("", None))
            if name and given.VariantType == kind:
                fields[name] = given
        return fields

    def _masked(self, request: Any, *, refused: bool) -> list[Any]:
        """Arguments without secrets; of a refused call with secrets none, since any of them may be one, misplaced."""
        given = list(request.InputArguments or [])
        declared = self._space.property(request.MethodId, "InputArguments") or []
        secret = [argument.Name in SECRETS for argument in declared]
        if not any(secret):
            return given
        every = refused or len(given) != len(declared)
        mask = ua.Variant(MASK, ua.VariantType.String)
        return [mask if every or secret[i] else value for i, value in enumerate(given)]

    # -- which handler

    def _find(self, object_id: Any, method_id: Any) -> Link:
        if object_id not in self._space:
            raise Fault(ua.StatusCodes.BadNodeIdUnknown)
        if self._space.node_class(method_id) != ua.NodeClass.Method:
            raise Fault(ua.StatusCodes.BadMethodInvalid)
        if not any(self._has(owner, method_id) for owner in self._owners(object_id)):
            raise Fault(ua.StatusCodes.BadMethodInvalid)
        if self._space.attribute(method_id, ua.AttributeIds.Executable) is False:
            raise Fault(ua.StatusCodes.BadNotExecutable)
        link = self._links.get(method_id) or self._inherited(object_id, method_id)
        if link is None:
            raise Fault(ua.StatusCodes.BadNotImplemented)
        return link

    def _owners(self, object_id: Any) -> Iterator[Any]:
        """The object and its types upwards: an instance need not repeat its type's methods (Part 9 5.5.4).

        After them what they have of a shelving: it is called on the alarm as well (Part 9 5.8.17.2).
        """
        own = list(self._self_and_types(object_id))
        yield from own
        for owner in own:
            for r in self._space.references(owner, self._components(forward=True)):
                if r.TypeDefinition == SHELVING:
                    yield from self._self_and_types(r.NodeId)

    def _self_and_types(self, object_id: Any) -> Iterator[Any]:
        if self._space.node_class(object_id) == ua.NodeClass.ObjectType:
            yield from self._space.supertypes(object_id)
            return
        yield object_id
        kind = self._space.type_definition(object_id)
        if kind is not None:
            yield from self._space.supertypes(kind)

    def _has(self, owner: Any, method_id: Any) -> bool:
        components = self._space.references(owner, self._components(forward=True))
        return any(r.NodeId == method_id for r in components)

    def _owner(self, method_id: Any) -> Any | None:
        owners = self._space.references(method_id, self._components(forward=False))
        return next((r.NodeId for r in owners), None)

    def _components(self, *, forward: bool) -> Wanted:
        return Wanted(forward=forward, kinds=self._space.of_type(HAS_COMPONENT))

    def _inherited(self, object_id: Any | None, method_id: Any) -> Link | None:
        """Handler of the type's method of the same name, for an instance's own copy of it."""
        if object_id is None:
            return None
        name = self._space.attribute(method_id, ua.AttributeIds.BrowseName)
        for owner in self._owners(object_id):
            for r in self._space.references(owner, Wanted(forward=True)):
                if r.BrowseName == name and r.NodeId in self._links:
                    return self._links[r.NodeId]
        return None

    # -- arguments

    def _arguments(self, method_id: Any, given: list[Any]) -> tuple[Any, ...]:
        declared = self._space.property(method_id, "InputArguments") or []
        if len(given) < len(declared) - self._optional(method_id):
            raise Fault(ua.StatusCodes.BadArgumentsMissing)
        if len(given) > len(declared):
            raise Fault(ua.StatusCodes.BadTooManyArguments)
        values, codes = [], []
        for argument, variant in zip(declared, given, strict=False):  # what is left out has the handler's default
            try:
                values.append(coerce(variant, self._space.built_in(argument.DataType), argument.ValueRank))
                codes.append(0)
            except Mismatch:
                codes.append(ua.StatusCodes.BadTypeMismatch)
        if any(codes):
            raise InvalidArgument("argument of the wrong type", codes)
        return tuple(values)

    def _optional(self, method_id: Any) -> int:
        """How many of the last arguments may be left out (Part 3 5.7.3)."""
        return sum(1 for _ in self._space.references(method_id, OPTIONAL_INPUTS))

    def _outputs(self, method_id: Any, outputs: Sequence[Any]) -> list[Any]:
        declared = self._space.property(method_id, "OutputArguments") or []
        if len(outputs) != len(declared):
            raise TypeError(
                f"{method_id.to_string()} declares {len(declared)} outputs, its handler gave {len(outputs)}"
            )
        return [
            value
            if isinstance(value, ua.Variant)
            else ua.Variant(value, ua.VariantType(self._space.built_in(a.DataType)))
            for a, value in zip(declared, outputs, strict=True)
        ]


def coerce(variant: Any, built_in: int, rank: int = -1) -> Any:
    """Plain value of an argument as the built-in type declared for it. Raises Mismatch.

    `rank`: -1 scalar, 1 or more an array, -2 and -3 either (Part 3 5.6.2).
    """
    if rank >= 0 and variant.Value is None and ua.VariantType(built_in) in EMPTY:
        return []
    is_array = bool(variant.is_array) or isinstance(variant.Value, list)
    if (is_array and rank == -1) or (not is_array and rank >= 0):
        raise Mismatch
    if built_in == ua.VariantType.Variant.value:
        return variant.Value
    wanted = ua.VariantType(built_in)
    given = variant.VariantType
    if is_array:
        return [_scalar(value, given, wanted) for value in variant.Value or []]
    return _scalar(variant.Value, given, wanted)


def _scalar(value: Any, given: Any, wanted: Any) -> Any:
    if value is None and wanted in EMPTY and given in (wanted, ua.VariantType.Null):
        return EMPTY[wanted]
    if value is None:
        raise Mismatch
    if given == wanted:
        return value
    if given.value not in NUMBER_TYPES or wanted.value not in NUMBER_TYPES:
        raise Mismatch
    return _number(value, wanted)


def _number(value: float, wanted: Any) -> float:
    if wanted in INTEGERS:
        low, high = INTEGERS[wanted]
        if isinstance(value, float) and not value.is_integer():  # false for inf and NaN too
            raise Mismatch
        if not low <= int(value) <= high:
            raise Mismatch
        return int(value)
    try:
        exact = float(value)
        narrow = struct.unpack("<f", struct.pack("<f", exact))[0] if wanted == ua.VariantType.Float else exact
    except OverflowError as error:
        raise Mismatch from error
    if narrow != value and not math.isnan(exact):
        raise Mismatch
    return exact
