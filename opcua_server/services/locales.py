"""Texts in the language a session prefers (Part 4 5.4): all are kept in English, some with translations."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from asyncua import ua

OWN = "en"
"""Language of every text without a translation."""

PASSING = 10_000
"""Texts made for an occasion that are kept: more than alarms can stand."""

Texts = Mapping[str, Mapping[str, str]]
"""English text -> language -> translation."""


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
        found = None
        if text.Locale in (OWN, None):
            found = self._texts.get(text.Text) or self._passing.get(text.Text)
        for locale in wanted:
            language = locale.partition("-")[0].lower()
            if language == OWN:
                break
            if found is not None and language in found:
                return ua.LocalizedText(found[language], language)
        return text

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

    def browsed(self, results: list[Any], wanted: Sequence[str]) -> list[Any]:
        """BrowseResults with their display names translated."""
        if wanted:
            for result in results:
                result.References = [
                    dataclasses.replace(r, DisplayName=self.text(r.DisplayName, wanted)) for r in result.References
                ]
        return results
