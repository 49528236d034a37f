"""Cases for the tests of the agents: a good batch, and what can be wrong with it."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from agents.case import Case, ChannelRecord, Gap, OpenException
from nodesets.model import ExecutionState, Result, Verdict

NOW = 1_772_366_400 * 10**9
DIGEST = "5f" * 32


def result(number: int = 1, **changes: object) -> Result:
    values: dict[str, object] = {
        "result_id": f"RES-{number:03}",
        "stream": "EN01.Stream01",
        "started": NOW + number * 10**9,
        "stopped": NOW + (number + 1) * 10**9,
        "verdict": Verdict.OK,
        "reason": "",
        "score": 70.0 + number,
        "uncertainty": 4.0,
        "anomaly": 0.1,
        "predicted_class": "roast A",
        "confidence": 0.9,
        "reference_count": 60,
        "false_alarm_rate": 0.05,
        "contributions": (("S07", 0.5), ("S03", 0.25), ("S01", 0.15), ("S02", 0.1)),
        "model": "COFFEE-A/1",
        "model_digest": DIGEST,
        "batch_id": "B-1",
    }
    return Result(**{**values, **changes})  # type: ignore[arg-type]


def failed(number: int = 2, **changes: object) -> Result:
    bad = {"verdict": Verdict.NOT_OK, "reason": "SPE above its limit", "score": 2.0, "anomaly": 0.97}
    return result(number, **{**bad, **changes})


GOOD = Case(
    time=NOW,
    batch_id="B-1",
    product="COFFEE-A",
    execution=ExecutionState.COMPLETE,
    planned=3,
    results=(result(1), result(2), result(3)),
    model="COFFEE-A/1",
    model_digest=DIGEST,
    model_approved=True,
    score_low=20.0,
    channels=tuple(
        ChannelRecord(channel=f"EN01.Array.S{i:02}.SensorValue", readings=600, bad=0, uncertain=i) for i in range(1, 13)
    ),
    context=(("LotId", "LOT-7"),),
)
MINOR = OpenException(exception_id="X01", kind="QualityScoreLow", critical=False)
CRITICAL = OpenException(exception_id="X02", kind="CommunicationLost", critical=True)

FAULTS: Mapping[str, Callable[[Case], Case]] = {
    "a failed result": lambda c: replace(c, results=(*c.results, failed(9))),
    "no results": lambda c: replace(c, results=()),
    "a result that is not decidable": lambda c: replace(
        c, results=(*c.results, result(9, verdict=Verdict.NOT_DECIDABLE, score=float("nan"), reason="CARRY_OVER"))
    ),
    "fewer results than planned": lambda c: replace(c, planned=len(c.results) + 1),
    "no approved model": lambda c: replace(c, model_approved=False),
    "a result of another model": lambda c: replace(c, results=(*c.results, result(9, model_digest="00" * 32))),
    "a critical exception": lambda c: replace(c, exceptions=(*c.exceptions, CRITICAL)),
    "a minor exception": lambda c: replace(c, exceptions=(*c.exceptions, MINOR)),
    "simulated results outside a demo site": lambda c: replace(
        c, results=(*c.results, result(9, simulated=True)), demo_site=False
    ),
    "a batch still running": lambda c: replace(c, execution=ExecutionState.RUNNING),
    "an aborted batch": lambda c: replace(c, execution=ExecutionState.ABORTED),
    "a score whose interval reaches the limit": lambda c: replace(
        c, results=(*c.results, result(9, score=22.0, uncertainty=3.0))
    ),
    "a score without an interval": lambda c: replace(c, results=(*c.results, result(9, uncertainty=float("nan")))),
    "no limit": lambda c: replace(c, score_low=float("nan")),
    "a gap in communication": lambda c: replace(c, gaps=(Gap(device="EN01", start=NOW, end=NOW + 3 * 10**9),)),
    "a failed channel": lambda c: replace(
        c, channels=(*c.channels, ChannelRecord(channel="S99", readings=100, bad=40, uncertain=0))
    ),
    "a doubtful channel": lambda c: replace(
        c, channels=(*c.channels, ChannelRecord(channel="S98", readings=100, bad=0, uncertain=40))
    ),
    "no record of the readings": lambda c: replace(c, channels=()),
}
"""Each alone is reason enough not to propose a batch."""
