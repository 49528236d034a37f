"""Discovery, sessions, users and the Server object of a process of the test plant (Part 4 5.5, 5.7; Part 5 6.3)."""

import dataclasses
from contextlib import AsyncExitStack
from typing import Any

import pytest
from asyncua import ua
from asyncua.crypto import security_policies

from tests.conformance.plant import CHANNELS, CODES, Conversation, Plant, browse, nid, read, reads, write

pytestmark = pytest.mark.asyncio(loop_scope="module")

A, T, IDS = ua.AttributeIds, ua.VariantType, ua.ObjectIds
MODE = ua.MessageSecurityMode


def server(name: str) -> str:
    return f"i={getattr(IDS, f'Server_{name}')}"


async def value(talk: Conversation, path: str) -> Any:
    found = await talk.read(nid(path))
    found.StatusCode.check()
    return found.Value.Value


async def fault(awaited: Any) -> int:
    with pytest.raises(ua.UaStatusCodeError) as caught:
        await awaited
    return int(caught.value.code)


@pytest.fixture(params=CHANNELS)
def channel(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def test_endpoints_are_filtered(plant: Plant) -> None:
    # 5.5.4
    async with Conversation(plant, policy=None) as stranger:
        await stranger.open()

        async def endpoints(**further: Any) -> list[Any]:
            request = ua.GetEndpointsRequest(Parameters=ua.GetEndpointsParameters(EndpointUrl=plant.url, **further))
            return list((await stranger.call(request)).Endpoints)

        found = await endpoints()
        assert [e.SecurityMode for e in found].count(MODE.None_) == 1
        assert [e.SecurityMode for e in found].count(MODE.SignAndEncrypt) == 3
        assert max(found, key=lambda e: e.SecurityLevel).SecurityMode == MODE.SignAndEncrypt
        for endpoint in found:  # no password ever goes in the clear
            for token in endpoint.UserIdentityTokens:
                assert token.TokenType == ua.UserTokenType.Anonymous or token.SecurityPolicyUri
        assert len(await endpoints(ProfileUris=[found[0].TransportProfileUri])) == 4
        assert await endpoints(ProfileUris=["http://nothing"]) == []
        assert len(await endpoints(LocaleIds=["de"])) == 4
        request = ua.FindServersRequest(Parameters=ua.FindServersParameters(EndpointUrl=plant.url))
        (application,) = (await stranger.call(request)).Servers
        assert application.ApplicationUri == found[0].Server.ApplicationUri
        request.Parameters.ServerUris = ["urn:nothing"]
        assert (await stranger.call(request)).Servers == []


async def test_a_session_has_to_be_activated(plant: Plant, channel: str) -> None:
    # 5.7.2.1
    async with Conversation(plant, policy=None if channel == "None" else channel) as talk:
        await talk.open()
        made = await talk.create_session(SessionName=None, RequestedSessionTimeout=1e9)
        assert 0 < made.RevisedSessionTimeout < 1e9
        assert len(made.ServerNonce) >= 32
        assert made.ServerCertificate == plant.identity.der
        assert {e.SecurityMode for e in made.ServerEndpoints} == {MODE.None_, MODE.SignAndEncrypt}
        assert await talk.outcome(read("Scalar.Int32")) == CODES.BadSessionNotActivated
        assert await talk.outcome(read("Scalar.Int32")) == CODES.BadSessionIdInvalid


async def test_two_sessions_on_one_channel_are_two(plant: Plant, channel: str) -> None:
    async with plant.session(channel) as talk:
        first = talk.token
        await talk.create_session()
        await talk.enter("obs1")
        second = talk.token
        await talk.call(ua.CloseSessionRequest())
        assert await talk.outcome(read("Scalar.Int32")) == CODES.BadSessionIdInvalid
        assert await talk.outcome(ua.CloseSessionRequest()) == CODES.BadSessionIdInvalid
        talk.token = first
        assert await talk.outcome(read("Scalar.Int32")) == [0]
        assert first != second


async def test_users_are_told_apart(plant: Plant, channel: str) -> None:
    # 5.7.3: a change of user by ActivateSession changes what may be done.
    node = "Access.OperatorWrites"

    async def level(talk: Conversation) -> int:
        return int((await talk.read(nid(node), A.UserAccessLevel)).Value.Value)

    async with plant.session(channel, "obs1") as talk:
        assert await talk.outcome(write(node, 1, T.Int32)) == [CODES.BadUserAccessDenied]
        assert await level(talk) == 1
        await talk.enter("op1")
        assert await talk.outcome(write(node, 1, T.Int32)) == [0]
        assert await level(talk) == 3
        await talk.enter("eng1")
        assert await talk.outcome(read("Access.EngineerOnly")) == [0]
        await talk.enter("")
        assert await talk.outcome(read("Access.EngineerOnly")) == [CODES.BadUserAccessDenied]
        assert await talk.outcome(read("Scalar.Int32")) == [0]


def _spoiled(talk: Conversation, **fields: Any) -> Any:
    """op1's own token but for some fields."""
    return dataclasses.replace(talk.password_token("op1", talk.bench.running.passwords["op1"]), **fields)


@pytest.mark.parametrize(
    ("token", "code"),
    [
        (lambda t: t.password_token("op1", "wrong"), CODES.BadUserAccessDenied),
        (lambda t: t.password_token("op1", ""), CODES.BadUserAccessDenied),
        (lambda t: t.password_token("nobody", "wrong"), CODES.BadUserAccessDenied),
        (lambda t: _spoiled(t, UserName=""), CODES.BadIdentityTokenInvalid),
        (lambda t: _spoiled(t, UserName=None), CODES.BadIdentityTokenInvalid),
        (lambda t: _spoiled(t, PolicyId=None), CODES.BadIdentityTokenInvalid),
        (lambda t: _spoiled(t, PolicyId="anonymous"), CODES.BadIdentityTokenInvalid),
        (lambda t: _spoiled(t, EncryptionAlgorithm="http://nothing"), CODES.BadIdentityTokenInvalid),
        (lambda t: _spoiled(t, EncryptionAlgorithm=None, Password=b"plain"), CODES.BadIdentityTokenInvalid),
        (lambda t: ua.AnonymousIdentityToken(PolicyId="nothing"), CODES.BadIdentityTokenInvalid),
        (lambda t: ua.IssuedIdentityToken(PolicyId="x", TokenData=b"x"), CODES.BadIdentityTokenInvalid),
        (lambda t: ua.X509IdentityToken(PolicyId="certificate", CertificateData=b"x"), CODES.BadIdentityTokenInvalid),
        (lambda t: ua.ExtensionObject(ua.NodeId(9, 9), b"x"), CODES.BadIdentityTokenInvalid),
    ],
)
async def test_a_wrong_token_is_refused(plant: Plant, channel: str, token: Any, code: int) -> None:
    # 5.7.3.3: invalid is what is no token of a policy of ours; whom a right one names may still have no access.
    async with Conversation(plant, policy=None if channel == "None" else channel) as talk:
        await talk.open()
        await talk.create_session()
        assert await fault(talk.activate(token(talk))) == code


async def test_a_null_token_is_nobody(plant: Plant, channel: str) -> None:
    # 5.7.3.2
    async with Conversation(plant, policy=None if channel == "None" else channel) as talk:
        await talk.open()
        await talk.create_session()
        await talk.activate(ua.ExtensionObject())
        assert await talk.outcome(read("Scalar.Int32")) == [0]


async def test_a_response_larger_than_the_client_takes_is_refused(plant: Plant, channel: str) -> None:
    # 5.7.2.2 MaxResponseMessageSize
    async with plant.session(channel, MaxResponseMessageSize=10_000) as talk:
        assert await talk.outcome(read("Scalar.Int32")) == [0]
        item = ua.ReadValueId(NodeId=nid("Scalar.Int32"), AttributeId=A.Value)
        assert await talk.outcome(reads(*[item] * 1000)) == CODES.BadResponseTooLarge
        number = (await talk.subscribe()).SubscriptionId
        await talk.monitor(number, nid("Large.ByteString"))
        assert await fault(talk.publish()) == CODES.BadResponseTooLarge
        await talk.monitor(number, nid("Scalar.Boolean"))
        assert len(await talk.next_data()) == 1


async def test_header_fields_are_taken_as_they_come(plant: Plant, channel: str) -> None:
    # 7.32: diagnostics asked for, an audit entry id, any time hint.
    async with plant.session(channel) as talk:
        request = read("Scalar.Int32")
        request.RequestHeader.ReturnDiagnostics = 0x3FF
        request.RequestHeader.AuditEntryId = "entry"
        request.RequestHeader.TimeoutHint = 1
        assert await talk.outcome(request) == [0]


async def test_texts_come_in_the_language_asked_for(plant: Plant, channel: str) -> None:
    # 5.4
    node = "ns=3;s=EN01.Stream01.Alarms.QualityScoreLow"
    async with plant.session(channel) as talk:
        assert set(await value(talk, server("ServerCapabilities_LocaleIdArray"))) == {
            "en",
            "de",
            "fr",
            "es",
            "ja",
            "zh",
        }
        for wanted, text in (
            (["xx", "de-AT"], "Qualitätswert niedrig"),
            (["fr"], "Score de qualité bas"),
            (["en-US", "de"], "QualityScoreLow"),
        ):
            token = talk.password_token("op1", plant.running.passwords["op1"])
            await talk.activate(token, LocaleIds=wanted)
            assert (await talk.read(nid(node), A.DisplayName)).Value.Value.Text == text
            browsed = (await talk.call(browse("ns=3;s=EN01.Stream01.Alarms"))).Results[0].References
            assert text in [r.DisplayName.Text for r in browsed]


async def test_every_standard_variable_of_the_server_can_be_read(plant: Plant, channel: str) -> None:
    # Part 5 6.3: nothing below Server says Good and has no value.
    async with plant.session(channel, "admin1") as talk:
        seen: dict[Any, str] = {}
        waiting = [nid("i=2253")]
        while waiting:
            request = browse("i=2253", NodeId=waiting.pop(), NodeClassMask=3)
            for r in (await talk.call(request)).Results[0].References:
                if r.NodeId.NamespaceIndex == 0 and r.NodeId not in seen:
                    seen[r.NodeId] = r.BrowseName.Name
                    waiting.append(r.NodeId)
                if r.NodeClass == ua.NodeClass.Object:
                    seen[r.NodeId] = ""
        # What is in it asyncua's codec cannot read.
        wanted = [n for n, name in seen.items() if name not in ("", "SessionSecurityDiagnosticsArray")]
        found = (await talk.call(reads(*(ua.ReadValueId(n, A.Value) for n in wanted)))).Results
        nulls = [
            f"{seen[n]} {n.to_string()}"
            for n, v in zip(wanted, found, strict=True)
            if v.StatusCode.is_good() and v.Value.VariantType == T.Null
        ]
        roles = ("Identities", "Applications", "Endpoints", "CustomConfiguration", "Default")
        assert [n for n in nulls if not n.startswith(roles)] == []


async def test_each_namespace_is_described_once(plant: Plant, channel: str) -> None:
    # Part 5 6.3.14
    async with plant.session(channel) as talk:
        described = (await talk.call(browse("i=11715"))).Results[0].References
        namespaces = await value(talk, server("NamespaceArray"))
        assert [r.BrowseName.Name for r in described] == [namespaces[0], *namespaces[2:]]


async def test_limits_are_those_published(plant: Plant, channel: str) -> None:
    async with plant.session(channel) as talk:
        limit = await value(talk, server("ServerCapabilities_OperationLimits_MaxNodesPerRead"))
        item = ua.ReadValueId(NodeId=nid("Scalar.Int32"), AttributeId=A.NodeClass)
        assert len(await talk.outcome(reads(*[item] * limit))) == limit  # type: ignore[arg-type]
        assert await talk.outcome(reads(*[item] * (limit + 1))) == CODES.BadTooManyOperations


async def test_diagnostics_count_and_can_be_switched_off(plant: Plant, channel: str) -> None:
    # Part 5 6.3.3
    flag = server("ServerDiagnostics_EnabledFlag")
    current = server("ServerDiagnostics_ServerDiagnosticsSummary_CurrentSessionCount")
    sessions = server("ServerDiagnostics_SessionsDiagnosticsSummary_SessionDiagnosticsArray")
    security = server("ServerDiagnostics_SessionsDiagnosticsSummary_SessionSecurityDiagnosticsArray")
    subscriptions = server("ServerDiagnostics_SubscriptionDiagnosticsArray")
    async with plant.session(channel, "admin1", SessionName=f"over {channel}") as talk:

        async def names() -> list[str]:
            """Of all sessions, as many as are counted: those of other rows end when they time out."""
            wanted = [ua.ReadValueId(NodeId=nid(node), AttributeId=A.Value) for node in (current, sessions)]
            count, rows = (r.Value.Value for r in (await talk.call(reads(*wanted))).Results)
            assert count == len(rows)
            return [row.SessionName for row in rows]

        async with plant.session(channel, SessionName=f"beside {channel}") as beside:
            assert f"beside {channel}" in await names()
            await beside.call(ua.CloseSessionRequest(DeleteSubscriptions=True))
            assert f"beside {channel}" not in await names()
        made = await talk.subscribe(123.0)
        (own,) = [s for s in await value(talk, sessions) if s.SessionName == f"over {channel}"]
        assert own.CurrentSubscriptionsCount == 1
        assert own.ReadCount.TotalCount >= 3
        (row,) = [s for s in await value(talk, subscriptions) if s.SubscriptionId == made.SubscriptionId]
        assert row.PublishingInterval == 123.0
        assert await talk.outcome(write(flag, False, T.Boolean)) == [0]
        assert await talk.outcome(read(sessions)) == [CODES.BadNotReadable]
        assert await talk.outcome(write(flag, True, T.Boolean)) == [0]
        assert await value(talk, sessions)
        await talk.enter("op1")
        assert await talk.outcome(read(security)) == [CODES.BadUserAccessDenied]


async def references(talk: Conversation, path: str) -> dict[str, Any]:
    (result,) = (await talk.call(browse(path))).Results
    result.StatusCode.check()
    return {r.BrowseName.Name: r for r in result.References}


async def test_each_session_is_an_object_for_administrators_and_for_itself(plant: Plant, channel: str) -> None:
    # Part 5 6.3.4, 6.3.5 and Part 4 5.7.2.2: its NodeId is the SessionId.
    summary = server("ServerDiagnostics_SessionsDiagnosticsSummary")
    chief, name = f"chief over {channel}", f"operator over {channel}"
    async with (
        plant.session(channel, "admin1", SessionName=chief) as admin,
        plant.session(channel, SessionName=name) as other,
    ):
        (own,) = [r.NodeId.to_string() for r in (await references(other, summary)).values() if r.NodeClass == 1]
        assert (await other.read(nid(own), A.DisplayName)).Value.Value.Text == name
        found = await references(admin, summary)
        assert found[name].NodeId.to_string() == own
        assert found[chief].TypeDefinition == ua.NodeId(ua.ObjectIds.SessionDiagnosticsObjectType)
        theirs = found[chief].NodeId.to_string()
        for path in (
            theirs,
            f"ns=1;s={theirs.partition('=')[2].partition('=')[2].replace('-', '')}.SessionDiagnostics",
        ):
            assert await other.outcome(read(path, A.DisplayName)) == [CODES.BadUserAccessDenied]
        assert await other.outcome(browse(theirs)) == [CODES.BadUserAccessDenied]

        parts = await references(admin, own)
        expected = {
            "SessionDiagnostics",
            "SessionSecurityDiagnostics",
            "SubscriptionDiagnosticsArray",
            "CurrentRoleIds",
        }
        assert set(parts) == expected
        made = await other.subscribe(123.0)
        whole, subscriptions, roles = [  # asyncua cannot decode SessionSecurityDiagnostics as a whole
            await value(admin, parts[part].NodeId.to_string())
            for part in ("SessionDiagnostics", "SubscriptionDiagnosticsArray", "CurrentRoleIds")
        ]
        assert (whole.SessionName, whole.CurrentSubscriptionsCount) == (name, 1)
        assert [s.SubscriptionId for s in subscriptions] == [made.SubscriptionId]
        assert roles == [ua.NodeId(ua.ObjectIds.WellKnownRole_Operator)]
        for part in ("SessionDiagnostics", "SessionSecurityDiagnostics"):
            fields = await references(admin, parts[part].NodeId.to_string())
            for field, found_field in fields.items():
                read_field = await admin.read(found_field.NodeId)
                assert read_field.StatusCode.is_good(), field
                data_type = (await admin.read(found_field.NodeId, A.DataType)).Value.Value
                assert read_field.Value.VariantType.value in (data_type.Identifier, 6, 7, 11, 12, 13, 22), field
        user = await references(admin, parts["SessionSecurityDiagnostics"].NodeId.to_string())
        assert await value(admin, user["ClientUserIdOfSession"].NodeId.to_string()) == "op1"

        watched = (await admin.subscribe(100.0)).SubscriptionId
        count = await references(admin, parts["SessionDiagnostics"].NodeId.to_string())
        node = count["CurrentSubscriptionsCount"].NodeId
        assert (await admin.monitor(watched, node)).StatusCode.is_good()
        assert [v.Value.Value for v in await admin.next_data()] == [1]
        await other.subscribe(123.0)
        assert [v.Value.Value for v in await admin.next_data()] == [2]
        await other.call(ua.CloseSessionRequest(DeleteSubscriptions=True))
        assert [v.StatusCode.value for v in await admin.next_data()] == [CODES.BadNodeIdUnknown]
        assert name not in await references(admin, summary)
        assert await admin.outcome(read(own, A.DisplayName)) == [CODES.BadNodeIdUnknown]

        flag = server("ServerDiagnostics_EnabledFlag")
        assert await admin.outcome(write(flag, False, T.Boolean)) == [0]
        assert chief not in await references(admin, summary)
        assert await admin.outcome(write(flag, True, T.Boolean)) == [0]
        assert chief in await references(admin, summary)


async def test_a_channel_without_offered_security_is_refused(plant: Plant) -> None:
    async with Conversation(plant, policy="Basic256Sha256") as talk:
        talk.policy = security_policies.SecurityPolicyNone()
        assert await talk.hello()


async def test_as_many_sessions_as_published_each_on_a_connection_of_its_own(plant: Plant) -> None:
    # 5.7.2.3, Part 5 6.3.2: one more is BadTooManySessions, and nobody who is there loses his.
    async with AsyncExitStack() as open_ones:
        made: list[Conversation] = []

        async def another() -> None:
            talk = await open_ones.enter_async_context(Conversation(plant, policy=None))
            await talk.open()
            await talk.create_session()
            await talk.enter("")
            made.append(talk)

        async def many(count: int) -> None:
            for _ in range(count):
                await another()

        await another()
        published = await value(made[0], server("ServerCapabilities_MaxSessions"))
        assert await fault(many(published)) == CODES.BadTooManySessions  # others may have sessions as well
        assert len(made) > published // 2
        for talk in made:
            assert await talk.outcome(read("Scalar.Int32")) == [0]
        await made[0].call(ua.CloseSessionRequest(DeleteSubscriptions=True))
        await another()
        for talk in made[1:]:
            await talk.call(ua.CloseSessionRequest(DeleteSubscriptions=True))
