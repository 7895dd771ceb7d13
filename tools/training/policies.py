"""The policy of a session of the ledger: exported to two files, or played."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from learning_signal.ledger.origin import is_ours
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.read.records import SessionRow
from learning_signal.ledger.read.training import SegmentRow
from learning_signal.ledger.wording import resume_command
from learning_signal.marl.paths import inside
from learning_signal.marl.segments.segment import SegmentStore
from learning_signal.marl.settings import RunSettings
from learning_signal.marl.shaping import ShapingConfig
from learning_signal.tools.consent import NO_CONSENT, NOT_OURS, Consent, refuse_unconfirmed, uses_of_task
from learning_signal.tools.plan.runnable import declared

Report = Callable[[int, int], None]
"""Called with the work done so far and the total."""


class ExportError(ValueError):
    """A session has no policy that could be exported; one sentence."""


class Trained(BaseModel):
    """The settings that sessions and training runs share, and that an export needs."""

    run: RunSettings
    store: Path


def policy_folder(ledger: Path, session: str) -> Path:
    """Where the policy of a session goes when no other place is named; ``OutsideFolder`` for an id that is a path."""
    return inside(inside(ledger.parent, "policies"), session)


@dataclass(frozen=True)
class End:
    """Where a session stands: the segment that HEAD points to."""

    row: SessionRow
    trained: Trained
    head: SegmentRow
    ours: bool
    """Whether this user began the session on this machine."""

    def store(self) -> SegmentStore:
        """The store that has the segment; ``ExportError`` where it is gone from there."""
        store = SegmentStore(self.trained.store)
        if not store.has(self.head.id):
            raise ExportError(
                f"Session {self.row.id} kept its policy in the store {store.root}, expected its segment {self.head.id} "
                "there: bring the store back to that place, or run the session again."
            )
        return store


def end_of(ledger: Path, session: str) -> End:
    """Where ``session`` (an id, its beginning or ``latest``) stands.

    Raises ``ExportError`` where it has trained nothing to its end or another version wrote it, or ``LedgerError``.
    """
    with Reader.open(ledger) as reader:
        row = reader.session(session)
        moves, config = reader.main_run(row.id), reader.config(row.id)
        ours = is_ours(reader.rows, row.id)
    if not moves:
        raise ExportError(
            f"Session {row.id} has trained nothing to its end yet, expected at least one segment: let it go on with "
            f"'{resume_command(row.id, ledger)}'."
        )
    try:
        trained = Trained.model_validate(config)
    except ValidationError as error:
        problem = error.errors()[0]
        raise ExportError(
            f"Session {row.id} was written by another version of this program "
            f"({'.'.join(map(str, problem['loc']))}: {problem['msg']}): export its policy with that version."
        ) from None
    return End(row, trained, moves[-1].segment, ours)


def export_policy(ledger: Path, session: str, folder: Path | None = None, consent: Consent = NO_CONSENT) -> Path:
    """Write the policy that HEAD of ``session`` (an id, its beginning or ``latest``) points to; returns the folder.

    Raises ``NotTrusted`` where its environment is code that this user has not named, ``ExportError``, ``LedgerError``,
    ``SegmentFailed`` or ``CheckpointError``.
    """
    end = end_of(ledger, session)
    row, run = end.row, end.trained.run
    uses = uses_of_task(run.task, consent, f"session {row.id}")
    if not end.ours:
        refuse_unconfirmed(uses, consent, f"session {row.id}", NOT_OURS)
    store = end.store()
    folder = policy_folder(ledger, row.id) if folder is None else folder
    from learning_signal.marl.policies.files import export_segment  # loads torch, so only when it is needed

    export_segment(folder, end.head.id, store, run, ShapingConfig.parse(end.head.shaping), seal=row.seal)
    return folder


def play_policy(
    policy: str,
    ledger: Path,
    episodes: int,
    seed: int,
    sampled: bool,
    to: Path | None,
    report: Report,
    consent: Consent = NO_CONSENT,
) -> dict[str, Any]:
    """Play a session's policy (it is exported first) or the one in a folder; ``marl.policies.play.Shown`` as JSON data.

    ``to`` is where its animations go, None for beside the policy. Raises what ``export_policy`` and
    ``marl.policies.play.show`` raise; ``NotTrusted`` also for a folder whose environment is code that this user has not
    named.
    """
    from learning_signal.marl.policies.files import load_policy
    from learning_signal.marl.policies.play import refuse_unplayable, show

    refuse_unplayable(episodes, seed)  # before a session's policy is exported
    # A path that exists, or can only be one, is a folder; everything else is a session.
    stored = Path(policy).exists() or "/" in policy
    folder = Path(policy) if stored else export_policy(ledger, policy, consent=consent)
    loaded = load_policy(folder, sampled=sampled, seed=seed)
    if stored:
        uses = uses_of_task(loaded.description.task, consent, f"the policy {folder}")
        refuse_unconfirmed(uses, consent, f"the policy {folder}", "names an environment that is code")
    shown = show(loaded.description.task, loaded, episodes, seed, to or folder, report)
    return {"policy": str(folder), **shown.model_dump(mode="json")}


def play_heuristic(task: str, episodes: int, seed: int, to: Path | None, report: Report) -> dict[str, Any]:
    """Play the heuristic of a task; ``marl.policies.play.Shown`` as JSON data. Raises what ``show`` there raises."""
    declared(task)  # before its name becomes that of a folder
    from learning_signal.marl.policies.play import show

    folder = to or inside("runs/heuristics", re.sub(r"[^\w.-]+", "_", task))
    return show(task, None, episodes, seed, folder, report).model_dump(mode="json")
