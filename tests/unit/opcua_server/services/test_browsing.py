"""Responses to Browse and BrowseNext in bytes, and what is kept for them."""

from datetime import UTC, datetime
from typing import Any

import pytest
from asyncua import ua
from asyncua.server.address_space import AddressSpace
from asyncua.ua.ua_binary import struct_to_binary

from opcua_server.services import browsing
from opcua_server.services.locales import Locales
from opcua_server.services.nodes import Instance, Member, NodeClass, Template
from opcua_server.services.tree import EVERYTHING, KEPT, Described, Tree, Wanted

CODES, IDS = ua.StatusCodes, ua.ObjectIds
WHEN = datetime(2026, 3, 4, 5, 6, 7, 891234, UTC)
REFERENCE = ua.ReferenceDescription(BrowseName=ua.QualifiedName("Level", 2), NodeClass=ua.NodeClass.Variable)
RESULTS = [
    ua.BrowseResult(References=[REFERENCE, REFERENCE], ContinuationPoint=b"point"),
    ua.BrowseResult(StatusCode=ua.StatusCode(CODES.BadNodeIdUnknown)),
]
TANK = Template(
    name="Tank",
    members=(
        Member(path="", node_class=NodeClass.VIEW, browse_name=ua.QualifiedName("Tank", 2)),
        Member(path="Empty", node_class=NodeClass.METHOD, browse_name=ua.QualifiedName("Empty", 2)),
    ),
)


@pytest.mark.parametrize("results", [[], RESULTS], ids=["nothing", "pages and a refusal"])
def test_responses_are_encoded_as_by_the_library(results: list[Any]) -> None:
    header = ua.ResponseHeader(Timestamp=WHEN, RequestHandle=4711)
    whole = ua.BrowseResponse(ResponseHeader=header, Results=results)
    following = ua.BrowseNextResponse(ResponseHeader=header, Parameters=ua.BrowseNextResult(Results=results))
    for expected, type_id in (
        (whole, IDS.BrowseResponse_Encoding_DefaultBinary),
        (following, IDS.BrowseNextResponse_Encoding_DefaultBinary),
    ):
        made = browsing.Response(type_id, [struct_to_binary(r) for r in results])
        made.ResponseHeader = header
        assert made.encoded() == struct_to_binary(expected)


def test_a_refusal_is_encoded_as_by_the_library() -> None:
    assert browsing.result([], status=CODES.BadNodeIdUnknown) == struct_to_binary(RESULTS[1])


def test_what_is_kept_for_a_member_is_bounded() -> None:
    # A client may ask with as many masks, languages and types as there are; the server must not grow by it.
    storage = AddressSpace()
    parent = ua.NodeId(IDS.ObjectsFolder)
    storage._nodes[parent] = object()
    tree = Tree(storage)
    tree.replace([Instance(template=TANK, prefix="T", parent=parent)], ())
    node = tree.find(ua.NodeId("T", 3))
    assert node is not None
    (reference,) = (r for r in tree.references(node, Wanted(forward=True)) if isinstance(r, Described))
    for mask in range(3 * KEPT):
        list(tree.references(node, EVERYTHING._replace(forward=True, classes=mask)))
        browsing.Form(mask, (), Locales()).encoded(reference)
    assert len(node[1].forward) <= KEPT
    assert len(reference.part.encoded) <= KEPT
