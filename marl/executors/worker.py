"""A worker process of segments: how it is started, what runs inside it, and what it answers."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable
from importlib import import_module
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Literal

from learning_signal.marl.errors import SegmentFailed, SegmentImpossible, failure_of, sentence
from learning_signal.marl.processes import follow_parent, start_process
from learning_signal.marl.segments.segment import SegmentResult, SegmentSpec, SegmentStore, TrainingStatus

Answer = tuple[Literal["done"], SegmentResult] | tuple[Literal["failed"], tuple[SegmentFailed, str]]
"""The result, or what went wrong and its traceback."""
Runner = Callable[..., SegmentResult]
"""Called as ``runner(spec, store, progress=...)``."""

_PROGRESS_SECONDS = 0.1


def start_worker(store_root: Path, runner: str, preload: tuple[str, ...]) -> tuple[BaseProcess, Connection]:
    """Start a worker process; returns at once with the process and this side of its pipe.

    It imports ``preload`` and ``runner`` (``module:function``), sends ``("ready", None)``, and then answers every
    ``(spec, id)`` it receives with ``("progress", TrainingStatus)`` messages and one ``Answer``.
    """
    return start_process(_work, (str(store_root), runner, preload), name="segment-worker")


def _work(connection: Connection, store_root: str, runner: str, preload: tuple[str, ...]) -> None:
    """Receive specs, run them, send progress and results, until the pipe closes or the parent is gone."""
    follow_parent()
    store = SegmentStore(Path(store_root))
    loaded = load(runner, preload)

    def tell(progress: TrainingStatus) -> None:
        connection.send(("progress", progress))

    connection.send(("ready", None))
    while True:
        try:
            spec, expected_id = connection.recv()
        except (EOFError, OSError):
            return
        except Exception as error:
            reply = changed(f"a segment cannot be read: {sentence(error)}", traceback.format_exc())
        else:
            reply = loaded if isinstance(loaded, tuple) else answer(loaded, spec, expected_id, store, tell)
        try:
            connection.send(reply)
        except OSError:
            return


def load(runner: str, preload: tuple[str, ...]) -> Runner | Answer:
    """The function ``module:function``, or the answer to every segment where it cannot be loaded."""
    try:
        for name in preload:
            import_module(name)
        module, _, attribute = runner.partition(":")
        function: Runner = getattr(import_module(module), attribute)
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(1)
        return function
    except Exception as error:
        reason = f"The worker could not load {runner} ({sentence(error)}); repair that and resume."
        return "failed", (SegmentImpossible(reason), traceback.format_exc())


def answer(
    function: Runner, spec: SegmentSpec, expected_id: str, store: SegmentStore, tell: Callable[[TrainingStatus], None]
) -> Answer:
    """Run one segment; ``tell`` is called with its progress about ten times a second."""
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
