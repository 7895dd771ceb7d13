"""Potential expressions: what the grammar computes, and that all else is refused in one sentence."""

import numpy as np
import pytest

from learning_signal.marl.shaping import ShapingError, compile_expression
from learning_signal.marl.tasks.base import Feature

FEATURES = (
    Feature("coverage", "mean distance of landmarks to their nearest agent", "team", 0.0, 2.0, "lower"),
    Feature("drift", "signed offset of the group", "team", -1.0, 1.0, None),
    Feature("reach", "distance of the agent to its landmark", "agent", 0.0, 3.0, "lower"),
    Feature("speed", "speed of the agent", "agent", 0.0, 1.0, "higher"),
    Feature("obs[0]", "first observation component", "agent", -1.0, 1.0, None),
)


def _values(environments=5, agents=3, seed=0):
    random = np.random.default_rng(seed)
    values = {}
    for feature in FEATURES:
        shape = (environments,) if feature.scope == "team" else (environments, agents)
        values[feature.name] = random.uniform(feature.low, feature.high, shape).astype(np.float32)
    return values


V = _values()
COVERAGE, DRIFT, REACH, SPEED = V["coverage"], V["drift"], V["reach"], V["speed"]

CASES = [
    ("coverage", "team", COVERAGE),
    (" reach ", "agent", REACH),
    ("obs[0]", "agent", V["obs[0]"]),
    ("-coverage", "team", -COVERAGE),
    ("coverage - drift / 2", "team", COVERAGE - DRIFT / 2),
    ("2 * (1 - 0.5) * coverage + 3e-1", "team", COVERAGE + np.float32(0.3)),
    ("coverage * reach", "agent", COVERAGE[:, None] * REACH),
    ("reach - mean(reach)", "agent", REACH - REACH.mean(axis=1, keepdims=True)),
    ("mean(reach)", "team", REACH.mean(axis=1)),
    ("min(reach)", "team", REACH.min(axis=1)),
    ("max(reach - speed)", "team", (REACH - SPEED).max(axis=1)),
    ("min(reach, speed)", "agent", np.minimum(REACH, SPEED)),
    ("max(drift, 0.25)", "team", np.maximum(DRIFT, np.float32(0.25))),
    ("min(coverage, reach)", "agent", np.minimum(COVERAGE[:, None], REACH)),
    ("abs(drift)", "team", np.abs(DRIFT)),
    ("exp(-reach)", "agent", np.exp(-REACH)),
    ("clip(reach, -1 + 1.5, 2)", "agent", np.clip(REACH, 0.5, 2)),
    (
        "max(abs(drift), coverage) + mean(exp(-reach))",
        "team",
        np.maximum(np.abs(DRIFT), COVERAGE) + np.exp(-REACH).mean(axis=1),
    ),
]


@pytest.mark.parametrize(("text", "scope", "expected"), CASES, ids=[case[0] for case in CASES])
def test_value_scope_and_dtype(text, scope, expected):
    expression = compile_expression(text, FEATURES)
    result = expression(V)
    assert expression.scope == scope
    assert result.dtype == np.float32  # a float64 here would double the cost of every environment step
    assert result.shape == expected.shape
    np.testing.assert_allclose(result, expected, rtol=1e-6, atol=1e-6)
    assert expression.low - 1e-5 <= result.min() and result.max() <= expression.high + 1e-5


def test_leading_axes_are_kept():
    stacked = {name: np.stack([value, value * 0.5]) for name, value in V.items()}
    for text, _, expected in CASES:
        result = compile_expression(text, FEATURES)(stacked)
        assert result.shape == (2, *expected.shape)
        np.testing.assert_allclose(result[0], expected, rtol=1e-6, atol=1e-6)


def test_names_are_those_used_once_each_in_order():
    assert compile_expression("reach + speed * reach - coverage", FEATURES).names == ("reach", "speed", "coverage")


def test_divisors_that_may_be_zero_are_reported_and_safe_ones_are_not():
    (divisor,) = compile_expression("1 / (coverage - 0.3)", FEATURES).divisors
    assert divisor.text == "coverage - 0.3" and divisor.low == pytest.approx(-0.3)
    for safe in ("1 / (coverage + 0.1)", "1 / max(drift, 0.1)", "1 / (1 + drift * drift)", "1 / exp(drift)"):
        assert compile_expression(safe, FEATURES).divisors == ()


REFUSED = [
    ("", "no arithmetic expression"),
    ("(coverage\n+", "no arithmetic expression"),
    ("coverage +", "no arithmetic expression"),
    ("coverage\x00", "no arithmetic expression"),
    ("(" * 199 + "1", "no arithmetic expression"),
    ("covrage", 'did you mean "coverage"'),
    ("zzz", "one of the declared features coverage, drift, reach, speed, obs[0]"),
    ("3", "found no feature"),
    ("min(2, 3) * 4", "found no feature"),
    ("True * coverage", "the constant True"),
    ("None", "the constant None"),
    ("'coverage'", "the constant 'coverage'"),
    ("2j * coverage", "the constant 2j"),
    ("... + coverage", "the constant ..."),
    ("9" * 150 + " * coverage", "at most 1e+06"),
    ("1e999 * coverage", "at most 1e+06"),
    ("1e5 * 1e5 * coverage", "a constant part worth 1e+10"),
    ("exp(800) * coverage", "a constant part worth inf"),
    ("coverage / 0", "a division by 0"),
    ("coverage / (1 - 1)", "a division by 0"),
    ("coverage ** 2", "syntax outside the grammar (coverage ** 2)"),
    ("coverage // 2", "syntax outside the grammar"),
    ("coverage % 2", "syntax outside the grammar"),
    ("coverage @ drift", "syntax outside the grammar"),
    ("+coverage", "syntax outside the grammar"),
    ("~coverage", "syntax outside the grammar"),
    ("not coverage", "syntax outside the grammar"),
    ("0 < coverage < 1", "a comparison"),
    ("coverage and drift", "and/or"),
    ("(x := coverage)", "an assignment"),
    ("f'{coverage}'", "an f-string"),
    ("coverage if drift else reach", "a conditional"),
    ("lambda: coverage", "a lambda"),
    ("[coverage]", "a list"),
    ("[x for x in coverage]", "syntax outside the grammar"),
    ("coverage, drift", "a tuple"),
    ("coverage[0]", "an index"),
    ("coverage.T", "an attribute"),
    ("coverage.__class__.__mro__", "an attribute"),
    ("await coverage", "syntax outside the grammar"),
    ("__import__('os')", "a call of __import__"),
    ("coverage.sum()", "a call of coverage.sum"),
    ("sqrt(coverage)", "a call of sqrt"),
    ("(abs)(coverage)(drift)", "a call of"),
    ("abs", 'the name "abs"'),
    ("clip(coverage, low=0, high=1)", "keyword or starred"),
    ("min(*reach)", "keyword or starred"),
    ("min()", "0 arguments of min"),
    ("max(coverage, drift, reach)", "3 arguments of max"),
    ("abs(coverage, drift)", "2 arguments of abs"),
    ("clip(coverage, 0)", "2 arguments of clip"),
    ("clip(coverage, 1, 0)", "other bounds of clip"),
    ("clip(coverage, drift, 1)", "other bounds of clip"),
    ("mean(coverage)", "mean over the agents of a team value"),
    ("max(drift)", "max over the agents of a team value"),
    ("mean(mean(reach))", "mean over the agents of a team value"),
    ("min(3) * coverage", "min over the agents of a number value"),
    ("coverage" + " + drift" * 24 + "s", "201 characters"),
    ("-" * 60 + "coverage", "61 nodes"),
    ("drift" + "*drift" * 20, "41 nodes"),
]


@pytest.mark.parametrize(("text", "part"), REFUSED, ids=[repr(case[0][:40]) for case in REFUSED])
def test_everything_else_is_refused_in_one_sentence(text, part):
    with pytest.raises(ShapingError) as caught:
        compile_expression(text, FEATURES)
    message = str(caught.value)
    assert part in message
    assert "expected" in message and message.endswith(".") and "\n" not in message
    assert len(message) < 700


def test_the_largest_allowed_expression_passes():
    assert compile_expression("-" + "drift" + "*drift" * 19, FEATURES).scope == "team"  # 40 nodes


def test_a_feature_may_carry_the_name_of_a_call():
    feature = Feature("max", "a feature called max", "team", 0.0, 1.0, None)
    values = {"max": np.array([0.25, 0.75], np.float32)}
    np.testing.assert_array_equal(compile_expression("max(max, 0.5)", (feature,))(values), [0.5, 0.75])
