"""One turn: a recorded request put to another backend, from the log alone. No tool is run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from learning_signal.agents.model.call import CallContext, Limits
from learning_signal.agents.model.errors import BackendError
from learning_signal.agents.model.prices import price_of
from learning_signal.agents.model.providers.spec import BackendSpec
from learning_signal.agents.model.specs import refuse_role
from learning_signal.agents.model.stack.client import agent_client
from learning_signal.agents.replay.original import Original
from learning_signal.agents.replay.session import refuse_own_log
from learning_signal.agents.whatif.answers import Answer, cost_of, last_event
from learning_signal.agents.whatif.question import Question, stance_of_reply
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.write.writer import Ledger
from learning_signal.tools import lifecycle


async def ask_turns(
    original: Original, questions: Sequence[Question], spec: BackendSpec, to: Path, times: int = 1
) -> list[Answer]:
    """The answers of ``spec`` to each question, ``times`` times each, in this order; written to the log at ``to``.

    A backend that fails for good is asked no more: its remaining answers say why. Raises ``SpecError`` where it cannot
    be built, and ``SessionError`` where the log at ``to`` is the session's own.
    """
    refuse_own_log(original, to)
    for question in questions:
        refuse_role(spec, question.asked.role)
    settings = original.settings
    answers: list[Answer] = []
    with Ledger.open(to) as ledger:
        with ledger.transaction("what-if"):
            identity = lifecycle.begin(ledger, settings, gate_mode=settings.gate.mode, ours=False)
            title = f"session {identity} asks {spec.text} what session {original.row.id} of {original.path} asked"
            ledger.event(identity, "session", title)
        failed: str | None = None
        for question in questions:
            asked = question.asked
            context = CallContext(asked.round, asked.phase)
            client = agent_client(
                spec,
                asked.role,
                ledger=ledger,
                session_id=identity,
                context=context,
                limits=Limits(deadline=settings.deliberation.deadline),
                price=price_of(spec, settings.prices),
            )
            try:
                for number in range(times):
                    context.step = f"event {asked.event}, answer {number + 1}"
                    before = last_event(ledger)
                    stance = None
                    if failed is None:
                        try:
                            reply = await client.create(question.messages, tools=question.tools)
                            stance = stance_of_reply(reply)
                        except BackendError as error:
                            failed = str(error)
                    with Reader.open(to) as reader:
                        cost = cost_of(reader, identity, asked.role, before)
                    agrees = None if stance is None else stance.agrees(question.answer)
                    answers.append(Answer(spec.text, identity, stance, agrees, cost, None if stance else failed))
            finally:
                await client.close()
        lifecycle.end(ledger, identity, "session", "done", None)
    return answers
