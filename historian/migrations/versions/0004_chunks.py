"""Frames of a layout lie together and are a chain; what is sealed are blocks. Groups of a commit are no more.

The frames there are become the chain; before, they are compared with the digests of the commits they came in.
"""

import hashlib
import struct
from collections.abc import Iterator

import sqlalchemy as sa
from alembic import op
from alembic.util import CommandError

revision = "0004"
down_revision = "0003"

Int = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Bytes = sa.LargeBinary()
String = sa.Text()

HOUR = 3600 * 10**9
OLD = struct.Struct("<4q2I")
NEW = struct.Struct("<5q2I")


def upgrade() -> None:
    op.rename_table("frame", "old_frame")
    op.drop_index("frame_time", "old_frame")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER INDEX frame_pkey RENAME TO old_frame_pkey")
    frame = op.create_table(
        "frame",
        sa.Column("layout", Int, sa.ForeignKey("layout.id"), primary_key=True, nullable=False),
        sa.Column("source_time", Int, primary_key=True, nullable=False),
        sa.Column("id", Int, primary_key=True, autoincrement=False, nullable=False),
        sa.Column("received_time", Int, nullable=False),
        sa.Column("late", Int, nullable=False),
        sa.Column("status", Bytes, nullable=False),
        sa.Column("samples", Bytes, nullable=False),
        sa.Column("link", Bytes, nullable=False),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    late = sa.text("late = 1")
    op.create_index("frame_late", "frame", ["layout", "id"], sqlite_where=late, postgresql_where=late)
    op.create_table(
        "block",
        sa.Column("id", Int, primary_key=True, autoincrement=True, nullable=False),
        sa.Column("layout", Int, sa.ForeignKey("layout.id"), nullable=False),
        sa.Column("first_time", Int, nullable=False),
        sa.Column("last_time", Int, nullable=False),
        sa.Column("size", Int, nullable=False),
        sa.Column("statistics", Bytes, nullable=False),
        sa.Column("clock", Bytes, nullable=False),
        sa.Column("columns", Bytes, nullable=False),
        sqlite_strict=True,
        sqlite_autoincrement=True,
    )
    op.create_index("block_first", "block", ["layout", "first_time"])
    op.create_index("block_last", "block", ["layout", "last_time"])
    op.create_table(
        "sealed",
        sa.Column("layout", Int, sa.ForeignKey("layout.id"), primary_key=True, autoincrement=False, nullable=False),
        sa.Column("frame", Int, nullable=False),
        sa.Column("link", Bytes, nullable=False),
        sqlite_strict=True,
    )
    op.create_table(
        "text",
        sa.Column("id", Int, primary_key=True, autoincrement=True, nullable=False),
        sa.Column("content", String, nullable=False, unique=True),
        sqlite_strict=True,
    )
    connection = op.get_bind()
    for some in chained(connection):
        connection.execute(sa.insert(frame), some)
    op.drop_table("old_frame")
    op.drop_table("commit_group")


def chained(connection: sa.Connection) -> Iterator[list[dict[str, object]]]:
    """The rows of the new table, the frames of one commit at a time. Raises CommandError for an altered one."""
    links: dict[int, bytes] = {}
    newest: dict[int, int] = {}
    groups = connection.execute(sa.text("SELECT first_frame, last_frame, digest FROM commit_group ORDER BY sequence"))
    for first, last, digest in groups.all():
        rows = connection.execute(
            sa.text(
                "SELECT id, layout, source_time, received_time, status, samples FROM old_frame "
                "WHERE id BETWEEN :first AND :last ORDER BY id"
            ),
            {"first": first, "last": last},
        ).all()
        total, made = hashlib.sha256(), []
        for number, layout, time, received, status, samples in rows:
            lengths = len(status), len(samples)
            total.update(OLD.pack(number, layout, time, received, *lengths) + status + samples)
            late = int(time < newest.get(layout, time) or time > received + HOUR)
            if not late:
                newest[layout] = time
            head = NEW.pack(layout, time, number, received, late, *lengths)
            links[layout] = hashlib.sha256(links.get(layout, bytes(32)) + head + status + samples).digest()
            made.append(
                {
                    "layout": layout,
                    "source_time": time,
                    "id": number,
                    "received_time": received,
                    "late": late,
                    "status": status,
                    "samples": samples,
                    "link": links[layout],
                }
            )
        if total.digest() != digest:
            raise CommandError(f"frames {first} to {last} are not as they were recorded; nothing was migrated")
        yield made
