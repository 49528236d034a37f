import asyncio
from concurrent.futures import Future

import numpy as np
import pytest

from config.load import parse
from config.schema import StatusBit
from nodesets.errors import EntryExists, StorageError
from nodesets.model import Cause, Frame, Phase, Quality, Verdict
from opcua_server.pipeline import Pipeline
from opcua_server.scenario import SECOND, SteppedClock

PLANT = parse("""
devices:
  - {id: EN01, channels: [{id: S01, range: [0, 500]}, {id: S02, range: [0, 500]}],
     streams: [{id: Stream01, baseline: 5, exposure: 10, purge: 5}]}
""")


class Shown:
    """A sink that remembers."""

    def __init__(self):
        self.rows, self.results, self.findings, self.cycles, self.told = [], [], [], [], []
        self.judged = []

    def show(self, frame, row, data_quality):
        self.rows.append(row)
        self.told.append(("shown", row.source_time // SECOND))

    def lost(self, row):
        self.told.append(("lost", row.source_time // SECOND))

    def cycle(self, stream, cycle, drift_index):
        self.cycles.append((stream, cycle))

    def result(self, result, judgement):
        self.results.append(result)

    def find(self, finding):
        self.findings.append(finding)

    def judge(self, basis):
        self.judged.append((basis.kind, basis.source, basis.quality))


class Disk:
    """A recorder whose commits end when the test says so."""

    def __init__(self):
        self.waiting = []

    def append(self, rows):
        future = Future()
        self.waiting.append((rows, future))
        return future


def frame(second: int, **changes) -> Frame:
    given = {
        "device": "EN01",
        "source_time": second * SECOND,
        "received_time": second * SECOND + 5_000_000,
        "values": np.array([100.0 + second, 200.0 + second]),
        "causes": np.zeros(2, np.uint8),
        "phase": Phase.BASELINE,
        "cycle": 1,
    }
    return Frame(**given | changes)


@pytest.fixture
def parts():
    disk, shown = Disk(), Shown()
    return Pipeline(PLANT, disk, shown, SteppedClock()), disk, shown


async def settle() -> None:
    for _ in range(4):
        await asyncio.sleep(0)


async def take(pipeline, *frames: Frame) -> None:
    """Each in a turn of the loop of its own."""
    for each in frames:
        pipeline.take(each)
        await settle()


async def test_nothing_is_shown_before_it_is_committed(parts):
    pipeline, disk, shown = parts
    await take(pipeline, frame(1))
    assert shown.rows == []
    disk.waiting[0][1].set_result(None)
    await settle()
    [row] = shown.rows
    assert row.values.tolist() == [101.0, 201.0, Phase.BASELINE, 1.0]
    assert row.status.tolist() == [0, 0, 0, 0]
    assert (pipeline.counters.received, pipeline.counters.recorded) == (1, 1)


async def test_a_frame_that_cannot_be_recorded_is_counted_and_never_shown(parts):
    # Fault F04: neither is the one before it shown any longer, as if it were of now.
    pipeline, disk, shown = parts
    await take(pipeline, frame(1))
    disk.waiting[0][1].set_exception(StorageError("disk full"))
    await take(pipeline, frame(2))
    disk.waiting[1][1].set_result(None)
    await settle()
    assert shown.told == [("lost", 1), ("shown", 2)]
    assert pipeline.counters.refused == 1


async def test_an_older_frame_that_is_recorded_later_does_not_hide_that_a_newer_one_is_lost(parts):
    # A full queue refuses at once what comes last, while what waits in it is recorded after that.
    pipeline, disk, shown = parts
    await take(pipeline, frame(1), frame(2))
    disk.waiting[1][1].set_exception(StorageError("1000 rows wait for the disk already"))
    disk.waiting[0][1].set_result(None)
    await settle()
    assert shown.told == [("lost", 2)]
    assert (pipeline.counters.recorded, pipeline.counters.refused) == (1, 1)


async def test_frames_of_one_turn_of_the_loop_are_recorded_together_and_shown_in_their_order(parts):
    pipeline, disk, shown = parts
    for second in (1, 2, 3):
        pipeline.take(frame(second))
    await settle()
    [(rows, future)] = disk.waiting
    assert [row.source_time // SECOND for row in rows] == [1, 2, 3]
    future.set_result(None)
    await settle()
    assert shown.told == [("shown", 1), ("shown", 2), ("shown", 3)]


async def test_the_same_measurement_polled_twice_is_recorded_once(parts):
    pipeline, disk, _ = parts
    await take(pipeline, frame(1), frame(1))
    assert len(disk.waiting) == 1
    assert pipeline.counters.repeated == 1


async def test_a_silent_device_is_recorded_with_its_quality_and_found_lost(parts):
    # Fault F10: the gap is in the history too, not only on the screen.
    pipeline, disk, shown = parts
    silent = {"values": np.full(2, np.nan), "causes": np.full(2, Cause.LINK_LOST, np.uint8), "phase": Phase.UNKNOWN}
    await take(pipeline, frame(1), *(frame(second, **silent) for second in range(2, 6)))
    for _, future in disk.waiting:
        future.set_result(None)
    await settle()
    assert [hex(int(r.status[0])) for r in shown.rows] == [
        "0x0", "0x408f0000", "0x408f0000", "0x80310000", "0x80310000",
    ]  # fmt: skip
    assert [hex(int(r.status[-1])) for r in shown.rows][1:] == ["0x80310000"] * 4  # phase: unknown, never an old one
    assert [(f.kind, f.level) for f in shown.findings] == [("CommunicationLost", "Active"), ("DeviceFailure", "Active")]


async def play_a_cycle(pipeline, disk, flags=lambda second: 0, begin=0) -> None:
    for second in range(25):
        phase = Phase.BASELINE if second < 5 else Phase.EXPOSURE if second < 15 else Phase.PURGE
        pipeline.take(frame(begin + second, phase=phase, flags=flags(second)))
    await settle()
    for _, future in disk.waiting:
        future.set_result(None)
    disk.waiting.clear()
    await settle()


async def test_a_cycle_is_simulated_if_any_of_its_rows_was(parts):
    # Process rule 7: the row that ends a cycle is no longer of it, and a device may stop its replay just then.
    pipeline, disk, shown = parts
    await play_a_cycle(pipeline, disk, lambda second: StatusBit.SIMULATED if second < 15 else 0)

    async def record(result):
        return result

    task = asyncio.create_task(pipeline.store_results(record))
    await pipeline.settled()
    task.cancel()
    assert [r.simulated for r in shown.results] == [True]


async def test_a_result_that_is_refused_costs_that_result_alone(parts):
    # A device without a clock of its own that begins at the same time after each power-up gives a result's id twice.
    pipeline, disk, shown = parts
    await play_a_cycle(pipeline, disk)

    async def refuse(_):
        raise EntryExists("result EN01.Stream01.14 was recorded with other values")

    task = asyncio.create_task(pipeline.store_results(refuse))
    await pipeline.settled()
    assert not task.done()
    task.cancel()
    assert (shown.results, pipeline.counters.refused) == ([], 1)


async def test_without_an_approved_model_a_cycle_is_not_decidable_and_says_so(parts):
    pipeline, disk, shown = parts
    await play_a_cycle(pipeline, disk)

    async def record(result):
        return result

    task = asyncio.create_task(pipeline.store_results(record))
    await pipeline.settled()
    task.cancel()
    [result] = shown.results
    assert result.verdict is Verdict.NOT_DECIDABLE
    assert result.reason == "no approved model for what is measured"
    assert result.stopped == 14 * SECOND  # end of exposure
    assert [f.kind for f in shown.findings] == []  # what decides nothing alarms nothing
    assert ("AnomalyDetected", "EN01.Stream01", Quality.BAD_NO_DATA) in shown.judged  # and says so
    [(stream, cycle)] = shown.cycles
    assert stream == "EN01.Stream01"
    assert np.isfinite(cycle.values).all()


async def test_a_result_waits_for_the_disk_and_keeps_its_place(parts, monkeypatch):
    # Process rule 12, fault F04: a NotOK sample that was dropped would let its batch pass.
    monkeypatch.setattr("opcua_server.pipeline.RETRY_SECONDS", 0.0)
    pipeline, disk, shown = parts
    await play_a_cycle(pipeline, disk)
    await play_a_cycle(pipeline, disk, begin=100)
    asked = []

    async def full_at_first(result):
        asked.append(result.result_id)
        if len(asked) == 1:
            raise StorageError("database or disk is full")
        return result

    task = asyncio.create_task(pipeline.store_results(full_at_first))
    await pipeline.settled()
    task.cancel()
    first, second = f"EN01.Stream01.{14 * SECOND}", f"EN01.Stream01.{114 * SECOND}"
    assert asked == [first, first, second]
    assert [r.result_id for r in shown.results] == [first, second]
    assert (pipeline.counters.results, pipeline.counters.refused) == (2, 0)


async def test_more_results_than_may_wait_are_counted(parts, monkeypatch):
    monkeypatch.setattr("opcua_server.pipeline.RESULTS", 1)
    _, disk, shown = parts
    pipeline = Pipeline(PLANT, disk, shown, SteppedClock())
    await play_a_cycle(pipeline, disk)
    await play_a_cycle(pipeline, disk, begin=100)
    assert pipeline.counters.refused == 1


@pytest.mark.parametrize(("simulated", "driver"), [(False, "modbus"), (True, "modbus"), (True, "simulator")])
async def test_a_device_that_is_declared_simulated_needs_no_status_bit(parts, simulated, driver):
    # Process rule 7: a register map with `status: null` tells nothing, and a replay behind it must not be released.
    _, disk, shown = parts
    [device] = PLANT.devices
    declared = {"simulated": simulated} if driver == "modbus" else {"driver": driver, "scenario": "coffee_a"}
    plant = PLANT.model_copy(update={"devices": (device.model_copy(update=declared),)})
    pipeline = Pipeline(plant, disk, shown, SteppedClock())
    await play_a_cycle(pipeline, disk)
    assert [judged.result.simulated for judged in pipeline._results._queue] == [simulated]
