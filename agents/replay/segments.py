"""An executor that trains nothing: every segment comes to what it came to in the recorded session."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from typing import Self

from learning_signal.ledger.read.training import SegmentRow
from learning_signal.marl.errors import SegmentFailed, SegmentImpossible
from learning_signal.marl.segments.segment import SegmentResult, SegmentSpec, SegmentStore
from learning_signal.tools.round.speculation import UNUSED


class RecordedSegments:
    """Stands in for an ``Executor``: results from the store, failures and withdrawals from the log."""

    worker_count = 1

    def __init__(self, store: SegmentStore, recorded: Mapping[str, SegmentRow]) -> None:
        self._store, self._recorded = store, recorded
        self._waiting: dict[str, Future[SegmentResult]] = {}
        self.unknown: SegmentSpec | None = None
        """The first segment that was asked for and that the session had not."""

    def submit(self, spec: SegmentSpec, urgent: bool = True) -> Future[SegmentResult]:
        """A future that is done, but for a segment that the session withdrew: that one waits to be withdrawn."""
        row = self._recorded.get(spec.id)
        future: Future[SegmentResult] = Future()
        if row is not None and row.status == "error" and row.reason == UNUSED:
            return self._waiting.setdefault(spec.id, future)
        try:
            future.set_result(self._result(spec, row))
        except SegmentFailed as failure:
            future.set_exception(failure)
        return future

    def _result(self, spec: SegmentSpec, row: SegmentRow | None) -> SegmentResult:
        if row is None:
            self.unknown = self.unknown or spec
            raise SegmentImpossible(f"The session did not train the segment {spec.id} that is asked for now.")
        if row.status == "error":
            raise SegmentFailed(row.reason or "It failed.", env_steps=row.trained or 0)
        if row.status != "ok":
            raise SegmentImpossible(f"The session ended before the segment {spec.id} was trained.")
        return self._store.load_result(spec.id)

    def withdraw(self, segment: str) -> bool:
        """Whether the session withdrew it."""
        future = self._waiting.pop(segment, None)
        return future is not None and future.cancel()

    def cancel_all(self) -> None:
        """Nothing is ever in flight."""

    def close(self) -> None:
        """There is nothing to stop."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
