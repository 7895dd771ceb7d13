"""Segments without learning: what a worker runs in place of torch, so that a whole session takes a second.

Skill grows by a fixed amount per env step, faster under any shaping; everything else about a segment (its
files, its records, its purity) is as in real training. The environment variable ``SYNTHETIC_WORLD`` says what
goes wrong.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from concurrent.futures import Future
from pathlib import Path

import numpy as np

from learning_signal.marl.errors import SegmentFailed
from learning_signal.marl.segments.metrics import METRICS
from learning_signal.marl.segments.points import sets_due
from learning_signal.marl.segments.records import SETS, BehaviourRecord, Evaluation
from learning_signal.marl.segments.segment import SegmentResult, SegmentStore, TrainingStatus, rollout_size
from learning_signal.marl.tasks import make_task

PLAIN, SHAPED = 1e-5, 2e-4
"""Progress gained per env step without and with shaping."""
STAGE_STEPS = 600
"""Env steps of a stage in the tests: no branch is as long, so a world can tell stages and branches apart."""
EPISODE_STEPS = 25
OF_Q_LEARNERS = dict.fromkeys(("epsilon", "td_loss", "joint_value", "replay_env_steps"))
"""Metrics that a policy gradient does not have."""


class InlinePool:
    """An executor without processes: a segment is computed where it is submitted, and never interrupted."""

    worker_count = 1

    def __init__(self, store_root: Path, workers=None, on_progress=None, settings=None, tasks=()) -> None:
        self._store, self._on_progress = SegmentStore(store_root), on_progress

    def __enter__(self) -> InlinePool:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def submit(self, spec, urgent: bool = True) -> Future:
        """A future that is done."""
        future: Future = Future()
        try:
            reused = self._store.has(spec.id)
            result = self._store.load_result(spec.id) if reused else self.train_segment(spec, self._store)
            future.set_result(result.model_copy(update={"reused": reused}))
        except SegmentFailed as failure:
            future.set_exception(failure)
        return future

    def train_segment(self, spec, store: SegmentStore) -> SegmentResult:
        """The result of a segment that is not stored yet; ``SegmentFailed`` where there is none."""
        return train(spec, store, self._on_progress)

    def withdraw(self, segment: str) -> bool:
        """Nothing ever waits."""
        return False

    def cancel_all(self) -> None:
        """Nothing is ever in flight."""

    def close(self) -> None:
        """There is nothing to stop."""


def train(spec, store, progress=None, gain: float | None = None) -> SegmentResult:
    """The result of ``spec``, stored like a real one.

    ``gain`` is the progress gained per env step; None leaves it to the shaping and the world.
    """
    world = os.environ.get("SYNTHETIC_WORLD", "")
    _misbehave(world, spec, store, progress)
    parent = None if spec.parent is None else store.load_result(spec.parent)
    start = 0 if parent is None else parent.end_env_steps
    skill = 0.02 if parent is None else json.loads(store.checkpoint_path(spec.parent).read_text())["skill"]
    helps = not spec.shaping.is_none and world != "nothing helps"
    points, size = spec.run.evaluation.points, rollout_size(spec.run)
    noise = np.random.default_rng(spec.seed % 2**32).normal(0, 0.002)
    gain = (SHAPED if helps else PLAIN) if gain is None else gain
    final = float(np.clip(skill + spec.env_steps * gain + noise, 0, 1)) if spec.env_steps else skill
    if world == "regresses" and helps and spec.env_steps == STAGE_STEPS:
        final = 0.0
    evaluations = [
        _evaluation(spec, name, start + spec.env_steps * point // points, skill + (final - skill) * point / points)
        for point, sets in sets_due(spec.run.evaluation, points if spec.env_steps else 0).items()
        for name in sets
    ]
    updates = tuple(
        dict.fromkeys(METRICS, final) | OF_Q_LEARNERS | {"env_steps": start + position}
        for position in range(size, spec.env_steps + 1, size)
    )
    result = SegmentResult(
        id=spec.id,
        parent=spec.parent,
        start_env_steps=start,
        end_env_steps=start + spec.env_steps,
        env_steps=spec.env_steps,
        updates=updates,
        evaluations=tuple(evaluations),
        wall_seconds=0.001,
        timings={},
    )
    with store.writing(spec.id) as folder:
        if spec.env_steps:
            (folder / "checkpoint.pt").write_text(json.dumps({"skill": final}))
        (folder / "result.json").write_text(result.model_dump_json())
        if result.evaluations_of("query"):
            _behaviour(spec, final).save(folder / "behaviour.npz")
    return result


def _misbehave(world: str, spec, store, progress) -> None:
    """Die, fail or hang where the world says so."""
    if world == "hangs" and spec.env_steps != STAGE_STEPS:
        progress(TrainingStatus(spec.id, 1, spec.env_steps, None, None))
        time.sleep(60)
    store.root.mkdir(parents=True, exist_ok=True)
    died = store.root / "died"
    if world == "worker of the main run dies" and spec.env_steps == STAGE_STEPS and not died.exists():
        died.touch()
        progress(TrainingStatus(spec.id, 200, spec.env_steps, None, None))
        os.kill(os.getpid(), signal.SIGKILL)
    if world == "worker of every main run dies" and spec.env_steps == STAGE_STEPS:
        os.kill(os.getpid(), signal.SIGKILL)
    if world == "workers of a candidate die" and not spec.shaping.is_none:
        if not died.exists():
            died.write_text(spec.id)
        if died.read_text() == spec.id:
            os.kill(os.getpid(), signal.SIGKILL)
    if world == "candidates diverge" and not spec.shaping.is_none:
        raise SegmentFailed("Training diverged: the value loss became NaN.")


def _evaluation(spec, name: str, env_steps: int, skill: float) -> Evaluation:
    episodes = spec.run.evaluation.episodes
    spread = np.random.default_rng(SETS.index(name)).uniform(0.9, 1.1, episodes)
    progress = np.clip(skill * spread, 0, 1)
    returns = EPISODE_STEPS * np.maximum(progress - 0.3, 0)
    return Evaluation(
        env_steps=env_steps,
        set=name,
        sparse_returns=tuple(returns.tolist()),
        progress=tuple(progress.tolist()),
        episode_steps=episodes * EPISODE_STEPS,
        points=spec.run.evaluation.points,
    )


def _behaviour(spec, skill: float) -> BehaviourRecord:
    """Random behaviour within the declared bounds, of a segment's inputs but not of the code's version."""
    task = make_task(spec.run.task, 1).spec
    episodes, steps = spec.run.evaluation.episodes, EPISODE_STEPS
    inputs = f"{spec.seed} {spec.env_steps} {spec.shaping.hash()} {skill}"
    rng = np.random.default_rng(int(hashlib.sha256(inputs.encode()).hexdigest()[:8], 16))
    features = {}
    for feature in task.features:
        shape = (steps + 1, episodes) + ((task.agents,) if feature.scope == "agent" else ())
        features[feature.name] = rng.uniform(feature.low, feature.high, shape).astype(np.float32)
    progress = rng.uniform(0, max(skill, 1e-3), (steps + 1, episodes)).astype(np.float32)
    return BehaviourRecord(
        task=spec.run.task,
        features=features,
        actions=rng.integers(0, task.actions, (steps, episodes, task.agents)).astype(np.int8),
        rewards=np.zeros((steps, episodes), np.float32),
        progress=progress,
        lengths=np.full(episodes, steps),
        sparse_returns=np.zeros(episodes),
        progress_means=progress[1:].mean(0).astype(np.float64),
    )
