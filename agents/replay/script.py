"""What the agents of a recorded session were asked, in order, and what they and the people were answered."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from learning_signal.agents.arguments.proposal import offer_of
from learning_signal.agents.model.dialect.usage import Usage
from learning_signal.agents.model.errors import Kind
from learning_signal.agents.roles import FALLBACK
from learning_signal.agents.session.surroundings import Heard
from learning_signal.ledger.read.outside import requests_of
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.wording import goes_on
from learning_signal.tools.context import HumanAnswer
from learning_signal.tools.roles import ROLES, Role
from learning_signal.tools.state import Offer, Request, Saying

_CALLS = (
    "SELECT llm_calls.*, e.round, e.phase FROM llm_calls JOIN events e ON e.seq = llm_calls.event_seq "
    "WHERE llm_calls.session_id = ? AND e.kind <> 'shadow' ORDER BY llm_calls.id"
)

_ANSWER = re.compile(r"(?:approved|rejected) by (?P<by>.+?): (?P<reason>.*)", re.DOTALL)
"""The title of the event of a person's answer."""


@dataclass(frozen=True)
class Attempt:
    """One attempt at an answer: a row of ``llm_calls`` that was completed."""

    number: int
    reply: str | None
    """JSON; None where it failed."""
    error_kind: Kind | None
    error: str | None
    model_served: str | None
    finish_reason: str | None
    usage: Usage | None
    """The server's count; None where it gave none."""


@dataclass(frozen=True)
class Asked:
    """A request of the recorded session, with every attempt at answering it."""

    event: int
    """Of its first attempt."""
    role: Role
    round: int | None
    phase: str | None
    spec: str
    request_hash: str
    context: tuple[str, ...]
    """Addresses of the messages that were sent."""
    tools: str
    """Address of the tools' schemas."""
    attempts: tuple[Attempt, ...]
    late: bool
    """Whether it was given up at its deadline, in the middle of an attempt."""

    @property
    def reply(self) -> str | None:
        """The usable reply, or None where there was none."""
        return self.attempts[-1].reply if self.attempts else None


@dataclass(frozen=True)
class Script:
    """Everything that came into a session from outside, but its training."""

    requests: tuple[Asked, ...]
    chains: Mapping[Role, tuple[str, ...]]
    """By role: the backends, or chains of them, that it was begun and resumed with, oldest first."""
    approvals: Mapping[int, tuple[HumanAnswer, ...]]
    """By round: a person's answers to the promotions that were put to them."""
    heard: Heard
    """What was told to it from outside."""
    model_seconds: float
    """Time that the models took, failed attempts included."""


def read_script(reader: Reader, session: str) -> Script:
    """The script of a session of the log, as far as it went."""
    rows = reader.rows(_CALLS, (session,))
    resumes = [
        event.seq for event in reader.events(session, kind="session") if event.title.startswith(goes_on(session))
    ]
    groups = [list(group) for _, group in groupby(rows, key=lambda row: (row["agent"], row["request_hash"]))]
    after = [group[0]["event_seq"] for group in groups[1:]] + [None]
    found = [_asked(reader, group, following, resumes) for group, following in zip(groups, after, strict=True)]
    approvals: dict[int, tuple[HumanAnswer, ...]] = {}
    for event in reader.events(session, kind="approval"):
        if (found_answer := _ANSWER.match(event.title)) is None:  # it answered no open question
            continue
        answer = HumanAnswer(event.status == "ok", found_answer["reason"], found_answer["by"])
        approvals[event.round or 0] = (*approvals.get(event.round or 0, ()), answer)
    given = [agent for agent in reader.agents(session) if agent.source != FALLBACK]
    return Script(
        requests=tuple(each for each in found if each.attempts or each.late),
        chains={role: tuple(agent.spec for agent in given if agent.role == role) for role in ROLES},
        approvals=approvals,
        heard=Heard(_said(reader, session), *_requests(reader, session)),
        model_seconds=sum(row["latency_ms"] or 0.0 for row in rows) / 1000,
    )


def _said(reader: Reader, session: str) -> dict[int, list[Saying]]:
    """The words of persons in the briefs, which is where the agents read them."""
    briefs = reader.rows(
        "SELECT bodies.body FROM messages JOIN bodies ON bodies.hash = messages.body "
        "WHERE session_id = ? AND type = 'task' ORDER BY messages.id",
        (session,),
    )
    cards = {number: json.loads(row["body"].partition("\n")[2]) for number, row in enumerate(briefs)}
    return {
        number: [Saying(**each) for each in card["person_says"]["said"]]
        for number, card in cards.items()
        if "person_says" in card
    }


def _requests(reader: Reader, session: str) -> tuple[dict[tuple[int, int], list[Offer]], dict[int, list[Request]]]:
    """Proposals from outside by the proposal that examined them, and wishes by the stage that granted them."""
    offers: dict[tuple[int, int], list[Offer]] = {}
    wanted: dict[int, list[Request]] = {}
    for each in requests_of(reader, session):
        if each.refinement is not None:
            offer = offer_of(each.id, each.by, each.asked)
            offers.setdefault((each.round or 0, each.refinement), []).append(offer)
        elif each.stage is not None:
            wanted.setdefault(each.stage, []).append(Request(id=each.id, by=each.by))
    return offers, wanted


def _asked(reader: Reader, rows: list[dict[str, Any]], following: int | None, resumes: list[int]) -> Asked:
    first, last = rows[0], rows[-1]
    interrupted = all(row["status"] in ("interrupted", "pending") for row in rows)
    stopped = following is None or any(last["event_seq"] < seq < following for seq in resumes)
    answered = [row for row in rows if row["status"] in ("ok", "error")]
    return Asked(
        event=first["event_seq"],
        role=first["agent"],
        round=first["round"],
        phase=first["phase"],
        spec=first["spec"],
        request_hash=first["request_hash"],
        context=tuple(reader.json(first["context"])),
        tools=first["tools"],
        attempts=tuple(_attempt(reader, row) for row in answered),
        late=interrupted and not stopped,
    )


def _attempt(reader: Reader, row: dict[str, Any]) -> Attempt:
    counted = row["tokens_in"] is not None and row["tokens_out"] is not None
    parts = {name: row[f"tokens_{name}"] for name in ("cached", "reasoning")} | {"written": row["tokens_cache_written"]}
    return Attempt(
        number=row["attempt"],
        reply=reader.body(row["reply"]),
        error_kind=row["error_kind"],
        error=row["error"],
        model_served=row["model_served"],
        finish_reason=row["finish_reason"],
        usage=Usage(row["tokens_in"], row["tokens_out"], **parts) if counted else None,
    )
