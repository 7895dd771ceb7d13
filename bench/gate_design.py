"""Which design of a confirmation buys the most power for its env steps: simulated, and on the branches of real trials.

    python -m bench.gate_design [--runs 20000] [--correlation 0] [--store FOLDER] [--episodes N]
        [--write] [--quick] [--json]

*Simulated*: normal values; the candidate is better by an effect in standard deviations of one arm. Size is exact, power
and branches (in brackets, both arms together) are means over the runs. The last columns divide power by branches: all
branches take the same env steps. ``--correlation`` is that of the two arms of a pair; unpaired arms share no seed.
Every design passes by order alone (a real decision also asks for more than delta).

*Real*: the same decisions on branches that ``bench.gate`` has stored, drawn without replacement in each run, by the
gate's order of them; nothing is trained. *Nothing differs* draws both arms from the control's and its clones' branches.
How alike two arms with one seed are is measured on the screens of the same trials.

*Episodes*: what the same precision of an arm's mean costs in env steps, trained and played, where a branch plays this
share of those it trains; 1 is the cheapest share of the row, episodes of a branch are in brackets. From the variances
between the same branches and between their episodes. Where seeds differ least, a confirmation is simulated as well.

*Where nothing differs*: how often a confirmation passes if all branches of an arm play one set of held-out episodes, or
each its own; and a whole default session.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from pathlib import Path
from statistics import fmean

import numpy as np
from rich.console import Console
from rich.table import Table

from bench.support import promises
from bench.support.cases import CASES
from bench.support.designs import Entry, entries
from bench.support.episodes import scatter, tables
from bench.support.promises import episodes_shared_or_own
from bench.support.readme import command_of, put
from bench.support.stored_trials import Stored, correlation, stored, values
from learning_signal.marl.segments.segment import SegmentStore

README = Path(__file__).with_name("README.md")
EFFECTS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)
PER_BRANCH = (1.0, 1.5, 2.0)
"""Effects at which power is divided by branches."""


@dataclass(frozen=True)
class Simulated:
    """A design on drawn values, by effect."""

    name: str
    size: float
    power: tuple[float, ...]
    branches: tuple[float, ...]


@dataclass(frozen=True)
class Real:
    """A design on stored branches; None where there are too few for it."""

    task: str
    scenario: str
    name: str
    passed: float | None
    branches: float | None


def simulate(designs: Sequence[Entry], runs: int, rho: float, seed: int = 0) -> list[Simulated]:
    """Every design on the same draws."""
    rng, most = np.random.default_rng(seed), max(each.most for each in designs)
    found: dict[str, list[tuple[float, float]]] = {each.name: [] for each in designs}
    for effect in EFFECTS:
        control, own = rng.standard_normal((2, runs, most))
        for each in designs:
            share = rho if each.name.startswith("paired") else 0.0
            candidate = effect + share * control + np.sqrt(1 - share**2) * own
            passed, branches = each.decide(control[:, : each.most], candidate[:, : each.most])
            found[each.name].append((float(passed.mean()), float(branches.mean())))
    return [
        Simulated(each.name, each.size, *(tuple(column) for column in zip(*found[each.name], strict=True)))
        for each in designs
    ]


def resample(task: str, parents: Sequence[Stored], designs: Sequence[Entry], runs: int, seed: int = 0) -> list[Real]:
    """Every design on the same draws of stored branches: the mean over the parents that have enough of them."""
    rng, rows = np.random.default_rng(seed), []
    for scenario in ("nothing differs", "good shaping"):
        drawn = []
        for each in parents:
            placed = values({"control": each.control, "good": each.good}, each.order)
            if scenario == "good shaping":
                drawn.append([_draw(rng, placed[name], runs) for name in ("control", "good")])
            else:
                both = _draw(rng, placed["control"], runs)
                drawn.append(np.split(both[:, : both.shape[1] // 2 * 2], 2, axis=1))
        for design in designs:
            enough = [arms for arms in drawn if min(arm.shape[1] for arm in arms) >= design.most]
            if not enough:
                rows.append(Real(task, scenario, design.name, None, None))
                continue
            decided = [design.decide(*(arm[:, : design.most] for arm in arms)) for arms in enough]
            passed, branches = (fmean(float(part.mean()) for part in parts) for parts in zip(*decided, strict=True))
            rows.append(Real(task, scenario, design.name, passed, branches))
    return rows


def _draw(rng: np.random.Generator, pool: np.ndarray, runs: int) -> np.ndarray:
    """``[runs, n]``: the whole pool in another order each time."""
    return rng.permuted(np.broadcast_to(pool, (runs, len(pool))), axis=1)


HEADER = (
    "design",
    "size",
    *(f"{effect:g} sd" for effect in EFFECTS),
    *(f"per branch, {effect:g} sd" for effect in PER_BRANCH),
)


def cells(row: Simulated) -> list[str]:
    """A row of the simulated table, in words."""
    shares = [row.power[EFFECTS.index(effect)] / row.branches[EFFECTS.index(effect)] for effect in PER_BRANCH]
    return [
        row.name,
        f"{row.size:.4f}",
        *(f"{power:.2f} [{branches:.1f}]" for power, branches in zip(row.power, row.branches, strict=True)),
        *(f"{share:.3f}" for share in shares),
    ]


def real_cells(rows: Sequence[Real]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the table on stored branches: a column per task and scenario."""
    columns = list(dict.fromkeys((row.task, row.scenario) for row in rows))
    found = {(row.name, row.task, row.scenario): row for row in rows}
    body = []
    for name in dict.fromkeys(row.name for row in rows):
        line = [name]
        for column in columns:
            row = found[(name, *column)]
            line.append("-" if row.passed is None else f"{row.passed:.3f} [{row.branches:.1f}]")
        body.append(line)
    return ["design", *(f"{task}: {scenario}" for task, scenario in columns)], body


def likeness(task: str, parents: Sequence[Stored]) -> str:
    """How alike arms with one seed are, and how many branches there are, in words."""
    r, (low, high), pairs = correlation(parents)
    control, good = (sum(len(getattr(each, arm)) for each in parents) for arm in ("control", "good"))
    alike = f"{r:.2f} [{low:.2f}, {high:.2f}] over {pairs} pairs" if r == r else f"unknown ({pairs} pairs)"
    return f"{task}: {control} control branches, {good} good ones; correlation of arms with one seed {alike}."


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=20_000, help="simulated confirmations (default 20,000)")
    parser.add_argument("--correlation", type=float, default=0.0, help="of the two arms of a pair (default 0)")
    parser.add_argument("--store", type=Path, default=Path("runs/gate"), help="where bench.gate keeps its branches")
    parser.add_argument("--episodes", type=int, help="of each stored branch only the first so many")
    parser.add_argument("--write", action="store_true", help="write the tables into bench/README.md")
    parser.add_argument("--quick", action="store_true", help="200 runs, of designs with at most 5 looks")
    parser.add_argument("--json", action="store_true", help="print a JSON object")
    arguments = parser.parse_args()
    if arguments.quick and arguments.write:
        parser.error("--quick measures nothing worth writing: leave --write or --quick out.")
    if arguments.episodes is not None and arguments.episodes < 2:
        parser.error(f"Found --episodes {arguments.episodes}, expected at least 2: raise it or leave it out.")
    if arguments.runs < 1 or not 0 <= arguments.correlation < 1:
        parser.error(
            f"Found --runs {arguments.runs} and --correlation {arguments.correlation:g}, expected at least 1 run and a "
            "correlation from 0 to below 1: change it."
        )
    designs, runs = entries(), arguments.runs
    if arguments.quick:
        designs, runs = entries((5,), (Fraction(3, 4),)), min(runs, 200)
    simulated = simulate(designs, runs, arguments.correlation)
    branches = SegmentStore(arguments.store)
    kept = {case.task: stored(case, branches, arguments.episodes) for case in CASES.values()}
    kept = {task: parents for task, parents in kept.items() if parents}
    known = [each for each in designs if not each.variant]
    real = [row for task, parents in kept.items() for row in resample(task, parents, known, runs)]
    of_episodes = tables([row for task, parents in kept.items() for row in scatter(CASES[task], parents)], runs)
    notes = [likeness(task, parents) for task, parents in kept.items()]
    promised = promises.in_words()
    shared = ("passes at level 0.05 where nothing differs", list(promises.HEADER), episodes_shared_or_own(runs))
    if not kept:
        notes = [
            "Found no trial in the folder of --store: run python -m bench.gate first for the table on real branches."
        ]
    if arguments.json:
        print(json.dumps({"simulated": [vars(row) for row in simulated], "real": [vars(row) for row in real]}))
        return
    if arguments.write:
        command = command_of("gate_design")
        lines = [f"`{command}`, {date.today().isoformat()}.", "", *markdown(HEADER, [cells(row) for row in simulated])]
        lines += ["", *[line for note in notes for line in (note, "")]]
        lines += markdown(*real_cells(real)) if real else []
        put("\n".join(lines), "gate_design", README)
        title, header, rows = shared
        put("\n".join([f"`{command}`: {title}.", "", *markdown(header, rows), "", promised]), "promises", README)
        if of_episodes:
            parts = [[f"{title}:", "", *markdown(header, rows), ""] for title, header, rows in of_episodes]
            put("\n".join([f"`{command}`.", "", *sum(parts, [])]), "episodes", README)
    out = Console(width=None if sys.stdout.isatty() else 100)
    found, power = [cells(row) for row in simulated], 2 + len(EFFECTS)
    for title, header, rows in (
        ("simulated: power, and expected branches in brackets", list(HEADER[:power]), [row[:power] for row in found]),
        ("simulated: power per branch", [HEADER[0], *HEADER[power:]], [[row[0], *row[power:]] for row in found]),
        ("on stored branches", *(real_cells(real) if real else ([], []))),
        shared,
        *of_episodes,
    ):
        if rows:
            shown = Table(title=title, title_justify="left", box=None)
            for name in header:
                shown.add_column(name, overflow="fold")
            for row in rows:
                shown.add_row(*row)
            out.print(shown)
    for note in (promised, *notes):
        out.print(note)


if __name__ == "__main__":
    main()
