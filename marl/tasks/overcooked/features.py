"""What `overcooked` declares: its words, its features, its progress and the scale of its return."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from learning_signal.marl.tasks.base import Feature, TaskSpec
from learning_signal.marl.tasks.overcooked.layout import AGENTS, DISHES, ONIONS, POT, SERVING, Layout
from learning_signal.marl.tasks.overcooked.state import (
    COOKING_TIME,
    DISH,
    FULL,
    NOTHING,
    ONION,
    POT_ONIONS,
    POT_READY,
    POT_STARTED,
    POT_TICKS,
    SOUP,
    SOUP_REWARD,
    Kitchens,
)

HORIZON = 400
ACTION_NAMES = ("north", "south", "east", "west", "stay", "interact")
FASTEST = COOKING_TIME + 2
"""Steps between two soups from one pot, at least: two that fill it, one of which may also take the soup before, then
the one that starts it and is the first of those that it cooks, then the one that takes it."""


def specification(layout: Layout, observation_size: int, state_size: int) -> TaskSpec:
    """The declaration of the task in one kitchen."""
    pots = len(layout.pots)
    return TaskSpec(
        name=f"overcooked?layout={layout.name}",
        description=(
            f"Two cooks in a kitchen of {layout.width} x {layout.height} cells ({layout.name}) with "
            f"{pots} pot{'s' if pots > 1 else ''}. A cook walks, and by interacting with what it faces it takes an "
            "onion or a dish from where these are given out, puts an onion into a pot (three fit), starts a pot with "
            f"empty hands, takes a soup that has cooked for {COOKING_TIME} steps from a pot onto the dish it holds, "
            "delivers the soup at a serving cell, or puts down on and takes from a counter. It holds one thing at a "
            "time. Only a soup of three onions earns; a pot that is started with fewer is shut until its thin soup is "
            "taken out. Cooks cannot share a cell or swap places."
        ),
        sparse_reward=f"{SOUP_REWARD:g} for each soup of three onions that is delivered, else 0",
        agents=AGENTS,
        observation_size=observation_size,
        state_size=state_size,
        actions=len(ACTION_NAMES),
        action_names=ACTION_NAMES,
        idle_action=ACTION_NAMES.index("stay"),
        horizon=HORIZON,
        max_return=SOUP_REWARD * pots * (HORIZON // FASTEST),
        features=_features(layout),
        progress=(
            "how far the best soup ever came in this episode: 0.15 for each onion in a pot, 0.6 for three that cook, "
            "0.7 for a soup that is ready, 0.85 for one on a dish, 1 for one that is delivered"
        ),
    )


def stage(kitchens: Kitchens) -> np.ndarray:
    """``[E]``: how far the best soup is, as ``TaskSpec.progress`` says, without those delivered."""
    return np.where(kitchens.soups() > 0, 0.85, _POT_STAGE.take(kitchens.in_pots).max(axis=1))


_POT_STAGE = np.where(POT_STARTED, (POT_ONIONS == FULL) * np.where(POT_READY, 0.7, 0.6), 0.15 * POT_ONIONS)
_FILLING = np.where(POT_STARTED & (POT_ONIONS < FULL), 0.0, POT_ONIONS / FULL)
_COOKED = (POT_ONIONS == FULL) * POT_TICKS / COOKING_TIME
_SPOILED = POT_STARTED & (POT_ONIONS < FULL)
_ROOM = ~POT_STARTED & (POT_ONIONS < FULL)
_WAITS = POT_STARTED & (POT_ONIONS == FULL)
"""``[CONTENTS]`` each, by what is in a pot."""


def _features(layout: Layout) -> tuple[Feature, ...]:
    """The declared features, see `FEATURE_VALUES` for how they are computed."""
    far = float(layout.far)
    none = f"{far:g}, the largest,"
    return (
        Feature(
            "soup_stage",
            "How far the soup is that is furthest: 0.15 for each onion in its pot, 0.6 for three that cook, 0.7 when "
            "it is ready, 0.85 on a dish; 0 again after it is delivered, and for pots that were started with fewer.",
            "team",
            0.0,
            0.85,
            "higher",
        ),
        Feature(
            "pot_filling",
            "Onions in the fullest pot, of three; 1 while a soup of three onions cooks, is ready or is on a dish. Pots "
            "that were started with fewer do not count.",
            "team",
            0.0,
            1.0,
            "higher",
        ),
        Feature(
            "soup_cooked",
            f"How long the soup of three onions that is furthest has cooked, of {COOKING_TIME} steps: 0 while none is "
            "started, 1 while one is ready or on a dish.",
            "team",
            0.0,
            1.0,
            "higher",
        ),
        Feature(
            "spoiled_pots",
            "Pots that were started with fewer than three onions: shut until their thin soup is taken out.",
            "team",
            0.0,
            float(len(layout.pots)),
            "lower",
        ),
        Feature(
            "onion_distance",
            "Moves until the agent is next to the nearest onion, on a counter or where they are given out; 0 while it "
            f"holds an onion or a soup and while no pot has room for an onion, {none} while it holds a dish.",
            "agent",
            0.0,
            far,
            "lower",
        ),
        Feature(
            "pot_distance",
            "Moves until an agent that holds an onion is next to the nearest pot with room for it; 0 while no pot has "
            f"room, {none} for an agent without an onion.",
            "agent",
            0.0,
            far,
            "lower",
        ),
        Feature(
            "dish_distance",
            "Moves until the agent is next to the nearest dish, while a soup of three onions cooks or is ready; 0 "
            f"while it holds a dish or a soup, {none} while no soup waits or it holds an onion.",
            "agent",
            0.0,
            far,
            "lower",
        ),
        Feature(
            "soup_distance",
            "Moves until an agent that holds a dish is next to the nearest pot in which three onions cook or are "
            f"ready; 0 for one that holds a soup of three onions, {none} for the others.",
            "agent",
            0.0,
            far,
            "lower",
        ),
        Feature(
            "serving_distance",
            f"Moves until an agent that holds a soup of three onions is next to a serving cell; {none} for the others.",
            "agent",
            0.0,
            far,
            "lower",
        ),
        Feature(
            "spacing",
            "Columns and rows between the two agents, added up.",
            "team",
            1.0,
            float(layout.width + layout.height - 6),
            None,
        ),
    )


def _pots(kitchens: Kitchens, which: np.ndarray) -> np.ndarray:
    """``[E, P]`` bool: the cells of the pots whose content is one of ``which [CONTENTS]`` bool."""
    return np.asarray((kitchens.layout.kind == POT) & which.take(kitchens.content), bool)


def _given(kitchens: Kitchens, dispenser: int, item: int) -> np.ndarray:
    """``[E, P]`` bool: the cells from which an item can be taken."""
    kind = kitchens.layout.kind
    return np.asarray((kind == dispenser) | ((kind != POT) & (kitchens.content == item)), bool)


def _has(kitchens: Kitchens, which: np.ndarray) -> np.ndarray:
    """``[E]`` bool: whether any pot's content is one of ``which [CONTENTS]`` bool."""
    return np.asarray(which.take(kitchens.in_pots).any(axis=1))


def _onion_distance(kitchens: Kitchens) -> np.ndarray:
    held, far = kitchens.held, kitchens.layout.far
    way = np.where(held == NOTHING, kitchens.ways(_given(kitchens, ONIONS, ONION)), far)
    done = (held == ONION) | (held == SOUP) | ~_has(kitchens, _ROOM)
    return np.where(done, 0, way)


def _pot_distance(kitchens: Kitchens) -> np.ndarray:
    way = np.where(kitchens.held == ONION, kitchens.ways(_pots(kitchens, _ROOM)), kitchens.layout.far)
    return np.where(_has(kitchens, _ROOM), way, 0)


def _dish_distance(kitchens: Kitchens) -> np.ndarray:
    held, far = kitchens.held, kitchens.layout.far
    way = np.where(held == NOTHING, kitchens.ways(_given(kitchens, DISHES, DISH)), far)
    return np.where((held == DISH) | (held == SOUP), 0, np.where(_has(kitchens, _WAITS), way, far))


def _soup_distance(kitchens: Kitchens) -> np.ndarray:
    held = kitchens.held
    way = np.where(held == DISH, kitchens.ways(_pots(kitchens, _WAITS)), kitchens.layout.far)
    return np.where(held == SOUP, 0, way)


def _serving_distance(kitchens: Kitchens) -> np.ndarray:
    way = kitchens.ways(kitchens.layout.kind == SERVING)
    return np.where(kitchens.held == SOUP, way, kitchens.layout.far)


def _spacing(kitchens: Kitchens) -> np.ndarray:
    y, x = np.divmod(kitchens.place, kitchens.layout.width)
    return np.abs(x[0] - x[1]) + np.abs(y[0] - y[1])


FEATURE_VALUES: dict[str, Callable[[Kitchens], np.ndarray]] = {
    "soup_stage": stage,
    "pot_filling": lambda now: np.where(now.soups() > 0, 1.0, _FILLING.take(now.in_pots).max(axis=1)),
    "soup_cooked": lambda now: np.where(now.soups() > 0, 1.0, _COOKED.take(now.in_pots).max(axis=1)),
    "spoiled_pots": lambda now: _SPOILED.take(now.in_pots).sum(axis=1),
    "onion_distance": _onion_distance,
    "pot_distance": _pot_distance,
    "dish_distance": _dish_distance,
    "soup_distance": _soup_distance,
    "serving_distance": _serving_distance,
    "spacing": _spacing,
}
"""How each declared feature is computed, ``[E]`` or ``[A, E]``: each alone, because shaping reads few, often."""
