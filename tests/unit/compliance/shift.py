"""People, a product with an approved model and batches in any state, for the tests of compliance."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC
from itertools import count

from sqlalchemy import Connection, Engine

from compliance import batches, exceptions, models, signatures
from compliance.batches import Batch, Pins
from compliance.exceptions import Disposition
from compliance.signatures import Meaning, Method, Request
from compliance.users import Account
from historian.schema import engine, migrate
from nodesets.model import Caller, Result, Role, Verdict

NOW = 1_790_000_000_000_000_000
SECOND = 1_000_000_000
LINE = "L01"
PRODUCT = "COFFEE-A"
PINS = Pins(configuration="c" * 64, software="0.1.0", samples={PRODUCT: 2}, demo=True)

ROLES: dict[str, frozenset[Role]] = {
    "op1": frozenset({Role.OPERATOR}),
    "mes1": frozenset({Role.MES}),
    "eng1": frozenset({Role.ENGINEER}),
    "qa1": frozenset({Role.QA}),
    "qa2": frozenset({Role.QA, Role.QA_RELEASE}),
    "rel1": frozenset({Role.QA_RELEASE}),
    "sec1": frozenset({Role.SECURITY_ADMIN}),
}


def account(name: str, *, must_change: bool = False) -> Account:
    return Account(
        name=name,
        printed_name=f"{name.upper()} Berg",
        roles=ROLES[name],
        service=name == "mes1",
        must_change=must_change,
        disabled=False,
        created=NOW,
        locked_until=0,
    )


def caller(name: str) -> Caller:
    return Caller(user=name, roles=ROLES.get(name, frozenset()), service=name == "mes1", session="s", activated=NOW)


SERVICE = Caller(user="enose")


@contextmanager
def database(address: str) -> Iterator[Engine]:
    made = engine(address)
    migrate(made)
    try:
        yield made
    finally:
        made.dispose()


class Clock:
    """A clock that stands still until it is stepped."""

    def __init__(self) -> None:
        self.time = NOW

    def now(self) -> int:
        return self.time

    def monotonic(self) -> float:
        return self.time / SECOND

    async def sleep_until(self, instant: float) -> None:
        self.time = max(self.time, int(instant * SECOND))

    def step(self, seconds: float) -> None:
        self.time += int(seconds * SECOND)


class Shift:
    """A transaction, a clock that moves a second with each act, and the shortest way to each state of a batch."""

    def __init__(self, tx: Connection) -> None:
        self.tx = tx
        self.now = NOW
        self._numbers = count(1)

    def at(self) -> int:
        self.now += SECOND
        return self.now

    def sign(self, who: str, request: Request) -> str:
        """The signature of somebody who has proved to be `who`."""
        row = signatures._signable(self.tx, self.at(), request.request_id)
        signatures._entitled(account(who), request.record_type, request.meaning)
        signed = signatures._sign(self.tx, caller(who), self.now, row, account(who), Method.PASSWORD, "", UTC)
        return signed.signature_id

    def signed(self, who: str, record_type: str, record_id: str, meaning: Meaning) -> str:
        request = signatures.request(self.tx, caller(who), self.at(), record_type, record_id, meaning, expiry=120.0)
        return self.sign(who, request)

    def model(self, content: bytes = b"fingerprint", product: str = PRODUCT) -> models.ProductModel:
        digest = hashlib.sha256(content).hexdigest()
        draft = models.save_draft(self.tx, caller("eng1"), self.at(), product, content, digest, {"lots": 3})
        signature = self.signed("qa1", "model", draft.model_id, Meaning.APPROVAL)
        return models.approve(self.tx, caller("qa1"), self.at(), draft.model_id, signature)

    def created(self, batch_id: str = "B1", line: str = LINE, by: str = "op1") -> Batch:
        if models.approved(self.tx, PRODUCT) is None:
            self.model()
        return batches.create(self.tx, caller(by), self.at(), line, batch_id, PRODUCT, "R1", "LOT7", 100.0)

    def running(self, batch_id: str = "B1", line: str = LINE, pins: Pins = PINS) -> Batch:
        self.created(batch_id, line)
        return batches.start(self.tx, caller("op1"), self.at(), batch_id, pins)

    def cycle(self, verdict: Verdict = Verdict.OK, **changes: object) -> Result:
        """The outcome of the cycle that begins now and takes a second."""
        number = next(self._numbers)
        model = models.approved(self.tx, PRODUCT)
        values: dict[str, object] = {
            "result_id": f"EN01.Stream01/{number}",
            "stream": "EN01.Stream01",
            "started": self.at(),
            "stopped": self.at(),
            "verdict": verdict,
            "reason": "" if verdict is Verdict.OK else "far from the fingerprint",
            "score": {Verdict.OK: 90.0 + number / 8, Verdict.NOT_OK: 3.25}.get(verdict, float("nan")),
            "contributions": (("S01", 0.75), ("S02", 0.25)),
            "fingerprint": (1.0, float("nan"), 0.1),
            "model": model.model_id if model else "",
            "model_digest": model.digest if model else "",
            "simulated": True,
        }
        return Result(**(values | changes))  # type: ignore[arg-type]

    def sample(self, verdict: Verdict = Verdict.OK, line: str = LINE, **changes: object) -> Result:
        cycle = self.cycle(verdict, **changes)
        return batches.add_result(self.tx, SERVICE, self.at(), line, cycle)

    def completed(self, *verdicts: Verdict, batch_id: str = "B1", pins: Pins = PINS) -> Batch:
        self.running(batch_id, pins=pins)
        for verdict in verdicts or (Verdict.OK, Verdict.OK):
            self.sample(verdict)
        return batches.complete(self.tx, caller("op1"), self.at(), batch_id)

    def evaluated(self, *verdicts: Verdict, batch_id: str = "B1", by: str = "qa1", pins: Pins = PINS) -> Batch:
        self.completed(*verdicts, batch_id=batch_id, pins=pins)
        return batches.evaluate(self.tx, caller(by), self.at(), batch_id)

    def review(self, batch_id: str = "B1", who: str = "qa1") -> str:
        return self.signed(who, "batch", batch_id, Meaning.REVIEW)

    def requested(self, batch_id: str = "B1", reviewer: str = "qa1", by: str = "qa1") -> Request:
        self.evaluated(batch_id=batch_id, by=by)
        self.review(batch_id, reviewer)
        return batches.request_release(self.tx, caller("qa1"), self.at(), batch_id, "ready", expiry=120.0)

    def released(self, batch_id: str = "B1") -> Batch:
        signature = self.sign("rel1", self.requested(batch_id))
        return batches.release(self.tx, caller("rel1"), self.at(), batch_id, signature, "")

    def settle(self, exception_id: str, made: Disposition = Disposition.ACCEPT, who: str = "qa2") -> int:
        meaning = Meaning.APPROVAL if made is Disposition.ACCEPT else Meaning.REJECTION
        signature = self.signed(who, "exception", exception_id, meaning)
        batch_id = exceptions.get(self.tx, exception_id).batch_id
        return exceptions.dispose(
            self.tx, caller(who), self.at(), batch_id, exception_id, made, "investigated", signature
        )

    def settle_all(self, batch_id: str = "B1") -> None:
        for x in exceptions.of_batch(self.tx, batch_id):
            if x.unsettled:
                self.settle(x.exception_id)
