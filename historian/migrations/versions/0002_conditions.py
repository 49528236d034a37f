"""States of alarms and what was told of them."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

Int = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Bytes = sa.LargeBinary()
String = sa.Text()


def upgrade() -> None:
    op.create_table(
        "alarm_state",
        sa.Column("node", String, primary_key=True, nullable=False),
        sa.Column("body", String, nullable=False),
        sqlite_strict=True,
    )
    op.create_table(
        "alarm_transition",
        sa.Column("id", Int, primary_key=True, autoincrement=True, nullable=False),
        sa.Column("time", Int, nullable=False),
        sa.Column("event_id", Bytes, nullable=False, unique=True),
        sa.Column("node", String, nullable=False),
        sa.Column("source", String, nullable=False),
        sa.Column("kind", String, nullable=False),
        sa.Column("branch", Int, nullable=False),
        sa.Column("state", String, nullable=False),
        sa.Column("level", String, nullable=False),
        sa.Column("severity", Int, nullable=False),
        sa.Column("retain", Int, nullable=False),
        sa.Column("hidden", Int, nullable=False),
        sa.Column("actor", String, nullable=False),
        sa.Column("comment", String, nullable=False),
        sa.Column("message", String, nullable=False),
        sqlite_strict=True,
    )
    op.create_index("alarm_transition_time", "alarm_transition", ["time"])
