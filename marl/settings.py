"""The fixed configuration of a training run: task, learner and evaluation. Part of every segment's identity."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from learning_signal.marl.hyperparameters import recommended, recommended_evaluation
from learning_signal.marl.tasks.base import TaskSpec

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


MOST_WHOLE = 2**63 - 1
"""The largest whole number that the log holds."""


class Frozen(BaseModel):
    """A record that refuses unknown keys and cannot be changed; true and false are no numbers in it."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, given: Any, info: ValidationInfo) -> Any:
        values = given if isinstance(given, (list, tuple)) else (given,)
        if any(each is True or each is False for each in values) and not _takes_truth(cls, str(info.field_name)):
            raise PydanticCustomError("number", "Input should be a number or a word, not true or false")
        return given

    @field_validator("*", mode="after")
    @classmethod
    def _no_endless_number(cls, value: Any) -> Any:
        if isinstance(value, int) and abs(value) > MOST_WHOLE:
            raise PydanticCustomError("whole", "Input should be less than 2^63")
        return value


@cache
def _takes_truth(record: type[BaseModel], name: str) -> bool:
    """Whether a field of ``record`` may be true or false."""
    return "bool" in str(record.model_fields[name].annotation) or record.model_fields[name].annotation is Any


class QLearningSettings(Frozen):
    """Hyper-parameters of QMIX and VDN alone.

    "Paper" is Rashid et al. 2018 (arXiv 1803.11485), EPyMARL is Papoudakis et al. 2021 (arXiv 2006.07869). Both take a
    gradient step per episode; here many environments play at once.
    """

    learning_rate: Positive = 5e-4
    """Adam step size of value networks and mixer (paper, EPyMARL)."""
    replay_env_steps: Count = 51_200
    """Env steps that the replay holds: as many whole rollouts as fit, at least one (EPyMARL: 5000 episodes).

    Checkpoints hold them, too: 4 bytes per number of observations, state and features, 18 MiB on `spread`.
    """
    gradient_steps: Annotated[int, Field(ge=1, le=100_000)] = 32
    """Gradient steps per rollout."""
    batch_size: Count = 1024
    """Transitions of a gradient step (paper, EPyMARL: 32 episodes, so about 800 to 1600)."""
    target_rate: Annotated[float, Field(gt=0, le=1)] = 0.01
    """Share of the way that the target networks follow the learned ones at every gradient step (EPyMARL)."""
    exploration_start: Fraction = 1.0
    """Probability of a random action at first (paper, EPyMARL)."""
    exploration_end: Fraction = 0.05
    """Probability of a random action in the end (paper, EPyMARL)."""
    exploration_env_steps: Count = 50_000
    """Env steps over which it falls, linearly (paper, EPyMARL)."""
    mixing_units: Annotated[int, Field(ge=1, le=65_536)] = 32
    """Hidden units of QMIX's mixing network (paper, EPyMARL)."""
    hypernetwork_units: Annotated[int, Field(ge=1, le=65_536)] = 64
    """Hidden units of the network that gives its weights (EPyMARL)."""


class CannotLearn(ValueError):
    """The algorithm cannot learn the task; one sentence."""


class LearnerSettings(Frozen):
    """Hyper-parameters of the learners.

    Defaults follow Yu et al. 2022 (arXiv 2103.01955), but for learning rate, lambda and minibatches: with their 7e-4,
    0.95 and 1 to 4 shaped `spread` needs more than twice the env steps to a sparse return of 3.
    """

    algorithm: Literal["mappo", "ippo", "qmix", "vdn"] = "mappo"
    """mappo: the critic sees the joint state; ippo: each agent's critic sees its own observation; qmix: the agents'
    action values make a joint value by a monotonic network; vdn: as their sum."""
    hidden: Annotated[tuple[Annotated[int, Field(ge=1, le=65_536)], ...], Field(min_length=1, max_length=16)] = (64, 64)
    """Units of each hidden layer (tanh) of actor, critic and value network; with gru, of the first layer and of the
    memory."""
    memory: Literal["none", "gru"] = "none"
    """gru: networks that see observations remember (Cho et al. 2014); for tasks whose agents do not see everything.
    With mappo and ippo only."""
    environments: Annotated[int, Field(ge=1, le=1_000_000)] = 128
    """Parallel environments of a rollout."""
    rollout_steps: Count | None = None
    """Steps of a rollout per environment; the task's horizon when None. Every rollout starts fresh episodes."""
    learning_rate: Positive = 3e-3
    """Adam step size of actor and critic; qmix and vdn have their own."""
    discount: Fraction = 0.99
    """gamma of returns and of the shaping."""
    gae_lambda: Fraction = 0.8
    """lambda of generalised advantage estimation (Schulman et al. 2016); like all that follows down to ``entropy``, of
    mappo and ippo alone."""
    epochs: Annotated[int, Field(ge=1, le=1_000)] = 4
    """Passes over a rollout per update."""
    minibatches: Count = 8
    """Minibatches per pass."""
    clip: Positive = 0.2
    """Clipping range of the probability ratio (and of the value change)."""
    largest_kl: Positive | None = None
    """An update ends early once the policy is this far from the one that acted (approximate KL, nats); None: never."""
    entropy: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Weight of the entropy bonus."""
    max_gradient_norm: Positive = 10.0
    """The gradient of each network is scaled down to this norm."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where the networks live; tasks and replay stay on the CPU."""
    q_learning: QLearningSettings = QLearningSettings()
    """What qmix and vdn need besides."""

    @property
    def learns_values(self) -> bool:
        """Whether the algorithm learns action values, off policy, and has ``q_learning`` settings."""
        return self.algorithm in ("qmix", "vdn")

    @model_validator(mode="after")
    def _feed_forward_values(self) -> LearnerSettings:
        if self.learns_values and self.memory != "none":
            raise ValueError(
                f"found memory {self.memory!r} with algorithm {self.algorithm!r}, expected mappo or ippo with it; set "
                "memory to 'none' or choose one of them"
            )
        return self

    def refuse(self, task: TaskSpec) -> None:
        """``CannotLearn`` where the algorithm cannot learn ``task``."""
        if self.learns_values and task.continuous:
            raise CannotLearn(
                f"Task {task.name} has continuous actions and {self.algorithm} learns values of discrete ones; use "
                "mappo or ippo."
            )
        steps, kind = (1, "sequences") if self.memory == "gru" else (self.rollout_steps or task.horizon, "joint states")
        samples = steps * self.environments
        if not self.learns_values and self.minibatches > samples:
            raise CannotLearn(
                f"The learner got {self.minibatches} minibatches of {samples} {kind}, expected one or more in each; "
                f"use at most {samples} minibatches or more environments."
            )


When = Literal["every", "later half", "last", "never"]
"""At which points of a segment something is played; the later half is rounded up."""


class PlayedSets(Frozen):
    """When each set of episodes is played. Sessions and studies set it by what a segment is for."""

    query: When = "every"
    """What agents look at; played at the last point, their behaviour is recorded."""
    screen: When = "every"
    """What screening compares."""
    confirm: When = "every"
    """What is held out for confirmation."""
    report: When = "never"
    """What is reported, and never selected by."""


class EvaluationSettings(Frozen):
    """How often and on how many episodes a segment is evaluated, always unshaped."""

    episodes: Annotated[int, Field(ge=2, le=1_000_000)] = 256
    """Episodes in each of the four disjoint evaluation sets (query, screen, confirm, report)."""
    share: Positive | None = 0.1
    """Env steps that a confirmation branch of a session plays on its own held-out episodes, as a share of those it
    trains. They are at least 64, or ``episodes`` where these are fewer; a screening branch has as many. None: both have
    ``episodes``, whatever they train."""
    points: Annotated[int, Field(ge=2, le=10_000)] = 4
    """Evaluations per segment, evenly spaced, the last at its end."""
    policy: Literal["sampled", "greedy"] = "sampled"
    """Whether evaluation draws actions from the policy or takes the most probable one."""
    played: PlayedSets = PlayedSets()
    """At which of the points each set is played."""


class RunSettings(Frozen):
    """Everything besides (parent, shaping, env steps, seed) that a segment's result depends on.

    What is not given of learner and evaluation is what ``marl.hyperparameters`` recommends for the task, whether the
    rest is given as a mapping or as a record: of a record, the fields count that were set when it was made.
    """

    task: str = "spread"
    """Task name, with options after '?', e.g. ``spread?agents=5``."""
    learner: LearnerSettings = LearnerSettings()
    """The algorithm and its hyper-parameters."""
    evaluation: EvaluationSettings = EvaluationSettings()
    """How often a segment is evaluated, and on how many episodes."""
    evaluation_seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the evaluation episodes (the same in every arm of a comparison)."""
    held_out_seed: Annotated[int, Field(ge=0)] | None = None
    """Seed of the screen and confirm episodes and of the actions drawn in them; None: ``evaluation_seed``.

    Sessions set it by the seed of a branch, so that branches have episodes of their own.
    """

    @model_validator(mode="before")
    @classmethod
    def _recommended(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        task = given.get("task", cls.model_fields["task"].default)
        if not isinstance(task, str):
            return given
        completed = dict(given)
        for name, complete in (("learner", recommended), ("evaluation", recommended_evaluation)):
            settings = given.get(name, {})
            if isinstance(settings, BaseModel):
                settings = settings.model_dump(exclude_unset=True)
            if isinstance(settings, Mapping):
                completed[name] = complete(task, settings)
        return completed
