"""Who speaks in a session: each role with its backend, its prompt and its tools."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from autogen_core.models import ChatCompletionClient

from agents.backends import agent_client
from agents.guard import Limits
from agents.prices import price_of
from agents.prompts import ROLE_VARIABLES, Prompt, render
from agents.recording import CallContext
from agents.schemas import tool_schema
from agents.specs import parse_spec, read_key
from agents.workbench import ToolWorkbench
from ledger.canonical import content_hash
from ledger.origin import is_ours, remember
from ledger.sessions import now
from marl.shaping.config import MAX_BETA, MAX_TERMS, MAX_WEIGHT
from marl.shaping.expression import GRAMMAR
from marl.tasks.base import Feature, TaskSpec
from tools.briefs import good_rise
from tools.budget import Budget
from tools.configuration import SessionSettings
from tools.contracts import ROLES, Role
from tools.desk import Desk
from tools.spending import afford
from tools.toolbox import toolbox

_BEHAVIOUR = (
    "`summarize_trajectories` describes what\n   HEAD does: features over episode time, by outcome, by agent, their "
    "correlation with success, use of actions, episodes."
)
_NO_BEHAVIOUR = "There are no summaries of\n   behaviour in this session: metrics are all the evidence."


@dataclass(frozen=True)
class Speaker:
    """One agent of a session."""

    role: Role
    client: ChatCompletionClient
    prompt: Prompt
    workbench: ToolWorkbench
    ending_tools: tuple[str, ...]
    """The tools its phase ends with."""


def build_cast(desk: Desk, context: CallContext) -> dict[Role, Speaker]:
    """The four speakers over one desk; who they are is written to the ledger where it is new or has changed.

    Raises ``SpecError`` or ``PromptError`` with one sentence if one cannot be built.
    """
    cast = {role: _speaker(desk, role, context) for role in ROLES}
    with desk.ledger.transaction("agents"):
        ours = is_ours(desk.ledger.rows, desk.session)
        for role, speaker in cast.items():
            _record(desk, role, speaker)
        if ours:  # with the backends that are new it still is
            remember(desk.ledger.rows, desk.session)
    return cast


def secrets_of(settings: SessionSettings, environment: Mapping[str, str] = os.environ) -> list[str]:
    """The keys this session's backends use, which must never be written. ``SpecError`` where one is missing."""
    keys = (read_key(parse_spec(spec), environment) for spec in settings.agents.values())
    return [key for key in keys if key]


def _speaker(desk: Desk, role: Role, context: CallContext) -> Speaker:
    tools = toolbox(desk, role)
    limits = desk.settings.deliberation
    spec = parse_spec(desk.settings.agents[role])

    def afford_call(tokens: int, usd: float) -> None:
        afford(desk, f"the next call of the {role}", tokens=tokens, usd=usd)

    client = agent_client(
        spec, role, ledger=desk.ledger, session_id=desk.session, context=context,
        limits=Limits(deadline=limits.deadline), price=price_of(spec, desk.settings.prices),
        afford=None if desk.state.budget == Budget() else afford_call,
    )

    def next_evidence_id() -> str:
        desk.state.evidence += 1
        return f"E{desk.state.evidence}"

    def note_done(ended_by: str | None) -> None:
        desk.state.ended_by = ended_by or desk.state.ended_by
        desk.ledger.save_cursor(desk.session, desk.state.model_dump(mode="json"))

    workbench = ToolWorkbench(
        tools, ledger=desk.ledger, session_id=desk.session, agent=role, context=context,
        next_evidence_id=next_evidence_id,
        on_done=note_done,
    )
    return Speaker(
        role=role, client=client, prompt=render(role, _variables(desk, role)), workbench=workbench,
        ending_tools=tuple(tool.name for tool in tools if tool.ends_phase),
    )


def _record(desk: Desk, role: Role, speaker: Speaker) -> None:
    spec, source = desk.settings.agents[role], desk.settings.agent_sources[role]
    known = desk.ledger.find("agents", session_id=desk.session, role=role)
    if known and (known[-1]["spec"], known[-1]["prompt"]) == (spec, content_hash(speaker.prompt.text)):
        return
    schemas = [tool_schema(tool) for tool in toolbox(desk, role)]
    desk.ledger.add(
        "agents", session_id=desk.session, role=role, spec=spec, source=source, prompt=speaker.prompt.text,
        tools=schemas, since=now(),
    )


def _variables(desk: Desk, role: Role) -> dict[str, object]:
    settings, gate = desk.settings, desk.settings.gate
    every: dict[str, object] = {
        "task": _task(desk.task),
        "features": "\n".join(_feature(feature) for feature in desk.task.features),
        "limits": " ".join([
            f"At most {MAX_TERMS} terms; each weight between -{MAX_WEIGHT:g} and {MAX_WEIGHT:g} and not 0;",
            f"beta between 0 and {MAX_BETA:g}.", GRAMMAR,
        ]),
        "gate": " ".join([
            f"Screen: every candidate and the control on {gate.screen_seeds} paired seeds of",
            f"{desk.screen_horizon:,} env steps{_rungs(desk)}. Confirm: the best candidate and the control on",
            *_confirmation(desk),
        ]),
        "behaviour": _BEHAVIOUR if settings.deliberation.behaviour else _NO_BEHAVIOUR,
        "good_rise": f"{good_rise(desk):.3g}",
        "steps": settings.deliberation.steps,
        "candidates": settings.deliberation.candidates,
        "questions": settings.deliberation.questions,
    }
    return {name: every[name] for name in ROLE_VARIABLES[role]}


def _rungs(desk: Desk) -> str:
    """How the screen is halved, in words; nothing where it is not."""
    if len(desk.rungs) == 1:
        return ""
    ends = ", ".join(f"{end:,}" for end in desk.rungs)
    return f", in {len(desk.rungs)} rungs that end at {ends}: after each but the last the better half goes on"


def _confirmation(desk: Desk) -> list[str]:
    """How a confirmation is judged, in words."""
    gate, max_return = desk.settings.gate, desk.task.max_return
    if gate.rule == "single run":
        return [
            "the run that was screened. Pass: its sparse return beats the control's by more than",
            f"{gate.single_run_margin * max_return:g}. Nothing is tested.",
        ]
    fresh = f"{gate.confirm_seeds} fresh paired seeds of {desk.horizon:,} env steps."
    if gate.rule == "always":
        return [fresh, "The gate is off: whatever is measured, a candidate passes whose training did not fail."]
    alpha = gate.shared_alpha(desk.settings.confirmations)
    family = "" if gate.family_alpha is None else (
        f" (all {desk.settings.confirmations} confirmations of the session share {gate.family_alpha:g})"
    )  # fmt: skip
    return [
        fresh,
        f"Pass: the mean paired difference exceeds delta ({gate.delta * max_return:g} of sparse return,",
        f"{gate.delta_progress:g} of progress) and the exact one-sided permutation test has p <= {alpha:.3g}{family}.",
        "Fail: the interval of the difference lies at or below delta. Otherwise inconclusive.",
        f"While every arm's sparse return is below the floor ({gate.floor * max_return:g}),",
        "the task declares no progress to judge instead, and every verdict is inconclusive."
        if desk.task.progress is None else "progress is judged instead.",
    ]


def _task(task: TaskSpec) -> str:
    progress = task.progress or "this task declares none."
    return (
        f"{task.name}: {task.description} {task.agents} agents, episodes of at most {task.horizon} steps. "
        f"Actions: {_actions(task)}. "
        f"Sparse reward: {task.sparse_reward} Progress: {progress}"
    )


def _actions(task: TaskSpec) -> str:
    kind = "numbers in [-1, 1]" if task.continuous else "one of"
    named = [f"{kind} {', '.join(task.action_names[: group.actions])}" for group in task.groups]
    if len(named) == 1:
        return named[0]
    groups = zip(task.groups, named, strict=True)
    return "; ".join(f"{group.name} (agents {', '.join(map(str, group.agents))}): {names}" for group, names in groups)


def _feature(feature: Feature) -> str:
    better = "no direction is better" if feature.direction is None else f"{feature.direction} is better"
    return (
        f"* `{feature.name}` ({feature.scope}, {feature.low:g} to {feature.high:g}, {better}): {feature.description}"
    )
