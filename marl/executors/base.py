"""The executor of segments: one interface to local processes and to Ray, its settings and its error.

Which executor computes a segment changes nothing about its result, so the choice is no part of a segment's id.
"""

from __future__ import annotations

from concurrent.futures import Future
from typing import Literal, Protocol, Self

from pydantic import model_validator

from learning_signal.marl.segments.segment import SegmentResult, SegmentSpec
from learning_signal.marl.settings import Frozen


class ExecutorError(RuntimeError):
    """An executor cannot be opened; one sentence."""


class Executor(Protocol):
    """Computes segments, several at a time.

    Futures end with a ``SegmentResult`` or raise ``SegmentFailed``, or ``SegmentImpossible`` where the machine or the
    program is at fault or the segment was cancelled.
    """

    worker_count: int
    """Segments that are computed at the same time."""

    def submit(self, spec: SegmentSpec, urgent: bool = True) -> Future[SegmentResult]:
        """Ask for a segment: the same future for one in flight, a finished future for one already stored.

        A segment that is not urgent starts only when no urgent one waits; submitting it again as urgent makes it so. A
        future that is cancelled while it waits is never computed (for every holder). A closed executor raises
        ``RuntimeError``.
        """

    def withdraw(self, segment: str) -> bool:
        """Drop a segment that has not started and cancel its future; False where it has, or is not known."""

    def cancel_all(self) -> None:
        """Fail every segment in flight with ``SegmentImpossible`` and stop computing it. More can be asked for."""

    def close(self) -> None:
        """Cancel what is in flight and release the workers; a second call is a no-op."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exception: object) -> None: ...


class ExecutorSettings(Frozen):
    """Where segments are computed."""

    kind: Literal["local", "ray"] = "local"
    """local: processes of this machine; ray: a Ray cluster."""
    address: str | None = None
    """HOST:PORT of a cluster that this machine is a node of, or auto to find it; None starts one here. Ray only."""
    share: Literal["objects", "folder"] = "objects"
    """How checkpoints travel: through Ray's object store, or through a folder that every machine sees. Ray only."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.kind == "local" and (self.address is not None or self.share != "objects"):
            given = f"the address {self.address}" if self.address is not None else f"share={self.share}"
            raise ValueError(f"found {given} with local processes, expected Ray: choose the executor ray too")
        return self

    def changed(self, kind: str | None = None, address: str | None = None, share: str | None = None) -> Self:
        """These settings with the options of a resume (None: unchanged). Another ``kind`` starts from the defaults.

        Raises pydantic's ``ValidationError``.
        """
        given = {"kind": kind, "address": address, "share": share}
        kept = self.model_dump() if kind in (None, self.kind) else {}
        return type(self).model_validate(kept | {name: value for name, value in given.items() if value is not None})
