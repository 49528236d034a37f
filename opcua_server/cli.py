"""`enose` on the command line."""

import asyncio
import csv
import getpass
import json
import sys
from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Never
from zoneinfo import ZoneInfo

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from config import load
from config.schema import Plant
from nodesets.errors import EnoseError
from nodesets.model import Role

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="OPC UA server and control service for electronic noses on a production line.\n\n"
    "Start with [bold]enose demo[/bold]; then copy config/plant.yaml, change it, and run "
    "[bold]enose check[/bold] until it is content.",
)
users = typer.Typer(no_args_is_help=True, help="Accounts: who may log in, and as what.")
trust = typer.Typer(no_args_is_help=True, help="Certificates of client applications.")
audit = typer.Typer(no_args_is_help=True, help="The audit log.")
app.add_typer(users, name="users")
app.add_typer(trust, name="trust")
alarms = typer.Typer(no_args_is_help=True, help="What was told of alarms.")
app.add_typer(audit, name="audit")
app.add_typer(alarms, name="alarms")

Config = Annotated[Path, typer.Option("--config", "-c", help="Plant file (YAML); default: the demo plant.")]
DataDir = Annotated[
    Path,
    typer.Option("--data-dir", "-d", envvar="ENOSE_DATA", help="Database, certificates, keys; made at first start."),
]
CONFIG = load.DEMO
DATA = Path("data")
out, err = Console(soft_wrap=True), Console(stderr=True, soft_wrap=True)


class Format(StrEnum):
    csv = "csv"
    json = "json"


class WordOrder(StrEnum):
    big = "big"
    little = "little"


def fail(error: EnoseError) -> Never:
    """Every refusal looks the same: what is wrong on standard error, exit code 1."""
    err.print(str(error), style="red", markup=False, highlight=False)
    raise typer.Exit(1)


def plant_of(config: Path) -> Plant:
    try:
        return load.load(config)
    except EnoseError as error:
        fail(error)


def command(config: Path, data_dir: Path, what: str, /, **arguments: object) -> Any:
    """Have the running server do it, or do it here when none runs."""
    from opcua_server.commands import carry_out

    try:
        return carry_out(plant_of(config), data_dir, what, arguments)
    except EnoseError as error:
        fail(error)


def show(rows: list[Mapping[str, object]], *columns: str) -> None:
    table = Table()
    for column in columns:
        table.add_column(column, overflow="fold")  # a thumbprint cut short cannot be compared
    for row in rows:
        table.add_row(*(str(row[c]) for c in columns))
    out.print(table)


def _version(wanted: bool) -> None:
    if wanted:
        out.print(f"enose {version('enose')}", highlight=False)
        raise typer.Exit


@app.callback()
def main(_: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True)] = False) -> None:
    pass


@app.command()
def run(
    config: Config = CONFIG,
    data_dir: DataDir = DATA,
    port: Annotated[int | None, typer.Option(help="Overrides server.port of the plant file.")] = None,
) -> None:
    """Run the server until Ctrl-C or SIGTERM; prints its endpoint once clients can connect."""
    from opcua_server.app import serve

    plant = plant_of(config)
    if port is not None:
        plant = plant.model_copy(update={"server": plant.server.model_copy(update={"port": port})})
    try:
        serve(plant, data_dir, lambda endpoint: print(endpoint, flush=True))
    except EnoseError as error:
        fail(error)


@app.command()
def demo(
    data_dir: DataDir = DATA,
    port: Annotated[int, typer.Option(help="OPC UA port.")] = 4840,
) -> None:
    """Run the demo plant: two simulated e-noses as processes of their own, and the server."""
    from opcua_server.demo import run_demo

    try:
        run_demo(data_dir, port)
    except EnoseError as error:
        fail(error)


@app.command()
def check(config: Config = CONFIG, data_dir: DataDir = DATA) -> None:
    """Check plant file, certificates, database and devices; tell everything that is wrong at once."""
    from opcua_server.commands import examine

    plant = plant_of(config)
    findings = asyncio.run(examine(plant, data_dir))
    for what, wrong in findings:
        out.print(f"[red]wrong[/red]  {what}: {wrong}" if wrong else f"[green]good[/green]   {what}", highlight=False)
    if any(wrong for _, wrong in findings):
        raise typer.Exit(1)


@app.command()
def tags(
    config: Config = CONFIG,
    data_dir: DataDir = DATA,  # noqa: ARG001 - every command takes it; the tag list follows from the plant file alone
    format: Annotated[Format, typer.Option(help="For import into a SCADA.")] = Format.csv,  # noqa: A002
) -> None:
    """Print the tag list: NodeId, type, unit, range, description. Needs no running server."""
    from opcua_server.plant.space import tags as tag_rows

    try:
        rows = [dict(row) for row in tag_rows(plant_of(config))]
    except EnoseError as error:
        fail(error)
    if format is Format.json:
        json.dump(rows, sys.stdout, indent=1, ensure_ascii=False)
        print()
    else:
        writer = csv.DictWriter(sys.stdout, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _password(prompt: str) -> str:
    """From standard input: asked for on a terminal, otherwise its first line. Never from an argument."""
    if sys.stdin.isatty():
        first = getpass.getpass(f"{prompt}: ")
        if first != getpass.getpass("again: "):
            err.print("the two differ", style="red")
            raise typer.Exit(1)
        return first
    return sys.stdin.readline().rstrip("\r\n")


def _secret(prompt: str) -> str:
    """A password that exists already, from standard input."""
    return getpass.getpass(f"{prompt}: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\r\n")


@users.command("add")
def users_add(
    name: str,
    role: Annotated[list[Role], typer.Option("--role", "-r", help="May be given several times.")],
    full_name: Annotated[str, typer.Option(help="As printed on signed records; default: the name.")] = "",
    service: Annotated[bool, typer.Option(help="An account of a machine: may call, can never sign.")] = False,
    must_change: Annotated[
        bool, typer.Option("--must-change", help="The password was not typed by its owner, who must change it first.")
    ] = False,
    config: Config = CONFIG,
    data_dir: DataDir = DATA,
) -> None:
    """Add an account; its owner types the password (standard input), or changes it first with --must-change."""
    password = _password(f"password of {name}")
    command(
        config,
        data_dir,
        "users.add",
        name=name,
        roles=[str(r) for r in role],
        printed_name=full_name or name,
        service=service,
        must_change=must_change,
        password=password,
    )
    out.print(f"added {name}")


@users.command("disable")
def users_disable(
    name: str,
    reason: Annotated[str, typer.Option(help="Goes into the audit log.")],
    config: Config = CONFIG,
    data_dir: DataDir = DATA,
) -> None:
    """Disable an account and end its sessions. Accounts are never deleted."""
    command(config, data_dir, "users.disable", name=name, reason=reason)
    out.print(f"disabled {name}")


@users.command("reset")
def users_reset(
    name: str,
    reason: Annotated[str, typer.Option(help="Goes into the audit log.")],
    config: Config = CONFIG,
    data_dir: DataDir = DATA,
) -> None:
    """Set a first password (from standard input) that its owner must change before anything else."""
    command(config, data_dir, "users.reset", name=name, reason=reason, password=_password(f"first password of {name}"))
    out.print(f"reset {name}; it must be changed at the next login")


@users.command("list")
def users_list(config: Config = CONFIG, data_dir: DataDir = DATA) -> None:
    """List the accounts."""
    show(command(config, data_dir, "users.list"), "name", "printed_name", "roles", "state")


@trust.command("list")
def trust_list(config: Config = CONFIG, data_dir: DataDir = DATA) -> None:
    """List trusted and rejected certificates."""
    show(command(config, data_dir, "trust.list"), "state", "thumbprint", "subject", "application_uri", "expires")


@trust.command("accept")
def trust_accept(
    thumbprint: Annotated[str, typer.Argument(help="Or its first characters, as `enose trust list` shows it.")],
    config: Config = CONFIG,
    data_dir: DataDir = DATA,
) -> None:
    """Trust a client certificate that was rejected; the client then connects without a restart."""
    out.print(f"trusted {command(config, data_dir, 'trust.accept', thumbprint=thumbprint)}")


def _from_here(lot: str) -> str:
    """A lot whose file is found from here, so that it is found by a server that runs in another folder too."""
    stream, _, source = lot.partition("=")
    name, at, number = (source, "", "") if Path(source).is_file() else source.partition("@")
    return f"{stream}={Path(name).resolve()}{at}{number}" if Path(name).is_file() else lot


@app.command()
def learn(
    product: str,
    lot: Annotated[
        list[str],
        typer.Option(
            help="Good cycles of one lot, at least three lots: `STREAM=recording.csv`, `STREAM=scenario.yaml` "
            "(simulated) or a batch id whose recorded results are used."
        ),
    ],
    phases: Annotated[str, typer.Option(help="Rows of baseline, exposure, purge of a recording.")] = "5,10,5",
    config: Config = CONFIG,
    data_dir: DataDir = DATA,
) -> None:
    """Learn a product's fingerprint from good cycles. It becomes a draft, which QA approves by signature."""
    try:
        rows = [int(p) for p in phases.split(",")]
    except ValueError as error:
        raise typer.BadParameter("three whole numbers, as 5,10,5", param_hint="--phases") from error
    answer = command(config, data_dir, "learn", product=product, lots=[_from_here(x) for x in lot], phases=rows)
    for line in answer:
        out.print(line, highlight=False)


@audit.command("verify")
def audit_verify(
    config: Config = CONFIG,
    data_dir: DataDir = DATA,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Verify the audit log, every record it covers, and the history. Exit code 1: something was altered."""
    from compliance import verify
    from opcua_server.records import database_of, verifiable

    try:
        address, environment = verifiable(database_of(plant_of(config), data_dir))
    except EnoseError as error:
        fail(error)
    raise typer.Exit(verify.main([address, *(["--json"] if as_json else [])], environment.get("PGPASSWORD", "")))


@app.command("backup")
def back_up(
    folder: Annotated[Path, typer.Argument(help="A new folder; keys and certificates are not in it.")],
    config: Config = CONFIG,
    data_dir: DataDir = DATA,
) -> None:
    """Back up the database, while the server runs or without one."""
    made = command(config, data_dir, "backup", folder=str(folder.resolve()))
    out.print(f"{folder}: {made['entries']} audit entries, SHA-256 {made['sha256']}", highlight=False)


@app.command()
def restore(
    folder: Annotated[Path, typer.Argument(help="What `enose backup` made.")],
    only_verify: Annotated[bool, typer.Option("--verify", help="Check the backup, and restore nothing.")] = False,
    config: Config = CONFIG,
    data_dir: DataDir = DATA,
) -> None:
    """Check a backup against its manifest and its audit log, then restore it to where no database is yet."""
    from compliance import verify
    from historian import backup
    from opcua_server import commands

    plant = plant_of(config)
    try:
        manifest = backup.examine(folder)
        if verify.main([str(folder / backup.FILE)]) != 0:
            raise typer.Exit(1)
        out.print(f"backup of {manifest.created}, {manifest.entries} audit entries", highlight=False)
        if only_verify:
            return
        with Progress(console=err, transient=True) as bar:
            task = bar.add_task("restoring", total=1.0)
            missing = commands.restore(plant, data_dir, folder, lambda share: bar.update(task, completed=share))
    except EnoseError as error:
        fail(error)
    out.print("restored")
    if missing:
        err.print(
            f"{missing}. The server does not start on it until a security administrator and QA accept that: "
            "enose accept-restored",
            style="yellow",
            markup=False,
            highlight=False,
        )


@app.command("accept-restored")
def accept_restored(
    administrator: Annotated[str, typer.Option(help="Account with the role SecurityAdmin.")],
    qa: Annotated[str, typer.Option(help="Account with the role QA, of another person.")],
    reason: Annotated[str, typer.Option(help="Goes into the audit log.")],
    config: Config = CONFIG,
    data_dir: DataDir = DATA,
) -> None:
    """Accept that the database is an older state than the one that was here; both passwords from standard input."""
    from opcua_server import admin, commands

    persons = {
        Role.SECURITY_ADMIN: (administrator, _secret(f"password of {administrator}")),
        Role.QA: (qa, _secret(f"password of {qa}")),
    }
    plant = plant_of(config)
    try:
        with admin.data_folder(data_dir):
            before, now = asyncio.run(commands.accept_restored(plant, data_dir, persons, reason))
    except EnoseError as error:
        fail(error)
    out.print(f"accepted: {before} entries were known, the audit log goes on from {now}")


@alarms.command("report")
def alarms_report(
    config: Config = CONFIG,
    data_dir: DataDir = DATA,
    start: Annotated[
        datetime | None,
        typer.Option("--from", help="Begin of the shift, local time; default: so long ago."),
    ] = None,
    hours: Annotated[float, typer.Option(min=0.1, max=24 * 31, help="How long the shift is.")] = 8.0,
    picture: Annotated[Path | None, typer.Option(help="Write a picture (SVG) as well.")] = None,
) -> None:
    """The alarms of a shift against the figures of ISA-18.2, as CSV: worst, chattering, standing, rates."""
    from opcua_server import alarm_report
    from opcua_server.commands import recorded_alarms

    zone = ZoneInfo(plant_of(config).site.time_zone)
    length = timedelta(hours=hours)
    begin = start.replace(tzinfo=zone) if start is not None else datetime.now(zone) - length
    first, last = (round(moment.timestamp() * 1e9) for moment in (begin, begin + length))
    try:
        made = alarm_report.report(recorded_alarms(data_dir, last), first, last)
    except EnoseError as error:
        fail(error)
    print(alarm_report.as_csv(made, zone), end="")
    if picture is not None:
        picture.write_text(alarm_report.as_svg(made, zone), "utf-8")


def _instant(text: str) -> int:
    from historian.exchange import as_time

    try:
        return as_time(text)
    except EnoseError as error:
        raise typer.BadParameter(str(error)) from error


@app.command()
def export(
    file: Annotated[Path, typer.Argument(help="A new file, .csv or .parquet.")],
    tag: Annotated[list[str], typer.Option("--tags", "-t", help="Tag, or pattern as `EN01.*`; several times.")],
    start: Annotated[str, typer.Option("--from", help="First instant, ISO 8601; without an offset UTC.")],
    end: Annotated[str, typer.Option("--to", help="Instant after the last.")],
    config: Config = CONFIG,
    data_dir: DataDir = DATA,
) -> None:
    """Write recorded values of any range to a file, beside a running server or without one."""
    from opcua_server import commands

    window = _instant(start), _instant(end)
    patterns = [pattern.rpartition("ns=3;s=")[2] for pattern in tag]
    try:
        with Progress(console=err, transient=True) as bar:
            task = bar.add_task("exporting", total=1.0)
            count = commands.export(
                plant_of(config), data_dir, patterns, window, file, lambda share: bar.update(task, completed=share)
            )
    except EnoseError as error:
        fail(error)
    out.print(f"{count} values")


@app.command("import")
def import_recording(
    file: Annotated[Path, typer.Argument(help="Recording, .csv or .parquet; see docs/storage.md for its forms.")],
    source: Annotated[str, typer.Option(help="Its values are recorded as `Import.SOURCE.…`.")],
    reason: Annotated[str, typer.Option(help="Goes into the audit log.")],
    start: Annotated[str | None, typer.Option(help="Instant of the first line, of a recording without times.")] = None,
    period: Annotated[float, typer.Option(min=1e-6, help="Seconds between two of its lines.")] = 1.0,
    config: Config = CONFIG,
    data_dir: DataDir = DATA,
) -> None:
    """Record the values of a file under tags of their own, marked as imported."""
    begin = None if start is None else _instant(start)
    what = {"file": str(file.resolve()), "source": source, "reason": reason, "start": begin, "period": period}
    made = command(config, data_dir, "import", **what)
    out.print(f"{made['lines']} lines, tags {', '.join(made['tags'][:5])}{' …' * (len(made['tags']) > 5)}")


@app.command()
def device(
    port: Annotated[int, typer.Option(help="Modbus TCP port.")] = 5020,
    physics: Annotated[
        str | None, typer.Option(help="Scenario of the simulated physics: a file, or a shipped name.")
    ] = None,
    replay: Annotated[Path | None, typer.Option(help="Recording to play (CSV).")] = None,
    speed: Annotated[float, typer.Option(min=0.01, help="Replay: row i plays at start + i x period / speed.")] = 1.0,
    period: Annotated[
        float, typer.Option(min=0.01, help="Seconds between two rows of the recording, or two steps.")
    ] = 1.0,
    phases: Annotated[str | None, typer.Option(help="Replay: rows of baseline, exposure, purge laid over it.")] = None,
    columns: Annotated[str | None, typer.Option(help="Replay: columns that are the channels, in order.")] = None,
    loop: Annotated[bool, typer.Option(help="Replay: begin anew at the end.")] = False,
    seed: Annotated[int, typer.Option(help="Physics: same scenario and seed, same registers.")] = 1,
    units: Annotated[int, typer.Option(min=1, max=247, help="Serve unit ids 1..N.")] = 1,
    word_order: Annotated[WordOrder, typer.Option()] = WordOrder.big,
    host: Annotated[str, typer.Option(help="Address to bind.")] = "127.0.0.1",
    config: Config = CONFIG,  # noqa: ARG001 - every command takes them; a device is no part of a server's plant
    data_dir: DataDir = DATA,  # noqa: ARG001
) -> None:
    """Be an e-nose: a Modbus TCP device of simulated physics, or one that plays a recording."""
    from opcua_server.device import __main__ as process

    given = {"--physics": physics, "--replay": replay, "--phases": phases, "--columns": columns}
    options = [f"{name}={value}" for name, value in given.items() if value is not None]
    options += [f"--host={host}", f"--port={port}", f"--units={units}", f"--period={period}", f"--speed={speed}"]
    options += [f"--seed={seed}", f"--word-order={word_order}", *(["--loop"] if loop else [])]
    raise typer.Exit(process.main(options))
