"""An environment of a user that says what it looks like."""

from __future__ import annotations

from learning_signal.marl.tasks.base import Feature
from learning_signal.marl.tasks.foreign.declaration import ParallelTask
from learning_signal.marl.tasks.picture import Picture, Shape
from tests.support.foreign_environments import LENGTH, Walk


def left(env: Walk) -> float:
    return float(sum(abs(env.places[agent] - env.goals[agent]) for agent in env.possible_agents))


def draw(env: Walk) -> Picture:
    shapes = []
    for row, agent in enumerate(env.possible_agents):
        shapes.append(Shape("square", env.goals[agent] + 0.5, row + 0.5, 0.5, "goal"))
        shapes.append(Shape("disc", env.places[agent] + 0.5, row + 0.5, 0.4, "agent", agent[0]))
    return Picture(LENGTH + 1, 3, tuple(shapes), f"step {env.time}")


LEFT = Feature("left", "Steps that all are away from their goals.", "team", 0.0, 3.0 * LENGTH, "lower")
TASK = ParallelTask(factory=Walk, features={LEFT: left}, max_return=3.0, draw=draw)
UNDRAWN = ParallelTask(factory=Walk, features={LEFT: left}, max_return=3.0)


def drawn_by(function) -> ParallelTask:
    """The environment with another drawing."""
    return ParallelTask(factory=Walk, features={LEFT: left}, max_return=3.0, draw=function)


PAINTED = drawn_by(lambda env: Picture(1, 1, (Shape("disc", 0, 0, 1, "pink"),)))
NOWHERE = drawn_by(lambda env: Picture(1, 1, (Shape("disc", float("nan"), 0, 1, "agent"),)))
WORDS = drawn_by(lambda env: "a picture")
EMPTY = drawn_by(lambda env: Picture(0, 1))
