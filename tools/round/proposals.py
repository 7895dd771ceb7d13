"""The Generator's submission: candidates are checked, compared with earlier shapings, and named when accepted.

Where code finds one doubtful (``marl.behaviour.remarks``), the Generator answers that before the candidate counts. What
waits from outside of the session is taken up beside them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from learning_signal.ledger.wording import OUTSIDER
from learning_signal.marl.shaping import ShapingConfig
from learning_signal.tools.base import Answer, Tool
from learning_signal.tools.candidates.examine import examined, refuse_many
from learning_signal.tools.candidates.offers import record_taken_up, take_up
from learning_signal.tools.claims.keep import Checked, checked
from learning_signal.tools.context import SessionContext
from learning_signal.tools.contracts import Candidate, Proposal, ProposalDraft
from learning_signal.tools.round.branches import screen_specs
from learning_signal.tools.round.record import record_proposal, record_remarks
from learning_signal.tools.spending import afford_segments
from learning_signal.tools.state import CONTROL


def proposal_tools(context: SessionContext) -> dict[str, Tool]:
    """The tool a proposal is submitted with."""

    async def submit_proposal(arguments: ProposalDraft) -> Answer:
        refuse_many(context, len(arguments.candidates))
        found = examined(context, arguments.candidates)
        told = all(each.shaping.hash() in context.round.remarked for each in found.open.values())
        if found.refusals or found.open and not (told and len(found.open) < len(found.sound)):
            refusal = found.refusal()
            hashes = [each.shaping.hash() for each in found.open.values()]
            refusal.apply = lambda: record_remarks(context, hashes)
            raise refusal
        first = sum(len(proposal.candidates) for proposal in context.round.proposals) + 1
        standing = [each for place, each in found.sound.items() if place not in found.open]
        own = tuple(each.model_copy(update={"name": f"c{number}"}) for number, each in enumerate(standing, first))
        body = {"accepted": [each.name for each in own]}
        if found.open:
            body["left_out"] = [f"candidate {place}: its remark was not answered" for place in found.open]
        taken = take_up(context, own, first + len(own), lambda arms: _afford_screen(context, arms))
        claims = [_claim(context, "generator", own)]
        if taken.candidates:
            claims.append(_claim(context, OUTSIDER, taken.candidates))

        def apply() -> None:
            record_proposal(context, Proposal(candidates=(*own, *taken.candidates)), claims)
            record_taken_up(context, taken)

        return Answer(json.dumps(body), apply)

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


def _claim(context: SessionContext, agent: str, candidates: Sequence[Candidate]) -> Checked:
    """What is said about candidates, held against the record."""
    words = {each.name: "\n".join(filter(None, (each.rationale, each.answer))) for each in candidates}
    return checked(context, "proposals", agent, words)


def _afford_screen(context: SessionContext, candidates: Sequence[ShapingConfig]) -> None:
    """Raise ``OutOfBudget`` where the budget does not cover a screen of the control and these candidates."""
    arms, refinement = [context.shaping_of(CONTROL), *candidates], context.state.refinement
    specs = [spec for arm in arms for spec in screen_specs(context, arm, refinement)]
    afford_segments(context, f"a screen of {len(candidates)} candidates", specs)
