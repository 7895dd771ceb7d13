"""``human``: a person at the terminal in the place of an agent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from learning_signal.agents.model.providers.entry import ProviderEntry, Wiring
from learning_signal.agents.model.providers.spec import BackendSpec

if TYPE_CHECKING:  # slow to import, as in entry.py
    from autogen_core.models import ChatCompletionClient


def _human(spec: BackendSpec, wiring: Wiring) -> ChatCompletionClient:
    from learning_signal.agents.human.client import HumanClient

    return HumanClient(wiring.role, wiring.person)


HUMAN = ProviderEntry(
    name="human",
    needs="a person at the terminal of the session, with the context and tools of a model",
    example="human",
    build=_human,
    embedded=True,
    fails=True,
    person=True,
    model="none",
    address_in="none",
    parameters=frozenset(),
)
