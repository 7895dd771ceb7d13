"""The brief of each agent at the start of its phase: a heading and one JSON object from the session's state."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from learning_signal.ledger.read.forecasts import UNINFORMED, forecasts_of, records_of
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.wording import shaping_text
from learning_signal.marl.shaping import ShapingConfig
from learning_signal.marl.shaping.config import MAX_BETA, MAX_TERMS, MAX_WEIGHT
from learning_signal.marl.shaping.expression import FUNCTIONS, MAX_NODES
from learning_signal.marl.tasks.base import TaskSpec
from learning_signal.tools.base import rounded
from learning_signal.tools.context import SessionContext
from learning_signal.tools.contracts import Candidate
from learning_signal.tools.roles import Role
from learning_signal.tools.round.confirmations import next_level, offer
from learning_signal.tools.round.decisions import allowed_actions, may_be_asked, still_confirmable
from learning_signal.tools.round.evidence import lineage
from learning_signal.tools.stage import StageLabel, stage_label
from learning_signal.tools.state import Head
from learning_signal.tools.trainer import final_evaluation

LAST_FORECASTS = 4
"""Of an agent's own forecasts, with what was measured, in its brief."""
HEADINGS: dict[Role, str] = {
    "critic": "Diagnose this run.",
    "generator": "Propose shaping candidates for this run.",
    "validator": "Validate these candidates.",
    "coordinator": "Decide this round.",
}


def brief(context: SessionContext, role: Role) -> str:
    """The task message of a phase."""
    contents = {"critic": _critic, "generator": _generator, "validator": _validator, "coordinator": _coordinator}
    return f"{HEADINGS[role]}\n{json.dumps(contents[role](context))}"


def stage_of(context: SessionContext) -> StageLabel:
    """The label of the present stage, from the query evaluations of the main run."""
    points = [
        (evaluation.env_steps, evaluation.sparse_return, evaluation.mean_progress)
        for result in lineage(context)
        for evaluation in result.evaluations_of("query")
    ]
    return stage_label(points, context.task.largest_return, context.settings.gate.floor)


def task_card(context: SessionContext) -> dict[str, Any]:
    """The task in words and sizes."""
    task = context.task
    return {
        "name": task.name,
        "description": task.description,
        "sparse_reward": task.sparse_reward,
        "progress": task.progress,
        "max_return": task.max_return,
        "agents": task.agents,
        "horizon": task.horizon,
        "actions_are": "numbers in [-1, 1]" if task.continuous else "choices",
        "groups": [
            {"name": group.name, "agents": list(group.agents), "actions": list(task.action_names[: group.actions])}
            for group in task.groups
        ],
    }


def good_rise(context: SessionContext) -> float:
    """``rise_on`` the task of this session with its learner's discount."""
    return rise_on(context.task, context.settings.run.learner.discount)


def rise_on(task: TaskSpec, discount: float) -> float:
    """The rise of ``beta * Phi`` over a good episode: a tenth of the return within reach.

    Within reach is ``max_return``, or in episodes longer than the discount's horizon of ``1 / (1 - gamma)`` steps the
    share of it that falls within that horizon. With MAPPO on `foraging` (8x8-2p-2f-coop, max_return 1, distance to a
    common food, 4 or 5 seeds) a rise of 0.1 reaches 0.9 in about half the env steps of no shaping, one of 0.4 is as
    fast and often falls back, and one of 1.6 stays near a half.
    """
    reach = 1.0 if discount == 1 else min(1.0, 1 / ((1 - discount) * task.horizon))
    return 0.1 * reach * task.largest_return


def features_card(context: SessionContext) -> list[dict[str, Any]]:
    """The declared features: all that shaping may use."""
    return [asdict(feature) for feature in context.task.features]


def head_card(context: SessionContext, head: Head) -> dict[str, Any]:
    """Where a head stands, measured on the query episodes."""
    evaluation = final_evaluation(context.trainer.stored(head.segment), "query")
    return {
        "env_steps": head.env_steps,
        "sparse_return": rounded(evaluation.sparse_return),
        "progress": rounded(evaluation.mean_progress),
        "max_return": context.task.max_return,
        "shaping": _shaping(head.shaping),
        "shaping_text": shaping_text(head.shaping.canonical()),
    }


def _stage_card(context: SessionContext) -> dict[str, Any]:
    history = [row.model_dump() for row in context.state.history]
    last = context.state.history[-1] if context.state.history else None
    return {
        "round": context.round.number,
        "rounds_left": max(context.settings.rounds - context.round.number, 0),
        "why_now": None if context.round.why_now is None else context.round.why_now.model_dump(),
        "stages_left": max(context.settings.most_stages - context.state.stages, 0),
        "task": task_card(context),
        "features": features_card(context),
        "head": head_card(context, context.head) | {"stage": context.round.stage},
        "history": history,
        "last_change": None if last is None else f"round {last.round}: {last.action}. {last.reason}",
        "lengths": {
            "stage_steps": context.stage_steps,
            "branch_steps": context.branch_steps,
            "screen_steps": context.screen_steps,
            "evidence_tokens": context.settings.deliberation.evidence_tokens,
        },
        "gate": _gate(context),
    }


def _critic(context: SessionContext) -> dict[str, Any]:
    return _stage_card(context)


def _generator(context: SessionContext) -> dict[str, Any]:
    card = _stage_card(context)
    evidence = context.round.evidence_summary
    return {
        "round": card["round"],
        "refinement": context.state.refinement,
        "candidates_wanted": context.settings.deliberation.candidates,
        "task": card["task"],
        "features": card["features"],
        "head": card["head"],
        "lengths": card["lengths"],
        "gate": card["gate"],
        "diagnosis": None if context.round.diagnosis is None else context.round.diagnosis.model_dump(mode="json"),
        "tried": [
            {
                "round": tried.round,
                "candidate": tried.candidate,
                "shaping": _shaping(tried.shaping),
                "shaping_text": shaping_text(tried.shaping.canonical()),
                "outcome": tried.outcome,
                "measure": tried.measure,
                "difference": rounded(tried.difference),
            }
            for tried in context.state.tried
        ],
        "your_forecasts": _own_forecasts(context, "generator"),
        "feedback": _feedback(context),
        "limits": {
            "terms": MAX_TERMS,
            "weight": MAX_WEIGHT,
            "beta": MAX_BETA,
            "nodes": MAX_NODES,
            "functions": sorted(FUNCTIONS),
        },
        "good_rise": rounded(good_rise(context)),
        "evidence": None if evidence is None else json.loads(evidence),
    }


def _own_forecasts(context: SessionContext, role: Role) -> dict[str, Any] | None:
    """The record of a role on its present backend in this session; None before any of its forecasts is scored."""
    with Reader.open(context.ledger.path) as reader:
        backend = next((each.spec for each in reversed(reader.agents(context.session)) if each.role == role), None)
        made = forecasts_of(reader, context.session)
    made = [each for each in made if (each.role, each.backend) == (role, backend)]
    scored = [each for each in made if each.difference is not None]
    if not scored:
        return None
    (record,) = records_of(made)
    return {
        "n": record.n,
        "brier": rounded(record.brier),
        "always_saying_half": UNINFORMED,
        "calibration": [
            {"said": rounded(each.mean_probability), "came_true": rounded(each.share_true), "n": each.n}
            for each in record.calibration
        ],
        "last": [
            {
                "round": each.round,
                "candidate": each.candidate,
                "measure": each.measure,
                "change": rounded(each.change),
                "probability": rounded(each.probability),
                "difference": rounded(each.difference),
            }
            for each in scored[-LAST_FORECASTS:]
        ],
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
        "reading": verdict.reading,
        "screen": ranking,
    }


def _validator(context: SessionContext) -> dict[str, Any]:
    candidates = context.round.proposals[-1].candidates
    return {
        "round": context.round.number,
        "refinement": context.state.refinement,
        "candidates": [_candidate(candidate) for candidate in candidates],
        "control": "control",
        "control_shaping_text": shaping_text(context.head.shaping.canonical()),
        "screen_needed": len(candidates) > 1,
        "gate": _gate(context),
        "branch_steps": context.branch_steps,
        "screen_steps": context.screen_steps,
        "confirmation": offer(context),
        "coordinator_asks": None if context.round.sent_back is None else context.round.sent_back.model_dump(),
        "max_return": context.task.max_return,
        "head": head_card(context, context.head),
    }


def _coordinator(context: SessionContext) -> dict[str, Any]:
    card = _stage_card(context)
    diagnosis = context.round.diagnosis
    regression = context.round.regression
    return card | {
        "diagnosis": None if diagnosis is None else diagnosis.model_dump(mode="json"),
        "proposals": [
            [_candidate(candidate) for candidate in proposal.candidates] for proposal in context.round.proposals
        ],
        "screens": [
            {name: {measure: rounded(gain) for measure, gain in gains.items()} for name, gains in screen.gains.items()}
            for screen in context.round.screens
            if screen.goes_on is None
        ],
        "verdicts": [
            verdict.model_dump(mode="json", exclude={"id", "comparison", "size"}) for verdict in context.round.verdicts
        ],
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


def _gate(context: SessionContext) -> dict[str, Any]:
    """The gate's parameters; alpha is the level of the next confirmation."""
    gate = context.settings.gate
    alpha = next_level(context) if gate.judge.sequential else gate.shared_alpha(context.settings.confirmations)
    return gate.model_dump(mode="json") | {"alpha": alpha}


def _candidate(candidate: Candidate) -> dict[str, Any]:
    return {
        "name": candidate.name,
        "shaping": _shaping(candidate.shaping),
        "shaping_text": shaping_text(candidate.shaping.canonical()),
        "rationale": candidate.rationale,
        "forecast": candidate.forecast.model_dump(),
    }


def _shaping(shaping: ShapingConfig) -> dict[str, Any]:
    return shaping.model_dump(mode="json")
