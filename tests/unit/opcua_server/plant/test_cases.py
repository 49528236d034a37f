import asyncio
from dataclasses import replace

import numpy as np

from compliance import batches
from nodesets.model import Quality, Row
from opcua_server.plant import cases, methods
from tests.unit.opcua_server.plant.test_methods import OPERATOR
from tests.unit.opcua_server.plant.test_site import approve


async def test_of_a_batch_longer_than_is_looked_at_the_newest_readings_count(site, monkeypatch):
    # Fault F10: a link lost on the twelfth day of a batch is a gap in it as one of the first day.
    made, _ = site
    await made.refresh_all()
    await approve(made)
    await methods.create_batch(made, OPERATOR, "L01", "B1", "COFFEE-A", "", "", 1.0)
    await methods.start_batch(made, OPERATOR, "L01", "B1")
    batch = await made.submit(lambda tx: batches.get(tx, "B1"))
    device = made.plant.devices[0]
    n = len(device.tags(made.plant.registers(device)))
    lost = int(Quality.BAD_NO_COMMUNICATION)
    rows = [
        Row(
            group=device.id,
            source_time=batch.started + second * 10**9,
            received_time=batch.started + second * 10**9,
            values=np.ones(n),
            status=np.full(n, lost if second >= 18 else 0, np.uint32),
        )
        for second in range(1, 21)
    ]
    await asyncio.wrap_future(made.writer.append(rows))
    monkeypatch.setattr(cases, "READINGS", 5)
    channels, [gap] = await cases._instrument(made, replace(batch, ended=batch.started + 60 * 10**9))
    assert (channels[0].readings, channels[0].bad) == (5, 3)
    assert (gap.start, gap.end) == (batch.started + 18 * 10**9, batch.started + 20 * 10**9)
