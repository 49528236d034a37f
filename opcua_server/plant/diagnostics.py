"""How the service itself does, as nodes; and what has to be looked at now and then."""

import asyncio
import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from asyncua import ua

from compliance import audit
from nodesets.model import Counters
from opcua_server.drivers.schedule import Schedule
from opcua_server.plant import events
from opcua_server.plant.site import Site
from opcua_server.services.server import UaServer

HEALTHY, DEGRADED, NO_DATA = 255, 150, 50
"""ServiceLevel (Part 4 6.6.2.4.2): a device is silent -> degraded; nothing can be recorded -> hardly of use."""
SECOND = 1.0


class Diagnostics:
    """Publishes once a second; settles alarm delays more often."""

    def __init__(self, site: Site, server: UaServer, counters: Counters, schedules: Sequence[Schedule]) -> None:
        self._site, self._server, self._counters, self._schedules = site, server, counters, schedules
        self._columns = {d.id: len(d.tags(site.plant.registers(d))) for d in site.plant.devices}
        self._before = (site.clock.monotonic(), 0)

    async def run(self, seconds: float) -> None:
        """Until cancelled, every `seconds`."""
        for turn in itertools.count():
            self._site.publisher.due_alarms()
            if turn % max(1, round(SECOND / seconds)) == 0:
                await self.publish()
            await asyncio.sleep(seconds)

    async def publish(self) -> None:
        now = self._site.clock.now()
        self._site.publisher.write("ENose.Diagnostics", self._values(), now)
        length, head = await self._site.reader.read(audit.head)
        self._site.publisher.write(
            "ENose.Compliance", {"AuditTrailLength": events.number(length), "AuditChainHead": events.string(head)}, now
        )
        self._server.service_level(self._level())

    def _level(self) -> int:
        if self._site.writer.trouble:
            return NO_DATA
        return DEGRADED if self._site.publisher.silent_devices else HEALTHY

    def _values(self) -> Mapping[str, ua.Variant]:
        counters, instant = self._counters, self._site.clock.monotonic()
        then, stored = self._before
        self._before = instant, counters.recorded
        frames = (counters.recorded - stored) / max(instant - then, 1e-3)
        width = sum(self._columns.values()) / len(self._columns)
        lag = 1000 * np.array([x for s in self._schedules for x in s.lag] or [0.0])
        waits = 1000 * np.array(counters.waits or [0.0])
        return {
            "SampleRate": events.double(frames * width),
            "QueueDepth": events.number(self._site.writer.waiting),
            "FramesReceived": events.number(counters.received),
            "FramesRepeated": events.number(counters.repeated),
            "FramesStored": events.number(counters.recorded),
            "FramesLost": events.number(counters.refused),
            "CommitWait": events.double(float(np.median(waits))),
            "ScheduleOverruns": events.number(sum(s.overruns for s in self._schedules)),
            "ScheduleLagMedian": events.double(float(np.median(lag))),
            "ScheduleLagP99": events.double(float(np.percentile(lag, 99))),
            "LastError": events.string(self._site.writer.trouble[:254]),
        }
