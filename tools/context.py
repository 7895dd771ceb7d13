"""The session context, which its tools share: settings, task, state, trainer and ledger."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from learning_signal.ledger.write.writer import Ledger
from learning_signal.marl.segments.segment import round_up
from learning_signal.marl.shaping import ShapingConfig
from learning_signal.marl.tasks.base import TaskSpec
from learning_signal.tools.base import ToolRefused
from learning_signal.tools.contracts import Candidate
from learning_signal.tools.plan.cost import rung_lengths
from learning_signal.tools.plan.rise import rise_on
from learning_signal.tools.plan.settings import SessionSettings
from learning_signal.tools.roles import Role
from learning_signal.tools.state import CONTROL, Head, Round, SessionState, VerdictRecord
from learning_signal.tools.trainer import Trainer

Fact = TypeVar("Fact", bound=BaseModel)


@dataclass(frozen=True)
class HumanQuestion:
    """A promotion that waits for a person's approval."""

    session: str
    round: int
    candidate: Candidate
    verdict: VerdictRecord
    reason: str
    """The Coordinator's reason."""
    unsupported: tuple[str, ...] = ()
    """What the record does not support in rationale, reading and reason."""
    id: str = ""
    """As ``approve`` and ``reject`` take it."""
    asked: str = ""
    """When it was asked: an answer from another shell names it."""
    withdrawn: threading.Event = field(default_factory=threading.Event, compare=False)
    """Set once nobody has to answer here any more: the answer came from elsewhere, or the session pauses."""


@dataclass(frozen=True)
class HumanAnswer:
    """The person's answer."""

    approved: bool
    reason: str
    by: str = "a person"
    """Who gave it, and from where."""
    inbox: int | None = None
    """Up to where the inbox is read with it; None for an answer that came otherwise."""


@dataclass(frozen=True)
class Earlier:
    """A session of a log: the sessions that ended before it are those that agents are told of."""

    ledger: Path
    session: str


@dataclass
class SessionContext:
    """Everything a tool may touch. One per session; ``state`` is the only part that changes."""

    session: str
    settings: SessionSettings
    task: TaskSpec
    state: SessionState
    trainer: Trainer
    ledger: Ledger
    count_tokens: Callable[[str], int]
    ask_agent: Callable[[Role, str], Awaitable[str]]
    """(role, question) -> answer, for the Coordinator's ``ask``."""
    ask_human: Callable[[HumanQuestion], Awaitable[HumanAnswer]]
    earlier: Earlier | None = None
    """Whose earlier sessions are told; this one's where it is None."""

    @property
    def round(self) -> Round:
        """The round in progress."""
        if self.state.round is None:
            raise RuntimeError("no round is in progress")
        return self.state.round

    @property
    def head(self) -> Head:
        """Where the main run stands; there is a HEAD from the end of the first stage on."""
        if self.state.head is None:
            raise RuntimeError("no stage has ended yet")
        return self.state.head

    @property
    def branch_steps(self) -> int:
        """Env steps of a confirmation branch, in whole rollouts."""
        return round_up(self.settings.run, self.settings.branch_steps, self.task)

    @property
    def screen_steps(self) -> int:
        """Env steps of a screening branch, in whole rollouts."""
        return self.rungs[-1]

    @property
    def rungs(self) -> tuple[int, ...]:
        """Env steps of a screening branch up to the end of each of its rungs."""
        return rung_lengths(self.settings, self.task)

    @property
    def stage_steps(self) -> int:
        """Env steps of the main run between two deliberations, in whole rollouts."""
        return round_up(self.settings.run, self.settings.stage_steps, self.task)

    @property
    def good_rise(self) -> float:
        """`rise_on` the task of this session with its learner's discount."""
        return rise_on(self.task, self.settings.run.learner.discount)

    @property
    def next_comparison(self) -> str:
        """What the next comparison of the session will be called."""
        return f"C{self.state.comparisons + 1}"

    def shaping_of(self, arm: str) -> ShapingConfig:
        """The shaping of an arm of this round; ``KeyError`` if it is neither the control nor a candidate."""
        return self.head.shaping if arm == CONTROL else self.round.candidate(arm).shaping

    def candidate_id(self, arm: str | None) -> str | None:
        """The ledger's id of an arm's candidate, None for the control; ``KeyError`` if no proposal has it."""
        if arm is None or arm == CONTROL:
            return None
        for refinement, proposal in enumerate(self.round.proposals):
            if any(candidate.name == arm for candidate in proposal.candidates):
                return self.row_id(f"P{self.round.number}.{refinement}/{arm}")
        raise KeyError(arm)

    def row_id(self, name: str) -> str:
        """The ledger's id of something the agents call ``name``, e.g. ``B3``."""
        return f"{self.session}/{name}"

    def as_kept(self, fact: Fact) -> Fact:
        """``fact`` as its rows will store it, with keys redacted, so that a resume reads back what memory holds.

        ``ToolRefused`` if the redaction makes a text too long.
        """
        try:
            return type(fact).model_validate(self.ledger.redacted(fact.model_dump(mode="json")))
        except ValidationError as error:
            place = error.errors()[0]["loc"]
            field = " ".join(str(part + 1) if isinstance(part, int) else part for part in place)
            raise ToolRefused(
                f"Found what looks like a key in {field}, and its redaction makes the text too long: "
                "leave the key out, or write less."
            ) from error

    def event(
        self, kind: str, title: str, *, status: str = "ok", agent: str | None = None, ref: tuple[str, Any] | None = None
    ) -> int:
        """Write an event of the current round and phase; returns its number."""
        return self.ledger.event(
            self.session,
            kind,
            title,
            round=self.state.round_number or None,
            phase=self.state.phase,
            agent=agent,
            status=status,
            ref=ref,
        )
