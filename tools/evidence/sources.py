"""Where evidence comes from: the main run, a branch of this round, or what a candidate of any round was tested on."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass

from learning_signal.ledger.read.reader import Reader
from learning_signal.marl.errors import SegmentFailed
from learning_signal.marl.segments.records import BehaviourRecord
from learning_signal.marl.segments.segment import SegmentResult
from learning_signal.tools.base import ToolRefused
from learning_signal.tools.context import SessionContext
from learning_signal.tools.recall import past_round
from learning_signal.tools.round.branches import find_branch
from learning_signal.tools.round.confirmations import is_sealed
from learning_signal.tools.state import CONTROL, Branch, RoundFacts

_TRIED = re.compile(r"R([0-9]{1,6})/(\w{1,40})")
"""A candidate by round and name, such as ``R2/c1``."""


@dataclass(frozen=True)
class Recorded:
    """The behaviour records behind a source."""

    segments: tuple[str, ...]
    """Those that are done, in seed order; of the main run the last one."""
    seeds: int
    """How many its branch has; 1 of the main run."""
    control: tuple[str, ...]
    """The segments of the control's branch for the same purpose that are done; empty where it has none, or is it."""

    def first(self, context: SessionContext) -> BehaviourRecord:
        """The behaviour of the first seed."""
        return context.trainer.behaviour(self.segments[0])


def recorded(context: SessionContext, source: str) -> Recorded:
    """The records of ``main``, of a branch of this round, or of a candidate: ``R2/c1``, or ``c1`` of this round.

    Of a candidate: the branch of its last judged confirmation, else that of its screen. ``ToolRefused`` for an unknown
    source, one that is not done, and for a confirmation that is not judged.
    """
    if source == "main":
        return Recorded((context.head.segment,), 1, ())
    facts, branch = _branch(context, source)
    control = _control(context, facts, branch)
    of_it = done(context, branch)
    if not of_it:
        finished(context, source, branch.segments[0])
    return Recorded(of_it, len(branch.segments), () if control is None else done(context, control))


def _branch(context: SessionContext, source: str) -> tuple[RoundFacts, Branch]:
    tried = _TRIED.fullmatch(source)
    if tried is None and all(each.arm != source for each in context.round.branches):
        return context.round, readable_branch(context, source)
    number, name = (context.round.number, source) if tried is None else (int(tried[1]), tried[2])
    facts: RoundFacts | None = context.round
    if number != context.round.number:
        with Reader.open(context.ledger.path) as reader:
            facts = past_round(reader, context.session, number, context.settings.gate)
    of_it = [] if facts is None else [each for each in facts.branches if each.arm == name]
    if facts is None or not of_it:
        raise ToolRefused(
            f"Found no branch of {name} in round {number}, expected a candidate that was tried, as round and name "
            "(R1/c2): take one from what was tried."
        )
    open_ = [each for each in of_it if not is_sealed(context, each, facts)]
    if not open_:
        raise ToolRefused(_sealed(source))
    return facts, max(open_, key=lambda each: (each.purpose == "confirm", each.refinement, each.attempt))


def _control(context: SessionContext, facts: RoundFacts, branch: Branch) -> Branch | None:
    """The control's branch that ``branch`` is compared with."""
    if branch.arm == CONTROL:
        return None
    same = [
        each
        for each in facts.branches
        if (each.arm, each.purpose, each.refinement, each.attempt)
        == (CONTROL, branch.purpose, branch.refinement, branch.attempt)
    ]
    return same[0] if same and not is_sealed(context, same[0], facts) else None


def done(context: SessionContext, branch: Branch) -> tuple[str, ...]:
    """The segments of ``branch`` that are done, in seed order."""
    return tuple(each for each in branch.segments if context.trainer.status(each) == "done")


def readable_branch(context: SessionContext, name: str) -> Branch:
    """The branch called ``name``; ``ToolRefused`` while it belongs to a confirmation that is not judged."""
    branch = find_branch(context, name)
    if is_sealed(context, branch):
        raise ToolRefused(_sealed(name))
    return branch


def _sealed(name: str) -> str:
    return (
        f"Found {name}, a branch of a confirmation that is not judged yet, expected another source: its numbers "
        "are shown once confirm has judged it."
    )


async def play_query(context: SessionContext, segments: Sequence[str]) -> None:
    """See that the query episodes at the end of these finished segments are played; ``ToolRefused`` where they cannot
    be.

    A branch plays what the gate compares; what agents look at is played when they do.
    """
    try:
        await asyncio.gather(*(context.trainer.evaluate_late(each, "query") for each in segments))
    except SegmentFailed as failure:
        raise ToolRefused(f"Found no query episodes of the branch ({failure}): name another source.") from failure


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
    """The result of a segment of the branch called ``name``; ``ToolRefused`` where it is not done."""
    status = context.trainer.status(segment)
    if status != "done":
        raise ToolRefused(
            f"Found branch {name} {status}, expected one that is done: name another source; where a branch failed, its "
            "screen or confirmation says why."
        )
    return context.trainer.stored(segment)


def behaviours(context: SessionContext, segments: Sequence[str]) -> list[BehaviourRecord]:
    """The behaviour record of every segment."""
    return [context.trainer.behaviour(segment) for segment in segments]
