"""The clients of the agents in a replay: the recorded answers, each to the request that it was given to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from autogen_core.models import CreateResult

from learning_signal.agents.call_ids import with_own_ids
from learning_signal.agents.model.call import Call, CallContext, Caller, Limits
from learning_signal.agents.model.errors import RETRYABLE, BackendError
from learning_signal.agents.model.providers.no_model import NoModel
from learning_signal.agents.model.providers.spec import BackendSpec
from learning_signal.agents.model.replies import repair_history
from learning_signal.agents.model.specs import parse_chain
from learning_signal.agents.model.stack.client import AgentClient
from learning_signal.agents.model.stack.guard import given_up, late
from learning_signal.agents.model.stack.layers import Recorder
from learning_signal.agents.replay.differences import Divergence, Request, request_difference
from learning_signal.agents.replay.script import Asked, Attempt, Script
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.write.writer import Ledger
from learning_signal.tools.base import CannotGoOn
from learning_signal.tools.context import HumanAnswer, HumanQuestion
from learning_signal.tools.plan.budget import Price
from learning_signal.tools.roles import Role


class EndOfScript(CannotGoOn):
    """The session ended here, before it was done."""


class Diverged(CannotGoOn):
    """The replay asks for something else than the session did."""


class OtherBackend(CannotGoOn):
    """Here the session was resumed with another backend of an agent."""


class Playback:
    """A script on its way: what comes next, and what was given already. One per replay, shared by its agents."""

    def __init__(self, script: Script, log: Path, agents: Mapping[str, str], *, done: bool) -> None:
        """``log`` is where the script comes from, ``agents`` the backends that its session began with, ``done`` whether
        it came to its end.
        """
        self.script, self._log, self._done = script, log, done
        self.agents = dict(agents)
        """The backends, or chains of them, at this point, by role."""
        self.position = 0
        """How many of the script's requests were answered."""
        self.divergence: Divergence | None = None
        self.changed = False
        """Whether the session was resumed here with other ``agents``."""
        self._given: dict[str, CreateResult] = {}
        self._approvals = {number: list(answers) for number, answers in script.approvals.items()}

    @property
    def at_its_end(self) -> bool:
        """Whether every recorded request was answered."""
        return self.position == len(self.script.requests)

    @property
    def over(self) -> bool:
        """Whether there is nothing left to be played."""
        return self.at_its_end

    def client(
        self,
        spec: BackendSpec,
        role: Role,
        *,
        ledger: Ledger,
        session_id: str,
        context: CallContext,
        limits: Limits | None = None,
        price: Price | None = None,
        **of_live_sessions: Any,
    ) -> AgentClient:
        """The client of an agent in the replay; called as ``agent_client`` is. It reads no key."""
        caller = Caller(ledger, session_id, role, spec, context)
        bounds = (limits or Limits()).with_spec(spec)
        return AgentClient(_Played(self, caller, bounds, price), caller, NoModel())

    def given(self, request: str) -> CreateResult | None:
        """What this request was answered before: a step that is taken again is not asked twice."""
        return self._given.get(request)

    def give(self, request: str, reply: CreateResult) -> None:
        """Note what a request was answered."""
        self._given[request] = reply

    def next(self, caller: Caller, call: Call) -> Asked:
        """The recorded request that ``call`` repeats.

        Raises ``Diverged`` where it is another one, ``OtherBackend`` where the session was resumed with another backend
        for it, and ``EndOfScript`` where the session was stopped before it.
        """
        place = caller.context
        where = f"the {caller.role} in round {place.round}, {place.phase} phase, step {place.step}"
        if self.at_its_end:
            if not self._done:
                raise EndOfScript("The session ended here.")
            self._diverge(Divergence(None, f"The session asked nothing more, the replay asks {where}."))
        asked = self.script.requests[self.position]
        if asked.request_hash != call.request:
            messages = repair_history(call.messages)
            sent = [message.model_dump(mode="json") for message in messages], call.schemas
            if (asked.role, asked.round, asked.phase) != (caller.role, place.round, place.phase):
                sentence = f"The session asked the {asked.role} in round {asked.round} here, the replay asks {where}."
                self._diverge(Divergence(asked.event, sentence, self._lines(asked, sent, caller.ledger)))
            if lines := self._lines(asked, sent, caller.ledger):
                self._diverge(Divergence(asked.event, f"Another request to {where}.", lines))
            if asked.spec != caller.spec.text:
                self._change(asked, caller.spec.text)
        self.position += 1
        return asked

    def answer_of_a_person(self, question: HumanQuestion) -> HumanAnswer:
        """What a person answered to the promotion of this round; ``EndOfScript`` where nobody did."""
        answers = self._approvals.get(question.round)
        if not answers:
            raise EndOfScript(f"The session ended before a person answered to the promotion of round {question.round}.")
        return answers.pop(0)

    def _lines(self, asked: Asked, sent: Request, ledger: Ledger) -> tuple[str, ...]:
        """How the request differs from the recorded one; nothing where it is the same in other words of ids or keys."""
        with Reader.open(self._log) as reader:
            recorded = [reader.json(address) for address in asked.context], reader.json(asked.tools)
        messages, tools = ledger.redacted(list(sent))
        return request_difference(recorded, (messages, tools))

    def _diverge(self, divergence: Divergence) -> None:
        self.divergence = divergence
        raise Diverged(divergence.sentence)

    def _change(self, asked: Asked, spec: str) -> None:
        """The request is the recorded one, but to another backend: the one that the session was resumed with."""
        later = [each for each in self.script.chains[asked.role] if asked.spec in _members(each)]
        if not later or asked.spec in _members(self.agents[asked.role]):
            sentence = f"The session asked {asked.spec} as the {asked.role} here, the replay asks {spec}."
            self._diverge(Divergence(asked.event, sentence))
        self.agents[asked.role], self.changed = later[-1], True
        raise OtherBackend(f"Here the session was resumed with {later[-1]} as the {asked.role}.")


def _members(chain: str) -> list[str]:
    return [spec.text for spec in parse_chain(chain)]


class _Played:
    """The layers of an agent in a replay: every recorded attempt is recorded again, and nothing is sent."""

    def __init__(self, playback: Playback, caller: Caller, limits: Limits, price: Price | None) -> None:
        self._playback, self._caller, self._limits = playback, caller, limits
        self._answered = False
        self._attempts = _Attempts()
        self._recorder = Recorder(self._attempts, caller, price=price)

    async def answer(self, call: Call) -> CreateResult:
        """The recorded reply, or the ``BackendError`` that the session had."""
        if (known := self._playback.given(call.request)) is not None:
            return known
        asked = self._playback.next(self._caller, call)
        call = replace(call, messages=repair_history(call.messages))
        deadline = self._limits.answer(not self._answered)
        fault: BackendError | None = late(self._caller.spec, deadline) if asked.late else None
        for attempt in asked.attempts:
            self._attempts.present = attempt
            try:
                reply = await self._recorder.answer(call)
            except BackendError as error:
                fault = error
            else:
                reply = with_own_ids(reply, asked.request_hash)
                self._playback.give(call.request, reply)
                self._answered = True
                return reply
        assert fault is not None, "a request without any attempt is none of the script"
        if asked.attempts and fault.kind in RETRYABLE:
            fault = given_up(fault, asked.attempts[-1].number, deadline)
        raise fault


class _Attempts:
    """The layer below the recorder: ends each attempt as it ended in the session."""

    def __init__(self) -> None:
        self.present: Attempt | None = None

    async def answer(self, call: Call) -> CreateResult:
        attempt = self.present
        assert attempt is not None, "the present attempt is set before it is asked for"
        note = call.note
        note.model_served, note.finish_reason, note.usage = attempt.model_served, attempt.finish_reason, attempt.usage
        if attempt.reply is None:
            raise BackendError(attempt.error_kind or "transient", attempt.error or "(no reason was recorded)")
        return CreateResult.model_validate_json(attempt.reply)
