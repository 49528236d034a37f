"""The one form in which benchmarks answer."""

import argparse
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

from rich.console import Console
from rich.table import Table


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
    table = Table("question", "value", "unit", "bar", "ok", "peer", "peer value", title=question)
    for answer in run(args):
        answers.append(answer)
        if args.json:
            print(json.dumps(asdict(answer)), flush=True)
        row = asdict(answer)
        table.add_row(
            *("" if row[k] is None else f"{row[k]:.4g}" if isinstance(row[k], float) else str(row[k]) for k in row)
        )
    if not args.json:
        Console().print(table)
    return int(any(a.ok is False for a in answers))
