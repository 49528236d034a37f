"""Corrections of the history and annotations of it, in layers of their own."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

Int = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Bytes = sa.LargeBinary()
String = sa.Text()


def upgrade() -> None:
    op.create_table(
        "correction",
        sa.Column("id", Int, primary_key=True, autoincrement=True, nullable=False),
        sa.Column("tag", String, nullable=False),
        sa.Column("source_time", Int, nullable=False),
        sa.Column("update_type", Int, nullable=False),
        sa.Column("made", Int, nullable=False),
        sa.Column("user_name", String, nullable=False),
        sa.Column("reason", String, nullable=False),
        sa.Column("form", String, nullable=False),
        sa.Column("old_value", Bytes, nullable=True),
        sa.Column("old_status", Int, nullable=True),
        sa.Column("old_received", Int, nullable=True),
        sa.Column("new_value", Bytes, nullable=True),
        sa.Column("new_status", Int, nullable=True),
        sa.Column("new_received", Int, nullable=True),
        sqlite_strict=True,
    )
    op.create_index("correction_time", "correction", ["tag", "source_time"])
    op.create_table(
        "annotation",
        sa.Column("id", Int, primary_key=True, autoincrement=True, nullable=False),
        sa.Column("tag", String, nullable=False),
        sa.Column("source_time", Int, nullable=False),
        sa.Column("user_name", String, nullable=False),
        sa.Column("message", String, nullable=False),
        sa.Column("made", Int, nullable=False),
        sa.Column("removed", Int, nullable=False),
        sqlite_strict=True,
    )
    op.create_index("annotation_time", "annotation", ["tag", "source_time"])
