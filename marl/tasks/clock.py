"""Which episodes of a batch are under way and for how long: resets, the time limit, refusals of impossible calls."""

from __future__ import annotations

import numpy as np


class Clock:
    """The clock of a batched task whose episodes all last ``horizon`` steps; ``task`` is its name in refusals."""

    def __init__(self, task: str, environments: int, horizon: int) -> None:
        if environments < 1:
            raise ValueError(f"{task} got environments={environments}, expected at least 1: ask for one or more.")
        self.task, self.environments, self.horizon = task, environments, horizon
        # Nothing may be stepped before its first reset: an unstarted episode counts as an ended one.
        self.elapsed = np.full(environments, horizon)
        """``[E]`` int64: steps since the reset."""
        self._any_ended = True

    def start(self, seeds: np.ndarray, where: np.ndarray | None) -> np.ndarray:
        """Start the episodes in ``where`` (all when None) and return ``where``; raises what ``starting`` raises."""
        started = starting(self.task, self.environments, seeds, where)
        self.elapsed[started] = 0
        self._any_ended = bool((self.elapsed >= self.horizon).any())
        return started

    def check(self, actions: np.ndarray, agents: int, count: int) -> None:
        """Refuse joint actions that are not ``[E, agents]`` integers below ``count``, and ended episodes."""
        shape = (self.environments, agents)
        if actions.shape != shape or actions.dtype.kind not in "iu":
            raise ValueError(
                f"{self.task}.step got actions of shape {actions.shape} and type {actions.dtype}, "
                f"expected integers of shape {shape}."
            )
        if actions.min() < 0 or actions.max() >= count:
            raise ValueError(
                f"{self.task}.step got actions from {actions.min()} to {actions.max()}, expected 0 to {count - 1}."
            )
        if self._any_ended:
            raise RuntimeError(f"{self.task}.step was called on an ended episode: reset those that ended first.")

    def tick(self) -> np.ndarray:
        """One step passes; where ``[E]`` bool it was the last one."""
        self.elapsed += 1
        ended = self.elapsed >= self.horizon
        self._any_ended = bool(ended.any())
        return ended


def starting(task: str, environments: int, seeds: np.ndarray, where: np.ndarray | None) -> np.ndarray:
    """Which episodes a reset starts: ``where [E]``, all when None; ``ValueError`` for wrong shapes and types."""
    if seeds.shape != (environments,):
        raise ValueError(f"{task}.reset got seeds of shape {seeds.shape}, expected ({environments},).")
    started = np.ones(environments, dtype=bool) if where is None else np.asarray(where)
    if started.dtype != bool or started.shape != (environments,):
        raise ValueError(
            f"{task}.reset got where of shape {started.shape} and type {started.dtype}, "
            f"expected ({environments},) and bool."
        )
    return started
