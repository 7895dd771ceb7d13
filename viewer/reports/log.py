"""The log on a terminal: sessions, search hits, what a verification found, and what a pruning frees."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from learning_signal.ledger.questions import how_to_answer
from learning_signal.ledger.read.records import Finding, SearchHit, SessionRow
from learning_signal.ledger.wording import LEDGER, command
from learning_signal.viewer.text import (
    MISSING,
    OUTCOME_STYLES,
    agent_text,
    clean,
    count,
    duration,
    evaluation_text,
    joined,
    limit_text,
    outcome_text,
    styled,
)

if TYPE_CHECKING:  # only log verify loads it
    from learning_signal.ledger.read.checks.checked import Checked

TRAINING = "training"
"""The kind of a session that has one shaping and no agents: there is nothing to decide."""
TESTED = ("sequential", "paired")
"""The modes of the gate that test before they promote; the others are controls of a study."""


def render_sessions(rows: Sequence[SessionRow], ledger: Path = LEDGER) -> RenderableType:
    """A table of sessions, newest first, and below it which of them wait for a person's answer."""
    if not rows:
        return Text(f"The log has no session yet; start one with: {command('session')}")
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("session", "status"):
        table.add_column(name, no_wrap=True)
    table.add_column("task", overflow="fold", min_width=8)
    table.add_column("algorithm", no_wrap=True)
    for name in ("seed", "rounds"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("decisions", min_width=8)
    for name in ("env steps", "time"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            _named(row),
            outcome_text(row.status),
            styled(row.task),
            styled(row.algorithm),
            Text(str(row.seed)),
            Text(MISSING if row.kind == TRAINING else str(row.rounds)),
            Text("training", "dim") if row.kind == TRAINING else decisions_text(row),
            Text(_env_steps(row)),
            Text(_short_duration(row.wall_seconds)),
        )
    return Group(table, *(_asks(row.asks, ledger) for row in rows if row.asks))


def _asks(question: str, ledger: Path) -> Text:
    return Text(f"{clean(question)} waits for an answer: {how_to_answer(question, ledger)}", "bold yellow")


def _named(row: SessionRow) -> Text:
    """The id of a session and, where it has stopped, below it the seal of what it wrote."""
    name = styled(row.id, "bold")
    if row.recovered:
        return Text.assemble(name, ("\nrecovered, unsealed", "yellow"))
    return name if row.seal is None or row.status == "running" else Text.assemble(name, (f"\n{clean(row.seal)}", "dim"))


def _env_steps(row: SessionRow) -> str:
    """Env steps of training, of main run and branches; under a budget all of them, and below it the limit."""
    if "env_steps" not in row.budget:
        return count(row.env_steps_main + row.env_steps_branches)
    spent = row.env_steps_main + row.env_steps_branches + row.env_steps_twin
    return f"{count(spent)}\nof {count(int(row.budget['env_steps']))}"


def decisions_text(row: SessionRow) -> Text:
    """How many changes were promoted, kept out and rolled back (what is 0 is left out), and whether untested."""
    counts = ((row.promoted, "promoted"), (row.kept, "kept"), (row.rolled_back, "rolled back"))
    words = [Text(f"{each} {word}", OUTCOME_STYLES[word]) for each, word in counts if each]
    return joined([*words, *_ungated(row)], ", ")


def _ungated(row: SessionRow) -> list[Text]:
    """A word where promotions were not tested, so that they are not read as validated."""
    return [Text("ungated", "yellow")] if row.gate_mode not in (None, *TESTED) else []


def session_line(row: SessionRow) -> Text:
    """A session in one line."""
    trained = row.env_steps_main + row.env_steps_branches + row.env_steps_twin
    line = joined(
        [
            Text(clean(row.id), "bold"),
            outcome_text(row.status),
            styled(row.task),
            styled(row.algorithm),
            Text(f"seed {row.seed}"),
            Text(
                "training, no agents"
                if row.kind == TRAINING
                else f"{row.promoted} promoted, {row.kept} kept, {row.rolled_back} rolled back"
            ),
            *_ungated(row),
            Text(f"{count(trained)} env steps of training, {evaluation_text(row.evaluation_env_steps)}"),
            Text(duration(row.wall_seconds)),
            *(Text(f"budget {limit_text(name, limit)}") for name, limit in row.budget.items()),
        ],
        " · ",
    )
    return Text("\n").join([line, styled(row.stop_reason, "yellow")]) if row.stop_reason else line


def render_hits(wanted: str, hits: Sequence[SearchHit]) -> Group:
    """Search hits: where, and the text around the words."""
    if not hits:
        return Group(Text(f"Nothing in the log contains {clean(wanted)!r}."))
    parts: list[RenderableType] = []
    for hit in hits:
        event = hit.event
        where = joined(
            [
                Text(clean(event.session_id), "bold"),
                Text(f"#{event.seq}", "dim"),
                Text(f"R{event.round}" if event.round else "", "dim"),
                agent_text(event.agent),
                styled(event.kind.replace("_", " "), "dim"),
                styled(hit.place, "dim"),
            ]
        )
        snippet = styled(hit.snippet)
        snippet.highlight_regex(r"«[^»]*»", "bold yellow")
        parts += [where, Padding(snippet, (0, 0, 0, 4), expand=False)]
    return Group(*parts)


def render_findings(
    ledger: Path, findings: Sequence[Finding], notices: Sequence[Finding], checked: Checked, belongs: Sequence[str] = ()
) -> Group:
    """The findings of a verification, where none means that everything agrees; what was checked, and its notices.

    ``belongs`` says what a seal or a policy that was given belongs to.
    """
    lines = [Text(f"{clean(str(ledger))}: everything that was checked agrees.", "green")]
    if findings:
        lines = [Text(f"{clean(str(ledger))}: {len(findings)} finding{'s' if len(findings) > 1 else ''}", "bold red")]
        lines += _finding_lines(findings)
    lines += [Text(clean(each), "green") for each in belongs]
    counted = ", ".join(f"{name} {number:,}" for name, number in checked.counts.items())
    lines.append(Text(f"Checked, of each: {counted}."))
    lines += [Text(f"Not checked: {clean(each)}", "yellow") for each in checked.unchecked]
    if notices:
        claims = "1 claim of an agent is" if len(notices) == 1 else f"{len(notices)} claims of agents are"
        lines.append(Text(f"Notice: {claims} not supported by the record; they are words, not damage.", "yellow"))
        lines += _finding_lines(notices)
    return Group(*lines)


def _finding_lines(findings: Sequence[Finding]) -> list[Text]:
    return [
        Text.assemble("- ", (f"{clean(each.table)} {clean(each.row)}", "bold"), f": {clean(each.problem)}")
        for each in findings
    ]


def _short_duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def render_pruning(plans: Sequence[Any], removed: bool) -> RenderableType:
    """A line for each session that has something to lose; plans are ``tools.training.pruning.Prunable``."""
    some = [each for each in plans if each.segments]
    if not some:
        return Text("No checkpoint can go: finished sessions keep what they ended on, and others everything.")
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("session", no_wrap=True)
    for name in ("segments", "kept", "size"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("store", overflow="fold")
    for each in some:
        table.add_row(
            styled(each.session, "bold"),
            count(len(each.segments)),
            count(each.kept),
            size_text(each.bytes),
            clean(str(each.store)),
        )
    total = size_text(sum(each.bytes for each in some))
    words = f"{total} freed." if removed else f"{total} would be freed: --yes removes them."
    return Group(table, Text(words, "green" if removed else "yellow"))


def size_text(size: int) -> str:
    """Bytes as ``4.1 MB``."""
    for factor, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} bytes"
