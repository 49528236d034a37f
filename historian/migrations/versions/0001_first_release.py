"""Tables of the first release.

What a migration makes is written out in it and never changes: the tables of `historian.schema` and
`compliance.tables` go on, this stays what it was.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

Int = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Real: sa.types.TypeEngine[float] = sa.Double().with_variant(sa.REAL(), "sqlite")
Bytes = sa.LargeBinary()
String = sa.Text()

# Against accidents; whoever owns the file can drop them. INSERT OR REPLACE fires neither of the first two, and is
# stopped by the third.
TRIGGERS_OF_SQLITE = (
    """
    CREATE TRIGGER audit_entry_no_update BEFORE UPDATE ON audit_entry
    BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END
    """,
    """
    CREATE TRIGGER audit_entry_no_delete BEFORE DELETE ON audit_entry
    BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END
    """,
    """
    CREATE TRIGGER audit_entry_next_only BEFORE INSERT ON audit_entry
    WHEN NEW.seq IS NOT (SELECT coalesce(max(seq), -1) + 1 FROM audit_entry)
    BEGIN SELECT RAISE(ABORT, 'an audit entry takes the next number'); END
    """,
)

TRIGGERS_OF_POSTGRESQL = (
    """
    CREATE FUNCTION audit_entry_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION 'the audit log is append-only' USING ERRCODE = 'integrity_constraint_violation'; END $$
    """,
    """
    CREATE FUNCTION audit_entry_next() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF NEW.seq IS DISTINCT FROM (SELECT coalesce(max(seq), -1) + 1 FROM audit_entry) THEN
            RAISE EXCEPTION 'an audit entry takes the next number' USING ERRCODE = 'integrity_constraint_violation';
        END IF;
        RETURN NEW;
    END $$
    """,
    """
    CREATE TRIGGER audit_entry_no_update BEFORE UPDATE OR TRUNCATE ON audit_entry
    FOR EACH STATEMENT EXECUTE FUNCTION audit_entry_append_only()
    """,
    """
    CREATE TRIGGER audit_entry_no_delete BEFORE DELETE ON audit_entry
    FOR EACH STATEMENT EXECUTE FUNCTION audit_entry_append_only()
    """,
    """
    CREATE TRIGGER audit_entry_next_only BEFORE INSERT ON audit_entry
    FOR EACH ROW EXECUTE FUNCTION audit_entry_next()
    """,
)


def upgrade() -> None:
    op.create_table(
        "audit_entry",
        sa.Column("seq", Int, primary_key=True, autoincrement=False, nullable=False),
        sa.Column("prev", Bytes, nullable=False),
        sa.Column("body", Bytes, nullable=False),
        sa.Column("leaf", Bytes, nullable=False),
        sa.Column("schema_ver", Int, nullable=False),
        sa.Column("ts", Int, nullable=False),
        sa.Column("actor", String, nullable=False),
        sa.Column("action", String, nullable=False),
        sa.Column("object", String, nullable=False),
        sa.Column("outcome", String, nullable=False),
        sqlite_strict=True,
    )
    op.create_index("audit_entry_action", "audit_entry", ["action", "seq"])
    op.create_index("audit_entry_object", "audit_entry", ["object", "seq"])
    op.create_index("audit_entry_ts", "audit_entry", ["ts"])
    op.create_table(
        "batch",
        sa.Column("batch_id", String, primary_key=True, nullable=False),
        sa.Column("line", String, nullable=False),
        sa.Column("product", String, nullable=False),
        sa.Column("recipe", String, nullable=False),
        sa.Column("lot", String, nullable=False),
        sa.Column("quantity", Real, nullable=False),
        sa.Column("execution", Int, nullable=False),
        sa.Column("disposition", Int, nullable=False),
        sa.Column("created_by", String, nullable=False),
        sa.Column("created_for", String, nullable=False),
        sa.Column("created", Int, nullable=False),
        sa.Column("started_by", String, nullable=False),
        sa.Column("started_for", String, nullable=False),
        sa.Column("started", Int, nullable=False),
        sa.Column("ended", Int, nullable=False),
        sa.Column("model_id", String, nullable=False),
        sa.Column("model_digest", String, nullable=False),
        sa.Column("configuration", String, nullable=False),
        sa.Column("software", String, nullable=False),
        sa.Column("samples", Int, nullable=False),
        sa.Column("demo", Int, nullable=False),
        sa.Column("release_comment", String, nullable=False),
        sa.Column("review_signature", String, nullable=False),
        sa.Column("release_signature", String, nullable=False),
        sa.Column("release_id", String, nullable=False),
        sa.Column("released_by", String, nullable=False),
        sa.Column("released", Int, nullable=False),
        sqlite_strict=True,
    )
    op.create_index("batch_line", "batch", ["line", "created"])
    op.create_table(
        "commit_group",
        sa.Column("sequence", Int, primary_key=True, autoincrement=False, nullable=False),
        sa.Column("first_frame", Int, nullable=False),
        sa.Column("last_frame", Int, nullable=False),
        sa.Column("digest", Bytes, nullable=False),
        sqlite_strict=True,
    )
    op.create_table(
        "layout",
        sa.Column("id", Int, primary_key=True, autoincrement=True, nullable=False),
        sa.Column("tag_group", String, nullable=False),
        sa.Column("columns", String, nullable=False),
        sa.UniqueConstraint("tag_group", "columns"),
        sqlite_strict=True,
    )
    op.create_table(
        "product_model",
        sa.Column("model_id", String, primary_key=True, nullable=False),
        sa.Column("product", String, nullable=False),
        sa.Column("version", Int, nullable=False),
        sa.Column("metadata", String, nullable=False),
        sa.Column("data", Bytes, nullable=False),
        sa.Column("digest", String, nullable=False),
        sa.Column("status", String, nullable=False),
        sa.Column("learned_by", String, nullable=False),
        sa.Column("learned", Int, nullable=False),
        sa.Column("approved_by", String, nullable=False),
        sa.Column("approved", Int, nullable=False),
        sa.Column("signature_id", String, nullable=False),
        sqlite_strict=True,
    )
    op.create_index("product_model_product", "product_model", ["product", "version"], unique=True)
    op.create_table(
        "recommendation",
        sa.Column("recommendation_id", String, primary_key=True, nullable=False),
        sa.Column("agent", String, nullable=False),
        sa.Column("subject", String, nullable=False),
        sa.Column("body", String, nullable=False),
        sa.Column("created", Int, nullable=False),
        sa.Column("expires", Int, nullable=False),
        sa.Column("state", Int, nullable=False),
        sa.Column("comment", String, nullable=False),
        sa.Column("decided_by", String, nullable=False),
        sa.Column("decided", Int, nullable=False),
        sqlite_strict=True,
    )
    op.create_index("recommendation_state", "recommendation", ["state", "created"])
    op.create_table(
        "signature_request",
        sa.Column("request_id", String, primary_key=True, nullable=False),
        sa.Column("record_type", String, nullable=False),
        sa.Column("record_id", String, nullable=False),
        sa.Column("meaning", String, nullable=False),
        sa.Column("digest", String, nullable=False),
        sa.Column("manifest", String, nullable=False),
        sa.Column("requested_by", String, nullable=False),
        sa.Column("requested", Int, nullable=False),
        sa.Column("expires", Int, nullable=False),
        sa.Column("state", String, nullable=False),
        sqlite_strict=True,
    )
    op.create_index("signature_request_record", "signature_request", ["record_type", "record_id"])
    op.create_table(
        "user_account",
        sa.Column("folded", String, primary_key=True, nullable=False),
        sa.Column("name", String, nullable=False),
        sa.Column("printed_name", String, nullable=False),
        sa.Column("roles", String, nullable=False),
        sa.Column("service", Int, nullable=False),
        sa.Column("password_hash", String, nullable=False),
        sa.Column("must_change", Int, nullable=False),
        sa.Column("disabled", Int, nullable=False),
        sa.Column("failures", Int, nullable=False),
        sa.Column("locked_until", Int, nullable=False),
        sa.Column("created", Int, nullable=False),
        sa.Column("password_changed", Int, nullable=False),
        sqlite_strict=True,
    )
    op.create_table(
        "batch_exception",
        sa.Column("exception_id", String, primary_key=True, nullable=False),
        sa.Column("batch_id", String, sa.ForeignKey("batch.batch_id"), nullable=False),
        sa.Column("number", Int, nullable=False),
        sa.Column("kind", String, nullable=False),
        sa.Column("source", String, nullable=False),
        sa.Column("severity", Int, nullable=False),
        sa.Column("text", String, nullable=False),
        sa.Column("raised_by", String, nullable=False),
        sa.Column("raised", Int, nullable=False),
        sa.Column("disposition", Int, nullable=False),
        sa.Column("comment", String, nullable=False),
        sa.Column("dispositioned_by", String, nullable=False),
        sa.Column("dispositioned", Int, nullable=False),
        sa.Column("signature_id", String, nullable=False),
        sqlite_strict=True,
    )
    op.create_index("batch_exception_batch", "batch_exception", ["batch_id", "number"], unique=True)
    op.create_table(
        "evaluation",
        sa.Column("evaluation_id", String, primary_key=True, nullable=False),
        sa.Column("batch_id", String, sa.ForeignKey("batch.batch_id"), nullable=False),
        sa.Column("number", Int, nullable=False),
        sa.Column("verdict", Int, nullable=False),
        sa.Column("score", Real, nullable=True),
        sa.Column("mean", Real, nullable=True),
        sa.Column("samples", Int, nullable=False),
        sa.Column("evaluated_by", String, nullable=False),
        sa.Column("evaluated_for", String, nullable=False),
        sa.Column("evaluated", Int, nullable=False),
        sqlite_strict=True,
    )
    op.create_index("evaluation_batch", "evaluation", ["batch_id", "number"], unique=True)
    op.create_table(
        "frame",
        sa.Column("id", Int, primary_key=True, autoincrement=False, nullable=False),
        sa.Column("layout", Int, sa.ForeignKey("layout.id"), nullable=False),
        sa.Column("source_time", Int, nullable=False),
        sa.Column("received_time", Int, nullable=False),
        sa.Column("status", Bytes, nullable=False),
        sa.Column("samples", Bytes, nullable=False),
        sqlite_strict=True,
    )
    op.create_index("frame_time", "frame", ["layout", "source_time"])
    op.create_table(
        "result",
        sa.Column("result_id", String, primary_key=True, nullable=False),
        sa.Column("stream", String, nullable=False),
        sa.Column("started", Int, nullable=False),
        sa.Column("stopped", Int, nullable=False),
        sa.Column("verdict", Int, nullable=False),
        sa.Column("reason", String, nullable=False),
        sa.Column("score", Real, nullable=True),
        sa.Column("uncertainty", Real, nullable=True),
        sa.Column("anomaly", Real, nullable=True),
        sa.Column("predicted_class", String, nullable=False),
        sa.Column("confidence", Real, nullable=True),
        sa.Column("reference_count", Int, nullable=False),
        sa.Column("false_alarm_rate", Real, nullable=True),
        sa.Column("contributions", String, nullable=False),
        sa.Column("fingerprint", String, nullable=False),
        sa.Column("model", String, nullable=False),
        sa.Column("model_digest", String, nullable=False),
        sa.Column("batch_id", String, sa.ForeignKey("batch.batch_id"), nullable=True),
        sa.Column("sample_id", String, nullable=False),
        sa.Column("number", Int, nullable=False),
        sa.Column("simulated", Int, nullable=False),
        sqlite_strict=True,
    )
    op.create_index("result_batch", "result", ["batch_id", "number"])
    op.create_index("result_stream", "result", ["stream", "stopped"])
    op.create_table(
        "signature",
        sa.Column("signature_id", String, primary_key=True, nullable=False),
        sa.Column("request_id", String, sa.ForeignKey("signature_request.request_id"), nullable=False, unique=True),
        sa.Column("record_type", String, nullable=False),
        sa.Column("record_id", String, nullable=False),
        sa.Column("meaning", String, nullable=False),
        sa.Column("digest", String, nullable=False),
        sa.Column("signer", String, nullable=False),
        sa.Column("printed_name", String, nullable=False),
        sa.Column("signed", Int, nullable=False),
        sa.Column("utc_offset", Int, nullable=False),
        sa.Column("method", String, nullable=False),
        sa.Column("session", String, nullable=False),
        sa.Column("application_uri", String, nullable=False),
        sa.Column("comment", String, nullable=False),
        sqlite_strict=True,
    )
    op.create_index("signature_record", "signature", ["record_type", "record_id"])
    op.create_table(
        "signature_use",
        sa.Column("signature_id", String, sa.ForeignKey("signature.signature_id"), primary_key=True, nullable=False),
        sa.Column("act", String, nullable=False),
        sa.Column("used_by", String, nullable=False),
        sa.Column("used", Int, nullable=False),
        sqlite_strict=True,
    )
    of_sqlite = op.get_bind().dialect.name == "sqlite"
    for trigger in TRIGGERS_OF_SQLITE if of_sqlite else TRIGGERS_OF_POSTGRESQL:
        op.execute(trigger)
