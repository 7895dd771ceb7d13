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

from marl.picture import Picture, Shape
from marl.randomness import uniforms
from marl.tasks.base import Feature, Step, TaskSpec
from marl.tasks.clock import Clock
from marl.tasks.foraging_board import LEVELS, Board, Game, parse_id, spawn

HORIZON = 50
ACTION_NAMES = ("stay", "north", "south", "west", "east", "load")
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
        self.spec = _specification(game)
        self._board = Board(game.size)
        self._full_sight = game.sight >= game.size
        self._cell = np.zeros((game.players, environments), np.int64)
        self._level = np.ones((game.players, environments), np.float32)
        self._food = np.full((game.foods, environments), self._board.absent * LEVELS)
        self._spawned = np.ones(environments, np.float32)
        self._over = np.zeros(environments, bool)
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
        self._over[started] = False
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
        if self._over.any():
            raise RuntimeError("foraging.step was called on an ended episode: reset those that ended first.")
        chosen = actions.T
        self._move(chosen)
        reward = self._load(chosen == LOAD) / np.maximum(self._spawned, 1.0)
        terminated = self._present[0] == 0
        truncated = self._clock.tick() & ~terminated
        self._over = terminated | truncated
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

    def heuristic(self) -> np.ndarray:
        """Everybody walks to the food that is nearest to all together, and loads beside it; actions ``[E, A]``.

        In turn, the agents step to the best cell that nobody stands on or steps to. Where the straight ways are
        taken, a draw that depends on the time decides between waiting and walking around.
        """
        board, agents = self._board, self.spec.agents
        goal = np.take_along_axis(self._food_cell, self._target()[None], axis=0)[0]
        actions = np.empty((agents, self.environments), np.int64)
        taken = [*self._cell, *self._food_cell]
        for agent in range(agents):
            options = board.next[:LOAD, self._cell[agent]]
            ways = board.place[:, options] - board.place[:, None, goal]
            cost = np.abs(ways).sum(axis=0) + 1.5 * uniforms(self._clock.elapsed * agents + agent, LOAD).T
            for thing, cell in enumerate(taken):
                if thing != agent:
                    cost += np.where(options == cell, np.inf, 0.0)
            actions[agent] = cost.argmin(axis=0)
            taken.append(options[actions[agent], np.arange(self.environments)])
        wanted = (self._food_cell == goal) | (self._lift() == 1.0)
        return np.where((self._beside() & wanted).any(axis=1), LOAD, actions).T

    def draw(self, environment: int) -> Picture:
        """The board: foods and agents with their levels."""
        size = self.game.size
        cells = [Shape("square", x + 0.5, y + 0.5, 0.47, "floor") for y in range(size) for x in range(size)]
        foods, agents = (
            [
                Shape(kind, float(x) + 0.5, float(y) + 0.5, 0.36, colour, f"{level:g}")
                for y, x, level in zip(*place[..., environment], levels[:, environment], strict=True)
                if level > 0
            ]
            for kind, colour, place, levels in (
                ("square", "goal", self._food_place, self._food_level),
                ("disc", "agent", self._place, self._level),
            )
        )
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
        """``[E]``: the fewest steps within which enough agents for one of the foods are; infinite where none is left."""
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
        game = self.game
        foods, players, environments = game.foods, game.players, self.environments
        shown = np.empty((players, foods + players, 3, environments), np.float32)
        food, agent = shown[:, :foods], shown[:, foods:]
        if self._full_sight:
            food[:, :, :2] = self._food_place.swapaxes(0, 1)
            food[:, :, 2] = self._food_level
            agent[:, :, :2] = self._place.swapaxes(0, 1)[self._self_first]
            agent[:, :, 2] = self._level[self._self_first]
        else:
            self._show_window(food, agent)
        return np.ascontiguousarray(shown.reshape(-1, environments).T).reshape(environments, players, -1)

    def _show_window(self, food: np.ndarray, agent: np.ndarray) -> None:
        """Write what the agents see into ``food`` ``[A, F, 3, E]`` and ``agent`` ``[A, A, 3, E]``.

        A window ends at the board. As in the reference its corner moves with the agent only from row (or column)
        ``sight`` on, and other agents are seen up to ``2 * sight`` from the corner: near the low borders further than
        foods.
        """
        sight = self.game.sight
        corner = np.maximum(self._place - sight, 0)

        seen = (np.abs(self._food_place[:, None] - self._place[:, :, None]) <= sight).all(axis=0) & self._present
        listed = np.where(seen, self._food, self._board.absent * LEVELS)
        listed.sort(axis=1)
        cell, food[:, :, 2] = np.divmod(listed, LEVELS)
        gone = cell == self._board.absent
        for axis in range(2):
            place = self._board.place[axis][cell] - corner[axis][:, None]
            food[:, :, axis] = np.where(gone, -1, place)

        place = self._place[:, self._self_first] - corner[:, :, None]
        seen = ((place >= 0) & (place <= 2 * sight)).all(axis=0)
        agent[:, :, :2] = np.where(seen, place, -1).transpose(1, 2, 0, 3)
        agent[:, :, 2] = np.where(seen, self._level[self._self_first], 0)


def _specification(game: Game) -> TaskSpec:
    size, agents, foods = game.size, game.players, game.foods
    sight = f"{game.sight} cells around it" if game.short_sight else "the whole board"
    needed = (
        f"that has the level of {'both agents' if agents == 2 else 'the weakest three agents'} together"
        if game.coop
        else f"of level 1 to {game.heaviest}"
    )
    return TaskSpec(
        name=game.name,
        description=(
            f"{agents} agents of level 1 or 2 walk on a board of {size} x {size} cells with up to {foods} food"
            f"{'s' * (foods > 1)} {needed}; food is eaten when agents next to it load in the same step and their levels "
            f"together reach its level; food and other agents block the way; an agent sees {sight}; the episode ends "
            "when all food is eaten."
        ),
        sparse_reward="when a food is eaten, its level over the levels of all food of the episode, else 0",
        agents=agents,
        observation_size=3 * (foods + agents),
        state_size=3 * (foods + agents) + 1,
        actions=len(ACTION_NAMES),
        action_names=ACTION_NAMES,
        idle_action=0,
        horizon=HORIZON,
        max_return=1.0,
        features=_features(size),
        progress="share of the food that is eaten, and half of what the agents next to the rest have of its level",
    )


def _features(size: int) -> tuple[Feature, ...]:
    """The declared features, see `_FEATURE_VALUES` for how they are computed."""
    to_food = 2.0 * (size - 2)
    steps = "in steps along rows and columns; next to it is 1, and 0 when none is left"
    return (
        Feature("food_left", "Share of the food, by level, that is not eaten yet.", "team", 0.0, 1.0, "lower"),
        Feature(
            "team_distance",
            f"Mean distance of all agents to one and the same food, the one where it is least ({steps}).",
            "team", 0.0, to_food, "lower",
        ),
        Feature(
            "lifting_distance",
            "Smallest distance within which a food has enough agents (by level) to lift it, over all foods "
            f"({steps}).",
            "team", 0.0, to_food, "lower",
        ),
        Feature(
            "lift_fraction",
            "Which part of its level the agents next to a food have, for the food where that is most (1 when none is "
            "left).",
            "team", 0.0, 1.0, "higher",
        ),
        Feature(
            "spacing", "Mean distance between two agents, in steps along rows and columns.",
            "team", 0.0, 2.0 * (size - 1), None,
        ),
        Feature(
            "nearest_food_distance", f"Distance from the agent to the food nearest to it ({steps}).",
            "agent", 0.0, to_food, "lower",
        ),
        Feature(
            "target_distance",
            f"Distance from the agent to the food that all agents together are nearest to, as in team_distance "
            f"({steps}).",
            "agent", 0.0, to_food, "lower",
        ),
        Feature(
            "beside_food", "1 where the agent is next to a food or none is left, else 0.",
            "agent", 0.0, 1.0, "higher",
        ),
    )  # fmt: skip


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
"""How each declared feature is computed, in the order of `_features`. Each alone: shaping reads few of them, often."""
