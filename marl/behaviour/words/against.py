"""What an arm does differently from the control, as JSON data: the largest differences, and what is alike."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb
from typing import Any

from learning_signal.marl.behaviour.against import Against, Difference

FEATURE = 0.1
"""A feature differs from so many standard deviations on."""
ACTION = 0.03
"""An action differs from such a share of steps (or mean of a number) on."""
MOST = 5
"""Differences that are listed of features, of actions, and of actions at the best value of a feature."""


def against_body(found: Against) -> dict[str, Any]:
    """``[arm, control]`` of every outcome, and of what differs; numbers as they are."""
    groups = {
        "features": (found.features, FEATURE),
        "actions": (found.actions, ACTION),
        "actions_at_best": (found.actions_at_best, ACTION),
    }
    body: dict[str, Any] = {"seeds": found.seeds, "outcomes": _pairs(found.outcomes)}
    listed = list(found.outcomes)
    for name, (differences, least) in groups.items():
        shown = [each for each in differences if abs(each.size) >= least][:MOST]
        if shown:
            body[name] = _pairs(shown)
        listed += shown
    alike = [each.name for each in found.features if abs(each.size) < FEATURE]
    if alike:
        body["features_alike"] = alike
    if min(found.seeds) > 1:
        body["seeds_do_not_overlap_in"] = [each.name for each in listed if each.apart]
        body["share_that_chance_alone_sets_apart"] = 2 / comb(sum(found.seeds), found.seeds[0])
    else:
        body["note"] = "one seed in an arm: how much of this is the noise of training is not known"
    body["legend"] = "[this arm, control]: means over seeds; features over all states, actions as shares of steps"
    return body


def _pairs(differences: Sequence[Difference]) -> dict[str, tuple[float, float]]:
    return {each.name: (each.arm, each.other) for each in differences}
