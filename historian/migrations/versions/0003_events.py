"""Event history: every event with all its fields."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

Int = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Bytes = sa.LargeBinary()
String = sa.Text()


def upgrade() -> None:
    op.create_table(
        "event_source",
        sa.Column("id", Int, primary_key=True, autoincrement=True, nullable=False),
        sa.Column("node", String, nullable=False, unique=True),
        sqlite_strict=True,
    )
    op.create_table(
        "event_layout",
        sa.Column("id", Int, primary_key=True, autoincrement=True, nullable=False),
        sa.Column("event_type", String, nullable=False),
        sa.Column("paths", String, nullable=False),
        sa.UniqueConstraint("event_type", "paths"),
        sqlite_strict=True,
    )
    op.create_table(
        "event_log",
        sa.Column("number", Int, primary_key=True, autoincrement=True, nullable=False),
        sa.Column("time", Int, nullable=False),
        sa.Column("severity", Int, nullable=False),
        sa.Column("source", Int, sa.ForeignKey("event_source.id"), nullable=False),
        sa.Column("layout", Int, sa.ForeignKey("event_layout.id"), nullable=False),
        sa.Column("fields", Bytes, nullable=False),
        sqlite_strict=True,
    )
    op.create_index("event_log_time", "event_log", ["time", "number", "severity", "source", "layout"])
