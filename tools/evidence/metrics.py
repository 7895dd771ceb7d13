"""``query_metrics``: logged metrics of the main run or of a branch, over any window."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np

from learning_signal.marl.segments.metrics import METRICS
from learning_signal.marl.segments.segment import SegmentResult
from learning_signal.tools.base import Answer, Tool, ToolRefused, rounded
from learning_signal.tools.context import SessionContext
from learning_signal.tools.contracts import QueryMetrics
from learning_signal.tools.evidence.sources import results

EVALUATION_METRICS = {
    "evaluation_sparse_return": "mean sparse return over the query episodes (unshaped evaluation)",
    "evaluation_progress": "mean progress over the query episodes (unshaped evaluation)",
}
"""The metrics that evaluation adds to those of training."""

OF_POLICIES = frozenset(
    {"entropy", "approximate_kl", "clip_fraction", "policy_loss", "value_loss", "explained_variance"}
)
"""What mappo and ippo log alone."""
OF_VALUES = frozenset({"epsilon", "td_loss", "joint_value", "replay_env_steps"})
"""What qmix and vdn log alone."""
OF_PROGRESS = frozenset({"progress", "evaluation_progress"})
"""What is logged of tasks that declare progress."""

Rows = Sequence[Mapping[str, float | None]]


def metric_tools(context: SessionContext) -> dict[str, Tool]:
    """The tool that reads metrics."""

    async def query_metrics(arguments: QueryMetrics) -> Answer:
        definitions = logged_metrics(context)
        if not arguments.names:
            return Answer(json.dumps({"metrics": definitions}))
        unknown = [name for name in arguments.names if name not in definitions]
        if unknown:
            raise ToolRefused(
                f"Found metric {unknown[0]!r}, expected some of {', '.join(definitions)}: call query_metrics with "
                "those names, or with none to read what each one means."
            )
        rows = [metric_rows(result) for result in results(context, arguments.source)]
        window = _window(rows, arguments.first_env_step, arguments.last_env_step)
        points = averaged(rows, arguments.names, window, arguments.points)
        return Answer(json.dumps({"source": arguments.source, "window": window, "points": points}))

    return {
        "query_metrics": Tool(
            "query_metrics",
            "Read logged metrics of the main run or of a branch over any window of env steps, averaged into a few "
            "points. Called without names it lists every metric with its meaning.",
            QueryMetrics,
            query_metrics,
            evidence=True,
        )
    }


def logged_metrics(context: SessionContext) -> dict[str, str]:
    """The metrics that this session's learner logs of its task, with their definitions."""
    absent = OF_POLICIES if context.settings.run.learner.learns_values else OF_VALUES
    absent = absent if context.task.progress is not None else absent | OF_PROGRESS
    return {name: words for name, words in (METRICS | EVALUATION_METRICS).items() if name not in absent}


def metric_rows(results: Sequence[SegmentResult]) -> list[dict[str, float | None]]:
    """Training metrics and query evaluations of consecutive segments, one row per position in env steps."""
    rows: dict[int, dict[str, float | None]] = {}
    for result in results:
        for update in result.updates:
            rows.setdefault(_position(update), {}).update(update)
        for evaluation in result.evaluations:
            if evaluation.set == "query":
                row = rows.setdefault(evaluation.env_steps, {"env_steps": evaluation.env_steps})
                row["evaluation_sparse_return"] = evaluation.sparse_return
                row["evaluation_progress"] = evaluation.mean_progress
    return [rows[position] for position in sorted(rows)]


def _position(row: Mapping[str, float | None]) -> int:
    """Where in the run a row was logged; every row says so."""
    position = row["env_steps"]
    if position is None:
        raise ValueError("found a row without env steps, expected its position")
    return int(position)


def averaged(
    seeds: Sequence[Rows], names: Sequence[str], window: tuple[int, int], points: int
) -> list[dict[str, float | None]]:
    """``points`` equal parts of the window; each metric is averaged over the rows (and seeds) that fall into it.

    A part no row falls into is left out; a metric without a value in a part is None there.
    """
    edges = np.linspace(window[0], window[1], points + 1)
    parts: list[dict[str, float | None]] = []
    for low, high, first in zip(edges[:-1], edges[1:], [True] + [False] * (points - 1), strict=True):
        inside = [
            row for rows in seeds for row in rows if (low < _position(row) <= high) or (first and _position(row) == low)
        ]
        if not inside:
            continue
        part: dict[str, float | None] = {"env_steps": max(_position(row) for row in inside)}
        for name in names:
            if name == "env_steps":
                continue  # the position of the part, which is there already
            values = [value for row in inside if (value := row.get(name)) is not None]
            part[name] = rounded(float(np.mean(values))) if values else None
        parts.append(part)
    return parts


def _window(seeds: Sequence[Rows], first: int | None, last: int | None) -> tuple[int, int]:
    positions = [_position(row) for rows in seeds for row in rows]
    low, high = min(positions), max(positions)
    window = (low if first is None else first, high if last is None else last)
    if not any(window[0] <= position <= window[1] for position in positions):
        raise ToolRefused(
            f"Found the window {window[0]:,} to {window[1]:,} env steps, where nothing was logged: "
            f"metrics exist from {low:,} to {high:,}."
        )
    return window
