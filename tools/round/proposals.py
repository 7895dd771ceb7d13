"""The Generator's submission: candidates are checked, compared with earlier shapings, and named when accepted.

Where code finds one doubtful (``marl.behaviour.remarks``), the Generator answers that before the candidate counts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from learning_signal.marl.behaviour.preview import preview
from learning_signal.marl.behaviour.remarks import Remark, remarks_on
from learning_signal.marl.segments.records import BehaviourRecord
from learning_signal.marl.shaping import ShapingConfig, ShapingError, check, nearly_equal
from learning_signal.tools.base import Answer, Tool, ToolRefused
from learning_signal.tools.claims.keep import checked
from learning_signal.tools.context import SessionContext
from learning_signal.tools.contracts import Candidate, Proposal, ProposalDraft, ShapingDraft
from learning_signal.tools.round.record import record_proposal, record_remarks

TO_BE_ANSWERED = (
    "Change each candidate with a remark, or say in its field answer why it is right all the same, and submit all "
    "candidates again; one that comes back as it is, without an answer, is left out where others stand."
)


def proposal_tools(context: SessionContext) -> dict[str, Tool]:
    """The tool a proposal is submitted with."""

    async def submit_proposal(arguments: ProposalDraft) -> Answer:
        given, limit = len(arguments.candidates), context.settings.deliberation.candidates
        if given > limit:
            raise ToolRefused(f"Found {given} candidates, expected at most {limit}: submit your best {limit}.")
        record = context.trainer.behaviour(context.head.segment)
        sound: dict[int, Candidate] = {}
        refusals: dict[int, str] = {}
        for place, draft in enumerate(arguments.candidates, 1):
            try:
                shaping = shaping_of(draft, context.head.env_steps)
                check(shaping, context.task)
                _refuse_known(context, shaping, list(sound.values()))
                sound[place] = Candidate(
                    name=f"candidate {place}",
                    shaping=shaping,
                    rationale=draft.rationale,
                    forecast=draft.forecast,
                    remarks=_remarks(context, record, shaping),
                    answer=(draft.answer or "").strip() or None,
                )
            except (ShapingError, ToolRefused) as refusal:
                refusals[place] = f"candidate {place} (of {given}): {refusal}"
        open_ = {place: each for place, each in sound.items() if each.remarks and each.answer is None}
        told = all(each.shaping.hash() in context.round.remarked for each in open_.values())
        if refusals or open_ and not (told and len(open_) < len(sound)):
            raise _refused(context, given, refusals, open_)
        first = sum(len(proposal.candidates) for proposal in context.round.proposals) + 1
        standing = [each for place, each in sound.items() if place not in open_]
        proposal = Proposal(
            candidates=tuple(
                each.model_copy(update={"name": f"c{number}"}) for number, each in enumerate(standing, first)
            )
        )
        body = {"accepted": [each.name for each in proposal.candidates]}
        if open_:
            body["left_out"] = [f"candidate {place}: its remark was not answered" for place in open_]
        words = {each.name: "\n".join(filter(None, (each.rationale, each.answer))) for each in proposal.candidates}
        claim = checked(context, "proposals", "generator", words)
        return Answer(json.dumps(body), lambda: record_proposal(context, proposal, claim))

    return {
        "submit_proposal": Tool(
            "submit_proposal",
            "End your phase: one to the wanted number of candidates, each a complete shaping configuration with its "
            "rationale and a forecast. Nothing is accepted unless every candidate is. A candidate that gets a remark "
            "counts once its answer says why it is right all the same.",
            ProposalDraft,
            submit_proposal,
            ends_phase=True,
        )
    }


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


def _refused(
    context: SessionContext, given: int, refusals: Mapping[int, str], remarked: Mapping[int, Candidate]
) -> ToolRefused:
    """The refusal of a submission that holds what cannot be used, or what is doubtful and not answered."""
    sentences = ["Nothing was accepted.", *refusals.values()]
    for candidate in remarked.values():
        sentences.append(f"{candidate.name} (of {given}): {'; '.join(remark.text for remark in candidate.remarks)}.")
    if remarked:
        sentences.append(TO_BE_ANSWERED)
    hashes = [candidate.shaping.hash() for candidate in remarked.values()]
    refusal = ToolRefused(
        " ".join(sentences),
        code="candidates",
        refused=list(refusals),
        remarked=[
            {"candidate": place, "kinds": [remark.kind for remark in each.remarks]} for place, each in remarked.items()
        ],
    )
    refusal.apply = lambda: record_remarks(context, hashes)
    return refusal


def _refuse_known(context: SessionContext, shaping: ShapingConfig, accepted: Sequence[Candidate]) -> None:
    known = [("the shaping in force", context.head.shaping)]
    known += [(f"your {other.name}", other.shaping) for other in accepted]
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
