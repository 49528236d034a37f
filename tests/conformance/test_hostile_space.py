"""Rows H33 and H38 of the hostile inputs: an address space that is large, or changes while it is browsed."""

import itertools
import secrets
from collections.abc import AsyncIterator, Iterable

import pytest
import pytest_asyncio
from asyncua import ua

from opcua_server.services.limits import Limits
from opcua_server.services.nodes import Instance, Member, NodeClass, Template
from tests.conformance.hostile import neighbour
from tests.conformance.opcua import Bench, Raw, nid, serve

pytestmark = pytest.mark.asyncio(loop_scope="module")
CODES = ua.StatusCodes
LIMITS = Limits()
MANY = 100_000
ROOM = nid("Part")
VARIABLE = ua.NodeId(ua.ObjectIds.BaseDataVariableType)
LEAF = Template(
    name="Leaf",
    members=(
        Member(
            path="",
            node_class=NodeClass.VARIABLE,
            browse_name=ua.QualifiedName("Leaf", 3),
            type_definition=VARIABLE,
            data_type=ua.NodeId(ua.ObjectIds.Double),
        ),
    ),
)


def leaves(prefix: str, count: int) -> list[Instance]:
    return [Instance(template=LEAF, prefix=f"{prefix}{i}", parent=ROOM) for i in range(count)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    async with serve(tmp_path_factory.mktemp("data")) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def raw(bench: Bench) -> AsyncIterator[Raw]:
    async with Raw(bench) as client:
        await client.login()
        yield client


async def browse(raw: Raw, *nodes: ua.NodeId, page: int = 0) -> list[ua.BrowseResult]:
    wanted = [
        ua.BrowseDescription(
            NodeId=node,
            ReferenceTypeId=ua.NodeId(ua.ObjectIds.HierarchicalReferences),
            IncludeSubtypes=True,
            ResultMask=63,
        )
        for node in nodes
    ]
    parameters = ua.BrowseParameters(RequestedMaxReferencesPerNode=page, NodesToBrowse=wanted)
    return list((await raw.call(ua.BrowseRequest(Parameters=parameters))).Results)


async def browse_next(raw: Raw, *points: bytes, release: bool = False) -> list[ua.BrowseResult]:
    parameters = ua.BrowseNextParameters(ReleaseContinuationPoints=release, ContinuationPoints=list(points))
    return list((await raw.call(ua.BrowseNextRequest(Parameters=parameters))).Parameters.Results)


def names(results: Iterable[ua.BrowseResult]) -> list[str]:
    return [r.NodeId.Identifier for result in results for r in result.References]


async def test_h33_a_hundred_thousand_children_come_in_pages(bench: Bench, raw: Raw) -> None:
    bench.server.replace(leaves("Many", MANY), ())
    [result] = await browse(raw, ROOM)
    pages = [result]
    while result.ContinuationPoint:
        assert len(result.References) == LIMITS.references
        [result] = await browse_next(raw, result.ContinuationPoint)
        pages.append(result)
    found = [name for name in names(pages) if name.startswith("Many")]
    assert found == [f"Many{i}" for i in range(MANY)]


async def test_h33_a_thousand_continuation_points_are_not_had(bench: Bench, raw: Raw) -> None:
    gone: list[bytes] = []
    points: list[bytes] = []
    for _ in range(4):
        gone += points
        results = await browse(raw, *[ROOM] * LIMITS.browse_paths, page=1)
        points = [r.ContinuationPoint for r in results if r.ContinuationPoint]
        assert len(points) == LIMITS.continuation_points
        refused = [r for r in results if not r.ContinuationPoint]
        assert {r.StatusCode.value for r in refused} == {CODES.BadNoContinuationPoints}
    async with Raw(bench) as thief:
        await thief.login()
        stolen = await browse_next(thief, *points)
    stolen += await browse_next(raw, *gone)
    forged = await browse_next(raw, secrets.token_bytes(16), points[0] + b"\0", points[0][:-1], b"")
    assert {r.StatusCode.value for r in stolen + forged} == {CODES.BadContinuationPointInvalid}
    again = await browse_next(raw, *points, release=True)
    assert all(r.StatusCode.is_good() for r in again)
    spent = await browse_next(raw, *points)
    assert {r.StatusCode.value for r in spent} == {CODES.BadContinuationPointInvalid}


async def test_h38_who_browses_while_the_space_changes_sees_one_state_of_it(bench: Bench, raw: Raw) -> None:
    # "Change while browse": pages of one Browse are of the space it began in; what is asked anew is of the present.
    states = itertools.cycle([leaves("Old", 50), leaves("New", 70), []])
    bench.server.replace(next(states), ())
    async with neighbour(bench) as took, Raw(bench) as other:
        await other.login()
        for _ in range(30):
            [result] = await browse(raw, ROOM, page=7)
            pages = [result]
            while result.ContinuationPoint:
                bench.server.replace(next(states), ())
                answers = await browse(other, ROOM, nid("Old1"), nid("New1"))
                present = {name[:3] for name in names(answers) if name[:3] in ("Old", "New")}
                assert len(present) <= 1
                codes = [r.StatusCode.value for r in answers[1:]]
                assert codes.count(CODES.BadNodeIdUnknown) >= 1
                [result] = await browse_next(raw, result.ContinuationPoint)
                assert result.StatusCode.is_good()
                pages.append(result)
            seen = [name for name in names(pages) if name[:3] in ("Old", "New")]
            assert sorted(seen) in [sorted(f"Old{i}" for i in range(50)), sorted(f"New{i}" for i in range(70)), []]
        assert took
        print(f"answers of another client, slowest: {1000 * max(took):.0f} ms")
