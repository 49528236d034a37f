"""Composition root: a plant and a data folder -> a running service. The only file that knows every part."""

import asyncio
import contextlib
import gc
import getpass
import json
import logging
import os
import re
import signal
import socket
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import uvloop

from agents.worker import Worker
from compliance import audit, batches, exceptions, known, models, verify
from compliance.batches import Pins
from compliance.corrections import Corrections
from compliance.models import ProductModel
from compliance.users import Account, Accounts, Attempt
from config.load import digest
from config.schema import Plant
from historian import archive, backup, events, exchange, schema
from historian.alarms import Transition
from historian.alarms import load as saved_alarms
from historian.alarms import told as told_alarms
from historian.forward import StoreAndForward, recover
from historian.frames import typed
from historian.query import Reader
from historian.retention import Retirer
from historian.seal import Sealer
from historian.spool import Spool
from historian.writer import Writer
from nodesets.errors import (
    AccessDenied,
    ConfigurationError,
    DeviceError,
    EnoseError,
    InvalidArgument,
    InvalidState,
    Mistake,
    NoData,
    NotFound,
    StorageError,
)
from nodesets.model import Caller, EventRow, Frame, Note, Role
from nodesets.ports import Clock, Source, SystemClock
from opcua_server import admin, learning, logs, security
from opcua_server.drivers import DRIVERS
from opcua_server.pipeline import Pipeline
from opcua_server.plant import alarm_record, condition_methods, conformance, methods
from opcua_server.plant.alarms import Alarms
from opcua_server.plant.annunciator import Annunciator
from opcua_server.plant.conformance import Playground
from opcua_server.plant.diagnostics import Diagnostics
from opcua_server.plant.publish import Publisher
from opcua_server.plant.site import SERVICE, Site, Verified
from opcua_server.plant.space import recorded, result_tags, scada_view, space, stepped
from opcua_server.plant.translations import TRANSLATIONS
from opcua_server.plant.watch import Watch
from opcua_server.services.limits import Limits
from opcua_server.services.nodes import Access
from opcua_server.services.nodes import site as node_id
from opcua_server.services.server import UaServer
from opcua_server.services.storage import load_types

log = logging.getLogger(__name__)

DATABASE = "enose.db"
SHUTDOWN_SECONDS = 2
"""How long a shutdown is announced before connections close (acceptance point 33)."""
APART_SECONDS = 0.00025
"""Between the first polls of two devices: what one costs us, so that they do not wait for one another every period, and
still share a commit."""
CERTIFICATE_SECONDS = 2.0
ARCHIVE_SECONDS = 60.0
"""Until it is looked again for values of variables that had none yet."""
ANNOTATORS = frozenset({Role.OPERATOR, Role.ENGINEER, Role.QA, Role.QA_RELEASE})
"""Who may note something of a recorded value."""
COLLECTIONS = (700, 10, 50)
"""Of Python's garbage collector. With the usual 10 in the last place it walks all that was made since the start every ten
seconds, which stops the loop for 0.1 s and finds nothing; with 50 at most 350,000 dead objects wait for it."""
MEMBERS_SECONDS = 1.0
KNOWN_SECONDS = 60.0
IDENTIFY_SECONDS = 5.0
Arguments = admin.Arguments
T = TypeVar("T")


@dataclass(slots=True)
class Records:
    """What every command needs, with or without a server: the database, accounts, trust lists."""

    plant: Plant
    data_dir: Path
    clock: Clock
    writer: Writer
    recorder: StoreAndForward
    reader: Reader
    accounts: Accounts
    trust: security.TrustStore
    close_sessions: Callable[[str], int] = lambda _: 0
    """Of an account; without a server there are none."""
    _verifying: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def archive(self) -> Corrections:
        """The history as clients read and correct it."""
        return Corrections(self.reader, self.writer, self.clock)

    async def submit(self, work: Callable[[Any], T], *, alone: bool = False) -> T:
        """The writer's answer, awaited."""
        return await asyncio.wrap_future(self.writer.submit(work, alone=alone))

    async def log(self, caller: Caller, action: str, record: str, new: object) -> None:
        """One audit entry of its own."""
        note = Note(caller=caller, action=action, record=record, time=self.clock.now(), outcome="Good", new=new)
        await self.submit(lambda tx: audit.append(tx, _entry(note)))

    def note(self, rows: Sequence[EventRow], notes: Sequence[Note]) -> Future[None]:
        """Events and what clients did, in one transaction (ports.Journal)."""

        def work(tx: Any) -> None:
            for note in notes:
                audit.append(tx, _entry(note))
            events.record(tx, rows)

        return self.writer.submit(work)

    async def verify(self) -> Verified:
        """`compliance.verify` in a process of its own: a large database must not cost the service a tick.

        One at a time: each takes a processor for itself. -P: no module of the working directory stands in for ours.
        """
        address, environment = verifiable(self.database)
        command = (sys.executable, "-P", "-m", "compliance.verify", address, "--json")
        async with self._verifying:
            process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, env=environment)
            answer, _ = await process.communicate()
        if process.returncode not in (0, 1):
            raise StorageError("the audit log could not be read")
        report = json.loads(answer)
        entries = (p["key"] for p in report["problems"] if p["table"] == "audit_entry")
        return Verified(report["clean"], tuple(int(key) for key in entries if key.isdecimal()))

    async def learn(self, caller: Caller, product: str, lots: Sequence[str], phases: Sequence[int]) -> ProductModel:
        """Learn a product in a worker process and save it as a draft."""
        if product not in {p.id for p in self.plant.products}:
            raise NotFound(f"no product {product!r}; known: {', '.join(p.id for p in self.plant.products)}")
        files = [lot for lot in lots if "=" in lot]
        windows = [learning.window(lot) for lot in lots if learning.is_window(lot)]
        named = [lot for lot in lots if lot not in files and not learning.is_window(lot)]
        for made in await self.submit(lambda tx: [batches.get(tx, name) for name in named]):
            if not made.started:
                raise NoData(f"batch {made.batch_id} was never started")
            windows.append((made.batch_id, made.started, made.ended or self.clock.now()))
        model = await learning.in_worker(self.plant, product, files, phases, windows, self.database)
        now, metadata = self.clock.now(), {"streams": model.summary(), "lots": list(lots)}
        return await self.submit(
            lambda tx: models.save_draft(tx, caller, now, product, model.to_bytes(), model.digest, metadata)
        )

    @property
    def database(self) -> schema.Database:
        return database_of(self.plant, self.data_dir)


def database_of(plant: Plant, data_dir: Path) -> schema.Database:
    """Where the plant's database is. Raises ConfigurationError for a password that cannot be read, or by others too."""
    storage = plant.storage
    if storage.url is None:
        return schema.Database(f"sqlite:///{(data_dir / DATABASE).resolve()}")
    if storage.password_env:
        if storage.password_env not in os.environ:
            raise ConfigurationError([Mistake("storage.password_env", f"{storage.password_env} is not set")])
        return schema.Database(storage.url, os.environ[storage.password_env])
    if storage.password_file:
        return schema.Database(storage.url, _secret(Path(storage.password_file)))
    return schema.Database(storage.url)


def _secret(path: Path) -> str:
    """First line of a file only its owner may read."""
    try:
        if path.stat().st_mode & 0o077:
            raise ConfigurationError([Mistake("storage.password_file", f"{path} can be read by others: chmod 600")])
        return path.read_text().partition("\n")[0]
    except OSError as error:
        raise ConfigurationError([Mistake("storage.password_file", f"{path}: {error.strerror}")]) from error


def verifiable(database: schema.Database) -> tuple[str, dict[str, str]]:
    """The database as `compliance.verify` takes it, and an environment with its password: never an argument."""
    password = {"PGPASSWORD": database.password} if database.password else {}
    return database.url.removeprefix("sqlite:///"), {**os.environ, **password}


@contextlib.asynccontextmanager
async def open_records(plant: Plant, data_dir: Path, *, older: bool = False) -> AsyncIterator[Records]:
    """Database, writer, reader and accounts; the caller holds the data folder's lock.

    Raises ConfigurationError for a database older than the one that is known to have been here, unless `older`.
    """
    os.environ["TZ"] = plant.site.time_zone  # audit entries carry the site's offset from UTC (R05)
    time.tzset()
    clock = SystemClock()
    database = database_of(plant, data_dir)
    engine = schema.engine(database.url, database.password)
    schema.migrate(engine)
    missing = "" if older else known.missing(engine, data_dir)
    if missing:
        engine.dispose()
        how = "when an older state was restored on purpose, a security administrator and QA accept it together"
        raise ConfigurationError([Mistake("storage", f"{missing}; {how}: enose accept-restored")])
    groups = _groups(plant)
    spool = _spool(plant, data_dir, groups)
    if spool.groups != typed(groups):
        await asyncio.to_thread(recover, engine, spool, clock, audit.cover_history, audit.note_gap)
        spool = _spool(plant, data_dir, groups)
    writer = Writer(
        engine,
        groups,
        clock=clock,
        commit_seconds=plant.storage.commit_ms / 1000,
        queue=plant.storage.queue,
        covered=audit.cover_history,
        stream=spool.stream,
    )
    writer.start()
    recorder = StoreAndForward(
        writer,
        spool,
        clock=clock,
        slow_seconds=plant.storage.slow,
        queue=plant.storage.queue,
        noted=audit.note_gap,
    )
    recorder.start()
    reader = Reader(schema.reading(database.url, database.password))
    history = schema.reading(database.url, database.password)
    retirer = Retirer(
        history,
        writer,
        plant.storage.retention,
        clock=clock,
        held=partial(_in_batch, plant),
        logged=audit.retire_history,
        unaltered=audit.as_logged,
    )
    sealer = Sealer(
        history, writer, clock=clock, logged=audit.seal_history, unaltered=audit.as_logged, then=retirer.retire
    )
    sealer.start()
    accounts = Accounts(writer, plant.security, clock)
    try:
        await accounts.start()
        security.make_folders(data_dir)
        yield Records(plant, data_dir, clock, writer, recorder, reader, accounts, security.TrustStore(data_dir))
    finally:
        accounts.close()
        reader.close()
        await asyncio.to_thread(sealer.close)
        await asyncio.to_thread(recorder.close)
        try:
            if not older:
                await asyncio.to_thread(known.keep_end, engine, data_dir)
        except StorageError as error:
            log.error("the end of the audit log is not noted: %s", error)
        engine.dispose()


def _entry(note: Note) -> audit.Entry:
    return audit.Entry(
        time=note.time,
        action=note.action,
        actor=note.caller.user or "unknown",
        object=note.record,
        outcome=note.outcome,
        reason=note.reason,
        old=note.old,
        new=note.new,
        session=note.caller.session,
        application_uri=note.caller.application_uri,
        address=note.caller.address,
    )


async def accept_restored(
    plant: Plant, data_dir: Path, persons: Mapping[Role, tuple[str, str]], reason: str
) -> tuple[int, int]:
    """Log that an older state is the present one; `persons`: name and password by role.

    Returns how many entries were known and are there. Raises EnoseError.
    """
    before = known.load(data_dir)
    async with open_records(plant, data_dir, older=True) as records:
        missing = await records.submit(before.missing)
        length, leaf = await records.submit(audit.head)
        if not missing:
            raise InvalidState("nothing is missing: the audit log goes on from what is known")
        if not reason.strip():
            raise InvalidArgument("a reason is required")
        accepted = {role: await _proved(records, role, *person) for role, person in persons.items()}
        if len(set(accepted.values())) < len(accepted):
            raise AccessDenied("two different people are required")
        entry = audit.Entry(
            time=records.clock.now(),
            action="storage.accept_restored",
            actor=accepted[Role.QA],
            object=f"site/{plant.site.id}",
            reason=reason,
            old={"entries": before.entries, "leaf": before.leaf},
            new={"entries": length, "leaf": leaf, **{f"by_{role}": name for role, name in accepted.items()}},
        )
        await records.submit(lambda tx: audit.append(tx, entry), alone=True)
        known.keep(data_dir, known.Known(*await records.submit(audit.head)))
    return before.entries, length


async def _proved(records: Records, role: Role, name: str, password: str) -> str:
    """Name of the person with this password, who has the role. Raises RequestError."""
    account = await records.accounts.prove(name, password, Attempt(action="storage.accept_restored"))
    if role not in account.roles or account.service or account.must_change:
        raise AccessDenied(f"{account.name} may not accept this as {role}")
    return account.name


def _spool(plant: Plant, data_dir: Path, groups: Mapping[str, Sequence[str]]) -> Spool:
    folder = Path(plant.storage.spool) if plant.storage.spool else data_dir / "spool"
    return Spool(folder, groups, limit=plant.storage.spool_mb * 2**20, reserve=plant.storage.spool_reserve_mb * 2**20)


def _in_batch(plant: Plant, tx: Any, device: str, first: int, last: int) -> bool:
    """Whether a batch was made, while the device watched it, at some time from `first` to `last` (ns UTC)."""
    lines = {line.id for line in plant.lines for stream in line.streams if stream.partition(".")[0] == device}
    return batches.under_way(tx, sorted(lines), first, last)


def _groups(plant: Plant) -> dict[str, tuple[str, ...]]:
    """Columns of every recorded group: devices' frames and streams' results."""
    groups = {d.id: tuple(t.node for t in d.tags(plant.registers(d))) for d in plant.devices}
    for device in plant.devices:
        for stream in device.streams:
            tags = result_tags(f"{device.id}.{stream.id}")
            groups[f"{device.id}.{stream.id}.Quality"] = tuple(t.node for t in tags)
    if plant.playground:
        groups[conformance.GROUP] = conformance.RECORDED
    return groups


# The server


def serve(plant: Plant, data_dir: Path, ready: Callable[[str], None] = lambda _: None) -> None:
    """Run until SIGINT or SIGTERM; `ready(endpoint)` is told once clients can connect. Raises ConfigurationError."""
    logs.start()
    logging.getLogger("pymodbus.logging").setLevel(logging.CRITICAL)  # the driver tells of each change once
    for chatty in ("asyncua", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    with admin.data_folder(data_dir), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(plant, data_dir, ready))


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
        server = _server(records)
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
        annunciator = Annunciator(alarms, records.submit, publisher, records.clock)
        sources = {d.id: DRIVERS[d.driver](d, plant.registers(d), records.clock, 0) for d in plant.devices}
        pipeline = Pipeline(plant, records.recorder, publisher, records.clock, alarms.held())
        site = _site(records, server, alarms, annunciator, publisher, sources, agents, pipeline)
        publisher.on_finding = site.found
        publisher.annunciate = annunciator.find
        publisher.inhibit = annunciator.inhibit
        server.retained(lambda: map(publisher.event, annunciator.retained()))
        server.remember_events(records.reader)
        methods.link(server, site, tree)
        condition_methods.link(server, site)
        playground = Playground(
            server, publisher.find, annunciator.settled, records.writer, records.archive, records.clock
        )
        if plant.playground:
            playground.link(f"{plant.devices[0].id}.{plant.devices[0].streams[0].id}")
        records.close_sessions = server.close_sessions
        schedules = [s.schedule for s in sources.values()]
        diagnostics = Diagnostics(site, server, pipeline.counters, schedules)

        own = security.OwnCertificate(data_dir, application_uri(plant), server.identity)
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
        await stack.enter_async_context(admin.listening(data_dir, partial(_command, records)))
        stack.push_async_callback(site.finish_jobs)
        start = await stack.enter_async_context(_tasks())
        for i, (device, source) in enumerate(sources.items()):
            start(_run(source, pipeline.take, i * APART_SECONDS), f"driver {device}")
            start(_identify(publisher, device, source), f"identity {device}")
        start(pipeline.store_results(site.record_result), "results")
        start(annunciator.run(), "alarms")
        start(diagnostics.run(), "housekeeping")
        start(watch.run(CERTIFICATE_SECONDS), "certificates")
        start(_show_members(records, server), "roles")
        start(_show_archive(records, server), "archive")
        start(_keep_known(records), "known log")
        if plant.playground:
            start(playground.run(), "playground")
        yield server


async def _run(source: Source, emit: Callable[[Frame], None], seconds: float) -> None:
    """A driver that begins so much later."""
    await asyncio.sleep(seconds)
    await source.run(emit)


async def _show_members(records: Records, server: UaServer) -> None:
    """Keep the roles' Identities as the accounts are."""
    shown = -1
    while True:
        if shown != records.accounts.version:
            shown = records.accounts.version
            accounts = [a for a in await records.accounts.listing() if not a.disabled]
            server.show_members({role: [a.name for a in accounts if role in a.roles] for role in Role})
        await asyncio.sleep(MEMBERS_SECONDS)


async def _keep_known(records: Records) -> None:
    """Know the end of the log once a minute: what a database that is swapped is held against."""
    while True:
        await asyncio.sleep(KNOWN_SECONDS)
        try:
            end = known.Known(*await records.reader.read(audit.head))
            await asyncio.to_thread(known.keep, records.data_dir, end)
        except StorageError as error:  # the next turn tries again
            log.error("the end of the audit log is not noted: %s", error)


async def _log_renewal(records: Records, identity: security.Identity) -> None:
    ends = identity.certificate.not_valid_after_utc.isoformat()
    await records.log(SERVICE, "certificate.renew", f"certificate/{security.thumbprint(identity.der)}", {"ends": ends})


def historize(server: UaServer, plant: Plant, history: Corrections) -> None:
    """Have everything recorded read back, and noted on by people."""
    for node in recorded(plant):
        server.historize(node, history, stepped=stepped(plant, node))
        server.grant(node_id(f"{node}.Annotations"), _may_annotate)


def _may_annotate(caller: Caller) -> int:
    access = Access.HISTORY_READ | Access.HISTORY_WRITE
    return int(access if caller.roles & ANNOTATORS and caller.user else Access.HISTORY_READ)


async def _show_archive(records: Records, server: UaServer) -> None:
    """Show since when each variable is recorded, as soon as it is."""
    waiting = sorted(recorded(records.plant))
    while waiting:
        for node in tuple(waiting):
            with contextlib.suppress(NotFound):
                oldest = await records.reader.read_raw(node, archive.FIRST, None, 1)
                if len(oldest.times):
                    server.begins(node, int(oldest.times[0]))
                    waiting.remove(node)
        await asyncio.sleep(ARCHIVE_SECONDS)


@contextlib.asynccontextmanager
async def _tasks() -> AsyncIterator[Callable[[Coroutine[Any, Any, None], str], None]]:
    """Starts tasks that run until the block ends. The failure of one ends the block, and the service, with it."""
    async with asyncio.TaskGroup() as group:
        started: list[asyncio.Task[None]] = []
        yield lambda work, name: started.append(group.create_task(work, name=name))
        for task in started:
            task.cancel()


def application_uri(plant: Plant) -> str:
    """`urn:HOST:enose:SITE`: no spaces, the same at every start (acceptance point 10)."""
    return f"urn:{hostname(plant)}:enose:{plant.site.id}"


def hostname(plant: Plant) -> str:
    """The name clients reach the server by; the machine's own may not lead to one that listens on loopback."""
    return plant.server.hostname or ("localhost" if plant.server.loopback else socket.gethostname())


def _server(records: Records) -> UaServer:
    plant = records.plant
    return UaServer(
        identity=_identity(plant, records.data_dir),
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


def _identity(plant: Plant, data_dir: Path) -> security.Identity:
    """Key and certificate, with every name and address clients may use to reach this machine."""
    names, addresses = [hostname(plant)], list[str]()
    for host in {plant.server.host, "127.0.0.1"} - {"0.0.0.0", "::"}:  # noqa: S104 - left out, not bound
        (addresses if security.is_address(host) else names).append(host)
    return security.load_identity(data_dir, application_uri(plant), [*names, "localhost"], sorted(addresses))


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


# Commands


async def _users_add(records: Records, caller: Caller, arguments: Arguments) -> object:
    account = await records.accounts.add(
        caller,
        _text(arguments, "name"),
        [Role(role) for role in arguments["roles"]],  # type: ignore[attr-defined]
        _text(arguments, "password"),
        printed_name=_text(arguments, "printed_name"),
        service=bool(arguments["service"]),
        must_change=bool(arguments.get("must_change", False)),
    )
    return account.name


async def _users_disable(records: Records, caller: Caller, arguments: Arguments) -> object:
    account = await records.accounts.disable(caller, _text(arguments, "name"), _text(arguments, "reason"))
    return records.close_sessions(account.name)


async def _users_reset(records: Records, caller: Caller, arguments: Arguments) -> object:
    name, password, reason = (_text(arguments, key) for key in ("name", "password", "reason"))
    account = await records.accounts.reset(caller, name, password, reason)
    return records.close_sessions(account.name)


async def _users_list(records: Records, _caller: Caller, _arguments: Arguments) -> object:
    def state(account: Account) -> str:
        if account.disabled:
            return "disabled"
        if account.locked_until > records.clock.now():
            return "locked"
        return "must change password" if account.must_change else "active"

    return [
        {
            "name": a.name,
            "printed_name": a.printed_name,
            "roles": ", ".join(sorted(a.roles)) + (" (service)" if a.service else ""),
            "state": state(a),
        }
        for a in await records.accounts.listing()
    ]


async def _trust_list(records: Records, _caller: Caller, _arguments: Arguments) -> object:
    listed = [("trusted", c) for c in records.trust.list_trusted()]
    listed += [("rejected", c) for c in records.trust.list_rejected()]
    return [
        {
            "state": state,
            "thumbprint": c.thumbprint,
            "subject": c.name,
            "application_uri": c.application_uri,
            "expires": c.expires.date().isoformat(),
        }
        for state, c in listed
    ]


async def _trust_accept(records: Records, caller: Caller, arguments: Arguments) -> object:
    try:
        accepted = records.trust.accept(_text(arguments, "thumbprint"))
    except LookupError as error:
        raise NotFound(str(error)) from error
    new = {"subject": accepted.name, "application_uri": accepted.application_uri}
    await records.log(caller, "trust.accept", f"certificate/{accepted.thumbprint}", new)
    return f"{accepted.name} ({accepted.application_uri})"


async def _learn(records: Records, caller: Caller, arguments: Arguments) -> object:
    lots, phases = arguments["lots"], arguments["phases"]
    draft = await records.learn(caller, _text(arguments, "product"), lots, phases)  # type: ignore[arg-type]
    streams = draft.metadata["streams"]
    lines = [
        f"{stream}: {s['cycles']} good cycles of {len(s['lots'])} lots, realised false-alarm rate "
        f"{s['false_alarm_rate']:.3f} ({s['false_alarm_interval'][0]:.3f} to {s['false_alarm_interval'][1]:.3f}) "
        f"at alpha {s['alpha']:g}"
        for stream, s in streams.items()
    ]
    return [*lines, f"draft {draft.model_id}, digest {draft.digest}; QA approves it by signature (ApproveModel)"]


async def _backup(records: Records, caller: Caller, arguments: Arguments) -> object:
    folder, database = Path(_text(arguments, "folder")), records.database
    reading = schema.reading(database.url, database.password)
    try:
        made = await asyncio.to_thread(
            backup.back_up,
            reading,
            folder,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            software=version("enose"),
            progress=lambda _: None,
        )
    finally:
        reading.dispose()
    await records.log(
        caller, "storage.back_up", f"site/{records.plant.site.id}", {"folder": str(folder), **asdict(made)}
    )
    return asdict(made)


async def _import(records: Records, caller: Caller, arguments: Arguments) -> object:
    """Record a file's values under tags of their own; one audit entry says what came from where."""
    file, source, reason = Path(_text(arguments, "file")), _text(arguments, "source"), _text(arguments, "reason")
    start, period = arguments.get("start"), arguments.get("period", 1.0)
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,31}", source):
        raise InvalidArgument(f"source {source!r}: a name of letters, digits, - and _ is required")
    if not reason.strip():
        raise InvalidArgument("a reason is required")
    now, count, tags = records.clock.now(), 0, dict[str, None]()
    parts = exchange.parts(file, source, now, start=start, period=period)  # type: ignore[arg-type]
    while part := await asyncio.to_thread(next, parts, None):
        await asyncio.wrap_future(records.writer.add({part.group: part.tags}))
        await asyncio.wrap_future(records.writer.append(part.rows))
        count += len(part.rows)
        tags |= dict.fromkeys(part.tags)
    digest = await asyncio.to_thread(backup.sha256, file)
    new = {"file": file.name, "sha256": digest, "lines": count, "tags": list(tags), "reason": reason}
    await records.log(caller, "history.import", f"import/{source}", new)
    return {"lines": count, "tags": list(tags)}


def export(
    plant: Plant,
    data_dir: Path,
    patterns: Sequence[str],
    window: tuple[int, int],
    file: Path,
    progress: Callable[[float], None],
) -> int:
    """Export beside a running server, or without one. Raises EnoseError."""
    database = database_of(plant, data_dir)
    reader = Reader(schema.reading(database.url, database.password))
    try:
        return asyncio.run(exchange.export(reader, patterns, *window, file, progress))
    except OSError as error:
        raise StorageError(f"{file}: {error.strerror}") from error
    finally:
        reader.close()


COMMANDS: Mapping[str, Callable[[Records, Caller, Arguments], Awaitable[object]]] = {
    "users.add": _users_add,
    "users.disable": _users_disable,
    "users.reset": _users_reset,
    "users.list": _users_list,
    "trust.list": _trust_list,
    "trust.accept": _trust_accept,
    "learn": _learn,
    "backup": _backup,
    "import": _import,
}


def _text(arguments: Arguments, name: str) -> str:
    value = arguments.get(name)
    if not isinstance(value, str):
        raise InvalidArgument(f"{name}: a text is required")
    return value


async def _command(records: Records, user: str, name: str, arguments: Arguments) -> object:
    if name not in COMMANDS:
        raise NotFound(f"no command {name!r}")
    caller = Caller(user=user, roles=frozenset({Role.SECURITY_ADMIN, Role.ENGINEER}))
    return await COMMANDS[name](records, caller, arguments)


def carry_out(plant: Plant, data_dir: Path, name: str, arguments: Arguments) -> object:
    """Have the running server do it; with none running, do it here. Raises EnoseError."""
    try:
        return admin.ask(data_dir, name, arguments)
    except ConnectionRefusedError:
        pass

    async def alone() -> object:
        async with open_records(plant, data_dir) as records:
            return await _command(records, f"os:{getpass.getuser()}", name, arguments)

    with admin.data_folder(data_dir):
        return asyncio.run(alone())


def restore(plant: Plant, data_dir: Path, folder: Path, progress: Callable[[float], None]) -> str:
    """Restore an examined backup where the plant's database is to be; what is missing then against what is known here.

    Raises EnoseError.
    """
    database = database_of(plant, data_dir)
    with admin.data_folder(data_dir):
        if plant.storage.url is None:
            backup.restore_file(folder, data_dir / DATABASE, progress)
        engine = schema.engine(database.url, database.password)
        try:
            if plant.storage.url is not None:
                backup.restore(folder, engine, data_dir / "restoring.db", progress)
            return known.missing(engine, data_dir)
        finally:
            engine.dispose()


async def examine(plant: Plant, data_dir: Path) -> list[tuple[str, str]]:
    """(what, what is wrong with it or empty) of the tree, certificates, database and every device."""
    logging.getLogger("pymodbus.logging").setLevel(logging.CRITICAL)  # what a device did not answer is told below
    found = [("plant file", "")]
    for what, look in (("address space", lambda: space(plant)), ("certificates", lambda: _look(plant, data_dir))):
        try:
            look()
            found.append((what, ""))
        except EnoseError as error:
            found.append((what, str(error)))
    found.append(("database", await asyncio.to_thread(_database_state, plant, data_dir)))
    sources = {d.id: DRIVERS[d.driver](d, plant.registers(d), SystemClock(), 0) for d in plant.devices}
    answers = await asyncio.gather(*(s.identity() for s in sources.values()), return_exceptions=True)
    for device, answer in zip(plant.devices, answers, strict=True):
        what = f"device {device.id} at {device.host}:{device.port} unit {device.unit}"
        if isinstance(answer, DeviceError):
            found.append((what, str(answer)))
        elif isinstance(answer, BaseException):
            raise answer
        else:
            told = " ".join(answer[key] for key in ("Vendor", "Model", "SerialNumber") if key in answer)
            found.append((f"{what} {told}".rstrip(), ""))
    return found


def recorded_alarms(data_dir: Path, before: int) -> list[Transition]:
    """What was told of alarms before a time (ns UTC), in order. Raises NotFound, StorageError."""
    path = data_dir / DATABASE
    if not path.exists():
        raise NotFound(f"no database {path}")
    reader = Reader(schema.reading(f"sqlite:///{path.resolve()}"))
    try:
        return asyncio.run(reader.read(lambda tx: list(told_alarms(tx, 0, before))))
    finally:
        reader.close()


def _look(plant: Plant, data_dir: Path) -> None:
    if (data_dir / "pki").exists():
        _identity(plant, data_dir)


def _database_state(plant: Plant, data_dir: Path) -> str:
    if plant.storage.url is None and not (data_dir / DATABASE).exists():
        return ""
    try:
        address, environment = verifiable(database_of(plant, data_dir))
        report = verify.check(address, environment.get("PGPASSWORD", ""))
    except ConfigurationError as error:
        return str(error)
    except verify.Unreadable as error:
        return str(error)
    return "" if report.clean else f"{report.found} problems; see enose audit verify"
