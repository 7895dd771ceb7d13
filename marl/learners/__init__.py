"""Learners over batched tasks: MAPPO and IPPO, QMIX and VDN."""

import torch

from learning_signal.marl.learners.base import Diverged, Learner
from learning_signal.marl.learners.distributions import distribution_of
from learning_signal.marl.learners.networks import Network
from learning_signal.marl.learners.policy import Policy, input_size
from learning_signal.marl.learners.ppo import PolicyGradientLearner
from learning_signal.marl.learners.recurrent import RecurrentNetwork
from learning_signal.marl.learners.rollout import Collector, Rollout, Timings
from learning_signal.marl.learners.value_decomposition import ValueDecompositionLearner, Values
from learning_signal.marl.settings import LearnerSettings
from learning_signal.marl.tasks.base import TaskSpec

__all__ = ["Collector", "Diverged", "Learner", "Rollout", "Timings", "make_learner", "make_policy"]


def make_learner(spec: TaskSpec, settings: LearnerSettings, seed: int) -> Learner:
    """A new learner for a task; its initial weights depend on ``seed`` alone.

    Raises ``CannotLearn``, a ``ValueError``, where the algorithm cannot learn the task.
    """
    settings.refuse(spec)
    make = ValueDecompositionLearner if settings.learns_values else PolicyGradientLearner
    return make(spec, settings, seed)


def make_policy(spec: TaskSpec, settings: LearnerSettings) -> Policy:
    """The policy of such a learner, alone and on the CPU; its weights are still to be filled in."""
    distribution = Values() if settings.learns_values else distribution_of(spec)
    make, generator = RecurrentNetwork if settings.memory == "gru" else Network, torch.Generator()
    actors = [
        make(input_size(group), settings.hidden, distribution.outputs(group), output_gain=0.01, generator=generator)
        for group in spec.groups
    ]
    return Policy(spec, actors, distribution)
