"""Recordings for replay: real ones of ../shared/data as CSV, several odours strung together, or a generated one.

A recording is what `enose device --replay` plays: a header and one row a sample. `cycles_recording` lays acquisition
cycles over it, so it is to be played with `--phases baseline,exposure,purge`: baseline and purge rows come from a
recording of a faint odour that stands for reference air, exposure rows from the odour's own, each in recorded order.
What the environment columns hold comes from the air recording throughout: temperature and pressure of another day's
session would change with every valve otherwise.
"""

import csv
import io
import tarfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
SMELLNET = DATA / "smellnet" / "smellnet_data.tar.xz"
BEEF = DATA / "beef_enose_uncontrolled"
ABSENT = f"no recordings at {DATA}"

HEADER = (
    "NO2", "C2H5OH", "VOC", "CO", "Alcohol", "LPG", "Benzene",
    "Temperature", "Pressure", "Humidity", "Gas_Resistance", "Altitude",
)  # fmt: skip
"""Columns of SmellNet."""
ENVIRONMENT = ("Temperature", "Pressure", "Humidity", "Altitude")
AIR = "pecans"
"""The faintest odour of SmellNet that was recorded on the same days as the strong ones."""
SETTLED = 100
"""Rows at the beginning of a recording in which the sensors still settle."""
INVALID = 4294967295.0
"""An unsigned -1 in SmellNet's Benzene column: the sensor is not valid."""


@dataclass(frozen=True, slots=True)
class Laid:
    """Where one cycle lies in a recording."""

    odour: str
    lot: str
    first_row: int


def smellnet(part: str, odours: Sequence[str]) -> Mapping[str, list[Floats]] | None:
    """Recordings of these odours, each of shape (rows, 12), in the order of their file names.

    `part` is `offline_training` (five or six a substance), `offline_testing` or `online_nuts`. None without the data.
    """
    if not SMELLNET.is_file():
        return None
    return {odour: _smellnet()[part][odour] for odour in odours}


@cache
def _smellnet() -> Mapping[str, Mapping[str, list[Floats]]]:
    found: dict[str, dict[str, list[Floats]]] = {}
    with tarfile.open(SMELLNET) as archive:
        for member in sorted((m for m in archive if m.isfile()), key=lambda m: m.name):
            part, _, rest = member.name.removeprefix("./").partition("/")
            file = archive.extractfile(member)
            if not rest or file is None:
                continue
            text = file.read().decode()
            assert tuple(text.partition("\n")[0].strip().split(",")) == HEADER
            found.setdefault(part, {}).setdefault(rest.split("/")[0], []).append(_rows(text))
    return found


def beef(number: int) -> Floats | None:
    """TS1..TS4, a row a minute, shape (2160, 13): TVC, nine resistances, humidity, temperature; None without the data.

    The first column is the minute; the class, a word, is left out.
    """
    path = BEEF / f"TS{number}.csv"
    return _rows(path.read_text(), skip=("class",)) if path.is_file() else None


def generated(odour: str, lot: int, rows: int = 400) -> Floats:
    """A recording like SmellNet's, shape (rows, 12), from odour, lot and nothing else: seeded.

    An odour moves each gas channel by its own factor, air none; a lot differs from the next by 2 %, noise is 0.5 %.
    """
    seed = zlib.crc32(odour.encode())
    pattern = np.zeros(6) if odour == AIR else np.random.default_rng(seed).uniform(0.2, 1.5, 6)
    rng = np.random.default_rng([seed, lot])
    level = np.log([25.0, 50.0, 45.0, 720.0, 90.0, 60.0]) + pattern * rng.normal(1, 0.03) + rng.normal(0, 0.02, 6)
    gases = np.exp(level + rng.normal(0, 0.005, (rows, 6)))
    environment = np.tile([25.0, 1007.0, 30.0], (rows, 1)) + rng.normal(0, 0.05, (rows, 3))
    resistance = 400 * np.exp(-pattern.mean() + rng.normal(0, 0.005, rows))
    altitude = 80 + rng.normal(0, 0.3, rows)
    return np.column_stack([gases, np.full(rows, INVALID), environment, resistance, altitude]).round(2)


def odour_rows(odours: Sequence[str]) -> Mapping[str, list[Floats]]:
    """Recordings of SmellNet, six lots an odour: five for training and the one for testing.

    Generated ones where the data is absent.
    """
    training, testing = smellnet("offline_training", odours), smellnet("offline_testing", odours)
    if training is not None and testing is not None:
        return {odour: training[odour] + testing[odour] for odour in odours}
    return {odour: [generated(odour, lot) for lot in range(6)] for odour in odours}


def cycles(
    plan: Sequence[tuple[str, int]], each: int, baseline: int = 5, exposure: int = 10, purge: int = 5, air: str = AIR
) -> tuple[Floats, list[Laid]]:
    """Rows of `each` cycles for every (odour, lot number) of the plan, one after another, and where each cycle lies.

    Lots are counted round where the plan asks for more than there are. A recording that ends begins again; its first
    rows, in which the sensors still settle, are never used.
    """
    recordings = odour_rows(sorted({air, *(odour for odour, _ in plan)}))
    keep = [HEADER.index(name) for name in ENVIRONMENT]
    clean = recordings[air][0][SETTLED:]
    used = 0
    parts: list[Floats] = []
    laid: list[Laid] = []
    length = baseline + exposure + purge
    for odour, lot in plan:
        lots = recordings[odour]
        number = lot % len(lots)
        sample = lots[number][SETTLED:]
        for i in range(each):
            laid.append(Laid(odour, f"{odour}{number + 1}", length * len(laid)))
            if used + length > len(clean):
                used = 0  # no cycle over the seam, where the baseline would step
            rows = clean[used : used + length].copy()
            used += length
            inside = slice(baseline, baseline + exposure)
            environment = rows[inside, keep].copy()
            first = i * exposure % (len(sample) - exposure)
            rows[inside] = sample[first : first + exposure]
            rows[inside, keep] = environment
            parts.append(rows)
    return np.concatenate(parts), laid


def cycles_recording(
    path: Path,
    odours: Sequence[str],
    cycles_each: int,
    baseline: int = 5,
    exposure: int = 10,
    purge: int = 5,
    air: str = AIR,
    lot: int = 0,
) -> list[Laid]:
    """Write `cycles_each` cycles of every odour, one odour after another, as a CSV recording; where each cycle lies."""
    rows, laid = cycles([(odour, lot) for odour in odours], cycles_each, baseline, exposure, purge, air)
    write(path, rows)
    return laid


def write(path: Path, rows: Floats, header: Sequence[str] = HEADER) -> None:
    """Write rows as a CSV recording."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows([f"{value:.12g}" for value in row] for row in rows)


def read(path: Path) -> Floats:
    """Rows of a CSV recording."""
    return _rows(path.read_text())


def _rows(text: str, skip: Sequence[str] = ()) -> Floats:
    """Numbers of a CSV with a header, shape (rows, columns); an empty field is NaN."""
    reader = csv.reader(io.StringIO(text))
    keep = [i for i, name in enumerate(next(reader)) if name not in skip]
    return np.array([[float(row[i] or "nan") for i in keep] for row in reader])
