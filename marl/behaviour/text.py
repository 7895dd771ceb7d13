"""A behaviour summary as compact JSON text of at most so many tokens; it says what it left out."""

from __future__ import annotations

import json
from collections.abc import Callable
from enum import StrEnum
from typing import Any

from learning_signal.marl.behaviour.actions import ActionSummary
from learning_signal.marl.behaviour.summary import BehaviourSummary, Correlation, EpisodeSketch, FeatureSummary


class Detail(StrEnum):
    """What is left out to save tokens, in this order; then the least telling features."""

    EPISODE_ACTIONS = "actions of the episodes shown"
    EPISODE_FEATURES = "features of the episodes shown"
    EPISODES = "best, median and worst episode"
    BY_AGENT = "feature values by agent"
    QUARTERS = "quarter points of features"
    GROUPS = "outcome groups"
    ACTION_SHARES = "action shares by agent"
    SUCCESSES = "features at successes, and what they wait for"


DETAILS = tuple(Detail)

_LEGEND = {
    "over_time": "means at {points} of the episodes",
    "top, bottom": "[episode mean, value at the end] in the best and worst third (ties by progress)",
    "with_return, with_progress": "Spearman rank correlation of [episode mean, value at the end]",
    "at_success": "mean [just before, just after] a success, and steps for which it had been as before; of the agent "
    "whose features change most",
    "waits": "at its worst in this share of states, until these features are near their best; then: [mean, deviation]",
    "ended_early": "share of episodes that ended before the time limit; their length's rank correlation",
    "oscillation": "share of steps that undo the one before (A, B, A)",
    "role_difference": "bits, between agents that have the same actions; 0: they act alike, 1: differently",
    "numbers": "actions are numbers in [-1, 1]: [mean, standard deviation]; in episodes means over quarters",
    "present": "share of steps until the agent left; what it did is counted until then",
    "null": "not defined",
}
_MOST_RUNS = 12
_UNSAID = ("shares", "numbers", "present")
"""Parts of the action summary that say nothing where they are missing: one kind of actions, nobody leaves."""


def render(summary: BehaviourSummary, most_tokens: int, count: Callable[[str], int]) -> str:
    """The fullest JSON object of at most ``most_tokens`` by ``count``; it names what it leaves out.

    Details go in the order of ``Detail``, then features one by one, those least correlated with the outcome
    first. Features are listed from most to least correlated, numbers have three significant digits.
    ``ValueError`` where even one feature does not fit.
    """
    features = sorted(summary.features, key=_relevance, reverse=True)
    for left_out in range(len(DETAILS) + 1):
        text = _text(summary, DETAILS[left_out:], features)
        if count(text) <= most_tokens:
            return text
    for kept in range(len(features) - 1, 0, -1):
        text = _text(summary, (), features[:kept])
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


def _text(summary: BehaviourSummary, kept: tuple[Detail, ...], features: list[FeatureSummary]) -> str:
    split = summary.split
    points = "start, quarter, half, three quarters, end" if Detail.QUARTERS in kept else "start, end"
    body: dict[str, Any] = {
        "task": summary.task,
        "episodes": summary.episodes,
        "mean_steps": summary.mean_steps,
        "ended_early": _endings(summary),
        "sparse_return": {
            "mean": summary.sparse_return,
            "range": summary.return_range,
            "share_of_episodes_above_0": summary.scored,
        },
        "progress": summary.progress,
    }
    if Detail.SUCCESSES in kept:
        body["successes"] = None if summary.successes is None else summary.successes.model_dump()
    if Detail.GROUPS in kept:
        body["thirds"] = None if split is None else split.model_dump()
    body["features"] = [_feature(feature, kept) for feature in features]
    body["actions"] = _actions(summary.actions, kept)
    if Detail.EPISODES in kept:
        body["episodes_shown"] = [_sketch(sketch, kept) for sketch in summary.sketches]
    body["legend"] = {
        key: text.format(points=points) for key, text in _LEGEND.items() if key not in _unused(summary, kept)
    }
    left_out = _left_out(summary, kept, features)
    if left_out:
        body["left_out_to_save_tokens"] = left_out
    return json.dumps(_rounded(body), allow_nan=False)


def _unused(summary: BehaviourSummary, kept: tuple[Detail, ...]) -> set[str]:
    """Entries of the legend that explain nothing here."""
    actions = summary.actions
    successes = Detail.SUCCESSES in kept
    used = {
        "at_success": successes and summary.successes is not None,
        "waits": successes and any(_waits(feature) for feature in summary.features),
        "top, bottom": summary.split is not None and Detail.GROUPS in kept,
        "ended_early": summary.ended_early > 0,
        "oscillation": actions.oscillation is not None,
        "role_difference": actions.role_difference is not None,
        "numbers": actions.numbers is not None and Detail.ACTION_SHARES in kept,
        "present": actions.present is not None,
    }
    return {key for key, one in used.items() if not one}


def _endings(summary: BehaviourSummary) -> float | dict[str, float | None]:
    """0 where every episode lasted to the time limit."""
    if not summary.ended_early:
        return 0.0
    return {
        "share": summary.ended_early,
        "with_return": summary.steps_with_return,
        "with_progress": summary.steps_with_progress,
    }


def _left_out(summary: BehaviourSummary, kept: tuple[Detail, ...], features: list[FeatureSummary]) -> list[str]:
    parts = (Detail.EPISODE_ACTIONS, Detail.EPISODE_FEATURES)
    absent = [detail for detail in DETAILS if detail not in kept]
    names = [str(detail) for detail in absent if Detail.EPISODES in kept or detail not in parts]
    gone = [feature.name for feature in summary.features if feature not in features]
    return [*names, f"features that move less with the outcome: {', '.join(gone)}"] if gone else names


def _feature(feature: FeatureSummary, kept: tuple[Detail, ...]) -> dict[str, Any]:
    time = feature.over_time
    body: dict[str, Any] = {
        "name": feature.name,
        "scope": feature.scope,
        "low": feature.low,
        "high": feature.high,
        "direction": feature.direction,
        "over_time": time if Detail.QUARTERS in kept else (time[0], time[-1]),
        "mean": feature.mean,
        "standard_deviation": feature.standard_deviation,
    }
    if Detail.GROUPS in kept and feature.top is not None:
        body |= {"top": feature.top, "bottom": feature.bottom}
    body |= {"with_return": _pair(feature.with_return), "with_progress": _pair(feature.with_progress)}
    if Detail.SUCCESSES in kept and (at := feature.at_success) is not None:
        body["at_success"] = (at.before, at.after, at.held)
    if Detail.SUCCESSES in kept and (waits := feature.waits) is not None and waits.until:
        body["waits"] = waits.model_dump()
    if Detail.BY_AGENT in kept and feature.by_agent is not None:
        body |= {"by_agent": feature.by_agent, "difference_between_agents": feature.spread}
    return body


def _waits(feature: FeatureSummary) -> bool:
    """Whether it waits for features that are known."""
    return feature.waits is not None and bool(feature.waits.until)


def _pair(correlation: Correlation) -> tuple[float | None, float | None]:
    return correlation.episode_mean, correlation.episode_end


def _actions(actions: ActionSummary, kept: tuple[Detail, ...]) -> dict[str, Any]:
    """One entry per agent, or the mean over agents."""
    body = actions.model_dump()
    for name in _UNSAID:
        if body[name] is None:
            del body[name]
    if Detail.ACTION_SHARES in kept:
        return body
    return {name: _mean_of_agents(value) for name, value in body.items() if name not in ("shares", "numbers")}


def _mean_of_agents(value: Any) -> Any:
    """``[mean]`` over the agents that have a value; what is no list stays as it is."""
    if not isinstance(value, (list, tuple)):
        return value
    found = [one for one in value if one is not None]
    return (sum(found) / len(found),) if found else None


def _sketch(sketch: EpisodeSketch, kept: tuple[Detail, ...]) -> dict[str, Any]:
    body = sketch.model_dump(exclude={"features", "actions", "numbers"})
    if Detail.EPISODE_FEATURES in kept:
        body["features"] = sketch.features
    if Detail.EPISODE_ACTIONS in kept:
        body["actions"] = sketch.numbers if sketch.actions is None else [_runs(runs) for runs in sketch.actions]
    return body


def _runs(runs: tuple[tuple[str, int], ...]) -> str:
    """``left x3, stay, ...``; long episodes are cut, and say so."""
    shown = ", ".join(f"{name} x{steps}" if steps > 1 else name for name, steps in runs[:_MOST_RUNS])
    return shown + (f", and {len(runs) - _MOST_RUNS} more runs" if len(runs) > _MOST_RUNS else "")


def _rounded(value: Any) -> Any:
    """``value`` with every float to three significant digits."""
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(inner) for inner in value]
    return float(f"{value:.3g}") if isinstance(value, float) else value
