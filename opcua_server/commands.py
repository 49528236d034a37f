"""What plant IT asks of an installation from its console: carried out by the running server, or without one."""

import asyncio
import getpass
import logging
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from compliance import audit, known, verify
from compliance.users import Account, Attempt
from config.schema import Plant
from historian import backup, exchange, schema
from historian.alarms import Transition
from historian.alarms import told as told_alarms
from historian.query import Reader
from nodesets.errors import (
    AccessDenied,
    ConfigurationError,
    DeviceError,
    EnoseError,
    InvalidArgument,
    InvalidState,
    NotFound,
    StorageError,
)
from nodesets.model import Caller, Role
from nodesets.ports import SystemClock
from opcua_server import admin
from opcua_server.drivers import DRIVERS
from opcua_server.plant.space import space
from opcua_server.records import DATABASE, Records, database_of, identity, open_records, verifiable

Arguments = admin.Arguments


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


async def run(records: Records, user: str, name: str, arguments: Arguments) -> object:
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
            return await run(records, f"os:{getpass.getuser()}", name, arguments)

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
        identity(plant, data_dir)


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
