"""What is generated is current, well formed, and taken by the stack without a complaint."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from asyncua import Server, ua

from compliance.states import DISPOSITION, EXECUTION, SETTLES
from nodesets import generate, ids
from nodesets.declarations import Declaration
from nodesets.methods import METHODS
from nodesets.types import ENUMS, NODESET, TYPES, described, state_name
from opcua_server.services import nodes

SPACE = {"n": generate.SCHEMA}


@pytest.mark.parametrize("path", generate.files(), ids=lambda p: p.name)
def test_a_generated_file_is_current(path: Path) -> None:
    # The tables are the source; a file edited by hand, or forgotten, would tell clients something else.
    assert path.read_text("utf-8") == generate.files()[path], "run: python -m nodesets.generate"


def test_the_namespace_is_the_one_the_server_reserves() -> None:
    assert ids.TYPES_URI == nodes.TYPES_URI


def test_the_stack_imports_the_nodeset_strictly() -> None:
    # Strict: the first node the importer cannot place raises.
    async def imported() -> tuple[Server, list[ua.NodeId]]:
        server = Server()
        await server.init()
        return server, await server.import_xml(NODESET)

    server, added = asyncio.run(imported())
    wanted = {n.attrib["NodeId"] for n in ET.parse(NODESET).iter() if "NodeId" in n.attrib}
    assert len(added) == len(wanted)
    create = server.iserver.aspace[ua.NodeId("BatchControlType.CreateBatch.InputArguments", 2)]
    arguments = create.attributes[ua.AttributeIds.Value].value.Value.Value
    assert [a.Name for a in arguments] == [a.name for a in METHODS["BatchControl.CreateBatch"].inputs]


def test_every_reference_of_the_nodeset_has_two_ends() -> None:
    root = ET.parse(NODESET).getroot()
    known = {n.attrib["NodeId"] for n in root if "NodeId" in n.attrib}
    targets = {r.text for r in root.iter(f"{{{generate.SCHEMA}}}Reference")}
    assert {t for t in targets if t and t.startswith("ns=1")} <= known


def test_every_state_has_a_constant_for_the_id_of_current_state() -> None:
    # CurrentState.Id is how a client knows a state in any language (Part 16 4.4.5).
    for name, machine in TYPES.items():
        for state in machine.states:
            assert getattr(ids, f"{name}_{state}") == f"{name}.{state}"


def test_no_number_is_given_twice() -> None:
    # A type's number is its NodeId in clients' stored filters.
    numbers = [t.number for t in TYPES.values()] + [number for number, _ in ENUMS.values()]
    assert len(numbers) == len(set(numbers))


def declarations(members: tuple[Declaration, ...]) -> Iterator[Declaration]:
    for member in members:
        yield member
        yield from declarations(member.members)


@pytest.mark.parametrize("name", TYPES)
def test_a_type_needs_no_wide_integer_and_says_what_its_members_are(name: str) -> None:
    # Plant SCADA reads no 64-bit integers; UaExpert users read descriptions. Text must be Latin-1 for WinCC OA.
    for member in declarations(TYPES[name].members):
        assert member.data_type not in ("Int64", "UInt64")
        text = described(member)
        assert len(text.encode("latin-1")) <= 254
        assert (
            text
            or member.rule == "OptionalPlaceholder"
            or name.endswith("EventType")
            or member.name == "InstrumentRange"
        )


def test_the_batch_machines_show_the_transitions_that_compliance_allows() -> None:
    execution = {(state_name(a), state_name(b)) for (a, _), b in EXECUTION.items()}
    execution |= {(state_name(a), state_name(b)) for a, b in SETTLES.items()}
    assert set(TYPES["BatchExecutionStateMachineType"].transitions) == execution
    disposition = {(state_name(a), state_name(b)) for (a, _), b in DISPOSITION.items()}
    assert set(TYPES["BatchDispositionStateMachineType"].transitions) == disposition


def test_a_machine_has_no_state_that_cannot_be_reached() -> None:
    for machine in (t for t in TYPES.values() if t.states):
        initial, *others = machine.states
        assert {end for _, end in machine.transitions} >= set(others)
        assert {s for edge in machine.transitions for s in edge} <= set(machine.states), initial
