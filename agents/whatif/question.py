"""A recorded request, to be put to another backend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from autogen_core import FunctionCall
from autogen_core.models import CreateResult, LLMMessage
from pydantic import TypeAdapter

from learning_signal.agents.replay.script import Asked
from learning_signal.agents.whatif.stances import ENDING, Stance, stance_of
from learning_signal.ledger.errors import LedgerError
from learning_signal.ledger.read.query import find_place
from learning_signal.ledger.read.reader import Reader

_MESSAGES: TypeAdapter[list[LLMMessage]] = TypeAdapter(list[LLMMessage])


@dataclass(frozen=True)
class Question:
    """A request that was answered, as it was sent."""

    place: int
    """Of the requests of its session, counted from 0."""
    asked: Asked
    messages: Sequence[LLMMessage]
    tools: Sequence[dict[str, Any]]
    answer: Stance
    """What it was answered."""


def question_of(reader: Reader, requests: Sequence[Asked], place: int) -> Question:
    """The request at this place of a session. Raises ``LedgerError`` where it was never answered."""
    asked = requests[place]
    if asked.reply is None:
        raise LedgerError(f"The request of event {asked.event} was never answered, expected one with an answer.")
    return Question(
        place=place,
        asked=asked,
        messages=_MESSAGES.validate_python([reader.json(address) for address in asked.context]),
        tools=reader.json(asked.tools),
        answer=stance_of_reply(CreateResult.model_validate_json(asked.reply)),
    )


def session_and_event(reader: Reader, text: str) -> tuple[str, int]:
    """The session and the number of an event, written as ``SESSION#286``, ``#286`` or ``286``; else ``LedgerError``."""
    place = find_place(reader, text)
    if place.event is None:
        raise LedgerError(f"Found {text!r}, expected an event, such as {place.session}#286: 'log show' numbers them.")
    return place.session, place.event


def place_of(requests: Sequence[Asked], event: int, agent: str | None) -> int:
    """The place of the request that an event is about or came of: the last before it, of its agent where it has one.

    Raises ``LedgerError`` where there is none.
    """
    before = [
        place
        for place, asked in enumerate(requests)
        if asked.event <= event and asked.reply is not None and agent in (None, "human", asked.role)
    ]
    if not before:
        raise LedgerError(f"Nothing was asked before the event #{event}, expected a model call or what came of one.")
    return before[-1]


def stance_of_reply(reply: CreateResult) -> Stance:
    """What a reply comes to."""
    if isinstance(reply.content, str):
        return stance_of([], reply.content)
    return stance_of([(call.name, call.arguments) for call in reply.content if isinstance(call, FunctionCall)])


def end_of_phase(reader: Reader, session: str, asked: Asked, after: int) -> Stance | None:
    """The submission of the agent that was ``asked`` which ended its phase behind an event; None where none did."""
    marks = ", ".join("?" for _ in ENDING)
    rows = reader.rows(
        "SELECT name, arguments FROM tool_calls WHERE session_id = ? AND agent = ? AND round IS ? AND event_seq > ? "
        f"AND status = 'ok' AND name IN ({marks}) ORDER BY id LIMIT 1",
        (session, asked.role, asked.round, after, *ENDING),
    )
    return stance_of([(row["name"], reader.body(row["arguments"])) for row in rows]) if rows else None
