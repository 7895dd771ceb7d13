"""A mark: something in an agent's words that the record does not support, or an order to another agent."""

from __future__ import annotations

from typing import Any, Literal

from learning_signal.marl.settings import Frozen

Kind = Literal["number", "evidence", "name", "stage", "outcome", "id", "instruction"]


class Mark(Frozen):
    """One such place, found by code."""

    field: str
    """Where it stands, e.g. ``failure 1``, ``advice``, ``reading``, ``rationale of c2``."""
    kind: Kind
    claim: str
    """The words themselves, e.g. ``24.9``."""
    problem: str
    """A sentence without its full stop that begins with the field."""


class Known(Frozen):
    """What words are held against besides the rows of the ledger; kept with the marks, so that they can be computed
    again."""

    stage: str | None = None
    """The computed stage of the round."""
    told: dict[str, Any] = {}
    """Numbers that the agent was told by code besides its tool results: HEAD and what earlier candidates came to."""
    bounds: tuple[float, ...] = ()
    """The most or least that something can be: the largest return, the horizon, bounds of features ..."""
    features: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    """Every other name that may be used: actions, tools and their arguments."""
