"""A scripted policy for `warehouse` that sees the whole state: fetch, deliver, put back, and give way."""

from __future__ import annotations

import numpy as np

from learning_signal.marl.tasks.warehouse.state import WarehouseState

STAY, FORWARD, LEFT, RIGHT, TOGGLE = range(5)
FAR = 1 << 14
"""More than any cost."""
BESIDE = 8
"""What it costs to push an agent away instead of driving where nobody is: as much as two moves."""
_TURN = np.array(
    [
        [FORWARD, RIGHT, LEFT, RIGHT, STAY],
        [RIGHT, FORWARD, RIGHT, LEFT, STAY],
        [RIGHT, LEFT, FORWARD, RIGHT, STAY],
        [LEFT, RIGHT, RIGHT, FORWARD, STAY],
    ]
)
"""What an agent that faces (row) up, down, left, right does to go (column) up, down, left, right, nowhere."""
_TURNS = np.array([[0, 2, 1, 1, 0], [2, 0, 1, 1, 0], [1, 1, 0, 2, 0], [1, 1, 2, 0, 0]])
"""How many turns that takes."""


def scripted(state: WarehouseState) -> np.ndarray:
    """Joint actions ``[E, A]``: every agent drives the shortest way to its target.

    That is a requested shelf for an agent without a shelf, the nearest goal for one with a requested shelf, and the
    nearest free slot for one with another shelf. Agents in the way of a more urgent one are pushed aside.
    Mean return 31.7 in tiny-2ag-easy, 29.5 in tiny-2ag, 37 in small-4ag (where agents can block each other for good).
    """
    place, load, layout = state.place, state.load, state.layout
    target, idle = _targets(state)
    ways = place[..., None] + np.array([-layout.stride, layout.stride, -1, 1, 0])
    loaded = (load > 0)[..., None]
    moves = np.where(loaded, layout.road[ways, target[..., None]], layout.distance(ways, target[..., None]))
    shut = layout.wall.take(ways) | (loaded & state.standing[np.arange(state.environments)[:, None, None], ways])
    shut[..., 4] = False
    # A move counts more than any number of turns: turns only decide between ways of one length.
    cost = np.where(shut, FAR, 4 * moves + _TURNS.take(state.facing, axis=0))
    works = (place == target) & ~idle
    urgency = (load - idle) * layout.agents - np.arange(layout.agents)
    way = _pushed_aside(state, ways, cost, works, urgency)
    return np.where(works, TOGGLE, _TURN[state.facing, way])


def _pushed_aside(
    state: WarehouseState, ways: np.ndarray, cost: np.ndarray, works: np.ndarray, urgency: np.ndarray
) -> np.ndarray:
    """Which of its ``ways [E, A, 5]`` each agent takes ``[E, A]``: the one of least ``cost`` unless it is pushed.

    Who is in the way of a more urgent agent moves elsewhere, with nearly that agent's urgency, so that it pushes on
    those behind it (priority inheritance, as in PIBT: Okumura et al., "Priority Inheritance with Backtracking for
    Iterative Multi-agent Path Finding", IJCAI 2019). An agent that ``works [E, A]`` is not pushed.
    """
    place, agents = state.place, state.layout.agents
    there = state.occupant(ways[..., :4].reshape(state.environments, -1)).reshape(*place.shape, 4).astype(np.int64) - 1
    rows = np.arange(state.environments)[:, None, None]
    urgency = urgency * agents  # room for one step down at each push
    way = cost.argmin(axis=2)
    for _ in range(agents):
        wanted = np.where(works, place, np.take_along_axis(ways, way[..., None], axis=2)[..., 0])
        push = np.where(wanted[:, None, :] == place[:, :, None], urgency[:, None, :], -FAR).max(axis=2) - 1
        pushed = (push >= urgency) & ~works
        if not pushed.any():
            break
        urgency = np.where(pushed, push, urgency)
        beside = np.where(urgency[rows, there] < urgency[..., None], BESIDE, FAR)
        aside = cost.copy()
        aside[..., :4] += np.where(there < 0, 0, beside)
        aside[..., 4] = FAR - 1  # rather than into a wall
        way = np.where(pushed, aside.argmin(axis=2), way)
    return way


def _targets(state: WarehouseState) -> tuple[np.ndarray, np.ndarray]:
    """The cell ``[E, A]`` each agent is on its way to (its own where there is nothing to do), and who is idle."""
    place, load, layout = state.place, state.load, state.layout
    target = place.copy()
    goal = layout.goals[layout.road[:, layout.goals].argmin(axis=1)]
    target[load == 2] = goal[place[load == 2]]

    rows, agents = np.nonzero(load == 1)
    full = state.standing[rows][:, layout.slots]
    way = np.where(full, layout.cells, layout.road[place[rows, agents][:, None], layout.slots])
    target[rows, agents] = layout.slots[way.argmin(axis=1)]

    requests, held = state.requests()
    free = load == 0
    moves = layout.distance(place[:, :, None], requests[:, None, :]) + layout.goal_distance[requests][:, None, :]
    moves = np.where(held[:, None, :] | ~free[:, :, None], FAR, moves)
    for _ in range(min(layout.agents, layout.requests)):
        # The agent and the shelf with the shortest way to a goal, then those of the rest.
        agent, request = np.divmod(moves.reshape(state.environments, -1).argmin(axis=1), layout.requests)
        rows = np.flatnonzero(moves[np.arange(state.environments), agent, request] < FAR)
        agent, request = agent[rows], request[rows]
        target[rows, agent] = requests[rows, request]
        free[rows, agent] = False
        moves[rows, agent] = FAR
        moves[rows, :, request] = FAR
    return target, free
