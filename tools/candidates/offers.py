"""What is asked of a session from outside: proposals and rounds, recorded as they come, answered once by the session.

Somebody outside writes nothing but the inbox. What they propose is examined as a draft of the Generator is, joins its
next proposal, and is trained, judged and counted as one of its candidates.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from learning_signal.ledger.wording import OUTSIDER, headline
from learning_signal.marl.shaping import ShapingConfig
from learning_signal.tools.base import ToolRefused
from learning_signal.tools.candidates.examine import Named, examined, refuse_impossible
from learning_signal.tools.context import SessionContext
from learning_signal.tools.contracts import Candidate
from learning_signal.tools.spending import OutOfBudget
from learning_signal.tools.state import Offer, Request, Trigger

MOST_WAITING = 4
"""Proposals from outside that wait for a round at a time, and wishes for one."""
TAKING_UP = ("critic", "generator")
"""The phases of a round in which what waits is still taken up in it."""


@dataclass(frozen=True)
class TakenUp:
    """What became of proposals from outside beside one of the Generator."""

    candidates: tuple[Candidate, ...]
    """Those that are accepted, named."""
    accepted: Mapping[str, tuple[str, ...]]
    """By request, the names of its candidates."""
    refused: Mapping[str, str]
    """By request, why."""


def record_request(context: SessionContext, request: Request, kind: str, at: str, body: Mapping[str, Any]) -> None:
    """Somebody outside asks for something; ``body`` is what, as JSON data. Belongs in a transaction."""
    words = {"propose": "proposes a shaping", "launch": "asks for a round"}[kind]
    seq = context.event(OUTSIDER, f"{request.by} {words} (request {request.id})", agent=OUTSIDER)
    _message(
        context, seq, OUTSIDER, None, "text", {"request": request.id, "kind": kind, "by": request.by, "at": at, **body}
    )


def record_answer(
    context: SessionContext, request: Request, answer: str, *, accepted: bool = False, **fields: Any
) -> None:
    """The session answers a request, which is over with that. Belongs in a transaction.

    ``fields`` say for programs when it was (``round`` and ``refinement``, or ``stage``), and name ``candidates``.
    """
    title = f"to request {request.id} of {request.by}: {headline(answer)}"
    seq = context.event(OUTSIDER, title, status="ok" if accepted else "refused")
    body = {"request": request.id, "status": "accepted" if accepted else "refused", "answer": answer, **fields}
    _message(context, seq, "session", OUTSIDER, "answer", body)
    state = context.state
    state.offers = [each for each in state.offers if each.id != request.id]
    state.wanted = [each for each in state.wanted if each.id != request.id]


def wait_for_a_round(context: SessionContext, offer: Offer) -> None:
    """Keep a proposal until one of the Generator takes it up; ``ToolRefused`` where none ever will."""
    refuse_impossible(context, offer.candidates)
    if len(context.state.offers) >= MOST_WAITING:
        raise ToolRefused(
            f"Found {MOST_WAITING} proposals from outside that wait, expected fewer: propose again after a round."
        )
    if context.state.phase not in TAKING_UP:
        _refuse_without_rounds(context)
    context.state.offers.append(offer)


def want_a_round(context: SessionContext, wish: Request) -> None:
    """Have the next round begin at the end of the stage; ``ToolRefused`` where there is none, or nothing to judge."""
    if context.state.phase in TAKING_UP:
        raise ToolRefused(f"Round {context.round.number} is going on and takes up what waits: no other is needed.")
    _refuse_without_rounds(context)
    if not context.state.offers:
        raise ToolRefused("Found no proposal from outside that waits, expected one to judge in a round: propose first.")
    if len(context.state.wanted) >= MOST_WAITING:
        raise ToolRefused(f"Found {MOST_WAITING} requests for a round, expected fewer: one is enough.")
    context.state.wanted.append(wish)


def _refuse_without_rounds(context: SessionContext) -> None:
    """``ToolRefused`` where no further round can begin."""
    state, settings = context.state, context.settings
    if state.round_number >= settings.rounds or state.stages >= settings.most_stages:
        raise ToolRefused(
            f"Found {state.round_number} of {settings.rounds} rounds and {state.stages} of {settings.most_stages} "
            "stages used, expected one left of both: nothing proposed now would be judged."
        )


def wish(context: SessionContext) -> Trigger | None:
    """Why a round begins that nothing but a request from outside calls for; None without one."""
    wanted = context.state.wanted
    return Trigger(reason="outside", text=f"{wanted[0].by} asks for it, with proposals of theirs") if wanted else None


def grant_wishes(context: SessionContext, price: str) -> None:
    """A round has begun: those who asked for it are told, with its price. Belongs in a transaction."""
    for each in list(context.state.wanted):
        answer = f"Round {context.round.number} begins: {price}."
        record_answer(context, each, answer, accepted=True, round=context.round.number, stage=context.state.stages)


def take_up(
    context: SessionContext, beside: Sequence[Candidate], first: int, afford: Callable[[list[ShapingConfig]], None]
) -> TakenUp:
    """Examine what waits from outside, ``beside`` the candidates of the Generator; number ``first`` is the next name.

    At most as many candidates as the Generator may have are taken up at a time: the rest waits. ``afford`` raises
    ``OutOfBudget`` where a screen of these candidates is not covered.
    """
    taken: list[Candidate] = []
    accepted: dict[str, tuple[str, ...]] = {}
    refused: dict[str, str] = {}
    for offer in context.state.offers:
        if len(taken) + len(offer.candidates) > context.settings.deliberation.candidates:
            break
        others: list[Named] = [(f"{each.name} of the Generator", each.shaping) for each in beside]
        others += [(f"{each.name} from outside", each.shaping) for each in taken]
        found = examined(context, offer.candidates, others, offer.by)
        named = [
            each.model_copy(update={"name": f"c{number}"})
            for number, each in enumerate(found.sound.values(), first + len(taken))
        ]
        try:
            if found.refusals or found.open:
                raise found.refusal()
            afford([each.shaping for each in (*beside, *taken, *named)])
        except ToolRefused as refusal:
            refused[offer.id] = str(refusal)
        except OutOfBudget as short:
            refused[offer.id] = f"Nothing was accepted. {short.why}."
        else:
            taken += named
            accepted[offer.id] = tuple(each.name for each in named)
    return TakenUp(tuple(taken), accepted, refused)


def record_taken_up(context: SessionContext, taken: TakenUp) -> None:
    """Answer the requests that a proposal has taken up, or not. Belongs in its transaction."""
    place: dict[str, Any] = {"round": context.round.number, "refinement": context.state.refinement}
    for offer in list(context.state.offers):
        if (names := taken.accepted.get(offer.id)) is not None:
            ids = [f"R{context.round.number}/{name}" for name in names]
            seeds, steps = context.settings.gate.screen_seeds, context.screen_steps
            cost = f"in the screen {seeds * steps * len(ids):,} env steps of training, counted in the session"
            answer = f"Accepted as {', '.join(ids)}: {cost}."
            record_answer(context, offer, answer, accepted=True, candidates=ids, **place)
        elif offer.id in taken.refused:
            record_answer(context, offer, taken.refused[offer.id], **place)
    if not context.state.offers:
        for each in list(context.state.wanted):
            record_answer(context, each, f"Round {context.round.number} has taken up what waited: no other is needed.")


def dismiss(context: SessionContext) -> None:
    """The session is over: what still waits is answered. Belongs in its last transaction."""
    for each in (*context.state.offers, *context.state.wanted):
        record_answer(context, each, "The session ended before a round could take it up.")


def _message(
    context: SessionContext, seq: int, source: str, target: str | None, kind: str, body: Mapping[str, Any]
) -> None:
    text = json.dumps(body, ensure_ascii=False)
    context.ledger.add(
        "messages", event_seq=seq, session_id=context.session, source=source, target=target, type=kind, body=text
    )
