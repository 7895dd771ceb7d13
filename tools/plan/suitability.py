"""Whether a session can be run on a task: refusals at its start, and warnings about what limits it."""

from __future__ import annotations

from learning_signal.ledger.wording import command
from learning_signal.marl.gate.judge import Judge
from learning_signal.marl.gate.judges import SEQUENTIAL
from learning_signal.marl.segments.segment import rollout_size
from learning_signal.marl.tasks.base import TaskSpec
from learning_signal.tools.plan.cost import rung_lengths
from learning_signal.tools.plan.settings import SessionSettings


class Unsuitable(ValueError):
    """No session can be run with these settings on this task; one sentence."""


def refuse_unsuitable(settings: SessionSettings, task: TaskSpec, judge: Judge = SEQUENTIAL) -> None:
    """``Unsuitable`` where the gate could never judge, nothing could be proposed, or no segment could be trained.

    A gate with another ``judge`` is refused as well: only a study gives its arms one that tests nothing.
    """
    refuse_untested(settings.gate.judge, judge)
    if task.max_return is None:
        raise Unsuitable(
            f"Task {task.name} declares no max_return, and the gate's thresholds are fractions of it: declare the "
            f"largest sparse return of an episode, or train without agents ({command('train')})."
        )
    if not task.max_return > 0:
        raise Unsuitable(
            f"Task {task.name} declares a max_return of {task.max_return:g}, expected one above 0: declare the largest "
            "sparse return of an episode, for example with a sparse reward that counts successes."
        )
    if not task.features:
        raise Unsuitable(
            f"Task {task.name} declares no features, and shaping is made of them: declare some, or train without "
            f"agents ({command('train')})."
        )
    steps = settings.run.learner.rollout_steps
    if steps is not None and steps < task.horizon:
        raise Unsuitable(
            f"Found rollout_steps {steps}, expected at least {task.horizon}, the longest episode of {task.name}: a "
            "shorter rollout never sees its end."
        )
    rungs = rung_lengths(settings, task)
    if settings.deliberation.candidates > 1 and len(set(rungs)) < len(rungs):
        raise Unsuitable(
            f"Found screen_halvings {settings.gate.screen_halvings} with rungs that end after "
            f"{', '.join(f'{end:,}' for end in rungs)} env steps, expected each to train at least one rollout more "
            f"({rollout_size(settings.run, task):,} env steps): use fewer screen_halvings or a larger branch_steps."
        )


def refuse_untested(found: Judge, expected: Judge = SEQUENTIAL) -> None:
    """``Unsuitable`` where a gate's judge tests nothing, unless it is the one a study ``expected`` for its arm."""
    if not found.tests and found is not expected:
        raise Unsuitable(
            f"Found gate.mode {found.mode!r}, which promotes without a test, expected 'sequential': the other modes "
            f"are controls of a study ({command('study')})."
        )


def remarks(settings: SessionSettings, task: TaskSpec) -> list[str]:
    """Warnings before a session starts, a sentence or two each."""
    warnings = []
    if task.progress is None:
        floor = settings.gate.floor * task.largest_return
        warnings.append(
            f"{task.name} declares no progress: while sparse returns are below {floor:g}, every verdict is "
            "inconclusive and nothing can be promoted."
        )
    if not any(feature.direction for feature in task.features):
        warnings.append(
            f"No feature of {task.name} has a direction: agents can only guess from correlations with success. "
            "Declare which values are better."
        )
    size = rollout_size(settings.run, task)
    screen = rung_lengths(settings, task)[0]
    if settings.deliberation.candidates > 1 and screen < 4 * size:
        updates = "one update" if screen == size else f"{screen // size} updates"
        warnings.append(
            f"A screening branch is {screen:,} env steps, only {updates} of {size:,} env steps: a larger branch_steps "
            "or fewer environments would tell candidates apart better."
        )
    return warnings
