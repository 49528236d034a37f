"""Long requests give way to those of other clients."""

import asyncio
import time
from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")

TURN = 0.005
"""Seconds of one client's work before another's turn: what a Read in between waits for at most."""


async def in_turns(answers: Iterable[T]) -> list[T]:
    """All answers; between two of them other requests are served when they have waited long enough."""
    found: list[T] = []
    begin = time.perf_counter()
    for answer in answers:
        found.append(answer)
        if time.perf_counter() - begin > TURN:
            await asyncio.sleep(0)
            begin = time.perf_counter()
    return found


class Turnstile:
    """Lets long requests through one by one, so that in each turn of the loop others wait for one of them alone."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    async def pass_through(self) -> None:
        async with self._lock:
            await asyncio.sleep(0)
