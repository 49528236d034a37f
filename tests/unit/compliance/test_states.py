from itertools import product

import pytest

from compliance.states import CLOSED, DISPOSITION, ENDED, EXECUTION, SETTLES, Event, disposition_after, execution_path
from nodesets.errors import InvalidState
from nodesets.model import DispositionState as D
from nodesets.model import ExecutionState as E

# Information model 1.6 and 4, written down a second time: R12, every (state, event) pair.
EXECUTES = {
    (E.IDLE, "start"): (E.RUNNING,),
    (E.IDLE, "abort"): (E.ABORTING, E.ABORTED),
    (E.RUNNING, "hold"): (E.HOLDING, E.HELD),
    (E.RUNNING, "complete"): (E.COMPLETING, E.COMPLETE),
    (E.RUNNING, "stop"): (E.STOPPING, E.STOPPED),
    (E.RUNNING, "abort"): (E.ABORTING, E.ABORTED),
    (E.HELD, "restart"): (E.RESTARTING, E.RUNNING),
    (E.HELD, "stop"): (E.STOPPING, E.STOPPED),
    (E.HELD, "abort"): (E.ABORTING, E.ABORTED),
}
DISPOSES = {
    (D.NOT_READY, "end"): D.QUARANTINE,
    (D.QUARANTINE, "evaluate"): D.UNDER_REVIEW,
    (D.UNDER_REVIEW, "request release"): D.AWAITING_SIGNATURE,
    (D.AWAITING_SIGNATURE, "release"): D.RELEASED,
    (D.QUARANTINE, "reject"): D.REJECTED,
    (D.UNDER_REVIEW, "reject"): D.REJECTED,
    (D.AWAITING_SIGNATURE, "reject"): D.REJECTED,
    (D.UNDER_REVIEW, "quarantine"): D.QUARANTINE,
    (D.AWAITING_SIGNATURE, "quarantine"): D.QUARANTINE,
    (D.RELEASED, "recall"): D.RECALLED,
}


@pytest.mark.parametrize(("state", "event"), list(product(E, Event)))
def test_every_step_of_execution_is_possible_or_refused(state: E, event: Event) -> None:
    if (state, event) in EXECUTES:
        assert execution_path(state, event) == EXECUTES[state, event]
    else:
        with pytest.raises(InvalidState):
            execution_path(state, event)


@pytest.mark.parametrize(("state", "event"), list(product(D, Event)))
def test_every_step_of_disposition_is_possible_or_refused(state: D, event: Event) -> None:
    if (state, event) in DISPOSES:
        assert disposition_after(state, event) is DISPOSES[state, event]
    else:
        with pytest.raises(InvalidState):
            disposition_after(state, event)


def test_no_state_is_dead() -> None:
    # A state nothing leads to, or an execution nothing ends, would be a slot that never becomes free (process rule 8).
    assert {*EXECUTION.values(), *SETTLES.values()} == set(E) - {E.IDLE}
    assert {*DISPOSITION.values()} == set(D) - {D.NOT_READY}
    reachable = {E.IDLE}
    for _ in E:
        reachable |= {execution_path(s, e)[-1] for s, e in EXECUTION if s in reachable}
    assert reachable == {E.IDLE, E.RUNNING, E.HELD} | ENDED
    assert not {state for state, _ in EXECUTION} & ENDED


def test_a_closed_record_is_left_by_recall_alone() -> None:
    assert {(s, e) for s, e in DISPOSITION if s in CLOSED} == {(D.RELEASED, Event.RECALL)}
