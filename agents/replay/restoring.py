"""Trains the segments of a recorded session again that its store no longer has."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import cast

from learning_signal.agents.replay.original import Original
from learning_signal.agents.session.running import SessionError
from learning_signal.ledger.read.training import SegmentRow
from learning_signal.marl.errors import SegmentFailed
from learning_signal.marl.executors.choice import open_executor
from learning_signal.marl.segments.late import LATE, late_evaluation
from learning_signal.marl.segments.segment import SegmentSpec, SegmentStore, TrainingStatus
from learning_signal.marl.shaping import ShapingConfig
from learning_signal.marl.tasks import make_task
from learning_signal.tools.plan.evaluation import Purpose, branch_episodes, evaluated_for


async def restore(original: Original, on_progress: Callable[[TrainingStatus], None] | None = None) -> int:
    """Train what is missing, on processes of this machine, into the store; returns how many segments that were.

    A segment is a pure function of its inputs, so it comes to what it came to. Raises ``SessionError`` where this
    version of the program would train another one.
    """
    missing = {row.id: _spec(original, row) for row in original.missing()}
    store = SegmentStore(original.settings.store)
    restored = 0
    with open_executor(store.root, original.settings.workers, on_progress) as pool:
        while missing:
            ready = [spec for spec in missing.values() if spec.parent is None or store.has(spec.parent)]
            if not ready:
                raise SessionError(f"Found no parent of the segment {next(iter(missing))}: the log is damaged.")
            try:
                await asyncio.gather(*(asyncio.wrap_future(pool.submit(spec)) for spec in ready))
            except SegmentFailed as failure:
                raise SessionError(f"A segment cannot be trained again: {failure}") from failure
            restored += len(ready)
            for spec in ready:
                del missing[spec.id]
    return restored


def _spec(original: Original, row: SegmentRow) -> SegmentSpec:
    for spec in _possible(original, row):
        if spec.id == row.id:
            return spec
    raise SessionError(
        f"Found the segment {row.id} of session {original.row.id}, expected one that this version would train by the "
        "same name: another version of the training code, torch or NumPy trained it, so replay it with that version."
    )


def _possible(original: Original, row: SegmentRow) -> Iterator[SegmentSpec]:
    """What the segment of a row may be, by what the log says of it."""
    settings, run = original.settings, original.settings.run
    if row.env_steps == 0 and row.parent is not None:
        yield from (late_evaluation(run, row.parent, episode_set) for episode_set in LATE)
        return
    if row.purpose not in ("main", "screen", "confirm"):
        return
    held_out = branch_episodes(run, settings.branch_steps, make_task(run.task, 1).spec)
    shaping = ShapingConfig.model_validate(row.shaping)
    evaluated = evaluated_for(run, cast(Purpose, row.purpose), row.seed, held_out)
    yield SegmentSpec(run=evaluated, parent=row.parent, shaping=shaping, env_steps=row.env_steps, seed=row.seed)
