"""Whatever is called in whatever order, a batch is released only by two people's signatures on what it says now."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from compliance import batches, exceptions, records, signatures, verify
from compliance.exceptions import CRITICAL, Disposition
from compliance.signatures import Meaning
from compliance.states import DISPOSITION, EXECUTION, SETTLES
from compliance.tables import batch, evaluation, signature, signature_use
from compliance.users import person
from historian.schema import engine
from nodesets.errors import RequestError
from nodesets.model import DispositionState, ExecutionState, Finding, Verdict
from tests.unit.compliance.shift import PINS, SERVICE, Shift, caller, database

PEOPLE = ("op1", "qa1", "qa2", "rel1")
BATCH = "B1"
RELEASED = (DispositionState.RELEASED, DispositionState.RECALLED)

Act = Callable[[Shift, str], object]


def newest(shift: Shift, meaning: Meaning) -> str:
    """Any signature of that meaning, used or not, of this record state or an older one."""
    query = select(signature.c.signature_id).where(signature.c.meaning == meaning).order_by(signature.c.signed.desc())
    return shift.tx.execute(query).scalars().first() or "none"


def call(operation: Callable[..., object], *arguments: object, **options: object) -> Act:
    return lambda shift, who: operation(shift.tx, caller(who), shift.at(), BATCH, *arguments, **options)


def settle(made: Disposition) -> Act:
    def act(shift: Shift, who: str) -> object:
        return [shift.settle(x.exception_id, made, who) for x in exceptions.of_batch(shift.tx, BATCH) if x.unsettled]

    return act


def find(severity: int) -> Act:
    finding = Finding(kind="CommunicationLost", source="EN01", time=0, level="Active", text="gap")
    return lambda shift, _: exceptions.from_finding(shift.tx, SERVICE, shift.at(), BATCH, finding, severity)


def sign(meaning: Meaning) -> Act:
    return lambda shift, who: shift.signed(who, "batch", BATCH, meaning)


def release(shift: Shift, who: str) -> object:
    return batches.release(shift.tx, caller(who), shift.at(), BATCH, newest(shift, Meaning.RELEASE), "")


ACTS: dict[str, Act] = {
    "create": lambda shift, who: shift.created(by=who),
    "start": call(batches.start, PINS),
    "complete": call(batches.complete),
    "hold": call(batches.hold, "why"),
    "restart": call(batches.restart, "why"),
    "stop": call(batches.stop, "why"),
    "abort": call(batches.abort, "why"),
    "good sample": lambda shift, _: shift.sample(),
    "bad sample": lambda shift, _: shift.sample(Verdict.NOT_OK),
    "no sample": lambda shift, _: shift.sample(Verdict.NOT_DECIDABLE),
    "small finding": find(300),
    "critical finding": find(CRITICAL),
    "accept": settle(Disposition.ACCEPT),
    "reject exception": settle(Disposition.REJECT),
    "evaluate": call(batches.evaluate),
    "sign review": sign(Meaning.REVIEW),
    "sign release": sign(Meaning.RELEASE),
    "sign rejection": sign(Meaning.REJECTION),
    "sign quarantine": sign(Meaning.QUARANTINE),
    "request release": call(batches.request_release, "", expiry=120.0),
    "release": release,
    "reject": lambda shift, who: batches.reject(
        shift.tx, caller(who), shift.at(), BATCH, 1, "why", newest(shift, Meaning.REJECTION)
    ),
    "recall": lambda shift, who: batches.reject(
        shift.tx, caller(who), shift.at(), BATCH, 4, "why", newest(shift, Meaning.REJECTION)
    ),
    "quarantine": lambda shift, who: batches.quarantine(
        shift.tx, caller(who), shift.at(), BATCH, 1, "why", newest(shift, Meaning.QUARANTINE)
    ),
}


def road(creator: str, evaluator: str, reviewer: str, releaser: str) -> list[tuple[str, str]]:
    """The way to a release. A walk is this with a few things done besides, left out or done twice."""
    return [
        ("create", creator),
        ("start", "op1"),
        ("good sample", "op1"),
        ("good sample", "op1"),
        ("complete", "op1"),
        ("evaluate", evaluator),
        ("sign review", reviewer),
        ("request release", "qa1"),
        ("sign release", releaser),
        ("release", "rel1"),
    ]


@st.composite
def walks(draw: st.DrawFn) -> list[tuple[str, str]]:
    person = st.sampled_from(PEOPLE)
    acts = st.sampled_from(sorted(ACTS)) | st.sampled_from(["small finding", "critical finding"])
    creator, evaluator = draw(st.sampled_from(["op1", "op1", "rel1", "qa2"])), draw(person)
    reviewer, releaser = draw(st.sampled_from(["qa1", "qa2"])), draw(st.sampled_from(["rel1", "qa2"]))
    walk = road(creator, evaluator, reviewer, releaser)
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, len(walk) - 1))
        match draw(st.sampled_from(["besides", "besides", "besides", "twice", "not"])):
            case "besides":
                walk.insert(place, (draw(acts), draw(person)))
            case "twice":
                walk.insert(place, walk[place])
            case "not":
                walk.pop(place)
    return walk


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database with an approved model; every walk begins with a copy."""
    path = tmp_path_factory.mktemp("batches") / "template.db"
    with database(f"sqlite:///{path}") as made, made.begin() as tx:
        Shift(tx).model()
    return path


@contextmanager
def plant(template: Path) -> Iterator[Shift]:
    """A shift on a copy of the template; afterwards the log bears out every row."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(shutil.copy(template, folder))
        made = engine(f"sqlite:///{path}")
        try:
            with made.begin() as tx:
                shift = Shift(tx)
                shift.now += 10**12
                yield shift
        finally:
            made.dispose()
        report = verify.check(path)
        assert report.clean, "\n".join(report.lines())


def attempt(shift: Shift, act: str, who: str) -> None:
    """One call as the writer makes it: in a savepoint, undone when it is refused."""
    try:
        with shift.tx.begin_nested():
            ACTS[act](shift, who)
    except RequestError:
        pass


def states(shift: Shift) -> tuple[int, int] | None:
    row = shift.tx.execute(select(batch.c.execution, batch.c.disposition)).one_or_none()
    return None if row is None else (row.execution, row.disposition)


def released_properly(shift: Shift) -> None:
    """Two signatures, by people with the roles, who are two, one of whom had no other part; both on this record."""
    row = shift.tx.execute(select(batch)).one()
    review = signatures.get(shift.tx, row.review_signature)
    signed = signatures.get(shift.tx, row.release_signature)
    assert (review.meaning, signed.meaning) == (Meaning.REVIEW, Meaning.RELEASE)
    assert review.signer in {"qa1", "qa2"}
    assert signed.signer in {"rel1", "qa2"}
    took_part = {review.signer, row.created_by, row.started_by}
    took_part |= set(shift.tx.execute(select(evaluation.c.evaluated_by)).scalars())
    assert person(signed.signer) not in took_part
    now = records.digest(records.batch_record(shift.tx, BATCH))
    assert review.digest == signed.digest == now
    assert row.execution == ExecutionState.COMPLETE
    raised = exceptions.of_batch(shift.tx, BATCH)
    assert not any(x.disposition is Disposition.REJECT or (x.critical and x.unsettled) for x in raised)
    used = {row.signature_id: row.act for row in shift.tx.execute(select(signature_use))}
    assert (used[review.signature_id], used[signed.signature_id]) == ("batch.request_release", "batch.release")


@settings(max_examples=150, deadline=None)
@given(walk=walks())
def test_no_walk_reaches_released_without_two_valid_signatures_of_two_people(
    template: Path, walk: list[tuple[str, str]]
) -> None:
    # R12, R14, R20, H41; afterwards the log bears out every row (R01).
    with plant(template) as shift:
        for act, who in walk:
            attempt(shift, act, who)
            now = states(shift)
            if now is not None and now[1] in RELEASED:
                released_properly(shift)


@settings(max_examples=50, deadline=None)
@given(walk=walks())
def test_every_move_is_one_of_the_tables(template: Path, walk: list[tuple[str, str]]) -> None:
    # R12: whatever is called, no state is ever skipped.
    executes = {(s, SETTLES.get(t, t)) for (s, _), t in EXECUTION.items()}
    disposes = {(s, t) for (s, _), t in DISPOSITION.items()}
    with plant(template) as shift:
        before = states(shift)
        for act, who in walk:
            attempt(shift, act, who)
            now = states(shift)
            if before is not None and now is not None:
                assert now[0] == before[0] or (ExecutionState(before[0]), ExecutionState(now[0])) in executes
                assert now[1] == before[1] or (DispositionState(before[1]), DispositionState(now[1])) in disposes
            before = now


def test_the_road_leads_to_a_release(template: Path) -> None:
    # Without it the properties above could hold because nothing is ever released.
    with plant(template) as shift:
        for act, who in road("op1", "qa1", "qa1", "rel1"):
            attempt(shift, act, who)
        assert states(shift) == (ExecutionState.COMPLETE, DispositionState.RELEASED)
        released_properly(shift)
