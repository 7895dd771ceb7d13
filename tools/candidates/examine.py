"""Drafts of candidates are checked, whoever wrote them: bounds, features, what is known already, what is doubtful."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from learning_signal.marl.behaviour.preview import preview
from learning_signal.marl.behaviour.remarks import Remark, remarks_on
from learning_signal.marl.segments.records import BehaviourRecord
from learning_signal.marl.shaping import ShapingConfig, ShapingError, check, nearly_equal
from learning_signal.tools.base import ToolRefused
from learning_signal.tools.context import SessionContext
from learning_signal.tools.contracts import Candidate, CandidateDraft, ShapingDraft

TO_BE_ANSWERED = (
    "Change each candidate with a remark, or say in its field answer why it is right all the same, and submit all "
    "candidates again; one that comes back as it is, without an answer, is left out where others stand."
)
Named = tuple[str, ShapingConfig]
"""A shaping, and what a refusal calls it."""


@dataclass(frozen=True)
class Examined:
    """What became of drafts, each by its place from 1 on: a candidate, or the sentence that refuses it."""

    given: int
    sound: Mapping[int, Candidate]
    refusals: Mapping[int, str]

    @property
    def open(self) -> dict[int, Candidate]:
        """Those with a remark that is not answered."""
        return {place: each for place, each in self.sound.items() if each.remarks and each.answer is None}

    def refusal(self) -> ToolRefused:
        """The refusal of all of them, for what cannot be used, or is doubtful and not answered."""
        sentences = ["Nothing was accepted.", *self.refusals.values()]
        for place, each in self.open.items():
            texts = "; ".join(remark.text for remark in each.remarks)
            sentences.append(f"candidate {place} (of {self.given}): {texts}.")
        if self.open:
            sentences.append(TO_BE_ANSWERED)
        return ToolRefused(
            " ".join(sentences),
            code="candidates",
            refused=list(self.refusals),
            remarked=[
                {"candidate": place, "kinds": [remark.kind for remark in each.remarks]}
                for place, each in self.open.items()
            ],
        )


def refuse_many(context: SessionContext, given: int) -> None:
    """``ToolRefused`` where a submission has more candidates than a proposal may have."""
    limit = context.settings.deliberation.candidates
    if given > limit:
        raise ToolRefused(f"Found {given} candidates, expected at most {limit}: submit your best {limit}.")


def examined(
    context: SessionContext, drafts: Sequence[CandidateDraft], others: Sequence[Named] = (), source: str | None = None
) -> Examined:
    """Drafts of the round in progress, held against what is known, and against ``others`` of the same proposal."""
    record, given = context.trainer.behaviour(context.head.segment), len(drafts)
    sound: dict[int, Candidate] = {}
    refusals: dict[int, str] = {}
    for place, draft in enumerate(drafts, 1):
        try:
            shaping = shaping_of(draft, context.head.env_steps)
            check(shaping, context.task)
            own = [(f"your {each.name}", each.shaping) for each in sound.values()]
            _refuse_known(context, shaping, [*others, *own])
            sound[place] = Candidate(
                name=f"candidate {place}",
                shaping=shaping,
                rationale=draft.rationale,
                forecast=draft.forecast,
                remarks=_remarks(context, record, shaping),
                answer=(draft.answer or "").strip() or None,
                source=source,
            )
        except (ShapingError, ToolRefused) as refusal:
            refusals[place] = f"candidate {place} (of {given}): {refusal}"
    return Examined(given, sound, refusals)


def refuse_impossible(context: SessionContext, drafts: Sequence[CandidateDraft]) -> None:
    """``ToolRefused`` for drafts that no round of this session could take: too many, or with a wrong shaping."""
    refuse_many(context, len(drafts))
    refusals: dict[int, str] = {}
    for place, draft in enumerate(drafts, 1):
        try:
            check(shaping_of(draft, 0), context.task)
        except ShapingError as refusal:
            refusals[place] = f"candidate {place} (of {len(drafts)}): {refusal}"
    if refusals:
        raise Examined(len(drafts), {}, refusals).refusal()


def shaping_of(draft: ShapingDraft, env_steps: int) -> ShapingConfig:
    """The full configuration of a draft; annealing starts at the present position of the main run.

    Raises ``ShapingError`` where the draft is out of bounds.
    """
    fields = {"terms": [term.model_dump() for term in draft.terms], "beta": draft.beta}
    if draft.anneal_steps is not None:
        fields["anneal"] = {"start": env_steps, "end": env_steps + draft.anneal_steps}
    return ShapingConfig.parse(fields)


def _remarks(context: SessionContext, record: BehaviourRecord, shaping: ShapingConfig) -> tuple[Remark, ...]:
    """What is doubtful about a candidate on recorded episodes."""
    discount = context.settings.run.learner.discount
    found = preview(shaping, record, context.task, discount, context.head.env_steps)
    return remarks_on(found, context.good_rise)


def _refuse_known(context: SessionContext, shaping: ShapingConfig, beside: Sequence[Named]) -> None:
    known = [("the shaping in force", context.head.shaping), *beside]
    known += [
        (f"{tried.candidate}, which was tried in this round ({tried.outcome})", tried.shaping)
        for tried in context.state.tried
        if tried.round == context.round.number
    ]
    known += [
        (f"{tried.candidate} of round {tried.round}, which was rolled back after its promotion", tried.shaping)
        for tried in context.state.tried
        if tried.outcome == "rolled back"
    ]
    for name, other in known:
        if nearly_equal(shaping, other, context.task, context.head.env_steps):
            raise ToolRefused(f"it is equal or nearly equal to {name}, expected a new one: change terms or strength.")
