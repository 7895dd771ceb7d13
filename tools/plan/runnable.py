"""Whether a run can be trained on this machine: what cannot is refused in a sentence, before anything is written."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from learning_signal.ledger.connection import refuse_irregular
from learning_signal.ledger.wording import command
from learning_signal.marl.errors import SegmentImpossible
from learning_signal.marl.executors.base import ExecutorSettings
from learning_signal.marl.settings import RunSettings
from learning_signal.marl.tasks import make_task
from learning_signal.tools.plan.memory import in_words, least_bytes, machine_bytes
from learning_signal.tools.plan.sources import SettingsError


def refuse_wrong_task(name: str) -> None:
    """Raise ``SettingsError`` for a task that cannot be made, before anything is written."""
    try:
        make_task(name, 1)
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


def refuse_wrong_run(settings: Runnable, workers: int | None = None) -> None:
    """Raise ``SettingsError`` if the run of ``settings`` cannot be trained here, before anything is written.

    ``workers`` is how many of them there will be at least.

    A user's environment plays two episodes of the contract check. If its episodes were not a function of their seed,
    every comparison would be meaningless, without any error.
    """
    run = settings.run
    refuse_wrong_task(run.task)
    _refuse_too_large(settings, workers or 1)
    _refuse_wrong_places(settings.ledger, settings.store)
    if ":" in run.task:
        from learning_signal.marl.tasks.foreign.contract import check_environment

        errors = [finding for finding in check_environment(run.task, episodes=2) if finding.level == "error"]
        if errors:
            found = errors[0].message.removesuffix(".")
            raise SettingsError(f"{found}; {command('check-env', run.task)} shows whether there is more.")
    if run.learner.device == "cuda":
        from learning_signal.marl.segments.running import refuse_missing_device

        try:
            refuse_missing_device(run.learner.device)
        except SegmentImpossible as error:
            raise SettingsError(str(error)) from None


def _refuse_too_large(settings: Runnable, workers: int) -> None:
    if settings.executor.kind != "local":
        return
    needed, there = least_bytes(settings.run, make_task(settings.run.task, 1).spec, workers), machine_bytes()
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
