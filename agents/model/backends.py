"""Turns a backend spec into the provider's own chat client, and lists the backends there are."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from learning_signal.agents.model.keys import read_key
from learning_signal.agents.model.providers.entry import ProviderEntry, Wiring
from learning_signal.agents.model.providers.registry import PROVIDERS, entry_of
from learning_signal.agents.model.providers.spec import BackendSpec
from learning_signal.agents.model.specs import refuse_role

if TYPE_CHECKING:  # autogen takes half a second to import: a spec error or the table must not wait for it
    from autogen_core.models import ChatCompletionClient


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
    spec: BackendSpec, role: str, *, environment: Mapping[str, str] = os.environ, timeout: float = 120.0
) -> ChatCompletionClient:
    """The provider's own client for ``spec``, without the layers of ``stack`` and with its own retries off.

    Args:
        timeout: seconds the SDK waits for each read.

    Raises:
        SpecError: the key, a package or the provider is missing.
    """
    key = read_key(spec, environment)
    refuse_role(spec, role)
    entry = entry_of(spec)
    named = environment.get(entry.address_variable) if entry.address_variable else None
    address = spec.base_url or named or entry.address
    return entry.build(spec, Wiring(role, key, address, timeout))


def backend_table(environment: Mapping[str, str] = os.environ) -> list[BackendRow]:
    """Every provider: what it needs, whether that is there, and how a spec for it looks."""
    return [_row(entry, environment) for entry in PROVIDERS.values()]


def _row(entry: ProviderEntry, environment: Mapping[str, str]) -> BackendRow:
    installed = entry.available and all(importlib.util.find_spec(package) is not None for package in entry.packages)
    key = "not needed" if entry.key is None else "set" if environment.get(entry.key, "").strip() else "not set"
    return BackendRow(entry.name, entry.needs, installed, key, entry.example)
