"""Whether a run can be trained on this machine: what cannot is refused in a sentence, before anything is written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from learning_signal.ledger.connection import refuse_irregular
from learning_signal.ledger.wording import command
from learning_signal.marl.errors import SegmentImpossible
from learning_signal.marl.executors.base import ExecutorSettings
from learning_signal.marl.settings import RunSettings
from learning_signal.marl.tasks import make_task
from learning_signal.marl.tasks.base import TaskSpec
from learning_signal.tools.plan.memory import in_words, least_bytes, machine_bytes
from learning_signal.tools.plan.sources import SettingsError

if TYPE_CHECKING:  # loads gymnasium
    from learning_signal.marl.tasks.foreign.apart import OnCall

PATIENCE = 300.0
"""Seconds that one call of a user's environment may take before its session is refused."""


def declared(name: str) -> TaskSpec:
    """The declaration of a task; ``SettingsError`` for one that cannot be made, before anything is written."""
    try:
        return make_task(name, 1).spec
    except ValueError as error:
        raise SettingsError(str(error)) from None


class Runnable(Protocol):
    """What settings of sessions and of training have in common."""

    @property
    def run(self) -> RunSettings: ...
    @property
    def executor(self) -> ExecutorSettings: ...
    @property
    def ledger(self) -> Path: ...
    @property
    def store(self) -> Path: ...


def refuse_wrong_run(settings: Runnable, workers: int | None = None, on_call: OnCall | None = None) -> None:
    """Raise ``SettingsError`` if the run of ``settings`` cannot be trained here, before anything is written.

    A user's environment plays two episodes of the contract check, in a process of its own. If its episodes were not a
    function of their seed, every comparison would be meaningless, without any error.

    Args:
        workers: how many of them there will be at least.
        on_call: told of every call of a user's environment, and how long it takes.
    """
    run = settings.run
    if ":" in run.task:
        _refuse_wrong_environment(run.task, on_call)
    _refuse_too_large(settings, declared(run.task), workers or 1)
    _refuse_wrong_places(settings.ledger, settings.store)
    if run.learner.device == "cuda":
        from learning_signal.marl.segments.running import refuse_missing_device

        try:
            refuse_missing_device(run.learner.device)
        except SegmentImpossible as error:
            raise SettingsError(str(error)) from None


def _refuse_wrong_environment(name: str, on_call: OnCall | None) -> None:
    from learning_signal.marl.tasks.foreign.apart import check_apart

    errors = [each for each in check_apart(name, 2, PATIENCE, on_call).findings if each.level == "error"]
    if errors and errors[0].check == "start":  # it is not found, or cannot be made
        raise SettingsError(errors[0].message)
    if errors:
        found = errors[0].message.removesuffix(".")
        raise SettingsError(f"{found}; {command('check-env', name)} shows whether there is more.")


def _refuse_too_large(settings: Runnable, task: TaskSpec, workers: int) -> None:
    if settings.executor.kind != "local":
        return
    needed, there = least_bytes(settings.run, task, workers), machine_bytes()
    if needed > there:
        raise SettingsError(
            f"Found settings whose rollouts and networks take at least {in_words(needed)} of memory (workers: "
            f"{workers}), expected less than this machine's {in_words(there)}: set fewer workers, "
            "run.learner.environments, rollout_steps or hidden units, or a smaller task."
        )


def _refuse_wrong_places(ledger: Path, store: Path) -> None:
    refuse_irregular(ledger)
    if store.exists() and not store.is_dir():
        raise SettingsError(f"The store {store} is a file, expected a folder or a new one: give another with --store.")
