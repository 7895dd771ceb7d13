"""Runs a segment: a pure function of its inputs, by which the main run and every branch are made."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict

import numpy as np
import torch

from marl.checkpoint import CheckpointError, Position, load_checkpoint, save_checkpoint
from marl.evaluation import Evaluator, NotFinite, evaluation_environments
from marl.learners import Collector, Diverged, Learner, Timings, make_learner
from marl.learners.networks import flushed_denormals
from marl.metrics import METRICS
from marl.randomness import derive
from marl.records import Evaluation
from marl.segment import (
    Progress,
    SegmentFailed,
    SegmentImpossible,
    SegmentResult,
    SegmentSpec,
    SegmentStopped,
    SegmentStore,
    failure_of,
    rollout_size,
)
from marl.shaping import check
from marl.tasks import make_task as make_known_task
from marl.tasks.base import Task, TaskSpec

MakeTask = Callable[[str, int], Task]


def run_segment(
    spec: SegmentSpec,
    store: SegmentStore,
    progress: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] | None = None,
    make_task: MakeTask = make_known_task,
) -> SegmentResult:
    """Train ``spec`` and store checkpoint, result and behaviour; a stored segment is returned at once.

    ``progress`` is told about every update; ``stop`` is asked before every update. Runs on one torch thread, so that
    results do not depend on the machine's core count. ``make_task`` must make the task that ``spec.run.task`` names.

    Raises ``SegmentFailed`` (unusable inputs, divergence, NaN), ``SegmentImpossible`` (missing or unreadable
    parent, full disk or memory and whatever else the machine refuses), ``SegmentStopped``, ``ShapingError``
    (the shaping does not fit the task) and what making the task raises.
    """
    if store.has(spec.id):
        return store.load_result(spec.id).model_copy(update={"reused": True})
    trained = 0

    def report(latest: Progress) -> None:
        nonlocal trained
        trained = latest.done_env_steps
        if progress is not None:
            progress(latest)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _train(spec, store, report, stop, make_task)
    except (OSError, MemoryError, ImportError) as error:
        raise failure_of(error, spec.id, trained) from error
    except RuntimeError as error:
        if not _out_of_memory(error):
            raise
        raise failure_of(MemoryError(str(error)), spec.id, trained) from error
    finally:
        torch.set_num_threads(threads)


def _train(
    spec: SegmentSpec,
    store: SegmentStore,
    progress: Callable[[Progress], None],
    stop: Callable[[], bool] | None,
    make_task: MakeTask,
) -> SegmentResult:
    began = time.perf_counter()
    run, settings, timings = spec.run, spec.run.learner, Timings()
    refuse_missing_device(settings.device)
    task = make_task(run.task, settings.environments)
    potential = None if spec.shaping.is_none else check(spec.shaping, task.spec)
    _refuse_length(spec, task.spec)
    try:
        learner = make_learner(task.spec, settings, spec.seed)
    except ValueError as error:
        raise SegmentFailed(str(error)) from error
    start = _load_parent(spec, store, learner)
    collector = Collector(task, settings, potential, keep=learner.keeps)
    evaluator = Evaluator(run, make_task(run.task, evaluation_environments(run)))

    updates = spec.env_steps // collector.size
    due = _evaluation_points(updates, run.evaluation.points)
    rows: list[dict[str, float | None]] = []
    evaluations: list[Evaluation] = []
    behaviour = None
    for update in range(1, updates + 1):
        if stop is not None and stop():
            raise SegmentStopped(f"Segment {spec.id} was stopped after {update - 1} of {updates} updates.")
        before = Position(start.env_steps + (update - 1) * collector.size, start.updates + update - 1)
        done = update * collector.size
        try:
            rows.append(_train_once(learner, collector, spec, before, timings))
        except Diverged as error:
            raise SegmentFailed(
                f"Training diverged: {error} at env step {start.env_steps + done}; use a smaller learning rate "
                "or a weaker shaping.",
                env_steps=done,
            ) from error
        if update in due:
            now = time.perf_counter()
            position = start.env_steps + done
            try:
                results, behaviour = evaluator.evaluate(learner.policy, position, record=update == updates)
            except NotFinite as error:
                raise SegmentFailed(f"The segment gave no result: {error}.", env_steps=done) from error
            evaluations += results
            timings.evaluation += time.perf_counter() - now
        latest = rows[-1]
        progress(Progress(spec.id, done, spec.env_steps, latest["sparse_return"], latest["progress"]))

    end = Position(start.env_steps + spec.env_steps, start.updates + updates)
    with store.writing(spec.id) as folder:
        save_checkpoint(folder / "checkpoint.pt", learner, end)
        behaviour.save(folder / "behaviour.npz")
        wall = time.perf_counter() - began
        spent = asdict(timings)
        result = SegmentResult(
            id=spec.id,
            parent=spec.parent,
            start_env_steps=start.env_steps,
            end_env_steps=end.env_steps,
            env_steps=spec.env_steps,
            updates=tuple(rows),
            evaluations=tuple(evaluations),
            wall_seconds=wall,
            timings=spent | {"rest": wall - sum(spent.values())},
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


def _train_once(
    learner: Learner, collector: Collector, spec: SegmentSpec, before: Position, timings: Timings
) -> dict[str, float | None]:
    """One rollout and one update; the row of metrics. Every random number derives from (seed, update index)."""
    generator = np.random.Generator(np.random.PCG64(derive(spec.seed, "update", before.updates)))
    rollout = collector.collect(
        learner.policy,
        learner.behaviour(before.env_steps),
        before.env_steps,
        derive(spec.seed, "train", before.updates),
        generator,
        timings,
    )
    after = before.env_steps + collector.size
    now = time.perf_counter()
    with flushed_denormals():
        learned = learner.update(rollout, collector.potential, before.env_steps, generator)
    timings.update += time.perf_counter() - now
    beta = 0.0 if spec.shaping.is_none else float(spec.shaping.beta_at(after))
    played = rollout.episode_metrics()
    for name, value in played.items():
        if value is not None and not math.isfinite(value):
            found = "NaN" if math.isnan(value) else "infinite"
            raise Diverged(f"the {name.replace('_', ' ')} became {found}")
    return dict.fromkeys(METRICS) | {"env_steps": after, **played, "beta": beta, **learned}


def _out_of_memory(error: RuntimeError) -> bool:
    """Whether torch ran out of memory: on the CPU it says so in words only."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _load_parent(spec: SegmentSpec, store: SegmentStore, learner: Learner) -> Position:
    """Put the parent's state into ``learner``; where it ended."""
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
    if spec.env_steps < 1 or spec.env_steps % size:
        nearest = max(round(spec.env_steps / size), 1) * size
        raise SegmentFailed(
            f"A segment of {spec.env_steps} env steps is not a whole number of rollouts of {size}; use {nearest}."
        )


def _evaluation_points(updates: int, points: int) -> set[int]:
    """The updates after which to evaluate: evenly spaced, the last at the end, fewer where updates are fewer."""
    return {round(updates * k / points) for k in range(1, points + 1)} - {0}
