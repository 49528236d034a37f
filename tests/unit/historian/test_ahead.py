"""Pages read ahead: what has to be read anew, and how much is held."""

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest

from historian import ahead
from historian.ahead import Ahead, Range
from nodesets.errors import StorageError
from nodesets.ports import Series
from tests.unit.historian.support import SteppedClock

ALL = Range("a", 0, None, 2, None)


class Counted:
    """A history of one tag, forward, whose readings are told."""

    def __init__(self, *times: int) -> None:
        self.times = list(times)
        self.asked: list[tuple[Range, int]] = []
        self.trouble = ""
        self.idle = True

    async def read(self, asked: Range, most: int) -> Sequence[Series]:
        self.asked.append((asked, most))
        await asyncio.sleep(0)
        if self.trouble:
            raise StorageError(self.trouble)
        left = [time for time in self.times if asked.after is None or time > asked.after[0]]
        cuts = [left[i : i + asked.limit] for i in range(0, max(1, len(left)), asked.limit)]
        return [self._page(part, more=i < len(cuts) - 1) for i, part in enumerate(cuts)][:most]

    def _page(self, part: list[int], *, more: bool) -> Series:
        times = np.array(part, np.int64)
        return Series(times, times, times * 1.0, np.zeros(len(part), np.uint32), (part[-1], 0) if more else None)


def ahead_of(history: Counted, clock: SteppedClock) -> Ahead:
    return Ahead(history.read, lambda: history.idle, clock)


async def rest(pages: Ahead, asked: Range) -> list[int]:
    """The times of a page and everything behind it."""
    times: list[int] = []
    while True:
        page = await pages.page(asked)
        times += page.times.tolist()
        if page.more is None:
            return times
        asked = asked.beyond(page)


async def settled() -> None:
    """Let what was begun come to its end."""
    for _ in range(3):
        await asyncio.sleep(0)


async def test_a_range_is_read_several_pages_at_a_time() -> None:
    history = Counted(*range(40))
    assert await rest(ahead_of(history, SteppedClock()), ALL) == list(range(40))
    # the first page, two times eight pages with the last one among them, the last one anew
    assert [most for _, most in history.asked] == [1, 8, 8, 8, 1]
    assert {most * asked.limit <= ahead.VALUES for asked, most in history.asked} == {True}


async def test_a_page_is_there_before_it_is_asked_for() -> None:
    history = Counted(*range(10))
    pages = ahead_of(history, SteppedClock())
    first = await pages.page(ALL)
    await settled()
    before = len(history.asked)
    assert (await pages.page(ALL.beyond(first))).times.tolist() == [2, 3]
    assert len(history.asked) == before == 2


async def test_values_that_arrive_behind_the_last_page_are_seen() -> None:
    history = Counted(*range(3))
    pages = ahead_of(history, SteppedClock())
    first = await pages.page(ALL)
    await settled()
    history.times.append(3)
    assert await rest(pages, ALL.beyond(first)) == [2, 3]


async def test_a_page_read_ahead_is_not_shown_after_a_second() -> None:
    history, clock = Counted(0, 1, 3, 5, 7, 9), SteppedClock()
    pages = ahead_of(history, clock)
    first = await pages.page(ALL)
    await settled()
    history.times.insert(2, 2)  # late
    clock.seconds += 1.1
    assert await rest(pages, ALL.beyond(first)) == [2, 3, 5, 7, 9]


async def test_what_was_corrected_is_read_anew() -> None:
    history = Counted(*range(10))
    pages = ahead_of(history, SteppedClock())
    first = await pages.page(ALL)
    await settled()
    history.times.remove(2)
    pages.forget()
    assert (await pages.page(ALL.beyond(first))).times.tolist() == [3, 4]


async def test_no_more_is_held_than_there_is_room_for() -> None:
    history, clock = Counted(*range(10)), SteppedClock()
    pages = ahead_of(history, clock)
    for i in range(20):
        await pages.page(ALL._replace(tag=f"tag {i}"))
    await settled()
    assert len([1 for _, most in history.asked if most > 1]) == ahead.READS
    clock.seconds += 1.1  # those are too old to be shown, and make room
    await pages.page(ALL._replace(tag="another"))
    await settled()
    assert len([1 for _, most in history.asked if most > 1]) == ahead.READS + 1


async def test_nothing_is_read_ahead_while_others_wait() -> None:
    history = Counted(*range(10))
    history.idle = False
    assert await rest(ahead_of(history, SteppedClock()), ALL) == list(range(10))
    assert [most for _, most in history.asked] == [1] * 5


async def test_an_error_is_of_whoever_asks_for_the_page() -> None:
    # One nobody asks for is no warning either (filterwarnings = error).
    history = Counted(*range(10))
    pages = ahead_of(history, SteppedClock())
    first = await pages.page(ALL)
    history.trouble = "the disk is gone"
    await settled()
    with pytest.raises(StorageError, match="the disk is gone"):
        await pages.page(ALL.beyond(first))
