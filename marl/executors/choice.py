"""The choice of an executor by its settings: each is imported only when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from learning_signal.marl.executors.base import Executor, ExecutorSettings
from learning_signal.marl.segments.segment import TrainingStatus

LOCAL = ExecutorSettings()


def refuse_unreachable(settings: ExecutorSettings) -> None:
    """``ExecutorError`` where the executor of ``settings`` cannot be opened; a check of a few seconds at most."""
    if settings.kind == "ray":
        from learning_signal.marl.executors import ray_cluster

        ray_cluster.refuse_unreachable(settings.address)


def open_executor(
    store_root: Path,
    workers: int | None = None,
    on_progress: Callable[[TrainingStatus], None] | None = None,
    settings: ExecutorSettings = LOCAL,
    tasks: Iterable[str] = (),
) -> Executor:
    """The executor that ``settings`` ask for, to be closed after use; ``ExecutorError`` where there is none.

    ``workers`` None is one per core (of this machine, or of the cluster). ``on_progress`` is called in a thread of the
    executor, at most about ten times a second per segment. ``tasks`` are the names of those to be trained: code of a
    user's own (``MODULE:FACTORY``) is sent to the machines of a cluster.
    """
    if settings.kind == "local":
        from learning_signal.marl.executors.local import WorkerPool

        return WorkerPool(store_root, workers, on_progress)
    from learning_signal.marl.executors.ray import RayExecutor

    return RayExecutor(
        store_root, workers, on_progress, address=settings.address, share=settings.share, tasks=tuple(tasks)
    )
