from dataclasses import replace

import pytest

from agents import quality
from agents.case import Case, gather
from nodesets.model import ExecutionState, Vote
from tests.unit.agents.cases import CRITICAL, FAULTS, GOOD, MINOR, failed, result


def ask(case: Case) -> Vote:
    return quality.consider(case, gather(case))


@pytest.mark.parametrize(
    ("fault", "answer"),
    [
        ("a failed result", "reject"),
        ("no results", "abstain"),
        ("a result that is not decidable", "abstain"),
        ("fewer results than planned", "abstain"),
        ("no approved model", "reject"),
        ("a result of another model", "reject"),
        ("a critical exception", "reject"),
        ("a minor exception", "reject"),
        ("simulated results outside a demo site", "reject"),
        ("a batch still running", "abstain"),
        ("an aborted batch", "reject"),
        ("a score whose interval reaches the limit", "abstain"),
        ("a score without an interval", "abstain"),
        ("no limit", "abstain"),
        ("a gap in communication", "approve"),
    ],
)
def test_each_fault_has_its_answer(fault: str, answer: str) -> None:
    assert ask(FAULTS[fault](GOOD)).answer == answer


def test_one_failure_is_not_averaged_away_by_many_good_results() -> None:
    # Process rule 12.
    case = replace(GOOD, results=(*(result(i, score=99.0, anomaly=0.0) for i in range(500)), failed(501)))
    assert ask(case) == replace(ask(case), answer="reject", confidence=1.0, reason="1 of 501 results NotOK")


def test_an_approval_is_as_sure_as_the_worst_result() -> None:
    case = replace(GOOD, results=(*GOOD.results, result(4, anomaly=0.45)))
    assert ask(case).confidence == pytest.approx(0.55)


def test_a_minor_exception_alone_is_no_veto_and_a_critical_one_is_sure() -> None:
    assert ask(replace(GOOD, exceptions=(MINOR,))).confidence == 0.6
    assert ask(replace(GOOD, exceptions=(MINOR, CRITICAL))).confidence == 1.0


def test_simulated_results_count_on_a_demo_site() -> None:
    # Process rule 7.
    case = replace(GOOD, results=tuple(replace(r, simulated=True) for r in GOOD.results), demo_site=True)
    assert ask(case).answer == "approve"


@pytest.mark.parametrize("state", sorted(set(ExecutionState) - {ExecutionState.COMPLETE}))
def test_only_a_complete_batch_is_approved(state: ExecutionState) -> None:
    assert ask(replace(GOOD, execution=state)).answer != "approve"
