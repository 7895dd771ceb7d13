"""The Coordinator's tools: ask the others, then promote, keep or roll back within what the verdict allows."""

from __future__ import annotations

import json
from typing import Literal

from learning_signal.tools.base import Answer, Tool, ToolRefused
from learning_signal.tools.claims.keep import Checked, checked, unsupported
from learning_signal.tools.claims.objection import weighed
from learning_signal.tools.context import HumanAnswer, SessionContext
from learning_signal.tools.contracts import Action, Ask, Decision, Keep, Promote, RollBack, SendBack
from learning_signal.tools.roles import ROLES, Role
from learning_signal.tools.round.approval import answer_of_person, record_answer, withdraw_question
from learning_signal.tools.round.confirmations import confirmable, confirmations_left, in_progress, offer
from learning_signal.tools.round.record import record_decision, record_question, record_sent_back
from learning_signal.tools.state import CONTROL, Branch, Head, VerdictRecord


def decision_tools(context: SessionContext) -> dict[str, Tool]:
    """The tools of the Coordinator."""

    async def ask(arguments: Ask) -> Answer:
        limit = context.settings.deliberation.questions
        if context.round.questions >= limit:
            raise ToolRefused(f"Found {limit} questions already asked, expected a decision now: {_options(context)}.")
        if arguments.agent not in may_be_asked(context):
            speakers = ", ".join(may_be_asked(context)) or "nobody"
            raise ToolRefused(
                f"Found a question to the {arguments.agent}, who has not spoken in this round ({speakers} has): "
                "ask one who has, or decide."
            )
        answer = await context.ask_agent(arguments.agent, arguments.question)

        claim = checked(context, "events", arguments.agent, {"answer": answer})

        def apply() -> None:
            record_question(context, arguments.agent, arguments.question, answer, claim)

        told = {"agent": arguments.agent, "answer": answer}
        return Answer(json.dumps(told | ({"unsupported": claim.problems} if claim.marks else {})), apply)

    async def promote(arguments: Promote) -> Answer:
        _refuse_unless_allowed(context, "promote")
        if arguments.candidate not in context.round.passed:
            raise ToolRefused(
                f"Found {arguments.candidate!r}, expected {' or '.join(map(repr, context.round.passed))} with a "
                "passing verdict: promote that one or keep."
            )
        decision = Decision(
            action="promote", candidate=arguments.candidate, reason=arguments.reason, decided_by="coordinator"
        )
        claim = checked(
            context, "decisions", "coordinator", {"reason": arguments.reason, "promotes": arguments.candidate}
        )
        if context.settings.approve != "human":
            return _decided(context, decision, claim)
        verdict = [each for each in context.round.verdicts if each.candidate == arguments.candidate][-1]
        unsupported_words = (*_said_of(context, verdict), *claim.problems)
        reply = await answer_of_person(context, arguments.candidate, verdict, arguments.reason, unsupported_words)
        if reply.approved:
            reason = f"{arguments.reason} (Approved by {reply.by}: {reply.reason})"
            decision = decision.model_copy(update={"reason": reason, "decided_by": "human"})
        else:
            decision = Decision(
                action="keep",
                candidate=None,
                decided_by="human",
                reason=f"The promotion of {arguments.candidate} was rejected by {reply.by}: {reply.reason}",
            )
        return _decided(context, decision, claim, reply)

    async def keep(arguments: Keep) -> Answer:
        _refuse_unless_allowed(context, "keep")
        decision = Decision(action="keep", candidate=None, reason=arguments.reason, decided_by="coordinator")
        return _decided(context, decision, _reason(context, arguments.reason))

    async def roll_back(arguments: RollBack) -> Answer:
        _refuse_unless_allowed(context, "roll_back")
        decision = Decision(action="roll_back", candidate=None, reason=arguments.reason, decided_by="coordinator")
        return _decided(context, decision, _reason(context, arguments.reason))

    async def send_back(arguments: SendBack) -> Answer:
        _refuse_unless_allowed(context, "send_back")
        others = still_confirmable(context)
        if arguments.candidate not in others:
            raise ToolRefused(
                f"Found {arguments.candidate!r}, expected {' or '.join(others)}, better than the control in the screen "
                "and not confirmed yet: name one of them, or decide."
            )
        text = json.dumps({"sent_back_for": arguments.candidate} | offer(context))
        claim = weighed(context, "send_back", "events", "coordinator", {"reason": arguments.reason})
        return Answer(text, lambda: record_sent_back(context, arguments, claim))

    return {
        "ask": Tool(
            "ask",
            "Put a question to another agent about its phase of this round; answers with its words.",
            Ask,
            ask,
            patient=True,
        ),
        "promote": Tool(
            "promote",
            "Decide: the candidate with a passing verdict becomes the shaping of the main run.",
            Promote,
            promote,
            ends_phase=True,
            patient=True,
        ),
        "keep": Tool("keep", "Decide: leave the shaping of the main run as it is.", Keep, keep, ends_phase=True),
        "send_back": Tool(
            "send_back",
            "Do not decide yet: the Validator confirms another screened candidate first, then you decide.",
            SendBack,
            send_back,
            ends_phase=True,
        ),
        "roll_back": Tool(
            "roll_back",
            "Decide: return the main run to where the promotion on probation started.",
            RollBack,
            roll_back,
            ends_phase=True,
        ),
    }


def may_be_asked(context: SessionContext) -> list[Role]:
    """The other agents that have spoken in this round, in the order in which they speak."""
    return [role for role in ROLES if role in context.round.records and role != "coordinator"]


def allowed_actions(context: SessionContext) -> list[Action | Literal["send_back"]]:
    """What may be called now: a failed probation can only be rolled back; promoting takes a passing verdict.

    A round is sent back only for a candidate that may still be confirmed.
    """
    if context.round.regression is not None:
        return ["roll_back"]
    allowed: list[Action | Literal["send_back"]] = ["promote", "keep"] if context.round.passed else ["keep"]
    return [*allowed, "send_back"] if still_confirmable(context) else allowed


def still_confirmable(context: SessionContext) -> tuple[str, ...]:
    """The candidates for which the round may be sent back, each once; none where it may make no more confirmations."""
    asked = context.round.sent_back_for
    if not context.round.proposals or confirmations_left(context) <= 0 or not context.settings.gate.judge.sequential:
        return ()
    try:
        open_ = confirmable(context)
    except ToolRefused:  # the screen is not over
        return ()
    present = in_progress(context)
    if present is not None and confirmations_left(context) == 1:  # the last one has begun
        open_ = tuple(name for name in open_ if name == present)
    return tuple(name for name in open_ if name not in asked)


def decide(context: SessionContext, decision: Decision, claim: Checked | None = None) -> None:
    """Take a decision: write it and move HEAD accordingly. Nothing else moves HEAD inside a round.

    ``claim`` is the reason as it was checked, where an agent gave it. A question to a person that is still open,
    because it was asked before a resume, is settled by it.
    """
    withdraw_question(context)
    record_decision(context, decision, _head_after(context, decision), claim)


def _said_of(context: SessionContext, verdict: VerdictRecord) -> list[str]:
    """The marks of a candidate's rationale and of the reading of its verdict."""
    proposal = str(context.candidate_id(verdict.candidate)).rpartition("/")[0]
    rationale = unsupported(context, "proposals", proposal, f"rationale of {verdict.candidate}")
    return rationale + unsupported(context, "verdicts", verdict.id)


def _reason(context: SessionContext, reason: str) -> Checked:
    return checked(context, "decisions", "coordinator", {"reason": reason})


def _decided(context: SessionContext, decision: Decision, claim: Checked, reply: HumanAnswer | None = None) -> Answer:
    """Take the decision; ``reply`` is that of a person who was asked for approval."""

    def apply() -> None:
        if reply is not None:
            record_answer(context, reply)
        decide(context, decision, claim)

    return Answer(json.dumps({"decided": decision.action, "decided_by": decision.decided_by}), apply)


def _head_after(context: SessionContext, decision: Decision) -> Head:
    """Where HEAD goes: the end of the pre-chosen first confirm seed of the winning arm, or the parent."""
    if decision.action == "roll_back":
        if context.round.regression is None:
            raise RuntimeError("found a roll-back without a regression, expected a failed probation before it")
        return context.round.regression.parent
    arm = decision.promoted if decision.action == "promote" else CONTROL
    shaping = context.shaping_of(arm)
    branch = _confirmed(context, arm)
    if branch is None or context.trainer.status(branch.segments[0]) != "done":
        # The control was not trained, or not to its end: the next stage starts from HEAD as it is.
        return Head(segment=context.head.segment, env_steps=context.head.env_steps, shaping=shaping)
    result = context.trainer.stored(branch.segments[0])
    return Head(segment=result.id, env_steps=result.end_env_steps, shaping=shaping)


def _confirmed(context: SessionContext, arm: str) -> Branch | None:
    """The first branch of the arm that a verdict counted: one merely launched may be done or not, which is chance."""
    for branch in context.round.branches:
        judged = branch.attempt < len(context.round.confirmations)
        if (branch.purpose, branch.arm) == ("confirm", arm) and judged:
            return branch
    return None


def _refuse_unless_allowed(context: SessionContext, action: Action | Literal["send_back"]) -> None:
    if action not in allowed_actions(context):
        if action == "promote":
            outcome = context.round.verdicts[-1].outcome if context.round.verdicts else "missing"
            raise ToolRefused(
                f"Found a promotion while the verdict is {outcome}, expected a passing one: {_options(context)}."
            )
        raise ToolRefused(f"Found {action}, which is not possible now: {_options(context)}.")


def _options(context: SessionContext) -> str:
    return "call " + " or ".join(allowed_actions(context))
