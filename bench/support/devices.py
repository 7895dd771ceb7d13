"""Where a GPU pays: env steps per second of a segment on the CPU (one thread) and on a GPU, by the networks' size.

Two segments per row, of MAPPO with the task's settings but for the sizes shown; the faster one counts. Environments are
stepped on the CPU on both sides. Without a GPU that torch can use, that column is empty.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from learning_signal.marl.segments.segment import SegmentSpec, SegmentStore, round_up
from learning_signal.marl.segments.training import run_segment
from learning_signal.marl.settings import EvaluationSettings, RunSettings
from learning_signal.marl.shaping import ShapingConfig

Size = tuple[tuple[int, ...], int, int]
SIZES: tuple[Size, ...] = (
    ((64, 64), 128, 96_000),
    ((256, 256), 128, 32_000),
    ((512, 512), 128, 16_000),
    ((512, 512), 1024, 102_400),
)
QUICK: tuple[Size, ...] = (((8, 8), 8, 400),)
"""Hidden layers, environments and env steps of a segment, to be rounded up to whole rollouts."""
DEVICES = ("cpu", "cuda")


def rate(task: str, hidden: tuple[int, ...], environments: int, env_steps: int, device: str) -> float | None:
    """Env steps per second of wall-clock time; None where this machine has no such device."""
    if device == "cuda" and not torch.cuda.is_available():
        return None
    sizes = {"device": device, "hidden": hidden, "environments": environments}
    learner = RunSettings(task=task).learner.model_copy(update=sizes)
    run = RunSettings(task=task, learner=learner, evaluation=EvaluationSettings(episodes=2, points=2))
    env_steps, seconds = round_up(run, env_steps), []
    for seed in (0, 1):  # the first one on a GPU also starts CUDA
        spec = SegmentSpec(run=run, parent=None, shaping=ShapingConfig.none(), env_steps=env_steps, seed=seed)
        with tempfile.TemporaryDirectory() as folder:
            begun = time.perf_counter()
            run_segment(spec, SegmentStore(Path(folder)))
            seconds.append(time.perf_counter() - begun)
    return env_steps / min(seconds)


def measured(task: str, sizes: Sequence[Size] = SIZES) -> list[dict[str, Any]]:
    """One row per size."""
    rows: list[dict[str, Any]] = []
    for hidden, environments, env_steps in sizes:
        rates = {device: rate(task, hidden, environments, env_steps, device) for device in DEVICES}
        rows.append({"hidden": hidden, "environments": environments, **rates})
    return rows


def table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """The rows with the ratio of the two."""
    shown = Table("hidden", "environments", "CPU, env steps/s", "GPU, env steps/s", "ratio")
    for row in rows:
        cpu, gpu = row["cpu"], row["cuda"]
        faster = "-" if gpu is None else f"{gpu / cpu:.1f}"
        hidden = " x ".join(map(str, row["hidden"]))
        shown.add_row(hidden, str(row["environments"]), f"{cpu:,.0f}", "-" if gpu is None else f"{gpu:,.0f}", faster)
    return shown
