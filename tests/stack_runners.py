"""What the workers of the stacking tests run where they are given several segments: the task's name says what to do."""

from __future__ import annotations

import os
import signal
import time

from pool_runners import act

from marl.segment import Progress, SegmentFailed


def act_together(specs, store, progress=None):
    """As ``pool_runners.act`` one by one; the answers tell how many they were."""
    name = specs[0].run.task
    for spec in specs:
        progress(Progress(spec.id, 40, spec.env_steps, None, None))
        progress(Progress(spec.id, 41, spec.env_steps, None, None))  # too soon to be sent
    if name.startswith("killed"):
        os.kill(os.getpid(), signal.SIGKILL)
    if name == "broken together":
        raise ValueError("one of them")
    if name == "wait for a file":
        while not (store.root / "go").exists():
            time.sleep(0.01)
    return [
        SegmentFailed("Training diverged.", env_steps=70)
        if name == "one diverges" and spec.seed == 1
        else act(spec, store, progress) | {"together": len(specs)}
        for spec in specs
    ]
