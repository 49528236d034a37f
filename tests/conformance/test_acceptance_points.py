"""What a client's user expects (information model 3, acceptance points), on a process of the test plant.

Points that other rows show: 3 and 4 test_subscriptions.py, 6 tests/fault, 7 and 12 test_rows.py and
test_subscriptions.py, 13 and 26 test_sessions.py, 22 test_subscriptions.py and tests/interop.
"""

import asyncio
import ipaddress
import re
import signal
from pathlib import Path
from typing import Any

import pytest
from asyncua import ua
from cryptography import x509

from config import load
from config.schema import Plant as Configuration
from opcua_server.plant.space import nodes, space
from opcua_server.services.nodes import NodeClass
from tests.conformance.plant import CODES, CONFIG, Conversation, Plant, browse, call, nid, read, running_plant

pytestmark = pytest.mark.asyncio(loop_scope="module")

A, T = ua.AttributeIds, ua.VariantType
METHODS_PAGE = Path(__file__).parents[2] / "docs" / "methods.md"
SCADA = "ns=3;s=SCADA"


async def children(talk: Conversation, path: str, page: int = 0, **further: Any) -> list[Any]:
    """All references Browse and BrowseNext give."""
    request = browse(path, **further)
    request.Parameters.RequestedMaxReferencesPerNode = page
    (result,) = (await talk.call(request)).Results
    found = list(result.References)
    while result.ContinuationPoint:
        parameters = ua.BrowseNextParameters(False, [result.ContinuationPoint])
        (result,) = (await talk.call(ua.BrowseNextRequest(Parameters=parameters))).Parameters.Results
        assert page == 0 or len(result.References) <= page
        found += result.References
    return found


async def below(talk: Conversation, path: str) -> list[Any]:
    """Everything under a node, each once."""
    found: dict[Any, Any] = {}
    waiting = [path]
    while waiting:
        for r in await children(talk, waiting.pop()):
            if r.NodeId not in found:
                found[r.NodeId] = r
                waiting.append(r.NodeId.to_string())
    return list(found.values())


async def attribute(talk: Conversation, path: str, number: int = A.Value) -> Any:
    found = await talk.read(nid(path), number)
    found.StatusCode.check()
    return found.Value.Value


async def test_1_ids_follow_from_the_configuration_alone() -> None:
    plant = load.load(CONFIG)
    device = plant.devices[0].model_copy(update={"id": "EN99"})
    more = Configuration.model_validate({**plant.model_dump(by_alias=True), "devices": [device, *plant.devices]})
    before, after = ({node for node, _, _ in nodes(space(p).instances)} for p in (plant, more))
    assert before < after


async def test_2_and_19_tags_are_scalars_with_plain_ids(talk: Conversation) -> None:
    rows = [r for r in await below(talk, SCADA) if r.NodeClass == ua.NodeClass.Variable]
    assert rows
    for row in rows:
        path = row.NodeId.to_string()
        data_type, rank = await attribute(talk, path, A.DataType), await attribute(talk, path, A.ValueRank)
        if row.BrowseName.Name in ("EURange", "EngineeringUnits", "EnumValues", "InputArguments", "OutputArguments"):
            continue
        assert not data_type.is_null()
        assert (rank, data_type.Identifier not in (T.Int64.value, T.UInt64.value)) == (-1, True), path
        assert re.fullmatch(r"[\x21-\x7e]{1,254}", str(row.NodeId.Identifier))
        assert not re.search(r"\\|!A|;!E=", str(row.NodeId.Identifier))


async def test_5_a_keep_alive_is_answered_during_slow_calls(talk: Conversation) -> None:
    slow = [talk.write(call("Methods.Slow", ua.Variant(1000, T.UInt32))) for _ in range(3)]
    async with asyncio.timeout(1):
        assert await attribute(talk, "i=2259") == ua.ServerState.Running
    for number in slow:
        await talk.answer(number, "CallResponse")


async def test_8_numbers_are_coerced_when_nothing_is_lost(talk: Conversation) -> None:
    for given in (ua.Variant(7, T.Int64), ua.Variant(7, T.UInt64), ua.Variant(7.0, T.Double)):
        assert await talk.outcome(call("Methods.Input", given)) == [0]
    for given in (ua.Variant(7.5, T.Double), ua.Variant(2**40, T.Int64), ua.Variant("7", T.String)):
        assert await talk.outcome(call("Methods.Input", given)) == [CODES.BadInvalidArgument]


async def test_9_an_alarm_is_plain_tags_too(talk: Conversation) -> None:
    alarm = "ns=3;s=EN01.Stream01.Alarms.QualityScoreLow"
    assert await talk.outcome(call("Methods.RaiseAlarm")) == [0]
    assert await attribute(talk, f"{alarm}.Active") is True
    assert await attribute(talk, f"{alarm}.Acked") is False
    assert await attribute(talk, f"{alarm}.Severity") >= 500
    assert await talk.outcome(call("Methods.ClearAlarm")) == [0]
    assert await attribute(talk, f"{alarm}.Active") is False


async def test_10_the_certificate_names_application_and_host(plant: Plant, talk: Conversation) -> None:
    names = plant.identity.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    (uri,) = names.get_values_for_type(x509.UniformResourceIdentifier)
    (application,) = set(await attribute(talk, "i=2254"))
    assert uri == application
    assert " " not in uri
    assert "localhost" in names.get_values_for_type(x509.DNSName)
    assert ipaddress.ip_address("127.0.0.1") in names.get_values_for_type(x509.IPAddress)
    assert "0.0.0.0" not in plant.url


async def test_11_none_and_anonymous_are_off_unless_configured() -> None:
    plant = load.load(load.DEMO)
    assert (plant.security.none, plant.security.anonymous, plant.playground) == (False, False, False)


async def test_17_20_and_24_methods_are_scalar_described_and_in_the_reference(plant: Plant, talk: Conversation) -> None:
    page = METHODS_PAGE.read_text()
    found = [
        (node, instance)
        for node, instance, member in nodes(space(load.load(CONFIG)).instances)
        if member.node_class is NodeClass.METHOD
    ]
    for node, _ in found:
        assert f"### {node.rpartition('.')[2]}\n" in page or f"| {node.rpartition('.')[2]} |" in page
    ours = [(node, instance) for node, instance in found if f"### {node.rpartition('.')[2]}\n" in page]
    assert ours
    for node, _ in ours:
        assert await attribute(talk, f"ns=3;s={node.rpartition('.')[0]}", A.NodeClass) == ua.NodeClass.Object
        for r in await children(talk, f"ns=3;s={node}"):
            for argument in await attribute(talk, r.NodeId.to_string()):
                assert argument.ValueRank == -1
                assert argument.Name
                assert argument.Description.Text
    create = "ns=3;s=L01.BatchControl.CreateBatch"
    channel = "None" if talk.policy.Mode == ua.MessageSecurityMode.None_ else "Basic256Sha256"
    for user, allowed in (("op1", True), ("obs1", False), ("", False)):
        async with plant.session(channel, user) as other:
            assert await attribute(other, create, A.UserExecutable) is allowed


async def test_21_a_value_says_what_it_is_and_when_it_was_measured(talk: Conversation) -> None:
    path = "ns=3;s=EN01.Array.S01.SensorValue"
    async with asyncio.timeout(30):
        while not (value := await talk.read(nid(path))).StatusCode.is_good():
            await asyncio.sleep(0.1)
    assert value.SourceTimestamp != value.ServerTimestamp
    assert (await attribute(talk, path, A.DisplayName)).Text
    assert (await attribute(talk, path, A.Description)).Text
    assert (await attribute(talk, f"{path}.EURange")).High == 500.0
    assert (await attribute(talk, f"{path}.EngineeringUnits")).DisplayName.Text


async def test_25_browse_in_pages_of_nodes_that_are_there(talk: Conversation) -> None:
    whole = await children(talk, "Many")
    assert len(whole) == 2000
    paged = await children(talk, "Many", 300)
    assert [r.NodeId for r in paged] == [r.NodeId for r in whole]
    assert not [r for r in await children(talk, "ns=3;s=EN01") if r.BrowseName.Name.startswith("<")]
    rule = ua.NodeId(ua.ObjectIds.HasModellingRule)
    for r in await children(talk, "i=58", ReferenceTypeId=ua.NodeId(ua.ObjectIds.HasSubtype)):
        if r.NodeId.NamespaceIndex == 2:
            members = await children(talk, r.NodeId.to_string(), ReferenceTypeId=ua.NodeId(ua.ObjectIds.Aggregates))
            for member in members:
                assert await children(talk, member.NodeId.to_string(), ReferenceTypeId=rule), member.BrowseName.Name


async def test_27_a_thousand_items_miss_no_publish(talk: Conversation) -> None:
    number = (await talk.subscribe(100.0)).SubscriptionId
    requests = [
        ua.MonitoredItemCreateRequest(
            ua.ReadValueId(NodeId=nid("Dynamic.Double" if i % 2 else "Dynamic.Int32"), AttributeId=A.Value),
            ua.MonitoringMode.Reporting,
            ua.MonitoringParameters(ClientHandle=i, SamplingInterval=100.0, QueueSize=2),
        )
        for i in range(1000)
    ]
    parameters = ua.CreateMonitoredItemsParameters(number, ua.TimestampsToReturn.Both, requests)
    assert await talk.outcome(ua.CreateMonitoredItemsRequest(Parameters=parameters)) == [0] * 1000
    sequences = []
    for _ in range(5):
        answer = await talk.publish()
        sequences.append(answer.NotificationMessage.SequenceNumber)
        assert sum(len(d.MonitoredItems) for d in answer.NotificationMessage.NotificationData) >= 1000
    assert sequences == [1, 2, 3, 4, 5]
    await talk.call(ua.DeleteSubscriptionsRequest(Parameters=ua.DeleteSubscriptionsParameters([number])))


async def test_32_nobody_calls_what_belongs_to_somebody(plant: Plant) -> None:
    async with plant.session("None", "") as nobody:
        request = call("ns=3;s=L01.BatchControl.HoldBatch", *[ua.Variant("x")] * 2, on="ns=3;s=L01.BatchControl")
        assert await nobody.outcome(request) == [CODES.BadUserAccessDenied]
        alarm = "ns=3;s=EN01.Stream01.Alarms.QualityScoreLow"
        arguments = ua.Variant(b"x", T.ByteString), ua.Variant(ua.LocalizedText("x"))
        request = call(f"{alarm}.Acknowledge", *arguments, on=alarm)
        assert await nobody.outcome(request) == [CODES.BadUserAccessDenied]


async def test_33_a_shutdown_is_announced(tmp_path: Path) -> None:
    with running_plant(tmp_path) as plant:
        async with plant.session("None") as talk:
            assert plant.running.process is not None
            plant.running.process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(10):
                while await attribute(talk, "i=2259") != ua.ServerState.Shutdown:
                    await asyncio.sleep(0.05)
            assert await attribute(talk, "i=2992") > 0
            assert (await attribute(talk, "i=2993")).Text
            assert await talk.outcome(read("Scalar.Int32")) == [0]


async def test_32_without_a_user_one_sees_the_scada_view_and_calls_nothing(plant: Plant) -> None:
    # Part 3 8.55: what may not be browsed is left out by Browse, and refused where it is named. The folders on the way
    # to a tag are there, so that it is found under Objects too.
    tag, matrix, alarm = "EN01.Array.S01.SensorValue", "EN01.Array.SensorVector", "EN01.Alarms.CommunicationLost"
    hidden = [matrix, f"{alarm}.Acknowledge", f"{alarm}.EventId", "L01.Batch.DispositionState", "Quality"]
    async with plant.session("None", "") as talk, plant.session("None") as operator:
        for start in (SCADA, "ns=3;s=ENose", "i=85"):
            found = {r.NodeId.Identifier for r in await below(talk, start)}
            assert tag in found
            assert not found & set(hidden), start
        viewed = {r.NodeId.Identifier for r in await below(operator, SCADA)}
        assert viewed == {r.NodeId.Identifier for r in await below(talk, SCADA)}
        everything = {r.NodeId.Identifier for r in await below(operator, "ns=3;s=ENose")}
        assert set(hidden) - {"Quality"} <= everything
        assert await talk.outcome(read(f"ns=3;s={tag}")) == [0]
        for node in hidden:
            path = f"ns=3;s={node}"
            assert await talk.outcome(read(path, A.DisplayName)) == [CODES.BadUserAccessDenied], node
            assert await talk.outcome(read(path)) != [0]
            assert await talk.outcome(browse(path)) == [CODES.BadUserAccessDenied]
            assert await operator.outcome(read(path, A.DisplayName)) == [0]
        number = (await talk.subscribe()).SubscriptionId
        watched = await talk.monitor(number, nid(f"ns=3;s={matrix}"))
        assert watched.StatusCode.is_good()  # 5.13.2.1: the item is made, and its value Bad
        [value] = await talk.next_data()
        assert value.StatusCode.value == CODES.BadUserAccessDenied
        [up] = (await talk.call(browse(f"ns=3;s={tag}", BrowseDirection=ua.BrowseDirection.Inverse))).Results
        assert not {r.NodeId.Identifier for r in up.References} & set(hidden)
        assert await talk.outcome(call("ns=3;s=EN01.MethodSet.StopAcquisition", on="ns=3;s=EN01.MethodSet")) == [
            CODES.BadUserAccessDenied
        ]
        told = (await talk.read(nid(f"ns=3;s={tag}"), A.UserRolePermissions)).Value.Value
        assert [int(entry.Permissions) & ua.PermissionType.Browse for entry in told] == [ua.PermissionType.Browse]
