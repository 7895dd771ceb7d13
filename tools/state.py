"""The state of a session. What no row of the ledger holds is saved with every step as one JSON document, the cursor.

A resume reads the rest back from the rows (`tools.recall`).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, field_validator

from learning_signal.marl.gate.judge import Outcome, Purpose
from learning_signal.marl.gate.measure import MeasureName
from learning_signal.marl.gate.order import Order
from learning_signal.marl.settings import Frozen
from learning_signal.marl.shaping import ShapingConfig
from learning_signal.tools.contracts import Action, Candidate, CandidateDraft, Decision, Diagnosis, Proposal, SendBack
from learning_signal.tools.plan.budget import Budget, Price
from learning_signal.tools.roles import Role

Kept = TypeVar("Kept")
InRows = Annotated[Kept, Field(exclude=True)]
"""Fields that the ledger's rows hold instead. Cursors of earlier versions have them; they are ignored."""

CONTROL = "control"
"""The arm that keeps the shaping of HEAD; every other arm is a candidate's name."""
Fate = Literal["promoted", "passed", "failed", "inconclusive", "screened out", "not compared", "rolled back"]
"""The fate of a candidate; ``passed`` is one that passed and was not promoted, or is not decided on yet."""
Phase = Literal["stage", "critic", "generator", "validator", "coordinator", "report", "done"]


class Head(Frozen):
    """A point of the main run: the segment it ends with, its position, and the shaping in force."""

    segment: str
    env_steps: int
    shaping: ShapingConfig


class Branch(Frozen):
    """One arm of a comparison: the same shaping on every seed of its purpose."""

    name: str
    """B1, B2 ...: unique within a session."""
    arm: str
    """``control`` or a candidate's name."""
    purpose: Purpose
    refinement: int
    segments: tuple[str, ...]
    """Segment ids in seed order; pairs share the position. Of a screen: those of its last rung."""
    rung: int = 0
    """How often a halving screen has continued this branch."""
    attempt: int = 0
    """Of a confirmation: which of the round's, from 0."""
    reason: str = ""
    """Why its candidate is confirmed where the ranking does not have it first; empty otherwise."""


class Tried(Frozen):
    """A shaping this session has tested, and what became of it."""

    round: int
    refinement: int
    candidate: str
    shaping: ShapingConfig
    source: str | None = None
    """Who proposed it, where that is nobody of this session."""
    outcome: Fate
    measure: MeasureName | None
    difference: float | None
    reason: str


class VerdictRecord(Frozen):
    """A verdict of a refinement: as computed, and with the Validator's reading once that is submitted."""

    id: str
    refinement: int
    candidate: str | None
    outcome: Outcome
    measure: MeasureName | None
    reason: str
    reading: str = ""
    p: float | None = None
    difference: float | None = None
    comparison: str | None = None
    """The confirmation it rests on; None where nothing could be compared."""
    means: dict[str, dict[MeasureName, float | None]] | None = None
    """Both measures of both arms (``control``, ``candidate``); None where the judge gives none."""
    size: float | None = None
    """What the confirmation could pass with where nothing differs; None where it is not counted."""
    interval: tuple[float | None, float | None] | None = None
    """Of the difference; a bound is None where it could not be computed."""
    level: float | None = None
    """What p was compared with; None where nothing was tested."""
    n: int | None = None
    """Branches of each arm."""
    values: dict[str, dict[MeasureName, list[float | None]]] | None = None
    """Both measures of both arms, branch by branch; None where nothing was compared."""
    wins: int | None = None
    """Pairs of branches, of ``n ** 2``, that the candidate won; None where the judge does not count them."""


class Screen(Frozen):
    """The result of a screen or a rung of it: which candidate goes on to confirmation, or which to the next rung."""

    comparison: str
    refinement: int
    chosen: str | None
    measure: MeasureName
    differences: dict[str, float | None]
    """By candidate, best first."""
    notes: dict[str, str]
    rung: int = 0
    goes_on: tuple[str, ...] | None = None
    """The candidates of the next rung; None where the screen is over."""
    confirmable: tuple[str, ...] | None = None
    """The candidates that may be confirmed, best first; None: ``chosen`` alone."""
    order: Order | None = None
    """What makes one branch better than another; None where one measure alone is compared."""
    gains: dict[str, dict[MeasureName, float | None]] = {}
    """By candidate, its mean differences in both measures, where both are used."""
    values: dict[str, dict[MeasureName, list[float | None]]] = {}
    """By arm, the control first: both measures, seed by seed."""
    extended: str = ""
    """Why it was given a further seed, in the Validator's words; empty where it was not."""
    reason: str = ""

    @field_validator("differences", "notes", mode="before")
    @classmethod
    def _from_pairs(cls, given: Any) -> dict[str, Any]:
        return dict(given)  # as pairs they are in the cursors of earlier versions


class Probation(Frozen):
    """A promotion on probation: where it started, so that it can be undone."""

    round: int
    candidate: str
    parent: Head


class Regression(Frozen):
    """A promotion that failed its probation."""

    round: int
    candidate: str
    parent: Head
    comparison: str
    reason: str


class HistoryRow(Frozen):
    """One past decision, as the agents are told it."""

    round: int
    action: Action
    candidate: str | None
    shaping_text: str
    outcome: str | None
    reason: str
    decided_by: str = "coordinator"


class Trigger(Frozen):
    """Why a round began when it did."""

    reason: Literal["first", "stall", "regression", "after rollback", "schedule", "outside"]
    text: str
    """The numbers it rests on, in words."""


class MadeCall(Frozen):
    """A call that was made before in this phase, and what came of it the last time."""

    result: str
    """A hash of its result."""
    times: int
    """How often it was made with this result, in different steps."""
    step: str
    evidence: str | None = None
    """The id of the result, where it is evidence."""
    told: int = 0
    """The turn of the phase in which the result was last told in full."""


class PhaseCalls(BaseModel):
    """The calls of the present phase, by a hash of tool and arguments, so that a loop is seen."""

    model_config = ConfigDict(extra="forbid")

    made: dict[str, MadeCall] = {}
    looped: str | None = None
    """Why the phase has ended early, in words that follow the agent's name; None while there is no loop."""


class RoundFacts(BaseModel):
    """The facts of a round, from diagnosis to decision: all of them are in rows of the ledger."""

    model_config = ConfigDict(extra="forbid")

    number: int
    diagnosis: InRows[Diagnosis | None] = None
    diagnosis_id: InRows[str | None] = None
    proposals: InRows[list[Proposal]] = []
    """One per refinement."""
    branches: InRows[list[Branch]] = []
    screens: InRows[list[Screen]] = []
    confirmations: InRows[list[VerdictRecord]] = []
    """As computed, before the Validator has read them out."""
    verdicts: InRows[list[VerdictRecord]] = []
    decision: InRows[Decision | None] = None

    def candidate(self, name: str) -> Candidate:
        """The candidate called ``name``; ``KeyError`` if no proposal of this round has it."""
        for proposal in self.proposals:
            for candidate in proposal.candidates:
                if candidate.name == name:
                    return candidate
        raise KeyError(name)

    @property
    def passed(self) -> tuple[str, ...]:
        """The candidates with a passing verdict, in the order of their verdicts."""
        return tuple(each.candidate for each in self.verdicts if each.outcome == "pass" and each.candidate is not None)

    @property
    def promotable(self) -> str | None:
        """The candidate that passed last, or None."""
        return self.passed[-1] if self.passed else None


class Round(RoundFacts):
    """The round in progress: its facts, which grow by what the tools accept, and what only the cursor keeps of it."""

    stage: str
    why_now: Trigger | None = None
    """None in a round that an earlier version opened."""
    regression: InRows[Regression | None] = None
    sent_back: SendBack | None = None
    """What the Coordinator last sent the round back for."""
    sent_back_for: list[str] = []
    """Every candidate it was sent back for: each once."""
    evidence_summary: str | None = None
    """The last trajectory summary of the main run that the Critic read, as JSON text; a tool call's row may cut it."""
    remarked: list[str] = []
    """Shapings, by hash, of candidates on which remarks were made."""
    speculated: list[str] | None = None
    """Segments of the control that were begun while the agents talked; None before that, or without it."""
    questions: int = 0
    records: dict[str, str] = {}
    """Per role, the text of its phase, so that a question to it can be answered."""
    fallbacks: list[Role] = []
    """A role for every backend of its chain that failed or gave up in this round."""


class Saying(Frozen):
    """A sentence of a person, for the brief of the next phase."""

    at: str
    """When it was sent."""
    text: str


class Request(Frozen):
    """What somebody outside of the session asks of it and is not answered yet."""

    id: str
    by: str
    """Who asks: user@host and the program."""


class Offer(Request):
    """Candidates that somebody outside proposes, until a proposal of the Generator takes them up."""

    candidates: tuple[CandidateDraft, ...]


class SessionState(BaseModel):
    """The session's cursor, and beside it what the rows hold."""

    model_config = ConfigDict(extra="forbid")

    phase: Phase = "stage"
    round_number: int = 0
    refinement: int = 0
    again: int = 0
    """How often the present round was sent back: its phases are entered again, and are others."""
    stages: int = 0
    """Stages of the main run so far."""
    stages_without: int = 0
    """Stages since the last round."""
    step: int = 0
    """Model calls made in the current phase."""
    brief: str | None = None
    """The task message of the current phase; None until what it needs is read or screened."""
    nudge: str | None = None
    """The next message to the agent, when its last answer called no tool."""
    ended_by: str | None = None
    """The submission that ended the current phase, until the next one is entered."""
    idle: bool = False
    """Whether the last reply of the phase called no tool."""
    calls: PhaseCalls = PhaseCalls()
    taken_over: str | None = None
    """Why code does what is left of the Validator's phase, in words that follow the agent's name."""
    thought_in: str | None = None
    """The step whose thought is written already, while that step lasts."""
    agent_state: dict[str, Any] | None = None
    """autogen's saved state of the agent in the current phase."""
    head: InRows[Head | None] = None
    round: Round | None = None
    probation: InRows[Probation | None] = None
    tried: InRows[list[Tried]] = []
    history: InRows[list[HistoryRow]] = []
    before: InRows[Head | None] = None
    """HEAD at the first deliberation: what the final report compares with."""
    twin: Head | None = None
    """How far the sparse twin is trained."""
    twin_steps: Annotated[int | None, Field(validation_alias=AliasChoices("twin_steps", "spent"))] = None
    """Env steps of main run and branches when the twin began, reused ones included: the length of the twin."""
    budget: Budget = Budget()
    """The limits in force: those of the settings, as resumes have changed them."""
    prices: dict[str, Price] = {}
    """Prices given by resumes, which override those of the settings."""
    branches: InRows[int] = 0
    """Branches of all rounds."""
    comparisons: InRows[int] = 0
    level_spent: InRows[float] = 0.0
    """Sum of the sizes of the session's confirmations whose candidates were not promoted."""
    inbox: int = 0
    """Up to where the inbox is read, in bytes."""
    said: list[Saying] = []
    """What a person has said since the last brief."""
    offers: list[Offer] = []
    """Proposals from outside that wait, oldest first."""
    wanted: list[Request] = []
    """Requests from outside that the next round begin at the end of the stage."""
    evidence: int = 0
    seen: int = 0
    """Evidence the agents have read: a diagnosis cannot rest on what comes back in the same step."""

    @property
    def speaker(self) -> Role:
        """The role whose phase it is; ``RuntimeError`` outside of a round."""
        match self.phase:
            case "stage" | "report" | "done":
                raise RuntimeError(f"in the phase {self.phase} no agent speaks")
            case role:
                return role
