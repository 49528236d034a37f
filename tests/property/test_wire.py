"""The walk over encoded requests against asyncua's own encoder and decoder."""

import uuid
from datetime import UTC, datetime
from typing import Any

from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import struct_from_binary, struct_to_binary
from hypothesis import given
from hypothesis import strategies as st

from opcua_server.services.limits import Limits
from opcua_server.services.seams import UNREADABLE
from opcua_server.services.status import Fault
from opcua_server.services.wire import Wire

WIRE = Wire(Limits())
T = ua.VariantType

texts = st.one_of(st.none(), st.text(st.characters(codec="utf-8"), max_size=10))
node_ids = st.one_of(
    st.builds(ua.NodeId, st.integers(0, 2**32 - 1), st.integers(0, 300)),
    st.builds(ua.NodeId, st.text(st.characters(codec="utf-8"), min_size=1, max_size=8), st.integers(0, 300)),
    st.builds(ua.NodeId, st.builds(uuid.uuid4), st.integers(0, 300)),
    st.builds(lambda b, n: ua.NodeId(b, n, ua.NodeIdType.ByteString), st.binary(min_size=1, max_size=8), st.just(3)),
)
names = st.builds(ua.QualifiedName, texts, st.integers(0, 100))
localized = st.builds(ua.LocalizedText, texts, texts)
plain = st.one_of(
    st.just(ua.Variant()),
    st.builds(ua.Variant, st.booleans()),
    st.builds(lambda x: ua.Variant(x, T.Int64), st.integers(-(2**63), 2**63 - 1)),
    st.builds(lambda x: ua.Variant(x, T.Double), st.floats()),
    st.builds(lambda x: ua.Variant(x, T.String), texts),
    st.builds(lambda x: ua.Variant(x, T.ByteString), st.binary(max_size=9)),
    st.builds(lambda x: ua.Variant(x, T.Guid), st.builds(uuid.uuid4)),
    st.builds(lambda x: ua.Variant(x, T.NodeId), node_ids),
    st.builds(lambda x: ua.Variant(x, T.LocalizedText), localized),
    st.builds(lambda x: ua.Variant(x, T.QualifiedName), names),
    st.just(ua.Variant(datetime(2026, 1, 1, tzinfo=UTC), T.DateTime)),
    st.just(ua.Variant(ua.Range(Low=0, High=1), T.ExtensionObject)),
    st.just(ua.Variant(ua.StatusCode(0x80010000), T.StatusCode)),
    st.builds(lambda x: ua.Variant(x, T.Int32), st.lists(st.integers(-5, 5), max_size=5)),
    st.builds(lambda x: ua.Variant(x, T.String), st.lists(texts, max_size=5)),
    st.builds(lambda x: ua.Variant(x, T.Double, [2, 3]), st.just([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])),
)
variants = st.recursive(
    plain,
    lambda inner: st.one_of(
        st.builds(lambda x: ua.Variant(x, T.Variant), st.lists(inner, max_size=3)),
        st.builds(lambda x: ua.Variant(ua.DataValue(x), T.DataValue), inner),
        st.builds(lambda x: ua.Variant(ua.LiteralOperand(Value=x), T.ExtensionObject), inner),
    ),
    max_leaves=6,
)
requests: st.SearchStrategy[Any] = st.one_of(
    st.builds(
        lambda ids, text: ua.ReadParameters(NodesToRead=[ua.ReadValueId(NodeId=i, IndexRange=text) for i in ids]),
        st.lists(node_ids, max_size=4),
        texts,
    ),
    st.builds(
        lambda ids, value: ua.WriteParameters(
            NodesToWrite=[ua.WriteValue(NodeId=i, AttributeId=13, Value=ua.DataValue(value)) for i in ids]
        ),
        st.lists(node_ids, max_size=3),
        variants,
    ),
    st.builds(
        lambda i, values: ua.CallParameters(
            MethodsToCall=[ua.CallMethodRequest(ObjectId=i, MethodId=i, InputArguments=values)]
        ),
        node_ids,
        st.lists(variants, max_size=4),
    ),
    st.builds(
        lambda i, n, filter_: ua.CreateMonitoredItemsParameters(
            ItemsToCreate=[
                ua.MonitoredItemCreateRequest(
                    ItemToMonitor=ua.ReadValueId(NodeId=i, DataEncoding=n),
                    RequestedParameters=ua.MonitoringParameters(Filter=filter_),
                )
            ]
        ),
        node_ids,
        names,
        st.one_of(
            st.builds(lambda deadband: ua.DataChangeFilter(DeadbandValue=deadband), st.floats()),
            st.builds(
                lambda literal: ua.EventFilter(
                    WhereClause=ua.ContentFilter([ua.ContentFilterElement(FilterOperands=[ua.LiteralOperand(literal)])])
                ),
                variants,
            ),
        ),
    ),
    st.builds(
        lambda i, n: ua.TranslateBrowsePathsToNodeIdsParameters(
            BrowsePaths=[
                ua.BrowsePath(
                    StartingNode=i, RelativePath=ua.RelativePath(Elements=[ua.RelativePathElement(TargetName=n)])
                )
            ]
        ),
        node_ids,
        names,
    ),
)


def passes(kind: type, data: bytes) -> bool:
    try:
        WIRE.check(kind, data)
    except Fault:
        return False
    return True


@given(requests)
def test_what_an_encoder_made_passes(request: Any) -> None:
    assert passes(type(request), struct_to_binary(request))


@given(requests, st.data())
def test_what_passes_is_read_to_its_last_byte(request: Any, data: st.DataObject) -> None:
    """Whatever bytes are changed: no length that passed leads the decoder elsewhere, or to another kind of error."""
    encoded = bytearray(struct_to_binary(request))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(encoded) - 1))
        encoded[at : at + data.draw(st.sampled_from([1, 0, 4]))] = data.draw(st.binary(min_size=1, max_size=4))
    if not passes(type(request), bytes(encoded)):
        return
    buffer = Buffer(bytes(encoded))
    try:
        struct_from_binary(type(request), buffer)
    except UNREADABLE:
        return  # an enumeration without that number, a date beyond the calendar
    assert len(buffer) == 0
