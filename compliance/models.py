"""Product models as versioned records: learned as a draft, approved by a signature, superseded by the next (R39)."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, func, select

from compliance import signatures, texts
from compliance.audit import append
from compliance.rows import add, change, entry, fetch
from compliance.signatures import Meaning
from compliance.tables import product_model
from compliance.users import person
from nodesets.errors import AccessDenied, IntegrityError, InvalidState, NoMatch
from nodesets.model import Caller


class Status(StrEnum):
    DRAFT = "Draft"
    APPROVED = "Approved"
    SUPERSEDED = "Superseded"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductModel:
    """One version of a product's model, without its bytes: `load` has them."""

    model_id: str
    """`PRODUCT/version`."""
    product: str
    version: int
    status: Status
    digest: str
    """SHA-256 of the bytes, hex."""
    metadata: Mapping[str, Any]
    """How it was learned: cycles, lots, validation (analytics says what)."""
    learned_by: str
    learned: int
    approved_by: str
    approved: int


def save_draft(
    tx: Connection, caller: Caller, now: int, product: str, data: bytes, digest: str, metadata: Mapping[str, Any]
) -> ProductModel:
    """The next version of a product's model, as a draft. The same bytes again return the draft there is.

    Raises NoMatch when `digest` is not the SHA-256 (hex) of `data`.
    """
    texts.identifier("Product", product)
    if hashlib.sha256(data).hexdigest() != digest:
        raise NoMatch(f"the model of {product} has not the digest {digest}")
    query = select(product_model.c.model_id).where(product_model.c.product == product, product_model.c.digest == digest)
    if (known := tx.execute(query).scalar()) is not None:
        return get(tx, known)
    newest = select(func.max(product_model.c.version)).where(product_model.c.product == product)
    version = (tx.execute(newest).scalar() or 0) + 1
    model_id = f"{product}/{version}"
    add(
        tx,
        product_model,
        model_id=model_id,
        product=product,
        version=version,
        metadata=json.dumps(metadata, sort_keys=True, allow_nan=False),
        data=data,
        digest=digest,
        status=Status.DRAFT,
        learned_by=caller.user,
        learned=now,
    )
    logged = entry(caller, now, "model.draft", f"product_model/{model_id}", new={"digest": digest})
    append(tx, logged, [("product_model", model_id)])
    return get(tx, model_id)


def approve(tx: Connection, caller: Caller, now: int, model_id: str, signature_id: str) -> ProductModel:
    """Make a draft the product's model, in place of the one before; batches that run keep theirs (process rule 11).

    The same signature again returns the approved model. Raises NotFound, NoMatch, InvalidState for what is no draft,
    AccessDenied for a signature by who learned it.
    """
    row = fetch(tx, product_model, model_id)
    if row.signature_id and row.signature_id == signature_id:
        return _model(row)
    if row.status != Status.DRAFT:
        raise InvalidState(f"model {model_id} is {row.status}")
    signed = signatures.matching(tx, signature_id, "model", model_id, Meaning.APPROVAL)
    if person(signed.signer) == person(row.learned_by):
        raise AccessDenied(f"{signed.signer} learned the model and cannot approve it")
    before = approved(tx, row.product)
    changed = [("product_model", model_id), signatures.spend(tx, caller, now, signed, "model.approve")]
    if before is not None:
        change(tx, product_model, before.model_id, status=Status.SUPERSEDED)
        changed.append(("product_model", before.model_id))
    change(
        tx,
        product_model,
        model_id,
        status=Status.APPROVED,
        approved_by=signed.signer,
        approved=now,
        signature_id=signature_id,
    )
    logged = entry(
        caller,
        now,
        "model.approve",
        f"product_model/{model_id}",
        reason=signed.comment,
        old={"approved": before.model_id if before else None},
        new={"approved": model_id, "signature": signature_id},
    )
    append(tx, logged, changed)
    return get(tx, model_id)


def approved(tx: Connection, product: str) -> ProductModel | None:
    """The model new batches of the product are judged by."""
    query = select(product_model).where(product_model.c.product == product, product_model.c.status == Status.APPROVED)
    row = tx.execute(query).one_or_none()
    return None if row is None else _model(row)


def get(tx: Connection, model_id: str) -> ProductModel:
    """Raises NotFound."""
    return _model(fetch(tx, product_model, model_id))


def load(tx: Connection, model_id: str) -> bytes:
    """The bytes of a model. Raises NotFound, IntegrityError when they are not what was saved."""
    row = fetch(tx, product_model, model_id)
    if hashlib.sha256(row.data).hexdigest() != row.digest:
        raise IntegrityError(f"product_model/{model_id}", "its bytes have not the digest that was approved")
    return bytes(row.data)


def listing(tx: Connection, product: str | None = None) -> tuple[ProductModel, ...]:
    """All versions of all products or of one, by product and version."""
    query = select(product_model).order_by(product_model.c.product, product_model.c.version)
    if product is not None:
        query = query.where(product_model.c.product == product)
    return tuple(_model(row) for row in tx.execute(query))


def _model(row: Row[Any]) -> ProductModel:
    return ProductModel(
        model_id=row.model_id,
        product=row.product,
        version=row.version,
        status=Status(row.status),
        digest=row.digest,
        metadata=json.loads(row.metadata),
        learned_by=row.learned_by,
        learned=row.learned,
        approved_by=row.approved_by,
        approved=row.approved,
    )
