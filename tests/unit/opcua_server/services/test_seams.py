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


def test_subclasses_replace_methods_that_exist() -> None:
    # A method renamed in the library would leave ours uncalled.
    for ours, theirs, names in (
        (seams.Channel, seams.UaProcessor, ("process", "close")),
        (
            seams.Connection,
            seams.OPCUAProtocol,
            ("connection_made", "connection_lost", "data_received", "_process_one_msg"),
        ),
        (seams.Listener, seams.BinaryServer, ("_make_protocol",)),
        (seams.Buffers, seams.TransportLimits, ("create_acknowledge_and_set_limits",)),
    ):
        for name in names:
            assert name in vars(ours)
            assert hasattr(theirs, name)
