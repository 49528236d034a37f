"""Corrections and annotations: what people changed and noted of the history, in layers above what was recorded.

Frames never change. A correction is a row: what was at that time of the tag before, and what is there since; the
newest row of a time counts, and hides every recorded value of that time. Rows are only added, so each earlier value
stays readable as a modified one (Part 11 3.1.6). Whoever adds rows logs them in the same transaction
(`compliance.corrections`).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Connection, Row, Select, and_, bindparam, func, insert, or_, select

from historian.schema import annotation, correction
from nodesets.model import UpdateType
from nodesets.ports import Annotation, Change, Modified, Position, Series

EXTRA_DATA: Final = 0x0408
"""There are modified values of this time, or annotations (Part 11 3.1.7, 6.5.3.2)."""
TEXT: Final = "U"


class Author(NamedTuple):
    user: str
    reason: str
    made: int
    """ns UTC."""


def _form(value: Any) -> str:
    """numpy type a value is kept as."""
    if isinstance(value, str):
        return TEXT
    return "|b1" if isinstance(value, bool) else "<i8" if isinstance(value, int) else "<f8"


def _encoded(form_: str, value: Any) -> bytes:
    if value is None:
        return b""
    return str(value).encode() if form_ == TEXT else np.array([value]).astype(form_).tobytes()


def _decoded(form_: str, data: bytes) -> Any:
    if form_ == TEXT:
        return data.decode()
    return np.frombuffer(data, form_)[0] if data else np.array([np.nan]).astype(form_)[0]


# -- values


def change(tx: Connection, tag: str, old: Sequence[Change], new: Change, kind: UpdateType, author: Author) -> list[int]:
    """Put `new` in the place of what stands at its instant; the rows this made."""
    return [_row(tx, tag, kind, author, value, new) for value in old] or [_row(tx, tag, kind, author, None, new)]


def delete(tx: Connection, tag: str, values: Sequence[Change], author: Author) -> list[int]:
    """Take values away; the rows this made."""
    return [_row(tx, tag, UpdateType.DELETE, author, value, None) for value in values]


def without_mark(status: int) -> int:
    """A status as it was recorded, without what reading added."""
    return status & ~EXTRA_DATA if status & EXTRA_DATA == EXTRA_DATA else status


def _row(tx: Connection, tag: str, kind: UpdateType, author: Author, old: Change | None, new: Change | None) -> int:
    (some, *_) = [value for value in (new, old) if value is not None]
    columns = {
        "tag": tag, "source_time": some.time, "update_type": int(kind), "made": author.made,
        "user_name": author.user, "reason": author.reason, "form": _form(some.value),
    }  # fmt: skip
    for prefix, value in (("old", old), ("new", new)):
        if value is not None:
            columns |= {
                f"{prefix}_value": _encoded(str(columns["form"]), value.value),
                f"{prefix}_status": value.status,
                f"{prefix}_received": value.received,
            }
    number: int = tx.execute(insert(correction).values(columns).returning(correction.c.id)).scalar_one()
    return number


# -- reading


class Marks(NamedTuple):
    """Corrected instants of a tag in reading order."""

    times: NDArray[np.int64]
    there: NDArray[np.bool_]
    """False: the value was deleted."""
    series: Series
    """The values of those that are there."""
    cut: bool
    """There are more behind."""


def marks(connection: Connection, tag: str, first: int, last: int, forward: bool, most: int) -> Marks:
    """At most `most` corrected instants with first <= time <= last."""
    within = and_(correction.c.tag == tag, correction.c.source_time.between(first, last))
    newest = select(func.max(correction.c.id)).where(within).group_by(correction.c.source_time)
    time = correction.c.source_time
    query = (
        select(time, correction.c.form, correction.c.new_value, correction.c.new_status, correction.c.new_received)
        .where(correction.c.id.in_(newest))
        .order_by(time if forward else time.desc())
        .limit(most + 1)
    )
    rows = connection.execute(query).all()
    found, cut = rows[:most], len(rows) > most
    present = [row for row in found if row.new_status is not None]
    return Marks(
        np.array([row.source_time for row in found], np.int64),
        np.array([row.new_status is not None for row in found], np.bool_),
        _series([(r.source_time, r.new_received, r.form, r.new_value, r.new_status | EXTRA_DATA) for r in present]),
        cut,
    )


def corrected(connection: Connection, tag: str) -> bool:
    """Whether anything of a tag was ever corrected."""
    return connection.execute(_CORRECTED, {"tag": tag}).first() is not None


_CORRECTED = select(correction.c.id).where(correction.c.tag == bindparam("tag")).limit(1)


def merged(base: Series, above: Series, forward: bool) -> tuple[Series, NDArray[np.intp]]:
    """Values of both in reading order, and where each stood: first those of `base`, then those of `above`."""
    times = np.concatenate([base.times, above.times])
    order = np.argsort(times if forward else -times, kind="stable")
    together = Series(
        times[order],
        np.concatenate([base.received, above.received])[order],
        _together(base.values, above.values)[order],
        np.concatenate([base.status, above.status]).astype(np.uint32)[order],
        None,
    )
    return together, order


def _together(base: NDArray[Any], above: NDArray[Any]) -> NDArray[Any]:
    """As what was recorded is kept, where anything was."""
    return np.concatenate([base, above.astype(base.dtype)]) if len(base) else above


def _series(rows: Sequence[tuple[int, int, str, bytes, int]]) -> Series:
    times, received, forms, values, status = zip(*rows, strict=True) if rows else ((), (), (), (), ())
    kind = forms[-1] if forms else "<f8"
    return Series(
        np.array(times, np.int64),
        np.array(received, np.int64),
        np.array([_decoded(f, v) for f, v in zip(forms, values, strict=True)], object if kind == TEXT else kind),
        np.array(status, np.uint32),
        None,
    )


def modified(
    connection: Connection, tag: str, start: int | None, end: int | None, limit: int, after: Position | None
) -> Modified:
    """At most `limit` values that were superseded, deleted or inserted (Part 11 6.5.3.3), as `read_raw` reads."""
    forward = start is not None and (end is None or start <= end)
    time, number = correction.c.source_time, correction.c.id
    conditions = [correction.c.tag == tag, *_within(time, start, end, forward)]
    if after is not None:
        conditions.append(_beyond(time, number, after, forward))
    order = (time, number) if forward else (time.desc(), number.desc())
    rows = connection.execute(select(correction).where(*conditions).order_by(*order).limit(limit + 1)).all()
    found = rows[:limit]
    shown = [_superseded(row) for row in found]
    series = _series(shown)
    more = (found[-1].source_time, found[-1].id) if len(rows) > limit else None
    return Modified(
        Series(series.times, series.received, series.values, series.status, more),
        tuple(row.made for row in found),
        tuple(UpdateType(row.update_type) for row in found),
        tuple(row.user_name for row in found),
    )


def _superseded(row: Row[Any]) -> tuple[int, int, str, bytes, int]:
    """The value before; of an insertion, the value inserted."""
    which = "new" if row.old_status is None else "old"
    columns = row._mapping  # noqa: SLF001 - SQLAlchemy's public accessor
    return (
        row.source_time, columns[f"{which}_received"], row.form, columns[f"{which}_value"], columns[f"{which}_status"],
    )  # fmt: skip


def _within(time: ColumnElement[int], start: int | None, end: int | None, forward: bool) -> list[ColumnElement[bool]]:
    conditions = []
    if start is not None:
        conditions.append(time >= start if forward else time <= start)
    if end is not None:
        if start is None or start == end:
            conditions.append(time <= end)
        else:
            conditions.append(time < end if forward else time > end)
    return conditions


def _beyond(
    time: ColumnElement[int], number: ColumnElement[int], after: Position, forward: bool
) -> ColumnElement[bool]:
    same = and_(time == after[0], number > after[1] if forward else number < after[1])
    return or_(time > after[0] if forward else time < after[0], same)


# -- annotations


def noted(connection: Connection, tag: str) -> bool:
    """Whether anybody ever noted anything on a tag."""
    return connection.execute(_NOTED, {"tag": tag}).first() is not None


_NOTED = select(annotation.c.id).where(annotation.c.tag == bindparam("tag")).limit(1)


def with_notes(connection: Connection, tag: str, series: Series) -> Series:
    """The values, those with an annotation marked (Part 11 6.5.3.2)."""
    if not len(series.times):
        return series
    low, high = int(series.times.min()), int(series.times.max())
    within = [annotation.c.tag == tag, annotation.c.source_time.between(low, high)]
    newest = select(func.max(annotation.c.id)).where(*within).group_by(annotation.c.source_time, annotation.c.user_name)
    query = select(annotation.c.source_time).where(annotation.c.id.in_(newest), annotation.c.removed == 0)
    times = np.array(connection.execute(query).scalars().all(), np.int64)
    marked = np.where(np.isin(series.times, times), series.status | EXTRA_DATA, series.status)
    return replace(series, status=marked.astype(np.uint32))


def annotations(
    connection: Connection, tag: str, start: int | None, end: int | None, limit: int, after: Position | None = None
) -> tuple[list[Annotation], Position | None]:
    """At most `limit` annotations as `read_raw` reads, and where the next page begins."""
    forward = start is not None and (end is None or start <= end)
    time, number = annotation.c.source_time, annotation.c.id
    conditions = [annotation.c.tag == tag, *_within(time, start, end, forward)]
    newest = select(func.max(number)).where(*conditions).group_by(time, annotation.c.user_name)
    query: Select[Any] = select(annotation).where(number.in_(newest), annotation.c.removed == 0)
    if after is not None:
        query = query.where(_beyond(time, number, after, forward))
    order = (time, number) if forward else (time.desc(), number.desc())
    rows = connection.execute(query.order_by(*order).limit(limit + 1)).all()
    found = [Annotation(row.source_time, row.message, row.user_name, row.made) for row in rows[:limit]]
    return found, (rows[limit - 1].source_time, rows[limit - 1].id) if len(rows) > limit else None


def annotated(connection: Connection, tag: str, time: int, user: str) -> Annotation | None:
    """A user's annotation of an instant as it stands."""
    query = (
        select(annotation.c.removed, annotation.c.message, annotation.c.made)
        .where(annotation.c.tag == tag, annotation.c.source_time == time, annotation.c.user_name == user)
        .order_by(annotation.c.id.desc())
        .limit(1)
    )
    found = connection.execute(query).first()
    return None if found is None or found.removed else Annotation(time, found.message, user, found.made)


def annotate(tx: Connection, tag: str, note: Annotation, *, removed: bool = False) -> int:
    """Add a user's annotation of an instant, put another in its place or take it away; the row this made."""
    number: int = tx.execute(
        insert(annotation)
        .values(
            tag=tag,
            source_time=note.time,
            user_name=note.user,
            message=note.message,
            made=note.made,
            removed=int(removed),
        )
        .returning(annotation.c.id)
    ).scalar_one()
    return number
