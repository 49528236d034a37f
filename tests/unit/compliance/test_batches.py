from collections.abc import Callable
from dataclasses import replace

import pytest
from sqlalchemy import select

from compliance import batches, exceptions, models, results, signatures
from compliance.batches import ReasonCode
from compliance.exceptions import CRITICAL, Disposition
from compliance.signatures import Meaning
from compliance.tables import batch
from historian.schema import audit_entry
from nodesets.errors import (
    AccessDenied,
    EntryExists,
    InvalidArgument,
    InvalidState,
    NoData,
    NoMatch,
    NotConfigured,
    NotFound,
    OutOfRange,
)
from nodesets.model import Caller, DispositionState, ExecutionState, Finding, Verdict
from tests.unit.compliance.shift import LINE, PINS, PRODUCT, SERVICE, Shift, caller

OK, NOT_OK, NOT_DECIDABLE = Verdict.OK, Verdict.NOT_OK, Verdict.NOT_DECIDABLE
OUTSIDE_DEMO = replace(PINS, demo=False)


def finding(level: str = "Active") -> Finding:
    return Finding(kind="CommunicationLost", source="EN01", time=0, level=level, text="EN01: no answer for 2 s")


def entries(shift: Shift) -> list[str]:
    return list(shift.tx.execute(select(audit_entry.c.action).order_by(audit_entry.c.seq)).scalars())


class TestCreate:
    def test_a_new_batch_is_idle_and_not_ready(self, shift: Shift) -> None:
        made = shift.created()
        assert (made.execution, made.disposition) == (ExecutionState.IDLE, DispositionState.NOT_READY)
        assert (made.verdict, made.sample_count, made.digest) == (Verdict.UNDEFINED, 0, "")

    def test_twice_is_once(self, shift: Shift) -> None:
        # Process rule 17: two gateways and every retry of a script send the same call again.
        first = shift.created()
        before = entries(shift)
        assert shift.created(by="mes1") == first
        assert entries(shift) == before

    @pytest.mark.parametrize(
        "changed", [{"lot": "LOT8"}, {"quantity": 99.0}, {"recipe": "R2"}, {"product": "COFFEE-B"}, {"line": "L02"}]
    )
    def test_an_id_is_one_batch_for_ever(self, shift: Shift, changed: dict[str, object]) -> None:
        shift.created()
        asked = {"line": LINE, "product": PRODUCT, "recipe": "R1", "lot": "LOT7", "quantity": 100.0} | changed
        with pytest.raises(EntryExists):
            batches.create(shift.tx, caller("op1"), shift.at(), batch_id="B1", **asked)  # type: ignore[arg-type]

    def test_a_line_holds_one_batch_at_a_time(self, shift: Shift) -> None:
        shift.created("B1")
        with pytest.raises(InvalidState, match="B1"):
            shift.created("B2")
        assert shift.created("B3", line="L02").line == "L02"

    @pytest.mark.parametrize("end", [batches.stop, batches.abort])
    def test_the_slot_is_free_when_execution_ends_whatever_the_disposition(
        self, shift: Shift, end: Callable[..., batches.Batch]
    ) -> None:
        # Process rule 8: quality decisions take days, production does not wait.
        shift.running("B1")
        end(shift.tx, caller("op1"), shift.at(), "B1", "jam")
        assert batches.get(shift.tx, "B1").disposition is DispositionState.QUARANTINE
        shift.created("B2")
        current = batches.current(shift.tx, LINE)
        assert current is not None
        assert current.batch_id == "B2"
        assert [b.batch_id for b in batches.recent(shift.tx, LINE)] == ["B2", "B1"]

    def test_a_product_without_an_approved_model_is_refused(self, shift: Shift) -> None:
        # Process rule 5: without it no cycle could be judged.
        with pytest.raises(NotConfigured):
            batches.create(shift.tx, caller("op1"), shift.at(), LINE, "B1", PRODUCT, "", "", 1.0)

    @pytest.mark.parametrize("batch_id", ["", "-B", "../etc", "B 1", "B/1", "B\u03b1", "B" * 65, "B\n", "\u04121"])
    def test_ids_come_from_an_allow_list(self, shift: Shift, batch_id: str) -> None:
        with pytest.raises(InvalidArgument):
            shift.created(batch_id)

    @pytest.mark.parametrize("lot", ["x" * 255, "a\x00b", "line\nbreak", "a\u202eb", "\ud800"])
    def test_texts_that_cannot_be_shown_as_they_are_are_refused(self, shift: Shift, lot: str) -> None:
        shift.model()
        with pytest.raises(InvalidArgument):
            batches.create(shift.tx, caller("op1"), shift.at(), LINE, "B1", PRODUCT, "", lot, 1.0)

    def test_other_texts_are_kept_verbatim(self, shift: Shift) -> None:
        shift.model()
        lot = "Röstung '; DROP TABLE batch; -- {0} %s \u2615"
        assert batches.create(shift.tx, caller("op1"), shift.at(), LINE, "B1", PRODUCT, "", lot, 1.0).lot == lot

    @pytest.mark.parametrize("quantity", [-1.0, float("nan"), float("inf")])
    def test_a_quantity_is_a_number_not_below_zero(self, shift: Shift, quantity: float) -> None:
        with pytest.raises(OutOfRange):
            batches.create(shift.tx, caller("op1"), shift.at(), LINE, "B1", PRODUCT, "", "", quantity)


class TestExecution:
    def test_start_pins_every_version(self, shift: Shift) -> None:
        # Process rule 11: a later approval has its effect from the next batch on.
        started = shift.running()
        first = models.approved(shift.tx, PRODUCT)
        assert first is not None
        assert (started.model_id, started.model_digest) == (first.model_id, first.digest)
        assert (started.configuration, started.software, started.samples) == (PINS.configuration, PINS.software, 2)
        second = shift.model(b"another fingerprint")
        assert batches.get(shift.tx, "B1").model_id == first.model_id
        batches.complete(shift.tx, caller("op1"), shift.at(), "B1")
        assert shift.running("B2").model_id == second.model_id

    def test_start_needs_a_plan_for_the_product(self, shift: Shift) -> None:
        shift.created()
        with pytest.raises(NotConfigured):
            batches.start(shift.tx, caller("op1"), shift.at(), "B1", replace(PINS, samples={}))

    def test_hold_and_restart(self, shift: Shift) -> None:
        shift.running()
        held = batches.hold(shift.tx, caller("op1"), shift.at(), "B1", "belt stands")
        assert held.execution is ExecutionState.HELD
        restarted = batches.restart(shift.tx, caller("op1"), shift.at(), "B1", "belt runs")
        assert restarted.execution is ExecutionState.RUNNING

    def test_transient_states_are_in_the_log(self, shift: Shift) -> None:
        shift.completed()
        body = shift.tx.execute(select(audit_entry.c.body).where(audit_entry.c.action == "batch.complete")).scalar_one()
        assert b'"execution":["COMPLETING","COMPLETE"]' in body

    @pytest.mark.parametrize("operation", [batches.hold, batches.restart, batches.stop, batches.abort])
    @pytest.mark.parametrize("reason", ["", "  ", "\t"])
    def test_a_change_without_a_reason_is_refused(
        self, shift: Shift, operation: Callable[..., batches.Batch], reason: str
    ) -> None:
        # R07: who, what, when, old, new and why.
        before = shift.running()
        with pytest.raises(InvalidArgument):
            operation(shift.tx, caller("op1"), shift.at(), "B1", reason)
        assert batches.get(shift.tx, "B1") == before

    def test_an_unknown_batch_is_not_found(self, shift: Shift) -> None:
        for operation in (batches.complete, batches.evaluate):
            with pytest.raises(NotFound):
                operation(shift.tx, caller("op1"), shift.at(), "B9")
        for read in (batches.get, batches.record, batches.summary):
            with pytest.raises(NotFound):
                read(shift.tx, "B9")

    def test_what_a_service_account_claims_is_kept_beside_it(self, shift: Shift) -> None:
        # Process rule 15: one SCADA session stands for many people.
        shift.model()
        batches.create(shift.tx, caller("mes1"), shift.at(), LINE, "B1", PRODUCT, "", "", 1.0, on_behalf_of="Anna Berg")
        created = batches.record(shift.tx, "B1")["created"]
        assert (created["by"], created["on_behalf_of"]) == ("mes1", "Anna Berg")

    def test_a_person_acts_for_nobody_else(self, shift: Shift) -> None:
        shift.created()
        with pytest.raises(InvalidArgument):
            batches.start(shift.tx, caller("op1"), shift.at(), "B1", PINS, on_behalf_of="Anna Berg")


class TestSamples:
    def test_samples_are_numbered_and_kept_as_they_were_measured(self, shift: Shift) -> None:
        shift.running()
        cycle = shift.cycle()
        first = batches.add_result(shift.tx, SERVICE, shift.at(), LINE, cycle)
        second = shift.sample(sample_id="probe 2")
        assert (first.batch_id, first.sample_id, second.sample_id) == ("B1", "B1-S001", "probe 2")
        back = replace(first, batch_id="", sample_id="")
        assert str(back) == str(cycle)  # as text: NaN is not equal to itself
        assert [r.result_id for r in results.of_batch(shift.tx, "B1")] == [first.result_id, second.result_id]
        newest, *_ = results.of_stream(shift.tx, "EN01.Stream01", 1)
        assert newest.result_id == second.result_id

    def test_the_same_result_again_changes_nothing(self, shift: Shift) -> None:
        shift.running()
        cycle = shift.cycle()
        first = batches.add_result(shift.tx, SERVICE, shift.at(), LINE, cycle)
        again = batches.add_result(shift.tx, SERVICE, shift.at(), LINE, cycle)
        assert str(again) == str(first)
        with pytest.raises(EntryExists):
            batches.add_result(shift.tx, SERVICE, shift.at(), LINE, replace(cycle, score=1.0))

    def test_a_cycle_belongs_to_the_batch_that_holds_all_of_it(self, shift: Shift) -> None:
        # Process rule 10: air from before the start, or from the next batch, is another material.
        shift.created()
        before = shift.cycle()
        batches.start(shift.tx, caller("op1"), shift.at(), "B1", PINS)
        late = shift.cycle()
        batches.complete(shift.tx, caller("op1"), shift.at(), "B1")
        after = shift.cycle()
        owners = [batches.add_result(shift.tx, SERVICE, shift.at(), LINE, c).batch_id for c in (before, late, after)]
        assert owners == ["", "B1", ""]

    def test_a_cycle_of_another_line_is_none_of_its_business(self, shift: Shift) -> None:
        shift.running()
        assert shift.sample(line="L02").batch_id == ""
        assert shift.sample(line="").batch_id == ""

    def test_a_sample_after_the_evaluation_voids_the_review_and_bars_the_release(self, shift: Shift) -> None:
        shift.running()
        late = shift.cycle()
        for _ in range(2):
            shift.sample()
        batches.complete(shift.tx, caller("op1"), shift.at(), "B1")
        batches.evaluate(shift.tx, caller("qa1"), shift.at(), "B1")
        shift.review()
        batches.add_result(shift.tx, SERVICE, shift.at(), LINE, late)
        with pytest.raises(InvalidState, match="after its evaluation"):
            batches.request_release(shift.tx, caller("qa1"), shift.at(), "B1", "", expiry=120.0)

    def test_a_sample_judged_by_another_model_is_a_critical_exception(self, shift: Shift) -> None:
        shift.running()
        shift.sample(model="COFFEE-A/9", model_digest="0" * 64)
        (x,) = exceptions.of_batch(shift.tx, "B1")
        assert (x.kind, x.critical) == ("ModelMismatch", True)

    def test_a_sample_that_cannot_be_decided_is_shown_to_the_reviewer(self, shift: Shift) -> None:
        shift.running()
        shift.sample(NOT_DECIDABLE)
        (x,) = exceptions.of_batch(shift.tx, "B1")
        assert (x.kind, x.critical) == ("SampleNotDecidable", False)


class TestEvaluate:
    def test_enough_good_samples_make_a_good_batch(self, shift: Shift) -> None:
        evaluated = shift.evaluated(OK, OK, OK)
        assert (evaluated.verdict, evaluated.disposition) == (OK, DispositionState.UNDER_REVIEW)
        assert evaluated.eligible
        assert evaluated.score == evaluated.minimum < evaluated.mean

    @pytest.mark.parametrize("place", range(3))
    def test_the_worst_sample_decides_wherever_it_stands(self, shift: Shift, place: int) -> None:
        # Process rule 12: no averaging over a failure.
        verdicts = [OK, OK, OK]
        verdicts[place] = NOT_OK
        evaluated = shift.evaluated(*verdicts)
        assert (evaluated.verdict, evaluated.score) == (NOT_OK, 3.25)
        assert evaluated.mean > 50
        assert evaluated.critical_exceptions >= 1
        assert not evaluated.eligible

    def test_too_few_decidable_samples_decide_nothing(self, shift: Shift) -> None:
        evaluated = shift.evaluated(OK, NOT_DECIDABLE)
        assert evaluated.verdict is NOT_DECIDABLE
        kinds = {x.kind for x in exceptions.of_batch(shift.tx, "B1") if x.critical}
        assert kinds == {"TooFewSamples"}

    def test_no_sample_no_evaluation(self, shift: Shift) -> None:
        shift.running()
        batches.complete(shift.tx, caller("op1"), shift.at(), "B1")
        with pytest.raises(NoData):
            batches.evaluate(shift.tx, caller("qa1"), shift.at(), "B1")

    def test_a_running_batch_is_not_evaluated(self, shift: Shift) -> None:
        shift.running()
        shift.sample()
        with pytest.raises(InvalidState):
            batches.evaluate(shift.tx, caller("qa1"), shift.at(), "B1")

    def test_samples_beyond_the_plan_after_a_failed_one_are_an_exception(self, shift: Shift) -> None:
        # Process rule 12: sampling on until it fits is testing into compliance.
        shift.running()
        shift.sample(NOT_OK)
        shift.sample()
        assert {x.kind for x in exceptions.of_batch(shift.tx, "B1")} == {"SampleNotOK"}
        for _ in range(3):
            shift.sample()
        assert sorted(x.kind for x in exceptions.of_batch(shift.tx, "B1")) == ["ExtraSample", "SampleNotOK"]

    def test_a_second_evaluation_after_a_failed_one_waits_for_qa(self, shift: Shift) -> None:
        shift.evaluated(OK, NOT_OK)
        shift.settle_all()
        signature = shift.signed("qa1", "batch", "B1", Meaning.QUARANTINE)
        batches.quarantine(shift.tx, caller("qa1"), shift.at(), "B1", ReasonCode.QUALITY, "look again", signature)
        for _ in range(2):
            asked = batches.evaluate(shift.tx, caller("qa1"), shift.at(), "B1")
            assert (asked.disposition, asked.evaluations) == (DispositionState.QUARANTINE, 1)
        (retest,) = [x for x in exceptions.of_batch(shift.tx, "B1") if x.unsettled]
        assert retest.kind == "Retest"
        with pytest.raises(AccessDenied):  # who asks for the retest does not approve it
            shift.settle(retest.exception_id, who="qa1")
        shift.settle(retest.exception_id, who="qa2")
        again = batches.evaluate(shift.tx, caller("qa1"), shift.at(), "B1")
        assert (again.disposition, again.evaluations, again.verdict) == (DispositionState.UNDER_REVIEW, 2, NOT_OK)
        assert [e["number"] for e in batches.record(shift.tx, "B1")["evaluations"]] == [1, 2]


class TestExceptions:
    def test_a_finding_opens_one_exception_until_it_is_settled(self, shift: Shift) -> None:
        shift.running()
        first = exceptions.from_finding(shift.tx, SERVICE, shift.at(), "B1", finding(), CRITICAL)
        assert exceptions.from_finding(shift.tx, SERVICE, shift.at(), "B1", finding(), CRITICAL) == first
        assert shift.settle(first.exception_id) == 0
        second = exceptions.from_finding(shift.tx, SERVICE, shift.at(), "B1", finding(), CRITICAL)
        assert second.exception_id == "B1/X02"
        now = batches.get(shift.tx, "B1")
        assert (now.open_exceptions, now.critical_exceptions) == (1, 1)

    def test_a_batch_is_told_that_nothing_watched_it(self, shift: Shift) -> None:
        # Every interruption is one of its own: QA accepts the one it knows, not all that follow.
        shift.created()
        assert exceptions.interrupted(shift.tx, SERVICE, shift.at()) == ()
        batches.start(shift.tx, caller("op1"), shift.at(), "B1", PINS)
        [first] = exceptions.interrupted(shift.tx, SERVICE, shift.at())
        batches.hold(shift.tx, caller("op1"), shift.at(), "B1", "jam")
        [second] = exceptions.interrupted(shift.tx, SERVICE, shift.at())
        assert (first.exception_id, second.exception_id) == ("B1/X01", "B1/X02")
        assert (first.kind, first.source, first.critical) == ("ServiceInterrupted", LINE, True)
        batches.stop(shift.tx, caller("op1"), shift.at(), "B1", "jam")
        assert exceptions.interrupted(shift.tx, SERVICE, shift.at()) == ()

    def test_another_failed_sensor_is_another_exception(self, shift: Shift) -> None:
        # What QA accepts is what the exception said: one sensor, not all that fail while it is open.
        shift.running()
        for text in ("EN01: failed S01", "EN01: failed S01, S02", "EN01: failed S01"):
            failed = Finding(kind="SensorFailure", source="EN01", time=0, level="Active", text=text)
            exceptions.from_finding(shift.tx, SERVICE, shift.at(), "B1", failed, 700)
        said = [x.text for x in exceptions.of_batch(shift.tx, "B1")]
        assert said == ["EN01: failed S01", "EN01: failed S01, S02"]

    def test_a_finding_that_is_over_opens_none(self, shift: Shift) -> None:
        shift.running()
        with pytest.raises(InvalidArgument):
            exceptions.from_finding(shift.tx, SERVICE, shift.at(), "B1", finding(level=""), CRITICAL)

    @pytest.mark.parametrize("severity", [0, 1001])
    def test_severities_are_those_of_events(self, shift: Shift, severity: int) -> None:
        shift.running()
        with pytest.raises(OutOfRange):
            exceptions.from_finding(shift.tx, SERVICE, shift.at(), "B1", finding(), severity)

    def test_an_exception_is_settled_once(self, shift: Shift) -> None:
        shift.running()
        x = exceptions.from_finding(shift.tx, SERVICE, shift.at(), "B1", finding(), CRITICAL)
        signature = shift.signed("qa1", "exception", x.exception_id, Meaning.APPROVAL)
        settle = ("B1", x.exception_id, Disposition.ACCEPT, "cable", signature)
        assert exceptions.dispose(shift.tx, caller("qa1"), shift.at(), *settle) == 0
        assert exceptions.dispose(shift.tx, caller("qa1"), shift.at(), *settle) == 0
        with pytest.raises(InvalidState):
            shift.settle(x.exception_id, Disposition.REJECT)

    def test_an_investigation_leaves_it_open(self, shift: Shift) -> None:
        shift.running()
        x = exceptions.from_finding(shift.tx, SERVICE, shift.at(), "B1", finding(), CRITICAL)
        investigate = ("B1", x.exception_id, Disposition.INVESTIGATE, "ask maintenance", "")
        assert exceptions.dispose(shift.tx, caller("qa1"), shift.at(), *investigate) == 1
        assert exceptions.dispose(shift.tx, caller("qa1"), shift.at(), *investigate) == 1
        assert shift.settle(x.exception_id) == 0

    def test_settling_takes_an_argument_of_each_kind(self, shift: Shift) -> None:
        shift.running()
        x = exceptions.from_finding(shift.tx, SERVICE, shift.at(), "B1", finding(), CRITICAL).exception_id
        dispose = exceptions.dispose
        with pytest.raises(OutOfRange):
            dispose(shift.tx, caller("qa1"), shift.at(), "B1", x, 0, "why", "")
        with pytest.raises(InvalidArgument):
            dispose(shift.tx, caller("qa1"), shift.at(), "B1", x, 1, " ", "")
        with pytest.raises(NotFound):
            dispose(shift.tx, caller("qa1"), shift.at(), "B1", "B1/X99", 1, "why", "")
        with pytest.raises(NotFound):
            dispose(shift.tx, caller("qa1"), shift.at(), "B1", x, 1, "why", "no such signature")
        with pytest.raises(NoMatch):
            dispose(shift.tx, caller("qa1"), shift.at(), "B2", x, 1, "why", "")
        approval = shift.signed("qa1", "exception", x, Meaning.APPROVAL)
        with pytest.raises(NoMatch):  # an approval is no rejection
            dispose(shift.tx, caller("qa1"), shift.at(), "B1", x, 3, "why", approval)

    def test_a_closed_record_takes_no_exception(self, shift: Shift) -> None:
        shift.released()
        with pytest.raises(InvalidState):
            exceptions.from_finding(shift.tx, SERVICE, shift.at(), "B1", finding(), CRITICAL)


class TestRelease:
    def test_a_batch_is_released_by_a_review_and_a_release_of_two_people(self, shift: Shift) -> None:
        released = shift.released()
        assert released.disposition is DispositionState.RELEASED
        assert released.released_by == "REL1 Berg"
        assert released.release_id

    def test_the_record_a_signature_is_on_stays_as_it_was(self, shift: Shift) -> None:
        # 11.70: both signatures verify against the released record, years later.
        evaluated = shift.evaluated()
        review = shift.review()
        request = batches.request_release(shift.tx, caller("qa1"), shift.at(), "B1", "", expiry=120.0)
        signature = shift.sign("rel1", request)
        released = batches.release(shift.tx, caller("rel1"), shift.at(), "B1", signature, "")
        assert released.digest == evaluated.digest == request.digest
        for signature_id in (review, signature):
            assert signatures.verify(shift.tx, signature_id, released.digest).valid

    def test_twice_is_once(self, shift: Shift) -> None:
        # Information model 1.7: scripts of a SCADA call again after a timeout.
        signature = shift.sign("rel1", shift.requested())
        first = batches.release(shift.tx, caller("rel1"), shift.at(), "B1", signature, "")
        before = entries(shift)
        assert batches.release(shift.tx, caller("rel1"), shift.at(), "B1", signature, "") == first
        assert entries(shift) == before
        with pytest.raises(InvalidState):
            batches.release(shift.tx, caller("rel1"), shift.at(), "B1", "another", "")

    def test_a_request_repeated_is_the_same_request(self, shift: Shift) -> None:
        request = shift.requested()
        again = batches.request_release(shift.tx, caller("mes1"), shift.at(), "B1", "ready", expiry=120.0)
        assert again == request
        with pytest.raises(EntryExists):
            batches.request_release(shift.tx, caller("mes1"), shift.at(), "B1", "hurry", expiry=120.0)

    def test_a_batch_waits_since_its_release_was_requested(self, shift: Shift) -> None:
        # What ReleaseOverdue counts from, in this run of the service or an earlier one.
        shift.evaluated()
        assert batches.awaits_since(shift.tx, "B1") == 0
        shift.review()
        requested = shift.at()
        request = batches.request_release(shift.tx, caller("qa1"), requested, "B1", "ready", expiry=120.0)
        shift.now = request.expires
        batches.request_release(shift.tx, caller("qa1"), shift.at(), "B1", "ready", expiry=120.0)
        assert batches.awaits_since(shift.tx, "B1") == requested

    def test_an_expired_request_is_replaced(self, shift: Shift) -> None:
        request = shift.requested()
        shift.now = request.expires
        again = batches.request_release(shift.tx, caller("qa1"), shift.at(), "B1", "ready", expiry=120.0)
        assert again.request_id != request.request_id
        signature = shift.sign("rel1", again)
        assert batches.release(shift.tx, caller("rel1"), shift.at(), "B1", signature, "").release_id

    def test_no_release_without_a_review(self, shift: Shift) -> None:
        # R11
        shift.evaluated()
        with pytest.raises(InvalidState, match="review"):
            batches.request_release(shift.tx, caller("qa1"), shift.at(), "B1", "", expiry=120.0)

    def test_a_review_is_of_the_record_as_it_was(self, shift: Shift) -> None:
        # H41: something came after the reviewer looked.
        shift.evaluated()
        shift.review()
        exceptions.from_finding(shift.tx, SERVICE, shift.at(), "B1", finding(), 300)
        with pytest.raises(NoMatch, match="changed"):
            batches.request_release(shift.tx, caller("qa1"), shift.at(), "B1", "", expiry=120.0)
        shift.review()
        assert batches.request_release(shift.tx, caller("qa1"), shift.at(), "B1", "", expiry=120.0)

    def test_a_release_is_of_the_record_that_was_reviewed(self, shift: Shift) -> None:
        # Only the release is signed anew after the change; the review is still of the old record.
        shift.requested()
        exceptions.from_finding(shift.tx, SERVICE, shift.at(), "B1", finding(), 300)
        signature = shift.signed("rel1", "batch", "B1", Meaning.RELEASE)
        with pytest.raises(NoMatch, match="review"):
            batches.release(shift.tx, caller("rel1"), shift.at(), "B1", signature, "")
        with pytest.raises(NoMatch, match="review"):
            batches.request_release(shift.tx, caller("qa1"), shift.at(), "B1", "ready", expiry=120.0)

    def test_a_change_after_the_signature_makes_it_useless(self, shift: Shift) -> None:
        signature = shift.sign("rel1", shift.requested())
        exceptions.from_finding(shift.tx, SERVICE, shift.at(), "B1", finding(), 300)
        with pytest.raises(NoMatch):
            batches.release(shift.tx, caller("rel1"), shift.at(), "B1", signature, "")

    def test_a_signature_serves_the_batch_it_was_given_for(self, shift: Shift) -> None:
        # R20: no signature is cut out and pasted on.
        signature = shift.sign("rel1", shift.requested("B1"))
        shift.requested("B2")
        with pytest.raises(NoMatch):
            batches.release(shift.tx, caller("rel1"), shift.at(), "B2", signature, "")

    def test_a_release_signed_before_the_review_releases_nothing(self, shift: Shift) -> None:
        # R12: who certifies must have had the review to look at.
        shift.evaluated()
        early = shift.signed("rel1", "batch", "B1", Meaning.RELEASE)
        shift.review()
        request = batches.request_release(shift.tx, caller("qa1"), shift.at(), "B1", "", expiry=120.0)
        with pytest.raises(NoMatch, match="before its review"):
            batches.release(shift.tx, caller("rel1"), shift.at(), "B1", early, "")
        assert batches.release(shift.tx, caller("rel1"), shift.at(), "B1", shift.sign("rel1", request), "").release_id

    def test_a_review_signature_releases_nothing(self, shift: Shift) -> None:
        shift.requested()
        review = shift.review(who="qa2")
        with pytest.raises(NoMatch):
            batches.release(shift.tx, caller("rel1"), shift.at(), "B1", review, "")

    def test_an_unknown_signature_releases_nothing(self, shift: Shift) -> None:
        shift.requested()
        for signature in ("", "0" * 32):
            with pytest.raises(NotFound):
                batches.release(shift.tx, caller("rel1"), shift.at(), "B1", signature, "")

    def test_the_reviewer_does_not_release(self, shift: Shift) -> None:
        # R14; qa2 holds both roles.
        signature = shift.sign("qa2", shift.requested(reviewer="qa2"))
        with pytest.raises(AccessDenied, match="reviewed"):
            batches.release(shift.tx, caller("rel1"), shift.at(), "B1", signature, "")

    def test_the_evaluator_does_not_release(self, shift: Shift) -> None:
        signature = shift.sign("qa2", shift.requested(by="qa2"))
        with pytest.raises(AccessDenied, match="evaluated"):
            batches.release(shift.tx, caller("rel1"), shift.at(), "B1", signature, "")

    @pytest.mark.parametrize("name", ["rel1", "REL1", "os:rel1"])
    def test_who_created_a_batch_does_not_release_it_under_whatever_spelling(self, shift: Shift, name: str) -> None:
        shift.created(by=name)
        batches.start(shift.tx, caller("op1"), shift.at(), "B1", PINS)
        for _ in range(2):
            shift.sample()
        batches.complete(shift.tx, caller("op1"), shift.at(), "B1")
        batches.evaluate(shift.tx, caller("qa1"), shift.at(), "B1")
        shift.review()
        request = batches.request_release(shift.tx, caller("qa1"), shift.at(), "B1", "", expiry=120.0)
        with pytest.raises(AccessDenied, match="created"):
            batches.release(shift.tx, caller("rel1"), shift.at(), "B1", shift.sign("rel1", request), "")

    @pytest.mark.parametrize("claimed", ["rel1", " REL1 ", "os:rel1", "Rel1  Berg", "\uff32\uff25\uff2c1 berg"])
    def test_whom_a_service_acted_for_does_not_release(self, shift: Shift, claimed: str) -> None:
        # The claim is free text of another system: the account or the name as printed, spaced and cased as it likes.
        shift.created()
        batches.start(shift.tx, caller("mes1"), shift.at(), "B1", PINS, on_behalf_of=claimed)
        for _ in range(2):
            shift.sample()
        batches.complete(shift.tx, caller("op1"), shift.at(), "B1")
        batches.evaluate(shift.tx, caller("qa1"), shift.at(), "B1")
        shift.review()
        request = batches.request_release(shift.tx, caller("qa1"), shift.at(), "B1", "", expiry=120.0)
        with pytest.raises(AccessDenied, match="started"):
            batches.release(shift.tx, caller("rel1"), shift.at(), "B1", shift.sign("rel1", request), "")

    def test_simulated_samples_are_released_on_a_demo_site_only(self, shift: Shift) -> None:
        # Process rule 7; pinned at start, so that no later configuration frees an old batch.
        shift.evaluated(pins=OUTSIDE_DEMO)
        shift.review()
        with pytest.raises(InvalidState, match="simulated"):
            batches.request_release(shift.tx, caller("qa1"), shift.at(), "B1", "", expiry=120.0)

    def test_measured_samples_are_released_anywhere(self, shift: Shift) -> None:
        shift.running(pins=OUTSIDE_DEMO)
        for _ in range(2):
            shift.sample(simulated=False)
        batches.complete(shift.tx, caller("op1"), shift.at(), "B1")
        batches.evaluate(shift.tx, caller("qa1"), shift.at(), "B1")
        shift.review()
        assert batches.request_release(shift.tx, caller("qa1"), shift.at(), "B1", "", expiry=120.0)

    def test_a_batch_cut_short_is_not_released(self, shift: Shift) -> None:
        shift.running()
        for _ in range(2):
            shift.sample()
        batches.stop(shift.tx, caller("op1"), shift.at(), "B1", "jam")
        batches.evaluate(shift.tx, caller("qa1"), shift.at(), "B1")
        shift.review()
        with pytest.raises(InvalidState, match="STOPPED"):
            batches.request_release(shift.tx, caller("qa1"), shift.at(), "B1", "", expiry=120.0)

    def test_a_critical_exception_bars_the_release_until_it_is_accepted(self, shift: Shift) -> None:
        shift.evaluated(OK, NOT_OK)
        shift.review()
        with pytest.raises(InvalidState, match="B1/X01 is open"):
            batches.request_release(shift.tx, caller("qa1"), shift.at(), "B1", "", expiry=120.0)
        shift.settle_all()
        shift.review()
        assert batches.request_release(shift.tx, caller("qa1"), shift.at(), "B1", "", expiry=120.0)

    def test_a_critical_exception_after_the_request_bars_the_release(self, shift: Shift) -> None:
        signature = shift.sign("rel1", shift.requested())
        exceptions.from_finding(shift.tx, SERVICE, shift.at(), "B1", finding(), CRITICAL)
        with pytest.raises(InvalidState):
            batches.release(shift.tx, caller("rel1"), shift.at(), "B1", signature, "")

    def test_a_rejected_exception_bars_the_release_for_ever(self, shift: Shift) -> None:
        shift.evaluated(OK, NOT_OK)
        shift.settle("B1/X01", Disposition.REJECT)
        shift.review()
        with pytest.raises(InvalidState, match="was rejected"):
            batches.request_release(shift.tx, caller("qa1"), shift.at(), "B1", "", expiry=120.0)


class TestReject:
    def rejection(self, shift: Shift) -> str:
        return shift.signed("qa1", "batch", "B1", Meaning.REJECTION)

    @pytest.mark.parametrize("state", ["completed", "evaluated", "requested"])
    def test_a_batch_is_rejected_from_every_open_state(self, shift: Shift, state: str) -> None:
        getattr(shift, state)()
        signature = self.rejection(shift)
        rejected = batches.reject(shift.tx, caller("qa1"), shift.at(), "B1", ReasonCode.QUALITY, "odour", signature)
        assert rejected.disposition is DispositionState.REJECTED

    def test_a_released_batch_is_recalled_by_code(self, shift: Shift) -> None:
        shift.released()
        signature = self.rejection(shift)
        with pytest.raises(InvalidState):
            batches.reject(shift.tx, caller("qa1"), shift.at(), "B1", ReasonCode.QUALITY, "odour", signature)
        recalled = batches.reject(shift.tx, caller("qa1"), shift.at(), "B1", ReasonCode.RECALL, "odour", signature)
        assert recalled.disposition is DispositionState.RECALLED
        assert recalled.release_id  # what was done stays in the record

    def test_a_rejection_signed_before_the_release_recalls_nothing(self, shift: Shift) -> None:
        # What is signed is the batch as it was: nobody decided about one that is on the market.
        request = shift.requested()
        early = self.rejection(shift)
        batches.release(shift.tx, caller("rel1"), shift.at(), "B1", shift.sign("rel1", request), "")
        with pytest.raises(NoMatch, match="before its release"):
            batches.reject(shift.tx, caller("qa1"), shift.at(), "B1", ReasonCode.RECALL, "odour", early)

    def test_only_a_released_batch_is_recalled(self, shift: Shift) -> None:
        shift.evaluated()
        with pytest.raises(InvalidState):
            batches.reject(shift.tx, caller("qa1"), shift.at(), "B1", ReasonCode.RECALL, "odour", self.rejection(shift))

    def test_rejecting_takes_code_comment_and_signature(self, shift: Shift) -> None:
        shift.evaluated()
        signature = self.rejection(shift)
        with pytest.raises(OutOfRange):
            batches.reject(shift.tx, caller("qa1"), shift.at(), "B1", 99, "odour", signature)
        with pytest.raises(OutOfRange):
            batches.quarantine(shift.tx, caller("qa1"), shift.at(), "B1", ReasonCode.RECALL, "odour", signature)
        with pytest.raises(InvalidArgument):
            batches.reject(shift.tx, caller("qa1"), shift.at(), "B1", ReasonCode.QUALITY, "", signature)
        with pytest.raises(NotFound):
            batches.reject(shift.tx, caller("qa1"), shift.at(), "B1", ReasonCode.QUALITY, "odour", "")
        with pytest.raises(NoMatch):
            batches.quarantine(shift.tx, caller("qa1"), shift.at(), "B1", ReasonCode.QUALITY, "odour", signature)

    @pytest.mark.parametrize("state", ["evaluated", "requested"])
    def test_a_batch_goes_back_to_quarantine_and_its_review_is_void(self, shift: Shift, state: str) -> None:
        getattr(shift, state)()
        shift.review(who="qa2")
        signature = shift.signed("qa1", "batch", "B1", Meaning.QUARANTINE)
        back = batches.quarantine(shift.tx, caller("qa1"), shift.at(), "B1", ReasonCode.OTHER, "again", signature)
        assert back.disposition is DispositionState.QUARANTINE
        batches.evaluate(shift.tx, caller("qa1"), shift.at(), "B1")
        with pytest.raises(NoMatch):
            batches.request_release(shift.tx, caller("qa1"), shift.at(), "B1", "", expiry=120.0)


def test_the_record_holds_who_what_and_when(shift: Shift) -> None:
    shift.released()
    summary = batches.summary(shift.tx, "B1")
    record = summary["record"]
    assert record["started"] == {"at": record["started"]["at"], "by": "op1", "on_behalf_of": ""}
    assert record["started"]["at"].endswith("Z")
    assert record["pinned"]["demo"] is True
    assert [s["number"] for s in record["samples"]] == [1, 2]
    assert summary["disposition"] == "RELEASED"
    assert summary["digest"] == batches.get(shift.tx, "B1").digest


def test_every_change_of_a_sample_changes_the_digest(shift: Shift) -> None:
    # R01, R21: the digest a person signed reaches down to every number of every sample.
    shift.evaluated()
    before = batches.digest(shift.tx, "B1")
    with shift.tx.begin_nested() as behind_the_log:
        shift.tx.exec_driver_sql("UPDATE result SET fingerprint = '[1.0, null, 0.2]' WHERE number = 1")
        assert batches.digest(shift.tx, "B1") != before
        behind_the_log.rollback()
    assert batches.digest(shift.tx, "B1") == before


def test_every_operation_leaves_its_entry(shift: Shift) -> None:
    # R05
    shift.released()
    expected = """model.draft signature.request signature.sign model.approve
        batch.create batch.start result.add result.add batch.complete batch.evaluate
        signature.request signature.sign batch.request_release signature.request signature.sign batch.release"""
    assert entries(shift) == expected.split()


def test_a_refused_operation_changes_no_row(shift: Shift) -> None:
    shift.requested()
    before = shift.tx.execute(select(batch)).all()
    with pytest.raises(NotFound):
        batches.release(shift.tx, Caller(user="rel1"), shift.at(), "B1", "none", "")
    assert shift.tx.execute(select(batch)).all() == before


def test_a_batch_is_under_way_on_its_line_from_its_start_to_its_end(shift: Shift) -> None:
    # Samples measured meanwhile are kept whatever their retention: its record rests on them.
    def under_way(first: int, last: int, *lines: str) -> bool:
        return batches.under_way(shift.tx, lines or (LINE,), first, last)

    begun = shift.running()
    assert not under_way(0, begun.started - 1)
    assert under_way(0, begun.started)
    assert under_way(begun.started + 10**18, begun.started + 2 * 10**18)
    assert not under_way(0, begun.started, "L02")
    ended = batches.abort(shift.tx, caller("op1"), shift.at(), "B1", "spilled").ended
    assert under_way(ended, ended + 1)
    assert not under_way(ended + 1, ended + 2)
