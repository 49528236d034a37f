"""The local door of a running server: a Unix socket in the data folder, one JSON line in, one out.

Commands that change something (`enose users`, `trust`, `learn`) go through it, so that one process writes. With no
server running, the command takes the data folder's lock and does the same work itself.
"""

import asyncio
import fcntl
import json
import logging
import os
import pwd
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from nodesets.errors import ConfigurationError, EnoseError, Mistake

log = logging.getLogger(__name__)

SOCKET = "admin.sock"
LOCK = "lock"
# A Unix socket's path is at most 107 bytes (sun_path).
LONGEST_PATH = 107
# A line holds a command and its arguments, no data; this bounds what a confused local process can make us buffer.
LONGEST_LINE = 1 << 20

Arguments = Mapping[str, object]
Handler = Callable[[str, str, Arguments], Awaitable[object]]
"""(`os:NAME` of the peer, command, arguments) -> JSON-able answer; raises EnoseError."""


class CommandFailed(EnoseError):
    """What the running server answered instead of doing it."""


@contextmanager
def data_folder(path: Path) -> Iterator[None]:
    """Own the data folder: 0700, and locked against a second server. Raises ConfigurationError when it is taken."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (path / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigurationError([Mistake("", f"another process works on {path}")]) from None
        yield


@asynccontextmanager
async def listening(folder: Path, handle: Handler) -> AsyncIterator[None]:
    """Answer commands of the account the server runs under, and of root, for as long as the block lasts."""
    path = folder / SOCKET
    if len(os.fsencode(path)) > LONGEST_PATH:
        raise ConfigurationError([Mistake("", f"the path of the data folder is too long for a socket: {path}")])
    path.unlink(missing_ok=True)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            user = _peer(writer.get_extra_info("socket"))
            if user is None:
                return
            try:
                request = json.loads(await reader.readline())
                command, arguments = request["command"], request["arguments"]
            except (ValueError, KeyError, TypeError):
                return  # not our command line: nothing was asked that could be answered
            try:
                reply = {"answer": await handle(f"os:{user}", command, arguments)}
            except EnoseError as error:
                reply = {"error": str(error)}
            except Exception as error:
                log.exception("command %s failed", command)
                reply = {"error": f"{type(error).__name__} in the server; its log has more"}
            writer.write(json.dumps(reply).encode() + b"\n")
            await writer.drain()
        except ConnectionError:
            return  # the peer went away
        finally:
            writer.close()

    server = await asyncio.start_unix_server(answer, path, limit=LONGEST_LINE)
    path.chmod(0o600)
    try:
        yield
    finally:
        server.close()
        path.unlink(missing_ok=True)


def ask(folder: Path, command: str, arguments: Arguments) -> object:
    """Have the running server do it. Raises ConnectionError when none runs, CommandFailed when it refuses."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
        try:
            door.connect(os.fspath(folder / SOCKET))
        except FileNotFoundError as error:
            raise ConnectionRefusedError(f"no server runs on {folder}") from error
        door.sendall(json.dumps({"command": command, "arguments": dict(arguments)}).encode() + b"\n")
        with door.makefile("rb") as answers:
            line = answers.readline()
    if not line:
        raise CommandFailed("the server closed the connection without an answer")
    reply = json.loads(line)
    if "error" in reply:
        raise CommandFailed(reply["error"])
    return reply["answer"]


def _peer(connection: socket.socket) -> str | None:
    """Name of the peer's account when it may command us; the kernel vouches for it (SO_PEERCRED)."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    uid = struct.unpack("3i", credentials)[1]
    if uid not in (0, os.getuid()):
        return None
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:  # an account without a name, as in a container
        return str(uid)
