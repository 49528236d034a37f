"""What StatusCodes of a response mean, for a client that asks by ReturnDiagnostics (Part 4 7.12, 7.32, 7.33).

Symbol and text are the standard's own; nothing of the inside of this server is told.
"""

from collections.abc import Iterator
from typing import Any

from asyncua import ua
from asyncua.ua.status_codes import get_name_and_doc

SYMBOL, TEXT = 0x01, 0x02
"""Bits of ReturnDiagnostics for the service; those for its operations are `OPERATIONS` higher."""
OPERATIONS = 5
MEANING = 0xFFFF0000
"""Severity and subcode of a StatusCode (7.39.1)."""
LOCALE = "en"
LISTS = (
    ("Results", "DiagnosticInfos"),
    ("AddResults", "AddDiagnosticInfos"),
    ("RemoveResults", "RemoveDiagnosticInfos"),
    ("InputArgumentResults", "InputArgumentDiagnosticInfos"),
    ("OperationResults", "DiagnosticInfos"),
)
"""Results, and what explains them one by one."""
WITH_RESULTS = (ua.CallMethodResult, ua.HistoryUpdateResult)
"""Results of operations that have results of their own."""


def explain(response: Any, asked: int) -> bool:
    """Fill in DiagnosticInfos and StringTable as asked; False when there is nothing to explain."""
    table: dict[str, int] = {}
    header = response.ResponseHeader
    header.ServiceDiagnostics = _info(header.ServiceResult, asked, table)
    for owner, results, infos in _lists(response):
        explained = [_info(_status(r), asked >> OPERATIONS, table) for r in results]
        # Empty "if no diagnostic information was encountered" (e.g. 5.11.2.2), else as many as there are operations.
        if any(info.SymbolicId is not None or info.LocalizedText is not None for info in explained):
            setattr(owner, infos, explained)
    header.StringTable = list(table)
    return bool(table)


def _lists(response: Any) -> Iterator[tuple[Any, list[Any], str]]:
    """Whose results, and the name of the list that explains them."""
    owners = [response, getattr(response, "Parameters", None)]
    for owner in owners:
        for results, infos in LISTS:
            if (found := getattr(owner, results, None)) and hasattr(owner, infos):
                owners += [r for r in found if isinstance(r, WITH_RESULTS)]
                yield owner, found, infos


def _status(result: Any) -> Any:
    return result if isinstance(result, ua.StatusCode) else result.StatusCode


def _info(code: Any, asked: int, table: dict[str, int]) -> Any:
    """DiagnosticInfo of a StatusCode, its words in the table; an empty one for Good."""
    info = ua.DiagnosticInfo()
    known = 0 if code is None else code.value & MEANING
    if known == ua.StatusCodes.Good or not asked & (SYMBOL | TEXT):
        return info
    name, words = get_name_and_doc(known)
    if asked & SYMBOL:
        info.SymbolicId = _index(name, table)
    if asked & TEXT:
        info.Locale = _index(LOCALE, table)
        info.LocalizedText = _index(words, table)
    return info


def _index(text: str, table: dict[str, int]) -> int:
    return table.setdefault(text, len(table))
