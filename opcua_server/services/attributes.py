"""Attribute service set (Part 4 5.11): Read and Write. HistoryRead is in history.py."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from asyncua import ua

from nodesets.model import Caller, Role
from opcua_server.services.definitions import definition
from opcua_server.services.nodes import Access
from opcua_server.services.roles import ADMINISTRATORS, Permissions, Sees
from opcua_server.services.space import ENUMERATION, NUMBER_TYPES, Space
from opcua_server.services.status import GOOD, NULL, Fault, is_bad, status

VALUE = ua.AttributeIds.Value
STRUCTURE = ua.NodeId(ua.ObjectIds.Structure)
WRITES = int(Access.WRITE | Access.HISTORY_WRITE | Access.STATUS_WRITE | Access.TIMESTAMP_WRITE)
PERMISSIONS = frozenset(
    {ua.AttributeIds.RolePermissions, ua.AttributeIds.UserRolePermissions, ua.AttributeIds.AccessRestrictions}
)
"""Attributes every node has, worked out when they are asked for."""
NOT_THERE = (ua.StatusCodes.BadNodeIdUnknown, ua.StatusCodes.BadAttributeIdInvalid)
"""Refusals of a Read that have no time."""
COMPUTED = PERMISSIONS | {ua.AttributeIds.AccessLevelEx}
"""Attributes no node has a cell for."""
DEFAULT_BINARY = (0, "Default Binary")
"""Namespace and name of the one encoding there is."""
MAX_INDEX = 0xFFFFFFFF
"""Of a NumericRange: its indexes are UInt32."""


Rights = Callable[[Caller], int]
"""AccessLevel bits a caller has of those a variable has."""
Written = Callable[[Any], None]
"""Told of a DataValue a client has written."""


Tell = Callable[[Any, Any, int], None]
"""(WriteValue, DataValue before it or None, StatusCode): told of each value of a Write."""


@dataclass(frozen=True, slots=True)
class Grant:
    rights: Rights
    written: Written | None


class Attributes:
    """`executable(caller, method_id)` answers UserExecutable; `put(node_id, data)` shows a DataValue.

    Default deny: a variable is written only by whom a grant lets, whatever its AccessLevel.
    """

    def __init__(
        self,
        space: Space,
        executable: Callable[[Caller, Any], bool],
        put: Callable[[Any, Any], None],
        sees: Sees,
        *,
        secured: bool = True,
    ) -> None:
        """`secured`: all sessions are signed and encrypted."""
        self._space = space
        self._sees = sees
        self._executable = executable
        self._put = put
        self._permissions = Permissions(space, sees, self.user_access, executable, secured=secured)
        self._grants: dict[Any, Grant] = {}
        self._computed: dict[Any, Callable[[], None]] = {}

    def compute(self, node_id: Any, refresh: Callable[[], None]) -> None:
        """Call `refresh`, which shows its value anew, before a variable is read."""
        self._computed[node_id] = refresh

    def grant(self, node_id: Any, rights: Rights, written: Written | None = None) -> None:
        """Let callers read or write a variable as `rights` says; `written` is told of what a client wrote."""
        self._grants[node_id] = Grant(rights, written)

    # -- Read

    def read(self, caller: Caller, parameters: Any) -> list[Any]:
        """Read (5.11.2)."""
        stamps = parameters.TimestampsToReturn
        check_timestamps(stamps)
        if not parameters.MaxAge >= 0:
            raise Fault(ua.StatusCodes.BadMaxAgeInvalid)
        return [self._read(caller, item, stamps) for item in parameters.NodesToRead]

    def _read(self, caller: Caller, item: Any, stamps: Any) -> Any:
        try:
            value = self.value(caller, item)
            if item.IndexRange:
                value = dataclasses.replace(value, Value=take(value.Value, item.IndexRange))
        except Fault as fault:
            if fault.status in NOT_THERE:
                return ua.DataValue(NULL, status(fault.status))
            value = refusal(fault)
        if item.AttributeId != VALUE:
            return stamped(ua.DataValue(value.Value, value.StatusCode), stamps, source=False)
        return stamped(value, stamps)

    def value(self, caller: Caller, item: Any) -> Any:
        """DataValue of a ReadValueId as this caller may see it, whole. Raises Fault."""
        self.check(item)
        node_id, attribute = item.NodeId, item.AttributeId
        if not self._sees(caller, node_id):
            raise Fault(ua.StatusCodes.BadUserAccessDenied)
        if attribute == VALUE and self._space.node_class(node_id) == ua.NodeClass.Variable:
            self.check_readable(caller, node_id)
            if (refresh := self._computed.get(node_id)) is not None:
                refresh()
        elif attribute == ua.AttributeIds.UserAccessLevel:
            return _data(self.user_access(caller, node_id), ua.VariantType.Byte)
        elif attribute == ua.AttributeIds.AccessLevelEx:
            return _data(self._access(node_id), ua.VariantType.UInt32)
        elif attribute == ua.AttributeIds.Executable:
            return _data(self._executable_at_all(node_id), ua.VariantType.Boolean)
        elif attribute == ua.AttributeIds.UserExecutable:
            allowed = self._executable_at_all(node_id) and self._executable(caller, node_id)
            return _data(allowed, ua.VariantType.Boolean)
        elif attribute in PERMISSIONS:
            return ua.DataValue(self._permission(caller, node_id, attribute))
        return self._stored(node_id, attribute)

    def _stored(self, node_id: Any, attribute: int) -> Any:
        data = self._space.read(node_id, attribute)
        if attribute == ua.AttributeIds.DataTypeDefinition and data.Value.Value is None:
            return ua.DataValue(definition(self._space, node_id) or NULL)
        return data

    def check(self, item: Any) -> None:
        """Whether node and attribute of a ReadValueId are there, in the encoding it asks for. Raises Fault."""
        self._check_there(item.NodeId, item.AttributeId)
        encoding = item.DataEncoding.Name
        if encoding and (item.AttributeId != VALUE or not self._structured(item)):
            raise Fault(ua.StatusCodes.BadDataEncodingInvalid)
        if encoding and (item.DataEncoding.NamespaceIndex, encoding) != DEFAULT_BINARY:
            raise Fault(ua.StatusCodes.BadDataEncodingUnsupported)

    def _check_there(self, node_id: Any, attribute: int) -> None:
        """Raises Fault BadNodeIdUnknown, BadAttributeIdInvalid."""
        if node_id not in self._space:
            raise Fault(ua.StatusCodes.BadNodeIdUnknown)
        if attribute == ua.AttributeIds.AccessLevelEx:
            present = self._space.has(node_id, ua.AttributeIds.AccessLevel)
        else:
            present = self._space.has(node_id, attribute) or attribute in PERMISSIONS
        if present and self._optional(node_id, attribute):
            present = self._stored(node_id, attribute).Value.Value is not None
        if not present:
            raise Fault(ua.StatusCodes.BadAttributeIdInvalid)

    def _permission(self, caller: Caller, node_id: Any, attribute: int) -> Any:
        """RolePermissions, UserRolePermissions and AccessRestrictions (Part 3 5.2.9 to 5.2.11)."""
        if attribute == ua.AttributeIds.AccessRestrictions:
            return self._permissions.restrictions(node_id)
        if attribute == ua.AttributeIds.UserRolePermissions:
            return self._permissions.of_roles(node_id, sorted(caller.roles))
        if not caller.roles & ADMINISTRATORS:
            raise Fault(ua.StatusCodes.BadUserAccessDenied)
        return self._permissions.of_roles(node_id, list(Role))

    def _optional(self, node_id: Any, attribute: int) -> bool:
        """DataTypeDefinition and the Value of a VariableType: without a value they are not there."""
        if attribute == VALUE:
            return not self._space.has(node_id, ua.AttributeIds.AccessLevel)
        return bool(attribute == ua.AttributeIds.DataTypeDefinition)

    def _structured(self, item: Any) -> bool:
        """A data encoding means something to structures alone (5.11.2.2)."""
        data_type = self._space.attribute(item.NodeId, ua.AttributeIds.DataType)
        return self._space.built_in(data_type) == int(ua.VariantType.ExtensionObject.value)

    def check_readable(self, caller: Caller, node_id: Any) -> None:
        """Raises Fault BadNotReadable, BadUserAccessDenied."""
        if not self._access(node_id) & Access.READ:
            raise Fault(ua.StatusCodes.BadNotReadable)
        if not self.user_access(caller, node_id) & Access.READ:
            raise Fault(ua.StatusCodes.BadUserAccessDenied)

    def user_access(self, caller: Caller, node_id: Any) -> int:
        """UserAccessLevel (Part 3 5.6.2)."""
        if not self._sees(caller, node_id):
            return 0
        grant = self._grants.get(node_id)
        rights = grant.rights(caller) if grant is not None else ~WRITES
        return self._access(node_id) & rights

    def _access(self, node_id: Any) -> int:
        return int(self._space.attribute(node_id, ua.AttributeIds.AccessLevel) or 0)

    def _executable_at_all(self, node_id: Any) -> bool:
        return bool(self._space.attribute(node_id, ua.AttributeIds.Executable))

    # -- Write

    def write(self, caller: Caller, parameters: Any, tell: Tell) -> list[Any]:
        """Write (5.11.4). Measured values come from the plant, commands through methods: few variables have a grant."""
        results = []
        for item in parameters.NodesToWrite:
            before = self._before(caller, item)
            code = self._write(caller, item)
            tell(item, before, code)
            results.append(status(code))
        return results

    def _before(self, caller: Caller, item: Any) -> Any | None:
        """DataValue a write replaces, for auditors; None where it replaces nothing a client could see."""
        if item.AttributeId != VALUE or not self.user_access(caller, item.NodeId) & Access.WRITE:
            return None
        return self._space.read(item.NodeId, VALUE)

    def _write(self, caller: Caller, item: Any) -> int:
        try:
            data = self._admitted(caller, item)
        except Fault as fault:
            return fault.status
        self._put(item.NodeId, data)
        written = self._grants[item.NodeId].written
        if written is not None:
            written(data)
        return int(ua.StatusCodes.Good)

    def _admitted(self, caller: Caller, item: Any) -> Any:
        """The DataValue a variable has after a write. Raises Fault."""
        node_id, data = item.NodeId, item.Value
        self._check_there(node_id, item.AttributeId)
        if item.AttributeId != VALUE or not self._access(node_id) & Access.WRITE:
            raise Fault(ua.StatusCodes.BadNotWritable)
        allowed = self.user_access(caller, node_id)
        if not allowed & Access.WRITE:
            raise Fault(ua.StatusCodes.BadUserAccessDenied)
        stamps = (data.SourceTimestamp, data.ServerTimestamp, data.SourcePicoseconds, data.ServerPicoseconds)
        if any(s is not None for s in stamps) and not allowed & Access.TIMESTAMP_WRITE:
            raise Fault(ua.StatusCodes.BadWriteNotSupported)
        if data.StatusCode is not None and data.StatusCode.value and not allowed & Access.STATUS_WRITE:
            raise Fault(ua.StatusCodes.BadWriteNotSupported)
        now = datetime.now(UTC)
        code = data.StatusCode or GOOD
        without = _is_null(data.Value) and is_bad(code.value)  # 7.11: of no interest beside a Bad status
        return ua.DataValue(
            NULL if without else self._fitting(node_id, data.Value, item.IndexRange),
            code,
            data.SourceTimestamp or now,
            data.ServerTimestamp or now,
            data.SourcePicoseconds,
            data.ServerPicoseconds,
        )

    def _fitting(self, node_id: Any, given: Any, index_range: str | None) -> Any:
        """The whole new value, of the variable's type, rank and range. Raises Fault."""
        if _is_null(given):
            raise Fault(ua.StatusCodes.BadTypeMismatch)
        rank = int(self._space.attribute(node_id, ua.AttributeIds.ValueRank))
        given = _as_declared(given, self._space.built_in(self._data_type(node_id)), rank)
        self._check_type(node_id, given)
        if index_range:
            given = replaced(self._space.read(node_id, VALUE).Value, given, index_range)
        elif not _has_rank(given, rank):
            raise Fault(ua.StatusCodes.BadTypeMismatch)
        self._check_range(node_id, given)
        return given

    def _data_type(self, node_id: Any) -> Any:
        return self._space.attribute(node_id, ua.AttributeIds.DataType)

    def _check_type(self, node_id: Any, given: Any) -> None:
        declared = self._data_type(node_id)
        built_in = self._space.built_in(declared)
        if built_in == ua.VariantType.Variant.value:  # abstract: Number, Integer, BaseDataType
            suits = self._space.is_subtype(ua.NodeId(given.VariantType.value), declared)
        else:
            suits = given.VariantType.value == built_in
        if built_in == ua.VariantType.ExtensionObject.value and suits:
            suits = all(self._is_structure(value, declared) for value in _flat(given.Value))
        if not suits:
            raise Fault(ua.StatusCodes.BadTypeMismatch)

    def _is_structure(self, value: Any, declared: Any) -> bool:
        """Whether a structure is one of the DataType or a subtype of it; a null one is one of any."""
        if isinstance(value, ua.ExtensionObject):  # of a type the codec does not know
            return bool(value.TypeId.is_null()) or declared == STRUCTURE
        return value is None or self._space.is_subtype(value.data_type, declared)

    def _check_range(self, node_id: Any, given: Any) -> None:
        """What the variable's own properties (Part 8 5.3.2, 5.3.3) and its enumeration (5.11.4.4) say it can be."""
        if (values := self._enumerated(self._data_type(node_id))) and not values.issuperset(_flat(given.Value)):
            raise Fault(ua.StatusCodes.BadOutOfRange)
        low, high = -math.inf, math.inf
        numbers = given.VariantType.value in NUMBER_TYPES
        if numbers and (span := self._space.property(node_id, "EURange")) is not None:
            low, high = span.Low, span.High
        elif (names := self._space.property(node_id, "EnumStrings")) is not None:
            low, high = 0, len(names) - 1
        elif (named := self._space.property(node_id, "EnumValues")) is not None:
            if any(value not in {n.Value for n in named} for value in _flat(given.Value)):
                raise Fault(ua.StatusCodes.BadOutOfRange)
            return
        else:
            return
        if not all(low <= value <= high for value in _flat(given.Value)):
            raise Fault(ua.StatusCodes.BadOutOfRange)

    def _enumerated(self, data_type: Any) -> frozenset[int]:
        """Values an enumeration has; none for another DataType."""
        if not self._space.is_subtype(data_type, ENUMERATION):
            return frozenset()
        found = self._stored(data_type, ua.AttributeIds.DataTypeDefinition).Value.Value
        return frozenset(f.Value for f in found.Fields) if found is not None else frozenset()


def _data(value: Any, kind: Any) -> Any:
    return ua.DataValue(ua.Variant(value, kind))


def _is_null(given: Any) -> bool:
    return given is None or given.VariantType == ua.VariantType.Null


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for element in value:
            yield from _flat(element)
    else:
        yield value


def _as_declared(given: Any, built_in: int, rank: int) -> Any:
    """A ByteString is an array of Byte, and the other way round (Part 4 5.11.4.2)."""
    kind = ua.VariantType
    if built_in == kind.Byte.value and given.VariantType == kind.ByteString and not given.is_array and rank != -1:
        return ua.Variant(list(given.Value or b""), kind.Byte, is_array=True)
    if built_in == kind.ByteString.value and given.VariantType == kind.Byte and given.is_array and rank == -1:
        return ua.Variant(bytes(given.Value), kind.ByteString)
    return given


def _has_rank(given: Any, rank: int) -> bool:
    """ValueRank (Part 3 5.6.2): -3 scalar or one dimension, -2 any, -1 scalar, 0 any array, else dimensions."""
    dimensions = len(given.Dimensions or (0,)) if given.is_array or isinstance(given.Value, list) else 0
    return (
        rank == -2 or (rank == -3 and dimensions <= 1) or (rank == 0 and dimensions > 0) or dimensions == max(rank, 0)
    )


def refusal(fault: Fault) -> Any:
    """What is shown in place of a value that may not be: null, as of now (7.11)."""
    now = datetime.now(UTC)
    return ua.DataValue(NULL, status(fault.status), now, now)


def check_timestamps(stamps: Any) -> None:
    if not isinstance(stamps, ua.TimestampsToReturn) or stamps == ua.TimestampsToReturn.Invalid:
        raise Fault(ua.StatusCodes.BadTimestampsToReturnInvalid)


def stamped(value: Any, stamps: Any, *, source: bool = True) -> Any:
    """A DataValue with only the timestamps asked for; now where none was stored."""
    source = source and stamps in (ua.TimestampsToReturn.Source, ua.TimestampsToReturn.Both)
    server = stamps in (ua.TimestampsToReturn.Server, ua.TimestampsToReturn.Both)
    return ua.DataValue(
        value.Value,
        value.StatusCode,
        (value.SourceTimestamp or datetime.now(UTC)) if source else None,
        (value.ServerTimestamp or datetime.now(UTC)) if server else None,
        value.SourcePicoseconds if source else None,
        value.ServerPicoseconds if server else None,
    )


def parse_range(text: str) -> list[slice]:
    """NumericRange (7.27): `2`, `1:3`, one for each dimension, comma-separated. Raises Fault BadIndexRangeInvalid."""
    slices = []
    for part in text.split(","):
        low, colon, high = part.partition(":")
        first = _index(low)
        last = _index(high) if colon else first
        if colon and last <= first:
            raise Fault(ua.StatusCodes.BadIndexRangeInvalid)
        slices.append(slice(first, last + 1))
    return slices


def _index(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= MAX_INDEX):
        raise Fault(ua.StatusCodes.BadIndexRangeInvalid)
    return int(text)


def take(variant: Any, text: str) -> Any:
    """The part of an array, String or ByteString a NumericRange names. Raises Fault."""
    slices = parse_range(text)
    value = variant.Value if variant is not None else None
    if not isinstance(value, list | str | bytes):
        raise Fault(ua.StatusCodes.BadIndexRangeNoData)
    _check_dimensions(value, slices)
    return ua.Variant(_take(value, slices), variant.VariantType, is_array=isinstance(value, list))


def replaced(old: Any, given: Any, text: str) -> Any:
    """`old` with the part a NumericRange names taken from `given`, which has exactly its shape. Raises Fault."""
    slices = parse_range(text)
    if old is None or not isinstance(old.Value, list | str | bytes):
        raise Fault(ua.StatusCodes.BadIndexRangeNoData)
    _check_dimensions(old.Value, slices)
    value = _replaced(old.Value, given.Value, slices)
    return ua.Variant(value, old.VariantType, old.Dimensions, is_array=isinstance(value, list))


def _check_dimensions(value: Any, slices: Sequence[slice]) -> None:
    """A matrix needs a range for each of its dimensions; only one of strings takes a further one (7.27)."""
    dimensions = 0
    while isinstance(value, list) and value:
        dimensions, value = dimensions + 1, value[0]
    if len(slices) < dimensions or len(slices) > dimensions + isinstance(value, str | bytes):
        raise Fault(ua.StatusCodes.BadIndexRangeNoData)


def _replaced(old: Any, given: Any, slices: list[slice]) -> Any:
    if not slices:
        return given
    if not isinstance(old, list | str | bytes):
        raise Fault(ua.StatusCodes.BadIndexRangeNoData)
    first = slices[0]
    if first.stop > len(old):
        raise Fault(ua.StatusCodes.BadIndexRangeNoData)
    if type(given) is not type(old) or len(given) != first.stop - first.start:
        raise Fault(ua.StatusCodes.BadIndexRangeDataMismatch)
    if len(slices) > 1:
        if not isinstance(old, list):
            raise Fault(ua.StatusCodes.BadIndexRangeNoData)
        given = [_replaced(o, g, slices[1:]) for o, g in zip(old[first], given, strict=True)]
    return old[: first.start] + given + old[first.stop :]


def _take(value: Any, slices: list[slice]) -> Any:
    if not isinstance(value, list | str | bytes):
        raise Fault(ua.StatusCodes.BadIndexRangeNoData)
    part = value[slices[0]]
    if not part:
        raise Fault(ua.StatusCodes.BadIndexRangeNoData)
    return [_take(element, slices[1:]) for element in part] if len(slices) > 1 else part
