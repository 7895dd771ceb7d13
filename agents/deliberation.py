"""One deliberation as a phase machine: who speaks next is code; every step is committed before the next one.

A step is one model call of the phase's agent and the tool calls in its reply. An interrupted step is repeated: its
reply and its finished tool calls are read from the ledger, so the conversation continues unchanged.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import aclosing
from typing import Any

from autogen_agentchat.messages import TextMessage, ThoughtEvent
from autogen_core import CancellationToken
from autogen_core.models import LLMMessage, SystemMessage, UserMessage

from learning_signal.agents.history import History, transcript
from learning_signal.agents.model.call import CallContext
from learning_signal.agents.model.faults import BackendError
from learning_signal.agents.roles import Agent
from learning_signal.agents.workbench import ToolAgent
from learning_signal.tools.base import ToolRefused
from learning_signal.tools.briefs.brief import brief
from learning_signal.tools.context import SessionContext
from learning_signal.tools.contracts import Decision
from learning_signal.tools.plan.cost import round_cost
from learning_signal.tools.roles import Role
from learning_signal.tools.round.confirmations import confirmations_left, first_count
from learning_signal.tools.round.decisions import allowed_actions, decide
from learning_signal.tools.round.record import (
    record_diagnosis,
    record_end_of_round,
    record_phase,
    record_round,
    record_verdict,
)
from learning_signal.tools.round.speculation import settle, speculate
from learning_signal.tools.round.verdicts import computed_verdict, unreported, verdict_id, verdict_record
from learning_signal.tools.spending import afford
from learning_signal.tools.state import Regression, Trigger

ANSWER_LIMIT = 2000
"""Characters of an answer to a question that the Coordinator is shown."""


class Deliberation:
    """The rounds of one session, over its context and its four agents."""

    def __init__(self, context: SessionContext, agents: Mapping[Role, Agent], call_context: CallContext) -> None:
        self.context, self.agents, self.call_context = context, agents, call_context
        context.ask_agent = self.answer

    def open_round(self, stage: str, why_now: Trigger, regression: Regression | None = None) -> None:
        """Begin the next round; one that only undoes a failed promotion goes straight to the Coordinator."""
        record_round(self.context, stage, why_now, regression)
        if regression is not None:
            self._enter("coordinator")
        elif self.context.settings.deliberation.critic:
            self._enter("critic")
        else:
            record_diagnosis(self.context, None)
            self._enter("generator")

    async def step(self) -> None:
        """Take one step of the present phase and commit it.

        Raises ``agents.model.faults.BackendError`` when the agent's backend gives no usable reply,
        ``OutOfBudget`` before anything that does not fit in the budget.
        """
        state = self.context.state
        self._prepare()
        role = state.speaker
        agent = self.agents[role]
        if state.ended_by is not None:  # interrupted between the submission and the commit: it counts once
            agent.workbench.finished = (state.ended_by, "")
        self.call_context.round, self.call_context.phase = state.round_number, role
        # A phase that is entered again, when the round was sent back, is another one: its calls are no repetitions.
        again = f"again{state.again}." if state.again else ""
        self.call_context.step = f"{state.refinement}.{again}{state.step}"
        conversation = ToolAgent(
            role,
            model_client=agent.client,
            workbench=agent.workbench,
            system_message=agent.prompt.text,
            model_context=History(),
            max_tool_iterations=1,
            reflect_on_tool_use=False,
        )
        if state.agent_state is not None:
            await conversation.load_state(state.agent_state)
        message = state.brief if state.step == 0 else state.nudge
        task = None if message is None else TextMessage(content=message, source="session")
        token, text = CancellationToken(), None
        try:
            async with aclosing(conversation.run_stream(task=task, cancellation_token=token)) as stream:
                async for item in stream:
                    if isinstance(item, ThoughtEvent):
                        self._think(item.content)
                    elif isinstance(item, TextMessage) and item.source == role:
                        text = item.content
        finally:
            token.cancel()  # a tool still running would otherwise outlive the step
        if agent.workbench.failure is not None:
            raise agent.workbench.failure
        self._commit(agent, json.loads(json.dumps(await conversation.save_state())), text)

    def _prepare(self) -> None:
        """Before a step: check that the branches of a new round or refinement fit the budget, then start the control.

        So no agent proposes what cannot be tested.
        """
        context, state = self.context, self.context.state
        talk = context.settings.deliberation
        first = state.phase == ("critic" if talk.critic else "generator") and state.refinement == 0
        again = state.phase == "generator" and state.refinement > 0
        if state.step == 0 and (first and context.round.speculated is None or again):
            price = round_cost(context.settings, context.task)
            refined = f"refinement {state.refinement} of round {context.round.number}"
            afford(
                context,
                refined if again else f"round {context.round.number}",
                pieces=2 * first_count(context),
                env_steps=price.refinement if again else price.first,
            )
        if first or state.phase == "generator" and not again:
            speculate(context)
        afford(context, "the next step")

    async def answer(self, role: Role, question: str) -> str:
        """The answer of the agent behind ``role`` to a question about its phase of this round."""
        agent = self.agents[role]
        record = self.context.round.records[role]
        messages: list[LLMMessage] = [
            SystemMessage(content=agent.prompt.text),
            UserMessage(
                content=f"{record}\n\nQUESTION from the coordinator: {question}\nAnswer in at most five sentences of "
                "plain text; call no tool.",
                source="coordinator",
            ),
        ]
        step, self.call_context.step = (
            self.call_context.step,
            f"{self.call_context.step}.question{self.context.round.questions}",
        )
        try:
            reply = await agent.client.create(messages)
        except BackendError as error:
            return f"(The {role} cannot answer: {error})"
        finally:
            self.call_context.step = step
        if not isinstance(reply.content, str):
            return f"(The {role} called a tool instead of answering.)"
        if len(reply.content) > ANSWER_LIMIT:
            return f"{reply.content[:ANSWER_LIMIT]} [cut: {ANSWER_LIMIT} of {len(reply.content)} characters]"
        return reply.content

    def _think(self, thought: str) -> None:
        """Record an agent's reasoning once, also where its step is repeated."""
        context, state = self.context, self.context.state
        if state.thought_in == self.call_context.step:
            return
        with context.ledger.transaction("thought"):
            self._message(state.phase, None, "thought", thought)
            state.thought_in = self.call_context.step
            context.ledger.save_cursor(context.session, state.model_dump(mode="json"))

    def _commit(self, agent: Agent, agent_state: dict[str, Any], text: str | None) -> None:
        context, state = self.context, self.context.state
        with context.ledger.transaction("step"):
            if text is not None:
                self._message(state.phase, None, "text", text)
            state.thought_in, state.seen = None, state.evidence
            state.step += 1
            state.agent_state, state.nudge = agent_state, None
            if state.ended_by is not None:
                self._end_phase(agent_state)
            elif state.step >= context.settings.deliberation.steps:
                self._give_up()
            elif text is not None:
                left = context.settings.deliberation.steps - state.step
                state.nudge = (
                    f"That called no tool. Your phase ends by calling {' or '.join(agent.ending_tools)}; "
                    f"{'1 step is' if left == 1 else f'{left} steps are'} left."
                )
                self._message("session", state.phase, "nudge", state.nudge)
            context.ledger.save_cursor(context.session, state.model_dump(mode="json"))

    def _end_phase(self, agent_state: Mapping[str, Any]) -> None:
        """Move on after a submission. The order of phases is decided here and in ``_give_up``."""
        context, state = self.context, self.context.state
        record_phase(context, state.speaker, transcript(agent_state))
        if state.phase == "critic":
            self._enter("generator")
        elif state.phase == "generator":
            self._enter("validator")
        elif state.phase == "validator":
            if self._refines():
                state.refinement += 1
                self._enter("generator")
            else:
                self._enter("coordinator")
        elif context.round.decision is None:
            state.again += 1
            self._enter("validator")
        else:
            self._close_round()

    def _refines(self) -> bool:
        """Whether the Generator tries again after the verdict: nothing passed, and there is a confirmation left."""
        context, talk = self.context, self.context.settings.deliberation
        return (
            context.round.verdicts[-1].outcome != "pass"
            and context.round.sent_back is None
            and context.state.refinement < talk.refinements
            and confirmations_left(context) > 0
        )

    def _give_up(self) -> None:
        """End a phase that used up its steps: no default is assumed for its result, and the round keeps the shaping."""
        context, state = self.context, self.context.state
        steps = context.settings.deliberation.steps
        reason = f"The {state.phase} did not finish within {steps} steps."
        context.event("error", reason, status="error", agent=state.phase)
        if state.phase == "validator":
            reading = f"(none: {reason})"
            try:
                verdict = computed_verdict(context)
            except ToolRefused:
                verdict = unreported(context) or verdict_record(context, None, None, None, "No comparison was made.")
            record_verdict(context, verdict.model_copy(update={"id": verdict_id(context), "reading": reading}), None)
        if state.phase == "coordinator":
            action = "roll_back" if "roll_back" in allowed_actions(context) else "keep"
            decide(context, Decision(action=action, candidate=None, reason=reason, decided_by="code"))
            self._close_round()
        else:
            self._enter("coordinator")

    def _enter(self, role: Role) -> None:
        """Start the phase of ``role`` with a fresh conversation."""
        state = self.context.state
        state.phase, state.step, state.agent_state, state.nudge, state.ended_by = role, 0, None, None, None
        state.brief = brief(self.context, role)
        self.agents[role].workbench.begin_phase()
        self._message("session", role, "task", state.brief)

    def _close_round(self) -> None:
        context, state = self.context, self.context.state
        decision = context.round.decision
        assert decision is not None, "whatever closes a round has decided it"
        settle(context)
        record_end_of_round(context, decision)
        state.brief, state.agent_state, state.ended_by = None, None, None
        state.step, state.refinement, state.again = 0, 0, 0
        at_the_end = state.round_number >= context.settings.rounds or state.stages >= context.settings.most_stages
        undone_at_the_end = decision.action == "roll_back" and at_the_end
        state.phase = "report" if undone_at_the_end else "stage"

    def _message(self, source: str, target: str | None, kind: str, text: str) -> None:
        context = self.context
        speaks = source if source in self.agents else None
        title = text.strip().splitlines()[0][:160] if text.strip() else "(empty)"
        seq = context.event("message", title, agent=speaks)
        context.ledger.add(
            "messages", event_seq=seq, session_id=context.session, source=source, target=target, type=kind, body=text
        )
