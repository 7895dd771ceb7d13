"""Evidence for the agents: metrics over any window, behaviour summaries, and the diagnosis that rests on them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np

from learning_signal.marl.behaviour.summary import summarize
from learning_signal.marl.behaviour.text import render
from learning_signal.marl.segments.metrics import METRICS
from learning_signal.marl.segments.segment import SegmentResult
from learning_signal.tools.base import Answer, Tool, ToolRefused, rounded
from learning_signal.tools.context import SessionContext
from learning_signal.tools.contracts import Diagnosis, QueryMetrics, SummarizeTrajectories
from learning_signal.tools.round.confirmations import is_sealed
from learning_signal.tools.round.record import record_diagnosis, record_summary
from learning_signal.tools.state import Branch

EVALUATION_METRICS = {
    "evaluation_sparse_return": "mean sparse return over the query episodes (unshaped evaluation)",
    "evaluation_progress": "mean progress over the query episodes (unshaped evaluation)",
}
"""The metrics that evaluation adds to those of training."""

Rows = Sequence[Mapping[str, float | None]]


def evidence_tools(context: SessionContext) -> dict[str, Tool]:
    """The tools that gather evidence, and the one that turns it into a diagnosis."""

    async def query_metrics(arguments: QueryMetrics) -> Answer:
        definitions = METRICS | EVALUATION_METRICS
        if not arguments.names:
            return Answer(json.dumps({"metrics": definitions}))
        unknown = [name for name in arguments.names if name not in definitions]
        if unknown:
            raise ToolRefused(
                f"Found metric {unknown[0]!r}, expected some of {', '.join(definitions)}: call query_metrics with "
                "those names, or with none to read what each one means."
            )
        rows = [metric_rows(result) for result in _results(context, arguments.source)]
        window = _window(rows, arguments.first_env_step, arguments.last_env_step)
        points = averaged(rows, arguments.names, window, arguments.points)
        return Answer(json.dumps({"source": arguments.source, "window": window, "points": points}))

    async def summarize_trajectories(arguments: SummarizeTrajectories) -> Answer:
        limit = context.settings.deliberation.evidence_tokens
        most = limit if arguments.most_tokens is None else arguments.most_tokens
        if most > limit:
            raise ToolRefused(
                f"Found most_tokens {most}, expected at most {limit}, the limit of this session: ask for less, or "
                "leave most_tokens out."
            )
        if arguments.source == "main":
            segment, env_steps = context.head.segment, context.head.env_steps
        else:
            segment = readable_branch(context, arguments.source).segments[0]
            env_steps = _finished(context, arguments.source, segment).end_env_steps
        summary = summarize(context.trainer.behaviour(segment), context.task)
        try:
            body = json.loads(render(summary, most, context.count_tokens))
        except ValueError as error:
            raise ToolRefused(str(error)) from error
        text = json.dumps({"source": arguments.source, "env_steps": env_steps, "summary": body})

        def apply() -> None:
            if arguments.source == "main":
                record_summary(context, body)

        return Answer(text, apply)

    async def submit_diagnosis(arguments: Diagnosis) -> Answer:
        cited = {name for failure in arguments.failures for name in failure.evidence}
        unread = sorted(name for name in cited if not 1 <= int(name[1:]) <= context.state.seen)
        if unread:
            raise ToolRefused(
                f"Found evidence id {unread[0]}, which is not among the results you have read: cite the ids that "
                "query_metrics and summarize_trajectories returned in an earlier step."
            )

        return Answer(json.dumps({"accepted": True}), lambda: record_diagnosis(context, arguments))

    return {
        "query_metrics": Tool(
            "query_metrics",
            "Read logged metrics of the main run or of a branch over any window of env steps, averaged into a few "
            "points. Called without names it lists every metric with its meaning.",
            QueryMetrics,
            query_metrics,
            evidence=True,
        ),
        "summarize_trajectories": Tool(
            "summarize_trajectories",
            "Compact behaviour evidence from evaluation episodes: features over episode time, around successes, by "
            "outcome and by agent, and which wait for which; action use, idleness, oscillation, roles; how features "
            "move with return; best, median and worst episode.",
            SummarizeTrajectories,
            summarize_trajectories,
            evidence=True,
        ),
        "submit_diagnosis": Tool(
            "submit_diagnosis",
            "End your phase: the stage of learning, what fails (each failure with the evidence ids it rests on), and "
            "advice to the Generator.",
            Diagnosis,
            submit_diagnosis,
            ends_phase=True,
        ),
    }


def find_branch(context: SessionContext, name: str) -> Branch:
    """The branch of this round called ``name``; ``ToolRefused`` if there is none."""
    for branch in context.round.branches:
        if branch.name == name:
            return branch
    known = ", ".join(branch.name for branch in context.round.branches) or "none yet"
    raise ToolRefused(
        f"Found branch {name!r}, expected one launched in this round ({known}): launch it first, or use 'main'."
    )


def readable_branch(context: SessionContext, name: str) -> Branch:
    """The branch called ``name``; ``ToolRefused`` while it belongs to a confirmation that is not judged."""
    branch = find_branch(context, name)
    if is_sealed(context, branch):
        raise ToolRefused(
            f"Found {name}, a branch of a confirmation that is not judged yet, expected another source: its numbers "
            "are shown once compare_branches has judged it."
        )
    return branch


def lineage(context: SessionContext) -> list[SegmentResult]:
    """The segments of the main run that HEAD rests on, oldest first."""
    results: list[SegmentResult] = []
    segment: str | None = context.head.segment
    while segment is not None:
        result = context.trainer.stored(segment)
        results.append(result)
        segment = result.parent
    return results[::-1]


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


def _results(context: SessionContext, source: str) -> list[list[SegmentResult]]:
    """The segments behind a source, as one list of consecutive segments per seed."""
    if source == "main":
        return [lineage(context)]
    return [[_finished(context, source, segment)] for segment in readable_branch(context, source).segments]


def _finished(context: SessionContext, name: str, segment: str) -> SegmentResult:
    status = context.trainer.status(segment)
    if status != "done":
        raise ToolRefused(
            f"Found branch {name} {status}, expected one that is done: read_branch waits for it and says what happened."
        )
    return context.trainer.stored(segment)


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
