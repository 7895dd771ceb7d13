"""What a stored session or policy would contact, execute and write, and whether this user has agreed to it.

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
    """Something stored would be used that nobody agreed to; one sentence, and in ``details`` what it would do."""

    def __init__(self, message: str, details: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.details = tuple(details)


@dataclass(frozen=True)
class Consent:
    """What a command line says of a stored session or policy."""

    env: str | None = None
    """The environment it names, said again."""
    store: Path | None = None
    """The folder of segments it names, said again."""
    address: str | None = None
    """The Ray cluster to be used."""
    agents: frozenset[str] = field(default_factory=frozenset)
    """Roles whose backend is given anew."""
    trust: bool = False
    """Whether everything is agreed to; it is shown all the same, by ``tell``."""
    tell: Callable[[Sequence[str]], None] | None = None
    """Told, line by line, what is used on the word of ``trust``."""


NOTHING_SAID = Consent()
"""What a command line says that says nothing."""


@dataclass(frozen=True)
class Use:
    """One thing that would be contacted, executed or written."""

    verb: Literal["contact", "execute", "write"]
    what: str
    option: str | None = None
    """How to say it again; None where the command line says it already."""

    def __str__(self) -> str:
        return f"{self.verb:8} {self.what}"


def uses_of_task(task: str, consent: Consent, of: str) -> list[Use]:
    """The code that the name of a stored task leads to; ``NotTrusted`` where ``--env`` names another.

    So it is where no consent would help, because the module is never that of an environment. ``of`` says what stored
    it, as in ``session 20261122-225759-8rr``.
    """
    if consent.env is not None and consent.env != task:
        raise NotTrusted(f"Found --env {consent.env}, expected the task of {of}, {task}: say that, or leave --env out.")
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
            f"Found --store {consent.store}, expected the store of {of}, {store}: say that, or leave --store out."
        )
    return [Use("write", f"segments to {store}", None if same else f"--store {shlex.quote(str(store))}")]


def uses_of_executor(executor: ExecutorSettings, consent: Consent) -> list[Use]:
    """The Ray cluster that would be joined."""
    if executor.kind != "ray" or executor.address is None:
        return []
    option = None if consent.address == executor.address else f"--address {shlex.quote(executor.address)}"
    return [Use("contact", f"the Ray cluster at {executor.address}, which sends and runs code", option)]


def admit(reader: Reader, session: str, uses: Sequence[Use], consent: Consent) -> None:
    """Let a stored session go on, or raise ``NotTrusted``. One that is trusted is this user's from then on."""
    if is_ours(reader.rows, session):
        return
    refuse_unsaid(uses, consent, f"session {session}", NOT_OURS)
    if consent.trust:
        remember(reader.rows, session)


def refuse_unsaid(uses: Sequence[Use], consent: Consent, of: str, why: str) -> None:
    """``NotTrusted`` where something of ``uses`` was neither said again nor trusted. ``why`` it is asked at all."""
    unsaid = [use.option for use in uses if use.option is not None]
    if not unsaid:
        return
    details = _listed(of, uses)
    if not consent.trust:
        raise NotTrusted(
            f"{_begun(of)} {why}, expected your consent to what it would use: say it again "
            f"({' '.join(unsaid)}), or give --trust; nothing was contacted, executed or written.",
            details,
        )
    if consent.tell is not None:
        consent.tell(details)


def _listed(of: str, uses: Sequence[Use]) -> list[str]:
    return [f"{of} would", *(f"  {use}" for use in uses)]


def _begun(of: str) -> str:
    return f"{of[:1].upper()}{of[1:]}"
