"""What a run begins with in place of newly drawn weights: a stored segment of another run, or an exported policy.

It becomes a segment without training in the store of the new run, so that everything that begins from it finds it as
it finds any other. Of a segment the whole state of training is there, optimisers included; of a policy its weights
alone, and what else the learner has (critics, mixer, optimisers) is newly drawn, from seed 0.
"""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Callable
from pathlib import Path

import torch

from learning_signal.marl.canonical import canonical_json, short_hash
from learning_signal.marl.learners import Learner, make_learner
from learning_signal.marl.learners.value_decomposition import ValueDecompositionLearner
from learning_signal.marl.learners.weights import named_weights, weights_hash
from learning_signal.marl.policies.files import LoadedPolicy
from learning_signal.marl.segments.checkpoint import CheckpointError, Position, load_checkpoint, save_checkpoint
from learning_signal.marl.segments.segment import SegmentResult, SegmentStore
from learning_signal.marl.segments.version import training_version
from learning_signal.marl.settings import RunSettings
from learning_signal.marl.tasks import make_task as make_known_task
from learning_signal.marl.tasks.base import Task


class CannotBegin(ValueError):
    """A run cannot begin from this; one sentence."""


def from_segment(store: SegmentStore, run: RunSettings, checkpoint: Path) -> SegmentResult:
    """The root that holds the state of training in a segment's checkpoint.

    Raises ``CannotBegin`` where it is not of a learner as ``run`` has it.
    """

    def load(learner: Learner) -> Position:
        try:
            return load_checkpoint(checkpoint, learner)
        except CheckpointError as error:
            raise CannotBegin(f"{error} A run begins from one with the same task and learner.") from error

    return _planted(store, run, load)


def from_policy(store: SegmentStore, run: RunSettings, loaded: LoadedPolicy) -> SegmentResult:
    """The root that holds the weights of an exported policy.

    Raises ``CannotBegin`` where its networks are not those of ``run``.
    """
    weights = named_weights(loaded.policy)

    def load(learner: Learner) -> Position:
        into = named_weights(learner.policy)
        shapes = {name: tuple(tensor.shape) for name, tensor in into.items()}
        if shapes != {name: tuple(tensor.shape) for name, tensor in weights.items()}:
            described = loaded.description
            raise CannotBegin(
                f"The policy's networks are those of {described.learner.algorithm} on {described.task} with hidden "
                f"layers {list(described.learner.hidden)}, expected those of this run: set the same task and learner."
            )
        with torch.no_grad():
            for name, tensor in into.items():
                tensor.copy_(weights[name])
            if isinstance(learner, ValueDecompositionLearner):
                for pair in learner.pairs:
                    pair.target.parameters.copy_(pair.part.network.parameters)
        return Position(loaded.description.env_steps, 0)

    return _planted(store, run, load)


def _planted(
    store: SegmentStore,
    run: RunSettings,
    load: Callable[[Learner], Position],
    make_task: Callable[[str, int], Task] = make_known_task,
) -> SegmentResult:
    """A segment with what ``load`` puts into a new learner; the same content is the same segment."""
    began = time.perf_counter()
    spec = make_task(run.task, 1).spec
    learner = make_learner(spec, run.learner.model_copy(update={"device": "cpu"}), 0)
    position = load(learner)
    policy = weights_hash(named_weights(learner.policy))
    buffer = io.BytesIO()
    torch.save(learner.state(), buffer)
    state = hashlib.sha256(buffer.getbuffer()).hexdigest()
    inputs = {"root": [state, position.env_steps, position.updates], "run": run.model_dump(mode="json")}
    identity = "s" + short_hash(canonical_json(inputs | {"code": training_version()}))
    if store.has(identity):
        return store.load_result(identity)
    with store.writing(identity) as folder:
        checkpoint = save_checkpoint(folder / "checkpoint.pt", learner, position)
        result = SegmentResult(
            id=identity,
            parent=None,
            start_env_steps=position.env_steps,
            end_env_steps=position.env_steps,
            env_steps=0,
            updates=(),
            evaluations=(),
            wall_seconds=time.perf_counter() - began,
            timings={},
            checkpoint=checkpoint,
            policy=policy,
        )
        (folder / "result.json").write_text(result.model_dump_json())
    return result
