"""The gate's error rate in words: rows of counted decisions, and the tables and JSON made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import date

from rich.table import Table

from bench.support.gate_rows import Report, Row
from learning_signal.ledger.wording import shaping_text

HEADER = (
    "scenario: promoted",
    "rule",
    "trials",
    "rate [95 %]",
    "target",
    "env steps",
    "evaluation steps",
    "core s",
    "wall s",
)


def cells(row: Row, workers: int) -> list[str]:
    """A row of the table, in words."""
    low, high = row.interval
    met = "" if row.met is None else ": met" if row.met else ": missed"
    return [
        row.scenario,
        row.rule,
        f"{row.count} of {row.trials}",
        f"{row.rate:.1%} [{low:.1%}, {high:.1%}]",
        row.target + met,
        f"{row.env_steps / 1000:,.0f} k",
        f"{row.evaluation_steps / 1000:,.0f} k",
        f"{row.seconds:.1f}",
        f"{row.seconds / workers:.1f}",
    ]


def caption(found: Report) -> str:
    """Where the trials were, and what was offered."""
    case = found.case
    good, bad = (shaping_text(each.canonical()) for each in (case.good, case.bad))
    offered = ", ".join(parent.name for parent in case.parents[: case.offered])
    lines = [
        f"{case.task}: branches of {case.branch_steps:,} env steps; good is {good}; bad is {bad}; "
        f"offered at: {offered}."
    ]
    for parent in found.parents:
        if parent["trials"]:
            reached = parent["sparse_return"], parent["progress"]
            sparse, progress = ("-" if value is None else f"{value:.3f}" for value in reached)
            lines.append(
                f"Parent {parent['parent']} ({parent['env_steps']:,} env steps, {parent['shaping']}): branches reach a "
                f"sparse return of {sparse} and progress {progress}; judged on "
                f"{' or '.join(parent['judged_on'])}; null trials promoted {parent['promoted']} of {parent['trials']}."
            )
    if found.screens:
        lines.append(
            "Screens sent on: " + ", ".join(f"{name} ({count})" for name, count in found.screens.items()) + "."
        )
    return "\n".join(lines)


def table(found: Report, workers: int) -> Table:
    """The table on a terminal."""
    shown = Table(
        title=f"the gate on {found.case.task}",
        title_justify="left",
        box=None,
        caption=caption(found),
        caption_justify="left",
    )
    for name in HEADER:
        shown.add_column(name, overflow="fold")
    for row in found.rows:
        shown.add_row(*cells(row, workers), style="" if row.rule.startswith("this gate") else "dim")
    return shown


def written(reports: Sequence[Report], workers: int, command: str) -> str:
    """The tables in Markdown."""
    lines = [f"`{command}`, {date.today().isoformat()}, {workers} workers."]
    for found in reports:
        lines += [
            "",
            caption(found).replace("\n", "\n\n"),
            "",
            "| " + " | ".join(HEADER) + " |",
            "| " + " | ".join(["---"] * len(HEADER)) + " |",
            *("| " + " | ".join(cells(row, workers)) + " |" for row in found.rows),
        ]
    return "\n".join(lines)


def plain(found: Report, workers: int) -> dict:
    """A report as JSON data."""
    rows = [
        {**asdict(row), "rate": row.rate, "interval": row.interval, "wall_seconds": row.seconds / workers}
        for row in found.rows
    ]
    case = found.case
    return {
        "task": case.task,
        "branch_steps": case.branch_steps,
        "good": shaping_text(case.good.canonical()),
        "bad": shaping_text(case.bad.canonical()),
        "null_outcomes": found.null_outcomes,
        "screens": found.screens,
        "parents": found.parents,
        "rows": rows,
    }
