"""A block comes back bit for bit, whatever is in it, and its statistics are those of its values."""

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from historian import chunks
from historian.chunks import HOUR, ROWS, Block, Kind

NOW = 1_790_000_000_000_000_000 // HOUR * HOUR
NAN = 0x7FF8000000000000
ODD_BITS = [
    0,
    1,
    2**63,
    NAN,
    NAN + 1,
    NAN | 2**63,
    0x7FF0000000000001,
    0x7FF0000000000000,
    0xFFF0000000000000,
    2**64 - 1,
]
"""Zeros of both signs, the smallest number, quiet and signalling NaN with payloads, infinities, -1 as an integer."""
BITS = st.integers(0, 2**64 - 1) | st.sampled_from(ODD_BITS) | st.floats().map(lambda x: int(np.float64(x).view("u8")))
CODES = st.just(0) | st.sampled_from([0x40900000, 0x809D0000, 0x00000400]) | st.integers(0, 2**32 - 1)
TIMES = st.integers(NOW, NOW + 3) | st.integers(-(2**63), 2**63 - 1)


@st.composite
def blocks(draw: st.DrawFn) -> tuple[Block, list[Kind]]:
    kinds = draw(st.lists(st.sampled_from(Kind), min_size=1, max_size=4))
    rows = draw(st.integers(1, 40))

    def arrays(elements: st.SearchStrategy[int], dtype: str) -> NDArray[np.generic]:
        some = st.lists(elements, min_size=rows, max_size=rows) | elements.map(lambda one: [one] * rows)
        return np.array(draw(some), dtype)

    times = np.sort(arrays(TIMES, "i8"))
    received, numbers = arrays(TIMES, "i8"), arrays(st.integers(0, 2**62), "i8")
    cells = np.array([arrays(BITS, "u8") for _ in kinds])
    status = np.array([arrays(CODES, "u4") for _ in kinds])
    return Block(times, received, numbers, cells, status), kinds


def same(a: Block, b: Block) -> bool:
    return all(
        np.array_equal(getattr(a, name), getattr(b, name))
        for name in ("times", "received", "numbers", "cells", "status")
    )


@settings(max_examples=150, deadline=None)
@given(blocks())
def test_a_block_comes_back_bit_for_bit(made: tuple[Block, list[Kind]]) -> None:
    block, kinds = made
    encoded = chunks.encode(block, kinds)
    assert same(chunks.decode(encoded, kinds, len(block)), block)


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("rows", [1, 2, 255, 256, 257, ROWS])
def test_a_long_column_comes_back_bit_for_bit(kind: Kind, rows: int) -> None:
    # pcodec chooses among its modes by what it sees in many values: decimals, integers, repetition, noise.
    generator = np.random.default_rng(rows)
    odd = np.resize(np.array(ODD_BITS, "<u8"), rows)
    columns = [
        np.round(generator.random(rows) * 500, 2).view("<u8"),
        np.where(generator.random(rows) < 0.1, odd, np.round(generator.random(rows), 1).view("<u8")),
        generator.integers(0, 2**63, rows).astype("<u8"),
        generator.integers(0, 2, rows).astype("<u8"),
        np.where(generator.random(rows) < 0.5, odd, generator.integers(0, 9, rows).astype("f8").view("<u8")),
    ]
    times = NOW + np.arange(rows) * 10**9
    status = np.repeat(generator.choice([0, 0x809D0000, 0x40900000], -(-rows // 16)), 16)[:rows].astype("<u4")
    jitter = generator.integers(0, 3_000_000, rows)
    block = Block(times, times + jitter, 7 + np.arange(rows) * 3, np.array(columns), np.array([status] * len(columns)))
    kinds = [kind] * len(columns)
    encoded = chunks.encode(block, kinds)
    assert same(chunks.decode(encoded, kinds, rows), block)
    for column in range(len(columns)):
        cells, codes = chunks.decode_column(encoded.columns, column, kind, rows)
        assert np.array_equal(cells, columns[column])
        assert np.array_equal(codes, status)


@settings(max_examples=100, deadline=None)
@given(st.lists(blocks().filter(lambda made: len(made[1]) == 2), min_size=1, max_size=4))
def test_merging_keeps_every_row_in_order_of_time_then_of_recording(made: list[tuple[Block, list[Kind]]]) -> None:
    merged = chunks.merge([block for block, _ in made])
    rows = [row for block, _ in made for row in _rows(block)]
    assert sorted(_rows(merged)) == sorted(rows)
    order = list(zip(merged.times.tolist(), merged.numbers.tolist(), strict=True))
    assert order == sorted(order)
    kinds = [Kind.UINT64] * 2
    assert same(chunks.decode(chunks.encode(merged, kinds), kinds, len(merged)), merged)


def _rows(block: Block) -> list[tuple[object, ...]]:
    columns = (block.times, block.numbers, block.received, *block.cells, *block.status)
    return list(zip(*(c.tolist() for c in columns), strict=True))


@pytest.mark.parametrize("rows", [1, 100, ROWS, ROWS + 1, 3 * ROWS])
@pytest.mark.parametrize("begin", [NOW, NOW - 50 * 10**6, -HOUR - 5 * 10**7])
def test_a_cut_leaves_whole_rows_within_whole_hours(rows: int, begin: int) -> None:
    # Before 1970 as after it: a device whose clock says so is wrong, but its samples are kept.
    times = begin + np.arange(rows) * 10**6
    row = np.arange(rows)
    block = Block(times, times, row, row.astype("u8")[None], np.zeros((1, rows), "u4"))
    pieces = chunks.cut(block)
    assert same(chunks.merge(pieces), block)
    for piece in pieces:
        assert 1 <= len(piece) <= ROWS
        assert piece.times[0] // HOUR == piece.times[-1] // HOUR
    whole = sum(-(-int(n) // ROWS) for n in np.unique(times // HOUR, return_counts=True)[1])
    assert len(pieces) == whole


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 10**6),
            st.integers(-1000, 1000).map(float) | st.just(math.nan),
            st.sampled_from([0, 0x40900000, 0x809D0000]),
        ),
        min_size=1,
        max_size=30,
    )
)
def test_statistics_are_those_of_the_good_values(samples: list[tuple[int, float, int]]) -> None:
    # Against sums over rationals; only pairs of neighbouring good values span an area.
    samples.sort(key=lambda s: s[0])
    times = NOW + np.array([s[0] for s in samples], "i8") * 1000
    values = np.array([s[1] for s in samples])
    codes = np.array([s[2] for s in samples], "u4")
    block = Block(times, times, np.arange(len(samples)), values.view("u8")[None], codes[None])
    (found,) = chunks.statistics(block, [Kind.DOUBLE])
    good = [(int(t), Fraction(v)) for t, v, s in zip(times, values, codes, strict=True) if s == 0 and not math.isnan(v)]
    assert found["good"] + found["uncertain"] + found["bad"] == len(samples)
    assert found["good"] == len(good)
    assert found["bad"] == sum(s[2] >> 30 > 1 or math.isnan(s[1]) for s in samples)
    assert found["worst"] == max((s[2] for s in samples), key=lambda code: code >> 30)
    assert [found["first_status"], found["last_status"]] == [codes[0], codes[-1]]
    if not good:
        assert math.isnan(found["minimum"])
        return
    low, high = min(good, key=lambda g: g[1]), max(good, key=lambda g: g[1])
    assert (found["minimum_time"], found["minimum"]) == low
    assert (found["maximum_time"], found["maximum"]) == high
    assert (found["first_good_time"], found["first_good"]) == good[0]
    assert (found["last_good_time"], found["last_good"]) == good[-1]
    assert found["sum"] == sum(v for _, v in good)
    assert found["squares"] == sum(v * v for _, v in good)
    rows = [
        (int(t), Fraction(v) if s == 0 and not math.isnan(v) else None)
        for t, v, s in zip(times, values, codes, strict=True)
    ]
    pairs = [(b[0] - a[0], a[1], b[1]) for a, b in pairwise(rows) if None not in (a[1], b[1])]
    assert found["stepped"] == pytest.approx(float(sum(dt * v for dt, v, _ in pairs)) / 1e9)
    assert found["integral"] == pytest.approx(float(sum(dt * (v + w) for dt, v, w in pairs)) / 2e9)
    assert found["duration"] == pytest.approx(sum(dt for dt, _, _ in pairs) / 1e9)
    assert found["transitions"] == sum(v != w for _, v, w in pairs)
