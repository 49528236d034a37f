"""A plant's site with real records, and nodes that refuse what the address space does not have."""

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from asyncua import ua

from agents.worker import Worker
from compliance import audit
from compliance.batches import Pins
from compliance.users import Accounts
from config.load import DEMO, digest, load
from config.schema import Plant
from historian import schema
from historian.forward import StoreAndForward
from historian.query import Reader
from historian.spool import Spool
from historian.writer import Writer
from nodesets.ports import SystemClock
from opcua_server.plant.alarms import Alarms
from opcua_server.plant.annunciator import Annunciator
from opcua_server.plant.publish import NO_DATA, Publisher
from opcua_server.plant.site import Site, Verified
from opcua_server.plant.space import nodes, space
from opcua_server.records import groups_of
from tests.sqlite import migrated_file


def _number(data_type, value):
    kind = ua.VariantType(data_type.Identifier if data_type.NamespaceIndex == 0 else 6)  # enumerations are Int32
    return ua.Variant(value if kind is ua.VariantType.Double else int(value), kind)


class Nodes:
    """What would be shown: node -> (value, status). Refuses unknown nodes and values of another type."""

    def __init__(self, plant: Plant) -> None:
        tree = space(plant).instances
        self.types = {
            node: (member.data_type, member.value_rank)
            for node, _, member in nodes(tree)
            if member.data_type is not None
        }
        self.instances = {instance.prefix for instance in tree}
        self.values: dict[str, tuple[object, int]] = {}
        self.events: list[object] = []
        self.texts: dict[str, dict[str, str]] = {}
        self.rows: list[str] = []

    def write(self, node, value, status, source_time, server_time):
        data_type, rank = self.types[node]
        if value is not None and status < 0x80000000:
            assert isinstance(value, ua.Variant), node
            assert isinstance(value.Value, list) == (rank == 1), node
            expected = data_type.Identifier
            if data_type.NamespaceIndex == 0 and expected in (290, 294, 17):  # Duration, UtcTime, NodeId
                expected = {290: 11, 294: 13, 17: 17}[expected]
            if data_type.NamespaceIndex == 0 and expected <= 25:
                assert value.VariantType.value == expected, (node, value, data_type)
        assert source_time > 0, node
        self.values[node] = (None if value is None else value.Value, status)

    def write_many(self, values, source_time, server_time):
        for node, value, status in values:
            self.write(node, value, status, source_time, server_time)

    def write_made(self, node, make, source_time, server_time):
        self.write(node, *make(), source_time, server_time)

    def write_instance(self, instance, make, source_time, server_time):
        assert instance in self.instances
        for path, value in make().items():
            self.write(f"{instance}.{path}", value, 0 if value is not None else NO_DATA, source_time, server_time)

    def columns(self, nodes):
        first = len(self.rows)
        self.rows += nodes
        return slice(first, len(self.rows))

    def write_row(self, rows, values, codes, source_time, server_time):
        codes = np.broadcast_to(codes, len(values))
        for node, value, code in zip(self.rows[rows], values.tolist(), codes.tolist(), strict=True):
            data_type, _ = self.types[node]
            self.write(node, None if math.isnan(value) else _number(data_type, value), code, source_time, server_time)

    def deliver_event(self, event):
        self.publish_event(event)

    def publish_event(self, event):
        self.events.append(event)

    def remember_text(self, text, translations):
        self.texts[text] = translations

    def __getitem__(self, node):
        return self.values[node][0]


@contextlib.asynccontextmanager
async def site_of(plant: Plant, folder: Path) -> AsyncIterator[tuple[Site, Nodes]]:
    clock = SystemClock()
    url = f"sqlite:///{migrated_file(folder / 'enose.db')}"
    engine = schema.engine(url)
    schema.migrate(engine)
    spool = Spool(folder / "spool", groups_of(plant), limit=2**20, reserve=0)
    writer = Writer(
        engine,
        groups_of(plant),
        clock=clock,
        commit_seconds=0.0,
        queue=1000,
        covered=audit.cover_history,
        stream=spool.stream,
    )
    writer.start()
    recorder = StoreAndForward(writer, spool, clock=clock, slow_seconds=60.0, queue=1000, noted=audit.note_gap)
    recorder.start()
    reader = Reader(schema.reading(url))
    accounts = Accounts(writer, plant.security, clock)
    await accounts.start()
    shown, alarms = Nodes(plant), Alarms(plant)
    publisher = Publisher(plant, shown, clock)
    annunciator = Annunciator(alarms, lambda work: asyncio.wrap_future(writer.submit(work)), publisher, clock)
    publisher.annunciate = annunciator.find
    models = {}

    async def verify():
        return Verified(True)

    async def learn(*_):
        raise AssertionError("not asked for here")

    async with Worker() as agents:
        site = Site(
            plant=plant,
            clock=clock,
            writer=writer,
            recorder=recorder,
            reader=reader,
            accounts=accounts,
            alarms=alarms,
            annunciator=annunciator,
            publisher=publisher,
            sources={},
            agents=agents,
            pins=Pins(
                configuration=digest(plant),
                software="test",
                samples={p.id: p.samples for p in plant.products},
                demo=plant.site.demo,
            ),
            close_sessions=lambda _: 0,
            verify=verify,
            learn=learn,
            use_model=lambda stream, *model: models.__setitem__(stream, model),
        )
        try:
            yield site, shown
        finally:
            await site.finish_jobs()
            accounts.close()
            reader.close()
            recorder.close()
            engine.dispose()


@pytest.fixture
async def site(tmp_path):
    async with site_of(load(DEMO), tmp_path) as (made, shown):
        yield made, shown
