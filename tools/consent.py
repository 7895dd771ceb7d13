"""Consent: what a stored session or policy would contact, execute and write, and whether this user allows it.

A ledger or an exported policy may come from a stranger. Reading it is free. What it names is used only where this user
began the session on this machine (``ledger.origin``), names it again on the command line, or gives ``--trust``.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from learning_signal.ledger.origin import is_ours, remember
from learning_signal.ledger.read.reader import Reader
from learning_signal.marl.executors.base import ExecutorSettings
from learning_signal.marl.tasks.foreign.callables import owner_of

NOT_OURS = "was not begun by you on this machine, or was changed since"
"""Why a session is asked about."""


class NotTrusted(ValueError):
    """Something stored would be used without the user's consent; one sentence, with the uses in ``details``."""

    def __init__(self, message: str, details: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.details = tuple(details)


@dataclass(frozen=True)
class Consent:
    """The consent options of a command line, for a stored session or policy."""

    env: str | None = None
    """The environment that it names, as confirmation."""
    store: Path | None = None
    """The folder of segments that it names, as confirmation."""
    address: str | None = None
    """The Ray cluster to be used."""
    agents: frozenset[str] = field(default_factory=frozenset)
    """Roles whose backend is replaced."""
    trust: bool = False
    """Consent to everything; it is still listed through ``tell``."""
    tell: Callable[[Sequence[str]], None] | None = None
    """Called with the lines that list what ``trust`` allows."""


NO_CONSENT = Consent()
"""A command line without consent options."""


@dataclass(frozen=True)
class Use:
    """One thing that would be contacted, executed or written."""

    verb: Literal["contact", "execute", "write"]
    what: str
    option: str | None = None
    """The option that confirms it; None if it is confirmed already."""

    def __str__(self) -> str:
        return f"{self.verb:8} {self.what}"


def uses_of_task(task: str, consent: Consent, of: str) -> list[Use]:
    """The code that the name of a stored task leads to; ``NotTrusted`` where ``--env`` names another.

    It is also raised for a module that can never define an environment: no option allows that. ``of`` names the file's
    session or policy, such as ``session 20261122-225759-8rr``.
    """
    if consent.env is not None and consent.env != task:
        raise NotTrusted(
            f"Found --env {consent.env}, expected the task of {of}, {task}: give that, or leave --env out."
        )
    if ":" not in task:
        return []
    module = task.partition(":")[0]
    option = None if consent.env == task else f"--env {shlex.quote(task)}"
    use = Use("execute", f"the module {module}, and in it {task}", option)
    if (owner := owner_of(module)) is not None:
        raise NotTrusted(
            f"{_begun(of)} names {task} as its environment, but the module {module} is {owner}'s, expected one that "
            "defines an environment: nothing was contacted, executed or written, and no option allows it.",
            _listed(of, [use]),
        )
    return [use]


def uses_of_store(store: Path, consent: Consent, of: str) -> list[Use]:
    """The folder that segments go to; ``NotTrusted`` where ``--store`` names another."""
    same = consent.store is not None and consent.store.resolve() == store.resolve()
    if consent.store is not None and not same:
        raise NotTrusted(
            f"Found --store {consent.store}, expected the store of {of}, {store}: give that, or leave --store out."
        )
    return [Use("write", f"segments to {store}", None if same else f"--store {shlex.quote(str(store))}")]


def uses_of_executor(executor: ExecutorSettings, consent: Consent) -> list[Use]:
    """The Ray cluster that would be joined."""
    if executor.kind != "ray" or executor.address is None:
        return []
    option = None if consent.address == executor.address else f"--address {shlex.quote(executor.address)}"
    return [Use("contact", f"the Ray cluster at {executor.address}, which sends and runs code", option)]


def admit(reader: Reader, session: str, uses: Sequence[Use], consent: Consent) -> None:
    """Let a stored session resume, or raise ``NotTrusted``. A trusted one counts as this user's from then on."""
    if is_ours(reader.rows, session):
        return
    refuse_unconfirmed(uses, consent, f"session {session}", NOT_OURS)
    if consent.trust:
        remember(reader.rows, session)


def admit_once(reader: Reader, session: str, uses: Sequence[Use], consent: Consent) -> None:
    """As ``admit``, for something else than a resume: the session does not become this user's."""
    if not is_ours(reader.rows, session):
        refuse_unconfirmed(uses, consent, f"session {session}", NOT_OURS)


def refuse_unconfirmed(uses: Sequence[Use], consent: Consent, of: str, why: str) -> None:
    """Raise ``NotTrusted`` if a use is neither confirmed nor trusted; ``why`` is the reason for asking."""
    unconfirmed = [use.option for use in uses if use.option is not None]
    if not unconfirmed:
        return
    details = _listed(of, uses)
    if not consent.trust:
        raise NotTrusted(
            f"{_begun(of)} {why}, expected your consent to what it would use: confirm it "
            f"({' '.join(unconfirmed)}), or give --trust; nothing was contacted, executed or written.",
            details,
        )
    if consent.tell is not None:
        consent.tell(details)


def _listed(of: str, uses: Sequence[Use]) -> list[str]:
    return [f"{of} would", *(f"  {use}" for use in uses)]


def _begun(of: str) -> str:
    return f"{of[:1].upper()}{of[1:]}"
