"""The records the reader returns: rows with their bodies read, and what is computed from them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from learning_signal.ledger.read.claims import ClaimRow
from learning_signal.ledger.read.training import SegmentRow


@dataclass(frozen=True)
class SessionRow:
    """A session and its results so far."""

    id: str
    kind: str
    status: str
    """As stored, except that a session whose process is gone is interrupted, not running."""
    stop_reason: str | None
    task: str
    algorithm: str
    seed: int
    code_version: str
    host: str
    pid: int
    started_at: str
    heartbeat_at: str
    ended_at: str | None
    wall_seconds: float
    """Summed over interruptions, up to the last heartbeat."""
    rounds: int
    """Rounds begun."""
    promoted: int
    kept: int
    rolled_back: int
    env_steps_main: int
    """Env steps trained for segments that HEAD has pointed to; here and below, with what failed."""
    env_steps_branches: int
    env_steps_twin: int
    """Env steps trained for branches, and for the sparse twin."""
    env_steps_reused: int
    """Env steps of segments an earlier session had trained; in none of the above."""
    evaluation_env_steps: int | None
    """Env steps that the evaluations of all but the last played, as far as known; None where none were counted."""
    tokens_in: int | None
    tokens_out: int | None
    """Tokens of all model calls; None when no call reported any."""
    budget: dict[str, float]
    """The limits in force (env_steps, tokens, time in seconds, usd); empty where nothing is limited."""
    gate_mode: str | None
    """How confirmations are judged; None where no configuration that can be read says so."""
    seal: str | None
    """The seal of what it has written, see ``ledger.chain.seal``; None in a ledger without chains."""
    recovered: bool
    """Whether it was recovered from a damaged ledger: its seal vouches for nothing before that."""
    asks: str | None
    """The id of the promotion that waits for a person's answer; None where none does."""


def speaker(spec: str) -> str:
    """The backend that spoke where an agent's row holds ``spec``: the first of its chain."""
    return spec.partition("|")[0].strip()


@dataclass(frozen=True)
class AgentRow:
    """Who spoke in a role from ``since`` on, and behind which backend."""

    role: str
    spec: str
    """As it was given: the first of a chain spoke (``speaker``)."""
    source: str
    prompt: str
    tools: list[dict[str, Any]]
    since: str


@dataclass(frozen=True)
class EventRow:
    """One line of the story of a session."""

    seq: int
    session_id: str
    round: int | None
    phase: str | None
    agent: str | None
    kind: str
    status: str
    title: str
    ref_table: str | None
    ref_id: str | None
    started_at: str
    ended_at: str | None


@dataclass(frozen=True)
class Entry:
    """Everything about one event; each part as a list of rows with their bodies read."""

    event: EventRow
    messages: list[dict[str, Any]]
    llm_calls: list[dict[str, Any]]
    """``context`` is the list of the bodies that were sent."""
    tool_calls: list[dict[str, Any]]
    reference: dict[str, Any] | None
    """The row the event is about, None where it is about none."""


@dataclass(frozen=True)
class SearchHit:
    """A place where the searched words occur."""

    event: EventRow
    place: str
    """said, arguments, result, reply or title."""
    snippet: str
    """The text around the words, each word found between « and »."""


@dataclass(frozen=True)
class ComparisonRow:
    """A statistic over branches, its inputs and settings read."""

    id: str
    session_id: str
    round: int
    refinement: int
    purpose: str
    candidate_id: str | None
    event_seq: int
    inputs: dict[str, Any]
    result: dict[str, Any]
    settings: dict[str, Any]
    code_version: str


@dataclass(frozen=True)
class VerdictRow:
    """Pass, fail or inconclusive, as computed, and the Validator's reading of it."""

    id: str
    refinement: int
    candidate_id: str | None
    comparison_id: str | None
    event_seq: int
    outcome: str
    measure: str | None
    reason: str
    reading: str


@dataclass(frozen=True)
class DecisionRow:
    """Promote, keep or roll back, with its place in the chain."""

    id: str
    number: int
    session_id: str
    round: int
    event_seq: int
    action: str
    candidate_id: str | None
    verdict_id: str | None
    comparison_id: str | None
    segment_from: str
    segment_to: str
    shaping_from: dict[str, Any]
    shaping_to: dict[str, Any]
    decided_by: str
    reason: str
    previous_hash: str
    hash: str


@dataclass(frozen=True)
class EvidenceRow:
    """A tool result that the diagnosis cites; ``tool`` is None where the ledger has no such result."""

    evidence_id: str
    event_seq: int | None
    agent: str | None
    tool: str | None
    arguments: str | None
    result: str | None


@dataclass(frozen=True)
class DiagnosisRow:
    """The diagnosis, with the evidence it cites."""

    id: str
    event_seq: int
    stage: str
    body: dict[str, Any]
    evidence: list[EvidenceRow]


@dataclass(frozen=True)
class CandidateRow:
    """A candidate and what became of it."""

    id: str
    proposal_id: str
    refinement: int
    name: str
    shaping: dict[str, Any]
    shaping_hash: str
    rationale: str
    forecast_metric: str
    forecast_change: float
    forecast_probability: float
    fate: str
    """As in the table of fates; while none is stored it is computed, and may be branch failed or not screened."""
    detail: str | None
    """Why, in one sentence, where the ledger has one."""
    difference: float | None = None
    """To the control, in the measure of the forecast; None where they were not compared in it."""
    measured_by: str | None = None
    """The purpose of that comparison: confirm or screen."""
    remarks: tuple[str, ...] = ()
    """What code found doubtful about it."""
    answer: str | None = None
    """The proposer's answer to these; None where there is none."""
    source: str | None = None
    """Who proposed it, where that is nobody of the session."""
    changes: tuple[str, ...] = ()
    """What it changes of the shaping that was in force, a phrase each."""


@dataclass(frozen=True)
class BranchSegment:
    """One seed of a branch, and what it scored where it was compared: None where it was not, or failed."""

    position: int
    segment: SegmentRow
    sparse_return: float | None
    progress: float | None


@dataclass(frozen=True)
class BranchRow:
    """One arm of a comparison: the same shaping on several seeds."""

    id: str
    refinement: int
    purpose: str
    arm: str
    candidate_id: str | None
    event_seq: int
    segments: list[BranchSegment]


@dataclass(frozen=True)
class QuestionRow:
    """What one agent asked another, and what it was answered."""

    event_seq: int
    asker: str
    asked: str
    question: str
    answer: str | None
    """None where the session ended before."""


@dataclass(frozen=True)
class RefusedRow:
    """A call of a tool that was answered with an error."""

    event_seq: int
    agent: str
    tool: str
    sentence: str
    """What the agent was told, the first line of it."""


@dataclass(frozen=True)
class RoundCost:
    """What the models of a round used; None is unknown, and of embedded backends 0."""

    calls: int
    tokens_in: int | None
    tokens_out: int | None
    usd: float | None
    seconds: float | None
    """From its first event to its last, pauses included."""


@dataclass(frozen=True)
class DecisionChain:
    """Why a decision was taken and how it turned out, from diagnosis to probation."""

    decision: DecisionRow
    diagnosis: DiagnosisRow | None
    candidate: CandidateRow | None
    candidates: list[CandidateRow]
    """Every candidate of the round, in the order of the proposals."""
    branches: list[BranchRow]
    late: list[SegmentRow]
    """What was played at the ends of these branches once somebody read it: segments of 0 env steps."""
    comparisons: list[ComparisonRow]
    """Screens and confirmations of the round."""
    comparison: ComparisonRow | None
    """The one the decision rests on."""
    verdict: VerdictRow | None
    verdicts: list[VerdictRow]
    approvals: list[EventRow]
    """A person's answers to requests for approval."""
    probation: ComparisonRow | None
    """For a promotion: how it held one stage later."""
    rolled_back_by: DecisionRow | None
    """For a promotion: the later decision that took it back."""
    need: EventRow | None = None
    """Why the round began when it did."""
    choices: list[EventRow] = field(default_factory=list)
    """Who had which candidate confirmed, and why: the launches of confirmations, and what a round was sent back for."""
    troubles: list[EventRow] = field(default_factory=list)
    """Agents that gave up or whose backend failed, and what the round did without them."""
    claims: list[ClaimRow] = field(default_factory=list)
    """What the agents said in the round, as it was checked; none in ledgers of earlier versions."""
    shadows: list[EventRow] = field(default_factory=list)
    """What other backends said that were asked the same, turn by turn."""
    requests: list[EventRow] = field(default_factory=list)
    """What was asked of the session from outside in its round, and what it answered."""
    questions: list[QuestionRow] = field(default_factory=list)
    refusals: list[RefusedRow] = field(default_factory=list)
    cost: RoundCost | None = None
    """Of the models; the training is that of the branches."""
    otherwise: list[str] = field(default_factory=list)
    """What would have had to be different for another decision."""


@dataclass(frozen=True)
class Finding:
    """One thing that verify found wrong."""

    table: str
    row: str
    problem: str
