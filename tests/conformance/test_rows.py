"""Rows: clause of the specification, what is asked, the StatusCodes of the answer. Each over None and SignAndEncrypt.

A list holds the codes of the operations, a number is that of the ServiceFault. The nodes are those of
`opcua_server/plant/conformance.py`; rows leave each as a later row may find it.
"""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from asyncua import ua

from opcua_server.plant.conformance import VALUES
from tests.conformance.plant import (
    CODES,
    Conversation,
    browse,
    call,
    double,
    int32,
    nid,
    read,
    reads,
    translate,
    write,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

A, T = ua.AttributeIds, ua.VariantType
GOOD = [0]
NOW = datetime(2026, 1, 1, tzinfo=UTC)
HUGE = 11_000


def viewed(path: str, view: str, **further: Any) -> ua.BrowseRequest:
    """Browse within a view."""
    request = browse(path)
    fields = {"Timestamp": datetime(1601, 1, 1, tzinfo=UTC)} | further
    request.Parameters.View = ua.ViewDescription(ViewId=ua.NodeId(view, 3), **fields)
    return request


READ = [
    ("5.11.2.2", read("Scalar.Int32"), GOOD),
    ("5.11.2.2", reads(), CODES.BadNothingToDo),
    ("5.11.2.2", reads(ua.ReadValueId(), max_age := ua.ReadValueId(NodeId=nid("Scalar.Int32"), AttributeId=A.Value)),
     [CODES.BadNodeIdUnknown, 0]),
    ("5.11.2.2", reads(max_age, MaxAge=-1.0), CODES.BadMaxAgeInvalid),
    ("5.11.2.2", reads(max_age, MaxAge=0.0), GOOD),
    ("5.11.2.2", reads(max_age, MaxAge=2.0**31), GOOD),
    ("5.11.2.2", reads(max_age, TimestampsToReturn=4), CODES.BadTimestampsToReturnInvalid),
    ("5.11.2.2", reads(max_age, TimestampsToReturn=42), CODES.BadTimestampsToReturnInvalid),
    ("5.11.2.2", reads(*[max_age] * HUGE), CODES.BadTooManyOperations),
    ("5.11.2.4", read("Nowhere"), [CODES.BadNodeIdUnknown]),
    ("5.11.2.4", read("Methods"), [CODES.BadAttributeIdInvalid]),
    ("5.11.2.4", read("Scalar.Int32", 99), [CODES.BadAttributeIdInvalid]),
    ("Part 3 5.6.5", read("i=63"), [CODES.BadAttributeIdInvalid]),
    ("Part 3 5.8.3", read("i=6", A.DataTypeDefinition), [CODES.BadAttributeIdInvalid]),
    ("5.11.2.4", read("Scalar.Int32", 0), [CODES.BadAttributeIdInvalid]),
    ("5.11.2.4", read("Access.WriteOnly"), [CODES.BadNotReadable]),
    ("5.11.2.4", read("Access.None"), [CODES.BadNotReadable]),
    ("Part 3 5.6.2", read("Access.EngineerOnly"), [CODES.BadUserAccessDenied]),
    ("7.27", read("Array.Int32", IndexRange="1:2"), GOOD),
    ("7.27", read("Array.Int32", IndexRange="0"), GOOD),
    ("7.27", read("Array.Int32", IndexRange="3:99"), GOOD),
    ("7.27", read("Array.Int32", IndexRange="99"), [CODES.BadIndexRangeNoData]),
    ("7.27", read("Array.Int32", IndexRange="2:1"), [CODES.BadIndexRangeInvalid]),
    ("7.27", read("Array.Int32", IndexRange="1:1"), [CODES.BadIndexRangeInvalid]),
    ("7.27", read("Array.Int32", IndexRange="-1"), [CODES.BadIndexRangeInvalid]),
    ("7.27", read("Array.Int32", IndexRange="abc"), [CODES.BadIndexRangeInvalid]),
    ("7.27", read("Array.Int32", IndexRange="1,"), [CODES.BadIndexRangeInvalid]),
    ("7.27", read("Array.Int32", IndexRange="0,0"), [CODES.BadIndexRangeNoData]),
    ("7.27", read("Matrix.Int32", IndexRange="0:1,1:2"), GOOD),
    ("7.27", read("Matrix.Int32", IndexRange="0,9"), [CODES.BadIndexRangeNoData]),
    ("7.27", read("Scalar.Int32", IndexRange="0:1"), [CODES.BadIndexRangeNoData]),
    ("5.11.2.2", read("Scalar.Int32", DataEncoding=ua.QualifiedName("Nothing")), [CODES.BadDataEncodingInvalid]),
    ("5.11.2.2", read("Scalar.Int32", A.DisplayName, DataEncoding=ua.QualifiedName("Default Binary")),
     [CODES.BadDataEncodingInvalid]),
    ("5.11.2.2", read("Scalar.Structure", DataEncoding=ua.QualifiedName("Default Binary")), GOOD),
    ("5.11.2.2", read("Scalar.Structure", DataEncoding=ua.QualifiedName("Nothing")),
     [CODES.BadDataEncodingUnsupported]),
    ("5.11.2.2", read("Scalar.Int32", DataEncoding=ua.QualifiedName("Default Binary")),
     [CODES.BadDataEncodingInvalid]),
    ("5.11.2.2", read("Scalar.Structure", DataEncoding=ua.QualifiedName("Default Binary", 1)),
     [CODES.BadDataEncodingUnsupported]),
    ("7.27", read("Array.Int32", IndexRange="4294967295"), [CODES.BadIndexRangeNoData]),
    ("7.27", read("Array.Int32", IndexRange="0:4294967295"), GOOD),
    ("7.27", read("Array.Int32", IndexRange="4294967296"), [CODES.BadIndexRangeInvalid]),
    ("7.27", read("Matrix.Int32", IndexRange="0"), [CODES.BadIndexRangeNoData]),
    ("7.27", read("Array.String", IndexRange="1,0"), GOOD),
    ("7.27", read("Scalar.String", IndexRange="0,0"), [CODES.BadIndexRangeNoData]),
]  # fmt: skip

WRITE = [
    ("5.11.4", write("Scalar.Int32", 1, T.Int32), GOOD),
    ("5.11.4", ua.WriteRequest(), CODES.BadNothingToDo),
    ("5.11.4.4", write("Nowhere", 1, T.Int32), [CODES.BadNodeIdUnknown]),
    ("5.11.4.4", write("Scalar.Int32", 1, T.Int32, attribute=99), [CODES.BadAttributeIdInvalid]),
    ("5.11.4.4", write("Methods", 1, T.Int32), [CODES.BadAttributeIdInvalid]),
    ("5.11.4.4", write("Scalar.Int32", ua.LocalizedText("x"), attribute=A.DisplayName), [CODES.BadNotWritable]),
    ("5.11.4.4", write("Scalar.Int32", "one", T.String), [CODES.BadTypeMismatch]),
    ("5.11.4.4", write("Scalar.Int32", 1, T.Int16), [CODES.BadTypeMismatch]),
    ("5.11.4.4", write("Scalar.Int32", None, T.Null), [CODES.BadTypeMismatch]),
    ("5.11.4.4", write("Scalar.Int32", ua.Variant([1], T.Int32)), [CODES.BadTypeMismatch]),
    ("5.11.4.4", write("Array.Int32", 1, T.Int32), [CODES.BadTypeMismatch]),
    ("5.11.4.4", write("Array.Int32", ua.Variant([[1], [2]], T.Int32)), [CODES.BadTypeMismatch]),
    ("5.11.4.4", write("Matrix.Int32", ua.Variant([1, 2], T.Int32)), [CODES.BadTypeMismatch]),
    ("5.11.4", write("Array.Int32", ua.Variant([9, 8, 7, 6, 5], T.Int32)), GOOD),
    ("5.11.4", write("Matrix.Int32", ua.Variant([[0, 1, 2], [3, 4, 5]], T.Int32)), GOOD),
    ("5.11.4.2", write("Array.Byte", b"\x01\x02\x03\x04\x05", T.ByteString), GOOD),
    ("5.11.4.4", write("Access.ReadOnly", 1, T.Int32), [CODES.BadNotWritable]),
    ("5.11.4.4", write("Access.None", 1, T.Int32), [CODES.BadNotWritable]),
    ("5.11.4", write("Access.WriteOnly", 1, T.Int32), GOOD),
    ("5.11.4", write("Access.OperatorWrites", 1, T.Int32), GOOD),
    ("5.11.4.4", write("Access.EngineerOnly", 1, T.Int32), [CODES.BadUserAccessDenied]),
    ("5.11.4.4", write("i=2259", 1, T.Int32), [CODES.BadNotWritable]),
    ("5.11.4.4", write("i=2294", False, T.Boolean), [CODES.BadUserAccessDenied]),
    ("5.11.4", write("Scalar.Int32", 1, T.Int32, StatusCode=ua.StatusCode(CODES.UncertainLastUsableValue)), GOOD),
    ("5.11.4", write("Scalar.Int32", 1, T.Int32, SourceTimestamp=NOW), GOOD),
    ("5.11.4", write("Access.ValueOnly", 1, T.Int32), GOOD),
    ("5.11.4.4", write("Access.ValueOnly", 1, T.Int32, SourceTimestamp=NOW), [CODES.BadWriteNotSupported]),
    ("5.11.4.4", write("Access.ValueOnly", 1, T.Int32, StatusCode=ua.StatusCode(CODES.BadTimeout)),
     [CODES.BadWriteNotSupported]),
    ("7.27", write("Array.Int32", ua.Variant([1, 2], T.Int32), index_range="1:2"), GOOD),
    ("7.27", write("Array.Int32", ua.Variant([1, 2, 3], T.Int32), index_range="1:2"),
     [CODES.BadIndexRangeDataMismatch]),
    ("7.27", write("Array.Int32", ua.Variant([1], T.Int32), index_range="99"), [CODES.BadIndexRangeNoData]),
    ("7.27", write("Array.Int32", ua.Variant([1], T.Int32), index_range="2:1"), [CODES.BadIndexRangeInvalid]),
    ("7.27", write("Array.Int32", ua.Variant(["a"], T.String), index_range="1"), [CODES.BadTypeMismatch]),
    ("7.27", write("Matrix.Int32", ua.Variant([[7]], T.Int32), index_range="1,1"), GOOD),
    ("7.27", write("Scalar.Int32", 1, T.Int32, index_range="1"), [CODES.BadIndexRangeNoData]),
    ("7.27", write("Scalar.String", "abcdef", T.String), GOOD),
    ("7.27", write("Scalar.String", "XY", T.String, index_range="1:2"), GOOD),
    ("Part 8 5.3.2", write("Analog.Double", 99.0, T.Double), GOOD),
    ("Part 8 5.3.2", write("Analog.Double", 101.0, T.Double), [CODES.BadOutOfRange]),
    ("Part 8 5.3.2", write("Analog.Double", float("nan"), T.Double), [CODES.BadOutOfRange]),
    ("Part 8 5.3.3", write("Discrete.TwoState", True, T.Boolean), GOOD),
    ("Part 8 5.3.3", write("Discrete.MultiState", 2, T.UInt32), GOOD),
    ("Part 8 5.3.3", write("Discrete.MultiState", 3, T.UInt32), [CODES.BadOutOfRange]),
    ("Part 8 5.3.3", write("Discrete.MultiStateValue", 4, T.Int32), GOOD),
    ("Part 8 5.3.3", write("Discrete.MultiStateValue", 3, T.Int32), [CODES.BadOutOfRange]),
    ("7.27", write("Matrix.Int32", ua.Variant([7], T.Int32), index_range="1"), [CODES.BadIndexRangeNoData]),
    ("5.11.4.4", write("Scalar.Structure", ua.EUInformation(), T.ExtensionObject), [CODES.BadTypeMismatch]),
    ("5.11.4.4", write("Scalar.Structure", ua.ExtensionObject(ua.NodeId(99, 9), b"1"), T.ExtensionObject),
     [CODES.BadTypeMismatch]),
    ("5.11.4.4", write("Scalar.Structure", ua.Range(Low=0.0, High=1.0), T.ExtensionObject), GOOD),
    ("5.11.4.4", write("Array.Structure", ua.Variant([ua.Range(), ua.EUInformation()], T.ExtensionObject)),
     [CODES.BadTypeMismatch]),
    ("5.11.4.4", write("Scalar.Enumeration", 7, T.Int32), GOOD),
    ("5.11.4.4", write("Scalar.Enumeration", 8, T.Int32), [CODES.BadOutOfRange]),
    ("5.11.4.4", write("Scalar.Enumeration", 0, T.UInt32), [CODES.BadTypeMismatch]),
    ("7.11", write("Scalar.Int32", None, T.Null, StatusCode=ua.StatusCode(CODES.BadTimeout)), GOOD),
    ("5.11.4", write("Scalar.Int32", 1, T.Int32), GOOD),
    *[("5.11.4.4", write("Scalar.Int32", 1, T.UInt32, attribute=a), [CODES.BadNotWritable])
      for a in (A.NodeId, A.NodeClass, A.WriteMask, A.AccessLevel, A.AccessLevelEx, A.RolePermissions)],
    *[("5.11.4.4", write("Scalar.Int32", 1, T.UInt32, attribute=a), [CODES.BadAttributeIdInvalid])
      for a in (A.IsAbstract, A.InverseName, A.EventNotifier, A.Executable, A.DataTypeDefinition)],
    ("Part 3 8.2", write("Scalar.Number", 1.5, T.Double), GOOD),
    ("Part 3 8.2", write("Scalar.Number", "x", T.String), [CODES.BadTypeMismatch]),
    ("Part 3 8.2", write("Scalar.Integer", 1, T.Int64), GOOD),
    ("Part 3 8.2", write("Scalar.Integer", 1, T.UInt32), [CODES.BadTypeMismatch]),
    ("Part 3 8.2", write("Scalar.Variant", "x", T.String), GOOD),
]  # fmt: skip

VIEW = [
    ("5.9.2", browse(""), GOOD),
    ("5.9.2", ua.BrowseRequest(), CODES.BadNothingToDo),
    ("5.9.2.4", browse("Nowhere"), [CODES.BadNodeIdUnknown]),
    ("5.9.2.4", browse("", ReferenceTypeId=nid("")), [CODES.BadReferenceTypeIdInvalid]),
    ("5.9.2.4", browse("", ReferenceTypeId=ua.NodeId(999_999)), [CODES.BadReferenceTypeIdInvalid]),
    ("5.9.2.4", browse("", BrowseDirection=3), [CODES.BadBrowseDirectionInvalid]),
    ("5.9.2.4", browse("", BrowseDirection=99), [CODES.BadBrowseDirectionInvalid]),
    ("5.9.2.4", viewed("", "PlaygroundView"), GOOD),
    ("5.9.2.4", viewed("i=2253", "PlaygroundView"), [CODES.BadNodeNotInView]),
    ("5.9.2.4", viewed("", "Playground"), CODES.BadViewIdUnknown),
    ("5.9.2.4", viewed("", "Nowhere"), CODES.BadViewIdUnknown),
    ("7.44", viewed("", "PlaygroundView", ViewVersion=1), CODES.BadViewVersionInvalid),
    ("7.44", viewed("", "PlaygroundView", Timestamp=datetime(2000, 1, 1, tzinfo=UTC)), CODES.BadViewTimestampInvalid),
    ("7.44", viewed("", "PlaygroundView", Timestamp=NOW, ViewVersion=1), CODES.BadViewParameterMismatch),
    ("5.9.3", ua.BrowseNextRequest(), CODES.BadNothingToDo),
    ("5.9.3", ua.BrowseNextRequest(Parameters=ua.BrowseNextParameters(ContinuationPoints=[b"", b"forged"])),
     [CODES.BadContinuationPointInvalid] * 2),
    ("5.9.3", ua.BrowseNextRequest(Parameters=ua.BrowseNextParameters(True, [b"forged"])),
     [CODES.BadContinuationPointInvalid]),
    ("5.9.4", translate("", "Scalar", "Int32"), GOOD),
    ("5.9.4", translate("", "Nothing"), [CODES.BadNoMatch]),
    ("5.9.4", translate("Nowhere", "Scalar"), [CODES.BadNodeIdUnknown]),
    ("5.9.4", translate("", ""), [CODES.BadBrowseNameInvalid]),
    ("5.9.4", translate(""), [CODES.BadNothingToDo]),
    ("5.9.4", ua.TranslateBrowsePathsToNodeIdsRequest(), CODES.BadNothingToDo),
    ("5.9.5", ua.RegisterNodesRequest(), CODES.BadNothingToDo),
    ("5.9.6", ua.UnregisterNodesRequest(), CODES.BadNothingToDo),
]  # fmt: skip

METHODS = [
    ("5.12.2", ua.CallRequest(), CODES.BadNothingToDo),
    ("5.12.2", call("Methods.NoArguments"), GOOD),
    ("5.12.2", call("Methods.Output"), GOOD),
    ("5.12.2", call("Methods.Input", int32(1)), GOOD),
    ("5.12.2", call("Methods.EveryType", *(ua.Variant(v[1], T[n]) for n, v in VALUES.items())), GOOD),
    ("5.12.2", call("Methods.Arrays", ua.Variant([1, 2], T.Int32), ua.Variant(["a"], T.String)), GOOD),
    ("5.12.2", call("Methods.Arrays", ua.Variant([], T.Int32, is_array=True), ua.Variant([], T.String, is_array=True)),
     GOOD),
    ("5.12.2.4", call("Methods.Add", double(1.0)), [CODES.BadArgumentsMissing]),
    ("5.12.2.4", call("Methods.Add", double(1.0), double(1.0), double(1.0)), [CODES.BadTooManyArguments]),
    ("5.12.2.4", call("Methods.Add", double(1.0), ua.Variant("x")), [CODES.BadInvalidArgument]),
    ("5.12.2.4", call("Methods.Arrays", int32(1), ua.Variant(["a"], T.String)), [CODES.BadInvalidArgument]),
    ("5.12.2.4", call("Methods.NotExecutable"), [CODES.BadNotExecutable]),
    ("5.12.2.4", call("Methods.NoArguments", on="Scalar"), [CODES.BadMethodInvalid]),
    ("5.12.2.4", call("Methods.NoArguments", on="Nowhere"), [CODES.BadNodeIdUnknown]),
    ("5.12.2.4", call("Methods.Nothing"), [CODES.BadMethodInvalid]),
    ("5.12.2.4", call("Scalar.Int32"), [CODES.BadMethodInvalid]),
    ("Part 18 4.2.2", call("i=16301", ua.Variant("x"), ua.Variant("urn:x"), on="i=15606"), [CODES.BadUserAccessDenied]),
    ("Part 5 9.1", call("i=11492", ua.Variant(0, T.UInt32), on="i=2253"), [CODES.BadSubscriptionIdInvalid]),
    ("Part 5 9.2", call("i=12873", ua.Variant(0, T.UInt32), on="i=2253"), [CODES.BadSubscriptionIdInvalid]),
    ("Part 9 5.5.7", call("i=3875", ua.Variant(0, T.UInt32), on="i=2782"), [CODES.BadSubscriptionIdInvalid]),
]  # fmt: skip

SUBSCRIPTION = [
    ("5.13.2", ua.CreateMonitoredItemsRequest(), CODES.BadNothingToDo),
    ("5.13.3", ua.ModifyMonitoredItemsRequest(), CODES.BadNothingToDo),
    ("5.13.4", ua.SetMonitoringModeRequest(), CODES.BadNothingToDo),
    ("5.13.5", ua.SetTriggeringRequest(), CODES.BadSubscriptionIdInvalid),
    ("5.13.6", ua.DeleteMonitoredItemsRequest(), CODES.BadNothingToDo),
    ("5.14.3", ua.ModifySubscriptionRequest(), CODES.BadSubscriptionIdInvalid),
    ("5.14.4", ua.SetPublishingModeRequest(), CODES.BadNothingToDo),
    ("5.14.4", ua.SetPublishingModeRequest(Parameters=ua.SetPublishingModeParameters(True, [0])),
     [CODES.BadSubscriptionIdInvalid]),
    ("5.14.5", ua.PublishRequest(), CODES.BadNoSubscription),
    ("5.14.6", ua.RepublishRequest(), CODES.BadSubscriptionIdInvalid),
    ("5.14.7", ua.TransferSubscriptionsRequest(), CODES.BadNothingToDo),
    ("5.14.7", ua.TransferSubscriptionsRequest(Parameters=ua.TransferSubscriptionsParameters([0])),
     [CODES.BadSubscriptionIdInvalid]),
    ("5.14.8", ua.DeleteSubscriptionsRequest(), CODES.BadNothingToDo),
    ("5.14.8", ua.DeleteSubscriptionsRequest(Parameters=ua.DeleteSubscriptionsParameters([0])),
     [CODES.BadSubscriptionIdInvalid]),
    ("5.7.5", ua.CancelRequest(), []),
    ("5.10", ua.QueryFirstRequest(), CODES.BadServiceUnsupported),
    ("5.5.3", ua.FindServersOnNetworkRequest(), CODES.BadServiceUnsupported),
    ("5.5.5", ua.RegisterServerRequest(), CODES.BadServiceUnsupported),
    ("5.8.2", ua.AddNodesRequest(), CODES.BadServiceUnsupported),
]  # fmt: skip


@pytest.mark.parametrize(("clause", "request_", "expected"), READ + WRITE + VIEW + METHODS + SUBSCRIPTION)
async def test_a_row(talk: Conversation, clause: str, request_: Any, expected: Any) -> None:
    named = ua.StatusCode(expected).name if isinstance(expected, int) else [ua.StatusCode(c).name for c in expected]
    found = await talk.outcome(request_)
    got = ua.StatusCode(found).name if isinstance(found, int) else [ua.StatusCode(c).name for c in found]
    assert got == named, f"Part 4 {clause}"


@pytest.mark.parametrize("name", VALUES)
async def test_every_built_in_type_is_written_and_read_back(talk: Conversation, name: str) -> None:
    # 5.11.4: the value read is the value written.
    for path, value, is_array in (
        (f"Scalar.{name}", VALUES[name][1], False),
        (f"Array.{name}", [*VALUES[name]] * 3, True),
    ):
        assert await talk.outcome(write(path, ua.Variant(value, T[name], is_array=is_array))) == GOOD
        assert (await talk.read(nid(path))).Value.Value == value


@pytest.mark.parametrize(
    ("path", "attribute", "expected"),
    [
        ("i=35", A.IsAbstract, False),
        ("i=35", A.Symmetric, False),
        ("i=33", A.IsAbstract, True),
        ("i=31", A.Symmetric, True),
        ("i=63", A.IsAbstract, False),
        ("i=62", A.IsAbstract, True),
        ("i=63", A.DataType, ua.NodeId(ua.ObjectIds.BaseDataType)),
        ("i=58", A.IsAbstract, False),
        ("i=26", A.IsAbstract, True),
        ("i=6", A.IsAbstract, False),
        ("Scalar.Int32", A.AccessLevelEx, 99),
        ("Matrix.Int32", A.ArrayDimensions, [0, 0]),
        ("Methods.NotExecutable", A.Executable, False),
        ("Methods.NotExecutable", A.UserExecutable, False),
        ("", A.EventNotifier, 5),
        ("History.Ramp", A.Historizing, True),
    ],
)
async def test_attributes_of_each_node_class(talk: Conversation, path: str, attribute: int, expected: Any) -> None:
    # Part 3 5, Part 5: asyncua's own defaults stood where the NodeSet says nothing.
    assert (await talk.read(nid(path), attribute)).Value.Value == expected


@pytest.mark.parametrize("path", ["Access.WriteOnly", "Access.EngineerOnly", "Status.Bad"])
async def test_a_bad_value_has_its_time(talk: Conversation, path: str) -> None:
    # 5.11.2.2: timestamps are returned as asked for, whatever the status.
    for stamps, source, server in ((0, True, False), (1, False, True), (2, True, True), (3, False, False)):
        item = ua.ReadValueId(NodeId=nid(path), AttributeId=A.Value)
        (found,) = (await talk.call(reads(item, TimestampsToReturn=ua.TimestampsToReturn(stamps)))).Results
        assert not found.StatusCode.is_good()
        assert (found.SourceTimestamp is not None, found.ServerTimestamp is not None) == (source, server)


async def test_structures_and_enumerations_are_defined(talk: Conversation) -> None:
    # Part 3 5.8.3: mandatory for them.
    made = (await talk.read(nid("i=862"), A.DataTypeDefinition)).Value.Value
    assert [f.Name for f in made.Fields] == [
        "StartTime", "CurrentTime", "State", "BuildInfo", "SecondsTillShutdown", "ShutdownReason",
    ]  # fmt: skip
    assert made.DefaultEncodingId == ua.NodeId(864)
    assert made.Fields[3].DataType == ua.NodeId(338)
    made = (await talk.read(nid("i=18808"), A.DataTypeDefinition)).Value.Value
    assert [(f.Name, f.DataType) for f in made.Fields] == [(n, ua.NodeId(ua.ObjectIds.Double)) for n in "XYZ"]
    made = (await talk.read(nid("i=852"), A.DataTypeDefinition)).Value.Value
    assert [(f.Name, f.Value) for f in made.Fields][:2] == [("Running", 0), ("Failed", 1)]
    made = (await talk.read(nid("i=279"), A.DataTypeDefinition)).Value.Value
    assert [f.Name for f in made.Fields][-3:] == ["References", "ContainsNoLoops", "EventNotifier"]
    assert made.BaseDataType == ua.NodeId(ua.ObjectIds.InstanceNode)


async def test_every_structure_and_enumeration_that_can_be_had_is_defined(talk: Conversation) -> None:
    # Part 3 5.8.3; of the abstract ones only those that have fields may say which.
    found, waiting = list[ua.NodeId](), [nid("i=22"), nid("i=29")]
    while waiting:
        request = browse("", ReferenceTypeId=ua.NodeId(ua.ObjectIds.HasSubtype))
        [description] = request.Parameters.NodesToBrowse
        request.Parameters.NodesToBrowse = [replace(description, NodeId=node) for node in waiting[:250]]
        results = (await talk.call(request)).Results
        waiting = waiting[250:] + [r.NodeId for result in results for r in result.References]
        found += [r.NodeId for result in results for r in result.References]
    assert len(found) > 300
    without = [
        node.to_string()
        for node in found
        if not (await talk.read(node, A.DataTypeDefinition)).StatusCode.is_good()
        and not (await talk.read(node, A.IsAbstract)).Value.Value
    ]
    assert without == []
