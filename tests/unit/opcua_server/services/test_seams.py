"""The places where this server hooks into asyncua."""

import pytest

from opcua_server.services import seams


def test_asyncuas_seams_are_where_they_were() -> None:
    # A change of a signature here means: read what the library changed before raising its version.
    assert seams.moved() == []


def test_the_tested_version_runs_without_a_warning() -> None:
    seams.check_version()


def test_another_version_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seams, "ASYNCUA", "0.0.1")
    with pytest.warns(RuntimeWarning, match=r"instead of 0\.0\.1"):
        seams.check_version()
