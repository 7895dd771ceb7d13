"""The Critic by rule: look at metrics and behaviour, then name what fails, each with its numbers and its evidence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, get_args

from learning_signal.agents.rules.chains import find_chain
from learning_signal.agents.rules.evidence import View, behaviour, endings_are_failures, ranked, undirected, views
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
from learning_signal.ledger.wording import shaping_text
from learning_signal.tools.evidence.metrics import USUAL
from learning_signal.tools.stage import StageLabel

STAGES: tuple[str, ...] = get_args(StageLabel)
MOST_FAILURES = 6

Failure = tuple[str, list[str]]
"""A description and the evidence ids it rests on."""


def step(conversation: Conversation) -> Answer:
    """Read what was not read for it: list metrics and look at behaviour, read metrics. Then submit."""
    queries, summaries = conversation.named("query_metrics"), conversation.named("summarize_trajectories")
    listing = [call for call in queries if not items(call.arguments.get("names"))]
    read = [call for call in queries if items(call.arguments.get("names"))]
    requests = []
    if not listing and not any(call.ok for call in read):
        requests.append(Request("query_metrics", {"names": []}))
    can_look = "summarize_trajectories" in conversation.offered
    if can_look and not any(call.ok for call in summaries) and len(summaries) < 3:
        # A refused or failed summary is asked for again, smaller.
        most = int(number(fields(conversation.brief, "lengths", "evidence_tokens")) or 2000)
        smaller = {"most_tokens": max(most >> len(summaries), 200)}
        requests.append(Request("summarize_trajectories", {"source": "main"} | smaller))
    if requests:
        at = "what is logged and at what the agents do" if can_look else "what is logged"
        return Answer(f"I look at {at}.", tuple(requests))
    names = _known_metrics(listing)
    if names and not any(call.ok for call in read) and len(read) < 2:
        names = names if not read else names[:2]
        thought = f"I read how {', '.join(names)} developed."
        return Answer(thought, (Request("query_metrics", {"names": names, "points": 8}),))
    return _submit(conversation, _last(read), _last(summaries))


def _known_metrics(listing: list[Call]) -> list[str]:
    for call in reversed(listing):
        known = mapping(call.result).get("metrics")
        if isinstance(known, (dict, list)):
            return [name for name in USUAL if name in known]
    return []


def _last(calls: list[Call]) -> dict[str, Any]:
    """The last result with an evidence id, or an empty object."""
    found = [call.answer for call in calls if text(call.answer.get("evidence"))]
    return found[-1] if found else {}


def _submit(conversation: Conversation, metrics: dict[str, Any], summary: dict[str, Any]) -> Answer:
    refused = [call for call in conversation.named("submit_diagnosis") if not call.ok]
    every = [one["evidence"] for one in (metrics, summary) if one]
    if not every:
        answers = [call.answer for call in conversation.calls]
        every = [answer["evidence"] for answer in answers if text(answer.get("evidence"))]
    if not every:
        return Answer("Neither query_metrics nor summarize_trajectories gave me evidence, so I cannot diagnose.")
    failures = list(_failures(conversation.brief, metrics, summary))
    if refused:
        # Something in it was not accepted: fall back to fewer and simpler statements.
        failures = failures[: max(MOST_FAILURES - 2 * len(refused), 0)]
    if len(refused) >= 4:
        return Answer(f"My diagnosis was refused {len(refused)} times; the last time because: {refused[-1].error}")
    if not failures:
        failures = [("No single cause stands out in the metrics and trajectories read.", every)]
    features = views(conversation.brief, summary)
    stage = fields(conversation.brief, "head", "stage")
    diagnosis = {
        "stage": stage if stage in STAGES else "exploring",
        "failures": [
            {"description": words[:1000], "evidence": ids or every} for words, ids in failures[:MOST_FAILURES]
        ],
        "advice": _advice(conversation.brief, features)[:4000],
    }
    return Answer(f"My diagnosis: {failures[0][0]}", (Request("submit_diagnosis", diagnosis),))


def _failures(brief: dict[str, Any], metrics: dict[str, Any], summary: dict[str, Any]) -> Iterator[Failure]:
    """The failures, most important first."""
    of_metrics, of_summary = ([one["evidence"]] if one else [] for one in (metrics, summary))
    series = _series(metrics)
    yield from _no_signal(brief, series, of_metrics or of_summary)
    yield from _regression(brief, series, of_metrics)
    features = views(brief, summary)
    chain = find_chain(features)
    if chain is not None:
        order = f"The work has parts that follow one another, {chain.describe()}. Shaping one alone stops there."
        yield order, of_summary
    for view in ranked(features)[:1]:
        yield from _far_and_flat(view, of_summary)
    yield from _use(behaviour(summary), of_summary)
    yield from _policy(brief, series, of_metrics)
    yield from _behaviour(behaviour(summary), of_summary)


def _series(metrics: dict[str, Any]) -> Callable[[str], list[float]]:
    def values(name: str) -> list[float]:
        points = map(number, items(fields(metrics, "points", name)))
        return [value for value in points if value is not None]

    return values


def _no_signal(brief: dict[str, Any], series: Callable[[str], list[float]], ids: list[str]) -> Iterator[Failure]:
    sparse, most = number(fields(brief, "head", "sparse_return")), number(fields(brief, "task", "max_return"))
    progress = number(fields(brief, "head", "progress"))
    steps, floor = fields(brief, "head", "env_steps"), number(fields(brief, "gate", "floor")) or 0.0
    # The gate judges progress below its floor, and there this is the first thing to be said.
    if sparse is not None and most and sparse < max(floor, 1e-9):
        yield (
            f"No reward signal: after {steps} env steps the sparse return is {shown(sparse)} of at most "
            f"{shown(most)}, "
            "so hardly any episode tells the agents what to do.",
            ids,
        )
    elif sparse is not None and most:
        yield f"The sparse return is {shown(sparse)} of at most {shown(most)} after {steps} env steps.", ids
    if progress is not None and progress < 0.9:
        trend = series("evaluation_progress") or series("progress")
        moved = f", from {shown(trend[0])} to {shown(trend[-1])} over the window read" if len(trend) > 1 else ""
        yield f"Progress is {shown(progress)} of 1{moved}.", ids


def _regression(brief: dict[str, Any], series: Callable[[str], list[float]], ids: list[str]) -> Iterator[Failure]:
    most = number(fields(brief, "task", "max_return")) or 1.0
    for name, label, tolerance in (
        ("evaluation_sparse_return", "sparse return", 0.01 * most),
        ("evaluation_progress", "progress", 0.02),
    ):
        values = series(name) or series(name.removeprefix("evaluation_"))
        if len(values) >= 3 and values[-1] < min(0.8 * max(values), max(values) - tolerance):
            last = mapping((items(brief.get("history")) or [None])[-1])
            about = f"{str(last.get('action')).replace('_', ' ')} {text(last.get('candidate')) or ''}".rstrip()
            since = f" The last decision was: round {last.get('round')}, {about}." if last else ""
            yield (f"Regression: {label} is {shown(values[-1])}, below its best of {shown(max(values))}.{since}", ids)
            return


def _far_and_flat(view: View, ids: list[str]) -> Iterator[Failure]:
    if view.room is None or view.room < view.unit:
        return
    flat = None
    if view.start is not None and view.end is not None:
        flat = abs(view.end - view.start) < 0.25 * view.room
    moves = {True: "and hardly moves within an episode", False: "though it moves within an episode", None: ""}[flat]
    yield f"{view.describe()} is far from its good end {moves}".rstrip() + ".", ids


def _policy(brief: dict[str, Any], series: Callable[[str], list[float]], ids: list[str]) -> Iterator[Failure]:
    entropy, most = series("entropy"), number(fields(brief, "learner", "largest_entropy"))
    if entropy and most:
        if entropy[-1] < 0.15 * most:
            yield (
                f"Entropy collapse: entropy fell from {shown(entropy[0])} to {shown(entropy[-1])} of at most "
                f"{shown(most)}, so little new is tried.",
                ids,
            )
        elif entropy[-1] > 0.9 * most:
            yield (f"The policy is still nearly random: entropy {shown(entropy[-1])} of at most {shown(most)}.", ids)
    variance, divergence = series("explained_variance"), series("approximate_kl")
    if variance and variance[-1] < 0.2:
        yield f"The value function explains only {shown(variance[-1])} of the variance of returns.", ids
    if divergence and divergence[-1] > 0.05:
        yield f"Updates are large: the approximate KL is {shown(divergence[-1])}.", ids


def _use(summary: dict[str, Any], ids: list[str]) -> Iterator[Failure]:
    """That an action is chosen alike whatever the state is, in the words of the summary."""
    use = mapping(summary.get("action_use"))
    groups = [use, *(mapping(group) for group in use.values())]  # one group alone, or several by name
    said = [words for group in groups for words in map(text, items(group.get("in_words"))) if words]
    if said:
        yield f"Actions that ignore the state: {said[0]}", ids


def _behaviour(summary: dict[str, Any], ids: list[str]) -> Iterator[Failure]:
    """Bad endings, and idle, oscillating, leaving and like agents, where the summary reports them."""
    if endings_are_failures(summary):
        share = number(fields(summary, "ended_early", "share"))
        yield f"{shown(share)} of the episodes end early, and those that last longer are the better ones.", ids
    present = _numbers(fields(summary, "actions", "present"))
    if present and min(present) < 0.5:
        shares = ", ".join(shown(value) for value in present[:8])
        yield f"Agents leave before the end: they are there in {shares} of the steps of an episode.", ids
    for words, limit, sentence in (
        ("idle", 0.5, "Agents idle in {} of their steps."),
        ("oscillation", 0.3, "Agents oscillate: {} of their steps undo the step before."),
    ):
        values = [value for value in _numbers(fields(summary, "actions", words)) if 0.0 <= value <= 1.0]
        if values and max(values) > limit:
            shares = ", ".join(shown(value) for value in values[:8])
            yield sentence.format(shares), ids
    roles = [value for value in _numbers(fields(summary, "actions", "role_difference")) if 0.0 <= value <= 1.0]
    if roles and max(roles) < 0.01:
        yield f"All agents act alike: the largest difference between their roles is {shown(max(roles))}.", ids


def _numbers(value: Any) -> list[float]:
    if isinstance(value, dict):
        return [one for inner in value.values() for one in _numbers(inner)]
    if isinstance(value, list):
        return [one for inner in value for one in _numbers(inner)]
    one = number(value)
    return [] if one is None else [one]


def _advice(brief: dict[str, Any], features: list[View]) -> str:
    order = ranked(features)
    sentences = [
        "Shape features in this order: "
        + "; ".join(f"{place}. {view.describe()}" for place, view in enumerate(order[:4], 1))
        + "."
    ]
    if not order:
        sentences = [
            "No declared feature has a direction and room to improve; keep the shaping unless something passes."
        ]
    chain = find_chain(features)
    if chain is not None:
        names = " and ".join(view.name for view in chain.links)
        sentences.insert(0, f"First of all shape {names} together, as one chain, and the last one most.")
    in_chain = () if chain is None else chain.links
    good = [view.name for view in features if view.sign and view not in order and view not in in_chain]
    if good:
        sentences.append(f"Little to gain (at the good end, or hardly ever off the bad one): {', '.join(good)}.")
    tied = undirected(features)
    if tied:
        sentences.append(
            "Without direction but tied to success, for a late candidate: "
            + "; ".join(view.describe() for view in tied[:2])
            + "."
        )
    shaping = mapping(fields(brief, "head", "shaping"))
    if items(shaping.get("terms")):
        current = shaping_text(shaping)
        sentences.append(f"In force is {current}: add to it, sharpen it or replace it, and say which.")
    elif order:
        sentences.append("No shaping is in force: begin with one clear direction.")
    failed = [
        text(mapping(row).get("shaping_text"))
        for row in items(brief.get("history"))
        if mapping(row).get("action") != "promote"
    ]
    if failed and failed[-1]:
        sentences.append(f"The last round kept what it had over {failed[-1]}: do not merely repeat it.")
    return " ".join(sentences)


def answer(conversation: Conversation) -> str:
    """The main failure and the first advice of the diagnosis in the conversation."""
    diagnoses = [one for one in conversation.objects if items(one.get("failures"))]
    if not diagnoses:
        return "I have no diagnosis in my conversation to answer from."
    main = text(mapping(diagnoses[-1]["failures"][0]).get("description")) or "no failure was named"
    advice = text(diagnoses[-1].get("advice")) or "no advice was given"
    return f"The stage is {diagnoses[-1].get('stage')}; the main failure: {main} My advice: {advice[:600]}"
