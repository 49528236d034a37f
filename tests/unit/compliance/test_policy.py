from itertools import product

import pytest

from compliance.policy import ACTIONS, CHANGE_PASSWORD, PEOPLE_ONLY, allowed, permit
from nodesets.errors import AccessDenied
from nodesets.model import HUMAN_ROLES, Caller, Role

EVERYONE = set(Role) - {Role.ANONYMOUS}

# Information model 1.6, column Role, and 1.7, read role by role instead of action by action.
MAY = {
    Role.ANONYMOUS: "",
    Role.OBSERVER: "",
    Role.OPERATOR: """
        Alarms.Acknowledge Alarms.Confirm Alarms.AddComment Alarms.Silence Alarms.Reset
        Alarms.TimedShelve Alarms.OneShotShelve Alarms.Unshelve Alarms.Suppress Alarms.Unsuppress
        Alarms.RemoveFromService Alarms.PlaceInService
        MethodSet.StartSingleAcquisition MethodSet.StopAcquisition MethodSet.SetContext
        BatchControl.CreateBatch BatchControl.StartBatch BatchControl.CompleteBatch BatchControl.HoldBatch
        BatchControl.RestartBatch BatchControl.StopBatch BatchControl.AbortBatch BatchControl.AddSample
        BatchControl.ReportException BatchControl.AddManualEntry BatchControl.VerifyManualEntry
        Agents.AcceptRecommendation Agents.RejectRecommendation Agents.DeferRecommendation
        Alarms.Respond""",
    Role.MES: """
        BatchControl.CreateBatch BatchControl.StartBatch BatchControl.CompleteBatch BatchControl.HoldBatch
        BatchControl.RestartBatch BatchControl.StopBatch BatchControl.AbortBatch BatchControl.AddSample
        BatchControl.ReportException BatchControl.EvaluateBatch BatchControl.RequestRelease""",
    Role.ENGINEER: """
        Alarms.Enable Alarms.Disable Alarms.ResetMetrics Alarms.RemoveFromService Alarms.PlaceInService
        MethodSet.SetConfiguration MethodSet.GotoOperating MethodSet.GotoMaintenance
        Calibration.StartCalibration Calibration.AcceptCalibration Calibration.ReplaceSensor
        Models.LearnProduct Models.EvaluateModel
        Agents.AcceptRecommendation Agents.RejectRecommendation Agents.DeferRecommendation
        Alarms.Respond""",
    Role.QA: """
        BatchControl.EvaluateBatch BatchControl.RequestRelease BatchControl.DispositionException
        BatchControl.RejectBatch BatchControl.QuarantineBatch Models.ApproveModel Models.RollbackModel
        Agents.AcceptRecommendation Agents.RejectRecommendation Agents.DeferRecommendation
        Alarms.Respond""",
    Role.QA_RELEASE: """
        BatchControl.ReleaseBatch
        Agents.AcceptRecommendation Agents.RejectRecommendation Agents.DeferRecommendation
        Alarms.Respond""",
    Role.AUDITOR: "ReadAuditEvents Compliance.VerifyAuditChain Compliance.GetAuditRecords",
    Role.CONFIGURE_ADMIN: "Server.Reload Server.Backup",
    Role.SECURITY_ADMIN: """
        ReadAuditEvents Security.AddUser Security.DisableUser Security.ResetUser Security.ListUsers
        Security.ListCertificates Security.TrustCertificate""",
    Role.ADVISOR: "",
}
WHOEVER_LOGGED_IN = """
    Read Alarms.GetGroupMemberships
    MethodSet.GetConfiguration MethodSet.GetConfigDataDigest MethodSet.CompareConfigDataDigest
    BatchControl.GetBatchSummary Signatures.RequestSignature Signatures.ExecuteSignature
    Signatures.CancelSignature Signatures.VerifySignature"""


def as_role(role: Role, *, service: bool = False) -> Caller:
    return Caller(user="someone", roles=frozenset({role}), service=service)


@pytest.mark.parametrize(("role", "action"), list(product(Role, ACTIONS)))
def test_each_role_may_do_what_its_row_says_and_nothing_else(role: Role, action: str) -> None:
    # R13. A role that silently gained a method would not show up in any other test.
    expected = set(MAY[role].split()) | (set(WHOEVER_LOGGED_IN.split()) if role in EVERYONE else set())
    assert allowed(as_role(role), action) is (action in expected)


def test_the_matrix_covers_the_whole_table() -> None:
    assert {action for row in MAY.values() for action in row.split()} | set(WHOEVER_LOGGED_IN.split()) == set(ACTIONS)


def test_what_is_not_in_the_table_is_denied_to_everybody() -> None:
    # Default deny: a method somebody adds and forgets here does not work, instead of working for all.
    everything = Caller(user="root", roles=frozenset(Role))
    assert not allowed(everything, "BatchControl.ReleaseBatchSigned")
    with pytest.raises(AccessDenied, match="root"):
        permit(everything, "")


def test_permit_lets_pass_who_is_allowed() -> None:
    permit(as_role(Role.QA_RELEASE), "BatchControl.ReleaseBatch")


def test_a_service_account_decides_nothing_whatever_its_roles() -> None:
    # Process rule 15 and agents.md: a decision needs a person who answers for it.
    for action in PEOPLE_ONLY:
        assert not allowed(Caller(user="gateway", roles=frozenset(Role), service=True), action)
    assert allowed(as_role(Role.OPERATOR, service=True), "BatchControl.CreateBatch")
    assert not any(
        allowed(as_role(Role.ADVISOR, service=True), f"Agents.{a}Recommendation") for a in ("Accept", "Defer")
    )


def test_who_holds_no_role_may_only_change_the_password() -> None:
    # R25: until a password chosen by an administrator is changed, its owner can do nothing else.
    newcomer = Caller(user="newcomer")
    assert allowed(newcomer, CHANGE_PASSWORD)
    assert not any(allowed(newcomer, action) for action in ACTIONS)
    assert not allowed(Caller(user="", roles=frozenset({Role.ANONYMOUS})), CHANGE_PASSWORD)


def test_recommendations_are_for_human_roles() -> None:
    assert ACTIONS["Agents.AcceptRecommendation"] == HUMAN_ROLES
