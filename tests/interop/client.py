"""A client of another OPC UA stack (node-opcua, JavaScript) for the tests: `NodeOpcua`.

client.js holds the session; this side speaks JSON lines with it and turns its values into Python's. Nothing of
the server's own stack is on the path, so what passes here is agreement between two implementations.
"""

import asyncio
import base64
import itertools
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

HERE = Path(__file__).parent
LINE_LIMIT = 64 * 1024 * 1024
"""Bytes of one answer: a browse of a whole plant is one line."""


def missing() -> str:
    """Why the client cannot run on this machine, for a skip; empty when it can."""
    if not shutil.which("node"):
        return "node (Node.js 20 or later) is not installed"
    if not (HERE / "node_modules" / "node-opcua-client").is_dir():
        return "node-opcua is not installed: run `npm ci` in tests/interop"
    return ""


class OpcUaError(Exception):
    """A service failed; `status` is its StatusCode as number, `name` as Part 6 A.2 names it."""

    def __init__(self, message: str, status: int, name: str) -> None:
        super().__init__(message)
        self.status = status
        self.name = name


@dataclass(frozen=True, slots=True)
class Status:
    value: int
    name: str

    @property
    def good(self) -> bool:
        return self.value >> 30 == 0


@dataclass(frozen=True, slots=True)
class DataValue:
    value: Any
    """Int64 and DateTime (ns UTC) as int, ByteString as bytes, ids and names as str."""
    type: str
    """Built-in type, e.g. `Double`; `Null` without a value."""
    status: Status
    source_time: int | None
    """ns UTC, to 100 ns."""
    server_time: int | None


@dataclass(frozen=True, slots=True)
class Change:
    node: str
    data: DataValue


@dataclass(frozen=True, slots=True)
class Message:
    """A NotificationMessage with data changes, as it came."""

    subscription: int
    number: int
    values: tuple[DataValue, ...]


@dataclass(frozen=True, slots=True)
class Reference:
    """A node as it was first found by a browse."""

    node: str
    browse_name: str
    """`3:Score`."""
    display_name: str
    node_class: int
    type_definition: str
    reference_type: str
    parent: str


@dataclass(frozen=True, slots=True)
class CallResult:
    status: Status
    inputs: tuple[Status, ...]
    outputs: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Subscription:
    id: int
    publishing_interval: float
    """Revised, ms."""
    items: tuple[Status, ...] = ()
    """Result of each monitored item, in the order asked for."""


Event = dict[str, Any]
"""Selected field -> value."""


DECODERS: Mapping[str, Callable[[Any], Any]] = {
    "Float": float,
    "Double": float,
    "Int64": int,
    "UInt64": int,
    "DateTime": int,
    "ByteString": base64.b64decode,
}


def _decode(variant: Mapping[str, Any]) -> Any:
    value = variant["value"]
    kind = variant["type"]
    one = DECODERS.get(kind, {"StatusCode": _status, "Variant": _decode, "DataValue": _data_value}.get(kind, _same))
    if isinstance(value, list):
        return [None if v is None else one(v) for v in value]
    return None if value is None else one(value)


def _same(value: Any) -> Any:
    return value


def _status(code: Mapping[str, Any]) -> Status:
    return Status(code["value"], code["name"])


def _instant(text: str | None) -> int | None:
    return None if text is None else int(text)


def _data_value(data: Mapping[str, Any]) -> DataValue:
    return DataValue(
        value=_decode(data),
        type=data["type"],
        status=_status(data["status"]),
        source_time=_instant(data["sourceTime"]),
        server_time=_instant(data["serverTime"]),
    )


def _message(message: Mapping[str, Any]) -> Message:
    values = tuple(_data_value(value) for value in message["values"])
    return Message(message["subscriptionId"], message["sequenceNumber"], values)


@dataclass(frozen=True, slots=True)
class Typed:
    """A value with the built-in type it is sent as."""

    type: str
    value: Any


def _encode(value: Any) -> dict[str, Any]:
    """A variant: str, bool, float and bytes have one natural type; an int has none and must be `Typed`."""
    match value:
        case Typed(type=kind, value=bytes(content)):
            return {"type": kind, "value": base64.b64encode(content).decode()}
        case Typed(type=("Int64" | "UInt64" | "DateTime" | "Float" | "Double") as kind, value=number):
            return {"type": kind, "value": str(number)}
        case Typed(type=kind, value=content):
            return {"type": kind, "value": content}
        case bool():
            return {"type": "Boolean", "value": value}
        case str():
            return {"type": "String", "value": value}
        case float():
            return {"type": "Double", "value": str(value)}
        case bytes():
            return {"type": "ByteString", "value": base64.b64encode(value).decode()}
    raise TypeError(f"{value!r} needs a built-in type: Typed('Int32', ...)")


class NodeOpcua:
    """One node-opcua client process, with at most one session at a time.

    ::

        async with NodeOpcua(tmp_path / "client") as client:
            trust(client.certificate)
            await client.connect(url, server_certificate=server_der, user="qa1", password=secret)
            [score] = await client.read("ns=3;s=EN01.Stream01.Quality.Score")

    Its certificate and key are made in `pki` on entry, offline. Its own messages go to `pki/client.log`.
    Every method raises OpcUaError when the service fails; statuses of single items are returned.
    """

    def __init__(self, pki: Path) -> None:
        self.pki = pki
        self.certificate = pki / "own" / "certs" / "client.pem"
        self.application_uri = ""
        self._ids = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Any]] = {}

    async def __aenter__(self) -> Self:
        self.pki.mkdir(parents=True, exist_ok=True)
        with (self.pki / "client.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                "node",
                str(HERE / "client.js"),
                str(self.pki),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                limit=LINE_LIMIT,
            )
        assert self._process.stdin
        assert self._process.stdout
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        if not await self._stdout.readline():
            raise RuntimeError((self.pki / "client.log").read_text())
        self._reading = asyncio.create_task(self._read(), name="node-opcua")
        self.application_uri = (await self._ask("certificate"))["applicationUri"]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stdin.close()
        await self._process.wait()
        await self._reading

    async def _read(self) -> None:
        while line := await self._stdout.readline():
            message = json.loads(line)
            answer = self._answers.pop(message["id"])
            if answer.cancelled():
                continue
            if failure := message.get("error"):
                answer.set_exception(OpcUaError(failure["message"], failure["status"], failure["name"]))
            else:
                answer.set_result(message["result"])
        for answer in self._answers.values():
            answer.set_exception(ConnectionError(f"node-opcua ended: see {self.pki / 'client.log'}"))

    async def _ask(self, verb: str, **arguments: Any) -> Any:
        number = next(self._ids)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        self._stdin.write(json.dumps({"id": number, "verb": verb, "arguments": arguments}).encode() + b"\n")
        await self._stdin.drain()
        return await answer

    async def connect(
        self,
        endpoint: str,
        *,
        policy: str = "Basic256Sha256",
        mode: str = "SignAndEncrypt",
        server_certificate: Path | None = None,
        user: str | None = None,
        password: str | None = None,
        user_certificate: Path | None = None,
        user_key: Path | None = None,
        retries: int = 0,
        endpoint_must_exist: bool = True,
        token_lifetime: float = 600.0,
    ) -> list[str]:
        """Open channel and session; the server's namespace array.

        The server's certificate (PEM or DER) is put into the client's trust list first; an untrusted server is
        refused. Without user or user certificate the session is anonymous. `retries`: attempts of the first
        connection and of each reconnection; 0 fails at once, -1 never gives up. `token_lifetime`: seconds asked for a
        security token; the channel is renewed when three quarters of them are over.
        """
        session = await self._ask(
            "connect",
            endpoint=endpoint,
            policy=policy,
            mode=mode,
            serverCertificate=str(server_certificate) if server_certificate else None,
            user=user,
            password=password,
            userCertificate=str(user_certificate) if user_certificate else None,
            userKey=str(user_key) if user_key else None,
            retries=retries,
            endpointMustExist=endpoint_must_exist,
            tokenLifetime=token_lifetime * 1000,
        )
        return list(session["namespaces"])

    async def trust(self, certificate: Path) -> None:
        """Trust another certificate (PEM or DER) of a server."""
        await self._ask("trust", certificate=str(certificate))

    async def encode_trust_list(self, *trusted: bytes) -> bytes:
        """A trust list of these certificates (DER) as a file (Part 12 7.8.2.8)."""
        ders = [base64.b64encode(der).decode() for der in trusted]
        return base64.b64decode(await self._ask("encodeTrustList", trusted=ders))

    async def decode_trust_list(self, data: bytes) -> list[bytes]:
        """The trusted certificates, DER, of such a file."""
        found = await self._ask("decodeTrustList", data=base64.b64encode(data).decode())
        return [base64.b64decode(der) for der in found]

    async def application_uri_of(self, request: bytes) -> str:
        """Of a PKCS #10 request, DER."""
        return str(await self._ask("applicationUriOf", request=base64.b64encode(request).decode()))

    async def disconnect(self) -> None:
        """Close session and channel; also when the server is gone."""
        await self._ask("disconnect")

    async def activate(self, user: str, password: str) -> Status:
        """Change the user of the session (Part 4 5.7.3)."""
        return _status(await self._ask("activate", user=user, password=password))

    async def browse(self, root: str = "i=85", *, per_node: int = 0) -> list[Reference]:
        """Every node below root once; `per_node` references a page at most, the rest by BrowseNext."""
        return [
            Reference(
                node=r["nodeId"],
                browse_name=r["browseName"],
                display_name=r["displayName"],
                node_class=r["nodeClass"],
                type_definition=r["typeDefinition"],
                reference_type=r["referenceType"],
                parent=r["parent"],
            )
            for r in await self._ask("browse", root=root, perNode=per_node)
        ]

    async def read(self, *nodes: str, attribute: str = "Value") -> list[DataValue]:
        return [_data_value(d) for d in await self._ask("read", nodes=nodes, attribute=attribute)]

    async def write(self, node: str, value: Any) -> Status:
        return _status(await self._ask("write", node=node, value=_encode(value)))

    async def subscribe(
        self,
        nodes: Sequence[str],
        *,
        publishing_interval: float = 100,
        sampling_interval: float = 0,
        queue_size: int = 100,
    ) -> Subscription:
        """Data changes of nodes, intervals in ms; what arrives is read by `changes`."""
        made = await self._ask(
            "subscribe",
            nodes=list(nodes),
            publishingInterval=publishing_interval,
            samplingInterval=sampling_interval,
            queueSize=queue_size,
        )
        items = tuple(_status(item) for item in made["items"])
        return Subscription(made["subscriptionId"], made["publishingInterval"], items)

    async def subscribe_events(
        self,
        fields: Sequence[str],
        *,
        node: str = "i=2253",
        of_type: str | None = None,
        publishing_interval: float = 100,
    ) -> Subscription:
        """Events of a notifier, default Server; `ConditionId` as a field selects the condition's NodeId."""
        made = await self._ask(
            "subscribeEvents", node=node, fields=list(fields), type=of_type, publishingInterval=publishing_interval
        )
        return Subscription(made["subscriptionId"], made["publishingInterval"])

    async def unsubscribe(self, subscription: Subscription) -> None:
        await self._ask("unsubscribe", subscriptionId=subscription.id)

    async def changes(self, since: int = 0, *, wait: float = 0.0) -> tuple[list[Change], int]:
        """Changes from position `since` on, and the position behind them; waits up to `wait` seconds for one."""
        log = await self._ask("changes", since=since, wait=wait * 1000)
        return [Change(e["node"], _data_value(e)) for e in log["entries"]], log["next"]

    async def messages(self, since: int = 0) -> list[Message]:
        """Messages by Publish and by Republish from position `since` on, in the order they came; no keep-alives."""
        return [_message(m) for m in (await self._ask("messages", since=since))["entries"]]

    async def republish(self, subscription: Subscription, number: int) -> Message:
        """Republish (Part 4 5.14.6)."""
        return _message(await self._ask("republish", subscriptionId=subscription.id, sequenceNumber=number))

    async def events(self, since: int = 0, *, wait: float = 0.0) -> tuple[list[Event], int]:
        """Events from position `since` on, and the position behind them; waits up to `wait` seconds for one."""
        log = await self._ask("events", since=since, wait=wait * 1000)
        return [{field: _decode(v) for field, v in e.items()} for e in log["entries"]], log["next"]

    async def lifecycle(self, since: int = 0, *, wait: float = 0.0) -> tuple[list[str], int]:
        """`connection lost`, `connection reestablished`, `subscription terminated`, in order."""
        log = await self._ask("lifecycle", since=since, wait=wait * 1000)
        return [e["event"] for e in log["entries"]], log["next"]

    async def change(self, wanted: Callable[[Change], bool], *, within: float = 30.0) -> Change:
        """The first change, also of the past, that is wanted. Raises TimeoutError."""
        async with asyncio.timeout(within):
            since = 0
            while True:
                found, since = await self.changes(since, wait=within)
                for change in found:
                    if wanted(change):
                        return change

    async def event(self, wanted: Callable[[Event], bool], *, within: float = 30.0) -> Event:
        """The first event, also of the past, that is wanted. Raises TimeoutError."""
        async with asyncio.timeout(within):
            since = 0
            while True:
                found, since = await self.events(since, wait=within)
                for event in found:
                    if wanted(event):
                        return event

    async def call(self, object_id: str, method_id: str, *inputs: Any) -> CallResult:
        """Call a method (Part 4 5.12.2); a refused call is a result with its status, not an exception."""
        result = await self._ask(
            "call", objectId=object_id, methodId=method_id, inputs=[_encode(value) for value in inputs]
        )
        return CallResult(
            status=_status(result["status"]),
            inputs=tuple(_status(s) for s in result["inputs"]),
            outputs=tuple(_decode(v) for v in result["outputs"]),
        )

    async def acknowledge(self, condition_id: str, event_id: bytes, comment: str = "") -> Status:
        return _status(
            await self._ask(
                "acknowledge",
                conditionId=condition_id,
                eventId=base64.b64encode(event_id).decode(),
                comment=comment,
            )
        )

    async def alarms(self) -> list[dict[str, Any]]:
        """What node-opcua's own alarm list holds: it subscribes and refreshes by itself at the first call."""
        listed = await self._ask("alarms")
        return [alarm | {"eventId": base64.b64decode(alarm["eventId"])} for alarm in listed]

    async def answer(self, act: str, condition_id: str, event_id: bytes, comment: str) -> Status:
        """`acknowledge` or `confirm` as node-opcua does it, the method found by its browse path."""
        sent = base64.b64encode(event_id).decode()
        return _status(await self._ask("answer", act=act, conditionId=condition_id, eventId=sent, comment=comment))

    async def condition_refresh(self, subscription: Subscription) -> Status:
        return _status(await self._ask("conditionRefresh", subscriptionId=subscription.id))

    async def history_processed(
        self, node: str, start: int, end: int, interval: float, aggregate: str
    ) -> list[DataValue]:
        """An aggregate, by its NodeId, of intervals of so many milliseconds between two instants (ns UTC)."""
        found = await self._ask(
            "historyProcessed", node=node, start=str(start), end=str(end), interval=interval, aggregate=aggregate
        )
        return [_data_value(d) for d in found]

    async def history_at(self, node: str, times: Sequence[int]) -> list[DataValue]:
        """Values at instants (ns UTC)."""
        found = await self._ask("historyAtTime", node=node, times=[str(t) for t in times])
        return [_data_value(d) for d in found]

    async def history_modified(self, node: str, start: int, end: int) -> list[tuple[DataValue, str, str]]:
        """Values that were changed between two instants (ns UTC), with what was done and by whom."""
        found = await self._ask("historyModified", node=node, start=str(start), end=str(end))
        return [(_data_value(d["value"]), d["kind"], d["user"]) for d in found]

    async def history(
        self, node: str, start: int | None, end: int | None, *, per_page: int = 0
    ) -> tuple[list[DataValue], int]:
        """Raw values between two instants (ns UTC), all pages; and how many pages it took."""
        read = await self._ask(
            "historyRead",
            node=node,
            start=None if start is None else str(start),
            end=None if end is None else str(end),
            numValues=per_page,
        )
        return [_data_value(d) for d in read["values"]], read["pages"]

    async def history_of_events(
        self,
        node: str,
        fields: Sequence[str],
        start: int | None,
        end: int | None,
        *,
        of_type: str | None = None,
        per_page: int = 0,
    ) -> tuple[list[Event], int]:
        """Events of a notifier between two instants (ns UTC), all pages; and how many pages it took."""
        read = await self._ask(
            "historyEvents",
            node=node,
            fields=list(fields),
            type=of_type,
            start=None if start is None else str(start),
            end=None if end is None else str(end),
            numValues=per_page,
        )
        return [{field: _decode(v) for field, v in e.items()} for e in read["events"]], read["pages"]
