"""The agents in a process of their own: what they do, or fail to do, costs the server no tick (F28, L13).

`Worker` is the server's side. The other side is this module run as a program: it reads questions from standard input
and writes answers to standard output, each a pickle behind its length (4 bytes, big-endian). Both ends are this
file, over a pipe nobody else holds, which is what makes pickle acceptable.
"""

import asyncio
import logging
import os
import pickle
import struct
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, BinaryIO, Self

from agents import orchestrator
from agents.case import Case
from nodesets.model import Recommendation, Result

log = logging.getLogger(__name__)

QUESTIONS: Mapping[str, Callable[..., Recommendation]] = {
    "release": orchestrator.consider,
    "deviation": orchestrator.advise,
}
LENGTH = struct.Struct(">I")
NICENESS = 10
"""Advice yields to sampling."""


class Worker:
    """Asks the agents, one question at a time. Without an answer in time there is no advice, and nothing else changes.

    The process starts with the first question; after a failure or a time-out it is killed and the next question
    starts a new one.
    """

    def __init__(self, seconds: float = 10.0) -> None:
        """`seconds`: how long one question may take, the start of the process included."""
        self._seconds = seconds
        self._process: Process | None = None
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def consider(self, case: Case) -> Recommendation | None:
        """May this batch be proposed for release? None without an answer in time."""
        return await self._ask("release", case)

    async def advise(self, result: Result, now: int) -> Recommendation | None:
        """What to do about a NotOK result, at `now` (ns UTC). None without an answer in time."""
        return await self._ask("deviation", result, now)

    async def close(self) -> None:
        """End the process. A later question would start another."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            process.kill()
        await process.wait()

    async def _ask(self, question: str, *arguments: object) -> Recommendation | None:
        async with self._turn:
            try:
                async with asyncio.timeout(self._seconds):
                    return await self._exchange(pickle.dumps((question, arguments)))
            except TimeoutError:
                log.warning("no advice on %s: the agents took longer than %g s", question, self._seconds)
            except (asyncio.IncompleteReadError, ConnectionError, OSError) as error:
                log.warning("no advice on %s: the agents' process ended (%s)", question, error)
            except asyncio.CancelledError:
                await self.close()  # half an exchange would answer the next question with this one's answer
                raise
            await self.close()
            return None

    async def _exchange(self, body: bytes) -> Recommendation:
        if self._process is None:
            # Its own session: Ctrl-C is for the server, which ends this process in its turn.
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-m", "agents.worker", stdin=PIPE, stdout=PIPE, start_new_session=True
            )
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None  # noqa: S101 - PIPE was asked for
        assert stdout is not None  # noqa: S101
        stdin.write(LENGTH.pack(len(body)) + body)
        await stdin.drain()
        (length,) = LENGTH.unpack(await stdout.readexactly(LENGTH.size))
        answer: Recommendation = pickle.loads(await stdout.readexactly(length))  # noqa: S301 - see the module
        return answer


def serve(questions: BinaryIO, answers: BinaryIO) -> None:
    """Answer until the questions end. An agent's error ends the process with its traceback: the server logs it."""
    while head := questions.read(LENGTH.size):
        (length,) = LENGTH.unpack(head)
        asked: tuple[str, tuple[Any, ...]] = pickle.loads(questions.read(length))  # noqa: S301 - see the module
        question, arguments = asked
        body = pickle.dumps(QUESTIONS[question](*arguments))
        answers.write(LENGTH.pack(len(body)) + body)
        answers.flush()


if __name__ == "__main__":
    os.nice(NICENESS)
    serve(sys.stdin.buffer, sys.stdout.buffer)
