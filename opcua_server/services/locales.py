"""Texts in the language a session prefers (Part 4 5.4): all are kept in English, some with translations."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from typing import Any

from asyncua import ua

OWN = "en"
"""Language of every text without a translation."""

PASSING = 10_000
"""Texts made for an occasion that are kept: more than alarms can stand."""

Texts = Mapping[str, Mapping[str, str]]
"""English text -> language -> translation."""


def languages(wanted: Sequence[str]) -> tuple[str, ...]:
    """Of LocaleIds, those to look for one after the other; none behind our own, in which every text is."""
    if not wanted:
        return ()
    return tuple(takewhile(OWN.__ne__, dict.fromkeys(locale.partition("-")[0].lower() for locale in wanted)))


class Locales:
    def __init__(self) -> None:
        self._texts: dict[str, Mapping[str, str]] = {}
        self._passing: dict[str, Mapping[str, str]] = {}
        """Texts made for an occasion, oldest first."""

    def add(self, texts: Texts) -> None:
        self._texts.update(texts)

    def remember(self, text: str, translations: Mapping[str, str]) -> None:
        """A text made for an occasion; the newest `PASSING` are kept, older ones are shown in English."""
        self._passing.pop(text, None)
        self._passing[text] = translations
        if len(self._passing) > PASSING:
            del self._passing[next(iter(self._passing))]

    def known(self) -> list[str]:
        """LocaleIds there are translations of, ours first."""
        return [OWN, *sorted({language for texts in self._texts.values() for language in texts})]

    def text(self, text: Any, wanted: Sequence[str]) -> Any:
        """A LocalizedText in the first of the languages it exists in; as it is when there is none."""
        if text.Locale not in (OWN, None):
            return text
        found = self._texts.get(text.Text) or self._passing.get(text.Text, {})
        language = next((each for each in languages(wanted) if each in found), None)
        return text if language is None else ua.LocalizedText(found[language], language)

    def variant(self, variant: Any, wanted: Sequence[str]) -> Any:
        """A Variant, translated where it holds texts."""
        if variant is None or variant.VariantType != ua.VariantType.LocalizedText or variant.Value is None:
            return variant
        if isinstance(variant.Value, list):
            texts = [self.text(text, wanted) for text in variant.Value]
            return ua.Variant(texts, ua.VariantType.LocalizedText, is_array=True)
        return ua.Variant(self.text(variant.Value, wanted), ua.VariantType.LocalizedText)

    def values(self, values: Iterable[Any], wanted: Sequence[str]) -> list[Any]:
        """DataValues, translated."""
        if not wanted:
            return list(values)
        return [
            dataclasses.replace(v, Value=self.variant(v.Value, wanted))
            if v.Value is not None and v.Value.VariantType == ua.VariantType.LocalizedText
            else v
            for v in values
        ]
