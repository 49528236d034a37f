"""What a client writes into the log stays one line of text."""

import logging

from opcua_server.logs import FORMAT, OneLine


def test_what_a_client_wrote_is_escaped_and_stays_on_its_line() -> None:
    # H29: a line end forges an entry, ESC writes to the reader's terminal, U+202E shows another text than is there.
    record = logging.LogRecord(
        "x", logging.INFO, "f", 1, "batch %s of %s", ("a\nb\x1b[31m\u202e\0", "Größe 日本"), None
    )
    line = OneLine(FORMAT).format(record)
    assert line.endswith("x: batch a\\nb\\x1b[31m\\u202e\\x00 of Größe 日本")
    assert line.isprintable()
