"""The service's log: one line an entry, whatever a client wrote into it."""

import logging

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class OneLine(logging.Formatter):
    """Escapes what is not printable: line ends, terminal controls, marks that turn the reading order (CWE-117).

    A traceback keeps its lines; they are ours.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the library's name
        record.message = escaped(record.message)
        return super().formatMessage(record)


def escaped(text: str) -> str:
    """`text`, with everything unprintable as a backslash escape."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def start() -> None:
    """Log to standard error from INFO on."""
    handler = logging.StreamHandler()
    handler.setFormatter(OneLine(FORMAT))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
