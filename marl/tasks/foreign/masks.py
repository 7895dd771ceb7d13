"""Action masks of a ``ParallelEnv``, in both of PettingZoo's conventions: beside the observation, or in the infos.

In the first an agent's observation is a dictionary with ``"action_mask"`` beside what it sees; in the second that key
is in its info. Either way it has a 1 for every action that is allowed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from gymnasium import spaces

MASK = "action_mask"
Place = Literal["observation", "infos"]


class WrongMask(ValueError):
    """A mask that cannot be read: what was found, what was expected and what to do, in ``args``."""


def place_of(space: Any, info: Any) -> Place | None:
    """Where an agent's masks are, by the space of its observations and its info after a reset; None without one."""
    if isinstance(space, spaces.Dict) and MASK in space.spaces:
        return "observation"
    return "infos" if isinstance(info, Mapping) and MASK in info else None


def read_mask(place: Place, seen: Any, info: Any, actions: int) -> np.ndarray:
    """What an agent that acts next may do, ``[actions]`` bool.

    ``seen`` is its observation, ``info`` its info. Raises ``WrongMask``.
    """
    where = "its observation" if place == "observation" else "its info"
    holder = seen if place == "observation" else info
    if not isinstance(holder, Mapping) or MASK not in holder:
        raise WrongMask(f"is missing from {where}", "one at every step as after the first reset", "return it always")
    try:
        mask = np.asarray(holder[MASK]).reshape(-1)
        plain = bool(np.isin(mask, (0, 1)).all())
    except (TypeError, ValueError):
        mask, plain = np.zeros(0), False
    if mask.size != actions or not plain:
        found = f"is {' '.join(str(holder[MASK]).split())[:60]}"
        raise WrongMask(found, f"{actions} numbers 0 or 1, one per action", "correct it")
    if not mask.any():
        raise WrongMask("allows nothing", "at least one action", "allow one, which may do nothing")
    return mask.astype(bool)
