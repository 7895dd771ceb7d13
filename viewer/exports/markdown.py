"""The report of a session in Markdown, for an issue, a pull request or a notebook."""

from __future__ import annotations

from dataclasses import asdict

from learning_signal.ledger.read.decision.explain import explain_all
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.read.records import EventRow
from learning_signal.ledger.read.tables.curve import session_curve
from learning_signal.viewer.exports.markup import cell, escaped, markdown, rows
from learning_signal.viewer.reports.explain import render_decision
from learning_signal.viewer.reports.log import session_line
from learning_signal.viewer.text import count, number
from learning_signal.viewer.transcript.values import readable


def session_markdown(reader: Reader, session: str = "latest") -> str:
    """The report as one text: overview, every decision as ``explain`` has it, costs, configuration, and the events."""
    row = reader.session(session)
    decisions = explain_all(reader, row.id)
    parts = [f"# Session {escaped(row.id)}", markdown(session_line(row)), *_overview(reader, row.id)]
    parts.append("## Decisions" if decisions else "Nothing was decided.")
    for chain in decisions:
        decision = chain.decision
        parts.append(f"### Round {decision.round}: {escaped(decision.action.replace('_', ' '))}")
        parts.append(markdown(render_decision(chain)))
    parts += ["## Costs", markdown(readable(asdict(reader.costs(row.id))))]
    parts += ["## Configuration", markdown(readable(reader.config(row.id)))]
    parts += ["## Events", *_folded(_events(reader.events(row.id)))]
    return "\n\n".join(part for part in parts if part) + "\n"


def _overview(reader: Reader, session: str) -> list[str]:
    """The curve where stages of the main run ended, and who the agents were."""
    values = {measure: session_curve(reader, session, measure) for measure in ("sparse_return", "progress")}
    by_steps: dict[float, dict[str, float]] = {}
    for measure, curve in values.items():
        for steps, value in curve.stages:
            by_steps.setdefault(steps, {})[measure] = value
    lines = [
        [count(round(steps)), number(found.get("sparse_return")), number(found.get("progress"))]
        for steps, found in sorted(by_steps.items())
    ]
    agents = [[cell(each.role), cell(each.spec), cell(each.source)] for each in reader.agents(session)]
    stages = rows(["total env steps", "sparse return", "progress"], lines, frozenset({0, 1, 2}))
    return [
        "The ends of the stages of the main run, over env steps of training with branches:" if lines else "",
        stages if lines else "Nothing was evaluated yet.",
        rows(["agent", "backend", "from"], agents) if agents else "",
    ]


def _events(events: list[EventRow]) -> str:
    lines = [
        [
            str(each.seq),
            cell(each.started_at[11:19]),
            "" if each.round is None else str(each.round),
            cell(each.agent or "session"),
            cell(each.kind.replace("_", " ")),
            cell(each.status),
            cell(each.title),
        ]
        for each in events
    ]
    return rows(["event", "time", "round", "who", "kind", "status", "what"], lines, frozenset({0, 2}))


def _folded(table: str) -> list[str]:
    """A long table behind a line that opens it, where the page can."""
    return ["<details><summary>every event in a line</summary>", table, "</details>"]
