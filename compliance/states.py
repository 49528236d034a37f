"""The two machines of a batch: execution (after ISA-88) and quality disposition.

Theory of operation:

1. Everything that decides whether a step is possible is in EXECUTION, SETTLES and DISPOSITION. A pair that is not there
   is the error: InvalidState, and nothing happened (R12).
2. The two machines are orthogonal. One event crosses over: when execution ends, however it ends, the disposition leaves
   NotReady. Disposition then goes on for years while the line makes the next batch (process rule 8).
3. Holding, Restarting, Completing, Stopping and Aborting are transient: an e-nose watches and has nothing to drive to a
   safe state, so they settle in the same transaction. They are in the audit entry and never stored.
4. Nothing here starts by itself: every event is somebody's call.
"""

from collections.abc import Mapping
from enum import StrEnum

from nodesets.errors import InvalidState
from nodesets.model import DispositionState, ExecutionState


class Event(StrEnum):
    """What moves a batch."""

    START = "start"
    HOLD = "hold"
    RESTART = "restart"
    COMPLETE = "complete"
    STOP = "stop"
    ABORT = "abort"
    END = "end"
    """Execution came to rest for good."""
    EVALUATE = "evaluate"
    REQUEST_RELEASE = "request release"
    RELEASE = "release"
    REJECT = "reject"
    QUARANTINE = "quarantine"
    RECALL = "recall"


E = ExecutionState
D = DispositionState

EXECUTION: Mapping[tuple[ExecutionState, Event], ExecutionState] = {
    (E.IDLE, Event.START): E.RUNNING,
    (E.IDLE, Event.ABORT): E.ABORTING,  # a batch created by mistake must not hold the line
    (E.RUNNING, Event.HOLD): E.HOLDING,
    (E.RUNNING, Event.COMPLETE): E.COMPLETING,
    (E.RUNNING, Event.STOP): E.STOPPING,
    (E.RUNNING, Event.ABORT): E.ABORTING,
    (E.HELD, Event.RESTART): E.RESTARTING,
    (E.HELD, Event.STOP): E.STOPPING,
    (E.HELD, Event.ABORT): E.ABORTING,
}

SETTLES: Mapping[ExecutionState, ExecutionState] = {
    E.HOLDING: E.HELD,
    E.RESTARTING: E.RUNNING,
    E.COMPLETING: E.COMPLETE,
    E.STOPPING: E.STOPPED,
    E.ABORTING: E.ABORTED,
}
"""Where a transient state goes by itself."""

ENDED = frozenset({E.COMPLETE, E.STOPPED, E.ABORTED})
"""The line is free again (process rule 8)."""

DISPOSITION: Mapping[tuple[DispositionState, Event], DispositionState] = {
    (D.NOT_READY, Event.END): D.QUARANTINE,
    (D.QUARANTINE, Event.EVALUATE): D.UNDER_REVIEW,
    (D.QUARANTINE, Event.REJECT): D.REJECTED,
    (D.UNDER_REVIEW, Event.REQUEST_RELEASE): D.AWAITING_SIGNATURE,
    (D.UNDER_REVIEW, Event.QUARANTINE): D.QUARANTINE,
    (D.UNDER_REVIEW, Event.REJECT): D.REJECTED,
    (D.AWAITING_SIGNATURE, Event.RELEASE): D.RELEASED,
    (D.AWAITING_SIGNATURE, Event.QUARANTINE): D.QUARANTINE,
    (D.AWAITING_SIGNATURE, Event.REJECT): D.REJECTED,
    (D.RELEASED, Event.RECALL): D.RECALLED,
}

CLOSED = frozenset({D.RELEASED, D.REJECTED, D.RECALLED})
"""The record takes nothing more."""


def execution_path(state: ExecutionState, event: Event) -> tuple[ExecutionState, ...]:
    """States an event leads through; the last one is stored. Raises InvalidState."""
    if (state, event) not in EXECUTION:
        raise InvalidState(f"cannot {event} a batch that is {state.name}")
    path = [EXECUTION[state, event]]
    while path[-1] in SETTLES:
        path.append(SETTLES[path[-1]])
    return tuple(path)


def disposition_after(state: DispositionState, event: Event) -> DispositionState:
    """Raises InvalidState."""
    if (state, event) not in DISPOSITION:
        raise InvalidState(f"cannot {event} a batch whose disposition is {state.name}")
    return DISPOSITION[state, event]
