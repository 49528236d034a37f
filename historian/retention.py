"""Old samples give way to their averages: hour by hour, of the devices a rule names, and only what is sealed.

An hour older than its rule keeps samples becomes rows of the tiers `GROUP@second`, `GROUP@minute`, `GROUP@hour`, with
the tags `TAG@minute.Average`, `.Minimum` and `.Maximum`, which are kept longer by rules of their own. Good where all
values of the interval were, UncertainDataSubNormal where some were, BadNoData where none was; its time is where the
interval begins. What was measured while a batch was made stays; results, batches, events and the audit log are never
touched.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Engine, delete, func, insert, select

from config.schema import Retention
from historian import chunks, frames
from historian.chunks import HOUR, ROWS, Block, Kind
from historian.frames import Column
from historian.schema import block, layout
from historian.seal import Unaltered, decoded, place
from historian.writer import Writer
from nodesets.errors import StorageError
from nodesets.ports import Clock

DAY: Final = 24 * HOUR
TIERS: Final = {"second": 10**9, "minute": 60 * 10**9, "hour": HOUR}
"""Length of an interval of each tier, ns."""

AGGREGATES: Final = ("Average", "Minimum", "Maximum")
PART: Final = 0x40A40000
"""UncertainDataSubNormal: values of an interval were not good."""
NO_DATA: Final = 0x809B0000
"""BadNoData."""

Held = Callable[[Connection, str, int, int], bool]
"""`held(tx, group, first, last)`: whether samples of a group from `first` to `last` (ns UTC) belong to a record."""


@dataclass(frozen=True, slots=True)
class Retirement:
    """An hour of a layout, ready to give way."""

    layout: int
    group: str
    blocks: tuple[int, ...]
    tiers: tuple[tuple[str, Block], ...]
    """Name of each tier and its rows."""
    columns: tuple[Column, ...]
    """Of the tiers' rows, without the tier's name."""


Made = dict[int, list[tuple[str, int]]]
"""Rows made, replaced or deleted, as (table, key), by the layout they are of."""

Logged = Callable[[Connection, int, Retirement, Made], None]
"""`logged(tx, now, retirement, made)`: log, in the transaction, what gave way and the rows it made or replaced."""


def rule_of(rules: Sequence[Retention], group: str) -> Retention | None:
    """The first rule that names the device of a group; None for what is kept for ever, as results are."""
    if "." in group:  # DEVICE.STREAM.Quality; a device's id has no dot
        return None
    return next((rule for rule in rules if fnmatchcase(group.partition("@")[0], rule.groups)), None)


def days(rule: Retention, group: str) -> float | None:
    """How long the rows of a group or of one of its tiers are kept."""
    kept: float | None = getattr(rule, group.partition("@")[2] or "samples")
    return kept


def prepare(
    tx: Connection, of: int, rules: Sequence[Retention], now: int, held: Held, unaltered: Unaltered
) -> Retirement | None:
    """The oldest hour of a layout that is to give way; None when there is none. Reads only.

    Raises StorageError for blocks that are not as they were recorded.
    """
    group, text = tx.execute(select(layout.c.tag_group, layout.c.columns).where(layout.c.id == of)).one()
    rule = rule_of(rules, group)
    kept = None if rule is None else days(rule, group)
    if rule is None or kept is None:
        return None
    oldest = tx.execute(select(func.min(block.c.first_time)).where(block.c.layout == of)).scalar()
    limit = now - int(kept * DAY)
    for hour in _hours(tx, of, oldest, limit):
        if not held(tx, group.partition("@")[0], hour, hour + HOUR):
            break
    else:
        return None
    rows = tx.execute(
        select(block).where(block.c.layout == of, block.c.first_time >= hour, block.c.first_time < hour + HOUR)
    ).all()
    numbers = tuple(row.id for row in rows)
    if not unaltered(tx, of, numbers):
        raise StorageError(f"blocks of layout {of} among {numbers} are not as they were recorded")
    columns = frames.columns(text)
    doubles = [i for i, column in enumerate(columns) if column.kind is Kind.DOUBLE]
    tiers: list[tuple[str, Block]] = []
    if "@" not in group:
        whole = chunks.merge([decoded(row, [c.kind for c in columns]) for row in rows])
        tiers = [
            (name, downsample(whole, doubles, period)) for name, period in TIERS.items() if days(rule, f"@{name}") != 0
        ]
    return Retirement(of, group, numbers, tuple(tiers), tuple(columns[i] for i in doubles))


def carry_out(tx: Connection, now: int, retirement: Retirement, logged: Logged, unaltered: Unaltered) -> None:
    """Put the rows of the tiers in the place of the hour, and log it.

    Raises StorageError for a block of a tier that is not as it was recorded.
    """
    tx.execute(delete(block).where(block.c.id.in_(retirement.blocks)))
    made: Made = {retirement.layout: [("block", number) for number in retirement.blocks]}
    for name, rows in retirement.tiers:
        of, new = _tier(tx, retirement, name)
        made[of] = [("layout", of)] * new + [("block", number) for number in _append(tx, of, rows, unaltered)]
    logged(tx, now, retirement, made)


def downsample(rows: Block, columns: Sequence[int], period: int) -> Block:
    """Average, minimum, maximum of each interval of `period` ns, of these columns of doubles: shape (3w, intervals)."""
    intervals = rows.times // period
    first = np.flatnonzero(np.concatenate([[True], intervals[1:] != intervals[:-1]]))
    last = np.append(first[1:], len(rows)) - 1
    cells, status = [], []
    for column in columns:
        values = rows.cells[column].view(np.float64)
        good = (rows.status[column] >> 30 == 0) & ~np.isnan(values)
        count = np.add.reduceat(good.astype(np.int64), first)
        code = np.where(count == last - first + 1, 0, np.where(count > 0, PART, NO_DATA)).astype(np.uint32)
        with np.errstate(invalid="ignore", divide="ignore"):
            average = np.add.reduceat(np.where(good, values, 0.0), first) / count
        low = np.minimum.reduceat(np.where(good, values, np.inf), first)
        high = np.maximum.reduceat(np.where(good, values, -np.inf), first)
        cells += [np.where(count > 0, each, np.nan) for each in (average, low, high)]
        status += [code] * len(AGGREGATES)
    return Block(
        intervals[first] * period,
        np.maximum.reduceat(rows.received, first),
        rows.numbers[first],
        _matrix(cells, len(first), np.float64).view(np.uint64),
        _matrix(status, len(first), np.uint32),
    )


class Retirer:
    """Lets old hours give way. `database` is an engine of `historian.schema.reading`."""

    def __init__(
        self,
        database: Engine,
        writer: Writer,
        rules: Sequence[Retention],
        *,
        clock: Clock,
        held: Held,
        logged: Logged,
        unaltered: Unaltered,
    ) -> None:
        self._database = database
        self._writer = writer
        self._rules = rules
        self._clock = clock
        self._held = held
        self._logged = logged
        self._unaltered = unaltered

    def retire(self) -> int:
        """Let every hour give way that is to; returns how many there were. Raises StorageError."""
        if not self._rules:
            return 0
        with self._database.connect() as connection, connection.begin():
            layouts = connection.execute(select(layout.c.id)).scalars().all()
        return sum(self._retire(number) for number in layouts)

    def _retire(self, number: int) -> int:
        hours = 0
        while True:
            now = self._clock.now()
            with self._database.connect() as connection, connection.begin():
                found = prepare(connection, number, self._rules, now, self._held, self._unaltered)
            if found is None:
                return hours
            work = partial(carry_out, now=now, retirement=found, logged=self._logged, unaltered=self._unaltered)
            self._writer.submit(work, alone=True).result()
            hours += 1


def _matrix(columns: Sequence[NDArray[Any]], rows: int, kind: Any) -> NDArray[Any]:
    return np.array(columns, kind).reshape(-1, rows)


def _hours(tx: Connection, of: int, oldest: int | None, limit: int) -> list[int]:
    """Where the hours begin that have blocks and are over before `limit`, the oldest first."""
    if oldest is None or oldest // HOUR * HOUR + HOUR > limit:
        return []
    times = tx.execute(select(block.c.first_time).where(block.c.layout == of, block.c.first_time <= limit - HOUR))
    return sorted({time // HOUR * HOUR for time in times.scalars() if time // HOUR * HOUR + HOUR <= limit})


def _tier(tx: Connection, retirement: Retirement, name: str) -> tuple[int, bool]:
    """The layout of a tier, and whether it was made just now."""
    group = f"{retirement.group}@{name}"
    text = frames.as_text(Column(f"{c.tag}@{name}.{aggregate}") for c in retirement.columns for aggregate in AGGREGATES)
    found = tx.execute(select(layout.c.id).where(layout.c.tag_group == group, layout.c.columns == text)).scalar()
    if found is not None:
        return found, False
    made: int = tx.execute(insert(layout).values(tag_group=group, columns=text).returning(layout.c.id)).scalar_one()
    return made, True


def _append(tx: Connection, of: int, rows: Block, unaltered: Unaltered) -> list[int]:
    """Store rows of a tier, in its newest block while that has room; the blocks made and replaced."""
    kinds = [Kind.DOUBLE] * len(rows.cells)
    newest = tx.execute(
        select(block).where(block.c.layout == of).order_by(block.c.last_time.desc(), block.c.id.desc()).limit(1)
    ).first()
    if newest is not None and newest.last_time >= rows.times[0]:
        rows = rows.part(rows.times > newest.last_time)  # late samples of an hour that gave way before
    if not len(rows):
        return []
    replaced: list[int] = []
    if newest is not None and newest.size + len(rows) <= ROWS:
        if not unaltered(tx, of, [newest.id]):
            raise StorageError(f"block {newest.id} is not as it was recorded")
        rows = chunks.merge([decoded(newest, kinds), rows])
        tx.execute(delete(block).where(block.c.id == newest.id))
        replaced = [newest.id]
    pieces = (rows.part(slice(i, i + ROWS)) for i in range(0, len(rows), ROWS))
    return [*replaced, *(place(tx, of, piece, chunks.encode(piece, kinds)) for piece in pieces)]
