"""The task `pursuit`: pursuers must touch a faster evader two at a time; `mpe2.simple_tag_v3` for a whole batch.

Physics, the pursuers' observations and the time limit are those of ``mpe2.simple_tag_v3.parallel_env(num_good=1,
num_adversaries=pursuers, num_obstacles=obstacles, max_cycles=25, continuous_actions=False)``. The evader is part of
the task: it follows a script (`Pursuit.evader_actions`), and the pursuers are the agents. The reward is sparse.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np

from learning_signal.marl.randomness import uniforms
from learning_signal.marl.tasks.base import Feature, Ground, Step, TaskSpec
from learning_signal.marl.tasks.clock import Clock
from learning_signal.marl.tasks.particles import ACTION_NAMES, Particles, observation_map, row_numbers, steer
from learning_signal.marl.tasks.picture import Picture, Shape

HORIZON = 25
PURSUER_SIZE, PURSUER_PUSH, PURSUER_SPEED = 0.075, 3.0, 1.0
EVADER_SIZE, EVADER_PUSH, EVADER_SPEED = 0.05, 4.0, 1.3
TOUCHING_DISTANCE = PURSUER_SIZE + EVADER_SIZE
NEEDED = 2
"""So many pursuers must touch the evader at once."""
MOST = 100
"""Pursuers, and obstacles."""
OBSTACLE_SIZE = 0.2
OBSTACLE_AREA = 0.9
"""Obstacles stand in [-0.9, 0.9]^2, everybody starts in [-1, 1]^2."""

FENCE = 0.7
FORESIGHT = 0.2
"""Where it will be in so many seconds, the evader keeps inside [-FENCE, FENCE]^2."""
LOOKAHEAD = 0.3
"""Seconds of motion that the heuristic counts in."""

DISTANCE_CAP = 3.0
"""Feature distances end here, just above the arena's diagonal (2.83): the plane itself has no end."""
VIEW = 1.4
"""A picture shows the square from -VIEW to VIEW."""
GROUND = Ground(columns=20, rows=20, cell=2 * VIEW / 20, plane=True)


class Pursuit:
    """A batch of ``environments`` worlds of ``pursuers`` agents, one evader and some round obstacles (a `Task`).

    The joint state ``[E, 4 (A + 1) + 2 L]`` is absolute: x velocities, y velocities, x positions, y positions, each of
    the pursuers and then of the evader; then x and y positions of the ``L`` obstacles. The observation of a pursuer,
    as in the reference, is its velocity (2), its position (2), the obstacles relative to it (2 L), the other pursuers
    and the evader relative to it (2 A) and the evader's velocity (2).

    Raises ``ValueError`` when an argument is out of its range.
    """

    ground = GROUND

    def __init__(self, environments: int, pursuers: int = 3, obstacles: int = 2) -> None:
        self._clock = Clock("pursuit", environments, HORIZON)
        if not NEEDED <= pursuers <= MOST:
            raise ValueError(f"pursuit got pursuers={pursuers}, expected {NEEDED} to {MOST}: choose such a number.")
        if not 0 <= obstacles <= MOST:
            raise ValueError(f"pursuit got obstacles={obstacles}, expected 0 to {MOST}: choose such a number.")
        self.environments = environments
        self.spec = _specification(pursuers, obstacles)
        self._world = Particles(
            environments,
            push=np.array([PURSUER_PUSH] * pursuers + [EVADER_PUSH]),
            size=np.array([PURSUER_SIZE] * pursuers + [EVADER_SIZE]),
            fixed=obstacles,
            fixed_size=OBSTACLE_SIZE,
            top_speed=np.array([PURSUER_SPEED] * pursuers + [EVADER_SPEED]),
        )
        self._observation_map = _observation_map(pursuers, obstacles)
        first, second = np.triu_indices(pursuers + 1, 1)
        self._chases, self._teams = np.flatnonzero(second == pursuers), np.flatnonzero(second < pursuers)
        """Which pairs of bodies are a pursuer and the evader, and which are two pursuers."""
        self._mates = [self._teams[(first[self._teams] == i) | (second[self._teams] == i)] for i in range(pursuers)]
        self._away = np.empty((pursuers, 2, environments))
        self._actions = np.zeros((pursuers + 1, environments), dtype=np.int64)

    def reset(self, seeds: np.ndarray, where: np.ndarray | None = None) -> np.ndarray:
        """Start episodes at uniformly random places and at rest; observations ``[E, A, O]`` of all."""
        seeds = np.asarray(seeds)
        started = self._clock.start(seeds, where)
        bodies = 2 * self._world.bodies
        placed = 2.0 * uniforms(seeds[started], bodies + 2 * self._world.fixed).T - 1.0
        placed[bodies:] *= OBSTACLE_AREA
        self._world.coordinates[:bodies, started] = 0.0
        self._world.coordinates[bodies:, started] = placed
        self._world.measure()
        return self._observe()

    def step(self, actions: np.ndarray) -> Step:
        """Apply the pursuers' actions ``[E, A]`` (see ``spec.action_names``); the arrays returned are never reused.

        Raises ``ValueError`` for actions of a wrong shape, type or range, ``RuntimeError`` when some episode
        has ended and was not reset.
        """
        self._clock.check(actions, self.spec.agents, len(ACTION_NAMES))
        self._actions[:-1], self._actions[-1] = actions.T, self.evader_actions()
        self._world.move(self._actions)
        reward = (self._touches() >= NEEDED).astype(np.float32)
        return Step(self._observe(), reward, np.zeros(self.environments, dtype=bool), self._clock.tick())

    def evader_actions(self) -> np.ndarray:
        """What the script does next ``[E]``, a pure function of the current states.

        If the evader is about to be outside the fence, it pushes back along the axis on which it is further out.
        Otherwise it flees: every pursuer repels it with the inverse of its distance, and it pushes along the longer
        axis of the sum. Obstacles it ignores. So one pursuer, who is slower, brushes it at best, while several drive it
        to the fence, where it turns round into them.
        """
        evader = self._world.position[:, -1]
        # [A, 2, E], so that the sum runs over the slowest axis: its order does not depend on the size of the batch.
        away = np.subtract(evader, self._world.position[:, :-1].swapaxes(0, 1), out=self._away)
        square = away[:, 0] * away[:, 0] + away[:, 1] * away[:, 1]
        away /= np.maximum(square, 1e-6)[:, None]
        flee = np.add.reduce(away, axis=0)
        ahead = evader + FORESIGHT * self._world.velocity[:, -1]
        outside = np.maximum(np.abs(ahead) - FENCE, 0.0)
        back = -np.sign(ahead) * outside
        return steer(np.where(outside.any(axis=0), back, flee), slack=0.0)

    def state(self) -> np.ndarray:
        """The joint state ``[E, S]`` float32, in the order given in the class docstring."""
        return np.ascontiguousarray(self._world.coordinates.T, dtype=np.float32)

    def progress(self) -> np.ndarray:
        """The share ``[E]`` float32 of the touches needed: 0, 0.5 or 1."""
        return (np.minimum(self._touches(), NEEDED) / NEEDED).astype(np.float32)

    def features(self, names: Collection[str] | None = None) -> dict[str, np.ndarray]:
        """The features in ``names`` (every declared one when None), float32: team ``[E]``, agent ``[E, A]``."""
        chosen = [feature.name for feature in self.spec.features] if names is None else names
        return {name: np.ascontiguousarray(_FEATURE_VALUES[name](self).T, dtype=np.float32) for name in chosen}

    def places(self, agent: int) -> np.ndarray:
        """See `GroundedTask`."""
        return self._world.pictured(agent, VIEW)

    def features_at(
        self, agent: int, places: np.ndarray, names: Collection[str] | None = None
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """See `GroundedTask`: a pursuer can be anywhere in the plane."""
        with self._world.pictured_at(agent, places, VIEW):
            return self.features(names), np.ones(self.environments, bool)

    def heuristic(self) -> np.ndarray:
        """Joint actions ``[E, A]``: everybody heads for where the evader will be. Mean return 0.9 (random: 0.002)."""
        ahead = self._world.position + LOOKAHEAD * self._world.velocity
        return steer(ahead[:, -1:] - ahead[:, :-1], slack=0.0).T

    def draw(self, environment: int) -> Picture:
        """The arena with obstacles, pursuers (their number on them) and the evader, which changes colour when held."""
        *pursuers, evader = self._world.position[:, :, environment].T.tolist()
        touches = int(self._touches()[environment])
        held = touches >= NEEDED
        obstacles = self._world.places[:, :, environment].T.tolist()
        return Picture(
            2 * VIEW,
            2 * VIEW,
            (
                Shape("square", VIEW, VIEW, 1.0, "floor"),
                *(Shape("disc", VIEW + x, VIEW - y, OBSTACLE_SIZE, "wall") for x, y in obstacles),
                *(
                    Shape("disc", VIEW + x, VIEW - y, PURSUER_SIZE, "agent", str(number))
                    for number, (x, y) in enumerate(pursuers)
                ),
                Shape("disc", VIEW + evader[0], VIEW - evader[1], EVADER_SIZE, "done" if held else "other"),
            ),
            f"{touches} of {NEEDED} touch",
        )

    def _distance(self) -> np.ndarray:
        """``[A, E]``: from each pursuer to the evader."""
        return self._world.pair_distance[self._chases]

    def _touches(self) -> np.ndarray:
        """``[E]``: how many pursuers touch the evader."""
        return np.add.reduce(self._distance() < TOUCHING_DISTANCE, axis=0)

    def _spacing(self) -> np.ndarray:
        """``[A, E]``: from each pursuer to the pursuer nearest to it."""
        return np.stack([np.minimum.reduce(self._world.pair_distance[mates], axis=0) for mates in self._mates])

    def _closing_speed(self) -> np.ndarray:
        """``[A, E]``: how fast each distance to the evader shrinks."""
        away = self._world.position[:, :-1] - self._world.position[:, -1:]
        relative = self._world.velocity[:, :-1] - self._world.velocity[:, -1:]
        along = away[0] * relative[0] + away[1] * relative[1]
        return -along / np.maximum(self._distance(), 1e-9)

    def _widest_gap(self) -> np.ndarray:
        """``[E]``: the largest angle, seen from the evader, between two neighbouring pursuers."""
        x, y = self._world.position[:, :-1] - self._world.position[:, -1:]
        angle = np.sort(np.arctan2(y, x), axis=0)
        round_trip = angle[0] + 2.0 * np.pi - angle[-1]
        return np.maximum(np.maximum.reduce(np.diff(angle, axis=0), axis=0), round_trip)

    def _clearance(self) -> np.ndarray:
        """``[A, E]``: from each pursuer's edge to that of the nearest obstacle, 0 in contact."""
        distance = np.minimum.reduce(self._world.place_distance[:-1], axis=1)
        return np.clip(distance - PURSUER_SIZE - OBSTACLE_SIZE, 0.0, DISTANCE_CAP)

    def _observe(self) -> np.ndarray:
        """Observations ``[E, A, O]``."""
        flat = self._world.coordinates.astype(np.float32).T @ self._observation_map
        return flat.reshape(self.environments, self.spec.agents, self.spec.observation_size)


def _observation_map(pursuers: int, obstacles: int) -> np.ndarray:
    """The matrix ``[S, A * O]`` float32 from the rows of the world to the observations of all pursuers."""
    velocity, position, obstacle = row_numbers(pursuers + 1, obstacles)
    shown, subtracted = [], []
    for agent in range(pursuers):
        others = np.delete(np.arange(pursuers + 1), agent)
        relative = np.concatenate([obstacle, position[:, others]], axis=1).T.ravel()
        shown.append([*velocity[:, agent], *position[:, agent], *relative, *velocity[:, -1]])
        subtracted.append([None] * 4 + [*position[:, agent]] * (len(relative) // 2) + [None] * 2)
    return observation_map(shown, subtracted, 4 * (pursuers + 1) + 2 * obstacles)


def _specification(pursuers: int, obstacles: int) -> TaskSpec:
    """The declaration of `pursuit`; the name carries the options that are not the default ones."""
    options = [f"pursuers={pursuers}"] * (pursuers != 3) + [f"obstacles={obstacles}"] * (obstacles != 2)
    scenery = {0: "There are no obstacles", 1: "One round obstacle blocks the way"}.get(
        obstacles, f"{obstacles} round obstacles block the way"
    )
    return TaskSpec(
        name="pursuit" + ("?" + "&".join(options) if options else ""),
        description=(
            f"{pursuers} pursuers (the agents) chase one evader in a plane; everything has inertia and is thrown "
            f"apart on contact. {scenery}. The evader follows a script: it flees from near pursuers and turns round at "
            f"a fence ({FENCE:g} from the centre on either axis). It is faster ({EVADER_SPEED:g} against "
            f"{PURSUER_SPEED:g}) and one pursuer alone brushes it at best, while several can drive it into each other."
        ),
        sparse_reward=f"1 per step in which at least {NEEDED} pursuers touch the evader at once, else 0",
        agents=pursuers,
        observation_size=6 + 2 * pursuers + 2 * obstacles,
        state_size=4 * (pursuers + 1) + 2 * obstacles,
        actions=len(ACTION_NAMES),
        action_names=ACTION_NAMES,
        idle_action=0,
        horizon=HORIZON,
        max_return=float(HORIZON),
        features=_features(pursuers, obstacles),
        progress=f"pursuers that touch the evader now (at most {NEEDED} are counted), divided by {NEEDED}",
    )


def _features(pursuers: int, obstacles: int) -> tuple[Feature, ...]:
    """The declared features, see `_FEATURE_VALUES` for how they are computed."""
    cap = f"it counts at most {DISTANCE_CAP:g}"
    clearance = Feature(
        "clearance", f"Gap between the pursuer and the nearest obstacle ({cap}).", "agent", 0.0, DISTANCE_CAP, None
    )
    fastest = PURSUER_SPEED + EVADER_SPEED
    return (
        Feature("touches", "Number of pursuers that touch the evader.", "team", 0.0, float(pursuers), "higher"),
        Feature(
            "nearest_distance",
            f"Distance from the evader to the pursuer nearest to it ({cap}).",
            "team",
            0.0,
            DISTANCE_CAP,
            "lower",
        ),
        Feature(
            "second_distance",
            f"Distance from the evader to the second nearest pursuer ({cap}); a reward needs it below "
            f"{TOUCHING_DISTANCE:g}.",
            "team",
            0.0,
            DISTANCE_CAP,
            "lower",
        ),
        Feature(
            "widest_gap",
            "Largest angle, seen from the evader, without a pursuer (radians): a full turn when all stand on one side, "
            f"2 pi / {pursuers} when they surround it evenly.",
            "team",
            0.0,
            6.2832,
            "lower",
        ),
        Feature(
            "evader_off_centre",
            f"Distance of the evader from the centre along the axis on which it is further out ({cap}); its fence is "
            f"at {FENCE:g}.",
            "team",
            0.0,
            DISTANCE_CAP,
            None,
        ),
        Feature(
            "distance_to_evader",
            f"Distance from the pursuer to the evader ({cap}).",
            "agent",
            0.0,
            DISTANCE_CAP,
            "lower",
        ),
        Feature(
            "closing_speed",
            "Speed at which the pursuer's distance to the evader shrinks (negative: it grows).",
            "agent",
            -fastest,
            fastest,
            "higher",
        ),
        Feature(
            "spacing",
            f"Distance from the pursuer to the pursuer nearest to it ({cap}).",
            "agent",
            0.0,
            DISTANCE_CAP,
            None,
        ),
        *((clearance,) if obstacles else ()),
    )


def _capped(distance: np.ndarray) -> np.ndarray:
    return np.minimum(distance, DISTANCE_CAP)


_FEATURE_VALUES: dict[str, Callable[[Pursuit], np.ndarray]] = {
    "touches": lambda task: task._touches(),
    "nearest_distance": lambda task: _capped(np.minimum.reduce(task._distance(), axis=0)),
    "second_distance": lambda task: _capped(np.partition(task._distance(), 1, axis=0)[1]),
    "widest_gap": lambda task: task._widest_gap(),
    "evader_off_centre": lambda task: _capped(np.abs(task._world.position[:, -1]).max(axis=0)),
    "distance_to_evader": lambda task: _capped(task._distance()),
    "closing_speed": lambda task: task._closing_speed(),
    "spacing": lambda task: _capped(task._spacing()),
    "clearance": lambda task: task._clearance(),
}
"""How each declared feature is computed, in the order of `_features`. Each alone: shaping reads few of them, often."""
