"""The event history: rows in the order of recording, read by time, severity, source and type.

Rows are written by `record` in the transaction of what they tell of. What they are found by stands in one index, so
that looking for few among many reads no event it does not return.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, Table, insert, select, tuple_

from historian.schema import event_layout, event_log, event_source
from nodesets.model import EventRow

Position = tuple[int, int]
"""(time, number) of a row: where a page ended."""


class Layout(NamedTuple):
    """What rows of one layout hold."""

    event_type: str
    """NodeId as text."""
    paths: tuple[str, ...]
    """Browse path of each field, in order."""


class Stored(NamedTuple):
    """A row read back."""

    number: int
    time: int
    severity: int
    source: int
    layout: int
    fields: bytes


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Sources and layouts of all rows, by number."""

    sources: Mapping[int, str] = field(default_factory=dict)
    layouts: Mapping[int, Layout] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Which rows, in which order.

    start < end    start <= time < end, forward
    start = end    time = start
    start > end    end < time <= start, backward
    start alone    start <= time, forward
    end alone      time <= end, backward
    """

    start: int | None
    end: int | None
    """ns UTC."""
    severity: tuple[int, int] = (0, 65_535)
    """Least and most."""
    sources: Collection[int] | None = None
    """Numbers of a Catalogue; None: all."""
    layouts: Collection[int] | None = None
    after: Position | None = None

    @property
    def backward(self) -> bool:
        return self.start is None or (self.end is not None and self.end < self.start)

    def following(self, row: Stored) -> "Query":
        """The same from behind a row on."""
        return replace(self, after=(row.time, row.number))


def record(tx: Connection, rows: Sequence[EventRow]) -> None:
    """Add rows, in order."""
    sources = {node: _number(tx, event_source, node=node) for node in {row.source for row in rows}}
    layouts = {
        key: _number(tx, event_layout, event_type=key[0], paths=json.dumps(key[1]))
        for key in {(row.event_type, row.paths) for row in rows}
    }
    if rows:
        tx.execute(
            insert(event_log),
            [
                {
                    "time": row.time,
                    "severity": row.severity,
                    "source": sources[row.source],
                    "layout": layouts[row.event_type, row.paths],
                    "fields": row.fields,
                }
                for row in rows
            ],
        )


def _number(tx: Connection, table: Table, **values: str) -> int:
    """Number of the row with these values, made when there is none."""
    known = tx.execute(select(table.c.id).where(*(table.c[name] == value for name, value in values.items()))).scalar()
    if known is not None:
        return int(known)
    return int(tx.execute(insert(table).values(values).returning(table.c.id)).scalar_one())


def catalogue(tx: Connection, known: Catalogue) -> Catalogue:
    """What is known, with all that came since."""
    sources = tx.execute(select(event_source).where(event_source.c.id > max(known.sources, default=0)))
    layouts = tx.execute(select(event_layout).where(event_layout.c.id > max(known.layouts, default=0)))
    return Catalogue(
        {**known.sources, **{row.id: row.node for row in sources}},
        {**known.layouts, **{row.id: Layout(row.event_type, tuple(json.loads(row.paths))) for row in layouts}},
    )


def page(tx: Connection, query: Query, limit: int) -> list[Stored]:
    """At most `limit` rows, rows of one instant in order of recording; backward in the opposite order of all that."""
    time, number = event_log.c.time, event_log.c.number
    order = (time.desc(), number.desc()) if query.backward else (time, number)
    chosen = select(number).where(*_conditions(query)).order_by(*order).limit(limit).subquery()
    rows = select(event_log).join(chosen, number == chosen.c.number).order_by(*order)
    return [Stored(*row) for row in tx.execute(rows)]


def _conditions(query: Query) -> list[ColumnElement[bool]]:
    columns = event_log.c
    found = list(_times(query))
    low, high = query.severity
    if low > 0:
        found.append(columns.severity >= low)
    if high < 65_535:
        found.append(columns.severity <= high)
    if query.sources is not None:
        found.append(columns.source.in_(query.sources))
    if query.layouts is not None:
        found.append(columns.layout.in_(query.layouts))
    if query.after is not None:
        here = tuple_(columns.time, columns.number)
        there = tuple_(*query.after)
        found.append(here < there if query.backward else here > there)
    return found


def _times(query: Query) -> list[ColumnElement[bool]]:
    time, start, end = event_log.c.time, query.start, query.end
    if start is not None and start == end:
        return [time == start]
    if query.backward:
        within = [time <= (start if start is not None else end)]
        return [*within, time > end] if start is not None and end is not None else within
    within = [time >= start]
    return [*within, time < end] if end is not None else within
