"""A replay that another backend leaves at one request: it goes on from there with the tools and the state of then."""

from __future__ import annotations

from typing import Any

from autogen_core.models import CreateResult

from learning_signal.agents.model.call import Call, CallContext, Caller
from learning_signal.agents.model.prices import price_of
from learning_signal.agents.model.providers.spec import BackendSpec
from learning_signal.agents.model.specs import parse_spec, refuse_role
from learning_signal.agents.model.stack.client import AgentClient, agent_client
from learning_signal.agents.replay.original import Original
from learning_signal.agents.replay.played import Playback
from learning_signal.agents.replay.session import Watcher
from learning_signal.agents.whatif.answers import last_event
from learning_signal.agents.whatif.question import Question
from learning_signal.ledger.write.writer import Ledger
from learning_signal.tools.context import HumanAnswer, HumanQuestion
from learning_signal.tools.roles import Role

OTHERS = parse_spec("rules")
"""Who speaks for the other roles behind the fork, where their recorded words no longer fit."""


class Fork(Playback):
    """The script up to a question, and from there on a backend for the role that was asked."""

    def __init__(self, original: Original, question: Question, spec: BackendSpec) -> None:
        """``SpecError`` where the backend cannot play the role."""
        refuse_role(spec, question.asked.role)
        super().__init__(original.script, original.path, original.settings.agents, done=False)
        self.question, self._spec, self._prices = question, spec, original.settings.prices
        self.began: int | None = None
        """The last event of the log before the question was put; None until then."""

    @property
    def over(self) -> bool:
        """Whether the question was put: nothing is played behind it."""
        return self.began is not None

    def client(
        self, spec: BackendSpec, role: Role, *, ledger: Ledger, session_id: str, context: CallContext, **more: Any
    ) -> AgentClient:
        """The client of an agent: the recorded one until the fork, a live one from there on."""
        given: dict[str, Any] = {"ledger": ledger, "session_id": session_id, "context": context}
        played = super().client(spec, role, **given, **more)
        chosen = self._spec if role == self.question.asked.role else OTHERS
        live = agent_client(chosen, role, **given, limits=more.get("limits"), price=price_of(chosen, self._prices))
        caller = Caller(ledger, session_id, role, spec, context)
        return AgentClient(_Forked(self, caller, played, live), caller, live)

    def put(self, caller: Caller, call: Call) -> None:
        """Note that the question is put now. Raises as ``next``: it must be the recorded request."""
        self.next(caller, call)
        self.began = last_event(caller.ledger)


class _Forked:
    """The layer in which the two ways part."""

    def __init__(self, fork: Fork, caller: Caller, played: AgentClient, live: AgentClient) -> None:
        self._fork, self._caller, self._played, self._live = fork, caller, played, live

    async def answer(self, call: Call) -> CreateResult:
        fork = self._fork
        if (known := fork.given(call.request)) is not None:
            return known
        given = {"tools": call.tools, "cancellation_token": call.cancellation_token, **call.options}
        if fork.position < fork.question.place:
            return await self._played.create(call.messages, **given)
        if fork.began is None:
            fork.put(self._caller, call)
        return await self._live.create(call.messages, **given)


class ForkWatcher(Watcher):
    """Pauses a session behind its fork: at the end of the phase, or of the round. No person is asked there."""

    def __init__(self, fork: Fork, *, whole_round: bool) -> None:
        super().__init__(fork)
        self._fork, self._whole_round = fork, whole_round

    def ask_human(self, question: HumanQuestion) -> HumanAnswer:
        """The recorded answer; behind the fork, where it would be about something else, the promotion goes through."""
        if self._fork.over:
            return HumanAnswer(approved=True, reason="Nobody was asked: this is a what-if.")
        return super().ask_human(question)

    def stage(self, info: dict[str, Any]) -> None:
        asked = self._fork.question.asked
        if self._fork.over and info["phase"] != asked.phase:
            if not self._whole_round or info["phase"] in ("stage", "report", "done"):
                self.control.request_pause()
