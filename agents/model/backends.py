"""Turns a backend spec into the provider's own chat client, and lists the backends there are."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from learning_signal.agents.model.keys import read_key
from learning_signal.agents.model.providers.address import checked_address
from learning_signal.agents.model.providers.entry import ProviderEntry, Wiring
from learning_signal.agents.model.providers.registry import PROVIDERS, entry_of
from learning_signal.agents.model.providers.spec import BackendSpec
from learning_signal.agents.model.specs import refuse_role

if TYPE_CHECKING:  # autogen takes half a second to import: a spec error or the table must not wait for it
    from autogen_core.models import ChatCompletionClient

    from learning_signal.agents.human.turn import Person


@dataclass(frozen=True)
class BackendRow:
    """One line of ``backends``."""

    provider: str
    needs: str
    installed: bool
    key: str
    """``set``, ``not set`` or ``not needed``; never the key."""
    example: str


def build_client(
    spec: BackendSpec,
    role: str,
    *,
    environment: Mapping[str, str] = os.environ,
    timeout: float = 120.0,
    person: Person | None = None,
) -> ChatCompletionClient:
    """The provider's own client for ``spec``, without the layers of ``stack`` and with its own retries off.

    Args:
        timeout: seconds the SDK waits for each read.
        person: who takes the turns of a person.

    Raises:
        SpecError: the key, a package or the provider is missing, or an address of the environment is none.
    """
    key = read_key(spec, environment)
    refuse_role(spec, role)
    return entry_of(spec).build(spec, Wiring(role, key, address_of(spec, environment), timeout, person))


def address_of(spec: BackendSpec, environment: Mapping[str, str] = os.environ) -> str | None:
    """The address of the server: of the spec, else of the environment, else the provider's; None where there is none.

    Raises:
        SpecError: that of the environment is none; the sentence names the variable.
    """
    entry = entry_of(spec)
    variable = entry.address_variable
    named = environment.get(variable, "").strip() if variable and spec.base_url is None else ""
    if named:
        return checked_address(named, f"the address in the environment variable {variable}")
    return spec.base_url or entry.address


def backend_table(environment: Mapping[str, str] = os.environ) -> list[BackendRow]:
    """Every provider: what it needs, whether that is there, and how a spec for it looks."""
    return [_row(entry, environment) for entry in PROVIDERS.values()]


def _row(entry: ProviderEntry, environment: Mapping[str, str]) -> BackendRow:
    installed = all(importlib.util.find_spec(package) is not None for package in entry.packages)
    key = "not needed" if entry.key is None else "set" if environment.get(entry.key, "").strip() else "not set"
    return BackendRow(entry.name, entry.needs, installed, key, entry.example)
