"""The Validator by rule: what the screen has first is confirmed, and the verdict reported as computed."""

from __future__ import annotations

from typing import Any

from learning_signal.agents.rules.reading import (
    Answer,
    Conversation,
    Request,
    fields,
    is_marginal,
    items,
    mapping,
    number,
    shown,
    text,
)

TRIES = 2
"""How often a call that is refused or fails is made before the rules go on without it."""
OUTCOMES = ("pass", "fail", "inconclusive")
CLOSE = 0.8
"""A candidate with this share of the leader's gain in the screen is worth a confirmation where the leader failed."""
MARGINAL = 0.8
"""A p above this share of its level is close to it, unless no smaller one was possible."""


def step(conversation: Conversation) -> Answer:
    """Give a close screen a seed more, confirm, then submit the computed verdict."""
    brief = conversation.brief
    found = (text(mapping(one).get("name")) for one in items(brief.get("candidates")))
    names = [name for name in found if name]
    if not names:
        return Answer("My brief names no candidate, so there is nothing to confirm; I expected at least one.")
    asked, screens = text(fields(brief, "coordinator_asks", "candidate")), items(brief.get("screens"))
    chosen, ranking = asked or names[0], []
    if screens and not asked:
        answer, screen = _close_call(conversation, mapping(screens[-1]))
        if answer:
            return answer
        ranking = [mapping(one) for one in items(screen.get("ranking"))]
        first = text(screen.get("chosen"))
        if first not in names:
            return _submit(conversation, None, "inconclusive", _no_screen(conversation, screen))
        chosen = str(first)
    comparison, done = {}, set[str]()
    following: str | None = chosen
    while following is not None and following not in done:
        chosen = following
        done.add(chosen)
        calls = [one for one in conversation.named("confirm") if one.arguments.get("candidate") == chosen]
        if not any(one.ok for one in calls) and len(calls) < TRIES:
            thought = f"I have {chosen} confirmed against the control."
            return Answer(thought, (Request("confirm", {"candidate": chosen}),))
        comparison = next((one.answer for one in calls if one.ok), {})
        following = None if asked else _worth_confirming(comparison, ranking)
    outcome = comparison.get("outcome")
    if outcome not in OUTCOMES:
        why = _failures(conversation) or "the confirmation gave no outcome"
        return _submit(conversation, None, "inconclusive", f"{chosen} could not be confirmed: {why}.")
    return _submit(conversation, chosen, outcome, reading(conversation, comparison))


def _close_call(conversation: Conversation, screen: dict[str, Any]) -> tuple[Answer | None, dict[str, Any]]:
    """A further seed for two candidates that are close, once; otherwise the screen as it stands, with further seeds."""
    further = conversation.named("extend_screen")
    if further:
        return None, further[-1].answer or screen
    ranking = [mapping(one) for one in items(screen.get("ranking"))]
    gains = [number(one.get("difference")) for one in ranking[:2]]
    names = [text(one.get("candidate")) for one in ranking[:2]]
    open_ = items(screen.get("confirmable"))
    left = number(fields(conversation.brief, "extend_screen", "seeds_left"))
    first, second = (*gains, None, None)[:2]
    if not left or first is None or second is None or first <= 0 or second < CLOSE * first:
        return None, screen
    if any(name not in open_ for name in names):
        return None, screen
    reason = f"{names[0]} ({shown(first)}) and {names[1]} ({shown(second)}) are too close to choose by so few seeds"
    request = Request("extend_screen", {"candidates": names, "reason": reason})
    return Answer(f"A close call: {reason}.", (request,)), screen


def _worth_confirming(comparison: dict[str, Any], ranking: list[dict[str, Any]]) -> str | None:
    """The next candidate to confirm after one that did not pass: one that came close to it in the screen, if any."""
    left = mapping(comparison.get("after_this"))
    following = [name for name in map(text, items(left.get("confirmable"))) if name]
    if comparison.get("outcome") not in ("fail", "inconclusive") or not number(left.get("confirmations_left")):
        return None
    gains = {text(row.get("candidate")): number(row.get("difference")) for row in ranking}
    leader = gains.get(text(comparison.get("candidate")))
    for name in following[:1]:
        gain = gains.get(name)
        if leader is not None and gain is not None and leader > 0 and gain >= CLOSE * leader:
            return name
    return None


def _submit(conversation: Conversation, candidate: str | None, outcome: str, words: str) -> Answer:
    """Submit; where that is refused, the outcome the refusal names, then no comparison, then plain words."""
    refused = [one for one in conversation.named("submit_validation") if not one.ok]
    if refused:
        last, computed = refused[-1].refusal, []
        if last.get("code") == "verdict" and last.get("outcome") in OUTCOMES:
            computed = [(text(last.get("candidate")), last["outcome"])]
        options = [*computed, (candidate, outcome), (None, "inconclusive")]
        before = [(one.arguments.get("candidate"), one.arguments.get("outcome")) for one in refused]
        options = [option for option in options if option not in before]
        if not options or len(refused) >= 4:
            return Answer(f"I cannot submit a validation: {refused[-1].error}")
        candidate, outcome = options[0]
    arguments = {"candidate": candidate, "outcome": outcome, "reading": words[:4000]}
    return Answer(f"I report {outcome} for {candidate or 'no candidate'}.", (Request("submit_validation", arguments),))


def _no_screen(conversation: Conversation, comparison: dict[str, Any] | None) -> str:
    notes = [
        f"{mapping(one).get('candidate')}: {mapping(one).get('note')}"
        for one in items(mapping(comparison).get("ranking"))
        if text(mapping(one).get("note"))
    ]
    why = "; ".join(notes) or _failures(conversation) or "no arm could be compared with the control"
    return f"The screen chose no candidate, so nothing was confirmed: {why}."


def _failures(conversation: Conversation) -> str:
    """Which calls were refused, in a few words each."""
    refused = [f"{one.name} was refused ({one.error[:160]})" for one in conversation.calls if one.error]
    return "; ".join(dict.fromkeys(refused))


def reading(conversation: Conversation, comparison: dict[str, Any]) -> str:
    """The meaning of a confirmation's numbers: effect, agreement of branches, size, and caution."""
    candidate = text(comparison.get("candidate")) or "The candidate"
    measure = text(comparison.get("measure")) or "the measure"
    low, high = (*items(comparison.get("interval")), None, None)[:2]
    p, n, mean = number(comparison.get("p")), comparison.get("n"), number(comparison.get("difference"))
    won = text(comparison.get("wins"))
    how = f"won {won}" if won else f"against control on {n if n is not None else 'its'} fresh pairs"
    sentences = [
        f"{candidate} {how}: mean difference {shown(mean)} in {measure.replace('_', ' ')}, "
        f"interval {shown(number(low))} to {shown(number(high))}, {_p_of(comparison, p)}."
    ]
    if p is None:
        sentences = [f"Nothing was tested: {text(comparison.get('reason')) or 'no reason was given'}."]
    both = [
        f"{words} {shown(_mean(comparison, 'candidate', name))} against {shown(_mean(comparison, 'control', name))}"
        for name, words in (("sparse_return", "Sparse return"), ("progress", "progress"))
    ]
    sentences.append(f"{', '.join(both)}.")
    key = "progress" if measure == "progress" else "sparse_return"
    control, other = (_branches(comparison, arm, key) for arm in ("control", "candidate"))
    if len(control) == len(other) and len(control) > 1:
        apart = min(other) > max(control) or max(other) < min(control)
        sentences.append(
            f"Branch by branch {shown(min(other))} to {shown(max(other))} against {shown(min(control))} to "
            f"{shown(max(control))}: {'the arms do not overlap' if apart else 'the arms overlap'}."
        )
    if measure == "progress":
        sentences.append("This is evidence of learning, not of success.")
    cautions = _cautions(conversation, comparison, p, mean)
    sentences.append("Caution: " + "; ".join(cautions) + "." if cautions else "I see no further reason for caution.")
    return " ".join(sentences)


def _p_of(comparison: dict[str, Any], p: float | None) -> str:
    """A p as what it is worth: beside its level, and the smallest that so many branches can give."""
    level, smallest = number(comparison.get("level")), number(fields(comparison, "smallest_p", "at_this_look"))
    least = "" if smallest is None else f", smallest possible {shown(smallest)}"
    return f"p = {shown(p)} at a level of {shown(level)}{least}"


def _cautions(conversation: Conversation, comparison: dict[str, Any], p: float | None, mean: float | None) -> list[str]:
    cautions = []
    level = number(comparison.get("level"))
    if comparison.get("outcome") == "pass" and is_marginal(comparison, MARGINAL):
        cautions.append(f"p is close to its level of {shown(level)}")
    candidate = comparison.get("candidate")
    before, after = (_mean(comparison, arm, "sparse_return") for arm in ("control", "candidate"))
    if comparison.get("measure") == "progress" and before is not None and after is not None and after < before:
        cautions.append(f"sparse return itself went from {shown(before)} to {shown(after)}")
    screens = [mapping(one) for one in items(conversation.brief.get("screens"))]
    screens += [one.answer for one in conversation.named("extend_screen") if one.ok]
    rows = [mapping(row) for row in items(screens[-1].get("ranking") if screens else None)]
    for row in rows:
        screened = number(row.get(f"{comparison.get('measure')}_gain", row.get("difference")))
        if row.get("candidate") == candidate and screened is not None and mean is not None and mean < 0.5 * screened:
            cautions.append(f"the screen promised {shown(screened)}, the confirmation shows {shown(mean)}")
        if text(row.get("note")):
            cautions.append(f"{row.get('candidate')} was not compared ({text(row.get('note'))})")
    failures = _failures(conversation)
    return cautions + ([failures] if failures else [])


def _mean(comparison: dict[str, Any], arm: str, measure: str) -> float | None:
    return number(fields(comparison, "values", arm, measure, "mean"))


def _branches(comparison: dict[str, Any], arm: str, measure: str) -> list[float]:
    """One number per branch of an arm; empty where any is missing."""
    values = [number(one) for one in items(fields(comparison, "values", arm, measure, "branches"))]
    known = [value for value in values if value is not None]
    return known if len(known) == len(values) else []


def answer(conversation: Conversation) -> str:
    """Would I promote it? From the last confirmation in the conversation, yes or no first."""
    judged = [one for one in conversation.objects if one.get("outcome") in OUTCOMES and "p" in one]
    reports = [one["reading"] for one in conversation.objects if text(one.get("reading"))]
    if not judged:
        return reports[-1] if reports else "I have seen no confirmation in my conversation, so I cannot tell."
    last = judged[-1]
    low = number((*items(last.get("interval")), None)[0])
    numbers = f"mean difference {shown(number(last.get('difference')))}, p = {shown(number(last.get('p')))}"
    if last["outcome"] != "pass":
        return f"No: the verdict is {last['outcome']} ({numbers})."
    if low is None:
        return f"Yes, as this session's gate passes it, but nothing was tested ({numbers})."
    if low <= 0:
        return f"No: it passed, but the interval begins at {shown(low)}, so one seed may decide the mean ({numbers})."
    return f"Yes: it passed and the whole interval lies above 0, from {shown(low)} on ({numbers})."
