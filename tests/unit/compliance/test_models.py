import hashlib

import pytest
from sqlalchemy import update

from compliance import models
from compliance.models import Status
from compliance.signatures import Meaning
from compliance.tables import product_model
from nodesets.errors import AccessDenied, IntegrityError, InvalidArgument, InvalidState, NoMatch, NotFound
from tests.unit.compliance.shift import PRODUCT, Shift, caller


def draft(shift: Shift, content: bytes = b"fingerprint", by: str = "eng1") -> models.ProductModel:
    digest = hashlib.sha256(content).hexdigest()
    return models.save_draft(shift.tx, caller(by), shift.at(), PRODUCT, content, digest, {"lots": 3, "alpha": 0.05})


def test_a_draft_judges_nothing(shift: Shift) -> None:
    # R39: drafted, then signed by QA, then used.
    made = draft(shift)
    assert (made.model_id, made.status, made.metadata) == ("COFFEE-A/1", Status.DRAFT, {"lots": 3, "alpha": 0.05})
    assert models.approved(shift.tx, PRODUCT) is None


def test_versions_count_up_and_the_newest_approved_one_is_the_model(shift: Shift) -> None:
    first = shift.model(b"one")
    second = shift.model(b"two")
    assert (first.model_id, second.model_id) == ("COFFEE-A/1", "COFFEE-A/2")
    assert models.approved(shift.tx, PRODUCT) == second
    states = {m.model_id: m.status for m in models.listing(shift.tx, PRODUCT)}
    assert states == {"COFFEE-A/1": Status.SUPERSEDED, "COFFEE-A/2": Status.APPROVED}
    assert second.approved_by == "qa1"
    assert models.load(shift.tx, "COFFEE-A/2") == b"two"


def test_the_same_bytes_are_the_same_draft(shift: Shift) -> None:
    assert draft(shift) == draft(shift)
    assert len(models.listing(shift.tx)) == 1


def test_bytes_that_are_not_what_was_learned_are_refused(shift: Shift) -> None:
    with pytest.raises(NoMatch):
        models.save_draft(shift.tx, caller("eng1"), shift.at(), PRODUCT, b"one", "0" * 64, {})
    with pytest.raises(InvalidArgument):
        models.save_draft(shift.tx, caller("eng1"), shift.at(), "a/b", b"", hashlib.sha256(b"").hexdigest(), {})


def test_a_model_is_approved_once_by_its_signature(shift: Shift) -> None:
    made = draft(shift)
    signature = shift.signed("qa1", "model", made.model_id, Meaning.APPROVAL)
    first = models.approve(shift.tx, caller("qa1"), shift.at(), made.model_id, signature)
    assert models.approve(shift.tx, caller("qa1"), shift.at(), made.model_id, signature) == first
    another = shift.signed("qa2", "model", made.model_id, Meaning.APPROVAL)
    with pytest.raises(InvalidState):
        models.approve(shift.tx, caller("qa2"), shift.at(), made.model_id, another)


def test_who_learned_a_model_does_not_approve_it(shift: Shift) -> None:
    # R14; learned at the machine itself, by the same person.
    made = draft(shift, by="os:qa1")
    signature = shift.signed("qa1", "model", made.model_id, Meaning.APPROVAL)
    with pytest.raises(AccessDenied):
        models.approve(shift.tx, caller("qa1"), shift.at(), made.model_id, signature)


def test_a_signature_approves_the_version_it_is_on(shift: Shift) -> None:
    first, second = draft(shift, b"one"), draft(shift, b"two")
    signature = shift.signed("qa1", "model", first.model_id, Meaning.APPROVAL)
    with pytest.raises(NoMatch):
        models.approve(shift.tx, caller("qa1"), shift.at(), second.model_id, signature)
    with pytest.raises(NotFound):
        models.approve(shift.tx, caller("qa1"), shift.at(), second.model_id, "none")
    with pytest.raises(NotFound):
        models.approve(shift.tx, caller("qa1"), shift.at(), "COFFEE-A/9", signature)


def test_bytes_changed_behind_the_log_are_not_loaded_and_not_approved(shift: Shift) -> None:
    made = draft(shift)
    signature = shift.signed("qa1", "model", made.model_id, Meaning.APPROVAL)
    with shift.tx.begin_nested() as behind_the_log:
        shift.tx.execute(update(product_model).values(data=b"\x00"))
        with pytest.raises(IntegrityError, match="COFFEE-A/1"):
            models.load(shift.tx, made.model_id)
        with pytest.raises(NoMatch):
            models.approve(shift.tx, caller("qa1"), shift.at(), made.model_id, signature)
        behind_the_log.rollback()
    assert models.load(shift.tx, made.model_id) == b"fingerprint"
