"""The one form in which benchmarks answer."""

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

from rich.console import Console
from rich.table import Table

WIDTH = 120
"""Of a table that is no terminal's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    question: str
    value: float
    unit: str
    bar: str = ""
    """What must be reached, in words; empty: stated for information."""
    ok: bool | None = None
    """None where there is no bar."""
    peer: str = ""
    peer_value: float | None = None
    """The same question put to the peer in the same run."""


def main(
    question: str,
    run: Callable[[argparse.Namespace], Iterable[Answer]],
    arguments: Callable[[argparse.ArgumentParser], None] = lambda _: None,
) -> int:
    """Run a benchmark from the command line; exit code 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=question)
    parser.add_argument("--json", action="store_true", help="one JSON object a line instead of a table")
    arguments(parser)
    args = parser.parse_args()
    answers = []
    for answer in run(args):
        answers.append(answer)
        if args.json:
            print(json.dumps(asdict(answer)), flush=True)
    if not args.json:
        Console(width=None if sys.stdout.isatty() else WIDTH).print(_table(question, answers))
    return int(any(a.ok is False for a in answers))


def _table(title: str, answers: Iterable[Answer]) -> Table:
    table = Table("question", "value", "bar", "", "peer", title=title)
    marks = {None: "", True: "met", False: "missed"}
    for a in answers:
        peer = "" if a.peer_value is None else f"{a.peer}: {a.peer_value:.4g} {a.unit}"
        table.add_row(a.question, f"{a.value:.4g} {a.unit}", a.bar, marks[a.ok], peer)
    return table
