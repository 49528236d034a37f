"""StatusCodes and times on the way to the wire."""

from datetime import UTC, datetime, timedelta
from typing import Any

from asyncua import ua

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FILETIME_EPOCH = 116_444_736_000_000_000
"""1970 in OPC UA ticks: 100 ns since 1601 (Part 6 5.2.2.5)."""

GOOD = ua.StatusCode(0)
NULL = ua.Variant()
OVERFLOW = 0x0480
"""InfoType DataValue with the Overflow bit (Part 4 7.39.1)."""

SEMANTICS_CHANGED = 0x4000
"""Bit of a notification whose value means something else than before (Part 4 7.39.1)."""

_known: dict[int, Any] = {0: GOOD}


class Fault(Exception):
    """A service or an operation ends with a StatusCode. As an answer to a request: ServiceFault.

    `reason`: more words than the client is told, for our log.
    """

    def __init__(self, status: int, reason: str = "") -> None:
        super().__init__(f"{ua.status_codes.get_name_and_doc(status)[0]}")
        self.status = int(status)
        self.reason = reason


def status(code: int) -> Any:
    """The one StatusCode object of a code."""
    found = _known.get(code)
    if found is None:
        if len(_known) > 1000:
            return ua.StatusCode(code)
        found = _known[code] = ua.StatusCode(code)
    return found


def is_bad(code: int) -> bool:
    return code & 0x80000000 != 0


def from_ns(time: int) -> datetime:
    """Nanoseconds UTC since 1970 as a datetime; microseconds are what it holds."""
    return EPOCH + timedelta(microseconds=time // 1000)


def ticks(time: int) -> int:
    """Nanoseconds UTC since 1970 in OPC UA ticks, to the microsecond that `from_ns` shows."""
    return time // 1000 * 10 + FILETIME_EPOCH


def ticks_of(time: datetime | None) -> int:
    """A datetime in OPC UA ticks; 0 for null, as on the wire."""
    nanoseconds = to_ns(time)
    return 0 if nanoseconds is None else ticks(nanoseconds)


def from_ticks(time: int) -> datetime | None:
    """OPC UA ticks as a datetime; None for null."""
    return None if time == 0 else EPOCH + timedelta(microseconds=(time - FILETIME_EPOCH) // 10)


def to_ns(time: datetime | None) -> int | None:
    """Nanoseconds since 1970; None for null and for the ends of OPC UA time (Part 11: not specified)."""
    if time is None:
        return None
    aware = time if time.tzinfo else time.replace(tzinfo=UTC)
    if aware.year <= 1601 or aware.year >= 9999:
        return None
    delta = aware - EPOCH
    return ((delta.days * 86400 + delta.seconds) * 1_000_000 + delta.microseconds) * 1000
