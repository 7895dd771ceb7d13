"""Potentials at work: the compiled Phi of a config, its check on probe states, shaping rewards, and distance.

Formula (dynamic potential-based shaping, one potential per agent):

    F_t = gamma * beta(t+1) * Phi(s_{t+1}) - beta(t) * Phi(s_t),   Phi(terminal) = 0

Ng, Harada & Russell 1999 (single agent, theorem 1); Devlin & Kudenko 2011 (multi-agent: Nash equilibria are
kept); Devlin & Kudenko 2012 (potentials that change with time). It leaves the optimal joint policies
unchanged only if Phi is 0 at true terminals and truncated episodes bootstrap from their last state's value.
"""

from __future__ import annotations

import numpy as np

from learning_signal.marl.shaping.config import ShapingConfig
from learning_signal.marl.shaping.expression import Expression, ShapingError, compile_expression
from learning_signal.marl.tasks.base import TaskSpec

POTENTIAL_BOUND = 1e4
"""Largest ``|weight * potential|`` and ``|Phi|`` (before beta) on any probe state."""
UNBOUNDED_EXTENT = 10.0
"""How far probes reach on a side where a feature declares no finite bound."""
NEARLY_EQUAL = 0.05
"""Configs closer than this (see ``distance``) are one proposal: about a change of strength by 5 %."""
NEGLIGIBLE = 1e-6
"""Effective potentials that vary less than this (root mean square, in reward units) shape nothing."""

Features = dict[str, np.ndarray]


class Potential:
    """Phi of one config on one task, *without* beta: call it with features at every environment step.

    Compiling refuses (``ShapingError``) unknown features, what the grammar refuses, and an agent expression
    in a team term. Use ``check`` to also refuse values that are not finite.
    """

    def __init__(self, config: ShapingConfig, spec: TaskSpec):
        self.config = config
        self.agents = spec.agents
        self.scopes = {feature.name: feature.scope for feature in spec.features}
        self.expressions = tuple(_compile_term(config, index, spec) for index in range(len(config.terms)))
        pairs = [(term.weight, expression) for term, expression in zip(config.terms, self.expressions, strict=True)]
        # By the scope of the *value*: a team value in an agent term is the same for every agent.
        self._team = [(weight, one.evaluate) for weight, one in pairs if one.scope == "team"]
        self._agent = [(weight, one.evaluate) for weight, one in pairs if one.scope == "agent"]

    def __call__(self, features: Features, out: np.ndarray | None = None) -> np.ndarray:
        """Phi ``[E, A]`` float32 of ``features`` (``[E]`` team, ``[E, A]`` agent); leading axes are kept.

        With ``out`` (``[E, A]``, any float dtype) the values are written there and ``out`` is returned.
        """
        total = self.total(features)
        if out is None:
            out = np.empty((*total.shape[:-1], self.agents), np.float32)
        out[...] = total
        return out

    def total(self, features: Features) -> np.ndarray:
        """Phi in the features' own dtype, ``[E, A]``, or ``[E, 1]`` where every term has a team value."""
        team: np.ndarray | None = None
        for weight, evaluate in self._team:
            value = weight * evaluate(features)
            team = value if team is None else team + value
        total: np.ndarray | None = None if team is None else team[..., None]
        for weight, evaluate in self._agent:
            value = weight * evaluate(features)
            total = value if total is None else total + value
        return self._zeros(features) if total is None else total

    def _zeros(self, features: Features) -> np.ndarray:
        for name, scope in self.scopes.items():
            values = features[name]
            return np.zeros_like(values[..., None] if scope == "team" else values[..., :1])
        raise ShapingError(
            "Found a task that declares no features, expected at least one to know the batch size; "
            "do not evaluate a potential there."
        )


def _compile_term(config: ShapingConfig, index: int, spec: TaskSpec) -> Expression:
    term = config.terms[index]
    expression = compile_expression(term.potential, spec.features)
    if term.scope == "team" and expression.scope == "agent":
        raise ShapingError(
            f'Found the potential "{term.potential}" with one value per agent in a term of scope '
            f"team, expected one value for the team; write mean({term.potential}) (or min, max), or make "
            "the scope agent."
        )
    return expression


def shaping_rewards(
    phi: np.ndarray, phi_next: np.ndarray, beta: np.ndarray, beta_next: np.ndarray, terminated: np.ndarray, gamma: float
) -> np.ndarray:
    """Shaping rewards F ``[T, E, A]`` float32 of a whole rollout; episodes may end anywhere inside it.

    ``phi`` and ``phi_next`` are ``[T, E, A]``: Phi of ``s_t`` and of its *true* successor, read before any
    reset. ``beta`` and ``beta_next`` are ``[T]`` (see ``ShapingConfig.schedule``); ``terminated`` is
    ``[T, E]`` bool, true terminals only: at a truncation Phi of the last state stays and learners bootstrap.
    ``ShapingError`` if the shapes do not agree or a reward is not finite.
    """
    steps, environments = np.shape(terminated)
    shapes = (np.shape(phi)[:2], np.shape(phi_next)[:2], np.shape(beta), np.shape(beta_next))
    expected = ((steps, environments), (steps, environments), (steps,), (steps,))
    if shapes != expected or np.shape(phi) != np.shape(phi_next):
        raise ShapingError(
            f"Found phi {np.shape(phi)}, phi_next {np.shape(phi_next)}, beta {shapes[2]} and "
            f"beta_next {shapes[3]}, expected [T, E, A] twice and [T] twice for terminated "
            f"{steps, environments}; pass one rollout."
        )
    before = np.asarray(beta, np.float32)[:, None, None]
    after = np.asarray(gamma * np.asarray(beta_next, np.float64), np.float32)[:, None, None]
    # np.where, not a product: Phi of a terminal may be anything, also NaN, and counts as 0.
    successor = np.where(terminated[:, :, None], np.float32(0.0), phi_next)
    rewards: np.ndarray = (after * successor - before * phi).astype(np.float32, copy=False)
    if not np.isfinite(rewards).all():
        step, environment, agent = np.argwhere(~np.isfinite(rewards))[0].tolist()
        raise ShapingError(
            f"Found a shaping reward of {rewards[step, environment, agent]} at step {step} of environment "
            f"{environment}, agent {agent}, expected finite numbers; choose potentials that stay "
            "finite on this task."
        )
    return rewards


def probe_states(spec: TaskSpec, seed: int = 0) -> Features:
    """Feature values ``[N]`` / ``[N, A]`` float32 inside the declared bounds, chosen to find what breaks.

    All low, middle and high; each feature at one end and the rest at the other; corners at random; zeros;
    every feature and every agent equal; agents equal; uniform draws.
    """
    random = np.random.default_rng(seed)
    low, high = _bounds(spec)
    count, agents = len(spec.features), spec.agents
    ends = np.concatenate([np.eye(count), 1.0 - np.eye(count), [np.zeros(count), np.ones(count), np.full(count, 0.5)]])
    unit = np.concatenate(
        [
            np.repeat(ends[:, :, None], agents, axis=2),
            random.integers(0, 2, (64, count, agents)),
            np.repeat(random.random((32, count, 1)), agents, axis=2),
            random.random((256, count, agents)),
        ]
    )
    inside = low[:, None] + unit * (high - low)[:, None]
    levels = np.concatenate([[0.0], random.uniform(low.min(initial=0.0), high.max(initial=1.0), 16)])
    level = np.clip(levels[:, None], low, high)[:, :, None]
    return _as_features(np.concatenate([inside, np.repeat(level, agents, axis=2)]).astype(np.float32), spec)


def _bounds(spec: TaskSpec) -> tuple[np.ndarray, np.ndarray]:
    low = np.array([feature.low for feature in spec.features], np.float64)
    high = np.array([feature.high for feature in spec.features], np.float64)
    low = np.where(np.isfinite(low), low, np.minimum(-UNBOUNDED_EXTENT, high - UNBOUNDED_EXTENT))
    low = np.where(np.isfinite(low), low, -UNBOUNDED_EXTENT)
    return low, np.where(np.isfinite(high), high, np.maximum(UNBOUNDED_EXTENT, low + UNBOUNDED_EXTENT))


def _as_features(values: np.ndarray, spec: TaskSpec) -> Features:
    """``values`` ``[N, features, A]`` as a task would return them."""
    named = zip(spec.features, np.moveaxis(values, 1, 0), strict=True)
    return {feature.name: one[:, 0] if feature.scope == "team" else one for feature, one in named}


def check(config: ShapingConfig, spec: TaskSpec) -> Potential:
    """The compiled potential of ``config`` if it is usable on the task, else one-sentence ``ShapingError``.

    Refused: what ``Potential`` refuses; NaN, infinity or more than ``POTENTIAL_BOUND`` on a probe state (the
    message gives the feature values that did it); a divisor that can be 0 inside the declared bounds; a term
    that has the same value on every probe state.
    """
    potential = Potential(config, spec)
    if config.is_none:
        return potential
    probes = probe_states(spec)
    with np.errstate(all="ignore"):
        for term, expression in zip(config.terms, potential.expressions, strict=True):
            values = term.weight * expression(probes)
            label = f'the potential "{term.potential}" (weight {term.weight:g})'
            _refuse_values(label, values, expression.names, probes)
            _refuse_divisors(expression)
            if np.ptp(values) <= NEGLIGIBLE * max(1.0, float(np.abs(values).max())):
                raise ShapingError(
                    f'Found the potential "{term.potential}" worth {values.flat[0]:g} in every state, '
                    "expected one that varies with the state; drop the term or choose another potential."
                )
        names = tuple(dict.fromkeys(name for one in potential.expressions for name in one.names))
        _refuse_values("the sum of all terms", potential.total(probes), names, probes)
    return potential


def _refuse_values(label: str, values: np.ndarray, names: tuple[str, ...], probes: Features) -> None:
    wrong = ~(np.abs(values) <= POTENTIAL_BOUND)  # so written that NaN is wrong too
    if not wrong.any():
        return
    where = tuple(np.argwhere(wrong)[0])
    state = ", ".join(f"{name} = {np.round(probes[name][where[0]], 4).tolist()}" for name in names)
    raise ShapingError(
        f"Found {label} to be {values[where]:g} where {state}, expected finite values up to "
        f"{POTENTIAL_BOUND:g} in size; bound it, for example with clip(x, low, high) or a divisor "
        "max(x, 0.1)."
    )


def _refuse_divisors(expression: Expression) -> None:
    for divisor in expression.divisors:
        raise ShapingError(
            f'Found the divisor "{divisor.text}" of the potential "{expression.text}" to range from '
            f"{divisor.low:g} to {divisor.high:g} by the declared bounds, expected it never to be 0; keep it "
            f"away from 0, for example with max({divisor.text}, 0.1)."
        )


def distance(a: ShapingConfig, b: ShapingConfig, spec: TaskSpec, env_steps: int = 0) -> float:
    """How different two shapings are from ``env_steps`` on: 0 for the same effect, 1 against no shaping.

    The effective potentials ``beta(t) * Phi(s)`` are evaluated on 512 seeded uniform draws of features inside
    the declared bounds, times 33 points of the annealing; per agent their mean over states is removed, as a
    constant added to Phi changes no preference (up to gamma); the result is the root mean square of their
    difference over the larger of their own. So the order of terms and the split between weights and beta do
    not count. Symmetric, at most 2. ``ShapingError`` if either does not compile.
    """
    low, high = _bounds(spec)
    draws = np.random.default_rng(0).random((512, len(spec.features), spec.agents))
    probes = _as_features(low[:, None] + draws * (high - low)[:, None], spec)
    last = max([env_steps, *(config.anneal.end for config in (a, b) if config.anneal)])
    times = np.linspace(env_steps, last, 33)
    effects = []
    for config in (a, b):
        phi = np.zeros((512, spec.agents))
        if not config.is_none:
            with np.errstate(all="ignore"):
                phi += Potential(config, spec).total(probes)
        effects.append(np.multiply.outer(config.beta_at(times), phi - phi.mean(axis=0)))
    scale = max(np.sqrt(np.mean(effect**2)) for effect in effects)
    if not np.isfinite(scale):
        raise ShapingError("Found a potential that is not finite, expected finite potentials; use check on both first.")
    if scale <= NEGLIGIBLE:
        return 0.0
    return float(np.sqrt(np.mean((effects[0] - effects[1]) ** 2)) / scale)


def nearly_equal(a: ShapingConfig, b: ShapingConfig, spec: TaskSpec, env_steps: int = 0) -> bool:
    """Whether ``distance`` is below ``NEARLY_EQUAL`` (0.05): too alike to be worth a branch of its own."""
    return distance(a, b, spec, env_steps) < NEARLY_EQUAL
