"""Policies as files: ``policy.safetensors`` (the weights, by name) and ``policy.json`` (what they are, and whose).

    policy = load_policy("runs/policies/SESSION")
    actions = policy.act(observations)

Nothing else is needed to act: no checkpoint, no ledger, no task.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from learning_signal.marl.files import UnreadableFile, read_bytes
from learning_signal.marl.gate.statistics import interval
from learning_signal.marl.learners import make_learner, make_policy
from learning_signal.marl.learners.policy import Inputs, Player, Policy, greedy, sample
from learning_signal.marl.learners.weights import named_weights
from learning_signal.marl.paths import inside
from learning_signal.marl.segments.checkpoint import load_checkpoint
from learning_signal.marl.segments.late import complete
from learning_signal.marl.segments.segment import SegmentStore
from learning_signal.marl.segments.version import code_version
from learning_signal.marl.settings import Count, Frozen, LearnerSettings, RunSettings
from learning_signal.marl.shaping import ShapingConfig
from learning_signal.marl.tasks import make_task as make_known_task
from learning_signal.marl.tasks.base import Group, Task, TaskSpec

WEIGHTS, DESCRIPTION = "policy.safetensors", "policy.json"
FORMAT: Final = 1
MOST_WEIGHTS = 2**30
"""Bytes; no policy of ours comes near."""


class PolicyFileError(ValueError):
    """A policy cannot be read, or not be used like this; one sentence."""


class GroupDescription(Frozen):
    """Agents that share one network; see ``marl.tasks.base.Group``."""

    name: str
    agents: tuple[int, ...]
    observation_size: Count
    actions: Count


class MeasuredReturn(Frozen):
    """The sparse return of a policy on held-out episodes, unshaped."""

    episodes: int
    sparse_return: float
    """Mean over the episodes."""
    low: float
    high: float
    """Bounds of the 95 % Student-t interval of the mean."""
    progress: float | None
    """Mean over the episodes; None where the task declares none."""
    policy: Literal["sampled", "greedy"]
    """How actions were chosen."""


class PolicyDescription(Frozen):
    """What ``policy.json`` says."""

    format: Literal[1] = FORMAT
    task: str
    agents: Count
    observation_size: Count
    """Numbers of one agent's row of observations; those of a group may fill only its beginning."""
    actions: Count
    """Actions to choose from or, where actions are continuous, numbers in [-1, 1] of one action."""
    action_names: tuple[str, ...]
    continuous: bool
    masks_actions: bool = False
    """Whether it must be told which actions are allowed."""
    groups: tuple[GroupDescription, ...]
    input: str = "the agent's observation, then a 1 at its place in its group and 0 at the others"
    """What a network sees, in this order."""
    activation: Literal["tanh"] = "tanh"
    """Of the hidden layers."""
    learner: LearnerSettings
    """Algorithm, memory, units of the hidden layers, and how it was trained."""
    env_steps: int
    """Env steps of training, ancestors included."""
    segment: str
    """Id of the segment whose checkpoint this is."""
    shaping: dict[str, Any]
    """The shaping it was trained under last."""
    evaluation: MeasuredReturn
    code_version: str
    seal: str | None = None
    """Of the record of the session that trained it, where one did: ``log verify --seal`` takes it."""

    @classmethod
    def of(cls, spec: TaskSpec, learner: LearnerSettings, **provenance: Any) -> PolicyDescription:
        """The description of a policy for ``spec``; ``provenance`` are the fields from ``env_steps`` on."""
        groups = [
            GroupDescription(
                name=each.name, agents=each.agents, observation_size=each.observation_size, actions=each.actions
            )
            for each in spec.groups
        ]
        same = ("agents", "observation_size", "actions", "action_names", "continuous", "masks_actions")
        return cls(
            task=spec.name,
            groups=tuple(groups),
            learner=learner,
            **{name: getattr(spec, name) for name in same},
            **provenance,
        )

    def spec(self) -> TaskSpec:
        """As much of the task's declaration as acting needs."""
        return TaskSpec(
            name=self.task,
            description="",
            sparse_reward="",
            agents=self.agents,
            observation_size=self.observation_size,
            state_size=1,
            actions=self.actions,
            action_names=self.action_names,
            idle_action=None,
            horizon=1,
            max_return=None,
            features=(),
            progress=None,
            continuous=self.continuous,
            groups=tuple(Group(each.name, each.agents, each.observation_size, each.actions) for each in self.groups),
            masks_actions=self.masks_actions,
        )


def save_policy(folder: str | Path, policy: Policy, description: PolicyDescription) -> None:
    """Write ``policy.safetensors`` and ``policy.json`` to ``folder``, made where it is missing."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.cpu().contiguous() for name, tensor in named_weights(policy).items()}
    # The description comes last: where it stands, the weights are there. Neither is ever half written.
    partial = inside(folder, WEIGHTS + ".partial")
    partial.write_bytes(save(tensors, {"task": description.task, "segment": description.segment}))
    os.replace(partial, folder / WEIGHTS)
    partial = inside(folder, DESCRIPTION + ".partial")
    partial.write_text(description.model_dump_json(indent=2) + "\n", encoding="utf-8")
    os.replace(partial, folder / DESCRIPTION)


def load_policy(folder: str | Path, *, sampled: bool = False, seed: int = 0) -> LoadedPolicy:
    """The policy that ``save_policy`` wrote to ``folder``, ready to act on the CPU.

    ``sampled`` draws actions, from ``seed``, instead of taking the most probable one. Raises ``PolicyFileError``.
    """
    folder = Path(folder)
    description = _description(folder / DESCRIPTION)
    policy = make_policy(description.spec(), description.learner)
    _fill(policy, _weights(folder / WEIGHTS), folder / WEIGHTS)
    return LoadedPolicy(policy, description, sampled=sampled, seed=seed)


def export_segment(
    folder: str | Path,
    segment: str,
    store: SegmentStore,
    run: RunSettings,
    shaping: ShapingConfig,
    make_task: Callable[[str, int], Task] = make_known_task,
    seal: str | None = None,
) -> PolicyDescription:
    """Write the policy at the end of a stored segment to ``folder``, measured as ``SegmentResult.reported`` says.

    ``run`` and ``shaping`` are those it was trained with, ``seal`` is of the session's record.

    Raises ``SegmentFailed`` where the store lacks the segment, ``CheckpointError`` where the checkpoint cannot be read.
    """
    result = complete(store, run, segment)
    spec = make_task(run.task, 1).spec
    settings = run.learner.model_copy(update={"device": "cpu"})
    learner = make_learner(spec, settings, 0)
    load_checkpoint(store.checkpoint_path(segment), learner)
    last = result.reported
    low, high = interval(last.sparse_returns, 0.95)
    description = PolicyDescription.of(
        spec,
        settings,
        env_steps=result.end_env_steps,
        segment=segment,
        shaping=shaping.canonical(),
        evaluation=MeasuredReturn(
            episodes=len(last.sparse_returns),
            sparse_return=last.sparse_return,
            low=low,
            high=high,
            progress=last.mean_progress,
            policy="greedy" if settings.learns_values else run.evaluation.policy,
        ),
        code_version=code_version(),
        seal=seal,
    )
    save_policy(folder, learner.policy, description)
    return description


class LoadedPolicy:
    """A policy that acts in any number of environments at once."""

    def __init__(self, policy: Policy, description: PolicyDescription, *, sampled: bool, seed: int) -> None:
        """See ``load_policy``."""
        if sampled and description.learner.learns_values:
            raise PolicyFileError(
                f"The {description.learner.algorithm} policy for {description.task} was asked to draw its actions, but "
                "it holds values and no probabilities: leave 'sampled' out."
            )
        self.policy, self.description, self.sampled = policy, description, sampled
        self._choose = sample if sampled else greedy
        self._generator = np.random.Generator(np.random.PCG64(seed))
        self._player: Player | None = None
        self._inputs: Inputs | None = None

    def reset(self, where: np.ndarray | None = None) -> None:
        """New episodes begin, in every environment or ``where [E]`` is True: forget what was seen there.

        Only policies with memory remember anything. After ``reset()`` the number of environments may change.
        """
        if where is None:
            self._player = None
        elif self._player is not None:
            self._player.forget(np.asarray(where, bool))

    def act(self, observations: np.ndarray, allowed: np.ndarray | None = None) -> np.ndarray:
        """Joint actions ``[E, A]`` int64 (continuous: ``[E, A, D]`` float32 in [-1, 1]) for ``[E, A, O]``.

        ``allowed [E, A, actions]`` bool says which actions may be chosen, on a task that forbids some; every row has
        one. Raises ``PolicyFileError`` for observations or masks of another shape, and for a mask that is missing.
        """
        spec = self.policy.spec
        observations = np.asarray(observations, np.float32)
        if observations.ndim != 3 or observations.shape[1:] != (spec.agents, spec.observation_size):
            raise PolicyFileError(
                f"The policy for {spec.name} got observations of shape {observations.shape}, expected environments x "
                f"{spec.agents} agents x {spec.observation_size}: give it the observations of that task."
            )
        environments = len(observations)
        masks = self._masks(allowed, environments)
        if self._player is None or self._inputs is None:
            self._player, self._inputs = Player(self.policy, environments), Inputs(spec, (environments,))
        elif self._player.environments != environments:
            raise PolicyFileError(
                f"The policy for {spec.name} acted in {self._player.environments} environments and now got "
                f"{environments}: call reset() before the number changes."
            )
        self._inputs.write(observations)
        shape = (environments, spec.agents, self.policy.distribution.width)
        draws = torch.from_numpy(self._generator.random(shape, dtype=np.float32))
        actions = self._player.act(self._inputs.groups, draws, self._choose, allowed=masks).numpy()
        return np.clip(actions, -1.0, 1.0) if spec.continuous else actions.copy()

    def _masks(self, allowed: np.ndarray | None, environments: int) -> Tensor | None:
        spec = self.policy.spec
        shape = (environments, spec.agents, spec.actions) if spec.masks_actions else None
        found = None if allowed is None else np.shape(allowed)
        if found != shape:
            given = "no mask" if found is None else f"a mask of shape {found}"
            expected = "none" if shape is None else f"one of shape {shape}"
            raise PolicyFileError(
                f"The policy for {spec.name} got {given}, expected {expected}: give the mask of a task that has one."
            )
        if allowed is None:
            return None
        masks = torch.from_numpy(np.asarray(allowed, bool))
        if not bool(masks.any(2).all()):
            raise PolicyFileError(
                f"The policy for {spec.name} got a mask that allows an agent nothing, expected one action at least: "
                "allow an agent that has left everything."
            )
        return masks


def _description(path: Path) -> PolicyDescription:
    try:
        return PolicyDescription.model_validate_json(read_bytes(path))
    except FileNotFoundError:
        raise PolicyFileError(
            f"There is no {DESCRIPTION} in {path.parent}, expected a folder with an exported policy: export one "
            "with the command 'export SESSION'."
        ) from None
    except OSError as error:
        reason = (error.strerror or "it cannot be opened").lower()
        raise PolicyFileError(f"The policy {path} cannot be read ({reason}): check the path.") from None
    except UnreadableFile as error:
        raise PolicyFileError(f"{path} {error}.") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "the whole file"
        raise PolicyFileError(
            f"{path} is not the description of a policy of format {FORMAT} ({place}: {first['msg']}): export it "
            "again with this version."
        ) from None


def _weights(path: Path) -> Mapping[str, Tensor]:
    try:
        return load(read_bytes(path, MOST_WEIGHTS))
    except FileNotFoundError:
        raise PolicyFileError(
            f"There is no {WEIGHTS} in {path.parent}, expected it beside {DESCRIPTION}: copy both, or export again."
        ) from None
    except UnreadableFile as error:
        raise PolicyFileError(f"{path} {error}.") from None
    except (OSError, SafetensorError) as error:
        raise PolicyFileError(
            f"The weights {path} cannot be read ({' '.join(str(error).split())}), expected a safetensors file: "
            "export the policy again."
        ) from None


def _fill(policy: Policy, stored: Mapping[str, Tensor], path: Path) -> None:
    """Put the stored weights into the networks; ``PolicyFileError`` where they are not those of its description."""
    expected = named_weights(policy)
    found = {name: tuple(tensor.shape) for name, tensor in stored.items()}
    for name in dict.fromkeys([*expected, *found]):
        wanted = tuple(expected[name].shape) if name in expected else None
        if found.get(name) != wanted:
            raise PolicyFileError(
                f"{path} holds {found.get(name) or 'nothing'} for {name}, but {DESCRIPTION} describes "
                f"{wanted or 'nothing'}: use two files of one export."
            )
    for name, tensor in expected.items():
        if not torch.isfinite(stored[name]).all():
            raise PolicyFileError(
                f"{path} holds NaN or infinity in {name}, expected finite weights: such a policy decides nothing; "
                "export another one."
            )
        tensor.copy_(stored[name])
