"""The Validator by rule: launch what can run together, read it, compare, and report the verdict as computed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from learning_signal.agents.rules.reading import (
    Answer,
    Call,
    Conversation,
    Request,
    fields,
    items,
    mapping,
    number,
    shown,
    text,
)

TRIES = 2
"""How often a refused or unfinished call is made before the rules go on without it."""
OUTCOMES = ("pass", "fail", "inconclusive")
CLOSE = 0.8
"""A candidate with this share of the leader's gain in the screen is worth a confirmation where the leader failed."""


def step(conversation: Conversation) -> Answer:
    """Screen if needed, confirm, then submit the computed verdict."""
    found = (text(mapping(one).get("name")) for one in items(conversation.brief.get("candidates")))
    names = [name for name in found if name]
    if not names:
        return Answer("My brief names no candidate, so there is nothing to launch; I expected at least one.")
    asked = text(fields(conversation.brief, "coordinator_asks", "candidate"))
    chosen, ranking = asked or names[0], []
    if not asked and conversation.brief.get("screen_needed", len(names) > 1):
        arms, rung = names, conversation
        while True:
            answer, comparison = _compare(rung, "screen", ["control", *arms])
            if answer:
                return answer
            arms = [name for name in map(text, items(mapping(comparison).get("goes_on"))) if name]
            if not arms:
                break
            rung = _after(rung, "screen")
        answer, comparison = _close_call(conversation, mapping(comparison))
        if answer:
            return answer
        ranking = [mapping(one) for one in items(mapping(comparison).get("ranking"))]
        first = text(mapping(comparison).get("chosen"))
        if first not in names:
            return _submit(conversation, None, "inconclusive", _no_screen(conversation, comparison))
        chosen = str(first)
    confirmation = conversation
    while True:
        answer, comparison = _compare(confirmation, "confirm", ["control", chosen])
        if answer:
            return answer
        following = _worth_confirming(mapping(comparison), ranking)
        if asked or following is None:
            break
        chosen, confirmation = following, _after(confirmation, "confirm")
    outcome = mapping(comparison).get("outcome")
    if outcome not in OUTCOMES:
        why = _failures(conversation) or "the comparison gave no outcome"
        return _submit(conversation, None, "inconclusive", f"{chosen} could not be confirmed: {why}.")
    return _submit(conversation, chosen, outcome, reading(conversation, mapping(comparison)))


def _compare(conversation: Conversation, purpose: str, arms: list[str]) -> tuple[Answer | None, dict[str, Any] | None]:
    """The next step towards comparing ``arms``, or (None, the comparison, None where it cannot be had)."""
    calls = [one for one in conversation.named("launch_branch") if one.arguments.get("purpose") == purpose]
    done = [
        one.result
        for one in conversation.named("compare_branches")
        if one.ok and one.arguments.get("purpose") == purpose
    ]
    if done:
        return None, done[0]
    begun = {one.arguments.get("arm"): text(mapping(one.result).get("branch")) for one in calls if one.ok}
    branches = {arm: branch for arm, branch in begun.items() if branch}
    to_launch = [arm for arm in arms if arm not in branches and _tried(calls, "arm", arm) < TRIES]
    if to_launch:
        thought = f"{purpose.capitalize()}: I launch {', '.join(to_launch)} together; none waits for another."
        requests = [Request("launch_branch", {"arm": arm, "purpose": purpose}) for arm in to_launch]
        return Answer(thought, tuple(requests)), None
    if "control" not in branches or len(branches) < 2:
        return None, None
    reads = conversation.named("read_branch")
    to_read = [
        branch
        for branch in branches.values()
        if not _settled(reads, branch) and _tried(reads, "branch", branch) < TRIES
    ]
    if to_read:
        requests = [Request("read_branch", {"branch": branch, "wait": True}) for branch in to_read]
        return Answer(f"I wait for {', '.join(to_read)} and read them.", tuple(requests)), None
    compared = [one for one in conversation.named("compare_branches") if one.arguments.get("purpose") == purpose]
    if len(compared) < TRIES:
        thought = f"All arms of the {purpose} are read; I have them compared."
        return Answer(thought, (Request("compare_branches", {"purpose": purpose}),)), None
    return None, None


def _close_call(conversation: Conversation, screen: dict[str, Any]) -> tuple[Answer | None, dict[str, Any]]:
    """A further seed for two candidates that are close, once; otherwise the screen as it stands, with further seeds."""
    further = conversation.named("extend_screen")
    done = [mapping(one.result) for one in further if one.ok]
    if done or further:
        return None, done[-1] if done else screen
    ranking = [mapping(one) for one in items(screen.get("ranking"))]
    gains = [number(one.get("difference")) for one in ranking[:2]]
    names = [text(one.get("candidate")) for one in ranking[:2]]
    open_, left = items(screen.get("confirmable")), number(fields(screen, "extend_screen", "seeds_left"))
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


def _after(conversation: Conversation, purpose: str) -> Conversation:
    """The conversation without what led to its first comparison for a purpose: the next rung, or confirmation."""
    for index, one in enumerate(conversation.calls):
        if one.name == "compare_branches" and one.ok and one.arguments.get("purpose") == purpose:
            return replace(conversation, calls=conversation.calls[index + 1 :])
    return conversation


def _tried(calls: list[Call], key: str, value: str) -> int:
    return sum(call.arguments.get(key) == value for call in calls)


def _settled(reads: list[Call], branch: str) -> bool:
    return any(
        one.ok and one.arguments.get("branch") == branch and one.answer.get("status") in ("done", "failed")
        for one in reads
    )


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
    """Why branches could not be used, in a few words each."""
    found = []
    for call in conversation.calls:
        if call.error:
            found.append(f"{call.name} was refused ({call.error[:160]})")
        elif call.ok and call.answer.get("status") == "failed":
            reasons = [text(mapping(seed).get("reason")) for seed in items(call.answer.get("seeds"))]
            reason = next((one for one in reasons if one), "no reason given")
            found.append(f"{call.answer.get('arm', 'an arm')} failed ({reason[:160]})")
    return "; ".join(dict.fromkeys(found))


def reading(conversation: Conversation, comparison: dict[str, Any]) -> str:
    """The meaning of a confirmation's numbers: effect, agreement of seeds, the rule, size, and caution."""
    candidate = text(comparison.get("candidate")) or "The candidate"
    measure = text(comparison.get("measure")) or "the measure"
    key = "progress" if measure == "progress" else "sparse_return"
    low, high = (*items(comparison.get("interval")), None, None)[:2]
    p, n, mean = number(comparison.get("p")), comparison.get("n"), number(comparison.get("difference"))
    control, other = _seeds(conversation, "control", key), _seeds(conversation, candidate, key)
    won = text(comparison.get("wins"))
    how = f"won {won}" if won else f"against control on {n if n is not None else 'its'} fresh pairs"
    sentences = [
        f"{candidate} {how}: mean difference {shown(mean)} in {measure.replace('_', ' ')}, "
        f"interval {shown(number(low))} to {shown(number(high))}, p = {shown(p)}."
    ]
    for arm, means in mapping(comparison.get("means")).items():
        row = mapping(means)
        sentences.append(
            f"The {arm} reached a sparse return of {shown(number(row.get('sparse_return')))} and a progress of "
            f"{shown(number(row.get('progress')))}."
        )
    if p is None:
        sentences = [f"Nothing was tested: {text(comparison.get('reason')) or 'no reason was given'}."]
    if len(control) == len(other) and len(control) > 1:
        wins = sum(after > before for before, after in zip(control, other, strict=True))
        overlap = (
            "the arms do not overlap" if min(other) > max(control) or max(other) < min(control) else "the arms overlap"
        )
        sentences.append(
            f"At the end and on the query episodes {wins} of {len(control)} seeds favour {candidate} "
            f"({shown(min(other))} to {shown(max(other))} against {shown(min(control))} to {shown(max(control))}): "
            f"{overlap}."
        )
    if measure == "progress":
        sentences.append("Sparse return did not decide, so this is evidence of learning, not of success.")
    cautions = _cautions(conversation, comparison, p, mean)
    sentences.append("Caution: " + "; ".join(cautions) + "." if cautions else "I see no further reason for caution.")
    return " ".join(sentences)


def _cautions(conversation: Conversation, comparison: dict[str, Any], p: float | None, mean: float | None) -> list[str]:
    cautions = []
    limit = number(comparison.get("alpha"))
    if comparison.get("outcome") == "pass" and p is not None and limit is not None and p > 0.8 * limit:
        cautions.append(f"p is close to its limit of {limit:g}")
    candidate = comparison.get("candidate")
    sparse = [_seeds(conversation, arm, "sparse_return") for arm in ("control", candidate)]
    if comparison.get("measure") == "progress" and all(sparse) and _mean(sparse[1]) < _mean(sparse[0]):
        cautions.append(f"sparse return itself went from {shown(_mean(sparse[0]))} to {shown(_mean(sparse[1]))}")
    screens = [
        one.result
        for one in conversation.named("compare_branches")
        if one.ok and one.arguments.get("purpose") == "screen"
    ]
    for row in items(mapping(screens[-1] if screens else None).get("ranking")):
        screened = number(mapping(row).get("difference"))
        if mapping(row).get("candidate") == candidate and screened is not None and mean is not None:
            if mean < 0.5 * screened:
                cautions.append(f"the screen promised {shown(screened)}, the confirmation shows {shown(mean)}")
    failures = _failures(conversation)
    return cautions + ([failures] if failures else [])


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _seeds(conversation: Conversation, arm: Any, key: str) -> list[float]:
    """One number per seed of an arm's confirmation branch; empty where any is missing."""
    rows = [
        call.result
        for call in conversation.named("read_branch")
        if call.ok and call.answer.get("purpose") == "confirm" and call.answer.get("arm") == arm
    ]
    values = [number(mapping(seed).get(key)) for seed in items(mapping(rows[-1] if rows else None).get("seeds"))]
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
