"""A promotion is put to a person: the question is an event that stays open, across resumes, until it is answered."""

from __future__ import annotations

from collections.abc import Sequence

from learning_signal.ledger.questions import QUESTION, OpenQuestion, how_to_answer, open_question
from learning_signal.tools.context import HumanAnswer, HumanQuestion, SessionContext
from learning_signal.tools.state import VerdictRecord


async def answer_of_person(
    context: SessionContext, candidate: str, verdict: VerdictRecord, reason: str, unsupported: Sequence[str]
) -> HumanAnswer:
    """The answer of a person to the promotion of ``candidate``, however long that takes.

    Raises ``CannotGoOn`` where the session is to pause meanwhile: the question stays open.
    """
    question = _asked(context, candidate)
    return await context.ask_human(
        HumanQuestion(
            session=context.session,
            round=context.round.number,
            candidate=context.round.candidate(candidate),
            verdict=verdict,
            reason=reason,
            unsupported=tuple(unsupported),
            id=question.id,
            asked=question.asked,
        )
    )


def record_answer(context: SessionContext, answer: HumanAnswer) -> None:
    """The answer to the open question, as an event of its own. Belongs in the transaction of the decision."""
    word = "approved" if answer.approved else "rejected"
    context.event(
        "approval",
        f"{word} by {answer.by}: {answer.reason}",
        agent="human",
        status="ok" if answer.approved else "refused",
    )
    open_ = open_question(context.ledger.rows, context.session)
    if open_ is not None:
        context.ledger.complete_event(open_.seq, "ok", f"{_about(open_.candidate)}: {word}")
    if answer.inbox is not None:
        context.state.inbox = answer.inbox


def withdraw_question(context: SessionContext) -> None:
    """Settle a question that nobody has to answer any more."""
    open_ = open_question(context.ledger.rows, context.session)
    if open_ is not None:
        context.ledger.complete_event(open_.seq, "interrupted", f"{_about(open_.candidate)}: withdrawn")


def _asked(context: SessionContext, candidate: str) -> OpenQuestion:
    """The question about ``candidate``: the one that is open already, else a new one."""
    identity = str(context.candidate_id(candidate))
    known = open_question(context.ledger.rows, context.session)
    if known is not None and known.candidate == identity:
        return known
    with context.ledger.transaction("question"):
        withdraw_question(context)
        question = f"{context.session}/R{context.round.number}"
        title = f"{_about(identity)} waits for an answer: {how_to_answer(question, context.ledger.path)}"
        context.event(QUESTION, title, status="pending", ref=("candidates", identity))
    asked = open_question(context.ledger.rows, context.session)
    assert asked is not None, "it was just written"
    return asked


def _about(candidate_row: str) -> str:
    return f"the promotion of {candidate_row.rpartition('/')[2]}"
