"""The Generator's submission: every candidate is checked, compared with what is known, and named before it counts."""

from __future__ import annotations

import json

from marl.shaping import ShapingConfig, ShapingError, check, nearly_equal
from tools.base import Answer, Tool, ToolRefused
from tools.contracts import Candidate, CandidateDraft, Proposal, ProposalDraft
from tools.desk import Desk


def proposal_tools(desk: Desk) -> dict[str, Tool]:
    """The tool a proposal is submitted with."""

    async def submit_proposal(arguments: ProposalDraft) -> Answer:
        wanted = desk.settings.deliberation.candidates
        if len(arguments.candidates) > wanted:
            raise ToolRefused(
                f"Found {len(arguments.candidates)} candidates, expected at most {wanted}: submit your best {wanted}."
            )
        first = sum(len(proposal.candidates) for proposal in desk.round.proposals) + 1
        accepted: list[Candidate] = []
        refusals: list[str] = []
        for index, draft in enumerate(arguments.candidates):
            try:
                shaping = shaping_of(draft, desk.state.head.env_steps)
                check(shaping, desk.task)
                _refuse_known(desk, shaping, accepted)
                accepted.append(Candidate(
                    name=f"c{first + index}", shaping=shaping, rationale=draft.rationale, forecast=draft.forecast,
                ))
            except (ShapingError, ToolRefused) as refusal:
                refusals.append(f"candidate {index + 1}: {refusal}")
        if refusals:
            raise ToolRefused("Nothing was accepted. " + " ".join(refusals))
        proposal = Proposal(candidates=tuple(accepted))
        return Answer(
            json.dumps({"accepted": [candidate.name for candidate in accepted]}), lambda: _record(desk, proposal)
        )

    return {
        "submit_proposal": Tool(
            "submit_proposal",
            "End your phase: one to the wanted number of candidates, each a complete shaping configuration with its "
            "rationale and a forecast. Nothing is accepted unless every candidate is.",
            ProposalDraft, submit_proposal, ends_phase=True,
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


def _refuse_known(desk: Desk, shaping: ShapingConfig, accepted: list[Candidate]) -> None:
    known = [("the shaping in force", desk.state.head.shaping)]
    known += [(f"your candidate {index + 1}", other.shaping) for index, other in enumerate(accepted)]
    known += [
        (f"{tried.candidate}, which was tried in this round ({tried.outcome})", tried.shaping)
        for tried in desk.state.tried if tried.round == desk.round.number
    ]
    known += [
        (f"{tried.candidate} of round {tried.round}, which was rolled back after its promotion", tried.shaping)
        for tried in desk.state.tried if tried.outcome == "rolled back"
    ]
    for name, other in known:
        if nearly_equal(shaping, other, desk.task, desk.state.head.env_steps):
            raise ToolRefused(f"it is equal or nearly equal to {name}, expected a new one: change terms or strength.")


def _record(desk: Desk, proposal: Proposal) -> None:
    number, refinement = desk.round.number, desk.state.refinement
    identity = desk.row_id(f"P{number}.{refinement}")
    names = ", ".join(candidate.name for candidate in proposal.candidates)
    seq = desk.event("proposal", f"proposes {names}", agent="generator", ref=("proposals", identity))
    desk.ledger.add(
        "proposals", id=identity, session_id=desk.session, round=number, refinement=refinement,
        diagnosis_id=desk.round.diagnosis_id, event_seq=seq, body=proposal.model_dump(mode="json"),
    )
    for candidate in proposal.candidates:
        desk.ledger.add(
            "candidates", id=f"{identity}/{candidate.name}", session_id=desk.session, proposal_id=identity,
            name=candidate.name, shaping=candidate.shaping.model_dump(mode="json"),
            shaping_hash=candidate.shaping.hash(), rationale=candidate.rationale,
            forecast_metric=candidate.forecast.metric, forecast_change=candidate.forecast.change,
            forecast_probability=candidate.forecast.probability,
        )
    desk.round.proposals.append(proposal)
