"""What `foraging` declares: its words, its features, its progress and the scale of its return."""

from __future__ import annotations

from learning_signal.marl.tasks.base import Feature, TaskSpec
from learning_signal.marl.tasks.foraging_board import Game

HORIZON = 50
ACTION_NAMES = ("stay", "north", "south", "west", "east", "load")


def specification(game: Game) -> TaskSpec:
    size, agents, foods = game.size, game.players, game.foods
    sight = f"{game.sight} cells to each side" if game.short_sight else "the whole board"
    lie = "lies one food" if foods == 1 else f"lie up to {foods} foods"
    team = "both agents" if agents == 2 else "the weakest three agents"
    needed = f"of the level that {team} have together" if game.coop else f"of at most the level of {team} together"
    return TaskSpec(
        name=game.name,
        description=(
            f"{agents} agents of level 1 or 2 walk on a board of {size} x {size} cells; on it {lie} {needed}. "
            "A food is eaten when agents next to it (not diagonally) load in the same step and their levels together "
            "reach its level. Food and other agents block the way, and two that head for the same cell both stay. An "
            f"agent sees {sight}. The episode ends when all food is eaten."
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
    """The declared features, see ``_FEATURE_VALUES`` of `marl.tasks.foraging` for how they are computed."""
    to_food = 2.0 * (size - 2)
    steps = "in steps along rows and columns; next to it is 1, and 0 when none is left"
    return (
        Feature("food_left", "Share of the food, by level, that is not eaten yet.", "team", 0.0, 1.0, "lower"),
        Feature(
            "team_distance",
            f"Mean distance of all agents to one and the same food, the one where it is least ({steps}).",
            "team",
            0.0,
            to_food,
            "lower",
        ),
        Feature(
            "lifting_distance",
            f"Smallest distance within which a food has enough agents (by level) to lift it, over all foods ({steps}).",
            "team",
            0.0,
            to_food,
            "lower",
        ),
        Feature(
            "lift_fraction",
            "Which part of its level the agents next to a food have, for the food where that is most (1 when none is "
            "left).",
            "team",
            0.0,
            1.0,
            "higher",
        ),
        Feature(
            "spacing",
            "Mean distance between two agents, in steps along rows and columns.",
            "team",
            0.0,
            2.0 * (size - 1),
            None,
        ),
        Feature(
            "nearest_food_distance",
            f"Distance from the agent to the food nearest to it ({steps}).",
            "agent",
            0.0,
            to_food,
            "lower",
        ),
        Feature(
            "target_distance",
            f"Distance from the agent to the food that all agents together are nearest to, as in team_distance "
            f"({steps}).",
            "agent",
            0.0,
            to_food,
            "lower",
        ),
        Feature(
            "beside_food", "1 where the agent is next to a food or none is left, else 0.", "agent", 0.0, 1.0, "higher"
        ),
    )
