"""What the worker processes of the pool tests run: the task's name says what to do."""

from __future__ import annotations

import errno
import os
import signal
import sys
import time

from learning_signal.marl.errors import SegmentFailed, SegmentImpossible
from learning_signal.marl.segments.segment import TrainingStatus

if os.environ.get("POOL_TEST_STARTS_FAIL") == "1":
    os._exit(7)

_calls = 0


class OwnFailure(SegmentImpossible):
    """A class that the pool's process does not know."""

    def __reduce__(self):
        return _explode, ()


class Unreadable:
    """A result that pickles and cannot be unpickled."""

    def __reduce__(self):
        return _explode, ()


def _explode():
    raise TypeError("no such class")


def act(spec, store, progress=None):
    """Do what the task's name says; the answer tells who did what and when."""
    global _calls
    _calls += 1
    name, began = spec.run.task, time.monotonic()
    if name == "sleep":
        progress(TrainingStatus(spec.id, 1, spec.env_steps, None, None))
        time.sleep(spec.env_steps / 1000)
    elif name == "busy":
        progress(TrainingStatus(spec.id, 1, spec.env_steps, None, None))
        while True:
            pass
    elif name == "counted":
        with (store.root / f"{spec.id} starts").open("a") as starts:
            starts.write("started\n")
        time.sleep(spec.env_steps / 1000)
    elif name == "killed":
        progress(TrainingStatus(spec.id, 40, spec.env_steps, None, None))
        os.kill(os.getpid(), signal.SIGKILL)
    elif name == "killed once":
        first = store.root / f"{spec.id} died"
        if not first.exists():
            first.touch()
            os.kill(os.getpid(), signal.SIGKILL)
    elif name == "killed, then diverged":
        first = store.root / f"{spec.id} died"
        progress(TrainingStatus(spec.id, 40, spec.env_steps, None, None))
        if not first.exists():
            first.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        raise SegmentFailed("Training diverged.", env_steps=70)
    elif name == "busy once":
        first = store.root / f"{spec.id} began"
        if not first.exists():
            first.touch()
            progress(TrainingStatus(spec.id, 1, spec.env_steps, None, None))
            time.sleep(60)
    elif name == "exit":
        os._exit(3)
    elif name == "diverged":
        raise SegmentFailed("Training diverged: the value loss became NaN at env step 3200.", env_steps=3200)
    elif name == "error":
        progress(TrainingStatus(spec.id, 30, spec.env_steps, None, None))
        progress(TrainingStatus(spec.id, 60, spec.env_steps, None, None))  # too soon to be sent
        raise ValueError("first line\nsecond line")
    elif name == "full disk":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    elif name == "forbidden":
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "checkpoint.pt")
    elif name == "memory":
        raise MemoryError
    elif name == "import":
        raise ModuleNotFoundError("No module named 'nothing'")
    elif name == "impossible":
        raise OwnFailure("The parent segment is not there.", env_steps=5)
    elif name == "unreadable":
        return Unreadable()
    elif name == "chatty":
        for done in range(1, spec.env_steps + 1):
            progress(TrainingStatus(spec.id, done, spec.env_steps, None, done / spec.env_steps))
            time.sleep(0.001)
    torch = sys.modules.get("torch")
    return {
        "id": spec.id,
        "seed": spec.seed,
        "process": os.getpid(),
        "calls": _calls,
        "began": began,
        "store": str(store.root),
        "omp": os.environ.get("OMP_NUM_THREADS"),
        "torch_threads": torch.get_num_threads() if torch else None,
    }


def unstored(spec, store, progress=None):
    """A runner that must never be called."""
    raise AssertionError("a stored segment was computed again")
