"""Learners over batched tasks: MAPPO and IPPO, QMIX and VDN."""

from marl.learners.base import Diverged, Learner
from marl.learners.ppo import PolicyGradientLearner
from marl.learners.rollout import Collector, Rollout, Timings
from marl.settings import LearnerSettings
from marl.tasks.base import TaskSpec

__all__ = ["Collector", "Diverged", "Learner", "Rollout", "Timings", "make_learner"]


def make_learner(spec: TaskSpec, settings: LearnerSettings, seed: int) -> Learner:
    """A new learner for a task; its initial weights depend on ``seed`` alone.

    Raises ``ValueError`` where the algorithm cannot learn the task.
    """
    return PolicyGradientLearner(spec, settings, seed)
