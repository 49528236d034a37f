"""TCP connections (Part 6 7.1): bytes into chunks, HELLO and ERR, and how many of them there may be.

Whoever connects is a stranger until the channel was opened with a certificate we trust. Strangers have little: bytes,
time and places. When places run out, the connection that has been without a session for longest gives way, so that no
flood keeps an enrolled client out.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, cast

from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import struct_from_binary, uatcp_to_binary

from opcua_server.services.channel import CLOSE, MESSAGE, MIN_CHUNK, OPEN, Channel, ChannelError, Gate
from opcua_server.services.publishing import Piece
from opcua_server.services.status import Fault
from opcua_server.services.wire import Wire

log = logging.getLogger(__name__)

HELLO = b"HEL"
CONNECTION_HEADER = 8
"""Message type, chunk type, size."""
SMALLEST = 16
"""Bytes of the shortest chunk that can mean anything."""
MAX_URL = 4096
"""Bytes of an EndpointUrl (Part 6 7.1.2.3)."""
LINGER = 5.0
"""Seconds a closed connection gets to take what was written to it."""


class Services(Gate, Protocol):
    """What a connection needs of the services above it."""

    async def handle(self, channel: Channel, sequence: Any, body: bytes) -> None:
        """Answer one request."""

    def channel_closed(self, channel: Channel) -> None: ...

    def refused(self, channel: Channel, error: ChannelError) -> None:
        """A connection ends with this error."""

    def left(self, channel: Channel) -> None:
        """The client has closed its channel."""


class Connection(asyncio.Protocol):
    """One TCP connection."""

    def __init__(self, listener: "Listener") -> None:
        self._listener = listener
        self._services = listener.services
        self._limits = listener.services.limits
        self._received = bytearray()
        self._chunks: deque[bytes] = deque()
        self._waiting = 0
        self._paused = False
        self._partial_since: float | None = None
        self._begun_since: float | None = None
        self._arrived = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._greeted = False
        self._busy = False
        self.closing: float | None = None
        """`time.monotonic` of the close."""
        self.touched = time.monotonic()
        """When it was made, or last had a session."""
        self.made = self.touched
        self.accounted = 0
        """Bytes of it in the listener's sum."""

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=self._limits.unread)
        peer = transport.get_extra_info("peername")
        self.address = str(peer[0]) if peer else ""
        self.channel = Channel(self, self.address, self._services, self._listener.wire)
        self.task = asyncio.get_running_loop().create_task(self._serve())
        self._listener.admit(self)

    def data_received(self, data: bytes) -> None:
        """Cut the stream into chunks; a size is judged as soon as its eight bytes are there."""
        if self.closing is not None:
            return
        received = self._received
        received += data
        while len(received) >= CONNECTION_HEADER:
            size = int.from_bytes(received[4:8], "little")
            if bytes(received[:3]) not in (HELLO, OPEN, MESSAGE, CLOSE):
                self.refuse(ChannelError(ua.StatusCodes.BadTcpMessageTypeInvalid, "unknown message type"))
                return
            if not SMALLEST <= size <= self._limits.chunk:
                self.refuse(ChannelError(ua.StatusCodes.BadTcpMessageTooLarge, f"chunk of {size} bytes"))
                return
            if len(received) < size:
                break
            self._chunks.append(bytes(received[:size]))
            self._waiting += size
            del received[:size]
            self._partial_since = None
        if self._chunks:
            self._arrived.set()
        self._note_partial()
        self._account()
        self._hold_back()

    def pause_writing(self) -> None:
        """Whoever does not read its responses gets no further ones."""
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, _error: BaseException | None) -> None:
        self.closing = self.closing or time.monotonic()
        self.channel.closed = True
        self.task.cancel()
        self._drop()
        self._listener.forget(self)
        self._services.channel_closed(self.channel)

    # -- bounds

    @property
    def held(self) -> int:
        """Bytes received and not yet answered."""
        return len(self._received) + self._waiting + self.channel.held

    @property
    def in_session(self) -> bool:
        return self._services.has_active_session(self.channel)

    def _note_partial(self) -> None:
        """Since when a chunk waits for its rest, and a message for its further chunks."""
        now = time.monotonic()
        if not self._received:
            self._partial_since = None
        elif self._partial_since is None:
            self._partial_since = now
        if not self.channel.held:
            self._begun_since = None
        elif self._begun_since is None:
            self._begun_since = now

    def _account(self) -> None:
        self._listener.account(self, self.held)

    def _hold_back(self) -> None:
        """Leave in the kernel what we are too slow for; TCP tells the client."""
        if self._paused or self._waiting <= self._limits.message_before_session:
            return
        if self._waiting > self._most_waiting():
            self._paused = True
            self.transport.pause_reading()

    def _take_on(self) -> None:
        if self._paused and self.closing is None and self._waiting <= self._most_waiting() // 2:
            self._paused = False
            self.transport.resume_reading()

    def _most_waiting(self) -> int:
        return self._limits.message if self.in_session else self._limits.message_before_session

    def overdue(self, now: float) -> str:
        """What the client should have done by now; empty when it may go on."""
        limits, age = self._limits, now - self.made
        if self._busy or self.in_session:  # busy: it waits for us, as for a password to be checked
            self.touched = now
        if not self._greeted and age > limits.hello:
            return "no HELLO in time"
        if not self.channel.id and age > limits.open:
            return "no secure channel in time"
        if self.channel.expired:
            return "channel not renewed in time"
        if now - self.touched > limits.inactive:
            return "no active session in time"
        begun = [since for since in (self._partial_since, self._begun_since) if since is not None]
        if begun and not self._waiting and now - min(begun) > limits.incomplete:
            return "a message stayed incomplete"
        return ""

    # -- out (channel.Outlet)

    def write(self, pieces: Sequence[Piece]) -> None:
        if self.transport.get_write_buffer_size() > self._limits.backlog:
            log.warning("%s does not read its responses; connection cut", self.address)
            self.transport.abort()
            return
        self.transport.writelines(pieces)

    def abort(self) -> None:
        self.transport.abort()

    def refuse(self, error: ChannelError) -> None:
        """ERR, then close (Part 6 7.1.5). The peer learns the code, our log the reason."""
        if self.closing is not None:
            return
        self._services.refused(self.channel, error)
        message = ua.ErrorMessage(ua.StatusCode(error.status), None)
        self.transport.write(error.answer or uatcp_to_binary(ua.MessageType.Error, message))
        self.close()

    def close(self) -> None:
        """Take no more, send what was written, end."""
        if self.closing is None:
            self.closing = time.monotonic()
            self._drop()
            self.transport.close()

    def _drop(self) -> None:
        self._received.clear()
        self._chunks.clear()
        self._waiting = 0
        self._account()

    # -- requests, one after another

    async def _serve(self) -> None:
        while self.closing is None:
            await self._arrived.wait()
            await self._writable.wait()
            if not self._chunks:
                self._arrived.clear()
                continue
            chunk, arrived = self._chunks.popleft(), time.monotonic()
            self._waiting -= len(chunk)
            try:
                await self._take(chunk)
            except ChannelError as error:
                await self._in_equal_time(error, arrived)
                self.refuse(error)
                return
            except Exception:
                # A mistake of ours costs this connection, not the other ones.
                log.exception("connection of %s", self.address)
                self.abort()
                return
            self._note_partial()
            self._account()
            self._take_on()
            await asyncio.sleep(0)  # the others' turn: this one may have sent a thousand requests

    async def _take(self, chunk: bytes) -> None:
        """One chunk. Raises ChannelError."""
        if chunk.startswith(HELLO):
            self._hello(chunk)
            return
        if not self._greeted:
            raise ChannelError(ua.StatusCodes.BadTcpMessageTypeInvalid, "no HELLO before it")
        message = self.channel.receive(chunk)
        if message is None:
            return
        if message.kind == CLOSE:
            self._services.left(self.channel)
            self.close()
        elif message.body:
            self._busy = True
            await self._services.handle(self.channel, message.sequence, message.body)
            self._busy = False

    async def _in_equal_time(self, error: ChannelError, arrived: float) -> None:
        """However far a check of signatures and certificates went, its failure takes the same time."""
        if error.status == ua.StatusCodes.BadSecurityChecksFailed:
            await asyncio.sleep(max(0.0, arrived + self._limits.refusal - time.monotonic()))

    def _hello(self, chunk: bytes) -> None:
        """HELLO and ACK (Part 6 7.1.2.3, 7.1.2.4): what a client says bounds what we send, never what we accept."""
        if self._greeted:
            raise ChannelError(ua.StatusCodes.BadTcpMessageTypeInvalid, "a second HELLO")
        try:
            self._listener.wire.check(ua.Hello, chunk, CONNECTION_HEADER)
        except Fault as fault:
            raise ChannelError(ua.StatusCodes.BadDecodingError, "no HELLO") from fault
        hello = struct_from_binary(ua.Hello, Buffer(chunk, CONNECTION_HEADER))
        if len((hello.EndpointUrl or "").encode()) > MAX_URL:
            raise ChannelError(ua.StatusCodes.BadTcpEndpointUrlInvalid, "endpoint URL too long")
        if hello.ReceiveBufferSize < MIN_CHUNK or hello.SendBufferSize < MIN_CHUNK:
            raise ChannelError(ua.StatusCodes.BadConnectionRejected, "buffers under 8,192 bytes")
        self._greeted = True
        self.channel.max_chunk = min(hello.ReceiveBufferSize, self._limits.chunk)
        # asyncua's client announces its number of chunks here, so what is less than one buffer cannot be meant.
        self.channel.max_response = hello.MaxMessageSize if hello.MaxMessageSize >= MIN_CHUNK else 0
        self.channel.max_chunks = hello.MaxChunkCount
        acknowledge = ua.Acknowledge(
            ProtocolVersion=0,
            ReceiveBufferSize=min(hello.SendBufferSize, self._limits.chunk),
            SendBufferSize=self.channel.max_chunk,
            MaxMessageSize=self._limits.message,
            MaxChunkCount=self._limits.chunks,
        )
        self.transport.write(uatcp_to_binary(ua.MessageType.Acknowledge, acknowledge))


class Listener:
    """All connections of one address."""

    def __init__(self, host: str, port: int, services: Services) -> None:
        self.services = services
        self.wire = Wire(services.limits)
        self.port = port
        self._host = host
        self._connections: dict[Connection, None] = {}
        self._empty = asyncio.Event()
        self._empty.set()
        self._held = 0
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen; `port` is then the real one. Raises OSError."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self), self._host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close everything, with LINGER for what was written."""
        if self._server is not None:
            self._server.close()
        tasks = [connection.task for connection in self._connections]
        for connection in list(self._connections):
            connection.close()
        if tasks:
            await asyncio.wait(tasks, timeout=LINGER)
        for connection in list(self._connections):
            connection.abort()
        await self._empty.wait()

    def sweep(self) -> None:
        """Close who is overdue, and cut who does not let itself be closed."""
        now = time.monotonic()
        for connection in list(self._connections):
            if connection.closing is not None:
                if now - connection.closing > LINGER:
                    connection.abort()
            elif reason := connection.overdue(now):
                connection.refuse(ChannelError(ua.StatusCodes.BadTimeout, reason))

    def reopen(self, which: Callable[[Channel], bool], reason: str) -> None:
        """Close channels for their clients to open anew; sessions wait for them."""
        for connection in list(self._connections):
            if connection.closing is None and which(connection.channel):
                connection.refuse(ChannelError(ua.StatusCodes.BadSecureChannelClosed, reason))

    # -- places

    def admit(self, connection: Connection) -> None:
        """Room for one more: the oldest connection that nobody has a session on gives way, strangers first."""
        limits = self.services.limits
        living = [c for c in self._connections if c.closing is None]
        idle = [c for c in living if not c.in_session]
        strangers = [c for c in idle if not c.channel.enrolled]
        neighbours = [c for c in strangers if c.address == connection.address]
        self._connections[connection] = None
        self._empty.clear()
        if len(neighbours) >= limits.connections_per_address:
            _give_way(neighbours)
        elif len(strangers) >= limits.connections - limits.connections_reserved:
            _give_way(strangers)
        elif len(living) >= limits.connections:
            _give_way(strangers or idle or [connection])

    def forget(self, connection: Connection) -> None:
        del self._connections[connection]
        if not self._connections:
            self._empty.set()

    # -- bytes

    def account(self, connection: Connection, held: int) -> None:
        """Keep the sum of all that is held; when it is too much, who holds most goes."""
        self._held += held - connection.accounted
        connection.accounted = held
        if self._held > self.services.limits.buffered:
            largest = max(self._connections, key=lambda c: c.accounted)
            largest.refuse(ChannelError(ua.StatusCodes.BadTcpNotEnoughResources, f"{largest.accounted} bytes held"))


def _give_way(candidates: Iterable[Connection]) -> None:
    oldest = min(candidates, key=lambda c: c.touched)
    oldest.refuse(ChannelError(ua.StatusCodes.BadTcpServerTooBusy, "too many connections", "connections"))
