"""The quality agent: results, limits and exceptions of the batch against what its record must show.

Rules in order, the first that applies answers. A broken rule is a fact and is rejected with confidence 1; the
confidence of an approval is 1 - the worst anomaly of the batch, so 0.5 at the limit itself.
"""

from collections.abc import Callable, Sized

from agents.case import Case, Evidence, cite
from nodesets.model import ExecutionState, Verdict, Vote

NAME = "quality"


def consider(case: Case, evidence: Evidence) -> Vote:
    """May the batch be proposed for release, as far as its results and its record say?"""
    for rule in RULES:
        if answer := rule(case):
            kind, confidence, reason, rows = answer
            return Vote(agent=NAME, answer=kind, confidence=confidence, reason=reason, evidence=cite(evidence, *rows))
    worst = max(r.anomaly for r in case.results)
    lowest = min(r.score for r in case.results)
    return Vote(
        agent=NAME,
        answer="approve",
        confidence=min(max(1.0 - worst, 0.0), 1.0),
        reason=f"all {len(case.results)} results OK, lowest score {lowest:.1f}, limit {case.score_low:.1f}",
        evidence=cite(evidence, "samples", "verdicts", "scores", "model", "exceptions"),
    )


Answer = tuple[str, float, str, tuple[str, ...]]
"""(answer, confidence, reason, kinds of evidence)."""


def _ended_early(case: Case) -> Answer | None:
    if case.execution in (ExecutionState.STOPPED, ExecutionState.ABORTED):
        return "reject", 1.0, f"the batch was {case.execution.name.lower()}", ("batch",)
    return None


def _not_ended(case: Case) -> Answer | None:
    if case.execution != ExecutionState.COMPLETE:
        return "abstain", 0.0, f"the batch is {case.execution.name.lower()}, not complete", ("batch",)
    return None


def _model(case: Case) -> Answer | None:
    # Without a signed model there is no result that could be relied on (agents.md L04).
    if not case.model_approved:
        return "reject", 1.0, "the batch has no Approved model", ("model",)
    if any(r.model_digest != case.model_digest for r in case.results):
        return "reject", 1.0, "a result was not made by the model pinned for this batch", ("model",)
    return None


def _origin(case: Case) -> Answer | None:
    # Process rule 7.
    if case.simulated and not case.demo_site:
        return "reject", 1.0, "simulated results cannot be released outside a demo site", ("origin",)
    return None


def _critical(case: Case) -> Answer | None:
    if critical := [e for e in case.exceptions if e.critical]:
        return "reject", 1.0, f"{_count(critical, 'critical exception')} open", ("exceptions", "exception")
    return None


def _failed(case: Case) -> Answer | None:
    # Process rule 12: no averaging over a failure; one NotOK is enough, however good the others are.
    if failed := case.of(Verdict.NOT_OK):
        return "reject", 1.0, f"{len(failed)} of {_count(case.results, 'result')} NotOK", ("verdicts", "result")
    return None


def _undecided(case: Case) -> Answer | None:
    ok = len(case.of(Verdict.OK))
    if ok < max(case.planned, len(case.results), 1):
        reason = f"{ok} OK results, {case.planned} planned, {len(case.results) - ok} not decidable"
        return "abstain", 0.0, reason, ("samples", "verdicts", "result")
    return None


def _near_limit(case: Case) -> Answer | None:
    # agents.md L08: an interval that reaches the limit is undecided. Written so that NaN is near, too.
    near = [r for r in case.results if not (r.score - r.uncertainty >= case.score_low and r.anomaly <= 1.0)]
    if near:
        return "abstain", 0.0, f"the interval of {_count(near, 'score')} reaches the limit or is unknown", ("scores",)
    return None


def _minor(case: Case) -> Answer | None:
    # Below the veto: a person may find them irrelevant, and until then the agents do not agree.
    if case.exceptions:
        return "reject", 0.6, f"{_count(case.exceptions, 'exception')} not dispositioned", ("exceptions", "exception")
    return None


def _count(things: Sized, name: str) -> str:
    return f"{len(things)} {name}{'' if len(things) == 1 else 's'}"


RULES: tuple[Callable[[Case], Answer | None], ...] = (
    _ended_early,
    _not_ended,
    _model,
    _origin,
    _critical,
    _failed,
    _undecided,
    _near_limit,
    _minor,
)
