"""What the registry says of a provider."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from learning_signal.agents.model.providers.spec import ALL_PARAMETERS, BackendSpec
from learning_signal.tools.roles import ROLES

if TYPE_CHECKING:  # autogen takes half a second to import: a spec error or the table must not wait for it
    from autogen_core.models import ChatCompletionClient

    from learning_signal.agents.human.turn import Person


@dataclass(frozen=True)
class Wiring:
    """What a client is built with besides its spec."""

    role: str
    """The agent it speaks for."""
    key: str | None
    """The key to send, or None where there is none."""
    address: str | None
    """The address of the server: of the spec, else of the environment, else of the provider."""
    timeout: float
    """Seconds the client may wait for each read."""
    person: Person | None = None
    """Who takes the turns of a person; None outside of a session."""


Build = Callable[[BackendSpec, Wiring], "ChatCompletionClient"]
"""Makes the provider's client, without the layers of ``stack`` and with its own retries off.

Imports what it needs when it is called. Raises ``SpecError`` where a package is missing or the spec cannot be built.
"""


@dataclass(frozen=True)
class ProviderEntry:
    """One provider: how its specs look, what it needs, and how its client is built."""

    name: str
    needs: str
    """What a user has to have, in words."""
    example: str
    """A spec of it."""
    build: Build
    embedded: bool = False
    """Whether there is no model behind it: nothing to reach, nothing to pay."""
    fails: bool = False
    """Whether it may have no answer, although there is no model behind it."""
    person: bool = False
    """Whether a person answers: in their own time, and without tokens."""
    extra: str | None = None
    """The optional dependencies of this project that it needs, as ``pip install '.[EXTRA]'`` takes them."""
    packages: tuple[str, ...] = ()
    """The importable packages that the extra brings."""
    key: str | None = None
    """The environment variable of its key."""
    key_of_model: bool = False
    """Whether that variable is named after the model (``LAB_API_KEY`` for ``lab``)."""
    key_needed: bool = False
    """Whether it is useless without a key."""
    model: Literal["named", "none"] = "named"
    """Whether its specs name a model."""
    address: str | None = None
    """The address of its server where a spec names none."""
    address_variable: str | None = None
    """The environment variable that names another."""
    address_in: Literal["allowed", "needed", "none"] = "allowed"
    """Whether its specs name an address."""
    parameters: frozenset[str] = ALL_PARAMETERS
    """The parameters that its specs take."""
    context: int | None = None
    """The context window in tokens that its models are given where a spec names none; None where it is not known."""
    tool_choice: bool = True
    """Whether a request can demand a call."""
    roles: tuple[str, ...] = ROLES
    """The agents that it can be."""
