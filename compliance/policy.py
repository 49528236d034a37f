"""Who may do what: one table, deny by default (information model 1.6 and 1.7, R13).

An action is `Object.Method`. What is not in the table nobody may do. Who may *sign* is in `signatures.SIGNERS`.
"""

from collections.abc import Mapping
from types import MappingProxyType

from nodesets.errors import AccessDenied
from nodesets.model import HUMAN_ROLES, Caller, Role

_ANY = frozenset(Role) - {Role.ANONYMOUS}
_OPERATOR = frozenset({Role.OPERATOR})
_EXECUTION = frozenset({Role.OPERATOR, Role.MES})
_ENGINEER = frozenset({Role.ENGINEER})
_SERVICING = frozenset({Role.OPERATOR, Role.ENGINEER})
_QA = frozenset({Role.QA})
_QA_OR_MES = frozenset({Role.QA, Role.MES})
_AUDITOR = frozenset({Role.AUDITOR})
_CONFIGURE = frozenset({Role.CONFIGURE_ADMIN})
_SECURITY = frozenset({Role.SECURITY_ADMIN})

ACTIONS: Mapping[str, frozenset[Role]] = MappingProxyType(
    {
        "Read": _ANY,
        "ReadAuditEvents": frozenset({Role.AUDITOR, Role.SECURITY_ADMIN}),
        "Alarms.Acknowledge": _OPERATOR,
        "Alarms.Confirm": _OPERATOR,
        "Alarms.AddComment": _OPERATOR,
        "Alarms.Silence": _OPERATOR,
        "Alarms.Reset": _OPERATOR,
        "Alarms.TimedShelve": _OPERATOR,
        "Alarms.OneShotShelve": _OPERATOR,
        "Alarms.Unshelve": _OPERATOR,
        "Alarms.Suppress": _OPERATOR,
        "Alarms.Unsuppress": _OPERATOR,
        "Alarms.RemoveFromService": _SERVICING,
        "Alarms.PlaceInService": _SERVICING,
        "Alarms.Respond": HUMAN_ROLES,
        "Alarms.GetGroupMemberships": _ANY,
        "Alarms.ResetMetrics": _ENGINEER,
        "Alarms.Enable": _ENGINEER,
        "Alarms.Disable": _ENGINEER,
        "MethodSet.StartSingleAcquisition": _OPERATOR,
        "MethodSet.StopAcquisition": _OPERATOR,
        "MethodSet.SetContext": _OPERATOR,
        "MethodSet.GetConfiguration": _ANY,
        "MethodSet.GetConfigDataDigest": _ANY,
        "MethodSet.CompareConfigDataDigest": _ANY,
        "MethodSet.SetConfiguration": _ENGINEER,
        "MethodSet.GotoOperating": _ENGINEER,
        "MethodSet.GotoMaintenance": _ENGINEER,
        "Calibration.StartCalibration": _ENGINEER,
        "Calibration.AcceptCalibration": _ENGINEER,
        "Calibration.ReplaceSensor": _ENGINEER,
        "BatchControl.CreateBatch": _EXECUTION,
        "BatchControl.StartBatch": _EXECUTION,
        "BatchControl.CompleteBatch": _EXECUTION,
        "BatchControl.HoldBatch": _EXECUTION,
        "BatchControl.RestartBatch": _EXECUTION,
        "BatchControl.StopBatch": _EXECUTION,
        "BatchControl.AbortBatch": _EXECUTION,
        "BatchControl.AddSample": _EXECUTION,
        "BatchControl.AddManualEntry": _OPERATOR,
        "BatchControl.VerifyManualEntry": _OPERATOR,
        "BatchControl.ReportException": _EXECUTION,
        "BatchControl.EvaluateBatch": _QA_OR_MES,
        "BatchControl.GetBatchSummary": _ANY,
        "BatchControl.DispositionException": _QA,
        "BatchControl.RequestRelease": _QA_OR_MES,
        "BatchControl.ReleaseBatch": frozenset({Role.QA_RELEASE}),
        "BatchControl.RejectBatch": _QA,
        "BatchControl.QuarantineBatch": _QA,
        "Signatures.RequestSignature": _ANY,
        "Signatures.ExecuteSignature": _ANY,
        "Signatures.CancelSignature": _ANY,
        "Signatures.VerifySignature": _ANY,
        "Models.LearnProduct": _ENGINEER,
        "Models.EvaluateModel": _ENGINEER,
        "Models.ApproveModel": _QA,
        "Models.RollbackModel": _QA,
        "Agents.AcceptRecommendation": HUMAN_ROLES,
        "Agents.RejectRecommendation": HUMAN_ROLES,
        "Agents.DeferRecommendation": HUMAN_ROLES,
        "Compliance.VerifyAuditChain": _AUDITOR,
        "Compliance.GetAuditRecords": _AUDITOR,
        "Security.AddUser": _SECURITY,
        "Security.DisableUser": _SECURITY,
        "Security.ResetUser": _SECURITY,
        "Security.ListUsers": _SECURITY,
        "Security.ListCertificates": _SECURITY,
        "Security.TrustCertificate": _SECURITY,
        "Server.Reload": _CONFIGURE,
        "Server.Backup": _CONFIGURE,
    }
)

PEOPLE_ONLY = frozenset(
    {
        "Agents.AcceptRecommendation",
        "Agents.RejectRecommendation",
        "Agents.DeferRecommendation",
        "Alarms.Respond",
        "BatchControl.DispositionException",
        "BatchControl.ReleaseBatch",
        "BatchControl.RejectBatch",
        "BatchControl.QuarantineBatch",
        "Models.ApproveModel",
        "Models.RollbackModel",
    }
)
"""Refused to service accounts whatever their roles: a decision needs someone to answer for it (process rule 15)."""

CHANGE_PASSWORD = "Security.ChangePassword"  # noqa: S105 - an action's name
"""Open to every named account, also to one that holds no role until its first password is changed."""


def allowed(caller: Caller, action: str) -> bool:
    """Whether the caller may do the action now."""
    if action == CHANGE_PASSWORD:
        return bool(caller.user) and Role.ANONYMOUS not in caller.roles
    if caller.service and action in PEOPLE_ONLY:
        return False
    return not caller.roles.isdisjoint(ACTIONS.get(action, frozenset()))


def permit(caller: Caller, action: str) -> None:
    """Raises AccessDenied unless `allowed`."""
    if not allowed(caller, action):
        raise AccessDenied(f"{caller.user or 'anonymous'} may not {action}")
