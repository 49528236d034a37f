"""Browse in bytes against asyncua's own decoder and encoder."""

from dataclasses import replace
from typing import Any

from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import struct_from_binary, struct_to_binary
from hypothesis import given
from hypothesis import strategies as st

from opcua_server.services import browsing
from opcua_server.services.limits import Limits
from opcua_server.services.locales import Locales, languages
from opcua_server.services.seams import UNREADABLE
from opcua_server.services.status import Fault
from opcua_server.services.wire import Wire
from tests.property.test_wire import localized, names, node_ids, texts

WIRE = Wire(Limits())
NUMBERS = st.integers(0, 2**32 - 1)
MASK = ua.BrowseResultMask
TEXTS = {"Level": {"de": "Füllstand", "fr": "Niveau"}, "Device": {"ja": "装置"}}

selections = st.tuples(
    st.sampled_from(ua.BrowseDirection), node_ids, st.booleans(), st.one_of(st.just(0), NUMBERS), st.integers(0, 63)
)
descriptions = st.one_of(
    st.builds(lambda node, rest: ua.BrowseDescription(node, *rest), node_ids, selections),
    st.builds(ua.BrowseDescription, node_ids),
)
requests = st.builds(
    lambda view, version, most, nodes: ua.BrowseParameters(
        ua.ViewDescription(ViewId=view, ViewVersion=version), most, nodes
    ),
    node_ids,
    NUMBERS,
    NUMBERS,
    st.lists(descriptions, max_size=5),
)


def same(body: bytes) -> bool:
    """Whether both decoders read the same in it."""
    expected = struct_from_binary(ua.BrowseParameters, Buffer(body))
    found = browsing.parameters(b"before" + body, len(b"before"))
    operations = [
        ua.BrowseDescription(d.NodeId, *(getattr(d.selection, name) for name in d.selection.__slots__))
        for d in found.NodesToBrowse
    ]
    return ua.BrowseParameters(found.View, found.RequestedMaxReferencesPerNode, operations) == expected


@given(requests)
def test_a_request_is_read_as_by_the_library(request: Any) -> None:
    assert same(struct_to_binary(request))


@given(requests, st.data())
def test_a_changed_request_is_read_as_by_the_library(request: Any, data: st.DataObject) -> None:
    # What the check of bytes lets through is all a decoder may rely on.
    encoded = bytearray(struct_to_binary(request))
    at = data.draw(st.integers(0, len(encoded) - 1))
    encoded[at : at + data.draw(st.sampled_from([1, 0, 4]))] = data.draw(st.binary(min_size=1, max_size=4))
    try:
        WIRE.check(ua.BrowseParameters, bytes(encoded))
        struct_from_binary(ua.BrowseParameters, Buffer(bytes(encoded)))
    except (Fault, *UNREADABLE):
        return
    assert same(bytes(encoded))


display_names = st.one_of(
    localized, st.builds(ua.LocalizedText, st.sampled_from(sorted(TEXTS)), st.sampled_from([None, "en", "de"]))
)
references = st.builds(
    ua.ReferenceDescription,
    node_ids,
    st.booleans(),
    st.one_of(node_ids, st.builds(ua.ExpandedNodeId, st.integers(0, 9), st.just(2), st.none(), texts)),
    names,
    display_names,
    st.sampled_from(ua.NodeClass),
    node_ids,
)
preferences = st.lists(st.sampled_from(["de-DE", "de", "fr", "JA", "en", "en-US", "xx"]), max_size=4)


def shown(reference: Any, mask: int, wanted: list[str], translations: Locales) -> Any:
    """The ReferenceDescription with the fields of a mask (5.9.2), and its text in the first of the languages."""
    empty = ua.ReferenceDescription(IsForward=False)
    hidden = [
        name
        for name in ("ReferenceTypeId", "IsForward", "NodeClass", "BrowseName", "DisplayName", "TypeDefinition")
        if not mask & MASK[name]
    ]
    translated = replace(reference, DisplayName=translations.text(reference.DisplayName, wanted))
    return replace(translated, **{name: getattr(empty, name) for name in hidden})


@given(st.lists(references, max_size=3), st.integers(0, 63), preferences, st.one_of(st.none(), st.binary(max_size=16)))
def test_an_answer_is_encoded_as_by_the_library(
    found: list[Any], mask: int, wanted: list[str], point: bytes | None
) -> None:
    translations = Locales()
    translations.add(TEXTS)
    form = browsing.Form(mask, languages(wanted), translations)
    expected = ua.BrowseResult(
        ContinuationPoint=point, References=[shown(r, mask, wanted, translations) for r in found]
    )
    assert browsing.result([form.encoded(r) for r in found], point) == struct_to_binary(expected)
