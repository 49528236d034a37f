"""What an installation keeps: database, writer, readers, accounts, its certificate and those it trusts."""

import asyncio
import contextlib
import json
import logging
import os
import socket
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from compliance import audit, batches, known, models
from compliance.corrections import Corrections
from compliance.models import ProductModel
from compliance.users import Accounts
from config.schema import Plant
from historian import events, schema
from historian.chunks import Kind
from historian.forward import StoreAndForward, recover
from historian.frames import Column, typed
from historian.query import Reader
from historian.retention import Retirer
from historian.seal import Sealer
from historian.spool import Spool
from historian.writer import Writer
from nodesets.errors import ConfigurationError, Mistake, NoData, NotFound, StorageError
from nodesets.model import Caller, EventRow, Note
from nodesets.ports import Clock, SystemClock
from opcua_server import learning, pki, security
from opcua_server.plant import conformance
from opcua_server.plant.site import Verified
from opcua_server.plant.space import batch_texts, result_tags, result_texts

log = logging.getLogger(__name__)

DATABASE = "enose.db"
VERIFY_NICENESS = 10
"""A check of the whole database yields to those who are served meanwhile."""
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
    archive: Corrections = field(init=False)
    """The history as clients read and correct it."""
    _verifying: asyncio.Lock = field(default_factory=asyncio.Lock)

    def __post_init__(self) -> None:
        self.archive = Corrections(self.reader, self.writer, self.clock)

    async def submit(self, work: Callable[[Any], T], *, alone: bool = False, soon: bool = False) -> T:
        """The writer's answer, awaited."""
        return await asyncio.wrap_future(self.writer.submit(work, alone=alone, soon=soon))

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
            with contextlib.suppress(ProcessLookupError):  # it has ended already
                os.setpriority(os.PRIO_PROCESS, process.pid, VERIFY_NICENESS)
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
    groups = groups_of(plant)
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
        history,
        writer,
        clock=clock,
        seconds=plant.storage.seal,
        logged=audit.seal_history,
        unaltered=audit.as_logged,
        then=retirer.retire,
    )
    sealer.start()
    accounts = Accounts(writer, plant.security, clock)
    try:
        await accounts.start()
        pki.take_over(data_dir)
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


def _spool(plant: Plant, data_dir: Path, groups: Mapping[str, Sequence[str | Column]]) -> Spool:
    folder = Path(plant.storage.spool) if plant.storage.spool else data_dir / "spool"
    return Spool(folder, groups, limit=plant.storage.spool_mb * 2**20, reserve=plant.storage.spool_reserve_mb * 2**20)


def _in_batch(plant: Plant, tx: Any, device: str, first: int, last: int) -> bool:
    """Whether a batch was made, while the device watched it, at some time from `first` to `last` (ns UTC)."""
    lines = {line.id for line in plant.lines for stream in line.streams if stream.partition(".")[0] == device}
    return batches.under_way(tx, sorted(lines), first, last)


def groups_of(plant: Plant) -> dict[str, tuple[str | Column, ...]]:
    """Columns of every recorded group: devices' frames, streams' results, lines' batches."""
    groups: dict[str, tuple[str | Column, ...]] = {}
    for device in plant.devices:
        groups[device.id] = tuple(t.node for t in device.tags(plant.registers(device)))
    for stream in (f"{device.id}.{stream.id}" for device in plant.devices for stream in device.streams):
        numbers = (tag.node for tag in result_tags(stream))
        groups[f"{stream}.Quality"] = (*numbers, *map(_of_texts, result_texts(stream)))
    for line in plant.lines:
        groups[f"{line.id}.Batch"] = tuple(map(_of_texts, batch_texts(line.id)))
    if plant.playground:
        groups[conformance.GROUP] = conformance.COLUMNS
    return groups


def _of_texts(node: str) -> Column:
    return Column(node, Kind.STRING)


def application_uri(plant: Plant) -> str:
    """`urn:HOST:enose:SITE`: no spaces, the same at every start (acceptance point 10)."""
    return f"urn:{hostname(plant)}:enose:{plant.site.id}"


def hostname(plant: Plant) -> str:
    """The name clients reach the server by; the machine's own may not lead to one that listens on loopback."""
    return plant.server.hostname or ("localhost" if plant.server.loopback else socket.gethostname())


def identity(plant: Plant, data_dir: Path) -> security.Identity:
    """Key and certificate, with every name and address clients may use to reach this machine."""
    names, addresses = [hostname(plant)], list[str]()
    for host in {plant.server.host, "127.0.0.1"} - {"0.0.0.0", "::"}:  # noqa: S104 - left out, not bound
        (addresses if security.is_address(host) else names).append(host)
    return security.load_identity(data_dir, application_uri(plant), [*names, "localhost"], sorted(addresses))
