"""Every error of ours, each with the OPC UA StatusCode a client sees.

EnoseError
├── ConfigurationError      the plant file or the site is wrong; names every mistake at once
├── RequestError            the caller did it: nothing happened, the code says why
│   ├── ArgumentsMissing    BadArgumentsMissing
│   ├── TooManyArguments    BadTooManyArguments
│   ├── InvalidArgument     BadInvalidArgument, with one code an argument
│   ├── OutOfRange          BadOutOfRange
│   ├── NotFound            BadNotFound
│   ├── NoMatch             BadNoMatch: digest or signature belongs to something else
│   ├── NoData              BadNoData
│   ├── EntryExists         BadEntryExists
│   ├── InvalidState        BadInvalidState
│   ├── AccessDenied        BadUserAccessDenied
│   ├── CredentialRejected  BadIdentityTokenRejected
│   ├── LockedOut           BadRequestNotAllowed
│   ├── ChannelInsecure     BadSecurityModeInsufficient
│   ├── MethodInvalid       BadMethodInvalid
│   ├── NotExecutable       BadNotExecutable
│   ├── NodeIdInvalid       BadNodeIdInvalid: a condition's method called on a type
│   ├── EventIdUnknown ...  a condition's own codes (Part 9 5.11, table 137)
│   └── NotConfigured       BadConfigurationError: e.g. no Approved model for the product
├── StorageError            BadResourceUnavailable: nothing was acknowledged
│   └── Unrecordable        the row itself cannot be recorded, whenever it is tried
├── DeviceError             BadCommunicationError: the e-nose did not do it
├── CertificateRefused      BadSecurityChecksFailed: the reason is for our log, never for the peer
└── IntegrityError          a record is not what was signed; carries the record's name
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


class EnoseError(Exception):
    """Root of the tree; `status` is the OPC UA StatusCode (Part 4 7.39, Part 6 A.2)."""

    status: ClassVar[int] = 0x80020000  # BadInternalError


@dataclass(frozen=True, slots=True)
class Mistake:
    """One mistake in a configuration: where it stands and what is wrong."""

    path: str
    """Key path, e.g. `devices[0].channels[3].range`."""
    message: str
    file: str = ""
    line: int = 0
    """1-based; 0 where no line is known."""

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}: " if self.line else (f"{self.file}: " if self.file else "")
        return f"{where}{self.path}: {self.message}" if self.path else f"{where}{self.message}"


class ConfigurationError(EnoseError):
    """All mistakes of one reading, never only the first."""

    status = 0x80890000  # BadConfigurationError

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__("\n".join(str(m) for m in self.mistakes))

    def __reduce__(self) -> tuple[type["ConfigurationError"], tuple[Sequence[Mistake]]]:
        return type(self), (self.mistakes,)  # crosses from a worker process as it was raised


class RequestError(EnoseError):
    """The caller's request was refused and had no effect."""

    status = 0x80AB0000


class ArgumentsMissing(RequestError):
    status = 0x80760000


class TooManyArguments(RequestError):
    status = 0x80E50000


class InvalidArgument(RequestError):
    """`arguments[i]` is the StatusCode of argument i (Part 4 5.12.2, InputArgumentResults)."""

    status = 0x80AB0000

    def __init__(self, message: str, arguments: Sequence[int] = ()) -> None:
        super().__init__(message)
        self.arguments = tuple(arguments)


class OutOfRange(RequestError):
    status = 0x803C0000


class NotFound(RequestError):
    status = 0x803E0000


class NoMatch(RequestError):
    status = 0x806F0000


class NoData(RequestError):
    status = 0x809B0000


class EntryExists(RequestError):
    status = 0x809F0000


class InvalidState(RequestError):
    status = 0x80AF0000


class AccessDenied(RequestError):
    status = 0x801F0000


class CredentialRejected(RequestError):
    status = 0x80210000


class LockedOut(RequestError):
    status = 0x80E40000


class ChannelInsecure(RequestError):
    status = 0x80E60000


class MethodInvalid(RequestError):
    status = 0x80750000


class NotExecutable(RequestError):
    status = 0x81110000


class NodeIdInvalid(RequestError):
    status = 0x80330000


class EventIdUnknown(RequestError):
    status = 0x809A0000


class AlreadyAcknowledged(RequestError):
    status = 0x80CF0000  # BadConditionBranchAlreadyAcked


class AlreadyConfirmed(RequestError):
    status = 0x80D00000  # BadConditionBranchAlreadyConfirmed


class AlreadyEnabled(RequestError):
    status = 0x80CC0000  # BadConditionAlreadyEnabled


class AlreadyDisabled(RequestError):
    status = 0x80980000  # BadConditionAlreadyDisabled


class ConditionDisabled(RequestError):
    status = 0x80990000


class AlreadyShelved(RequestError):
    status = 0x80D10000  # BadConditionAlreadyShelved


class NotShelved(RequestError):
    status = 0x80D20000  # BadConditionNotShelved


class ShelvingTimeOutOfRange(RequestError):
    status = 0x80D30000


class DialogNotActive(RequestError):
    status = 0x80CD0000


class DialogResponseInvalid(RequestError):
    status = 0x80CE0000


class NotConfigured(RequestError):
    status = 0x80890000


class StorageError(EnoseError):
    status = 0x80040000


class Unrecordable(StorageError):
    """The database is well and refuses this row for what it is (F09)."""


class DeviceError(EnoseError):
    status = 0x80050000


class CertificateRefused(EnoseError):
    """A peer's certificate did not pass; `str()` is the private reason (Part 4 6.1.3).

    `failure`: the StatusCode of the step that failed (Part 4 Table 100), for auditors, never for the peer.
    """

    status = 0x80130000
    INVALID = 0x80120000
    TIME_INVALID = 0x80140000
    URI_INVALID = 0x80170000
    USE_NOT_ALLOWED = 0x80180000
    UNTRUSTED = 0x801A0000
    CHAIN_INCOMPLETE = 0x810D0000
    REVOCATION_UNKNOWN = 0x801B0000
    REVOKED = 0x801D0000

    def __init__(self, reason: str, failure: int = INVALID) -> None:
        super().__init__(reason)
        self.failure = failure


class IntegrityError(EnoseError):
    """A stored record differs from what the audit log covers."""

    status = 0x80130000  # BadSecurityChecksFailed

    def __init__(self, record: str, reason: str) -> None:
        super().__init__(f"{record}: {reason}")
        self.record = record
        self.reason = reason

    def __reduce__(self) -> tuple[type["IntegrityError"], tuple[str, str]]:
        return type(self), (self.record, self.reason)
