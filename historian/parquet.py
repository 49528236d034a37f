"""Parquet files in and out, by pyarrow."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from nodesets.errors import ConfigurationError, InvalidArgument, Mistake
from nodesets.ports import Series

try:
    import pyarrow as pa
    from pyarrow import parquet as pq
except ModuleNotFoundError as error:
    raise ConfigurationError([Mistake("", "Parquet needs the extra enose[parquet]")]) from error

INSTANT: Final = pa.timestamp("ns", tz="UTC")
SCHEMA: Final = pa.schema(
    [
        ("tag", pa.dictionary(pa.int32(), pa.string())),
        ("source_time", INSTANT),
        ("received_time", INSTANT),
        ("status", pa.uint32()),
        ("value", pa.float64()),
        ("integer", pa.int64()),
        ("text", pa.string()),
    ]
)
"""A value stands in the column of its kind: doubles and Booleans (0, 1), integers, texts."""


class Writer:
    def __init__(self, opened: pq.ParquetWriter) -> None:
        self._opened = opened

    def write(self, tag: str, series: Series) -> None:
        """One row group a page."""
        size, kind = len(series.times), series.values.dtype.kind
        nothing = {"value": pa.float64(), "integer": pa.int64(), "text": pa.string()}
        column = {"i": "integer", "u": "integer", "O": "text"}.get(kind, "value")
        values = {name: pa.nulls(size, type_) for name, type_ in nothing.items()}
        values[column] = pa.array(series.values).cast(nothing[column])
        arrays = [
            pa.DictionaryArray.from_arrays(pa.repeat(pa.scalar(0, pa.int32()), size), [tag]),
            pa.array(series.times).cast(INSTANT),
            pa.array(series.received).cast(INSTANT),
            pa.array(series.status),
            *values.values(),
        ]
        self._opened.write_table(pa.Table.from_arrays(arrays, schema=SCHEMA))


@contextmanager
def writer(file: Path) -> Iterator[Writer]:
    with file.open("xb") as opened, pq.ParquetWriter(opened, SCHEMA) as made:
        yield Writer(made)


def lines(file: Path) -> Iterator[Sequence[Any]]:
    """Names of the columns, then every line; instants as ns UTC. Raises InvalidArgument."""
    try:
        with pq.ParquetFile(file) as opened:
            own = opened.schema_arrow.names == SCHEMA.names
            yield opened.schema_arrow.names[:5] if own else opened.schema_arrow.names
            for batch in opened.iter_batches(10_000):
                columns = [_plain(column) for column in batch.columns]
                yield from zip(*columns[:5], strict=True) if own else zip(*columns, strict=True)
    except (OSError, pa.ArrowException) as error:
        raise InvalidArgument(f"{file}: {error}") from error


def _plain(column: pa.Array) -> list[Any]:
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("ns", tz=column.type.tz)).cast(pa.int64())
    plain: list[Any] = column.to_pylist()
    return plain
