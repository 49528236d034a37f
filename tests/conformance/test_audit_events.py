"""Audit events (Part 3 9.5, Part 4 6.5, Part 5 6.4, Part 9 5.10): what a client does is told to auditors alone."""

import asyncio
import itertools
import json
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
from asyncua import ua
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from nodesets import ids
from opcua_server import security
from tests.conformance import events
from tests.conformance.events import of_type
from tests.conformance.opcua import Application, Refused, application, key
from tests.conformance.plant import CHANNELS, CODES, Conversation, Plant, call, nid, write

pytestmark = pytest.mark.asyncio(loop_scope="module")

A, T, IDS = ua.AttributeIds, ua.VariantType, ua.ObjectIds
SERVER = ua.NodeId(IDS.Server)
BASE = (
    "EventType",
    "SourceNode",
    "SourceName",
    "Severity",
    "Message",
    "ActionTimeStamp",
    "Status",
    "ServerId",
    "ClientAuditEntryId",
    "ClientUserId",
    "ClientApplicationUri",
)
SERVER_URI = "urn:localhost:enose:Conformance"


def event_filter(kind: int, paths: Sequence[str]) -> ua.EventFilter:
    return events.event_filter(paths, of_type(kind))


class Auditor:
    """A session that listens to Server for audit events; a subscription for each type."""

    def __init__(self, talk: Conversation) -> None:
        self.talk = talk

    @asynccontextmanager
    async def listening(self, kind: int, *paths: str) -> AsyncIterator["Listening"]:
        number = (await self.talk.subscribe(interval=50)).SubscriptionId
        made = await self.talk.monitor(
            number, SERVER, A.EventNotifier, Filter=event_filter(kind, [*BASE, *paths]), QueueSize=1000
        )
        made.StatusCode.check()
        try:
            yield Listening(self.talk, [*BASE, *paths])
        finally:
            parameters = ua.DeleteSubscriptionsParameters(SubscriptionIds=[number])
            await self.talk.call(ua.DeleteSubscriptionsRequest(Parameters=parameters))


class Listening:
    def __init__(self, talk: Conversation, paths: Sequence[str]) -> None:
        self.talk = talk
        self.paths = paths
        self._seen: list[dict[str, Any]] = []

    async def heard(self, **expected: Any) -> dict[str, Any]:
        """The next event with these fields."""
        async with asyncio.timeout(60):
            while True:
                while self._seen:
                    event = self._seen.pop(0)
                    if all(event[name] == value for name, value in expected.items()):
                        return event
                for fields in await self.talk.next_data():
                    self._seen.append(dict(zip(self.paths, (f.Value for f in fields), strict=True)))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def auditor(plant: Plant) -> AsyncIterator[Auditor]:
    """Of the SecurityAdmin, over the encrypted channel."""
    async with plant.session("Basic256Sha256", "sec1") as talk:
        yield Auditor(talk)


def check_base(event: dict[str, Any], kind: int, source_name: str, *, status: bool, entry: str = "") -> None:
    """What every audit event has (Part 5 6.4.3)."""
    assert event["EventType"] == ua.NodeId(kind)
    assert event["SourceName"] == source_name
    assert event["Status"] is status
    assert event["ServerId"] == SERVER_URI
    assert event["ClientAuditEntryId"] == entry
    assert 1 <= event["Severity"] <= (249 if status else 749)
    assert abs(datetime.now(UTC) - event["ActionTimeStamp"].replace(tzinfo=UTC)) < timedelta(minutes=5)
    assert event["Message"].Text.encode("latin-1")


async def refused(work: Any) -> int | None:
    """StatusCode of a ServiceFault or of the end of the connection."""
    try:
        await work
    except Refused as error:
        return error.status
    except ua.UaStatusCodeError as error:
        return error.code
    return 0


_addresses = (f"127.0.1.{i}" for i in itertools.count(1))


def elsewhere(plant: Plant, channel: str = "Basic256Sha256", app: Application | None = None) -> Conversation:
    """A client from an address of its own: what anybody can cause is told once a minute for each."""
    return Conversation(plant, app, None if channel == "None" else channel, next(_addresses))


def with_entry(request: Any, entry: str) -> Any:
    request.RequestHeader.AuditEntryId = entry
    return request


# -- Write


@pytest.mark.parametrize("channel", CHANNELS)
async def test_a_write_is_told_with_old_and_new_value(plant: Plant, auditor: Auditor, channel: str) -> None:
    # Part 5 6.4.25, Part 4 6.5.8: success and failure, each value by itself.
    fields = ("AttributeId", "IndexRange", "OldValue", "NewValue")
    async with plant.session(channel) as talk, auditor.listening(IDS.AuditWriteUpdateEventType, *fields) as told:
        await talk.outcome(write("Scalar.Int32", 4, T.Int32))
        await talk.outcome(with_entry(write("Scalar.Int32", 5, T.Int32), "op1/7"))
        event = await told.heard(NewValue=5)
        check_base(event, IDS.AuditWriteUpdateEventType, "Attribute/Write", status=True, entry="op1/7")
        assert (event["SourceNode"], event["ClientUserId"]) == (nid("Scalar.Int32"), "op1")
        assert (event["AttributeId"], event["IndexRange"], event["OldValue"]) == (A.Value, None, 4)
        assert event["ClientApplicationUri"] == plant.client.uri
        assert await talk.outcome(write("Access.ReadOnly", 6, T.Int32)) == [CODES.BadNotWritable]
        event = await told.heard(NewValue=6)
        check_base(event, IDS.AuditWriteUpdateEventType, "Attribute/Write", status=False)
        assert event["OldValue"] is None
        assert "BadNotWritable" in event["Message"].Text
        await talk.outcome(write("Array.Int32", [8, 9], T.Int32, index_range="1:2"))
        event = await told.heard(IndexRange="1:2")
        assert event["NewValue"] == [8, 9]


# -- HistoryUpdate

HISTORY, NOTES = "History.Writable", "History.Ramp.Annotations"
_seconds = (datetime(2025, 1, 1, tzinfo=UTC) + timedelta(seconds=i) for i in itertools.count())


def history_update(details: Any, entry: str = "") -> Any:
    return with_entry(
        ua.HistoryUpdateRequest(Parameters=ua.HistoryUpdateParameters(HistoryUpdateDetails=[details])), entry
    )


def corrected(kind: Any, at: datetime, value: float) -> Any:
    data = ua.DataValue(ua.Variant(value, T.Double), SourceTimestamp=at)
    return ua.UpdateDataDetails(nid(HISTORY), kind, [data])


def annotated(kind: Any, at: datetime, message: str) -> Any:
    note = ua.Variant(ua.Annotation(message, "", at), T.ExtensionObject)
    return ua.UpdateStructureDataDetails(nid(NOTES), kind, [ua.DataValue(note, SourceTimestamp=at)])


def numbers(values: Sequence[Any]) -> list[Any]:
    return [(value.SourceTimestamp.replace(tzinfo=UTC), value.Value.Value) for value in values]


@pytest.mark.parametrize("channel", CHANNELS)
async def test_a_corrected_value_is_told_with_what_it_was(plant: Plant, auditor: Auditor, channel: str) -> None:
    # Part 11 5.8.3, 5.8.6, 5.8.7, Part 5 6.4.26: inserted, replaced, refused, deleted at an instant and in a range.
    perform, at, later = ua.PerformUpdateType, next(_seconds), next(_seconds)
    fields = ("UpdatedNode", "ParameterDataTypeId", "PerformInsertReplace", "NewValues", "OldValues", "ReqTimes",
              "StartTime", "EndTime", "IsDeleteModified")  # fmt: skip
    steps = (
        (corrected(perform.Insert, at, 1.0), True, [(at, 1.0)], []),
        (corrected(perform.Replace, at, 2.0), True, [(at, 2.0)], [(at, 1.0)]),
        (corrected(perform.Insert, at, 3.0), False, [(at, 3.0)], []),
        (ua.DeleteAtTimeDetails(nid(HISTORY), [at]), True, None, [(at, 2.0)]),
        (corrected(perform.Update, at, 4.0), True, [(at, 4.0)], []),
        (ua.DeleteRawModifiedDetails(nid(HISTORY), False, at, later), True, None, [(at, 4.0)]),
        (ua.DeleteRawModifiedDetails(nid(HISTORY), False, at, later), False, None, []),
    )
    kinds = {
        ua.UpdateDataDetails: (IDS.AuditHistoryValueUpdateEventType, IDS.UpdateDataDetails),
        ua.DeleteAtTimeDetails: (IDS.AuditHistoryAtTimeDeleteEventType, IDS.DeleteAtTimeDetails),
        ua.DeleteRawModifiedDetails: (IDS.AuditHistoryRawModifyDeleteEventType, IDS.DeleteRawModifiedDetails),
    }
    async with plant.session(channel) as talk, auditor.listening(IDS.AuditHistoryUpdateEventType, *fields) as told:
        for number, (details, good, new, old) in enumerate(steps):
            await talk.outcome(history_update(details, f"{channel}/{number}"))
            event = await told.heard(ClientAuditEntryId=f"{channel}/{number}")
            kind, data_type = kinds[type(details)]
            check_base(event, kind, "Attribute/HistoryUpdate", status=good, entry=f"{channel}/{number}")
            assert (event["SourceNode"], event["UpdatedNode"], event["ClientUserId"]) == (*2 * (nid(HISTORY),), "op1")
            assert event["ParameterDataTypeId"] == ua.NodeId(data_type)
            assert numbers(event["OldValues"]) == old
            if new is not None:
                assert event["PerformInsertReplace"] == int(details.PerformInsertReplace)
                assert numbers(event["NewValues"]) == new
            elif kind == IDS.AuditHistoryAtTimeDeleteEventType:
                assert [time.replace(tzinfo=UTC) for time in event["ReqTimes"]] == [at]
            else:
                assert [event[name].replace(tzinfo=UTC) for name in ("StartTime", "EndTime")] == [at, later]
                assert event["IsDeleteModified"] is False
    entries = [e["action"] for e in log(plant) if e["reason"].startswith(f"{channel}/")]
    assert entries == ["history.insert", "history.replace", "history.delete", "history.update", "history.delete"]


async def test_a_changed_annotation_is_told_with_what_it_was(plant: Plant, auditor: Auditor) -> None:
    # Part 11 5.8.4.
    perform, at = ua.PerformUpdateType, next(_seconds)
    kind, fields = IDS.AuditHistoryAnnotationUpdateEventType, ("PerformInsertReplace", "NewValues", "OldValues")
    steps = (
        (annotated(perform.Insert, at, "one"), True, []),
        (annotated(perform.Update, at, "two"), True, ["one"]),
        (annotated(perform.Insert, at, "three"), False, []),
        (annotated(perform.Remove, at, ""), True, ["two"]),
    )
    async with plant.session("Basic256Sha256") as talk, auditor.listening(kind, *fields) as told:
        for number, (details, good, old) in enumerate(steps):
            await talk.outcome(history_update(details, f"note/{number}"))
            event = await told.heard(ClientAuditEntryId=f"note/{number}")
            check_base(event, kind, "Attribute/HistoryUpdate", status=good, entry=f"note/{number}")
            assert [(note.Message, note.UserName) for note in event["OldValues"]] == [(word, "op1") for word in old]
            assert [note.Message for note in event["NewValues"]] == [details.UpdateValues[0].Value.Value.Message]


@pytest.mark.parametrize(
    ("details", "kind", "field"),
    [
        (ua.UpdateEventDetails(SERVER, ua.PerformUpdateType.Insert, ua.EventFilter(), []),
         IDS.AuditHistoryEventUpdateEventType, "Filter"),
        (ua.DeleteEventDetails(SERVER, [b"event"]), IDS.AuditHistoryEventDeleteEventType, "EventIds"),
        (ua.DeleteAtTimeDetails(nid("ns=3;s=EN01.Array.S01.SensorValue"), [datetime(2026, 1, 1, tzinfo=UTC)]),
         IDS.AuditHistoryAtTimeDeleteEventType, "ReqTimes"),
    ],
)  # fmt: skip
async def test_an_attempt_on_what_never_changes_is_told(
    plant: Plant, auditor: Auditor, details: Any, kind: int, field: str
) -> None:
    # Part 11 5.8.2, 5.8.8; process rule 13: events and the samples of a device stay as they were recorded.
    async with plant.session("Basic256Sha256") as talk, auditor.listening(kind, field, "OldValues") as told:
        (code,) = await talk.outcome(history_update(details, "attempt"))
        event = await told.heard(ClientAuditEntryId="attempt")
        check_base(event, kind, "Attribute/HistoryUpdate", status=False, entry="attempt")
        assert event[field]
        assert not event["OldValues"]
    refusal = [e for e in log(plant) if e["action"] == "history.update" and e["object"] == details.NodeId.to_string()]
    assert refusal[-1]["outcome"] == ua.status_codes.get_name_and_doc(code)[0]


# -- Call


@pytest.mark.parametrize("channel", CHANNELS)
async def test_a_call_is_told_with_its_arguments(plant: Plant, auditor: Auditor, channel: str) -> None:
    # Part 5 6.4.27: one event a method called, good or not.
    kind, fields = IDS.AuditUpdateMethodEventType, ("MethodId", "StatusCodeId", "InputArguments", "OutputArguments")
    async with plant.session(channel) as talk, auditor.listening(kind, *fields) as told:
        numbers = [ua.Variant(value, T.Double) for value in (1.5, 2.0)]
        assert await talk.outcome(with_entry(call("Methods.Add", *numbers), "e")) == [0]
        event = await told.heard(MethodId=nid("Methods.Add"))
        check_base(event, kind, "Attribute/Call", status=True, entry="e")
        assert event["SourceNode"] == nid("Methods")
        assert [v.Value for v in event["InputArguments"]] == [1.5, 2.0]
        assert [v.Value for v in event["OutputArguments"]] == [3.5]
        assert event["StatusCodeId"].value == 0
        assert await talk.outcome(call("Methods.Add")) == [CODES.BadArgumentsMissing]
        event = await told.heard(MethodId=nid("Methods.Add"))
        check_base(event, kind, "Attribute/Call", status=False)
        assert event["StatusCodeId"].value == CODES.BadArgumentsMissing
        assert await talk.outcome(call("Methods.Nothing")) == [CODES.BadMethodInvalid]
        assert (await told.heard(MethodId=nid("Methods.Nothing")))["Status"] is False


async def test_secrets_are_not_told(plant: Plant, auditor: Auditor) -> None:
    # Information model 4: passwords are masked; of a refused call all arguments, since any may be one, misplaced.
    kind, method = IDS.AuditUpdateMethodEventType, nid("ns=3;s=ENose.Security.ChangePassword")
    old, new = plant.running.passwords["obs1"], "Another-Passw0rd-1"
    async with (
        plant.session("Basic256Sha256", "obs1") as talk,
        auditor.listening(kind, "MethodId", "InputArguments") as told,
    ):
        secret = [ua.Variant(word, T.String) for word in ("not the old one", new)]
        await talk.outcome(call(method.to_string(), *secret, on="ns=3;s=ENose.Security"))
        event = await told.heard(MethodId=method)
        assert [v.Value for v in event["InputArguments"]] == ["***", "***"]
        await talk.outcome(call(method.to_string(), ua.Variant(old, T.String), on="ns=3;s=ENose.Security"))
        event = await told.heard(MethodId=method)
        assert [v.Value for v in event["InputArguments"]] == ["***"]


# -- conditions


@pytest.mark.parametrize("channel", CHANNELS)
async def test_what_is_done_to_a_condition_is_told_by_its_own_type(
    plant: Plant, auditor: Auditor, channel: str
) -> None:
    # Part 9 5.10: SourceNode is the ConditionId, SourceName Method/ and the method. An alarm no other rows fail at: of
    # many failures at one within a minute the last are told as a number.
    alarm = nid("ns=3;s=EN01.DeviceHealthAlarms.MaintenanceRequired")
    fields = ("ConditionEventId", "Comment", "MethodId")
    methods = (
        (IDS.AcknowledgeableConditionType_Acknowledge, "Acknowledge", IDS.AuditConditionAcknowledgeEventType),
        (IDS.ConditionType_AddComment, "AddComment", IDS.AuditConditionCommentEventType),
        (IDS.ConditionType_Enable, "Enable", IDS.AuditConditionEnableEventType),
    )
    async with plant.session(channel) as talk, auditor.listening(IDS.AuditConditionEventType, *fields) as told:
        for number, name, kind in methods:
            method = ua.NodeId(number)
            arguments = (
                []
                if name == "Enable"
                else [ua.Variant(b"no such event", T.ByteString), ua.Variant(ua.LocalizedText("seen"), T.LocalizedText)]
            )
            assert await talk.outcome(call(method.to_string(), *arguments, on=alarm.to_string())) != [0]
            event = await told.heard(MethodId=method)
            check_base(event, kind, f"Method/{name}", status=False)
            assert (event["SourceNode"], event["ClientUserId"]) == (alarm, "op1")
            if arguments:
                assert event["ConditionEventId"] == b"no such event"
                assert event["Comment"].Text == "seen"


@pytest.mark.parametrize("channel", CHANNELS)
async def test_what_was_done_to_a_condition_is_told_with_what_was_said(
    plant: Plant, auditor: Auditor, channel: str
) -> None:
    # Part 9 5.10.4, 5.10.6, 5.10.7, 5.10.9: acknowledged, confirmed, commented on, shelved, disabled and enabled.
    alarm, fields = "ns=3;s=EN01.Stream01.Alarms.QualityScoreLow", ("ConditionEventId", "Comment", "ShelvingTime")
    seen = ua.Variant(ua.LocalizedText("seen"), T.LocalizedText)
    acts = (
        ("op1", "Acknowledge", IDS.AuditConditionAcknowledgeEventType, "event", [seen]),
        ("op1", "AddComment", IDS.AuditConditionCommentEventType, "event", [seen]),
        ("op1", "Confirm", IDS.AuditConditionConfirmEventType, "event", [seen]),
        ("op1", "ShelvingState.TimedShelve", IDS.AuditConditionShelvingEventType, "", [ua.Variant(60_000.0, T.Double)]),
        ("op1", "ShelvingState.Unshelve", IDS.AuditConditionShelvingEventType, "", []),
        ("eng1", "Disable", IDS.AuditConditionEnableEventType, "", []),
        ("eng1", "Enable", IDS.AuditConditionEnableEventType, "", []),
    )
    async with (
        plant.session(channel) as operator,
        plant.session(channel, "eng1") as engineer,
        auditor.listening(IDS.AuditConditionEventType, *fields) as told,
    ):
        assert await operator.outcome(call("Methods.ClearAlarm")) == [0]
        assert await operator.outcome(call("Methods.RaiseAlarm")) == [0]
        for user, method, kind, names, arguments in acts:
            event_id = (await operator.read(nid(f"{alarm}.EventId"))).Value
            given = [event_id, *arguments] if names else arguments
            called = f"{alarm}.{method}", alarm + (".ShelvingState" if "." in method else "")
            talk = engineer if user == "eng1" else operator
            assert await talk.outcome(call(called[0], *given, on=called[1])) == [0], method
            event = await told.heard(EventType=ua.NodeId(kind))
            check_base(event, kind, f"Method/{method.rpartition('.')[2]}", status=True)
            assert event["ClientUserId"] == user
            if names:
                assert (event["ConditionEventId"], event["Comment"].Text) == (event_id.Value, "seen")
            if method.endswith("TimedShelve"):
                assert event["ShelvingTime"] == 60_000.0
        assert await operator.outcome(call("Methods.ClearAlarm")) == [0]


async def test_a_response_to_a_dialog_is_told_with_what_was_chosen(plant: Plant, auditor: Auditor) -> None:
    # Part 9 5.10.5: refused responses too.
    dialog, fields = nid("ns=3;s=ENose.Agents.R10.Decision"), ("SelectedResponse", "Comment", "MethodId")
    respond = ua.NodeId(IDS.DialogConditionType_Respond2)
    chosen = ua.Variant(2, T.Int32), ua.Variant(ua.LocalizedText("later"), T.LocalizedText)
    async with (
        plant.session("Basic256Sha256") as talk,
        auditor.listening(IDS.AuditConditionEventType, *fields) as told,
    ):
        refused = await talk.outcome(call(respond.to_string(), *chosen, on=dialog.to_string()))
        assert refused == [ua.StatusCodes.BadDialogNotActive]
        event = await told.heard(MethodId=respond)
        check_base(event, IDS.AuditConditionRespondEventType, "Method/Respond2", status=False)
        assert (event["SourceNode"], event["ClientUserId"], event["SelectedResponse"]) == (dialog, "op1", 2)


# -- batches and signatures


async def test_a_batch_action_is_told_with_the_states_it_changed(plant: Plant, auditor: Auditor) -> None:
    # Acceptance point 30; Part 16 4.4.18: one event more for each machine.
    batch = f"B{datetime.now(UTC):%H%M%S%f}"
    control = "ns=3;s=L01.BatchControl"
    fields = ("2:BatchId", "2:OldState", "2:NewState", "MethodId", "StatusCodeId")
    async with (
        plant.session("Basic256Sha256", "op1") as talk,
        auditor.listening(IDS.AuditUpdateMethodEventType, *fields) as told,
    ):
        texts = [ua.Variant(text, T.String) for text in (batch, "PROBE", "", "L1")]
        await talk.outcome(call(f"{control}.CreateBatch", *texts, ua.Variant(1.0, T.Double), on=control))
        event = await told.heard(MethodId=nid(f"{control}.CreateBatch"))
        assert event["EventType"] == ua.NodeId(ids.AuditBatchActionEventType, 2)
        assert (event["2:BatchId"], event["ClientUserId"]) == (batch, "op1")
        assert event["Status"] is (event["StatusCodeId"].value == 0)


async def test_a_signature_is_told_with_its_record(plant: Plant, auditor: Auditor) -> None:
    signatures = "ns=3;s=ENose.Signatures"
    fields = ("2:RecordId", "2:RecordDigest", "2:Meaning", "MethodId")
    async with (
        plant.session("Basic256Sha256", "op1") as talk,
        auditor.listening(IDS.AuditUpdateMethodEventType, *fields) as told,
    ):
        texts = [ua.Variant(text, T.String) for text in ("batch", "nothing", "review")]
        await talk.outcome(call(f"{signatures}.RequestSignature", *texts, on=signatures))
        event = await told.heard(MethodId=nid(f"{signatures}.RequestSignature"))
        assert event["EventType"] == ua.NodeId(ids.AuditElectronicSignatureEventType, 2)
        assert (event["2:RecordId"], event["2:Meaning"], event["Status"]) == ("nothing", "review", False)


# -- sessions


@pytest.mark.parametrize("channel", CHANNELS)
async def test_a_session_is_told_from_its_creation_to_its_end(plant: Plant, auditor: Auditor, channel: str) -> None:
    # Part 4 6.5.6, Part 5 6.4.7 to 6.4.11.
    more = ("SessionId", "SecureChannelId", "StatusCodeId", "RevisedSessionTimeout", "ClientCertificate",
            "UserIdentityToken", "CurrentRoleIds", "RequestHandle")  # fmt: skip
    async with auditor.listening(IDS.AuditSessionEventType, *more) as told, elsewhere(plant, channel) as talk:
        await talk.open()
        await talk.create_session(SessionName="told")
        created = await told.heard(SourceName="Session/CreateSession")
        check_base(created, IDS.AuditCreateSessionEventType, "Session/CreateSession", status=True)
        assert created["ClientUserId"] == "System/CreateSession"
        assert (created["RevisedSessionTimeout"], created["ClientCertificate"]) == (60_000.0, plant.client.der)
        await talk.enter("eng1")
        activated = await told.heard(SourceName="Session/ActivateSession")
        check_base(activated, IDS.AuditActivateSessionEventType, "Session/ActivateSession", status=True)
        assert activated["ClientUserId"] == "eng1"
        assert (activated["UserIdentityToken"].UserName, activated["UserIdentityToken"].Password) == ("eng1", None)
        assert activated["CurrentRoleIds"] == [ua.NodeId(IDS.WellKnownRole_Engineer)]
        assert activated["SecureChannelId"] == created["SecureChannelId"]
        await talk.call(with_entry(ua.CancelRequest(Parameters=ua.CancelParameters(77)), "c"))
        cancelled = await told.heard(SourceName="Session/Cancel")
        check_base(cancelled, IDS.AuditCancelEventType, "Session/Cancel", status=True, entry="c")
        assert cancelled["RequestHandle"] == 77
        await talk.call(ua.CloseSessionRequest())
        closed = await told.heard(SourceName="Session/CloseSession")
        check_base(closed, IDS.AuditSessionEventType, "Session/CloseSession", status=True)
        assert {e["SessionId"] for e in (created, activated, cancelled, closed)} == {created["SessionId"]}


async def test_what_is_wrong_with_a_session_is_told(plant: Plant, auditor: Auditor) -> None:
    kinds = IDS.AuditSessionEventType
    async with auditor.listening(kinds, "StatusCodeId", "EndpointUrl") as told, elsewhere(plant) as talk:
        await talk.open()
        assert await refused(talk.create_session(ServerUri="urn:another")) == CODES.BadServerUriInvalid
        failed = await told.heard(SourceName="Session/CreateSession")
        check_base(failed, IDS.AuditCreateSessionEventType, "Session/CreateSession", status=False)
        assert failed["StatusCodeId"].value == CODES.BadServerUriInvalid
        await talk.create_session(EndpointUrl="opc.tcp://elsewhere:4840")
        mismatch = await told.heard(EventType=ua.NodeId(IDS.AuditUrlMismatchEventType))
        assert mismatch["EndpointUrl"] == "opc.tcp://elsewhere:4840"
        wrong = talk.password_token("op1", "guessed")
        assert await refused(talk.activate(wrong)) == CODES.BadUserAccessDenied
        failed = await told.heard(SourceName="Session/ActivateSession", Status=False)
        assert failed["ClientUserId"] == "op1"
        assert "guessed" not in str(failed)
        talk.token = ua.NodeId(b"somebody else's token............", 0, ua.NodeIdType.ByteString)
        assert await refused(talk.read(SERVER)) == CODES.BadSessionIdInvalid
        assert (await told.heard(SourceName="Session/Read"))["Status"] is False


async def test_a_transfer_is_told(plant: Plant, auditor: Auditor) -> None:
    # Part 4 6.5.11.
    async with (
        plant.session("Basic256Sha256") as talk,
        auditor.listening(IDS.AuditSessionEventType, "StatusCodeId") as told,
    ):
        parameters = ua.TransferSubscriptionsParameters(SubscriptionIds=[4711], SendInitialValues=False)
        await talk.call(ua.TransferSubscriptionsRequest(Parameters=parameters))
        event = await told.heard(SourceName="Session/TransferSubscriptions")
        assert event["StatusCodeId"].value == CODES.BadSubscriptionIdInvalid


# -- channels and certificates


@pytest.mark.parametrize("channel", CHANNELS)
async def test_a_channel_is_told(plant: Plant, auditor: Auditor, channel: str) -> None:
    # Part 5 6.4.5, 6.4.6.
    more = ("SecureChannelId", "ClientCertificateThumbprint", "RequestType", "SecurityPolicyUri", "SecurityMode",
            "RequestedLifetime")  # fmt: skip
    async with auditor.listening(IDS.AuditChannelEventType, *more) as told, elsewhere(plant, channel) as talk:
        opened = await talk.open()
        event = await told.heard(SecureChannelId=str(opened.SecurityToken.ChannelId))
        check_base(event, IDS.AuditOpenSecureChannelEventType, "SecureChannel/OpenSecureChannel", status=True)
        assert event["ClientUserId"] == "System/OpenSecureChannel"
        assert event["SecurityPolicyUri"] == talk.policy.URI
        assert (event["RequestType"], event["RequestedLifetime"]) == (0, 3_600_000.0)
        assert bool(event["ClientCertificateThumbprint"]) is (channel != "None")


def expired() -> Application:
    made = security.self_signed(key(7), "urn:test:old", ["localhost"], name="old", now=datetime(2000, 1, 1, tzinfo=UTC))
    return Application(made, key(7), "urn:test:old")


def issued(
    name: str, number: int, issuer: str, signer: int, *further: x509.ExtensionType, bits: int = 2048
) -> Application:
    """A certificate with the n-th key, signed with another or the same."""
    uri, now = f"urn:test:{name}", datetime.now(UTC)
    names = [x509.UniformResourceIdentifier(uri), x509.DNSName("localhost")]
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, issuer)]))
        .public_key(key(number, bits).public_key())
        .serial_number(number)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
    )
    for extension in further:
        builder = builder.add_extension(extension, critical=False)
    return Application(builder.sign(key(signer, bits), hashes.SHA256()), key(number, bits), uri)


def purposeless() -> Application:
    """A certificate for the protection of mail."""
    return issued("mail", 8, "mail", 8, x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.EMAIL_PROTECTION]))


def weak() -> Application:
    return issued("weak", 9, "weak", 9, bits=1024)


@pytest.mark.parametrize(
    ("make", "trusted", "kind", "code"),
    [
        (lambda: application(5, "urn:test:who", "who"), False, IDS.AuditCertificateUntrustedEventType,
         CODES.BadCertificateUntrusted),
        (expired, True, IDS.AuditCertificateExpiredEventType, CODES.BadCertificateTimeInvalid),
        (purposeless, True, IDS.AuditCertificateMismatchEventType, CODES.BadCertificateUseNotAllowed),
        (weak, True, IDS.AuditCertificateInvalidEventType, CODES.BadCertificateInvalid),
        (lambda: application(6, "urn:test:liar", "liar"), True, IDS.AuditCertificateDataMismatchEventType,
         CODES.BadCertificateUriInvalid),
    ],
)  # fmt: skip
async def test_a_certificate_that_does_not_pass_is_told(
    plant: Plant, auditor: Auditor, make: Any, trusted: bool, kind: int, code: int
) -> None:
    # Part 5 6.4.12 to 6.4.18; the client learns BadSecurityChecksFailed and no more.
    app = make()
    if trusted:
        (plant.running.data / f"pki/trusted/certs/{app.thumbprint}.der").write_bytes(app.der)
    liar = replace(app, uri="urn:someone:else") if kind == IDS.AuditCertificateDataMismatchEventType else app
    more = ("Certificate", "StatusCodeId", "InvalidUri", "CertificateErrorEventId", "EventId")
    async with auditor.listening(IDS.AuditSecurityEventType, *more) as told, elsewhere(plant, app=liar) as talk:
        answer = await refused(talk.open())
        if liar is not app:
            assert answer == 0
            answer = await refused(talk.create_session())
        assert answer == (CODES.BadSecurityChecksFailed if liar is app else CODES.BadCertificateUriInvalid)
        event = await told.heard(EventType=ua.NodeId(kind))
        check_base(event, kind, "Security/Certificate", status=False)
        assert (event["Certificate"], event["StatusCodeId"].value) == (app.der, code)
        if liar is app:
            failed = await told.heard(EventType=ua.NodeId(IDS.AuditOpenSecureChannelEventType), Status=False)
            assert failed["CertificateErrorEventId"] == event["EventId"]
        else:
            assert event["InvalidUri"] == "urn:someone:else"


async def test_a_revoked_certificate_is_told(plant: Plant, auditor: Auditor) -> None:
    # Part 5 6.4.17: by the list of its authority, though it is trusted.
    authority = issued("Authority", 10, "Authority", 10, x509.BasicConstraints(ca=True, path_length=None),
        x509.KeyUsage(digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False,
            key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False,
            decipher_only=False))  # fmt: skip
    leaf = issued("leaf", 11, "Authority", 10)
    now = datetime.now(UTC)
    revoked = x509.RevokedCertificateBuilder().serial_number(11).revocation_date(now - timedelta(hours=1)).build()
    revocations = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.certificate.subject)
        .last_update(now - timedelta(hours=1))
        .next_update(now + timedelta(days=1))
        .add_revoked_certificate(revoked)
        .sign(key(10), hashes.SHA256())
    )
    pki = plant.running.data / "pki"
    (pki / "issuers/certs/authority.der").write_bytes(authority.der)
    (pki / "issuers/crl/authority.der").write_bytes(revocations.public_bytes(serialization.Encoding.DER))
    (pki / "trusted/certs/leaf.der").write_bytes(leaf.der)
    kind = IDS.AuditCertificateRevokedEventType
    async with auditor.listening(kind, "Certificate", "StatusCodeId") as told, elsewhere(plant, app=leaf) as talk:
        assert await refused(talk.open()) == CODES.BadSecurityChecksFailed
        event = await told.heard()
        check_base(event, kind, "Security/Certificate", status=False)
        assert (event["Certificate"], event["StatusCodeId"].value) == (leaf.der, CODES.BadCertificateRevoked)


# -- node management


@pytest.mark.parametrize(
    ("request_", "kind", "source_name"),
    [
        (ua.AddNodesRequest, IDS.AuditAddNodesEventType, "AddNodes"),
        (ua.DeleteNodesRequest, IDS.AuditDeleteNodesEventType, "DeleteNodes"),
        (ua.AddReferencesRequest, IDS.AuditAddReferencesEventType, "AddReferences"),
        (ua.DeleteReferencesRequest, IDS.AuditDeleteReferencesEventType, "DeleteReferences"),
    ],
)
async def test_an_attempt_to_change_the_address_space_is_told(
    plant: Plant, auditor: Auditor, request_: Any, kind: int, source_name: str
) -> None:
    # Part 5 6.4.19 to 6.4.23: nobody may, and that somebody tried is what auditors look for.
    async with plant.session("Basic256Sha256", "eng1") as talk, auditor.listening(kind) as told:
        assert await talk.outcome(request_()) == CODES.BadServiceUnsupported
        event = await told.heard(SourceName=f"NodeManagement/{source_name}")
        check_base(event, kind, f"NodeManagement/{source_name}", status=False)
        assert event["ClientUserId"] == "eng1"


# -- who is told


@pytest.mark.parametrize(
    ("channel", "user", "told"),
    [
        ("Basic256Sha256", "sec1", True), ("Basic256Sha256", "aud1", True), ("Basic256Sha256", "admin1", False),
        ("Basic256Sha256", "op1", False), ("Basic256Sha256", "eng1", False), ("None", "sec1", False),
        ("None", "aud1", False),
    ],
)  # fmt: skip
async def test_audit_events_go_to_auditors_on_encrypted_channels_alone(
    plant: Plant, channel: str, user: str, told: bool
) -> None:
    # Part 5 6.4.3; other events go to everybody, so what does not come was held back.
    async with plant.session(channel, user) as listener, plant.session("Basic256Sha256") as talk:
        number = (await listener.subscribe(interval=50)).SubscriptionId
        wanted = event_filter(IDS.BaseEventType, ["EventType", "Message", "SourceNode"])
        await listener.monitor(number, SERVER, A.EventNotifier, Filter=wanted, QueueSize=1000)
        await talk.outcome(write("Scalar.Byte", 1, T.Byte))
        await talk.outcome(call("Methods.RaiseEvent", ua.Variant("the end", T.String), ua.Variant(1, T.UInt16)))
        seen: list[Any] = []
        async with asyncio.timeout(60):
            while not any(fields[1].Value.Text == "the end" for fields in seen):
                seen += await listener.next_data()
        assert (nid("Scalar.Byte") in {fields[2].Value for fields in seen}) is told


# -- the log


def log(plant: Plant) -> list[dict[str, Any]]:
    """Entries of the audit log, in order."""
    with sqlite3.connect(plant.running.data / "enose.db") as database:
        bodies = database.execute("SELECT body FROM audit_entry ORDER BY seq").fetchall()
    return [json.loads(body) for (body,) in bodies]


async def test_every_act_is_one_entry_of_the_audit_log(plant: Plant) -> None:
    # compliance.md 2.4; a good login is one entry, not two.
    async with elsewhere(plant) as talk:
        await talk.open()
        await talk.create_session()
        await talk.enter("eng1")
        await talk.outcome(write("Scalar.SByte", 3, T.SByte))
        await talk.outcome(write("Scalar.SByte", 4, T.SByte))
        await talk.outcome(call("Methods.Add", ua.Variant(1.0, T.Double), ua.Variant(2.0, T.Double)))
        address = talk.local
    entries = [e for e in log(plant) if e["address"] == address]
    assert [e["action"] for e in entries] == [
        "security.channel", "security.session", "user.login", "write", "write", "call",
    ]  # fmt: skip
    login, written = entries[2], entries[4]
    assert (login["outcome"], login["actor"], bool(login["session"])) == ("Good", "eng1", True)
    assert (written["old"], written["new"], written["object"]) == (3, 4, nid("Scalar.SByte").to_string())


async def test_a_flood_is_told_with_its_number(plant: Plant, auditor: Auditor) -> None:
    # Hostile inputs 3.4: one event and entry for a source and minute, never one for a packet.
    async with auditor.listening(IDS.AuditChannelEventType) as told:
        address = next(_addresses)
        for _ in range(30):
            async with Conversation(plant, local=address) as talk:
                talk.writer.write(b"GET / HTTP/1.1\r\n\r\n")
                await refused(talk._message())
        seen = await told.heard(SourceName="SecureChannel/CloseSecureChannel", Status=False)
        assert address in seen["Message"].Text
    with sqlite3.connect(plant.running.data / "enose.db") as database:
        found = database.execute(
            "SELECT count(*) FROM audit_entry WHERE CAST(body AS TEXT) LIKE ?", (f'%"{address}"%',)
        ).fetchone()
    assert found == (1,)
