"""The instrument agent: was the instrument fit to judge the batch? It knows readings, not scores.

It disagrees with the quality agent where good-looking results rest on bad data: a link lost within the batch, a
channel that failed or whose readings are doubtful.
"""

from agents.case import Case, Evidence, cite
from nodesets.model import Vote

NAME = "instrument"

BAD_SHARE = 0.01
"""Share of a channel's readings that may be Bad. Our choice: one lost reading in a hundred seconds does not carry a
feature of a cycle; more of them could."""
GOOD_SHARE = 0.95
"""Share of a channel's readings that must be Good, else the agent cannot tell. Our choice, as above."""


def consider(case: Case, evidence: Evidence) -> Vote:
    """May the batch be proposed for release, as far as the readings behind its results say?"""
    answer, confidence, reason, rows = _judge(case)
    return Vote(agent=NAME, answer=answer, confidence=confidence, reason=reason, evidence=cite(evidence, *rows))


def _judge(case: Case) -> tuple[str, float, str, tuple[str, ...]]:
    # Fault F10: a batch cannot be released over a gap.
    if case.gaps:
        lost = sum(g.end - g.start for g in case.gaps) / 1e9
        return "reject", 1.0, f"{lost:.1f} s without communication during the batch", ("gaps", "gap")
    if not case.channels:
        return "abstain", 0.0, "there is no record of the readings", ("channels",)
    failed = [c for c in case.channels if c.bad_share > BAD_SHARE]
    if failed:
        reason = f"{len(failed)} of {len(case.channels)} channels with more than {BAD_SHARE:.0%} Bad readings"
        return "reject", 1.0, reason, ("channels", "channel")
    good = min(c.good_share for c in case.channels)
    if good < GOOD_SHARE:
        return "abstain", 0.0, f"a channel has only {good:.1%} Good readings", ("channels", "channel")
    return (
        "approve",
        good,
        f"each of {len(case.channels)} channels has at least {good:.1%} Good readings",
        ("channels",),
    )
