"""Segments: pieces of training named by their inputs (parent, shaping, env steps, seed, run), and their results.

A segment's id is the hash of everything its result depends on, so the same segment is never computed twice and
nothing is ever overwritten.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from learning_signal.marl.canonical import canonical_json, short_hash
from learning_signal.marl.errors import SegmentImpossible
from learning_signal.marl.paths import OutsideFolder, inside
from learning_signal.marl.segments.records import SETS, BehaviourRecord, Evaluation
from learning_signal.marl.segments.version import training_version
from learning_signal.marl.settings import Frozen, RunSettings
from learning_signal.marl.shaping import ShapingConfig
from learning_signal.marl.tasks import make_task
from learning_signal.marl.tasks.base import TaskSpec


class SegmentSpec(Frozen):
    """The inputs of a segment."""

    run: RunSettings
    parent: str | None
    """Id of the segment to continue from, or None for newly drawn weights."""
    shaping: ShapingConfig
    env_steps: int
    """Env steps to train; a multiple of ``rollout_size``, or 0 of a late evaluation (``marl.segments.late``)."""
    seed: int

    @property
    def id(self) -> str:
        """``s`` and 16 hexadecimal digits: the hash of these inputs and of the code, a user's environment included."""
        inputs = {
            "run": self.run.model_dump(mode="json"),
            "parent": self.parent,
            "shaping": self.shaping.canonical(),
            "env_steps": self.env_steps,
            "seed": self.seed,
            "code": training_version(),
        }
        if ":" in self.run.task:
            from learning_signal.marl.tasks.foreign.declaration import source_version

            inputs["environment"] = source_version(self.run.task)
        return "s" + short_hash(canonical_json(inputs))


class SegmentResult(Frozen):
    """The result of a segment, besides its checkpoint and behaviour record."""

    id: str
    parent: str | None
    start_env_steps: int
    """Env steps of all ancestors."""
    end_env_steps: int
    env_steps: int
    updates: tuple[dict[str, float | None], ...]
    """One row of ``marl.segments.metrics.METRICS`` per update."""
    evaluations: tuple[Evaluation, ...]
    wall_seconds: float
    timings: dict[str, float]
    """Seconds of environment, policy, shaping, update, evaluation and rest."""
    checkpoint: str | None = None
    """SHA-256 of its checkpoint's file; None where it has none, or where an earlier version stored it."""
    policy: str | None = None
    """Hash of the weights of its policy (``marl.learners.weights``); None as above."""
    lost_env_steps: int = 0
    """Env steps that workers which died had trained of it before."""
    reused: bool = False
    """Whether the result was stored already and nothing was computed."""

    @property
    def evaluation_steps(self) -> int | None:
        """Env steps that its evaluations played; None where an earlier version stored it, which did not count them."""
        played = [each.episode_steps for each in self.evaluations]
        known = [each for each in played if each is not None]
        return sum(known) if len(known) == len(played) else None

    @property
    def reported(self) -> Evaluation:
        """The last evaluation on the report episodes, or on the confirm episodes where those were not played.

        They were not by earlier versions, nor are they in training runs, where nothing selects by the confirm episodes.
        """
        return (self.evaluations_of("report") or self.evaluations_of("confirm"))[-1]

    def evaluations_of(self, set_name: str) -> tuple[Evaluation, ...]:
        """The evaluations of one set, oldest first."""
        if set_name not in SETS:
            raise ValueError(f"There is no evaluation set {set_name!r}; choose one of {', '.join(SETS)}.")
        return tuple(evaluation for evaluation in self.evaluations if evaluation.set == set_name)


@dataclass(frozen=True)
class TrainingStatus:
    """How far a segment in flight is."""

    id: str
    done_env_steps: int
    total_env_steps: int
    sparse_return: float | None
    """Of the latest update's episodes, as in ``METRICS``."""
    progress: float | None


_ID = re.compile("s[0-9a-f]{16}")
_RESULTS = 16
"""Results that a store keeps in memory."""


class SegmentStore:
    """A folder of finished segments, one sub-folder each. A segment appears there atomically."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self._read: dict[Path, tuple[tuple[int, int], SegmentResult]] = {}
        """The results that were read last, each with its file's time and size: HEAD's is read in every step."""

    def path(self, segment: str) -> Path:
        """The folder of a segment, whether it exists or not.

        ``SegmentImpossible`` for a malformed id: ids also come from ledgers of others.
        """
        if not _ID.fullmatch(segment):
            raise SegmentImpossible(
                f"Found the segment id {segment!r}, expected s and 16 hexadecimal digits: do not use the ledger or "
                "policy it comes from."
            )
        try:
            return inside(self.root, segment)
        except OutsideFolder as error:
            raise SegmentImpossible(str(error)) from None

    def checkpoint_path(self, segment: str) -> Path:
        return self.path(segment) / "checkpoint.pt"

    def has(self, segment: str) -> bool:
        """Whether the segment was computed."""
        return self.path(segment).is_dir()

    def load_result(self, segment: str) -> SegmentResult:
        """The stored result; ``SegmentImpossible`` if there is none or it cannot be read."""
        path = self.path(segment) / "result.json"
        if not self.has(segment):
            raise SegmentImpossible(f"Segment {segment} is not in {self.root}; run it first.")
        try:
            written = path.stat()
            stamp = written.st_mtime_ns, written.st_size
            known, result = self._read.get(path, (None, None))
            if result is None or known != stamp:
                result = SegmentResult.model_validate_json(path.read_bytes())
                self._read = dict([*self._read.items()][-_RESULTS + 1 :]) | {path: (stamp, result)}
            return result
        except (OSError, ValidationError) as error:
            raise SegmentImpossible(
                f"The result of segment {segment} in {path} cannot be read ({type(error).__name__}); "
                "delete the folder to compute it again."
            ) from error

    def behaviour(self, segment: str) -> BehaviourRecord:
        """The query episodes that the segment played at its end; ``SegmentImpossible`` if they cannot be read."""
        path = self.path(segment) / "behaviour.npz"
        try:
            return BehaviourRecord.load(path)
        except (
            OSError,
            ValueError,
            EOFError,
            KeyError,
            TypeError,
            NotImplementedError,
            zipfile.BadZipFile,
            zlib.error,
        ) as error:
            raise SegmentImpossible(
                f"The behaviour record of segment {segment} in {path} cannot be read ({type(error).__name__}); "
                "run the segment, or delete its folder to compute it again."
            ) from error

    @contextmanager
    def writing(self, segment: str) -> Iterator[Path]:
        """A temporary folder that becomes the segment's own when the block ends without an error."""
        self.root.mkdir(parents=True, exist_ok=True)
        target = self.path(segment)
        folder = Path(tempfile.mkdtemp(prefix=f".{segment}.", dir=self.root))
        try:
            yield folder
            for path in folder.iterdir():
                _flush(path)
            try:
                os.replace(folder, target)
            except OSError:
                # Another process finished the same segment first: its files are as good as these.
                if not self.has(segment):
                    raise
            _flush(self.root)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _flush(path: Path) -> None:
    """Make sure that ``path`` is on the disk before something refers to it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def rollout_size(run: RunSettings, spec: TaskSpec | None = None) -> int:
    """Env steps of one rollout (and so of one update). Without ``spec`` the task is made to learn its horizon."""
    steps = run.learner.rollout_steps
    if steps is None:
        steps = (spec or make_task(run.task, 1).spec).horizon
    return steps * run.learner.environments


def round_up(run: RunSettings, env_steps: int, spec: TaskSpec | None = None) -> int:
    """The smallest multiple of ``rollout_size`` that is at least ``env_steps`` (and at least one rollout)."""
    size = rollout_size(run, spec)
    return max(-(-env_steps // size), 1) * size
