"""Monitored items on rows of the value table: those of a subscription as arrays (Part 4 5.13).

What `monitored_items.DataItem` does one by one, done for all at once, with the same rules. Nothing happens when a value
is written: `consider` looks at all rows written since the last look, and the table has it done before a value that was
not looked at is overwritten. So each sample is judged once, in order, at the instant it was written.

An item is a slot, in the order of ids. Samples that pass wait in one list for all items, oldest first; what has to go
because a queue is full is found when the list is looked at (`_settle`).
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import MISSING, dataclass, fields
from functools import cache
from typing import Any, Self

import numpy as np
from asyncua import ua
from numpy.typing import NDArray

from opcua_server.services.monitored_items import DISABLED, ON_TIME, REPORTING, TRIGGER, DataFilter, DataItem, Item
from opcua_server.services.status import OVERFLOW
from opcua_server.services.values import (
    STAMPS,
    Bytes,
    Codes,
    Flags,
    Floats,
    Index,
    Look,
    T,
    Table,
    Times,
    data_change,
    data_value,
    differ,
    shapes,
)

NO_STATUS = np.uint32(0xFFFFFFFF)
"""Status of the last reported value where there is none: no StatusCode is this one."""
MARKED = -1
"""Order of a sample that is not as it was written."""
LEAST_SETTLED = 1024
"""Waiting samples below which looking for full queues is not worth it."""


@dataclass(slots=True)
class _Arrays:
    """Arrays of one length: the fields without a default."""

    @classmethod
    @cache
    def names(cls) -> tuple[str, ...]:
        return tuple(f.name for f in fields(cls) if f.default is MISSING)

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        if len(parts) == 1:
            return parts[0]
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in cls.names()))

    def extend(self, more: Self) -> None:
        """One after the other, so that each takes the room the one before has left."""
        for name in self.names():
            setattr(self, name, np.concatenate([getattr(self, name), getattr(more, name)]))

    def pick(self, which: Any) -> Self:
        return type(self)(*(getattr(self, name)[which] for name in self.names()))


@dataclass(slots=True)
class _Samples(_Arrays):
    slot: Index
    value: Floats
    status: Codes
    source: Times
    server: Times
    order: Times
    """Number of the write (`Table.count`)."""
    look: Look | None = None
    """What all of it is the whole of: its arrays are shared, so they are copied before they are written."""

    def put(self, other: "_Samples") -> None:
        """Take over what another has for its slots; this one has a sample for every slot."""
        at = other.slot
        for name in ("value", "status", "source", "server", "order"):
            column = _own(getattr(self, name))
            column[at] = getattr(other, name)
            setattr(self, name, column)
        self.look = None


@dataclass(slots=True)
class _Items(_Arrays):
    id: Codes
    row: Index
    """-1: deleted."""
    client: Codes
    mode: Bytes
    stamps: Bytes
    """Timestamps to return, as bits of the encoding mask."""
    trigger: Bytes
    deadband: Floats
    """Absolute; 0: every change."""
    percent: Floats
    """Of the EURange, what the deadband was worked out from; 0: it was given."""
    interval: Floats
    """Seconds between samples; 0: every change."""
    queue: Codes
    newest: Flags
    """A full queue loses its newest, not its oldest."""
    kind: Bytes
    """Built-in type."""
    due: Floats
    """From when on a sample is taken at once."""
    value: Floats
    """Last reported."""
    status: Codes
    source: Times
    pending: Flags
    """A change within the sampling interval waits for its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """An item to be."""

    id: int
    row: int
    client_handle: int
    mode: Any
    stamps: Any
    filter: DataFilter
    interval: float
    """Seconds."""
    queue_size: int
    discard_oldest: bool


class _Shared:
    """What holds of all items, known once they have been looked at: nothing is asked again in each look."""

    def __init__(self, items: _Items, table: Table) -> None:
        n = len(items.id)
        self.slots = np.arange(n)
        """All, in order: what is this very array needs no index."""
        self.asleep = items.mode == int(DISABLED)
        self.awake = not self.asleep.any()
        self.reporting = bool((items.mode == int(REPORTING)).all())
        self.plain = bool((items.trigger == int(TRIGGER.StatusValue)).all())
        """Every trigger is a change of status or value."""
        self.exact = not items.deadband.any()
        self.shape = shapes(items.kind, items.stamps)
        stamps = int(items.stamps[0])
        self.stamps = stamps if (items.stamps == stamps).all() else None
        """Of all, where they are the same."""
        interval = float(items.interval[0])
        self.interval = interval if (items.interval == interval).all() else None
        """Of all, where they are the same."""
        self.rows = table.together(items.row)


class Columns:
    """Items of one subscription on rows of a table."""

    def __init__(self, table: Table) -> None:
        self.seen = 0
        self._table = table
        self._items = _Items(*(np.empty(0, t) for t in _TYPES))
        self._known: _Shared | None = None
        self._late: _Samples | None = None
        """One for each slot: the sample that waits where `pending`; None until an item samples at an interval."""
        self._reported: Look | None = None
        """What all items reported last, when it was one look: its arrays are then theirs."""
        self._queue: list[_Samples] = []
        self._length = 0
        """Samples in `_queue`."""
        self._bound = LEAST_SETTLED
        self._deleted = 0

    def __len__(self) -> int:
        return len(self._items.id) - self._deleted

    def __contains__(self, number: int) -> bool:
        return self._find(number) is not None

    def handles(self) -> Iterable[tuple[int, int]]:
        """(item id, client handle) of each."""
        alive = self._items.row >= 0
        return zip(self._items.id[alive].tolist(), self._items.client[alive].tolist(), strict=True)

    def modes(self) -> list[int]:
        """MonitoringMode of each."""
        modes: list[int] = self._items.mode[self._items.row >= 0].tolist()
        return modes

    @property
    def room(self) -> int:
        """Samples that may wait in all queues."""
        return int(self._items.queue[self._items.row >= 0].sum())

    def queue_size(self, number: int) -> int:
        return int(self._items.queue[self._slot(number)])

    def _find(self, number: int) -> int | None:
        ids = self._items.id
        slot = int(ids.searchsorted(number)) if 0 <= number <= 0xFFFFFFFF else len(ids)
        return slot if slot < len(ids) and ids[slot] == number and self._items.row[slot] >= 0 else None

    @property
    def _all(self) -> _Shared:
        if self._known is None:
            self._known = _Shared(self._items, self._table)
        return self._known

    def close(self) -> None:
        """No items any more."""
        if len(self._items.id):
            self._table.unsubscribe(self)
        self._items, self._known = self._items.pick(slice(0)), None
        self._queue, self._length, self._late, self._reported, self._deleted = [], 0, None, None, 0

    # -- what clients ask for

    def add(self, wanted: Sequence[Wanted]) -> None:
        """New items, with ids above all there are; the first value of each is reported whatever it is (5.13.1.2)."""
        if not wanted:
            return
        if not len(self._items.id):
            self._table.subscribe(self)
        self.consider()
        self._compact()
        first, n = len(self._items.id), len(wanted)
        self._reported = None
        columns = zip(*((w.id, w.row, w.client_handle, int(w.mode), STAMPS[w.stamps], int(w.filter.trigger),
                         w.filter.deadband or 0.0, w.filter.percent or 0.0, w.interval, w.queue_size,
                         not w.discard_oldest) for w in wanted), strict=True)  # fmt: skip
        made = [np.array(column, t) for column, t in zip(columns, _TYPES, strict=False)]
        made.append(self._table.kind[made[1]])
        made += [np.zeros(n, t) for t in _TYPES[len(made) :]]
        self._items.extend(_Items(*made))
        self._known = None
        if self._late is not None:
            self._late = _Samples.join([self._late, _blank(n)])
        slots = np.arange(first, first + n)
        self._start(slots[self._items.mode[slots] != DISABLED])

    def modify(self, wanted: Wanted) -> None:
        """Change the parameters of an item but its row and mode."""
        slot = self._slot(wanted.id)
        self.consider()
        it = self._items
        it.client[slot], it.stamps[slot] = wanted.client_handle, STAMPS[wanted.stamps]
        it.trigger[slot], it.deadband[slot] = int(wanted.filter.trigger), wanted.filter.deadband or 0.0
        it.percent[slot] = wanted.filter.percent or 0.0
        it.interval[slot] = wanted.interval
        it.due[slot] = min(it.due[slot], self._table.now() + ON_TIME * wanted.interval)
        if wanted.queue_size < it.queue[slot]:
            self._shrink(slot, wanted.queue_size, wanted.discard_oldest)
        elif self._queue:
            self._settle()  # by the rules so far
        it.queue[slot], it.newest[slot] = wanted.queue_size, not wanted.discard_oldest
        self._known = None

    def _shrink(self, slot: int, size: int, discard_oldest: bool) -> None:
        queued = self._settle()
        own = np.flatnonzero(queued.slot == slot)
        if (excess := len(own) - size) > 0:
            keep = np.ones(len(queued.slot), np.bool_)
            keep[own[:excess] if discard_oldest else own[size:]] = False
            self._requeue(queued.pick(keep))

    def row(self, number: int) -> int:
        """Row of an item. Raises KeyError."""
        return int(self._items.row[self._slot(number)])

    def mode(self, number: int) -> Any:
        """MonitoringMode of an item. Raises KeyError."""
        return ua.MonitoringMode(int(self._items.mode[self._slot(number)]))

    def set_mode(self, number: int, mode: Any) -> None:
        """SetMonitoringMode (5.13.4): disabled forgets everything, and what comes after begins anew."""
        slot = self._slot(number)
        self.consider()
        before = self._items.mode[slot]
        self._items.mode[slot] = int(mode)
        self._known = None
        if mode == DISABLED:
            self._forget(slot)
        elif before == DISABLED:
            self._start(np.array([slot]))

    def delete(self, number: int) -> None:
        slot = self._slot(number)
        self.consider()
        self._forget(slot)
        self._items.mode[slot] = int(DISABLED)
        self._items.row[slot] = -1
        self._known = None
        self._deleted += 1
        if len(self) == 0:
            self.close()

    def release(self, number: int, ready: Callable[[Item], None]) -> DataItem:
        """An item by itself, with all this one knows; this one is deleted. Raises KeyError."""
        slot = self._slot(number)
        self.consider()
        it, table = self._items, self._table
        row = int(it.row[slot])
        target = ua.ReadValueId(NodeId=table.nodes[row], AttributeId=ua.AttributeIds.Value)
        item = DataItem(number, target, ua.MonitoringMode(int(it.mode[slot])), ready, table.now)
        item.stamps = next(stamps for stamps, bits in STAMPS.items() if bits == it.stamps[slot])
        deadband, percent = float(it.deadband[slot]) or None, float(it.percent[slot]) or None
        item.filter = DataFilter(TRIGGER(int(it.trigger[slot])), deadband, percent)
        item.interval = float(it.interval[slot])
        item.configure(int(it.client[slot]), int(it.queue[slot]), not it.newest[slot])
        kind = int(table.kind[row])

        def shown(samples: _Samples, i: int) -> Any:
            return data_value(kind, *(getattr(samples, f)[i].item() for f in ("value", "status", "source", "server")))

        queued = self._settle()
        last = None
        if it.status[slot] != NO_STATUS:
            last = data_value(kind, it.value[slot].item(), it.status[slot].item(), it.source[slot].item(), 0)
        item.resume(
            last=last,
            pending=shown(self._late, slot) if self._late is not None and it.pending[slot] else None,
            due=float(it.due[slot]),
            queue=[shown(queued, i) for i in np.flatnonzero(queued.slot == slot).tolist()],
        )
        self.delete(number)
        return item

    def resend(self) -> None:
        """Report the present value of each reporting item that has nothing queued (5.14.7.2)."""
        self.consider()
        idle = self._items.mode == int(REPORTING)
        idle[self._settle().slot] = False
        self._start(np.flatnonzero(idle))

    def _slot(self, number: int) -> int:
        slot = self._find(number)
        if slot is None:
            raise KeyError(number)
        return slot

    def _forget(self, slot: int) -> None:
        self._doubt(slot)
        if any((part.slot == slot).any() for part in self._queue):
            queued = self._settle()
            self._requeue(queued.pick(queued.slot != slot))

    def _doubt(self, slots: Index | int) -> None:
        """Whatever comes next is a change."""
        self._items.status, self._reported = _own(self._items.status), None
        self._items.status[slots] = NO_STATUS
        self._items.pending[slots] = False

    def _compact(self) -> None:
        """Close the gaps that deleted items left."""
        if not self._deleted:
            return
        alive = self._items.row >= 0
        moved = np.cumsum(alive) - 1
        self._items, self._known, self._reported = self._items.pick(alive), None, None
        if self._late is not None:
            self._late = self._late.pick(alive)
        for part in self._queue:
            part.slot = moved[part.slot]
        self._deleted = 0

    # -- sampling

    def consider(self) -> None:
        """Judge every value written since the last look."""
        table = self._table
        if self.seen == table.count or not len(self._items.id):
            return
        since, self.seen = self.seen, table.count
        if self._all.asleep.all():
            return
        look = self._all.rows.look()
        if look.newest <= since:
            return
        slots = self._all.slots
        if look.oldest <= since or not self._all.awake:
            slots = np.flatnonzero((look.order > since) & ~self._all.asleep)
        if len(slots):
            self._sample(look, slots)

    def flush(self, now: float) -> None:
        """Take what was waiting for the end of a sampling interval that is over."""
        self.consider()
        if self._late is not None:
            over = self._items.pending & (self._items.due <= now)
            if over.any():
                self._flush(self._where(over))

    def _where(self, chosen: Flags) -> Index:
        """Slots of these items."""
        return self._all.slots if chosen.all() else np.flatnonzero(chosen)

    def _flush(self, slots: Index) -> None:
        if self._late is not None:
            of = self._index(slots)
            self._items.pending[of] = False
            self._items.due[of] += self._items.interval[of]
            if self._late.look is not None and slots is self._all.slots:
                self._take(self._present(self._late.look, slots))
            else:
                waiting = self._late.pick(slots)
                waiting.slot = slots
                self._take(waiting)

    def _start(self, slots: Index) -> None:
        """Report the present values whatever they are; sampling goes by when the next ones come."""
        self._doubt(slots)
        self._items.due[slots] = -math.inf
        if len(slots):
            self._take(self._present(self._all.rows.look(), slots))

    def _sample(self, look: Look, slots: Index) -> None:
        """The values these rows have now, written at these instants."""
        it, of = self._items, self._index(slots)
        at = look.at[of]
        ripe = it.due[of] <= at
        if self._late is not None and (over := it.pending[of] & ripe).any():
            self._flush(slots if over.all() else slots[over])
            ripe = it.due[of] <= at
        if not ripe.all():
            if not ripe.any():
                self._postpone(self._present(look, slots))
                return
            self._postpone(self._present(look, slots[~ripe]))
            slots, at = slots[ripe], at[ripe]
            of = slots
        interval = it.interval[of] if self._all.interval is None else self._all.interval
        due = it.due[of] + interval
        it.due[of] = np.maximum(due, at + ON_TIME * interval, out=due)
        self._take(self._present(look, slots))

    def _index(self, slots: Index) -> Any:
        """Slots as the cheapest index of the same: most often they are all."""
        return slice(None) if slots is self._all.slots else slots

    def _present(self, look: Look, slots: Index) -> _Samples:
        if slots is self._all.slots:
            return _Samples(slots, look.value, look.status, look.source, look.server, look.order, look)
        return _Samples(slots, *(getattr(look, name)[slots] for name in _Samples.names()[1:]))

    def _postpone(self, samples: _Samples) -> None:
        if samples.slot is self._all.slots:
            self._late = samples
            self._items.pending[:] = True
            return
        if self._late is None:
            self._late = _blank(len(self._items.id))
        self._items.pending[samples.slot] = True
        self._late.put(samples)

    def _take(self, samples: _Samples) -> None:
        """Queue what differs from the last reported (7.22.2)."""
        moved = self._moved(samples)
        if not moved.all():
            samples = samples.pick(moved)
            if not len(samples.slot):
                return
        it, of = self._items, samples.slot
        self._reported = samples.look
        if samples.look is not None:
            it.value, it.status, it.source = samples.value, samples.status, samples.source
        else:
            it.value, it.status, it.source = _own(it.value), _own(it.status), _own(it.source)
            it.value[of], it.status[of], it.source[of] = samples.value, samples.status, samples.source
        self._queue.append(samples)
        self._length += len(samples.slot)
        if self._length > self._bound:
            self._settle()

    def _moved(self, samples: _Samples) -> Flags:
        if samples.look is not None and self._reported is not None and self._all.exact and self._all.plain:
            return samples.look.moved(self._reported)
        it, of = self._items, self._index(samples.slot)
        value, last = samples.value, it.value[of]
        if self._all.exact:
            moved = differ(value, last)
        else:
            with np.errstate(invalid="ignore"):  # infinity less infinity: no change, as it should be
                moved = np.abs(value - last) > it.deadband[of]
            moved |= np.isnan(value) != np.isnan(last)
        if not self._all.plain:
            trigger = it.trigger[of]
            moved &= trigger != int(TRIGGER.Status)
            moved |= (trigger == int(TRIGGER.StatusValueTimestamp)) & (samples.source != it.source[of])
        moved |= samples.status != it.status[of]
        return moved

    # -- queues

    def _settle(self) -> _Samples:
        """What is queued, after each full queue has lost what it must (7.21, Overflow 7.22.1)."""
        if not self._queue:
            return _blank(0)
        if (whole := self._whole()) is not None:
            self._requeue(whole)
            return whole
        queued = _Samples.join(self._queue)
        if len(self._queue) > 1:
            excess = np.bincount(queued.slot, minlength=len(self._items.id)) - self._items.queue
            if (excess > 0).any():
                queued = self._overflow(queued, excess)
        self._requeue(queued)
        self._bound = max(LEAST_SETTLED, 2 * len(queued.slot), 2 * len(self._items.id))
        return queued

    def _whole(self) -> _Samples | None:
        """What is queued, when it is in several parts, but together the present value of every item."""
        n = len(self._items.id)
        if len(self._queue) == 1 or self._length != n:
            return None
        look, there = self._all.rows.look(), np.zeros(n, np.bool_)
        for part in self._queue:
            if not np.array_equal(part.order, look.order[part.slot]):
                return None
            there[part.slot] = True
        return self._present(look, self._all.slots) if there.all() else None

    def _overflow(self, queued: _Samples, excess: Index) -> _Samples:
        it = self._items
        keep = np.ones(len(queued.slot), np.bool_)
        full = np.flatnonzero(excess[queued.slot] > 0)
        full = full[np.argsort(queued.slot[full], kind="stable")]  # item by item, oldest first
        slots = queued.slot[full]
        begin = np.flatnonzero(np.diff(slots, prepend=-1))
        rank = np.arange(len(slots)) - np.repeat(begin, np.diff(begin, append=len(slots)))
        over, size, newest = excess[slots], it.queue[slots], it.newest[slots]
        lost = np.where(newest, (rank >= size - 1) & (rank < size - 1 + over), rank < over)
        keep[full[lost]] = False
        # The bit stands where values are missing: on the oldest kept, or on the newest; never in a queue of one.
        flagged = full[(rank == np.where(newest, size - 1 + over, over)) & (size > 1)]
        queued.status[flagged] |= np.uint32(OVERFLOW)
        queued.order[flagged] = MARKED
        return queued.pick(keep)

    def _requeue(self, queued: _Samples) -> None:
        self._queue = [queued] if len(queued.slot) else []
        self._length = len(queued.slot)

    # -- publishing

    def ready(self) -> bool:
        """Whether something is to be sent."""
        self.consider()
        if not self._queue:
            return False
        if self._all.reporting:
            return True
        return any((self._items.mode[part.slot] == int(REPORTING)).any() for part in self._queue)

    def collect(self, room: int) -> tuple[Any, int]:
        """Oldest samples that may be sent, at most `room`, as an encoded DataChangeNotification; how many."""
        if room <= 0 or not self.ready():
            return None, 0
        queued = self._settle()
        if self._all.reporting and len(queued.slot) <= room:
            self._queue, self._length = [], 0
        else:
            sent = np.flatnonzero(self._items.mode[queued.slot] == int(REPORTING))[:room]
            left = np.ones(len(queued.slot), np.bool_)
            left[sent] = False
            self._requeue(queued.pick(left))
            queued = queued.pick(sent)
        of, look = self._index(queued.slot), queued.look
        if look is not None and queued.slot is self._all.slots and self._all.stamps is not None:
            return look.encoded(self._all.stamps).to(self._items.client), len(queued.slot)
        return data_change(
            self._items.client[of], self._all.shape[of], queued.value, queued.status, queued.source, queued.server,
        ), len(queued.slot)  # fmt: skip


_TYPES = ("u4", "i8", "u4", "u1", "u1", "u1", "f8", "f8", "f8", "u4", "?", "u1", "f8", "f8", "u4", "i8", "?")
"""Of the fields of `_Items`; the first eleven are what a client asks for."""


def _own(column: NDArray[T]) -> NDArray[T]:
    """The same, to be written."""
    return column if column.flags.writeable else column.copy()


def _blank(n: int) -> _Samples:
    none = np.zeros(n, np.int64)
    return _Samples(np.zeros(n, np.intp), np.zeros(n), np.zeros(n, np.uint32), none, none.copy(), none.copy())
