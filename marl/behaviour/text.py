"""A behaviour summary as compact JSON text of at most so many tokens, by parts; it names what it left out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from learning_signal.marl.behaviour.summary import BehaviourSummary, FeatureSummary
from learning_signal.marl.behaviour.words.parts import CUTS, DEFAULT, DETAILS_OF, Detail, Part
from learning_signal.marl.behaviour.words.pieces import (
    actions_body,
    endings_body,
    feature_body,
    misleading_words,
    sketch_body,
    table_body,
    use_body,
)
from learning_signal.marl.behaviour.words.rounding import json_text

_LEGEND = {
    "over_time": "means at {points}",
    "with_return, with_progress": "rank correlations of [episode mean, end]; bent by successes",
    "with_next_success": "-1 to 1, + where higher before a success than elsewhere at that step [first, later]; unbent",
    "top, bottom": "[episode mean, end] in the best and worst third",
    "at_success": "[before, after, steps it had been so]; of the agent that changes most",
    "waits": "share of states at its worst until these are at their best; then [mean, deviation]",
    "ended_early": "share; rank correlation of the length",
    "oscillation": "share of steps A, B, A",
    "role_difference": "bits; 0: agents act alike",
    "numbers": "actions are numbers in [-1, 1]: [mean, deviation] by agent",
    "present": "share of steps until the agent left; what it did is counted until then",
    "action_use": "{use} in bands of a feature; hardly: [{use}, largest difference]",
    "at_best": "{use} [at the feature's best, elsewhere]",
    "null": "not defined",
}


def render(
    summary: BehaviourSummary,
    most_tokens: int,
    count: Callable[[str], int],
    parts: Collection[str] = (),
    beside: Mapping[str, Any] | None = None,
) -> str:
    """The fullest JSON object of at most ``most_tokens`` by ``count``; it names what it leaves out.

    ``parts`` are names of ``Part``, in any order; those of ``DEFAULT`` where none is given. ``beside`` comes first in
    the object. Parts and details go in the order of ``CUTS``, one part stays; then features one by one, those least
    correlated with the outcome first. Features are listed from most to least correlated, numbers have three significant
    digits. ``ValueError`` for an unknown part, and where even the shortest text does not fit.
    """
    asked = tuple(Part(part) for part in parts)
    shown = set(asked or DEFAULT)
    kept: set[Part | Detail] = shown | {detail for part in shown for detail in DETAILS_OF.get(part, ())}
    features = sorted(summary.features, key=_relevance, reverse=True)
    text = _text(summary, kept, features, asked, beside)
    for cut in CUTS:
        if count(text) <= most_tokens:
            return text
        if cut in kept and {each for each in kept if isinstance(each, Part)} != {cut}:
            kept = kept - {cut}
            text = _text(summary, kept, features, asked, beside)
    left = len(features) if kept & {Part.FEATURES, Part.SUCCESSES, Part.OUTCOME, Part.AGENTS} else 1
    while count(text) > most_tokens and left > 1:
        left -= 1
        text = _text(summary, kept, features[:left], asked, beside)
    if count(text) <= most_tokens:
        return text
    raise ValueError(
        f"The shortest behaviour summary takes {count(text)} tokens, expected at most {most_tokens}: "
        f"allow at least {count(text)}."
    )


def _relevance(feature: FeatureSummary) -> float:
    """The largest absolute correlation with an outcome."""
    both = (feature.with_return, feature.with_progress)
    found = [abs(value) for each in both for value in (each.episode_mean, each.episode_end) if value is not None]
    return max(found, default=0.0)


def _text(
    summary: BehaviourSummary,
    kept: set[Part | Detail],
    features: list[FeatureSummary],
    asked: tuple[Part, ...],
    beside: Mapping[str, Any] | None,
) -> str:
    body: dict[str, Any] = dict(beside or {})
    if Part.OVERVIEW in kept:
        body |= _overview(summary)
    if Part.SUCCESSES in kept:
        body["successes"] = None if summary.successes is None else summary.successes.model_dump()
    if Part.OUTCOME in kept:
        body["thirds"] = None if summary.split is None else summary.split.model_dump()
    rows = [feature_body(feature, kept) for feature in features]
    if rows := [row for row in rows if len(row) > 1]:  # more than its name
        body["features"] = table_body(rows)
    if Part.FEATURES in kept and (words := misleading_words(features)):
        body["beware"] = words
    if Part.ACTIONS in kept:
        body["actions"] = actions_body(summary.actions, Detail.SHARES in kept)
    if Part.ACTION_USE in kept:
        body["action_use"] = use_body(summary.action_use, Detail.BANDS in kept, Detail.CONTRASTS in kept)
    if Part.EPISODES in kept:
        body["episodes_shown"] = [
            sketch_body(sketch, Detail.EPISODE_FEATURES in kept, Detail.EPISODE_ACTIONS in kept)
            for sketch in summary.sketches
        ]
    legend = _legend(summary, kept)
    if legend:
        body["legend"] = legend
    left_out = _left_out(summary, kept, features, asked)
    if left_out:
        body["left_out"] = left_out
    return json_text(body)


def _overview(summary: BehaviourSummary) -> dict[str, Any]:
    return {
        "task": summary.task,
        "episodes": summary.episodes,
        "mean_steps": summary.mean_steps,
        "ended_early": endings_body(summary),
        "sparse_return": {
            "mean": summary.sparse_return,
            "range": summary.return_range,
            "share_of_episodes_above_0": summary.scored,
        },
        "progress": summary.progress,
    }


def _legend(summary: BehaviourSummary, kept: set[Part | Detail]) -> dict[str, str]:
    """The entries that explain something here."""
    actions, features = summary.actions, summary.features
    used = {
        "over_time": Part.FEATURES in kept,
        "with_return, with_progress": Part.FEATURES in kept,
        "with_next_success": Part.FEATURES in kept and any(each.before_first for each in features),
        "at_success": Part.SUCCESSES in kept and summary.successes is not None,
        "waits": Part.SUCCESSES in kept and any(each.waits is not None and each.waits.until for each in features),
        "top, bottom": summary.split is not None and Part.OUTCOME in kept,
        "ended_early": summary.ended_early > 0 and Part.OVERVIEW in kept,
        "oscillation": actions.oscillation is not None and Part.ACTIONS in kept,
        "role_difference": actions.role_difference is not None and Part.ACTIONS in kept,
        "numbers": actions.numbers is not None and Detail.SHARES in kept,
        "present": actions.present is not None and Part.ACTIONS in kept,
        "action_use": bool(summary.action_use) and Detail.BANDS in kept,
        "at_best": any(group.contrasts for group in summary.action_use) and Part.ACTION_USE in kept,
        "null": bool(kept & {Part.FEATURES, Part.OUTCOME}),
    }
    points = "start, quarter, half, three quarters, end" if Detail.QUARTERS in kept else "start, end"
    continuous = any(use.continuous for use in summary.action_use)
    use = "mean" if continuous else "share of steps"
    return {key: text.format(points=points, use=use) for key, text in _LEGEND.items() if used.get(key, False)}


def _left_out(
    summary: BehaviourSummary, kept: set[Part | Detail], features: list[FeatureSummary], asked: tuple[Part, ...]
) -> dict[str, list[str]]:
    """The parts that can be asked for (of those asked for, if any were), and what else was cut."""
    parts = [part for part in (asked or Part) if part not in kept]
    details = [
        str(detail)
        for part in kept
        if isinstance(part, Part)
        for detail in DETAILS_OF.get(part, ())
        if detail not in kept
    ]
    gone = [feature.name for feature in summary.features if feature not in features]
    if gone:
        details.append(f"features that move less with the outcome: {', '.join(gone)}")
    named = {"parts": [str(part) for part in parts], "to_save_tokens": sorted(details)}
    return {key: names for key, names in named.items() if names}
