"""``query_metrics``: logged metrics of the main run or of a branch, over any window."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from learning_signal.marl.behaviour.by_agent import defined
from learning_signal.marl.segments.metrics import METRICS
from learning_signal.marl.segments.segment import SegmentResult
from learning_signal.tools.base import Answer, Tool, ToolRefused, compact
from learning_signal.tools.context import SessionContext
from learning_signal.tools.contracts import QueryMetrics
from learning_signal.tools.evidence.by_agent import agent_rows, columns, grouped
from learning_signal.tools.evidence.sources import play_query, results

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

USUAL = (
    "sparse_return",
    "progress",
    "evaluation_sparse_return",
    "evaluation_progress",
    "entropy",
    "approximate_kl",
    "explained_variance",
    "clip_fraction",
)
"""What a Critic reads in any case, of what is logged."""

Rows = Sequence[Mapping[str, float | None]]


def metric_tools(context: SessionContext) -> dict[str, Tool]:
    """The tool that reads metrics."""

    async def query_metrics(arguments: QueryMetrics) -> Answer:
        own = defined(context.task) if context.settings.deliberation.behaviour else {}
        definitions = own if arguments.by_agent else logged_metrics(context)
        if not definitions:
            raise ToolRefused("Found by_agent in a session without evidence of behaviour, expected it left out.")
        seeds = results(context, arguments.source)
        if not arguments.names:
            return Answer(compact({"metrics": definitions}))
        names = [name for name in dict.fromkeys(arguments.names) if name in definitions]
        unknown = {name: _instead(name, definitions, own) for name in arguments.names if name not in definitions}
        if not names:
            hints = "; ".join(f"{name!r}: {instead}" for name, instead in unknown.items())
            raise ToolRefused(f"Found no metric that is logged ({hints}), expected some of {', '.join(definitions)}.")
        if arguments.source != "main" and (arguments.by_agent or EVALUATION_METRICS.keys() & set(names)):
            await play_query(context, [chain[-1].id for chain in seeds])
            seeds = results(context, arguments.source)
        rows = [agent_rows(context, each) if arguments.by_agent else metric_rows(each) for each in seeds]
        window = _window(rows, arguments.first_env_step, arguments.last_env_step)
        told: dict[str, Any] = {"source": arguments.source, "window": window}
        read = columns(context, names) if arguments.by_agent else names
        points = curves(rows, read, window, arguments.points, by_seed=arguments.by_seed)
        told["points"] = grouped(context, points, names) if arguments.by_agent else points
        return Answer(compact(told | ({"unknown": unknown} if unknown else {})))

    return {
        "query_metrics": Tool(
            "query_metrics",
            "Logged metrics over a window of env steps, averaged into points. Without names: what each means.",
            QueryMetrics,
            query_metrics,
            evidence=True,
            patient=True,
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


def curves(
    seeds: Sequence[Rows], names: Sequence[str], window: tuple[int, int], points: int, *, by_seed: bool = False
) -> dict[str, list[Any]]:
    """``env_steps`` and each metric as one list, over ``points`` equal parts of the window.

    A metric is averaged over the rows (and seeds) that fall into a part, and None where it has no value there; a part
    no row falls into is left out. With ``by_seed`` and several seeds, a metric is one such list for each seed.
    """
    parts = [part for part in _parts(seeds, window, points) if any(part)]
    found: dict[str, list[Any]] = {
        "env_steps": [max(_position(row) for rows in part for row in rows) for part in parts]
    }
    for name in names:
        if name == "env_steps":
            continue  # the positions of the parts, which are there already
        if by_seed and len(seeds) > 1:
            found[name] = [[_mean(part[seed], name) for part in parts] for seed in range(len(seeds))]
        else:
            found[name] = [_mean([row for rows in part for row in rows], name) for part in parts]
    return found


def _parts(seeds: Sequence[Rows], window: tuple[int, int], points: int) -> list[list[Rows]]:
    """The rows of each seed in each of ``points`` equal parts of the window; the first includes its beginning."""
    edges = np.linspace(window[0], window[1], points + 1)
    return [
        [[row for row in rows if low < _position(row) <= high or (first and _position(row) == low)] for rows in seeds]
        for low, high, first in zip(edges[:-1], edges[1:], [True] + [False] * (points - 1), strict=True)
    ]


def _mean(rows: Rows, name: str) -> float | None:
    """The mean of a metric over rows, to three significant digits; None where no row has a value."""
    values = [value for row in rows if (value := row.get(name)) is not None]
    return float(f"{np.mean(values):.3g}") if values else None


def _instead(name: str, definitions: Mapping[str, str], of_agents: Mapping[str, str]) -> str:
    """What to read in place of a metric that is not among ``definitions``."""
    if definitions is of_agents and name in METRICS | EVALUATION_METRICS:
        return "not measured for single agents"
    if definitions is not of_agents and name in of_agents:
        return "read it with by_agent"
    if name in METRICS | EVALUATION_METRICS:
        return "not logged by this learner on this task"
    wanted = name.lower()
    near = [known for known in definitions if wanted in known.split("_")]
    near = near or difflib.get_close_matches(wanted, definitions, n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else "unknown"


def whole_window(seeds: Sequence[Rows]) -> tuple[int, int]:
    """The first and the last position in env steps that anything was logged at."""
    positions = [_position(row) for rows in seeds for row in rows]
    return min(positions), max(positions)


def _window(seeds: Sequence[Rows], first: int | None, last: int | None) -> tuple[int, int]:
    low, high = whole_window(seeds)
    window = (low if first is None else first, high if last is None else last)
    if not any(window[0] <= _position(row) <= window[1] for rows in seeds for row in rows):
        raise ToolRefused(
            f"Found the window {window[0]:,} to {window[1]:,} env steps, where nothing was logged: "
            f"metrics exist from {low:,} to {high:,}."
        )
    return window
