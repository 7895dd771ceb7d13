"""The pieces of a behaviour summary as JSON data: one feature, the actions and their use, one episode."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, get_args

from learning_signal.marl.behaviour.action_use import HARDLY, Band, Contrast, Dependence, GroupUse, Use
from learning_signal.marl.behaviour.actions import ActionSummary
from learning_signal.marl.behaviour.summary import BehaviourSummary, Correlation, EpisodeSketch, FeatureSummary
from learning_signal.marl.behaviour.words.parts import Detail, Part

MOST_RUNS = 12
"""Runs of actions of one agent that are listed; the others are counted."""
MOST_ACTIONS = 8
"""Actions whose use is listed, the most frequent first; the others are named."""
CONTRASTS = 1
"""Features at whose best value the use of actions is shown in any case; the others are a detail."""
FEWEST_CONTRASTED = 2
"""Actions that are shown at a feature's best value where tokens are short, those that differ most there."""
MOST_BANDS = 3
"""Actions that are shown by bands, those that depend most first."""
SENTENCES = 2
"""Sentences on actions that hardly or weakly depend on features, the most frequent action first."""
_DEPENDS = {"hardly": "hardly depends", "weakly": "depends only weakly"}
_UNSAID = ("numbers", "present")
"""Parts of the action summary that say nothing where they are missing: one kind of actions, nobody leaves."""


def endings_body(summary: BehaviourSummary) -> float | dict[str, float | None]:
    """0 where every episode lasted to the time limit."""
    if not summary.ended_early:
        return 0.0
    return {
        "share": summary.ended_early,
        "with_return": summary.steps_with_return,
        "with_progress": summary.steps_with_progress,
    }


def feature_body(feature: FeatureSummary, kept: Collection[Part | Detail]) -> dict[str, Any]:
    """What the parts and details in ``kept`` say about one feature."""
    body: dict[str, Any] = {"name": feature.name}
    if Part.FEATURES in kept:
        time = feature.over_time
        body |= {
            "over_time": time if Detail.QUARTERS in kept else (time[0], time[-1]),
            "mean": feature.mean,
            "standard_deviation": feature.standard_deviation,
            "with_return": _pair(feature.with_return),
            "with_progress": _pair(feature.with_progress),
        }
        if feature.before_first is not None:
            later = feature.before_later
            body["with_next_success"] = (
                _hundredths(feature.before_first.value),
                None if later is None else _hundredths(later.value),
            )
    if Part.OUTCOME in kept and feature.top is not None:
        body |= {"top": feature.top, "bottom": feature.bottom}
    if Part.SUCCESSES in kept and (at := feature.at_success) is not None:
        body["at_success"] = (at.before, at.after, at.held)
    if Part.SUCCESSES in kept and (waits := feature.waits) is not None and waits.until:
        body["waits"] = waits.model_dump()
    if Part.AGENTS in kept and feature.by_agent is not None:
        body |= {"by_agent": feature.by_agent, "difference_between_agents": feature.spread}
    return body


def table_body(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Objects as a table: every key once, in ``columns``, and a list of values per object; None where it lacks one."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    return {"columns": columns, "rows": [[row.get(name) for name in columns] for row in rows]}


def misleading_words(features: Sequence[FeatureSummary]) -> str | None:
    """Which correlations with the return are not to be followed, in words; None where all may be."""
    named = [
        f"{each.name} ({each.misleading:+.2f}, but {each.before_first.value:+.2f} before"
        + (")" if each.before_first.clear else ", no more than chance)")
        for each in features
        if each.misleading is not None and each.before_first is not None
    ]
    if not named:
        return None
    return (
        f"Do not follow with_return of {', '.join(named)}: it reflects what successes leave behind (before: before the "
        "first). Go by with_next_success and the declared direction."
    )


def _pair(correlation: Correlation) -> tuple[float | None, float | None]:
    return _hundredths(correlation.episode_mean), _hundredths(correlation.episode_end)


def actions_body(actions: ActionSummary, by_agent: bool) -> dict[str, Any]:
    """Idleness, oscillation and roles; with ``by_agent`` each agent's shares or numbers, by the name of the action."""
    body = actions.model_dump(exclude={"shares"})
    for name in _UNSAID:
        if body[name] is None:
            del body[name]
    body.pop("numbers", None)
    if by_agent and actions.shares is not None:
        body = {"shares_by_agent": _by_name(actions.shares)} | body
    if by_agent and actions.numbers is not None:
        body = {"numbers": _by_name(actions.numbers)} | body
    return body


def _by_name(rows: Sequence[Any]) -> dict[str, list[Any]]:
    """Per name one entry per agent; None for an agent that has it not, or never acted."""
    names = dict.fromkeys(name for row in rows if row is not None for name in row)
    return {name: [None if row is None else row.get(name) for row in rows] for name in names}


def use_body(uses: Sequence[GroupUse], bands: bool, every_contrast: bool) -> dict[str, Any]:
    """The use of actions given features, by group where there are several; without ``bands`` in words alone."""
    bodies = {use.group: _group_body(use, bands, every_contrast) for use in uses}
    return next(iter(bodies.values())) if len(bodies) == 1 else bodies


def _group_body(group: GroupUse, bands: bool, every_contrast: bool) -> dict[str, Any]:
    listed = sorted(group.uses, key=lambda use: -abs(use.value))[:MOST_ACTIONS]
    shown = group.contrasts if every_contrast else group.contrasts[:CONTRASTS]
    body: dict[str, Any] = {"in_words": use_words(group)[: SENTENCES if bands else 1]}
    if not bands:
        body["means" if group.continuous else "shares"] = {use.action: _hundredths(use.value) for use in listed}
    most = sorted((use for use in listed if use.feature is not None), key=lambda use: -(use.largest or 0.0))
    for kind in get_args(Dependence) if bands else ():
        body[kind] = {
            use.action: _use_body(use, use in most[:MOST_BANDS])
            for use in group.uses
            if use in listed and use.depends == kind
        }
    body["at_best"] = {
        f"{one.feature} {one.good:.3g} ({one.share:.0%} of steps)": _contrast_body(one, group, bands) for one in shown
    }
    body["rarer_actions"] = [use.action for use in group.uses if use not in listed] if bands else []
    return {key: value for key, value in body.items() if value}


def _use_body(use: Use, bands: bool) -> list[float | None] | dict[str, Any]:
    """``[share, largest difference]``; with the feature that tells most where the action depends on one."""
    if use.feature is None or use.depends == "hardly":
        return [_hundredths(use.value), _hundredths(use.largest)]
    body = {"all": _hundredths(use.value), "by": use.feature}
    if not bands:
        return body | {"largest_difference": _hundredths(use.largest)}
    return body | {"bands": {band_name(band): _hundredths(band.value) for band in use.bands}}


def _contrast_body(one: Contrast, group: GroupUse, bands: bool) -> dict[str, tuple[float | None, float | None]]:
    """``[there, elsewhere]`` of the actions that are frequent, or differ there; without ``bands`` of few."""
    pairs = [
        (use, there, elsewhere)
        for use, there, elsewhere in zip(group.uses, one.there, one.elsewhere, strict=True)
        if is_frequent(use, group) or abs(there - elsewhere) >= HARDLY / 2
    ]
    if not bands:
        pairs = sorted(pairs, key=lambda pair: -abs(pair[1] - pair[2]))[:FEWEST_CONTRASTED]
    return {use.action: (_hundredths(there), _hundredths(elsewhere)) for use, there, elsewhere in pairs}


def is_frequent(use: Use, group: GroupUse) -> bool:
    """Whether an action is chosen at least as often as by chance; of numbers, all are."""
    return group.continuous or use.value >= 1 / len(group.uses)


def _hundredths(value: float | None) -> float | None:
    return None if value is None else round(value, 2) + 0.0  # no -0.0


def band_name(band: Band) -> str:
    """``1`` or ``2 to 5``."""
    return f"{band.low:.3g}" if band.low == band.high else f"{band.low:.3g} to {band.high:.3g}"


def use_words(group: GroupUse) -> list[str]:
    """That actions hardly, or only weakly, depend on any feature; nothing about those that clearly do."""
    known = [use for use in group.uses if use.largest is not None]
    if group.continuous or not known:
        return []
    if all(use.depends == "hardly" for use in known):
        most = max(use.largest or 0.0 for use in known)
        return [
            f"No action depends on any of {group.features} features: at most {_points(most)} between bands. What none "
            "of them measures, such as a direction, may still matter."
        ]
    frequent = [use for use in known if is_frequent(use, group) and use.depends in ("hardly", "weakly")]
    return [_sentence(use, group) for use in sorted(frequent, key=lambda use: -use.value)]


def _sentence(use: Use, group: GroupUse) -> str:
    """``load (53% of the steps) hardly depends on any of 8 features: at most 7 points between bands; ...``"""
    at = [each.action for each in group.uses].index(use.action)
    same = [one for one in group.contrasts if one.scope == "agent" and abs(one.there[at] - one.elsewhere[at]) < HARDLY]
    beside = "".join(_contrast_words(one, at) for one in same[:1])
    return (
        f"{use.action} ({use.value:.0%} of the steps) {_DEPENDS[use.depends]} on any of {group.features} features: at "
        f"most {_points(use.largest or 0.0)} between bands{beside}."
    )


def _contrast_words(one: Contrast, at: int) -> str:
    return f"; {one.there[at]:.0%} where {one.feature} is {one.good:.3g}, {one.elsewhere[at]:.0%} elsewhere"


def _points(difference: float) -> str:
    points = round(100 * difference)
    return f"{points} point{'' if points == 1 else 's'}"


def sketch_body(sketch: EpisodeSketch, features: bool, actions: bool) -> dict[str, Any]:
    """One episode, with its features and actions where these are wanted."""
    body = sketch.model_dump(exclude={"features", "actions", "numbers"})
    if features:
        body["features"] = sketch.features
    if actions:
        body["actions"] = sketch.numbers if sketch.actions is None else [run_words(runs) for runs in sketch.actions]
    return body


def run_words(runs: Sequence[tuple[str, int]], most: int = MOST_RUNS) -> str:
    """``left x3, stay, ...``; long episodes are cut, and say so."""
    shown = ", ".join(f"{name} x{steps}" if steps > 1 else name for name, steps in runs[:most])
    return shown + (f", and {len(runs) - most} more runs" if len(runs) > most else "")
