from nodesets.ports import SystemClock


def test_a_time_is_of_whole_microseconds() -> None:
    # Clients are shown microseconds: a time with more in it could not be asked for again.
    clock = SystemClock()
    assert all(clock.now() % 1000 == 0 for _ in range(100))
