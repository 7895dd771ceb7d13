"""An environment in which a forbidden action is an error, with its masks in either place, or in none."""

from __future__ import annotations

import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv

from learning_signal.marl.tasks.foreign.declaration import ParallelTask

STEPS, LEAVES = 6, 3
"""Steps of an episode, and after how many of them the second agent leaves."""
BEST = 3.0 * STEPS + 2.0 * LEAVES
"""What is earned at most: the largest action is always allowed to each."""


class Doors(ParallelEnv):
    """Every action k is a door that pays k; at each step some are locked, and whoever tries one breaks the game.

    The first agent has four doors, the second three, which are numbered from 2 and pay 0 to 2. ``masks`` says where
    they are told: ``observation``, ``infos``, ``none``; ``fault`` what is wrong with them.
    """

    metadata = {"name": "doors"}

    def __init__(self, masks: str = "observation", fault: str = "", largest: bool = False) -> None:
        self.masks, self.fault, self.largest, self.max_steps = masks, fault, largest, STEPS
        self.possible_agents = ["tall", "short"]
        self.counts, self.starts = {"tall": 4, "short": 3}, {"tall": 0, "short": 2}
        self.agents: list[str] = []
        self.taken: list[dict[str, int]] = []

    def observation_space(self, agent):
        seen = spaces.Box(0, 1, (2,), np.float32)
        if self.masks != "observation":
            return seen
        return spaces.Dict({"observation": seen, "action_mask": spaces.MultiBinary(self.counts[agent])})

    def action_space(self, agent):
        return spaces.Discrete(self.counts[agent], start=self.starts[agent])

    def reset(self, seed=None, options=None):
        self.random = np.random.default_rng(seed)
        self.agents, self.time = self.possible_agents[:], 0
        return self.shown(self.agents)

    def shown(self, agents):
        """Observations and infos; new doors are locked."""
        self.open = {agent: self.random.random(self.counts[agent]) < 0.5 for agent in agents}
        for mask in self.open.values():
            mask[-1 if self.largest else self.random.integers(len(mask))] = True
        seen = {agent: np.array([self.time / STEPS, agent == "tall"], np.float32) for agent in agents}
        told = {agent: self.told(agent, mask) for agent, mask in self.open.items()}
        if self.masks == "observation":
            seen = {agent: {"observation": seen[agent]} | told[agent] for agent in agents}
        return seen, {agent: told[agent] if self.masks == "infos" else {} for agent in agents}

    def told(self, agent, mask):
        """A mask as this environment gives it."""
        if self.fault == "late" and self.time == 2:
            return {}
        if self.fault and self.time >= 2:
            mask = {"nothing": mask & False, "short": mask[:-1], "shares": mask / 2}.get(self.fault, mask)
        return {"action_mask": mask if self.fault == "shares" else mask.astype(np.int8)}

    def step(self, actions):
        acting, rewards = self.agents, {}
        self.taken.append(dict(actions))
        for agent in acting:
            door = int(actions[agent]) - self.starts[agent]
            if not self.open[agent][door]:
                raise RuntimeError(f"{agent} tried the locked door {door}")
            rewards[agent] = float(door)
        self.time += 1
        over = self.time == STEPS
        left = {agent: agent == "short" and self.time == LEAVES for agent in acting}
        seen, infos = self.shown(acting)
        self.agents = [] if over else [agent for agent in acting if not left[agent]]
        return seen, rewards, left, dict.fromkeys(acting, over), infos


def upwards(env):
    """The best door that is open."""
    return {agent: int(np.flatnonzero(env.open[agent])[-1]) + env.starts[agent] for agent in env.agents}


class Slopes(Doors):
    """Actions are numbers, and masked all the same."""

    def action_space(self, agent):
        return spaces.Box(-1, 1, (self.counts[agent],), np.float32)


task = ParallelTask(factory=Doors, max_return=BEST, heuristic=upwards)
