"""What a session begins from in place of newly drawn weights: the end of an earlier run, or an exported policy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from learning_signal.marl.segments.segment import SegmentStore
from learning_signal.marl.settings import LearnerSettings
from learning_signal.tools.plan.settings import Root, SessionSettings
from learning_signal.tools.plan.sources import Given, SettingsError
from learning_signal.tools.training.policies import end_of


@dataclass(frozen=True)
class Source:
    """What was named to begin from."""

    of: str
    """In words: session ID, or policy FOLDER."""
    task: str
    learner: LearnerSettings
    checkpoint: Path | None
    """Of a session; None of an exported policy."""
    folder: Path | None
    """Of an exported policy; None of a session."""


def source_of(named: str, ledger: Path) -> Source:
    """The run or policy that ``named`` means: a folder with a policy, or a session of the log.

    Raises ``SettingsError`` where somebody else began the session, ``ExportError`` where it has no policy,
    ``PolicyFileError`` or ``LedgerError``.
    """
    if "/" in named or Path(named).is_dir():
        from learning_signal.marl.policies.files import load_policy

        description = load_policy(named).description
        return Source(f"policy {named}", description.task, description.learner, None, Path(named))
    end = end_of(ledger, named)
    if not end.ours:
        raise SettingsError(
            f"Session {end.row.id} was not begun by you on this machine, expected one of yours or an exported policy: "
            "export its policy first, and give that folder."
        )
    run, checkpoint = end.trained.run, end.store().checkpoint_path(end.head.id)
    return Source(f"session {end.row.id}", run.task, run.learner, checkpoint, None)


def as_source(given: Given, source: Source) -> Given:
    """What the user gave, with the task and the learner of the source where nothing else is said.

    Raises ``SettingsError`` where the source names an environment that is code and the user did not.
    """
    run = dict(given.values.get("run", {}))
    if "task" not in run and ":" in source.task and source.folder is not None:
        raise SettingsError(
            f"The {source.of} names an environment that is code, {source.task}, expected it from you: give --env."
        )
    run.setdefault("task", source.task)
    run["learner"] = source.learner.model_dump(mode="json", exclude={"device"}) | dict(run.get("learner", {}))
    return replace(given, values=given.values | {"run": run})


def rooted(settings: SessionSettings, source: Source) -> SessionSettings:
    """The settings of a session that begins there; what it begins with is put into its store.

    Raises ``SettingsError`` where task or learner are others.
    """
    from learning_signal.marl.policies.files import load_policy
    from learning_signal.marl.policies.roots import CannotBegin, from_policy, from_segment

    if source.task != settings.run.task:
        raise SettingsError(
            f"Found the task {settings.run.task}, expected {source.task}, which {source.of} was trained on: leave "
            "--task out, or begin from something else."
        )
    if source.learner.algorithm != settings.run.learner.algorithm:
        raise SettingsError(
            f"Found the algorithm {settings.run.learner.algorithm}, expected {source.learner.algorithm}, which trained "
            f"{source.of}: leave --algorithm out, or begin from something else."
        )
    store = SegmentStore(settings.store.resolve())
    try:
        if source.checkpoint is not None:
            planted = from_segment(store, settings.run, source.checkpoint)
        else:
            assert source.folder is not None
            planted = from_policy(store, settings.run, load_policy(source.folder))
    except CannotBegin as error:
        raise SettingsError(str(error)) from None
    root = Root(segment=planted.id, env_steps=planted.end_env_steps, of=source.of, whole=source.checkpoint is not None)
    return settings.model_copy(update={"root": root})
