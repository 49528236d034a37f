"""Tables of everything that counts as a GMP record.

Each change of a row here is followed in the same transaction by `audit.append(tx, entry, records=[(table, key), ...])`,
so every table has exactly one key column. Times are ns UTC; 0 stands for "not yet". Flags are 0 or 1. NaN is
NULL, since SQLite stores it so.
"""

from sqlalchemy import Column, ForeignKey, Index, Table
from sqlalchemy.schema import SchemaItem

from historian.schema import Bytes, Int, Real, String, metadata


def _key(name: str, *items: SchemaItem) -> Column[str]:
    return Column(name, String, *items, primary_key=True, nullable=False)


def _text(name: str, *items: SchemaItem, unique: bool = False) -> Column[str]:
    return Column(name, String, *items, nullable=False, unique=unique)


def _int(name: str) -> Column[int]:
    return Column(name, Int, nullable=False)


def _later_text(name: str) -> Column[str]:
    """Empty until a later step of the record's life fills it."""
    return Column(name, String, nullable=False, default="")


def _later_int(name: str) -> Column[int]:
    return Column(name, Int, nullable=False, default=0)


def _real(name: str) -> Column[float | None]:
    return Column(name, Real, nullable=True)


user_account = Table(
    "user_account",
    metadata,
    _key("folded"),  # users.fold(name): what makes a name unique for ever (R22, R26)
    _text("name"),
    _text("printed_name"),
    _text("roles"),  # JSON, sorted Role values
    _int("service"),
    _text("password_hash"),  # argon2id, PHC string
    _int("must_change"),
    _later_int("disabled"),
    _later_int("failures"),  # wrong passwords in a row
    _later_int("locked_until"),
    _int("created"),
    _int("password_changed"),
    sqlite_strict=True,
)

product_model = Table(
    "product_model",
    metadata,
    _key("model_id"),  # PRODUCT/version
    _text("product"),
    _int("version"),
    _text("metadata"),  # JSON
    Column("data", Bytes, nullable=False),
    _text("digest"),  # SHA-256 of data, hex
    _text("status"),  # models.Status
    _text("learned_by"),
    _int("learned"),
    _later_text("approved_by"),
    _later_int("approved"),
    _later_text("signature_id"),
    Index("product_model_product", "product", "version", unique=True),
    sqlite_strict=True,
)

batch = Table(
    "batch",
    metadata,
    _key("batch_id"),
    _text("line"),
    _text("product"),
    _text("recipe"),
    _text("lot"),
    Column("quantity", Real, nullable=False),
    _int("execution"),  # ExecutionState
    _int("disposition"),  # DispositionState
    _text("created_by"),
    _text("created_for"),  # OnBehalfOf as claimed (process rule 15)
    _int("created"),
    _later_text("started_by"),
    _later_text("started_for"),
    _later_int("started"),
    _later_int("ended"),
    # pinned by StartBatch (process rule 11)
    _later_text("model_id"),
    _later_text("model_digest"),
    _later_text("configuration"),  # SHA-256 of the plant
    _later_text("software"),
    _later_int("samples"),  # decidable samples the plan asks for
    _later_int("demo"),  # simulated results may be released
    # quality disposition
    _later_text("release_comment"),
    _later_text("review_signature"),
    _later_text("release_signature"),
    _later_text("release_id"),
    _later_text("released_by"),
    _later_int("released"),
    Index("batch_line", "line", "created"),
    sqlite_strict=True,
)

result = Table(
    "result",
    metadata,
    _key("result_id"),
    _text("stream"),
    _int("started"),
    _int("stopped"),
    _int("verdict"),
    _text("reason"),
    _real("score"),
    _real("uncertainty"),
    _real("anomaly"),
    _text("predicted_class"),
    _real("confidence"),
    _int("reference_count"),
    _real("false_alarm_rate"),
    _text("contributions"),  # JSON [[channel, share], ...]
    _text("fingerprint"),  # JSON [number or null, ...]
    _text("model"),
    _text("model_digest"),
    Column("batch_id", String, ForeignKey("batch.batch_id"), nullable=True),
    _text("sample_id"),
    _int("number"),  # 1, 2, ... within the batch; 0 outside
    _int("simulated"),
    Index("result_batch", "batch_id", "number"),
    Index("result_stream", "stream", "stopped"),
    sqlite_strict=True,
)

evaluation = Table(
    "evaluation",
    metadata,
    _key("evaluation_id"),  # BATCH/number
    _text("batch_id", ForeignKey("batch.batch_id")),
    _int("number"),
    _int("verdict"),
    _real("score"),  # of the worst sample
    _real("mean"),
    _int("samples"),
    _text("evaluated_by"),
    _text("evaluated_for"),
    _int("evaluated"),
    Index("evaluation_batch", "batch_id", "number", unique=True),
    sqlite_strict=True,
)

batch_exception = Table(
    "batch_exception",
    metadata,
    _key("exception_id"),  # BATCH/X01
    _text("batch_id", ForeignKey("batch.batch_id")),
    _int("number"),
    _text("kind"),
    _text("source"),
    _int("severity"),  # 1..1000, critical from 750
    _text("text"),
    _text("raised_by"),
    _int("raised"),
    _later_int("disposition"),  # batches.Disposition
    _later_text("comment"),
    _later_text("dispositioned_by"),
    _later_int("dispositioned"),
    _later_text("signature_id"),
    Index("batch_exception_batch", "batch_id", "number", unique=True),
    sqlite_strict=True,
)

signature_request = Table(
    "signature_request",
    metadata,
    _key("request_id"),
    _text("record_type"),
    _text("record_id"),
    _text("meaning"),
    _text("digest"),  # SHA-256 of the record as frozen, hex
    _text("manifest"),  # what the signer is shown, plain text
    _text("requested_by"),
    _int("requested"),
    _int("expires"),
    _text("state"),  # signatures.State
    Index("signature_request_record", "record_type", "record_id"),
    sqlite_strict=True,
)

signature = Table(
    "signature",
    metadata,
    _key("signature_id"),
    _text("request_id", ForeignKey("signature_request.request_id"), unique=True),
    _text("record_type"),
    _text("record_id"),
    _text("meaning"),
    _text("digest"),
    _text("signer"),
    _text("printed_name"),  # as it was on that day (R19)
    _int("signed"),
    _int("utc_offset"),  # minutes east of UTC at the site
    _text("method"),  # signatures.Method
    _text("session"),
    _text("application_uri"),
    _text("comment"),
    Index("signature_record", "record_type", "record_id"),
    sqlite_strict=True,
)

signature_use = Table(
    "signature_use",
    metadata,
    _key("signature_id", ForeignKey("signature.signature_id")),  # one row at most: a signature serves one act
    _text("act"),
    _text("used_by"),
    _int("used"),
    sqlite_strict=True,
)

recommendation = Table(
    "recommendation",
    metadata,
    _key("recommendation_id"),
    _text("agent"),
    _text("subject"),
    _text("body"),  # JSON of nodesets.model.Recommendation
    _int("created"),
    _int("expires"),
    _int("state"),  # recommendations.State
    _later_text("comment"),
    _later_text("decided_by"),
    _later_int("decided"),
    Index("recommendation_state", "state", "created"),
    sqlite_strict=True,
)
