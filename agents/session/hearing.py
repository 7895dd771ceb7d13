"""What is told to a running session from outside: heard between steps, and while a promotion waits."""

from __future__ import annotations

import asyncio

from learning_signal.agents.arguments.proposal import offer_of
from learning_signal.agents.session.observer import Observer, SessionControl, in_thread
from learning_signal.agents.session.surroundings import Heard
from learning_signal.ledger.inbox import Letter, letters
from learning_signal.ledger.questions import how_to_answer, open_question
from learning_signal.tools.base import CannotGoOn, ToolRefused
from learning_signal.tools.candidates.offers import record_answer, record_request, wait_for_a_round, want_a_round
from learning_signal.tools.context import HumanAnswer, HumanQuestion, SessionContext
from learning_signal.tools.state import Request, Saying

EVERY_SECONDS = 0.25
"""Between two looks at the inbox while a promotion waits."""


class Hearing:
    """Takes in the letters of a session's inbox, and has its questions answered by whoever is first.

    With ``heard``, as in a replay, there is no inbox.
    """

    def __init__(
        self, context: SessionContext, observer: Observer, control: SessionControl, heard: Heard | None = None
    ) -> None:
        self._context, self._observer, self._control, self._heard = context, observer, control, heard
        context.ask_human = self.answer

    def hear(self, question: HumanQuestion | None = None) -> HumanAnswer | None:
        """Record what was sent since the last time; the answer to ``question``, if one is among it.

        The answer itself is recorded with the decision, so that neither is ever there without the other. One to the
        question that a resume will ask again is left for then.
        """
        context = self._context
        state = context.state
        if self._heard is not None:
            self._hear_again(self._heard)
            return None
        new = letters(context.ledger.path, context.session, state.inbox)
        if not new:
            return None
        open_ = open_question(context.ledger.rows, context.session)
        with context.ledger.transaction("heard"):
            answer = None
            for letter, end in new:
                if open_ is not None and letter.asked == open_.asked and letter.kind != "say":
                    if question is None:
                        break
                    reason = context.ledger.redacted(letter.text).strip() or "no reason given"
                    by = f"{letter.by}, from another shell, {_time(letter)}"
                    answer = HumanAnswer(letter.kind == "approve", reason, by, end)
                    break
                self._take(letter)
                state.inbox = end
            context.ledger.save_cursor(context.session, state.model_dump(mode="json"))
        return answer

    async def answer(self, question: HumanQuestion) -> HumanAnswer:
        """The first answer, from the terminal or from another shell.

        Raises ``CannotGoOn`` where a pause is asked for meanwhile.
        """
        here = asyncio.ensure_future(in_thread(lambda: self._observer.ask_human(question)))
        waiting = {here}
        try:
            while True:
                if (found := self.hear(question)) is not None:
                    return found
                if self._control.pausing:
                    how = how_to_answer(question.id, self._context.ledger.path)
                    raise CannotGoOn(
                        f"Paused on request while the promotion of {question.candidate.name} waits for an answer, "
                        f"which may still be given ({how}) and is read by the resume."
                    )
                if not waiting:
                    await asyncio.sleep(EVERY_SECONDS)
                    continue
                done, waiting = await asyncio.wait(waiting, timeout=EVERY_SECONDS)
                if done and (reply := here.result()) is not None:
                    return reply
        finally:
            question.withdrawn.set()
            if waiting:
                await asyncio.wait(waiting, timeout=0.5)  # the view takes its question back

    def _hear_again(self, heard: Heard) -> None:
        """What the recorded session had heard by now."""
        state = self._context.state
        briefs = len(self._context.ledger.find("messages", session_id=self._context.session, type="task"))
        state.said = list(heard.said.get(briefs, ()))
        state.offers = list(heard.offers.get((state.round_number, state.refinement), ()))
        state.wanted = list(heard.wanted.get(state.stages + 1, ())) if state.phase == "stage" else []

    def _take(self, letter: Letter) -> None:
        """Record a letter that answers no open question."""
        context = self._context
        if letter.id is not None:
            self._take_request(letter, letter.id)
            return
        if letter.kind != "say":
            word = "an approval" if letter.kind == "approve" else "a rejection"
            title = f"{word} by {letter.by} ({_time(letter)}) answers no open question and was not used"
            context.event("approval", title, agent="human", status="refused")
            return
        text = context.ledger.redacted(letter.text).strip()
        seq = context.event("message", f"{letter.by} says: {text[:160]}", agent="human")
        context.ledger.add(
            "messages", event_seq=seq, session_id=context.session, source="human", target=None, type="text", body=text
        )
        context.state.said.append(Saying(at=letter.at, text=text))

    def _take_request(self, letter: Letter, number: str) -> None:
        """Record a request; one that cannot be met is refused at once, the others wait for a round."""
        context, asked = self._context, Request(id=number, by=letter.by)
        text = context.ledger.redacted(letter.text)
        body = {"candidates" if letter.kind == "propose" else "reason": text}
        record_request(context, asked, letter.kind, letter.at, body)
        try:
            if letter.kind == "launch":
                want_a_round(context, asked)
            else:
                wait_for_a_round(context, offer_of(number, letter.by, text))
        except ToolRefused as refusal:
            record_answer(context, asked, str(refusal))


def _time(letter: Letter) -> str:
    return f"{letter.at[:19].replace('T', ' ')} UTC"
