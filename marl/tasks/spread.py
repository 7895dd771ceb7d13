"""The task `spread`: agents must cover all landmarks at once; `mpe2.simple_spread_v3` for a whole batch.

Physics, observations and the time limit are those of
``mpe2.simple_spread_v3.parallel_env(N=agents, max_cycles=25, continuous_actions=False)``; the reward is
sparse.

Layout: the world is one float64 array ``[rows, E]`` with the environment on the fast axis, so that every
operation is one long contiguous loop. Rows: x velocities (A), y velocities (A), x positions (A), y positions
(A), landmark x (A), landmark y (A). Distances are computed once per step and serve the reward, the features,
the progress and the contact forces of the next step.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from itertools import combinations

import numpy as np

from marl.randomness import uniforms
from marl.tasks.base import Feature, Step, TaskSpec

HORIZON = 25
TIME_STEP = 0.1
DAMPING = 0.25
PUSH = 5.0
CONTACT_FORCE = 100.0
CONTACT_MARGIN = 0.001
CONTACT_DISTANCE = 0.3
"""Two agents of radius 0.15 touch below this distance between their centres."""

MAX_AGENTS = 16
DISTANCE_CAP = 3.0
"""Feature distances end here: just above the arena's diagonal (2.83), so that bounds are true *and* useful.

Positions are unbounded in this physics; a bound over all trajectories (contacts included) would be about 50.
"""
SPEED_CAP = 3.0
"""Without contacts no agent is faster than TIME_STEP * PUSH / DAMPING = 2; contacts can throw it."""

ACTION_NAMES = ("stay", "left", "right", "down", "up")
_PUSHES = PUSH * np.array([[0.0, -1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, -1.0, 1.0]])


class Spread:
    """A batch of ``environments`` worlds of ``agents`` agents and as many landmarks (a `Task`).

    The joint state ``[E, 6 A]`` is absolute: x velocities, y velocities, x positions, y positions of the
    agents, then x and y positions of the landmarks. The observation of an agent, as in the reference, is its
    velocity (2), its position (2), landmarks relative to it (2 A), the other agents relative to it
    (2 (A - 1)) and their communication (2 (A - 1), always 0 because these agents are silent).

    Raises ``ValueError`` when an argument is out of its range.
    """

    def __init__(self, environments: int, agents: int = 3, radius: float = 0.15) -> None:
        if environments < 1:
            raise ValueError(
                f"spread got environments={environments}, expected at least 1: ask for one or more."
            )
        if not 2 <= agents <= MAX_AGENTS:
            raise ValueError(
                f"spread got agents={agents}, expected 2 to {MAX_AGENTS}: choose a number in that range."
            )
        if not 0.0 < radius <= 1.0:
            raise ValueError(
                f"spread got radius={radius}, expected above 0 and at most 1: choose such a radius."
            )
        self.environments = environments
        self.radius = radius
        self.spec = _specification(agents, radius)
        self._allocate(agents, environments)

    def _allocate(self, agents: int, environments: int) -> None:
        pairs = list(combinations(range(agents), 2))
        self._pairs = len(pairs)
        self._coordinates = np.zeros((6 * agents, environments))
        self._velocity = self._coordinates[: 2 * agents]
        self._position = self._coordinates[2 * agents : 4 * agents]
        self._agent_rows, self._other_rows = _difference_rows(agents, pairs)
        self._force_rows = _force_rows(agents, pairs)
        self._observation_map = _observation_map(agents)

        couples = self._pairs + agents * agents
        self._difference = np.empty((2, couples, environments))
        self._square = np.empty((2, couples, environments))
        self._distance = np.empty((couples, environments))
        self._pair_distance = self._distance[: self._pairs]
        self._landmark_distance = self._distance[self._pairs :].reshape(agents, agents, environments)
        """``[A, L, E]``: from each agent to each landmark."""
        self._nearest_agent = np.empty((agents, environments))
        """``[L, E]``: from each landmark to the agent nearest to it."""
        self._covered = np.empty((agents, environments), dtype=bool)

        self._contact = np.empty((self._pairs, environments))
        self._pair_force = np.empty((2, 2, self._pairs, environments))
        self._forces = np.empty((agents, 2, agents, environments))
        self._total_force = np.empty((2 * agents, environments))
        self._travel = np.empty((2 * agents, environments))
        # Nothing may be stepped before its first reset: an unstarted episode counts as an ended one.
        self._elapsed = np.full(environments, HORIZON)
        self._any_ended = True

    def reset(self, seeds: np.ndarray, where: np.ndarray | None = None) -> np.ndarray:
        """Start episodes, everything uniform in [-1, 1]^2 and at rest; observations ``[E, A, O]`` of all."""
        seeds = np.asarray(seeds)
        if seeds.shape != (self.environments,):
            raise ValueError(
                f"spread.reset got seeds of shape {seeds.shape}, expected ({self.environments},)."
            )
        started = np.ones(self.environments, dtype=bool) if where is None else np.asarray(where)
        if started.dtype != bool or started.shape != (self.environments,):
            raise ValueError(
                f"spread.reset got where of shape {started.shape} and type {started.dtype}, "
                f"expected ({self.environments},) and bool."
            )
        rest = 2 * self.spec.agents
        self._coordinates[:rest, started] = 0.0
        placed = uniforms(seeds[started], 2 * rest)
        self._coordinates[rest:, started] = 2.0 * placed.T - 1.0
        self._elapsed[started] = 0
        self._any_ended = bool((self._elapsed >= HORIZON).any())
        self._measure()
        return self._observe()

    def step(self, actions: np.ndarray) -> Step:
        """Apply joint actions ``[E, A]`` (see ``spec.action_names``); the arrays returned are never reused.

        Raises ``ValueError`` for actions of a wrong shape, type or range, ``RuntimeError`` when some episode
        has ended and was not reset.
        """
        self._check(actions)
        self._move(actions)
        self._elapsed += 1
        self._measure()
        reward = np.logical_and.reduce(self._covered, axis=0).astype(np.float32)
        truncated = self._elapsed >= HORIZON
        self._any_ended = bool(truncated.any())
        return Step(self._observe(), reward, np.zeros(self.environments, dtype=bool), truncated)

    def state(self) -> np.ndarray:
        """The joint state ``[E, 6 A]`` float32, in the order given in the class docstring."""
        return np.ascontiguousarray(self._coordinates.T, dtype=np.float32)

    def progress(self) -> np.ndarray:
        """The share ``[E]`` float32 of landmarks that are covered now."""
        return self._covered_fraction().astype(np.float32)

    def features(self, names: Collection[str] | None = None) -> dict[str, np.ndarray]:
        """The features in ``names`` (every declared one when None), float32: team ``[E]``, agent ``[E, A]``."""
        return {name: _FEATURE_VALUES[name](self) for name in (_FEATURE_VALUES if names is None else names)}

    def _near(self) -> np.ndarray:
        """``[L, E]``: from each landmark to the agent nearest to it, as features count it."""
        return np.minimum(self._nearest_agent, DISTANCE_CAP)

    def _spacing(self) -> np.ndarray:
        return np.add.reduce(np.minimum(self._pair_distance, DISTANCE_CAP), axis=0) * (1.0 / self._pairs)

    def _nearest_landmark(self) -> np.ndarray:
        return np.minimum(np.minimum.reduce(self._landmark_distance, axis=1), DISTANCE_CAP)

    def _lengths(self, vectors: np.ndarray, cap: float) -> np.ndarray:
        """Lengths ``[A, E]`` of ``vectors [2 A, E]`` (x rows, then y rows), at most ``cap``."""
        x, y = np.square(vectors).reshape(2, self.spec.agents, self.environments)
        return np.minimum(np.sqrt(x + y), cap)

    def _check(self, actions: np.ndarray) -> None:
        shape = (self.environments, self.spec.agents)
        if actions.shape != shape or actions.dtype.kind not in "iu":
            raise ValueError(
                f"spread.step got actions of shape {actions.shape} and type {actions.dtype}, "
                f"expected integers of shape {shape}."
            )
        if actions.min() < 0 or actions.max() >= len(ACTION_NAMES):
            raise ValueError(
                f"spread.step got actions from {actions.min()} to {actions.max()}, "
                f"expected 0 to {len(ACTION_NAMES) - 1}."
            )
        if self._any_ended:
            raise RuntimeError("spread.step was called on an ended episode: reset those that ended first.")

    def _move(self, actions: np.ndarray) -> None:
        """One step of the reference's ``World.step``: contact forces, then positions, then velocities."""
        self._push_apart()
        _PUSHES.take(actions.T, axis=1, out=self._forces[0], mode="clip")
        # Every agent adds its own push, then the others in order, as the reference does. The reduced axis is
        # the slowest one, so the order of the sum (hence every bit) does not depend on the size of the batch.
        force = np.add.reduce(self._forces, axis=0, out=self._total_force.reshape(self._forces.shape[1:]))
        np.multiply(self._velocity, TIME_STEP, out=self._travel)
        self._position += self._travel
        self._velocity *= 1.0 - DAMPING
        force *= TIME_STEP
        self._velocity += self._total_force

    def _push_apart(self) -> None:
        """Contact forces (softened springs, ``World.get_collision_force``) into ``forces[1:]``."""
        contact = self._contact
        np.subtract(CONTACT_DISTANCE, self._pair_distance, out=contact)
        contact /= CONTACT_MARGIN
        np.logaddexp(0.0, contact, out=contact)
        contact *= CONTACT_MARGIN * CONTACT_FORCE
        # Two agents on the very same point have no direction (nan in the reference): no force then.
        contact /= np.maximum(self._pair_distance, 1e-100)
        np.multiply(self._difference[:, : self._pairs], contact, out=self._pair_force[0])
        np.negative(self._pair_force[0], out=self._pair_force[1])
        rows = self._pair_force.reshape(4 * self._pairs, self.environments)
        rows.take(self._force_rows, axis=0, out=self._forces[1:], mode="clip")

    def _measure(self) -> None:
        """Distances between agents and from agents to landmarks, and which landmarks are covered."""
        np.take(self._coordinates, self._agent_rows, axis=0, out=self._difference, mode="clip")
        np.take(self._coordinates, self._other_rows, axis=0, out=self._square, mode="clip")
        self._difference -= self._square
        np.square(self._difference, out=self._square)
        np.add(self._square[0], self._square[1], out=self._distance)
        np.sqrt(self._distance, out=self._distance)
        np.minimum.reduce(self._landmark_distance, axis=0, out=self._nearest_agent)
        np.less_equal(self._nearest_agent, self.radius, out=self._covered)

    def _covered_fraction(self) -> np.ndarray:
        return np.add.reduce(self._covered, axis=0) / self.spec.agents

    def _observe(self) -> np.ndarray:
        """Observations ``[E, A, O]``: each entry is a coordinate or the difference of two.

        So all of them are one product with a matrix of 0, 1 and -1, exact whatever the order of its sums.
        """
        flat = self._coordinates.astype(np.float32).T @ self._observation_map
        return flat.reshape(self.environments, self.spec.agents, self.spec.observation_size)


def _rows(agents: int) -> np.ndarray:
    """Row numbers ``[kind, axis, index]`` of velocities (0), positions (1) and landmarks (2)."""
    return np.arange(6 * agents).reshape(3, 2, agents)


def _difference_rows(agents: int, pairs: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """Rows ``[2, couples]`` to subtract: every pair of agents, then every agent and landmark, agent first."""
    _, position, landmark = _rows(agents)
    first = [i for i, _ in pairs] + [i for i in range(agents) for _ in range(agents)]
    second = np.concatenate(
        [position[:, [j for _, j in pairs]], landmark[:, [k for _ in range(agents) for k in range(agents)]]],
        axis=1,
    )
    return position[:, first], second


def _force_rows(agents: int, pairs: list[tuple[int, int]]) -> np.ndarray:
    """Rows ``[A - 1, 2, A]`` of the signed pair forces ``[sign, axis, pair]`` that act on each agent."""
    signed = np.arange(4 * len(pairs)).reshape(2, 2, len(pairs))
    rows = np.empty((agents - 1, 2, agents), dtype=np.intp)
    for agent in range(agents):
        others = [other for other in range(agents) if other != agent]
        for slot, other in enumerate(others):
            pair = pairs.index((min(agent, other), max(agent, other)))
            rows[slot, :, agent] = signed[int(agent > other), :, pair]
    return rows


def _observation_map(agents: int) -> np.ndarray:
    """The matrix ``[6 A, A * O]`` float32 from the rows of the world to the observations of all agents."""
    velocity, position, landmark = _rows(agents)
    matrix = np.zeros((6 * agents, agents, _observation_size(agents)), dtype=np.float32)
    for agent in range(agents):
        others = np.delete(np.arange(agents), agent)
        relative = np.concatenate([landmark, position[:, others]], axis=1)  # [2, targets]
        for axis in range(2):
            matrix[velocity[axis, agent], agent, axis] = 1.0
            matrix[position[axis, agent], agent, 2 + axis] = 1.0
            columns = 4 + axis + 2 * np.arange(relative.shape[1])
            matrix[relative[axis], agent, columns] = 1.0
            matrix[position[axis, agent], agent, columns] = -1.0
    return matrix.reshape(6 * agents, -1)


def _observation_size(agents: int) -> int:
    return 4 + 2 * agents + 4 * (agents - 1)


def _specification(agents: int, radius: float) -> TaskSpec:
    """The declaration of `spread`; the name carries the options that are not the default ones."""
    options = [f"agents={agents}"] * (agents != 3) + [f"radius={float(radius)}"] * (radius != 0.15)
    return TaskSpec(
        name="spread" + ("?" + "&".join(options) if options else ""),
        description=(
            f"{agents} agents move in a plane with inertia and push each other away on contact; "
            f"{agents} landmarks at random places must all have an agent near them at the same time."
        ),
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
    return (
        Feature(
            "coverage_distance",
            f"Sum over the landmarks of the distance from the landmark to the agent nearest to it ({cap}).",
            "team", 0.0, DISTANCE_CAP * agents, "lower",
        ),
        Feature(
            "worst_coverage_distance",
            f"Distance from the worst covered landmark to the agent nearest to it ({cap}).",
            "team", 0.0, DISTANCE_CAP, "lower",
        ),
        Feature(
            "covered_fraction", "Share of the landmarks that have an agent within the covering radius.",
            "team", 0.0, 1.0, "higher",
        ),
        Feature(
            "collisions", f"Number of pairs of agents that touch (closer than {CONTACT_DISTANCE:g}).",
            "team", 0.0, float(pairs), "lower",
        ),
        Feature("spacing", f"Mean distance between two agents ({cap}).", "team", 0.0, DISTANCE_CAP, None),
        Feature(
            "nearest_landmark_distance",
            f"Distance from the agent to the landmark nearest to it, maybe shared with others ({cap}).",
            "agent", 0.0, DISTANCE_CAP, "lower",
        ),
        Feature(
            "speed", f"Speed of the agent (it counts at most {SPEED_CAP:g}).", "agent", 0.0, SPEED_CAP, None,
        ),
        Feature(
            "distance_to_centre", f"Distance from the agent to the centre of the arena ({cap}).",
            "agent", 0.0, DISTANCE_CAP, None,
        ),
    )  # fmt: skip


def _single(values: np.ndarray) -> np.ndarray:
    """A team feature ``[E]`` or an agent feature ``[A, E]`` as declared: float32, environments first."""
    return np.ascontiguousarray(values.T, dtype=np.float32)


_FEATURE_VALUES: dict[str, Callable[[Spread], np.ndarray]] = {
    "coverage_distance": lambda task: _single(np.add.reduce(task._near(), axis=0)),
    "worst_coverage_distance": lambda task: _single(np.maximum.reduce(task._near(), axis=0)),
    "covered_fraction": lambda task: _single(task._covered_fraction()),
    "collisions": lambda task: _single(np.add.reduce(task._pair_distance < CONTACT_DISTANCE, axis=0)),
    "spacing": lambda task: _single(task._spacing()),
    "nearest_landmark_distance": lambda task: _single(task._nearest_landmark()),
    "speed": lambda task: _single(task._lengths(task._velocity, SPEED_CAP)),
    "distance_to_centre": lambda task: _single(task._lengths(task._position, DISTANCE_CAP)),
}
"""How each declared feature is computed, in the order of `_features`. Each alone: shaping reads few of them, often."""
