"""Learners over batched tasks: MAPPO and IPPO, QMIX and VDN."""

from marl.learners.base import Diverged, Learner
from marl.learners.ppo import PolicyGradientLearner
from marl.learners.rollout import Collector, Rollout, Timings
from marl.learners.value_decomposition import ValueDecompositionLearner
from marl.settings import LearnerSettings
from marl.tasks.base import TaskSpec

__all__ = ["Collector", "Diverged", "Learner", "Rollout", "Timings", "make_learner"]


def make_learner(spec: TaskSpec, settings: LearnerSettings, seed: int) -> Learner:
    """A new learner for a task; its initial weights depend on ``seed`` alone.

    Raises ``CannotLearn``, a ``ValueError``, where the algorithm cannot learn the task.
    """
    settings.refuse(spec)
    make = ValueDecompositionLearner if settings.learns_values else PolicyGradientLearner
    return make(spec, settings, seed)
