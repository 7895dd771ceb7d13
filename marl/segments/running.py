"""A segment while it is trained: its learner, where it began, what it has given so far, and how it is stored."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import numpy as np
import torch

from learning_signal.marl.errors import SegmentFailed, SegmentImpossible
from learning_signal.marl.learners import Diverged, Learner, Rollout, Timings, make_learner
from learning_signal.marl.learners.weights import named_weights, weights_hash
from learning_signal.marl.randomness import derive
from learning_signal.marl.segments.checkpoint import CheckpointError, Position, load_checkpoint, save_checkpoint
from learning_signal.marl.segments.evaluation import Evaluator, NotFinite
from learning_signal.marl.segments.metrics import METRICS
from learning_signal.marl.segments.points import evaluated_after, sets_due
from learning_signal.marl.segments.records import BehaviourRecord, Evaluation
from learning_signal.marl.segments.segment import SegmentResult, SegmentSpec, SegmentStore, TrainingStatus, rollout_size
from learning_signal.marl.shaping import Potential, check
from learning_signal.marl.tasks.base import TaskSpec


@dataclass
class RunningSegment:
    """Changes with every update. All that is random derives from the segment's seed and the index of the update."""

    spec: SegmentSpec
    learner: Learner
    potential: Potential | None
    """The compiled shaping."""
    start: Position
    size: int
    """Env steps of a rollout."""
    rows: list[dict[str, float | None]] = field(default_factory=list)
    """Metrics of the updates so far."""
    evaluations: list[Evaluation] = field(default_factory=list)
    behaviour: BehaviourRecord | None = None

    @classmethod
    def begin(cls, spec: SegmentSpec, store: SegmentStore, task: TaskSpec) -> RunningSegment:
        """``spec`` before its first update.

        Raises ``SegmentFailed`` (unusable inputs), ``SegmentImpossible`` (missing or unreadable parent) and
        ``ShapingError``.
        """
        potential = None if spec.shaping.is_none else check(spec.shaping, task)
        _refuse_length(spec, task)
        try:
            learner = make_learner(task, spec.run.learner, spec.seed)
        except ValueError as error:
            raise SegmentFailed(str(error)) from error
        return cls(spec, learner, potential, _load_parent(spec, store, learner), rollout_size(spec.run, task))

    @property
    def updates(self) -> int:
        """Of the whole segment."""
        return self.spec.env_steps // self.size

    @property
    def due(self) -> dict[int, tuple[str, ...]]:
        """The sets of episodes to play, by the updates after which any is."""
        return sets_due(self.spec.run.evaluation, self.updates)

    @property
    def position(self) -> Position:
        """Where the run is after the updates so far."""
        done = len(self.rows)
        return Position(self.start.env_steps + done * self.size, self.start.updates + done)

    @property
    def episodes(self) -> int:
        """The stream of episode seeds of the next rollout."""
        return derive(self.spec.seed, "train", self.position.updates)

    def generator(self) -> np.random.Generator:
        """Draws the actions of the next rollout and the minibatches of its update."""
        return np.random.Generator(np.random.PCG64(derive(self.spec.seed, "update", self.position.updates)))

    def add(self, rollout: Rollout, learned: dict[str, float | None] | Diverged) -> None:
        """Record the metrics of an update; ``SegmentFailed`` where it diverged."""
        after, shaping = self.position.env_steps + self.size, self.spec.shaping
        try:
            if isinstance(learned, Diverged):
                raise learned
            played = rollout.episode_metrics()
            for name, value in played.items():
                if value is not None and not math.isfinite(value):
                    found = "NaN" if math.isnan(value) else "infinite"
                    raise Diverged(f"the {name.replace('_', ' ')} became {found}")
        except Diverged as error:
            raise SegmentFailed(
                f"Training diverged: {error} at env step {after}; use a smaller learning rate or a weaker shaping.",
                env_steps=after - self.start.env_steps,
            ) from error
        beta = 0.0 if shaping.is_none else float(shaping.beta_at(after))
        self.rows.append(dict.fromkeys(METRICS) | {"env_steps": after, **played, "beta": beta, **learned})

    def evaluate(self, evaluators: Mapping[tuple[str, ...], Evaluator], timings: Timings) -> None:
        """Evaluate where that is due; ``SegmentFailed`` where a return is not finite."""
        done, now = len(self.rows), time.perf_counter()
        sets = self.due.get(done)
        if sets is None:
            return
        try:
            results, self.behaviour = evaluators[sets].evaluate(
                self.learner.policy, self.position.env_steps, record=done == self.updates and "query" in sets
            )
        except NotFinite as error:
            raise SegmentFailed(f"The segment gave no result: {error}.", env_steps=done * self.size) from error
        points = len(evaluated_after(self.updates, self.spec.run.evaluation.points))
        self.evaluations += [each.model_copy(update={"points": points}) for each in results]
        timings.evaluation += time.perf_counter() - now

    def progress(self) -> TrainingStatus:
        """After the latest update."""
        latest, done = self.rows[-1], len(self.rows) * self.size
        return TrainingStatus(self.spec.id, done, self.spec.env_steps, latest["sparse_return"], latest["progress"])

    def store(self, store: SegmentStore, began: float, timings: Timings) -> SegmentResult:
        """Write checkpoint, behaviour (where the query episodes were played) and result of a segment at its end.

        ``began`` is the value of ``time.perf_counter`` at its start.
        """
        spec, end = self.spec, self.position
        with store.writing(spec.id) as folder:
            checkpoint = policy = None
            if spec.env_steps:  # without any, its parent's checkpoint is its own
                checkpoint = save_checkpoint(folder / "checkpoint.pt", self.learner, end)
                policy = weights_hash(named_weights(self.learner.policy))
            if self.behaviour is not None:
                self.behaviour.save(folder / "behaviour.npz")
            wall, seconds = time.perf_counter() - began, asdict(timings)
            result = SegmentResult(
                id=spec.id,
                parent=spec.parent,
                start_env_steps=self.start.env_steps,
                end_env_steps=end.env_steps,
                env_steps=spec.env_steps,
                updates=tuple(self.rows),
                evaluations=tuple(self.evaluations),
                wall_seconds=wall,
                timings=seconds | {"rest": wall - sum(seconds.values())},
                checkpoint=checkpoint,
                policy=policy,
            )
            (folder / "result.json").write_text(result.model_dump_json())
        return result


def refuse_missing_device(device: str) -> None:
    """``SegmentImpossible`` where this machine has no such device."""
    if device == "cuda" and not torch.cuda.is_available():
        raise SegmentImpossible(
            "The learner's device is cuda, but torch finds none on this machine; set device to cpu, or install a torch "
            "build that has CUDA."
        )


def out_of_memory(error: RuntimeError) -> bool:
    """Whether torch ran out of memory; on the CPU only the message tells."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _load_parent(spec: SegmentSpec, store: SegmentStore, learner: Learner) -> Position:
    """Load the parent's state into ``learner``; returns the position at which the parent ended."""
    if spec.parent is None:
        return Position(env_steps=0, updates=0)
    if not store.has(spec.parent):
        raise SegmentImpossible(f"The parent segment {spec.parent} is not in {store.root}; run it first.")
    try:
        return load_checkpoint(store.checkpoint_path(spec.parent), learner)
    except CheckpointError as error:
        raise SegmentImpossible(str(error)) from error


def _refuse_length(spec: SegmentSpec, task: TaskSpec) -> None:
    steps = spec.run.learner.rollout_steps
    if steps is not None and steps < task.horizon:
        raise SegmentFailed(
            f"A rollout of {steps} steps never sees the end of an episode of {task.name}, because every rollout "
            f"starts new ones; set rollout_steps to at least {task.horizon}."
        )
    size = rollout_size(spec.run, task)
    if spec.env_steps == 0 and spec.parent is not None:
        return
    if spec.env_steps < 1 or spec.env_steps % size:
        nearest = max(round(spec.env_steps / size), 1) * size
        raise SegmentFailed(
            f"A segment of {spec.env_steps} env steps is not a whole number of rollouts of {size}; use {nearest}."
        )
