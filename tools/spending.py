"""What a session has spent, and the refusal of work that its budget does not cover."""

from __future__ import annotations

from collections.abc import Sequence

from learning_signal.ledger.read.costs import Costs
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.wording import resume_command
from learning_signal.marl.segments.segment import SegmentSpec
from learning_signal.tools.base import CannotGoOn
from learning_signal.tools.context import SessionContext
from learning_signal.tools.plan.budget import Budget, shortfall


class OutOfBudget(CannotGoOn):
    """The next piece of work does not fit in the budget; one sentence with the command that goes on.

    ``why`` is the sentence without it, ``budget`` a sufficient limit, as ``--budget`` takes it.
    """

    def __init__(self, why: str, command: str, budget: str) -> None:
        super().__init__(f"{why}; go on with: {command}")
        self.why, self.budget = why, budget


def spent_so_far(context: SessionContext) -> dict[str, float]:
    """Env steps, tokens, seconds and USD of the session until now, by the names of the budget's limits.

    Segments in flight count in full. Model calls count as far as their cost is known.
    """
    with Reader.open(context.ledger.path) as reader:
        costs = reader.costs(context.session)
    running = [
        row["env_steps"]
        for row in context.ledger.find("segments", session_id=context.session, status="pending")
        if not row["reused"]
    ]
    spent = spent_of(costs)
    spent["env_steps"] += sum(running)
    spent["time"] = context.ledger.clock.seconds(context.session) or costs.wall_seconds
    return spent


def spent_of(costs: Costs) -> dict[str, float]:
    """Recorded ``costs`` by name of the limit; model calls as far as their cost is known."""
    return {
        "env_steps": costs.env_steps_main + costs.env_steps_branches + costs.env_steps_twin + (costs.cut_off or 0),
        "tokens": (costs.tokens_in or 0) + (costs.tokens_out or 0),
        "time": costs.wall_seconds,
        "usd": sum(agent.known_usd for agent in costs.agents.values()),
    }


def afford(
    context: SessionContext, what: str, *, env_steps: int = 0, pieces: int = 1, tokens: int = 0, usd: float = 0.0
) -> None:
    """Raise ``OutOfBudget`` if ``what`` is known to need more than is left.

    The time of ``env_steps`` in parallel ``pieces`` is estimated from the throughput of HEAD's segment.
    """
    limits = context.state.budget
    if limits == Budget():
        return
    needed: dict[str, float] = {"time": 0.0}
    if env_steps:
        needed["env_steps"] = env_steps
        if limits.time is not None and context.state.head is not None:
            last = context.trainer.stored(context.state.head.segment)
            side_by_side = min(pieces, context.trainer.pool.worker_count)
            needed["time"] = last.wall_seconds / last.env_steps * env_steps / side_by_side
    if tokens:
        needed |= {"tokens": tokens, "usd": usd}
    spent = spent_so_far(context)
    # Suggest room for a whole round: with room for one call or stage the session would pause again at once.
    a_round = {name: spent[name] / max(1, context.state.round_number) for name in ("tokens", "time", "usd")}
    exceeded = shortfall(limits, spent, needed, what, a_round)
    if exceeded is not None:
        message, enough = exceeded
        command = resume_command(context.session, context.ledger.path, enough)
        raise OutOfBudget(message, command, enough)


def afford_segments(context: SessionContext, what: str, specs: Sequence[SegmentSpec]) -> None:
    """Raise ``OutOfBudget`` if the segments neither begun nor stored need more than is left."""
    if context.state.budget == Budget():
        return
    new = [
        spec
        for spec in specs
        if not context.trainer.store.has(spec.id) and context.ledger.row("segments", (context.session, spec.id)) is None
    ]
    if new or not specs:
        afford(context, what, env_steps=sum(spec.env_steps for spec in new), pieces=len(new))
