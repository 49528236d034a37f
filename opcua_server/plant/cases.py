"""What the agents are told of a batch: gathered from records and history, never from what is merely shown."""

from typing import TYPE_CHECKING

import numpy as np

from agents.case import Case, ChannelRecord, Gap, OpenException
from analytics.validation import FROZEN_PATIENCE
from compliance import batches, exceptions, models, results
from compliance.batches import Batch
from compliance.models import Status
from config.schema import Device
from nodesets.errors import NotFound
from nodesets.model import Quality
from nodesets.ports import Series

if TYPE_CHECKING:
    from opcua_server.plant.site import Site

READINGS = 1_000_000
"""Readings of a channel that are looked at: eleven days at 1 Hz, the newest of a longer batch."""
HOLE = FROZEN_PATIENCE
"""Periods without a recorded reading that are a gap: a device may measure more slowly than it is polled."""
NO_COMMUNICATION = (Quality.UNCERTAIN_NO_COMMUNICATION_LAST_USABLE, Quality.BAD_NO_COMMUNICATION)


async def case_of(site: "Site", batch_id: str) -> Case:
    """The facts of a batch as of now. Raises NotFound."""
    batch, found, raised, approved = await site.reader.read(
        lambda tx: (
            batches.get(tx, batch_id),
            results.of_batch(tx, batch_id),
            exceptions.of_batch(tx, batch_id),
            (m := batches.get(tx, batch_id)).model_id != "" and models.get(tx, m.model_id).status is not Status.DRAFT,
        )
    )
    channels, gaps = await _instrument(site, batch)
    return Case(
        time=site.clock.now(),
        batch_id=batch_id,
        product=batch.product,
        execution=batch.execution,
        planned=batch.samples,
        results=found,
        exceptions=tuple(
            OpenException(exception_id=x.exception_id, kind=x.kind, critical=x.critical, text=x.text)
            for x in raised
            if x.unsettled
        ),
        model=batch.model_id,
        model_digest=batch.model_digest,
        model_approved=approved,
        score_low=await site.score_limit(batch),
        channels=channels,
        gaps=gaps,
        demo_site=batch.demo,
        context=(("LotId", batch.lot), ("RecipeId", batch.recipe)),
    )


async def _instrument(site: "Site", batch: Batch) -> tuple[tuple[ChannelRecord, ...], tuple[Gap, ...]]:
    """How good the readings of the line's sensors were while the batch ran, and when there were none."""
    channels, gaps = [], []
    streams = next((line.streams for line in site.plant.lines if line.id == batch.line), ())
    for stream in streams if batch.started else ():
        device = site.plant.device(stream.split(".")[0])
        nodes = [f"{device.id}.Array.{c.id}.SensorValue" for c in device.channels]
        for node in nodes:
            series = await _read(site, node, batch)
            bad = int(np.count_nonzero(series.status >= 0x80000000))
            good = int(np.count_nonzero(series.status < 0x40000000))
            channels.append(
                ChannelRecord(
                    channel=node, readings=len(series.status), bad=bad, uncertain=len(series.status) - bad - good
                )
            )
            if node == nodes[0]:
                gaps += _gaps(device, series, batch.started, batch.ended or site.clock.now())
    return tuple(channels), tuple(gaps)


async def _read(site: "Site", node: str, batch: Batch) -> Series:
    """The newest readings of a node while the batch ran, oldest first."""
    try:
        s = await site.reader.read_raw(node, batch.ended or site.clock.now(), batch.started - 1, READINGS)
        return Series(s.times[::-1], s.received[::-1], s.values[::-1], s.status[::-1], s.more)
    except NotFound:
        empty = np.empty(0, np.int64)
        return Series(empty, empty, np.empty(0), np.empty(0, np.uint32), None)


def _gaps(device: Device, series: Series, start: int, end: int) -> list[Gap]:
    """When nothing came of the device between start and end: readings without communication, or none at all.

    A series that is not whole (`more`) says nothing of the time before its first reading.
    """
    begin = np.empty(0, np.int64) if series.more else np.array([start])
    times = np.concatenate([begin, series.times, [end]])
    silent = np.concatenate([np.zeros(len(begin), bool), np.isin(series.status, NO_COMMUNICATION)])
    dark = silent | (np.diff(times) > HOLE * device.period * 1e9)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], dark, [False]]).astype(np.int8)))
    return [
        Gap(device=device.id, start=int(times[a]), end=int(times[b]))
        for a, b in zip(edges[::2], edges[1::2], strict=True)
    ]
