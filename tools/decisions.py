"""The Coordinator's instruments: ask the others, then promote, keep or roll back - inside what the verdict allows."""

from __future__ import annotations

import json

from ledger.sessions import now
from tools.base import Answer, Tool, ToolRefused
from tools.branches import CONTROL
from tools.contracts import Action, Ask, Decision, Keep, Promote, RollBack
from tools.desk import Desk, HumanQuestion
from tools.state import Branch, Head, Probation


def decision_tools(desk: Desk) -> dict[str, Tool]:
    """The tools of the Coordinator."""

    async def ask(arguments: Ask) -> Answer:
        limit = desk.settings.deliberation.questions
        if desk.round.questions >= limit:
            raise ToolRefused(f"Found {limit} questions already asked, expected a decision now: {_options(desk)}.")
        if arguments.agent not in desk.round.records:
            spoken = ", ".join(desk.round.records) or "nobody"
            raise ToolRefused(
                f"Found a question to the {arguments.agent}, who has not spoken in this round ({spoken} has): "
                "ask one who has, or decide."
            )
        answer = await desk.ask_agent(arguments.agent, arguments.question)

        def apply() -> None:
            desk.round.questions += 1
            for source, target, kind, text in (
                ("coordinator", arguments.agent, "question", arguments.question),
                (arguments.agent, "coordinator", "answer", answer),
            ):
                seq = desk.event("message", text[:160], agent=source)
                desk.ledger.add(
                    "messages", event_seq=seq, session_id=desk.session, source=source, target=target, type=kind,
                    body=text,
                )

        return Answer(json.dumps({"agent": arguments.agent, "answer": answer}), apply)

    async def promote(arguments: Promote) -> Answer:
        _refuse_unless_allowed(desk, "promote")
        if arguments.candidate != desk.round.promotable:
            raise ToolRefused(
                f"Found {arguments.candidate!r}, expected {desk.round.promotable!r}, the candidate with a passing "
                "verdict: promote that one or keep."
            )
        decision = Decision(
            action="promote", candidate=arguments.candidate, reason=arguments.reason, decided_by="coordinator"
        )
        if desk.settings.approve != "human":
            return _decided(desk, decision)
        verdict = [each for each in desk.round.verdicts if each.candidate == arguments.candidate][-1]
        reply = await desk.ask_human(HumanQuestion(
            session=desk.session, round=desk.round.number, candidate=desk.round.candidate(arguments.candidate),
            verdict=verdict, reason=arguments.reason,
        ))
        if reply.approved:
            reason = f"{arguments.reason} (Approved by a person: {reply.reason})"
            decision = decision.model_copy(update={"reason": reason, "decided_by": "human"})
        else:
            decision = Decision(
                action="keep", candidate=None, decided_by="human",
                reason=f"The promotion of {arguments.candidate} was rejected by a person: {reply.reason}",
            )
        return _decided(desk, decision, approval="approved" if reply.approved else "rejected")

    async def keep(arguments: Keep) -> Answer:
        _refuse_unless_allowed(desk, "keep")
        return _decided(
            desk, Decision(action="keep", candidate=None, reason=arguments.reason, decided_by="coordinator")
        )

    async def roll_back(arguments: RollBack) -> Answer:
        _refuse_unless_allowed(desk, "roll_back")
        return _decided(
            desk, Decision(action="roll_back", candidate=None, reason=arguments.reason, decided_by="coordinator")
        )

    return {
        "ask": Tool("ask", "Put a question to another agent about its phase of this round; answers with its words.",
                    Ask, ask, patient=True),
        "promote": Tool(
            "promote", "Decide: the candidate with a passing verdict becomes the shaping of the main run.",
            Promote, promote, ends_phase=True, patient=True,
        ),
        "keep": Tool("keep", "Decide: leave the shaping of the main run as it is.", Keep, keep, ends_phase=True),
        "roll_back": Tool(
            "roll_back", "Decide: return the main run to where the promotion on probation started.",
            RollBack, roll_back, ends_phase=True,
        ),
    }


def allowed_actions(desk: Desk) -> list[Action]:
    """What may be decided now: a failed probation can only be rolled back; promoting takes a passing verdict."""
    if desk.round.regression is not None:
        return ["roll_back"]
    return ["promote", "keep"] if desk.round.promotable is not None else ["keep"]


def record_decision(desk: Desk, decision: Decision) -> None:
    """Write a decision and move HEAD accordingly. Nothing else moves HEAD inside a round."""
    before = desk.state.head
    after = _head_after(desk, decision)
    regression = desk.round.regression
    verdict = desk.round.verdicts[-1] if desk.round.verdicts else None
    candidate = desk.candidate_id(decision.candidate or (verdict.candidate if verdict else None))
    identity = desk.row_id(f"R{desk.round.number}")
    subject = decision.candidate or (regression.candidate if regression else None)
    seq = desk.event(
        "decision", f"{decision.action}{f' {subject}' if subject else ''}: {decision.reason}",
        agent=decision.decided_by if decision.decided_by != "code" else None, ref=("decisions", identity),
    )
    desk.ledger.add_decision(
        desk.session, id=identity, round=desk.round.number, event_seq=seq, action=decision.action,
        candidate_id=candidate, verdict_id=verdict.id if verdict else None,
        comparison_id=desk.row_id(regression.comparison) if regression else None,
        segment_from=before.segment, segment_to=after.segment,
        shaping_from=before.shaping.model_dump(mode="json"), shaping_to=after.shaping.model_dump(mode="json"),
        decided_by=decision.decided_by, reason=decision.reason,
    )
    if after.segment != before.segment:
        desk.ledger.add(
            "main_run", session_id=desk.session, segment_id=after.segment, round=desk.round.number,
            reason=decision.action, at=now(),
        )
    desk.round.decision = decision
    desk.state.head = after
    if decision.action == "promote":
        desk.state.probation = Probation(round=desk.round.number, candidate=decision.candidate, parent=before)
    elif decision.action == "roll_back":
        desk.state.probation = None
        desk.state.tried = [
            tried.model_copy(update={"outcome": "rolled back", "reason": regression.reason})
            if (tried.round, tried.candidate) == (regression.round, regression.candidate) else tried
            for tried in desk.state.tried
        ]


def _decided(desk: Desk, decision: Decision, approval: str | None = None) -> Answer:
    def apply() -> None:
        if approval is not None:
            desk.event("approval", f"{approval} by a person: {decision.reason}", agent="human",
                       status="ok" if approval == "approved" else "refused")
        record_decision(desk, decision)

    return Answer(json.dumps({"decided": decision.action, "decided_by": decision.decided_by}), apply)


def _head_after(desk: Desk, decision: Decision) -> Head:
    """Where HEAD goes: the end of the pre-chosen first confirm seed of the winning arm, or the parent."""
    if decision.action == "roll_back":
        return desk.round.regression.parent
    shaping = desk.state.head.shaping
    arm = CONTROL
    if decision.action == "promote":
        arm, shaping = decision.candidate, desk.round.candidate(decision.candidate).shaping
    branch = _confirmed(desk, arm)
    if branch is None or desk.trainer.status(branch.segments[0]) != "done":
        # A kept shaping whose control was not (or not wholly) trained: the next stage goes on from here.
        return Head(segment=desk.state.head.segment, env_steps=desk.state.head.env_steps, shaping=shaping)
    result = desk.trainer.stored(branch.segments[0])
    return Head(segment=result.id, env_steps=result.end_env_steps, shaping=shaping)


def _confirmed(desk: Desk, arm: str) -> Branch | None:
    """The first branch of the arm that a verdict counted: one merely launched may be done or not, which is chance."""
    judged = {confirmation.refinement for confirmation in desk.round.confirmations}
    for branch in desk.round.branches:
        if (branch.purpose, branch.arm) == ("confirm", arm) and branch.refinement in judged:
            return branch
    return None


def _refuse_unless_allowed(desk: Desk, action: Action) -> None:
    if action not in allowed_actions(desk):
        if action == "promote":
            outcome = desk.round.verdicts[-1].outcome if desk.round.verdicts else "missing"
            raise ToolRefused(
                f"Found a promotion while the verdict is {outcome}, expected a passing one: {_options(desk)}."
            )
        raise ToolRefused(f"Found {action}, which is not possible now: {_options(desk)}.")


def _options(desk: Desk) -> str:
    return "call " + " or ".join(allowed_actions(desk))
