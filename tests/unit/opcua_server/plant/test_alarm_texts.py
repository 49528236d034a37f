"""What alarms say, in every language."""

import pytest

from config.schema import Alarm
from nodesets.model import Finding
from opcua_server.plant import alarm_texts
from opcua_server.plant.alarms import ALARMS
from opcua_server.plant.translations import LANGUAGES


def found(kind, level="High"):
    return Finding(
        kind=kind, source="EN01", time=1, level=level, value=1.23456, limit=0.5, text="as found",
        details={"Unit": "ppm", "Batch": "B-7"},
    )  # fmt: skip


@pytest.mark.parametrize("kind", ALARMS)
@pytest.mark.parametrize("level", ["High", ""])
def test_every_alarm_speaks_every_language(kind, level):
    said = alarm_texts.translations(found(kind, level), {})
    assert set(said) == set(LANGUAGES)
    assert all(words and "{" not in words for words in said.values())


def test_a_message_names_source_value_limit_unit_and_batch():
    assert alarm_texts.translations(found("QualityScoreLow"), {})["de"] == "EN01: Qualitätswert 1.235 (Grenze 0.5) B-7"
    assert alarm_texts.translations(found("LevelAlarm"), {})["fr"] == "EN01 : 1.235 ppm au-delà de High 0.5"


def test_a_plant_may_say_it_in_its_own_words():
    own = {"en": "{source} stinks: {value} {unit}", "de": "{source} stinkt"}
    assert alarm_texts.english(found("QualityScoreLow"), own) == "EN01 stinks: 1.235 ppm"
    assert alarm_texts.english(found("QualityScoreLow", ""), own) == "as found"
    assert alarm_texts.translations(found("QualityScoreLow"), own)["de"] == "EN01 stinkt"


@pytest.mark.parametrize("template", ["{sauce}", "{0}", "{source.__class__}", "{source", "}"])
def test_a_text_with_an_unknown_placeholder_is_a_mistake(template):
    with pytest.raises(ValueError, match="message"):
        Alarm(message={"en": template})
