"""Random shapings over a task's declared features: the search space of the baselines of a study.

One to three different features, each as it is (or, of an agent's, the mean over agents), each in its declared
direction, or in either where none is declared. Strengths are relative to declared ranges: over those of all terms
beta * Phi may move by ``good_rise`` times a log-uniform factor between 1 and 100, since what is visited is often a
small part of what is declared. Random proposals, static shapings and population based training share this space.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from learning_signal.marl.shaping import ShapingConfig, ShapingError, check
from learning_signal.marl.shaping.config import MAX_BETA, MAX_WEIGHT
from learning_signal.marl.tasks.base import Feature, TaskSpec

MOST_DRAWN_TERMS = 3
STRONGEST = 100.0
"""Times ``good_rise`` over the whole declared range."""
_ATTEMPTS = 100


def draw(features: Sequence[Feature], good_rise: float, rng: np.random.Generator) -> ShapingConfig:
    """One random shaping within the bounds of ``ShapingConfig``; it may still be one that ``check`` refuses.

    Raises ``ShapingError`` where no declared feature has a finite range.
    """
    usable = [each for each in features if math.isfinite(each.high - each.low) and each.high > each.low]
    for _ in range(_ATTEMPTS if usable else 0):
        config = _scaled(_terms(usable, rng), good_rise * STRONGEST ** rng.uniform())
        if config is not None:
            return config
    raise ShapingError(
        f"Found {len(features)} features to draw a shaping from, expected some with a finite range that weights "
        f"within {MAX_WEIGHT:g} can scale; declare other bounds."
    )


def draw_for(task: TaskSpec, good_rise: float, rng: np.random.Generator) -> ShapingConfig:
    """One random shaping that ``check`` accepts on ``task``; ``ShapingError`` where there seems to be none."""
    for _ in range(_ATTEMPTS):
        config = draw(task.features, good_rise, rng)
        try:
            check(config, task)
        except ShapingError as error:
            refusal = error
            continue
        return config
    raise ShapingError(f"{_ATTEMPTS} random shapings were refused in turn; the last one: {refusal}")


def perturb(config: ShapingConfig, rng: np.random.Generator) -> ShapingConfig:
    """``config`` with beta and every weight times 0.8 or 1.2, none beyond its bound (Jaderberg et al. 2017, 4.1)."""

    def changed(value: float, bound: float) -> float:
        return math.copysign(min(abs(_short(value * rng.choice([0.8, 1.2]))), bound), value)

    terms = tuple(term.model_copy(update={"weight": changed(term.weight, MAX_WEIGHT)}) for term in config.terms)
    return ShapingConfig(terms=terms, beta=changed(config.beta, MAX_BETA), anneal=config.anneal)


def _terms(features: Sequence[Feature], rng: np.random.Generator) -> list[tuple[str, str, float]]:
    """(potential, scope, weight) of each drawn feature, weights per declared range."""
    count = int(rng.integers(1, min(MOST_DRAWN_TERMS, len(features)) + 1))
    terms = []
    for index in rng.choice(len(features), count, replace=False):
        feature = features[index]
        of_team = feature.scope == "agent" and feature.name.isidentifier() and rng.uniform() < 0.5
        sign = {"higher": 1.0, "lower": -1.0}.get(feature.direction) or float(rng.choice([-1.0, 1.0]))
        weight = sign * rng.uniform(0.2, 1.0) / (feature.high - feature.low)
        potential = f"mean({feature.name})" if of_team else feature.name
        terms.append((potential, "team" if of_team else feature.scope, float(weight)))
    return terms


def _scaled(terms: list[tuple[str, str, float]], strength: float) -> ShapingConfig | None:
    """A config whose weights are at most 1 where beta allows it; None where neither bound does."""
    largest = max(abs(weight) for _, _, weight in terms)
    beta = strength * largest
    excess = max(beta / MAX_BETA, 1.0)  # moved from beta to the weights
    weights = [_short(weight / largest * excess) for _, _, weight in terms]
    if max(map(abs, weights)) > MAX_WEIGHT:
        return None
    named = [
        {"potential": potential, "weight": weight, "scope": scope}
        for (potential, scope, _), weight in zip(terms, weights, strict=True)
    ]
    return ShapingConfig.parse({"terms": named, "beta": min(_short(beta / excess), MAX_BETA)})


def _short(value: float) -> float:
    """Three significant digits: a weight that a person can read."""
    return float(f"{value:.3g}")
