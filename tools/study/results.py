"""The results of a study: the curve of each session from its ledger, and the statistics of every arm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from learning_signal.ledger.read.costs import known_sum
from learning_signal.ledger.read.reader import Reader
from learning_signal.marl.gate.statistics import interval
from learning_signal.marl.segments.version import code_version, training_version
from learning_signal.marl.tasks import make_task
from learning_signal.tools.base import CannotGoOn
from learning_signal.tools.recall import head_of
from learning_signal.tools.state import Head
from learning_signal.tools.study.aggregates import LEVEL, interquartile_mean, interval_of, probability_of_improvement
from learning_signal.tools.study.cell import CellResult, Point
from learning_signal.tools.study.study import BASELINE, SESSION_ARMS, StudySettings

GRID = 120
"""Points of a mean curve."""


@dataclass(frozen=True)
class SessionSoFar:
    """The training of a session and its present result."""

    env_steps: int
    """All of training: main run and branches, reused ones included."""
    evaluation_env_steps: int | None
    """All that their evaluations played, as far as known; None where none are."""
    head: Head
    curve: tuple[Point, ...]
    promotions: int
    rollbacks: int
    compute_seconds: float


def session_so_far(ledger: Path, session: str) -> SessionSoFar:
    """The result of a session, read from its ledger; ``CannotGoOn`` where it ended before its first stage.

    The curve follows HEAD on the report episodes: every evaluation of a stage, and a single point where a decision
    moved HEAD, forward or back. The position of a point is the total env steps trained when HEAD got there.
    """
    with Reader.open(ledger) as reader:
        head = head_of(reader, session)
        if head is None:
            raise CannotGoOn(
                f"Session {session} ended before its first stage was trained: see its log, and start again."
            )
        segments = reader.segments(session)
        used = [each for each in segments.values() if each.status != "pending"]
        curve: list[Point] = []
        for move in reader.main_run(session):
            cost = sum(each.cost for each in used if each.ended_at is not None and each.ended_at <= move.at)
            found = reader.evaluations(session, move.segment.id, episode_set="report")
            for evaluation in found if move.reason == "stage" else found[-1:]:
                end = evaluation.env_steps if move.segment.end_env_steps is None else move.segment.end_env_steps
                behind = end - evaluation.env_steps
                curve.append(
                    Point(env_steps=cost - behind, sparse_return=evaluation.sparse_return, progress=evaluation.progress)
                )
        actions = [decision.action for decision in reader.decisions(session)]
        env_steps = trained_by(reader, session)
    return SessionSoFar(
        env_steps=env_steps,
        evaluation_env_steps=known_sum(each.evaluation_env_steps for each in used),
        head=head,
        curve=tuple(curve),
        promotions=actions.count("promote"),
        rollbacks=actions.count("roll_back"),
        compute_seconds=sum(each.wall_seconds or 0.0 for each in used),
    )


def trained_by(reader: Reader, session: str) -> int:
    """Env steps of a session, reused ones included.

    Launched branches count in full even where their results were not read: they are trained to their end.
    """
    rows = reader.rows("SELECT segment_id FROM branch_segments WHERE session_id = ?", (session,))
    branches, segments = {row["segment_id"] for row in rows}, reader.segments(session).values()
    abandoned = sum(each.env_steps for each in segments if each.status == "pending" and each.id in branches)
    lost: int = sum((reader.cursor(session) or {}).get("lost", {}).values())
    return sum(each.cost for each in segments) + abandoned + lost


def report(study: StudySettings, results: Sequence[CellResult], sources: str) -> dict[str, Any]:
    """Everything about a study as plain JSON data: settings, cells with their curves, statistics per arm.

    ``sources`` are the words of the command that made it.
    """
    largest = {settings.run.task: make_task(settings.run.task, 1).spec.max_return for settings in study.tasks}
    tasks = list(largest)
    groups = [_group(study, results, [task], {task: 1.0}) | {"title": task, "unit": "sparse return"} for task in tasks]
    if len(tasks) > 1:
        units = {task: make_task(task, 1).spec.largest_return for task in tasks}
        every = _group(study, results, tasks, units)
        groups.append(every | {"title": "all tasks", "unit": "share of the largest return"})
    return {
        "command": sources,
        "code_version": code_version(),
        "training_version": training_version(),
        "env_steps": study.env_steps,
        "arms": list(study.arms),
        "seeds": list(study.seeds),
        "baseline": BASELINE,
        "tasks": [{"task": task, "max_return": largest[task]} for task in tasks],
        "level": LEVEL,
        "groups": groups,
        "bands": [band for task in tasks for band in _bands(study, results, task)],
        "cells": [result.model_dump(mode="json") for result in results],
        "settings": {
            settings.run.task: settings.model_dump(mode="json", exclude={"seed", "ledger"}) for settings in study.tasks
        },
    }


def _group(
    study: StudySettings, results: Sequence[CellResult], tasks: list[str], unit: dict[str, float]
) -> dict[str, Any]:
    """One row per arm over ``tasks``; final returns are divided by ``unit``. An incomplete arm has no statistics."""
    scores = {arm: _scores(study, results, arm, tasks, unit) for arm in study.arms}
    rows = []
    for arm in study.arms:
        mine = [each for each in results if each.arm == arm and each.task in tasks]
        ended = [each for each in mine if each.outcome == "done"]
        row: dict[str, Any] = {
            "arm": arm,
            "n": len(ended),
            "mean": None,
            "interval": None,
            "iqm": None,
            "iqm_interval": None,
            "better": None,
            "better_interval": None,
            "env_steps": None,
            "evaluation_env_steps": None,
            "promotions": None,
            "rollbacks": None,
            "compute_seconds": None,
            "failures": [f"{each.task}, seed {each.seed}: {each.reason}" for each in mine if each.outcome != "done"],
        }
        values = scores[arm]
        if values is not None:
            runs = values.mean(axis=1)
            row |= {
                "mean": float(runs.mean()),
                "interval": None if len(runs) < 2 else interval(runs.tolist(), LEVEL),
                "iqm": interquartile_mean(values),
                "iqm_interval": interval_of(interquartile_mean, values),
                "env_steps": sum(each.env_steps for each in ended) / len(ended),
                "evaluation_env_steps": _mean_of_all([each.evaluation_env_steps for each in ended]),
                "compute_seconds": sum(each.compute_seconds for each in ended),
            }
            if arm in SESSION_ARMS:
                row["promotions"] = sum(each.promotions for each in ended)
                row["rollbacks"] = sum(each.rollbacks for each in ended)
            other = scores.get(BASELINE)
            if arm != BASELINE and other is not None:
                row["better"] = probability_of_improvement(values, other)
                row["better_interval"] = interval_of(probability_of_improvement, values, other)
        rows.append(row)
    return {"rows": rows}


def _mean_of_all(values: Sequence[int | None]) -> float | None:
    """The mean, None where one is unknown."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def _scores(
    study: StudySettings, results: Sequence[CellResult], arm: str, tasks: list[str], unit: dict[str, float]
) -> np.ndarray | None:
    """Final returns ``[seeds, tasks]`` of an arm, or None where one of them is missing."""
    found = {(each.task, each.seed): each.final for each in results if each.arm == arm and each.outcome == "done"}
    values = [[found.get((task, seed)) for task in tasks] for seed in study.seeds]
    if any(value is None for row in values for value in row):
        return None
    shares: np.ndarray = np.asarray(values) / np.asarray([unit[task] for task in tasks])
    return shares


def _bands(study: StudySettings, results: Sequence[CellResult], task: str) -> list[dict[str, Any]]:
    """Mean and interval of HEAD's sparse return over total env steps, per arm whose every cell is done.

    Between two points a curve stays at the earlier one: that is the policy a user would have had.
    """
    bands = []
    for arm in study.arms:
        curves = [each.curve for each in results if (each.arm, each.task, each.outcome) == (arm, task, "done")]
        if len(curves) < len(study.seeds) or not all(curves):
            continue
        first = max(curve[0].env_steps for curve in curves)
        last = max(curve[-1].env_steps for curve in curves)
        points = []
        for position in np.linspace(first, last, GRID):
            values = [_at(curve, position) for curve in curves]
            low, high = (None, None) if len(values) < 2 else interval(values, LEVEL)
            points.append([int(position), sum(values) / len(values), low, high])
        bands.append({"task": task, "arm": arm, "points": points})
    return bands


def _at(curve: Sequence[Point], position: float) -> float:
    """The sparse return at the last point that is not after ``position``."""
    steps = [point.env_steps for point in curve]
    return curve[max(int(np.searchsorted(steps, position, side="right")) - 1, 0)].sparse_return
