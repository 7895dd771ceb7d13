"""Worker processes: spawned with one thread and with SIGINT blocked; they exit when their parent does."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


def available_cores() -> int:
    """The number of cores this process may use, which is the default number of workers."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def start_process(target: Callable[..., None], arguments: tuple[Any, ...], name: str) -> tuple[BaseProcess, Connection]:
    """Spawn a process that runs ``target(connection, *arguments)``; returns it and this side of its pipe, at once.

    It is a daemon: it may have no children of its own. ``target`` begins with `follow_parent`.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=target, args=(theirs, *arguments), name=name, daemon=True)
    resource_tracker.ensure_running()  # starting it later would unblock the interrupts
    with one_thread_environment(), interrupts_blocked():
        process.start()
    theirs.close()
    return process, ours


def follow_parent() -> None:
    """Called inside such a process: ignore SIGINT and SIGHUP, which the parent handles; exit when the parent does."""
    # A terminal sends both to every process that it started.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    threading.Thread(target=_leave_with_parent, name="leave-with-parent", daemon=True).start()


@contextmanager
def one_thread_environment() -> Iterator[None]:
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
def interrupts_blocked() -> Iterator[None]:
    """Processes started inside inherit a blocked SIGINT: no Ctrl-C reaches them before they can ignore it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _leave_with_parent() -> None:
    """End this process as soon as its parent has ended, whatever it is computing."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def cause_of_death(exitcode: int | None) -> str:
    """How a worker process ended, in words; None: it still runs, but its pipe is closed."""
    if exitcode is None:
        return "closed its pipe"
    if exitcode < 0:
        return f"signal {-exitcode}, {signal.Signals(-exitcode).name}"
    return f"exit code {exitcode}"
