"""The final report of a session: what changed and why, the gain, the cost, and where the files are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from learning_signal.ledger.wording import cut_off_text
from learning_signal.viewer.forecasts import record_lines
from learning_signal.viewer.reports.next_steps import command_table
from learning_signal.viewer.text import (
    MISSING,
    clean,
    count,
    duration,
    limit_text,
    number,
    outcome_text,
    shorten,
    styled,
)

MEASURES = ("sparse_return", "progress")
ONE_LINE = 62
"""Characters of a line beside round, candidate and fate."""


def render_report(outcome: Mapping[str, Any], next_commands: Sequence[tuple[str, str]]) -> Group:
    """The report on ``outcome`` (the plain data of a session's outcome) for a terminal of 100 columns.

    ``next_commands`` are pairs of what a command shows and the command.
    """
    parts: list[RenderableType] = [Text(), _headline(outcome), Text()]
    changes = [("promoted", each) for each in outcome.get("promoted") or ()]
    changes += [("rejected", each) for each in outcome.get("rejected") or ()]
    if changes:
        parts += [_changes(changes), Text()]
    else:
        parts += [Text("No change was promoted or rejected."), Text()]
    parts += _troubles(outcome)
    costs = _costs(outcome.get("costs") or {}, outcome.get("budget") or {})
    forecasts = record_lines(outcome.get("forecasts") or ())
    parts += [_results(outcome), *_measured_on(outcome), Text(), costs, *forecasts, Text(), _places(outcome)]
    if next_commands:
        parts += [Text(), Text("What to type next", "bold"), command_table(next_commands)]
    return Group(*parts)


def _headline(outcome: Mapping[str, Any]) -> Text:
    line = Text.assemble(("Session ", "bold"), styled(outcome.get("session_id"), "bold"), " ")
    line.append_text(outcome_text(outcome.get("status")))
    if outcome.get("stop_reason"):
        line.append(f": {clean(outcome['stop_reason'])}")
    return line


def _changes(changes: list[tuple[str, Mapping[str, Any]]]) -> Table:
    table = Table.grid(padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(ratio=1)
    for fate, change in changes:
        # What was promoted is shown whole; of the rest, a line of what it was and why not.
        whole = fate == "promoted"
        words = Text(shorten(change.get("shaping_text") or MISSING, 240 if whole else ONE_LINE))
        why = change.get("reason")
        if why:
            words.append(f"\n{shorten(why, 300 if whole else 2 * ONE_LINE)}", "dim")
        outcome = change.get("outcome")
        label = outcome_text(fate)
        if outcome and outcome not in ("pass", "passed", fate):
            label = Text.assemble(label, " (", outcome_text(outcome), ")")
        table.add_row(f"round {change.get('round', MISSING)}", styled(change.get("candidate")), label, words)
    return table


def _troubles(outcome: Mapping[str, Any]) -> list[RenderableType]:
    """What went wrong with agents, and whose backend never worked."""
    lines = [
        Text(f"round {each.get('round', MISSING)}: {clean(each.get('text') or MISSING)}", "red")
        for each in outcome.get("troubles") or ()
    ]
    lines += [
        Text(f"{clean(each['backend'])} never had a submission of the {clean(each['role'])} accepted.", "red")
        for each in outcome.get("never_worked") or ()
    ]
    return [Text("What went wrong with agents", "bold"), *lines, Text()] if lines else []


def _results(outcome: Mapping[str, Any]) -> Table:
    before, after, twin = outcome.get("before") or {}, outcome.get("after") or {}, outcome.get("twin")
    columns = [("at the first deliberation", before), ("at the end", after)]
    if twin:
        columns.append(("sparse twin (no shaping)", twin))
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("HEAD")
    for title, _ in columns:
        table.add_column(title, justify="right")
    for measure in MEASURES:
        table.add_row(
            Text(measure.replace("_", " "), "bold"), *(Text(number(each.get(measure))) for _, each in columns)
        )
    for key, label in (
        ("env_steps", "env steps"),
        ("total_env_steps", "total env steps of training"),
        ("evaluation_env_steps", "env steps of evaluation"),
        ("episodes", "episodes"),
    ):
        if any(each.get(key) is not None for _, each in columns):
            table.add_row(styled(label, "dim"), *(Text(count(each.get(key)), "dim") for _, each in columns))
    return table


def _measured_on(outcome: Mapping[str, Any]) -> list[Text]:
    """A line where a column is not measured on the report episodes."""
    measured = [outcome.get(name) or {} for name in ("before", "after", "twin")]
    if all(each.get("episode_set", "report") == "report" for each in measured):
        return []
    return [Text("Measured on the confirm episodes where an earlier version trained it: it had no report set.", "dim")]


def _costs(costs: Mapping[str, Any], budget: Mapping[str, Mapping[str, float]]) -> Group:
    time = Text.assemble(("Time: ", "bold"), duration(costs.get("wall_seconds")))
    if costs.get("compute_seconds") is not None:
        time.append(f" ({duration(costs['compute_seconds'])} of computing)")
    tokens_in: Any = costs.get("tokens_in") or {}
    tokens_out: Any = costs.get("tokens_out") or {}
    lines = [_env_steps(costs), *_cut_off(costs), time]
    if isinstance(tokens_in, Mapping) and isinstance(tokens_out, Mapping):
        agents = list(dict.fromkeys([*tokens_in, *tokens_out]))
        shares = [f"{clean(each)} {count(tokens_in.get(each))} + {count(tokens_out.get(each))}" for each in agents]
    else:
        shares = [f"{count(tokens_in)} + {count(tokens_out)}"]
    if shares:
        calls = f" in {count(costs['llm_calls'])} model calls" if costs.get("llm_calls") is not None else ""
        usd = costs.get("cost_usd", 0.0)
        price = ", price ?" if usd is None else f", {limit_text('usd', usd)}" if usd else ""
        lines.append(Text.assemble(("Tokens (in + out): ", "bold"), ", ".join(shares) + calls + price))
    return Group(*lines, *_budget(budget))


def _env_steps(costs: Mapping[str, Any]) -> Text:
    """Env steps of training and of evaluation, by what they were for."""
    parts = []
    for kind, name in (("main", "main run"), ("branches", "branches"), ("twin", "sparse twin"), ("reused", "reused")):
        trained = costs.get(f"env_steps_{kind}")
        if trained or kind in ("main", "branches"):
            parts.append(f"{name} {count(trained)} + {count(costs.get(f'evaluation_{kind}'))}")
    line = Text.assemble(("Env steps (training + evaluation): ", "bold"), ", ".join(parts))
    unknown = costs.get("evaluation_unknown")
    segments = f"{unknown} segment{'s' if unknown and unknown > 1 else ''}"
    return line.append(f"; the evaluation of {segments} is unknown") if unknown else line


def _cut_off(costs: Mapping[str, Any]) -> list[Text]:
    """What was trained in vain, where anything was cut off."""
    known, unknown = costs.get("cut_off"), costs.get("cut_off_unknown")
    return [Text(cut_off_text(known or 0, unknown or 0).capitalize())] if known or unknown else []


def _budget(budget: Mapping[str, Mapping[str, float]]) -> list[Text]:
    """The part of each limit that is spent."""
    shares = [
        f"{limit_text(name, each['spent'])} of {limit_text(name, each['limit'])}"
        + (" (training; evaluation is not limited)" if name == "env_steps" else "")
        for name, each in budget.items()
    ]
    return [Text.assemble(("Budget: ", "bold"), ", ".join(shares))] if shares else []


def _places(outcome: Mapping[str, Any]) -> Table:
    table = Table.grid(padding=(0, 2))
    for label, key in (
        ("Policy", "final_policy"),
        ("Shaping (TOML)", "final_shaping"),
        ("Log", "ledger"),
        ("Seal", "seal"),
    ):
        value = outcome.get(key)
        table.add_row(Text(label, "bold"), styled(None if value is None else str(value)))
    return table
