import asyncio
import json
import os
from concurrent.futures import Future

import pytest
from sqlalchemy import select

from historian.schema import audit_entry
from nodesets.errors import CredentialRejected, DeviceError, EnoseError, InvalidArgument, StorageError
from nodesets.model import Caller, Role
from opcua_server.plant import methods
from opcua_server.plant.space import space
from opcua_server.records import Records
from opcua_server.services.nodes import site as node_id
from tests.unit.opcua_server.plant.test_site import approve, refuse_reading

OPERATOR = Caller(user="olga", roles=frozenset({Role.OPERATOR}))
GATEWAY = Caller(user="scada", roles=frozenset({Role.OPERATOR}), service=True)
ENGINEER = Caller(user="emil", roles=frozenset({Role.ENGINEER}))


class Server:
    """Calls what was linked, as the method service does once the arguments fit."""

    def __init__(self):
        self.answers = {}

    def link_method(self, method, answer, _allowed, _refused, _audited):
        self.answers[method] = answer

    async def call(self, caller, node, *arguments):
        return await self.answers[node_id(node)](caller, node_id(node.rpartition(".")[0]), arguments)


@pytest.fixture
def server(site):
    linked = Server()
    methods.link(linked, site[0], space(site[0].plant))
    return linked


async def entries(made, action):
    query = select(audit_entry.c.body).where(audit_entry.c.action == action).order_by(audit_entry.c.seq)
    return [json.loads(body) for body in await made.submit(lambda tx: tx.execute(query).scalars().all())]


SET_CONTEXT = "EN01.MethodSet.SetContext", "Stream01", "Operation", "Roasting"


async def test_a_person_acts_for_nobody_else_and_the_attempt_is_logged(site, server):
    # Process rule 15, docs/decisions/0002: a claim is a service account's.
    made, shown = site
    with pytest.raises(InvalidArgument):
        await server.call(OPERATOR, *SET_CONTEXT, "rita")
    assert "EN01.Stream01.Context.Operation" not in shown.values
    await server.call(GATEWAY, *SET_CONTEXT, "olga")
    logged = await entries(made, "call.MethodSet.SetContext")
    assert [(e["actor"], e["outcome"], e["on_behalf_of"]) for e in logged] == [
        ("olga", "BadInvalidArgument", "rita"),
        ("scada", "Good", "olga"),
    ]


async def test_a_secret_is_written_nowhere(site, server):
    # R25: neither of a call that is refused.
    made, _ = site
    with pytest.raises(CredentialRejected):
        await server.call(OPERATOR, "ENose.Security.ChangePassword", "old and secret", "new and secret")
    bodies = await made.submit(lambda tx: tx.execute(select(audit_entry.c.body)).scalars().all())
    assert bodies
    assert not [body for body in bodies if b"and secret" in body]


@pytest.mark.parametrize("lots", ["EN01.Stream01=/etc/passwd", "EN01.Stream01=x.csv; B1", "EN01.Stream01=coffee_a"])
async def test_a_client_has_no_file_of_the_server_read(server, lots):
    # The Lots argument is described as batches and spans of time; paths belong to the command line.
    with pytest.raises(InvalidArgument, match="enose learn"):
        await server.call(ENGINEER, "ENose.Models.LearnProduct", "COFFEE-A", lots, "why")


async def test_what_was_meant_for_a_device_is_on_record_before_it_is_tried(site, server):
    made, _ = site

    class Refusing:
        async def command(self, name):
            raise DeviceError(f"{name}: refused")

    made.sources = {"EN01": Refusing()}
    with pytest.raises(EnoseError):
        await server.call(OPERATOR, "EN01.MethodSet.StopAcquisition", "jam")
    intent = await entries(made, "call.MethodSet.StopAcquisition.intent")
    outcome = await entries(made, "call.MethodSet.StopAcquisition")
    assert (len(intent), [e["reason"] for e in outcome]) == (1, ["stop: refused"])
    assert outcome[0]["outcome"].startswith("Bad")


def records_of(made, folder) -> Records:
    return Records(made.plant, folder, made.clock, made.writer, made.recorder, made.reader, made.accounts, trust=None)


async def test_a_batch_that_never_ran_is_no_lot(site, tmp_path):
    # Its time on the line would be all that was ever recorded.
    made, _ = site
    await made.refresh_all()
    await approve(made)
    await methods.create_batch(made, OPERATOR, "L01", "B1", "COFFEE-A", "", "", 1.0)
    records = records_of(made, tmp_path)
    with pytest.raises(EnoseError, match="never started"):
        await records.learn(ENGINEER, "COFFEE-A", ["B1"], ())


async def test_what_was_committed_is_answered_good_whatever_the_disk_does_then(site, server, monkeypatch, caplog):
    # Fault F04: a batch that was started and answered as refused would be taken for idle.
    made, shown = site
    await made.refresh_all()
    await approve(made)
    await server.call(OPERATOR, "L01.BatchControl.CreateBatch", "B1", "COFFEE-A", "", "", 1.0)
    await asyncio.gather(*made._jobs)
    monkeypatch.setattr("opcua_server.plant.site.RETRY_SECONDS", 0.0)
    refuse_reading(made, monkeypatch, times=2)
    submit, calls = made.writer.submit, []

    def full_after_the_first(work, **options):
        calls.append(work)
        if len(calls) == 1:
            return submit(work, **options)
        refused = Future()
        refused.set_exception(StorageError("database or disk is full"))
        return refused

    monkeypatch.setattr(made.writer, "submit", full_after_the_first)
    assert await server.call(OPERATOR, "L01.BatchControl.StartBatch", "B1") == (1,)
    assert "not in the audit log" in caplog.text
    await asyncio.gather(*made._jobs)
    assert shown["L01.Batch.ExecutionStateNumber"] == 1
    assert shown["L01.Batch.LastCallResult"] == "BatchControl.StartBatch Good"


async def test_a_refusal_is_answered_as_what_it_is_although_it_cannot_be_logged(server, monkeypatch):
    with monkeypatch.context() as full:
        full.setattr(methods, "log_call", refused_by_the_disk)
        with pytest.raises(InvalidArgument):
            await server.call(OPERATOR, *SET_CONTEXT, "rita")


async def refused_by_the_disk(_site, _caller, action, *_):
    if not action.endswith(".intent"):
        raise StorageError("database or disk is full")


async def test_a_log_is_verified_by_our_module_alone_one_verification_at_a_time(site, tmp_path, monkeypatch):
    # A file of that name in the working directory must not be what says that all is well.
    made, _ = site
    fake = tmp_path / "elsewhere" / "compliance"
    fake.mkdir(parents=True)
    (fake / "__init__.py").touch()
    (fake / "verify.py").write_text("""print('{"clean": false, "problems": []}')""")
    monkeypatch.chdir(fake.parent)
    records = records_of(made, tmp_path)
    start, running, most, niceness = asyncio.create_subprocess_exec, [0], [], []

    async def counted(*command, **options):
        process = await start(*command, **options)
        running[0] += 1
        most.append(running[0])
        communicate = process.communicate

        async def ended():
            niceness.append(os.getpriority(os.PRIO_PROCESS, process.pid))
            answer = await communicate()
            running[0] -= 1
            return answer

        process.communicate = ended
        return process

    monkeypatch.setattr(asyncio, "create_subprocess_exec", counted)
    assert [v.clean for v in await asyncio.gather(records.verify(), records.verify())] == [True, True]
    assert most == [1, 1]
    assert min(niceness) > os.getpriority(os.PRIO_PROCESS, 0)  # who reads meanwhile does not wait for it
