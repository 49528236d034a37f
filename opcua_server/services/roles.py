"""Roles (Part 18) and what they may: RoleSet, RolePermissions, UserRolePermissions, AccessRestrictions.

Nothing is decided here. Who may read or write a variable stands in its grant, who may call a method in its link; what
a client reads of permissions is asked of the same two, once for each role, so that it cannot differ from what is
enforced.
Roles are given by accounts: nobody changes them from outside. The nodes for that are not there but AddRole and
RemoveRole, which RoleSetType has as mandatory (Part 18 4.2.1); nobody may call them.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from asyncua import ua

from compliance import policy
from nodesets.errors import AccessDenied
from nodesets.model import Caller, Role, SecurityMode
from opcua_server.services.nodes import HAS_COMPONENT, TYPES_NS, Access
from opcua_server.services.space import Space

IDS = ua.ObjectIds
T = ua.VariantType
PERMISSION = ua.PermissionType
CHANGE_HISTORY = PERMISSION.InsertHistory | PERMISSION.ModifyHistory | PERMISSION.DeleteHistory
ROLE_SET = ua.NodeId(IDS.Server_ServerCapabilities_RoleSet)
WELL_KNOWN = {
    Role.ANONYMOUS: "Anonymous",
    Role.OBSERVER: "Observer",
    Role.OPERATOR: "Operator",
    Role.ENGINEER: "Engineer",
    Role.CONFIGURE_ADMIN: "ConfigureAdmin",
    Role.SECURITY_ADMIN: "SecurityAdmin",
}
"""Roles of Part 18 4.2 and their names there; the others of ours get nodes of their own."""
IMPLIED = {
    "Anonymous": ua.IdentityCriteriaType.Anonymous,
    "AuthenticatedUser": ua.IdentityCriteriaType.AuthenticatedUser,
    "TrustedApplication": ua.IdentityCriteriaType.TrustedApplication,
}
"""Roles held by what one is, not by an account; the last two may nothing by themselves."""
ADMINISTRATORS = frozenset({Role.CONFIGURE_ADMIN, Role.SECURITY_ADMIN, Role.AUDITOR})
"""Who may see who holds which role, and what all roles may."""

Sees = Callable[[Caller, Any], bool]
"""Whether a caller sees a node at all."""
Rule = Callable[[Caller], Callable[[Any], bool] | None]
"""Which nodes of a namespace a caller sees; None: all of them."""
CHANGING = (IDS.Server_ServerCapabilities_RoleSet_AddRole, IDS.Server_ServerCapabilities_RoleSet_RemoveRole)
"""Methods nobody may call."""

_CHANGES = re.compile(
    r"WellKnownRole_\w+_((Add|Remove)\w+|Applications\w*|Endpoints\w*|CustomConfiguration)"
    r"|WellKnownRole_SecurityKey\w+"
)


def changes(space: Space) -> Iterable[Any]:
    """Standard nodes by which roles would be changed over OPC UA, and roles of functions not offered."""
    for name in dir(IDS):
        if _CHANGES.fullmatch(name) and (node := ua.NodeId(getattr(IDS, name))) in space:
            yield node


async def unchanged(_caller: Caller, _object_id: Any, _arguments: tuple[Any, ...]) -> Sequence[Any]:
    """Handler of `CHANGING`, never reached."""
    raise AccessDenied("roles are given by accounts")


def role_node(role: Role) -> Any:
    """NodeId of a role's object."""
    known = WELL_KNOWN.get(role)
    return ua.NodeId(getattr(IDS, f"WellKnownRole_{known}")) if known else ua.NodeId(f"Role.{role}", 1)


def _identities_node(role: Role) -> Any:
    known = WELL_KNOWN.get(role)
    if known:
        return ua.NodeId(getattr(IDS, f"WellKnownRole_{known}_Identities"))
    return ua.NodeId(f"Role.{role}.Identities", 1)


def may_see_members(caller: Caller) -> int:
    """Rights to the Identities of a role."""
    return int(Access.READ) if caller.roles & ADMINISTRATORS else 0


class RoleSet:
    """The objects below ServerCapabilities.RoleSet; `write(node_id, Variant)` shows a value."""

    def __init__(self, asyncua: Any, write: Callable[[Any, Any], None]) -> None:
        self._asyncua = asyncua
        self._write = write

    async def fill(self) -> None:
        """Objects for the roles Part 18 does not know, and who is what without an account."""
        for role in Role:
            if role not in WELL_KNOWN:
                await self._add(role)
        for name in ("AuthenticatedUser", "TrustedApplication", "Supervisor"):
            rules = [_rule(IMPLIED[name], "")] if name in IMPLIED else []
            self._show(ua.NodeId(getattr(IDS, f"WellKnownRole_{name}_Identities")), rules)
        self.show({})

    async def _add(self, role: Role) -> None:
        item = ua.AddNodesItem(
            ParentNodeId=ROLE_SET,
            ReferenceTypeId=HAS_COMPONENT,
            RequestedNewNodeId=role_node(role),
            BrowseName=ua.QualifiedName(role.value, TYPES_NS),
            NodeClass=ua.NodeClass.Object,
            NodeAttributes=ua.ObjectAttributes(DisplayName=ua.LocalizedText(role.value)),
            TypeDefinition=ua.NodeId(IDS.RoleType),
        )
        self._asyncua.iserver.node_mgt_service.add_nodes([item])[0].StatusCode.check()
        node = self._asyncua.get_node(role_node(role))
        await self._asyncua.get_node(IDS.RoleType).add_reference(
            node, IDS.HasTypeDefinition, forward=False, bidirectional=False
        )
        empty = ua.Variant([], T.ExtensionObject, is_array=True)
        identities = await node.add_property(
            _identities_node(role),
            ua.QualifiedName("Identities", 0),
            empty,
            datatype=ua.NodeId(IDS.IdentityMappingRuleType),
        )
        await identities.write_value_rank(ua.ValueRank.OneDimension)

    @staticmethod
    def identities() -> Sequence[Any]:
        """NodeIds of all Identities properties."""
        implied = (getattr(IDS, f"WellKnownRole_{n}_Identities") for n in ("AuthenticatedUser", "TrustedApplication"))
        return [*(_identities_node(role) for role in Role), *(ua.NodeId(i) for i in implied)]

    def show(self, members: Mapping[Role, Sequence[str]]) -> None:
        """Who holds which role: names of accounts."""
        for role in Role:
            rules = [_rule(ua.IdentityCriteriaType.UserName, name) for name in members.get(role, ())]
            if role is Role.ANONYMOUS:
                rules = [_rule(IMPLIED["Anonymous"], "")]
            self._show(_identities_node(role), rules)

    def _show(self, node: Any, rules: Sequence[Any]) -> None:
        self._write(node, ua.Variant(list(rules), T.ExtensionObject, is_array=True))


def _rule(kind: Any, criteria: str) -> Any:
    return ua.IdentityMappingRuleType(CriteriaType=kind, Criteria=criteria)


BASE_EVENT = ua.NodeId(IDS.BaseEventType)
AUDIT_EVENT = ua.NodeId(IDS.AuditEventType)
KINDS = ua.AccessRestrictionType


class Receivers:
    """Who gets events of a type: ReceiveEvents of RolePermissions (Part 3 8.55), of the type or a supertype.

    What is limited to roles goes out on encrypted channels alone.
    """

    def __init__(self, space: Space) -> None:
        self._space = space
        self._limited: Mapping[Any, frozenset[Role]] = {AUDIT_EVENT: policy.ACTIONS["ReadAuditEvents"]}

    def of(self, event_type: Any) -> frozenset[Role] | None:
        """Roles that get events of this type; None: every one."""
        return next((self._limited[t] for t in self._space.supertypes(event_type) if t in self._limited), None)

    def may(self, caller: Caller | None, event_type: Any) -> bool:
        roles = self.of(event_type)
        return roles is None or admitted(caller, roles)


def admitted(caller: Caller | None, roles: frozenset[Role]) -> bool:
    """Whether the caller holds one of the roles, on an encrypted channel."""
    if caller is None or caller.mode != SecurityMode.SIGN_AND_ENCRYPT:
        return False
    return not caller.roles.isdisjoint(roles)


class Sight:
    """Who sees which nodes: Permission Browse (Part 3 8.55). All of them, but where a namespace has a rule."""

    def __init__(self) -> None:
        self._rules: dict[int, Rule] = {}

    def limit(self, namespace: int, rule: Rule) -> None:
        """Let nodes of a namespace be seen by whom the rule says."""
        self._rules[namespace] = rule

    def of(self, caller: Caller) -> Mapping[int, Callable[[Any], bool]]:
        """By namespace, whether the caller sees a node; without those he sees all of."""
        found = ((namespace, rule(caller)) for namespace, rule in self._rules.items())
        return {namespace: sees for namespace, sees in found if sees is not None}

    def __call__(self, caller: Caller, node_id: Any) -> bool:
        rule = self._rules.get(node_id.NamespaceIndex)
        sees = rule(caller) if rule is not None else None
        return sees is None or sees(node_id)


class Permissions:
    """The three attributes of Part 3 5.2.9 to 5.2.11, of any node.

    `sees` is Browse, `access(caller, node_id)` UserAccessLevel, `executable(caller, node_id)` UserExecutable;
    `secured`: all sessions are signed and encrypted.
    """

    def __init__(
        self,
        space: Space,
        sees: Sees,
        access: Callable[[Caller, Any], int],
        executable: Callable[[Caller, Any], bool],
        *,
        secured: bool,
    ) -> None:
        self._space = space
        self._sees = sees
        self._access = access
        self._executable = executable
        self._receivers = Receivers(space)
        always = KINDS.SigningRequired | KINDS.EncryptionRequired | KINDS.ApplyRestrictionsToBrowse
        self._restrictions = int(KINDS.SessionRequired | (always if secured else 0))

    def of_roles(self, node_id: Any, roles: Sequence[Role]) -> Any:
        """RolePermissions of some roles, those without any left out."""
        found = [
            ua.RolePermissionType(RoleId=role_node(role), Permissions=permissions)
            for role in roles
            if (permissions := self._of(node_id, role))
        ]
        return ua.Variant(found, T.ExtensionObject, is_array=True)

    def restrictions(self, node_id: Any) -> Any:
        """AccessRestrictions: without a session of this kind there is no access to anything, nor to limited events."""
        limited = self._is_event_type(node_id) and self._receivers.of(node_id) is not None
        encrypted = int(KINDS.SigningRequired | KINDS.EncryptionRequired) if limited else 0
        return ua.Variant(self._restrictions | encrypted, T.UInt16)

    def _is_event_type(self, node_id: Any) -> bool:
        is_type = self._space.node_class(node_id) == ua.NodeClass.ObjectType
        return is_type and self._space.is_subtype(node_id, BASE_EVENT)

    def _of(self, node_id: Any, role: Role) -> Any:
        caller = Caller(user="" if role is Role.ANONYMOUS else "anyone", roles=frozenset({role}))
        if not self._sees(caller, node_id):
            return PERMISSION(0)
        found = PERMISSION.Browse
        if role in ADMINISTRATORS:
            found |= PERMISSION.ReadRolePermissions
        kind = self._space.node_class(node_id)
        if kind == ua.NodeClass.Variable:
            access = self._access(caller, node_id)
            found |= PERMISSION.Read if access & Access.READ else PERMISSION(0)
            found |= PERMISSION.Write if access & Access.WRITE else PERMISSION(0)
            found |= PERMISSION.ReadHistory if access & Access.HISTORY_READ else PERMISSION(0)
            found |= CHANGE_HISTORY if access & Access.HISTORY_WRITE else PERMISSION(0)
        elif kind == ua.NodeClass.Method and self._executable(caller, node_id):
            found |= PERMISSION.Call
        elif (kind == ua.NodeClass.Object and self._space.attribute(node_id, ua.AttributeIds.EventNotifier)) or (
            self._is_event_type(node_id) and self._receivers.may(caller, node_id)
        ):
            found |= PERMISSION.ReceiveEvents
        return found
