"""What faults of model servers come to: every fault under every protocol in every phase of a session, over HTTP.

    python -m bench.faults [--only GROUP] [--quick] [--workers N] [--write] [--json]

A cell is a session that stands before a phase, prepared by rules, whose agent then gets a faulty server through the
official SDK of the protocol; training is synthetic, and waits take no time. It holds where the session ends as the
fault demands (in success, or in a pause with one clear sentence), within the deadline, with no unhandled exception, no
control character on the terminal, no key in any byte that is left behind, nothing sent to another host, no promotion
without a passing verdict, and a sound log. The faults are those of the tests (``tests/support/faulty/``).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from bench.support.readme import command_of, put
from tests.support.faulty.cells import Cell, cells, chosen, play, problems
from tests.support.faulty.protocols import PROTOCOLS
from tests.support.faulty.table import FAULTS, GROUPS

README = Path(__file__).with_name("README.md")
NAMES = tuple(protocol.name for protocol in PROTOCOLS)


@dataclass(frozen=True)
class Row:
    """One cell and what came of it."""

    fault: str
    protocol: str
    phase: str
    expected: str
    came_to: str
    seconds: float
    """By the session's clock."""
    requests: int
    megabytes: float
    """The largest memory of the process so far."""
    problems: tuple[str, ...]
    """What is not as it must be; empty where the cell holds."""


def row(cell: Cell) -> Row:
    """A cell played."""
    ending = play(cell)
    came_to = {"done": "recovers", "paused": "pauses"}.get(ending.status, ending.status)
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return Row(
        cell.fault.name,
        cell.protocol.name,
        cell.phase,
        cell.fault.end_of(cell.protocol.name),
        came_to,
        ending.seconds,
        ending.requests,
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit,
        tuple(problems(cell, ending)),
    )


def rows(wanted: Sequence[Cell], workers: int, console: Console) -> Iterator[Row]:
    """The rows of these cells, with a bar."""
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        played = pool.imap(row, wanted, chunksize=4)
        yield from track(played, "faults", total=len(wanted), console=console, transient=True)


def lines(found: Iterable[Row]) -> Iterator[tuple[str, ...]]:
    """Of each fault: its name, the end under each protocol, and whether its cells hold."""
    by_fault: dict[str, list[Row]] = {}
    for each in found:
        by_fault.setdefault(each.fault, []).append(each)
    for name, of_fault in by_fault.items():
        ends = [", ".join(sorted({each.came_to for each in of_fault if each.protocol == one})) for one in NAMES]
        wrong = [f"{each.protocol}, {each.phase}: {'; '.join(each.problems)}" for each in of_fault if each.problems]
        held = f"{len(of_fault) - len(wrong)} of {len(of_fault)}"
        yield name, *(end or "-" for end in ends), " | ".join([held, *wrong])


def counts(found: Sequence[Row]) -> str:
    """How many cells hold, in a sentence, and what the worst took."""
    faults = len({each.fault for each in found})
    held = sum(not each.problems for each in found)
    return (
        f"{held} of {len(found)} cells hold: {faults} faults, {len(NAMES)} protocols; the longest took "
        f"{max(each.seconds for each in found):.0f} s of the session's clock, the largest process "
        f"{max(each.megabytes for each in found):.0f} MB."
    )


def written(found: Sequence[Row], command: str) -> str:
    """The table in Markdown."""
    head = ["fault", *NAMES, "cells that hold"]
    table = [f"`{command}`. {counts(found)}", "", f"| {' | '.join(head)} |", "| --- " * len(head) + "|"]
    return "\n".join([*table, *(f"| {' | '.join(part.replace('|', '/') for part in each)} |" for each in lines(found))])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=tuple(GROUPS), help="one group of faults (default all)")
    parser.add_argument("--quick", action="store_true", help="each fault under each protocol in one phase")
    parser.add_argument("--workers", type=int, default=2, help="processes (default 2)")
    parser.add_argument("--write", action="store_true", help="write the table into bench/README.md")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    if arguments.write and arguments.only:
        parser.error("--write wants every fault: leave --only out.")
    wanted = chosen() if arguments.quick else cells()
    if arguments.only:
        names = {fault.name for fault in GROUPS[arguments.only]}
        wanted = [cell for cell in wanted if cell.fault.name in names]
    found = list(rows(wanted, arguments.workers, Console(stderr=True)))
    if arguments.write:
        put(written(found, command_of("faults")), "faults", README)
    if arguments.json:
        print(json.dumps([asdict(each) for each in found]))
    else:
        shown = Table("fault", *NAMES, "cells that hold", title=f"{len(FAULTS)} faults", title_justify="left")
        for each in lines(found):
            shown.add_row(*each)
        Console(width=None if sys.stdout.isatty() else 100).print(shown, counts(found), sep="\n")
    sys.exit(1 if any(each.problems for each in found) else 0)


if __name__ == "__main__":
    main()
