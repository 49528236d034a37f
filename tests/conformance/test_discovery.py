"""FindServers and GetEndpoints (Part 4 5.5): filters, and URLs by which the client that asks can reach the server."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from asyncua import ua

from tests.conformance.plant import Conversation, Plant

pytestmark = pytest.mark.asyncio(loop_scope="module")

BINARY = "http://opcfoundation.org/UA-Profile/Transport/uatcp-uasc-uabinary"
JSON = "http://opcfoundation.org/UA-Profile/Transport/wss-uajson"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def channel(plant: Plant) -> AsyncIterator[Conversation]:
    async with Conversation(plant, policy=None) as talk:
        await talk.open()
        yield talk


async def servers(talk: Conversation, **further: Any) -> list[Any]:
    parameters = ua.FindServersParameters(**further)
    return list((await talk.call(ua.FindServersRequest(Parameters=parameters))).Servers)


async def endpoints(talk: Conversation, **further: Any) -> list[Any]:
    parameters = ua.GetEndpointsParameters(**further)
    return list((await talk.call(ua.GetEndpointsRequest(Parameters=parameters))).Endpoints)


async def test_servers_are_filtered_by_uri(channel: Conversation) -> None:
    # 5.5.2.2: an empty list of URIs is all servers; an unknown locale gives the default text.
    [own] = await servers(channel)
    assert (own.ApplicationType, own.DiscoveryUrls) == (ua.ApplicationType.Server, [channel.bench.url])
    assert own.GatewayServerUri is None
    assert await servers(channel, ServerUris=["urn:nobody", own.ApplicationUri]) == [own]
    assert await servers(channel, ServerUris=["urn:nobody"]) == []
    assert await servers(channel, LocaleIds=["xx"]) == [own]


async def test_endpoints_are_filtered_by_transport(channel: Conversation) -> None:
    # 5.5.4.2: those of all profiles when none is named.
    found = await endpoints(channel)
    assert {(e.SecurityMode.name, e.TransportProfileUri) for e in found} == {
        ("None_", BINARY),
        ("SignAndEncrypt", BINARY),
    }
    assert await endpoints(channel, ProfileUris=[JSON, BINARY]) == found
    assert await endpoints(channel, ProfileUris=[JSON]) == []


async def test_urls_have_the_host_the_client_used_if_it_is_one_of_ours(channel: Conversation) -> None:
    # 5.5.4.1: a suitable default for a host name that is not recognised.
    port = channel.bench.server.port
    for asked, answered in (
        (f"opc.tcp://localhost:{port}/any/path", f"opc.tcp://localhost:{port}"),
        (f"opc.tcp://LOCALHOST:{port}", f"opc.tcp://LOCALHOST:{port}"),
        ("opc.tcp://127.0.0.1:48400", "opc.tcp://127.0.0.1:48400"),
        ("opc.tcp://unknown.example:4840", channel.bench.url),
        ("http://localhost", channel.bench.url),
        ("nonsense", channel.bench.url),
        ("", channel.bench.url),
        (None, channel.bench.url),
    ):
        assert {e.EndpointUrl for e in await endpoints(channel, EndpointUrl=asked)} == {answered}
        [server] = await servers(channel, EndpointUrl=asked)
        assert server.DiscoveryUrls == [answered]
