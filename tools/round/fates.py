"""The fates of a round and of its candidates, in one vocabulary (`tools.state.Fate`)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from learning_signal.ledger.wording import shaping_text
from learning_signal.marl.gate.measure import words
from learning_signal.marl.shaping import ShapingConfig
from learning_signal.tools.contracts import Candidate, Decision
from learning_signal.tools.state import Fate, HistoryRow, RoundFacts, Screen, Tried, VerdictRecord

_JUDGED: dict[str, Fate] = {"pass": "passed", "fail": "failed", "inconclusive": "inconclusive"}


def fates_of(facts: RoundFacts, verdict: VerdictRecord) -> list[Tried]:
    """The fates of all candidates of the refinement of ``verdict``, before the decision.

    ``facts`` are those of the moment at which it was reported.
    """
    judged = [each for each in facts.confirmations if each.refinement == verdict.refinement]
    verdicts = {each.candidate: each for each in judged} | {verdict.candidate: verdict}
    screens = [each for each in facts.screens if each.refinement == verdict.refinement]
    found = []
    for candidate in facts.proposals[verdict.refinement].candidates:
        last = next((each for each in reversed(screens) if candidate.name in each.differences), None)
        found.append(fate_of(facts.number, candidate, verdicts.get(candidate.name, verdict), last))
    return found


def fate_of(number: int, candidate: Candidate, verdict: VerdictRecord, screen: Screen | None) -> Tried:
    """The fate of a candidate by its ``verdict``, or that of its refinement, and the last ``screen`` it was in."""
    name, measure, difference = candidate.name, None, None
    outcome: Fate
    if name == verdict.candidate:
        outcome = _JUDGED[verdict.outcome]
        measure, difference, reason = verdict.measure, verdict.difference, verdict.reason
    elif screen is None:
        outcome, reason = "not compared", "no comparison was made"
    else:
        measure, difference = screen.measure, screen.differences[name]
        if name == screen.chosen and verdict.candidate is None:
            outcome, reason = "not compared", "it led the screen, but no confirmation was judged"
        elif name == screen.chosen:
            outcome, reason = "screened out", f"it led the screen, but {verdict.candidate} was confirmed"
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
        source=candidate.source,
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


def with_fates(tried: Sequence[Tried], found: Sequence[Tried]) -> list[Tried]:
    """``tried`` and what was ``found``, which replaces what was known of the same candidates."""
    again = {(one.round, one.candidate) for one in found}
    return [one for one in tried if (one.round, one.candidate) not in again] + list(found)


def level_spent(rounds: Iterable[RoundFacts]) -> float:
    """What the confirmations of these rounds have spent of the session's level: their sizes, where nothing came of it.

    A promotion hands the level of its confirmation on.
    """
    spent = 0.0
    for facts in rounds:
        promoted = None if facts.decision is None else facts.decision.candidate
        spent += sum(size_of(one) for one in facts.confirmations if promoted is None or one.candidate != promoted)
    return round(spent, 12)


def size_of(confirmation: VerdictRecord) -> float:
    """What a confirmation takes of the session's level: rounded, so that a sum is the same in whatever order."""
    return round(confirmation.size or 0.0, 12)


def history_row(ended: RoundFacts, decision: Decision, in_force: ShapingConfig) -> HistoryRow:
    """The entry for the agents of later rounds about a round that ended with ``decision``."""
    about = [each for each in ended.verdicts if decision.candidate in (None, each.candidate)]
    verdict = about[-1] if about else None
    candidate = decision.candidate or (verdict.candidate if verdict else None)
    shaping = in_force if candidate is None else ended.candidate(candidate).shaping
    return HistoryRow(
        round=ended.number,
        action=decision.action,
        candidate=candidate,
        shaping_text=shaping_text(shaping.canonical()),
        outcome=verdict.outcome if verdict else None,
        reason=decision.reason,
        decided_by=decision.decided_by,
    )
