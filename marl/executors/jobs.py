"""The queue of an executor: segments that were asked for and are not finished, one future each, urgent ones first."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

from learning_signal.marl.errors import SegmentFailed, SegmentImpossible
from learning_signal.marl.segments.segment import SegmentResult, SegmentSpec, SegmentStore

ATTEMPTS = 2
"""Worker deaths after which a segment has failed."""


@dataclass(eq=False)
class Job:
    """A segment in the executor: its spec and its future."""

    spec: SegmentSpec
    future: Future
    urgent: bool = True
    deaths: list[str] = field(default_factory=list)
    """How the workers that computed it died."""
    losses: int = 0
    """How often the machine that computed it was lost, which says nothing about the segment."""
    lost_env_steps: int = 0
    """Env steps reported by workers that died."""
    done_env_steps: int = 0
    """Env steps of the present attempt, as last reported."""

    @property
    def env_steps(self) -> int:
        return self.lost_env_steps + self.done_env_steps

    def lose(self) -> None:
        """Count the env steps of the present attempt as lost."""
        self.lost_env_steps, self.done_env_steps = self.env_steps, 0

    def died(self) -> SegmentFailed:
        """The failure of a segment whose workers died."""
        first, second = self.deaths
        return SegmentFailed(
            f"The worker died ({first}) while computing segment {self.spec.id}, "
            f"and so did a fresh one ({second}) that tried it again{_who_ended(first, second)}.",
            env_steps=self.env_steps,
        )

    def cancelled(self) -> SegmentImpossible:
        """The failure of a segment that was cancelled."""
        reason = f"Segment {self.spec.id} was cancelled before it was finished."
        return SegmentImpossible(reason, env_steps=self.env_steps)


def _who_ended(*causes: str) -> str:
    """Whether code or the machine ended workers, where that is known."""
    if all(cause.startswith("exit code") for cause in causes):
        return ": code that they ran ended them, so look for os._exit in the environment or what it loads"
    if all("SIGKILL" in cause for cause in causes):
        return ": the machine ended them, usually because memory was short"
    return ""


class Jobs:
    """The waiting segments in order, and the futures of all in flight. Every method holds ``lock``."""

    def __init__(self, store_root: Path) -> None:
        self.lock = threading.RLock()
        self._store = SegmentStore(store_root)
        self._waiting: deque[Job] = deque()
        self._in_flight: dict[str, Job] = {}

    def enter(self, spec: SegmentSpec, urgent: bool) -> tuple[Job, bool]:
        """The job of a segment, and whether it is a new one that waits to be taken.

        One in flight is shared (and becomes urgent where this call is); one that is stored is finished at once.
        """
        with self.lock:
            known = self._in_flight.get(spec.id)
            if known is not None and not known.future.cancelled():
                known.urgent = known.urgent or urgent
                return known, False
            job = Job(spec, Future(), urgent)
            if self._store.has(spec.id):
                try:
                    job.future.set_result(self._store.load_result(spec.id).model_copy(update={"reused": True}))
                except SegmentFailed as error:
                    job.future.set_exception(error)
                return job, False
            self._in_flight[spec.id] = job
            self._waiting.append(job)
            return job, True

    def take(self, suits: Callable[[Job], bool] = lambda job: True) -> Job | None:
        """The first waiting job that suits, urgent ones before all others; it counts as started from now on."""
        with self.lock:
            while True:
                suitable = [job for job in self._waiting if suits(job)]
                job = next((job for job in suitable if job.urgent), suitable[0] if suitable else None)
                if job is None:
                    return None
                self._waiting.remove(job)
                # The future of a retried segment is running already.
                if job.future.running() or job.future.set_running_or_notify_cancel():
                    return job
                self._forget(job)

    def put_back(self, job: Job) -> None:
        """Retry a job that was taken: it becomes the first in the queue."""
        with self.lock:
            self._waiting.appendleft(job)

    def withdraw(self, segment: str) -> bool:
        """Drop a job that has not started and cancel its future; False where it has, or is not known."""
        with self.lock:
            job = self._in_flight.get(segment)
            if job is None or not job.future.cancel():
                return False
            self._forget(job)
            if job in self._waiting:
                self._waiting.remove(job)
            return True

    def parents(self) -> set[str | None]:
        """The parents of all in flight."""
        with self.lock:
            return {job.spec.parent for job in self._in_flight.values()}

    def clear(self) -> list[Job]:
        """Remove and return all waiting jobs."""
        with self.lock:
            jobs = list(self._waiting)
            self._waiting.clear()
            return jobs

    def settle(self, job: Job, result: SegmentResult | None, error: Exception | None) -> None:
        """Finish a job with its result or its error."""
        with self.lock:
            self._forget(job)
        future = job.future
        if not future.running() and not future.set_running_or_notify_cancel():
            return  # its holder cancelled it while it waited
        if isinstance(result, SegmentResult) and job.lost_env_steps:
            result = result.model_copy(update={"lost_env_steps": job.lost_env_steps})
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    def _forget(self, job: Job) -> None:
        if self._in_flight.get(job.spec.id) is job:
            del self._in_flight[job.spec.id]
