import asyncio
from dataclasses import replace

import numpy as np

from compliance import batches
from nodesets.model import Quality, Row
from opcua_server.plant import cases, methods
from tests.unit.opcua_server.plant.test_methods import OPERATOR
from tests.unit.opcua_server.plant.test_site import approve


async def recorded(made, status) -> batches.Batch:
    """A batch, and a reading of its first device at each of these seconds since its start."""
    await made.refresh_all()
    await approve(made)
    await methods.create_batch(made, OPERATOR, "L01", "B1", "COFFEE-A", "", "", 1.0)
    await methods.start_batch(made, OPERATOR, "L01", "B1")
    batch = await made.submit(lambda tx: batches.get(tx, "B1"))
    device = made.plant.devices[0]
    n = len(device.tags(made.plant.registers(device)))
    rows = [
        Row(
            group=device.id,
            source_time=batch.started + second * 10**9,
            received_time=batch.started + second * 10**9,
            values=np.ones(n),
            status=np.full(n, code, np.uint32),
        )
        for second, code in status.items()
    ]
    await asyncio.wrap_future(made.writer.append(rows))
    return batch


async def gaps(made, batch, seconds) -> list[tuple[int, int]]:
    """Of the first device, in a batch of so many seconds; seconds since its start."""
    _, found = await cases._instrument(made, replace(batch, ended=batch.started + seconds * 10**9))
    seen = [(g.start, g.end) for g in found if g.device == made.plant.devices[0].id]
    return [((a - batch.started) // 10**9, (b - batch.started) // 10**9) for a, b in seen]


async def test_of_a_batch_longer_than_is_looked_at_the_newest_readings_count(site, monkeypatch):
    # Fault F10: a link lost on the twelfth day of a batch is a gap in it as one of the first day.
    made, _ = site
    batch = await recorded(made, {s: Quality.BAD_NO_COMMUNICATION if s >= 18 else 0 for s in range(1, 21)})
    monkeypatch.setattr(cases, "READINGS", 5)
    assert await gaps(made, batch, 21) == [(18, 21)]
    [first, *_], _ = await cases._instrument(made, replace(batch, ended=batch.started + 21 * 10**9))
    assert (first.readings, first.bad) == (5, 3)


async def test_where_nothing_was_recorded_is_a_gap(site):
    # Fault F10: a service that was down, or a full disk, leaves no reading that says so.
    made, _ = site
    batch = await recorded(made, dict.fromkeys([*range(20, 30), *range(50, 60)], 0))
    assert await gaps(made, batch, 65) == [(0, 20), (29, 50)]


async def test_a_batch_without_any_reading_is_one_gap(site):
    made, _ = site
    batch = await recorded(made, {})
    assert await gaps(made, batch, 60) == [(0, 60)]
