"""Shaping configs, their check on probe states, distance, and that shaping keeps the optimal policies."""

import dataclasses
import math

import numpy as np
import pytest
from pydantic import ValidationError

from learning_signal.ledger.wording import shaping_text
from learning_signal.marl.shaping import (
    Anneal,
    Potential,
    ShapingConfig,
    ShapingError,
    Term,
    check,
    distance,
    nearly_equal,
    probe_states,
    shaping_rewards,
)
from learning_signal.marl.tasks.base import Feature, TaskSpec

SPEC = TaskSpec(
    name="fake",
    description="a task made for these tests",
    sparse_reward="1 when everything is covered",
    agents=3,
    observation_size=4,
    state_size=6,
    actions=5,
    action_names=("stay", "left", "right", "down", "up"),
    idle_action=0,
    horizon=25,
    max_return=25.0,
    features=(
        Feature("gap", "mean distance of targets to their nearest agent", "team", 0.0, 2.0, "lower"),
        Feature("tilt", "signed offset of the group", "team", -1.0, 1.0, None),
        Feature("reach", "distance of the agent to its target", "agent", 0.0, 3.0, "lower"),
        Feature("speed", "speed of the agent", "agent", 0.0, 1.0, "higher"),
    ),
    progress=None,
)


def _config(*terms, beta=1.0, anneal=None):
    built = tuple(Term(potential=potential, weight=weight, scope=scope) for potential, weight, scope in terms)
    return ShapingConfig(terms=built, beta=beta, anneal=anneal)


def _random_features(shape, seed):
    random = np.random.default_rng(seed)
    values = {}
    for feature in SPEC.features:
        size = shape if feature.scope == "team" else (*shape, SPEC.agents)
        values[feature.name] = random.uniform(feature.low, feature.high, size).astype(np.float32)
    return values


GAP = _config(("gap", -1.0, "team"))
MIXED = _config(("gap", -1.0, "team"), ("exp(-reach)", 0.5, "agent"), ("tilt", 2.0, "agent"), beta=0.7)
ANNEALED = _config(("mean(reach) + abs(tilt)", -1.5, "team"), beta=2.0, anneal=Anneal(start=20, end=120))


# --- the config -----------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [ShapingConfig.none(), GAP, MIXED, ANNEALED])
def test_toml_and_json_round_trips(config):
    assert ShapingConfig.from_toml(config.to_toml()) == config
    assert ShapingConfig.parse(config.canonical()) == config
    assert ShapingConfig.parse(config.canonical()).hash() == config.hash()


def test_toml_keeps_quotes_and_backslashes_and_is_commented():
    config = _config(('a"b\\c', 1e-05, "team"))
    assert ShapingConfig.from_toml(config.to_toml()) == config
    assert config.to_toml().startswith("# Reward shaping")


def test_hash_tells_configs_apart_and_not_forms_of_none():
    assert len({config.hash() for config in (ShapingConfig.none(), GAP, MIXED, ANNEALED)}) == 4
    assert len(GAP.hash()) == 16
    silent = _config(("gap", -1.0, "team"), beta=0.0)
    assert silent.is_none and silent.hash() == ShapingConfig.none().hash()
    assert not GAP.is_none
    assert _config(("gap", -1, "team")).hash() == GAP.hash()  # -1 and -1.0 are one number


def test_a_shaping_reads_on_one_line():
    assert shaping_text(GAP.canonical()) == "beta 1.0: -1.0*gap (team)"
    assert shaping_text(ShapingConfig.none().canonical()) == "no shaping"
    text = shaping_text(ANNEALED.canonical())
    assert text == "beta 2.0 falling to 0 over env steps 20 to 120: -1.5*(mean(reach) + abs(tilt)) (team)"


def test_beta_falls_linearly_between_start_and_end():
    np.testing.assert_allclose(ANNEALED.beta_at(np.array([0, 20, 70, 120, 500])), [2, 2, 1, 0, 0])
    assert ANNEALED.beta_at(45) == pytest.approx(1.5) and isinstance(ANNEALED.beta_at(45), float)
    assert GAP.beta_at(10**9) == 1.0
    beta, beta_next = ANNEALED.schedule(first=10, steps=6, environments=8)
    np.testing.assert_array_equal(beta[1:], beta_next[:-1])
    assert beta[0] == ANNEALED.beta_at(10) and beta_next[-1] == ANNEALED.beta_at(58)


_TERM = {"potential": "gap", "weight": -1.0, "scope": "team"}
_OTHER = {**_TERM, "potential": "tilt"}


@pytest.mark.parametrize(
    ("data", "part"),
    [
        ({"terms": [_TERM]}, 'without "beta"'),
        ({"terms": [_TERM], "beta": 10.5}, "10.5"),
        ({"terms": [_TERM], "beta": -0.1}, "greater than or equal to 0"),
        ({"terms": [_TERM], "beta": math.nan}, "finite"),
        ({"terms": [_TERM], "beta": "1"}, "valid number"),
        ({"terms": [_TERM], "beta": True}, "valid number"),
        ({"terms": [_TERM], "beta": 1.0, "betta": 1}, 'unknown key "betta" in a shaping, expected only terms, beta'),
        ({"terms": [{**_TERM, "wait": 1}], "beta": 1.0}, "expected only potential, weight, scope"),
        ({"terms": [{**_TERM, "weight": 0.0}], "beta": 1.0}, "weight 0"),
        ({"terms": [{**_TERM, "weight": 11}], "beta": 1.0}, "less than or equal to 10"),
        ({"terms": [{**_TERM, "weight": math.inf}], "beta": 1.0}, "terms.0.weight"),
        ({"terms": [{**_TERM, "scope": "group"}], "beta": 1.0}, "'team' or 'agent'"),
        ({"terms": [{**_TERM, "potential": "x" * 201}], "beta": 1.0}, "200"),
        ({"terms": [{**_TERM, "potential": "  "}], "beta": 1.0}, "printable"),
        ({"terms": [{**_TERM, "potential": "gap\n+1"}], "beta": 1.0}, "printable"),
        ({"terms": [_TERM, _OTHER, {**_TERM, "potential": " gap "}], "beta": 1.0}, "twice"),
        ({"terms": [{**_TERM, "potential": f"gap + {i}"} for i in range(9)], "beta": 1.0}, "8 items"),
        ({"terms": [_TERM], "beta": 1.0, "anneal": {"start": 5, "end": 5}}, "anneal end 5"),
        ({"terms": [_TERM], "beta": 1.0, "anneal": {"start": -1, "end": 5}}, "anneal.start"),
        ({"terms": [_TERM], "beta": 1.0, "anneal": {"start": 0.5, "end": 5}}, "anneal.start"),
        ({"terms": [_TERM], "beta": 1.0, "anneal": {"start": 0, "stop": 5}}, "anneal.end"),
        ([], "top level"),
    ],
)
def test_bad_configs_are_refused_in_one_sentence(data, part):
    with pytest.raises(ShapingError) as caught:
        ShapingConfig.parse(data)
    message = str(caught.value)
    assert part in message and message.endswith(".") and "\n" not in message and "expected" in message


def test_bad_toml_is_refused_and_configs_are_frozen():
    with pytest.raises(ShapingError, match="not valid TOML"):
        ShapingConfig.from_toml("beta = = 1")
    with pytest.raises(ValidationError):
        GAP.beta = 2.0
    with pytest.raises(ValidationError):
        ShapingConfig(terms=(), beta=99.0)


# --- the potential and its check ------------------------------------------------------------------


def test_potential_sums_weighted_terms_and_broadcasts_team_values():
    features = _random_features((7,), seed=1)
    phi = Potential(MIXED, SPEC)(features)
    expected = -features["gap"][:, None] + 0.5 * np.exp(-features["reach"]) + 2.0 * features["tilt"][:, None]
    assert phi.shape == (7, 3) and phi.dtype == np.float32
    np.testing.assert_allclose(phi, expected, rtol=1e-5, atol=1e-6)  # without beta
    out = np.empty((7, 3), np.float32)
    assert Potential(GAP, SPEC)(features, out=out) is out
    np.testing.assert_array_equal(out, np.repeat(-features["gap"][:, None], 3, axis=1))


def test_potential_of_no_shaping_is_zero_and_leading_axes_are_kept():
    features = _random_features((4, 7), seed=2)
    np.testing.assert_array_equal(Potential(ShapingConfig.none(), SPEC)(features), np.zeros((4, 7, 3)))
    single = {name: value[2] for name, value in features.items()}
    np.testing.assert_array_equal(Potential(MIXED, SPEC)(features)[2], Potential(MIXED, SPEC)(single))


def test_check_returns_the_potential_of_good_configs():
    for config in (ShapingConfig.none(), GAP, MIXED, ANNEALED):
        assert isinstance(check(config, SPEC), Potential)


@pytest.mark.parametrize(
    ("potential", "weight", "scope", "parts"),
    [
        ("gapp", 1.0, "team", ['did you mean "gap"']),
        ("reach", 1.0, "team", ["mean(reach)", "scope team"]),
        ("1 / tilt", 1.0, "team", ["1 / tilt", "inf", "tilt = 0.0"]),
        ("tilt / tilt", 1.0, "team", ["nan", "tilt = 0.0"]),
        ("1 / (reach - reach)", 1.0, "agent", ["inf", "reach = ["]),
        ("exp(50 * reach)", 1.0, "agent", ["inf", "reach = [3.0, 3.0, 3.0]"]),
        ("exp(9.5 * tilt)", 1.0, "team", ["13359.7", "tilt = 1.0", "10000"]),
        ("1200 * gap", 10.0, "team", ["weight 10"]),
        # No probe state hits this pole: only the range of the divisor shows it.
        ("1 / (gap - 0.34567)", 0.001, "team", ["gap - 0.34567", "-0.34567 to 1.65433"]),
        ("gap - gap", 1.0, "team", ["in every state"]),
        ("clip(gap, 3, 4)", 1.0, "team", ["worth 3 in every state"]),
    ],
)
def test_check_refuses_and_names_the_term_and_the_values(potential, weight, scope, parts):
    with pytest.raises(ShapingError) as caught:
        check(_config(("gap", -1.0, "team"), (potential, weight, scope)), SPEC)
    message = str(caught.value)
    for part in (*parts, potential):
        assert part in message, message
    assert message.endswith(".") and "\n" not in message and "expected" in message


def test_check_refuses_a_sum_beyond_the_bound():
    with pytest.raises(ShapingError, match="the sum of all terms"):
        check(_config(("900 * tilt", 10.0, "team"), ("900 * tilt", 10.0, "agent")), SPEC)


def test_the_neighbours_of_refused_potentials_pass():
    for potential in ("1 / max(tilt, 0.1)", "1 / (gap + 0.01)", "exp(9 * tilt)", "1 / (1 + tilt * tilt)"):
        check(_config((potential, 1.0, "team")), SPEC)


def test_probe_states_stay_inside_the_bounds_and_reach_them():
    probes = probe_states(SPEC)
    for feature in SPEC.features:
        values = probes[feature.name]
        assert values.shape[1:] == (() if feature.scope == "team" else (3,))
        assert values.min() == np.float32(feature.low) and values.max() == np.float32(feature.high)
    assert (probes["tilt"] == 0).any()


def test_features_without_finite_bounds_are_probed_too():
    loose = dataclasses.replace(
        SPEC, features=(Feature("free", "an observation component", "agent", -math.inf, math.inf, None),)
    )
    check(_config(("clip(free, -1, 1)", 1.0, "agent")), loose)
    assert np.isfinite(probe_states(loose)["free"]).all()
    with pytest.raises(ShapingError, match="free = "):
        check(_config(("exp(free)", 1.0, "agent")), loose)


# --- distance -------------------------------------------------------------------------------------


def test_distance_ignores_what_shaping_ignores():
    base = _config(("gap", -1.0, "team"), ("reach", 0.5, "agent"))
    same = [
        base,
        _config(("reach", 0.5, "agent"), ("gap", -1.0, "team")),
        _config(("gap", -2.0, "team"), ("reach", 1.0, "agent"), beta=0.5),
        _config(("5 - gap", 1.0, "team"), ("reach", 0.5, "agent")),
        _config(("0.5 * reach - gap", 1.0, "agent")),
    ]
    for other in same:
        assert distance(base, other, SPEC) < 1e-6 and nearly_equal(base, other, SPEC)
    assert nearly_equal(GAP, _config(("gap", -1.03, "team")), SPEC)


def test_distance_sees_what_matters():
    none = ShapingConfig.none()
    assert distance(GAP, none, SPEC) == pytest.approx(1.0)
    assert distance(none, none, SPEC) == 0.0
    opposite = _config(("gap", 1.0, "team"))
    assert distance(GAP, opposite, SPEC) == pytest.approx(2.0)
    assert distance(GAP, MIXED, SPEC) == distance(MIXED, GAP, SPEC)
    for other in (none, opposite, MIXED, ANNEALED, _config(("gap", -1.1, "team")), _config(("tilt", -1.0, "team"))):
        assert not nearly_equal(GAP, other, SPEC)
    assert not nearly_equal(_config(("reach", -1.0, "agent")), _config(("mean(reach)", -1.0, "agent")), SPEC)


def test_distance_counts_annealing_from_now_on():
    fading = _config(("gap", -1.0, "team"), anneal=Anneal(start=0, end=1000))
    assert not nearly_equal(GAP, fading, SPEC)
    assert nearly_equal(fading, _config(("gap", -1.0, "team"), anneal=Anneal(start=0, end=1020)), SPEC)
    assert nearly_equal(fading, ShapingConfig.none(), SPEC, env_steps=1000)
    assert not nearly_equal(fading, ShapingConfig.none(), SPEC, env_steps=0)


# --- shaping rewards ------------------------------------------------------------------------------


def _rollout(config, seed, gamma=0.97, steps=40, environments=6, zero_truncated=False, keep_terminal=False):
    """A rollout with resets inside: (largest error of the property, count of each kind of end)."""
    random = np.random.default_rng(seed)
    terminated = random.random((steps, environments)) < 0.06
    truncated = ~terminated & (random.random((steps, environments)) < 0.06)
    ended = terminated | truncated
    potential = Potential(config, SPEC)
    reached = _random_features((steps, environments), seed + 1)  # true successors of every step
    fresh = _random_features((steps + 1, environments), seed + 2)  # what a reset would give
    phi_next = potential(reached)
    phi = np.empty_like(phi_next)
    phi[0] = potential({name: value[0] for name, value in fresh.items()})
    after_reset = potential({name: value[1:] for name, value in fresh.items()})
    phi[1:] = np.where(ended[:-1, :, None], after_reset[:-1], phi_next[:-1])
    beta, beta_next = config.schedule(first=3, steps=steps, environments=environments)

    zeroed = np.zeros_like(terminated) if keep_terminal else terminated
    zeroed = zeroed | truncated if zero_truncated else zeroed
    shaping = shaping_rewards(phi, phi_next, beta, beta_next, zeroed, gamma).astype(np.float64)
    assert shaping.shape == phi.shape

    worst, ends = 0.0, [0, 0]
    for environment in range(environments):
        start = 0
        for step in range(steps):
            if not ended[step, environment] and step < steps - 1:
                continue
            length = step + 1 - start
            discounts = gamma ** np.arange(length)
            difference = discounts @ shaping[start : step + 1, environment]  # shaped minus unshaped return
            expected = -beta[start] * phi[start, environment].astype(np.float64)
            if not terminated[step, environment]:  # cut by the time limit, or by the end of the rollout
                expected = expected + gamma**length * beta_next[step] * phi_next[step, environment]
            worst = max(worst, float(np.abs(difference - expected).max()))
            ends[0] += bool(terminated[step, environment])
            ends[1] += bool(truncated[step, environment])
            start = step + 1
    return worst, ends


_POOL = ["gap", "tilt", "mean(reach)", "reach", "exp(-reach)", "abs(tilt) * speed", "max(speed)", "min(reach, gap)"]


def _random_config(seed):
    random = np.random.default_rng(1000 + seed)
    terms = []
    for text in random.choice(_POOL, size=random.integers(1, 5), replace=False):
        scope = "agent" if "reach" in text and "mean" not in text or "* speed" in text else "team"
        terms.append((str(text), float(random.uniform(0.2, 3.0) * random.choice([-1, 1])), scope))
    start = int(random.integers(0, 60))
    anneal = Anneal(start=start, end=start + int(random.integers(300, 600))) if seed % 2 else None
    return _config(*terms, beta=float(random.uniform(0.1, 2.0)), anneal=anneal)


def test_property_shaped_return_differs_by_the_potential_of_the_start():
    ends = np.zeros(2, int)
    for seed in range(40):
        worst, counted = _rollout(_random_config(seed), seed)
        assert worst < 1e-4
        ends += counted
    assert (ends > 100).all()  # both kinds of end were exercised


@pytest.mark.parametrize("fault", ["zero_truncated", "keep_terminal"])
def test_property_breaks_if_the_ends_are_confused(fault):
    for seed in range(10):
        assert _rollout(_random_config(seed), seed, **{fault: True})[0] > 1e-2


def test_property_breaks_if_beta_next_is_not_the_next_beta():
    beta, _ = ANNEALED.schedule(first=30, steps=10, environments=6)
    phi = Potential(ANNEALED, SPEC)(_random_features((11, 6), seed=3))
    never = np.zeros((10, 6), bool)
    telescoped = (0.97 ** np.arange(10))[:, None, None]
    wrong = (telescoped * shaping_rewards(phi[:-1], phi[1:], beta, beta, never, 0.97)).sum(axis=0)
    expected = 0.97**10 * ANNEALED.beta_at(30 + 60) * phi[-1] - beta[0] * phi[0]
    assert np.abs(wrong - expected).max() > 1e-2


def test_terminal_potentials_never_count_and_bad_rewards_are_refused():
    phi = np.ones((2, 1, 3), np.float32)
    phi_next = phi.copy()
    phi_next[1] = np.nan
    ones = np.ones(2)
    terminated = np.array([[False], [True]])
    shaping = shaping_rewards(phi, phi_next, ones, ones, terminated, 0.5)
    np.testing.assert_array_equal(shaping[:, 0, 0], [-0.5, -1.0])
    assert shaping.dtype == np.float32
    with pytest.raises(ShapingError, match="nan at step 1 of environment 0"):
        shaping_rewards(phi, phi_next, ones, ones, np.zeros((2, 1), bool), 0.5)
    with pytest.raises(ShapingError, match="pass one rollout"):
        shaping_rewards(phi, phi_next[:1], ones, ones, terminated, 0.5)


# --- policy invariance on a tabular task ----------------------------------------------------------

GAMMA = 0.9
# A corridor 0 .. 5: reaching its right end pays 1, its left end 0.2; both ends are terminal.
STATES = 6


def _transition(state, action):
    following = state + (1, -1, 0)[action]  # right, left, stay
    reward = 1.0 if following == STATES - 1 else 0.2 if following == 0 else 0.0
    return following, reward, following in (0, STATES - 1)


def _optimal_policy(bonus):
    """Greedy actions ``[4]`` of the inner states, by value iteration on reward + bonus(s, s', terminal)."""
    values = np.zeros(STATES)
    for _ in range(400):
        quality = np.full((STATES, 3), -np.inf)
        for state in range(1, STATES - 1):
            for action in range(3):
                following, reward, terminal = _transition(state, action)
                onward = 0.0 if terminal else GAMMA * values[following]
                quality[state, action] = reward + bonus(state, following, terminal) + onward
        values[1:-1] = quality[1:-1].max(axis=1)
    return quality[1:-1].argmax(axis=1).tolist()


def _potential_bonus(phi, zero_terminal=True):
    def bonus(state, following, terminal):
        one = np.ones(1)
        done = np.array([[terminal and zero_terminal]])
        pair = (np.full((1, 1, 1), phi[state]), np.full((1, 1, 1), phi[following]))
        return float(shaping_rewards(*pair, one, one, done, GAMMA)[0, 0, 0])

    return bonus


def test_potential_based_shaping_keeps_the_optimal_policy_and_a_plain_bonus_does_not():
    optimal = _optimal_policy(lambda *_: 0.0)
    assert optimal == [0, 0, 0, 0]  # right everywhere: gamma^3 = 0.73 beats 0.2
    for seed in range(5):
        phi = np.random.default_rng(seed).normal(0.0, 3.0, STATES)
        assert _optimal_policy(_potential_bonus(phi)) == optimal
    misleading = np.array([9.0, 5.0, 4.0, 3.0, 2.0, -9.0])
    assert _optimal_policy(_potential_bonus(misleading)) == optimal
    # Negative controls: the same numbers as a plain bonus for being there, or with Phi kept at terminals.
    assert _optimal_policy(lambda state, following, terminal: misleading[following]) != optimal
    assert _optimal_policy(_potential_bonus(misleading, zero_terminal=False)) != optimal
