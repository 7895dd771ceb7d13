"""Default hyper-parameters by family of tasks, each with its source.

Any other default is that of ``LearnerSettings``, which is tuned on `spread`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FORAGING = {
    "environments": 64,
    "hidden": (128, 128),
    "learning_rate": 1.5e-3,
    "epochs": 8,
    "largest_kl": 0.1,
    "max_gradient_norm": 0.5,
}
"""Small rollouts and many epochs, because rewards are rare. Layers of 128 as in EPyMARL (Papoudakis et
al. 2021, arXiv 2006.07869). On 8x8-2p-2f-coop, sparse, three seeds: greedy return 0.95 at 400 k env steps; 0.92 with 64
units, 0.93 with lambda 0.95 and a slower start, 0.87 with rectified instead of tanh units. Once everything is eaten,
advantages are noise; without the two limits one update in a few hundred threw a solved policy away."""

WAREHOUSE = {"environments": 16, "hidden": (128, 128)}
"""Episodes of 500 steps: with more environments a rollout would be longer than a stage needs. Not tuned."""

OVERCOOKED = {
    "environments": 16,
    "hidden": (128, 128),
    "learning_rate": 1e-3,
    "largest_kl": 0.1,
    "max_gradient_norm": 0.5,
}
"""Episodes of 400 steps, so few environments. On cramped_room with a shaping by hand (docs/tasks.md): 198 and 236 at
512 k env steps, seeds 100 and 101. With a learning rate of 3e-3 and without the two limits a run that had come to 230
fell to 0."""

FOREIGN = {"environments": 32, "minibatches": 4}
"""A user's own environment: copies cost memory and are stepped one by one, so rollouts are small. Not tuned."""

FEW_EPISODES = {"episodes": 64}
"""Where an episode is long, or is stepped alone, 256 in each set would take longer than the training between them."""

PARTIAL_SIGHT = {"memory": "gru", "minibatches": 2}
"""Where agents do not see everything, policy-gradient learners remember, as EPyMARL's do. Steps through time are small:
more minibatches of whole sequences would only be slower. On 2s-8x8-2p-2f-coop one seed reached 0.95 at 600 k env steps,
0.79 without memory."""


RARE_REWARDS = {"environments": 16, "discount": 0.97, "q_learning": {"exploration_env_steps": 200_000}}
"""For value learners on foraging: many gradient steps per env step, a near horizon, and exploration for as long as no
policy has been found (as long as EPyMARL's tuned agents explore there). On 8x8-2p-2f-coop VDN reached 0.95 at 500 k."""

LENGTHS = {"Foraging-8x8-2p-2f-coop-v3": {"stage_steps": 25_000, "branch_steps": 25_000}}
"""Stages and branches of a session; elsewhere the general ones, measured on `spread` by `bench.branch_length`. This
task is learnt within 250 k env steps. At 25 k the gate finds a shaping that helps (`bench.gate`: 20 of 20); no short
branch tells the order at the end there, when every arm is as good.
"""


def recommended(task: str, learner: Mapping[str, Any]) -> dict[str, Any]:
    """Learner settings for ``task`` (named as for ``marl.tasks.make_task``): those in ``learner``, completed."""
    family, learns_values = _family(task), learner.get("algorithm") in ("qmix", "vdn")
    families: dict[str, dict[str, Any]] = {
        "foreign": FOREIGN,
        "foraging": FORAGING,
        "overcooked": OVERCOOKED,
        "warehouse": WAREHOUSE,
    }
    settings = families.get(family, {})
    if family == "foraging" and learns_values:
        settings = settings | RARE_REWARDS
    elif family == "foraging" and "-2s-" in task and learner.get("memory", "gru") == "gru":
        settings = settings | PARTIAL_SIGHT
    given = dict(learner)
    if isinstance(given.get("q_learning"), Mapping):
        given["q_learning"] = {**settings.get("q_learning", {}), **given["q_learning"]}
    return settings | given


def recommended_evaluation(task: str, evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """The same of evaluation settings."""
    return {**(FEW_EPISODES if _family(task) in ("foreign", "overcooked", "warehouse") else {}), **evaluation}


def recommended_lengths(task: str) -> dict[str, int]:
    """The lengths of a session on ``task`` that were measured for it; none for most tasks."""
    return LENGTHS.get("Foraging-8x8-2p-2f-coop-v3" if task == "foraging" else task, {})


def _family(task: str) -> str:
    base = task.partition("?")[0]
    if ":" in base:
        return "foreign"
    beginning = base.partition("-")[0].lower()
    return "warehouse" if beginning == "rware" else beginning
