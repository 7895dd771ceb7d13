"""What a shaping does on recorded episodes: how far Phi rises, what success pays, and what each term pays for.

Evaluated by the code that training uses (``marl.shaping``), on what a policy did before: nothing is trained. It checks
claims about a shaping; it does not tell how the agents will learn with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from learning_signal.marl.segments.records import BehaviourRecord
from learning_signal.marl.settings import Frozen
from learning_signal.marl.shaping import Expression, Potential, ShapingConfig, Term, probe_states, shaping_rewards
from learning_signal.marl.tasks.base import Feature, TaskSpec

MOSTLY = 0.9
"""A term pays for more of a feature if it rises with it in at least this share of the states in which it reacts."""
STEP = 0.25
"""A feature is moved by so many of its standard deviations to see what a term does with it."""
MOST_STATES = 2000
"""Recorded states that a term's sign is looked up in, at even distances."""
CONSTANT = 0.01
"""A term is nearly constant that has one value but in this share of the recorded states on either side."""

Pays = Literal["higher", "lower", "both", "neither"]
Features = dict[str, np.ndarray]


class Rise(Frozen):
    """By how much beta * Phi rises from the start to the end of an episode, as a mean over episodes and agents."""

    all: float
    best: float | None
    """In the best third of the episodes, by sparse return, ties by progress; None of fewer than 3."""
    worst: float | None


class AtReward(Frozen):
    """The change of beta * Phi in the steps that earn sparse reward."""

    steps: int
    change: float
    """Mean over these steps and the agents."""
    falls: float
    """Share of these steps in which it falls."""


class Direction(Frozen):
    """What a term pays for in one of its features, beside the declared direction."""

    feature: str
    declared: Literal["higher", "lower"] | None
    pays: Pays
    """higher: the term rises with the feature; both: here it rises, there it falls; neither: it does not react."""

    @property
    def agrees(self) -> bool | None:
        """Whether it pays for what is declared to be better; None where no direction is declared or none is paid."""
        return None if self.declared is None or self.pays in ("both", "neither") else self.pays == self.declared


class TermPreview(Frozen):
    """The part of one term; changes and rises of all terms add up to those of the shaping."""

    term: Term
    rise: float
    """As `Rise.all`."""
    share: float | None
    """Of the sum of the sizes of all terms' rises, with the sign of its own; None where nothing rises or falls."""
    largest_rise: float
    change_at_reward: float | None
    """None where nothing was earned."""
    constant: bool
    """Whether it is (nearly) constant in the recorded states."""
    directions: tuple[Direction, ...]


class Preview(Frozen):
    """A shaping on the episodes of a record, at the strength that it has now; in units of reward."""

    beta: float
    """The present strength: annealing may lower it later."""
    rise: Rise
    largest_rise: float
    """From a state to a later one of the same episode: what the agents have felt at most, whatever the end was."""
    at_reward: AtReward | None
    """None where nothing was earned."""
    shaping_per_step: float
    """Mean size of the shaping reward of a step."""
    sparse_per_step: float
    """Mean sparse reward of a step."""
    terms: tuple[TermPreview, ...]


@dataclass(frozen=True)
class _Episodes:
    """What is needed of a record: ``T`` steps, ``n`` episodes."""

    played: np.ndarray
    """``[T, n]`` bool."""
    terminated: np.ndarray
    """``[T, n]`` bool: the last steps of the episodes that ended before the time limit."""
    earned: np.ndarray
    """``[T, n]`` bool: steps with sparse reward."""
    best: np.ndarray
    """Places of the best third."""
    worst: np.ndarray


def preview(
    shaping: ShapingConfig, record: BehaviourRecord, spec: TaskSpec, discount: float, env_steps: int
) -> Preview:
    """``shaping`` on the episodes of ``record``, at its strength after ``env_steps`` env steps of the run.

    An episode that ended before the time limit is taken to have reached a true terminal, where Phi counts as 0. Raises
    ``ShapingError`` for a shaping that does not fit the task (``marl.shaping.check`` refuses all of these).
    """
    potential, episodes = Potential(shaping, spec), _episodes(record, spec)
    beta = shaping.beta_at(env_steps)
    assert isinstance(beta, float), "one position has one strength"
    with np.errstate(all="ignore"):
        phi = potential.total(record.features)
        values = [
            term.weight * expression(record.features)
            for term, expression in zip(shaping.terms, potential.expressions, strict=True)
        ]
    before, after = _transitions(phi, episodes)
    strength = np.full(len(before), beta)
    rewards = shaping_rewards(before, after, strength, strength, episodes.terminated, discount)
    changes = beta * _changes(phi, episodes)
    rises = changes.sum(axis=0)
    parts = [beta * _changes(_with_agents(each), episodes) for each in values]
    total = sum(abs(float(part.sum(axis=0).mean())) for part in parts)
    earned = episodes.earned.any()
    terms = []
    for term, expression, value, part in zip(shaping.terms, potential.expressions, values, parts, strict=True):
        rise = float(part.sum(axis=0).mean())
        terms.append(
            TermPreview(
                term=term,
                rise=rise,
                share=rise / total if total > 0 else None,
                largest_rise=beta * _largest_rise(_with_agents(value), episodes),
                change_at_reward=float(part[episodes.earned].mean()) if earned else None,
                constant=_constant(value),
                directions=directions(term, expression, spec, record.features),
            )
        )
    return Preview(
        beta=beta,
        rise=Rise(all=float(rises.mean()), best=_mean(rises[episodes.best]), worst=_mean(rises[episodes.worst])),
        largest_rise=beta * _largest_rise(phi, episodes),
        at_reward=_at_reward(changes, episodes) if earned else None,
        shaping_per_step=float(np.abs(rewards).mean(axis=2)[episodes.played].mean()),
        sparse_per_step=float(record.rewards[episodes.played].mean()),
        terms=tuple(terms),
    )


def directions(term: Term, expression: Expression, spec: TaskSpec, recorded: Features | None) -> tuple[Direction, ...]:
    """What ``term`` pays for in each of its features, all else being equal.

    Looked up in the ``recorded`` states (``[T + 1, n]`` or ``[T + 1, n, A]``, NaN after an episode's end), and where
    it does not react in any of these, or none are given, in probed states within the declared bounds.
    """
    probes = probe_states(spec)
    states = probes if recorded is None else _states(recorded)
    found = []
    for name in expression.names:
        feature = spec.feature(name)
        pays = _pays(term, expression, feature, states)
        if pays == "neither" and states is not probes:
            pays = _pays(term, expression, feature, probes)
        found.append(Direction(feature=name, declared=feature.direction, pays=pays))
    return tuple(found)


def _pays(term: Term, expression: Expression, feature: Feature, states: Features) -> Pays:
    values = states[feature.name].astype(np.float64)
    step = STEP * float(values.std()) or STEP
    lower, higher = (np.clip(values + move, feature.low, feature.high) for move in (-step, step))
    with np.errstate(all="ignore"):
        change = term.weight * (
            expression({**states, feature.name: higher}) - expression({**states, feature.name: lower})
        )
    change = change[np.isfinite(change)]
    rounding = 1e-9 * max(1.0, float(np.abs(values).max()))
    rises, falls = int((change > rounding).sum()), int((change < -rounding).sum())
    if rises + falls == 0:
        return "neither"
    share = rises / (rises + falls)
    return "higher" if share >= MOSTLY else "lower" if share <= 1 - MOSTLY else "both"


def _states(recorded: Mapping[str, np.ndarray]) -> Features:
    """Up to ``MOST_STATES`` of the recorded states: ``[N]`` (team) or ``[N, A]`` (agent) each."""
    flat = {name: values.reshape(-1, *values.shape[2:]) for name, values in recorded.items()}
    known = np.ones(len(next(iter(flat.values()))), bool)
    for values in flat.values():
        known &= np.isfinite(values if values.ndim == 1 else values.sum(axis=1))
    places = np.flatnonzero(known)
    places = places[:: max(len(places) // MOST_STATES, 1)]
    return {name: values[places] for name, values in flat.items()}


def _episodes(record: BehaviourRecord, spec: TaskSpec) -> _Episodes:
    steps, count = record.rewards.shape
    played = np.arange(steps)[:, None] < record.lengths
    early = record.lengths < spec.horizon
    terminated = (np.arange(steps)[:, None] == record.lengths - 1) & early
    ties = np.zeros(count) if record.progress_means is None else record.progress_means
    order, third = np.lexsort((ties, record.sparse_returns))[::-1], count // 3
    return _Episodes(
        played=played,
        terminated=terminated,
        earned=played & (np.nan_to_num(record.rewards) > 0),
        best=order[:third],
        worst=order[count - third :],
    )


def _with_agents(values: np.ndarray) -> np.ndarray:
    """Values ``[T + 1, n, A]``, or ``[T + 1, n, 1]`` of a team value."""
    return values if values.ndim == 3 else values[..., None]


def _transitions(phi: np.ndarray, episodes: _Episodes) -> tuple[np.ndarray, np.ndarray]:
    """Phi before and after every step, ``[T, n, A]`` each, 0 after the end of an episode."""
    played = episodes.played[..., None]
    return np.where(played, phi[:-1], 0.0), np.where(played, phi[1:], 0.0)


def _changes(phi: np.ndarray, episodes: _Episodes) -> np.ndarray:
    """The change of Phi in every step as a mean over agents, ``[T, n]``; a terminal counts as 0."""
    before, after = _transitions(phi.astype(np.float64), episodes)
    change: np.ndarray = (np.where(episodes.terminated[..., None], 0.0, after) - before).mean(axis=2)
    return change


def _largest_rise(phi: np.ndarray, episodes: _Episodes) -> float:
    """From a state to a later one of its episode, as a mean over episodes and agents."""
    path = phi.astype(np.float64)
    path[1:][episodes.terminated] = 0.0
    path[1:][~episodes.played] = np.nan
    return float(np.nanmax(path - np.fmin.accumulate(path, axis=0), axis=0).mean())


def _at_reward(changes: np.ndarray, episodes: _Episodes) -> AtReward:
    at = changes[episodes.earned]
    rounding = 1e-6 * float(np.abs(changes).max())
    return AtReward(steps=len(at), change=float(at.mean()), falls=float((at < -rounding).mean()))


def _constant(values: np.ndarray) -> bool:
    known = values[~np.isnan(values)]
    low, high = np.quantile(known, [CONSTANT, 1 - CONSTANT])
    return bool(high - low <= 1e-6 * max(1.0, abs(float(high))))


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None
