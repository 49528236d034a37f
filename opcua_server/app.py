"""Composition root: a plant and a data folder -> a running service. The only file that knows every part."""

import asyncio
import contextlib
import ctypes
import gc
import logging
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from functools import partial
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import uvloop

from agents.worker import Worker
from compliance import audit, exceptions, known
from compliance.batches import Pins
from compliance.corrections import Corrections
from config.load import digest
from config.schema import Plant
from historian.alarms import load as saved_alarms
from nodesets.errors import DeviceError, StorageError
from nodesets.model import Caller, Frame, Role
from nodesets.ports import Source
from opcua_server import admin, commands, logs, security
from opcua_server.drivers import DRIVERS
from opcua_server.pipeline import Pipeline
from opcua_server.plant import alarm_record, condition_methods, conformance, methods
from opcua_server.plant.alarms import Alarms
from opcua_server.plant.annunciator import Annunciator
from opcua_server.plant.conformance import Playground
from opcua_server.plant.diagnostics import Diagnostics
from opcua_server.plant.publish import Publisher
from opcua_server.plant.site import SERVICE, Site
from opcua_server.plant.space import recorded, scada_view, space, stepped
from opcua_server.plant.translations import TRANSLATIONS
from opcua_server.plant.watch import Watch
from opcua_server.records import Records, application_uri, hostname, identity, open_records
from opcua_server.services.limits import Limits
from opcua_server.services.nodes import Access
from opcua_server.services.nodes import site as node_id
from opcua_server.services.server import UaServer
from opcua_server.services.storage import load_types

log = logging.getLogger(__name__)

SHUTDOWN_SECONDS = 2
"""How long a shutdown is announced before connections close (acceptance point 33)."""
APART_SECONDS = 0.00025
"""Between the first polls of two devices: what one costs us, so that they do not wait for one another every period, and
still share a commit."""
SWITCH_SECONDS = 0.0005
"""Longest one thread computes while another waits to: at Python's 5 ms a commit, some ten calls into the database, is
five times as long as its disk takes whenever frames of many devices come together."""
M_ARENA_MAX = -8
"""Parameter of glibc's `mallopt`: heaps there may be."""
CERTIFICATE_SECONDS = 2.0
ARCHIVE_SECONDS = 60.0
"""Until it is looked again for values of variables that had none yet."""
ANNOTATORS = frozenset({Role.OPERATOR, Role.ENGINEER, Role.QA, Role.QA_RELEASE})
"""Who may note something of a recorded value."""
COLLECTIONS = (700, 10, 50)
"""Thresholds of Python's garbage collector. With the usual 10 in the last place it walks all that was made since the
start every ten seconds, which stops the loop for 0.1 s and finds nothing; with 50 some 350,000 dead objects wait."""
MEMBERS_SECONDS = 1.0
KNOWN_SECONDS = 60.0
IDENTIFY_SECONDS = 5.0


def serve(plant: Plant, data_dir: Path, ready: Callable[[str], None] = lambda _: None) -> None:
    """Run until SIGINT or SIGTERM; `ready(endpoint)` is told once clients can connect. Raises ConfigurationError."""
    logs.start()
    logging.getLogger("pymodbus.logging").setLevel(logging.CRITICAL)  # the driver tells of each change once
    for chatty in ("asyncua", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    sys.setswitchinterval(SWITCH_SECONDS)
    _share_one_heap()
    with admin.data_folder(data_dir), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(plant, data_dir, ready))


def _share_one_heap() -> None:
    """What one thread gives back another can use: each with a heap of its own keeps the most it ever held at a time.

    Where the C library is not glibc nothing is done.
    """
    if (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        mallopt(M_ARENA_MAX, 1)


async def _serve(plant: Plant, data_dir: Path, ready: Callable[[str], None]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    gc.disable()  # nearly all that is made until the server is ready stays for good: nothing to collect, now or later
    async with running(plant, data_dir) as server:
        gc.freeze()
        gc.set_threshold(*COLLECTIONS)
        gc.enable()
        ready(server.url)
        log.info("ready at %s", server.url)
        await stop.wait()
        log.info("stopping")


@contextlib.asynccontextmanager
async def running(plant: Plant, data_dir: Path) -> AsyncIterator[UaServer]:
    """The whole service, for as long as the block lasts."""
    async with contextlib.AsyncExitStack() as stack:
        records = await stack.enter_async_context(open_records(plant, data_dir))
        agents = await stack.enter_async_context(Worker())
        own = security.OwnCertificate(data_dir, application_uri(plant), identity(plant, data_dir))
        server = _server(records, own)
        await server.init()
        server.translate(TRANSLATIONS)
        await load_types(server.asyncua, Path(str(files("nodesets") / "enose.xml")))
        tree = space(plant)
        instances, references = tree.instances, tree.references
        if plant.playground:
            instances, references = (*instances, *conformance.instances()), (*references, *conformance.references())
        server.replace(instances, references)
        if plant.security.anonymous:
            server.open(scada_view(tree))
        historize(server, plant, records.archive)

        alarms = Alarms(plant)
        alarms.restore(alarm_record.load(alarms, await records.submit(saved_alarms)))
        publisher = Publisher(plant, server, records.clock)
        annunciator = Annunciator(alarms, partial(records.submit, soon=True), publisher, records.clock)
        sources = {d.id: DRIVERS[d.driver](d, plant.registers(d), records.clock, 0) for d in plant.devices}
        pipeline = Pipeline(plant, records.recorder, publisher, records.clock, alarms.held())
        site = _site(records, server, alarms, annunciator, publisher, sources, agents, pipeline)
        publisher.on_finding = site.found
        publisher.annunciate = annunciator.find
        publisher.doubt = annunciator.judge
        publisher.inhibit = annunciator.inhibit
        server.retained(lambda: map(publisher.event, annunciator.retained()))
        server.remember_events(records.reader)
        methods.link(server, site, tree)
        condition_methods.link(server, site)
        playground = Playground(
            server,
            publisher.find,
            annunciator.judge,
            annunciator.settled,
            site.publish_advice,
            records.recorder,
            records.archive,
            records.clock,
        )
        if plant.playground:
            playground.link(f"{plant.devices[0].id}.{plant.devices[0].streams[0].id}")
            publisher.doubt = playground.judge
        records.close_sessions = server.close_sessions
        schedules = [s.schedule for s in sources.values()]
        diagnostics = Diagnostics(site, server, pipeline.counters, schedules)

        watch = Watch(server, records.trust, own, partial(_log_renewal, records), annunciator.find, records.clock)
        records.accounts.on_locked = watch.locked

        name = f"site/{plant.site.id}"
        await records.log(
            SERVICE, "service.start", name, {"software": version("enose"), "python": sys.version.split()[0]}
        )
        await records.log(SERVICE, "configuration.load", name, {"digest": digest(plant), "demo": plant.site.demo})
        stack.push_async_callback(records.log, SERVICE, "service.stop", name, None)
        await records.submit(lambda tx: exceptions.interrupted(tx, SERVICE, records.clock.now()))
        await site.refresh_all()
        await server.start()
        stack.push_async_callback(server.stop, SHUTDOWN_SECONDS)
        await stack.enter_async_context(admin.listening(data_dir, partial(commands.run, records)))
        stack.push_async_callback(site.finish_jobs)
        start = await stack.enter_async_context(_tasks())
        for i, (device, source) in enumerate(sources.items()):
            start(_run(source, pipeline.take, i * APART_SECONDS), f"driver {device}")
            start(_identify(publisher, device, source), f"identity {device}")
        start(pipeline.store_results(site.record_result), "results")
        start(annunciator.run(), "alarms")
        start(diagnostics.run(), "housekeeping")
        start(watch.run(CERTIFICATE_SECONDS), "certificates")
        start(_every(MEMBERS_SECONDS, "roles not shown", _Members(records, server).show), "roles")
        start(_every(ARCHIVE_SECONDS, "archive not shown", _Archive(records, server).show), "archive")
        start(_every(KNOWN_SECONDS, "end of the audit log not noted", partial(_keep_known, records)), "known log")
        if plant.playground:
            start(playground.run(), "playground")
        yield server


async def _run(source: Source, emit: Callable[[Frame], None], seconds: float) -> None:
    """A driver that begins so much later."""
    await asyncio.sleep(seconds)
    await source.run(emit)


async def _every(seconds: float, what: str, turn: Callable[[], Awaitable[None]]) -> None:
    """Take turns for ever. What the storage refuses is tried again by the next one: sampling goes on without it."""
    while True:
        try:
            await turn()
        except StorageError as error:
            log.error("%s: %s", what, error)
        await asyncio.sleep(seconds)


class _Members:
    """Keeps the roles' Identities as the accounts are."""

    def __init__(self, records: Records, server: UaServer) -> None:
        self._records, self._server = records, server
        self._shown = -1

    async def show(self) -> None:
        version = self._records.accounts.version
        if version != self._shown:
            accounts = [a for a in await self._records.accounts.listing() if not a.disabled]
            self._server.show_members({role: [a.name for a in accounts if role in a.roles] for role in Role})
            self._shown = version


async def _keep_known(records: Records) -> None:
    """Know the end of the log: what a database that is swapped is held against."""
    end = known.Known(*await records.reader.read(audit.head))
    await asyncio.to_thread(known.keep, records.data_dir, end)


async def _log_renewal(records: Records, identity: security.Identity) -> None:
    """Returns when it is in the audit log, as soon as the storage takes it."""
    new = {"ends": identity.certificate.not_valid_after_utc.isoformat()}
    while True:
        try:
            await records.log(SERVICE, "certificate.renew", f"certificate/{security.thumbprint(identity.der)}", new)
            return
        except StorageError as error:
            log.error("the new certificate is not in the audit log yet: %s", error)
            await asyncio.sleep(CERTIFICATE_SECONDS)


def historize(server: UaServer, plant: Plant, history: Corrections) -> None:
    """Have everything recorded read back, and noted on by people."""
    steps = stepped(plant)
    for node in recorded(plant):
        server.historize(node, history, stepped=node in steps)
        server.grant(node_id(f"{node}.Annotations"), _may_annotate)


def _may_annotate(caller: Caller) -> int:
    access = Access.HISTORY_READ | Access.HISTORY_WRITE
    return int(access if caller.roles & ANNOTATORS and caller.user else Access.HISTORY_READ)


class _Archive:
    """Shows since when each variable is recorded, as soon as it is."""

    def __init__(self, records: Records, server: UaServer) -> None:
        self._reader, self._server = records.reader, server
        self._waiting = set(recorded(records.plant))

    async def show(self) -> None:
        begun = await self._reader.begins()
        for node in self._waiting & begun.keys():
            self._server.begins(node, begun[node])
            self._waiting.remove(node)


@contextlib.asynccontextmanager
async def _tasks() -> AsyncIterator[Callable[[Coroutine[Any, Any, None], str], None]]:
    """Starts tasks that run until the block ends. The failure of one ends the block, and the service, with it."""
    async with asyncio.TaskGroup() as group:
        started: list[asyncio.Task[None]] = []
        yield lambda work, name: started.append(group.create_task(work, name=name))
        for task in started:
            task.cancel()


def _server(records: Records, own: security.OwnCertificate) -> UaServer:
    plant = records.plant
    return UaServer(
        identity=own.identity,
        own=own,
        trust=records.trust,
        identities=records.accounts,
        application_uri=application_uri(plant),
        policies=plant.security.policies,
        host=plant.server.host,
        port=plant.server.port,
        hostname=hostname(plant),
        name=f"enose {plant.site.title or plant.site.id}",
        clock=records.clock,
        limits=Limits(**plant.server.limits.model_dump(exclude_none=True)),
        journal=records,
        none=plant.security.none,
        anonymous=plant.security.anonymous,
        discovery=plant.server.discovery,
        discovery_period=plant.server.discovery_period,
    )


def _site(
    records: Records,
    server: UaServer,
    alarms: Alarms,
    annunciator: Annunciator,
    publisher: Publisher,
    sources: Mapping[str, Source],
    agents: Worker,
    pipeline: Pipeline,
) -> Site:
    plant = records.plant
    return Site(
        plant=plant,
        clock=records.clock,
        writer=records.writer,
        recorder=records.recorder,
        reader=records.reader,
        accounts=records.accounts,
        alarms=alarms,
        annunciator=annunciator,
        publisher=publisher,
        sources=sources,
        agents=agents,
        pins=Pins(
            configuration=digest(plant),
            software=version("enose"),
            samples={p.id: p.samples for p in plant.products},
            demo=plant.site.demo,
        ),
        close_sessions=server.close_sessions,
        verify=records.verify,
        learn=records.learn,
        use_model=pipeline.use,
    )


async def _identify(publisher: Publisher, device: str, source: Source) -> None:
    """Show the device's nameplate as soon as it answers."""
    while True:
        try:
            publisher.nameplate(device, await source.identity())
            return
        except DeviceError:
            await asyncio.sleep(IDENTIFY_SECONDS)
