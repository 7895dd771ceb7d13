"""What would have had to be different for another decision: computed from the record, no model is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from learning_signal.ledger.read.records import CandidateRow, ComparisonRow, DecisionRow, EventRow, VerdictRow

CONTROL = "control"


def otherwise(
    decision: DecisionRow,
    comparison: ComparisonRow | None,
    comparisons: Sequence[ComparisonRow],
    verdicts: Sequence[VerdictRow],
    candidates: Sequence[CandidateRow],
    approvals: Sequence[EventRow],
) -> list[str]:
    """One sentence for each difference that decided, the nearest to the decision last."""
    found = [_screen(each) for each in comparisons if each.purpose == "screen" and _is_last(each, comparisons)]
    trials = [each for each in comparisons if each.purpose == "confirm"]
    about = comparison if comparison in trials else trials[-1] if trials else None
    found += [] if about is None else [_confirmation(about)]
    found.append(_of_decision(decision, verdicts, candidates, approvals))
    return [each for each in found if each]


def _is_last(screen: ComparisonRow, comparisons: Sequence[ComparisonRow]) -> bool:
    """Whether no later screen of the same proposal followed: a further seed or rung ranks anew."""
    later = [each for each in comparisons if each.purpose == "screen" and each.refinement == screen.refinement]
    return later[-1].id == screen.id


def _screen(screen: ComparisonRow) -> str:
    """How far behind the second candidate was."""
    result, arms = screen.result, [arm for arm in screen.result.get("arms") or () if not arm.get("failure")]
    chosen = next((arm for arm in arms if arm.get("name") == result.get("chosen")), None)
    second = next((arm for arm in arms if arm is not chosen), None)
    if chosen is None or second is None:
        return ""
    behind = []
    for measure in ("sparse_return", "progress"):
        first, other = (_gain(arm, measure, result.get("measure")) for arm in (chosen, second))
        if first is not None and other is not None:
            behind.append(f"{first - other:+.3g} in {measure.replace('_', ' ')}")
    may = second.get("name") in (result.get("confirmable") or ())
    then = ": the Validator may have confirmed it instead" if may else ", and it was not to be confirmed"
    return f"{chosen['name']} led {second['name']} in the screen by {' and '.join(behind)}{then}." if behind else ""


def _gain(arm: Mapping[str, Any], measure: str, ranked_by: Any) -> float | None:
    gains = arm.get("gains")
    if isinstance(gains, Mapping):
        return gains.get(measure)
    return arm.get("mean_difference") if measure == ranked_by else None


def _confirmation(comparison: ComparisonRow) -> str:
    """How many pairs, and how much of a difference, were between the outcome and another one."""
    result = comparison.result
    name = next((each for each in comparison.inputs.get("arms") or () if each != CONTROL), "the candidate")
    mean, delta = result.get("mean_difference"), result.get("delta")
    if mean is None or delta is None:
        return f"{name} could not be compared, so it could not pass."
    measure = str(result.get("measure", "-")).replace("_", " ")
    if "look" not in result:
        return _paired(name, measure, mean, delta, result)
    won, needed, pairs = result.get("wins"), result.get("pass_at"), result["look"] ** 2
    if won is None:
        return f"{name} could not be compared, so it could not pass."
    if needed is None:
        return f"{name} could not pass after {_of(result['look'], 'branch')} of each arm, whatever they had shown."
    if result.get("outcome") == "pass":
        spare = won - needed + 1
        return (
            f"{name} would not have passed with {_of(spare, 'pair')} less won ({won} of {pairs}, passes from {needed} "
            f"on), nor with a difference of {measure} of at most {delta:.3g} (it was {mean:+.3g})."
        )
    lacking = []
    if won < needed:
        lacking.append(f"{_of(needed - won, 'more pair')} won ({won} of {pairs}, passes from {needed} on)")
    if mean <= delta:
        lacking.append(f"a difference of {measure} above {delta:.3g} (it was {mean:+.3g})")
    loss = _loss(result)
    if result.get("measure") == "progress" and loss is not None:
        lacking.append(f"a sparse return that is not lower than the control's by {loss:.3g}")
    return f"{name} would have passed with {', and '.join(lacking)}." if lacking else ""


def _loss(result: Mapping[str, Any]) -> float | None:
    """By how much the sparse return was lower, where that failed a candidate whose progress decided."""
    means = result.get("means") or {}
    control, candidate = ((means.get(arm) or {}).get("sparse_return") for arm in (CONTROL, "candidate"))
    if control is None or candidate is None or "sparse return is lower by" not in str(result.get("reason", "")):
        return None
    return float(control - candidate)


def _paired(name: str, measure: str, mean: float, delta: float, result: Mapping[str, Any]) -> str:
    p, alpha = result.get("p"), result.get("alpha")
    if p is None or alpha is None:
        return ""
    if result.get("outcome") == "pass":
        return (
            f"{name} would not have passed with p above {alpha:.3g} (it was {p:.3g}), nor with a difference of "
            f"{measure} of at most {delta:.3g} (it was {mean:+.3g})."
        )
    lacking = [f"p of at most {alpha:.3g} (it was {p:.3g})"] if p > alpha else []
    lacking += [f"a difference of {measure} above {delta:.3g} (it was {mean:+.3g})"] if mean <= delta else []
    return f"{name} would have passed with {', and '.join(lacking)}." if lacking else ""


def _of_decision(
    decision: DecisionRow,
    verdicts: Sequence[VerdictRow],
    candidates: Sequence[CandidateRow],
    approvals: Sequence[EventRow],
) -> str:
    """What the verdicts left open to who decided."""
    named = {each.id: each.name for each in candidates}
    passed = [named.get(str(each.candidate_id), "a candidate") for each in verdicts if each.outcome == "pass"]
    if decision.action == "promote":
        return "Without a verdict of pass nothing could have been promoted, whatever the Coordinator had said."
    if decision.action != "keep":
        return ""
    if not passed:
        return "No verdict is a pass, so nothing could have been promoted, whatever the Coordinator had said."
    if any(each.status != "ok" for each in approvals):
        return f"{passed[-1]} had passed: a person's approval would have promoted it."
    return f"{passed[-1]} had passed: the Coordinator could have promoted it, and kept the shaping."


def _of(number: int, word: str) -> str:
    plural = {"branch": "branches"}.get(word, f"{word}s")
    return f"{number} {word if number == 1 else plural}"
