"""What `warehouse` declares: its words, its features, its progress and the scale of its return."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from learning_signal.marl.tasks.base import Feature, TaskSpec
from learning_signal.marl.tasks.warehouse.layout import Layout
from learning_signal.marl.tasks.warehouse.state import WarehouseState

HORIZON = 500
ACTION_NAMES = ("stay", "forward", "turn left", "turn right", "lift or put down")


def specification(task: str, layout: Layout, observation_size: int) -> TaskSpec:
    """The declaration of the reference task called ``task``."""
    return TaskSpec(
        name=task,
        description=(
            f"{layout.agents} robots in a warehouse of {layout.width} x {layout.height} cells with "
            f"{len(layout.slots)} shelves, of which {layout.requests} are requested at any time. A robot turns, drives "
            "forward, and lifts the shelf it is below; it passes below shelves while it holds none, but a robot that "
            "holds one drives only where no shelf stands. A requested shelf must be brought to one of two goal cells "
            "at the bottom; then another shelf is requested, and the delivered one must be put down on a free shelf "
            "place before the robot can lift the next. Robots cannot share a cell or swap places."
        ),
        sparse_reward="1 for each requested shelf that is on a goal cell, else 0",
        agents=layout.agents,
        observation_size=observation_size,
        state_size=8 * layout.agents + 2 * len(layout.slots),
        actions=len(ACTION_NAMES),
        action_names=ACTION_NAMES,
        idle_action=0,
        horizon=HORIZON,
        max_return=_max_return(layout),
        features=_features(layout),
        progress=(
            "mean over the agents of how far each ever came in this episode: 0.5 for lifting a requested shelf, rising "
            "to 1 for having it at a goal"
        ),
    )


def _max_return(layout: Layout) -> float:
    """No policy has a mean return above this.

    An agent delivers shelves that stood on a slot when they were requested no faster than it drives to a slot and
    back, lifts and puts down (turns and waiting not counted). Any other delivery is of a shelf that was being held
    when it was requested: of the shelves one of which is drawn, at most one per agent. Single lucky episodes can
    exceed this, up to one delivery per goal and step.
    """
    way = int(layout.distance(layout.slots[:, None], layout.goals).min())
    trips = 1 + (HORIZON - (way + 1)) // (2 * way + 2)
    lucky = layout.agents / (len(layout.slots) - layout.requests)
    most = float(HORIZON * len(layout.goals))
    return most if lucky >= 1 else min(most, layout.agents * trips / (1 - lucky))


def delivery_progress(state: WarehouseState) -> np.ndarray:
    """``[E, A]``: 0 for an agent without a requested shelf, else 0.5 plus up to 0.5 for how near a goal it is."""
    layout = state.layout
    return np.where(state.load == 2, 1 - 0.5 * layout.goal_distance.take(state.place) / layout.longest_delivery, 0.0)


def _features(layout: Layout) -> tuple[Feature, ...]:
    """The declared features, see `FEATURE_VALUES` for how they are computed."""
    others, floor = layout.agents - 1, layout.floor
    pickup = float(layout.distance(floor[:, None], layout.slots).max())
    delivery = float(layout.longest_delivery)
    put_back = float(layout.road[np.ix_(floor, layout.slots)].max())
    alone = (
        Feature("holds_requested", "1 if the agent holds a requested shelf, else 0.", "agent", 0.0, 1.0, "higher"),
        Feature(
            "holds_unrequested",
            "1 if the agent holds a shelf that is not requested (as after each delivery), else 0.",
            "agent",
            0.0,
            1.0,
            "lower",
        ),
        Feature(
            "pickup_distance",
            "Moves from the agent to the nearest requested shelf that nobody holds, passing below shelves; "
            "0 for an agent that holds a requested shelf, and where all requested shelves are held.",
            "agent",
            0.0,
            pickup,
            "lower",
        ),
        Feature(
            "delivery_distance",
            "Moves along the highways from an agent that holds a requested shelf to the nearest goal; "
            f"{delivery:g}, the largest, for an agent that holds none.",
            "agent",
            0.0,
            delivery,
            "lower",
        ),
        Feature(
            "return_distance",
            "Moves along the highways from an agent that holds a shelf that is not requested to the nearest free "
            "shelf place; 0 for the others.",
            "agent",
            0.0,
            put_back,
            "lower",
        ),
        Feature(
            "blocked",
            "1 if the agent cannot drive forward: a wall or another agent is ahead, or it holds a shelf and one "
            "stands there; else 0.",
            "agent",
            0.0,
            1.0,
            "lower",
        ),
        Feature("requests_held", "Share of the requested shelves that agents hold.", "team", 0.0, 1.0, "higher"),
    )
    together = (
        Feature(
            "contested",
            "How many other agents without a shelf have the same nearest requested shelf as this one; 0 for an agent "
            "that holds a shelf.",
            "agent",
            0.0,
            float(others),
            "lower",
        ),
        Feature(
            "spacing",
            "Mean of the moves between two agents.",
            "team",
            0.0,
            float(layout.width + layout.height - 2),
            None,
        ),
    )
    return alone + together * (others > 0)


def _to_requests(state: WarehouseState) -> np.ndarray:
    """``[E, A, Q]`` moves from every agent to every requested shelf, infinite for those that are held."""
    place, held = state.requests()
    moves = state.layout.distance(state.place[:, :, None], place[:, None, :])
    return np.where(held[:, None, :], np.inf, moves)


def _pickup_distance(state: WarehouseState) -> np.ndarray:
    nearest = _to_requests(state).min(axis=2)
    return np.where((state.load == 2) | np.isinf(nearest), 0.0, nearest)


def _delivery_distance(state: WarehouseState) -> np.ndarray:
    layout = state.layout
    return np.where(state.load == 2, layout.goal_distance.take(state.place), layout.longest_delivery)


def _return_distance(state: WarehouseState) -> np.ndarray:
    layout, full = state.layout, state.standing[:, state.layout.slots]
    moves = np.zeros(state.load.shape)
    rows, agents = np.nonzero(state.load == 1)
    way = layout.road[state.place[rows, agents][:, None], layout.slots]
    moves[rows, agents] = np.where(full[rows], layout.cells, way).min(axis=1)
    return moves


def _blocked(state: WarehouseState) -> np.ndarray:
    ahead, shut = state.ahead()
    return shut | (state.occupant(ahead) > 0)


def _contested(state: WarehouseState) -> np.ndarray:
    moves = _to_requests(state)
    wanted = np.where((state.load == 0) & np.isfinite(moves).any(axis=2), moves.argmin(axis=2), -1)
    rivals = (wanted[:, :, None] == wanted[:, None, :]).sum(axis=2) - 1
    return np.where(wanted < 0, 0, rivals)


def _spacing(state: WarehouseState) -> np.ndarray:
    first, second = np.triu_indices(state.layout.agents, 1)
    return state.layout.distance(state.place[:, first], state.place[:, second]).mean(axis=1)


FEATURE_VALUES: dict[str, Callable[[WarehouseState], np.ndarray]] = {
    "holds_requested": lambda state: state.load == 2,
    "holds_unrequested": lambda state: state.load == 1,
    "pickup_distance": _pickup_distance,
    "delivery_distance": _delivery_distance,
    "return_distance": _return_distance,
    "blocked": _blocked,
    "requests_held": lambda state: state.requests()[1].mean(axis=1),
    "contested": _contested,
    "spacing": _spacing,
}
"""How each declared feature is computed: each alone, because shaping reads few of them, often."""
