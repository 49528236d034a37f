"""Text that people and devices typed is data: made harmless to show, never interpreted (agents.md L11, H43)."""

import re
import unicodedata

_SHAPES = (
    r"\b(ignore|disregard|forget|override)\b.{0,60}\b(instructions?|rules?|prompts?|limits?|previous|above)\b",
    r"\b(system|developer|hidden) (prompt|message|instructions?)\b",
    r"\b(you are|act as|pretend to be)\b.{0,40}\b(assistant|agent|admin|administrator|model|qa)\b",
    r"<\s*/?\s*(system|assistant|user|tool)\b",
    r"\b(approve|release|accept)\b.{0,30}\b(this|the|every|all) (batch|batches|lot|recommendations?)\b",
)
_INSTRUCTION = re.compile("|".join(_SHAPES), re.IGNORECASE)


def plain(text: str, limit: int) -> str:
    """One line of Latin-1 of at most `limit` characters: what any SCADA shows as it stands (information model 1.4).

    Control, format (bidi override) and private characters become a space; a character outside Latin-1
    becomes `?`; a longer text ends in `...`.
    """
    visible = "".join(" " if unicodedata.category(c)[0] == "C" else c for c in text[: 4 * limit])
    line = " ".join(visible.split()).encode("latin-1", "replace").decode("latin-1")
    return line if len(line) <= limit else line[: limit - 3] + "..."


def instruction_like(text: str) -> bool:
    """Does this read as if it were addressed to a machine? Only to be flagged to a person: nothing obeys it."""
    return bool(_INSTRUCTION.search(plain(text, 1000)))
