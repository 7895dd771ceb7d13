"""A pool of long-lived worker processes that run segments, one torch thread each.

The pool's own process imports no torch: it starts the workers, hands them specs and receives results. A
worker that dies is replaced and its segment computed once more, on a fresh worker; if that one dies too, the
segment has failed, but never the session. Workers know the segment store and nothing else; they ignore Ctrl-C
(the parent decides) and leave when the parent is gone.
"""

from __future__ import annotations

import atexit
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Pipe, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from loguru import logger

from marl.segment import (
    Progress,
    SegmentFailed,
    SegmentImpossible,
    SegmentResult,
    SegmentSpec,
    SegmentStore,
    failure_of,
)
from marl.worker import available_cores, cause_of_death, sentence, start_worker

RUNNER = "marl.training:run_segment"
PRELOAD = ("torch",)

_TERMINATE_SECONDS = 0.5
_FAILED_STARTS = 3
_ATTEMPTS = 2


@dataclass(eq=False)
class _Job:
    """One segment on its way: what to compute and who waits for it."""

    spec: SegmentSpec
    future: Future
    deaths: list[str] = field(default_factory=list)
    """How the workers that computed it died."""
    lost_env_steps: int = 0
    """Env steps that workers which died had reported."""
    done_env_steps: int = 0
    """Env steps of the present attempt, as last reported."""

    @property
    def env_steps(self) -> int:
        return self.lost_env_steps + self.done_env_steps


@dataclass(eq=False)
class _Worker:
    """One worker process as its parent sees it."""

    process: BaseProcess
    connection: Connection
    ready: bool = False
    fresh: bool = True
    """Whether it has not been given any segment yet."""
    job: _Job | None = None


class WorkerPool:
    """Runs segments in ``workers`` processes (one per core when ``None``), first come, first served.

    ``on_progress`` is called in the pool's thread, at most about ten times a second per worker. ``runner``
    names the function ``module:function`` that a worker calls as ``runner(spec, store, progress=...)``;
    ``preload`` names modules imported as soon as a worker starts. Futures end with a ``SegmentResult`` or
    raise ``SegmentFailed``, or ``SegmentImpossible`` where the machine or the program is at fault or the
    segment was cancelled. Like all of multiprocessing's spawned processes, workers import the main module, so
    a script needs its ``if __name__ == "__main__"`` guard.
    """

    def __init__(
        self,
        store_root: Path,
        workers: int | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        runner: str = RUNNER,
        preload: tuple[str, ...] = PRELOAD,
    ) -> None:
        if workers is None:
            workers = available_cores()
        if workers < 1:
            raise ValueError(f"A pool cannot have {workers} workers; use at least 1.")
        self.worker_count = workers
        self._store_root = Path(store_root)
        self._on_progress = on_progress
        self._runner, self._preload = runner, preload
        self._lock = threading.RLock()
        self._queue: deque[_Job] = deque()
        self._in_flight: dict[str, Future] = {}
        self._workers: list[_Worker] = []
        self._failed_starts, self._start_failure = 0, ""
        self._broken: str | None = None
        self._closed = False
        self._wake_receiver, self._wake_sender = Pipe(duplex=False)
        with self._lock:
            self._replace_missing()
        self._thread = threading.Thread(target=self._serve, name="worker-pool", daemon=True)
        self._thread.start()
        atexit.register(self.close)  # multiprocessing's own exit would wait for workers replaced meanwhile

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def submit(self, spec: SegmentSpec) -> Future[SegmentResult]:
        """Queue a segment: the same future for one in flight, a finished future for one already stored.

        A future that is cancelled while it waits is never computed (for everyone who holds it). A closed pool
        raises ``RuntimeError``.
        """
        with self._lock:
            if self._closed:
                raise RuntimeError("The worker pool is closed and takes no segment; open a new one.")
            known = self._in_flight.get(spec.id)
            if known is not None and not known.cancelled():
                return known
            future: Future = Future()
            store = SegmentStore(self._store_root)
            if store.has(spec.id):
                try:
                    future.set_result(store.load_result(spec.id).model_copy(update={"reused": True}))
                except SegmentFailed as error:
                    future.set_exception(error)
                return future
            if self._broken is not None:
                future.set_exception(SegmentImpossible(self._broken))
                return future
            self._in_flight[spec.id] = future
            self._queue.append(_Job(spec, future))
            self._hand_out()
            return future

    def cancel_all(self) -> None:
        """Fail every segment in flight with ``SegmentImpossible`` and stop its worker, within two seconds.

        The pool stays usable: new workers are started. A killed worker leaves no half-written segment behind,
        since the store writes atomically.
        """
        with self._lock:
            jobs = list(self._queue)
            self._queue.clear()
            busy = [worker for worker in self._workers if worker.job is not None]
            jobs += [worker.job for worker in busy]
            for worker in busy:
                worker.job = None
            if busy:
                self._failed_starts = 0  # these had started, so others can be
            self._stop(busy)
            if not self._closed:
                self._replace_missing()
            self._wake()
        for job in jobs:
            reason = f"Segment {job.spec.id} was cancelled before it was finished."
            self._settle(job, None, SegmentImpossible(reason, env_steps=job.env_steps))

    def close(self) -> None:
        """Cancel what is in flight and stop every worker; a second call does nothing."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        atexit.unregister(self.close)
        self.cancel_all()
        with self._lock:
            self._stop(self._workers)
            self._wake()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=2)

    # The pool's thread: everything a worker says or does arrives here.

    def _serve(self) -> None:
        while True:
            with self._lock:
                if self._closed:
                    return
                workers = list(self._workers)
            sources: list = [self._wake_receiver, *(worker.connection for worker in workers)]
            ready = wait(sources)
            if self._wake_receiver in ready:
                self._wake_receiver.recv_bytes()
            for worker in workers:
                if worker.connection in ready:
                    self._listen(worker)

    def _listen(self, worker: _Worker) -> None:
        """Handle one message of a worker, or its death."""
        try:
            kind, content = worker.connection.recv()
        except (EOFError, OSError):
            self._bury(worker)
            return
        except Exception as error:
            reason = f"A worker's answer could not be read ({sentence(error)}); start this program again."
            kind, content = "failed", (SegmentImpossible(reason), "")
        if kind == "progress":
            self._hear(worker.job, content)
            return
        with self._lock:
            job, worker.job = worker.job, None
            if kind == "ready":
                worker.ready, self._failed_starts = True, 0
                self._replace_missing()  # those given up while this one was starting
            self._hand_out()
        if kind == "done" and job is not None:
            self._settle(job, content, None)
        elif kind == "failed" and job is not None:
            error, details = content
            if details:
                logger.debug("segment {} failed in its worker:\n{}", job.spec.id, details)
            job.done_env_steps = max(job.done_env_steps, error.env_steps)
            self._settle(job, None, failure_of(error, job.spec.id, job.env_steps))

    def _hear(self, job: _Job | None, progress: Progress) -> None:
        if job is None:
            return  # it was cancelled
        job.done_env_steps = progress.done_env_steps
        if self._on_progress is not None:
            try:
                self._on_progress(progress)
            except Exception as error:
                logger.error("the progress listener failed: {}", sentence(error))

    def _bury(self, worker: _Worker) -> None:
        """Replace a worker that died; its segment waits for a fresh one, or fails if that died as well."""
        with self._lock:
            if worker not in self._workers:
                return  # stopped by us
            self._workers.remove(worker)
            worker.process.join(timeout=1)
            cause = cause_of_death(worker.process.exitcode)
            worker.connection.close()
            if worker.ready:
                self._failed_starts = 0  # workers can be started, after all
            else:
                self._failed_starts, self._start_failure = self._failed_starts + 1, cause
            job, failed = worker.job, []
            if job is not None:
                job.deaths.append(cause)
                job.lost_env_steps, job.done_env_steps = job.env_steps, 0
                if len(job.deaths) < _ATTEMPTS:
                    self._queue.appendleft(job)
                else:
                    failed.append((job, _died(job)))
            if not self._closed:
                for left in self._replace_missing():
                    failed.append((left, SegmentImpossible(self._broken, env_steps=left.env_steps)))
            self._hand_out()
        logger.warning("a worker died ({})", cause)
        for job, error in failed:
            self._settle(job, None, error)

    # Helpers; those that touch workers or the queue are called with the lock held.

    def _hand_out(self) -> None:
        for worker in self._workers:
            while worker.ready and worker.job is None and (job := self._next_for(worker)) is not None:
                # A segment that is computed once more is running already.
                if not job.future.running() and not job.future.set_running_or_notify_cancel():
                    if self._in_flight.get(job.spec.id) is job.future:
                        del self._in_flight[job.spec.id]
                    continue
                worker.job, worker.fresh = job, False
                try:
                    worker.connection.send((job.spec, job.spec.id))
                except OSError:
                    break  # it died: its closed pipe is handled by the pool's thread

    def _next_for(self, worker: _Worker) -> _Job | None:
        """Take the first waiting job off the queue; one whose worker died waits for a fresh worker.

        Where no more workers can be started, any worker will do.
        """
        any_worker = worker.fresh or self._failed_starts >= _FAILED_STARTS
        job = next((job for job in self._queue if any_worker or not job.deaths), None)
        if job is not None:
            self._queue.remove(job)
        return job

    def _replace_missing(self) -> list[_Job]:
        """Start what is missing; where starts keep failing, go on with fewer, and give up when none is left.

        Returns the jobs that nobody is left to compute.
        """
        while len(self._workers) < self.worker_count and self._failed_starts < _FAILED_STARTS:
            try:
                self._workers.append(_Worker(*start_worker(self._store_root, self._runner, self._preload)))
            except OSError as error:
                self._failed_starts, self._start_failure = self._failed_starts + 1, sentence(error)
                logger.warning("a worker cannot be started ({})", self._start_failure)
        if self._workers:
            return []
        self._broken = (
            f"No worker can be started: {self._failed_starts} in a row failed ({self._start_failure}) before "
            "they were ready; read the errors above, put them right and resume."
        )
        abandoned = list(self._queue)
        self._queue.clear()
        return abandoned

    def _stop(self, workers: list[_Worker]) -> None:
        """Terminate workers and forget them; those that ignore it are killed."""
        workers = list(workers)
        for worker in workers:
            worker.process.terminate()
        deadline = time.monotonic() + _TERMINATE_SECONDS
        for worker in workers:
            worker.process.join(timeout=max(0.0, deadline - time.monotonic()))
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join(timeout=_TERMINATE_SECONDS)
            self._workers.remove(worker)

    def _settle(self, job: _Job, result: SegmentResult | None, error: Exception | None) -> None:
        with self._lock:
            if self._in_flight.get(job.spec.id) is job.future:
                del self._in_flight[job.spec.id]
        future = job.future
        if not future.running() and not future.set_running_or_notify_cancel():
            return  # its holder cancelled it while it waited
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    def _wake(self) -> None:
        self._wake_sender.send_bytes(b"1")


def _died(job: _Job) -> SegmentFailed:
    first, second = job.deaths
    return SegmentFailed(
        f"The worker died ({first}) while computing segment {job.spec.id}, "
        f"and so did a fresh one ({second}) that tried it again.",
        env_steps=job.env_steps,
    )
