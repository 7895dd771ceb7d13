"""What each agent is told at the start of its phase: a heading and one JSON object, built from the session's state."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from marl.shaping import ShapingConfig
from marl.shaping.config import MAX_BETA, MAX_TERMS, MAX_WEIGHT
from marl.shaping.expression import FUNCTIONS, MAX_NODES
from marl.stage import stage_label
from marl.tasks.base import TaskSpec
from tools.base import rounded
from tools.contracts import Candidate, Role
from tools.decisions import allowed_actions
from tools.desk import Desk
from tools.evidence import lineage
from tools.state import Head
from tools.trainer import final_evaluation

HEADINGS: dict[Role, str] = {
    "critic": "Diagnose this run.",
    "generator": "Propose shaping candidates for this run.",
    "validator": "Validate these candidates.",
    "coordinator": "Decide this round.",
}


def brief(desk: Desk, role: Role) -> str:
    """The task message of a phase."""
    contents = {"critic": _critic, "generator": _generator, "validator": _validator, "coordinator": _coordinator}
    return f"{HEADINGS[role]}\n{json.dumps(contents[role](desk))}"


def stage_of(desk: Desk) -> str:
    """The label of the present stage, from the query evaluations of the main run."""
    points = [
        (evaluation.env_steps, evaluation.sparse_return, evaluation.mean_progress)
        for result in lineage(desk) for evaluation in result.evaluations_of("query")
    ]
    return stage_label(points, desk.task.max_return, desk.settings.gate.floor)


def task_card(desk: Desk) -> dict[str, Any]:
    """The task in words and sizes."""
    task = desk.task
    return {
        "name": task.name, "description": task.description, "sparse_reward": task.sparse_reward,
        "progress": task.progress, "max_return": task.max_return, "agents": task.agents, "horizon": task.horizon,
        "actions_are": "numbers in [-1, 1]" if task.continuous else "choices",
        "groups": [
            {"name": group.name, "agents": list(group.agents), "actions": list(task.action_names[: group.actions])}
            for group in task.groups
        ],
    }


def good_rise(desk: Desk) -> float:
    """``rise_on`` the task of this session with its learner's discount."""
    return rise_on(desk.task, desk.settings.run.learner.discount)


def rise_on(task: TaskSpec, discount: float) -> float:
    """What ``beta * Phi`` may rise by over an episode that goes well: a tenth of what can be earned meanwhile.

    That is ``max_return``, or its part that is in the discount's reach of ``1 / (1 - gamma)`` steps where episodes are
    longer. With MAPPO on `foraging` (8x8-2p-2f-coop, max_return 1, distance to a common food, 4 or 5 seeds) a rise
    of 0.1 takes about half as many env steps to 0.9 as no shaping does, one of 0.4 is as fast and often falls back, and
    one of 1.6 stays near a half.
    """
    reach = 1.0 if discount == 1 else min(1.0, 1 / ((1 - discount) * task.horizon))
    return 0.1 * reach * task.max_return


def features_card(desk: Desk) -> list[dict[str, Any]]:
    """The declared features: all that shaping may use."""
    return [asdict(feature) for feature in desk.task.features]


def head_card(desk: Desk, head: Head) -> dict[str, Any]:
    """Where a head stands, measured on the query episodes."""
    evaluation = final_evaluation(desk.trainer.stored(head.segment), "query")
    return {
        "env_steps": head.env_steps, "sparse_return": rounded(evaluation.sparse_return),
        "progress": rounded(evaluation.mean_progress), "max_return": desk.task.max_return,
        "shaping": _shaping(head.shaping), "shaping_text": head.shaping.describe(),
    }


def _stage_card(desk: Desk) -> dict[str, Any]:
    history = [row.model_dump() for row in desk.state.history]
    last = desk.state.history[-1] if desk.state.history else None
    return {
        "round": desk.round.number, "rounds_left": max(desk.settings.rounds - desk.round.number, 0),
        "why_now": None if desk.round.why_now is None else desk.round.why_now.model_dump(),
        "stages_left": max(desk.settings.most_stages - desk.state.stages, 0),
        "task": task_card(desk), "features": features_card(desk),
        "head": head_card(desk, desk.state.head) | {"stage": desk.round.stage},
        "history": history,
        "last_change": None if last is None else f"round {last.round}: {last.action}. {last.reason}",
        "budget": {
            "stage_steps": desk.stage_steps, "horizon": desk.horizon, "screen_horizon": desk.screen_horizon,
            "evidence_tokens": desk.settings.deliberation.evidence_tokens,
        },
        "gate": _gate(desk),
    }


def _critic(desk: Desk) -> dict[str, Any]:
    return _stage_card(desk)


def _generator(desk: Desk) -> dict[str, Any]:
    card = _stage_card(desk)
    evidence = desk.round.evidence_summary
    return {
        "round": card["round"], "refinement": desk.state.refinement,
        "candidates_wanted": desk.settings.deliberation.candidates, "task": card["task"],
        "features": card["features"], "head": card["head"], "budget": card["budget"], "gate": card["gate"],
        "diagnosis": None if desk.round.diagnosis is None else desk.round.diagnosis.model_dump(mode="json"),
        "tried": [
            {
                "round": tried.round, "candidate": tried.candidate, "shaping": _shaping(tried.shaping),
                "shaping_text": tried.shaping.describe(), "outcome": tried.outcome, "rule": tried.rule,
                "difference": rounded(tried.difference),
            }
            for tried in desk.state.tried
        ],
        "feedback": _feedback(desk),
        "limits": {
            "terms": MAX_TERMS, "weight": MAX_WEIGHT, "beta": MAX_BETA, "nodes": MAX_NODES,
            "functions": sorted(FUNCTIONS),
        },
        "good_rise": rounded(good_rise(desk)),
        "evidence": None if evidence is None else json.loads(evidence),
    }


def _feedback(desk: Desk) -> dict[str, Any] | None:
    """What the branches of the refinement before said; None in the first."""
    if not desk.round.verdicts:
        return None
    verdict = desk.round.verdicts[-1]
    screen = next((each for each in desk.round.screens if each.refinement == verdict.refinement), None)
    ranking = [] if screen is None else [
        {
            "candidate": name, "shaping_text": desk.round.candidate(name).shaping.describe(),
            "difference": rounded(difference), "measure": screen.measure,
        }
        for name, difference in screen.differences.items()
    ]
    return {
        "outcome": verdict.outcome, "candidate": verdict.candidate, "reason": verdict.reason,
        "reading": verdict.reading, "screen": ranking,
    }


def _validator(desk: Desk) -> dict[str, Any]:
    candidates = desk.round.proposals[-1].candidates
    return {
        "round": desk.round.number, "refinement": desk.state.refinement,
        "candidates": [_candidate(candidate) for candidate in candidates], "control": "control",
        "control_shaping_text": desk.state.head.shaping.describe(), "screen_needed": len(candidates) > 1,
        "gate": _gate(desk), "horizon": desk.horizon,
        "screen_horizon": desk.screen_horizon, "max_return": desk.task.max_return,
        "head": head_card(desk, desk.state.head),
    }


def _coordinator(desk: Desk) -> dict[str, Any]:
    card = _stage_card(desk)
    diagnosis = desk.round.diagnosis
    regression = desk.round.regression
    return card | {
        "diagnosis": None if diagnosis is None else diagnosis.model_dump(mode="json"),
        "proposals": [
            [_candidate(candidate) for candidate in proposal.candidates] for proposal in desk.round.proposals
        ],
        "verdicts": [verdict.model_dump(mode="json", exclude={"id"}) for verdict in desk.round.verdicts],
        "probation": None if regression is None else {
            "outcome": "regressed", "round": regression.round, "candidate": regression.candidate,
            "reason": regression.reason,
        },
        "allowed": allowed_actions(desk), "promotable": desk.round.promotable,
        "questions_left": desk.settings.deliberation.questions - desk.round.questions,
        "may_be_asked": list(desk.round.records),
    }


def _gate(desk: Desk) -> dict[str, Any]:
    """The gate's parameters; alpha is that of each confirmation."""
    gate = desk.settings.gate
    return gate.model_dump(mode="json") | {"alpha": gate.shared_alpha(desk.settings.confirmations)}


def _candidate(candidate: Candidate) -> dict[str, Any]:
    return {
        "name": candidate.name, "shaping": _shaping(candidate.shaping), "shaping_text": candidate.shaping.describe(),
        "rationale": candidate.rationale, "forecast": candidate.forecast.model_dump(),
    }


def _shaping(shaping: ShapingConfig) -> dict[str, Any]:
    return shaping.model_dump(mode="json")
