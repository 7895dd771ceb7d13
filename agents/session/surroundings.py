"""What a session meets besides its settings: workers, models, earlier sessions, a place for its products."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from learning_signal.agents.model.stack.client import agent_client
from learning_signal.agents.roles import MakeClient
from learning_signal.marl.executors.base import Executor
from learning_signal.tools.context import Earlier
from learning_signal.tools.state import Offer, Request, Saying


@dataclass(frozen=True)
class Heard:
    """What was told to a recorded session from outside, by where it took effect."""

    said: Mapping[int, list[Saying]]
    """What a person said, by the number of the brief (from 0) that tells it."""
    offers: Mapping[tuple[int, int], list[Offer]]
    """Proposals, by the round and the refinement that examined them."""
    wanted: Mapping[int, list[Request]]
    """Requests for a round, by the number of the stage (from 1) at whose end it began."""


@dataclass(frozen=True)
class Surroundings:
    """Those of a live session by default; a replay brings others."""

    executor: Executor | None = None
    """The workers; the session opens its own, as its settings say, where this is None."""
    make_client: MakeClient = agent_client
    earlier: Earlier | None = None
    """Whose earlier sessions the agents are told of; its own where this is None."""
    heard: Heard | None = None
    """What is told to it from outside; what is in the inbox where this is None."""
    leaves_products: bool = True
    """Whether the final policy and shaping are written beside the log."""
