from compliance import recommendations
from nodesets.model import Recommendation
from tests.unit.compliance.shift import NOW, SERVICE, Shift, caller


def advice(name: str, created: int, expires: int) -> Recommendation:
    return Recommendation(
        recommendation_id=name,
        agent="orchestrator",
        subject=f"batch of {name}",
        text="may be released",
        rationale="why",
        confidence=0.9,
        priority=200,
        created=created,
        expires=expires,
        evidence=(),
        votes=(),
    )


def test_open_advice_comes_first_and_what_has_expired_is_not_open(shift: Shift) -> None:
    # Each batch leaves one that nobody decided: they must not fill the ten slots for ever.
    for number in range(3):
        recommendations.publish(shift.tx, SERVICE, NOW, advice(f"old{number}", NOW - 100 + number, NOW - 1))
    recommendations.publish(shift.tx, SERVICE, NOW, advice("open", NOW - 50, NOW + 1))
    recommendations.publish(shift.tx, SERVICE, NOW, advice("decided", NOW, NOW + 1))
    recommendations.decide(shift.tx, caller("op1"), NOW, "decided", "accept", "agreed")
    shown = recommendations.newest(shift.tx, NOW, 3)
    assert [a.recommendation.recommendation_id for a in shown] == ["open", "decided", "old2"]
