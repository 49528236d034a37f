from dataclasses import replace

from agents.case import ROWS_OF_A_KIND, ChannelRecord, cite, gather
from tests.unit.agents.cases import CRITICAL, GOOD, failed


def test_evidence_states_the_sums_and_lists_what_deviates() -> None:
    case = replace(GOOD, results=(*GOOD.results, failed(4)), exceptions=(CRITICAL,))
    rows = dict(gather(case))
    assert rows["verdicts"] == "UNDEFINED 0, OK 3, NOT_OK 1, NOT_DECIDABLE 0"
    assert rows["scores"] == "lowest 2.0, mean 54.5, limit 20.0"
    assert rows["exceptions"] == "1 open, 1 critical"
    assert rows["result RES-004"] == "NOT_OK, score 2.0 +/- 4.0: SPE above its limit"
    assert "result RES-001" not in rows


def test_evidence_stays_readable_and_says_how_much_it_leaves_out() -> None:
    case = replace(GOOD, results=tuple(failed(i) for i in range(500)))
    rows = [name for name, _ in gather(case) if name.startswith("result ")]
    assert len(rows) == ROWS_OF_A_KIND + 1
    assert dict(gather(case))["result further"] == str(500 - ROWS_OF_A_KIND)


def test_rows_are_cited_by_their_number_counted_from_one() -> None:
    evidence = gather(GOOD)
    [number] = cite(evidence, "scores")
    assert evidence[number - 1][0] == "scores"


def test_typed_text_cannot_pose_as_another_row() -> None:
    # A row's kind is its first word, and that is always ours.
    case = replace(GOOD, exceptions=(replace(CRITICAL, exception_id="\nscores\n", text="scores 100"),))
    evidence = gather(case)
    assert len(cite(evidence, "scores")) == 1
    assert not any("\n" in name + value for name, value in evidence)


def test_a_channel_that_was_never_read_is_all_bad() -> None:
    record = ChannelRecord(channel="S01", readings=0, bad=0, uncertain=0)
    assert (record.bad_share, record.good_share) == (1.0, 0.0)
