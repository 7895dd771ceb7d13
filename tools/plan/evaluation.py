"""The episodes that a segment is evaluated on, by its purpose: only those that something reads are played."""

from __future__ import annotations

from typing import Literal

from learning_signal.marl.randomness import derive
from learning_signal.marl.segments.points import episodes_of
from learning_signal.marl.segments.segment import rollout_size
from learning_signal.marl.settings import PlayedSets, RunSettings
from learning_signal.marl.tasks.base import TaskSpec

Purpose = Literal["main", "screen", "confirm", "twin", "search", "training"]
"""Of a session: main run, branches, sparse twin; of a study: a search for a shaping; a training run without agents."""

MAIN = PlayedSets(query="every", screen="never", confirm="last", report="last")
PLAYED: dict[Purpose, PlayedSets] = {
    "main": MAIN,
    "twin": MAIN,
    "screen": PlayedSets(query="last", screen="later half", confirm="never"),
    "confirm": PlayedSets(query="last", screen="never", confirm="later half"),
    "search": PlayedSets(query="last", screen="later half", confirm="never", report="last"),
    "training": PlayedSets(query="last", screen="never", confirm="every"),
}
"""When each set is played. Stages are labelled by the query episodes, branches measured on the later half of the points
of their set, and probation reads the confirm episodes at the end. What a session or a study reports of HEAD is measured
on the report episodes; the curve of a training run, in which nothing is selected, on all confirm episodes.
"""


def evaluated_for(run: RunSettings, purpose: Purpose, seed: int, *, leads: bool = False) -> RunSettings:
    """``run`` as a segment with this ``seed`` is evaluated.

    Branches are measured on held-out episodes that follow from their seed: those that share it, a pair, share them,
    and no others do. ``leads``: HEAD may move to such a branch, whose return is then reported at its end.
    """
    played = PLAYED[purpose]
    if leads:
        played = played.model_copy(update={"report": "last"})
    changes: dict[str, object] = {"evaluation": run.evaluation.model_copy(update={"played": played})}
    if purpose in ("screen", "confirm"):
        changes["held_out_seed"] = derive(run.evaluation_seed, "held out", seed)
    return run.model_copy(update=changes)


def evaluation_env_steps(
    run: RunSettings, purpose: Purpose, env_steps: int, task: TaskSpec, *, leads: bool = False
) -> int:
    """The most env steps that the evaluations of a segment of ``env_steps`` play: episodes of full length."""
    evaluation = evaluated_for(run, purpose, 0, leads=leads).evaluation
    return episodes_of(evaluation, env_steps // rollout_size(run, task)) * task.horizon


def refuse_chosen(run: RunSettings) -> None:
    """``ValueError`` where a configuration sets which episodes are played: that follows from a segment's purpose."""
    if run.evaluation.played != PlayedSets() or run.held_out_seed is not None:
        name = "held_out_seed" if run.held_out_seed is not None else "evaluation.played"
        raise ValueError(f"found run.{name}, which follows from what a segment is trained for: leave it out")
