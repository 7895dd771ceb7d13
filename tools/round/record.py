"""The facts of a round, each stored once: as rows of the ledger. The session's state has them in memory.

One call, one fact: a row and the `Round` (or `SessionState`) it belongs to change together here, and nowhere else; a
resume makes the same state of the rows again (`tools.recall`). Every function belongs in a transaction.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from learning_signal.ledger.wording import headline
from learning_signal.ledger.write.clock import now
from learning_signal.marl.segments.segment import SegmentResult
from learning_signal.marl.shaping import ShapingConfig
from learning_signal.tools.claims.keep import Checked, keep_claim
from learning_signal.tools.context import SessionContext
from learning_signal.tools.contracts import Decision, Diagnosis, Proposal, SendBack
from learning_signal.tools.roles import Role
from learning_signal.tools.round.fates import fates_of, history_row, size_of, with_fate, with_fates
from learning_signal.tools.state import Head, Probation, Regression, Round, Trigger, VerdictRecord

LEFT_OUT = "the Critic is left out of this session"


def record_stage(context: SessionContext, result: SegmentResult) -> None:
    """A stage of the main run has ended: HEAD moves to its end and keeps its shaping."""
    state = context.state
    shaping = state.head.shaping if state.head else ShapingConfig.none()
    _move_head(context, Head(segment=result.id, env_steps=result.end_env_steps, shaping=shaping), "stage")
    state.stages, state.stages_without = state.stages + 1, state.stages_without + 1


def record_round(context: SessionContext, stage: str, why_now: Trigger, regression: Regression | None) -> None:
    """The next round begins."""
    state = context.state
    state.round_number += 1
    state.refinement, state.stages_without = 0, 0
    state.round = Round(number=state.round_number, stage=stage, why_now=why_now, regression=regression)
    context.event("need", f"round {state.round_number}: {why_now.reason}: {why_now.text}")


def record_summary(context: SessionContext, body: Mapping[str, Any]) -> None:
    """The trajectory summary of the main run that the Generator will be shown."""
    context.round.evidence_summary = json.dumps(body)


def record_diagnosis(
    context: SessionContext, diagnosis: Diagnosis | None, claim: Checked | None = None, why_none: str = LEFT_OUT
) -> None:
    """What the Critic found, and how it was checked; None where there is nothing of it: the ledger says why."""
    stage, agent = context.round.stage, None if diagnosis is None else "critic"
    if diagnosis is None:
        body = {"stage": stage, "failures": [], "advice": f"(none: {why_none})"}
        title = f"{stage}: no causes were diagnosed, {why_none}"
    else:
        diagnosis = context.as_kept(diagnosis)
        body, title = diagnosis.model_dump(mode="json"), f"{diagnosis.stage}: “{diagnosis.failures[0].description}”"
    identity = context.row_id(f"D{context.round.number}")
    seq = context.event("diagnosis", title, agent=agent, ref=("diagnoses", identity))
    context.ledger.add(
        "diagnoses",
        id=identity,
        session_id=context.session,
        round=context.round.number,
        event_seq=seq,
        stage=body["stage"],
        body=body,
    )
    _keep(context, claim, identity, seq)
    context.round.diagnosis_id, context.round.diagnosis = identity, diagnosis


def record_proposal(context: SessionContext, proposal: Proposal, claims: Sequence[Checked] = ()) -> None:
    """The accepted candidates of the present refinement, and how their rationales were checked, by who gave them."""
    proposal = context.as_kept(proposal)
    number, refinement = context.round.number, context.state.refinement
    identity = context.row_id(f"P{number}.{refinement}")
    own, outside = (
        ", ".join(each.name for each in proposal.candidates if (each.source is None) == of_the_generator)
        for of_the_generator in (True, False)
    )
    title = f"proposes {own}" + (f"; from outside: {outside}" if outside else "")
    seq = context.event("proposal", title, agent="generator", ref=("proposals", identity))
    context.ledger.add(
        "proposals",
        id=identity,
        session_id=context.session,
        round=number,
        refinement=refinement,
        diagnosis_id=context.round.diagnosis_id,
        event_seq=seq,
        body=proposal.model_dump(mode="json"),
    )
    for candidate in proposal.candidates:
        context.ledger.add(
            "candidates",
            id=f"{identity}/{candidate.name}",
            session_id=context.session,
            proposal_id=identity,
            name=candidate.name,
            shaping=candidate.shaping.model_dump(mode="json"),
            shaping_hash=candidate.shaping.hash(),
            rationale=candidate.rationale,
            forecast_metric=candidate.forecast.measure,
            forecast_change=candidate.forecast.change,
            forecast_probability=candidate.forecast.probability,
        )
        if candidate.remarks:
            context.ledger.add(
                "remarks",
                candidate_id=f"{identity}/{candidate.name}",
                session_id=context.session,
                remarks=json.dumps([remark.text for remark in candidate.remarks]),
                answer=candidate.answer,
            )
    for claim in claims:
        keep_claim(context, claim, identity, seq)
    context.round.proposals.append(proposal)


def record_remarks(context: SessionContext, shapings: Sequence[str]) -> None:
    """The Generator has been told of the remarks on these shapings, given by their hashes."""
    told = context.round.remarked
    told += [each for each in shapings if each not in told]


def record_speculation(context: SessionContext, segments: Sequence[str], title: str) -> None:
    """The control's segments that are trained while the agents talk."""
    context.event("speculation", title)
    context.round.speculated = list(segments)


def record_verdict(
    context: SessionContext, verdict: VerdictRecord, agent: str | None, claim: Checked | None = None
) -> None:
    """A refinement's verdict, how its reading was checked, and what became of every candidate of this refinement."""
    verdict = context.as_kept(verdict)
    seq = context.event(
        "verdict", f"{verdict.candidate or 'no candidate'}: {verdict.reason}", agent=agent, ref=("verdicts", verdict.id)
    )
    context.ledger.add(
        "verdicts",
        id=verdict.id,
        session_id=context.session,
        round=context.round.number,
        refinement=verdict.refinement,
        candidate_id=context.candidate_id(verdict.candidate),
        comparison_id=verdict.comparison and context.row_id(verdict.comparison),
        event_seq=seq,
        outcome=verdict.outcome,
        rule=verdict.measure,
        reason=verdict.reason,
        reading=verdict.reading,
    )
    _keep(context, claim, verdict.id, seq)
    context.round.verdicts.append(verdict)
    context.state.tried = with_fates(context.state.tried, fates_of(context.round, verdict))


def record_phase(context: SessionContext, role: Role, text: str) -> None:
    """The conversation of a finished phase, for questions to its agent."""
    context.round.records[role] = text


def record_fallback(context: SessionContext, role: Role, title: str) -> None:
    """The next backend of the chain of ``role`` takes over its phases of this round."""
    context.round.fallbacks.append(role)
    context.event("fallback", title, status="error", agent=role)


def begin_chains_anew(round_: Round, roles: Collection[str]) -> None:
    """The chains of backends of ``roles`` begin with their first again; belongs to a resume."""
    round_.fallbacks = [role for role in round_.fallbacks if role not in roles]


def record_question(
    context: SessionContext, role: Role, question: str, answer: str, claim: Checked | None = None
) -> None:
    """A question of the Coordinator to ``role``, and the answer, which is checked."""
    context.round.questions += 1
    exchange = ("coordinator", role, "question", question), (role, "coordinator", "answer", answer)
    for source, target, kind, text in exchange:
        seq = context.event("message", headline(text), agent=source)
        context.ledger.add(
            "messages", event_seq=seq, session_id=context.session, source=source, target=target, type=kind, body=text
        )
        if kind == "answer":
            _keep(context, claim, str(seq), seq)


def record_sent_back(context: SessionContext, order: SendBack, claim: Checked | None = None) -> None:
    """The Coordinator wants another candidate confirmed before it decides; its reason is checked."""
    order = context.as_kept(order)
    context.round.sent_back = order
    context.round.sent_back_for.append(order.candidate)
    seq = context.event("sent_back", f"sent back: confirm {order.candidate}: “{order.reason}”", agent="coordinator")
    _keep(context, claim, str(seq), seq)


def record_decision(context: SessionContext, decision: Decision, after: Head, claim: Checked | None = None) -> None:
    """A decision, which moves HEAD to ``after``, and how its reason was checked."""
    decision = context.as_kept(decision)
    before, regression = context.head, context.round.regression
    about = [each for each in context.round.verdicts if decision.candidate in (None, each.candidate)]
    verdict = about[-1] if about else None
    identity = context.row_id(f"R{context.round.number}")
    subject = decision.candidate or (regression.candidate if regression else None)
    why = decision.reason if decision.decided_by == "code" else f"“{decision.reason}”"
    seq = context.event(
        "decision",
        f"{decision.action}{f' {subject}' if subject else ''}: {why}",
        agent=decision.decided_by if decision.decided_by != "code" else None,
        ref=("decisions", identity),
    )
    context.ledger.add_decision(
        context.session,
        id=identity,
        round=context.round.number,
        event_seq=seq,
        action=decision.action,
        candidate_id=context.candidate_id(decision.candidate or (verdict.candidate if verdict else None)),
        verdict_id=verdict.id if verdict else None,
        comparison_id=context.row_id(regression.comparison) if regression else None,
        segment_from=before.segment,
        segment_to=after.segment,
        shaping_from=before.shaping.model_dump(mode="json"),
        shaping_to=after.shaping.model_dump(mode="json"),
        decided_by=decision.decided_by,
        reason=decision.reason,
    )
    _keep(context, claim, identity, seq)
    _move_head(context, after, decision.action)
    context.round.decision = decision
    if decision.action == "promote":
        number, promoted = context.round.number, decision.promoted
        context.state.probation = Probation(round=number, candidate=promoted, parent=before)
        context.state.tried = with_fate(context.state.tried, number, promoted, "promoted")
        handed_on = sum(size_of(each) for each in context.round.confirmations if each.candidate == promoted)
        context.state.level_spent = round(context.state.level_spent - handed_on, 12)
    elif regression is not None and decision.action == "roll_back":
        context.state.probation = None
        undone = regression.round, regression.candidate
        context.state.tried = with_fate(context.state.tried, *undone, "rolled back", regression.reason)
        _add_fates(context, *undone)


def _move_head(context: SessionContext, after: Head, reason: str) -> None:
    """HEAD points to ``after``; a segment that is new to it joins the main run."""
    state = context.state
    if state.head is None or after.segment != state.head.segment:
        context.ledger.add(
            "main_run",
            session_id=context.session,
            segment_id=after.segment,
            round=state.round_number or None,
            reason=reason,
            at=now(),
        )
    state.head = after


def record_end_of_round(context: SessionContext, decision: Decision) -> None:
    """The round is over: what the agents of later rounds are told of it."""
    context.state.history.append(history_row(context.round, decision, context.head.shaping))
    _add_fates(context, context.state.round_number)
    context.state.round = None


def _add_fates(context: SessionContext, number: int, candidate: str | None = None) -> None:
    """Write what became of the candidates of round ``number``, or of one of them, by the end of the present round."""
    for tried in context.state.tried:
        if tried.round == number and candidate in (None, tried.candidate):
            context.ledger.add(
                "fates",
                candidate_id=context.row_id(f"P{number}.{tried.refinement}/{tried.candidate}"),
                round=context.state.round_number,
                session_id=context.session,
                fate=tried.outcome,
                reason=tried.reason,
            )


def _keep(context: SessionContext, claim: Checked | None, row_id: str, event_seq: int) -> None:
    if claim is not None:
        keep_claim(context, claim, row_id, event_seq)
