"""Where evidence comes from: the main run or a branch of this round, and the segments behind it."""

from __future__ import annotations

from learning_signal.marl.segments.segment import SegmentResult
from learning_signal.tools.base import ToolRefused
from learning_signal.tools.context import SessionContext
from learning_signal.tools.round.branches import find_branch
from learning_signal.tools.round.confirmations import is_sealed
from learning_signal.tools.state import Branch


def readable_branch(context: SessionContext, name: str) -> Branch:
    """The branch called ``name``; ``ToolRefused`` while it belongs to a confirmation that is not judged."""
    branch = find_branch(context, name)
    if is_sealed(context, branch):
        raise ToolRefused(
            f"Found {name}, a branch of a confirmation that is not judged yet, expected another source: its numbers "
            "are shown once compare_branches has judged it."
        )
    return branch


def lineage(context: SessionContext) -> list[SegmentResult]:
    """The segments of the main run that HEAD rests on, oldest first."""
    results: list[SegmentResult] = []
    segment: str | None = context.head.segment
    while segment is not None:
        result = context.trainer.stored(segment)
        results.append(result)
        segment = result.parent
    return results[::-1]


def results(context: SessionContext, source: str) -> list[list[SegmentResult]]:
    """The segments behind a source, as one list of consecutive segments per seed."""
    if source == "main":
        return [lineage(context)]
    return [[finished(context, source, segment)] for segment in readable_branch(context, source).segments]


def finished(context: SessionContext, name: str, segment: str) -> SegmentResult:
    status = context.trainer.status(segment)
    if status != "done":
        raise ToolRefused(
            f"Found branch {name} {status}, expected one that is done: read_branch waits for it and says what happened."
        )
    return context.trainer.stored(segment)
