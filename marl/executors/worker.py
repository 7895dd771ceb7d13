"""A worker process: how it is started (one thread, deaf to Ctrl-C), what runs inside it and how it ended."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from learning_signal.marl.segments.segment import (
    SegmentFailed,
    SegmentImpossible,
    SegmentSpec,
    SegmentStore,
    TrainingStatus,
    failure_of,
)

Answer = tuple[str, object]
"""``("done", SegmentResult)`` or ``("failed", (SegmentFailed, traceback))``."""

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
_PROGRESS_SECONDS = 0.1


def available_cores() -> int:
    """The number of cores this process may use: one worker on each is as many as pay."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def start_worker(store_root: Path, runner: str, preload: tuple[str, ...]) -> tuple[BaseProcess, Connection]:
    """Start a worker process; returns at once with the process and this side of its pipe.

    It imports ``preload`` and ``runner`` (``module:function``), says ``("ready", None)``, and then answers
    every ``(spec, id)`` it receives with ``("progress", TrainingStatus)`` messages and one ``Answer``.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(
        target=_work, args=(theirs, str(store_root), runner, preload), name="segment-worker", daemon=True
    )
    resource_tracker.ensure_running()  # starting it later would unblock the interrupts
    with _one_thread_environment(), _interrupts_blocked():
        process.start()
    theirs.close()
    return process, ours


def sentence(error: BaseException) -> str:
    """An exception as one line: its own words, or its type where it has none."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


@contextmanager
def _one_thread_environment() -> Iterator[None]:
    """Processes started inside inherit an environment that gives numerical libraries one thread."""
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Processes started inside inherit a blocked SIGINT: no Ctrl-C reaches them before they can ignore it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(connection: Connection, store_root: str, runner: str, preload: tuple[str, ...]) -> None:
    """Receive specs, run them, send progress and results, until the pipe closes or the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with_parent, name="leave-with-parent", daemon=True).start()
    store = SegmentStore(Path(store_root))
    function, broken = load(runner, preload)

    def tell(progress: TrainingStatus) -> None:
        connection.send(("progress", progress))

    connection.send(("ready", None))
    while True:
        try:
            spec, expected_id = connection.recv()
        except (EOFError, OSError):
            return
        except Exception as error:
            found = changed(f"a segment cannot be read: {sentence(error)}", traceback.format_exc())
        else:
            found = broken or answer(function, spec, expected_id, store, tell)
        try:
            connection.send(found)
        except OSError:
            return


def load(runner: str, preload: tuple[str, ...]) -> tuple[Callable | None, Answer | None]:
    """The function ``module:function``, or the answer to every segment where it cannot be loaded."""
    try:
        for name in preload:
            import_module(name)
        module, _, attribute = runner.partition(":")
        function = getattr(import_module(module), attribute)
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(1)
        return function, None
    except Exception as error:
        reason = f"The worker could not load {runner} ({sentence(error)}); repair that and resume."
        return None, ("failed", (SegmentImpossible(reason), traceback.format_exc()))


def answer(
    function: Callable, spec: SegmentSpec, expected_id: str, store: SegmentStore, tell: Callable[[TrainingStatus], None]
) -> Answer:
    """Run one segment; ``tell`` hears of its progress about ten times a second."""
    last, trained = -_PROGRESS_SECONDS, 0

    def report(progress: TrainingStatus) -> None:
        nonlocal last, trained
        now, trained = time.monotonic(), progress.done_env_steps
        if now - last >= _PROGRESS_SECONDS:
            last = now
            tell(progress)

    try:
        if spec.id != expected_id:
            return changed(f"segment {expected_id} is {spec.id} here")
        return "done", function(spec, store, progress=report)
    except Exception as error:
        details = "" if type(error) is SegmentFailed else traceback.format_exc()
        return "failed", (failure_of(error, expected_id, trained), details)


def changed(what: str, details: str = "") -> Answer:
    """The answer of a worker whose code is not its parent's."""
    reason = f"The sources of this program changed while it ran ({what}); start it again."
    return "failed", (SegmentImpossible(reason), details)


def _leave_with_parent() -> None:
    """End this process as soon as its parent has ended, whatever it is computing."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def cause_of_death(exitcode: int | None) -> str:
    """How a worker process ended, in words; None is one that still runs and speaks no more."""
    if exitcode is None:
        return "closed its pipe"
    if exitcode < 0:
        return f"signal {-exitcode}, {signal.Signals(-exitcode).name}"
    return f"exit code {exitcode}"
