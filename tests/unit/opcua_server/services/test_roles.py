"""RoleSet and the permission attributes (Part 18, Part 3 5.2.9 to 5.2.11), and that they say what is done."""

import pytest
from asyncua import ua

from nodesets.model import Role
from opcua_server.services.roles import ROLE_SET, role_node
from tests.conformance.opcua import Bench, Raw, nid

IDS, CODES, A, P = ua.ObjectIds, ua.StatusCodes, ua.AttributeIds, ua.PermissionType
anyio = pytest.mark.asyncio(loop_scope="session")


async def permissions(raw: Raw, node: ua.NodeId, attribute: int) -> dict[ua.NodeId, int]:
    found = await raw.read(node, attribute)
    assert found.StatusCode.is_good(), found.StatusCode
    return {entry.RoleId: int(entry.Permissions) for entry in found.Value.Value}


async def children(raw: Raw, node: ua.NodeId) -> dict[str, ua.NodeId]:
    description = ua.BrowseDescription(
        NodeId=node, ReferenceTypeId=ua.NodeId(IDS.Aggregates), IncludeSubtypes=True, NodeClassMask=0, ResultMask=63
    )
    parameters = ua.BrowseParameters(NodesToBrowse=[description])
    result = (await raw.call(ua.BrowseRequest(Parameters=parameters))).Results[0]
    return {r.BrowseName.Name: r.NodeId for r in result.References}


@anyio
async def test_the_role_set_has_the_standard_roles_and_ours(raw: Raw) -> None:
    # Part 18 4.3; methods that change a role are not there, since accounts alone give them, those that RoleSetType has
    # as mandatory may be called by nobody.
    found = await children(raw, ROLE_SET)
    for change in (found.pop("AddRole"), found.pop("RemoveRole")):
        assert (await raw.read(change, A.UserExecutable)).Value.Value is False
    standard = {"Anonymous", "AuthenticatedUser", "TrustedApplication", "Observer", "Operator", "Engineer",
                "Supervisor", "ConfigureAdmin", "SecurityAdmin"}  # fmt: skip
    assert set(found) == standard | {"QA", "QA-Release", "Auditor", "MES", "Advisor"}
    for name, node in found.items():
        assert set(await children(raw, node)) == {"Identities"}, name


@anyio
async def test_members_are_shown_to_administrators_alone(bench: Bench, raw: Raw) -> None:
    bench.server.show_members({Role.OPERATOR: ["anna", "carl"]})
    bench.users.roles = {**bench.users.roles, "sepp": frozenset({Role.SECURITY_ADMIN})}
    identities = (await children(raw, role_node(Role.OPERATOR)))["Identities"]
    assert (await raw.read(identities)).StatusCode.value == CODES.BadUserAccessDenied
    assert (await raw.read(identities, A.UserAccessLevel)).Value.Value == 0
    number = (await raw.subscribe()).SubscriptionId
    await raw.monitor(number, identities)
    bench.server.show_members({Role.OPERATOR: ["anna", "carl", "dora"]})
    bench.server.show_members({Role.OPERATOR: ["anna", "carl"]})
    [only] = await raw.next_data()  # 5.13.2.1: created, and Bad for good
    assert (only.StatusCode.value, only.Value.Value) == (CODES.BadUserAccessDenied, None)
    async with Raw(bench) as admin:
        await admin.login("sepp")
        rules = (await admin.read(identities)).Value.Value
        assert [(r.CriteriaType, r.Criteria) for r in rules] == [
            (ua.IdentityCriteriaType.UserName, "anna"),
            (ua.IdentityCriteriaType.UserName, "carl"),
        ]
        own = (await children(admin, role_node(Role.QA_RELEASE)))["Identities"]
        assert (await admin.read(own)).Value.Value == []
        assert (await admin.read(own, A.ValueRank)).Value.Value == 1
    bench.server.show_members({})


@anyio
async def test_a_caller_reads_his_own_permissions_and_administrators_all(bench: Bench, raw: Raw) -> None:
    bench.users.roles = {**bench.users.roles, "sepp": frozenset({Role.SECURITY_ADMIN})}
    node = nid("Part.Value")
    assert await permissions(raw, node, A.UserRolePermissions) == {role_node(Role.OPERATOR): P.Browse | P.Read}
    assert (await raw.read(node, A.RolePermissions)).StatusCode.value == CODES.BadUserAccessDenied
    async with Raw(bench) as admin:
        await admin.login("sepp")
        every = await permissions(admin, node, A.RolePermissions)
    assert set(every) == {role_node(role) for role in Role} - {
        role_node(Role.ANONYMOUS)
    }  # which sees only what is open
    assert every[role_node(Role.OPERATOR)] == P.Browse | P.Read
    assert every[role_node(Role.AUDITOR)] == P.Browse | P.Read | P.ReadRolePermissions


@anyio
async def test_what_is_told_is_what_is_done(bench: Bench, raw: Raw) -> None:
    # One source: the link of a method, the grant of a variable, the notifier of an object.
    async def echo(*_: object) -> list[float]:
        return [1.0]

    bench.server.link_method(nid("Part.Forbidden"), echo, lambda caller: Role.QA in caller.roles)
    bench.server.link_method(nid("Part.Double"), echo, lambda caller: Role.OPERATOR in caller.roles)
    role = role_node(Role.OPERATOR)
    for name, called in (("Forbidden", False), ("Double", True)):
        told = (await permissions(raw, nid(f"Part.{name}"), A.UserRolePermissions))[role]
        assert bool(told & P.Call) == called
        assert (await raw.read(nid(f"Part.{name}"), A.UserExecutable)).Value.Value == called
        arguments = (ua.Variant(1, ua.VariantType.UInt32), ua.Variant(1.0, ua.VariantType.Float))
        status = (await raw.method(name, *arguments)).StatusCode.value
        assert status == (CODES.Good if called else CODES.BadUserAccessDenied)
    assert (await permissions(raw, nid("Device"), A.UserRolePermissions))[role] == P.Browse | P.ReceiveEvents
    assert (await permissions(raw, nid("Part.Secret"), A.UserRolePermissions))[role] == P.Browse


@anyio
async def test_access_needs_a_secured_session(raw: Raw) -> None:
    # Part 3 8.56: signed, encrypted, in a session, and Browse is no exception.
    assert (await raw.read(nid("Part"), A.AccessRestrictions)).Value.Value == 0b1111


@anyio
async def test_what_is_opened_is_seen_without_a_user(bench: Bench, raw: Raw) -> None:
    # Part 3 8.55: Browse, of what the plant says and of nothing else.
    bench.users.roles = {**bench.users.roles, "sepp": frozenset({Role.SECURITY_ADMIN})}
    bench.server.open("Part.Value".__eq__)
    async with Raw(bench) as admin:
        await admin.login("sepp")
        for name, seen in (("Value", P.Browse | P.Read), ("Text", None)):
            every = await permissions(admin, nid(f"Part.{name}"), A.RolePermissions)
            assert every.get(role_node(Role.ANONYMOUS)) == seen
    bench.server.open(lambda _: False)
