"""Texts a client may put into a record: kept verbatim or refused, never repaired."""

import re
import unicodedata

from nodesets.errors import InvalidArgument

LENGTH = 254
"""Longest STRING of Plant SCADA, the narrowest client (information model 1.4)."""

_IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_BIDI = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Turn the reading order of a printed line: what is shown would not be what was signed."""


def identifier(name: str, value: str) -> str:
    """A batch id or the like: letters, digits, `-_.`, 1..64, the first a letter or digit. Raises InvalidArgument."""
    if not _IDENTIFIER.fullmatch(value):
        raise InvalidArgument(f"{name}: 1 to 64 letters, digits, '-', '_' or '.', the first a letter or digit")
    return value


def text(name: str, value: str) -> str:
    """Any text of one line, at most 254 characters. Raises InvalidArgument."""
    if len(value) > LENGTH:
        raise InvalidArgument(f"{name}: {len(value)} characters, at most {LENGTH} are kept")
    if any(unicodedata.category(c) in {"Cc", "Cs", "Zl", "Zp"} or c in _BIDI for c in value):
        raise InvalidArgument(f"{name}: control characters are refused")
    return value


def reason(name: str, value: str) -> str:
    """A text that says something: a change without a reason is refused (R07). Raises InvalidArgument."""
    if not value.strip():
        raise InvalidArgument(f"{name}: a reason is required")
    return text(name, value)
