"""What weak and lying models come to: every kind of reply, played in a whole session over HTTP.

    python -m bench.replies [--only weak|lies] [--quick] [--write] [--json]

A session has one such agent behind a local server; the other agents are ``rules``, training is synthetic. No case may
end a session, none may promote without a pass, none may be shown unmarked. The cases and what each must come to are
those of the tests (``tests/support/weak_replies.py``, ``tests/support/lies.py``).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from loguru import logger
from rich.console import Console
from rich.progress import track
from rich.table import Table

from bench.support.readme import command_of, put
from tests.support import lies, weak_replies

README = Path(__file__).with_name("README.md")
KINDS = ("weak", "lies")


@dataclass(frozen=True)
class Row:
    """One case and what came of it."""

    kind: str
    case: str
    agent: str
    expected: str
    came_to: str
    turns: int | None
    """Turns of the agent after a weak reply until its phase was over."""
    problems: tuple[str, ...]
    """What is not as it must be; empty where the case holds."""


def weak(case: weak_replies.Case) -> Row:
    """A weak reply played."""
    ending = weak_replies.run_case(case)
    wrong = tuple(weak_replies.problems(case, ending))
    return Row("weak", case.name, case.role, case.end, ending.end, ending.turns, wrong)


def lie(case: lies.Case) -> Row:
    """A lie told."""
    ending = lies.run_case(case)
    return Row("lies", case.name, case.role, case.ends, ending.ends, None, tuple(lies.problems(case, ending)))


def played(kinds: Iterable[str], most: int | None, console: Console) -> Iterator[Row]:
    """The rows of all cases of these kinds, or of the first ``most`` of each, with a bar."""
    chosen = {"weak": [(weak, case) for case in weak_replies.CASES], "lies": [(lie, case) for case in lies.CASES]}
    cases = [each for kind in kinds for each in chosen[kind][:most]]
    for play, case in track(cases, "replies", console=console, transient=True):
        yield play(case)


def table(rows: Iterable[Row]) -> Table:
    """The rows as a person reads them."""
    shown = Table("reply", "agent", "expected", "came to", "turns", "holds", title_justify="left")
    for row in rows:
        turns = "" if row.turns is None else str(row.turns)
        shown.add_row(row.case, row.agent, row.expected, row.came_to, turns, "; ".join(row.problems) or "yes")
    return shown


def counts(rows: list[Row]) -> str:
    """How many of each kind hold, in a sentence."""
    parts = []
    for kind in dict.fromkeys(row.kind for row in rows):
        of_kind = [row for row in rows if row.kind == kind]
        parts.append(f"{sum(not row.problems for row in of_kind)} of {len(of_kind)} {kind}")
    return f"Held: {', '.join(parts)}."


def written(rows: list[Row], command: str) -> str:
    """The table in Markdown."""
    lines = [f"`{command}`. {counts(rows)}", "", "| reply | agent | expected | came to | turns | holds |"]
    lines.append("| --- | --- | --- | --- | --- | --- |")
    for row in rows:
        turns = "" if row.turns is None else row.turns
        holds = "; ".join(row.problems) or "yes"
        lines.append(f"| {row.case} | {row.agent} | {row.expected} | {row.came_to} | {turns} | {holds} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=KINDS, help="one kind of cases (default both)")
    parser.add_argument("--quick", action="store_true", help="two cases of each kind")
    parser.add_argument("--write", action="store_true", help="write the table into bench/README.md")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    if arguments.write and (arguments.quick or arguments.only):
        parser.error("--write wants the whole table: leave --quick and --only out.")
    kinds = KINDS if arguments.only is None else (arguments.only,)
    logger.disable("learning_signal")  # what goes wrong is the point, and stands in the table
    try:
        rows = list(played(kinds, 2 if arguments.quick else None, Console(stderr=True)))
    finally:
        logger.enable("learning_signal")
    if arguments.write:
        put(written(rows, command_of("replies")), "replies", README)
    if arguments.json:
        print(json.dumps([asdict(row) for row in rows]))
    else:
        Console(width=None if sys.stdout.isatty() else 100).print(table(rows), counts(rows), sep="\n")
    sys.exit(1 if any(row.problems for row in rows) else 0)


if __name__ == "__main__":
    main()
