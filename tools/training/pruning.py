"""Free the room of checkpoints that finished sessions no longer need. The record of a session is never shortened.

Of a finished session the store of segments holds every branch that was trained. What the session ended on is enough to
play it, to export its policy or to begin from it. A segment that is removed is only computed again where something asks
for it: an animation of its episodes, or what-if training from its round.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from learning_signal.ledger.origin import is_ours
from learning_signal.ledger.read.reader import Reader
from learning_signal.marl.segments.segment import SegmentStore
from learning_signal.tools.consent import NO_CONSENT, NOT_OURS, Consent, refuse_unconfirmed, uses_of_store
from learning_signal.tools.training.policies import Trained


class NotPruned(ValueError):
    """A session whose checkpoints may not be removed; one sentence."""


@dataclass(frozen=True)
class Prunable:
    """What of a session's checkpoints can go."""

    session: str
    store: Path
    segments: tuple[str, ...]
    """In the store, and needed by no session of this log."""
    bytes: int
    kept: int
    """Segments of the session that stay in the store."""


def prunable(
    reader: Reader, sessions: Sequence[str], heads: bool = False, consent: Consent = NO_CONSENT
) -> list[Prunable]:
    """What can go of these sessions.

    Kept are the segments of every session of the log that can still go on and, unless ``heads``, the ones that
    finished sessions ended on. Another log that shares the store is not known here.

    Raises:
        NotPruned: one of them can still go on, or another version of the program wrote it.
        NotTrusted: one was not begun by this user on this machine, and its store is not confirmed.
    """
    chosen = [reader.session(each) for each in sessions]
    for row in chosen:
        if row.status != "done":
            raise NotPruned(f"Session {row.id} is {row.status} and can go on from its checkpoints: it keeps them all.")
    needed = _needed(reader, set() if not heads else {row.id for row in chosen})
    found: list[Prunable] = []
    taken: set[tuple[Path, str]] = set()
    for row in chosen:
        store = SegmentStore(_store(reader, row.id, consent))
        there = [each for each in reader.segments(row.id) if store.has(each)]
        gone = [each for each in there if each not in needed and (store.root, each) not in taken]
        taken |= {(store.root, each) for each in gone}
        size = sum(_size(store.path(each)) for each in gone)
        found.append(Prunable(row.id, store.root, tuple(gone), size, len(there) - len(gone)))
    return found


def prune(plans: Sequence[Prunable], on_progress: Callable[[int, int], None]) -> None:
    """Remove what was planned; ``on_progress`` is told how many of all segments are gone."""
    total, done = sum(len(each.segments) for each in plans), 0
    for plan in plans:
        store = SegmentStore(plan.store)
        for segment in plan.segments:
            folder = store.path(segment)
            away = folder.with_name(f".{segment}.pruned")  # a segment is there whole, or not at all
            folder.rename(away)
            shutil.rmtree(away)
            done += 1
            on_progress(done, total)


def _store(reader: Reader, session: str, consent: Consent) -> Path:
    try:
        store = Trained.model_validate(reader.config(session)).store
    except ValidationError:
        raise NotPruned(
            f"Session {session} was written by another version of this program: remove its checkpoints with that one."
        ) from None
    of = f"session {session}"
    uses = uses_of_store(store, consent, of)
    if not is_ours(reader.rows, session):
        refuse_unconfirmed(uses, consent, of, NOT_OURS)
    return store


def _needed(reader: Reader, without_head: set[str]) -> set[str]:
    """The segments that sessions of the log need."""
    needed: set[str] = set()
    for session in reader.session_ids():
        if reader.session(session).status != "done":
            needed |= set(reader.segments(session))
        elif session not in without_head:
            needed |= {each.segment.id for each in reader.main_run(session)[-1:]}
    return needed


def _size(folder: Path) -> int:
    return sum(each.stat().st_size for each in folder.rglob("*") if each.is_file() and not each.is_symlink())
