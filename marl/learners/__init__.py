"""Learners: MAPPO and IPPO over batched tasks."""

from marl.learners.ppo import Diverged, Learner
from marl.learners.rollout import Collector, Rollout, Timings

__all__ = ["Collector", "Diverged", "Learner", "Rollout", "Timings"]
