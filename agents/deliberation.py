"""One deliberation as a phase machine: who speaks next is code; every step is committed before the next one.

A step is one model call of the phase's agent and the tool calls in its reply. An interrupted step is repeated: its
reply and its finished tool calls are read from the ledger, so the conversation continues unchanged. An agent that does
not end its phase, or repeats itself, gives up; what becomes of its round then is decided in ``_give_up``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from typing import Any

from autogen_agentchat.messages import TextMessage, ThoughtEvent
from autogen_core import CancellationToken

from learning_signal.agents.first_look import STEP, first_look
from learning_signal.agents.history import History, transcript
from learning_signal.agents.model.call import CallContext
from learning_signal.agents.model.errors import OF_THE_MODEL, BackendError
from learning_signal.agents.nudges import append, nudge, steps_left, without_reply
from learning_signal.agents.questions import answer_of
from learning_signal.agents.repetition import REPLY, call_key, note_call
from learning_signal.agents.roles import Agent, note_speaker
from learning_signal.agents.speakers import Speakers
from learning_signal.agents.workbench import ToolAgent
from learning_signal.ledger.wording import headline
from learning_signal.tools.briefs.brief import brief
from learning_signal.tools.context import SessionContext
from learning_signal.tools.contracts import Decision
from learning_signal.tools.roles import ROLES, Role
from learning_signal.tools.round.by_code import judge_by_code
from learning_signal.tools.round.confirmations import confirmations_left
from learning_signal.tools.round.decisions import allowed_actions, decide
from learning_signal.tools.round.record import (
    record_diagnosis,
    record_end_of_round,
    record_phase,
    record_round,
    record_verdict,
)
from learning_signal.tools.round.screens import owes_screen, run_screen
from learning_signal.tools.round.speculation import prepare, settle
from learning_signal.tools.round.verdicts import verdict_id
from learning_signal.tools.spending import afford
from learning_signal.tools.state import PhaseCalls, Regression, Trigger


class Deliberation:
    """The rounds of one session, over its context and those who speak in it."""

    def __init__(self, context: SessionContext, speakers: Speakers, call_context: CallContext) -> None:
        self.context, self.speakers, self.call_context = context, speakers, call_context
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
        """Take one step of the present phase and commit it: a screen that is owed, or a model call.

        Raises ``agents.model.faults.BackendError`` when the agent's backend gives no usable reply,
        ``OutOfBudget`` before anything that does not fit in the budget.
        """
        state = self.context.state
        if state.taken_over is not None:
            await self._judge_by_code(state.taken_over)
            return
        if state.brief is None:
            await (self._screen() if state.phase == "validator" else self._look())
            return
        prepare(self.context)
        role = state.speaker
        agent = self.speakers.of(role)
        if state.ended_by is not None:  # interrupted between the submission and the commit: it counts once
            agent.workbench.finished = (state.ended_by, "")
        self.call_context.round, self.call_context.phase = state.round_number, role
        # A phase that is entered again, when the round was sent back, is another one: its calls are no repetitions.
        again = f"again{state.again}." if state.again else ""
        self.call_context.step = f"{state.refinement}.{again}{state.step}"
        self.call_context.insist = state.idle
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
        token, text, fault = CancellationToken(), None, None
        try:
            async with aclosing(conversation.run_stream(task=task, cancellation_token=token)) as stream:
                async for item in stream:
                    if isinstance(item, ThoughtEvent):
                        self._think(item.content)
                    elif isinstance(item, TextMessage) and item.source == role:
                        text = item.content
        except BackendError as error:
            fault = error
        finally:
            token.cancel()  # a tool still running would otherwise outlive the step
        if agent.workbench.failure is not None:
            raise agent.workbench.failure
        if fault is not None and fault.kind not in OF_THE_MODEL:
            self._cannot_go_on(role, fault)
        else:
            self._commit(agent, json.loads(json.dumps(await conversation.save_state())), text, fault)

    def _cannot_go_on(self, role: Role, fault: BackendError) -> None:
        """The backend of ``role`` fails for good: the next of its chain goes on where it stood, else the step ends."""
        with self.context.ledger.transaction("fault"):
            handed_over = self.speakers.hand_over(role, f"has no backend: {fault}")
            if not handed_over:
                self.context.event("error", str(fault), status="error", agent=role)
            self._save()
        if not handed_over:
            raise fault

    async def answer(self, role: Role, question: str) -> str:
        """The answer of the agent behind ``role`` to a question about its phase of this round."""
        step = self.call_context.step
        self.call_context.step = f"{step}.question{self.context.round.questions}"
        try:
            while True:
                try:
                    return await answer_of(self.speakers.of(role), self.context.round.records[role], question)
                except BackendError as fault:
                    with self.context.ledger.transaction("fault"):
                        if not self.speakers.hand_over(role, f"cannot answer: {fault}"):
                            return f"(The {role} cannot answer: {fault})"
        finally:
            self.call_context.step = step

    def _think(self, thought: str) -> None:
        """Record an agent's reasoning once, also where its step is repeated."""
        context, state = self.context, self.context.state
        if state.thought_in == self.call_context.step:
            return
        with context.ledger.transaction("thought"):
            self._message(state.phase, None, "thought", thought)
            state.thought_in = self.call_context.step
            self._save()

    def _commit(self, agent: Agent, agent_state: dict[str, Any], text: str | None, fault: BackendError | None) -> None:
        """The step is taken: its reply called tools, or was ``text``, or held nothing to act on (``fault``)."""
        context, state = self.context, self.context.state
        steps = context.settings.deliberation.steps
        with context.ledger.transaction("step"):
            if text is not None:
                self._message(state.phase, None, "text", text)
            state.thought_in, state.seen = None, state.evidence
            state.step += 1
            state.agent_state, state.nudge = agent_state, None
            without_call = text if fault is None else fault.kind
            state.idle = without_call is not None
            if without_call is not None:
                note_call(state.calls, call_key(REPLY, without_call), REPLY, without_call, self.call_context.step)
            if state.ended_by is not None:
                self._end_phase(agent_state)
            elif state.calls.looped is not None:
                self._give_up(agent_state, state.calls.looped)
            elif state.step >= steps:
                self._give_up(agent_state, f"did not finish within {steps} steps")
            else:
                self._tell(agent, agent_state, text, fault, steps - state.step)
            self._save()

    def _tell(
        self, agent: Agent, agent_state: dict[str, Any], text: str | None, fault: BackendError | None, left: int
    ) -> None:
        """Say what was wrong with a reply without a call, and how many steps are left."""
        state = self.context.state
        if text is not None:
            state.nudge = nudge(text, agent.workbench.schemas, agent.ending_tools, left)
            self._message("session", state.phase, "nudge", state.nudge)
        elif fault is not None:
            said = without_reply(fault.kind, agent.ending_tools, left)
            self._message("session", state.phase, "nudge", said)
            append(agent_state, said)
        elif not agent.embedded:
            append(agent_state, steps_left(agent.ending_tools, left))

    def _end_phase(self, agent_state: Mapping[str, Any]) -> None:
        """Move on after a submission. The order of phases is decided here and in ``_give_up``."""
        context, state = self.context, self.context.state
        record_phase(context, state.speaker, transcript(agent_state))
        if state.phase == "critic":
            self._enter("generator")
        elif state.phase == "generator":
            self._enter("validator")
        elif state.phase == "validator":
            self._after_verdict()
        elif context.round.decision is None:
            state.again += 1
            self._enter("validator")
        else:
            self._close_round()

    def _after_verdict(self) -> None:
        if self._refines():
            self.context.state.refinement += 1
            self._enter("generator")
        else:
            self._enter("coordinator")

    def _refines(self) -> bool:
        """Whether the Generator tries again after the verdict: nothing passed, and there is a confirmation left."""
        context, talk = self.context, self.context.settings.deliberation
        return (
            context.round.verdicts[-1].outcome != "pass"
            and context.round.sent_back is None
            and context.state.refinement < talk.refinements
            and confirmations_left(context) > 0
        )

    def _give_up(self, agent_state: Mapping[str, Any], why: str) -> None:
        """End a phase that its agent does not end: another backend takes it over, or the round goes on without it.

        A round is not lost with one agent: without a diagnosis it is as without a Critic; code judges the branches in
        the Validator's place. What nobody else can give, candidates and a decision to promote, is not made up.
        """
        context, state, role = self.context, self.context.state, self.context.state.speaker
        record_phase(context, role, transcript(agent_state))
        if self.speakers.hand_over(role, why):
            self._enter(role)
            return
        reason = f"The {role} {why}."
        if role == "critic":
            self._report(role, why, "the round goes on without a diagnosis")
            record_diagnosis(context, None, why_none=f"the Critic {why}")
            self._enter("generator")
        elif role == "validator":
            self._report(role, why, "code runs and judges what is left to confirm")
            state.taken_over = why
        elif role == "generator" and state.refinement > 0:
            self._report(role, why, "the round goes on without a second proposal")
            self._enter("coordinator")
        else:
            action = "roll_back" if "roll_back" in allowed_actions(context) else "keep"
            kept = "the promotion is rolled back" if action == "roll_back" else "the shaping is kept"
            self._report(role, why, kept)
            decide(context, Decision(action=action, candidate=None, reason=reason, decided_by="code"))
            self._close_round()

    def _report(self, role: Role, why: str, consequence: str) -> None:
        """Write down that an agent gave up."""
        spec = self.speakers.of(role).spec.text
        self.context.event("error", f"The {role} ({spec}) {why}: {consequence}.", status="error", agent=role)

    async def _judge_by_code(self, why: str) -> None:
        """Do what is left of the Validator's phase: the verdict is computed in any case."""
        context, state = self.context, self.context.state
        self.call_context.round, self.call_context.phase = state.round_number, "validator"
        verdict = await judge_by_code(context)
        with context.ledger.transaction("verdict"):
            reading = f"(none: the Validator {why}; code ran and judged what was left.)"
            record_verdict(context, verdict.model_copy(update={"id": verdict_id(context), "reading": reading}), None)
            self._after_verdict()
            self._save()

    def _enter(self, role: Role) -> None:
        """Start the phase of ``role`` with a fresh conversation."""
        state = self.context.state
        state.phase, state.step, state.agent_state, state.nudge, state.ended_by = role, 0, None, None, None
        state.idle, state.calls, state.taken_over = False, PhaseCalls(), None
        note_speaker(self.context, self.speakers.of(role))
        self.speakers.of(role).workbench.begin_phase()
        owed = role == "critic" or (role == "validator" and owes_screen(self.context))
        state.brief = None if owed else self._task(role)

    def _task(self, role: Role, read: Sequence[dict[str, Any]] = ()) -> str:
        """The message that a phase begins with, told to its agent."""
        text = brief(self.context, role, read)
        self.context.state.said = []
        self._message("session", role, "task", text)
        return text

    async def _look(self) -> None:
        """Before the Critic's phase: code reads what every Critic reads, so that its brief has it."""
        context, state = self.context, self.context.state
        self.call_context.round, self.call_context.phase, self.call_context.step = state.round_number, "critic", STEP
        read = await first_look(context, self.speakers.of("critic"))
        with context.ledger.transaction("read for the Critic"):
            state.seen = state.evidence
            state.brief = self._task("critic", read)
            self._save()

    async def _screen(self) -> None:
        """Before the Validator's phase: code screens the candidates, so that its brief has the result."""
        context, state = self.context, self.context.state
        afford(context, "the screen")
        await run_screen(context)
        with context.ledger.transaction("screened"):
            state.brief = self._task(state.speaker)
            self._save()

    def _close_round(self) -> None:
        context, state = self.context, self.context.state
        decision = context.round.decision
        assert decision is not None, "whatever closes a round has decided it"
        settle(context)
        record_end_of_round(context, decision)
        state.brief, state.agent_state, state.ended_by = None, None, None
        state.step, state.refinement, state.again, state.idle, state.calls = 0, 0, 0, False, PhaseCalls()
        at_the_end = state.round_number >= context.settings.rounds or state.stages >= context.settings.most_stages
        undone_at_the_end = decision.action == "roll_back" and at_the_end
        state.phase = "report" if undone_at_the_end else "stage"

    def _message(self, source: str, target: str | None, kind: str, text: str) -> None:
        context = self.context
        speaks = source if source in ROLES else None
        seq = context.event("message", headline(text), agent=speaks)
        context.ledger.add(
            "messages", event_seq=seq, session_id=context.session, source=source, target=target, type=kind, body=text
        )

    def _save(self) -> None:
        self.context.ledger.save_cursor(self.context.session, self.context.state.model_dump(mode="json"))
