"""The task `spread`: agents must cover all landmarks at once; `mpe2.simple_spread_v3` for a whole batch.

Physics, observations and the time limit are those of
``mpe2.simple_spread_v3.parallel_env(N=agents, max_cycles=25, continuous_actions=False)``; the reward is
sparse.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np

from learning_signal.marl.randomness import uniforms
from learning_signal.marl.tasks.base import Feature, Ground, Step, TaskSpec
from learning_signal.marl.tasks.clock import Clock
from learning_signal.marl.tasks.particles import ACTION_NAMES, Particles, lengths, observation_map, row_numbers, steer
from learning_signal.marl.tasks.picture import Picture, Shape

HORIZON = 25
PUSH = 5.0
AGENT_SIZE = 0.15
TOUCHING_DISTANCE = 2 * AGENT_SIZE
"""Two agents touch below this distance between their centres."""

MOST_AGENTS = 100
DISTANCE_CAP = 3.0
"""Feature distances end here: just above the arena's diagonal (2.83), so that bounds are true *and* useful.

Positions are unbounded in this physics; a bound over all trajectories (contacts included) would be about 50.
"""
SPEED_CAP = 3.0
"""Without contacts no agent is faster than TIME_STEP * PUSH / DAMPING = 2; contacts can throw it."""

LOOKAHEAD = 0.3
"""Seconds of its own motion that the heuristic counts in, so that it brakes at a landmark."""
VIEW = 1.4
"""A picture shows the square from -VIEW to VIEW."""
GROUND = Ground(columns=20, rows=20, cell=2 * VIEW / 20, plane=True)
DRAWN_SIZE = 0.09
"""Radius of an agent in pictures: smaller than it is, so that one sees the landmark it covers."""


class Spread:
    """A batch of ``environments`` worlds of ``agents`` agents and as many landmarks (a `Task`).

    The joint state ``[E, 6 A]`` is absolute: x velocities, y velocities, x positions, y positions of the
    agents, then x and y positions of the landmarks. The observation of an agent, as in the reference, is its
    velocity (2), its position (2), landmarks relative to it (2 A), the other agents relative to it
    (2 (A - 1)) and their communication (2 (A - 1), always 0 because these agents are silent).

    Observations of the whole team have ``6 A^2`` entries and are made by a product with ``36 A^3`` floats: 1 MB at 20
    agents, 18 MB at 50, 144 MB at 100, the most there may be.

    Raises ``ValueError`` when an argument is out of its range.
    """

    ground = GROUND

    def __init__(self, environments: int, agents: int = 3, radius: float = 0.15) -> None:
        self._clock = Clock("spread", environments, HORIZON)
        if not 1 <= agents <= MOST_AGENTS:
            raise ValueError(f"spread got agents={agents}, expected 1 to {MOST_AGENTS}: choose such a number.")
        if not 0.0 < radius <= 1.0:
            raise ValueError(f"spread got radius={radius}, expected above 0 and at most 1: choose such a radius.")
        self.environments = environments
        self.radius = radius
        self.spec = _specification(agents, radius)
        self._world = Particles(environments, np.full(agents, PUSH), np.full(agents, AGENT_SIZE), fixed=agents)
        self._observation_map = _observation_map(agents)
        self._nearest_agent = np.empty((agents, environments))
        """``[L, E]``: from each landmark to the agent nearest to it."""
        self._covered = np.empty((agents, environments), dtype=bool)

    def reset(self, seeds: np.ndarray, where: np.ndarray | None = None) -> np.ndarray:
        """Start episodes, everything uniform in [-1, 1]^2 and at rest; observations ``[E, A, O]`` of all."""
        seeds = np.asarray(seeds)
        started = self._clock.start(seeds, where)
        rest = 2 * self.spec.agents
        self._world.coordinates[:rest, started] = 0.0
        placed = uniforms(seeds[started], 2 * rest)
        self._world.coordinates[rest:, started] = 2.0 * placed.T - 1.0
        self._world.measure()
        self._measure()
        return self._observe()

    def step(self, actions: np.ndarray) -> Step:
        """Apply joint actions ``[E, A]`` (see ``spec.action_names``); the arrays returned are never reused.

        Raises ``ValueError`` for actions of a wrong shape, type or range, ``RuntimeError`` when some episode
        has ended and was not reset.
        """
        self._clock.check(actions, self.spec.agents, len(ACTION_NAMES))
        self._world.move(actions.T)
        self._measure()
        reward = np.logical_and.reduce(self._covered, axis=0).astype(np.float32)
        return Step(self._observe(), reward, np.zeros(self.environments, dtype=bool), self._clock.tick())

    def state(self) -> np.ndarray:
        """The joint state ``[E, 6 A]`` float32, in the order given in the class docstring."""
        return np.ascontiguousarray(self._world.coordinates.T, dtype=np.float32)

    def progress(self) -> np.ndarray:
        """The share ``[E]`` float32 of landmarks that are covered now."""
        return self._covered_fraction().astype(np.float32)

    def features(self, names: Collection[str] | None = None) -> dict[str, np.ndarray]:
        """The features in ``names`` (every declared one when None), float32: team ``[E]``, agent ``[E, A]``."""
        chosen = [feature.name for feature in self.spec.features] if names is None else names
        return {name: _FEATURE_VALUES[name](self) for name in chosen}

    def places(self, agent: int) -> np.ndarray:
        """See `GroundedTask`."""
        return self._world.pictured(agent, VIEW)

    def features_at(
        self, agent: int, places: np.ndarray, names: Collection[str] | None = None
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """See `GroundedTask`: an agent can be anywhere in the plane."""
        with self._world.pictured_at(agent, places, VIEW):
            self._measure()
            found = self.features(names)
        self._measure()
        return found, np.ones(self.environments, bool)

    def heuristic(self) -> np.ndarray:
        """Joint actions ``[E, A]``: every agent goes to its own landmark and brakes there.

        The closest agent and landmark are matched first, then the closest of the rest, and so on. Mean return of 25:
        11.3 with 3 agents, 7.0 with 5, 1.3 with 10.
        """
        free = self._world.place_distance.reshape(-1, self.environments).copy()  # [A * L, E]
        everywhere = np.arange(self.environments)
        agents = self.spec.agents
        target = np.empty((2, agents, self.environments))
        for _ in range(agents):
            agent, landmark = np.divmod(free.argmin(axis=0), agents)
            target[:, agent, everywhere] = self._world.places[:, landmark, everywhere]
            taken = free.reshape(agents, agents, self.environments)
            taken[agent, :, everywhere] = np.inf
            taken[:, landmark, everywhere] = np.inf
        return steer(target - self._world.position - LOOKAHEAD * self._world.velocity).T

    def draw(self, environment: int) -> Picture:
        """The arena with the agents (their number on them) and the landmarks, which change colour when covered.

        A landmark is drawn as large as its covering radius: the middle of an agent must be in it.
        """
        world = self._world
        agents = tuple(
            Shape("disc", VIEW + x, VIEW - y, DRAWN_SIZE, "agent", str(number))
            for number, (x, y) in enumerate(world.position[:, :, environment].T.tolist())
        )
        landmarks = tuple(
            Shape("disc", VIEW + x, VIEW - y, self.radius, "done" if covered else "goal")
            for (x, y), covered in zip(
                world.places[:, :, environment].T.tolist(), self._covered[:, environment], strict=True
            )
        )
        covered = int(self._covered[:, environment].sum())
        return Picture(
            2 * VIEW,
            2 * VIEW,
            (Shape("square", VIEW, VIEW, 1.0, "floor"), *landmarks, *agents),
            f"{covered} of {self.spec.agents} landmarks covered",
        )

    def _near(self) -> np.ndarray:
        """``[L, E]``: from each landmark to the agent nearest to it, as features count it."""
        return np.minimum(self._nearest_agent, DISTANCE_CAP)

    def _spacing(self) -> np.ndarray:
        distance = self._world.pair_distance
        return np.add.reduce(np.minimum(distance, DISTANCE_CAP), axis=0) * (1.0 / len(distance))

    def _nearest_landmark(self) -> np.ndarray:
        return np.minimum(np.minimum.reduce(self._world.place_distance, axis=1), DISTANCE_CAP)

    def _measure(self) -> None:
        """Which landmarks are covered."""
        np.minimum.reduce(self._world.place_distance, axis=0, out=self._nearest_agent)
        np.less_equal(self._nearest_agent, self.radius, out=self._covered)

    def _covered_fraction(self) -> np.ndarray:
        return np.add.reduce(self._covered, axis=0) / self.spec.agents

    def _observe(self) -> np.ndarray:
        """Observations ``[E, A, O]``."""
        flat = self._world.coordinates.astype(np.float32).T @ self._observation_map
        return flat.reshape(self.environments, self.spec.agents, self.spec.observation_size)


def _observation_map(agents: int) -> np.ndarray:
    """The matrix ``[6 A, A * O]`` float32 from the rows of the world to the observations of all agents."""
    velocity, position, landmark = row_numbers(agents, agents)
    shown, subtracted = [], []
    for agent in range(agents):
        others = np.delete(np.arange(agents), agent)
        relative = np.concatenate([landmark, position[:, others]], axis=1).T.ravel()
        silence = [int(position[0, agent])] * (2 * len(others))
        own = [*velocity[:, agent], *position[:, agent]]
        shown.append([*own, *relative, *silence])
        subtracted.append([None] * 4 + [*position[:, agent]] * (len(relative) // 2) + silence)
    return observation_map(shown, subtracted, 6 * agents)


def _observation_size(agents: int) -> int:
    return 4 + 2 * agents + 4 * (agents - 1)


def _specification(agents: int, radius: float) -> TaskSpec:
    """The declaration of `spread`; the name carries the options that are not the default ones."""
    options = [f"agents={agents}"] * (agents != 3) + [f"radius={float(radius)}"] * (radius != 0.15)
    several = (
        f"{agents} agents move in a plane with inertia and push each other away on contact; "
        f"{agents} landmarks at random places must all have an agent near them at the same time."
    )
    alone = "One agent moves in a plane with inertia; it must stay near a landmark at a random place."
    return TaskSpec(
        name="spread" + ("?" + "&".join(options) if options else ""),
        description=several if agents > 1 else alone,
        sparse_reward=f"1 per step in which every landmark has an agent within {radius:g}, else 0",
        agents=agents,
        observation_size=_observation_size(agents),
        state_size=6 * agents,
        actions=len(ACTION_NAMES),
        action_names=ACTION_NAMES,
        idle_action=0,
        horizon=HORIZON,
        max_return=float(HORIZON),
        features=_features(agents),
        progress=f"share of landmarks that have an agent within {radius:g}",
    )


def _features(agents: int) -> tuple[Feature, ...]:
    """The declared features, see `_FEATURE_VALUES` for how they are computed."""
    pairs = agents * (agents - 1) // 2
    cap = f"each distance counts at most {DISTANCE_CAP:g}"
    between_agents = (
        Feature(
            "collisions",
            f"Number of pairs of agents that touch (closer than {TOUCHING_DISTANCE:g}).",
            "team",
            0.0,
            float(pairs),
            "lower",
        ),
        Feature("spacing", f"Mean distance between two agents ({cap}).", "team", 0.0, DISTANCE_CAP, None),
    )
    return (
        Feature(
            "coverage_distance",
            f"Sum over the landmarks of the distance from the landmark to the agent nearest to it ({cap}).",
            "team",
            0.0,
            DISTANCE_CAP * agents,
            "lower",
        ),
        Feature(
            "worst_coverage_distance",
            f"Distance from the worst covered landmark to the agent nearest to it ({cap}).",
            "team",
            0.0,
            DISTANCE_CAP,
            "lower",
        ),
        Feature(
            "covered_fraction",
            "Share of the landmarks that have an agent within the covering radius.",
            "team",
            0.0,
            1.0,
            "higher",
        ),
        *(between_agents if pairs else ()),
        Feature(
            "nearest_landmark_distance",
            f"Distance from the agent to the landmark nearest to it, maybe shared with others ({cap}).",
            "agent",
            0.0,
            DISTANCE_CAP,
            "lower",
        ),
        Feature("speed", f"Speed of the agent (it counts at most {SPEED_CAP:g}).", "agent", 0.0, SPEED_CAP, None),
        Feature(
            "distance_to_centre",
            f"Distance from the agent to the centre of the arena ({cap}).",
            "agent",
            0.0,
            DISTANCE_CAP,
            None,
        ),
    )


def _single(values: np.ndarray) -> np.ndarray:
    """A team feature ``[E]`` or an agent feature ``[A, E]`` as declared: float32, environments first."""
    return np.ascontiguousarray(values.T, dtype=np.float32)


_FEATURE_VALUES: dict[str, Callable[[Spread], np.ndarray]] = {
    "coverage_distance": lambda task: _single(np.add.reduce(task._near(), axis=0)),
    "worst_coverage_distance": lambda task: _single(np.maximum.reduce(task._near(), axis=0)),
    "covered_fraction": lambda task: _single(task._covered_fraction()),
    "collisions": lambda task: _single(np.add.reduce(task._world.pair_distance < TOUCHING_DISTANCE, axis=0)),
    "spacing": lambda task: _single(task._spacing()),
    "nearest_landmark_distance": lambda task: _single(task._nearest_landmark()),
    "speed": lambda task: _single(np.minimum(lengths(task._world.velocity), SPEED_CAP)),
    "distance_to_centre": lambda task: _single(np.minimum(lengths(task._world.position), DISTANCE_CAP)),
}
"""How each declared feature is computed, in the order of `_features`. Each alone: shaping reads few of them, often."""
