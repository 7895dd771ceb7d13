"""Plays a policy (or a task's own heuristic) in fresh episodes: what it scores, and what it looks like."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from learning_signal.marl.gate.statistics import interval
from learning_signal.marl.paths import inside
from learning_signal.marl.policies.files import LoadedPolicy
from learning_signal.marl.randomness import derive, episode_seeds
from learning_signal.marl.settings import Frozen
from learning_signal.marl.tasks import make_task as make_known_task
from learning_signal.marl.tasks.base import Task, allowed_actions, declared_progress
from learning_signal.marl.tasks.picture import Picture, animate

BATCH = 64
"""Episodes that are played in parallel: a user's own environment may be large."""
LEVEL = 0.95

MakeTask = Callable[[str, int], Task]


MOST_EPISODES = 1_000_000


class PlayError(ValueError):
    """Nothing can be played like this; one sentence."""


class NoHeuristic(PlayError):
    """The task has no scripted policy."""


class Score(Frozen):
    """What a policy, or a heuristic, came to over all episodes."""

    sparse_return: float
    """Mean over the episodes."""
    low: float
    high: float
    """Bounds of the 95 % Student-t interval of that mean."""
    scored: float
    """Share of the episodes with a sparse return above 0."""
    progress: float | None
    """Mean over the episodes of the mean over their steps; None where the task declares none."""
    steps: float
    """Mean length of an episode."""
    sparse_returns: tuple[float, ...]
    """Of each episode."""


class Shown(Frozen):
    """What ``show`` measured and wrote."""

    task: str
    episodes: int
    seed: int
    scores: dict[str, Score]
    """By who played: ``policy (greedy)``, ``policy (sampled)`` or ``heuristic``."""
    animations: dict[str, Path]
    """The GIF of the ``best`` and of the ``median`` episode of the first in ``scores``."""


@dataclass(frozen=True)
class Played:
    """Episodes that were played to their ends, the same as ``seeds`` say whoever acted."""

    seeds: np.ndarray
    """``[n]`` uint64."""
    actions: np.ndarray
    """``[T, n, A]`` or ``[T, n, A, D]``: what was done; beyond an episode's length it means nothing."""
    lengths: np.ndarray
    """``[n]`` int64."""
    returns: np.ndarray
    """``[n]`` float64: sparse."""
    progress: np.ndarray | None
    """``[n]`` float64: mean over the steps."""

    def score(self) -> Score:
        """Means and intervals; raises ``ValueError`` for fewer than two episodes."""
        low, high = interval(self.returns, LEVEL)
        return Score(
            sparse_return=float(self.returns.mean()),
            low=low,
            high=high,
            scored=float((self.returns > 0).mean()),
            progress=None if self.progress is None else float(self.progress.mean()),
            steps=float(self.lengths.mean()),
            sparse_returns=tuple(self.returns.tolist()),
        )

    def notable(self) -> dict[str, int]:
        """The best episode and the median one, by return and then by progress; the earlier where they are equal."""
        keys = (np.zeros_like(self.returns) if self.progress is None else self.progress, self.returns)
        order = np.lexsort(keys)
        last = len(order) - 1
        best = next(index for index in range(len(order)) if all(key[index] == key[order[last]] for key in keys))
        return {"best": best, "median": int(order[last // 2])}


def refuse_unplayable(episodes: int, seed: int) -> None:
    """``PlayError`` for fewer than two or more than ``MOST_EPISODES`` episodes, or a negative seed."""
    if not 2 <= episodes <= MOST_EPISODES:
        raise PlayError(f"Found {episodes} episodes, expected 2 to {MOST_EPISODES:,}: an interval needs that, no more.")
    if seed < 0:
        raise PlayError(f"Found the seed {seed}, expected 0 or more: give another.")


def show(
    task_name: str,
    policy: LoadedPolicy | None,
    episodes: int,
    seed: int,
    folder: Path,
    report: Callable[[int, int], None] | None = None,
    make_task: MakeTask = make_known_task,
) -> Shown:
    """Play a policy, once greedy and once drawing its actions, and the task's heuristic, all in the same episodes.

    Animates what was asked for: ``policy`` as it is, the heuristic where it is None. Value learners' policies have
    nothing to draw from, many tasks no heuristic. The GIFs are written to ``folder``. Raises what ``play`` raises.
    """
    played = play(task_name, policy, episodes, seed, report, make_task)
    scores = {_who(policy): played.score()}
    if policy is not None:
        if not policy.description.learner.learns_values:
            other = LoadedPolicy(policy.policy, policy.description, sampled=not policy.sampled, seed=seed)
            scores[_who(other)] = play(task_name, other, episodes, seed, report, make_task).score()
        try:
            scores["heuristic"] = play(task_name, None, episodes, seed, report, make_task).score()
        except NoHeuristic:
            pass
    animations = {}
    for name, episode in played.notable().items():
        animations[name] = inside(folder, f"{name}.gif")
        film(task_name, played, episode, animations[name], f"{name} of {episodes}", make_task)
    return Shown(task=task_name, episodes=episodes, seed=seed, scores=scores, animations=animations)


def _who(policy: LoadedPolicy | None) -> str:
    return "heuristic" if policy is None else f"policy ({'sampled' if policy.sampled else 'greedy'})"


def play(
    task_name: str,
    policy: LoadedPolicy | None,
    episodes: int,
    seed: int,
    report: Callable[[int, int], None] | None = None,
    make_task: MakeTask = make_known_task,
) -> Played:
    """Play ``episodes`` fresh episodes drawn from ``seed``; ``policy`` None plays the task's heuristic.

    ``report`` is told the steps played and to play, at most. Raises ``NoHeuristic`` where the task has none,
    ``PlayError`` as ``refuse_unplayable`` does, ``PolicyFileError`` where the policy knows other observations.
    """
    refuse_unplayable(episodes, seed)
    seeds = episode_seeds(derive(seed, "play"), 0, episodes)
    size = min(BATCH, episodes)
    batches = -(-episodes // size)
    # The last batch is filled up with the first episodes, which are then left out.
    filled = np.resize(seeds, batches * size).reshape(batches, size)
    task = make_task(task_name, size)
    try:
        horizon, parts = task.spec.horizon, []
        for number, here in enumerate(filled):

            def tell(step: int, before: int = number * horizon) -> None:
                if report is not None:
                    report(before + step, batches * horizon)

            parts.append(_play_batch(task, policy, here, tell))
    finally:
        close(task)
    actions, lengths, returns, progress = zip(*parts, strict=True)
    return Played(
        seeds=seeds,
        actions=np.concatenate(actions, axis=1)[:, :episodes],
        lengths=np.concatenate(lengths)[:episodes],
        returns=np.concatenate(returns)[:episodes],
        progress=None if progress[0] is None else np.concatenate(progress)[:episodes],
    )


def _play_batch(task: Task, policy: LoadedPolicy | None, seeds: np.ndarray, tell: Callable[[int], None]) -> tuple:
    """Actions, lengths, returns and mean progress (None without) of one batch."""
    spec, count = task.spec, len(seeds)
    active, lengths, returns = np.ones(count, bool), np.zeros(count, np.int64), np.zeros(count)
    progress = None if spec.progress is None else np.zeros(count)
    joint = (count, spec.agents, spec.actions) if spec.continuous else (count, spec.agents)
    actions = np.zeros((spec.horizon, *joint), np.float32 if spec.continuous else np.int64)
    observations = task.reset(seeds)
    if policy is not None:
        policy.reset()
    elif task.heuristic() is None:
        raise NoHeuristic(f"The task {spec.name} has no heuristic, expected one to play: play a policy on it.")
    for t in range(spec.horizon):
        actions[t] = task.heuristic() if policy is None else policy.act(observations, allowed_actions(task))
        observations, reward, terminated, truncated, _ = task.step(actions[t])
        returns[active] += reward[active]
        lengths += active
        if progress is not None:
            progress[active] += declared_progress(task)[active]
        ended = terminated | truncated
        active &= ~ended
        tell(t + 1)
        if not active.any():
            break
        if ended.any():
            # An ended episode may not be stepped on: it starts again, uncounted.
            observations = task.reset(seeds, ended)
            if policy is not None:
                policy.reset(ended)
    return actions, lengths, returns, None if progress is None else progress / lengths


def film(
    task_name: str, played: Played, episode: int, path: Path, title: str, make_task: MakeTask = make_known_task
) -> None:
    """Write an animation (GIF) of one episode to ``path``: an episode is a function of its seed and its actions.

    ``title`` is how its captions begin.
    """
    task = make_task(task_name, 1)
    try:
        task.reset(played.seeds[episode : episode + 1])
        length, total = int(played.lengths[episode]), 0.0
        pictures = [_captioned(task, title, 0, length, total)]
        for t in range(length):
            step = task.step(played.actions[t, episode : episode + 1])
            total += float(step.reward[0])
            pictures.append(_captioned(task, title, t + 1, length, total))
    finally:
        close(task)
    if not np.isclose(total, played.returns[episode], rtol=1e-5, atol=1e-5):
        raise PlayError(
            f"Played again with the same seed and actions, an episode of {task_name} returned {total:g} instead of "
            f"{played.returns[episode]:g}: the command 'check-env' says what its randomness does not come from."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    animate(pictures, path)


def _captioned(task: Task, title: str, step: int, length: int, total: float) -> Picture:
    return replace(task.draw(0), caption=f"{title}: step {step} of {length}, return {total:g}")


def close(task: Task) -> None:
    """Release the resources of a task (windows, worker processes), if it has any."""
    if hasattr(task, "close"):
        task.close()
