"""Nodes by template on a running server, and what clients notice when they are replaced."""

import time
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from asyncua import ua

from nodesets.model import Caller
from opcua_server.services.nodes import (
    HAS_NOTIFIER,
    HAS_PROPERTY,
    ORGANIZES,
    Instance,
    Member,
    NodeClass,
    Reference,
    Template,
)
from tests.conformance.opcua import Bench, Raw, event, nid
from tests.unit.opcua_server.services.test_view import browse, browse_next

CODES = ua.StatusCodes
IDS = ua.ObjectIds
pytestmark = pytest.mark.asyncio(loop_scope="session")
OBJECTS, SERVER = ua.NodeId(IDS.ObjectsFolder), ua.NodeId(IDS.Server)
FOLDER, VARIABLE, PROPERTY = (ua.NodeId(n) for n in (IDS.FolderType, IDS.BaseDataVariableType, IDS.PropertyType))


def member(path: str, node_class: NodeClass = NodeClass.OBJECT, **further: Any) -> Member:
    types = {NodeClass.OBJECT: FOLDER, NodeClass.VARIABLE: VARIABLE}
    name = ua.QualifiedName(path.rpartition(".")[2] or "Tank", 2)
    fields = {"type_definition": types.get(node_class)} | further
    return Member(path=path, node_class=node_class, browse_name=name, **fields)


DOUBLE = ua.NodeId(IDS.Double)
TANK = Template(
    name="Tank",
    members=(
        member("", event_notifier=1),
        member("Level", NodeClass.VARIABLE, data_type=DOUBLE),
        member(
            "Level.Unit", NodeClass.VARIABLE, data_type=ua.NodeId(IDS.String), reference=HAS_PROPERTY,
            type_definition=PROPERTY, value=ua.Variant("l"),
        ),
        member(
            "Empty", NodeClass.METHOD,
            inputs=(ua.Argument(Name="Reason", DataType=ua.NodeId(IDS.String), ValueRank=-1),),
        ),
    ),
)  # fmt: skip
DEEPER = Template(name="Deeper", members=(*TANK.members, member("Depth", NodeClass.VARIABLE, data_type=DOUBLE)))
VIEW = Template(name="View", members=(member("", NodeClass.VIEW, reference=ORGANIZES),))


def tank(name: str, template: Template = TANK, **further: Any) -> Instance:
    return Instance(template=template, prefix=name, parent=OBJECTS, **further)


def notifies(name: str) -> Reference:
    return Reference(source=SERVER, type=HAS_NOTIFIER, target=nid(name))


ONE, TWO = tank("T1"), tank("T2")


@pytest_asyncio.fixture(autouse=True, loop_scope="session")
async def tanks(bench: Bench) -> AsyncIterator[None]:
    bench.server.replace([ONE, TWO], [notifies("T1"), notifies("T2")])
    yield
    bench.server.replace([], [])


def show(bench: Bench, node: str, value: float) -> None:
    bench.server.write(node, ua.Variant(value, ua.VariantType.Double), 0, time.time_ns(), time.time_ns())


async def values(raw: Raw) -> list[tuple[Any, int]]:
    return [(v.Value.Value if v.Value is not None else None, v.StatusCode.value) for v in await raw.next_data()]


async def watch(raw: Raw, *nodes: str) -> int:
    number = int((await raw.subscribe()).SubscriptionId)
    for node in nodes:
        (await raw.monitor(number, nid(node))).StatusCode.check()
    return number


async def model_changes(raw: Raw) -> None:
    """Listen to Server for what changes in the address space."""
    clauses = [
        ua.SimpleAttributeOperand(
            TypeDefinitionId=ua.NodeId(IDS.BaseEventType),
            BrowsePath=[ua.QualifiedName(name)],
            AttributeId=ua.AttributeIds.Value,
        )
        for name in ("EventType", "SourceNode", "Changes")
    ]
    number = (await raw.subscribe()).SubscriptionId
    wanted = ua.EventFilter(SelectClauses=clauses)
    (await raw.monitor(number, SERVER, ua.AttributeIds.EventNotifier, Filter=wanted)).StatusCode.check()


async def test_a_value_by_template_is_watched_written_and_read(bench: Bench, raw: Raw) -> None:
    await watch(raw, "T1.Level")
    assert await values(raw) == [(None, CODES.BadWaitingForInitialData)]
    show(bench, "T1.Level", 2.5)
    assert await values(raw) == [(2.5, 0)]
    assert (await raw.read(nid("T1.Level"))).Value.Value == 2.5
    assert (await raw.read(nid("T2.Level"))).StatusCode.value == CODES.BadWaitingForInitialData
    with pytest.raises(KeyError):
        show(bench, "T1.Depth", 1.0)


async def test_values_shown_together_are_made_when_somebody_looks(bench: Bench, raw: Raw) -> None:
    made = list[str]()

    def show_together(level: float) -> None:
        def make() -> dict[str, Any]:
            made.append("made")
            return {"Level": ua.Variant(level, ua.VariantType.Double)}

        bench.server.write_instance("T9", make, time.time_ns(), time.time_ns())

    bench.server.replace([ONE, tank("T9")], [])  # one that nobody has watched
    show_together(1.0)
    show_together(2.0)
    assert made == []
    assert (await raw.read(nid("T9.Level"))).Value.Value == 2.0
    assert (await raw.read(nid("T9.Level.Unit"))).Value.Value == "l"
    assert (await raw.read(nid("T1.Level"))).StatusCode.value == CODES.BadWaitingForInitialData
    assert made == ["made"]
    show(bench, "T9.Level", 2.5)  # what is written later is newer
    assert (await raw.read(nid("T9.Level"))).Value.Value == 2.5
    await watch(raw, "T9.Level")
    assert await values(raw) == [(2.5, 0)]
    show_together(3.0)
    assert await values(raw) == [(3.0, 0)]
    with pytest.raises(KeyError):
        bench.server.write_instance("T2", dict, 0, 0)
    bench.server.replace([ONE], [])
    bench.server.replace([ONE, tank("T9")], [])
    assert (await raw.read(nid("T9.Level"))).StatusCode.value == CODES.BadWaitingForInitialData


async def test_what_is_not_known_among_values_shown_together_is_null(bench: Bench, raw: Raw) -> None:
    bench.server.write_instance("T1", lambda: {"Level": None}, time.time_ns(), time.time_ns())
    found = await raw.read(nid("T1.Level"))
    assert (found.Value.Value, found.StatusCode.value) == (None, CODES.BadNoData)


async def test_a_method_by_template_has_its_type_checked_arguments(bench: Bench, raw: Raw) -> None:
    async def empty(caller: Caller, called: ua.NodeId, arguments: tuple[Any, ...]) -> tuple[()]:
        seen.append((called, *arguments))
        return ()

    seen: list[tuple[Any, ...]] = []
    bench.server.link_method(nid("T1.Empty"), empty, lambda _: True)

    async def call(*arguments: ua.Variant, on: str = "T1") -> int:
        request = ua.CallMethodRequest(ObjectId=nid(on), MethodId=nid("T1.Empty"), InputArguments=list(arguments))
        parameters = ua.CallParameters(MethodsToCall=[request])
        return int((await raw.call(ua.CallRequest(Parameters=parameters))).Results[0].StatusCode.value)

    assert await call(ua.Variant("cleaning")) == 0
    assert seen == [(nid("T1"), "cleaning")]
    assert await call() == CODES.BadArgumentsMissing
    assert await call(ua.Variant("cleaning"), on="T2") == CODES.BadMethodInvalid
    # A handler goes with its node, and is not there for another node of the same id later.
    bench.server.replace([TWO], [])
    assert await call(ua.Variant("cleaning")) == CODES.BadNodeIdUnknown
    bench.server.replace([ONE, TWO], [])
    assert await call(ua.Variant("cleaning")) == CODES.BadNotImplemented


async def test_an_event_of_a_template_node_reaches_its_notifiers(bench: Bench, raw: Raw) -> None:
    await model_changes(raw)
    bench.server.publish_event(event("T1", IDS.BaseEventType))
    ((kind, source, _),) = await raw.next_data()
    assert (kind.Value, source.Value) == (ua.NodeId(IDS.BaseEventType), nid("T1"))


async def test_what_stays_keeps_its_value_and_its_watchers(bench: Bench, raw: Raw) -> None:
    show(bench, "T2.Level", 1.0)
    await watch(raw, "T2.Level")
    assert await values(raw) == [(1.0, 0)]
    bench.server.replace([TWO, tank("T3")], [])
    assert (await raw.read(nid("T2.Level"))).Value.Value == 1.0
    show(bench, "T2.Level", 2.0)
    assert await values(raw) == [(2.0, 0)]


async def test_who_watches_what_is_gone_is_told_and_told_again_when_it_is_back(bench: Bench, raw: Raw) -> None:
    # Part 4 5.8.4.1: BadNodeIdUnknown, for the value as for any other attribute.
    show(bench, "T1.Level", 3.0)
    number = await watch(raw, "T1.Level")
    (await raw.monitor(number, nid("T1"), ua.AttributeIds.DisplayName, ClientHandle=2)).StatusCode.check()
    assert len(await values(raw)) == 2
    bench.server.replace([TWO], [notifies("T2")])
    assert await values(raw) == [(None, CODES.BadNodeIdUnknown)] * 2
    assert (await raw.read(nid("T1.Level"))).StatusCode.value == CODES.BadNodeIdUnknown
    bench.server.replace([ONE, TWO], [notifies("T1"), notifies("T2")])
    # A new node: the old one's value is not its value.
    waiting = (None, CODES.BadWaitingForInitialData)
    assert await values(raw) == [waiting, (ua.LocalizedText("T1", "en"), 0)]
    show(bench, "T1.Level", 4.0)
    assert await values(raw) == [(4.0, 0)]


async def test_items_on_columns_follow_their_nodes_too(bench: Bench, raw: Raw) -> None:
    # What is kept as columns is one address space with the rest: gone, told, back in new rows.
    bench.server.replace([tank("T5"), TWO], [])
    rows = bench.server.columns(["T5.Level"])
    bench.server.write_row(rows, np.array([3.0]), np.zeros(1, np.uint32), time.time_ns(), time.time_ns())
    number = await watch(raw, "T5.Level")
    assert await values(raw) == [(3.0, 0)]
    assert (await raw.read(nid("T5.Level"))).Value.Value == 3.0
    bench.server.replace([TWO], [])
    assert await values(raw) == [(None, CODES.BadNodeIdUnknown)]
    assert (await raw.read(nid("T5.Level"))).StatusCode.value == CODES.BadNodeIdUnknown
    bench.server.replace([tank("T5"), TWO], [])
    assert await values(raw) == [(None, CODES.BadWaitingForInitialData)]
    rows = bench.server.columns(["T5.Level"])
    bench.server.write_row(rows, np.array([4.0]), np.zeros(1, np.uint32), time.time_ns(), time.time_ns())
    assert await values(raw) == [(4.0, 0)]
    request = ua.DeleteSubscriptionsRequest()
    request.Parameters.SubscriptionIds = [number]
    assert (await raw.call(request)).Results[0].is_good()
    bench.server.replace([ONE, TWO], [])
    with pytest.raises(LookupError):
        bench.server.columns(["T5.Level"])


async def test_a_constant_that_changes_is_told(bench: Bench, raw: Raw) -> None:
    await watch(raw, "T1.Level.Unit", "T2.Level.Unit")
    assert await values(raw) == [("l", 0), ("l", 0)]
    bench.server.replace([tank("T1", values={"Level.Unit": ua.Variant("m3")}), TWO], [])
    assert await values(raw) == [("m3", 0)]


async def test_a_change_of_the_address_space_is_an_event(bench: Bench, raw: Raw) -> None:
    # Part 3 9.32.2, Part 5 6.4.32: whoever keeps a copy browses these again.
    await model_changes(raw)
    bench.server.replace([tank("T1", DEEPER), tank("T3")], [notifies("T1")])
    ((kind, source, changes),) = await raw.next_data()
    assert (kind.Value, source.Value) == (ua.NodeId(IDS.GeneralModelChangeEventType), SERVER)
    added, deleted, reference_added, reference_deleted = 1, 2, 4, 8
    assert {(c.Affected, c.AffectedType, c.Verb) for c in changes.Value} == {
        (nid("T2"), FOLDER, deleted),
        (nid("T3"), FOLDER, added),
        (nid("T1.Depth"), VARIABLE, added),
        (nid("T1"), FOLDER, reference_added),
        (OBJECTS, FOLDER, reference_added | reference_deleted),
        (SERVER, ua.NodeId(IDS.ServerType), reference_deleted),
    }


async def test_a_replacement_that_changes_what_values_mean_marks_them(bench: Bench, raw: Raw) -> None:
    # Part 8 5.2, Part 3 9.33: the same as when somebody writes the unit.
    units = {"Level.EngineeringUnits": ua.Variant("l")}
    scaled = member(
        "Level.EngineeringUnits", NodeClass.VARIABLE, data_type=ua.NodeId(IDS.String), reference=HAS_PROPERTY,
        type_definition=PROPERTY,
    )  # fmt: skip
    template = Template(name="Scaled", members=(*TANK.members, scaled))
    bench.server.replace([tank("T20", template, values=units)], [])
    show(bench, "T20.Level", 1.0)
    number = await watch(raw, "T20.Level")
    assert await values(raw) == [(1.0, 0)]
    kinds = ua.EventFilter(
        SelectClauses=[
            ua.SimpleAttributeOperand(
                TypeDefinitionId=ua.NodeId(IDS.BaseEventType),
                BrowsePath=[ua.QualifiedName(name)],
                AttributeId=ua.AttributeIds.Value,
            )
            for name in ("EventType", "Changes")
        ]
    )
    (await raw.monitor(number, SERVER, ua.AttributeIds.EventNotifier, Filter=kinds)).StatusCode.check()
    bench.server.replace([tank("T20", template, values={"Level.EngineeringUnits": ua.Variant("hl")})], [])
    marked, (kind, changes) = await raw.next_data()
    assert (marked.Value.Value, marked.StatusCode.value) == (1.0, 0x4000)
    assert kind.Value == ua.NodeId(IDS.SemanticChangeEventType)
    assert [(c.Affected, c.AffectedType) for c in changes.Value] == [(nid("T20.Level"), VARIABLE)]


async def test_a_replacement_by_the_same_is_no_change(bench: Bench, raw: Raw) -> None:
    await model_changes(raw)
    change = bench.server.replace([ONE, TWO], [notifies("T1"), notifies("T2")])
    assert change.verbs() == {}
    bench.server.publish_event(event("T1"))
    ((kind, *_),) = await raw.next_data()
    assert kind.Value == ua.NodeId(IDS.BaseEventType)


async def test_a_replacement_that_does_not_fit_changes_nothing(bench: Bench, raw: Raw) -> None:
    show(bench, "T1.Level", 3.0)
    with pytest.raises(KeyError, match="Nowhere"):
        bench.server.replace([tank("T3")], [notifies("Nowhere")])
    assert (await raw.read(nid("T1.Level"))).Value.Value == 3.0
    assert (await raw.read(nid("T3"), ua.AttributeIds.BrowseName)).StatusCode.value == CODES.BadNodeIdUnknown


async def test_a_browse_goes_on_as_it_began(bench: Bench, raw: Raw) -> None:
    # Change while browse: later pages are of the address space the first was of, nothing twice, nothing missing.
    instances = [tank(f"T{i:02}") for i in range(20)]
    bench.server.replace(instances, [])
    to_instances = {"ReferenceTypeId": ua.NodeId(IDS.HasTypeDefinition), "BrowseDirection": ua.BrowseDirection.Inverse}
    whole = [r.NodeId for r in (await browse(raw, FOLDER, **to_instances)).References]
    assert {nid(f"T{i:02}") for i in range(20)} <= set(whole)
    page = await browse(raw, FOLDER, most=7, **to_instances)
    found = [r.NodeId for r in page.References]
    bench.server.replace(instances[::2], [])
    while page.ContinuationPoint:
        page = await browse_next(raw, page.ContinuationPoint)
        found += [r.NodeId for r in page.References]
    assert found == whole


async def test_nothing_is_kept_for_nodes_that_nobody_watches_or_writes(bench: Bench, raw: Raw) -> None:
    # A client that looked at everything once must not leave an object for each node.
    bench.server.replace([tank("T7"), tank("T8")], [])
    cells = bench.server.space.tree._cells
    before = dict(cells)
    await watch(raw, "T7.Level", "T7.Level.Unit", "T8.Level")
    show(bench, "T8.Level", 1.0)
    await values(raw)
    request = ua.CloseSessionRequest()
    request.DeleteSubscriptions = True
    await raw.call(request)
    assert cells.keys() - before.keys() == {("T8.Level", ua.AttributeIds.Value)}


# -- views

LOOK = Instance(template=VIEW, prefix="Look", parent=ua.NodeId(IDS.ViewsFolder))


@pytest_asyncio.fixture(loop_scope="session")
async def look(bench: Bench) -> None:
    """A view of T1 as a whole."""
    shown = Reference(source=nid("Look"), type=ORGANIZES, target=nid("T1"))
    bench.server.replace([ONE, TWO, LOOK], [notifies("T1"), shown])


async def in_view(raw: Raw, node: ua.NodeId, **view: Any) -> list[str]:
    """Ids of what a Browse in both directions finds. Raises UaStatusCodeError with the status of request or result."""
    description = ua.BrowseDescription(NodeId=node, BrowseDirection=ua.BrowseDirection.Both, ResultMask=0)
    asked = ua.ViewDescription(**({"ViewId": nid("Look"), "Timestamp": ua.get_win_epoch()} | view))
    parameters = ua.BrowseParameters(View=asked, NodesToBrowse=[description])
    result = (await raw.call(ua.BrowseRequest(Parameters=parameters))).Results[0]
    result.StatusCode.check()
    return [str(r.NodeId.Identifier) for r in result.References]


async def refusal(answer: Any) -> int:
    with pytest.raises(ua.UaStatusCodeError) as refused:
        await answer
    return int(refused.value.code)


@pytest.mark.usefixtures("look")
async def test_a_browse_in_a_view_sees_only_the_view(raw: Raw) -> None:
    # 5.9.2, Part 3 5.4: neither the parent outside, nor types, nor notifiers that are not in it.
    assert await in_view(raw, nid("Look")) == ["T1"]
    assert await in_view(raw, nid("T1")) == ["T1.Level", "T1.Empty", "Look"]
    assert await in_view(raw, nid("T1.Level.Unit")) == ["T1.Level"]
    assert await refusal(in_view(raw, nid("T2"))) == CODES.BadNodeNotInView
    assert await refusal(in_view(raw, OBJECTS)) == CODES.BadNodeNotInView
    assert await refusal(in_view(raw, nid("Nowhere"))) == CODES.BadNodeIdUnknown


@pytest.mark.usefixtures("look")
async def test_a_view_there_is_not_is_refused(raw: Raw) -> None:
    # 5.9.2.3 and 7.44: no such view; no versions are kept; an older state is not there any more, the present one is.
    assert await refusal(in_view(raw, nid("T1"), ViewId=nid("Nowhere"))) == CODES.BadViewIdUnknown
    assert await refusal(in_view(raw, nid("T1"), ViewId=OBJECTS)) == CODES.BadViewIdUnknown
    assert await refusal(in_view(raw, nid("T1"), ViewVersion=1)) == CODES.BadViewVersionInvalid
    now = raw.bench.server.space.tree.made
    assert await in_view(raw, nid("Look"), Timestamp=now) == ["T1"]
    past = now.replace(year=now.year - 1)
    assert await refusal(in_view(raw, nid("T1"), Timestamp=past)) == CODES.BadViewTimestampInvalid
    both = in_view(raw, nid("T1"), Timestamp=now, ViewVersion=1)
    assert await refusal(both) == CODES.BadViewParameterMismatch
