"""Argon2id in one helper process of low priority: ten logins a second must not be felt on the event loop."""

import asyncio
import multiprocessing
import os
import secrets
import signal
import threading
import unicodedata
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from typing import ParamSpec, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError

P = ParamSpec("P")
T = TypeVar("T")

SHORTEST = 10
LONGEST = 1024
"""Characters; a longer one is only there to make the helper work."""

_NICE = 10
_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"
"""32 signs no two of which look alike in print."""

_hasher = PasswordHasher()  # RFC 9106, second recommended option: 64 MiB, 3 passes, 4 lanes


def generate() -> str:
    """A random password of 80 bits, readable from paper: `abcd-efgh-jkmn-pqrs`."""
    return "-".join("".join(secrets.choice(_ALPHABET) for _ in range(4)) for _ in range(4))


def _encode(password: str) -> bytes:
    """The same bytes for the same visible password, whichever keyboard composed it (RFC 8265, OpaqueString)."""
    return unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass")


def _hash(password: bytes) -> str:
    return _hasher.hash(password)


def _verify(hashed: str, password: bytes) -> bool:
    try:
        return _hasher.verify(hashed, password)
    except VerifyMismatchError:
        return False


def _leave_with(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os._exit(0)


def _settle_in() -> None:
    """Be polite, leave Ctrl-C to the parent, and do not outlive it (a pool's worker holds both ends of its queue)."""
    os.nice(_NICE)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None  # noqa: S101 - runs in a spawned child only
    threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()


class Hasher:
    """The helper process. A helper that died is replaced once for each call that finds it dead."""

    def __init__(self) -> None:
        self._pool = self._new()

    @staticmethod
    def _new() -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(max_workers=1, mp_context=context, initializer=_settle_in)

    async def hash(self, password: str) -> str:
        """PHC string of argon2id with a random salt."""
        return await self._run(_hash, _encode(password))

    async def verify(self, hashed: str, password: str) -> bool:
        return await self._run(_verify, hashed, _encode(password))

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    async def _run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        pool = self._pool
        try:
            return await asyncio.wrap_future(pool.submit(work, *args, **kwargs))
        except BrokenExecutor:
            if self._pool is pool:
                pool.shutdown(wait=False)
                self._pool = self._new()
            return await asyncio.wrap_future(self._pool.submit(work, *args, **kwargs))
