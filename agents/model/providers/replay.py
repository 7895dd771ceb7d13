"""``replay/SESSION``: answers what that session was answered, to the same requests and to no others."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from learning_signal.agents.model.providers.entry import ProviderEntry, Wiring
from learning_signal.agents.model.providers.spec import BackendSpec, SpecError
from learning_signal.ledger.errors import LedgerError
from learning_signal.ledger.wording import LEDGER

if TYPE_CHECKING:  # slow to import, as in entry.py
    from autogen_core.models import ChatCompletionClient

VARIABLE = "LEARNING_SIGNAL_LEDGER"
"""The environment variable that names the log, as for the commands that read one."""


def _replay(spec: BackendSpec, wiring: Wiring) -> ChatCompletionClient:
    from learning_signal.agents.model.providers.replay_client import ReplayClient

    try:
        return ReplayClient(Path(os.environ.get(VARIABLE) or LEDGER), spec.model, wiring.role)
    except LedgerError as error:
        raise SpecError(f"The backend '{spec.text}' finds no session: {error} The log is that of {VARIABLE}.") from None


REPLAY = ProviderEntry(
    name="replay",
    needs=f"a session in {LEDGER}, or in the log that {VARIABLE} names",
    example="replay/20261122-154501-k3f",
    build=_replay,
    embedded=True,
    fails=True,
    address_in="none",
    parameters=frozenset(),
)
