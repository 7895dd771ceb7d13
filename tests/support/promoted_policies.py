"""Policies for the recorded session's promotions: real checkpoints where its synthetic training left none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from learning_signal.ledger.read.reader import Reader
from learning_signal.marl.learners import make_learner
from learning_signal.marl.learners.weights import named_weights
from learning_signal.marl.segments.checkpoint import Position, save_checkpoint
from learning_signal.marl.segments.segment import SegmentResult, SegmentStore
from learning_signal.marl.settings import RunSettings
from learning_signal.marl.tasks import make_task


@contextmanager
def stored_policies(reader: Reader, folder: Path) -> Iterator[Path]:
    """A store with a policy before and after every promotion; while the block lasts, the session names it."""
    config = reader.config("latest")
    run = RunSettings.model_validate(config["run"])
    for decision in reader.decisions("latest"):
        if decision.action == "promote":
            _store(SegmentStore(folder), run, decision.segment_from, 1.0)
            _store(SegmentStore(folder), run, decision.segment_to, 30.0)
    with mock.patch.object(Reader, "config", lambda *_: config | {"store": str(folder)}):
        yield folder


def _store(store: SegmentStore, run: RunSettings, segment: str, scale: float) -> None:
    """A segment of a policy that learned nothing; the larger the ``scale`` of its weights, the surer it is."""
    learner = make_learner(make_task(run.task, 1).spec, run.learner, 0)
    for weights in named_weights(learner.policy).values():
        weights.mul_(scale)
    result = SegmentResult(
        id=segment,
        parent=None,
        start_env_steps=0,
        end_env_steps=200,
        env_steps=200,
        updates=(),
        evaluations=(),
        wall_seconds=0.0,
        timings={},
    )
    with store.writing(segment) as place:
        save_checkpoint(place / "checkpoint.pt", learner, Position(200, 1))
        (place / "result.json").write_text(result.model_dump_json())
