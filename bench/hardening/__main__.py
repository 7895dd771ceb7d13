"""Mutated inputs over every door of the program, and strangers' files over every command: does each hold?

    python -m bench.hardening [--only GROUP] [--quick] [--workers N] [--keep FOLDER] [--write] [--json]

An input is a ledger, a file of settings or of a shaping, an exported policy, an environment, the reply of a model's
server or a command line, mutated with a fixed seed. Each is given to the commands that read such a thing, in a process
and a folder of its own. It holds where every command ends by itself with a known exit code, within 30 s, below 2 GB,
with no traceback and a few sentences at most, writes nothing outside of its folder, starts no program, contacts
nobody, and where none of 20 planted keys is printed or written. What was tried is kept, so a run that is cut short goes
on; other sources begin anew.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: a fork has no threads but its own

from rich.console import Console
from rich.progress import track
from rich.table import Table

from bench.hardening import fixtures
from bench.hardening.groups import GROUPS, inputs
from bench.hardening.inputs import Result
from bench.hardening.kept import Kept
from bench.hardening.trying import get_ready, try_one
from bench.support.readme import command_of, put

README = Path(__file__).parents[1] / "README.md"
KEEP = Path("runs/hardening")
QUICK = 4
"""Inputs of each group in a quick run."""
Place = tuple[str, int]


def chosen(made: fixtures.Fixtures, only: str | None, quick: bool) -> list[Place]:
    """The inputs to be tried, by group and number."""
    places = []
    for group in GROUPS if only is None else (only,):
        count = len(inputs(group, made))
        numbers = range(count)[:: max(count // QUICK, 1)][:QUICK] if quick else range(count)
        places += [(group, number) for number in numbers]
    return places


def results(places: Sequence[Place], made: fixtures.Fixtures, workers: int, kept: Kept) -> dict[Place, Result]:
    """What became of these inputs; those that are kept are not tried again."""
    found = {place: result for place, result in kept.results().items() if place in places}
    left = [place for place in places if place not in found]
    # Forks of this process, which has imported everything and has no threads yet.
    with ProcessPoolExecutor(workers, get_context("fork")) as pool:
        futures = {pool.submit(try_one, made, *place): place for place in left}
        done = track(as_completed(futures), "inputs", len(left), console=Console(stderr=True), transient=True)
        for future in done:
            kept.add(*futures[future], future.result())
            found[futures[future]] = future.result()
    return {place: found[place] for place in places}


def lines(found: Mapping[Place, Result]) -> Iterator[tuple[str, ...]]:
    """Of each group: how many were tried and held, the longest, the largest, and the smallest that did not hold."""
    for group in dict.fromkeys(group for group, _ in found):
        of_group = [result for (name, _), result in found.items() if name == group]
        wrong = sorted((each for each in of_group if each.problems), key=lambda each: len(each.name))
        smallest = f"{wrong[0].name}: {wrong[0].problems[0]}"[:300] if wrong else ""
        yield (
            group,
            f"{len(of_group):,}",
            f"{len(of_group) - len(wrong):,}",
            f"{max(each.seconds for each in of_group):.1f}",
            f"{max(each.megabytes for each in of_group):,.0f}",
            smallest,
        )


HEAD = ("door", "tried", "held", "longest, s", "largest, MB", "the smallest that does not hold")


def counts(found: Mapping[Place, Result]) -> str:
    """How many hold, in a sentence."""
    held = sum(not each.problems for each in found.values())
    return f"{held:,} of {len(found):,} inputs hold."


def written(found: Mapping[Place, Result], command: str) -> str:
    """The table in Markdown."""
    table = [f"`{command}`. {counts(found)}", "", f"| {' | '.join(HEAD)} |", "| --- " * len(HEAD) + "|"]
    return "\n".join([*table, *(f"| {' | '.join(each.replace('|', '/') for each in line)} |" for line in lines(found))])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=tuple(GROUPS), help="one group (default all)")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} inputs of each group")
    parser.add_argument("--workers", type=int, default=2, help="processes (default 2)")
    parser.add_argument("--keep", type=Path, default=KEEP, metavar="FOLDER", help=f"where results are kept ({KEEP})")
    parser.add_argument("--write", action="store_true", help="write the table into bench/README.md")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    if arguments.write and (arguments.only or arguments.quick):
        parser.error("--write wants every input: leave --only and --quick out.")
    with tempfile.TemporaryDirectory(prefix="hardening-") as name:
        get_ready(Path(name) / "own")
        made = fixtures.make_apart(Path(name) / "fixtures")
        places = chosen(made, arguments.only, arguments.quick)
        found = results(places, made, arguments.workers, Kept(arguments.keep))
    if arguments.write:
        put(written(found, command_of("hardening")), "hardening", README)
    if arguments.json:
        print(json.dumps([{"group": group, **asdict(result)} for (group, _), result in found.items()]))
    else:
        shown = Table(*HEAD, title="inputs", title_justify="left")
        for line in lines(found):
            shown.add_row(*line)
        Console(width=None if sys.stdout.isatty() else 100).print(shown, counts(found), sep="\n")
    sys.exit(1 if any(each.problems for each in found.values()) else 0)


if __name__ == "__main__":
    main()
