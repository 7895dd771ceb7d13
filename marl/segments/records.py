"""What a segment leaves behind besides its checkpoint: evaluations on fixed episodes, and a record of behaviour."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import numpy as np

from learning_signal.marl.settings import Frozen

SETS: tuple[str, ...] = ("query", "screen", "confirm", "report")
"""query: what agents may look at; screen: what screening compares; confirm: held out for confirmation; report: what is
reported, which nothing selects by.
"""


class Evaluation(Frozen):
    """The unshaped results of one set of episodes at one point of a run."""

    env_steps: int
    """Position of the run, ancestors included."""
    set: Literal["query", "screen", "confirm", "report"]
    sparse_returns: tuple[float, ...]
    """Undiscounted sparse return of each episode."""
    progress: tuple[float, ...] | None
    """Mean progress over the steps of each episode; None where the task declares none."""
    episode_steps: int | None = None
    """Env steps that these episodes took together; None where an earlier version stored it."""
    points: int | None = None
    """Points of its segment, whichever of them the set is played at: the later half is counted among them.

    None where an earlier version stored it, which played every set at every point.
    """

    @property
    def sparse_return(self) -> float:
        """Mean sparse return."""
        return float(np.mean(self.sparse_returns))

    @property
    def mean_progress(self) -> float | None:
        """Mean progress over episodes, or None."""
        return None if self.progress is None else float(np.mean(self.progress))


@dataclass(frozen=True)
class BehaviourRecord:
    """What the agents did in ``n`` query episodes of up to ``T`` steps; NaN (choices: -1) after an episode's end."""

    task: str
    features: dict[str, np.ndarray]
    """``[T + 1, n]`` (team) or ``[T + 1, n, A]`` (agent) float32, entry 0 at the start of the episode."""
    actions: np.ndarray
    """Discrete: ``[T, n, A]`` int8 (int16 where there are more than 127 actions), -1 for agents that have left.

    Continuous: ``[T, n, A, D]`` float32, NaN for agents that have left and for numbers that an agent does not have.
    """
    rewards: np.ndarray
    """``[T, n]`` float32, sparse."""
    progress: np.ndarray | None
    """``[T + 1, n]`` float32, or None."""
    lengths: np.ndarray
    """``[n]`` int64: steps of each episode."""
    sparse_returns: np.ndarray
    """``[n]`` float64."""
    progress_means: np.ndarray | None
    """``[n]`` float64: mean progress over the steps of each episode, or None."""

    def save(self, path: Path) -> None:
        """Write to ``path`` (npz, compressed: a record of long episodes is large and mostly repeats itself)."""
        arrays = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("task", "features")}
        arrays = {name: array for name, array in arrays.items() if array is not None}
        arrays |= {f"feature:{name}": array for name, array in self.features.items()}
        with path.open("wb") as file:
            np.savez_compressed(file, task=np.array(self.task), **arrays)

    @classmethod
    def load(cls, path: Path) -> BehaviourRecord:
        """Read what ``save`` wrote."""
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        features = {name.removeprefix("feature:"): arrays.pop(name) for name in list(arrays) if ":" in name}
        optional = {name: arrays.pop(name, None) for name in ("progress", "progress_means")}
        return cls(task=str(arrays.pop("task")), features=features, **arrays, **optional)
