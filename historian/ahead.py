"""Pages read before they are asked for, while whoever reads is busy with the page before them.

What a page leaves is nearly always the next question. A read ahead takes several pages at once, which costs little
more than one; while others wait to be answered, nothing is read ahead. What was found stands for a second; later it is
read anew. So is the last page of a range, behind which values arrive, and everything once a value was corrected.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

from nodesets.ports import Clock, Position, Series

VALUES: Final = 40_000
"""Of one read ahead."""
PAGES: Final = 8
"""Most of one read ahead."""
READS: Final = 8
"""Held at a time: some 10 MB."""
SECONDS: Final = 1.0


class Range(NamedTuple):
    """One page of a tag's history, as `ports.History.read_raw` is asked for it."""

    tag: str
    start: int | None
    end: int | None
    limit: int
    after: Position | None

    def beyond(self, page: Series) -> "Range":
        """The page after this one."""
        return self._replace(after=page.more)


class _Held(NamedTuple):
    pages: "asyncio.Future[Sequence[Series]]"
    place: int
    """Of the page among them."""
    until: float


class Ahead:
    """`read(range, most)` reads a page and those after it, `most` at most; its errors are of whoever asks for them.

    `idle()`: who could read has nothing else to do.
    """

    def __init__(
        self, read: Callable[[Range, int], Awaitable[Sequence[Series]]], idle: Callable[[], bool], clock: Clock
    ) -> None:
        self._read = read
        self._idle = idle
        self._clock = clock
        self._held: dict[Range, _Held] = {}

    async def page(self, asked: Range) -> Series:
        """One page; the next is being read, or was, when it returns."""
        held = self._held.pop(asked, None)
        if held is not None and held.until >= self._clock.monotonic():
            pages = await held.pages
            page = pages[held.place]
            if page.more is not None:
                self._keep(asked.beyond(page), held._replace(place=held.place + 1), pages)
                return page
        [page] = await self._read(asked, 1)
        if page.more is not None:
            self._begin(asked.beyond(page))
        return page

    def forget(self) -> None:
        """What was read is no longer what stands."""
        self._held.clear()

    def _keep(self, asked: Range, held: _Held, pages: Sequence[Series]) -> None:
        """The next page of a read; with its last one goes the next read."""
        if held.place < len(pages):
            self._held[asked] = held
        if held.place == len(pages) - 1 and pages[-1].more is not None:
            self._begin(asked.beyond(pages[-1]))
        elif held.place == len(pages):
            self._begin(asked)

    def _begin(self, asked: Range) -> None:
        now = self._clock.monotonic()
        self._held = {key: held for key, held in self._held.items() if held.until >= now}
        if asked not in self._held and len(self._held) < READS and self._idle():
            reading = asyncio.ensure_future(self._read(asked, max(1, min(PAGES, VALUES // asked.limit))))
            reading.add_done_callback(_seen)
            self._held[asked] = _Held(reading, 0, now + SECONDS)


def _seen(reading: "asyncio.Future[Sequence[Series]]") -> None:
    """An error nobody asks for is nobody's."""
    if not reading.cancelled():
        reading.exception()
