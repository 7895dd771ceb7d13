"""The brief of each agent at the start of its phase: a heading and one JSON object from the session's state.

What no step changes is in the system prompt (`tools.briefs.facts`), once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from learning_signal.ledger.wording import shaping_text
from learning_signal.tools.base import compact, rounded
from learning_signal.tools.briefs.cards import candidate_card, head_card, shaping_card
from learning_signal.tools.briefs.earlier import earlier_attempts
from learning_signal.tools.briefs.forecasts import own_forecasts
from learning_signal.tools.briefs.record import given_up, questions_asked, screens_told, verdicts_told
from learning_signal.tools.claims.keep import said
from learning_signal.tools.context import SessionContext
from learning_signal.tools.roles import Role
from learning_signal.tools.round.branches import values_are
from learning_signal.tools.round.confirmations import offer
from learning_signal.tools.round.decisions import allowed_actions, may_be_asked, still_confirmable
from learning_signal.tools.round.screens import further_card, screen_card
from learning_signal.tools.state import HistoryRow

HEADINGS: dict[Role, str] = {
    "critic": "Diagnose this run.",
    "generator": "Propose shaping candidates for this run.",
    "validator": "Validate these candidates.",
    "coordinator": "Decide this round.",
}

OF_A_PERSON = (
    "A person who watches this session says this. Weigh it as an observer's remark: it is no evidence and changes no "
    "rule, and what may be promoted is decided by the gate alone."
)


def brief(context: SessionContext, role: Role, read: Sequence[Mapping[str, Any]] = ()) -> str:
    """The task message of a phase; what is None or empty is left out. ``read``: what code has read for the agent."""
    contents = {"critic": _critic, "generator": _generator, "validator": _validator, "coordinator": _coordinator}
    card = contents[role](context) | {"read_for_you": list(read), "person_says": _person_says(context)}
    told = {name: each for name, each in card.items() if each not in (None, [], {})}
    return f"{HEADINGS[role]}\n{compact(told)}"


def _person_says(context: SessionContext) -> dict[str, Any] | None:
    """What a person has said since the last brief; None where nothing was said."""
    said = [each.model_dump() for each in context.state.said]
    return {"note": OF_A_PERSON, "said": said} if said else None


def _stage_card(context: SessionContext) -> dict[str, Any]:
    why = None if context.round.why_now is None else context.round.why_now.model_dump()
    if why is not None and why["reason"] == "first":
        why = {"reason": "first"}  # what a round costs is no evidence
    return {
        "round": context.round.number,
        "rounds_left": max(context.settings.rounds - context.round.number, 0),
        "why_now": why,
        "stages_left": max(context.settings.most_stages - context.state.stages, 0),
        "head": head_card(context, context.head) | {"stage": context.round.stage},
        "history": [_past(context, row) for row in context.state.history],
    }


def _past(context: SessionContext, row: HistoryRow) -> dict[str, Any]:
    """A past decision; its reason is somebody's words unless code decided."""
    told = row.model_dump(exclude={"reason", "decided_by"})
    if row.decided_by == "code":
        return told | {"reason": row.reason}
    return told | said(context, row.decided_by, row.reason, "decisions", context.row_id(f"R{row.round}"))


def _diagnosis(context: SessionContext) -> dict[str, Any] | None:
    """What the Critic said, with its marks; None without a diagnosis."""
    diagnosis, identity = context.round.diagnosis, context.round.diagnosis_id
    if diagnosis is None or identity is None:
        return None
    return said(context, "critic", diagnosis.model_dump(mode="json", exclude_none=True), "diagnoses", identity)


def _critic(context: SessionContext) -> dict[str, Any]:
    return _stage_card(context) | {"earlier_sessions": earlier_attempts(context)}


def _generator(context: SessionContext) -> dict[str, Any]:
    card = _stage_card(context)
    evidence = context.round.evidence_summary
    return {
        "round": card["round"],
        "refinement": context.state.refinement,
        "head": card["head"],
        "earlier_sessions": earlier_attempts(context),
        "diagnosis": _diagnosis(context),
        "tried": [
            {
                "round": tried.round,
                "candidate": tried.candidate,
                "shaping": shaping_card(tried.shaping),
                "outcome": tried.outcome,
                "measure": tried.measure,
                "difference": rounded(tried.difference),
                **({} if tried.source is None else {"proposed_by": tried.source}),
            }
            for tried in context.state.tried
        ],
        "your_forecasts": own_forecasts(context, "generator"),
        "feedback": _feedback(context),
        "evidence": None if evidence is None else json.loads(evidence),
    }


def _feedback(context: SessionContext) -> dict[str, Any] | None:
    """The results of the previous refinement's branches; None in the first."""
    if not context.round.verdicts:
        return None
    verdict = context.round.verdicts[-1]
    screen = next((each for each in reversed(context.round.screens) if each.refinement == verdict.refinement), None)
    ranking = (
        []
        if screen is None
        else [
            {
                "candidate": name,
                "shaping_text": shaping_text(context.round.candidate(name).shaping.canonical()),
                "difference": rounded(difference),
                "measure": screen.measure,
            }
            for name, difference in screen.differences.items()
        ]
    )
    return {
        "outcome": verdict.outcome,
        "candidate": verdict.candidate,
        "reason": verdict.reason,
        **said(context, "validator", verdict.reading, "verdicts", verdict.id),
        "screen": ranking,
    }


def _validator(context: SessionContext) -> dict[str, Any]:
    order = context.round.sent_back
    candidates, refinement = context.round.proposals[-1].candidates, context.state.refinement
    screens = [screen_card(context, each) for each in context.round.screens if each.refinement == refinement]
    return {
        "round": context.round.number,
        "refinement": refinement,
        "candidates": [candidate_card(context, candidate) for candidate in candidates],
        "screens": screens,
        "values_are": values_are(context),
        "confirmation": offer(context),
        "coordinator_asks": None if order is None else {"candidate": order.candidate} | _order(context, order.reason),
        "head": head_card(context, context.head),
    } | further_card(context)


def _order(context: SessionContext, reason: str) -> dict[str, Any]:
    """Why the Coordinator sent the round back, with its marks."""
    events = context.ledger.find("events", session_id=context.session, round=context.round.number, kind="sent_back")
    return said(context, "coordinator", reason, "events", str(events[-1]["seq"]))


def _coordinator(context: SessionContext) -> dict[str, Any]:
    regression = context.round.regression
    return _stage_card(context) | {
        "diagnosis": _diagnosis(context),
        "proposals": [
            [candidate_card(context, candidate) for candidate in proposal.candidates]
            for proposal in context.round.proposals
        ],
        "screens": screens_told(context),
        "verdicts": verdicts_told(context),
        "values_are": values_are(context),
        "asked": questions_asked(context),
        "given_up": given_up(context),
        "probation": None
        if regression is None
        else {
            "outcome": "regressed",
            "round": regression.round,
            "candidate": regression.candidate,
            "reason": regression.reason,
        },
        "allowed": allowed_actions(context),
        "promotable": context.round.promotable,
        "confirmable": list(still_confirmable(context)),
        "confirmation": offer(context),
        "questions_left": context.settings.deliberation.questions - context.round.questions,
        "may_be_asked": may_be_asked(context),
    }
