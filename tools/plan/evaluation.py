"""The episodes that a segment is evaluated on, by its purpose: only those that something reads are played."""

from __future__ import annotations

from typing import Literal

from learning_signal.marl.randomness import derive
from learning_signal.marl.segments.late import NOTHING
from learning_signal.marl.segments.points import episodes_of, sets_due
from learning_signal.marl.segments.segment import rollout_size, round_up
from learning_signal.marl.settings import PlayedSets, RunSettings
from learning_signal.marl.tasks.base import TaskSpec

Purpose = Literal["main", "screen", "confirm", "twin", "search", "training"]
"""Of a session: main run, branches, sparse twin; of a study: a search for a shaping; a training run without agents."""

PLAYED: dict[Purpose, PlayedSets] = {
    "main": PlayedSets(query="every", screen="never", confirm="last", report="last"),
    "twin": NOTHING.model_copy(update={"report": "last"}),
    "screen": NOTHING.model_copy(update={"screen": "later half"}),
    "confirm": NOTHING.model_copy(update={"confirm": "later half"}),
    "search": NOTHING.model_copy(update={"screen": "later half", "report": "last"}),
    "training": NOTHING.model_copy(update={"confirm": "every"}),
}
"""When each set is played. Stages are labelled by the query episodes, branches measured on the later half of the points
of their set, and probation reads the confirm episodes at the end. What a session or a study reports of HEAD is measured
on the report episodes; the curve of a training run, in which nothing is selected, on all confirm episodes. What a
branch shows to agents, and to HEAD when it moves there, is played then (``marl.segments.late``).
"""


BLOCK = 64
"""Episodes of a branch come in so many at a time, and are at least so many: standard errors need them."""


def evaluated_for(run: RunSettings, purpose: Purpose, seed: int, held_out: int | None = None) -> RunSettings:
    """``run`` as a segment with this ``seed`` is evaluated.

    Branches are measured on ``held_out`` episodes (as many as every set has where None) that follow from their seed:
    those that share it, a pair, share them, and no others do.
    """
    evaluation: dict[str, object] = {"played": PLAYED[purpose]}
    changes: dict[str, object] = {}
    if purpose in ("screen", "confirm"):
        changes["held_out_seed"] = derive(run.evaluation_seed, "held out", seed)
        evaluation |= {} if held_out is None else {"episodes": held_out}
    return run.model_copy(update=changes | {"evaluation": run.evaluation.model_copy(update=evaluation)})


def branch_episodes(run: RunSettings, branch_steps: int, task: TaskSpec) -> int:
    """Held-out episodes of every branch of a session: what its share of a confirmation branch pays for, in blocks.

    One number, fixed before anything is trained, so that no arm can have another than the control. For the same env
    steps in all, the mean of an arm is most precise at a share that goes with the square root of the variance of
    episodes over that of seeds (Cochran, "Sampling Techniques", 1977, section 10.6); ``bench.gate_design`` measures it.
    """
    settings, steps = run.evaluation, round_up(run, branch_steps, task)
    if settings.share is None:
        return settings.episodes
    played = settings.model_copy(update={"played": PLAYED["confirm"]})
    points = len(sets_due(played, steps // rollout_size(run, task)))
    paid = int(settings.share * steps / (points * task.horizon)) // BLOCK * BLOCK
    return max(paid, min(BLOCK, settings.episodes))


def evaluation_env_steps(
    run: RunSettings, purpose: Purpose, env_steps: int, task: TaskSpec, held_out: int | None = None
) -> int:
    """The most env steps that the evaluations of a segment of ``env_steps`` play: episodes of full length."""
    evaluation = evaluated_for(run, purpose, 0, held_out).evaluation
    return episodes_of(evaluation, env_steps // rollout_size(run, task)) * task.horizon


def late_env_steps(run: RunSettings, task: TaskSpec) -> int:
    """The most env steps that one set of episodes, played late, takes."""
    return run.evaluation.episodes * task.horizon


def refuse_chosen(run: RunSettings) -> None:
    """``ValueError`` where a configuration sets which episodes are played: that follows from a segment's purpose."""
    if run.evaluation.played != PlayedSets() or run.held_out_seed is not None:
        name = "held_out_seed" if run.held_out_seed is not None else "evaluation.played"
        raise ValueError(f"found run.{name}, which follows from what a segment is trained for: leave it out")
