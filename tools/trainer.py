"""The session's trainer: asks the executor for segments, and writes each one to the ledger once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from learning_signal.ledger.wording import cut_off_text
from learning_signal.ledger.write.clock import now
from learning_signal.ledger.write.writer import Ledger
from learning_signal.marl.errors import SegmentFailed, SegmentImpossible
from learning_signal.marl.executors.base import Executor
from learning_signal.marl.segments.late import LATE, LateSet, behaviour_of, complete, late_evaluation
from learning_signal.marl.segments.records import BehaviourRecord, Evaluation
from learning_signal.marl.segments.segment import SegmentResult, SegmentSpec, SegmentStore
from learning_signal.marl.settings import RunSettings
from learning_signal.marl.shaping import ShapingConfig
from learning_signal.tools.base import CannotGoOn
from learning_signal.tools.plan.evaluation import Purpose, evaluated_for

Stored = TypeVar("Stored")

KEPT = 32
"""Results that are kept in memory, those of a round; earlier ones are read from the store again."""


class Trainer:
    """Runs segments on a pool of workers and records them for one session.

    The ledger is written only here and only from the session's own thread: workers return results, never rows.
    """

    def __init__(
        self,
        pool: Executor,
        store: SegmentStore,
        ledger: Ledger,
        session: str,
        run: RunSettings,
        held_out: int | None = None,
    ) -> None:
        """``held_out``: episodes of a branch's own set; None where there are no branches."""
        self.pool, self.store, self.ledger, self.session, self.run = pool, store, ledger, session, run
        self._held_out = held_out
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._results: dict[str, SegmentResult] = {}
        """The last ``KEPT``."""
        self._futures: dict[str, Future[SegmentResult]] = {}
        """The executor's, of every segment that was submitted here and has no result yet."""
        self.purposes: dict[str, tuple[str, str]] = {}
        """Segment id -> (purpose, arm), for the live view."""
        self._not_urgent: set[str] = set()

    def spec(
        self, parent: str | None, shaping: ShapingConfig, env_steps: int, seed: int, purpose: Purpose
    ) -> SegmentSpec:
        """The segment of this run with these inputs, evaluated on what its ``purpose`` needs."""
        run = evaluated_for(self.run, purpose, seed, self._held_out)
        return SegmentSpec(run=run, parent=parent, shaping=shaping, env_steps=env_steps, seed=seed)

    def launch(self, spec: SegmentSpec, purpose: str, arm: str, urgent: bool = True) -> str:
        """Start a segment unless it is running or stored already; returns its id at once.

        What is not ``urgent`` starts when nothing urgent waits; launched again as urgent, it becomes so.
        A branch segment that failed in this session has failed for good, also after a resume: the comparisons that
        counted it as failed stay true. A failed piece of the main run is tried again.
        """
        self.purposes.setdefault(spec.id, (purpose, arm))
        task = self._tasks.get(spec.id)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            reason = self._failed_before(spec.id)
            if reason is None:
                self.note_start(spec, purpose, arm)
                work = self._finish(spec, self._submit(spec, urgent), purpose, arm)
            else:
                work = _fail(reason)
            self._tasks[spec.id] = asyncio.ensure_future(work)
            # Mark a failure as retrieved, or asyncio warns at shutdown where no one awaited the segment.
            self._tasks[spec.id].add_done_callback(lambda done: done.cancelled() or done.exception())
            (self._not_urgent.discard if urgent else self._not_urgent.add)(spec.id)
        elif urgent and spec.id in self._not_urgent:
            self._not_urgent.remove(spec.id)
            if not task.done():
                self.pool.submit(spec)
        return spec.id

    def withdraw(self, segment: str, reason: str) -> bool:
        """Withdraw a pending segment for good; False where this process is computing it.

        A segment that an earlier process began counts if it was stored; otherwise what it trained is unknown.
        """
        in_flight = segment in self._tasks
        if in_flight and not self.pool.withdraw(segment):
            return False
        if in_flight:
            self._tasks[segment].cancel()
        row = self.ledger.required_row("segments", (self.session, segment))
        trained = 0 if in_flight else row["env_steps"] if self.store.has(segment) else None
        self.ledger.complete(
            "segments", (self.session, segment), status="error", reason=reason, trained=trained, ended_at=now()
        )
        return True

    def stop(self) -> None:
        """Forget the segments in flight: one that is cancelled by the end of the session has not failed."""
        for task in self._tasks.values():
            task.cancel()

    def count_cut_off(self) -> None:
        """Write what was trained in vain, once the executor has stopped what is in flight.

        Of a segment that is still computed, by an executor that others share, it is unknown. What had not begun has
        trained nothing; a ``SegmentFailed`` of the main run or the twin is counted by who waits for it.
        """
        known = unknown = 0
        for row in self.ledger.find("segments", session_id=self.session, status="pending"):
            future = self._futures.get(row["id"])
            if future is None or future.cancelled():
                continue
            if not future.done():
                unknown += future.running()
            elif isinstance(error := future.exception(), SegmentImpossible):
                known += error.env_steps
        self._count_cut_off(known, unknown)

    def _count_cut_off(self, known: int, unknown: int = 0) -> None:
        if known or unknown:
            with self.ledger.transaction("cut-off"):
                self.ledger.add_cut_off(self.session, known, unknown)
                self.ledger.event(self.session, "session", cut_off_text(known, unknown))

    async def result(self, segment: str) -> SegmentResult:
        """Wait for a launched segment.

        Raises ``SegmentFailed`` with the reason if it failed, ``CannotGoOn`` where the machine did.
        """
        try:
            await asyncio.shield(self._tasks[segment])
        except SegmentImpossible as error:
            raise CannotGoOn(str(error)) from error
        kept = self._results.get(segment)
        return self._read(self.store.load_result, segment) if kept is None else kept

    async def evaluate_late(self, segment: str, episode_set: LateSet, purpose: str | None = None) -> None:
        """Play a set of episodes at the end of a finished segment of this session, unless it was.

        ``purpose`` says what for, where it is not what the segment was trained for. Raises as ``result``.
        """
        if self._read(self.store.load_result, segment).evaluations_of(episode_set):
            return
        own = purpose or self.ledger.required_row("segments", (self.session, segment))["purpose"]
        arm = self.purposes.get(segment, (own, own))[1] if purpose is None else own
        await self.result(self.launch(late_evaluation(self.run, segment, episode_set), own, arm))

    async def complete(self, segment: str) -> None:
        """Play what is read of HEAD and was not played while it was a branch. Raises as ``result``."""
        await asyncio.gather(*(self.evaluate_late(segment, name, "main") for name in LATE))

    def known(self, segment: str) -> bool:
        """Whether this process has launched the segment."""
        return segment in self._tasks

    def stored(self, segment: str) -> SegmentResult:
        """The result of a finished segment, late evaluations included. ``CannotGoOn`` where it cannot be read."""
        return self._read(lambda one: complete(self.store, self.run, one), segment)

    def behaviour(self, segment: str) -> BehaviourRecord:
        """The query episodes at the end of a finished segment. Raises ``CannotGoOn`` where they cannot be read."""
        return self._read(lambda one: behaviour_of(self.store, self.run, one), segment)

    @staticmethod
    def _read(load: Callable[[str], Stored], segment: str) -> Stored:
        try:
            return load(segment)
        except SegmentFailed as error:
            raise CannotGoOn(str(error)) from error

    def status(self, segment: str) -> str:
        """``running``, ``done`` or ``failed``."""
        task = self._tasks.get(segment)
        if task is None:
            if self._failed_before(segment) is not None:
                return "failed"
            return "done" if self.store.has(segment) else "running"
        if not task.done():
            return "running"
        return "failed" if task.cancelled() or task.exception() is not None else "done"

    def _failed_before(self, segment: str) -> str | None:
        row = self.ledger.row("segments", (self.session, segment))
        return row["reason"] if row is not None and row["status"] == "error" else None

    def note_start(self, spec: SegmentSpec, purpose: str, arm: str) -> None:
        """Write a segment down as pending, once."""
        if self.ledger.row("segments", (self.session, spec.id)) is not None:
            return
        with self.ledger.transaction("segment-start"):
            self.ledger.add(
                "segments",
                session_id=self.session,
                id=spec.id,
                parent=spec.parent,
                shaping=spec.shaping.model_dump(mode="json"),
                seed=spec.seed,
                env_steps=spec.env_steps,
                purpose=purpose,
                status="pending",
                reused=int(self.store.has(spec.id)),
                started_at=now(),
            )
            self.ledger.event(
                self.session,
                "segment",
                f"{_piece(purpose, arm)}: {_work(spec)} started",
                phase=purpose,
                ref=("segments", spec.id),
            )

    def _submit(self, spec: SegmentSpec, urgent: bool) -> Future[SegmentResult]:
        self._futures[spec.id] = self.pool.submit(spec, urgent)
        return self._futures[spec.id]

    async def _finish(self, spec: SegmentSpec, future: Future[SegmentResult], purpose: str, arm: str) -> None:
        try:
            result = await self._computed(spec, future)
        except SegmentImpossible:
            raise  # nothing is known about the segment: it stays pending and can be computed later
        except SegmentFailed as failure:
            self._record_failure(spec, purpose, arm, failure)
            raise
        self._record(spec, result, purpose, arm)
        self._futures.pop(spec.id, None)
        self._results[spec.id] = result
        while len(self._results) > KEPT:
            del self._results[next(iter(self._results))]

    async def _computed(self, spec: SegmentSpec, future: Future[SegmentResult]) -> SegmentResult:
        """The result of a submitted segment. If another session withdrew it, it is submitted again with its present
        urgency.
        """
        while True:
            try:
                return await asyncio.wrap_future(future)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if (task is not None and task.cancelling()) or not future.cancelled():
                    raise
                future = self._submit(spec, spec.id not in self._not_urgent)

    def _record_failure(self, spec: SegmentSpec, purpose: str, arm: str, failure: SegmentFailed) -> None:
        reason = str(failure)
        with self.ledger.transaction("segment-failed"):
            if purpose in ("screen", "confirm"):
                self.ledger.complete(
                    "segments",
                    (self.session, spec.id),
                    status="error",
                    reason=reason,
                    trained=failure.env_steps,
                    ended_at=now(),
                )
            self.ledger.event(
                self.session,
                "segment",
                f"{_piece(purpose, arm)} failed: {reason}",
                phase=purpose,
                status="error",
                ref=("segments", spec.id),
            )

    def _record(self, spec: SegmentSpec, result: SegmentResult, purpose: str, arm: str) -> None:
        row = self.ledger.required_row("segments", (self.session, spec.id))
        if row["status"] != "pending":
            return
        # Not result.reused: what this session computed before it was killed still counts as its own env steps.
        reused = bool(row["reused"])
        with self.ledger.transaction("segment-end"):
            self.ledger.complete(
                "segments",
                (self.session, spec.id),
                status="ok",
                reused=int(reused),
                start_env_steps=result.start_env_steps,
                end_env_steps=result.end_env_steps,
                wall_seconds=result.wall_seconds,
                evaluation_env_steps=result.evaluation_steps,
                checkpoint=result.checkpoint,
                policy=result.policy,
                ended_at=now(),
            )
            self._count_cut_off(result.lost_env_steps)
            self.ledger.add_metrics(self.session, spec.id, [dict(row) for row in result.updates])
            for evaluation in result.evaluations:
                self.ledger.add(
                    "evaluations",
                    session_id=self.session,
                    segment_id=spec.id if spec.env_steps else spec.parent,  # what is played late is its parent's
                    episode_set=evaluation.set,
                    env_steps=evaluation.env_steps,
                    episodes=len(evaluation.sparse_returns),
                    sparse_return=evaluation.sparse_return,
                    progress=evaluation.mean_progress,
                    points=evaluation.points,
                    packed={"sparse_returns": evaluation.sparse_returns, "progress": evaluation.progress},
                )
            self.ledger.event(
                self.session,
                "segment",
                f"{_piece(purpose, arm)}: {'' if spec.env_steps else _work(spec) + ' '}done"
                + (" (reused)" if reused else ""),
                phase=purpose,
                ref=("segments", spec.id),
            )


def _piece(purpose: str, arm: str) -> str:
    """A segment in words: ``confirm c1``, or ``main``, which has one arm."""
    return purpose if purpose == arm else f"{purpose} {arm}"


def _work(spec: SegmentSpec) -> str:
    """What a segment does, in words."""
    if spec.env_steps:
        return f"{spec.env_steps:,} env steps"
    played = spec.run.evaluation.played
    return f"{' and '.join(name for name, when in played if when != 'never')} episodes at the end of {spec.parent}"


async def _fail(reason: str) -> None:
    raise SegmentFailed(reason)


def final_evaluation(result: SegmentResult, episode_set: str) -> Evaluation:
    """The last evaluation of a segment on one of the sets; ``KeyError`` if the set was not played."""
    for evaluation in reversed(result.evaluations):
        if evaluation.set == episode_set:
            return evaluation
    raise KeyError(episode_set)
