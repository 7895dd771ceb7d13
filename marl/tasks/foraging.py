"""The task `foraging`: agents of different strength lift food together; `lbforaging` 2.x for a whole batch.

Every id ``Foraging[-2s]-{s}x{s}-{p}p-{f}f[-coop]-v3`` is the environment that lbforaging registers under it, with the
players' rewards added up. Two things differ on purpose: the time limit truncates an episode (the reference calls
every end terminated), and an episode starts as in a *new* reference environment (one that is used again never puts
an agent where a later one stood at the end of the episode before).

Layout: the environment is on the fast axis. A place is a cell number (row by row), and a food is one integer, cell and
level, so that sorting foods lists them as the observations do: row by row, those that are gone last.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np

from learning_signal.marl.tasks.base import Ground, Step
from learning_signal.marl.tasks.clock import Clock
from learning_signal.marl.tasks.foraging_board import LEVELS, Board, parse_id, spawn
from learning_signal.marl.tasks.foraging_declaration import ACTION_NAMES, HORIZON, specification
from learning_signal.marl.tasks.picture import Picture, Shape

LOAD = 5


class Foraging:
    """A batch of ``environments`` boards of the kind that ``id`` names (a `Task`).

    The observation of an agent, as in the reference, is row, column and level of every food it sees, row by row
    (-1, -1, 0 where there is none), then of itself, then of the other agents it sees; counted from the corner of its
    window, which is the board's corner where it sees the whole board. The joint state ``[E, 3 F + 3 A + 1]`` is rows,
    columns and levels of the foods left (0 where there is none) and of all agents, and the share of food left; places
    as fractions of the board, levels of the highest there is.

    Raises ``ValueError`` for an id that lbforaging does not register.
    """

    def __init__(self, environments: int, id: str = "Foraging-8x8-2p-2f-coop-v3") -> None:
        self._clock = Clock("foraging", environments, HORIZON)
        self.environments = environments
        self.game = game = parse_id(id)
        self.spec = specification(game)
        self._board = Board(game.size)
        self.ground = Ground(columns=game.size, rows=game.size, cell=1.0, plane=False)
        self._full_sight = game.sight >= game.size
        self._cell = np.zeros((game.players, environments), np.int64)
        self._level = np.ones((game.players, environments), np.float32)
        self._food = np.full((game.foods, environments), self._board.absent * LEVELS)
        self._spawned = np.ones(environments, np.float32)
        self._all_eaten = np.zeros(environments, bool)
        others = [[other for other in range(game.players) if other != agent] for agent in range(game.players)]
        self._self_first = np.array([[agent, *others[agent]] for agent in range(game.players)])
        self._list_foods()
        self._locate()

    def reset(self, seeds: np.ndarray, where: np.ndarray | None = None) -> np.ndarray:
        """Start episodes as a new reference environment does; observations ``[E, A, O]`` of all."""
        seeds = np.asarray(seeds)
        started = self._clock.start(seeds, where)
        cell, level, food = spawn(self.game, self._board, seeds[started])
        self._cell[:, started], self._level[:, started], self._food[:, started] = cell, level, food
        self._all_eaten = self._all_eaten & ~started
        self._list_foods()
        self._spawned[started] = self._food_level[:, started].sum(axis=0)
        self._locate()
        return self._observe()

    def step(self, actions: np.ndarray) -> Step:
        """Apply joint actions ``[E, A]`` (see ``spec.action_names``); the arrays returned are never reused.

        Raises ``ValueError`` for actions of a wrong shape, type or range, ``RuntimeError`` when some episode
        has ended and was not reset.
        """
        self._clock.check(actions, self.spec.agents, len(ACTION_NAMES))
        if self._all_eaten.any():
            raise RuntimeError("foraging.step was called on an ended episode: reset those that ended first.")
        chosen = actions.T
        self._move(chosen)
        reward = self._load(chosen == LOAD) / np.maximum(self._spawned, 1.0)
        self._all_eaten = terminated = ~self._present[0]
        truncated = self._clock.tick() & ~terminated
        return Step(self._observe(), reward, terminated, truncated)

    def state(self) -> np.ndarray:
        """The joint state ``[E, S]`` float32, in the order given in the class docstring."""
        game = self.game
        last = np.float32(game.size - 1)
        food = np.concatenate([self._food_place / last, self._food_level[None] / game.heaviest]) * self._present
        agent = np.concatenate([self._place / last, self._level[None] / 2])
        rows = [*(thing.swapaxes(0, 1).reshape(-1, self.environments) for thing in (food, agent)), self._left()[None]]
        return np.ascontiguousarray(np.concatenate(rows).T, dtype=np.float32)

    def progress(self) -> np.ndarray:
        """Share ``[E]`` float32 of the food that is eaten, half counted where agents beside it could lift it."""
        lifted = (self._lift() * self._food_level).sum(axis=0) / np.maximum(self._spawned, 1.0)
        return 1.0 - self._left() + 0.5 * lifted

    def features(self, names: Collection[str] | None = None) -> dict[str, np.ndarray]:
        """The features in ``names`` (every declared one when None), float32: team ``[E]``, agent ``[E, A]``."""
        return {name: _FEATURE_VALUES[name](self) for name in (_FEATURE_VALUES if names is None else names)}

    def places(self, agent: int) -> np.ndarray:
        """See `GroundedTask`."""
        return self._place[::-1, agent].T + 0.5

    def features_at(
        self, agent: int, places: np.ndarray, names: Collection[str] | None = None
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """See `GroundedTask`: an agent can be in every cell without a food or another agent."""
        kept = self._cell[agent].copy()
        x, y = places.T.astype(np.int64)
        wanted = y * self.game.size + x
        others = np.delete(self._cell, agent, axis=0)
        free = (wanted != np.concatenate([others, self._food_cell])).all(axis=0)
        self._cell[agent] = np.where(free, wanted, kept)
        self._locate()
        found = self.features(names)
        self._cell[agent] = kept
        self._locate()
        return found, free

    def heuristic(self) -> np.ndarray:
        """Everybody walks to the food that is nearest to all together, and loads beside it; actions ``[E, A]``.

        Whoever stands next to any food that those beside it can lift loads too. The others go the shortest way, one
        after the other choosing a cell that nobody has taken. With two or three agents on 8x8 or 10x10 everything is
        eaten in nearly every episode; fifty steps are not always enough for four heavy foods on 15x15 (0.92).
        """
        board, everywhere = self._board, np.arange(self.environments)
        goal = self._food_cell[self._target(), everywhere]
        loads = (self._beside() & ((self._food_cell == goal) | (self._lift() == 1.0))).any(axis=1)
        closed = np.zeros((board.absent + 1, self.environments), bool)
        closed[self._food_cell, everywhere] = True
        closed[np.where(loads, self._cell, board.absent), everywhere] = True
        closed[goal, everywhere] = False
        steps = board.steps_to(goal, closed)

        actions = np.where(loads, LOAD, 0)
        taken = np.concatenate([self._cell, self._food_cell])
        for agent, cell in enumerate(self._cell):
            options = board.next[:LOAD, cell]
            taken[agent] = board.absent
            cost = np.where((options[:, None] == taken).any(axis=1), np.inf, steps[options, everywhere])
            actions[agent] = np.where(loads[agent], LOAD, cost.argmin(axis=0))
            taken[agent] = board.next[actions[agent], cell]
        return np.ascontiguousarray(actions.T)

    def draw(self, environment: int) -> Picture:
        """The board: foods and agents with their levels."""
        size = self.game.size
        cells = [Shape("square", x + 0.5, y + 0.5, 0.47, "floor") for y in range(size) for x in range(size)]
        food_place, food_level = self._food_place[..., environment].tolist(), self._food_level[:, environment]
        agent_place, agent_level = self._place[..., environment].tolist(), self._level[:, environment]
        foods = [
            Shape("square", x + 0.5, y + 0.5, 0.36, "goal", f"{level:g}")
            for y, x, level in zip(*food_place, food_level, strict=True)
            if level > 0
        ]
        agents = [
            Shape("disc", x + 0.5, y + 0.5, 0.36, "agent", f"{level:g}")
            for y, x, level in zip(*agent_place, agent_level, strict=True)
        ]
        caption = f"step {self._clock.elapsed[environment]}, food left {self._left()[environment]:.0%}"
        return Picture(size, size, (*cells, *foods, *agents), caption)

    def _move(self, chosen: np.ndarray) -> None:
        """Move the agents by ``chosen`` ``[A, E]``: into no wall, no food and no cell that two or more head for.

        Who stays heads for its own cell. As in the reference, agents may swap places, and one whose own move failed
        does not keep another, that was heading for where it stood, from coming: then both are in one cell.
        """
        target = self._board.next.ravel().take(chosen * self._board.cells + self._cell)
        onto_food = (target[:, None] == self._food_cell).any(axis=1)
        target = np.where(onto_food, self._cell, target)
        heading = np.add.reduce(target[:, None] == target, axis=1)
        self._cell = np.where(heading > 1, self._cell, target)
        self._locate()

    def _load(self, loading: np.ndarray) -> np.ndarray:
        """Take away every food that the agents ``loading`` ``[A, E]`` beside it can lift; the levels eaten ``[E]``."""
        strength = self._strength(self._beside() & loading[:, None])
        eaten = (strength >= self._food_level) & self._present
        levels = (self._food_level * eaten).sum(axis=0)
        if eaten.any():
            self._food[eaten] = self._board.absent * LEVELS
            self._food.sort(axis=0)
            self._list_foods()
        return levels

    def _list_foods(self) -> None:
        """What the foods' numbers say: cells, levels, rows and columns."""
        self._food_cell, level = np.divmod(self._food, LEVELS)
        self._food_level = level.astype(np.float32)
        self._food_place = self._board.place[:, self._food_cell]
        """``[2, F, E]`` float32."""
        self._present = level > 0

    def _locate(self) -> None:
        """Rows and columns ``[2, A, E]`` float32 of the agents."""
        self._place = self._board.place[:, self._cell]

    def _beside(self) -> np.ndarray:
        """``[A, F, E]`` bool: whether an agent is next to a food (which never is at the border)."""
        gap = np.abs(self._cell[:, None] - self._food_cell)
        return (gap == 1) | (gap == self._board.size)

    def _strength(self, at: np.ndarray) -> np.ndarray:
        """``[F, E]``: the levels of the agents that are ``at`` ``[A, F, E]`` each food, added up."""
        return np.where(at, self._level[:, None], np.float32(0.0)).sum(axis=0)

    def _lift(self) -> np.ndarray:
        """``[F, E]``: which part of its level the agents beside a food have, at most 1; 0 where it is gone."""
        return np.minimum(self._strength(self._beside()) / np.maximum(self._food_level, 1.0), 1.0)

    def _left(self) -> np.ndarray:
        """Share ``[E]`` of the food that is left, by level."""
        return self._food_level.sum(axis=0) / np.maximum(self._spawned, 1.0)

    def _distance(self) -> np.ndarray:
        """Steps ``[A, F, E]`` along rows and columns from each agent to each food; infinite where it is gone."""
        steps = np.abs(self._place[:, :, None] - self._food_place[:, None]).sum(axis=0)
        return np.where(self._present, steps, np.inf)

    def _target(self) -> np.ndarray:
        """Which food ``[E]`` the agents have the fewest steps to, added up over all of them."""
        return self._distance().sum(axis=0).argmin(axis=0)

    def _lifting_distance(self) -> np.ndarray:
        """``[E]``: the fewest steps within which a food has agents enough to lift it; infinite where none is left."""
        distance = self._distance()
        strength = np.where(distance[:, None] <= distance, self._level[:, None, None], 0.0).sum(axis=0)
        enough = strength >= self._food_level
        return np.where(enough, distance, np.inf).min(axis=(0, 1))

    def _spacing(self) -> np.ndarray:
        agents = self.spec.agents
        gaps = np.abs(self._place[:, :, None] - self._place[:, None]).sum(axis=(0, 1, 2))
        return gaps / (agents * (agents - 1))

    def _observe(self) -> np.ndarray:
        """Observations ``[E, A, O]``, see the class docstring."""
        foods, agents, environments = self.game.foods, self.spec.agents, self.environments
        shown = np.empty((agents, foods + agents, 3, environments), np.float32)
        if self._full_sight:
            shown[:, :foods, :2] = self._food_place.swapaxes(0, 1)
            shown[:, :foods, 2] = self._food_level
            shown[:, foods:, :2] = self._place.swapaxes(0, 1)[self._self_first]
            shown[:, foods:, 2] = self._level[self._self_first]
        else:
            self._show_windows(shown)
        return np.ascontiguousarray(shown.reshape(-1, environments).T).reshape(environments, agents, -1)

    def _show_windows(self, shown: np.ndarray) -> None:
        """Write what each agent sees around it into ``shown`` ``[A, F + A, 3, E]``.

        As in the reference, places count from a corner ``sight`` rows and columns before the agent, but not before the
        board's; foods are seen up to ``sight`` from the agent, other agents up to ``2 * sight`` from that corner, so
        further near the first rows and columns.
        """
        sight = self.game.sight
        corner = np.maximum(self._place - sight, 0)
        food_seen = (np.abs(self._food_place[:, None] - self._place[:, :, None]) <= sight).all(axis=0)
        gap = self._place[:, self._self_first] - corner[:, :, None]
        near = (gap >= 0) & (gap <= 2 * sight)
        agent_seen = near[0] & near[1]

        agent = self._cell * LEVELS + self._level.astype(np.int64)
        listed = (
            _seen_first(np.broadcast_to(self._food, food_seen.shape), food_seen),
            _seen_first(agent[self._self_first], agent_seen),
        )
        cell, level = np.divmod(np.concatenate(listed, axis=1), LEVELS)
        place = self._board.place[:, cell] - corner[:, :, None]
        shown[:, :, :2] = np.where(level > 0, place, -1).transpose(1, 2, 0, 3)
        shown[:, :, 2] = level


def _seen_first(things: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """``things`` ``[A, n, E]`` in their order, but those that are ``seen``; then 0 for each of the rest."""
    order = np.argsort(~seen, axis=1, kind="stable")
    return np.take_along_axis(np.where(seen, things, 0), order, axis=1)


def _single(values: np.ndarray) -> np.ndarray:
    """A team feature ``[E]`` or an agent feature ``[A, E]`` as declared: float32, environments first."""
    return np.ascontiguousarray(values.T, dtype=np.float32)


def _finite(distance: np.ndarray) -> np.ndarray:
    """Distances as features count them: 0 where there is no food to be far from."""
    return np.where(np.isfinite(distance), distance, 0.0)


def _target_distance(task: Foraging) -> np.ndarray:
    return np.take_along_axis(task._distance(), task._target()[None, None], axis=1)[:, 0]


_FEATURE_VALUES: dict[str, Callable[[Foraging], np.ndarray]] = {
    "food_left": lambda task: _single(task._left()),
    "team_distance": lambda task: _single(_finite(task._distance().mean(axis=0).min(axis=0))),
    "lifting_distance": lambda task: _single(_finite(task._lifting_distance())),
    "lift_fraction": lambda task: _single(np.where(task._present[0], task._lift().max(axis=0), 1.0)),
    "spacing": lambda task: _single(task._spacing()),
    "nearest_food_distance": lambda task: _single(_finite(task._distance().min(axis=1))),
    "target_distance": lambda task: _single(_finite(_target_distance(task))),
    "beside_food": lambda task: _single(task._beside().any(axis=1) | ~task._present[0]),
}
"""How each declared feature is computed, in their order. Each alone: shaping reads few of them, often."""
