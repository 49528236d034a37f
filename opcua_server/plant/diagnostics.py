"""How the service itself does, as nodes; and what has to be looked at now and then."""

import asyncio
import logging
from collections.abc import Mapping, Sequence

import numpy as np
from asyncua import ua

from compliance import audit
from nodesets.errors import StorageError
from nodesets.model import Counters, Finding
from opcua_server.drivers.schedule import Schedule
from opcua_server.plant import events
from opcua_server.plant.alarms import SITE_SOURCES
from opcua_server.plant.site import Site
from opcua_server.services.server import UaServer

log = logging.getLogger(__name__)

HEALTHY, DEGRADED, NO_DATA = 255, 150, 50
"""ServiceLevel (Part 4 6.6.2.4.2): a device is silent, or recordings go to the spool -> degraded; recordings are lost,
or the database can be neither read nor written -> hardly of use."""
STORAGE_SEVERITY, LOST_SEVERITY, WELL_SEVERITY = 700, 900, 100
SECOND = 1.0


class Diagnostics:
    """Publishes once a second."""

    def __init__(self, site: Site, server: UaServer, counters: Counters, schedules: Sequence[Schedule]) -> None:
        self._site, self._server, self._counters, self._schedules = site, server, counters, schedules
        self._columns = {d.id: len(d.tags(site.plant.registers(d))) for d in site.plant.devices}
        self._before = (site.clock.monotonic(), 0)
        self._unread = ""
        """Why the database could not be read the last time; empty when it could."""
        self._storage = ""
        """What was told of the storage last."""
        self._found: str | None = None
        """Level of StorageFailure that was found last; None: nothing yet."""
        self._lost = site.recorder.lost + site.recorder.set_aside

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.publish()
            self._alarms()
            await asyncio.sleep(SECOND)

    def _alarms(self) -> None:
        """What goes on with time alone."""
        annunciator, now = self._site.annunciator, self._site.clock.now()
        self._site.publisher.shelved(annunciator.shown())
        if 0 < self._site.advice_expires <= now:
            self._site.advice_expires = 0
            self._site.start_job(self._site.refresh_recommendations(), "showing recommendations")
        metrics = annunciator.figures.metrics(annunciator.shown(), now)
        self._site.publisher.write("ENose.AlarmMetrics", events.metrics_values(metrics), now)

    async def publish(self) -> None:
        now = self._site.clock.now()
        self._site.publisher.write("ENose.Diagnostics", self._values(), now)
        try:
            length, head = await self._site.reader.read(audit.head)
        except StorageError as error:  # sampling goes on: the next turn tries again
            self._unread = str(error)
        else:
            self._unread = ""
            log = {"AuditTrailLength": _count(length), "AuditChainHead": events.string(head)}
            self._site.publisher.write("ENose.Compliance", log, now)
        self._tell_of_storage(now)
        self._server.service_level(self._level())

    def _level(self) -> int:
        recorder = self._site.recorder
        if recorder.losing:
            return NO_DATA
        if recorder.forwarding:
            return DEGRADED
        if self._site.writer.trouble or self._unread:
            return NO_DATA
        return DEGRADED if self._site.publisher.silent_devices else HEALTHY

    def _tell_of_storage(self, now: int) -> None:
        """An alarm and SystemEvents: the storage fails, recordings are lost or set aside, and it is well again."""
        recorder = self._site.recorder
        storage = ("recordings are lost: " if recorder.losing else "recordings go to the spool: ") + recorder.trouble
        storage = storage if recorder.forwarding or recorder.losing else ""
        if bool(storage) != bool(self._storage):
            words = storage or "recordings go to the database again, all of the spool is recorded"
            self._tell(words, STORAGE_SEVERITY if storage else WELL_SEVERITY, now)
        self._storage = storage
        lost, self._lost = self._lost, recorder.lost + recorder.set_aside
        if self._lost > lost:
            gone = f"{recorder.lost} recordings lost and {recorder.set_aside} set aside so far"
            self._tell(gone, LOST_SEVERITY, now)
            storage = storage or gone
        level = "Lost" if recorder.losing or self._lost > lost else "Active" if storage else ""
        self._find(level, storage or "recordings go to the database", now)

    def _find(self, level: str, words: str, now: int) -> None:
        if level != self._found:
            self._found = level
            source = SITE_SOURCES["storage"]
            self._site.annunciator.find(
                Finding(kind="StorageFailure", source=source, time=now, level=level, text=words)
            )

    def _tell(self, words: str, severity: int, now: int) -> None:
        log.warning("%s", words)
        self._server.publish_event(events.security_report(words, severity, now))

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
            "QueueDepth": events.number(max(self._site.writer.waiting, self._site.recorder.waiting)),
            "FramesReceived": _count(counters.received),
            "FramesRepeated": _count(counters.repeated),
            "FramesStored": _count(counters.recorded),
            "FramesLost": _count(counters.refused),
            "CommitWait": events.double(float(np.median(waits))),
            "ScheduleOverruns": _count(sum(s.overruns for s in self._schedules)),
            "ScheduleLagMedian": events.double(float(np.median(lag))),
            "ScheduleLagP99": events.double(float(np.percentile(lag, 99))),
            "LastError": events.string(
                (self._site.recorder.trouble or self._site.writer.trouble or self._unread)[:254]
            ),
        }


def _count(number: int) -> ua.Variant:
    """A UInt32 that begins anew at zero, as counters do: after fifty days of a thousand frames a second."""
    return events.number(number % 2**32)
