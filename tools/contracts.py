"""The typed messages the agents exchange: every argument model of every tool, and the records made from them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    AliasChoices,
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from learning_signal.marl.behaviour.remarks import Remark
from learning_signal.marl.gate.judge import Outcome, Purpose
from learning_signal.marl.gate.measure import MeasureName
from learning_signal.marl.settings import Frozen
from learning_signal.marl.shaping import ShapingConfig
from learning_signal.marl.shaping.config import MAX_BETA, MAX_TERMS, MAX_WEIGHT
from learning_signal.marl.shaping.expression import MAX_CHARACTERS
from learning_signal.tools.stage import StageLabel

Action = Literal["promote", "keep", "roll_back"]
Sentence = Annotated[str, Field(min_length=1, max_length=1000)]
Text = Annotated[str, Field(min_length=1, max_length=4000)]
Name = Annotated[str, Field(max_length=60)]
"""What has to be the name of something known: a refusal quotes it."""
EvidenceId = Annotated[str, Field(pattern=r"^E[0-9]{1,9}$")]
MOST_ENV_STEPS = 10**12


def _numeral(value: Any) -> Any:
    """A number or its numeral, as pydantic takes it; ``ValueError`` for true and false, which it would take as 1 and 0.

    Models write a number as text (``"-1.5"``), and with the minus sign of Unicode.
    """
    if isinstance(value, bool):
        raise ValueError(f"must be a number, not {str(value).lower()}")
    return value.replace("\u2212", "-") if isinstance(value, str) else value


Number = Annotated[float, BeforeValidator(_numeral), Field(allow_inf_nan=False)]
Whole = Annotated[int, BeforeValidator(_numeral)]


class QueryMetrics(Frozen):
    """Arguments of ``query_metrics``."""

    names: Annotated[tuple[Name, ...], Field(max_length=64)] = ()
    """Metrics."""
    source: Name = "main"
    """``main``, or a branch (``B3``)."""
    first_env_step: Annotated[Whole, Field(ge=0, le=MOST_ENV_STEPS)] | None = None
    """Start of the window."""
    last_env_step: Annotated[Whole, Field(ge=0, le=MOST_ENV_STEPS)] | None = None
    """Its end, inclusive."""
    points: Annotated[Whole, Field(ge=1, le=40)] = 8
    """Parts of the window."""
    by_seed: bool = False
    """A branch's seeds one by one."""
    by_agent: bool = False
    """Agents one by one: ``action_entropy``, ``action:NAME``, agent features, at the end of each segment."""


class SummarizeTrajectories(Frozen):
    """Arguments of ``summarize_trajectories``."""

    source: Name = "main"
    """``main`` (HEAD), a branch (``B3``), or a candidate of a round (``R1/c2``)."""
    parts: tuple[
        Literal[
            "overview", "features", "successes", "actions", "action_use", "outcome", "agents", "episodes", "against"
        ],
        ...,
    ] = ()
    """None for a default. ``against``: a branch against the control's."""
    most_tokens: Annotated[
        Annotated[Whole, Field(ge=200)] | None, Field(validation_alias=AliasChoices("most_tokens", "budget_tokens"))
    ] = None
    """Most tokens; what is cut is named."""


class ShowEpisode(Frozen):
    """Arguments of ``show_episode``."""

    which: Literal["best", "median", "worst", "rewarded"] = "best"
    """By sparse return, then progress; ``rewarded``: one with a reward."""
    episode: Annotated[Whole, Field(ge=0, le=10**6)] | None = None
    """Its number, in place of ``which``."""
    source: Name = "main"
    """As of summaries."""


class Failure(Frozen):
    """One thing that goes wrong in learning, and the evidence it rests on."""

    description: Sentence
    """With the numbers that show it."""
    evidence: Annotated[tuple[EvidenceId, ...], Field(min_length=1)]
    """Ids of tool results, as ["E1"]."""


class Diagnosis(Frozen):
    """Arguments of ``submit_diagnosis``: what stage learning is in, what fails, and what to try."""

    stage: StageLabel
    """Of learning."""
    failures: Annotated[tuple[Failure, ...], Field(min_length=1, max_length=6)]
    """What goes wrong, most important first."""
    advice: Text
    """For the Generator's candidates."""
    stage_reason: Annotated[str, Field(max_length=1000)] | None = None
    """Only where the stage is another than the computed one: why."""


class Forecast(Frozen):
    """The Generator's forecast: the change of a candidate against control at the end of a branch."""

    measure: Annotated[MeasureName, Field(validation_alias=AliasChoices("measure", "metric"))]
    """What is forecast: the measure that is judged."""
    change: Number
    """Expected difference candidate minus control."""
    probability: Annotated[Number, Field(ge=0, le=1)]
    """How sure the Generator is that the difference is above 0."""


class TermDraft(Frozen):
    """One weighted potential of Phi, as the Generator writes it."""

    potential: Annotated[str, Field(min_length=1, max_length=MAX_CHARACTERS)]
    """A feature, or an expression over features."""
    weight: Annotated[Number, Field(ge=-MAX_WEIGHT, le=MAX_WEIGHT)]
    """Not 0; negative where lower is better."""
    scope: Literal["team", "agent"]
    """team: one value for all; agent: each its own."""


class ShapingDraft(Frozen):
    """A shaping as an agent writes it."""

    terms: Annotated[tuple[TermDraft, ...], Field(max_length=MAX_TERMS)]
    """Phi is their sum."""
    beta: Annotated[Number, Field(ge=0, le=MAX_BETA)]
    """Strength: multiplies Phi."""
    anneal_steps: Annotated[Whole, Field(ge=1, le=MOST_ENV_STEPS)] | None = None
    """Env steps over which beta falls linearly to 0; null keeps it."""


class PreviewShaping(Frozen):
    """Arguments of ``preview_shaping``."""

    candidates: Annotated[tuple[ShapingDraft, ...], Field(min_length=1, max_length=16)]
    """Shapings."""

    @model_validator(mode="before")
    @classmethod
    def _without_words(cls, given: Any) -> Any:
        """A whole draft of a candidate is a shaping too."""
        drafts = given.get("candidates") if isinstance(given, dict) else None
        if not isinstance(drafts, (list, tuple)):
            return given
        words = set(CandidateDraft.model_fields) - set(ShapingDraft.model_fields)
        bare = [
            {name: value for name, value in draft.items() if name not in words} if isinstance(draft, dict) else draft
            for draft in drafts
        ]
        return {**given, "candidates": bare}


class CandidateDraft(ShapingDraft):
    """A candidate as the Generator writes it."""

    rationale: Text
    """What it should change in behaviour, and which number says so."""
    forecast: Forecast
    """What you expect of it against the control."""
    answer: Annotated[str, Field(max_length=1000)] | None = None
    """Only after a remark on this candidate: why it is right all the same."""


class ProposalDraft(Frozen):
    """Arguments of ``submit_proposal``."""

    candidates: Annotated[tuple[CandidateDraft, ...], Field(min_length=1, max_length=16)]
    """The candidates, each complete."""


class Candidate(Frozen):
    """A candidate as accepted: named by code, with its full shaping configuration."""

    name: str
    """c1, c2 ...: unique within a round."""
    shaping: ShapingConfig
    rationale: str
    forecast: Forecast
    remarks: tuple[Remark, ...] = ()
    """What code found doubtful about it."""
    answer: str | None = None
    """The proposer's answer to the remarks; None where it gave none."""
    source: str | None = None
    """Who proposed it, where that is nobody of this session: user@host and the program."""

    @model_serializer(mode="wrap")
    def _without_no_source(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """As candidates of the Generator have always been written."""
        fields: dict[str, Any] = whole(self)
        return {name: value for name, value in fields.items() if (name, value) != ("source", None)}


class Proposal(Frozen):
    """The accepted candidates of one refinement of a round."""

    candidates: tuple[Candidate, ...]


class LaunchBranch(Frozen):
    """Arguments of ``launch_branch``: one arm on all seeds of its purpose."""

    arm: Name
    """``control``, or a candidate (``c1``)."""
    purpose: Purpose = "confirm"
    """``screen``: the branch that was screened."""
    reason: Annotated[str, Field(max_length=1000)] = ""
    """Why this one; needed where the screen does not rank it first."""


class ReadBranch(Frozen):
    """Arguments of ``read_branch``."""

    branch: Name
    """Its id (``B3``)."""
    wait: bool = True
    """Wait for its end."""


class ExtendScreen(Frozen):
    """Arguments of ``extend_screen``: one more seed of the control and of candidates that are close."""

    candidates: Annotated[tuple[Name, ...], Field(min_length=1, max_length=16)]
    """Those that stay."""
    reason: Sentence
    """What the seed is to tell apart."""


class Confirm(Frozen):
    """Arguments of ``confirm``: have a candidate confirmed."""

    candidate: Name
    """A confirmable one (``c1``)."""
    reason: Annotated[str, Field(max_length=1000)] = ""
    """Why this one; needed where the screen does not rank it first."""


class Validation(Frozen):
    """Arguments of ``submit_validation``: the verdict as computed and the Validator's reading of it."""

    candidate: Name | None
    """The candidate judged, or null."""
    outcome: Outcome
    """As computed."""
    reading: Text
    """What the numbers mean, and any argument for caution."""


class Ask(Frozen):
    """Arguments of ``ask``: a question of the Coordinator to another agent."""

    agent: Literal["critic", "generator", "validator"]
    """Who is asked."""
    question: Sentence
    """One definite question."""


class Promote(Frozen):
    """Arguments of ``promote``."""

    candidate: Name
    """One that passed (``c1``)."""
    reason: Text
    """With the numbers that it rests on."""


class Keep(Frozen):
    """Arguments of ``keep``: leave the shaping as it is."""

    reason: Text
    """What was tried and why it was not enough, with numbers."""


class RollBack(Frozen):
    """Arguments of ``roll_back``: return to where the last promotion started."""

    reason: Text
    """Why, with the numbers of the probation."""


class SendBack(Frozen):
    """Arguments of ``send_back``: have another screened candidate confirmed before the round is decided."""

    candidate: Name
    """One that may still be confirmed."""
    reason: Text
    """Why this one should have been confirmed."""


class Decision(Frozen):
    """The Coordinator's decision."""

    action: Action
    candidate: str | None
    reason: str
    decided_by: str

    @property
    def promoted(self) -> str:
        """The candidate of a promotion; ``RuntimeError`` where it names none."""
        if self.candidate is None:
            raise RuntimeError("found a promotion of no candidate, expected the name of one")
        return self.candidate
