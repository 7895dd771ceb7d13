"""Which segments can be trained together in one process (``marl.stacked``), and where that is the faster way."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from marl.segment import SegmentSpec
from marl.settings import LearnerSettings, RunSettings
from marl.tasks import make_task
from marl.tasks.base import TaskSpec

STACK = 4
"""Segments that are trained together where that is faster, if nobody asked for another number."""

SMALL_BATCH = 32_768
"""Numbers in the largest layer of a minibatch up to which a CPU core wins by stacking.

`bench.stacked`, four together: 1.8 times as fast at 9,600, 1.3 at 19,200, the same within noise at 76,800 (`spread`).
"""


def can_stack(specs: Sequence[SegmentSpec]) -> bool:
    """Whether ``run_stacked`` trains ``specs`` together: more than one, alike but for parent, shaping and seed."""
    if len(specs) < 2:
        return False
    run, env_steps = specs[0].run, specs[0].env_steps
    return all((spec.run, spec.env_steps) == (run, env_steps) for spec in specs) and _stackable(run)


@cache
def largest_stack(run: RunSettings, asked: int | None = None) -> int:
    """How many segments of ``run`` a worker is given at once: ``asked``, or as many as are fast where that is None.

    One where they cannot be stacked.
    """
    if asked == 1 or not _stackable(run):
        return 1
    if asked is not None:
        return asked
    try:
        task = make_task(run.task, 1).spec
    except (ValueError, ImportError):
        return 1  # training it says what is wrong
    return STACK if worthwhile(run.learner, task) else 1


def _stackable(run: RunSettings) -> bool:
    """Value learners and memory are trained alone, and environments of somebody's own, which are stepped one by one."""
    return not run.learner.learns_values and run.learner.memory == "none" and ":" not in run.task


def worthwhile(settings: LearnerSettings, task: TaskSpec) -> bool:
    """Whether branches of such a learner are trained faster together than one by one, as measured by `bench.stacked`.

    On a CPU core only where minibatches are small: a product of hundreds of rows runs at the core's full speed
    anyway, and one more branch only takes the cache from the others. On a GPU, where a call takes longer than what it
    computes, always.
    """
    if settings.device == "cuda":
        return True
    samples = (settings.rollout_steps or task.horizon) * settings.environments
    return samples * task.agents * max(settings.hidden) // settings.minibatches <= SMALL_BATCH
