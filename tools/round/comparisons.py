"""Confirmations, judged: one call trains both arms until the statistics decide, and says all that they rest on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from learning_signal.marl.gate.confirmation import judge
from learning_signal.marl.gate.measure import Measure, MeasureName
from learning_signal.marl.gate.trial import judge_look
from learning_signal.tools.base import Answer, Tool, ToolRefused, compact, rounded
from learning_signal.tools.context import SessionContext
from learning_signal.tools.contracts import Confirm
from learning_signal.tools.roles import Role
from learning_signal.tools.round.branches import begin, choice, measures, values_of, why_this_one
from learning_signal.tools.round.confirmations import (
    confirmable,
    judged,
    next_level,
    offer,
    one_more,
    order_in_force,
    refuse_confirmation,
)
from learning_signal.tools.round.record_branches import Trial, record_confirmation
from learning_signal.tools.round.verdicts import verdict_record
from learning_signal.tools.state import CONTROL, Branch, VerdictRecord

Learnt = Callable[[SessionContext, Mapping[str, Branch]], Awaitable[dict[str, Any]]]
"""What the branches ``candidate`` and ``control`` learnt, as data for an agent."""


def comparison_tools(context: SessionContext, learnt: Learnt) -> dict[str, Tool]:
    """The tool that confirms a candidate; ``learnt`` gives what it tells of both arms besides."""

    async def told(record: VerdictRecord, branches: Sequence[Branch]) -> str:
        arms = {"control" if each.arm == CONTROL else "candidate": each for each in branches}
        learned = await learnt(context, arms)
        return compact(confirmation_card(context, record) | learned | _after(context, record))

    async def confirm(arguments: Confirm) -> Answer:
        candidate = arguments.candidate
        known = next((each for each in judged(context) if each.candidate == candidate), None)
        if known is not None:
            return Answer(await told(known, _branches(context, known)))
        found, trial = await confirmed(context, candidate, arguments.reason, "validator")
        return Answer(await told(found, trial.branches), lambda: record_confirmation(context, found, trial))

    return {
        "confirm": Tool(
            "confirm",
            "Confirm one candidate: trains it and the control on fresh seeds until the trial is decided, and answers "
            "with the computed outcome (pass, fail or inconclusive), every number behind it and what both arms learnt.",
            Confirm,
            confirm,
            patient=True,
        )
    }


async def confirmed(
    context: SessionContext, candidate: str, reason: str = "", agent: Role | None = None
) -> tuple[VerdictRecord, Trial]:
    """Confirm a candidate: its branches are begun, where they are not, and the trial that they make, to be recorded.

    Raises ``ToolRefused`` where it may not be confirmed now, ``OutOfBudget`` before a look that does not fit.
    """
    if candidate == CONTROL:
        raise ToolRefused(f"Found {CONTROL}, expected a candidate: the control is trained beside every candidate.")
    refuse_confirmation(context, candidate, reason)
    chosen = choice(context, candidate, reason)
    claim = why_this_one(context, "confirm", reason) if chosen else None
    branches = begin(context, (CONTROL, candidate), "confirm", chosen, agent, claim)
    trial = await (_trial if context.settings.gate.judge.sequential else _pairs)(context, branches)
    return verdict_record(context, trial.verdict, candidate, context.next_comparison, values=_values(trial)), trial


async def _trial(context: SessionContext, branches: list[Branch]) -> Trial:
    """Look, and train one more branch of each arm, until the trial ends."""
    (order, source), level = order_in_force(context), next_level(context)
    while True:
        measured = {branch.arm: await measures(context, branch, "confirm") for branch in branches}
        control, candidate = (found for found, _ in measured.values())
        look = judge_look(control, candidate, order, context.task.largest_return, context.settings.gate, level)
        if look.outcome is not None:
            beside = {"ordered_by": order.model_dump(mode="json"), "ordered_from": source, "level": level}
            return Trial(look, branches, _sources(measured), beside)
        branches = one_more(context, branches)


async def _pairs(context: SessionContext, branches: list[Branch]) -> Trial:
    """Judge all seeds at once."""
    episodes = context.settings.gate.judge.confirms_on
    measured = {branch.arm: await measures(context, branch, episodes) for branch in branches}
    control, candidate = (found for found, _ in measured.values())
    declared, confirmations = context.task.progress is not None, context.settings.confirmations
    verdict = judge(
        [each.sparse_return for each in control],
        [each.sparse_return for each in candidate],
        [each.progress for each in control] if declared else None,
        [each.progress for each in candidate] if declared else None,
        context.task.largest_return,
        context.settings.gate,
        confirmations,
    )
    return Trial(verdict, branches, _sources(measured), {"confirmations": confirmations})


def _values(trial: Trial) -> dict[str, dict[MeasureName, list[float | None]]]:
    control, candidate = trial.arms.values()
    return {"candidate": values_of(candidate), "control": values_of(control)}


def confirmation_card(context: SessionContext, record: VerdictRecord) -> dict[str, Any]:
    """A judged confirmation in full, as agents are told it: branch by branch, both measures of both arms."""
    gate = context.settings.gate
    numbers: dict[str, Any] = {"interval": record.interval and [rounded(bound) for bound in record.interval]}
    if record.level is not None and record.n is not None:
        numbers["interval_level"] = rounded(gate.judge.interval_level(gate, record.level))
        numbers |= {"p": rounded(record.p), "level": rounded(record.level)}
        if record.p is not None and (smallest := gate.judge.smallest_p(gate, record.level, record.n)) is not None:
            numbers["smallest_p"] = {"at_this_look": rounded(smallest[0]), "in_all": rounded(smallest[1])}
    if record.wins is not None and record.n is not None:
        numbers["wins"] = f"{record.wins} of {record.n**2} pairs of branches"
    arms = {"control": CONTROL, "candidate": record.candidate}
    return (
        {
            "comparison": record.comparison,
            "candidate": record.candidate,
            "outcome": record.outcome,
            "reason": record.reason,
            "measure": record.measure,
            "difference": rounded(record.difference),
        }
        | numbers
        | {"n": record.n, "values": {name: _arm(context, record, name, arm) for name, arm in arms.items()}}
    )


def _arm(context: SessionContext, record: VerdictRecord, name: str, arm: str | None) -> dict[str, Any]:
    """One arm of a confirmation: its branch, its values branch by branch, and their means."""
    branch = next((one.name for one in _branches(context, record) if one.arm == arm), None)
    columns = {} if record.values is None else record.values[name]
    means = {} if record.means is None else record.means[name]
    return {"branch": branch} | {
        measure: {"branches": [rounded(one) for one in column], "mean": rounded(means.get(measure))}
        for measure, column in columns.items()
    }


def _branches(context: SessionContext, record: VerdictRecord) -> list[Branch]:
    """Both branches of a confirmation as they are recorded: of one that is not, as they began."""
    attempt = next(
        (place for place, each in enumerate(context.round.confirmations) if each.comparison == record.comparison),
        len(context.round.confirmations),
    )
    return [each for each in context.round.branches if (each.purpose, each.attempt) == ("confirm", attempt)]


def _after(context: SessionContext, record: VerdictRecord) -> dict[str, Any]:
    """What may be confirmed after this one, and what that would cost."""
    recorded = any(each.comparison == record.comparison for each in context.round.confirmations)
    further = offer(context, None if recorded else record)
    if any(each.outcome == "pass" for each in (record, *judged(context))):
        open_: tuple[str, ...] = ()
    else:
        open_ = tuple(each for each in confirmable(context) if each != record.candidate)
    told = further if open_ else {"confirmations_left": further["confirmations_left"]}
    return {"after_this": told | {"confirmable": list(open_)}} if record.means is not None else {}


def _sources(measured: Mapping[str, tuple[list[Measure], list[dict[str, Any]]]]) -> dict[str, list[dict[str, Any]]]:
    """By arm, where each seed's measure came from."""
    return {arm: sources for arm, (_, sources) in measured.items()}
