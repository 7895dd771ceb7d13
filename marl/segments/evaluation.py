"""Evaluation: the unshaped return of a policy on four disjoint, fixed sets of episodes, and a record of behaviour.

Episodes and action draws are pure functions of the run's evaluation seed (of its held-out seed in the screen and
confirm sets, where it has one): every evaluation of every segment with the same seeds plays the same episodes (common
random numbers), and nothing is drawn from a training generator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch

from learning_signal.marl.learners.policy import Inputs, Player, Policy, greedy, sample
from learning_signal.marl.randomness import uniforms
from learning_signal.marl.segments.points import Use, seeds_of
from learning_signal.marl.segments.records import SETS, BehaviourRecord, Evaluation
from learning_signal.marl.settings import RunSettings
from learning_signal.marl.tasks.base import Task, TaskSpec, allowed_actions, declared_progress


class NotFinite(RuntimeError):
    """An evaluation gave NaN or an infinite number; one sentence."""


COPIES = 64
"""A user's own environment may be large and is stepped one by one: more copies of it than that gain nothing."""


def evaluation_environments(run: RunSettings, sets: tuple[str, ...] = SETS) -> int:
    """How many environments an evaluation of ``run`` on these sets steps at once.

    All sets together. Of a user's own environments a set, which holds all of its episodes where they are recorded.
    """
    episodes = run.evaluation.episodes
    if ":" not in run.task:
        return episodes * len(sets)
    return episodes if "query" in sets or episodes % COPIES else COPIES


class Evaluator:
    """Plays sets of ``n`` episodes, all at once or a part after the other, as many as the task holds."""

    def __init__(self, run: RunSettings, task: Task, sets: tuple[str, ...] = SETS) -> None:
        """``task`` must have ``n = run.evaluation.episodes`` environments, ``n`` for each of ``sets``, or a part of
        ``n``.

        ``sets`` are in the order of ``SETS``. Nothing else may step the task in the middle of an evaluation.
        """
        self.run, self.task, self.sets = run, task, sets
        self.episodes = run.evaluation.episodes
        if task.environments != len(sets) * self.episodes and self.episodes % task.environments:
            raise ValueError(
                f"The evaluation task has {task.environments} environments, expected {len(sets)} sets of "
                f"{self.episodes} episodes, one or a part; make it with {len(sets) * self.episodes} or "
                f"{self.episodes}."
            )
        self._seeds = self._set_seeds("evaluation episodes")
        self._action_seeds = self._set_seeds("evaluation actions")
        self._inputs = Inputs(task.spec, (task.environments,))

    def _set_seeds(self, use: Use) -> np.ndarray:
        """One seed ``[sets * n]`` per episode, set after set."""
        return np.concatenate([seeds_of(self.run, name, use) for name in self.sets])

    def evaluate(
        self, policy: Policy, env_steps: int, *, record: bool
    ) -> tuple[list[Evaluation], BehaviourRecord | None]:
        """Results of the sets at position ``env_steps``, and with ``record`` the behaviour in the query set.

        Raises ``NotFinite`` where the task gives NaN or infinity: such a number is no result, and once stored it
        would come back as missing. ``ValueError`` where the query set is to be recorded and not played, or in parts.
        """
        if record and (self.sets[:1] != SETS[:1] or self.task.environments < self.episodes):
            raise ValueError(
                f"found the sets {', '.join(self.sets)} in {self.task.environments} environments, expected query first "
                f"and all of its {self.episodes} episodes at once: its behaviour is recorded"
            )
        spec, count = self.task.spec, len(self.sets) * self.episodes
        lengths, returns = np.zeros(count, np.int64), np.zeros(count)
        progress = None if spec.progress is None else np.zeros(count)
        recorder = _Recorder(self.task, self.episodes) if record else None
        for first in range(0, count, self.task.environments):
            part = slice(first, first + self.task.environments)
            sums = None if progress is None else progress[part]
            # The query set comes first: what is recorded is in the first batch.
            self._play(policy, env_steps, part, lengths[part], returns[part], sums, None if first else recorder)
        self._refuse_not_finite(returns, "a sparse return", env_steps)
        means = None if progress is None else progress / lengths
        if means is not None:
            self._refuse_not_finite(means, "a progress", env_steps)
        behaviour = None
        if recorder:
            for name, values in recorder.features.items():
                played = np.arange(len(values))[:, None] <= lengths[: self.episodes]
                self._refuse_not_finite(values[played], f"the feature {name!r}", env_steps)
            behaviour = recorder.finish(lengths, returns, means)
        return [
            self._set_result(index, env_steps, lengths, returns, means) for index in range(len(self.sets))
        ], behaviour

    def _play(
        self,
        policy: Policy,
        env_steps: int,
        part: slice,
        lengths: np.ndarray,
        returns: np.ndarray,
        progress: np.ndarray | None,
        recorder: _Recorder | None,
    ) -> None:
        """Play the episodes ``part`` and add up their steps, sparse rewards and progress: ``[E]`` each, from 0."""
        task, seeds = self.task, self._seeds[part]
        active = np.ones(task.environments, bool)
        player = Player(policy, task.environments)
        observations, acting = task.reset(seeds), None
        if recorder:
            recorder.state(0, active)
        for t in range(task.spec.horizon):
            self._refuse_not_finite(observations, "an observation", env_steps)
            actions = self._act(player, observations, self._action_seeds[part], t)
            observations, reward, terminated, truncated, alive = task.step(actions)
            returns[active] += reward[active]
            lengths += active
            if progress is not None:
                progress[active] += declared_progress(task)[active]
            if recorder:
                recorder.transition(t, actions, acting, reward, active)
            acting = alive
            ended = terminated | truncated
            active &= ~ended
            if not active.any():
                break
            if ended.any():
                # An ended episode may not be stepped on: it starts again, uncounted, to keep the batch whole.
                observations = task.reset(seeds, ended)
                player.forget(ended)

    def _act(self, player: Player, observations: np.ndarray, seeds: np.ndarray, t: int) -> np.ndarray:
        """The joint actions of step ``t``, drawn from ``seeds [E]``."""
        spec, policy = self.task.spec, player.policy
        self._inputs.write(observations)
        draws = uniforms(seeds, spec.agents * policy.distribution.width, stream=t)
        # Rounding a double just below 1 to single precision gives 1, which is outside [0, 1).
        draws = np.minimum(draws.astype(np.float32), np.float32(1 - 2**-24))
        drawn = torch.from_numpy(draws.reshape(len(draws), spec.agents, -1)).to(policy.device)
        choose = sample if self.run.evaluation.policy == "sampled" else greedy
        allowed = allowed_actions(self.task)
        masks = None if allowed is None else torch.from_numpy(allowed)
        actions = player.act(self._inputs.groups, drawn, choose, allowed=masks).numpy()
        return np.clip(actions, -1.0, 1.0) if spec.continuous else actions.copy()

    def _refuse_not_finite(self, values: np.ndarray, what: str, env_steps: int) -> None:
        if not np.isfinite(values).all():
            found = "NaN" if np.isnan(values).any() else "infinity"
            raise NotFinite(
                f"the evaluation gave {found} at env step {env_steps} ({what} of task {self.task.spec.name}), "
                "expected finite numbers; correct the task"
            )

    def _set_result(
        self, index: int, env_steps: int, lengths: np.ndarray, returns: np.ndarray, means: np.ndarray | None
    ) -> Evaluation:
        part = slice(index * self.episodes, (index + 1) * self.episodes)
        return Evaluation(
            env_steps=env_steps,
            set=self.sets[index],
            sparse_returns=tuple(returns[part].tolist()),
            progress=None if means is None else tuple(means[part].tolist()),
            episode_steps=int(lengths[part].sum()),
        )


def evaluators(
    run: RunSettings, together: Iterable[tuple[str, ...]], make_task: Callable[[str, int], Task]
) -> dict[tuple[str, ...], Evaluator]:
    """An evaluator for each of the combinations of sets that are played together; those of one size share a task."""
    tasks: dict[int, Task] = {}
    made = {}
    for sets in dict.fromkeys(together):
        size = evaluation_environments(run, sets)
        if size not in tasks:
            tasks[size] = make_task(run.task, size)
        made[sets] = Evaluator(run, tasks[size], sets)
    return made


class _Recorder:
    """Collects the behaviour of the first ``n`` environments: the query set."""

    def __init__(self, task: Task, episodes: int) -> None:
        spec, self.task, self.episodes = task.spec, task, episodes
        steps = spec.horizon
        scopes = {"team": (), "agent": (spec.agents,)}
        self.features = {
            feature.name: np.full((steps + 1, episodes, *scopes[feature.scope]), np.nan, np.float32)
            for feature in spec.features
        }
        self.actions = _no_actions(spec, steps, episodes)
        sizes = np.zeros(spec.agents, np.int64)
        for group in spec.groups:
            sizes[list(group.agents)] = group.actions
        self._has_number = np.arange(spec.actions) < sizes[:, None]
        self.rewards = np.full((steps, episodes), np.nan, np.float32)
        self.progress = None if spec.progress is None else np.full((steps + 1, episodes), np.nan, np.float32)

    def state(self, t: int, active: np.ndarray) -> None:
        """Write down the current states of the episodes that are ``active``."""
        rows = active[: self.episodes]
        current = self.task.features()
        for name, buffer in self.features.items():
            buffer[t, rows] = current[name][: self.episodes][rows]
        if self.progress is not None:
            self.progress[t, rows] = declared_progress(self.task)[: self.episodes][rows]

    def transition(
        self, t: int, actions: np.ndarray, acting: np.ndarray | None, reward: np.ndarray, active: np.ndarray
    ) -> None:
        """Write down transition ``t`` and the states after it, before any reset; ``acting`` as in ``Step.alive``."""
        rows = active[: self.episodes]
        taken = np.broadcast_to(rows[:, None], (self.episodes, self.task.spec.agents))
        if acting is not None:
            taken = taken & acting[: self.episodes]
        if self.task.spec.continuous:
            taken = taken[:, :, None] & self._has_number
        self.actions[t, taken] = actions[: self.episodes][taken]
        self.rewards[t, rows] = reward[: self.episodes][rows]
        self.state(t + 1, active)

    def finish(self, lengths: np.ndarray, returns: np.ndarray, means: np.ndarray | None) -> BehaviourRecord:
        part = slice(0, self.episodes)
        return BehaviourRecord(
            task=self.task.spec.name,
            features=self.features,
            actions=self.actions,
            rewards=self.rewards,
            progress=self.progress,
            lengths=lengths[part].copy(),
            sparse_returns=returns[part].copy(),
            progress_means=None if means is None else means[part].copy(),
        )


def _no_actions(spec: TaskSpec, steps: int, episodes: int) -> np.ndarray:
    """The actions of a ``BehaviourRecord`` before any agent acted."""
    if spec.continuous:
        return np.full((steps, episodes, spec.agents, spec.actions), np.nan, np.float32)
    return np.full((steps, episodes, spec.agents), -1, np.int8 if spec.actions <= 127 else np.int16)
