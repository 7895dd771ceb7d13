"""Every turn of an agent, put to other backends: how often each says the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from learning_signal.agents.model.providers.spec import BackendSpec
from learning_signal.agents.replay.original import Original
from learning_signal.agents.session.running import SessionError
from learning_signal.agents.whatif.answers import Answer, Cost, cost_of
from learning_signal.agents.whatif.question import Question, question_of
from learning_signal.agents.whatif.turns import ask_turns
from learning_signal.ledger.read.reader import Reader
from learning_signal.tools.roles import Role


@dataclass(frozen=True)
class Turns:
    """The turns of an agent in a session, and what the backends answered to each."""

    questions: tuple[Question, ...]
    costs: tuple[Cost, ...]
    """Of the session's own answers."""
    answers: tuple[tuple[Answer, ...], ...]
    """Of each backend, in the order of the questions."""


async def ask_agent_turns(original: Original, role: Role, specs: Sequence[BackendSpec], to: Path) -> Turns:
    """Put every request that an agent answered in the session to each of ``specs``, one turn each.

    The conversation before is the session's own, also where a backend has answered otherwise. Raises ``SessionError``
    where the agent answered nothing, and ``SpecError`` where a backend cannot be built.
    """
    requests = original.script.requests
    with Reader.open(original.path) as reader:
        places = [place for place, asked in enumerate(requests) if asked.role == role and asked.reply is not None]
        questions = tuple(question_of(reader, requests, place) for place in places)
        costs = tuple(_cost(reader, original, question) for question in questions)
    if not questions:
        raise SessionError(f"The {role} answered nothing in session {original.row.id}, expected an agent that did.")
    answers = [tuple(await ask_turns(original, questions, spec, to)) for spec in specs]
    return Turns(questions, costs, tuple(answers))


def _cost(reader: Reader, original: Original, question: Question) -> Cost:
    """What the session's own answer cost."""
    following = original.script.requests[question.place + 1 :]
    before = following[0].event if following else None
    return cost_of(reader, original.row.id, question.asked.role, question.asked.event - 1, before)
