"""Who drives in `warehouse` when agents want the same cell or each other's: the reference's rule, for a whole batch."""

from __future__ import annotations

import numpy as np


def granted(target: np.ndarray, occupant: np.ndarray) -> np.ndarray:
    """Which moves happen, ``[R, A]`` bool (False for agents that do not want to move).

    ``target [R, A]`` is the cell each agent wants to be in next (its own where it stays) and ``occupant [R, A]`` the
    agent in that cell now (itself where it stays, ``A`` where the cell is empty).

    The reference (rware 2.0, ``Warehouse.step``) draws an arrow from every agent's cell to its target. What hangs
    together ends in a circle, in an agent that stays, or in an empty cell. A circle turns as one, unless it is two
    agents swapping places, and what waits for it stays. Into an empty cell goes the longest queue: the others stay.
    Between queues of one length the reference decides by the order in which a graph library stores its nodes (of a
    hash set, in crowds of four and more; the lowest agent first among two or three). Here the lowest agent is first.
    """
    rows, agents = target.shape
    base = np.arange(rows)[:, None] * (agents + 1)
    place = base + np.arange(agents + 1)  # number A of every row stands for an empty cell, which leads to itself
    link = base + np.concatenate([occupant, np.full((rows, 1), agents)], axis=1)

    behind = np.zeros(place.size, dtype=np.int64)  # the length of the longest queue that waits for each agent
    clear = np.ones(place.shape, dtype=bool)
    reach = link
    for length in range(1, agents):
        behind[reach] = length
        reach = link.take(reach)
    leads_out = reach == place[:, -1:]
    rank = behind.reshape(place.shape)[:, :-1] * agents - np.arange(agents)
    rival = target[:, :, None] == target[:, None, :]
    clear[:, :-1] = rank == np.where(rival, rank[:, None, :], -agents).max(axis=2)
    clear &= leads_out
    reach = link
    for _ in range(agents.bit_length()):  # clear all the way: each round looks twice as far ahead
        clear &= clear.take(reach)
        reach = reach.take(reach)

    back_in_two = link.take(link)
    reach, turns = back_in_two, np.zeros(place.shape, dtype=bool)
    for _ in range(4, agents + 1, 2):  # on a grid every circle is even
        reach = back_in_two.take(reach)
        turns |= reach == place
    return (clear | turns & (back_in_two != place))[:, :-1]
