"""PettingZoo environments for tests of foreign tasks: a sound one, what is said about it, and broken ones."""

from __future__ import annotations

import os
import signal
import time
from types import SimpleNamespace

import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv

from learning_signal.marl.tasks.base import Feature
from learning_signal.marl.tasks.foreign.declaration import ParallelTask

LENGTH = 6
STATES = np.random.default_rng(1)
"""State that one broken environment shares between its copies."""


class Walk(ParallelEnv):
    """A scout and two walkers on a line, each with a goal at its end; who is there leaves with a reward of 1.

    The scout sees its place, its goal and the time; a walker sees its place and its goal. Actions: stay, left, right.
    """

    metadata = {"name": "walk", "render_modes": ["rgb_array"]}

    def __init__(self, max_steps: int = 12, slippery: bool = True, render_mode: str | None = None) -> None:
        self.possible_agents = ["scout", "walker_0", "walker_1"]
        self.agents: list[str] = []
        self.max_steps, self.slippery, self.render_mode = max_steps, slippery, render_mode
        sizes = {"scout": 3, "walker_0": 2, "walker_1": 2}
        self._seen = {agent: spaces.Box(0, 1, (size,), np.float32) for agent, size in sizes.items()}
        self._done = {agent: spaces.Discrete(3, start=1) for agent in sizes}

    def observation_space(self, agent):
        return self._seen[agent]

    def action_space(self, agent):
        return self._done[agent]

    def reset(self, seed=None, options=None):
        self.random = np.random.default_rng(seed)
        self.agents = self.possible_agents[:]
        self.time = 0
        self.places = {agent: int(self.random.integers(1, LENGTH)) for agent in self.agents}
        self.goals = {agent: LENGTH * int(self.random.integers(2)) for agent in self.agents}
        return self.observe(), {agent: {} for agent in self.agents}

    def observe(self):
        shown = {}
        for agent in self.agents:
            row = [self.places[agent] / LENGTH, self.goals[agent] / LENGTH, self.time / self.max_steps]
            shown[agent] = np.array(row[: self._seen[agent].shape[0]], np.float32)
        return shown

    def step(self, actions):
        self.time += 1
        for agent in self.agents:
            assert self._done[agent].contains(actions[agent]), f"{agent} got {actions[agent]!r}"
            slips = self.slippery and self.random.random() < 0.1
            move = 0 if slips else (0, -1, 1)[actions[agent] - 1]
            self.places[agent] = min(max(self.places[agent] + move, 0), LENGTH)
        there = {agent: self.places[agent] == self.goals[agent] for agent in self.agents}
        late = self.time >= self.max_steps
        answer = (
            self.observe(),
            {agent: float(there[agent]) for agent in self.agents},
            dict(there),
            {agent: late and not there[agent] for agent in self.agents},
            {agent: {} for agent in self.agents},
        )
        self.agents = [] if late else [agent for agent in self.agents if not there[agent]]
        return answer

    def state(self):
        return np.array([*self.places.values(), *self.goals.values(), self.time], np.float64) / LENGTH

    def render(self):
        image = np.zeros((3, LENGTH + 1, 3), np.uint8)
        for row, place in enumerate(self.places.values()):
            image[row, place] = 255
        return image

    def close(self):
        pass


# --- what may be said about it ---


def arrived(env) -> float:
    """Share of the agents that are at their goal."""
    return 1.0 - len(env.agents) / 3 if env.time < env.max_steps else float(np.mean(_distances(env) == 0))


def everybody(env, rewards) -> float:
    """1 when the last agent arrives, else 0."""
    return float(sum(rewards.values()) > 0 and (_distances(env) == 0).all())


def _distances(env) -> np.ndarray:
    return np.array([abs(env.places[agent] - env.goals[agent]) for agent in env.possible_agents])


def homeward(env):
    """Everybody walks to its goal."""
    return {agent: 3 if env.goals[agent] > env.places[agent] else 2 for agent in env.agents}


FEATURES = {
    Feature("distance", "Cells from the agent to its goal.", "agent", 0, LENGTH, "lower"): _distances,
    Feature("farthest", "Cells from the last agent to its goal.", "team", 0, LENGTH, "lower"): (
        lambda env: _distances(env).max()
    ),
}
task = ParallelTask(
    factory=Walk,
    description="Three agents on a line walk to their goals.",
    sparse_reward=everybody,
    max_return=1.0,
    features=FEATURES,
    progress=arrived,
    action_names=("stay", "left", "right"),
    idle_action=0,
    heuristic=homeward,
)


class Push(Walk):
    """The same with actions that are numbers: the walkers give one, the scout a square of four."""

    def __init__(self, max_steps: int = 12, bound: float = 2.0) -> None:
        super().__init__(max_steps, slippery=False)
        self._done = {
            agent: spaces.Box(-1.0, bound, (2, 2) if agent == "scout" else (1,), np.float32)
            for agent in self.possible_agents
        }

    def step(self, actions):
        for agent in self.agents:
            assert self._done[agent].contains(actions[agent]), f"{agent} got {actions[agent]!r}"
        self.given = actions
        self._done, kept = dict.fromkeys(self.possible_agents, spaces.Discrete(3, start=1)), self._done
        answer = super().step({agent: 2 + int(np.sign(actions[agent].mean())) for agent in self.agents})
        self._done = kept
        return answer


def slow(milliseconds: int = 2, crash_at: int = 0):
    """A `Walk` whose every step takes that long, and kills its process at step ``crash_at``."""

    class Slow(Walk):
        def step(self, actions):
            time.sleep(milliseconds / 1000)
            if crash_at and self.time + 1 == crash_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().step(actions)

    return Slow()


def failing(step: int = 3):
    """A `Walk` that raises at one step."""

    class Failing(Walk):
        def step(self, actions):
            if self.time + 1 == step:
                raise ZeroDivisionError("no way")
            return super().step(actions)

    return Failing(slippery=False)


def small_pong(max_cycles: int = 900, render_mode: str | None = "rgb_array"):
    """`cooperative_pong`, a Butterfly environment, with images small enough to be taken."""
    from pettingzoo.butterfly import cooperative_pong_v6
    from pettingzoo.utils import BaseParallelWrapper

    class Small(BaseParallelWrapper):
        def observation_space(self, agent):
            return small

        def reset(self, seed=None, options=None):
            seen, infos = self.env.reset(seed=seed, options=options)
            return self._shrink(seen), infos

        def step(self, actions):
            seen, *rest = self.env.step(actions)
            return self._shrink(seen), *rest

        def _shrink(self, seen):
            return {agent: image[::20, ::20, :1].copy() for agent, image in seen.items()}

    small = spaces.Box(0, 255, (14, 24, 1), np.uint8)
    # Without a render mode its images are black.
    return Small(cooperative_pong_v6.parallel_env(max_cycles=max_cycles, render_mode=render_mode))


pong = ParallelTask(factory=small_pong, horizon=900, description="Two paddles keep a ball in play.")


def knights(max_cycles: int = 900, **options):
    """`knights_archers_zombies`, a Butterfly environment in which agents die, and whose reset forgets a counter."""
    from pettingzoo.butterfly import knights_archers_zombies_v11

    return knights_archers_zombies_v11.parallel_env(max_cycles=max_cycles, **options)


knights_task = ParallelTask(factory=knights, new_each_episode=True)


# --- environments that cannot be tasks, and why ---


def unfit(fault: str = ""):
    """A `Walk` with spaces that are refused."""
    env = Walk()
    wide = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    if fault == "mixture":
        env._done["scout"] = spaces.Box(-1, 1, (1,), np.float32)
    elif fault == "unbounded":
        env._done = dict.fromkeys(env.possible_agents, wide)
    elif fault == "multidiscrete":
        env._done["scout"] = spaces.MultiDiscrete([3, 2])
    elif fault == "mask":
        env._seen["scout"] = spaces.Dict({"action_mask": spaces.MultiBinary(3)})
    elif fault == "sequence":
        env._seen["scout"] = spaces.Sequence(wide)
    elif fault == "image":
        env._seen["scout"] = spaces.Box(0, 255, (100, 100, 3), np.uint8)
    elif fault == "horizon":
        env.max_steps = None
    return env


class Rich(Walk):
    """Observations of many kinds: a dictionary with a choice, bits, a small image."""

    def __init__(self) -> None:
        super().__init__()
        everything = {"image": spaces.Box(0, 255, (2, 2, 1), np.uint8), "kind": spaces.Discrete(3, start=2)}
        self._seen = {
            "scout": spaces.Dict({**everything, "bits": spaces.MultiBinary(2)}),
            "walker_0": everything["image"],
            "walker_1": spaces.Box(0, 200, (3,), np.uint8),
        }

    def observe(self):
        image = np.array([0, 51, 102, 255], np.uint8).reshape(2, 2, 1)
        shown = {
            "scout": {"image": image, "kind": 3, "bits": np.array([0, 1], np.int8)},
            "walker_0": image,
            "walker_1": np.array([1, 2, 200], np.uint8),
        }
        return {agent: shown[agent] for agent in self.agents}


# --- environments that break their contract, one way each ---


class Broken(Walk):
    """A `Walk` with one fault (without slipping, and everybody starts in the middle: episodes are alike)."""

    def __init__(self, fault: str = "none") -> None:
        super().__init__(slippery=fault in ("unseeded", "leftover", "shared"))
        self.fault = fault
        self._resets = 0
        self._late = np.random.default_rng()
        self._kept = np.random.default_rng(5)

    def observation_space(self, agent):
        if self.fault == "changing space" and self.agents and self.time > 2:
            return spaces.Box(0, 2, self._seen[agent].shape, np.float32)
        return self._seen[agent]

    def reset(self, seed=None, options=None):
        fault = self.fault
        if fault == "reset fails" and self._resets > 3:
            raise RuntimeError("only a few times")
        self._resets += 1
        seen, infos = super().reset(seed=None if fault == "unseeded start" else 3 if fault == "one start" else seed)
        if fault == "unseeded":
            self.random = self._late
        elif fault == "leftover":
            self.random = self._kept
        elif fault == "shared":
            global STATES
            STATES = np.random.default_rng(seed)
        elif fault == "start without":
            self.agents.remove("walker_1")
        elif fault == "reset observations":
            del seen["scout"]
        elif fault == "blind":
            self._black = seen = {agent: np.zeros_like(row) for agent, row in seen.items()}
        elif fault == "reset alone":
            return seen
        return seen, infos

    def step(self, actions):
        fault = self.fault
        if fault == "shared":
            self.random = np.random.default_rng(STATES.integers(1 << 30))
        acting = self.agents[:]
        if fault == "step fails" and self.time == 2:
            raise RuntimeError("at step 3")
        seen, rewards, terminations, truncations, infos = super().step(actions)
        first, gone = acting[0], [agent for agent in self.possible_agents if agent not in acting]
        late = self.time == 3
        if fault == "NaN":
            seen[first][0] = np.nan
        elif fault == "blind":
            for agent in acting:
                seen[agent] = self._black[agent]
        elif fault == "bounds":
            seen[first][0] = 7
        elif fault == "type":
            seen[first] = seen[first].astype(np.float64)
        elif fault == "shape":
            seen[first] = seen[first][:1]
        elif fault == "list":
            seen[first] = seen[first].tolist()
        elif fault == "reward NaN":
            rewards[first] = float("nan")
        elif fault == "reward text":
            rewards[first] = "1"
        elif fault == "final reward":
            rewards = {agent: rewards[agent] for agent in self.agents}
        elif fault == "rewards of the dead" and gone:
            rewards[gone[0]] = 0.0
        elif fault == "observation missing":
            seen = {agent: seen[agent] for agent in self.agents}
        elif fault == "infos missing":
            infos = {}
        elif fault == "terminations number":
            terminations = {agent: int(value) for agent, value in terminations.items()}
        elif fault == "truncations number":
            truncations = {agent: int(value) for agent, value in truncations.items()}
        elif fault == "stays":
            self.agents = acting if self.time < self.max_steps else []
        elif fault == "vanishes" and late and len(acting) > 1:
            self.agents = self.agents[1:]
            terminations, truncations = dict.fromkeys(acting, False), dict.fromkeys(acting, False)
        elif fault == "joins" and gone and late:
            self.agents = [*self.agents, gone[0]]
        elif fault == "four":
            return seen, rewards, terminations, infos
        elif fault == "endless" and self.time >= self.max_steps:
            self.agents = acting
            truncations = dict.fromkeys(acting, False)
            terminations = dict.fromkeys(acting, False)
        return seen, rewards, terminations, truncations, infos

    def state(self):
        return super().state()[: 3 if self.fault == "state" and self.time > 1 else None]

    def close(self):
        if self.fault == "close":
            raise RuntimeError("stuck")


def _task(**wrong) -> ParallelTask:
    return ParallelTask(**{"factory": Walk, "features": FEATURES, "progress": arrived, **wrong})


def _too_far(env) -> float:
    """Beyond its bounds."""
    return 1.5


def _no_number(env, rewards=None) -> float:
    """Not a number."""
    return float("nan")


wrong = SimpleNamespace(
    feature_bounds=_task(features={Feature("far", "", "team", 0, 1, None): _too_far}),
    feature_nan=_task(features={Feature("far", "", "team", 0, 1, None): _no_number}),
    feature_length=_task(features={Feature("far", "", "agent", 0, 1, None): lambda env: [0.0, 0.0]}),
    feature_text=_task(features={Feature("far", "", "team", 0, 1, None): lambda env: "near"}),
    feature_fails=_task(features={Feature("far", "", "team", 0, 1, None): lambda env: env.nothing}),
    progress=_task(progress=_too_far),
    progress_nan=_task(progress=_no_number),
    sparse_reward=_task(sparse_reward=_no_number),
    heuristic=_task(heuristic=lambda env: {}),
    heuristic_range=_task(heuristic=lambda env: dict.fromkeys(env.agents, 9)),
    action_names=_task(action_names=("stay",)),
    idle_action=_task(idle_action=3),
)
