"""The final report of a study: the table of its arms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from learning_signal.viewer.text import MISSING, clean, count, number, styled


def render_study(report: Mapping[str, Any], files: Sequence[str]) -> Group:
    """The report on a study (plain data) for a terminal of 100 columns; ``files`` are what was written."""
    parts: list[RenderableType] = [Text()]
    seeds, level = report["seeds"], report["level"]
    for group in report["groups"]:
        heading = Text.assemble((clean(group["title"]), "bold"), f"  {group['unit']} on the report episodes")
        parts += [heading, _table(group), _evaluation(group)]
        if len(report["groups"]) == 1 or group is not report["groups"][-1]:  # the last is of all tasks together
            parts += [
                Text.assemble("  ", (clean(row["arm"]), "bold"), f" has no number: {clean(reason)}")
                for row in group["rows"]
                for reason in row["failures"]
            ]
        parts.append(Text())
    parts.append(
        Text(
            f"n = {len(seeds)} seed{'s' if len(seeds) > 1 else ''} ({_seeds(seeds)}), "
            f"{count(report['env_steps'])} env steps of training for every run, branches included, in whole rollouts. "
            f"mean: Student-t {level:.0%} interval; IQM (interquartile mean) and "
            f"P(> {report['baseline']}), the probability that a run is above one of that arm: stratified bootstrap. "
            f"No interval from fewer than 2 seeds; intervals of few seeds are wide and bootstrap ones too narrow. "
            "time: of one worker, all runs together. (-1): one of the promotions was rolled back. Report episodes are "
            "held out: no gate, probation or choice of the best of several uses them.",
            "dim",
        )
    )
    parts += [Text(each, "dim") for each in files]
    if any(cell["outcome"] == "stopped" for cell in report["cells"]):
        parts += [Text(), Text("Not finished: the same command resumes it.", "bold yellow")]
    return Group(*parts)


def _table(group: Mapping[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 1, 0, 0))
    table.add_column("arm", style="bold", no_wrap=True)
    for name in ("n", "mean", "IQM", "P(> twin)", "env steps", "promoted", "time"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in group["rows"]:
        promoted = MISSING if row["promotions"] is None else str(row["promotions"])
        if row["rollbacks"]:
            promoted += f" (-{row['rollbacks']})"
        table.add_row(
            styled(row["arm"]),
            str(row["n"]),
            _with_interval(row["mean"], row["interval"]),
            _with_interval(row["iqm"], row["iqm_interval"]),
            _with_interval(row["better"], row["better_interval"], 2),
            MISSING if row["env_steps"] is None else f"{row['env_steps'] / 1e6:.2f} M",
            promoted,
            MISSING if row["compute_seconds"] is None else f"{row['compute_seconds'] / 60:.0f} min",
        )
    return table


def _evaluation(group: Mapping[str, Any]) -> Text:
    """What each arm's evaluations played beside its training."""
    played = [
        f"{clean(row['arm'])} {row['evaluation_env_steps'] / 1e6:.2f} M"
        for row in group["rows"]
        if row["evaluation_env_steps"] is not None
    ]
    return Text(f"Env steps of evaluation beside those of training, per run: {', '.join(played) or MISSING}.", "dim")


def _with_interval(value: float | None, interval: Sequence[float] | None, digits: int = 3) -> str:
    shown = number(value, digits)
    return shown if interval is None else f"{shown} [{number(interval[0], digits)}, {number(interval[1], digits)}]"


def _seeds(seeds: Sequence[int]) -> str:
    return str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
