"""From the spaces of a ``ParallelEnv`` to the rows of a batch: sizes, groups, observations and actions as numbers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from gymnasium import spaces

from learning_signal.marl.errors import EnvironmentRefused
from learning_signal.marl.tasks.base import Group
from learning_signal.marl.tasks.foreign.declaration import Source
from learning_signal.marl.tasks.foreign.masks import MASK, Place, place_of

LARGEST_ROW = 20_000
"""The largest size of an observation. A larger one is an image, which these learners cannot use well."""

COMPONENT_CAP = 10.0
"""Observation components without bounds are clipped to -10 to 10 where they are features."""

_HORIZONS = ("max_cycles", "max_steps", "max_episode_steps", "_max_episode_steps", "episode_limit", "horizon")
"""Attributes by which environments give the length of their longest episode."""


@dataclass(frozen=True)
class AgentLayout:
    """How one agent's observations and actions become numbers and come back."""

    name: str
    size: int
    """Numbers in an observation."""
    low: np.ndarray
    """``[size]``: the bounds of the space, infinite where it has none."""
    high: np.ndarray
    read: Callable[[Any], np.ndarray]
    """An observation as float32, flat."""
    actions: int
    """How many choices, or how many numbers."""
    decode: Callable[[np.ndarray], Any]
    """Our action (a choice, or numbers in [-1, 1]) as the environment's."""
    encode: Callable[[Any], np.ndarray | int]
    """The environment's action as ours."""
    mask: Place | None
    """Where the environment says which actions are allowed; None where all always are."""


@dataclass(frozen=True)
class Layout:
    """Everything about an environment's numbers that is the same in all its copies and episodes."""

    agents: tuple[AgentLayout, ...]
    groups: tuple[Group, ...]
    continuous: bool
    horizon: int
    state_size: int
    own_state: bool
    """Whether ``env.state()`` gives the state; else it is the agents' observations one after another."""

    @property
    def observation_size(self) -> int:
        return max(agent.size for agent in self.agents)

    @property
    def actions(self) -> int:
        return max(agent.actions for agent in self.agents)

    @property
    def masked(self) -> bool:
        """Whether any agent has action masks."""
        return any(agent.mask is not None for agent in self.agents)

    def component_bounds(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Bounds ``[O]`` and ``[O]`` of the observation components as features, and which of them are clipped.

        0 is always within the bounds: it is the padding of shorter observations and of agents that have left.
        """
        low, high = np.zeros(self.observation_size), np.zeros(self.observation_size)
        for agent in self.agents:
            low[: agent.size] = np.minimum(low[: agent.size], agent.low)
            high[: agent.size] = np.maximum(high[: agent.size], agent.high)
        capped = ~(np.isfinite(low) & np.isfinite(high) & (low < high))
        low, high = np.where(capped, -COMPONENT_CAP, low), np.where(capped, COMPONENT_CAP, high)
        return low.astype(np.float32), high.astype(np.float32), capped


def survey(source: Source, env: Any) -> Layout:
    """The layout of an environment; it is reset on the way.

    Observations: boxes, and all that Gymnasium can flatten (choices become one-hot); images (uint8, two or more axes)
    are scaled to [0, 1]. Actions: ``Discrete``, or bounded boxes of floats. Raises ``EnvironmentRefused`` for the rest.
    """
    name = source.name
    agents, kinds = [], []
    for agent in env.possible_agents:
        seen = source.ask(f"observation_space({agent!r})", None, env.observation_space, agent)
        done = source.ask(f"action_space({agent!r})", None, env.action_space, agent)
        read, low, high = _observation(name, agent, seen)
        actions, decode, encode = _action(name, agent, done)
        agents.append(AgentLayout(str(agent), low.size, low, high, read, actions, decode, encode, place_of(seen, None)))
        kinds.append((seen.shape, low.size, isinstance(done, spaces.Box), done))
    continuous = {box for _, _, box, _ in kinds}
    if len(continuous) > 1:
        choosers = [agent.name for agent, kind in zip(agents, kinds, strict=True) if not kind[2]]
        raise EnvironmentRefused(
            f"In {name} {choosers[0]} chooses between actions and others give numbers, expected all to do the same: "
            "wrap it so that all actions are Discrete or all are boxes."
        )
    horizon = source.task.horizon or _found_horizon(env)
    if horizon is None:
        raise EnvironmentRefused(
            f"{name} does not say how long its episodes last ({', '.join(_HORIZONS[:3])} …), expected a number of "
            "steps: give horizon=… in a ParallelTask."
        )
    infos = _first_infos(source.ask("reset(seed=0)", None, env.reset, seed=0))
    agents = [
        replace(each, mask=each.mask or place_of(None, infos.get(agent)))
        for agent, each in zip(env.possible_agents, agents, strict=True)
    ]
    masked = [each.name for each in agents if each.mask is not None]
    if masked and continuous == {True}:
        raise EnvironmentRefused(
            f"{name} masks the actions of {masked[0]}, which are numbers, expected masks of Discrete actions alone: "
            "wrap it without them."
        )
    state = source.ask("state()", None, _own_state, env)
    own = state is not None and state.size <= LARGEST_ROW
    size = state.size if own else sum(agent.size for agent in agents)
    return Layout(tuple(agents), _groups(agents, kinds), continuous.pop(), horizon, size, own)


def as_row(value: Any) -> np.ndarray:
    """An array of numbers as one float32 row; images (uint8, two or more axes) in [0, 1]."""
    array = np.asarray(value)
    row = array.reshape(-1).astype(np.float32)
    return row / np.float32(255) if array.dtype == np.uint8 and array.ndim > 1 else row


def _own_state(env: Any) -> np.ndarray | None:
    """``env.state()``; None where the environment has none."""
    if not hasattr(env, "state"):
        return None
    try:
        return np.asarray(env.state())
    except NotImplementedError:  # how PettingZoo says so
        return None


def _found_horizon(env: Any) -> int | None:
    for owner in (env, getattr(env, "unwrapped", None)):
        for name in _HORIZONS:
            value = getattr(owner, name, None)
            if isinstance(value, (int, np.integer)) and not isinstance(value, bool) and value > 0:
                return int(value)
    return None


def _observation(name: str, agent: str, space: Any) -> tuple[Callable[[Any], np.ndarray], np.ndarray, np.ndarray]:
    """How to read one agent's observations, and the bounds of their numbers."""
    if isinstance(space, spaces.Dict) and MASK in space.spaces:
        return _beside_mask(name, agent, space)
    try:
        flat = spaces.flatten_space(space)
    except (NotImplementedError, TypeError):  # how Gymnasium says that it cannot
        flat = None
    if not isinstance(flat, spaces.Box):
        raise EnvironmentRefused(
            f"{name} gives {agent} observations in {_short(space)}, expected a space of fixed size that Gymnasium can "
            "flatten: wrap it so that observations are a Box."
        )
    size = int(np.prod(flat.shape))
    if not 1 <= size <= LARGEST_ROW:
        raise EnvironmentRefused(
            f"{name} gives {agent} observations of {size:,} numbers ({_short(space)}), expected 1 to {LARGEST_ROW:,}: "
            "wrap it so that they are smaller, best the positions that the image shows."
        )
    low, high = flat.low.astype(np.float64), flat.high.astype(np.float64)
    if not isinstance(space, spaces.Box):
        return lambda value: np.asarray(spaces.flatten(space, value), np.float32), low, high
    if space.dtype != np.uint8 or len(space.shape) < 2:
        return lambda value: np.asarray(value, np.float32).reshape(-1), low, high
    bottom = low.astype(np.float32)
    span = np.maximum(high - low, 1).astype(np.float32)
    return lambda value: (np.asarray(value, np.float32).reshape(-1) - bottom) / span, low * 0, low * 0 + 1


def _beside_mask(
    name: str, agent: str, space: spaces.Dict
) -> tuple[Callable[[Any], np.ndarray], np.ndarray, np.ndarray]:
    """The same of what is beside a mask: one thing as it is, several as a dictionary."""
    seen = {key: each for key, each in space.spaces.items() if key != MASK}
    if not seen:
        raise EnvironmentRefused(
            f"{name} gives {agent} observations with nothing in them but {MASK!r}, expected what it sees beside that: "
            "add it, usually as 'observation'."
        )
    if len(seen) == 1:
        ((key, inner),) = seen.items()
        read, low, high = _observation(name, agent, inner)
        return lambda value: read(value[key]), low, high
    read, low, high = _observation(name, agent, spaces.Dict(seen))
    return lambda value: read({key: value[key] for key in seen}), low, high


def _first_infos(answer: Any) -> Mapping[Any, Any]:
    """The infos of a reset's answer; none where it gave something else, which is told when it is played."""
    infos = answer[1] if isinstance(answer, tuple) and len(answer) == 2 else None
    return infos if isinstance(infos, Mapping) else {}


def _action(name: str, agent: str, space: Any) -> tuple[int, Callable, Callable]:
    """How many actions one agent has, and how they become the environment's and ours."""
    if isinstance(space, spaces.Discrete):
        start = int(space.start)
        return int(space.n), lambda action: int(action) + start, lambda action: int(action) - start
    if not isinstance(space, spaces.Box) or space.dtype.kind != "f":
        raise EnvironmentRefused(
            f"{name} takes actions in {_short(space)} from {agent}, expected a Discrete space or a Box of floats: "
            "wrap it, for example with one choice for every combination."
        )
    low, high = space.low.astype(np.float64).reshape(-1), space.high.astype(np.float64).reshape(-1)
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise EnvironmentRefused(
            f"{name} takes unbounded actions from {agent} ({_short(space)}), expected a bounded Box: wrap it to give "
            "bounds."
        )
    half, shape, dtype = (high - low) / 2, space.shape, space.dtype

    def decode(action: np.ndarray) -> np.ndarray:
        return np.clip(low + (action[: low.size] + 1.0) * half, low, high).astype(dtype).reshape(shape)

    def encode(action: Any) -> np.ndarray:
        flat = np.asarray(action, np.float64).reshape(-1)
        return np.clip((flat - low) / np.where(half > 0, half, 1) - 1.0, -1.0, 1.0)

    return low.size, decode, encode


def _short(space: Any) -> str:
    text = " ".join(str(space).split())
    return text if len(text) <= 60 else f"{text[:57]}…"


def _groups(agents: list[AgentLayout], kinds: list[tuple]) -> tuple[Group, ...]:
    """Agents whose observations have one shape and whose actions one space, named by what their names begin with."""
    members: list[list[int]] = []
    for place, kind in enumerate(kinds):
        for group in members:
            if kinds[group[0]] == kind:
                group.append(place)
                break
        else:
            members.append([place])
    names = ["+".join(dict.fromkeys(_beginning(agents[place].name) for place in group)) for group in members]
    return tuple(
        Group(
            name if names.count(name) == 1 else agents[group[0]].name,
            tuple(group),
            agents[group[0]].size,
            agents[group[0]].actions,
        )
        for name, group in zip(names, members, strict=True)
    )


def _beginning(agent: str) -> str:
    """``adversary`` for ``adversary_0``."""
    return re.sub(r"[_\-.\s]*\d+$", "", agent) or agent
