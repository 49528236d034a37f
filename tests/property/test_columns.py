"""Items on columns and items by themselves against a plain model of what Part 4 and Part 8 ask of a monitored item."""

import asyncio
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.server.address_space import AddressSpace, AttributeValue, NodeData
from asyncua.ua.ua_binary import struct_from_binary, struct_to_binary
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nodesets.model import Caller
from opcua_server.services.aliases import Aliases
from opcua_server.services.attributes import Attributes
from opcua_server.services.limits import Limits
from opcua_server.services.locales import Locales
from opcua_server.services.monitored_items import ON_TIME
from opcua_server.services.nodes import HAS_PROPERTY
from opcua_server.services.server import shown
from opcua_server.services.sessions import Session, Waiting
from opcua_server.services.space import Space
from opcua_server.services.status import GOOD, OVERFLOW, from_ns, is_bad
from opcua_server.services.subscriptions import Subscriptions
from opcua_server.services.values import Table

KINDS = (ua.VariantType.Double, ua.VariantType.Int32, ua.VariantType.Boolean, ua.VariantType.Float)
LOW, HIGH = -2.0, 6.0
"""EURange of all of them, for percent deadbands (Part 8 7.2)."""
SUBSCRIPTIONS = {"C": "C", "O": "O", "D": "C"}
"""Which copy of the variables each watches: two share what they look at."""
BASE = 1_767_225_600 * 10**9
REPORTING, SAMPLING, DISABLED = ua.MonitoringMode.Reporting, ua.MonitoringMode.Sampling, ua.MonitoringMode.Disabled
TRIGGER, DEADBAND, STAMPS = ua.DataChangeTrigger, ua.DeadbandType, ua.TimestampsToReturn


@dataclass(frozen=True)
class Sample:
    value: float | None
    status: int
    source: int
    server: int


@dataclass(frozen=True)
class Parameters:
    queue: int = 1
    discard_oldest: bool = True
    interval: float = 0.0
    """Milliseconds."""
    trigger: Any = TRIGGER.StatusValue
    deadband: Any = DEADBAND.None_
    by: float = 0.0
    stamps: Any = STAMPS.Both

    def requested(self, client: int) -> Any:
        data_change = ua.DataChangeFilter(Trigger=self.trigger, DeadbandType=self.deadband, DeadbandValue=self.by)
        return ua.MonitoringParameters(
            ClientHandle=client,
            SamplingInterval=self.interval,
            Filter=data_change,
            QueueSize=self.queue,
            DiscardOldest=self.discard_oldest,
        )


@dataclass
class Model:
    """One monitored item, sample by sample, as the specification tells it."""

    parameters: Parameters
    mode: Any
    last: Sample | None = None
    queue: list[list[Any]] = field(default_factory=list)
    """[sample, overflow] oldest first."""
    free_at: float = -math.inf
    held: Sample | None = None

    def begin(self, sample: Sample) -> None:
        """5.13.1.2: the first value is reported whatever it is; sampling goes by the changes that come after it."""
        self.last, self.held, self.free_at = None, None, -math.inf
        if self.mode != DISABLED:
            self.judge(sample)

    def sampled(self, sample: Sample, now: float) -> None:
        """7.21: no more than one sample in a sampling interval, the last of it at its end."""
        if self.mode == DISABLED:
            return
        self.interval_over(now)
        if now < self.free_at:
            self.held = sample
        else:
            interval = self.parameters.interval / 1000
            self.free_at = max(self.free_at + interval, now + ON_TIME * interval)
            self.judge(sample)

    def interval_over(self, now: float) -> None:
        if self.held is not None and now >= self.free_at:
            sample, self.held = self.held, None
            self.free_at += self.parameters.interval / 1000
            self.judge(sample)

    def judge(self, new: Sample) -> None:
        """7.22.2: against the value last reported."""
        old, p = self.last, self.parameters
        if old is not None and not self.different(old, new, p):
            return
        self.last = new
        self.queue.append([new, False])
        if len(self.queue) > p.queue:
            del self.queue[0 if p.discard_oldest else -2]
            if p.queue > 1:  # 7.22.1: a queue of one has no overflow
                self.queue[0 if p.discard_oldest else -1][1] = True

    @staticmethod
    def different(old: Sample, new: Sample, p: Parameters) -> bool:
        if old.status != new.status:
            return True
        if p.trigger == TRIGGER.Status:
            return False
        without = p.deadband == DEADBAND.None_  # 7.22.2: with a deadband the timestamp is of no interest
        if p.trigger == TRIGGER.StatusValueTimestamp and without and old.source != new.source:
            return True
        if old.value is None or new.value is None:
            return old.value is not new.value
        if p.deadband == DEADBAND.Absolute:
            return abs(new.value - old.value) > p.by
        if p.deadband == DEADBAND.Percent:
            return abs(new.value - old.value) > p.by / 100 * (HIGH - LOW)
        return old.value != new.value

    def modify(self, parameters: Parameters, now: float) -> None:
        """5.13.3: the queue keeps what still has room, the next sampling interval begins now at the latest."""
        self.parameters = parameters
        self.free_at = min(self.free_at, now + ON_TIME * (parameters.interval / 1000))
        while len(self.queue) > parameters.queue:
            del self.queue[0 if parameters.discard_oldest else -1]

    def switch(self, mode: Any, present: Sample, now: float) -> None:
        """5.13.4: disabled forgets; what was only sampled is reported once reporting is on."""
        before, self.mode = self.mode, mode
        if mode == DISABLED:
            self.last, self.held, self.queue = None, None, []
        elif before == DISABLED:
            self.begin(present)

    def published(self, now: float) -> list[tuple[Any, ...]]:
        self.interval_over(now)
        if self.mode != REPORTING:
            return []
        sent, self.queue = self.queue, []
        source = self.parameters.stamps in (STAMPS.Source, STAMPS.Both)
        server = self.parameters.stamps in (STAMPS.Server, STAMPS.Both)
        return [
            (s.value, s.status | (OVERFLOW if lost else 0), s.source if source else None, s.server if server else None)
            for s, lost in sent
        ]


class Stepped:
    """A clock that stands still between steps."""

    def __init__(self) -> None:
        self.instant = 1000.0

    def now(self) -> int:
        return BASE

    def monotonic(self) -> float:
        return self.instant

    async def sleep_until(self, instant: float) -> None:
        raise NotImplementedError


class Channel:
    """The peer: reads each response as asyncua does."""

    def __init__(self) -> None:
        self.responses: list[Any] = []

    def respond(self, _header: Any, _sequence: Any, response: Any, _most: int) -> None:
        self.responses.append(struct_from_binary(ua.PublishResponse, Buffer(struct_to_binary(response))))


class Bench:
    """The real services over two copies of the same variables: `C...` are columns, `O...` are not.

    The subscriptions get the same requests; what C releases stays on columns in D.
    """

    def __init__(self, per_message: int) -> None:
        self.clock = Stepped()
        self.table = Table(self.clock.monotonic)
        self.space = Space(AddressSpace(), self.table)
        self.cells = {node: self._variable(node, kind) for kind in KINDS for node in (f"C{kind}", f"O{kind}")}
        attributes = Attributes(self.space, lambda *_: True, lambda *_: None, lambda *_: True)
        self.service = Subscriptions(self.space, attributes, self.table, self.clock, Limits(), Locales())
        self.channel = Channel()
        self.session = Session(
            id=ua.NodeId(1),
            token=b"",
            certificate=b"",
            application_uri="",
            name="",
            channel=self.channel,  # type: ignore[arg-type]
            nonce=b"",
            timeout=60.0,
            touched=0.0,
            description=None,
            server_uri="",
            endpoint_url="",
            max_response=0,
            connected=0,
            contacted=0,
            aliases=Aliases(0),
            caller=Caller(user="anna"),
        )
        self.rows = self.space.columns([_id(f"C{kind}") for kind in KINDS], BASE)
        self.present = dict.fromkeys(KINDS, Sample(None, ua.StatusCodes.BadWaitingForInitialData, BASE, BASE))
        self.numbers = {}
        for which in SUBSCRIPTIONS:
            parameters = ua.CreateSubscriptionParameters(
                RequestedPublishingInterval=3_600_000,
                MaxNotificationsPerPublish=per_message,
                PublishingEnabled=True,
            )
            self.numbers[which] = self.service.create(self.session, parameters).SubscriptionId
        self.per_message = per_message
        self.items: dict[int, dict[str, int]] = {}
        """Client handle -> item ids, of either kind."""
        self.models: dict[int, Model] = {}
        self.watched: dict[int, Any] = {}

    def _variable(self, name: str, kind: Any) -> Any:
        def attributes(**given: Any) -> dict[Any, Any]:
            return {getattr(ua.AttributeIds, a): AttributeValue(ua.DataValue(v)) for a, v in given.items()}

        node, limits = NodeData(_id(name)), NodeData(_id(f"{name}.EURange"))
        limits.attributes = attributes(Value=ua.Variant(ua.Range(Low=LOW, High=HIGH)))
        node.attributes = attributes(
            NodeClass=ua.Variant(2, ua.VariantType.Int32),
            DataType=ua.Variant(ua.NodeId(kind.value)),
            AccessLevel=ua.Variant(1, ua.VariantType.Byte),
            Value=ua.Variant(),
        )
        node.references.append(
            ua.ReferenceDescription(HAS_PROPERTY, True, limits.nodeid, ua.QualifiedName("EURange", 0))
        )
        for made in (node, limits):
            self.space.storage[made.nodeid] = made
        cell = node.attributes[ua.AttributeIds.Value]
        waiting = ua.StatusCode(ua.StatusCodes.BadWaitingForInitialData)
        cell.value = ua.DataValue(ua.Variant(), waiting, from_ns(BASE), from_ns(BASE))
        return cell

    # -- steps, each done to both kinds of items and to the model

    def create(self, kind: Any, parameters: Parameters, mode: Any) -> None:
        client, parameters = 1 + max(self.items, default=0), _suited(kind, parameters)
        self.items[client] = {}
        for which, copy in SUBSCRIPTIONS.items():
            request = ua.MonitoredItemCreateRequest(
                ItemToMonitor=ua.ReadValueId(NodeId=_id(f"{copy}{kind}"), AttributeId=ua.AttributeIds.Value),
                MonitoringMode=mode,
                RequestedParameters=parameters.requested(client),
            )
            (result,) = self.service.create_items(
                self.session,
                ua.CreateMonitoredItemsParameters(self.numbers[which], parameters.stamps, [request]),
            )
            result.StatusCode.check()
            self.items[client][which] = result.MonitoredItemId
        self.watched[client] = kind
        self.models[client] = model = Model(parameters, mode)
        model.begin(self.present[kind])

    def modify(self, client: int, parameters: Parameters) -> None:
        parameters = _suited(self.watched[client], parameters)
        for which, number in self.items[client].items():
            request = ua.MonitoredItemModifyRequest(number, parameters.requested(client))
            (result,) = self.service.modify_items(
                self.session,
                ua.ModifyMonitoredItemsParameters(self.numbers[which], parameters.stamps, [request]),
            )
            result.StatusCode.check()
        self.models[client].modify(parameters, self.clock.instant)

    def switch(self, client: int, mode: Any) -> None:
        for which, number in self.items[client].items():
            (result,) = self.service.set_mode(
                self.session, ua.SetMonitoringModeParameters(self.numbers[which], mode, [number])
            )
            assert result == GOOD
        self.models[client].switch(mode, self.present[self.watched[client]], self.clock.instant)

    def delete(self, client: int) -> None:
        for which, number in self.items.pop(client).items():
            twice = self.service.delete_items(
                self.session, ua.DeleteMonitoredItemsParameters(self.numbers[which], [number, number])
            )
            assert [r.value for r in twice] == [0, ua.StatusCodes.BadMonitoredItemIdInvalid]
        del self.models[client], self.watched[client]

    def release(self, client: int) -> None:
        """What SetTriggering does to an item on columns: nothing that can be seen."""
        for which, number in self.items[client].items():
            if which == "D":
                continue
            self.service._item(self.session.subscriptions[self.numbers[which]], number)

    def resend(self) -> None:
        """What TransferSubscriptions does with SendInitialValues (5.14.7.2)."""
        for number in self.numbers.values():
            self.service._resend(self.session, self.session.subscriptions[number])
        for client, model in self.models.items():
            if model.mode == REPORTING and not model.queue:
                model.begin(self.present[self.watched[client]])

    def write(self, samples: Sequence[tuple[Any, Sample]], *, at_once: bool) -> None:
        for kind, sample in samples:
            self.present[kind] = sample
            for client, model in self.models.items():
                if self.watched[client] == kind:
                    model.sampled(sample, self.clock.instant)
            variant = None if sample.value is None else _variant(kind, sample.value)
            stamps = from_ns(sample.source), from_ns(sample.server)
            for which in "O" if at_once else "CO":
                self.space.write(_id(f"{which}{kind}"), shown(variant, sample.status, *stamps))
        if at_once:
            whole = [self.present[kind] for kind in KINDS]
            self.table.write_row(
                self.rows,
                np.array([math.nan if s.value is None else s.value for s in whole]),
                np.array([s.status for s in whole], np.uint32),
                whole[0].source,
                whole[0].server,
            )

    def cycle(self) -> None:
        """A publishing interval ends, with Publish requests enough for everything; what came is as the model says."""
        got: dict[str, dict[int, list[tuple[Any, ...]]]] = {}
        for which, number in self.numbers.items():
            subscription = self.session.subscriptions[number]
            self.session.publish.extend(_waiting(self.channel) for _ in range(100))
            subscription._cycle()
            self.session.publish.clear()
            got[which] = self._received(number)
        sent = {client: model.published(self.clock.instant) for client, model in self.models.items()}
        expected = {client: [_stamped(s) for s in samples] for client, samples in sent.items() if samples}
        assert got["O"] == expected
        assert got["C"] == expected
        assert got["D"] == expected
        for client, kind in self.watched.items():
            for which in "CO":
                target = ua.ReadValueId(NodeId=_id(f"{which}{kind}"), AttributeId=ua.AttributeIds.Value)
                value = self.service._current(self.session, target)
                assert _plain(value) == _expected(self.present[kind]), client

    def _received(self, number: int) -> dict[int, list[tuple[Any, ...]]]:
        received = defaultdict(list)
        responses, self.channel.responses = self.channel.responses, []
        for i, response in enumerate(responses):
            result = response.Parameters
            assert result.SubscriptionId == number
            assert result.MoreNotifications == (i < len(responses) - 1)
            values = [v for part in result.NotificationMessage.NotificationData for v in part.MonitoredItems]
            assert len(values) <= self.per_message
            for value in values:
                received[value.ClientHandle].append(_plain(value.Value))
        return dict(received)


def _id(name: str) -> Any:
    return ua.NodeId(name, 3)


def _waiting(channel: Any) -> Waiting:
    return Waiting(channel, None, None, [], None)


def _variant(kind: Any, value: float) -> Any:
    native = {ua.VariantType.Boolean: bool, ua.VariantType.Int32: int}.get(kind, float)
    return ua.Variant(native(value), kind)


def _plain(data: Any) -> tuple[Any, ...]:
    value = data.Value.Value if data.Value is not None else None
    return value, data.StatusCode.value, data.SourceTimestamp, data.ServerTimestamp


def _expected(sample: Sample) -> tuple[Any, ...]:
    return sample.value, sample.status, from_ns(sample.source), from_ns(sample.server)


def _stamped(sent: tuple[Any, ...]) -> tuple[Any, ...]:
    value, code, source, server = sent
    return value, code, source and from_ns(source), server and from_ns(server)


# -- what may happen

numbers = st.sampled_from([None, -2.0, -1.0, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0])
codes = st.sampled_from([0, 0, 0, 0x40900000, ua.StatusCodes.BadSensorFailure])
parameters = st.builds(
    Parameters,
    queue=st.sampled_from([1, 1, 2, 3, 5]),
    discard_oldest=st.booleans(),
    interval=st.sampled_from([0.0, 0.0, 100.0, 250.0]),
    trigger=st.sampled_from(list(TRIGGER)),
    stamps=st.sampled_from([STAMPS.Both, STAMPS.Source, STAMPS.Server, STAMPS.Neither]),
    deadband=st.sampled_from(list(DEADBAND)),
    by=st.sampled_from([0.0, 0.5, 1.0, 12.5, 25.0]),
)
modes = st.sampled_from([REPORTING, REPORTING, REPORTING, SAMPLING, DISABLED])
which = st.integers(0, 7)
pauses = st.sampled_from([0.0, 0.02, 0.05, 0.0875, 0.1, 0.25])
flow = st.one_of(
    st.tuples(st.just("frame"), pauses, st.lists(st.tuples(numbers, codes), min_size=len(KINDS), max_size=len(KINDS))),
    st.tuples(st.just("value"), pauses, st.sampled_from(KINDS), numbers, codes),
    st.tuples(st.just("cycle"), pauses),
)
requests = st.one_of(
    st.tuples(st.just("create"), st.sampled_from(KINDS), parameters, modes),
    st.tuples(st.just("modify"), which, parameters),
    st.tuples(st.just("switch"), which, modes),
    st.tuples(st.just("delete"), which),
    st.tuples(st.just("release"), which),
    st.tuples(st.just("resend")),
)
steps = st.one_of(flow, flow, flow, requests)


def _sample(kind: Any, value: float | None, code: int, step: int) -> Sample:
    """As it is shown: a Bad value is null (Part 4 7.11)."""
    shown = None if value is None or is_bad(code) else _variant(kind, value).Value
    return Sample(shown, code, BASE + step // 2 * 1000, BASE + step * 1000)


def _suited(kind: Any, parameters: Parameters) -> Parameters:
    """A Boolean has no deadband."""
    return replace(parameters, deadband=DEADBAND.None_) if kind is ua.VariantType.Boolean else parameters


def play(steps: Sequence[tuple[Any, ...]], items: Sequence[tuple[Any, ...]], per_message: int) -> None:
    bench = Bench(per_message)
    for item in items:
        bench.create(*item)
    for number, (step, *given_) in enumerate(steps):
        if step in ("frame", "value", "cycle"):
            bench.clock.instant += given_.pop(0)
        if step == "frame":
            frame = [(k, _sample(k, *given, number)) for k, given in zip(KINDS, given_[0], strict=True)]
            bench.write(frame, at_once=True)
        elif step == "value":
            bench.write([(given_[0], _sample(*given_, number))], at_once=False)
        elif step in ("modify", "switch", "delete", "release"):
            alive = list(bench.items)
            if alive:
                getattr(bench, step)(alive[given_[0] % len(alive)], *given_[1:])
        else:
            getattr(bench, step)(*given_)
    bench.cycle()
    bench.clock.instant += 1.0
    bench.cycle()
    bench.service.stop()
    assert not bench.table._readers


@given(
    st.lists(steps, min_size=5, max_size=40),
    st.lists(st.tuples(st.sampled_from(KINDS), parameters, modes), min_size=1, max_size=6),
    st.sampled_from([3, 10_000]),
)
@example(  # the sample that waited opens an interval of its own: the next one within that waits too
    steps=[
        ("value", 0.0, KINDS[0], 1.0, 0),
        ("value", 0.05, KINDS[0], 2.0, 0),
        ("cycle", 0.1),
        ("value", 0.02, KINDS[0], 3.0, 0),
        ("cycle", 0.0),
    ],
    items=[(KINDS[0], Parameters(interval=100.0), REPORTING)],
    per_message=3,
)
@example(  # an interval asked for where there was none begins with the last sample that was taken
    steps=[
        ("frame", 0.0, [(None, 0)] * len(KINDS)),
        ("frame", 0.0, [(None, 0)] * len(KINDS)),
        ("modify", 0, Parameters(interval=100.0, trigger=TRIGGER.StatusValueTimestamp, discard_oldest=False)),
        ("frame", 0.0, [(None, 0)] * len(KINDS)),
        ("frame", 0.0875, [(None, 0)] * len(KINDS)),
    ],
    items=[(KINDS[0], Parameters(trigger=TRIGGER.Status), REPORTING)],
    per_message=3,
)
@settings(max_examples=400, deadline=None)
def test_columns_and_items_report_what_the_specification_says(
    steps: list[tuple[Any, ...]], items: list[tuple[Any, ...]], per_message: int
) -> None:
    async def run() -> None:
        play(steps, items, per_message)

    asyncio.run(run())
