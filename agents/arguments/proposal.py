"""A proposal from outside of a session, read as the arguments of the Generator's are."""

from __future__ import annotations

from learning_signal.agents.arguments.reading import read_arguments
from learning_signal.tools.contracts import ProposalDraft
from learning_signal.tools.state import Offer


def offer_of(number: str, by: str, text: str) -> Offer:
    """The offer of request ``number``, whose candidates are JSON text.

    Raises ``ToolRefused`` with the sentence that the Generator would be told.
    """
    draft = read_arguments("submit_proposal", ProposalDraft, text)
    return Offer(id=number, by=by, candidates=draft.candidates)
