"""The fates of a round and of its candidates, in one vocabulary (`tools.state.Fate`)."""

from __future__ import annotations

from collections.abc import Sequence

from learning_signal.ledger.wording import shaping_text
from learning_signal.marl.gate.measure import words
from learning_signal.marl.shaping import ShapingConfig
from learning_signal.tools.contracts import Candidate, Decision
from learning_signal.tools.state import Fate, HistoryRow, RoundFacts, Screen, Tried, VerdictRecord

_JUDGED: dict[str, Fate] = {"pass": "passed", "fail": "failed", "inconclusive": "inconclusive"}


def fates_of(facts: RoundFacts, verdict: VerdictRecord) -> list[Tried]:
    """The fates of all candidates of the refinement that ``verdict`` closes, before the decision."""
    screens = [each for each in facts.screens if each.refinement == verdict.refinement]
    found = []
    for candidate in facts.proposals[verdict.refinement].candidates:
        last = next((each for each in reversed(screens) if candidate.name in each.differences), None)
        found.append(fate_of(facts.number, candidate, verdict, last))
    return found


def fate_of(number: int, candidate: Candidate, verdict: VerdictRecord, screen: Screen | None) -> Tried:
    """The fate of one candidate of the refinement that ``verdict`` closes; ``screen`` is the last rung it was in."""
    name, measure, difference = candidate.name, None, None
    outcome: Fate
    if name == verdict.candidate:
        outcome = _JUDGED[verdict.outcome]
        measure, difference, reason = verdict.measure, verdict.difference, verdict.reason
    elif screen is None:
        outcome, reason = "not compared", "no comparison was made"
    else:
        measure, difference = screen.measure, screen.differences[name]
        if name == screen.chosen:
            outcome, reason = "not compared", "it led the screen, but no confirmation was judged"
        elif difference is None:
            outcome, reason = "screened out", screen.notes[name]
        else:
            leader, best = next(iter(screen.differences.items()))
            outcome = "screened out"
            reason = f"behind {leader} in the screen: {difference:+.3g} against {best:+.3g} of {words(measure)}"
    return Tried(
        round=number,
        refinement=verdict.refinement,
        candidate=name,
        shaping=candidate.shaping,
        outcome=outcome,
        measure=measure,
        difference=difference,
        reason=reason,
    )


def with_fate(
    tried: Sequence[Tried], number: int, candidate: str, fate: Fate, reason: str | None = None
) -> list[Tried]:
    """``tried`` with another fate for a candidate of round ``number``, and another reason where one is given."""
    changed = {"outcome": fate} | ({} if reason is None else {"reason": reason})
    return [
        one.model_copy(update=changed) if (one.round, one.candidate) == (number, candidate) else one for one in tried
    ]


def history_row(ended: RoundFacts, decision: Decision, in_force: ShapingConfig) -> HistoryRow:
    """The entry for the agents of later rounds about a round that ended with ``decision``."""
    verdict = ended.verdicts[-1] if ended.verdicts else None
    candidate = decision.candidate or (verdict.candidate if verdict else None)
    shaping = in_force if candidate is None else ended.candidate(candidate).shaping
    return HistoryRow(
        round=ended.number,
        action=decision.action,
        candidate=candidate,
        shaping_text=shaping_text(shaping.canonical()),
        outcome=verdict.outcome if verdict else None,
        reason=decision.reason,
    )
