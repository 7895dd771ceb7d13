"""Stands in for worker pool and segment store under the real Trainer: a test says what every segment scores.

No worker and no torch: the pool's futures are done at once, from a function of what was launched.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np

from learning_signal.marl.errors import SegmentFailed, SegmentImpossible
from learning_signal.marl.segments.points import sets_due
from learning_signal.marl.segments.records import BehaviourRecord, Evaluation
from learning_signal.marl.segments.segment import SegmentResult, SegmentSpec
from learning_signal.marl.shaping import ShapingConfig
from learning_signal.marl.tasks import make_task

EPISODES, EPISODE_STEPS = 8, 25
QUERY_SHARE = 0.5
"""What query episodes score compared with those of the gate: a gate that read the wrong set would be seen."""


@dataclass(frozen=True)
class Launched:
    """A segment to score."""

    shaping: ShapingConfig
    seed: int
    purpose: str
    arm: str
    position: int
    """How many segments of this arm and purpose were submitted before: the index of the seed."""


Score = Callable[[Launched], tuple[float, float | None] | str]
"""What a segment comes to: (sparse return, progress) on the gate's episodes, or why it failed."""


def by_arm(effects: Mapping[Any, Any], base: float = 0.04) -> Score:
    """Nobody scores; progress is ``base``, a value of the seed (the same in both arms), and the arm's effect.

    ``effects`` maps an arm, or (purpose, arm), to a number, to one number per seed,
    or to the reason of a failure.
    """

    def score(launched: Launched) -> tuple[float, float] | str:
        effect = effects.get((launched.purpose, launched.arm), effects.get(launched.arm, 0.0))
        if isinstance(effect, (list, tuple)):
            effect = effect[launched.position]
        if isinstance(effect, str):
            return effect
        return 0.0, base + launched.seed % 7 * 0.001 + effect

    return score


class ScriptedPool:
    """Stands in for a ``marl.executors.base.Executor``. With ``holding`` set, segments wait for ``release``."""

    worker_count = 1

    def __init__(self, score: Score) -> None:
        self.score = score
        self.holding = False
        self.computed: list[str] = []
        """Ids of the segments that were really trained, failed ones included; not late evaluations."""
        self._scores: dict[str, tuple[float, float | None]] = {}
        self.stored: dict[str, SegmentResult] = {}
        self.purposes: Mapping[str, tuple[str, str]] = {}
        self._held: list[tuple[SegmentSpec, Future]] = []
        self._positions: dict[tuple[str, str], int] = {}

    def submit(self, spec: SegmentSpec, urgent: bool = True) -> Future[SegmentResult]:
        """A future of the segment: done, failed, or held back (one for those who ask for the same)."""
        for held, future in self._held:
            if held.id == spec.id and not future.cancelled():
                return future
        future = Future()
        if spec.id in self.stored:
            future.set_result(self.stored[spec.id].model_copy(update={"reused": True}))
        elif self.holding:
            self._held.append((spec, future))
        else:
            self._compute(spec, future)
        return future

    def release(self) -> None:
        """Compute what was held back."""
        held, self._held, self.holding = self._held, [], False
        for spec, future in held:
            if not future.cancelled():
                self._compute(spec, future)

    def withdraw(self, segment: str) -> bool:
        """Drop a segment that is held back."""
        for spec, future in self._held:
            if spec.id == segment and future.cancel():
                self._held.remove((spec, future))
                return True
        return False

    def cancel_all(self) -> None:
        """Fail what is held back, as the real pool does when it is closed."""
        held, self._held, self.holding = self._held, [], False
        for spec, future in held:
            if future.set_running_or_notify_cancel():
                future.set_exception(SegmentImpossible(f"Segment {spec.id} was cancelled before it was finished."))

    def close(self) -> None:
        """Fail what is held back."""
        self.cancel_all()

    def __enter__(self) -> ScriptedPool:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _compute(self, spec: SegmentSpec, future: Future[SegmentResult]) -> None:
        if not spec.env_steps:
            parent = self.stored[spec.parent]
            self.stored[spec.id] = scored_segment(spec, parent.end_env_steps, *self._scores[spec.parent])
            future.set_result(self.stored[spec.id])
            return
        key = self.purposes.get(spec.id, ("main", "main"))
        position = self._positions[key] = self._positions.get(key, -1) + 1
        self.computed.append(spec.id)
        score = self.score(Launched(spec.shaping, spec.seed, *key, position))
        if isinstance(score, str):
            future.set_exception(SegmentFailed(score))
            return
        start = 0 if spec.parent is None else self.stored[spec.parent].end_env_steps
        self._scores[spec.id] = score
        self.stored[spec.id] = scored_segment(spec, start, *score)
        future.set_result(self.stored[spec.id])


class ScriptedStore:
    """Stands in for ``marl.segments.segment.SegmentStore``: what the pool has computed, in memory."""

    def __init__(self, pool: ScriptedPool) -> None:
        self._pool = pool
        self.told: dict[str, BehaviourRecord] = {}
        """The behaviour of single segments, where it is not that of all others."""

    def has(self, segment: str) -> bool:
        return segment in self._pool.stored

    def load_result(self, segment: str) -> SegmentResult:
        if not self.has(segment):
            raise SegmentFailed(f"Segment {segment} is not in the store; run it first.")
        return self._pool.stored[segment]

    def behaviour(self, segment: str) -> BehaviourRecord:
        """Of the query episodes, whether they were played with the segment or late."""
        result = self.load_result(segment)
        return self.told.get(segment if result.env_steps else result.parent) or drifting_behaviour()


def scored_segment(spec: SegmentSpec, start: int, sparse_return: float, progress: float | None) -> SegmentResult:
    """A finished segment: four updates, and evaluations (0, then the score) halfway and at its end.

    Update k of 1..4 has entropy 1.6 - 0.1 k; ``explained_variance`` exists only in the last. A late evaluation has its
    parent's score, and no updates.
    """
    end = start + spec.env_steps
    updates = tuple(
        {
            "env_steps": start + spec.env_steps * k // 4,
            "entropy": 1.6 - 0.1 * k,
            "sparse_return": sparse_return,
            "explained_variance": 0.5 if k == 4 else None,
        }
        for k in ((1, 2, 3, 4) if spec.env_steps else ())
    )
    evaluations = []
    due = sets_due(spec.run.evaluation.model_copy(update={"points": 2}), 2 if spec.env_steps else 0)
    for point, env_steps, share in ((0, end, 1.0), (1, start + spec.env_steps // 2, 0.0), (2, end, 1.0)):
        for name in due.get(point, ()):
            scale = share * (QUERY_SHARE if name == "query" else 1.0)
            evaluations.append(
                Evaluation(
                    env_steps=env_steps,
                    set=name,
                    sparse_returns=(sparse_return * scale,) * EPISODES,
                    progress=None if progress is None else (progress * scale,) * EPISODES,
                    episode_steps=EPISODES * EPISODE_STEPS,
                    points=2,
                )
            )
    return SegmentResult(
        id=spec.id,
        parent=spec.parent,
        start_env_steps=start,
        end_env_steps=end,
        env_steps=spec.env_steps,
        updates=updates,
        evaluations=tuple(evaluations),
        wall_seconds=0.5,
        timings={},
    )


def drifting_behaviour() -> BehaviourRecord:
    """Episodes of `spread` with random actions and features that drift from their low to their high bound."""
    spec, random, steps = make_task("spread", 1).spec, np.random.default_rng(0), 25
    rise = np.linspace(0.1, 0.9, steps + 1)[:, None] + random.uniform(-0.1, 0.1, (steps + 1, EPISODES))
    features = {}
    for feature in spec.features:
        values = (feature.low + (feature.high - feature.low) * rise).astype(np.float32)
        agents = np.repeat(values[:, :, None], spec.agents, axis=2)
        features[feature.name] = values if feature.scope == "team" else agents
    progress = np.clip(rise, 0.0, 1.0).astype(np.float32)
    return BehaviourRecord(
        task="spread",
        features=features,
        actions=random.integers(0, spec.actions, (steps, EPISODES, spec.agents)).astype(np.int8),
        rewards=np.zeros((steps, EPISODES), np.float32),
        progress=progress,
        lengths=np.full(EPISODES, steps),
        sparse_returns=np.zeros(EPISODES),
        progress_means=progress[1:].mean(axis=0).astype(np.float64),
    )
