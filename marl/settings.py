"""The fixed configuration of a training run: task, learner and evaluation. Part of every segment's identity."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


class Frozen(BaseModel):
    """A record that refuses unknown keys and cannot be changed."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class LearnerSettings(Frozen):
    """Hyper-parameters of the learners.

    Defaults follow Yu et al. 2022 (arXiv 2103.01955), but for learning rate, lambda and minibatches: with their 7e-4,
    0.95 and 1 to 4 shaped `spread` needs more than twice the env steps to a sparse return of 3.
    """

    algorithm: Literal["mappo", "ippo"] = "mappo"
    """mappo: the critic sees the joint state; ippo: each agent's critic sees its own observation."""
    hidden: tuple[Count, ...] = (64, 64)
    """Units of each hidden layer (tanh) of actor and critic; with gru, of the first layer and of the memory."""
    memory: Literal["none", "gru"] = "none"
    """gru: networks that see observations remember (Cho et al. 2014); for tasks whose agents do not see everything."""
    environments: Count = 128
    """Parallel environments of a rollout."""
    rollout_steps: Count | None = None
    """Steps of a rollout per environment; the task's horizon when None. Every rollout starts fresh episodes."""
    learning_rate: Positive = 3e-3
    """Adam step size of actor and critic."""
    discount: Fraction = 0.99
    """gamma of returns and of the shaping."""
    gae_lambda: Fraction = 0.8
    """lambda of generalised advantage estimation (Schulman et al. 2016)."""
    epochs: Count = 4
    """Passes over a rollout per update."""
    minibatches: Count = 8
    """Minibatches per pass."""
    clip: Positive = 0.2
    """Clipping range of the probability ratio (and of the value change)."""
    entropy: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Weight of the entropy bonus."""
    max_gradient_norm: Positive = 10.0
    """Gradients of actor and critic are scaled down to this norm."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where the networks live; tasks stay in NumPy on the CPU."""


class EvaluationSettings(Frozen):
    """How often and on how many episodes a segment is evaluated, always unshaped."""

    episodes: Annotated[int, Field(ge=2)] = 256
    """Episodes in each of the three disjoint evaluation sets (query, screen, confirm)."""
    points: Annotated[int, Field(ge=2)] = 4
    """Evaluations per segment, evenly spaced, the last at its end."""
    policy: Literal["sampled", "greedy"] = "sampled"
    """Whether evaluation draws actions from the policy or takes the most probable one."""


class RunSettings(Frozen):
    """Everything besides (parent, shaping, env steps, seed) that a segment's result depends on."""

    task: str = "spread"
    """Task name, with options after '?', e.g. ``spread?agents=5``."""
    learner: LearnerSettings = LearnerSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    evaluation_seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the evaluation episodes (the same in every arm of a comparison)."""

    def hash(self) -> str:
        """A 16-digit hexadecimal SHA-256 of the canonical JSON of these settings."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]
