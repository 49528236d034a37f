"""The Server object (Part 5 6.3): what it says of itself is consistent, and what it publishes is what it does."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
from asyncua import ua

from opcua_server.services.limits import Limits
from opcua_server.services.nodes import SITE_URI, TYPES_URI
from tests.conformance.plant import CODES, Conversation, browse, call, nid, read, reads, translate, write

pytestmark = pytest.mark.asyncio(loop_scope="module")

IDS, T = ua.ObjectIds, ua.VariantType


async def value(talk: Conversation, name: str) -> Any:
    found = await talk.read(ua.NodeId(getattr(IDS, name)))
    assert found.StatusCode.is_good(), name
    assert found.SourceTimestamp is not None, name
    return found.Value.Value


async def test_the_status_is_the_sum_of_its_variables(talk: Conversation) -> None:
    status = await value(talk, "Server_ServerStatus")
    for name in ("StartTime", "State", "BuildInfo", "SecondsTillShutdown", "ShutdownReason"):
        assert await value(talk, f"Server_ServerStatus_{name}") == getattr(status, name)
    for field in dataclasses.fields(ua.BuildInfo):
        name = f"Server_ServerStatus_BuildInfo_{field.name}"
        assert await value(talk, name) == getattr(status.BuildInfo, field.name)
    assert status.StartTime < status.CurrentTime <= await value(talk, "Server_ServerStatus_CurrentTime")


async def test_namespaces_and_servers_begin_with_the_standards(talk: Conversation) -> None:
    # Part 5 6.3.1: index 0 is the standard's, 1 the server's own ApplicationUri, which heads the ServerArray too.
    (uri,) = await value(talk, "Server_ServerArray")
    namespaces = await value(talk, "Server_NamespaceArray")
    assert namespaces == ["http://opcfoundation.org/UA/", uri, TYPES_URI, SITE_URI]


@pytest.mark.parametrize(
    ("name", "limit", "operation"),
    [
        ("MaxNodesPerRead", "nodes", lambda n: reads(*[ua.ReadValueId(NodeId=nid("Scalar.Int32"), AttributeId=3)] * n)),
        ("MaxNodesPerWrite", "nodes", lambda n: _times(write("Access.None", 1, T.Int32), "NodesToWrite", n)),
        ("MaxNodesPerBrowse", "browse_paths", lambda n: _times(browse("Cube"), "NodesToBrowse", n)),
        ("MaxNodesPerTranslateBrowsePathsToNodeIds", "browse_paths",
         lambda n: _times(translate("", "Scalar"), "BrowsePaths", n)),
        ("MaxNodesPerMethodCall", "method_calls", lambda n: _times(call("Methods.NoArguments"), "MethodsToCall", n)),
    ],
)  # fmt: skip
async def test_an_operation_limit_is_the_one_enforced(
    talk: Conversation, name: str, limit: str, operation: Any
) -> None:
    # Part 5 6.3.11: as many as published, and not one more.
    published = await value(talk, f"Server_ServerCapabilities_OperationLimits_{name}")
    assert published == getattr(Limits(), limit)
    assert len(await talk.outcome(operation(published))) == published
    assert await talk.outcome(operation(published + 1)) == CODES.BadTooManyOperations


def _times(request: Any, operations: str, count: int) -> Any:
    """The request with its one operation so many times."""
    setattr(request.Parameters, operations, getattr(request.Parameters, operations) * count)
    return request


async def test_limits_of_what_is_not_offered_are_not_there(talk: Conversation) -> None:
    (result,) = (await talk.call(browse("i=11704"))).Results
    names = {r.BrowseName.Name for r in result.References}
    assert "MaxNodesPerRead" in names
    assert not names & {"MaxNodesPerNodeManagement", "MaxNodesPerHistoryUpdateEvents"}


async def test_continuation_points_are_as_many_as_published(talk: Conversation) -> None:
    # 7.9: when there are no more, the operation says so.
    most = await value(talk, "Server_ServerCapabilities_MaxBrowseContinuationPoints")
    request = _times(browse("Many"), "NodesToBrowse", most + 1)
    request.Parameters.RequestedMaxReferencesPerNode = 1
    results = (await talk.call(request)).Results
    assert [r.StatusCode.value for r in results] == [0] * most + [CODES.BadNoContinuationPoints]
    points = [r.ContinuationPoint for r in results[:most]]
    release = ua.BrowseNextRequest(Parameters=ua.BrowseNextParameters(True, points))
    assert await talk.outcome(release) == [0] * most
    assert await talk.outcome(release) == [CODES.BadContinuationPointInvalid] * most


@pytest.mark.parametrize("index", [2, 3])
async def test_our_namespaces_are_described(talk: Conversation, index: int) -> None:
    # Part 5 6.3.13: every namespace but the server's own has its NamespaceMetadata.
    (result,) = (await talk.call(browse(f"ns={index};s=NamespaceMetadata"))).Results
    names = {r.BrowseName.Name: r.NodeId for r in result.References}
    found = {name: (await talk.read(node)).Value.Value for name, node in names.items()}
    assert found["NamespaceUri"] == [TYPES_URI, SITE_URI][index - 2]
    assert found["NamespaceVersion"]
    assert found["NamespacePublicationDate"] is not None
    assert found["IsNamespaceSubset"] is False
    assert await talk.outcome(read("i=11715", ua.AttributeIds.NodeClass)) == [0]


async def test_the_profiles_are_those_of_the_decision(talk: Conversation) -> None:
    # Part 7: a promise; docs/decisions/0007-profiles.md says what each rests on.
    listed = await value(talk, "Server_ServerCapabilities_ServerProfileArray")
    decision = (Path(__file__).parents[2] / "docs/decisions/0007-profiles.md").read_text()
    assert {uri.rpartition("/")[2] for uri in listed} == set(re.findall(r"^\| `(\w+)` \|", decision, re.MULTILINE))


TYPES = {
    "Base Info Core Types Folders": ("TypesFolder", "ObjectTypesFolder", "VariableTypesFolder", "DataTypesFolder",
                                     "ReferenceTypesFolder"),
    "Base Info Core Views Folder": ("ViewsFolder",),
    "Base Info Base Types": ("BaseObjectType", "FolderType", "DataTypeEncodingType", "ModellingRuleType",
                             "BaseVariableType", "PropertyType", "BaseDataVariableType", "NumericRange", "Duration",
                             "UtcTime", "EnumValueType", "EnumValueType_Encoding_DefaultBinary", "Union",
                             "HasModellingRule", "HasEncoding", "Aggregates", "ModellingRule_ExposesItsArray",
                             "ModellingRule_OptionalPlaceholder", "ModellingRule_MandatoryPlaceholder"),
    "Base Info Date DataTypes": ("DateString", "TimeString", "DurationString"),
    "Base Info Decimal DataType": ("Decimal", "Number"),
    "Base Info Method Argument DataType": ("Argument", "Argument_Encoding_DefaultBinary",
                                           "Argument_Encoding_DefaultXml"),
    "Base Info ServerType": ("ServerType", "ServerCapabilitiesType", "ServerDiagnosticsType", "ServerRedundancyType",
                             "ServerStatusType", "BuildInfoType", "ServerVendorCapabilityType"),
    "Base Info Locations Object": ("Locations",),
}  # fmt: skip
"""Conformance unit of the Standard 2022 UA Server Profile -> nodes of namespace 0 it names."""


@pytest.mark.parametrize("unit", TYPES)
async def test_types_a_conformance_unit_names_are_there(talk: Conversation, unit: str) -> None:
    nodes = [f"i={getattr(IDS, name)}" for name in TYPES[unit]]
    found = await talk.outcome(
        reads(*[ua.ReadValueId(NodeId=nid(n), AttributeId=ua.AttributeIds.BrowseName) for n in nodes])
    )
    assert found == [0] * len(nodes)


@pytest.mark.parametrize(
    "name",
    ["MaxSubscriptions", "MaxMonitoredItems", "MaxSubscriptionsPerSession", "MaxMonitoredItemsPerSubscription",
     "MaxMonitoredItemsQueueSize", "MaxSessions", "MaxArrayLength", "MaxStringLength", "MaxByteStringLength",
     "MinSupportedSampleRate", "MaxBrowseContinuationPoints", "OperationLimits_MaxMonitoredItemsPerCall",
     "OperationLimits_MaxNodesPerRegisterNodes"],
)  # fmt: skip
async def test_capacities_a_conformance_unit_names_are_published(talk: Conversation, name: str) -> None:
    # Base Info Server Capabilities 2, Subscriptions and MaxMonitoredItemsQueueSize.
    assert await value(talk, f"Server_ServerCapabilities_{name}") > 0


async def test_writes_of_any_value_are_atomic_and_of_parts_of_an_array_allowed(talk: Conversation) -> None:
    # Address Space Atomicity, Address Space Full Array Only (Part 3 8.58): no flag says otherwise.
    for node in ("Scalar.Int32", "Array.Int32"):
        found = await talk.read(nid(node), ua.AttributeIds.AccessLevelEx)
        assert found.Value.Value >> 8 == 0
