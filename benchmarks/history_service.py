"""Raw HistoryRead over the wire: a million values of one tag from disk, pages of 10,000, None and SignAndEncrypt.

The meter (../shared/tools/history.py) counts values without decoding them; both processes share the machine.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import insert, select

from benchmarks.historian import opened, placed
from benchmarks.report import Answer, main
from historian import chunks
from historian.chunks import HOUR, Block, Kind
from historian.schema import block, layout
from opcua_server.plant.conformance import COLUMNS, GROUP, RAMP
from opcua_server.records import DATABASE
from tests.servers import CLIENT_URI, Running, free_port

METER = Path(__file__).parents[2] / "shared/tools/history.py"
CONFIG = Path(__file__).parents[1] / "config/conformance.yaml"
HOURS, ROWS, PAGE = 278, 3600, 10_000
"""A million values at 1 Hz."""
SECOND = 10**9
PEER = {"None": ("open62541, memory backend", 14.2e6), "SignAndEncrypt": ("open62541, memory backend, None", 14.2e6)}
BARS = {"None": 10e6, "SignAndEncrypt": 4e6}


def run(args: argparse.Namespace) -> Iterator[Answer]:
    if not METER.exists():
        sys.exit(f"skipped: the meter {METER} is not there")
    with tempfile.TemporaryDirectory(prefix="enose-history-", dir=args.folder) as folder:
        server = prepared(Path(folder))
        with server.started():
            yield from raw_over_the_wire(server)


def prepared(folder: Path) -> Running:
    """A test plant whose ramp has a million values in sealed blocks."""
    config = folder / "conformance.yaml"
    config.write_text(CONFIG.read_text().replace("port: 4840", f"port: {free_port()}"))
    server = Running(config, folder / "data")
    server.add_user("observer", "Observer")
    with server.started():
        pass  # makes the layout of the ramp
    fill(server.data / DATABASE)
    return server


def fill(path: Path) -> None:
    """Sealed hours of the ramp's group before now, each with values of its own."""
    generator = np.random.default_rng(1)
    now = time.time_ns() // HOUR * HOUR
    times = np.arange(ROWS) * (HOUR // ROWS)
    kinds = [column.kind for column in COLUMNS]
    with opened(path) as made, made.begin() as tx:
        of = tx.execute(select(layout.c.id).where(layout.c.tag_group == GROUP)).scalars().one()
        for hour in range(HOURS):
            values = generator.normal(50, 1, (len(COLUMNS), ROWS)).cumsum(axis=1).round(2).view(np.uint64)
            values[[kind is Kind.STRING for kind in kinds]] = 1  # one text
            whole = Block(times, times, times, values, np.zeros(values.shape, np.uint32))
            for piece in chunks.cut(whole):
                begin = now - (HOURS + 2 - hour) * HOUR
                tx.execute(insert(block), placed(piece, chunks.encode(piece, kinds), begin, of, -(10**9) + hour * ROWS))


def raw_over_the_wire(server: Running) -> Iterator[Answer]:
    certificate, key = server.credentials()
    own = server.data / "pki/own/certs/enose.der"
    user = ("--user", "observer", "--password", server.passwords["observer"], "--application-uri", CLIENT_URI)
    channel = ("--security", f"Basic256Sha256,SignAndEncrypt,{certificate},{key},{own}")
    for over, secured in (("None", ()), ("SignAndEncrypt", channel)):
        found = measured(server, *user, *secured)
        rate, (peer, peer_rate) = found["values_per_s"], PEER[over]
        yield Answer(
            question=f"raw HistoryRead of {found['values']} values over {over}, pages of {PAGE}",
            value=rate / 1e6,
            unit="million values/s",
            bar=f"{BARS[over] / 1e6:g}",
            ok=rate >= BARS[over],
            peer=peer,
            peer_value=peer_rate / 1e6,
        )
        yield Answer(
            question=f"the same for a second of the server's processor, over {over}",
            value=found["values_per_server_cpu_s"] / 1e6,
            unit="million values/CPU s",
        )


def measured(server: Running, *arguments: str) -> dict[str, Any]:
    """What the meter says of the best of five readings."""
    command = [sys.executable, str(METER), server.endpoint, f"ns=3;s={RAMP}", "--hours", str(HOURS + 4),
               "--per-call", str(PAGE), "--repeat", "5", "--pid", str(server.pid), *arguments]  # fmt: skip
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found: dict[str, Any] = json.loads(output)
    return found


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--folder", type=Path, help="where to make the database; default: of the system")


if __name__ == "__main__":
    sys.exit(main(__doc__.splitlines()[0], run, arguments))
