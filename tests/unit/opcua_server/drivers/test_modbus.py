"""Packing of reads."""

from hypothesis import given
from hypothesis import strategies as st

from config.load import DEMO, load
from config.registers import SPACE, position
from config.schema import Point, RegisterMap
from opcua_server.drivers.modbus import GAP, SPAN, Reader, spans

POINTS = st.lists(
    st.builds(
        Point,
        address=st.integers(0, 1000),
        type=st.sampled_from(["uint16", "float32", "float64"]),
        table=st.sampled_from(["input", "holding"]),
    ),
    min_size=1,
    max_size=40,
)


# A value cut by the border of two reads could mix two measurements, and a read over 125 registers is refused.
@given(POINTS, st.sampled_from([0, GAP]))
def test_every_point_lies_whole_in_one_read_of_legal_size(points: list[Point], gap: int) -> None:
    packed = spans(points, gap)
    for p in points:
        assert any(s.start <= position(p) and position(p) + p.registers <= s.stop for s in packed)
    for s in packed:
        assert 0 < s.stop - s.start <= SPAN
        assert s.start // SPACE == (s.stop - 1) // SPACE


@given(POINTS)
def test_nothing_is_read_over_a_gap_when_gaps_are_not_allowed(points: list[Point]) -> None:
    used = {position(p) + i for p in points for i in range(p.registers)}
    read = {r for s in spans(points, 0) for r in range(s.start, s.stop)}
    assert read == used


# Time, heartbeat and values of one measurement belong together; only what changes slowly comes in further requests.
def test_demo_device_is_read_with_its_head_and_values_in_one_request() -> None:
    plant = load(DEMO)
    for device, requests in zip(plant.devices, (3, 2), strict=True):
        packed = Reader(device, RegisterMap())._spans
        assert len(packed) == requests
        assert packed[0].start <= 50
        assert packed[0].stop >= 100 + 2 * len(device.channels)
