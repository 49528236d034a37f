"""Browse, BrowseNext and TranslateBrowsePaths (Part 4 5.9)."""

from typing import Any

import pytest
from asyncua import ua

from opcua_server.services.limits import Limits
from tests.conformance.opcua import Bench, Raw, nid

pytestmark = pytest.mark.asyncio(loop_scope="session")
CODES = ua.StatusCodes
ALL = 0x3F


async def browse(raw: Raw, node: ua.NodeId, most: int = 0, mask: int = ALL, **further: Any) -> ua.BrowseResult:
    description = ua.BrowseDescription(NodeId=node, ResultMask=mask, IncludeSubtypes=True)
    description.BrowseDirection = further.get("BrowseDirection", ua.BrowseDirection.Forward)
    description.ReferenceTypeId = further.get("ReferenceTypeId", ua.NodeId(ua.ObjectIds.HierarchicalReferences))
    description.NodeClassMask = further.get("NodeClassMask", 0)
    parameters = ua.BrowseParameters(RequestedMaxReferencesPerNode=most, NodesToBrowse=[description])
    return (await raw.call(ua.BrowseRequest(Parameters=parameters))).Results[0]


async def browse_next(raw: Raw, point: bytes | None, release: bool = False) -> ua.BrowseResult:
    parameters = ua.BrowseNextParameters(ReleaseContinuationPoints=release, ContinuationPoints=[point])
    return (await raw.call(ua.BrowseNextRequest(Parameters=parameters))).Parameters.Results[0]


async def test_pages_together_are_the_whole(raw: Raw) -> None:
    # asyncua ignored the maximum and had no BrowseNext (acceptance point 25).
    whole = await browse(raw, nid("Part"))
    assert whole.ContinuationPoint is None
    page = await browse(raw, nid("Part"), most=2)
    found = list(page.References)
    while page.ContinuationPoint:
        assert len(page.References) == 2
        page = await browse_next(raw, page.ContinuationPoint)
        found += page.References
    assert [r.NodeId for r in found] == [r.NodeId for r in whole.References]


async def test_a_continuation_point_serves_once_and_only_its_session(bench: Bench, raw: Raw) -> None:
    point = (await browse(raw, nid("Part"), most=1)).ContinuationPoint
    async with Raw(bench) as other:
        await other.login()
        assert (await browse_next(other, point)).StatusCode.value == CODES.BadContinuationPointInvalid
    assert (await browse_next(raw, point)).StatusCode.is_good()
    assert (await browse_next(raw, point)).StatusCode.value == CODES.BadContinuationPointInvalid
    assert (await browse_next(raw, b"forged")).StatusCode.value == CODES.BadContinuationPointInvalid


async def test_release_gives_the_point_back(raw: Raw) -> None:
    for _ in range(Limits().continuation_points + 1):
        point = (await browse(raw, nid("Part"), most=1)).ContinuationPoint
        released = await browse_next(raw, point, release=True)
        assert released.StatusCode.is_good()
        assert released.References == []


async def test_continuation_points_of_earlier_requests_give_way(raw: Raw) -> None:
    # 7.9: a client that forgets its points can browse on; that of one request they run out, test_hostile.py shows.
    points = [
        (await browse(raw, nid("Part"), most=1)).ContinuationPoint for _ in range(Limits().continuation_points + 1)
    ]
    assert all(points)
    assert (await browse_next(raw, points[0])).StatusCode.value == CODES.BadContinuationPointInvalid
    assert (await browse_next(raw, points[-1])).StatusCode.is_good()
    assert (await browse_next(raw, points[1])).StatusCode.is_good()


async def test_only_fields_asked_for_are_answered(raw: Raw) -> None:
    # 7.7 BrowseResultMask: asyncua answered DisplayName to a mask of 0.
    reference = (await browse(raw, nid("Device"), mask=0)).References[0]
    assert reference.BrowseName == ua.QualifiedName()
    assert reference.DisplayName.Text is None
    assert reference.NodeClass == ua.NodeClass.Unspecified
    named = (await browse(raw, nid("Device"), mask=ua.BrowseResultMask.BrowseName)).References[0]
    assert named.BrowseName.Name == "Part"
    assert named.TypeDefinition.is_null()


async def test_direction_class_and_type_select(raw: Raw) -> None:
    up = await browse(raw, nid("Part"), BrowseDirection=ua.BrowseDirection.Inverse)
    assert [r.NodeId for r in up.References] == [nid("Device")]
    methods = await browse(raw, nid("Part"), NodeClassMask=ua.NodeClass.Method)
    assert {r.NodeClass for r in methods.References} == {ua.NodeClass.Method}
    types = await browse(raw, nid("Part"), ReferenceTypeId=ua.NodeId(ua.ObjectIds.HasTypeDefinition))
    assert len(types.References) == 1


async def test_wrong_questions_get_their_own_answers(raw: Raw) -> None:
    assert (await browse(raw, nid("Nowhere"))).StatusCode.value == CODES.BadNodeIdUnknown
    wrong = await browse(raw, nid("Part"), ReferenceTypeId=nid("Part"))
    assert wrong.StatusCode.value == CODES.BadReferenceTypeIdInvalid
    with pytest.raises(ua.UaStatusCodeError) as nothing:
        await raw.call(ua.BrowseRequest())
    assert nothing.value.code == CODES.BadNothingToDo
    many = ua.BrowseParameters(NodesToBrowse=[ua.BrowseDescription()] * (Limits().operations + 1))
    with pytest.raises(ua.UaStatusCodeError) as too_many:
        await raw.call(ua.BrowseRequest(Parameters=many))
    assert too_many.value.code == CODES.BadTooManyOperations


async def translate(raw: Raw, start: ua.NodeId, *names: str | None, inverse: bool = False) -> ua.BrowsePathResult:
    elements = [
        ua.RelativePathElement(
            ReferenceTypeId=ua.NodeId(ua.ObjectIds.HierarchicalReferences),
            IncludeSubtypes=True,
            IsInverse=inverse,
            TargetName=ua.QualifiedName(n, 3),
        )
        for n in names
    ]
    path = ua.BrowsePath(StartingNode=start, RelativePath=ua.RelativePath(Elements=elements))
    parameters = ua.TranslateBrowsePathsToNodeIdsParameters(BrowsePaths=[path])
    return (await raw.call(ua.TranslateBrowsePathsToNodeIdsRequest(Parameters=parameters))).Results[0]


async def test_paths_are_followed(raw: Raw) -> None:
    found = await translate(raw, nid("Line"), "Device", "Part", "Value")
    assert [t.TargetId for t in found.Targets] == [nid("Part.Value")]
    assert (await translate(raw, nid("Line"), "Device", "Nothing")).StatusCode.value == CODES.BadNoMatch
    assert (await translate(raw, nid("Nowhere"), "Device")).StatusCode.value == CODES.BadNodeIdUnknown
    assert (await translate(raw, nid("Line"))).StatusCode.value == CODES.BadNothingToDo
    assert (await translate(raw, nid("Line"), None)).StatusCode.value == CODES.BadBrowseNameInvalid
    deep = await translate(raw, nid("Line"), *["Device"] * 100)
    assert deep.StatusCode.value == CODES.BadTooManyOperations
