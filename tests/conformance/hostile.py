"""`enose run` as a target, a neighbour that must not notice, and bytes no client library would send."""

import asyncio
import contextlib
import os
import secrets
import struct
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
from asyncua import ua
from asyncua.common.connection import MessageChunk
from asyncua.ua.ua_binary import nodeid_to_binary, struct_to_binary
from cryptography import x509

from tests.conformance.opcua import Application, Raw, Refused, application
from tests.servers import Running

FLOOD = "ENOSE_FLOOD" in os.environ
MIB = 1024 * 1024
STATE = ua.NodeId(ua.ObjectIds.Server_ServerStatus_State)
PLANT = """
site: {id: Hostile, demo: true}
server: {host: 127.0.0.1, port: 0, hostname: localhost, limits: {hello: 2, open: 3, incomplete: 2, inactive: 10}}
security: {lockout: 2}
devices:
  - id: EN01
    driver: simulator
    scenario: coffee_a
    period: 0.5
    channels:
      - {id: S01, technology: MOS, range: [0, 500]}
      - {id: S02, technology: MOS, range: [0, 500]}
    streams: [{id: Stream01, baseline: 5, exposure: 10, purge: 5}]
lines: [{id: L01, streams: [EN01.Stream01]}]
products: [{id: PROBE, samples: 1}]
"""
USERS = {"anna": ("Operator",), "bert": ("QA",)}


def many(few: int, flood: int) -> int:
    """How often, as the default and with ENOSE_FLOOD set."""
    return flood if FLOOD else few


@dataclass
class Target:
    """A server process, as `Raw` knows one."""

    running: Running
    client: Application = field(default_factory=application)

    def __post_init__(self) -> None:
        certificate = (self.running.data / "pki/own/certs/enose.der").read_bytes()
        self.identity = SimpleNamespace(certificate=x509.load_der_x509_certificate(certificate), der=certificate)
        self.url = self.running.endpoint
        self.server = SimpleNamespace(port=int(self.url.rpartition(":")[2]))
        self.trust(self.client)

    def trust(self, app: Application) -> None:
        (self.running.data / "pki/trusted/certs" / f"{app.thumbprint}.der").write_bytes(app.der)

    @property
    def alive(self) -> bool:
        return self.running.process is not None and self.running.process.poll() is None

    @property
    def memory(self) -> int:
        """Resident bytes of the server and its helpers."""
        process = psutil.Process(self.running.pid)
        return sum(p.memory_info().rss for p in (process, *process.children(recursive=True)))

    @property
    def cpu(self) -> float:
        """Seconds of CPU the server process has used."""
        times = psutil.Process(self.running.pid).cpu_times()
        return float(times.user + times.system)


@contextlib.contextmanager
def target(folder: Path) -> Iterator[Target]:
    config = folder / "plant.yaml"
    config.write_text(PLANT)
    running = Running(config, folder / "data")
    with running.started():
        for name, roles in USERS.items():
            running.add_user(name, *roles, password=f"{name}-password")
        yield Target(running)


@contextlib.asynccontextmanager
async def neighbour(bench: Any) -> AsyncIterator[list[float]]:
    """Another client that reads the server's state all the time; seconds of each answer."""
    took: list[float] = []
    async with Raw(bench) as raw:
        await raw.login("bert")

        async def ask() -> None:
            while True:
                start = time.monotonic()
                assert (await raw.read(STATE)).Value.Value == ua.ServerState.Running
                took.append(time.monotonic() - start)
                await asyncio.sleep(0.02)

        task = asyncio.create_task(ask())
        try:
            yield took
            if task.done():
                task.result()
        finally:
            task.cancel()
            await asyncio.wait([task])


async def refusal(work: Any) -> int | None:
    """StatusCode a service or the connection ends with; None when it does not."""
    try:
        await asyncio.wait_for(work, 30)
    except ua.UaStatusCodeError as error:
        return int(error.code)
    except Refused as error:
        return error.status
    except ConnectionError:
        return None
    return None


async def closed(raw: Raw) -> bool:
    """Whether the server ended the connection, after whatever it still had to say."""
    try:
        while await asyncio.wait_for(raw.reader.read(65536), 30):
            pass
    except ConnectionError:
        pass
    return True


# -- bytes


def request(name: str, token: ua.NodeId, parameters: bytes, header: ua.RequestHeader | None = None) -> bytes:
    """An encoded request with any parameters."""
    header = header or ua.RequestHeader(RequestHandle=7)
    header.AuthenticationToken = token
    number = getattr(ua.ObjectIds, f"{name}_Encoding_DefaultBinary")
    return nodeid_to_binary(ua.FourByteNodeId(number)) + struct_to_binary(header) + parameters


async def answer_to(raw: Raw, body: bytes) -> int:
    """StatusCode of the answer to an encoded request."""
    number = next(raw._request_ids)
    raw.writer.write(raw.connection.message_to_binary(body, request_id=number))
    return int((await raw.answer(number, "ServiceFault")).ResponseHeader.ServiceResult.value)


async def write_refusal(raw: Raw, variant: bytes) -> int:
    """StatusCode of a Write whose Variant is these bytes."""
    value = ua.WriteValue(NodeId=STATE, AttributeId=13, Value=ua.DataValue(ua.Variant(True)))
    whole = struct_to_binary(ua.DataValue(ua.Variant(True)))
    encoded = struct_to_binary(ua.WriteParameters(NodesToWrite=[value])).replace(whole, whole[:1] + variant + whole[3:])
    return await answer_to(raw, request("WriteRequest", raw.token, encoded))


def chunks(raw: Raw, body: bytes, count: int, number: int | None = None) -> list[MessageChunk]:
    """A message in so many chunks, not yet numbered."""
    connection, size = raw.connection, -(-len(body) // count)
    made: list[MessageChunk] = []
    for i in range(count):
        [chunk] = MessageChunk.message_to_chunks(
            connection.security_policy,
            body[i * size : (i + 1) * size] or b"",
            65535,
            channel_id=connection.security_token.ChannelId,
            request_id=number or 500,
            token_id=connection.security_token.TokenId,
        ) or [MessageChunk(connection.security_policy.symmetric_cryptography)]
        chunk.MessageHeader.ChunkType = ua.ChunkType.Single if i == count - 1 else ua.ChunkType.Intermediate
        made.append(chunk)
    return made


def numbered(raw: Raw, chunk: MessageChunk) -> bytes:
    raw.connection._sequence_number += 1
    chunk.SequenceHeader.SequenceNumber = raw.connection._sequence_number
    return chunk.to_binary()


def sealed(raw: Raw, body: bytes, padding: bytes, change: Callable[[bytearray], None] = lambda _: None) -> bytes:
    """A MSG chunk with this padding; `change` may spoil what is encrypted, signature included."""
    connection = raw.connection
    crypto = connection.security_policy.symmetric_cryptography
    connection._sequence_number += 1
    plain = struct.pack("<II", connection._sequence_number, 600) + body + padding
    token = connection.security_token

    def header(size: int) -> bytes:
        return struct.pack("<3scIII", b"MSG", b"F", 16 + size, token.ChannelId, token.TokenId)

    size = len(plain) + crypto.signature_size()
    secret = bytearray(plain + crypto.signature(header(size) + plain))
    change(secret)
    return header(len(secret)) + bytes(crypto.Encryptor.encrypt(bytes(secret)))


def der_bomb(size: int) -> bytes:
    """ASN.1 sequences in each other, the outermost as long as all (X.690 8.1.3)."""
    return b"".join(b"\x30\x84" + (size - i * 6 - 6).to_bytes(4, "big") for i in range(size // 6))


def of_no_version(certificate: bytes) -> bytes:
    """The certificate, whose version (RFC 5280 4.1.2.1) is none there is."""
    return certificate.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x30", 1)


def stranger() -> ua.NodeId:
    return ua.NodeId(secrets.token_bytes(32), 0, ua.NodeIdType.ByteString)
