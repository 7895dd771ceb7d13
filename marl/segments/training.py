"""Runs a segment: a pure function of its inputs, by which the main run and every branch are made."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from learning_signal.marl.errors import SegmentStopped, failure_of
from learning_signal.marl.learners import Collector, Diverged, Timings
from learning_signal.marl.learners.networks import flushed_denormals
from learning_signal.marl.segments.evaluation import evaluators
from learning_signal.marl.segments.running import RunningSegment, out_of_memory, refuse_missing_device
from learning_signal.marl.segments.segment import SegmentResult, SegmentSpec, SegmentStore, TrainingStatus
from learning_signal.marl.tasks import make_task as make_known_task
from learning_signal.marl.tasks.base import Task

MakeTask = Callable[[str, int], Task]


def run_segment(
    spec: SegmentSpec,
    store: SegmentStore,
    progress: Callable[[TrainingStatus], None] | None = None,
    stop: Callable[[], bool] | None = None,
    make_task: MakeTask = make_known_task,
) -> SegmentResult:
    """Train ``spec`` and store checkpoint, result and behaviour; a stored segment is returned at once.

    ``progress`` is called after every update; ``stop`` is polled before every update. Runs on one torch thread, so that
    results do not depend on the machine's core count. ``make_task`` must make the task that ``spec.run.task`` names.

    Raises ``SegmentFailed`` (unusable inputs, divergence, NaN), ``SegmentImpossible`` (missing or unreadable parent,
    full disk or memory, and other faults of the machine), ``SegmentStopped``, ``ShapingError`` (the shaping does not
    fit the task) and what making the task raises.
    """
    if store.has(spec.id):
        return store.load_result(spec.id).model_copy(update={"reused": True})
    trained = 0

    def report(latest: TrainingStatus) -> None:
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
        if not out_of_memory(error):
            raise
        raise failure_of(MemoryError(str(error)), spec.id, trained) from error
    finally:
        torch.set_num_threads(threads)


def _train(
    spec: SegmentSpec,
    store: SegmentStore,
    progress: Callable[[TrainingStatus], None],
    stop: Callable[[], bool] | None,
    make_task: MakeTask,
) -> SegmentResult:
    began, run, timings = time.perf_counter(), spec.run, Timings()
    refuse_missing_device(run.learner.device)
    task = make_task(run.task, run.learner.environments)
    running = RunningSegment.begin(spec, store, task.spec)
    collector = Collector(task, run.learner, running.potential, keep=running.learner.keeps)
    evaluations = evaluators(run, running.due.values(), make_task)
    running.evaluate(evaluations, timings)  # due here where it trains nothing
    for update in range(running.updates):
        if stop is not None and stop():
            raise SegmentStopped(f"Segment {spec.id} was stopped after {update} of {running.updates} updates.")
        _advance(running, collector, timings)
        running.evaluate(evaluations, timings)
        progress(running.progress())
    return running.store(store, began, timings)


def _advance(running: RunningSegment, collector: Collector, timings: Timings) -> None:
    """One rollout and one update."""
    learner, env_steps, generator = running.learner, running.position.env_steps, running.generator()
    choose = learner.behaviour(env_steps)
    rollout = collector.collect(learner.policy, choose, env_steps, running.episodes, generator, timings)
    learned: dict[str, float | None] | Diverged
    now = time.perf_counter()
    try:
        with flushed_denormals():
            learned = learner.update(rollout, generator)
    except Diverged as error:
        learned = error
    timings.update += time.perf_counter() - now
    running.add(rollout, learned)
