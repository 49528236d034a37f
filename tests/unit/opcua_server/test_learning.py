import asyncio
import multiprocessing
from pathlib import Path

import numpy as np
import pytest

from analytics.registry import ProductModel
from config.load import DEMO, load
from config.schema import Plant
from historian.schema import Database
from nodesets.errors import InvalidArgument
from opcua_server.learning import in_worker, learn
from tests import recordings
from tests.recordings import ENVIRONMENT, HEADER, INVALID

PHASES = (4, 6, 2)
CHANNELS = [name for name in HEADER if name not in ENVIRONMENT]


def plant(channels: list[str], period: float) -> Plant:
    return Plant.model_validate(
        {
            "devices": [
                {
                    "id": "EN01",
                    "period": period,
                    "timeout": period,
                    "channels": [
                        {"id": name, "range": [0, 5e9], "register": {"address": 100 + 2 * i, "invalid": [INVALID]}}
                        for i, name in enumerate(channels)
                    ],
                    "streams": [{"baseline": 0.8, "exposure": 1.2, "purge": 0.4}],
                }
            ],
            "lines": [{"id": "L01", "streams": ["EN01.Stream01"]}],
            "products": [{"id": "NUTMEG"}],
        }
    )


@pytest.fixture
def lots(tmp_path: Path) -> list[str]:
    files = [tmp_path / f"lot{lot}.csv" for lot in range(3)]
    for lot, file in enumerate(files):
        recordings.cycles_recording(file, ["nutmeg"], 8, *PHASES, lot=lot)
    return [f"EN01.Stream01={file}" for file in files]


def learned(made: Plant, lots: list[str]) -> ProductModel:
    return learn(made, "NUTMEG", lots, PHASES, [], "")


def test_channels_are_found_by_the_names_of_their_columns(lots):
    forward, backward = (learned(plant(order, 0.1), lots).fingerprints["EN01.Stream01"] for order in
                         (CHANNELS, CHANNELS[::-1]))  # fmt: skip
    mean = dict(zip(forward.features, forward.mean, strict=True))
    assert dict(zip(backward.features, backward.mean, strict=True)) == pytest.approx(mean)


def test_a_sentinel_is_no_value_to_learn_from(lots):
    # Analytics, trap 3: within the range of this channel, and yet no value.
    assert "Benzene" not in learned(plant(CHANNELS, 0.1), lots).fingerprints["EN01.Stream01"].channels


def test_cycles_are_complete_however_often_a_row_is_polled(lots):
    # The stream says how long a cycle lasts, the phases how many rows it has: 0.2 s a row, at either period.
    twice, once = (learned(plant(CHANNELS, period), lots).fingerprints["EN01.Stream01"] for period in (0.1, 0.2))
    assert twice.reference_count == once.reference_count == 24
    assert np.array_equal(twice.mean, once.mean)


def test_a_recording_without_phases_needs_to_be_told_them(lots):
    with pytest.raises(InvalidArgument, match="phases"):
        learn(plant(CHANNELS, 0.1), "NUTMEG", lots, [], [], "")


async def test_whoever_gives_up_a_lesson_does_not_wait_for_its_end():
    # The event loop polls devices meanwhile: it must not stand still until a process has ended.
    before = set(multiprocessing.active_children())
    lots = [f"EN01.Stream01=coffee_a@{n}" for n in range(40)]
    lesson = asyncio.create_task(in_worker(load(DEMO), "COFFEE-A", lots, (), (), Database("")))
    while not set(multiprocessing.active_children()) - before:
        await asyncio.sleep(0)
    lesson.cancel()
    with pytest.raises(asyncio.CancelledError):
        await lesson
    [worker] = set(multiprocessing.active_children()) - before
    worker.kill()
    worker.join()
