"""Tables of everything that counts as a GMP record.

Each change of a row here is followed in the same transaction by `audit.append(tx, entry, records=[(table, key), ...])`,
so every table has exactly one key column. Times are ns UTC; 0 stands for "not yet". Flags are 0 or 1. A JSON column
holds text. NaN is NULL, since SQLite stores it so.
"""

from sqlalchemy import BigInteger, Column, Float, ForeignKey, Index, Integer, LargeBinary, String, Table, Text
from sqlalchemy.schema import SchemaItem

from historian.schema import metadata


def _text(name: str, *items: SchemaItem, unique: bool = False) -> Column[str]:
    return Column(name, String, *items, nullable=False, unique=unique)


def _key(name: str, *items: SchemaItem) -> Column[str]:
    return Column(name, String, *items, primary_key=True, nullable=False)


def _number(name: str) -> Column[int]:
    return Column(name, Integer, nullable=False)


def _time(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False)


def _json(name: str) -> Column[str]:
    return Column(name, Text, nullable=False)


def _real(name: str) -> Column[float | None]:
    return Column(name, Float(53), nullable=True)


user_account = Table(
    "user_account",
    metadata,
    _key("folded"),  # users.fold(name): what makes a name unique for ever (R22, R26)
    _text("name"),
    _text("printed_name"),
    _json("roles"),  # sorted list of Role values
    _number("service"),
    _text("password_hash"),  # argon2id, PHC string
    _number("must_change"),
    _number("disabled"),
    _number("failures"),  # wrong passwords in a row
    _time("locked_until"),
    _time("created"),
    _time("password_changed"),
)

product_model = Table(
    "product_model",
    metadata,
    _key("model_id"),  # PRODUCT/version
    _text("product"),
    _number("version"),
    _json("metadata"),
    Column("data", LargeBinary, nullable=False),
    _text("digest"),  # SHA-256 of data, hex
    _text("status"),  # models.Status
    _text("learned_by"),
    _time("learned"),
    _text("approved_by"),
    _time("approved"),
    _text("signature_id"),
    Index("product_model_product", "product", "version", unique=True),
)

batch = Table(
    "batch",
    metadata,
    _key("batch_id"),
    _text("line"),
    _text("product"),
    _text("recipe"),
    _text("lot"),
    Column("quantity", Float(53), nullable=False),
    _number("execution"),  # ExecutionState
    _number("disposition"),  # DispositionState
    _text("created_by"),
    _text("created_for"),  # OnBehalfOf as claimed (process rule 15)
    _time("created"),
    _text("started_by"),
    _text("started_for"),
    _time("started"),
    _time("ended"),
    # pinned by StartBatch (process rule 11)
    _text("model_id"),
    _text("model_digest"),
    _text("configuration"),  # SHA-256 of the plant
    _text("software"),
    _number("samples"),  # decidable samples the plan asks for
    _number("demo"),  # simulated results may be released
    # quality disposition
    _text("release_comment"),
    _text("review_signature"),
    _text("release_signature"),
    _text("release_id"),
    _text("released_by"),
    _time("released"),
    Index("batch_line", "line", "created"),
)

result = Table(
    "result",
    metadata,
    _key("result_id"),
    _text("stream"),
    _time("started"),
    _time("stopped"),
    _number("verdict"),
    _text("reason"),
    _real("score"),
    _real("uncertainty"),
    _real("anomaly"),
    _text("predicted_class"),
    _real("confidence"),
    _number("reference_count"),
    _real("false_alarm_rate"),
    _json("contributions"),  # [[channel, share], ...]
    _json("fingerprint"),  # [number or null, ...]
    _text("model"),
    _text("model_digest"),
    Column("batch_id", String, ForeignKey("batch.batch_id"), nullable=True),
    _text("sample_id"),
    _number("number"),  # 1, 2, ... within the batch; 0 outside
    _number("simulated"),
    Index("result_batch", "batch_id", "number"),
    Index("result_stream", "stream", "stopped"),
)

evaluation = Table(
    "evaluation",
    metadata,
    _key("evaluation_id"),  # BATCH/number
    _text("batch_id", ForeignKey("batch.batch_id")),
    _number("number"),
    _number("verdict"),
    _real("score"),  # of the worst sample
    _real("mean"),
    _number("samples"),
    _text("evaluated_by"),
    _text("evaluated_for"),
    _time("evaluated"),
    Index("evaluation_batch", "batch_id", "number", unique=True),
)

batch_exception = Table(
    "batch_exception",
    metadata,
    _key("exception_id"),  # BATCH/X01
    _text("batch_id", ForeignKey("batch.batch_id")),
    _number("number"),
    _text("kind"),
    _text("source"),
    _number("severity"),  # 1..1000, critical from 750
    _text("text"),
    _text("raised_by"),
    _time("raised"),
    _number("disposition"),  # batches.Disposition
    _text("comment"),
    _text("dispositioned_by"),
    _time("dispositioned"),
    _text("signature_id"),
    Index("batch_exception_batch", "batch_id", "number", unique=True),
)

signature_request = Table(
    "signature_request",
    metadata,
    _key("request_id"),
    _text("record_type"),
    _text("record_id"),
    _text("meaning"),
    _text("digest"),  # SHA-256 of the record as frozen, hex
    _json("manifest"),  # what the signer is shown, plain text
    _text("requested_by"),
    _time("requested"),
    _time("expires"),
    _text("state"),  # signatures.State
    Index("signature_request_record", "record_type", "record_id"),
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
    _time("signed"),
    _number("utc_offset"),  # minutes east of UTC at the site
    _text("method"),  # signatures.Method
    _text("session"),
    _text("application_uri"),
    _text("comment"),
    Index("signature_record", "record_type", "record_id"),
)

signature_use = Table(
    "signature_use",
    metadata,
    _key("signature_id", ForeignKey("signature.signature_id")),  # one row at most: a signature serves one act
    _text("act"),
    _text("used_by"),
    _time("used"),
)

recommendation = Table(
    "recommendation",
    metadata,
    _key("recommendation_id"),
    _text("agent"),
    _text("subject"),
    _json("body"),  # nodesets.model.Recommendation
    _time("created"),
    _time("expires"),
    _number("state"),  # recommendations.State
    _text("comment"),
    _text("decided_by"),
    _time("decided"),
    Index("recommendation_state", "state", "created"),
)
