"""The doors as groups of a table, each with the inputs that come through it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from random import Random

from bench.hardening.doors import command_lines, environments, ledgers, policies, replies, settings, strangers
from bench.hardening.fixtures import Fixtures
from bench.hardening.inputs import Input

SEED = 16
GROUPS: Mapping[str, Callable[[Fixtures, Random], Iterator[Input]]] = {
    "settings": settings.inputs,
    "shaping": settings.shapings,
    "command line": command_lines.inputs,
    "policy": policies.inputs,
    "stranger": strangers.inputs,
    "ledger": ledgers.inputs,
    "reply": replies.inputs,
    "environment": environments.inputs,
}


@cache
def inputs(group: str, fixtures: Fixtures) -> tuple[Input, ...]:
    """The inputs of a group, the same in every process."""
    return tuple(GROUPS[group](fixtures, Random(f"{SEED} {group}")))
