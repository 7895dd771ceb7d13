"""The executor of a session that left its original: what was trained is looked up, the rest is trained or refused."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future

from learning_signal.agents.replay.segments import RecordedSegments
from learning_signal.ledger.read.training import SegmentRow
from learning_signal.marl.errors import SegmentFailed, SegmentImpossible
from learning_signal.marl.executors.base import Executor
from learning_signal.marl.segments.segment import SegmentResult, SegmentSpec, SegmentStore
from learning_signal.tools.round.speculation import UNUSED


class ForkedSegments(RecordedSegments):
    """As in the recorded session where that had the segment; else from the store, or from a ``pool`` of workers."""

    def __init__(self, store: SegmentStore, recorded: Mapping[str, SegmentRow], pool: Executor | None = None) -> None:
        super().__init__(store, recorded)
        self._pool = pool

    def submit(self, spec: SegmentSpec, urgent: bool = True) -> Future[SegmentResult]:
        """A future of the segment. What is not urgent and not stored waits until it is, or is withdrawn."""
        row = self._recorded.get(spec.id)
        if row is not None and (row.status == "ok" or row.status == "error" and row.reason != UNUSED):
            return super().submit(spec, urgent)
        future = self._waiting.setdefault(spec.id, Future())
        if urgent or self._store.has(spec.id):
            self._waiting.pop(spec.id)
            self._begin(spec, future)
        return future

    def _begin(self, spec: SegmentSpec, future: Future[SegmentResult]) -> None:
        try:
            if self._store.has(spec.id):
                future.set_result(self._store.load_result(spec.id))
                return
            self._refuse_untrainable(spec)
        except SegmentFailed as failure:
            future.set_exception(failure)
            return
        assert self._pool is not None, "without workers nothing can be trained"
        self._pool.submit(spec).add_done_callback(lambda done: _pass_on(done, future))

    def _refuse_untrainable(self, spec: SegmentSpec) -> None:
        if self._pool is None:
            steps = spec.env_steps
            work = f"{steps:,} env steps that nobody has trained" if steps else "episodes that nobody has played"
            raise SegmentImpossible(f"This takes {work}; --train does that.")
        if spec.parent is not None and not self._store.checkpoint_path(spec.parent).exists():
            raise SegmentImpossible(
                f"The checkpoint of the parent {spec.parent} is gone from {self._store.root}, so nothing can be "
                "trained from it; 'replay --retrain' trains what a session lacks."
            )


def _pass_on(done: Future[SegmentResult], future: Future[SegmentResult]) -> None:
    """Give ``future`` what ``done`` came to."""
    if done.cancelled():
        future.cancel()
    elif (failure := done.exception()) is not None:
        future.set_exception(failure)
    else:
        future.set_result(done.result())
