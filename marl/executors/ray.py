"""An executor that runs segments as tasks of a Ray cluster, on this machine or on many.

Ray gets at most one segment per worker. The rest of the queue stays here, where it can be withdrawn or preempted by
urgent segments. A worker that dies costs its segment one of two attempts, as in the local pool. A lost machine costs no
attempt: the segments it held are retried elsewhere. Full memory or a full disk counts as a lost machine, because the
resources of a segment do not depend on its shaping.
"""

from __future__ import annotations

import itertools
import pickle
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from loguru import logger

from learning_signal.marl.errors import SegmentImpossible, failure_of, sentence
from learning_signal.marl.executors.jobs import Job, Jobs
from learning_signal.marl.executors.local import PRELOAD, RUNNER
from learning_signal.marl.executors.ray_cluster import connect, living_nodes
from learning_signal.marl.executors.ray_failures import meaning
from learning_signal.marl.executors.ray_worker import Files, Inbox, compute
from learning_signal.marl.executors.worker import Answer
from learning_signal.marl.paths import inside
from learning_signal.marl.segments.segment import SegmentResult, SegmentSpec, SegmentStore, TrainingStatus

_POLL_SECONDS = 0.1
_FETCH_SECONDS = 120.0
_HEAR_SECONDS = 30.0
"""Timeout of a request for progress; results are handled after it."""
_NO_MACHINE_SECONDS = 120.0
"""How long a cluster may be without any core before its queue fails."""


@dataclass(frozen=True, eq=False)
class _Task:
    """A job handed to Ray."""

    job: Job
    attempt: int
    nodes: frozenset[str]
    """Machines that were alive when it was handed over."""


class RayExecutor:
    """Runs segments on a Ray cluster: a ``marl.executors.base.Executor``. A process can have one at a time.

    ``address`` is that of a running cluster (``HOST:PORT`` or ``auto``); None starts one on this machine, which ends
    with this executor. ``workers`` is how many segments are computed at a time, None one per core of the cluster as it
    is now. ``share`` says how checkpoints travel: ``objects``, by Ray's object store, with nothing shared between the
    machines; ``folder``, by ``store_root``, which every machine must see under this path. ``learning_signal.marl`` and
    the modules of ``tasks`` (``MODULE:FACTORY``) are sent to a running cluster; all they import has to be installed
    there.
    ``on_progress``, ``runner`` and ``preload`` are as in ``marl.executors.local.WorkerPool``. Every segment is
    trained by itself: one that is lost with its machine costs no others.

    Raises ``ExecutorError`` where Ray is not installed or the cluster cannot be reached.
    """

    def __init__(
        self,
        store_root: Path,
        workers: int | None = None,
        on_progress: Callable[[TrainingStatus], None] | None = None,
        *,
        address: str | None = None,
        share: str = "objects",
        tasks: tuple[str, ...] = (),
        runner: str = RUNNER,
        preload: tuple[str, ...] = PRELOAD,
    ) -> None:
        if workers is not None and workers < 1:
            raise ValueError(f"An executor cannot have {workers} workers; use at least 1.")
        self._store = SegmentStore(Path(store_root).resolve())
        self._shared = str(self._store.root) if share == "folder" else None
        self._on_progress, self._runner, self._preload = on_progress, runner, preload
        self._cluster = connect(address, workers, tasks)
        self._ray, self.worker_count = self._cluster.ray, self._cluster.workers
        self._gpus = self._ray.cluster_resources().get("GPU", 0)
        self._compute = self._ray.remote(num_cpus=1, max_retries=0)(compute)
        self._inbox = self._open_inbox()
        self._jobs = Jobs(self._store.root)
        self._lock = self._jobs.lock
        self._changed = threading.Condition(self._lock)
        self._tasks: dict[Any, _Task] = {}
        """The jobs handed to Ray, by the reference of their result."""
        self._parents: dict[str, Any] = {}
        """References of checkpoints in the object store: each is put there once, and leaves with its last child."""
        self._ended: Any = None
        """The reference of the task that is being settled, which has ended in Ray."""
        self._attempts = itertools.count()
        self._heard = self._powered = time.monotonic()
        self._broken: str | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="ray-executor", daemon=True)
        self._thread.start()

    def __enter__(self) -> RayExecutor:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def submit(self, spec: SegmentSpec, urgent: bool = True) -> Future[SegmentResult]:
        """Ask for a segment, as `Executor.submit` says."""
        with self._lock:
            if self._closed:
                raise RuntimeError("The Ray executor is closed and takes no segment; open a new one.")
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
        """Fail every segment in flight with ``SegmentImpossible`` and kill its worker. More can be asked for."""
        for job in self._drop_all():
            self._jobs.settle(job, None, job.cancelled())

    def close(self) -> None:
        """Cancel what is in flight and leave the cluster, which ends if it was started here; again, a no-op."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._changed.notify_all()
        self.cancel_all()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=5)
        self._cluster.leave()

    # The executor's thread: it handles the end of every task.

    def _serve(self) -> None:
        while True:
            with self._lock:
                while not self._tasks and not self._closed:
                    self._changed.wait()
                    self._powered = time.monotonic()
                if self._closed:
                    return
                references = list(self._tasks)
            try:
                done, _ = self._ray.wait(references, timeout=_POLL_SECONDS, fetch_local=False)
                self._listen()
                for reference in done:
                    self._finish(reference)
                self._check_machines()
            except Exception as error:
                if not self._closed:
                    self._give_up(f"The Ray cluster failed ({sentence(error)}); start it again and resume.")

    def _listen(self) -> None:
        """Pass the progress of the workers on, about ten times a second."""
        if time.monotonic() - self._heard < _POLL_SECONDS:
            return
        self._heard = time.monotonic()
        try:
            latest = self._ray.get(self._inbox.take.remote(), timeout=_HEAR_SECONDS)
        except (self._ray.exceptions.RayActorError, self._ray.exceptions.GetTimeoutError):
            logger.warning("the progress of segments could not be read: a new inbox is opened")
            self._inbox = self._open_inbox()
            return
        with self._lock:
            told = [(task.job, latest[task.attempt]) for task in self._tasks.values() if task.attempt in latest]
        for job, progress in told:
            job.done_env_steps = progress.done_env_steps
            if self._on_progress is not None:
                try:
                    self._on_progress(progress)
                except Exception as error:
                    logger.error("the progress listener failed: {}", sentence(error))

    def _finish(self, reference: Any) -> None:
        """Settle the job of a task that has ended, or retry it."""
        with self._lock:
            task = self._tasks.get(reference)
            if task is None:
                return  # it was cancelled
            self._ended = reference
            self._hand_out()  # its worker is free already
        result = None
        try:
            found, files = self._ray.get(reference, timeout=_FETCH_SECONDS)
        except Exception as failure:
            error = meaning(self._ray, task.job, task.nodes, failure)
            again = error is None
        else:
            result, error = self._take_in(task.job, found, files)
            again = False
        with self._lock:
            self._ended = None
            if self._tasks.pop(reference, None) is None:
                return  # it was cancelled meanwhile
            if again:
                self._jobs.put_back(task.job)
                self._hand_out()
                return
            self._jobs.settle(task.job, result, error)
            self._let_go()

    def _take_in(self, job: Job, found: Answer, files: Files) -> tuple[SegmentResult | None, Exception | None]:
        """The result, its files stored, or what went wrong with the segment."""
        if found[0] == "failed":
            failure, details = found[1]
            if details:
                logger.debug("segment {} failed in its worker:\n{}", job.spec.id, details)
            job.done_env_steps = max(job.done_env_steps, failure.env_steps)
            return None, failure_of(failure, job.spec.id, job.env_steps)
        result = found[1]
        try:
            if files:
                with self._store.writing(job.spec.id) as folder:
                    for name, content in files.items():
                        inside(folder, name).write_bytes(content.data)
        except OSError as error:
            return None, failure_of(error, job.spec.id, job.env_steps)
        if self._shared and isinstance(result, SegmentResult) and not self._appears(job.spec.id):
            return None, SegmentImpossible(
                f"A worker stored segment {job.spec.id}, but it is not in {self._shared} here: mount the same folder "
                "on every machine, or share objects instead.",
                env_steps=job.env_steps,
            )
        return result, None

    def _appears(self, segment: str) -> bool:
        """Whether a segment is in the shared store; a network's file system may take a while to show it."""
        deadline = time.monotonic() + 10
        while not self._store.has(segment):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.2)
        return True

    def _check_machines(self) -> None:
        """Fail the queue of a cluster that has been without machines for too long."""
        if time.monotonic() - self._powered < min(5.0, _NO_MACHINE_SECONDS / 2):
            return
        if self._ray.cluster_resources().get("CPU", 0) >= 1:
            self._powered = time.monotonic()
        elif time.monotonic() - self._powered > _NO_MACHINE_SECONDS:
            self._powered = time.monotonic()
            self._give_up("The Ray cluster has no machine left; start some and resume.", for_good=False)

    # Helpers.

    def _hand_out(self) -> None:
        """Give Ray as many jobs as there are workers; called with the lock held."""
        while not self._closed and len(self._tasks.keys() - {self._ended}) < self.worker_count:
            job = self._jobs.take()
            if job is None:
                break
            try:
                attempt = next(self._attempts)
                reference = self._start(job, attempt)
            except Exception as error:
                self._jobs.settle(job, None, failure_of(error, job.spec.id, job.env_steps))
                self._let_go()
                continue
            self._tasks[reference] = _Task(job, attempt, living_nodes(self._ray))
        self._changed.notify_all()

    def _start(self, job: Job, attempt: int) -> Any:
        """Hand a job to Ray; returns the reference of its result."""
        spec, checkpoint = job.spec, None
        if spec.parent is not None and self._shared is None:
            if not self._store.has(spec.parent):
                raise SegmentImpossible(f"The parent segment {spec.parent} is not in {self._store.root}; run it first.")
            if spec.parent not in self._parents:
                content = np.fromfile(self._store.checkpoint_path(spec.parent), np.uint8)
                self._parents[spec.parent] = self._ray.put(content)
            checkpoint = self._parents[spec.parent]
        remote = self._compute
        if spec.run.learner.device == "cuda" and self._gpus:
            share = min(1.0, self._gpus / self.worker_count)
            remote = remote.options(num_gpus=int(share * 1000) / 1000)
        return remote.remote(
            pickle.dumps(spec), spec.id, attempt, self._runner, self._preload, self._shared, checkpoint, self._inbox
        )

    def _let_go(self) -> None:
        """Release the checkpoints that no segment in flight starts from."""
        needed = self._jobs.parents()
        self._parents = {parent: each for parent, each in self._parents.items() if parent in needed}

    def _drop_all(self) -> list[Job]:
        """Every job in flight, after removing them from the queue and cancelling them in Ray."""
        with self._lock:
            jobs = self._jobs.clear() + [task.job for task in self._tasks.values()]
            references = list(self._tasks)
            self._tasks.clear()
            self._parents.clear()
        for reference in references:
            try:
                self._ray.cancel(reference, force=True)
            except Exception as error:
                logger.debug("a task could not be cancelled: {}", sentence(error))
        return jobs

    def _give_up(self, reason: str, for_good: bool = True) -> None:
        """Fail all that is in flight, and with ``for_good`` all that is submitted later: the cluster is at fault."""
        logger.warning(reason)
        with self._lock:
            if for_good:
                self._broken = reason
        for job in self._drop_all():
            self._jobs.settle(job, None, SegmentImpossible(reason, env_steps=job.env_steps))

    def _open_inbox(self) -> Any:
        """An actor on this machine, so that it lives as long as we do."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(self._ray.get_runtime_context().get_node_id(), soft=False)
        return self._ray.remote(num_cpus=0, scheduling_strategy=here)(Inbox).remote()
