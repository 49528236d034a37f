"""Aggregates over sealed blocks: from their statistics alone, and exactly as from every sample."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest

from historian import archive, chunks
from historian.aggregates import AGGREGATES, Samples, intervals
from historian.archive import Archive
from historian.chunks import HOUR
from historian.query import Reader
from historian.schema import reading
from nodesets.errors import NotFound, OutOfRange
from nodesets.model import AggregateRules
from tests.unit.historian.sealing import BEGIN, sealing, settled
from tests.unit.historian.support import database, row, url, writing

TAG = "EN02.S01"
SUMMED = sorted(name for name, row in AGGREGATES.items() if row.of_totals is not None)
RULES = AggregateRules(uncertain_is_bad=False)


class Sealed(NamedTuple):
    history: Archive
    everything: Samples


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sealed]:
    """Six hours of a value every nine seconds, of all qualities; five of them are blocks, the last is in frames."""
    path = tmp_path_factory.mktemp("sealed") / "enose.db"
    generator = np.random.default_rng(7)
    times = np.arange(BEGIN, BEGIN + 6 * HOUR, 9 * 10**9)
    values = generator.integers(0, 50, len(times)).astype(np.float64)
    status = generator.choice(np.array([0, 0, 0, 0x40000000, 0x80000000], np.uint32), len(times))
    clock = settled(5)
    with database(path) as made, writing(made, clock=clock) as writer, sealing(path, writer, clock) as sealer:
        rows = zip(times.tolist(), values.tolist(), status.tolist(), strict=True)
        writer.append([row("EN02", t, [v], [s]) for t, v, s in rows]).result()
        sealer.seal()
        reader = Reader(reading(url(path)))
        yield Sealed(Archive(reader, clock), Samples(times, values, status))
        reader.close()


@pytest.mark.parametrize("name", SUMMED)
@pytest.mark.parametrize(
    ("start", "end", "length"),
    [
        (0.0, 6.0, 1.0),
        (6.0, 0.0, 1.0),
        (0.0, 6.0, 0.0),
        (-1.0, 7.0, 1.5),
        (4.3, 0.2, 1.1),
        (0.5, 0.7, 0.0),
    ],
)
async def test_statistics_of_blocks_give_what_every_sample_gives(
    sealed: Sealed, name: str, start: float, end: float, length: float
) -> None:
    # Also where intervals cut blocks, beyond both ends, and with the hour that is not sealed yet.
    over = tuple(BEGIN * (i < 2) + round(hours * HOUR) for i, hours in enumerate((start, end, length)))
    given = intervals(over[0], over[1], over[2])
    expected = AGGREGATES[name].function(sealed.everything, given, RULES)
    found = await sealed.history.read_processed(TAG, name, (over[0], over[1], over[2]), (0, 1000), RULES)
    assert found.times.tolist() == expected.times.tolist()
    assert [hex(s) for s in found.status] == [hex(s) for s in expected.status]
    np.testing.assert_allclose(found.values, expected.values, rtol=1e-9)


async def test_whole_blocks_are_not_decoded(sealed: Sealed, monkeypatch: pytest.MonkeyPatch) -> None:
    # A year of hours is 8,760 rows of statistics, not 31 million samples; at the ends a neighbour each is looked at.
    decoded = []

    def counted(*encoded: Any) -> Any:
        decoded.append(encoded)
        return chunks.decode_column(*encoded)

    monkeypatch.setattr("historian.query.decode_column", counted)
    monkeypatch.setattr("historian.query.CACHED", 0)
    over = (BEGIN, BEGIN + 4 * HOUR, HOUR)
    found = await sealed.history.read_processed(TAG, "Average", over, (0, 100), RULES)
    assert len(found.values) == 4
    assert len(decoded) <= 2


async def test_an_interval_of_too_many_samples_is_refused(sealed: Sealed, monkeypatch: pytest.MonkeyPatch) -> None:
    # H34: TimeAverage over fifty years in one interval must not take the memory of fifty years.
    monkeypatch.setattr(archive, "AT_ONCE", 100)
    monkeypatch.setattr(archive, "MOST", 1000)
    with pytest.raises(OutOfRange):
        await sealed.history.read_processed(TAG, "TimeAverage", (BEGIN, BEGIN + 6 * HOUR, 0), (0, 1), RULES)
    many = await sealed.history.read_processed(
        TAG, "TimeAverage", (BEGIN, BEGIN + 6 * HOUR, HOUR // 4), (0, 100), RULES
    )
    expected = AGGREGATES["TimeAverage"].function(
        sealed.everything, intervals(BEGIN, BEGIN + 6 * HOUR, HOUR // 4), RULES
    )
    np.testing.assert_allclose(many.values, expected.values, rtol=1e-9)


async def test_what_was_never_recorded_is_unknown(sealed: Sealed) -> None:
    with pytest.raises(NotFound):
        await sealed.history.read_processed("Nowhere", "Average", (0, 10, 0), (0, 1), RULES)
