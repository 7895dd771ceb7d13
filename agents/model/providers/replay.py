"""``replay``: reserved for a session that is played again, and refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from learning_signal.agents.model.providers.entry import ProviderEntry, Wiring
from learning_signal.agents.model.providers.spec import BackendSpec, SpecError
from learning_signal.ledger.wording import command

if TYPE_CHECKING:  # slow to import, as in entry.py
    from autogen_core.models import ChatCompletionClient


def _replay(spec: BackendSpec, wiring: Wiring) -> ChatCompletionClient:
    raise SpecError(
        f"The backend '{spec.text}' is not available in this version; choose 'rules' or a model "
        f"({command('backends')} lists them)."
    )


REPLAY = ProviderEntry(
    name="replay",
    needs="not available in this version",
    example="replay/20261122-154501-k3f",
    build=_replay,
    embedded=True,
    available=False,
    address_in="none",
    parameters=frozenset(),
)
