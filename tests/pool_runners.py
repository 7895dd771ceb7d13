"""What the worker processes of the pool tests run: the task's name says what to do."""

from __future__ import annotations

import os
import signal
import sys
import time

from marl.segment import Progress, SegmentFailed


class Unreadable:
    """A result that pickles and cannot be unpickled."""

    def __reduce__(self):
        return _explode, ()


def _explode():
    raise TypeError("no such class")


def act(spec, store, progress=None):
    """Do what the task's name says; the answer tells who did what and when."""
    name, began = spec.run.task, time.monotonic()
    if name == "sleep":
        progress(Progress(spec.id, 1, spec.env_steps, None, None))
        time.sleep(spec.env_steps / 1000)
    elif name == "busy":
        progress(Progress(spec.id, 1, spec.env_steps, None, None))
        while True:
            pass
    elif name == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    elif name == "exit":
        os._exit(3)
    elif name == "diverged":
        raise SegmentFailed("Training diverged: the value loss became NaN at env step 3200.")
    elif name == "error":
        raise ValueError("first line\nsecond line")
    elif name == "unreadable":
        return Unreadable()
    elif name == "chatty":
        for done in range(1, spec.env_steps + 1):
            progress(Progress(spec.id, done, spec.env_steps, None, done / spec.env_steps))
            time.sleep(0.001)
    torch = sys.modules.get("torch")
    return {
        "id": spec.id,
        "seed": spec.seed,
        "process": os.getpid(),
        "began": began,
        "store": str(store.root),
        "omp": os.environ.get("OMP_NUM_THREADS"),
        "torch_threads": torch.get_num_threads() if torch else None,
    }


def unstored(spec, store, progress=None):
    """A runner that must never be called."""
    raise AssertionError("a stored segment was computed again")
