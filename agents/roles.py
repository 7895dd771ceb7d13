"""Who speaks in a session: each role with its backend, its prompt and its tools."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from autogen_core.models import ChatCompletionClient

from learning_signal.agents.model.backends import address_of
from learning_signal.agents.model.call import IN_THEIR_OWN_TIME, CallContext, Limits
from learning_signal.agents.model.keys import read_secrets
from learning_signal.agents.model.prices import price_of
from learning_signal.agents.model.providers.registry import EMBEDDED, entry_of
from learning_signal.agents.model.providers.spec import BackendSpec
from learning_signal.agents.model.specs import parse_chain, parse_spec
from learning_signal.agents.model.stack.client import AgentClient, agent_client
from learning_signal.agents.prompts import ROLE_VARIABLES, Prompt, render
from learning_signal.agents.workbench import ToolWorkbench
from learning_signal.ledger.canonical import content_hash
from learning_signal.ledger.origin import is_ours, remember
from learning_signal.ledger.write.clock import now
from learning_signal.tools.briefs.facts import facts_text
from learning_signal.tools.context import SessionContext
from learning_signal.tools.plan.budget import Budget
from learning_signal.tools.plan.settings import SessionSettings
from learning_signal.tools.roles import ROLES, Role
from learning_signal.tools.spending import afford
from learning_signal.tools.toolbox import toolbox

FALLBACK = "fallback"
"""The source of a backend that takes over from another."""
_BEHAVIOUR: dict[Role, str] = {
    "critic": (
        "`summarize_trajectories` has further parts of what HEAD does, `show_episode` one episode; with `R1/c2` as "
        "source they tell what a candidate of round 1 learnt. `preview_shaping` checks a shaping you would advise on "
        "HEAD's episodes: whether Phi falls where reward is earned, or a term pays for the wrong direction. It is no "
        "oracle of learning."
    ),
    "generator": (
        "`summarize_trajectories` and `show_episode` tell what HEAD does, and with `R1/c2` or a branch such as `B3` as "
        "source what a candidate learnt, `against` the control. `preview_shaping` checks what you claim of a shaping "
        "on HEAD's episodes; it is no oracle of learning."
    ),
    "validator": (
        "`confirm` also tells the `training` of both arms and what the candidate's agents do `against` the control's. "
        "Where a gain still needs an explanation, `summarize_trajectories` with a branch such as `B3` as source tells "
        "more."
    ),
}
"""What the roles that look at behaviour are told of it."""
_NO_BEHAVIOUR = "There are no summaries of behaviour in this session: metrics are all the evidence."


@dataclass(frozen=True)
class Agent:
    """One backend of one role in a session, with what all backends of the role share."""

    role: Role
    client: ChatCompletionClient
    prompt: Prompt
    workbench: ToolWorkbench
    ending_tools: tuple[str, ...]
    """The tools its phase ends with."""
    spec: BackendSpec
    """Its backend."""
    stored: str
    """What the log has for its backend: the whole chain as it was given, or the spec of one that takes over."""
    source: str
    """Where that came from; ``FALLBACK`` where it takes over from another backend."""

    @property
    def embedded(self) -> bool:
        """Whether code is behind it: no model, and no person."""
        return self.spec.provider in EMBEDDED and not entry_of(self.spec).person


MakeClient = Callable[..., AgentClient]
"""Makes the client of an agent; called as ``agent_client`` is."""


def build_chains(
    context: SessionContext, call_context: CallContext, make_client: MakeClient = agent_client
) -> dict[Role, tuple[Agent, ...]]:
    """The agents of every role over one context, in the order of its chain.

    Raises ``SpecError`` or ``PromptError`` with one sentence if one cannot be built.
    """
    return {role: tuple(_chain(context, role, call_context, make_client)) for role in ROLES}


def secrets_of(settings: SessionSettings, environment: Mapping[str, str] = os.environ) -> list[str]:
    """The keys this session's backends use, which must never be written.

    ``SpecError`` where one is missing, or where an address of the environment cannot be used.
    """
    every = [*settings.agents.values(), *settings.shadows.values()]
    specs = [spec for text in every for spec in parse_chain(text)]
    for spec in specs:
        address_of(spec, environment)
    return [secret for spec in specs for secret in read_secrets(spec, environment)]


def _chain(context: SessionContext, role: Role, call_context: CallContext, make_client: MakeClient) -> Iterator[Agent]:
    text, source = context.settings.agents[role], context.settings.agent_sources[role]
    prompt, workbench = render(role, _variables(context, role)), _workbench(context, role, call_context)
    for place, spec in enumerate(parse_chain(text)):
        yield Agent(
            role=role,
            client=_client(context, role, call_context, spec, make_client),
            prompt=prompt,
            workbench=workbench,
            ending_tools=tuple(tool.name for tool in workbench.tools if tool.ends_phase),
            spec=spec,
            stored=text if place == 0 else spec.text,
            source=source if place == 0 else FALLBACK,
        )


def _client(
    context: SessionContext, role: Role, call_context: CallContext, spec: BackendSpec, make_client: MakeClient
) -> AgentClient:
    deadline = context.settings.deliberation.deadline
    beside = context.settings.shadows.get(role)
    shadow = None if beside is None else parse_spec(beside)
    limits, person = Limits(first_timeout=deadline, deadline=deadline), entry_of(spec).person

    def afford_call(tokens: int, usd: float) -> None:
        afford(context, f"the next call of the {role}", tokens=tokens, usd=usd)

    return make_client(
        spec,
        role,
        ledger=context.ledger,
        session_id=context.session,
        context=call_context,
        limits=IN_THEIR_OWN_TIME if person else limits,
        price=price_of(spec, context.settings.prices),
        afford=None if person or context.state.budget == Budget() else afford_call,
        shadow=shadow,
        shadow_price=None if shadow is None else price_of(shadow, context.settings.prices),
    )


def _workbench(context: SessionContext, role: Role, call_context: CallContext) -> ToolWorkbench:
    def next_evidence_id() -> str:
        context.state.evidence += 1
        return f"E{context.state.evidence}"

    def note_done(ended_by: str | None) -> None:
        context.state.ended_by = ended_by or context.state.ended_by
        context.ledger.save_cursor(context.session, context.state.model_dump(mode="json"))

    return ToolWorkbench(
        toolbox(context, role),
        ledger=context.ledger,
        session_id=context.session,
        agent=role,
        call_context=call_context,
        next_evidence_id=next_evidence_id,
        on_done=note_done,
        calls=lambda: context.state.calls,
    )


def note_speaker(context: SessionContext, agent: Agent) -> None:
    """Write down who speaks in a role from now on, where that is another than before. Belongs in a transaction."""
    known = context.ledger.find("agents", session_id=context.session, role=agent.role)
    if known and (known[-1]["spec"], known[-1]["prompt"]) == (agent.stored, content_hash(agent.prompt.text)):
        return
    ours = is_ours(context.ledger.rows, context.session)
    context.ledger.add(
        "agents",
        session_id=context.session,
        role=agent.role,
        spec=agent.stored,
        source=agent.source,
        prompt=agent.prompt.text,
        tools=agent.workbench.schemas,
        since=now(),
    )
    if ours:  # it still is, with the new backend
        remember(context.ledger.rows, context.session)


def _variables(context: SessionContext, role: Role) -> dict[str, object]:
    settings, gate = context.settings, context.settings.gate
    every: dict[str, object] = {
        "facts": facts_text(context, role),
        "gate": " ".join(
            [
                f"Screen: every candidate and the control on {gate.screen_seeds} paired seeds of",
                f"{context.screen_steps:,} env steps{_rungs(context)}. Confirm: one candidate and the control on",
                _confirmation(context),
            ]
        ),
        "behaviour": _BEHAVIOUR.get(role, "") if settings.deliberation.behaviour else _NO_BEHAVIOUR,
        "steps": settings.deliberation.steps,
        "questions": settings.deliberation.questions,
    }
    return {name: every[name] for name in ROLE_VARIABLES[role]}


def _rungs(context: SessionContext) -> str:
    """How the screen is halved, in words; nothing where it is not."""
    if len(context.rungs) == 1:
        return ""
    ends = ", ".join(f"{end:,}" for end in context.rungs)
    return f", in {len(context.rungs)} rungs that end at {ends}: after each but the last the better half goes on"


def _confirmation(context: SessionContext) -> str:
    """How a confirmation is judged, in words."""
    gate, task = context.settings.gate, context.task
    confirmations, progress = context.settings.confirmations, task.progress is not None
    return gate.judge.describe(gate, context.branch_steps, task.largest_return, confirmations, progress)
