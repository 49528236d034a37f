"""How far rows that went through a spool are recorded, and who may write.

In PostgreSQL history is partitioned by month. No database of an earlier version is one of PostgreSQL: what is replaced
there is empty.
"""

import sqlalchemy as sa
from alembic import op
from alembic.util import CommandError

revision = "0006"
down_revision = "0005"

Int = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

WRITE = """
CREATE FUNCTION enose_write(mine bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(7310001);
    IF (SELECT epoch FROM writer_epoch WHERE id = 1) IS DISTINCT FROM mine THEN
        RAISE EXCEPTION 'another server has become the writer of this database' USING ERRCODE = 'ENF01';
    END IF;
END $$
"""
"""Waits for the transaction of any other writer, then checks that no other has become the writer since."""

PARTITIONED = {"frame": "source_time", "block": "first_time"}


def upgrade() -> None:
    op.create_table(
        "forwarded",
        sa.Column("stream", sa.Text(), primary_key=True, nullable=False),
        sa.Column("position", Int, nullable=False),
        sqlite_strict=True,
    )
    epoch = op.create_table(
        "writer_epoch",
        sa.Column("id", Int, primary_key=True, autoincrement=False, nullable=False),
        sa.Column("epoch", Int, nullable=False),
        sqlite_strict=True,
    )
    op.bulk_insert(epoch, [{"id": 1, "epoch": 0}])
    if op.get_bind().dialect.name == "postgresql":
        op.execute(WRITE)
        for table, time in PARTITIONED.items():
            partition(table, time)


def partition(table: str, time: str) -> None:
    """Replace an empty table by one of the same columns, keys and indexes that is partitioned by `time`.

    Raises CommandError for one that is not empty.
    """
    if (
        op.get_bind()
        .execute(sa.select(sa.exists(sa.select(sa.literal_column("1")).select_from(sa.table(table)))))
        .scalar()
    ):
        raise CommandError(f"{table} is not empty: a database of PostgreSQL no released version has made")
    made = sa.inspect(op.get_bind())
    keys = [*made.get_pk_constraint(table)["constrained_columns"]]
    references = made.get_foreign_keys(table)
    indexes = made.get_indexes(table)
    numbered = [column["name"] for column in made.get_columns(table) if column["autoincrement"]]
    op.execute(f"ALTER TABLE {table} RENAME TO {table}_whole")
    op.execute(f"CREATE TABLE {table} (LIKE {table}_whole INCLUDING DEFAULTS) PARTITION BY RANGE ({time})")
    for number in numbered:
        op.execute(f"ALTER SEQUENCE {table}_{number}_seq OWNED BY {table}.{number}")
    op.execute(f"DROP TABLE {table}_whole")
    op.create_primary_key(f"{table}_pkey", table, [*keys, *({time} - {*keys})])
    for key in references:
        op.create_foreign_key(None, table, key["referred_table"], key["constrained_columns"], key["referred_columns"])
    for index in indexes:
        where = index.get("dialect_options", {}).get("postgresql_where")
        columns = [str(name) for name in index["column_names"]]
        op.create_index(index["name"], table, columns, postgresql_where=sa.text(where) if where else None)
