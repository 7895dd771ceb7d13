"""Trains several segments in one process, stacked: branches that differ in weights, shaping and seeds only.

Each gives what ``run_segment`` gives, on the CPU to the bit, and is stored under its own id: who was trained with whom
leaves no trace but the seconds, which are each branch's share of the whole.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch

from marl.evaluation import Evaluator, evaluation_environments
from marl.learners import Timings
from marl.learners.networks import flushed_denormals
from marl.learners.stacked_ppo import StackedLearners
from marl.learners.stacked_rollout import StackedCollector
from marl.running import RunningSegment, out_of_memory, refuse_missing_device
from marl.segment import (
    Progress,
    SegmentFailed,
    SegmentResult,
    SegmentSpec,
    SegmentStopped,
    SegmentStore,
    failure_of,
)
from marl.shaping import ShapingError
from marl.stacking import can_stack
from marl.tasks import make_task as make_known_task
from marl.training import MakeTask, run_segment

Outcome = SegmentResult | SegmentFailed


def run_stacked(
    specs: Sequence[SegmentSpec],
    store: SegmentStore,
    progress: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] | None = None,
    make_task: MakeTask = make_known_task,
) -> list[Outcome]:
    """Train and store ``specs`` as ``run_segment`` would one by one: a result or a failure of each.

    A branch that fails does not hurt the others. ``progress`` is told about every update of every branch; ``stop`` is
    asked before every update and raises ``SegmentStopped`` for all. What cannot be stacked is trained alone, in turn.
    """
    report = progress or (lambda latest: None)
    missing = list({spec.id: spec for spec in specs if not store.has(spec.id)}.values())
    outcomes: dict[str, Outcome] = {}
    if can_stack(missing) and not make_task(missing[0].run.task, 1).spec.agents_leave:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            outcomes = _train(missing, store, report, stop, make_task)
        finally:
            torch.set_num_threads(threads)
    return [outcomes.get(spec.id) or _alone(spec, store, report, stop, make_task) for spec in specs]


def _alone(
    spec: SegmentSpec, store: SegmentStore, progress: Callable[[Progress], None], stop: Callable[[], bool] | None,
    make_task: MakeTask,
) -> Outcome:  # fmt: skip
    try:
        return run_segment(spec, store, progress, stop, make_task)
    except (SegmentFailed, ShapingError) as error:
        return failure_of(error, spec.id)


def _train(
    specs: Sequence[SegmentSpec], store: SegmentStore, progress: Callable[[Progress], None],
    stop: Callable[[], bool] | None, make_task: MakeTask,
) -> dict[str, Outcome]:  # fmt: skip
    """Train ``specs`` together; what ends one branch is its own outcome, what the machine refuses is that of all."""
    run, timings, began = specs[0].run, Timings(), time.perf_counter()
    outcomes: dict[str, Outcome] = {}
    live: list[RunningSegment] = []
    done = 0
    try:
        refuse_missing_device(run.learner.device)
        evaluator = Evaluator(run, make_task(run.task, evaluation_environments(run)))
        for spec in specs:
            try:
                live.append(RunningSegment.begin(spec, store, evaluator.task.spec))
            except (SegmentFailed, ShapingError) as error:
                outcomes[spec.id] = failure_of(error, spec.id)
        stack = None
        while live and len(live[0].rows) < live[0].updates:
            first = live[0]
            if stop is not None and stop():
                raise SegmentStopped(
                    f"{len(live)} stacked segments were stopped after {len(first.rows)} of {first.updates} updates."
                )
            if stack is None or len(stack.segments) != len(live):
                stack = _Stack(live, make_task)
            failed = stack.advance(evaluator, timings)
            done += first.size
            outcomes |= failed
            live = [running for running in live if running.spec.id not in failed]
            for running in live:
                progress(running.progress())
        for running in live:
            try:
                outcomes[running.spec.id] = running.store(store, began, timings, together=len(specs))
            except OSError as error:
                outcomes[running.spec.id] = failure_of(error, running.spec.id, done)
    except (OSError, MemoryError, ImportError, SegmentFailed) as error:
        _fail_all(specs, outcomes, error, done)
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        _fail_all(specs, outcomes, MemoryError(str(error)), done)
    return outcomes


def _fail_all(specs: Sequence[SegmentSpec], outcomes: dict[str, Outcome], error: Exception, done: int) -> None:
    """What has no outcome yet ends by ``error``."""
    for spec in specs:
        outcomes.setdefault(spec.id, failure_of(error, spec.id, done))


class _Stack:
    """Segments that train together until one of them ends."""

    def __init__(self, segments: Sequence[RunningSegment], make_task: MakeTask) -> None:
        run = segments[0].spec.run
        self.segments = list(segments)
        task = make_task(run.task, run.learner.environments * len(segments))
        self.collector = StackedCollector(task, run.learner, [running.potential for running in segments])
        self.learners = StackedLearners([running.learner for running in segments])

    def advance(self, evaluator: Evaluator, timings: Timings) -> dict[str, SegmentFailed]:
        """One rollout and one update of every segment, and its evaluation where due; why some ended there, by id."""
        generators = [running.generator() for running in self.segments]
        rollouts = self.collector.collect(
            self.learners.policy(),
            [running.position.env_steps for running in self.segments],
            [running.episodes for running in self.segments],
            generators,
            timings,
        )
        now = time.perf_counter()
        with flushed_denormals():
            learned = self.learners.update(rollouts, generators)
        timings.update += time.perf_counter() - now
        failed = {}
        for running, rollout, metrics in zip(self.segments, rollouts, learned, strict=True):
            try:
                running.add(rollout, metrics)
                running.evaluate(evaluator, timings)
            except SegmentFailed as error:
                failed[running.spec.id] = error
        return failed
