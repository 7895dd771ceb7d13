"""The Generator's submission: candidates are checked, compared with earlier shapings, and named when accepted."""

from __future__ import annotations

import json

from learning_signal.marl.shaping import ShapingConfig, ShapingError, check, nearly_equal
from learning_signal.tools.base import Answer, Tool, ToolRefused
from learning_signal.tools.claims.keep import checked
from learning_signal.tools.context import SessionContext
from learning_signal.tools.contracts import Candidate, CandidateDraft, Proposal, ProposalDraft
from learning_signal.tools.round.record import record_proposal


def proposal_tools(context: SessionContext) -> dict[str, Tool]:
    """The tool a proposal is submitted with."""

    async def submit_proposal(arguments: ProposalDraft) -> Answer:
        limit = context.settings.deliberation.candidates
        if len(arguments.candidates) > limit:
            raise ToolRefused(
                f"Found {len(arguments.candidates)} candidates, expected at most {limit}: submit your best {limit}."
            )
        first = sum(len(proposal.candidates) for proposal in context.round.proposals) + 1
        accepted: list[Candidate] = []
        refusals: dict[int, str] = {}
        for index, draft in enumerate(arguments.candidates):
            try:
                shaping = shaping_of(draft, context.head.env_steps)
                check(shaping, context.task)
                _refuse_known(context, shaping, accepted)
                accepted.append(
                    Candidate(
                        name=f"c{first + index}", shaping=shaping, rationale=draft.rationale, forecast=draft.forecast
                    )
                )
            except (ShapingError, ToolRefused) as refusal:
                refusals[index + 1] = f"candidate {index + 1} (of {len(arguments.candidates)}): {refusal}"
        if refusals:
            sentence = "Nothing was accepted. " + " ".join(refusals.values())
            raise ToolRefused(sentence, code="candidates", refused=list(refusals))
        proposal = Proposal(candidates=tuple(accepted))
        rationales = {candidate.name: candidate.rationale for candidate in accepted}
        claim = checked(context, "proposals", "generator", rationales)
        return Answer(
            json.dumps({"accepted": [candidate.name for candidate in accepted]}),
            lambda: record_proposal(context, proposal, claim),
        )

    return {
        "submit_proposal": Tool(
            "submit_proposal",
            "End your phase: one to the wanted number of candidates, each a complete shaping configuration with its "
            "rationale and a forecast. Nothing is accepted unless every candidate is.",
            ProposalDraft,
            submit_proposal,
            ends_phase=True,
        )
    }


def shaping_of(draft: CandidateDraft, env_steps: int) -> ShapingConfig:
    """The full configuration of a draft; annealing starts at the present position of the main run.

    Raises ``ShapingError`` where the draft is out of bounds.
    """
    fields = {"terms": [term.model_dump() for term in draft.terms], "beta": draft.beta}
    if draft.anneal_steps is not None:
        fields["anneal"] = {"start": env_steps, "end": env_steps + draft.anneal_steps}
    return ShapingConfig.parse(fields)


def _refuse_known(context: SessionContext, shaping: ShapingConfig, accepted: list[Candidate]) -> None:
    known = [("the shaping in force", context.head.shaping)]
    known += [(f"your candidate {index + 1}", other.shaping) for index, other in enumerate(accepted)]
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
