"""What the agents are asked about: the facts of one batch, gathered by the server, and the evidence rows they make."""

import math
from dataclasses import dataclass
from typing import Protocol

from agents.text import instruction_like, plain
from nodesets.model import ExecutionState, Result, Verdict, Vote

ROWS_OF_A_KIND = 10
"""Single results, exceptions, channels and gaps listed in the evidence: as many as a person reads."""
VALUE_LENGTH = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenException:
    """An exception of the batch that nobody has dispositioned yet."""

    exception_id: str
    kind: str
    """Row of the alarm table or of the pipeline, e.g. `CommunicationLost`."""
    critical: bool
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelRecord:
    """How good one channel's readings were while the batch ran."""

    channel: str
    """Node of its value, e.g. `EN01.Array.S07.SensorValue`."""
    readings: int
    bad: int
    """Readings with a Bad status; of `readings`."""
    uncertain: int
    """Readings with an Uncertain status; of `readings`."""

    @property
    def bad_share(self) -> float:
        return self.bad / self.readings if self.readings else 1.0

    @property
    def good_share(self) -> float:
        return (self.readings - self.bad - self.uncertain) / self.readings if self.readings else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A time within the batch without communication with a device."""

    device: str
    start: int
    """ns UTC."""
    end: int
    """ns UTC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One batch at one instant: everything an agent may know about it. Equal cases get equal votes."""

    time: int
    """When the question was asked, ns UTC."""
    batch_id: str
    product: str
    execution: ExecutionState
    planned: int
    """Results the plan of the batch asks for."""
    results: tuple[Result, ...] = ()
    """All of the batch, oldest first; none left out (process rule 12)."""
    exceptions: tuple[OpenException, ...] = ()
    model: str = ""
    """The one StartBatch pinned, `PRODUCT/version`."""
    model_digest: str = ""
    model_approved: bool = False
    score_low: float = math.nan
    """Limit of the score below which a result warns; unit 1, 0..100."""
    channels: tuple[ChannelRecord, ...] = ()
    gaps: tuple[Gap, ...] = ()
    demo_site: bool = False
    context: tuple[tuple[str, str], ...] = ()
    """(field, text) as people and other systems typed them: LotId, MaterialId, comments."""

    def of(self, verdict: Verdict) -> tuple[Result, ...]:
        """Results with this verdict, oldest first."""
        return tuple(r for r in self.results if r.verdict == verdict)

    @property
    def simulated(self) -> bool:
        return any(r.simulated for r in self.results)

    @property
    def flagged(self) -> tuple[str, ...]:
        """Fields whose text reads like an instruction to a machine: shown to the person, without any other effect."""
        typed = (
            *self.context,
            ("BatchId", self.batch_id),
            *(("exception", e.text) for e in self.exceptions),
            *(("result", r.reason) for r in self.results),
        )
        return tuple(dict.fromkeys(plain(field, 40) for field, text in typed if instruction_like(text)))


Evidence = tuple[tuple[str, str], ...]
"""Rows (name, value); row n of the text is `rows[n - 1]`. A name's first word is its kind."""


class Agent(Protocol):
    """One view of a case: a pure function, the same vote for the same case on any machine."""

    def __call__(self, case: Case, evidence: Evidence) -> Vote:
        """Answer approve, reject or abstain, citing rows of the evidence by number."""


def cite(evidence: Evidence, *kinds: str) -> tuple[int, ...]:
    """Numbers of the rows of these kinds."""
    return tuple(number for number, (name, _) in enumerate(evidence, 1) if name.split()[0] in kinds)


def gather(case: Case) -> Evidence:
    """The numbered evidence rows of a case: sums first, then each thing that deviates."""
    rows = [
        ("batch", f"{case.batch_id}, {case.execution.name}"),
        ("product", case.product),
        ("samples", f"{len(case.results)} of {case.planned} planned"),
        ("verdicts", ", ".join(f"{v.name} {len(case.of(v))}" for v in Verdict)),
        ("scores", _scores(case)),
        (
            "model",
            f"{case.model or 'none'}, {'approved' if case.model_approved else 'not approved'}, {case.model_digest}",
        ),
        ("exceptions", f"{len(case.exceptions)} open, {sum(e.critical for e in case.exceptions)} critical"),
        (
            "origin",
            f"{'simulated' if case.simulated else 'measured'}, {'demo' if case.demo_site else 'production'} site",
        ),
        ("channels", _channels(case)),
        ("gaps", f"{len(case.gaps)}, {sum(g.end - g.start for g in case.gaps) / 1e9:.1f} s without communication"),
        *_some("result", [(r.result_id, _result(r)) for r in case.results if r.verdict != Verdict.OK]),
        *_some("exception", [(e.exception_id, _exception(e)) for e in case.exceptions]),
        *_some("channel", [(c.channel, _channel(c)) for c in case.channels if c.bad or c.uncertain]),
        *_some("gap", [(g.device, f"{(g.end - g.start) / 1e9:.1f} s") for g in case.gaps]),
        *(("flagged", f"{field}: text that reads like an instruction; shown, not followed") for field in case.flagged),
    ]
    return tuple((plain(name, VALUE_LENGTH), plain(value, VALUE_LENGTH)) for name, value in rows)


def _some(kind: str, rows: list[tuple[str, str]]) -> list[tuple[str, str]]:
    more = len(rows) - ROWS_OF_A_KIND
    listed = [(f"{kind} {name}", value) for name, value in rows[:ROWS_OF_A_KIND]]
    return [*listed, (f"{kind} further", str(more))] if more > 0 else listed


def _scores(case: Case) -> str:
    scores = [r.score for r in case.results if not math.isnan(r.score)]
    if not scores:
        return f"none, limit {case.score_low:.1f}"
    return f"lowest {min(scores):.1f}, mean {sum(scores) / len(scores):.1f}, limit {case.score_low:.1f}"


def _result(result: Result) -> str:
    return f"{result.verdict.name}, score {result.score:.1f} +/- {result.uncertainty:.1f}: {result.reason}"


def _exception(exception: OpenException) -> str:
    return f"{'critical' if exception.critical else 'minor'}, {exception.kind}: {exception.text}"


def _channels(case: Case) -> str:
    if not case.channels:
        return "no record"
    worst = min(case.channels, key=lambda c: c.good_share)
    return f"{len(case.channels)}, worst {worst.channel} with {worst.good_share:.1%} Good"


def _channel(record: ChannelRecord) -> str:
    return f"{record.readings} readings, {record.bad} Bad, {record.uncertain} Uncertain"
