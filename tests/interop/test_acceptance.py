"""A shift on a plant, from the first connection to the audit of its records: the numbered steps of README.md.

Real processes throughout: a device that plays a recording, the server, and node-opcua over SignAndEncrypt as named
users. The tests are one story on one plant and run in the order they stand in; steps of the matrix are named beside
what carries them out. Two recordings are played: one of the product alone while the batch runs, and one whose odour
changes, which the device begins when it is started again after its loss (T-40).
"""

import asyncio
import contextlib
import json
import signal
import sqlite3
import subprocess
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
import yaml
from asyncua import Client, ua
from cryptography import x509

from nodesets.model import DispositionState, ExecutionState
from tests import recordings
from tests.interop.client import CallResult, NodeOpcua, OpcUaError, missing
from tests.recordings import ENVIRONMENT, HEADER, INVALID
from tests.servers import Running, device, free_port, running

pytestmark = [
    pytest.mark.skipif(bool(missing()), reason=missing() or "installed"),
    pytest.mark.asyncio(loop_scope="module"),
]

CHANNELS = tuple(name for name in HEADER if name not in ENVIRONMENT)
QUANTITIES = {"Temperature": "Temperature", "Pressure": "Pressure", "RelativeHumidity": "Humidity"}
"""Quantity of the device -> column of the recording."""
PRODUCT, OTHER = "ginger", "nutmeg"
UNSEEN = 1
"""Lot of the product that is not learned from: what is played."""
ROWS = BASELINE, EXPOSURE, PURGE = 4, 6, 2
STEP = 0.3
"""Seconds a row is shown. It is polled twice in them, so that none is missed."""
LOTS = [lot for lot in range(6) if lot != UNSEEN]
CYCLES_A_LOT = 8
CYCLES_BEFORE = 2
"""Cycles of the product before the odour changes."""
USERS = {"op1": "Operator", "qa1": "QA", "rel1": "QA-Release", "obs1": "Observer"}
POLICIES = ("Basic256Sha256", "Aes128_Sha256_RsaOaep", "Aes256_Sha256_RsaPss")
SENSORS = {f"ns=3;s=EN01.Array.{name}.SensorValue": name for name in CHANNELS if name != "Benzene"} | {
    f"ns=3;s=EN01.Environment.{quantity}": column for quantity, column in QUANTITIES.items()
}
"""NodeId of each sensor that measures -> its column in the recording."""
BENZENE = "ns=3;s=EN01.Array.Benzene.SensorValue"
ANOMALY = "ns=3;s=EN01.Stream01.Alarms.AnomalyDetected"
LOST = "ns=3;s=EN01.Alarms.CommunicationLost"
FIELDS = (
    "EventId", "EventType", "SourceName", "Message", "Severity", "ActiveState.Id", "AckedState.Id", "ConditionId",
    "BranchId",
)  # fmt: skip
PRESENT = "ns=0;i=0"
"""BranchId of what a condition says of now, and not of an earlier time somebody has to answer for."""
ALARM_CONDITION_TYPE = "i=2915"
REFRESH_START, REFRESH_END = "ns=0;i=2787", "ns=0;i=2788"
BATCH = ("B-1001", "GINGER", "ROAST-7", "LOT-7", 500.0)
SAMPLES = 2
SAMPLE_COUNT = "ns=3;s=L01.Batch.SampleCount"


def plant(modbus: int, opcua: int) -> dict[str, Any]:
    """The plant file: one device whose channels are the columns of SmellNet."""
    return {
        "site": {"id": "Acceptance", "demo": True},
        "server": {"port": opcua, "hostname": "localhost"},
        "security": {"login_failures": 10},
        "devices": [
            {
                "id": "EN01",
                "port": modbus,
                "period": STEP / 2,
                "timeout": STEP / 2,
                "clock_tolerance": None,
                "channels": [
                    {
                        "id": name,
                        "range": [0, 10_000],
                        "stuck_after": None,  # a real recording stands still for minutes
                        "register": {"address": 100 + 2 * i, "invalid": [INVALID]},
                    }
                    for i, name in enumerate(CHANNELS)
                ],
                "environment": [
                    {"quantity": "Temperature", "unit": "CEL", "range": [-40, 125], "stuck_after": None},
                    {"quantity": "Pressure", "unit": "A97", "range": [300, 1100], "stuck_after": None},
                    {"quantity": "RelativeHumidity", "unit": "P1", "range": [0, 100], "stuck_after": None},
                ],
                "streams": [{"baseline": BASELINE * STEP, "exposure": EXPOSURE * STEP, "purge": PURGE * STEP}],
            }
        ],
        "lines": [{"id": "L01", "streams": ["EN01.Stream01"]}],
        "products": [{"id": "GINGER", "samples": SAMPLES}],
        "alarms": {"CommunicationLost": {"on_delay": 0.5, "off_delay": 0.5}},
    }


@dataclass
class Shift:
    """The plant at work, and what the story has come to know of it."""

    folder: Path
    server: Running
    modbus: int
    scada: NodeOpcua
    """Connected as op1 all shift long."""
    desk: NodeOpcua
    """Where people sit down one after another."""
    e_nose: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    known: dict[str, Any] = field(default_factory=dict)
    began: int = field(default_factory=time.time_ns)

    @property
    def certificate(self) -> Path:
        return self.server.data / "pki" / "own" / "certs" / "enose.der"

    def play(self, recording: Path) -> None:
        """Start the device on a recording, from its first row."""
        options = ["--replay", str(recording), "--columns", ",".join(CHANNELS), "--phases", ",".join(map(str, ROWS))]
        self.e_nose.enter_context(device(self.modbus, *options, "--period", str(STEP), "--loop"))

    def unplug(self) -> None:
        self.e_nose.close()

    async def sit_down(self, user: str, password: str = "", policy: str = "Basic256Sha256") -> NodeOpcua:
        """The desk's session, now of this user."""
        await self.desk.disconnect()
        await self.desk.connect(
            self.server.endpoint,
            policy=policy,
            user=user,
            password=password or self.server.passwords[user],
            server_certificate=self.certificate,
        )
        return self.desk

    async def log_in_scada(self) -> None:
        await self.scada.connect(
            self.server.endpoint,
            user="op1",
            password=self.server.passwords["op1"],
            server_certificate=self.certificate,
        )

    def tags(self) -> list[dict[str, Any]]:
        return list(json.loads(self.server.enose("tags", "--format", "json").stdout))

    def log(self) -> list[tuple[str, str, str, str]]:
        """(actor, action, object, outcome) of every audit entry, as they stand in the database."""
        with contextlib.closing(sqlite3.connect(self.server.data / "enose.db")) as database:
            return list(database.execute("SELECT actor, action, object, outcome FROM audit_entry ORDER BY seq"))

    def verify(self) -> subprocess.CompletedProcess[str]:
        return self.server.enose("audit", "verify", check=False)


def lot_files(folder: Path) -> list[str]:
    """Recordings of the good lots, as arguments of `enose learn`."""
    arguments = []
    for lot in LOTS:
        file = folder / f"lot{lot}.csv"
        recordings.cycles_recording(file, [PRODUCT], CYCLES_A_LOT, *ROWS, lot=lot)
        arguments += ["--lot", f"EN01.Stream01={file}"]
    return arguments


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shift(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shift]:
    folder = tmp_path_factory.mktemp("shift")
    modbus, opcua = free_port(), free_port()
    config = folder / "plant.yaml"
    config.write_text(yaml.safe_dump(plant(modbus, opcua)))
    recordings.cycles_recording(folder / "product.csv", [PRODUCT], CYCLES_A_LOT, *ROWS, lot=UNSEEN)
    product, _ = recordings.cycles([(PRODUCT, UNSEEN)], CYCLES_BEFORE, *ROWS)
    other, _ = recordings.cycles([(OTHER, 0)], 4 * CYCLES_A_LOT, *ROWS)
    recordings.write(folder / "change.csv", np.concatenate([product, other]))
    with running(config, folder / "data", USERS) as server:
        async with NodeOpcua(folder / "scada") as scada, NodeOpcua(folder / "desk") as desk:
            server.trust(scada.certificate)
            story = Shift(folder, server, modbus, scada, desk)
            try:
                yield story
            finally:
                story.unplug()


async def call(client: NodeOpcua, owner: str, method: str, *inputs: Any) -> CallResult:
    return await client.call(f"ns=3;s={owner}", f"ns=3;s={owner}.{method}", *inputs)


async def value(client: NodeOpcua, node: str) -> Any:
    [read] = await client.read(node if "=" in node else f"ns=3;s={node}")
    return read.value


async def refused(work: Any) -> str:
    """Name of the status a service is refused with."""
    with pytest.raises(OpcUaError) as error:
        await work
    return error.value.name


# --- connection and trust ------------------------------------------------------------------------------------------


async def test_endpoints_sign_and_encrypt_and_name_the_server(shift: Shift) -> None:
    # T-1
    endpoints = await Client(shift.server.endpoint).connect_and_get_server_endpoints()
    assert {e.SecurityPolicyUri.rpartition("#")[2] for e in endpoints} == set(POLICIES)
    assert {e.SecurityMode for e in endpoints} == {ua.MessageSecurityMode.SignAndEncrypt}
    certificate = x509.load_der_x509_certificate(endpoints[0].ServerCertificate)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "localhost" in names.get_values_for_type(x509.DNSName)
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [endpoints[0].Server.ApplicationUri]
    assert {e.EndpointUrl for e in endpoints} == {shift.server.endpoint}


async def test_an_unknown_client_is_refused_until_its_certificate_is_accepted(shift: Shift) -> None:
    # T-4
    assert await refused(shift.sit_down("op1")) == "BadSecurityChecksFailed"
    [shown] = [line for line in shift.server.enose("trust", "list").stdout.splitlines() if "rejected" in line]
    thumbprint = shown.split("│")[2].strip()
    [kept] = (shift.server.data / "pki" / "rejected" / "certs").iterdir()
    assert thumbprint in kept.name
    shift.server.enose("trust", "accept", thumbprint)
    await shift.sit_down("op1")


async def test_a_client_refuses_a_server_it_does_not_trust(shift: Shift) -> None:
    # T-5
    with pytest.raises(OpcUaError):
        await shift.scada.connect(shift.server.endpoint, user="op1", password=shift.server.passwords["op1"])


@pytest.mark.parametrize("policy", POLICIES)
async def test_each_policy_opens_a_session(shift: Shift, policy: str) -> None:
    # T-2
    client = await shift.sit_down("op1", policy=policy)
    assert await value(client, "i=2259") == 0  # ServerState Running


async def test_no_session_without_security(shift: Shift) -> None:
    # T-3
    with pytest.raises(ua.UaStatusCodeError, match="BadSecurityModeInsufficient"):
        async with Client(shift.server.endpoint):
            pass


def lasting(nodes: Iterable[str]) -> set[str]:
    """Nodes that do not go with a session, as its diagnostics do."""
    return {node for node in nodes if not node.startswith("ns=1;")}


async def test_a_wrong_password_and_an_unknown_user_get_the_same_answer(shift: Shift) -> None:
    # T-6
    before = len(shift.log())
    answers = [await refused(shift.sit_down(user, "wrong")) for user in ("op1", "nobody")]
    assert answers == ["BadUserAccessDenied"] * 2
    attempts = [(who, outcome) for who, action, _, outcome in shift.log()[before:] if action == "user.login"]
    # A name nobody has may be a password in the wrong field, and is not written down.
    assert attempts == [("op1", "BadIdentityTokenRejected"), ("unknown", "BadIdentityTokenRejected")]


async def test_anonymous_is_off(shift: Shift) -> None:
    # T-7
    with pytest.raises((ua.uaerrors.BadIdentityTokenRejected, ua.uaerrors.BadIdentityTokenInvalid)):
        async with shift.server.client(None):
            pass


# --- browse and read -----------------------------------------------------------------------------------------------


async def test_every_tag_is_found_once_by_browsing(shift: Shift) -> None:
    # T-10
    await shift.log_in_scada()
    found = [reference.node for reference in await shift.scada.browse()]
    assert len(found) == len(set(found))
    assert {tag["node_id"] for tag in shift.tags()} <= set(found)
    shift.known["nodes"] = lasting(found)


async def test_browsing_three_at_a_time_finds_the_same(shift: Shift) -> None:
    # T-11
    assert lasting(r.node for r in await shift.scada.browse(per_node=3)) == shift.known["nodes"]


async def test_tags_have_the_type_range_and_unit_of_the_tag_list(shift: Shift) -> None:
    # T-12
    tags = shift.tags()
    nodes = [tag["node_id"] for tag in tags]
    types = await shift.scada.read(*nodes, attribute="DataType")
    names = {int(getattr(ua.ObjectIds, name)): name for name in ("Boolean", "Double", "Float", "String", "DateTime",
             "Byte", "SByte", "Int16", "UInt16", "Int32", "UInt32", "LocalizedText", "StatusCode")}  # fmt: skip
    assert [names[int(t.value.rpartition("i=")[2])] for t in types] == [tag["data_type"] for tag in tags]
    ranks = await shift.scada.read(*nodes, attribute="ValueRank")
    assert {rank.value for rank in ranks} == {-1}
    ranged = [tag for tag in tags if tag["low"] is not None]
    assert {tag["node_id"] for tag in ranged} >= SENSORS.keys()
    ranges = await shift.scada.read(*(f"{tag['node_id']}.EURange" for tag in ranged))
    assert [(r.value["low"], r.value["high"]) for r in ranges] == [(tag["low"], tag["high"]) for tag in ranged]
    with_unit = [tag for tag in tags if tag["unit"]]
    units = await shift.scada.read(*(f"{tag['node_id']}.EngineeringUnits" for tag in with_unit))
    assert [u.value["displayName"]["text"] for u in units] == [tag["unit"] for tag in with_unit]


async def test_a_node_that_does_not_exist_does_not_spoil_its_neighbour(shift: Shift) -> None:
    # T-13
    nowhere, site = await shift.scada.read("ns=3;s=Nowhere", "ns=3;s=ENose.Diagnostics.DemoMode")
    assert nowhere.status.name == "BadNodeIdUnknown"
    assert site.status.good
    assert site.value is True


async def test_a_measured_value_cannot_be_written(shift: Shift) -> None:
    # T-14
    shift.play(shift.folder / "product.csv")
    sensor = "ns=3;s=EN01.Array.NO2.SensorValue"
    watched = await shift.scada.subscribe([sensor])
    await shift.scada.change(lambda c: c.data.status.good)
    await shift.scada.unsubscribe(watched)
    status = await shift.scada.write(sensor, -1.0)
    assert status.name in ("BadNotWritable", "BadUserAccessDenied")
    assert await value(shift.scada, sensor) > 0


# --- the product ---------------------------------------------------------------------------------------------------


async def test_the_product_is_learned_from_lots_and_approved_by_signature(shift: Shift) -> None:
    # Process rules 2 and 5: no model without three lots, none in force without QA's signature.
    scada = shift.scada
    lots = lot_files(shift.folder)
    few = shift.server.enose("learn", "GINGER", *lots[:4], "--phases", ",".join(map(str, ROWS)), check=False)
    assert few.returncode == 1
    assert "lots" in few.stderr
    assert (await call(scada, "L01.BatchControl", "CreateBatch", *BATCH)).status.name == "BadConfigurationError"
    shift.server.enose("learn", "GINGER", *lots, "--phases", ",".join(map(str, ROWS)))
    qa = await shift.sit_down("qa1")
    signature = await sign(shift, qa, "model", "GINGER/1", "approval", "qa1")
    assert (await call(scada, "ENose.Models", "ApproveModel", "GINGER/1", signature)).status.name == (
        "BadUserAccessDenied"
    )
    approved = await call(qa, "ENose.Models", "ApproveModel", "GINGER/1", signature)
    assert approved.status.good
    assert await value(scada, "EN01.Stream01.ChemometricModelSettings.ModelDigest") == approved.outputs[0]


async def sign(shift: Shift, client: NodeOpcua, kind: str, record: str, meaning: str, user: str) -> str:
    """Request and execute a signature; the SignatureId."""
    requested = await call(client, "ENose.Signatures", "RequestSignature", kind, record, meaning)
    assert requested.status.good, requested.status
    return await execute(shift, client, requested.outputs[0], user)


async def execute(shift: Shift, client: NodeOpcua, request: str, user: str) -> str:
    secret = shift.server.passwords[user]
    signed = await call(client, "ENose.Signatures", "ExecuteSignature", request, user, secret, "as seen")
    assert signed.status.good, signed.status
    return str(signed.outputs[0])


# --- batch ---------------------------------------------------------------------------------------------------------


async def test_a_call_with_wrong_arguments_says_which(shift: Shift) -> None:
    # T-50, T-51
    short = await call(shift.scada, "L01.BatchControl", "CreateBatch", *BATCH[:-1])
    assert short.status.name == "BadArgumentsMissing"
    mistyped = await call(shift.scada, "L01.BatchControl", "CreateBatch", *BATCH[:-1], "500")
    assert mistyped.status.name == "BadInvalidArgument"
    assert [status.name for status in mistyped.inputs] == ["Good"] * 4 + ["BadTypeMismatch"]


async def test_an_observer_creates_nothing(shift: Shift) -> None:
    # T-52
    observer = await shift.sit_down("obs1")
    assert (await call(observer, "L01.BatchControl", "CreateBatch", *BATCH)).status.name == "BadUserAccessDenied"
    summary = await call(observer, "L01.BatchControl", "GetBatchSummary", BATCH[0])
    assert summary.status.name == "BadNotFound"


async def test_creating_a_batch_again_is_the_same_batch(shift: Shift) -> None:
    # T-53
    first, again = [await call(shift.scada, "L01.BatchControl", "CreateBatch", *BATCH) for _ in range(2)]
    assert first.status.good
    assert again.status.good
    assert first.outputs == again.outputs
    other = await call(shift.scada, "L01.BatchControl", "CreateBatch", *BATCH[:-1], 501.0)
    assert other.status.name == "BadEntryExists"


async def test_a_batch_runs_until_it_has_its_samples(shift: Shift) -> None:
    # T-54
    scada = shift.scada
    watched = await scada.subscribe([SAMPLE_COUNT])
    started = await call(scada, "L01.BatchControl", "StartBatch", BATCH[0])
    assert started.outputs == (ExecutionState.RUNNING,)
    taken = decidable = 0
    while decidable < SAMPLES:  # a cycle with a hole in it is a sample, but decides nothing
        counted = await scada.change(lambda c, n=taken: c.node == SAMPLE_COUNT and (c.data.value or 0) > n)
        taken = counted.data.value
        summary = await call(scada, "L01.BatchControl", "GetBatchSummary", BATCH[0])
        samples = json.loads(summary.outputs[0])["record"]["samples"]
        decidable = sum(sample["verdict"] in ("OK", "NOT_OK") for sample in samples)
    completed = await call(scada, "L01.BatchControl", "CompleteBatch", BATCH[0])
    assert completed.outputs == (ExecutionState.COMPLETE,)
    assert await value(scada, "L01.Batch.DispositionStateNumber") == DispositionState.QUARANTINE
    await scada.unsubscribe(watched)


async def test_nothing_is_released_before_its_time(shift: Shift) -> None:
    # T-55
    releaser = await shift.sit_down("rel1")
    early = await call(releaser, "L01.BatchControl", "ReleaseBatch", BATCH[0], "INVENTED", "now")
    assert early.status.name in ("BadInvalidState", "BadNoMatch")
    assert await value(releaser, "L01.Batch.DispositionStateNumber") == DispositionState.QUARANTINE


async def test_agents_recommend_and_people_decide(shift: Shift) -> None:
    # T-61, T-62
    scada = shift.scada
    slots = [f"ns=3;s=ENose.Agents.R{i:02}.SubjectName" for i in range(1, 11)]
    watched = await scada.subscribe(slots)
    advised = await scada.change(lambda c: c.node in slots and BATCH[0] in (c.data.value or ""))
    await scada.unsubscribe(watched)
    slot = advised.node.removesuffix(".SubjectName")
    read = ("RecommendationId", "Confidence", "Rationale", "EvidenceDigest", "State")
    key, confidence, rationale, digest, state = [d.value for d in await scada.read(*(f"{slot}.{n}" for n in read))]
    assert 0 < confidence <= 1
    assert rationale
    assert len(bytes.fromhex(digest)) == 32
    assert state == 1
    assert await value(scada, "L01.Batch.DispositionStateNumber") == DispositionState.QUARANTINE
    accepted = await call(scada, "ENose.Agents", "AcceptRecommendation", key, "seen")
    assert accepted.outputs == (2,)
    again = await call(scada, "ENose.Agents", "AcceptRecommendation", key, "seen")
    assert again.status.name == "BadInvalidState"


async def test_a_batch_is_reviewed_and_released_by_two_people(shift: Shift) -> None:
    # T-56 .. T-60; H41: what changed since it was shown, and what was signed already, is not signed.
    qa = await shift.sit_down("qa1")
    early = await call(qa, "ENose.Signatures", "RequestSignature", "batch", BATCH[0], "review")
    evaluated = await call(qa, "L01.BatchControl", "EvaluateBatch", BATCH[0])
    assert evaluated.status.good
    score, verdict, still_open, digest = evaluated.outputs
    assert verdict == 1
    assert 0 < score <= 100
    # Benzene is invalid in the product's recordings and valid in the air's: a failure QA reads, and no critical one.
    assert still_open == await value(qa, "L01.Batch.OpenExceptionCount")
    assert await value(qa, "L01.Batch.CriticalExceptionCount") == 0
    assert await value(qa, "L01.Batch.DispositionStateNumber") == DispositionState.UNDER_REVIEW

    review = await call(qa, "ENose.Signatures", "RequestSignature", "batch", BATCH[0], "review")
    assert review.outputs[1] == digest != early.outputs[1]
    stale = await call(
        qa, "ENose.Signatures", "ExecuteSignature", early.outputs[0], "qa1", shift.server.passwords["qa1"], "as seen"
    )
    assert stale.status.name == "BadNoMatch"
    wrong = await call(qa, "ENose.Signatures", "ExecuteSignature", review.outputs[0], "qa1", "wrong", "as seen")
    assert wrong.status.name == "BadIdentityTokenRejected"
    await execute(shift, qa, review.outputs[0], "qa1")
    replayed = await call(
        qa, "ENose.Signatures", "ExecuteSignature", review.outputs[0], "qa1", shift.server.passwords["qa1"], "as seen"
    )
    assert replayed.status.name == "BadInvalidState"

    requested = await call(qa, "L01.BatchControl", "RequestRelease", BATCH[0], "in order")
    request, requested_digest, manifest = requested.outputs
    assert requested_digest == digest
    assert BATCH[0] in manifest
    assert await value(qa, "L01.Batch.DispositionStateNumber") == DispositionState.AWAITING_SIGNATURE

    own = await call(qa, "ENose.Signatures", "ExecuteSignature", request, "qa1", shift.server.passwords["qa1"], "mine")
    assert not own.status.good
    invented = await call(qa, "L01.BatchControl", "ReleaseBatch", BATCH[0], "INVENTED", "mine")
    assert invented.status.name == "BadUserAccessDenied"
    assert await value(qa, "L01.Batch.DispositionStateNumber") == DispositionState.AWAITING_SIGNATURE

    releaser = await shift.sit_down("rel1")
    signature = await execute(shift, releaser, request, "rel1")
    released, again = [
        await call(releaser, "L01.BatchControl", "ReleaseBatch", BATCH[0], signature, "in order") for _ in range(2)
    ]
    assert released.status.good
    assert released.outputs[2] == digest
    assert again.outputs == released.outputs
    assert await value(releaser, "L01.Batch.DispositionStateNumber") == DispositionState.RELEASED
    shift.known["release"] = released.outputs[0]


# --- trend, loss of the device -------------------------------------------------------------------------------------


async def test_a_subscription_to_every_tag_of_the_device_begins_with_a_value_each(shift: Shift) -> None:
    # T-20
    tags = [tag["node_id"] for tag in shift.tags() if tag["node_id"].startswith("ns=3;s=EN01.")]
    _, before = await shift.scada.changes()
    made = await shift.scada.subscribe(tags, publishing_interval=100)
    assert all(item.good for item in made.items)
    waiting, position = set(tags), before
    async with asyncio.timeout(10):
        while waiting:
            seen, position = await shift.scada.changes(position, wait=10)
            waiting -= {change.node for change in seen}


async def test_a_lost_device_is_uncertain_then_bad_and_heals_without_a_hand(shift: Shift) -> None:
    # T-30, T-32, T-40, T-41
    scada = shift.scada
    shift.known["alarms"] = await scada.subscribe_events(FIELDS)
    await scada.subscribe_events(FIELDS, of_type=ALARM_CONDITION_TYPE)
    _, before = await scada.changes()
    shift.unplug()
    await scada.event(lambda e: e["ConditionId"] == LOST and e["ActiveState.Id"])
    assert await value(scada, f"{LOST}.Active") is True
    lost = await scada.read(*SENSORS, BENZENE)
    assert {(d.status.name, d.value) for d in lost} == {("BadNoCommunication", None)}
    seen, after = await scada.changes(before)
    for sensor in SENSORS:
        names = [change.data.status.name for change in seen if change.node == sensor]
        # The same value with the same status is no change (Part 4 7.22.2): two uncertain polls are one.
        assert names[-2:] == ["UncertainNoCommunicationLastUsableValue", "BadNoCommunication"]

    shift.known["position"] = after
    shift.known["started"] = [time.time_ns()]
    shift.play(shift.folder / "change.csv")
    shift.known["started"].append(time.time_ns())
    await scada.event(lambda e: (e["ConditionId"], e["BranchId"], e["ActiveState.Id"]) == (LOST, PRESENT, False))
    assert await value(scada, f"{LOST}.Active") is False
    assert all(d.status.good for d in await scada.read(*SENSORS))


async def test_what_is_shown_and_recorded_is_the_recording(shift: Shift) -> None:
    # T-21, T-22
    scada, rows = shift.scada, recordings.read(shift.folder / "change.csv")
    counter = "ns=3;s=EN01.Stream01.AcquisitionData.AcquisitionCounter"
    started, _ = shift.known["started"]
    await scada.change(
        lambda c: c.node == counter and (c.data.source_time or 0) > started and (c.data.value or 0) > CYCLES_BEFORE
    )
    seen, _ = await scada.changes(shift.known["position"])
    shown = {node: [c.data for c in seen if c.node == node and c.data.status.good] for node in SENSORS}
    end = max(d.source_time or 0 for values in shown.values() for d in values)
    first: set[int] = set()
    for node, column in SENSORS.items():
        recorded, pages = await scada.history(node, shift.began, end + 1000, per_page=100)
        assert pages > 1
        every = [d.source_time or 0 for d in recorded]
        assert every == sorted(every)
        played = [d for d in recorded if (d.source_time or 0) >= started and d.status.good]
        times = [d.source_time or 0 for d in played]
        first.add(times[0])
        steps = [(t - times[0]) / (STEP * 1e9) for t in times]
        assert steps == pytest.approx(range(len(steps)), abs=1e-5)
        column_values = rows[:, HEADER.index(column)].astype(np.float32)
        begun = shift.known.setdefault("row", row_of(rows, [await at(scada, n, times[0]) for n in SENSORS]))
        expected = column_values[begun : begun + len(played)]
        assert [d.value for d in played] == expected.tolist()
        # Every change of the value was shown, and nothing was that is not recorded.
        changed = [0, *(i for i in range(1, len(expected)) if expected[i] != expected[i - 1])]
        assert [(d.source_time, d.value) for d in shown[node]] == [(times[i], float(expected[i])) for i in changed]
    assert len(first) == 1
    invalid = rows[:, HEADER.index("Benzene")] == INVALID
    answers, _ = await scada.history(BENZENE, min(first), end + 1000)
    benzene = [d for d in answers if "NoCommunication" not in d.status.name]  # a poll before, dated by our clock
    told = ["BadSensorFailure" if wrong else "Good" for wrong in invalid[shift.known["row"] :][: len(benzene)]]
    assert [d.status.name for d in benzene] == told
    assert all(d.value is None for d in benzene if not d.status.good)
    before, after = shift.known["started"]
    assert before - 1000 <= first.pop() - shift.known["row"] * STEP * 1e9 <= after


def row_of(rows: recordings.Floats, values: Sequence[float]) -> int:
    """The first row of a recording in which these sensors have these values."""
    columns = [HEADER.index(column) for column in SENSORS.values()]
    return int(np.flatnonzero((rows[:, columns].astype(np.float32) == np.float32(values)).all(axis=1))[0])


async def at(client: NodeOpcua, node: str, instant: int) -> float:
    """Value of a node's history at one instant."""
    [found], _ = await client.history(node, instant, instant)
    return float(found.value)


# --- alarm ---------------------------------------------------------------------------------------------------------


async def test_another_odour_raises_an_alarm_that_is_acknowledged(shift: Shift) -> None:
    # T-31 .. T-34
    scada = shift.scada
    raised = await scada.event(lambda e: e["ConditionId"] == ANOMALY and e["ActiveState.Id"])
    assert raised["AckedState.Id"] is False
    assert raised["SourceName"] == "EN01.Stream01"
    assert "EN01.Stream01: anomaly score" in raised["Message"]
    assert "limit 0.50" in raised["Message"]
    assert await value(scada, f"{ANOMALY}.Active") is True
    assert await value(scada, f"{ANOMALY}.Acked") is False

    event_id = raised["EventId"]
    silent = await scada.acknowledge(ANOMALY, event_id)
    assert silent.name == "BadInvalidArgument"  # a GMP alarm is not acknowledged without a word
    assert (await scada.acknowledge(ANOMALY, event_id, "nutmeg in the hopper")).good
    acknowledged = await scada.event(lambda e: e["ConditionId"] == ANOMALY and e["AckedState.Id"])
    assert acknowledged["ActiveState.Id"] is True
    assert await value(scada, f"{ANOMALY}.Acked") is True
    again = await scada.acknowledge(ANOMALY, event_id, "nutmeg in the hopper")
    assert again.name == "BadConditionBranchAlreadyAcked"
    assert (await scada.acknowledge(ANOMALY, bytes(16), "which?")).name == "BadEventIdUnknown"

    seen, _ = await scada.events()
    assert [e["EventId"] for e in seen].count(event_id) == 2  # once unfiltered, once as AlarmConditionType


async def test_a_refresh_brings_what_is_retained(shift: Shift) -> None:
    # T-35
    scada = shift.scada
    _, before = await scada.events()
    assert (await scada.condition_refresh(shift.known["alarms"])).good
    await scada.event(lambda e: e["EventType"] == REFRESH_END)
    seen, _ = await scada.events(before)
    kinds = [e["EventType"] for e in seen]
    within = seen[kinds.index(REFRESH_START) + 1 : kinds.index(REFRESH_END)]
    assert ANOMALY in {e["ConditionId"] for e in within}


# --- records -------------------------------------------------------------------------------------------------------


async def test_the_audit_log_verifies_and_tells_the_shift(shift: Shift) -> None:
    # T-70
    verified = shift.verify()
    assert verified.returncode == 0, verified.stdout
    told = {(actor, action, outcome) for actor, action, _, outcome in shift.log()}
    assert told >= {
        ("op1", "user.login", "Good"),
        ("qa1", "model.approve", "Good"),
        ("op1", "call.Models.ApproveModel", "BadUserAccessDenied"),
        ("op1", "call.BatchControl.CreateBatch", "BadArgumentsMissing"),
        ("op1", "call.BatchControl.CreateBatch", "BadInvalidArgument"),
        ("op1", "call.BatchControl.CreateBatch", "BadEntryExists"),
        ("obs1", "call.BatchControl.CreateBatch", "BadUserAccessDenied"),
        ("op1", "batch.create", "Good"),
        ("op1", "batch.start", "Good"),
        ("op1", "batch.complete", "Good"),
        ("rel1", "call.BatchControl.ReleaseBatch", "BadInvalidState"),
        ("qa1", "batch.evaluate", "Good"),
        ("qa1", "call.Signatures.ExecuteSignature", "BadIdentityTokenRejected"),
        ("qa1", "batch.request_release", "Good"),
        ("qa1", "call.BatchControl.ReleaseBatch", "BadUserAccessDenied"),
        ("rel1", "batch.release", "Good"),
        ("op1", "recommendation.accept", "Good"),
        ("op1", "call.Alarms.Acknowledge", "Good"),
        ("op1", "call.Alarms.Acknowledge", "BadConditionBranchAlreadyAcked"),
    }


async def test_a_killed_server_comes_back_as_it_was(shift: Shift) -> None:
    # T-71
    scada = shift.scada
    shift.server.stop(signal.SIGKILL)
    seen, _ = await scada.changes()
    last = {c.node: c.data for c in seen if c.node in SENSORS and c.data.status.good}
    await scada.disconnect()
    assert shift.verify().returncode == 0
    shift.server.start()
    await shift.log_in_scada()
    assert lasting(r.node for r in await scada.browse()) == shift.known["nodes"]
    for node, shown in last.items():
        assert shown.source_time is not None
        assert await at(scada, node, shown.source_time) == shown.value
    assert await value(scada, "L01.Batch.BatchId") == BATCH[0]
    assert await value(scada, "L01.Batch.DispositionStateNumber") == DispositionState.RELEASED
    assert await value(scada, "L01.Batch.ReleaseId") == shift.known["release"]
    verified = shift.verify()
    assert verified.returncode == 0, verified.stdout


async def test_one_changed_byte_names_its_record(shift: Shift) -> None:
    # T-72
    await shift.scada.disconnect()
    await shift.desk.disconnect()
    assert shift.server.stop() == 0
    with contextlib.closing(sqlite3.connect(shift.server.data / "enose.db")) as database, database:
        database.execute("UPDATE batch SET lot = 'LOT-8' WHERE batch_id = ?", BATCH[:1])
    verified = shift.verify()
    assert verified.returncode == 1
    assert f"batch/{BATCH[0]}" in verified.stdout
