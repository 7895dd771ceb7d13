"""One model call, as the layers of ``stack`` pass it down: its caller, its limits and its request hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from autogen_core import CancellationToken
from autogen_core.models import LLMMessage

from learning_signal.agents.human.turn import Person
from learning_signal.agents.model.dialect.outgoing import Outgoing
from learning_signal.agents.model.providers.spec import BackendSpec
from learning_signal.agents.model.wire import WireNote
from learning_signal.ledger.wording import shadow_of
from learning_signal.ledger.write.writer import Ledger


@dataclass
class CallContext:
    """Where the session stands; its owner keeps it up to date and every call is recorded under it.

    ``round``, ``phase`` and ``step`` together must name one model call of an agent: the same call after a
    resume has the same three, another call never has. Put the refinement and the number of the question
    into ``step``.
    """

    round: int | None = None
    phase: str | None = None
    step: str = ""
    insist: bool = False
    """Whether the agent's last reply called no tool: it is now made to, where the server can."""
    person: Person | None = None
    """Who takes the turns of persons that play agents."""


@dataclass(frozen=True)
class Caller:
    """Who calls, for the ledger: one agent of one session."""

    ledger: Ledger
    session: str
    role: str
    spec: BackendSpec
    context: CallContext
    shadow: bool = False
    """Whether it is asked beside the role's agent: what it answers is never acted on."""

    @property
    def name(self) -> str:
        """Who the calls are counted for."""
        return shadow_of(self.role) if self.shadow else self.role


@dataclass(frozen=True)
class Limits:
    """Timeouts and attempts of one answer."""

    attempts: int = 5
    """Most attempts."""
    timeout: float = 120.0
    """Seconds one attempt may take."""
    first_timeout: float | None = None
    """The same until the server has answered once: it may load its model first. None: no other than ``timeout``."""
    deadline: float = 300.0
    """Seconds one answer may take, attempts and waits together."""
    backoff: float = 0.5
    """Seconds before the second attempt; doubles with each further one, with a jitter of a quarter."""
    longest_wait: float = 30.0
    """Longest wait in seconds, where the server does not ask for one."""

    def with_spec(self, spec: BackendSpec) -> Limits:
        """These limits, except where ``spec`` sets its own: a longer attempt that it allows has a deadline as long."""
        names = ("attempts", "timeout", "first_timeout", "deadline")
        chosen = {name: getattr(spec.parameters, name) for name in names}
        limits = replace(self, **{name: value for name, value in chosen.items() if value is not None})
        if chosen["timeout"] is not None and chosen["deadline"] is None:
            limits = replace(limits, deadline=max(limits.deadline, limits.timeout))
        if chosen["first_timeout"] is None and limits.first_timeout is not None:
            # what a spec says of any attempt or answer holds for the first, too
            first = None if chosen["timeout"] is not None else min(limits.first_timeout, limits.deadline)
            limits = replace(limits, first_timeout=first)
        return limits

    def attempt(self, first: bool) -> tuple[str, float]:
        """Name and seconds of the limit of one attempt; ``first`` before the server has answered once."""
        if first and self.first_timeout is not None:
            return "first_timeout", self.first_timeout
        return "timeout", self.timeout

    def answer(self, first: bool) -> float:
        """Seconds one answer may take: an attempt at the first one may fill them."""
        return max(self.deadline, self.first_timeout or 0.0) if first else self.deadline


_YEAR = 366 * 86_400.0
IN_THEIR_OWN_TIME = Limits(attempts=1, timeout=_YEAR, deadline=_YEAR)
"""Those of a person."""


@dataclass(frozen=True)
class Call:
    """A request to a model."""

    messages: Sequence[LLMMessage]
    tools: Sequence[Any] = ()
    """autogen tools or tool schemas."""
    request: str = ""
    """``request_hash`` of the call as the agent made it, before a layer changes the messages."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """autogen's other arguments of ``create``, passed on as they are."""
    cancellation_token: CancellationToken | None = None
    outgoing: Outgoing = field(default_factory=Outgoing)
    """What is done to the request on its way out."""
    note: WireNote = field(default_factory=WireNote)
    """Metadata of the reply to this attempt; filled in by ``wire``."""

    @property
    def schemas(self) -> list[dict[str, Any]]:
        """The schemas of the tools."""
        return schemas(self.tools)


def request_hash(
    spec: BackendSpec, role: str, context: CallContext, messages: Sequence[LLMMessage], tools: Sequence[Any]
) -> str:
    """SHA-256 over everything that makes a request: backend, place in the session, messages and tools."""
    parts = [
        spec.text,
        [role, context.round, context.phase, context.step],
        [message.model_dump(mode="json") for message in messages],
        schemas(tools),
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def schemas(tools: Sequence[Any]) -> list[dict[str, Any]]:
    """The schema of each autogen tool; what is one already stays as it is."""
    return [tool if isinstance(tool, dict) else dict(tool.schema) for tool in tools]
