"""The work of a Ray worker on a segment: the same as a local worker process, by the same function."""

from __future__ import annotations

import pickle
import tempfile
import traceback
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from learning_signal.marl.errors import failure_of, sentence
from learning_signal.marl.executors.worker import Answer, answer, changed, load
from learning_signal.marl.segments.segment import SegmentStore, TrainingStatus

Files = dict[str, np.ndarray]
"""The bytes of a segment's files by their names."""

_load = cache(load)


class Inbox:
    """An actor that keeps the latest progress of every attempt until it is asked for it."""

    def __init__(self) -> None:
        self._latest: dict[int, TrainingStatus] = {}

    def put(self, attempt: int, progress: TrainingStatus) -> None:
        """Store the status of an attempt; it replaces an earlier one that was not taken."""
        self._latest[attempt] = progress

    def take(self) -> dict[int, TrainingStatus]:
        """The new statuses since the last call, by attempt."""
        latest, self._latest = self._latest, {}
        return latest


def compute(
    pickled: bytes,
    expected_id: str,
    attempt: int,
    runner: str,
    preload: tuple[str, ...],
    store_root: str | None,
    checkpoint: np.ndarray | None,
    inbox: Any,
) -> tuple[Answer, Files]:
    """The answer to a segment. Where the machines share no store, ``store_root`` is None and the files come along.

    ``pickled`` is the spec; ``checkpoint`` are the bytes of the parent's checkpoint, None where it has no parent or
    lies in the shared store.
    """
    loaded = _load(runner, preload)
    if isinstance(loaded, tuple):
        return loaded, {}
    try:
        spec = pickle.loads(pickled)
    except Exception as error:
        return changed(f"a segment cannot be read: {sentence(error)}", traceback.format_exc()), {}

    def tell(progress: TrainingStatus) -> None:
        inbox.put.remote(attempt, progress)

    if store_root is not None:
        return answer(loaded, spec, expected_id, SegmentStore(Path(store_root)), tell), {}
    try:
        with tempfile.TemporaryDirectory(prefix="segments-") as folder:
            store = SegmentStore(Path(folder))
            if checkpoint is not None:
                store.path(spec.parent).mkdir()
                store.checkpoint_path(spec.parent).write_bytes(checkpoint.data)
            reply = answer(loaded, spec, expected_id, store, tell)
            return reply, files_of(store, expected_id)
    except (OSError, MemoryError) as error:
        return ("failed", (failure_of(error, expected_id), traceback.format_exc())), {}


def files_of(store: SegmentStore, segment: str) -> Files:
    """The files of a stored segment; none where it is not stored."""
    if not store.has(segment):
        return {}
    return {path.name: np.fromfile(path, np.uint8) for path in store.path(segment).iterdir()}
