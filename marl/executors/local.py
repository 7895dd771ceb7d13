"""A pool of long-lived worker processes that run segments, one torch thread each.

The pool's own process imports no torch: it starts the workers, hands them specs and receives results. A
worker that dies is replaced and its segment computed once more, on a fresh worker; if that one dies too, the
segment has failed, but never the session. Workers know the segment store and nothing else; they ignore SIGINT, which
the parent handles, and exit when the parent does.
"""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from loguru import logger

from learning_signal.marl.errors import SegmentFailed, SegmentImpossible, failure_of, sentence
from learning_signal.marl.executors.jobs import ATTEMPTS, Job, Jobs
from learning_signal.marl.executors.worker import start_worker
from learning_signal.marl.processes import available_cores, cause_of_death
from learning_signal.marl.segments.segment import SegmentResult, SegmentSpec, TrainingStatus

RUNNER = "learning_signal.marl.segments.training:run_segment"
PRELOAD = ("torch",)

_TERMINATE_SECONDS = 0.5
_FAILED_STARTS = 3


@dataclass(eq=False)
class _Worker:
    """One worker process as its parent sees it."""

    process: BaseProcess
    connection: Connection
    ready: bool = False
    fresh: bool = True
    """Whether it has had no segment yet."""
    job: Job | None = None


class WorkerPool:
    """Runs segments in ``workers`` processes (one per core when ``None``): a ``marl.executors.base.Executor``.

    A segment is handed to a worker when that is free, the urgent ones first, then first come, first served.
    ``on_progress`` is called in the pool's thread, at most about ten times a second per worker. ``runner``
    names the function ``module:function`` that a worker calls as ``runner(spec, store, progress=...)``;
    ``preload`` names modules imported as soon as a worker starts. Like all of multiprocessing's spawned
    processes, workers import the main module, so a script needs its ``if __name__ == "__main__"`` guard.
    """

    def __init__(
        self,
        store_root: Path,
        workers: int | None = None,
        on_progress: Callable[[TrainingStatus], None] | None = None,
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
        self._jobs = Jobs(self._store_root)
        self._lock = self._jobs.lock
        self._workers: list[_Worker] = []
        self._failed_starts, self._start_failure = 0, ""
        self._broken: str | None = None
        self._closed = False
        self._wake_receiver, self._wake_sender = Pipe(duplex=False)
        with self._lock:
            self._replace_missing()
        self._thread = threading.Thread(target=self._serve, name="worker-pool", daemon=True)
        self._thread.start()
        atexit.register(self.close)  # the exit handler of multiprocessing would wait for replacements

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def submit(self, spec: SegmentSpec, urgent: bool = True) -> Future[SegmentResult]:
        """Queue a segment, as `Executor.submit` says."""
        with self._lock:
            if self._closed:
                raise RuntimeError("The worker pool is closed and takes no segment; open a new one.")
            job, new = self._jobs.enter(spec, urgent)
            if new and self._broken is not None:
                self._jobs.clear()
                self._jobs.settle(job, None, SegmentImpossible(self._broken))
            elif new:
                self._hand_out()
            return job.future

    def withdraw(self, segment: str) -> bool:
        """Drop a segment that has not started, as `Executor.withdraw` says."""
        return self._jobs.withdraw(segment)

    def cancel_all(self) -> None:
        """Fail every segment in flight with ``SegmentImpossible`` and stop its worker, within two seconds.

        The pool stays usable: new workers are started. A killed worker leaves no half-written segment behind,
        since the store writes atomically.
        """
        with self._lock:
            jobs = self._jobs.clear()
            busy = [worker for worker in self._workers if worker.job is not None]
            jobs += [worker.job for worker in self._workers if worker.job is not None]
            for worker in busy:
                worker.job = None
            if busy:
                self._failed_starts = 0  # these had started, so new ones can
            self._stop(busy)
            if not self._closed:
                self._replace_missing()
            self._wake()
        for job in jobs:
            self._jobs.settle(job, None, job.cancelled())

    def close(self) -> None:
        """Cancel what is in flight and stop every worker; a second call is a no-op."""
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
            self._jobs.settle(job, content, None)
        elif kind == "failed" and job is not None:
            failure, details = content
            if details:
                logger.debug("segment {} failed in its worker:\n{}", job.spec.id, details)
            job.done_env_steps = max(job.done_env_steps, failure.env_steps)
            self._jobs.settle(job, None, failure_of(failure, job.spec.id, job.env_steps))

    def _hear(self, job: Job | None, progress: TrainingStatus) -> None:
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
            job = worker.job
            failed: list[tuple[Job, SegmentFailed]] = []
            if job is not None:
                job.deaths.append(cause)
                job.lose()
                if len(job.deaths) < ATTEMPTS:
                    self._jobs.put_back(job)
                else:
                    failed.append((job, job.died()))
            if not self._closed:
                failed += self._replace_missing()
            self._hand_out()
        logger.warning("a worker died ({})", cause)
        for job, error in failed:
            self._jobs.settle(job, None, error)

    # Helpers; those that touch workers or the queue are called with the lock held.

    def _hand_out(self) -> None:
        for worker in self._workers:
            if worker.ready and worker.job is None and (job := self._next_for(worker)) is not None:
                worker.job, worker.fresh = job, False
                try:
                    worker.connection.send((job.spec, job.spec.id))
                except OSError:
                    pass  # it died: its closed pipe is handled by the pool's thread

    def _next_for(self, worker: _Worker) -> Job | None:
        """The next job; one whose worker died waits for a fresh worker.

        Where no more workers can be started, any worker will do.
        """
        any_worker = worker.fresh or self._failed_starts >= _FAILED_STARTS
        return self._jobs.take(lambda job: any_worker or not job.deaths)

    def _replace_missing(self) -> list[tuple[Job, SegmentImpossible]]:
        """Start what is missing; where starts keep failing, go on with fewer, and give up when none is left.

        Returns the jobs that no worker is left to compute, each with its failure.
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
        return [(job, SegmentImpossible(self._broken, env_steps=job.env_steps)) for job in self._jobs.clear()]

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

    def _wake(self) -> None:
        self._wake_sender.send_bytes(b"1")
