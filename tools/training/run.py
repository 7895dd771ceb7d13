"""Trains without agents: segment after segment in this process, each recorded as a session records its main run."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Protocol

from learning_signal.ledger.wording import shaping_text
from learning_signal.ledger.write.clock import now
from learning_signal.ledger.write.writer import Ledger
from learning_signal.marl.errors import SegmentFailed, SegmentImpossible, SegmentStopped, failure_of
from learning_signal.marl.executors.base import Executor, ExecutorError
from learning_signal.marl.executors.choice import open_executor, refuse_unreachable
from learning_signal.marl.segments.segment import SegmentResult, SegmentSpec, SegmentStore, TrainingStatus
from learning_signal.marl.segments.version import libraries
from learning_signal.marl.shaping import check
from learning_signal.marl.tasks import make_task
from learning_signal.tools import lifecycle
from learning_signal.tools.base import CannotGoOn
from learning_signal.tools.trainer import Trainer
from learning_signal.tools.training.settings import KIND, TrainingOutcome, TrainingSettings, outcome_of, unfinished


class Observer(Protocol):
    """Who watches a training run."""

    def event(self, row: dict[str, Any]) -> None:
        """A committed event of the ledger."""

    def progress(self, done: int, latest: dict[str, float | None]) -> None:
        """How many env steps of the run are done, and the latest rollout's sparse return and progress."""


class Control(Protocol):
    """How a user stops it."""

    pausing: bool

    def bind(self, on_abort: Callable[[], object]) -> None:
        """Set what an immediate stop calls."""


async def train(
    settings: TrainingSettings,
    *,
    observer: Observer,
    control: Control,
    on_segment: Callable[[SegmentResult], None] | None = None,
    session: str | None = None,
) -> TrainingOutcome:
    """Run ``settings`` to the end. ``session`` is the one to resume; None resumes one of the same run, if unfinished.

    ``on_segment`` is given every result in order, stored ones included. Raises ``TrainingError``, ``ShapingError``,
    ``LedgerError``, ``ExecutorError``, ``CannotLearn`` or the task's own error, one sentence each, before anything is
    written.
    """
    spec = make_task(settings.run.task, 1).spec
    settings.run.learner.refuse(spec)
    refuse_unreachable(settings.executor)
    if not settings.shaping.is_none:
        check(settings.shaping, spec)
    settings = settings.model_copy(update={"store": settings.store.resolve()})  # a resume may start elsewhere
    session = session or unfinished(settings)

    def told(label: str, rows: list[dict[str, Any]]) -> None:
        for row in rows:
            observer.event(row)

    with Ledger.open(settings.ledger, on_commit=told) as ledger:
        with ledger.transaction("session-start"):
            if session is None:
                session = lifecycle.begin(ledger, settings, KIND)
                words = "begins"
            else:
                lifecycle.resume(ledger, session, SegmentStore(settings.store))
                words = "goes on"
            text = shaping_text(settings.shaping.canonical())
            ledger.event(
                session, "session", f"training {session} on {settings.run.task} {words}: {text}; {libraries()}"
            )
        return await _Run(settings, ledger, session, observer, control, on_segment).to_the_end()


class InProcess:
    """A ``marl.executors.base.Executor`` of one segment at a time, in a thread of this process.

    This process may itself have worker processes for a task. The segments of a chain are submitted one by one.
    """

    worker_count = 1

    def __init__(self, store: SegmentStore, on_progress: Callable[[TrainingStatus], None]) -> None:
        self._store, self._on_progress = store, on_progress
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._closed = False

    def __enter__(self) -> InProcess:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def submit(self, spec: SegmentSpec, urgent: bool = True) -> Future[SegmentResult]:
        """Start a segment; the one before must have ended."""
        if self._closed:
            raise RuntimeError("The executor in this process is closed and takes no segment; open a new one.")
        future: Future[SegmentResult] = Future()
        future.set_running_or_notify_cancel()  # it is stopped, not cancelled: only the thread says how it ended
        self._thread = threading.Thread(target=self._compute, args=(spec, future), name="training", daemon=True)
        self._thread.start()
        return future

    def withdraw(self, segment: str) -> bool:
        """False: every segment has started."""
        return False

    def cancel_all(self) -> None:
        """Stop the running segment after its update, and wait for that. More can be asked for."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self._stop.clear()

    def close(self) -> None:
        """Stop after the running update, and wait for that; a second call is a no-op."""
        self._closed = True
        self.cancel_all()

    def _compute(self, spec: SegmentSpec, future: Future[SegmentResult]) -> None:
        from learning_signal.marl.segments.training import run_segment

        trained = 0

        def report(progress: TrainingStatus) -> None:
            nonlocal trained
            trained = progress.done_env_steps
            self._on_progress(progress)

        try:
            future.set_result(run_segment(spec, self._store, progress=report, stop=self._stop.is_set))
        except SegmentStopped as stopped:
            future.set_exception(SegmentImpossible(str(stopped), env_steps=trained))
        except Exception as error:  # noqa: BLE001 - as in a worker process: whatever ends a segment is its failure
            future.set_exception(failure_of(error, spec.id, trained))


class _Run:
    """One training run in this process."""

    def __init__(
        self,
        settings: TrainingSettings,
        ledger: Ledger,
        session: str,
        observer: Observer,
        control: Control,
        on_segment: Callable[[SegmentResult], None] | None,
    ) -> None:
        self.settings, self.ledger, self.session = settings, ledger, session
        self.observer, self.control, self.on_segment = observer, control, on_segment
        self.done = 0
        """Env steps of the chain before the segment in flight."""

    async def to_the_end(self) -> TrainingOutcome:
        """Run until the end, a pause, an abort or a recoverable error."""
        loop = asyncio.get_running_loop()
        store = SegmentStore(self.settings.store)
        try:
            pool = await self._opened(store, lambda progress: _tell(loop, self._progressed, progress))
        except ExecutorError as error:
            lifecycle.end(self.ledger, self.session, "training", "failed", str(error))
            raise
        trainer = Trainer(pool, store, self.ledger, self.session, self.settings.run)
        work = asyncio.ensure_future(self._chain(trainer))
        self.control.bind(lambda: work.cancel())
        status = "failed"
        reason: str | None = "The program failed; this is a bug: see the traceback."
        try:
            finished = await lifecycle.while_alive(self.ledger, self.session, work)
            status, reason = ("done", None) if finished else ("paused", "Paused on request.")
        except asyncio.CancelledError:
            status, reason = "interrupted", "Stopped in the middle of a segment."
        except CannotGoOn as error:
            status, reason = "paused", str(error)
        except SegmentFailed as error:
            status, reason = "failed", str(error)
        except BaseException:
            with lifecycle.last_words():
                self._end(trainer, pool, status, reason)
            raise
        self._end(trainer, pool, status, reason)
        return outcome_of(self.settings, self.session)

    def _end(self, trainer: Trainer, pool: InProcess | Executor, status: str, reason: str | None) -> None:
        trainer.stop()
        pool.close()
        trainer.count_cut_off()
        lifecycle.end(self.ledger, self.session, "training", status, reason)

    async def _opened(self, store: SegmentStore, on_progress: Callable[[TrainingStatus], None]) -> InProcess | Executor:
        settings = self.settings
        if settings.executor.kind == "local":
            return InProcess(store, on_progress)
        # In a thread: a cluster may take a minute to answer, and Ctrl-C must work meanwhile.
        return await asyncio.to_thread(
            open_executor, store.root, 1, on_progress, settings.executor, (settings.run.task,)
        )

    async def _chain(self, trainer: Trainer) -> bool:
        """Segment by segment until the run is done (True) or a pause was asked for (False)."""
        for spec in self.settings.chain():
            if self.control.pausing:
                return False
            trainer.launch(spec, "main", "main")
            result = await trainer.result(spec.id)
            self._reached(result)
            self.done += spec.env_steps
            if self.on_segment is not None:
                self.on_segment(result)
        return True

    def _reached(self, result: SegmentResult) -> None:
        """HEAD moves to the end of a segment, once."""
        with self.ledger.transaction("stage"):
            if self.ledger.has("main_run", session_id=self.session, segment_id=result.id):
                return
            self.ledger.add(
                "main_run", session_id=self.session, segment_id=result.id, round=None, reason="stage", at=now()
            )
            last = result.evaluations_of("confirm")[-1]
            progress = "" if last.mean_progress is None else f", progress {last.mean_progress:.4g}"
            self.ledger.event(
                self.session,
                "stage",
                f"{result.end_env_steps:,} env steps, sparse return {last.sparse_return:.4g}{progress}",
                ref=("segments", result.id),
            )

    def _progressed(self, progress: TrainingStatus) -> None:
        latest = {"sparse_return": progress.sparse_return, "progress": progress.progress}
        self.observer.progress(self.done + progress.done_env_steps, latest)


def _tell(loop: asyncio.AbstractEventLoop, function: Callable[[Any], None], value: Any) -> None:
    """Call ``function`` in the loop's thread; nobody listens where the loop has ended."""
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(function, value)
