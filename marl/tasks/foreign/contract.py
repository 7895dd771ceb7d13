"""Whether a PettingZoo environment keeps its contract: whole random episodes, and every breach as one sentence."""

from __future__ import annotations

from typing import Any

import numpy as np

from learning_signal.marl.errors import EnvironmentFailed, EnvironmentRefused, TaskOptionError, UnknownTask
from learning_signal.marl.randomness import derive, episode_seeds
from learning_signal.marl.tasks.foreign.checked_episode import CheckedEpisode, Finding, Report, Unplayable
from learning_signal.marl.tasks.foreign.declaration import Source, load
from learning_signal.marl.tasks.foreign.layout import Layout, survey
from learning_signal.marl.tasks.foreign.task import Foreign

__all__ = ["Finding", "check_environment"]
MOST_EPISODES = 10_000
LARGE = 20.0
"""A value of an observation above this is of another unit than networks take."""


def check_environment(name: str, episodes: int = 10) -> list[Finding]:
    """Play the environment ``name`` (as for `marl.tasks.make_task`) and return what is wrong, errors first.

    Whole episodes of ``episodes`` seeds (two at least) with random actions: on the bare environment, then as the
    trainer plays it. Every check reports its first finding only, and an environment that cannot go on is played no
    further. Raises ``EnvironmentRefused`` for another number of episodes than 2 to ``MOST_EPISODES``.
    """
    refuse_episodes(episodes)
    report = Report()
    try:
        source = load(name)
        task = Foreign(1, name, workers=1)
        env = source.make()
        layout = survey(source, env)
    except (UnknownTask, TaskOptionError, EnvironmentRefused, EnvironmentFailed) as error:
        return [Finding("error", "start", str(error))]
    try:
        _play_bare(source, env, layout, episodes, report)
        _close(env, report)
    except Unplayable:
        pass
    if not report.has_errors:
        try:
            _play_as_trained(task, episodes, report)
            task.close()
        except (EnvironmentFailed, ValueError) as error:
            report.add("error", "task", str(error))
    return report.findings


def refuse_episodes(episodes: int) -> None:
    """Raise ``EnvironmentRefused`` for a number of episodes that no check plays."""
    if not 2 <= episodes <= MOST_EPISODES:
        raise EnvironmentRefused(
            f"Found {episodes} episodes, expected 2 to {MOST_EPISODES:,}: a check compares two, and more find little."
        )


def _play_bare(source: Source, env: Any, layout: Layout, episodes: int, report: Report) -> None:
    """The environment itself: what it returns at every step, and whether the seed decides it all."""

    def again(used: Any) -> Any:
        """The environment for the next episode, as the trainer has it."""
        return source.make() if source.task.new_each_episode else used

    seeds = [derive("check", episode) >> 32 for episode in range(episodes)]
    first, *others = [CheckedEpisode(again(env), layout, seed, report).play() for seed in seeds]
    _abandon(env, layout, seeds[-1], report)
    _compare(first, CheckedEpisode(again(env), layout, seeds[0], report).play(), "repeated", report)
    copies = [source.make() for _ in range(3)]
    _compare(first, CheckedEpisode(copies[0], layout, seeds[0], report).play(), "fresh", report)
    beside = CheckedEpisode(copies[1], layout, seeds[-1], report).steps()
    _compare(first, CheckedEpisode(copies[2], layout, seeds[0], report).play(beside), "beside", report)
    report.expect(
        any(trace != first for trace in others),
        "seeds",
        "reset gave the same episode for every seed",
        "episodes that differ",
        "draw the start from a generator made of the seed, unless there is one start only",
        "warning",
    )
    blind = [str(agent) for agent, shown in report.shown.items() if len(shown) < 2]
    report.expect(
        not blind,
        "blind",
        f"The observation of {', '.join(blind)} never changed",
        "one that shows the state",
        "look at what it shows (some environments show black images unless render_mode is 'rgb_array')",
        "warning",
    )
    for copy in copies:
        _close(copy, report)


_REASONS = {
    "repeated": (
        "The same seed and actions gave another episode in the same environment",
        "clear everything in reset and make the generator anew from the seed there, or declare new_each_episode=True "
        "in a ParallelTask",
    ),
    "fresh": (
        "The same seed and actions gave another episode in a new copy of the environment",
        "draw all that is random from a generator that reset makes of the seed, and iterate over no sets",
    ),
    "beside": (
        "The same seed and actions gave another episode while a second copy was stepped",
        "share nothing between copies: no module-level state, no np.random or random functions",
    ),
}


def _compare(first: list, second: list, check: str, report: Report) -> None:
    if first == second:
        return
    differing = (step for step, (a, b) in enumerate(zip(first, second, strict=False)) if a != b)
    where = next(differing, min(len(first), len(second)))
    found, remedy = _REASONS[check]
    report.add("error", check, f"{found}, from step {where} on, expected the same to the last bit: {remedy}.")


def _abandon(env: Any, layout: Layout, seed: int, report: Report) -> None:
    """Leave an episode in its middle, as a trainer does."""
    episode = CheckedEpisode(env, layout, seed, report)
    for _, _ in zip(range(2), episode.steps(), strict=False):
        pass


def _close(env: Any, report: Report) -> None:
    if hasattr(env, "close"):
        report.ask("close()", env.close)


def _play_as_trained(task: Foreign, episodes: int, report: Report) -> None:
    """Through `Foreign`, which refuses wrong features, progress, states and rewards in its own words."""
    spec = task.spec
    generator = np.random.default_rng(0)
    scripted, draws = task.heuristic, load(spec.name).task.draw is not None
    largest = 0.0
    for episode in range(episodes + 1):  # the last one with the scripted policy
        largest = max(largest, float(np.abs(task.reset(episode_seeds(0, episode, 1))).max(initial=0)))
        for _ in range(spec.horizon):
            task.state(), task.features(), task.progress()
            if draws:
                task.draw(0)
            actions = scripted() if episode == episodes else None
            if actions is None and spec.continuous:
                actions = generator.uniform(-1, 1, (1, spec.agents, spec.actions)).astype(np.float32)
            elif actions is None:
                ranks = generator.random((1, spec.agents, spec.actions))
                actions = np.where(task.allowed(), ranks, -1.0).argmax(axis=2)
            step = task.step(actions)
            largest = max(largest, float(np.abs(step.observations).max(initial=0)))
            if step.terminated[0] or step.truncated[0]:
                break
        task.state(), task.features(), task.progress()
    report.expect(
        largest <= LARGE,
        "units",
        f"An observation has a value of size {largest:g}",
        f"values of about 1, and none above {LARGE:g}",
        "divide them by their bounds, or the networks learn little from them",
        "warning",
    )
    if not spec.features:
        report.add(
            "warning",
            "features",
            "The task has no features, expected some to shape on: declare them in a ParallelTask.",
        )
    if spec.progress is None:
        report.add(
            "warning",
            "progress",
            "The task has no progress, expected a measure that moves before the sparse return does: declare it in a "
            "ParallelTask, or no verdict can be reached while every return is 0.",
        )
