"""Counts of failed logins by source."""

from compliance.lockout import LONGEST, SOURCES, Seldom, Sources, locked_until

SECOND = 10**9


def test_a_lock_grows_and_has_an_end() -> None:
    assert locked_until(4, 5, 300, 0) == 0
    assert [locked_until(n, 5, 300, 0) // SECOND for n in (5, 6, 7)] == [300, 600, 1200]
    assert locked_until(10**6, 5, 300, 0) == LONGEST * SECOND


def test_a_flood_of_sources_does_not_fill_the_memory() -> None:
    sources = Sources(1, 60)
    for i in range(SOURCES + 100):
        sources.failed([f"address/{i}"], "", 0)
    assert not sources.locked(["address/0"], 1)
    assert sources.locked([f"address/{SOURCES + 99}"], 1)


def test_refusals_are_told_once_in_a_while_with_their_number() -> None:
    sources = Sources(1, 600)
    sources.failed(["address/a"], "", 1)
    minute = 60 * SECOND
    assert sources.refused(["address/a"], minute + 1, minute) == 0
    assert [sources.refused(["address/a"], minute + 2, minute) for _ in range(7)] == [None] * 7
    assert sources.refused(["address/a"], 2 * minute + 2, minute) == 7


def test_what_is_told_seldom_is_told_with_its_number() -> None:
    seldom = Seldom(60 * SECOND)
    assert seldom.untold("anna", 1) == 0
    assert [seldom.untold("anna", 2 + i) for i in range(3)] == [None] * 3
    assert seldom.untold("bert", 5) == 0
    assert seldom.untold("anna", 60 * SECOND + 1) == 3
