"""HistoryUpdate (Part 4 5.11.5, Part 11 6.9): one table, kind of details -> who carries it out.

Only a node whose AccessLevel has HistoryWrite is changed, and only by whom its grant lets: a device's samples have no
such node (process rule 13). A value that was changed stays readable as a modified one.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from asyncua import ua

from nodesets.model import Caller, UpdateType
from nodesets.ports import Annotation, Change, Clock, Corrected
from opcua_server.services import history_encoding as encoding
from opcua_server.services.history import Histories, Historized
from opcua_server.services.limits import Limits
from opcua_server.services.nodes import Access
from opcua_server.services.status import Fault, status, to_ns

CODES = ua.StatusCodes
Old = Sequence[Change] | Sequence[Annotation]
Outcome = tuple[Any, Old]
"""HistoryUpdateResult, and what stood there before."""
Carry = Callable[[Historized, Any, Caller, str], Awaitable[Outcome]]
"""`carry(history, details, caller, reason)`. Raises Fault."""
Tell = Callable[[Any, Any, Sequence[Any]], None]
"""Tell auditors of (details, HistoryUpdateResult, old values as DataValues or Annotations)."""
LONGEST_NOTE = 4_096
"""Characters of an annotation: what an audit entry holds."""


class Refused(NamedTuple):
    """An operation that is not carried out."""

    status: int


class HistoryUpdates:
    def __init__(self, histories: Histories, limits: Limits, clock: Clock) -> None:
        self._histories = histories
        self._limits = limits
        self._clock = clock
        self._carriers: dict[type, Carry] = {
            ua.UpdateDataDetails: self._update,
            ua.UpdateStructureDataDetails: self._annotate,
            ua.DeleteRawModifiedDetails: self._delete,
            ua.DeleteAtTimeDetails: self._delete_at,
            ua.UpdateEventDetails: _unsupported,
            ua.DeleteEventDetails: _unsupported,
        }

    async def update(self, caller: Caller, parameters: Any, reason: str, tell: Tell) -> list[Any]:
        """HistoryUpdate; `reason` is the AuditEntryId the client gave the request."""
        return [await self._one(caller, details, reason, tell) for details in parameters.HistoryUpdateDetails]

    async def _one(self, caller: Caller, details: Any, reason: str, tell: Tell) -> Any:
        """Details that cannot be carried out are their own result."""
        try:
            carry = self._carriers.get(type(details))
            if carry is None:
                raise Fault(CODES.BadHistoryOperationInvalid)
            found = self._histories.of(caller, details.NodeId, Access.HISTORY_WRITE)
            result, old = await carry(found, details, caller, reason)
            told = [encoding.stood(value, found.built_in) for value in old]
        except Fault as fault:
            result, told = ua.HistoryUpdateResult(StatusCode=status(fault.status)), []
        tell(details, result, told)
        return result

    # -- values

    async def _update(self, found: Historized, details: Any, caller: Caller, reason: str) -> Outcome:
        kind = _kind(details, (UpdateType.INSERT, UpdateType.REPLACE, UpdateType.UPDATE))
        if found.notes:
            raise Fault(CODES.BadHistoryOperationUnsupported)
        given = self._bounded(details.UpdateValues)
        changes = [self._change(found, data) for data in given]
        return await _results(changes, lambda ok: found.archive.update(found.tag, ok, kind, caller, reason))

    def _change(self, found: Historized, data: Any) -> Change | Refused:
        """A value to be written, or why it is not."""
        time = to_ns(data.SourceTimestamp)
        if time is None:
            return Refused(CODES.BadInvalidTimestamp)
        now = self._clock.now()
        if time > now:
            return Refused(CODES.BadOutOfRange)
        code = data.StatusCode.value if data.StatusCode is not None else 0
        variant = data.Value
        null = variant is None or variant.VariantType == ua.VariantType.Null
        if null and not code & 0x80000000:
            return Refused(CODES.BadTypeMismatch)
        if not null and (variant.VariantType.value != found.built_in or variant.is_array):
            return Refused(CODES.BadTypeMismatch)
        value = None if null else _plain(variant, found.built_in)
        return Change(time, to_ns(data.ServerTimestamp) or now, value, code)

    async def _delete(self, found: Historized, details: Any, caller: Caller, reason: str) -> Outcome:
        if details.IsDeleteModified or found.notes:
            raise Fault(CODES.BadHistoryOperationUnsupported)
        start, end = to_ns(details.StartTime), to_ns(details.EndTime)
        if start is None or end is None or end < start:
            raise Fault(CODES.BadInvalidArgument)
        last = end if end > start else start + encoding.TICK
        number, gone = await found.archive.delete(found.tag, start, last, caller, reason)
        return ua.HistoryUpdateResult(StatusCode=status(0 if number else CODES.BadNoData)), gone

    async def _delete_at(self, found: Historized, details: Any, caller: Caller, reason: str) -> Outcome:
        if found.notes:
            raise Fault(CODES.BadHistoryOperationUnsupported)
        times = [to_ns(time) for time in self._bounded(details.ReqTimes)]
        wanted = [Refused(CODES.BadInvalidTimestamp) if time is None else time for time in times]
        return await _results(wanted, lambda ok: found.archive.delete_at(found.tag, ok, caller, reason))

    # -- annotations

    async def _annotate(self, found: Historized, details: Any, caller: Caller, _reason: str) -> Outcome:
        kind = _kind(details, tuple(UpdateType))
        if not found.notes:
            raise Fault(CODES.BadHistoryOperationUnsupported)
        notes = [self._note(data, caller) for data in self._bounded(details.UpdateValues)]
        return await _results(notes, lambda ok: found.archive.annotate(found.tag, ok, kind, caller))

    def _note(self, data: Any, caller: Caller) -> Annotation | Refused:
        """An annotation by whoever is logged in, whatever name it gives, as of now."""
        time = to_ns(data.SourceTimestamp)
        if time is None:
            return Refused(CODES.BadInvalidTimestamp)
        note = data.Value.Value if data.Value is not None else None
        if not isinstance(note, ua.Annotation):
            return Refused(CODES.BadTypeMismatch)
        if len(note.Message or "") > LONGEST_NOTE:
            return Refused(CODES.BadOutOfRange)
        return Annotation(time, note.Message or "", caller.user, self._clock.now())

    def _bounded(self, given: Any) -> Sequence[Any]:
        items: Sequence[Any] = given or []
        if not items:
            raise Fault(CODES.BadNothingToDo)
        if len(items) > self._limits.history_changes:
            raise Fault(CODES.BadTooManyOperations)
        return items


def _kind(details: Any, allowed: Sequence[UpdateType]) -> UpdateType:
    try:
        kind = UpdateType(int(details.PerformInsertReplace))
    except ValueError:
        raise Fault(CODES.BadInvalidArgument) from None
    if kind not in allowed:
        raise Fault(CODES.BadInvalidArgument)
    return kind


def _plain(variant: Any, built_in: int) -> Any:
    return to_ns(variant.Value) if built_in == 13 else variant.Value


async def _results(items: Sequence[Any], carry: Callable[[list[Any]], Awaitable[list[Corrected]]]) -> Outcome:
    """What is not refused already is carried out; a StatusCode each, in order."""
    fit = [item for item in items if not isinstance(item, Refused)]
    made = await carry(fit) if fit else []
    codes = iter(made)
    results = [status(item.status if isinstance(item, Refused) else next(codes).status) for item in items]
    old: list[Any] = [value for corrected in made for value in corrected.old]
    return ua.HistoryUpdateResult(StatusCode=status(0), OperationResults=results), old


async def _unsupported(_found: Historized, _details: Any, _caller: Caller, _reason: str) -> Outcome:
    raise Fault(CODES.BadHistoryOperationUnsupported)
