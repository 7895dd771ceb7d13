"""``rules`` and ``random``: backends without a model, a key or a server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from learning_signal.agents.model.providers.entry import ProviderEntry, Wiring
from learning_signal.agents.model.providers.spec import BackendSpec

if TYPE_CHECKING:  # slow to import, as in entry.py
    from autogen_core.models import ChatCompletionClient


def _rules(spec: BackendSpec, wiring: Wiring) -> ChatCompletionClient:
    from learning_signal.agents.rules import RulesClient

    return RulesClient(wiring.role)


def _random(spec: BackendSpec, wiring: Wiring) -> ChatCompletionClient:
    from learning_signal.agents.rules import RandomClient

    return RandomClient(wiring.role, spec.parameters.seed or 0)


RULES = ProviderEntry(
    name="rules",
    needs="nothing: embedded and deterministic, no LLM",
    example="rules",
    build=_rules,
    embedded=True,
    model="none",
    address_in="none",
    parameters=frozenset(),
    tool_choice=False,
)
RANDOM = ProviderEntry(
    name="random",
    needs="nothing: draws the generator's proposals at random; a control, no LLM",
    example="random?seed=1",
    build=_random,
    embedded=True,
    model="none",
    address_in="none",
    parameters=frozenset({"seed"}),
    tool_choice=False,
    roles=("generator",),
)
