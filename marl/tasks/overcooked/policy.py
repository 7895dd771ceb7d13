"""A scripted policy for `overcooked` that sees the whole state: fill, start, fetch a dish, deliver, and give way."""

from __future__ import annotations

import numpy as np

from learning_signal.marl.tasks.overcooked.layout import AGENTS, COUNTER, DISHES, NOBODY, ONIONS, POT, SERVING, Layout
from learning_signal.marl.tasks.overcooked.state import (
    COOKING_TIME,
    DISH,
    FULL,
    INTERACT,
    NOTHING,
    ONION,
    POT_ONIONS,
    POT_STARTED,
    POT_TICKS,
    SOUP,
    STAY,
    THIN_SOUP,
    Kitchens,
)

IDLE = -1
"""In place of a target: nothing to do."""


def scripted(kitchens: Kitchens) -> np.ndarray:
    """Joint actions ``[E, A]``: each cook does what is most needed next, by the shortest way.

    Who cannot reach the pots hands over what is needed on a counter. One leads, the other walks around it and gives
    way. Returns: cramped_room 220, asymmetric_advantages 300, coordination_ring 260, forced_coordination 240,
    counter_circuit_o_1order 160.
    """
    targets = _targets(kitchens)
    idle = targets == IDLE
    leader = (idle[0] & ~idle[1]).astype(np.int64)
    order, everyone = np.stack([leader, 1 - leader]), np.arange(kitchens.environments)
    (place, other), facing, target = (each[order, everyone] for each in (kitchens.place, kitchens.facing, targets))
    layout = kitchens.layout
    lead = way(layout, place, facing[0], target[0], np.full_like(place, NOBODY))
    follow = way(layout, other, facing[1], target[1], layout.number[place])

    wanted = layout.next[lead, place]
    works = (target[1] != IDLE) & (layout.moves[-1, other, target[1]] == 0)
    in_the_way = (
        (wanted == other) & ~works & ((layout.next[follow, other] == other) | (layout.next[follow, other] == place))
    )
    follow = np.where(in_the_way, _aside(layout, other, place, target[1]), follow)
    goes = layout.next[follow, other]
    follow = np.where((goes == wanted) & (goes != other), STAY, follow)
    actions = np.empty((AGENTS, kitchens.environments), np.int64)
    actions[order, everyone] = np.stack([lead, follow])
    return np.ascontiguousarray(actions.T)


def way(layout: Layout, place: np.ndarray, facing: np.ndarray, target: np.ndarray, blocked: np.ndarray) -> np.ndarray:
    """The action ``[E]`` that brings a cook nearer to its ``target``, turns it there or interacts with it.

    It walks around the floor cell number ``blocked [E]``, unless there is no way around.
    """
    blocked = np.where(layout.moves[blocked, place, target] < layout.far, blocked, NOBODY)
    around = layout.next[:STAY, place]
    moves = np.where(around == place, layout.far + 1, layout.moves[blocked, around, target])
    action = moves.argmin(axis=0)
    ahead = place + layout.steps[:, None] == target
    turn = ahead.argmax(axis=0)
    action = np.where(ahead.any(axis=0), np.where(facing == turn, INTERACT, turn), action)
    return np.where(target == IDLE, STAY, action)


def _aside(layout: Layout, place: np.ndarray, other: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The step ``[E]`` of a cook that makes room for the one at ``other``, nearest to its own target; else it stays."""
    around = layout.next[:STAY, place]
    shut = (around == place) | (around == other)
    moves = np.where(shut, layout.far + 1, layout.moves[NOBODY, around, target])
    return np.where(shut.all(axis=0), STAY, moves.argmin(axis=0))


def _targets(kitchens: Kitchens) -> np.ndarray:
    """The cell ``[A, E]`` that each cook is to interact with next; `IDLE` where there is nothing to do."""
    layout, held, pots = kitchens.layout, kitchens.held, kitchens.in_pots
    content, kind = kitchens.content, layout.kind
    onions, started = POT_ONIONS[pots], POT_STARTED[pots]
    room = np.where(started, 0, FULL - onions).sum(axis=1) - (held == ONION).sum(axis=0)
    soups = started.sum(axis=1) - (held == DISH).sum(axis=0)
    is_pot = kind == POT
    takes_onion = is_pot & ~POT_STARTED[content] & (POT_ONIONS[content] < FULL)
    to_start = is_pot & ~POT_STARTED[content] & (POT_ONIONS[content] == FULL)
    cooking = is_pot & POT_STARTED[content]
    left = np.where(cooking, COOKING_TIME - POT_TICKS[content], 0)
    empty = (kind == COUNTER) & (content == NOTHING)
    lying = {item: (kind == COUNTER) & (content == item) for item in (ONION, DISH, SOUP, THIN_SOUP)}

    targets = np.full((AGENTS, kitchens.environments), IDLE)
    for agent in range(AGENTS):
        place, hand = kitchens.place[agent], held[agent]
        moves = layout.moves[NOBODY, place]
        cooks = (moves[:, layout.pots] < layout.far).any(axis=1)
        handover = empty & (layout.moves[NOBODY, kitchens.place[1 - agent]] < layout.far)

        def nearest(cells: np.ndarray, moves: np.ndarray = moves) -> np.ndarray:
            """The nearest of ``cells [E, P]`` bool; IDLE where none is within reach."""
            cost = np.where(cells, moves, layout.far)
            return np.where(cost.min(axis=1) < layout.far, cost.argmin(axis=1), IDLE)

        def first(*choices: np.ndarray) -> np.ndarray:
            """Of every environment the first choice that is not IDLE."""
            found = choices[0]
            for choice in choices[1:]:
                found = np.where(found == IDLE, choice, found)
            return found

        put_down = np.where(cooks, nearest(empty), nearest(handover))
        soon = nearest(cooking & (left <= moves + 1))
        waits = cooks & cooking.any(axis=1)
        # A cook that only hands over takes nothing back from a counter, and what lies there is on its way.
        dish = nearest((kind == DISHES) | lying[DISH] & cooks[:, None])
        onion = nearest((kind == ONIONS) | lying[ONION] & cooks[:, None])
        dishes = np.where(cooks, soups, soups - lying[DISH].sum(axis=1)) > 0
        onions_wanted = np.where(cooks, room, room - lying[ONION].sum(axis=1)) > 0
        soup = nearest((lying[SOUP] | lying[THIN_SOUP]) & cooks[:, None])
        dish, onion = np.where(dishes, dish, IDLE), np.where(onions_wanted, onion, IDLE)
        with_nothing = first(nearest(to_start), soup, dish, onion)
        with_dish = np.where(waits, soon, put_down)
        with_soup = first(nearest(np.broadcast_to(kind == SERVING, content.shape)), put_down)
        by_hand = [with_nothing, first(nearest(takes_onion), put_down), with_dish, with_soup, with_soup]
        targets[agent] = np.choose(hand, by_hand)
        # What this one fetches the other need not.
        fetches = (hand == NOTHING) & (targets[agent] != IDLE)
        soups = soups - (fetches & (targets[agent] == dish))
        room = room - (fetches & (targets[agent] == onion) & (targets[agent] != dish))
    return targets
