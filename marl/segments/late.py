"""Late evaluation: episodes at the end of a stored segment that are played only once somebody reads them.

It is a segment that trains nothing, so a pure function of its parent's checkpoint and the episodes: it is computed by a
worker, once, and found again like any other. What it plays belongs to its parent.
"""

from __future__ import annotations

from typing import Literal

from learning_signal.marl.errors import SegmentImpossible
from learning_signal.marl.segments.records import BehaviourRecord
from learning_signal.marl.segments.segment import SegmentResult, SegmentSpec, SegmentStore
from learning_signal.marl.settings import PlayedSets, RunSettings
from learning_signal.marl.shaping import ShapingConfig
from learning_signal.marl.tasks import make_task

LateSet = Literal["query", "report"]
"""What is played late: the episodes that all of a run's segments share, and that no gate judges by."""
LATE: tuple[LateSet, ...] = ("query", "report")
NOTHING = PlayedSets(query="never", screen="never", confirm="never", report="never")


def late_evaluation(run: RunSettings, segment: str, episode_set: LateSet) -> SegmentSpec:
    """The segment that plays ``episode_set`` at the end of ``segment``, which was trained under ``run``."""
    played = NOTHING.model_copy(update={episode_set: "last"})
    evaluation = run.evaluation.model_copy(update={"played": played})
    alone = run.model_copy(update={"evaluation": evaluation, "held_out_seed": None})
    return SegmentSpec(run=alone, parent=segment, shaping=ShapingConfig.none(), env_steps=0, seed=0)


def complete(store: SegmentStore, run: RunSettings, segment: str) -> SegmentResult:
    """The stored result of ``segment`` with what late evaluations have played of it; raises as ``load_result``."""
    result = store.load_result(segment)
    late = [late_evaluation(run, segment, name).id for name in LATE if not result.evaluations_of(name)]
    played = tuple(each for one in late if store.has(one) for each in store.load_result(one).evaluations)
    return result.model_copy(update={"evaluations": (*result.evaluations, *played)}) if played else result


def played_again(store: SegmentStore, run: RunSettings, segment: str) -> BehaviourRecord:
    """The query episodes at the end of ``segment``, played now from its checkpoint; nothing is stored.

    Raises ``SegmentImpossible`` where the checkpoint cannot be used, or the task gives what is no number.
    """
    from learning_signal.marl.learners import make_learner  # load torch
    from learning_signal.marl.segments.checkpoint import CheckpointError, load_checkpoint
    from learning_signal.marl.segments.evaluation import Evaluator, NotFinite, evaluation_environments

    task = make_task(run.task, evaluation_environments(run, ("query",)))
    learner = make_learner(task.spec, run.learner.model_copy(update={"device": "cpu"}), 0)
    try:
        position = load_checkpoint(store.checkpoint_path(segment), learner)
        _, record = Evaluator(run, task, ("query",)).evaluate(learner.policy, position.env_steps, record=True)
    except (CheckpointError, NotFinite) as error:
        raise SegmentImpossible(str(error)) from error
    finally:
        if hasattr(task, "close"):
            task.close()
    assert record is not None, "it was to be recorded"
    return record


def behaviour_of(store: SegmentStore, run: RunSettings, segment: str) -> BehaviourRecord:
    """The query episodes at the end of ``segment``, played with it or late; raises as ``SegmentStore.behaviour``."""
    own = bool(store.load_result(segment).evaluations_of("query"))
    return store.behaviour(segment if own else late_evaluation(run, segment, "query").id)
