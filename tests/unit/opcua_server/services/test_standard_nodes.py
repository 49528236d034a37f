"""The standard nodes as we load them, against asyncua's own loading."""

import asyncio
import dataclasses
import subprocess
import sys
from typing import Any

import pytest
from asyncua import Server, ua
from asyncua.server.address_space import AddressSpace

from opcua_server.services import standard_nodes


@pytest.fixture(scope="module")
def theirs() -> AddressSpace:
    server = Server()
    asyncio.run(server.iserver.load_standard_address_space())
    return server.iserver.aspace


@pytest.fixture(scope="module")
def ours() -> AddressSpace:
    made = AddressSpace()
    standard_nodes.load(made)
    return made


def references(storage: AddressSpace, node: ua.NodeId) -> list[tuple[Any, ...]]:
    return sorted(
        (r.ReferenceTypeId.to_string(), r.IsForward, r.NodeId.to_string(), repr(r.BrowseName), repr(r.DisplayName),
         r.NodeClass, r.TypeDefinition.to_string())
        for r in storage[node].references
    )  # fmt: skip


def test_every_node_has_the_attributes_and_references_it_has_in_the_library(
    ours: AddressSpace, theirs: AddressSpace
) -> None:
    # Whoever raises the library's version learns here when its tables are to be read in another way.
    assert ours.keys() == theirs.keys()
    for node in theirs.keys():  # noqa: SIM118 - not a mapping
        wanted, made = ({a: c.value for a, c in s[node].attributes.items()} for s in (theirs, ours))
        if (value := made.get(ua.AttributeIds.Value)) is not None:
            made[ua.AttributeIds.Value] = dataclasses.replace(value, SourceTimestamp=None)
        assert made == wanted, node
        more = [r for r in references(ours, node) if r not in references(theirs, node)]
        assert references(ours, node) == sorted([*references(theirs, node), *more]), node
        assert all(not is_forward for _, is_forward, *_ in more), node


def test_every_reference_is_shown_at_both_its_ends(ours: AddressSpace) -> None:
    # Part 3 4.3.4; the library's tables have no inverse of HasTypeDefinition, HasModellingRule and more.
    shown = {(n, r.ReferenceTypeId, r.IsForward, r.NodeId) for n in ours.keys() for r in ours[n].references}  # noqa: SIM118
    assert {(target, kind, not forward, n) for n, kind, forward, target in shown} == shown


def test_what_one_node_is_written_another_does_not_show(ours: AddressSpace) -> None:
    # Values are shared, cells are not.
    one, other = (ours[ua.NodeId(n)] for n in (ua.ObjectIds.FolderType, ua.ObjectIds.BaseObjectType))
    one.attributes[ua.AttributeIds.IsAbstract].value = ua.DataValue(ua.Variant(True))
    assert other.attributes[ua.AttributeIds.IsAbstract].value.Value.Value is False
    one.attributes[ua.AttributeIds.IsAbstract].datachange_callbacks[1] = print
    assert not other.attributes[ua.AttributeIds.IsAbstract].datachange_callbacks
    assert list(one.attributes[ua.AttributeIds.IsAbstract].datachange_callbacks) == [1]


def test_the_code_of_the_tables_is_not_kept() -> None:
    # Ten megabytes of a server's memory.
    program = f"""
import sys
from asyncua.server.address_space import AddressSpace
from opcua_server.services import standard_nodes
standard_nodes.load(AddressSpace())
print([name for name in sys.modules if name.startswith({standard_nodes.TABLES!r})])
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"
